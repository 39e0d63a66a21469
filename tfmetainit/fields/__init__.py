"""Neural fields: coordinate networks as Keras models, and their layers.

May import: Keras, NumPy. Importing this package registers all of them with
Keras, so that `.keras` files load.
"""

from tfmetainit.fields.layers import (
    FourierFeatures,
    PositionalEncoding,
    SineDense,
    relu,
    softplus,
)
from tfmetainit.fields.networks import SIREN, FourierMLP, SimplifiedNeRF
