"""The SavedModel against the adapter that it was made from."""

import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf


def test_a_batch_equals_its_rows(saved, observed, call):
    adapter, folder = saved
    signatures = tf.saved_model.load(str(folder)).signatures
    counts, steps = [50, 7, 33, 0], [2, 9, 0, 1]
    inputs, values = map(
        np.stack, zip(*(observed(50, seed) for seed in range(4)))
    )
    coords = np.stack([observed(70, seed)[0] for seed in range(4)])
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
        alone = call(adapter, inputs[row], values[row], count, steps[row])
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


def test_a_batch_of_unequal_inputs_is_refused(saved, observed):
    _, folder = saved
    signatures = tf.saved_model.load(str(folder)).signatures
    inputs, values = (np.stack([x, x]) for x in observed(20))
    observed = {
        "inputs": tf.constant(inputs),
        "values": tf.constant(values),
        "n_points": tf.constant([20, 20]),
        "steps": tf.constant([1, 1]),
    }
    with pytest.raises(tf.errors.InvalidArgumentError):
        signatures["adapt"](theta=signatures["init"]()["theta"], **observed)
    with pytest.raises(tf.errors.InvalidArgumentError):
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


def test_saved_model_cli_runs_it(saved, tmp_path, observed, call):
    _, folder = saved
    inputs, values = observed(50)
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
    theta = call(adapter, inputs, values, 50, 2)["theta"]
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


def test_the_c_loader_of_tensorflow_runs_it(saved, tmp_path, call):
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

    theta = call(adapter, rows(2), rows(3), 50, 2)["theta"]
    np.testing.assert_allclose(
        fitted, adapter.predict(tf.constant(theta), rows(2)), atol=1e-5
    )
