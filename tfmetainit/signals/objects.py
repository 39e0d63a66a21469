"""Objects observed through a few views: the paper's view synthesis.

A signal is one object. The support holds the colours of rays through some of
its views; the query holds rays of held-out views. Each object has 50 views:
views 0 to 24 are inputs, and 25 to 49 are held out (Tancik et al. 2021, section
4.3). Inputs are rays for `forward_models.VolumeRendering`. Pictures are
composited on white.

The embedded classes, chairs, lamps and cars, are drawn from a seed by
`synthetic.object_models`, without a download. The paper's ShapeNet renderings,
and other scenes of objects, are read from a folder.
"""

import functools
import math
import pathlib
from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from tqdm import tqdm

from tfmetainit.geometry import cameras
from tfmetainit.geometry.cameras import Camera
from tfmetainit.io import files
from tfmetainit.io.errors import InputError, check_range
from tfmetainit.modalities.rays import ObjectModality
from tfmetainit.modalities.readers.scenes import (
    is_scene,
    open_scene,
    read_scene,
    scale_cameras,
    scene_folders,
)
from tfmetainit.signals.base.generated import (
    SOURCE_OPTIONS,
    GeneratedSignals,
    open_splits,
)
from tfmetainit.signals.base.layouts import divide
from tfmetainit.signals.base.pipeline import SPLITS, Source, conditions_of
from tfmetainit.signals.base.python_reader import read_in_pipeline
from tfmetainit.signals.base.ray_signal import RaySignal, Region, Views
from tfmetainit.synthetic import object_models

NUM_VIEWS = 50
# Earlier views are inputs; this one and later ones are held out (paper).
FIRST_HELD_OUT = 25
_FRAMES = 24  # of a turntable
_TURNTABLE_ELEVATION = math.radians(25.0)


class _Objects(GeneratedSignals):
    """Base of the builders: 50 RGBA views of each object, with poses."""

    KIND = ""

    @classmethod
    def features(cls, resolution):
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
        # The stored poses have OpenGL axes, as in ShapeNet.
        return {"views": views, "poses": cameras.swap_opengl(poses)}


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


def embedded_source(
    kind, resolution, of_source, near: float, far: float
) -> Source:
    """The objects of one of `EMBEDDED`, generated unless they exist."""
    open_split = open_splits(EMBEDDED[kind], resolution, **of_source)

    def load(split):
        return open_split(split).as_dataset(
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
        camera = cameras.centred(
            cameras.swap_opengl(example["poses"]),
            resolution,
            resolution,
            object_models.CAMERA_ANGLE,
        )
        return Views(
            on_white(views),
            _as_tensors(camera),
            tf.constant([near, far], tf.float32),
        )

    return Source(load, decode)


def folder_source(
    folder: str,
    splits: str,
    resolution: int,
    angle: float,
    camera_scale: float,
    near: float,
    far: float,
) -> Source:
    """Objects in the folders of their scenes.

    `{class}_splits.json` (paper) maps "train", "val" and "test" to lists of
    folders' names. Without it, every folder below that is a scene
    (`readers.scenes`) is an object; folders for splits, such as cars_train/, or
    hashes of the names divide them (`layouts.divide`).

    Args:
        folder: path of the folder that holds the objects' folders.
        splits: path of the file of splits, relative to `folder`.
        resolution: side in pixels that the views are cropped and resized to.
        angle: field of view of a square view, in radians.
        camera_scale: factor of all lengths in the poses.
        near: depth at which the first sample's interval begins.
        far: depth at which the last sample's interval ends.

    Raises:
        InputError: if a file is missing or not valid; the message names it.
    """
    divided = _find_objects(pathlib.Path(folder), splits)
    opened, ranges = [], {}
    for split in SPLITS:
        first = len(opened)
        opened += map(open_scene, divided[split])
        ranges[split] = (first, len(opened))
    too_few = [s for s in opened if len(s.pictures) < NUM_VIEWS]
    if too_few:
        raise InputError(
            f"An object must have {NUM_VIEWS} views. Received: {len(too_few)} "
            f"of {len(opened)} objects with fewer, such as {too_few[0].path} "
            f"with {len(too_few[0].pictures)}"
        )

    def read(index):
        scene = opened[index]
        views, camera = read_scene(scene, resolution, NUM_VIEWS)
        _check_angle(scene, camera, resolution, angle)
        poses = scale_cameras(
            camera.pose, camera_scale, (near, far), scene.path
        )
        leaves = (views, *camera._replace(pose=poses))
        return tuple(map(np.float32, leaves))

    def load(split):
        return tf.data.Dataset.range(*ranges[split])

    def decode(index):
        views, poses, focal, principal_point = read_in_pipeline(
            read, index, (tf.float32,) * 4
        )
        return Views(
            tf.ensure_shape(views, [NUM_VIEWS, resolution, resolution, 3]),
            Camera(
                tf.ensure_shape(poses, [NUM_VIEWS, 4, 4]),
                tf.ensure_shape(focal, [2]),
                tf.ensure_shape(principal_point, [2]),
            ),
            tf.constant([near, far], tf.float32),
        )

    return Source(load, decode)


def _find_objects(root, splits):
    """Paths of the objects' folders, by split."""
    if (root / splits).is_file():
        return _read_splits(root, splits)
    found = scene_folders(root)
    divided, _ = divide(root, found)
    if not all(divided.values()):
        raise InputError(
            f"`folder` must hold {splits}, which maps train, val and test to "
            "lists of folders' names, or the folders of three objects at least "
            "(each with transforms.json, transforms_train.json, or rgb/, pose/ "
            f"and intrinsics.txt). Received: {root} with {len(found)} objects "
            f"and no {splits}"
        )
    return divided


def _read_splits(root, splits):
    """Paths of the objects' folders, by split, as the authors have them."""
    content = files.read_json(root / splits)
    divided = {}
    for split, key in zip(SPLITS, ("train", "val", "test")):
        names = content.get(key) if isinstance(content, dict) else None
        if (
            not isinstance(names, list)
            or not names
            or not all(isinstance(name, str) for name in names)
        ):
            raise InputError(
                "A file of splits must map train, val and test to lists of "
                f"names. Received: {root / splits} with another {key}"
            )
        divided[split] = [root / name for name in names]
    missing = [
        path
        for paths in divided.values()
        for path in paths
        if not is_scene(path)
    ]
    if missing:
        raise InputError(
            f"{root / splits} names {len(missing)} objects whose folder is no "
            f"scene, such as {missing[0]}."
        )
    return divided


def _check_angle(scene, camera, resolution, angle):
    """Raises InputError unless a scene has the class's field of view."""
    spanned = 2.0 * math.atan(0.5 * resolution / camera.focal[0])
    if abs(spanned - angle) > 0.01 * angle:
        raise InputError(
            "All square views of a class must have the field of view `angle` "
            f"(now {angle:g} radians), which `fit` assumes of pictures with a "
            f"pose. Received: {scene.path} with {spanned:.4f}"
        )


def _as_tensors(camera: Camera) -> Camera:
    return Camera(*(tf.cast(leaf, tf.float32) for leaf in camera))


def on_white(rgba: tf.Tensor) -> tf.Tensor:
    """uint8 RGBA `[..., 4]` composited on white: float32 `[..., 3]`."""
    rgba = tf.cast(rgba, tf.float32) / 255.0
    opacity = rgba[..., 3:]
    return rgba[..., :3] * opacity + (1.0 - opacity)


class Objects(RaySignal):
    """Objects observed through the rays of some of their views.

    Args:
        open_source: maps `near` and `far` to the `Source` of `Views`.
        train_views: number of observed views of a training task.
        eval_views: numbers of observed views of validation and test objects.
            Validation uses the first; `conditions` has a class for each.
        scored_views: number of held-out views that are scored.
        near: depth at which the first sample's interval begins.
        far: depth at which the last sample's interval ends.
        angle: field of view of a square view, in radians.
        camera_scale: factor of all lengths in files of poses.
        **options: further arguments of `RaySignal`.

    Raises:
        ValueError: if an argument is out of range.
    """

    def __init__(
        self,
        open_source: Callable[[float, float], Source],
        *,
        train_views: int = 25,
        eval_views=(1,),
        scored_views: int = 4,
        near: float = 2.0,
        far: float = 6.0,
        angle: float = object_models.CAMERA_ANGLE,
        camera_scale: float = 1.0,
        **options,
    ):
        held_out = NUM_VIEWS - FIRST_HELD_OUT
        check_range("train_views", train_views, 1, FIRST_HELD_OUT)
        check_range("scored_views", scored_views, 1, held_out)
        if not eval_views:
            raise ValueError("`eval_views` must have at least one number.")
        for views in eval_views:
            check_range("eval_views", views, 1, FIRST_HELD_OUT)
        super().__init__(
            functools.partial(open_source, near, far),
            white_background=True,
            last_interval=1e-3,
            **options,
        )
        self.train_views = train_views
        self.eval_views = tuple(eval_views)
        self.scored_views = scored_views
        self.modality = ObjectModality(
            self.resolution,
            angle,
            near,
            far,
            self.num_samples,
            self.rays_per_step,
            camera_scale,
        )

    def regions(self, training):
        observed = self.train_views if training else self.eval_views[0]
        last = NUM_VIEWS if training else FIRST_HELD_OUT + self.scored_views
        return (
            Region(0, observed, 0, self.resolution),
            Region(FIRST_HELD_OUT, last, 0, self.resolution),
        )

    def conditions(self):
        return conditions_of(self, "eval_views", "view")

    def films(self, loss, adapted):
        """Turntables: an object on the left, its depths on the right."""
        of_signals = self.first_views("test", len(adapted))
        frames = []
        for azimuth in tqdm(
            np.linspace(0.0, 2.0 * math.pi, _FRAMES, endpoint=False),
            desc="Turntable",
            leave=False,
            disable=None,
        ):
            pose = cameras.orbit(
                azimuth, _TURNTABLE_ELEVATION, self.modality.distance
            )
            parts = [
                self.draw_view(loss, params, self.view_rays(pose, views))
                for params, views in zip(adapted, of_signals)
            ]
            frames.append(np.concatenate(parts))
        return {"turntable": frames}


def make_signal_class(
    *,
    kind: str = "chairs",
    folder: str | None = None,
    resolution: int = 64,
    **options,
) -> Objects:
    """The class of an embedded kind of objects, or of those in a folder.

    Args:
        kind: "chairs", "lamps" or "cars"; for a folder, the class whose
            `{kind}_splits.json` is read.
        folder: path of a folder of objects (`folder_source`), or None.
        resolution: side of the views in pixels.
        **options: further arguments of `Objects`, and `num_train`, `num_eval`,
            `data_seed` and `data_dir` of the embedded objects. The `angle` of
            embedded objects is fixed.

    Raises:
        InputError: if an option is not valid.
    """
    of_source = {k: options.pop(k) for k in SOURCE_OPTIONS if k in options}
    angle = options.get("angle", object_models.CAMERA_ANGLE)
    if folder:
        open_source = functools.partial(
            folder_source,
            folder,
            f"{kind}_splits.json",
            resolution,
            angle,
            options.get("camera_scale", 1.0),
        )
    elif angle != object_models.CAMERA_ANGLE:
        raise InputError(
            "`angle` of the embedded objects must be "
            f"{object_models.CAMERA_ANGLE}. Received: {angle}"
        )
    elif kind in EMBEDDED:
        open_source = functools.partial(
            embedded_source, kind, resolution, of_source
        )
    else:
        raise InputError(
            f"`kind` must be one of {sorted(EMBEDDED)}. Received: {kind!r}"
        )
    return Objects(open_source, resolution=resolution, **options)
