"""The paper's baselines: initial weights, and Adam to continue from them.

Tancik et al. 2021, section 4: Standard draws the network's own random weights;
Mean is fitted to the mean signal of the class; Matched is fitted to the learned
initialization's own output; Shuffled permutes the learned weights within each
layer.
"""

import copy
import dataclasses
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from tfmetainit.geometry.metrics import psnr_from_mse
from tfmetainit.meta import functional, inner_loop
from tfmetainit.meta.functional import Params
from tfmetainit.meta.inner_loop import at_step
from tfmetainit.meta.learner import MetaLearner
from tfmetainit.meta.tasks import FieldLoss, Observations
from tfmetainit.signals.base.signal_class import first_tasks

# Of `make_baselines`, beside Standard.
OPTIONAL_STARTS = ("Mean", "Matched", "Shuffled")

# If each signal is scored at its own inputs, Matched is fitted at the inputs of
# this many signals.
_MATCHING_TASKS = 250
# Adam's rate for Mean and Matched (paper).
_FITTING_RATE = 1e-4


def standard(field: keras.Model, seed: int) -> Params:
    """New random weights from the field's own initializers."""
    fresh = type(field).from_config({**field.get_config(), "seed": seed})
    return functional.get_params(fresh)


class AdamFit:
    """Fits a field to one signal with Adam, from any initial weights.

    The paper fits its baselines this way.

    Args:
        loss: loss of the observations; the weights of its field are not
            changed.
        learning_rate: Adam's rate.
        ridge: as in `inner_loop.SgdFit`.
    """

    def __init__(
        self,
        loss: FieldLoss,
        learning_rate: float,
        ridge: tf.Tensor | None = None,
    ):
        self._loss = loss
        self._rate = learning_rate
        # Copies: a Keras variable would adopt a tf.Variable as its storage.
        self._weights = [
            keras.Variable(v.numpy()) for v in loss.field.trainable_variables
        ]
        self._optimizer = keras.optimizers.Adam(learning_rate)
        self._optimizer.build(self._weights)
        self._fresh = [v.numpy() for v in self._optimizer.variables]
        self._step = tf.function(self._update)
        self._finish = inner_loop.finisher(loss, ridge)

    def with_rate(self, learning_rate: float) -> "AdamFit":
        """The same at another rate, without compiling again.

        Both have the same state: only one may be fitting at a time.
        """
        other = copy.copy(self)
        other._rate = learning_rate
        return other

    def _update(self, observed):
        _, gradients = self._loss.value_and_grad(self._params(), observed)
        self._optimizer.apply(gradients, self._weights)

    def _params(self):
        return [tf.convert_to_tensor(w) for w in self._weights]

    def trajectory(
        self, params: Params, support: Observations, num_steps: int
    ) -> Iterator[Params]:
        """Yields the weights after 0, 1, ..., `num_steps` steps."""
        for variable, value in zip(self._optimizer.variables, self._fresh):
            variable.assign(value)
        self._optimizer.learning_rate = self._rate
        for weight, value in zip(self._weights, params):
            weight.assign(value)
        yield self._finish(self._params(), support)
        for step in range(num_steps):
            self._step(at_step(support, step))
            yield self._finish(self._params(), support)


def shuffled(params: Params, seed: int) -> Params:
    """The same weights, permuted at random within each tensor."""
    rng = np.random.default_rng(seed)
    return [
        tf.constant(rng.permutation(np.ravel(p)).reshape(p.shape))
        for p in map(np.asarray, params)
    ]


@dataclasses.dataclass(frozen=True)
class Baselines:
    """The baselines of a learned initialization.

    Attributes:
        starts: initial weights, by name in the paper.
        mean: the class's mean signal, query values `[m, c]`.
    """

    starts: dict[str, Params]
    mean: tf.Tensor

    def mean_floor(self, tasks) -> float:
        """Mean PSNR in dB of the class's mean signal on some tasks."""
        errors = [
            np.mean((self.mean - task.query.values) ** 2) for task in tasks
        ]
        return float(np.mean(psnr_from_mse(np.array(errors))))


def make_baselines(
    learner: MetaLearner, signal, options, seed, rows=OPTIONAL_STARTS
) -> Baselines:
    """The baselines of a learner; fitting Mean and Matched can take minutes.

    Args:
        learner: with trained weights.
        signal: the signal class; its mean is that of the validation split.
        options: `config.evaluation` of configs/default.py.
        seed: integer seed of the random weights.
        rows: which of `OPTIONAL_STARTS` to have; others are ignored. Mean
            needs signals that share their inputs.
    """
    field, query_loss = learner.field, learner.query_loss
    random = standard(field, seed + 1)
    learned = functional.get_params(field)
    adam = AdamFit(query_loss, _FITTING_RATE)

    def fit_to(inputs, values):
        support = Observations(inputs, values)
        return inner_loop.last(
            adam.trajectory(random, support, options.num_fit_steps)
        )

    mean = _mean_signal(signal)
    starts = {"Standard": random}
    if signal.shares_inputs:
        inputs = first_tasks(signal, "test", 1)[0].query.inputs[None]
    elif "Matched" in rows:
        tasks = first_tasks(signal, "train", _MATCHING_TASKS)
        inputs = tf.stack([task.query.inputs for task in tasks])
    if "Mean" in rows and signal.shares_inputs:
        starts["Mean"] = fit_to(inputs, mean[None])
    if "Matched" in rows:
        outputs = [query_loss.predict(learned, batch) for batch in inputs]
        starts["Matched"] = fit_to(inputs, tf.stack(outputs))
    if "Shuffled" in rows:
        starts["Shuffled"] = shuffled(learned, seed)
    return Baselines(starts, mean)


def _mean_signal(signal):
    total, count = 0.0, 0
    for batch in signal.make_dataset("validation", 1):
        total += batch.query.values[0]
        count += 1
    return total / count


def constant_floor(tasks) -> float:
    """Mean PSNR in dB of the best constants: each signal's own mean value."""
    errors = [np.mean(np.var(task.query.values, axis=0)) for task in tasks]
    return float(np.mean(psnr_from_mse(np.array(errors))))
