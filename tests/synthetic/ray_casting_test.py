"""The ray caster against points that can be worked out by hand."""

import numpy as np
import pytest

from tfmetainit.synthetic import ray_casting
from tfmetainit.synthetic.ray_casting import cast, solid

_GREY = (0.5, 0.5, 0.5)


def _hits(solids, origins, direction):
    origins = np.asarray(origins, float)
    directions = np.broadcast_to(np.asarray(direction, float), origins.shape)
    return cast(solids, origins, directions)[:, 3]


@pytest.mark.parametrize("shape", ["box", "ellipsoid", "frustum"])
def test_silhouettes(shape):
    """Seen from above: the area of a rectangle, or of an ellipse."""
    item = solid(shape, (0.1, -0.2, 0.0), (0.5, 0.8, 0.3), _GREY)
    axis = (np.arange(400) + 0.5) / 200 - 1.0
    x, y = np.meshgrid(axis, axis)
    origins = np.stack([x.ravel(), y.ravel(), np.full(x.size, 4.0)], axis=1)
    area = 4.0 * np.mean(_hits([item], origins, (0, 0, -1)))
    expected = 4 * 0.5 * 0.8 if shape == "box" else np.pi * 0.5 * 0.8
    np.testing.assert_allclose(area, expected, rtol=0.01)


def test_a_turned_box_lies_where_it_should():
    """A long box turned by 30 degrees about z, then seen along -z."""
    item = solid("box", (0, 0, 0), (1.0, 0.05, 0.1), _GREY, turn=np.pi / 6)
    tip = np.array([np.cos(np.pi / 6), np.sin(np.pi / 6), 0.0])
    origins = [0.95 * tip + [0, 0, 2], 0.95 * tip * [1, -1, 1] + [0, 0, 2]]
    np.testing.assert_array_equal(_hits([item], origins, (0, 0, -1)), [1, 0])


def test_a_cone_narrows():
    cone = solid("frustum", (0, 0, 0), (1, 1, 1), _GREY, top=0.0)
    for z in (-0.9, 0.0, 0.9):
        radius = 0.5 * (1.0 - z)
        origins = [[0.98 * radius, -5, z], [1.02 * radius, -5, z]]
        np.testing.assert_array_equal(_hits([cone], origins, (0, 1, 0)), [1, 0])


def test_the_nearest_solid_is_seen():
    near = solid("box", (0, 0, 1.0), (0.2, 0.2, 0.2), (1.0, 0.0, 0.0))
    far = solid("ellipsoid", (0, 0, 0), (0.9, 0.9, 0.5), (0.0, 0.0, 1.0))
    for solids in ([near, far], [far, near]):
        seen = cast(solids, np.array([[0.0, 0, 5], [0.5, 0, 5]]), _down(2))
        assert seen[0, 0] > 0.3
        assert seen[0, 2] == 0.0
        assert seen[1, 2] > 0.3
        assert seen[1, 0] == 0.0


def _down(count):
    return np.tile([0.0, 0.0, -1.0], [count, 1])


def test_surfaces_that_face_the_light_are_brighter():
    ball = solid("ellipsoid", (0, 0, 0), (1, 1, 1), (1.0, 1.0, 1.0))
    toward = np.asarray(ray_casting.STUDIO.lamps[0][0])
    toward = toward / np.linalg.norm(toward)
    origins = np.array([3 * toward, -3 * toward])
    lit, dark = cast([ball], origins, -origins)[:, 0]
    assert lit > dark
    np.testing.assert_allclose(dark, ray_casting.STUDIO.ambient, atol=0.3)


def test_rays_that_miss_are_empty():
    items = [
        solid(shape, (0, 0, 0), (0.1, 0.1, 0.1), _GREY)
        for shape in ("box", "ellipsoid", "frustum")
    ]
    origins = np.array([[1.0, 1, 5], [0, 0, -5], [0.3, 0, 5]])
    np.testing.assert_array_equal(cast(items, origins, _down(3)), 0.0)
