"""CT from few projections at 64 x 64, by MAML in minutes on a CPU.

The phantoms, the network and the projection are those of configs/ct.py (Tancik
et al. 2021, section 4.2). Only the training differs:

    python -m tfmetainit.train --config=configs/ct_maml.py --workdir=runs/ct
    python -m tfmetainit.evaluate --workdir=runs/ct

Cost: 28 CPU minutes of training (16.5 minutes of wall time on two cores), then
23 minutes for the comparison. The mean PSNR of 50 held-out phantoms after 12
steps is 17.9, 18.7, 20.6 and 22.9 dB for 1, 2, 4 and 8 projections. Random
weights have 15.2 dB for any number of projections. After 200 Adam steps they
have 16.1, 16.8, 18.4 and 20.0 dB on the first 8 phantoms, which are easier than
the rest.

Two choices mattered most: an outer rate of 1e-3, and step sizes learned as
logarithms with a high gain. The first layer's step size then grows a
thousandfold, which it did not when it was learned as a number. One step size
per weight was slower than one per tensor. An inner_lr of 10 (paper) ended in
black slices. Training the first half at 32 x 32 gained nothing.
"""

from tfmetainit.configs import ct, default


def get_config(variant=""):
    config = default.get_config()
    ct.use_ct(config)
    config.num_steps = 3_750
    config.signal.resolution = 64
    config.signal.train_projections = (1, 2, 4, 8)
    config.learner.inner_steps = 3
    config.learner.inner_lr = 2.0
    config.learner.early_loss_weight = 0.0
    # The first layer's step size grows to hundreds of times the others'.
    config.learner.step_size_gain = 30.0
    config.learner.eval_steps = 12
    config.optimizer.learning_rate = 1e-3
    config.optimizer.output_gain = 1.0
    config.optimizer.clip_norm = 1.0
    config.validation.every = 250
    config.evaluation.num_steps = 12
    config.evaluation.num_match_signals = 8
    config.evaluation.max_match_steps = 200
    config.evaluation.sgd_rates = (1.0, 3.0, 10.0, 30.0)
    config.evaluation.adam_rates = (3e-4, 1e-3, 3e-3)
    return default.apply_variant(config, variant)
