"""A folder of the user's own images, of any sizes and formats.

`signals.base.folder` describes how it is read and split.
"""

from tfmetainit.io import images
from tfmetainit.signals.base.folder import read_folder
from tfmetainit.signals.base.image_signal import ImageSignal


def make_signal_class(
    *, folder: str, resolution: int = 64, **options
) -> ImageSignal:
    """The class of the images in `folder` and the folders below it.

    Args:
        folder: path of the folder, which is read at the first `make_dataset`.
        resolution: side of the centre crops in pixels.
        **options: further arguments of `ImageSignal`.
    """

    def open_source():
        return read_folder(
            folder,
            resolution=resolution,
            suffixes=images.IMAGE_SUFFIXES,
            read=images.read_image,
            channels=3,
        )

    return ImageSignal(open_source, resolution=resolution, **options)
