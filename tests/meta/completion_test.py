import numpy as np
import pytest
import tensorflow as tf

from tfmetainit.meta import completion, functional, output_layer
from tfmetainit.meta.completion import Prior
from tfmetainit.meta.tasks import FieldLoss, Observations


def _matrix(field, inputs):
    """The last hidden activations, and a column of ones."""
    features = field.features(inputs).numpy()
    return np.concatenate([features, np.ones((len(features), 1))], axis=1)


def _prior(channels=3, width=5, components=4, seed=0):
    rng = np.random.default_rng(seed)
    return Prior(
        tf.constant(rng.normal(size=(width + 1, channels))),
        tf.constant(rng.normal(size=(width + 1, components))),
        tf.constant(0.1, tf.float64),
        0.1,
    )


def _completed(field, prior, observed, solve=output_layer.cholesky):
    loss, params = FieldLoss(field), functional.get_params(field)
    count = tf.constant([[float(len(observed.inputs))]], tf.float64)
    equations = loss.normal_equations(params, observed)
    return completion.complete(params, prior, equations, count, solve)


@pytest.mark.parametrize("count", [1, 3, 40])
def test_the_prediction_is_the_conditional_mean(make_field, count):
    """Against the mean of one part of a Gaussian vector given another."""
    field, prior = make_field(), _prior()
    rng = np.random.default_rng(1)
    inputs, missing = rng.random((count, 2)), rng.random((7, 2))
    values = rng.random((count, 3))
    params = _completed(
        field, prior, Observations(tf.constant(inputs), tf.constant(values))
    )
    predicted = FieldLoss(field).predict(params, missing).numpy()

    # A mixture of the channels, which must not matter.
    mixed = rng.normal(size=(3, 3))
    mixed = mixed @ mixed.T

    def moments(points):
        """The mean of values at points, and D with D D' the covariance."""
        activations = _matrix(field, points)
        mean = field(points).numpy() + activations @ prior.mean.numpy()
        return mean, activations @ prior.components.numpy()

    (seen_mean, seen), (mean, unseen) = moments(inputs), moments(missing)
    noisy = seen @ seen.T + 0.1 * np.eye(count)
    gain = np.kron(unseen @ seen.T, mixed) @ np.linalg.inv(
        np.kron(noisy, mixed)
    )
    expected = mean + (gain @ (values - seen_mean).ravel()).reshape(7, 3)
    np.testing.assert_allclose(predicted, expected, rtol=1e-6, atol=1e-8)


def test_newton_gives_what_cholesky_gives(make_field):
    field, prior = make_field(), _prior()
    rng = np.random.default_rng(1)
    observed = Observations(
        tf.constant(rng.random((20, 2))), tf.constant(rng.random((20, 3)))
    )
    ours, theirs = (
        _completed(field, prior, observed, solve)[-2]
        for solve in (output_layer.newton, output_layer.cholesky)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-8)


def test_signals_of_few_degrees_of_freedom_are_completed(make_field):
    """From twenty signals of two components, and five pixels of another."""
    field = make_field()
    rng = np.random.default_rng(2)
    inputs = rng.random((60, 2))
    activations = _matrix(field, inputs)
    mean, components = rng.normal(size=(6, 3)), rng.normal(size=(6, 2))
    mixed = rng.normal(size=(3, 3))

    def signal():
        change = mean + components @ rng.normal(size=(2, 3)) @ mixed
        return field(inputs).numpy() + activations @ change

    supports = [
        Observations(tf.constant(inputs), tf.constant(signal()))
        for _ in range(20)
    ]
    prior = completion.measure(FieldLoss(field), supports, 8, 0.1)
    assert prior.components.shape == (6, 6)
    values = signal()
    params = _completed(
        field,
        prior,
        Observations(tf.constant(inputs[:5]), tf.constant(values[:5])),
    )
    predicted = FieldLoss(field).predict(params, inputs)
    np.testing.assert_allclose(predicted, values, atol=0.02 * np.ptp(values))


def test_a_prior_of_grey_pictures_is_finite(make_field, make_task):
    supports = []
    for seed in range(3):
        inputs, values = (leaf[0] for leaf in make_task(seed).support)
        supports.append(Observations(inputs, tf.repeat(values[:, :1], 3, 1)))
    prior = completion.measure(FieldLoss(make_field()), supports, 4, 0.1)
    assert prior.components.shape == (6, 4)
    assert all(np.isfinite(leaf).all() for leaf in prior[:3])
    assert prior.noise > 0


def test_only_directly_observed_linear_outputs_have_a_prior(
    make_field, observed_field
):
    field, model, _, _ = observed_field
    assert not completion.has_prior(field, model)
    assert completion.has_prior(
        make_field(), FieldLoss(make_field()).forward_model
    )
