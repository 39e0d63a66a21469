"""A folder of the user's own images as a class of signals."""

import logging

import numpy as np
from PIL import Image

from tfmetainit.io.errors import InputError
from tfmetainit.signals import image_folder
from tfmetainit.signals.base.folder import read_folder
from tfmetainit.signals.base.pipeline import SPLITS


def _take(dataset, count):
    return list(dataset.take(count).as_numpy_iterator())


def _fill(folder, count=30):
    rng = np.random.default_rng(0)
    for index in range(count):
        size = rng.integers(8, 30, 2)
        pixels = np.uint8(rng.integers(0, 255, (*size, 3)))
        name = folder / f"{index % 3}" / f"{index}.png"
        name.parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(pixels).save(name)


def _open_folder(folder):
    signal = image_folder.make_signal_class(folder=folder, resolution=8)
    return signal.make_dataset("test", 1)


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


def test_image_folder_keeps_16_bits(tmp_path):
    _fill(tmp_path)
    for side, path in enumerate(tmp_path.rglob("*.png"), start=8):
        path.unlink()
        # No two are the same file: these would be in one split.
        Image.fromarray(np.full((side, side), 257, np.uint16)).save(path)
    signal = image_folder.make_signal_class(folder=str(tmp_path), resolution=8)
    (tasks,) = _take(signal.make_dataset("test", 1), 1)
    np.testing.assert_allclose(tasks.query.values, 257 / 65535, atol=1e-6)


def test_image_folder_errors(tmp_path, raises_with):
    for missing in (str(tmp_path / "missing"), ""):
        with raises_with(InputError, "`folder`", repr(missing)):
            _open_folder(missing)
    _fill(tmp_path, 2)
    with raises_with(InputError, tmp_path):
        _open_folder(str(tmp_path))
    with raises_with(InputError, tmp_path, 4294967296, 40_000):
        read_folder(
            str(tmp_path),
            resolution=40_000,
            suffixes=[".png"],
            read=None,
            channels=3,
        )
