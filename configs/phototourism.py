r"""Landmarks of Phototourism, trained as in the paper.

Tancik et al. 2021 (arXiv 2012.02189), section 4.3 and the Phototourism
notebook: Reptile with 64 inner steps of 64 fresh rays, no background.

    python -m tfmetainit.train --config=configs/phototourism.py \
        --config.signal.folder=sacre_coeur --workdir=runs/sacre_coeur

The folder holds the photographs (in it, in images/ or in dense/images/) and
either the authors' bds.npy, c2w_mats.npy and kinv_mats.npy or COLMAP's sparse
model. Trevi Fountain, Sacre Coeur and Brandenburg Gate differ only in the
folder. Photographs are cropped and resized to 256 x 256; the paper uses them
uncropped. Depths of samples differ from the paper's as in configs/shapenet.py.
--config.field.density=relu is the authors' density, which may collapse. Cost:
150 000 iterations; meant for a GPU. This project has not run it: its machines
cannot download the data. configs/landmark.py takes minutes.
"""

import ml_collections

from tfmetainit.configs import default


def get_config(variant=""):
    config = default.get_ray_config()
    config.num_steps = 150_000
    config.signal.name = "phototourism"
    config.signal.folder = ml_collections.config_dict.placeholder(str)
    config.signal.resolution = 256
    config.signal.scale = 0.05
    config.signal.train_on = "photographs"
    config.signal.rays_per_step = 64
    config.learner.name = "reptile"
    config.learner.inner_steps = 64
    config.learner.inner_lr = 1.0
    config.learner.eval_steps = 64
    config.optimizer.learning_rate = 5e-4
    default.use_paper_outer_loop(config)
    config.field.initializer = "haiku"
    config.validation.num_signals = 5
    config.evaluation.num_signals = 20
    config.evaluation.num_steps = 64
    config.evaluation.sgd_rates = (0.3, 1.0, 3.0)
    config.evaluation.adam_rates = (1e-4, 3e-4, 1e-3)
    return default.apply_variant(config, variant)
