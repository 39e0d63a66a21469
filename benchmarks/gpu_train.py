r"""Trains on a GPU that has no TensorFlow, by this package's compiled step.

    # here, with TensorFlow
    python benchmarks/gpu_train.py write --folder=step --config=CONFIG ...
    # there, with JAX and Pillow
    python benchmarks/gpu_train.py run --folder=step --pictures=photos
    # here again
    python benchmarks/gpu_train.py read --folder=step --workdir=RUN --config=...
    python -m tfmetainit.train --workdir=RUN --config=CONFIG ...

`write` compiles the outer step of a config of images, with its optimizer, as
for a GPU, and stores it as StableHLO beside its variables. `run` takes
`config.num_steps` steps by JAX's client. They see random squares of the
pictures, half of them mirrored, whose sides are half to all of the shorter side
of their picture. `read` writes the result as the checkpoints of a run, with
their validation PSNR. The command `train` then takes the run for one that was
stopped after its last step, and measures its prior. `write`, `read` and `train`
take the same config.
"""

import argparse
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
    """Maps uint8 `[batch, R, R, 3]` and seeds `[batch, 2]` to a step's PSNR."""
    import tensorflow as tf

    def outer_step(pictures, seeds):
        images = tf.unstack(tf.cast(pictures, tf.float32) / 255.0)
        tasks = [
            signal.make_task(image, 0, seed, training=True)
            for image, seed in zip(images, tf.unstack(seeds), strict=True)
        ]
        tasks = tf.nest.map_structure(lambda *leaves: tf.stack(leaves), *tasks)
        psnr = learner.train_step(tasks)["psnr"]
        for metric in learner.metrics:
            metric.reset_state()
        return psnr

    return tf.function(outer_step, jit_compile=True)


def _captured(learner, step, *arguments):
    """The variables that a compiled step takes, in its order."""
    variables = {
        id(v.value.handle): v
        for v in [
            *learner.variables,
            *learner.optimizer.variables,
            *(v for metric in learner.metrics for v in metric.variables),
        ]
    }
    captured = step.get_concrete_function(*arguments).captured_inputs
    return [variables[id(handle)] for handle in captured]


def write(config, folder: pathlib.Path) -> None:
    """Stores the outer step of a config and the variables it starts from."""
    import tensorflow as tf

    from tfmetainit.runs import build

    build.use_precision(config.matmul_precision)
    learner, signal = _build(config)
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
    variables = _captured(learner, step, *arguments)
    # The compiled step returns its PSNR, then the variables that it assigns.
    fixed = {id(v) for v in learner.non_trainable_variables}
    fixed -= {id(v) for metric in learner.metrics for v in metric.variables}
    assigned = [i for i, v in enumerate(variables) if id(v) not in fixed]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "step.mlir").write_text(text)
    about = {
        "num_steps": config.num_steps,
        "matmul_precision": config.matmul_precision,
        "pictures": shape,
        "variables": [v.path for v in variables],
        "assigned": assigned,
    }
    (folder / "step.json").write_text(json.dumps(about))
    _save(folder / "start.npz", [v.numpy() for v in variables])
    print(f"{len(text):,} characters, {len(variables)} variables in {folder}")


def _save(path, arrays):
    np.savez(path, **{str(i): np.asarray(a) for i, a in enumerate(arrays)})


def _load(path):
    with np.load(path) as stored:
        return [stored[str(i)] for i in range(len(stored.files))]


class Squares:
    """Random squares of the pictures of a folder, the same for every run.

    Args:
        folder: of files that Pillow reads.
        shape: of a batch, `[batch, R, R, 3]`.
        seed: of all random choices.
    """

    def __init__(self, folder, shape, seed: int = 0):
        from PIL import Image

        self._pictures = []
        for path in sorted(pathlib.Path(folder).iterdir()):
            with Image.open(path) as image:
                self._pictures.append(image.convert("RGB"))
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
            epoch, place = divmod(step * count + i, len(self))
            order = np.random.default_rng((self._seed, 0, epoch))
            number = order.permutation(len(self))[place]
            rng = np.random.default_rng((self._seed, 1, step * count + i))
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


def run(folder: pathlib.Path, pictures: pathlib.Path) -> None:
    """Takes all outer steps, and writes the variables to "end.npz"."""
    import jax

    jax.config.update("jax_enable_x64", True)  # Adam counts in int64
    about = json.loads((folder / "step.json").read_text())
    squares = Squares(pictures, about["pictures"])
    num_steps = about["num_steps"]
    print(f"{len(squares)} pictures, {num_steps} steps", flush=True)
    started = time.perf_counter()
    step = common.compiled_stablehlo(
        (folder / "step.mlir").read_text(), about["matmul_precision"]
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
            scores.clear()
    _save(folder / "end.npz", state)
    print(f"The variables are in {folder / 'end.npz'}.")


def read(config, folder: pathlib.Path, workdir) -> None:
    """Writes the trained variables as the checkpoints of a run."""
    import tensorflow as tf

    from tfmetainit.runs import resume
    from tfmetainit.runs.workdir import Workdir
    from tfmetainit.signals.base import first_tasks
    from tfmetainit.training import callbacks

    learner, signal = _build(config)
    about = json.loads((folder / "step.json").read_text())
    variables = {
        v.path: v for v in [*learner.variables, *learner.optimizer.variables]
    }
    arrays = _load(folder / "end.npz")
    for path, array in zip(about["variables"], arrays, strict=True):
        if path in variables:
            variables[path].assign(array)
    workdir = Workdir(workdir)
    resume.check_workdir(config, workdir, signal)
    tasks = first_tasks(signal, "validation", config.validation.num_signals)
    batches = tf.data.Dataset.from_generator(
        lambda: tasks,
        output_signature=tf.nest.map_structure(
            lambda leaf: tf.TensorSpec(leaf.shape, leaf.dtype), tasks[0]
        ),
    ).batch(1, drop_remainder=True)
    with contextlib.ExitStack() as stack:
        resume.claim_workdir(config, workdir, signal, stack)
        checkpoints = callbacks.Checkpoints(
            workdir, workdir, f"val_psnr_{config.learner.inner_steps}"
        )
        checkpoints.set_model(learner)
        scores = learner.evaluate(batches, return_dict=True, verbose=0)
        checkpoints.on_epoch_end(
            0, {f"val_{name}": psnr for name, psnr in scores.items()}
        )
    print({name: round(psnr, 2) for name, psnr in scores.items()})


def main():
    """Runs one of the three parts."""
    part = sys.argv.pop(1) if len(sys.argv) > 1 else ""
    if part == "run":
        parser = argparse.ArgumentParser()
        parser.add_argument("--folder", type=pathlib.Path, required=True)
        parser.add_argument("--pictures", type=pathlib.Path, required=True)
        options = parser.parse_args()
        run(options.folder, options.pictures)
        return
    if part not in ("write", "read"):
        sys.exit(__doc__)
    from absl import flags

    from tfmetainit import cli
    from tfmetainit.runs.config_check import check_config

    cli.define_config("config", "Config file of images.")
    flags.DEFINE_string("folder", None, "Folder of the compiled step.")
    flags.DEFINE_string("workdir", None, "Folder of the run, for `read`.")
    flags.mark_flags_as_required(["config", "folder"])

    def convert(argv):
        del argv
        config = check_config(flags.FLAGS.config)
        folder = pathlib.Path(flags.FLAGS.folder)
        if part == "write":
            write(config, folder)
        else:
            read(config, folder, flags.FLAGS.workdir)

    cli.run(convert, __doc__)


if __name__ == "__main__":
    main()
