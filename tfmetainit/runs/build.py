"""Builds the objects of a config, and loads the trained learner of a run."""

import importlib.util
import inspect
import pathlib

import keras
import ml_collections
import tensorflow as tf

from tfmetainit.fields import networks
from tfmetainit.io.errors import InputError, check_range, reason
from tfmetainit.meta.learner import MetaLearner
from tfmetainit.meta.maml import MAML
from tfmetainit.meta.output_layer import check_solvable
from tfmetainit.meta.reptile import Reptile
from tfmetainit.meta.tasks import FieldLoss
from tfmetainit.runs.workdir import Workdir, find_run
from tfmetainit.signals.base import SignalClass

FIELDS = {
    "siren": networks.SIREN,
    "fourier_mlp": networks.FourierMLP,
    "simplified_nerf": networks.SimplifiedNeRF,
}
LEARNERS = {"maml": MAML, "reptile": Reptile}


def choose(table: dict, base: type, options, where: str) -> tuple[type, dict]:
    """The class that `options.name` names, and the other options.

    Args:
        table: the package's own classes by their short names.
        base: base class of the package's own and of the user's classes.
        options: a section of a config. Its name is a key of `table`, or the
            dotted name of a user's class. Options that are None are left to
            the defaults of the class.
        where: name of the section, for error messages.

    Raises:
        InputError: if there is no such class.
    """
    options = {k: v for k, v in dict(options).items() if v is not None}
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
    # A config file must not be able to call anything else.
    if not (isinstance(found, type) and issubclass(found, base)):
        raise InputError(
            f"`{where}.name` must be one of {sorted(table)}, or the dotted "
            f"name of a subclass of {base.__name__}, such as "
            f"my_package.my_module.MyClass. Received: {name!r}{problem}"
        )
    return found, options


def _check_options(where, make, options):
    """Raises InputError for an option that no constructor of a class takes."""
    known = {
        name
        for base in make.__mro__
        for name in inspect.signature(base.__init__).parameters
    }
    for name in options:
        if name not in known:
            raise InputError(
                f"`{where}.{name}` is not an option of {make.__name__}. "
                f"Received: {options[name]!r}"
            )


def _construct(where, make, *args, **options):
    """Calls `make`, and turns errors about its arguments into InputErrors."""
    try:
        return make(*args, **options)
    except InputError:
        raise
    except (TypeError, ValueError) as error:
        raise InputError(f"`config.{where}` is not valid: {error}") from error


def build_signal(config: ml_collections.ConfigDict) -> SignalClass:
    """The signal class of `config.signal`; its data are opened when needed.

    `config.signal.name` is the name of a module in `tfmetainit.signals`, or the
    dotted name of a user's module. The module's `make_signal_class` receives
    the other options.

    Raises:
        InputError: if there is no such module, or an option is not valid.
    """
    options = dict(config.signal)
    name = options.pop("name")
    try:
        own = f"tfmetainit.signals.{name}"
        known = "." not in name and importlib.util.find_spec(own)
        module = importlib.import_module(own if known else name)
        make = module.make_signal_class
    # Names like "..text" raise TypeError or ValueError.
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise InputError(
            "`signal.name` must name a module of tfmetainit.signals, or an "
            "importable module of yours, with a function `make_signal_class`. "
            f"Received: {name!r} ({error})"
        ) from error
    return _construct("signal", make, **options)


def build_learner(
    config: ml_collections.ConfigDict, signal: SignalClass
) -> MetaLearner:
    """The untrained learner of `config.field` and `config.learner`.

    Raises:
        InputError: if an option is not valid.
    """
    if config.learner.step_on == "halves":
        rule = "`learner.step_on` can be 'halves' only for pictures"
        _check_halves(signal, rule, "; use 'all'")
    return make_learner(
        config,
        make_field(config, signal.coord_dims, signal.value_dims),
        support_model=signal.support_model,
        query_model=signal.query_model,
        shares_support=signal.shares_support,
        raster_width=signal.raster_width,
    )


def make_field(config, coord_dims: int, value_dims: int) -> keras.Model:
    """The field of `config.field`, with random weights."""
    make, options = choose(FIELDS, keras.Model, config.field, "field")
    _check_options("field", make, options)
    for name, most in (("hidden_units", 2**14), ("hidden_layers", 256)):
        size = options.get(name)
        if isinstance(size, int) and size > most:
            check_range(f"field.{name}", size, 1, most)
    return _construct(
        "field",
        make,
        coord_dims=coord_dims,
        value_dims=value_dims,
        seed=config.seed,
        **options,
    )


def make_learner(config, field: keras.Model, **models) -> MetaLearner:
    """The learner of `config.learner`, with this field."""
    make, options = choose(LEARNERS, MetaLearner, config.learner, "learner")
    _check_options("learner", make, options)
    for name in ("inner_steps", "eval_steps"):
        # Training unrolls its inner steps.
        check_range(f"learner.{name}", options[name], 1, 1000)
    return _construct("learner", make, field, **models, **options)


def _check_halves(signal: SignalClass, rule: str, advice: str = "") -> None:
    """Raises InputError if steps cannot see halves of a class's pictures."""
    if signal.raster_width is not None:
        return
    points = getattr(signal, "points_per_step", 0)
    if points and getattr(signal.modality, "name", None) == "image":
        rule, received = f"{rule} with a `points_per_step` of 0", points
    else:
        received = type(signal).__name__
    raise InputError(f"{rule}{advice}. Received: {received}")


def use_class(learner: MetaLearner, signal: SignalClass) -> None:
    """Lets a learner fit and score the signals of another class.

    Raises:
        InputError: if the class has other dimensions than the field, or its
            signals cannot be fitted as the learner's options ask.
    """
    field = learner.field
    dims = field.coord_dims, field.value_dims
    if dims != (signal.coord_dims, signal.value_dims):
        raise InputError(
            "A class of signals must have the dimensions of the trained field, "
            f"{dims[0]} coordinates and {dims[1]} values. Received: "
            f"{signal.coord_dims} and {signal.value_dims}"
        )
    if learner.ridge is not None:
        _construct("signal", check_solvable, field, signal.support_model)
    if learner.step_on == "halves":
        _check_halves(signal, "The trained steps see halves of pictures")
    learner.raster_width = signal.raster_width
    learner.support_loss = FieldLoss(field, signal.support_model)
    learner.query_loss = FieldLoss(field, signal.query_model)


def load_weights(learner: MetaLearner, path: pathlib.Path) -> None:
    """Loads a learner's weights, and its optimizer's state if it is compiled.

    Raises:
        InputError: if the file is missing, damaged, or of another network.
    """
    if not path.is_file():
        raise InputError(f"There is no checkpoint {path}; train first.")
    try:
        learner.load_weights(path)
    # HDF5 and Keras raise OSError, KeyError, ValueError and more here.
    except Exception as error:
        raise InputError(
            f"The checkpoint {path} is damaged, or belongs to another config: "
            f"{reason(error)}"
        ) from error


def load(workdir) -> MetaLearner:
    """The learner of a run, with the weights of its best validation PSNR.

    Args:
        workdir: path of the folder that `python -m tfmetainit.train` wrote, or
            one of `pretrained_names()`, for example "text_64".

    Raises:
        InputError: if there is no run, or the run has no checkpoint.
    """
    workdir = find_run(workdir)
    config = workdir.read_config()
    return load_learner(workdir, config, build_signal(config))


def load_signal(workdir) -> SignalClass:
    """The signal class of a run, which reads files and draws fields.

    Args:
        workdir: as in `load`.

    Raises:
        InputError: if there is no run.
    """
    return build_signal(find_run(workdir).read_config())


def use_precision(name: str) -> None:
    """Sets `config.matmul_precision` for this process; CPUs ignore it."""
    tf.config.experimental.enable_tensor_float_32_execution(
        name == "tensorfloat32"
    )


def load_learner(workdir: Workdir, config, signal: SignalClass) -> MetaLearner:
    """As `load`, for callers that have the config and the signal class.

    From then on this process multiplies in float32 proper: TensorFlow's default
    on GPUs since Ampere, TensorFloat-32, would move predictions by 1e-2.
    """
    use_precision("float32")
    learner = build_learner(config, signal)
    load_weights(learner, workdir.best)
    return learner
