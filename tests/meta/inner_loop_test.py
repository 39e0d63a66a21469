"""The inner loop on losses with closed forms."""

import numpy as np
import tensorflow as tf

from tfmetainit.meta import inner_loop
from tfmetainit.meta.tasks import Observations


class Quadratic:
    """L(theta) = |A theta - b|^2 / 2 for one parameter vector."""

    def __init__(self, matrix):
        self.matrix = tf.constant(matrix)

    def value_and_grad(self, params, observed):
        residual = tf.linalg.matvec(self.matrix, params[0]) - observed.values
        gradient = tf.linalg.matvec(self.matrix, residual, transpose_a=True)
        return 0.5 * tf.reduce_sum(residual**2), [gradient]


def _support(values):
    values = tf.constant(values)
    return Observations(tf.zeros_like(values), values)


def test_quadratic_in_closed_form():
    rng = np.random.default_rng(0)
    matrix, theta = rng.normal(size=(4, 3)), rng.normal(size=3)
    target, rate = rng.normal(size=4), 0.05
    params, losses = inner_loop.adapt(
        Quadratic(matrix),
        [tf.constant(theta)],
        _support(target[None]),
        num_steps=6,
        step_sizes=[tf.constant(rate, tf.float64)],
    )
    contraction = np.eye(3) - rate * matrix.T @ matrix
    optimum = np.linalg.lstsq(matrix, target, rcond=None)[0]
    expected = optimum + np.linalg.matrix_power(contraction, 6) @ (
        theta - optimum
    )
    np.testing.assert_allclose(params[0], expected, rtol=1e-12)
    assert losses.shape == (6,)
    np.testing.assert_allclose(
        losses[0], 0.5 * np.sum((matrix @ theta - target) ** 2), rtol=1e-12
    )


def test_no_step_leaves_the_weights():
    start = [tf.constant([1.0, 2.0])]
    params, losses = inner_loop.adapt(
        Quadratic(np.eye(2, dtype=np.float32)),
        start,
        _support([[0.0, 0.0]]),
        num_steps=0,
        step_sizes=[tf.constant(1.0)],
    )
    assert params[0] is start[0]
    assert losses.shape == (0,)


def test_step_size_for_each_weight():
    params, _ = inner_loop.adapt(
        Quadratic(np.eye(2, dtype=np.float32)),
        [tf.constant([1.0, 1.0])],
        _support([[0.0, 0.0]]),
        num_steps=1,
        step_sizes=[tf.constant([1.0, 0.0])],
    )
    np.testing.assert_array_equal(params[0], [0.0, 1.0])


def test_fresh_observations_at_each_step():
    """With step size 1 on the identity, theta is the last target seen."""
    support = _support([[1.0, 1.0], [2.0, 2.0]])
    for num_steps, expected in ((1, 1.0), (2, 2.0), (3, 1.0)):
        params, _ = inner_loop.adapt(
            Quadratic(np.eye(2, dtype=np.float32)),
            [tf.constant([9.0, 9.0])],
            support,
            num_steps=num_steps,
            step_sizes=[tf.constant(1.0)],
        )
        np.testing.assert_array_equal(params[0], [expected, expected])


def test_sgd_fit_agrees_with_adapt():
    rng = np.random.default_rng(1)
    loss = Quadratic(rng.normal(size=(4, 3)))
    start = [tf.constant(rng.normal(size=3))]
    support = _support(rng.normal(size=(2, 4)))
    sizes = [tf.constant(0.03, tf.float64)]
    steps = list(inner_loop.SgdFit(loss, sizes).trajectory(start, support, 5))
    assert len(steps) == 6
    for count, params in enumerate(steps):
        expected, _ = inner_loop.adapt(
            loss, start, support, num_steps=count, step_sizes=sizes
        )
        np.testing.assert_allclose(params[0], expected[0], rtol=1e-12)


def test_wrong_arguments_are_named(raises_with):
    support = _support([[0.0, 0.0]])
    loss = Quadratic(np.eye(2, dtype=np.float32))
    with raises_with(ValueError, "`num_steps`", -1):
        inner_loop.adapt(
            loss, [tf.zeros(2)], support, num_steps=-1, step_sizes=[1.0]
        )
    with raises_with(ValueError, "2 step sizes", "1 parameters"):
        inner_loop.adapt(
            loss, [tf.zeros(2)], support, num_steps=1, step_sizes=[1.0, 1.0]
        )
