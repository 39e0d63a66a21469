"""Kinds of signals: how a file becomes observations, and a field a picture.

What training and an exported artifact must agree on stands here once, and in
the artifact as `describe()`; `from_description` makes the kind of that again.

Imports neither TensorFlow nor Keras.
"""

from tfmetainit.errors import InputError
from tfmetainit.kinds.base import (
    DETAILS,
    MAX_RESOLUTION,
    Kind,
    Sample,
    check_details,
)
from tfmetainit.kinds.grids import ImageKind, SliceKind
from tfmetainit.kinds.rays import LandmarkKind, ViewsKind

__all__ = [
    "DETAILS",
    "MAX_RESOLUTION",
    "ImageKind",
    "Kind",
    "LandmarkKind",
    "Sample",
    "SliceKind",
    "ViewsKind",
    "check_details",
    "from_description",
]

_KINDS = {
    kind.name: kind for kind in (ImageKind, SliceKind, ViewsKind, LandmarkKind)
}
NAMES = tuple(_KINDS)
_COUNTS = {"resolution", "views", "num_samples", "rays_per_step"}


def from_description(description: dict) -> Kind:
    """The kind that `description`, of an artifact's metadata, speaks of.

    Raises:
        InputError: if it is of no kind known here, or not complete.
    """
    name = description.get("kind")
    if not isinstance(name, str) or name not in _KINDS:
        raise InputError(
            f"--artifact can fit signals of the kinds {', '.join(_KINDS)}. "
            f"Received: one of the kind {name!r}; call its signatures instead"
        )
    options = {
        key: value
        for key, value in description.items()
        if key not in ("kind", "conventions")
    }
    for key in _COUNTS & set(options):
        if type(options[key]) is not int:
            raise InputError(
                f"The artifact's {key!r} must be a whole number. Received: "
                f"{options[key]!r}"
            )
    try:
        return _KINDS[name](**options)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"The artifact's description of its signals is not valid: {error}"
        ) from error
