"""A folder of the user's own images, of any sizes and formats.

`signals.base.folder` describes how it is read and split.
"""

from tfmetainit.io import images
from tfmetainit.signals.base.folder import folder_source
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
        return folder_source(
            folder,
            resolution=resolution,
            suffixes=images.IMAGE_SUFFIXES,
            read=images.read_image,
            channels=3,
        )

    signal = ImageSignal(open_source, resolution=resolution, **options)
    signal.suffixes = images.IMAGE_SUFFIXES
    return signal
