"""Errors that the user can fix: one message, no traceback.

A message states the rule and what was received. Arguments are in backticks,
such as `resolution`; commands replace them by their flags (`cli.flags`). A
command prints the message of a `UserError` and exits with its `exit_code`. Any
other exception is a bug in this package and keeps its traceback.
"""


class UserError(Exception):
    """Base of the errors that a command reports without a traceback."""

    exit_code = 1


class InputError(UserError, ValueError):
    """A file, flag or config that breaks a rule."""

    exit_code = 2


class TrainingDivergedError(UserError, RuntimeError):
    """Training was stopped because it diverged."""


def reason(error: Exception) -> str:
    """The message of a library's error on one line, at most 200 characters."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def check_range(name: str, value, low, high) -> None:
    """Raises InputError unless the argument `name` is in [`low`, `high`]."""
    if not isinstance(value, (int, float)) or not low <= value <= high:
        raise InputError(
            f"`{name}` must be in [{low}, {high}]. Received: {value}"
        )


def check_one_source(workdir, artifact) -> None:
    """Raises InputError unless exactly one of the two arguments is given."""
    if (workdir is None) == (artifact is None):
        raise InputError(
            "Exactly one of `workdir` (a training run) and `artifact` (an "
            "exported .tflite file) must be given. Received: "
            f"workdir={workdir}, artifact={artifact}"
        )
