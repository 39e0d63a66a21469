"""The prior of a run, by which fits predict unobserved values.

It is measured at the end of the training (`meta.completion`), and stored beside
the weights that it was measured with.
"""

import logging

import keras
import numpy as np
import tensorflow as tf

from tfmetainit.io import files
from tfmetainit.io.errors import InputError
from tfmetainit.io.weights import read_arrays
from tfmetainit.meta import completion, inner_loop
from tfmetainit.meta.completion import Prior
from tfmetainit.runs import build
from tfmetainit.runs.workdir import Workdir
from tfmetainit.signals.base import SignalClass

_LOGGER = logging.getLogger("tfmetainit")


def measure_prior(workdir: Workdir, config, signal: SignalClass) -> None:
    """Measures the prior of a run's best weights, and writes it.

    Nothing is done if it is there already, or if the class has none: its
    signals are not observed directly, or its field has no linear output layer.
    """
    settings = config.prior
    if settings.num_signals == 0 or _read(workdir, settings) is not None:
        return
    learner = build.load_learner(workdir, config, signal)
    if not completion.has_prior(learner.field, signal.support_model):
        return
    _LOGGER.info("Measuring the prior of %d signals", settings.num_signals)
    tasks = signal.make_dataset("train", 1, seed=config.seed)
    prior = completion.measure(
        learner.support_loss,
        (
            inner_loop.at_step(
                tf.nest.map_structure(lambda leaf: leaf[0], batch.support), 0
            )
            for batch in tasks.take(settings.num_signals)
        ),
        settings.num_components,
        settings.unseen_weight,
    )
    arrays = {name: np.asarray(leaf) for name, leaf in prior._asdict().items()}
    step = workdir.read_best()["step"]
    _write(workdir, {**arrays, "step": step, **settings})


def copy_prior(source: Workdir, target: Workdir) -> None:
    """Copies the prior of a run, in half precision, to another folder."""
    arrays = read_arrays(source.prior)
    for name in ("mean", "components"):
        arrays[name] = np.float16(arrays[name])
    _write(target, arrays)


def _write(workdir, arrays):
    with files.atomic_path(workdir.prior) as path, open(path, "wb") as file:
        np.savez(file, **arrays)


def read_prior(workdir: Workdir, field: keras.Model) -> Prior | None:
    """The prior of a run's best weights; None if there is none.

    Args:
        workdir: the run.
        field: its network.

    Raises:
        InputError: if the file is damaged, or of another network.
    """
    arrays = _read(workdir)
    if arrays is None:
        return None
    width, channels = field.trainable_variables[-2].shape
    try:
        mean, components, noise, weight = (
            np.float32(arrays[name]) for name in Prior._fields
        )
        shapes = mean.shape, components.shape
        if shapes != ((width + 1, channels), (width + 1, shapes[1][-1])):
            raise ValueError(f"matrices of {shapes}")
        if not (0 < noise < np.inf and 0 < weight <= 1):
            raise ValueError(f"noise {noise} and weight {weight}")
        if not np.isfinite([mean.sum(), components.sum()]).all():
            raise ValueError("matrices that are not finite")
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            "The prior of a run must be that of its network. Received: "
            f"{workdir.prior} ({error!r}). Delete it, and repeat the command "
            "of the training."
        ) from error
    return Prior(
        tf.constant(mean),
        tf.constant(components),
        tf.constant(noise),
        float(weight),
    )


def _read(workdir, settings=()):
    """The arrays of a prior of the best weights, with these settings.

    None if there is none.
    """
    if not workdir.prior.is_file():
        return None
    arrays = read_arrays(workdir.prior)
    wanted = {**dict(settings), "step": workdir.read_best()["step"]}
    current = all(np.all(arrays.get(k) == v) for k, v in wanted.items())
    return arrays if current else None
