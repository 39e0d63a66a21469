"""A held-out signal on which the artifacts are compared with Python."""

import numpy as np
import tensorflow as tf

from tfmetainit.geometry import metrics
from tfmetainit.io.errors import InputError, UserError
from tfmetainit.litert.artifact import CompiledSignatures, LiteArtifact
from tfmetainit.litert.artifact_fitter import ArtifactFitter
from tfmetainit.meta import completion, functional, inner_loop
from tfmetainit.meta.tasks import Observations, Task
from tfmetainit.modalities import Sample, check_details

# Largest difference between values predicted by an artifact and by Python,
# before and after the training's number of steps.
TOLERANCE = 1e-4
# The same if the output layer is solved. In float32 its solution is not more
# exact: the values of text_64 move by 5e-5 if its weights move by 2e-8, and by
# more with fewer observations.
SOLVED_TOLERANCE = 1e-3
# The signatures for GPUs hold the activations of all rows, about 10 kB a row.
_MAX_ROWS_AT_ONCE = 2**16


def find(signal, input_path, details) -> Task:
    """The signal that the artifacts are checked on.

    Args:
        signal: the signal class.
        input_path: a file, or None for the first signal of the test split.
        details: further arguments of the modality's `read`.

    Raises:
        InputError: if there is no such signal, or its target is not known.
    """
    if input_path is None and details:
        raise InputError(
            f"`{min(details)}` must be given together with `input_path`. "
            "Received: no file"
        )
    if input_path is not None:
        check_details(signal.modality, details)
        task = signal.read_task(input_path, **details)
        if task.query.values is None:
            raise InputError(
                "`input_path` must be a signal whose target is known, not only "
                f"its observations. Received: {input_path}"
            )
        return task
    try:
        signals = signal.make_dataset("test", 1)
    except InputError as error:
        raise InputError(
            "The signals of the run cannot be opened. Name a file with "
            f"`input_path` to check the artifacts on. Received: none ({error})"
        ) from error
    for batch in signals.take(1):
        return tf.nest.map_structure(lambda leaf: leaf[0], batch)
    raise InputError("The test split of the class holds no signal.")


class Case:
    """A held-out signal, and the predictions of Python for it.

    Predictions are pairs: before and after the training's number of steps.

    Args:
        learner: the learner with trained weights.
        adapter: the learner's `Adapter`, perhaps with rounded weights.
        signal: the class of the signal.
        task: the signal, without a batch axis.
        num_points: number of observations that the .tflite file takes.

    Attributes:
        tolerance: the largest difference that `compare` allows.
    """

    def __init__(self, learner, adapter, signal, task: Task, num_points: int):
        self._signal, self._num_points = signal, num_points
        self._prior = adapter.rounded_prior() if adapter.completes else None
        self._loss = learner.support_loss
        self._steps = min(learner.inner_steps, adapter.max_steps)
        self._solves = adapter.solves
        self.tolerance = SOLVED_TOLERANCE if self._solves else TOLERANCE
        self._coords = task.query.inputs.numpy()
        self._target = task.query.values.numpy()
        inputs, values = (leaf[:1].numpy() for leaf in task.support)
        if signal.modality is not None:
            inputs, values = signal.modality.thinned(inputs, values, num_points)
        self._inputs = inputs[0, :num_points]
        self._values = values[0, :num_points]
        support = Observations(
            tf.constant(self._inputs[None]), tf.constant(self._values[None])
        )
        # The artifacts start from the weights rounded to their precision.
        params = self._params = adapter.init_params()
        adapted, _ = inner_loop.adapt(
            learner.support_loss,
            params,
            support,
            batches=learner.batches(support),
            num_steps=self._steps,
            step_sizes=adapter.step_sizes(),
            ridge=learner.ridge,
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

        The default are Python's predictions with the trained weights, without
        rounding.
        """
        return tuple(
            float(metrics.psnr_from_mse(np.mean((values - self._target) ** 2)))
            for values in predicted or self._trained
        )

    def compare(self, name, predicted) -> float:
        """The largest difference from Python's predictions.

        Raises:
            UserError: if it is not within `tolerance`.
        """
        name = f"{name} after {self._steps} steps"
        return self._compare(name, predicted, self._expected)

    def _compare(self, name, predicted, expected):
        # np.max, unlike max, keeps NaN.
        difference = float(
            np.max([np.abs(a - b) for a, b in zip(predicted, expected)])
        )
        if not difference <= self.tolerance:
            raise UserError(
                f"The values of the {name} may differ from Python's by at "
                f"most {self.tolerance:g}. Received: a difference of "
                f"{difference:.2g}. Nothing was written."
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
        """Inputs of a request to the SavedModel, by name of the signature."""
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
        """Predictions of the .tflite file."""
        fitter = ArtifactFitter(path)
        fitter.prepare(self._signal)
        sample = Sample(
            self._inputs[None], self._values[None], self._coords, self._target
        )
        (fitted,) = fitter.fit([sample], self._steps, ())
        return tuple(
            fitter.predict(theta, self._coords)
            for theta in (fitter.init(), fitted.theta)
        )

    def through_steps(self, path):
        """Predictions of the .tflite file by its signatures for GPUs.

        None for files of more than `_MAX_ROWS_AT_ONCE` rows.
        """
        if self._num_points > _MAX_ROWS_AT_ONCE:
            return None
        model = CompiledSignatures(path.read_bytes())
        missing = self._num_points - len(self._inputs)
        rows = {
            name: np.pad(leaf, [(0, missing)] + [(0, 0)] * (leaf.ndim - 1))
            for name, leaf in {
                "inputs": self._inputs,
                "values": self._values,
                "weights": np.ones([len(self._inputs), 1], np.float32),
            }.items()
        }
        step = "adapt_half" if "adapt_half" in model.names() else "adapt_step"
        theta = model.run("init")["theta"]
        steps = [step] * self._steps + ["solve_output"] * self._solves
        adapted = theta
        for name in steps:
            adapted = model.run(name, theta=adapted, **rows)["theta"]
        artifact = LiteArtifact(path)
        return tuple(
            artifact.predict(t, self._coords) for t in (theta, adapted)
        )

    def check_completion(self, path) -> float:
        """As `compare`, of what the .tflite file predicts from half the rows.

        It is 0 for a single row, and for files of more than
        `_MAX_ROWS_AT_ONCE` rows.

        Raises:
            UserError: as in `compare`.
        """
        if len(self._inputs) < 2 or self._num_points > _MAX_ROWS_AT_ONCE:
            return 0.0
        half = len(self._inputs) // 2
        inputs, values = self._inputs, self._values
        observed = Observations(
            *map(tf.constant, (inputs[:half], values[:half]))
        )
        _, values, _ = LiteArtifact(path).complete(
            inputs[:half], values[:half], inputs[half:]
        )
        params = completion.complete(
            self._params,
            self._prior,
            self._loss.normal_equations(self._params, observed),
            tf.constant([[float(half)]]),
        )
        expected = self._loss.predict(params, inputs[half:]).numpy()
        name = "completion by the .tflite file"
        return self._compare(name, [values[half:]], [expected])
