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
import pathlib
import shlex
import sys
import tempfile
import time

from absl import flags
from ml_collections import config_flags

from tfmetainit import cli

cli.quiet_tensorflow()

import keras
import ml_collections

from tfmetainit import callbacks, distribution, experiment, files
from tfmetainit.errors import InputError, check_range, reason
from tfmetainit.runs import Workdir, config_problem
from tfmetainit.tasks import constant_floor, first_tasks

_LOGGER = logging.getLogger("tfmetainit")

_NUM_PICTURES = 4


def _check(config):
    """Raises InputError for what cannot make a run, or not be read again."""
    if not isinstance(config, ml_collections.ConfigDict):
        raise InputError(
            "`get_config` of a config file must return an ml_collections."
            f"ConfigDict. Received: a {type(config).__name__}"
        )
    problem = config_problem(_as_json(config))
    if problem:
        wanted, received = problem
        raise InputError(f"A config must have {wanted}. Received: {received}")
    if config.get("warm_start") == "":
        raise InputError(
            "config.warm_start must name a run or a file of weights, or be "
            "None. Received: ''"
        )
    most, warmup = experiment.MAX_STEPS, config.optimizer.warmup_steps
    for name, value, low, high in (
        ("num_steps", config.num_steps, 1, most),
        ("batch_size", config.batch_size, 1, 4096),
        ("validation.every", config.validation.every, 1, config.num_steps),
        ("validation.num_signals", config.validation.num_signals, 1, 10_000),
        # With more, the rate would never be the one asked for.
        ("optimizer.warmup_steps", warmup, 0, config.num_steps - 1),
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
    experiment.check_evaluation(config.evaluation)


def _check_workdir(config, workdir):
    """Raises InputError if no run of the config can begin or go on there."""
    folder = config.signal.get("folder")
    if folder and workdir.root.resolve().is_relative_to(
        pathlib.Path(folder).resolve()
    ):
        raise InputError(
            "--workdir must lie outside of config.signal.folder: its pictures "
            f"would become signals. Received: {workdir.root} in {folder}"
        )
    if not workdir.last.exists():
        # A first epoch may have been killed: its config may be replaced. What
        # has a card, or a best of a later one, is a published copy.
        if workdir.best_record.is_file():
            before = workdir.read_config().validation.every
            later = workdir.read_best()["step"] > before
            if later or workdir.card.is_file():
                raise InputError(
                    "--workdir must be a new folder, or one of a run that can "
                    f"go on. Received: {workdir.root}, a copy of a run's best "
                    "weights alone; --config.warm_start="
                    f"{workdir.root} starts another run from them."
                )
        return
    for path in (workdir.best, workdir.best_record):
        if not path.is_file():
            raise InputError(
                "A run can go on with its best checkpoint and the record of it "
                f"only. Received: {workdir.root}, where {path.name} is missing"
            )
    if workdir.sources.is_file() and files.read_json(
        workdir.sources
    ) != _sources(config):
        raise InputError(
            "A run can go on with the files only that it began with. Received: "
            f"{workdir.root}, where names or sizes of those of config.signal "
            "differ now; --config.warm_start="
            f"{workdir.root} starts another run from its weights."
        )
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


def _create_workdir(config, workdir, stack):
    """Makes the folders of a run and writes its config.

    No other training has the workdir until `stack` is left.
    """
    files.make_folder(workdir.last.parent)
    try:
        stack.enter_context(files.lock(workdir.lock, wait=False))
    except BlockingIOError as error:
        raise InputError(
            "--workdir must be of no training that is still running. "
            f"Received: {workdir.root}"
        ) from error
    for path in (workdir.last, workdir.best, workdir.best_record):
        files.remove_leftovers(path)
    files.write_json(workdir.config, _as_json(config))
    files.write_json(workdir.sources, _sources(config))


def _sources(config):
    return {"files": experiment.digest_of_files(config.signal)}


def _as_json(config):
    """The config as it will be read back: tuples become lists."""
    try:
        return json.loads(config.copy_and_resolve_references().to_json())
    except TypeError as error:
        raise InputError(
            "A config must hold numbers, strings, lists and sections of them. "
            f"Received: {reason(error)}"
        ) from error


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
    _check_workdir(config, workdir)
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
    monitor = f"val_psnr_{config.learner.inner_steps}"
    with contextlib.ExitStack() as stack:
        if chief:
            _create_workdir(config, workdir, stack)
        _LOGGER.info(
            "Training %d parameters on %d device%s; output goes to %s",
            learner.field.count_params(),
            replicas,
            "s" if replicas > 1 else "",
            workdir.root,
        )
        # Every worker takes part in reading what is distributed; what those
        # write who are not the chief is thrown away.
        output = workdir
        if not chief:
            folder = tempfile.TemporaryDirectory()
            output = Workdir(stack.enter_context(folder))
            output.last.parent.mkdir()
        checkpoints = callbacks.Checkpoints(workdir, output, monitor)
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
                callbacks.StopOnDivergence(
                    config.optimizer,
                    checkpoints,
                    constant_floor(tasks),
                ),
                checkpoints,
                keras.callbacks.TensorBoard(
                    str(output.tensorboard), write_graph=False
                ),
                *(
                    [
                        callbacks.Reconstructions(
                            output,
                            signal,
                            tasks[:_NUM_PICTURES],
                            config.learner.inner_steps,
                        )
                    ]
                    if signal.has_pictures
                    else []
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
        optimizer=experiment.build_optimizer(config, learner),
        jit_compile=config.jit_compile,
    )
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
        f"Next: python -m tfmetainit.evaluate --workdir={shlex.quote(workdir)}"
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
