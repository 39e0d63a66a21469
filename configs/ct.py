"""Few-view tomography of random Shepp-Logan phantoms, trained as in the paper.

Tancik et al. 2021 (arXiv 2012.02189), section 4.2 and the CT notebook: 2 048
phantoms of 256 x 256, Reptile with 12 inner steps on 20 random views each.

    python -m tfmetainit.train --config=configs/ct.py --workdir=runs/ct

With the authors' data: --config.signal.file=ct_256.pkl; with slices of your
own: --config.signal.folder=slices. Evaluation takes 1 000 steps at every number
of views, where the paper takes 50, 100, 1 000 and 1 000 at 1, 2, 4 and 8; its
table shows 50 and 100 too. Cost: 100 000 iterations; meant for a GPU,
and not run by this project. configs/ct_maml.py takes minutes.
"""

import ml_collections

from tfmetainit.configs import default


def get_config(variant=""):
    config = default.get_config()
    use_ct(config)
    use_paper_ct(config)
    config.learner.eval_steps = 50
    config.evaluation.num_steps = 1_000
    config.evaluation.max_match_steps = 1_000
    config.evaluation.sgd_rates = (1.0, 3.0, 10.0, 30.0)
    return default.apply_variant(config, variant)


def use_paper_ct(config):
    """Sets every number that the paper's CT experiments state for training."""
    config.num_steps = 100_000
    config.signal.resolution = 256
    config.signal.train_views = (20,)
    config.learner.name = "reptile"
    config.learner.inner_steps = 12
    config.learner.inner_lr = 10.0
    config.learner.step_sizes = "scalar"
    config.learner.learn_step_sizes = False
    config.learner.early_loss_weight = 0.0
    config.optimizer.learning_rate = 5e-5
    config.optimizer.output_gain = 1.0
    config.optimizer.warmup_steps = 0
    config.optimizer.final_fraction = 1.0
    config.optimizer.clip_norm = 0.0
    config.validation.every = 1_000


def use_ct(config):
    """Sets the class, the paper's network for it, and one slice a batch."""
    config.batch_size = 1
    config.signal.name = "ct"
    del config.signal.query_between  # of images
    config.signal.num_train = 2_048
    config.signal.num_eval = 100
    config.signal.data_seed = 0
    config.signal.data_dir = ml_collections.config_dict.placeholder(str)
    config.signal.file = ml_collections.config_dict.placeholder(str)
    config.signal.folder = ml_collections.config_dict.placeholder(str)
    config.signal.eval_views = (1, 2, 4, 8)
    config.signal.interpolation = "nearest"
    config.field.name = "fourier_mlp"
    config.evaluation.num_signals = 50
