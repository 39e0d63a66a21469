r"""ShapeNet objects from the paper's renderings, trained as in the paper.

Tancik et al. 2021 (arXiv 2012.02189), section 4.3 and the ShapeNet notebook:
50 views of 128 x 128 of each object, Reptile with 32 inner steps of 128 fresh
rays.

    python -m tfmetainit.train --config=configs/shapenet.py \
        --config.signal.folder=shapenet --workdir=runs/shapenet_chairs

The folder holds chairs_splits.json and one folder for each object, with its
transforms.json. --config.signal.kind=cars and lamps are the other two classes.
The default is the paper's "MV meta"; --config.signal.train_views=1 is its
"SV meta". All pictures must have the field of view --config.signal.angle.
Evaluation scores 4 of the 25 held-out views of 20 test objects. The paper
scores all 25 (--config.signal.scored_views=25), which takes the memory of 25
pictures. A ray's samples lie at random in equal parts of [near, far]; the
paper's lie at linspace(near, far, S) plus noise of one spacing, which puts the
last of them behind `far`. Fits take 1 000 steps as in the paper. Their steps
take 128 batches of 128 rays in turn; the paper draws 64 new rays for each step.
--config.field.density=relu is the authors' density, which may collapse. Cost:
100 000 iterations; meant for a GPU. This project has not run it: its machines
cannot download the data. configs/objects.py takes minutes.
"""

import ml_collections

from tfmetainit.configs import default


def get_config(variant=""):
    config = default.get_ray_config()
    config.num_steps = 100_000
    config.signal.name = "objects"
    config.signal.kind = "chairs"
    config.signal.folder = ml_collections.config_dict.placeholder(str)
    config.signal.resolution = 128
    config.signal.angle = 0.69  # field of view of a square view, in radians
    config.signal.camera_scale = 1.0  # of all lengths in files of poses
    config.signal.train_views = 25
    config.signal.eval_views = (1, 25)
    config.signal.scored_views = 4
    config.signal.near = 2.0
    config.signal.far = 6.0
    config.learner.name = "reptile"
    config.learner.inner_steps = 32
    config.learner.inner_lr = 0.5
    config.learner.eval_steps = 32
    config.optimizer.learning_rate = 5e-4
    default.use_paper_outer_loop(config)
    config.field.initializer = "haiku"
    config.validation.num_signals = 8
    config.evaluation.num_signals = 20
    config.evaluation.num_steps = 1_000
    config.evaluation.max_match_steps = 1_000
    config.evaluation.sgd_rates = (0.1, 0.5, 2.0)
    config.evaluation.adam_rates = (1e-4, 3e-4, 1e-3)
    return default.apply_variant(config, variant)
