"""The signatures for GPU delegates, and the rules that they keep."""

import re
import shutil
import subprocess

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

from tfmetainit.export import flatbuffer, gpu
from tfmetainit.litert.artifact import CompiledSignatures

_PRECISIONS = ["float32", pytest.param("float16", marks=pytest.mark.slow)]


def _kinds(of_learner):
    if "step_on" in of_learner:
        yield "siren", "tensor", of_learner
        return
    for step_sizes in ("scalar", "tensor", "weight", "curvature"):
        yield "siren", step_sizes, of_learner
    yield "fourier_mlp", "tensor", {}


_HALVES = {"step_on": "halves", "raster_width": 20}


@pytest.mark.parametrize("precision", _PRECISIONS)
@pytest.mark.parametrize(
    "of_learner",
    [{}, {"output_layer": "solved"}, {"output_layer": "solved", **_HALVES}],
    ids=["stepped", "solved", "solved in halves"],
)
def test_signatures_for_gpus_do_what_adapt_does(
    of_learner, precision, make_learner, observed, convert
):
    for field, step_sizes, options in _kinds(of_learner):
        learner = make_learner(field, step_sizes, width=64, **options)
        content = convert(learner, num_points=601, precision=precision)
        model = CompiledSignatures(content)
        rows = dict(zip(("inputs", "values"), observed(601)))
        count = 541  # the rows behind do not count
        theta = model.run("init")["theta"]
        expected = model.run(
            "adapt",
            theta=theta,
            **rows,
            n_points=np.int32(count),
            steps=np.int32(3),
        )
        rows["weights"] = np.float32(np.arange(601)[:, None] < count)
        losses = []
        in_halves = "step_on" in options
        assert ("adapt_half" in model.names()) == in_halves
        step = "adapt_half" if in_halves else "adapt_step"
        for _ in range(3):
            result = model.run(step, theta=theta, **rows)
            theta = result["theta"]
            losses += result["loss"].tolist()
        np.testing.assert_allclose(losses, expected["losses"][:3], rtol=1e-5)
        if "solve_output" in model.names():
            theta = model.run("solve_output", theta=theta, **rows)["theta"]
        np.testing.assert_allclose(theta, expected["theta"], atol=2e-5)
        solves = options.get("output_layer") == "solved"
        assert ("solve_output" in model.names()) == solves
        # GPU delegates take all of a signature, or none is used.
        for name in set(gpu.SIGNATURES) & set(model.names()):
            assert not gpu.refused(content, name), (field, step_sizes, name)
        assert any("WHILE" in op for op in gpu.refused(content, "adapt"))


def test_weights_count_rows(make_learner, make_adapter, observed):
    """A row of weight 2 is the same row twice."""
    adapter = make_adapter(make_learner(output_layer="solved"))
    inputs, values = observed(30)
    weights = np.ones([30, 1], np.float32)
    weights[:10] = 2.0
    twice = [np.concatenate([rows, rows[:10]]) for rows in (inputs, values)]
    for function in (adapter.adapt_step, adapter.solve_output):
        one = function(adapter.init(), inputs, values, weights)
        other = function(adapter.init(), *twice, np.ones([40, 1], np.float32))
        for name in one:
            np.testing.assert_allclose(one[name], other[name], atol=1e-5)


@pytest.mark.parametrize("which", [0, 1])
def test_a_step_sees_the_other_half_if_one_has_no_weight(
    which, make_learner, make_adapter, observed
):
    halved = {"step_on": "halves", "raster_width": 6}
    adapter = make_adapter(make_learner(output_layer="solved", **halved))
    of_all = make_adapter(make_learner(output_layer="solved"))
    inputs, values = observed(36)
    seen = np.arange(36) % 6 % 2 == np.arange(36) // 6 % 2
    weights = np.float32(seen if which == 0 else ~seen)[:, None]
    theta, expected = adapter.init(), of_all.init()
    for step in range(3):
        result = adapter.adapt_half(theta, inputs, values, weights)
        other = of_all.adapt_step(expected, inputs, values, weights)
        theta, expected = result["theta"], other["theta"]
        np.testing.assert_allclose(theta[:-1], expected, atol=1e-6)
        np.testing.assert_allclose(result["loss"], other["loss"], rtol=1e-5)
        assert theta[-1] == (step + 1) % 2
    # Steps over all rows take no turns.
    stepped = adapter.adapt_step(theta, inputs, values, weights)["theta"]
    expected = of_all.adapt_step(expected, inputs, values, weights)["theta"]
    np.testing.assert_allclose(stepped[:-1], expected, atol=1e-6)
    assert stepped[-1] == theta[-1]


@pytest.mark.parametrize("bad", [np.nan, np.inf, "no row"])
def test_theta_stays_if_a_step_is_not_finite(
    bad, make_learner, make_adapter, observed
):
    halved = {"step_on": "halves", "raster_width": 6}
    adapter = make_adapter(make_learner(output_layer="solved", **halved))
    inputs, values = observed(30)
    weights = np.ones([30, 1], np.float32)
    if bad == "no row":
        weights[:] = 0.0
    else:
        values[7, 1] = bad
    theta = adapter.init()
    for function in (
        adapter.adapt_step,
        adapter.adapt_half,
        adapter.solve_output,
    ):
        result = function(theta, inputs, values, weights)
        np.testing.assert_array_equal(result["theta"], theta)


def _converted(function, folder):
    """A function of `[5, 4]` as a .tflite file with the signature "f"."""
    module = tf.Module()
    spec = tf.TensorSpec([5, 4], tf.float32)
    signatures = {"f": tf.function(function, input_signature=[spec])}
    tf.saved_model.save(module, folder, signatures=signatures)
    return tf.lite.TFLiteConverter.from_saved_model(
        str(folder), signature_keys=["f"]
    ).convert()


_TABLE = np.random.default_rng(0).normal(size=[5, 4]).astype(np.float32)


@pytest.mark.parametrize(
    ("operation", "function"),
    [
        ("MUL", lambda x: x * _TABLE),
        ("SUM", lambda x: tf.reduce_sum(x, keepdims=True)),
        ("GATHER", lambda x: tf.gather(x, [[0, 1], [1, 2]])),
        ("STRIDED_SLICE", lambda x: x[2]),
        ("GATHER_ND", lambda x: tf.gather_nd(x, [[0, 1], [1, 2]])),
        ("SCATTER_ND", lambda x: tf.scatter_nd([[1], [0]], x[:2], [5, 4])),
        ("SQRT", lambda x: tf.sqrt(tf.reduce_sum(x, [0, 1]))),
        ("SELECT_V2", lambda x: tf.where(x[:, :1] > 0.0, x, 0.0)),
    ],
)
def test_refused_finds_what_delegates_do_not_take(
    operation, function, tmp_path
):
    found = gpu.refused(_converted(function, tmp_path), "f")
    assert any(re.match(operation, one) for one in found), found


def test_refused_takes_plain_layers(tmp_path):
    kernel = np.ones([4, 6], np.float32)
    content = _converted(lambda x: tf.sin(tf.matmul(x, kernel) + 1), tmp_path)
    assert gpu.refused(content, "f") == []


def _metadata(content, name):
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    (entry,) = (e for e in model.metadata if e.name == name.encode())
    return bytes(model.buffers[entry.buffer].data)


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_the_file_names_the_oldest_runtime(
    precision, tmp_path, make_learner, convert
):
    content = convert(make_learner(width=64), precision=precision)
    assert _metadata(content, "min_runtime_version") == b"2.7.0"
    newer = _converted(lambda x: tf.nn.gelu(x, approximate=True), tmp_path)
    newer = flatbuffer.edit(newer, half=False)
    assert "GELU" in flatbuffer.operations(newer)
    assert _metadata(newer, "min_runtime_version") == b"2.9.0"


_IN_THE_OLD_RUNTIME = """
import json, sys
import numpy as np
from tflite_runtime.interpreter import Interpreter

case = np.load(sys.argv[1] + "/case.npz")
for name in sys.argv[2:]:
    model = Interpreter(model_path=name)
    adapt = model.get_signature_runner("adapt")
    theta = model.get_signature_runner("init")()["theta"]
    result = adapt(
        theta=theta, inputs=case["inputs"], values=case["values"],
        n_points=np.array(len(case["inputs"]), np.int32),
        steps=np.array(3, np.int32),
    )
    np.save(name + ".npy", result["theta"])
"""


@pytest.mark.slow
def test_the_oldest_runtime_fits(tmp_path, make_learner, observed, convert):
    """With the oldest tflite-runtime for one of the Pythons at hand."""
    for name in ("python3.7", "python3.8", "python3.9", "python3.10"):
        python = shutil.which(name)
        if python and not subprocess.run([python, "-c", ""]).returncode:
            break
    else:
        pytest.skip("no Python that tflite-runtime has old wheels for")
    subprocess.run([python, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    for version in ("2.7.0", "2.13.0"):
        installed = subprocess.run(
            [
                *(python, "-m", "pip", "install", "--quiet"),
                *(f"tflite-runtime=={version}", "numpy<2"),
            ]
        )
        if not installed.returncode:
            break
    else:
        pytest.skip("no wheel of tflite-runtime")
    inputs, values = observed(50)
    np.savez(tmp_path / "case.npz", inputs=inputs, values=values)
    paths = []
    for precision in ("float32", "float16"):
        for field, step_sizes, options in _kinds({"output_layer": "solved"}):
            learner = make_learner(field, step_sizes, width=64, **options)
            path = tmp_path / f"{field}_{step_sizes}_{precision}.tflite"
            path.write_bytes(convert(learner, precision=precision))
            paths.append(path)
    subprocess.run(
        [python, "-c", _IN_THE_OLD_RUNTIME, tmp_path, *paths], check=True
    )
    for path in paths:
        model = CompiledSignatures(path.read_bytes())
        expected = model.run(
            "adapt",
            theta=model.run("init")["theta"],
            inputs=inputs,
            values=values,
            n_points=np.int32(50),
            steps=np.int32(3),
        )
        # Not the solution, which is a matter of rounding with 50 observations.
        solution = 3 * (64 + 1) if "solve_output" in model.names() else 0
        count = len(expected["theta"]) - solution
        np.testing.assert_allclose(
            np.load(f"{path}.npy")[:count],
            expected["theta"][:count],
            atol=1e-4,
        )
