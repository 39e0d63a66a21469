"""Reads pictures of an object with their poses, or NeRF's transforms.json."""

import math
import pathlib

import numpy as np

from tfmetainit.geometry import cameras, pixels
from tfmetainit.geometry.cameras import Camera
from tfmetainit.io import files, images
from tfmetainit.io.errors import InputError

MAX_VIEWS = 200
_FAR_AWAY = 1e6  # units of length; no camera is further from the origin


def parse_pose(text: str) -> np.ndarray:
    """A pose from "azimuth,elevation" in degrees, or from a .npy file.

    Args:
        text: the two angles, or the path of a matrix `[3 or 4, 4]` from camera
            to world, with OpenGL axes.

    Returns:
        `[4, 4]`, with OpenCV axes (`geometry.cameras`).

    Raises:
        InputError: if `text` is neither, or the matrix is not a rotation and a
            translation.
    """
    if text.lower().endswith(".npy"):
        pose = check_pose(files.read_array(text), text)
        return cameras.swap_opengl(pose)
    try:
        azimuth, elevation = (float(part) for part in text.split(","))
    except ValueError:
        azimuth, elevation = math.nan, math.nan
    if not (abs(azimuth) <= 360.0 and abs(elevation) < 90.0):
        raise InputError(
            "`pose` must be azimuth,elevation in degrees, in [-360, 360] and "
            "(-90, 90), for example 30,20, or a .npy file of a 4 x 4 matrix "
            f"from camera to world. Received: {text[:100]!r}"
        )
    return cameras.orbit(math.radians(azimuth), math.radians(elevation))


def check_pose(pose, name) -> np.ndarray:
    """Checks a pose of any axes, and returns it as float64 `[4, 4]`.

    Args:
        pose: `[3 or 4, 4]`.
        name: where the pose comes from, for the error message.

    Raises:
        InputError: unless the pose is a rotation and a translation, of finite
            numbers.
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
            "A pose must be a matrix of 3 or 4 rows and 4 columns: a rotation, "
            "the translation as last column, and 0 0 0 1 as fourth row. "
            f"Received: {name}, which is no such matrix"
        )
    return pose


def read_picture(
    path, poses: np.ndarray, angle: float, resolution: int
) -> tuple[np.ndarray, Camera]:
    """Reads a picture on white, cropped to its central square and resized.

    Args:
        path: the picture.
        poses: pose of its camera, `[1, 4, 4]`.
        angle: field of view of the square in radians.
        resolution: side of the result in pixels.

    Returns:
        float32 `[resolution, resolution, 3]` in [0, 1], and its camera.
    """
    image = images.read_image(path)
    side = min(image.shape[:2])
    camera = cameras.centred(poses, side, side, angle)
    return (
        pixels.crop_and_resize(image, resolution),
        camera.of_square(side, side, resolution),
    )


def read_transforms(
    path, resolution: int, limit: int | None = None
) -> tuple[np.ndarray, Camera]:
    """Reads views from NeRF's Blender layout.

    The JSON file has "camera_angle_x" (radians) and "frames", each with a
    "file_path" relative to the file's folder, with or without .png, and a
    "transform_matrix": a pose with OpenGL axes.

    Args:
        path: the transforms.json.
        resolution: side in pixels to which views are cropped and resized.
        limit: number of frames to read; by default all, at most 200.

    Returns:
        Views `[v, resolution, resolution, 3]` in [0, 1], and their cameras,
        whose pose is `[v, 4, 4]`, with OpenCV axes.

    Raises:
        InputError: if a file is missing, damaged, or inconsistent.
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
            f"file_path and transform_matrix. Received: {path} ({error!r})"
        ) from error
    if not 0.0 < angle < math.pi or not entries:
        raise InputError(
            "A transforms.json must have a camera_angle_x in (0, pi) and at "
            f"least one frame. Received: {path} with {angle} and "
            f"{len(entries)} frames"
        )
    if limit is None and len(entries) > MAX_VIEWS:
        raise InputError(
            f"A transforms.json may have at most {MAX_VIEWS} frames. Received: "
            f"{path} with {len(entries)}"
        )
    views, poses, shapes = [], [], {}
    for name, pose in entries:
        file = _inside(path, name)
        image = images.read_image(file)
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
    camera = cameras.centred(
        cameras.swap_opengl(np.stack(poses)), height, width, angle
    )
    return np.stack(views), camera.of_square(height, width, resolution)


def _check_lens(path, stated, height, width, angle):
    """Raises InputError unless the stated intrinsics are those assumed here.

    Files of tools other than Blender state the lens distortion and all
    intrinsics, in pixels of a picture of w x h pixels.
    """
    try:
        scale = float(stated.get("w", width)) / width
        focal = scale * cameras.focal_length(width, angle)
        little = scale * width / 100
        # By name: the value, and the tolerance.
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
            "The cameras of a transforms.json must have no lens distortion, "
            "the focal length that camera_angle_x gives, and the principal "
            f"point in the centre. Received: {path} with {wrong}"
        )


def _inside(path, name):
    """The file of a frame, which must lie below the folder of `path`."""
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
