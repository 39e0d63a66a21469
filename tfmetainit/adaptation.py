"""The inner loop: a few gradient steps from shared initial weights.

There is one adaptation routine in this package. Training differentiates
through it, evaluation measures it, and the exporter bakes it into an artifact.

Notation (Tancik et al. 2021, section 3): theta_0 are the initial weights;
theta_{i+1} = theta_i - alpha * grad L(theta_i), where alpha is a scalar, one
number a tensor or one number a weight (Meta-SGD, Li et al. 2017, arXiv
1707.09835), fixed or learned together with theta_0. It may be matrices on both
sides of a kernel's gradient, too (Meta-Curvature, Park & Oliva 2019, arXiv
1902.03356).
"""

import collections
from collections.abc import Iterator, Sequence
from typing import Protocol

import tensorflow as tf

from tfmetainit import functional
from tfmetainit.functional import Params


class Loss(Protocol):
    """What `adapt` needs of a loss; `tfmetainit.tasks.FieldLoss` is one."""

    def value_and_grad(self, params, observed):
        """Returns the scalar loss and its gradient, a list like `params`."""


def at_step(support, step: int):
    """The observations of inner step `step` (see `tfmetainit.tasks`).

    A support with fewer entries than there are steps is cycled through.
    """
    length = support.values.shape[0]
    index = step if length is None else step % length
    return tf.nest.map_structure(lambda leaf: leaf[index], support)


def adapt(
    loss: Loss,
    params: Params,
    support,
    *,
    num_steps: int,
    step_sizes: functional.StepParams,
    steps_before: int = 0,
) -> tuple[Params, tf.Tensor]:
    """Adapts `params` to one signal by gradient descent.

    Nothing is assigned: the result is a differentiable function of `params`
    and `step_sizes`.

    Args:
        loss: gives value and gradient on some observations.
        params: the initial weights, a list of tensors.
        support: `Observations` with a leading axis over inner steps, of length
            1 or `num_steps` (see `tfmetainit.tasks`).
        num_steps: number of gradient steps, at least 0.
        step_sizes: one for each parameter, as `functional.descend` takes them.
        steps_before: how many steps were made before, on the first
            observations of the support.

    Returns:
        The adapted weights, and the losses `[num_steps]` before each step.

    Raises:
        ValueError: if `num_steps` is negative, or if the number of step sizes
            differs from the number of parameters.
    """
    if num_steps < 0:
        raise ValueError(
            f"`num_steps` must not be negative. Received: {num_steps}"
        )
    if len(step_sizes) != len(params):
        raise ValueError(
            "There must be one step size for each parameter. Received: "
            f"{len(step_sizes)} step sizes for {len(params)} parameters"
        )
    losses = []
    for step in range(steps_before, steps_before + num_steps):
        value, gradients = loss.value_and_grad(params, at_step(support, step))
        params = functional.descend(params, gradients, step_sizes)
        losses.append(value)
    if not losses:
        return params, tf.zeros([0], params[0].dtype)
    return params, tf.stack(losses)


def first_steps(
    loss, params: Params, supports: Sequence, step_sizes: functional.StepParams
) -> tuple[list[Params], list[tf.Tensor]]:
    """The first step of `adapt`, for several signals observed alike.

    What they share is done once: the predictions, and in an outer gradient the
    way back through them.

    Args:
        loss: a `tfmetainit.tasks.FieldLoss`, or `Recomputed` of one.
        params: the initial weights.
        supports: of each signal, as in `adapt`; their first inputs are equal.
        step_sizes: as in `adapt`.

    Returns:
        Of each signal the weights after the step, and the loss before it.

    Raises:
        InvalidArgumentError: by TensorFlow, if the inputs differ (XLA does not
            check).
    """
    observed = [at_step(support, 0) for support in supports]
    checks = [
        tf.debugging.Assert(
            tf.reduce_all(one.inputs == observed[0].inputs),
            [
                "`shares_support` must be False where the first support inputs "
                "of a batch's signals differ."
            ],
        )
        for one in observed[1:]
    ]
    with tf.control_dependencies(checks):
        inputs = tf.identity(observed[0].inputs)
    together = observed[0]._replace(
        inputs=inputs, values=[one.values for one in observed]
    )
    results = loss.values_and_grads(params, together)
    adapted = [
        functional.descend(params, gradients, step_sizes)
        for _, gradients in results
    ]
    return adapted, [value for value, _ in results]


def last(trajectory: Iterator[Params]) -> Params:
    """The last weights of a trajectory; those before are not kept."""
    return collections.deque(trajectory, maxlen=1).pop()


class SgdFit:
    """`adapt`, one compiled step at a time: for curves, and for many steps.

    Args:
        loss: as in `adapt`.
        step_sizes: as in `adapt`.
    """

    def __init__(self, loss: Loss, step_sizes: functional.StepParams):
        self._step = tf.function(
            lambda params, support: adapt(
                loss, params, support, num_steps=1, step_sizes=step_sizes
            )[0]
        )

    def trajectory(
        self, params: Params, support, num_steps: int
    ) -> Iterator[Params]:
        """Yields the weights after 0, 1, ..., `num_steps` steps."""
        yield params
        for step in range(num_steps):
            observed = at_step(support, step)
            observed = tf.nest.map_structure(lambda leaf: leaf[None], observed)
            params = self._step(params, observed)
            yield params
