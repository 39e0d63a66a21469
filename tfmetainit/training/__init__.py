"""The outer loop: learning-rate schedule, callbacks, several devices.

May import: TensorFlow, Keras, `meta`, `io`, `signals.base`. `train.py` uses
these parts.
"""

from tfmetainit.training.callbacks import (
    Checkpoints,
    Reconstructions,
    StopOnDivergence,
)
from tfmetainit.training.distribution import STRATEGIES, make_strategy
from tfmetainit.training.optimizer import build_optimizer
