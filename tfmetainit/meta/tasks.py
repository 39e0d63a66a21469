"""A task: what is observed of one signal, and how its fit is scored.

The inner loop adapts a field to the `support`; the adapted field is scored on
the `query`. The support has a leading axis over batches of observations, which
the inner steps take in turn. One batch means the same observations at every
step, or their halves (`meta.halves`). The query has no such axis:

    support.inputs [b, n, ...]    support.values [b, n, c]
    query.inputs   [m, ...]       query.values   [m, c]

Datasets add a batch axis over tasks in front. The query's values are None if a
file holds observations only, without a target.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from tfmetainit.forward_models.identity import ForwardModel, identity
from tfmetainit.geometry import metrics
from tfmetainit.meta import functional, output_layer
from tfmetainit.meta.functional import Params


class Observations(NamedTuple):
    """Observations of a signal: coordinates, angles or rays, and values."""

    inputs: tf.Tensor
    values: tf.Tensor


class Task(NamedTuple):
    """Observations of one signal: those to adapt to, and those to score."""

    support: Observations
    query: Observations


def mean_squared_error(
    predictions: tf.Tensor, values: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean of the squared error over all entries, and its derivative.

    Args:
        predictions: tensor of any shape.
        values: tensor of the same shape, cast to the dtype of `predictions`.

    Returns:
        `(loss, d loss / d predictions)`: a scalar, and a tensor like
        `predictions`.

    Raises:
        ValueError: if the shapes differ.
    """
    if not predictions.shape.is_compatible_with(values.shape):
        raise ValueError(
            "`values` must have the shape of the predictions, "
            f"{predictions.shape}. Received: values of shape {values.shape}"
        )
    residual = predictions - tf.cast(values, predictions.dtype)
    scale = 2.0 / tf.cast(tf.size(residual), residual.dtype)
    return tf.reduce_mean(tf.square(residual)), scale * residual


def psnr_from_mse(mse: tf.Tensor) -> tf.Tensor:
    """`geometry.psnr_from_mse` of a tensor: PSNR in dB."""
    mse = tf.maximum(mse, tf.cast(metrics.MIN_MSE, mse.dtype))
    return -10.0 / math.log(10.0) * tf.math.log(mse)


@dataclasses.dataclass(frozen=True)
class FieldLoss:
    """The loss of a field's parameters on some observations.

    Attributes:
        field: the network; its own weights are neither read nor written.
        forward_model: maps the field and inputs to predictions.
        measure: `(predictions, values) -> (loss, d loss / d predictions)`, a
            mean over observations. Exported artifacts adapt by the squared
            error only.
    """

    field: keras.Model
    forward_model: ForwardModel = identity
    measure: Callable = mean_squared_error

    def predict(self, params: Params, inputs: tf.Tensor) -> tf.Tensor:
        """Predicted values of the observations made at `inputs`.

        Inputs are cast to the compute dtype of the field.
        """
        inputs = tf.cast(inputs, self.field.compute_dtype)
        return self.forward_model(functional.bind(self.field, params), inputs)

    def __call__(self, params: Params, observed: Observations) -> tf.Tensor:
        """The scalar loss."""
        predictions = self.predict(params, observed.inputs)
        return self.measure(predictions, observed.values)[0]

    def psnr(self, params: Params, observed: Observations) -> tf.Tensor:
        """The PSNR of the predictions in dB, a scalar, for any measure."""
        predictions = self.predict(params, observed.inputs)
        mse, _ = mean_squared_error(predictions, observed.values)
        return psnr_from_mse(mse)

    def normal_equations(
        self, params: Params, observed: Observations, weights=None, total=None
    ) -> output_layer.NormalEquations:
        """`output_layer.normal_equations` of some observations."""
        inputs = tf.cast(observed.inputs, self.field.compute_dtype)
        features = functional.bind_features(self.field, params)(inputs)
        return output_layer.normal_equations(
            self.field, features, params, observed.values, weights, total
        )

    def value_and_grad(
        self, params: Params, observed: Observations
    ) -> tuple[tf.Tensor, Params]:
        """The scalar loss and its gradient, a list like `params`."""
        values = [observed.values]
        return self.values_and_grads(params, observed.inputs, values)[0]

    def values_and_grads(
        self, params: Params, inputs: tf.Tensor, values: Sequence[tf.Tensor]
    ) -> list[tuple[tf.Tensor, Params]]:
        """As `value_and_grad`, for several signals with the same inputs.

        The predictions are computed once.

        Args:
            params: the weights.
            inputs: `[n, ...]`.
            values: `[n, c]` of each signal.

        Returns:
            The result of `value_and_grad` for each signal.
        """
        return functional.values_and_grads(
            lambda params: self.predict(params, inputs),
            params,
            [
                lambda predictions, of_one=of_one: self.measure(
                    predictions, of_one
                )
                for of_one in values
            ],
        )


class WeightedLoss:
    """Weighted mean squared error of rows.

    A `tfmetainit.meta.inner_loop.Loss` of observations `[n, ...]`. It holds no
    control flow, no scalar (every tensor has an axis) and no slice: GPU
    delegates do not take them.

    Args:
        field: the network.
        forward_model: maps the field and inputs to predictions.
        weights: weights of the rows, `[n, 1]`.
        total: the sum of the weights of all rows, `[1, 1]`.
    """

    def __init__(
        self, field: keras.Model, forward_model: ForwardModel, weights, total
    ):
        self._field = field
        self._forward_model = forward_model
        self._weights = weights
        self._total = total

    def value_and_grad(self, params, observed):
        size = float(math.prod(observed.values.shape[1:]))
        weights = self._weights / (size * self._total)
        axes = len(observed.values.shape)
        if axes != 2:
            weights = tf.reshape(weights, [-1] + [1] * (axes - 1))

        def measure(predictions, values):
            residual = predictions - values
            cotangent = weights * residual
            value = tf.reduce_sum(cotangent * residual, axis=0)
            value = tf.reduce_sum(tf.reshape(value, [1, -1]), axis=1)
            return value, 2.0 * cotangent

        loss = FieldLoss(self._field, self._forward_model, measure)
        return loss.value_and_grad(params, observed)

    def normal_equations(self, params, observed):
        loss = FieldLoss(self._field, self._forward_model)
        return loss.normal_equations(
            params, observed, self._weights, self._total
        )
