"""Classical reconstructions from projections."""

import numpy as np
import pytest
import skimage.data
import skimage.transform

from tfmetainit.geometry import metrics, parallel_beam, reconstruction


def _psnr(image, expected):
    return metrics.psnr_from_mse(np.mean((image - expected) ** 2))


@pytest.mark.parametrize("side", [64, 65])
def test_filtered_back_projection_of_many_projections(side):
    """With two projections for each detector, the image comes back."""
    phantom = skimage.transform.resize(
        skimage.data.shepp_logan_phantom(), (side, side), anti_aliasing=True
    )
    angles = parallel_beam.even_angles(2 * side)
    sinogram = parallel_beam.project(phantom, angles, "bilinear")
    image = reconstruction.filtered_back_projection(sinogram, angles)
    psnr = metrics.psnr_from_mse(np.mean((image - phantom) ** 2))
    shifted = np.roll(phantom, 1, axis=0)
    assert psnr > 24.0
    # If the centres were half a pixel apart, a shift would matter less.
    assert psnr > metrics.psnr_from_mse(np.mean((image - shifted) ** 2)) + 4.0


def _blocks(side):
    """An image of few edges, which total variation is meant for."""
    image = np.zeros([side, side], np.float32)
    image[side // 4 : side // 2, side // 3 : 3 * side // 4] = 0.5
    image[side // 2 : 3 * side // 4, side // 4 : side // 2] = 1.0
    return image


@pytest.mark.parametrize("side", [32, 33])
def test_methods_of_few_projections(side):
    """The centres agree, and the better the prior, the better the image."""
    image = _blocks(side)
    angles = parallel_beam.even_angles(8)
    sinogram = parallel_beam.project(image, angles, "bilinear")
    psnrs = []
    for method in (
        reconstruction.filtered_back_projection,
        reconstruction.sart,
        reconstruction.total_variation,
    ):
        found = method(sinogram, angles)
        assert found.shape == (side, side)
        assert 0.0 <= found.min() <= found.max() <= 1.0
        psnrs.append(_psnr(found, image))
        # Half a pixel off in a direction, a neighbour would be as near.
        for shift in ((0, 1), (0, -1), (1, 0), (-1, 0)):
            shifted = np.roll(image, shift, axis=(0, 1))
            assert _psnr(found, image) > _psnr(found, shifted) + 1.0
    assert psnrs[0] + 3.0 < psnrs[1]
    assert psnrs[1] + 3.0 < psnrs[2]


def test_the_matrix_is_the_projection():
    angles = np.float32(np.radians([0, 10, 45, 90, 200]))
    image = np.random.default_rng(0).random((9, 9), np.float32)
    matrix = reconstruction._matrix(9, angles)
    np.testing.assert_allclose(
        (matrix @ image.ravel()).reshape(5, 9),
        parallel_beam.project(image, angles, "bilinear"),
        atol=1e-6,
    )
