r"""How a meta-step grows with pixels, inner steps, tasks and width.

    python benchmarks/scaling.py --output_dir=runs/scaling

This runs benchmarks/meta_step.py at every size, one process at a time, and
writes scaling.json, scaling.md and scaling.png. Sizes in scaling.json are
skipped, so an interrupted command can be repeated. Tables and plot show the
sizes measured so far. Exponents are the slopes of least-squares lines through
the logarithms. All figures should come from one machine; its matmul peak is
measured at every size.
"""

import json
import math
import pathlib
import subprocess
import sys
import tempfile

import matplotlib.pyplot as plt
import numpy as np
from absl import flags

from tfmetainit import cli
from tfmetainit.evaluation.tables import markdown_table
from tfmetainit.io import files

_FLAGS = flags.FLAGS
flags.DEFINE_string("output_dir", "runs/scaling", "Folder of the results.")
flags.DEFINE_integer("threads", 2, "Cores that every step may use.")
flags.DEFINE_integer("rounds", 3, "Interleaved rounds.")

_BASE = {
    "resolution": 64,
    "inner_steps": 2,
    "batch_size": 3,
    "hidden_units": 256,
}
_AXES = {
    "resolution": (32, 64, 128, 178),
    "inner_steps": (1, 2, 4, 8, 16),
    "batch_size": (1, 3, 8),
    "hidden_units": (64, 128, 256, 512),
}
# torch.compile takes minutes for many unrolled steps.
_COMPILED = {"inner_steps": 2, "batch_size": 3, "hidden_units": 256}
_TITLES = {
    "resolution": "pixels",
    "inner_steps": "inner steps",
    "batch_size": "tasks",
    "hidden_units": "width",
}
_FIGURES = {"milliseconds": "ms", "bytes": "MiB"}


def _key(size):
    everything = {**size, "threads": _FLAGS.threads, "rounds": _FLAGS.rounds}
    return ", ".join(f"{name}={value}" for name, value in everything.items())


def _measure(size):
    """The figures of meta_step.py for one size."""
    compiled = all(size[name] == value for name, value in _COMPILED.items())
    script = pathlib.Path(__file__).parent / "meta_step.py"
    with tempfile.TemporaryDirectory() as folder:
        output = pathlib.Path(folder) / "figures.json"
        subprocess.run(
            [
                *(sys.executable, str(script)),
                *(f"--{name}={value}" for name, value in size.items()),
                f"--torch_compile={compiled}",
                f"--threads={_FLAGS.threads}",
                f"--rounds={_FLAGS.rounds}",
                *("--bar=inf", f"--json={output}"),
            ],
            check=True,
        )
        return json.loads(output.read_text())


def _amount(axis, value):
    """The quantity on an axis: for a resolution, the number of pixels."""
    return value**2 if axis == "resolution" else value


def _value(figures, name, figure):
    """A figure of a step in the table's unit, or None."""
    step = figures["steps"].get(name)
    if step is None:
        return None
    return step[figure] / (2**20 if figure == "bytes" else 1)


def _exponent(amounts, values):
    """The slope of a line through the logarithms."""
    return float(np.polyfit(np.log(amounts), np.log(values), 1)[0])


def _of_axis(results, axis):
    """`(value, figures)` measured so far along an axis from `_BASE`."""
    sizes = [(value, _key({**_BASE, axis: value})) for value in _AXES[axis]]
    return [(value, results[key]) for value, key in sizes if key in results]


def to_markdown(results) -> str:
    """A table of time and memory for each axis, with the exponents."""
    lines = []
    for axis, title in _TITLES.items():
        points = _of_axis(results, axis)
        if len(points) < 2:
            continue
        amounts = [_amount(axis, value) for value, _ in points]
        peaks = ", ".join(f"{f['peak_gflops']:.0f}" for _, f in points)
        lines += [
            f"### By {title}",
            "",
            f"Matmul peak {peaks} GFLOP/s.",
            "",
        ]
        rows = []
        for figure, unit in _FIGURES.items():
            for name in points[0][1]["steps"]:
                values = [_value(f, name, figure) for _, f in points]
                if any(value is None for value in values):
                    continue
                cells = [f"{value:.0f}" for value in values]
                exponent = _exponent(amounts, values)
                rows.append([name, unit, *cells, f"{title}^{exponent:.2f}"])
        titles = ["step", "", *map(str, amounts), "grows as"]
        lines += [markdown_table(titles, rows, text_columns=2), ""]
    return "\n".join(lines)


def save_plot(path, results) -> None:
    """Plots time and memory along two axes, one line per step."""
    figure, axes = plt.subplots(2, 2, figsize=(11, 8), layout="constrained")
    for row, (key, unit) in zip(axes, _FIGURES.items()):
        for panel, axis in zip(row, ("resolution", "inner_steps")):
            points = _of_axis(results, axis)
            amounts = [_amount(axis, value) for value, _ in points]
            for name in points[0][1]["steps"] if points else ():
                values = [_value(f, name, key) for _, f in points]
                if any(value is None for value in values):
                    continue
                panel.loglog(amounts, values, "o-", label=name)
            panel.set_xlabel(_TITLES[axis])
            panel.set_ylabel(
                f"{'time' if unit == 'ms' else 'memory'} in {unit}"
            )
            panel.grid(alpha=0.3)
    if axes[0, 0].lines:
        axes[0, 0].legend(fontsize=8)
    figure.suptitle(
        "One MAML meta-gradient, SIREN 4 x 256, 64 x 64 pixels, 3 tasks, 2 "
        "inner steps, or as given; float32"
    )
    with files.atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
    plt.close(figure)


def _write(folder, results):
    """Writes tables and plot of the results so far; returns the tables."""
    table = to_markdown(results)
    with files.atomic_path(folder / "scaling.md") as temporary:
        temporary.write_text(table)
    save_plot(folder / "scaling.png", results)
    return table


def main(argv):
    """Measures the missing sizes, then writes the tables and the plot."""
    del argv
    folder = files.make_folder(_FLAGS.output_dir)
    record = folder / "scaling.json"
    results = files.read_json(record) if record.is_file() else {}
    sizes = [_BASE]
    for axis, values in _AXES.items():
        sizes += [{**_BASE, axis: v} for v in values if v != _BASE[axis]]
    # Small sizes first.
    sizes.sort(key=lambda size: math.prod(size.values()) * size["resolution"])
    for number, size in enumerate(sizes, 1):
        if _key(size) in results:
            continue
        print(f"\n{number} of {len(sizes)}: {_key(size)}", flush=True)
        results[_key(size)] = _measure(size)
        files.write_json(record, results)
        _write(folder, results)
    table = _write(folder, results)
    print(f"\n{table}\nTables and plot: {folder}")


if __name__ == "__main__":
    cli.run(main, __doc__)
