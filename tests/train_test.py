"""Training: what it writes, and when it ends."""

import json

import numpy as np
import pytest

from tfmetainit import train
from tfmetainit.configs import objects
from tfmetainit.io.errors import TrainingDivergedError
from tfmetainit.runs import build
from tfmetainit.runs.workdir import Workdir


def test_train_writes_a_run(tmp_path, small_config):
    config = small_config()
    summary = train.train(config, tmp_path / "run")
    workdir = Workdir(tmp_path / "run")
    assert summary["step"] == 8
    assert json.loads(workdir.config.read_text())["num_steps"] == 8
    assert workdir.read_config().signal.name == "text"
    events = [p.name for p in workdir.tensorboard.rglob("events*")]
    assert len(events) == 3  # training, validation, reconstructions
    assert not list(workdir.root.rglob(".*"))  # no temporary files
    learner = build.load(workdir.root)
    best = json.loads(workdir.best_record.read_text())
    signal = build.build_signal(config)
    learner.compile()
    logs = learner.evaluate(
        signal.make_dataset("validation", 1).take(4),
        verbose=0,
        return_dict=True,
    )
    np.testing.assert_allclose(logs["psnr_2"], best["psnr"], atol=1e-4)
    # Learned step sizes are among the weights, and have moved.
    sizes = [float(s) for s in learner.step_sizes.as_params()]
    assert any(abs(s - 1e-2) > 1e-6 for s in sizes)


def test_a_config_may_be_mended_before_anything_was_trained(
    tmp_path, small_config
):
    with pytest.raises(TrainingDivergedError):
        train.train(small_config(**{"learner.inner_lr": 1e6}), tmp_path)
    assert train.train(small_config(), tmp_path)["step"] == 8
    assert Workdir(tmp_path).read_config().learner.inner_lr == 1e-2


def test_a_diverging_inner_loop_stops_the_run(
    tmp_path, small_config, raises_with
):
    config = small_config(**{"learner.inner_lr": 1e6})
    parts = ["outer step", "`learner.inner_lr`", "1e+06"]
    with raises_with(TrainingDivergedError, *parts):
        train.train(config, tmp_path)


def test_a_dead_field_ends_the_run(tmp_path, raises_with):
    """A NeRF whose ReLU densities are zero at the start has no gradient."""
    config = objects.get_config("smoke")
    config.signal.data_dir = str(tmp_path / "data")
    config.num_steps = config.validation.every = 3
    config.field.density = "relu"
    config.field.density_shift = -1e6
    with raises_with(TrainingDivergedError, "`field.density`"):
        train.train(config, tmp_path / "run")
    config.field.density = "softplus"
    config.field.density_shift = -1.0
    train.train(config, tmp_path / "other")
