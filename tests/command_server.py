"""Runs commands in forks of a process that has imported TensorFlow.

Importing it takes longer than what most commands of the tests then do. Started
by `conftest.py`, one for each process of pytest. Each line of its input is a
request in JSON; the answer is the exit code of `python -m <module>`.
"""

import json
import os
import runpy
import sys


def _run(request):
    """Becomes the process of a command, in a fork."""
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    null = os.open(os.devnull, os.O_RDONLY)
    for descriptor, path in ((1, request["stdout"]), (2, request["stderr"])):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    os.dup2(null, 0)
    sys.stdin, sys.stdout, sys.stderr = (
        os.fdopen(descriptor, mode, encoding="utf-8", closefd=False)
        for descriptor, mode in ((0, "r"), (1, "w"), (2, "w"))
    )
    sys.argv = [request["module"], *request["arguments"]]
    sys.path[0] = request["cwd"]
    runpy.run_module(request["module"], run_name="__main__", alter_sys=True)


def _serve():
    import keras  # noqa: F401
    import tensorflow  # noqa: F401

    requests, answers = sys.stdin, sys.stdout
    for line in requests:
        process = os.fork()
        if not process:
            _run(json.loads(line))
            return
        _, status = os.waitpid(process, 0)
        answers.write(f"{os.waitstatus_to_exitcode(status)}\n")
        answers.flush()


if __name__ == "__main__":
    _serve()
