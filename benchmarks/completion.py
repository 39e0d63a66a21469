r"""How well fits of partly seen pictures predict what was not seen.

    python benchmarks/completion.py --workdir=text_64

Held-out pictures are observed in part: a random half, quarter or twentieth of
the pixels, or the left half. Three ways to predict the others are compared: the
mean colour of the observed pixels; gradient steps on these; and steps on these
and on what the run's prior predicts (`tfmetainit.meta.completion`), as
`python -m tfmetainit.fit --mask` takes them. Prints a table of PSNRs, at the
pixels that were not observed and at those that were.
"""

import numpy as np
from absl import flags

from tfmetainit import cli

cli.quiet_tensorflow()

import tensorflow as tf

from tfmetainit.evaluation.tables import markdown_table
from tfmetainit.geometry import psnr_from_mse
from tfmetainit.io.progress import progress
from tfmetainit.meta.tasks import Observations
from tfmetainit.runs import RunFitter, build
from tfmetainit.runs.workdir import find_run
from tfmetainit.signals.base import first_tasks

_FLAGS = flags.FLAGS
flags.DEFINE_string("workdir", "text_64", "Folder of a training run.")
flags.DEFINE_string("folder", None, "config.signal.folder of a run with one.")
flags.DEFINE_integer("num_signals", 100, "Held-out signals.")
flags.DEFINE_integer("steps", 2, "Gradient steps.")
_PARTS = ("half", "quarter", "twentieth", "left half")


def _seen(part, side):
    """Which pixels of a picture are observed, bools `[side, side]`."""
    if part == "left half":
        return np.arange(side) < np.full((side, 1), side // 2)
    share = {"half": 1 / 2, "quarter": 1 / 4, "twentieth": 1 / 20}[part]
    return np.random.default_rng(0).random((side, side)) < share


def _methods(fitter, learner, picture, seen):
    """Each method's picture `[side, side, 3]`, by its name."""
    sample = fitter.modality.observe(picture, seen)
    constant = np.broadcast_to(picture[seen].mean(axis=0), picture.shape)
    yield "best constant", constant
    # The same without the pixels that miss.
    support = Observations(
        tf.constant(sample.inputs), tf.constant(sample.values)
    )
    params, _ = learner.adapt(support, _FLAGS.steps)
    predicted = learner.query_loss.predict(params, sample.coords).numpy()
    yield "steps on the observed pixels", predicted.reshape(picture.shape)
    (fitted,) = fitter.fit([sample], _FLAGS.steps, ())
    yield (
        "steps with the prior",
        fitter.render(fitted.theta, *picture.shape[:2], sample.camera),
    )


def main(argv):
    """Prints the table."""
    del argv
    workdir = find_run(_FLAGS.workdir)
    config = workdir.read_config()
    if _FLAGS.folder:
        config.signal.folder = _FLAGS.folder
    signal = build.build_signal(config)
    # Steps on a part of a picture see all of it.
    config.learner.step_on = "all"
    learner = build.load_learner(workdir, config, signal)
    fitter = RunFitter(_FLAGS.workdir)
    side = fitter.modality.resolution
    tasks = first_tasks(signal, "test", _FLAGS.num_signals)
    scores = {}
    for task in progress(tasks, "Fitting", unit="picture"):
        picture = task.query.values.numpy()[: side**2]
        picture = picture.reshape(side, side, 3)
        for part in _PARTS:
            seen = _seen(part, side)
            for name, drawn in _methods(fitter, learner, picture, seen):
                errors = (np.clip(drawn, 0, 1) - picture) ** 2
                for where in (~seen, seen):
                    cell = scores.setdefault(name, {}).setdefault(
                        part, ([], [])
                    )
                    cell[int(where is seen)].append(
                        psnr_from_mse(float(errors[where].mean()))
                    )
    titles = [
        f"{part}, {where}" for part in _PARTS for where in ("rest", "seen")
    ]
    rows = [
        [name, *(f"{np.mean(v):.2f}" for part in _PARTS for v in of[part])]
        for name, of in scores.items()
    ]
    print(f"{len(tasks)} pictures of {side} x {side}, {_FLAGS.steps} steps\n")
    print(markdown_table(["", *titles], rows))


if __name__ == "__main__":
    cli.run(main, __doc__)
