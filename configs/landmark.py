r"""A synthetic landmark in varying light at 64 x 64, without a download.

This follows Tancik et al. 2021 (arXiv 2012.02189), section 4.3, with a landmark
drawn by signals/phototourism.py in place of those of Phototourism. The field is
fitted to the left half of a photograph and scored on the right half.

    python -m tfmetainit.train --config=configs/landmark.py \
        --workdir=runs/landmark
    python -m tfmetainit.evaluate --workdir=runs/landmark

Cost: 51 CPU minutes of training, on two cores that also did other work. On the
right halves of 20 held-out photographs, after 8 steps on the left halves, it
reached 26.5 dB; random weights with tuned Adam have 16.8 dB.
"""

import ml_collections

from tfmetainit.configs import default


def get_config(variant=""):
    config = default.get_ray_config()
    config.num_steps = 1_500
    config.signal.name = "phototourism"
    config.signal.folder = ml_collections.config_dict.placeholder(str)
    default.add_generated(config, num_train=400, num_eval=20)
    config.signal.scale = 1.0
    config.signal.train_on = "halves"
    config.signal.num_samples = 48
    # The highest frequency has a wavelength of 3 pixels.
    config.field.max_exponent = 5.0
    config.learner.inner_steps = 4
    config.learner.inner_lr = 1.0
    config.learner.step_size_gain = 30.0
    config.learner.eval_steps = 8
    config.optimizer.learning_rate = 1e-3
    config.optimizer.clip_norm = 0.1
    config.validation.every = 500
    config.validation.num_signals = 20
    config.evaluation.num_signals = 20
    config.evaluation.num_steps = 8
    config.evaluation.num_match_signals = 4
    config.evaluation.max_match_steps = 16
    config.evaluation.sgd_rates = (0.1, 0.3, 1.0)
    config.evaluation.adam_rates = (3e-4, 1e-3, 3e-3)
    return default.apply_variant(config, variant)
