"""Python functions in a pipeline."""

import subprocess
import sys

_SCRIPT = """
import time
import numpy as np
import tensorflow as tf
from tfmetainit.signals.base.python_reader import read_in_pipeline

def read(number):
    time.sleep(0.02)
    return np.float32(number)

dataset = tf.data.Dataset.range(10**6).map(
    lambda index: read_in_pipeline(read, index, tf.float32),
    num_parallel_calls=tf.data.AUTOTUNE,
)
iterator = iter(dataset.batch(4).prefetch(2))
print(next(iterator).numpy())
"""


def test_a_program_ends_while_its_pipeline_reads():
    """TensorFlow would wait for a thread that ended with the interpreter."""
    result = subprocess.run(
        [sys.executable, "-c", _SCRIPT],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[0. 1. 2. 3.]"
