"""A model as a function of its parameters."""

import keras
import numpy as np
import tensorflow as tf

from tfmetainit.fields import networks
from tfmetainit.meta import functional
from tfmetainit.meta.tasks import mean_squared_error


def _field():
    return networks.SIREN(
        hidden_layers=2, hidden_units=6, w0=5.0, seed=0, dtype="float64"
    )


def _data(seed=0):
    rng = np.random.default_rng(seed)
    return tf.constant(rng.random((11, 2))), tf.constant(rng.random((11, 3)))


def test_bind_calls_the_model_with_other_parameters():
    field, other = (
        _field(),
        networks.SIREN(
            hidden_layers=2, hidden_units=6, w0=5.0, seed=1, dtype="float64"
        ),
    )
    before = [v.numpy() for v in field.trainable_variables]
    coords, _ = _data()
    bound = functional.bind(field, functional.get_params(other))
    np.testing.assert_allclose(bound(coords), other(coords), rtol=1e-12)
    for variable, value in zip(field.trainable_variables, before):
        np.testing.assert_array_equal(variable, value)


def test_bind_keeps_frozen_state():
    field = networks.FourierMLP(hidden_units=4, num_frequencies=4, seed=0)
    coords = tf.cast(_data()[0], tf.float32)
    bound = functional.bind(field, functional.get_params(field))
    np.testing.assert_allclose(bound(coords), field(coords), rtol=1e-6)


def test_gradient_equals_autodiff_and_finite_differences():
    field = _field()
    coords, values = _data()
    params = functional.get_params(field)

    def predict(params):
        return functional.bind(field, params)(coords)

    def loss_of(params):
        return tf.reduce_mean(tf.square(predict(params) - values))

    ((value, gradients),) = functional.values_and_grads(
        predict, params, [lambda p: mean_squared_error(p, values)]
    )
    with tf.GradientTape() as tape:
        tape.watch(params)
        loss = loss_of(params)
    np.testing.assert_allclose(value, loss, rtol=1e-12)
    for ours, theirs in zip(gradients, tape.gradient(loss, params)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-14)
    step = 1e-6
    for index, entry in ((0, (1, 2)), (2, (3, 4)), (3, (0,)), (4, (5, 1))):
        moved = []
        for sign in (1.0, -1.0):
            array = params[index].numpy().copy()
            array[entry] += sign * step
            changed = [*params]
            changed[index] = tf.constant(array)
            moved.append(float(loss_of(changed)))
        numeric = (moved[0] - moved[1]) / (2 * step)
        np.testing.assert_allclose(
            gradients[index][entry], numeric, rtol=1e-6, atol=1e-9
        )


def test_set_params_refuses_other_shapes(raises_with):
    field = _field()
    with raises_with(ValueError, "`params`", [(3,)]):
        functional.set_params(field, [np.zeros(3)])
    params = [np.full(v.shape, 2.0) for v in field.trainable_variables]
    functional.set_params(field, params)
    assert float(keras.ops.sum(field.trainable_variables[1])) == 12.0


def test_mean_and_descend():
    mean = functional.mean([[tf.constant([1.0])], [tf.constant([3.0])]])
    np.testing.assert_array_equal(mean[0], [2.0])
    moved = functional.descend(
        [tf.constant([1.0, 1.0])],
        [tf.constant([1.0, 2.0])],
        [tf.constant([0.5, 0.25])],
    )
    np.testing.assert_array_equal(moved[0], [0.5, 0.5])
