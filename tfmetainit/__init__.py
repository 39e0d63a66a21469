"""Learned initializations for neural fields.

    import tfmetainit
    learner = tfmetainit.load("text_64")
    signal = tfmetainit.load_signal("text_64")
    task = signal.read_task("photo.png")
    adapted, losses = learner.adapt(task.support, num_steps=8)

Names are imported on first use, so that the parts which need neither
TensorFlow nor Keras can be used where those are not installed.
"""

import importlib

__version__ = "0.1.0"

_HOME_OF_NAME = {
    "FourierFeatures": "layers",
    "FourierMLP": "fields",
    "ParallelBeam": "forward_models",
    "SIREN": "fields",
    "SimplifiedNeRF": "fields",
    "SineDense": "layers",
    "FieldLoss": "tasks",
    "Observations": "tasks",
    "SignalClass": "tasks",
    "Task": "tasks",
    "VolumeRendering": "forward_models",
    "adapt": "adaptation",
    "StepSizes": "step_sizes",
    "MAML": "learners",
    "MetaLearner": "meta_learner",
    "Reptile": "learners",
    "load": "experiment",
    "load_signal": "experiment",
}

__all__ = ["__version__", *_HOME_OF_NAME]


def __getattr__(name):
    if name not in _HOME_OF_NAME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_HOME_OF_NAME[name]}")
    return getattr(module, name)


def __dir__():
    return sorted(__all__)
