"""The shortest example learns what it says, as a user runs it."""

import pathlib
import re
import subprocess
import sys

_ROOT = pathlib.Path(__file__).resolve().parent.parent


def _numbers(label, text):
    (line,) = re.findall(rf"{label} weights (.*)", text)
    return [float(number) for number in line.split()]


def test_learned_weights_beat_random_ones(tmp_path):
    result = subprocess.run(
        [sys.executable, _ROOT / "examples" / "minimal_maml.py"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    learned = _numbers("learned", result.stdout)
    random = _numbers("random", result.stdout)
    assert len(learned) == len(random) == 5
    assert learned[1] > 24.0
    assert learned[4] > 32.0
    assert learned[4] > max(random) + 8.0
