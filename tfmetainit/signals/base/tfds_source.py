"""Images of TFDS builders as a source of signals."""

import logging

import tensorflow as tf
import tensorflow_datasets as tfds

from tfmetainit.io.errors import InputError, reason
from tfmetainit.signals.base import layouts
from tfmetainit.signals.base.pipeline import SPLITS, Source

_LOGGER = logging.getLogger("tfmetainit")


def tfds_images(feature, open_split) -> Source:
    """The images of TFDS builders.

    Args:
        feature: the TFDS feature "image" of their examples.
        open_split: maps "train", "validation" and "test" to a prepared builder
            and the builder's name of the split.
    """

    def load(split):
        builder, name = open_split(split)
        return builder.as_dataset(
            split=name,
            shuffle_files=False,
            decoders={"image": tfds.decode.SkipDecoding()},
        ).map(lambda example: example["image"])

    def decode(encoded):
        image = feature.decode_example(encoded)
        return tf.image.convert_image_dtype(image, tf.float32)

    return Source(load, decode)


def prepared_source(folder: str) -> Source:
    """The images of a folder that TFDS has prepared.

    Args:
        folder: holds dataset_info.json, features.json and TFRecords. A split
            that is missing is a part of another one.

    Raises:
        InputError: if it cannot be read, has no train split, or no RGB images.
    """
    try:
        builder = tfds.builder_from_directory(folder)
        features = dict(builder.info.features.items())
    # Damaged files make TFDS raise errors of many kinds.
    except Exception as error:
        raise InputError(
            f"TFDS cannot read the prepared dataset in {folder}: "
            f"{reason(error)}."
        ) from error
    # The shortest name last: "train" rather than "cats_train".
    by_length = sorted(builder.info.splits, key=len, reverse=True)
    names = {layouts.split_named(name): name for name in by_length}
    feature = features.get("image")
    if (
        "train" not in names
        or not isinstance(feature, tfds.features.Image)
        or feature.shape[-1] != 3
    ):
        raise InputError(
            "A prepared dataset must have a train split and a feature 'image' "
            "of three channels. "
            f"Received: {folder} with the splits {sorted(builder.info.splits)} "
            f"and the features {sorted(features)}"
        )
    train, validation, test = (names.get(split) for split in SPLITS)
    if validation is None and test is None:
        parts = f"{train}[:80%]", f"{train}[80%:90%]", f"{train}[90%:]"
    elif test is None:
        parts = train, f"{validation}[:50%]", f"{validation}[50%:]"
    elif validation is None:
        parts = f"{train}[:90%]", f"{train}[90%:]", test
    else:
        parts = train, validation, test
    parts = dict(zip(SPLITS, parts))
    counts = {s: builder.info.splits[parts[s]].num_examples for s in SPLITS}
    if not all(counts.values()):
        raise InputError(
            "A prepared dataset must hold images for training, validation and "
            f"testing. Received: {folder} with {counts}, divided {parts}"
        )
    _LOGGER.info("%s: a prepared dataset, divided %s", folder, parts)
    return tfds_images(feature, lambda split: (builder, parts[split]))
