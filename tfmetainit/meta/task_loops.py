"""The outer gradient of a batch: one graph for each task, or one for all.

- "unrolled": the graph holds every task. It grows with the batch, and with it
  the time until the first step; small batches are fastest so on a CPU.
- "loop": one graph runs for task after task. Memory does not grow either.
- "batched": all tasks at once, with a task axis through the products. A GPU is
  busy then even if a task has few observations.
"""

from collections.abc import Callable

import tensorflow as tf

from tfmetainit.meta.tasks import Task

FORMS = ("unrolled", "loop", "batched")

# Larger batches run in a loop on a CPU: a step takes up to 1.11 times as long,
# and tracing a sixth (docs/scale.md).
_MOST_UNROLLED = 4


def choose(form: str | None, batch_size: int, in_turn: bool = False) -> str:
    """The form for a batch.

    Args:
        form: that asked for; None for the default of the device.
        batch_size: number of tasks.
        in_turn: whether the tasks must not run at once, to bound the memory.
    """
    if form is not None:
        return form
    if (
        batch_size > 1
        and not in_turn
        and tf.config.list_physical_devices("GPU")
    ):
        return "batched"
    return "unrolled" if batch_size <= _MOST_UNROLLED else "loop"


def in_loop(outer_gradients: Callable, tasks: Task, like, dtype):
    """The mean outer gradient of tasks that run one after the other.

    Args:
        outer_gradients: maps a task to `(gradients, loss, loss_before)`.
        tasks: with a batch axis of static size.
        like: the variables that the gradients are of.
        dtype: of the losses.

    Returns:
        `(gradients, losses, losses_before)`: the means, and `[batch]` each.
    """
    size = tasks.query.values.shape[0]

    def add(index, total, losses, losses_before):
        task = tf.nest.map_structure(lambda leaf: leaf[index], tasks)
        gradients, loss, before = outer_gradients(task)
        return (
            index + 1,
            [t + g for t, g in zip(total, gradients)],
            losses.write(index, loss),
            losses_before.write(index, before),
        )

    zeros = [tf.zeros(variable.shape, variable.dtype) for variable in like]
    arrays = [tf.TensorArray(dtype, size, element_shape=[]) for _ in range(2)]
    _, total, *arrays = tf.while_loop(
        lambda index, *_: index < size,
        add,
        (tf.constant(0), zeros, *arrays),
        parallel_iterations=1,
        maximum_iterations=size,
    )
    losses, losses_before = (array.stack() for array in arrays)
    return [t / size for t in total], losses, losses_before


def batched(outer_gradients: Callable, tasks: Task):
    """As `in_loop`, for all tasks at once (`tf.vectorized_map`)."""
    gradients, losses, losses_before = tf.vectorized_map(outer_gradients, tasks)
    means = [tf.reduce_mean(g, axis=0) for g in gradients]
    return means, losses, losses_before


def each(function: Callable, tasks: Task, form: str, dtype) -> tf.Tensor:
    """A function's results for all tasks of a batch, stacked.

    Args:
        function: maps a task to a tensor.
        tasks: with a batch axis of static size.
        form: one of `FORMS`.
        dtype: of the results.
    """
    if form == "batched":
        return tf.vectorized_map(function, tasks)
    if form == "unrolled":
        return tf.stack([function(task) for task in unstack(tasks)])
    return tf.map_fn(
        function, tasks, parallel_iterations=1, fn_output_signature=dtype
    )


def unstack(tasks: Task) -> list[Task]:
    """The tasks of a batch of static size, one by one."""
    leaves = map(tf.unstack, tf.nest.flatten(tasks))
    return [tf.nest.pack_sequence_as(tasks, same) for same in zip(*leaves)]
