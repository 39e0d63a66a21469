"""A folder of the user's own images as a source of signals.

Every file is read once, when a dataset is first made: it is cropped, resized,
and kept in memory with 16 bits a channel. Files that cannot be read are
skipped, counted and named. `layouts` says which split a file belongs to. Use
folders for the splits if files are not independent, such as several crops of
one photograph.
"""

import logging
import pathlib
from collections.abc import Callable, Collection

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from tfmetainit.geometry import pixels
from tfmetainit.io.errors import InputError
from tfmetainit.signals.base.layouts import find_layout
from tfmetainit.signals.base.pipeline import SPLITS, Source

_LOGGER = logging.getLogger("tfmetainit")

_MAX_16_BIT = 65535.0
_MAX_BYTES = 4 * 2**30


def read_folder(
    folder: str,
    *,
    resolution: int,
    suffixes: Collection[str],
    read: Callable[[pathlib.Path], np.ndarray],
    channels: int,
) -> Source:
    """Reads all images of a folder and the folders below it.

    Args:
        folder: path of the folder.
        resolution: side of the centre crops in pixels.
        suffixes: suffixes of the files to read, lower case.
        read: maps a path to floats `[height, width, channels]` in [0, 1].
            Files for which it raises an InputError are skipped.
        channels: number of channels.

    Returns:
        The source of images `[resolution, resolution, channels]`.

    Raises:
        InputError: if there is no such folder, a split would be empty, or the
            images do not fit into 4 GiB.
    """
    root = pathlib.Path(folder or "")
    if not folder or not root.is_dir():
        raise InputError(
            f"`folder` must name a folder of images. Received: {folder!r}"
        )
    layout = find_layout(root, suffixes)
    number = sum(map(len, layout.paths.values()))
    size = number * resolution**2 * channels * 2
    if size > _MAX_BYTES:
        raise InputError(
            "The images of `folder` are kept in memory and must take at most "
            f"{_MAX_BYTES} bytes. Received: {folder} with {number} images, "
            f"{size} bytes at a resolution of {resolution}"
        )
    images, unreadable = _read_images(root, layout.paths, resolution, read)
    counts = {split: len(of_split) for split, of_split in images.items()}
    _LOGGER.info(
        "%s: %d images read %s, divided %s; %d files skipped as unreadable",
        root,
        sum(counts.values()),
        counts,
        layout.how,
        unreadable,
    )
    if layout.ignored:
        _LOGGER.info(
            "Files that are not read, by suffix: %s",
            ", ".join(
                f"{suffix or 'none'} {count}"
                for suffix, count in sorted(layout.ignored.items())
            ),
        )
    if layout.repeated:
        _LOGGER.warning(
            "%d files have the contents of a file in another split (those "
            "divided by hashes were moved to it).",
            layout.repeated,
        )
    if not all(counts.values()):
        raise InputError(
            "`folder` must hold images for training, validation and testing, "
            f"three at least. Received: {folder} with {counts} readable images "
            f"and {unreadable} unreadable ones, divided {layout.how}"
        )
    return array_source(
        {split: np.stack(of_split) for split, of_split in images.items()}
    )


def _read_images(root, paths, resolution, read):
    """The readable images of each split, and the number of unreadable files."""
    images, unreadable = {split: [] for split in SPLITS}, 0
    of_all = [(path, split) for split in SPLITS for path in paths[split]]
    for path, split in tqdm(
        of_all, desc=f"Reading {root}", unit="image", disable=None
    ):
        try:
            image = pixels.crop_and_resize(read(path), resolution)
        except InputError as error:
            unreadable += 1
            _LOGGER.warning("Skipped: %s", error)
            continue
        images[split].append(np.uint16(np.round(_MAX_16_BIT * image)))
    return images, unreadable


def array_source(images: dict[str, np.ndarray]) -> Source:
    """A source of images in memory.

    Args:
        images: arrays `[n, height, width, channels]` by split, uint16 or
            floats in [0, 1].
    """

    def load(split):
        return tf.data.Dataset.from_tensor_slices(images[split])

    def decode(image):
        largest = 1.0 if image.dtype.is_floating else _MAX_16_BIT
        return tf.cast(image, tf.float32) / largest

    return Source(load, decode)
