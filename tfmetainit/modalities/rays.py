"""Objects and landmarks, observed through the rays of pictures."""

import math
import pathlib

import numpy as np

from tfmetainit.geometry import cameras, pixels
from tfmetainit.geometry.cameras import Camera
from tfmetainit.io import images
from tfmetainit.io.errors import InputError, check_range
from tfmetainit.io.progress import progress
from tfmetainit.modalities.modality import (
    MAX_RESOLUTION,
    Modality,
    Sample,
    parse_number,
)
from tfmetainit.modalities.readers import photo_collections, scenes

# Batches of random rays that a fit takes in turn.
_RAY_BATCHES = 64
_RAYS_AT_ONCE = 2**14
# A fit keeps `_RAY_BATCHES` times the samples of a step in memory.
_MAX_RAYS = 2**18
_MAX_SAMPLES = 2**20
# Largest number of rays on which a fit is scored.
_MAX_SCORED_RAYS = 2**14


class _RayModality(Modality):
    """Base of the modalities that are observed through rays."""

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
        """A sample of random rays in batches, scored on all or many rays."""
        # Seeded: the same file gives the same fit.
        rng = np.random.default_rng(0)
        shape = (_RAY_BATCHES, self.rays_per_step)
        chosen = rng.integers(0, len(rays), shape)
        within = rng.random((*shape, self.num_samples), np.float32)
        depths = self._depths(bounds, within)
        scored = slice(None)
        if len(rays) > _MAX_SCORED_RAYS:
            scored = rng.choice(len(rays), _MAX_SCORED_RAYS, replace=False)
        return Sample(
            np.concatenate([rays[chosen], depths], axis=-1),
            colors[chosen],
            self._with_depths(rays[scored], bounds),
            colors[scored],
        )

    def _draw(self, predict, camera, bounds, height, width):
        """Renders the picture of a camera, some rows at a time."""
        rays = _rays(camera, cameras.pixel_grid(height, width))
        return self._draw_rays(predict, rays, bounds, height, width)

    def _draw_rays(self, predict, rays, bounds, height, width):
        rows = max(1, _RAYS_AT_ONCE // width)
        parts = [
            predict(
                self._with_depths(rays[start : start + rows * width], bounds)
            )
            for start in progress(
                range(0, len(rays), rows * width), "Rendering"
            )
        ]
        return np.concatenate(parts).reshape(height, width, 3)

    def _with_depths(self, rays, bounds):
        depths = np.tile(self._depths(bounds, 0.0), [len(rays), 1])
        return np.concatenate([rays, depths], axis=-1)

    def _depths(self, bounds, within):
        return np.float32(
            cameras.stratified_depths(*bounds, self.num_samples, within)
        )


class ObjectModality(_RayModality):
    """Objects on white, observed through the rays of their views.

    Args:
        resolution: side of the views in pixels.
        angle: field of view of a square view in radians; a scene states its
            own.
        near: depth of the first sample of a ray.
        far: end of the interval of the last sample.
        num_samples: number of samples of a ray.
        rays_per_step: number of rays of a gradient step.
        camera_scale: factor of all lengths in files of poses.
    """

    name = "views"
    details = ("pose", "camera_scale")
    example = "--input=chair.png --pose=30,20"

    def __init__(
        self,
        resolution: int,
        angle: float,
        near: float,
        far: float,
        num_samples: int,
        rays_per_step: int,
        camera_scale: float = 1.0,
    ):
        super().__init__(resolution, num_samples, rays_per_step)
        check_range("angle", angle, 1e-3, 3.14)
        check_range("camera_scale", camera_scale, 1e-6, 1e6)
        if not 0.0 < near < far:
            raise InputError(
                "`near` and `far` must satisfy 0 < near < far. Received: "
                f"near={near}, far={far}"
            )
        self.angle = angle
        self.bounds = (near, far)
        self.camera_scale = camera_scale

    def describe(self):
        near, far = self.bounds
        return {
            **super().describe(),
            "angle": self.angle,
            "near": near,
            "far": far,
            "camera_scale": self.camera_scale,
        }

    @property
    def distance(self) -> float:
        """Distance of cameras on an orbit, the middle of the bounds."""
        return 0.5 * sum(self.bounds)

    def read(
        self, path, pose: str | None = None, camera_scale: str | None = None
    ):
        """Reads a picture with its pose, or a scene of several.

        Args:
            path: the picture, or a scene's JSON file or folder
                (`readers.scenes`).
            pose: the pose of a picture (`scenes.parse_pose`), or None.
            camera_scale: factor of all lengths in a file of poses; by default
                that of the class.

        Raises:
            InputError: if a file or the pose is not valid, or does not fit.
        """
        scale = self.camera_scale
        if camera_scale is not None:
            scale = parse_number("camera_scale", camera_scale, 1e-6, 1e6)
        side, name = self.resolution, path
        if pathlib.Path(path).is_dir() or str(path).lower().endswith(".json"):
            if pose is not None:
                raise InputError(
                    "`pose` must not be given with a scene, which holds its "
                    f"own poses. Received: pose={pose} with {path}"
                )
            pictures, camera = scenes.read_scene(scenes.open_scene(path), side)
        else:
            if pose is None:
                raise InputError(
                    "A picture of an object needs `pose`, the azimuth and "
                    "elevation of its camera in degrees. Received: "
                    f"{path} without a pose"
                )
            if pose.lower().endswith(".npy"):
                name = pose
            elif camera_scale is None:
                scale = 1.0  # angles have no length
            pictures, camera = scenes.read_picture(
                path,
                scenes.parse_pose(pose, self.distance)[None],
                self.angle,
                side,
            )
        poses = scenes.scale_cameras(camera.pose, scale, self.bounds, name)
        grid = cameras.pixel_grid(side, side)
        rays = [_rays(camera._replace(pose=p), grid) for p in poses]
        return self._sample(
            np.concatenate(rays), pictures.reshape(-1, 3), self.bounds
        )

    def render(self, predict, height, width, camera=None):
        """Four novel views side by side: quarter turns, seen from above."""
        parts = []
        for azimuth in range(0, 360, 90):
            pose = cameras.orbit(
                math.radians(azimuth), math.radians(25.0), self.distance
            )
            # The field of view is that of the shorter side.
            focal = cameras.focal_length(min(height, width), self.angle)
            camera = Camera(
                pose, np.array([focal] * 2), np.array([width, height]) / 2
            )
            parts.append(
                self._draw(predict, camera, self.bounds, height, width)
            )
        return np.concatenate(parts, axis=1)


class LandmarkModality(_RayModality):
    """A landmark, observed through the rays of one photograph.

    Args:
        resolution: side of the squares that photographs are cropped and
            resized to.
        scale: factor of all lengths in a collection's cameras.
        num_samples: number of samples of a ray.
        rays_per_step: number of rays of a gradient step.
    """

    name = "landmark"
    details = ("cameras",)
    needs_camera = True
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
        """Reads a photograph; its camera is looked up by the file's name.

        Args:
            path: the picture.
            cameras: folder of the photograph's collection
                (`photo_collections.read_collection`).

        Raises:
            InputError: if a file is not valid, or the camera is not found.
        """
        if cameras is None:
            raise InputError(
                "A photograph of a landmark needs `cameras`, the folder of its "
                "collection (a COLMAP model, or the authors' matrices). "
                f"Received: {path} without cameras"
            )
        collection = photo_collections.read_collection(cameras, self.scale)
        # The collection's own picture, or else those of the same name.
        path = pathlib.Path(path)
        same = [p for p in collection if p.resolve() == path.resolve()]
        named = same or [p for p in collection if p.name == path.name]
        if not named:
            raise InputError(
                f"`cameras` must have a camera for {path.name}. Received: "
                f"{cameras} with those of {len(collection)} other pictures"
            )
        if len(named) > 1:
            raise InputError(
                f"`cameras` must have one picture named {path.name}, unless "
                "the file is one of its own pictures. Received: "
                f"{len(named)} of that name, among them {named[0]} and "
                f"{named[1]}"
            )
        image, photograph = self.square(path, collection[named[0]])
        side = self.resolution
        rays = self._rays_at(photograph.camera, side, side)
        sample = self._sample(rays, image.reshape(-1, 3), photograph.bounds)
        return sample._replace(camera=photograph)

    def square(self, path, photograph):
        """Reads the central square of a photograph, resized, with its camera.

        Args:
            path: the picture.
            photograph: its `photo_collections.Photograph`.

        Returns:
            float32 `[resolution, resolution, 3]` in [0, 1], and the
            `Photograph` of that square.

        Raises:
            InputError: if the picture cannot be read or has another size.
        """
        # The camera describes the pixels as stored, before they are turned.
        image = images.read_image(path, upright=False)
        height, width = image.shape[:2]
        if photograph.size not in (None, (height, width)):
            raise InputError(
                "A photograph must have the size that its camera states. "
                f"Received: {path} of {width} x {height} pixels, with a camera "
                f"of {photograph.size[1]} x {photograph.size[0]}"
            )
        side = self.resolution
        photograph = photograph._replace(
            camera=photograph.camera.of_square(height, width, side),
            size=(side, side),
        )
        return pixels.crop_and_resize(image, side), photograph

    def picture(self, values):
        """Values of a photograph, or of some of its columns, as an image."""
        image = np.reshape(values, [self.resolution, -1, np.shape(values)[-1]])
        return np.broadcast_to(image, [*image.shape[:2], 3])

    def render(self, predict, height, width, camera=None):
        """The landmark from the photograph's camera, in its light."""
        rays = self._rays_at(camera.camera, height, width)
        return self._draw_rays(predict, rays, camera.bounds, height, width)

    def _rays_at(self, camera, height, width):
        """Rays of the camera's square at another size, `[height * width, 6]`.

        The areas of the `height` x `width` pixels divide the square evenly.
        """
        shrink = self.resolution / np.array([height, width])
        grid = (cameras.pixel_grid(height, width) + 0.5) * shrink - 0.5
        return _rays(camera, grid)


def _rays(camera, grid):
    """Origins and directions of pixels `[n, 2]`: float32 `[n, 6]`."""
    return np.concatenate(cameras.pixel_rays(grid, camera), axis=-1).astype(
        np.float32
    )
