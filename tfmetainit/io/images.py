"""Images from outside, and pictures written so that none is half there.

Imports neither TensorFlow nor Keras. What a file announces is checked before a
pixel of it is decoded.
"""

import pathlib
import struct
import warnings

import numpy as np
from PIL import ExifTags, Image

from tfmetainit.io import files
from tfmetainit.io.errors import InputError, reason

# Formats whose decoders are Pillow's own: no interpreters, no subprocesses.
IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
IMAGE_SUFFIXES = frozenset(
    [".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"]
)
# Far above any photograph; a decompression bomb is refused by its header.
MAX_IMAGE_PIXELS = 100_000_000

_MODES_8BIT = ("1", "L", "LA", "P", "PA", "CMYK", "YCbCr")
_MODES_8BIT += ("RGB", "RGBA", "RGBX")
# By the orientation tag; 1 is upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Tags of TIFF.
_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339
_MODES_16BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_GAP = 2  # pixels between the images of a grid


def write_image(path, image):
    """Writes a float or uint8 image atomically; the suffix sets the format.

    Args:
        path: ends in .png, .jpg, .jpeg, .webp, .bmp, .gif, .tif, .tiff or .ppm.
        image: `[height, width, 1 or 3]`, floats in [0, 1] (clipped) or uint8.

    Raises:
        InputError: if the path is not valid, or the format has no such size.
    """
    image = np.asarray(image)
    if image.dtype != np.uint8:
        image = np.uint8(np.round(255.0 * np.clip(image, 0.0, 1.0)))
    if image.shape[-1] == 1:
        image = image[..., 0]
    check_image_suffix(path)
    with files.atomic_path(path) as temporary:
        try:
            Image.fromarray(image).save(temporary)
        # A format's own limits; an OSError of the system has a number.
        except (ValueError, OverflowError, OSError, struct.error) as error:
            if getattr(error, "errno", None) is not None:
                raise
            raise InputError(
                f"A picture of {image.shape[1]} x {image.shape[0]} cannot be "
                f"written as {pathlib.Path(path).suffix}: {error}."
            ) from error


def check_image_suffix(path):
    """Raises InputError unless an image can be written to a file so named."""
    suffix = pathlib.Path(path).suffix.lower()
    Image.init()
    if Image.EXTENSION.get(suffix) not in IMAGE_FORMATS:
        raise InputError(
            "An output picture must end in .png, .jpg, .webp, .bmp, .gif, "
            f".tiff or .ppm. Received: {path}"
        )


def read_image(path, upright: bool = True) -> np.ndarray:
    """Reads an image file as RGB.

    Grey images are repeated over the channels, transparent ones composited on
    white, and a camera's orientation tag is applied. Of an animation, the first
    frame is taken.

    Args:
        path: a PNG, JPEG, WebP, BMP, GIF, TIFF or PPM file of at most 100
            megapixels; 8 bits a channel, or 16-bit grey.
        upright: whether the orientation tag is applied.

    Returns:
        float32 `[height, width, 3]` in [0, 1].

    Raises:
        InputError: with one sentence saying what is wrong with the file.
    """
    path = pathlib.Path(path)
    try:
        if path.is_dir():
            raise InputError(
                f"An image file is needed, but {path} is a folder."
            )
        if not path.exists():
            raise InputError(f"There is no file {path}.")
        if path.stat().st_size == 0:
            raise InputError(f"The image file {path} is empty.")
        # Pillow warns of large images and raises for huge ones; ours is the
        # one limit, checked on the header before a pixel is decoded.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=IMAGE_FORMATS) as image:
                width, height = image.size
                if width * height > MAX_IMAGE_PIXELS:
                    raise InputError(
                        f"An image may have at most {MAX_IMAGE_PIXELS} pixels. "
                        f"Received: {path} of {width} x {height}"
                    )
                image.load()
                inverted = False
                if image.format == "TIFF":
                    inverted = _check_tiff(image, path)
                if upright:
                    image = _upright(image)
                rgb = _to_rgb(image, path)
                return 1.0 - rgb if inverted else rgb
    except InputError:
        raise
    except Image.UnidentifiedImageError as error:
        raise InputError(
            f"{path} is not an image that can be read; the formats are "
            f"{', '.join(IMAGE_FORMATS)}."
        ) from error
    except Image.DecompressionBombError as error:
        raise InputError(
            f"An image may have at most {MAX_IMAGE_PIXELS} pixels. Received: "
            f"{path}, which has more"
        ) from error
    # Damaged files make Pillow's decoders raise errors of any kind.
    except Exception as error:
        raise InputError(
            f"The image file {path} cannot be decoded: {reason(error)}."
        ) from error


def _check_tiff(image, path):
    """Whether Pillow left the values of a decoded TIFF file inverted.

    It takes some numbers for others: signed ones for unsigned, and of 12 bits
    for 16.
    """
    bits = set(image.tag_v2.get(_BITS_PER_SAMPLE, (1,)))
    signs = set(image.tag_v2.get(_SAMPLE_FORMAT, (1,)))
    if not bits <= {1, 2, 4, 8, 16} or signs != {1}:
        raise InputError(
            "A TIFF image must have unsigned whole numbers of 1, 2, 4, 8 or 16 "
            f"bits. Received: {path} of {sorted(bits)} bits and the sample "
            f"format {sorted(signs)}"
        )
    return image.mode in _MODES_16BIT and image.tag_v2.get(_PHOTOMETRIC) == 0


def _upright(image):
    """The image as its camera's orientation tag says.

    Not `ImageOps.exif_transpose`, which writes all tags anew and fails if one
    of them is odd.
    """
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # damaged tags are no part of the picture
        orientation = None
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def _to_rgb(image, path):
    """A decoded Pillow image as float32 RGB in [0, 1]."""
    if image.mode in _MODES_16BIT:
        grey = np.asarray(image).astype(np.float32) / 65535.0
        if grey.min() < 0.0 or grey.max() > 1.0:
            raise InputError(
                "A grey image must have 8 or 16 bits a pixel. Received: "
                f"{path} with values from {np.asarray(image).min()} to "
                f"{np.asarray(image).max()}"
            )
        transparent = image.info.get("transparency")
        if isinstance(transparent, int):  # a value, in PNG files
            grey[np.asarray(image) == transparent] = 1.0
        return np.repeat(grey[..., None], 3, axis=-1)
    if image.mode not in _MODES_8BIT:
        raise InputError(
            "An image must be grey, RGB or RGBA with 8 bits a channel, or "
            f"16-bit grey. Received: {path} of Pillow mode {image.mode!r}"
        )
    if "A" in image.mode or "transparency" in image.info:
        rgba = np.asarray(image.convert("RGBA")).astype(np.float32) / 255.0
        alpha = rgba[..., 3:]
        return rgba[..., :3] * alpha + (1.0 - alpha)
    return np.asarray(image.convert("RGB")).astype(np.float32) / 255.0


def grid(rows) -> np.ndarray:
    """Pictures in rows and columns, with a white gap between them.

    Args:
        rows: lists of images `[height, width, 3]` of one size, in [0, 1].

    Returns:
        float array `[grid height, grid width, 3]`, clipped to [0, 1].
    """
    height, width, _ = np.shape(rows[0][0])
    columns = max(len(row) for row in rows)
    canvas = np.ones(
        [
            len(rows) * (height + _GAP) - _GAP,
            columns * (width + _GAP) - _GAP,
            3,
        ],
        np.float32,
    )
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            top, left = i * (height + _GAP), j * (width + _GAP)
            canvas[top : top + height, left : left + width] = np.clip(
                image, 0.0, 1.0
            )
    return canvas


def save_film(path, frames, milliseconds=80, scale=3):
    """Saves a film as a GIF that repeats itself.

    Args:
        path: the file, replaced atomically.
        frames: images `[height, width, 3]` of one size, in [0, 1].
        milliseconds: how long one is shown.
        scale: side of the square that a pixel is drawn as.
    """
    first, *others = (
        Image.fromarray(
            np.uint8(np.round(255.0 * np.clip(frame, 0.0, 1.0)))
            .repeat(scale, axis=0)
            .repeat(scale, axis=1)
        )
        for frame in frames
    )
    with files.atomic_path(path) as temporary:
        first.save(
            temporary,
            format="GIF",
            save_all=True,
            append_images=others,
            duration=milliseconds,
            loop=0,
        )
