"""A Keras model as a pure function of a flat list of parameters.

Meta-learning differentiates through parameter updates, so nothing may be
assigned while a field is adapted: parameters go in, parameters come out.

`params` is a list of tensors, one to one with the model's
`trainable_variables`. Frozen state (for example random Fourier frequencies)
stays in the model: it is read, never adapted.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from tfmetainit.forward_models.identity import Field

Params = list[tf.Tensor]


class Sides(NamedTuple):
    """Matrices on both sides of a kernel's gradient, in place of a step size.

    Attributes:
        left: `[in, in]` for a kernel `[in, out]`.
        right: `[out, out]`.
    """

    left: tf.Tensor
    right: tf.Tensor


StepParams = list[tf.Tensor | Sides]  # one for each parameter


def get_params(model: keras.Model) -> Params:
    """Returns the model's trainable variables as a list of tensors."""
    return [tf.convert_to_tensor(v) for v in model.trainable_variables]


def set_params(model: keras.Model, params: Sequence) -> None:
    """Assigns `params` (tensors or arrays) to the model's variables.

    Raises:
        ValueError: if their number or shapes differ from the model's.
    """
    variables = model.trainable_variables
    received = [tuple(p.shape) for p in params]
    expected = [tuple(v.shape) for v in variables]
    if received != expected:
        raise ValueError(
            "`params` must match the model's trainable variables, of shapes "
            f"{expected}. Received: shapes {received}"
        )
    for variable, value in zip(variables, params):
        variable.assign(value)


def bind(model: keras.Model, params: Params) -> Field:
    """Returns the field `coords -> values` of a model with other parameters.

    Args:
        model: a built Keras model, `[..., coord_dims] -> [..., value_dims]`.
        params: tensors, one to one with `model.trainable_variables`.
    """
    frozen = [v.value for v in model.non_trainable_variables]

    def field(coords):
        values, _ = model.stateless_call(params, frozen, coords)
        return values

    return field


def bind_features(model: keras.Model, params: Params) -> Field:
    """As `bind`, for the model's method `features`: its last activations."""

    def features(coords):
        scope = list(zip(model.trainable_variables, params))
        with keras.StatelessScope(scope):
            return model.features(coords)

    return features


def values_and_grads(
    predict: Callable[[Params], tf.Tensor],
    params: Params,
    measures: Sequence[Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]],
) -> list[tuple[tf.Tensor, Params]]:
    """Value and gradient of each `measure(predict(params))`.

    Only `predict` runs under the tape, once for all measures. A measure
    supplies its own derivative, which enters as the tape's `output_gradients`.
    Outer tapes can differentiate through all of this, and an exported graph
    holds no operation that LiteRT lacks.

    Args:
        predict: the predictions as a function of the parameters.
        params: list of tensors.
        measures: each maps predictions to `(loss, d loss / d predictions)`.

    Returns:
        For each measure, the scalar loss and its gradient with respect to the
        parameters, a list like `params`.
    """
    with tf.GradientTape(
        persistent=len(measures) > 1, watch_accessed_variables=False
    ) as tape:
        tape.watch(params)
        predictions = predict(params)
    results = []
    for measure in measures:
        value, cotangent = measure(predictions)
        gradients = tape.gradient(
            predictions,
            params,
            output_gradients=cotangent,
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        results.append((value, gradients))
    return results


def descend(
    params: Params, gradients: Params, step_sizes: StepParams
) -> Params:
    """One gradient step: `params - step_sizes * gradients`, tensor by tensor.

    Args:
        params: list of tensors.
        gradients: list like `params`.
        step_sizes: list of the same length; each entry is a scalar, a tensor
            of its parameter's shape, or the `Sides` of a kernel:
            `kernel - left @ gradient @ right`.
    """

    def change(gradient, size):
        if isinstance(size, Sides):
            return tf.matmul(tf.matmul(size.left, gradient), size.right)
        return size * gradient

    return [p - change(g, a) for p, g, a in zip(params, gradients, step_sizes)]


def mean(params_of_tasks: Sequence[Params]) -> Params:
    """The mean of several parameter lists, one list per task."""
    count = len(params_of_tasks)
    return [tf.add_n(same) / count for same in zip(*params_of_tasks)]


def flatten(params: Sequence) -> tf.Tensor:
    """All parameters as one vector `[P]`: in their order, each row by row."""
    return tf.concat([tf.reshape(p, [-1]) for p in params], axis=0)


def unflatten(theta: tf.Tensor, shapes: Sequence[tuple[int, ...]]) -> Params:
    """The inverse of `flatten`.

    Args:
        theta: `[P]`, where P is the number of entries of all `shapes`.
        shapes: shapes of the parameters, in their order.
    """
    sizes = [math.prod(shape) for shape in shapes]
    parts = tf.split(theta, sizes)
    return [tf.reshape(part, shape) for part, shape in zip(parts, shapes)]
