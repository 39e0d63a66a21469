r"""Meta-trains initial weights.

    python -m tfmetainit.train --config=configs/text.py --workdir=runs/text

Any field of the config can be set on the command line:

    --config.learner.inner_steps=3 --config.batch_size=4

`--config=configs/text.py:smoke` shrinks a config to seconds. Repeat a command
that was stopped to resume its run. `tensorboard --logdir=runs` shows the
progress.
"""

import contextlib
import logging
import shlex
import sys
import tempfile
import time

from absl import flags

from tfmetainit import cli

cli.quiet_tensorflow()

import keras

from tfmetainit.evaluation.baselines import constant_floor
from tfmetainit.evaluation.tables import in_words
from tfmetainit.runs import build, resume
from tfmetainit.runs.config_check import check_config
from tfmetainit.runs.prior import measure_prior
from tfmetainit.runs.warm_start import warm_start
from tfmetainit.runs.workdir import Workdir
from tfmetainit.signals.base import first_tasks
from tfmetainit.training import callbacks, distribution
from tfmetainit.training.optimizer import build_optimizer

_LOGGER = logging.getLogger("tfmetainit")

_NUM_PICTURES = 4


def train(config, workdir, strategy: str = "one_device") -> dict:
    """Meta-trains the initial weights of a config.

    Args:
        config: `ml_collections.ConfigDict` as in configs/default.py.
        workdir: path of the run's folder; an unfinished run of the same config
            there is resumed.
        strategy: one of `distribution.STRATEGIES`. Several workers call this
            with the same arguments, and share one workdir.

    Returns:
        A dict of "step", "seconds" and "cpu_seconds" (of this call),
        "best_psnr" in dB after `inner_steps` steps on the validation signals,
        and "best_step".

    Raises:
        InputError: if the config or the workdir is not valid.
        TrainingDivergedError: if the training diverges.
    """
    started, cpu_started = time.monotonic(), time.process_time()
    config = check_config(config)
    strategy = distribution.make_strategy(strategy)
    _check_divisible(config, strategy)
    keras.utils.set_random_seed(config.seed)
    build.use_precision(config.matmul_precision)
    workdir = Workdir(workdir)
    signal = build.build_signal(config)
    resume.check_workdir(config, workdir, signal)
    with strategy.scope():
        learner = _build_learner(config, workdir, signal)
    tasks = first_tasks(signal, "validation", config.validation.num_signals)
    distribution.check_divisible(strategy, "validation.num_signals", len(tasks))
    with contextlib.ExitStack() as stack:
        # The folder is made only now, after everything in the config was built
        # without an error.
        output = _make_output(config, workdir, signal, strategy, stack)
        checkpoints = callbacks.Checkpoints(
            workdir, output, f"val_psnr_{config.learner.inner_steps}"
        )
        _fit(config, learner, signal, tasks, strategy, output, checkpoints)
        if distribution.is_chief(strategy):
            measure_prior(workdir, config, signal)
    return {
        "step": int(learner.optimizer.iterations.numpy()),
        "seconds": time.monotonic() - started,
        "cpu_seconds": time.process_time() - cpu_started,
        "best_psnr": checkpoints.best,
        "best_step": checkpoints.best_step,
    }


def _check_divisible(config, strategy):
    """Raises InputError unless every replica gets an equal share."""
    for name, count in (
        ("batch_size", config.batch_size),
        ("validation.num_signals", config.validation.num_signals),
    ):
        distribution.check_divisible(strategy, name, count)


def _build_learner(config, workdir, signal):
    """The compiled learner, in the state where the run stopped, if it did."""
    learner = build.build_learner(config, signal)
    if config.get("warm_start") and not workdir.last.is_file():
        warm_start(learner, config.warm_start)
    learner.compile(
        optimizer=build_optimizer(config, learner),
        jit_compile=config.jit_compile,
    )
    if workdir.last.is_file():
        build.load_weights(learner, workdir.last)
        step = int(learner.optimizer.iterations.numpy())
        _LOGGER.info("Resuming %s at outer step %d", workdir.root, step)
    return learner


def _make_output(config, workdir, signal, strategy, stack):
    """The folder that this process writes: the workdir if it is the chief."""
    if distribution.is_chief(strategy):
        resume.claim_workdir(config, workdir, signal, stack)
        return workdir
    # Every worker takes part in reading distributed variables, so all save
    # checkpoints. The files of workers other than the chief are discarded.
    output = Workdir(stack.enter_context(tempfile.TemporaryDirectory()))
    output.last.parent.mkdir()
    return output


def _fit(config, learner, signal, tasks, strategy, output, checkpoints):
    """Trains with Keras's `fit` on the batches of a signal class."""
    replicas = strategy.num_replicas_in_sync
    every = config.validation.every
    step = int(learner.optimizer.iterations.numpy())
    _LOGGER.info(
        "Training %d parameters on %d device%s; output goes to %s",
        learner.field.count_params(),
        replicas,
        "s" if replicas > 1 else "",
        output.root,
    )
    learner.fit(
        distribution.distribute(
            strategy,
            signal,
            "train",
            config.batch_size,
            seed=config.seed,
            start=step,
        ),
        initial_epoch=step // every,
        epochs=config.num_steps // every,
        steps_per_epoch=every,
        validation_data=distribution.distribute(
            strategy, signal, "validation", replicas, count=len(tasks)
        ),
        validation_steps=len(tasks) // replicas,
        shuffle=False,  # the dataset is shuffled already
        verbose=_verbosity(distribution.is_chief(strategy)),
        callbacks=_callbacks(config, signal, tasks, output, checkpoints),
    )


def _callbacks(config, signal, tasks, output, checkpoints):
    made = [
        callbacks.StopOnDivergence(
            config.optimizer, checkpoints, constant_floor(tasks)
        ),
        checkpoints,
        keras.callbacks.TensorBoard(str(output.tensorboard), write_graph=False),
    ]
    if signal.has_pictures:
        shown = tasks[:_NUM_PICTURES]
        steps = config.learner.inner_steps
        made.append(callbacks.Reconstructions(output, signal, shown, steps))
    return made


def _verbosity(chief):
    """Keras's `verbose`: a progress bar on a terminal, else lines by epoch."""
    if not chief:
        return 0
    return 1 if sys.stdout.isatty() else 2


def main(argv):
    """Runs `train` with the command's flags."""
    del argv
    config, workdir = flags.FLAGS.config, flags.FLAGS.workdir
    summary = train(config, workdir, flags.FLAGS.strategy)
    print(
        f"\nDone: outer step {summary['step']}, "
        f"{summary['seconds'] / 60:.1f} minutes "
        f"({summary['cpu_seconds'] / 60:.1f} of CPU time).\n"
        f"Best validation PSNR after {config.learner.inner_steps} steps"
        f"{in_words(config.learner.step_on)}: "
        f"{summary['best_psnr']:.2f} dB (at outer step "
        f"{summary['best_step']}).\n"
        f"Checkpoints and TensorBoard files: {workdir}\n"
        f"Next: python -m tfmetainit.evaluate --workdir={shlex.quote(workdir)}"
    )


def run():
    """The command `tfmetainit-train`."""
    cli.define_config(
        "config", "Config file, for example configs/text.py[:smoke]."
    )
    flags.DEFINE_string(
        "workdir", None, "Folder of the run: config, checkpoints, TensorBoard."
    )
    flags.DEFINE_enum(
        "strategy",
        "one_device",
        distribution.STRATEGIES,
        "Devices that share the tasks of a batch (docs/scale.md).",
    )
    flags.mark_flags_as_required(["config", "workdir"])
    cli.run(main, __doc__)


if __name__ == "__main__":
    run()
