"""The adapter against the Python code that it was made from."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfmetainit.export.adapter import NOT_TAKEN
from tfmetainit.fields import layers, networks
from tfmetainit.meta import functional
from tfmetainit.meta.step_sizes import GRANULARITIES
from tfmetainit.meta.tasks import FieldLoss, Observations

_MAX_STEPS = 5


_HALVES = {"step_on": "halves", "raster_width": 6}
_SOLVED = {"output_layer": "solved"}
_LEARNERS = pytest.mark.parametrize(
    "of_learner",
    [{}, _SOLVED, _HALVES, _SOLVED | _HALVES],
    ids=["stepped", "solved", "stepped in halves", "solved in halves"],
)


@pytest.mark.parametrize("field", ["siren", "fourier_mlp"])
@pytest.mark.parametrize("step_sizes", GRANULARITIES)
def test_adapter_takes_the_steps_of_adapt(
    field, step_sizes, make_learner, make_adapter, observed, call
):
    learner = make_learner(field, step_sizes)
    adapter = make_adapter(learner)
    inputs, values = observed(50)  # no multiple of the chunk
    result = call(adapter, inputs, values, 50, 3)
    params, losses = learner.adapt(
        Observations(tf.constant(inputs)[None], tf.constant(values)[None]), 3
    )
    np.testing.assert_allclose(
        result["theta"], functional.flatten(params), atol=1e-6
    )
    np.testing.assert_allclose(result["losses"][:3], losses, rtol=1e-5)
    assert (result["losses"][3:] == NOT_TAKEN).all()
    assert result["steps_taken"] == 3
    np.testing.assert_allclose(
        adapter.predict(tf.constant(result["theta"]), inputs),
        learner.query_loss.predict(params, inputs),
        atol=1e-5,
    )


def _support(inputs, values):
    return Observations(tf.constant(inputs)[None], tf.constant(values)[None])


@_LEARNERS
@pytest.mark.parametrize("count", [1, 49, 50])  # 8 rows of 6 pixels, and 2
@pytest.mark.parametrize("steps", [0, 3])
def test_what_is_predicted_is_that_of_adapt(
    steps, count, of_learner, make_learner, make_adapter, observed, call
):
    learner = make_learner(**of_learner)
    adapter = make_adapter(learner)
    inputs, values = observed(count)
    result = call(adapter, inputs, values, count, steps)
    params, losses = learner.adapt(_support(inputs, values), steps)
    np.testing.assert_allclose(result["losses"][:steps], losses, rtol=1e-5)
    np.testing.assert_allclose(
        adapter.predict(tf.constant(result["theta"]), inputs),
        learner.query_loss.predict(params, inputs),
        atol=5e-4 if count == 1 else 1e-4,
    )


@pytest.mark.parametrize("halves", [{}, _HALVES], ids=["all", "halves"])
def test_calls_of_one_step_are_one_call_of_all_steps(
    halves, make_learner, make_adapter, observed, call
):
    """Steps do not go on from a solved output layer."""
    adapter = make_adapter(make_learner(output_layer="solved", **halves))
    inputs, values = observed(50)
    theta = None
    for _ in range(3):
        theta = call(adapter, inputs, values, 50, 1, theta)["theta"]
    together = call(adapter, inputs, values, 50, 3)["theta"]
    np.testing.assert_array_equal(theta, together)
    # It is solved for what was observed last.
    other = call(adapter, inputs, 1.0 - values, 50, 0, theta)["theta"]
    size = adapter.num_params
    np.testing.assert_array_equal(other[:size], theta[:size])
    end = -1 if halves else None  # theta ends with whose turn is next
    assert (other[size:end] != theta[size:end]).all()
    if halves:
        assert other[-1] == theta[-1] == 1.0


@_LEARNERS
@pytest.mark.parametrize("n_points", [1, 16, 41])
def test_rows_beyond_n_points_do_not_count(
    n_points, of_learner, make_learner, make_adapter, observed, call
):
    adapter = make_adapter(make_learner(**of_learner))
    inputs, values = observed(50)
    alone = call(adapter, inputs[:n_points], values[:n_points], n_points, 2)
    inputs[n_points:], values[n_points:] = np.nan, np.inf
    padded = call(adapter, inputs, values, n_points, 2)
    # In float32, one row alone is multiplied by another kernel than 50 rows.
    predicted = [
        adapter.predict(tf.constant(result["theta"]), inputs[:n_points])
        for result in (padded, alone)
    ]
    # A solution for fewer rows than units rounds by about 1e-7 / ridge.
    np.testing.assert_allclose(*predicted, atol=5e-4)
    size = adapter.num_params
    np.testing.assert_allclose(
        padded["theta"][:size], alone["theta"][:size], atol=1e-6
    )
    np.testing.assert_allclose(padded["losses"], alone["losses"], rtol=1e-5)


@pytest.mark.parametrize(
    ("n_points", "steps", "taken"),
    [
        *((50, 2, 2), (50, _MAX_STEPS + 9, _MAX_STEPS), (50, 0, 0)),
        *((50, -1, 0), (0, 2, 0), (-3, 2, 0), (51, 2, 0)),
        (2**31 - 1, 2, 0),  # more than the chunks hold
    ],
)
@_LEARNERS
def test_numbers_out_of_range_have_a_defined_result(
    n_points,
    steps,
    taken,
    of_learner,
    make_learner,
    make_adapter,
    observed,
    call,
):
    adapter = make_adapter(make_learner(**of_learner))
    result = call(adapter, *observed(50), n_points, steps)
    assert result["steps_taken"] == taken
    assert (result["losses"] == NOT_TAKEN).sum() == _MAX_STEPS - taken
    changed = (result["theta"] != adapter.init().numpy()).any()
    solves = "output_layer" in of_learner and n_points == 50
    assert changed == (taken > 0 or solves)


@_LEARNERS
@pytest.mark.parametrize("row", [30, 31])  # one of each half
@pytest.mark.parametrize(
    ("which", "value"), [("inputs", np.nan), ("values", np.inf)]
)
def test_values_that_are_not_finite_leave_theta_as_it_was(
    which, row, value, of_learner, make_learner, make_adapter, observed, call
):
    adapter = make_adapter(make_learner(**of_learner))
    inputs, values = observed(50)
    {"inputs": inputs, "values": values}[which][row, 1] = value
    result = call(adapter, inputs, values, 50, 3)
    assert result["steps_taken"] == 0
    np.testing.assert_array_equal(result["theta"], adapter.init())
    assert (result["losses"] == NOT_TAKEN).all()


@_LEARNERS
def test_a_diverging_fit_returns_the_last_finite_weights(
    of_learner, make_learner, make_adapter, observed, call
):
    # Steps of 1e20 overflow within a few.
    adapter = make_adapter(make_learner(lr=1e20, **of_learner))
    result = call(adapter, *observed(50), 50, _MAX_STEPS)
    assert 0 < result["steps_taken"] < _MAX_STEPS
    assert np.isfinite(result["theta"]).all()
    assert (result["losses"][result["steps_taken"] :] == NOT_TAKEN).all()


def test_float16_rounds_the_stored_weights_only(
    make_learner, make_adapter, observed, call, raises_with
):
    learner = make_learner()
    half = make_adapter(learner, precision="float16")
    exact = functional.flatten(functional.get_params(learner.field)).numpy()
    np.testing.assert_array_equal(
        half.init(), exact.astype(np.float16).astype(np.float32)
    )
    result = call(half, *observed(50), 50, 2)
    assert result["theta"].dtype == np.float32
    with raises_with(ValueError, "`precision`", "int8"):
        make_adapter(learner, precision="int8")


def test_relu_has_the_gradient_of_keras():
    x = tf.constant([-2.0, -0.5, 0.0, 0.5, 3.0])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        ours, theirs = layers.relu(x) ** 2, keras.activations.relu(x) ** 2
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(
        tape.gradient(ours, x), tape.gradient(theirs, x)
    )


def test_relu_has_second_derivatives():
    """d/dx of x -> (relu(x)^2)', which is 2 where x > 0 and 0 elsewhere."""
    x = tf.constant([-1.0, 2.0])
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            y = layers.relu(x) ** 2
        gradient = inner.gradient(y, x)
    np.testing.assert_allclose(outer.gradient(gradient, x), [0.0, 2.0])


def test_a_saved_network_of_relus_loads(tmp_path):
    field = networks.FourierMLP(2, 1, hidden_layers=1, hidden_units=4, seed=0)
    field.save(tmp_path / "field.keras")
    loaded = keras.saving.load_model(tmp_path / "field.keras")
    coords = np.ones((3, 2), np.float32)
    np.testing.assert_array_equal(loaded(coords), field(coords))


def test_an_adapter_takes_steps_of_the_squared_error_only(
    make_learner, make_adapter, raises_with
):
    learner = make_learner()
    learner.support_loss = FieldLoss(learner.field, measure=lambda p, v: (p, v))
    with raises_with(ValueError, "`learner`"):
        make_adapter(learner)
