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

import subprocess
import sys

import h5py
import keras
import pytest

from tfmetainit import train
from tfmetainit.configs import text


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


def _run_command(command, *arguments, cwd=None):
    environment = dict(os.environ)
    # Set above; a user has not set it.
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
    return subprocess.run(
        [sys.executable, "-m", f"tfmetainit.{command}", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment,
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
    """Runs `python -m tfmetainit.<command>` as a user does."""
    return _run_command


@pytest.fixture(scope="session")
def assert_one_sentence():
    """Asserts that a process ended with one sentence and an exit code."""
    return _assert_one_sentence
