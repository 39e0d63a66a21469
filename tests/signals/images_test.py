"""The image classes: what they draw, load, and how their tasks are made."""

import logging
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from tfmetainit.configs import celeb_a
from tfmetainit.geometry import pixels
from tfmetainit.io.errors import InputError
from tfmetainit.meta.tasks import psnr_from_mse
from tfmetainit.modalities.image import ImageModality
from tfmetainit.runs import build
from tfmetainit.signals import image_folder, images, sdf, text
from tfmetainit.signals.base import folder, image_signal
from tfmetainit.signals.base.generated import BEAM_OPTIONS, GeneratedConfig
from tfmetainit.signals.base.image_signal import ImageSignal
from tfmetainit.signals.base.pipeline import SPLITS, Source


class _GeneratedCase(tfds.testing.DatasetBuilderTestCase):
    SPLITS = {"validation": 6}
    BUILDER_CONFIG_NAMES_TO_TEST = [GeneratedConfig(16, "validation", 6)]
    SKIP_CHECKSUMS = True
    EXAMPLE_DIR = str(pathlib.Path(__file__).parent)  # nothing is read
    __test__ = False

    def test_tags_are_valid(self):
        self.skipTest("only data sets inside TFDS have tags")


class RenderedTextTest(_GeneratedCase):
    DATASET_CLASS = text.RenderedText
    __test__ = True


class SdfShapesTest(_GeneratedCase):
    DATASET_CLASS = sdf.SdfShapes
    __test__ = True


def _draw(draw, count, resolution=32, seed=0):
    return np.stack(
        [
            draw(np.random.default_rng([seed, i]), resolution)
            for i in range(count)
        ]
    )


@pytest.mark.parametrize("draw", [text.render_text, sdf.draw_sdf])
def test_generated_signals_depend_on_their_seed_alone(draw):
    np.testing.assert_array_equal(_draw(draw, 5), _draw(draw, 5))
    assert np.any(_draw(draw, 5) != _draw(draw, 5, seed=1))


def _floors(draw):
    """PSNR in dB of the class-mean image, and of each signal's own mean."""
    values = _draw(draw, 300, 64) / 255.0
    to_class = np.mean((values - values.mean(axis=0)) ** 2, axis=(1, 2, 3))
    own_mean = values.mean(axis=(1, 2), keepdims=True)
    to_own = np.mean((values - own_mean) ** 2, axis=(1, 2, 3))
    return psnr_from_mse(to_class).mean(), psnr_from_mse(to_own).mean()


def test_signals_are_diverse():
    """The figures that the docstrings of the draw functions state."""
    np.testing.assert_allclose(
        _floors(text.render_text), [12.4, 19.1], atol=0.4
    )
    np.testing.assert_allclose(_floors(sdf.draw_sdf), [16.1, 16.1], atol=0.4)


def _grid(resolution=41):
    axis = np.linspace(-1.0, 1.0, resolution)
    return np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1)


def test_box_and_polygon_agree():
    """The same rectangle as a box and as four vertices, exact either way."""
    center, half, angle = np.array([0.1, -0.2]), np.array([0.5, 0.3]), 0.7
    axes = np.array(
        [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
    )
    corners = [(1, 1), (1, -1), (-1, -1), (-1, 1)]
    vertices = np.array([center + (half * c) @ axes for c in corners])
    np.testing.assert_allclose(
        sdf.box(_grid(), center, half, angle),
        sdf.polygon(_grid(), vertices),
        atol=1e-12,
    )
    np.testing.assert_allclose(
        sdf.polygon(_grid(), vertices[::-1]),
        sdf.polygon(_grid(), vertices),
        atol=1e-12,
    )


def test_box_distance_against_sampled_boundary():
    t = np.linspace(-1.0, 1.0, 4001)
    half = np.array([0.5, 0.3])
    boundary = np.concatenate(
        [np.stack([s * np.ones_like(t), t], -1) for s in (-1, 1)]
        + [np.stack([t, s * np.ones_like(t)], -1) for s in (-1, 1)]
    )
    points = _grid(15)
    gaps = points[..., None, :] - boundary * half
    nearest = np.linalg.norm(gaps, axis=-1).min(axis=-1)
    distance = sdf.box(points, np.zeros(2), half, 0.0)
    np.testing.assert_allclose(np.abs(distance), nearest, atol=1e-3)
    inside = np.all(np.abs(points) < half, axis=-1)
    np.testing.assert_array_equal(distance < -1e-9, inside)


def test_circle_distance():
    points = np.array([[0.0, 0.0], [3.0, 4.0]])
    np.testing.assert_allclose(
        sdf.circle(points, np.zeros(2), 2.0), [-2.0, 3.0]
    )


def test_combined_distances_never_overestimate():
    """A signed distance bound changes by at most the distance moved."""
    for seed in range(20):
        distance = sdf.signed_distance(np.random.default_rng(seed), 32)
        for axis in (0, 1):
            slope = np.abs(np.diff(distance, axis=axis)) * 32
            assert slope.max() <= 1.0 + 1e-9


def test_text_is_visible():
    images_of_text = _draw(text.render_text, 50, 64)
    spread = images_of_text.reshape(50, -1, 3).std(axis=1).max(axis=1)
    assert np.median(spread) > 20


def test_pixel_coords_convention():
    coords = pixels.pixel_coords(2, 4)
    np.testing.assert_allclose(coords[0], [0.0, 0.0])
    np.testing.assert_allclose(coords[1], [0.0, 0.25])  # next column
    np.testing.assert_allclose(coords[4], [0.5, 0.0])  # next row
    assert coords.shape == (8, 2)
    assert coords.dtype == np.float32


def _cropped_in_tensorflow(image, resolution):
    return image_signal.crop_and_resize(tf.constant(image), resolution)


@pytest.mark.parametrize(
    "crop_and_resize", [pixels.crop_and_resize, _cropped_in_tensorflow]
)
def test_crop_and_resize(crop_and_resize):
    image = np.zeros((4, 8, 3), np.float32)
    image[:, 2:6] = 1.0
    result = crop_and_resize(image, 4)
    np.testing.assert_array_equal(result, np.ones((4, 4, 3)))
    exact = np.random.default_rng(0).random((5, 5, 3), np.float32)
    np.testing.assert_allclose(crop_and_resize(exact, 5), exact, atol=1e-6)
    # Antialiasing: a fine checkerboard becomes grey, not aliased.
    board = np.indices((64, 64)).sum(axis=0) % 2
    board = np.repeat(board[..., None], 3, axis=-1).astype(np.float32)
    small = crop_and_resize(board, 8)
    np.testing.assert_allclose(small, 0.5, atol=0.05)


@pytest.mark.parametrize("shape", [(40, 64, 3), (7, 7, 3), (200, 150, 1)])
def test_both_ways_to_resize_agree(shape):
    image = np.random.default_rng(0).random(shape, np.float32)
    np.testing.assert_allclose(
        pixels.crop_and_resize(image, 16),
        _cropped_in_tensorflow(image, 16),
        atol=1e-5,
    )


def _toy_signal(points_per_step=7, count=5):
    """Image i is i / 10 plus its own coordinates, so values tell places."""
    coords = pixels.pixel_coords(4, 4).reshape(4, 4, 2)
    stack = np.stack(
        [
            np.concatenate([coords, np.full((4, 4, 1), i / 10)], axis=-1)
            for i in range(count)
        ]
    ).astype(np.float32)
    source = Source(
        lambda split: tf.data.Dataset.from_tensor_slices(stack),
        lambda image: image,
    )
    return ImageSignal(
        lambda: source,
        resolution=4,
        inner_steps=2,
        points_per_step=points_per_step,
    )


def _take(dataset, count):
    return list(dataset.take(count).as_numpy_iterator())


def test_only_whole_images_share_their_first_step():
    class Jittered(ImageSignal):
        def whole_task(self, values):
            raise NotImplementedError

    class Refused(ImageSignal):
        shares_support = False

    assert _toy_signal(points_per_step=0).shares_support
    assert not _toy_signal(points_per_step=7).shares_support
    assert not Jittered(None, resolution=8).shares_support
    assert not Refused(None, resolution=8).shares_support
    config = celeb_a.get_config()  # paper: all pixels of three images
    signal = _toy_signal(points_per_step=0)
    assert build.build_learner(config, signal).shares_support


def test_random_points_carry_their_own_values():
    (tasks,) = _take(_toy_signal().make_dataset("train", 3), 1)
    assert tasks.support.inputs.shape == (3, 2, 7, 2)
    assert tasks.query.values.shape == (3, 7, 3)
    for observed in (tasks.support, tasks.query):
        np.testing.assert_allclose(
            observed.values[..., :2], observed.inputs, atol=1e-6
        )
    # Fresh points at each step, and one image a task.
    assert np.any(tasks.support.inputs[:, 0] != tasks.support.inputs[:, 1])
    for index in range(3):
        assert len(np.unique(tasks.support.values[index, ..., 2])) == 1


def test_random_points_are_spread_out():
    """Four of sixteen pixels: one of each quarter, each as often as others."""
    signal = _toy_signal(points_per_step=4)
    drawn = [
        task.query.inputs[0]
        for task in _take(signal.make_dataset("train", 1), 400)
    ]
    quarters = np.floor(2.0 * np.stack(drawn)) @ [2.0, 1.0]
    np.testing.assert_array_equal(np.sort(quarters), [range(4)] * len(drawn))
    pixels_drawn = np.rint(4.0 * np.concatenate(drawn)) @ [4.0, 1.0]
    counts = np.bincount(pixels_drawn.astype(int), minlength=16)
    assert counts.min() > 60
    assert counts.max() < 140


@pytest.mark.parametrize("points_per_step", [0, 7])
def test_queries_between_pixels_have_values_between(points_per_step):
    """The image's values are its coordinates: so are those interpolated."""
    signal = _toy_signal(points_per_step)
    signal.query_between = 1.0
    tasks = _take(signal.make_dataset("train", 1), 50)
    coords = np.concatenate([task.query.inputs[0] for task in tasks])
    values = np.concatenate([task.query.values[0] for task in tasks])
    # Beyond its last pixels the image goes on as it ends.
    np.testing.assert_allclose(
        values[:, :2], np.minimum(coords, 0.75), atol=1e-6
    )
    assert coords.min() >= 0.0
    assert 0.95 < coords.max() < 1.0
    fractions = np.histogram(4.0 * coords % 1.0, bins=4, range=(0, 1))[0]
    assert fractions.min() > 0.15 * coords.size
    for task in tasks:  # what is adapted to is seen at the pixels
        places = 4.0 * task.support.inputs
        np.testing.assert_allclose(places, np.rint(places), atol=1e-6)


def test_a_share_of_the_query_lies_between_pixels():
    signal = _toy_signal(points_per_step=0)
    signal.query_between = 0.25
    tasks = _take(signal.make_dataset("train", 1), 100)
    places = 4.0 * np.concatenate([task.query.inputs[0] for task in tasks])
    off = np.mean(np.any(places != np.rint(places), axis=-1))
    assert 0.2 < off < 0.3


def test_between_four_pixels():
    signal = _toy_signal()
    ((task,), *_) = (
        [tf.nest.map_structure(lambda leaf: leaf[0], batch)]
        for batch in signal.make_dataset("test", 1)
    )
    between = signal.between(task)
    assert between.support is task.support
    inputs, values = between.query
    assert inputs.shape == (9, 2)
    np.testing.assert_allclose(inputs[:2], [[1 / 8, 1 / 8], [1 / 8, 3 / 8]])
    np.testing.assert_allclose(values[:, :2], inputs, atol=1e-6)


def test_interpolation_is_that_of_a_slow_loop():
    rng = np.random.default_rng(0)
    image = rng.random((5, 3, 2), np.float32)
    places = rng.random((40, 2), np.float32) * np.float32([4, 2])
    places[:3] = [[0, 0], [4, 2], [4, 0.5]]
    wanted = np.zeros((40, 2))
    for n, place in enumerate(places):
        for row, column in np.ndindex(5, 3):
            near = np.maximum(0.0, 1.0 - np.abs(place - [row, column]))
            wanted[n] += near.prod() * image[row, column]
    found = image_signal._interpolate(tf.constant(image), places)
    np.testing.assert_allclose(found, wanted, atol=1e-6)


@pytest.mark.parametrize("side", [1, 5, 8])
def test_z_order_visits_each_pixel_once(side):
    order = pixels.z_order(side)
    np.testing.assert_array_equal(np.sort(order), np.arange(side * side))
    if side == 8:
        assert order[:8].tolist() == [0, 1, 8, 9, 2, 3, 10, 11]


def test_training_data_depend_on_the_seed_alone():
    signal = _toy_signal()
    first, again, other = (
        _take(signal.make_dataset("train", 2, seed=s), 6) for s in (1, 1, 2)
    )
    for a, b in zip(tf.nest.flatten(first), tf.nest.flatten(again)):
        np.testing.assert_array_equal(a, b)
    assert np.any(first[0].query.inputs != other[0].query.inputs)


def test_start_goes_on_where_a_run_was_stopped():
    signal = _toy_signal()
    whole = _take(signal.make_dataset("train", 2, seed=3), 7)
    rest = _take(signal.make_dataset("train", 2, seed=3, start=4), 3)
    for a, b in zip(tf.nest.flatten(whole[4:]), tf.nest.flatten(rest)):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("start", [0, 2])
def test_shards_are_together_the_whole(start):
    """Of each batch of four, two workers make two tasks each."""
    signal = _toy_signal()
    whole = _take(signal.make_dataset("train", 4, seed=3, start=start), 5)
    shares = [
        _take(
            signal.make_dataset(
                "train", 2, seed=3, start=start, shard=(index, 2)
            ),
            5,
        )
        for index in (0, 1)
    ]
    for batch, even, odd in zip(whole, *shares):
        leaves = zip(*map(tf.nest.flatten, (batch, even, odd)))
        for all_four, one, other in leaves:
            np.testing.assert_array_equal(all_four[::2], one)
            np.testing.assert_array_equal(all_four[1::2], other)


def test_evaluation_uses_all_pixels_in_order():
    signal = _toy_signal()
    batches = _take(signal.make_dataset("test", 2), 9)
    assert len(batches) == 2  # a rest of one is dropped
    assert batches[0].support.values.shape == (2, 1, 16, 3)
    np.testing.assert_allclose(batches[0].query.values[:, 0, 2], [0.0, 0.1])
    assert signal.picture(batches[0].query.values[0]).shape == (4, 4, 3)


def test_render_at_any_resolution():
    signal = _toy_signal()
    picture = signal.render(lambda c: tf.concat([c, c[:, :1]], 1), 3, 5)
    assert picture.shape == (3, 5, 3)
    # The middle of both, which lies between the middle two of 4 pixels.
    np.testing.assert_allclose(picture[1, 2, :2], 1.5 / 4, atol=1e-6)


def test_a_rendering_of_another_size_covers_the_same_area():
    """A picture made small, as an ideal field, is not displaced by it."""
    rows, columns = np.mgrid[:64, :64] / 64.0
    large = np.stack([rows, columns, np.sin(9.0 * rows)], axis=-1)
    small = pixels.crop_and_resize(large, 16)

    def field(coords):
        places = tf.constant(16.0 * coords)
        return image_signal._interpolate(tf.constant(small), places).numpy()

    kind = ImageModality(16)
    np.testing.assert_allclose(kind.render(field, 16, 16), small, atol=1e-6)
    enlarged = kind.render(field, 64, 64)
    inner = slice(8, -8)
    np.testing.assert_allclose(
        enlarged[inner, inner, :2], large[inner, inner, :2], atol=1e-5
    )
    np.testing.assert_allclose(
        kind.render(field, 8, 8)[1:-1, 1:-1, :2],
        pixels.crop_and_resize(large, 8)[1:-1, 1:-1, :2],
        atol=1e-5,
    )


def test_grey_images_are_told_how_to_become_rgb():
    signal = _toy_signal()
    with pytest.raises(InputError, match="3 channels .* Received: 1"):
        signal.make_task(
            tf.zeros([4, 4, 1]), 0, tf.constant([0, 0]), training=False
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resolution": 1}, "config.signal.resolution must lie in"),
        (
            {"resolution": 8, "points_per_step": -1},
            "signal.points_per_step must lie in",
        ),
        (
            {"resolution": 8, "query_between": 1.5},
            "signal.query_between must lie in",
        ),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(InputError, match=message):
        ImageSignal(None, **options)
    with pytest.raises(InputError, match="`split` must be one of"):
        _toy_signal().make_dataset("dev", 1)


def test_generated_config_limits():
    with pytest.raises(InputError, match="config.signal.num_train must lie in"):
        GeneratedConfig(64, "train", 0)
    with pytest.raises(InputError, match="config.signal.num_eval must lie in"):
        text.make_signal_class(resolution=64, num_eval=0)


def test_a_split_is_drawn_when_it_is_asked_for(tmp_path):
    signal = text.make_signal_class(
        resolution=16, num_train=9, num_eval=2, data_dir=str(tmp_path)
    )
    folder = tmp_path / "rendered_text"
    for split, size in (("test", 2), ("train", 9)):
        (task,) = _take(signal.make_dataset(split, 1), 1)
        assert task.query.values.shape[-1] == 3
        drawn = {path.name for path in folder.glob("r16_*") if path.is_dir()}
        assert f"r16_{split}{size}_s0" in drawn
    assert len(drawn) == 2


@pytest.mark.parametrize("dataset", ["celeb_a", "imagenette/320px-v2"])
def test_tfds_images(dataset, tmp_path):
    with tfds.testing.mock_data(num_examples=6):
        signal = images.make_signal_class(
            dataset=dataset,
            resolution=24,
            data_dir=str(tmp_path),
            points_per_step=10,
        )
        (tasks,) = _take(signal.make_dataset("train", 2), 1)
        (whole,) = _take(signal.make_dataset("test", 1), 1)
    assert tasks.support.values.shape == (2, 2, 10, 3)
    assert whole.query.values.shape == (1, 24 * 24, 3)
    assert whole.query.values.min() >= 0.0
    assert 0.1 < whole.query.values.max() <= 1.0


def test_tfds_images_that_cannot_be_had(tmp_path, monkeypatch):
    def offline(self, **kwargs):
        # TFDS itself tries for some minutes before it raises.
        raise ConnectionError("no route to host")

    monkeypatch.setattr(
        tfds.core.DatasetBuilder, "download_and_prepare", offline
    )
    with pytest.raises(InputError, match="`dataset` must be one of"):
        images.make_signal_class(dataset="mnist")
    signal = images.make_signal_class(dataset="celeb_a", data_dir=str(tmp_path))
    with pytest.raises(InputError) as error:
        signal.make_dataset("train", 1)
    assert "cannot be downloaded (no route to host)" in str(error.value)
    assert "config.signal.data_dir" in str(error.value)
    assert "config.signal.manual_dir" in str(error.value)


def _fill(folder, count=30):
    rng = np.random.default_rng(0)
    for index in range(count):
        size = rng.integers(8, 30, 2)
        pixels = np.uint8(rng.integers(0, 255, (*size, 3)))
        name = folder / f"{index % 3}" / f"{index}.png"
        name.parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(pixels).save(name)


def test_image_folder(tmp_path, caplog):
    _fill(tmp_path)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a jpeg")
    (tmp_path / "notes.txt").write_text("not an image")
    # A folder elsewhere, and one that has been read already.
    (tmp_path / "0").rename(tmp_path.parent / "elsewhere")
    (tmp_path / "0").symlink_to(tmp_path.parent / "elsewhere")
    (tmp_path / "1" / "again").symlink_to(tmp_path)
    with caplog.at_level(logging.INFO):
        signal = image_folder.make_signal_class(
            folder=str(tmp_path), resolution=8, points_per_step=4
        )
        signal.make_dataset("train", 1)
    assert "30 images read" in caplog.text
    assert "1 files skipped" in caplog.text
    assert "broken.jpg" in caplog.text
    counts = [
        len(list(signal.make_dataset(split, 1)))
        for split in ("validation", "test")
    ]
    assert all(counts)
    (tasks,) = _take(signal.make_dataset("train", 2), 1)
    assert tasks.query.inputs.shape == (2, 4, 2)


def test_an_image_folder_that_is_divided_already(tmp_path):
    """Crops of one photograph must not be in two splits."""
    for value, split in enumerate(SPLITS):
        (tmp_path / split / "photo").mkdir(parents=True)
        image = Image.fromarray(np.full((8, 8), 51 * value, np.uint8))
        for index in range(3):
            image.save(tmp_path / split / "photo" / f"{index}.png")
    image.save(tmp_path / "elsewhere.png")
    signal = image_folder.make_signal_class(folder=str(tmp_path), resolution=8)
    for value, split in enumerate(SPLITS):
        tasks = signal.make_dataset(split, 1)  # that for training has no end
        assert split == "train" or len(list(tasks)) == 3
        for task in tasks.take(3):
            np.testing.assert_allclose(task.query.values, value / 5, atol=1e-6)
    (tmp_path / "validation").rename(tmp_path / "val")
    with pytest.raises(InputError, match="with test, train, val alone"):
        _open_folder(str(tmp_path))
    (tmp_path / "train").rename(tmp_path / "Train")
    with pytest.raises(InputError, match="with Train, test, val alone"):
        _open_folder(str(tmp_path))


def test_image_folder_keeps_16_bits(tmp_path):
    _fill(tmp_path)
    for path in tmp_path.rglob("*.png"):
        path.unlink()
        Image.fromarray(np.full((8, 8), 257, np.uint16)).save(path)
    signal = image_folder.make_signal_class(folder=str(tmp_path), resolution=8)
    (tasks,) = _take(signal.make_dataset("test", 1), 1)
    np.testing.assert_allclose(tasks.query.values, 257 / 65535, atol=1e-6)


def _open_folder(folder):
    signal = image_folder.make_signal_class(folder=folder, resolution=8)
    return signal.make_dataset("test", 1)


def test_image_folder_errors(tmp_path):
    for folder in (str(tmp_path / "missing"), ""):
        with pytest.raises(InputError, match="must name a folder of images"):
            _open_folder(folder)
    _fill(tmp_path, 2)
    with pytest.raises(InputError, match="enough images for a training"):
        _open_folder(str(tmp_path))
    with pytest.raises(InputError, match="at most 4294967296 bytes"):
        folder.read_folder(
            str(tmp_path),
            resolution=40_000,
            suffixes=[".png"],
            read=None,
            channels=3,
        )


def test_a_file_is_read_without_the_class(tmp_path):
    """Fitting a photograph needs none of the training images."""
    Image.fromarray(np.full((6, 9), 51, np.uint8)).save(tmp_path / "a.png")
    for signal in (
        image_folder.make_signal_class(folder="gone", resolution=4),
        text.make_signal_class(resolution=8, data_dir="/proc/nowhere"),
        images.make_signal_class(dataset="celeb_a", resolution=4),
    ):
        task = signal.read_task(tmp_path / "a.png")
        np.testing.assert_allclose(task.query.values, 0.2, atol=1e-6)


def test_a_file_keeps_its_split():
    names = [f"photo_{i}.jpg" for i in range(2000)]
    share = {
        split: sum(folder.split_of(n) == split for n in names) / 2000
        for split in SPLITS
    }
    np.testing.assert_allclose(
        [share[s] for s in SPLITS], [0.8, 0.1, 0.1], atol=0.03
    )
    # Of a name that is not UTF-8, as Python has it, too.
    assert folder.split_of(os.fsdecode(b"caf\xe9.png")) in SPLITS


def test_two_processes_generate_one_data_set(tmp_path):
    program = (
        "from tfmetainit.signals import text\n"
        "signal = text.make_signal_class(resolution=16, num_train=99,\n"
        f"    num_eval=9, data_dir={str(tmp_path)!r})\n"
        "print(len(list(signal.make_dataset('test', 1))))\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for _ in range(2)
    ]
    outputs = [process.communicate()[0].strip() for process in processes]
    assert [output.splitlines()[-1:] for output in outputs] == [["9"], ["9"]]


def test_beam_draws_the_same_signals(tmp_path, monkeypatch):
    pytest.importorskip("apache_beam")
    options = {"resolution": 16, "num_train": 40, "num_eval": 4}
    images = []
    for folder, beam in (("alone", None), ("beam", "--direct_num_workers=1")):
        if beam:
            monkeypatch.setenv(BEAM_OPTIONS, beam)
        signal = sdf.make_signal_class(
            **options, data_dir=str(tmp_path / folder)
        )
        images.append([i.numpy() for i in signal.source.load("train")])
    assert images[0] == images[1]


def test_beam_must_be_installed(tmp_path, monkeypatch):
    monkeypatch.setenv(BEAM_OPTIONS, "")
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    signal = sdf.make_signal_class(resolution=16, data_dir=str(tmp_path))
    with pytest.raises(InputError, match="pip install apache-beam"):
        signal.source.load("train")
