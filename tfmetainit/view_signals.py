"""Signals observed through the rays of photographs.

What the two classes of view synthesis share (Tancik et al. 2021, section 4.3):
rays of some regions of a signal's views are drawn at random for every inner
step, and those of others are scored. Inputs are rays as
`forward_models.VolumeRendering` takes them: origin, direction and depths.
"""

import abc
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfmetainit import cameras, functional
from tfmetainit.errors import check_range
from tfmetainit.forward_models import VolumeRendering
from tfmetainit.kinds import MAX_RESOLUTION
from tfmetainit.pipelines import Source, SourcedSignal
from tfmetainit.tasks import FieldLoss, Observations, Task


class Views(NamedTuple):
    """The views of one signal; tensors.

    Attributes:
        images: `[v, R, R, 3]` in [0, 1].
        poses: `[v, 4, 4]`, from camera to world.
        focal: focal lengths in pixels, `[2]`, (x, y).
        principal_point: `[2]`, (column, row).
        bounds: `[2]`: depth of the first sample's interval, and end of the
            last one's.
    """

    images: tf.Tensor
    poses: tf.Tensor
    focal: tf.Tensor
    principal_point: tf.Tensor
    bounds: tf.Tensor


class Region(NamedTuple):
    """Which pixels of a signal's views: ends are exclusive."""

    first_view: int
    last_view: int
    first_column: int
    last_column: int


class ViewSignal(SourcedSignal):
    """Base of the classes that are observed through rays.

    Args:
        open_source: returns the `Source` of `Views`.
        resolution: R, the side of the views in pixels.
        white_background: of `VolumeRendering`.
        last_interval: of the same.
        convention: of the poses (`cameras`).
        rays_per_step: number of rays drawn for each inner step.
        query_rays: number of rays scored in training.
        num_samples: number of depths along a ray.
        inner_steps: number of inner steps for which training draws rays.
        eval_batches: number of batches of rays that a validation or test task
            has; a longer fit goes through them again.
        shuffle_buffer: number of encoded signals shuffled at a time.
    """

    coord_dims = 3
    value_dims = 4
    # Every signal is scored on rays of its own.
    shares_inputs = False

    def __init__(
        self,
        open_source: Callable[[], Source],
        *,
        resolution: int,
        white_background: bool,
        last_interval: float,
        convention: str,
        rays_per_step: int = 128,
        query_rays: int = 256,
        num_samples: int = 128,
        inner_steps: int = 32,
        eval_batches: int = 128,
        shuffle_buffer: int = 1_000,
    ):
        for name, value, low, high in (
            ("resolution", resolution, 8, MAX_RESOLUTION),
            ("rays_per_step", rays_per_step, 1, 2**20),
            ("query_rays", query_rays, 1, 2**20),
            ("num_samples", num_samples, 2, 4096),
            ("inner_steps", inner_steps, 1, 1000),
            ("eval_batches", eval_batches, 1, 2**16),
        ):
            check_range(f"config.signal.{name}", value, low, high)

        def open_after_check():
            cameras.perspective()  # known to be missing before data are made
            return open_source()

        super().__init__(open_after_check, shuffle_buffer)
        self.resolution = resolution
        self.rays_per_step = rays_per_step
        self.query_rays = query_rays
        self.num_samples = num_samples
        self.inner_steps = inner_steps
        self.eval_batches = eval_batches
        self.convention = convention
        self.observations_per_chunk = rays_per_step
        self.support_model = VolumeRendering(white_background, last_interval)
        self.query_model = self.support_model

    @abc.abstractmethod
    def regions(self, training: bool) -> tuple[Region, Region]:
        """What is observed and what is scored, in training or else."""

    def make_task(self, signal, index, seed, *, training):
        del index
        observed, scored = self.regions(training)
        seeds = tf.random.split(seed, 2)
        batches = self.inner_steps if training else self.eval_batches
        support = self._random_rays(
            signal, observed, batches, self.rays_per_step, seeds[0]
        )
        if not training:
            return Task(support, self._all_rays(signal, scored))
        query = self._random_rays(signal, scored, 1, self.query_rays, seeds[1])
        return Task(support, Observations(query.inputs[0], query.values[0]))

    def first_views(self, split: str, count: int) -> list[Views]:
        """The views of up to `count` signals of a split."""
        dataset = self.source.load(split).take(count)
        return [self.source.decode(raw) for raw in dataset]

    def observed_pictures(self, count):
        region, _ = self.regions(False)
        columns = slice(region.first_column, region.last_column)
        return [
            np.clip(of_signal.images[region.first_view, :, columns], 0.0, 1.0)
            for of_signal in self.first_views("test", count)
        ]

    def rays(self, pixels, pose, of_signal: Views, depths) -> tf.Tensor:
        """Rays `[n, 6 + S]` of pixels (row, column) `[n, 2]`.

        Args:
            pixels: they need not be whole numbers.
            pose: `[4, 4]` for all, or `[n, 4, 4]` for each its own.
            of_signal: whose camera it is.
            depths: `[S]` or `[n, S]`.
        """
        origins, directions = cameras.pixel_rays(
            pixels,
            pose,
            of_signal.focal,
            of_signal.principal_point,
            self.convention,
        )
        return cameras.ray_inputs(origins, directions, depths)

    def view_rays(self, pose, of_signal: Views) -> tf.Tensor:
        """The rays `[R * R, 6 + S]` of a view from any pose, row by row."""
        side = self.resolution
        depths = cameras.depths(self.num_samples, *tf.unstack(of_signal.bounds))
        pixels = cameras.pixel_grid(side, side)
        return self.rays(pixels, pose, of_signal, depths)

    def draw_view(self, loss: FieldLoss, params, rays) -> np.ndarray:
        """A view and, on its right, its depths from white (near) to black."""
        side = self.resolution
        field = functional.bind(loss.field, params)
        rays = tf.cast(rays, loss.field.compute_dtype)
        colors, depths = tf.split(
            self.query_model.with_depths(field, rays), [3, 1], axis=-1
        )
        low, high = rays[0, 6], rays[0, -1]
        grey = tf.repeat((high - depths) / (high - low), 3, axis=-1)
        parts = [tf.reshape(part, [side, side, 3]) for part in (colors, grey)]
        return tf.clip_by_value(tf.concat(parts, axis=1), 0.0, 1.0).numpy()

    def _random_rays(self, of_signal, region, steps, count, seed):
        """Fresh rays for each of some steps."""
        seeds = tf.random.split(seed, 2)
        total = steps * count
        side, columns = self.resolution, region.last_column
        columns -= region.first_column
        of_view = side * columns
        drawn = tf.random.stateless_uniform(
            [total],
            seeds[0],
            region.first_view * of_view,
            region.last_view * of_view,
            tf.int32,
        )
        view, pixel = drawn // of_view, drawn % of_view
        row = pixel // columns
        column = region.first_column + pixel % columns
        depths = cameras.depths(
            self.num_samples,
            *tf.unstack(of_signal.bounds),
            (total,),
            seeds[1],
        )
        poses = tf.gather(of_signal.poses, view)
        pixels = tf.stack([row, column], axis=-1)
        rays = self.rays(pixels, poses, of_signal, depths)
        colors = tf.gather(
            tf.reshape(of_signal.images, [-1, 3]),
            (view * side + row) * side + column,
        )
        return Observations(
            tf.reshape(rays, [steps, count, 6 + self.num_samples]),
            tf.reshape(colors, [steps, count, 3]),
        )

    def _all_rays(self, of_signal, region):
        """All rays of a region, view by view and row by row."""
        side, views = self.resolution, slice(*region[:2])
        first, last = region[2:]
        pixels = cameras.pixel_grid(side, last - first) + np.int32([0, first])
        depths = cameras.depths(self.num_samples, *tf.unstack(of_signal.bounds))
        count = region.last_view - region.first_view
        poses = tf.repeat(of_signal.poses[views], len(pixels), axis=0)
        rays = self.rays(np.tile(pixels, [count, 1]), poses, of_signal, depths)
        values = of_signal.images[views, :, first:last]
        return Observations(rays, tf.reshape(values, [-1, 3]))
