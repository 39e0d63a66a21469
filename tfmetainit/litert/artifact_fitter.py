"""Fits with an exported .tflite file (`modalities.Fitter`)."""

import functools
import hashlib
import math
import os
import pathlib
from collections.abc import Collection, Sequence

import numpy as np

from tfmetainit import modalities
from tfmetainit.geometry.metrics import psnr_from_mse
from tfmetainit.io.errors import InputError
from tfmetainit.litert.artifact import LiteArtifact
from tfmetainit.modalities import Fitted, Modality, Sample


class ArtifactFitter:
    """Fits with an exported .tflite file, in LiteRT; see `modalities.Fitter`.

    Args:
        path: the file.

    Raises:
        InputError: if the file is missing, damaged, or not such an export.
    """

    def __init__(self, path):
        self._path = pathlib.Path(path)
        self._artifact = LiteArtifact(path, num_threads=os.cpu_count())
        recorded = self._artifact.recorded()
        self.default_steps, self.shapes = recorded.inner_steps, recorded.shapes
        self._description = recorded.signal

    @property
    def digest(self) -> str:
        return hashlib.sha256(self._path.read_bytes()).hexdigest()

    @functools.cached_property
    def modality(self) -> Modality | None:
        return modalities.from_description(self._description)

    @property
    def resolution(self) -> int:
        return self.modality.resolution

    def prepare(self, signal) -> None:
        described, modality = signal.describe(), signal.modality
        for name in ("kind", *(modality.fixed if modality else ())):
            wanted, received = self._description.get(name), described[name]
            if received != wanted:
                raise InputError(
                    f"`signal` must have the {name} {wanted!r} of the artifact "
                    f"{self._path}. Received: {name}={received!r}"
                )
        self.modality = modality

    def read(self, path, **details) -> Sample:
        return self.modality.read(path, **details)

    def fit(
        self, samples: Sequence[Sample], steps: int, scored: Collection[int]
    ) -> list[Fitted]:
        return [self._fit(sample, steps, scored) for sample in samples]

    @property
    def learned(self) -> np.ndarray:
        return self._artifact.weights(self._artifact.init())

    def score(self, theta, sample: Sample) -> float:
        inputs, values, coords, target = self._thinned(sample)
        if target is None and self._losses_are_scores:
            _, losses = self._artifact.adapt(theta, inputs[0], values[0], 1)
            return psnr_from_mse(losses[0] if losses else math.nan)
        if target is None:
            coords, target = inputs[0], values[0]
        return self._psnr(theta, coords, target)

    @property
    def _losses_are_scores(self):
        """Whether the losses of steps are the errors of the predictions.

        Losses leave out the solution, and the pixels that a step does not see.
        """
        return not (self._artifact.solves or self._artifact.in_halves)

    def _thinned(self, sample):
        """A sample without its camera, with as many rows as the file takes."""
        inputs, values, coords, target = sample[:4]
        if self.modality is not None:
            inputs, values = self.modality.thinned(
                inputs, values, self._artifact.num_points
            )
        return inputs, values, coords, target

    def _psnr(self, theta, coords, target):
        error = np.mean((self.predict(theta, coords) - target) ** 2)
        return psnr_from_mse(float(error))

    def _fit(self, sample, steps, scored):
        inputs, values, coords, target = self._thinned(sample)
        theta, psnr, step, weights = self._artifact.init(), {}, 0, None
        partial = self._is_partial(sample)
        if target is None and (partial or not self._losses_are_scores):
            coords, target = inputs[0], values[0]
        if partial:
            *whole, weights = self._artifact.complete(
                inputs[0], values[0], sample.missing
            )
            inputs, values = (rows[None] for rows in whole)
        elif sample.missing is not None and self._artifact.in_halves:
            # Halves of a part are no checkerboard: steps see all of it.
            weights = np.ones([inputs.shape[1], 1])
        if self._artifact.solves:
            theta, _ = self._artifact.adapt(
                theta, inputs[0], values[0], 0, weights
            )
        known = target is not None
        while True:
            batch = step % len(inputs)
            observed = inputs[batch], values[batch]
            if known and step in scored:
                psnr[step] = self._psnr(theta, coords, target)
            if step == steps:
                break
            # One call takes all steps up to the next scored one, unless each
            # step sees different observations.
            count = 1
            if len(inputs) == 1:
                stops = [s for s in scored if known and s > step]
                count = min([*stops, steps]) - step
            theta, losses = self._artifact.adapt(
                theta, *observed, count, weights
            )
            if not known:  # the loss of a step is that before it
                psnr |= _psnr_of(losses, step, scored)
            step += count
            if len(losses) < count:
                diverged = {s: math.nan for s in scored if s >= step}
                return Fitted(self._artifact.weights(theta), diverged | psnr)
        if not known:
            _, losses = self._artifact.adapt(theta, *observed, 1)
            psnr |= _psnr_of(losses or [math.nan], steps, scored)
        return Fitted(self._artifact.weights(theta), psnr)

    def _is_partial(self, sample):
        """Whether the rest of a signal is predicted, and fitted with it."""
        if sample.missing is None or not self._artifact.completes:
            return False
        count = sample.inputs.shape[1] + len(sample.missing)
        return count <= self._artifact.num_points

    def predict(self, theta, coords) -> np.ndarray:
        """Predictions `[n, ...]` of the field with weights theta."""
        return self._artifact.predict(theta, coords)

    def render(self, theta, height, width, camera=None) -> np.ndarray:
        return self.modality.render(
            lambda coords: self.predict(theta, coords), height, width, camera
        )

    def init(self) -> np.ndarray:
        """The learned initial weights; see `LiteArtifact.init`."""
        return self._artifact.init()


def _psnr_of(losses, first, scored):
    """PSNRs by step of the scored steps, from the losses of steps in order."""
    return {
        step: psnr_from_mse(loss)
        for step, loss in enumerate(losses, first)
        if step in scored
    }
