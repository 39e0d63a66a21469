r"""The compiled steps of this package on a GPU that has no TensorFlow.

    python benchmarks/gpu.py write --folder=gpu_cases   # here, TensorFlow
    python benchmarks/gpu.py run --folder=gpu_cases     # there, JAX, PyTorch

`write` stores each step as StableHLO, compiled by XLA from the `tf.function`
that trains, with its inputs and its results on this machine. `run` compiles
them by JAX's client, compares the results, and times them in float32 and in
TensorFloat-32, beside MAML written in JAX and PyTorch. It prints the rates that
products of the network's own size and copies reach, and one table: ratios, and
for MAML without a solution the share of the products' rate. gpu.json has the
figures. Both run on CPUs, too.

The share counts the products of (9 K + 3) B - 3 (B - 1) passes through the
network, for K inner steps and B tasks, as meta_step.py does.
"""

import argparse
import functools
import json
import pathlib
import sys
import time

import common
import numpy as np
import peers

_STEPS = 2
# Largest difference from the results of `write`, relative to the largest entry
# of each array. TensorFloat-32 is reported, whatever it is.
_TOLERANCE = {"float32": 1e-3, "tensorfloat32": np.inf}
_PEERS = ("JAX vmap", "PyTorch eager", "PyTorch compile")
_REPEATS = 20
_SECONDS = 3.0  # for the repeats of one step


def _maml(side, batch, **options):
    """MAML on images: a step, and its arguments."""
    import tensorflow as tf

    from tfmetainit.fields.networks import SIREN
    from tfmetainit.geometry.pixels import pixel_coords
    from tfmetainit.meta import maml
    from tfmetainit.meta.tasks import Observations, Task

    coords = pixel_coords(side, side)
    values = np.random.default_rng(0).integers(256, size=(batch, side**2, 3))
    values = np.float32(values / 255)  # of 8 bits, as pictures are
    learner = maml.MAML(
        SIREN(seed=0),
        inner_steps=_STEPS,
        inner_lr=peers.INNER_LR,
        shares_support=True,
        task_loop="batched",
        **options,
    )
    coords = np.tile(coords, (batch, 1, 1))
    tasks = Task(
        Observations(
            tf.constant(coords[:, None]), tf.constant(values[:, None])
        ),
        Observations(tf.constant(coords), tf.constant(values)),
    )
    return learner, lambda tasks: learner.meta_gradient(tasks)[:2], tasks


def _fit(side, batch):
    """Two gradient steps, a solution, and the prediction, for each image."""
    import tensorflow as tf

    learner, _, tasks = _maml(side, batch, output_layer="solved")

    def fit(tasks):
        return tf.vectorized_map(
            lambda task: learner.query_loss.predict(
                learner.adapt(task.support)[0], task.query.inputs
            ),
            tasks,
        )

    return learner, fit, tasks


def _reptile(rays, samples, batch):
    """Reptile on a radiance field: 8 inner steps of some rays."""
    import tensorflow as tf

    from tfmetainit.fields.networks import SimplifiedNeRF
    from tfmetainit.forward_models.volume_rendering import VolumeRendering
    from tfmetainit.meta import reptile
    from tfmetainit.meta.tasks import Observations, Task

    rng = np.random.default_rng(0)
    # Origin, direction and depths of each ray.
    rows = rng.uniform(-1, 1, (batch, rays, 6))
    depths = np.sort(rng.uniform(2, 6, (batch, rays, samples)), axis=2)
    inputs = tf.constant(np.concatenate([rows, depths], -1), tf.float32)
    values = tf.constant(rng.random((batch, rays, 3)), tf.float32)
    rendering = VolumeRendering(white_background=True)
    learner = reptile.Reptile(
        SimplifiedNeRF(seed=0),
        support_model=rendering,
        query_model=rendering,
        inner_steps=8,
        inner_lr=0.1,
        task_loop="batched",
    )
    tasks = Task(
        Observations(inputs[:, None], values[:, None]),
        Observations(inputs, values),
    )
    return learner, lambda tasks: learner.meta_gradient(tasks)[:2], tasks


def _cases(small):
    """Makers of the steps by name; small ones for a test."""
    if small:
        return {
            "MAML, 8 x 8, batch 2": functools.partial(_maml, 8, 2),
            # More pixels than features: few have no well-defined solution.
            "MAML, solved, 24 x 24, batch 2": functools.partial(
                _maml, 24, 2, output_layer="solved"
            ),
            "Reptile, NeRF, 4 x 4 rays": functools.partial(_reptile, 4, 4, 2),
            "fit of 3 images, 24 x 24": functools.partial(_fit, 24, 3),
        }
    cases = {
        f"MAML, {side} x {side}, batch {batch}": functools.partial(
            _maml, side, batch
        )
        for side in (64, 178)
        for batch in (3, 16)
    }
    return cases | {
        "MAML, solved, 64 x 64, batch 3": functools.partial(
            _maml, 64, 3, output_layer="solved"
        ),
        "Reptile, NeRF, 128 x 64 rays, batch 8": functools.partial(
            _reptile, 128, 64, 8
        ),
        "fit of 64 images, 64 x 64": functools.partial(_fit, 64, 64),
    }


def write(folder: pathlib.Path, small: bool) -> None:
    """Writes all steps, with their arguments and results."""
    import tensorflow as tf

    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for number, (name, make) in enumerate(_cases(small).items()):
        learner, function, argument = make()
        step = tf.function(function, jit_compile=True)
        text = step.experimental_get_compiler_ir(argument)(stage="stablehlo")
        captured = common.captured_variables(step, learner.variables, argument)
        arguments = [leaf.numpy() for leaf in tf.nest.flatten(argument)]
        arguments += [v.numpy() for v in captured]
        # MAML and Reptile task by task, which takes less memory.
        learner.task_loop = "loop"
        results = tf.nest.flatten(tf.function(function)(argument))
        results = [leaf.numpy() for leaf in results]
        path = folder / str(number)
        path.with_suffix(".mlir").write_text(text)
        np.savez_compressed(
            path.with_suffix(".npz"),
            **{f"argument{i}": a for i, a in enumerate(arguments)},
            **{f"result{i}": a for i, a in enumerate(results)},
        )
        names.append(name)
        print(f"{name}: {len(text):,} characters", flush=True)
    (folder / "cases.json").write_text(json.dumps(names))


def _load(folder, number, precision):
    """A step of a stored case, its results, and all arrays stored."""
    import jax

    with np.load(folder / f"{number}.npz") as stored:
        arrays = {name: stored[name] for name in stored.files}
    text = (folder / f"{number}.mlir").read_text()
    step = common.compiled_stablehlo(text, precision)
    arguments = [
        jax.device_put(a) for n, a in arrays.items() if n.startswith("argument")
    ]
    expected = [a for n, a in arrays.items() if n.startswith("result")]
    return functools.partial(step, *arguments), expected, arrays


def _ready(results):
    """Waits for the results of a step of any library."""
    for result in results:
        if hasattr(result, "block_until_ready"):
            result.block_until_ready()
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        if torch.cuda.is_available():
            torch.cuda.synchronize()


def _flat(results):
    """The arrays of `(loss, gradients)`, or of a plain list."""
    if isinstance(results, tuple):
        return [results[0], *results[1]]
    return list(results)


def _seconds(steps):
    """Median time of each step, of interleaved repeats."""
    times = {name: [] for name in steps}
    started = time.perf_counter()
    for _ in range(_REPEATS):
        for name, step in steps.items():
            before = time.perf_counter()
            _ready(_flat(step()))
            times[name].append(time.perf_counter() - before)
        if time.perf_counter() - started > _SECONDS * len(steps):
            break
    return {name: float(np.median(of_step)) for name, of_step in times.items()}


def _rates(precision):
    """FLOP/s of a product of the network's size, bytes/s of a copy."""
    import jax
    import jax.numpy as jnp

    highest = None if precision == "tensorfloat32" else "highest"
    on_cpu = jax.devices()[0].platform == "cpu"
    rows, width, repeats = (4096 if on_cpu else 2**17), 256, 8
    a, b = jnp.ones((rows, width)), jnp.ones((width, width))
    long = jnp.ones(2**22 if on_cpu else 2**28)

    @jax.jit
    def products(a, b):
        for _ in range(repeats):
            a = jnp.dot(a, b, precision=highest) * 0.5
        return a

    copy = jax.jit(lambda x: x + 1.0)
    steps = {"products": lambda: [products(a, b)], "copy": lambda: [copy(long)]}
    for step in steps.values():
        _ready(step())  # compiles it
    seconds = _seconds(steps)
    flops = repeats * 2 * rows * width**2 / seconds["products"]
    return flops, 2 * long.nbytes / seconds["copy"]


def _work(arrays, name):
    """Floating-point operations of a step of MAML, or None."""
    if not name.startswith("MAML, ") or "solved" in name:
        return None
    values = arrays["argument3"]
    batch, points = values.shape[0], values.shape[-2]
    passes = batch * (9 * _STEPS + 3) - 3 * (batch - 1)
    weights = [
        a.size
        for key, a in arrays.items()
        if key.startswith("argument") and a.ndim == 2
    ]
    return passes * 2.0 * points * sum(weights)


def _peers_of(arrays, name, precision, wanted):
    """The steps of other libraries for the same case, by name."""
    if not name.startswith("MAML, ") or "solved" in name:
        return {}
    import jax

    params = [
        arrays[f"argument{i}"]
        for i in range(4, sum(key.startswith("argument") for key in arrays))
    ]
    params = [p for p in params if p.ndim > 0]
    case = params, arrays["argument2"][0], arrays["argument3"], _STEPS
    highest = "highest" if precision == "float32" else None
    vmapped = peers.jax_step(*case, vmap=True)

    def jax_step():
        with jax.default_matmul_precision(highest):
            return vmapped()

    steps = {"JAX vmap": jax_step}
    if any("PyTorch" in peer for peer in wanted) and _has_torch():
        import torch

        torch.backends.cuda.matmul.allow_tf32 = precision != "float32"
        steps["PyTorch eager"] = peers.torch_step(*case, compiled=False)
        steps["PyTorch compile"] = peers.torch_step(*case, compiled=True)
    return {peer: step for peer, step in steps.items() if peer in wanted}


def _has_torch():
    try:
        import torch  # noqa: F401
    except (ImportError, OSError, ValueError):  # none, or without its libraries
        return False
    return True


def run(
    folder: pathlib.Path, precisions: list[str], peer_names: list[str]
) -> list[dict]:
    """Compares and times all steps that `write` stored there."""
    import jax

    names = json.loads((folder / "cases.json").read_text())
    device = jax.devices()[0]
    rates = {precision: _rates(precision) for precision in precisions}
    for precision, (flops, bandwidth) in rates.items():
        print(
            f"{device.device_kind}, {precision}: products {flops / 1e12:.2f} "
            f"TFLOP/s, copies {bandwidth / 1e9:.0f} GB/s",
            flush=True,
        )
    figures = []
    for number, name in enumerate(names):
        for precision, (flops, bandwidth) in rates.items():
            print(f"Compiling {name}, {precision}", flush=True)
            step, expected, arrays = _load(folder, number, precision)
            apart = max(
                float(np.abs(np.asarray(r) - e).max() / np.abs(e).max())
                for r, e in zip(step(), expected, strict=True)
            )
            if not apart <= _TOLERANCE[precision]:
                sys.exit(f"{name}: results differ by {apart:.1e}")
            others = _peers_of(arrays, name, precision, peer_names)
            steps = {"tfmetainit": step, **others}
            for other in others.values():
                _ready(_flat(other()))  # compiles it
            seconds = _seconds(steps)
            work = _work(arrays, name)
            figures.append(
                {
                    "device": device.device_kind,
                    "precision": precision,
                    "case": name,
                    "difference": apart,
                    "seconds": seconds,
                    "share_of_products": work
                    and work / seconds["tfmetainit"] / flops,
                    "flops": flops,
                    "bytes_per_second": bandwidth,
                }
            )
            # A run that is stopped keeps what it has measured.
            (folder / "gpu.json").write_text(json.dumps(figures, indent=2))
            print(name, precision, f"{apart:.0e}", seconds, flush=True)
    return figures


def to_markdown(figures: list[dict]) -> str:
    """The table of the figures."""
    titles = ["step", "precision", "ms", "difference", "of the products' rate"]
    titles += [f"of {peer}" for peer in _PEERS]
    lines = [titles, ["---"] * 2 + ["---:"] * (len(titles) - 2)]
    for figure in figures:
        ours = figure["seconds"]["tfmetainit"]
        share = figure["share_of_products"]
        lines.append(
            [
                figure["case"],
                figure["precision"],
                f"{1e3 * ours:.2f}",
                f"{figure['difference']:.0e}",
                "" if share is None else f"{share:.0%}",
                *(
                    f"{ours / figure['seconds'][peer]:.2f}"
                    if peer in figure["seconds"]
                    else ""
                    for peer in _PEERS
                ),
            ]
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main():
    """Runs one of the two parts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("part", choices=["write", "run"])
    parser.add_argument("--folder", type=pathlib.Path, default="gpu_cases")
    parser.add_argument("--small", action="store_true", help="for a test")
    parser.add_argument(
        "--precision",
        action="append",
        choices=list(_TOLERANCE),
        help="default: both",
    )
    parser.add_argument(
        "--peer", action="append", choices=_PEERS, help="default: all"
    )
    options = parser.parse_args()
    folder = pathlib.Path(options.folder)
    if options.part == "write":
        write(folder, options.small)
        return
    figures = run(
        folder,
        options.precision or list(_TOLERANCE),
        options.peer or list(_PEERS),
    )
    print(to_markdown(figures))


if __name__ == "__main__":
    main()
