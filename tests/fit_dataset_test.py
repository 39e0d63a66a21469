"""Fitting all signals of a split, and the dataset that comes of it."""

import json
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from tfmetainit import fit, fit_dataset, runs, train
from tfmetainit.configs import ct_maml, image_folder, objects
from tfmetainit.export import exporter
from tfmetainit.io.errors import InputError, UserError
from tfmetainit.meta import functional
from tfmetainit.meta.tasks import psnr_from_mse
from tfmetainit.runs import RunFitter, build, workdir


@pytest.fixture(scope="module")
def folder(tmp_path_factory, smoke_run):
    """A folder with a smoke run and its export."""
    folder = tmp_path_factory.mktemp("bulk")
    shutil.copytree(smoke_run / "run", folder / "run")
    exporter.export(folder / "run", folder / "exported", formats=["tflite"])
    return folder


def _examples(path, split="test"):
    builder = tfds.builder_from_directory(str(path))
    return list(tfds.as_numpy(builder.as_dataset(split=split)))


def _files(path):
    """All files with their bytes, but for the metadata's own."""
    return {p.name: p.read_bytes() for p in path.iterdir()}


def test_weights_are_those_of_the_inner_loop(folder, tmp_path):
    summary = fit_dataset.fit_dataset(
        tmp_path / "out", workdir=folder / "run", steps=3, batch_size=3
    )
    examples = _examples(tmp_path / "out")
    assert [e["index"] for e in examples] == list(range(8))
    assert (summary.fitted, summary.num_signals) == (8, 8)
    learner = build.load(folder / "run")
    config = workdir.Workdir(folder / "run").read_config()
    tasks = build.build_signal(config).make_dataset("test", 1)
    for example, batch in zip(examples, tasks):
        task = tf.nest.map_structure(lambda leaf: leaf[0], batch)
        adapted, _ = learner.adapt(task.support, 3)
        np.testing.assert_allclose(
            example["theta"], functional.flatten(adapted), atol=1e-6
        )
        for name, params in (
            ("psnr_before", learner.adapt(task.support, 0)[0]),
            ("psnr", adapted),
        ):
            psnr = psnr_from_mse(learner.query_loss(params, task.query))
            np.testing.assert_allclose(example[name], psnr, atol=1e-3)
    mean = np.mean([e["psnr"] for e in examples])
    assert abs(summary.psnr - mean) < 1e-3
    plan = json.loads((tmp_path / "out" / "functaset.json").read_text())
    assert plan["steps"] == 3
    assert str(folder.parent) not in json.dumps(plan)


def test_shares_of_workers_are_together_the_whole(folder, tmp_path):
    def fit(name, **options):
        return fit_dataset.fit_dataset(
            tmp_path / name,
            workdir=folder / "run",
            split="train",
            num_signals=10,
            signals_per_file=3,
            batch_size=2,
            **options,
        )

    assert fit("whole").files_written == 4
    first = fit("shared", shard=(0, 2))
    assert (first.fitted, first.files_missing, first.psnr) == (6, 2, None)
    last = fit("shared", shard=(1, 2))
    assert (last.fitted, last.files_missing) == (4, 0)
    assert _files(tmp_path / "whole") == _files(tmp_path / "shared")
    # Of a file that is missing, nothing but that is made again.
    lost = sorted((tmp_path / "shared").glob("*.tfrecord-00001*"))
    lost[0].unlink()
    assert fit("shared").fitted == 3
    assert _files(tmp_path / "whole") == _files(tmp_path / "shared")
    assert fit("shared").fitted == 0
    examples = _examples(tmp_path / "shared", "train")
    assert [e["index"] for e in examples] == list(range(10))


def test_a_few_bits_a_weight(folder, tmp_path):
    """From a run and from an artifact, in shares, and read back in order."""
    plain = tmp_path / "plain"
    fit_dataset.fit_dataset(plain, workdir=folder / "run", steps=2)
    config = workdir.Workdir(folder / "run").read_config()
    for name, source in (
        ("python", {"workdir": folder / "run"}),
        (
            "lite",
            {
                "artifact": folder / "exported" / "model.tflite",
                "signal": config,
            },
        ),
    ):
        for share in ((0, 2), (1, 2)):
            summary = fit_dataset.fit_dataset(
                tmp_path / name,
                steps=2,
                bits=8,
                signals_per_file=3,
                shard=share,
                **source,
            )
        coded = list(runs.read_functaset(tmp_path / name))
        assert [one.index for one in coded] == list(range(8))
        for one, whole in zip(coded, runs.read_functaset(plain)):
            np.testing.assert_allclose(one.theta, whole.theta, atol=2e-3)
            np.testing.assert_allclose(one.psnr, whole.psnr, atol=0.05)
        mean = np.mean([one.psnr for one in coded])
        np.testing.assert_allclose(summary.psnr, mean, atol=1e-4)
        stored = sum(
            p.stat().st_size for p in (tmp_path / name).glob("*tfrecord*")
        )
        assert stored < 0.5 * sum(
            p.stat().st_size for p in plain.glob("*tfrecord*")
        )
    learned = build.load(folder / "run")
    task = next(iter(build.build_signal(config).make_dataset("test", 1)))
    query = tf.nest.map_structure(lambda leaf: leaf[0], task.query)
    first = next(runs.read_functaset(tmp_path / "python"))
    params = functional.unflatten(
        tf.constant(first.theta),
        [p.shape for p in functional.get_params(learned.field)],
    )
    np.testing.assert_allclose(
        psnr_from_mse(learned.query_loss(params, query)), first.psnr, atol=1e-3
    )


def test_an_unfinished_dataset_is_not_read(folder, tmp_path, raises_with):
    fit_dataset.fit_dataset(
        tmp_path / "out",
        workdir=folder / "run",
        signals_per_file=4,
        bits=6,
        shard=(0, 2),
    )
    with raises_with(InputError, tmp_path / "out", "not finished"):
        next(runs.read_functaset(tmp_path / "out"))
    with raises_with(InputError, "'bits'"):
        fit_dataset.fit_dataset(
            tmp_path / "out", workdir=folder / "run", signals_per_file=4
        )


def test_training_signals_come_in_order_and_whole(folder):
    config = workdir.Workdir(folder / "run").read_config()
    signal = build.build_signal(config)
    tasks = list(signal.all_tasks("train", 30))
    assert len(tasks) == 2  # of 32
    assert tasks[0].support.values.shape == (1, 16 * 16, 3)
    again = next(iter(signal.all_tasks("train", 31)))
    np.testing.assert_array_equal(tasks[1].query.values, again.query.values)


def test_an_artifact_fits_as_python_does(folder, tmp_path):
    common = {"steps": 2, "num_signals": 3}
    fit_dataset.fit_dataset(
        tmp_path / "python", workdir=folder / "run", **common
    )
    config = workdir.Workdir(folder / "run").read_config()
    fit_dataset.fit_dataset(
        tmp_path / "lite",
        artifact=folder / "exported" / "model.tflite",
        signal=config,
        **common,
    )
    for a, b in zip(
        _examples(tmp_path / "python"), _examples(tmp_path / "lite")
    ):
        np.testing.assert_allclose(a["theta"], b["theta"], atol=1e-4)
        np.testing.assert_allclose(a["psnr"], b["psnr"], atol=1e-2)


def test_an_artifact_for_fewer_points_fits_as_the_command_does(
    folder, tmp_path
):
    """Of the pixels that it takes, both draw the same."""
    exporter.export(
        folder / "run", tmp_path / "few", formats=["tflite"], num_points=100
    )
    artifact = tmp_path / "few" / "model.tflite"
    config = workdir.Workdir(folder / "run").read_config()
    fit_dataset.fit_dataset(
        tmp_path / "out",
        artifact=artifact,
        signal=config,
        steps=2,
        num_signals=1,
    )
    (example,) = _examples(tmp_path / "out")
    signal = build.build_signal(config)
    task = next(iter(signal.all_tasks("test")))
    pixels = np.uint8(np.round(255 * signal.picture(task.query.values.numpy())))
    Image.fromarray(pixels).save(tmp_path / "signal.png")
    psnr = fit.fit(
        None,
        tmp_path / "signal.png",
        tmp_path / "fit.png",
        artifact=artifact,
        steps=2,
    ).psnr
    np.testing.assert_allclose(
        [example["psnr_before"], example["psnr"]], [psnr[0], psnr[2]], atol=1e-3
    )


@pytest.mark.parametrize(
    "module", [pytest.param(ct_maml, marks=pytest.mark.slow), objects]
)
def test_other_kinds_of_signals(module, tmp_path, raises_with):
    """Sinograms, and rays of which every step sees others."""
    config = module.get_config("smoke")
    config.signal.data_dir = str(tmp_path / "data")
    if module is objects:
        config.signal.num_train, config.signal.num_eval = 2, 2
        config.validation.num_signals = 2
    train.train(config, tmp_path / "run")
    exporter.export(tmp_path / "run", tmp_path / "exported", formats=["tflite"])
    arguments = {"steps": 3, "num_signals": 2}
    fit_dataset.fit_dataset(
        tmp_path / "python", workdir=tmp_path / "run", **arguments
    )
    fit_dataset.fit_dataset(
        tmp_path / "lite",
        artifact=tmp_path / "exported" / "model.tflite",
        signal=config,
        **arguments,
    )
    for a, b in zip(
        _examples(tmp_path / "python"), _examples(tmp_path / "lite")
    ):
        np.testing.assert_allclose(a["theta"], b["theta"], atol=1e-3)
        assert np.isfinite(a["psnr"])
    if module is ct_maml:
        config.signal.interpolation = "bilinear"
        with raises_with(
            InputError, "`signal`", "interpolation", "'nearest'", "'bilinear'"
        ):
            fit_dataset.fit_dataset(
                tmp_path / "other",
                artifact=tmp_path / "exported" / "model.tflite",
                signal=config,
            )


@pytest.mark.parametrize("length", [0, 300])
def test_a_damaged_file_is_named(folder, tmp_path, length, raises_with):
    def fit():
        return fit_dataset.fit_dataset(
            tmp_path / "out", workdir=folder / "run", signals_per_file=4
        )

    fit()
    before = _files(tmp_path / "out")
    path = sorted((tmp_path / "out").glob("*.tfrecord*"))[1]
    path.write_bytes(path.read_bytes()[:length])
    with raises_with(InputError, path):
        fit()
    path.unlink()
    assert fit().files_written == 1
    assert _files(tmp_path / "out")[path.name] == before[path.name]


def test_a_folder_of_another_data_set_is_left_alone(
    folder, tmp_path, raises_with
):
    def fit(**options):
        fit_dataset.fit_dataset(
            tmp_path / "out", workdir=folder / "run", num_signals=2, **options
        )

    fit(steps=1)
    before = _files(tmp_path / "out")
    with raises_with(InputError, tmp_path / "out", "'steps'"):
        fit(steps=2)
    with raises_with(InputError, tmp_path / "out", "'split'"):
        fit(steps=1, split="validation")
    assert _files(tmp_path / "out") == before
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_text("")
    with raises_with(InputError, "`output_dir`", tmp_path / "photos"):
        fit_dataset.fit_dataset(tmp_path / "photos", workdir=folder / "run")


def test_a_plan_that_is_being_written_is_no_other_file(folder, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".functaset.json.x1.json").write_text("{")
    summary = fit_dataset.fit_dataset(
        tmp_path / "out", workdir=folder / "run", num_signals=1
    )
    assert summary.fitted == 1


def test_another_folder_of_images_is_another_data_set(
    folder, tmp_path, raises_with
):
    config = image_folder.get_config("smoke")

    def fit_folder(name):
        config.signal.folder = str(tmp_path / name)
        return fit_dataset.fit_dataset(
            tmp_path / "out",
            workdir=folder / "run",
            signal=config,
            num_signals=1,
        )

    for name, shade in (("a", 0), ("b", 255)):
        for split in ("train", "validation", "test"):
            (tmp_path / name / split).mkdir(parents=True)
            Image.new("RGB", (16, 16 + shade), (shade, 9, 9)).save(
                tmp_path / name / split / "1.png"
            )
    assert fit_folder("a").fitted == 1
    assert fit_folder("a").fitted == 0
    with raises_with(InputError, tmp_path / "out", "'files'"):
        fit_folder("b")


def test_a_fit_that_diverges_leaves_no_half_file(
    folder, tmp_path, monkeypatch, raises_with
):
    real = RunFitter.fit

    def diverge(self, samples, steps, scored):
        return [
            fitted._replace(psnr={**fitted.psnr, steps: np.nan})
            for fitted in real(self, samples, steps, scored)
        ]

    monkeypatch.setattr(RunFitter, "fit", diverge)
    with raises_with(UserError, "signal 0", "`steps`"):
        fit_dataset.fit_dataset(tmp_path / "out", workdir=folder / "run")
    assert not os.listdir(tmp_path / "out")


@pytest.mark.parametrize("shard", [(4, 4), (-1, 4), (0, 0)])
def test_shares_that_are_none(folder, tmp_path, shard, raises_with):
    with raises_with(InputError, "`shard`", f"{shard[0]}/{shard[1]}"):
        fit_dataset.fit_dataset(
            tmp_path / "out", workdir=folder / "run", shard=shard
        )
    assert not (tmp_path / "out").exists()


def test_the_command(folder, tmp_path, run_command, assert_one_sentence):
    arguments = [
        f"--artifact={folder / 'exported' / 'model.tflite'}",
        f"--output_dir={tmp_path / 'out'}",
        "--signal=configs/text.py:smoke",
        f"--signal.signal.data_dir={folder / 'data'}",
        "--num_signals=3",
    ]
    result = run_command("fit_dataset", *arguments)
    assert result.returncode == 0, result.stderr
    assert "Fitted 3 signals into 1 files" in result.stdout
    assert "tfds.builder_from_directory" in result.stdout
    result = run_command("fit_dataset", *arguments, "--steps=9")
    assert_one_sentence(result, str(tmp_path / "out"), "'steps'")
    for flag, *parts in (
        ("--shard=2/2", "--shard", "2/2"),
        ("--num_signals=99", "--num_signals", "[1, 8]", "99"),
        ("--steps=-1", "--steps", "-1"),
    ):
        result = run_command("fit_dataset", *arguments[:4], flag)
        assert_one_sentence(result, *parts)
    result = run_command(
        "fit_dataset", *arguments[:2], "--signal=configs/ct.py:smoke"
    )
    assert_one_sentence(result, "--signal", "'image'", "'ct'")
    result = run_command(
        "fit_dataset",
        f"--workdir={folder / 'run'}",
        f"--output_dir={tmp_path / 'ct'}",
        "--signal=configs/ct.py:smoke",
    )
    # Coordinates and values, of the class and of the field.
    assert_one_sentence(result, "2 coordinates and 3 values", "2 and 1")
    result = run_command(
        "fit_dataset", f"--output_dir={tmp_path}", "--artifact=none.tflite"
    )
    assert_one_sentence(result, "--artifact", "--signal")
    result = run_command(
        "fit_dataset",
        f"--output_dir={tmp_path}",
        "--artifact=none.tflite",
        "--signal=configs/text.py:smoke",
    )
    assert_one_sentence(result, "none.tflite")
