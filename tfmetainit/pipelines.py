"""From a source of signals to batches of tasks.

What all classes of signals share: an order that depends on the seeds alone, a
running index from which each task draws its random numbers, whatever runs in
parallel and wherever a run was resumed, and the shares of several workers.
"""

import abc
import copy
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from tfmetainit.errors import InputError
from tfmetainit.tasks import SignalClass, Task

SPLITS = ("train", "validation", "test")


class Source(NamedTuple):
    """Where signals come from.

    Attributes:
        load: maps a split to a finite `tf.data.Dataset` of whatever `decode`
            takes, in a fixed order. It is shuffled as it comes, so encoded
            signals keep shuffling and skipping cheap.
        decode: maps an element to a signal: for image classes floats in
            [0, 1], `[height, width, channels]`; for those that are observed
            through rays `view_signals.Views`.
    """

    load: Callable[[str], tf.data.Dataset]
    decode: Callable[[Any], Any]


class SourcedSignal(SignalClass):
    """A class whose tasks are made of a source's signals, one of each.

    Args:
        open_source: returns the `Source`. It is called when a data set is
            first asked for: fitting one file needs none of the class's data.
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
        """The task of one signal, without a batch axis; runs in a pipeline.

        Args:
            signal: what the source's `decode` gives.
            index: int64 scalar, the running index of the task.
            seed: int64 `[2]`, of the task's random numbers.
            training: whether the task is one to learn from, or to evaluate.
        """

    def make_dataset(self, split, batch_size, seed=0, start=0, shard=(0, 1)):
        dataset = self._load(split)
        training = split == "train"
        if training:
            dataset = dataset.shuffle(self.shuffle_buffer, seed=seed).repeat()
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
        numbered = self._load(split).skip(start).enumerate(start)
        return self._tasks(numbered, 0, False)

    def _load(self, split):
        if split not in SPLITS:
            raise InputError(
                f"`split` must be one of {SPLITS}. Received: split={split!r}"
            )
        return self.source.load(split)

    def _tasks(self, numbered, seed, training):
        def element(index, raw):
            return self.make_task(
                self.source.decode(raw),
                index,
                tf.stack([seed, index]),
                training=training,
            )

        return numbered.map(element, num_parallel_calls=2)


def by_views(signal: SourcedSignal) -> dict[str, SourcedSignal]:
    """The class under each of its `eval_views` alone, for `conditions`."""
    classes = {}
    for views in signal.eval_views:
        alone = copy.copy(signal)
        alone.eval_views = (views,)
        classes[f"{views} view{'s' if views > 1 else ''}"] = alone
    return classes
