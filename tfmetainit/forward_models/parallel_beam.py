"""Parallel-beam projection of a field (notation: `geometry.parallel_beam`)."""

import tensorflow as tf

from tfmetainit.forward_models.identity import Field
from tfmetainit.geometry.parallel_beam import (
    TIE,
    check_interpolation,
    slice_coords,
)


class ParallelBeam:
    """Parallel-beam projection (Radon transform) of a field in the plane.

    The field is evaluated on the R x R grid of `slice_coords`. The resulting
    image is turned, and the mean of each column is taken (Tancik et al. 2021,
    CT notebook, which turns by the nearest pixel). Direction and centre of the
    rotation differ from the notebook's (see `geometry.parallel_beam`).

    Args:
        resolution: R, the side of the grid, and the number of detectors.
        interpolation: "nearest" (the paper's) or "bilinear".

    Called with a field of one value and angles `[projections]` in radians, it
    returns the sinogram `[projections, R]`. It is differentiable any number of
    times with respect to the field, but not with respect to the angles.

    Raises:
        ValueError: if `interpolation` is unknown.
    """

    def __init__(self, resolution: int, interpolation: str = "nearest"):
        check_interpolation(interpolation)
        self.resolution = resolution
        self.interpolation = interpolation
        # The columns' coordinates in the first row; those of rows are equal.
        self._axis = slice_coords(resolution)[:resolution, 0].copy()

    def __call__(self, field: Field, angles: tf.Tensor) -> tf.Tensor:
        # Adds a zero that is only known at run time. Otherwise an exported file
        # would store the grid, and its Fourier features, as constants.
        axis = tf.cast(self._axis, angles.dtype)
        axis += tf.minimum(tf.abs(angles[0]), 0.0)
        side = self.resolution
        columns = tf.tile(axis[None, :], [side, 1])
        rows = tf.tile(axis[:, None], [1, side])
        grid = tf.stack([columns, rows], axis=-1)
        image = field(tf.reshape(grid, [side * side, 2]))
        return self.project(tf.reshape(image, [-1]), angles)

    def project(self, image: tf.Tensor, angles: tf.Tensor) -> tf.Tensor:
        """The sinogram `[projections, R]` of an image `[R * R]`."""
        samples = self._samples(angles)

        @tf.custom_gradient
        def apply(image):
            return self._gather(image, samples), adjoint

        @tf.custom_gradient
        def adjoint(sinogram):
            return self._scatter(sinogram, samples), apply

        return apply(image)

    def _samples(self, angles):
        """The pixels that the rays read, and their weights.

        Returns:
            A list of (pixel, weight), each `[projections, R, R]` (row i, column
            j of the turned image). A pixel is an index into the flat image, or
            R * R outside of the image. A weight of None means 1.
        """
        side, center = self.resolution, (self.resolution - 1) / 2.0
        offset = tf.range(side, dtype=angles.dtype) - center
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
        spread = tf.tile(
            sinogram[:, None, :] / self.resolution, [1, self.resolution, 1]
        )
        image = 0.0
        for pixel, weight in samples:
            values = spread if weight is None else weight * spread
            # Not unsorted_segment_sum: LiteRT gives it a dynamic shape.
            sums = tf.scatter_nd(
                tf.reshape(pixel, [-1, 1]),
                tf.reshape(values, [-1]),
                [size + 1],
            )
            image += sums[:size]
        return image
