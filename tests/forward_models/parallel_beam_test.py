"""Projections against slow loops, closed forms, and scikit-image."""

import numpy as np
import pytest
import skimage.data
import skimage.transform
import tensorflow as tf

from tfmetainit.fields import networks
from tfmetainit.forward_models.parallel_beam import ParallelBeam
from tfmetainit.geometry import pixels
from tfmetainit.geometry.parallel_beam import (
    INTERPOLATIONS,
    even_angles,
    slice_coords,
)
from tfmetainit.meta import functional
from tfmetainit.meta.tasks import FieldLoss, Observations
from tfmetainit.synthetic import phantoms

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
    image = phantoms.render_ellipses(ellipses, side)
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


def test_unknown_interpolation_is_refused(raises_with):
    with raises_with(ValueError, "`interpolation`", "cubic"):
        ParallelBeam(8, "cubic")
