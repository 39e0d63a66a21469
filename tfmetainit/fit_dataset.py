r"""Fits every signal of a split, and keeps the weights as a dataset.

    python -m tfmetainit.fit_dataset --workdir=runs/text --split=train \
        --steps=8 --output_dir=fitted/text

The dataset holds, for each signal, the flat vector of its adapted weights and
its PSNR before and after the fit (`runs.functaset`). TFDS reads the folder:

    tfds.builder_from_directory("fitted/text").as_dataset(split="train")

With --artifact=exported/text/model.tflite, LiteRT fits the signals, whose class
is then given by --signal=configs/text.py. --bits=6 stores the quantised change
of the weights (`io.codes`), which `runs.read_functaset` reads back.
--shard=0/4 fits the share of the first of four workers that fill one
--output_dir. --beam_options fits on Apache Beam, here in four processes:

    --beam_options="--direct_running_mode=multi_processing \
        --direct_num_workers=4"

Repeat a command that was stopped to resume it.
"""

import dataclasses
import functools
import logging
import re
import time

from absl import flags

from tfmetainit import cli

cli.quiet_tensorflow()

from tqdm import tqdm

from tfmetainit.fit import open_fitter
from tfmetainit.io.errors import InputError, check_range
from tfmetainit.runs import BulkFit, fit_on_beam
from tfmetainit.signals.base import SPLITS, pipeline_options

_LOGGER = logging.getLogger("tfmetainit")

MAX_BATCH = 4096


@dataclasses.dataclass(frozen=True)
class Summary:
    """A summary of `fit_dataset`.

    Attributes:
        fitted: number of signals fitted by this call.
        files_written: number of files written by this call.
        files_missing: number of files that other workers have not yet written.
        num_signals: number of signals of the whole dataset.
        psnr_before: mean PSNR in dB before the fit, over all signals; None
            until all files exist.
        psnr: mean PSNR in dB after the fit, likewise.
        seconds: duration of the call.
    """

    fitted: int
    files_written: int
    files_missing: int
    num_signals: int
    psnr_before: float | None
    psnr: float | None
    seconds: float


def fit_dataset(
    output_dir,
    *,
    workdir=None,
    artifact=None,
    signal=None,
    split: str = "test",
    steps: int | None = None,
    batch_size: int = 8,
    num_signals: int | None = None,
    signals_per_file: int = 64,
    bits: int | None = None,
    shard: tuple[int, int] = (0, 1),
    beam_options: str | None = None,
) -> Summary:
    """Fits every signal of a split and writes the weights.

    Args:
        output_dir: folder of the dataset; an unfinished dataset is completed.
        workdir: the folder of a training run; None with `artifact`.
        artifact: path of an exported .tflite file, or None.
        signal: config of the signals' class; by default that of the run.
        split: "train", "validation" or "test".
        steps: number of gradient steps; by default as many as in training.
        batch_size: number of signals read at a time; TensorFlow fits up to
            eight of them at once.
        num_signals: number of signals to fit, from the first; by default all.
        signals_per_file: number of signals in a file; the fits of an incomplete
            file are lost when the call is stopped.
        bits: bits of a weight, in [2, 16], of the quantised change that is
            stored; by default all weights are. The PSNR is that of what is
            stored.
        shard: (index, number): index of this worker, from 0, and number of
            workers. A worker writes every `number`-th file.
        beam_options: options of an Apache Beam pipeline that fits the signals,
            as a command line has them; by default this process does. Its
            workers must see the same files. A script that calls this needs the
            `if __name__ == "__main__"` of `multiprocessing`.

    Returns:
        A `Summary`.

    Raises:
        InputError: if an argument is not valid, or the folder holds another
            dataset.
        UserError: if the fit of a signal diverges, or three pipelines of Beam
            leave files missing; complete files are kept.
    """
    started = time.monotonic()
    check_range("batch_size", batch_size, 1, MAX_BATCH)
    check_range("signals_per_file", signals_per_file, 1, 10**6)
    _check_split(split, shard)
    if artifact is not None and signal is None:
        raise InputError(
            "`artifact` needs `signal`, the config of the signals' class, for "
            "example configs/text.py. Received: none"
        )
    if beam_options is not None:
        pipeline_options("`beam_options`", beam_options)
    make_bulk_fit = functools.partial(
        BulkFit,
        functools.partial(open_fitter, workdir, artifact),
        signal,
        output_dir,
        split=split,
        steps=steps,
        batch_size=batch_size,
        num_signals=num_signals,
        signals_per_file=signals_per_file,
        bits=bits,
    )
    bulk_fit = make_bulk_fit()
    dataset = bulk_fit.dataset
    mine = [i for i in dataset.missing() if i % shard[1] == shard[0]]
    fitted = sum(dataset.lengths[i] for i in mine)
    _LOGGER.info(
        "Fitting %d of %d signals; output goes to %s",
        *(fitted, sum(dataset.lengths), output_dir),
    )
    with tqdm(total=fitted, unit="signal", disable=None) as bar:
        if beam_options is None:
            for i in mine:
                bulk_fit.fit_file(i, bar.update)
        else:
            fit_on_beam(make_bulk_fit, bulk_fit, mine, beam_options, bar.update)
    missing, psnr = len(dataset.missing()), (None, None)
    if not missing:
        psnr = dataset.finish()
    return Summary(
        fitted=fitted,
        files_written=len(mine),
        files_missing=missing,
        num_signals=sum(dataset.lengths),
        psnr_before=psnr[0],
        psnr=psnr[1],
        seconds=time.monotonic() - started,
    )


def _check_split(split, shard):
    if split not in SPLITS:
        raise InputError(
            f"`split` must be one of {', '.join(SPLITS)}. Received: {split!r}"
        )
    index, number = shard
    if not 0 <= index < number:
        raise InputError(
            "`shard` must be <index>/<number>, with 0 <= index < number, for "
            f"example 0/4. Received: {index}/{number}"
        )


def parse_shard(text: str) -> tuple[int, int]:
    """Parses a string like "0/4" as (index, number).

    Raises:
        InputError: if the string has another form.
    """
    match = re.fullmatch(r"([0-9]{1,5})/([0-9]{1,5})", text)
    if not match:
        raise InputError(
            "`shard` must be <index>/<number>, for example 0/4. Received: "
            f"{text!r}"
        )
    index, number = map(int, match.groups())
    return index, number


def main(argv):
    """Runs `fit_dataset` with the command's flags."""
    del argv
    values = flags.FLAGS
    summary = fit_dataset(
        values.output_dir,
        workdir=values.workdir,
        artifact=values.artifact,
        signal=values.signal,
        split=values.split,
        steps=values.steps,
        batch_size=values.batch_size,
        num_signals=values.num_signals,
        signals_per_file=values.signals_per_file,
        bits=values.bits,
        shard=parse_shard(values.shard),
        beam_options=values.beam_options,
    )
    print(
        f"Fitted {summary.fitted} signals into {summary.files_written} files "
        f"in {values.output_dir} ({summary.seconds:.1f} s)."
    )
    if summary.files_missing:
        print(f"{summary.files_missing} files of other workers are missing.")
        return
    print(
        f"PSNR, mean over all {summary.num_signals} signals: "
        f"{summary.psnr_before:.2f} dB before, {summary.psnr:.2f} dB after.\n"
        f"Read it with {_reader(values)}."
    )


def _reader(values):
    """The call that reads the dataset."""
    if values.bits is not None:
        return f'tfmetainit.runs.read_functaset("{values.output_dir}")'
    return (
        f'tfds.builder_from_directory("{values.output_dir}")'
        f'.as_dataset(split="{values.split}")'
    )


def run():
    """The command `tfmetainit-fit-dataset`."""
    flags.DEFINE_string("workdir", None, "Folder of a training run.")
    flags.DEFINE_string(
        "artifact", None, "Instead of --workdir: an exported .tflite file."
    )
    cli.define_config(
        "signal", "Config of the signals' class; default: the run's own."
    )
    flags.DEFINE_string("output_dir", None, "Folder of the dataset.")
    flags.DEFINE_enum("split", "test", SPLITS, "Split to fit.")
    flags.DEFINE_integer(
        "steps", None, "Gradient steps; default: as many as in training."
    )
    flags.DEFINE_integer("batch_size", 8, "Signals read at a time.")
    flags.DEFINE_integer("num_signals", None, "Signals to fit; default: all.")
    flags.DEFINE_integer("signals_per_file", 64, "Signals in a file.")
    flags.DEFINE_integer(
        "bits", None, "Store changes of so many bits a weight: 8, 6, 5."
    )
    flags.DEFINE_string(
        "shard", "0/1", "<index>/<number>: this worker's share of the files."
    )
    flags.DEFINE_string(
        "beam_options",
        None,
        "Fits on Apache Beam with these options of a pipeline.",
    )
    flags.mark_flag_as_required("output_dir")
    cli.run(main, __doc__)


if __name__ == "__main__":
    run()
