"""The outer optimizer: Adam with warm-up, cosine decay and clipping."""

import math

import keras
import ml_collections
import tensorflow as tf

from tfmetainit.io.errors import InputError
from tfmetainit.meta.learner import MetaLearner


class _Adam(keras.optimizers.Adam):
    """Adam whose learning rate is multiplied by a factor for some variables.

    Args:
        learning_rate: the rate of all other variables.
        gains: maps the paths of variables to their factors.
        **kwargs: further arguments of Adam.
    """

    def __init__(self, learning_rate, gains: dict[str, float], **kwargs):
        # Keras would derive an invalid name from that of the class.
        super().__init__(learning_rate, name="adam", **kwargs)
        self._gains = gains

    def update_step(self, gradient, variable, learning_rate):
        # Under a strategy, `variable` belongs to a replica and has no path.
        index = self._get_variable_index(variable)
        path = self._trainable_variables[index].path
        gain = self._gains.get(path, 1.0)
        super().update_step(gradient, variable, gain * learning_rate)


def build_optimizer(
    config: ml_collections.ConfigDict, learner: MetaLearner
) -> keras.optimizers.Optimizer:
    """Adam with warm-up, cosine decay and clipping of the global norm.

    The rate rises from 0 over `warmup_steps`, then falls along a cosine to
    `final_fraction` of its peak at `config.num_steps`. The kernel of the output
    layer has `output_gain` times this rate. The matrices of the step sizes
    "curvature" have `curvature_gain` times this rate.

    With a `tf.distribute` strategy, call it in the scope of the strategy.

    Args:
        config: as in configs/default.py.
        learner: the learner to be trained.

    Raises:
        InputError: if a rate, a gain or epsilon is not positive and finite.
    """
    options = config.optimizer
    for name in ("learning_rate", "output_gain", "curvature_gain", "epsilon"):
        if not 0 < options[name] < math.inf:
            raise InputError(
                f"`optimizer.{name}` must be positive and finite. Received: "
                f"{options[name]}"
            )
    rate = options.learning_rate
    if options.warmup_steps:
        start, peak = 0.0, rate
    else:
        start, peak = rate, None  # Keras: no warm-up
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=start,
        decay_steps=max(config.num_steps - options.warmup_steps, 1),
        alpha=options.final_fraction,
        warmup_target=peak,
        warmup_steps=options.warmup_steps,
    )
    # Each replica clips its share of the gradient; all shares are equal.
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    clip_norm = options.clip_norm / replicas or None
    weights = learner.field.trainable_variables
    *_, output = (v.path for v in weights if v.ndim == 2)
    gains = {
        matrix.path: options.curvature_gain
        for sides in learner.step_sizes.sides
        for matrix in sides
    }
    return _Adam(
        schedule,
        global_clipnorm=clip_norm,
        gains={output: options.output_gain, **gains},
        epsilon=options.epsilon,
    )
