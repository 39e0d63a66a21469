"""Inner steps on the halves of a picture, against slow loops and batches."""

import numpy as np
import pytest
import tensorflow as tf

from tfmetainit.meta import halves, inner_loop, maml, reptile
from tfmetainit.meta.functional import get_params
from tfmetainit.meta.tasks import Observations


def _slow_halves(rows, width):
    parts = [], []
    for index, row in enumerate(rows):
        parts[sum(divmod(index, width)) % 2].append(row)
    return [np.array(part) for part in parts]


@pytest.mark.parametrize("width", [2, 3, 4, 6, 7])
@pytest.mark.parametrize("count", [2, 5, 12, 13, 24, 35, 36, 49])
@pytest.mark.parametrize("static", [True, False])
def test_halves_are_those_of_a_checkerboard(width, count, static):
    rows = np.arange(3.0 * count).reshape(count, 3) + 1.0
    split = tf.function(
        lambda rows: halves.split_rows(rows, width),
        input_signature=[tf.TensorSpec([count if static else None, 3])],
    )
    expected = _slow_halves(rows, width)
    found = split(tf.constant(rows, tf.float32))
    for number, (half, slow) in enumerate(zip(found, expected)):
        assert halves.count(number, count, width) == len(slow)
        assert halves.count(tf.constant(number), count, width) == len(slow)
        np.testing.assert_array_equal(half[: len(slow)], slow)
        assert not half[len(slow) :].numpy().any()
    support = Observations(tf.constant(rows)[None], tf.constant(-rows)[None])
    batches = halves.as_batches(support, width)
    for step in range(3):
        seen = inner_loop.at_step(batches, step)
        np.testing.assert_array_equal(seen.inputs, expected[step % 2])
        np.testing.assert_array_equal(seen.values, -expected[step % 2])


def test_a_single_row_is_seen_by_every_step():
    support = Observations(tf.ones([1, 1, 2]), tf.ones([1, 1, 3]))
    assert halves.as_batches(support, 4) is support


def _in_batches(task, width):
    """The same task with the halves as batches of its support."""
    support = [
        np.stack(_slow_halves(leaf[0].numpy(), width)) for leaf in task.support
    ]
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


@pytest.mark.parametrize("count", [1, 7, 8])
def test_all_ways_to_step_agree(count, make_field, make_task):
    """`adapt` and its steps one by one, of both learners."""
    task = make_task()
    support = tf.nest.map_structure(lambda leaf: leaf[:, :count], task.support)
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
        trajectory = learner.sgd_fit().trajectory(params, support, 5)
        for steps, stepped in enumerate(trajectory):
            adapted, losses = learner.adapt(support, steps)
            assert losses.shape == [steps]
            for one, other in zip(adapted, stepped):
                np.testing.assert_allclose(one, other, rtol=1e-9)


def test_a_support_of_several_batches_has_no_halves(
    make_field, make_task, raises_with
):
    learner = maml.MAML(make_field(), step_on="halves", raster_width=4)
    with raises_with(ValueError, "`step_on`", "3 batches"):
        learner.adapt(make_task(steps=3).support)


@pytest.mark.parametrize(
    ("options", "received"),
    [
        ({"step_on": "thirds", "raster_width": 4}, "'thirds'"),
        ({"step_on": "halves"}, "raster_width=None"),
    ],
)
def test_what_has_no_halves(options, received, make_field, raises_with):
    with raises_with(ValueError, "`step_on`", received):
        maml.MAML(make_field(), **options)
