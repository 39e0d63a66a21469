"""Forward models: how a field gives rise to what is observed.

A forward model maps a field and the inputs of some observations to predicted
values: `(field, inputs) -> predictions`. It is a function handed to learners,
evaluation and export, never a flag that they test.

`tfmetainit.tomography` states the notation of the parallel-beam projection.
"""

from collections.abc import Callable

import tensorflow as tf

from tfmetainit.functional import Field
from tfmetainit.tomography import TIE, check_interpolation, slice_coords

ForwardModel = Callable[[Field, tf.Tensor], tf.Tensor]

# Points of rays worked on at a time: 64 MiB a layer of 256 in float32.
_MAX_POINTS = 65_536


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
    then the mean along the rows; which way, and about which point, differs, see
    `tomography`).

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
        check_interpolation(interpolation)
        self.resolution = resolution
        self.interpolation = interpolation
        # Column first: those of the first row are those of every axis.
        self._axis = slice_coords(resolution)[:resolution, 0].copy()

    def __call__(self, field: Field, angles: tf.Tensor) -> tf.Tensor:
        # Zero, but known at run time only: else an exported file would store
        # the grid, and what the first layers make of it.
        axis = tf.cast(self._axis, angles.dtype)
        axis += tf.minimum(tf.abs(angles[0]), 0.0)
        side = self.resolution
        columns = tf.tile(axis[None, :], [side, 1])
        rows = tf.tile(axis[:, None], [1, side])
        grid = tf.stack([columns, rows], axis=-1)
        image = field(tf.reshape(grid, [side * side, 2]))
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

    def _samples(self, angles):
        """Pixels that the rays read, and how much of each.

        Returns:
            A list of (pixel, weight), each `[views, R, R]` (row i, column j of
            the turned image): pixel is an index into the flat image, R * R
            where the ray is outside of it; weight is None for 1.
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


class VolumeRendering:
    """Colours of rays through a field of colour and density.

    With samples at depths t_1 < ... < t_S of the ray o + t d, densities
    sigma_k, colours c_k and intervals delta_k = t_{k+1} - t_k (Mildenhall et
    al. 2020, arXiv 2003.08934, equation 3):

        C = sum_k T_k (1 - exp(-sigma_k delta_k)) c_k
        T_k = exp(-sum_{l < k} sigma_l delta_l)

    and what passes through all of them, 1 - sum_k T_k (1 - exp(...)), is white
    or black. The depths come with the rays: a data set draws them, and whoever
    renders an exported field chooses them.

    Args:
        white_background: whether what passes is white; else it is black.
        last_interval: delta_S, which no further sample bounds: 1e-3 for an
            object before a background, 1e10 where nothing may pass (Tancik et
            al. 2021, notebooks).

    Called with a field, 3 coordinates to 4 values, and rays `[rays, 6 + S]`:
    origins, directions and depths (`ray_inputs`). It gives colours `[rays, 3]`.
    """

    def __init__(self, white_background: bool, last_interval: float = 1e-3):
        self.white_background = white_background
        self.last_interval = last_interval

    def __call__(self, field: Field, rays: tf.Tensor) -> tf.Tensor:
        return _in_chunks(lambda some: self._colors(field, some)[0], rays)

    def with_depths(self, field: Field, rays: tf.Tensor) -> tf.Tensor:
        """Colours and depths `[rays, 4]`; what passes is at the last depth."""

        def render(some):
            colors, opacity, depths = self._colors(field, some)
            depths += (1.0 - opacity) * some[:, -1:]
            return tf.concat([colors, depths], axis=-1)

        return _in_chunks(render, rays)

    def _colors(self, field, rays):
        colors, opacity, depths = self.integrate(field, rays)
        if self.white_background:
            colors += 1.0 - opacity
        return colors, opacity, depths

    def integrate(
        self, field: Field, rays: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Colours without the background, opacities, and depths.

        Returns:
            `[rays, 3]`; `[rays, 1]` in [0, 1]; and `[rays, 1]`, the depths'
            mean, each sample weighted as its colour.
        """
        samples = rays.shape[-1] - 6
        origins, directions, depths = tf.split(rays, [3, 3, samples], axis=-1)
        following = tf.concat(
            [depths[:, 1:], depths[:, -1:] + self.last_interval], axis=-1
        )
        intervals = (following - depths)[..., None]
        points = origins[:, None] + depths[..., None] * directions[:, None]
        values = field(tf.reshape(points, [-1, 3]))
        values = tf.reshape(values, [-1, samples, 4])
        colors, density = tf.split(values, [3, 1], axis=-1)
        thickness = density * intervals
        # Not cumprod, which LiteRT lacks.
        passed = tf.exp(-tf.cumsum(thickness, axis=1, exclusive=True))
        weights = passed * (1.0 - tf.exp(-thickness))
        return (
            tf.reduce_sum(weights * colors, axis=1),
            tf.reduce_sum(weights, axis=1),
            tf.reduce_sum(weights * depths[..., None], axis=1),
        )


def _in_chunks(function, rays):
    """`function(rays)`; some at a time, where all would take gigabytes."""
    count, width = rays.shape
    at_once = max(1, _MAX_POINTS // (width - 6))
    if count is None or count <= at_once:
        return function(rays)
    chunks = -(-count // at_once)
    padding = [[0, chunks * at_once - count], [0, 0]]
    values = tf.map_fn(
        function,
        tf.reshape(tf.pad(rays, padding), [chunks, at_once, width]),
        fn_output_signature=rays.dtype,
        parallel_iterations=1,
    )
    return tf.reshape(values, [-1, values.shape[-1]])[:count]
