"""Coordinates of pixels, images of other sizes, rendering a field.

Convention: pixel (row, column) of an image of H x W pixels has the coordinates
(row / H, column / W), row first, in [0, 1): `linspace(0, 1, H, endpoint=False)`
and likewise for columns, with "ij" indexing (Tancik et al. 2021, image
notebook, where H = W). An array `[H, W, 3]` is flattened row by row.
"""

import math
from collections.abc import Callable

import numpy as np
from PIL import Image

# Points rendered at a time: bounds the memory of large pictures.
_RENDER_CHUNK = 65536


def pixel_coords(height: int, width: int) -> np.ndarray:
    """Coordinates of all pixels, float32 `[height * width, 2]` in [0, 1)."""
    rows = np.linspace(0.0, 1.0, height, endpoint=False)
    columns = np.linspace(0.0, 1.0, width, endpoint=False)
    grid = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1)
    return grid.reshape(-1, 2).astype(np.float32)


def z_order(side: int) -> np.ndarray:
    """The pixels of a square in the order of a Z-order curve.

    Pixels near each other in the square are near each other in this order.
    Interleaving the bits of row and column gives a pixel's place on the curve
    (Morton 1966).

    Args:
        side: R, at most 65536.

    Returns:
        int32 `[R * R]`, indices of pixels counted row by row.
    """
    rows, columns = np.divmod(np.arange(side * side), side)
    place = np.zeros(side * side, np.int64)
    for bit in range(16):
        place |= (columns >> bit & 1) << (2 * bit)
        place |= (rows >> bit & 1) << (2 * bit + 1)
    return np.argsort(place).astype(np.int32)


def central_square(height, width, minimum=min):
    """The largest central square of an image.

    Args:
        height: rows of the image, an int or an integer tensor.
        width: columns of the image, likewise.
        minimum: `min`, or `tf.minimum` for tensors.

    Returns:
        `(top, left, side)` of the square, in pixels.
    """
    side = minimum(height, width)
    return (height - side) // 2, (width - side) // 2, side


def crop(image: np.ndarray) -> np.ndarray:
    """The largest central square of an image `[height, width, ...]`, a view."""
    top, left, side = central_square(*image.shape[:2])
    return image[top : top + side, left : left + side]


def crop_and_resize(image: np.ndarray, resolution: int) -> np.ndarray:
    """The largest central square of an image, resized with antialiasing.

    Args:
        image: floats `[height, width, channels]` in [0, 1].
        resolution: side of the result, in pixels.

    Returns:
        float32 `[resolution, resolution, channels]`, in [0, 1].
    """
    return resize(crop(image), resolution, resolution)


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """A whole image at another size, with antialiasing.

    Args:
        image: floats `[height, width, channels]`.
        height: rows of the result.
        width: columns of the result.

    Returns:
        float32 `[height, width, channels]`, in the range of the image.
    """
    image = np.asarray(image, np.float32)
    if image.shape[:2] == (height, width):
        return image
    # Pillow resizes floats of one channel at a time; its triangle filter is
    # that of tf.image.resize(antialias=True).
    resized = [
        Image.fromarray(image[..., channel]).resize(
            (width, height), Image.Resampling.BILINEAR
        )
        for channel in range(image.shape[-1])
    ]
    # Rounding may leave the range.
    return np.clip(np.stack(resized, axis=-1), image.min(), image.max())


def scaled_to(
    sides: tuple[int, int], length: int, which: Callable = max
) -> tuple[int, int]:
    """A height and a width, scaled until one of them has a given length.

    Args:
        sides: height and width, in pixels.
        length: the length of that side after scaling, in pixels.
        which: chooses the side: `max` for the longer, `min` for the shorter.

    Returns:
        `(height, width)`, rounded, at least 1.
    """
    length_before = which(sides)
    # Halves are rounded up, as in JavaScript.
    return tuple(
        max(1, math.floor(length * side / length_before + 0.5))
        for side in sides
    )


def _coords_along(count: int, resolution: int) -> np.ndarray:
    """Coordinates of `count` pixels along an axis of R fitted pixels.

    A pixel stands for its area, as in `resize`: the centre of pixel i lies at
    (i + 1/2) / count of the axis. The centre of fitted pixel k has the
    coordinate k / R. Nothing was observed beyond the centres of the first
    and the last fitted pixel, so coordinates are clipped to these.
    """
    middles = (2 * np.arange(count) + 1) * resolution / (2 * count)
    return np.clip(middles - 0.5, 0, resolution - 1) / resolution


def render(
    field: Callable[[np.ndarray], np.ndarray],
    height: int,
    width: int,
    resolution: int,
) -> np.ndarray:
    """Renders a field of two coordinates as an image of any size.

    Args:
        field: maps float32 coordinates `[n, 2]` to values `[n, c]`.
        height: rows of the result. Along an axis of fewer than R pixels, the
            result is that of R pixels, resized.
        width: columns of the result, likewise.
        resolution: R; the field was fitted to R x R pixels. The result covers
            the same area.

    Returns:
        float32 `[height, width, c]`, not clipped.
    """
    all_rows = _coords_along(max(height, resolution), resolution)
    columns = _coords_along(max(width, resolution), resolution)
    rows_at_once = max(1, _RENDER_CHUNK // len(columns))
    parts = []
    for top in range(0, len(all_rows), rows_at_once):
        rows = all_rows[top : top + rows_at_once]
        grid = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1)
        values = np.asarray(field(grid.reshape(-1, 2).astype(np.float32)))
        parts.append(values.reshape(len(rows), len(columns), -1))
    return resize(np.concatenate(parts), height, width)
