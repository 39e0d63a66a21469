"""The forms of an outer step's graph: size, start and time of a step.

    python benchmarks/task_loops.py --tasks=16 --points=1024

One outer gradient of a SIREN 4 x 256 on random pictures by each form of
`meta.task_loops`, in interleaved rounds. Gradients are compared with those of
the first form. Memory is what tracing and two steps add to a process of its
own.
"""

import statistics
import time

from absl import flags

from tfmetainit import cli

cli.quiet_tensorflow()

import numpy as np
import tensorflow as tf
from common import last_line_of_child, print_growth

from tfmetainit.evaluation.tables import markdown_table
from tfmetainit.fields import networks
from tfmetainit.meta import maml, reptile, task_loops
from tfmetainit.meta.tasks import Observations, Task

_FLAGS = flags.FLAGS
flags.DEFINE_integer("tasks", 16, "Tasks of the batch.")
flags.DEFINE_integer("points", 1024, "Pixels of a task; a square number.")
flags.DEFINE_integer("steps", 2, "Inner steps.")
flags.DEFINE_integer("rounds", 9, "Interleaved rounds.")
flags.DEFINE_enum("learner", "solved", ["solved", "stepped", "reptile"], "")
flags.DEFINE_list("forms", list(task_loops.FORMS), "Forms to compare.")
flags.DEFINE_bool("jit_compile", False, "Whether XLA compiles the steps.")
flags.DEFINE_string("memory_of", None, "Prints the memory of one form.")


def _make_batch():
    """Random pictures, seen at their pixels and scored off-grid."""
    rng = np.random.default_rng(0)
    side = round(_FLAGS.points**0.5)
    axis = np.arange(side) / side
    coords = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1)
    shape = (_FLAGS.tasks, side * side)
    inputs = np.broadcast_to(coords.reshape(1, -1, 2), (*shape, 2))
    query, *values = (rng.random((*shape, n)) for n in (2, 3, 3))
    leaves = (inputs[:, None], values[0][:, None], query, values[1])
    leaves = [tf.constant(leaf, tf.float32) for leaf in leaves]
    return Task(Observations(*leaves[:2]), Observations(*leaves[2:]))


def _make_learner(form):
    field = networks.SIREN(seed=0)
    common = {"inner_steps": _FLAGS.steps, "task_loop": form}
    if _FLAGS.learner == "reptile":
        return reptile.Reptile(field, **common)
    return maml.MAML(
        field,
        step_sizes="tensor",
        learn_step_sizes=True,
        output_layer=_FLAGS.learner,
        early_loss_weight=0.2,
        shares_support=True,
        **common,
    )


def _num_operations(function):
    library = function.graph.as_graph_def().library.function
    nodes = sum(len(one.node_def) for one in library)
    return len(function.graph.get_operations()) + nodes


def _run_alone(form, batch):
    """A function that takes an outer step."""
    learner = _make_learner(form)  # its variables must live
    step = tf.function(learner.meta_gradient, jit_compile=_FLAGS.jit_compile)
    return lambda: (step(batch)[0][0].numpy(), learner)


def main(argv):
    """Times the forms and prints a table."""
    del argv
    batch = _make_batch()
    if _FLAGS.memory_of:
        print_growth(lambda: _run_alone(_FLAGS.memory_of, batch))
        return
    learners, steps, rows, first = [], {}, [], None
    for form in _FLAGS.forms:
        learners.append(_make_learner(form))  # its variables must live
        started = time.perf_counter()
        step = tf.function(
            learners[-1].meta_gradient, jit_compile=_FLAGS.jit_compile
        )
        step = steps[form] = step.get_concrete_function(batch)
        gradients = np.concatenate([np.ravel(g) for g in step(batch)[0]])
        seconds = time.perf_counter() - started
        first = gradients if first is None else first
        apart = np.abs(gradients - first).max() / np.abs(first).max()
        rows.append(
            [
                form,
                f"{_num_operations(step):,}",
                f"{seconds:.1f} s",
                f"{apart:.0e}",
            ]
        )
    times = {form: [] for form in steps}
    for _ in range(_FLAGS.rounds):
        for form, step in steps.items():
            started = time.perf_counter()
            step(batch)[0][0].numpy()
            times[form].append(time.perf_counter() - started)
    base = times[_FLAGS.forms[0]]
    for row, of_form in zip(rows, times.values()):
        ratio = statistics.median(t / b for t, b in zip(of_form, base))
        row += [f"{1e3 * statistics.median(of_form):.0f} ms", f"{ratio:.2f}"]
        memory = int(last_line_of_child(f"--memory_of={row[0]}"))
        row.append(f"{memory / 2**20:.0f} MiB")
    titles = ["form", "operations", "start", "difference", "step", "ratio"]
    titles.append("memory")
    print(markdown_table(titles, rows))


if __name__ == "__main__":
    cli.run(main, __doc__)
