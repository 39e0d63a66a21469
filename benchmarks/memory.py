"""Peak memory and time of a meta-step: all inner steps kept, or recomputed.

    python benchmarks/memory.py [--resolution=64] [--repeats=3]

Every row is measured in a process of its own: one outer gradient of MAML on a
phantom of configs/ct_maml.py, with `learner.recompute` off or on. Memory is the
growth of the process's peak from before its first step. Time is that of the
fastest step, relative to the first row. Both are medians over the interleaved
repeats.
"""

import argparse
import json
import statistics
import time

from common import last_line_of_child, resident_peak

from tfmetainit.evaluation.tables import markdown_table

_ROWS = [(3, False), (3, True), (12, False), (12, True)]


def measure(resolution, steps, recompute, threads):
    """Measures one row in this process."""
    from tfmetainit import cli

    cli.quiet_tensorflow()
    import tensorflow as tf

    from tfmetainit.configs import ct_maml
    from tfmetainit.geometry import even_angles
    from tfmetainit.runs import build
    from tfmetainit.synthetic import SHEPP_LOGAN, render_ellipses

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    config = ct_maml.get_config()
    config.signal.resolution = resolution
    config.learner.inner_steps = steps
    config.learner.recompute = recompute
    signal = build.build_signal(config)
    learner = build.build_learner(config, signal)
    image = render_ellipses(SHEPP_LOGAN, resolution).clip(0.0, 1.0)
    task = signal.task(
        tf.constant(image.reshape(-1, 1), tf.float32),
        tf.constant(even_angles(8)),
    )
    step = tf.function(learner.outer_gradients)

    before, seconds = resident_peak(), []
    for _ in range(3):
        started = time.perf_counter()
        float(step(task)[1])
        seconds.append(time.perf_counter() - started)
    return {"bytes": resident_peak() - before, "seconds": min(seconds[1:])}


def main():
    """Runs every row `--repeats` times and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--row", type=int, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.row is not None:
        row = measure(flags.resolution, *_ROWS[flags.row], flags.threads)
        print(json.dumps(row))
        return
    results = [[] for _ in _ROWS]
    for _ in range(flags.repeats):
        for index, of_row in enumerate(results):
            of_row.append(json.loads(last_line_of_child(f"--row={index}")))
    first = statistics.median(r["seconds"] for r in results[0])
    rows = []
    for (steps, recompute), of_row in zip(_ROWS, results):
        size = statistics.median(r["bytes"] for r in of_row)
        seconds = statistics.median(r["seconds"] for r in of_row)
        kept = "recomputed" if recompute else "kept"
        mebibytes, ratio = f"{size / 2**20:.0f} MiB", f"{seconds / first:.2f}"
        rows.append([kept, str(steps), mebibytes, ratio])
    titles = ["activations", "inner steps", "peak memory", "time"]
    print(markdown_table(titles, rows))


if __name__ == "__main__":
    main()
