"""Reads images with checks, and writes pictures atomically.

Imports neither TensorFlow nor Keras. The header of a file is checked before a
pixel is decoded.
"""

import pathlib
import struct
import warnings

import numpy as np
from PIL import ExifTags, Image

from tfmetainit.io import files
from tfmetainit.io.errors import InputError, reason

# Formats that Pillow decodes itself, without interpreters or subprocesses.
IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
IMAGE_SUFFIXES = frozenset(
    [
        ".bmp",
        ".gif",
        ".jpeg",
        ".jpg",
        ".pgm",
        ".png",
        ".ppm",
        ".tif",
        ".tiff",
        ".webp",
    ]
)
# Far above any photograph. The header of a decompression bomb exceeds it.
MAX_IMAGE_PIXELS = 100_000_000

_MODES_8BIT = ("1", "L", "LA", "P", "PA", "CMYK", "YCbCr")
_MODES_8BIT += ("RGB", "RGBA", "RGBX")
# By the value of the orientation tag; 1 is upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# TIFF tags.
_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339
_MODES_16BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_GAP = 2  # pixels between the images of a grid


def write_image(path, image):
    """Writes a float or uint8 image atomically; the suffix sets the format.

    Args:
        path: ends in .png, .jpg, .jpeg, .webp, .bmp, .gif, .tif, .tiff or .ppm.
        image: `[height, width, 1 or 3]`, floats in [0, 1] (clipped) or uint8.

    Raises:
        InputError: if the path is not valid, or the format cannot hold an image
            of this size.
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
        # Limits of the format; an OSError of the system has an errno.
        except (ValueError, OverflowError, OSError, struct.error) as error:
            if getattr(error, "errno", None) is not None:
                raise
            raise InputError(
                f"A picture of {image.shape[1]} x {image.shape[0]} cannot be "
                f"written as {pathlib.Path(path).suffix}: {error}."
            ) from error


def check_image_suffix(path):
    """Raises InputError unless the suffix of `path` is of a writable format."""
    suffix = pathlib.Path(path).suffix.lower()
    Image.init()
    if Image.EXTENSION.get(suffix) not in IMAGE_FORMATS:
        raise InputError(
            "An output picture must end in .png, .jpg, .webp, .bmp, .gif, "
            f".tiff or .ppm. Received: {path}"
        )


def read_image(path, upright: bool = True) -> np.ndarray:
    """Reads an image file as RGB.

    Grey images are repeated over the channels, transparent images are
    composited on white, and the camera's orientation tag is applied. An
    animation yields its first frame.

    Args:
        path: a PNG, JPEG, WebP, BMP, GIF, TIFF or PPM file of at most 100
            megapixels; 8 bits a channel, or 16-bit grey.
        upright: whether the orientation tag is applied.

    Returns:
        float32 `[height, width, 3]` in [0, 1].

    Raises:
        InputError: if the file is missing, too large, damaged, or not such an
            image.
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
        # Pillow warns about large images. The limit here is MAX_IMAGE_PIXELS,
        # checked on the header before a pixel is decoded.
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

    Raises InputError for TIFF files that Pillow misreads: it takes signed
    numbers for unsigned ones, and 12-bit numbers for 16-bit ones.
    """
    bits = set(image.tag_v2.get(_BITS_PER_SAMPLE, (1,)))
    signs = set(image.tag_v2.get(_SAMPLE_FORMAT, (1,)))
    too_deep = 16 in bits and image.mode not in _MODES_16BIT
    if not bits <= {1, 2, 4, 8, 16} or signs != {1} or too_deep:
        raise InputError(
            "A TIFF image must have unsigned whole numbers of 1, 2, 4 or 8 "
            f"bits, or be grey with 16 bits. Received: {path} of "
            f"{sorted(bits)} bits, the sample format {sorted(signs)} and the "
            f"mode {image.mode}"
        )
    return image.mode in _MODES_16BIT and image.tag_v2.get(_PHOTOMETRIC) == 0


def _upright(image):
    """Turns an image as its orientation tag says.

    `ImageOps.exif_transpose` is not used: it rewrites all tags and fails if one
    of them is malformed.
    """
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # the picture can be read without its tags
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
        if isinstance(transparent, int):  # the transparent grey value of a PNG
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
    """Arranges pictures in rows and columns, with white gaps between them.

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
    """Saves a film as a GIF that loops.

    Args:
        path: the file, replaced atomically.
        frames: images `[height, width, 3]` of one size, in [0, 1].
        milliseconds: duration of a frame.
        scale: factor by which frames are enlarged.
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
