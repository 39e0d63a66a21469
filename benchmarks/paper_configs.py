"""The paper's own configs: how long they take to start, and ten outer steps.

    python benchmarks/paper_configs.py

Each config is trained for a few outer steps, on drawn signals of the same sizes
in place of the data that it names. A start is the time from the import of
TensorFlow to the end of the first outer step, less the median time of the
others. Signals are drawn before.
"""

import itertools
import statistics
import time

_STARTED = time.monotonic()

from absl import flags
from common import last_line_of_child

from tfmetainit import cli

cli.quiet_tensorflow()

import keras

from tfmetainit.configs import (
    celeb_a,
    ct,
    landmark,
    phototourism,
    shapenet,
    text,
)
from tfmetainit.evaluation.tables import markdown_table
from tfmetainit.runs import build
from tfmetainit.training import build_optimizer

_FLAGS = flags.FLAGS
_CONFIGS = {
    "celeb_a": celeb_a,
    "ct": ct,
    "shapenet": shapenet,
    "phototourism": phototourism,
}
flags.DEFINE_integer("steps", 10, "Outer steps after the first.")
flags.DEFINE_list("names", list(_CONFIGS), "Configs.")
flags.DEFINE_string("only", None, "Measures one config in this process.")


def _make_config(name):
    """A config of the paper, with signals that are drawn."""
    config = _CONFIGS[name].get_config()
    if name == "celeb_a":
        own = config.signal
        config.signal = text.get_config().signal
        for field in ("resolution", "points_per_step", "query_between"):
            config.signal[field] = own[field]
    if name == "phototourism":
        config.signal.scale = landmark.get_config().signal.scale
    with config.unlocked():
        config.signal.num_train, config.signal.num_eval = 8, 2
    return config


class _Times(keras.callbacks.Callback):
    """The times at which outer steps end."""

    def __init__(self):
        super().__init__()
        self.ends = []

    def on_train_batch_end(self, batch, logs=None):
        self.ends.append(time.monotonic())


def _measure(name):
    """Seconds of a start, and of each step after it."""
    config = _make_config(name)
    next(iter(build.build_signal(config).make_dataset("train", 1)))  # draws
    drawn = time.monotonic()
    signal = build.build_signal(config)
    learner = build.build_learner(config, signal)
    learner.compile(optimizer=build_optimizer(config, learner))
    times = _Times()
    learner.fit(
        signal.make_dataset("train", config.batch_size, seed=0),
        steps_per_epoch=1 + _FLAGS.steps,
        shuffle=False,  # the dataset is shuffled already
        verbose=0,
        callbacks=[times],
    )
    steps = [b - a for a, b in itertools.pairwise(times.ends)]
    step = statistics.median(steps)
    return _IMPORTED - _STARTED + times.ends[0] - drawn - step, step


def main(argv):
    """Measures the configs in processes of their own and prints a table."""
    del argv
    if _FLAGS.only:
        print(*_measure(_FLAGS.only))
        return
    rows = []
    for name in _FLAGS.names:
        output = last_line_of_child(f"--only={name}")
        start, step = map(float, output.split())
        num_steps = _CONFIGS[name].get_config().num_steps
        days = num_steps * step / 86_400
        rows.append(
            [
                f"`configs/{name}.py`",
                f"{start:.0f} s",
                f"{step:.2f} s",
                f"{num_steps:,}".replace(",", " "),
                f"{days:.1f} days",
            ]
        )
        print(*rows[-1])
    titles = ["config", "start", "outer step", "outer steps", "whole run"]
    print(markdown_table(titles, rows))


_IMPORTED = time.monotonic()

if __name__ == "__main__":
    cli.run(main, __doc__)
