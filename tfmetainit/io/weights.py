"""Files of a field's weights: `.npz`, and the pickles of the paper's authors.

An `.npz` file has the keys `layer0/kernel`, `layer0/bias`, `layer1/kernel`, ...
"""

import math
import pathlib
import zipfile
from collections.abc import Sequence

import numpy as np

from tfmetainit.io import files, pickles
from tfmetainit.io.errors import InputError

_MAX_FILE_BYTES = 2**30


def weight_names(count: int) -> list[str]:
    """Names of `count` parameters: kernel and bias, layer by layer."""
    return [
        f"layer{index // 2}/{'bias' if index % 2 else 'kernel'}"
        for index in range(count)
    ]


def split(
    theta: np.ndarray, shapes: Sequence[tuple[int, ...]]
) -> list[np.ndarray]:
    """The vector of all weights `[P]` as arrays of their shapes, in order."""
    ends = np.cumsum(list(map(math.prod, shapes)))
    parts = np.split(theta, ends[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes)]


def join(params: Sequence[np.ndarray]) -> np.ndarray:
    """The inverse of `split`: float32 `[P]`."""
    return np.concatenate([np.ravel(p) for p in params]).astype(np.float32)


def write_npz(
    path, params: Sequence, size: tuple[int, int] | None = None
) -> None:
    """Writes weights as `.npz`, atomically.

    Args:
        path: the file.
        params: arrays, kernel and bias of each layer in order (`weight_names`).
        size: height and width in pixels of the signal they were fitted to,
            stored as `size`.
    """
    arrays = {
        n: np.asarray(p) for n, p in zip(weight_names(len(params)), params)
    }
    if size is not None:
        arrays["size"] = np.array(size, np.int32)
    with files.atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)


def load_npz(path, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    """Reads a field's weights from an `.npz` file.

    Args:
        path: the file.
        shapes: shapes of the field's parameters, in their order.

    Returns:
        An array for each shape, of the file's own dtype.

    Raises:
        InputError: if the file is damaged, or the names, shapes or dtypes of
            its arrays are not those of the field's weights.
    """
    arrays = read_arrays(path)
    arrays.pop("size", None)
    names = weight_names(len(shapes))
    if sorted(arrays) != sorted(names):
        raise InputError(
            f"The weights of this network must be named {', '.join(names)}. "
            f"Received: {path} with {', '.join(sorted(arrays)) or 'no arrays'}"
        )
    return _checked(path, [arrays[name] for name in names], shapes)


def read_arrays(path) -> dict[str, np.ndarray]:
    """Reads all arrays of an `.npz` file.

    Raises:
        InputError: if the file is damaged, or too large.
    """
    path = pathlib.Path(path)
    files.check_size(path, _MAX_FILE_BYTES)
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > _MAX_FILE_BYTES:
            raise ValueError(f"it unpacks to {size} bytes")
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        # NumPy returns members of another format as bytes.
        others = [n for n, a in arrays.items() if not isinstance(a, np.ndarray)]
        if others:
            raise ValueError(f"{others[0]!r} is not an array")
        return arrays
    # A damaged archive makes NumPy raise errors of many kinds.
    except Exception as error:
        raise InputError(f"{path} is not an .npz file: {error}") from error


def load_haiku(path, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    """Reads a field's weights from a pickle of the paper's authors.

    Their files hold haiku parameters: a mapping from module names to
    `{"w": kernel, "b": bias}`, one module a layer. `pickles.load` reads them
    and runs no code of the file.

    Args:
        path: the file.
        shapes: shapes of the field's parameters, in their order.

    Returns:
        A float32 array for each shape.

    Raises:
        InputError: if the pickle holds anything else, or the shapes of its
            arrays are not `shapes`.
    """
    path = pathlib.Path(path)
    modules = pickles.load(path)
    params = []
    try:
        for module in sorted(modules, key=_natural_order):
            params += [modules[module]["w"], modules[module]["b"]]
        params = [np.asarray(p, np.float32) for p in params]
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise InputError(
            "A haiku checkpoint must map module names to a kernel 'w' and a "
            f"bias 'b'. Received: {path} ({error!r})"
        ) from error
    return _checked(path, params, shapes)


# Readers by suffix.
READERS = {".npz": load_npz, ".pkl": load_haiku, ".pickle": load_haiku}


def _natural_order(name):
    """Sort key that puts linear, linear_1, ..., linear_10 in layer order."""
    stem, _, number = name.rpartition("_")
    return (stem, int(number)) if number.isdigit() else (name, 0)


def _checked(path, arrays, shapes):
    expected = [tuple(shape) for shape in shapes]
    received = [array.shape for array in arrays]
    if received != expected:
        raise InputError(
            f"The weights of this network must have the shapes {expected}. "
            f"Received: {path} with the shapes {received}"
        )
    for array in arrays:
        if array.dtype.kind != "f" or not np.isfinite(array).all():
            raise InputError(
                "Weights must be finite floating-point numbers. Received: "
                f"{path} of dtype {array.dtype}, or with NaN or infinity"
            )
    return arrays
