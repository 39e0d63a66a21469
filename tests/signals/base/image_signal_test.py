"""Tasks of images: cropping, points, and points between the pixels."""

import numpy as np
import pytest
import tensorflow as tf

from tfmetainit.configs import celeb_a
from tfmetainit.geometry import pixels
from tfmetainit.io.errors import InputError
from tfmetainit.modalities.image import ImageModality
from tfmetainit.runs import build
from tfmetainit.signals.base import image_signal
from tfmetainit.signals.base.image_signal import ImageSignal


def _take(dataset, count):
    return list(dataset.take(count).as_numpy_iterator())


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


@pytest.mark.parametrize("side", [1, 5, 8])
def test_z_order_visits_each_pixel_once(side):
    order = pixels.z_order(side)
    np.testing.assert_array_equal(np.sort(order), np.arange(side * side))
    if side == 8:
        assert order[:8].tolist() == [0, 1, 8, 9, 2, 3, 10, 11]


def test_only_whole_images_share_their_first_step(toy_signal):
    class Jittered(ImageSignal):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            self.shares_support = False

    assert toy_signal(points_per_step=0).shares_support
    assert not toy_signal(points_per_step=7).shares_support
    config = celeb_a.get_config()  # paper: all pixels of three images
    signal = toy_signal(points_per_step=0)
    assert build.build_learner(config, signal).shares_support
    jittered = Jittered(None, resolution=8)
    assert not build.build_learner(config, jittered).shares_support


def test_random_points_carry_their_own_values(toy_signal):
    (tasks,) = _take(toy_signal().make_dataset("train", 3), 1)
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


def test_random_points_are_spread_out(toy_signal):
    """Four of sixteen pixels: one of each quarter, each as often as others."""
    signal = toy_signal(points_per_step=4)
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
def test_queries_between_pixels_have_values_between(
    points_per_step, toy_signal
):
    """The image's values are its coordinates: so are those interpolated."""
    signal = toy_signal(points_per_step)
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


def test_a_share_of_the_query_lies_between_pixels(toy_signal):
    signal = toy_signal(points_per_step=0)
    signal.query_between = 0.25
    tasks = _take(signal.make_dataset("train", 1), 100)
    places = 4.0 * np.concatenate([task.query.inputs[0] for task in tasks])
    off = np.mean(np.any(places != np.rint(places), axis=-1))
    assert 0.2 < off < 0.3


def test_between_four_pixels(toy_signal):
    signal = toy_signal()
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


def test_evaluation_uses_all_pixels_in_order(toy_signal):
    signal = toy_signal()
    batches = _take(signal.make_dataset("test", 2), 9)
    assert len(batches) == 2  # a rest of one is dropped
    assert batches[0].support.values.shape == (2, 1, 16, 3)
    np.testing.assert_allclose(batches[0].query.values[:, 0, 2], [0.0, 0.1])
    assert signal.picture(batches[0].query.values[0]).shape == (4, 4, 3)


def test_render_at_any_resolution(toy_signal):
    signal = toy_signal()
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

    modality = ImageModality(16)
    np.testing.assert_allclose(modality.render(field, 16, 16), small, atol=1e-6)
    enlarged = modality.render(field, 64, 64)
    inner = slice(8, -8)
    np.testing.assert_allclose(
        enlarged[inner, inner, :2], large[inner, inner, :2], atol=1e-5
    )
    np.testing.assert_allclose(
        modality.render(field, 8, 8)[1:-1, 1:-1, :2],
        pixels.crop_and_resize(large, 8)[1:-1, 1:-1, :2],
        atol=1e-5,
    )


def test_grey_images_are_told_how_to_become_rgb(toy_signal, raises_with):
    signal = toy_signal()
    with raises_with(InputError, "3 channels", "Received: 1"):
        signal.make_task(
            tf.zeros([4, 4, 1]), 0, tf.constant([0, 0]), training=False
        )


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"resolution": 1}, ["`resolution`"]),
        (
            {"resolution": 8, "points_per_step": -1},
            ["`points_per_step`", "-1"],
        ),
        ({"resolution": 8, "query_between": 1.5}, ["`query_between`", "1.5"]),
    ],
)
def test_wrong_options_are_named(options, parts, toy_signal, raises_with):
    with raises_with(InputError, *parts):
        ImageSignal(None, **options)
    with raises_with(InputError, "`split`", "dev"):
        toy_signal().make_dataset("dev", 1)
