"""Objects and landmarks: files read as rays, and views drawn of fields."""

import json

import numpy as np
import pytest
import tensorflow as tf

from tfmetainit import modalities
from tfmetainit.io.errors import InputError
from tfmetainit.modalities import rays
from tfmetainit.modalities.readers import photo_collections
from tfmetainit.modalities.readers.photo_collections import read_collection
from tfmetainit.synthetic import object_models


def _object():
    return rays.ObjectModality(8, object_models.CAMERA_ANGLE, 2.0, 6.0, 5, 16)


def test_the_object_modality_reads_a_picture(write_picture, tmp_path):
    write_picture(tmp_path / "a.png", (8, 8))
    sample = _object().read(tmp_path / "a.png", pose="10,20")
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
    again = _object().read(tmp_path / "a.png", pose="10,20")
    np.testing.assert_array_equal(sample.inputs, again.inputs)


def test_the_object_modality_reads_several_views(
    write_transforms, raises_with, tmp_path
):
    sample = _object().read(write_transforms(tmp_path))
    assert sample.coords.shape == (3 * 64, 11)
    assert _object().picture(sample.target).shape == (8, 24, 3)
    with raises_with(InputError, "`pose`", "pose=1,2"):
        _object().read(tmp_path / "transforms.json", pose="1,2")
    with raises_with(InputError, "`pose`", "r_0.png"):
        _object().read(tmp_path / "train" / "r_0.png")


def test_a_scene_of_another_scale(write_transforms, raises_with, tmp_path):
    path = write_transforms(tmp_path)
    expected = _object().read(path)
    content = json.loads(path.read_text())
    for frame in content["frames"]:
        for row in frame["transform_matrix"][:3]:
            row[3] *= 10
    path.write_text(json.dumps(content))
    with raises_with(InputError, path, "`camera_scale`=0.1", "`near`"):
        _object().read(path)
    scaled = _object().read(tmp_path, camera_scale="0.1")
    np.testing.assert_allclose(scaled.inputs, expected.inputs, atol=1e-5)
    for wrong in ("0", "ten", "nan"):
        with raises_with(InputError, "`camera_scale`", wrong):
            _object().read(path, camera_scale=wrong)


def test_angles_are_of_a_camera_within_the_bounds(write_picture, tmp_path):
    write_picture(tmp_path / "a.png", (8, 8))
    small = rays.ObjectModality(8, object_models.CAMERA_ANGLE, 0.5, 1.5, 5, 16)
    sample = small.read(tmp_path / "a.png", pose="10,20")
    distance = np.linalg.norm(sample.inputs[..., :3], axis=-1)
    np.testing.assert_allclose(distance, 1.0, atol=1e-6)


def test_the_object_modality_renders_a_turn():
    def predict(rays):
        return tf.fill([len(rays), 3], 0.5).numpy()

    assert _object().render(predict, 4, 6).shape == (4, 24, 3)


@pytest.mark.parametrize(("height", "width"), [(5, 9), (9, 5)])
def test_a_rendering_that_is_no_square_shows_the_trained_view(height, width):
    seen = []

    def predict(rays):
        seen.append(rays[:, 3:6])
        return np.zeros([len(rays), 3], np.float32)

    _object().render(predict, 5, 5)
    square = np.concatenate(seen)[:25]
    seen.clear()
    _object().render(predict, height, width)
    wide = np.concatenate(seen)[: height * width].reshape(height, width, 3)
    inner = wide[(height - 5) // 2 :, (width - 5) // 2 :][:5, :5]
    np.testing.assert_allclose(inner.reshape(-1, 3), square, atol=1e-6)


def test_a_modality_survives_its_description():
    modality = _object()
    again = modalities.from_description(
        json.loads(json.dumps(modality.describe()))
    )
    assert again.describe() == modality.describe()


def _landmark(resolution=6):
    return rays.LandmarkModality(
        resolution=resolution, scale=1.0, num_samples=5, rays_per_step=4
    )


def test_the_landmark_modality_reads_a_photograph(write_matrices, tmp_path):
    write_matrices(tmp_path)
    modality = _landmark()
    photo = tmp_path / "dense" / "images" / "1.jpg"
    sample = modality.read(photo, cameras=tmp_path)
    assert sample.inputs.shape[1:] == (4, 11)
    assert sample.coords.shape == (36, 11)
    assert sample.target.shape == (36, 3)
    camera = read_collection(tmp_path, 1.0)[photo].camera.of_square(6, 8, 6)
    row, column = 2, 5
    point = ([column, row] - camera.principal_point) / camera.focal
    np.testing.assert_allclose(
        sample.coords[row * 6 + column, 3:6],
        camera.pose[:3, :3] @ [*point, 1.0],
        atol=1e-6,
    )
    again = modalities.from_description(modality.describe()).read(
        photo, cameras=tmp_path
    )
    np.testing.assert_array_equal(again.inputs, sample.inputs)
    # Half of the columns is a picture too.
    assert modality.picture(sample.target[:18]).shape == (6, 3, 3)
    seen = modality.render(lambda rays: rays[:, :3], 12, 12, sample.camera)
    assert seen.shape == (12, 12, 3)


def test_what_the_landmark_modality_refuses(
    write_picture, write_text_model, write_matrices, raises_with, tmp_path
):
    write_matrices(tmp_path)
    photo = tmp_path / "dense" / "images" / "1.jpg"
    with raises_with(InputError, "`cameras`", photo):
        _landmark().read(photo)
    write_picture(tmp_path / "other.png")
    with raises_with(InputError, "`cameras`", "other.png", tmp_path):
        _landmark().read(tmp_path / "other.png", cameras=tmp_path)
    write_text_model(tmp_path / "model")
    write_picture(tmp_path / "a.png", (9, 6))
    with raises_with(InputError, tmp_path / "a.png", "9 x 6", "8 x 6"):
        _landmark().read(tmp_path / "a.png", cameras=tmp_path / "model")


def test_pictures_of_one_name_have_cameras_of_their_own(
    write_picture, write_matrices, raises_with, tmp_path, monkeypatch
):
    for light in ("day", "night"):
        (tmp_path / light).mkdir()
        write_picture(tmp_path / light / "1.png")
    write_matrices(tmp_path)
    (photograph, *_) = read_collection(tmp_path, 1.0).values()
    cameras = {
        tmp_path / light / "1.png": photograph._replace(bounds=(1.0, far))
        for light, far in (("day", 2.0), ("night", 3.0))
    }
    monkeypatch.setattr(
        photo_collections, "read_collection", lambda *_: cameras
    )
    photo = tmp_path / "day" / ".." / "night" / "1.png"
    assert _landmark().read(photo, "anything").camera.bounds == (1.0, 3.0)
    write_picture(tmp_path / "1.png")
    with raises_with(InputError, "`cameras`", "1.png", "2 of"):
        _landmark().read(tmp_path / "1.png", "anything")
