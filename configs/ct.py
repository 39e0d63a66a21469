"""CT of random Shepp-Logan phantoms from few projections, as in the paper.

Tancik et al. 2021 (arXiv 2012.02189), section 4.2 and the CT notebook: 2 048
phantoms of 256 x 256, Reptile with 12 inner steps on 20 random projections.

    python -m tfmetainit.train --config=configs/ct.py --workdir=runs/ct

For the authors' data, set --config.signal.file=ct_256.pkl; for slices of your
own, --config.signal.folder=slices. Evaluation takes 1 000 steps for each number
of projections. The paper takes 50, 100, 1 000 and 1 000 steps for 1, 2, 4 and 8
projections; the table has columns for 50 and 100. Cost: 100 000 iterations;
meant for a GPU. This project has not run it. configs/ct_maml.py takes minutes.
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
    config.signal.train_projections = (20,)
    config.learner.name = "reptile"
    config.learner.inner_steps = 12
    config.learner.inner_lr = 10.0
    config.optimizer.learning_rate = 5e-5
    default.use_paper_outer_loop(config)
    config.field.initializer = "haiku"


def use_ct(config):
    """Sets the class, the paper's network, and batches of one slice."""
    config.batch_size = 1
    config.signal.name = "ct"
    default.add_generated(config, num_train=2_048, num_eval=100)
    config.signal.file = ml_collections.config_dict.placeholder(str)
    config.signal.folder = ml_collections.config_dict.placeholder(str)
    config.signal.eval_projections = (1, 2, 4, 8)
    config.signal.points_per_step = 0
    config.signal.interpolation = "nearest"
    # The values of a slice that become 0 and 1; by default -1000 and 1000
    # Hounsfield units of DICOM files (docs/data.md).
    config.signal.window = ml_collections.config_dict.placeholder(tuple)
    config.signal.shuffle_buffer = 10_000
    config.field.name = "fourier_mlp"
    config.evaluation.num_signals = 50
