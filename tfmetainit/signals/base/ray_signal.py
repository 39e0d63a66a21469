"""The base of signal classes that are observed through rays of pictures.

This is view synthesis after Tancik et al. 2021, section 4.3. Every inner step
takes new random rays of one region of a signal's pictures; rays of another
region are scored. Inputs are rays for `forward_models.VolumeRendering`: origin,
direction and depths.
"""

import abc
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfmetainit.forward_models.volume_rendering import (
    VolumeRendering,
    ray_inputs,
)
from tfmetainit.geometry import cameras
from tfmetainit.geometry.cameras import Camera
from tfmetainit.io.errors import check_range
from tfmetainit.meta import functional
from tfmetainit.meta.tasks import FieldLoss, Observations, Task
from tfmetainit.modalities.modality import MAX_RESOLUTION
from tfmetainit.signals.base.pipeline import Source, SourcedSignal


class Views(NamedTuple):
    """The views of one signal, as tensors.

    Attributes:
        images: `[v, R, R, 3]` in [0, 1].
        camera: their cameras, with one lens and poses `[v, 4, 4]`.
        bounds: `[2]`, the depths at which the first sample's interval begins
            and the last sample's interval ends.
    """

    images: tf.Tensor
    camera: Camera
    bounds: tf.Tensor


class Region(NamedTuple):
    """A range of views and of pixel columns; the ends are exclusive."""

    first_view: int
    last_view: int
    first_column: int
    last_column: int


class RaySignal(SourcedSignal):
    """Base of the classes that are observed through rays.

    Args:
        open_source: returns the `Source` of `Views`.
        resolution: R, the side of the views in pixels.
        white_background: as in `VolumeRendering`.
        last_interval: as in `VolumeRendering`.
        rays_per_step: number of rays drawn for each inner step.
        query_rays: number of rays scored in training.
        num_samples: number of depths along a ray.
        inner_steps: number of inner steps for which training draws rays.
        eval_batches: number of batches of rays in a validation or test task; a
            fit with more steps repeats them.
        shuffle_buffer: number of encoded signals shuffled at a time.

    Raises:
        InputError: if a number is out of range.
    """

    coord_dims = 3
    value_dims = 4
    # Every signal is scored on its own rays.
    shares_inputs = False

    def __init__(
        self,
        open_source: Callable[[], Source],
        *,
        resolution: int,
        white_background: bool,
        last_interval: float,
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
            check_range(name, value, low, high)

        super().__init__(open_source, shuffle_buffer)
        self.resolution = resolution
        self.rays_per_step = rays_per_step
        self.query_rays = query_rays
        self.num_samples = num_samples
        self.inner_steps = inner_steps
        self.eval_batches = eval_batches
        self.observations_per_chunk = rays_per_step
        self.support_model = VolumeRendering(white_background, last_interval)
        self.query_model = self.support_model

    @abc.abstractmethod
    def regions(self, training: bool) -> tuple[Region, Region]:
        """The observed and the scored region, in training or in evaluation."""

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

    def rays(self, pixels, camera: Camera, depths) -> tf.Tensor:
        """Rays `[n, 6 + S]` of pixels (row, column) `[n, 2]`.

        Args:
            pixels: floats; they need not be whole numbers.
            camera: with a pose `[4, 4]`, or `[n, 4, 4]` for each pixel.
            depths: `[S]` or `[n, S]`.
        """
        return ray_inputs(*cameras.pixel_rays(pixels, camera), depths)

    def view_rays(self, pose, of_signal: Views) -> tf.Tensor:
        """The rays `[R * R, 6 + S]` of a view from any pose, row by row."""
        camera = of_signal.camera._replace(pose=tf.cast(pose, tf.float32))
        pixels = cameras.pixel_grid(self.resolution, self.resolution)
        return self.rays(pixels, camera, self._depths(of_signal, 0.0))

    def _depths(self, of_signal, within):
        near, far = tf.unstack(of_signal.bounds)
        return cameras.stratified_depths(near, far, self.num_samples, within)

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
        """New random rays of a region, `count` for each of `steps` steps."""
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
        within = tf.random.stateless_uniform(
            [total, self.num_samples], seeds[1]
        )
        camera = of_signal.camera
        camera = camera._replace(pose=tf.gather(camera.pose, view))
        pixels = tf.cast(tf.stack([row, column], axis=-1), tf.float32)
        rays = self.rays(pixels, camera, self._depths(of_signal, within))
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
        pixels = cameras.pixel_grid(side, last - first) + np.float32([0, first])
        count = region.last_view - region.first_view
        camera = of_signal.camera
        poses = tf.repeat(camera.pose[views], len(pixels), axis=0)
        rays = self.rays(
            np.tile(pixels, [count, 1]),
            camera._replace(pose=poses),
            self._depths(of_signal, 0.0),
        )
        values = of_signal.images[views, :, first:last]
        return Observations(rays, tf.reshape(values, [-1, 3]))
