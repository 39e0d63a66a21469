"""The learned initialization and its few-step adapter, as one tf.Module.

A device or server runs pure functions of a flat vector theta. It begins with
the field's parameters in their order, each flattened row by row, `[P]`. What a
call needs from the call before it follows. The gradient steps are those of
`meta.inner_loop.adapt`, and the forward models are those of training. This
module adds the bookkeeping around them:

- `adapt` takes arrays of N rows, of which the first `n_points` count. The other
  rows may hold anything, NaN included.
- It processes rows in chunks, which bounds the memory. Chunks beyond `n_points`
  are skipped. The loss and its gradient are sums over chunks.
- Its `steps` is a tensor: a `tf.while_loop` runs up to a maximum that is fixed
  at export.
- `adapt_step`, `adapt_half` and `solve_output` do the same for GPUs, without
  control flow: one step or the solution, of rows that have weights, at once.
- `complete` predicts what was not observed of a signal.
- If the output layer is solved after the steps, theta has the solution behind
  the field's parameters: gradient steps go on from the parameters, `predict`
  takes the solution. Several calls of one step then give what one call of
  several steps gives.
- If a step sees half of a picture (`meta.halves`), the last entry of theta is
  the number of the half whose turn is next, 0 or 1, for the same reason.

Rules that keep an artifact free of Flex operations: theta is split outside of
the tape; the residual enters as the tape's output gradient; within the tape
nothing is sliced, or broadcast from an unknown size
(`functional.values_and_grads`).
"""

import math

import keras
import numpy as np
import tensorflow as tf

from tfmetainit.forward_models.identity import ForwardModel
from tfmetainit.meta import (
    completion,
    functional,
    halves,
    inner_loop,
    output_layer,
)
from tfmetainit.meta.functional import Params
from tfmetainit.meta.learner import MetaLearner
from tfmetainit.meta.tasks import (
    Observations,
    WeightedLoss,
    mean_squared_error,
)

# Points in a chunk: the activations of a SIREN of width 256 then fit into a
# core's cache, which is faster than a whole picture at once.
CHUNK = 1024
# Factor for predictions, which keep the activations of only two layers.
PREDICT_CHUNKS = 4
# The entry in `losses` for a step that was not taken.
NOT_TAKEN = -1.0
PRECISIONS = ("float32", "float16")
_MAX_FLOAT = float(np.finfo(np.float32).max)


class Adapter(tf.Module):
    """A learned init with its step sizes and gradient steps.

    Args:
        learner: the trained learner; its weights are copied.
        input_shape: shape of one row of `inputs`, for example `(2,)`.
        value_shape: shape of one row of `values`, for example `(3,)`.
        coords_shape: shape of one row of `coords`.
        max_steps: the largest number of gradient steps of one call.
        precision: "float32", or "float16" to store weights, and step sizes that
            are tensors, in half the size; all arithmetic is float32.
        chunk: number of rows processed at a time; None for all rows.
        prior: the prior of the signals, for `complete`; None without one.

    Raises:
        ValueError: if an argument is not valid.
    """

    def __init__(
        self,
        learner: MetaLearner,
        *,
        input_shape: tuple[int, ...],
        value_shape: tuple[int, ...],
        coords_shape: tuple[int, ...],
        max_steps: int,
        precision: str = "float32",
        chunk: int | None = CHUNK,
        prior: completion.Prior | None = None,
    ):
        super().__init__()
        if precision not in PRECISIONS:
            raise ValueError(
                f"`precision` must be one of {PRECISIONS}. Received: "
                f"precision={precision!r}"
            )
        if learner.support_loss.measure is not mean_squared_error:
            raise ValueError(
                "`learner` must adapt by the mean squared error. Received: a "
                "support loss with another measure"
            )
        field = learner.field
        self.input_shape = tuple(input_shape)
        self.value_shape = tuple(value_shape)
        self.coords_shape = tuple(coords_shape)
        self.precision = precision
        self.max_steps = max_steps
        self.chunk = chunk
        self._shapes = [tuple(v.shape) for v in field.trainable_variables]
        self.num_params = sum(map(math.prod, self._shapes))
        self.solves = learner.ridge is not None
        self._ridge = float(learner.ridge) if self.solves else None
        self._solution = sum(map(math.prod, self._shapes[-2:]))
        in_halves = learner.step_on == "halves"
        self._width = learner.raster_width if in_halves else None
        self.theta_size = (
            self.num_params + self.solves * self._solution + in_halves
        )
        self._support_model = learner.support_loss.forward_model
        self._query_loss = learner.query_loss
        # The network's own weights are not tracked: theta holds them all.
        self._field = _Untracked(field)
        self._frozen = [v.value for v in field.non_trainable_variables]
        self.theta = _stored(functional.get_params(field), precision, "theta")
        sizes = tf.nest.map_structure(
            np.asarray, learner.step_sizes.as_params()
        )
        arrays = tf.nest.flatten(sizes)
        self.num_stored = self.num_params
        self._flat_sizes = None
        if any(array.ndim for array in arrays):
            self._flat_sizes = _stored(arrays, precision, "step_sizes")
            self.num_stored += self._flat_sizes.shape[0]
        self._sizes = _Untracked(sizes)
        self.completes = prior is not None
        self.unseen_weight = prior and float(prior.unseen_weight)
        if self.completes:
            # In half precision in any file: the prior is an estimate.
            self._prior = _stored(prior[:2], "float16", "prior")
            self._prior_shapes = [tuple(leaf.shape) for leaf in prior[:2]]
            self._noise = float(prior.noise)
            self.num_stored += self._prior.shape[0]

    @property
    def weighted(self) -> list[str]:
        """Names of the methods that take rows with weights, for GPUs."""
        there = {
            "adapt_step": True,
            "adapt_half": self._width is not None,
            "solve_output": self.solves,
            "complete": self.completes,
        }
        return [name for name, has in there.items() if has]

    def step_sizes(self) -> functional.StepParams:
        """The step sizes as `inner_loop.adapt` takes them."""
        sizes = self._sizes.value
        if self._flat_sizes is None:
            return sizes
        shapes = [size.shape for size in tf.nest.flatten(sizes)]
        stored = tf.cast(self._flat_sizes, tf.float32)
        return tf.nest.pack_sequence_as(
            sizes, functional.unflatten(stored, shapes)
        )

    def init(self) -> tf.Tensor:
        """The learned initial weights: float32 `[T]`."""
        theta = tf.cast(self.theta, tf.float32)
        parts = [theta]
        if self.solves:
            size = self._solution
            parts += tf.split(theta, [self.num_params - size, size])[1:]
        if self._width is not None:
            parts.append(tf.zeros([1]))
        return tf.concat(parts, axis=0) if len(parts) > 1 else theta

    def init_params(self) -> Params:
        """The learned initial weights as a list of the field's parameters."""
        theta = tf.cast(self.theta, tf.float32)
        return functional.unflatten(theta, self._shapes)

    def _split(self, theta):
        """Theta's parameters, those to predict with, and whose turn is next.

        The last is a list: a vector `[1]`, or nothing if steps see all rows.
        """
        count, output = len(self._shapes), self._shapes[-2:]
        shapes = [
            *self._shapes,
            *(output if self.solves else []),
            *([] if self._width is None else [(1,)]),
        ]
        leaves = functional.unflatten(theta, shapes)
        params, solved = leaves[:count], leaves[:count]
        if self.solves:
            solved = [*params[:-2], *leaves[count : count + 2]]
        return params, solved, [] if self._width is None else leaves[-1:]

    def _joined(self, params, solved, turn):
        """The inverse of `_split`."""
        output = solved[-2:] if self.solves else []
        return functional.flatten([*params, *output, *turn])

    def adapt(self, theta, inputs, values, n_points, steps):
        """Adapts theta to the first `n_points` rows by gradient descent.

        Args:
            theta: float32 `[T]`, from `init` or an earlier call.
            inputs: float32 `[N, *input_shape]`.
            values: float32 `[N, *value_shape]`.
            n_points: int32 scalar, the number of rows that count. If it is not
                in [1, N], no step is taken.
            steps: int32 scalar; clipped to [0, `max_steps`].

        Returns:
            A dict of

            - theta: float32 `[T]`, after the last step whose loss and weights
              were finite. If a row that counts holds NaN or infinity, or
              `n_points` is out of range, this is the theta received.
            - losses: float32 `[max_steps]`, the mean squared error before each
              step, of the rows that it sees, and -1 for steps that were not
              taken.
            - steps_taken: int32 scalar, the number of steps taken.
        """
        count = _length(inputs)
        valid = tf.logical_and(n_points >= 1, n_points <= count)
        observed = Observations(inputs, values)
        whole = tf.nest.map_structure(self._chunks, observed)
        seen = [observed]
        if self._width is not None:
            # A number that is not finite may be in the half that comes later.
            valid = tf.logical_and(valid, _rows_are_finite(whole, n_points))
            seen = self._halves(observed)
        limit = tf.where(valid, tf.clip_by_value(steps, 0, self.max_steps), 0)
        # [1 or 2, chunks, rows of a chunk, ...]
        support = Observations(
            *(tf.stack(list(map(self._chunks, rows))) for rows in zip(*seen))
        )
        step_sizes = self.step_sizes()
        received, (start, _, turn) = theta, self._split(theta)

        def body(step, theta, losses, healthy):
            part, rows = support, n_points
            if turn:
                # The second half of a single row is empty.
                half = tf.where(n_points > 1, _turn_after(turn[0], step), 0)
                rows = halves.count(half[0], n_points, self._width)
                # Not `[half]`: LiteRT gives such a slice a dynamic shape, and
                # so every result of the loop.
                part = Observations(*(tf.gather(leaf, half) for leaf in part))
            params, before = inner_loop.adapt(
                self._loss_of(rows),
                functional.unflatten(theta, self._shapes),
                part,
                num_steps=1,
                step_sizes=step_sizes,
            )
            before = before[0]  # [1]
            adapted = functional.flatten(params)
            healthy = _is_finite(tf.concat([adapted, before], axis=0))[0]
            now = tf.logical_and(tf.range(self.max_steps) == step, healthy)
            return (
                step + tf.cast(healthy, tf.int32),
                tf.where(healthy, adapted, theta),
                tf.where(now, before, losses),
                healthy,
            )

        taken, theta, losses, _ = tf.while_loop(
            lambda step, theta, losses, healthy: tf.logical_and(
                step < limit, healthy
            ),
            body,
            [
                0,
                functional.flatten(start),
                tf.fill([self.max_steps], NOT_TAKEN),
                True,
            ],
        )
        params = functional.unflatten(theta, self._shapes)
        turn = [tf.cast(_turn_after(half, taken), tf.float32) for half in turn]
        if self.solves:
            # No row if `n_points` is out of range: the chunks must suffice.
            loss = self._loss_of(tf.where(valid, n_points, 0))
            theta = self._solved(loss, params, whole, turn, received)
            theta = tf.where(valid, theta, received)
        elif turn:
            theta = self._joined(params, params, turn)
        return {"theta": theta, "losses": losses, "steps_taken": taken}

    def _loss_of(self, n_points):
        """The loss of the first `n_points` rows, in chunks."""
        return _MaskedLoss(
            self._field.value, self._support_model, n_points, self._shapes
        )

    def _halves(self, observed):
        """The two halves of rows `[n, k]`, a list."""
        halved = (halves.split_rows(leaf, self._width) for leaf in observed)
        return [Observations(*half) for half in zip(*halved)]

    def _solved(self, loss, params, observed, turn, received):
        """Theta with a solved output layer; `received` if it is not finite."""
        by = output_layer.newton(
            loss.normal_equations(params, observed), self._ridge
        )
        solved = output_layer.change(params, by)
        theta = self._joined(params, solved, turn)
        return tf.where(_is_finite(theta), theta, received)

    def adapt_step(self, theta, inputs, values, weights):
        """One gradient step over all rows, without control flow.

        GPU delegates take it as a whole for images. On a CPU, `adapt` is
        faster.

        Args:
            theta: float32 `[T]`, from `init` or an earlier call.
            inputs: float32 `[N, *input_shape]`.
            values: float32 `[N, *value_shape]`.
            weights: float32 `[N, 1]`, not negative: the weights of the rows in
                the mean squared error. A row of weight 0 does not count, but
                must be finite.

        Returns:
            A dict of

            - theta: float32 `[T]`. If the output layer is solved, the solution
              is that of no observation: `solve_output` must follow before a
              prediction. If the loss or the weights would not be finite, or no
              row counts, this is the theta received.
            - loss: float32 `[1]`, the mean squared error before the step.
        """
        params, _, turn = self._split(theta)
        return self._step(theta, params, turn, (inputs, values, weights))

    def adapt_half(self, theta, inputs, values, weights):
        """As `adapt_step`, over the half of the rows whose turn it is.

        There it is what a step of `adapt` does. `loss` is that of the half.
        """
        params, _, (turn,) = self._split(theta)
        rows = self._half_of((inputs, values, weights), turn)
        return self._step(theta, params, [1.0 - turn], rows)

    def _step(self, theta, params, turn, rows):
        """The result of `adapt_step`: a step over rows that have weights."""
        inputs, values, weights = rows
        before, gradients = self._weighted_loss(weights).value_and_grad(
            params, Observations(inputs, values)
        )
        params = self._descend(params, gradients)
        adapted = self._joined(params, params, turn)
        healthy = _is_finite(tf.concat([adapted, before], axis=0))
        return {"theta": tf.where(healthy, adapted, theta), "loss": before}

    def _half_of(self, rows, turn):
        """The half of the rows whose turn it is, or the other if it is empty.

        Empty is a half without weight.
        """
        pairs = [halves.split_rows(leaf, self._width) for leaf in rows]
        # Vectors: GPU delegates do not select from matrices.
        first, other = (tf.reduce_sum(half, axis=0) for half in pairs[-1])
        weight = (1.0 - turn) * first + turn * other
        second = tf.where(weight > 0.0, turn, 1.0 - turn)
        second = tf.reshape(second, [1, 1])
        return [
            (1.0 - second) * first + second * other for first, other in pairs
        ]

    def solve_output(self, theta, inputs, values, weights):
        """Theta with the output layer solved, without control flow.

        Args:
            theta: float32 `[T]`, after some calls of `adapt_step`, or none.
            inputs: as in `adapt_step`.
            values: as in `adapt_step`.
            weights: as in `adapt_step`.

        Returns:
            A dict of theta, float32 `[T]`: its first P entries are those
            received, so that steps may go on from it. It is the theta received
            if the solution would not be finite, or no row counts.
        """
        params, _, turn = self._split(theta)
        observed = Observations(inputs, values)
        loss = self._weighted_loss(weights)
        return {"theta": self._solved(loss, params, observed, turn, theta)}

    def rounded_prior(self) -> completion.Prior:
        """The prior as it is stored."""
        return self._prior_of(tf.cast(self._prior, tf.float32))

    def _prior_of(self, stored):
        return completion.Prior(
            *functional.unflatten(stored, self._prior_shapes),
            tf.constant([[self._noise]]),
            self.unseen_weight,
        )

    def complete(self, theta, inputs, values, weights):
        """Theta that predicts what was not observed, without control flow.

        Only the output weights differ from those received: they are the most
        probable ones of the class (`meta.completion`).

        Args:
            theta: float32 `[T]`, from `init`.
            inputs: as in `adapt_step`.
            values: as in `adapt_step`.
            weights: float32 `[N, 1]`: 1 for observed rows, 0 for others.

        Returns:
            A dict of theta, float32 `[T]`, to predict with. It is the theta
            received if it would not be finite, or no row counts.
        """
        params, _, turn = self._split(theta)
        equations = self._weighted_loss(weights).normal_equations(
            params, Observations(inputs, values)
        )
        count = tf.reduce_sum(weights, axis=0, keepdims=True)
        # Computed at run time: a constant would be stored once for each use.
        stored = tf.cast(self._prior, tf.float32)[None]
        stored = tf.reshape(stored + tf.minimum(count, 0.0), [-1])
        completed = completion.complete(
            params,
            self._prior_of(stored),
            equations,
            count,
            output_layer.newton,
        )
        kept = params if self.solves else completed
        completed = self._joined(kept, completed, turn)
        return {"theta": tf.where(_is_finite(completed), completed, theta)}

    def _descend(self, params, gradients):
        """`functional.descend`, with the step sizes of weights in one row.

        WebGPU's delegate misreads a constant of several rows.
        """

        def step(param, gradient, size):
            if isinstance(size, functional.Sides) or not size.shape:
                return functional.descend([param], [gradient], [size])[0]
            rows = (
                [tf.reshape(leaf, [1, -1])] for leaf in (param, gradient, size)
            )
            return tf.reshape(functional.descend(*rows)[0], param.shape)

        return list(map(step, params, gradients, self.step_sizes()))

    def _weighted_loss(self, weights):
        # A division by 0 if no row counts: nothing is finite then, and nothing
        # changes. (Over one axis: WebGPU's delegate sums over both wrongly.)
        total = tf.reduce_sum(weights, axis=0, keepdims=True)
        return WeightedLoss(
            self._field.value, self._support_model, weights, total
        )

    def predict(self, theta, coords) -> tf.Tensor:
        """Predictions of the field with weights theta, by the query model.

        Args:
            theta: float32 `[T]`.
            coords: float32 `[N, *coords_shape]`: for images, the coordinates of
                any points, on or between the training's pixels.

        Returns:
            float32 `[N, ...]`.
        """
        _, params, _ = self._split(theta)

        def predict(coords):
            return self._query_loss.predict(params, coords)

        count = coords.shape[0]
        if count is not None:
            # Unrolled, as a loop would store a constant of the result's size
            # in the file. Unrolled chunks share memory, too.
            chunk = PREDICT_CHUNKS * CHUNK
            number = -(-count // chunk)
            heights = [(count + i) // number for i in range(number)]
            return tf.concat(
                [predict(part) for part in tf.split(coords, heights)], axis=0
            )
        values = tf.map_fn(
            predict,
            self._chunks(coords),
            fn_output_signature=tf.float32,
            parallel_iterations=1,
        )
        values = tf.reshape(values, [-1, *values.shape[2:]])
        return values[: tf.shape(coords)[0]]

    def _chunks(self, rows):
        """`[N, ...]` as `[chunks, rows of a chunk, ...]`, padded with zeros."""
        count = _length(rows)
        if self.chunk is None:
            return rows[None]
        if isinstance(count, int):
            number = max(1, -(-count // self.chunk))
            height = -(-count // number)
        else:
            number = tf.maximum(1, -(-count // self.chunk))
            height = -(-count // number)
        padding = [[0, number * height - count]] + [[0, 0]] * (
            len(rows.shape) - 1
        )
        return tf.reshape(
            tf.pad(rows, padding), [number, height, *rows.shape[1:]]
        )


class _MaskedLoss:
    """Mean squared error of the first `n_points` rows, chunk by chunk.

    A `tfmetainit.meta.inner_loop.Loss` of observations `[chunks, rows, ...]`.
    """

    def __init__(
        self,
        field: keras.Model,
        forward_model: ForwardModel,
        n_points: tf.Tensor,
        shapes: list[tuple[int, ...]],
    ):
        self._models = field, forward_model
        self._n_points = n_points
        self._shapes = shapes

    def value_and_grad(self, params, observed):
        shapes = [tf.TensorShape(shape) for shape in self._shapes]
        return self._sum(
            lambda loss, chunk: loss.value_and_grad(params, chunk),
            observed,
            (tf.TensorShape([1]), shapes),
        )

    def normal_equations(self, params, observed):
        width, channels = self._shapes[-2]
        return self._sum(
            lambda loss, chunk: loss.normal_equations(params, chunk),
            observed,
            output_layer.NormalEquations(
                tf.TensorShape([width + 1, width + 1]),
                tf.TensorShape([width + 1, channels]),
            ),
        )

    def _sum(self, function, observed, shapes):
        """The sum of `function(loss, chunk)` over chunks that have valid rows.

        Args:
            function: maps the chunk's `WeightedLoss` and its `Observations`
                `[rows, ...]` to a nest of tensors.
            observed: `Observations` `[chunks, rows, ...]`.
            shapes: a nest of the results' shapes.
        """
        height = _length(observed.inputs, axis=1)
        # A zero computed at run time: zeros of the parameters' shapes would
        # otherwise be stored in the file as constants.
        zero = tf.cast(tf.minimum(self._n_points, 0), tf.float32)
        total_weight = tf.cast(self._n_points, tf.float32)[None, None]

        def body(index, total):
            valid = index * height + tf.range(height) < self._n_points
            # Not `[index]`: LiteRT gives such a slice a dynamic shape, and so
            # every result of the loop.
            rows = (tf.gather(leaf, index) for leaf in observed)
            # 0 x NaN is NaN: rows that do not count must be finite.
            chunk = Observations(
                *(tf.where(_column(valid, leaf), leaf, 0.0) for leaf in rows)
            )
            weights = tf.cast(valid, tf.float32)[:, None]
            loss = WeightedLoss(*self._models, weights, total_weight)
            results = function(loss, chunk)
            return index + 1, tf.nest.map_structure(tf.add, total, results)

        _, total = tf.while_loop(
            lambda index, total: index * height < self._n_points,
            body,
            [
                0,
                tf.nest.map_structure(
                    lambda shape: tf.fill(shape, zero), shapes
                ),
            ],
        )
        return total


def _stored(params, precision, name):
    """A flat variable of the parameters, rounded to `precision`."""
    flat = np.concatenate([np.ravel(p) for p in params])
    return tf.Variable(flat.astype(precision), trainable=False, name=name)


class _Untracked:
    """Hides a value from tf.Module, which must not or cannot save it."""

    def __init__(self, value):
        self.value = value


def _turn_after(turn, steps):
    """The half whose turn it is after some steps, int32 `[1]`: 0 or 1."""
    return (tf.cast(turn > 0.5, tf.int32) + steps) % 2


def _rows_are_finite(chunks, n_points):
    """Whether all numbers of the first `n_points` rows are finite.

    Args:
        chunks: `Observations` `[chunks, rows of a chunk, k]`.
        n_points: int32 scalar.
    """
    number, height = (_length(chunks.values, axis) for axis in (0, 1))
    # By chunks: the places of all rows would be a constant of the file.
    left = n_points - height * tf.range(number)[:, None]
    valid = (tf.range(height)[None] < left)[:, :, None]
    finite = [_is_finite(tf.where(valid, rows, 0.0)) for rows in chunks]
    return tf.reduce_all(tf.concat(finite, axis=0))


def _is_finite(vector):
    """Whether all entries are finite, `[1]`; LiteRT has no builtin for it."""
    # A sum is finite only if all terms are. A comparison with NaN is false.
    return tf.reduce_sum(tf.abs(vector), keepdims=True) <= _MAX_FLOAT


def _length(rows, axis=0):
    """The length of an axis: an int where it is static, else a scalar."""
    static = rows.shape[axis]
    return tf.shape(rows)[axis] if static is None else static


def _column(mask, like):
    """A mask `[n]` that broadcasts over the rows of `like`, `[n, ...]`."""
    return tf.reshape(mask, [-1] + [1] * (len(like.shape) - 1))
