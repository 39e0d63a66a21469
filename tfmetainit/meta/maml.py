"""MAML: Finn et al. 2017, arXiv 1703.03400.

The outer gradient flows through every inner step. In first order, it treats
the inner gradients as constants.
"""

import math

import tensorflow as tf

from tfmetainit.meta import checkpointing, functional, inner_loop, task_loops
from tfmetainit.meta.learner import MetaLearner, batch_size


class MAML(MetaLearner):
    """Model-agnostic meta-learning: differentiates through every inner step.

    Args:
        field: as in `MetaLearner`, as are all further arguments.
        early_loss_weight: weight, in the outer loss, of the support loss after
            each inner step but the last. The query loss after the last step has
            weight 1. Antoniou et al. 2019, arXiv 1810.09502, section 4, weight
            query losses and anneal the weights. Support losses are cheaper: the
            inner loop computes and differentiates them anyway.
        first_order: treat the inner gradients as constants. This is cheaper,
            and differs from the exact gradient wherever the loss is curved.
        recompute: take the memory of one inner step instead of all steps, for
            more time (`checkpointing.Recomputed`, docs/scale.md).
        chunk: with `recompute`, the number of observations (pixels, rays) of
            one task that are evaluated at a time; 0 for all.

    Raises:
        ValueError: if `chunk` is set without `recompute`, or an argument is out
            of range.

    Attributes:
        shares_first_step: whether tasks with the same first support inputs
            share that step's predictions (`shares_support` of `MetaLearner`).
            It defaults to False in a subclass that defines `outer_gradients`.
    """

    shares_first_step = True

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if "outer_gradients" in vars(cls):
            cls.shares_first_step = vars(cls).get("shares_first_step", False)

    def __init__(
        self,
        field,
        *,
        early_loss_weight: float = 0.0,
        first_order: bool = False,
        recompute: bool = False,
        chunk: int = 0,
        **kwargs,
    ):
        super().__init__(field, **kwargs)
        if chunk < 0 or (chunk and not recompute):
            raise ValueError(
                "`chunk` must be 0, or positive together with `recompute`. "
                f"Received: {chunk=}, {recompute=}"
            )
        if not 0 <= early_loss_weight < math.inf:
            raise ValueError(
                "`early_loss_weight` must be finite and not negative. "
                f"Received: {early_loss_weight}"
            )
        self.early_loss_weight = early_loss_weight
        self.first_order = first_order
        self.recompute = recompute
        self.chunk = chunk
        self.in_turn = chunk > 0

    def outer_gradients(self, task):
        inner_loss, query_loss = self._wrapped_losses()
        with tf.GradientTape() as tape:
            outer_loss, loss, losses = self._unroll(
                inner_loss,
                query_loss,
                functional.get_params(self.field),
                task,
                self._inner_options(),
            )
        gradients = self._or_zeros(
            tape.gradient(outer_loss, self.trainable_variables)
        )
        before = self.initial_loss(task, losses[0], query_loss)
        return gradients, loss, before

    def meta_gradient(self, tasks):
        shared = (
            self._form(tasks) == "unrolled"
            and self.shares_first_step
            and self.shares_support
            and not self.first_order
            and batch_size(tasks) != 1
        )
        if not shared:
            return super().meta_gradient(tasks)
        return self._shared_meta_gradient(task_loops.unstack(tasks))

    def _wrapped_losses(self):
        """The losses of inner steps and query, wrapped for outer tapes."""
        inner_loss, query_loss = self.support_loss, self.query_loss
        if self.first_order:
            inner_loss = checkpointing.FirstOrder(inner_loss)
        if self.recompute:
            inner_loss = checkpointing.Recomputed(inner_loss, self.chunk)
        if self.chunk:
            query_loss = checkpointing.Recomputed(query_loss, self.chunk)
        return inner_loss, query_loss

    def _inner_options(self):
        """The learned arguments of `adapt`: step sizes, a ridge if any."""
        options = {"step_sizes": self.step_sizes.as_params()}
        if self.ridge is not None:
            options["ridge"] = self.ridge
        return options

    def _unroll(
        self, inner_loss, query_loss, params, task, options, steps_before=0
    ):
        """The outer loss, the query loss, and the losses before each step."""
        in_loop = (
            self.first_order
            and not self.early_loss_weight
            and self.inner_steps > inner_loop.MOST_UNROLLED
        )
        adapted, losses = inner_loop.adapt(
            inner_loss,
            params,
            task.support,
            batches=self.batches(task.support),
            num_steps=self.inner_steps - steps_before,
            steps_before=steps_before,
            in_loop=in_loop,
            **options,
        )
        loss = outer_loss = query_loss(adapted, task.query)
        if self.early_loss_weight:
            early = losses if steps_before else losses[1:]
            outer_loss += self.early_loss_weight * tf.reduce_sum(early)
        return outer_loss, loss, losses

    def _shared_meta_gradient(self, tasks):
        """The outer gradient of tasks that share the first step's predictions.

        This is the chain rule in two parts. Each task's outer loss is
        differentiated with respect to the weights after the first step. Then
        these weights of all tasks are differentiated with respect to the
        initial weights.
        """
        inner_loss, query_loss = self._wrapped_losses()
        with tf.GradientTape() as tape:
            params = functional.get_params(self.field)
            # A tensor that occurs twice in a list would be counted twice.
            options = tf.nest.map_structure(tf.identity, self._inner_options())
            supports = [self.batches(task.support) for task in tasks]
            first = [
                inner_loop.adapt(
                    loss,
                    params,
                    support,
                    num_steps=1,
                    step_sizes=options["step_sizes"],
                )
                for loss, support in zip(
                    inner_loop.share_predictions(inner_loss, params, supports),
                    supports,
                )
            ]
        adapted = [params for params, _ in first]
        losses, by_adapted, by_options = self._gradients_after_first_step(
            inner_loss, query_loss, adapted, tasks, options
        )
        gradients = tape.gradient(
            tf.nest.flatten([adapted, options]),
            self.trainable_variables,
            output_gradients=tf.nest.flatten(
                [by_adapted, [tf.add_n(same) for same in zip(*by_options)]]
            ),
        )
        gradients = self._or_zeros(gradients)
        losses_before = [
            self.initial_loss(task, before[0], query_loss)
            for task, (_, before) in zip(tasks, first)
        ]
        return [g / len(tasks) for g in gradients], *map(
            tf.stack, (losses, losses_before)
        )

    def _gradients_after_first_step(
        self, inner_loss, query_loss, adapted, tasks, options
    ):
        """The query loss of each task, and the gradients of its outer loss.

        The gradients are with respect to the weights after the first step, and
        to the inner options. The tasks run in sequence, to bound the memory.
        """
        flat_options = tf.nest.flatten(options)
        losses, by_adapted, by_options = [], [], []
        for task, start in zip(tasks, adapted):
            with tf.control_dependencies(by_adapted[-1] if by_adapted else []):
                start = [tf.identity(p) for p in start]
            with tf.GradientTape() as tape:
                tape.watch([*start, *flat_options])
                outer_loss, loss, _ = self._unroll(
                    inner_loss,
                    query_loss,
                    start,
                    task,
                    options,
                    steps_before=1,
                )
            gradients = tape.gradient(
                outer_loss,
                [*start, *flat_options],
                unconnected_gradients=tf.UnconnectedGradients.ZERO,
            )
            losses.append(loss)
            by_adapted.append(gradients[: len(start)])
            by_options.append(gradients[len(start) :])
        return losses, by_adapted, by_options

    def _or_zeros(self, gradients):
        """Replaces None by zeros, for weights that the outer loss ignores."""
        return [
            tf.zeros(variable.shape, variable.dtype) if g is None else g
            for g, variable in zip(gradients, self.trainable_variables)
        ]
