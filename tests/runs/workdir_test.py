"""A run's folder: how its config is read back."""

import json

import pytest

from tfmetainit.configs import default as default_config
from tfmetainit.configs import text
from tfmetainit.io.errors import InputError
from tfmetainit.runs.workdir import Workdir


@pytest.mark.parametrize(
    ("section", "field", "value", "parts"),
    [
        ("learner", "inner_lr", "1e-2", ["inner_lr", "1e-2"]),
        ("learner", "name", 3, ["name", "3"]),
        ("learner", "learn_step_sizes", 1, ["learn_step_sizes", "1"]),
        ("learner", "chunk", "x", ["chunk", "x"]),
        ("evaluation", "sgd_rates", 0.1, ["sgd_rates", "0.1"]),
        (None, "optimizer", [], []),
        (None, "warm_start", 1, ["warm_start", "1"]),
    ],
)
def test_a_config_file_that_is_none(
    tmp_path, section, field, value, parts, raises_with
):
    config = json.loads(text.get_config("smoke").to_json())
    (config[section] if section else config)[field] = value
    (tmp_path / "config.json").write_text(json.dumps(config))
    with raises_with(InputError, tmp_path / "config.json", *parts):
        Workdir(tmp_path).read_config()


def test_a_field_that_is_missing_has_its_default(tmp_path):
    config = json.loads(text.get_config("smoke").to_json())
    del config["optimizer"]["output_gain"]
    del config["evaluation"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    config = Workdir(tmp_path).read_config()
    default = default_config.get_config()
    assert config.optimizer.output_gain == default.optimizer.output_gain
    assert config.evaluation.num_steps == default.evaluation.num_steps
