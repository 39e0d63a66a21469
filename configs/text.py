"""Rendered text.

placeholder
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
