"""CT slices in DICOM files (needs pydicom: `pip install tfmetainit[ct]`)."""

import numpy as np

from tfmetainit.io import files, images
from tfmetainit.io.errors import InputError, reason

# Hounsfield units that become 0 and 1: air, and twice the density of water.
_HOUNSFIELD = (-1000.0, 1000.0)


def read_dicom(path) -> np.ndarray:
    """Reads a slice; Hounsfield units in [-1000, 1000] become [0, 1], clipped.

    Returns:
        float32 `[height, width]`.

    Raises:
        InputError: if pydicom is missing, or the file is damaged or holds more
            than one grey picture.
    """
    try:
        import pydicom
    except ModuleNotFoundError as error:
        raise InputError(
            f"Reading {path} needs pydicom: pip install tfmetainit[ct]."
        ) from error
    files.check_size(path, files.MAX_ARRAY_BYTES)
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True)
        height, width = int(header.Rows), int(header.Columns)
        frames = int(header.get("NumberOfFrames", 1))
        if frames != 1 or int(header.get("SamplesPerPixel", 1)) != 1:
            raise ValueError("it holds more than one grey picture")
        if height * width > images.MAX_IMAGE_PIXELS:
            raise ValueError(f"it has {width} x {height} pixels")
        image = pydicom.dcmread(path)
        pixels = image.pixel_array.astype(np.float32)
        pixels *= float(image.get("RescaleSlope", 1.0))
        pixels += float(image.get("RescaleIntercept", 0.0))
    # Damaged files make pydicom raise errors of many kinds.
    except Exception as error:
        raise InputError(
            f"The DICOM file {path} cannot be read: {reason(error)}."
        ) from error
    if not np.isfinite(pixels).all():
        raise InputError(f"The DICOM file {path} holds NaN or infinity.")
    low, high = _HOUNSFIELD
    return np.clip((pixels - low) / (high - low), 0.0, 1.0)
