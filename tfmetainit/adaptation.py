"""The inner loop: a few gradient steps from shared initial weights.

There is one adaptation routine in this package. Training differentiates
through it, evaluation measures it, and the exporter bakes it into an artifact.

Notation (Tancik et al. 2021, section 3): theta_0 are the initial weights;
theta_{i+1} = theta_i - alpha * grad L(theta_i), where alpha is a scalar, one
number a tensor or one number a weight (Meta-SGD, Li et al. 2017, arXiv
1707.09835), fixed or learned together with theta_0.
"""

from collections.abc import Iterator
from typing import Protocol

import keras
import tensorflow as tf

from tfmetainit import functional
from tfmetainit.functional import Params

GRANULARITIES = ("scalar", "tensor", "weight")

# Step sizes are stored in units of RELATIVE_UNIT times their initial value, so
# that an outer Adam of rate 1e-4 moves one by about 1% an iteration whatever
# its magnitude: they range from 1e-2 (SIREN) to 10 (CT). A power of two keeps
# the initial value exact.
RELATIVE_UNIT = 128.0


class Loss(Protocol):
    """What `adapt` needs of a loss; `tfmetainit.tasks.FieldLoss` is one."""

    def value_and_grad(self, params, observed):
        """Returns the scalar loss and its gradient, a list like `params`."""


class FirstOrder:
    """A loss whose gradients are constants to outer tapes (first-order MAML).

    The value and the gradient are those of `loss`; only the derivative of the
    gradient is dropped (Finn et al. 2017, arXiv 1703.03400, section 5.2).
    """

    def __init__(self, loss: Loss):
        self._loss = loss

    def value_and_grad(self, params, observed):
        value, gradients = self._loss.value_and_grad(params, observed)
        return value, [tf.stop_gradient(g) for g in gradients]


def at_step(support, step: int):
    """The observations of inner step `step` (see `tfmetainit.tasks`).

    A support with fewer entries than there are steps is cycled through.
    """
    length = support.values.shape[0]
    index = step if length is None else step % length
    return tf.nest.map_structure(lambda leaf: leaf[index], support)


def adapt(
    loss: Loss, params: Params, support, *, num_steps: int, step_sizes: Params
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
        step_sizes: list like `params`; each entry a scalar or a tensor of its
            parameter's shape.

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
    for step in range(num_steps):
        value, gradients = loss.value_and_grad(params, at_step(support, step))
        params = functional.descend(params, gradients, step_sizes)
        losses.append(value)
    return params, tf.stack(losses) if losses else tf.zeros([0])


class SgdFit:
    """`adapt`, one compiled step at a time: for curves, and for many steps.

    Args:
        loss: as in `adapt`.
        step_sizes: as in `adapt`.
    """

    def __init__(self, loss: Loss, step_sizes: Params):
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


@keras.saving.register_keras_serializable(package="tfmetainit")
class StepSizes(keras.layers.Layer):
    """The inner loop's step sizes, stored as weights beside the field's.

    Args:
        shapes: shapes of the field's parameters, in their order.
        initial: positive float, the initial value of every step size.
        granularity: "scalar" (one number), "tensor" (one number for each
            parameter tensor) or "weight" (one for each entry).
        learned: whether the outer loop updates them (Meta-SGD). They never
            become negative.

    """

    def __init__(
        self,
        shapes,
        initial=1e-2,
        granularity="scalar",
        learned=False,
        **kwargs,
    ):
        super().__init__(trainable=learned, **kwargs)
        if granularity not in GRANULARITIES:
            raise ValueError(
                f"`granularity` must be one of {GRANULARITIES}. Received: "
                f"granularity={granularity!r}"
            )
        if not initial > 0:
            raise ValueError(
                f"`initial` must be positive. Received: initial={initial}"
            )
        self.shapes = [tuple(shape) for shape in shapes]
        self.initial = float(initial)
        self.granularity = granularity
        self.learned = learned
        variable_shapes = {
            "scalar": [()],
            "tensor": [()] * len(self.shapes),
            "weight": self.shapes,
        }[granularity]
        self.relative = [
            self.add_weight(
                name=f"relative_{index}",
                shape=shape,
                initializer=keras.initializers.Constant(1.0 / RELATIVE_UNIT),
                constraint=keras.constraints.NonNeg(),
                trainable=learned,
            )
            for index, shape in enumerate(variable_shapes)
        ]
        self.built = True

    def as_params(self) -> Params:
        """The step sizes as `adapt` takes them: one for each parameter."""
        unit = RELATIVE_UNIT * self.initial
        sizes = [unit * tf.convert_to_tensor(r) for r in self.relative]
        return sizes * len(self.shapes) if len(sizes) == 1 else sizes

    def get_config(self):
        config = super().get_config()
        del config["trainable"]
        return {
            **config,
            "shapes": self.shapes,
            "initial": self.initial,
            "granularity": self.granularity,
            "learned": self.learned,
        }
