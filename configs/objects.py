"""Chairs from one photograph at 64 x 64, drawn by this package: no download.

After Tancik et al. 2021 (arXiv 2012.02189), section 4.3, whose objects are
ShapeNet's; signals/objects.py draws these.

    python -m tfmetainit.train --config=configs/objects.py --workdir=runs/chairs
    python -m tfmetainit.evaluate --workdir=runs/chairs

--config.signal.kind=lamps or cars for the other two. Cost: 5 minutes once to
draw the objects, 50 minutes of training (72 of CPU time, with other work beside
it; about 55 without), 23 of evaluation, on two CPU cores. Reached there on 20
unseen chairs, from one picture and after 8 steps: 18.5 dB in a view held out,
where random weights have 11.5 dB, and the class's mean view 13.8.

`train_views` is what the inner loop sees. The outer loop of MAML learns from
held-out views of the training objects whatever it is: the paper's "SV meta" is
Reptile's alone (configs/shapenet.py).

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
    config.signal.angle = 0.69  # that a square view spans, in radians
    config.signal.train_views = 1
    config.signal.eval_views = (1, 25)
    config.signal.num_samples = 32
    config.signal.scored_views = 1
    # The objects lie in a ball of radius 1.2, 4 before the cameras.
    config.signal.near = 2.8
    config.signal.far = 5.2
    # The finest wave is as long as 4 pixels are wide.
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
