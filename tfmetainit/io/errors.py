"""Errors that the user can mend: one clear message, no traceback.

A message names the rule and what was received. It names arguments in
backticks, `resolution`; a command shows them as its flags (`cli.flags`). The
commands print the message of a `UserError` and exit with its code. Any other
exception is a defect of this package and keeps its traceback.
"""


class UserError(Exception):
    """Base of the errors that a command reports without a traceback."""

    exit_code = 1


class InputError(UserError, ValueError):
    """A file, flag or config that breaks a rule."""

    exit_code = 2


class TrainingDivergedError(UserError, RuntimeError):
    """Training was stopped because its numbers were no longer healthy."""


def reason(error: Exception) -> str:
    """The message of a library's error, in one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def check_range(name: str, value, low, high) -> None:
    """Raises InputError unless the argument `name` is in [`low`, `high`]."""
    if not isinstance(value, (int, float)) or not low <= value <= high:
        raise InputError(
            f"`{name}` must be in [{low}, {high}]. Received: {value}"
        )


def check_one_source(workdir, artifact) -> None:
    """Raises InputError unless exactly one of a run and a file is given."""
    if (workdir is None) == (artifact is None):
        raise InputError(
            "Exactly one of `workdir` (a training run) and `artifact` (an "
            f"exported .tflite file) must be given. Received: {workdir} and "
            f"{artifact}"
        )
