"""What a signal may look like where it was not observed.

Gradient steps that fit a part of a signal say little about the rest. This
module predicts the rest by a Gaussian prior over the output weights, that of
probabilistic PCA (Tipping & Bishop 1999, doi 10.1111/1467-9868.00196). It is
measured after the training, and changes nothing in it.

Notation, beside that of `output_layer`: the output weights of a signal of the
class are the learned ones plus X `[width + 1, c]`, and

    X = mean + sum_k z_k component_k,    z ~ N(0, I).

Its values are those of the field, plus white noise of variance sigma^2. Given n
observations, the most probable z solves

    (sum_j C_j' G C_j + sigma^2 / n I) z = sum_j C_j' (m_j - G mean_j)

where j is a channel, column k of C_j is that of component k, G = A'A / n, and
m_j is a column of A'R / n.

A fit of a part then takes the predicted values for the rest as observations of
a small weight, `UNSEEN_WEIGHT`: gradient steps and solution are as for a whole
signal (docs/recipe.md).
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

# Weight of a predicted value in a fit, beside 1 for an observed one. For text
# and photographs, from halves to 5% of the pixels, 0.03 to 0.3 are about as
# good; 0 and 1 lose up to 8 dB.
UNSEEN_WEIGHT = 0.1


class Prior(NamedTuple):
    """A Gaussian prior over output weights.

    Attributes:
        bases: for each channel a matrix `[width + 1, K + 1]`: the components,
            scaled by their standard deviations, and the mean behind them.
        noise: sigma^2, a positive scalar.
    """

    bases: list[tf.Tensor]
    noise: tf.Tensor


def has_prior(field: keras.Model, forward_model: ForwardModel) -> bool:
    """Whether `measure` can be called for signals observed in this way."""
    try:
        output_layer.check_solvable(field, forward_model)
    except ValueError:
        return False
    return True


def measure(
    loss: FieldLoss, supports: Iterable[Observations], num_components: int
) -> Prior:
    """The prior of a class of signals.

    Args:
        loss: the loss of the field, whose own weights are the learned ones.
        supports: observations `[n, ...]` of whole signals of the class, at
            least two.
        num_components: K, at most; there is one less than there are signals.
    """
    params = get_params(loss.field)

    @tf.function(reduce_retracing=True)
    def solve(observed):
        equations = loss.normal_equations(params, observed)
        by = output_layer.cholesky(equations, output_layer.DEFAULT_RIDGE)
        return by, loss(output_layer.change(params, by), observed)

    changes, errors = zip(*map(solve, supports))
    changes, noise = tf.stack(changes), tf.reduce_mean(errors)
    count, rows, channels = changes.shape
    mean = tf.reduce_mean(changes, axis=0)
    deviations = tf.reshape(changes - mean, [count, -1])
    scales, _, directions = tf.linalg.svd(deviations)
    kept = min(num_components, count - 1, rows * channels)
    components = directions[:, :kept] * scales[:kept] / count**0.5
    components = tf.reshape(components, [rows, channels, kept])
    bases = tf.concat([components, mean[:, :, None]], axis=-1)
    return Prior(tf.unstack(bases, axis=1), noise)


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
    channels, size = len(prior.bases), prior.bases[0].shape[1] - 1
    grams, moments = [], []
    columns = tf.split(equations.moment, channels, axis=1)
    for basis, column in zip(prior.bases, columns):
        components, mean = tf.split(basis, [size, 1], axis=1)
        column -= tf.matmul(equations.gram, mean)
        by_gram = tf.matmul(equations.gram, components)
        grams.append(tf.matmul(components, by_gram, transpose_a=True))
        moments.append(tf.matmul(components, column, transpose_a=True))
    # Not tf.add_n, which GPU delegates lack.
    reduced = NormalEquations(
        sum(grams[1:], grams[0]), sum(moments[1:], moments[0])
    )
    z = solve(reduced, prior.noise / count)
    z = tf.concat([z, tf.ones([1, 1], z.dtype)], axis=0)
    by = tf.concat([tf.matmul(basis, z) for basis in prior.bases], axis=1)
    return output_layer.change(params, by)
