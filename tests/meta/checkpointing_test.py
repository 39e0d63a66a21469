"""Recomputation changes the memory of a gradient, and nothing else."""

import numpy as np
import pytest
import tensorflow as tf

from tfmetainit.meta import maml


@pytest.mark.parametrize(
    ("jit", "chunk"),
    [
        (False, 0),
        (False, 4),
        # XLA compiles them for half a minute.
        pytest.param(True, 0, marks=pytest.mark.slow),
        pytest.param(True, 4, marks=pytest.mark.slow),
    ],
)
def test_recomputation_changes_nothing_but_memory(
    make_field, make_task, stack_tasks, jit, chunk
):
    """Loss and outer gradient in a graph, after its optimizations; support
    and query have 8 and 9 observations.
    """
    results = []
    for options in ({}, {"recompute": True, "chunk": chunk}):
        learner = maml.MAML(
            make_field(),
            inner_steps=3,
            step_sizes="tensor",
            learn_step_sizes=True,
            **options,
        )
        step = tf.function(learner.meta_gradient, jit_compile=jit)
        results.append(
            step(stack_tasks([make_task(steps=3), make_task(1, steps=3)]))
        )
    for a, b in zip(*map(tf.nest.flatten, results)):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-15)


def test_recomputation_of_observations_whose_number_is_unknown(
    make_field, make_task
):
    """As of tomography from 1, 2, 4 or 8 projections."""
    task = make_task()
    learner = maml.MAML(make_field(), recompute=True, chunk=4)
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


def test_a_graph_of_chunks_does_not_grow_with_their_number(
    make_field, make_task, stack_tasks
):
    """Of 178 x 178 pixels it took more memory than the chunks did."""
    tasks = stack_tasks([make_task()] * 2)
    sizes = []
    for chunk in (4, 2, 1):
        learner = maml.MAML(make_field(), recompute=True, chunk=chunk)
        step = tf.function(learner.meta_gradient).get_concrete_function(tasks)
        graph = step.graph.as_graph_def()
        bodies = [f.node_def for f in graph.library.function]
        sizes.append(len(graph.node) + sum(map(len, bodies)))
    # Support and query of 8 and 9 observations: with chunks of 4 and 2, and
    # with those of 1, every one of them is in two parts or more.
    assert max(sizes) < 1.1 * min(sizes)


def test_chunks_want_recomputation(make_field, raises_with):
    with raises_with(ValueError, "`chunk`", "chunk=3", "`recompute`"):
        maml.MAML(make_field(), chunk=3)
