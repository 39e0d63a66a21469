"""The objects' data: what is observed, and what is held out."""

import json
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfmetainit.fields import networks
from tfmetainit.geometry import cameras
from tfmetainit.io.errors import InputError
from tfmetainit.meta.functional import get_params
from tfmetainit.meta.tasks import FieldLoss
from tfmetainit.signals import objects
from tfmetainit.synthetic import object_models, ray_casting


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("objects"))


def _signal(data_dir, **options):
    return objects.make_signal_class(
        **{
            "kind": "lamps",
            "resolution": 12,
            "num_train": 4,
            "num_eval": 1,  # TFDS shuffles what it writes
            "data_dir": data_dir,
            "num_samples": 6,
            "rays_per_step": 9,
            "query_rays": 20,
            "inner_steps": 3,
            "eval_batches": 5,
            "scored_views": 2,
            **options,
        }
    )


def _tasks(signal, split, count, **options):
    dataset = signal.make_dataset(split, 1, **options).take(count)
    return [tf.nest.map_structure(lambda leaf: leaf[0], b) for b in dataset]


def _rays(pose, angle):
    """Origins and directions of all pixels of a view, `[144, 6]`."""
    camera = cameras.centred(pose, 12, 12, angle)
    grid = cameras.pixel_grid(12, 12)
    return np.concatenate(cameras.pixel_rays(grid, camera), axis=-1)


def test_shapes(data_dir):
    (task,) = _tasks(_signal(data_dir), "train", 1)
    assert task.support.inputs.shape == (3, 9, 12)
    assert task.support.values.shape == (3, 9, 3)
    assert task.query.inputs.shape == (20, 12)
    (task,) = _tasks(_signal(data_dir), "test", 1)
    assert task.support.inputs.shape == (5, 9, 12)
    assert task.query.inputs.shape == (2 * 144, 12)


def test_rays_carry_the_colours_they_meet(data_dir):
    """The first test lamp drawn again: its rays are cast, not looked up."""
    rng = np.random.default_rng([0, 2, 0])  # seed, split, index
    solids = object_models.draw_object("lamps", rng)
    (task,) = _tasks(_signal(data_dir, eval_batches=40), "test", 1)
    rays = task.support.inputs.numpy().reshape(-1, 12)
    colors = task.support.values.numpy().reshape(-1, 3)
    seen = ray_casting.cast(solids, rays[:, :3], rays[:, 3:6])
    expected = seen[:, :3] + 1.0 - seen[:, 3:]
    # Pixels are averages over their area: those on an edge differ.
    error = np.abs(expected - colors).mean()
    assert np.mean(np.abs(expected - colors).max(axis=1) < 0.02) > 0.75
    assert error < 0.25 * np.abs(expected - np.roll(colors, 1, axis=0)).mean()


def test_inputs_and_held_out_views_are_apart(data_dir):
    rng = np.random.default_rng([0, 2, 0])
    object_models.draw_object("lamps", rng)
    poses = object_models.draw_poses(rng, objects.NUM_VIEWS)
    (task,) = _tasks(_signal(data_dir, eval_views=(1,)), "test", 1)
    origins = task.support.inputs.numpy().reshape(-1, 12)[:, :3]
    np.testing.assert_allclose(origins - poses[0, :3, 3], 0.0, atol=1e-5)
    held_out = task.query.inputs.numpy().reshape(2, 144, 12)[:, 0, :3]
    np.testing.assert_allclose(held_out, poses[25:27, :3, 3], atol=1e-5)
    signal = _signal(data_dir, eval_views=(1, 25))
    assert list(signal.conditions()) == ["1 view", "25 views"]
    several = signal.conditions()["25 views"]
    (task,) = _tasks(several, "test", 1)
    assert len(np.unique(task.support.inputs.numpy()[..., 0])) > 5
    # The picture: the held-out views beside one another.
    assert several.picture(task.query.values).shape == (12, 24, 3)


def test_whole_views_are_scored_row_by_row(data_dir):
    signal = _signal(data_dir)
    (task,) = _tasks(signal, "test", 1)
    rng = np.random.default_rng([0, 2, 0])
    object_models.draw_object("lamps", rng)
    pose = object_models.draw_poses(rng, objects.NUM_VIEWS)[25]
    np.testing.assert_allclose(
        task.query.inputs[:144, :6],
        _rays(pose, object_models.CAMERA_ANGLE),
        atol=1e-5,
    )
    np.testing.assert_allclose(
        task.query.inputs[0, 6:], 2.0 + 4.0 * np.arange(6) / 6, atol=1e-5
    )


def test_rays_are_fresh_and_a_function_of_seed_and_position(data_dir):
    signal = _signal(data_dir)
    tasks = _tasks(signal, "train", 6)
    inputs = tasks[0].support.inputs.numpy()
    assert np.any(inputs[0] != inputs[1])
    depths = inputs[..., 6:]
    assert np.all(np.diff(depths, axis=-1) > 0.0)
    again = _tasks(signal, "train", 2, start=4)
    for a, b in zip(tasks[4:], again):
        np.testing.assert_array_equal(a.support.inputs, b.support.inputs)
        np.testing.assert_array_equal(a.query.values, b.query.values)
    other = _tasks(signal, "train", 1, seed=1)
    assert np.any(other[0].support.inputs.numpy() != inputs)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"kind": "boats"}, ["`kind`", "boats"]),
        ({"near": 6.0}, ["`near`", "`far`", "6.0"]),
        ({"train_views": 26}, ["`train_views`", "[1, 25]", "26"]),
        ({"eval_views": ()}, ["`eval_views`"]),
        ({"num_samples": 1}, ["`num_samples`"]),
        ({"angle": 0.5}, ["`angle`", "0.69", "0.5"]),
    ],
)
def test_bad_options(data_dir, options, parts, raises_with):
    with raises_with(ValueError, *parts):
        _signal(data_dir, **options)


def test_a_turntable_shows_the_object_from_all_sides(data_dir):
    """A red ball on the x axis is near, at the right, far, at the left."""

    class Ball(networks.SimplifiedNeRF):
        def call(self, points):
            inside = tf.reduce_sum((points - [0.8, 0.0, 0.0]) ** 2, axis=-1)
            density = 1e3 * tf.cast(inside < 0.3, tf.float32)
            color = tf.ones_like(points) * [1.0, 0.0, 0.0]
            return tf.concat([color, density[..., None]], axis=-1)

    signal = _signal(data_dir, num_samples=40, near=2.8, far=5.2)
    ball = Ball(hidden_layers=1, hidden_units=4)
    loss = FieldLoss(ball, signal.query_model)
    params = get_params(ball)
    frames = signal.films(loss, [params])["turntable"]
    assert len(frames) == 24
    assert frames[0].shape == (12, 24, 3)
    middles, depths = [], []
    for frame in frames[::6]:
        view, depth = frame[:, :12], frame[:, 12:, 0]
        red = view[..., 1] < 0.5
        assert red.any()
        middles.append(np.flatnonzero(red.any(axis=0)).mean())
        depths.append(depth[red].mean())
    # From +x, +y, -x and -y: the nearer, the whiter.
    assert depths[0] > depths[1] > depths[2]
    assert middles[1] < middles[0] < middles[3]


# ---- Folders in the authors' layout -----------------------------------------


def _folder(root, count=objects.NUM_VIEWS):
    """Three small objects, one for each split."""
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        (root / name).mkdir(parents=True)
        solids = object_models.draw_object("cars", rng)
        frames = []
        for index, pose in enumerate(object_models.draw_poses(rng, count)):
            view = object_models.render_view(solids, pose, 12)
            Image.fromarray(view).save(root / name / f"{index}.png")
            frames.append(
                {
                    "file_path": str(index),
                    "transform_matrix": cameras.swap_opengl(pose).tolist(),
                }
            )
        content = {"camera_angle_x": 0.69, "frames": frames}
        (root / name / "transforms.json").write_text(json.dumps(content))
    splits = {"train": ["a"], "val": ["b"], "test": ["c"]}
    (root / "cars_splits.json").write_text(json.dumps(splits))
    return str(root)


def test_another_angle_is_named(tmp_path, raises_with):
    folder = _folder(tmp_path)
    path = tmp_path / "c" / "transforms.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "camera_angle_x": 0.86}))
    signal = _from_folder(folder)
    with raises_with(Exception, "`angle`", "0.69", "c/transforms.json"):
        _tasks(signal, "test", 1)
    signal = _signal(None, kind="cars", folder=folder, angle=0.86)
    (task,) = _tasks(signal, "test", 1)
    pose = np.array(
        json.loads(path.read_text())["frames"][25]["transform_matrix"]
    )
    np.testing.assert_allclose(
        task.query.inputs[:144, :6],
        _rays(cameras.swap_opengl(pose), 0.86),
        atol=1e-5,
    )
    assert signal.describe()["angle"] == 0.86


def _from_folder(folder):
    return _signal(None, kind="cars", folder=folder)


def test_a_folder_gives_what_the_generator_gives(tmp_path):
    signal = _from_folder(_folder(tmp_path))
    (task,) = _tasks(signal, "test", 9)
    frames = json.loads((tmp_path / "c" / "transforms.json").read_text())
    pose = np.array(frames["frames"][25]["transform_matrix"])
    np.testing.assert_allclose(
        task.query.inputs[:144, :6],
        _rays(cameras.swap_opengl(pose), 0.69),
        atol=1e-5,
    )
    rgba = np.asarray(Image.open(tmp_path / "c" / "25.png")) / 255.0
    white = rgba[..., :3] * rgba[..., 3:] + 1.0 - rgba[..., 3:]
    np.testing.assert_allclose(
        task.query.values[:144], white.reshape(-1, 3), atol=1e-5
    )
    (task,) = _tasks(signal, "train", 1)
    assert task.support.inputs.shape == (3, 9, 12)


def test_folders_that_contradict_themselves(tmp_path, raises_with):
    with raises_with(InputError, "cars_splits.json"):
        _from_folder(str(tmp_path)).make_dataset("test", 1)
    folder = _folder(tmp_path / "a")
    splits = tmp_path / "a" / "cars_splits.json"
    splits.write_text(json.dumps({"train": ["a"], "val": ["b"]}))
    with raises_with(InputError, splits, "another test"):
        _from_folder(folder).make_dataset("test", 1)
    splits.write_text(json.dumps({"train": ["a"], "val": ["b"], "test": ["z"]}))
    with raises_with(InputError, splits, "1 objects", "/z"):
        _from_folder(folder).make_dataset("test", 1)


def test_a_folder_without_a_file_of_splits(tmp_path, raises_with):
    """Folders for splits, as those of SRN's cars; or hashes of the names."""
    folder = pathlib.Path(_folder(tmp_path / "data"))
    expected = _tasks(_from_folder(str(folder)), "test", 1)
    (folder / "cars_splits.json").unlink()
    assert len(_tasks(_from_folder(str(folder)), "test", 9)) == 1
    for name, split in zip("abc", ("cars_train", "cars_val", "cars_test")):
        (folder / split).mkdir()
        (folder / name).rename(folder / split / name)
    (task,) = _tasks(_from_folder(str(folder)), "test", 9)
    np.testing.assert_array_equal(task.query.values, expected[0].query.values)
    shutil.rmtree(folder / "cars_val")
    shutil.rmtree(folder / "cars_train")
    with raises_with(InputError, folder, "cars_test", "no train"):
        _from_folder(str(folder)).make_dataset("test", 1)
    (folder / "cars_test").rename(folder / "cars")
    with raises_with(InputError, "cars_splits.json", "1 objects"):
        _from_folder(str(folder)).make_dataset("test", 1)


def test_cameras_of_another_scale(tmp_path, raises_with):
    folder = _folder(tmp_path)
    path = tmp_path / "c" / "transforms.json"
    content = json.loads(path.read_text())
    for frame in content["frames"]:
        for row in frame["transform_matrix"][:3]:
            row[3] *= 10
    path.write_text(json.dumps(content))
    with raises_with(tf.errors.OpError, "`camera_scale`=0.1", path):
        _tasks(_from_folder(folder), "test", 1)
    signal = _signal(None, kind="cars", folder=folder, camera_scale=0.1)
    (task,) = _tasks(signal, "test", 1)
    distance = np.linalg.norm(task.query.inputs[:, :3], axis=-1)
    np.testing.assert_allclose(distance, 4.0, atol=1e-4)


@pytest.fixture
def train_on(run_command, tmp_path):
    """Runs the command `train` on a folder of objects."""
    return lambda folder: run_command(
        "train",
        "--config=configs/objects.py:smoke",
        "--config.signal.kind=cars",
        f"--config.signal.folder={folder}",
        f"--workdir={tmp_path / 'run'}",
    )


def test_missing_views_are_one_sentence(
    tmp_path, train_on, assert_one_sentence
):
    result = train_on(_folder(tmp_path / "data", count=30))
    assert_one_sentence(result, "50", "a/transforms.json", "30", "3 of 3")


def test_missing_pictures_are_found_before_training(tmp_path, raises_with):
    folder = _folder(tmp_path)
    for picture in ("a/7.png", "a/9.png", "b/0.png"):
        (tmp_path / picture).unlink()
    with raises_with(InputError, "2 of 3 objects", "a/transforms.json", "48"):
        _from_folder(folder).make_dataset("test", 1)


def test_a_bad_picture_ends_the_process(tmp_path, train_on):
    """TensorFlow waits for its threads after an error in one of them."""
    folder = _folder(tmp_path / "data")
    picture = tmp_path / "data" / "a" / "7.png"
    picture.write_bytes(picture.read_bytes()[:60])
    result = train_on(folder)
    assert result.returncode == 2
    assert str(picture) in result.stderr
    assert "Traceback" not in result.stderr
