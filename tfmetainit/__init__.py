"""Learned initializations for neural fields.

    import tfmetainit
    learner = tfmetainit.load("text_64")
    signal = tfmetainit.load_signal("text_64")
    task = signal.read_task("photo.png")
    adapted, losses = learner.adapt(task.support, num_steps=8)

Names are imported on first use, so that the rooms which need neither TensorFlow
nor Keras can be used where those are not installed.
"""

import importlib

__version__ = "0.1.0"

_ROOM_OF_NAME = {
    "FourierFeatures": "fields",
    "FourierMLP": "fields",
    "ParallelBeam": "forward_models",
    "SIREN": "fields",
    "SimplifiedNeRF": "fields",
    "SineDense": "fields",
    "FieldLoss": "meta",
    "Observations": "meta",
    "SignalClass": "signals.base",
    "Task": "meta",
    "VolumeRendering": "forward_models",
    "adapt": "meta",
    "StepSizes": "meta",
    "MAML": "meta",
    "MetaLearner": "meta",
    "Reptile": "meta",
    "load": "runs",
    "load_signal": "runs",
}

__all__ = ["__version__", *_ROOM_OF_NAME]


def __getattr__(name):
    if name not in _ROOM_OF_NAME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_ROOM_OF_NAME[name]}")
    return getattr(module, name)


def __dir__():
    return sorted(__all__)
