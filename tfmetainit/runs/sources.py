"""The files that the signals of a run are read from."""

import hashlib
import json
import os
import pathlib
from collections.abc import Collection

import ml_collections

from tfmetainit.io import files
from tfmetainit.signals.base.layouts import LISTS

# Options of `config.signal` that name files from which signals are read.
SOURCE_FIELDS = ("folder", "file")
# Paths on the user's machine, which are not published.
_PRIVATE_FIELDS = (*SOURCE_FIELDS, "data_dir", "manual_dir")


def public_settings(options: ml_collections.ConfigDict) -> dict:
    """The options of `config.signal` as JSON values, without paths."""
    settings = json.loads(options.to_json())
    return {k: v for k, v in settings.items() if k not in _PRIVATE_FIELDS}


def source_sizes(
    options: ml_collections.ConfigDict, suffixes: Collection[str] | None
) -> dict[str, int | str]:
    """The files in `config.signal` that signals are read from.

    They stand for their contents: hashing these would take as long as a fit.
    The names are relative, so that a copy of a folder has the same.

    Args:
        options: `config.signal`.
        suffixes: `SignalClass.suffixes` of the class.

    Returns:
        Sizes in bytes, by name; of a list of splits, a hash of its contents.
    """
    sizes = {}
    for option in SOURCE_FIELDS:
        root = options.get(option)
        if not root:
            continue
        root = pathlib.Path(root)
        if root.is_file():
            sizes[option] = root.stat().st_size
            continue
        for path in files.files_below(root):
            name = os.fsencode(os.path.relpath(path, root))
            name = name.decode("utf-8", "backslashreplace")
            if name in LISTS:
                content = path.read_bytes()
                sizes[name] = hashlib.sha256(content).hexdigest()
            elif suffixes is None or files.suffix_of(path) in suffixes:
                sizes[name] = path.stat().st_size
    return sizes


def digest(sizes: dict[str, int | str]) -> str:
    """A hash of `source_sizes`."""
    content = json.dumps(sizes, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()
