"""Start-up notices of native libraries, kept off the terminal."""

import atexit
import contextlib
import os
import sys
import tempfile


@contextlib.contextmanager
def notices():
    """Hides what native code writes to stderr, unless the block raises.

    TensorFlow and LiteRT report their delegates and missing accelerators with
    C++ streams, which no Python setting reaches. If the block raises, all of
    it is written after all.
    """
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as hidden:
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
    """Hides what native libraries write when this process has ended.

    For commands. LiteRT reports from its destructors, after Python's own end:
    nothing that Python still says is lost.
    """

    def hide():
        sys.stderr.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)

    atexit.register(hide)
