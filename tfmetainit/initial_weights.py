"""Weights of a field in files.

`.npz` with the keys `layer0/kernel`, `layer0/bias`, `layer1/kernel`, ..., and
the pickles that the paper's authors published.
"""

import pathlib
import zipfile

import keras
import numpy as np
import tensorflow as tf

from tfmetainit import files, restricted_pickle
from tfmetainit.errors import InputError
from tfmetainit.functional import Params

_MAX_FILE_BYTES = 2**30


def load_npz(path, field: keras.Model) -> Params:
    """Reads weights of `field` from an `.npz` file.

    Raises:
        InputError: if the file is not one, or its arrays do not fit the field.
    """
    path = pathlib.Path(path)
    files.check_size(path, _MAX_FILE_BYTES)
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > _MAX_FILE_BYTES:
            raise ValueError(f"it unpacks to {size} bytes")
        with np.load(path, allow_pickle=False) as archive:
            arrays = {
                name: np.asarray(archive[name], field.dtype)
                for name in archive.files
            }
    # A damaged archive makes NumPy raise errors of many kinds.
    except Exception as error:
        raise InputError(f"{path} is not an .npz file: {error}") from error
    names = files.weight_names(len(field.trainable_variables))
    if sorted(arrays) != sorted(names):
        raise InputError(
            f"The weights of this network are named {', '.join(names)}. "
            f"Received: {path} with {', '.join(sorted(arrays)) or 'no arrays'}"
        )
    return _fit_shapes(path, [arrays[name] for name in names], field)


def load_haiku(path, field: keras.Model) -> Params:
    """Reads weights of `field` from a pickle of the paper's authors.

    Their files hold haiku parameters: a mapping from module names to
    `{"w": kernel, "b": bias}`, the modules in the order of the layers. Only
    mappings, NumPy and JAX arrays are accepted; nothing in the file is
    imported or called.

    Raises:
        InputError: if the pickle holds anything else, or does not fit.
    """
    path = pathlib.Path(path)
    modules = restricted_pickle.load(path)
    params = []
    try:
        for module in sorted(modules, key=_natural_order):
            params += [modules[module]["w"], modules[module]["b"]]
        params = [np.asarray(p, np.float32) for p in params]
    except (
        *(AttributeError, KeyError, IndexError),
        *(TypeError, ValueError),
    ) as error:
        raise InputError(
            "A haiku checkpoint must map module names to a kernel 'w' and a "
            f"bias 'b'. Received: {path}, which does not ({error!r})"
        ) from error
    return _fit_shapes(path, params, field)


# Readers of files of weights, by the end of their names.
READERS = {".npz": load_npz, ".pkl": load_haiku, ".pickle": load_haiku}


def _natural_order(name):
    """Sorts linear, linear_1, ..., linear_10 as their layers come."""
    stem, _, number = name.rpartition("_")
    return (stem, int(number)) if number.isdigit() else (name, 0)


def _fit_shapes(path, arrays, field):
    expected = [tuple(v.shape) for v in field.trainable_variables]
    received = [a.shape for a in arrays]
    if received != expected:
        raise InputError(
            f"The weights of this network have shapes {expected}. Received: "
            f"{path} with shapes {received}"
        )
    if not all(np.isfinite(a).all() for a in arrays):
        raise InputError(f"{path} holds weights that are not finite.")
    dtype = field.dtype
    return [tf.constant(a, dtype) for a in arrays]
