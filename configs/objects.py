"""Synthetic chairs from one view at 64 x 64, without a download.

This follows Tancik et al. 2021 (arXiv 2012.02189), section 4.3, with objects
drawn by signals/objects.py in place of those of ShapeNet.

    python -m tfmetainit.train --config=configs/objects.py --workdir=runs/chairs
    python -m tfmetainit.evaluate --workdir=runs/chairs

--config.signal.kind=lamps and cars are the other two classes. Cost: 5 minutes
once to draw the objects, 50 minutes of training (72 of CPU time, with other
work beside it; about 55 without) and 23 of evaluation, on two CPU cores. From
one view of 20 held-out chairs, after 8 steps, it reached 18.5 dB on a held-out
view. Random weights have 11.5 dB, and the class's mean view has 13.8 dB.

`train_views` is the number of views in the inner loop. The outer loop of MAML
uses held-out views of the training objects for any `train_views`, so the
paper's "SV meta" needs Reptile (configs/shapenet.py).

On validation chairs, PSNR after 8 steps was 17.0 dB at outer steps 500 and
1 000, 17.7 at 1 500, 18.1 at 2 500.
"""

import ml_collections

from tfmetainit.configs import default


def get_config(variant=""):
    config = default.get_ray_config()
    config.num_steps = 3_000
    config.signal.name = "objects"
    config.signal.kind = "chairs"
    config.signal.folder = ml_collections.config_dict.placeholder(str)
    default.add_generated(config, num_train=400, num_eval=20)
    config.signal.angle = 0.69  # field of view of a square view, in radians
    config.signal.camera_scale = 1.0  # of all lengths in files of poses
    config.signal.train_views = 1
    config.signal.eval_views = (1, 25)
    config.signal.num_samples = 32
    config.signal.scored_views = 1
    # The objects lie in a ball of radius 1.2, at distance 4 from the cameras.
    config.signal.near = 2.8
    config.signal.far = 5.2
    # The highest frequency has a wavelength of 4 pixels.
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
    config.evaluation.max_match_steps = 30
    config.evaluation.sgd_rates = (0.3, 1.0, 3.0, 10.0)
    config.evaluation.adam_rates = (3e-4, 1e-3, 3e-3, 1e-2)
    return default.apply_variant(config, variant)
