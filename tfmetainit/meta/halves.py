"""Inner steps that see the two halves of a picture in turn.

A step on half of the pixels takes half the time. The halves are those of a
checkerboard: pixel (row, column) is in half (row + column) % 2. In tomography
such steps are called ordered subsets (Hudson & Larkin 1994, doi
10.1109/42.363108).

The pixels of a support stand row by row: row i of it is pixel (i // W, i % W),
for pictures of width W. Other rows are divided by the same rule, but the halves
of a part of a picture are no checkerboard: `runs` and `litert` take steps on
all of a part. If one half is empty, because there is one row only, every step
sees the other half.
"""

import tensorflow as tf

from tfmetainit.meta.tasks import Observations

STEP_ON = ("all", "halves")


def count(half, rows, width: int):
    """The number of rows in a half.

    Args:
        half: 0 or 1, an int or an integer tensor.
        rows: number of all rows, at least 1, likewise.
        width: W.
    """
    # Two rows that follow each other, from an even one on, are in both halves.
    last = rows - 1
    without_partner = rows % 2
    is_in = 1 - (last // width + last % width + half) % 2
    return rows // 2 + without_partner * is_in


def split_rows(rows: tf.Tensor, width: int) -> list[tf.Tensor]:
    """The two halves of rows, each in the order of the rows.

    Reshapes, splits and concatenations only: GPU delegates take these.

    Args:
        rows: `[n, k]`.
        width: W.

    Returns:
        Two tensors `[m, k]` of at least `count` rows; zeros follow.
    """
    length, size = rows.shape
    if length is None:
        length = tf.shape(rows)[0]
    if width % 2:
        # Neighbours in the support are in different halves, also of a picture's
        # last and first column.
        pairs = tf.pad(rows, [[0, length % 2], [0, 0]])
        return tf.split(tf.reshape(pairs, [-1, 2 * size]), 2, axis=1)
    rows = tf.pad(rows, [[0, -length % (2 * width)], [0, 0]])
    even, odd = tf.split(tf.reshape(rows, [-1, 2, width * size]), 2, axis=1)
    pairs = [-1, width // 2, 2 * size]
    black, white = tf.split(tf.reshape(even, pairs), 2, axis=2)
    white_below, black_below = tf.split(tf.reshape(odd, pairs), 2, axis=2)
    halves = ((black, black_below), (white, white_below))
    return [tf.reshape(tf.concat(half, axis=1), [-1, size]) for half in halves]


def as_batches(support: Observations, width: int):
    """What the steps see of a support in turn.

    Args:
        support: `Observations` `[1, n, k]`, n static.
        width: W.

    Returns:
        The halves as `Observations` `[2, n / 2, k]`. If n is odd, they have
        different lengths, and are a list of two `Observations` `[1, m, k]`. A
        single row stays as it is.

    Raises:
        ValueError: if the support has several batches.
    """
    number, rows = support.inputs.shape[:2]
    if number != 1:
        raise ValueError(
            "A support must be one batch, the pixels of a picture, if "
            f"`step_on` is 'halves'. Received: {number} batches"
        )
    if rows == 1:
        return support
    split = [split_rows(leaf[0], width) for leaf in support]
    halves = [
        Observations(*(leaf[None, : count(half, rows, width)] for leaf in both))
        for half, both in enumerate(zip(*split))
    ]
    if rows % 2:
        return halves
    return Observations(*(tf.concat(both, axis=0) for both in zip(*halves)))
