"""What ends a training, and the checkpoints that stay."""

import json

import keras
import numpy as np
import pytest

from tfmetainit import train
from tfmetainit.configs import text
from tfmetainit.io import files
from tfmetainit.io.errors import InputError, TrainingDivergedError
from tfmetainit.runs import build
from tfmetainit.runs.workdir import Workdir
from tfmetainit.training import callbacks


def test_a_full_disk_keeps_the_last_good_state(
    tmp_path, monkeypatch, assert_same_run, small_config, raises_with
):
    real, asked = files.check_space, []

    def full_at_the_third(folder, size):
        asked.append(size)
        real(folder, size if len(asked) < 3 else 2**62)

    monkeypatch.setattr(files, "check_space", full_at_the_third)
    config = small_config()
    with raises_with(InputError, tmp_path / "run", 2**62):
        train.train(config, tmp_path / "run")
    last = Workdir(tmp_path / "run").last
    assert last.stat().st_size <= asked[0]
    assert sorted(p.name for p in last.parent.iterdir()) == [
        "best.json",
        "best.weights.h5",
        "last.json",
        "last.weights.h5",
    ]
    monkeypatch.undo()
    assert train.train(config, tmp_path / "run")["step"] == 8
    train.train(config, tmp_path / "whole")
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def test_what_counts_as_diverging(tmp_path, small_config, raises_with):
    checkpoints = callbacks.Checkpoints(
        Workdir(tmp_path), Workdir(tmp_path), "val_psnr_2"
    )
    checkpoints.best = 15.0
    callback = callbacks.StopOnDivergence(
        text.get_config().optimizer, checkpoints, floor=14.2
    )
    learner = build.build_learner(
        small_config(), build.build_signal(small_config())
    )
    learner.compile(keras.optimizers.Adam(0.1))
    callback.set_model(learner)

    def logs(loss, **others):
        return {
            "loss": loss,
            "loss_before": 0.06,
            "gradient_norm": 1.0,
            "val_psnr_2": 14.3,
            **others,
        }

    callback.set_params({"steps": 2})  # too few to tell
    for loss in (0.001, 0.07):
        callback.on_epoch_end(0, logs(loss))
    callback.set_params({"steps": 250})
    callback.on_epoch_end(0, logs(0.02))
    callback.on_epoch_end(1, logs(0.07))
    assert checkpoints.best_loss == pytest.approx(0.02)
    callback.on_train_batch_end(3, logs(0.2))
    with raises_with(TrainingDivergedError, "`learner.inner_lr`", "0.2"):
        callback.on_train_batch_end(80, logs(0.2))
    for values, parts in (
        ({"val_psnr_1": np.nan}, ["psnr_1"]),
        ({"loss": 0.09}, ["0.02", "0.09"]),
        ({"val_psnr_2": 14.1}, ["15.00", "14.10"]),
    ):
        with raises_with(TrainingDivergedError, *parts):
            callback.on_epoch_end(2, {**logs(0.02), **values})
    with raises_with(TrainingDivergedError, "`optimizer.learning_rate`"):
        callback.on_train_batch_end(0, logs(np.nan, loss_before=np.nan))
    with raises_with(TrainingDivergedError, "`optimizer.learning_rate`"):
        callback.on_epoch_end(2, logs(0.02, val_psnr_0=np.nan))
    # What was never better than one colour has not collapsed.
    checkpoints.best = 14.3
    callback.on_epoch_end(3, logs(0.02, val_psnr_2=14.1))


def test_checkpoints_survive_a_run_that_diverges(
    tmp_path, arrays_of, small_config
):
    config = small_config()
    train.train(config, tmp_path)
    before = arrays_of(Workdir(tmp_path).last)
    worse = small_config(**{"learner.inner_lr": 1e6, "num_steps": 12})
    # The same folder, as if the user had edited config.json.
    raw = json.loads(Workdir(tmp_path).config.read_text())
    raw["learner"]["inner_lr"] = 1e6
    raw["num_steps"] = 12
    Workdir(tmp_path).config.write_text(json.dumps(raw))
    with pytest.raises(TrainingDivergedError):
        train.train(worse, tmp_path)
    after = arrays_of(Workdir(tmp_path).last)
    for key in before:
        np.testing.assert_array_equal(before[key], after[key])
