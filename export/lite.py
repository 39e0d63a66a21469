"""The adapter as one .tflite file for LiteRT: phones, browsers, C programs.

Signatures, all stateless, all shapes static, builtin operations only:

    init() -> theta
    adapt(theta, inputs, values, n_points, steps) -> theta, losses, steps_taken
    predict(theta, coords) -> values

The converter's file is changed before it is written:

- The converter writes matrix products with the transpose of a computed tensor
  (gradients with respect to a layer's input) as FULLY_CONNECTED. LiteRT's
  XNNPACK kernels run that only for constant weights, and the fallback is an
  order of magnitude slower. These products become BATCH_MATMUL.
- With precision "float16", large constants that float16 represents exactly are
  stored in it.
- Equal buffers are stored once, and empty quantisation records are dropped.
- The metadata become the model's metadata entry "tfmetainit" (JSON).
"""

import collections
import copy
import json
import math
import re
import tempfile

import flatbuffers
import numpy as np
import tensorflow as tf
from ai_edge_litert import compiled_model
from ai_edge_litert import schema_py_generated as schema

from tfmetainit.export.adapter import Adapter
from tfmetainit.io import quiet
from tfmetainit.io.errors import UserError
from tfmetainit.litert.artifact import METADATA_NAME

_FILE_IDENTIFIER = b"TFL3"
_NO_BIAS = -1
_MIN_HALF = 1024  # entries; smaller constants are not worth a CAST
_NO_DATA = 0  # by convention a model's buffer 0 is empty
_OPERATION_NAMES = {
    code: name
    for name, code in vars(schema.BuiltinOperator).items()
    if not name.startswith("_")
}


def convert(
    adapter: Adapter, *, num_points: int, num_coords: int, metadata: dict
) -> bytes:
    """The adapter as the bytes of a .tflite file.

    Args:
        adapter: the adapter to export.
        num_points: the static number of rows of `inputs` and `values`.
        num_coords: the static number of rows of `coords`.
        metadata: JSON-serializable; stored in the file.

    Raises:
        UserError: if the field or forward model needs an operation that LiteRT
            does not have.
    """

    def rows(count, shape):
        return tf.TensorSpec([count, *shape], tf.float32)

    theta = tf.TensorSpec([adapter.theta_size], tf.float32)
    scalar = tf.TensorSpec([], tf.int32)
    module = tf.Module()
    module.adapter = adapter
    signatures = {
        "init": tf.function(
            lambda: {"theta": adapter.init()}, input_signature=[]
        ),
        "adapt": tf.function(
            adapter.adapt,
            input_signature=[
                theta,
                rows(num_points, adapter.input_shape),
                rows(num_points, adapter.value_shape),
                scalar,
                scalar,
            ],
        ),
        "predict": tf.function(
            lambda theta, coords: {"values": adapter.predict(theta, coords)},
            input_signature=[theta, rows(num_coords, adapter.coords_shape)],
        ),
    }
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures=signatures)
        converter = tf.lite.TFLiteConverter.from_saved_model(
            folder, signature_keys=list(signatures)
        )
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        content = _run(converter)
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    if adapter.precision == "float16":
        _store_half(model)
    _use_batch_matmul(model)
    _store_once(model)
    _add_metadata(model, metadata)
    content = _pack(model)
    foreign = [op for op in operations(content) if op.startswith("CUSTOM")]
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


def run_compiled(content: bytes, signature: str, inputs: dict) -> dict:
    """Runs a signature through LiteRT's CompiledModel.

    CompiledModel is the interface of browsers, Android and C. It is stricter
    than the interpreter: a result of dynamic shape is an error.

    Args:
        content: the bytes of a .tflite file.
        signature: name of the signature.
        inputs: maps names of inputs to arrays.

    Returns:
        Maps names of outputs to arrays.
    """
    with quiet.notices():
        return _run_compiled(content, signature, inputs)


def _run_compiled(content, signature, inputs):
    model = compiled_model.CompiledModel.from_buffer(content)
    buffers, outputs, arrays = {}, {}, {}
    for name, value in inputs.items():
        buffers[name] = model.create_input_buffer_by_name(signature, name)
        buffers[name].write(np.atleast_1d(value))
    details = model.get_output_tensor_details(signature)
    for name in details:
        outputs[name] = model.create_output_buffer_by_name(signature, name)
    model.run_by_name(signature, buffers, outputs)
    for name, buffer in outputs.items():
        shape, dtype = details[name]["shape"], details[name]["dtype"]
        values = buffer.read(math.prod(shape), np.dtype(dtype))
        arrays[name] = np.reshape(values, shape)
    return arrays


def operations(content: bytes) -> dict[str, int]:
    """The operations of a .tflite file and how often each occurs.

    Operations that are not LiteRT's own are called "CUSTOM:<name>"; Flex
    operations are among them.
    """
    model = schema.Model.GetRootAs(content, 0)
    counts = collections.Counter()
    for i in range(model.SubgraphsLength()):
        subgraph = model.Subgraphs(i)
        for j in range(subgraph.OperatorsLength()):
            index = subgraph.Operators(j).OpcodeIndex()
            opcode = model.OperatorCodes(index)
            name = _OPERATION_NAMES[_code(opcode)]
            if name == "CUSTOM":
                name = f"CUSTOM:{opcode.CustomCode().decode()}"
            counts[name] += 1
    return dict(sorted(counts.items()))


def _code(opcode):
    """The builtin code, from whichever of its two fields holds it."""
    return max(opcode.BuiltinCode(), opcode.DeprecatedBuiltinCode())


def _use_batch_matmul(model):
    """Turns FULLY_CONNECTED with computed weights into BATCH_MATMUL."""
    codes = schema.BuiltinOperator
    opcodes = model.operatorCodes
    for subgraph in model.subgraphs:
        for operator in subgraph.operators:
            if opcodes[operator.opcodeIndex].builtinCode != (
                codes.FULLY_CONNECTED
            ):
                continue
            inputs = list(operator.inputs)
            weights = subgraph.tensors[inputs[1]]
            constant = model.buffers[weights.buffer].data is not None
            fused = operator.builtinOptions.fusedActivationFunction
            if constant or inputs[2:] not in ([], [_NO_BIAS]) or fused:
                continue
            options = schema.BatchMatMulOptionsT()
            options.adjY = True
            operator.builtinOptions = options
            operator.builtinOptionsType = (
                schema.BuiltinOptions.BatchMatMulOptions
            )
            operator.inputs = inputs[:2]
            operator.opcodeIndex = _opcode_index(model, codes.BATCH_MATMUL)


def _opcode_index(model, code):
    for index, opcode in enumerate(model.operatorCodes):
        if opcode.builtinCode == code:
            return index
    opcode = schema.OperatorCodeT()
    opcode.builtinCode = opcode.deprecatedBuiltinCode = code
    opcode.version = 1
    model.operatorCodes.append(opcode)
    return len(model.operatorCodes) - 1


def _store_once(model):
    """Points tensors with equal contents to one buffer; drops empty records.

    Unused buffers are emptied, not removed. CompiledModel needs a buffer for
    each tensor that has no contents.
    """
    first, used = {}, set()
    for subgraph in model.subgraphs:
        for tensor in subgraph.tensors:
            data = model.buffers[tensor.buffer].data
            if data is not None and len(data):
                tensor.buffer = first.setdefault(bytes(data), tensor.buffer)
            used.add(tensor.buffer)
            quantization = tensor.quantization
            if quantization is not None and quantization.scale is None:
                tensor.quantization = None
    for entry in model.metadata or []:
        used.add(entry.buffer)
    for index, buffer in enumerate(model.buffers):
        if index not in used:
            buffer.data = None


def _store_half(model):
    """Stores constants in float16 where that is exact, followed by a CAST.

    The adapter has rounded theta, and step sizes that are tensors, so these are
    stored in float16. Frozen weights stay float32 unless float16 is exact.

    The converter's own option skips constants that a signature returns, as
    `init` returns theta. XNNPACK refuses a DEQUANTIZE whose result is returned.
    """
    for subgraph in model.subgraphs:
        for index, tensor in enumerate(list(subgraph.tensors)):
            data = model.buffers[tensor.buffer].data
            if tensor.type != schema.TensorType.FLOAT32 or data is None:
                continue
            values = np.frombuffer(bytes(data), np.float32)
            if values.size < _MIN_HALF:
                continue
            with np.errstate(over="ignore"):
                rounded = values.astype(np.float16)
            if not np.array_equal(rounded, values):
                continue
            half = copy.copy(tensor)
            half.name = tensor.name + b"_float16"
            half.type = schema.TensorType.FLOAT16
            half.buffer = len(model.buffers)
            buffer = schema.BufferT()
            buffer.data = rounded.view(np.uint8)
            model.buffers.append(buffer)
            subgraph.tensors.append(half)
            tensor.buffer = _NO_DATA
            operator = schema.OperatorT()
            operator.opcodeIndex = _opcode_index(
                model, schema.BuiltinOperator.CAST
            )
            operator.inputs = [len(subgraph.tensors) - 1]
            operator.outputs = [index]
            options = schema.CastOptionsT()
            options.inDataType = schema.TensorType.FLOAT16
            options.outDataType = schema.TensorType.FLOAT32
            operator.builtinOptionsType = schema.BuiltinOptions.CastOptions
            operator.builtinOptions = options
            subgraph.operators.insert(0, operator)


def _add_metadata(model, metadata):
    entry = schema.MetadataT()
    entry.name = METADATA_NAME
    entry.buffer = len(model.buffers)
    buffer = schema.BufferT()
    text = json.dumps(metadata, allow_nan=False).encode()
    buffer.data = np.frombuffer(text, np.uint8)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]


class _AlignedBuilder(flatbuffers.Builder):
    """Aligns bytes to 16, as LiteRT's schema demands for buffers."""

    def StartVector(self, elem_size, num_elems, alignment):  # noqa: N802
        if elem_size == 1:
            alignment = 16
        return super().StartVector(elem_size, num_elems, alignment)


def _pack(model):
    builder = _AlignedBuilder(2**20)
    builder.Finish(model.Pack(builder), _FILE_IDENTIFIER)
    return bytes(builder.Output())
