"""Predicts the values of a signal where it was not observed.

Gradient steps on a part of a signal say little about the rest. This module
predicts the rest by a Gaussian prior over the output weights: probabilistic
PCA (Tipping & Bishop 1999, doi 10.1111/1467-9868.00196). The prior is measured
after the training, and changes no weight.

Notation, beside that of `output_layer`: the output weights of a signal of the
class are the learned ones plus X `[width + 1, c]`, and

    X = mean + C Z S,    Z [K, c] of independent standard normal numbers.

The columns of C are K components, which all channels share. S `[c, c]` mixes
the channels. A signal is its field plus white noise: independent numbers of
variance sigma^2, whose channels are mixed by S as well. Then S cancels. Given
n observations, the most probable X is mean + C Y, where Y solves

    (C' G C + sigma^2 / n I) Y = C' (A'R / n - G mean),    G = A'A / n.

A fit then treats the predicted values as observations of a small weight. Its
steps and its solution are those of a whole signal (docs/recipe.md).
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import keras
import tensorflow as tf

from tfmetainit.forward_models.identity import ForwardModel
from tfmetainit.meta import output_layer
from tfmetainit.meta.functional import Params, get_params
from tfmetainit.meta.output_layer import NormalEquations
from tfmetainit.meta.tasks import FieldLoss, Observations


class Prior(NamedTuple):
    """A Gaussian prior over output weights.

    Attributes:
        mean: `[width + 1, c]`.
        components: C, `[width + 1, K]`.
        noise: sigma^2, a positive scalar.
        unseen_weight: in (0, 1], the weight of a predicted value in a fit,
            beside 1 for an observed one.
    """

    mean: tf.Tensor
    components: tf.Tensor
    noise: tf.Tensor
    unseen_weight: float


def has_prior(field: keras.Model, forward_model: ForwardModel) -> bool:
    """Whether `measure` can be called for signals observed in this way."""
    try:
        output_layer.check_solvable(field, forward_model)
    except ValueError:
        return False
    return True


def measure(
    loss: FieldLoss,
    supports: Iterable[Observations],
    num_components: int,
    unseen_weight: float,
) -> Prior:
    """The prior of a class of signals.

    Args:
        loss: the loss of the field, whose own weights are the learned ones.
        supports: observations `[n, ...]` of whole signals of the class, at
            least two that differ.
        num_components: K, at most; there are no more than units and one.
        unseen_weight: as in `Prior`.
    """
    params = get_params(loss.field)

    @tf.function(reduce_retracing=True)
    def solve(observed):
        equations = loss.normal_equations(params, observed)
        by = output_layer.cholesky(equations, output_layer.DEFAULT_RIDGE)
        left = output_layer.change(params, by)
        missed = tf.cast(observed.values, by.dtype)
        missed -= loss.predict(left, observed.inputs)
        gram = equations.gram
        moved = tf.matmul(gram, by)
        means = (gram, moved, tf.matmul(by, moved, transpose_a=True))
        noise = tf.matmul(missed, missed, transpose_a=True)
        noise /= tf.cast(tf.shape(missed)[0], missed.dtype)
        return by, [tf.cast(mean, tf.float64) for mean in (*means, noise)]

    changes, totals = [], [0.0] * 4
    for by, of_signal in map(solve, supports):
        changes.append(by)
        totals = [total + mean for total, mean in zip(totals, of_signal)]
    changes = tf.stack(changes)
    count, rows, channels = changes.shape
    gram, moved, moved_twice, noise = (total / count for total in totals)
    mean = tf.reduce_mean(changes, axis=0)
    # S'S: the covariance of the channels, over signals and points, is the mean
    # of (X - mean)' G (X - mean).
    exact = tf.cast(mean, tf.float64)
    crossed = tf.matmul(exact, moved, transpose_a=True)
    covariance = moved_twice - crossed - tf.transpose(crossed)
    covariance += tf.matmul(exact, tf.matmul(gram, exact), transpose_a=True)
    noise = tf.linalg.trace(noise) / tf.linalg.trace(covariance)
    # The channels of grey pictures are equal.
    least = 1e-3 * tf.linalg.trace(covariance) / channels
    factor = tf.linalg.cholesky(
        covariance + least * tf.eye(channels, dtype=tf.float64)
    )
    whitened = tf.linalg.triangular_solve(
        tf.repeat(tf.cast(factor, mean.dtype)[None], count, axis=0),
        tf.linalg.matrix_transpose(changes - mean),
    )
    scales, _, directions = tf.linalg.svd(tf.reshape(whitened, [-1, rows]))
    kept = min(num_components, rows, len(scales))
    components = (
        directions[:, :kept] * scales[:kept] / (count * channels) ** 0.5
    )
    noise = tf.cast(noise, mean.dtype)
    return Prior(mean, components, noise, unseen_weight)


def complete(
    params: Params,
    prior: Prior,
    equations: NormalEquations,
    count: tf.Tensor,
    solve: Callable = output_layer.cholesky,
) -> Params:
    """The most probable parameters of a signal that is observed in part.

    Args:
        params: the learned parameters.
        prior: the prior of its class.
        equations: the normal equations of the observations, with `params`.
        count: n, the number of observations, `[1, 1]`.
        solve: `output_layer.cholesky` or, in an export, `newton`.
    """
    gram, moment = equations
    mean, components, noise, _ = prior
    moment = tf.matmul(
        components, moment - tf.matmul(gram, mean), transpose_a=True
    )
    gram = tf.matmul(components, tf.matmul(gram, components), transpose_a=True)
    by = solve(NormalEquations(gram, moment), noise / count)
    return output_layer.change(params, mean + tf.matmul(components, by))
