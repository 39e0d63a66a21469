"""Rendered text at 64 x 64: the class that `make demo` trains.

After Tancik et al. 2021 (arXiv 2012.02189), section 4.1, whose text class is
not published; signals/text.py draws this one.

    python -m tfmetainit.train --config=configs/text.py --workdir=runs/text
    python -m tfmetainit.evaluate --workdir=runs/text

Cost: 9.4 minutes of training, then 7.6 of evaluation, on two CPU cores. Reached
there on 100 held-out signals: 26.0 dB after 2 steps and 36.6 after 10. A random
init with tuned Adam has 20.6 dB after 10 steps; a constant image 19.1.
"""

import ml_collections

from tfmetainit.configs import default


def get_config(variant=""):
    config = default.get_config()
    config.signal.name = "text"
    config.signal.num_train = 10_000
    config.signal.num_eval = 500
    config.signal.data_seed = 0
    config.signal.data_dir = ml_collections.config_dict.placeholder(str)
    return default.apply_variant(config, variant)
