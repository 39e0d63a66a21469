"""Fitting signals of files or datasets: one protocol, two implementations.

`runs.RunFitter` fits with the weights of a training run, in TensorFlow.
`litert.ArtifactFitter` fits with an exported .tflite file, in LiteRT. The
commands `fit` and `fit_dataset` work with either.
"""

import math
from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from tfmetainit.io.errors import UserError
from tfmetainit.modalities.modality import Modality, Sample


class Fitted(NamedTuple):
    """One signal after its gradient steps.

    Attributes:
        theta: float32 `[P]`, the adapted weights in their order, each flattened
            row by row.
        psnr: PSNR in dB by number of steps taken, on the target, or on the
            observations if the target is not known. NaN from the step at which
            the fit diverged.
    """

    theta: np.ndarray
    psnr: dict[int, float]


class Fitter(Protocol):
    """Fits signals by gradient steps from a learned initialization.

    Attributes:
        default_steps: number of inner steps in training.
        shapes: shapes of the weights, in their order in theta.
        modality: modality of the signals; None if a user's class has none.
        resolution: default side of a rendering in pixels, or None.
        digest: SHA-256 of the file that the weights come from.
        learned: float32 `[P]`, the weights that fits start from.
    """

    default_steps: int
    shapes: list[tuple[int, ...]]
    modality: Modality | None
    resolution: int | None
    digest: str
    learned: np.ndarray

    def prepare(self, signal) -> None:
        """Switches to the signals of another class.

        Args:
            signal: the `SignalClass`.

        Raises:
            InputError: if these weights cannot fit signals of the class.
        """

    def read(self, path, **details) -> Sample:
        """Reads a file as a signal of the class, as `Modality.read` does."""

    def fit(
        self, samples: Sequence[Sample], steps: int, scored: Collection[int]
    ) -> list[Fitted]:
        """Fits some signals.

        Args:
            samples: the signals.
            steps: number of gradient steps.
            scored: numbers of steps, in [0, `steps`], after which the PSNR is
                computed.

        Returns:
            One `Fitted` for each of the samples.
        """

    def score(self, theta: np.ndarray, sample: Sample) -> float:
        """PSNR in dB of weights theta for a sample, as in `Fitted.psnr`."""

    def render(
        self, theta: np.ndarray, height: int, width: int, camera=None
    ) -> np.ndarray:
        """Renders the field with weights theta as `[height, width, 3]`."""


def check_finite(psnr: dict[int, float], steps: int) -> None:
    """Raises UserError if a fit of so many steps diverged (`Fitted.psnr`)."""
    for step, value in sorted(psnr.items()):
        if not math.isfinite(value):
            raise UserError(
                f"The fit diverged at step {step}; lower `steps` (now {steps})."
                " Nothing was written."
            )
