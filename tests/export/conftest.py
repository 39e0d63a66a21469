import itertools

import numpy as np
import pytest
import tensorflow as tf

from tfmetainit.export import flatbuffer, lite, saved_model
from tfmetainit.export.adapter import Adapter
from tfmetainit.fields import networks
from tfmetainit.meta import maml

_MAX_STEPS = 5


_CHUNK = 16


def _learner(
    field="siren", step_sizes="tensor", lr=1e-2, width=16, **of_learner
):
    make = {"siren": networks.SIREN, "fourier_mlp": networks.FourierMLP}[field]
    options = {"num_frequencies": 8} if field == "fourier_mlp" else {}
    learner = maml.MAML(
        make(2, 3, hidden_layers=2, hidden_units=width, seed=0, **options),
        inner_lr=lr,
        step_sizes=step_sizes,
        **of_learner,
    )
    # Step sizes that differ, as learned ones do.
    for index, logarithm in enumerate(learner.step_sizes.logarithms):
        logarithm.assign(logarithm + 1e-3 * index)
    rng = np.random.default_rng(0)
    for matrix in itertools.chain(*learner.step_sizes.sides):
        matrix.assign(0.1 * rng.normal(size=matrix.shape))
    return learner


def _adapter(learner, **options):
    defaults = {"max_steps": _MAX_STEPS, "chunk": _CHUNK}
    return Adapter(
        learner,
        input_shape=(2,),
        value_shape=(3,),
        coords_shape=(2,),
        **{**defaults, **options},
    )


def _observed(count, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random((count, 2), np.float32), rng.random(
        (count, 3), np.float32
    )


def _call(adapter, inputs, values, n_points, steps, theta=None):
    result = adapter.adapt(
        adapter.init() if theta is None else theta,
        tf.constant(inputs),
        tf.constant(values),
        tf.constant(n_points),
        tf.constant(steps),
    )
    return {name: value.numpy() for name, value in result.items()}


@pytest.fixture(scope="session")
def make_learner():
    """Makes a small learner whose step sizes differ, as learned ones do."""
    return _learner


@pytest.fixture(scope="session")
def make_adapter():
    """Makes the adapter of a learner, of at most `_MAX_STEPS` steps."""
    return _adapter


@pytest.fixture(scope="session")
def observed():
    """Makes random observations of some number of points."""
    return _observed


@pytest.fixture(scope="session")
def call():
    """Calls an adapter with arrays; returns arrays."""
    return _call


@pytest.fixture(scope="session")
def saved(tmp_path_factory, make_learner, make_adapter):
    """An adapter, and the folder of its SavedModel."""
    folder = tmp_path_factory.mktemp("saved") / "1"
    adapter = make_adapter(make_learner())
    saved_model.save(adapter, folder)
    return adapter, folder


@pytest.fixture(scope="session")
def convert(make_adapter):
    """Converts a learner; returns the bytes of its .tflite file."""

    def convert(learner, num_points=50, **options):
        content = lite.convert(
            make_adapter(learner, **options),
            num_points=num_points,
            num_coords=num_points,
        )
        metadata = {"inner_steps": 2, "where": "ü"}
        return flatbuffer.with_metadata(content, metadata)

    return convert
