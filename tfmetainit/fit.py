r"""Adapts a learned initialization to one file of yours, and renders it.

    python -m tfmetainit.fit --workdir=runs/text --input=photo.png \
        --steps=4 --output=fit.png
    python -m tfmetainit.fit --artifact=exported/text/model.tflite \
        --input=photo.png --steps=4 --output=fit.png

The picture is cropped to its central square, resized to the resolution that
the weights were trained at, and fitted by gradient steps from them. A field is
continuous: --resolution=512x512 renders it at any size. --weights=fit.npz
keeps the adapted weights.

Of a run on tomography, the input is a sinogram (.npy, with --angles), or a
slice that is projected first:

    python -m tfmetainit.fit --workdir=runs/ct --input=sinogram.npy \
        --angles=0,45,90,135 --steps=12 --output=slice.png

With --workdir, the weights are those of a training run, in TensorFlow. With
--artifact, they are in a file of `python -m tfmetainit.export`, and LiteRT
alone runs it: TensorFlow is neither needed nor imported.
"""

import contextlib
import math
import os
import pathlib
import re
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tfmetainit import cli, files, image_files, kinds, pixels
from tfmetainit.errors import (
    InputError,
    UserError,
    check_one_source,
    check_range,
)

MAX_STEPS = 10_000
MAX_SIDE = 16_384
MAX_PIXELS = 2**26

FLAGS = {
    "workdir": (str, "Folder of a training run."),
    "artifact": (str, "Instead of --workdir: an exported .tflite file."),
    "input": (str, "The file to fit, for example an image."),
    "output": (str, "The picture to write."),
    "steps": (int, "Gradient steps; default: as many as in training."),
    "resolution": (str, "Height and width of the rendering: 512x512."),
    "weights": (str, "Also write the weights, as .npz."),
    **{name: (str, text) for name, text in kinds.DETAILS.items()},
}


class Fitted(NamedTuple):
    """One signal after its gradient steps.

    Attributes:
        psnr: in dB, after 0, 1, ... steps.
        of_observations: whether it is that of the observations, because the
            signal itself is not known.
        params: the adapted weights, arrays.
        render: maps a height and a width to a picture.
    """

    psnr: list[float]
    of_observations: bool
    params: list
    render: Callable[[int, int], np.ndarray]


class _Run:
    """What a training run's folder holds, fitted in TensorFlow."""

    def __init__(self, workdir):
        try:
            cli.quiet_tensorflow()
            from tfmetainit import experiment, runs
        except ModuleNotFoundError as error:
            raise InputError(
                f"--workdir needs {error.name}: pip install tfmetainit. An "
                "exported file (--artifact) does not."
            ) from error

        self._workdir = runs.find_run(workdir)
        self._config = self._workdir.read_config()
        self.default_steps = self._config.learner.inner_steps
        self._signal = experiment.build_signal(self._config)
        self.kind = self._signal.kind
        self.resolution = getattr(
            self._signal, "resolution", getattr(self.kind, "resolution", None)
        )

    def read(self, path, details) -> kinds.Sample:
        return self._signal.read_sample(path, **details)

    def fit(self, sample, steps) -> Fitted:
        from tfmetainit import experiment, functional, tasks
        from tfmetainit.adaptation import at_step

        signal = self._signal
        task = tasks.to_task(sample)
        learner = experiment.load_learner(self._workdir, self._config, signal)
        known = task.query.values is not None
        psnr = []
        for params in learner.sgd_fit().trajectory(
            functional.get_params(learner.field), task.support, steps
        ):
            decibels = (
                learner.query_loss.psnr(params, task.query)
                if known
                else learner.support_loss.psnr(params, at_step(task.support, 0))
            )
            psnr.append(_finite(float(decibels), len(psnr), steps))

        def predict(inputs):
            return learner.query_loss.predict(params, inputs)

        return Fitted(
            psnr,
            not known,
            [p.numpy() for p in params],
            lambda height, width: signal.render(
                predict, height, width, sample.view
            ),
        )


class _Artifact:
    """What an exported .tflite file holds, fitted by LiteRT."""

    def __init__(self, path):
        from tfmetainit.lite_artifact import LiteArtifact

        self._artifact = LiteArtifact(path, num_threads=os.cpu_count())
        self.default_steps, self._shapes, signal = self._artifact.recorded()
        self.kind = kinds.from_description(signal)
        self.resolution = self.kind.resolution

    def read(self, path, details) -> kinds.Sample:
        return self.kind.read(path, **details)

    def fit(self, sample, steps) -> Fitted:
        artifact = self._artifact
        inputs, values, coords, target, view = sample
        inputs, values = self.kind.thinned(inputs, values, artifact.num_points)
        theta, psnr = artifact.init(), []
        for step in range(steps + 1):
            # The loss before a step is that of the weights so far.
            if target is None or step < steps:
                batch = step % len(inputs)
                adapted, losses = artifact.adapt(
                    theta, inputs[batch], values[batch], 1
                )
                if not losses:
                    _finite(math.nan, step, steps)
            if target is None:
                error = losses[0]
            else:
                predicted = artifact.predict(theta, coords)
                error = float(np.mean((predicted - target) ** 2))
            psnr.append(_finite(pixels.psnr_from_mse(error), step, steps))
            if step < steps:
                theta = adapted
        sizes = [math.prod(shape) for shape in self._shapes]
        parts = np.split(theta, np.cumsum(sizes)[:-1])

        def predict(coords):
            return artifact.predict(theta, coords)

        return Fitted(
            psnr,
            target is None,
            [p.reshape(shape) for p, shape in zip(parts, self._shapes)],
            lambda height, width: self.kind.render(
                predict, height, width, view
            ),
        )


def _finite(psnr, step, steps):
    """The PSNR, unless it is not a number."""
    if not math.isfinite(psnr):
        raise UserError(
            f"The fit diverged at step {step}; lower --steps (now {steps}). "
            "Nothing was written."
        )
    return psnr


def parse_resolution(text: str) -> tuple[int, int]:
    """`(height, width)` of a string like "512x512".

    Raises:
        InputError: if it is not two numbers in [1, 16384].
    """
    match = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", text)
    sizes = tuple(int(size) for size in match.groups()) if match else ()
    if (
        not sizes
        or not all(1 <= size <= MAX_SIDE for size in sizes)
        or sizes[0] * sizes[1] > MAX_PIXELS
    ):
        raise InputError(
            f"--resolution must be <height>x<width>, each in [1, {MAX_SIDE}], "
            f"{MAX_PIXELS} pixels at most, for example 512x512. Received: "
            f"{text!r}"
        )
    return sizes


def fit(
    workdir,
    input_path,
    output_path,
    *,
    artifact=None,
    steps=None,
    resolution=None,
    weights=None,
    **details,
) -> Fitted:
    """Fits one signal and writes its rendering.

    Args:
        workdir: the folder of a training run; None with `artifact`.
        input_path: the file to fit.
        output_path: the picture to write.
        artifact: path of an exported .tflite file, or None.
        steps: number of gradient steps in [0, 10000]; by default as many as
            in training.
        resolution: `(height, width)` of the rendering; by default that of the
            training.
        weights: path of an `.npz` file for the adapted weights, or None.
        **details: what signals of the run's kind take beside the file:
            `angles` of a sinogram (`tomography.parse_angles`), `pose` of an
            object's picture (`views.parse_pose`), `cameras` of a landmark's
            photograph (`photo_collections.read_collection`).

    Raises:
        InputError: if a file or a number is not valid; nothing is written.
        UserError: if the fit diverges; nothing is written.
    """
    check_one_source(workdir, artifact)
    image_files.check_image_suffix(output_path)
    if weights is not None and pathlib.Path(weights).suffix != ".npz":
        raise InputError(f"--weights must end in .npz. Received: {weights}")
    for output in (output_path, weights):
        if output and os.path.realpath(output) == os.path.realpath(input_path):
            raise InputError(
                "An output must be another file than --input. Received: "
                f"{output}"
            )
    source = _Artifact(artifact) if workdir is None else _Run(workdir)
    steps = source.default_steps if steps is None else steps
    check_range("--steps", steps, 0, MAX_STEPS)
    details = {k: v for k, v in details.items() if v is not None}
    kinds.check_details(source.kind, details)
    sample = source.read(input_path, details)
    if resolution is None and source.resolution is None:
        raise InputError(
            "--resolution must be given for a class without a resolution of "
            "its own. Received: none"
        )
    size = resolution or (source.resolution, source.resolution)
    # Opened first: an output that cannot be written is known before the fit,
    # and both appear together at its end.
    with contextlib.ExitStack() as outputs:
        picture_file = outputs.enter_context(files.atomic_path(output_path))
        if weights is not None:
            weights_file = outputs.enter_context(files.atomic_path(weights))
        fitted = source.fit(sample, steps)
        picture = fitted.render(*size)
        image_files.write_image(picture_file, picture)
        if weights is not None:
            files.write_npz(weights_file, fitted.params)
    return fitted


def main(values):
    """Runs `fit` with the command's flags."""
    started = time.monotonic()
    for name in ("input", "output"):
        if getattr(values, name) is None:
            raise InputError(f"--{name} must be given: {FLAGS[name][1]}")
    fitted = fit(
        values.workdir,
        values.input,
        values.output,
        artifact=values.artifact,
        steps=values.steps,
        resolution=values.resolution and parse_resolution(values.resolution),
        weights=values.weights,
        **{name: getattr(values, name) for name in kinds.DETAILS},
    )
    psnr = fitted.psnr
    of_what = " of the observations" if fitted.of_observations else ""
    for step, value in enumerate(psnr):
        print(f"step {step:4d}  PSNR{of_what} {value:6.2f} dB")
    best = max(range(len(psnr)), key=psnr.__getitem__)
    if best < len(psnr) - 1 and not of_what:
        print(f"The best was step {best}: try --steps={best}.")
    print(f"Rendered to {values.output}", end="")
    print(f", weights in {values.weights}" if values.weights else "", end="")
    print(f" ({time.monotonic() - started:.1f} s).")


def run():
    """The command `tfmetainit-fit`."""
    cli.run_plain(main, __doc__, FLAGS)


if __name__ == "__main__":
    run()
