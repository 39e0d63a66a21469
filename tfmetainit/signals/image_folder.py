"""A folder of the user's own images, of any sizes and formats.

`signals.base.folder` describes how it is read and split.
"""

import pathlib

from tfmetainit.io import images
from tfmetainit.signals.base.folder import folder_source
from tfmetainit.signals.base.image_signal import ImageSignal
from tfmetainit.signals.base.tfds_source import prepared_source


def make_signal_class(
    *, folder: str, resolution: int = 64, **options
) -> ImageSignal:
    """The class of the images in `folder` and the folders below it.

    Args:
        folder: path of the folder, which is read at the first `make_dataset`.
            It may be one that TFDS has prepared (`base.tfds_source`).
        resolution: side of the centre crops in pixels.
        **options: further arguments of `ImageSignal`.
    """
    prepared = (pathlib.Path(folder or "") / "dataset_info.json").is_file()

    def open_source():
        if prepared:
            return prepared_source(folder)
        return folder_source(
            folder,
            resolution=resolution,
            suffixes=images.IMAGE_SUFFIXES,
            read=images.read_image,
            channels=3,
        )

    signal = ImageSignal(open_source, resolution=resolution, **options)
    signal.suffixes = None if prepared else images.IMAGE_SUFFIXES
    return signal
