"""XLA compiles the outer gradient of every learner and forward model."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from tfmetainit.meta import maml, reptile, task_loops
from tfmetainit.meta.tasks import Observations, Task

_SOLVED = {"output_layer": "solved", "early_loss_weight": 0.2}
_LEARNED = {"step_sizes": "tensor", "learn_step_sizes": True}
_LEARNERS = {
    "maml": (maml.MAML, _LEARNED),
    "solved": (maml.MAML, {**_SOLVED, **_LEARNED}),
    "curvature": (maml.MAML, {**_LEARNED, "step_sizes": "curvature"}),
    "recomputed": (maml.MAML, {"recompute": True, "chunk": 3, **_SOLVED}),
    "first_order": (maml.MAML, {"first_order": True, "inner_steps": 6}),
    "reptile": (reptile.Reptile, {"inner_steps": 6}),
}
_FAST = [("solved", "loop"), ("reptile", "loop")]
_CASES = [
    pytest.param(*case, marks=() if case in _FAST else pytest.mark.slow)
    for case in itertools.product(_LEARNERS, task_loops.FORMS)
]


def _assert_compiles(learner, batch, rtol):
    expected, received = (
        tf.function(learner.meta_gradient, jit_compile=jit)(batch)
        for jit in (False, True)
    )
    for a, b in zip(*map(tf.nest.flatten, (received, expected))):
        scale = np.abs(b).max()
        assert 0 < scale < np.inf
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * scale)


@pytest.mark.parametrize(("name", "form"), _CASES)
def test_learners(name, form, make_field, make_task, stack_tasks):
    make, options = _LEARNERS[name]
    options = {"inner_steps": 2, "inner_lr": 0.05, **options}
    learner = make(make_field(), task_loop=form, **options)
    steps = options["inner_steps"]
    batch = stack_tasks([make_task(seed, steps=steps) for seed in range(3)])
    _assert_compiles(learner, batch, 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("make", [maml.MAML, reptile.Reptile])
def test_forward_models(observed_field, make, stack_tasks):
    field, model, shape, values = observed_field
    learner = make(
        field,
        support_model=model,
        query_model=model,
        inner_steps=6 if make is reptile.Reptile else 2,
        task_loop="loop",
    )
    rng = np.random.default_rng(0)

    def observed(*batch):
        return Observations(
            tf.constant(np.sort(rng.random((*batch, *shape)))),
            tf.constant(rng.random((*batch, shape[0], values))),
        )

    batch = stack_tasks([Task(observed(1), observed()) for _ in range(2)])
    _assert_compiles(learner, batch, 1e-9)
