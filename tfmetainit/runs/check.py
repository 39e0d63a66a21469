"""What a config must be: checked before a run begins, and when it is read."""

import json
import math

import ml_collections

from tfmetainit.configs import default
from tfmetainit.io.errors import InputError, check_range, reason

MAX_STEPS = 10_000_000
_MAX_SIGNALS = 10_000
_MAX_EVALUATION_STEPS = 100_000


def check_config(config) -> None:
    """Raises InputError unless a run can be made of a config, and read back."""
    if not isinstance(config, ml_collections.ConfigDict):
        raise InputError(
            "`get_config` of a config file must return an ml_collections."
            f"ConfigDict. Received: a {type(config).__name__}"
        )
    problem = config_problem(as_json(config))
    if problem:
        wanted, received = problem
        raise InputError(f"A config must have {wanted}. Received: {received}")
    start = config.get("warm_start")
    if start == "" or not isinstance(start, (str, type(None))):
        raise InputError(
            "`warm_start` must name a run or a file of weights, or be None. "
            f"Received: {start!r}"
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
        ("seed", config.seed, 0, 2**31 - 1),
    ):
        check_range(name, value, low, high)
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


def config_problem(config) -> tuple[str, object] | None:
    """The first field that a config, as JSON, lacks or has of another type.

    Returns:
        What is expected, in words, and what was found; or None.
    """
    expected = as_json(default.get_config())
    # The class of signals checks its own options.
    expected["signal"] = {"name": ""}
    return difference(config, expected, "config")


def difference(found, expected, name: str) -> tuple[str, object] | None:
    """The first field that is not of the expected type, or None.

    Args:
        found: what was read from JSON.
        expected: what it must have at least; values stand for their types, and
            None for any value or none.
        name: of the two.

    Returns:
        What is expected, in words, and what was found instead.
    """
    if isinstance(expected, dict):
        if not isinstance(found, dict):
            return f"the section `{name}`", found
        for key, value in expected.items():
            problem = difference(found.get(key), value, f"{name}.{key}")
            if problem:
                return problem
        return None
    if isinstance(expected, bool):
        wanted, valid = f"true or false for `{name}`", isinstance(found, bool)
    elif isinstance(expected, (int, float)):
        # For Python, true is a number.
        wanted = f"a number for `{name}`"
        valid = type(found) in (int, float) and math.isfinite(found)
    elif isinstance(expected, list):
        wanted = f"a list of numbers for `{name}`"
        valid = isinstance(found, list) and found
        valid = valid and not any(
            difference(item, expected[0], name) for item in found
        )
    elif expected is None:
        wanted = f"a value for `{name}`"
        valid = found is None or isinstance(found, (bool, int, float, str))
    else:
        wanted, valid = f"a string for `{name}`", isinstance(found, str)
    return None if valid else (wanted, found)
