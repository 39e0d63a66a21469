"""Forward models: how a field is observed, at points, by projections or rays.

May import: TensorFlow, `geometry`. A forward model is a function `(field,
inputs) -> predictions`. Learners, evaluation and export take it as an argument.
"""

from tfmetainit.forward_models.identity import Field, ForwardModel, identity
from tfmetainit.forward_models.parallel_beam import ParallelBeam
from tfmetainit.forward_models.volume_rendering import (
    VolumeRendering,
    ray_inputs,
)
