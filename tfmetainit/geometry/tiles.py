"""Pictures larger than a field holds: overlapping tiles, blended."""

import math
from typing import NamedTuple

import numpy as np


class Tile(NamedTuple):
    """A rectangle of pixels of a picture."""

    top: int
    left: int
    height: int
    width: int

    def of(self, image: np.ndarray, scale: int = 1) -> np.ndarray:
        """Its part of an image `[scale height, scale width, ...]`, a view."""
        top, left, height, width = (scale * size for size in self)
        return image[top : top + height, left : left + width]


def cover(height: int, width: int, side: int, overlap: int) -> list[Tile]:
    """The fewest tiles that cover a picture, row by row.

    Args:
        height: rows of the picture.
        width: columns of the picture.
        side: rows and columns of a tile; those of the picture if it has fewer.
        overlap: least number of pixels that neighbouring tiles share, less
            than `side`.
    """
    return [
        Tile(top, left, min(side, height), min(side, width))
        for top in _starts(height, side, overlap)
        for left in _starts(width, side, overlap)
    ]


def length_of(count: int, side: int, overlap: int) -> int:
    """The longest side of a picture that `count` tiles in a row cover."""
    return count * (side - overlap) + overlap


def _starts(length, side, overlap):
    count = max(1, math.ceil((length - overlap) / (side - overlap)))
    starts = np.linspace(0, max(0, length - side), count)
    return [int(start) for start in np.round(starts)]


class Mosaic:
    """Puts rendered tiles together.

    Where tiles overlap, each counts more the farther a pixel lies within it:
    the weight falls linearly towards the tile's border.

    Args:
        tiles: the tiles, as of `cover`.
        overlap: the width of the ramp, in pixels of the picture.
        scale: each pixel of the picture is rendered as scale x scale pixels.
    """

    def __init__(self, tiles: list[Tile], overlap: int, scale: int = 1):
        last = tiles[-1]
        size = (
            scale * (last.top + last.height),
            scale * (last.left + last.width),
        )
        self._overlap, self._scale = overlap, scale
        self._sums = np.zeros((*size, 3), np.float32)
        self._weights = np.zeros((*size, 1), np.float32)

    def add(self, tile: Tile, image: np.ndarray) -> None:
        """Adds a tile's image, `[scale height, scale width, 3]`."""
        rows, columns = map(self._ramp, image.shape[:2])
        weights = np.outer(rows, columns)[..., None]
        sums, total = (
            tile.of(array, self._scale) for array in (self._sums, self._weights)
        )
        sums += weights * image
        total += weights

    def image(self) -> np.ndarray:
        """The picture, `[scale height, scale width, 3]`, once all are added."""
        return self._sums / self._weights

    def _ramp(self, count):
        """Weights in (0, 1] of `count` pixels along an axis of a tile."""
        inside = (np.arange(count, dtype=np.float32) + 0.5) / self._scale + 0.5
        least = np.minimum(inside, inside[::-1]) / (self._overlap + 1)
        return np.minimum(least, 1.0)
