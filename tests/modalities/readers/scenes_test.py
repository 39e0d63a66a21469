"""Poses and scenes, from files."""

import json

import numpy as np
import pytest
from PIL import Image

from tfmetainit.geometry import cameras
from tfmetainit.io import images
from tfmetainit.io.errors import InputError
from tfmetainit.modalities.readers import scenes

_FOCAL = cameras.focal_length(8, 0.69)


def _read(path, resolution, limit=None):
    return scenes.read_scene(scenes.open_scene(path), resolution, limit)


def test_an_azimuth_and_an_elevation():
    np.testing.assert_allclose(
        scenes.parse_pose("0,30"), cameras.orbit(0.0, np.pi / 6)
    )
    np.testing.assert_allclose(
        scenes.parse_pose("0,30")[:3, 3], [4 * np.cos(np.pi / 6), 0, 2]
    )


@pytest.mark.parametrize("text", ["", "1", "1,2,3", "a,b", "0,90", "nan,0"])
def test_bad_poses(raises_with, text):
    with raises_with(InputError, "`pose`", repr(text)):
        scenes.parse_pose(text)


@pytest.mark.parametrize(
    "pose", [np.eye(3), 2 * np.eye(4), -np.eye(4), np.full((4, 4), np.nan)]
)
def test_bad_pose_files(raises_with, tmp_path, pose):
    path = tmp_path / "pose.npy"
    np.save(path, pose)
    with raises_with(InputError, path):
        scenes.parse_pose(str(path))


def test_a_pose_from_a_file(tmp_path):
    """The file has OpenGL axes; the package has those of OpenCV."""
    pose = cameras.orbit(0.3, 0.2)
    np.save(tmp_path / "pose.npy", pose[:3])
    np.testing.assert_allclose(
        scenes.parse_pose(str(tmp_path / "pose.npy")),
        cameras.swap_opengl(pose),
    )


def test_transforms(write_transforms, tmp_path):
    pictures, camera = _read(write_transforms(tmp_path), 8)
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
        ({"frames": []}, ["with none"]),
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
            ["pose", "r_0.png"],
        ),
    ],
)
def test_bad_transforms(
    write_transforms, raises_with, tmp_path, changes, named
):
    path = write_transforms(tmp_path, **changes)
    with raises_with(InputError, tmp_path, *named):
        _read(path, 8)


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
        scenes.check_pose(pose, "pose.npy")


def test_names_with_a_point_and_the_number_of_frames(
    write_transforms, raises_with, tmp_path
):
    path = write_transforms(tmp_path)
    content = json.loads(path.read_text())
    old = tmp_path / "train" / "r_0.png"
    old.rename(tmp_path / "train" / "r_0.5.png")
    content["frames"][0]["file_path"] = "train/r_0.5"
    path.write_text(json.dumps(content))
    assert len(_read(path, 8)[0]) == 3
    content["frames"] *= 67
    path.write_text(json.dumps(content))
    with raises_with(InputError, path, 200, 201):
        _read(path, 8)
    assert len(_read(path, 8, limit=2)[0]) == 2


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
        {"camera_model": "OPENCV_FISHEYE"},
        {"is_fisheye": True},
        {"h": 40.0},
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
        _read(path, 8)


def test_a_lens_that_is_stated_as_ours(write_transforms, tmp_path):
    path = write_transforms(
        tmp_path,
        **{"w": 16, "h": 16, "cx": 8.0, "cy": 8.1, "k1": 0.0},
        fl_x=2 * _FOCAL,
    )
    _, camera = _read(path, 8)
    np.testing.assert_allclose(camera.focal, [_FOCAL, _FOCAL])


@pytest.mark.parametrize(
    "changes",
    [
        {"camera_angle_x": 10**400},
        {"frames": [{"file_path": "a\0b", "transform_matrix": []}]},
        {"frames": [{"file_path": "a" * 300, "transform_matrix": []}]},
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
        _read(write_transforms(tmp_path, **changes), 8)


def test_views_of_different_sizes(
    write_picture, write_transforms, raises_with, tmp_path
):
    path = write_transforms(tmp_path)
    write_picture(tmp_path / "train" / "r_1.png", (9, 8))
    with raises_with(InputError, "8 x 8", "r_1.png of 9 x 8"):
        _read(path, 8)


def test_missing_pictures_are_left_out(
    write_transforms, raises_with, tmp_path, caplog
):
    path = write_transforms(tmp_path)
    (tmp_path / "train" / "r_1.png").unlink()
    views, camera = _read(path, 8)
    assert views.shape == (2, 8, 8, 3)
    np.testing.assert_allclose(camera.pose[1], cameras.orbit(2, 0.3), atol=1e-9)
    (record,) = caplog.records
    assert "1 of 3" in record.getMessage()
    assert "r_1.png" in record.getMessage()
    for name in ("r_0.png", "r_2.png"):
        (tmp_path / "train" / name).unlink()
    with raises_with(InputError, path, "3 of 3", "r_0.png"):
        _read(path, 8)


def test_files_of_other_tools(write_transforms, write_picture, tmp_path):
    """No camera_angle_x, backslashes, JPEG, a link to a folder elsewhere."""
    (tmp_path / "a").mkdir()
    path = write_transforms(tmp_path / "a")
    expected, camera = _read(path, 8)
    content = json.loads(path.read_text())
    del content["camera_angle_x"]
    content |= {"fl_x": 4 * _FOCAL, "w": 32, "h": 32, "aabb_scale": 4}
    for frame in content["frames"]:
        frame["file_path"] = frame["file_path"].replace("/", "\\")
    path.write_text(json.dumps(content))
    (tmp_path / "a" / "train").rename(tmp_path / "elsewhere")
    (tmp_path / "a" / "train").symlink_to(tmp_path / "elsewhere")
    views, again = _read(path, 8)
    np.testing.assert_array_equal(views, expected)
    np.testing.assert_allclose(again.focal, camera.focal)
    for picture in (tmp_path / "elsewhere").iterdir():
        picture.unlink()
        write_picture(picture.with_suffix(".jpg"), (8, 8))
    assert _read(path, 8)[0].shape == expected.shape
    # The folder of a synthetic scene, as it is.
    path.rename(path.with_name("transforms_train.json"))
    assert _read(tmp_path / "a", 8)[0].shape == expected.shape


@pytest.fixture
def srn(write_transforms, tmp_path):
    """A scene in NeRF's layout, and the same in that of SRN."""
    (tmp_path / "nerf").mkdir()
    path = write_transforms(tmp_path / "nerf")
    folder = tmp_path / "srn"
    (folder / "pose").mkdir(parents=True)
    (tmp_path / "nerf" / "train").rename(folder / "rgb")
    (tmp_path / "nerf" / "train").symlink_to(folder / "rgb")
    for index in range(3):
        pose = cameras.orbit(index, 0.3).ravel()
        (folder / "pose" / f"r_{index}.txt").write_text(
            " ".join(map(str, pose))
        )
    (folder / "intrinsics.txt").write_text(
        f"{4 * _FOCAL} 16. 16. 0.\n0. 0. 0.\n1.\n32 32\n"
    )
    return path, folder


def test_scenes_of_srn(srn, raises_with):
    path, folder = srn
    expected, camera = _read(path, 8)
    views, again = _read(folder, 8)
    np.testing.assert_array_equal(views, expected)
    np.testing.assert_allclose(again.pose, camera.pose, atol=1e-9)
    np.testing.assert_allclose(again.focal, camera.focal)
    for name, content in (
        ("pose/r_1.txt", "1 2 3"),
        ("pose/r_1.txt", "a"),
        ("pose/r_1.txt", " ".join(["1"] * 16)),
        ("intrinsics.txt", "1 2\n3 4"),
        ("intrinsics.txt", "0 16 16 0\n32 32"),
        ("intrinsics.txt", "9 20 16 0\n32 32"),
    ):
        before = (folder / name).read_text()
        (folder / name).write_text(content)
        with raises_with(InputError, folder):
            _read(folder, 8)
        (folder / name).write_text(before)
    (folder / "intrinsics.txt").unlink()
    with raises_with(InputError, folder, "transforms.json", "intrinsics.txt"):
        _read(folder, 8)


def test_cameras_of_another_scale_or_other_axes(raises_with):
    poses = np.stack([cameras.orbit(a, 0.3) for a in range(5)])
    same = scenes.scale_cameras(poses, 1.0, (2, 6), "a")
    np.testing.assert_array_equal(same, poses)
    poses[:, :3, 3] *= 10
    with raises_with(InputError, "a.json", "[2, 6]", "`camera_scale`=0.1"):
        scenes.scale_cameras(poses, 1.0, (2, 6), "a.json")
    np.testing.assert_allclose(
        scenes.scale_cameras(poses, 0.1, (2, 6), "a"), same
    )
    assert poses[0, 2, 3] > 10  # the argument is left as it was
    with raises_with(InputError, "OpenGL"):
        scenes.scale_cameras(cameras.swap_opengl(same), 1.0, (2, 6), "a")


def test_a_frame_of_another_angle(write_transforms, raises_with, tmp_path):
    path = write_transforms(tmp_path)
    content = json.loads(path.read_text())
    content["frames"][1]["camera_angle_x"] = 0.8
    path.write_text(json.dumps(content))
    with raises_with(InputError, path, "0.8"):
        _read(path, 8)


def test_pictures_are_taken_as_stored(write_transforms, tmp_path):
    """The camera describes the pixels before an orientation tag turns them."""
    path = write_transforms(tmp_path)
    stored = []
    for index in range(3):
        png = tmp_path / "train" / f"r_{index}.png"
        picture = Image.open(png).convert("RGB")
        tag = picture.getexif()
        tag[0x0112] = 6  # a quarter turn
        picture.save(png.with_suffix(".jpg"), exif=tag, quality=95)
        png.unlink()
        stored.append(images.read_image(png.with_suffix(".jpg"), upright=False))
    np.testing.assert_array_equal(_read(path, 8)[0], stored)
