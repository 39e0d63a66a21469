"""CT: slices that are observed through a few parallel-beam projections.

There are three sources: phantoms drawn from a seed, the pickle of the paper's
authors, and a folder of the user's own slices.

A signal is an image `[R, R]` in [0, 1]. The support is its sinogram
(`forward_models.ParallelBeam`): angles `[projections]` in radians and values
`[projections, R]`. The query is the image itself (`identity`). Coordinates are
(column, row) in [0, 1): `parallel_beam.slice_coords`.

The phantoms are those of `synthetic.phantoms`. Over 300 of them at 64 x 64, the
class's mean image scores 17.4 dB and each phantom's own mean 15.3 dB
(tests/signals/ct_test.py).
"""

import functools
import logging

import numpy as np
import tensorflow as tf

from tfmetainit.forward_models.parallel_beam import ParallelBeam
from tfmetainit.geometry import reconstruction
from tfmetainit.geometry.parallel_beam import even_angles, slice_coords
from tfmetainit.io import pickles
from tfmetainit.io.errors import InputError, check_range
from tfmetainit.meta.tasks import Observations, Task
from tfmetainit.modalities import ct
from tfmetainit.modalities.ct import CTModality
from tfmetainit.modalities.modality import MAX_RESOLUTION
from tfmetainit.modalities.readers.sinograms import MAX_PROJECTIONS
from tfmetainit.signals.base.folder import array_source, folder_source
from tfmetainit.signals.base.generated import (
    SOURCE_OPTIONS,
    GeneratedImages,
    generated_source,
)
from tfmetainit.signals.base.image_signal import crop_and_resize
from tfmetainit.signals.base.pipeline import (
    Source,
    SourcedSignal,
    conditions_of,
)
from tfmetainit.synthetic.phantoms import random_ellipses, render_ellipses

_LOGGER = logging.getLogger("tfmetainit")

_CLASSICAL = {
    "Filtered back-projection": reconstruction.filtered_back_projection,
    "SART": reconstruction.sart,
    "Total variation": reconstruction.total_variation,
}
_MAX_16_BIT = 65535.0
# 2 048 slices of 256 x 256 in float64 are 1 GiB.
_MAX_PICKLE_BYTES = 4 * 2**30


class Phantoms(GeneratedImages):
    """Randomly perturbed modified Shepp-Logan phantoms."""

    CHANNELS = 1

    @staticmethod
    def draw(rng, resolution):
        """One phantom: uint16 `[resolution, resolution, 1]`, antialiased."""
        fine = render_ellipses(random_ellipses(rng), 4 * resolution)
        fine = np.clip(fine, 0.0, 1.0)
        image = fine.reshape(resolution, 4, resolution, 4).mean(axis=(1, 3))
        return np.uint16(np.round(_MAX_16_BIT * image))[..., None]


class CT(SourcedSignal):
    """Slices observed through parallel-beam projections.

    Args:
        open_source: returns the `Source` of images `[R, R, 1]`.
        resolution: R, the side of the slices in pixels.
        train_projections: numbers of projections of training tasks. One of them
            is drawn for each task, with as many random angles in [0, pi).
        eval_projections: numbers of projections of validation and test tasks,
            at angles evenly spaced in [0, pi). The tasks take these numbers in
            turn, the last one first; `conditions` has a class for each.
        points_per_step: number of pixels drawn at random for the query in
            training; 0 for all.
        interpolation: of the projection, "nearest" or "bilinear".
        window: the values that become 0 and 1 in files of slices
            (`modalities.ct.read_slice`), or None.
        inner_steps: unused, as every inner step takes the same projections.
        shuffle_buffer: number of encoded images shuffled at a time.

    Raises:
        ValueError: if an argument is out of range.
    """

    coord_dims = 2
    value_dims = 1
    observations_per_chunk = None

    def __init__(
        self,
        open_source,
        *,
        resolution: int,
        train_projections=(20,),
        eval_projections=(1, 2, 4, 8),
        points_per_step: int = 0,
        interpolation: str = "nearest",
        window: tuple[float, float] | None = None,
        inner_steps: int = 12,
        shuffle_buffer: int = 10_000,
    ):
        del inner_steps
        check_range("resolution", resolution, 8, MAX_RESOLUTION)
        check_range("points_per_step", points_per_step, 0, 2**24)
        for name, counts in (
            ("train_projections", train_projections),
            ("eval_projections", eval_projections),
        ):
            if not counts:
                raise ValueError(f"`{name}` must have at least one number.")
            for count in counts:
                if type(count) is not int:
                    raise InputError(
                        f"`{name}` must hold integers. Received: {count!r}"
                    )
                check_range(name, count, 1, MAX_PROJECTIONS)
        super().__init__(open_source, shuffle_buffer)
        self.resolution = resolution
        self.train_projections = tuple(train_projections)
        self.eval_projections = tuple(eval_projections)
        self.points_per_step = points_per_step
        self.support_model = ParallelBeam(resolution, interpolation)
        self.coords = slice_coords(resolution)
        self.modality = CTModality(
            resolution, interpolation, max(eval_projections), window
        )

    def make_task(self, signal, index, seed, *, training):
        image = crop_and_resize(signal, self.resolution)
        values = tf.reshape(image, [-1, 1])
        if training:
            return self._random_task(values, seed)
        return self.task(values, self._even_angles(index))

    def task(self, values, angles) -> Task:
        """The task of a slice `[R * R, 1]` with angles `[projections]`."""
        sinogram = self.support_model.project(values[:, 0], angles)
        return Task(
            Observations(angles[None], sinogram[None]),
            Observations(tf.constant(self.coords), values),
        )

    def _even_angles(self, index):
        """The angles of a task, repeated up to the largest number of them."""
        most = max(self.eval_projections)
        table = np.stack(
            [
                np.resize(even_angles(count), most)
                for count in self.eval_projections
            ]
        )
        return tf.gather(tf.constant(table[::-1]), index % len(table))

    def _random_task(self, values, seed) -> Task:
        most = max(self.train_projections)
        seeds = tf.random.split(seed, 3)
        angles = tf.random.stateless_uniform([most], seeds[0], 0.0, np.pi)
        if len(self.train_projections) > 1:
            # Fewer projections are repeated up to the largest number of them:
            # shapes stay static, and the mean loss stays nearly the same.
            choice = tf.random.stateless_uniform(
                [], seeds[1], 0, len(self.train_projections), tf.int32
            )
            count = tf.gather(tf.constant(self.train_projections), choice)
            angles = tf.gather(angles, tf.range(most) % count)
        task = self.task(values, angles)
        if not self.points_per_step:
            return task
        chosen = tf.random.stateless_uniform(
            [self.points_per_step], seeds[2], 0, len(self.coords), tf.int32
        )
        return task._replace(
            query=Observations(
                *(tf.gather(leaf, chosen) for leaf in task.query)
            )
        )

    def conditions(self):
        return conditions_of(self, "eval_projections", "projection")

    def classical(self, task):
        """`geometry.reconstruction`, where scikit-image is installed."""
        angles, sinogram = (leaf[0].numpy() for leaf in task.support)
        try:
            return {
                name: method(sinogram, angles).reshape(-1, 1)
                for name, method in _CLASSICAL.items()
            }
        except ModuleNotFoundError:
            _LOGGER.warning(
                "No classical reconstructions without scikit-image: "
                "pip install tfmetainit[ct]"
            )
            return {}


def read_pickle(path: str) -> Source:
    """Reads the dataset of the paper's authors, `ct_256.pkl`.

    The file holds a mapping with "data_train" and "data_test", float arrays
    `[n, side, side]` in [0, 1]. The last tenth of "data_train", at most 100
    slices, is the validation split.

    Raises:
        InputError: if the file holds anything else.
    """
    content = pickles.load(path, _MAX_PICKLE_BYTES)
    splits = {}
    for name in ("data_train", "data_test"):
        try:
            images = np.asarray(content[name])
            valid = (
                images.dtype.kind == "f"
                and images.ndim == 3
                and images.shape[1] == images.shape[2]
                and len(images) >= 2
                and bool(np.all((images >= 0.0) & (images <= 1.0)))
            )
        except (KeyError, IndexError, TypeError, ValueError):
            valid = False
        if not valid:
            raise InputError(
                "A dataset of slices must map data_train and data_test to "
                "arrays [n, side, side] of floats in [0, 1]. Received: "
                f"{path}, whose {name} is something else"
            )
        splits[name] = np.float32(images)[..., None]
    train = splits["data_train"]
    held_out = min(100, max(1, len(train) // 10))
    return array_source(
        {
            "train": train[:-held_out],
            "validation": train[-held_out:],
            "test": splits["data_test"],
        }
    )


def make_signal_class(
    *,
    resolution: int,
    file: str | None = None,
    folder: str | None = None,
    window: tuple[float, float] | None = None,
    **options,
) -> CT:
    """The class of generated phantoms, or of slices in a file or folder.

    Args:
        resolution: side of the slices in pixels.
        file: path of the authors' `ct_256.pkl`, or None.
        folder: path of a folder of slices (`modalities.ct`), or None.
        window: as of `CT`.
        **options: further arguments of `CT` and, for phantoms, of
            `generated.generated_source`.

    Raises:
        InputError: if both `file` and `folder` are set, or an option is not
            valid.
    """
    of_source = {k: options.pop(k) for k in SOURCE_OPTIONS if k in options}
    if file and folder:
        raise InputError(
            "At most one of `file` and `folder` may be set. Received: "
            f"{file!r} and {folder!r}"
        )
    if file:
        open_source = functools.partial(read_pickle, file)
    elif folder:
        open_source = functools.partial(
            folder_source,
            folder,
            resolution=resolution,
            suffixes=ct.SLICE_SUFFIXES,
            read=functools.partial(ct.read_slice, window=window),
            channels=1,
        )
    else:
        open_source = generated_source(
            Phantoms, resolution=resolution, **of_source
        )
    signal = CT(open_source, resolution=resolution, window=window, **options)
    signal.suffixes = ct.SLICE_SUFFIXES
    return signal
