"""The paper's baseline initial weights, and weights in files.

Baselines (Tancik et al. 2021, section 4): Standard draws the network's own
random weights; Mean is fitted to the mean signal of the class; Matched is
fitted to the learned initialization's own output; Shuffled permutes the
learned weights within each layer.

Files: `.npz` with the keys `layer0/kernel`, `layer0/bias`, `layer1/kernel`,
..., and the pickles that the paper's authors published.
"""

import pathlib
import zipfile
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from tfmetainit import files, functional, restricted_pickle
from tfmetainit.adaptation import at_step
from tfmetainit.errors import InputError
from tfmetainit.functional import Params
from tfmetainit.tasks import FieldLoss, Observations

_MAX_FILE_BYTES = 2**30


def standard(field: keras.Model, seed: int) -> Params:
    """Fresh random weights of the field's own initializers."""
    fresh = type(field).from_config({**field.get_config(), "seed": seed})
    return functional.get_params(fresh)


class AdamFit:
    """Fits a field to one signal with Adam, from any initial weights.

    What the paper gives its baselines, and what a user without a learned
    initialization would do.

    Args:
        loss: of the observations; its field is not changed.
        learning_rate: Adam's rate.
    """

    def __init__(self, loss: FieldLoss, learning_rate: float):
        self._loss = loss
        # Through NumPy: a Keras variable adopts a tf.Variable as its storage.
        self._weights = [
            keras.Variable(v.numpy()) for v in loss.field.trainable_variables
        ]
        self._optimizer = keras.optimizers.Adam(learning_rate)
        self._optimizer.build(self._weights)
        self._fresh = [v.numpy() for v in self._optimizer.variables]
        self._step = tf.function(self._update)

    def _update(self, observed):
        _, gradients = self._loss.value_and_grad(self._params(), observed)
        self._optimizer.apply(gradients, self._weights)

    def _params(self):
        return [tf.convert_to_tensor(w) for w in self._weights]

    def trajectory(
        self, params: Params, support: Observations, num_steps: int
    ) -> Iterator[Params]:
        """Yields the weights after 0, 1, ..., `num_steps` steps."""
        for variable, value in zip(self._optimizer.variables, self._fresh):
            variable.assign(value)
        for weight, value in zip(self._weights, params):
            weight.assign(value)
        yield self._params()
        for step in range(num_steps):
            self._step(at_step(support, step))
            yield self._params()


def fitted(
    loss: FieldLoss,
    params: Params,
    support: Observations,
    *,
    num_steps: int,
    learning_rate: float = 1e-4,
) -> Params:
    """Weights fitted to one signal by many steps of Adam: Mean and Matched.

    Args:
        loss: of the observations.
        params: where to start.
        support: the class's mean signal, or the learned init's own output,
            with a leading axis over steps.
        num_steps: number of Adam steps.
        learning_rate: Adam's rate; the paper's is 1e-4.
    """
    fit = AdamFit(loss, learning_rate)
    *_, last = fit.trajectory(params, support, num_steps)
    return last


def shuffled(params: Params, seed: int) -> Params:
    """The same numbers in another order, permuted within each tensor."""
    rng = np.random.default_rng(seed)
    return [
        tf.constant(rng.permutation(np.ravel(p)).reshape(p.shape))
        for p in map(np.asarray, params)
    ]


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
    except (AttributeError, KeyError, TypeError, ValueError) as error:
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
