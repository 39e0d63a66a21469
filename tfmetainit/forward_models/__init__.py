"""How a field gives rise to what is observed: points, projections, rays.

May import: TensorFlow, `geometry`. A forward model is a function `(field,
inputs) -> predictions`, handed to learners, evaluation and export.
"""

from tfmetainit.forward_models.identity import Field, ForwardModel, identity
from tfmetainit.forward_models.parallel_beam import ParallelBeam
from tfmetainit.forward_models.volume_rendering import (
    VolumeRendering,
    ray_inputs,
)
