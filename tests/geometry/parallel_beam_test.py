"""The NumPy side of tomography: the projection."""

import numpy as np
import pytest
import tensorflow as tf

from tfmetainit.forward_models.parallel_beam import ParallelBeam
from tfmetainit.geometry import parallel_beam


@pytest.mark.parametrize("interpolation", parallel_beam.INTERPOLATIONS)
@pytest.mark.parametrize("side", [16, 33])
def test_numpy_projects_as_tensorflow(interpolation, side):
    """Multiples of 45 degrees included, where pixels are halfway."""
    image = np.random.default_rng(0).random((side, side), np.float32)
    angles = np.float32(np.radians([0, 10, 45, 90, 135, 180, 300]))
    beam = ParallelBeam(side, interpolation)
    expected = beam.project(tf.constant(image.ravel()), tf.constant(angles))
    np.testing.assert_allclose(
        parallel_beam.project(image, angles, interpolation), expected, atol=1e-6
    )
