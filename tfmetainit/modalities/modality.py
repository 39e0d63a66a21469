"""Base class of the modalities, and the `Sample` that a modality reads."""

import abc
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tfmetainit.io.errors import InputError

MAX_RESOLUTION = 4096
# Arguments that only some modalities take (`Modality.details`), with the help
# of their flags.
DETAILS = {
    "mask": "Images: a picture of the same size, black where pixels miss.",
    "angles": (
        "CT: the file is a sinogram with these angles in degrees, such as "
        "0,45,90, or a .npy file of them."
    ),
    "projections": "CT: number of angles at which a slice is projected.",
    "window": "CT: the values low,high of a slice that become 0 and 1.",
    "scale": "CT: factor of a sinogram's values; 1/D for sums over D pixels.",
    "center": "CT: detector in front of a sinogram's axis, counted from 0.",
    "row": "CT: row of an HDF5 file's projections.",
    "pose": "Objects: azimuth,elevation in degrees, or a .npy file of a pose.",
    "camera_scale": "Objects: factor of all lengths in a file of poses.",
    "cameras": "Landmarks: folder of the photograph's collection.",
}


class Sample(NamedTuple):
    """One signal, in NumPy arrays.

    Attributes:
        inputs: inputs of the observations, `[b, n, ...]`: b batches, of which
            each gradient step takes the next one.
        values: the observed values, `[b, n, ...]`.
        coords: where the field is scored, `[m, ...]`.
        target: the true values at `coords`, `[m, ...]`; None if not known.
        camera: camera for `Modality.render`; for pictures the (height, width)
            in pixels at which they are drawn; None for other modalities.
        missing: inputs `[k, ...]` at which nothing was observed although the
            signal has values there; None for whole signals.
    """

    inputs: np.ndarray
    values: np.ndarray
    coords: np.ndarray
    target: np.ndarray | None
    camera: object = None
    missing: np.ndarray | None = None


class Modality(abc.ABC):
    """Base of the modalities.

    Attributes:
        name: its name in the metadata of artifacts.
        details: names of the arguments that `read` takes beside the path; each
            is a flag of `python -m tfmetainit.fit`.
        example: flags with which that command fits a file, for messages.
        resolution: side of the signals' pictures, in pixels.
        num_observations: number of observations in one gradient step.
        num_coords: number of rows that one call of an artifact's `predict`
            takes; by default the number of pixels of a picture.
        fixed: keys of `describe()` whose values are fixed in an artifact's
            graph. The artifact cannot fit signals with other values.
        may_drop: whether a random subset of the observations may be used where
            an artifact was exported for fewer.
        needs_camera: whether `render` needs the camera of the signal.
        may_crop: whether `read` takes `crop`: whole pictures need not be
            squares.
    """

    name: str
    details: tuple[str, ...] = ()
    example: str = "--input=photo.png"
    resolution: int
    num_observations: int
    fixed: tuple[str, ...] = ()
    may_drop: bool = False
    needs_camera: bool = False
    may_crop: bool = False

    @property
    def num_coords(self) -> int:
        return self.resolution**2

    @abc.abstractmethod
    def describe(self) -> dict:
        """A JSON-serializable dict: "kind", and the arguments of the class.

        "conventions" tells a caller of the artifact how to prepare inputs.
        """

    @abc.abstractmethod
    def read(self, path, **details) -> Sample:
        """Reads one file.

        Args:
            path: the file.
            **details: the arguments named in `details`.

        Raises:
            InputError: if it cannot be read as such a signal.
        """

    def size_of(self, sample: Sample) -> tuple[int, int]:
        """Height and width, in pixels, at which a signal is drawn."""
        del sample
        return self.resolution, self.resolution

    @abc.abstractmethod
    def render(
        self, predict: Callable, height: int, width: int, camera=None
    ) -> np.ndarray:
        """Renders a field as an image `[height, width, 3]`.

        Args:
            predict: maps inputs like `Sample.coords` to values.
            height: rows of the result, or of each of its parts.
            width: columns of the result, or of each of its parts.
            camera: `Sample.camera` of the signal that the field was fitted to.
        """

    def thinned(self, inputs, values, count: int):
        """Keeps at most `count` observations of each step, if `may_drop`.

        Args:
            inputs: `[steps, n, ...]`.
            values: `[steps, n, ...]`.
            count: the number of observations that an artifact takes.

        Returns:
            Inputs and values with `count` rows a step, drawn with a fixed
            seed; unchanged if there are no more, or if none may be dropped.
        """
        if inputs.shape[1] <= count or not self.may_drop:
            return inputs, values
        chosen = np.random.default_rng(0).choice(
            inputs.shape[1], count, replace=False
        )
        return inputs[:, chosen], values[:, chosen]

    def picture(self, values) -> np.ndarray:
        """Puts values `[k * resolution ** 2, 1 or 3]` side by side as k images.

        Returns:
            `[resolution, k * resolution, 3]`.
        """
        side = self.resolution
        images = np.reshape(values, [-1, side, side, np.shape(values)[-1]])
        image = np.concatenate(list(images), axis=1)
        return np.broadcast_to(image, [*image.shape[:2], 3])


def parse_number(
    name: str, text: str, low=-math.inf, high=math.inf, kind: type = float
):
    """The number in a detail.

    Args:
        name: of the detail.
        text: its value.
        low: the least number that is allowed.
        high: the largest one.
        kind: float or int.

    Raises:
        InputError: if it is no such number.
    """
    try:
        number = kind(text)
        valid = math.isfinite(number) and low <= number <= high
    except (ValueError, OverflowError):
        valid = False
    if not valid:
        raise InputError(
            f"`{name}` must be a{'n integer' if kind is int else ' number'} in "
            f"[{low}, {high}]. Received: {text!r}"
        )
    return number


def check_details(modality: Modality | None, details: dict) -> None:
    """Raises InputError for a detail that the modality does not take."""
    known = modality.details if modality else ()
    for name, value in details.items():
        if name not in known:
            raise InputError(
                f"`{name}` is not an argument for signals of this class. "
                f"Received: {name}={value}"
            )
