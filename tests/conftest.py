import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import warnings

# TFDS, TensorFlow and their dependencies warn when they are imported; what
# this package's own code does afterwards must not.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import tensorflow  # noqa: F401
    import tensorflow_datasets
    import tensorflow_datasets.testing  # noqa: F401

import keras
import pytest


@pytest.fixture(autouse=True)
def _seeded():
    keras.utils.set_random_seed(0)


@pytest.fixture
def reference_dir():
    """The folder of the authors' released weights, where there is one."""
    folder = os.environ.get("TFMETAINIT_REFERENCE_DIR")
    if not folder:
        pytest.skip("TFMETAINIT_REFERENCE_DIR is not set")
    return folder
