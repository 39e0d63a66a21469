"""What is observed of a signal, what is asked of it, and how both are scored.

A task is one signal: `support` is what the inner loop sees, `query` what the
adapted field is scored on. Every array of the support has a leading axis over
inner steps, of length 1 (the same observations at every step) or `inner_steps`
(fresh ones at each); the query has none:

    support.inputs [1 or steps, n, ...]    support.values [1 or steps, n, c]
    query.inputs   [m, ...]                query.values   [m, c]

Datasets add a batch axis over tasks in front of all of them. Of a file of the
user's that holds observations only, the query's values are None.
"""

import abc
import dataclasses
import logging
import math
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tfmetainit import functional, pixels
from tfmetainit.errors import InputError
from tfmetainit.forward_models import ForwardModel, identity
from tfmetainit.functional import Params
from tfmetainit.kinds import Kind, Sample

_LOGGER = logging.getLogger("tfmetainit")


class Observations(NamedTuple):
    """Some observations: where (or how) they were made, and their values."""

    inputs: tf.Tensor
    values: tf.Tensor


class Task(NamedTuple):
    """One signal: observations to adapt to, and observations to score."""

    support: Observations
    query: Observations


def mean_squared_error(
    predictions: tf.Tensor, values: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean over all entries of the squared error, and its derivative.

    Args:
        predictions: tensor of any shape.
        values: tensor of the same shape; of another precision, it is cast.

    Returns:
        `(loss, d loss / d predictions)`: a scalar, and a tensor like
        `predictions`.

    Raises:
        ValueError: if the shapes differ.
    """
    if not predictions.shape.is_compatible_with(values.shape):
        raise ValueError(
            "Observed values must have the shape of the predictions, "
            f"{predictions.shape}. Received: values of shape {values.shape}"
        )
    residual = predictions - tf.cast(values, predictions.dtype)
    scale = 2.0 / tf.cast(tf.size(residual), residual.dtype)
    return tf.reduce_mean(tf.square(residual)), scale * residual


def psnr_from_mse(mse):
    """Peak signal-to-noise ratio in dB of values in [0, 1]: -10 log10(mse).

    Accepts a number, an array or a tensor; PSNRs are averaged over signals
    after this, never before (Tancik et al. 2021). A perfect fit counts 100 dB.
    """
    if isinstance(mse, tf.Tensor):
        mse = tf.maximum(mse, tf.cast(pixels.MIN_MSE, mse.dtype))
        return -10.0 / math.log(10.0) * tf.math.log(mse)
    return pixels.psnr_from_mse(mse)


def constant_floor(tasks) -> float:
    """Mean PSNR in dB of each signal's own mean value, the best constant."""
    return float(
        np.mean(
            [
                psnr_from_mse(np.mean(np.var(task.query.values, axis=0)))
                for task in tasks
            ]
        )
    )


@dataclasses.dataclass(frozen=True)
class FieldLoss:
    """The loss of a field's parameters on some observations.

    Attributes:
        field: the network; its own weights are never read or written here.
        forward_model: maps the field and inputs to predictions.
        measure: `(predictions, values) -> (loss, d loss / d predictions)`, a
            mean over observations. (An export adapts by the squared error,
            and takes a support loss of that measure only.)
    """

    field: keras.Model
    forward_model: ForwardModel = identity
    measure: Callable = mean_squared_error

    def predict(self, params: Params, inputs: tf.Tensor) -> tf.Tensor:
        """Predicted values of the observations made at `inputs`.

        Inputs of another precision than the field's are cast.
        """
        inputs = tf.cast(inputs, self.field.compute_dtype)
        return self.forward_model(functional.bind(self.field, params), inputs)

    def __call__(self, params: Params, observed: Observations) -> tf.Tensor:
        """The scalar loss."""
        predictions = self.predict(params, observed.inputs)
        return self.measure(predictions, observed.values)[0]

    def psnr(self, params: Params, observed: Observations) -> tf.Tensor:
        """The PSNR of the predictions in dB, whatever the measure: scalar."""
        predictions = self.predict(params, observed.inputs)
        mse, _ = mean_squared_error(predictions, observed.values)
        return psnr_from_mse(mse)

    def value_and_grad(
        self, params: Params, observed: Observations
    ) -> tuple[tf.Tensor, Params]:
        """The scalar loss and its gradient, a list like `params`."""
        several = observed._replace(values=[observed.values])
        return self.values_and_grads(params, several)[0]

    def values_and_grads(
        self, params: Params, observed: Observations
    ) -> list[tuple[tf.Tensor, Params]]:
        """As `value_and_grad`, for several signals observed at the same inputs.

        The predictions are computed once.

        Args:
            params: the weights.
            observed: the inputs `[n, ...]`, and a list of each signal's values
                `[n, c]`.

        Returns:
            Of each signal what `value_and_grad` returns.
        """
        return functional.values_and_grads(
            lambda params: self.predict(params, observed.inputs),
            params,
            [
                lambda predictions, of_one=of_one: self.measure(
                    predictions, of_one
                )
                for of_one in observed.values
            ],
        )


class SignalClass(abc.ABC):
    """A class of signals: where its tasks come from and how they are shown.

    A new class is one file in `tfmetainit/signals/` with a function
    `make_signal_class(**options)` that returns one of these, and one config.

    Attributes:
        coord_dims: number of coordinates of the field.
        value_dims: number of values of the field.
        support_model: forward model of the observations adapted to.
        query_model: forward model of the observations scored.
        observations_per_chunk: how many observations an exported adapter works
            on at a time, which bounds its memory; None for all together, where
            a forward model's cost does not grow with their number.
        shares_inputs: whether all signals are scored at the same inputs: only
            then is there a baseline that is fitted to their mean. (Of each
            signal as many are scored, in any case.)
        shares_support: whether in training the first inner step has the same
            support inputs for all signals: the tasks of a meta-batch then
            share its predictions.
        kind: what reads files of such signals and draws them; None for a
            class that does both itself, or neither.
    """

    coord_dims: int
    value_dims: int
    support_model: ForwardModel = staticmethod(identity)
    query_model: ForwardModel = staticmethod(identity)
    observations_per_chunk: int | None = 1024
    shares_inputs: bool = True
    shares_support: bool = False
    kind: Kind | None = None

    @property
    def has_pictures(self) -> bool:
        """Whether `picture` shows values; else none are made of them."""
        own = type(self).picture is not SignalClass.picture
        return own or self.kind is not None

    @abc.abstractmethod
    def make_dataset(
        self,
        split: str,
        batch_size: int,
        seed: int = 0,
        start: int = 0,
        shard: tuple[int, int] = (0, 1),
    ) -> tf.data.Dataset:
        """Batches of `Task`, every random number drawn from `seed`.

        Args:
            split: "train" (shuffled, endless), "validation" or "test" (in a
                fixed order, once).
            batch_size: number of tasks in a batch; a rest is dropped.
            seed: integer. (`tf.data` mixes TensorFlow's global seed into it:
                the same order again takes the same `tf.random.set_seed`.)
            start: number of batches to skip, at less cost than making them:
                where a resumed run goes on.
            shard: (index, number) of a share: of the tasks, in their order,
                every `number`-th. Batches of all shares of one `start` and
                `batch_size` are together the tasks of batches `number` times
                as large.
        """

    def all_tasks(self, split: str, start: int = 0) -> tf.data.Dataset:
        """The signals of a split as tasks for evaluation, one by one.

        Args:
            split: "validation", "test", or for classes that offer it "train".
            start: number of signals to skip, at less cost than making tasks.

        Returns:
            `Task`s without a batch axis, in a fixed order, once.
        """
        if split == "train":
            raise InputError(
                "This class of signals has its training split for training "
                "only: choose --split=validation or test."
            )
        return self.make_dataset(split, 1, start=start).unbatch()

    def conditions(self) -> dict[str, "SignalClass"]:
        """What `evaluate` tells apart, for example numbers of views.

        Returns:
            The class under each condition, by a label; by default itself.
        """
        return {"": self}

    def classical(self, task: Task) -> dict[str, np.ndarray]:
        """Query values `[m, value_dims]` of methods without any learning.

        Returns:
            They, by the method's name; by default there is none.
        """
        del task
        return {}

    def observed_pictures(self, count: int) -> list[np.ndarray]:
        """What the first test signals are observed through, as pictures.

        Returns:
            Up to `count` images `[height, width, 3]`; by default none, where
            the signal itself is what is observed.
        """
        del count
        return []

    def films(
        self, loss: FieldLoss, adapted: list[Params]
    ) -> dict[str, list[np.ndarray]]:
        """Short films of fields that were adapted to the first test signals.

        Args:
            loss: the query loss, with the field.
            adapted: the weights, one list a signal.

        Returns:
            Frames `[height, width, 3]` in [0, 1], by the films' names; by
            default there is none.
        """
        del loss, adapted
        return {}

    def describe(self) -> dict:
        """What the user of an exported artifact must know of the signals.

        Returns:
            A JSON-serializable dict with "kind" (`tfmetainit.kinds`).
        """
        return self.kind.describe() if self.kind else {"kind": "custom"}

    def read_sample(self, path, **details: str) -> Sample:
        """One file of the user's.

        Args:
            path: the file.
            **details: what the kind's `read` takes beside it.

        Raises:
            InputError: if the file cannot be read as such a signal.
        """
        if self.kind is None:
            raise InputError("Files of this class of signals cannot be read.")
        return self.kind.read(path, **details)

    def read_task(self, path, **details: str) -> Task:
        """As `read_sample`, for TensorFlow: without a batch axis."""
        return to_task(self.read_sample(path, **details))

    def picture(self, values: np.ndarray) -> np.ndarray:
        """Query values `[m, value_dims]` as an image `[height, width, 3]`."""
        return self.kind.picture(values)

    def render(self, predict, height: int, width: int, view=None) -> np.ndarray:
        """A field as an image `[height, width, 3]`, at any resolution.

        Args:
            predict: maps query inputs to query values.
            height: rows of the image, or of each of its parts.
            width: its columns.
            view: that of the `Sample` that it was fitted to.
        """
        return self.kind.render(
            lambda inputs: np.asarray(predict(tf.constant(inputs))),
            height,
            width,
            view,
        )


def to_task(sample: Sample) -> Task:
    """What was read from one file as a task, without a batch axis."""
    return Task(
        Observations(
            tf.constant(sample.inputs),
            tf.constant(sample.values),
        ),
        Observations(
            tf.constant(sample.coords),
            None if sample.target is None else tf.constant(sample.target),
        ),
    )


def first_tasks(signal: SignalClass, split: str, count: int) -> list[Task]:
    """Up to `count` tasks of a split, without a batch axis.

    Raises:
        InputError: if there is none.
    """
    dataset = signal.make_dataset(split, 1).take(count)
    tasks = [
        tf.nest.map_structure(lambda leaf: leaf[0], batch) for batch in dataset
    ]
    if not tasks:
        raise InputError(f"The {split} split of the class holds no signal.")
    if len(tasks) < count:
        _LOGGER.info(
            "The %s split holds %d of the %d signals asked for",
            *(split, len(tasks), count),
        )
    return tasks
