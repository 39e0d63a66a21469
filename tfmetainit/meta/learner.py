"""The base of the learners: adaptation, scoring, and the outer update.

A learner is a Keras model. It holds a field, whose weights are the learned
initialization, and the inner loop's step sizes. `compile`, `fit`, `evaluate`,
`predict`, callbacks and `save_weights` are Keras's own. The elements of a
dataset are batches of `Task`.
"""

import abc
import math

import keras
import tensorflow as tf

from tfmetainit.forward_models.identity import ForwardModel, identity
from tfmetainit.meta import functional, halves, inner_loop, task_loops
from tfmetainit.meta.functional import Params
from tfmetainit.meta.output_layer import (
    DEFAULT_RIDGE,
    OUTPUT_LAYERS,
    check_solvable,
)
from tfmetainit.meta.step_sizes import DEFAULT_GAIN, GRANULARITIES, StepSizes
from tfmetainit.meta.tasks import (
    FieldLoss,
    Observations,
    Task,
    mean_squared_error,
    psnr_from_mse,
)


class MetaLearner(keras.Model, abc.ABC):
    """Base of the learners: adaptation, scoring, and the outer update.

    Args:
        field: a built Keras model that maps coordinates to values.
        inner_steps: number of inner gradient steps in training.
        inner_lr: positive float, the initial inner step size.
        step_sizes: "scalar", "tensor", "weight" or "curvature"
            (`step_sizes.StepSizes`).
        learn_step_sizes: whether the outer loop updates the step sizes.
        step_size_gain: how fast the outer loop moves the step sizes
            (`step_sizes.StepSizes`).
        output_layer: "stepped", or "solved" to solve it in closed form after
            the inner steps (`meta.output_layer`).
        ridge: positive float, the initial ridge of a solved output layer. The
            outer loop updates it together with the step sizes.
        step_on: "all", or "halves" for inner steps that see the two halves of
            a picture in turn (`meta.halves`).
        raster_width: width of the pictures whose pixels, row by row, are the
            support; None for other signals.
        eval_steps: number of inner steps in `evaluate`; defaults to
            `inner_steps`.
        support_model: forward model of the support.
        query_model: forward model of the query.
        shares_support: whether all tasks of a batch have the same support
            inputs at the first inner step. Second-order `MAML` then computes
            their predictions once.
        task_loop: how the graph of an outer step holds the tasks of a batch:
            "unrolled", "loop" or "batched" (`task_loops`); by default
            "unrolled" for up to four tasks and "loop" for more on a CPU,
            "batched" on a GPU.

    Raises:
        ValueError: if `field` is not built, or another argument is out of
            range.

    `fit` reports means over tasks: `loss`, the query loss after the inner loop;
    `loss_before`, the loss before it (of the support, if support and query have
    the same forward model and measure); `gradient_norm`, that of the outer
    gradient; and `psnr`, if the measure is the squared error. `evaluate`
    reports `psnr_0`, ..., `psnr_K`: the query PSNR in dB after each inner step,
    averaged over signals.
    """

    def __init__(
        self,
        field: keras.Model,
        *,
        inner_steps: int = 2,
        inner_lr: float = 1e-2,
        step_sizes: str = "scalar",
        learn_step_sizes: bool = False,
        step_size_gain: float = DEFAULT_GAIN,
        output_layer: str = "stepped",
        ridge: float = DEFAULT_RIDGE,
        step_on: str = "all",
        raster_width: int | None = None,
        eval_steps: int | None = None,
        support_model: ForwardModel = identity,
        query_model: ForwardModel = identity,
        shares_support: bool = False,
        task_loop: str | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if inner_steps < 1:
            raise ValueError(
                f"`inner_steps` must be at least 1. Received: {inner_steps}"
            )
        if not 0 < inner_lr < math.inf:
            raise ValueError(
                f"`inner_lr` must be positive and finite. Received: {inner_lr}"
            )
        if not field.built:
            raise ValueError(
                "`field` must be built; call it once, or give it an Input. "
                f"Received: {field.name}, which has no weights yet"
            )
        if step_sizes not in GRANULARITIES:
            raise ValueError(
                f"`step_sizes` must be one of {GRANULARITIES}. Received: "
                f"{step_sizes!r}"
            )
        if eval_steps is not None and eval_steps < 0:
            raise ValueError(
                f"`eval_steps` must not be negative. Received: {eval_steps}"
            )
        if output_layer not in OUTPUT_LAYERS:
            raise ValueError(
                f"`output_layer` must be one of {OUTPUT_LAYERS}. Received: "
                f"{output_layer!r}"
            )
        if not 0 < ridge < math.inf:
            raise ValueError(
                f"`ridge` must be positive and finite. Received: {ridge}"
            )
        if step_on not in halves.STEP_ON:
            raise ValueError(
                f"`step_on` must be one of {halves.STEP_ON}. Received: "
                f"{step_on!r}"
            )
        if step_on == "halves" and raster_width is None:
            raise ValueError(
                "`step_on` can be 'halves' only for pictures all of whose "
                "pixels are the support; use 'all'. Received: raster_width=None"
            )
        if task_loop is not None and task_loop not in task_loops.FORMS:
            raise ValueError(
                f"`task_loop` must be one of {task_loops.FORMS}, or None. "
                f"Received: {task_loop!r}"
            )
        self.task_loop = task_loop
        self.field = field
        # Whether the tasks of a batch run in sequence, to bound the memory.
        self.in_turn = False
        self.shares_support = shares_support
        self.step_on, self.raster_width = step_on, raster_width
        self.inner_steps = inner_steps
        self.eval_steps = inner_steps if eval_steps is None else eval_steps
        self.step_sizes = StepSizes(
            [v.shape for v in field.trainable_variables],
            initial=inner_lr,
            granularity=step_sizes,
            learned=learn_step_sizes,
            gain=step_size_gain,
            dtype=field.dtype_policy,
            name="step_sizes",
        )
        self._ridge = None
        if output_layer == "solved":
            check_solvable(field, support_model)
            # Stored and learned as a step size is: a logarithm.
            self._ridge = StepSizes(
                [()],
                initial=ridge,
                learned=learn_step_sizes,
                gain=step_size_gain,
                dtype=field.dtype_policy,
                name="ridge",
            )
        self.support_loss = FieldLoss(field, support_model)
        self.query_loss = FieldLoss(field, query_model)
        self._loss = keras.metrics.Mean(name="loss")
        self._loss_before = keras.metrics.Mean(name="loss_before")
        self._psnr = keras.metrics.Mean(name="psnr")
        self._gradient_norm = keras.metrics.Mean(name="gradient_norm")
        self._psnr_at = [
            keras.metrics.Mean(name=f"psnr_{step}")
            for step in range(self.eval_steps + 1)
        ]
        self.built = True

    def compile(self, optimizer="adam", jit_compile=False, **kwargs):
        """As `keras.Model.compile`, but without XLA by default.

        With XLA's sine, a SIREN's step takes about twice as long on a CPU.
        """
        super().compile(optimizer=optimizer, jit_compile=jit_compile, **kwargs)
        if self.optimizer is not None:
            # Under a strategy, its state cannot be created within a step.
            self.optimizer.build(self.trainable_variables)

    def fit(self, x=None, *args, **kwargs):
        self._trace_anew("train_function", x)
        return super().fit(x, *args, **kwargs)

    def evaluate(self, x=None, *args, **kwargs):
        self._trace_anew("test_function", x)
        return super().evaluate(x, *args, **kwargs)

    def predict(self, x=None, *args, **kwargs):
        self._trace_anew("predict_function", x)
        return super().predict(x, *args, **kwargs)

    def _trace_anew(self, function, batches):
        """Drops a compiled step that was traced for batches of another size.

        Keras would retrace it with a dynamic batch size, and such a batch
        cannot be unstacked into tasks.
        """
        spec = repr(getattr(batches, "element_spec", None))
        made_for = f"_{function}_made_for"
        if spec != getattr(self, made_for, spec):
            setattr(self, function, None)
        setattr(self, made_for, spec)

    @property
    def ridge(self) -> tf.Tensor | None:
        """The ridge of a solved output layer, or None."""
        return self._ridge and self._ridge.as_params()[0]

    def call(self, coords):
        """Values of the learned initialization, before any inner step."""
        return self.field(coords)

    @property
    def metrics(self):
        # Keras resets what is listed here between epochs.
        return [
            self._loss,
            self._loss_before,
            self._psnr,
            self._gradient_norm,
            *self._psnr_at,
        ]

    def batches(self, support):
        """What the inner steps see in turn of a support, by `step_on`.

        Args:
            support: `Observations` `[b, n, ...]`. To be divided into halves, it
                must be one batch, the pixels of a picture of `raster_width`,
                row by row.

        Returns:
            As `inner_loop.at_step` takes it.
        """
        if self.step_on == "all":
            return support
        return halves.as_batches(support, self.raster_width)

    def adapt(
        self,
        support: Observations,
        num_steps: int | None = None,
        in_loop: bool = False,
    ) -> tuple[Params, tf.Tensor]:
        """Adapts the learned initial weights to one signal.

        Args:
            support: `Observations` `[b, n, ...]` (see `tasks`, and `batches`).
            num_steps: defaults to `inner_steps`.
            in_loop: as in `inner_loop.adapt`.

        Returns:
            The adapted weights, for predictions, and the losses `[num_steps]`
            before each step, of what that step sees. If `output_layer` is
            "solved", further steps must not start from these weights; take all
            steps in one call.
        """
        return inner_loop.adapt(
            self.support_loss,
            functional.get_params(self.field),
            support,
            batches=self.batches(support),
            num_steps=self.inner_steps if num_steps is None else num_steps,
            step_sizes=self.step_sizes.as_params(),
            ridge=self.ridge,
            in_loop=in_loop,
        )

    def sgd_fit(self, solves: bool = True) -> inner_loop.SgdFit:
        """The inner loop, step by step, with the current step sizes.

        Args:
            solves: whether to solve the output layer, if the learner does.
        """
        return inner_loop.SgdFit(
            self.support_loss,
            self.step_sizes.as_params(),
            self.ridge if solves else None,
            self.batches,
        )

    def reconstructions(
        self, task: Task, params: Params, fit, num_steps: int, shown=None
    ) -> list[tf.Tensor]:
        """Query predictions `[m, c]` after 0, 1, ..., `num_steps` steps.

        Args:
            task: without a batch axis.
            params: the initial weights.
            fit: an `inner_loop.SgdFit` or `baselines.AdamFit`.
            num_steps: number of steps.
            shown: the steps after which to predict; by default all.
        """
        trajectory = fit.trajectory(params, task.support, num_steps)
        return [
            self.query_loss.predict(adapted, task.query.inputs)
            for step, adapted in enumerate(trajectory)
            if shown is None or step in shown
        ]

    @abc.abstractmethod
    def outer_gradients(self, task: Task):
        """The outer gradient of one task.

        Args:
            task: without a batch axis.

        Returns:
            `(gradients, loss, loss_before)`: a list like
            `trainable_variables`, and the scalar losses after the inner loop
            and before it.
        """

    def initial_loss(self, task: Task, support_loss, query_loss) -> tf.Tensor:
        """The loss before the inner loop, to compare with the one after it.

        Args:
            task: without a batch axis.
            support_loss: the scalar loss on the support before the first step.
            query_loss: maps weights and the query to its scalar loss.
        """
        support, query = self.support_loss, self.query_loss
        if (
            support.forward_model is query.forward_model
            and support.measure is query.measure
        ):
            return support_loss
        # The loss of projections is not comparable with that of an image.
        return query_loss(functional.get_params(self.field), task.query)

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Does nothing: the learner is built.

        Under a strategy, Keras would take a batch from the dataset to build the
        model. That changes the order of a shuffled dataset.
        """

    def meta_gradient(self, tasks: Task):
        """The mean outer gradient of a batch of tasks.

        Returns:
            `(gradients, losses, losses_before)`: a list like
            `trainable_variables`, and the losses `[batch]` after the inner
            loop and before it.
        """
        form = self._form(tasks)
        if form == "batched":
            return task_loops.batched(self.outer_gradients, tasks)
        if form == "loop":
            return task_loops.in_loop(
                self.outer_gradients,
                tasks,
                self.trainable_variables,
                self.field.compute_dtype,
            )
        gradients, losses, losses_before = [], [], []
        for task in task_loops.unstack(tasks):
            before = gradients[-1] if self.in_turn and gradients else []
            with tf.control_dependencies(before):
                results = self.outer_gradients(task)
            for of_all, of_task in zip(
                (gradients, losses, losses_before), results
            ):
                of_all.append(of_task)
        return functional.mean(gradients), *map(
            tf.stack, (losses, losses_before)
        )

    def _form(self, tasks):
        """The form of the outer gradient's graph (`task_loops`)."""
        return task_loops.choose(
            self.task_loop, batch_size(tasks), self.in_turn
        )

    def train_step(self, tasks: Task):
        gradients, losses, losses_before = self.meta_gradient(tasks)
        # Under a tf.distribute strategy every replica has a share of the
        # tasks. From here on all replicas have the mean and compute the same.
        replica = tf.distribute.get_replica_context()
        replicas = replica.num_replicas_in_sync
        total = tf.reduce_sum(losses)
        if replicas > 1:
            total, *gradients = replica.all_reduce(
                tf.distribute.ReduceOp.MEAN, [total, *gradients]
            )
        # A gradient that is not finite must not reach the weights. It is
        # reported as a loss of NaN, so that a callback can end the run.
        norm = tf.linalg.global_norm(gradients)
        finite = tf.math.is_finite(norm + total)
        self._gradient_norm.update_state(norm)
        # Keras's optimizers sum gradients over the replicas.
        self.optimizer.apply(
            [
                tf.where(finite, g / replicas, tf.zeros_like(g))
                for g in gradients
            ],
            self.trainable_variables,
        )
        losses = tf.where(finite, losses, math.nan)
        self._loss.update_state(losses)
        self._loss_before.update_state(losses_before)
        self._psnr.update_state(psnr_from_mse(losses))
        reported = [self._loss, self._loss_before, self._gradient_norm]
        if self.query_loss.measure is mean_squared_error:
            reported.append(self._psnr)
        return self._results(*reported)

    def test_step(self, tasks: Task):
        params = functional.get_params(self.field)
        fit = self.sgd_fit()

        def scores(task):
            trajectory = fit.trajectory(params, task.support, self.eval_steps)
            return tf.stack(
                [
                    self.query_loss.psnr(adapted, task.query)
                    for adapted in trajectory
                ]
            )

        of_all = self._each(scores, tasks)
        for psnr, values in zip(self._psnr_at, tf.unstack(of_all, axis=1)):
            psnr.update_state(values)
        return self._results(*self._psnr_at)

    def _results(self, *metrics):
        """The values of some metrics by their names, for a step to return."""
        results = {metric.name: metric.result() for metric in metrics}
        strategy = self.distribute_strategy
        if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
            here = len(strategy.extended.worker_devices)
            if here < strategy.num_replicas_in_sync:
                # With several workers Keras reduces the first axis of results.
                results = {name: r[None] for name, r in results.items()}
        return results

    def predict_step(self, tasks: Task):
        """Query predictions `[batch, m, c]` after the inner loop."""

        def predict(task):
            adapted, _ = self.adapt(task.support)
            return self.query_loss.predict(adapted, task.query.inputs)

        return self._each(predict, tasks)

    def _each(self, function, tasks):
        """A function of a task, for all of a batch: `[batch, ...]`."""
        form, dtype = self._form(tasks), self.field.compute_dtype
        return task_loops.each(function, tasks, form, dtype)


def batch_size(tasks: Task) -> int:
    """The number of tasks of a batch.

    Raises:
        ValueError: if `tasks` is no `Task`, or its batch size is not static.
    """
    if not isinstance(tasks, Task):
        raise ValueError(
            "A batch must be a `tfmetainit.Task` with a batch axis, as in the "
            "datasets of signal classes. Pass them to `fit`, not to "
            f"`train_on_batch`. Received: a {type(tasks).__name__}"
        )
    size = tasks.query.values.shape[0]
    if size is None:
        raise ValueError(
            "The number of tasks in a batch must be static; batch the dataset "
            "with drop_remainder=True. Received: query values of shape "
            f"{tasks.query.values.shape}"
        )
    return size
