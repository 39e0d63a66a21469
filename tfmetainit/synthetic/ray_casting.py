"""A small ray caster: solids made of boxes, ellipsoids and frustums.

It draws the embedded objects and the landmark. Every solid is a unit solid
under an affine map: a ray is transformed to the solid's own coordinates, where
the intersection has a closed form. The nearest hit wins; there are no shadows.
"""

from typing import NamedTuple

import numpy as np

_FAR = np.float32(1e30)


class Light(NamedTuple):
    """How a scene is lit.

    Attributes:
        ambient: light that every surface receives, a number or `[3]` (red,
            green, blue).
        lamps: pairs of a direction towards a lamp, of any length, and the light
            that a surface facing it receives, a number or `[3]`.
    """

    ambient: float
    lamps: tuple


STUDIO = Light(0.35, (((0.4, -0.6, 0.9), 0.55), ((-0.8, 0.3, 0.3), 0.25)))


class Solid(NamedTuple):
    """One convex solid.

    Attributes:
        shape: "box" ([-1, 1]^3), "ellipsoid" (the unit ball) or "frustum" (z
            in [-1, 1], of radius 1 at the bottom and `top` at the top: a
            cylinder for 1, a cone for 0).
        center: `[3]`.
        axes: `[3, 3]`, whose columns are the images of the unit axes.
        color: `[3]` in [0, 1].
        top: radius of a frustum's top.
    """

    shape: str
    center: np.ndarray
    axes: np.ndarray
    color: np.ndarray
    top: float = 1.0


def solid(shape, center, half_sizes, color, *, turn=0.0, tilt=0.0, top=1.0):
    """Makes a `Solid` from its half sizes and rotations.

    Args:
        shape: as in `Solid`.
        center: `[3]`.
        half_sizes: `[3]`, along its own x, y and z.
        color: `[3]`.
        turn: rotation about the z axis in radians, applied after `tilt`.
        tilt: rotation about the x axis in radians.
        top: radius of a frustum's top, where its bottom has radius 1.
    """
    cos, sin = np.cos(turn), np.sin(turn)
    about_z = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
    cos, sin = np.cos(tilt), np.sin(tilt)
    about_x = np.array([[1.0, 0.0, 0.0], [0.0, cos, -sin], [0.0, sin, cos]])
    axes = about_z @ about_x @ np.diag(np.asarray(half_sizes, float))
    return Solid(shape, np.asarray(center, float), axes, color, top)


def cast(solids, origins, directions, light: Light = STUDIO) -> np.ndarray:
    """Casts rays at solids: the colour and opacity of each ray.

    Args:
        solids: list of `Solid`.
        origins: `[n, 3]`.
        directions: `[n, 3]`, of any length.
        light: the lighting of the solids.

    Returns:
        float32 `[n, 4]`: red, green, blue in [0, 1] and 1 where a solid was
        hit; else zeros.
    """
    origins, directions = np.float32(origins), np.float32(directions)
    nearest = np.full(len(origins), _FAR)
    image = np.zeros([len(origins), 4], np.float32)
    length = np.sum(directions * directions, axis=1)
    for item in solids:
        # Only rays that cross the ball around the solid are considered.
        away = np.float32(item.center) - origins
        along = np.sum(away * directions, axis=1)
        missed_by = np.sum(away * away, axis=1) - along**2 / length
        passing = np.flatnonzero(missed_by <= _radius(item) ** 2)
        inverse = np.float32(np.linalg.inv(item.axes))
        start = -away[passing] @ inverse.T
        depth, normal = _INTERSECT[item.shape](
            start, directions[passing] @ inverse.T, item.top
        )
        met = np.flatnonzero(depth < nearest[passing])
        hit = passing[met]
        nearest[hit] = depth[met]
        # Normals are covectors: they map by the inverse transposed.
        normal = normal[met] @ inverse
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        received = np.zeros([len(normal), 3], np.float32)
        received += np.float32(light.ambient)
        for toward, strength in light.lamps:
            toward = np.float32(toward) / np.float32(np.linalg.norm(toward))
            facing = np.maximum(normal @ toward, 0.0)
            received += np.float32(strength) * facing[:, None]
        image[hit, :3] = np.minimum(received * np.float32(item.color), 1)
        image[hit, 3] = 1.0
    return image


def _radius(item):
    """Radius of a ball around a solid; larger than an ellipsoid needs."""
    return float(np.sqrt(np.sum(np.square(item.axes)))) + 1e-4


def _box(start, along, top):
    del top
    with np.errstate(divide="ignore", invalid="ignore"):
        a, b = (-1.0 - start) / along, (1.0 - start) / along
    near, far = np.fmin(a, b), np.fmax(a, b)
    axis = np.argmax(near, axis=1)
    enter, leave = near.max(axis=1), far.min(axis=1)
    depth = np.where((enter <= leave) & (enter > 0.0), enter, _FAR)
    normal = np.zeros_like(start)
    rows = np.arange(len(start))
    normal[rows, axis] = -np.sign(along[rows, axis])
    return depth, normal


def _ellipsoid(start, along, top):
    del top
    depth = _quadratic(
        np.sum(along * along, axis=1),
        np.sum(start * along, axis=1),
        np.sum(start * start, axis=1) - 1.0,
    )[0]
    return depth, start + _finite(depth)[:, None] * along


def _frustum(start, along, top):
    # x^2 + y^2 = r(z)^2 with r(z) = middle + slope z.
    middle, slope = 0.5 * (1.0 + top), 0.5 * (top - 1.0)
    radius = middle + slope * start[:, 2]
    roots = _quadratic(
        along[:, 0] ** 2 + along[:, 1] ** 2 - (slope * along[:, 2]) ** 2,
        start[:, 0] * along[:, 0]
        + start[:, 1] * along[:, 1]
        - slope * along[:, 2] * radius,
        start[:, 0] ** 2 + start[:, 1] ** 2 - radius**2,
    )
    best = np.full(len(start), _FAR)
    normal = np.zeros_like(start)
    for depth in roots:
        point = start + _finite(depth)[:, None] * along
        here = middle + slope * point[:, 2]
        met = (np.abs(point[:, 2]) <= 1.0) & (here >= 0.0) & (depth < best)
        best[met] = depth[met]
        side = np.stack([point[:, 0], point[:, 1], -slope * here], axis=1)
        normal[met] = side[met]
    for z, size in ((-1.0, 1.0), (1.0, top)):
        with np.errstate(divide="ignore", invalid="ignore"):
            depth = (z - start[:, 2]) / along[:, 2]
        depth = np.where(np.isfinite(depth) & (depth > 0.0), depth, _FAR)
        point = start + _finite(depth)[:, None] * along
        inside = point[:, 0] ** 2 + point[:, 1] ** 2 <= size**2
        met = inside & (depth < best)
        best[met] = depth[met]
        normal[met] = [0.0, 0.0, z]
    return best, normal


def _quadratic(a, half_b, c):
    """Positive roots of a t^2 + 2 half_b t + c: the smaller, then the other."""
    discriminant = half_b**2 - a * c
    root = np.sqrt(np.maximum(discriminant, 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        both = np.sort([(-half_b - root) / a, (-half_b + root) / a], axis=0)
    valid = (discriminant >= 0.0) & np.isfinite(both) & (both > 1e-6)
    both = np.where(valid, both, _FAR)
    return np.minimum(*both), np.maximum(*both)


def _finite(depth):
    return np.where(depth < _FAR, depth, 0.0)


_INTERSECT = {"box": _box, "ellipsoid": _ellipsoid, "frustum": _frustum}
