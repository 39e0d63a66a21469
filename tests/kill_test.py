"""kill -9 at twenty random moments: nothing is corrupt, nothing is lost."""

import subprocess
import sys

import numpy as np
import pytest

from tfmetainit.litert.artifact import LiteArtifact
from tfmetainit.runs.workdir import Workdir

pytestmark = pytest.mark.slow


def _killed(command, longest, seed, times):
    """Starts a command again and again, killing it after a random time.

    Yields after every start whether it was killed, or had ended by itself.
    """
    rng = np.random.default_rng(seed)
    for _ in range(times):
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            process.wait(timeout=rng.uniform(0.0, longest))
        except subprocess.TimeoutExpired:
            process.kill()
        yield process.wait() < 0


def _run(command):
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def _command(name, *arguments):
    return [sys.executable, "-m", f"tfmetainit.{name}", *arguments]


def test_training(smoke_run, tmp_path, arrays_of):
    def command(name):
        return _command(
            "train",
            "--config=configs/text.py:smoke",
            f"--config.signal.data_dir={smoke_run / 'data'}",
            *("--config.num_steps=300", "--config.validation.every=2"),
            f"--workdir={tmp_path / name}",
        )

    _run(command("whole"))
    killed = Workdir(tmp_path / "killed")
    struck = 0
    for was_killed in _killed(command("killed"), 16.0, seed=0, times=8):
        struck += was_killed
        for path in (killed.last, killed.best):
            if path.exists():
                assert arrays_of(path)
    assert struck >= 4
    _run(command("killed"))
    whole = Workdir(tmp_path / "whole")
    for name in ("last", "best"):
        expected = arrays_of(getattr(whole, name))
        found = arrays_of(getattr(killed, name))
        assert expected.keys() == found.keys()
        for key, value in expected.items():
            np.testing.assert_array_equal(found[key], value)
    assert whole.best_record.read_text() == killed.best_record.read_text()
    files = {path.name for path in killed.last.parent.iterdir()}
    assert files == {
        *("last.weights.h5", "last.json"),
        *("best.weights.h5", "best.json"),
    }


def test_export(smoke_run, tmp_path):
    def command(name, max_steps):
        return _command(
            "export",
            f"--workdir={smoke_run / 'run'}",
            f"--output_dir={tmp_path / name}",
            f"--max_steps={max_steps}",
        )

    _run(command("old", 3))
    _run(command("whole", 4))
    _run(command("killed", 3))
    contents = [
        (tmp_path / name / "model.tflite").read_bytes()
        for name in ("old", "whole")
    ]
    names = {
        p.relative_to(tmp_path / "whole")
        for p in (tmp_path / "whole").rglob("*")
    }
    struck = 0
    for was_killed in _killed(command("killed", 4), 20.0, seed=1, times=6):
        struck += was_killed
        killed = tmp_path / "killed"
        # All of the one before, all of this one; or neither, in the moment
        # between two renames.
        if killed.exists():
            assert (killed / "model.tflite").read_bytes() in contents
            LiteArtifact(killed / "model.tflite")
            assert {p.relative_to(killed) for p in killed.rglob("*")} == names
    assert struck >= 2
    _run(command("killed", 4))
    assert (tmp_path / "killed" / "model.tflite").read_bytes() == contents[1]


def test_fitting_a_dataset(smoke_run, tmp_path):
    def command(name):
        return _command(
            "fit_dataset",
            f"--workdir={smoke_run / 'run'}",
            *("--split=train", "--signals_per_file=2", "--steps=200"),
            f"--output_dir={tmp_path / name}",
        )

    def files(name):
        return {
            p.name: p.read_bytes()
            for p in (tmp_path / name).iterdir()
            if not p.name.startswith(".")
        }

    _run(command("whole"))
    whole, struck = files("whole"), 0
    for was_killed in _killed(command("killed"), 12.0, seed=2, times=6):
        struck += was_killed
        if (tmp_path / "killed").exists():
            for name, content in files("killed").items():
                # TFDS writes the metadata in place, at the very end.
                if "tfrecord" in name:
                    assert content == whole[name]
    assert struck >= 2
    _run(command("killed"))
    assert files("killed") == whole
