"""Wrappers of losses that change how an outer tape differentiates them.

Each class wraps a loss for `inner_loop.adapt` and leaves its values and
gradients unchanged. `FirstOrder` drops the derivative of the gradients.
`Recomputed` computes the activations for that derivative again instead of
keeping them.
"""

import tensorflow as tf

from tfmetainit.meta.inner_loop import Loss
from tfmetainit.meta.output_layer import NormalEquations


class FirstOrder:
    """A loss whose gradients are constants to outer tapes (first-order MAML).

    The value and the gradient are those of `loss`; only the derivative of the
    gradient is dropped (Finn et al. 2017, arXiv 1703.03400, section 5.2).

    Args:
        loss: any loss of `inner_loop.adapt`.
    """

    def __init__(self, loss: Loss):
        self._loss = loss

    def value_and_grad(self, params, observed):
        value, gradients = self._loss.value_and_grad(params, observed)
        return value, [tf.stop_gradient(g) for g in gradients]

    def normal_equations(self, params, observed):
        return self._loss.normal_equations(params, observed)


class Recomputed:
    """A loss whose activations are recomputed for outer tapes, not stored.

    Value and gradient are those of `loss`. An outer derivative of either
    computes them once more (gradient checkpointing, Chen et al. 2016, arXiv
    1604.06174). An outer gradient then takes the memory of one inner step, for
    any number of steps, or that of one chunk of its observations.

    `tf.recompute_grad` cannot be used: it stops every tape around the function,
    including the inner one, whose gradients would be zeros. XLA (`jit_compile`)
    gives the same values; its memory was not measured.

    Args:
        loss: a mean over observations, such as a `tasks.FieldLoss`.
        chunk: number of observations evaluated at a time; 0 for all. All are
            evaluated together if their number is not static.
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

    def normal_equations(self, params, observed):
        like = NormalEquations.zeros(params)
        return self._mean(self._loss.normal_equations, params, observed, like)

    def values_and_grads(self, params, inputs, values):
        like = [(0.0, params)] * len(values)
        return self._mean(
            lambda params, part: self._loss.values_and_grads(params, *part),
            params,
            (inputs, list(values)),
            like,
        )

    def _mean(self, function, params, observed, like):
        """The mean of `function(params, observed)` over observations.

        Args:
            function: returns a nest of means over observations.
            params: list of tensors.
            observed: a nest of tensors `[n, ...]`.
            like: a nest of tensors with the structure and shapes of the result.
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

                # The recomputation waits for the upstream gradients. Otherwise
                # the graph optimizer would merge it with the forward pass.
                return self._sum(
                    weighted_gradients, params, observed, params, upstream
                )

            return self._sum(weighted, params, observed, like, []), backward

        results = mean(*map(tf.convert_to_tensor, params))
        return tf.nest.pack_sequence_as(like, results)

    def _sum(self, function, params, observed, like, after):
        """The sum of `function(params, part, weight)` over chunks, in turn.

        An unrolled graph would take more memory than one chunk, so this is a
        `tf.while_loop`. A remainder smaller than a chunk comes first.
        """
        count = tf.nest.flatten(observed)[0].shape[0]
        with tf.control_dependencies(after):
            params = [tf.identity(p) for p in params]
        if count is None or not 0 < self._chunk < count:
            return function(params, observed, 1.0)
        chunk, rest = self._chunk, count % self._chunk

        def part(start, size):
            rows = start + tf.range(size)  # a static number of rows, for XLA
            return tf.nest.map_structure(
                lambda leaf: tf.gather(leaf, rows), observed
            )

        def add_chunk(start, *total):
            # A tape can only watch tensors of the loop's own graph.
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
