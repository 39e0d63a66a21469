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

import math
from collections.abc import Iterator, Sequence
from typing import Protocol

import keras
import tensorflow as tf

from tfmetainit import functional
from tfmetainit.functional import Params

# Each with those whose step sizes it can hold (`StepSizes.keep_from`).
_HOLDS = {
    "scalar": ("scalar",),
    "tensor": ("scalar", "tensor"),
    "weight": ("scalar", "tensor", "weight"),
    "curvature": ("scalar", "tensor", "curvature"),
}
GRANULARITIES = tuple(_HOLDS)

# Step sizes range from 1e-2 (SIREN) to 1e3 (the first layer of a CT field), so
# they are learned as logarithms: an outer update by u multiplies one by
# exp(gain u). At this gain an outer Adam of rate 3e-5 moves it by about 1.5%
# an iteration.
DEFAULT_GAIN = 512.0


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


class Recomputed:
    """A loss that keeps nothing for outer tapes but the weights it was given.

    Value and gradient are those of `loss`; for a derivative of either, they
    are computed once more (Chen et al. 2016, arXiv 1604.06174). An outer
    gradient then takes the memory of one inner step, whatever their number; of
    one chunk of its observations, where `chunk` is given.

    Not `tf.recompute_grad`: that one stops every tape around the function, also
    the one inside of it, whose gradients then come out as zeros.

    XLA (`jit_compile`) orders operations as it likes: it computes the same, in
    an amount of memory that was not measured.

    Args:
        loss: a mean over observations; also a function `(params, observed) ->
            value` if this one is called.
        chunk: how many observations are worked on at a time; 0 for all, and
            all where their number is not known when the graph is made.
    """

    def __init__(self, loss: Loss, chunk: int = 0):
        self._loss = loss
        self._chunk = chunk

    def __call__(self, params, observed):
        """The scalar loss."""
        return self._mean(self._loss, params, observed, 0.0)

    def value_and_grad(self, params, observed):
        like = (0.0, params)
        return self._mean(self._loss.value_and_grad, params, observed, like)

    def values_and_grads(self, params, observed):
        like = [(0.0, params)] * len(observed.values)
        return self._mean(self._loss.values_and_grads, params, observed, like)

    def _mean(self, function, params, observed, like):
        """The mean of `function(params, observed)` over observations.

        Args:
            function: of the loss.
            params: as it takes them.
            observed: as it takes them.
            like: a nest like its result, with tensors of the same shapes.
        """

        def weighted(params, part, weight):
            results = function(params, part)
            return [weight * r for r in tf.nest.flatten(results)]

        @tf.custom_gradient
        def mean(*params):
            def backward(*upstream):
                def weighted_gradients(params, part, weight):
                    with tf.GradientTape() as tape:
                        tape.watch(params)
                        results = weighted(params, part, weight)
                    return tape.gradient(
                        results,
                        params,
                        output_gradients=upstream,
                        unconnected_gradients=tf.UnconnectedGradients.ZERO,
                    )

                # These wait for the way back to reach them. That also keeps
                # the graph optimizer from merging them with those below.
                return self._sum(
                    weighted_gradients, params, observed, params, upstream
                )

            return self._sum(weighted, params, observed, like, []), backward

        results = mean(*map(tf.convert_to_tensor, params))
        return tf.nest.pack_sequence_as(like, results)

    def _sum(self, function, params, observed, like, after):
        """The sum of `function(params, part, weight)` over parts, in a line.

        In a loop, as the graph of every chunk would take more memory than the
        chunk. What does not fill one comes before it.
        """
        count = tf.nest.flatten(observed.values)[0].shape[0]
        with tf.control_dependencies(after):
            params = [tf.identity(p) for p in params]
        if count is None or not 0 < self._chunk < count:
            return function(params, observed, 1.0)
        chunk, rest = self._chunk, count % self._chunk

        def part(start, size):
            rows = start + tf.range(size)  # of a known number, as XLA wants
            return tf.nest.map_structure(
                lambda leaf: tf.gather(leaf, rows), observed
            )

        def add_chunk(start, *total):
            # What a tape watches must be of the loop's own graph.
            own = [tf.identity(p) for p in params]
            terms = function(own, part(start, chunk), chunk / count)
            return start + chunk, *(a + b for a, b in zip(total, terms))

        if rest:
            total = function(params, part(0, rest), rest / count)
        else:
            total = [
                tf.zeros(tf.shape(leaf), params[0].dtype)
                for leaf in tf.nest.flatten(like)
            ]
        with tf.control_dependencies(total):
            start = tf.constant(rest)
        return tf.while_loop(
            lambda start, *_: start < count,
            add_chunk,
            (start, *total),
            parallel_iterations=1,
        )[1:]


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


@keras.saving.register_keras_serializable(package="tfmetainit")
class StepSizes(keras.layers.Layer):
    """The inner loop's step sizes, stored as weights beside the field's.

    Args:
        shapes: shapes of the field's parameters, in their order.
        initial: positive float, the initial value of every step size.
        granularity: "scalar" (one number), "tensor" (one number for each
            parameter tensor), "weight" (one for each entry) or "curvature"
            (one for each parameter tensor, and of every kernel the matrices on
            both sides of its gradient, which start as the identity).
        learned: whether the outer loop updates them (Meta-SGD). The numbers
            stay positive.
        gain: positive float, the factor between what the outer loop updates
            and the step sizes' logarithms.
    """

    def __init__(
        self,
        shapes,
        initial=1e-2,
        granularity="scalar",
        learned=False,
        gain=DEFAULT_GAIN,
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
        if not gain > 0:
            raise ValueError(f"`gain` must be positive. Received: gain={gain}")
        self.shapes = [tuple(shape) for shape in shapes]
        self.initial = float(initial)
        self.gain = float(gain)
        self.granularity = granularity
        self.learned = learned
        variable_shapes = {
            "scalar": [()],
            "tensor": [()] * len(self.shapes),
            "weight": self.shapes,
            "curvature": [()] * len(self.shapes),
        }[granularity]
        self.logarithms = [
            self.add_weight(
                name=f"logarithm_{index}",
                shape=shape,
                initializer="zeros",
                trainable=learned,
            )
            for index, shape in enumerate(variable_shapes)
        ]
        self._kernels = [
            index
            for index, shape in enumerate(self.shapes)
            if granularity == "curvature" and len(shape) == 2
        ]
        # Of each kernel, what its matrices differ by from the identity.
        self.sides = [
            functional.Sides(
                *(
                    self.add_weight(
                        name=f"{side}_{index}",
                        shape=(size, size),
                        initializer="zeros",
                        trainable=learned,
                    )
                    for side, size in zip(
                        functional.Sides._fields, self.shapes[index]
                    )
                )
            )
            for index in self._kernels
        ]
        self.built = True

    def as_params(self) -> functional.StepParams:
        """The step sizes as `adapt` takes them: one for each parameter."""
        sizes = [
            self.initial * tf.exp(self.gain * tf.convert_to_tensor(logarithm))
            for logarithm in self.logarithms
        ]
        if self.granularity == "scalar":
            return sizes * len(self.shapes)
        for index, sides in zip(self._kernels, self.sides):
            # Its root for each side, so that float16 holds small ones.
            root = tf.sqrt(sizes[index])
            sizes[index] = functional.Sides(
                *(
                    root * (tf.eye(side.shape[0], dtype=root.dtype) + side)
                    for side in map(tf.convert_to_tensor, sides)
                )
            )
        return sizes

    def keep_from(self, other: "StepSizes") -> None:
        """Takes the step sizes of another layer, of parameters of these shapes.

        Raises:
            ValueError: if this layer's granularity has no place for them.
        """
        if other.granularity not in _HOLDS[self.granularity]:
            raise ValueError(
                f"Step sizes of granularity {self.granularity!r} cannot hold "
                f"those of granularity {other.granularity!r}."
            )
        offset = math.log(other.initial / self.initial)
        logarithms = other.logarithms
        if len(logarithms) == 1:
            logarithms = logarithms * len(self.logarithms)
        for mine, logarithm in zip(self.logarithms, logarithms):
            value = (offset + other.gain * logarithm) / self.gain
            mine.assign(tf.broadcast_to(value, mine.shape))
        for mine, sides in zip(self.sides, other.sides):
            for matrix, value in zip(mine, sides):
                matrix.assign(value)

    def get_config(self):
        config = super().get_config()
        del config["trainable"]
        return {
            **config,
            "shapes": self.shapes,
            "initial": self.initial,
            "granularity": self.granularity,
            "learned": self.learned,
            "gain": self.gain,
        }
