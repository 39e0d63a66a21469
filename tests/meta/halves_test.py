"""Inner steps on the halves of a picture, against slow loops and batches."""

import numpy as np
import pytest
import tensorflow as tf

from tfmetainit.meta import halves, maml, reptile
from tfmetainit.meta.functional import get_params
from tfmetainit.meta.tasks import Observations


def _slow_halves(rows, width):
    parts = [], []
    for index in range(len(rows) // 2 * 2):
        row, column = divmod(index, width)
        parts[(row + column) % 2].append(rows[index])
    return [np.array(part) for part in parts]


@pytest.mark.parametrize("width", [2, 4, 6])
@pytest.mark.parametrize("count", [2, 5, 12, 13, 24, 36])
@pytest.mark.parametrize("static", [True, False])
def test_halves_are_those_of_a_checkerboard(width, count, static):
    rows = np.arange(3.0 * count).reshape(count, 3) + 1.0
    split = tf.function(
        lambda rows: halves.split_rows(rows, width),
        input_signature=[tf.TensorSpec([count if static else None, 3])],
    )
    expected = _slow_halves(rows, width)
    for half, slow in zip(split(tf.constant(rows, tf.float32)), expected):
        np.testing.assert_array_equal(half[: count // 2], slow)
        rest = half[count // 2 :].numpy()
        # An odd last row has no partner; zeros follow.
        assert not (rest[1:] if count % 2 else rest).any()
    support = Observations(tf.constant(rows)[None], tf.constant(-rows)[None])
    batches = halves.as_batches(support, width)
    np.testing.assert_array_equal(batches.inputs, expected)
    np.testing.assert_array_equal(batches.values, np.negative(expected))


def test_a_single_row_is_seen_by_every_step():
    support = Observations(tf.ones([1, 1, 2]), tf.ones([1, 1, 3]))
    assert halves.as_batches(support, 4) is support


def _in_batches(task, width):
    """The same task with the halves as batches of its support."""
    support = [_slow_halves(leaf[0].numpy(), width) for leaf in task.support]
    return task._replace(support=Observations(*map(tf.constant, support)))


@pytest.mark.parametrize(
    "options",
    [
        {"output_layer": "solved"},
        {"output_layer": "solved", "shares_support": True},
        {"output_layer": "solved", "task_loop": "loop"},
        {"output_layer": "solved", "task_loop": "batched"},
        {"recompute": True, "chunk": 3, "early_loss_weight": 0.2},
        {"first_order": True, "inner_steps": 7},
    ],
)
def test_a_step_on_a_half_is_a_step_on_a_batch(
    options, make_field, make_task, stack_tasks
):
    field = make_field()
    tasks = [make_task(seed) for seed in (0, 1)]
    inputs = tasks[0].support.inputs
    tasks = [
        task._replace(support=task.support._replace(inputs=inputs))
        for task in tasks
    ]
    options = {"inner_steps": 3, "inner_lr": 0.05, **options}
    whole = maml.MAML(field, step_on="halves", raster_width=4, **options)
    batches = maml.MAML(field, **options)
    results = [
        learner.meta_gradient(stack_tasks(of_learner))
        for learner, of_learner in (
            (whole, tasks),
            (batches, [_in_batches(task, 4) for task in tasks]),
        )
    ]
    for one, other in zip(*map(tf.nest.flatten, results)):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-14)


def test_all_ways_to_step_agree(make_field, make_task):
    """Training, evaluation and `adapt`, of both learners."""
    task = make_task()
    for learner in (
        reptile.Reptile(
            make_field(), inner_lr=0.05, step_on="halves", raster_width=4
        ),
        maml.MAML(
            make_field(),
            inner_lr=0.05,
            step_on="halves",
            raster_width=4,
            output_layer="solved",
        ),
    ):
        params = get_params(learner.field)
        trajectory = learner.sgd_fit().trajectory(params, task.support, 5)
        for steps, stepped in enumerate(trajectory):
            adapted, losses = learner.adapt(task.support, steps)
            assert losses.shape == [steps]
            for one, other in zip(adapted, stepped):
                np.testing.assert_allclose(one, other, rtol=1e-9)


@pytest.mark.parametrize(
    ("options", "received"),
    [
        ({"step_on": "thirds", "raster_width": 4}, "'thirds'"),
        ({"step_on": "halves", "raster_width": 5}, "a width of 5"),
        ({"step_on": "halves"}, "no picture"),
    ],
)
def test_what_has_no_halves(options, received, make_field, raises_with):
    with raises_with(ValueError, "`step_on`", received):
        maml.MAML(make_field(), **options)
