"""A training run: its folder, and the objects that its config describes.

May import: all rooms but `cli`. From a config to a signal class, a field and a
learner; from a run back to a trained learner; fits with it.
"""

from tfmetainit.runs.build import (
    build_learner,
    build_signal,
    load,
    load_learner,
    load_signal,
)
from tfmetainit.runs.check import check_config
from tfmetainit.runs.fitter import RunFitter
from tfmetainit.runs.functaset import Example, Functaset
from tfmetainit.runs.warm_start import warm_start
from tfmetainit.runs.workdir import Workdir, find_run, pretrained_names
