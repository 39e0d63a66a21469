import types
import weakref

import numpy as np
import tensorflow as tf

from tfmetainit.evaluation import baselines, comparison
from tfmetainit.fields import networks
from tfmetainit.meta import functional, inner_loop
from tfmetainit.meta.tasks import FieldLoss, Observations, Task


def _field(seed=0):
    return networks.SIREN(hidden_layers=2, hidden_units=8, w0=10.0, seed=seed)


def test_standard_draws_fresh_weights():
    field = _field()
    same = baselines.standard(field, seed=0)
    other = baselines.standard(field, seed=1)
    for ours, again in zip(functional.get_params(field), same):
        np.testing.assert_array_equal(ours, again)
    assert np.any(np.asarray(other[0]) != np.asarray(same[0]))


def test_shuffled_permutes_within_each_tensor():
    params = functional.get_params(_field())
    shuffled = baselines.shuffled(params, seed=0)
    for before, after in zip(params, shuffled):
        np.testing.assert_array_equal(
            np.sort(before, None), np.sort(after, None)
        )
    assert np.any(np.asarray(params[2]) != np.asarray(shuffled[2]))


def test_adam_approaches_its_signal_and_starts_afresh():
    field = _field()
    loss = FieldLoss(field)
    coords = np.random.default_rng(0).random((64, 2), np.float32)
    target = np.stack([coords[:, 0], coords[:, 1], coords.sum(1)], -1) / 2
    support = Observations(tf.constant(coords[None]), tf.constant(target[None]))
    query = Observations(tf.constant(coords), tf.constant(target))
    start = functional.get_params(field)
    kept = [np.array(p) for p in start]
    fit = baselines.AdamFit(loss, 1e-2)
    results = [
        inner_loop.last(of.trajectory(start, support, 150))
        for of in (fit, fit.with_rate(1e-5), fit)
    ]
    slow = results.pop(1)
    assert float(loss(slow, query)) > 0.5 * float(loss(start, query))
    assert float(loss(results[0], query)) < 0.05 * float(loss(start, query))
    for a, b in zip(*results):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    for variable, value in zip(field.trainable_variables, kept):
        np.testing.assert_array_equal(variable, value)


def test_weights_on_the_way_are_not_kept():
    class Fit:
        """Counts the weights that are alive."""

        most = 0

        def trajectory(self, params, support, num_steps):
            alive = weakref.WeakSet()
            for _ in range(num_steps):
                weights = Weights()
                alive.add(weights)
                yield weights
                self.most = max(self.most, len(alive))

    class Weights:
        pass

    fit = Fit()
    method = types.SimpleNamespace(params=None, fit=fit)
    comparison.Comparison.adapted(None, method, Task(None, None), 50)
    assert fit.most <= 3


def test_adam_takes_the_textbook_first_step():
    """Adam's first step is the rate times the sign of the gradient."""
    field = _field()
    loss = FieldLoss(field)
    coords = tf.constant(np.random.default_rng(0).random((32, 2), np.float32))
    support = Observations(coords[None], tf.zeros((1, 32, 3)))
    start = functional.get_params(field)
    _, gradients = loss.value_and_grad(
        start, Observations(coords, tf.zeros((32, 3)))
    )
    fit = baselines.AdamFit(loss, 1e-3)
    _, after = fit.trajectory(start, support, 1)
    for p, q, g in zip(start, after, gradients):
        large = np.abs(g) > 1e-3
        np.testing.assert_allclose(
            (np.asarray(p) - np.asarray(q))[large],
            1e-3 * np.sign(np.asarray(g)[large]),
            rtol=2e-3,
        )


def test_the_mean_signal_is_scored_on_each_signal():
    """0.1 and 0.2 away: 20 dB, and 10 log10(25) dB."""
    mean = tf.fill([5, 3], 0.5)
    tasks = [
        Task(None, Observations(None, mean + distance))
        for distance in (0.1, -0.2)
    ]
    floor = baselines.Baselines({}, mean).mean_floor(tasks)
    np.testing.assert_allclose(floor, (20 + 10 * np.log10(25)) / 2, rtol=1e-6)
