"""The exported .tflite file, and fitting with it.

May import: NumPy, ai-edge-litert, `io`, `geometry`, `modalities`. Runs without
TensorFlow and Keras: on a device, this is all that is needed.
"""

from tfmetainit.litert.artifact import LiteArtifact
from tfmetainit.litert.fitter import ArtifactFitter

__all__ = ["ArtifactFitter", "LiteArtifact"]
