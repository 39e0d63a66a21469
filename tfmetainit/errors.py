"""Errors that are the user's to mend: one clear sentence, no traceback.

The commands print the message of a `UserError` and exit with its code; any
other exception is a defect of this package and keeps its traceback.
"""


class UserError(Exception):
    """Base of the errors that a command reports in one sentence."""

    exit_code = 1


class InputError(UserError, ValueError):
    """A file, flag or config that breaks a rule; the message names both."""

    exit_code = 2


def reason(error: Exception) -> str:
    """What an error of a library says, in one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def check_range(name, value, low, high):
    """Raises InputError unless `low <= value <= high`."""
    if not low <= value <= high:
        raise InputError(
            f"{name} must lie in [{low}, {high}]. Received: {value}"
        )


def check_one_source(workdir, artifact):
    """Raises InputError unless one of a run and an exported file is given."""
    if (workdir is None) == (artifact is None):
        raise InputError(
            "One of --workdir (a training run) and --artifact (an exported "
            f".tflite file) must be given. Received: --workdir={workdir}, "
            f"--artifact={artifact}"
        )


class TrainingDivergedError(UserError, RuntimeError):
    """Training was stopped because its numbers were no longer healthy."""
