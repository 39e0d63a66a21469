r"""Photographs for benchmarks/quality.py, from a Debian package.

    apt-get download gcompris-qt-data  # 3.1-2, of Debian 12
    dpkg -x gcompris-qt-data_*.deb gcompris
    python benchmarks/photographs.py --input=gcompris --output_dir=photos

The game GCompris contains about a hundred photographs of animals and monuments
under free licences (the package's file `copyright` names them). This script
extracts them from the game's resource files and splits them. The 20 test and 8
validation photographs are cropped to their largest centred squares. The others
are for training: squares of random size and place, half of them mirrored. All
are scaled to 178 x 178.
"""

import io
import pathlib
import random

from absl import flags
from PIL import Image, ImageOps

from tfmetainit import cli
from tfmetainit.io import files
from tfmetainit.io.errors import InputError

_FLAGS = flags.FLAGS
flags.DEFINE_string("input", None, "Folder with the package's .rcc files.")
flags.DEFINE_string("output_dir", "photos", "Folder of the images.")
flags.DEFINE_integer("resolution", 178, "Side of the images in pixels.")
flags.DEFINE_integer("num_crops", 16, "Squares per training photograph.")

# The activities whose pictures are photographs.
_ACTIVITIES = (
    "erase",
    "explore_farm_animals",
    "explore_monuments",
    "explore_world_animals",
    "explore_world_music",
)
_NUM_TEST = 20
_NUM_VALIDATION = 8
_MIN_SIDE = 380
_MIN_BYTES = 30_000  # flat drawings are smaller


def _photographs(path):
    """Decodes the WebP files that a resource file holds uncompressed."""
    data = path.read_bytes()
    start = data.find(b"RIFF")
    while start >= 0:
        size = 8 + int.from_bytes(data[start + 4 : start + 8], "little")
        if data[start + 8 : start + 12] == b"WEBP" and size > _MIN_BYTES:
            image = Image.open(io.BytesIO(data[start : start + size]))
            if min(image.size) >= _MIN_SIDE:
                yield image.convert("RGB")
        start = data.find(b"RIFF", start + 4)


def _random_square(image, rng):
    """A random square with a side of half to all of the shorter side."""
    side = round(min(image.size) * 0.5 ** rng.random())
    left = rng.randint(0, image.width - side)
    top = rng.randint(0, image.height - side)
    square = image.crop((left, top, left + side, top + side))
    return ImageOps.mirror(square) if rng.random() < 0.5 else square


def main(argv):
    """Reads the photographs, splits them and writes the squares."""
    del argv
    if not _FLAGS.input:
        raise InputError("--input must name a folder. Received: none")
    found = sorted(pathlib.Path(_FLAGS.input).rglob("*.rcc"))
    found = [path for path in found if path.stem in _ACTIVITIES]
    if len(found) != len(_ACTIVITIES):
        raise InputError(
            "--input must hold the files "
            f"{', '.join(f'{name}.rcc' for name in _ACTIVITIES)}. Received: "
            f"{_FLAGS.input}, with {len(found)} of them"
        )
    images = [image for path in found for image in _photographs(path)]
    rng = random.Random(0)
    rng.shuffle(images)
    shape = (_FLAGS.resolution,) * 2
    for number, image in enumerate(images):
        if number < _NUM_TEST:
            split, squares = "test", [image]
        elif number < _NUM_TEST + _NUM_VALIDATION:
            split, squares = "validation", [image]
        else:
            split = "train"
            squares = [
                _random_square(image, rng) for _ in range(_FLAGS.num_crops)
            ]
        folder = files.make_folder(pathlib.Path(_FLAGS.output_dir) / split)
        for crop, square in enumerate(squares):
            square = ImageOps.fit(square, shape, Image.Resampling.LANCZOS)
            with files.atomic_path(
                folder / f"{number:03d}_{crop:02d}.png"
            ) as temporary:
                square.save(temporary, format="png")
    print(f"{len(images)} photographs in {_FLAGS.output_dir}")


if __name__ == "__main__":
    cli.run(main, __doc__)
