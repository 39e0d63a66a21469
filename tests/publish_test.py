"""Small copies of runs, and those that come with the package."""

import shutil

import numpy as np
import pytest

import tfmetainit
from tfmetainit import evaluate, publish, train
from tfmetainit.configs import text
from tfmetainit.io import files
from tfmetainit.io.errors import InputError
from tfmetainit.meta import functional
from tfmetainit.runs.workdir import Workdir, find_run, pretrained_names


@pytest.fixture(scope="module")
def folder(tmp_path_factory, smoke_run):
    folder = tmp_path_factory.mktemp("publish")
    shutil.copytree(smoke_run / "run", folder / "run")
    evaluate.evaluate(folder / "run", options={"num_signals": 2})
    publish.publish(folder / "run", folder / "copy", "Apache-2.0")
    return folder


def test_a_copy_is_a_run(folder, arrays_of):
    ours, theirs = (tfmetainit.load(folder / name) for name in ("run", "copy"))
    for a, b in zip(ours.get_weights(), theirs.get_weights()):
        np.testing.assert_array_equal(a, b)
    stored = arrays_of(Workdir(folder / "copy").best)
    assert not any("optimizer" in name for name in stored)


def test_large_kernels_have_half_the_precision(arrays_of, tmp_path):
    publish.publish("photos_128", tmp_path / "copy", "Apache-2.0")
    stored = arrays_of(Workdir(tmp_path / "copy").best)
    assert {a.shape for a in stored.values() if a.dtype == np.float16} == {
        (256, 256)
    }
    for ours, theirs in zip(
        tfmetainit.load("photos_128").get_weights(),
        tfmetainit.load(tmp_path / "copy").get_weights(),
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_a_copy_names_no_path(folder):
    for path in (folder / "copy").rglob("*"):
        if path.is_file():
            assert str(folder.parent).encode() not in path.read_bytes()


def test_the_card_has_the_results(folder):
    card = (folder / "copy" / "README.md").read_text()
    assert "- License: Apache-2.0" in card
    assert (
        "| Learned | SGD, learned step sizes, half of the pixels, solved | "
        in card
    )
    assert 'tfmetainit.load("copy")' in card


def test_the_results_of_other_weights_are_left_out(folder, tmp_path):
    """Of a run that was trained on after its evaluation."""
    shutil.copytree(folder / "run", tmp_path / "run")
    workdir = Workdir(tmp_path / "run")
    best = workdir.read_best()
    files.write_json(workdir.best_record, {**best, "step": best["step"] + 1})
    publish.publish(workdir.root, tmp_path / "copy", "MIT")
    card = (tmp_path / "copy" / "README.md").read_text()
    assert "It was not evaluated." in card
    assert "| Learned |" not in card


def test_files_of_the_user_s_are_not_replaced_by_embedded_signals(folder):
    config = find_run(folder / "run").read_config()
    config.signal.folder = "/home/me/slices"
    assert publish._public(config)["signal"]["folder"] == "(not published)"
    config.signal.folder = None
    assert publish._public(config)["signal"]["folder"] is None


@pytest.mark.parametrize(
    "content",
    [[], {"conditions": []}, {"conditions": [{"rows": [{}]}]}, {}],
)
def test_damaged_results_are_named(folder, tmp_path, content, raises_with):
    shutil.copytree(folder / "run", tmp_path / "run")
    step = Workdir(tmp_path / "run").read_best()["step"]
    if isinstance(content, dict):
        content = {"outer_step": step, **content}
    path = tmp_path / "run" / "evaluation" / "results.json"
    files.write_json(path, content)
    with raises_with(InputError, path):
        publish.publish(tmp_path / "run", tmp_path / "copy", "MIT")
    assert not (tmp_path / "copy").exists()


def test_nothing_is_overwritten(folder, raises_with):
    (folder / "file").touch()
    for name in ("copy", "file"):
        with raises_with(InputError, "`output_dir`", folder / name):
            publish.publish(folder / "run", folder / name, "Apache-2.0")


def test_there_are_runs_in_the_package():
    assert "chairs_64" in pretrained_names()


@pytest.mark.parametrize("name", pretrained_names())
def test_the_package_s_own_runs(name, tmp_path, monkeypatch, raises_with):
    """They load by their names, are small, and have their cards."""
    monkeypatch.chdir(tmp_path)
    workdir = find_run(name)
    assert workdir.best.stat().st_size < 1_000_000
    assert (
        f'tfmetainit.load("{name}")' in (workdir.root / "README.md").read_text()
    )
    learner = tfmetainit.load(name)
    for params in functional.get_params(learner.field):
        assert np.isfinite(params).all()
    with raises_with(InputError, "`output_dir`", name):
        evaluate.evaluate(name)
    # A run of the user's goes first; what else has the name does not.
    (tmp_path / name).mkdir()
    assert find_run(f"{name}/").root == workdir.root
    (tmp_path / name / "config.json").write_text("{}")
    assert find_run(name).root == Workdir(name).root


def test_a_copy_is_not_trained_over(folder, raises_with):
    copy = Workdir(folder / "copy")
    before = copy.best.read_bytes()
    best = copy.read_best()
    # The first epoch of a run was perhaps killed, but that of no copy.
    for step in (1, 10**6):
        files.write_json(copy.best_record, {**best, "step": step})
        with raises_with(InputError, "`workdir`", copy.root):
            train.train(text.get_config("smoke"), copy.root)
    assert copy.best.read_bytes() == before
    files.write_json(copy.best_record, best)


def test_a_damaged_record_is_one_sentence(folder, tmp_path, raises_with):
    shutil.copytree(folder / "run", tmp_path / "run")
    record = Workdir(tmp_path / "run").best_record
    for damaged in ({"step": 4}, {"step": 4, "psnr": "high"}, [1]):
        files.write_json(record, damaged)
        with raises_with(InputError, record):
            publish.publish(tmp_path / "run", tmp_path / "out", "MIT")
