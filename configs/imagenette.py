r"""Imagenette photographs at 178 x 178, exactly as in the paper.

Tancik et al. 2021 (arXiv 2012.02189), section 4.1 and the image notebook:

    python -m tfmetainit.train --config=configs/imagenette.py \
        --workdir=runs/photos

Cost: 150 000 iterations on all pixels of 3 images; meant for a GPU. The paper
reports about 27.1 dB after two steps. This project has not run it: its machines
cannot download the dataset. The network and its inner loop are checked against
the authors' released weights (tests/fields/networks_test.py).
"""

import ml_collections

from tfmetainit.configs import default


def get_config(variant=""):
    config = default.get_image_config()
    default.use_paper_images(config)
    config.signal.name = "images"
    config.signal.dataset = "imagenette/320px-v2"
    config.prior.unseen_weight = 0.03  # photographs (docs/recipe.md)
    config.signal.data_dir = ml_collections.config_dict.placeholder(str)
    config.signal.manual_dir = ml_collections.config_dict.placeholder(str)
    return default.apply_variant(config, variant)
