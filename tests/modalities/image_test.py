"""Pictures as observations, whole or with missing pixels."""

import numpy as np
import pytest

from tfmetainit import fit
from tfmetainit.geometry import pixel_coords
from tfmetainit.io import images
from tfmetainit.io.errors import InputError
from tfmetainit.modalities.image import ImageModality


@pytest.fixture
def write(tmp_path):
    def make(name, array):
        images.write_image(tmp_path / name, np.asarray(array, np.uint8))
        return tmp_path / name

    return make


def _random(*shape):
    return np.random.default_rng(0).integers(0, 256, shape)


def test_without_a_mask_all_pixels_are_observed_and_known(write):
    pixels = _random(8, 8, 3)
    sample = ImageModality(8).read(write("a.png", pixels), crop=False)
    assert sample.camera == (8, 8)
    np.testing.assert_allclose(sample.values[0], pixels.reshape(-1, 3) / 255)
    np.testing.assert_array_equal(sample.target, sample.values[0])


def test_any_proportion_fills_the_square(write, raises_with):
    pixels = np.repeat(_random(8, 2, 3), 6, axis=1)
    sample = ImageModality(8).read(write("a.png", pixels), crop=False)
    assert sample.camera == (8, 12)
    np.testing.assert_array_equal(sample.coords, pixel_coords(8, 8))
    # Rows are as they were; the halves of each row, too.
    square = sample.values.reshape(8, 8, 3)
    np.testing.assert_allclose(square[:, [0, -1]], pixels[:, [0, -1]] / 255)
    long = write("b.png", _random(2, 33, 3))
    with raises_with(InputError, "b.png", "33 x 2", "16"):
        ImageModality(8).read(long, crop=False)
    assert ImageModality(8).read(long).camera == (8, 8)


def test_what_a_mask_leaves_is_observed(write):
    pixels, mask = _random(8, 8, 3), 255 * (_random(8, 8, 1) > 100)
    sample = ImageModality(8).read(
        write("a.png", pixels), mask=str(write("mask.png", mask))
    )
    there = mask[..., 0] > 0
    rows, columns = np.nonzero(there)
    np.testing.assert_allclose(
        sample.inputs[0], np.stack([rows, columns], axis=-1) / 8
    )
    np.testing.assert_allclose(sample.values[0], pixels[there] / 255, atol=1e-6)
    assert sample.coords.shape == (64, 2)
    assert sample.target is None


def test_a_mask_is_resized_with_its_picture(write):
    pixels, mask = _random(8, 16, 3), np.full((8, 16, 1), 255)
    mask[:, :8] = 0
    path, mask = write("a.png", pixels), str(write("mask.png", mask))
    sample = ImageModality(8).read(path, crop=False, mask=mask)
    assert sample.camera == (8, 16)
    assert set(sample.inputs[0, :, 1] * 8) == {4, 5, 6, 7}
    assert set(sample.missing[:, 1] * 8) == {0, 1, 2, 3}
    cropped = ImageModality(8).read(path, mask=mask)
    assert set(cropped.inputs[0, :, 1] * 8) == {4, 5, 6, 7}
    np.testing.assert_allclose(
        cropped.values.reshape(8, 4, 3), pixels[:, 8:12] / 255, atol=1e-6
    )


def test_a_smaller_pixel_is_made_of_those_that_are_there(write):
    """Missing pixels are bright, and bleed into none."""
    pixels = np.full((16, 16, 3), 100)
    mask = np.full((16, 16, 1), 255)
    mask[3:13:4, 2::3] = 0
    pixels[mask[..., 0] == 0] = 255
    sample = ImageModality(8).read(
        write("a.png", pixels), mask=str(write("mask.png", mask))
    )
    np.testing.assert_allclose(sample.values, 100 / 255, atol=1e-5)
    assert 50 < sample.values.shape[1] <= 64


@pytest.mark.parametrize(
    ("mask", "parts"),
    [
        (np.full((8, 7, 1), 255), ["`mask`", "8 x 8", "7 x 8"]),
        (np.zeros((8, 8, 1)), ["`mask`", "no pixel"]),
    ],
)
def test_wrong_masks_are_named(mask, parts, write, raises_with):
    path = write("a.png", _random(8, 8, 3))
    with raises_with(InputError, *parts, "mask.png"):
        ImageModality(8).read(path, mask=str(write("mask.png", mask)))


def test_missing_pixels_change_nothing_and_are_drawn(
    smoke_run, write, tmp_path
):
    pixels, mask = _random(16, 16, 3), 255 * (_random(16, 16, 1) > 128)
    drawn = []
    for color in (0, 255):
        pixels[mask[..., 0] == 0] = color
        fitted = fit.fit(
            smoke_run / "run",
            write("a.png", pixels),
            tmp_path / "fit.png",
            mask=str(write("mask.png", mask)),
        )
        assert fitted.of_observations
        drawn.append(images.read_image(tmp_path / "fit.png"))
    assert drawn[0].shape == (16, 16, 3)
    np.testing.assert_array_equal(*drawn)
