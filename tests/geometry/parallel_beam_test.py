"""The NumPy side of tomography: projection, reconstruction, files."""

import numpy as np
import pytest
import skimage.data
import skimage.transform
import tensorflow as tf
from PIL import Image

from tfmetainit.forward_models.parallel_beam import ParallelBeam
from tfmetainit.geometry import metrics, parallel_beam
from tfmetainit.io.errors import InputError
from tfmetainit.modalities import ct


@pytest.mark.parametrize("interpolation", parallel_beam.INTERPOLATIONS)
@pytest.mark.parametrize("side", [16, 33])
def test_numpy_projects_as_tensorflow(interpolation, side):
    """Multiples of 45 degrees included, where pixels are halfway."""
    image = np.random.default_rng(0).random((side, side), np.float32)
    angles = np.float32(np.radians([0, 10, 45, 90, 135, 180, 300]))
    beam = ParallelBeam(side, interpolation)
    expected = beam.project(tf.constant(image.ravel()), tf.constant(angles))
    np.testing.assert_allclose(
        parallel_beam.project(image, angles, interpolation), expected, atol=1e-6
    )


@pytest.mark.parametrize("side", [64, 65])
def test_filtered_back_projection_of_many_views(side):
    """With one view for each detector and more, the image comes back."""
    phantom = skimage.transform.resize(
        skimage.data.shepp_logan_phantom(), (side, side), anti_aliasing=True
    )
    angles = parallel_beam.even_angles(2 * side)
    sinogram = parallel_beam.project(phantom, angles, "bilinear")
    image = parallel_beam.filtered_back_projection(sinogram, angles)
    psnr = metrics.psnr_from_mse(np.mean((image - phantom) ** 2))
    shifted = np.roll(phantom, 1, axis=0)
    assert psnr > 24.0
    # Were the centres half a pixel apart, a shift would matter less.
    assert psnr > metrics.psnr_from_mse(np.mean((image - shifted) ** 2)) + 4.0


def test_angles():
    np.testing.assert_allclose(
        ct.parse_angles("0, 45,180"), [0.0, np.pi / 4, np.pi]
    )


@pytest.mark.parametrize(
    "text", ["", "a,b", "0,360", "-1", "nan", "0;1", ",".join(["1"] * 2000)]
)
def test_bad_angles(text):
    with pytest.raises(InputError, match="--angles must be 1 to 1024 degrees"):
        ct.parse_angles(text)


def test_angles_from_a_file(tmp_path):
    np.save(tmp_path / "angles.npy", np.array([0.0, 90.0]))
    np.testing.assert_allclose(
        ct.parse_angles(str(tmp_path / "angles.npy")), [0, np.pi / 2]
    )


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 8)), "2 x 8. Received: .* of shape \\(3, 8\\)"),
        (np.zeros((8, 2)), "transpose it"),
        (np.full((2, 8), np.nan), "16 numbers that are NaN or infinite"),
        (np.full((2, 8), 8.0), "divide sums by 8. Received: .* 8 to 8"),
        (np.array([["a"] * 8] * 2), "must hold integers or floating-point"),
        (np.array([[None] * 8] * 2), "is not a .npy file of numbers"),
    ],
)
def test_bad_sinograms(tmp_path, array, message):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(InputError, match=message):
        ct.read_sinogram(tmp_path / "a.npy", 8, 2)


def test_damaged_arrays(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((2, 8)))
    content = path.read_bytes()
    path.write_bytes(content[:-5])
    with pytest.raises(InputError, match="is not a .npy file"):
        ct.read_sinogram(path, 8, 2)
    # A header that asks for a terabyte.
    path.write_bytes(content.replace(b"(2, 8)", b"(2, 99999999999)"))
    with pytest.raises(InputError, match="is not a .npy file"):
        ct.read_sinogram(path, 8, 2)
    with pytest.raises(InputError, match="There is no file"):
        ct.read_sinogram(tmp_path / "b.npy", 8, 2)


def test_slices_of_every_kind(tmp_path):
    image = np.random.default_rng(0).random((6, 7))
    Image.fromarray(np.uint16(np.round(65535 * image))).save(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", image)
    np.save(tmp_path / "i.npy", np.uint16(np.round(65535 * image)))
    for name in ("a.png", "a.npy", "i.npy"):
        read = ct.read_slice(tmp_path / name)
        assert read.shape == (6, 7, 1)
        np.testing.assert_allclose(read[..., 0], image, atol=1e-5)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 3, 4)), "two axes"),
        (np.zeros((0, 3)), "two axes"),
        (np.full((2, 3), 2.0), "must be in \\[0, 1\\]"),
        (np.full((2, 3), -1, np.int16), "must be in \\[0, 1\\]"),
        (np.full((2, 3), 200), "8 or 16 bits: .* of int64"),
    ],
)
def test_bad_slices(tmp_path, array, message):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(InputError, match=message):
        ct.read_slice(tmp_path / "a.npy")


def _write_dicom(path, pixels):
    """A CT slice of 16-bit numbers, 1000 above its Hounsfield units."""
    import pydicom
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image = pydicom.dataset.Dataset()
    image.file_meta = meta
    image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, "1.2.3"
    image.Rows, image.Columns = pixels.shape
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated = image.BitsStored = 16
    image.HighBit, image.PixelRepresentation = 15, 0
    image.RescaleSlope, image.RescaleIntercept = 1, -1000
    image.PixelData = pixels.astype("<u2").tobytes()
    image.save_as(path, enforce_file_format=True)


def test_dicom(tmp_path):
    path = tmp_path / "a.dcm"
    _write_dicom(path, np.array([[0, 1000], [2000, 3000]]))
    read = ct.read_slice(path)[..., 0]
    np.testing.assert_allclose(read, [[0.0, 0.5], [1.0, 1.0]], atol=1e-6)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(InputError, match="The DICOM file .* cannot be read"):
        ct.read_slice(path)
    path.write_bytes(b"not DICOM at all")
    with pytest.raises(InputError, match="The DICOM file .* cannot be read"):
        ct.read_slice(path)
