r"""Time of one MAML meta-gradient against JAX and PyTorch peers.

    make bench
    python benchmarks/meta_step.py --resolution=64 --inner_steps=2

One process, the same initial weights and data for all, rounds interleaved; the
figures are medians, and the ratios are to be read, not the milliseconds. Losses
and meta-gradients are compared before anything is timed. The peers are plain
programs of the same definition (SIREN 4 x 256, full grid, second order), not
tuned ones: JAX as vmap over the tasks under jit, and with the loop over the
tasks unrolled; PyTorch eagerly with autograd.grad(create_graph=True).

Work is counted in passes through the network's matrix products, as traced: for
K inner steps 9 K + 3 passes a task (21 for K = 2). An inner step runs forward
(1) and backward (2) and the outer gradient differentiates both (6); the query
runs forward and backward (3).
"""

import json
import sys
import time

from absl import flags

from tfmetainit import cli

cli.quiet_tensorflow()

import keras
import numpy as np
import tensorflow as tf

from tfmetainit import functional, learners
from tfmetainit.fields import SIREN
from tfmetainit.pixels import pixel_coords
from tfmetainit.tasks import Observations, Task

_INNER_LR = 1e-2
_W0 = 200.0
_FLAGS = flags.FLAGS
flags.DEFINE_integer("resolution", 64, "Side of the images in pixels.")
flags.DEFINE_integer("batch_size", 3, "Tasks in a meta-batch.")
flags.DEFINE_integer("inner_steps", 2, "Inner gradient steps.")
flags.DEFINE_integer("rounds", 7, "Interleaved rounds.")
flags.DEFINE_string("json", None, "Also write the figures to this file.")
flags.DEFINE_float(
    "bar", 0.45, "Fail if TensorFlow needs more than this part of JAX's time."
)


def tensorflow_step(field, coords, values, inner_steps):
    """This package's step: what `MAML.train_step` differentiates."""
    learner = learners.MAML(field, inner_steps=inner_steps, inner_lr=_INNER_LR)
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
        gradients, losses, _ = zip(
            *(learner.outer_gradients(t) for t in learners._unstack(tasks))
        )
        return tf.add_n(losses) / count, functional.mean(gradients)

    def run():
        loss, gradients = step()
        return float(loss), [g.numpy() for g in gradients]

    return run


def jax_steps(params, coords, values, inner_steps):
    """The JAX peers: `{name: run}`."""
    import jax
    import jax.numpy as jnp

    def predict(params, coords):
        outputs = coords
        for kernel, bias in zip(params[:-2:2], params[1:-2:2]):
            outputs = jnp.sin(_W0 * (outputs @ kernel + bias))
        return outputs @ params[-2] + params[-1] + 0.5

    def mse(params, values):
        return jnp.mean((predict(params, coords) - values) ** 2)

    def adapted_loss(params, values):
        for _ in range(inner_steps):
            gradients = jax.grad(mse)(params, values)
            params = [p - _INNER_LR * g for p, g in zip(params, gradients)]
        return mse(params, values)

    def vmapped(params, values):
        return jnp.mean(
            jax.vmap(adapted_loss, in_axes=(None, 0))(params, values)
        )

    def looped(params, values):
        return sum(adapted_loss(params, v) for v in values) / len(values)

    params = [jnp.asarray(p) for p in params]
    coords, values = jnp.asarray(coords), jnp.asarray(values)

    def runner(function):
        step = jax.jit(jax.value_and_grad(function))

        def run():
            loss, gradients = step(params, values)
            return float(loss), [np.asarray(g) for g in gradients]

        return run

    return {"JAX vmap + jit": runner(vmapped), "JAX loop + jit": runner(looped)}


def torch_step(params, coords, values, inner_steps):
    """The PyTorch peer, eager."""
    import torch

    params = [torch.tensor(p, requires_grad=True) for p in params]
    coords, values = torch.tensor(coords), torch.tensor(values)

    def mse(params, values):
        outputs = coords
        for kernel, bias in zip(params[:-2:2], params[1:-2:2]):
            outputs = torch.sin(_W0 * (outputs @ kernel + bias))
        outputs = outputs @ params[-2] + params[-1] + 0.5
        return torch.mean((outputs - values) ** 2)

    def run():
        total = 0.0
        for image in values:
            adapted = params
            for _ in range(inner_steps):
                gradients = torch.autograd.grad(
                    mse(adapted, image), adapted, create_graph=True
                )
                adapted = [
                    p - _INNER_LR * g for p, g in zip(adapted, gradients)
                ]
            total = total + mse(adapted, image)
        loss = total / len(values)
        gradients = torch.autograd.grad(loss, params)
        return loss.item(), [g.numpy() for g in gradients]

    return run


def matmul_gflops(points, width=256, repeats=40):
    """Rate of the network's own matrix product, in GFLOP/s."""
    a = tf.random.normal([points, width])
    b = tf.random.normal([width, width])
    product = tf.function(lambda: tf.matmul(a, b))
    product()
    started = time.perf_counter()
    for _ in range(repeats):
        result = product()
    result.numpy()
    seconds = time.perf_counter() - started
    return repeats * 2 * points * width**2 / seconds / 1e9


def _error(gradients, reference):
    """Largest deviation of a gradient tensor, relative to its largest entry."""
    return max(
        np.abs(g - r).max() / np.abs(r).max()
        for g, r in zip(gradients, reference)
    )


def main(argv):
    """Compares, times, prints a table; exit code 1 above the bar."""
    del argv
    size, count, steps = (
        _FLAGS.resolution,
        _FLAGS.batch_size,
        _FLAGS.inner_steps,
    )
    keras.utils.set_random_seed(0)
    field = SIREN(seed=0)
    params = [v.numpy() for v in field.trainable_variables]
    coords = pixel_coords(size, size)
    values = np.random.default_rng(0).random(
        (count, size * size, 3), np.float32
    )
    arguments = (coords, values, steps)
    runs = {"tfmetainit (TensorFlow)": tensorflow_step(field, *arguments)}
    try:
        runs.update(jax_steps(params, *arguments))
    except ImportError:
        print("JAX is not installed: pip install -e .[bench]")
    try:
        runs["PyTorch eager"] = torch_step(params, *arguments)
    except ImportError:
        print("PyTorch is not installed: pip install -e .[bench]")

    field64 = SIREN(seed=0, dtype="float64")
    functional.set_params(field64, [p.astype(np.float64) for p in params])
    loss64, gradients64 = tensorflow_step(
        field64, *(a.astype(np.float64) for a in (coords, values)), steps
    )()
    errors = {}
    for name, run in runs.items():
        loss, gradients = run()
        errors[name] = _error(gradients, gradients64)
        np.testing.assert_allclose(loss, loss64, rtol=1e-5, err_msg=name)
        if errors[name] > 1e-4:
            raise AssertionError(
                f"{name}: meta-gradient off by {errors[name]:.1e}"
            )

    times = {name: [] for name in runs}
    peaks = []
    for _ in range(_FLAGS.rounds):
        peaks.append(matmul_gflops(size * size))
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - started)
    ours, *_ = runs
    passes = 9 * steps + 3
    matmuls = sum(p.size for p in params[0::2])
    flop = passes * count * 2 * size * size * matmuls
    peak = float(np.median(peaks))
    print(
        f"\n{size} x {size}, batch {count}, {steps} inner steps, float32, "
        f"{_FLAGS.rounds} interleaved rounds; matmul peak {peak:.0f} GFLOP/s\n"
    )
    print(
        "| step | ms (median) | ours / it | of matmul peak | gradient error |"
    )
    print("|---|---:|---:|---:|---:|")
    results = {}
    for name in runs:
        median = float(np.median(times[name]))
        ratio = float(np.median(np.array(times[ours]) / np.array(times[name])))
        share = flop / median / 1e9 / peak
        results[name] = {
            "milliseconds": 1e3 * median,
            "ratio": ratio,
            "share_of_peak": share,
            "gradient_error": float(errors[name]),
        }
        print(
            f"| {name} | {1e3 * median:.0f} | {ratio:.2f} | {share:.0%} | "
            f"{errors[name]:.1e} |"
        )
    if _FLAGS.json:
        with open(_FLAGS.json, "w") as file:
            json.dump({"peak_gflops": peak, "steps": results}, file, indent=2)
    vmap = results.get("JAX vmap + jit")
    if vmap and vmap["ratio"] > _FLAGS.bar:
        print(f"\nAbove the bar of {_FLAGS.bar} of JAX vmap's time.")
        sys.exit(1)


if __name__ == "__main__":
    cli.run(main, __doc__)
