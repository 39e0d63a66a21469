"""Neural fields: coordinate networks as Keras models, and their layers.

May import: Keras, NumPy. Importing this room registers all of them, so that
`.keras` files load.
"""

from tfmetainit.fields.layers import (
    FourierFeatures,
    PositionalEncoding,
    SineDense,
    relu,
    softplus,
)
from tfmetainit.fields.networks import SIREN, FourierMLP, SimplifiedNeRF
