"""Meta-gradients are checked in float64 on small networks."""

import collections
import functools
import itertools
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.eager import context as eager_context

from tfmetainit.fields import networks
from tfmetainit.forward_models.parallel_beam import ParallelBeam
from tfmetainit.forward_models.volume_rendering import VolumeRendering
from tfmetainit.geometry.pixels import pixel_coords
from tfmetainit.meta import functional, inner_loop, maml, reptile
from tfmetainit.meta.step_sizes import GRANULARITIES
from tfmetainit.meta.tasks import FieldLoss, Observations, Task
from tfmetainit.signals.text import render_text


def _field(seed=0, **kwargs):
    options = {"hidden_layers": 2, "hidden_units": 5, "w0": 4.0}
    return networks.SIREN(seed=seed, dtype="float64", **{**options, **kwargs})


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


def _task(seed=0, coord_dims=2, value_dims=3, steps=1, dtype=np.float64):
    rng = np.random.default_rng(seed)

    def observations(*shape):
        return Observations(
            tf.constant(rng.random((*shape, coord_dims)).astype(dtype)),
            tf.constant(rng.random((*shape, value_dims)).astype(dtype)),
        )

    return Task(observations(steps, 8), observations(9))


def _batch(tasks):
    return tf.nest.map_structure(lambda *leaves: tf.stack(leaves), *tasks)


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
        early, _ = learner.adapt(task.support, step)
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
    ],
)
def test_maml_gradient_equals_finite_differences(
    granularity, inner_steps, options
):
    learner = maml.MAML(
        _field(),
        inner_steps=inner_steps,
        inner_lr=0.05,
        step_sizes=granularity,
        learn_step_sizes=True,
        step_size_gain=2.0,
        **options,
    )
    task = _task(steps=inner_steps)
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


@pytest.mark.parametrize("options", [{}, {"recompute": True, "chunk": 4}])
def test_a_float64_field_learns_from_float32_signals(options):
    """As datasets have them, and to the same weights as from float64 ones."""
    weights = []
    for dtype in (np.float32, np.float64):
        learner = maml.MAML(_field(), **options)
        learner.compile(keras.optimizers.Adam(1e-3))
        tasks = [_task(seed, dtype=np.float32) for seed in range(2)]
        cast = functools.partial(tf.cast, dtype=dtype)
        tasks = tf.nest.map_structure(cast, tasks)
        batches = tf.data.Dataset.from_tensors(_batch(tasks)).repeat(3)
        learner.fit(batches, verbose=0, shuffle=False)
        assert learner.evaluate(batches, verbose=0, return_dict=True)
        weights.append(functional.flatten(functional.get_params(learner.field)))
    assert weights[0].dtype == tf.float64
    np.testing.assert_allclose(*weights, rtol=1e-12)


@pytest.mark.parametrize(
    ("make", "model", "shape", "values"),
    [
        (networks.FourierMLP, ParallelBeam(6, "bilinear"), [2], 6),
        (networks.FourierMLP, ParallelBeam(6, "nearest"), [2], 6),
        (networks.SimplifiedNeRF, VolumeRendering(True), [5, 6 + 4], 3),
    ],
)
def test_float64_through_a_forward_model(make, model, shape, values):
    coord_dims, value_dims = (2, 1) if len(shape) == 1 else (3, 4)
    field = make(
        coord_dims,
        value_dims,
        hidden_layers=2,
        hidden_units=4,
        dtype="float64",
        seed=0,
    )
    learner = maml.MAML(field, support_model=model, query_model=model)
    inputs = np.sort(np.random.default_rng(0).random(shape, np.float32))
    observed = np.zeros([shape[0], values], np.float32)
    task = Task(
        Observations(tf.constant(inputs[None]), tf.constant(observed[None])),
        Observations(tf.constant(inputs), tf.constant(observed)),
    )
    gradients, loss, _ = learner.outer_gradients(task)
    assert loss.dtype == tf.float64
    assert all(g.dtype == tf.float64 for g in gradients)


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


def test_maml_gradient_equals_a_manual_unroll():
    """The same two steps written out, with one tape inside another."""
    field, rate = _field(), 0.1
    learner = maml.MAML(field, inner_steps=2, inner_lr=rate)
    task = _task()
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


def test_maml_gradient_of_a_quadratic_in_closed_form():
    """For a linear field: (I - rate H_s)^K H_q (theta_K - optimum)."""
    field, rate, steps = Linear(), 0.2, 3
    learner = maml.MAML(field, inner_steps=steps, inner_lr=rate)
    task = _task(coord_dims=3, value_dims=1)
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


def _first_and_second(field, measure=None):
    task = _task(coord_dims=3, value_dims=1)
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


def test_first_order_differs_where_the_loss_is_curved():
    first, second = _first_and_second(Linear())
    assert np.abs(first - second).max() > 1e-3


def test_first_order_equals_second_order_on_a_linear_loss():
    def linear(predictions, values):
        scale = 1.0 / tf.cast(tf.size(values), values.dtype)
        return tf.reduce_mean(predictions * values), scale * values

    first, second = _first_and_second(Linear(), linear)
    np.testing.assert_allclose(first, second, rtol=1e-12)


def test_first_order_learns_step_sizes_too():
    learner = maml.MAML(
        _field(), first_order=True, learn_step_sizes=True, inner_lr=0.05
    )
    *_, gradient = learner.outer_gradients(_task())[0]
    assert gradient.shape == ()
    assert float(gradient) != 0.0


def test_reptile_with_one_step_is_the_scaled_gradient():
    field = _field()
    learner = reptile.Reptile(field, inner_steps=1, inner_lr=0.3)
    task = _task()
    gradients, _, _ = learner.outer_gradients(task)
    support = tf.nest.map_structure(lambda leaf: leaf[0], task.support)
    _, plain = learner.support_loss.value_and_grad(
        functional.get_params(field), support
    )
    for ours, theirs in zip(gradients, plain):
        np.testing.assert_allclose(
            ours, 0.3 * np.asarray(theirs), rtol=1e-9, atol=1e-15
        )


def test_reptile_refuses_what_it_has_not():
    with pytest.raises(ValueError, match="Reptile cannot learn step sizes"):
        reptile.Reptile(_field(), learn_step_sizes=True)
    with pytest.raises(ValueError, match="Reptile has no outer loss"):
        reptile.Reptile(_field(), early_loss_weight=0.2)


def test_batch_gradient_is_the_mean_over_tasks():
    """One SGD step of `fit` moves the weights by the mean outer gradient."""
    tasks = [_task(seed) for seed in range(3)]
    learner = maml.MAML(_field(), inner_lr=0.05)
    start = functional.get_params(learner.field)
    expected = functional.mean(
        [learner.outer_gradients(task)[0] for task in tasks]
    )
    learner.compile(keras.optimizers.SGD(1.0))
    dataset = tf.data.Dataset.from_tensors(_batch(tasks))
    learner.fit(dataset, verbose=0, shuffle=False)
    for before, after, gradient in zip(
        start, functional.get_params(learner.field), expected
    ):
        np.testing.assert_allclose(
            np.asarray(before) - np.asarray(after), gradient, atol=1e-8
        )


@pytest.mark.parametrize(
    ("granularity", "inner_steps", "options"),
    [
        *itertools.product(GRANULARITIES, (2,), ({},)),
        ("tensor", 1, {"early_loss_weight": 0.3}),
        ("scalar", 3, {"learn_step_sizes": False}),
        ("tensor", 3, {"early_loss_weight": 0.3}),
        ("tensor", 2, {"first_order": True}),
        ("tensor", 2, {"recompute": True}),
        ("tensor", 2, {"recompute": True, "chunk": 5}),
        ("tensor", 2, {"recompute": True, "first_order": True}),
    ],
)
def test_a_shared_first_step_changes_nothing(granularity, inner_steps, options):
    """Tasks whose first support inputs are the same, together and alone."""
    learner = maml.MAML(
        _field(),
        inner_steps=inner_steps,
        inner_lr=0.05,
        step_sizes=granularity,
        step_size_gain=2.0,
        shares_support=True,
        **{"learn_step_sizes": True, **options},
    )
    _move(learner.step_sizes, np.random.default_rng(0))
    tasks = [_task(seed, steps=inner_steps) for seed in range(3)]
    inputs = tasks[0].support.inputs
    tasks = [
        task._replace(
            support=task.support._replace(
                inputs=tf.concat([inputs[:1], task.support.inputs[1:]], axis=0)
            )
        )
        for task in tasks
    ]
    alone = [learner.outer_gradients(task) for task in tasks]
    gradients, losses, before = tf.function(learner.meta_gradient)(
        _batch(tasks)
    )
    expected = functional.mean([of_task[0] for of_task in alone])
    assert len(gradients) == len(learner.trainable_variables)
    for together, mean in zip(gradients, expected):
        np.testing.assert_allclose(together, mean, rtol=1e-10, atol=1e-13)
    for index, received in ((1, losses), (2, before)):
        np.testing.assert_allclose(
            received, [of_task[index] for of_task in alone], rtol=1e-12
        )


def test_a_shared_first_step_computes_it_once():
    tasks = _batch([_task(0)] * 3)
    counts = []
    for shares_support in (False, True):
        learner = maml.MAML(_field(), shares_support=shares_support)
        graph = tf.function(learner.meta_gradient).get_concrete_function(tasks)
        types = [op.type for op in graph.graph.get_operations()]
        counts.append(collections.Counter(types))
    # Two tasks are spared a pass through two sines and three layers, and the
    # way back through it: to three kernels, and to the inputs of two layers.
    spared = counts[0] - counts[1]
    assert spared["Sin"] == 2 * 2
    assert spared["MatMul"] == 2 * (3 + 3 + 2)


def test_each_sine_and_cosine_is_computed_once():
    """The graph optimizer leaves one of each for a pass through a layer."""
    learner = maml.MAML(_field(), inner_steps=2, shares_support=True)
    tasks = _batch([_task(0)] * 3)
    context = eager_context.context()
    context.enable_graph_collection()
    try:
        tf.function(learner.meta_gradient)(tasks)
        (graphs,) = context.export_run_metadata().function_graphs
    finally:
        context.disable_graph_collection()
    types = collections.Counter(
        node.op for node in graphs.post_optimization_graph.node
    )
    # Two layers: the shared step, then of three tasks a step and the query.
    assert types["Sin"] == types["Cos"] == 2 * (1 + 3 * 2)


def test_a_first_step_that_is_not_shared_is_refused():
    learner = maml.MAML(_field(), shares_support=True)
    tasks = _batch([_task(seed) for seed in range(2)])
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="`shares_support` must be False"
    ):
        tf.function(learner.meta_gradient)(tasks)


def test_a_shared_first_step_under_xla_and_of_another_forward_model():
    def halves(field, inputs):
        return 0.5 * field(inputs)

    learner = maml.MAML(
        _field(), inner_lr=0.05, support_model=halves, shares_support=True
    )
    # Support of length 1: the same observations at every step.
    tasks = [_task(seed) for seed in range(2)]
    tasks[1] = tasks[1]._replace(
        support=Observations(tasks[0].support.inputs, tasks[1].support.values)
    )
    alone = [learner.outer_gradients(task) for task in tasks]
    expected = functional.mean([of_task[0] for of_task in alone])
    for jit in (False, True):
        gradients, _, before = tf.function(
            learner.meta_gradient, jit_compile=jit
        )(_batch(tasks))
        for together, mean in zip(gradients, expected):
            np.testing.assert_allclose(together, mean, rtol=1e-10, atol=1e-13)
        np.testing.assert_allclose(
            before, [of_task[2] for of_task in alone], rtol=1e-12
        )


def test_a_support_loss_of_ones_own_is_kept():
    class Doubled(FieldLoss):
        def value_and_grad(self, params, observed):
            value, gradients = super().value_and_grad(params, observed)
            return 2.0 * value, [2.0 * g for g in gradients]

    tasks = _batch([_task(0)] * 2)
    results = []
    for shares_support in (False, True):
        learner = maml.MAML(_field(), shares_support=shares_support)
        learner.support_loss = Doubled(learner.field)
        results.append(learner.meta_gradient(tasks)[0])
    for apart, shared in zip(*results):
        np.testing.assert_allclose(shared, apart, rtol=1e-12)


def _absolute_error(predictions, values):
    residual = predictions - values
    count = tf.cast(tf.size(residual), residual.dtype)
    return tf.reduce_mean(tf.abs(residual)), tf.sign(residual) / count


def test_psnr_is_of_the_squared_error_whatever_the_loss():
    batch = _batch([_task(0), _task(1)])
    data = tf.data.Dataset.from_tensors(batch)
    scores = []
    for own in (False, True):
        learner = maml.MAML(_field(), eval_steps=0)
        if own:
            learner.query_loss = FieldLoss(
                learner.field, measure=_absolute_error
            )
        learner.compile(keras.optimizers.SGD(0.0))
        scores.append(learner.evaluate(data, return_dict=True, verbose=0))
    assert scores[0] == pytest.approx(scores[1])
    history = learner.fit(data, shuffle=False, verbose=0).history
    assert "psnr" not in history
    params = functional.get_params(learner.field)
    before = np.mean(
        [
            float(learner.query_loss(params, task.query))
            for task in (_task(0), _task(1))
        ]
    )
    assert history["loss_before"][0] == pytest.approx(before)


@pytest.mark.parametrize("value_dims", [1, 2, 4])
def test_values_of_another_shape_are_not_broadcast(value_dims):
    learner = maml.MAML(_field(value_dims=3))
    with pytest.raises(ValueError, match=r"must have the shape .*\(9, 3\)"):
        learner.query_loss(
            functional.get_params(learner.field),
            _task(0, value_dims=value_dims).query,
        )
    with pytest.raises(ValueError, match="must have the shape"):
        learner.adapt(_task(0, value_dims=value_dims).support)


@pytest.mark.parametrize("make", [maml.MAML, reptile.Reptile])
@pytest.mark.parametrize("shares_support", [False, True])
def test_a_weight_that_is_not_used_stays(make, shares_support):
    class Idle(Linear):
        def __init__(self):
            super().__init__(dims=2)
            self.idle = self.add_weight(shape=(3,), initializer="ones")

    learner = make(Idle(), shares_support=shares_support)
    learner.compile(keras.optimizers.SGD(0.1))
    batch = _batch([_task(0, value_dims=1)] * 2)
    data = tf.data.Dataset.from_tensors(batch)
    learner.fit(data, shuffle=False, verbose=0)
    np.testing.assert_array_equal(learner.field.idle, np.ones(3))
    assert np.isfinite(learner.field.kernel).all()


def test_a_field_that_is_not_built_is_refused():
    with pytest.raises(ValueError, match="`field` must be built"):
        maml.MAML(keras.Sequential([keras.layers.Dense(3)]))


def test_an_outer_loss_of_a_subclass_is_kept():
    class Doubled(maml.MAML):
        def outer_gradients(self, task):
            gradients, *losses = super().outer_gradients(task)
            return [2.0 * g for g in gradients], *losses

    tasks = _batch([_task(0)] * 2)
    field = _field()
    plain, _, _ = maml.MAML(field).meta_gradient(tasks)
    for shares_support in (False, True):
        learner = Doubled(field, shares_support=shares_support)
        for gradient, single in zip(learner.meta_gradient(tasks)[0], plain):
            np.testing.assert_allclose(gradient, 2.0 * single, rtol=1e-12)


@pytest.mark.parametrize(
    "make",
    [
        lambda f: maml.MAML(f, inner_lr=0.05, learn_step_sizes=True),
        lambda f: maml.MAML(f, inner_lr=0.05, first_order=True),
        lambda f: reptile.Reptile(f, inner_lr=0.05, inner_steps=4),
    ],
)
def test_fit_evaluate_predict(make):
    """A class of constant images is learned; adapting beats not adapting."""
    rng = np.random.default_rng(0)
    coords = np.repeat(rng.random((1, 1, 16, 2)), 8, axis=0)
    values = np.repeat(0.2 + 0.1 * rng.random((8, 1, 1, 3)), 16, axis=2)
    batch = Task(
        Observations(tf.constant(coords), tf.constant(values)),
        Observations(tf.constant(coords[:, 0]), tf.constant(values[:, 0])),
    )
    dataset = tf.data.Dataset.from_tensor_slices(batch).batch(
        4, drop_remainder=True
    )
    learner = make(_field(hidden_units=8))
    learner.compile(keras.optimizers.Adam(5e-3))
    before = learner.evaluate(dataset, verbose=0, return_dict=True)
    learner.fit(dataset.repeat(), steps_per_epoch=60, verbose=0, shuffle=False)
    after = learner.evaluate(dataset, verbose=0, return_dict=True)
    last = f"psnr_{learner.inner_steps}"
    assert list(after) == [f"psnr_{i}" for i in range(learner.inner_steps + 1)]
    assert after[last] > before[last] + 6.0
    assert after[last] > after["psnr_0"]
    predictions = learner.predict(dataset, verbose=0)
    assert predictions.shape == (8, 16, 3)
    psnr = -10.0 * np.log10(
        np.mean((predictions - values[:, 0]) ** 2, axis=(1, 2))
    )
    np.testing.assert_allclose(psnr.mean(), after[last], atol=1e-3)
    # Batches of another size are traced anew, and of the same size are not.
    others = dataset.unbatch().batch(2, drop_remainder=True)
    traced = learner.test_function
    again = learner.evaluate(dataset, verbose=0, return_dict=True)
    assert learner.test_function is traced
    other = learner.evaluate(others, verbose=0, return_dict=True)
    np.testing.assert_allclose(other[last], again[last], atol=1e-3)
    np.testing.assert_allclose(
        learner.predict(others, verbose=0), predictions, atol=1e-6
    )
    learner.fit(others, verbose=0, shuffle=False)


def test_step_sizes_stay_positive_and_move_by_the_gain():
    learner = maml.MAML(
        _field(),
        inner_lr=1e-3,
        step_sizes="weight",
        learn_step_sizes=True,
        step_size_gain=30.0,
    )
    # Descending against the true gradient drives the step sizes down.
    learner.compile(keras.optimizers.Adam(-0.1, epsilon=1e-15))
    dataset = tf.data.Dataset.from_tensors(_batch([_task()]))
    learner.fit(dataset, verbose=0, shuffle=False)
    sizes = np.concatenate(
        [np.ravel(s) for s in learner.step_sizes.as_params()]
    )
    # Adam's first update is its rate, whatever the gradient.
    changes = np.log(sizes / 1e-3)
    np.testing.assert_allclose(np.abs(changes), 3.0, rtol=1e-2)
    assert changes.min() < 0.0


@pytest.mark.parametrize(
    ("jit", "chunk"), list(itertools.product((False, True), (0, 4)))
)
def test_recomputation_changes_nothing_but_memory(jit, chunk):
    """Loss and outer gradient in a graph, after its optimizations; support
    and query have 8 and 9 observations.
    """
    results = []
    for options in ({}, {"recompute": True, "chunk": chunk}):
        learner = maml.MAML(
            _field(),
            inner_steps=3,
            step_sizes="tensor",
            learn_step_sizes=True,
            **options,
        )
        step = tf.function(learner.meta_gradient, jit_compile=jit)
        results.append(step(_batch([_task(steps=3), _task(1, steps=3)])))
    for a, b in zip(*map(tf.nest.flatten, results)):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-15)


def test_recomputation_of_observations_whose_number_is_unknown():
    """As of tomography from 1, 2, 4 or 8 views."""
    task = _task()
    learner = maml.MAML(_field(), recompute=True, chunk=4)
    expected, _, _ = learner.outer_gradients(task)
    signature = tf.nest.map_structure(
        lambda leaf: tf.TensorSpec(
            [*leaf.shape[:-2], None, leaf.shape[-1]], leaf.dtype
        ),
        task,
    )
    step = tf.function(learner.outer_gradients, input_signature=[signature])
    for a, b in zip(step(task)[0], expected):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-15)


def test_a_graph_of_chunks_does_not_grow_with_their_number():
    """Of 178 x 178 pixels it took more memory than the chunks did."""
    tasks = _batch([_task()] * 2)
    sizes = []
    for chunk in (4, 2, 1):
        learner = maml.MAML(_field(), recompute=True, chunk=chunk)
        step = tf.function(learner.meta_gradient).get_concrete_function(tasks)
        graph = step.graph.as_graph_def()
        bodies = [f.node_def for f in graph.library.function]
        sizes.append(len(graph.node) + sum(map(len, bodies)))
    # Support and query of 8 and 9 observations: with chunks of 4 and 2, and
    # with those of 1, every one of them is in two parts or more.
    assert max(sizes) < 1.1 * min(sizes)


def test_chunks_want_recomputation():
    with pytest.raises(ValueError, match="together with `recompute`"):
        maml.MAML(_field(), chunk=3)


@pytest.mark.parametrize("weight", [-0.5, math.nan, math.inf])
def test_a_weight_of_early_losses_is_a_number(weight):
    with pytest.raises(ValueError, match="`early_loss_weight` must be"):
        maml.MAML(_field(), early_loss_weight=weight)


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("inner_steps", [1, 2])
def test_early_losses_are_not_reported(first_order, inner_steps):
    """They change the gradient, where there are any, and nothing else."""
    field, task = _field(), _task(steps=inner_steps)
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


def test_the_loss_before_is_comparable_with_the_one_after():
    """Where what is observed is no value of the field, it is the query's."""
    field, task = _field(), _task()

    def halves(field, inputs):
        return 0.5 * field(inputs)

    for make in (maml.MAML, reptile.Reptile):
        same = make(field, support_model=halves, query_model=halves)
        other = make(field, support_model=halves)
        params = functional.get_params(field)
        support = tf.nest.map_structure(lambda leaf: leaf[0], task.support)
        np.testing.assert_allclose(
            same.outer_gradients(task)[2], same.support_loss(params, support)
        )
        np.testing.assert_allclose(
            other.outer_gradients(task)[2], other.query_loss(params, task.query)
        )


def test_a_step_that_is_not_finite_leaves_the_weights():
    learner = maml.MAML(_field())
    learner.compile(keras.optimizers.SGD(1.0))
    start = functional.get_params(learner.field)
    task = _task()
    broken = task._replace(
        query=task.query._replace(values=task.query.values * np.nan)
    )
    dataset = tf.data.Dataset.from_tensors(_batch([task, broken]))
    history = learner.fit(dataset, verbose=0, shuffle=False)
    assert np.isnan(history.history["loss"][0])
    for before, after in zip(start, functional.get_params(learner.field)):
        np.testing.assert_array_equal(before, after)


def test_batch_size_must_be_static():
    learner = maml.MAML(_field())
    learner.compile(keras.optimizers.SGD(1.0))
    dataset = tf.data.Dataset.from_tensors(_task()).batch(2)
    with pytest.raises(ValueError, match="must be static: batch the dataset"):
        learner.fit(dataset, verbose=0, shuffle=False)


def test_steps_of_evaluation_must_not_be_negative():
    with pytest.raises(ValueError, match="`eval_steps` must not be negative"):
        maml.MAML(_field(), eval_steps=-1)


def test_inner_steps_must_be_positive():
    with pytest.raises(ValueError, match="`inner_steps` must be at least 1"):
        maml.MAML(_field(), inner_steps=0)


def test_saved_by_keras_and_by_tensorflow(tmp_path):
    learner = maml.MAML(_field(), step_sizes="curvature", learn_step_sizes=True)
    learner.compile(optimizer=None)
    tf.saved_model.save(learner, tmp_path / "by_tensorflow")
    learner.export(
        tmp_path / "by_keras",
        input_signature=[tf.TensorSpec([None, 2], tf.float64)],
        verbose=False,
    )
    coords = _task().query.inputs
    saved = tf.saved_model.load(tmp_path / "by_keras")
    np.testing.assert_allclose(
        saved.serve(coords),
        learner(coords),
        rtol=1e-12,
    )


def test_weights_file_round_trip(tmp_path):
    """Field, step sizes and optimizer state come back."""
    dataset = tf.data.Dataset.from_tensors(_batch([_task()]))
    learner = maml.MAML(_field(), step_sizes="tensor", learn_step_sizes=True)
    learner.compile(keras.optimizers.Adam(1e-2))
    learner.fit(dataset, verbose=0, shuffle=False)
    learner.save_weights(tmp_path / "a.weights.h5")
    other = maml.MAML(
        _field(seed=9), step_sizes="tensor", learn_step_sizes=True
    )
    other.compile(keras.optimizers.Adam(1e-2))
    other.optimizer.build(other.trainable_variables)
    other.load_weights(tmp_path / "a.weights.h5")
    for ours, theirs in zip(
        learner.variables + learner.optimizer.variables,
        other.variables + other.optimizer.variables,
    ):
        np.testing.assert_array_equal(ours, theirs)
    assert int(other.optimizer.iterations) == 1
