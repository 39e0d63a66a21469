import json
import math
import os
import pathlib
import pickle
import signal as os_signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfmetainit import train
from tfmetainit.configs import image_folder, objects, text
from tfmetainit.fields import networks
from tfmetainit.io import files
from tfmetainit.io.errors import InputError, TrainingDivergedError
from tfmetainit.meta import functional, maml
from tfmetainit.runs import build
from tfmetainit.runs.workdir import Workdir
from tfmetainit.training import callbacks, optimizer


@pytest.fixture(scope="module")
def data_dir(smoke_run):
    return str(smoke_run / "data")


def _config(data_dir, **fields):
    config = text.get_config("smoke")
    config.signal.data_dir = data_dir
    config.num_steps = 8
    config.validation.every = 2
    config.update_from_flattened_dict(networks)
    return config


@pytest.fixture(scope="module")
def assert_same_run(arrays_of):
    def check(a, b):
        a, b = Workdir(a), Workdir(b)
        for name in ("last", "best"):
            ours, theirs = (arrays_of(getattr(w, name)) for w in (a, b))
            assert ours.keys() == theirs.keys()
            assert any("optimizer" in key for key in ours)
            for key, value in ours.items():
                np.testing.assert_array_equal(value, theirs[key], err_msg=key)
        assert a.best_record.read_text() == b.best_record.read_text()

    return check


def test_train_writes_a_run(data_dir, tmp_path):
    config = _config(data_dir)
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


class _StoppedError(Exception):
    pass


class _StopAfter(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            raise _StoppedError


def test_resumed_run_equals_an_unbroken_one(
    data_dir, tmp_path, monkeypatch, assert_same_run
):
    """Bit for bit: weights, step sizes, optimizer, best checkpoint."""
    config = _config(data_dir)
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


def test_warm_start(data_dir, tmp_path):
    """From another run, and from a file of weights."""
    first = _config(data_dir)
    train.train(first, tmp_path / "first")
    best = build.load(tmp_path / "first")
    weights = functional.get_params(best.field)
    weights.write_npz(tmp_path / "weights.npz", weights)
    layers = {
        f"linear_{i}": {"w": np.asarray(w), "b": np.asarray(b)}
        for i, (w, b) in enumerate(zip(weights[::2], weights[1::2]))
    }
    (tmp_path / "weights.pickle").write_bytes(pickle.dumps(layers))
    starts = ("first", "weights.npz", "weights.pickle")
    for index, start in enumerate(starts):
        # A rate so small that nothing moves; another resolution, and other
        # settings of what the step sizes are stored as.
        config = _config(
            data_dir,
            warm_start=str(tmp_path / start),
            **{
                "optimizer.learning_rate": 1e-30,
                "signal.resolution": 20,
                "signal.data_dir": str(tmp_path / "data"),
                "learner.step_size_gain": 30.0,
                "learner.inner_lr": 2e-2,
            },
        )
        train.train(config, tmp_path / f"second{index}")
        again = build.load(tmp_path / f"second{index}")
        for a, b in zip(
            functional.get_params(best.field),
            functional.get_params(again.field),
        ):
            np.testing.assert_array_equal(a, b)
        sizes = best.step_sizes.as_params() if index == 0 else 2e-2
        np.testing.assert_allclose(
            again.step_sizes.as_params(), sizes, rtol=1e-5
        )  # a file of weights has none
    # Step sizes that were one a tensor, with matrices around them from here.
    config = _config(
        data_dir,
        warm_start=str(tmp_path / "first"),
        **{"learner.step_sizes": "curvature"},
    )
    train.train(config, tmp_path / "curvature")
    again = build.load(tmp_path / "curvature").step_sizes
    assert all(np.any(matrix) for sides in again.sides for matrix in sides)
    config = _config(data_dir, warm_start=str(tmp_path / "curvature"))
    with pytest.raises(InputError, match="warm_start .* 'tensor' cannot hold"):
        train.train(config, tmp_path / "third")
    stored = json.loads((tmp_path / "curvature/config.json").read_text())
    stored["learner"]["eval_steps"] = 10**6
    (tmp_path / "curvature/config.json").write_text(json.dumps(stored))
    with pytest.raises(
        InputError, match="warm_start .*curvature: .*eval_steps"
    ):
        train.train(config, tmp_path / "third")
    for field, value in (("w0", 30.0), ("hidden_units", 9)):
        config = _config(
            data_dir,
            warm_start=str(tmp_path / "first"),
            **{f"field.{field}": value},
        )
        with pytest.raises(
            InputError, match=f"same network.*first, with {field}=.*{value}"
        ):
            train.train(config, tmp_path / "third")
    for wrong in ("gone", "gone.npz", "gone.pickle"):
        config = _config(data_dir, warm_start=str(tmp_path / wrong))
        with pytest.raises(InputError, match="There is no"):
            train.train(config, tmp_path / "third")
        assert not (tmp_path / "third").exists()


def test_killed_run_resumes_to_the_same_result(
    data_dir, tmp_path, assert_same_run
):
    """kill -9 from outside, at whatever moment it strikes."""
    config = _config(data_dir, num_steps=40)
    train.train(config, tmp_path / "whole")
    command = [
        *(sys.executable, "-m", "tfmetainit.train"),
        "--config=configs/text.py:smoke",
        f"--workdir={tmp_path / 'killed'}",
        f"--config.signal.data_dir={data_dir}",
        "--config.num_steps=40",
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
    resumed = subprocess.run(command, capture_output=True, text=True)
    assert resumed.returncode == 0, resumed.stderr
    assert "Resuming" in resumed.stderr
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


def test_a_finished_run_is_left_alone(data_dir, tmp_path, arrays_of):
    config = _config(data_dir)
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


def test_one_training_at_a_time(data_dir, tmp_path):
    workdir = Workdir(tmp_path / "run")
    train.train(_config(data_dir), workdir.root)
    leftover = workdir.last.with_name(f".{workdir.last.name}.0")
    leftover.touch()  # as of a checkpoint that is being written
    with (
        files.lock(workdir.lock),
        pytest.raises(InputError, match="training that is still running"),
    ):
        train.train(_config(data_dir), workdir.root)
    assert leftover.exists()
    train.train(_config(data_dir), workdir.root)
    assert not leftover.exists()


def test_another_config_is_refused(data_dir, tmp_path):
    train.train(_config(data_dir), tmp_path)
    other = _config(data_dir, **{"learner.inner_lr": 0.5})
    with pytest.raises(InputError) as error:
        train.train(other, tmp_path)
    assert "config.learner.inner_lr=0.01" in str(error.value)
    assert "0.5" in str(error.value)


def test_a_full_disk_keeps_the_last_good_state(
    data_dir, tmp_path, monkeypatch, assert_same_run
):
    real, asked = files.check_space, []

    def full_at_the_third(folder, size):
        asked.append(size)
        real(folder, size if len(asked) < 3 else 2**62)

    monkeypatch.setattr(files, "check_space", full_at_the_third)
    config = _config(data_dir)
    with pytest.raises(InputError, match="The disk of .* must have"):
        train.train(config, tmp_path / "run")
    last = Workdir(tmp_path / "run").last
    assert last.stat().st_size <= asked[0]
    assert sorted(p.name for p in last.parent.iterdir()) == [
        "best.json",
        "best.weights.h5",
        "last.weights.h5",
    ]
    monkeypatch.undo()
    assert train.train(config, tmp_path / "run")["step"] == 8
    train.train(config, tmp_path / "whole")
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def test_a_damaged_checkpoint_is_named(data_dir, tmp_path):
    config = _config(data_dir)
    train.train(config, tmp_path)
    last = Workdir(tmp_path).last
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"last\.weights\.h5 is damaged"):
        train.train(config, tmp_path)
    assert last.stat().st_size == 1000  # nothing was overwritten
    for path in (Workdir(tmp_path).best, Workdir(tmp_path).best_record):
        path.unlink()
        with pytest.raises(InputError, match=f"where {path.name} is missing"):
            train.train(config, tmp_path)
        path.touch()
    Workdir(tmp_path).best.unlink()
    with pytest.raises(InputError, match="There is no checkpoint"):
        build.load(tmp_path)


def test_a_run_goes_on_with_its_own_files_only(tmp_path):
    config = image_folder.get_config("smoke")
    config.signal.folder = str(tmp_path / "photos")
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    for index in range(60):
        pixels = rng.integers(0, 255, (9, 9, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{index}.png")
    train.train(config, tmp_path / "run")
    train.train(config, tmp_path / "run")
    Image.new("RGB", (9, 9)).save(tmp_path / "photos" / "60.png")
    with pytest.raises(InputError, match="with the files only that it began"):
        train.train(config, tmp_path / "run")
    (tmp_path / "photos" / "60.png").unlink()
    assert train.train(config, tmp_path / "run")["step"] == config.num_steps


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x = 1\n", "must have a function get_config"),
        ("def get_config():\n    return {}\n", "must return an ml_collections"),
    ],
)
def test_a_config_file_that_makes_no_config(
    tmp_path, run_command, assert_one_sentence, content, message
):
    (tmp_path / "mine.py").write_text(content)
    result = run_command(
        *("train", f"--config={tmp_path}/mine.py", f"--workdir={tmp_path}/run")
    )
    assert_one_sentence(result, message)
    assert not (tmp_path / "run").exists()


def test_a_workdir_among_the_signals_is_refused(tmp_path):
    config = image_folder.get_config("smoke")
    config.signal.folder = str(tmp_path)
    with pytest.raises(InputError, match="must lie outside of config.signal"):
        train.train(config, tmp_path / "runs" / "mine")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("section", "field", "value", "message"),
    [
        ("learner", "eval_steps", None, "a number for config.learner.eval_s"),
        ("learner", "inner_lr", "1e-2", "a number for config.learner.inner_lr"),
        ("learner", "name", 3, "a string for config.learner.name"),
        ("learner", "learn_step_sizes", 1, "true or false for config.learner"),
        ("evaluation", "sgd_rates", [], "a list of numbers for config.evalua"),
        ("evaluation", "sgd_rates", ["a"], "a list of numbers for config"),
        (None, "optimizer", [], "the section config.optimizer"),
        (None, "num_steps", True, "a number for config.num_steps"),
        (None, "warm_start", 1, "config.warm_start"),
    ],
)
def test_a_config_file_that_is_none(tmp_path, section, field, value, message):
    config = json.loads(text.get_config("smoke").to_json())
    (config[section] if section else config)[field] = value
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=message):
        Workdir(tmp_path).read_config()


def test_a_config_of_before_a_field_was_there(tmp_path):
    """Its run means what it meant: its step sizes, and its outer rates."""
    config = json.loads(text.get_config("smoke").to_json())
    del config["optimizer"]["output_gain"]
    del config["optimizer"]["curvature_gain"]
    del config["learner"]["step_size_gain"]
    del config["learner"]["early_loss_weight"]
    config["optimizer"]["muon_rate"] = 0.0
    (tmp_path / "config.json").write_text(json.dumps(config))
    config = Workdir(tmp_path).read_config()
    assert "muon_rate" not in config.optimizer
    assert config.optimizer.output_gain == 1.0
    assert config.learner.step_size_gain == 128.0
    assert config.learner.early_loss_weight == 0.0


def test_a_config_of_when_all_had_the_options_of_images(tmp_path):
    config = objects.get_config("smoke")
    config.signal.points_per_step, config.signal.query_between = 0, 0.5
    (tmp_path / "config.json").write_text(config.to_json())
    found = Workdir(tmp_path).read_config().signal
    assert set(found) == set(objects.get_config("smoke").signal)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("num_steps", 7, "must be a multiple of config.validation.every"),
        ("num_steps", 0, r"config.num_steps must lie in \[1, "),
        ("optimizer.warmup_steps", 8, r"warmup_steps must lie in \[0, 7\]"),
        ("batch_size", 0, "config.batch_size must lie in"),
        ("seed", -1, "config.seed must lie in"),
        ("field.name", "mlp", "config.field.name must be one of"),
        ("learner.name", "sgd", "config.learner.name must be one of"),
        ("learner.inner_steps", 0, "config.learner.inner_steps must lie in"),
        ("learner.inner_steps", 4, "eval_steps must be at least inner_steps"),
        ("learner.step_sizes", "layer", "config.learner is not valid"),
        ("field.hidden_units", -3, "`hidden_units` must be positive"),
        ("optimizer.learning_rate", 0.0, "learning_rate must be positive"),
        ("optimizer.output_gain", -1.0, "output_gain must be positive"),
        ("optimizer.curvature_gain", 0.0, "must be positive and finite"),
        (
            "optimizer.output_gain",
            math.inf,
            "must have a number for config.opt",
        ),
        ("optimizer.learning_rate", math.nan, "Received: nan"),
        ("warm_start", "", "must name a run or a file of weights"),
        ("field.hidden_units", 10**8, r"hidden_units must lie in \[1, "),
        ("field.name", "os.path.join", "subclass of Model of yours"),
        ("field.name", "nowhere.Field", "No module named 'nowhere'"),
        ("learner.name", "tfmetainit.SIREN", "subclass of MetaLearner"),
        ("signal.name", "nothing", "must name a module of tfmetainit.signals"),
        ("signal.name", "..text", "must name a module of tfmetainit.signals"),
        ("evaluation.sgd_rates", (), "a list of numbers for config.evaluation"),
        ("evaluation.adam_rates", (0.1, -1.0), "a list of positive numbers"),
        ("evaluation", {}, "must have a number for config.evaluation.num_"),
        ("evaluation.num_steps", 0, "config.evaluation.num_steps must lie in"),
        ("signal.shuffle_buffer", pathlib.Path("a"), "must hold numbers, str"),
    ],
)
def test_wrong_configs_are_named(data_dir, tmp_path, field, value, message):
    config = _config(data_dir, **{field: value})
    with pytest.raises(InputError, match=message):
        train.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_config_may_be_mended_before_anything_was_trained(data_dir, tmp_path):
    with pytest.raises(TrainingDivergedError):
        train.train(_config(data_dir, **{"learner.inner_lr": 1e6}), tmp_path)
    assert train.train(_config(data_dir), tmp_path)["step"] == 8
    assert Workdir(tmp_path).read_config().learner.inner_lr == 1e-2


def test_a_diverging_inner_loop_stops_the_run(data_dir, tmp_path):
    config = _config(data_dir, **{"learner.inner_lr": 1e6})
    with pytest.raises(TrainingDivergedError) as error:
        train.train(config, tmp_path)
    assert "outer step" in str(error.value)
    assert "lower config.learner.inner_lr (now 1e+06)" in str(error.value)


def test_what_counts_as_diverging(data_dir, tmp_path):
    checkpoints = callbacks.Checkpoints(
        Workdir(tmp_path), Workdir(tmp_path), "val_psnr_2"
    )
    checkpoints.best = 15.0
    callback = callbacks.StopOnDivergence(
        text.get_config().optimizer, checkpoints, floor=14.2
    )
    learner = build.build_learner(
        _config(data_dir), build.build_signal(_config(data_dir))
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
    assert float(learner.best_loss.numpy()) == pytest.approx(0.02)
    callback.on_train_batch_end(3, logs(0.2))
    with pytest.raises(TrainingDivergedError, match="raised the mean loss"):
        callback.on_train_batch_end(80, logs(0.2))
    for values, message in (
        ({"val_psnr_1": np.nan}, "validation's psnr_1 was"),
        ({"loss": 0.09}, r"risen from 0\.02 to 0\.09"),
        (
            {"val_psnr_2": 14.1},
            r"collapsed: its validation PSNR, 15\.00 dB before, was 14\.10",
        ),
    ):
        with pytest.raises(TrainingDivergedError, match=message):
            callback.on_epoch_end(2, {**logs(0.02), **values})
    with pytest.raises(TrainingDivergedError, match=r"optimizer.learning_rate"):
        callback.on_train_batch_end(0, logs(np.nan, loss_before=np.nan))
    with pytest.raises(TrainingDivergedError, match=r"optimizer.learning_rate"):
        callback.on_epoch_end(2, logs(0.02, val_psnr_0=np.nan))
    # What was never better than one colour has not collapsed.
    checkpoints.best = 14.3
    callback.on_epoch_end(3, logs(0.02, val_psnr_2=14.1))


def test_checkpoints_survive_a_run_that_diverges(data_dir, tmp_path, arrays_of):
    config = _config(data_dir)
    train.train(config, tmp_path)
    before = arrays_of(Workdir(tmp_path).last)
    worse = _config(
        data_dir,
        **{"learner.inner_lr": 1e6, "num_steps": 8},
    )
    # The same folder, as if the user had edited config.json.
    raw = json.loads(Workdir(tmp_path).config.read_text())
    raw["learner"]["inner_lr"] = 1e6
    raw["num_steps"] = 12
    worse.num_steps = 12
    Workdir(tmp_path).config.write_text(json.dumps(raw))
    with pytest.raises(TrainingDivergedError):
        train.train(worse, tmp_path)
    after = arrays_of(Workdir(tmp_path).last)
    for key in before:
        np.testing.assert_array_equal(before[key], after[key])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_workdir_is_named(data_dir, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="Cannot write to the folder"):
        train.train(_config(data_dir), tmp_path / "run")


def test_warm_up_and_decay(data_dir):
    config = _config(
        data_dir,
        **{
            "num_steps": 100,
            "optimizer.learning_rate": 1e-2,
            "optimizer.warmup_steps": 10,
            "optimizer.final_fraction": 0.1,
        },
    )
    learner = maml.MAML(networks.SIREN())
    schedule = optimizer.build_optimizer(config, learner)._learning_rate
    rates = [float(schedule(step)) for step in (0, 5, 10, 55, 100, 1000)]
    np.testing.assert_allclose(
        rates, [0.0, 5e-3, 1e-2, 5.5e-3, 1e-3, 1e-3], rtol=1e-5, atol=1e-9
    )
    config.optimizer.warmup_steps = 0
    config.optimizer.final_fraction = 1.0
    schedule = optimizer.build_optimizer(config, learner)._learning_rate
    np.testing.assert_allclose(
        [float(schedule(step)) for step in (0, 50, 100)], 1e-2, rtol=1e-5
    )


def test_every_variable_has_its_outer_rate():
    """The output kernel's and the matrices' are multiples of the others'."""
    config = text.get_config()
    config.optimizer.learning_rate = 1e-3
    config.optimizer.output_gain = 8.0
    config.optimizer.curvature_gain = 3.0
    config.optimizer.warmup_steps = 0
    config.optimizer.clip_norm = 0.0
    learner = maml.MAML(
        networks.SIREN(hidden_layers=3, hidden_units=16, seed=0),
        step_sizes="curvature",
        learn_step_sizes=True,
    )
    optimizer = optimizer.build_optimizer(config, learner)
    variables = learner.trainable_variables
    optimizer.build(variables)
    start = [v.numpy() for v in variables]
    rng = np.random.default_rng(0)
    optimizer.apply(
        [tf.constant(rng.normal(size=v.shape), tf.float32) for v in variables],
        variables,
    )
    for variable, before in zip(variables, start):
        change = np.abs(variable.numpy() - before)
        rate = 8e-3 if variable.path.endswith("output/kernel") else 1e-3
        if variable.path.startswith(("step_sizes/left", "step_sizes/right")):
            rate = 3e-3
        np.testing.assert_allclose(change, rate, rtol=2e-2)


def test_a_dead_field_ends_the_run(tmp_path):
    """A NeRF whose ReLU densities are zero at the start has no gradient."""
    pytest.importorskip("tensorflow_graphics")
    config = objects.get_config("smoke")
    config.signal.data_dir = str(tmp_path / "data")
    config.num_steps = config.validation.every = 3
    config.field.density = "relu"
    config.field.density_shift = -1e6
    with pytest.raises(TrainingDivergedError, match="the field was dead"):
        train.train(config, tmp_path / "run")
    config.field.density = "softplus"
    config.field.density_shift = -1.0
    train.train(config, tmp_path / "other")
