"""Writers of small pictures, collections of photographs, and views."""

import json

import numpy as np
import pytest
from PIL import Image

from tfmetainit.geometry import cameras
from tfmetainit.synthetic import landmark_model


def _write_picture(path, size=(8, 6), mode="RGB"):
    rng = np.random.default_rng(0)
    channels = len(mode)
    pixels = rng.integers(0, 255, (size[1], size[0], channels), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels, mode).save(path)


def _text_model(folder):
    """Two photographs of three points, by hand."""
    for name in ("b.png", "a.png"):
        _write_picture(folder / "images" / name)
    model = folder / "sparse"
    model.mkdir(parents=True)
    (model / "cameras.txt").write_text(
        "# a comment\n1 PINHOLE 8 6 10 20 4 3\n7 SIMPLE_PINHOLE 8 6 5 4 3\n"
    )
    (model / "images.txt").write_text(
        # The identity, the points 4 before it; and a half turn about y.
        "1 1 0 0 0 0 0 4 1 b.png\n0 0 1 0 0 2 0 0 -1\n"
        "2 0 0 1 0 0 0 6 7 a.png\n0 0 1 1 1 3\n"
    )
    (model / "points3D.txt").write_text(
        "1 0 0 0 9 9 9 0.5 1 0\n2 0 0 1 9 9 9 0.5 1 1\n3 0 0 2 9 9 9 0.5 2 1\n"
    )
    return folder


def _matrices(folder, count=3):
    """The authors' layout, with what a sparse model would say."""
    rng = np.random.default_rng(0)
    for index in range(count):
        _write_picture(folder / "dense" / "images" / f"{index}.jpg")
    poses = np.stack([landmark_model.draw_pose(rng) for _ in range(count)])
    intrinsic = np.array([[10.0, 0, 4], [0, 20, 3], [0, 0, 1]])
    np.save(folder / "c2w_mats.npy", poses[:, :3])
    np.save(folder / "kinv_mats.npy", [np.linalg.inv(intrinsic)] * count)
    np.save(folder / "bds.npy", [[1.0, 3.0]] * count)
    return poses


def _transforms(folder, count=3, **changes):
    """A folder in NeRF's Blender layout."""
    (folder / "train").mkdir(exist_ok=True)
    frames = []
    for index in range(count):
        _write_picture(folder / "train" / f"r_{index}.png", (8, 8), "RGBA")
        frames.append(
            {
                "file_path": f"./train/r_{index}",
                "transform_matrix": cameras.swap_opengl(
                    cameras.orbit(index, 0.3)
                ).tolist(),
            }
        )
    content = {"camera_angle_x": 0.69, "frames": frames, **changes}
    (folder / "transforms.json").write_text(json.dumps(content))
    return folder / "transforms.json"


@pytest.fixture(scope="session")
def write_picture():
    """Writes a picture of noise."""
    return _write_picture


@pytest.fixture(scope="session")
def write_text_model():
    """Writes COLMAP's layout with its files in text."""
    return _text_model


@pytest.fixture(scope="session")
def write_matrices():
    """Writes the authors' layout, and returns its poses."""
    return _matrices


@pytest.fixture(scope="session")
def write_transforms():
    """Writes NeRF's layout, and returns the path of its JSON file."""
    return _transforms
