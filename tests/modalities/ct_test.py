"""Slices of the user's, and what is taken for a sinogram."""

import numpy as np
import pytest
from PIL import Image

from tfmetainit.io.errors import InputError
from tfmetainit.modalities import ct


def test_slices_of_every_format(tmp_path):
    image = np.random.default_rng(0).random((6, 7))
    Image.fromarray(np.uint16(np.round(65535 * image))).save(tmp_path / "a.png")
    Image.fromarray(np.float32(image)).save(tmp_path / "a.tif")
    np.save(tmp_path / "a.npy", image)
    np.save(tmp_path / "i.npy", np.uint16(np.round(65535 * image)))
    for name in ("a.png", "a.tif", "a.npy", "i.npy"):
        read = ct.read_slice(tmp_path / name)
        assert read.shape == (6, 7, 1)
        np.testing.assert_allclose(read[..., 0], image, atol=1e-5)


def test_a_window_of_numbers_with_a_unit(tmp_path, raises_with):
    units = np.array([[-1000, -160], [40, 240]], np.int16)
    np.save(tmp_path / "a.npy", units)
    Image.fromarray(np.float32(units)).save(tmp_path / "a.tif")
    for name in ("a.npy", "a.tif"):
        read = ct.read_slice(tmp_path / name, (-160, 240))
        np.testing.assert_allclose(
            read[..., 0], [[0.0, 0.0], [0.5, 1.0]], atol=1e-6
        )
        with raises_with(InputError, "`window`", tmp_path / name):
            ct.read_slice(tmp_path / name)
    Image.fromarray(np.uint8([[0, 255], [7, 8]])).save(tmp_path / "a.png")
    with raises_with(InputError, "`window`", tmp_path / "a.png"):
        ct.read_slice(tmp_path / "a.png", (-160, 240))


@pytest.mark.parametrize("window", ["1", "2,1", "a,b", "0,nan", "1,2,3"])
def test_bad_windows(window, raises_with):
    with raises_with(InputError, "`window`"):
        ct.parse_window(window)
    with raises_with(InputError, "`window`"):
        ct.CTModality(8, "nearest", 2, window.split(","))


def test_a_file_is_a_sinogram_if_its_angles_are_given(tmp_path, raises_with):
    """And a slice otherwise: whatever its format."""
    modality = ct.CTModality(4, "nearest", 2)
    image = np.float32(np.random.default_rng(0).random((4, 4)))
    np.save(tmp_path / "a.npy", image)
    Image.fromarray(image).save(tmp_path / "a.tif")
    Image.fromarray(np.uint16(65535 * image)).save(tmp_path / "a.png")
    for name in ("a.npy", "a.tif", "a.png"):
        path = tmp_path / name
        sample = modality.read(path, angles="0,45,90,135")
        assert sample.target is None
        np.testing.assert_allclose(sample.values[0], image, atol=1e-4)
        sample = modality.read(path, projections="3")
        np.testing.assert_allclose(
            sample.target.reshape(4, 4), image, atol=1e-4
        )
        np.testing.assert_allclose(
            sample.inputs[0], np.pi * np.arange(3) / 3, atol=1e-6
        )
        for wrong in (
            {"angles": "0,45,90,135", "projections": "4"},
            {"angles": "0,45,90,135", "window": "0,1"},
            {"scale": "2"},
            {"center": "2"},
            {"row": "0"},
            {"projections": "many"},
            {"projections": "0"},
            {"projections": "9" * 400},
            {"angles": "0,45,90,135", "scale": "0"},
        ):
            with raises_with(InputError, f"`{[*wrong][-1]}`"):
                modality.read(path, **wrong)
    # Nobody's slice is of this shape.
    np.save(tmp_path / "tall.npy", np.zeros((9, 4)))
    with raises_with(InputError, "`angles`", (9, 4)):
        modality.read(tmp_path / "tall.npy")


@pytest.mark.parametrize(
    ("array", "named"),
    [
        (np.zeros((2, 3, 4)), (2, 3, 4)),
        (np.zeros((0, 3)), (0, 3)),
        (np.full((2, 3), 2.0), "2 to 2"),
        (np.full((2, 3), -1, np.int16), "from -1 to -1"),
        (np.full((2, 3), 200), "int64"),
    ],
)
def test_bad_slices(tmp_path, raises_with, array, named):
    path = tmp_path / "a.npy"
    np.save(path, array)
    with raises_with(InputError, path, named):
        ct.read_slice(path)
