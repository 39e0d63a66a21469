"""Rendered text: its TFDS builder, and what it draws."""

import pathlib

import numpy as np
import tensorflow_datasets as tfds

from tfmetainit.signals import text
from tfmetainit.signals.base.generated import GeneratedConfig


class _GeneratedCase(tfds.testing.DatasetBuilderTestCase):
    SPLITS = {"validation": 6}
    BUILDER_CONFIG_NAMES_TO_TEST = [GeneratedConfig(16, "validation", 6)]
    SKIP_CHECKSUMS = True
    EXAMPLE_DIR = str(pathlib.Path(__file__).parent)  # nothing is read
    __test__ = False

    def test_tags_are_valid(self):
        self.skipTest("only data sets inside TFDS have tags")


class RenderedTextTest(_GeneratedCase):
    DATASET_CLASS = text.RenderedText
    __test__ = True


def _draw(draw, count, resolution=32, seed=0):
    return np.stack(
        [
            draw(np.random.default_rng([seed, i]), resolution)
            for i in range(count)
        ]
    )


def test_text_is_visible():
    images_of_text = _draw(text.render_text, 50, 64)
    spread = images_of_text.reshape(50, -1, 3).std(axis=1).max(axis=1)
    assert np.median(spread) > 20
