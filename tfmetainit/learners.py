"""Meta-learners: Keras models that train initial weights.

- MAML: Finn et al. 2017, arXiv 1703.03400. The outer gradient flows through
  every inner step.
- Reptile: Nichol et al. 2018, arXiv 1803.02999. The outer gradient is the mean
  of theta_0 - theta_K, and is handed to the outer optimizer, so that both
  algorithms share one outer update (Tancik et al. 2021, section 3).
"""

import math

import tensorflow as tf

from tfmetainit import adaptation, functional, tapes
from tfmetainit.meta_learner import MetaLearner, unstack
from tfmetainit.tasks import FieldLoss


class MAML(MetaLearner):
    """Model-agnostic meta-learning, through every inner step.

    Args:
        early_loss_weight: weight in the outer loss of the loss after each
            inner step but the last; the query loss after the last has weight 1
            (Antoniou et al. 2019, arXiv 1810.09502, section 4, without its
            annealing). Theirs are query losses. These are of the observations
            that are adapted to: the inner loop has them anyway, and in second
            order they are differentiated anyway.
        first_order: treat the inner gradients as constants. Cheaper, and
            another gradient wherever the loss is curved.
        recompute: take the memory of one inner step instead of all, for more
            time (`tapes.Recomputed`, docs/scale.md).
        chunk: with `recompute`, the memory of so many observations (pixels,
            rays) of one step of one task (of all tasks, in a first step that
            they share); 0 for that of all observations.
    """

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
                "`chunk` must be 0, or a number of observations together with "
                f"`recompute`. Received: {chunk=}, {recompute=}"
            )
        if not 0 <= early_loss_weight < math.inf:
            raise ValueError(
                "`early_loss_weight` must be a number and not negative. "
                f"Received: {early_loss_weight}"
            )
        self.early_loss_weight = early_loss_weight
        self.first_order = first_order
        self.recompute = recompute
        self.chunk = chunk
        self.in_turn = chunk > 0

    def outer_gradients(self, task):
        inner_loss, query_loss = self._losses_for_tapes()
        with tf.GradientTape() as tape:
            outer_loss, loss, losses = self._unroll(
                inner_loss,
                query_loss,
                functional.get_params(self.field),
                task,
                self.step_sizes.as_params(),
            )
        gradients = self._or_zeros(
            tape.gradient(outer_loss, self.trainable_variables)
        )
        before = self._initial_loss(task, losses, query_loss)
        return gradients, loss, before

    def _or_zeros(self, gradients):
        """With zeros for weights that the outer loss does not depend on."""
        return [
            tf.zeros(variable.shape, variable.dtype) if g is None else g
            for g, variable in zip(gradients, self.trainable_variables)
        ]

    def _losses_for_tapes(self):
        """The losses of inner steps and query, as outer tapes see them."""
        inner_loss, query_loss = self.support_loss, self.query_loss
        if self.first_order:
            inner_loss = tapes.FirstOrder(inner_loss)
        if self.recompute:
            inner_loss = tapes.Recomputed(inner_loss, self.chunk)
        if self.chunk:
            query_loss = tapes.Recomputed(query_loss, self.chunk)
        return inner_loss, query_loss

    def _unroll(
        self, inner_loss, query_loss, params, task, step_sizes, steps_before=0
    ):
        """The outer loss, that of the query, and those before each step."""
        adapted, losses = adaptation.adapt(
            inner_loss,
            params,
            task.support,
            num_steps=self.inner_steps - steps_before,
            step_sizes=step_sizes,
            steps_before=steps_before,
        )
        loss = outer_loss = query_loss(adapted, task.query)
        if self.early_loss_weight:
            early = losses if steps_before else losses[1:]
            outer_loss += self.early_loss_weight * tf.reduce_sum(early)
        return outer_loss, loss, losses

    def meta_gradient(self, tasks):
        shared = (
            self.shares_support
            and tasks.query.values.shape[0] != 1
            and not self.first_order
            # What a subclass of a user's does otherwise, it does here too.
            and type(self).outer_gradients is MAML.outer_gradients
            and type(self.support_loss) is FieldLoss
        )
        if not shared:
            return super().meta_gradient(tasks)
        tasks = unstack(tasks)
        inner_loss, query_loss = self._losses_for_tapes()
        with tf.GradientTape() as tape:
            params = functional.get_params(self.field)
            # One tensor each: a gradient by what stands in a list twice would
            # count twice.
            sizes = tf.nest.map_structure(
                tf.identity, self.step_sizes.as_params()
            )
            adapted, losses_before = adaptation.first_steps(
                inner_loss, params, [t.support for t in tasks], sizes
            )
        # The rest is each task's own: one after the other, for memory.
        flat_sizes = tf.nest.flatten(sizes)
        losses, by_adapted, by_sizes = [], [], []
        for task, start in zip(tasks, adapted):
            with tf.control_dependencies(by_adapted[-1] if by_adapted else []):
                start = [tf.identity(p) for p in start]
            with tf.GradientTape() as rest:
                rest.watch([*start, *flat_sizes])
                outer_loss, loss, _ = self._unroll(
                    inner_loss,
                    query_loss,
                    start,
                    task,
                    sizes,
                    steps_before=1,
                )
            gradients = rest.gradient(
                outer_loss,
                [*start, *flat_sizes],
                unconnected_gradients=tf.UnconnectedGradients.ZERO,
            )
            losses.append(loss)
            by_adapted.append(gradients[: len(start)])
            by_sizes.append(gradients[len(start) :])
        gradients = tape.gradient(
            tf.nest.flatten([adapted, flat_sizes]),
            self.trainable_variables,
            output_gradients=tf.nest.flatten(
                [by_adapted, [tf.add_n(same) for same in zip(*by_sizes)]]
            ),
        )
        gradients = self._or_zeros(gradients)
        losses_before = [
            self._initial_loss(task, [before], query_loss)
            for task, before in zip(tasks, losses_before)
        ]
        return [g / len(tasks) for g in gradients], losses, losses_before


class Reptile(MetaLearner):
    """Reptile: moves the initial weights towards the adapted ones.

    Raises:
        ValueError: if `learn_step_sizes` or `early_loss_weight` is set:
            Reptile's outer gradient has no component along the step sizes, and
            is that of no outer loss.
    """

    def __init__(self, field, *, early_loss_weight: float = 0.0, **kwargs):
        if kwargs.get("learn_step_sizes"):
            raise ValueError(
                "Reptile cannot learn step sizes; use MAML for that. "
                "Received: learn_step_sizes=True"
            )
        if early_loss_weight:
            raise ValueError(
                "Reptile has no outer loss; use MAML for early losses. "
                f"Received: {early_loss_weight=}"
            )
        super().__init__(field, **kwargs)

    def outer_gradients(self, task):
        params = functional.get_params(self.field)
        adapted, losses = self.adapt(task.support)
        gradients = [p - a for p, a in zip(params, adapted)]
        loss = self.query_loss(adapted, task.query)
        before = self._initial_loss(task, losses, self.query_loss)
        return gradients, loss, before
