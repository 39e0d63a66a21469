"""Python functions that read signals inside a `tf.data` pipeline."""

import atexit
import threading
import time
from collections.abc import Callable

import tensorflow as tf

_LOCK = threading.Lock()
_REST = 0.3  # seconds without a call, after which no further one is expected
_LONGEST = 30.0  # seconds that the end of a program is held up at most


class _Calls:
    """The calls of all readers of this process."""

    running = 0
    last_end = 0.0


def read_in_pipeline(read: Callable, index: tf.Tensor, dtypes):
    """The tensors that a Python function returns for an index.

    Args:
        read: maps an integer to an array, or to a tuple of arrays. It runs in
            threads of `tf.data`.
        index: int64 scalar.
        dtypes: of the arrays: one, or a tuple.
    """

    def call(number):
        with _LOCK:
            _Calls.running += 1
        try:
            return read(int(number))
        finally:
            with _LOCK:
                _Calls.running -= 1
                _Calls.last_end = time.monotonic()

    return tf.numpy_function(call, [index], dtypes, stateful=False)


@atexit.register
def _wait_for_rest():
    """Waits until no reader has been called for `_REST` seconds.

    A reader that is at work when the interpreter ends would lose its thread,
    and TensorFlow would wait for that thread for ever. Once nothing takes
    signals any more, pipelines fill their buffers and come to rest. After that
    time they very likely have.
    """
    started = time.monotonic()
    while _Calls.running or time.monotonic() - _Calls.last_end < _REST:
        if time.monotonic() - started > _LONGEST:
            break
        time.sleep(_REST / 10)
