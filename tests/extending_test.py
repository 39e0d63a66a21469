"""The examples of docs/extending.md, as a user would run them."""

import importlib
import pathlib
import re
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfmetainit import fit, runs, train
from tfmetainit.export import exporter

_PAGE = pathlib.Path(__file__).parent.parent / "docs" / "extending.md"


# For the session: TFDS takes a data set's name once in a process, and a worker
# that steals tests may come back to this module.
@pytest.fixture(scope="session")
def examples(tmp_path_factory):
    """A folder with the modules of the page, importable."""
    folder = tmp_path_factory.mktemp("examples")
    blocks = re.findall(
        r"```python\n# (\w+\.py)\n(.*?)```", _PAGE.read_text(), re.S
    )
    for name, code in blocks:
        (folder / name).write_text(code)
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))


@pytest.fixture
def config(examples, tmp_path):
    config = importlib.import_module("my_config").get_config("smoke")
    config.signal.data_dir = str(tmp_path / "data")
    return config


def test_every_python_example_is_a_module(examples):
    assert _PAGE.read_text().count("```python") == len(
        list(examples.glob("*.py"))
    )


def test_a_signal_class(config, tmp_path):
    summary = train.train(config, tmp_path / "run")
    assert np.isfinite(summary["best_psnr"])


def test_a_modality(examples, tmp_path):
    folder = tmp_path / "films"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(30):
        first, *others = (
            Image.fromarray(np.uint8(rng.integers(0, 255, [20, 24, 3])))
            for _ in range(6)
        )
        path = folder / f"{index}.gif"
        first.save(path, save_all=True, append_images=others)
    config = importlib.import_module("my_video_config").get_config("smoke")
    config.signal.folder = str(folder)
    config.signal.frames = 3
    config.signal.resolution = 8
    run = tmp_path / "run"
    train.train(config, run)
    fitted = fit.fit(run, folder / "0.gif", tmp_path / "fit.png", steps=3)
    assert len(fitted.psnr) == 4
    with Image.open(tmp_path / "fit.png") as picture:
        assert picture.size == (3 * 8, 8)
    summary = exporter.export(run, tmp_path / "exported", max_steps=4)
    assert summary.example is None
    assert max(summary.differences.values()) < 1e-4


def test_a_forward_model(config, tmp_path):
    config.signal.name = "my_cells"
    config.learner.output_layer = "stepped"
    config.signal.resolution = 32
    train.train(config, tmp_path / "run")
    learner = runs.load(tmp_path / "run")
    signal = runs.load_signal(tmp_path / "run")
    batch = next(iter(signal.make_dataset("test", 1)))
    task = tf.nest.map_structure(lambda leaf: leaf[0], batch)
    assert task.support.values.shape == [1, 256, 3]
    assert task.query.values.shape == [1024, 3]
    # The mean of the cells' means is the mean of all pixels.
    np.testing.assert_allclose(
        tf.reduce_mean(task.support.values),
        tf.reduce_mean(task.query.values),
        atol=1e-5,
    )
    _, losses = learner.adapt(task.support, num_steps=2)
    assert np.isfinite(losses).all()


def test_a_field_and_a_learner(config, tmp_path):
    config.field.name = "my_field.GaussianMLP"
    config.learner.name = "my_learner.Joint"
    train.train(config, tmp_path / "run")
    learner = runs.load(tmp_path / "run")
    assert type(learner).__name__ == "Joint"
    assert type(learner.field).__name__ == "GaussianMLP"
    task = runs.load_signal(tmp_path / "run").make_dataset("test", 1)
    _, losses = learner.adapt(
        tf.nest.map_structure(lambda leaf: leaf[0], next(iter(task))).support, 2
    )
    assert np.isfinite(losses).all()
