"""CT slices in DICOM files (needs pydicom: `pip install tfmetainit[ct]`)."""

import warnings

import numpy as np

from tfmetainit.io import files, images
from tfmetainit.io.errors import InputError, reason

# Hounsfield units that become 0 and 1: air, and twice the density of water.
HOUNSFIELD = (-1000.0, 1000.0)
# Where a file of frames keeps what holds for all of them, or for each.
_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_SQUARE = 0.01  # relative difference of the sides of a pixel


def read_dicom(path, window: tuple[float, float] | None = None) -> np.ndarray:
    """Reads a slice; the values of a window become [0, 1], clipped.

    The modality's rescale is applied first. Padding becomes 0. The file needs
    no suffix and no preamble.

    Args:
        path: a file of one frame of grey, square pixels.
        window: the values, after the rescale, that become 0 and 1. By default
            -1000 and 1000 Hounsfield units, which only a CT slice may have. A
            given window may be that of any modality; where a small value is
            bright (MONOCHROME1), the picture is inverted.

    Returns:
        float32 `[height, width]`.

    Raises:
        InputError: if pydicom is missing, or the file is damaged or no such
            slice.
    """
    try:
        import pydicom
    except ModuleNotFoundError as error:
        raise InputError(
            f"Reading {path} needs pydicom: pip install tfmetainit[ct]."
        ) from error
    files.check_size(path, files.MAX_ARRAY_BYTES)
    with warnings.catch_warnings():
        # pydicom warns of values that it can read nevertheless.
        warnings.simplefilter("ignore")
        return _read(pydicom, path, window)


def _read(pydicom, path, window):
    try:
        # Old files have no preamble. Any other file yields no picture.
        old = not pydicom.misc.is_dicom(path)
        header = pydicom.dcmread(path, stop_before_pixels=True, force=old)
        if not {"Rows", "Columns"} <= set(header.dir()):
            raise InputError(f"{path} is not a DICOM file with a picture.")
        _check_header(header, path)
        rescale = _functional_group(header, "PixelValueTransformationSequence")
        if window is None:
            _check_hounsfield(header, rescale, path)
        image = pydicom.dcmread(path, force=old)
        if "TransferSyntaxUID" not in image.file_meta:
            image.file_meta.TransferSyntaxUID = (
                pydicom.uid.ImplicitVRLittleEndian
                if image.original_encoding[0]
                else pydicom.uid.ExplicitVRLittleEndian
            )
        stored = image.pixel_array
        padding = _padding(image, stored)
        values = pydicom.pixels.apply_modality_lut(stored, rescale)
        values = values.astype(np.float32)
    except InputError:
        raise
    # Damaged files make pydicom raise errors of many kinds.
    except Exception as error:
        raise InputError(
            f"The DICOM file {path} cannot be read: {reason(error)}."
        ) from error
    if not np.isfinite(values).all():
        raise InputError(f"The DICOM file {path} holds NaN or infinity.")
    inverted = window is not None and (
        header.PhotometricInterpretation == "MONOCHROME1"
    )
    low, high = window or HOUNSFIELD
    picture = np.clip((values - low) / (high - low), 0.0, 1.0)
    if inverted:
        picture = 1.0 - picture
    return np.where(padding, np.float32(0.0), picture)


def _check_header(header, path):
    """Raises InputError unless the file has one frame of square grey pixels."""
    height, width = int(header.Rows), int(header.Columns)
    frames = int(header.get("NumberOfFrames") or 1)
    colors = header.get("PhotometricInterpretation")
    spacing = _functional_group(header, "PixelMeasuresSequence").get(
        "PixelSpacing"
    ) or header.get("PixelAspectRatio")
    down, right = map(float, spacing or (1.0, 1.0))
    if frames != 1:
        problem = f"{frames} frames; write each into a file of its own"
    elif colors not in ("MONOCHROME1", "MONOCHROME2"):
        problem = f"PhotometricInterpretation {colors}"
    elif height * width > images.MAX_IMAGE_PIXELS:
        problem = f"{width} x {height} pixels"
    elif not abs(down - right) <= _SQUARE * max(down, right):
        problem = f"pixels of {right:g} x {down:g}; resample it"
    else:
        return
    raise InputError(
        "A DICOM file must hold one frame of grey, square pixels. Received: "
        f"{path} with {problem}"
    )


def _check_hounsfield(header, rescale, path):
    """Raises InputError unless the values are Hounsfield units."""
    from pydicom import uid

    classes = (
        uid.CTImageStorage,
        uid.EnhancedCTImageStorage,
        uid.LegacyConvertedEnhancedCTImageStorage,
    )
    kind = header.get("SOPClassUID")
    stated = {
        "Modality": header.get("Modality"),
        "RescaleSlope": rescale.get("RescaleSlope"),
        "RescaleIntercept": rescale.get("RescaleIntercept"),
        "RescaleType": rescale.get("RescaleType"),
        "ImageType": str(header.get("ImageType")),
    }
    if (
        stated["Modality"] != "CT"
        or kind not in (None, *classes)
        or None in (stated["RescaleSlope"], stated["RescaleIntercept"])
        or stated["RescaleType"] not in (None, "", "HU")
        or "LOCALIZER" in stated["ImageType"]
        or header.get("ModalityLUTSequence")
    ):
        names = ", ".join(f"{name} {value}" for name, value in stated.items())
        raise InputError(
            "Without `window`, the values that become 0 and 1, a DICOM file "
            "must be a CT slice in Hounsfield units. Received: "
            f"{path} ({getattr(kind, 'name', kind)}) with {names}"
        )


def _functional_group(header, name):
    """The dataset that holds a group of attributes.

    A file of enhanced CT keeps them in a sequence, for all frames or for each;
    other files keep them at the top.
    """
    for group in _GROUPS:
        for item in header.get(group) or ():
            if item.get(name):
                return item[name].value[0]
    return header


def _padding(image, stored):
    """Where the stored values are padding, `[height, width]`."""
    first = image.get("PixelPaddingValue")
    if first is None:
        return np.zeros(stored.shape, bool)
    last = image.get("PixelPaddingRangeLimit")
    low, high = sorted((first, first if last is None else last))
    return (stored >= low) & (stored <= high)
