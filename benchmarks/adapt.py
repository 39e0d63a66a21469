r"""Time and memory of one fit in LiteRT, a SavedModel, Keras, JAX and PyTorch.

    make bench
    python benchmarks/adapt.py --resolution=178 --steps=2 --threads=2

A fit is `--steps` gradient steps of a SIREN 4 x 256 on all pixels of one image,
from weights in to weights out. All runtimes start from the same weights and fit
the same image. The adapted weights are compared before anything is timed. Times
are medians over interleaved rounds in one process; compare the ratios, not the
milliseconds. Memory is measured in one process per runtime: it is the growth of
the peak resident set, after the imports, from loading the model and two fits.

The peers are plain programs of the same definition: JAX under jit with the
steps unrolled, and eager PyTorch. Work is counted in passes through the
network's matrix products. A step takes 3 passes: forward, backward to inputs,
and backward to weights.
"""

import importlib
import json
import pathlib
import sys
import tempfile
import time

from absl import flags
from common import (
    last_line_of_child,
    matmul_gflops,
    pin_cores,
    print_growth,
)

from tfmetainit import cli
from tfmetainit.evaluation.tables import markdown_table
from tfmetainit.io.errors import InputError

_W0 = 200.0
_INNER_LR = 1e-2
_FLAGS = flags.FLAGS
flags.DEFINE_integer("resolution", 178, "Side of the image in pixels.")
flags.DEFINE_integer("steps", 2, "Gradient steps.")
flags.DEFINE_integer("threads", 2, "Cores that every runtime may use.")
flags.DEFINE_integer("rounds", 7, "Interleaved rounds.")
flags.DEFINE_string("json", None, "Also write the figures to this file.")
flags.DEFINE_float(
    "bar", 1.0, "Fail if LiteRT takes more than this share of a peer's time."
)
flags.DEFINE_float(
    "peak_bar", 0.6, "Fail if LiteRT's share of the matmul peak is less."
)
flags.DEFINE_string("memory_of", None, "Internal: the runtime to measure.")
flags.DEFINE_string("folder", None, "Internal: folder of the exports.")


def _learner():
    from tfmetainit.fields import networks
    from tfmetainit.meta import maml

    return maml.MAML(networks.SIREN(seed=0), inner_lr=_INNER_LR)


def _image(size):
    import numpy as np

    from tfmetainit.geometry import pixels

    coords = pixels.pixel_coords(size, size)
    values = np.random.default_rng(0).random((size * size, 3), np.float32)
    return coords, values


def write_exports(folder, size):
    """Writes the learner's SavedModel and .tflite file."""
    from tfmetainit.export import lite, saved_model
    from tfmetainit.export.adapter import Adapter

    adapter = Adapter(
        _learner(),
        input_shape=(2,),
        value_shape=(3,),
        coords_shape=(2,),
        max_steps=64,
    )
    saved_model.save(adapter, folder / "saved_model")
    content = lite.convert(
        adapter,
        num_points=size * size,
        num_coords=size * size,
        metadata={"inner_steps": 2},
    )
    (folder / "model.tflite").write_bytes(content)


def litert(folder, size, steps, threads):
    """Runs the .tflite file in LiteRT."""
    from tfmetainit.litert.artifact import LiteArtifact

    artifact = LiteArtifact(folder / "model.tflite", num_threads=threads)
    coords, values = _image(size)
    theta = artifact.init()
    return lambda: artifact.adapt(theta, coords, values, steps)[0]


def saved_model(folder, size, steps, threads):
    """Runs the SavedModel in TensorFlow."""
    import tensorflow as tf

    del threads
    loaded = tf.saved_model.load(str(folder / "saved_model"))
    signatures = loaded.signatures
    coords, values = _image(size)
    arguments = {
        "theta": signatures["init"]()["theta"],
        "inputs": tf.constant(coords[None]),
        "values": tf.constant(values[None]),
        "n_points": tf.constant([size * size]),
        "steps": tf.constant([steps]),
    }

    def run():
        assert loaded is not None  # the signatures only refer to it weakly
        return signatures["adapt"](**arguments)["theta"][0].numpy()

    return run


def keras(folder, size, steps, threads):
    """Runs the learner's `adapt`, which training calls, in a tf.function."""
    import tensorflow as tf

    from tfmetainit.meta import functional
    from tfmetainit.meta.tasks import Observations

    del folder, threads
    learner = _learner()
    coords, values = _image(size)
    support = Observations(tf.constant(coords[None]), tf.constant(values[None]))
    adapt = tf.function(
        lambda: functional.flatten(learner.adapt(support, steps)[0])
    )
    return lambda: adapt().numpy()


def jax(folder, size, steps, threads):
    """A plain JAX program."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    del folder, threads
    params = [jnp.asarray(v.numpy()) for v in _learner().field.weights]
    coords, values = map(jnp.asarray, _image(size))

    def mse(params):
        outputs = coords
        for kernel, bias in zip(params[:-2:2], params[1:-2:2]):
            outputs = jnp.sin(_W0 * (outputs @ kernel + bias))
        outputs = outputs @ params[-2] + params[-1] + 0.5
        return jnp.mean((outputs - values) ** 2)

    @jax.jit
    def adapt(params):
        for _ in range(steps):
            gradients = jax.grad(mse)(params)
            params = [p - _INNER_LR * g for p, g in zip(params, gradients)]
        return jnp.concatenate([jnp.ravel(p) for p in params])

    return lambda: np.asarray(adapt(params))


def pytorch(folder, size, steps, threads):
    """A plain PyTorch program."""
    import torch

    del folder
    torch.set_num_threads(threads)
    start = [torch.tensor(v.numpy()) for v in _learner().field.weights]
    coords, values = map(torch.tensor, _image(size))

    def run():
        params = start
        for _ in range(steps):
            params = [p.detach().requires_grad_() for p in params]
            outputs = coords
            for kernel, bias in zip(params[:-2:2], params[1:-2:2]):
                outputs = torch.sin(_W0 * (outputs @ kernel + bias))
            outputs = outputs @ params[-2] + params[-1] + 0.5
            loss = torch.mean((outputs - values) ** 2)
            gradients = torch.autograd.grad(loss, params)
            params = [p - _INNER_LR * g for p, g in zip(params, gradients)]
        return torch.cat([p.detach().ravel() for p in params]).numpy()

    return run


# Maps a name to the function that makes its fit, and to the imports of that.
RUNTIMES = {
    "LiteRT": (
        litert,
        ["ai_edge_litert.compiled_model", "ai_edge_litert.options"],
    ),
    "SavedModel": (saved_model, ["tensorflow"]),
    "Keras": (keras, ["tfmetainit.meta"]),
    "JAX jit": (jax, ["tfmetainit.meta", "jax"]),
    "PyTorch eager": (pytorch, ["tfmetainit.meta", "torch"]),
}


def _memory_of(name):
    """Prints the bytes by which loading and two fits raise the peak."""
    make, modules = RUNTIMES[name]
    for module in [*modules, "tfmetainit.geometry.pixels"]:
        importlib.import_module(module)
    folder = pathlib.Path(_FLAGS.folder)
    sizes = _FLAGS.resolution, _FLAGS.steps, _FLAGS.threads
    print_growth(lambda: make(folder, *sizes))


def main(argv):
    """Compares the weights, times, measures memory and prints a table."""
    del argv
    pin_cores(_FLAGS.threads)
    if _FLAGS.memory_of:
        _memory_of(_FLAGS.memory_of)
        return
    cli.quiet_tensorflow()
    import numpy as np

    size, steps = _FLAGS.resolution, _FLAGS.steps
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        write_exports(folder, size)
        runs, memory = {}, {}
        for name, (make, _) in RUNTIMES.items():
            try:
                runs[name] = make(folder, size, steps, _FLAGS.threads)
            except ImportError as error:
                raise InputError(
                    f"{name} is not installed: pip install -e .[bench]"
                ) from error
            memory[name] = int(
                last_line_of_child(f"--memory_of={name}", f"--folder={folder}")
            )
        expected = runs["Keras"]()
        for name, run in runs.items():
            np.testing.assert_allclose(run(), expected, atol=1e-6, err_msg=name)
        times = {name: [] for name in runs}
        peaks = []
        for _ in range(_FLAGS.rounds):
            peaks.append(matmul_gflops(size * size))
            for name, run in runs.items():
                started = time.perf_counter()
                run()
                times[name].append(time.perf_counter() - started)
    peak = float(np.median(peaks))
    matmuls = 2 * 256 + 3 * 256 * 256 + 256 * 3
    flop = 3 * steps * 2 * size * size * matmuls
    print(
        f"\nA fit of {steps} steps at {size} x {size}, SIREN 4 x 256, float32, "
        f"{_FLAGS.threads} threads, {_FLAGS.rounds} interleaved rounds; matmul "
        f"peak {peak:.0f} GFLOP/s\n"
    )
    results, rows = {}, []
    for name in runs:
        median = float(np.median(times[name]))
        ratios = np.array(times["LiteRT"]) / np.array(times[name])
        results[name] = {
            "milliseconds": 1e3 * median,
            "ratio": float(np.median(ratios)),
            "share_of_peak": flop / median / 1e9 / peak,
            "bytes": memory[name],
        }
        rows.append(
            [
                name,
                f"{1e3 * median:.0f}",
                f"{np.median(ratios):.2f}",
                f"{results[name]['share_of_peak']:.0%}",
                f"{memory[name] / 2**20:.0f} MiB",
            ]
        )
    titles = ["runtime", "ms (median)", "LiteRT / it", "of matmul peak"]
    print(markdown_table([*titles, "memory"], rows))
    if _FLAGS.json:
        with open(_FLAGS.json, "w") as file:
            json.dump(
                {"peak_gflops": peak, "runtimes": results}, file, indent=2
            )
    worst = max(r["ratio"] for r in results.values())
    share = results["LiteRT"]["share_of_peak"]
    if worst > _FLAGS.bar or share < _FLAGS.peak_bar:
        print(
            f"\nMissed: LiteRT may take {_FLAGS.bar} of any peer's time, and "
            f"must reach {_FLAGS.peak_bar:.0%} of the peak."
        )
        sys.exit(1)


if __name__ == "__main__":
    cli.run(main, __doc__)
