"""Photographs of one place and their cameras, from files.

Two layouts are read, both made by structure from motion with COLMAP: the
matrices of the paper's authors (`bds.npy`, `c2w_mats.npy`, `kinv_mats.npy`),
and COLMAP's own sparse models, text and binary. Their poses are in the
"opencv" convention of `tfmetainit.cameras`.

COLMAP's files are read here, and not by pycolmap, because that one (4.2.1)
takes the counts in a truncated or hostile file at their word and does not come
back. Nothing here is allocated that the file itself does not hold.

Imports neither TensorFlow nor Keras.
"""

import math
import pathlib
import struct
from typing import NamedTuple

import numpy as np

from tfmetainit import files
from tfmetainit.errors import InputError
from tfmetainit.views import check_pose

MAX_MODEL_BYTES = 2**31
SUFFIXES = (".jpg", ".jpeg", ".png")
# Shares of a photograph's points that lie before its bounds' ends; between
# them is the scene, beyond them are wrongly matched points.
_PERCENTILES = (0.1, 99.9)
# The authors' margins around the bounds (Tancik et al. 2021, notebook).
_MARGINS = (0.9, 1.2)
# Parameters of COLMAP's camera models by their number in binary files. Only
# the first two have no lens distortion.
_MODELS = {
    0: ("SIMPLE_PINHOLE", 3),
    1: ("PINHOLE", 4),
    2: ("SIMPLE_RADIAL", 4),
    3: ("RADIAL", 5),
    4: ("OPENCV", 8),
    5: ("OPENCV_FISHEYE", 8),
    6: ("FULL_OPENCV", 12),
    7: ("FOV", 5),
    8: ("SIMPLE_RADIAL_FISHEYE", 4),
    9: ("RADIAL_FISHEYE", 5),
    10: ("THIN_PRISM_FISHEYE", 12),
}
_MATRICES = ("bds.npy", "c2w_mats.npy", "kinv_mats.npy")


class Camera(NamedTuple):
    """What is known of how a photograph was taken.

    Attributes:
        pose: from camera to world, "opencv", `[4, 4]`.
        focal: focal lengths in pixels, (x, y).
        principal_point: (column, row) in pixels, where the middle of the
            first pixel is (0, 0).
        bounds: depths between which the scene lies.
        size: height and width in pixels that these hold for; None if the
            layout does not state it.
    """

    pose: np.ndarray
    focal: np.ndarray
    principal_point: np.ndarray
    bounds: np.ndarray
    size: tuple[int, int] | None

    def of_square(self, height: int, width: int, resolution: int) -> "Camera":
        """The camera of the central square, resized to `resolution`."""
        side = min(height, width)
        scale = side / resolution
        corner = np.array([(width - side) // 2, (height - side) // 2])
        return self._replace(
            focal=self.focal / scale,
            # Pixels are squares: the corner of the first is at -0.5.
            principal_point=(self.principal_point + 0.5 - corner) / scale - 0.5,
            size=(resolution, resolution),
        )


def read_collection(folder, scale: float) -> dict[pathlib.Path, Camera]:
    """The photographs below a folder and their cameras, in alphabetic order.

    Args:
        folder: with either the three matrices in it, or a sparse model of
            COLMAP in it, in sparse/, sparse/0/ or dense/sparse/; and pictures
            in images/, in dense/images/, or in itself.
        scale: what lengths are multiplied by: coordinates are to be about 1.

    Raises:
        InputError: naming the file that is missing, damaged, or contradicts.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}.")
    if (folder / _MATRICES[0]).exists():
        cameras = _read_matrices(folder)
    else:
        cameras = _read_sparse(folder)
    return {
        path: camera._replace(
            pose=np.concatenate(
                [
                    np.concatenate(
                        [camera.pose[:3, :3], scale * camera.pose[:3, 3:]],
                        axis=1,
                    ),
                    camera.pose[3:],
                ]
            ),
            bounds=scale * camera.bounds * _MARGINS,
        )
        for path, camera in sorted(cameras.items())
    }


def _pictures(folder):
    """Paths of the pictures of a collection, in alphabetic order."""
    places = [folder / "images", folder / "dense" / "images", folder]
    for place in places:
        if place.is_dir():
            found = sorted(
                path
                for path in place.iterdir()
                if path.suffix.lower() in SUFFIXES
            )
            if found:
                return place, found
    raise InputError(
        f"There is no picture ({', '.join(SUFFIXES)}) in "
        f"{', '.join(map(str, places))}."
    )


def _read_matrices(folder):
    """The authors' layout; their res_mats.npy holds nothing that is needed."""
    bounds, poses, inverses = (
        files.read_array(folder / name) for name in _MATRICES
    )
    _, paths = _pictures(folder)
    count = len(paths)
    for name, array, shapes in zip(
        _MATRICES,
        (bounds, poses, inverses),
        ([(2,)], [(3, 4), (4, 4)], [(3, 3)]),
    ):
        if array.shape[1:] not in shapes or len(array) != count:
            raise InputError(
                f"{folder / name} must hold an array "
                f"{' or '.join(str([count, *s]) for s in shapes)} for "
                f"{count} pictures. Received: {list(array.shape)}"
            )
    cameras = {}
    for index, path in enumerate(paths):
        where = f"number {index} of {folder / _MATRICES[2]}"
        focal, principal = _from_inverse(inverses[index], where)
        where = f"number {index} of {folder / _MATRICES[0]}"
        cameras[path] = Camera(
            check_pose(
                poses[index], f"number {index} of {folder / _MATRICES[1]}"
            ),
            focal,
            principal,
            _check_bounds(np.array(bounds[index], np.float64), where),
            None,
        )
    return cameras


def _from_inverse(inverse, where):
    """Focal lengths and principal point of an inverse intrinsic matrix."""
    try:
        matrix = np.linalg.inv(np.array(inverse, np.float64))
    except np.linalg.LinAlgError:
        matrix = np.full([3, 3], math.nan)
    expected = np.diag([matrix[0, 0], matrix[1, 1], 1.0])
    expected[:2, 2] = matrix[:2, 2]
    if not (
        np.allclose(matrix, expected, atol=1e-3)
        and matrix[0, 0] > 0.0
        and matrix[1, 1] > 0.0
    ):
        raise InputError(
            "An inverse intrinsic matrix must be that of a pinhole camera "
            f"with positive focal lengths. Received: {where}, which is not"
        )
    return np.diag(matrix)[:2].copy(), matrix[:2, 2].copy()


def _check_bounds(bounds, where):
    if not 0.0 < bounds[0] < bounds[1]:
        raise InputError(
            "The bounds of a photograph must be 0 < near < far. Received: "
            f"{where} with {bounds.tolist()}"
        )
    return bounds


def _read_sparse(folder):
    """A sparse model of COLMAP, text or binary."""
    places = [
        folder,
        folder / "sparse",
        folder / "sparse" / "0",
        folder / "dense" / "sparse",
    ]
    for place in places:
        for suffix, reader in ((".bin", _Binary), (".txt", _Text)):
            if (place / f"cameras{suffix}").is_file():
                return _assemble(folder, place, suffix, reader)
    raise InputError(
        "A collection of photographs must have the authors' bds.npy, or the "
        f"sparse model of COLMAP. Received: {folder}, with neither bds.npy nor "
        f"cameras.bin or cameras.txt in {', '.join(map(str, places))}"
    )


def _assemble(folder, place, suffix, reader):
    names = [place / f"{stem}{suffix}" for stem in ("cameras", "images")]
    points_file = place / f"points3D{suffix}"
    lenses = reader(names[0]).cameras()
    points = reader(points_file).points()
    root, _ = _pictures(folder)
    cameras = {}
    for name, camera_id, rotation, translation, seen in reader(
        names[1]
    ).images():
        path = root / name.replace("\0", "")
        if "\0" in name or not path.resolve().is_relative_to(root.resolve()):
            raise InputError(
                f"A picture's name must lie below {root}. Received: "
                f"{name!r} in {names[1]}"
            )
        if not path.is_file():
            raise InputError(f"{names[1]} names {path}, which does not exist.")
        if camera_id not in lenses:
            raise InputError(
                f"{names[1]} names camera {camera_id} for {name}, which is not "
                f"in {names[0]}."
            )
        where = f"{name} in {names[1]}"
        to_camera = _rotation(rotation, where)
        known = [points[index] for index in seen if index in points]
        if not known:
            raise InputError(
                f"A photograph must see some points of {points_file}. "
                f"Received: {where}, which sees none"
            )
        depths = np.array(known) @ to_camera[2] + translation[2]
        pose = np.eye(4)
        pose[:3, :3] = to_camera.T
        pose[:3, 3] = -to_camera.T @ translation
        focal, principal, size = lenses[camera_id]
        cameras[path] = Camera(
            check_pose(pose, where),
            focal,
            principal,
            _check_bounds(np.percentile(depths, _PERCENTILES), where),
            size,
        )
    if not cameras:
        raise InputError(f"{names[1]} names no picture.")
    return cameras


def _rotation(quaternion, where):
    """The rotation matrix of a quaternion (w, x, y, z)."""
    norm = np.linalg.norm(quaternion)
    if not 0.9 < norm < 1.1:
        raise InputError(
            f"A quaternion must have the length 1. Received: {where} with "
            f"{norm:g}"
        )
    w, x, y, z = quaternion / norm
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def _lens(path, model, width, height, parameters):
    """Focal lengths, principal point and size of one camera."""
    if model not in ("SIMPLE_PINHOLE", "PINHOLE"):
        raise InputError(
            "Cameras must be free of lens distortion, PINHOLE or "
            f"SIMPLE_PINHOLE (colmap image_undistorter). Received: {model} in "
            f"{path}"
        )
    *focal, column, row = parameters
    if (
        len(parameters) != dict(_MODELS.values())[model]
        or not np.isfinite(parameters).all()
        or not min(focal) > 0.0
        or not (width > 0 and height > 0)
    ):
        raise InputError(
            "A camera must have a positive size, positive focal lengths and a "
            f"principal point. Received: {model} {width} {height} "
            f"{' '.join(f'{p:g}' for p in parameters)} in {path}"
        )
    # COLMAP has the corner of the first pixel at 0, and its middle at 0.5.
    return (
        np.array([focal[0], focal[-1]]),
        np.array([column, row]) - 0.5,
        (height, width),
    )


class _Text:
    """One file of a sparse model in text."""

    def __init__(self, path):
        self._path = path
        files.check_size(path, MAX_MODEL_BYTES)

    def _lines(self):
        """Every line's words; of comments, nothing."""
        try:
            with open(self._path, encoding="utf-8") as file:
                for line in file:
                    if not line.startswith("#"):
                        yield line.split()
        except (OSError, UnicodeDecodeError) as error:
            raise self._damaged("it cannot be read as text") from error

    def _damaged(self, reason):
        return InputError(
            f"The sparse model's file {self._path} is damaged: {reason}."
        )

    def cameras(self):
        cameras = {}
        for words in self._lines():
            if not words:
                continue
            try:
                index, width, height = int(words[0]), *map(int, words[2:4])
                parameters = [float(word) for word in words[4:]]
                model = words[1]
            except (IndexError, ValueError) as error:
                raise self._damaged(f"{' '.join(words)[:80]!r}") from error
            cameras[index] = _lens(self._path, model, width, height, parameters)
        return cameras

    def images(self):
        lines = self._lines()
        for words in lines:
            if not words:
                continue
            try:
                numbers = np.array([float(word) for word in words[1:8]])
                camera_id, name = int(words[8]), " ".join(words[9:])
                # Of every point: column, row, and its number or -1.
                seen = [int(word) for word in next(lines, [])[2::3]]
                rotation, translation = numbers[:4], numbers[4:7]
            except (IndexError, ValueError) as error:
                raise self._damaged(f"{' '.join(words)[:80]!r}") from error
            if not name or not np.isfinite(numbers).all():
                raise self._damaged(f"{' '.join(words)[:80]!r}")
            yield name, camera_id, rotation, translation, seen

    def points(self):
        points = {}
        for words in self._lines():
            if not words:
                continue
            try:
                position = [float(word) for word in words[1:4]]
                points[int(words[0])] = position
            except (IndexError, ValueError) as error:
                raise self._damaged(f"{' '.join(words)[:80]!r}") from error
            if len(position) != 3 or not np.isfinite(position).all():
                raise self._damaged(f"{' '.join(words)[:80]!r}")
        return points


class _Binary:
    """One file of a sparse model in COLMAP's binary form."""

    def __init__(self, path):
        self._path = path
        files.check_size(path, MAX_MODEL_BYTES)
        try:
            self._data = path.read_bytes()
        except OSError as error:
            raise InputError(
                f"Cannot read {path}: {error.strerror}."
            ) from error
        self._at = 0

    def _damaged(self):
        return InputError(
            f"The sparse model's file {self._path} is damaged: it ends before "
            "what it announces."
        )

    def _take(self, layout):
        """The next numbers, in the layout of `struct`."""
        try:
            numbers = struct.unpack_from(f"<{layout}", self._data, self._at)
        except struct.error as error:
            raise self._damaged() from error
        self._at += struct.calcsize(f"<{layout}")
        return numbers

    def _skip(self, size):
        if self._at + size > len(self._data):
            raise self._damaged()
        self._at += size

    def cameras(self):
        cameras = {}
        for _ in range(*self._take("Q")):
            index, number, width, height = self._take("iiQQ")
            if number not in _MODELS:
                raise InputError(
                    f"{self._path} has a camera of the model {number}, which "
                    "is not known."
                )
            model, count = _MODELS[number]
            parameters = self._take(f"{count}d")
            cameras[index] = _lens(self._path, model, width, height, parameters)
        return cameras

    def images(self):
        for _ in range(*self._take("Q")):
            numbers = np.array(self._take("x" * 4 + "7d"))
            (camera_id,) = self._take("i")
            end = self._data.find(b"\0", self._at)
            if end < 0 or not np.isfinite(numbers).all():
                raise self._damaged()
            name = self._data[self._at : end].decode("utf-8", "replace")
            self._at = end + 1
            (count,) = self._take("Q")
            start = self._at
            self._skip(24 * count)
            seen = np.frombuffer(
                self._data,
                np.dtype([("position", "<f8", 2), ("point", "<i8")]),
                count,
                start,
            )["point"]
            yield name, camera_id, numbers[:4], numbers[4:], seen.tolist()

    def points(self):
        points = {}
        for _ in range(*self._take("Q")):
            index, *position = self._take("Q3d")
            if not np.isfinite(position).all():
                raise self._damaged()
            points[index] = position
            self._skip(11)  # its colour and error
            (length,) = self._take("Q")
            self._skip(8 * length)
        return points
