"""Names of Keras that this package relies on, and that are not public.

If a test here fails, Keras has changed: look at the code that it names.
"""

import inspect

import keras
import pytest
import tensorflow as tf


def test_a_model_is_built_by_the_trainer_in_this_method():
    """`MetaLearner` overrides it to keep Keras from drawing a batch."""
    method = keras.Model._maybe_symbolic_build
    assert list(inspect.signature(method).parameters) == [
        "self",
        "iterator",
        "data_batch",
    ]
    trainer = inspect.getsource(inspect.getmodule(method))
    assert trainer.count("._maybe_symbolic_build(") >= 2  # fit, evaluate


def test_a_compiled_step_is_dropped_by_these_attributes():
    """`MetaLearner._trace_anew` sets them to None."""
    model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    data = tf.ones([2, 1])
    model.fit(data, data, verbose=0)
    model.evaluate(data, data, verbose=0)
    model.predict(data, verbose=0)
    for name in ("train_function", "test_function", "predict_function"):
        made = getattr(model, name)
        assert made is not None
        setattr(model, name, None)
    model.fit(data, data, verbose=0)
    assert model.train_function is not None


def test_adam_updates_a_variable_in_this_method():
    """The optimizer's `update_step` multiplies the rate of some variables."""
    parameters = inspect.signature(keras.optimizers.Adam.update_step).parameters
    assert list(parameters) == ["self", "gradient", "variable", "learning_rate"]


def test_adam_finds_a_variable_by_its_index():
    variable = keras.Variable([1.0], name="kernel")
    adam = keras.optimizers.Adam()
    adam.build([variable])
    index = adam._get_variable_index(variable)
    assert adam._trainable_variables[index] is variable


def test_an_error_of_a_reader_is_named_in_tensorflows_error():
    """`cli.flags` takes the message of an InputError out of it."""

    def fail(x):
        raise ValueError("the sentence")

    dataset = tf.data.Dataset.range(1).map(
        lambda x: tf.numpy_function(fail, [x], tf.int64)
    )
    with pytest.raises(tf.errors.OpError) as error:
        list(dataset)
    assert "ValueError: the sentence" in str(error.value)
