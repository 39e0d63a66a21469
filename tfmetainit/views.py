"""Views of objects in NumPy: poses, rays, and files with pictures and poses.

What a device needs to fit an object with an exported artifact. It imports
neither TensorFlow nor Keras; `tfmetainit.cameras` states the conventions, and
makes the same rays in training's pipelines (tests/views_test.py).
"""

import math
import pathlib
from typing import NamedTuple

import numpy as np

from tfmetainit import files, image_files, pixels
from tfmetainit.errors import InputError

MAX_VIEWS = 200
_FAR_AWAY = 1e6  # of a camera, in units of length
# Of the paper's ShapeNet renderings: distance of the cameras from the origin.
DISTANCE = 4.0


def look_at(position, target=(0.0, 0.0, 0.0), up=(0.0, 0.0, 1.0)) -> np.ndarray:
    """The "opengl" pose at `position` that looks at `target`, `[4, 4]`."""
    position = np.asarray(position, np.float64)
    back = position - np.asarray(target)
    back /= np.linalg.norm(back)
    right = np.cross(up, back)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3] = np.stack([right, np.cross(back, right), back, position], axis=1)
    return pose


def orbit(azimuth: float, elevation: float) -> np.ndarray:
    """The "opengl" pose that sees the origin from two angles, `[4, 4]`.

    Args:
        azimuth: in radians, about the z axis, from x to y.
        elevation: in radians, in (-pi / 2, pi / 2), above the xy plane.
    """
    return look_at(
        DISTANCE
        * np.array(
            [
                math.cos(elevation) * math.cos(azimuth),
                math.cos(elevation) * math.sin(azimuth),
                math.sin(elevation),
            ]
        )
    )


def focal_length(width: int, angle: float) -> float:
    """Focal length in pixels of an image `width` wide that spans `angle`.

    The angle is in radians, in (0, pi): `camera_angle_x` of transforms.json.
    """
    return 0.5 * width / math.tan(0.5 * angle)


class Square(NamedTuple):
    """The camera of a picture that was cropped to its central square.

    Attributes:
        focal: in pixels of the resized square.
        principal_point: (column, row) in the same.
    """

    focal: float
    principal_point: tuple[float, float]


def square_camera(
    height: int, width: int, angle: float, resolution: int
) -> Square:
    """The camera of a picture's central square, resized.

    Args:
        height: rows of the picture,
        width: its columns; its axis is at (width / 2, height / 2).
        angle: in radians, that the whole width spans.
        resolution: side of the resized square.
    """
    side = min(height, width)
    scale = side / resolution
    # Pixels are squares, and number k has its centre at k: so has the first
    # its outer edge at -0.5, whatever the size.
    middle = [
        (0.5 * size + 0.5 - (size - side) // 2) / scale - 0.5
        for size in (width, height)
    ]
    return Square(focal_length(width, angle) / scale, tuple(middle))


def camera_rays(
    height: int, width: int, pose, focal: float, principal_point=None
) -> np.ndarray:
    """Origins and directions of all pixels of an "opengl" camera.

    Args:
        height: rows of the picture.
        width: its columns.
        pose: `[3 or 4, 4]`, from camera to world.
        focal: focal length in pixels.
        principal_point: (column, row); by default half the width and height.

    Returns:
        float32 `[height * width, 6]`, row by row.
    """
    column, row = principal_point or (0.5 * width, 0.5 * height)
    rows, columns = np.mgrid[:height, :width].reshape(2, -1)
    directions = np.stack(
        [
            (columns - column) / focal,
            -(rows - row) / focal,
            -np.ones(height * width),
        ],
        axis=-1,
    )
    directions = directions @ np.asarray(pose)[:3, :3].T
    origins = np.broadcast_to(np.asarray(pose)[:3, 3], directions.shape)
    return np.concatenate([origins, directions], axis=-1).astype(np.float32)


def parse_pose(text: str) -> np.ndarray:
    """A pose `[4, 4]` from "azimuth,elevation" in degrees, or a .npy file.

    Raises:
        InputError: if it is neither, or no rotation and translation.
    """
    if text.lower().endswith(".npy"):
        return check_pose(files.read_array(text), text)
    try:
        azimuth, elevation = (float(part) for part in text.split(","))
    except ValueError:
        azimuth, elevation = math.nan, math.nan
    if not (abs(azimuth) <= 360.0 and abs(elevation) < 90.0):
        raise InputError(
            "--pose must be azimuth,elevation in degrees, in [-360, 360] and "
            "(-90, 90), for example 30,20, or a .npy file of a 4 x 4 matrix "
            f"from camera to world. Received: {text[:100]!r}"
        )
    return orbit(math.radians(azimuth), math.radians(elevation))


def check_pose(pose, name) -> np.ndarray:
    """The pose as an array `[4, 4]`.

    Raises:
        InputError: unless it is a rotation and a translation, of finite
            numbers; `name` says whose it is.
    """
    try:
        pose = np.array(pose, np.float64)
    except (TypeError, ValueError, OverflowError):
        pose = np.zeros([0])
    if pose.shape == (3, 4):
        pose = np.concatenate([pose, [[0.0, 0.0, 0.0, 1.0]]])
    if (
        pose.shape != (4, 4)
        or not np.isfinite(pose).all()
        or not np.allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-2)
        or np.linalg.det(pose[:3, :3]) < 0.0
        or np.abs(pose[:3, 3]).max() > _FAR_AWAY
        or not np.allclose(pose[3], [0.0, 0.0, 0.0, 1.0], atol=1e-3)
    ):
        raise InputError(
            "A pose must be a matrix of 3 or 4 rows and 4 columns, a rotation "
            "and a translation (its last column, and 0 0 0 1 the last row). "
            f"Received: {name}, which is not one"
        )
    return pose


def read_picture(
    path, angle: float, resolution: int
) -> tuple[np.ndarray, Square]:
    """Reads a picture on white, cropped to its central square and resized.

    Args:
        path: of the picture.
        angle: in radians, that the square spans.
        resolution: of the result.

    Returns:
        float32 `[resolution, resolution, 3]`, and its camera.
    """
    image = image_files.read_image(path)
    side = min(image.shape[:2])
    camera = square_camera(side, side, angle, resolution)
    return pixels.crop_and_resize(image, resolution), camera


def read_transforms(path, resolution: int, limit: int | None = None):
    """Reads views from NeRF's Blender layout.

    A JSON file with "camera_angle_x" (radians) and "frames", each with a
    "file_path" relative to the file's folder, with or without .png, and a
    "transform_matrix", an "opengl" pose.

    Args:
        path: of transforms.json.
        resolution: of the views, which are cropped and resized to it.
        limit: number of frames that are read; by default all, which may be
            200 at most.

    Returns:
        Views `[v, resolution, resolution, 3]`, poses `[v, 4, 4]`, and their
        `Square`.

    Raises:
        InputError: naming the file that is missing, damaged, or contradicts.
    """
    path = pathlib.Path(path)
    content = files.read_json(path)
    try:
        angle = float(content["camera_angle_x"])
        frames = list(content["frames"])[:limit]
        entries = [(f["file_path"], f["transform_matrix"]) for f in frames]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(
            "A transforms.json must have camera_angle_x and frames, each with "
            f"file_path and transform_matrix. Received: {path}, which has not "
            f"({error!r})"
        ) from error
    if not 0.0 < angle < math.pi or not entries:
        raise InputError(
            "A transforms.json must have a camera_angle_x in (0, pi) and at "
            f"least one frame. Received: {path} with {angle} and "
            f"{len(entries)} frames"
        )
    if limit is None and len(entries) > MAX_VIEWS:
        raise InputError(
            f"A transforms.json may have {MAX_VIEWS} frames at most. Received: "
            f"{path} with {len(entries)}"
        )
    views, poses, shapes = [], [], {}
    for name, pose in entries:
        file = _inside(path, name)
        image = image_files.read_image(file)
        shapes.setdefault(image.shape[:2], file)
        if len(shapes) > 1:
            (first, one), (second, other) = shapes.items()
            raise InputError(
                "The views of an object must have one size. Received: "
                f"{one} of {first[1]} x {first[0]} and {other} of "
                f"{second[1]} x {second[0]}"
            )
        views.append(pixels.crop_and_resize(image, resolution))
        poses.append(check_pose(pose, f"the transform_matrix of {file}"))
    ((height, width),) = shapes
    for frame in frames:
        _check_lens(path, {**content, **frame}, height, width, angle)
    camera = square_camera(height, width, angle, resolution)
    return np.stack(views), np.stack(poses), camera


def _check_lens(path, stated, height, width, angle):
    """Raises InputError unless what is stated of a camera is what it is here.

    Files of other tools than Blender have the lens's distortion and all of
    the intrinsics, in pixels of pictures of w x h.
    """
    try:
        scale = float(stated.get("w", width)) / width
        focal = scale * focal_length(width, angle)
        little = scale * width / 100
        # By name the value and how far from it is no matter.
        expected = {
            **dict.fromkeys(("k1", "k2", "k3", "k4", "p1", "p2"), (0.0, 0.0)),
            **dict.fromkeys(("fl_x", "fl_y"), (focal, little)),
            "cx": (scale * width / 2, little),
            "cy": (scale * height / 2, little),
        }
        wrong = {
            name: stated[name]
            for name, (value, room) in expected.items()
            if name in stated and not abs(float(stated[name]) - value) <= room
        }
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"The camera of {path} must be stated in numbers. Received: {error}"
        ) from error
    if wrong:
        raise InputError(
            "A transforms.json must be of cameras without distortion, of the "
            "focal length that camera_angle_x gives, whose axis meets the "
            f"picture's middle. Received: {path} with {wrong}"
        )


def _inside(path, name):
    """The file of a frame; it may not lead out of the folder."""
    root = path.parent.resolve()
    name = str(name)
    file = root / name.replace("\0", "")
    with_suffix = file.with_name(f"{file.name}.png")
    if not file.suffix or (with_suffix.is_file() and not file.is_file()):
        file = with_suffix
    if "\0" in name or not file.resolve().is_relative_to(root):
        raise InputError(
            f"A frame's file_path must lie below the folder of {path}. "
            f"Received: {name!r}"
        )
    return file
