"""From a source of signals to batches of tasks.

The order of the tasks depends on the seeds alone. The random numbers of a task
depend on the seed and its running index alone, not on parallelism or on where a
run was resumed. Several workers share the tasks of one dataset.
"""

import abc
import copy
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from tfmetainit.io.errors import InputError
from tfmetainit.meta.tasks import Task
from tfmetainit.signals.base.signal_class import SignalClass

SPLITS = ("train", "validation", "test")


class Source(NamedTuple):
    """Where signals come from.

    Attributes:
        load: maps a split to a finite `tf.data.Dataset` of elements for
            `decode`, in a fixed order. Encoded signals make shuffling and
            skipping cheap.
        decode: maps an element to a signal: floats `[height, width, channels]`
            in [0, 1] for image classes, `ray_signal.Views` for classes that are
            observed through rays.
        load_all: like `load`, after every signal of the split was read once, so
            that all can be read and their number is known. None for `load`.
    """

    load: Callable[[str], tf.data.Dataset]
    decode: Callable[[Any], Any]
    load_all: Callable[[str], tf.data.Dataset] | None = None


class SourcedSignal(SignalClass):
    """A class with one task for each signal of a source.

    Args:
        open_source: returns the `Source`. It is called when a dataset is first
            made, so fitting one file needs no data of the class.
        shuffle_buffer: number of encoded signals shuffled at a time.
    """

    def __init__(self, open_source: Callable[[], Source], shuffle_buffer: int):
        self._open_source = open_source
        self.shuffle_buffer = shuffle_buffer

    @functools.cached_property
    def source(self) -> Source:
        return self._open_source()

    @abc.abstractmethod
    def make_task(self, signal, index, seed, *, training: bool) -> Task:
        """The task of one signal, without a batch axis; runs inside `tf.data`.

        Args:
            signal: as returned by the source's `decode`.
            index: int64 scalar, the running index of the task.
            seed: int64 `[2]`, of the task's random numbers.
            training: whether the task is for training, not for evaluation.
        """

    def make_dataset(self, split, batch_size, seed=0, start=0, shard=(0, 1)):
        _check_split(split)
        dataset = self.source.load(split)
        training = split == "train"
        if training:
            buffer = self.shuffle_buffer
            if dataset.element_spec == tf.TensorSpec([], tf.int64):
                # Numbers of signals that are read later: all are shuffled.
                buffer = max(buffer, int(dataset.cardinality()))
            dataset = dataset.shuffle(buffer, seed=seed).repeat()
        index, number = shard
        first = start * batch_size * number
        tasks = self._tasks(
            tf.data.Dataset.zip(
                tf.data.Dataset.counter(first), dataset.skip(first)
            ).shard(number, index),
            seed,
            training,
        )
        return tasks.batch(batch_size, drop_remainder=True).prefetch(2)

    def all_tasks(self, split, start=0):
        _check_split(split)
        load = self.source.load_all or self.source.load
        numbered = load(split).skip(start).enumerate(start)
        return self._tasks(numbered, 0, False)

    def _tasks(self, numbered, seed, training):
        def element(index, raw):
            return self.make_task(
                self.source.decode(raw),
                index,
                tf.stack([seed, index]),
                training=training,
            )

        return numbered.map(element, num_parallel_calls=tf.data.AUTOTUNE)


def _check_split(split):
    if split not in SPLITS:
        raise InputError(
            f"`split` must be one of {SPLITS}. Received: split={split!r}"
        )


def conditions_of(
    signal: SourcedSignal, option: str, unit: str
) -> dict[str, SourcedSignal]:
    """Copies of a class, each with a single number in one of its options.

    Args:
        signal: the signal class.
        option: name of an attribute that is a tuple of numbers.
        unit: noun of the labels: "view" gives "1 view" and "2 views".

    Returns:
        The copies by label, for `SignalClass.conditions`.
    """
    classes = {}
    for number in getattr(signal, option):
        alone = copy.copy(signal)
        setattr(alone, option, (number,))
        classes[f"{number} {unit}{'s' if number > 1 else ''}"] = alone
    return classes
