"""Volume rendering against a slow loop, closed forms, TensorFlow Graphics."""

import numpy as np
import pytest
import tensorflow as tf

from tfmetainit.fields import networks
from tfmetainit.forward_models import volume_rendering
from tfmetainit.forward_models.volume_rendering import VolumeRendering
from tfmetainit.geometry import cameras
from tfmetainit.meta import functional
from tfmetainit.meta.tasks import FieldLoss, Observations


def _rays(count=5, samples=7, dtype=np.float32):
    rng = np.random.default_rng(0)
    origins, directions = rng.normal(size=(2, count, 3))
    depths = np.sort(rng.uniform(2.0, 6.0, (count, samples)), axis=1)
    return np.concatenate([origins, directions, depths], axis=1).astype(dtype)


def _fog(points):
    """A field in closed form: colours and densities of points."""
    colors = 0.5 + 0.5 * tf.sin(points * tf.constant([1, 2, 3], points.dtype))
    density = tf.reduce_sum(points**2, axis=-1, keepdims=True) / 9.0
    return tf.concat([colors, density], axis=-1)


@pytest.mark.parametrize("white", [False, True])
def test_volume_rendering_against_a_slow_loop(white):
    rays = _rays(dtype=np.float64)
    rendering = VolumeRendering(white, last_interval=0.5)
    colors, opacity, depth = rendering.integrate(_fog, tf.constant(rays))
    result = rendering(_fog, tf.constant(rays))
    for index, ray in enumerate(rays):
        origin, direction, depths = ray[:3], ray[3:6], ray[6:]
        passed, color, mean_depth = 1.0, np.zeros(3), 0.0
        for k, t in enumerate(depths):
            value = _fog(tf.constant([origin + t * direction]))[0].numpy()
            last = k == len(depths) - 1
            interval = 0.5 if last else depths[k + 1] - t
            stopped = 1.0 - np.exp(-value[3] * interval)
            color += passed * stopped * value[:3]
            mean_depth += passed * stopped * t
            passed *= 1.0 - stopped
        np.testing.assert_allclose(colors[index], color, rtol=1e-12)
        np.testing.assert_allclose(opacity[index, 0], 1 - passed, rtol=1e-9)
        np.testing.assert_allclose(depth[index, 0], mean_depth, rtol=1e-12)
        background = passed if white else 0.0
        np.testing.assert_allclose(result[index], color + background)


def test_rays_with_their_depths():
    even = cameras.stratified_depths(2.0, 6.0, 4)
    rays = volume_rendering.ray_inputs(tf.zeros([2, 3]), tf.ones([2, 3]), even)
    np.testing.assert_allclose(rays[1], [0, 0, 0, 1, 1, 1, 2, 3, 4, 5])
    drawn = tf.constant([[2.0, 3.0], [4.0, 5.0]])
    rays = volume_rendering.ray_inputs(tf.zeros([2, 3]), tf.ones([2, 3]), drawn)
    np.testing.assert_allclose(rays[:, 6:], drawn)


def test_volume_rendering_of_constant_density_in_closed_form():
    """Opacity 1 - exp(-sigma length), the colour in proportion."""
    sigma, samples = 0.7, 64
    color = tf.constant([0.2, 0.5, 0.9])

    def field(points):
        ones = tf.ones([len(points), 1])
        return tf.concat([ones * color, sigma * ones], axis=-1)

    depths = np.linspace(2.0, 6.0, samples + 1, dtype=np.float32)
    ray = np.concatenate([np.zeros(3), [0, 0, -1.0], depths[:-1]])[None]
    rendering = VolumeRendering(True, last_interval=depths[-1] - depths[-2])
    opacity = 1.0 - np.exp(-sigma * 4.0)
    np.testing.assert_allclose(
        rendering(field, tf.constant(ray, tf.float32))[0],
        opacity * color.numpy() + (1.0 - opacity),
        rtol=1e-5,
    )


def test_volume_rendering_against_tensorflow_graphics():
    module = "tensorflow_graphics.rendering.volumetric.ray_radiance"
    ray_radiance = pytest.importorskip(module)
    rays = tf.constant(_rays())
    depths = rays[:, 6:]
    points = rays[:, None, :3] + depths[..., None] * rays[:, None, 3:6]
    values = tf.reshape(_fog(tf.reshape(points, [-1, 3])), [5, 7, 4])
    intervals = tf.concat(
        [depths[:, 1:] - depths[:, :-1], tf.fill([5, 1], 1e10)], axis=-1
    )
    colors, alpha, _ = ray_radiance.compute_radiance(values, intervals)
    rendering = VolumeRendering(False, last_interval=1e10)
    ours, opacity, _ = rendering.integrate(_fog, rays)
    np.testing.assert_allclose(ours, colors, atol=1e-5)
    np.testing.assert_allclose(opacity[:, 0], alpha[..., 0], atol=1e-5)


def test_depths_of_a_wall_and_of_nothing():
    """An opaque wall at z = -3.2, seen along -z, and rays that miss it."""

    def field(points):
        behind = tf.cast(points[:, 2:] < -3.2, tf.float32)
        met = behind * tf.cast(points[:, :1] < 0.5, tf.float32)
        return tf.concat([tf.ones([len(points), 3]), 1e4 * met], axis=-1)

    depths = np.linspace(2.0, 6.0, 41, dtype=np.float32)
    rays = [[x, 0, 0, 0, 0, -1, *depths] for x in (0.0, 1.0)]
    result = VolumeRendering(True).with_depths(field, tf.constant(rays))
    np.testing.assert_allclose(result[:, 3], [3.3, 6.0], rtol=1e-5)
    np.testing.assert_allclose(
        result[:, :3],
        VolumeRendering(True)(field, tf.constant(rays)),
        rtol=1e-6,
    )


def test_many_rays_are_rendered_some_at_a_time(monkeypatch):
    rays = tf.constant(_rays(count=23))
    rendering = VolumeRendering(True)
    whole = rendering(_fog, rays)
    monkeypatch.setattr(volume_rendering, "_MAX_POINTS", 7 * 4 + 3)
    in_parts = tf.function(lambda rays: rendering(_fog, rays))(rays)
    assert in_parts.shape == (23, 3)
    np.testing.assert_allclose(in_parts, whole, rtol=1e-5)


def test_nothing_is_white_and_an_opaque_wall_hides():
    def field(density, color):
        return lambda points: tf.concat(
            [
                tf.ones([len(points), 1]) * color,
                tf.fill([len(points), 1], density),
            ],
            axis=-1,
        )

    rays = tf.constant(_rays())
    empty = VolumeRendering(True)(field(0.0, [[0.1, 0.2, 0.3]]), rays)
    np.testing.assert_allclose(empty, 1.0)
    wall = VolumeRendering(True)(field(1e6, [[0.1, 0.2, 0.3]]), rays)
    np.testing.assert_allclose(wall, [[0.1, 0.2, 0.3]] * 5, rtol=1e-5)


@pytest.mark.parametrize("density", networks.DENSITIES)
def test_nerf_gradient_against_finite_differences(density):
    field = networks.SimplifiedNeRF(
        hidden_layers=2,
        hidden_units=6,
        num_frequencies=2,
        max_exponent=1.0,
        density=density,
        seed=3,
        dtype="float64",
    )
    rng = np.random.default_rng(1)
    # Away from zero: there the ReLU has no derivative.
    params = [
        p + 0.1 * rng.normal(size=p.shape) for p in functional.get_params(field)
    ]
    loss = FieldLoss(field, VolumeRendering(True))
    observed = Observations(
        tf.constant(_rays(dtype=np.float64)), tf.zeros([5, 3], tf.float64)
    )
    value, gradients = loss.value_and_grad(params, observed)
    assert float(tf.linalg.global_norm(gradients)) > 1e-3
    direction = [rng.normal(size=p.shape) for p in params]
    step = 1e-6
    moved = [
        float(
            loss(
                [p + sign * step * d for p, d in zip(params, direction)],
                observed,
            )
        )
        for sign in (1.0, -1.0)
    ]
    numeric = (moved[0] - moved[1]) / (2 * step)
    analytic = sum(np.vdot(g, d) for g, d in zip(gradients, direction))
    np.testing.assert_allclose(analytic, numeric, rtol=1e-6)
    np.testing.assert_allclose(value, np.mean(moved), rtol=1e-6)
