"""Images: RGB pictures, observed pixel by pixel."""

import numpy as np

from tfmetainit.geometry import pixels
from tfmetainit.io import images
from tfmetainit.io.errors import InputError, check_range
from tfmetainit.modalities.modality import MAX_RESOLUTION, Modality, Sample


class ImageModality(Modality):
    """RGB pictures, observed pixel by pixel.

    Args:
        resolution: R; pictures are cropped and resized to R x R pixels, or
            resized until their longer side has R.
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
                "pixel (row, column) of an image whose longer side has R "
                "pixels; values: red, green, blue in [0, 1]"
            ),
        }

    def read(self, path, crop: bool = True, mask=None):
        """Reads a picture.

        Args:
            path: the file (`images.read_image`).
            crop: whether to take its central square, not the whole picture,
                whose longer side then has R pixels.
            mask: file of a picture of the same size; where it is darker than
                mid-grey, pixels are missing. The others are observed, and the
                target is not known.

        Raises:
            InputError: if it is not a picture that can be read, or the mask has
                another size, or leaves no pixel.
        """
        image = images.read_image(path)
        side = self.resolution
        resize = pixels.crop_and_resize if crop else pixels.fit_into_square
        if mask is None:
            image, known = resize(image, side), None
        else:
            present = _read_mask(mask, image)
            # Of several pixels that become one, those that are there count.
            share = resize(present, side)
            known = share[..., 0] > 0.5
            image = resize(image * present, side) / np.maximum(share, 0.5)
            if not known.any():
                raise InputError(f"`mask` leaves no pixel. Received: {mask}")
        return self.observe(image, known)

    def observe(self, image, known=None) -> Sample:
        """A picture as a signal.

        Args:
            image: floats `[height, width, 3]` in [0, 1], at most R x R.
            known: bools `[height, width]`, which pixels are observed; then the
                target is not known. By default, all are, and it is.
        """
        height, width, channels = image.shape
        square = pixels.pixel_coords(self.resolution, self.resolution)
        square = square.reshape(self.resolution, self.resolution, 2)
        coords = square[:height, :width].reshape(-1, 2)
        values = image.reshape(-1, channels)
        size = (height, width)
        if known is None:
            return Sample(coords[None], values[None], coords, values, size)
        known = known.ravel()
        observed = coords[known][None], values[known][None]
        missing = None if known.all() else coords[~known]
        return Sample(*observed, coords, None, size, missing)

    def size_of(self, sample):
        return sample.camera

    def render(self, predict, height, width, camera=None):
        return pixels.render(predict, height, width, self.resolution, camera)


def _read_mask(path, image):
    """Where pixels are there: float32 `[height, width, 1]` of 0 and 1."""
    mask = images.read_image(path).mean(axis=-1, keepdims=True)
    if mask.shape[:2] != image.shape[:2]:
        (rows, columns), (height, width) = mask.shape[:2], image.shape[:2]
        raise InputError(
            "`mask` must have the size of the picture, "
            f"{width} x {height} pixels. Received: {path} of {columns} x {rows}"
        )
    return np.float32(mask >= 0.5)
