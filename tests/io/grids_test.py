"""Pictures side by side, and films."""

import numpy as np
from PIL import Image

from tfmetainit.io import images


def test_grid_places_pictures():
    black, grey = np.zeros((2, 3, 3)), np.full((2, 3, 3), 0.5)
    canvas = images.grid([[black, grey], [grey]])
    assert canvas.shape == (6, 8, 3)
    assert canvas[0, 0, 0] == 0.0
    assert canvas[0, 5, 0] == 0.5
    assert canvas[2].min() == 1.0  # the gap
    assert canvas[4, 0, 0] == 0.5
    assert canvas[4, 5, 0] == 1.0  # a short row


def test_a_film_keeps_its_frames(tmp_path):
    frames = [np.full([2, 3, 3], level) for level in (0.0, 0.4, 1.5)]
    images.save_film(tmp_path / "a.gif", frames, scale=4)
    with Image.open(tmp_path / "a.gif") as film:
        assert film.size == (12, 8)
        assert film.n_frames == 3
        assert film.info["loop"] == 0
        for index, level in enumerate((0, 102, 255)):
            film.seek(index)
            pixels = np.asarray(film.convert("RGB"), float)
            np.testing.assert_allclose(pixels, level, atol=3)
