"""Kinds of signals: how a file becomes observations, and a field a picture.

What training and an exported artifact must agree on stands here once, and in
the artifact as `describe()`; `from_description` makes the kind of that again.

Imports neither TensorFlow nor Keras.
"""

import abc
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tfmetainit import files, pixels, tomography
from tfmetainit.errors import InputError, check_range

MAX_RESOLUTION = 4096


class Sample(NamedTuple):
    """One signal of the user's.

    Attributes:
        inputs: `[n, ...]` and
        values: `[n, ...]`: what is observed of it, and adapted to.
        coords: `[m, coord_dims]`: where the field is scored.
        target: `[m, value_dims]`, or None where the truth is not known.
    """

    inputs: np.ndarray
    values: np.ndarray
    coords: np.ndarray
    target: np.ndarray | None


class Kind(abc.ABC):
    """Base of the kinds.

    Attributes:
        name: in artifacts' metadata.
        details: names of what `read` takes beside the path, each a flag of
            `python -m tfmetainit.fit`.
        resolution: of the pictures of the class, in pixels.
        may_drop: whether some of the observations will do where an artifact
            was exported for fewer.
    """

    name: str
    details: tuple[str, ...] = ()
    resolution: int
    may_drop: bool = False

    @abc.abstractmethod
    def describe(self) -> dict:
        """A JSON-serializable dict with "kind" and the arguments of the class.

        It also has "conventions": what a caller needs to prepare inputs.
        """

    @abc.abstractmethod
    def read(self, path, **details) -> Sample:
        """Reads one file.

        Raises:
            InputError: if it cannot be read as such a signal.
        """

    @abc.abstractmethod
    def render(self, field: Callable, height: int, width: int) -> np.ndarray:
        """A field, arrays to arrays, as an image `[height, width, 3]`."""

    def picture(self, values) -> np.ndarray:
        """Values `[resolution ** 2, 1 or 3]` as an image `[..., 3]`."""
        side = self.resolution
        image = np.reshape(values, [side, side, -1])
        return np.broadcast_to(image, [side, side, 3])


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
        image = files.read_image(path)
        image = pixels.crop_and_resize(image, self.resolution)
        coords = pixels.pixel_coords(self.resolution, self.resolution)
        values = image.reshape(len(coords), -1)
        return Sample(coords, values, coords, values)

    def render(self, field, height, width):
        return pixels.render(field, height, width)


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

    def __init__(self, resolution: int, interpolation: str, views: int):
        check_range("resolution", resolution, 1, MAX_RESOLUTION)
        check_range("views", views, 1, tomography.MAX_VIEWS)
        self.resolution = resolution
        self.interpolation = interpolation
        self.views = views

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
        is_sinogram = str(path).endswith(".npy")
        if is_sinogram and angles is None:
            raise InputError(
                "A sinogram needs --angles, its views' degrees. Received: "
                f"--input={path} without them"
            )
        radians = (
            tomography.even_angles(self.views)
            if angles is None
            else tomography.parse_angles(angles)
        )
        if is_sinogram:
            sinogram = tomography.read_sinogram(
                path, self.resolution, len(radians)
            )
            return Sample(radians, sinogram, coords, None)
        image = tomography.read_slice(path)
        image = pixels.crop_and_resize(image, self.resolution)
        sinogram = tomography.project(
            image[..., 0], radians, self.interpolation
        )
        return Sample(radians, sinogram, coords, image.reshape(-1, 1))

    def render(self, field, height, width):
        grey = pixels.render(
            lambda coords: field(np.ascontiguousarray(coords[:, ::-1])),
            height,
            width,
        )
        return np.repeat(grey, 3, axis=-1)


_KINDS = {kind.name: kind for kind in (ImageKind, SliceKind)}


def from_description(description: dict) -> Kind:
    """The kind that `description`, of an artifact's metadata, speaks of.

    Raises:
        InputError: if it is of no kind known here, or not complete.
    """
    name = description.get("kind")
    if name not in _KINDS:
        raise InputError(
            f"--artifact can fit signals of the kinds {', '.join(_KINDS)}. "
            f"Received: one of the kind {name!r}; call its signatures instead"
        )
    options = {
        key: value
        for key, value in description.items()
        if key not in ("kind", "conventions")
    }
    try:
        return _KINDS[name](**options)
    except TypeError as error:
        raise InputError(
            f"The artifact's description of its signals is not valid: {error}"
        ) from error
