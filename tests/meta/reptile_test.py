"""Reptile's outer gradient, and what it refuses."""

import numpy as np
import tensorflow as tf

from tfmetainit.meta import functional, reptile


def test_reptile_with_one_step_is_the_scaled_gradient(make_field, make_task):
    field = make_field()
    learner = reptile.Reptile(field, inner_steps=1, inner_lr=0.3)
    task = make_task()
    gradients, _, _ = learner.outer_gradients(task)
    support = tf.nest.map_structure(lambda leaf: leaf[0], task.support)
    _, plain = learner.support_loss.value_and_grad(
        functional.get_params(field), support
    )
    for ours, theirs in zip(gradients, plain):
        np.testing.assert_allclose(
            ours, 0.3 * np.asarray(theirs), rtol=1e-9, atol=1e-15
        )


def test_reptile_refuses_what_it_has_not(make_field, raises_with):
    with raises_with(ValueError, "learn_step_sizes=True"):
        reptile.Reptile(make_field(), learn_step_sizes=True)
    with raises_with(ValueError, "early_loss_weight=0.2"):
        reptile.Reptile(make_field(), early_loss_weight=0.2)
