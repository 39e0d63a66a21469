"""Images: RGB pictures, observed pixel by pixel."""

from tfmetainit.geometry import pixels
from tfmetainit.io import images
from tfmetainit.io.errors import check_range
from tfmetainit.modalities.modality import MAX_RESOLUTION, Modality, Sample


class ImageModality(Modality):
    """RGB pictures, observed pixel by pixel.

    Args:
        resolution: R; pictures are cropped and resized to R x R pixels, or
            resized until their longer side has R.
    """

    name = "image"
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

    def read(self, path, crop: bool = True):
        """Reads a picture.

        Args:
            path: the file (`images.read_image`).
            crop: whether to take its central square, not the whole picture,
                whose longer side then has R pixels.

        Raises:
            InputError: if it is not a picture that can be read.
        """
        image = images.read_image(path)
        side = self.resolution
        square = pixels.pixel_coords(side, side).reshape(side, side, 2)
        if crop:
            image = pixels.crop_and_resize(image, side)
        else:
            image = pixels.fit_into_square(image, side)
        height, width, channels = image.shape
        coords = square[:height, :width].reshape(-1, 2)
        values = image.reshape(-1, channels)
        return Sample(
            coords[None], values[None], coords, values, (height, width)
        )

    def size_of(self, sample):
        return sample.camera

    def render(self, predict, height, width, camera=None):
        return pixels.render(predict, height, width, self.resolution, camera)
