"""Starts a training from the weights of a run or a file."""

import pathlib

import keras

from tfmetainit.io import weights
from tfmetainit.io.errors import InputError
from tfmetainit.meta import functional
from tfmetainit.meta.learner import MetaLearner
from tfmetainit.runs import build
from tfmetainit.runs.workdir import find_run

# Options in which a field may differ from the field whose weights it takes: its
# precision, and options whose effect is stored in the weights.
_MAY_DIFFER = {"name", "trainable", "dtype", "hidden_dtype", "seed", "scale"}


def warm_start(learner: MetaLearner, path) -> None:
    """Starts a learner from the weights of a run, or of a file.

    Args:
        learner: must not be compiled yet; its optimizer starts afresh.
        path: a run (`find_run`), for its best weights and step sizes, or a
            file of the field's weights alone (`io.weights.READERS`).

    Raises:
        InputError: if there are no weights, or they are of another network.
    """
    path = pathlib.Path(path)
    field = learner.field
    read = weights.READERS.get(path.suffix)
    if read is not None and not path.is_dir():
        if field.non_trainable_variables:
            # The frequencies of a FourierMLP, drawn from the run's seed.
            raise InputError(
                "`warm_start` must name a run if the network has frozen "
                "weights, which a file of weights lacks. Received: "
                f"{path}, for a {type(field).__name__}"
            )
        shapes = [tuple(v.shape) for v in field.trainable_variables]
        functional.set_params(field, read(path, shapes))
        return
    run = find_run(path)
    if not run.best.is_file():
        raise InputError(f"There is no checkpoint {run.best}; train first.")
    config = run.read_config()
    problem = _field_difference(config, field)
    if problem:
        raise InputError(
            "`warm_start` must name a run of the same network. Received: "
            f"{path}, {problem}"
        )
    try:
        # Loading the run's learner with this field loads the field's weights.
        config.learner.step_on = "all"  # halves are those of its own signals
        before = build.make_learner(config, field)
        build.load_weights(before, run.best)
        learner.step_sizes.keep_from(before.step_sizes)
    except ValueError as error:
        raise InputError(
            f"`warm_start` cannot start from {path}: {error}"
        ) from error


def _field_difference(config, field):
    """Why `field` cannot take the weights of a run, in words, or None."""
    make, _ = build.choose(build.FIELDS, keras.Model, config.field, "field")
    if not isinstance(field, make):
        return f"a {make.__name__}, for a {type(field).__name__}"
    other = build.make_field(config, field.coord_dims, field.value_dims)
    options = other.get_config()
    for name, value in field.get_config().items():
        if name not in _MAY_DIFFER and options.get(name) != value:
            return f"with {name}={options.get(name)}, for {name}={value}"
    return None
