"""The solved output layer against least squares of NumPy."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from tfmetainit.fields import networks
from tfmetainit.forward_models import ParallelBeam
from tfmetainit.meta import functional, inner_loop, maml, output_layer, reptile
from tfmetainit.meta.checkpointing import Recomputed
from tfmetainit.meta.tasks import FieldLoss, Observations


def _lstsq(field, params, observed, ridge):
    """The output weights, from the problem stacked over its penalty."""
    features = functional.bind_features(field, params)(observed.inputs).numpy()
    count, start = len(features), np.concatenate([params[-2], params[-1][None]])
    design = np.concatenate([features, np.ones([count, 1])], axis=1)
    values = observed.values.numpy() - field.output_offset
    penalty = np.sqrt(count * ridge) * np.eye(len(start))
    solution, *_ = np.linalg.lstsq(
        np.concatenate([design, penalty]),
        np.concatenate([values, penalty @ start]),
        rcond=None,
    )
    return solution


@pytest.mark.parametrize("ridge", [1e-6, 1e-2, 10.0])
@pytest.mark.parametrize("steps", [1, 3])
def test_the_solution_is_that_of_least_squares(
    make_field, make_task, ridge, steps
):
    field = make_field()
    params, support = (
        functional.get_params(field),
        make_task(steps=steps).support,
    )
    solved = output_layer.solved(
        FieldLoss(field), params, support, tf.constant(ridge, tf.float64)
    )
    # All batches of the support together.
    observed = tf.nest.map_structure(
        lambda leaf: tf.reshape(leaf, [-1, leaf.shape[-1]]), support
    )
    expected = _lstsq(field, params, observed, ridge)
    found = np.concatenate([solved[-2], solved[-1][None]])
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)
    for before, after in zip(params[:-2], solved[:-2]):
        np.testing.assert_array_equal(before, after)


def test_products_of_tensorfloat32_are_not_used(monkeypatch):
    """On a GPU that rounds, the normal equations are those of float64."""
    field = networks.SIREN(hidden_units=8, seed=0)
    rng = np.random.default_rng(0)
    features = tf.constant(rng.normal(size=(1000, 8)), tf.float32)
    values = tf.constant(rng.random((1000, 3)), tf.float32)
    made = []
    for rounds in (False, True):
        monkeypatch.setattr(
            output_layer, "_rounds_products", functools.partial(bool, rounds)
        )
        with tf.GradientTape() as tape:
            tape.watch(features)
            equations = output_layer.normal_equations(
                field, features, functional.get_params(field), values
            )
            total = tf.add_n([tf.reduce_sum(e**2) for e in equations])
        assert {e.dtype for e in equations} == {tf.float32}
        made.append([*equations, tape.gradient(total, features)])
    exact = tf.matmul(
        tf.cast(features, tf.float64),
        tf.cast(features, tf.float64),
        transpose_a=True,
    )
    gram = made[1][0][:-1, :-1]
    np.testing.assert_allclose(gram, exact / 1000, rtol=3e-7, atol=1e-9)
    for single, double in zip(*made):
        np.testing.assert_allclose(single, double, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("chunk", [0, 3])
def test_chunks_of_observations_add_up(make_field, make_task, chunk):
    loss = FieldLoss(make_field())
    params = functional.get_params(loss.field)
    observed = inner_loop.at_step(make_task().support, 0)
    whole = loss.normal_equations(params, observed)
    for a, b in zip(
        Recomputed(loss, chunk).normal_equations(params, observed), whole
    ):
        np.testing.assert_allclose(a, b, rtol=1e-12)


@pytest.mark.parametrize("width", [5, 15, 40])
def test_newtons_iteration_ends_at_the_solution(make_field, width):
    field = make_field(hidden_units=width)
    rng = np.random.default_rng(0)
    observed = Observations(
        tf.constant(rng.random((200, 2))), tf.constant(rng.random((200, 3)))
    )
    equations = FieldLoss(field).normal_equations(
        functional.get_params(field), observed
    )
    for ridge in (1e-4, 1e-1):
        np.testing.assert_allclose(
            output_layer.newton(equations, ridge),
            output_layer.cholesky(equations, ridge),
            rtol=1e-4,
            atol=1e-7,
        )


@pytest.mark.parametrize("count", [1, 4, 5])
def test_few_or_equal_observations_have_a_solution(count):
    """The Gram matrix is singular, the ridge far below its rounding error."""
    loss = FieldLoss(networks.SIREN(hidden_units=32, seed=0))
    params = functional.get_params(loss.field)
    rng = np.random.default_rng(0)
    inputs = np.repeat(rng.random((count, 2)), 3, axis=0).astype(np.float32)
    values = np.repeat(rng.random((count, 3)), 3, axis=0).astype(np.float32)
    observed = Observations(tf.constant(inputs), tf.constant(values))
    support = tf.nest.map_structure(lambda leaf: leaf[None], observed)
    solved = output_layer.solved(loss, params, support, tf.constant(1e-20))
    assert float(loss(solved, observed)) < 1e-4
    equations = loss.normal_equations(params, observed)
    by = output_layer.newton(equations, 1e-20)
    assert float(loss(output_layer.change(params, by), observed)) < 1e-4


@pytest.mark.parametrize("different", [1, 2, 5])
def test_thousands_of_equal_observations_change_little(different):
    """Rounding may leave a Gram matrix that is not positive definite."""
    loss = FieldLoss(networks.SIREN(seed=0))
    params = functional.get_params(loss.field)
    rng = np.random.default_rng(0)
    inputs = np.tile(rng.random((different, 2)), (4096 // different, 1))
    values = np.tile(rng.random((different, 3)), (4096 // different, 1))
    observed = Observations(
        tf.constant(inputs, tf.float32), tf.constant(values, tf.float32)
    )
    equations = loss.normal_equations(params, observed)
    # As LiteRT and GPUs may add up: one row after the other.
    features = functional.bind_features(loss.field, params)(observed.inputs)
    gram = np.zeros([256, 256], np.float32)
    for row in features.numpy():
        gram += row[:, None] * row
    summed = equations.gram.numpy()
    summed[:256, :256] = gram / np.float32(len(inputs))
    for one in (equations.gram, tf.constant(summed)):
        by = output_layer.newton(equations._replace(gram=one), 1e-20)
        solved = output_layer.change(params, by)
        assert float(tf.reduce_max(tf.abs(by))) < 1e3
        assert float(loss(solved, observed)) < 1.1 * float(
            loss(params, observed)
        )


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_changes_nothing(make_field, make_task, value):
    loss = FieldLoss(make_field())
    params, support = functional.get_params(loss.field), make_task().support
    values = support.values.numpy()
    values[0, 1, 2] = value
    support = support._replace(values=tf.constant(values))
    ridge = tf.constant(1e-4, tf.float64)
    for before, after in zip(
        params, output_layer.solved(loss, params, support, ridge)
    ):
        np.testing.assert_array_equal(before, after)


def test_values_that_already_fit_stay(make_field, make_task):
    loss = FieldLoss(make_field())
    params = functional.get_params(loss.field)
    inputs = make_task().query.inputs
    observed = Observations(inputs, loss.predict(params, inputs))
    equations = loss.normal_equations(params, observed)
    for by in (
        output_layer.cholesky(equations, 1e-4),
        output_layer.newton(equations, 1e-4),
    ):
        np.testing.assert_allclose(by, np.zeros(by.shape), atol=1e-12)


@pytest.mark.parametrize("learner", [maml.MAML, reptile.Reptile])
def test_what_cannot_be_solved_is_refused(learner, raises_with):
    siren, other = networks.SIREN(value_dims=1), networks.FourierMLP()
    if learner is reptile.Reptile:
        with raises_with(ValueError, "`output_layer`", "solved", "Reptile"):
            learner(siren, output_layer="solved")
        return
    with raises_with(ValueError, "`output_layer`", "FourierMLP"):
        learner(other, output_layer="solved")
    with raises_with(ValueError, "`output_layer`", "ParallelBeam"):
        learner(siren, output_layer="solved", support_model=ParallelBeam(8))
    with raises_with(ValueError, "`output_layer`", "'closed'"):
        learner(siren, output_layer="closed")
    with raises_with(ValueError, "`ridge`", "-1.0"):
        learner(siren, output_layer="solved", ridge=-1.0)


def test_a_trajectory_steps_on_from_weights_that_are_not_solved(
    make_field, make_task
):
    learner = maml.MAML(make_field(), output_layer="solved", inner_lr=0.05)
    support = make_task().support
    trajectory = list(
        learner.sgd_fit().trajectory(
            functional.get_params(learner.field), support, 3
        )
    )
    for step, params in enumerate(trajectory):
        expected, _ = learner.adapt(support, step)
        for a, b in zip(params, expected):
            np.testing.assert_allclose(a, b, rtol=1e-9)


def test_training_moves_the_ridge(make_field, make_task, stack_tasks):
    learner = maml.MAML(
        make_field(), output_layer="solved", ridge=1e-2, learn_step_sizes=True
    )
    learner.compile("adam")
    before = float(learner.ridge)
    learner.train_step(stack_tasks([make_task()]))
    assert before == pytest.approx(1e-2)
    assert float(learner.ridge) != before > 0
