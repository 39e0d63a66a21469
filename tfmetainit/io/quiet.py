"""Start-up notices of native libraries, kept off the terminal."""

import atexit
import contextlib
import os
import sys
import tempfile
import threading

# The process has one stderr: only one thread at a time may redirect it.
_LOCK = threading.RLock()


@contextlib.contextmanager
def notices():
    """Hides what native code writes to stderr, unless the block raises.

    TensorFlow and LiteRT report their delegates and missing accelerators with
    C++ streams, which no Python setting reaches. If the block raises, the
    hidden text is written to stderr.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(_LOCK)
        hidden = stack.enter_context(tempfile.TemporaryFile())
        try:
            terminal = os.dup(2)
        except OSError:  # stderr is closed
            yield
            return
        _flush()
        os.dup2(hidden.fileno(), 2)
        try:
            yield
        except BaseException:
            hidden.seek(0)
            os.write(terminal, hidden.read())
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)


def farewells():
    """Hides what native libraries write to stderr while the process exits.

    For commands. LiteRT reports from its destructors, which run after Python
    has finished. What exit handlers that are registered already write is
    hidden, too.
    """

    def hide():
        _flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)

    atexit.register(hide)


def _flush():
    if sys.stderr is not None:  # None if the process was started without one
        sys.stderr.flush()
