"""The NumPy side of tomography: projection and reconstruction."""

import numpy as np
import pytest
import skimage.data
import skimage.transform
import tensorflow as tf

from tfmetainit.forward_models.parallel_beam import ParallelBeam
from tfmetainit.geometry import metrics, parallel_beam


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


@pytest.mark.parametrize("side", [64, 65])
def test_filtered_back_projection_of_many_projections(side):
    """With two projections for each detector, the image comes back."""
    phantom = skimage.transform.resize(
        skimage.data.shepp_logan_phantom(), (side, side), anti_aliasing=True
    )
    angles = parallel_beam.even_angles(2 * side)
    sinogram = parallel_beam.project(phantom, angles, "bilinear")
    image = parallel_beam.filtered_back_projection(sinogram, angles)
    psnr = metrics.psnr_from_mse(np.mean((image - phantom) ** 2))
    shifted = np.roll(phantom, 1, axis=0)
    assert psnr > 24.0
    # If the centres were half a pixel apart, a shift would matter less.
    assert psnr > metrics.psnr_from_mse(np.mean((image - shifted) ** 2)) + 4.0
