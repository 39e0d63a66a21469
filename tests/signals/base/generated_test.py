"""Classes that are drawn from a seed."""

import subprocess
import sys

import numpy as np
import pytest

from tfmetainit.geometry.metrics import psnr_from_mse
from tfmetainit.io.errors import InputError
from tfmetainit.signals import sdf, text
from tfmetainit.signals.base.generated import BEAM_OPTIONS, GeneratedConfig


def _draw(draw, count, resolution=32, seed=0):
    return np.stack(
        [
            draw(np.random.default_rng([seed, i]), resolution)
            for i in range(count)
        ]
    )


@pytest.mark.parametrize("draw", [text.render_text, sdf.draw_sdf])
def test_generated_signals_depend_on_their_seed_alone(draw):
    np.testing.assert_array_equal(_draw(draw, 5), _draw(draw, 5))
    assert np.any(_draw(draw, 5) != _draw(draw, 5, seed=1))


def _floors(draw):
    """PSNR in dB of the class-mean image, and of each signal's own mean."""
    values = _draw(draw, 300, 64) / 255.0
    to_class = np.mean((values - values.mean(axis=0)) ** 2, axis=(1, 2, 3))
    own_mean = values.mean(axis=(1, 2), keepdims=True)
    to_own = np.mean((values - own_mean) ** 2, axis=(1, 2, 3))
    return psnr_from_mse(to_class).mean(), psnr_from_mse(to_own).mean()


def test_signals_are_diverse():
    """The figures that the docstrings of the draw functions state."""
    np.testing.assert_allclose(
        _floors(text.render_text), [12.4, 19.1], atol=0.4
    )
    np.testing.assert_allclose(_floors(sdf.draw_sdf), [16.1, 16.1], atol=0.4)


def _take(dataset, count):
    return list(dataset.take(count).as_numpy_iterator())


def test_generated_config_limits(raises_with):
    with raises_with(InputError, "`num_train`"):
        GeneratedConfig(64, "train", 0)
    with raises_with(InputError, "`num_eval`"):
        text.make_signal_class(resolution=64, num_eval=0)


def test_a_split_is_drawn_when_it_is_asked_for(tmp_path):
    signal = text.make_signal_class(
        resolution=16, num_train=9, num_eval=2, data_dir=str(tmp_path)
    )
    folder = tmp_path / "rendered_text"
    for split, size in (("test", 2), ("train", 9)):
        (task,) = _take(signal.make_dataset(split, 1), 1)
        assert task.query.values.shape[-1] == 3
        drawn = {path.name for path in folder.glob("r16_*") if path.is_dir()}
        assert f"r16_{split}{size}_s0" in drawn
    assert len(drawn) == 2


def test_two_processes_generate_one_data_set(tmp_path):
    program = (
        "from tfmetainit.signals import text\n"
        "signal = text.make_signal_class(resolution=16, num_train=99,\n"
        f"    num_eval=9, data_dir={str(tmp_path)!r})\n"
        "print(len(list(signal.make_dataset('test', 1))))\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for _ in range(2)
    ]
    outputs = [process.communicate()[0].strip() for process in processes]
    assert [output.splitlines()[-1:] for output in outputs] == [["9"], ["9"]]


def test_beam_draws_the_same_signals(tmp_path, monkeypatch):
    pytest.importorskip("apache_beam")
    options = {"resolution": 16, "num_train": 40, "num_eval": 4}
    images = []
    for folder, beam in (("alone", None), ("beam", "--direct_num_workers=1")):
        if beam:
            monkeypatch.setenv(BEAM_OPTIONS, beam)
        signal = sdf.make_signal_class(
            **options, data_dir=str(tmp_path / folder)
        )
        images.append([i.numpy() for i in signal.source.load("train")])
    assert images[0] == images[1]


def test_beam_must_be_installed(tmp_path, monkeypatch, raises_with):
    monkeypatch.setenv(BEAM_OPTIONS, "")
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    signal = sdf.make_signal_class(resolution=16, data_dir=str(tmp_path))
    with raises_with(InputError, BEAM_OPTIONS, "apache-beam"):
        signal.source.load("train")
