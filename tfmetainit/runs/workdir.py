"""A run's folder: its files, and how its config is read back.

    config.json                      the config, all fields
    sources.json                     names and sizes of the input files
    checkpoints/last.weights.h5      learner and optimizer: where to resume
    checkpoints/last.json            the best mean loss of an epoch so far
    checkpoints/best.weights.h5      learner and optimizer at the best PSNR
    checkpoints/best.json            step and validation PSNR of the best
    checkpoints/prior.npz            the prior of unseen values (prior.py)
    tensorboard/                     scalars and reconstruction pictures
    lock                             held by a training while it runs

Weights are HDF5 files, written atomically; reading one never runs code.

A few runs come with the package, without their optimizers and in half
precision. Their names are accepted wherever a trained run is.
"""

import pathlib

import ml_collections

from tfmetainit.io import files
from tfmetainit.io.errors import InputError
from tfmetainit.runs import config_check

PRETRAINED = pathlib.Path(__file__).parent.parent / "pretrained"


class Workdir:
    """The paths of a run's files, as listed above.

    Args:
        root: path of the folder.

    Attributes:
        card: the model card of a published copy.
    """

    def __init__(self, root):
        if root == "":  # pathlib takes it for the current folder
            raise InputError("`workdir` must name a folder. Received: ''")
        self.root = pathlib.Path(root)
        self.config = self.root / "config.json"
        self.sources = self.root / "sources.json"
        self.card = self.root / "README.md"
        self.lock = self.root / "lock"
        self.tensorboard = self.root / "tensorboard"
        checkpoints = self.root / "checkpoints"
        self.last = checkpoints / "last.weights.h5"
        self.last_record = checkpoints / "last.json"
        self.best = checkpoints / "best.weights.h5"
        self.best_record = checkpoints / "best.json"
        self.prior = checkpoints / "prior.npz"

    def read_best(self) -> dict:
        """The record of the best checkpoint: at least "step" and "psnr".

        Raises:
            InputError: if it is missing or malformed.
        """
        best = files.read_json(self.best_record)
        try:
            return {**best, "step": int(best["step"]), "psnr": best["psnr"] + 0}
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                "The record of a run's best checkpoint must have the numbers "
                f"step and psnr. Received: {self.best_record} ({error!r})"
            ) from error

    def read_config(self) -> ml_collections.ConfigDict:
        """The config of the run.

        Raises:
            InputError: if there is no run here.
        """
        if not self.config.is_file():
            names = ", ".join(pretrained_names())
            raise InputError(
                "`workdir` must hold a training run (python -m "
                f"tfmetainit.train), or be one of the package's own: {names}. "
                f"Received: {self.root}, which has no config.json"
            )
        return config_check.complete(files.read_json(self.config), self.config)


def pretrained_names() -> list[str]:
    """Names of the runs that come with the package."""
    return sorted(path.parent.name for path in PRETRAINED.glob("*/config.json"))


def find_run(path) -> Workdir:
    """The run in a folder, or one of the package's own by its name.

    A folder of that name that holds a run takes precedence. Whether the run
    exists is checked only when it is read.
    """
    workdir = Workdir(path)
    name = str(workdir.root)
    if not workdir.config.is_file() and name in pretrained_names():
        return Workdir(PRETRAINED / name)
    return workdir
