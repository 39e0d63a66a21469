"""What the image classes share: cropping, tasks, rendering.

`tfmetainit.pixels` states the convention of the coordinates.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from tfmetainit import pixels
from tfmetainit.errors import InputError, check_range
from tfmetainit.kinds import MAX_RESOLUTION, ImageKind
from tfmetainit.tasks import Observations, SignalClass, Task

SPLITS = ("train", "validation", "test")


def crop_and_resize(image: tf.Tensor, resolution: int) -> tf.Tensor:
    """`pixels.crop_and_resize` for pipelines: within 1e-5 the same numbers.

    Args:
        image: floats `[height, width, channels]`.
        resolution: side of the result, in pixels. An image that already has
            it is returned as it is.

    Returns:
        float32 `[resolution, resolution, channels]`.
    """
    shape = tf.shape(image)
    side = tf.minimum(shape[0], shape[1])
    square = tf.image.crop_to_bounding_box(
        image, (shape[0] - side) // 2, (shape[1] - side) // 2, side, side
    )
    resized = tf.image.resize(square, [resolution, resolution], antialias=True)
    resized = tf.clip_by_value(resized, 0.0, 1.0)
    return tf.ensure_shape(resized, [resolution, resolution, image.shape[-1]])


class ImageSource(NamedTuple):
    """Where images come from.

    Attributes:
        load: maps a split to a finite `tf.data.Dataset` of whatever `decode`
            takes, in a fixed order. It is shuffled as it comes, so encoded
            images keep shuffling and skipping cheap.
        decode: maps an element to floats in [0, 1], `[height, width, 3]`.
    """

    load: Callable[[str], tf.data.Dataset]
    decode: Callable[[tf.Tensor], tf.Tensor]


class ImageSignal(SignalClass):
    """A class of square RGB images.

    Args:
        open_source: returns the `ImageSource`. It is called when a data set is
            first asked for: fitting one file needs none of the class's images.
        resolution: side of the images in pixels; others are centre-cropped
            and resized.
        inner_steps: number of inner steps for which training draws points.
        points_per_step: number of pixels drawn at random, with replacement,
            for each inner step and for the query in training; 0 for all pixels
            at every step, as in the paper.
        shuffle_buffer: number of encoded images shuffled at a time.
    """

    coord_dims = 2
    value_dims = 3

    def __init__(
        self,
        open_source: Callable[[], ImageSource],
        *,
        resolution: int,
        inner_steps: int = 2,
        points_per_step: int = 0,
        shuffle_buffer: int = 10_000,
    ):
        check_range("config.signal.resolution", resolution, 2, MAX_RESOLUTION)
        check_range("config.signal.points_per_step", points_per_step, 0, 2**24)
        self._open_source = open_source
        self.resolution = resolution
        self.inner_steps = inner_steps
        self.points_per_step = points_per_step
        self.shuffle_buffer = shuffle_buffer
        self.coords = pixels.pixel_coords(resolution, resolution)
        self.kind = ImageKind(resolution)

    @functools.cached_property
    def _source(self):
        return self._open_source()

    def make_dataset(self, split, batch_size, seed=0, start=0):
        if split not in SPLITS:
            raise InputError(
                f"`split` must be one of {SPLITS}. Received: split={split!r}"
            )
        dataset = self._source.load(split)
        random_points = split == "train" and self.points_per_step > 0
        if split == "train":
            dataset = dataset.shuffle(self.shuffle_buffer, seed=seed).repeat()
        dataset = dataset.skip(start * batch_size)
        # The running index makes the points a function of seed and position,
        # whatever runs in parallel and wherever a run was resumed.
        dataset = tf.data.Dataset.zip(
            tf.data.Dataset.counter(start * batch_size), dataset
        )

        def element(index, raw):
            image = crop_and_resize(self._source.decode(raw), self.resolution)
            values = tf.reshape(image, [-1, self.value_dims])
            if random_points:
                return self._random_task(values, tf.stack([seed, index]))
            return self.whole_task(values)

        return (
            dataset.map(element, num_parallel_calls=2)
            .batch(batch_size, drop_remainder=True)
            .prefetch(2)
        )

    def whole_task(self, values) -> Task:
        """The task with all pixels `[R * R, 3]` as support and query."""
        coords = tf.constant(self.coords)
        return Task(
            Observations(coords[None], values[None]),
            Observations(coords, values),
        )

    def _random_task(self, values, seed) -> Task:
        """A task with fresh random pixels at each inner step and the query."""
        steps, count = self.inner_steps, self.points_per_step
        pixels = tf.random.stateless_uniform(
            [steps + 1, count], seed, 0, len(self.coords), tf.int32
        )
        coords = tf.gather(tf.constant(self.coords), pixels)
        values = tf.gather(values, pixels)
        return Task(
            Observations(coords[:steps], values[:steps]),
            Observations(coords[steps], values[steps]),
        )


def tfds_images(builder, splits: dict[str, str]) -> ImageSource:
    """The images of a TFDS builder.

    Args:
        builder: a prepared builder whose examples have an "image".
        splits: maps "train", "validation" and "test" to the builder's splits.
    """
    import tensorflow_datasets as tfds

    feature = builder.info.features["image"]

    def load(split):
        return builder.as_dataset(
            split=splits[split],
            shuffle_files=False,
            decoders={"image": tfds.decode.SkipDecoding()},
        ).map(lambda example: example["image"])

    def decode(encoded):
        image = feature.decode_example(encoded)
        return tf.image.convert_image_dtype(image, tf.float32)

    return ImageSource(load, decode)
