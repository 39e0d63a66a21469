"""Image classes that are drawn from a seed instead of downloaded.

A subclass of `GeneratedImages` defines one function, `draw(rng, resolution)`;
TFDS does the rest: files, versions, progress. A signal depends only on the
seed, its split and its index, so two machines make the same dataset. Each split
is a dataset of its own and is drawn when it is first used: export and
evaluation need no training signals.
"""

import abc
import contextlib
import functools
import io
import os
import pathlib
import shlex
from collections.abc import Callable

import numpy as np
import tensorflow_datasets as tfds

from tfmetainit.io import files
from tfmetainit.io.errors import InputError, check_range, reason
from tfmetainit.modalities.modality import MAX_RESOLUTION
from tfmetainit.signals.base.image_signal import ImageSignal
from tfmetainit.signals.base.pipeline import SPLITS, Source
from tfmetainit.signals.base.tfds_source import tfds_images

_MAX_SIGNALS = 10_000_000
# Environment variable with the options of an Apache Beam pipeline that draws
# the signals, for example on all cores (docs/scale.md). The data are the same.
BEAM_OPTIONS = "TFMETAINIT_BEAM_OPTIONS"
_VARIABLE = f"The environment variable {BEAM_OPTIONS}"


def import_beam(needed_by: str):
    """Apache Beam.

    Args:
        needed_by: what needs it, for the error message.

    Raises:
        InputError: if it is not installed.
    """
    try:
        import apache_beam
    except ImportError as error:
        raise InputError(
            f"{needed_by} needs Apache Beam, which is not installed: "
            f"pip install apache-beam ({error})"
        ) from error
    return apache_beam


def pipeline_options(name: str, options: str):
    """The options of a Beam pipeline.

    Args:
        name: what has the options, for error messages.
        options: the options, as a command line has them.

    Raises:
        InputError: if Beam is not installed, or an option is not valid.
    """
    options_of = import_beam(name).options.pipeline_options
    from apache_beam.runners.runner import create_runner

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            parsed = options_of.PipelineOptions(shlex.split(options))
            known = parsed.get_all_options()
            every = parsed.get_all_options(retain_unknown_options=True)
            if unknown := sorted(every.keys() - known.keys()):
                raise ValueError(f"there is no option {unknown[0]}")
            runner = parsed.view_as(options_of.StandardOptions).runner
            create_runner(runner or "DirectRunner")
    except (SystemExit, ValueError) as error:
        why = said.getvalue().strip().splitlines()[-1:] or [reason(error)]
        raise InputError(
            f"{name} must hold options of an Apache Beam pipeline. Received: "
            f"{options!r} ({why[0]})"
        ) from error
    # Keeps Beam's default runner from Prism, a program that it would download
    # and that runs everything in one process. There are no triggers here.
    parsed.view_as(options_of.TypeOptions).allow_unsafe_triggers = True
    workers = parsed.view_as(options_of.WorkerOptions)
    if workers.default_sdk_harness_log_level is None:
        workers.default_sdk_harness_log_level = "WARNING"
    return parsed


def _download_config():
    """TFDS's settings with the options of Beam; None without them."""
    if BEAM_OPTIONS not in os.environ:
        return None
    options = pipeline_options(_VARIABLE, os.environ[BEAM_OPTIONS])
    return tfds.download.DownloadConfig(beam_options=options)


class GeneratedConfig(tfds.core.BuilderConfig):
    """Settings of one split of a generated class, which give it its name.

    Args:
        resolution: side of the images in pixels.
        split: one of `pipeline.SPLITS`.
        size: number of its signals.
        seed: non-negative integer from which every signal is drawn.

    Raises:
        InputError: if a number is out of range.
    """

    def __init__(self, resolution=178, split="train", size=10_000, seed=0):
        option = "num_train" if split == "train" else "num_eval"
        check_range("resolution", resolution, 8, MAX_RESOLUTION)
        check_range(option, size, 1, _MAX_SIGNALS)
        check_range("data_seed", seed, 0, 2**32 - 1)
        super().__init__(
            name=f"r{resolution}_{split}{size}_s{seed}",
            description=f"{size} signals at {resolution} x {resolution}",
        )
        self.resolution = resolution
        self.split = split
        self.size = size
        self.seed = seed


class GeneratedSignals(tfds.core.GeneratorBasedBuilder):
    """Base of the builders of one split; each signal is seeded on its own."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [GeneratedConfig()]

    @classmethod
    @abc.abstractmethod
    def features(cls, resolution: int) -> dict:
        """The TFDS features of one signal, by name."""

    @abc.abstractmethod
    def example(self, rng: np.random.Generator, resolution: int) -> dict:
        """Draws one signal: the values of its features, by name."""

    def _info(self):
        features = self.features(self.builder_config.resolution)
        return tfds.core.DatasetInfo(
            builder=self,
            description=type(self).__doc__,
            features=tfds.features.FeaturesDict(features),
        )

    def _split_generators(self, dl_manager):
        del dl_manager  # Nothing is downloaded.
        return {self.builder_config.split: self._generate_examples()}

    def _generate_examples(self):
        indices = range(self.builder_config.size)
        if BEAM_OPTIONS not in os.environ:
            return map(self._numbered_example, indices)
        beam = import_beam(_VARIABLE)
        return beam.Create(indices) | beam.Map(self._numbered_example)

    def _numbered_example(self, index):
        config = self.builder_config
        number = SPLITS.index(config.split)
        rng = np.random.default_rng([config.seed, number, index])
        return index, self.example(rng, config.resolution)

    @classmethod
    def prepare(cls, config: GeneratedConfig, data_dir: str | None):
        """The builder of a dataset, which is generated unless it exists.

        Args:
            config: settings of the dataset.
            data_dir: TFDS's folder; None for its own, `~/tensorflow_datasets`.

        Raises:
            InputError: if the data cannot be written.
        """
        builder = cls(config=config, data_dir=data_dir)
        folder = pathlib.Path(builder.data_dir)
        try:
            if not folder.exists():
                # TFDS has one name for unfinished data: two processes that
                # generate the same dataset would destroy each other's files.
                folder.parent.mkdir(parents=True, exist_ok=True)
                with files.lock(f"{folder}.lock"):
                    builder = cls(config=config, data_dir=data_dir)
                    builder.download_and_prepare(
                        download_config=_download_config()
                    )
        except OSError as error:
            raise InputError(
                f"Cannot write the dataset to {builder.data_dir}: "
                f"{error.strerror or error}. Set `data_dir` to another folder."
            ) from error
        return builder


class GeneratedImages(GeneratedSignals):
    """Base of the builders whose signals are images.

    Attributes:
        CHANNELS: 3 for uint8 RGB images, 1 for uint16 grey ones.
    """

    CHANNELS = 3

    @staticmethod
    @abc.abstractmethod
    def draw(rng: np.random.Generator, resolution: int) -> np.ndarray:
        """Draws one signal, `[resolution, resolution, CHANNELS]`."""

    @classmethod
    def features(cls, resolution):
        image = tfds.features.Image(
            shape=(resolution, resolution, cls.CHANNELS),
            dtype=np.uint16 if cls.CHANNELS == 1 else np.uint8,
            encoding_format="png",
        )
        return {"image": image}

    def example(self, rng, resolution):
        return {"image": self.draw(rng, resolution)}


def open_splits(
    builder_class,
    resolution: int,
    *,
    num_train: int = 400,
    num_eval: int = 20,
    data_seed: int = 0,
    data_dir: str | None = None,
) -> Callable[[str], GeneratedSignals]:
    """A function that opens a split of a generated class.

    The function draws the split unless it exists. The default numbers are meant
    for signals that take long to draw.

    Args:
        builder_class: subclass of `GeneratedSignals`.
        resolution: side of the images in pixels.
        num_train: number of training signals.
        num_eval: number of validation signals, and of test signals.
        data_seed: seed of the signals.
        data_dir: TFDS's folder; by default its own, `~/tensorflow_datasets`.

    Returns:
        A function that maps a split to the builder of its data. It raises
        InputError if the data cannot be written.

    Raises:
        InputError: if a number is out of range.
    """
    sizes = {"train": num_train, "validation": num_eval, "test": num_eval}
    configs = {
        split: GeneratedConfig(resolution, split, size, data_seed)
        for split, size in sizes.items()
    }
    return functools.cache(
        lambda split: builder_class.prepare(configs[split], data_dir)
    )


# Names of the options that `open_splits` takes.
SOURCE_OPTIONS = ("num_train", "num_eval", "data_seed", "data_dir")


def generated_source(
    builder_class, *, resolution, num_train=10_000, num_eval=500, **options
) -> Callable[[], Source]:
    """The images of a builder, for `open_source` of a `SourcedSignal`.

    Args:
        builder_class: subclass of `GeneratedImages`.
        resolution: side of the images in pixels.
        num_train: number of training signals.
        num_eval: number of validation signals, and of test signals.
        **options: further arguments of `open_splits`.
    """
    open_split = open_splits(
        builder_class,
        resolution,
        num_train=num_train,
        num_eval=num_eval,
        **options,
    )
    feature = builder_class.features(resolution)["image"]
    return lambda: tfds_images(
        feature, lambda split: (open_split(split), split)
    )


def make_generated_class(
    builder_class, *, resolution, **options
) -> ImageSignal:
    """The class of a builder's RGB images, which are drawn when first used.

    Args:
        builder_class: subclass of `GeneratedImages`.
        resolution: side of the images in pixels.
        **options: further arguments of `generated_source` and `ImageSignal`.
    """
    of_source = {k: options.pop(k) for k in SOURCE_OPTIONS if k in options}
    return ImageSignal(
        generated_source(builder_class, resolution=resolution, **of_source),
        resolution=resolution,
        **options,
    )
