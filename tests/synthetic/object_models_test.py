"""Chairs, lamps and cars: within the picture, and of many shapes."""

import numpy as np
import pytest

from tfmetainit.geometry import cameras
from tfmetainit.synthetic import object_models


@pytest.mark.parametrize("name", object_models.MODELS)
def test_models_fit_into_the_picture(name):
    for seed in range(4):
        rng = np.random.default_rng(seed)
        solids = object_models.draw_object(name, rng)
        (pose,) = object_models.draw_poses(rng, 1)
        view = object_models.render_view(solids, pose, 32)
        assert view.shape == (32, 32, 4)
        opaque = view[..., 3] > 0
        assert 0.03 < opaque.mean() < 0.6
        border = np.concatenate([opaque[[0, -1]].ravel(), opaque[:, 0]])
        assert not border.any()


def test_models_are_diverse():
    pictures = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        solids = object_models.draw_object("chairs", rng)
        view = object_models.render_view(solids, cameras.orbit(0.6, 0.4), 16)
        pictures.append(view / 255.0)
    spread = np.std(pictures, axis=0)
    assert spread[..., 3].max() > 0.3  # shapes
    assert spread[..., :3].max() > 0.2  # colours
