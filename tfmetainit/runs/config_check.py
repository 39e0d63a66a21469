"""What a config must be: checked before a run begins, and when it is read."""

import json
import math

import ml_collections

from tfmetainit.configs import default
from tfmetainit.io.errors import InputError, check_range, reason

MAX_STEPS = 10_000_000
PRECISIONS = ("float32", "tensorfloat32")
_MAX_SIGNALS = 10_000
_MAX_EVALUATION_STEPS = 100_000


def check_config(config) -> ml_collections.ConfigDict:
    """The config with the defaults of fields that it lacks.

    Raises:
        InputError: unless a run can be made of it, and read back.
    """
    if not isinstance(config, ml_collections.ConfigDict):
        raise InputError(
            "`get_config` of a config file must return an ml_collections."
            f"ConfigDict. Received: a {type(config).__name__}"
        )
    config = complete(as_json(config), "it")
    if config.warm_start == "":
        raise InputError(
            "`warm_start` must name a run or a file of weights, or be None. "
            "Received: ''"
        )
    if config.matmul_precision not in PRECISIONS:
        raise InputError(
            f"`matmul_precision` must be one of {', '.join(PRECISIONS)}. "
            f"Received: {config.matmul_precision!r}"
        )
    optimizer, validation = config.optimizer, config.validation
    for name, value, low, high in (
        ("num_steps", config.num_steps, 1, MAX_STEPS),
        ("batch_size", config.batch_size, 1, 4096),
        ("validation.every", validation.every, 1, config.num_steps),
        ("validation.num_signals", validation.num_signals, 1, _MAX_SIGNALS),
        # A longer warm-up would never reach the learning rate.
        (
            "optimizer.warmup_steps",
            optimizer.warmup_steps,
            0,
            config.num_steps - 1,
        ),
        ("optimizer.final_fraction", optimizer.final_fraction, 0, 1),
        ("optimizer.clip_norm", optimizer.clip_norm, 0, 1e9),
        ("prior.num_components", config.prior.num_components, 1, 1024),
        ("prior.unseen_weight", config.prior.unseen_weight, 1e-6, 1.0),
        ("seed", config.seed, 0, 2**31 - 1),
    ):
        check_range(name, value, low, high)
    if config.prior.num_signals:
        signals = config.prior.num_signals
        check_range("prior.num_signals", signals, 2, _MAX_SIGNALS)
    learner = config.learner
    if learner.inner_steps > learner.eval_steps:
        raise InputError(
            "`learner.eval_steps` must be at least `learner.inner_steps`. "
            f"Received: {learner.eval_steps} and {learner.inner_steps}"
        )
    if config.num_steps % validation.every:
        raise InputError(
            "`num_steps` must be a multiple of `validation.every`. Received: "
            f"{config.num_steps} and {validation.every}"
        )
    check_evaluation(config.evaluation)
    return config


def check_evaluation(settings: ml_collections.ConfigDict) -> None:
    """Raises InputError for settings that cannot make an evaluation."""
    for name, limit in (
        ("num_signals", _MAX_SIGNALS),
        ("num_tuning_signals", _MAX_SIGNALS),
        ("num_match_signals", _MAX_SIGNALS),
        ("num_steps", _MAX_EVALUATION_STEPS),
        ("max_match_steps", _MAX_EVALUATION_STEPS),
        ("num_fit_steps", _MAX_EVALUATION_STEPS),
    ):
        check_range(f"evaluation.{name}", settings[name], 1, limit)
    for name in ("sgd_rates", "adam_rates"):
        rates = settings[name]
        if not rates or not all(
            isinstance(rate, (int, float)) and 0 < rate < math.inf
            for rate in rates
        ):
            raise InputError(
                f"`evaluation.{name}` must be a list of positive numbers. "
                f"Received: {rates}"
            )


def as_json(config: ml_collections.ConfigDict) -> dict:
    """The config as it will be read back: tuples become lists."""
    try:
        return json.loads(config.copy_and_resolve_references().to_json())
    except TypeError as error:
        raise InputError(
            "A config must hold numbers, strings, lists and sections of them. "
            f"Received: {reason(error)}"
        ) from error


def complete(content: dict, source) -> ml_collections.ConfigDict:
    """A config as JSON has it, with the defaults of fields that it lacks.

    Args:
        content: what was read.
        source: from where, for the error message.

    Raises:
        InputError: if a field is of another type than in configs/default.py.
    """
    config = default.get_config()
    # The class of signals checks its own options.
    config.signal = ml_collections.ConfigDict({"name": ""})
    try:
        _check_fields(content, config)
        config.update(content)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            "A config must have the sections and types of configs/default.py. "
            f"Received: {source}, where {reason(error)}"
        ) from error
    return config.copy_and_resolve_references()


def _check_fields(content, config, prefix=""):
    """Raises TypeError for values that `ConfigDict.update` would take."""
    for key in content.keys() & config.keys():
        value, expected = content[key], config[key]
        if hasattr(expected, "items") and isinstance(value, dict):
            _check_fields(value, expected, f"{prefix}{key}.")
            continue
        is_none = value is None and expected is not None
        is_other = isinstance(value, bool) != isinstance(expected, bool)
        if (
            is_none
            or hasattr(expected, "items")
            or (is_other and expected is not None)
        ):
            raise TypeError(f"`{prefix}{key}` is {value!r}")
