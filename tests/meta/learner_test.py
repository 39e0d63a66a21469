"""What all learners share: fit, evaluate, predict, weights, refusals."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfmetainit.meta import functional, maml, reptile
from tfmetainit.meta.tasks import FieldLoss, Observations, Task


@pytest.mark.parametrize("options", [{}, {"recompute": True, "chunk": 4}])
def test_a_float64_field_learns_from_float32_signals(
    make_field, make_task, stack_tasks, options
):
    """As datasets have them, and to the same weights as from float64 ones."""
    weights = []
    for dtype in (np.float32, np.float64):
        learner = maml.MAML(make_field(), **options)
        learner.compile(keras.optimizers.Adam(1e-3))
        tasks = [make_task(seed, dtype=np.float32) for seed in range(2)]
        cast = functools.partial(tf.cast, dtype=dtype)
        tasks = tf.nest.map_structure(cast, tasks)
        batches = tf.data.Dataset.from_tensors(stack_tasks(tasks)).repeat(3)
        learner.fit(batches, verbose=0, shuffle=False)
        assert learner.evaluate(batches, verbose=0, return_dict=True)
        weights.append(functional.flatten(functional.get_params(learner.field)))
    assert weights[0].dtype == tf.float64
    np.testing.assert_allclose(*weights, rtol=1e-12)


def test_float64_through_a_forward_model(observed_field):
    field, model, shape, values = observed_field
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


def test_batch_gradient_is_the_mean_over_tasks(
    make_field, make_task, stack_tasks
):
    """One SGD step of `fit` moves the weights by the mean outer gradient."""
    tasks = [make_task(seed) for seed in range(3)]
    learner = maml.MAML(make_field(), inner_lr=0.05)
    start = functional.get_params(learner.field)
    expected = functional.mean(
        [learner.outer_gradients(task)[0] for task in tasks]
    )
    learner.compile(keras.optimizers.SGD(1.0))
    dataset = tf.data.Dataset.from_tensors(stack_tasks(tasks))
    learner.fit(dataset, verbose=0, shuffle=False)
    for before, after, gradient in zip(
        start, functional.get_params(learner.field), expected
    ):
        np.testing.assert_allclose(
            np.asarray(before) - np.asarray(after), gradient, atol=1e-8
        )


def _absolute_error(predictions, values):
    residual = predictions - values
    count = tf.cast(tf.size(residual), residual.dtype)
    return tf.reduce_mean(tf.abs(residual)), tf.sign(residual) / count


def test_psnr_is_of_the_squared_error_whatever_the_loss(
    make_field, make_task, stack_tasks
):
    batch = stack_tasks([make_task(0), make_task(1)])
    data = tf.data.Dataset.from_tensors(batch)
    scores = []
    for own in (False, True):
        learner = maml.MAML(make_field(), eval_steps=0)
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
            for task in (make_task(0), make_task(1))
        ]
    )
    assert history["loss_before"][0] == pytest.approx(before)


@pytest.mark.parametrize("value_dims", [1, 2, 4])
def test_values_of_another_shape_are_not_broadcast(
    make_field, make_task, raises_with, value_dims
):
    learner = maml.MAML(make_field(value_dims=3))
    with raises_with(ValueError, (9, 3), (9, value_dims)):
        learner.query_loss(
            functional.get_params(learner.field),
            make_task(0, value_dims=value_dims).query,
        )
    with raises_with(ValueError, (8, 3), (8, value_dims)):
        learner.adapt(make_task(0, value_dims=value_dims).support)


@pytest.mark.parametrize("make", [maml.MAML, reptile.Reptile])
@pytest.mark.parametrize("shares_support", [False, True])
def test_a_weight_that_is_not_used_stays(
    make_task, stack_tasks, make, shares_support
):
    class Idle(keras.Model):
        """f(x) = x @ kernel."""

        def __init__(self):
            super().__init__(dtype="float64")
            self.kernel = self.add_weight(shape=(2, 1))
            self.idle = self.add_weight(shape=(3,), initializer="ones")
            self.built = True

        def call(self, inputs):
            return tf.matmul(inputs, self.kernel)

    learner = make(Idle(), shares_support=shares_support)
    learner.compile(keras.optimizers.SGD(0.1))
    batch = stack_tasks([make_task(0, value_dims=1)] * 2)
    data = tf.data.Dataset.from_tensors(batch)
    learner.fit(data, shuffle=False, verbose=0)
    np.testing.assert_array_equal(learner.field.idle, np.ones(3))
    assert np.isfinite(learner.field.kernel).all()


def test_a_field_that_is_not_built_is_refused(raises_with):
    with raises_with(ValueError, "`field`"):
        maml.MAML(keras.Sequential([keras.layers.Dense(3)]))


@pytest.mark.parametrize(
    "make",
    [
        lambda f: maml.MAML(f, inner_lr=0.05, learn_step_sizes=True),
        pytest.param(
            lambda f: maml.MAML(f, inner_lr=0.05, first_order=True),
            marks=pytest.mark.slow,
        ),
        lambda f: reptile.Reptile(f, inner_lr=0.05, inner_steps=4),
    ],
)
def test_fit_evaluate_predict(make_field, make):
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
    learner = make(make_field(hidden_units=8))
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


def test_step_sizes_stay_positive_and_move_by_the_gain(
    make_field, make_task, stack_tasks
):
    learner = maml.MAML(
        make_field(),
        inner_lr=1e-3,
        step_sizes="weight",
        learn_step_sizes=True,
        step_size_gain=30.0,
    )
    # Descending against the true gradient drives the step sizes down.
    learner.compile(keras.optimizers.Adam(-0.1, epsilon=1e-15))
    dataset = tf.data.Dataset.from_tensors(stack_tasks([make_task()]))
    learner.fit(dataset, verbose=0, shuffle=False)
    sizes = np.concatenate(
        [np.ravel(s) for s in learner.step_sizes.as_params()]
    )
    # Adam's first update is its rate, whatever the gradient.
    changes = np.log(sizes / 1e-3)
    np.testing.assert_allclose(np.abs(changes), 3.0, rtol=1e-2)
    assert changes.min() < 0.0


def test_the_loss_before_is_comparable_with_the_one_after(
    make_field, make_task
):
    """Where what is observed is no value of the field, it is the query's."""
    field, task = make_field(), make_task()

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


def test_a_step_that_is_not_finite_leaves_the_weights(
    make_field, make_task, stack_tasks
):
    learner = maml.MAML(make_field())
    learner.compile(keras.optimizers.SGD(1.0))
    start = functional.get_params(learner.field)
    task = make_task()
    broken = task._replace(
        query=task.query._replace(values=task.query.values * np.nan)
    )
    dataset = tf.data.Dataset.from_tensors(stack_tasks([task, broken]))
    history = learner.fit(dataset, verbose=0, shuffle=False)
    assert np.isnan(history.history["loss"][0])
    for before, after in zip(start, functional.get_params(learner.field)):
        np.testing.assert_array_equal(before, after)


def test_batch_size_must_be_static(make_field, make_task, raises_with):
    learner = maml.MAML(make_field())
    learner.compile(keras.optimizers.SGD(1.0))
    dataset = tf.data.Dataset.from_tensors(make_task()).batch(2)
    with raises_with(ValueError, (None, 9, 3)):
        learner.fit(dataset, verbose=0, shuffle=False)


def test_steps_of_evaluation_must_not_be_negative(make_field, raises_with):
    with raises_with(ValueError, "`eval_steps`", -1):
        maml.MAML(make_field(), eval_steps=-1)


def test_inner_steps_must_be_positive(make_field, raises_with):
    with raises_with(ValueError, "`inner_steps`"):
        maml.MAML(make_field(), inner_steps=0)


def test_saved_by_keras_and_by_tensorflow(make_field, make_task, tmp_path):
    learner = maml.MAML(
        make_field(), step_sizes="curvature", learn_step_sizes=True
    )
    learner.compile(optimizer=None)
    tf.saved_model.save(learner, tmp_path / "by_tensorflow")
    learner.export(
        tmp_path / "by_keras",
        input_signature=[tf.TensorSpec([None, 2], tf.float64)],
        verbose=False,
    )
    coords = make_task().query.inputs
    saved = tf.saved_model.load(tmp_path / "by_keras")
    np.testing.assert_allclose(
        saved.serve(coords),
        learner(coords),
        rtol=1e-12,
    )


def test_weights_file_round_trip(make_field, make_task, stack_tasks, tmp_path):
    """Field, step sizes and optimizer state come back."""
    dataset = tf.data.Dataset.from_tensors(stack_tasks([make_task()]))
    learner = maml.MAML(
        make_field(), step_sizes="tensor", learn_step_sizes=True
    )
    learner.compile(keras.optimizers.Adam(1e-2))
    learner.fit(dataset, verbose=0, shuffle=False)
    learner.save_weights(tmp_path / "a.weights.h5")
    other = maml.MAML(
        make_field(seed=9), step_sizes="tensor", learn_step_sizes=True
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
