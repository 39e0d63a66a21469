"""The files that the signals of a run are read from."""

import hashlib
import json
import os
import pathlib

import ml_collections

from tfmetainit.io import files

# Options of `config.signal` that name files from which signals are read.
SOURCE_FIELDS = ("folder", "file")
# Paths on the user's machine, which are not published.
_PRIVATE_FIELDS = (*SOURCE_FIELDS, "data_dir", "manual_dir")


def public_settings(options: ml_collections.ConfigDict) -> dict:
    """The options of `config.signal` as JSON values, without paths."""
    settings = json.loads(options.to_json())
    return {k: v for k, v in settings.items() if k not in _PRIVATE_FIELDS}


def digest_of_files(options: ml_collections.ConfigDict) -> str:
    """A hash of the names and sizes of the files in `config.signal`.

    Hashing the contents would take as long as a fit.
    """
    digest = hashlib.sha256()
    for option in SOURCE_FIELDS:
        root = options.get(option)
        if not root:
            continue
        root = pathlib.Path(root)
        for path in [root] if root.is_file() else files.files_below(root):
            name = os.fsencode(path.relative_to(root))
            digest.update(b"%s %d\n" % (name, path.stat().st_size))
    return digest.hexdigest()
