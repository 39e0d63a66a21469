"""The first inner step of MAML, computed once for a batch of tasks."""

import collections
import itertools

import numpy as np
import pytest
import tensorflow as tf

from tfmetainit.meta import functional, maml
from tfmetainit.meta.step_sizes import GRANULARITIES
from tfmetainit.meta.tasks import FieldLoss, Observations


@pytest.mark.parametrize(
    ("granularity", "inner_steps", "options"),
    [
        *itertools.product(GRANULARITIES, (2,), ({},)),
        ("tensor", 1, {"early_loss_weight": 0.3}),
        ("scalar", 3, {"learn_step_sizes": False}),
        ("tensor", 3, {"early_loss_weight": 0.3}),
        ("tensor", 2, {"first_order": True}),
        ("tensor", 2, {"recompute": True}),
        pytest.param(
            "tensor",
            2,
            {"recompute": True, "chunk": 5},
            marks=pytest.mark.slow,
        ),
        ("tensor", 2, {"recompute": True, "first_order": True}),
        ("tensor", 1, {"output_layer": "solved"}),
        ("tensor", 2, {"output_layer": "solved", "early_loss_weight": 0.3}),
        (
            "tensor",
            2,
            {"output_layer": "solved", "recompute": True, "chunk": 5},
        ),
    ],
)
def test_a_shared_first_step_changes_nothing(
    make_field, make_task, stack_tasks, granularity, inner_steps, options
):
    """Tasks whose first support inputs are the same, together and alone."""
    learner = maml.MAML(
        make_field(),
        inner_steps=inner_steps,
        inner_lr=0.05,
        step_sizes=granularity,
        step_size_gain=2.0,
        shares_support=True,
        **{"learn_step_sizes": True, **options},
    )
    rng = np.random.default_rng(0)
    for variable in learner.step_sizes.variables:  # as if they were learned
        variable.assign(0.1 * rng.normal(size=variable.shape))
    tasks = [make_task(seed, steps=inner_steps) for seed in range(3)]
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
        stack_tasks(tasks)
    )
    expected = functional.mean([of_task[0] for of_task in alone])
    assert len(gradients) == len(learner.trainable_variables)
    for together, mean in zip(gradients, expected):
        np.testing.assert_allclose(together, mean, rtol=1e-10, atol=1e-13)
    for index, received in ((1, losses), (2, before)):
        np.testing.assert_allclose(
            received, [of_task[index] for of_task in alone], rtol=1e-12
        )


def test_a_shared_first_step_computes_it_once(
    make_field, make_task, stack_tasks
):
    tasks = stack_tasks([make_task(0)] * 3)
    counts = []
    for shares_support in (False, True):
        learner = maml.MAML(make_field(), shares_support=shares_support)
        graph = tf.function(learner.meta_gradient).get_concrete_function(tasks)
        types = [op.type for op in graph.graph.get_operations()]
        counts.append(collections.Counter(types))
    # Two tasks are spared a pass through two sines and three layers, and the
    # way back through it: to three kernels, and to the inputs of two layers.
    spared = counts[0] - counts[1]
    assert spared["Sin"] == 2 * 2
    assert spared["MatMul"] == 2 * (3 + 3 + 2)


def _optimized_graphs(function, folder, *arguments):
    """Graphs of a `tf.function` as they run, from TensorFlow's own trace."""
    writer = tf.summary.create_file_writer(str(folder))
    tf.summary.trace_on()
    try:
        function(*arguments)
        with writer.as_default():
            tf.summary.trace_export("trace", step=0)
    finally:
        tf.summary.trace_off()
        writer.close()
    (path,) = folder.iterdir()
    for record in tf.data.TFRecordDataset(str(path)):
        event = tf.compat.v1.Event.FromString(record.numpy())
        for value in event.summary.value:
            (content,) = value.tensor.string_val
            trace = tf.compat.v1.RunMetadata.FromString(content)
            return [g.post_optimization_graph for g in trace.function_graphs]
    raise AssertionError("The trace was not written.")


def test_each_sine_and_cosine_is_computed_once(
    make_field, make_task, stack_tasks, tmp_path
):
    """The graph optimizer leaves one of each for a pass through a layer."""
    learner = maml.MAML(make_field(), inner_steps=2, shares_support=True)
    tasks = stack_tasks([make_task(0)] * 3)
    step = tf.function(learner.meta_gradient)
    (graph,) = _optimized_graphs(step, tmp_path, tasks)
    types = collections.Counter(node.op for node in graph.node)
    # Two layers: the shared step, then of three tasks a step and the query.
    assert types["Sin"] == types["Cos"] == 2 * (1 + 3 * 2)


def test_a_first_step_that_is_not_shared_is_refused(
    make_field, make_task, stack_tasks, raises_with
):
    learner = maml.MAML(make_field(), shares_support=True)
    tasks = stack_tasks([make_task(seed) for seed in range(2)])
    with raises_with(tf.errors.InvalidArgumentError, "`shares_support`"):
        tf.function(learner.meta_gradient)(tasks)


def test_a_shared_first_step_under_xla_and_of_another_forward_model(
    make_field, make_task, stack_tasks
):
    def halves(field, inputs):
        return 0.5 * field(inputs)

    learner = maml.MAML(
        make_field(), inner_lr=0.05, support_model=halves, shares_support=True
    )
    # Support of length 1: the same observations at every step.
    tasks = [make_task(seed) for seed in range(2)]
    tasks[1] = tasks[1]._replace(
        support=Observations(tasks[0].support.inputs, tasks[1].support.values)
    )
    alone = [learner.outer_gradients(task) for task in tasks]
    expected = functional.mean([of_task[0] for of_task in alone])
    for jit in (False, True):
        gradients, _, before = tf.function(
            learner.meta_gradient, jit_compile=jit
        )(stack_tasks(tasks))
        for together, mean in zip(gradients, expected):
            np.testing.assert_allclose(together, mean, rtol=1e-10, atol=1e-13)
        np.testing.assert_allclose(
            before, [of_task[2] for of_task in alone], rtol=1e-12
        )


def test_a_support_loss_of_ones_own_is_kept(make_field, make_task, stack_tasks):
    class Doubled(FieldLoss):
        def values_and_grads(self, params, inputs, values):
            return [
                (2.0 * value, [2.0 * g for g in gradients])
                for value, gradients in super().values_and_grads(
                    params, inputs, values
                )
            ]

    tasks = stack_tasks([make_task(0)] * 2)
    results = []
    for shares_support in (False, True):
        learner = maml.MAML(make_field(), shares_support=shares_support)
        learner.support_loss = Doubled(learner.field)
        results.append(learner.meta_gradient(tasks)[0])
    for apart, shared in zip(*results):
        np.testing.assert_allclose(shared, apart, rtol=1e-12)


def test_an_outer_loss_of_a_subclass_is_kept(
    make_field, make_task, stack_tasks
):
    class Doubled(maml.MAML):
        def outer_gradients(self, task):
            gradients, *losses = super().outer_gradients(task)
            return [2.0 * g for g in gradients], *losses

    tasks = stack_tasks([make_task(0)] * 2)
    field = make_field()
    plain, _, _ = maml.MAML(field).meta_gradient(tasks)
    for shares_support in (False, True):
        learner = Doubled(field, shares_support=shares_support)
        for gradient, single in zip(learner.meta_gradient(tasks)[0], plain):
            np.testing.assert_allclose(gradient, 2.0 * single, rtol=1e-12)
