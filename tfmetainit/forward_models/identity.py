"""The types of forward models, and the simplest one: the field at points."""

from collections.abc import Callable

import tensorflow as tf

# Maps coordinates `[..., coord_dims]` to values `[..., value_dims]`.
Field = Callable[[tf.Tensor], tf.Tensor]
# Maps a field and the inputs of some observations to predicted values.
ForwardModel = Callable[[Field, tf.Tensor], tf.Tensor]


def identity(field: Field, inputs: tf.Tensor) -> tf.Tensor:
    """The values of the field itself, as for images and signed distances.

    Args:
        field: maps coordinates to values.
        inputs: coordinates `[points, coord_dims]`.

    Returns:
        Values `[points, value_dims]`.
    """
    return field(inputs)
