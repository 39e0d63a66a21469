"""A held-out signal that Python and the artifacts fit, to be compared."""

import os

import numpy as np
import tensorflow as tf

from tfmetainit import adaptation, functional, kinds, lite_artifact, pixels
from tfmetainit.errors import InputError, UserError
from tfmetainit.export import lite
from tfmetainit.tasks import Observations, Task

# Largest difference of any predicted value after the training's number of
# steps, artifact against Python, that an export may have.
TOLERANCE = 1e-4


def find(signal, input_path, details) -> Task:
    """The signal that the artifacts are checked on."""
    if input_path is None and details:
        raise InputError(
            f"--{', --'.join(details)} must be given together with --input, of "
            "which it is a detail. Received: no --input"
        )
    if input_path is not None:
        kinds.check_details(signal.kind, details)
        task = signal.read_task(input_path, **details)
        if task.query.values is None:
            raise InputError(
                "--input must be a signal that is known itself, not by its "
                f"observations alone. Received: {input_path}"
            )
        return task
    for batch in signal.make_dataset("test", 1).take(1):
        return tf.nest.map_structure(lambda leaf: leaf[0], batch)
    raise InputError("The test split of the class holds no signal.")


class Case:
    """A held-out signal, and what Python makes of it.

    Predictions are pairs: before and after the training's number of steps.
    """

    def __init__(self, learner, adapter, kind, task: Task, num_points: int):
        self._steps = min(learner.inner_steps, adapter.max_steps)
        self._coords = task.query.inputs.numpy()
        self._target = task.query.values.numpy()
        inputs, values = (leaf[:1].numpy() for leaf in task.support)
        if kind is not None:
            inputs, values = kind.thinned(inputs, values, num_points)
        self._inputs = inputs[0, :num_points]
        self._values = values[0, :num_points]
        support = Observations(
            tf.constant(self._inputs[None]), tf.constant(self._values[None])
        )
        # Of float16 weights, the artifacts take the steps from the rounded.
        params = adapter.init_params()
        adapted, _ = adaptation.adapt(
            learner.support_loss,
            params,
            support,
            num_steps=self._steps,
            step_sizes=adapter.step_sizes(),
        )
        self._expected = tuple(
            learner.query_loss.predict(p, task.query.inputs).numpy()
            for p in (params, adapted)
        )
        trained = functional.get_params(learner.field)
        adapted, _ = learner.adapt(support, self._steps)
        self._trained = tuple(
            learner.query_loss.predict(p, task.query.inputs).numpy()
            for p in (trained, adapted)
        )

    def psnr(self, predicted=None) -> tuple[float, ...]:
        """PSNR in dB of a pair of predictions.

        By default of Python's with the trained weights, not rounded.
        """
        return tuple(
            float(pixels.psnr_from_mse(np.mean((values - self._target) ** 2)))
            for values in predicted or self._trained
        )

    def compare(self, name, predicted) -> float:
        """The largest difference from Python's predictions.

        Raises:
            UserError: if it is not within `TOLERANCE`.
        """
        # np.max, unlike max, does not lose what is not a number.
        difference = float(
            np.max([np.abs(a - b) for a, b in zip(predicted, self._expected)])
        )
        if not difference <= TOLERANCE:
            raise UserError(
                f"After {self._steps} steps, the {name}'s values may differ "
                f"from Python's by {TOLERANCE:g}. Received: a difference of "
                f"{difference:.2g}; nothing was written."
            )
        return difference

    def _observed(self, steps):
        return {
            "inputs": self._inputs[None],
            "values": self._values[None],
            "n_points": np.int32([len(self._inputs)]),
            "steps": np.int32([steps]),
        }

    def requests(self) -> dict[str, dict]:
        """Inputs for the SavedModel's signature that does everything."""
        observed = self._observed(self._steps)
        return {"fit_predict": {**observed, "coords": self._coords[None]}}

    def through_saved_model(self, folder):
        """Predictions of the SavedModel in `folder`."""
        signatures = tf.saved_model.load(str(folder)).signatures
        theta = signatures["init"]()["theta"]
        observed = {
            name: tf.constant(value)
            for name, value in self._observed(self._steps).items()
        }
        adapted = signatures["adapt"](theta=theta, **observed)["theta"]
        return tuple(
            signatures["predict"](
                theta=t, coords=tf.constant(self._coords[None])
            )["values"][0].numpy()
            for t in (theta, adapted)
        )

    def through_lite(self, path):
        """Predictions of the .tflite file, by LiteRT."""
        artifact = lite_artifact.LiteArtifact(path, os.cpu_count())
        theta = artifact.init()
        adapted, _ = artifact.adapt(
            theta, self._inputs, self._values, self._steps
        )
        return tuple(
            artifact.predict(t, self._coords) for t in (theta, adapted)
        )

    def through_compiled_model(self, content, num_points, num_coords):
        """The same by the interface that browsers, Android and C use."""
        theta = lite.run_compiled(content, "init", {})["theta"]
        observed = {
            "inputs": _padded(self._inputs, num_points),
            "values": _padded(self._values, num_points),
            "n_points": np.int32(len(self._inputs)),
            "steps": np.int32(self._steps),
        }
        adapted = lite.run_compiled(
            content, "adapt", {"theta": theta, **observed}
        )["theta"]

        def predict(theta):
            parts = []
            for start in range(0, len(self._coords), num_coords):
                coords = self._coords[start : start + num_coords]
                values = lite.run_compiled(
                    content,
                    "predict",
                    {"theta": theta, "coords": _padded(coords, num_coords)},
                )["values"]
                parts.append(values[: len(coords)])
            return np.concatenate(parts)

        return predict(theta), predict(adapted)


def _padded(rows, count):
    """The rows, followed by zeros up to `count` of them."""
    padding = [(0, count - len(rows))] + [(0, 0)] * (rows.ndim - 1)
    return np.pad(rows, padding)
