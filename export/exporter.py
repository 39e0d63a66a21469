"""Exports a training run as artifacts that fit signals on their own.

    <output_dir>/
      model.tflite             LiteRT: phones, browsers, C (lite.py)
      saved_model/1/           TF Serving (saved_model.py)
      serving/                 models.config and batching_parameters.txt
      metadata.json            a description of both; also in model.tflite

Everything is written to a temporary folder, checked against Python on a
held-out signal, and renamed into place.
"""

import dataclasses
import os
import pathlib
import time
from typing import NamedTuple

import tfmetainit
from tfmetainit import modalities
from tfmetainit.export import (
    flatbuffer,
    gpu,
    held_out,
    lite,
    saved_model,
    serving,
)
from tfmetainit.export.adapter import PRECISIONS, Adapter
from tfmetainit.io import files, quiet
from tfmetainit.io.errors import InputError, check_range
from tfmetainit.io.weights import weight_names
from tfmetainit.litert.artifact import SIGNATURES
from tfmetainit.runs import build, sources
from tfmetainit.runs.prior import read_prior
from tfmetainit.runs.workdir import find_run

FORMATS = ("saved_model", "tflite")
MAX_POINTS = 2**22
MAX_STEPS = 10_000
_GRAPH_BYTES = 2**23  # bounds the graph of either format, without weights
TFLITE = "model.tflite"
METADATA = "metadata.json"
_FORMAT_NAME = "tfmetainit export"


@dataclasses.dataclass(frozen=True)
class Summary:
    """A summary of `export`.

    Attributes:
        sizes: bytes of every file, by its path below the output folder.
        signatures: names of the inputs of every signature, by format.
        operations: number of occurrences of each operation of the .tflite file,
            by its name.
        refused: what GPU delegates do not take of the signatures for them, by
            the name of the signature (`gpu.refused`).
        differences: largest difference of a predicted value from Python's, by
            format.
        tolerance: the largest difference allowed.
        psnr: PSNR in dB on the held-out signal, before and after the training's
            number of steps, by format; "Python" is that of the trained weights.
        example: flags with which `python -m tfmetainit.fit --artifact` fits a
            file; None if that command cannot fit signals of the class.
        seconds: duration of the call.
    """

    sizes: dict[str, int]
    signatures: dict[str, dict[str, list[str]]]
    operations: dict[str, int]
    refused: dict[str, list[str]]
    differences: dict[str, float]
    tolerance: float
    psnr: dict[str, tuple[float, float]]
    example: str | None
    seconds: float


def export(
    workdir,
    output_dir,
    *,
    formats=FORMATS,
    num_points: int | None = None,
    max_steps: int = 64,
    precision: str = "float32",
    input_path=None,
    license_name: str = "not stated",
    **details,
) -> Summary:
    """Exports the best weights of a training run.

    Args:
        workdir: the folder of the run.
        output_dir: the folder to write; an earlier export there is replaced.
        formats: some of `FORMATS`.
        num_points: the largest number of observations of one call of the
            .tflite file's `adapt`; by default as many as one signal has.
        max_steps: the largest number of steps of one call of `adapt`.
        precision: "float32", or "float16" for weights of half the size.
        input_path: file of the signal that the artifacts are checked on; by
            default the first signal of the class's test split.
        license_name: license of the weights, for the metadata.
        **details: further arguments of the run's modality for `input_path`
            (`fit.fit`).

    Returns:
        A `Summary`.

    Raises:
        InputError: if an argument, the run, or the output folder is not valid.
        UserError: if an artifact's numbers differ from Python's by more than
            `tolerance`; nothing is written then.
    """
    started = time.monotonic()
    formats = tuple(dict.fromkeys(formats))
    _check_arguments(formats, num_points, max_steps, precision)
    output_dir = pathlib.Path(os.path.realpath(output_dir))
    _check_output(output_dir)
    workdir = find_run(workdir)
    config = workdir.read_config()
    # LiteRT has neither bfloat16 nor float64.
    config.field.hidden_dtype, config.field.dtype = None, "float32"
    signal = build.build_signal(config)
    learner = build.load_learner(workdir, config, signal)
    task = held_out.find(signal, input_path, details)
    num_points, num_coords = _sizes(signal, task, num_points)
    prior = read_prior(workdir, learner.field)
    with quiet.notices():  # oneDNN reports that it does not take float16
        adapter = Adapter(
            learner,
            input_shape=task.support.inputs.shape[2:],
            value_shape=task.support.values.shape[2:],
            coords_shape=task.query.inputs.shape[1:],
            max_steps=max_steps,
            precision=precision,
            chunk=signal.observations_per_chunk,
            prior=prior,
        )
        case = held_out.Case(learner, adapter, signal, task, num_points)
    metadata = _metadata(
        workdir, config, signal, adapter, learner, license_name
    )
    metadata["num_points"], metadata["num_coords"] = num_points, num_coords
    with files.atomic_folder(output_dir) as staging:
        files.check_space(
            output_dir.parent,
            len(formats) * 8 * adapter.num_stored + _GRAPH_BYTES,
        )
        written = {
            name: _WRITERS[name](staging, adapter, case, metadata)
            for name in formats
        }
        files.write_json(staging / METADATA, metadata)
    sizes = {
        path.relative_to(output_dir).as_posix(): path.stat().st_size
        for path in files.files_below(output_dir)
    }
    known = metadata["signal"]["kind"] in modalities.NAMES
    return Summary(
        sizes,
        {name: one.signatures for name, one in written.items()},
        written["tflite"].operations if "tflite" in written else {},
        written["tflite"].refused if "tflite" in written else {},
        {name: one.difference for name, one in written.items()},
        case.tolerance,
        {"Python": case.psnr()}
        | {name: one.psnr for name, one in written.items()},
        signal.modality.example if signal.modality and known else None,
        time.monotonic() - started,
    )


def _check_arguments(formats, num_points, max_steps, precision):
    if not formats or not set(formats) <= set(FORMATS):
        raise InputError(
            f"`formats` must be among {', '.join(FORMATS)}. Received: "
            f"{', '.join(formats) or 'none'}"
        )
    if precision not in PRECISIONS:
        raise InputError(
            f"`precision` must be one of {', '.join(PRECISIONS)}. Received: "
            f"{precision}"
        )
    check_range("max_steps", max_steps, 1, MAX_STEPS)
    if num_points is not None:
        check_range("num_points", num_points, 1, MAX_POINTS)


def _sizes(signal, task, num_points):
    """The static numbers of rows of a .tflite file's observations and coords.

    They depend on the class, not on the signal that the file is checked on.
    """
    observed = int(task.support.inputs.shape[1])
    modality = signal.modality
    if modality:
        num_coords = modality.num_coords
    else:
        num_coords = int(task.query.inputs.shape[0])
    if num_points is None:
        num_points = modality.num_observations if modality else observed
        check_range("num_points", num_points, 1, MAX_POINTS)
    if observed > num_points and modality and not modality.may_drop:
        raise InputError(
            "`num_points` must be at least the number of observations of the "
            f"held-out signal, {observed}. Received: {num_points}"
        )
    return num_points, num_coords


class _Written(NamedTuple):
    """The result of writing one format; see `Summary`."""

    signatures: dict[str, list[str]]
    operations: dict[str, int]
    refused: dict[str, list[str]]
    difference: float
    psnr: tuple[float, float]


def _write_saved_model(staging, adapter, case, metadata):
    folder = staging / "saved_model" / "1"
    described = metadata["signal"]
    resolution = (
        described["resolution"] if described["kind"] == "image" else None
    )
    with quiet.notices():
        signatures = saved_model.save(adapter, folder, resolution)
    serving.write_warmup(folder, metadata["name"], case.requests())
    serving.write_configs(staging / "serving", metadata["name"])
    predicted = case.through_saved_model(folder)
    difference = case.compare("SavedModel", predicted)
    return _Written(signatures, {}, {}, difference, case.psnr(predicted))


def _write_tflite(staging, adapter, case, metadata):
    sizes = metadata["num_points"], metadata["num_coords"]
    content = lite.convert(adapter, num_points=sizes[0], num_coords=sizes[1])
    signatures = {
        name: sorted(inputs)
        for name, (inputs, _) in SIGNATURES.items()
        if "weights" not in inputs or name in adapter.weighted
    }
    refused = {
        name: gpu.refused(content, name)
        for name in gpu.SIGNATURES
        if name in signatures
    }
    metadata["gpu"] = not any(refused.values())
    content = flatbuffer.with_metadata(content, metadata)
    (staging / TFLITE).write_bytes(content)
    predicted = case.through_lite(staging / TFLITE)
    stepped = case.through_steps(staging / TFLITE)
    difference = case.compare(".tflite file", predicted)
    if stepped is not None:
        name = ".tflite file, step by step,"
        difference = max(difference, case.compare(name, stepped))
    if adapter.completes:
        completed = case.check_completion(staging / TFLITE)
        difference = max(difference, completed)
    return _Written(
        signatures,
        flatbuffer.operations(content),
        refused,
        difference,
        case.psnr(predicted),
    )


_WRITERS = {"saved_model": _write_saved_model, "tflite": _write_tflite}


def _check_output(output_dir):
    """Raises InputError unless the folder may be made or replaced."""
    try:
        if os.path.ismount(output_dir) or (
            output_dir.exists() and output_dir.samefile(pathlib.Path.cwd())
        ):
            raise InputError(
                "`output_dir` must be neither a mount point nor the working "
                f"folder, as it is replaced as a whole. Received: {output_dir}"
            )
        if not output_dir.exists():
            return
        there = os.listdir(output_dir) if output_dir.is_dir() else [output_dir]
        if not there:
            return
    except OSError as error:
        raise InputError(
            f"Cannot read {output_dir}: {error.strerror}."
        ) from error
    try:
        known = files.read_json(output_dir / METADATA)["format"]
    except (InputError, KeyError, TypeError):
        known = None
    if known != _FORMAT_NAME:
        raise InputError(
            "`output_dir` must be a new folder, an empty one, or one of an "
            f"earlier export. Received: {output_dir}, which holds other files"
        )
    others = set(there) - {METADATA, TFLITE, "saved_model", "serving"}
    if others:
        raise InputError(
            "`output_dir` must hold nothing beside an earlier export, as it is "
            f"replaced as a whole. Received: {output_dir} with {min(others)}"
        )


def _metadata(workdir, config, signal, adapter, learner, license_name) -> dict:
    settings = sources.public_settings(config.signal)
    config = {**config.to_dict(), "signal": settings}
    config.pop("warm_start", None)
    best = workdir.read_best()
    variables = learner.field.trainable_variables
    params = [
        {"name": name, "shape": list(variable.shape)}
        for name, variable in zip(weight_names(len(variables)), variables)
    ]
    return {
        "format": _FORMAT_NAME,
        "version": tfmetainit.__version__,
        "name": config["signal"]["name"].rpartition(".")[2],
        "license": license_name,
        "signal": signal.describe(),
        "input_shape": list(adapter.input_shape),
        "value_shape": list(adapter.value_shape),
        "coords_shape": list(adapter.coords_shape),
        "num_params": adapter.num_params,
        "unseen_weight": adapter.unseen_weight,
        "output_layer": "stepped" if learner.ridge is None else "solved",
        "step_on": learner.step_on,
        "params": params,
        "precision": adapter.precision,
        "inner_steps": learner.inner_steps,
        "max_steps": adapter.max_steps,
        "step_sizes": config["learner"].get("step_sizes", "scalar"),
        "expected_psnr": {
            "db": best["psnr"],
            "after_steps": learner.inner_steps,
            "on": "validation signals of the class",
            "training_step": best["step"],
        },
        "config": config,
    }
