"""The output layer in closed form: a ridge regression after the inner steps.

A field whose last layer is linear is `h(x) @ kernel + bias + output_offset`,
with the last hidden activations h `[width]`. The kernel and bias that fit n
observations best are a least-squares problem. This module solves it with a
penalty for leaving the weights that the gradient steps ended at, so that the
init stays a prior where little was observed. The outer gradient of MAML flows
through the solution, as in R2-D2 (Bertinetto et al. 2019, arXiv 1805.08136,
section 3), which does the same for classifiers.

Notation: A `[n, width + 1]` are the activations with a column of ones for the
bias, R `[n, c]` is what the field misses of the values, lambda is the ridge.
The change of the output weights, X `[width + 1, c]`, minimizes

    |A X - R|^2 / n + lambda |X|^2,  thus  (A'A / n + lambda I) X = A'R / n.

A'A / n and A'R / n are the normal equations. They are means over observations:
those of several chunks add up.
"""

from typing import NamedTuple

import keras
import tensorflow as tf

from tfmetainit.forward_models.identity import ForwardModel, identity
from tfmetainit.meta.functional import Params

OUTPUT_LAYERS = ("stepped", "solved")

# A ridge at which training starts. Activations are of order 1.
DEFAULT_RIDGE = 1e-4

# The least ridge, relative to the trace of the Gram matrix: some units in the
# last place. With it, sums in another order and another solver change the
# predictions by less than 1e-4. Smaller ones are up to 0.6 dB better.
_ROUNDING = {"float32": 2.0**-19, "float64": 2.0**-48}

# Columns that an elimination takes at a time.
_BLOCK = 16


class NormalEquations(NamedTuple):
    """Means over observations.

    Attributes:
        gram: A'A / n, `[width + 1, width + 1]`.
        moment: A'R / n, `[width + 1, c]`.
    """

    gram: tf.Tensor
    moment: tf.Tensor

    @classmethod
    def zeros(cls, params: Params) -> "NormalEquations":
        """Zeros for a field with these parameters."""
        kernel, bias = params[-2:]
        width, channels = kernel.shape[0] + 1, bias.shape[0]
        return cls(
            tf.zeros([width, width], kernel.dtype),
            tf.zeros([width, channels], kernel.dtype),
        )


def check_solvable(field: keras.Model, forward_model: ForwardModel) -> None:
    """Raises ValueError unless the output layer of a field can be solved.

    The field must have a method `features`, which maps coordinates to the
    activations that its output layer takes. Its last two trainable variables
    must be the kernel and the bias of that layer. Its values are the layer's,
    plus its attribute `output_offset` if it has one.
    """
    name = getattr(forward_model, "__name__", type(forward_model).__name__)
    if forward_model is not identity:
        raise ValueError(
            "`output_layer` can be 'solved' only for signals that are observed "
            "directly, such as images; use 'stepped'. Received: the forward "
            f"model {name}"
        )
    if not hasattr(field, "features"):
        raise ValueError(
            "`output_layer` can be 'solved' only for a field with a linear "
            "output layer and a method `features`, such as SIREN; use "
            f"'stepped'. Received: {type(field).__name__}"
        )


def normal_equations(
    field: keras.Model,
    features: tf.Tensor,
    params: Params,
    values: tf.Tensor,
    weights: tf.Tensor | None = None,
) -> NormalEquations:
    """The normal equations of some observations.

    Args:
        field: the network; its own weights are not read.
        features: its last hidden activations `[n, width]`.
        params: its parameters; the last two are the output weights.
        values: the observed values `[n, c]`.
        weights: the weights of the observations in the means, `[n, 1]`; by
            default 1 / n. What is observed with weight 0 may be NaN.
    """
    kernel, bias = params[-2:]
    values = tf.cast(values, features.dtype)
    predictions = tf.matmul(features, kernel) + bias + _offset(field)
    missed = values - predictions
    if weights is None:
        total = tf.cast(tf.shape(features)[0], features.dtype)
        weighted, scale = (features, missed), 1.0 / total
    else:
        total, scale = tf.reduce_sum(weights), 1.0
        missed = tf.where(weights > 0.0, missed, 0.0)
        weighted = weights * features, weights * missed
    # The bias apart: matrices whose width is a power of 2 are multiplied fast.
    sums = [tf.reduce_sum(w, axis=0, keepdims=True) for w in weighted]
    gram = tf.matmul(weighted[0], features, transpose_a=True)
    gram = tf.concat([gram, tf.transpose(sums[0])], axis=1)
    last = tf.concat([sums[0], tf.reshape(total, [1, 1])], axis=1)
    moment = tf.matmul(features, weighted[1], transpose_a=True)
    return NormalEquations(
        scale * tf.concat([gram, last], axis=0),
        scale * tf.concat([moment, sums[1]], axis=0),
    )


def _offset(field):
    return getattr(field, "output_offset", 0.0)


def cholesky(equations: NormalEquations, ridge: tf.Tensor) -> tf.Tensor:
    """The change X of the output weights, by a Cholesky factorization.

    It is differentiable any number of times. The ridge is at least the
    rounding error of the Gram matrix, so that the factorization exists even
    for a single observation. X is zero if the equations are not finite.

    Args:
        equations: the normal equations.
        ridge: lambda, a positive scalar.
    """
    gram, moment = equations
    identity = tf.eye(gram.shape[0], dtype=gram.dtype)
    ridge = _at_least_rounding(gram, ridge)
    # The factorization raises for what is not finite, instead of returning it.
    finite = tf.math.is_finite(tf.reduce_sum(gram) + tf.reduce_sum(moment))
    gram = tf.where(finite, gram + ridge * identity, identity)
    return _solve(gram, tf.where(finite, moment, tf.zeros_like(moment)))


def _at_least_rounding(gram, ridge):
    """The ridge, or the rounding error of the Gram matrix if that is larger."""
    size = gram.shape[0]
    # Not tf.linalg.trace, which LiteRT lacks.
    diagonal = tf.gather(
        tf.reshape(gram, [-1]), tf.range(0, size * size, size + 1)
    )
    rounding = _ROUNDING[gram.dtype.name] * tf.reduce_sum(diagonal)
    return tf.maximum(tf.cast(ridge, gram.dtype), rounding)


@tf.custom_gradient
def _solve(gram, moment):
    """The solution X of gram @ X = moment for a positive definite matrix.

    With an upstream gradient U, the gradient with respect to the moment is
    V = gram^-1 U, and that with respect to the matrix is -V X'. Differentiating
    the factorization itself would cost more, and round more.
    """
    factor = tf.linalg.cholesky(gram)
    solution = tf.linalg.cholesky_solve(factor, moment)
    # One step of refinement, against the rounding of the factorization.
    missed = moment - tf.matmul(gram, solution)
    solution += tf.linalg.cholesky_solve(factor, missed)

    def grad(upstream):
        by_moment = _solve(gram, upstream)
        return -tf.matmul(by_moment, solution, transpose_b=True), by_moment

    return solution, grad


def eliminate(equations: NormalEquations, ridge: tf.Tensor) -> tf.Tensor:
    """As `cholesky`, by Gauss-Jordan elimination in operations of LiteRT.

    LiteRT has no factorizations. Conjugate gradients do not converge: training
    through the solution makes features whose Gram matrix has condition numbers
    above 1e6. The elimination is exact but for rounding. It needs no pivoting,
    as the matrix is positive definite. It is not defined for equations that
    are not finite.
    """
    gram, moment = equations
    size, ridge = gram.shape[0], _at_least_rounding(gram, ridge)
    padding = [[0, -size % _BLOCK]]
    gram = tf.pad(gram, 2 * padding)
    moment = tf.pad(moment, [*padding, [0, 0]])
    solution = _gauss_jordan(gram, moment, ridge, _BLOCK)
    # Again for what rounding left, as there may be fewer rows than units.
    missed = moment - tf.matmul(gram, solution) - ridge * solution
    solution += _gauss_jordan(gram, missed, ridge, _BLOCK)
    solution, _ = tf.split(solution, [size, -size % _BLOCK])
    return solution


def _gauss_jordan(matrix, moment, ridge, block):
    """The solution X of (matrix + ridge I) @ X = moment, by blocks of columns.

    A block's rows are multiplied by the inverse of its pivot, and their
    multiples are subtracted from all other rows. Indices are gathered: slices
    at computed places have dynamic shapes in LiteRT.
    """
    size = matrix.shape[0]

    def body(start, matrix, moment):
        places = start + tf.range(block)
        unit = tf.cast(tf.range(size)[:, None] == places[None], matrix.dtype)
        columns = tf.gather(matrix, places, axis=1) + ridge * unit
        rows = tf.gather(matrix, places) + ridge * tf.transpose(unit)
        pivot = tf.gather(rows, places, axis=1)
        if block == 1:
            inverse = 1.0 / pivot
        else:
            one = tf.eye(block, dtype=matrix.dtype)
            inverse = _gauss_jordan(pivot, one, 0.0, 1)
        others = columns - unit
        matrix -= tf.matmul(others, tf.matmul(inverse, rows))
        solved = tf.matmul(inverse, tf.gather(moment, places))
        return start + block, matrix, moment - tf.matmul(others, solved)

    return tf.while_loop(
        lambda start, *_: start < size, body, [0, matrix, moment]
    )[-1]


def change(params: Params, by: tf.Tensor) -> Params:
    """The parameters with output weights that are changed by X."""
    *hidden, kernel, bias = params
    return [*hidden, kernel + by[:-1], bias + by[-1]]


def solved(loss, params: Params, support, ridge: tf.Tensor) -> Params:
    """The parameters with output weights that are solved for one signal.

    The solution is for predictions. Gradient steps go on from `params`: a step
    that is taken from the solution is worse (docs/recipe.md).

    Args:
        loss: a `tasks.FieldLoss`, or a wrapper of one.
        params: the weights after the gradient steps.
        support: `Observations` `[b, n, ...]` of the signal (see `tasks`); the
            solution is for all batches together.
        ridge: lambda, a positive scalar.
    """
    batches = tf.nest.map_structure(tf.unstack, support)
    equations = [
        loss.normal_equations(params, type(support)(*observed))
        for observed in zip(*batches)
    ]
    means = [tf.add_n(same) / len(same) for same in zip(*equations)]
    return change(params, cholesky(NormalEquations(*means), ridge))
