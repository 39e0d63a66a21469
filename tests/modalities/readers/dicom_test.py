"""DICOM files as slices."""

import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.dataset import Dataset

from tfmetainit.io.errors import InputError
from tfmetainit.modalities import ct

_PIXELS = np.array([[0, 1000], [2000, 3000]])


def _slice(**changes):
    """A CT slice of 16-bit numbers, 1000 above its Hounsfield units."""
    image = Dataset()
    image.file_meta = pydicom.dataset.FileMetaDataset()
    image.file_meta.MediaStorageSOPClassUID = uid.CTImageStorage
    image.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    image.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    image.SOPClassUID, image.SOPInstanceUID = uid.CTImageStorage, "1.2.3"
    image.Modality, image.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    image.Rows, image.Columns = _PIXELS.shape
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated = image.BitsStored = 16
    image.HighBit, image.PixelRepresentation = 15, 0
    image.RescaleSlope, image.RescaleIntercept = 1, -1000
    image.PixelData = _PIXELS.astype("<u2").tobytes()
    for name, value in changes.items():
        setattr(image, name, value)
    return image


def _read(tmp_path, image, window=None, name="a.dcm"):
    image.save_as(tmp_path / name, enforce_file_format=True)
    return ct.read_slice(tmp_path / name, window)[..., 0]


@pytest.mark.parametrize("name", ["a.dcm", "IM.0001", "a", "A.IMA", "1.2.84"])
def test_hounsfield_units(tmp_path, name):
    read = _read(tmp_path, _slice(), name=name)
    np.testing.assert_allclose(read, [[0.0, 0.5], [1.0, 1.0]], atol=1e-6)
    read = _read(tmp_path, _slice(), (0, 4000), name)
    np.testing.assert_allclose(read, [[0.0, 0.0], [0.25, 0.5]], atol=1e-6)


def _enhanced():
    """One frame of enhanced CT: what holds for all lies in a sequence."""
    image = _slice(SOPClassUID=uid.EnhancedCTImageStorage, NumberOfFrames=1)
    del image.RescaleSlope, image.RescaleIntercept
    values, spacing = Dataset(), Dataset()
    values.RescaleSlope, values.RescaleIntercept = "0.5", "-1000"
    values.RescaleType = "HU"
    spacing.PixelSpacing = [0.5, 0.5]
    shared = Dataset()
    shared.PixelValueTransformationSequence = [values]
    shared.PixelMeasuresSequence = [spacing]
    image.SharedFunctionalGroupsSequence = [shared]
    return image


def test_enhanced_ct(tmp_path, raises_with):
    read = _read(tmp_path, _enhanced())
    np.testing.assert_allclose(read, [[0.0, 0.25], [0.5, 0.75]], atol=1e-6)
    of_frame = _enhanced()
    of_frame.PerFrameFunctionalGroupsSequence = (
        of_frame.SharedFunctionalGroupsSequence
    )
    del of_frame.SharedFunctionalGroupsSequence
    np.testing.assert_array_equal(_read(tmp_path, of_frame), read)
    several = _enhanced()
    several.NumberOfFrames = 2
    several.PixelData += several.PixelData
    with raises_with(InputError, "a.dcm", "2 frames"):
        _read(tmp_path, several)
    (shared,) = several.SharedFunctionalGroupsSequence
    shared.PixelMeasuresSequence[0].PixelSpacing = [0.5, 1.0]
    several.NumberOfFrames = 1
    with raises_with(InputError, "1 x 0.5"):
        _read(tmp_path, several)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"Modality": "MR"}, "Modality MR"),
        ({"RescaleSlope": None}, "RescaleSlope None"),
        ({"RescaleType": "US"}, "RescaleType US"),
        ({"SOPClassUID": uid.SecondaryCaptureImageStorage}, "Secondary"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "LOCALIZER"),
    ],
)
def test_other_units_need_a_window(tmp_path, raises_with, changes, named):
    with raises_with(InputError, "`window`", tmp_path / "a.dcm", named):
        _read(tmp_path, _slice(**changes))
    if "RescaleSlope" in changes:  # there is none
        del (image := _slice()).RescaleSlope
        with raises_with(InputError, "`window`", named):
            _read(tmp_path, image)
        assert _read(tmp_path, image, (0, 4000))[1, 1] == 0.75
    else:
        assert _read(tmp_path, _slice(**changes), (0, 4000))[1, 1] == 0.5


def test_inverted_pictures(tmp_path):
    """Hounsfield units are what they are; other values are shown inverted."""
    inverted = _slice(PhotometricInterpretation="MONOCHROME1")
    read = _read(tmp_path, inverted)
    np.testing.assert_allclose(read, [[0.0, 0.5], [1.0, 1.0]], atol=1e-6)
    inverted.Modality = "MR"
    read = _read(tmp_path, inverted, (-1000, 3000))
    np.testing.assert_allclose(read, [[1.0, 0.75], [0.5, 0.25]], atol=1e-6)


@pytest.mark.parametrize(
    ("padding", "expected"),
    [
        ({"PixelPaddingValue": 3000}, [[0.0, 0.5], [1.0, 0.0]]),
        (
            {"PixelPaddingValue": 3000, "PixelPaddingRangeLimit": 1500},
            [[0.0, 0.5], [0.0, 0.0]],
        ),
    ],
)
def test_padding(tmp_path, padding, expected):
    read = _read(tmp_path, _slice(**padding))
    np.testing.assert_allclose(read, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"PixelSpacing": [0.5, 0.7]}, "0.7 x 0.5"),
        ({"PixelAspectRatio": [2, 1]}, "1 x 2"),
        ({"PhotometricInterpretation": "RGB"}, "RGB"),
        ({"Rows": 60_000, "Columns": 60_000}, "60000 x 60000"),
    ],
)
def test_other_pictures_are_refused(tmp_path, raises_with, changes, named):
    for window in (None, (0, 1)):
        with raises_with(InputError, tmp_path / "a.dcm", named):
            _read(tmp_path, _slice(**changes), window)


@pytest.mark.parametrize("implicit", [True, False])
def test_files_without_a_preamble(tmp_path, implicit):
    image = _slice()
    path = tmp_path / "a.dcm"
    pydicom.dcmwrite(
        path,
        Dataset(image),
        implicit_vr=implicit,
        little_endian=True,
        enforce_file_format=False,
    )
    assert not pydicom.misc.is_dicom(path)
    read = ct.read_slice(path)[..., 0]
    np.testing.assert_allclose(read, [[0.0, 0.5], [1.0, 1.0]], atol=1e-6)


def test_damaged_files(tmp_path, raises_with):
    path = tmp_path / "a.dcm"
    _read(tmp_path, _slice())
    path.write_bytes(path.read_bytes()[:-4])
    with raises_with(InputError, path):
        ct.read_slice(path)
    for content in (b"not DICOM at all", b"", b"\0" * 1000):
        path.write_bytes(content)
        with raises_with(InputError, path):
            ct.read_slice(path)


def test_files_without_a_picture(tmp_path, raises_with):
    image = _slice()
    del image.Rows, image.PixelData
    with raises_with(InputError, tmp_path / "a.dcm", "picture"):
        _read(tmp_path, image)
    (tmp_path / "a.nii").write_bytes(b"another format")
    with raises_with(InputError, tmp_path / "a.nii", ".dcm"):
        ct.read_slice(tmp_path / "a.nii")


def test_a_slice_of_a_scanner():
    """CT_small.dcm of pydicom's own tests."""
    path = pydicom.data.get_testdata_file("CT_small.dcm", download=False)
    read = ct.read_slice(path)[..., 0]
    stored = pydicom.dcmread(path).pixel_array
    expected = np.clip((stored - 1024.0 + 1000.0) / 2000.0, 0.0, 1.0)
    np.testing.assert_allclose(read, expected, atol=1e-6)
