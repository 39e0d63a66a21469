"""Kinds of signals: how a file becomes observations, and a field a picture.

What training and an exported artifact must agree on stands here once, and in
the artifact as `describe()`; `from_description` makes the kind of that again.

Imports neither TensorFlow nor Keras.
"""

import abc
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tfmetainit import files, pixels, tomography, views
from tfmetainit.errors import InputError, check_range

MAX_RESOLUTION = 4096
# Batches of random rays that a fit goes through, again and again.
_RAY_BATCHES = 64


class Sample(NamedTuple):
    """One signal of the user's.

    Attributes:
        inputs: `[b, n, ...]` and
        values: `[b, n, ...]`: what is observed of it, and adapted to; one
            batch for every gradient step, or several that take turns.
        coords: `[m, ...]`: where the field is scored.
        target: `[m, ...]`, or None where the truth is not known.
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
    def render(self, predict: Callable, height: int, width: int) -> np.ndarray:
        """A field as an image `[height, width, 3]`.

        Args:
            predict: maps what is scored, like `Sample.coords`, to values.
            height: rows of the result, or of each of its parts.
            width: its columns.
        """

    def picture(self, values) -> np.ndarray:
        """Values `[n * resolution ** 2, 1 or 3]` as an image `[..., 3]`.

        Several pictures lie beside one another.
        """
        side = self.resolution
        images = np.reshape(values, [-1, side, side, np.shape(values)[-1]])
        image = np.concatenate(list(images), axis=1)
        return np.broadcast_to(image, [*image.shape[:2], 3])


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
        return Sample(coords[None], values[None], coords, values)

    def render(self, predict, height, width):
        return pixels.render(predict, height, width)


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
            return Sample(radians[None], sinogram[None], coords, None)
        image = tomography.read_slice(path)
        image = pixels.crop_and_resize(image, self.resolution)
        sinogram = tomography.project(
            image[..., 0], radians, self.interpolation
        )
        return Sample(
            radians[None], sinogram[None], coords, image.reshape(-1, 1)
        )

    def render(self, predict, height, width):
        grey = pixels.render(
            lambda coords: predict(np.ascontiguousarray(coords[:, ::-1])),
            height,
            width,
        )
        return np.repeat(grey, 3, axis=-1)


class ViewsKind(Kind):
    """Objects, observed through the rays of their views.

    Args:
        resolution: side of the views in pixels.
        angle: that the width of a view spans, in radians; a transforms.json
            states its own.
        near: depth of the first sample of a ray.
        far: end of the last one's interval.
        num_samples: number of them.
        rays_per_step: number of rays of a gradient step.
    """

    name = "views"
    details = ("pose",)
    may_drop = True

    def __init__(
        self,
        resolution: int,
        angle: float,
        near: float,
        far: float,
        num_samples: int,
        rays_per_step: int,
    ):
        check_range("resolution", resolution, 1, MAX_RESOLUTION)
        check_range("num_samples", num_samples, 2, 4096)
        check_range("rays_per_step", rays_per_step, 1, 2**20)
        check_range("angle", angle, 1e-3, 3.14)
        if not 0.0 < near < far:
            raise InputError(
                f"0 < near < far must hold. Received: near={near}, far={far}"
            )
        self.resolution = resolution
        self.angle = angle
        self.near, self.far = near, far
        self.num_samples = num_samples
        self.rays_per_step = rays_per_step

    def describe(self):
        return {
            "kind": self.name,
            "resolution": self.resolution,
            "angle": self.angle,
            "near": self.near,
            "far": self.far,
            "num_samples": self.num_samples,
            "rays_per_step": self.rays_per_step,
            "conventions": (
                "inputs and coords: rays, each its origin, its direction (of "
                "length 1 along the camera's axis) and the rising depths of "
                "its samples in [near, far]; fresh random ones for each step; "
                "values: red, green, blue in [0, 1], on white"
            ),
        }

    def read(self, path, pose: str | None = None):
        """Reads a picture and its pose, or a transforms.json of several."""
        side = self.resolution
        if str(path).endswith(".json"):
            if pose is not None:
                raise InputError(
                    "A transforms.json holds its own poses. Received: "
                    f"--pose={pose} with --input={path}"
                )
            pictures, poses, angle = views.read_transforms(path, side)
        else:
            if pose is None:
                raise InputError(
                    "A picture of an object needs --pose, the azimuth and "
                    "elevation of its camera in degrees. Received: "
                    f"--input={path} without it"
                )
            poses, angle = views.parse_pose(pose)[None], self.angle
            pictures = views.read_picture(path, side)[None]
        rays = np.concatenate([self._rays(p, side, side, angle) for p in poses])
        colors = pictures.reshape(-1, 3)
        # Seeded: the same file is fitted the same way again.
        rng = np.random.default_rng(0)
        shape = (_RAY_BATCHES, self.rays_per_step)
        chosen = rng.integers(0, len(rays), shape)
        jitter = rng.random((*shape, self.num_samples), np.float32)
        inputs = np.concatenate([rays[chosen], self._depths(jitter)], axis=-1)
        coords = np.concatenate(
            [rays, np.tile(self._depths(0.0), [len(rays), 1])], axis=-1
        )
        return Sample(inputs, colors[chosen], coords, colors)

    def render(self, predict, height, width):
        """Novel views beside one another: a turn in quarters, from above."""
        parts = []
        for azimuth in range(0, 360, 90):
            pose = views.orbit(math.radians(azimuth), math.radians(25.0))
            rays = self._rays(pose, height, width, self.angle)
            depths = np.tile(self._depths(0.0), [len(rays), 1])
            colors = predict(np.concatenate([rays, depths], axis=-1))
            parts.append(np.reshape(colors, [height, width, 3]))
        return np.concatenate(parts, axis=1)

    def _rays(self, pose, height, width, angle):
        focal = views.focal_length(width, angle)
        return views.camera_rays(height, width, pose, focal)

    def _depths(self, within):
        """Depths of samples, each `within` [0, 1) of its interval."""
        step = (self.far - self.near) / self.num_samples
        starts = self.near + step * np.arange(self.num_samples)
        return np.float32(starts + step * within)


_KINDS = {kind.name: kind for kind in (ImageKind, SliceKind, ViewsKind)}


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
