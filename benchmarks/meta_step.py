r"""Time and memory of one MAML meta-gradient, beside JAX and PyTorch peers.

    make bench
    python benchmarks/meta_step.py --resolution=64 --inner_steps=2

All steps have the same random initial weights and the same images of rendered
text. Times are medians over interleaved rounds in one process; compare the
ratios, not the milliseconds. Losses and meta-gradients are compared with those
in float64 before anything is timed. Memory is measured in one process per step:
it is the growth of the peak resident set, after the imports, from building the
step and running it twice.

The peers are plain programs of the same definition (SIREN, full grid, second
order), without tuning. JAX runs under jit, with vmap over the tasks or with an
unrolled loop over them. PyTorch runs eagerly with
autograd.grad(create_graph=True), and with --torch_compile=True as torch.func
gradients under torch.compile.

Work is counted in passes through the network's matrix products. For K inner
steps one task takes 9 K + 3 passes. An inner step runs forward (1) and backward
(2), and the outer gradient differentiates both (6); the query runs forward and
backward (3). All tasks start from the same weights at the same pixels, so they
share the first forward pass and its outer gradient: each task after the first
takes 3 passes less. The mean over 3 tasks is 19 passes for K = 2. This package
and JAX vmap take that many. The other peers, and recomputation, take more,
which are not counted.
"""

import functools
import json
import sys
import time

import peers
from absl import flags
from common import (
    last_line_of_child,
    matmul_gflops,
    pin_cores,
    print_growth,
)

if "--torch_compile=True" in sys.argv:
    # Its import crashes after that of TensorFlow.
    import torch._dynamo  # noqa: F401

from tfmetainit import cli

cli.quiet_tensorflow()

import keras
import numpy as np
import tensorflow as tf

from tfmetainit.evaluation.tables import markdown_table
from tfmetainit.fields.networks import SIREN
from tfmetainit.geometry.pixels import pixel_coords
from tfmetainit.io.errors import InputError
from tfmetainit.meta import functional, maml
from tfmetainit.meta.tasks import Observations, Task
from tfmetainit.signals.text import render_text

OURS = "tfmetainit"
RECOMPUTED = "tfmetainit, recomputed"
_FLAGS = flags.FLAGS
flags.DEFINE_integer("resolution", 64, "Side of the images in pixels.")
flags.DEFINE_integer("batch_size", 3, "Tasks in a meta-batch.")
flags.DEFINE_integer("inner_steps", 2, "Inner gradient steps.")
flags.DEFINE_integer("hidden_units", 256, "Width of the network.")
flags.DEFINE_integer("chunk", 1024, "Points per chunk, if recomputed.")
flags.DEFINE_integer("threads", 2, "Cores that every step may use.")
flags.DEFINE_integer("rounds", 7, "Interleaved rounds.")
flags.DEFINE_bool("torch_compile", False, "Also time PyTorch's compiler.")
flags.DEFINE_string("json", None, "Also write the figures to this file.")
flags.DEFINE_float(
    "bar", 0.45, "Fail if tfmetainit takes more than this share of JAX vmap."
)
flags.DEFINE_string("memory_of", None, "Internal: the step to measure.")


def tensorflow_step(field, coords, values, inner_steps, **options):
    """This package's meta-gradient, as in `MAML.train_step`."""
    learner = maml.MAML(
        field,
        inner_steps=inner_steps,
        inner_lr=peers.INNER_LR,
        shares_support=True,  # as it is for images
        **options,
    )
    count = len(values)
    tasks = Task(
        Observations(
            tf.constant(np.tile(coords, (count, 1, 1, 1))),
            tf.constant(values[:, None]),
        ),
        Observations(
            tf.constant(np.tile(coords, (count, 1, 1))), tf.constant(values)
        ),
    )

    @tf.function
    def step():
        gradients, losses, _ = learner.meta_gradient(tasks)
        return tf.add_n(losses) / count, gradients

    def run():
        loss, gradients = step()
        return float(loss), [g.numpy() for g in gradients]

    return run


def _peer(make, field, *arguments, **options):
    """A step of another library, whose results are arrays."""
    params = [variable.numpy() for variable in field.trainable_variables]
    if make is peers.torch_step:
        options["threads"] = _FLAGS.threads
    step = make(params, *arguments, **options)

    def run():
        loss, gradients = step()
        return float(loss), [np.asarray(g) for g in gradients]

    return run


# Maps a name to the function that makes its step.
STEPS = {
    OURS: tensorflow_step,
    RECOMPUTED: lambda *arguments: tensorflow_step(
        *arguments, recompute=True, chunk=_FLAGS.chunk
    ),
    "JAX vmap + jit": functools.partial(_peer, peers.jax_step, vmap=True),
    "JAX loop + jit": functools.partial(_peer, peers.jax_step, vmap=False),
    "PyTorch eager": functools.partial(_peer, peers.torch_step, compiled=False),
    "PyTorch compile": functools.partial(
        _peer, peers.torch_step, compiled=True
    ),
}


def _arguments():
    """The network and the data of all steps."""
    keras.utils.set_random_seed(0)
    size = _FLAGS.resolution
    field = SIREN(hidden_units=_FLAGS.hidden_units, seed=0)
    rng = np.random.default_rng(0)
    images = [render_text(rng, size) for _ in range(_FLAGS.batch_size)]
    values = np.float32(images).reshape(len(images), size * size, 3) / 255.0
    return field, pixel_coords(size, size), values, _FLAGS.inner_steps


def _memory_of(name):
    """Prints the bytes by which building and two runs raise the peak."""
    if name.startswith("JAX"):
        import jax.numpy

        jax.numpy.zeros(1)  # starts JAX
    elif name.startswith("PyTorch"):
        import torch

        torch.zeros(1)
    arguments = _arguments()
    print_growth(lambda: STEPS[name](*arguments))


def _error(gradients, reference):
    """Largest deviation of a gradient tensor, relative to its largest entry."""
    return max(
        np.abs(g - r).max() / np.abs(r).max()
        for g, r in zip(gradients, reference)
    )


def _float64_reference(field, coords, values, steps):
    """Loss and meta-gradient in double precision."""
    config = {**field.get_config(), "dtype": "float64"}
    precise = SIREN.from_config(config)
    functional.set_params(
        precise, [v.numpy() for v in field.trainable_variables]
    )
    return tensorflow_step(
        precise, *(a.astype(np.float64) for a in (coords, values)), steps
    )()


def main(argv):
    """Compares, times and prints a table; exits with 1 above the bar."""
    del argv
    pin_cores(_FLAGS.threads)
    if _FLAGS.memory_of:
        _memory_of(_FLAGS.memory_of)
        return
    arguments = _arguments()
    names = list(STEPS)
    if not _FLAGS.torch_compile:
        names.remove("PyTorch compile")
    try:
        runs = {name: STEPS[name](*arguments) for name in names}
    except ImportError as error:
        raise InputError(
            f"{error}: the peers are installed by pip install -e .[bench]"
        ) from error
    memory = {
        name: int(last_line_of_child(f"--memory_of={name}")) for name in names
    }
    loss64, gradients64 = _float64_reference(*arguments)
    errors = {}
    for name, run in runs.items():
        loss, gradients = run()
        errors[name] = _error(gradients, gradients64)
        np.testing.assert_allclose(loss, loss64, rtol=1e-5, err_msg=name)
        if errors[name] > 1e-4:
            raise AssertionError(
                f"{name}: meta-gradient off by {errors[name]:.1e}"
            )

    points = _FLAGS.resolution**2
    times = {name: [] for name in runs}
    peaks = []
    for _ in range(_FLAGS.rounds):
        peaks.append(matmul_gflops(points, _FLAGS.hidden_units))
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - started)
    field = arguments[0]
    passes = _FLAGS.batch_size * (9 * _FLAGS.inner_steps + 3)
    passes -= 3 * (_FLAGS.batch_size - 1)
    matmuls = sum(np.prod(v.shape) for v in field.trainable_variables[0::2])
    flop = passes * 2 * points * float(matmuls)
    peak = float(np.median(peaks))
    print(
        f"\n{_FLAGS.resolution} x {_FLAGS.resolution}, SIREN 4 x "
        f"{_FLAGS.hidden_units}, batch {_FLAGS.batch_size}, "
        f"{_FLAGS.inner_steps} inner steps, float32, {_FLAGS.threads} threads, "
        f"{_FLAGS.rounds} interleaved rounds; matmul peak {peak:.0f} GFLOP/s\n"
    )
    results, rows = {}, []
    for name in runs:
        median = float(np.median(times[name]))
        ratio = float(np.median(np.array(times[OURS]) / np.array(times[name])))
        share = flop / median / 1e9 / peak
        results[name] = {
            "milliseconds": 1e3 * median,
            "ratio": ratio,
            "share_of_peak": share,
            "bytes": memory[name],
            "gradient_error": float(errors[name]),
        }
        rows.append(
            [
                name,
                f"{1e3 * median:.0f}",
                f"{ratio:.2f}",
                f"{share:.0%}",
                f"{memory[name] / 2**20:.0f} MiB",
                f"{errors[name]:.1e}",
            ]
        )
    titles = ["step", "ms (median)", "ours / it", "of matmul peak"]
    print(markdown_table([*titles, "memory", "gradient error"], rows))
    if _FLAGS.json:
        with open(_FLAGS.json, "w") as file:
            json.dump({"peak_gflops": peak, "steps": results}, file, indent=2)
    if results["JAX vmap + jit"]["ratio"] > _FLAGS.bar:
        print(f"\nAbove the bar of {_FLAGS.bar} of JAX vmap's time.")
        sys.exit(1)


if __name__ == "__main__":
    cli.run(main, __doc__)
