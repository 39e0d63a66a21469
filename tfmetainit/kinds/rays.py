"""Kinds that are observed through rays: objects, and landmarks."""

import math
import pathlib

import numpy as np

from tfmetainit import image_files, photo_collections, pixels, views
from tfmetainit.errors import InputError, check_range
from tfmetainit.kinds.base import MAX_RESOLUTION, Kind, Sample

# Batches of random rays that a fit goes through, again and again.
_RAY_BATCHES = 64
_RAYS_AT_ONCE = 2**14
# A fit keeps `_RAY_BATCHES` times the samples of a step.
_MAX_RAYS = 2**18
_MAX_SAMPLES = 2**20
# Of several views, so many are scored after every step.
_MAX_SCORED_RAYS = 2**14


class _RayKind(Kind):
    """Base of the kinds that are observed through the rays of pictures."""

    may_drop = True

    def __init__(self, resolution: int, num_samples: int, rays_per_step: int):
        check_range("resolution", resolution, 1, MAX_RESOLUTION)
        check_range("num_samples", num_samples, 2, 4096)
        check_range("rays_per_step", rays_per_step, 1, _MAX_RAYS)
        samples = num_samples * rays_per_step
        check_range("num_samples * rays_per_step", samples, 2, _MAX_SAMPLES)
        self.resolution = resolution
        self.num_samples = num_samples
        self.rays_per_step = self.num_observations = rays_per_step

    def describe(self):
        return {
            "kind": self.name,
            "resolution": self.resolution,
            "num_samples": self.num_samples,
            "rays_per_step": self.rays_per_step,
            "conventions": (
                "inputs and coords: rays, each its origin, its direction (of "
                "length 1 along the camera's axis) and the rising depths of "
                "its samples, between the near and the far end of the scene; "
                "fresh random ones for each step; values: red, green, blue in "
                "[0, 1]"
            ),
        }

    def _sample(self, rays, colors, bounds) -> Sample:
        """Batches of random rays of some pictures, and all or many to score."""
        # Seeded: the same file is fitted the same way again.
        rng = np.random.default_rng(0)
        shape = (_RAY_BATCHES, self.rays_per_step)
        chosen = rng.integers(0, len(rays), shape)
        jitter = rng.random((*shape, self.num_samples), np.float32)
        depths = self._depths(bounds, jitter)
        scored = slice(None)
        if len(rays) > _MAX_SCORED_RAYS:
            scored = rng.choice(len(rays), _MAX_SCORED_RAYS, replace=False)
        return Sample(
            np.concatenate([rays[chosen], depths], axis=-1),
            colors[chosen],
            self._with_depths(rays[scored], bounds),
            colors[scored],
        )

    def _draw(self, predict, rays, bounds, height, width):
        """The picture of some rays, some at a time."""
        rows = max(1, _RAYS_AT_ONCE // width)
        parts = [
            predict(
                self._with_depths(rays[start : start + rows * width], bounds)
            )
            for start in _progress(range(0, len(rays), rows * width))
        ]
        return np.concatenate(parts).reshape(height, width, 3)

    def _with_depths(self, rays, bounds):
        depths = np.tile(self._depths(bounds, 0.0), [len(rays), 1])
        return np.concatenate([rays, depths], axis=-1)

    def _depths(self, bounds, within):
        """Depths of samples, each `within` [0, 1) of its interval."""
        near, far = bounds
        step = (far - near) / self.num_samples
        return np.float32(near + step * (np.arange(self.num_samples) + within))


class ViewsKind(_RayKind):
    """Objects, observed through the rays of their views, on white.

    Args:
        resolution: side of the views in pixels.
        angle: that a square view spans, in radians; a transforms.json states
            its own.
        near: depth of the first sample of a ray.
        far: end of the last one's interval.
        num_samples: number of them.
        rays_per_step: number of rays of a gradient step.
    """

    name = "views"
    details = ("pose",)
    example = "--input=chair.png --pose=30,20"

    def __init__(
        self,
        resolution: int,
        angle: float,
        near: float,
        far: float,
        num_samples: int,
        rays_per_step: int,
    ):
        super().__init__(resolution, num_samples, rays_per_step)
        check_range("angle", angle, 1e-3, 3.14)
        if not 0.0 < near < far:
            raise InputError(
                f"0 < near < far must hold. Received: near={near}, far={far}"
            )
        self.angle = angle
        self.bounds = (near, far)

    def describe(self):
        near, far = self.bounds
        return {
            **super().describe(),
            "angle": self.angle,
            "near": near,
            "far": far,
        }

    def read(self, path, pose: str | None = None):
        """Reads a picture and its pose, or a transforms.json of several."""
        side = self.resolution
        if str(path).endswith(".json"):
            if pose is not None:
                raise InputError(
                    "A transforms.json holds its own poses. Received: "
                    f"--pose={pose} with --input={path}"
                )
            pictures, poses, camera = views.read_transforms(path, side)
        else:
            if pose is None:
                raise InputError(
                    "A picture of an object needs --pose, the azimuth and "
                    "elevation of its camera in degrees. Received: "
                    f"--input={path} without it"
                )
            poses = views.parse_pose(pose)[None]
            pictures, camera = views.read_picture(path, self.angle, side)
        rays = [views.camera_rays(side, side, pose, *camera) for pose in poses]
        return self._sample(
            np.concatenate(rays), pictures.reshape(-1, 3), self.bounds
        )

    def render(self, predict, height, width, view=None):
        """Novel views beside one another: a turn in quarters, from above."""
        parts = []
        for azimuth in range(0, 360, 90):
            pose = views.orbit(math.radians(azimuth), math.radians(25.0))
            # Of what is no square, the shorter side spans the angle.
            focal = views.focal_length(min(height, width), self.angle)
            rays = views.camera_rays(height, width, pose, focal)
            parts.append(self._draw(predict, rays, self.bounds, height, width))
        return np.concatenate(parts, axis=1)


class LandmarkKind(_RayKind):
    """One place, observed through the rays of a photograph of it.

    Args:
        resolution: side of the squares that photographs are cropped and
            resized to.
        scale: what the lengths of a collection's cameras are multiplied by.
        num_samples: number of depths along a ray.
        rays_per_step: number of rays of a gradient step.
    """

    name = "landmark"
    details = ("cameras",)
    example = "--input=photo.jpg --cameras=collection"

    def __init__(
        self,
        resolution: int,
        scale: float,
        num_samples: int,
        rays_per_step: int,
    ):
        super().__init__(resolution, num_samples, rays_per_step)
        check_range("scale", scale, 1e-6, 1e6)
        self.scale = scale

    def describe(self):
        return {**super().describe(), "scale": self.scale}

    def read(self, path, cameras: str | None = None):
        """Reads a photograph; its camera is looked up by the file's name."""
        if cameras is None:
            raise InputError(
                "A photograph of a landmark needs --cameras, the folder of "
                "its collection (COLMAP's model, or the authors' matrices). "
                f"Received: --input={path} without it"
            )
        collection = photo_collections.read_collection(cameras, self.scale)
        # The file itself, or one of its name anywhere else.
        path = pathlib.Path(path)
        same = [p for p in collection if p.resolve() == path.resolve()]
        named = same or [p for p in collection if p.name == path.name]
        if not named:
            raise InputError(
                f"--cameras={cameras} has no camera for {path.name}; it has "
                f"those of {len(collection)} other pictures."
            )
        if len(named) > 1:
            raise InputError(
                f"--cameras={cameras} must have one camera for {path.name}, or "
                "--input be one of its own pictures. Received: "
                f"{len(named)} of that name, among them {named[0]} and "
                f"{named[1]}"
            )
        image, camera = self.square(path, collection[named[0]])
        rays = self._rays(camera, self.resolution, self.resolution)
        sample = self._sample(rays, image.reshape(-1, 3), camera.bounds)
        return sample._replace(view=camera)

    def square(self, path, camera):
        """A photograph's central square, resized, and the camera of that."""
        # A camera is that of the pixels as they are stored.
        image = image_files.read_image(path, upright=False)
        height, width = image.shape[:2]
        if camera.size not in (None, (height, width)):
            raise InputError(
                "A photograph must have the size that its camera states. "
                f"Received: {path} of {width} x {height} pixels, with a camera "
                f"of {camera.size[1]} x {camera.size[0]}"
            )
        camera = camera.of_square(height, width, self.resolution)
        return pixels.crop_and_resize(image, self.resolution), camera

    def picture(self, values):
        """A photograph, or a part of its columns."""
        image = np.reshape(values, [self.resolution, -1, np.shape(values)[-1]])
        return np.broadcast_to(image, [*image.shape[:2], 3])

    def render(self, predict, height, width, view=None):
        """The place in the photograph's light, from where that was taken."""
        rays = self._rays(view, height, width)
        return self._draw(predict, rays, view.bounds, height, width)

    def _rays(self, camera, height, width):
        """Origins and directions `[height * width, 6]`, row by row."""
        shrink = self.resolution / np.array([width, height])
        rows, columns = np.mgrid[:height, :width].reshape(2, -1)
        points = (np.stack([columns, rows], axis=-1) + 0.5) * shrink - 0.5
        points = (points - camera.principal_point) / camera.focal
        directions = np.concatenate([points, np.ones([len(points), 1])], axis=1)
        directions = directions @ camera.pose[:3, :3].T
        origins = np.broadcast_to(camera.pose[:3, 3], directions.shape)
        return np.concatenate([origins, directions], axis=1).astype(np.float32)


def _progress(steps):
    """A bar for what takes long, where tqdm is installed."""
    try:
        from tqdm import tqdm
    except ImportError:  # a device has NumPy, Pillow and LiteRT only
        return steps
    return tqdm(steps, desc="Rendering", leave=False, disable=None)
