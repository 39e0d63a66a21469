"""Layers and activations of the fields.

They use only operations that LiteRT has, in the backward pass too. What a
`.keras` file names is registered under the package name `tfmetainit`.
"""

import inspect

import keras
import numpy as np
from keras import ops

if keras.config.backend() != "tensorflow":
    raise ImportError(
        "tfmetainit needs Keras's TensorFlow backend: set KERAS_BACKEND to "
        "tensorflow before Keras is imported. "
        f"Received: {keras.config.backend()}"
    )

PACKAGE = "tfmetainit"


class Configured:
    """Mixin that derives a Keras layer's `get_config` from its constructor.

    Every argument must be stored in an attribute of the same name.
    """

    def get_config(self):
        config = super().get_config()
        for base in type(self).__mro__:
            if issubclass(base, Configured) and "__init__" in vars(base):
                for name in inspect.signature(base.__init__).parameters:
                    if name not in ("self", "kwargs"):
                        config[name] = getattr(self, name)
        return config


def check_positive(**arguments):
    """Raises ValueError unless every keyword argument is positive."""
    for name, value in arguments.items():
        if not value > 0:
            raise ValueError(
                f"`{name}` must be positive. Received: {name}={value}"
            )


def sine_uniform(w0, seed=None):
    """Initializer U(-b, b) with b = sqrt(6 / fan_in) / w0.

    SIREN uses it for every kernel after the first, including the output's.
    Pre-activations then have unit variance (Sitzmann et al. 2020, section 3.2).

    Args:
        w0: positive float, the angular frequency of the layer.
        seed: integer seed, or None.
    """
    # VarianceScaling draws from U(-b, b) with b = sqrt(3 * scale / fan_in).
    return keras.initializers.VarianceScaling(
        scale=2.0 / w0**2, mode="fan_in", distribution="uniform", seed=seed
    )


INITIALIZERS = ("lecun", "haiku")

# The standard deviation of a standard normal distribution that is truncated at
# two standard deviations.
_TRUNCATED_STDDEV = 0.87962566103423978


def relu_kernels(name, seed=None):
    """Initializer of ReLU layers: a normal distribution, truncated at 2 sigma.

    The standard deviation is 1 / sqrt(fan_in) with "lecun", and 0.88 of that
    with "haiku": the framework of the paper's authors does not correct sigma
    for the truncation.

    Args:
        name: "lecun" or "haiku".
        seed: integer seed, or None.

    Raises:
        ValueError: if the name is unknown.
    """
    if name not in INITIALIZERS:
        raise ValueError(
            f"`initializer` must be one of {INITIALIZERS}. Received: {name!r}"
        )
    return keras.initializers.VarianceScaling(
        scale=1.0 if name == "lecun" else _TRUNCATED_STDDEV**2,
        mode="fan_in",
        distribution="truncated_normal",
        seed=seed,
    )


@keras.saving.register_keras_serializable(package=PACKAGE)
@ops.custom_gradient
def relu(x):
    """`max(x, 0)`, whose derivative uses only operations that LiteRT has.

    The derivative is 1 where x > 0, else 0, as in `keras.activations.relu`.
    There it is computed by the operation `ReluGrad`, which LiteRT lacks.
    """
    y = ops.relu(x)

    def grad(upstream):
        return upstream * ops.cast(y > 0, y.dtype)

    return y, grad


@ops.custom_gradient
def softplus(x):
    """`log(1 + exp(x))`, without overflow, in operations that LiteRT has.

    The derivative is the sigmoid. Differentiating the formula below would give
    0 at x = 0, which is the output of a network without biases whose ReLUs are
    all dead.
    """

    def grad(upstream):
        return upstream * ops.sigmoid(x)

    # log(1 + u). Small u would be rounded away in 1 + u: a series for them.
    u = ops.exp(-ops.abs(x))
    series = u * (1.0 - u * (1.0 / 2.0 - u * (1.0 / 3.0 - u / 4.0)))
    return ops.relu(x) + ops.where(u < 1e-2, series, ops.log(1.0 + u)), grad


@ops.custom_gradient
def sine(x):
    """`sin(x)`, whose derivatives of any order reuse its sine and cosine.

    TensorFlow's own gradient makes the cosine depend on the upstream gradient,
    and the graph optimizer then cannot reuse it for an outer tape. With this
    function a MAML step computes each sine and cosine once, and takes 0.96 of
    the time.
    """
    return ops.sin(x), lambda upstream: upstream * cosine(x)


@ops.custom_gradient
def cosine(x):
    """`cos(x)`; see `sine`."""
    return ops.cos(x), lambda upstream: -upstream * sine(x)


@keras.saving.register_keras_serializable(package=PACKAGE)
class SineDense(Configured, keras.layers.Layer):
    """Dense layer with a sine activation: `sin(w0 * (x @ kernel + bias))`.

    Args:
        units: positive integer, the width of the output.
        w0: positive float, the angular frequency.
        kernel_initializer: defaults to `sine_uniform(w0)`.

    Raises:
        ValueError: if `units` or `w0` is not positive.

    Input shape: `[..., input_dims]`. Output shape: `[..., units]`, in [-1, 1].

    Example:
    >>> layer = SineDense(256, w0=200.0)
    >>> layer(np.zeros([5, 2])).shape
    TensorShape([5, 256])
    """

    def __init__(self, units, w0=200.0, kernel_initializer=None, **kwargs):
        super().__init__(**kwargs)
        check_positive(units=units, w0=w0)
        self.units = units
        self.w0 = float(w0)
        self.kernel_initializer = (
            keras.initializers.get(kernel_initializer)
            if kernel_initializer is not None
            else sine_uniform(self.w0)
        )

    def build(self, input_shape):
        self.kernel = self.add_weight(
            name="kernel",
            shape=(input_shape[-1], self.units),
            initializer=self.kernel_initializer,
        )
        self.bias = self.add_weight(
            name="bias", shape=(self.units,), initializer="zeros"
        )

    def call(self, inputs):
        # Scaling the weights instead of the activations gives the same values
        # with one [points, units] tensor less in the graph (equally fast).
        kernel = self.w0 * ops.convert_to_tensor(self.kernel)
        bias = self.w0 * ops.convert_to_tensor(self.bias)
        return sine(ops.add(ops.matmul(inputs, kernel), bias))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)


@keras.saving.register_keras_serializable(package=PACKAGE)
class FourierFeatures(Configured, keras.layers.Layer):
    """Random Fourier features: `concat(sin(x @ B), cos(x @ B))`.

    B is drawn once from N(0, scale^2) and frozen: it is a non-trainable weight,
    saved and exported but never adapted. There is no factor of 2 pi (Tancik et
    al. 2021, CT notebook).

    Args:
        num_frequencies: positive integer; the output is twice as wide.
        scale: positive float, the standard deviation of B, in radians per unit
            of coordinate.
        seed: integer seed of B, or None.

    Raises:
        ValueError: if `num_frequencies` or `scale` is not positive.

    Input shape: `[..., input_dims]`. Output: `[..., 2 * num_frequencies]`.
    """

    def __init__(self, num_frequencies=256, scale=30.0, seed=None, **kwargs):
        super().__init__(**kwargs)
        check_positive(num_frequencies=num_frequencies, scale=scale)
        self.num_frequencies = num_frequencies
        self.scale = float(scale)
        self.seed = seed

    def build(self, input_shape):
        self.frequencies = self.add_weight(
            name="frequencies",
            shape=(input_shape[-1], self.num_frequencies),
            initializer=keras.initializers.RandomNormal(
                stddev=self.scale, seed=self.seed
            ),
            trainable=False,
        )

    def call(self, inputs):
        phases = ops.matmul(inputs, self.frequencies)
        return ops.concatenate([ops.sin(phases), ops.cos(phases)], axis=-1)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], 2 * self.num_frequencies)


@keras.saving.register_keras_serializable(package=PACKAGE)
class PositionalEncoding(Configured, keras.layers.Layer):
    """Positional encoding: `concat(sin(x * f), cos(x * f))`, without x itself.

    The frequencies f are 2^i for i evenly spaced in [0, max_exponent] (Tancik
    et al. 2021, view synthesis notebook). They are constants, not weights.

    Args:
        num_frequencies: positive integer, for each coordinate.
        max_exponent: positive float, the exponent of the last frequency.

    Raises:
        ValueError: if an argument is not positive.

    Input shape: `[..., dims]`. Output: `[..., 2 * num_frequencies * dims]`.
    """

    def __init__(self, num_frequencies=20, max_exponent=8.0, **kwargs):
        super().__init__(**kwargs)
        check_positive(
            num_frequencies=num_frequencies, max_exponent=max_exponent
        )
        self.num_frequencies = num_frequencies
        self.max_exponent = float(max_exponent)

    def build(self, input_shape):
        # A block matrix: all frequencies of one coordinate, then of the next.
        frequencies = 2.0 ** np.linspace(
            0.0, self.max_exponent, self.num_frequencies
        )
        self._frequencies = np.kron(
            np.eye(input_shape[-1]), frequencies[None]
        ).astype(self.compute_dtype)

    def call(self, inputs):
        phases = ops.matmul(inputs, self._frequencies)
        return ops.concatenate([ops.sin(phases), ops.cos(phases)], axis=-1)

    def compute_output_shape(self, input_shape):
        width = 2 * self.num_frequencies * input_shape[-1]
        return (*input_shape[:-1], width)
