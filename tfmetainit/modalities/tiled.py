"""Fits of pictures that are larger than a field holds, tile by tile."""

from typing import NamedTuple

import numpy as np

from tfmetainit.geometry.metrics import psnr_from_mse
from tfmetainit.geometry.tiles import Mosaic, cover
from tfmetainit.io.progress import progress
from tfmetainit.modalities.fitter import Fitter, check_finite

# Tiles fitted in one call, which share what they can (`Fitter.fit`).
_AT_ONCE = 4


class TiledFit(NamedTuple):
    """A picture after the gradient steps of all of its tiles.

    Attributes:
        psnr: in dB, of all tiles together, each resized to R x R pixels, after
            0, 1, ... steps.
        image: the blended picture, float32 `[height, width, 3]`.
        blended_psnr: its PSNR; None if it has another size than the picture.
        num_tiles: number of fields.
    """

    psnr: list[float]
    image: np.ndarray
    blended_psnr: float | None
    num_tiles: int


def overlap_of(side: int) -> int:
    """Number of pixels that neighbouring tiles share: an eighth of a side."""
    return side // 8


def fit_tiles(
    fitter: Fitter, image: np.ndarray, steps: int, scale: int = 1
) -> TiledFit:
    """Fits a picture by a field for each tile, all from the same init.

    Args:
        fitter: fits pictures (`ImageModality`); tiles have its resolution.
        image: float32 `[height, width, 3]` in [0, 1].
        steps: number of gradient steps of each tile.
        scale: each pixel is rendered as scale x scale pixels.

    Raises:
        UserError: if the fit of a tile diverges.
    """
    side = fitter.modality.resolution
    overlap = overlap_of(side)
    tiles = cover(*image.shape[:2], side, overlap)
    mosaic = Mosaic(tiles, overlap, scale)
    squared_errors = np.zeros(steps + 1)
    groups = [
        tiles[first : first + _AT_ONCE]
        for first in range(0, len(tiles), _AT_ONCE)
    ]
    for group in progress(groups, "Fitting tiles", unit=f"x{_AT_ONCE}"):
        samples = [fitter.modality.observe(tile.of(image)) for tile in group]
        fits = fitter.fit(samples, steps, range(steps + 1))
        for tile, sample, fitted in zip(group, samples, fits):
            check_finite(fitted.psnr, steps)
            squared_errors += [
                10 ** (-fitted.psnr[step] / 10) for step in range(steps + 1)
            ]
            rows, columns = scale * tile.height, scale * tile.width
            mosaic.add(
                tile, fitter.render(fitted.theta, rows, columns, sample.camera)
            )
    blended, blended_psnr = mosaic.image(), None
    if scale == 1:
        error = np.mean((blended - image) ** 2)
        blended_psnr = psnr_from_mse(float(error))
    return TiledFit(
        [psnr_from_mse(float(e)) for e in squared_errors / len(tiles)],
        blended,
        blended_psnr,
        len(tiles),
    )
