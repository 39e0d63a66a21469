import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import warnings

# TFDS, TensorFlow and their dependencies warn when they are imported; what
# this package's own code does afterwards must not.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import tensorflow  # noqa: F401
    import tensorflow_datasets
    import tensorflow_datasets.testing  # noqa: F401

import atexit
import contextlib
import functools
import json
import pathlib
import select
import subprocess
import sys
import tempfile

import h5py
import keras
import numpy as np
import pytest

from tfmetainit import train
from tfmetainit.configs import text
from tfmetainit.runs.workdir import Workdir


@pytest.fixture(autouse=True)
def _seeded():
    keras.utils.set_random_seed(0)


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory):
    """A folder with a run of the smallest config, and its data.

    Shared by all tests: who writes into the run works on a copy.
    """
    folder = tmp_path_factory.mktemp("smoke")
    config = text.get_config("smoke")
    config.signal.data_dir = str(folder / "data")
    train.train(config, folder / "run")
    return folder


@pytest.fixture(scope="session")
def small_config(smoke_run):
    """Makes the smallest config, of 8 steps; some of its fields may be set."""

    def make(**fields):
        config = text.get_config("smoke")
        config.signal.data_dir = str(smoke_run / "data")
        config.num_steps = 8
        config.validation.every = 2
        config.update_from_flattened_dict(fields)
        return config

    return make


@pytest.fixture
def reference_dir():
    """The folder of the authors' released weights, where there is one."""
    folder = os.environ.get("TFMETAINIT_REFERENCE_DIR")
    if not folder:
        pytest.skip("TFMETAINIT_REFERENCE_DIR is not set")
    return folder


def _arrays_of(path):
    arrays = {}

    def visit(name, item):
        if isinstance(item, h5py.Dataset):
            arrays[name] = item[()]

    with h5py.File(path) as file:
        file.visititems(visit)
    return arrays


@pytest.fixture(scope="session")
def arrays_of():
    """Reads all arrays of a weights file, by their paths in it."""
    return _arrays_of


def _assert_same_run(a, b):
    a, b = Workdir(a), Workdir(b)
    for name in ("last", "best"):
        ours, theirs = (_arrays_of(getattr(w, name)) for w in (a, b))
        assert ours.keys() == theirs.keys()
        assert any("optimizer" in key for key in ours)
        for key, value in ours.items():
            np.testing.assert_array_equal(value, theirs[key], err_msg=key)
    assert a.best_record.read_text() == b.best_record.read_text()


@pytest.fixture(scope="session")
def assert_same_run():
    """Asserts that two runs have the same checkpoints, bit by bit."""
    return _assert_same_run


_TIMEOUT = 600  # seconds


@functools.cache
def _command_server():
    server = subprocess.Popen(
        [sys.executable, pathlib.Path(__file__).parent / "command_server.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # The commands themselves hide what TensorFlow says at its start.
        env={
            **os.environ,
            "KERAS_BACKEND": "tensorflow",
            "TF_CPP_MIN_LOG_LEVEL": "3",
        },
    )
    atexit.register(server.communicate)  # ends it, by the end of its input
    return server


def _run_command(command, *arguments, cwd=None):
    server = _command_server()
    with tempfile.TemporaryDirectory() as folder:
        outputs = [pathlib.Path(folder, name) for name in ("out", "err")]
        request = {
            "module": f"tfmetainit.{command}",
            "arguments": list(map(str, arguments)),
            "cwd": str(cwd or os.getcwd()),
            "environment": dict(os.environ),
            "stdout": str(outputs[0]),
            "stderr": str(outputs[1]),
        }
        server.stdin.write(f"{json.dumps(request)}\n")
        server.stdin.flush()
        ended, _, _ = select.select([server.stdout], [], [], _TIMEOUT)
        assert ended, f"tfmetainit.{command} did not end in {_TIMEOUT} s"
        code = int(server.stdout.readline())
        return subprocess.CompletedProcess(
            arguments, code, *(path.read_text() for path in outputs)
        )


def _assert_one_sentence(result, *parts, code=2):
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    for part in parts:
        assert part in lines[0]


@pytest.fixture(scope="session")
def run_command():
    """Runs `python -m tfmetainit.<command>`, in a fork of one process."""
    return _run_command


@pytest.fixture(scope="session")
def assert_one_sentence():
    """Asserts that a process ended with one sentence and an exit code."""
    return _assert_one_sentence


@contextlib.contextmanager
def _raises_with(error_type, *parts):
    with pytest.raises(error_type) as caught:
        yield
    for part in parts:
        assert str(part) in str(caught.value), caught.value


@pytest.fixture(scope="session")
def raises_with():
    """`pytest.raises`, and that the message names some values."""
    return _raises_with
