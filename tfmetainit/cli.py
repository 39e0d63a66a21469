"""What the commands share: flags, config files, errors in one sentence."""

import argparse
import difflib
import logging
import os
import pathlib
import re
import runpy
import signal
import sys

from tfmetainit import quiet
from tfmetainit.errors import InputError, UserError, reason

try:
    from absl import app, flags
    from absl import logging as absl_logging
# A device that only runs an exported artifact need not have it.
except ModuleNotFoundError:
    app = flags = absl_logging = None

# Flags that name a config file, and one that sets a field of it.
_CONFIG_NAMES = ("config", "on", "signal")
_CONFIG_FILE = re.compile(r"^--?(config|on|signal)=(.+)$")
_CONFIG_FIELD = re.compile(r"^--?(config|on|signal)\.([^=]+)(?:=.*)?$")


def quiet_tensorflow():
    """Imports TensorFlow without its start-up notices on the terminal.

    The commands use it whatever Keras's backend otherwise is.

    They are written before TensorFlow reads TF_CPP_MIN_LOG_LEVEL; a user who
    sets that variable sees all of them, as does one whose import fails.
    """
    os.environ["KERAS_BACKEND"] = "tensorflow"
    if "tensorflow" in sys.modules or "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    with quiet.notices():
        import tensorflow as tf

        tf.config.list_physical_devices()  # looks for a GPU, and says so


def run_plain(main, doc, options):
    """Runs `main(values)` for a command whose flags are plain values.

    With absl as `run` does; without it, which an exported artifact does not
    need, through argparse.

    Args:
        main: called with an object that has one attribute for each flag.
        doc: what `--help` prints above the flags.
        options: maps a flag's name to its type, `str` or `int`, and its help.
    """
    if flags is not None:
        for name, (kind, text) in options.items():
            define = (
                flags.DEFINE_integer if kind is int else flags.DEFINE_string
            )
            define(name, None, text, module_name=main.__module__)
        run(lambda argv: main(flags.FLAGS), doc, main.__module__)
        return
    parser = argparse.ArgumentParser(
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.error = lambda message: _exit(InputError(message))
    for name, (kind, text) in options.items():
        parser.add_argument(f"--{name}", type=kind, help=text)
    _guarded(main, parser.parse_args())


def run(main, doc, module=None):
    """Runs `main(argv)` under absl, with this package's rules for errors.

    A `UserError` is printed as one sentence and ends the process with its
    code. Any other exception is a defect and keeps its traceback.

    Args:
        main: called with the arguments that are not flags.
        doc: what `--help` prints above the flags defined by the caller.
        module: name of the module that defined them; `main`'s by default.
    """
    # absl shows the docstring and the flags of the module that was started;
    # of an installed console script that is an empty stub.
    sys.modules["__main__"].__doc__ = doc
    defined_by = flags.FLAGS.flags_by_module_dict()
    for defined in defined_by.get(module or main.__module__, []):
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], defined)

    def guarded(argv):
        if len(argv) > 1:
            _exit(InputError(f"Flags start with --. Received: {argv[1]!r}"))
        _guarded(main, argv)

    # This package's own progress is shown; what TFDS and others report through
    # absl is kept to errors, unless --verbosity asks for more.
    absl_logging.set_verbosity(absl_logging.ERROR)
    logger = logging.getLogger("tfmetainit")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    if not logger.handlers:
        logger.addHandler(logging.StreamHandler())
    app.run(guarded, flags_parser=_parse_flags)


def _guarded(main, values):
    """Runs `main(values)`; the user's errors are a sentence and a code."""
    # Into a file or a pipe, a long run's progress must not wait in a buffer.
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
    # So that what is half-written is removed.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        main(values)
    except UserError as error:
        _exit(error)
    except BrokenPipeError:  # by `| head`: the rest has no reader
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except PermissionError as error:
        if error.filename is None:
            raise
        name = os.fsdecode(error.filename)
        _exit(InputError(f"There is no permission for {name}."))
    except Exception as error:
        problem = _from_pipeline(error)
        if problem is None:
            raise
        _exit(problem)
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        sys.exit(130)


def _from_pipeline(error):
    """The InputError that a reader raised within a tf.data pipeline, if any.

    TensorFlow raises an error of its own, with the reader's in its text.
    """
    _, found, text = str(error).partition(f"{InputError.__name__}: ")
    return InputError(text.splitlines()[0]) if found else None


def _exit(error):
    print(f"error: {error}", file=sys.stderr)
    sys.exit(error.exit_code)


def _parse_flags(argv):
    """Absl's parser; a wrong config field is an error naming the nearest."""
    argv = _find_configs(argv)
    try:
        arguments = flags.FLAGS(argv)
        for name in _CONFIG_NAMES:
            if name in flags.FLAGS:
                # A config file that failed to load says so when it is used.
                getattr(flags.FLAGS[name].value, "to_dict", dict)()
        return arguments
    except flags.Error as error:
        _exit(InputError(_in_one_line(str(error))))
    except UserError as error:
        _exit(error)
    except OSError as error:
        _exit(InputError(_in_one_line(str(error))))
    except SyntaxError as error:
        _exit(InputError(f"A config must be a Python file: {reason(error)}."))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        if getattr(error, "name", None) == "get_config":
            _exit(InputError("A config file must have a function get_config."))
        problem = _wrong_field(argv)
        if problem is None:
            raise
        _exit(problem)


def _in_one_line(message):
    """A message without line breaks; of a traceback, its last line alone."""
    before, traceback, after = message.partition("Traceback (most recent")
    lines = [line.strip() for line in before.splitlines() if line.strip()]
    if traceback:
        lines.append(after.strip().splitlines()[-1])
    return " ".join(lines)


def _find_configs(argv):
    """Lets --config=configs/text.py work without a checkout.

    The config files are installed as `tfmetainit.configs`; a path that does
    not exist here is looked up there by its name.
    """
    found = []
    for argument in argv:
        flag = found[-1] if found else ""
        if flag.startswith("-") and flag.lstrip("-") in _CONFIG_NAMES:
            argument = f"{found.pop()}={argument}"  # --config text.py
        match = _CONFIG_FILE.match(argument)
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


def _wrong_field(argv):
    """The InputError for the first field that its config does not have."""
    files = dict(m.groups() for m in map(_CONFIG_FILE.match, argv) if m)
    for match in filter(None, map(_CONFIG_FIELD.match, argv)):
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
