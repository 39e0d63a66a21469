"""The adapter as a SavedModel: TF Serving, or any TensorFlow runtime.

Signatures, batched and stateless; B is the batch, N and M any number of rows:

    init()                                       -> theta [1, P]
    adapt(theta [B, P], inputs [B, N, ...], values [B, N, ...],
          n_points [B], steps [B])               -> theta, losses, steps_taken
    predict(theta [B, P], coords [B, M, ...])    -> values [B, M, ...]
    fit_predict(inputs, values, n_points, steps, coords)
                                                 -> values, losses, steps_taken

`fit_predict` starts from the learned weights, which then need not travel. The
results of a batch are those of its rows one by one. Every signal of a batch
states its own number of rows, `n_points`, so that a server may pad with what
it likes. All inputs of a call have the same B: the one row of `init` is to be
repeated. The rules for steps and rows out of range are those of
`tfmetainit.export.adapter.Adapter.adapt`.

The graph holds the gradient steps: neither Keras nor this package is needed
to run it.
"""

import tensorflow as tf

from tfmetainit.export.adapter import Adapter


class _Served(tf.Module):
    """The signatures over an adapter, whose only state is its constants."""

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
    """The function of each row of a batch, one after the other.

    A row's products use all cores already: a batched form is no faster.
    """
    counts = tf.stack([tf.shape(leaf)[0] for leaf in rows])
    # By itself, `map_fn` would leave out what goes beyond the first input.
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
        The names of the inputs and outputs of each signature.
    """
    served = _Served(adapter)

    def rows(name, shape):
        return tf.TensorSpec([None, None, *shape], tf.float32, name)

    theta = tf.TensorSpec([None, adapter.num_params], tf.float32, "theta")
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
