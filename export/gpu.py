"""Whether GPU delegates take a signature of a .tflite file as a whole.

A delegate that refuses one operation splits the graph; in a browser, a graph
in pieces needs an extension (JSPI) that most browsers lack. The rules are those
of LiteRT's delegate for WebGPU, OpenCL and Metal (in its sources of August
2026: `ml_drift_delegate/tflite/ir_model_builder.cc`, and the older delegate's
`tflite/tools/versioning/gpu_compatibility.cc`), and two that were found by
comparing the numbers of WebGPU with those of the CPU (docs/on_device.md).
"""

import math

from tfmetainit.export import flatbuffer

# The signatures that are made for GPUs.
SIGNATURES = (
    "predict",
    "adapt_step",
    "adapt_half",
    "solve_output",
    "complete",
)
# Those operations of artifacts that the delegate implements. CALL_ONCE, FILL,
# GATHER_ND, IF, RANGE, REVERSE_V2, SCATTER_ND, WHILE and others are not.
_TAKEN = frozenset(
    """
    ABS ADD BATCH_MATMUL CAST CONCATENATION COS CUMSUM DEQUANTIZE DIV EQUAL EXP
    FLOOR FULLY_CONNECTED GATHER GELU GREATER GREATER_EQUAL LESS LESS_EQUAL LOG
    LOGICAL_AND LOGICAL_NOT LOGICAL_OR LOGISTIC MAXIMUM MEAN MINIMUM MUL NEG
    PACK PAD POW RELU RESHAPE RSQRT SELECT SELECT_V2 SIGN SIN SLICE SPLIT
    SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE STRIDED_SLICE SUB SUM TANH TILE
    TRANSPOSE
    """.split()  # noqa: SIM905
)
_ELEMENTWISE = frozenset(
    """
    ADD DIV EQUAL GREATER GREATER_EQUAL LESS LESS_EQUAL LOGICAL_AND LOGICAL_OR
    MAXIMUM MINIMUM MUL POW SELECT SELECT_V2 SQUARED_DIFFERENCE SUB
    """.split()  # noqa: SIM905
)
_MAX_AXES = 5
_MAX_STRIDED_SLICE = 2  # its version


def refused(content: bytes, signature: str) -> list[str]:
    """What a GPU delegate does not take of a signature, or would misread.

    Args:
        content: the bytes of a .tflite file.
        signature: the name of one of its signatures.

    Returns:
        Operations with reasons, sorted; empty if the delegate takes it whole.
    """
    found = set()
    for operator in flatbuffer.operators(content, signature):
        reason = _reason(operator)
        if reason is not None:
            found.add(
                f"{operator.name} ({reason})" if reason else operator.name
            )
    return sorted(found)


def _reason(operator) -> str | None:
    """Why an operation is not taken; empty if it never is, None if it is."""
    name = operator.name
    if name not in _TAKEN:
        return ""
    inputs, outputs = operator.inputs, operator.outputs
    computed = [t for t in (*inputs, *outputs) if t.size is None]
    if any(len(tensor.shape) > _MAX_AXES for tensor in computed):
        return f"more than {_MAX_AXES} axes"
    if any(not tensor.shape for tensor in computed):
        return "a scalar"
    if name == "CAST" and inputs[0].dtype == "FLOAT16":
        return "from float16"
    if name == "GATHER" and len(inputs[1].shape) != 1:
        return "indices of several axes"
    if name == "STRIDED_SLICE" and (
        operator.version > _MAX_STRIDED_SLICE
        or len(inputs[0].shape) != len(outputs[0].shape)
    ):
        return "a slice that drops or adds an axis"
    if name.startswith("SELECT") and any(
        len(tensor.shape) == 2 and tensor.size is None for tensor in inputs[1:]
    ):
        return "a matrix to select from"
    if name in _ELEMENTWISE and any(
        tensor.size is not None and math.prod(tensor.shape[:-1]) > 1
        for tensor in inputs
    ):
        return "a constant of several rows, which is misread"
    if name in ("MEAN", "SUM") and inputs[1].size != 1:
        return "over several axes, which can be wrong"
    return None
