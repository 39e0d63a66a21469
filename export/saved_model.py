"""The adapter as a SavedModel: TF Serving, or any TensorFlow runtime.

Signatures, batched and stateless; B is the batch, N and M any number of rows:

    init()                                       -> theta [1, T]
    adapt(theta [B, T], inputs [B, N, ...], values [B, N, ...],
          n_points [B], steps [B])               -> theta, losses, steps_taken
    predict(theta [B, T], coords [B, M, ...])    -> values [B, M, ...]
    fit_predict(inputs, values, n_points, steps, coords)
                                                 -> values, losses, steps_taken

`fit_predict` starts from the learned weights, so that a client need not send
them. Each signal of a batch is fitted by itself. It states its own number of
rows, `n_points`, so that a server may pad with any values. All inputs of a call
must have the same B; repeat the one row that `init` returns. Steps and rows out
of range are treated as in `tfmetainit.export.adapter.Adapter.adapt`.

The graph holds the gradient steps, and runs without Keras and this package.
"""

import tensorflow as tf

from tfmetainit.export.adapter import Adapter


class _Served(tf.Module):
    """The batched signatures of an adapter, whose only state is constants."""

    def __init__(self, adapter: Adapter):
        super().__init__()
        self._adapter = adapter

    def init(self):
        return {"theta": self._adapter.init()[None]}

    def adapt(self, theta, inputs, values, n_points, steps):
        return _map_rows(
            lambda row: self._adapter.adapt(*row),
            (theta, inputs, values, n_points, steps),
            {
                "theta": tf.float32,
                "losses": tf.float32,
                "steps_taken": tf.int32,
            },
        )

    def predict(self, theta, coords):
        return _map_rows(
            lambda row: {"values": self._adapter.predict(*row)},
            (theta, coords),
            {"values": tf.float32},
        )

    def fit_predict(self, inputs, values, n_points, steps, coords):
        def fit_row(row):
            *observed, coords = row
            result = self._adapter.adapt(self._adapter.init(), *observed)
            return {
                "values": self._adapter.predict(result.pop("theta"), coords),
                **result,
            }

        return _map_rows(
            fit_row,
            (inputs, values, n_points, steps, coords),
            {
                "values": tf.float32,
                "losses": tf.float32,
                "steps_taken": tf.int32,
            },
        )


def _map_rows(function, rows, dtypes):
    """Applies a function to the rows of a batch, one after the other.

    The matrix products of one row already use all cores, so that a batched form
    is no faster.
    """
    counts = tf.stack([tf.shape(leaf)[0] for leaf in rows])
    # `map_fn` itself ignores rows beyond the number of rows of the first input.
    alike = tf.debugging.Assert(
        tf.reduce_all(counts == counts[0]),
        ["All inputs must have the same number of signals. Received:", counts],
    )
    with tf.control_dependencies([alike]):
        rows = tuple(tf.identity(leaf) for leaf in rows)
    return tf.map_fn(
        function, rows, fn_output_signature=dtypes, parallel_iterations=1
    )


def save(adapter: Adapter, folder) -> dict[str, list[str]]:
    """Writes the SavedModel into `folder`.

    Returns:
        The names of the inputs of each signature.
    """
    served = _Served(adapter)

    def rows(name, shape):
        return tf.TensorSpec([None, None, *shape], tf.float32, name)

    theta = tf.TensorSpec([None, adapter.theta_size], tf.float32, "theta")
    observed = [
        rows("inputs", adapter.input_shape),
        rows("values", adapter.value_shape),
        tf.TensorSpec([None], tf.int32, "n_points"),
        tf.TensorSpec([None], tf.int32, "steps"),
    ]
    coords = rows("coords", adapter.coords_shape)
    specs = {
        "init": [],
        "adapt": [theta, *observed],
        "predict": [theta, coords],
        "fit_predict": [*observed, coords],
    }
    signatures = {
        name: tf.function(getattr(served, name), input_signature=arguments)
        for name, arguments in specs.items()
    }
    tf.saved_model.save(served, str(folder), signatures=signatures)
    return {name: [s.name for s in specs[name]] for name in specs}
