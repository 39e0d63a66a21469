"""Small files of fitted fields: the change of the learned weights, quantised.

A code stores one scale for each parameter tensor, and one integer for each
weight:

    weight = learned weight + scale * integer

Hidden layers take the number of bits that is asked for. The output layer (the
last two tensors) always takes 16, because a solved output layer loses up to
0.8 dB at 6 bits (docs/scale.md).
"""

import hashlib
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tfmetainit.io import files, weights
from tfmetainit.io.errors import InputError, check_range

MIN_BITS, MAX_BITS = 2, 16
_OUTPUT_BITS = 16


class Code(NamedTuple):
    """A fit as its change of the learned weights.

    Attributes:
        hidden: integers `[H]` of the hidden layers' parameters, in the order of
            theta; int8, or int16 for more than 8 bits.
        output: int16 `[O]`, those of the output layer's kernel and bias.
        scales: float32, one for each parameter tensor.
    """

    hidden: np.ndarray
    output: np.ndarray
    scales: np.ndarray


def integers(bits: int) -> type:
    """The type of the hidden layers' integers.

    Raises:
        InputError: if `bits` is not in [2, 16].
    """
    check_range("bits", bits, MIN_BITS, MAX_BITS)
    return np.int8 if bits <= 8 else np.int16


def lengths(shapes: Sequence[tuple[int, ...]]) -> tuple[int, int]:
    """The numbers of hidden and of output weights."""
    sizes = list(map(math.prod, shapes))
    return sum(sizes[:-2]), sum(sizes[-2:])


def encode(
    theta: np.ndarray,
    learned: np.ndarray,
    shapes: Sequence[tuple[int, ...]],
    bits: int,
) -> Code:
    """Quantises the change from the learned weights.

    Args:
        theta: float32 `[P]`, the adapted weights.
        learned: float32 `[P]`, those that the fit started from.
        shapes: shapes of the parameters, in their order in theta.
        bits: bits of an integer, with its sign, in [2, 16].

    Raises:
        InputError: if `bits` is out of range.
    """
    kind = integers(bits)
    all_bits = [bits] * (len(shapes) - 2) + [_OUTPUT_BITS] * 2
    changes = weights.split(np.float32(theta) - learned, shapes)
    quantized, scales = [], []
    for change, of_tensor in zip(changes, all_bits):
        most = 2 ** (of_tensor - 1) - 1
        scale = np.float32(np.abs(change).max() / most)
        scales.append(scale)
        quantized.append(np.rint(change / scale) if scale else 0.0 * change)
    return Code(
        weights.join([*quantized[:-2], []]).astype(kind),
        weights.join(quantized[-2:]).astype(np.int16),
        np.array(scales, np.float32),
    )


def decode(
    code: Code, learned: np.ndarray, shapes: Sequence[tuple[int, ...]]
) -> np.ndarray:
    """The weights that a code stands for, float32 `[P]`.

    Args:
        code: of a fit that started from the learned weights.
        learned: float32 `[P]`.
        shapes: shapes of the parameters, in their order.
    """
    scales = np.repeat(code.scales, list(map(math.prod, shapes)))
    change = np.concatenate([code.hidden, code.output])
    return (learned + scales * change).astype(np.float32)


def write_code(
    path, code: Code, learned: np.ndarray, size: tuple[int, int]
) -> None:
    """Writes a code as a compressed `.npz`, atomically.

    Args:
        path: the file.
        code: the code.
        learned: float32 `[P]`, the weights that it is a change of.
        size: height and width, in pixels, of what was fitted.
    """
    with files.atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(
            file,
            **code._asdict(),
            learned=_digest(learned),
            size=np.array(size, np.int32),
        )


def read_code(
    path, learned: np.ndarray, shapes: Sequence[tuple[int, ...]]
) -> np.ndarray:
    """Reads the weights that the code in a file stands for.

    Args:
        path: the file.
        learned: float32 `[P]`, the learned weights.
        shapes: shapes of the parameters, in their order in theta.

    Returns:
        theta, float32 `[P]`.

    Raises:
        InputError: if the file is damaged, or its code is a change of other
            weights.
    """
    arrays = weights.read_arrays(path)
    hidden, output = lengths(shapes)
    wanted = {
        "hidden": ([hidden], "i"),
        "output": ([output], "i"),
        "scales": ([len(shapes)], "f"),
        "learned": ([32], "u"),
    }
    for name, (shape, kind) in wanted.items():
        array = arrays.get(name)
        if array is None or array.dtype.kind != kind:
            raise InputError(
                f"{path} is not a code: {name!r} is missing or of another type."
            )
        if list(array.shape) != shape:
            raise InputError(
                f"{path} is the code of another network: {name!r} has the "
                f"shape {list(array.shape)}, not {shape}."
            )
    if arrays["learned"].tobytes() != _digest(learned).tobytes():
        raise InputError(
            f"{path} is a change of other learned weights than these. Draw it "
            "with the run or the artifact that fitted it."
        )
    code = Code(arrays["hidden"], arrays["output"], arrays["scales"])
    theta = decode(code, learned, shapes)
    if not np.isfinite(theta).all():
        raise InputError(f"{path} is damaged: its weights are not finite.")
    return theta


def _digest(learned):
    """SHA-256 of the learned weights, uint8 `[32]`."""
    content = np.ascontiguousarray(learned, "<f4").tobytes()
    return np.frombuffer(hashlib.sha256(content).digest(), np.uint8)
