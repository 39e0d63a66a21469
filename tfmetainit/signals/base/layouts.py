"""How a folder of the user's own files is divided among the splits.

These layouts are read, in this order:

- a file that lists files with their splits (`LISTS`), such as CelebA's
  `list_eval_partition.txt`;
- folders for splits, at any depth and in any case (`_NAMES`): train/,
  Validation/, data/val/, cats/test/, cars_train/. A split that has no folder is
  a part of another one;
- no such folders: a hash of its name decides the split of each file, so that
  adding files never moves one from training to test.
"""

import collections
import csv
import hashlib
import io
import itertools
import os
import pathlib
import re
from collections.abc import Collection
from typing import NamedTuple

from tfmetainit.io import files
from tfmetainit.io.errors import InputError
from tfmetainit.signals.base.pipeline import SPLITS

# Names of files that list files and their splits, in the folder itself.
LISTS = ("list_eval_partition.txt", "splits.csv", "splits.txt")
_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict(zip("012", SPLITS)),  # of CelebA's list
}
_BY_HASHES = "by a hash of the names"
_MAX_LIST_BYTES = 64 * 2**20
_READ_AT_ONCE = 2**20


class Layout(NamedTuple):
    """The files of each split.

    Attributes:
        paths: sorted paths, by split.
        how: what decided the splits, for a message.
        ignored: number of files that are not read, by suffix ("" for none).
        repeated: number of files whose contents equal those of a file in
            another split. If hashes decided the splits, they were moved to it.
    """

    paths: dict[str, list[pathlib.Path]]
    how: str
    ignored: dict[str, int]
    repeated: int


def split_of(name: str) -> str:
    """The split of a file by its name: 80% train, 10% validation, 10% test."""
    bucket = _bucket(name)
    return SPLITS[0 if bucket < 205 else 1 if bucket < 230 else 2]


def _bucket(name):
    return hashlib.sha256(os.fsencode(name)).digest()[0]


def split_named(name: str) -> str | None:
    """The split that a name is for by its last word, as in cars_train."""
    last = re.split("[-_ ]", name.lower())[-1]
    return None if last.isdigit() else _NAMES.get(last)


def find_layout(root: pathlib.Path, suffixes: Collection[str]) -> Layout:
    """Divides the files in a folder, and in the folders below it.

    Args:
        root: the folder.
        suffixes: suffixes of the files to divide, lower case.

    Raises:
        InputError: if a file cannot be read, or a list is not valid.
    """
    found, ignored = [], collections.Counter()
    for path in files.files_below(root):
        suffix = files.suffix_of(path)
        if path.name in LISTS:
            continue
        if suffix in suffixes:
            found.append(path)
        else:
            ignored[suffix] += 1
    found.sort()
    for name in LISTS:
        if (root / name).is_file():
            divided = _by_list(root, root / name, found)
            return _checked(divided, f"by {name}", ignored, moves=False)
    divided, how = divide(root, found)
    return _checked(divided, how, ignored, moves=how == _BY_HASHES)


def divide(
    root: pathlib.Path, found: list[pathlib.Path]
) -> tuple[dict[str, list[pathlib.Path]], str]:
    """Divides files or folders by the folders for splits, or by hashes.

    Args:
        root: the folder.
        found: sorted paths below it.

    Returns:
        The paths by split, and what decided, for a message.
    """
    divided, missing = _by_folders(root, found)
    if divided["train"] and (divided["validation"] or divided["test"]):
        parts = (f"; {split} is a part of {s}" for split, s in missing.items())
        return divided, "".join(["by the names of folders", *parts])
    return _by_names(root, found), _BY_HASHES


def _by_list(root, path, found):
    """The files of each split as a list has them; others are in none.

    A line has the name of a file and its split, with a comma or blanks in
    between. A name is relative to the folder, or that of a file in any of its
    folders.
    """
    files.check_size(path, _MAX_LIST_BYTES)
    text = path.read_text(errors="surrogateescape")
    by_name = {}
    for file in found:
        by_name.setdefault(file.relative_to(root).as_posix(), file)
        by_name.setdefault(file.name, file)
    rows = (
        csv.reader(io.StringIO(text))
        if path.suffix == ".csv"
        else map(str.split, text.splitlines())
    )
    divided = {split: [] for split in SPLITS}
    for number, row in enumerate(rows, start=1):
        cells = [cell.strip() for cell in row]
        if not any(cells) or cells[0].startswith("#"):
            continue
        split = _NAMES.get(cells[-1].lower()) if len(cells) == 2 else None
        if split is None:
            if number == 1:  # a header
                continue
            raise InputError(
                "A list of splits must have a file and its split (train, "
                f"validation or test) in each line. Received: {path}, line "
                f"{number}: {' '.join(cells)!r}"
            )
        if cells[0] in by_name:
            divided[split].append(by_name[cells[0]])
    return divided


def _by_folders(root, found):
    """The files of each split by their folders, and splits that are parts.

    Returns:
        `(divided, missing)`: lists of paths by split, and for each split
        without a folder the split that it is taken from.
    """
    divided = {split: [] for split in SPLITS}
    for path in found:
        folders = path.relative_to(root).parts[:-1]
        for folder in folders:
            split = split_named(folder)
            if split:
                divided[split].append(path)
                break
    missing = {}
    if divided["validation"] and not divided["test"]:
        missing["test"] = "validation"
    elif divided["test"] and not divided["validation"]:
        missing["validation"] = "train"
    for split, source in missing.items():
        share = 128 if source == "validation" else 26  # of 256
        taken = _part(root, divided[source], share)
        divided[split] = sorted(taken)
        divided[source] = sorted(set(divided[source]) - taken)
    return divided, missing


def _part(root, paths, share):
    """Some files, by the hashes of their names: at least one, not all."""
    order = sorted(paths, key=lambda p: _bucket(p.relative_to(root).as_posix()))
    count = sum(_bucket(p.relative_to(root).as_posix()) < share for p in paths)
    return set(order[: min(max(count, 1), len(paths) - 1)])


def _by_names(root, found):
    """The files of each split by hashes of their names; none is empty.

    Where the hashes leave a split empty, it takes the file of the largest
    split whose hash comes next.
    """
    divided = {split: [] for split in SPLITS}
    for path in found:
        name = path.relative_to(root).as_posix()
        divided[split_of(name)].append(path)
    for split in SPLITS:
        largest = max(divided.values(), key=len)
        if not divided[split] and len(largest) > 1:
            moved = max(
                largest,
                key=lambda p: (_bucket(p.relative_to(root).as_posix()), p),
            )
            largest.remove(moved)
            divided[split].append(moved)
    return divided


def _checked(divided, how, ignored, moves=True):
    """The layout, with files of equal contents in one split if `moves`."""
    split_of_path = {
        path: split for split, paths in divided.items() for path in paths
    }
    repeated = 0
    for first, *others in _equal_files(sorted(split_of_path)):
        for path in others:
            repeated += split_of_path[path] != split_of_path[first]
            if moves:
                split_of_path[path] = split_of_path[first]
    paths = {split: [] for split in SPLITS}
    for path, split in sorted(split_of_path.items()):
        paths[split].append(path)
    return Layout(paths, how, dict(ignored), repeated)


def _equal_files(paths):
    """Groups of files with equal contents; only equal sizes are read."""
    by_size = collections.defaultdict(list)
    for path in paths:
        try:
            by_size[path.stat().st_size].append(path)
        except OSError:  # a broken link, which will be skipped as unreadable
            continue
    groups = collections.defaultdict(list)
    for path in itertools.chain(*(p for p in by_size.values() if len(p) > 1)):
        groups[_digest(path)].append(path)
    return [group for group in groups.values() if len(group) > 1]


def _digest(path):
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while part := file.read(_READ_AT_ONCE):
                digest.update(part)
    except OSError:
        # It will be skipped as unreadable, under its own name.
        digest.update(os.fsencode(path))
    return digest.digest()
