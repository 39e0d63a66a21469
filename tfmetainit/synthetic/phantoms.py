"""Randomly perturbed modified Shepp-Logan phantoms (Toft 1996).

Tancik et al. 2021 did not publish how they randomised their phantoms. Here each
of the ten ellipses has a perturbed centre, size, angle and density.
"""

import numpy as np

# Density, half axes, centre (x, y), angle in degrees; in units of half the
# image's side, y upwards. Densities add where ellipses overlap.
SHEPP_LOGAN = np.array(
    [
        [1.0, 0.6900, 0.9200, 0.00, 0.0000, 0.0],
        [-0.8, 0.6624, 0.8740, 0.00, -0.0184, 0.0],
        [-0.2, 0.1100, 0.3100, 0.22, 0.0000, -18.0],
        [-0.2, 0.1600, 0.4100, -0.22, 0.0000, 18.0],
        [0.1, 0.2100, 0.2500, 0.00, 0.3500, 0.0],
        [0.1, 0.0460, 0.0460, 0.00, 0.1000, 0.0],
        [0.1, 0.0460, 0.0460, 0.00, -0.1000, 0.0],
        [0.1, 0.0460, 0.0230, -0.08, -0.6050, 0.0],
        [0.1, 0.0230, 0.0230, 0.00, -0.6060, 0.0],
        [0.1, 0.0230, 0.0460, 0.06, -0.6050, 0.0],
    ]
)


def render_ellipses(ellipses: np.ndarray, resolution: int) -> np.ndarray:
    """The sum of ellipses, floats `[resolution, resolution]`, not clipped.

    Args:
        ellipses: `[n, 6]` as in `SHEPP_LOGAN`.
        resolution: number of pixels along each axis; pixel k has its centre
            at (2 k + 1) / resolution - 1.
    """
    axis = (2.0 * np.arange(resolution) + 1.0) / resolution - 1.0
    x, y = np.meshgrid(axis, -axis)
    image = np.zeros([resolution, resolution])
    for density, a, b, x0, y0, degrees in ellipses:
        cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        along = (x - x0) * cos + (y - y0) * sin
        across = (y - y0) * cos - (x - x0) * sin
        image += density * ((along / a) ** 2 + (across / b) ** 2 <= 1.0)
    return image


def random_ellipses(rng: np.random.Generator) -> np.ndarray:
    """A perturbed Shepp-Logan phantom: ellipses `[10, 6]`.

    The two ellipses of the skull move together, so that it stays closed. Each
    of the others moves, grows, turns and changes its density independently.
    """
    ellipses = SHEPP_LOGAN.copy()
    count = len(ellipses)
    skull, inside = slice(0, 2), slice(2, count)
    scale = rng.uniform(0.8, 1.05, 2)
    ellipses[:, 1:3] *= scale
    ellipses[:, 3:5] *= scale
    shift = rng.uniform(-0.05, 0.05, 2)
    turn = rng.uniform(-20.0, 20.0)
    ellipses[inside, 1:3] *= rng.uniform(0.7, 1.4, (count - 2, 2))
    ellipses[inside, 3:5] += rng.uniform(-0.08, 0.08, (count - 2, 2))
    ellipses[inside, 5] += rng.uniform(-25.0, 25.0, count - 2)
    ellipses[inside, 0] *= rng.uniform(0.5, 1.5, count - 2)
    ellipses[skull, 0] *= rng.uniform(0.9, 1.1)
    # The whole phantom turns about the image's centre, and moves.
    cos, sin = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    ellipses[:, 3:5] = ellipses[:, 3:5] @ np.array([[cos, sin], [-sin, cos]])
    ellipses[:, 3:5] += shift
    ellipses[:, 5] += turn
    return ellipses
