"""Poses, rays and files of views, in NumPy and as training makes them."""

import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfmetainit import modalities
from tfmetainit.geometry import cameras
from tfmetainit.io.errors import InputError
from tfmetainit.modalities import rays, transforms
from tfmetainit.synthetic import object_models


def _picture(path, size=(8, 8), mode="RGBA"):
    rng = np.random.default_rng(0)
    channels = len(mode)
    pixels = rng.integers(0, 255, (size[1], size[0], channels), np.uint8)
    Image.fromarray(pixels, mode).save(path)


def _transforms(folder, count=3, **changes):
    """A folder in NeRF's Blender layout."""
    (folder / "train").mkdir(exist_ok=True)
    frames = []
    for index in range(count):
        _picture(folder / "train" / f"r_{index}.png")
        frames.append(
            {
                "file_path": f"./train/r_{index}",
                "transform_matrix": cameras.orbit(index, 0.3).tolist(),
            }
        )
    content = {"camera_angle_x": 0.69, "frames": frames, **changes}
    (folder / "transforms.json").write_text(json.dumps(content))
    return folder / "transforms.json"


def test_numpy_rays_are_training_s():
    cameras = pytest.importorskip("tfmetainit.cameras")
    pytest.importorskip("tensorflow_graphics")
    pose = cameras.orbit(0.7, 0.4)
    origins, directions = cameras.pixel_rays(
        cameras.pixel_grid(5, 6), pose, 4.0, (3.0, 2.5)
    )
    rays = cameras.camera_rays(5, 6, pose, 4.0)
    np.testing.assert_allclose(rays[:, :3], origins, atol=1e-6)
    np.testing.assert_allclose(rays[:, 3:], directions, atol=1e-6)


def test_orbit():
    """From the x axis, 90 degrees further to y; and up."""
    np.testing.assert_allclose(
        cameras.orbit(np.pi / 2, 0.0)[:3, 3], [0, 4, 0], atol=1e-12
    )
    np.testing.assert_allclose(
        transforms.parse_pose("0,30")[:3, 3], [4 * np.cos(np.pi / 6), 0, 2]
    )


@pytest.mark.parametrize("text", ["", "1", "1,2,3", "a,b", "0,90", "nan,0"])
def test_bad_poses(text):
    with pytest.raises(InputError, match="--pose must be azimuth,elevation"):
        transforms.parse_pose(text)


@pytest.mark.parametrize(
    "pose", [np.eye(3), 2 * np.eye(4), -np.eye(4), np.full((4, 4), np.nan)]
)
def test_bad_pose_files(tmp_path, pose):
    path = tmp_path / "pose.npy"
    np.save(path, pose)
    with pytest.raises(InputError, match="rotation and a trans|NaN or inf"):
        transforms.parse_pose(str(path))


def test_a_pose_from_a_file(tmp_path):
    pose = cameras.orbit(0.3, 0.2)
    np.save(tmp_path / "pose.npy", pose[:3])
    np.testing.assert_allclose(
        transforms.parse_pose(str(tmp_path / "pose.npy")), pose
    )


def test_transforms(tmp_path):
    pictures, poses, camera = transforms.read_transforms(
        _transforms(tmp_path), 8
    )
    assert pictures.shape == (3, 8, 8, 3)
    assert camera.focal == cameras.focal_length(8, 0.69)
    assert camera.principal_point == (4.0, 4.0)
    np.testing.assert_allclose(poses[2], cameras.orbit(2, 0.3), atol=1e-9)
    rgba = np.asarray(Image.open(tmp_path / "train" / "r_1.png")) / 255.0
    white = rgba[..., :3] * rgba[..., 3:] + 1.0 - rgba[..., 3:]
    np.testing.assert_allclose(pictures[1], white, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"camera_angle_x": 0.0}, "camera_angle_x in \\(0, pi\\)"),
        ({"camera_angle_x": "wide"}, "must have camera_angle_x and frames"),
        ({"frames": []}, "at least one frame"),
        ({"frames": [{"file_path": "a"}]}, "file_path and transform_matrix"),
        (
            {"frames": [{"file_path": "../a", "transform_matrix": []}]},
            "must lie below the folder",
        ),
        (
            {"frames": [{"file_path": "gone", "transform_matrix": []}]},
            "There is no file .*gone.png",
        ),
        (
            {"frames": [{"file_path": "train/r_0", "transform_matrix": [1]}]},
            "the transform_matrix of .*r_0.png, which is not one",
        ),
    ],
)
def test_bad_transforms(tmp_path, changes, message):
    path = _transforms(tmp_path, **changes)
    with pytest.raises(InputError, match=message):
        transforms.read_transforms(path, 8)


@pytest.mark.parametrize(
    "pose",
    [
        cameras.orbit(0.5, 0.3).T,
        np.concatenate([cameras.orbit(0.5, 0.3)[:3], np.full([1, 4], 5.0)]),
        cameras.look_at(np.array([1e39, 0.0, 0.0]), np.zeros(3)),
    ],
)
def test_a_matrix_that_is_no_pose(pose):
    with pytest.raises(InputError, match="0 0 0 1 the last row"):
        transforms.check_pose(pose, "it")


def test_names_with_a_point_and_the_number_of_frames(tmp_path):
    path = _transforms(tmp_path)
    content = json.loads(path.read_text())
    old = tmp_path / "train" / "r_0.png"
    old.rename(tmp_path / "train" / "r_0.5.png")
    content["frames"][0]["file_path"] = "train/r_0.5"
    path.write_text(json.dumps(content))
    assert len(transforms.read_transforms(path, 8)[0]) == 3
    content["frames"] *= 67
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="200 frames at most.* with 201"):
        transforms.read_transforms(path, 8)
    assert len(transforms.read_transforms(path, 8, limit=2)[0]) == 2


_FOCAL = cameras.focal_length(8, 0.69)


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
def test_a_lens_that_is_not_ours_is_refused(tmp_path, stated, of_frame):
    path = _transforms(tmp_path)
    content = json.loads(path.read_text())
    (content["frames"][1] if of_frame else content).update(stated)
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="without distortion|in numbers"):
        transforms.read_transforms(path, 8)


def test_a_lens_that_is_stated_as_ours(tmp_path):
    path = _transforms(
        tmp_path,
        **{"w": 16, "h": 16, "cx": 8.0, "cy": 8.1, "k1": 0.0},
        fl_x=2 * _FOCAL,
    )
    _, _, camera = transforms.read_transforms(path, 8)
    assert camera.focal == _FOCAL


def test_the_camera_of_a_square_that_was_cut_out_and_resized():
    """A point keeps its ray: where is it in the large picture, and now?"""
    height, width, resolution = 90, 160, 30
    camera = cameras.square_camera(height, width, 0.9, resolution)
    pose = cameras.orbit(0.4, 0.3)
    large = cameras.camera_rays(
        height, width, pose, cameras.focal_length(width, 0.9)
    ).reshape(height, width, 6)
    small = cameras.camera_rays(resolution, resolution, pose, *camera)
    small = small.reshape(resolution, resolution, 6)
    # Of three by three pixels, the ray through the one in the middle stays.
    np.testing.assert_allclose(small, large[1::3, 36:-34:3], atol=1e-6)


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
def test_numbers_and_names_that_python_chokes_on(tmp_path, changes):
    with pytest.raises(InputError):
        transforms.read_transforms(_transforms(tmp_path, **changes), 8)


def test_views_of_different_sizes(tmp_path):
    path = _transforms(tmp_path)
    _picture(tmp_path / "train" / "r_1.png", (9, 8))
    with pytest.raises(InputError, match="one size. Received: .*8 x 8 and .*9"):
        transforms.read_transforms(path, 8)


def _kind():
    return rays.ObjectModality(8, object_models.CAMERA_ANGLE, 2.0, 6.0, 5, 16)


def test_the_kind_reads_a_picture(tmp_path):
    _picture(tmp_path / "a.png", mode="RGB")
    sample = _kind().read(tmp_path / "a.png", pose="10,20")
    assert sample.inputs.shape[1:] == (16, 11)
    assert sample.values.shape[1:] == (16, 3)
    assert sample.coords.shape == (64, 11)
    depths = sample.inputs[..., 6:]
    assert np.all(np.diff(depths, axis=-1) > 0)
    assert depths.min() >= 2.0
    assert depths.max() < 6.0
    # A ray and its colour belong together.
    ray = sample.inputs[3, 7]
    index = np.argmin(np.abs(sample.coords[:, 3:6] - ray[3:6]).sum(axis=1))
    np.testing.assert_array_equal(sample.values[3, 7], sample.target[index])
    again = _kind().read(tmp_path / "a.png", pose="10,20")
    np.testing.assert_array_equal(sample.inputs, again.inputs)


def test_the_kind_reads_several_views(tmp_path):
    sample = _kind().read(_transforms(tmp_path))
    assert sample.coords.shape == (3 * 64, 11)
    assert _kind().picture(sample.target).shape == (8, 24, 3)
    with pytest.raises(InputError, match="holds its own poses"):
        _kind().read(tmp_path / "transforms.json", pose="1,2")
    with pytest.raises(InputError, match="A picture of an object needs --pose"):
        _kind().read(tmp_path / "train" / "r_0.png")


def test_the_kind_renders_a_turn():
    def predict(rays):
        return tf.fill([len(rays), 3], 0.5).numpy()

    assert _kind().render(predict, 4, 6).shape == (4, 24, 3)


@pytest.mark.parametrize(("height", "width"), [(5, 9), (9, 5)])
def test_a_rendering_that_is_no_square_shows_the_trained_view(height, width):
    seen = []

    def predict(rays):
        seen.append(rays[:, 3:6])
        return np.zeros([len(rays), 3], np.float32)

    _kind().render(predict, 5, 5)
    square = np.concatenate(seen)[:25]
    seen.clear()
    _kind().render(predict, height, width)
    wide = np.concatenate(seen)[: height * width].reshape(height, width, 3)
    inner = wide[(height - 5) // 2 :, (width - 5) // 2 :][:5, :5]
    np.testing.assert_allclose(inner.reshape(-1, 3), square, atol=1e-6)


def test_the_kind_survives_its_description():
    kind = _kind()
    again = modalities.from_description(json.loads(json.dumps(kind.describe())))
    assert again.describe() == kind.describe()


@pytest.mark.parametrize("name", object_models.MODELS)
def test_models_fit_into_the_picture(name):
    for seed in range(4):
        rng = np.random.default_rng(seed)
        solids = object_models.draw_object(name, rng)
        (pose,) = object_models.draw_poses(rng, 1)
        view = object_models.render_view(solids, pose, 32)
        assert view.shape == (32, 32, 4)
        opaque = view[..., 3] > 0
        assert 0.03 < opaque.mean() < 0.6
        border = np.concatenate([opaque[[0, -1]].ravel(), opaque[:, 0]])
        assert not border.any()


def test_models_are_diverse():
    pictures = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        solids = object_models.draw_object("chairs", rng)
        view = object_models.render_view(solids, cameras.orbit(0.6, 0.4), 16)
        pictures.append(view / 255.0)
    spread = np.std(pictures, axis=0)
    assert spread[..., 3].max() > 0.3  # shapes
    assert spread[..., :3].max() > 0.2  # colours
