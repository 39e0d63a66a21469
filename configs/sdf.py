"""Signed distance fields of random planar shapes at 64 x 64.

This follows Tancik et al. 2021 (arXiv 2012.02189), section 4.1, with shapes
drawn by signals/sdf.py.

    python -m tfmetainit.train --config=configs/sdf.py --workdir=runs/sdf
    python -m tfmetainit.evaluate --workdir=runs/sdf

Cost: about 21 CPU minutes for the 2 500 outer steps. With 2 400 of them and
--config.optimizer.learning_rate=2e-5 (the pretrained sdf_64), 100 held-out
signals have 53.1 dB after 4 inner steps on half of the pixels each, and 58.2 dB
after 8. A random init with tuned Adam has 18.9 dB after 8 steps on all pixels,
and a constant image has 16.1 dB.
"""

from tfmetainit.configs import default


def get_config(variant=""):
    config = default.get_image_config()
    config.signal.name = "sdf"
    default.add_generated(config, num_train=10_000, num_eval=500)
    return default.apply_variant(config, variant)
