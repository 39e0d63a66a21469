r"""A folder of your own images.

    python -m tfmetainit.train --config=configs/image_folder.py \
        --config.signal.folder=photos --workdir=runs/photos

A few dozen images are enough to run, but the initialization suits only images
like those in the folder. Files are split by a list, by folders named train,
validation and test, or by the hashes of their names (docs/commands.md). Use
folders for several crops of one photograph, which must be in the same split.
Cost: as configs/text.py at 64 x 64; it grows with the number of pixels. For
large images, --config.signal.points_per_step=16384 takes that many random
pixels per step; add --config.learner.step_on=all and
--config.learner.inner_steps=2.

After 8 CPU minutes, 20 held-out photographs at 64 x 64 have 35.9 dB after 4
inner steps on half of the pixels each, and 41.0 dB after 8 (docs/results.md).
"""

from tfmetainit.configs import default


def get_config(variant=""):
    config = default.get_image_config()
    config.signal.name = "image_folder"
    config.signal.folder = ""
    config.prior.unseen_weight = 0.03  # photographs (docs/recipe.md)
    return default.apply_variant(config, variant)
