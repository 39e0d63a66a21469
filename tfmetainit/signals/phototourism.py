"""One landmark, photographed in varying light.

A signal is one photograph. The initial weights represent the place; the inner
loop adapts to the appearance in one photograph: the light, the weather, the
camera's colours. A field is fitted to the rays of the photograph's left half
and scored on its right half (Tancik et al. 2021, section 4.3).

A collection in a folder (`readers.read_collection`) is split in alphabetical
order of file names: 20 photographs for testing, 5 for validation, the rest
for training (paper). Photographs are cropped to their
central squares and resized to one resolution; the paper uses them uncropped.
The embedded landmark is drawn by `synthetic.landmark_model`.
"""

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from tqdm import tqdm

from tfmetainit.geometry.cameras import Camera
from tfmetainit.io.errors import InputError, check_range
from tfmetainit.modalities.rays import LandmarkModality
from tfmetainit.modalities.readers.photo_collections import read_collection
from tfmetainit.signals.base.generated import (
    SOURCE_OPTIONS,
    GeneratedSignals,
    open_splits,
)
from tfmetainit.signals.base.pipeline import Source
from tfmetainit.signals.base.python_reader import read_in_pipeline
from tfmetainit.signals.base.ray_signal import RaySignal, Region, Views
from tfmetainit.synthetic import landmark_model

_NUM_TEST = 20
_NUM_VALIDATION = 5
# The last interval is opaque: there is no background (paper).
_LAST_INTERVAL = 1e10
_FRAMES = 24  # of a film
TRAIN_ON = ("photographs", "halves")


class Landmark(GeneratedSignals):
    """Photographs of one building on a square, in varying light."""

    @classmethod
    def features(cls, resolution):
        picture = tfds.features.Image(
            shape=(resolution, resolution, 3), encoding_format="png"
        )
        return {
            "image": picture,
            "pose": tfds.features.Tensor(shape=(4, 4), dtype=np.float32),
            "focal": tfds.features.Scalar(dtype=np.float32),
        }

    def example(self, rng, resolution):
        image, camera = landmark_model.draw_photograph(rng, resolution)
        return {
            "image": image,
            "pose": camera.pose,
            "focal": np.float32(camera.focal[0]),
        }


def embedded_source(resolution, of_source) -> Source:
    """Photographs of `Landmark`, generated unless they exist."""
    open_split = open_splits(Landmark, resolution, **of_source)

    def load(split):
        return open_split(split).as_dataset(split=split, shuffle_files=False)

    def decode(example):
        return Views(
            tf.cast(example["image"], tf.float32)[None] / 255.0,
            Camera(
                example["pose"][None],
                tf.fill([2], example["focal"]),
                tf.constant([0.5 * resolution] * 2, tf.float32),
            ),
            tf.constant([landmark_model.NEAR, landmark_model.FAR], tf.float32),
        )

    return Source(load, decode)


def folder_source(folder: str, modality: LandmarkModality) -> Source:
    """The photographs of a collection in a folder.

    Raises:
        InputError: if they cannot be read, or are too few.
    """
    collection = read_collection(folder, modality.scale)
    if len(collection) <= _NUM_TEST + _NUM_VALIDATION:
        raise InputError(
            f"A collection must have more than {_NUM_TEST + _NUM_VALIDATION} "
            f"photographs: {_NUM_TEST} for testing, {_NUM_VALIDATION} for "
            f"validation, the others for training. Received: {folder} with "
            f"{len(collection)}"
        )
    paths = list(collection)
    first = _NUM_TEST + _NUM_VALIDATION
    ranges = {
        "train": (first, len(paths)),
        "validation": (_NUM_TEST, first),
        "test": (0, _NUM_TEST),
    }

    def load(split):
        return tf.data.Dataset.range(*ranges[split])

    def read(index):
        path = paths[index]
        image, photograph = modality.square(path, collection[path])
        leaves = (image, *photograph.camera, photograph.bounds)
        return tuple(map(np.float32, leaves))

    def decode(index):
        image, pose, focal, principal_point, bounds = read_in_pipeline(
            read, index, (tf.float32,) * 5
        )
        side = modality.resolution
        return Views(
            tf.ensure_shape(image, [side, side, 3])[None],
            Camera(
                tf.ensure_shape(pose, [4, 4])[None],
                tf.ensure_shape(focal, [2]),
                tf.ensure_shape(principal_point, [2]),
            ),
            tf.ensure_shape(bounds, [2]),
        )

    return Source(load, decode)


class Photographs(RaySignal):
    """Photographs of one landmark.

    Args:
        folder: path of a collection, or None for the embedded landmark.
        of_source: `num_train`, `num_eval`, `data_seed` and `data_dir` of the
            embedded landmark.
        scale: factor by which all lengths of a collection's cameras are
            multiplied; the embedded landmark is not scaled.
        train_on: the support in training: "photographs" for whole photographs
            (paper, Reptile), or "halves" for their left halves (for MAML). The
            query in training is the whole photograph.
        **options: further arguments of `RaySignal`.

    Raises:
        InputError: if an argument is out of range.
    """

    def __init__(
        self,
        folder: str | None,
        of_source: dict,
        *,
        scale: float = 0.05,
        train_on: str = "photographs",
        **options,
    ):
        check_range("scale", scale, 1e-6, 1e6)
        if train_on not in TRAIN_ON:
            raise InputError(
                f"`train_on` must be one of {TRAIN_ON}. Received: {train_on!r}"
            )

        def open_source():
            if folder:
                return folder_source(folder, self.modality)
            return embedded_source(self.resolution, of_source)

        super().__init__(
            open_source,
            white_background=False,
            last_interval=_LAST_INTERVAL,
            **options,
        )
        self.train_on = train_on
        self.modality = LandmarkModality(
            self.resolution, scale, self.num_samples, self.rays_per_step
        )

    def regions(self, training):
        side, middle = self.resolution, self.resolution // 2
        left = Region(0, 1, 0, middle)
        whole = Region(0, 1, 0, side)
        if not training:
            return left, Region(0, 1, middle, side)
        return (whole if self.train_on == "photographs" else left), whole

    def films(self, loss, adapted):
        """Interpolates from one photograph's light to the next; with depths.

        The weights are interpolated linearly between adapted fields (paper).
        """
        of_signals = self.first_views("test", len(adapted))
        rays = self.view_rays(of_signals[0].camera.pose[0], of_signals[0])
        stops = [*adapted, adapted[0]]
        each = _FRAMES // len(adapted)
        frames = []
        for index in tqdm(
            range(each * len(adapted)),
            desc="Interpolation",
            leave=False,
            disable=None,
        ):
            share = index % each / each
            params = [
                (1.0 - share) * a + share * b
                for a, b in zip(stops[index // each], stops[index // each + 1])
            ]
            frames.append(self.draw_view(loss, params, rays))
        return {"interpolation": frames}


def make_signal_class(
    *, folder: str | None = None, resolution: int = 64, **options
) -> Photographs:
    """The photographs of a collection, or of the embedded landmark.

    Args:
        folder: path of a collection's folder, or None.
        resolution: side of the photographs in pixels.
        **options: further arguments of `Photographs`, and `num_train`,
            `num_eval`, `data_seed` and `data_dir` of the embedded landmark.
    """
    of_source = {k: options.pop(k) for k in SOURCE_OPTIONS if k in options}
    return Photographs(folder, of_source, resolution=resolution, **options)
