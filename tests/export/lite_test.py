"""The .tflite file against the adapter that it was made from."""

import concurrent.futures
import math

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import interpreter
from ai_edge_litert import schema_py_generated as schema

from tfmetainit.export import flatbuffer, lite
from tfmetainit.export.adapter import Adapter
from tfmetainit.fields import networks
from tfmetainit.forward_models import parallel_beam
from tfmetainit.io.errors import InputError, UserError
from tfmetainit.litert.artifact import CompiledSignatures, LiteArtifact
from tfmetainit.meta import maml

_MAX_STEPS = 5


@pytest.fixture(scope="module")
def small_tflite(tmp_path_factory, make_learner, convert):
    path = tmp_path_factory.mktemp("lite") / "model.tflite"
    path.write_bytes(convert(make_learner()))
    return path


@pytest.mark.parametrize("field", ["siren", "fourier_mlp"])
@pytest.mark.parametrize("step_sizes", ["tensor", "weight", "curvature"])
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_litert_agrees_with_python(
    field,
    step_sizes,
    precision,
    tmp_path,
    make_learner,
    make_adapter,
    observed,
    call,
    convert,
):
    # Wide enough that its constants are stored in half.
    learner = make_learner(field, step_sizes, width=64)
    adapter = make_adapter(learner, precision=precision)
    content = convert(learner, precision=precision)
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
    inputs, values = observed(41)
    np.testing.assert_array_equal(artifact.init(), adapter.init())
    theta, losses = artifact.adapt(artifact.init(), inputs, values, 2)
    expected = call(adapter, inputs, values, 41, 2)
    np.testing.assert_allclose(theta, expected["theta"], atol=1e-6)
    np.testing.assert_allclose(losses, expected["losses"][:2], rtol=1e-5)
    # More coords than one call takes.
    coords, _ = observed(120, seed=1)
    np.testing.assert_allclose(
        artifact.predict(theta, coords),
        adapter.predict(tf.constant(theta), coords),
        atol=1e-6,
    )
    assert artifact.metadata["where"] == "ü"
    assert artifact.max_steps == _MAX_STEPS
    # The interpreter of LiteRT before CompiledModel.
    padding = ((0, 9), (0, 0))
    result = _interpreted(content, "adapt")(
        theta=adapter.init().numpy(),
        inputs=np.pad(inputs, padding),
        values=np.pad(values, padding),
        n_points=np.int32(41),
        steps=np.int32(2),
    )
    np.testing.assert_allclose(result["theta"], theta, atol=1e-6)
    assert result["steps_taken"] == 2


def _interpreted(content, signature):
    model = interpreter.Interpreter(model_content=content)
    return model.get_signature_runner(signature)


def test_an_input_of_another_size_is_refused(small_tflite, observed):
    """LiteRT itself would use what the buffer held before."""
    artifact = LiteArtifact(small_tflite)
    inputs, values = observed(5)
    theta = artifact.init()
    for wrong in (theta[:7], np.append(theta, 0.0)):
        with pytest.raises(ValueError, match=str(len(wrong))):
            artifact.adapt(wrong, inputs, values, 1)
        with pytest.raises(ValueError, match=str(len(wrong))):
            artifact.predict(wrong, inputs)
    with pytest.raises(InputError, match="-1"):
        artifact.adapt(theta, inputs, values, -1)
    model = CompiledSignatures(small_tflite.read_bytes())
    with pytest.raises(TypeError):
        model.run("predict", theta=theta + 0j, coords=np.zeros([50, 2]))
    with pytest.raises(KeyError, match="coords"):
        model.run("predict", theta=theta)


def test_threads_share_an_artifact(small_tflite, observed):
    artifact = LiteArtifact(small_tflite)
    cases = [observed(50, seed) for seed in range(8)]

    def fit(case):
        return artifact.adapt(artifact.init(), *case, 3)[0]

    expected = list(map(fit, cases))
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for one, other in zip(pool.map(fit, cases), expected):
            np.testing.assert_array_equal(one, other)


def test_weights_in_half_are_taken_as_numbers(small_tflite, observed):
    artifact = LiteArtifact(small_tflite)
    theta = artifact.init().astype(np.float16)
    expected = artifact.adapt(theta.astype(np.float32), *observed(9), 1)
    np.testing.assert_array_equal(
        artifact.adapt(theta, *observed(9), 1)[0], expected[0]
    )


def test_more_steps_than_one_call_takes(small_tflite, observed, raises_with):
    artifact = LiteArtifact(small_tflite)
    inputs, values = observed(50)
    at_once, losses = artifact.adapt(artifact.init(), inputs, values, 12)
    assert len(losses) == 12
    theta = artifact.init()
    for _ in range(12):
        theta, _ = artifact.adapt(theta, inputs, values, 1)
    np.testing.assert_allclose(at_once, theta, atol=1e-7)
    with raises_with(InputError, "50", "51"):
        artifact.adapt(theta, *observed(51), 1)
    values[0, 0] = np.nan
    unchanged, losses = artifact.adapt(theta, inputs, values, 3)
    assert losses == []
    np.testing.assert_array_equal(unchanged, theta)
    assert artifact.predict(theta, np.zeros((0, 2))).shape == (0, 3)
    with raises_with(InputError, "coords", "(2,)", "(3,)"):
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
    precision, part, step_sizes, sizes, make_adapter
):
    """The paper's network, at the sizes of text and of CelebA."""
    learner = maml.MAML(networks.SIREN(seed=0), step_sizes=step_sizes)
    rng = np.random.default_rng(0)
    for variable in learner.step_sizes.variables:
        variable.assign(1e-3 * rng.normal(size=variable.shape))
    adapter = make_adapter(learner, precision=precision, chunk=1024)
    for num_points in sizes:
        content = lite.convert(
            adapter, num_points=num_points, num_coords=num_points
        )
        weights = 4 * adapter.num_stored
        assert len(content) <= part * weights + 65536


def test_the_file_does_not_grow_with_the_number_of_points(make_adapter):
    """Nothing of the size of a picture is stored, in any signature."""
    learner = maml.MAML(
        networks.SIREN(hidden_units=8, hidden_layers=1, seed=0),
        output_layer="solved",
        step_on="halves",
        raster_width=20,
    )
    adapter = make_adapter(learner, chunk=1024)
    small, large = (
        lite.convert(adapter, num_points=num_points, num_coords=7)
        for num_points in (600, 60_000)
    )
    assert len(large) <= len(small) + 8192


@pytest.mark.parametrize(
    ("precision", "part"), [("float32", 1.1), ("float16", 0.55)]
)
def test_a_sinograms_file_is_hardly_larger(precision, part, convert):
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
    content = lite.convert(adapter, num_points=4, num_coords=256 * 256)
    assert len(content) <= part * 4 * adapter.num_params + 65536


def test_half_precision_is_for_weights_alone(convert):
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
    content = lite.convert(adapter, num_points=3, num_coords=7)
    angles = np.float32([0.1, 0.9, 2.0])
    sinogram = np.random.default_rng(0).random((3, 20), np.float32)
    arguments = {
        "theta": adapter.init().numpy(),
        "inputs": angles,
        "values": sinogram,
        "n_points": np.int32(3),
        "steps": np.int32(2),
    }
    result = CompiledSignatures(content).run("adapt", **arguments)
    expected = adapter.adapt(*map(tf.constant, arguments.values()))
    np.testing.assert_allclose(
        result["theta"], expected["theta"], atol=1e-5, rtol=1e-5
    )


def test_no_product_falls_back_to_the_slow_kernel(make_learner, convert):
    """XNNPACK runs FULLY_CONNECTED only with constant weights."""
    for field, step_sizes, precision in (
        ("siren", "tensor", "float32"),
        ("fourier_mlp", "tensor", "float32"),
        ("siren", "curvature", "float16"),
    ):
        learner = make_learner(field, step_sizes, width=64)
        content = convert(learner, precision=precision)
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
        for subgraph in model.subgraphs:
            for operator in subgraph.operators:
                code = model.operatorCodes[operator.opcodeIndex].builtinCode
                if code != schema.BuiltinOperator.FULLY_CONNECTED:
                    continue
                weights = subgraph.tensors[operator.inputs[1]]
                assert model.buffers[weights.buffer].data is not None
        assert "BATCH_MATMUL" in flatbuffer.operations(content)


def test_buffers_are_aligned_for_litert(make_learner, convert):
    content = convert(make_learner())
    model = schema.Model.GetRootAs(content, 0)
    for i in range(model.BuffersLength()):
        buffer = model.Buffers(i)
        if buffer.DataLength():
            start = buffer._tab.Vector(
                buffer._tab.Offset(4)  # the only field: data
            )
            assert start % 16 == 0


def test_an_operation_that_litert_lacks_is_one_sentence(
    make_learner, convert, raises_with
):
    learner = make_learner()
    learner.support_loss = learner.query_loss = type(learner.query_loss)(
        learner.field, lambda field, x: tf.math.lgamma(field(x))
    )
    with raises_with(UserError, "gamma"):
        convert(learner)


def _damaged(content):
    yield "empty", b""
    yield "foreign", b"\x89PNG\r\n\x1a\n" + bytes(100)
    for part in (10, 100, len(content) // 2, len(content) - 100):
        yield f"first {part} bytes", content[:part]
    yield "no metadata", content.replace(b"tfmetainit", b"somebodyel")
    yield "no JSON", content.replace(b'{"inner_steps"', b'["inner_steps"')


def test_damaged_files_are_one_sentence(small_tflite, tmp_path, raises_with):
    path = tmp_path / "a.tflite"
    for what, content in _damaged(small_tflite.read_bytes()):
        path.write_bytes(content)
        with pytest.raises(InputError) as error:
            LiteArtifact(path)
        assert "\n" not in str(error.value), what
        assert str(path) in str(error.value), what
    with raises_with(InputError, "none.tflite"):
        LiteArtifact(tmp_path / "none.tflite")
    with raises_with(InputError, tmp_path):
        LiteArtifact(tmp_path)


def test_a_file_that_asks_for_huge_tensors_is_refused(
    small_tflite, tmp_path, raises_with
):
    model = schema.ModelT.InitFromObj(
        schema.Model.GetRootAs(small_tflite.read_bytes(), 0)
    )
    model.subgraphs[0].tensors[0].shape = [2**30, 2]
    path = tmp_path / "huge.tflite"
    path.write_bytes(flatbuffer._pack(model))
    with raises_with(InputError, path, 2**31):
        LiteArtifact(path)
