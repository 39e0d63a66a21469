"""Layers and activations against NumPy, and their derivatives."""

import numpy as np
import tensorflow as tf

from tfmetainit.fields import layers, networks


def _coords(count, dims=2, seed=0):
    return np.random.default_rng(seed).random((count, dims), np.float32)


def test_sine_dense_is_sin_of_w0_times_affine():
    layer = layers.SineDense(7, w0=30.0)
    coords = _coords(5, 3)
    values = layer(coords)
    kernel, bias = (v.numpy() for v in layer.trainable_variables)
    np.testing.assert_allclose(
        values, np.sin(30.0 * (coords @ kernel + bias)), atol=1e-5
    )


def test_units_must_be_positive(raises_with):
    with raises_with(ValueError, "`units`", "units=0"):
        layers.SineDense(0)


def test_softplus():
    x = np.float64([-800.0, -20.0, -8.0, -4.61, -4.6, -3.0, 0.0, 3.0, 800.0])
    exact = np.logaddexp(0.0, x)
    np.testing.assert_allclose(layers.softplus(x), exact, rtol=1e-8)
    # Also of single precision, where 1 + exp(-20) is 1.
    np.testing.assert_allclose(
        layers.softplus(np.float32(x)), exact, rtol=1e-5, atol=1e-38
    )
    dense = networks.SimplifiedNeRF(seed=0)(_coords(50, 3))[:, 3]
    thin = networks.SimplifiedNeRF(density_shift=-5.0, seed=0)(_coords(50, 3))
    assert 0.0 < np.max(thin[:, 3]) < 0.1 < np.min(dense)


def test_softplus_has_the_derivatives_of_tensorflow():
    """At 0 as well, first and second."""
    x = tf.constant([-50.0, -1.0, 0.0, 1e-3, 2.0, 50.0], tf.float64)
    found = []
    for function in (layers.softplus, tf.nn.softplus):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                y = function(x)
            first = inner.gradient(y, x)
        found.append((y, first, outer.gradient(first, x)))
    for ours, theirs in zip(*found):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_sine_has_all_its_derivatives():
    x = tf.constant([-300.0, -1.0, 0.0, 0.5, 1e3], tf.float64)

    def derivative(function):
        def differentiated(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = function(x)
            return tape.gradient(y, x)

        return differentiated

    function = layers.sine
    for order in range(5):
        expected = np.sin(x + order * np.pi / 2)
        for call in (function, tf.function(function)):
            np.testing.assert_allclose(call(x), expected, atol=1e-12)
        function = derivative(function)
