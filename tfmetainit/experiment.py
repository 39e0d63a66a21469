"""From a config to objects, and from a run back to a trained learner."""

import hashlib
import importlib.util
import json
import math
import os
import pathlib

import keras
import ml_collections
import tensorflow as tf

from tfmetainit import fields, files, functional, initial_weights, learners
from tfmetainit.errors import InputError, check_range, reason
from tfmetainit.meta_learner import MetaLearner
from tfmetainit.runs import Workdir, find_run
from tfmetainit.tasks import FieldLoss, SignalClass

FIELDS = {
    "siren": fields.SIREN,
    "fourier_mlp": fields.FourierMLP,
    "simplified_nerf": fields.SimplifiedNeRF,
}
LEARNERS = {"maml": learners.MAML, "reptile": learners.Reptile}
MAX_STEPS = 10_000_000
_MAX_SIGNALS = 10_000
_MAX_EVALUATION_STEPS = 100_000
# Options in which a field may differ from one whose weights it takes: they are
# its precision, or what they decide is among the weights.
_MAY_DIFFER = {"name", "trainable", "dtype", "hidden_dtype", "seed", "scale"}
# Options of `config.signal` that name the files signals are read from.
SOURCE_FIELDS = ("folder", "file")
# Where somebody's files are is nobody else's concern.
_PRIVATE_FIELDS = (*SOURCE_FIELDS, "data_dir", "manual_dir")


def _choose(table, base, options, where):
    """The class that `options.name` names, and the other options as a dict.

    It is one of `table`, or the user's own, by its dotted name.
    """
    options = dict(options)
    name = options.pop("name", None)
    if name in table:
        return table[name], options
    module, _, attribute = str(name).rpartition(".")
    found, problem = None, ""
    if module:
        try:
            found = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError, TypeError, ValueError) as error:
            problem = f" ({error})"
    # What a config file names is called: nothing else may be.
    if not (isinstance(found, type) and issubclass(found, base)):
        raise InputError(
            f"config.{where}.name must be one of {sorted(table)}, or name a "
            f"subclass of {base.__name__} of yours, such as "
            f"my_package.my_module.MyClass. Received: {name!r}{problem}"
        )
    return found, options


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
    that of a module of the user's; its `make_signal_class` receives the other
    options.
    """
    options = dict(config.signal)
    name = options.pop("name")
    try:
        own = f"tfmetainit.signals.{name}"
        known = "." not in name and importlib.util.find_spec(own)
        module = importlib.import_module(own if known else name)
        make = module.make_signal_class
    # Of names like "..text", TypeError or ValueError.
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise InputError(
            "config.signal.name must name a module of tfmetainit.signals, or "
            "an importable module of yours, with a function "
            f"`make_signal_class`. Received: {name!r} ({error})"
        ) from error
    return _construct("signal", make, **options)


def check_evaluation(settings: ml_collections.ConfigDict) -> None:
    """Raises InputError for numbers that cannot make an evaluation."""
    for name, limit in (
        ("num_signals", _MAX_SIGNALS),
        ("num_tuning_signals", _MAX_SIGNALS),
        ("num_match_signals", _MAX_SIGNALS),
        ("num_steps", _MAX_EVALUATION_STEPS),
        ("max_match_steps", _MAX_EVALUATION_STEPS),
        ("num_fit_steps", _MAX_EVALUATION_STEPS),
    ):
        check_range(f"config.evaluation.{name}", settings[name], 1, limit)
    for name in ("sgd_rates", "adam_rates"):
        rates = settings[name]
        if not rates or not all(
            isinstance(rate, (int, float)) and 0 < rate < math.inf
            for rate in rates
        ):
            raise InputError(
                f"config.evaluation.{name} must be a list of positive numbers. "
                f"Received: {rates}"
            )


def public_settings(options: ml_collections.ConfigDict) -> dict:
    """The options of `config.signal` without paths, as JSON has them."""
    settings = json.loads(options.to_json())
    return {k: v for k, v in settings.items() if k not in _PRIVATE_FIELDS}


def digest_of_files(options: ml_collections.ConfigDict) -> str:
    """What tells one set of files that signals are read from from another.

    Their names and sizes: to read all of them would take as long as a fit.
    """
    digest = hashlib.sha256()
    for option in SOURCE_FIELDS:
        root = options.get(option)
        if not root:
            continue
        root = pathlib.Path(root)
        for path in [root] if root.is_file() else files.files_below(root):
            name = os.fsencode(path.relative_to(root))
            digest.update(b"%s %d\n" % (name, path.stat().st_size))
    return digest.hexdigest()


def build_learner(
    config: ml_collections.ConfigDict, signal: SignalClass
) -> MetaLearner:
    """The untrained learner of `config.field` and `config.learner`."""
    return _make_learner(
        config,
        _make_field(config, signal.coord_dims, signal.value_dims),
        support_model=signal.support_model,
        query_model=signal.query_model,
        shares_support=signal.shares_support,
    )


def _make_field(config, coord_dims, value_dims):
    """The field of `config.field`."""
    make_field, options = _choose(FIELDS, keras.Model, config.field, "field")
    for name, most in (("hidden_units", 2**14), ("hidden_layers", 256)):
        size = options.get(name)
        if isinstance(size, int) and size > most:
            check_range(f"config.field.{name}", size, 1, most)
    return _construct(
        "field",
        make_field,
        coord_dims=coord_dims,
        value_dims=value_dims,
        seed=config.seed,
        **options,
    )


def _make_learner(config, field, **models):
    """The learner of `config.learner` with this field."""
    make_learner, options = _choose(
        LEARNERS, MetaLearner, config.learner, "learner"
    )
    for name in ("inner_steps", "eval_steps"):
        # Training unrolls its inner steps.
        check_range(f"config.learner.{name}", options[name], 1, 1000)
    return _construct("learner", make_learner, field, **models, **options)


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
    config: ml_collections.ConfigDict, learner: MetaLearner
) -> keras.optimizers.Optimizer:
    """Adam with warm-up, cosine decay, clipping of the global norm.

    The rate rises from 0 over `warmup_steps`, then falls along a cosine to
    `final_fraction` of its peak at `config.num_steps`. To be called in the
    scope of the strategy that trains with it, if there is one.

    The kernel of the output layer is updated at `output_gain` times the rate,
    the matrices of step sizes "curvature" at `curvature_gain` times.

    Args:
        config: as in configs/default.py.
        learner: what is trained.
    """
    options = config.optimizer
    for name in ("learning_rate", "output_gain", "curvature_gain"):
        if not 0 < options[name] < math.inf:
            raise InputError(
                f"config.optimizer.{name} must be positive and finite. "
                f"Received: {options[name]}"
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
    weights = learner.field.trainable_variables
    *_, output = (v.path for v in weights if v.ndim == 2)
    gains = {
        matrix.path: options.curvature_gain
        for sides in learner.step_sizes.sides
        for matrix in sides
    }
    return _Adam(
        schedule,
        global_clipnorm=clip_norm,
        gains={output: options.output_gain, **gains},
    )


def use_class(learner: MetaLearner, signal: SignalClass, flag: str) -> None:
    """Lets a learner fit and score the signals of another class.

    Raises:
        InputError: if the class, given by `flag`, is of other dimensions.
    """
    field = learner.field
    dims = field.coord_dims, field.value_dims
    if dims != (signal.coord_dims, signal.value_dims):
        raise InputError(
            f"The class given by {flag} must have the dimensions of the "
            f"trained field, {dims[0]} coordinates and {dims[1]} values. "
            f"Received: {signal.coord_dims} and {signal.value_dims}"
        )
    learner.support_loss = FieldLoss(field, signal.support_model)
    learner.query_loss = FieldLoss(field, signal.query_model)


def _check_trained(path):
    if not path.is_file():
        raise InputError(f"There is no checkpoint {path}; train first.")


def load_weights(learner: MetaLearner, path: pathlib.Path) -> None:
    """Reads a learner's weights; the optimizer's too if it is compiled.

    Raises:
        InputError: if the file is missing, damaged, or another network's.
    """
    _check_trained(path)
    try:
        learner.load_weights(path)
    # HDF5 and Keras raise OSError, KeyError, ValueError and more here.
    except Exception as error:
        raise InputError(
            f"The checkpoint {path} is damaged, or belongs to another config: "
            f"{reason(error)}"
        ) from error


def _field_difference(config, field):
    """In words, why `field` cannot take the weights of a run's; or None."""
    make, _ = _choose(FIELDS, keras.Model, config.field, "field")
    if not isinstance(field, make):
        return f"a {make.__name__}, for a {type(field).__name__}"
    made = _make_field(config, field.coord_dims, field.value_dims).get_config()
    for name, value in field.get_config().items():
        if name not in _MAY_DIFFER and made.get(name) != value:
            return f"with {name}={made.get(name)}, for {name}={value}"
    return None


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
    _check_trained(run.best)
    config = run.read_config()
    field = learner.field
    problem = _field_difference(config, field)
    if problem:
        raise InputError(
            "config.warm_start must name a run of the same network. Received: "
            f"{path}, {problem}"
        )
    try:
        # Its learner, of this one's field: that is loaded with the learner.
        before = _make_learner(config, field)
        load_weights(before, run.best)
        learner.step_sizes.keep_from(before.step_sizes)
    except ValueError as error:
        raise InputError(
            f"config.warm_start cannot start from {path}: {error}"
        ) from error


def load(workdir) -> MetaLearner:
    """The learner of a run, with the weights of its best validation PSNR.

    Args:
        workdir: path of the folder that `python -m tfmetainit.train` wrote, or
            one of `runs.pretrained_names()`, for example "text_64".

    Raises:
        InputError: if there is no run, or no checkpoint of it.
    """
    workdir = find_run(workdir)
    config = workdir.read_config()
    return load_learner(workdir, config, build_signal(config))


def load_signal(workdir) -> SignalClass:
    """The class of signals of a run: what reads files, and draws fields.

    Args:
        workdir: as of `load`.

    Raises:
        InputError: if there is no run.
    """
    return build_signal(find_run(workdir).read_config())


def load_learner(workdir: Workdir, config, signal) -> MetaLearner:
    """As `load`, for callers that have the config and the signal class."""
    learner = build_learner(config, signal)
    load_weights(learner, workdir.best)
    return learner
