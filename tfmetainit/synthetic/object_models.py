"""Chairs, lamps and cars made of parametrised parts, and views of them.

They replace the paper's ShapeNet classes if nothing is downloaded. A class has
many shapes and colours. The objects stand on z = 0 before they are centred.
Then they lie within a ball of radius 1.2, and the cameras are outside of it.
"""

import colorsys
import math

import numpy as np

from tfmetainit.geometry import cameras
from tfmetainit.synthetic.ray_casting import Solid, cast, solid

# Field of view of the paper's ShapeNet renderings, in radians.
CAMERA_ANGLE = 0.69
_ELEVATIONS = (math.radians(5.0), math.radians(60.0))
_SUPERSAMPLING = 2  # rays along each side of a pixel


def _color(rng, *, dark=False):
    """A random colour; one in three is a grey or a wood."""
    kind = rng.integers(6)
    value = rng.uniform(0.15, 0.4) if dark else rng.uniform(0.45, 1.0)
    if kind == 0:
        return np.array([value] * 3)
    hue, saturation = rng.uniform(0.0, 1.0), rng.uniform(0.4, 1.0)
    if kind == 1:
        hue, saturation = rng.uniform(0.05, 0.1), rng.uniform(0.5, 0.8)
    return np.array(colorsys.hsv_to_rgb(hue, saturation, value))


def chair(rng: np.random.Generator) -> list[Solid]:
    """A chair: a seat on legs or a pedestal, with a back, perhaps with arms."""
    width, depth = rng.uniform(0.42, 0.62, 2)
    height = rng.uniform(0.75, 1.0)  # of the seat
    thick = rng.uniform(0.04, 0.1)
    back = rng.uniform(0.7, 1.15)  # above the seat
    main, frame = _color(rng), _color(rng, dark=rng.random() < 0.6)
    cushion = main if rng.random() < 0.5 else _color(rng)
    leg = rng.uniform(0.03, 0.06)
    parts = [solid("box", (0, 0, height), (width, depth, thick), cushion)]
    kind = rng.integers(3)
    if kind == 2:  # a pedestal on a foot of four or five arms
        stem = height - thick
        parts.append(
            solid("frustum", (0, 0, stem / 2), (leg, leg, stem / 2), frame)
        )
        count = rng.integers(4, 6)
        for index in range(count):
            turn = 2 * math.pi * index / count
            reach = 0.45 * max(width, depth)
            offset = (reach * math.cos(turn), reach * math.sin(turn), 0.05)
            parts.append(
                solid("box", offset, (reach, leg, 0.05), frame, turn=turn)
            )
    else:
        shape = ("box", "frustum")[kind]
        half = (height - thick) / 2
        for x in (-1, 1):
            for y in (-1, 1):
                center = (x * (width - leg), y * (depth - leg), half)
                parts.append(solid(shape, center, (leg, leg, half), frame))
    behind = depth - leg
    style = rng.integers(3)
    middle = height + thick + back / 2
    if style == 0:  # a panel
        parts.append(
            solid("box", (0, behind, middle), (width, leg, back / 2), main)
        )
    else:  # two posts, with slats across or bars between
        for x in (-1, 1):
            parts.append(
                solid(
                    "box",
                    (x * (width - leg), behind, middle),
                    (leg, leg, back / 2),
                    frame,
                )
            )
        count = rng.integers(2, 5)
        if style == 1:
            for index in range(count):
                z = height + thick + back * (index + 0.7) / (count + 0.2)
                size = (width - leg, 0.6 * leg, 0.25 * back / count)
                parts.append(solid("box", (0, behind, z), size, main))
        else:
            top = (0, behind, height + thick + 0.92 * back)
            parts.append(solid("box", top, (width, leg, 0.08 * back), main))
            for index in range(count):
                x = width * (2 * (index + 1) / (count + 1) - 1)
                size = (0.5 * leg, 0.5 * leg, back / 2)
                parts.append(solid("box", (x, behind, middle), size, frame))
    if rng.random() < 0.35:
        up = rng.uniform(0.25, 0.4)
        for x in (-1, 1):
            side = x * (width + leg)
            z = height + up
            parts.append(solid("box", (side, 0, z), (leg, depth, 0.04), frame))
            front = (side, -depth + leg, height + up / 2)
            parts.append(solid("box", front, (leg, leg, up / 2), frame))
    return parts


def lamp(rng: np.random.Generator) -> list[Solid]:
    """A lamp: a foot, a pole, and one or two shades."""
    foot_radius, foot = rng.uniform(0.25, 0.5), rng.uniform(0.03, 0.12)
    pole, height = rng.uniform(0.025, 0.06), rng.uniform(1.1, 1.7)
    radius, tall = rng.uniform(0.35, 0.7), rng.uniform(0.2, 0.45)
    metal, shade = _color(rng, dark=rng.random() < 0.5), _color(rng)
    shape = ("frustum", "box")[int(rng.random() < 0.25)]
    size = (foot_radius, foot_radius, foot)
    parts = [
        solid(shape, (0, 0, foot), size, metal, top=rng.uniform(0.5, 1.0)),
        solid("frustum", (0, 0, height / 2), (pole, pole, height / 2), metal),
    ]
    if rng.random() < 0.3:
        bulge = rng.uniform(0.12, 0.28)
        center = (0, 0, height * rng.uniform(0.25, 0.5))
        parts.append(
            solid("ellipsoid", center, (bulge, bulge, 1.4 * bulge), _color(rng))
        )
    kind = rng.integers(3)
    top = (0, 0, height + 0.3 * tall)
    if kind == 0:
        parts.append(solid("ellipsoid", top, (radius, radius, tall), shade))
    elif kind == 1:
        narrow = rng.uniform(0.35, 1.0)
        parts.append(
            solid("frustum", top, (radius, radius, tall), shade, top=narrow)
        )
    else:  # two arms with a shade each
        reach, turn = rng.uniform(0.4, 0.6), rng.uniform(0, math.pi)
        arm = (reach, pole, pole)
        parts.append(solid("box", (0, 0, height), arm, metal, turn=turn))
        for side in (-1, 1):
            x, y = reach * math.cos(turn), reach * math.sin(turn)
            center = (side * x, side * y, height + 0.3 * tall)
            size = (0.5 * radius, 0.5 * radius, 0.8 * tall)
            parts.append(solid("frustum", center, size, shade, top=0.6))
    return parts


def car(rng: np.random.Generator) -> list[Solid]:
    """A car: a body, a cabin with windows, four wheels, lights."""
    length, width = rng.uniform(0.9, 1.15), rng.uniform(0.4, 0.5)
    wheel = rng.uniform(0.16, 0.22)
    body, cabin = rng.uniform(0.14, 0.22), rng.uniform(0.14, 0.26)
    paint, roof = _color(rng), _color(rng)
    roof = paint if rng.random() < 0.75 else roof
    floor = 0.8 * wheel
    glass = np.array([0.12, 0.16, 0.22])
    long = length * rng.uniform(0.4, 0.65)
    along = length * rng.uniform(-0.35, 0.1)
    above = floor + 2 * body
    parts = [
        solid("box", (0, 0, floor + body), (length, width, body), paint),
        solid(
            "box",
            (along, 0, above + cabin),
            (long, 0.86 * width, cabin),
            glass,
        ),
        solid(
            "box",
            (along, 0, above + 1.8 * cabin),
            (0.96 * long, 0.9 * width, 0.25 * cabin),
            roof,
        ),
    ]
    for x in (-1, 0, 1):  # pillars
        center = (along + 0.93 * x * long, 0, above + 0.9 * cabin)
        size = (0.05, 0.89 * width, 0.9 * cabin)
        parts.append(solid("box", center, size, roof))
    tyre = np.array([0.08, 0.08, 0.09])
    for x in (-0.62, 0.62):
        for y in (-1, 1):
            center = (x * length, y * (width - 0.03), wheel)
            size = (wheel, wheel, 0.09)
            parts.append(solid("frustum", center, size, tyre, tilt=math.pi / 2))
            hub = (x * length, y * (width + 0.065), wheel)
            size = (0.5 * wheel, 0.5 * wheel, 0.01)
            grey = np.array([0.7, 0.7, 0.72])
            parts.append(solid("frustum", hub, size, grey, tilt=math.pi / 2))
    for y in (-0.65, 0.65):
        for x, color in ((1, (1.0, 0.95, 0.7)), (-1, (0.8, 0.1, 0.1))):
            center = (x * length, y * width, floor + 1.3 * body)
            size = (0.02, 0.14 * width, 0.22 * body)
            parts.append(solid("box", center, size, np.array(color)))
    return parts


MODELS = {"chairs": chair, "lamps": lamp, "cars": car}
_RADIUS = 1.2


def draw_object(kind: str, rng: np.random.Generator) -> list[Solid]:
    """One object, centred at the origin, within a ball of radius 1.2.

    Args:
        kind: a key of `MODELS`.
        rng: source of the shape and the colours.
    """
    parts = MODELS[kind](rng)
    corners = np.concatenate([_corners(part) for part in parts])
    middle = 0.5 * (corners.min(axis=0) + corners.max(axis=0))
    scale = _RADIUS / np.linalg.norm(corners - middle, axis=1).max()
    return [
        part._replace(
            center=scale * (part.center - middle), axes=scale * part.axes
        )
        for part in parts
    ]


def _corners(part):
    """The corners of the box around a solid, in the world."""
    signs = np.array(np.meshgrid(*[[-1, 1]] * 3)).reshape(3, -1)
    return part.center + (part.axes @ signs).T


def draw_poses(rng: np.random.Generator, count: int) -> np.ndarray:
    """`count` poses around the origin, float32 `[count, 4, 4]`."""
    azimuths = rng.uniform(0.0, 2.0 * math.pi, count)
    elevations = rng.uniform(*_ELEVATIONS, count)
    poses = [cameras.orbit(a, e) for a, e in zip(azimuths, elevations)]
    return np.float32(poses)


def render_view(solids, pose: np.ndarray, side: int) -> np.ndarray:
    """A picture of some solids: uint8 RGBA `[side, side, 4]`, antialiased.

    Args:
        solids: list of `Solid`.
        pose: of the camera (`geometry.cameras`), `[4, 4]`.
        side: side of the picture in pixels.
    """
    camera = cameras.centred(pose, side, side, CAMERA_ANGLE)
    fine = side * _SUPERSAMPLING
    grid = cameras.pixel_grid(fine, fine).astype(np.float64)
    grid = (grid + 0.5) / _SUPERSAMPLING - 0.5
    origins, directions = cameras.pixel_rays(grid, camera)
    image = cast(solids, origins, directions)
    image = image.reshape(side, _SUPERSAMPLING, side, _SUPERSAMPLING, 4)
    # Colour: the mean over rays that hit. Opacity: their share of all rays.
    total = image.sum(axis=(1, 3))
    opacity = total[..., 3:]
    color = total[..., :3] / np.maximum(opacity, 1.0)
    opacity = opacity / _SUPERSAMPLING**2
    return np.uint8(np.round(255.0 * np.concatenate([color, opacity], axis=-1)))
