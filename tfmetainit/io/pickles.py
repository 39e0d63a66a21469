"""Unpickles arrays and mappings with an allow-list, and runs no code.

The paper's authors published weights and datasets as pickles, which `load`
reads. A file that names any class or function outside of the allow-list is
refused, and that name is neither imported nor called.
"""

import collections
import pathlib
import pickle

import numpy as np

from tfmetainit.io import files
from tfmetainit.io.errors import InputError, reason

MAX_BYTES = 2**30


def _empty_array(subtype, shape, typecode):
    """Stands in for NumPy's `_reconstruct`: an empty array to be filled.

    NumPy's own would allocate whatever shape the file asks for.
    """
    del subtype, shape, typecode
    return np.ndarray((0,), "b")


def _array_from_buffer(buffer, dtype, shape, order):
    """Stands in for NumPy's `_frombuffer`, which pickles of protocol 5 use."""
    return np.frombuffer(buffer, dtype).reshape(shape, order=order)


def _jax_array(function, arguments, state, *_):
    """Stands in for JAX's array constructors: the NumPy array within."""
    array = function(*arguments)
    array.__setstate__(state)
    return array


def _scalar(dtype, data):
    """Stands in for NumPy's constructor of scalars."""
    return np.frombuffer(data, dtype)[0]


def _latin1_bytes(text, encoding):
    """Stands in for `_codecs.encode`: bytes in pickles of protocol 2."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it encodes bytes as {encoding!r}")
    return text.encode("latin1")


# Named as an argument of `_reconstruct` only. Calling the real class would
# allocate whatever shape the file asks for; calling this fails.
_NDARRAY = object()


# The names that a pickle may hold, and the objects that stand in for them.
_ALLOWED = {
    ("builtins", "dict"): dict,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("haiku._src.data_structures", "FlatMapping"): dict,
    ("haiku._src.data_structures", "FlatMap"): dict,
    ("haiku._src.data_structures", "frozendict"): dict,
    ("numpy", "dtype"): np.dtype,
    ("numpy", "ndarray"): _NDARRAY,
    ("_codecs", "encode"): _latin1_bytes,
    ("jax.interpreters.xla", "_reconstruct_device_array"): _jax_array,
    ("jax._src.device_array", "reconstruct_device_array"): _jax_array,
    ("jax._src.array", "_reconstruct_array"): _jax_array,
}
for _core in ("numpy.core", "numpy._core"):
    _ALLOWED[_core + ".multiarray", "_reconstruct"] = _empty_array
    _ALLOWED[_core + ".multiarray", "scalar"] = _scalar
    _ALLOWED[_core + ".numeric", "_frombuffer"] = _array_from_buffer


class _RestrictedUnpickler(pickle.Unpickler):
    def find_class(self, module, name):
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(
                f"it names {module}.{name}, which is not allowed"
            )
        return _ALLOWED[module, name]


def load(path, max_bytes: int = MAX_BYTES):
    """Unpickles mappings, lists, numbers, strings and NumPy or JAX arrays.

    Args:
        path: the file.
        max_bytes: largest size of the file.

    Returns:
        The unpickled object; all arrays in it are NumPy's.

    Raises:
        InputError: if the file names anything outside of the allow-list, is
            damaged, or is too large.
    """
    path = pathlib.Path(path)
    files.check_size(path, max_bytes)
    try:
        with open(path, "rb") as file:
            return _RestrictedUnpickler(file).load()
    # A damaged pickle can make the unpickler raise nearly anything.
    except Exception as error:
        raise InputError(
            f"The pickle {path} was refused: {reason(error)}."
        ) from error
