"""A run's folder: what is in it, and how its config is read back.

    config.json                      the config, all fields
    checkpoints/last.weights.h5      learner and optimizer: where to resume
    checkpoints/best.weights.h5      the same at the best validation PSNR
    checkpoints/best.json            the step and the PSNR of the latter
    tensorboard/                     scalars and reconstruction pictures
    lock                             held by a training while it runs

Weights are HDF5 files, written under a temporary name and renamed; reading one
never runs code.

The package comes with a few runs, without their optimizers and in half
precision: wherever a trained run is asked for, their names are taken as well.
"""

import dataclasses
import json
import math
import pathlib

import ml_collections

from tfmetainit import files
from tfmetainit.configs import default
from tfmetainit.errors import InputError

_OPTIONS_OF_IMAGES = {
    "ct": ("query_between",),
    "objects": ("points_per_step", "query_between"),
    "phototourism": ("points_per_step", "query_between"),
}
PRETRAINED = pathlib.Path(__file__).parent / "pretrained"


@dataclasses.dataclass(frozen=True)
class Workdir:
    """The paths of a run's files."""

    root: pathlib.Path

    def __post_init__(self):
        if self.root == "":  # for pathlib, the working folder
            raise InputError("--workdir must name a folder. Received: ''")
        object.__setattr__(self, "root", pathlib.Path(self.root))

    @property
    def config(self):
        return self.root / "config.json"

    @property
    def sources(self):
        """What the files were that its signals are read from."""
        return self.root / "sources.json"

    @property
    def last(self):
        return self.root / "checkpoints" / "last.weights.h5"

    @property
    def best(self):
        return self.root / "checkpoints" / "best.weights.h5"

    @property
    def best_record(self):
        return self.root / "checkpoints" / "best.json"

    @property
    def card(self):
        """Of a published copy, its model card."""
        return self.root / "README.md"

    @property
    def lock(self):
        return self.root / "lock"

    @property
    def tensorboard(self):
        return self.root / "tensorboard"

    def read_best(self) -> dict:
        """What is known of the best checkpoint: at least "step" and "psnr".

        Raises:
            InputError: if that is missing, or not numbers.
        """
        best = files.read_json(self.best_record)
        problem = _difference(best, {"step": 0, "psnr": 0.0}, "the record")
        if problem:
            raise InputError(
                "A run's record of its best checkpoint must have "
                f"{problem[0]}. "
                f"Received: {self.best_record}, where it is missing or "
                "something else"
            )
        return best

    def read_config(self) -> ml_collections.ConfigDict:
        """The config of the run.

        Raises:
            InputError: if there is no run here.
        """
        if not self.config.is_file():
            names = ", ".join(pretrained_names())
            raise InputError(
                "A workdir must hold a training run (python -m "
                f"tfmetainit.train), or be one of the package's own: {names}. "
                f"Received: {self.root}, where there is no config.json"
            )
        config = files.read_json(self.config)
        _supply_earlier_settings(config)
        problem = config_problem(config)
        if problem:
            raise InputError(
                f"A run's config must have {problem[0]}. Received: "
                f"{self.config}, where it is missing or something else"
            )
        try:
            return ml_collections.ConfigDict(config)
        except (TypeError, ValueError) as error:  # names that it reserves
            raise InputError(
                f"{self.config} is not a config: {error}."
            ) from error


def _supply_earlier_settings(config) -> None:
    """Brings a run's config of an earlier day up to this one."""
    if not isinstance(config, dict):
        return
    optimizer, learner = config.get("optimizer"), config.get("learner")
    signal = config.get("signal")
    if isinstance(signal, dict):
        # They were in all configs, and of no use to these classes.
        for option in _OPTIONS_OF_IMAGES.get(signal.get("name"), ()):
            signal.pop(option, None)
    if isinstance(optimizer, dict):
        optimizer.setdefault("output_gain", 1.0)
        optimizer.setdefault("curvature_gain", 50.0)  # no run had any use of it
        # Was there for a day; 0 is what all do now.
        if optimizer.get("muon_rate") == 0:
            del optimizer["muon_rate"]
    if isinstance(learner, dict):
        learner.setdefault("step_size_gain", 128.0)
        learner.setdefault("early_loss_weight", 0.0)


def config_problem(config) -> tuple[str, object] | None:
    """What a config, as JSON has it, must have, and has instead; or None."""
    expected = json.loads(
        default.get_config().copy_and_resolve_references().to_json()
    )
    # What the others are is up to the class of signals.
    expected["signal"] = {"name": ""}
    return _difference(config, expected, "config")


def pretrained_names() -> list[str]:
    """Names of the runs that come with the package."""
    return sorted(path.parent.name for path in PRETRAINED.glob("*/config.json"))


def find_run(path) -> Workdir:
    """The run in a folder, or one of the package's own by its name.

    A run in a folder of that name goes first. Whether there is a run at all is
    checked when it is read.
    """
    workdir = Workdir(path)
    name = str(workdir.root)
    if not workdir.config.is_file() and name in pretrained_names():
        return Workdir(PRETRAINED / name)
    return workdir


def _difference(found, expected, name):
    """The first field that is not of the kind expected, or None.

    Args:
        found: what was read from JSON.
        expected: what it must have at least, values standing for their kinds.
        name: of the two.

    Returns:
        What is expected, in words, and what was found instead.
    """
    if isinstance(expected, dict):
        if not isinstance(found, dict):
            return f"the section {name}", found
        for key, value in expected.items():
            problem = _difference(found.get(key), value, f"{name}.{key}")
            if problem:
                return problem
        return None
    if isinstance(expected, bool):
        wanted, valid = f"true or false for {name}", isinstance(found, bool)
    elif isinstance(expected, (int, float)):
        # For Python, true is a number.
        wanted = f"a number for {name}"
        valid = type(found) in (int, float) and math.isfinite(found)
    elif isinstance(expected, list):
        wanted = f"a list of numbers for {name}"
        valid = isinstance(found, list) and found
        valid = valid and not any(
            _difference(item, expected[0], name) for item in found
        )
    elif expected is None:  # a path, or nothing
        wanted, valid = name, found is None or isinstance(found, str)
    else:
        wanted, valid = f"a string for {name}", isinstance(found, str)
    return None if valid else (wanted, found)
