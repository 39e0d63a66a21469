"""The inner loop's step sizes, as a Keras layer beside the field.

There are four granularities: one number; one per parameter tensor; one per
weight (Meta-SGD, Li et al. 2017, arXiv 1707.09835); or one per tensor, with
matrices on both sides of each kernel's gradient (Meta-Curvature, Park & Oliva
2019, arXiv 1902.03356, without its third mode). Step sizes are fixed, or
learned together with the initial weights.
"""

import math

import keras
import tensorflow as tf

from tfmetainit.meta import functional

# Each granularity, and those that it can represent (`StepSizes.keep_from`).
_HOLDS = {
    "scalar": ("scalar",),
    "tensor": ("scalar", "tensor"),
    "weight": ("scalar", "tensor", "weight"),
    "curvature": ("scalar", "tensor", "curvature"),
}
GRANULARITIES = tuple(_HOLDS)

# Step sizes range from 1e-2 (SIREN) to 1e3 (the first layer of a CT field), so
# they are learned as logarithms: an outer update by u multiplies a step size by
# exp(gain u). With this gain, an outer Adam of rate 3e-5 changes it by about
# 1.5% per iteration.
DEFAULT_GAIN = 512.0


@keras.saving.register_keras_serializable(package="tfmetainit")
class StepSizes(keras.layers.Layer):
    """The inner loop's step sizes, stored as weights beside the field's.

    Args:
        shapes: shapes of the field's parameters, in their order.
        initial: positive float, the initial value of every step size.
        granularity: "scalar" (one number), "tensor" (one for each parameter
            tensor), "weight" (one for each entry) or "curvature" (one for each
            parameter tensor, and matrices on both sides of each kernel's
            gradient, which start as the identity).
        learned: whether the outer loop updates them (Meta-SGD). The numbers
            stay positive.
        gain: positive float. A step size is initial * exp(gain * v), where v
            is the variable that the outer loop updates.

    Raises:
        ValueError: if `granularity` is unknown, or a number is not positive.
    """

    def __init__(
        self,
        shapes,
        initial=1e-2,
        granularity="scalar",
        learned=False,
        gain=DEFAULT_GAIN,
        **kwargs,
    ):
        super().__init__(trainable=learned, **kwargs)
        if granularity not in GRANULARITIES:
            raise ValueError(
                f"`granularity` must be one of {GRANULARITIES}. Received: "
                f"granularity={granularity!r}"
            )
        if not initial > 0:
            raise ValueError(
                f"`initial` must be positive. Received: initial={initial}"
            )
        if not gain > 0:
            raise ValueError(f"`gain` must be positive. Received: gain={gain}")
        self.shapes = [tuple(shape) for shape in shapes]
        self.initial = float(initial)
        self.gain = float(gain)
        self.granularity = granularity
        self.learned = learned
        variable_shapes = {
            "scalar": [()],
            "tensor": [()] * len(self.shapes),
            "weight": self.shapes,
            "curvature": [()] * len(self.shapes),
        }[granularity]
        self.logarithms = [
            self._add_zeros(f"logarithm_{index}", shape)
            for index, shape in enumerate(variable_shapes)
        ]
        self._kernels = [
            index
            for index, shape in enumerate(self.shapes)
            if granularity == "curvature" and len(shape) == 2
        ]
        # For each kernel, the difference of its matrices from the identity.
        self.sides = [
            functional.Sides(
                *(
                    self._add_zeros(f"{side}_{index}", (size, size))
                    for side, size in zip(
                        functional.Sides._fields, self.shapes[index]
                    )
                )
            )
            for index in self._kernels
        ]
        self.built = True

    def _add_zeros(self, name, shape):
        return self.add_weight(
            name=name,
            shape=shape,
            initializer="zeros",
            trainable=self.learned,
        )

    def as_params(self) -> functional.StepParams:
        """The step sizes as `adapt` takes them: one for each parameter."""
        sizes = [
            self.initial * tf.exp(self.gain * tf.convert_to_tensor(logarithm))
            for logarithm in self.logarithms
        ]
        if self.granularity == "scalar":
            return sizes * len(self.shapes)
        for index, sides in zip(self._kernels, self.sides):
            # Its square root on each side, or small ones underflow in float16.
            root = tf.sqrt(sizes[index])
            sizes[index] = functional.Sides(
                *(
                    root * (tf.eye(side.shape[0], dtype=root.dtype) + side)
                    for side in map(tf.convert_to_tensor, sides)
                )
            )
        return sizes

    def keep_from(self, other: "StepSizes") -> None:
        """Copies the step sizes of another layer for the same shapes.

        Raises:
            ValueError: if this layer's granularity cannot represent them.
        """
        if other.granularity not in _HOLDS[self.granularity]:
            raise ValueError(
                f"Step sizes of granularity {self.granularity!r} cannot "
                f"represent those of granularity {other.granularity!r}."
            )
        offset = math.log(other.initial / self.initial)
        logarithms = other.logarithms
        if len(logarithms) == 1:
            logarithms = logarithms * len(self.logarithms)
        for mine, logarithm in zip(self.logarithms, logarithms):
            value = (offset + other.gain * logarithm) / self.gain
            mine.assign(tf.broadcast_to(value, mine.shape))
        for mine, sides in zip(self.sides, other.sides):
            for matrix, value in zip(mine, sides):
                matrix.assign(value)

    def get_config(self):
        config = super().get_config()
        del config["trainable"]
        return {
            **config,
            "shapes": self.shapes,
            "initial": self.initial,
            "granularity": self.granularity,
            "learned": self.learned,
            "gain": self.gain,
        }
