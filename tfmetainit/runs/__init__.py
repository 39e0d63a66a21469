"""A training run: its folder, and the objects that its config describes.

May import: all subpackages but `cli`. Builds the signal class, the field and
the learner of a config, loads the trained learner of a run, and fits with it.
"""

from tfmetainit.runs.build import (
    build_learner,
    build_signal,
    load,
    load_learner,
    load_signal,
)
from tfmetainit.runs.bulk_fit import BulkFit, fit_on_beam
from tfmetainit.runs.config_check import check_config
from tfmetainit.runs.functaset import Example, Functaset, read_functaset
from tfmetainit.runs.run_fitter import RunFitter
from tfmetainit.runs.warm_start import warm_start
from tfmetainit.runs.workdir import Workdir, find_run, pretrained_names
