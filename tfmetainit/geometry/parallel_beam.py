"""Parallel-beam tomography in NumPy: conventions and the projection.

An image x `[R, R]` is indexed by row i and column j, with axes (horizontal to
the right, vertical downwards) and centre c = (R - 1) / 2. The projection A_phi
at the angle phi turns the image by phi about its centre and takes the mean of
each column:

    (A_phi x)[j] = mean_i x(c + (i - c) cos phi - (j - c) sin phi,
                            c + (i - c) sin phi + (j - c) cos phi)

(rows first). x is read at the nearest pixel or bilinearly, and is 0 outside of
the image. At phi = 0 the projection is the mean of each column. A sinogram
`[projections, R]` has one row for each angle. The sinogram of an image in
[0, 1] is in [0, 1].

For odd R and images that vanish outside of the inscribed circle, the bilinear
projection is `skimage.transform.radon` divided by R and transposed. For even R
scikit-image turns about pixel R // 2, half a pixel away. The code of Tancik et
al. 2021 turns in the other direction, about pixel R / 2: its angles have the
opposite sign, and its sinograms are shifted by half a pixel.

`forward_models.ParallelBeam` is the same projection in TensorFlow.
"""

import math

import numpy as np

from tfmetainit.geometry import pixels

INTERPOLATIONS = ("nearest", "bilinear")
# Added before rounding: a tie between two nearest pixels goes to the later one.
# At multiples of pi / 4 whole diagonals are ties, and without this the result
# would depend on how a runtime rounds sines.
TIE = 1e-4


def slice_coords(resolution: int) -> np.ndarray:
    """Coordinates of a CT slice's pixels, float32 `[R * R, 2]` in [0, 1).

    As `pixels.pixel_coords`, but column first (Tancik et al. 2021, CT notebook:
    "xy" indexing).
    """
    return np.ascontiguousarray(
        pixels.pixel_coords(resolution, resolution)[:, ::-1]
    )


def even_angles(count: int) -> np.ndarray:
    """`count` angles, float32 in [0, pi), evenly spaced from 0."""
    return np.linspace(0.0, math.pi, count, endpoint=False, dtype=np.float32)


def check_interpolation(interpolation: str) -> None:
    """Raises ValueError unless `interpolation` is one of `INTERPOLATIONS`."""
    if interpolation not in INTERPOLATIONS:
        raise ValueError(
            f"`interpolation` must be one of {INTERPOLATIONS}. Received: "
            f"interpolation={interpolation!r}"
        )


def rotated_pixels(side: int, angle) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns at which a projection reads an image, `[R, R]` each.

    Args:
        side: R.
        angle: float32, in radians.
    """
    center = np.float32((side - 1) / 2.0)
    offset = np.arange(side, dtype=np.float32) - center
    i, j = offset[:, None], offset[None, :]
    return (
        center + i * np.cos(angle) - j * np.sin(angle),
        center + i * np.sin(angle) + j * np.cos(angle),
    )


def project(
    image: np.ndarray, angles: np.ndarray, interpolation: str = "nearest"
) -> np.ndarray:
    """The sinogram, float32 `[projections, R]`, of an image `[R, R]`.

    Args:
        image: floats `[R, R]`.
        angles: in radians, `[projections]`.
        interpolation: "nearest" or "bilinear".

    Raises:
        ValueError: if `interpolation` is neither.
    """
    check_interpolation(interpolation)
    side = len(image)
    # A border of zeros, one pixel wide, stands for everything outside.
    padded = np.pad(np.asarray(image, np.float32), 1)

    def read(row, column):
        row = np.clip(row, -1, side).astype(np.int64) + 1
        column = np.clip(column, -1, side).astype(np.int64) + 1
        return padded[row, column]

    sinogram = []
    for angle in np.asarray(angles, np.float32):
        row, column = rotated_pixels(side, angle)
        if interpolation == "nearest":
            turned = read(
                np.floor(row + 0.5 + TIE), np.floor(column + 0.5 + TIE)
            )
        else:
            top, left = np.floor(row), np.floor(column)
            down, right = row - top, column - left
            turned = (1 - down) * (
                (1 - right) * read(top, left) + right * read(top, left + 1)
            ) + down * (
                (1 - right) * read(top + 1, left)
                + right * read(top + 1, left + 1)
            )
        sinogram.append(turned.mean(axis=0))
    return np.asarray(sinogram, np.float32)
