"""Reads the views of an object with their poses: pictures, NeRF, SRN.

Three layouts of a scene are read:

- NeRF's JSON (Mildenhall et al. 2020; also of instant-ngp and nerfstudio):
  "camera_angle_x" in radians or "fl_x" in pixels, and "frames", each with a
  "file_path" relative to the JSON's folder, with or without suffix, and a
  "transform_matrix", a pose with OpenGL axes;
- a folder with such a transforms.json or transforms_train.json;
- a folder of SRN (Sitzmann et al. 2019): rgb/, pose/ with a text file of 16
  numbers for each picture (OpenCV axes), and intrinsics.txt.

Poses are taken as they are stated. The keys by which tools map them to worlds
of their own ("scale", "offset", "aabb_scale", "applied_transform") are ignored.
"""

import logging
import math
import os
import pathlib
from typing import NamedTuple

import numpy as np

from tfmetainit.geometry import cameras, pixels
from tfmetainit.geometry.cameras import Camera
from tfmetainit.io import files, images
from tfmetainit.io.errors import InputError

_LOGGER = logging.getLogger("tfmetainit")

MAX_VIEWS = 200
_FAR_AWAY = 1e6  # units of length; no camera is further from the origin
_JSON_NAMES = ("transforms.json", "transforms_train.json")
_INTRINSICS = "intrinsics.txt"
# Of a file_path without one, the first that there is.
_SUFFIXES = (".png", ".jpg", ".jpeg", ".PNG", ".JPG", ".JPEG")
_DISTORTIONS = ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2", "is_fisheye")
_MAX_TEXT_BYTES = 4096
# Models of nerfstudio and COLMAP whose distortion, if any, is k1, k2, ...
_PINHOLES = ("PINHOLE", "SIMPLE_PINHOLE", "OPENCV", "SIMPLE_RADIAL", "RADIAL")


class Scene(NamedTuple):
    """The views of an object, before their pictures are read.

    Attributes:
        path: the file or folder that describes them.
        pictures: paths of the pictures, those that there are.
        poses: for each picture its matrix, or the path of the matrix's file.
        lens: for each picture its lens as stated, by the names of nerfstudio:
            camera_angle_x, fl_x, fl_y, cx, cy, w, h, k1, ...
        opengl: whether the poses have OpenGL axes.
    """

    path: pathlib.Path
    pictures: list[pathlib.Path]
    poses: list
    lens: list[dict]
    opengl: bool


def parse_pose(text: str, distance: float = cameras.DISTANCE) -> np.ndarray:
    """A pose from "azimuth,elevation" in degrees, or from a .npy file.

    Args:
        text: the two angles, or the path of a matrix `[3 or 4, 4]` from camera
            to world, with OpenGL axes.
        distance: of the camera from the origin, for angles.

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
    return cameras.orbit(
        math.radians(azimuth), math.radians(elevation), distance
    )


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


def scale_cameras(poses, scale: float, bounds, name) -> np.ndarray:
    """Poses in a world scaled by a factor, if they see the origin in bounds.

    The origin is where the objects of a class are. Cameras of another scale, or
    with other axes, would see nothing of them, and no gradient would say so.

    Args:
        poses: `[v, 4, 4]`, OpenCV axes.
        scale: the factor of all lengths.
        bounds: (near, far), the depths between which a field is sampled.
        name: where the poses come from, for the error message.

    Raises:
        InputError: if the cameras' median depth of the origin is out of bounds.
    """
    poses = np.array(poses, np.float64)
    poses[:, :3, 3] *= scale
    depth = float(np.median(-(poses[:, :3, 2] * poses[:, :3, 3]).sum(axis=1)))
    near, far = map(float, bounds)
    if not near <= depth <= far:
        remedy = (
            f"`camera_scale`={0.5 * scale * (near + far) / depth:.4g} would "
            "move it into the middle"
            if depth > 1e-6
            else "It is behind them, or in them: are the axes those of OpenGL?"
        )
        raise InputError(
            "Cameras must see the origin between the depths `near` and `far`, "
            f"in [{near:g}, {far:g}]. Received: {name}, whose cameras see it "
            f"at a median depth of {depth:.4g}. {remedy}"
        )
    return poses


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


def is_scene(folder: pathlib.Path) -> bool:
    """Whether a folder has one of the layouts of a scene."""
    return _json_of(folder) is not None or (folder / _INTRINSICS).is_file()


def scene_folders(root: pathlib.Path) -> list[pathlib.Path]:
    """The folders below a folder, or itself, that are scenes; sorted."""
    markers = (*_JSON_NAMES, _INTRINSICS)
    return sorted(
        {p.parent for p in files.files_below(root) if p.name in markers}
    )


def open_scene(path) -> Scene:
    """Finds the views of a scene, without reading their pictures.

    Views whose picture is missing are left out, counted and named.

    Args:
        path: a JSON file or a folder, in one of the layouts above.

    Raises:
        InputError: if a file is missing or damaged, or no picture is there.
    """
    path = pathlib.Path(path)
    if not path.is_dir():
        scene = _open_json(path)
    elif json := _json_of(path):
        scene = _open_json(json)
    elif (path / _INTRINSICS).is_file():
        scene = _open_srn(path)
    else:
        raise InputError(
            f"A scene's folder must hold {' or '.join(_JSON_NAMES)}, or "
            f"{_INTRINSICS} with rgb/ and pose/. Received: {path}"
        )
    there = [picture.is_file() for picture in scene.pictures]
    if not all(there):
        missing = scene.pictures[there.index(False)]
        message = (
            f"{there.count(False)} of {len(there)} pictures of {scene.path} "
            f"are missing, such as {missing}"
        )
        if not any(there):
            raise InputError(f"{message}.")
        _LOGGER.warning("%s; they are left out.", message)
    return scene._replace(
        **{
            name: [item for item, keep in zip(items, there) if keep]
            for name, items in scene._asdict().items()
            if isinstance(items, list)
        }
    )


def read_scene(
    scene: Scene, resolution: int, limit: int | None = None
) -> tuple[np.ndarray, Camera]:
    """Reads the views of a scene, cropped to central squares and resized.

    Args:
        scene: as of `open_scene`.
        resolution: side of the results in pixels.
        limit: number of views to read; by default all, at most 200.

    Returns:
        Views `[v, resolution, resolution, 3]` in [0, 1], and their cameras,
        whose pose is `[v, 4, 4]`, with OpenCV axes.

    Raises:
        InputError: if a file is damaged or inconsistent.
    """
    if limit is None and len(scene.pictures) > MAX_VIEWS:
        raise InputError(
            f"A scene may have at most {MAX_VIEWS} views. Received: "
            f"{scene.path} with {len(scene.pictures)}"
        )
    views, poses, shapes = [], [], {}
    for file, pose in list(zip(scene.pictures, scene.poses))[:limit]:
        # The camera describes the pixels as stored, before they are turned.
        image = images.read_image(file, upright=False)
        shapes.setdefault(image.shape[:2], file)
        if len(shapes) > 1:
            (first, one), (second, other) = shapes.items()
            raise InputError(
                "The views of an object must have one size. Received: "
                f"{one} of {first[1]} x {first[0]} and {other} of "
                f"{second[1]} x {second[0]}"
            )
        views.append(pixels.crop_and_resize(image, resolution))
        if isinstance(pose, pathlib.Path):
            pose = _read_numbers(pose, 16).reshape(4, 4)
        poses.append(check_pose(pose, f"the pose of {file}"))
    ((height, width),) = shapes
    angle = _angle(scene, width)
    for stated in scene.lens[:limit]:
        _check_lens(scene.path, stated, height, width, angle)
    poses = np.stack(poses)
    if scene.opengl:
        poses = cameras.swap_opengl(poses)
    camera = cameras.centred(poses, height, width, angle)
    return np.stack(views), camera.of_square(height, width, resolution)


def _json_of(folder):
    found = (folder / name for name in _JSON_NAMES)
    return next((path for path in found if path.is_file()), None)


def _open_json(path):
    """The scene of NeRF's JSON file."""
    content = files.read_json(path)
    try:
        frames = list(content["frames"])
        entries = [(f["file_path"], f["transform_matrix"]) for f in frames]
        common = {k: v for k, v in content.items() if k != "frames"}
        lens = [{**common, **frame} for frame in frames]
        if not all(
            {"camera_angle_x", "fl_x"} & of_frame.keys() for of_frame in lens
        ):
            raise KeyError("camera_angle_x")
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            "A transforms.json must have camera_angle_x or fl_x, and frames, "
            "each with file_path and transform_matrix. Received: "
            f"{path} ({error!r})"
        ) from error
    if not frames:
        raise InputError(
            f"A transforms.json must have frames. Received: {path} with none"
        )
    pictures = [_inside(path, name) for name, _ in entries]
    return Scene(path, pictures, [pose for _, pose in entries], lens, True)


def _open_srn(folder):
    """The scene of a folder in the layout of SRN."""
    path = folder / _INTRINSICS
    try:
        lines = _read_text(path).strip().splitlines()
        focal, column, row = map(float, lines[0].split()[:3])
        height, width = map(float, lines[-1].split())
    except (IndexError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            "An intrinsics.txt must have the focal length and the principal "
            "point (column, row) in its first line, and height and width in "
            f"its last. Received: {path}"
        ) from error
    lens = {"fl_x": focal, "cx": column, "cy": row, "w": width, "h": height}
    poses = sorted((folder / "pose").glob("*.txt"))
    pictures = [
        _with_suffix(folder / "rgb" / pose.stem, _SUFFIXES) for pose in poses
    ]
    if not poses:
        raise InputError(f"There is no pose in {folder / 'pose'}.")
    return Scene(folder, pictures, poses, [lens] * len(poses), False)


def _read_text(path):
    files.check_size(path, _MAX_TEXT_BYTES)
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as text.") from error


def _read_numbers(path, count):
    try:
        numbers = np.array([float(word) for word in _read_text(path).split()])
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        numbers = np.zeros(0)
    if len(numbers) != count:
        raise InputError(f"{path} must hold {count} numbers.")
    return numbers


def _angle(scene, width):
    """The horizontal field of view in radians that a scene states."""
    stated = scene.lens[0]
    try:
        if "camera_angle_x" in stated:
            angle = float(stated["camera_angle_x"])
        else:
            focal = float(stated["fl_x"])
            angle = 2.0 * math.atan(0.5 * float(stated.get("w", width)) / focal)
    except (TypeError, ValueError, OverflowError, ZeroDivisionError):
        angle = math.nan
    if not 0.0 < angle < math.pi:
        shown = stated.get("camera_angle_x", stated.get("fl_x"))
        raise InputError(
            "A scene must have a camera_angle_x in (0, pi) or a positive "
            f"fl_x. Received: {scene.path} with {str(shown)[:80]}"
        )
    return angle


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
            **dict.fromkeys(_DISTORTIONS, (0.0, 0.0)),
            "h": (scale * height, little),
            **dict.fromkeys(("fl_x", "fl_y"), (focal, little)),
            "camera_angle_x": (angle, angle / 100),
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
    model = stated.get("camera_model")
    if model not in (None, *_PINHOLES):
        wrong["camera_model"] = model
    if wrong:
        raise InputError(
            "The cameras of a scene must have no lens distortion, one focal "
            "length, and the principal point in the centre. Received: "
            f"{path} with {wrong}"
        )


def _inside(path, name):
    """The file of a frame, which must lie below the folder of `path`.

    The folder may hold links to other places.

    Raises:
        InputError: if it lies elsewhere, or its name cannot be one.
    """
    name = str(name).replace("\\", "/")
    file = pathlib.Path(os.path.normpath(path.parent / name.replace("\0", "")))
    root = pathlib.Path(os.path.normpath(path.parent))
    inside = file != root and file.is_relative_to(root)
    if "\0" in name or not inside or ".." in file.parts[len(root.parts) :]:
        raise InputError(
            f"A frame's file_path must lie below the folder of {path}. "
            f"Received: {name[:80]!r}"
        )
    try:
        return file if file.is_file() else _with_suffix(file, _SUFFIXES)
    except OSError as error:  # a name that is too long
        raise InputError(
            f"A frame's file_path in {path} cannot be a file's name: "
            f"{error.strerror}. Received: {name[:80]!r}"
        ) from error


def _with_suffix(path, suffixes):
    """The path with the first suffix of which there is a file.

    With none of them, the path itself if it has a suffix, or else the first.
    """
    named = [path.with_name(f"{path.name}{suffix}") for suffix in suffixes]
    there = [file for file in named if file.is_file()]
    return (there or ([path] if path.suffix else named))[0]
