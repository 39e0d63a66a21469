"""What the image classes share: cropping, tasks, rendering.

`tfmetainit.pixels` states the convention of the coordinates.
"""

from collections.abc import Callable

import tensorflow as tf

from tfmetainit import pixels
from tfmetainit.errors import check_range
from tfmetainit.kinds import MAX_RESOLUTION, ImageKind
from tfmetainit.pipelines import Source, SourcedSignal
from tfmetainit.tasks import Observations, Task


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


class ImageSignal(SourcedSignal):
    """A class of square RGB images.

    Args:
        open_source: returns the `Source` of images `[height, width, 3]`.
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
        open_source: Callable[[], Source],
        *,
        resolution: int,
        inner_steps: int = 2,
        points_per_step: int = 0,
        shuffle_buffer: int = 10_000,
    ):
        check_range("config.signal.resolution", resolution, 2, MAX_RESOLUTION)
        check_range("config.signal.points_per_step", points_per_step, 0, 2**24)
        super().__init__(open_source, shuffle_buffer)
        self.resolution = resolution
        self.inner_steps = inner_steps
        self.points_per_step = points_per_step
        self.coords = pixels.pixel_coords(resolution, resolution)
        self.kind = ImageKind(resolution)

    def make_task(self, signal, index, seed, *, training):
        del index
        image = crop_and_resize(signal, self.resolution)
        values = tf.reshape(image, [-1, self.value_dims])
        if training and self.points_per_step:
            return self._random_task(values, seed)
        return self.whole_task(values)

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


def tfds_images(builder, splits: dict[str, str]) -> Source:
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

    return Source(load, decode)
