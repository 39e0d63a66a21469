"""What every class of signals does."""

import numpy as np
import tensorflow as tf
from PIL import Image

from tfmetainit.io.errors import InputError
from tfmetainit.signals import image_folder, images, text
from tfmetainit.signals.base.signal_class import SignalClass


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


def test_classes_of_the_users_have_no_training_signals(raises_with):
    class Mine(SignalClass):
        def make_dataset(self, split, batch_size, seed=0, start=0):
            del split, seed
            return tf.data.Dataset.range(9).skip(start).batch(batch_size)

    assert list(Mine().all_tasks("test", 7).as_numpy_iterator()) == [7, 8]
    with raises_with(InputError, "`split`", "'train'"):
        Mine().all_tasks("train")
