"""Peak signal-to-noise ratio."""

import numpy as np

# 100 dB: keeps the mean over signals finite when one fit is exact, for example
# of a flat colour.
MIN_MSE = 1e-10


def psnr_from_mse(mse):
    """PSNR in dB of values in [0, 1]: -10 log10(mse).

    Mean scores average the PSNRs of the signals, not their squared errors
    (Tancik et al. 2021). A perfect fit counts as 100 dB.

    Args:
        mse: mean squared error, a number or an array.
    """
    return -10.0 * np.log10(np.maximum(mse, MIN_MSE))
