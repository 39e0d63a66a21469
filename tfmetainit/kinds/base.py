"""What all kinds of signals are: `Kind`, and what it reads: `Sample`."""

import abc
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tfmetainit.errors import InputError

MAX_RESOLUTION = 4096
# Flags that only some kinds of signals take (`Kind.details`).
DETAILS = {
    "angles": "Of a sinogram's views: 0,45,90 (degrees) or a .npy file.",
    "pose": "Of an object's picture: azimuth,elevation, or a .npy file.",
    "cameras": "Of a landmark's photograph: its collection's folder.",
}


class Sample(NamedTuple):
    """One signal of the user's.

    Attributes:
        inputs: `[b, n, ...]` and
        values: `[b, n, ...]`: what is observed of it, and adapted to; one
            batch for every gradient step, or several that take turns.
        coords: `[m, ...]`: where the field is scored.
        target: `[m, ...]`, or None where the truth is not known.
        view: from where the signal is seen, for `Kind.render`; None for most.
    """

    inputs: np.ndarray
    values: np.ndarray
    coords: np.ndarray
    target: np.ndarray | None
    view: object = None


class Kind(abc.ABC):
    """Base of the kinds.

    Attributes:
        name: in artifacts' metadata.
        details: names of what `read` takes beside the path, each a flag of
            `python -m tfmetainit.fit`.
        example: what that command is given, to be shown.
        resolution: of the pictures of the class, in pixels.
        num_observations: that a gradient step sees of a signal of the class.
        num_coords: how many values an exported file predicts in one go; by
            default those of a picture.
        fixed: which items of `describe()` an exported file cannot do without.
        may_drop: whether some of the observations will do where an artifact
            was exported for fewer.
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
    def render(
        self, predict: Callable, height: int, width: int, view=None
    ) -> np.ndarray:
        """A field as an image `[height, width, 3]`.

        Args:
            predict: maps what is scored, like `Sample.coords`, to values.
            height: rows of the result, or of each of its parts.
            width: its columns.
            view: that of the `Sample` that the field was fitted to.
        """

    def thinned(self, inputs, values, count: int):
        """As many observations of each step as an artifact was exported for.

        Args:
            inputs: `[steps, n, ...]`.
            values: `[steps, n, ...]`.
            count: how many are wanted.

        Returns:
            Both with `count` rows a step, drawn from the same seed each time;
            as they are where there are no more, or where all are needed.
        """
        if inputs.shape[1] <= count or not self.may_drop:
            return inputs, values
        chosen = np.random.default_rng(0).choice(
            inputs.shape[1], count, replace=False
        )
        return inputs[:, chosen], values[:, chosen]

    def picture(self, values) -> np.ndarray:
        """Values `[n * resolution ** 2, 1 or 3]` as an image `[..., 3]`.

        Several pictures lie beside one another.
        """
        side = self.resolution
        images = np.reshape(values, [-1, side, side, np.shape(values)[-1]])
        image = np.concatenate(list(images), axis=1)
        return np.broadcast_to(image, [*image.shape[:2], 3])


def check_details(kind: Kind | None, details: dict) -> None:
    """Raises InputError if a detail is not for signals of a kind."""
    for name, value in details.items():
        if name not in (kind.details if kind else ()):
            raise InputError(
                f"--{name} is not for signals of this run's kind. Received: "
                f"--{name}={value}"
            )
