"""CelebA and Imagenette, as TFDS has them."""

import pytest
import tensorflow_datasets as tfds

from tfmetainit.io.errors import InputError
from tfmetainit.signals import images


def _take(dataset, count):
    return list(dataset.take(count).as_numpy_iterator())


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


def test_tfds_images_that_cannot_be_had(tmp_path, monkeypatch, raises_with):
    def offline(self, **kwargs):
        # TFDS itself tries for some minutes before it raises.
        raise ConnectionError("no route to host")

    monkeypatch.setattr(
        tfds.core.DatasetBuilder, "download_and_prepare", offline
    )
    with raises_with(InputError, "`dataset`", "mnist"):
        images.make_signal_class(dataset="mnist")
    signal = images.make_signal_class(dataset="celeb_a", data_dir=str(tmp_path))
    parts = ["celeb_a", "no route to host", "`data_dir`", "`manual_dir`"]
    with raises_with(InputError, *parts):
        signal.make_dataset("train", 1)


@pytest.mark.parametrize(
    ("dataset", "names"),
    [
        ("celeb_a", ["img_align_celeba.zip", "identity_CelebA.txt"]),
        ("imagenette/320px-v2", ["imagenette2-320.tgz"]),
    ],
)
def test_archives_are_looked_at_before_the_network(
    tmp_path, dataset, names, raises_with
):
    (tmp_path / names[0]).write_bytes(b"another version")
    signal = images.make_signal_class(
        dataset=dataset,
        data_dir=str(tmp_path / "data"),
        manual_dir=str(tmp_path),
    )
    parts = [f"{names[0]} of 15 bytes", *(f"{n} missing" for n in names[1:])]
    with raises_with(InputError, "`manual_dir`", tmp_path, *parts):
        signal.make_dataset("test", 1)
