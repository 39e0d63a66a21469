"""Meta-gradients are checked in float64 on small networks."""

import itertools
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfmetainit.fields import networks
from tfmetainit.geometry.pixels import pixel_coords
from tfmetainit.meta import functional, inner_loop, maml
from tfmetainit.meta.step_sizes import GRANULARITIES
from tfmetainit.meta.tasks import Observations, Task
from tfmetainit.signals.text import render_text


class Linear(keras.Model):
    """f(x) = x @ w: its loss is quadratic in w."""

    def __init__(self, dims=3):
        super().__init__(dtype="float64")
        self.kernel = self.add_weight(
            shape=(dims, 1),
            initializer=keras.initializers.RandomNormal(seed=2),
        )
        self.built = True

    def call(self, inputs):
        return tf.matmul(inputs, self.kernel)


_SOLVED = {"output_layer": "solved", "ridge": 1e-2}


def _move(step_sizes, rng):
    """As if they had been learned."""
    for variable in step_sizes.variables:
        variable.assign(0.1 * rng.normal(size=variable.shape))


def _outer_loss(learner, task, variables, values):
    """The outer loss, with weights set to `values`."""
    for variable, value in zip(variables, values):
        variable.assign(value)
    loss = learner.query_loss(learner.adapt(task.support)[0], task.query)
    for step in range(1, learner.inner_steps):
        early, _ = inner_loop.adapt(  # without a solved output layer
            learner.support_loss,
            functional.get_params(learner.field),
            task.support,
            num_steps=step,
            step_sizes=learner.step_sizes.as_params(),
        )
        observed = inner_loop.at_step(task.support, step)
        loss += learner.early_loss_weight * learner.support_loss(
            early, observed
        )
    return float(loss)


@pytest.mark.parametrize(
    ("granularity", "inner_steps", "options"),
    [
        *itertools.product(GRANULARITIES, (1, 3), ({},)),
        *itertools.product(GRANULARITIES, (3,), ({"recompute": True},)),
        ("tensor", 3, {"recompute": True, "chunk": 5}),
        ("tensor", 3, {"early_loss_weight": 0.3}),
        ("tensor", 3, {"early_loss_weight": 0.3, "recompute": True}),
        ("tensor", 1, _SOLVED),
        ("weight", 3, {"early_loss_weight": 0.3, **_SOLVED}),
        ("tensor", 3, {"recompute": True, **_SOLVED}),
        ("tensor", 3, {"recompute": True, "chunk": 5, **_SOLVED}),
    ],
)
def test_maml_gradient_equals_finite_differences(
    make_field, make_task, granularity, inner_steps, options
):
    learner = maml.MAML(
        make_field(),
        inner_steps=inner_steps,
        inner_lr=0.05,
        step_sizes=granularity,
        learn_step_sizes=True,
        step_size_gain=2.0,
        **options,
    )
    task = make_task(steps=inner_steps)
    rng = np.random.default_rng(1)
    _move(learner.step_sizes, rng)
    gradients, _, _ = learner.outer_gradients(task)
    variables = learner.trainable_variables
    assert len(gradients) == len(variables)
    start = [v.numpy() for v in variables]
    step = 1e-6
    for index, (value, gradient) in enumerate(zip(start, gradients)):
        # A random direction checks all entries of the tensor at once.
        direction = rng.normal(size=value.shape)
        moved = []
        for sign in (1.0, -1.0):
            changed = [*start]
            changed[index] = value + sign * step * direction
            moved.append(_outer_loss(learner, task, variables, changed))
        numeric = (moved[0] - moved[1]) / (2 * step)
        analytic = np.sum(np.asarray(gradient) * direction)
        np.testing.assert_allclose(analytic, numeric, rtol=2e-6, atol=1e-9)


def test_single_precision_is_good_for_six_digits():
    """The network and the images of configs/text.py, two steps of 0.01."""
    coords = pixel_coords(64, 64)
    image = render_text(np.random.default_rng(0), 64).reshape(-1, 3) / 255.0
    params, gradients = functional.get_params(networks.SIREN(seed=0)), []
    for dtype in ("float32", "float64"):
        inputs, values = (tf.constant(a, dtype) for a in (coords, image))
        learner = maml.MAML(networks.SIREN(dtype=dtype))
        functional.set_params(learner.field, params)
        task = Task(
            Observations(inputs[None], values[None]),
            Observations(inputs, values),
        )
        gradients.append(learner.outer_gradients(task)[0])
    for found, expected in zip(*gradients):
        error = np.abs(found.numpy() - expected.numpy()).max()
        assert error < 3e-6 * np.abs(expected).max()


def test_maml_gradient_equals_a_manual_unroll(make_field, make_task):
    """The same two steps written out, with one tape inside another."""
    field, rate = make_field(), 0.1
    learner = maml.MAML(field, inner_steps=2, inner_lr=rate)
    task = make_task()
    gradients, loss, _ = learner.outer_gradients(task)
    theta = functional.get_params(field)

    def mse(params, observed):
        predictions = functional.bind(field, params)(observed.inputs)
        return tf.reduce_mean((predictions - observed.values) ** 2)

    support = tf.nest.map_structure(lambda leaf: leaf[0], task.support)
    with tf.GradientTape() as outer:
        outer.watch(theta)
        with tf.GradientTape() as first:
            first.watch(theta)
            loss_0 = mse(theta, support)
        theta_1 = [
            p - rate * g for p, g in zip(theta, first.gradient(loss_0, theta))
        ]
        with tf.GradientTape() as second:
            second.watch(theta_1)
            loss_1 = mse(theta_1, support)
        theta_2 = [
            p - rate * g
            for p, g in zip(theta_1, second.gradient(loss_1, theta_1))
        ]
        expected_loss = mse(theta_2, task.query)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-12)
    for ours, theirs in zip(gradients, outer.gradient(expected_loss, theta)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-14)


def test_maml_gradient_of_a_quadratic_in_closed_form(make_task):
    """For a linear field: (I - rate H_s)^K H_q (theta_K - optimum)."""
    field, rate, steps = Linear(), 0.2, 3
    learner = maml.MAML(field, inner_steps=steps, inner_lr=rate)
    task = make_task(coord_dims=3, value_dims=1)
    gradients, _, _ = learner.outer_gradients(task)
    theta = field.kernel.numpy()
    inputs, values = (leaf[0].numpy() for leaf in task.support)
    hessian = 2.0 / len(inputs) * inputs.T @ inputs
    optimum = np.linalg.lstsq(inputs, values, rcond=None)[0]
    jacobian = np.linalg.matrix_power(np.eye(3) - rate * hessian, steps)
    theta_k = optimum + jacobian @ (theta - optimum)
    query_inputs, query_values = (leaf.numpy() for leaf in task.query)
    at_query = (
        2.0
        / len(query_inputs)
        * query_inputs.T
        @ (query_inputs @ theta_k - query_values)
    )
    np.testing.assert_allclose(gradients[0], jacobian @ at_query, rtol=1e-10)


def _first_and_second(make_task, field, measure=None):
    task = make_task(coord_dims=3, value_dims=1)
    results = []
    for first_order in (True, False):
        learner = maml.MAML(
            field, inner_steps=2, inner_lr=0.2, first_order=first_order
        )
        if measure is not None:
            for name in ("support_loss", "query_loss"):
                loss = getattr(learner, name)
                object.__setattr__(loss, "measure", measure)
        results.append(learner.outer_gradients(task)[0][0].numpy())
    return results


def test_first_order_differs_where_the_loss_is_curved(make_task):
    first, second = _first_and_second(make_task, Linear())
    assert np.abs(first - second).max() > 1e-3


def test_first_order_equals_second_order_on_a_linear_loss(make_task):
    def linear(predictions, values):
        scale = 1.0 / tf.cast(tf.size(values), values.dtype)
        return tf.reduce_mean(predictions * values), scale * values

    first, second = _first_and_second(make_task, Linear(), linear)
    np.testing.assert_allclose(first, second, rtol=1e-12)


def test_first_order_learns_step_sizes_too(make_field, make_task):
    learner = maml.MAML(
        make_field(), first_order=True, learn_step_sizes=True, inner_lr=0.05
    )
    *_, gradient = learner.outer_gradients(make_task())[0]
    assert gradient.shape == ()
    assert float(gradient) != 0.0


@pytest.mark.parametrize("weight", [-0.5, math.nan, math.inf])
def test_a_weight_of_early_losses_is_a_number(make_field, raises_with, weight):
    with raises_with(ValueError, "`early_loss_weight`", weight):
        maml.MAML(make_field(), early_loss_weight=weight)


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("inner_steps", [1, 2])
def test_early_losses_are_not_reported(
    make_field, make_task, first_order, inner_steps
):
    """They change the gradient, where there are any, and nothing else."""
    field, task = make_field(), make_task(steps=inner_steps)
    results = [
        maml.MAML(
            field,
            inner_steps=inner_steps,
            inner_lr=0.1,
            first_order=first_order,
            early_loss_weight=weight,
        ).outer_gradients(task)
        for weight in (0.0, 0.5)
    ]
    (gradients, *losses), (others, *other_losses) = results
    np.testing.assert_array_equal(losses, other_losses)
    same = [np.allclose(a, b, rtol=1e-9) for a, b in zip(gradients, others)]
    assert all(same) == (inner_steps == 1)
