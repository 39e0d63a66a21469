"""The adapter as one .tflite file for LiteRT: phones, browsers, C programs.

Signatures, all stateless, all shapes static, builtin operations only:

    init() -> theta
    adapt(theta, inputs, values, n_points, steps) -> theta, losses, steps_taken
    predict(theta, coords) -> values

Of these, `adapt` is for CPUs. GPUs take one gradient step at a time, without
control flow, and the solution of the output layer if it is solved:

    adapt_step(theta, inputs, values, weights) -> theta, loss
    adapt_half(theta, inputs, values, weights) -> theta, loss
    solve_output(theta, inputs, values, weights) -> theta

A file of a run with a prior predicts what was not observed:

    complete(theta, inputs, values, weights) -> theta

The converter's file is changed before it is written (`flatbuffer.edit`).
"""

import re
import tempfile

import tensorflow as tf

from tfmetainit.export import flatbuffer
from tfmetainit.export.adapter import Adapter
from tfmetainit.io import quiet
from tfmetainit.io.errors import UserError


def convert(adapter: Adapter, *, num_points: int, num_coords: int) -> bytes:
    """The adapter as the bytes of a .tflite file, without metadata.

    Args:
        adapter: the adapter to export.
        num_points: the static number of rows of `inputs` and `values`.
        num_coords: the static number of rows of `coords`.

    Raises:
        UserError: if the field or forward model needs an operation that LiteRT
            does not have.
    """

    def rows(count, shape):
        return tf.TensorSpec([count, *shape], tf.float32)

    theta = tf.TensorSpec([adapter.theta_size], tf.float32)
    scalar = tf.TensorSpec([], tf.int32)
    observed = [
        theta,
        rows(num_points, adapter.input_shape),
        rows(num_points, adapter.value_shape),
    ]
    weights = rows(num_points, [1])
    module = tf.Module()
    module.adapter = adapter
    signatures = {
        "init": tf.function(
            lambda: {"theta": adapter.init()}, input_signature=[]
        ),
        "adapt": tf.function(
            adapter.adapt, input_signature=[*observed, scalar, scalar]
        ),
        "predict": tf.function(
            lambda theta, coords: {"values": adapter.predict(theta, coords)},
            input_signature=[theta, rows(num_coords, adapter.coords_shape)],
        ),
    }
    for name in adapter.weighted:
        signatures[name] = tf.function(
            getattr(adapter, name), input_signature=[*observed, weights]
        )
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures=signatures)
        converter = tf.lite.TFLiteConverter.from_saved_model(
            folder, signature_keys=list(signatures)
        )
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        content = _run(converter)
    content = flatbuffer.edit(content, half=adapter.precision == "float16")
    foreign = [
        name
        for name in flatbuffer.operations(content)
        if name.startswith("CUSTOM")
    ]
    if foreign:
        raise UserError(
            "A .tflite file may hold LiteRT's builtin operations only. "
            f"Received: a model that needs {', '.join(foreign)}"
        )
    return content


def _run(converter):
    """Runs the converter; an error is one sentence, not pages of output."""
    failure = None
    with quiet.notices():
        try:
            return converter.convert()
        # MLIR's diagnostics come as exceptions of several kinds.
        except Exception as error:
            failure = error
    needed = set(re.findall(r"\btf\.(\w+)' op is neither", str(failure)))
    reason = ", ".join(sorted(needed)) or type(failure).__name__
    raise UserError(
        "A .tflite file may hold LiteRT's builtin operations only, and the "
        "field or its forward model needs others. Use "
        "tfmetainit.fields.layers.relu for ReLU, or an approximate GELU, or "
        "export with `formats`=saved_model. "
        f"Received: {reason}"
    ) from failure
