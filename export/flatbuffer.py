"""Reads and edits .tflite files, which are flatbuffers of LiteRT's schema.

What `edit` changes in the converter's file:

- The converter writes matrix products with the transpose of a computed tensor
  (gradients with respect to a layer's input) as FULLY_CONNECTED. LiteRT's
  XNNPACK kernels run that only for constant weights, and the fallback is an
  order of magnitude slower. These products become BATCH_MATMUL.
- With `half`, large constants that float16 represents exactly are stored in it.
- Equal buffers are stored once. Empty quantisation records, and the names of
  tensors that are computed on the way, are dropped.
- `min_runtime_version` becomes the oldest TFLite that has the operations.
"""

import collections
import copy
import json
import math
from typing import NamedTuple

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfmetainit.litert.artifact import METADATA_NAME

_FILE_IDENTIFIER = b"TFL3"
_NO_BIAS = -1
_MIN_HALF = 1024  # entries; smaller constants are not worth a conversion
_NO_DATA = 0  # by convention a model's buffer 0 is empty


def _names(enumeration):
    """The names of the codes of one of the schema's enumerations."""
    return {
        code: name
        for name, code in vars(enumeration).items()
        if not name.startswith("_")
    }


# The oldest TFLite that was seen to run an artifact (text, float32).
_OLDEST_RUNTIME = (2, 7, 0)
# Operations of artifacts that are newer, with the version of TFLite that has
# them (`tflite/converter/tools/versioning/runtime_version.cc` of LiteRT).
_NEWER = {
    ("CAST", 3): (2, 8, 0),
    ("CAST", 4): (2, 9, 0),
    ("CAST", 5): (2, 12, 0),
    ("FULLY_CONNECTED", 10): (2, 11, 0),
    ("GATHER", 6): (2, 13, 0),
    ("GELU", 1): (2, 9, 0),
    ("MUL", 6): (2, 11, 0),
    ("SIGN", 1): (2, 11, 0),
    ("STRIDED_SLICE", 7): (2, 14, 0),
    ("TRANSPOSE", 6): (2, 12, 0),
}

_OPERATION_NAMES = _names(schema.BuiltinOperator)
_TYPE_NAMES = _names(schema.TensorType)


class Tensor(NamedTuple):
    """A tensor of a .tflite file.

    Attributes:
        shape: its static shape.
        dtype: its type by the schema's name, such as "FLOAT32".
        size: entries of a constant; None if the tensor is computed.
    """

    shape: tuple[int, ...]
    dtype: str
    size: int | None


class Operator(NamedTuple):
    """An operation of a .tflite file, with its tensors."""

    name: str
    version: int
    inputs: list[Tensor]
    outputs: list[Tensor]


def edit(content: bytes, *, half: bool) -> bytes:
    """The converter's file, changed as the module's docstring says.

    Args:
        content: the bytes of the file.
        half: whether to store constants in float16 where that is exact.
    """
    model = _unpack(content)
    if half:
        _store_half(model)
    _use_batch_matmul(model)
    _store_once(model)
    # The converter looks at the first subgraph only.
    _add_metadata(model, "min_runtime_version", min_runtime_version(model))
    return _pack(model)


def with_metadata(content: bytes, metadata: dict) -> bytes:
    """The file with `metadata` (JSON) as its metadata entry "tfmetainit"."""
    model = _unpack(content)
    text = json.dumps(metadata, allow_nan=False)
    _add_metadata(model, METADATA_NAME, text)
    return _pack(model)


def _unpack(content):
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))


def operations(content: bytes) -> dict[str, int]:
    """The operations of a .tflite file and how often each occurs.

    Operations that are not LiteRT's own are called "CUSTOM:<name>"; Flex
    operations are among them.
    """
    model = _unpack(content)
    return dict(
        sorted(
            collections.Counter(
                _name(model.operatorCodes[operator.opcodeIndex])
                for subgraph in model.subgraphs
                for operator in subgraph.operators
            ).items()
        )
    )


def operators(content: bytes, signature: str) -> list[Operator]:
    """The operations of a signature, without those in its loops and branches.

    Raises:
        KeyError: if the file has no such signature.
    """
    model = _unpack(content)
    places = {
        one.signatureKey.decode(): one.subgraphIndex
        for one in model.signatureDefs
    }
    subgraph = model.subgraphs[places[signature]]

    def tensor(index):
        one = subgraph.tensors[index]
        data = model.buffers[one.buffer].data
        shape = () if one.shape is None else tuple(map(int, one.shape))
        constant = data is not None and len(data)
        return Tensor(
            shape, _TYPE_NAMES[one.type], math.prod(shape) if constant else None
        )

    found = []
    for operator in subgraph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        tensors = [
            [tensor(index) for index in indices if index >= 0]
            for indices in (operator.inputs, operator.outputs)
        ]
        found.append(Operator(_name(code), code.version, *tensors))
    return found


def min_runtime_version(model) -> str:
    """The oldest TFLite that has all operations of a `schema.ModelT`."""
    needed = [_NEWER.get((_name(c), c.version)) for c in model.operatorCodes]
    return ".".join(map(str, max(filter(None, [*needed, _OLDEST_RUNTIME]))))


def _name(opcode):
    """The name of an operation, from whichever of its two fields has it."""
    code = max(opcode.builtinCode, opcode.deprecatedBuiltinCode)
    name = _OPERATION_NAMES[code]
    if name != "CUSTOM":
        return name
    return f"CUSTOM:{opcode.customCode.decode()}"


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
    """Points tensors with equal contents to one buffer; drops what is empty.

    Unused buffers are emptied, not removed. CompiledModel needs a buffer for
    each tensor that has no contents.
    """
    first, used = {}, set()
    for subgraph in model.subgraphs:
        kept = {*subgraph.inputs, *subgraph.outputs}
        for index, tensor in enumerate(subgraph.tensors):
            if index not in kept:
                tensor.name = None
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
    """Stores constants in float16 where that is exact, then a DEQUANTIZE.

    The adapter has rounded theta, and step sizes that are tensors, so these are
    stored in float16. Frozen weights stay float32 unless float16 is exact.

    The converter's own option skips constants that a signature returns, as
    `init` returns theta. XNNPACK refuses a DEQUANTIZE whose result is returned,
    so a RESHAPE follows it. (A CAST would not be refused, but needs TFLite 2.13
    and is not taken by GPU delegates.)
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
            source, codes = len(subgraph.tensors) - 1, schema.BuiltinOperator
            steps = [(codes.DEQUANTIZE, index)]
            if index in subgraph.outputs:
                wide = copy.copy(tensor)
                wide.name = tensor.name + b"_float32"
                subgraph.tensors.append(wide)
                wide_index = len(subgraph.tensors) - 1
                steps = [(codes.DEQUANTIZE, wide_index), (codes.RESHAPE, index)]
            for place, (code, target) in enumerate(steps):
                operator = schema.OperatorT()
                operator.opcodeIndex = _opcode_index(model, code)
                operator.inputs, operator.outputs = [source], [target]
                if code == codes.RESHAPE:
                    options = schema.ReshapeOptionsT()
                    options.newShape = list(tensor.shape)
                    operator.builtinOptions = options
                    operator.builtinOptionsType = (
                        schema.BuiltinOptions.ReshapeOptions
                    )
                subgraph.operators.insert(place, operator)
                source = target


def _add_metadata(model, name, text):
    """Adds a metadata entry; one of the same name is replaced."""
    entry = schema.MetadataT()
    entry.name = name
    entry.buffer = len(model.buffers)
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(text.encode(), np.uint8)
    model.buffers.append(buffer)
    kept = [e for e in model.metadata or [] if e.name != name.encode()]
    model.metadata = [*kept, entry]


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
