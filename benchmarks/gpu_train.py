r"""Trains on a GPU that has no TensorFlow, by this package's compiled step.

    # here, with TensorFlow
    python benchmarks/gpu_train.py write --folder=step --config=CONFIG ...
    # there, with JAX, NumPy, Pillow and absl-py, and PYTHONPATH=.
    python benchmarks/gpu_train.py run --folder=step --pictures=photos
    # here again
    python benchmarks/gpu_train.py read --folder=step --workdir=RUN --config=...
    python -m tfmetainit.train --workdir=RUN --config=CONFIG ...

`write` compiles the outer step of a config of images, with its optimizer, to
StableHLO, in the form that is used on a GPU. `run` takes `config.num_steps`
outer steps in JAX, on random squares of the pictures. The side of a square is
half to all of the shorter side of its picture, and half of the squares are
mirrored. `read` writes the trained weights as the checkpoints of a run, with
their validation PSNR. `train` then finds a run that has taken all its steps,
and measures its prior. `write`, `read` and `train` take the same config.
"""

import collections
import concurrent.futures
import contextlib
import json
import pathlib
import sys
import time
import unittest.mock

import common
import numpy as np
from absl import flags

from tfmetainit import cli
from tfmetainit.io import files, images
from tfmetainit.io.errors import InputError, TrainingDivergedError

_REPORTED = 500  # steps between two lines of progress
_AHEAD = 64  # batches that are drawn before they are needed


def _build(config):
    """The compiled learner and the signal class of a config."""
    import keras

    from tfmetainit.runs import build, warm_start
    from tfmetainit.training import optimizer

    keras.utils.set_random_seed(config.seed)
    signal = build.build_signal(config)
    learner = build.build_learner(config, signal)
    if config.warm_start:
        warm_start.warm_start(learner, config.warm_start)
    learner.compile(optimizer=optimizer.build_optimizer(config, learner))
    return learner, signal


def _outer_step(learner, signal):
    """A function that takes one outer step and returns its PSNR.

    It takes pictures, uint8 `[batch, R, R, 3]`, and seeds `[batch, 2]`.
    """
    import tensorflow as tf

    def outer_step(pictures, seeds):
        values = tf.unstack(tf.cast(pictures, tf.float32) / 255.0)
        tasks = [
            signal.make_task(image, 0, seed, training=True)
            for image, seed in zip(values, tf.unstack(seeds), strict=True)
        ]
        tasks = tf.nest.map_structure(lambda *leaves: tf.stack(leaves), *tasks)
        psnr = learner.train_step(tasks)["psnr"]
        for metric in learner.metrics:
            metric.reset_state()
        return psnr

    return tf.function(outer_step, jit_compile=True)


def write(config, folder: pathlib.Path) -> None:
    """Stores the outer step of a config and the variables it starts from."""
    import tensorflow as tf

    from tfmetainit.runs import build
    from tfmetainit.runs.config_check import as_json
    from tfmetainit.signals.base.image_signal import ImageSignal

    build.use_precision(config.matmul_precision)
    learner, signal = _build(config)
    if not isinstance(signal, ImageSignal):
        raise InputError(
            "--config must be a config of images. Received: a config of "
            f"{config.signal.name}"
        )
    shape = [config.batch_size, signal.resolution, signal.resolution, 3]
    arguments = tf.zeros(shape, tf.uint8), tf.zeros([shape[0], 2], tf.int32)
    step = _outer_step(learner, signal)
    # Where there is a GPU, all tasks run at once, and normal equations are not
    # rounded to TensorFloat-32.
    with unittest.mock.patch(
        "tensorflow.config.list_physical_devices", lambda kind: [kind]
    ):
        compiler_ir = step.experimental_get_compiler_ir(*arguments)
    text = compiler_ir(stage="stablehlo")
    metrics = [v for metric in learner.metrics for v in metric.variables]
    variables = common.captured_variables(
        step,
        [*learner.variables, *learner.optimizer.variables, *metrics],
        *arguments,
    )
    # The compiled step returns its PSNR, then the variables that it assigns.
    fixed = {id(v) for v in learner.non_trainable_variables}
    assigned = [i for i, v in enumerate(variables) if id(v) not in fixed]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "step.mlir").write_text(text)
    about = {
        "config": as_json(config),
        "pictures": shape,
        "variables": [v.path for v in variables],
        "assigned": assigned,
    }
    (folder / "step.json").write_text(json.dumps(about))
    _save(folder / "start.npz", [v.numpy() for v in variables])
    print(f"{len(text):,} characters, {len(variables)} variables in {folder}")


def _read_about(folder):
    """The record of `write`."""
    if not (folder / "step.json").is_file():
        raise InputError(
            f"--folder must hold a step that `write` wrote. Received: {folder}"
        )
    return files.read_json(folder / "step.json")


def _save(path, arrays):
    np.savez(path, **{str(i): np.asarray(a) for i, a in enumerate(arrays)})


def _load(path):
    with np.load(path) as stored:
        return [stored[str(i)] for i in range(len(stored.files))]


class Squares:
    """Random squares of the pictures of a folder, the same for every run.

    Args:
        folder: of pictures of at least R pixels a side.
        shape: of a batch, `[batch, R, R, 3]`.
        seed: of all random choices.

    Raises:
        InputError: if there are no pictures, or one is too small or damaged.
    """

    def __init__(self, folder, shape, seed: int = 0):
        from PIL import Image

        self._pictures = []
        for path in common.pictures_in(folder, "--pictures"):
            pixels = images.read_image(path)
            if min(pixels.shape[:2]) < shape[1]:
                raise InputError(
                    f"Pictures must have at least {shape[1]} pixels a side. "
                    f"Received: {path}, of {pixels.shape[0]} x "
                    f"{pixels.shape[1]}"
                )
            self._pictures.append(
                Image.fromarray(np.uint8(np.rint(255 * pixels)))
            )
        self._shape = shape
        self._seed = seed

    def __len__(self):
        return len(self._pictures)

    def batch(self, step: int):
        """The pictures `[batch, R, R, 3]` and seeds `[batch, 2]` of a step."""
        count, side = self._shape[:2]
        pictures = np.empty(self._shape, np.uint8)
        seeds = np.empty([count, 2], np.int32)
        for i in range(count):
            index = step * count + i
            epoch, place = divmod(index, len(self))
            order = np.random.default_rng((self._seed, 0, epoch))
            number = order.permutation(len(self))[place]
            rng = np.random.default_rng((self._seed, 1, index))
            pictures[i] = _random_square(self._pictures[number], side, rng)
            seeds[i] = rng.integers(2**31, size=2)
        return pictures, seeds

    def batches(self, num_steps: int):
        """The batches of all steps, drawn ahead by several threads."""
        with concurrent.futures.ThreadPoolExecutor() as pool:
            drawn = collections.deque()
            for step in range(num_steps + _AHEAD):
                if step < num_steps:
                    drawn.append(pool.submit(self.batch, step))
                if step >= _AHEAD:
                    yield drawn.popleft().result()


def _random_square(image, side, rng):
    from PIL import Image, ImageOps

    shorter = min(image.size)
    size = round(shorter * 0.5 ** rng.random())
    left = int(rng.integers(image.width - size + 1))
    top = int(rng.integers(image.height - size + 1))
    box = (left, top, left + size, top + size)
    square = image.resize((side, side), Image.Resampling.LANCZOS, box)
    return ImageOps.mirror(square) if rng.random() < 0.5 else square


def run(folder: pathlib.Path, pictures: str) -> None:
    """Takes all outer steps, and writes the variables to "end.npz"."""
    import jax

    jax.config.update("jax_enable_x64", True)  # Adam counts in int64
    about = _read_about(folder)
    squares = Squares(pictures, about["pictures"])
    num_steps = about["config"]["num_steps"]
    print(f"{len(squares)} pictures, {num_steps} steps", flush=True)
    started = time.perf_counter()
    step = common.compiled_stablehlo(
        (folder / "step.mlir").read_text(),
        about["config"]["matmul_precision"],
    )
    print(f"Compiled in {time.perf_counter() - started:.0f} s", flush=True)
    state = [jax.device_put(array) for array in _load(folder / "start.npz")]
    scores, started = [], time.perf_counter()
    for number, batch in enumerate(squares.batches(num_steps), start=1):
        psnr, *updated = step(*map(jax.device_put, batch), *state)
        for index, array in zip(about["assigned"], updated, strict=True):
            state[index] = array
        scores.append(psnr)
        if number % _REPORTED == 0 or number == num_steps:
            mean = np.mean([np.asarray(score) for score in scores])
            seconds = time.perf_counter() - started
            print(f"Step {number}: {mean:.2f} dB, {seconds:.0f} s", flush=True)
            if not np.isfinite(mean):
                raise TrainingDivergedError(
                    f"At outer step {number}, the PSNR was not finite; lower "
                    "`optimizer.learning_rate` in the config of `write`."
                )
            scores.clear()
    _save(folder / "end.npz", state)
    print(f"The variables are in {folder / 'end.npz'}.")


def read(config, folder: pathlib.Path, workdir) -> None:
    """Writes the trained variables as the checkpoints of a run."""
    from tfmetainit.runs import resume
    from tfmetainit.runs.config_check import as_json
    from tfmetainit.runs.workdir import Workdir
    from tfmetainit.signals.base import first_tasks
    from tfmetainit.training import callbacks, distribution

    about = _read_about(folder)
    if about["config"] != json.loads(json.dumps(as_json(config))):
        raise InputError(
            "`read` needs the config that `write` had. Received: another one "
            f"than that in {folder / 'step.json'}"
        )
    if not (folder / "end.npz").is_file():
        raise InputError(
            "--folder must hold what `run` wrote. Received: "
            f"{folder}, without end.npz"
        )
    workdir = Workdir(workdir)
    learner, signal = _build(config)
    resume.check_workdir(config, workdir, signal)
    variables = {
        v.path: v for v in [*learner.variables, *learner.optimizer.variables]
    }
    arrays = _load(folder / "end.npz")
    for path, array in zip(about["variables"], arrays, strict=True):
        if path in variables:  # metrics are not
            variables[path].assign(array)
    tasks = first_tasks(signal, "validation", config.validation.num_signals)
    batches = distribution.distribute(
        distribution.make_strategy("one_device"),
        signal,
        "validation",
        1,
        count=len(tasks),
    )
    with contextlib.ExitStack() as stack:
        resume.claim_workdir(config, workdir, signal, stack)
        checkpoints = callbacks.Checkpoints(
            workdir, workdir, f"val_psnr_{config.learner.inner_steps}"
        )
        checkpoints.set_model(learner)
        scores = learner.evaluate(
            batches, steps=len(tasks), return_dict=True, verbose=0
        )
        checkpoints.on_epoch_end(
            0, {f"val_{name}": psnr for name, psnr in scores.items()}
        )
    print({name: round(psnr, 2) for name, psnr in scores.items()})


def main():
    """Runs one of the three parts."""
    part = sys.argv.pop(1) if len(sys.argv) > 1 else ""
    if part not in ("write", "run", "read"):
        sys.exit(__doc__)
    flags.DEFINE_string("folder", None, "Folder of the compiled step.")
    required = ["folder"]
    if part == "run":
        flags.DEFINE_string("pictures", None, "Folder of pictures.")
    else:
        cli.define_config("config", "Config file of images.")
        required.append("config")
    if part == "read":
        flags.DEFINE_string("workdir", None, "Folder of the run to write.")
        required.append("workdir")
    flags.mark_flags_as_required(required)

    def start(argv):
        del argv
        options = flags.FLAGS
        folder = pathlib.Path(options.folder)
        if part == "run":
            run(folder, options.pictures)
            return
        from tfmetainit.runs.config_check import check_config

        config = check_config(options.config)
        if part == "write":
            write(config, folder)
        else:
            read(config, folder, options.workdir)

    cli.run(start, __doc__)


if __name__ == "__main__":
    main()
