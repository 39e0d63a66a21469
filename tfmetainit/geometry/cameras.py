"""Pinhole cameras: the record `Camera`, and `pixel_rays` from pixels to rays.

A pose is a matrix from camera to world coordinates, `[3 or 4, 4]`. Within this
package the camera's axes are those of OpenCV: x to the right, y down, and the
camera looks along +z (COLMAP, Phototourism). `swap_opengl` converts poses of
Blender, NeRF's transforms.json and ShapeNet, where y is up and the camera looks
along -z.

Pixel (row, column) is the point (column, row) of the image plane, without an
offset of half a pixel (Mildenhall et al. 2020, Tancik et al. 2021). A ray's
direction has length 1 along the camera's axis, so depths are distances from the
camera's plane.

`Camera`, `swap_opengl`, `pixel_rays` and `stratified_depths` take NumPy arrays
and TensorFlow tensors alike: training pipelines and devices share them.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from tfmetainit.geometry.pixels import central_square

# Distance of the cameras of the paper's ShapeNet renderings from the origin.
DISTANCE = 4.0


class Camera(NamedTuple):
    """A pinhole camera, or several cameras with the same intrinsics.

    Attributes:
        pose: from camera to world, OpenCV axes, `[..., 3 or 4, 4]`.
        focal: focal lengths in pixels, `[2]`, (x, y).
        principal_point: where the optical axis meets the image, `[2]`,
            (column, row) in pixels.
    """

    pose: Any
    focal: Any
    principal_point: Any

    def of_square(self, height: int, width: int, resolution: int) -> "Camera":
        """The camera of a picture's central square, resized.

        Args:
            height: rows of the picture.
            width: columns of the picture.
            resolution: side of the resized square, in pixels.
        """
        top, left, side = central_square(height, width)
        scale = side / resolution
        # Pixels are squares: the outer corner of the first is (-0.5, -0.5).
        point = np.asarray(self.principal_point) + 0.5 - [left, top]
        return self._replace(
            focal=np.asarray(self.focal) / scale,
            principal_point=point / scale - 0.5,
        )


def centred(pose, height: int, width: int, angle: float) -> Camera:
    """A camera whose principal point is (width / 2, height / 2).

    Args:
        pose: `[..., 3 or 4, 4]`.
        height: rows of the picture.
        width: columns of the picture.
        angle: horizontal field of view in radians, in (0, pi).
    """
    focal = focal_length(width, angle)
    return Camera(
        pose, np.array([focal, focal]), np.array([0.5 * width, 0.5 * height])
    )


def swap_opengl(pose):
    """Converts a pose from OpenGL axes to OpenCV axes, or the reverse.

    Args:
        pose: `[..., 3 or 4, 4]`.
    """
    return pose * np.float32([1.0, -1.0, -1.0, 1.0])


def pixel_rays(pixels, camera: Camera):
    """The rays through some pixels.

    Args:
        pixels: floats `[..., 2]`, (row, column); they need not be integers.
        camera: its pose may have the leading axes of `pixels`.

    Returns:
        Origins and directions in the world, `[..., 3]` each.
    """
    x = (pixels[..., 1:] - camera.principal_point[0]) / camera.focal[0]
    y = (pixels[..., :1] - camera.principal_point[1]) / camera.focal[1]
    right, down, forward, origin = (camera.pose[..., :3, i] for i in range(4))
    directions = x * right + y * down + forward
    return origin + 0.0 * directions, directions


def pixel_grid(height: int, width: int) -> np.ndarray:
    """All pixels (row, column) of an image, row by row, float32 `[n, 2]`."""
    grid = np.mgrid[:height, :width].reshape(2, -1)
    return np.ascontiguousarray(grid.T, np.float32)


def stratified_depths(near, far, count: int, within=0.0):
    """Depths of samples along rays, one in each of `count` equal intervals.

    Args:
        near: where the first interval begins.
        far: where the last interval ends.
        count: number of samples S.
        within: position of each sample in its interval, in [0, 1), `[..., S]`:
            random numbers for stratified sampling, or 0 for its near end.

    Returns:
        `[..., S]`, increasing.
    """
    step = (far - near) / count
    return near + step * (within + np.arange(count, dtype=np.float32))


def focal_length(width: int, angle: float) -> float:
    """Focal length, in pixels, of an image with a given field of view.

    Args:
        width: columns of the image.
        angle: horizontal field of view in radians, in (0, pi):
            `camera_angle_x` of transforms.json.
    """
    return 0.5 * width / math.tan(0.5 * angle)


def look_at(position, target=(0.0, 0.0, 0.0), up=(0.0, 0.0, 1.0)) -> np.ndarray:
    """The pose `[4, 4]` of a camera at `position` that looks at `target`."""
    position = np.asarray(position, np.float64)
    back = position - np.asarray(target)
    back /= np.linalg.norm(back)
    right = np.cross(up, back)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    up = np.cross(back, right)
    pose[:3] = np.stack([right, -up, -back, position], axis=1)
    return pose


def orbit(
    azimuth: float, elevation: float, distance: float = DISTANCE
) -> np.ndarray:
    """The pose `[4, 4]` of a camera that looks at the origin.

    Args:
        azimuth: in radians, about the z axis, from x to y.
        elevation: in radians above the xy plane, in (-pi / 2, pi / 2).
        distance: of the camera from the origin.
    """
    return look_at(
        distance
        * np.array(
            [
                math.cos(elevation) * math.cos(azimuth),
                math.cos(elevation) * math.sin(azimuth),
                math.sin(elevation),
            ]
        )
    )
