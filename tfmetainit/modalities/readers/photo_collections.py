"""Reads photographs of one place with their cameras.

Three layouts are read, all from structure from motion with COLMAP: the matrices
of the paper's authors (`bds.npy`, `c2w_mats.npy`, `kinv_mats.npy`), the
`poses_bounds.npy` of LLFF (Mildenhall et al. 2019), and COLMAP's own sparse
models, text and binary. Poses have OpenCV axes in all but LLFF's.
"""

import logging
import math
import pathlib
from typing import NamedTuple

import numpy as np

from tfmetainit.geometry.cameras import Camera
from tfmetainit.io import files
from tfmetainit.io.errors import InputError
from tfmetainit.modalities.readers import colmap
from tfmetainit.modalities.readers.scenes import check_pose

_LOGGER = logging.getLogger("tfmetainit")

SUFFIXES = (".jpg", ".jpeg", ".png")
# Percentiles of the depths of a photograph's points that bound the scene;
# points outside of them are wrong matches.
_PERCENTILES = (0.1, 99.9)
# The authors' margins around the bounds (Tancik et al. 2021, notebook).
_MARGINS = (0.9, 1.2)
_MATRICES = ("bds.npy", "c2w_mats.npy", "kinv_mats.npy")
_POSES_BOUNDS = "poses_bounds.npy"


class Photograph(NamedTuple):
    """The camera of a photograph, and the depths of the scene in it.

    Attributes:
        camera: its camera, with a pose `[4, 4]`.
        bounds: `[2]`, near and far depth of the scene.
        size: (height, width) in pixels of the picture that the camera
            describes; None if the layout does not state it.
    """

    camera: Camera
    bounds: np.ndarray
    size: tuple[int, int] | None


def read_collection(folder, scale: float) -> dict[pathlib.Path, Photograph]:
    """Reads the photographs below a folder and their cameras, sorted by path.

    Args:
        folder: holds the three matrices, or poses_bounds.npy, or a sparse
            model of COLMAP, directly or in sparse/, sparse/0/ or dense/sparse/.
            The pictures are in images/, in dense/images/, or directly in the
            folder. Pictures of a sparse model that are missing or see no points
            are left out, counted and named.
        scale: factor of all lengths; coordinates should be about 1.

    Returns:
        Maps the path of each picture to its `Photograph`.

    Raises:
        InputError: if a file is missing, damaged, or inconsistent.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}.")
    if (folder / _MATRICES[0]).exists():
        photographs = _read_matrices(folder)
    elif (folder / _POSES_BOUNDS).exists():
        photographs = _read_poses_bounds(folder)
    else:
        photographs = _read_sparse(folder)
    return {
        path: photographs[path]._replace(
            camera=_scaled(photographs[path].camera, scale),
            bounds=scale * photographs[path].bounds * _MARGINS,
        )
        for path in sorted(photographs)
    }


def _scaled(camera, scale):
    """The camera in a world whose lengths are multiplied by `scale`."""
    pose = camera.pose.copy()
    pose[:3, 3] *= scale
    return camera._replace(pose=pose)


def _places(folder):
    """Folders where the pictures of a collection may be."""
    return [folder / "images", folder / "dense" / "images", folder]


def _pictures(folder):
    """Paths of the pictures of a collection, in alphabetic order."""
    places = _places(folder)
    for place in places:
        if place.is_dir():
            found = sorted(
                path
                for path in place.iterdir()
                if path.suffix.lower() in SUFFIXES
            )
            if found:
                return found
    raise InputError(
        f"There is no picture ({', '.join(SUFFIXES)}) in "
        f"{', '.join(map(str, places))}."
    )


def _read_matrices(folder):
    """Reads the authors' layout, without their res_mats.npy."""
    bounds, poses, inverses = (
        files.read_array(folder / name) for name in _MATRICES
    )
    paths = _pictures(folder)
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
    photographs = {}
    for index, path in enumerate(paths):
        where = f"number {index} of {folder / _MATRICES[2]}"
        focal, principal = _from_inverse(inverses[index], where)
        where = f"number {index} of {folder / _MATRICES[0]}"
        pose = check_pose(
            poses[index], f"number {index} of {folder / _MATRICES[1]}"
        )
        photographs[path] = Photograph(
            Camera(pose, focal, principal),
            _check_bounds(np.array(bounds[index], np.float64), where),
            None,
        )
    return photographs


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
            "The bounds of a photograph must satisfy 0 < near < far. Received: "
            f"{where} with {bounds.tolist()}"
        )
    return bounds


def _read_sparse(folder):
    """Reads a sparse model of COLMAP, text or binary."""
    places = [
        folder,
        folder / "sparse",
        folder / "sparse" / "0",
        folder / "dense" / "sparse",
    ]
    for place in places:
        for suffix, reader in (
            (".bin", colmap.BinaryFile),
            (".txt", colmap.TextFile),
        ):
            if (place / f"cameras{suffix}").is_file():
                return _assemble(folder, place, suffix, reader)
    raise InputError(
        "A collection of photographs must have the authors' bds.npy, LLFF's "
        f"{_POSES_BOUNDS}, or a sparse model of COLMAP. Received: {folder}, "
        "with none of them, nor cameras.bin or cameras.txt in "
        f"{', '.join(map(str, places))}"
    )


def _assemble(folder, place, suffix, reader):
    names = [place / f"{stem}{suffix}" for stem in ("cameras", "images")]
    points_file = place / f"points3D{suffix}"
    lenses = reader(names[0]).cameras()
    points = reader(points_file).points()
    images = list(reader(names[1]).images())
    # The name of a picture may contain subfolders of the root.
    roots = [
        r for r in _places(folder) if any((r / i[0]).is_file() for i in images)
    ]
    root = roots[0] if roots else _pictures(folder)[0].parent
    photographs, missing, blind = {}, [], []
    for name, camera_id, rotation, translation, seen in images:
        path = root / name.replace("\0", "")
        if "\0" in name or not path.resolve().is_relative_to(root.resolve()):
            raise InputError(
                f"A picture's name must lie below {root}. Received: "
                f"{name!r} in {names[1]}"
            )
        if camera_id not in lenses:
            raise InputError(
                f"{names[1]} names camera {camera_id} for {name}, which is not "
                f"in {names[0]}."
            )
        where = f"{name} in {names[1]}"
        to_camera = _rotation(rotation, where)
        known = [points[index] for index in seen if index in points]
        if not path.is_file():
            missing.append(name)
            continue
        if not known:
            blind.append(name)
            continue
        depths = np.array(known) @ to_camera[2] + translation[2]
        pose = np.eye(4)
        pose[:3, :3] = to_camera.T
        pose[:3, 3] = -to_camera.T @ translation
        focal, principal, size = lenses[camera_id]
        photographs[path] = Photograph(
            Camera(check_pose(pose, where), focal, principal),
            _check_bounds(np.percentile(depths, _PERCENTILES), where),
            size,
        )
    for left_out, why in ((missing, "are missing"), (blind, "see no points")):
        if left_out and photographs:
            _LOGGER.warning(
                "%d of %d photographs of %s %s, such as %s; they are left out.",
                *(len(left_out), len(images), names[1], why, left_out[0]),
            )
    if not photographs:
        raise InputError(
            f"{names[1]} must name pictures that are in {root} and see points. "
            f"Received: {len(images)} names, of which {len(missing)} are "
            f"missing and {len(blind)} see no points"
        )
    return photographs


def _read_poses_bounds(folder):
    """Reads LLFF's layout.

    A row has 15 numbers of a 3 x 5 matrix and the near and far depth. The
    columns of the matrix are the camera's axes down, right and backwards, its
    position, and height, width and focal length in pixels.
    """
    path = folder / _POSES_BOUNDS
    rows = files.read_array(path).astype(np.float64)
    paths = _pictures(folder)
    if rows.shape != (len(paths), 17):
        raise InputError(
            f"{path} must hold an array [{len(paths)}, 17] for {len(paths)} "
            f"pictures. Received: {list(rows.shape)}"
        )
    photographs = {}
    for index, (picture, row) in enumerate(zip(paths, rows)):
        where = f"number {index} of {path}"
        down, right, back, position, lens = row[:15].reshape(3, 5).T
        height, width, focal = lens
        if not min(lens) > 0.0:
            raise InputError(
                "A camera must have a positive size and focal length. "
                f"Received: {where} with {lens.tolist()}"
            )
        pose = np.stack([right, down, -back, position], axis=1)
        photographs[picture] = Photograph(
            Camera(
                check_pose(pose, where),
                np.array([focal, focal]),
                # The middle of the picture; its first pixel's centre is 0.
                np.array([width, height]) / 2.0 - 0.5,
            ),
            _check_bounds(row[15:], where),
            (round(height), round(width)),
        )
    return photographs


def _rotation(quaternion, where):
    """The rotation matrix of a quaternion (w, x, y, z)."""
    norm = np.linalg.norm(quaternion)
    if not 0.9 < norm < 1.1:
        raise InputError(
            f"A quaternion must have length 1. Received: {where} with length "
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
