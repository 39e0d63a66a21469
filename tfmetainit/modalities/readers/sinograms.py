"""Sinograms: arrays, TIFF and other pictures, and HDF5 in the exchange layout.

`geometry.parallel_beam` states the conventions of a sinogram.
"""

import math

import numpy as np
from PIL import Image

from tfmetainit.io import files, images
from tfmetainit.io.errors import InputError, reason

MAX_PROJECTIONS = 4096
HDF5_SUFFIXES = frozenset([".h5", ".hdf", ".hdf5", ".nxs"])
# How far noise may take the values of a measured sinogram out of [0, 1].
_NOISE = 0.1
_DARKEST = 1e-6  # a smaller transmission is noise; 0 has no logarithm


def parse_angles(text: str) -> np.ndarray:
    """Parses angles in degrees.

    Args:
        text: angles such as "0,45,90,135", or the path of a .npy file.

    Returns:
        Angles in radians, float32 `[projections]`, in [0, 2 pi).

    Raises:
        InputError: if they are not 1 to 4096 numbers of degrees in [0, 360].
    """
    if text.lower().endswith(".npy"):
        return _radians(files.read_array(text), text)
    try:
        degrees = [float(part) for part in text.split(",")]
    except ValueError:
        degrees = [math.nan]
    return _radians(degrees, text)


def _radians(degrees, source):
    degrees = np.asarray(degrees, np.float64)
    if (
        degrees.ndim != 1
        or not 1 <= len(degrees) <= MAX_PROJECTIONS
        or not np.all((degrees >= 0.0) & (degrees <= 360.0))
    ):
        raise InputError(
            f"`angles` must be 1 to {MAX_PROJECTIONS} degrees in [0, 360], for "
            "example 0,45,90,135, or a .npy file of them. Received: "
            f"{str(source)[:100]!r}"
        )
    return np.radians(degrees % 360.0).astype(np.float32)


def read_sinogram(
    path,
    resolution: int,
    angles: str | None,
    *,
    scale: float = 1.0,
    center: float | None = None,
    row: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Reads a sinogram for slices of R x R pixels.

    Each row of the file is the projection at one angle. The slice is the square
    around the axis of rotation that the detectors cover; those that are missing
    on one side of the axis read 0. Another number of detectors than R is
    resampled with antialiasing.

    Args:
        path: a .npy file or a floating-point TIFF; another picture, whose
            whole numbers are divided by the largest of their type; or an HDF5
            file with exchange/data `[angles, rows, detectors]`, exchange/theta
            in degrees and, for raw counts, exchange/data_white and data_dark. A
            detector that is dark in data_white reads 0.
        resolution: R.
        angles: angles in degrees (`parse_angles`); None for those of an HDF5
            file.
        scale: factor that makes the values means along the rays through the
            square, in [0, 1]. Sums over its D pixels need 1 / D.
        center: the detector in front of the axis of rotation, counted from 0;
            by default the middle, (detectors - 1) / 2.
        row: the row of an HDF5 file with more than one.

    Returns:
        Angles in radians, float32 `[projections]`, and the sinogram, float32
        `[projections, R]`.

    Raises:
        InputError: if the file is damaged, or its shape or values are not
            those of a sinogram.
    """
    is_hdf5 = files.suffix_of(path) in HDF5_SUFFIXES
    if is_hdf5:
        values, degrees = _read_exchange(path, row)
        radians = _radians(degrees, path) if angles is None else None
    elif row is not None:
        raise InputError(
            f"`row` is for HDF5 files. Received: {row} with {path}"
        )
    else:
        values, _ = read_numbers(path)
    if angles is not None:
        radians = parse_angles(angles)
    count = len(radians)
    if values.ndim != 2 or values.shape[0] != count or values.shape[1] < 2:
        hint = ": transpose it" if values.shape[::-1][:1] == (count,) else ""
        raise InputError(
            "A sinogram must have one row for each angle and one column for "
            f"each detector, {count} x 2 or more. Received: {path} of shape "
            f"{values.shape}{hint}"
        )
    detectors = values.shape[1]
    middle = (detectors - 1) / 2.0
    center = middle if center is None else center
    if not 0.0 <= center <= detectors - 1:
        raise InputError(
            f"`center` must be one of the {detectors} detectors, in "
            f"[0, {detectors - 1}]. Received: {center:g} for {path}"
        )
    side = 2.0 * max(center + 0.5, detectors - 0.5 - center)
    sinogram = _resample(scale * values, center, side, resolution)
    low, high = float(sinogram.min()), float(sinogram.max())
    if not (low >= -_NOISE and high <= 1.0 + _NOISE):
        remedy = ""
        if high > 1.0:
            remedy = (
                f" Sums along the rays need `scale`={1.0 / side:.4g}; line "
                f"integrals of another unit one of at most {scale / high:.4g}."
            )
        raise InputError(
            "A sinogram must hold means along the rays, in [0, 1]. Received: "
            f"{path} with values from {low:g} to {high:g} at a scale of "
            f"{scale:g}.{remedy}"
        )
    return radians, sinogram


def read_numbers(path) -> tuple[np.ndarray, bool]:
    """The numbers of a grey file, and whether they have a unit of their own.

    Returns:
        The array of a .npy file or a floating-point TIFF as it is stored, and
        True. The mean of the channels of any other picture, float32
        `[height, width]` in [0, 1], and False.

    Raises:
        InputError: if the file cannot be read.
    """
    suffix = files.suffix_of(path)
    if suffix == ".npy":
        return files.read_array(path), True
    if suffix in (".tif", ".tiff"):
        files.check_size(path, files.MAX_ARRAY_BYTES)
        try:
            with Image.open(path, formats=["TIFF"]) as image:
                if getattr(image, "n_frames", 1) != 1:
                    raise InputError(
                        "A TIFF file must hold one picture. Received: "
                        f"{path} with {image.n_frames}; write each into a file "
                        "of its own"
                    )
                fits = math.prod(image.size) <= images.MAX_IMAGE_PIXELS
                if image.mode == "F" and fits:
                    return files.check_finite(np.array(image), path), True
        except InputError:
            raise
        # Damaged files make Pillow raise errors of many kinds.
        except Exception as error:
            raise InputError(
                f"The image {path} cannot be read: {reason(error)}."
            ) from error
    return images.read_image(path).mean(axis=-1), False


def _resample(values, center, side, resolution):
    """Values `[n, D]` at `resolution` detectors of a square, float32.

    The square is `side` detectors wide, and its middle is detector `center`.
    """
    count, detectors = values.shape
    if detectors == side == resolution:
        return values.astype(np.float32)
    missing = math.ceil(side) - detectors + 1
    padded = np.pad(np.float32(values), [(0, 0), (missing, missing)])
    left = missing + center + 0.5 - side / 2.0
    resized = Image.fromarray(padded).resize(
        (resolution, count),
        Image.Resampling.BILINEAR,
        box=(left, 0, left + side, count),
    )
    return np.array(resized, np.float32)


def _read_exchange(path, row):
    """The line integrals `[angles, detectors]` and the angles in degrees."""
    files.check_size(path, 2**40)
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise InputError(
            f"Reading {path} needs h5py: pip install h5py."
        ) from error
    try:
        with h5py.File(path, "r") as file:
            exchange = file["exchange"]
            theta = exchange["theta"]
            if theta.size > MAX_PROJECTIONS:
                raise ValueError(f"{theta.size} angles")
            degrees = np.float64(theta[()])
            if _unit(theta).startswith("rad"):
                degrees = np.degrees(degrees)
            shape = exchange["data"].shape
            row = _checked_row(path, shape, row)
            counts, white, dark = (
                _read_row(exchange, name, row, shape)
                for name in ("data", "data_white", "data_dark")
            )
    except InputError:
        raise
    # Damaged files make h5py raise errors of many kinds.
    except Exception as error:
        raise InputError(
            f"{path} is not an HDF5 file with exchange/data and "
            f"exchange/theta: {reason(error)}."
        ) from error
    integrals = counts
    if dark is not None and white is None:
        raise InputError(
            "exchange/data_dark needs exchange/data_white: raw counts are no "
            f"line integrals. Received: {path} without it"
        )
    if white is not None:
        dark = 0.0 if dark is None else dark.mean(axis=0)
        open_beam = white.mean(axis=0) - dark
        sees = open_beam > 0.0
        passed = (counts - dark) / np.where(sees, open_beam, 1.0)
        passed = np.where(sees, np.maximum(passed, _DARKEST), 1.0)
        integrals = -np.log(passed)
    return files.check_finite(integrals, path), degrees


def _unit(dataset):
    """The attribute "units" of a dataset, in lower case; "" without one."""
    unit = np.ravel(dataset.attrs.get("units", ""))[0]
    return (unit.decode() if isinstance(unit, bytes) else str(unit)).lower()


def _read_row(exchange, name, row, shape):
    """One row of the pictures in a dataset of the file; None if it has none."""
    if name not in exchange:
        return None
    data = exchange[name]
    if len(data.shape) != 3 or data.shape[1:] != shape[1:] or not len(data):
        raise ValueError(
            f"{name} of shape {data.shape} with data of shape {shape}"
        )
    if data.shape[0] * data.shape[2] > images.MAX_IMAGE_PIXELS:
        raise ValueError(f"{name} of shape {data.shape}")
    return np.float32(data[:, row])


def _checked_row(path, shape, row):
    """The row of exchange/data to read."""
    if len(shape) != 3 or shape[0] * shape[2] > images.MAX_IMAGE_PIXELS:
        raise InputError(
            "exchange/data must have three axes: angles, rows and detectors, "
            f"with at most {images.MAX_IMAGE_PIXELS} numbers in a row. "
            f"Received: {path} of shape {shape}"
        )
    row = 0 if row is None and shape[1] == 1 else row
    if row is None or not 0 <= row < shape[1]:
        raise InputError(
            f"`row` must be one of the {shape[1]} rows of {path}, counted from "
            f"0. Received: {row}"
        )
    return row
