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
import contextlib
import csv
import hashlib
import io
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
_READ_OF_ENDS = 2**12


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
    lists = [root / name for name in LISTS if (root / name).is_file()]
    if len(lists) > 1:
        raise InputError(
            "A folder may have one list of splits. Received: "
            f"{' and '.join(map(str, lists))}"
        )
    if lists:
        divided, how = _by_list(root, lists[0], found)
        return _checked(divided, how, ignored, moves=False)
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
    held_out = divided["validation"] or divided["test"]
    if divided["train"] and held_out:
        how = "by the names of folders"
        for split, source in missing.items():
            how += f"; {split} is a part of {source}"
        others = len(found) - sum(map(len, divided.values()))
        if others:
            how += f"; {others} in no such folder are left out"
        return divided, how
    # Among folders of other names, test/ may be a class of its own.
    if held_out and len(found) == sum(map(len, divided.values())):
        raise InputError(
            "A folder with folders for validation or testing must have one for "
            f"training. Received: {root}, with {held_out[0]} but no train/"
        )
    return _by_names(root, found), _BY_HASHES


def _by_list(root, path, found):
    """The files of each split as a list has them, and a message on others.

    A line has the name of a file and its split, with a comma or blanks in
    between. A name is relative to the folder, or that of the only such file in
    any of its folders.
    """
    names = {file.relative_to(root).as_posix(): file for file in found}
    with_base = collections.defaultdict(list)
    for file in found:
        with_base[file.name].append(file)
    split_of_file, missing = {}, 0
    for number, (name, split) in _rows_of_list(path):
        name = os.path.normpath(name.replace("\\", "/"))
        if split not in _NAMES:
            if number == 1 and name not in names and name not in with_base:
                continue  # a header
            raise _bad_line(path, number, f"{name} {split}")
        same = [names[name]] if name in names else with_base[name]
        if len(same) > 1:
            raise _bad_line(path, number, f"{name}, of which there are several")
        missing += not same
        for file in same:
            if split_of_file.setdefault(file, _NAMES[split]) != _NAMES[split]:
                raise _bad_line(path, number, f"{name} in a second split")
    divided = {split: [] for split in SPLITS}
    for file, split in sorted(split_of_file.items()):
        divided[split].append(file)
    how = f"by {path.name}"
    if missing:
        how += f", which names {missing} files that are not there"
    if len(split_of_file) < len(found):
        how += f"; {len(found) - len(split_of_file)} images that it does not "
        how += "name are left out"
    return divided, how


def _rows_of_list(path):
    """Yields the number of each line that is not empty, its name and split."""
    files.check_size(path, _MAX_LIST_BYTES)
    text = path.read_text("utf-8-sig", errors="surrogateescape")
    if path.suffix == ".csv":
        rows = csv.reader(io.StringIO(text))
    else:  # a name may hold blanks
        rows = (line.rsplit(maxsplit=1) for line in text.splitlines())
    try:
        for number, row in enumerate(rows, start=1):
            cells = [cell.strip() for cell in row]
            if not any(cells) or cells[0].startswith("#"):
                continue
            if len(cells) != 2:
                raise _bad_line(path, number, " ".join(cells))
            yield number, (cells[0], cells[1].lower())
    except csv.Error as error:
        raise InputError(f"{path} is not a list of splits: {error}.") from error


def _bad_line(path, number, received):
    return InputError(
        "A list of splits must have a file and its split (train, validation or "
        f"test) in each line. Received: {path}, line {number}: "
        f"{received[:80]!r}"
    )


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
    """Groups of files with equal contents; only files of one size are read."""
    by_size = collections.defaultdict(list)
    for path in paths:
        try:
            by_size[path.stat().st_size].append(path)
        except OSError:  # gone since it was found
            continue
    groups = by_size.values()
    # Most files of one size differ at their ends, which are read first.
    for digest_of in (_digest_of_ends, _digest):
        refined = collections.defaultdict(list)
        for group in groups:
            for path in group if len(group) > 1 else ():
                refined[digest_of(path)].append(path)
        groups = refined.values()
    return [group for group in groups if len(group) > 1]


def _digest_of_ends(path):
    """A digest of the first and the last bytes of a file."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        first = file.read(_READ_OF_ENDS)
        file.seek(max(0, os.fstat(file.fileno()).st_size - _READ_OF_ENDS))
        return hashlib.sha256(first + file.read(_READ_OF_ENDS)).digest()
    return os.fsencode(path)


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
