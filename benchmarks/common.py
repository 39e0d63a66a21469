"""Measurements that several benchmarks share."""

import io
import os
import pathlib
import re
import subprocess
import sys
import time


def matmul_gflops(points: int, width: int = 256, repeats: int = 40) -> float:
    """Rate of a network's own matrix product in TensorFlow, in GFLOP/s.

    Args:
        points: rows of the activations.
        width: width of the hidden layers.
        repeats: number of products that are timed together.
    """
    import tensorflow as tf

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


def pin_cores(threads: int) -> None:
    """Limits this process to some cores; call it before a runtime starts."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))[:threads]
        os.sched_setaffinity(0, cores)


def resident_peak() -> int:
    """Peak resident set of this process, in bytes (Linux).

    getrusage's ru_maxrss would count the process that started this one.
    """
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


def print_growth(make) -> None:
    """Prints the bytes by which `make()` and two runs raise the peak memory."""
    before = resident_peak()
    run = make()
    run()
    run()
    print(resident_peak() - before)


def last_line_of_child(*flags: str) -> str:
    """Runs this script again with more flags; returns its last line."""
    child = subprocess.run(
        [sys.executable, *sys.argv, *flags],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return child.stdout.split("\n")[-2]


def pictures_in(folder: str | None, flag="--input") -> list[pathlib.Path]:
    """The pictures of a folder, by name.

    Raises:
        InputError: if there are none; it names the flag.
    """
    from tfmetainit.io.errors import InputError
    from tfmetainit.io.images import IMAGE_SUFFIXES

    if not folder or not pathlib.Path(folder).is_dir():
        raise InputError(
            f"{flag} must name a folder of pictures. Received: "
            f"{folder or 'none'}"
        )
    paths = sorted(
        path
        for path in pathlib.Path(folder).iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES
    )
    if not paths:
        raise InputError(f"{folder} holds no pictures.")
    return paths


def as_jpeg(pixels, quality: int):
    """The bytes of a picture as JPEG, and the picture that they hold.

    Args:
        pixels: float32 `[height, width, 3]` in [0, 1].
        quality: of Pillow, in [1, 100]. From 90 on, colours have the resolution
            of the brightness.

    Returns:
        The number of bytes, and float32 `[height, width, 3]` in [0, 1].
    """
    import numpy as np
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(np.uint8(np.rint(255 * pixels))).save(
        stream,
        "JPEG",
        quality=quality,
        optimize=True,
        subsampling="4:4:4" if quality >= 90 else "4:2:0",
    )
    with Image.open(stream) as image:
        decoded = np.asarray(image, np.float32) / 255
    return len(stream.getvalue()), decoded


def captured_variables(step, variables, *arguments) -> list:
    """The variables that a `tf.function` takes, in its order.

    Args:
        step: the function.
        variables: Keras variables, among which they are.
        *arguments: arguments of the function.
    """
    by_handle = {id(v.value.handle): v for v in variables}
    concrete = step.get_concrete_function(*arguments)
    return [by_handle[id(handle)] for handle in concrete.captured_inputs]


def compiled_stablehlo(text: str, precision: str):
    """Compiles StableHLO with JAX.

    Args:
        text: a module, as TensorFlow writes it.
        precision: of matrix products on a GPU, "float32" or "tensorfloat32".

    Returns:
        A function of arrays that returns the list of the results.
    """
    import jax
    from jax._src import xla_bridge
    from jax._src.lib import xla_client

    if precision == "float32":  # else the GPU's default
        text = text.replace(
            "precision = [DEFAULT, DEFAULT]", "precision = [HIGHEST, HIGHEST]"
        )
    # The assignment of a variable, in a dialect that GPU plug-ins do not take.
    text = re.sub(
        r"mhlo\.copy (\S+) : (\S+)", r"stablehlo.reshape \1 : (\2) -> \2", text
    )
    executable = xla_bridge.get_backend().compile_and_load(
        text,
        xla_client.DeviceList((jax.devices()[0],)),
        xla_client.CompileOptions(),
    )

    def call(*arguments):
        results = executable.execute_sharded(arguments)
        return [r[0] for r in results.disassemble_into_single_device_arrays()]

    return call
