r"""What TensorFloat-32 costs in training, simulated on a CPU.

    python benchmarks/tf32.py --config=configs/text.py \
        --config.num_steps=400 --config.validation.every=100 --output_dir=tf32

GPUs since Ampere can round the operands of a matrix product to 10 bits of
mantissa. This script trains a config from the same seed as it is, and with
operands rounded so in every product, forwards and backwards; `rounded but for
the Gram matrix` leaves out the products of the solved output layer. All are
evaluated in float32, as the package does. Prints a table.
"""

import pathlib
import subprocess
import sys

import numpy as np
from absl import flags
from ml_collections import config_flags

from tfmetainit import cli

cli.quiet_tensorflow()

import tensorflow as tf
from tensorflow.python.ops import gen_math_ops

from tfmetainit import train
from tfmetainit.evaluation.tables import markdown_table
from tfmetainit.geometry import psnr_from_mse
from tfmetainit.meta import functional, output_layer
from tfmetainit.runs import build
from tfmetainit.runs.workdir import find_run
from tfmetainit.signals.base import first_tasks

_FLAGS = flags.FLAGS
_CONFIG = config_flags.DEFINE_config_file("config", "configs/text.py")
flags.DEFINE_string("output_dir", "tf32", "Folder of the runs.")
flags.DEFINE_integer("num_signals", 20, "Held-out signals.")
flags.DEFINE_string("only", None, "For the script's own use: one rounding.")
_ROUNDINGS = ("none", "rounded but for the Gram matrix", "rounded")
_STEPS = (0, 1, 2, 4, 8)
_PRODUCTS = ("mat_mul", "batch_mat_mul", "batch_mat_mul_v2", "batch_mat_mul_v3")


@tf.custom_gradient
def _rounded(x):
    """float32 rounded to 10 bits of mantissa, to the nearest, ties to even.

    The gradient is that of the identity.
    """
    bits = tf.bitcast(x, tf.int32)
    odd = tf.bitwise.bitwise_and(tf.bitwise.right_shift(bits, 13), 1)
    bits = tf.bitwise.bitwise_and(bits + 0xFFF + odd, ~0x1FFF)
    return tf.bitcast(bits, tf.float32), lambda upstream: upstream


def _simulate(rounding):
    """Rounds the operands of products in all graphs made from now on."""
    exact = []  # not empty while products are not rounded

    def wrap(product):
        def of_rounded(a, b, *arguments, **options):
            a, b = tf.convert_to_tensor(a), tf.convert_to_tensor(b)
            if not exact and a.dtype == tf.float32:
                a, b = _rounded(a), _rounded(b)
            return product(a, b, *arguments, **options)

        return of_rounded

    for name in _PRODUCTS:
        setattr(gen_math_ops, name, wrap(getattr(gen_math_ops, name)))
    if rounding == "rounded":
        return
    gram = output_layer._product

    def exact_gram(left, right):
        exact.append(True)
        try:
            return gram(left, right)
        finally:
            exact.pop()

    output_layer._product = exact_gram


def _evaluate(workdir):
    """Mean PSNR of the first held-out signals after _STEPS steps."""
    run = find_run(workdir)
    config = run.read_config()
    signal = build.build_signal(config)
    learner = build.load_learner(run, config, signal)
    params = functional.get_params(learner.field)

    @tf.function
    def errors(support, query):
        trajectory = learner.sgd_fit().trajectory(params, support, _STEPS[-1])
        return [
            learner.query_loss(adapted, query)
            for step, adapted in enumerate(trajectory)
            if step in _STEPS
        ]

    tasks = first_tasks(signal, "test", _FLAGS.num_signals)
    return np.mean(
        [psnr_from_mse(np.array(errors(*task))) for task in tasks], axis=0
    )


def main(argv):
    """Trains in each precision, in a process of its own, and compares."""
    del argv
    if _FLAGS.only is not None:
        if _FLAGS.only != "none":
            _simulate(_FLAGS.only)
        train.train(_CONFIG.value, _FLAGS.output_dir)
        return
    rows = []
    for number, rounding in enumerate(_ROUNDINGS):
        workdir = pathlib.Path(_FLAGS.output_dir) / str(number)
        subprocess.run(
            [
                *(sys.executable, *sys.argv),
                *(f"--output_dir={workdir}", f"--only={rounding}"),
            ],
            check=True,
        )
        scores = _evaluate(workdir)
        rows.append([rounding, *(f"{score:.2f}" for score in scores)])
        print(rows[-1], flush=True)
    print(markdown_table(["operands", *map(str, _STEPS)], rows))


if __name__ == "__main__":
    cli.run(main, __doc__)
