"""Notices of native libraries are kept off the terminal."""

import contextlib
import os
import subprocess
import sys
import threading

from tfmetainit.io import quiet


def test_notices_of_two_threads(capfd):
    barrier = threading.Barrier(2, timeout=0.5)

    def hide():
        with quiet.notices():
            os.write(2, b"hidden")
            # Both inside at once, if they could be.
            with contextlib.suppress(threading.BrokenBarrierError):
                barrier.wait()

    threads = [threading.Thread(target=hide) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.write(2, b"shown")
    assert capfd.readouterr().err == "shown"


def test_notices_without_a_stderr():
    program = (
        "from tfmetainit.io import quiet\n"
        "with quiet.notices():\n"
        "    print('ran')"
    )
    result = subprocess.run(
        f'{sys.executable} -c "{program}" 2>&-',
        shell=True,
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stdout) == (0, "ran\n")
