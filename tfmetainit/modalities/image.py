"""Images: RGB pictures, observed pixel by pixel."""

from tfmetainit.geometry import pixels
from tfmetainit.io import images
from tfmetainit.io.errors import check_range
from tfmetainit.modalities.modality import MAX_RESOLUTION, Modality, Sample


class ImageModality(Modality):
    """RGB pictures, observed pixel by pixel.

    Args:
        resolution: side of the squares that files are cropped and resized to.
    """

    name = "image"
    may_drop = True

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
                "pixel (row, column) of an R x R image; values: red, green, "
                "blue in [0, 1]"
            ),
        }

    def read(self, path):
        image = images.read_image(path)
        image = pixels.crop_and_resize(image, self.resolution)
        coords = pixels.pixel_coords(self.resolution, self.resolution)
        values = image.reshape(len(coords), -1)
        return Sample(coords[None], values[None], coords, values)

    def render(self, predict, height, width, camera=None):
        return pixels.render(predict, height, width, self.resolution)
