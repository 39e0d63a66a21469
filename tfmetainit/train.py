r"""Meta-trains initial weights.

    python -m tfmetainit.train --config=configs/text.py --workdir=runs/text

Any field of the config can be set on the command line:

    --config.learner.inner_steps=3 --config.batch_size=4

`--config=configs/text.py:smoke` shrinks a config to seconds. The same command
again resumes a run that was stopped; `tensorboard --logdir=runs` shows it.
"""

import contextlib
import json
import logging
import math
import sys
import tempfile
import time

from absl import flags
from ml_collections import config_flags

from tfmetainit import cli

cli.quiet_tensorflow()

import keras
import tensorflow as tf

from tfmetainit import distribution, experiment, files, functional, pictures
from tfmetainit.errors import (
    InputError,
    TrainingDivergedError,
    check_range,
)
from tfmetainit.experiment import Workdir
from tfmetainit.tasks import constant_floor, first_tasks

_LOGGER = logging.getLogger("tfmetainit")

# An epoch's mean loss this many times above the best one so far, or above the
# loss before the inner loop, is no fluctuation.
_OUTER_DIVERGENCE = 4.0
# Healthy gradients are above 1e-4; a density of exp(-20) leaves 1e-9.
_DEAD = 1e-7
_COLLAPSE = 0.5  # dB above the floor once, and at the floor now
_INNER_DIVERGENCE = 2.0
# Of the mean over an epoch's batches, the first few are noise.
_NUM_TRUSTED_BATCHES = 50
_NUM_PICTURES = 4
_VARIABLE_BYTES = 4096  # what HDF5 stores beside each variable, at most


class StopOnDivergence(keras.callbacks.Callback):
    """Ends `fit` with a `TrainingDivergedError` when its numbers are unhealthy.

    Checked after every batch: a loss or gradient that is not finite, an inner
    loop that makes the loss larger instead of smaller, and a field that is
    dead: a NeRF whose densities are all zero has a gradient of zero, and would
    stay white for ever. After every epoch: a validation score that is not
    finite, an outer loss far above its best (where an epoch has batches enough
    to tell), and a field that has collapsed: adapted, it is no better than one
    constant colour, and was before. Checkpoints are left as they are.

    Args:
        options: `config.optimizer`, whose rate is named in the message.
        checkpoints: of the run; they know the best score.
        floor: the PSNR in dB of the validation signals' best constants.
    """

    def __init__(self, options, checkpoints: "Checkpoints", floor: float):
        super().__init__()
        self._options = options
        self._checkpoints = checkpoints
        self._floor = floor

    def _stop(self, problem, setting, value):
        step = int(self.model.optimizer.iterations.numpy())
        raise TrainingDivergedError(
            f"At outer step {step}, {problem}; lower {setting} (now "
            f"{value:g}) and train into a new --workdir. Checkpoints written "
            "before were kept."
        )

    def _stop_inner(self, problem):
        initial = self.model.step_sizes.initial
        self._stop(problem, "config.learner.inner_lr", initial)

    def _stop_outer(self, problem):
        rate = self._options.learning_rate
        self._stop(problem, "config.optimizer.learning_rate", rate)

    def _check_inner(self, logs):
        loss, before = logs["loss"], logs["loss_before"]
        if loss > _INNER_DIVERGENCE * before:
            self._stop_inner(
                f"the inner loop raised the mean loss from {before:.3g} to "
                f"{loss:.3g}"
            )

    def on_train_batch_end(self, batch, logs=None):
        if not math.isfinite(logs["loss_before"]):
            self._stop_outer("the loss before the inner loop was not finite")
        if not math.isfinite(logs["loss"]):
            self._stop_inner(
                "the loss after the inner loop, or its gradient, was not finite"
            )
        if batch >= _NUM_TRUSTED_BATCHES:
            self._check_inner(logs)
            self._check_alive(logs)

    def _check_alive(self, logs):
        if logs["gradient_norm"] <= _DEAD:
            self._stop_outer(
                "the field was dead: its outer gradient was zero (for a NeRF, "
                "try config.field.density=softplus)"
            )

    def on_epoch_end(self, epoch, logs=None):
        self._check_inner(logs)
        self._check_alive(logs)
        for name, value in logs.items():
            if name.startswith("val_") and not math.isfinite(value):
                self._stop_inner(f"the validation's {name[4:]} was not finite")
        psnr, best = logs[self._checkpoints.monitor], self._checkpoints.best
        if psnr <= self._floor and best >= self._floor + _COLLAPSE:
            self._stop_outer(
                f"the field had collapsed: its validation PSNR, {best:.2f} dB "
                f"before, was {psnr:.2f} dB, no more than one constant colour's"
            )
        if self.params["steps"] < _NUM_TRUSTED_BATCHES:
            return  # A mean over so few tasks is noise.
        loss, best = logs["loss"], float(self.model.best_loss.numpy())
        if loss > _OUTER_DIVERGENCE * best:
            self._stop_outer(
                f"the mean loss had risen from {best:.3g} to {loss:.3g}"
            )
        self.model.best_loss.assign(min(best, loss))


class Checkpoints(keras.callbacks.Callback):
    """Writes the last and the best checkpoint after every epoch.

    The best is by the validation PSNR after the trained number of inner
    steps. It is written before the last: a run that is killed between the two
    repeats the epoch and writes the same best again.

    Args:
        workdir: of the run, whose best score so far is read.
        output: where checkpoints are written; of all but one worker of
            several, another.
        monitor: name of the score.
    """

    def __init__(self, workdir: Workdir, output: Workdir, monitor: str):
        super().__init__()
        self._output = output
        self.monitor = monitor
        self.best, self.best_step = -math.inf, None
        # Without a last checkpoint the run starts afresh, and so does its best.
        if workdir.last.is_file() and workdir.best_record.is_file():
            record = workdir.read_best()
            self.best, self.best_step = record["psnr"], record["step"]

    def _save(self, path):
        variables = [*self.model.variables, *self.model.optimizer.variables]
        files.check_space(
            path.parent,
            sum(4 * math.prod(v.shape) + _VARIABLE_BYTES for v in variables),
        )
        with files.atomic_path(path) as temporary:
            self.model.save_weights(temporary, overwrite=True)

    def on_epoch_end(self, epoch, logs=None):
        psnr = float(logs[self.monitor])
        if psnr >= self.best:
            step = int(self.model.optimizer.iterations.numpy())
            self.best, self.best_step = psnr, step
            self._save(self._output.best)
            files.write_json(
                self._output.best_record,
                {"step": step, "metric": self.monitor, "psnr": psnr},
            )
        self._save(self._output.last)


class Reconstructions(keras.callbacks.Callback):
    """Writes pictures of validation signals, step by step, to TensorBoard."""

    def __init__(self, workdir: Workdir, signal, tasks, num_steps: int):
        super().__init__()
        self._folder = str(workdir.tensorboard / "reconstructions")
        self._signal = signal
        self._tasks = tasks
        self._num_steps = num_steps
        self._writer = None

    def on_epoch_end(self, epoch, logs=None):
        if self._writer is None:
            self._writer = tf.summary.create_file_writer(self._folder)
        rows = []
        start = functional.get_params(self.model.field)
        fit = self.model.sgd_fit()
        for task in self._tasks:
            values = self.model.reconstructions(
                task, start, fit, self._num_steps
            )
            rows.append(
                [self._signal.picture(v) for v in [task.query.values, *values]]
            )
        with self._writer.as_default(step=epoch):
            tf.summary.image(
                "target, then steps 0, 1, ...", pictures.grid(rows)[None]
            )
        self._writer.flush()

    def on_train_end(self, logs=None):
        if self._writer is not None:
            self._writer.close()


def _check(config):
    """Raises InputError for numbers that cannot make a run."""
    most = experiment.MAX_STEPS
    for name, value, low, high in (
        ("num_steps", config.num_steps, 1, most),
        ("batch_size", config.batch_size, 1, 4096),
        ("validation.every", config.validation.every, 1, config.num_steps),
        ("validation.num_signals", config.validation.num_signals, 1, 10_000),
        ("optimizer.warmup_steps", config.optimizer.warmup_steps, 0, most),
        ("optimizer.final_fraction", config.optimizer.final_fraction, 0, 1),
        ("optimizer.clip_norm", config.optimizer.clip_norm, 0, 1e9),
        ("seed", config.seed, 0, 2**31 - 1),
    ):
        check_range(f"config.{name}", value, low, high)
    if config.learner.inner_steps > config.learner.eval_steps:
        raise InputError(
            "config.learner.eval_steps must be at least inner_steps. Received:"
            f" {config.learner.eval_steps} and {config.learner.inner_steps}"
        )
    if config.num_steps % config.validation.every:
        raise InputError(
            "config.num_steps must be a multiple of config.validation.every. "
            f"Received: {config.num_steps} and {config.validation.every}"
        )


def _check_same_run(config, workdir):
    """Raises InputError if the workdir holds a run of another config."""
    if not workdir.last.exists():
        # A first epoch may have been killed: its config may be replaced. What
        # has a best of a later one is a published copy.
        if workdir.best_record.is_file():
            before = workdir.read_config().validation.every
            if workdir.read_best()["step"] > before:
                raise InputError(
                    "--workdir must be a new folder, or one of a run that can "
                    f"go on. Received: {workdir.root}, a copy of a run's best "
                    "weights alone; --config.warm_start="
                    f"{workdir.root} starts another run from them."
                )
        return
    wanted = _flatten(_as_json(config))
    found = _flatten(_as_json(workdir.read_config()))
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise InputError(
                f"{workdir.root} holds a run with config.{name}="
                f"{found.get(name)!r}; the command asks for "
                f"{wanted.get(name)!r}. Choose another --workdir, or give the "
                "same config to resume."
            )


def _create_workdir(config, workdir):
    """Makes the folders of a run and writes its config."""
    files.make_folder(workdir.last.parent)
    for path in (workdir.last, workdir.best, workdir.best_record):
        files.remove_leftovers(path)
    files.write_json(workdir.config, _as_json(config))


def _as_json(config):
    """The config as it will be read back: tuples become lists."""
    return json.loads(config.copy_and_resolve_references().to_json())


def _flatten(tree, prefix=""):
    flat = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def train(config, workdir, strategy: str = "one_device") -> dict:
    """Meta-trains the initial weights of a config.

    Args:
        config: `ml_collections.ConfigDict` as in configs/default.py.
        workdir: path of the run's folder; one that holds an unfinished run of
            the same config is resumed.
        strategy: one of `distribution.STRATEGIES`. Several workers call this
            with the same arguments, and see one workdir.

    Returns:
        A summary: "step", "seconds" and "cpu_seconds" (of this call),
        "best_psnr" in dB after `inner_steps` steps on the validation signals,
        and "best_step".

    Raises:
        InputError: if the config or the workdir is not valid.
        TrainingDivergedError: if the numbers are no longer healthy.
    """
    started, cpu_started = time.monotonic(), time.process_time()
    _check(config)
    strategy = distribution.make_strategy(strategy)
    replicas = strategy.num_replicas_in_sync
    for name, count in (
        ("batch_size", config.batch_size),
        ("validation.num_signals", config.validation.num_signals),
    ):
        distribution.check_divisible(strategy, name, count)
    keras.utils.set_random_seed(config.seed)
    workdir = Workdir(workdir)
    _check_same_run(config, workdir)
    signal = experiment.build_signal(config)
    with strategy.scope():
        learner = _build_learner(config, workdir, signal)
    step = int(learner.optimizer.iterations.numpy())
    if step:
        _LOGGER.info("Resuming %s at outer step %d", workdir.root, step)

    every = config.validation.every
    num_validated = config.validation.num_signals
    tasks = first_tasks(signal, "validation", num_validated)
    distribution.check_divisible(strategy, "validation.num_signals", len(tasks))
    # Only now, when all that can be wrong with a config has been built.
    chief = distribution.is_chief(strategy)
    if chief:
        _create_workdir(config, workdir)
    _LOGGER.info(
        "Training %d parameters on %d device%s; output goes to %s",
        learner.field.count_params(),
        replicas,
        "s" if replicas > 1 else "",
        workdir.root,
    )
    monitor = f"val_psnr_{config.learner.inner_steps}"
    with contextlib.ExitStack() as stack:
        # Every worker takes part in reading what is distributed; what those
        # write who are not the chief is thrown away.
        output = workdir
        if not chief:
            folder = tempfile.TemporaryDirectory()
            output = Workdir(stack.enter_context(folder))
            output.last.parent.mkdir()
        checkpoints = Checkpoints(workdir, output, monitor)
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
            shuffle=False,  # the data set is shuffled already
            verbose=_verbosity(chief),
            callbacks=[
                StopOnDivergence(
                    config.optimizer,
                    checkpoints,
                    constant_floor(tasks),
                ),
                checkpoints,
                keras.callbacks.TensorBoard(
                    str(output.tensorboard), write_graph=False
                ),
                Reconstructions(
                    output,
                    signal,
                    tasks[:_NUM_PICTURES],
                    config.learner.inner_steps,
                ),
            ],
        )
    return {
        "step": int(learner.optimizer.iterations.numpy()),
        "seconds": time.monotonic() - started,
        "cpu_seconds": time.process_time() - cpu_started,
        "best_psnr": checkpoints.best,
        "best_step": checkpoints.best_step,
    }


def _build_learner(config, workdir, signal):
    """The learner with its optimizer, as the run left it."""
    learner = experiment.build_learner(config, signal)
    if config.get("warm_start") and not workdir.last.is_file():
        experiment.warm_start(learner, config.warm_start)
    learner.compile(
        optimizer=experiment.build_optimizer(config, learner.field),
        jit_compile=config.jit_compile,
    )
    learner.optimizer.build(learner.trainable_variables)
    if workdir.last.is_file():
        experiment.load_weights(learner, workdir.last)
    return learner


def _verbosity(chief):
    """Keras's: a bar on a terminal, a line an epoch elsewhere."""
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
        f"Best validation PSNR after {config.learner.inner_steps} steps: "
        f"{summary['best_psnr']:.2f} dB (at outer step "
        f"{summary['best_step']}).\n"
        f"Checkpoints and TensorBoard files: {workdir}\n"
        f"Next: python -m tfmetainit.evaluate --workdir={workdir}"
    )


def run():
    """The command `tfmetainit-train`."""
    config_flags.DEFINE_config_file(
        "config", None, "Config file, for example configs/text.py[:smoke]."
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
