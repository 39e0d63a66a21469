"""Files of more than pixels: DICOM, sinograms, COLMAP, transforms.json.

May import: NumPy, pydicom, h5py, `io`, `geometry`. Runs without TensorFlow and Keras.
"""

from tfmetainit.modalities.readers.dicom import read_dicom
from tfmetainit.modalities.readers.photo_collections import (
    Photograph,
    read_collection,
)
from tfmetainit.modalities.readers.sinograms import (
    parse_angles,
    read_sinogram,
)
from tfmetainit.modalities.readers.transforms_json import (
    parse_pose,
    read_picture,
    read_transforms,
)
