"""Small fields and tasks in float64, on which gradients can be checked."""

import numpy as np
import pytest
import tensorflow as tf

from tfmetainit.fields import networks
from tfmetainit.forward_models.parallel_beam import ParallelBeam
from tfmetainit.forward_models.volume_rendering import VolumeRendering
from tfmetainit.meta.tasks import Observations, Task


def _field(seed=0, **kwargs):
    options = {"hidden_layers": 2, "hidden_units": 5, "w0": 4.0}
    return networks.SIREN(seed=seed, dtype="float64", **{**options, **kwargs})


def _task(seed=0, coord_dims=2, value_dims=3, steps=1, dtype=np.float64):
    rng = np.random.default_rng(seed)

    def observations(*shape):
        return Observations(
            tf.constant(rng.random((*shape, coord_dims)).astype(dtype)),
            tf.constant(rng.random((*shape, value_dims)).astype(dtype)),
        )

    return Task(observations(steps, 8), observations(9))


def _batch(tasks):
    return tf.nest.map_structure(lambda *leaves: tf.stack(leaves), *tasks)


@pytest.fixture(scope="session")
def make_field():
    """A SIREN of two layers of five units, or with other options."""
    return _field


@pytest.fixture(scope="session")
def make_task():
    """A task of random observations."""
    return _task


@pytest.fixture(scope="session")
def stack_tasks():
    """Some tasks as a batch."""
    return _batch


@pytest.fixture(
    params=[
        (networks.FourierMLP, 2, 1, ParallelBeam(6, "bilinear"), [2], 6),
        (networks.FourierMLP, 2, 1, ParallelBeam(6, "nearest"), [2], 6),
        (networks.SimplifiedNeRF, 3, 4, VolumeRendering(True), [5, 6 + 4], 3),
    ]
)
def observed_field(request):
    """A float64 field, its forward model, the shape of the inputs of some
    observations, and the number of values of each.
    """
    make, coord_dims, value_dims, model, shape, values = request.param
    field = make(
        coord_dims,
        value_dims,
        hidden_layers=2,
        hidden_units=4,
        dtype="float64",
        seed=0,
    )
    return field, model, shape, values
