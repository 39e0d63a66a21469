"""From a source to batches of tasks: seeds, start, and shards."""

import numpy as np
import pytest
import tensorflow as tf


def _take(dataset, count):
    return list(dataset.take(count).as_numpy_iterator())


def test_training_data_depend_on_the_seed_alone(toy_signal):
    signal = toy_signal()
    first, again, other = (
        _take(signal.make_dataset("train", 2, seed=s), 6) for s in (1, 1, 2)
    )
    for a, b in zip(tf.nest.flatten(first), tf.nest.flatten(again)):
        np.testing.assert_array_equal(a, b)
    assert np.any(first[0].query.inputs != other[0].query.inputs)


def test_start_goes_on_where_a_run_was_stopped(toy_signal):
    signal = toy_signal()
    whole = _take(signal.make_dataset("train", 2, seed=3), 7)
    rest = _take(signal.make_dataset("train", 2, seed=3, start=4), 3)
    for a, b in zip(tf.nest.flatten(whole[4:]), tf.nest.flatten(rest)):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("start", [0, 2])
def test_shards_are_together_the_whole(start, toy_signal):
    """Of each batch of four, two workers make two tasks each."""
    signal = toy_signal()
    whole = _take(signal.make_dataset("train", 4, seed=3, start=start), 5)
    shares = [
        _take(
            signal.make_dataset(
                "train", 2, seed=3, start=start, shard=(index, 2)
            ),
            5,
        )
        for index in (0, 1)
    ]
    for batch, even, odd in zip(whole, *shares):
        leaves = zip(*map(tf.nest.flatten, (batch, even, odd)))
        for all_four, one, other in leaves:
            np.testing.assert_array_equal(all_four[::2], one)
            np.testing.assert_array_equal(all_four[1::2], other)
