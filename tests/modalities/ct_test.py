"""Angles, sinograms and slices of the user's."""

import numpy as np
import pytest
from PIL import Image

from tfmetainit.io.errors import InputError
from tfmetainit.modalities import ct


def test_angles():
    np.testing.assert_allclose(
        ct.parse_angles("0, 45,180"), [0.0, np.pi / 4, np.pi]
    )
    np.testing.assert_array_equal(ct.parse_angles("0,360"), [0.0, 0.0])


@pytest.mark.parametrize(
    "text", ["", "a,b", "0,361", "-1", "nan", "0;1", ",".join(["1"] * 2000)]
)
def test_bad_angles(raises_with, text):
    with raises_with(InputError, "`angles`", ct.MAX_PROJECTIONS, text[:100]):
        ct.parse_angles(text)


def test_angles_from_a_file(tmp_path):
    np.save(tmp_path / "angles.npy", np.array([0.0, 90.0]))
    np.testing.assert_allclose(
        ct.parse_angles(str(tmp_path / "angles.npy")), [0, np.pi / 2]
    )


@pytest.mark.parametrize(
    ("array", "named"),
    [
        (np.zeros((3, 8)), ["2 x 8", (3, 8)]),
        (np.zeros((8, 2)), ["2 x 8", (8, 2)]),
        (np.full((2, 8), np.nan), ["16 numbers"]),
        (np.full((2, 8), 8.0), ["8 to 8"]),
        (np.array([["a"] * 8] * 2), ["<U1"]),
        (np.array([[None] * 8] * 2), []),
    ],
)
def test_bad_sinograms(tmp_path, raises_with, array, named):
    path = tmp_path / "a.npy"
    np.save(path, array)
    with raises_with(InputError, path, *named):
        ct.read_sinogram(path, 8, 2)


def test_damaged_arrays(tmp_path, raises_with):
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((2, 8)))
    content = path.read_bytes()
    path.write_bytes(content[:-5])
    with raises_with(InputError, path):
        ct.read_sinogram(path, 8, 2)
    # A header that asks for a terabyte.
    path.write_bytes(content.replace(b"(2, 8)", b"(2, 99999999999)"))
    with raises_with(InputError, path):
        ct.read_sinogram(path, 8, 2)
    with raises_with(InputError, tmp_path / "b.npy"):
        ct.read_sinogram(tmp_path / "b.npy", 8, 2)


def test_slices_of_every_format(tmp_path):
    image = np.random.default_rng(0).random((6, 7))
    Image.fromarray(np.uint16(np.round(65535 * image))).save(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", image)
    np.save(tmp_path / "i.npy", np.uint16(np.round(65535 * image)))
    for name in ("a.png", "a.npy", "i.npy"):
        read = ct.read_slice(tmp_path / name)
        assert read.shape == (6, 7, 1)
        np.testing.assert_allclose(read[..., 0], image, atol=1e-5)


@pytest.mark.parametrize(
    ("array", "named"),
    [
        (np.zeros((2, 3, 4)), (2, 3, 4)),
        (np.zeros((0, 3)), (0, 3)),
        (np.full((2, 3), 2.0), "2 to 2"),
        (np.full((2, 3), -1, np.int16), f"{-1 / 32767:g}"),
        (np.full((2, 3), 200), "int64"),
    ],
)
def test_bad_slices(tmp_path, raises_with, array, named):
    path = tmp_path / "a.npy"
    np.save(path, array)
    with raises_with(InputError, path, named):
        ct.read_slice(path)
