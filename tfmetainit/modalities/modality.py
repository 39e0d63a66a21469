"""The base of the modalities: `Modality`, and the `Sample` that it reads."""

import abc
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tfmetainit.io.errors import InputError

MAX_RESOLUTION = 4096
# Arguments that only some modalities take (`Modality.details`), with the help
# of their flags.
DETAILS = {
    "angles": "Of a sinogram: 0,45,90 (degrees), or a .npy file of them.",
    "pose": "Of an object's picture: azimuth,elevation, or a .npy file.",
    "cameras": "Of a landmark's photograph: the folder of its collection.",
}


class Sample(NamedTuple):
    """One signal of the user's, in NumPy.

    Attributes:
        inputs: what was observed, `[b, n, ...]`; b batches, of which every
            gradient step takes the next one.
        values: the observed values, `[b, n, ...]`.
        coords: where the field is scored, `[m, ...]`.
        target: the values there, `[m, ...]`; None if they are not known.
        camera: from where `Modality.render` draws the signal; None for most.
    """

    inputs: np.ndarray
    values: np.ndarray
    coords: np.ndarray
    target: np.ndarray | None
    camera: object = None


class Modality(abc.ABC):
    """Base of the modalities.

    Attributes:
        name: in the metadata of artifacts.
        details: names of the arguments that `read` takes beside the path; each
            is a flag of `python -m tfmetainit.fit`.
        example: flags of that command that fit such a file, for messages.
        resolution: side of the signals' pictures, in pixels.
        num_observations: number of observations of one gradient step.
        num_coords: number of values that one call of an artifact's `predict`
            gives; by default those of a picture.
        fixed: items of `describe()` that are part of an artifact's graph: it
            fits no signals for which they differ.
        may_drop: whether a random part of the observations may stand for all,
            where an artifact was exported for fewer.
    """

    name: str
    details: tuple[str, ...] = ()
    example: str = "--input=photo.png"
    resolution: int
    num_observations: int
    fixed: tuple[str, ...] = ()
    may_drop: bool = False

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

        Raises:
            InputError: if it cannot be read as such a signal.
        """

    @abc.abstractmethod
    def render(
        self, predict: Callable, height: int, width: int, camera=None
    ) -> np.ndarray:
        """A field as an image `[height, width, 3]`.

        Args:
            predict: maps inputs like `Sample.coords` to values.
            height: rows of the result, or of each of its parts.
            width: its columns.
            camera: that of the `Sample` that the field was fitted to.
        """

    def thinned(self, inputs, values, count: int):
        """At most `count` observations of each step, if some may be dropped.

        Args:
            inputs: `[steps, n, ...]`.
            values: `[steps, n, ...]`.
            count: the number of observations that an artifact takes.

        Returns:
            Both with `count` rows a step, drawn from a fixed seed; unchanged
            if there are no more, or if all of them are needed.
        """
        if inputs.shape[1] <= count or not self.may_drop:
            return inputs, values
        chosen = np.random.default_rng(0).choice(
            inputs.shape[1], count, replace=False
        )
        return inputs[:, chosen], values[:, chosen]

    def picture(self, values) -> np.ndarray:
        """Values `[k * resolution ** 2, 1 or 3]` as k images side by side.

        Returns:
            `[resolution, k * resolution, 3]`.
        """
        side = self.resolution
        images = np.reshape(values, [-1, side, side, np.shape(values)[-1]])
        image = np.concatenate(list(images), axis=1)
        return np.broadcast_to(image, [*image.shape[:2], 3])


def check_details(modality: Modality | None, details: dict) -> None:
    """Raises InputError for a detail that the modality does not take."""
    known = modality.details if modality else ()
    for name, value in details.items():
        if name not in known:
            raise InputError(
                f"`{name}` is not an argument for signals of this class. "
                f"Received: {name}={value}"
            )
