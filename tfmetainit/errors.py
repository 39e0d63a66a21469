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


def check_range(name, value, low, high):
    """Raises InputError unless `low <= value <= high`."""
    if not low <= value <= high:
        raise InputError(
            f"{name} must lie in [{low}, {high}]. Received: {value}"
        )


class TrainingDivergedError(UserError, RuntimeError):
    """Training was stopped because its numbers were no longer healthy."""
