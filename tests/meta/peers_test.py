"""Training beside the algorithms of the paper's authors, in JAX and optax.

The peers are written from the notebooks' definitions (Tancik et al. 2021): SGD
from the shared weights, `jax.grad` through it (MAML) or the weights' difference
(Reptile), and optax's Adam. Both start from the same weights, see the same
tasks, and take 20 outer steps.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfmetainit.fields import networks
from tfmetainit.forward_models import (
    ParallelBeam,
    VolumeRendering,
    identity,
    ray_inputs,
)
from tfmetainit.geometry.parallel_beam import TIE, slice_coords
from tfmetainit.geometry.pixels import pixel_coords
from tfmetainit.meta import functional, maml, reptile
from tfmetainit.meta.tasks import Observations, Task

jax = pytest.importorskip("jax")
optax = pytest.importorskip("optax")
jnp = jax.numpy

_OUTER_STEPS = 20
_SIDE = 16  # pixels of an image or a slice
_SAMPLES = 12  # of a ray


# ---- The peers -----------------------------------------------------------


def _layers(params):
    return list(zip(params[0::2], params[1::2]))


def _siren(params, frozen, coords):
    *hidden, (kernel, bias) = _layers(params)
    for w, b in hidden:
        coords = jnp.sin(200.0 * (coords @ w + b))
    return coords @ kernel + bias + 0.5


def _fourier_mlp(params, frozen, coords):
    (frequencies,) = frozen
    phases = coords @ frequencies
    values = jnp.concatenate([jnp.sin(phases), jnp.cos(phases)], axis=-1)
    *hidden, (kernel, bias) = _layers(params)
    for w, b in hidden:
        values = jax.nn.relu(values @ w + b)
    return jax.nn.sigmoid(values @ kernel + bias)


def _nerf(params, frozen, points):
    """Per coordinate all frequencies, first the sines, then the cosines."""
    frequencies = 2.0 ** jnp.linspace(0.0, 8.0, 20)
    phases = (points[..., None] * frequencies).reshape(len(points), -1)
    values = jnp.concatenate([jnp.sin(phases), jnp.cos(phases)], axis=-1)
    *hidden, (kernel, bias) = _layers(params)
    for w, b in hidden:
        values = jax.nn.relu(values @ w + b)
    raw = values @ kernel + bias
    return jnp.concatenate(
        [jax.nn.sigmoid(raw[:, :3]), jax.nn.softplus(raw[:, 3:])], axis=-1
    )


def _at_points(field, inputs):
    return field(inputs)


def _sinogram(field, angles):
    """The image turned by each angle, nearest pixel, then column means.

    Unlike in the notebook, direction and centre are those of
    `geometry.parallel_beam`.
    """
    image = field(jnp.asarray(slice_coords(_SIDE))).reshape(_SIDE, _SIDE)
    center = (_SIDE - 1) / 2.0
    i, j = jnp.meshgrid(*[jnp.arange(_SIDE) - center] * 2, indexing="ij")

    def project(angle):
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        row = jnp.floor(center + i * cos - j * sin + 0.5 + TIE).astype(int)
        column = jnp.floor(center + i * sin + j * cos + 0.5 + TIE).astype(int)
        inside = (row >= 0) & (row < _SIDE) & (column >= 0) & (column < _SIDE)
        return jnp.where(inside, image[row, column], 0.0).mean(axis=0)

    return jax.vmap(project)(angles)


def _colors(field, rays):
    origins, directions, depths = rays[:, :3], rays[:, 3:6], rays[:, 6:]
    points = origins[:, None] + depths[..., None] * directions[:, None]
    values = field(points.reshape(-1, 3)).reshape(*depths.shape, 4)
    intervals = jnp.concatenate(
        [jnp.diff(depths, axis=1), jnp.full_like(depths[:, :1], 1e-3)], axis=1
    )
    alpha = 1.0 - jnp.exp(-values[..., 3] * intervals)
    passed = jnp.cumprod(1.0 - alpha + 1e-10, axis=1)
    passed = jnp.concatenate(
        [jnp.ones_like(passed[:, :1]), passed[:, :-1]], axis=1
    )
    weights = passed * alpha
    colors = jnp.sum(weights[..., None] * values[..., :3], axis=1)
    return colors + 1.0 - jnp.sum(weights, axis=1, keepdims=True)


def _train_peer(setting, params, frozen, tasks):
    """The weights after the outer steps, and the losses before them."""
    network, support_model, query_model = setting["peer"]

    def loss(params, model, observed):
        predicted = model(lambda x: network(params, frozen, x), observed.inputs)
        return jnp.mean((predicted - observed.values) ** 2)

    def adapted(params, support):
        for _ in range(setting["inner_steps"]):
            observed = Observations(support.inputs[0], support.values[0])
            gradients = jax.grad(loss)(params, support_model, observed)
            params = [
                p - setting["inner_lr"] * g for p, g in zip(params, gradients)
            ]
        return params

    def outer(params, task):
        return loss(adapted(params, task.support), query_model, task.query)

    optimizer = optax.adam(setting["outer_lr"])

    @jax.jit
    def step(params, state, tasks):
        totals = []
        for task in tasks:
            if setting["learner"] is maml.MAML:
                value, gradients = jax.value_and_grad(outer)(params, task)
            else:
                after = adapted(params, task.support)
                value = loss(after, query_model, task.query)
                gradients = [p - a for p, a in zip(params, after)]
            totals.append((value, gradients))
        mean = jax.tree_util.tree_map(lambda *x: sum(x) / len(x), *totals)
        updates, state = optimizer.update(mean[1], state, params)
        return optax.apply_updates(params, updates), state, mean[0]

    state, losses = optimizer.init(params), []
    for batch in tasks:
        params, state, value = step(params, state, batch)
        losses.append(float(value))
    return params, losses


# ---- The settings, small --------------------------------------------------


def _images(rng):
    coords = pixel_coords(_SIDE, _SIDE)
    values = rng.random((_SIDE**2, 3), np.float32)
    return coords, values, coords, values


def _slices(rng):
    """A sinogram of constants is enough: both must see the same."""
    angles = np.float32(rng.uniform(0.1, 3.0, 4))
    sinogram = rng.random((4, _SIDE), np.float32) / 4
    values = rng.random((_SIDE**2, 1), np.float32)
    return angles, sinogram, slice_coords(_SIDE), values


def _views(rng):
    origins = np.float32(rng.normal(size=(24, 3)))
    directions = -origins + np.float32(0.1 * rng.normal(size=(24, 3)))
    depths = np.float32(np.sort(rng.uniform(0.2, 2.0, (24, _SAMPLES)), axis=1))
    rays = ray_inputs(*map(tf.constant, (origins, directions, depths))).numpy()
    values = rng.random((24, 3), np.float32)
    return rays, values, rays, values


_WIDTH = {"hidden_layers": 2, "hidden_units": 32}
_SETTINGS = {
    "image": {
        "field": lambda: networks.SIREN(seed=0, **_WIDTH),
        "models": (identity, identity),
        "peer": (_siren, _at_points, _at_points),
        "draw": _images,
        "inner_lr": 1e-2,
    },
    "ct": {
        "field": lambda: networks.FourierMLP(
            num_frequencies=16, initializer="haiku", seed=0, **_WIDTH
        ),
        "models": (ParallelBeam(_SIDE), identity),
        "peer": (_fourier_mlp, _sinogram, _at_points),
        "draw": _slices,
        "inner_lr": 10.0,
    },
    "nerf": {
        "field": lambda: networks.SimplifiedNeRF(
            initializer="haiku", seed=0, **_WIDTH
        ),
        "models": (VolumeRendering(white_background=True),) * 2,
        "peer": (_nerf, _colors, _colors),
        "draw": _views,
        "inner_lr": 0.5,
    },
}


@pytest.mark.parametrize("name", _SETTINGS)
@pytest.mark.parametrize(
    ("learner", "inner_steps", "outer_lr"),
    [(maml.MAML, 2, 1e-5), (reptile.Reptile, 12, 5e-5)],
)
def test_twenty_outer_steps(name, learner, inner_steps, outer_lr):
    setting = {
        **_SETTINGS[name],
        "learner": learner,
        "inner_steps": inner_steps,
        "outer_lr": outer_lr,
    }
    field, rng = setting["field"](), np.random.default_rng(0)
    start = [v.numpy() for v in field.trainable_variables]
    frozen = [v.numpy() for v in field.non_trainable_variables]
    batches = []
    for _ in range(_OUTER_STEPS):
        batch = []
        for _ in range(2):
            inputs, values, *query = setting["draw"](rng)
            support = Observations(inputs[None], values[None])
            batch.append(Task(support, Observations(*query)))
        batches.append(batch)
    theirs, expected = _train_peer(setting, start, frozen, batches)

    support_model, query_model = setting["models"]
    ours = learner(
        field,
        inner_steps=inner_steps,
        inner_lr=setting["inner_lr"],
        support_model=support_model,
        query_model=query_model,
    )
    ours.compile(keras.optimizers.Adam(outer_lr, epsilon=1e-8))
    step, losses = tf.function(ours.train_step), []
    for batch in batches:
        ours.reset_metrics()
        tasks = tf.nest.map_structure(lambda *x: tf.stack(x), *batch)
        losses.append(float(step(tasks)["loss"]))
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    moved = [
        (a - s, np.asarray(b) - s)
        for a, b, s in zip(functional.get_params(field), theirs, start)
    ]
    for a, b in moved:
        # Adam scales the rounding errors of small gradients up.
        assert np.linalg.norm(a - b) < 0.01 * np.linalg.norm(b)
