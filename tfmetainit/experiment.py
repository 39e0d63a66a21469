"""From a config to objects, and from a workdir back to a trained learner.

A workdir holds what a run is:

    config.json                      the config, all fields
    checkpoints/last.weights.h5      learner and optimizer: where to resume
    checkpoints/best.weights.h5      the same at the best validation PSNR
    checkpoints/best.json            the step and the PSNR of the latter
    tensorboard/                     scalars and reconstruction pictures

Weights are HDF5 files, written under a temporary name and renamed; reading one
never runs code.

The package comes with a few runs, without their optimizers and in half
precision: wherever a trained run is asked for, their names are taken as well.
"""

import dataclasses
import importlib
import json
import math
import pathlib

import keras
import ml_collections
import tensorflow as tf

from tfmetainit import fields, files, functional, initial_weights, learners
from tfmetainit.configs import default
from tfmetainit.errors import InputError, check_range
from tfmetainit.learners import MetaLearner
from tfmetainit.tasks import SignalClass

FIELDS = {
    "siren": fields.SIREN,
    "fourier_mlp": fields.FourierMLP,
    "simplified_nerf": fields.SimplifiedNeRF,
}
LEARNERS = {"maml": learners.MAML, "reptile": learners.Reptile}
MAX_STEPS = 10_000_000
PRETRAINED = pathlib.Path(__file__).parent / "pretrained"
# Where somebody's files are is nobody else's concern.
_PRIVATE_FIELDS = ("folder", "file", "data_dir", "manual_dir")


def _choose(table, options, where):
    """`table[options.name]`, and the other options as a dict."""
    options = dict(options)
    name = options.pop("name", None)
    if name not in table:
        raise InputError(
            f"config.{where}.name must be one of {sorted(table)}. Received: "
            f"{name!r}"
        )
    return table[name], options


def _construct(where, make, *args, **options):
    """Calls `make`, turning complaints about arguments into an InputError."""
    try:
        return make(*args, **options)
    except InputError:
        raise
    except (TypeError, ValueError) as error:
        raise InputError(f"config.{where} is not valid: {error}") from error


def build_signal(config: ml_collections.ConfigDict) -> SignalClass:
    """The signal class of `config.signal`; its data are opened when needed.

    `config.signal.name` is the name of a module in `tfmetainit.signals`, or
    the full dotted name of a module of the user's; its `make_signal_class`
    receives the other options.
    """
    options = dict(config.signal)
    name = options.pop("name")
    module = name if "." in name else f"tfmetainit.signals.{name}"
    try:
        make = importlib.import_module(module).make_signal_class
    except (ImportError, AttributeError) as error:
        raise InputError(
            "config.signal.name must name a module of tfmetainit.signals, or "
            "an importable module of yours, with a function "
            f"`make_signal_class`. Received: {name!r} ({error})"
        ) from error
    return _construct("signal", make, **options)


def public_settings(options: ml_collections.ConfigDict) -> dict:
    """The options of `config.signal` without paths, as JSON has them."""
    settings = json.loads(options.to_json())
    return {k: v for k, v in settings.items() if k not in _PRIVATE_FIELDS}


def build_learner(
    config: ml_collections.ConfigDict, signal: SignalClass
) -> MetaLearner:
    """The untrained learner of `config.field` and `config.learner`."""
    make_field, field_options = _choose(FIELDS, config.field, "field")
    make_learner, options = _choose(LEARNERS, config.learner, "learner")
    for name in ("inner_steps", "eval_steps"):
        # Training unrolls its inner steps.
        check_range(f"config.learner.{name}", options[name], 1, 1000)
    field = _construct(
        "field",
        make_field,
        coord_dims=signal.coord_dims,
        value_dims=signal.value_dims,
        seed=config.seed,
        **field_options,
    )
    return _construct(
        "learner",
        make_learner,
        field,
        support_model=signal.support_model,
        query_model=signal.query_model,
        **options,
    )


class _Adam(keras.optimizers.Adam):
    """Adam that updates some variables at a multiple of its rate.

    Args:
        learning_rate: of all variables but those.
        gains: the factors, by the variables' paths.
        **kwargs: of Adam.
    """

    def __init__(self, learning_rate, gains: dict[str, float], **kwargs):
        # Keras would make a name of the class's, which is no valid one.
        super().__init__(learning_rate, name="adam", **kwargs)
        self._gains = gains

    def update_step(self, gradient, variable, learning_rate):
        # Under a strategy, `variable` is one replica's, and has no path.
        index = self._get_variable_index(variable)
        path = self._trainable_variables[index].path
        gain = self._gains.get(path, 1.0)
        super().update_step(gradient, variable, gain * learning_rate)


def build_optimizer(
    config: ml_collections.ConfigDict, field: keras.Model
) -> keras.optimizers.Optimizer:
    """Adam with warm-up, cosine decay, clipping of the global norm.

    The rate rises from 0 over `warmup_steps`, then falls along a cosine to
    `final_fraction` of its peak at `config.num_steps`. To be called in the
    scope of the strategy that trains with it, if there is one.

    The kernel of the output layer is updated at `output_gain` times the rate.

    Args:
        config: as in configs/default.py.
        field: whose weights are trained, beside step sizes.
    """
    options = config.optimizer
    for name in ("learning_rate", "output_gain"):
        if not options[name] > 0:
            raise InputError(
                f"config.optimizer.{name} must be positive. Received: "
                f"{options[name]}"
            )
    rate = options.learning_rate
    if options.warmup_steps:
        start, peak = 0.0, rate
    else:
        start, peak = rate, None  # Keras: no warm-up
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=start,
        decay_steps=max(config.num_steps - options.warmup_steps, 1),
        alpha=options.final_fraction,
        warmup_target=peak,
        warmup_steps=options.warmup_steps,
    )
    # Each replica clips its share of the gradient, of which all are alike.
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    clip_norm = options.clip_norm / replicas or None
    *_, output = (v.path for v in field.trainable_variables if v.ndim == 2)
    return _Adam(
        schedule,
        global_clipnorm=clip_norm,
        gains={output: options.output_gain},
    )


@dataclasses.dataclass(frozen=True)
class Workdir:
    """The paths of a run's files."""

    root: pathlib.Path

    def __post_init__(self):
        object.__setattr__(self, "root", pathlib.Path(self.root))

    @property
    def config(self):
        return self.root / "config.json"

    @property
    def last(self):
        return self.root / "checkpoints" / "last.weights.h5"

    @property
    def best(self):
        return self.root / "checkpoints" / "best.weights.h5"

    @property
    def best_record(self):
        return self.root / "checkpoints" / "best.json"

    @property
    def tensorboard(self):
        return self.root / "tensorboard"

    def read_best(self) -> dict:
        """What is known of the best checkpoint: at least "step" and "psnr".

        Raises:
            InputError: if that is missing, or not numbers.
        """
        best = files.read_json(self.best_record)
        problem = _difference(best, {"step": 0, "psnr": 0.0}, "the record")
        if problem:
            raise InputError(
                f"A run's record of its best checkpoint must have {problem}. "
                f"Received: {self.best_record}, where it is missing or "
                "something else"
            )
        return best

    def read_config(self) -> ml_collections.ConfigDict:
        """The config of the run.

        Raises:
            InputError: if there is no run here.
        """
        if not self.config.is_file():
            names = ", ".join(pretrained_names())
            raise InputError(
                "--workdir must hold a training run (python -m "
                f"tfmetainit.train), or be one of the package's own: {names}. "
                f"Received: {self.root}, where there is no config.json"
            )
        config = files.read_json(self.config)
        _supply_earlier_settings(config)
        expected = json.loads(
            default.get_config().copy_and_resolve_references().to_json()
        )
        # What the others are is up to the class of signals.
        expected["signal"] = {"name": ""}
        problem = _difference(config, expected, "config")
        if problem:
            raise InputError(
                f"A run's config must have {problem}. Received: {self.config}, "
                "where it is missing or something else"
            )
        try:
            return ml_collections.ConfigDict(config)
        except (TypeError, ValueError) as error:  # names that it reserves
            raise InputError(
                f"{self.config} is not a config: {error}."
            ) from error


def _supply_earlier_settings(config) -> None:
    """Gives a run's config the values of fields that were not there yet."""
    if not isinstance(config, dict):
        return
    optimizer, learner = config.get("optimizer"), config.get("learner")
    if isinstance(optimizer, dict):
        optimizer.setdefault("output_gain", 1.0)
        # Was there for a day; 0 is what all do now.
        if optimizer.get("muon_rate") == 0:
            del optimizer["muon_rate"]
    if isinstance(learner, dict):
        learner.setdefault("step_size_gain", 128.0)
        learner.setdefault("early_loss_weight", 0.0)


def pretrained_names() -> list[str]:
    """Names of the runs that come with the package."""
    return sorted(path.parent.name for path in PRETRAINED.glob("*/config.json"))


def find_run(path) -> Workdir:
    """The run in a folder, or one of the package's own by its name.

    A run in a folder of that name goes first. Whether there is a run at all is
    checked when it is read.
    """
    workdir = Workdir(path)
    name = str(workdir.root)
    if not workdir.config.is_file() and name in pretrained_names():
        return Workdir(PRETRAINED / name)
    return workdir


def _difference(found, expected, name):
    """The first field that is not of the kind expected, in words; or None.

    Args:
        found: what was read from JSON.
        expected: what it must have at least, values standing for their kinds.
        name: of the two.
    """
    if isinstance(expected, dict):
        if not isinstance(found, dict):
            return f"the section {name}"
        for key, value in expected.items():
            problem = _difference(found.get(key), value, f"{name}.{key}")
            if problem:
                return problem
        return None
    if isinstance(expected, bool):
        return None if isinstance(found, bool) else f"true or false for {name}"
    if isinstance(expected, (int, float)):
        # For Python, true is a number.
        valid = type(found) in (int, float) and math.isfinite(found)
        return None if valid else f"a number for {name}"
    if isinstance(expected, list):
        valid = isinstance(found, list) and found
        valid = valid and not any(
            _difference(item, expected[0], name) for item in found
        )
        return None if valid else f"a list of numbers for {name}"
    if expected is None:  # a path, or nothing
        return None if found is None or isinstance(found, str) else name
    return None if isinstance(found, str) else f"a string for {name}"


def load_weights(learner: MetaLearner, path: pathlib.Path) -> None:
    """Reads a learner's weights; the optimizer's too if it is compiled.

    Raises:
        InputError: if the file is missing, damaged, or another network's.
    """
    if not path.is_file():
        raise InputError(f"There is no checkpoint {path}; train first.")
    try:
        learner.load_weights(path)
    # HDF5 and Keras raise OSError, KeyError, ValueError and more here.
    except Exception as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise InputError(
            f"The checkpoint {path} is damaged, or belongs to another config: "
            f"{reason}"
        ) from error


def warm_start(learner: MetaLearner, path) -> None:
    """Starts a learner where another run, or a file of weights, ended.

    Args:
        learner: not compiled yet; its optimizer starts afresh.
        path: a run (`find_run`), for its best weights and step sizes, or a
            file of the field's weights alone (`initial_weights.READERS`).

    Raises:
        InputError: if there are none, or they are another network's.
    """
    path = pathlib.Path(path)
    read = initial_weights.READERS.get(path.suffix)
    if read is not None and not path.is_dir():
        if learner.field.non_trainable_variables:
            # The frequencies of a FourierMLP, drawn from the run's seed.
            raise InputError(
                "config.warm_start must name a run for a network of which a "
                "part is not learned: a file of weights lacks that. Received: "
                f"{path}, for a {type(learner.field).__name__}"
            )
        functional.set_params(learner.field, read(path, learner.field))
        return
    run = find_run(path)
    load_weights(learner, run.best)
    before = run.read_config().learner
    learner.step_sizes.keep_from(before.inner_lr, before.step_size_gain)
    learner.best_loss.assign(math.inf)


def load(workdir) -> MetaLearner:
    """The learner of a run, with the weights of its best validation PSNR.

    Args:
        workdir: path of the folder that `python -m tfmetainit.train` wrote, or
            one of `pretrained_names()`, for example "text_64".

    Raises:
        InputError: if there is no run, or no checkpoint of it.
    """
    workdir = find_run(workdir)
    config = workdir.read_config()
    return load_learner(workdir, config, build_signal(config))


def load_learner(workdir: Workdir, config, signal) -> MetaLearner:
    """As `load`, for callers that have the config and the signal class."""
    learner = build_learner(config, signal)
    load_weights(learner, workdir.best)
    return learner
