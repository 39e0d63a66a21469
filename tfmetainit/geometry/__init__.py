"""Geometry that training and devices share: pixels, projections, cameras.

May import: NumPy, Pillow, scikit-image, SciPy, `tfmetainit.io`. Runs without
TensorFlow and Keras; functions that say so take tensors as well as arrays.
"""

from tfmetainit.geometry.cameras import (
    Camera,
    focal_length,
    look_at,
    orbit,
    pixel_grid,
    pixel_rays,
    stratified_depths,
)
from tfmetainit.geometry.metrics import psnr_from_mse
from tfmetainit.geometry.parallel_beam import (
    even_angles,
    project,
    slice_coords,
)
from tfmetainit.geometry.pixels import (
    central_square,
    crop_and_resize,
    pixel_coords,
    render,
)
from tfmetainit.geometry.reconstruction import (
    filtered_back_projection,
    sart,
    total_variation,
)
from tfmetainit.geometry.tiles import Mosaic, Tile, cover, length_of
