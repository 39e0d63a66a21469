"""Runs that were stopped go on as if they had not been."""

import os
import shutil
import signal as os_signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from PIL import Image

from tfmetainit import train
from tfmetainit.configs import image_folder
from tfmetainit.io import files
from tfmetainit.io.errors import InputError
from tfmetainit.runs import build
from tfmetainit.runs.workdir import Workdir


class _StoppedError(Exception):
    pass


class _StopAfter(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            raise _StoppedError


def test_resumed_run_equals_an_unbroken_one(
    tmp_path, monkeypatch, assert_same_run, small_config
):
    """Bit for bit: weights, step sizes, optimizer, best checkpoint."""
    config = small_config()
    train.train(config, tmp_path / "whole")
    fit = keras.Model.fit

    def broken_fit(self, *args, callbacks, **kwargs):
        return fit(self, *args, callbacks=[*callbacks, _StopAfter()], **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(keras.Model, "fit", broken_fit)
        with pytest.raises(_StoppedError):
            train.train(config, tmp_path / "broken")
    train.train(config, tmp_path / "broken")
    assert_same_run(tmp_path / "whole", tmp_path / "broken")


def test_killed_run_resumes_to_the_same_result(
    tmp_path, assert_same_run, small_config, run_command
):
    """kill -9 from outside, at whatever moment it strikes."""
    config = small_config(num_steps=16)
    train.train(config, tmp_path / "whole")
    command = [
        *(sys.executable, "-m", "tfmetainit.train"),
        "--config=configs/text.py:smoke",
        f"--workdir={tmp_path / 'killed'}",
        f"--config.signal.data_dir={config.signal.data_dir}",
        "--config.num_steps=16",
        "--config.validation.every=2",
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    last = Workdir(tmp_path / "killed").last
    while not last.exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(os_signal.SIGKILL)
    assert process.wait() == -os_signal.SIGKILL  # it had not finished
    resumed = run_command("train", *command[3:])
    assert resumed.returncode == 0, resumed.stderr
    assert "Resuming" in resumed.stderr
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


def test_a_finished_run_is_left_alone(tmp_path, arrays_of, small_config):
    config = small_config()
    train.train(config, tmp_path)
    before = arrays_of(Workdir(tmp_path).last)
    # But not what a killed process left beside its checkpoints.
    leftover = Workdir(tmp_path).last.parent / ".last.weights.h5.x1y2.h5"
    leftover.touch()
    assert train.train(config, tmp_path)["step"] == 8
    assert not leftover.exists()
    after = arrays_of(Workdir(tmp_path).last)
    for key in before:
        np.testing.assert_array_equal(before[key], after[key])


def test_one_training_at_a_time(tmp_path, small_config, raises_with):
    workdir = Workdir(tmp_path / "run")
    train.train(small_config(), workdir.root)
    leftover = workdir.last.with_name(f".{workdir.last.name}.0")
    leftover.touch()  # as of a checkpoint that is being written
    with (
        files.lock(workdir.lock),
        raises_with(InputError, "`workdir`", workdir.root),
    ):
        train.train(small_config(), workdir.root)
    assert leftover.exists()
    train.train(small_config(), workdir.root)
    assert not leftover.exists()


def test_another_config_is_refused(tmp_path, small_config, raises_with):
    train.train(small_config(), tmp_path)
    other = small_config(**{"learner.inner_lr": 0.5})
    with raises_with(InputError, "`config.learner.inner_lr`", "0.01", "0.5"):
        train.train(other, tmp_path)


def test_a_damaged_checkpoint_is_named(tmp_path, small_config, raises_with):
    config = small_config()
    train.train(config, tmp_path)
    last = Workdir(tmp_path).last
    last.write_bytes(last.read_bytes()[:1000])
    with raises_with(InputError, last):
        train.train(config, tmp_path)
    assert last.stat().st_size == 1000  # nothing was overwritten
    for path in (Workdir(tmp_path).best, Workdir(tmp_path).best_record):
        path.unlink()
        with raises_with(InputError, tmp_path, path.name):
            train.train(config, tmp_path)
        path.touch()
    Workdir(tmp_path).best.unlink()
    with raises_with(InputError, Workdir(tmp_path).best):
        build.load(tmp_path)


def test_a_run_goes_on_with_its_own_files_only(tmp_path, raises_with):
    config = image_folder.get_config("smoke")
    config.signal.folder = str(tmp_path / "photos")
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    for index in range(60):
        pixels = rng.integers(0, 255, (9, 9, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{index}.png")
    train.train(config, tmp_path / "run")
    train.train(config, tmp_path / "run")
    for change, undo in (("60.png", None), (None, "7.png")):
        if change:
            Image.new("RGB", (9, 9)).save(tmp_path / "photos" / change)
        else:
            (tmp_path / "photos" / undo).rename(tmp_path / undo)
        with raises_with(
            InputError, tmp_path / "run", "`config.warm_start`", change or undo
        ):
            train.train(config, tmp_path / "run")
        if change:
            (tmp_path / "photos" / change).unlink()
        else:
            (tmp_path / undo).rename(tmp_path / "photos" / undo)
    # Files that are not read may appear, and the folder may be copied.
    (tmp_path / "photos" / "notes.md").write_text("found later")
    shutil.copytree(tmp_path / "photos", tmp_path / "copy")
    for path in (f"{tmp_path}/copy/../photos/", f"{tmp_path}/copy"):
        config.signal.folder = path
        train.train(config, tmp_path / "run")
    read = Workdir(tmp_path / "run").read_config()
    assert read.signal.folder == f"{tmp_path}/copy"
    # A list of splits of the same size as another.
    (tmp_path / "copy" / "splits.txt").write_text("1.png test\n")
    with raises_with(InputError, "splits.txt", "missing then"):
        train.train(config, tmp_path / "run")
    # A record of another version.
    files.write_json(Workdir(tmp_path / "run").sources, {"files": "0123"})
    with raises_with(InputError, "sources.json", "`config.warm_start`"):
        train.train(config, tmp_path / "run")


def test_a_workdir_among_the_signals_is_refused(tmp_path, raises_with):
    config = image_folder.get_config("smoke")
    config.signal.folder = str(tmp_path)
    with raises_with(InputError, "`workdir`", "`folder`", tmp_path):
        train.train(config, tmp_path / "runs" / "mine")
    assert not (tmp_path / "runs").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_workdir_is_named(tmp_path, small_config, raises_with):
    tmp_path.chmod(0o500)
    with raises_with(InputError, tmp_path):
        train.train(small_config(), tmp_path / "run")
