"""Fits the signals of a split into the files of a functaset."""

import contextlib
import itertools
import logging
import math
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator

import ml_collections

from tfmetainit.io import codes
from tfmetainit.io.errors import InputError, UserError, check_range
from tfmetainit.modalities import Fitter
from tfmetainit.runs import build, sources
from tfmetainit.runs.functaset import Example, Functaset
from tfmetainit.signals.base import import_beam, pipeline_options, to_sample

_LOGGER = logging.getLogger("tfmetainit")

MAX_STEPS = 10_000
MAX_SIGNALS = 10**7
_MAX_PIPELINES = 3
_SECONDS_BETWEEN_COUNTS = 1.0
_BEAM_OPTIONS = "`beam_options`"


class BulkFit:
    """Fits the signals of a split, a file of the dataset at a time.

    Args:
        open_fitter: returns the fitter.
        config: config of the signals' class; None for that of the run.
        output_dir: folder of the dataset; an unfinished dataset is completed.
        split: "train", "validation" or "test".
        steps: number of gradient steps; None for as many as in training.
        batch_size: number of signals read at a time; TensorFlow fits up to
            eight of them at once.
        num_signals: number of signals to fit, from the first; None for all.
        signals_per_file: number of signals in a file.
        bits: as in `Functaset`.

    Attributes:
        dataset: the `Functaset`.

    Raises:
        InputError: if an argument is not valid, or the folder holds another
            dataset.
    """

    def __init__(
        self,
        open_fitter: Callable[[], Fitter],
        config: ml_collections.ConfigDict | None,
        output_dir,
        *,
        split: str,
        steps: int | None,
        batch_size: int,
        num_signals: int | None,
        signals_per_file: int,
        bits: int | None,
    ):
        self._fitter = fitter = open_fitter()
        config = fitter.config if config is None else config
        self._steps = fitter.default_steps if steps is None else steps
        check_range("steps", self._steps, 0, MAX_STEPS)
        learned = None
        if bits is not None:
            codes.integers(bits)
            learned = fitter.learned
        self._signals = build.build_signal(config)
        fitter.prepare(self._signals)
        self._split = split
        self._batch_size = batch_size
        self._bits = bits
        self._lock = threading.Lock()
        self.dataset = Functaset(
            output_dir,
            split=split,
            num_signals=self._count(num_signals),
            signals_per_file=signals_per_file,
            shapes=fitter.shapes,
            made_from={
                "weights": fitter.digest,
                "signal": sources.public_settings(config.signal),
                "files": sources.digest(
                    sources.source_sizes(config.signal, self._signals.suffixes)
                ),
                "steps": self._steps,
            },
            bits=bits,
            learned=learned,
        )

    def fit_file(
        self, index: int, on_fitted: Callable[[int], None] = lambda count: None
    ) -> None:
        """Fits the signals of a file and writes it atomically.

        Args:
            index: index of the file.
            on_fitted: called with 1 after each signal.

        Raises:
            UserError: if a fit diverges; no file is written.
        """
        first = self.dataset.first_signal(index)
        tasks = self._signals.all_tasks(self._split, first)
        fits = self._fit(tasks.take(self.dataset.lengths[index]), first)
        # Runners may call this from several threads. The fits are lazy, and run
        # inside `write`.
        with self._lock:
            self.dataset.write(index, _counted(fits, on_fitted))

    def _count(self, num_signals):
        """The number of signals to fit."""
        available = int(self._signals.all_tasks(self._split).cardinality())
        if num_signals is None:
            if available < 0:
                raise InputError(
                    "`num_signals` must be given for a class whose number of "
                    "signals is not known beforehand. Received: none"
                )
            num_signals = available
        most = available if available >= 0 else MAX_SIGNALS
        check_range("num_signals", num_signals, 1, most)
        return num_signals

    def _fit(self, tasks, index) -> Iterator[Example]:
        """The examples of some tasks, the first of which has this index."""
        fitter, steps = self._fitter, self._steps
        samples = map(to_sample, tasks)
        while batch := list(itertools.islice(samples, self._batch_size)):
            for sample, fitted in zip(
                batch, fitter.fit(batch, steps, {0, steps})
            ):
                before, after = fitted.psnr[0], fitted.psnr[steps]
                theta = fitted.theta
                if not math.isfinite(after):
                    raise UserError(
                        f"The fit of signal {index} diverged within {steps} "
                        f"steps. Lower `steps` (now {steps}). Complete files "
                        "are kept."
                    )
                if self._bits is not None:
                    learned, shapes = fitter.learned, fitter.shapes
                    theta = codes.encode(theta, learned, shapes, self._bits)
                    after = fitter.score(
                        codes.decode(theta, learned, shapes), sample
                    )
                yield Example(index, theta, before, after)
                index += 1


def _counted(examples, on_fitted):
    for example in examples:
        yield example
        on_fitted(1)


def fit_on_beam(
    make_bulk_fit: Callable[[], BulkFit],
    bulk_fit: BulkFit,
    indices: list[int],
    options: str,
    on_fitted: Callable[[int], None] = lambda count: None,
) -> None:
    """Fits the signals of files on an Apache Beam pipeline, a file an element.

    A process of the runner makes its `BulkFit` once, for all its files. Runners
    differ in what they do after a failure, and the one on a single machine
    gives up. So after a pipeline that leaves a file missing, this process fits
    the first such file, which raises what is wrong with the data, and another
    pipeline takes the rest.

    Args:
        make_bulk_fit: makes a `BulkFit` with the same arguments; must be
            picklable.
        bulk_fit: that of this process.
        indices: indices of the files.
        options: the options of a Beam pipeline, as a command line has them.
        on_fitted: called with numbers of signals whose files appeared.

    Raises:
        UserError: if a fit diverges, or the third pipeline leaves files
            missing.
    """
    dataset, waiting = bulk_fit.dataset, set(indices)

    def count():
        written = waiting.difference(dataset.missing())
        waiting.difference_update(written)
        on_fitted(sum(dataset.lengths[i] for i in written))

    for _ in range(_MAX_PIPELINES):
        if waiting:
            _run_alone((make_bulk_fit, sorted(waiting), options), count)
        if waiting:
            bulk_fit.fit_file(min(waiting))
            count()
    if waiting:
        raise UserError(
            f"After {_MAX_PIPELINES} pipelines {len(waiting)} files are "
            "missing. All workers must see `output_dir`. Complete files are "
            "kept; repeat the command to resume."
        )


def _run_alone(arguments, count):
    """Runs a pipeline in a process of its own, which can be given up."""
    pipeline = multiprocessing.get_context("spawn").Process(
        target=_run_pipeline, args=arguments, daemon=True
    )
    pipeline.start()
    try:
        while pipeline.is_alive():
            pipeline.join(_SECONDS_BETWEEN_COUNTS)
            count()
    finally:
        # Its workers too, if it or this process ends before its time.
        pipeline.kill()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pipeline.pid, signal.SIGKILL)


def _run_pipeline(make_bulk_fit, indices, options):
    """Runs a pipeline; ends this process with an exit code if it fails."""
    from apache_beam.utils.shared import Shared

    os.setsid()
    beam = import_beam(_BEAM_OPTIONS)
    # Beam's runner on a single machine hangs if a worker is killed. The thread
    # that started the worker raises, and this hook ends the process.
    threading.excepthook = _exit
    with beam.Pipeline(
        options=pipeline_options(_BEAM_OPTIONS, options)
    ) as pipeline:
        _ = (
            pipeline
            | beam.Create(indices)
            | beam.Reshuffle()
            | beam.Map(_fit_shared, Shared(), make_bulk_fit)
        )


def _exit(arguments):
    """A `threading.excepthook` that ends the process."""
    _LOGGER.warning("%s", arguments.exc_value)
    os._exit(1)


def _fit_shared(index, shared, make_bulk_fit):
    """Fits a file with the `BulkFit` of this process."""
    try:
        shared.acquire(make_bulk_fit).fit_file(index)
    except UserError as error:
        # No other worker would do better. The file stays missing.
        _LOGGER.warning("%s", error)
