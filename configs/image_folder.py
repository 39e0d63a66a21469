r"""A folder of your own images.

    python -m tfmetainit.train --config=configs/image_folder.py \
        --config.signal.folder=photos --workdir=runs/photos

A few dozen images are enough to run; the prior is only as wide as the folder.
Files are split by their names' hashes, or as the folders train, validation and
test in it have them (for crops of one photograph: they must not be in two).
Cost: as configs/text.py at 64 x 64; it grows with the number of pixels. Of
large images, --config.signal.points_per_step=16384 takes so many a step.
"""

from tfmetainit.configs import default


def get_config(variant=""):
    config = default.get_image_config()
    config.signal.name = "image_folder"
    config.signal.folder = ""
    return default.apply_variant(config, variant)
