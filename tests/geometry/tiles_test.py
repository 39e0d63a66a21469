"""Pictures in overlapping tiles."""

import numpy as np
import pytest

from tfmetainit.geometry import tiles


@pytest.mark.parametrize(
    ("height", "width", "count"),
    [(16, 16, 1), (5, 16, 1), (17, 16, 2), (28, 16, 2), (29, 100, 3 * 8)],
)
def test_the_fewest_tiles_cover_every_pixel(height, width, count):
    cover = tiles.cover(height, width, side=16, overlap=4)
    seen = np.zeros((height, width), int)
    for tile in cover:
        part = tile.of(seen)
        assert part.shape == (min(16, height), min(16, width))
        part += 1
    assert len(cover) == count
    assert seen.min() == 1


@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_row_of_tiles_overlaps_by_as_much_as_asked(count):
    width = tiles.length_of(count, side=16, overlap=4)
    lefts = [tile.left for tile in tiles.cover(16, width, 16, 4)]
    assert lefts == [12 * index for index in range(count)]


@pytest.mark.parametrize("scale", [1, 3])
def test_a_mosaic_of_parts_is_the_whole(scale):
    height, width = 29, 45
    image = np.random.default_rng(0).random((scale * height, scale * width, 3))
    cover = tiles.cover(height, width, 16, 4)
    mosaic = tiles.Mosaic(cover, 4, scale)
    for tile in cover:
        mosaic.add(tile, tile.of(image, scale))
    np.testing.assert_allclose(mosaic.image(), image, atol=1e-6)


def test_an_overlap_goes_over_linearly():
    cover = tiles.cover(8, 12, side=8, overlap=4)
    mosaic = tiles.Mosaic(cover, 4)
    for value, tile in enumerate(cover):
        mosaic.add(tile, np.full((8, 8, 3), value))
    row = mosaic.image()[3, :, 0]
    expected = [0, 0, 0, 0, 0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1]
    np.testing.assert_allclose(row, expected, atol=1e-6)
