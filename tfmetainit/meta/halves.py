"""Inner steps that see the two halves of a picture in turn.

A step on half of the pixels takes half the time, and two of them move the
weights further than one step on all. The halves are those of a checkerboard.
Tomography calls such steps ordered subsets (Hudson & Larkin 1994, doi
10.1109/42.363108).

The support of a picture has its pixels in raster order: row i of the support is
pixel (i // W, i % W) of a picture of even width W, and it is in half
(i + i // W) % 2. Of a part of a picture, the rows are taken as if they followed
each other in such a raster. If their number is odd, the last one is in neither
half.
"""

import tensorflow as tf

STEP_ON = ("all", "halves")


def check_width(width: int | None) -> None:
    """Raises ValueError unless pictures of this width have such halves.

    Args:
        width: of the raster of the support, in pixels; None if it is no raster.
    """
    if width is None or width % 2:
        received = "no picture" if width is None else f"a width of {width}"
        raise ValueError(
            "`step_on` can be 'halves' only for pictures with an even number "
            "of pixels on each side, all of which are observed "
            "(`points_per_step` is 0); use 'all'. Received: a support of "
            f"{received}"
        )


def split_rows(rows: tf.Tensor, width: int) -> list[tf.Tensor]:
    """The two halves of rows in raster order.

    Reshapes, splits and concatenations only: GPU delegates take these.

    Args:
        rows: `[n, k]`.
        width: W, even.

    Returns:
        Two tensors `[m, k]` in the order of the rows, m = W * ceil(n / 2W), so
        that rows without a partner are followed by zeros.
    """
    count, size = rows.shape
    if count is None:
        count = tf.shape(rows)[0]
    rows = tf.pad(rows, [[0, -count % (2 * width)], [0, 0]])
    # The columns of these are those of an even and an odd row of the picture.
    even, odd = tf.split(tf.reshape(rows, [-1, 2, width * size]), 2, axis=1)
    pairs = [-1, width // 2, 2 * size]
    black, white = tf.split(tf.reshape(even, pairs), 2, axis=2)
    white_below, black_below = tf.split(tf.reshape(odd, pairs), 2, axis=2)
    halves = ((black, black_below), (white, white_below))
    return [tf.reshape(tf.concat(half, axis=1), [-1, size]) for half in halves]


def as_batches(support, width: int):
    """A picture as two batches, which the steps take in turn.

    Args:
        support: `Observations` `[1, n, k]`, or another nest of such tensors; n
            is static.
        width: W, even.

    Returns:
        `[2, n // 2, k]`; a single row is returned as it is.
    """
    count = tf.nest.flatten(support)[0].shape[1]
    if count < 2:
        return support
    return tf.nest.map_structure(
        lambda leaf: tf.stack(
            [half[: count // 2] for half in split_rows(leaf[0], width)]
        ),
        support,
    )
