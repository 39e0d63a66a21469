"""What the image classes share: cropping, tasks, rendering.

`tfmetainit.pixels` states the convention of the coordinates.
"""

from collections.abc import Callable

import tensorflow as tf

from tfmetainit import pixels
from tfmetainit.errors import InputError, check_range
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
        points_per_step: number of pixels drawn at random for each inner step
            and for the query in training, one from each of as many regions of
            equal area; 0 for all pixels at every step, as in the paper.
        query_between: share of the query's points, in [0, 1], that in training
            lie somewhere in their pixels' cells, with values interpolated
            bilinearly; 0 for the pixels themselves, as in the paper. Who is
            scored at pixels only, and learns fast, learns a table of them: a
            field that is noise anywhere else.
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
        query_between: float = 0.0,
        shuffle_buffer: int = 10_000,
    ):
        check_range("config.signal.resolution", resolution, 2, MAX_RESOLUTION)
        check_range("config.signal.points_per_step", points_per_step, 0, 2**24)
        check_range("config.signal.query_between", query_between, 0, 1)
        super().__init__(open_source, shuffle_buffer)
        self.resolution = resolution
        self.inner_steps = inner_steps
        self.points_per_step = points_per_step
        self.query_between = query_between
        self.coords = pixels.pixel_coords(resolution, resolution)
        self.kind = ImageKind(resolution)

    @property
    def shares_support(self) -> bool:
        """Whether training starts from all pixels of every image."""
        own = type(self)
        return (
            not self.points_per_step
            and own.make_task is ImageSignal.make_task
            and own.whole_task is ImageSignal.whole_task
        )

    def make_task(self, signal, index, seed, *, training):
        del index
        image = crop_and_resize(signal, self.resolution)
        if image.shape[-1] not in (None, self.value_dims):
            raise InputError(
                f"Images of this class have {self.value_dims} channels "
                "(tf.image.grayscale_to_rgb makes three of one). Received: "
                f"{image.shape[-1]}"
            )
        values = tf.reshape(image, [-1, self.value_dims])
        task = self.whole_task(values)
        if training:
            seeds = tf.random.split(seed, 2)
            if self.points_per_step:
                task = self._random_task(values, seeds[0])
            if self.query_between:
                query = self._moved(image, task.query.inputs, seeds[1])
                task = task._replace(query=query)
        return task

    def whole_task(self, values) -> Task:
        """The task with all pixels `[R * R, 3]` as support and query."""
        coords = tf.constant(self.coords)
        return Task(
            Observations(coords[None], values[None]),
            Observations(coords, values),
        )

    def between(self, task: Task) -> Task:
        """The same support, scored in the middle between each four pixels.

        Args:
            task: a `whole_task`.

        Returns:
            A task whose query are `[(R - 1) ** 2]` points, with values
            interpolated bilinearly.
        """
        shape = [self.resolution, self.resolution, self.value_dims]
        image = tf.reshape(task.query.values, shape)
        places = tf.reshape(self.resolution * self.coords, [*shape[:2], 2])
        places = tf.reshape(places[:-1, :-1], [-1, 2]) + 0.5
        query = Observations(
            places / self.resolution, _interpolate(image, places)
        )
        return task._replace(query=query)

    def _random_task(self, values, seed) -> Task:
        """A task with fresh random pixels at each inner step and the query.

        They are spread out: a gradient by pixels that are drawn independently
        of each other is farther from that by all of them.
        """
        steps, count = self.inner_steps, self.points_per_step
        area = len(self.coords) / count
        offsets = tf.random.stateless_uniform([steps + 1, count], seed)
        places = (tf.range(count, dtype=tf.float32) + offsets) * area
        # Rounding may reach the end itself.
        places = tf.minimum(tf.cast(places, tf.int32), len(self.coords) - 1)
        chosen = tf.gather(pixels.z_order(self.resolution), places)
        coords = tf.gather(tf.constant(self.coords), chosen)
        values = tf.gather(values, chosen)
        return Task(
            Observations(coords[:steps], values[:steps]),
            Observations(coords[steps], values[steps]),
        )

    def _moved(self, image, coords, seed) -> Observations:
        """The image at some pixels `[n, 2]`, and in the cells of others.

        The cell of pixel (row, column) is [row, row + 1) x [column,
        column + 1): together they are all that a field is rendered at.
        """
        seeds = tf.random.split(seed, 2)
        chance = tf.random.stateless_uniform([coords.shape[0], 1], seeds[0])
        offsets = tf.where(
            chance < self.query_between,
            tf.random.stateless_uniform(coords.shape, seeds[1]),
            0.0,
        )
        places = self.resolution * coords + offsets
        # Beyond its last pixels an image goes on as it ends.
        padded = tf.pad(image, [[0, 1], [0, 1], [0, 0]], "SYMMETRIC")
        return Observations(
            places / self.resolution, _interpolate(padded, places)
        )


def _interpolate(image: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """Bilinear interpolation.

    Args:
        image: floats `[height, width, c]`, at least 2 x 2.
        places: `[n, 2]`, rows and columns in pixels, inside the image.

    Returns:
        `[n, c]`.
    """
    height, width, _ = image.shape
    first = tf.minimum(tf.cast(places, tf.int32), [height - 2, width - 2])
    down, right = tf.split(places - tf.cast(first, tf.float32), 2, axis=-1)
    top_left, top_right, bottom_left, bottom_right = (
        tf.gather_nd(image, first + corner)
        for corner in ([0, 0], [0, 1], [1, 0], [1, 1])
    )
    top = top_left + right * (top_right - top_left)
    bottom = bottom_left + right * (bottom_right - bottom_left)
    return top + down * (bottom - top)


def tfds_images(feature, open_split) -> Source:
    """The images of TFDS builders.

    Args:
        feature: what decodes the "image" of their examples.
        open_split: maps "train", "validation" and "test" to a prepared builder
            and the name that it has for the split.
    """
    import tensorflow_datasets as tfds

    def load(split):
        builder, name = open_split(split)
        return builder.as_dataset(
            split=name,
            shuffle_files=False,
            decoders={"image": tfds.decode.SkipDecoding()},
        ).map(lambda example: example["image"])

    def decode(encoded):
        image = feature.decode_example(encoded)
        return tf.image.convert_image_dtype(image, tf.float32)

    return Source(load, decode)
