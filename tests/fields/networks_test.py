"""The networks of the paper: sizes, initial weights, values, files."""

import os

import keras
import numpy as np
import pytest
import skimage.data
import tensorflow as tf

from tfmetainit.fields import networks
from tfmetainit.io import weights
from tfmetainit.meta import maml
from tfmetainit.meta.tasks import Observations, Task
from tfmetainit.signals.base.image_signal import ImageSignal


def _coords(count, dims=2, seed=0):
    return np.random.default_rng(seed).random((count, dims), np.float32)


def test_siren_has_the_papers_size():
    assert networks.SIREN().count_params() == 198_915


def test_siren_initializer_bounds():
    field = networks.SIREN(w0=200.0, seed=3)
    kernels = field.trainable_variables[0::2]
    bounds = [1 / 2] + [np.sqrt(6 / 256) / 200] * 4
    for kernel, bound in zip(kernels, bounds):
        largest = np.abs(kernel.numpy()).max()
        assert 0.97 * bound < largest <= bound
        # Uniform on [-b, b]: standard deviation b / sqrt(3).
        np.testing.assert_allclose(
            kernel.numpy().std(), bound / np.sqrt(3), rtol=0.06
        )
    for bias in field.trainable_variables[1::2]:
        assert not bias.numpy().any()


def test_siren_activations_keep_their_variance():
    field = networks.SIREN(seed=0)
    outputs = tf.constant(_coords(4096))
    for layer in field.stack[:-1]:
        kernel = layer.kernel.numpy()
        before = 200.0 * (outputs.numpy() @ kernel)
        outputs = layer(outputs)
        # The sine of a widely spread phase has variance 1/2, from which the
        # initializer makes pre-activations of variance 1 (the first layer's
        # are spread by design).
        assert 0.4 < outputs.numpy().var() < 0.6
        if layer is not field.stack[0]:
            assert 0.6 < before.std() < 1.6
    assert abs(field(_coords(4096)).numpy().mean() - 0.5) < 0.1


def test_layers_of_one_shape_start_different():
    field = networks.SIREN(seed=0)
    a, b = (field.stack[i].kernel.numpy() for i in (1, 2))
    assert np.abs(a - b).max() > 1e-4


def test_seed_makes_a_field_reproducible():
    values = [
        networks.SIREN(seed=seed)(_coords(9)).numpy() for seed in (5, 5, 6)
    ]
    np.testing.assert_array_equal(values[0], values[1])
    assert np.abs(values[0] - values[2]).max() > 1e-2


def test_fourier_features_are_frozen_and_match_numpy():
    field = networks.FourierMLP(hidden_units=8, num_frequencies=16, seed=0)
    layer = field.stack[0]
    assert not layer.trainable_variables
    assert len(field.trainable_variables) == 10
    coords = _coords(6)
    phases = coords @ layer.frequencies.numpy()
    expected = np.concatenate([np.sin(phases), np.cos(phases)], axis=-1)
    np.testing.assert_allclose(layer(coords), expected, atol=1e-5)
    assert (
        25 < networks.FourierMLP(seed=0).stack[0].frequencies.numpy().std() < 35
    )


def test_simplified_nerf_is_the_papers():
    """120 inputs, five ReLU layers of 256, colours and a density."""
    field = networks.SimplifiedNeRF(density="relu", seed=0)
    kernels = [v.shape for v in field.trainable_variables[::2]]
    assert kernels == [(120, 256)] + [(256, 256)] * 4 + [(256, 4)]
    points = _coords(5, 3)
    phases = points[:, :, None] * 2.0 ** np.linspace(0, 8, 20)
    phases = phases.reshape(5, 60)
    outputs = np.concatenate([np.sin(phases), np.cos(phases)], axis=-1)
    np.testing.assert_allclose(field.stack[0](points), outputs, atol=2e-4)
    params = [v.numpy() for v in field.trainable_variables]
    for kernel, bias in zip(params[0:-2:2], params[1:-2:2]):
        outputs = np.maximum(outputs @ kernel + bias, 0.0)
    raw = outputs @ params[-2] + params[-1]
    values = field(points).numpy()
    np.testing.assert_allclose(
        values[:, :3], 1 / (1 + np.exp(-raw[:, :3])), atol=1e-4
    )
    np.testing.assert_allclose(
        values[:, 3], np.maximum(raw[:, 3], 0.0), atol=1e-3
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: networks.SIREN(hidden_units=16, w0=30.0, value_dims=2),
        lambda: networks.FourierMLP(hidden_units=16, num_frequencies=8),
        lambda: networks.SimplifiedNeRF(hidden_units=16, density_shift=-1.0),
    ],
)
def test_keras_file_round_trip(make, tmp_path):
    field = make()
    path = tmp_path / "field.keras"
    field.save(path)
    loaded = keras.saving.load_model(path)
    assert type(loaded) is type(field)
    assert loaded.get_config() == field.get_config()
    coords = _coords(9, field.coord_dims)
    np.testing.assert_array_equal(field(coords), loaded(coords))


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: networks.SIREN(hidden_units=0), ["hidden_units=0"]),
        (lambda: networks.SIREN(w0=-1.0), ["w0=-1.0"]),
        (lambda: networks.FourierMLP(scale=0.0), ["scale=0.0"]),
        (lambda: networks.SimplifiedNeRF(density="elu"), ["`density`", "elu"]),
        (
            lambda: networks.SimplifiedNeRF(2, 3),
            ["coord_dims=2", "value_dims=3"],
        ),
    ],
)
def test_wrong_arguments_are_named(raises_with, make, named):
    with raises_with(ValueError, *named):
        make()


def test_released_weights_reproduce_the_authors_psnr(reference_dir):
    expected = [11.31, 25.09, 29.58, 31.17, 32.12, 32.80, 33.31, 33.71, 34.02]
    field = networks.SIREN()
    path = os.path.join(reference_dir, "celeba_maml_150k.npz")
    shapes = [v.shape for v in field.trainable_variables]
    params = weights.load_npz(path, shapes)
    image = skimage.data.astronaut()[:178, 130:308].astype(np.float32) / 255.0
    signal = ImageSignal(None, resolution=178)
    task = signal.whole_task(tf.constant(image.reshape(-1, 3)))
    learner = maml.MAML(field, inner_lr=1e-2)
    psnr = [
        -10.0 * np.log10(learner.query_loss(adapted, task.query))
        for adapted in learner.sgd_fit().trajectory(params, task.support, 8)
    ]
    np.testing.assert_allclose(psnr, expected, atol=0.02)


@pytest.mark.parametrize(
    "make", [networks.SIREN, networks.FourierMLP, networks.SimplifiedNeRF]
)
def test_hidden_layers_in_half_precision(make):
    """Weights and values stay float32, and nearly the same."""
    full = make(seed=0)
    half = make(seed=0, hidden_dtype="mixed_bfloat16")
    assert {v.dtype for v in half.weights} == {"float32"}
    coords = np.random.default_rng(0).random((500, full.coord_dims))
    coords = tf.constant(coords, tf.float32)
    expected, found = full(coords), half(coords)
    assert found.dtype == tf.float32
    scale = np.std(expected, axis=0)
    errors = np.std(found - expected, axis=0) / scale
    assert (errors > 1e-6).all()
    assert (errors < 0.05).all()
    again = make.from_config(half.get_config())
    np.testing.assert_array_equal(again(coords), found)


def test_meta_gradient_in_half_precision():
    gradients = []
    rng = np.random.default_rng(0)
    coords = tf.constant(rng.random((256, 2)), tf.float32)
    values = tf.constant(rng.random((256, 3)), tf.float32)
    task = Task(
        Observations(coords[None], values[None]), Observations(coords, values)
    )
    for dtype in (None, "mixed_bfloat16"):
        learner = maml.MAML(networks.SIREN(seed=0, hidden_dtype=dtype))
        found, _, _ = learner.outer_gradients(task)
        gradients.append(np.concatenate([np.ravel(g) for g in found]))
    full, half = gradients
    cosine = full @ half / np.linalg.norm(full) / np.linalg.norm(half)
    assert 0.99 < cosine < 1.0 - 1e-8


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "float16"])
def test_a_field_in_half_precision_throughout_is_refused(raises_with, dtype):
    with raises_with(ValueError, f"dtype={dtype!r}"):
        networks.SIREN(dtype=dtype)
