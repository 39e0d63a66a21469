"""Forward models against slow loops, closed forms, and scikit-image."""

import numpy as np
import pytest
import skimage.data
import skimage.transform
import tensorflow as tf

from tfmetainit.fields import networks
from tfmetainit.forward_models import identity
from tfmetainit.forward_models.parallel_beam import ParallelBeam
from tfmetainit.forward_models.volume_rendering import VolumeRendering
from tfmetainit.geometry import pixels
from tfmetainit.geometry.parallel_beam import (
    INTERPOLATIONS,
    even_angles,
    slice_coords,
)
from tfmetainit.meta import functional
from tfmetainit.meta.tasks import FieldLoss, Observations
from tfmetainit.signals import ct

_ANGLES = np.float32([0.0, 0.3, 1.0, np.pi / 2, 2.5])


def _project(image, angles, interpolation="bilinear"):
    beam = ParallelBeam(len(image), interpolation)
    flat = tf.constant(np.float32(image.ravel()))
    return beam.project(flat, tf.constant(angles)).numpy()


def _slow_projection(image, angle, interpolation):
    """The module's formula, in loops over pixels, in float64."""
    side = len(image)
    center = (side - 1) / 2.0

    def read(row, column):
        inside = 0 <= row < side and 0 <= column < side
        return float(image[int(row), int(column)]) if inside else 0.0

    sums = np.zeros(side)
    cos, sin = np.cos(angle), np.sin(angle)
    for i in range(side):
        for j in range(side):
            row = center + (i - center) * cos - (j - center) * sin
            column = center + (i - center) * sin + (j - center) * cos
            if interpolation == "nearest":
                sums[j] += read(np.floor(row + 0.5), np.floor(column + 0.5))
                continue
            top, left = np.floor(row), np.floor(column)
            down, right = row - top, column - left
            sums[j] += (
                (1 - down) * (1 - right) * read(top, left)
                + (1 - down) * right * read(top, left + 1)
                + down * (1 - right) * read(top + 1, left)
                + down * right * read(top + 1, left + 1)
            )
    return sums / side


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("side", [8, 9])
def test_projection_against_slow_loops(interpolation, side):
    image = np.random.default_rng(0).random([side, side])
    # Angles at which no sample lies halfway between two pixels.
    angles = np.float32([0.3, 1.1, 2.9])
    sinogram = _project(image, angles, interpolation)
    for values, angle in zip(sinogram, angles):
        expected = _slow_projection(image, float(angle), interpolation)
        np.testing.assert_allclose(values, expected, atol=2e-6)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_conventions(interpolation):
    """Angle 0: means of columns. Angle pi / 2: a quarter turn."""
    image = np.zeros([5, 5])
    image[1, 3] = 1.0
    sinogram = _project(image, np.float32([0.0, np.pi / 2]), interpolation)
    np.testing.assert_allclose(
        sinogram, [[0, 0, 0, 0.2, 0], [0, 0, 0, 0.2, 0]], atol=1e-6
    )
    np.testing.assert_allclose(even_angles(4), np.pi * np.arange(4) / 4)
    coords = slice_coords(4).reshape(4, 4, 2)
    np.testing.assert_allclose(coords[1, 3], [0.75, 0.25])  # column first


def test_bilinear_projection_is_radon_of_scikit_image():
    side = 65
    phantom = skimage.transform.resize(
        skimage.data.shepp_logan_phantom(), (side, side)
    )
    expected = skimage.transform.radon(
        phantom, np.degrees(_ANGLES), circle=True
    )
    sinogram = _project(phantom, _ANGLES)
    np.testing.assert_allclose(sinogram, expected.T / side, atol=1e-5)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_sinogram_of_ellipses_in_closed_form(interpolation):
    """Chords: a disk's, and with it those of ellipses turned and moved."""
    side = 256
    ellipses = np.array(
        [[1.0, 0.5, 0.5, 0.0, 0.0, 0.0], [0.5, 0.2, 0.4, 0.1, -0.2, 30.0]]
    )
    image = ct.render_ellipses(ellipses, side)
    sinogram = _project(image, _ANGLES, interpolation)
    detector = (2.0 * np.arange(side) + 1.0) / side - 1.0
    for values, phi in zip(sinogram, _ANGLES):
        expected = np.zeros(side)
        for density, a, b, x0, y0, degrees in ellipses:
            # The detector's axis in the image, x to the right and y upwards:
            # column j of the turned image lies at s (cos phi, sin phi).
            axis = np.array([np.cos(phi), np.sin(phi)])
            turn = np.radians(degrees)
            half = np.hypot(a * np.cos(phi - turn), b * np.sin(phi - turn))
            distance = (detector - axis @ [x0, y0]) / half
            chord = 2 * a * b / half
            expected += (
                density * chord * np.sqrt(np.maximum(1 - distance**2, 0.0)) / 2
            )
        np.testing.assert_allclose(values, expected, atol=0.012)
        np.testing.assert_allclose(values.mean(), expected.mean(), rtol=0.01)


def _back_project(beam, sinogram, angles):
    """A' y, the gradient of <A x, y>."""
    image = tf.zeros([beam.resolution**2])
    with tf.GradientTape() as tape:
        tape.watch(image)
        projected = beam.project(image, angles)
    return tape.gradient(projected, image, output_gradients=sinogram)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_projection_is_linear_and_has_its_adjoint(interpolation):
    rng = np.random.default_rng(0)
    beam = ParallelBeam(12, interpolation)
    angles = tf.constant(_ANGLES)
    x, z = rng.random((2, 144), np.float32)
    y = rng.random((len(_ANGLES), 12), np.float32)
    both = beam.project(tf.constant(2 * x + z), angles)
    parts = 2 * beam.project(tf.constant(x), angles) + beam.project(
        tf.constant(z), angles
    )
    np.testing.assert_allclose(both, parts, atol=1e-6)
    left = np.vdot(beam.project(tf.constant(x), angles), y)
    right = np.vdot(x, _back_project(beam, tf.constant(y), angles))
    np.testing.assert_allclose(left, right, rtol=1e-5)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_gradients_of_the_projection_are_its_adjoint(interpolation):
    """First and second derivatives of |A x|^2 / 2: A'A x, and A'A v."""
    beam = ParallelBeam(10, interpolation)
    angles = tf.constant(_ANGLES)
    rng = np.random.default_rng(0)
    x, v = map(tf.constant, rng.random((2, 100), np.float32))
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            loss = tf.reduce_sum(beam.project(x, angles) ** 2) / 2
        gradient = inner.gradient(loss, x)
        along = tf.tensordot(gradient, v, 1)
    hessian_v = outer.gradient(along, x)
    for result, vector in ((gradient, x), (hessian_v, v)):
        projected = beam.project(vector, angles)
        expected = _back_project(beam, projected, angles)
        np.testing.assert_allclose(result, expected, atol=1e-5)


def test_the_field_is_projected_as_its_image():
    field = networks.FourierMLP(
        2, 1, hidden_layers=2, hidden_units=8, num_frequencies=4, seed=0
    )
    beam = ParallelBeam(16)
    image = pixels.render(
        lambda coords: field(coords[:, ::-1].copy()).numpy(), 16, 16, 16
    )
    angles = tf.constant(_ANGLES)
    np.testing.assert_allclose(
        beam(field, angles),
        beam.project(tf.constant(image.ravel()), angles),
        atol=1e-6,
    )


def test_parameter_gradient_against_finite_differences():
    field = networks.FourierMLP(
        *(2, 1),
        hidden_layers=1,
        hidden_units=4,
        num_frequencies=3,
        scale=2.0,
        seed=0,
    )
    beam = ParallelBeam(8)
    loss = FieldLoss(field, beam)
    angles = tf.constant(_ANGLES)
    target = tf.zeros([len(_ANGLES), 8])
    params = functional.get_params(field)
    observed = Observations(angles, target)
    _, gradients = loss.value_and_grad(params, observed)
    rng = np.random.default_rng(0)
    direction = [rng.standard_normal(p.shape).astype("f") for p in params]
    expected = sum(np.vdot(g, d) for g, d in zip(gradients, direction))
    step = 1e-2

    def value(sign):
        moved = [p + sign * step * d for p, d in zip(params, direction)]
        return float(loss(moved, observed))

    numeric = (value(1.0) - value(-1.0)) / (2 * step)
    np.testing.assert_allclose(numeric, expected, rtol=2e-2)


def test_unknown_interpolation_is_refused():
    with pytest.raises(ValueError, match="`interpolation` must be one of"):
        ParallelBeam(8, "cubic")


# ---- Volume rendering -------------------------------------------------------


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
    monkeypatch.setattr(identity, "_MAX_POINTS", 7 * 4 + 3)
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
