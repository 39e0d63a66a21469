"""Progress bars for what runs without TensorFlow, too."""

from collections.abc import Iterable, Sequence


def progress(steps: Sequence, label: str, unit: str = "it") -> Iterable:
    """Wraps steps in a progress bar on a terminal, if tqdm is installed."""
    try:
        from tqdm import tqdm
    except ImportError:  # a device has NumPy, Pillow and LiteRT only
        return steps
    return tqdm(steps, desc=label, unit=unit, leave=False, disable=None)
