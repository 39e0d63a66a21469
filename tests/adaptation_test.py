import itertools

import numpy as np
import pytest
import tensorflow as tf

from tfmetainit import adaptation, functional
from tfmetainit.tasks import Observations


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
    params, losses = adaptation.adapt(
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
    params, losses = adaptation.adapt(
        Quadratic(np.eye(2, dtype=np.float32)),
        start,
        _support([[0.0, 0.0]]),
        num_steps=0,
        step_sizes=[tf.constant(1.0)],
    )
    assert params[0] is start[0]
    assert losses.shape == (0,)


def test_step_size_for_each_weight():
    params, _ = adaptation.adapt(
        Quadratic(np.eye(2, dtype=np.float32)),
        [tf.constant([1.0, 1.0])],
        _support([[0.0, 0.0]]),
        num_steps=1,
        step_sizes=[tf.constant([1.0, 0.0])],
    )
    np.testing.assert_array_equal(params[0], [0.0, 1.0])


def test_matrices_on_both_sides_of_a_gradient():
    """Written out entry by entry: what Meta-Curvature's modes 1 and 2 do."""
    rng = np.random.default_rng(2)
    kernel, gradient = rng.normal(size=(2, 3, 4))
    sizes = adaptation.StepSizes(
        [(3, 4), (4,)], 0.3, "curvature", gain=1.0, dtype="float64"
    )
    for variable in sizes.variables:
        variable.assign(rng.normal(size=variable.shape))
    ((left, right),), (scale, _) = sizes.sides, sizes.logarithms
    expected = np.zeros((3, 4))
    for i, j, k, m in itertools.product(*map(range, (3, 4, 3, 4))):
        expected[i, j] += (
            ((i == k) + left[i, k]) * gradient[k, m] * ((m == j) + right[m, j])
        )
    expected *= 0.3 * np.exp(scale)
    changed, bias = functional.descend(
        [tf.constant(kernel), tf.zeros(4, tf.float64)],
        [tf.constant(gradient), tf.ones(4, tf.float64)],
        sizes.as_params(),
    )
    np.testing.assert_allclose(kernel - changed, expected, rtol=1e-12)
    np.testing.assert_allclose(bias, -sizes.as_params()[1] * np.ones(4))


def test_a_network_of_one_kernel_has_its_matrices():
    alone = adaptation.StepSizes([(3, 4)], granularity="curvature")
    assert isinstance(alone.as_params()[0], functional.Sides)


def test_fresh_observations_at_each_step():
    """With step size 1 on the identity, theta is the last target seen."""
    support = _support([[1.0, 1.0], [2.0, 2.0]])
    for num_steps, expected in ((1, 1.0), (2, 2.0), (3, 1.0)):
        params, _ = adaptation.adapt(
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
    steps = list(adaptation.SgdFit(loss, sizes).trajectory(start, support, 5))
    assert len(steps) == 6
    for count, params in enumerate(steps):
        expected, _ = adaptation.adapt(
            loss, start, support, num_steps=count, step_sizes=sizes
        )
        np.testing.assert_allclose(params[0], expected[0], rtol=1e-12)


def test_wrong_arguments_are_named():
    support = _support([[0.0, 0.0]])
    loss = Quadratic(np.eye(2, dtype=np.float32))
    with pytest.raises(ValueError, match="must not be negative. Received: -1"):
        adaptation.adapt(
            loss, [tf.zeros(2)], support, num_steps=-1, step_sizes=[1.0]
        )
    with pytest.raises(ValueError, match="2 step sizes for 1 parameters"):
        adaptation.adapt(
            loss, [tf.zeros(2)], support, num_steps=1, step_sizes=[1.0, 1.0]
        )
    many = adaptation.StepSizes([(2,)], granularity="weight")
    for other in ("scalar", "tensor", "curvature"):
        few = adaptation.StepSizes([(2,)], granularity=other)
        with pytest.raises(ValueError, match=f"{other}' cannot hold .*weight'"):
            few.keep_from(many)
    with pytest.raises(ValueError, match="`granularity` must be one of"):
        adaptation.StepSizes([(2,)], granularity="layer")
    with pytest.raises(ValueError, match="`initial` must be positive"):
        adaptation.StepSizes([(2,)], initial=0.0)


@pytest.mark.parametrize(
    ("granularity", "shapes"),
    [
        ("scalar", [()]),
        ("tensor", [(), ()]),
        ("weight", [(2, 3), (3,)]),
        ("curvature", [(), (), (2, 2), (3, 3)]),
    ],
)
def test_granularity_of_step_sizes(granularity, shapes):
    sizes = adaptation.StepSizes(
        [(2, 3), (3,)], initial=0.5, granularity=granularity, learned=True
    )
    assert [v.shape for v in sizes.trainable_variables] == shapes
    assert len(sizes.as_params()) == 2
    start = [tf.zeros((2, 3)), tf.zeros((3,))]
    ones = [tf.ones_like(p) for p in start]
    for change in functional.descend(start, ones, sizes.as_params()):
        np.testing.assert_allclose(change, -0.5, rtol=1e-6)
    fixed = adaptation.StepSizes([(2, 3), (3,)], granularity=granularity)
    assert not fixed.trainable_variables
    assert len(fixed.variables) == len(shapes)


def test_step_sizes_round_trip_through_their_config():
    sizes = adaptation.StepSizes([(2,)], 0.25, "tensor", learned=True)
    again = adaptation.StepSizes.from_config(sizes.get_config())
    assert again.get_config() == sizes.get_config()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        *itertools.combinations_with_replacement(
            ("scalar", "tensor", "weight"), 2
        ),
        *itertools.product(("scalar", "tensor", "curvature"), ("curvature",)),
    ],
)
def test_step_sizes_of_another_layer_are_kept(before, after):
    shapes = [(2, 3), (3,)]
    first = adaptation.StepSizes(shapes, 0.25, before, gain=3.0)
    rng = np.random.default_rng(0)
    for variable in first.variables:
        variable.assign(rng.normal(size=variable.shape))
    second = adaptation.StepSizes(shapes, 0.5, after, gain=7.0)
    second.keep_from(first)
    start = [tf.zeros(shape) for shape in shapes]
    gradients = [tf.constant(rng.normal(size=s), tf.float32) for s in shapes]
    for expected, received in zip(
        *(
            functional.descend(start, gradients, sizes.as_params())
            for sizes in (first, second)
        )
    ):
        np.testing.assert_allclose(received, expected, rtol=1e-5)
