"""Step sizes: their granularities, and how they change a step."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from tfmetainit.meta import functional
from tfmetainit.meta.step_sizes import StepSizes


def test_matrices_on_both_sides_of_a_gradient():
    """Written out entry by entry: what Meta-Curvature's modes 1 and 2 do."""
    rng = np.random.default_rng(2)
    kernel, gradient = rng.normal(size=(2, 3, 4))
    sizes = StepSizes(
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
    alone = StepSizes([(3, 4)], granularity="curvature")
    assert isinstance(alone.as_params()[0], functional.Sides)


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
    sizes = StepSizes(
        [(2, 3), (3,)], initial=0.5, granularity=granularity, learned=True
    )
    assert [v.shape for v in sizes.trainable_variables] == shapes
    assert len(sizes.as_params()) == 2
    start = [tf.zeros((2, 3)), tf.zeros((3,))]
    ones = [tf.ones_like(p) for p in start]
    for change in functional.descend(start, ones, sizes.as_params()):
        np.testing.assert_allclose(change, -0.5, rtol=1e-6)
    fixed = StepSizes([(2, 3), (3,)], granularity=granularity)
    assert not fixed.trainable_variables
    assert len(fixed.variables) == len(shapes)


def test_step_sizes_round_trip_through_their_config():
    sizes = StepSizes([(2,)], 0.25, "tensor", learned=True)
    again = StepSizes.from_config(sizes.get_config())
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
    first = StepSizes(shapes, 0.25, before, gain=3.0)
    rng = np.random.default_rng(0)
    for variable in first.variables:
        variable.assign(rng.normal(size=variable.shape))
    second = StepSizes(shapes, 0.5, after, gain=7.0)
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


def test_wrong_arguments_are_named(raises_with):
    many = StepSizes([(2,)], granularity="weight")
    for other in ("scalar", "tensor", "curvature"):
        few = StepSizes([(2,)], granularity=other)
        with raises_with(ValueError, f"'{other}'", "'weight'"):
            few.keep_from(many)
    with raises_with(ValueError, "`granularity`", "layer"):
        StepSizes([(2,)], granularity="layer")
    with raises_with(ValueError, "`initial`", "initial=0.0"):
        StepSizes([(2,)], initial=0.0)
