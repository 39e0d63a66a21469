"""DICOM files as slices."""

import numpy as np

from tfmetainit.io.errors import InputError
from tfmetainit.modalities import ct


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


def test_dicom(tmp_path, raises_with):
    path = tmp_path / "a.dcm"
    _write_dicom(path, np.array([[0, 1000], [2000, 3000]]))
    read = ct.read_slice(path)[..., 0]
    np.testing.assert_allclose(read, [[0.0, 0.5], [1.0, 1.0]], atol=1e-6)
    path.write_bytes(path.read_bytes()[:-4])
    with raises_with(InputError, path):
        ct.read_slice(path)
    path.write_bytes(b"not DICOM at all")
    with raises_with(InputError, path):
        ct.read_slice(path)
