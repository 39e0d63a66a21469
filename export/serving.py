"""Files for TF Serving beside a SavedModel: configs and warm-up records."""

import pathlib

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

_MODELS_CONFIG = """\
# tensorflow_model_server --model_config_file=<this file>; {base_path} is
# where the folder saved_model/ of this export is mounted.
model_config_list {{
  config {{
    name: "{name}"
    base_path: "{base_path}"
    model_platform: "tensorflow"
  }}
}}
"""
_BATCHING = """\
# For a GPU: --enable_batching --batching_parameters_file=<this file>. On CPUs,
# requests one by one are faster. Signals with fewer rows are padded to the
# longest of a batch; n_points is the number that counts.
max_batch_size { value: 16 }
batch_timeout_micros { value: 2000 }
max_enqueued_batches { value: 64 }
num_batch_threads { value: 2 }
pad_variable_length_inputs: true
"""
# The name under which TensorFlow Serving looks for a model's warm-up requests.
WARMUP_FILE = "tf_serving_warmup_requests"


def write_configs(folder: pathlib.Path, name: str) -> None:
    """Writes models.config and batching_parameters.txt into `folder`."""
    folder.mkdir()
    text = _MODELS_CONFIG.format(name=name, base_path=f"/models/{name}")
    (folder / "models.config").write_text(text)
    (folder / "batching_parameters.txt").write_text(_BATCHING)


def write_warmup(
    saved_model: pathlib.Path, name: str, requests: dict[str, dict]
) -> None:
    """Writes warm-up requests, which a server runs before it is ready.

    Args:
        saved_model: the folder of the SavedModel.
        name: the served model's name.
        requests: maps names of signatures to their inputs: names to arrays.
    """
    folder = saved_model / "assets.extra"
    folder.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(folder / WARMUP_FILE)) as writer:
        for signature, inputs in requests.items():
            request = predict_pb2.PredictRequest()
            request.model_spec.name = name
            request.model_spec.signature_name = signature
            for key, value in inputs.items():
                request.inputs[key].CopyFrom(
                    tf.make_tensor_proto(np.asarray(value))
                )
            log = prediction_log_pb2.PredictionLog(
                predict_log=prediction_log_pb2.PredictLog(request=request)
            )
            writer.write(log.SerializeToString())
