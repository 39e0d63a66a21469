"""A folder of the user's own images as a class of signals."""

import logging

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from tfmetainit.io import images
from tfmetainit.io.errors import InputError
from tfmetainit.signals import image_folder
from tfmetainit.signals.base import ImageSignal, first_tasks
from tfmetainit.signals.base import folder as folder_module
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
    assert "31 images" in caplog.text
    counts = [
        len(list(signal.make_dataset(split, 1)))
        for split in ("validation", "test")
    ]
    assert all(counts)
    (tasks,) = _take(signal.make_dataset("train", 2), 1)
    assert tasks.query.inputs.shape == (2, 4, 2)


def test_files_that_cannot_be_read(tmp_path, caplog):
    """Training takes the next file; evaluation and bulk fits leave them out."""
    for value, split in enumerate(SPLITS):
        for index in range(4):
            path = tmp_path / split / f"{index}.png"
            path.parent.mkdir(exist_ok=True)
            grey = np.full((8, 8), 40 * value + 10 * index, np.uint8)
            Image.fromarray(grey).save(path)
        path.with_name("1.png").write_bytes(path.read_bytes()[:50])
    signal = image_folder.make_signal_class(folder=str(tmp_path), resolution=8)

    def greys(dataset, count):
        tasks = dataset.take(count).as_numpy_iterator()
        return [round(255 * t.query.values.flat[0].item()) for t in tasks]

    training = greys(signal.make_dataset("train", 1), 8)
    assert sorted(training) == [0, 0, 20, 20, 20, 20, 30, 30]
    assert greys(signal.make_dataset("test", 1), 8) == [80, 100, 110]
    all_tasks = signal.all_tasks("test")
    assert all_tasks.cardinality() == 3
    assert greys(all_tasks, 8) == [80, 100, 110]
    assert greys(signal.all_tasks("train", 1), 8) == [20, 30]
    # Training goes on as before: a resumed run sees the same files.
    resumed = greys(signal.make_dataset("train", 1, start=3), 5)
    assert resumed == training[3:]
    named = [r.getMessage() for r in caplog.records if "Skipped" in r.msg]
    assert len(named) == 2
    assert f"{tmp_path / 'train' / '1.png'}" in named[0]
    assert "2 so far" in named[1]


def test_a_split_of_which_nothing_can_be_read(tmp_path, raises_with):
    _fill(tmp_path)
    for path in tmp_path.rglob("*.png"):
        path.write_text(path.name)
    signal = image_folder.make_signal_class(folder=str(tmp_path), resolution=8)
    with raises_with(tf.errors.OpError, InputError.__name__, "`folder`"):
        next(iter(signal.make_dataset("train", 1)))
    with raises_with(InputError, "test"):
        first_tasks(signal, "test", 1)


def test_images_beyond_the_memory_are_read_again(tmp_path, monkeypatch):
    _fill(tmp_path)
    reads = []

    def read(path):
        reads.append(path)
        return images.read_image(path)

    def order(kept_bytes):
        monkeypatch.setattr(folder_module, "_KEPT_BYTES", kept_bytes)
        reads.clear()
        source = folder_module.folder_source(
            str(tmp_path),
            resolution=8,
            suffixes=images.IMAGE_SUFFIXES,
            read=read,
            channels=3,
        )
        signal = ImageSignal(lambda: source, resolution=8)
        return [
            tasks.query.values[0, 0]
            for tasks in _take(signal.make_dataset("train", 1), 80)
        ]

    image_bytes = 3 * 8 * 8 * 2
    kept = order(100 * image_bytes)
    # Two threads may read one file at the same time, once.
    assert len(reads) <= len(set(reads)) + 1 < 31
    np.testing.assert_array_equal(order(10 * image_bytes), kept)
    assert len(reads) > 80 - 3 * 10


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


@pytest.mark.parametrize(
    ("splits", "counts"),
    [
        ({"train": 20}, (2, 2)),
        ({"train": 5, "val": 4}, (2, 2)),
        ({"train": 20, "test": 3}, (2, 3)),
        ({"train": 5, "validation": 2, "test": 3}, (2, 3)),
    ],
)
def test_a_folder_that_tfds_has_prepared(tmp_path, splits, counts):
    path = _prepared(tmp_path, splits, tfds.features.Image(shape=(9, 12, 3)))
    signal = image_folder.make_signal_class(folder=path, resolution=8)
    (task,) = _take(signal.make_dataset("train", 1), 1)
    assert task.query.values.shape == (1, 64, 3)
    found = (len(list(signal.all_tasks(s))) for s in ("validation", "test"))
    assert tuple(found) == counts


def _prepared(tmp_path, splits, feature):
    with tfds.core.registered.skip_registration():

        class Photos(tfds.core.GeneratorBasedBuilder):
            """Photographs of noise."""

            VERSION = tfds.core.Version("1.0.0")

            def _info(self):
                features = tfds.features.FeaturesDict({"image": feature})
                return tfds.core.DatasetInfo(builder=self, features=features)

            def _split_generators(self, dl_manager):
                return {s: self._generate_examples(splits[s]) for s in splits}

            def _generate_examples(self, count):
                rng = np.random.default_rng(0)
                for index in range(count):
                    pixels = rng.integers(0, 255, feature.shape, np.uint8)
                    yield index, {"image": pixels}

    builder = Photos(data_dir=str(tmp_path / "tfds"))
    builder.download_and_prepare()
    return str(builder.data_dir)


def test_prepared_folders_that_have_no_images(tmp_path, raises_with):
    path = _prepared(
        tmp_path, {"train": 3}, tfds.features.Tensor(shape=(3,), dtype=np.uint8)
    )
    with raises_with(InputError, path, "['image']", "train"):
        _open_folder(path)
    grey = tfds.features.Image(shape=(8, 8, 1))
    grey = _prepared(tmp_path / "grey", {"train": 20}, grey)
    with raises_with(InputError, grey, "three channels"):
        _open_folder(grey)
    few = tfds.features.Image(shape=(8, 8, 3))
    few = _prepared(tmp_path / "few", {"train": 4}, few)
    with raises_with(InputError, few, "'test': 0"):
        _open_folder(few)
    with open(f"{path}/dataset_info.json", "w") as file:
        file.write("{")
    with raises_with(InputError, path):
        _open_folder(path)
