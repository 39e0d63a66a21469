"""From a training run to artifacts that fit signals by themselves.

    <output_dir>/
      model.tflite             LiteRT: phones, browsers, C (lite.py)
      saved_model/1/           TF Serving (saved_model.py)
      serving/                 its models.config, batching_parameters.txt
      metadata.json            what is in the artifacts; also in model.tflite

All of it is written to a temporary folder, checked against the Python code on
a held-out signal, and renamed into place.
"""

import dataclasses
import os
import pathlib
import time

import tfmetainit
from tfmetainit import experiment, files, kinds, lite_artifact, quiet, runs
from tfmetainit.errors import InputError, check_range
from tfmetainit.export import held_out, lite, saved_model, serving
from tfmetainit.export.adapter import PRECISIONS, Adapter

FORMATS = ("saved_model", "tflite")
MAX_POINTS = 2**22
MAX_STEPS = 10_000
_GRAPH_BYTES = 2**23  # of both formats, beside the weights
TFLITE = "model.tflite"
METADATA = "metadata.json"
_FORMAT_NAME = "tfmetainit export"


@dataclasses.dataclass(frozen=True)
class Summary:
    """What was exported.

    Attributes:
        sizes: bytes of every file, by its path below the output folder.
        signatures: names of the inputs of every signature, by format.
        operations: of the .tflite file, and how often each occurs.
        differences: largest difference of a predicted value from Python's, by
            format.
        psnr: in dB on the held-out signal, before and after the training's
            number of steps, in Python from the trained weights and in the
            artifacts.
        example: what `python -m tfmetainit.fit --artifact` can be given; None
            if it cannot fit signals of the class.
        seconds: duration.
    """

    sizes: dict[str, int]
    signatures: dict[str, dict[str, list[str]]]
    operations: dict[str, int]
    differences: dict[str, float]
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
        formats: which of `FORMATS`.
        num_points: the number of observations that one call of the .tflite
            file's `adapt` takes at most; by default those of one signal of
            the class.
        max_steps: the number of steps that one call of `adapt` takes at most.
        precision: "float32", or "float16" for weights of half the size.
        input_path: the signal that the artifacts are checked on; by default
            the first of the class's test split.
        license_name: of the weights, recorded in the metadata.
        **details: what signals of the run's kind take beside `input_path`
            (`fit.fit`).

    Raises:
        InputError: if an argument, the run, or the output folder is not valid.
        UserError: if an artifact's numbers differ from Python's by more than
            `held_out.TOLERANCE`; nothing is left behind.
    """
    started = time.monotonic()
    formats = tuple(dict.fromkeys(formats))
    if not formats or not set(formats) <= set(FORMATS):
        raise InputError(
            f"--formats must be among {', '.join(FORMATS)}. Received: "
            f"{', '.join(formats) or 'none'}"
        )
    if precision not in PRECISIONS:
        raise InputError(
            f"--precision must be one of {', '.join(PRECISIONS)}. Received: "
            f"{precision}"
        )
    check_range("--max_steps", max_steps, 1, MAX_STEPS)
    if num_points is not None:
        check_range("--num_points", num_points, 1, MAX_POINTS)
    output_dir = pathlib.Path(os.path.realpath(output_dir))
    _check_output(output_dir)
    workdir = runs.find_run(workdir)
    config = workdir.read_config()
    # LiteRT has no bfloat16, and nothing of float64.
    config.field.hidden_dtype, config.field.dtype = None, "float32"
    signal = experiment.build_signal(config)
    learner = experiment.load_learner(workdir, config, signal)
    task = held_out.find(signal, input_path, details)
    observed = int(task.support.inputs.shape[1])
    # Those of the class: the signal to check on decides nothing.
    if signal.kind:
        num_coords = signal.kind.num_coords
    else:
        num_coords = int(task.query.inputs.shape[0])
    if num_points is None:
        num_points = signal.kind.num_observations if signal.kind else observed
        check_range("The number of observations", num_points, 1, MAX_POINTS)
    if observed > num_points and signal.kind and not signal.kind.may_drop:
        raise InputError(
            f"The artifact must take all observations of --input, {observed}; "
            f"--num_points={observed} makes it do so. Received: {num_points}"
        )
    with quiet.notices():  # oneDNN reports that it passes on float16
        adapter = Adapter(
            learner,
            input_shape=task.support.inputs.shape[2:],
            value_shape=task.support.values.shape[2:],
            coords_shape=task.query.inputs.shape[1:],
            max_steps=max_steps,
            precision=precision,
            chunk=signal.observations_per_chunk,
        )
    name = config.signal.name.rpartition(".")[2]
    metadata = _metadata(
        name, workdir, config, signal, adapter, learner, license_name
    )
    metadata["num_points"], metadata["num_coords"] = num_points, num_coords
    with quiet.notices():
        case = held_out.Case(learner, adapter, signal.kind, task, num_points)
    signatures, differences, operations = {}, {}, {}
    psnr = {"Python": case.psnr()}
    with files.atomic_folder(output_dir) as staging:
        files.check_space(
            output_dir.parent,
            len(formats) * 8 * adapter.num_stored + _GRAPH_BYTES,
        )
        files.write_json(staging / METADATA, metadata)
        if "saved_model" in formats:
            folder = staging / "saved_model" / "1"
            with quiet.notices():
                signatures["saved_model"] = saved_model.save(adapter, folder)
            serving.write_warmup(folder, name, case.requests())
            serving.write_configs(staging / "serving", name)
            predicted = case.through_saved_model(folder)
            differences["saved_model"] = case.compare("SavedModel", predicted)
            psnr["saved_model"] = case.psnr(predicted)
        if "tflite" in formats:
            content = lite.convert(
                adapter,
                num_points=num_points,
                num_coords=num_coords,
                metadata=metadata,
            )
            (staging / TFLITE).write_bytes(content)
            operations = lite.operations(content)
            signatures["tflite"] = {
                name: sorted(inputs)
                for name, (inputs, _) in lite_artifact.SIGNATURES.items()
            }
            predicted = case.through_lite(staging / TFLITE)
            differences["tflite"] = max(
                case.compare(".tflite file", predicted),
                case.compare(
                    ".tflite file, compiled,",
                    case.through_compiled_model(
                        content, num_points, num_coords
                    ),
                ),
            )
            psnr["tflite"] = case.psnr(predicted)
    sizes = {
        path.relative_to(output_dir).as_posix(): path.stat().st_size
        for path in files.files_below(output_dir)
    }
    return Summary(
        sizes,
        signatures,
        operations,
        differences,
        psnr,
        # A kind of the user's own is not one that an artifact can name.
        signal.kind.example
        if signal.kind and metadata["signal"]["kind"] in kinds.NAMES
        else None,
        time.monotonic() - started,
    )


def _check_output(output_dir):
    """Raises InputError unless the folder may be made or replaced."""
    try:
        if os.path.ismount(output_dir) or (
            output_dir.exists() and output_dir.samefile(pathlib.Path.cwd())
        ):
            raise InputError(
                "--output_dir is replaced as a whole: it must be neither a "
                f"mount point nor the working folder. Received: {output_dir}"
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
            "--output_dir must be a new folder, an empty one, or one of an "
            f"earlier export. Received: {output_dir}, which holds other files"
        )
    others = set(there) - {METADATA, TFLITE, "saved_model", "serving"}
    if others:
        raise InputError(
            "--output_dir is replaced as a whole: beside an earlier export it "
            f"may hold nothing. Received: {output_dir} with {min(others)}"
        )


def _metadata(
    name, workdir, config, signal, adapter, learner, license_name
) -> dict:
    settings = experiment.public_settings(config.signal)
    config = {**config.to_dict(), "signal": settings}
    config.pop("warm_start", None)
    best = workdir.read_best()
    params = [
        {"name": name, "shape": list(variable.shape)}
        for name, variable in zip(
            files.weight_names(len(learner.field.trainable_variables)),
            learner.field.trainable_variables,
        )
    ]
    return {
        "format": _FORMAT_NAME,
        "version": tfmetainit.__version__,
        "name": name,
        "license": license_name,
        "signal": signal.describe(),
        "input_shape": list(adapter.input_shape),
        "value_shape": list(adapter.value_shape),
        "coords_shape": list(adapter.coords_shape),
        "num_params": adapter.num_params,
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
