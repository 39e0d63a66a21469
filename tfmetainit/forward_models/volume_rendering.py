"""Volume rendering: the colours of rays through a field of colour and density.

The inputs are rays `[n, 6 + S]`: origin, direction, and the increasing depths
of S samples (`ray_inputs`). The forward model draws no depths itself.
"""

import tensorflow as tf

from tfmetainit.forward_models.identity import Field

# Points evaluated at a time: 64 MiB for a layer of 256 units in float32.
_MAX_POINTS = 65_536


def ray_inputs(origins, directions, depths) -> tf.Tensor:
    """Rays as `VolumeRendering` takes them, `[n, 6 + S]`.

    Args:
        origins: `[n, 3]`.
        directions: `[n, 3]`.
        depths: `[S]` or `[n, S]`, increasing along each ray.
    """
    depths = tf.broadcast_to(depths, [tf.shape(origins)[0], depths.shape[-1]])
    return tf.concat([origins, directions, depths], axis=-1)


class VolumeRendering:
    """Colours of rays through a field of colour and density.

    With samples at depths t_1 < ... < t_S of the ray o + t d, densities
    sigma_k, colours c_k and intervals delta_k = t_{k+1} - t_k (Mildenhall et
    al. 2020, arXiv 2003.08934, equation 3):

        C = sum_k T_k (1 - exp(-sigma_k delta_k)) c_k
        T_k = exp(-sum_{l < k} sigma_l delta_l)

    The background, white or black, has the remaining weight 1 - sum_k T_k (1 -
    exp(-sigma_k delta_k)).

    Args:
        white_background: whether the background is white; else it is black.
        last_interval: delta_S, the interval after the last sample: 1e-3 for an
            object in front of a background, 1e10 for an opaque scene (Tancik et
            al. 2021, notebooks).

    Called with a field (3 coordinates to 4 values) and rays `[rays, 6 + S]`, it
    returns colours `[rays, 3]`.
    """

    def __init__(self, white_background: bool, last_interval: float = 1e-3):
        self.white_background = white_background
        self.last_interval = last_interval

    def __call__(self, field: Field, rays: tf.Tensor) -> tf.Tensor:
        return _in_chunks(lambda some: self._colors(field, some)[0], rays)

    def with_depths(self, field: Field, rays: tf.Tensor) -> tf.Tensor:
        """Colours and depths `[rays, 4]`; the background has the last depth."""

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
            Colours `[rays, 3]`; opacities `[rays, 1]` in [0, 1]; and depths
            `[rays, 1]`, the samples' depths summed with the weights of their
            colours.
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
        # LiteRT lacks cumprod.
        passed = tf.exp(-tf.cumsum(thickness, axis=1, exclusive=True))
        weights = passed * (1.0 - tf.exp(-thickness))
        return (
            tf.reduce_sum(weights * colors, axis=1),
            tf.reduce_sum(weights, axis=1),
            tf.reduce_sum(weights * depths[..., None], axis=1),
        )


def _in_chunks(function, rays):
    """`function(rays)`, in chunks of rays that bound the memory."""
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
