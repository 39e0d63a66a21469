"""A folder of the user's own images as a source of signals.

`layouts` says which split a file belongs to. Use folders for the splits if
files are not independent, such as several crops of one photograph.

Files of one size are compared at the start, so that equal ones are in one
split. A picture is read when its signal is first needed: cropped, resized, and
rounded to 16 bits a channel. The first images read stay in memory, up to
`_KEPT_BYTES`; the others are read again each time, so that a folder of any
number of files takes the same memory.

Files that cannot be read are counted and named when they are met. Training
takes the next file of the split instead, so that the order of all others, and
with it a resumed run, stays the same. Evaluation and bulk fitting leave them
out.
"""

import concurrent.futures
import logging
import pathlib
import threading
from collections.abc import Callable, Collection

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from tfmetainit.geometry import pixels
from tfmetainit.io.errors import InputError
from tfmetainit.signals.base.layouts import find_layout
from tfmetainit.signals.base.pipeline import SPLITS, Source
from tfmetainit.signals.base.python_reader import read_in_pipeline

_LOGGER = logging.getLogger("tfmetainit")

_MAX_16_BIT = 65535.0
_KEPT_BYTES = 256 * 2**20
_READ_AT_ONCE = 64  # images, of which those beyond `_KEPT_BYTES` are let go


def folder_source(
    folder: str,
    *,
    resolution: int,
    suffixes: Collection[str],
    read: Callable[[pathlib.Path], np.ndarray],
    channels: int,
) -> Source:
    """The images of a folder and the folders below it.

    Args:
        folder: path of the folder.
        resolution: side of the centre crops in pixels.
        suffixes: suffixes of the files to read, lower case.
        read: maps a path to floats `[height, width, channels]` in [0, 1], or
            raises an InputError.
        channels: number of channels.

    Returns:
        The source of images `[resolution, resolution, channels]`.

    Raises:
        InputError: if there is no such folder, or a split would be empty; in
            the pipeline, if no file of a split can be read.
    """
    root = pathlib.Path(folder or "")
    if not folder or not root.is_dir():
        raise InputError(
            f"`folder` must name a folder of images. Received: {folder!r}"
        )
    layout = find_layout(root, suffixes)
    counts = {split: len(layout.paths[split]) for split in SPLITS}
    _LOGGER.info(
        "%s: %d images %s, divided %s",
        *(root, sum(counts.values()), counts, layout.how),
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
            f"three at least. Received: {folder} with {counts} images, divided "
            f"{layout.how}"
        )
    images = _Images(layout.paths, resolution, read)

    def decode(index):
        image = read_in_pipeline(images.or_next, index, tf.uint16)
        image = tf.ensure_shape(image, [resolution, resolution, channels])
        return tf.cast(image, tf.float32) / _MAX_16_BIT

    return Source(images.load, decode, images.load_all)


class _Images:
    """The images of all splits by their number, read when they are needed."""

    def __init__(self, paths, resolution, read):
        self._paths = [path for split in SPLITS for path in paths[split]]
        self._ranges, first = {}, 0
        for split in SPLITS:
            self._ranges[split] = range(first, first + len(paths[split]))
            first += len(paths[split])
        self._resolution = resolution
        self._read = read
        self._kept = {}
        self._kept_bytes = 0
        self._broken = set()
        self._readable = {}
        self._lock = threading.Lock()  # tf.data reads in several threads

    def load(self, split):
        """The numbers of a split's images; for evaluation, of readable ones."""
        numbers = self._ranges[split]
        dataset = tf.data.Dataset.range(numbers.start, numbers.stop)
        if split == "train":
            return dataset

        def with_check(index):
            readable = read_in_pipeline(
                lambda number: self._image(number) is not None, index, tf.bool
            )
            return index, tf.ensure_shape(readable, [])

        return (
            dataset.map(with_check, num_parallel_calls=tf.data.AUTOTUNE)
            .filter(lambda index, readable: readable)
            .map(lambda index, readable: index)
        )

    def load_all(self, split):
        """The numbers of a split's readable images, each of which was read."""
        if split not in self._readable:
            numbers, readable = self._ranges[split], []
            with (
                concurrent.futures.ThreadPoolExecutor() as pool,
                tqdm(total=len(numbers), desc="Reading", disable=None) as bar,
            ):
                for first in range(0, len(numbers), _READ_AT_ONCE):
                    part = numbers[first : first + _READ_AT_ONCE]
                    images = pool.map(self._image, part)
                    readable += [
                        i for i, x in zip(part, images) if x is not None
                    ]
                    bar.update(len(part))
            self._readable[split] = np.int64(readable)
        return tf.data.Dataset.from_tensor_slices(self._readable[split])

    def or_next(self, index):
        """The image of a number, or else the next readable one of its split."""
        (numbers,) = (n for n in self._ranges.values() if index in n)
        for offset in range(len(numbers)):
            other = numbers[(index - numbers.start + offset) % len(numbers)]
            image = self._image(other)
            if image is not None:
                return image
        raise InputError(
            f"None of {len(numbers)} files of `folder` can be read, from "
            f"{self._paths[numbers.start]} to {self._paths[numbers.stop - 1]}."
        )

    def _image(self, index):
        """uint16 `[R, R, channels]`; None if the file cannot be read."""
        if index in self._broken:
            return None
        if index in self._kept:
            return self._kept[index]
        try:
            image = self._read(self._paths[index])
        except InputError as error:
            with self._lock:
                if index not in self._broken:
                    self._broken.add(index)
                    _LOGGER.warning(
                        "Skipped (%d so far): %s", len(self._broken), error
                    )
            return None
        image = pixels.crop_and_resize(image, self._resolution)
        image = np.uint16(np.round(_MAX_16_BIT * image))
        with self._lock:
            fits = self._kept_bytes + image.nbytes <= _KEPT_BYTES
            if fits and index not in self._kept:
                self._kept_bytes += image.nbytes
                self._kept[index] = image
        return image


def array_source(images: dict[str, np.ndarray]) -> Source:
    """A source of images in memory.

    Args:
        images: floats `[n, height, width, channels]` in [0, 1], by split.
    """
    return Source(
        lambda split: tf.data.Dataset.from_tensor_slices(images[split]),
        lambda image: tf.cast(image, tf.float32),
    )
