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
# predictions by about 1e-4. Smaller ones are up to 0.6 dB better.
_ROUNDING = {"float32": 2.0**-19, "float64": 2.0**-48}

# Rows of a block of a Gram matrix.
_BLOCK = 256

# A step of Newton's iteration is the last one if all eigenvalues were in
# [_CONVERGED, 1] before it. They are in [0.99, 1] then.
_CONVERGED = 0.8
# Steps of refinement after it, mostly against the rounding of the inverse.
_REFINEMENTS = 3


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
    total: tf.Tensor | None = None,
) -> NormalEquations:
    """The normal equations of some observations.

    Args:
        field: the network; its own weights are not read.
        features: its last hidden activations `[n, width]`.
        params: its parameters; the last two are the output weights.
        values: the observed values `[n, c]`.
        weights: the weights of the observations in the means, `[n, 1]`; by
            default they are equal.
        total: the sum of the weights, `[1, 1]`, if there are more of them
            than those given.
    """
    kernel, bias = params[-2:]
    values = tf.cast(values, features.dtype)
    predictions = tf.matmul(features, kernel) + bias + _offset(field)
    missed = values - predictions
    if weights is None:
        weighted, count = (features, missed), tf.shape(features)[:1, None]
        count = tf.cast(count, features.dtype)
    else:
        weighted = weights * features, weights * missed
        count = tf.reduce_sum(weights, axis=0, keepdims=True)
    # Divided at the end: many equal fractions do not add up to 1.
    scale = 1.0 / (count if total is None else total)
    # The bias apart: matrices whose width is a power of 2 are multiplied fast.
    sums = [tf.reduce_sum(w, axis=0, keepdims=True) for w in weighted]
    gram = _product(weighted[0], features)
    gram = tf.concat([gram, tf.transpose(sums[0])], axis=1)
    last = tf.concat([sums[0], count], axis=1)
    moment = _product(features, weighted[1])
    return NormalEquations(
        scale * tf.concat([gram, last], axis=0),
        scale * tf.concat([moment, sums[1]], axis=0),
    )


def _product(left, right):
    """The product of `left` transposed and `right`: sums over n rows."""
    if left.dtype == tf.float32 and _rounds_products():
        exact = _product(tf.cast(left, tf.float64), tf.cast(right, tf.float64))
        return tf.cast(exact, tf.float32)
    count = left.shape[0]
    if count is None or count <= _BLOCK:
        return tf.matmul(left, right, transpose_a=True)
    # By blocks of rows: one long sum rounds ten times as much in LiteRT and on
    # GPUs, which add up in order.
    blocks = -(-count // _BLOCK)
    height = -(-count // blocks)
    padding = [[0, blocks * height - count], [0, 0]]
    left, right = (
        tf.reshape(tf.pad(rows, padding), [blocks, height, rows.shape[1]])
        for rows in (left, right)
    )
    return tf.reduce_sum(tf.matmul(left, right, transpose_a=True), axis=0)


def _rounds_products():
    """Whether float32 products are rounded to TensorFloat-32, as GPUs do.

    Gram matrices of rounded activations cost up to 0.3 dB. Rounding in other
    products costs nothing (docs/scale.md).
    """
    enabled = tf.config.experimental.tensor_float_32_execution_enabled()
    return enabled and bool(tf.config.list_physical_devices("GPU"))


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
    rounding = _ROUNDING[gram.dtype.name] * tf.linalg.trace(gram)
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


def newton(equations: NormalEquations, ridge: tf.Tensor) -> tf.Tensor:
    """As `cholesky`, by matrix products alone.

    LiteRT has no factorizations, and conjugate gradients do not converge here:
    training through the solution makes features whose Gram matrix has condition
    numbers above 1e6. Newton's iteration for the inverse Y of a matrix A,

        Y <- Y (2 I - A Y),

    converges for every positive definite A, in a number of steps that depends
    on its condition number, which the ridge bounds. Scaled steps (Pan &
    Schreiber 1991, doi 10.1137/0912058, section 3) need half as many: if all
    eigenvalues of A Y are in [l, 1], then Y <- c Y ((1 + l) I - A Y) with
    c = 4 / (1 + l)^2 moves them to [l c, 1].

    The result is not finite if the equations are not. X is zero if rounding has
    left a matrix that is not positive definite, as it may for thousands of
    equal observations.
    """
    gram, moment = equations
    dtype, size = gram.dtype, gram.shape[0]
    identity = _identity(size, moment)
    trace = _sum(gram * identity)
    relative = _ROUNDING[dtype.name]
    ridge = tf.maximum(tf.cast(ridge, dtype), relative * trace)
    matrix = gram + ridge * identity
    # No eigenvalue exceeds the bound, and none is below `least` times it.
    bound, least = trace + ridge, relative / (1.0 + relative)
    scale = 4.0 / (1.0 + least) ** 2
    inverse = ((1.0 + least) * identity - matrix / bound) * (scale / bound)
    while least < _CONVERGED:
        least *= scale
        scale = 4.0 / (1.0 + least) ** 2
        product = tf.matmul(inverse, tf.matmul(matrix, inverse))
        inverse = scale * (1.0 + least) * inverse - scale * product
    solution = tf.matmul(inverse, moment)
    for _ in range(_REFINEMENTS):
        missed = moment - tf.matmul(matrix, solution)
        solution += tf.matmul(inverse, missed)
    missed = _sum(tf.abs(moment - tf.matmul(matrix, solution)))
    diverged = tf.reshape(missed > 0.01 * _sum(tf.abs(moment)), [1])
    # As a vector: GPU delegates do not select from matrices.
    vector = tf.reshape(solution, [-1])
    vector = tf.where(diverged, tf.zeros([1], dtype), vector)
    return tf.reshape(vector, moment.shape)


def _sum(matrix):
    """The sum of all entries, `[1, 1]`.

    One axis at a time: WebGPU's delegate sums some matrices over both wrongly.
    """
    rows = tf.reduce_sum(matrix, axis=0, keepdims=True)
    return tf.reduce_sum(rows, axis=1, keepdims=True)


def _identity(size, like):
    """The identity matrix, computed at run time.

    As a constant, it would be a third of an exported file.
    """
    # Zero, which only a run can tell.
    zero = tf.minimum(_sum(tf.square(like)), 0.0)
    # i - j as a product of rows: WebGPU's delegate misreads a constant of
    # several rows.
    places = tf.range(size, dtype=like.dtype)[None] + zero
    one = tf.ones([1, size], like.dtype) + zero
    left, right = tf.concat([places, one], 0), tf.concat([one, -places], 0)
    apart = tf.matmul(left, right, transpose_a=True)
    return 1.0 - tf.minimum(tf.abs(apart), 1.0)


def change(params: Params, by: tf.Tensor) -> Params:
    """The parameters with output weights that are changed by X."""
    *hidden, kernel, bias = params
    # Not slices, which GPU delegates refuse.
    by_kernel, by_bias = tf.split(by, [kernel.shape[0], 1])
    return [*hidden, kernel + by_kernel, bias + tf.reshape(by_bias, [-1])]


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
