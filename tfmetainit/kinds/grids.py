"""Kinds whose field is one picture: images, and slices of tomography."""

import pathlib

import numpy as np

from tfmetainit import image_files, pixels, tomography
from tfmetainit.errors import InputError, check_range
from tfmetainit.kinds.base import MAX_RESOLUTION, Kind, Sample


class ImageKind(Kind):
    """RGB pictures, observed pixel by pixel.

    Args:
        resolution: side of the squares that files are cropped and resized to.
    """

    name = "image"
    may_drop = True

    def __init__(self, resolution: int):
        check_range("resolution", resolution, 1, MAX_RESOLUTION)
        self.resolution = resolution
        self.num_observations = resolution**2

    def describe(self):
        return {
            "kind": self.name,
            "resolution": self.resolution,
            "conventions": (
                "coords: (row / R, column / R), row first, in [0, 1), for "
                "pixel (row, column) of an R x R image; values: red, green, "
                "blue in [0, 1]"
            ),
        }

    def read(self, path):
        image = image_files.read_image(path)
        image = pixels.crop_and_resize(image, self.resolution)
        coords = pixels.pixel_coords(self.resolution, self.resolution)
        values = image.reshape(len(coords), -1)
        return Sample(coords[None], values[None], coords, values)

    def render(self, predict, height, width, view=None):
        return pixels.render(predict, height, width, self.resolution)


class SliceKind(Kind):
    """Slices of tomography, observed through parallel-beam projections.

    Args:
        resolution: side of the slices in pixels, and number of detectors.
        interpolation: of the projection (`tomography.project`).
        views: number of even angles at which a picture is projected where
            none are given.
    """

    name = "ct"
    details = ("angles",)
    fixed = ("resolution", "interpolation")  # of the projection it contains
    example = "--input=sinogram.npy --angles=0,45,90,135"

    def __init__(self, resolution: int, interpolation: str, views: int):
        check_range("resolution", resolution, 1, MAX_RESOLUTION)
        check_range("views", views, 1, tomography.MAX_VIEWS)
        tomography.check_interpolation(interpolation)
        self.resolution = resolution
        self.interpolation = interpolation
        self.views = self.num_observations = views

    def describe(self):
        return {
            "kind": self.name,
            "resolution": self.resolution,
            "interpolation": self.interpolation,
            "views": self.views,
            "conventions": (
                "inputs: angles of views in radians; values: for each view, "
                "the means along the rays of R detectors; coords: (column / "
                "R, row / R), column first, in [0, 1), for pixel (row, column) "
                "of an R x R slice"
            ),
        }

    def read(self, path, angles: str | None = None):
        """Reads a sinogram (.npy, with angles), or a slice to be projected."""
        coords = tomography.slice_coords(self.resolution)
        is_array = pathlib.Path(path).suffix.lower() == ".npy"
        is_sinogram = is_array and angles is not None
        radians = (
            tomography.even_angles(self.views)
            if angles is None
            else tomography.parse_angles(angles)
        )
        if is_sinogram:
            sinogram = tomography.read_sinogram(
                path, self.resolution, len(radians)
            )
            return Sample(radians[None], sinogram[None], coords, None)
        image = tomography.read_slice(path)
        if is_array and min(image.shape[:2]) < self.resolution:
            raise InputError(
                "A sinogram needs --angles, its views' degrees; without them "
                "an array is a slice, of no fewer pixels than the trained "
                f"resolution, {self.resolution}. Received: --input={path} of "
                f"shape {image.shape[:2]} without angles"
            )
        image = pixels.crop_and_resize(image, self.resolution)
        sinogram = tomography.project(
            image[..., 0], radians, self.interpolation
        )
        return Sample(
            radians[None], sinogram[None], coords, image.reshape(-1, 1)
        )

    def render(self, predict, height, width, view=None):
        grey = pixels.render(
            lambda coords: predict(np.ascontiguousarray(coords[:, ::-1])),
            height,
            width,
            self.resolution,
        )
        return np.repeat(grey, 3, axis=-1)
