"""The inner loop: a few gradient steps from shared initial weights.

There is one adaptation routine in this package, `adapt`. Training
differentiates through it, evaluation measures it, and the exporter bakes it
into an artifact.

Notation (Tancik et al. 2021, section 3): theta_0 are the initial weights;
theta_{i+1} = theta_i - alpha * grad L(theta_i). The step size alpha is one
number, one number per tensor, or one number per weight (Meta-SGD, Li et al.
2017, arXiv 1707.09835). It may also be matrices on both sides of a kernel's
gradient (Meta-Curvature, Park & Oliva 2019, arXiv 1902.03356). It is fixed, or
learned together with theta_0.
"""

import collections
import copy
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import tensorflow as tf

from tfmetainit.meta import functional, output_layer
from tfmetainit.meta.functional import Params

# Where no gradient flows through the inner steps, learners take more of them
# than this in a loop.
MOST_UNROLLED = 4


class Loss(Protocol):
    """The interface of a loss that `adapt` uses, such as `tasks.FieldLoss`."""

    def value_and_grad(self, params, observed):
        """Returns the scalar loss and its gradient, a list like `params`."""

    def normal_equations(self, params, observed):
        """Returns `output_layer.NormalEquations`; needed only for a `ridge`."""


def at_step(support, step: int):
    """The observations of one inner step; steps take the batches in turn.

    Args:
        support: `Observations` `[b, n, ...]` (see `tasks`), or a list of them
            with different n.
        step: number of the step, from 0. An int for a list.

    Returns:
        `Observations` `[n, ...]`.
    """
    if isinstance(support, list):
        step, part = divmod(step, len(support))
        return at_step(support[part], step)
    length = support.inputs.shape[0]
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
    ridge: tf.Tensor | None = None,
    in_loop: bool = False,
    batches=None,
) -> tuple[Params, tf.Tensor]:
    """Adapts `params` to one signal by gradient descent.

    Nothing is assigned: the result is a differentiable function of `params`,
    `step_sizes` and `ridge`.

    Args:
        loss: returns its value and gradient on some observations.
        params: the initial weights, a list of tensors.
        support: `Observations` `[b, n, ...]` (see `tasks`).
        num_steps: number of gradient steps, at least 0.
        step_sizes: one for each parameter, as `functional.descend` takes them.
        steps_before: number of steps already taken, whose batches of the
            support are skipped.
        ridge: solve the output layer after the steps, with this ridge
            (`output_layer`); None to leave it as the steps ended. Solved
            weights are for predictions. To take further steps, start from
            weights that were not solved.
        in_loop: take the steps in a `tf.while_loop`, whose graph does not grow
            with their number. A gradient through the result is then of first
            order: the inner gradients and losses are constants.
        batches: what the steps see, as `at_step` takes it; by default the
            support (`MetaLearner.batches`). A list is not taken in a loop.

    Returns:
        The adapted weights, and the losses `[num_steps]` before each step, of
        what that step sees.

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
            "`step_sizes` must have one entry for each parameter. Received: "
            f"{len(step_sizes)} step sizes for {len(params)} parameters"
        )

    batches = support if batches is None else batches
    if in_loop and not isinstance(batches, list):
        gradients, losses = _steps_in_loop(
            loss, params, batches, num_steps, step_sizes, steps_before
        )
        # A step is linear in its gradient.
        params = functional.descend(params, gradients, step_sizes)
    else:
        losses = []
        for step in range(steps_before, steps_before + num_steps):
            value, gradients = loss.value_and_grad(
                params, at_step(batches, step)
            )
            params = functional.descend(params, gradients, step_sizes)
            losses.append(value)
        losses = tf.stack(losses) if losses else tf.zeros([0], params[0].dtype)
    if ridge is not None:
        params = output_layer.solved(loss, params, support, ridge)
    return params, losses


def _steps_in_loop(loss, params, support, count, step_sizes, start):
    """The sum of the gradients of `count` steps, and their losses."""
    # XLA cannot compile a loop under `vectorized_map` if a tape records it, or
    # if it holds a TensorArray.
    params, step_sizes = tf.nest.map_structure(
        tf.stop_gradient, (list(params), list(step_sizes))
    )
    numbers = tf.range(count)

    def body(step, params, total, losses):
        value, gradients = loss.value_and_grad(
            params, at_step(support, start + step)
        )
        return (
            step + 1,
            functional.descend(params, gradients, step_sizes),
            [t + g for t, g in zip(total, gradients)],
            tf.where(numbers == step, value, losses),
        )

    _, _, total, losses = tf.while_loop(
        lambda step, *_: step < count,
        body,
        (
            tf.constant(0),
            params,
            [tf.zeros_like(p) for p in params],
            tf.zeros([count], params[0].dtype),
        ),
        parallel_iterations=1,
        maximum_iterations=count,
    )
    return tf.nest.map_structure(tf.stop_gradient, (total, losses))


class _Known(NamedTuple):
    """A loss whose value and gradient are already computed."""

    value: tf.Tensor
    gradients: Params

    def value_and_grad(self, params, observed):
        del params, observed
        return self.value, self.gradients


def share_predictions(loss, params: Params, supports: Sequence) -> list[Loss]:
    """Losses for the first step of signals that share their support inputs.

    The forward pass, and its backward pass in the outer gradient, are computed
    once and shared.

    Args:
        loss: a `tasks.FieldLoss`, or `checkpointing.Recomputed` of one.
        params: the initial weights, from which the steps are taken.
        supports: `Observations` of each signal, as in `adapt`. Their inputs
            at the first step must be equal.

    Returns:
        A loss for each signal, for one step of `adapt` from `params`.

    Raises:
        tf.errors.InvalidArgumentError: if the inputs differ (XLA does not
            check).
    """
    observed = [at_step(support, 0) for support in supports]
    checks = [
        tf.debugging.Assert(
            tf.reduce_all(one.inputs == observed[0].inputs),
            [
                "`shares_support` must be False if the signals of a batch "
                "differ in the support inputs of the first step."
            ],
        )
        for one in observed[1:]
    ]
    with tf.control_dependencies(checks):
        inputs = tf.identity(observed[0].inputs)
    values = [one.values for one in observed]
    return [
        _Known(*known)
        for known in loss.values_and_grads(params, inputs, values)
    ]


def finisher(loss: Loss, ridge: tf.Tensor | None):
    """Returns a compiled `finish(params, support) -> params` to predict with.

    It solves the output layer, or does nothing without a ridge.
    """
    if ridge is None:
        return lambda params, support: params
    return tf.function(
        lambda params, support: output_layer.solved(
            loss, params, support, ridge
        )
    )


def last(trajectory: Iterator[Params]) -> Params:
    """The last weights of a trajectory; earlier weights are not kept."""
    return collections.deque(trajectory, maxlen=1).pop()


class SgdFit:
    """Runs `adapt` one compiled step at a time, for curves and for many steps.

    Args:
        loss: as in `adapt`.
        step_sizes: as in `adapt`.
        ridge: as in `adapt`.
        batches: maps a support to what the steps see (`MetaLearner.batches`);
            by default they see the support.
    """

    def __init__(
        self,
        loss: Loss,
        step_sizes: functional.StepParams,
        ridge: tf.Tensor | None = None,
        batches: Callable = lambda support: support,
    ):
        self._step_sizes, self._batches = step_sizes, batches
        self._step = tf.function(
            lambda params, support, step_sizes: adapt(
                loss, params, support, num_steps=1, step_sizes=step_sizes
            )[0]
        )
        self._finish = finisher(loss, ridge)

    def with_step_sizes(self, step_sizes: functional.StepParams) -> "SgdFit":
        """The same with other step sizes, without compiling again."""
        other = copy.copy(self)
        other._step_sizes = step_sizes
        return other

    def trajectory(
        self, params: Params, support, num_steps: int
    ) -> Iterator[Params]:
        """Yields the weights after 0, 1, ..., `num_steps` steps.

        With a ridge, the output layer of each is solved. The steps go on from
        weights that are not.
        """
        yield self._finish(params, support)
        batches = self._batches(support)
        for step in range(num_steps):
            observed = at_step(batches, step)
            observed = tf.nest.map_structure(lambda leaf: leaf[None], observed)
            params = self._step(params, observed, self._step_sizes)
            yield self._finish(params, support)
