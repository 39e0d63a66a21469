"""Parallel-beam tomography in NumPy: conventions, projection, files.

An image x `[R, R]` is indexed by row i and column j, with the axes (horizontal
to the right, vertical downwards) and its centre c = (R - 1) / 2. The projection
A_phi for the angle phi turns the image by phi about its centre and takes the
mean of each column:

    (A_phi x)[j] = mean_i x(c + (i - c) cos phi - (j - c) sin phi,
                            c + (i - c) sin phi + (j - c) cos phi)

(rows first), with x read at the nearest pixel or bilinearly, and 0 outside of
the image. At phi = 0 these are the means of the columns. A sinogram `[views,
R]` has one row for each angle; of an image in [0, 1] it is in [0, 1]. For odd R
and images that vanish outside of the inscribed circle, the bilinear one is R
times smaller than `skimage.transform.radon`, transposed, and equal otherwise:
the centre of rotation of that one is pixel R // 2 (tests/tomography_test.py).
The code of Tancik et al. 2021 turns the other way, about pixel R / 2: its angle
is minus ours, and its sinograms lie half a pixel apart.

Imports neither TensorFlow nor Keras: a device that runs an exported artifact
prepares its sinograms with this module. `forward_models.ParallelBeam` is the
same projection, differentiable.
"""

import math
import pathlib

import numpy as np

from tfmetainit import files, image_files, pixels
from tfmetainit.errors import InputError, reason

INTERPOLATIONS = ("nearest", "bilinear")
# Of two nearest pixels, the later one is read. At multiples of pi / 4, whole
# diagonals lie halfway: there, how a runtime rounds its sines must not decide.
TIE = 1e-4
MAX_VIEWS = 1024
# Noise may take a measured sinogram a little out of [0, 1].
_NOISE = 0.1
# Hounsfield units of air and of twice the attenuation of water: 0 and 1.
_HOUNSFIELD = (-1000.0, 1000.0)

SLICE_SUFFIXES = image_files.IMAGE_SUFFIXES | {".npy", ".dcm"}


def slice_coords(resolution: int) -> np.ndarray:
    """Coordinates of a CT slice's pixels, float32 `[R * R, 2]` in [0, 1).

    As `pixels.pixel_coords`, but column first (Tancik et al. 2021, CT notebook:
    "xy" indexing).
    """
    return np.ascontiguousarray(
        pixels.pixel_coords(resolution, resolution)[:, ::-1]
    )


def even_angles(views: int) -> np.ndarray:
    """`views` angles, float32 in [0, pi), evenly spaced from 0."""
    return np.linspace(0.0, math.pi, views, endpoint=False, dtype=np.float32)


def check_interpolation(interpolation: str) -> None:
    """Raises ValueError unless there is such an interpolation."""
    if interpolation not in INTERPOLATIONS:
        raise ValueError(
            f"`interpolation` must be one of {INTERPOLATIONS}. Received: "
            f"interpolation={interpolation!r}"
        )


def project(
    image: np.ndarray, angles: np.ndarray, interpolation: str = "nearest"
) -> np.ndarray:
    """The sinogram, float32 `[views, R]`, of an image `[R, R]`.

    Args:
        image: floats.
        angles: in radians, `[views]`.
        interpolation: "nearest" or "bilinear".

    Raises:
        ValueError: if `interpolation` is neither.
    """
    check_interpolation(interpolation)
    side = len(image)
    center = (side - 1) / 2.0
    # Nothing but zeros is around the image; what is further away is, too.
    padded = np.pad(np.asarray(image, np.float32), 1)
    offset = np.arange(side, dtype=np.float32) - np.float32(center)
    i, j = offset[:, None], offset[None, :]

    def read(row, column):
        row = np.clip(row, -1, side).astype(np.int64) + 1
        column = np.clip(column, -1, side).astype(np.int64) + 1
        return padded[row, column]

    sinogram = []
    for angle in np.asarray(angles, np.float32):
        row = center + i * np.cos(angle) - j * np.sin(angle)
        column = center + i * np.sin(angle) + j * np.cos(angle)
        if interpolation == "nearest":
            turned = read(
                np.floor(row + 0.5 + TIE), np.floor(column + 0.5 + TIE)
            )
        else:
            top, left = np.floor(row), np.floor(column)
            down, right = row - top, column - left
            turned = (1 - down) * (
                (1 - right) * read(top, left) + right * read(top, left + 1)
            ) + down * (
                (1 - right) * read(top + 1, left)
                + right * read(top + 1, left + 1)
            )
        sinogram.append(turned.mean(axis=0))
    return np.asarray(sinogram, np.float32)


def filtered_back_projection(
    sinogram: np.ndarray, angles: np.ndarray
) -> np.ndarray:
    """The classical reconstruction, with the ramp filter of scikit-image.

    Args:
        sinogram: `[views, R]`.
        angles: in radians, `[views]`.

    Returns:
        An image `[R, R]`, clipped to [0, 1].

    Raises:
        ModuleNotFoundError: without scikit-image (`pip install
            tfmetainit[ct]`).
    """
    from skimage.transform import iradon

    side = sinogram.shape[1]
    if side % 2 == 0:
        # For even R, scikit-image's centre is half a pixel from ours, in the
        # image and along the detectors: each view is shifted to match.
        frequencies = np.fft.rfftfreq(2 * side)
        shift = 0.5 * (np.cos(angles) - np.sin(angles) - 1.0)
        spectrum = np.fft.rfft(sinogram, 2 * side, axis=1)
        spectrum *= np.exp(2j * np.pi * np.outer(shift, frequencies))
        sinogram = np.fft.irfft(spectrum, axis=1)[:, :side]
    image = iradon(
        np.float64(sinogram.T) * side, np.degrees(angles), circle=True
    )
    return np.clip(image, 0.0, 1.0)


def parse_angles(text: str) -> np.ndarray:
    """Angles in radians of "0,45,90,135", or of a .npy file of degrees.

    Returns:
        float32 `[views]`, in [0, 2 pi).

    Raises:
        InputError: if they are not 1 to 1024 numbers of degrees in [0, 360).
    """
    if text.lower().endswith(".npy"):
        degrees = files.read_array(text)
    else:
        try:
            degrees = np.array([float(part) for part in text.split(",")])
        except ValueError:
            degrees = np.array([math.nan])
    degrees = np.asarray(degrees, np.float64)
    if (
        degrees.ndim != 1
        or not 1 <= len(degrees) <= MAX_VIEWS
        or not np.all((degrees >= 0.0) & (degrees < 360.0))
    ):
        raise InputError(
            f"--angles must be 1 to {MAX_VIEWS} degrees in [0, 360), for "
            "example 0,45,90,135, or a .npy file of them. Received: "
            f"{text[:100]!r}"
        )
    return np.radians(degrees).astype(np.float32)


def read_sinogram(path, resolution: int, views: int) -> np.ndarray:
    """Reads a sinogram from a .npy file.

    Returns:
        float32 `[views, resolution]`.

    Raises:
        InputError: if the file's shape or its values are not a sinogram's.
    """
    sinogram = files.read_array(path)
    if sinogram.shape != (views, resolution):
        hint = ""
        if sinogram.shape == (resolution, views):
            hint = ": transpose it"
        raise InputError(
            "A sinogram must have one row for each angle and one column for "
            f"each pixel of the trained resolution, {views} x {resolution}. "
            f"Received: {path} of shape {sinogram.shape}{hint}"
        )
    low, high = float(sinogram.min()), float(sinogram.max())
    if low < -_NOISE or high > 1.0 + _NOISE:
        raise InputError(
            "A sinogram must hold means along the rays, in [0, 1]; divide sums "
            f"by {resolution}. Received: {path} with values from {low:g} to "
            f"{high:g}"
        )
    return sinogram.astype(np.float32)


def read_slice(path) -> np.ndarray:
    """Reads a slice from an image, .npy or DICOM file.

    Colours are averaged. Of arrays, floats must be in [0, 1]; integers must
    have 8 or 16 bits, and are divided by the largest one of their type. DICOM's
    Hounsfield units are mapped from [-1000, 1000] to [0, 1] and clipped; it
    needs pydicom (`pip install tfmetainit[ct]`).

    Returns:
        float32 `[height, width, 1]` in [0, 1].

    Raises:
        InputError: with one sentence saying what is wrong with the file.
    """
    suffix = pathlib.Path(path).suffix.lower()
    if suffix == ".dcm":
        return _read_dicom(path)[..., None]
    if suffix != ".npy":
        return image_files.read_image(path).mean(axis=-1, keepdims=True)
    array = files.read_array(path)
    if array.ndim != 2 or not array.size:
        raise InputError(
            "A slice must be an array of two axes, height and width. "
            f"Received: {path} of shape {array.shape}"
        )
    if array.dtype.kind in "iu":
        if array.dtype.itemsize > 2:
            raise InputError(
                "The integers of a slice must have 8 or 16 bits: who knows the "
                f"largest of others. Received: {path} of {array.dtype}"
            )
        array = array / float(np.iinfo(array.dtype).max)
    low, high = float(array.min()), float(array.max())
    if low < 0.0 or high > 1.0:
        raise InputError(
            "The floats of a slice must be in [0, 1], its integers not "
            f"negative. Received: {path} with values from {low:g} to {high:g}"
        )
    return array.astype(np.float32)[..., None]


def _read_dicom(path):
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
        if height * width > image_files.MAX_IMAGE_PIXELS:
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
