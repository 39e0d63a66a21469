"""Rendered text at 64 x 64: the class that `make demo` trains.

This follows Tancik et al. 2021 (arXiv 2012.02189), section 4.1. The paper's
text class is not published; signals/text.py draws this one.

    python -m tfmetainit.train --config=configs/text.py --workdir=runs/text
    python -m tfmetainit.evaluate --workdir=runs/text

Cost: about 21 CPU minutes for the 2 500 outer steps. After 8 minutes, 100
held-out signals have 40.1 dB after 4 inner steps on half of the pixels each,
and 45.2 dB after 8 (docs/results.md, three seeds). A random init with tuned
Adam has 18.5 dB after 8 steps on all pixels, and a constant image has 19.1 dB.
"""

from tfmetainit.configs import default


def get_config(variant=""):
    config = default.get_image_config()
    config.signal.name = "text"
    default.add_generated(config, num_train=10_000, num_eval=500)
    return default.apply_variant(config, variant)
