"""Images: RGB pictures, observed pixel by pixel."""

import logging

import numpy as np

from tfmetainit.geometry import pixels
from tfmetainit.io import images
from tfmetainit.io.errors import InputError, check_range
from tfmetainit.modalities.modality import MAX_RESOLUTION, Modality, Sample

_LOGGER = logging.getLogger("tfmetainit")
# The longer side of a picture may be at most so many times the shorter.
MAX_PROPORTION = 16


class ImageModality(Modality):
    """RGB pictures, observed pixel by pixel.

    A picture is resized to R x R pixels, whatever its proportion, and the field
    is drawn in the picture's. Weights that were learned on squares overshoot if
    the observations cover only a part of the square, or are sparser along one
    axis.

    Args:
        resolution: R.
    """

    name = "image"
    details = ("mask",)
    may_drop = True
    may_crop = True

    def __init__(self, resolution: int):
        check_range("resolution", resolution, 1, MAX_RESOLUTION)
        self.resolution = resolution
        self.num_observations = resolution**2

    def describe(self):
        return {
            "kind": self.name,
            "resolution": self.resolution,
            "conventions": (
                "coords: (row / R, column / R), row first, in [0, 1), for "
                "pixel (row, column) of a picture that was resized to R x R "
                "pixels, whatever its proportion; values: red, green, blue in "
                "[0, 1]"
            ),
        }

    def read(self, path, crop: bool = True, mask=None):
        """Reads a picture.

        Args:
            path: the file (`images.read_image`).
            crop: whether to take its central square, not the whole picture.
            mask: file of a picture of the same size; where it is darker than
                mid-grey, pixels are missing. The others are observed, and the
                target is not known.

        Raises:
            InputError: if it is not a picture that can be read, or a whole
                picture is too long, or the mask has another size, or leaves no
                pixel.
        """
        image = images.read_image(path)
        known = None if mask is None else _read_mask(mask, image)
        if crop:
            image = pixels.crop(image)
            known = None if known is None else pixels.crop(known)
        height, width = image.shape[:2]
        if max(height, width) > MAX_PROPORTION * min(height, width):
            raise InputError(
                f"No side of a picture may be more than {MAX_PROPORTION} times "
                "as long as the other. Use `crop` for its central square, or "
                f"`tiles`. Received: {path} of {width} x {height} pixels"
            )
        if height != width:
            _LOGGER.info(
                "%s of %d x %d pixels is fitted, and its PSNR measured, at "
                "%d x %d pixels",
                *(path, width, height, self.resolution, self.resolution),
            )
        sample = self.observe(image, known)
        if not sample.inputs.size:
            of_what = " of the central square" if crop else ""
            raise InputError(
                f"`mask` leaves no pixel{of_what}. Received: {mask}"
            )
        return sample

    def observe(self, image, known=None) -> Sample:
        """A picture as a signal, resized to R x R pixels.

        Args:
            image: floats `[height, width, 3]` in [0, 1].
            known: bools `[height, width]`, which pixels are observed; then the
                target is not known. By default, all are, and it is.

        Returns:
            A `Sample` with R * R coordinates, whose `camera` is the (height,
            width) at which it is drawn, with R pixels on the shorter side.
        """
        side = self.resolution
        coords = pixels.pixel_coords(side, side)
        size = pixels.scaled_to(image.shape[:2], side, min)
        if known is None:
            values = pixels.resize(image, side, side).reshape(-1, 3)
            return Sample(coords[None], values[None], coords, values, size)
        # Of several pixels that become one, those that are there count.
        present = np.float32(known)[..., None]
        share = pixels.resize(present, side, side)
        image = pixels.resize(image * present, side, side)
        values = (image / np.maximum(share, 0.5)).reshape(-1, 3)
        known = share.ravel() > 0.5
        observed = coords[known][None], values[known][None]
        missing = None if known.all() else coords[~known]
        return Sample(*observed, coords, None, size, missing)

    def size_of(self, sample):
        return sample.camera

    def render(self, predict, height, width, camera=None):
        return pixels.render(predict, height, width, self.resolution)


def _read_mask(path, image):
    """Where pixels are there: bools `[height, width]`."""
    mask = images.read_image(path).mean(axis=-1)
    if mask.shape != image.shape[:2]:
        (rows, columns), (height, width) = mask.shape, image.shape[:2]
        raise InputError(
            "`mask` must have the size of the picture, "
            f"{width} x {height} pixels. Received: {path} of {columns} x {rows}"
        )
    return mask >= 0.5
