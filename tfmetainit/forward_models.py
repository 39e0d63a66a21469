"""Forward models: how a field gives rise to what is observed.

A forward model maps a field and the inputs of some observations to predicted
values: `(field, inputs) -> predictions`. It is a function handed to learners,
evaluation and export, never a flag that they test.
"""

from collections.abc import Callable

import tensorflow as tf

from tfmetainit.functional import Field

ForwardModel = Callable[[Field, tf.Tensor], tf.Tensor]


def identity(field: Field, inputs: tf.Tensor) -> tf.Tensor:
    """The field itself is observed, at points: images, signed distances.

    Args:
        field: maps coordinates to values.
        inputs: coordinates `[points, coord_dims]`.

    Returns:
        Values `[points, value_dims]`.
    """
    return field(inputs)
