"""Loads an exported .tflite file and fits signals with it.

May import: NumPy, ai-edge-litert, `io`, `geometry`, `modalities`. Runs without
TensorFlow and Keras, so that a device needs only these.
"""

from tfmetainit.litert.artifact import LiteArtifact
from tfmetainit.litert.artifact_fitter import ArtifactFitter

__all__ = ["ArtifactFitter", "LiteArtifact"]
