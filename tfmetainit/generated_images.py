"""Image classes that are drawn from a seed instead of downloaded.

A subclass of `GeneratedImages` gives one function, `draw(rng, resolution)`;
TFDS does the rest: files, splits, versions, progress. A signal depends on the
seed, its split and its index alone, so two machines make the same data set.
"""

import abc
import functools
import os
import pathlib
import shlex
from collections.abc import Callable

import numpy as np
import tensorflow_datasets as tfds

from tfmetainit import files
from tfmetainit.errors import InputError, check_range
from tfmetainit.image_signals import ImageSignal, tfds_images
from tfmetainit.kinds import MAX_RESOLUTION
from tfmetainit.pipelines import Source

_MAX_SIGNALS = 10_000_000
# Names an environment variable: options of an Apache Beam pipeline that draws
# the signals, for example on all cores (docs/scale.md). The data are the same.
BEAM_OPTIONS = "TFMETAINIT_BEAM_OPTIONS"


def _beam():
    """Apache Beam.

    Raises:
        InputError: if it is not installed.
    """
    try:
        import apache_beam
    except ImportError as error:
        raise InputError(
            f"{BEAM_OPTIONS} is set, and needs Apache Beam, which is not "
            f"installed: pip install apache-beam ({error})"
        ) from error
    return apache_beam


def _download_config():
    """TFDS's settings, with the options of Beam where there are some."""
    if BEAM_OPTIONS not in os.environ:
        return None
    options = _beam().options.pipeline_options.PipelineOptions(
        shlex.split(os.environ[BEAM_OPTIONS])
    )
    return tfds.download.DownloadConfig(beam_options=options)


class GeneratedConfig(tfds.core.BuilderConfig):
    """Settings of a generated class; its name is made of them.

    Args:
        resolution: side of the images in pixels.
        num_train: number of training signals.
        num_eval: number of validation signals, and of test signals.
        seed: non-negative integer from which every signal is drawn.

    Raises:
        InputError: if one of them is out of range.
    """

    def __init__(self, resolution=178, num_train=10_000, num_eval=500, seed=0):
        check_range("config.signal.resolution", resolution, 8, MAX_RESOLUTION)
        check_range("config.signal.num_train", num_train, 1, _MAX_SIGNALS)
        check_range("config.signal.num_eval", num_eval, 1, _MAX_SIGNALS)
        check_range("config.signal.data_seed", seed, 0, 2**32 - 1)
        super().__init__(
            name=f"r{resolution}_n{num_train}_e{num_eval}_s{seed}",
            description=f"{num_train} signals at {resolution} x {resolution}",
        )
        self.resolution = resolution
        self.num_train = num_train
        self.num_eval = num_eval
        self.seed = seed


class GeneratedSignals(tfds.core.GeneratorBasedBuilder):
    """Base of the builders: splits, and one generator of numbers a signal."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [GeneratedConfig()]

    @abc.abstractmethod
    def features(self, resolution: int) -> dict:
        """The features of one signal, by their names."""

    @abc.abstractmethod
    def example(self, rng: np.random.Generator, resolution: int) -> dict:
        """Draws one signal: values for the features."""

    def _info(self):
        features = self.features(self.builder_config.resolution)
        return tfds.core.DatasetInfo(
            builder=self,
            description=type(self).__doc__,
            features=tfds.features.FeaturesDict(features),
        )

    def _split_generators(self, dl_manager):
        del dl_manager  # Nothing is downloaded.
        config = self.builder_config
        sizes = {
            "train": config.num_train,
            "validation": config.num_eval,
            "test": config.num_eval,
        }
        return {
            split: self._generate_examples(number, size)
            for number, (split, size) in enumerate(sizes.items())
        }

    def _generate_examples(self, split_number, size):
        make = functools.partial(self._numbered_example, split_number)
        if BEAM_OPTIONS not in os.environ:
            return map(make, range(size))
        beam = _beam()
        return beam.Create(range(size)) | beam.Map(make)

    def _numbered_example(self, split_number, index):
        config = self.builder_config
        rng = np.random.default_rng([config.seed, split_number, index])
        return index, self.example(rng, config.resolution)

    @classmethod
    def prepare(cls, config: GeneratedConfig, data_dir: str | None):
        """The builder, its data generated unless they are there.

        Args:
            config: which data.
            data_dir: TFDS's folder; None for its own, `~/tensorflow_datasets`.

        Raises:
            InputError: if the data cannot be written.
        """
        builder = cls(config=config, data_dir=data_dir)
        folder = pathlib.Path(builder.data_dir)
        try:
            if not folder.exists():
                # TFDS gives unfinished data one name: two processes that
                # generated the same at once would destroy each other's.
                folder.parent.mkdir(parents=True, exist_ok=True)
                with files.lock(f"{folder}.lock"):
                    builder = cls(config=config, data_dir=data_dir)
                    builder.download_and_prepare(
                        download_config=_download_config()
                    )
        except OSError as error:
            raise InputError(
                f"Cannot write the data set to {builder.data_dir}: "
                f"{error.strerror or error}. config.signal.data_dir names "
                "another folder."
            ) from error
        return builder


class GeneratedImages(GeneratedSignals):
    """Base of the builders whose signals are images.

    Attributes:
        CHANNELS: of the images: 3 of uint8 (RGB) or 1 of uint16 (grey).
    """

    CHANNELS = 3

    @staticmethod
    @abc.abstractmethod
    def draw(rng: np.random.Generator, resolution: int) -> np.ndarray:
        """Draws one signal, `[resolution, resolution, CHANNELS]`."""

    def features(self, resolution):
        image = tfds.features.Image(
            shape=(resolution, resolution, self.CHANNELS),
            dtype=np.uint16 if self.CHANNELS == 1 else np.uint8,
            encoding_format="png",
        )
        return {"image": image}

    def example(self, rng, resolution):
        return {"image": self.draw(rng, resolution)}


def generated_source(
    builder_class,
    *,
    resolution,
    num_train=10_000,
    num_eval=500,
    data_seed=0,
    data_dir=None,
) -> Callable[[], Source]:
    """What opens the images of a builder, generating them if need be.

    Args:
        builder_class: subclass of `GeneratedImages`.
        resolution: side of the images in pixels.
        num_train: number of training signals.
        num_eval: number of validation signals, and of test signals.
        data_seed: seed of the signals.
        data_dir: TFDS's folder; by default its own, `~/tensorflow_datasets`.

    Raises:
        InputError: if a number is out of range.
    """
    config = GeneratedConfig(resolution, num_train, num_eval, data_seed)

    def open_source():
        builder = builder_class.prepare(config, data_dir)
        splits = {split: split for split in builder.info.splits}
        return tfds_images(builder, splits)

    return open_source


def prepare_few(
    builder_class,
    resolution,
    *,
    num_train=400,
    num_eval=20,
    data_seed=0,
    data_dir=None,
) -> GeneratedSignals:
    """The builder of signals that take long to draw, generated if need be.

    The arguments and errors are those of `generated_source`, and of `prepare`.
    """
    config = GeneratedConfig(resolution, num_train, num_eval, data_seed)
    return builder_class.prepare(config, data_dir)


# Names of the options that `generated_source` and `prepare_few` take.
SOURCE_OPTIONS = ("num_train", "num_eval", "data_seed", "data_dir")


def make_generated_class(
    builder_class, *, resolution, **options
) -> ImageSignal:
    """The RGB image class of a builder; generated when it is first needed.

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
