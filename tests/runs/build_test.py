"""What a config is built into: options that make nothing are refused."""

import pytest
import tensorflow as tf

from tfmetainit import train
from tfmetainit.io.errors import InputError
from tfmetainit.runs import build


@pytest.mark.parametrize(
    ("field", "value", "parts"),
    [
        ("field.name", "mlp", ["`field.name`", "mlp"]),
        ("learner.name", "sgd", ["`learner.name`", "sgd"]),
        ("learner.inner_steps", 0, ["`learner.inner_steps`"]),
        ("learner.step_sizes", "layer", ["`config.learner`", "layer"]),
        ("learner.step_on", "thirds", ["`step_on`", "'thirds'"]),
        # The steps see half of the pixels.
        (
            "signal.points_per_step",
            64,
            ["`learner.step_on`", "use 'all'", "64"],
        ),
        ("field.hidden_units", -3, ["`hidden_units`", "-3"]),
        ("optimizer.learning_rate", 0.0, ["`optimizer.learning_rate`"]),
        ("optimizer.output_gain", -1.0, ["`optimizer.output_gain`", "-1.0"]),
        ("optimizer.curvature_gain", 0.0, ["`optimizer.curvature_gain`"]),
        ("field.hidden_units", 10**8, ["`field.hidden_units`", "[1, "]),
        ("field.name", "os.path.join", ["`field.name`", "os.path.join"]),
        ("field.name", "nowhere.Field", ["`field.name`", "'nowhere'"]),
        (
            "learner.name",
            "tfmetainit.SIREN",
            ["`learner.name`", "MetaLearner", "tfmetainit.SIREN"],
        ),
        ("signal.name", "nothing", ["`signal.name`", "nothing"]),
        ("signal.name", "..text", ["`signal.name`", "..text"]),
    ],
)
def test_wrong_configs_are_named(
    tmp_path, field, value, parts, small_config, raises_with
):
    config = small_config(**{field: value})
    with raises_with(InputError, *parts):
        train.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_solved_output_layer_fits_what_it_observes_only(raises_with):
    """Signals that are observed through a model would be solved wrongly."""
    learner, signal = build.load("text_64"), build.load_signal("text_64")
    build.use_class(learner, signal)
    signal.support_model = lambda field, inputs: 2.0 * field(inputs)
    with raises_with(InputError, "`config.signal`", "`output_layer`"):
        build.use_class(learner, signal)


def test_halves_are_those_of_the_class(raises_with):
    learner, signal = build.load("photos_128"), build.load_signal("photos_128")
    assert learner.raster_width == 128
    signal.raster_width = 20
    build.use_class(learner, signal)
    assert learner.raster_width == 20
    signal.raster_width = None
    with raises_with(InputError, "halves of pictures", type(signal).__name__):
        build.use_class(learner, signal)
    signal.points_per_step = 77
    with raises_with(InputError, "`points_per_step`", "77"):
        build.use_class(learner, signal)


def test_only_training_may_multiply_in_fewer_bits(tmp_path, small_config):
    enabled = tf.config.experimental.tensor_float_32_execution_enabled
    train.train(
        small_config(matmul_precision="tensorfloat32"), tmp_path / "run"
    )
    assert enabled()
    build.load(tmp_path / "run")
    assert not enabled()
