"""Artifacts against the Python code that they were made from."""

import itertools
import math
import os
import pathlib
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

from tfmetainit.export import lite, saved_model, serving
from tfmetainit.export.adapter import NOT_TAKEN, Adapter
from tfmetainit.fields import layers, networks
from tfmetainit.forward_models import parallel_beam
from tfmetainit.io.errors import InputError, UserError
from tfmetainit.litert.artifact import LiteArtifact
from tfmetainit.meta import functional, maml
from tfmetainit.meta.step_sizes import GRANULARITIES
from tfmetainit.meta.tasks import FieldLoss, Observations

_MAX_STEPS = 5
_CHUNK = 16


def _learner(field="siren", step_sizes="tensor", lr=1e-2, width=16):
    make = {"siren": networks.SIREN, "fourier_mlp": networks.FourierMLP}[field]
    options = {"num_frequencies": 8} if field == "fourier_mlp" else {}
    learner = maml.MAML(
        make(2, 3, hidden_layers=2, hidden_units=width, seed=0, **options),
        inner_lr=lr,
        step_sizes=step_sizes,
    )
    # Step sizes that differ, as learned ones do.
    for index, logarithm in enumerate(learner.step_sizes.logarithms):
        logarithm.assign(logarithm + 1e-3 * index)
    rng = np.random.default_rng(0)
    for matrix in itertools.chain(*learner.step_sizes.sides):
        matrix.assign(0.1 * rng.normal(size=matrix.shape))
    return learner


def _adapter(learner, **options):
    defaults = {"max_steps": _MAX_STEPS, "chunk": _CHUNK}
    return Adapter(
        learner,
        input_shape=(2,),
        value_shape=(3,),
        coords_shape=(2,),
        **{**defaults, **options},
    )


def _observed(count, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random((count, 2), np.float32), rng.random(
        (count, 3), np.float32
    )


def _call(adapter, inputs, values, n_points, steps, theta=None):
    result = adapter.adapt(
        adapter.init() if theta is None else theta,
        tf.constant(inputs),
        tf.constant(values),
        tf.constant(n_points),
        tf.constant(steps),
    )
    return {name: value.numpy() for name, value in result.items()}


# ---- The adapter ------------------------------------------------------------


@pytest.mark.parametrize("field", ["siren", "fourier_mlp"])
@pytest.mark.parametrize("step_sizes", GRANULARITIES)
def test_adapter_takes_the_steps_of_adapt(field, step_sizes):
    learner = _learner(field, step_sizes)
    adapter = _adapter(learner)
    inputs, values = _observed(50)  # no multiple of the chunk
    result = _call(adapter, inputs, values, 50, 3)
    params, losses = learner.adapt(
        Observations(tf.constant(inputs)[None], tf.constant(values)[None]), 3
    )
    np.testing.assert_allclose(
        result["theta"], functional.flatten(params), atol=1e-6
    )
    np.testing.assert_allclose(result["losses"][:3], losses, rtol=1e-5)
    assert (result["losses"][3:] == NOT_TAKEN).all()
    assert result["steps_taken"] == 3
    np.testing.assert_allclose(
        adapter.predict(tf.constant(result["theta"]), inputs),
        learner.query_loss.predict(params, inputs),
        atol=1e-5,
    )


@pytest.mark.parametrize("n_points", [1, 15, 16, 17, 40])
def test_rows_beyond_n_points_do_not_count(n_points):
    adapter = _adapter(_learner())
    inputs, values = _observed(50)
    alone = _call(adapter, inputs[:n_points], values[:n_points], n_points, 2)
    inputs[n_points:], values[n_points:] = np.nan, np.inf
    padded = _call(adapter, inputs, values, n_points, 2)
    np.testing.assert_allclose(padded["theta"], alone["theta"], atol=1e-7)
    np.testing.assert_allclose(padded["losses"], alone["losses"], rtol=1e-5)


@pytest.mark.parametrize(
    ("n_points", "steps", "taken"),
    [
        *((50, 2, 2), (50, _MAX_STEPS + 9, _MAX_STEPS), (50, 0, 0)),
        *((50, -1, 0), (0, 2, 0), (-3, 2, 0), (51, 2, 0)),
    ],
)
def test_numbers_out_of_range_have_a_defined_result(n_points, steps, taken):
    adapter = _adapter(_learner())
    result = _call(adapter, *_observed(50), n_points, steps)
    assert result["steps_taken"] == taken
    assert (result["losses"] == NOT_TAKEN).sum() == _MAX_STEPS - taken
    changed = (result["theta"] != adapter.init().numpy()).any()
    assert changed == (taken > 0)


@pytest.mark.parametrize("which", ["inputs", "values"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_leave_theta_as_it_was(which, value):
    adapter = _adapter(_learner())
    inputs, values = _observed(50)
    {"inputs": inputs, "values": values}[which][31, 1] = value
    result = _call(adapter, inputs, values, 50, 3)
    assert result["steps_taken"] == 0
    np.testing.assert_array_equal(result["theta"], adapter.init())
    assert (result["losses"] == NOT_TAKEN).all()


def test_a_diverging_fit_returns_the_last_finite_weights():
    # Steps of 1e20 overflow within a few.
    adapter = _adapter(_learner(lr=1e20))
    result = _call(adapter, *_observed(50), 50, _MAX_STEPS)
    assert 0 < result["steps_taken"] < _MAX_STEPS
    assert np.isfinite(result["theta"]).all()
    assert (result["losses"][result["steps_taken"] :] == NOT_TAKEN).all()


def test_float16_rounds_the_stored_weights_only():
    learner = _learner()
    half = _adapter(learner, precision="float16")
    exact = functional.flatten(functional.get_params(learner.field)).numpy()
    np.testing.assert_array_equal(
        half.init(), exact.astype(np.float16).astype(np.float32)
    )
    result = _call(half, *_observed(50), 50, 2)
    assert result["theta"].dtype == np.float32
    with pytest.raises(ValueError, match="`precision` must be one of"):
        _adapter(learner, precision="int8")


def test_relu_has_the_gradient_of_keras():
    x = tf.constant([-2.0, -0.5, 0.0, 0.5, 3.0])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        ours, theirs = layers.relu(x) ** 2, keras.activations.relu(x) ** 2
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(
        tape.gradient(ours, x), tape.gradient(theirs, x)
    )


def test_relu_has_second_derivatives():
    """d/dx of x -> (relu(x)^2)', which is 2 where x > 0 and 0 elsewhere."""
    x = tf.constant([-1.0, 2.0])
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            y = layers.relu(x) ** 2
        gradient = inner.gradient(y, x)
    np.testing.assert_allclose(outer.gradient(gradient, x), [0.0, 2.0])


def test_a_saved_network_of_relus_loads(tmp_path):
    field = networks.FourierMLP(2, 1, hidden_layers=1, hidden_units=4, seed=0)
    field.save(tmp_path / "field.keras")
    loaded = keras.saving.load_model(tmp_path / "field.keras")
    coords = np.ones((3, 2), np.float32)
    np.testing.assert_array_equal(loaded(coords), field(coords))


# ---- LiteRT -----------------------------------------------------------------


def _convert(learner, num_points=50, **options):
    return lite.convert(
        _adapter(learner, **options),
        num_points=num_points,
        num_coords=num_points,
        metadata={"inner_steps": 2, "where": "ü"},
    )


@pytest.fixture(scope="module")
def small_tflite(tmp_path_factory):
    path = tmp_path_factory.mktemp("lite") / "model.tflite"
    path.write_bytes(_convert(_learner()))
    return path


@pytest.mark.parametrize("field", ["siren", "fourier_mlp"])
@pytest.mark.parametrize("step_sizes", ["tensor", "weight", "curvature"])
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_litert_agrees_with_python(field, step_sizes, precision, tmp_path):
    # Wide enough that its constants are stored in half.
    learner = _learner(field, step_sizes, width=64)
    adapter = _adapter(learner, precision=precision)
    content = _convert(learner, precision=precision)
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    halves = [
        math.prod(tensor.shape)
        for subgraph in model.subgraphs
        for tensor in subgraph.tensors
        if tensor.type == schema.TensorType.FLOAT16
    ]
    if precision == "float16":
        assert adapter.num_params in halves
        assert (64 * 64 in halves) == (step_sizes != "tensor")
    else:
        assert not halves
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    artifact = LiteArtifact(path)
    inputs, values = _observed(41)
    np.testing.assert_array_equal(artifact.init(), adapter.init())
    theta, losses = artifact.adapt(artifact.init(), inputs, values, 2)
    expected = _call(adapter, inputs, values, 41, 2)
    np.testing.assert_allclose(theta, expected["theta"], atol=1e-6)
    np.testing.assert_allclose(losses, expected["losses"][:2], rtol=1e-5)
    # More coords than one call takes.
    coords, _ = _observed(120, seed=1)
    np.testing.assert_allclose(
        artifact.predict(theta, coords),
        adapter.predict(tf.constant(theta), coords),
        atol=1e-6,
    )
    assert artifact.metadata["where"] == "ü"
    assert artifact.max_steps == _MAX_STEPS
    # The interface of browsers and C, which takes static shapes only.
    padding = ((0, 9), (0, 0))
    compiled = lite.run_compiled(
        content,
        "adapt",
        {
            "theta": adapter.init().numpy(),
            "inputs": np.pad(inputs, padding),
            "values": np.pad(values, padding),
            "n_points": np.int32(41),
            "steps": np.int32(2),
        },
    )
    np.testing.assert_allclose(compiled["theta"], theta, atol=1e-6)
    assert compiled["steps_taken"] == 2


def test_more_steps_than_one_call_takes(small_tflite):
    artifact = LiteArtifact(small_tflite)
    inputs, values = _observed(50)
    at_once, losses = artifact.adapt(artifact.init(), inputs, values, 12)
    assert len(losses) == 12
    theta = artifact.init()
    for _ in range(12):
        theta, _ = artifact.adapt(theta, inputs, values, 1)
    np.testing.assert_allclose(at_once, theta, atol=1e-7)
    with pytest.raises(InputError, match="adapts to 1 to 50 observations"):
        artifact.adapt(theta, *_observed(51), 1)
    values[0, 0] = np.nan
    unchanged, losses = artifact.adapt(theta, inputs, values, 3)
    assert losses == []
    np.testing.assert_array_equal(unchanged, theta)
    assert artifact.predict(theta, np.zeros((0, 2))).shape == (0, 3)
    with pytest.raises(InputError, match=r"must have the shape \(2,\)"):
        artifact.predict(theta, np.zeros((5, 3)))


@pytest.mark.parametrize(
    ("precision", "part", "step_sizes", "sizes"),
    [
        ("float32", 1.1, "scalar", (4096, 178 * 178)),
        ("float16", 0.5, "scalar", (4096, 178 * 178)),
        ("float16", 0.5, "weight", (4096,)),
        ("float16", 0.5, "curvature", (4096,)),
    ],
)
def test_the_file_is_hardly_larger_than_its_weights(
    precision, part, step_sizes, sizes
):
    """The paper's network, at the sizes of text and of CelebA."""
    for num_points in sizes:
        learner = maml.MAML(networks.SIREN(seed=0), step_sizes=step_sizes)
        rng = np.random.default_rng(0)
        for variable in learner.step_sizes.variables:
            variable.assign(1e-3 * rng.normal(size=variable.shape))
        adapter = _adapter(learner, precision=precision, chunk=1024)
        content = lite.convert(
            adapter, num_points=num_points, num_coords=num_points, metadata={}
        )
        weights = 4 * adapter.num_stored
        assert len(content) <= part * weights + 65536


@pytest.mark.parametrize(
    ("precision", "part"), [("float32", 1.1), ("float16", 0.55)]
)
def test_a_sinograms_file_is_hardly_larger(precision, part):
    """The paper's tomography: 256 x 256 pixels, none of them stored."""
    learner = maml.MAML(
        networks.FourierMLP(2, 1, seed=0),
        support_model=parallel_beam.ParallelBeam(256),
    )
    adapter = Adapter(
        learner,
        input_shape=(),
        value_shape=(256,),
        coords_shape=(2,),
        max_steps=2,
        precision=precision,
        chunk=None,
    )
    content = lite.convert(
        adapter, num_points=4, num_coords=256 * 256, metadata={}
    )
    assert len(content) <= part * 4 * adapter.num_params + 65536


def test_half_precision_is_for_weights_alone():
    """Frozen frequencies and a grid that float16 cannot hold stay exact."""
    learner = maml.MAML(
        networks.FourierMLP(
            2, 1, hidden_layers=1, hidden_units=8, num_frequencies=600, seed=0
        ),
        support_model=parallel_beam.ParallelBeam(20),
        inner_lr=1.0,
    )
    adapter = Adapter(
        learner,
        input_shape=(),
        value_shape=(20,),
        coords_shape=(2,),
        max_steps=2,
        precision="float16",
        chunk=None,
    )
    content = lite.convert(adapter, num_points=3, num_coords=7, metadata={})
    angles = np.float32([0.1, 0.9, 2.0])
    sinogram = np.random.default_rng(0).random((3, 20), np.float32)
    arguments = {
        "theta": adapter.init().numpy(),
        "inputs": angles,
        "values": sinogram,
        "n_points": np.int32(3),
        "steps": np.int32(2),
    }
    result = lite.run_compiled(content, "adapt", arguments)
    expected = adapter.adapt(*map(tf.constant, arguments.values()))
    np.testing.assert_allclose(
        result["theta"], expected["theta"], atol=1e-5, rtol=1e-5
    )


def test_no_product_falls_back_to_the_slow_kernel():
    """XNNPACK runs FULLY_CONNECTED only with constant weights."""
    for field, step_sizes, precision in (
        ("siren", "tensor", "float32"),
        ("fourier_mlp", "tensor", "float32"),
        ("siren", "curvature", "float16"),
    ):
        learner = _learner(field, step_sizes, width=64)
        content = _convert(learner, precision=precision)
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
        for subgraph in model.subgraphs:
            for operator in subgraph.operators:
                code = model.operatorCodes[operator.opcodeIndex].builtinCode
                if code != schema.BuiltinOperator.FULLY_CONNECTED:
                    continue
                weights = subgraph.tensors[operator.inputs[1]]
                assert model.buffers[weights.buffer].data is not None
        assert "BATCH_MATMUL" in lite.operations(content)


def test_buffers_are_aligned_for_litert():
    content = _convert(_learner())
    model = schema.Model.GetRootAs(content, 0)
    for i in range(model.BuffersLength()):
        buffer = model.Buffers(i)
        if buffer.DataLength():
            start = buffer._tab.Vector(
                buffer._tab.Offset(4)  # the only field: data
            )
            assert start % 16 == 0


def test_an_operation_that_litert_lacks_is_one_sentence():
    learner = _learner()
    learner.support_loss = learner.query_loss = type(learner.query_loss)(
        learner.field, lambda field, x: tf.math.lgamma(field(x))
    )
    with pytest.raises(UserError, match="builtin operations only.*gamma"):
        _convert(learner)


def _damaged(content):
    yield "empty", b""
    yield "foreign", b"\x89PNG\r\n\x1a\n" + bytes(100)
    for part in (10, 100, len(content) // 2, len(content) - 100):
        yield f"first {part} bytes", content[:part]
    yield "no metadata", content.replace(b"tfmetainit", b"somebodyel")
    yield "no JSON", content.replace(b'{"inner_steps"', b'["inner_steps"')


def test_damaged_files_are_one_sentence(small_tflite, tmp_path):
    path = tmp_path / "a.tflite"
    for what, content in _damaged(small_tflite.read_bytes()):
        path.write_bytes(content)
        with pytest.raises(InputError) as error:
            LiteArtifact(path)
        assert "\n" not in str(error.value), what
        assert str(path) in str(error.value), what
    with pytest.raises(InputError, match="Cannot read"):
        LiteArtifact(tmp_path / "none.tflite")
    with pytest.raises(InputError, match="is a .tflite file"):
        LiteArtifact(tmp_path)


def test_a_file_that_asks_for_huge_tensors_is_refused(small_tflite, tmp_path):
    model = schema.ModelT.InitFromObj(
        schema.Model.GetRootAs(small_tflite.read_bytes(), 0)
    )
    model.subgraphs[0].tensors[0].shape = [2**30, 2]
    path = tmp_path / "huge.tflite"
    path.write_bytes(lite._pack(model))
    with pytest.raises(InputError, match="may have .* entries"):
        LiteArtifact(path)


# ---- SavedModel -------------------------------------------------------------


def test_an_adapter_takes_steps_of_the_squared_error_only():
    learner = _learner()
    learner.support_loss = FieldLoss(learner.field, measure=lambda p, v: (p, v))
    with pytest.raises(ValueError, match="adapt by the squared error"):
        _adapter(learner)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "1"
    adapter = _adapter(_learner())
    saved_model.save(adapter, folder)
    return adapter, folder


def test_a_batch_equals_its_rows(saved):
    adapter, folder = saved
    signatures = tf.saved_model.load(str(folder)).signatures
    counts, steps = [50, 7, 33, 0], [2, 9, 0, 1]
    inputs, values = map(
        np.stack, zip(*(_observed(50, seed) for seed in range(4)))
    )
    coords = np.stack([_observed(70, seed)[0] for seed in range(4)])
    # A server pads with what it likes.
    for row, count in enumerate(counts):
        inputs[row, count:] = values[row, count:] = np.nan
    together = signatures["fit_predict"](
        inputs=tf.constant(inputs),
        values=tf.constant(values),
        n_points=tf.constant(counts),
        steps=tf.constant(steps),
        coords=tf.constant(coords),
    )
    theta = tf.repeat(signatures["init"]()["theta"], 4, axis=0)
    adapted = signatures["adapt"](
        theta=theta,
        inputs=tf.constant(inputs),
        values=tf.constant(values),
        n_points=tf.constant(counts),
        steps=tf.constant(steps),
    )
    predicted = signatures["predict"](
        theta=adapted["theta"], coords=tf.constant(coords)
    )
    np.testing.assert_array_equal(together["steps_taken"], [2, 5, 0, 0])
    for row, count in enumerate(counts):
        alone = _call(adapter, inputs[row], values[row], count, steps[row])
        np.testing.assert_allclose(
            adapted["theta"][row], alone["theta"], atol=1e-5
        )
        np.testing.assert_allclose(
            together["losses"][row], alone["losses"], rtol=1e-5
        )
        expected = adapter.predict(tf.constant(alone["theta"]), coords[row])
        for values_of in (together, predicted):
            np.testing.assert_allclose(
                values_of["values"][row], expected, atol=1e-5
            )


def test_a_batch_of_unequal_inputs_is_refused(saved):
    _, folder = saved
    signatures = tf.saved_model.load(str(folder)).signatures
    inputs, values = (np.stack([x, x]) for x in _observed(20))
    observed = {
        "inputs": tf.constant(inputs),
        "values": tf.constant(values),
        "n_points": tf.constant([20, 20]),
        "steps": tf.constant([1, 1]),
    }
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="same number of signals"
    ):
        signatures["adapt"](theta=signatures["init"]()["theta"], **observed)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="same number of signals"
    ):
        signatures["fit_predict"](
            **{**observed, "steps": tf.constant([1])},
            coords=tf.constant(inputs),
        )


def test_saved_model_needs_neither_keras_nor_this_package(saved):
    _, folder = saved
    code = f"""
import sys
for name in ("keras", "tfmetainit"):
    sys.modules[name] = None
import tensorflow as tf
model = tf.saved_model.load({str(folder)!r})
theta = model.signatures["init"]()["theta"]
x = tf.random.uniform([1, 20, 2])
y = tf.random.uniform([1, 20, 3])
result = model.signatures["adapt"](
    theta=theta, inputs=x, values=y,
    n_points=tf.constant([20]), steps=tf.constant([3]))
assert result["steps_taken"].numpy() == [3]
losses = result["losses"].numpy()[0]
assert losses[2] < losses[0]
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_saved_model_cli_runs_it(saved, tmp_path):
    _, folder = saved
    inputs, values = _observed(50)
    np.savez(
        tmp_path / "in.npz",
        inputs=inputs[None],
        values=values[None],
        n_points=np.int32([50]),
        steps=np.int32([2]),
    )
    names = ("inputs", "values", "n_points", "steps")
    mapping = [f"{name}={tmp_path}/in.npz[{name}]" for name in names]
    mapping.append(f"coords={tmp_path}/in.npz[inputs]")
    command = shutil.which(
        "saved_model_cli", path=os.path.dirname(sys.executable)
    )
    subprocess.run(
        [
            *(command, "run", "--dir", folder, "--tag_set", "serve"),
            *("--signature_def", "fit_predict"),
            *("--inputs", ";".join(mapping), "--outdir", tmp_path),
        ],
        check=True,
        capture_output=True,
    )
    adapter, _ = saved
    theta = _call(adapter, inputs, values, 50, 2)["theta"]
    np.testing.assert_allclose(
        np.load(tmp_path / "values.npy")[0],
        adapter.predict(tf.constant(theta), inputs),
        atol=1e-5,
    )


def _c_compiler():
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    return compiler


def test_the_c_loader_of_tensorflow_runs_it(saved, tmp_path):
    adapter, folder = saved
    root = pathlib.Path(tf.__file__).parent
    libraries = [
        root / f"libtensorflow_{name}.so.2" for name in ("cc", "framework")
    ]
    header = root / "include" / "tensorflow" / "c" / "c_api.h"
    if not all(path.is_file() for path in [*libraries, header]):
        pytest.skip("this TensorFlow has no C library")
    program = tmp_path / "loader"
    source = pathlib.Path(__file__).parent / "saved_model_loader.c"
    subprocess.run(
        [
            *(_c_compiler(), "-std=c11", f"-I{root / 'include'}", source),
            *("-o", program, *libraries, f"-Wl,-rpath,{root}"),
        ],
        check=True,
    )
    from tensorflow.core.protobuf import saved_model_pb2

    proto = saved_model_pb2.SavedModel.FromString(
        (folder / "saved_model.pb").read_bytes()
    )
    signature = proto.meta_graphs[0].signature_def["fit_predict"]
    names = ("inputs", "values", "n_points", "steps", "coords")
    result = subprocess.run(
        [
            *(program, folder),
            *(signature.inputs[name].name for name in names),
            signature.outputs["values"].name,
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    fitted = np.float32(result.stdout.split()[-150:]).reshape(50, 3)

    def rows(width):
        numbers = np.arange(50 * width) * 37 % 101
        return (np.float32(numbers) / np.float32(101)).reshape(50, width)

    theta = _call(adapter, rows(2), rows(3), 50, 2)["theta"]
    np.testing.assert_allclose(
        fitted, adapter.predict(tf.constant(theta), rows(2)), atol=1e-5
    )


def test_warmup_records_are_requests_that_run(saved, tmp_path):
    from tensorflow_serving.apis import prediction_log_pb2

    _, folder = saved
    inputs, values = _observed(20)
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
