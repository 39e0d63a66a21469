"""Modalities read files as signals and render fields: images, CT, rays.

May import: NumPy, `io`, `geometry`, `modalities.readers`. Runs without
TensorFlow and Keras: training and devices share these classes, and an exported
artifact names one of them.
"""

from tfmetainit.io.errors import InputError
from tfmetainit.modalities.ct import CTModality
from tfmetainit.modalities.fitter import Fitted, Fitter, check_finite
from tfmetainit.modalities.image import MAX_PROPORTION, ImageModality
from tfmetainit.modalities.modality import (
    DETAILS,
    MAX_RESOLUTION,
    Modality,
    Sample,
    check_details,
)
from tfmetainit.modalities.rays import LandmarkModality, ObjectModality
from tfmetainit.modalities.tiled import TiledFit, fit_tiles, overlap_of

_MODALITIES = {
    modality.name: modality
    for modality in (
        ImageModality,
        CTModality,
        ObjectModality,
        LandmarkModality,
    )
}
NAMES = tuple(_MODALITIES)
_COUNTS = {"resolution", "projections", "num_samples", "rays_per_step"}


def from_description(description: dict) -> Modality:
    """The modality that an artifact's metadata describe.

    Args:
        description: what `Modality.describe` returned at the export.

    Raises:
        InputError: if the modality is unknown, or its description not valid.
    """
    name = description.get("kind")
    if not isinstance(name, str) or name not in _MODALITIES:
        raise InputError(
            f"`artifact` must have one of the kinds {', '.join(NAMES)}. Call "
            "the signatures of any other artifact directly. Received: kind "
            f"{name!r}"
        )
    options = {
        key: value
        for key, value in description.items()
        if key not in ("kind", "conventions")
    }
    for key in _COUNTS & set(options):
        if type(options[key]) is not int:
            raise InputError(
                f"The artifact's {key!r} must be an integer. Received: "
                f"{options[key]!r}"
            )
    try:
        return _MODALITIES[name](**options)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"The artifact's description of its signals is not valid: {error}"
        ) from error
