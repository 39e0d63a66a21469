"""Objects seen from a few views: the paper's view synthesis, and ours.

A signal is one object; what is observed of it are the colours of rays through
its views, and what is scored are the rays of views held out (Tancik et al.
2021, section 4.3: of 50 views, 0 to 24 are inputs and 25 to 49 are held out).
Inputs are rays as `forward_models.VolumeRendering` takes them, origin,
direction and depths; pictures are composited on white.

The embedded classes, chairs, lamps and cars, are drawn from a seed by
`object_models`, so that all of this runs without a download. The paper's own
ShapeNet renderings, and others in the same layout, are read from a folder.
"""

import copy
import functools
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from tfmetainit import cameras, files, object_models
from tfmetainit.errors import InputError, check_range
from tfmetainit.forward_models import VolumeRendering
from tfmetainit.generated_images import (
    SOURCE_OPTIONS,
    GeneratedConfig,
    GeneratedSignals,
)
from tfmetainit.kinds import MAX_RESOLUTION, ViewsKind
from tfmetainit.tasks import Observations, SignalClass, Task
from tfmetainit.views import focal_length, read_transforms

NUM_VIEWS = 50
# Views before this one are inputs, the others are held out (paper).
FIRST_HELD_OUT = 25
_TRANSFORMS = "transforms.json"
SPLITS = ("train", "validation", "test")


class _Objects(GeneratedSignals):
    """Base of the builders: 50 RGBA views of each object, with their poses."""

    KIND = ""

    def features(self, resolution):
        picture = tfds.features.Image(
            shape=(resolution, resolution, 4), encoding_format="png"
        )
        return {
            "views": tfds.features.Sequence(picture, length=NUM_VIEWS),
            "poses": tfds.features.Tensor(
                shape=(NUM_VIEWS, 4, 4), dtype=np.float32
            ),
        }

    def example(self, rng, resolution):
        solids = object_models.draw_object(self.KIND, rng)
        poses = object_models.draw_poses(rng, NUM_VIEWS)
        views = [
            object_models.render_view(solids, pose, resolution)
            for pose in poses
        ]
        return {"views": views, "poses": poses}


class Chairs(_Objects):
    """Chairs of parametrised parts, in 50 views each."""

    KIND = "chairs"


class Lamps(_Objects):
    """Lamps of parametrised parts, in 50 views each."""

    KIND = "lamps"


class Cars(_Objects):
    """Cars of parametrised parts, in 50 views each."""

    KIND = "cars"


EMBEDDED = {builder.KIND: builder for builder in (Chairs, Lamps, Cars)}


class ViewSource(NamedTuple):
    """Where objects come from.

    Attributes:
        load: maps a split to a finite `tf.data.Dataset` of whatever `decode`
            takes, in a fixed order.
        decode: maps an element to `(views, poses, focal)`: floats in [0, 1]
            `[50, R, R, 3]`, composited on white, "opengl" poses `[50, 4, 4]`,
            and the focal length in pixels, a scalar.
    """

    load: Callable[[str], tf.data.Dataset]
    decode: Callable


class _Views(NamedTuple):
    """One decoded object: what `ViewSource.decode` gives."""

    views: tf.Tensor
    poses: tf.Tensor
    focal: tf.Tensor


def embedded_source(kind, *, resolution, **of_source) -> ViewSource:
    """The objects of one of `EMBEDDED`, generated unless they are there."""
    config = GeneratedConfig(
        resolution,
        of_source.get("num_train", 400),
        of_source.get("num_eval", 20),
        of_source.get("data_seed", 0),
    )
    builder = EMBEDDED[kind].prepare(config, of_source.get("data_dir"))

    def load(split):
        return builder.as_dataset(
            split=split,
            shuffle_files=False,
            decoders={"views": tfds.decode.SkipDecoding()},
        )

    def decode_view(encoded):
        return tf.io.decode_png(encoded, channels=4)

    def decode(example):
        views = tf.map_fn(
            decode_view, example["views"], fn_output_signature=tf.uint8
        )
        views = tf.ensure_shape(views, [NUM_VIEWS, resolution, resolution, 4])
        focal = focal_length(resolution, object_models.CAMERA_ANGLE)
        return on_white(views), example["poses"], tf.constant(focal, tf.float32)

    return ViewSource(load, decode)


def folder_source(folder: str, splits: str, *, resolution: int) -> ViewSource:
    """Objects in the layout of the paper's authors.

    `{class}_splits.json` maps "train", "val" and "test" to names; each names a
    folder, with the transforms.json of 50 views (`views.read_transforms`).

    Args:
        folder: where the objects' folders are.
        splits: path of the splits' file, from there.
        resolution: of the views, which are cropped and resized to it.

    Raises:
        InputError: naming the file that is missing or not valid.
    """
    root = pathlib.Path(folder)
    content = files.read_json(root / splits)
    names = {}
    for split, key in zip(SPLITS, ("train", "val", "test")):
        of_split = content.get(key) if isinstance(content, dict) else None
        if (
            not isinstance(of_split, list)
            or not of_split
            or not all(isinstance(name, str) for name in of_split)
        ):
            raise InputError(
                "A file of splits must map train, val and test to lists of "
                f"names. Received: {root / splits}, whose {key} is not one"
            )
        for name in of_split:
            if not (root / name / _TRANSFORMS).is_file():
                raise InputError(
                    f"{root / splits} names the object {name}, but there is no "
                    f"file {root / name / _TRANSFORMS}."
                )
        names[split] = of_split

    def read(name):
        path = root / name.decode() / _TRANSFORMS
        pictures, poses, angle = read_transforms(path, resolution, NUM_VIEWS)
        if len(pictures) < NUM_VIEWS:
            raise InputError(
                f"An object must have {NUM_VIEWS} views. Received: {path} with "
                f"{len(pictures)}"
            )
        return (
            np.float32(pictures),
            np.float32(poses),
            np.float32(focal_length(resolution, angle)),
        )

    def load(split):
        return tf.data.Dataset.from_tensor_slices(names[split])

    def decode(name):
        pictures, poses, focal = tf.numpy_function(
            read, [name], (tf.float32, tf.float32, tf.float32), stateful=False
        )
        return (
            tf.ensure_shape(pictures, [NUM_VIEWS, resolution, resolution, 3]),
            tf.ensure_shape(poses, [NUM_VIEWS, 4, 4]),
            tf.ensure_shape(focal, []),
        )

    return ViewSource(load, decode)


def on_white(rgba: tf.Tensor) -> tf.Tensor:
    """uint8 RGBA `[..., 4]` composited on white: float32 `[..., 3]`."""
    rgba = tf.cast(rgba, tf.float32) / 255.0
    opacity = rgba[..., 3:]
    return rgba[..., :3] * opacity + (1.0 - opacity)


class Objects(SignalClass):
    """Objects observed through the rays of some of their views.

    Args:
        open_source: returns the `ViewSource`.
        resolution: R, the side of the views in pixels.
        train_views: number of views that a training task is observed through.
        eval_views: numbers of views that validation and test objects are
            observed through. The first is validated; `conditions` gives each
            alone.
        scored_views: number of held-out views that are scored.
        rays_per_step: number of rays drawn for each inner step.
        query_rays: number of rays of held-out views scored in training.
        num_samples: number of depths along a ray.
        near: depth of the first sample's interval,
        far: end of the last one's.
        inner_steps: number of inner steps for which training draws rays.
        eval_batches: number of batches of rays that a validation or test task
            has; a longer fit goes through them again.
        shuffle_buffer: number of encoded objects shuffled at a time.
    """

    coord_dims = 3
    value_dims = 4

    def __init__(
        self,
        open_source: Callable[[], ViewSource],
        *,
        resolution: int,
        train_views: int = 25,
        eval_views=(1,),
        scored_views: int = 4,
        rays_per_step: int = 128,
        query_rays: int = 256,
        num_samples: int = 128,
        near: float = 2.0,
        far: float = 6.0,
        inner_steps: int = 32,
        eval_batches: int = 128,
        shuffle_buffer: int = 1_000,
        points_per_step: int = 0,
    ):
        del points_per_step  # of images
        held_out = NUM_VIEWS - FIRST_HELD_OUT
        for name, value, low, high in (
            ("resolution", resolution, 8, MAX_RESOLUTION),
            ("train_views", train_views, 1, FIRST_HELD_OUT),
            ("scored_views", scored_views, 1, held_out),
            ("rays_per_step", rays_per_step, 1, 2**20),
            ("query_rays", query_rays, 1, 2**20),
            ("num_samples", num_samples, 2, 4096),
            ("inner_steps", inner_steps, 1, 1000),
            ("eval_batches", eval_batches, 1, 2**16),
        ):
            check_range(f"config.signal.{name}", value, low, high)
        if not 0.0 < near < far:
            raise InputError(
                "config.signal must have 0 < near < far. Received: "
                f"near={near}, far={far}"
            )
        if not eval_views:
            raise ValueError("`eval_views` must name at least one number")
        for views in eval_views:
            check_range("config.signal.eval_views", views, 1, FIRST_HELD_OUT)
        self._open_source = open_source
        self.resolution = resolution
        self.train_views = train_views
        self.eval_views = tuple(eval_views)
        self.scored_views = scored_views
        self.rays_per_step = rays_per_step
        self.query_rays = query_rays
        self.num_samples = num_samples
        self.near, self.far = near, far
        self.inner_steps = inner_steps
        self.eval_batches = eval_batches
        self.shuffle_buffer = shuffle_buffer
        self.observations_per_chunk = rays_per_step
        self.support_model = VolumeRendering(white_background=True)
        self.query_model = self.support_model
        self.kind = ViewsKind(
            resolution,
            object_models.CAMERA_ANGLE,
            near,
            far,
            num_samples,
            rays_per_step,
        )

    @functools.cached_property
    def _source(self) -> ViewSource:
        return self._open_source()

    def make_dataset(self, split, batch_size, seed=0, start=0):
        if split not in SPLITS:
            raise InputError(
                f"`split` must be one of {SPLITS}. Received: split={split!r}"
            )
        cameras.perspective()  # known to be missing before data are made
        dataset = self._source.load(split)
        training = split == "train"
        if training:
            dataset = dataset.shuffle(self.shuffle_buffer, seed=seed).repeat()
        dataset = dataset.skip(start * batch_size)
        # The running index makes the rays a function of seed and position.
        dataset = tf.data.Dataset.zip(
            tf.data.Dataset.counter(start * batch_size), dataset
        )

        def element(index, raw):
            of_object = _Views(*self._source.decode(raw))
            seeds = tf.random.split(tf.stack([seed, index]), 3)
            if training:
                support = self._random_rays(
                    *(of_object, 0, self.train_views),
                    *(self.inner_steps, self.rays_per_step, seeds[0]),
                )
                query = self._random_rays(
                    *(of_object, FIRST_HELD_OUT, NUM_VIEWS),
                    *(1, self.query_rays, seeds[1]),
                )
                return Task(
                    support, Observations(query.inputs[0], query.values[0])
                )
            support = self._random_rays(
                *(of_object, 0, self.eval_views[0]),
                *(self.eval_batches, self.rays_per_step, seeds[0]),
            )
            return Task(support, self._whole_views(of_object))

        return (
            dataset.map(element, num_parallel_calls=2)
            .batch(batch_size, drop_remainder=True)
            .prefetch(2)
        )

    def _rays(self, pixels, poses, focal, depths) -> tf.Tensor:
        """Rays `[n, 6 + S]` of pixels `[n, 2]`, each of a camera of its own."""
        middle = 0.5 * self.resolution
        origins, directions = cameras.pixel_rays(
            pixels, poses, focal, (middle, middle)
        )
        return cameras.ray_inputs(origins, directions, depths)

    def _random_rays(self, of_object, first, last, steps, count, seed):
        """Fresh rays for each of some steps, of the views in a range."""
        seeds = tf.random.split(seed, 2)
        total = steps * count
        side = self.resolution
        drawn = tf.random.stateless_uniform(
            [total], seeds[0], first * side**2, last * side**2, tf.int32
        )
        view, pixel = drawn // side**2, drawn % side**2
        pixels = tf.stack([pixel // side, pixel % side], axis=-1)
        depths = cameras.depths(
            self.num_samples, self.near, self.far, (total,), seeds[1]
        )
        poses = tf.gather(of_object.poses, view)
        rays = self._rays(pixels, poses, of_object.focal, depths)
        colors = tf.gather(tf.reshape(of_object.views, [-1, 3]), drawn)
        return Observations(
            tf.reshape(rays, [steps, count, 6 + self.num_samples]),
            tf.reshape(colors, [steps, count, 3]),
        )

    def _whole_views(self, of_object):
        """All rays of the held-out views that are scored."""
        side, count = self.resolution, self.scored_views
        chosen = slice(FIRST_HELD_OUT, FIRST_HELD_OUT + count)
        pixels = np.tile(cameras.pixel_grid(side, side), [count, 1])
        depths = cameras.depths(self.num_samples, self.near, self.far)
        poses = tf.repeat(of_object.poses[chosen], side**2, axis=0)
        rays = self._rays(pixels, poses, of_object.focal, depths)
        values = tf.reshape(of_object.views[chosen], [-1, 3])
        return Observations(rays, values)

    def conditions(self):
        classes = {}
        for views in self.eval_views:
            alone = copy.copy(self)
            alone.eval_views = (views,)
            classes[f"{views} view{'s' if views > 1 else ''}"] = alone
        return classes


def make_signal_class(
    *,
    kind: str = "chairs",
    folder: str | None = None,
    resolution: int = 64,
    **options,
) -> Objects:
    """The class of an embedded kind of objects, or of those in a folder.

    Args:
        kind: "chairs", "lamps" or "cars"; of a folder, the class whose
            `{kind}_splits.json` is read.
        folder: path of a folder in the authors' layout, or None.
        resolution: side of the views in pixels.
        **options: further arguments of `Objects`, and `num_train`,
            `num_eval`, `data_seed` and `data_dir` of the generated objects.
    """
    of_source = {k: options.pop(k) for k in SOURCE_OPTIONS if k in options}
    if folder:
        open_source = functools.partial(
            folder_source,
            folder,
            f"{kind}_splits.json",
            resolution=resolution,
        )
    elif kind in EMBEDDED:
        open_source = functools.partial(
            embedded_source, kind, resolution=resolution, **of_source
        )
    else:
        raise InputError(
            f"config.signal.kind must be one of {sorted(EMBEDDED)}. Received: "
            f"{kind!r}"
        )
    return Objects(open_source, resolution=resolution, **options)
