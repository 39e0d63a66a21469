"""The files for TF Serving."""

import numpy as np
import tensorflow as tf

from tfmetainit.export import serving


def test_warmup_records_are_requests_that_run(saved, tmp_path, observed):
    from tensorflow_serving.apis import prediction_log_pb2

    _, folder = saved
    inputs, values = observed(20)
    request = {
        "inputs": inputs[None],
        "values": values[None],
        "n_points": np.int32([20]),
        "steps": np.int32([2]),
        "coords": inputs[None],
    }
    serving.write_warmup(folder, "text", {"fit_predict": request})
    path = folder / "assets.extra" / serving.WARMUP_FILE
    (record,) = tf.data.TFRecordDataset(str(path))
    log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
    sent = log.predict_log.request
    assert sent.model_spec.name == "text"
    signature = tf.saved_model.load(str(folder)).signatures[
        sent.model_spec.signature_name
    ]
    result = signature(
        **{k: tf.constant(tf.make_ndarray(v)) for k, v in sent.inputs.items()}
    )
    assert result["steps_taken"].numpy() == [2]


def test_serving_configs_are_protos(tmp_path):
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    serving.write_configs(tmp_path / "serving", "text")
    text = (tmp_path / "serving" / "models.config").read_text()
    config = text_format.Parse(
        text, model_server_config_pb2.ModelServerConfig()
    )
    (model,) = config.model_config_list.config
    assert (model.name, model.base_path) == ("text", "/models/text")
    batching = (tmp_path / "serving" / "batching_parameters.txt").read_text()
    assert "pad_variable_length_inputs: true" in batching
