"""Rays and poses against hand-computed ones."""

import numpy as np
import pytest
import tensorflow as tf

from tfmetainit.geometry import cameras
from tfmetainit.io.errors import InputError

pytest.importorskip("tensorflow_graphics")


def _image_rays(height, width, pose, focal, convention="opengl"):
    """Of all pixels of a camera whose axis meets the image's middle."""
    return cameras.pixel_rays(
        cameras.pixel_grid(height, width),
        pose,
        focal,
        (0.5 * width, 0.5 * height),
        convention,
    )


def test_opengl_rays_by_hand():
    """A camera at the origin, as Blender's: it looks along -z, y up."""
    origins, directions = _image_rays(4, 6, np.eye(4), focal=2.0)
    origins, directions = np.reshape([origins, directions], [2, 4, 6, 3])
    np.testing.assert_array_equal(origins, 0.0)
    np.testing.assert_allclose(directions[2, 3], [0, 0, -1])  # the middle
    np.testing.assert_allclose(directions[0, 0], [-1.5, 1.0, -1.0])  # top left
    np.testing.assert_allclose(directions[3, 5], [1.0, -0.5, -1.0])


def test_opencv_rays_by_hand():
    """A camera at (1, 2, 3), as COLMAP's: it looks along +z, y down."""
    pose = np.eye(4)
    pose[:3, 3] = [1, 2, 3]
    origins, directions = cameras.pixel_rays(
        [[0, 0], [10, 5]],
        pose,
        focal=(5.0, 20.0),
        principal_point=(5.0, 10.0),
        convention="opencv",
    )
    np.testing.assert_allclose(origins, [[1, 2, 3]] * 2)
    np.testing.assert_allclose(directions, [[-1.0, -0.5, 1.0], [0, 0, 1.0]])


def test_opencv_rays_are_kinv_times_the_pixel():
    """The authors' formula: c2w[:3, :3] @ (kinv @ [i, j, 1])."""
    rng = np.random.default_rng(0)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    pose = np.concatenate([rotation, rng.normal(size=(3, 1))], axis=1)
    k = np.array([[40.0, 0, 31.0], [0, 50.0, 22.0], [0, 0, 1]])
    row, column = 7, 19
    _, directions = cameras.pixel_rays(
        [[row, column]], pose, (40.0, 50.0), (31.0, 22.0), "opencv"
    )
    expected = rotation @ (np.linalg.inv(k) @ [column, row, 1])
    np.testing.assert_allclose(directions[0], expected, rtol=1e-5)


def test_both_conventions_see_the_same():
    """A pose and the one with its y and z axes turned around."""
    pose = cameras.look_at([1.0, -2.0, 0.5])
    turned = pose @ np.diag([1.0, -1.0, -1.0, 1.0])
    a = _image_rays(5, 7, pose, 3.0, "opengl")
    b = _image_rays(5, 7, turned, 3.0, "opencv")
    for ours, theirs in zip(a, b):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_look_at_looks_there():
    position = np.array([2.0, 1.0, 3.0])
    pose = cameras.look_at(position, target=[0.5, 0.0, 0.0])
    np.testing.assert_allclose(
        pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-12
    )
    np.testing.assert_allclose(np.linalg.det(pose), 1.0)
    _, directions = _image_rays(8, 8, pose, 4.0)
    middle = np.reshape(directions, [8, 8, 3])[4, 4]
    toward = np.array([0.5, 0.0, 0.0]) - position
    np.testing.assert_allclose(
        middle, toward / np.linalg.norm(toward), atol=1e-6
    )
    # Up is up: a pixel further up has a ray that points higher.
    up = np.reshape(directions, [8, 8, 3])[1, 4]
    assert up[2] > middle[2]


def test_a_projected_point_lies_on_its_ray():
    pose = cameras.look_at([3.0, 1.0, 2.0])
    focal = cameras.focal_length(64, 0.8)
    point = np.array([0.2, -0.3, 0.1])
    in_camera = np.linalg.inv(pose) @ [*point, 1.0]
    column = 32 + focal * in_camera[0] / -in_camera[2]
    row = 32 - focal * in_camera[1] / -in_camera[2]
    origins, directions = cameras.pixel_rays(
        np.float32([[row, column]]), pose, focal, (32.0, 32.0)
    )
    along = origins[0] + -in_camera[2] * directions[0]
    np.testing.assert_allclose(along, point, atol=1e-5)


def test_focal_length():
    """90 degrees: half the width at unit distance."""
    np.testing.assert_allclose(cameras.focal_length(100, np.pi / 2), 50.0)


def test_depths():
    even = cameras.depths(4, 2.0, 6.0)
    np.testing.assert_allclose(even, [2.0, 3.0, 4.0, 5.0])
    drawn = cameras.depths(4, 2.0, 6.0, shape=(1000,), seed=(0, 1)).numpy()
    within = drawn - even.numpy()
    assert np.all((within >= 0.0) & (within < 1.0))
    np.testing.assert_allclose(within.mean(), 0.5, atol=0.02)
    rays = cameras.ray_inputs(tf.zeros([2, 3]), tf.ones([2, 3]), even)
    np.testing.assert_allclose(rays[1], [0, 0, 0, 1, 1, 1, 2, 3, 4, 5])


def test_without_tensorflow_graphics(monkeypatch):
    def missing(name):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(cameras.importlib, "import_module", missing)
    with pytest.raises(InputError, match="on Python 3.10 and 3.11 only"):
        _image_rays(2, 2, np.eye(4), 1.0)


def test_unknown_convention():
    with pytest.raises(ValueError, match="`convention` must be one of"):
        _image_rays(2, 2, np.eye(4), 1.0, "directx")
