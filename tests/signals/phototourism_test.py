"""Photographs of a landmark: halves, collections, films."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfmetainit.fields import networks
from tfmetainit.io.errors import InputError
from tfmetainit.meta.functional import get_params
from tfmetainit.meta.tasks import FieldLoss
from tfmetainit.signals import phototourism
from tfmetainit.synthetic import landmark_model, ray_casting

_SIDE = 12


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("landmark"))


def _signal(data_dir=None, **options):
    if data_dir:
        options = {"data_dir": data_dir, "num_train": 4, **options}
        options = {"num_eval": 1, **options}  # TFDS shuffles what it writes
    return phototourism.make_signal_class(
        **{
            "resolution": _SIDE,
            "num_samples": 6,
            "rays_per_step": 9,
            "query_rays": 20,
            "inner_steps": 3,
            "eval_batches": 40,
            **options,
        }
    )


def _first(signal, split):
    (batch,) = signal.make_dataset(split, 1).take(1)
    return tf.nest.map_structure(lambda leaf: leaf[0].numpy(), batch)


def _pixels(rays, camera):
    """Pixels (row, column) that rays go through, `[n, 2]`."""
    in_camera = rays[:, 3:6] @ np.asarray(camera.pose)[:3, :3]
    np.testing.assert_allclose(in_camera[:, 2], 1.0, atol=1e-5)
    points = in_camera[:, :2] * camera.focal + camera.principal_point
    return np.asarray(points)[:, ::-1]


def _test_photograph():
    return landmark_model.draw_photograph(
        np.random.default_rng([0, 2, 0]),  # seed, split, index
        _SIDE,
    )


def test_the_left_half_is_observed_and_the_right_half_scored(data_dir):
    image, camera = _test_photograph()
    task = _first(_signal(data_dir), "test")
    rays = task.support.inputs.reshape(-1, 12)
    rows, columns = _pixels(rays, camera).T
    assert columns.min() > -0.01
    assert columns.max() < 5.01
    rows = np.round(rows).astype(int)
    np.testing.assert_allclose(
        task.support.values.reshape(-1, 3),
        image[rows, np.round(columns).astype(int)] / 255.0,
        atol=1e-6,
    )
    _, columns = _pixels(task.query.inputs, camera).T
    np.testing.assert_allclose(
        columns, np.tile(np.arange(6, 12), _SIDE), atol=1e-3
    )
    np.testing.assert_allclose(
        task.query.values.reshape(_SIDE, 6, 3),
        image[:, 6:] / 255.0,
        atol=1e-6,
    )
    assert _signal(data_dir).picture(task.query.values).shape == (12, 6, 3)


def test_a_ray_meets_what_was_photographed(data_dir):
    """The sky or the building, as the ray caster says of the same ray."""
    task = _first(_signal(data_dir), "test")
    rays = task.query.inputs
    seen = ray_casting.cast(
        landmark_model.landmark(), rays[:, :3], rays[:, 3:6]
    )
    hit = seen[:, 3] > 0.0
    assert 0.1 < hit.mean() < 0.95
    # One sky, nearly one colour; the building has many.
    values = task.query.values
    assert values[~hit].std(axis=0).mean() < values[hit].std(axis=0).mean()


@pytest.mark.parametrize(
    ("train_on", "observed_to"), [("photographs", 11), ("halves", 5)]
)
def test_what_training_observes(data_dir, train_on, observed_to):
    signal = _signal(data_dir, train_on=train_on, num_train=1)
    task = _first(signal, "train")
    camera = signal.first_views("train", 1)[0].camera
    camera = camera._replace(pose=camera.pose[0])
    for observed, last in (
        (task.support.inputs.reshape(-1, 12), observed_to),
        (task.query.inputs, 11),
    ):
        _, columns = _pixels(observed, camera).T
        assert columns.min() > -0.01
        assert last - 3 < columns.max() < last + 0.01


def test_interpolation_starts_and_ends_at_the_photographs(data_dir):
    signal = _signal(data_dir, num_eval=2)
    field = networks.SimplifiedNeRF(3, 4, hidden_layers=2, hidden_units=8)
    loss = FieldLoss(field, signal.query_model)
    one = get_params(field)
    two = [p + 0.1 for p in one]
    frames = signal.films(loss, [one, two])["interpolation"]
    assert len(frames) == 24
    assert frames[0].shape == (12, 24, 3)
    views = signal.first_views("test", 1)[0]
    rays = signal.view_rays(views.camera.pose[0], views)
    for index, params in ((0, one), (12, two)):
        expected = loss.predict(params, rays).numpy().reshape(12, 12, 3)
        np.testing.assert_allclose(frames[index][:, :12], expected, atol=1e-5)
        assert np.all((frames[index] >= 0.0) & (frames[index] <= 1.0))


def test_photographs_differ_in_light_and_look_like_a_building():
    rng = np.random.default_rng(3)
    images = [landmark_model.draw_photograph(rng, 32)[0] for _ in range(12)]
    means = np.array([image.mean(axis=(0, 1)) for image in images])
    assert means.std(axis=0).min() > 15.0  # of 255
    for image in images:
        # Neither all sky nor all building.
        assert image.std() > 8.0


def _collection(folder, count, rng):
    (folder / "images").mkdir(parents=True)
    poses = []
    for index in range(count):
        image = np.uint8(rng.integers(0, 255, (10, 14, 3)))
        Image.fromarray(image).save(folder / "images" / f"{index:03d}.png")
        poses.append(landmark_model.draw_pose(rng))
    intrinsic = np.array([[12.0, 0, 7], [0, 12, 5], [0, 0, 1]])
    np.save(folder / "c2w_mats.npy", poses)
    np.save(folder / "kinv_mats.npy", [np.linalg.inv(intrinsic)] * count)
    np.save(folder / "bds.npy", [[1.0, 3.0]] * count)
    return np.array(poses)


def test_a_collection_in_a_folder(tmp_path):
    poses = _collection(tmp_path, 27, np.random.default_rng(0))
    signal = _signal(folder=str(tmp_path), scale=0.5)
    origins = {
        split: [
            batch.query.inputs[0, 0, :3].numpy()
            for batch in signal.make_dataset(split, 1)
        ]
        for split in ("validation", "test")
    }
    np.testing.assert_allclose(origins["test"], 0.5 * poses[:20, :3, 3])
    np.testing.assert_allclose(origins["validation"], 0.5 * poses[20:25, :3, 3])
    trained_on = [
        batch.query.inputs[0, 0, 0].numpy()
        for batch in signal.make_dataset("train", 1).take(2)
    ]
    np.testing.assert_allclose(
        np.sort(trained_on), np.sort(0.5 * poses[25:, 0, 3]), atol=1e-6
    )
    # Depths lie between the photograph's own bounds.
    depths = _first(signal, "train").support.inputs[..., 6:]
    assert depths.min() >= 0.5 * 0.9 - 1e-6
    assert depths.max() <= 0.5 * 3.0 * 1.2


def test_what_is_refused(tmp_path, raises_with):
    with raises_with(InputError, "`train_on`", "thirds"):
        _signal(train_on="thirds")
    with raises_with(InputError, "`scale`", "0.0"):
        _signal(scale=0.0)
    with raises_with(TypeError, "nmu_train"):
        _signal(nmu_train=3)
    _collection(tmp_path, 25, np.random.default_rng(0))
    signal = _signal(folder=str(tmp_path))
    with raises_with(InputError, tmp_path, "25"):
        signal.make_dataset("train", 1)
