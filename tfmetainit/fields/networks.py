"""Neural fields: coordinate networks as Keras models.

A field maps coordinates `[..., coord_dims]` to values `[..., value_dims]`.

- SIREN: Sitzmann et al. 2020, arXiv 2006.09661, with the constants of Tancik et
  al. 2021, arXiv 2012.02189 (w0 = 200 in every hidden layer, biases zero, an
  output offset of 0.5).
- FourierMLP: random Fourier features, Tancik et al. 2020, arXiv 2006.10739,
  followed by a ReLU network with sigmoid outputs.
- SimplifiedNeRF: colour and density of points in space (Tancik et al. 2021,
  section 4.3, after Mildenhall et al. 2020, arXiv 2003.08934).

Every model is built when it is constructed. All are registered under the
package name `tfmetainit`: once this module is imported, `.keras` files load
without `custom_objects`.
"""

import keras
import numpy as np
from keras import ops

from tfmetainit.fields.layers import (
    PACKAGE,
    Configured,
    FourierFeatures,
    PositionalEncoding,
    SineDense,
    check_positive,
    relu,
    relu_kernels,
    sine_uniform,
    softplus,
)


def _layer_seeds(seed, count):
    """Independent seeds for `count` layers, or Nones for an unseeded model.

    Keras initializers draw the same numbers from the same integer seed, so
    layers of one shape would start equal if they shared the model's seed.
    """
    if seed is None:
        return [None] * count
    return [int(s) for s in np.random.SeedSequence(seed).generate_state(count)]


class _CoordinateNetwork(Configured, keras.Model):
    """Base of the networks: sizes, precision, building, configuration.

    `hidden_dtype` is the dtype policy of the square layers, which take nearly
    all of the time. "mixed_bfloat16" keeps float32 weights and multiplies in
    bfloat16. Coordinates, first and last layer, losses and weights stay in the
    model's own precision: the 8 significant bits of a bfloat16 cannot represent
    the coordinates of neighbouring pixels.
    """

    def __init__(
        self,
        coord_dims,
        value_dims,
        hidden_layers,
        hidden_units,
        seed,
        hidden_dtype=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if self.compute_dtype not in ("float32", "float64"):
            raise ValueError(
                "`dtype` must be 'float32' or 'float64'. For half precision in "
                "the hidden layers, set hidden_dtype='mixed_bfloat16'. "
                "Received: "
                f"dtype={self.dtype_policy.name!r}"
            )
        if hidden_dtype not in (None, "mixed_bfloat16"):
            raise ValueError(
                "`hidden_dtype` must be None or 'mixed_bfloat16'. Received: "
                f"hidden_dtype={hidden_dtype!r}"
            )
        check_positive(
            coord_dims=coord_dims,
            value_dims=value_dims,
            hidden_layers=hidden_layers,
            hidden_units=hidden_units,
        )
        self.coord_dims = coord_dims
        self.value_dims = value_dims
        self.hidden_layers = hidden_layers
        self.hidden_units = hidden_units
        self.hidden_dtype = hidden_dtype
        self.seed = seed

    def build(self, input_shape=None):
        shape = (None, self.coord_dims)
        for layer in self.stack:
            layer.build(shape)
            shape = layer.compute_output_shape(shape)
        self.built = True

    def call(self, coords):
        outputs = coords
        for layer in self.stack:
            outputs = layer(outputs)
        return outputs

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.value_dims)


@keras.saving.register_keras_serializable(package=PACKAGE)
class SIREN(_CoordinateNetwork):
    """Sinusoidal network: sine layers, a linear output, plus `output_offset`.

    The defaults are the image network of Tancik et al. 2021: 198 915
    parameters for `coord_dims=2, value_dims=3`.

    Args:
        coord_dims: number of coordinates; each lies in [0, 1).
        value_dims: number of values, for example 3 for RGB.
        hidden_layers: number of sine layers.
        hidden_units: width of each.
        w0: angular frequency of every sine layer.
        output_offset: added to the linear output, so that zero weights give
            mid-grey.
        hidden_dtype: precision of the square layers, which take nearly all of
            the time: None for the model's own, or "mixed_bfloat16".
        seed: integer seed of the initial weights, or None.

    Raises:
        ValueError: if a size or `w0` is not positive, or a dtype is not
            supported.

    Input shape: `[..., coord_dims]`. Output shape: `[..., value_dims]`,
    unbounded.

    Example:
    >>> field = SIREN(seed=0)
    >>> field(np.zeros([7, 2])).shape
    TensorShape([7, 3])
    """

    def __init__(
        self,
        coord_dims=2,
        value_dims=3,
        hidden_layers=4,
        hidden_units=256,
        w0=200.0,
        output_offset=0.5,
        seed=None,
        **kwargs,
    ):
        super().__init__(
            coord_dims, value_dims, hidden_layers, hidden_units, seed, **kwargs
        )
        check_positive(w0=w0)
        self.w0 = float(w0)
        self.output_offset = float(output_offset)
        first, *others, last = _layer_seeds(seed, hidden_layers + 1)
        bound = 1.0 / coord_dims
        self.stack = [
            SineDense(
                hidden_units,
                w0=w0,
                kernel_initializer=keras.initializers.RandomUniform(
                    -bound, bound, seed=first
                ),
                dtype=self.dtype_policy,
                name="sine_0",
            )
        ]
        for index, layer_seed in enumerate(others, start=1):
            self.stack.append(
                SineDense(
                    hidden_units,
                    w0=w0,
                    kernel_initializer=sine_uniform(self.w0, layer_seed),
                    dtype=self.hidden_dtype or self.dtype_policy,
                    name=f"sine_{index}",
                )
            )
        self.stack.append(
            keras.layers.Dense(
                value_dims,
                kernel_initializer=sine_uniform(self.w0, last),
                dtype=self.dtype_policy,
                name="output",
            )
        )
        self.build()

    def features(self, coords):
        """The last hidden activations `[..., hidden_units]`, in [-1, 1]."""
        outputs = coords
        for layer in self.stack[:-1]:
            outputs = layer(outputs)
        return keras.ops.cast(outputs, self.compute_dtype)

    def call(self, coords):
        return super().call(coords) + self.output_offset


@keras.saving.register_keras_serializable(package=PACKAGE)
class FourierMLP(_CoordinateNetwork):
    """Random Fourier features, ReLU layers, sigmoid outputs.

    The defaults are the CT network of Tancik et al. 2021.

    Args:
        coord_dims: number of coordinates; each lies in [0, 1).
        value_dims: number of values.
        hidden_layers: number of ReLU layers.
        hidden_units: width of each.
        num_frequencies: number of random frequencies.
        scale: their standard deviation, in radians per unit of coordinate.
        initializer: "lecun", or "haiku" as in the paper (`relu_kernels`).
        hidden_dtype: as in `SIREN`.
        seed: integer seed of frequencies and initial weights, or None.

    Raises:
        ValueError: if a size or `scale` is not positive, `initializer` is
            unknown, or a dtype is not supported.

    Input shape: `[..., coord_dims]`. Output shape: `[..., value_dims]`, in
    (0, 1).
    """

    def __init__(
        self,
        coord_dims=2,
        value_dims=1,
        hidden_layers=4,
        hidden_units=256,
        num_frequencies=256,
        scale=30.0,
        initializer="lecun",
        seed=None,
        **kwargs,
    ):
        super().__init__(
            coord_dims, value_dims, hidden_layers, hidden_units, seed, **kwargs
        )
        self.num_frequencies = num_frequencies
        self.scale = float(scale)
        self.initializer = initializer
        first, *others = _layer_seeds(seed, hidden_layers + 2)
        self.stack = [
            FourierFeatures(
                num_frequencies,
                scale,
                seed=first,
                dtype=self.dtype_policy,
                name="features",
            )
        ]
        self.stack += _relu_layers(self, others, output_activation="sigmoid")
        self.build()


DENSITIES = ("softplus", "relu")


@keras.saving.register_keras_serializable(package=PACKAGE)
class SimplifiedNeRF(_CoordinateNetwork):
    """Colour and density of points in space, without view directions.

    The defaults are the network of Tancik et al. 2021, section 4.3: five ReLU
    layers of 256 on a positional encoding, then red, green, blue (sigmoid) and
    density. The authors' density is a ReLU. If it is negative everywhere, its
    gradient is zero and training never recovers, as users of their code report.
    Softplus, the default here, has a gradient everywhere.

    Args:
        coord_dims: number of coordinates, 3.
        value_dims: number of values, 4.
        hidden_layers: number of ReLU layers.
        hidden_units: width of each.
        num_frequencies: number of frequencies of the encoding.
        max_exponent: the highest frequency of the encoding is 2 to this power.
        density: "softplus", or "relu" (the paper's).
        density_shift: added to the raw density; a negative value makes the
            initial space nearly empty.
        initializer: as in `FourierMLP`.
        hidden_dtype: as in `SIREN`.
        seed: integer seed of the initial weights, or None.

    Input shape: `[..., 3]`. Output shape: `[..., 4]`: colours in (0, 1), and a
    density of at least 0 per unit of depth.

    Raises:
        ValueError: if `density` or `initializer` is unknown, the dimensions are
            not 3 and 4, a size is not positive, or a dtype is not supported.
    """

    def __init__(
        self,
        coord_dims=3,
        value_dims=4,
        hidden_layers=5,
        hidden_units=256,
        num_frequencies=20,
        max_exponent=8.0,
        density="softplus",
        density_shift=0.0,
        initializer="lecun",
        seed=None,
        **kwargs,
    ):
        super().__init__(
            coord_dims, value_dims, hidden_layers, hidden_units, seed, **kwargs
        )
        if (coord_dims, value_dims) != (3, 4):
            raise ValueError(
                "`coord_dims` and `value_dims` must be 3 and 4. Received: "
                f"coord_dims={coord_dims}, value_dims={value_dims}"
            )
        if density not in DENSITIES:
            raise ValueError(
                f"`density` must be one of {DENSITIES}. Received: "
                f"density={density!r}"
            )
        self.num_frequencies = num_frequencies
        self.max_exponent = float(max_exponent)
        self.density = density
        self.density_shift = float(density_shift)
        self.initializer = initializer
        self.stack = [
            PositionalEncoding(
                num_frequencies,
                max_exponent,
                dtype=self.dtype_policy,
                name="encoding",
            ),
            *_relu_layers(self, _layer_seeds(seed, hidden_layers + 1)),
        ]
        self.build()

    def call(self, coords):
        raw = super().call(coords)
        colors, density = ops.split(raw, [3], axis=-1)
        density = density + self.density_shift
        activate = relu if self.density == "relu" else softplus
        return ops.concatenate(
            [ops.sigmoid(colors), activate(density)], axis=-1
        )


def _relu_layers(model, seeds, output_activation=None):
    """The dense layers of a network: hidden layers, then the output layer."""
    widths = [model.hidden_units] * model.hidden_layers + [model.value_dims]
    layers = []
    for index, (units, seed) in enumerate(zip(widths, seeds)):
        is_output = index == model.hidden_layers
        is_square = 0 < index < model.hidden_layers
        layers.append(
            keras.layers.Dense(
                units,
                activation=output_activation if is_output else relu,
                kernel_initializer=relu_kernels(model.initializer, seed),
                dtype=(is_square and model.hidden_dtype) or model.dtype_policy,
                name="output" if is_output else f"relu_{index}",
            )
        )
    return layers
