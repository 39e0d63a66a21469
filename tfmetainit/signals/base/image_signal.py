"""The base of image classes: cropping, tasks, points between the pixels.

`geometry.pixels` states the convention of the coordinates.
"""

from collections.abc import Callable

import tensorflow as tf

from tfmetainit.geometry import pixels
from tfmetainit.io.errors import InputError, check_range
from tfmetainit.meta.tasks import Observations, Task
from tfmetainit.modalities.image import ImageModality
from tfmetainit.modalities.modality import MAX_RESOLUTION
from tfmetainit.signals.base.pipeline import Source, SourcedSignal


def crop_and_resize(image: tf.Tensor, resolution: int) -> tf.Tensor:
    """`pixels.crop_and_resize` in TensorFlow; the two agree within 1e-5.

    Args:
        image: floats `[height, width, channels]`.
        resolution: side of the result, in pixels.

    Returns:
        float32 `[resolution, resolution, channels]`.
    """
    if image.shape[:2] == (resolution, resolution):
        return tf.clip_by_value(image, 0.0, 1.0)
    height, width = tf.unstack(tf.shape(image)[:2])
    top, left, side = pixels.central_square(height, width, tf.minimum)
    square = tf.image.crop_to_bounding_box(image, top, left, side, side)
    resized = tf.image.resize(square, [resolution, resolution], antialias=True)
    resized = tf.clip_by_value(resized, 0.0, 1.0)
    return tf.ensure_shape(resized, [resolution, resolution, image.shape[-1]])


class ImageSignal(SourcedSignal):
    """A class of square RGB images.

    Args:
        open_source: returns the `Source` of images `[height, width, 3]`.
        resolution: side in pixels; images are centre-cropped and resized to it.
        inner_steps: number of inner steps for which training draws points.
        points_per_step: number of pixels drawn at random for each inner step
            and for the query in training, one from each of as many regions of
            equal area; 0 for all pixels, as in the paper.
        query_between: share, in [0, 1], of the query's points in training that
            are moved to a random place in their pixel's cell, with bilinearly
            interpolated values; 0 for the pixels themselves, as in the paper. A
            field that is scored only at pixel centres can memorise them and be
            noise in between.
        shuffle_buffer: number of encoded images shuffled at a time.

    Raises:
        InputError: if a number is out of range.

    Attributes:
        shares_support: True without `points_per_step`. A subclass that
            overrides `make_task` or `whole_task` must set it to False.
        raster_width: the resolution, or None with `points_per_step`. A subclass
            whose support is no raster must set it to None.
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
        check_range("resolution", resolution, 2, MAX_RESOLUTION)
        check_range("points_per_step", points_per_step, 0, 2**24)
        check_range("query_between", query_between, 0, 1)
        super().__init__(open_source, shuffle_buffer)
        self.resolution = resolution
        self.inner_steps = inner_steps
        self.points_per_step = points_per_step
        self.query_between = query_between
        self.coords = pixels.pixel_coords(resolution, resolution)
        self.shares_support = not points_per_step
        self.raster_width = None if points_per_step else resolution
        self.modality = ImageModality(resolution)

    def make_task(self, signal, index, seed, *, training):
        del index
        image = crop_and_resize(signal, self.resolution)
        if image.shape[-1] not in (None, self.value_dims):
            raise InputError(
                f"Images of this class must have {self.value_dims} channels; "
                "tf.image.grayscale_to_rgb converts grey images. Received: "
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
        """The same support, with a query at the midpoints between four pixels.

        Args:
            task: a `whole_task`.

        Returns:
            A task whose query is the `(R - 1) ** 2` midpoints, with values
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
        """A task with new random pixels for each inner step and the query.

        The draw is stratified: its gradient is closer to that of all pixels
        than the gradient of independent draws.
        """
        steps, count = self.inner_steps, self.points_per_step
        area = len(self.coords) / count
        offsets = tf.random.stateless_uniform([steps + 1, count], seed)
        places = (tf.range(count, dtype=tf.float32) + offsets) * area
        # Rounding may give the number of pixels itself.
        places = tf.minimum(tf.cast(places, tf.int32), len(self.coords) - 1)
        chosen = tf.gather(pixels.z_order(self.resolution), places)
        coords = tf.gather(tf.constant(self.coords), chosen)
        values = tf.gather(values, chosen)
        return Task(
            Observations(coords[:steps], values[:steps]),
            Observations(coords[steps], values[steps]),
        )

    def _moved(self, image, coords, seed) -> Observations:
        """The image at pixels `[n, 2]`, a share of which is moved in its cells.

        The cell of pixel (row, column) is [row, row + 1) x [column,
        column + 1). Together the cells cover all points that a field is
        rendered at.
        """
        seeds = tf.random.split(seed, 2)
        chance = tf.random.stateless_uniform([coords.shape[0], 1], seeds[0])
        offsets = tf.where(
            chance < self.query_between,
            tf.random.stateless_uniform(coords.shape, seeds[1]),
            0.0,
        )
        places = self.resolution * coords + offsets
        # The last row and column of pixels are repeated.
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
