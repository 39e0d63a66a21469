"""Files of more than pixels: DICOM, sinograms, scenes, photographs.

May import: NumPy, Pillow, pydicom, h5py, `io`, `geometry`. Runs without
TensorFlow and Keras.
"""

from tfmetainit.modalities.readers.dicom import read_dicom
from tfmetainit.modalities.readers.photo_collections import (
    Photograph,
    read_collection,
)
from tfmetainit.modalities.readers.scenes import (
    Scene,
    open_scene,
    parse_pose,
    read_picture,
    read_scene,
)
from tfmetainit.modalities.readers.sinograms import (
    parse_angles,
    read_sinogram,
)
