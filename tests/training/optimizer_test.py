"""The outer rates: over the steps, and of each variable."""

import numpy as np
import tensorflow as tf

from tfmetainit.configs import text
from tfmetainit.fields import networks
from tfmetainit.meta import maml
from tfmetainit.training.optimizer import build_optimizer


def _rates(optimizer, steps):
    """The outer rate at some steps."""
    rates = []
    for step in steps:
        optimizer.iterations.assign(step)
        rates.append(float(optimizer.learning_rate))
    return rates


def test_warm_up_and_decay(small_config):
    config = small_config(
        **{
            "num_steps": 100,
            "optimizer.learning_rate": 1e-2,
            "optimizer.warmup_steps": 10,
            "optimizer.final_fraction": 0.1,
        },
    )
    learner = maml.MAML(networks.SIREN())
    optimizer = build_optimizer(config, learner)
    np.testing.assert_allclose(
        _rates(optimizer, (0, 5, 10, 55, 100, 1000)),
        [0.0, 5e-3, 1e-2, 5.5e-3, 1e-3, 1e-3],
        rtol=1e-5,
        atol=1e-9,
    )
    config.optimizer.warmup_steps = 0
    config.optimizer.final_fraction = 1.0
    optimizer = build_optimizer(config, learner)
    np.testing.assert_allclose(_rates(optimizer, (0, 50, 100)), 1e-2, rtol=1e-5)


def test_every_variable_has_its_outer_rate():
    """The output kernel's and the matrices' are multiples of the others'."""
    config = text.get_config()
    config.optimizer.learning_rate = 1e-3
    config.optimizer.output_gain = 8.0
    config.optimizer.curvature_gain = 3.0
    config.optimizer.warmup_steps = 0
    config.optimizer.clip_norm = 0.0
    learner = maml.MAML(
        networks.SIREN(hidden_layers=3, hidden_units=16, seed=0),
        step_sizes="curvature",
        learn_step_sizes=True,
    )
    optimizer = build_optimizer(config, learner)
    variables = learner.trainable_variables
    optimizer.build(variables)
    start = [v.numpy() for v in variables]
    rng = np.random.default_rng(0)
    optimizer.apply(
        [tf.constant(rng.normal(size=v.shape), tf.float32) for v in variables],
        variables,
    )
    for variable, before in zip(variables, start):
        change = np.abs(variable.numpy() - before)
        rate = 8e-3 if variable.path.endswith("output/kernel") else 1e-3
        if variable.path.startswith(("step_sizes/left", "step_sizes/right")):
            rate = 3e-3
        np.testing.assert_allclose(change, rate, rtol=2e-2)
