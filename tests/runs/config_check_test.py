"""What a config must be."""

import math
import pathlib

import pytest

from tfmetainit import train
from tfmetainit.io.errors import InputError


@pytest.mark.parametrize(
    ("field", "value", "parts"),
    [
        ("num_steps", 7, ["`num_steps`", "`validation.every`", "7"]),
        ("num_steps", 0, ["`num_steps`", "[1, "]),
        ("optimizer.warmup_steps", 8, ["`optimizer.warmup_steps`", "[0, 7]"]),
        ("batch_size", 0, ["`batch_size`"]),
        ("seed", -1, ["`seed`", "-1"]),
        (
            "learner.inner_steps",
            4,
            ["`learner.eval_steps`", "`learner.inner_steps`", "4"],
        ),
        (
            "optimizer.output_gain",
            math.inf,
            ["`optimizer.output_gain`", "inf"],
        ),
        (
            "optimizer.learning_rate",
            math.nan,
            ["`optimizer.learning_rate`", "nan"],
        ),
        ("matmul_precision", "tf32", ["`matmul_precision`", "'tf32'"]),
        ("warm_start", "", ["`warm_start`", "''"]),
        ("evaluation.sgd_rates", (), ["`evaluation.sgd_rates`", "()"]),
        (
            "evaluation.adam_rates",
            (0.1, -1.0),
            ["`evaluation.adam_rates`", "-1.0"],
        ),
        ("evaluation.num_steps", 0, ["`evaluation.num_steps`"]),
    ],
)
def test_wrong_configs_are_named(
    tmp_path, field, value, parts, small_config, raises_with
):
    config = small_config(**{field: value})
    with raises_with(InputError, *parts):
        train.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_config_holds_what_json_does(tmp_path, small_config, raises_with):
    config = small_config()
    with config.unlocked():
        config.signal.mine = pathlib.Path("a")
    with raises_with(InputError, "Path"):
        train.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
