r"""Adapts a learned initialization to one file of yours, and renders it.

    python -m tfmetainit.fit --workdir=runs/text --input=photo.png \
        --steps=4 --output=fit.png

The picture is cropped to its central square, resized to the resolution that
the weights were trained at, and fitted by gradient steps from them. A field is
continuous: --resolution=512x512 renders it at any size. --weights=fit.npz
keeps the adapted weights.
"""

import contextlib
import math
import pathlib
import re
import time

from absl import flags

from tfmetainit import cli

cli.quiet_tensorflow()

from tfmetainit import experiment, files, functional, initial_weights
from tfmetainit.errors import InputError, UserError, check_range
from tfmetainit.experiment import Workdir
from tfmetainit.tasks import psnr_from_mse

MAX_STEPS = 10_000
MAX_SIDE = 16_384
MAX_PIXELS = 2**26


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
    steps=None,
    resolution=None,
    weights=None,
) -> list[float]:
    """Fits one signal and writes its rendering.

    Args:
        workdir: the folder of a training run.
        input_path: the file to fit.
        output_path: the picture to write.
        steps: number of gradient steps in [0, 10000]; by default as many as
            in training.
        resolution: `(height, width)` of the rendering; by default that of the
            training.
        weights: path of an `.npz` file for the adapted weights, or None.

    Returns:
        PSNR in dB after 0, 1, ..., `steps` steps.

    Raises:
        InputError: if a file or a number is not valid; nothing is written.
        UserError: if the fit diverges; nothing is written.
    """
    workdir = Workdir(workdir)
    config = workdir.read_config()
    steps = config.learner.inner_steps if steps is None else steps
    check_range("--steps", steps, 0, MAX_STEPS)
    files.check_image_suffix(output_path)
    if weights is not None and pathlib.Path(weights).suffix != ".npz":
        raise InputError(f"--weights must end in .npz. Received: {weights}")
    signal = experiment.build_signal(config)
    task = signal.read_task(input_path)
    learner = experiment.load_learner(workdir, config, signal)
    start = functional.get_params(learner.field)
    # Opened first: an output that cannot be written is known before the fit,
    # and both appear together at its end.
    with contextlib.ExitStack() as outputs:
        picture_file = outputs.enter_context(files.atomic_path(output_path))
        if weights is not None:
            weights_file = outputs.enter_context(files.atomic_path(weights))
        psnr = []
        for params in learner.sgd_fit().trajectory(start, task.support, steps):
            loss = learner.query_loss(params, task.query)
            psnr.append(float(psnr_from_mse(loss)))
            if not math.isfinite(psnr[-1]):
                raise UserError(
                    f"The fit diverged at step {len(psnr) - 1}; lower --steps "
                    f"(now {steps}). Nothing was written."
                )
        field = functional.bind(learner.field, params)
        if resolution is None:
            picture = signal.picture(field(task.query.inputs).numpy())
        else:
            picture = signal.render(field, *resolution)
        files.write_image(picture_file, picture)
        if weights is not None:
            initial_weights.save_npz(weights_file, params)
    return psnr


def main(argv):
    """Runs `fit` with the command's flags."""
    del argv
    values = flags.FLAGS
    started = time.monotonic()
    resolution = values.resolution and parse_resolution(values.resolution)
    psnr = fit(
        values.workdir,
        values.input,
        values.output,
        steps=values.steps,
        resolution=resolution,
        weights=values.weights,
    )
    for step, value in enumerate(psnr):
        print(f"step {step:4d}  PSNR {value:6.2f} dB")
    best = max(range(len(psnr)), key=psnr.__getitem__)
    if best < len(psnr) - 1:
        print(f"The best was step {best}: try --steps={best}.")
    print(f"Rendered to {values.output}", end="")
    print(f", weights in {values.weights}" if values.weights else "", end="")
    print(f" ({time.monotonic() - started:.1f} s).")


def run():
    """The command `tfmetainit-fit`."""
    flags.DEFINE_string("workdir", None, "Folder of a training run.")
    flags.DEFINE_string("input", None, "The file to fit, for example an image.")
    flags.DEFINE_string("output", None, "The picture to write.")
    flags.DEFINE_integer(
        "steps", None, "Gradient steps; default: as many as in training."
    )
    flags.DEFINE_string(
        "resolution", None, "Height and width of the rendering: 512x512."
    )
    flags.DEFINE_string("weights", None, "Also write the weights, as .npz.")
    flags.mark_flags_as_required(["workdir", "input", "output"])
    cli.run(main, __doc__)


if __name__ == "__main__":
    run()
