"""Forward models: how a field gives rise to what is observed.

A forward model maps a field and the inputs of some observations to predicted
values: `(field, inputs) -> predictions`. It is a function handed to learners,
evaluation and export, never a flag that they test.

`tfmetainit.tomography` states the notation of the parallel-beam projection.
"""

from collections.abc import Callable

import tensorflow as tf

from tfmetainit.functional import Field
from tfmetainit.tomography import INTERPOLATIONS, TIE, slice_coords

ForwardModel = Callable[[Field, tf.Tensor], tf.Tensor]


def identity(field: Field, inputs: tf.Tensor) -> tf.Tensor:
    """The field itself is observed, at points: images, signed distances.

    Args:
        field: maps coordinates to values.
        inputs: coordinates `[points, coord_dims]`.

    Returns:
        Values `[points, value_dims]`.
    """
    return field(inputs)


class ParallelBeam:
    """Parallel-beam projection (Radon transform) of a field in the plane.

    The field is evaluated on the R x R grid of `slice_coords`, and the image
    projected (Tancik et al. 2021, CT notebook: rotation by the nearest pixel,
    then the mean along the rows).

    Args:
        resolution: R, the side of the grid, and the number of detectors.
        interpolation: "nearest" (the paper's) or "bilinear".

    Called with a field of one value and angles `[views]` in radians, it gives
    the sinogram `[views, R]`. It is differentiable any number of times with
    respect to the field, and not with respect to the angles.

    Raises:
        ValueError: if `interpolation` is neither.
    """

    def __init__(self, resolution: int, interpolation: str = "nearest"):
        if interpolation not in INTERPOLATIONS:
            raise ValueError(
                f"`interpolation` must be one of {INTERPOLATIONS}. Received: "
                f"interpolation={interpolation!r}"
            )
        self.resolution = resolution
        self.interpolation = interpolation
        self._coords = slice_coords(resolution)

    def __call__(self, field: Field, angles: tf.Tensor) -> tf.Tensor:
        # Zero, but known at run time only: else an exported file would store
        # what the first layers make of the grid, which is larger than theta.
        zero = tf.minimum(tf.abs(angles[0]), 0.0)
        image = field(self._coords + zero)
        return self.project(tf.reshape(image, [-1]), angles)

    def project(self, image: tf.Tensor, angles: tf.Tensor) -> tf.Tensor:
        """A x: the sinogram `[views, R]` of an image `[R * R]`."""
        samples = self._samples(angles)

        @tf.custom_gradient
        def apply(image):
            return self._gather(image, samples), adjoint

        @tf.custom_gradient
        def adjoint(sinogram):
            return self._scatter(sinogram, samples), apply

        return apply(image)

    def back_project(self, sinogram: tf.Tensor, angles: tf.Tensor):
        """A' y: the adjoint, an image `[R * R]` of a sinogram `[views, R]`."""
        return self._scatter(sinogram, self._samples(angles))

    def _samples(self, angles):
        """Pixels that the rays read, and how much of each.

        Returns:
            A list of (pixel, weight), each `[views, R, R]` (row i, column j of
            the turned image): pixel is an index into the flat image, R * R
            where the ray is outside of it; weight is None for 1.
        """
        side, center = self.resolution, (self.resolution - 1) / 2.0
        offset = tf.range(side, dtype=tf.float32) - center
        i, j = offset[:, None], offset[None, :]
        cos = tf.cos(angles)[:, None, None]
        sin = tf.sin(angles)[:, None, None]
        row = center + i * cos - j * sin
        column = center + i * sin + j * cos

        def pixel(row, column):
            inside = (row >= 0) & (row < side) & (column >= 0) & (column < side)
            index = tf.cast(row * side + column, tf.int32)
            return tf.where(inside, index, side * side)

        if self.interpolation == "nearest":
            nearest = [tf.floor(x + 0.5 + TIE) for x in (row, column)]
            return [(pixel(*nearest), None)]
        top, left = tf.floor(row), tf.floor(column)
        down, right = row - top, column - left
        return [
            (pixel(top, left), (1.0 - down) * (1.0 - right)),
            (pixel(top, left + 1.0), (1.0 - down) * right),
            (pixel(top + 1.0, left), down * (1.0 - right)),
            (pixel(top + 1.0, left + 1.0), down * right),
        ]

    def _gather(self, image, samples):
        padded = tf.concat([image, tf.zeros([1], image.dtype)], axis=0)
        total = 0.0
        for pixel, weight in samples:
            values = tf.gather(padded, pixel)
            total += values if weight is None else weight * values
        return tf.reduce_mean(total, axis=1)

    def _scatter(self, sinogram, samples):
        size = self.resolution**2
        spread = sinogram[:, None, :] / self.resolution
        image = 0.0
        for pixel, weight in samples:
            values = spread * tf.ones_like(pixel, sinogram.dtype)
            if weight is not None:
                values *= weight
            # Not unsorted_segment_sum: LiteRT gives it a dynamic shape.
            sums = tf.scatter_nd(
                tf.reshape(pixel, [-1, 1]),
                tf.reshape(values, [-1]),
                [size + 1],
            )
            image += sums[:size]
        return image
