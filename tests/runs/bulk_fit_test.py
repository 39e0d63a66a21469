"""Bulk fitting on Apache Beam, whose workers fail in every way."""

import functools
import signal
import subprocess
import sys
import time

import pytest

from tfmetainit import fit_dataset
from tfmetainit.configs import text
from tfmetainit.io.errors import InputError, UserError
from tfmetainit.runs import bulk_fit
from tfmetainit.runs.run_fitter import RunFitter

_TWO_PROCESSES = "--direct_running_mode=multi_processing --direct_num_workers=2"
# Worker processes import it by its name.
_WORKER = '''
import os
import pathlib
import signal

from tfmetainit.io.errors import UserError
from tfmetainit.runs.bulk_fit import BulkFit


class Failing(BulkFit):
    """Fails in a worker of Beam, the first time that a file is fitted."""

    def __init__(self, folder, failure, *arguments, **options):
        super().__init__(*arguments, **options)
        self.folder, self.failure = pathlib.Path(folder), failure
        with (self.folder / "opened").open("a") as file:
            file.write(f"{os.getpid()}\\n")

    def fit_file(self, index):
        marker = self.folder / "failed"
        in_worker = "CONTROL_API_SERVICE_DESCRIPTOR" in os.environ
        if self.failure == "diverged" and index == 3:
            raise UserError("The fit of signal 6 diverged")
        if self.failure and in_worker and index == 2 and not marker.exists():
            marker.touch()
            if self.failure == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError("the disk is gone")
        super().fit_file(index)
'''


def _files(path):
    return {p.name: p.read_bytes() for p in path.iterdir()}


@pytest.fixture
def make_failing(tmp_path, monkeypatch, smoke_run):
    """Makes what makes a `BulkFit` of five files, with a kind of failure."""
    pytest.importorskip("apache_beam")
    (tmp_path / "bulk_fit_worker.py").write_text(_WORKER)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    import bulk_fit_worker

    yield lambda failure: functools.partial(
        bulk_fit_worker.Failing,
        str(tmp_path),
        failure,
        functools.partial(RunFitter, smoke_run / "run"),
        None,
        str(tmp_path / "beam"),
        split="train",
        steps=2,
        batch_size=2,
        num_signals=10,
        signals_per_file=2,
        bits=None,
    )
    del sys.modules["bulk_fit_worker"]


@pytest.mark.parametrize("failure", ["", "raised", "killed"])
def test_beam_writes_the_same_files(make_failing, failure, smoke_run, tmp_path):
    make = make_failing(failure)
    here = make()
    bulk_fit.fit_on_beam(make, here, list(range(5)), _TWO_PROCESSES)
    assert not here.dataset.missing()
    here.dataset.finish()
    fit_dataset.fit_dataset(
        tmp_path / "one",
        workdir=smoke_run / "run",
        split="train",
        steps=2,
        batch_size=2,
        num_signals=10,
        signals_per_file=2,
    )
    assert _files(tmp_path / "beam") == _files(tmp_path / "one")
    # Each worker opened it once, for all its files.
    opened = (tmp_path / "opened").read_text().split()
    assert len(set(opened)) == len(opened) > 2
    assert (tmp_path / "failed").exists() == bool(failure)


def test_beam_tells_what_is_wrong_with_a_signal(make_failing, raises_with):
    """Of all other files, none is missing."""
    make = make_failing("diverged")
    here = make()
    with raises_with(UserError, "signal 6"):
        bulk_fit.fit_on_beam(make, here, list(range(5)), _TWO_PROCESSES)
    assert here.dataset.missing() == [3]


def test_beam_goes_on_where_a_command_was_stopped(smoke_run, tmp_path):
    """With all that a worker has to be told, and codes of a few bits."""
    pytest.importorskip("apache_beam")
    config = text.get_config("smoke")
    config.signal.data_dir = str(smoke_run / "data")

    def fit(name, **options):
        return fit_dataset.fit_dataset(
            tmp_path / name,
            workdir=smoke_run / "run",
            signal=config,
            bits=6,
            signals_per_file=2,
            **options,
        )

    whole = fit("whole")
    fit("beam", shard=(0, 4))
    rest = fit("beam", beam_options="--direct_num_workers=1")
    assert (rest.fitted, rest.files_written, rest.files_missing) == (6, 3, 0)
    assert rest.psnr == whole.psnr
    assert _files(tmp_path / "beam") == _files(tmp_path / "whole")


def test_three_pipelines_that_do_nothing(
    smoke_run, tmp_path, monkeypatch, raises_with
):
    monkeypatch.setattr(fit_dataset, "pipeline_options", lambda *_: None)
    monkeypatch.setattr(bulk_fit, "_run_alone", lambda arguments, count: None)
    with raises_with(UserError, "5 files", "`output_dir`"):
        fit_dataset.fit_dataset(
            tmp_path / "out",
            workdir=smoke_run / "run",
            signals_per_file=1,
            beam_options="",
        )
    # This process fits one after each of them.
    assert len(list((tmp_path / "out").glob("*tfrecord*"))) == 3


def test_a_killed_command_leaves_no_process(smoke_run, tmp_path):
    pytest.importorskip("apache_beam")
    command = subprocess.Popen(
        [
            *(sys.executable, "-m", "tfmetainit.fit_dataset"),
            f"--workdir={smoke_run / 'run'}",
            f"--output_dir={tmp_path / 'out'}",
            *("--split=train", "--signals_per_file=1", "--steps=50"),
            f"--beam_options={_TWO_PROCESSES}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        files = tmp_path / "out"
        while not list(files.glob("*tfrecord*")):
            assert command.poll() is None
            time.sleep(0.2)
        command.send_signal(signal.SIGTERM)
        assert command.wait(30) == 128 + signal.SIGTERM
    finally:
        command.kill()
    written = len(list(files.glob("*tfrecord*")))
    assert written < 32
    time.sleep(3)
    assert len(list(files.glob("*tfrecord*"))) == written


def test_beam_options(smoke_run, tmp_path, monkeypatch, raises_with):
    def fit(options):
        return fit_dataset.fit_dataset(
            tmp_path / "out", workdir=smoke_run / "run", beam_options=options
        )

    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with raises_with(InputError, "`beam_options`", "apache-beam"):
        fit("")
    monkeypatch.undo()
    pytest.importorskip("apache_beam")
    with raises_with(InputError, "`beam_options`", "--direct_num_workers=x"):
        fit("--direct_num_workers=x")
    with raises_with(InputError, "`beam_options`", "'"):
        fit("--runner='")
    with raises_with(InputError, "`beam_options`", "no option direct_num"):
        fit("--direct_num_worker=4")
    with raises_with(InputError, "`beam_options`", "Foo"):
        fit("--runner=Foo")
    with raises_with(InputError, "`beam_options`", "invalid int"):
        fit("--num_workers=x")
    assert not (tmp_path / "out").exists()
