"""Rays and poses against hand-computed ones, a slow loop, other libraries."""

import numpy as np
import pytest
import tensorflow as tf

from tfmetainit.geometry import cameras
from tfmetainit.geometry.cameras import Camera


def _image_rays(height, width, pose, focal):
    """Of all pixels of a camera whose axis meets the image's middle."""
    camera = Camera(pose, (focal, focal), (0.5 * width, 0.5 * height))
    return cameras.pixel_rays(cameras.pixel_grid(height, width), camera)


def _random_camera(rng):
    """Any pose, and a lens whose two axes differ."""
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    pose = np.concatenate([rotation, rng.normal(size=(3, 1))], axis=1)
    return Camera(pose, np.array([40.0, 50.0]), np.array([31.0, 22.0]))


def test_opengl_rays_by_hand():
    """A camera at the origin, as Blender's: it looks along -z, y up."""
    pose = cameras.swap_opengl(np.eye(4))
    origins, directions = _image_rays(4, 6, pose, focal=2.0)
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
        np.array([[0, 0], [10, 5]]), Camera(pose, (5.0, 20.0), (5.0, 10.0))
    )
    np.testing.assert_allclose(origins, [[1, 2, 3]] * 2)
    np.testing.assert_allclose(directions, [[-1.0, -0.5, 1.0], [0, 0, 1.0]])


def test_opencv_rays_are_kinv_times_the_pixel():
    """The authors' formula: c2w[:3, :3] @ (kinv @ [i, j, 1])."""
    camera = _random_camera(np.random.default_rng(0))
    k = np.array([[40.0, 0, 31.0], [0, 50.0, 22.0], [0, 0, 1]])
    row, column = 7, 19
    _, directions = cameras.pixel_rays(np.array([[row, column]]), camera)
    expected = camera.pose[:, :3] @ (np.linalg.inv(k) @ [column, row, 1])
    np.testing.assert_allclose(directions[0], expected, rtol=1e-5)


def test_rays_against_a_slow_loop():
    rng = np.random.default_rng(1)
    camera = _random_camera(rng)
    pixels = rng.uniform(0.0, 60.0, (11, 2))  # between pixels, too
    origins, directions = cameras.pixel_rays(pixels, camera)
    assert origins.shape == directions.shape == (11, 3)
    for (row, column), origin, direction in zip(pixels, origins, directions):
        in_camera = [(column - 31.0) / 40.0, (row - 22.0) / 50.0, 1.0]
        for axis in range(3):
            expected = sum(
                camera.pose[axis, i] * in_camera[i] for i in range(3)
            )
            np.testing.assert_allclose(direction[axis], expected, rtol=1e-12)
            assert origin[axis] == camera.pose[axis, 3]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("in_graph", [False, True])
def test_tensorflow_has_the_rays_of_numpy(dtype, in_graph):
    rng = np.random.default_rng(2)
    camera = Camera(*(a.astype(dtype) for a in _random_camera(rng)))
    pixels = rng.uniform(0.0, 60.0, (11, 2)).astype(dtype)
    expected = cameras.pixel_rays(pixels, camera)
    call = tf.function(cameras.pixel_rays) if in_graph else cameras.pixel_rays
    found = call(tf.constant(pixels), Camera(*map(tf.constant, camera)))
    for ours, theirs in zip(found, expected):
        assert ours.dtype == dtype
        assert theirs.dtype == dtype
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


@pytest.mark.parametrize("convert", [np.asarray, tf.constant])
def test_each_pixel_may_have_a_pose_of_its_own(convert):
    rng = np.random.default_rng(3)
    some = [_random_camera(rng) for _ in range(5)]
    pixels = np.float64(cameras.pixel_grid(1, 5))
    poses = convert(np.stack([camera.pose for camera in some]))
    together = cameras.pixel_rays(convert(pixels), some[0]._replace(pose=poses))
    for index, camera in enumerate(some):
        alone = cameras.pixel_rays(pixels[index], camera)
        for found, expected in zip(together, alone):
            np.testing.assert_allclose(found[index], expected, rtol=1e-12)


def test_rays_of_tensorflow_graphics():
    perspective = pytest.importorskip(
        "tensorflow_graphics.rendering.camera.perspective"
    )
    rng = np.random.default_rng(4)
    camera = _random_camera(rng)
    pixels = rng.uniform(0.0, 60.0, (11, 2))
    # It has (x, y), and the camera's own axes: x right, y down, z forwards.
    in_camera = perspective.ray(
        tf.constant(pixels[:, ::-1].copy()),
        tf.constant(camera.focal[None]),
        tf.constant(camera.principal_point[None]),
    )
    expected = np.asarray(in_camera) @ camera.pose[:, :3].T
    for convert in (np.asarray, tf.constant):
        _, found = cameras.pixel_rays(
            convert(pixels), Camera(*map(convert, camera))
        )
        np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_both_conventions_see_the_same():
    """A pose and the one with its y and z axes turned around."""
    pose = cameras.look_at([1.0, -2.0, 0.5])
    turned = pose @ np.diag([1.0, -1.0, -1.0, 1.0])
    for of_opengl in (turned, turned[:3], tf.constant(turned)):
        swapped = cameras.swap_opengl(of_opengl)
        np.testing.assert_allclose(swapped, pose[: len(of_opengl)], atol=1e-12)
        again = cameras.swap_opengl(swapped)
        np.testing.assert_array_equal(again, of_opengl)


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


def test_orbit():
    """From the x axis, 90 degrees further to y; and up."""
    np.testing.assert_allclose(
        cameras.orbit(np.pi / 2, 0.0)[:3, 3], [0, 4, 0], atol=1e-12
    )
    np.testing.assert_allclose(
        cameras.orbit(0.0, np.pi / 6)[:3, 3], [4 * np.cos(np.pi / 6), 0, 2]
    )


def test_a_projected_point_lies_on_its_ray():
    pose = cameras.look_at([3.0, 1.0, 2.0])
    focal = cameras.focal_length(64, 0.8)
    point = np.array([0.2, -0.3, 0.1])
    in_camera = np.linalg.inv(pose) @ [*point, 1.0]
    column = 32 + focal * in_camera[0] / in_camera[2]
    row = 32 + focal * in_camera[1] / in_camera[2]
    origins, directions = cameras.pixel_rays(
        np.float32([[row, column]]), cameras.centred(pose, 64, 64, 0.8)
    )
    along = origins[0] + in_camera[2] * directions[0]
    np.testing.assert_allclose(along, point, atol=1e-5)


def test_focal_length():
    """90 degrees: half the width at unit distance."""
    np.testing.assert_allclose(cameras.focal_length(100, np.pi / 2), 50.0)


def test_the_axis_of_a_centred_camera():
    """It meets the picture in its middle; the width spans the angle."""
    pose = cameras.orbit(0.7, 0.4)
    camera = cameras.centred(pose, 5, 6, 0.9)
    assert camera.pose is pose
    np.testing.assert_array_equal(camera.focal, cameras.focal_length(6, 0.9))
    np.testing.assert_array_equal(camera.principal_point, [3.0, 2.5])
    _, directions = cameras.pixel_rays(np.array([2.5, 3.0]), camera)
    np.testing.assert_allclose(directions, pose[:3, 2], atol=1e-12)


def test_the_camera_of_a_square_that_was_cut_out_and_resized():
    """A point keeps its ray: where is it in the large picture, and now?"""
    height, width, resolution = 90, 160, 30
    camera = cameras.centred(cameras.orbit(0.4, 0.3), height, width, 0.9)
    _, large = cameras.pixel_rays(cameras.pixel_grid(height, width), camera)
    _, small = cameras.pixel_rays(
        cameras.pixel_grid(resolution, resolution),
        camera.of_square(height, width, resolution),
    )
    large = large.reshape(height, width, 3)
    small = small.reshape(resolution, resolution, 3)
    # Of three by three pixels, the ray through the one in the middle stays.
    np.testing.assert_allclose(small, large[1::3, 36:-34:3], atol=1e-6)


def test_the_camera_of_a_square():
    """A point keeps its place in the picture, cropped and resized."""
    focal, middle = np.array([50.0, 60.0]), np.array([15.0, 9.0])
    square = Camera(np.eye(4), focal, middle).of_square(20, 32, 10)
    direction = np.array([0.05, -0.03])
    full = middle + focal * direction  # (column, row)
    # Cut 6 columns from the left; two pixels become one.
    expected = (full - [6, 0] + 0.5) / 2 - 0.5
    np.testing.assert_allclose(
        square.principal_point + square.focal * direction, expected
    )


@pytest.mark.parametrize("convert", [np.asarray, tf.constant])
def test_depths(convert):
    even = cameras.stratified_depths(2.0, 6.0, 4)
    np.testing.assert_allclose(even, [2.0, 3.0, 4.0, 5.0])
    within = np.random.default_rng(0).random((1000, 4), np.float32)
    drawn = cameras.stratified_depths(2.0, 6.0, 4, convert(within))
    assert drawn.dtype == "float32"
    offset = np.asarray(drawn) - even
    assert np.all((offset >= 0.0) & (offset < 1.0))
    np.testing.assert_allclose(offset, within, atol=1e-6)
    wide = cameras.stratified_depths(2.0, 10.0, 4, convert(within))
    np.testing.assert_allclose(
        wide, 2.0 + 2.0 * (np.arange(4) + within), rtol=1e-6
    )
