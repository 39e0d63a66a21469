"""Readers of COLMAP's sparse models, text and binary.

pycolmap (4.2.1) is not used: it trusts the counts in a truncated or hostile
file and hangs. The readers here allocate no more than the file holds.

A lens is a tuple `(focal, principal_point, size)`: focal lengths (x, y) in
pixels; principal point (column, row) in pixels, where the centre of the first
pixel is (0, 0); and size (height, width) in pixels.
"""

import struct

import numpy as np

from tfmetainit.io import files
from tfmetainit.io.errors import InputError

MAX_MODEL_BYTES = 2**31
# COLMAP's camera models by their number in binary files: name and number of
# parameters. Only the first two have no lens distortion.
_MODELS = {
    0: ("SIMPLE_PINHOLE", 3),
    1: ("PINHOLE", 4),
    2: ("SIMPLE_RADIAL", 4),
    3: ("RADIAL", 5),
    4: ("OPENCV", 8),
    5: ("OPENCV_FISHEYE", 8),
    6: ("FULL_OPENCV", 12),
    7: ("FOV", 5),
    8: ("SIMPLE_RADIAL_FISHEYE", 4),
    9: ("RADIAL_FISHEYE", 5),
    10: ("THIN_PRISM_FISHEYE", 12),
}


def _lens(path, model, width, height, parameters):
    """Focal lengths, principal point and size of one camera."""
    if model not in ("SIMPLE_PINHOLE", "PINHOLE"):
        raise InputError(
            "Cameras must be PINHOLE or SIMPLE_PINHOLE, without lens "
            "distortion. Run colmap image_undistorter first. Received: "
            f"{model} in {path}"
        )
    *focal, column, row = parameters
    if (
        len(parameters) != dict(_MODELS.values())[model]
        or not np.isfinite(parameters).all()
        or not min(focal) > 0.0
        or not (width > 0 and height > 0)
    ):
        raise InputError(
            "A camera must have a positive size, positive focal lengths and a "
            f"principal point. Received: {model} {width} {height} "
            f"{' '.join(f'{p:g}' for p in parameters)} in {path}"
        )
    # COLMAP has the corner of the first pixel at 0, and its centre at 0.5.
    return (
        np.array([focal[0], focal[-1]]),
        np.array([column, row]) - 0.5,
        (height, width),
    )


class TextFile:
    """One file of a sparse model in COLMAP's text format.

    Every method raises an InputError that names the file if it is damaged.
    """

    def __init__(self, path):
        self._path = path
        files.check_size(path, MAX_MODEL_BYTES)

    def _lines(self):
        """Yields the words of each line that is not a comment."""
        try:
            with open(self._path, encoding="utf-8") as file:
                for line in file:
                    if not line.startswith("#"):
                        yield line.split()
        except (OSError, UnicodeDecodeError) as error:
            raise self._damaged("it cannot be read as text") from error

    def _damaged(self, reason):
        return InputError(
            f"The sparse model's file {self._path} is damaged: {reason}."
        )

    def cameras(self) -> dict[int, tuple]:
        """Reads a file of cameras: lenses by camera number."""
        cameras = {}
        for words in self._lines():
            if not words:
                continue
            try:
                index, width, height = int(words[0]), *map(int, words[2:4])
                parameters = [float(word) for word in words[4:]]
                model = words[1]
            except (IndexError, ValueError) as error:
                raise self._damaged(f"{' '.join(words)[:80]!r}") from error
            cameras[index] = _lens(self._path, model, width, height, parameters)
        return cameras

    def images(self):
        """Reads a file of images: name, camera, pose and points of each.

        Yields:
            `(name, camera_id, rotation, translation, seen)`. The rotation, a
            quaternion `[4]` (w, x, y, z), and the translation `[3]` map world
            to camera coordinates. `seen` lists the numbers of the points that
            the image sees, -1 where a feature has no point.
        """
        lines = self._lines()
        for words in lines:
            if not words:
                continue
            try:
                numbers = np.array([float(word) for word in words[1:8]])
                camera_id, name = int(words[8]), " ".join(words[9:])
                # Each feature: column, row, and number of its point or -1.
                seen = [int(word) for word in next(lines, [])[2::3]]
                rotation, translation = numbers[:4], numbers[4:7]
            except (IndexError, ValueError) as error:
                raise self._damaged(f"{' '.join(words)[:80]!r}") from error
            if not name or not np.isfinite(numbers).all():
                raise self._damaged(f"{' '.join(words)[:80]!r}")
            yield name, camera_id, rotation, translation, seen

    def points(self) -> dict[int, list[float]]:
        """Reads a file of points: positions `[3]` by point number."""
        points = {}
        for words in self._lines():
            if not words:
                continue
            try:
                position = [float(word) for word in words[1:4]]
                points[int(words[0])] = position
            except (IndexError, ValueError) as error:
                raise self._damaged(f"{' '.join(words)[:80]!r}") from error
            if len(position) != 3 or not np.isfinite(position).all():
                raise self._damaged(f"{' '.join(words)[:80]!r}")
        return points


class BinaryFile:
    """One file of a sparse model in COLMAP's binary format.

    Every method raises an InputError that names the file if it is damaged.
    """

    def __init__(self, path):
        self._path = path
        files.check_size(path, MAX_MODEL_BYTES)
        try:
            self._data = path.read_bytes()
        except OSError as error:
            raise InputError(
                f"Cannot read {path}: {error.strerror}."
            ) from error
        self._at = 0

    def _damaged(self):
        return InputError(
            f"The sparse model's file {self._path} is damaged: it ends too "
            "early, or holds NaN or infinity."
        )

    def _take(self, layout):
        """Reads the next numbers; `layout` is that of `struct`."""
        try:
            numbers = struct.unpack_from(f"<{layout}", self._data, self._at)
        except struct.error as error:
            raise self._damaged() from error
        self._at += struct.calcsize(f"<{layout}")
        return numbers

    def _skip(self, size):
        if self._at + size > len(self._data):
            raise self._damaged()
        self._at += size

    def cameras(self) -> dict[int, tuple]:
        """Reads a file of cameras: lenses by camera number."""
        cameras = {}
        for _ in range(*self._take("Q")):
            index, number, width, height = self._take("iiQQ")
            if number not in _MODELS:
                raise InputError(
                    f"{self._path} has a camera of the unknown model {number}."
                )
            model, count = _MODELS[number]
            parameters = self._take(f"{count}d")
            cameras[index] = _lens(self._path, model, width, height, parameters)
        return cameras

    def images(self):
        """Reads a file of images; yields the same as `TextFile.images`."""
        for _ in range(*self._take("Q")):
            numbers = np.array(self._take("x" * 4 + "7d"))
            (camera_id,) = self._take("i")
            end = self._data.find(b"\0", self._at)
            if end < 0 or not np.isfinite(numbers).all():
                raise self._damaged()
            name = self._data[self._at : end].decode("utf-8", "replace")
            self._at = end + 1
            (count,) = self._take("Q")
            start = self._at
            self._skip(24 * count)
            seen = np.frombuffer(
                self._data,
                np.dtype([("position", "<f8", 2), ("point", "<i8")]),
                count,
                start,
            )["point"]
            yield name, camera_id, numbers[:4], numbers[4:], seen.tolist()

    def points(self) -> dict[int, list[float]]:
        """Reads a file of points: positions `[3]` by point number."""
        points = {}
        for _ in range(*self._take("Q")):
            index, *position = self._take("Q3d")
            if not np.isfinite(position).all():
                raise self._damaged()
            points[index] = position
            self._skip(11)  # its colour and error
            (length,) = self._take("Q")
            self._skip(8 * length)
        return points
