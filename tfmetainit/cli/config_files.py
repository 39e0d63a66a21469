"""Flags that name a config file, and flags that set a field of the config."""

import difflib
import pathlib
import re
import runpy

from tfmetainit.io.errors import InputError

# Flags that name a config file.
CONFIG_FLAGS = ("config", "on", "signal")
_FILE = re.compile(r"^--?(config|on|signal)=(.+)$")
_FIELD = re.compile(r"^--?(config|on|signal)\.([^=]+)(?:=.*)?$")


def find_configs(argv: list[str]) -> list[str]:
    """Makes --config=configs/text.py work without a checkout.

    The config files are installed as `tfmetainit.configs`; a path that does
    not exist is looked up there by its name.

    Args:
        argv: the command line.

    Returns:
        The command line with the paths of installed config files.
    """
    found = []
    for argument in argv:
        flag = found[-1] if found else ""
        if flag.startswith("-") and flag.lstrip("-") in CONFIG_FLAGS:
            argument = f"{found.pop()}={argument}"  # --config text.py
        match = _FILE.match(argument)
        if match:
            path, colon, variant = match[2].partition(":")
            path = _installed_config(pathlib.Path(path))
            argument = f"--{match[1]}={path}{colon}{variant}"
        found.append(argument)
    return found


def _installed_config(path):
    if path.exists() or path.parent not in (
        pathlib.Path(),
        pathlib.Path("configs"),
    ):
        return path
    from tfmetainit import configs

    for folder in configs.__path__:
        installed = pathlib.Path(folder) / path.name
        if installed.is_file():
            return installed
    return path


def wrong_field(argv: list[str]) -> InputError | None:
    """The error for the first flag of a field that its config lacks, or None.

    Args:
        argv: the command line.
    """
    files = dict(m.groups() for m in map(_FILE.match, argv) if m)
    for match in filter(None, map(_FIELD.match, argv)):
        name, field = match.groups()
        if name not in files:
            return InputError(f"--{name}.{field} needs --{name}=<file>.")
        known = _field_names(_load_config(files[name]))
        if field not in known:
            nearest = difflib.get_close_matches(field, known, n=1, cutoff=0.0)
            return InputError(
                f"There is no field {name}.{field}; the nearest is "
                f"{name}.{nearest[0]}."
            )
    return None


def flag_of(name: str, config_flags: dict) -> str | None:
    """The flag that sets a field of a config, for example `signal.folder`.

    Args:
        name: path of the field, or its last part; "config." before it is
            ignored.
        config_flags: the configs that the command was given, by their flags.
    """
    name = name.removeprefix("config.")
    for flag, config in config_flags.items():
        fields = _field_names(config)
        same = [field for field in fields if field == name]
        ending = [field for field in fields if field.endswith(f".{name}")]
        for field in same + ending:
            return f"--{flag}.{field}"
    return None


def _load_config(path):
    """The config of `file.py:variant`, without the flags that change it."""
    path, _, variant = path.partition(":")
    get_config = runpy.run_path(path)["get_config"]
    return get_config(variant) if variant else get_config()


def _field_names(config, prefix=""):
    names = []
    for key, value in config.items():
        names.append(f"{prefix}{key}")
        if hasattr(value, "items"):
            names += _field_names(value, f"{prefix}{key}.")
    return names
