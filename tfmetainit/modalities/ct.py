"""CT slices, observed through parallel-beam projections, and their files.

`geometry.parallel_beam` states the conventions of a sinogram.
"""

import logging
import math

import numpy as np

from tfmetainit.geometry import parallel_beam, pixels
from tfmetainit.io import files, images
from tfmetainit.io.errors import InputError, check_range
from tfmetainit.modalities.modality import (
    MAX_RESOLUTION,
    Modality,
    Sample,
    parse_number,
)
from tfmetainit.modalities.readers.dicom import read_dicom
from tfmetainit.modalities.readers.sinograms import (
    HDF5_SUFFIXES,
    MAX_PROJECTIONS,
    read_numbers,
    read_sinogram,
)

_LOGGER = logging.getLogger("tfmetainit")

# DICOM files often have no suffix.
SLICE_SUFFIXES = images.IMAGE_SUFFIXES | {".npy", ".dcm", ".dicom", ".ima", ""}


class CTModality(Modality):
    """CT slices, observed through parallel-beam projections.

    Args:
        resolution: side of the slices in pixels, and number of detectors.
        interpolation: "nearest" or "bilinear" (`parallel_beam.project`).
        projections: number of even angles at which a slice is projected.
        window: the values that become 0 and 1 in files of slices
            (`read_slice`), or None.
    """

    name = "ct"
    details = ("angles", "projections", "window", "scale", "center", "row")
    fixed = ("resolution", "interpolation")
    example = "--input=sinogram.npy --angles=0,45,90,135"

    def __init__(
        self,
        resolution: int,
        interpolation: str,
        projections: int,
        window: tuple[float, float] | None = None,
    ):
        check_range("resolution", resolution, 1, MAX_RESOLUTION)
        check_range("projections", projections, 1, MAX_PROJECTIONS)
        parallel_beam.check_interpolation(interpolation)
        self.resolution = resolution
        self.interpolation = interpolation
        self.projections = self.num_observations = projections
        self.window = None if window is None else check_window(window)

    def describe(self):
        return {
            "kind": self.name,
            "resolution": self.resolution,
            "interpolation": self.interpolation,
            "projections": self.projections,
            "window": self.window,
            "conventions": (
                "inputs: angles of the projections in radians; values: for "
                "each, the means along the rays of R detectors; coords: "
                "(column / R, row / R), column first, in [0, 1), for pixel "
                "(row, column) of an R x R slice"
            ),
        }

    def read(
        self,
        path,
        angles: str | None = None,
        projections: str | None = None,
        window: str | None = None,
        scale: str | None = None,
        center: str | None = None,
        row: str | None = None,
    ):
        """Reads a sinogram, or reads and projects a slice.

        A file is a sinogram if its angles are given, or if it is HDF5, which
        holds its own. Any other file is a slice.

        Args:
            path: the file (`read_sinogram`, `read_slice`).
            angles: angles of a sinogram (`parse_angles`).
            projections: number of even angles at which a slice is projected;
                by default that of the class.
            window: window of a slice, "low,high" (`read_slice`); by default
                that of the class.
            scale: factor of a sinogram's values (`read_sinogram`).
            center: detector in front of a sinogram's axis of rotation.
            row: row of the projections in an HDF5 file.

        Raises:
            InputError: if the file cannot be read as either.
        """
        coords = parallel_beam.slice_coords(self.resolution)
        is_sinogram = (
            angles is not None or files.suffix_of(path) in HDF5_SUFFIXES
        )
        of_slice = {"projections": projections, "window": window}
        of_sinogram = {"scale": scale, "center": center, "row": row}
        for name, value in (of_slice if is_sinogram else of_sinogram).items():
            if value is not None:
                raise InputError(
                    f"`{name}` is an argument for "
                    f"{'slices' if is_sinogram else 'sinograms'}. A file with "
                    "`angles`, or of HDF5, is a sinogram; any other is a "
                    f"slice. Received: {value!r} with {path}"
                )
        if is_sinogram:
            options = {}
            if scale is not None:
                options["scale"] = parse_number("scale", scale, 1e-9, 1e9)
            if center is not None:
                options["center"] = parse_number("center", center, 0.0)
            if row is not None:
                options["row"] = parse_number("row", row, 0, kind=int)
            radians, sinogram = read_sinogram(
                path, self.resolution, angles, **options
            )
            return Sample(radians[None], sinogram[None], coords, None)
        count = self.projections
        if projections is not None:
            count = parse_number(
                "projections", projections, 1, MAX_PROJECTIONS, int
            )
        radians = parallel_beam.even_angles(count)
        image = read_slice(
            path, self.window if window is None else parse_window(window)
        )
        _LOGGER.info(
            "%s is taken for a slice of %d x %d pixels and projected at %d "
            "angles",
            *(path, image.shape[1], image.shape[0], count),
        )
        image = pixels.crop_and_resize(image, self.resolution)
        sinogram = parallel_beam.project(
            image[..., 0], radians, self.interpolation
        )
        return Sample(
            radians[None], sinogram[None], coords, image.reshape(-1, 1)
        )

    def render(self, predict, height, width, camera=None):
        grey = pixels.render(
            lambda coords: predict(np.ascontiguousarray(coords[:, ::-1])),
            height,
            width,
            self.resolution,
        )
        return np.repeat(grey, 3, axis=-1)


def parse_window(text: str) -> tuple[float, float]:
    """Parses the two numbers of a window, such as "-160,240".

    Raises:
        InputError: if they are not two rising numbers.
    """
    parts = text.split(",")
    return check_window([parse_number("window", part) for part in parts])


def check_window(window) -> tuple[float, float]:
    """Raises InputError unless a window has two rising numbers."""
    try:
        low, high = map(float, window)
        if not -math.inf < low < high < math.inf:
            raise ValueError
    except (TypeError, ValueError) as error:
        raise InputError(
            "`window` must have two rising numbers, the values that become 0 "
            f"and 1. Received: {window}"
        ) from error
    return low, high


def read_slice(path, window: tuple[float, float] | None = None) -> np.ndarray:
    """Reads a slice from an image, .npy or DICOM file.

    Colours are averaged. A file is read as DICOM (`dicom.read_dicom`) if its
    suffix is .dcm, .dicom or .ima, or if it has none.

    Args:
        path: the file. No side may be more than twice the other: such arrays
            are sinograms.
        window: the values that become 0 and 1 in files whose numbers have a
            unit: DICOM, .npy and floating-point TIFF. Without it, DICOM must be
            in Hounsfield units, floats in [0, 1], and integer arrays of 8 or 16
            bits are divided by the largest number of their type.

    Returns:
        float32 `[height, width, 1]` in [0, 1].

    Raises:
        InputError: if the file cannot be read as a slice.
    """
    suffix = files.suffix_of(path)
    if suffix not in SLICE_SUFFIXES:
        raise InputError(
            "A slice must be a DICOM file (.dcm, .dicom, .ima, or no suffix), "
            f"an array (.npy), or a picture. Received: {path}"
        )
    if suffix not in images.IMAGE_SUFFIXES | {".npy"}:
        return _checked_shape(read_dicom(path, window), path)[..., None]
    array, has_unit = read_numbers(path)
    array = _checked_shape(array, path)
    if has_unit:
        array = _in_window(array, path, window)
    elif window is not None:
        raise InputError(
            "`window` is for files whose numbers have a unit: DICOM, .npy and "
            "floating-point TIFF. The numbers of other pictures are divided by "
            f"the largest of their type. Received: {window} with {path}"
        )
    return array.astype(np.float32)[..., None]


def _checked_shape(array, path):
    if array.ndim != 2 or not 0 < max(array.shape) <= 2 * min(array.shape):
        raise InputError(
            "A slice must be an array of two axes, height and width, neither "
            "more than twice the other. A sinogram needs `angles`. Received: "
            f"{path} of shape {array.shape}"
        )
    return array


def _in_window(array, path, window):
    """Numbers of a file in [0, 1]."""
    if window is not None:
        low, high = window
        return np.clip((np.float32(array) - low) / (high - low), 0.0, 1.0)
    low, high = float(array.min()), float(array.max())
    if array.dtype.kind in "iu":
        if array.dtype.itemsize > 2:
            raise InputError(
                "An integer slice must have 8 or 16 bits a pixel. Received: "
                f"{path} of {array.dtype}"
            )
        array = array / float(np.iinfo(array.dtype).max)
    if array.min() < 0.0 or array.max() > 1.0:
        raise InputError(
            "Without `window`, a float slice must be in [0, 1], and an integer "
            f"slice must not be negative. Received: {path} with values from "
            f"{low:g} to {high:g}"
        )
    return array
