"""Pinhole cameras: poses, conventions, and the rays of their pixels.

A pose is a matrix from camera to world coordinates, `[3 or 4, 4]`. Two
conventions of the camera's axes are in use:

- "opengl" (Blender, NeRF's transforms.json, ShapeNet): x to the right, y up,
  and the camera looks along -z;
- "opencv" (COLMAP, Phototourism): x to the right, y down, and the camera looks
  along +z.

Pixel (row, column) of an image is the point (column, row) of its plane, without
an offset of half a pixel (Mildenhall et al. 2020 and Tancik et al. 2021). Its
ray's direction has the length 1 along the camera's axis: depths are distances
from the camera's plane, and not normalized.

Needs tensorflow-graphics (`pip install tfmetainit[views]`).
"""

import importlib

import numpy as np
import tensorflow as tf

from tfmetainit.errors import InputError

CONVENTIONS = ("opengl", "opencv")
# From a camera that looks along +z, y down, to one of the convention.
_FLIPS = {"opengl": (1.0, -1.0, -1.0), "opencv": (1.0, 1.0, 1.0)}


def perspective():
    """The module `rendering.camera.perspective` of tensorflow-graphics.

    Raises:
        InputError: if it is not installed.
    """
    try:
        return importlib.import_module(
            "tensorflow_graphics.rendering.camera.perspective"
        )
    except ImportError as error:
        raise InputError(
            "Views of objects and landmarks need tensorflow-graphics, which "
            "can be installed on Python 3.10 and 3.11 only: pip install "
            f"tfmetainit[views]. Received: {error}"
        ) from error


@tf.autograph.experimental.do_not_convert
def pixel_rays(
    pixels, pose, focal, principal_point, convention: str = "opengl"
) -> tuple[tf.Tensor, tf.Tensor]:
    """The rays of some pixels of a camera.

    Args:
        pixels: `[n, 2]`, (row, column).
        pose: from camera to world, `[3 or 4, 4]` for all pixels, or `[n, 3 or
            4, 4]` for each its own.
        focal: focal lengths in pixels, `[2]`, (x, y), or one number.
        principal_point: `[2]`, (column, row), where the axis meets the image.
        convention: of the pose, one of `CONVENTIONS`.

    Returns:
        Origins and directions in the world, float32 `[n, 3]` each.

    Raises:
        InputError: if tensorflow-graphics is not installed.
        ValueError: if the convention is unknown.
    """
    if convention not in CONVENTIONS:
        raise ValueError(
            f"`convention` must be one of {CONVENTIONS}. Received: "
            f"convention={convention!r}"
        )
    points = tf.reverse(tf.cast(pixels, tf.float32), axis=[-1])
    focal = tf.broadcast_to(tf.cast(focal, tf.float32), [2])
    directions = perspective().ray(
        points,
        tf.broadcast_to(focal, tf.shape(points)),
        tf.broadcast_to(tf.cast(principal_point, tf.float32), tf.shape(points)),
    )
    pose = tf.cast(pose, tf.float32)
    flip = tf.constant(_FLIPS[convention])
    directions = tf.linalg.matvec(pose[..., :3, :3], directions * flip)
    origins = tf.broadcast_to(pose[..., :3, 3], tf.shape(directions))
    return origins, directions


def pixel_grid(height: int, width: int) -> np.ndarray:
    """All pixels (row, column) of an image, row by row, int32 `[h * w, 2]`."""
    grid = np.mgrid[:height, :width].reshape(2, -1)
    return np.ascontiguousarray(grid.T.astype(np.int32))


def depths(
    count: int, near: float, far: float, shape=(), seed=None
) -> tf.Tensor:
    """Depths of samples along rays, one in each of `count` equal intervals.

    Args:
        count: number of samples S of a ray.
        near: where the first interval begins.
        far: where the last one ends.
        shape: of the rays.
        seed: `[2]` integers, for a uniformly random depth in each interval
            (stratified sampling); None for each one's beginning.

    Returns:
        float32 `[*shape, S]`, rising.
    """
    starts = tf.linspace(tf.cast(near, tf.float32), far, count + 1)[:-1]
    within = (
        tf.zeros([*shape, count])
        if seed is None
        else tf.random.stateless_uniform([*shape, count], seed)
    )
    return starts + within * ((far - near) / count)


def ray_inputs(origins, directions, depths) -> tf.Tensor:
    """Rays as `forward_models.VolumeRendering` takes them, `[n, 6 + S]`."""
    depths = tf.broadcast_to(depths, [tf.shape(origins)[0], depths.shape[-1]])
    return tf.concat([origins, directions, depths], axis=-1)
