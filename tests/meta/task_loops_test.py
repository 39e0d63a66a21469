"""The forms of a batch's graph: they compute the same, and do not grow."""

import numpy as np
import pytest
import tensorflow as tf

from tfmetainit.fields import networks
from tfmetainit.forward_models.volume_rendering import VolumeRendering
from tfmetainit.meta import inner_loop, maml, reptile, task_loops
from tfmetainit.meta.inner_loop import adapt
from tfmetainit.meta.tasks import Observations, Task

_FIRST_ORDER = {
    "first_order": True,
    "step_sizes": "tensor",
    "learn_step_sizes": True,
    "output_layer": "solved",
}
_OPTIONS = [
    (maml.MAML, {}),
    (maml.MAML, {"early_loss_weight": 0.3, "output_layer": "solved"}),
    (maml.MAML, {"step_sizes": "curvature", "learn_step_sizes": True}),
    (maml.MAML, {"first_order": True}),
    (maml.MAML, {"recompute": True}),
    (reptile.Reptile, {"inner_steps": 3}),
    (reptile.Reptile, {"inner_steps": 7}),  # in a loop
    (maml.MAML, {"inner_steps": 7, **_FIRST_ORDER}),  # in a loop
]


@pytest.mark.parametrize(("make", "options"), _OPTIONS)
@pytest.mark.parametrize("form", ["loop", "batched"])
def test_every_form_computes_the_same(
    form, make, options, make_field, make_task, stack_tasks
):
    options = {"inner_steps": 2, "inner_lr": 0.05, **options}
    learner = make(make_field(), task_loop="unrolled", **options)
    steps = options["inner_steps"]
    tasks = [make_task(seed, steps=steps) for seed in range(3)]
    # What the inner loop gives for one task at a time, step by step.
    alone = [learner.outer_gradients(task) for task in tasks]
    learner.task_loop = form
    results = tf.function(learner.meta_gradient)(stack_tasks(tasks))
    for together, *each in zip(results[0], *(one[0] for one in alone)):
        mean = np.mean(each, axis=0)
        np.testing.assert_allclose(together, mean, rtol=1e-10, atol=1e-12)
    for index in (1, 2):
        expected = [one[index] for one in alone]
        np.testing.assert_allclose(results[index], expected, rtol=1e-11)


@pytest.mark.parametrize("form", task_loops.FORMS)
def test_scores_and_predictions_of_a_batch(
    form, make_field, make_task, stack_tasks
):
    learner = maml.MAML(
        make_field(), inner_lr=0.05, eval_steps=2, task_loop=form
    )
    learner.compile()
    tasks = [make_task(seed) for seed in range(3)]
    batch = stack_tasks(tasks)
    params = [tf.convert_to_tensor(v) for v in learner.field.weights]
    psnr, predictions = [], []
    for task in tasks:
        of_task = learner.reconstructions(task, params, learner.sgd_fit(), 2)
        errors = [np.mean((p - task.query.values) ** 2) for p in of_task]
        psnr.append(-10 * np.log10(errors))
        adapted, _ = learner.adapt(task.support)
        predictions.append(
            learner.query_loss.predict(adapted, task.query.inputs)
        )
    scores = tf.function(learner.test_step)(batch)
    np.testing.assert_allclose(
        [scores[f"psnr_{step}"] for step in range(3)],
        np.mean(psnr, axis=0),
        rtol=1e-6,
    )
    np.testing.assert_allclose(
        tf.function(learner.predict_step)(batch), predictions, rtol=1e-10
    )


@pytest.mark.parametrize("in_loop", [False, True])
@pytest.mark.parametrize("num_steps", [0, 1, 5])
def test_steps_in_a_loop(in_loop, num_steps, make_field, make_task):
    """The batches of the support take turns, from any of them."""
    learner = maml.MAML(make_field(), inner_lr=0.05)
    task = make_task(0, steps=3)
    params = [tf.convert_to_tensor(v) for v in learner.field.weights]
    expected, losses = params, []
    for step in range(2, 2 + num_steps):
        one = Observations(*(leaf[step % 3][None] for leaf in task.support))
        expected, loss = adapt(
            learner.support_loss,
            expected,
            one,
            num_steps=1,
            step_sizes=learner.step_sizes.as_params(),
        )
        losses.append(loss[0])
    adapted, received = adapt(
        learner.support_loss,
        params,
        task.support,
        num_steps=num_steps,
        step_sizes=learner.step_sizes.as_params(),
        steps_before=2,
        in_loop=in_loop,
    )
    assert received.shape == [num_steps]
    np.testing.assert_allclose(received, losses, rtol=1e-12)
    for a, b in zip(adapted, expected):
        np.testing.assert_allclose(a, b, rtol=1e-12)


@pytest.mark.parametrize("chunk", [0, 5])
def test_first_order_in_a_loop(chunk, make_field, make_task, monkeypatch):
    """The gradients are those without the loop, of step sizes too."""
    learner = maml.MAML(
        make_field(),
        inner_steps=7,
        inner_lr=0.05,
        recompute=chunk > 0,
        chunk=chunk,
        **_FIRST_ORDER,
    )
    task = make_task(0, steps=3)
    compute = tf.function(lambda: learner.outer_gradients(task))
    received = tf.nest.flatten(compute())
    assert any(
        "While" in operation.type
        for operation in compute.get_concrete_function().graph.get_operations()
    )
    monkeypatch.setattr(inner_loop, "MOST_UNROLLED", 100)
    expected = tf.nest.flatten(learner.outer_gradients(task))
    for a, b in zip(received, expected):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-14)


def _operations(learner, tasks):
    graph = tf.function(learner.meta_gradient).get_concrete_function(tasks)
    library = graph.graph.as_graph_def().library
    return len(graph.graph.get_operations()) + sum(
        len(function.node_def) for function in library.function
    )


@pytest.mark.parametrize("form", ["loop", "batched"])
def test_the_graph_does_not_grow_with_the_batch(
    form, make_field, make_task, stack_tasks
):
    learner = maml.MAML(make_field(), task_loop=form)
    small, large = (
        _operations(learner, stack_tasks([make_task(0)] * size))
        for size in (5, 50)
    )
    assert large == small


@pytest.mark.parametrize(
    ("make", "options"), [(reptile.Reptile, {}), (maml.MAML, _FIRST_ORDER)]
)
def test_the_graph_does_not_grow_with_steps_in_a_loop(
    make, options, make_field, make_task, stack_tasks
):
    tasks = stack_tasks([make_task(0)] * 5)
    small, large = (
        _operations(make(make_field(), inner_steps=steps, **options), tasks)
        for steps in (8, 64)
    )
    assert large == small


@pytest.mark.parametrize("form", ["loop", "batched"])
def test_rays_through_a_radiance_field(form):
    """A NeRF in float32, by MAML: the forms agree within rounding."""
    field = networks.SimplifiedNeRF(hidden_layers=2, hidden_units=16, seed=0)
    render = VolumeRendering(white_background=True)
    rng = np.random.default_rng(0)
    rays = np.float32(rng.random((3, 1, 9, 6 + 5)))
    rays[..., 6:] = np.sort(rays[..., 6:], axis=-1)
    colors = np.float32(rng.random((3, 1, 9, 3)))
    tasks = Task(
        Observations(tf.constant(rays), tf.constant(colors)),
        Observations(tf.constant(rays[:, 0]), tf.constant(colors[:, 0])),
    )
    results = []
    for one in ("unrolled", form):
        learner = maml.MAML(
            field, support_model=render, query_model=render, task_loop=one
        )
        results.append(tf.function(learner.meta_gradient)(tasks)[0])
    scale = tf.linalg.global_norm(results[0])
    for a, b in zip(*results):
        np.testing.assert_allclose(a, b, atol=3e-6 * scale)


@pytest.mark.parametrize(
    ("form", "size", "expected"),
    [
        (None, 1, "unrolled"),
        (None, 4, "unrolled"),
        (None, 5, "loop"),
        ("batched", 1, "batched"),
        ("unrolled", 64, "unrolled"),
    ],
)
def test_the_rule_of_a_cpu(form, size, expected, monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    assert task_loops.choose(form, size) == expected


def test_a_gpu_takes_all_tasks_at_once(monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind])
    assert task_loops.choose(None, 2) == "batched"
    assert task_loops.choose(None, 1) == "unrolled"
    assert task_loops.choose(None, 8, in_turn=True) == "loop"


def test_an_unknown_form_is_refused(make_field):
    with pytest.raises(ValueError, match=r"`task_loop`.*'map'"):
        maml.MAML(make_field(), task_loop="map")
