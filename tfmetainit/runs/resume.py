"""Checks whether a run can start or resume in a folder."""

import contextlib
import pathlib

import ml_collections

from tfmetainit.io import files
from tfmetainit.io.errors import InputError
from tfmetainit.runs.config_check import as_json
from tfmetainit.runs.sources import SOURCE_FIELDS, source_sizes
from tfmetainit.runs.workdir import Workdir
from tfmetainit.signals.base import SignalClass

_MAX_RECORD_BYTES = 2**30  # of names and sizes: some ten million files


def check_workdir(
    config: ml_collections.ConfigDict, workdir: Workdir, signal: SignalClass
) -> None:
    """Raises InputError unless a run of `config` can start or resume there."""
    folder = config.signal.get("folder")
    if folder and workdir.root.resolve().is_relative_to(
        pathlib.Path(folder).resolve()
    ):
        raise InputError(
            "`workdir` must be outside of `folder`, or its pictures would "
            f"become signals. Received: {workdir.root} in {folder}"
        )
    if workdir.last.exists():
        _check_resumable(config, workdir, signal)
    elif workdir.best_record.is_file():
        _check_replaceable(workdir)


def claim_workdir(
    config: ml_collections.ConfigDict,
    workdir: Workdir,
    signal: SignalClass,
    stack: contextlib.ExitStack,
) -> None:
    """Makes the folders of a run and writes its config.

    No other training can use the folder until `stack` is closed.

    Raises:
        InputError: if another training uses the folder, or it is not writable.
    """
    files.make_folder(workdir.last.parent)
    try:
        stack.enter_context(files.lock(workdir.lock, wait=False))
    except BlockingIOError as error:
        raise InputError(
            "`workdir` must not be in use by a training that is still running. "
            f"Received: {workdir.root}"
        ) from error
    for path in (
        workdir.last,
        workdir.last_record,
        workdir.best,
        workdir.best_record,
        workdir.prior,
    ):
        files.remove_leftovers(path)
    files.write_json(workdir.config, as_json(config))
    files.write_json(workdir.sources, _sources(config, signal))


def _check_replaceable(workdir):
    """Raises InputError unless the folder's run may be replaced.

    A run that was killed in its first epoch may be replaced. A published copy
    may not; it has a model card, or a best checkpoint of a later epoch.
    """
    every = workdir.read_config().validation.every
    if workdir.card.is_file() or workdir.read_best()["step"] > every:
        raise InputError(
            "`workdir` must be a new folder, or that of a run that can be "
            f"resumed. Received: {workdir.root}, a copy of a run's best "
            f"weights. Use `config.warm_start`={workdir.root} to start another "
            "run from them."
        )


def _check_resumable(config, workdir, signal):
    for path in (workdir.best, workdir.best_record, workdir.last_record):
        if not path.is_file():
            raise InputError(
                "A run can be resumed only with all of its checkpoints and "
                f"records. Received: {workdir.root} without {path.name}"
            )
    _check_sources(config, workdir, signal)
    wanted = _flatten(as_json(config))
    found = _flatten(as_json(workdir.read_config()))
    # The same files may lie in another folder by now.
    moved = {f"signal.{option}" for option in SOURCE_FIELDS}
    for name in sorted((wanted.keys() | found.keys()) - moved):
        # The prior is measured after the training.
        if name.startswith("prior."):
            continue
        if wanted.get(name) != found.get(name):
            raise InputError(
                "A run can be resumed only with its own config. Choose another "
                f"`workdir`, or give the same config. Received: "
                f"{workdir.root}, a run with `config.{name}`="
                f"{found.get(name)!r}, and a config with {wanted.get(name)!r}"
            )


def _check_sources(config, workdir, signal):
    record = files.read_json(workdir.sources, _MAX_RECORD_BYTES)
    before = record.get("sizes") if isinstance(record, dict) else None
    if not isinstance(before, dict):
        raise InputError(
            f"{workdir.sources} must record the names and sizes of the run's "
            "input files. The run of another version can be continued by "
            f"another one: `config.warm_start`={workdir.root}."
        )
    now = _sources(config, signal)["sizes"]
    changed = [n for n in before.keys() | now if before.get(n) != now.get(n)]
    if changed:
        first = min(changed)
        raise InputError(
            "A run can be resumed only if its input files have the same names "
            f"and sizes as when it started. Received: {workdir.root} with "
            f"{len(changed)} other files, such as {first}, "
            f"{_state(before.get(first))} then and {_state(now.get(first))} "
            f"now. Use `config.warm_start`={workdir.root} to start another run "
            "from its weights."
        )


def _state(size):
    """What was recorded of a file, for a message."""
    if size is None:
        return "missing"
    return f"{size} bytes" if isinstance(size, int) else f"hash {size[:8]}"


def _sources(config, signal):
    return {"sizes": source_sizes(config.signal, signal.suffixes)}


def _flatten(tree, prefix=""):
    """A nested mapping as a flat one, whose keys are joined by dots."""
    flat = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
