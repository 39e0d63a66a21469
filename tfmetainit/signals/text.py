"""Rendered text: random strings in random sizes, colours and positions.

The paper has such a class (Tancik et al. 2021, section 4.1) but does not say
how its strings were drawn. The ranges below are this package's own. Over 300
signals at 64 x 64 the class's mean image scores 12.4 dB and each signal's own
mean colour 19.1 dB (tests/signals/base/generated_test.py).
"""

import functools
import string

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tfmetainit.signals.base.generated import (
    GeneratedImages,
    make_generated_class,
)

_ALPHABET = string.ascii_letters + string.digits + "!?&@#$%+="
# RMS distance of a text's colour from the background; less is hard to see.
_MIN_CONTRAST = 0.35


@functools.lru_cache(maxsize=256)
def _font(size):
    """Pillow's embedded scalable font at `size` pixels."""
    return ImageFont.load_default(size)


def _color(rng):
    return rng.uniform(0.0, 1.0, 3)


def _contrasting_color(rng, background):
    """A random colour at a distance from `background` (RMS over channels)."""
    while True:
        color = _color(rng)
        if np.sqrt(np.mean((color - background) ** 2)) >= _MIN_CONTRAST:
            return color


def _gradient(rng, resolution):
    """A background `[resolution, resolution, 3]`: flat, or a linear ramp."""
    start = _color(rng)
    end = start if rng.random() < 0.5 else _color(rng)
    angle = rng.uniform(0.0, 2.0 * np.pi)
    axis = np.linspace(-0.5, 0.5, resolution)
    ramp = np.cos(angle) * axis[:, None] + np.sin(angle) * axis[None, :]
    weight = (ramp / np.abs(ramp).max() + 1.0)[..., None] / 2.0
    return (1.0 - weight) * start + weight * end


def render_text(rng: np.random.Generator, resolution: int) -> np.ndarray:
    """Draws one signal.

    One to four strings of 2 to 8 characters lie on a flat or graded background.
    Each string has its own colour, a height between an eighth and a third of
    the image, and a random centre.

    Args:
        rng: the source of all randomness.
        resolution: side of the image in pixels, at least 8.

    Returns:
        uint8 RGB image `[resolution, resolution, 3]`.
    """
    background = _gradient(rng, resolution)
    image = Image.fromarray(np.uint8(np.round(255.0 * background)))
    draw = ImageDraw.Draw(image)
    for _ in range(rng.integers(1, 5)):
        text = "".join(rng.choice(list(_ALPHABET), rng.integers(2, 9)))
        size = max(4, round(resolution * rng.uniform(1 / 8, 1 / 3)))
        center = rng.uniform(0.1, 0.9, 2) * resolution
        row, column = np.int64(center)
        color = _contrasting_color(rng, background[row, column])
        draw.text(
            (center[1], center[0]),
            text,
            font=_font(size),
            fill=tuple(int(c) for c in np.round(255.0 * color)),
            anchor="mm",
        )
    return np.asarray(image)


class RenderedText(GeneratedImages):
    """Random strings in random sizes, colours and positions."""

    draw = staticmethod(render_text)


def make_signal_class(**options):
    """The text class; options as in `generated.make_generated_class`."""
    return make_generated_class(RenderedText, **options)
