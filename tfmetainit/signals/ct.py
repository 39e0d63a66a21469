"""Tomography: slices that are seen through a few parallel-beam projections.

Three sources: phantoms drawn from a seed, the pickle of the paper's authors,
and a folder of the user's own slices.

A signal is an image `[R, R]` in [0, 1]. What is observed of it, and adapted to,
is its sinogram (`forward_models.ParallelBeam`): angles `[views]` in radians and
values `[views, R]`. What is scored is the image itself, through `identity`.
Coordinates are (column, row) in [0, 1): `tomography.slice_coords`.

The phantoms are the ten ellipses of the modified Shepp-Logan phantom (Toft
1996), each with a perturbed centre, size, angle and density. How the authors of
Tancik et al. 2021 randomised theirs is not published. Over 300 phantoms at
64 x 64, the class's mean image scores 17.4 dB and each one's own mean 15.3
dB (tests/signals_test.py).
"""

import functools
import logging

import numpy as np
import tensorflow as tf

from tfmetainit import restricted_pickle, tomography
from tfmetainit.errors import InputError, check_range
from tfmetainit.folder_images import array_source, read_folder
from tfmetainit.forward_models import ParallelBeam
from tfmetainit.generated_images import (
    SOURCE_OPTIONS,
    GeneratedImages,
    generated_source,
)
from tfmetainit.image_signals import crop_and_resize
from tfmetainit.kinds import MAX_RESOLUTION, SliceKind
from tfmetainit.pipelines import Source, SourcedSignal, by_views
from tfmetainit.tasks import Observations, Task
from tfmetainit.tomography import MAX_VIEWS, even_angles, slice_coords

_LOGGER = logging.getLogger("tfmetainit")

_MAX_16_BIT = 65535.0
# 2 048 slices of 256 x 256 in float64 are 1 GiB.
_MAX_PICKLE_BYTES = 4 * 2**30

# Density, half axes, centre (x, y), angle in degrees; in units of half the
# image's side, y upwards. Densities add where ellipses overlap.
SHEPP_LOGAN = np.array(
    [
        [1.0, 0.6900, 0.9200, 0.00, 0.0000, 0.0],
        [-0.8, 0.6624, 0.8740, 0.00, -0.0184, 0.0],
        [-0.2, 0.1100, 0.3100, 0.22, 0.0000, -18.0],
        [-0.2, 0.1600, 0.4100, -0.22, 0.0000, 18.0],
        [0.1, 0.2100, 0.2500, 0.00, 0.3500, 0.0],
        [0.1, 0.0460, 0.0460, 0.00, 0.1000, 0.0],
        [0.1, 0.0460, 0.0460, 0.00, -0.1000, 0.0],
        [0.1, 0.0460, 0.0230, -0.08, -0.6050, 0.0],
        [0.1, 0.0230, 0.0230, 0.00, -0.6060, 0.0],
        [0.1, 0.0230, 0.0460, 0.06, -0.6050, 0.0],
    ]
)


def render_ellipses(ellipses: np.ndarray, resolution: int) -> np.ndarray:
    """The sum of some ellipses, `[resolution, resolution]`, unclipped.

    Args:
        ellipses: `[n, 6]` as in `SHEPP_LOGAN`.
        resolution: number of pixels along each axis; pixel k has its centre
            at (2 k + 1) / resolution - 1.
    """
    axis = (2.0 * np.arange(resolution) + 1.0) / resolution - 1.0
    x, y = np.meshgrid(axis, -axis)
    image = np.zeros([resolution, resolution])
    for density, a, b, x0, y0, degrees in ellipses:
        cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        along = (x - x0) * cos + (y - y0) * sin
        across = (y - y0) * cos - (x - x0) * sin
        image += density * ((along / a) ** 2 + (across / b) ** 2 <= 1.0)
    return image


def random_ellipses(rng: np.random.Generator) -> np.ndarray:
    """A perturbed Shepp-Logan phantom: ellipses `[10, 6]`.

    The two of the skull move together, so that it stays closed; every other
    one moves, grows, turns and changes its density by itself.
    """
    ellipses = SHEPP_LOGAN.copy()
    count = len(ellipses)
    skull, inside = slice(0, 2), slice(2, count)
    scale = rng.uniform(0.8, 1.05, 2)
    ellipses[:, 1:3] *= scale
    ellipses[:, 3:5] *= scale
    shift = rng.uniform(-0.05, 0.05, 2)
    turn = rng.uniform(-20.0, 20.0)
    ellipses[inside, 1:3] *= rng.uniform(0.7, 1.4, (count - 2, 2))
    ellipses[inside, 3:5] += rng.uniform(-0.08, 0.08, (count - 2, 2))
    ellipses[inside, 5] += rng.uniform(-25.0, 25.0, count - 2)
    ellipses[inside, 0] *= rng.uniform(0.5, 1.5, count - 2)
    ellipses[skull, 0] *= rng.uniform(0.9, 1.1)
    # All of it turns about the image's centre, and moves.
    cos, sin = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    ellipses[:, 3:5] = ellipses[:, 3:5] @ np.array([[cos, sin], [-sin, cos]])
    ellipses[:, 3:5] += shift
    ellipses[:, 5] += turn
    return ellipses


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
        train_views: numbers of views of training tasks: one of them is drawn
            for each task, with as many random angles in [0, pi).
        eval_views: numbers of views of validation and test tasks, at angles
            evenly spaced in [0, pi). They take turns, the last one first;
            `conditions` gives each alone.
        points_per_step: number of pixels drawn at random for the query in
            training; 0 for all.
        interpolation: of the projection, "nearest" or "bilinear".
        inner_steps: unused: the same views are seen at every inner step.
        shuffle_buffer: number of encoded images shuffled at a time.
    """

    coord_dims = 2
    value_dims = 1
    observations_per_chunk = None

    def __init__(
        self,
        open_source,
        *,
        resolution: int,
        train_views=(20,),
        eval_views=(1, 2, 4, 8),
        points_per_step: int = 0,
        interpolation: str = "nearest",
        inner_steps: int = 12,
        shuffle_buffer: int = 10_000,
    ):
        del inner_steps
        check_range("config.signal.resolution", resolution, 8, MAX_RESOLUTION)
        check_range("config.signal.points_per_step", points_per_step, 0, 2**24)
        for name, counts in (
            ("train_views", train_views),
            ("eval_views", eval_views),
        ):
            if not counts:
                raise ValueError(f"`{name}` must name at least one number")
            for views in counts:
                if type(views) is not int:
                    raise InputError(
                        f"config.signal.{name} must be whole numbers. "
                        f"Received: {views!r}"
                    )
                check_range(f"config.signal.{name}", views, 1, MAX_VIEWS)
        super().__init__(open_source, shuffle_buffer)
        self.resolution = resolution
        self.train_views = tuple(train_views)
        self.eval_views = tuple(eval_views)
        self.points_per_step = points_per_step
        self.support_model = ParallelBeam(resolution, interpolation)
        self.coords = slice_coords(resolution)
        self.kind = SliceKind(resolution, interpolation, max(eval_views))

    def make_task(self, signal, index, seed, *, training):
        image = crop_and_resize(signal, self.resolution)
        values = tf.reshape(image, [-1, 1])
        if training:
            return self._random_task(values, seed)
        return self.task(values, self._even_angles(index))

    def task(self, values, angles) -> Task:
        """The task of one slice `[R * R, 1]` seen at some angles `[views]`."""
        sinogram = self.support_model.project(values[:, 0], angles)
        return Task(
            Observations(angles[None], sinogram[None]),
            Observations(tf.constant(self.coords), values),
        )

    def _even_angles(self, index):
        """The angles of the task at `index`, repeated up to the most views."""
        most = max(self.eval_views)
        table = np.stack(
            [np.resize(even_angles(views), most) for views in self.eval_views]
        )
        return tf.gather(tf.constant(table[::-1]), index % len(table))

    def _random_task(self, values, seed) -> Task:
        most = max(self.train_views)
        seeds = tf.random.split(seed, 3)
        angles = tf.random.stateless_uniform([most], seeds[0], 0.0, np.pi)
        if len(self.train_views) > 1:
            # Fewer views are repeated until they are as many as the most: the
            # shapes stay static, and the mean over views is nearly theirs.
            choice = tf.random.stateless_uniform(
                [], seeds[1], 0, len(self.train_views), tf.int32
            )
            views = tf.gather(tf.constant(self.train_views), choice)
            angles = tf.gather(angles, tf.range(most) % views)
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
        return by_views(self)

    def classical(self, task):
        """Filtered back-projection, where scikit-image is installed."""
        angles, sinogram = (leaf[0].numpy() for leaf in task.support)
        try:
            image = tomography.filtered_back_projection(sinogram, angles)
        except ModuleNotFoundError:
            _LOGGER.warning(
                "No filtered back-projection without scikit-image: "
                "pip install tfmetainit[ct]"
            )
            return {}
        return {"Filtered back-projection": image.reshape(-1, 1)}


def read_pickle(path: str) -> Source:
    """Reads the data set of the paper's authors, `ct_256.pkl`.

    A mapping with "data_train" and "data_test", arrays `[n, height, width]` in
    [0, 1]. The last tenth of the former, at most 100, is for validation.

    Raises:
        InputError: if the file is not one, or names anything but arrays.
    """
    content = restricted_pickle.load(path, _MAX_PICKLE_BYTES)
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
                "A data set of slices must map data_train and data_test to "
                "arrays [n, side, side] of floats in [0, 1]. Received: "
                f"{path}, whose {name} is not one"
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
    *, resolution, file: str | None = None, folder: str | None = None, **options
) -> CT:
    """The class of generated phantoms, or of slices in a file or folder.

    Args:
        resolution: side of the slices in pixels.
        file: path of the authors' `ct_256.pkl`, or None.
        folder: path of a folder of slices (`tomography.read_slice`), or None.
        **options: further arguments of `CT` and, for phantoms, of
            `generated_images.generated_source`.
    """
    of_source = {k: options.pop(k) for k in SOURCE_OPTIONS if k in options}
    if file and folder:
        raise InputError(
            "At most one of config.signal.file and config.signal.folder may be "
            f"set. Received: {file!r} and {folder!r}"
        )
    if file:
        open_source = functools.partial(read_pickle, file)
    elif folder:
        open_source = functools.partial(
            read_folder,
            folder,
            resolution=resolution,
            suffixes=tomography.SLICE_SUFFIXES,
            read=tomography.read_slice,
            channels=1,
        )
    else:
        open_source = generated_source(
            Phantoms, resolution=resolution, **of_source
        )
    return CT(open_source, resolution=resolution, **options)
