"""CT slices, observed through parallel-beam projections, and their files.

`geometry.parallel_beam` states the conventions of a sinogram.
"""

import math
import pathlib

import numpy as np

from tfmetainit.geometry import parallel_beam, pixels
from tfmetainit.io import files, images
from tfmetainit.io.errors import InputError, check_range
from tfmetainit.modalities.modality import MAX_RESOLUTION, Modality, Sample
from tfmetainit.modalities.readers.dicom import read_dicom

MAX_PROJECTIONS = 1024
SLICE_SUFFIXES = images.IMAGE_SUFFIXES | {".npy", ".dcm"}
# How far noise may take a measured sinogram out of [0, 1].
_NOISE = 0.1


class CTModality(Modality):
    """CT slices, observed through parallel-beam projections.

    Args:
        resolution: side of the slices in pixels, and number of detectors.
        interpolation: "nearest" or "bilinear" (`parallel_beam.project`).
        projections: number of evenly spaced angles at which a slice is
            projected if no angles are given.
    """

    name = "ct"
    details = ("angles",)
    fixed = ("resolution", "interpolation")
    example = "--input=sinogram.npy --angles=0,45,90,135"

    def __init__(self, resolution: int, interpolation: str, projections: int):
        check_range("resolution", resolution, 1, MAX_RESOLUTION)
        check_range("projections", projections, 1, MAX_PROJECTIONS)
        parallel_beam.check_interpolation(interpolation)
        self.resolution = resolution
        self.interpolation = interpolation
        self.projections = self.num_observations = projections

    def describe(self):
        return {
            "kind": self.name,
            "resolution": self.resolution,
            "interpolation": self.interpolation,
            "projections": self.projections,
            "conventions": (
                "inputs: angles of the projections in radians; values: for "
                "each, the means along the rays of R detectors; coords: "
                "(column / R, row / R), column first, in [0, 1), for pixel "
                "(row, column) of an R x R slice"
            ),
        }

    def read(self, path, angles: str | None = None):
        """Reads a sinogram (.npy, with angles), or reads and projects a slice.

        Args:
            path: the file.
            angles: as of `parse_angles`; by default `projections` even ones.

        Raises:
            InputError: if the file cannot be read as either.
        """
        coords = parallel_beam.slice_coords(self.resolution)
        is_array = pathlib.Path(path).suffix.lower() == ".npy"
        radians = (
            parallel_beam.even_angles(self.projections)
            if angles is None
            else parse_angles(angles)
        )
        if is_array and angles is not None:
            sinogram = read_sinogram(path, self.resolution, len(radians))
            return Sample(radians[None], sinogram[None], coords, None)
        image = read_slice(path)
        if is_array and min(image.shape[:2]) < self.resolution:
            raise InputError(
                "A sinogram needs `angles`, in degrees. An array without "
                "angles is read as a slice, whose sides must have at least "
                f"the trained {self.resolution} pixels. Received: {path} of "
                f"shape {image.shape[:2]} without angles"
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


def parse_angles(text: str) -> np.ndarray:
    """Parses angles in degrees.

    Args:
        text: angles such as "0,45,90,135", or the path of a .npy file.

    Returns:
        Angles in radians, float32 `[projections]`, in [0, 2 pi).

    Raises:
        InputError: if they are not 1 to 1024 numbers of degrees in [0, 360].
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
        or not 1 <= len(degrees) <= MAX_PROJECTIONS
        or not np.all((degrees >= 0.0) & (degrees <= 360.0))
    ):
        raise InputError(
            f"`angles` must be 1 to {MAX_PROJECTIONS} degrees in [0, 360], for "
            "example 0,45,90,135, or a .npy file of them. Received: "
            f"{text[:100]!r}"
        )
    return np.radians(degrees % 360.0).astype(np.float32)


def read_sinogram(path, resolution: int, projections: int) -> np.ndarray:
    """Reads a sinogram from a .npy file.

    Args:
        path: the file.
        resolution: number of detectors R.
        projections: number of angles.

    Returns:
        float32 `[projections, resolution]`.

    Raises:
        InputError: if the shape or the values are not those of a sinogram.
    """
    sinogram = files.read_array(path)
    if sinogram.shape != (projections, resolution):
        hint = ""
        if sinogram.shape == (resolution, projections):
            hint = ": transpose it"
        raise InputError(
            "A sinogram must have one row for each angle and one column for "
            "each pixel of the trained resolution, "
            f"{projections} x {resolution}. Received: {path} of shape "
            f"{sinogram.shape}{hint}"
        )
    low, high = float(sinogram.min()), float(sinogram.max())
    if low < -_NOISE or high > 1.0 + _NOISE:
        raise InputError(
            "A sinogram must hold means along the rays, in [0, 1]. Divide sums "
            f"along the rays by {resolution}. Received: {path} with values "
            f"from {low:g} to {high:g}"
        )
    return sinogram.astype(np.float32)


def read_slice(path) -> np.ndarray:
    """Reads a slice from an image, .npy or DICOM file.

    Colours are averaged. Float arrays must be in [0, 1]. Integer arrays must
    have 8 or 16 bits, and are divided by the largest number of their type.
    `dicom.read_dicom` reads DICOM files.

    Returns:
        float32 `[height, width, 1]` in [0, 1].

    Raises:
        InputError: if the file cannot be read as a slice.
    """
    suffix = pathlib.Path(path).suffix.lower()
    if suffix == ".dcm":
        return read_dicom(path)[..., None]
    if suffix != ".npy":
        return images.read_image(path).mean(axis=-1, keepdims=True)
    array = files.read_array(path)
    if array.ndim != 2 or not array.size:
        raise InputError(
            "A slice must be an array of two axes, height and width. "
            f"Received: {path} of shape {array.shape}"
        )
    if array.dtype.kind in "iu":
        if array.dtype.itemsize > 2:
            raise InputError(
                "An integer slice must have 8 or 16 bits a pixel. Received: "
                f"{path} of {array.dtype}"
            )
        array = array / float(np.iinfo(array.dtype).max)
    low, high = float(array.min()), float(array.max())
    if low < 0.0 or high > 1.0:
        raise InputError(
            "A float slice must be in [0, 1], and an integer slice must not be "
            f"negative. Received: {path} with values from {low:g} to {high:g}"
        )
    return array.astype(np.float32)[..., None]
