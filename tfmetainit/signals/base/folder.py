"""A folder of the user's own images as a source of signals.

Every file is read once, when a dataset is first made: it is cropped, resized,
and kept in memory with 16 bits a channel. Files that cannot be read are
skipped, counted and named. The hash of a file's relative name decides its
split, so adding images never moves one from training to test. If the folder
holds folders named train, validation and test, these are the splits. Use such
folders for files that are not independent, such as several crops of one
photograph.
"""

import hashlib
import logging
import os
import pathlib
from collections.abc import Callable, Collection

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from tfmetainit.geometry import pixels
from tfmetainit.io import files
from tfmetainit.io.errors import InputError
from tfmetainit.signals.base.pipeline import SPLITS, Source

_LOGGER = logging.getLogger("tfmetainit")

_MAX_16_BIT = 65535.0
_MAX_BYTES = 4 * 2**30


def split_of(name: str) -> str:
    """The split of a file by its name: 80% train, 10% validation, 10% test."""
    bucket = hashlib.sha256(os.fsencode(name)).digest()[0]
    return SPLITS[0 if bucket < 205 else 1 if bucket < 230 else 2]


def read_folder(
    folder: str,
    *,
    resolution: int,
    suffixes: Collection[str],
    read: Callable[[pathlib.Path], np.ndarray],
    channels: int,
) -> Source:
    """Reads all images of a folder and the folders below it.

    If there are folders train, validation and test, the files in them are the
    splits, and files elsewhere are not read. Only some of the three, or names
    such as "Train" and "val", raise an error.

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
    divided = _is_divided(root)
    paths = sorted(
        path
        for top in ([root / split for split in SPLITS] if divided else [root])
        for path in files.files_below(top)
        if path.suffix.lower() in suffixes
    )
    size = len(paths) * resolution**2 * channels * 2
    if size > _MAX_BYTES:
        raise InputError(
            "The images of `folder` are kept in memory and must take at most "
            f"{_MAX_BYTES} bytes. Received: {folder} with {len(paths)} images, "
            f"{size} bytes at a resolution of {resolution}"
        )
    images, unreadable = _read_images(root, paths, divided, resolution, read)
    counts = {split: len(of_split) for split, of_split in images.items()}
    _LOGGER.info(
        "%s: %d images read %s%s, %d files skipped as unreadable",
        root,
        sum(counts.values()),
        counts,
        ", divided by their folders" if divided else "",
        unreadable,
    )
    if not all(counts.values()):
        raise InputError(
            "`folder` must hold images for training, validation and testing: a "
            "few dozen, or some in each of its folders for the splits. "
            f"Received: {folder} with {counts} readable images and "
            f"{unreadable} unreadable ones"
        )
    return array_source(
        {split: np.stack(of_split) for split, of_split in images.items()}
    )


def _is_divided(root):
    """Whether a folder has folders for its splits."""
    try:
        names = sorted(os.listdir(root))
    except OSError as error:
        raise InputError(f"Cannot read {root}: {error.strerror}.") from error
    there = [
        name
        for name in names
        if name.lower() in (*SPLITS, "val") and (root / name).is_dir()
    ]
    divided = set(there) == set(SPLITS)
    if len(there) >= 2 and not divided:
        raise InputError(
            "`folder` must hold all of the folders "
            f"{', '.join(SPLITS)}, or none. Received: {root} with only "
            f"{', '.join(there)}"
        )
    return divided


def _read_images(root, paths, divided, resolution, read):
    """The readable images of each split, and the number of unreadable files."""
    images, unreadable = {split: [] for split in SPLITS}, 0
    for path in tqdm(paths, desc=f"Reading {root}", unit="image", disable=None):
        try:
            image = pixels.crop_and_resize(read(path), resolution)
        except InputError as error:
            unreadable += 1
            _LOGGER.warning("Skipped: %s", error)
            continue
        name = path.relative_to(root)
        split = name.parts[0] if divided else split_of(name.as_posix())
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
