"""The base of signal classes: where tasks come from and how they are shown."""

import abc
import logging
from collections.abc import Collection

import numpy as np
import tensorflow as tf

from tfmetainit.forward_models.identity import ForwardModel, identity
from tfmetainit.io.errors import InputError
from tfmetainit.meta.functional import Params
from tfmetainit.meta.tasks import FieldLoss, Observations, Task
from tfmetainit.modalities.modality import Modality, Sample

_LOGGER = logging.getLogger("tfmetainit")


class SignalClass(abc.ABC):
    """A class of signals: where its tasks come from and how they are shown.

    A new class is one file in `tfmetainit/signals/` with a function
    `make_signal_class(**options)` that returns one of these, and one config.

    Attributes:
        coord_dims: number of coordinates of the field.
        value_dims: number of values of the field.
        support_model: forward model of the support.
        query_model: forward model of the query.
        observations_per_chunk: number of observations that an exported adapter
            evaluates at a time, which bounds its memory. None for all together,
            if the cost of the forward model does not grow with their number.
        shares_inputs: whether all signals are scored at the same inputs. Only
            then is there a baseline fitted to their mean. The number of scored
            inputs is the same for all signals in any case.
        shares_support: whether, in training, all signals have the same support
            inputs at the first inner step. The tasks of a meta-batch then share
            the predictions of that step.
        raster_width: width in pixels of the pictures whose pixels, row by row,
            are the support, at every step; None for other signals.
        suffixes: suffixes, in lower case, of the files in the folder of
            `config.signal` that signals are read from; None for all files. A
            run resumes only while these are the same.
        modality: reads files of such signals and draws them. None for a class
            that does this itself or not at all.
        has_pictures: whether `picture` draws values. A class that overrides
            `picture` without a modality must set it to True.
    """

    coord_dims: int
    value_dims: int
    support_model: ForwardModel = staticmethod(identity)
    query_model: ForwardModel = staticmethod(identity)
    observations_per_chunk: int | None = 1024
    shares_inputs: bool = True
    shares_support: bool = False
    raster_width: int | None = None
    suffixes: Collection[str] | None = None
    modality: Modality | None = None

    @property
    def has_pictures(self) -> bool:
        return self.modality is not None

    @abc.abstractmethod
    def make_dataset(
        self,
        split: str,
        batch_size: int,
        seed: int = 0,
        start: int = 0,
        shard: tuple[int, int] = (0, 1),
    ) -> tf.data.Dataset:
        """Batches of `Task`, with all random numbers drawn from `seed`.

        Args:
            split: "train" (shuffled, endless), "validation" or "test" (in a
                fixed order, once).
            batch_size: number of tasks in a batch; an incomplete last batch is
                dropped.
            seed: integer. `tf.data` mixes TensorFlow's global seed into it, so
                the same order also needs the same `tf.random.set_seed`.
            start: number of batches to skip without making them, for a resumed
                run.
            shard: (index, number) of a worker's share: every `number`-th task.
                The batches of all shares together are those of a `batch_size`
                `number` times as large.
        """

    def all_tasks(self, split: str, start: int = 0) -> tf.data.Dataset:
        """The signals of a split as tasks for evaluation, one by one.

        Args:
            split: "validation", "test", or for classes that offer it "train".
            start: number of signals to skip, without making their tasks.

        Returns:
            Every `Task` without a batch axis, in a fixed order, once.

        Raises:
            InputError: if the class does not offer the split.
        """
        if split == "train":
            raise InputError(
                "`split` must be 'validation' or 'test' for this class of "
                "signals. Received: 'train'"
            )
        return self.make_dataset(split, 1, start=start).unbatch()

    def conditions(self) -> dict[str, "SignalClass"]:
        """Conditions that `evaluate` compares, such as numbers of views.

        Returns:
            The class under each condition, by label; by default only itself.
        """
        return {"": self}

    def classical(self, task: Task) -> dict[str, np.ndarray]:
        """Reconstructions of one task by classical methods, without learning.

        Returns:
            Query values `[m, value_dims]`, by name of the method; by default
            none.
        """
        del task
        return {}

    def observed_pictures(self, count: int) -> list[np.ndarray]:
        """The observations of the first test signals, as pictures.

        Returns:
            Up to `count` images `[height, width, 3]`; by default none, for
            classes whose signals are observed directly.
        """
        del count
        return []

    def films(
        self, loss: FieldLoss, adapted: list[Params]
    ) -> dict[str, list[np.ndarray]]:
        """Short films of fields that were adapted to the first test signals.

        Args:
            loss: the query loss, with the field.
            adapted: the adapted weights, one list per signal.

        Returns:
            Frames `[height, width, 3]` in [0, 1], by name of the film; by
            default none.
        """
        del loss, adapted
        return {}

    def describe(self) -> dict:
        """Metadata of the signals for users of an exported artifact.

        Returns:
            A JSON-serializable dict with "kind" (`Modality.describe`).
        """
        return self.modality.describe() if self.modality else {"kind": "custom"}

    def read_sample(self, path, **details: str) -> Sample:
        """Reads a signal from a file.

        Args:
            path: the file.
            **details: further arguments of the modality's `read`.

        Raises:
            InputError: if the file cannot be read as such a signal.
        """
        if self.modality is None:
            raise InputError("Files of this signal class cannot be read.")
        return self.modality.read(path, **details)

    def read_task(self, path, **details: str) -> Task:
        """Reads a file as `read_sample`, into a task without a batch axis."""
        return to_task(self.read_sample(path, **details))

    def picture(self, values: np.ndarray) -> np.ndarray:
        """Query values `[m, value_dims]` as an image `[height, width, 3]`."""
        return self.modality.picture(values)

    def render(
        self, predict, height: int, width: int, camera=None
    ) -> np.ndarray:
        """A field as an image `[height, width, 3]`, at any resolution.

        Args:
            predict: maps query inputs to query values.
            height: rows of the image, or of each of its parts.
            width: its columns.
            camera: camera of the `Sample` that the field was fitted to.
        """
        return self.modality.render(
            lambda inputs: np.asarray(predict(tf.constant(inputs))),
            height,
            width,
            camera,
        )


def to_task(sample: Sample) -> Task:
    """A sample as a task without a batch axis."""
    return Task(
        Observations(tf.constant(sample.inputs), tf.constant(sample.values)),
        Observations(
            tf.constant(sample.coords),
            None if sample.target is None else tf.constant(sample.target),
        ),
    )


def to_sample(task: Task) -> Sample:
    """A task without a batch axis as a sample."""
    return Sample(*(leaf.numpy() for leaf in tf.nest.flatten(task)))


def first_tasks(signal: SignalClass, split: str, count: int) -> list[Task]:
    """Up to `count` tasks of a split, without a batch axis.

    Raises:
        InputError: if the split holds no signal.
    """
    dataset = signal.make_dataset(split, 1).take(count)
    tasks = [
        tf.nest.map_structure(lambda leaf: leaf[0], batch) for batch in dataset
    ]
    if not tasks:
        raise InputError(f"The {split} split of the class holds no signal.")
    if len(tasks) < count:
        _LOGGER.info(
            "The %s split holds %d of the %d signals asked for",
            *(split, len(tasks), count),
        )
    return tasks
