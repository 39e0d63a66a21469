"""Angles, and sinograms in arrays, pictures and HDF5."""

import h5py
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from tfmetainit.geometry import parallel_beam
from tfmetainit.io.errors import InputError
from tfmetainit.modalities.readers import sinograms


def test_angles():
    np.testing.assert_allclose(
        sinograms.parse_angles("0, 45,180"), [0.0, np.pi / 4, np.pi]
    )
    np.testing.assert_array_equal(sinograms.parse_angles("0,360"), [0.0, 0.0])


@pytest.mark.parametrize(
    "text", ["", "a,b", "0,361", "-1", "nan", "0;1", ",".join(["1"] * 5000)]
)
def test_bad_angles(raises_with, text):
    most = sinograms.MAX_PROJECTIONS
    with raises_with(InputError, "`angles`", most, text[:100]):
        sinograms.parse_angles(text)


def test_angles_from_a_file(tmp_path):
    np.save(tmp_path / "angles.npy", np.array([0.0, 90.0]))
    np.testing.assert_allclose(
        sinograms.parse_angles(str(tmp_path / "angles.npy")), [0, np.pi / 2]
    )


@pytest.mark.parametrize(
    ("array", "named"),
    [
        (np.zeros((3, 8)), ["2 x 2", (3, 8)]),
        (np.zeros((8, 2)), ["transpose", (8, 2)]),
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
        sinograms.read_sinogram(path, 8, "0,90")


def test_damaged_arrays(tmp_path, raises_with):
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((2, 8)))
    content = path.read_bytes()
    path.write_bytes(content[:-5])
    with raises_with(InputError, path):
        sinograms.read_sinogram(path, 8, "0,90")
    # A header that asks for a terabyte.
    path.write_bytes(content.replace(b"(2, 8)", b"(2, 99999999999)"))
    with raises_with(InputError, path):
        sinograms.read_sinogram(path, 8, "0,90")
    with raises_with(InputError, tmp_path / "b.npy"):
        sinograms.read_sinogram(tmp_path / "b.npy", 8, 2)


def _disc(side, center, radius):
    rows, columns = np.mgrid[:side, :side] + 0.5
    inside = np.hypot(rows - center[0], columns - center[1])
    return np.float32(np.clip(radius - inside + 0.5, 0.0, 1.0))


@pytest.mark.parametrize(("first", "last"), [(0, 96), (11, 96), (0, 90)])
def test_other_numbers_of_detectors(tmp_path, first, last):
    """Three times as many detectors, also with some cut off on one side."""
    fine = parallel_beam.project(_disc(96, (40, 55), 20), [0.0, 1.0])
    small = _disc(32, (40 / 3, 55 / 3), 20 / 3)
    coarse = parallel_beam.project(small, [0.0, 1.0])
    path = tmp_path / "a.npy"
    np.save(path, fine[:, first:last])
    angles = f"0,{np.degrees(1.0)}"
    radians, read = sinograms.read_sinogram(
        path, 32, angles, center=47.5 - first
    )
    np.testing.assert_allclose(radians, [0.0, 1.0], atol=1e-6)
    assert read.shape == (2, 32)
    np.testing.assert_allclose(read, coarse, atol=0.03)
    if last - first < 96:  # the axis is not in the middle
        _, read = sinograms.read_sinogram(path, 32, angles)
        assert np.abs(read - coarse).max() > 0.05


def test_a_scan_that_turns_the_other_way(tmp_path):
    """As the authors' code has it: clockwise, about pixel R / 2."""
    side, degrees = 64, np.array([10.0, 75.0, 200.0])
    image = _disc(side, (25, 39), 9)
    offset = np.arange(side) - side / 2
    i, j = offset[:, None], offset[None, :]
    theirs = []
    for angle in np.radians(degrees):
        rows = side / 2 + i * np.cos(angle) + j * np.sin(angle)
        columns = side / 2 - i * np.sin(angle) + j * np.cos(angle)
        turned = ndimage.map_coordinates(image, [rows, columns], order=1)
        theirs.append(turned.mean(axis=0))
    np.save(tmp_path / "theirs.npy", theirs)
    radians, read = sinograms.read_sinogram(
        tmp_path / "theirs.npy",
        side + 1,
        ",".join(f"{360 - degree:g}" for degree in degrees),
        center=side / 2,
        scale=side / (side + 1),
    )
    # The square around their axis has a row and a column more.
    around = np.pad(image, [(0, 1), (0, 1)])
    expected = parallel_beam.project(around, radians, "bilinear")
    np.testing.assert_allclose(read, expected, atol=1e-4)


def test_scales_are_named_in_the_error(tmp_path, raises_with):
    image = _disc(8, (4, 4), 3)
    sums = 8 * parallel_beam.project(image, [0.0])
    np.save(tmp_path / "a.npy", sums)
    with raises_with(InputError, "`scale`=0.125", f"{sums.max():g}"):
        sinograms.read_sinogram(tmp_path / "a.npy", 8, "0")
    _, read = sinograms.read_sinogram(tmp_path / "a.npy", 8, "0", scale=0.125)
    np.testing.assert_allclose(read, sums / 8)
    with raises_with(InputError, "`center`", "8 detectors"):
        sinograms.read_sinogram(tmp_path / "a.npy", 8, "0", center=8)
    with raises_with(InputError, "`row`"):
        sinograms.read_sinogram(tmp_path / "a.npy", 8, "0", row=1)


@pytest.fixture
def exchange(tmp_path):
    """Counts of a scan of two rows, and the sinogram of the second."""
    degrees = np.array([0.0, 60.0, 120.0])
    sinogram = parallel_beam.project(_disc(8, (3, 4), 3), np.radians(degrees))
    counts = 20 + 1000 * np.exp(-np.stack([0 * sinogram, sinogram], axis=1))
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["exchange/data"] = np.float32(counts)
        file["exchange/data_white"] = np.full((5, 2, 8), 1020, np.uint16)
        file["exchange/data_dark"] = np.full((5, 2, 8), 20, np.uint16)
        file["exchange/theta"] = degrees
    return tmp_path / "scan.h5", degrees, sinogram


def test_hdf5_in_the_exchange_layout(exchange, raises_with):
    path, degrees, sinogram = exchange
    radians, read = sinograms.read_sinogram(path, 8, None, row=1)
    np.testing.assert_allclose(radians, np.radians(degrees), atol=1e-6)
    np.testing.assert_allclose(read, sinogram, atol=1e-5)
    radians, _ = sinograms.read_sinogram(path, 8, "1,2,3", row=1)
    np.testing.assert_allclose(radians, np.radians([1, 2, 3]), atol=1e-6)
    for row in (None, 2, -1):
        with raises_with(InputError, "`row`", "2 rows"):
            sinograms.read_sinogram(path, 8, None, row=row)
    with h5py.File(path, "r+") as file:
        file["exchange/theta"][:] = np.radians(degrees)
    # As h5py writes a string, and as C and MATLAB do.
    for unit in ("rad", np.bytes_(b"radians"), [np.bytes_(b"Radian")]):
        with h5py.File(path, "r+") as file:
            file["exchange/theta"].attrs["units"] = unit
        radians, _ = sinograms.read_sinogram(path, 8, None, row=1)
        np.testing.assert_allclose(radians, np.radians(degrees), atol=1e-6)


def test_detectors_that_are_dark(exchange):
    """Flat fields of any unit; a dead detector has nothing to say."""
    path, _, sinogram = exchange
    with h5py.File(path, "r+") as file:
        for name in ("data", "data_white", "data_dark"):
            values = file[f"exchange/{name}"][()] / 5000.0
            if name == "data_white":
                values[:, 1, 3] = 20 / 5000.0  # no more than in the dark
            del file[f"exchange/{name}"]
            file[f"exchange/{name}"] = values
    _, read = sinograms.read_sinogram(path, 8, None, row=1)
    sinogram[:, 3] = 0.0
    np.testing.assert_allclose(read, sinogram, atol=1e-3)


def test_files_of_several_pictures(tmp_path, raises_with):
    pages = [Image.fromarray(np.zeros((4, 8), np.float32))] * 2
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    with raises_with(InputError, tmp_path / "a.tif", "with 2"):
        sinograms.read_sinogram(tmp_path / "a.tif", 8, "0,1,2,3")


def test_damaged_hdf5(exchange, tmp_path, raises_with):
    path, *_ = exchange
    for name in ("data", "theta"):
        with h5py.File(tmp_path / "other.h5", "w") as file:
            file[f"exchange/{name}"] = np.zeros(3)
        with raises_with(InputError, "exchange/data", "other.h5"):
            sinograms.read_sinogram(tmp_path / "other.h5", 8, None)
    with h5py.File(path, "r+") as file:
        del file["exchange/data_white"]
        file["exchange/data_white"] = np.zeros([5, 2, 7])
    with raises_with(InputError, path, "data_white", (5, 2, 7)):
        sinograms.read_sinogram(path, 8, None, row=1)
    with h5py.File(path, "r+") as file:
        del file["exchange/data_white"]
    with raises_with(InputError, path, "data_white"):
        sinograms.read_sinogram(path, 8, None, row=1)
    path.write_bytes(path.read_bytes()[:500])
    with raises_with(InputError, path):
        sinograms.read_sinogram(path, 8, None)
    with h5py.File(path, "w") as file:  # a terabyte that is not there
        file.create_dataset("exchange/data", (10**6, 1, 10**6), chunks=True)
        file["exchange/theta"] = np.zeros(2)
    with raises_with(InputError, "100000000"):
        sinograms.read_sinogram(path, 8, None)
