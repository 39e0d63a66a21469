import numpy as np
import pytest
import tensorflow as tf

from tfmetainit.geometry import pixels
from tfmetainit.signals.base.image_signal import ImageSignal
from tfmetainit.signals.base.pipeline import Source


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


@pytest.fixture(scope="session")
def toy_signal():
    """Makes a class of images of 4 x 4 pixels, whose values tell places."""
    return _toy_signal
