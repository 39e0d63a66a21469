"""Coordinates of pixels, images in a square, rendering a field.

Convention: pixel (row, column) of an R x R image has the coordinates
(row / R, column / R), row first, in [0, 1): `linspace(0, 1, R,
endpoint=False)` on both axes with "ij" indexing (Tancik et al. 2021, image
notebook). An image that is no square has the coordinates of the first rows or
columns: its longer side has R pixels. An array `[R, R, 3]` is flattened row by
row.
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


def crop_and_resize(image: np.ndarray, resolution: int) -> np.ndarray:
    """The largest central square of an image, resized with antialiasing.

    Args:
        image: floats `[height, width, channels]` in [0, 1].
        resolution: side of the result, in pixels.

    Returns:
        float32 `[resolution, resolution, channels]`, in [0, 1].
    """
    top, left, side = central_square(*image.shape[:2])
    square = image[top : top + side, left : left + side]
    return _resize(square, resolution, resolution)


def fit_into_square(image: np.ndarray, resolution: int) -> np.ndarray:
    """A whole image, resized with antialiasing until its longer side is R.

    Args:
        image: floats `[height, width, channels]` in [0, 1].
        resolution: R, in pixels.

    Returns:
        float32 `[height, width, channels]`, in [0, 1].
    """
    sides = image.shape[:2]
    return _resize(image, *scaled_to(sides, resolution))


def scaled_to(sides: tuple[int, int], longer: int) -> tuple[int, int]:
    """Height and width in the same proportion, the longer one as given."""
    # Halves are rounded up, as in JavaScript.
    return tuple(
        max(1, math.floor(longer * side / max(sides) + 0.5)) for side in sides
    )


def _resize(image, height, width):
    if image.shape[:2] == (height, width):
        return np.asarray(image, np.float32)
    # Pillow resizes floats of one channel at a time; its triangle filter is
    # that of tf.image.resize(antialias=True).
    resized = [
        Image.fromarray(np.float32(image[..., channel])).resize(
            (width, height), Image.Resampling.BILINEAR
        )
        for channel in range(image.shape[-1])
    ]
    return np.clip(np.stack(resized, axis=-1), 0.0, 1.0)


def _coords_along(count: int, fitted: int, resolution: int) -> np.ndarray:
    """Coordinates of `count` pixels along an axis of `fitted` pixels.

    A pixel stands for its area, as in `crop_and_resize`: the centre of pixel i
    lies at (i + 1/2) / count of the axis. The centre of fitted pixel k has the
    coordinate k / R. Nothing was observed beyond the centres of the first and
    the last fitted pixel, so coordinates are clipped to these.
    """
    middles = (2 * np.arange(count) + 1) * fitted / (2 * count)
    return np.clip(middles - 0.5, 0, fitted - 1) / resolution


def render(
    field: Callable[[np.ndarray], np.ndarray],
    height: int,
    width: int,
    resolution: int,
    fitted: tuple[int, int] | None = None,
) -> np.ndarray:
    """Renders a field of two coordinates as an image of any size.

    Args:
        field: maps float32 coordinates `[n, 2]` to values `[n, c]`.
        height: rows of the result.
        width: columns of the result.
        resolution: R, of the coordinates k / R of fitted pixels.
        fitted: rows and columns of the pixels that the field was fitted to; by
            default R x R. The result covers the same area.

    Returns:
        float32 `[height, width, c]`.
    """
    fitted_rows, fitted_columns = fitted or (resolution, resolution)
    columns = _coords_along(width, fitted_columns, resolution)
    all_rows = _coords_along(height, fitted_rows, resolution)
    rows_at_once = max(1, _RENDER_CHUNK // width)
    parts = []
    for top in range(0, height, rows_at_once):
        rows = all_rows[top : top + rows_at_once]
        grid = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1)
        values = np.asarray(field(grid.reshape(-1, 2).astype(np.float32)))
        parts.append(values.reshape(len(rows), width, -1))
    return np.concatenate(parts)
