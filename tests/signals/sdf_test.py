"""Signed distances: of each shape, and of shapes combined."""

import pathlib

import numpy as np
import tensorflow_datasets as tfds

from tfmetainit.signals import sdf
from tfmetainit.signals.base.generated import GeneratedConfig


class _GeneratedCase(tfds.testing.DatasetBuilderTestCase):
    SPLITS = {"validation": 6}
    BUILDER_CONFIG_NAMES_TO_TEST = [GeneratedConfig(16, "validation", 6)]
    SKIP_CHECKSUMS = True
    EXAMPLE_DIR = str(pathlib.Path(__file__).parent)  # nothing is read
    __test__ = False

    def test_tags_are_valid(self):
        self.skipTest("only data sets inside TFDS have tags")


class SdfShapesTest(_GeneratedCase):
    DATASET_CLASS = sdf.SdfShapes
    __test__ = True


def _grid(resolution=41):
    axis = np.linspace(-1.0, 1.0, resolution)
    return np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1)


def test_box_and_polygon_agree():
    """The same rectangle as a box and as four vertices, exact either way."""
    center, half, angle = np.array([0.1, -0.2]), np.array([0.5, 0.3]), 0.7
    axes = np.array(
        [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
    )
    corners = [(1, 1), (1, -1), (-1, -1), (-1, 1)]
    vertices = np.array([center + (half * c) @ axes for c in corners])
    np.testing.assert_allclose(
        sdf.box(_grid(), center, half, angle),
        sdf.polygon(_grid(), vertices),
        atol=1e-12,
    )
    np.testing.assert_allclose(
        sdf.polygon(_grid(), vertices[::-1]),
        sdf.polygon(_grid(), vertices),
        atol=1e-12,
    )


def test_box_distance_against_sampled_boundary():
    t = np.linspace(-1.0, 1.0, 4001)
    half = np.array([0.5, 0.3])
    boundary = np.concatenate(
        [np.stack([s * np.ones_like(t), t], -1) for s in (-1, 1)]
        + [np.stack([t, s * np.ones_like(t)], -1) for s in (-1, 1)]
    )
    points = _grid(15)
    gaps = points[..., None, :] - boundary * half
    nearest = np.linalg.norm(gaps, axis=-1).min(axis=-1)
    distance = sdf.box(points, np.zeros(2), half, 0.0)
    np.testing.assert_allclose(np.abs(distance), nearest, atol=1e-3)
    inside = np.all(np.abs(points) < half, axis=-1)
    np.testing.assert_array_equal(distance < -1e-9, inside)


def test_circle_distance():
    points = np.array([[0.0, 0.0], [3.0, 4.0]])
    np.testing.assert_allclose(
        sdf.circle(points, np.zeros(2), 2.0), [-2.0, 3.0]
    )


def test_combined_distances_never_overestimate():
    """A signed distance bound changes by at most the distance moved."""
    for seed in range(20):
        distance = sdf.signed_distance(np.random.default_rng(seed), 32)
        for axis in (0, 1):
            slope = np.abs(np.diff(distance, axis=axis)) * 32
            assert slope.max() <= 1.0 + 1e-9
