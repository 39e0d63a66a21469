import shutil

import numpy as np
import pytest

from tfmetainit import publish, train
from tfmetainit.export.exporter import export
from tfmetainit.fields.networks import SIREN
from tfmetainit.geometry import psnr_from_mse
from tfmetainit.io import images
from tfmetainit.io.errors import InputError
from tfmetainit.litert import ArtifactFitter, LiteArtifact
from tfmetainit.runs import RunFitter, prior
from tfmetainit.runs.build import build_signal
from tfmetainit.runs.workdir import Workdir, find_run
from tfmetainit.signals.base import first_tasks


@pytest.fixture(scope="module", params=["halves", "all"])
def run(request, small_config, tmp_path_factory):
    """A small run with a prior, and its config."""
    config = small_config(
        **{"prior.num_signals": 6, "learner.step_on": request.param}
    )
    workdir = Workdir(tmp_path_factory.mktemp("prior") / "run")
    train.train(config, workdir.root)
    return workdir, config


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    """The .tflite file of the run."""
    workdir, _ = run
    folder = tmp_path_factory.mktemp("prior") / "exported"
    export(workdir.root, folder, formats=["tflite"])
    return folder / "model.tflite"


def _small_field():
    return SIREN(2, 3, hidden_layers=2, hidden_units=16)


def test_a_training_ends_with_the_prior(run):
    workdir, config = run
    measured = prior.read_prior(workdir, _small_field())
    assert measured.components.shape == (17, 17)
    before = workdir.prior.stat().st_mtime_ns
    train.train(config, workdir.root)
    assert workdir.prior.stat().st_mtime_ns == before


def test_a_killed_measurement_is_made_up_for(run):
    workdir, config = run
    expected = workdir.prior.read_bytes()
    workdir.prior.unlink()
    train.train(config, workdir.root)
    assert workdir.prior.read_bytes() == expected


def test_the_prior_of_other_weights_is_not_used(run, tmp_path):
    workdir, _ = run
    field = _small_field()
    copy = Workdir(tmp_path)
    copy.best.parent.mkdir()
    prior.copy_prior(workdir, copy)
    copy.best_record.write_text(workdir.best_record.read_text())
    assert prior.read_prior(copy, field) is not None
    copy.best_record.write_text('{"step": 5, "psnr": 21.0}')
    assert prior.read_prior(copy, field) is None


def test_a_prior_with_other_settings_is_measured_again(run, tmp_path):
    """The training itself, which has ended, is the same."""
    workdir, config = run
    copy = tmp_path / "run"
    shutil.copytree(workdir.root, copy)
    config = config.copy_and_resolve_references()
    config.prior.num_components = 3
    train.train(config, copy)
    assert prior.read_prior(Workdir(copy), _small_field()).components.shape == (
        17,
        3,
    )


@pytest.mark.parametrize(
    "arrays",
    [
        {"mean": np.zeros(17)},
        {"mean": np.zeros((9, 3)), "components": np.zeros((9, 4))},
        {"components": np.zeros((16, 4))},
        {"noise": 0.0},
        {"noise": None},
        {"noise": np.inf},
        {"mean": np.full((17, 3), np.nan)},
        {"unseen_weight": 2.0},
    ],
)
def test_a_damaged_prior_is_named(arrays, tmp_path, raises_with):
    workdir = Workdir(tmp_path)
    workdir.best.parent.mkdir()
    workdir.best_record.write_text('{"step": 3, "psnr": 20.0}')
    arrays = {
        "mean": np.zeros((17, 3)),
        "components": np.zeros((17, 4)),
        "noise": 0.1,
        "unseen_weight": 0.1,
        "step": 3,
        **arrays,
    }
    kept = {k: v for k, v in arrays.items() if v is not None}
    np.savez(workdir.prior, **kept)
    with raises_with(InputError, "prior.npz"):
        prior.read_prior(workdir, _small_field())


def test_a_published_copy_and_an_export_complete_alike(run, exported, tmp_path):
    """Gradient steps on a part of a picture and on what is predicted."""
    workdir, _ = run
    publish.publish(workdir.root, tmp_path / "copy", "CC0-1.0")
    fitters = (
        RunFitter(workdir.root),
        RunFitter(tmp_path / "copy"),
        ArtifactFitter(exported),
    )
    mask = np.zeros((16, 16, 1), np.float32)
    mask[:, :7] = 1
    images.write_image(tmp_path / "mask.png", mask)
    picture = np.random.default_rng(0).random((16, 16, 3), np.float32)
    images.write_image(tmp_path / "picture.png", picture)
    drawn = []
    for fitter in fitters:
        sample = fitter.read(
            tmp_path / "picture.png", mask=str(tmp_path / "mask.png")
        )
        assert len(sample.missing) == 16 * 9
        (fitted,) = fitter.fit([sample], 3, range(4))
        assert sorted(fitted.psnr) == [0, 1, 2, 3]
        drawn.append(fitter.render(fitted.theta, 16, 16, sample.camera))
    for other in drawn[1:]:
        np.testing.assert_allclose(other, drawn[0], atol=5e-3)


def test_weights_of_observations_are_checked(run, exported, raises_with):
    artifact = LiteArtifact(exported)
    inputs, values = np.zeros((5, 2)), np.zeros((5, 3))
    for weights in (np.ones((6, 1)), np.zeros((5, 1)), -np.ones((5, 1))):
        with raises_with(InputError, "`weights`", list(weights.shape)):
            artifact.adapt(artifact.init(), inputs, values, 1, weights)
    theta, losses = artifact.adapt(
        artifact.init(), inputs, values, 2, [[1.0]] * 4 + [[0.0]]
    )
    assert len(losses) == 2
    _, config = run
    # Without weights, steps may see halves.
    without = [None] if config.learner.step_on == "all" else []
    for equal in (np.ones([4, 1]), *without):
        ours, _ = artifact.adapt(
            artifact.init(), inputs[:4], values[:4], 2, equal
        )
        np.testing.assert_allclose(theta, ours, atol=1e-4)


@pytest.mark.parametrize(
    "part",
    [
        "left",
        pytest.param("half", marks=pytest.mark.slow),
        pytest.param("few", marks=pytest.mark.slow),
    ],
)
def test_unseen_pixels_of_text_are_better_than_a_constant(part):
    """By 2 dB, and the seen ones are fitted (docs/results.md)."""
    fitter = RunFitter("text_64")
    signal = build_signal(find_run("text_64").read_config())
    rng = np.random.default_rng(0)
    known = {
        "half": rng.random((64, 64)) < 0.5,
        "left": np.arange(64) < np.full((64, 1), 32),
        "few": rng.random((64, 64)) < 0.05,
    }[part]
    gains, seen = [], []
    for task in first_tasks(signal, "validation", 20):
        picture = task.query.values.numpy()[: 64 * 64].reshape(64, 64, 3)
        sample = fitter.modality.observe(picture, known)
        (fitted,) = fitter.fit([sample], 2, (2,))
        drawn = fitter.render(fitted.theta, 64, 64, sample.camera)
        constant = picture[known].mean(axis=0)
        ours, theirs = (
            psnr_from_mse(np.mean((values - picture[~known]) ** 2))
            for values in (drawn[~known], constant)
        )
        gains.append(ours - theirs)
        seen.append(fitted.psnr[2])
    assert np.mean(gains) > 2.0
    assert np.mean(seen) > 30.0
