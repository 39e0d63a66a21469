"""The SavedModel against the adapter that it was made from."""

import io
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfmetainit import geometry
from tfmetainit.export import saved_model


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


@pytest.fixture(scope="module")
def loader(tmp_path_factory):
    """A program on TensorFlow's C API."""
    root = pathlib.Path(tf.__file__).parent
    libraries = [
        root / f"libtensorflow_{name}.so.2" for name in ("cc", "framework")
    ]
    header = root / "include" / "tensorflow" / "c" / "c_api.h"
    if not all(path.is_file() for path in [*libraries, header]):
        pytest.skip("this TensorFlow has no C library")
    program = tmp_path_factory.mktemp("c") / "loader"
    source = pathlib.Path(__file__).parent / "saved_model_loader.c"
    subprocess.run(
        [
            *(_c_compiler(), "-std=c11", f"-I{root / 'include'}", source),
            *("-o", program, *libraries, f"-Wl,-rpath,{root}"),
        ],
        check=True,
    )
    return program


def _signature(folder, name):
    from tensorflow.core.protobuf import saved_model_pb2

    proto = saved_model_pb2.SavedModel.FromString(
        (folder / "saved_model.pb").read_bytes()
    )
    return proto.meta_graphs[0].signature_def[name]


def test_the_c_loader_of_tensorflow_runs_it(saved, loader, call):
    adapter, folder = saved
    signature = _signature(folder, "fit_predict")
    names = ("inputs", "values", "n_points", "steps", "coords")
    result = subprocess.run(
        [
            *(loader, folder),
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


@pytest.fixture(scope="module")
def of_images(make_learner, make_adapter, tmp_path_factory):
    """An adapter and its SavedModel for pictures of 16 pixels."""
    adapter = make_adapter(make_learner(output_layer="solved"))
    folder = tmp_path_factory.mktemp("images") / "1"
    saved_model.save(adapter, folder, resolution=16)
    return adapter, folder


def _file(pixels, name, **options):
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, name, **options)
    return content.getvalue()


@pytest.mark.parametrize("name", ["PNG", "JPEG"])
@pytest.mark.parametrize("shape", [(16, 16, 3), (30, 45, 3), (37, 16, 3)])
def test_fit_image_fits_the_whole_picture(name, shape, of_images, call):
    adapter, folder = of_images
    rows, columns, _ = np.meshgrid(*map(np.arange, shape), indexing="ij")
    waves = np.sin(rows / 7.0) * np.cos(columns / 9.0)
    content = _file(np.uint8(127.5 * (1.0 + waves)), name)
    result = tf.saved_model.load(str(folder)).signatures["fit_image"](
        image_bytes=tf.constant([content, content]), steps=tf.constant([2, 0])
    )
    with Image.open(io.BytesIO(content)) as image:
        picture = np.float32(np.asarray(image)) / 255.0
    height, width = geometry.pixels.scaled_to(shape[:2], 16, min)
    picture = geometry.pixels.resize(picture, 16, 16)
    coords = geometry.pixel_coords(16, 16)
    values = picture.reshape(-1, 3)
    for row, steps in enumerate((2, 0)):
        theta = call(adapter, coords, values, len(values), steps)["theta"]
        received = np.frombuffer(result["theta_bytes"][row].numpy(), "<f4")
        assert len(received) == adapter.theta_size
        # Not the solution, which small changes move. Decoders of JPEG differ.
        count, atol = adapter.num_params, 1e-4 if name == "PNG" else 5e-3
        np.testing.assert_allclose(received[:count], theta[:count], atol=atol)
        expected = adapter.predict(tf.constant(theta), coords).numpy()
        mse = np.mean((expected - values) ** 2)
        np.testing.assert_allclose(
            result["psnr"][row], -10.0 * np.log10(mse), atol=0.1
        )
        content = result["fitted_bytes"][row].numpy()
        with Image.open(io.BytesIO(content)) as fitted:
            fitted = np.asarray(fitted) / 255.0
        expected = geometry.render(
            lambda coords, theta=theta: adapter.predict(theta, coords),
            *(height, width, 16),
        )
        np.testing.assert_allclose(
            fitted,
            expected.clip(0.0, 1.0),
            atol=(1.0 if name == "PNG" else 4.0) / 255,
        )
    np.testing.assert_array_equal(result["steps_taken"], [2, 0])


def test_fit_image_shows_transparency_on_white(of_images):
    signature = tf.saved_model.load(str(of_images[1])).signatures["fit_image"]
    clear = np.zeros([16, 16, 4], np.uint8)
    white = np.full([16, 16, 3], 255, np.uint8)
    results = [
        signature(
            image_bytes=tf.constant([_file(pixels, "PNG")]),
            steps=tf.constant([1]),
        )["theta_bytes"]
        for pixels in (clear, white)
    ]
    assert results[0] == results[1]


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB"])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_fit_image_reads_png_of_any_depth(mode, bits, of_images):
    """TensorFlow's own alpha of files below 8 bits is wrong."""
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16) // (256 >> bits)
    image = Image.fromarray(grey * (255 // (2**bits - 1))).convert(mode)
    options = {"bits": bits} if mode in ("P", "L") else {}
    content = io.BytesIO()
    image.save(content, "PNG", **options)
    with Image.open(io.BytesIO(content.getvalue())) as read:
        expected = np.asarray(read.convert("RGB")) / 255.0
    decoded = saved_model._decoded(tf.constant(content.getvalue()))
    np.testing.assert_allclose(decoded, expected, atol=1.01 / 255)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "must be PNG or JPEG"),
        (b"GIF89a" + bytes(30), "must be PNG or JPEG"),
        (b"\x89PNG\r\n\x1a\n", "may have 1 to"),
        (
            # 2^31 - 1 pixels on each side.
            b"\x89PNG\r\n\x1a\n" + bytes(8) + b"\x7f\xff\xff\xff" * 2,
            "may have 1 to",
        ),
        (_file(np.zeros([33, 2, 3], np.uint8), "PNG"), "16"),
        (_file(np.zeros([2, 33, 3], np.uint8), "JPEG"), "16"),
        (_file(np.zeros([9, 9, 3], np.uint8), "PNG")[:60], "PNG"),
    ],
)
def test_fit_image_refuses_other_bytes(content, part, of_images):
    signature = tf.saved_model.load(str(of_images[1])).signatures["fit_image"]
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        signature(image_bytes=tf.constant([content]), steps=tf.constant([1]))
    assert part in str(error.value)


def test_the_c_loader_fits_a_file(of_images, loader, tmp_path):
    _, folder = of_images
    pixels = np.random.default_rng(0).integers(0, 256, (9, 16, 3), np.uint8)
    content = _file(pixels, "PNG")
    (tmp_path / "a.png").write_bytes(content)
    signature = _signature(folder, "fit_image")
    result = subprocess.run(
        [
            *(loader, folder),
            *(signature.inputs[n].name for n in ("image_bytes", "steps")),
            *(signature.outputs["fitted_bytes"].name, tmp_path / "a.png"),
        ],
        check=True,
        capture_output=True,
    )
    expected = tf.saved_model.load(str(folder)).signatures["fit_image"](
        image_bytes=tf.constant([content]), steps=tf.constant([2])
    )
    shown = result.stdout[result.stdout.index(b"\x89PNG") :]
    assert shown == expected["fitted_bytes"][0].numpy()
