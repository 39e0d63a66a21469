"""Which split a file of a folder belongs to."""

import os

import numpy as np

from tfmetainit.signals.base import folder
from tfmetainit.signals.base.pipeline import SPLITS


def test_a_file_keeps_its_split():
    names = [f"photo_{i}.jpg" for i in range(2000)]
    share = {
        split: sum(folder.split_of(n) == split for n in names) / 2000
        for split in SPLITS
    }
    np.testing.assert_allclose(
        [share[s] for s in SPLITS], [0.8, 0.1, 0.1], atol=0.03
    )
    # Of a name that is not UTF-8, as Python has it, too.
    assert folder.split_of(os.fsdecode(b"caf\xe9.png")) in SPLITS
