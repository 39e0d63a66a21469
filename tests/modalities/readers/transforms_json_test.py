"""Poses and transforms.json, from files."""

import json

import numpy as np
import pytest
from PIL import Image

from tfmetainit.geometry import cameras
from tfmetainit.io.errors import InputError
from tfmetainit.modalities.readers import transforms_json

_FOCAL = cameras.focal_length(8, 0.69)


def test_an_azimuth_and_an_elevation():
    np.testing.assert_allclose(
        transforms_json.parse_pose("0,30"), cameras.orbit(0.0, np.pi / 6)
    )
    np.testing.assert_allclose(
        transforms_json.parse_pose("0,30")[:3, 3], [4 * np.cos(np.pi / 6), 0, 2]
    )


@pytest.mark.parametrize("text", ["", "1", "1,2,3", "a,b", "0,90", "nan,0"])
def test_bad_poses(raises_with, text):
    with raises_with(InputError, "`pose`", repr(text)):
        transforms_json.parse_pose(text)


@pytest.mark.parametrize(
    "pose", [np.eye(3), 2 * np.eye(4), -np.eye(4), np.full((4, 4), np.nan)]
)
def test_bad_pose_files(raises_with, tmp_path, pose):
    path = tmp_path / "pose.npy"
    np.save(path, pose)
    with raises_with(InputError, path):
        transforms_json.parse_pose(str(path))


def test_a_pose_from_a_file(tmp_path):
    """The file has OpenGL axes; the package has those of OpenCV."""
    pose = cameras.orbit(0.3, 0.2)
    np.save(tmp_path / "pose.npy", pose[:3])
    np.testing.assert_allclose(
        transforms_json.parse_pose(str(tmp_path / "pose.npy")),
        cameras.swap_opengl(pose),
    )


def test_transforms(write_transforms, tmp_path):
    pictures, camera = transforms_json.read_transforms(
        write_transforms(tmp_path), 8
    )
    assert pictures.shape == (3, 8, 8, 3)
    np.testing.assert_allclose(camera.focal, [_FOCAL, _FOCAL])
    np.testing.assert_allclose(camera.principal_point, [4.0, 4.0])
    assert camera.pose.shape == (3, 4, 4)
    np.testing.assert_allclose(camera.pose[2], cameras.orbit(2, 0.3), atol=1e-9)
    rgba = np.asarray(Image.open(tmp_path / "train" / "r_1.png")) / 255.0
    white = rgba[..., :3] * rgba[..., 3:] + 1.0 - rgba[..., 3:]
    np.testing.assert_allclose(pictures[1], white, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"camera_angle_x": 0.0}, ["camera_angle_x", "0.0"]),
        ({"camera_angle_x": "wide"}, ["camera_angle_x", "wide"]),
        ({"frames": []}, ["0 frames"]),
        ({"frames": [{"file_path": "a"}]}, ["'transform_matrix'"]),
        (
            {"frames": [{"file_path": "../a", "transform_matrix": []}]},
            ["'../a'"],
        ),
        (
            {"frames": [{"file_path": "gone", "transform_matrix": []}]},
            ["gone.png"],
        ),
        (
            {"frames": [{"file_path": "train/r_0", "transform_matrix": [1]}]},
            ["transform_matrix", "r_0.png"],
        ),
    ],
)
def test_bad_transforms(
    write_transforms, raises_with, tmp_path, changes, named
):
    path = write_transforms(tmp_path, **changes)
    with raises_with(InputError, tmp_path, *named):
        transforms_json.read_transforms(path, 8)


@pytest.mark.parametrize(
    "pose",
    [
        cameras.orbit(0.5, 0.3).T,
        np.concatenate([cameras.orbit(0.5, 0.3)[:3], np.full([1, 4], 5.0)]),
        cameras.look_at(np.array([1e39, 0.0, 0.0]), np.zeros(3)),
    ],
)
def test_a_matrix_that_is_no_pose(raises_with, pose):
    with raises_with(InputError, "pose.npy"):
        transforms_json.check_pose(pose, "pose.npy")


def test_names_with_a_point_and_the_number_of_frames(
    write_transforms, raises_with, tmp_path
):
    path = write_transforms(tmp_path)
    content = json.loads(path.read_text())
    old = tmp_path / "train" / "r_0.png"
    old.rename(tmp_path / "train" / "r_0.5.png")
    content["frames"][0]["file_path"] = "train/r_0.5"
    path.write_text(json.dumps(content))
    assert len(transforms_json.read_transforms(path, 8)[0]) == 3
    content["frames"] *= 67
    path.write_text(json.dumps(content))
    with raises_with(InputError, path, 200, 201):
        transforms_json.read_transforms(path, 8)
    assert len(transforms_json.read_transforms(path, 8, limit=2)[0]) == 2


@pytest.mark.parametrize(
    "stated",
    [
        {"k1": 0.3},
        {"p2": -1e-3},
        {"cx": 5.0},
        {"cy": 16.0, "w": 16, "h": 16},
        {"fl_x": 1.1 * _FOCAL},
        {"fl_y": "wide"},
        {"k2": float("nan")},
    ],
)
@pytest.mark.parametrize("of_frame", [False, True])
def test_a_lens_that_is_not_ours_is_refused(
    write_transforms, raises_with, tmp_path, stated, of_frame
):
    path = write_transforms(tmp_path)
    content = json.loads(path.read_text())
    (content["frames"][1] if of_frame else content).update(stated)
    path.write_text(json.dumps(content))
    (_, value), *_ = stated.items()
    with raises_with(InputError, path, value):
        transforms_json.read_transforms(path, 8)


def test_a_lens_that_is_stated_as_ours(write_transforms, tmp_path):
    path = write_transforms(
        tmp_path,
        **{"w": 16, "h": 16, "cx": 8.0, "cy": 8.1, "k1": 0.0},
        fl_x=2 * _FOCAL,
    )
    _, camera = transforms_json.read_transforms(path, 8)
    np.testing.assert_allclose(camera.focal, [_FOCAL, _FOCAL])


@pytest.mark.parametrize(
    "changes",
    [
        {"camera_angle_x": 10**400},
        {"frames": [{"file_path": "a\0b", "transform_matrix": []}]},
        {
            "frames": [
                {"file_path": "train/r_0", "transform_matrix": [[10**400]]}
            ]
        },
    ],
)
def test_numbers_and_names_that_python_chokes_on(
    write_transforms, tmp_path, changes
):
    with pytest.raises(InputError):
        transforms_json.read_transforms(
            write_transforms(tmp_path, **changes), 8
        )


def test_views_of_different_sizes(
    write_picture, write_transforms, raises_with, tmp_path
):
    path = write_transforms(tmp_path)
    write_picture(tmp_path / "train" / "r_1.png", (9, 8))
    with raises_with(InputError, "8 x 8", "r_1.png of 9 x 8"):
        transforms_json.read_transforms(path, 8)
