"""A dataset of fitted fields, in files that TFDS reads.

A "functaset" (Dupont et al. 2022, arXiv 2201.12204) holds, for each signal of a
split, the flat vector of its adapted weights and its PSNR before and after the
fit.

    <folder>/
      functaset.json                              the plan of the whole dataset
      learned.npz                                 with `bits`: see `io.codes`
      functaset-<split>.tfrecord-00000-of-00016   each complete, or missing
      features.json, dataset_info.json            TFDS's, once all files exist

Several workers may fill one folder; each writes its share of the files.
`read_functaset` reads the weights back, quantised or not.
"""

import math
import pathlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from tfmetainit.io import codes, files, weights
from tfmetainit.io.errors import InputError, check_range

_NAME = "functaset"
_PLAN = "functaset.json"
_LEARNED = "learned.npz"
_LOCK = ".lock"
_MAX_FILES = 99_999


class Example(NamedTuple):
    """One fitted signal.

    Attributes:
        index: index of the signal in its split.
        theta: float32 `[P]`, the adapted weights in their order, each flattened
            row by row; or their `Code`.
        psnr_before: PSNR in dB of the weights that the fit started from.
        psnr: PSNR in dB of theta.
    """

    index: int
    theta: np.ndarray | codes.Code
    psnr_before: float
    psnr: float


class Functaset:
    """The folder of a dataset.

    Args:
        folder: its path. A missing folder is made; a folder with the same plan
            is completed.
        split: name of the split that is fitted.
        num_signals: number of signals of the dataset.
        signals_per_file: number of signals of each file but the last.
        shapes: shapes of the parameters in theta, in their order.
        made_from: JSON-serializable dict of everything else that identifies
            the dataset; it becomes part of the plan.
        bits: bits of a weight of the examples' codes; None for plain weights.
        learned: float32 `[P]`, the weights that codes are changes of.

    Attributes:
        lengths: number of signals of each file.

    Raises:
        InputError: if the folder cannot be written, or holds anything else.
    """

    def __init__(
        self,
        folder,
        *,
        split: str,
        num_signals: int,
        signals_per_file: int,
        shapes: list[tuple[int, ...]],
        made_from: dict,
        bits: int | None = None,
        learned: np.ndarray | None = None,
    ):
        number = math.ceil(num_signals / signals_per_file)
        check_range("number of files", number, 1, _MAX_FILES)
        self.folder = pathlib.Path(folder)
        self.split = split
        self.lengths = [
            min(signals_per_file, num_signals - first)
            for first in range(0, num_signals, signals_per_file)
        ]
        self._features = _features(shapes, bits)
        self._learned = None
        if bits is not None:
            self._learned = weights.split(learned, shapes)
        self._bytes_per_signal = 4 * sum(map(math.prod, shapes)) + 1024
        self._template = tfds.core.ShardedFileTemplate(
            data_dir=self.folder,
            dataset_name=_NAME,
            split=split,
            filetype_suffix="tfrecord",
        )
        self._paths = [
            pathlib.Path(
                self._template.sharded_filepath(
                    shard_index=index, num_shards=number
                )
            )
            for index in range(number)
        ]
        names = weights.weight_names(len(shapes))
        self._plan = {
            **made_from,
            "split": split,
            "num_signals": num_signals,
            "signals_per_file": signals_per_file,
            "bits": bits,
            "params": [
                {"name": name, "shape": list(shape)}
                for name, shape in zip(names, shapes)
            ],
        }
        files.make_folder(self.folder)
        # Without the files that another worker is writing or a killed worker
        # left. Listed before the check for the plan, as another worker may
        # write the plan in between.
        others = [
            path
            for path in self.folder.iterdir()
            if not path.name.startswith(f".{_NAME}")
        ]
        if not self._is_claimed() and others:
            raise InputError(
                "`output_dir` must be a new folder, an empty one, or one of an "
                f"earlier call. Received: {self.folder}, which holds other "
                "files"
            )

    def _is_claimed(self) -> bool:
        """Whether the folder holds this plan; raises if it holds another."""
        path = self.folder / _PLAN
        if not path.exists():
            return False
        found = files.read_json(path)
        for name, wanted in self._plan.items():
            if not isinstance(found, dict) or found.get(name) != wanted:
                raise InputError(
                    f"{self.folder} holds a dataset that differs in {name!r}. "
                    "Choose another `output_dir`, or repeat the command that "
                    "made it to resume."
                )
        return True

    def missing(self) -> list[int]:
        """Indices of the files that are not written yet."""
        return [i for i, path in enumerate(self._paths) if not path.exists()]

    def first_signal(self, index: int) -> int:
        """The index of the first signal of a file."""
        return index * self.lengths[0]

    def write(self, index: int, examples: Iterable[Example]) -> None:
        """Writes one file atomically.

        The plan is written with the first file, so that a call that cannot fit
        any signal leaves no plan.

        Args:
            index: index of the file.
            examples: the file's examples.

        Raises:
            InputError: if the disk is full, or the folder has another plan.
        """
        files.check_space(
            self.folder, self.lengths[index] * self._bytes_per_signal
        )
        with files.atomic_path(self._paths[index]) as temporary:
            with tf.io.TFRecordWriter(str(temporary)) as writer:
                for example in examples:
                    writer.write(self._serialized(example))
            if not self._is_claimed():
                files.write_json(self.folder / _PLAN, self._plan)
            if self._learned and not (self.folder / _LEARNED).exists():
                weights.write_npz(self.folder / _LEARNED, self._learned)

    def _serialized(self, example):
        stored = example._asdict()
        if isinstance(example.theta, codes.Code):
            del stored["theta"]
            stored |= example.theta._asdict()
        serialized = self._features.serialize_example(stored)
        # Without this, the order of the features differs between processes.
        proto = tf.train.Example.FromString(serialized)
        return proto.SerializeToString(deterministic=True)

    def finish(self) -> tuple[float, float]:
        """Writes the metadata of TFDS, once all files exist.

        Workers do so one after the other, because TFDS writes in place.

        Returns:
            Mean PSNR in dB before and after the fit over all signals, as TFDS
            reads them.

        Raises:
            InputError: if a file is damaged.
        """
        with files.lock(self.folder / _LOCK):
            self._write_metadata()
            return self._mean_psnr()

    def _write_metadata(self):
        for leftover in self.folder.glob(f".{_NAME}*"):  # of killed workers
            leftover.unlink(missing_ok=True)
        size = sum(path.stat().st_size for path in self._paths)
        tfds.folder_dataset.write_metadata(
            data_dir=str(self.folder),
            features=self._features,
            split_infos=[
                tfds.core.SplitInfo(
                    name=self.split,
                    shard_lengths=self.lengths,
                    num_bytes=size,
                    filename_template=self._template,
                )
            ],
            description="Adapted weights of a learned initialization.",
            check_data=False,
        )

    def _mean_psnr(self):
        builder = tfds.builder_from_directory(str(self.folder))
        examples = builder.as_dataset(split=self.split)
        try:
            psnr = [
                (example["psnr_before"], example["psnr"])
                for example in tfds.as_numpy(examples)
            ]
        except tf.errors.OpError:
            psnr = []
        if len(psnr) != sum(self.lengths):
            for path, length in zip(self._paths, self.lengths):
                _check_whole(path, length)
        before, after = np.mean(psnr, axis=0, dtype=np.float64)
        return float(before), float(after)


def read_functaset(folder) -> Iterator[Example]:
    """The examples of a finished dataset in order, theta as float32 `[P]`.

    Raises:
        InputError: when the first example is read, if the folder holds no such
            dataset; or at a file that is damaged.
    """
    folder = pathlib.Path(folder)
    plan = files.read_json(folder / _PLAN)
    try:
        shapes = [tuple(param["shape"]) for param in plan["params"]]
        split, bits = plan["split"], plan.get("bits")
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{folder / _PLAN} is not the plan of a functaset ({error!r})."
        ) from error
    learned = None
    if bits is not None:
        learned = weights.join(weights.load_npz(folder / _LEARNED, shapes))
    if not (folder / "features.json").is_file():
        raise InputError(
            f"{folder} is not finished: repeat the command that made it."
        )
    builder = tfds.builder_from_directory(str(folder))
    # By default TFDS reads several files in turns.
    in_order = tfds.ReadConfig(interleave_cycle_length=1)
    dataset = builder.as_dataset(split=split, read_config=in_order)
    for example in _readable(tfds.as_numpy(dataset), folder):
        if learned is None:
            theta = example["theta"]
        else:
            code = codes.Code(*(example[name] for name in codes.Code._fields))
            theta = codes.decode(code, learned, shapes)
        scores = float(example["psnr_before"]), float(example["psnr"])
        yield Example(int(example["index"]), theta, *scores)


def _readable(examples, folder):
    try:
        yield from examples
    except tf.errors.OpError as error:
        raise InputError(
            f"A file in {folder} is damaged. Delete it and repeat the command "
            "that made it."
        ) from error


def _features(shapes, bits):
    """The TFDS features of an `Example`."""

    def tensor(length, dtype, **options):
        return tfds.features.Tensor(shape=(length,), dtype=dtype, **options)

    zlib = {"encoding": tfds.features.Encoding.ZLIB}
    if bits is None:
        stored = {"theta": tensor(sum(map(math.prod, shapes)), np.float32)}
    else:
        hidden, output = codes.lengths(shapes)
        stored = {
            "hidden": tensor(hidden, codes.integers(bits), **zlib),
            "output": tensor(output, np.int16, **zlib),
            "scales": tensor(len(shapes), np.float32),
        }
    return tfds.features.FeaturesDict(
        {
            "index": tfds.features.Scalar(np.int64),
            **stored,
            "psnr_before": tfds.features.Scalar(np.float32),
            "psnr": tfds.features.Scalar(np.float32),
        }
    )


def _check_whole(path, length):
    """Raises InputError unless a file has `length` examples."""
    try:
        found = sum(1 for _ in tf.data.TFRecordDataset(str(path)))
    except tf.errors.OpError:
        found = None
    if found != length:
        raise InputError(
            f"{path} is damaged. Delete it and repeat the same command."
        )
