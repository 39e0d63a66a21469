"""A building on a square, and photographs of it in varying light.

It replaces the paper's Phototourism collections if nothing is downloaded: one
place, photographed from many sides, at all hours, and by cameras with different
colours. The centre of the building is near the origin and its front faces -y;
behind it is the sky.
"""

import math
from typing import NamedTuple

import numpy as np

from tfmetainit.geometry import cameras
from tfmetainit.geometry.cameras import Camera
from tfmetainit.synthetic.ray_casting import Light, Solid, cast, solid

# The building and its square lie between these depths in every photograph,
# except for some of the ground in front of the nearest cameras.
NEAR, FAR = 1.5, 8.0
_SUPERSAMPLING = 2  # rays along each side of a pixel
_STONE = np.array([0.82, 0.76, 0.66])
_SHADE = np.array([0.62, 0.57, 0.5])
_ROOF = np.array([0.35, 0.5, 0.47])
_BRICK = np.array([0.66, 0.4, 0.32])
_DOOR = np.array([0.2, 0.16, 0.14])


def landmark() -> list[Solid]:
    """The building (hall, portico, dome, two towers), trees and a fountain."""
    parts = [
        solid("frustum", (0, 0, -0.05), (2.6, 2.6, 0.05), (0.55, 0.53, 0.5)),
        solid("box", (0, 0.1, 0.06), (1.25, 0.75, 0.06), _SHADE),
        solid("box", (0, -0.75, 0.04), (0.75, 0.25, 0.04), _SHADE),
        solid("box", (0, 0.25, 0.55), (1.05, 0.5, 0.45), _STONE),
        solid("box", (0, 0.25, 1.03), (1.1, 0.55, 0.04), _SHADE),
        solid("frustum", (0, 0.3, 1.2), (0.42, 0.42, 0.14), _STONE),
        solid("ellipsoid", (0, 0.3, 1.34), (0.42, 0.42, 0.42), _ROOF),
        solid("frustum", (0, 0.3, 1.85), (0.05, 0.05, 0.14), _STONE, top=0.2),
        solid("box", (0, -0.27, 0.42), (0.17, 0.03, 0.32), _DOOR),
        # The portico's beam and gable.
        solid("box", (0, -0.5, 0.98), (0.68, 0.16, 0.06), _STONE),
        solid(
            "box",
            (0, -0.48, 1.04),
            (0.48 * math.sqrt(0.5), 0.13, 0.48 * math.sqrt(0.5)),
            _BRICK,
        ),
    ]
    for x in (-0.6, -0.36, -0.12, 0.12, 0.36, 0.6):
        center = (x, -0.55, 0.52)
        parts.append(solid("frustum", center, (0.06, 0.06, 0.42), _STONE))
    for x in (-1, 1):
        tower = (x * 1.05, 0.1, 0.72)
        parts.append(solid("box", tower, (0.2, 0.2, 0.7), _BRICK))
        belfry = (x * 1.05, 0.1, 1.52)
        parts.append(solid("box", belfry, (0.15, 0.15, 0.12), _STONE))
        spire = (x * 1.05, 0.1, 1.84)
        parts.append(solid("frustum", spire, (0.2, 0.2, 0.22), _ROOF, top=0.02))
        for z in (0.55, 1.0):
            window = (x * 1.05, -0.11, z)
            parts.append(solid("box", window, (0.07, 0.02, 0.13), _DOOR))
        for reach in (0.45, 0.75):
            window = (x * reach, -0.26, 0.55)
            parts.append(solid("box", window, (0.07, 0.02, 0.18), _DOOR))
        tree = (x * 1.75, -0.55, 0.45)
        green = (0.22, 0.4, 0.18)
        parts.append(solid("ellipsoid", tree, (0.24, 0.24, 0.36), green))
        trunk = (x * 1.75, -0.55, 0.08)
        parts.append(solid("frustum", trunk, (0.05, 0.05, 0.1), _DOOR))
    basin = (0.75, -1.35, 0.07)
    parts += [
        solid("frustum", basin, (0.3, 0.3, 0.07), _SHADE),
        solid("frustum", (0.75, -1.35, 0.2), (0.05, 0.05, 0.16), _STONE),
        solid("ellipsoid", (0.75, -1.35, 0.38), (0.1, 0.1, 0.06), _STONE),
    ]
    # The gable is a box on its edge: turned about the y axis.
    gable = parts[10]
    cos = math.sqrt(0.5)
    about_y = np.array([[cos, 0, cos], [0, 1, 0], [-cos, 0, cos]])
    flat = np.diag([1.0, 1.0, 0.55])
    parts[10] = gable._replace(axes=flat @ about_y @ gable.axes)
    return [part._replace(center=part.center - [0, 0, 0.7]) for part in parts]


def draw_pose(rng: np.random.Generator) -> np.ndarray:
    """The pose of a visitor in front of the building, float32 `[4, 4]`."""
    azimuth = rng.uniform(-0.9, 0.9) - 0.5 * math.pi
    elevation = rng.uniform(0.02, 0.3)
    distance = rng.uniform(3.6, 4.8)
    position = distance * np.array(
        [
            math.cos(elevation) * math.cos(azimuth),
            math.cos(elevation) * math.sin(azimuth),
            math.sin(elevation),
        ]
    )
    pose = cameras.look_at(position, rng.uniform(-0.25, 0.25, 3))
    return np.float32(pose)


class _Weather(NamedTuple):
    light: Light
    zenith: np.ndarray
    horizon: np.ndarray
    gain: np.ndarray
    gamma: float


def _draw_weather(rng):
    """A random hour, sky, and colour response of the camera."""
    height = rng.uniform(0.08, 1.2)  # of the sun, in radians
    azimuth = rng.uniform(-1.3, 1.3) - 0.5 * math.pi
    toward = (
        math.cos(height) * math.cos(azimuth),
        math.cos(height) * math.sin(azimuth),
        math.sin(height),
    )
    low = math.exp(-3.0 * height)  # a low sun is red, and so is its sky
    sun = np.array([1.0, 1.0 - 0.45 * low, 1.0 - 0.75 * low])
    cloud = rng.uniform(0.0, 1.0)
    if rng.random() < 0.15:  # night, lit from below
        sun, cloud = np.array([1.0, 0.75, 0.4]), 0.3
        toward = (0.2, -1.0, 0.15)
        zenith, horizon = np.array([0.02, 0.03, 0.1]), np.array([0.1, 0.1, 0.2])
    else:
        grey = rng.uniform(0.5, 0.9) * np.ones(3)
        blue = np.array([0.25, 0.45, 0.85]) * rng.uniform(0.7, 1.1)
        zenith = (1.0 - cloud) * blue + cloud * grey
        glow = np.array([0.75, 0.85, 0.95]) * (1.0 - low) + low * sun
        horizon = (1.0 - 0.7 * cloud) * glow + 0.7 * cloud * grey
    strength = 0.85 * (1.0 - 0.8 * cloud)
    ambient = (0.12 + 0.45 * cloud) + 0.25 * zenith
    return _Weather(
        Light(ambient, ((toward, strength * sun),)),
        zenith,
        horizon,
        rng.uniform(0.75, 1.2) * rng.uniform(0.85, 1.15, 3),
        rng.uniform(0.8, 1.25),
    )


def draw_photograph(
    rng: np.random.Generator, side: int
) -> tuple[np.ndarray, Camera]:
    """One photograph, antialiased uint8 `[side, side, 3]`, and its camera."""
    pose = draw_pose(rng)
    camera = cameras.centred(pose, side, side, rng.uniform(0.85, 1.05))
    weather = _draw_weather(rng)
    fine = side * _SUPERSAMPLING
    grid = cameras.pixel_grid(fine, fine).astype(np.float64)
    grid = (grid + 0.5) / _SUPERSAMPLING - 0.5
    origins, directions = cameras.pixel_rays(grid, camera)
    seen = cast(landmark(), origins, directions, weather.light)
    up = directions[:, 2] / np.linalg.norm(directions, axis=1)
    share = np.sqrt(np.clip(up, 0.0, 1.0))[:, None]
    sky = share * weather.zenith + (1.0 - share) * weather.horizon
    image = np.where(seen[:, 3:] > 0.0, seen[:, :3], sky)
    image = image.reshape(side, _SUPERSAMPLING, side, _SUPERSAMPLING, 3)
    image = np.clip(image.mean(axis=(1, 3)) * weather.gain, 0.0, 1.0)
    return np.uint8(np.round(255.0 * image**weather.gamma)), camera
