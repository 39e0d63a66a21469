"""Reads files with checks, and writes files atomically.

May import: NumPy and Pillow. Runs without TensorFlow and Keras.
"""

from tfmetainit.io.codes import Code, read_code, write_code
from tfmetainit.io.errors import (
    InputError,
    TrainingDivergedError,
    UserError,
    check_range,
    reason,
)
from tfmetainit.io.files import (
    atomic_folder,
    atomic_path,
    lock,
    read_array,
    read_json,
    write_json,
)
from tfmetainit.io.images import read_image, write_image
from tfmetainit.io.weights import load_haiku, load_npz, write_npz
