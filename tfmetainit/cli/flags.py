"""What the commands share: flags, and errors as one message without traceback.

The library's errors name arguments in backticks; here they become flags.
"""

import logging
import os
import re
import signal
import sys

from absl import app, flags
from absl import logging as absl_logging

from tfmetainit.cli import config_files
from tfmetainit.io import quiet
from tfmetainit.io.errors import InputError, UserError, reason

_ARGUMENT = re.compile(r"`([a-z][\w.]*)`")
# Arguments of functions whose flags have another name.
_FLAGS = {
    "input_path": "input",
    "output_path": "output",
    "license_name": "license",
}


def quiet_tensorflow():
    """Imports TensorFlow without its start-up notices on the terminal.

    The notices are written before TensorFlow reads TF_CPP_MIN_LOG_LEVEL. Users
    who set that variable see them, as do users whose import fails. Keras's
    backend becomes TensorFlow, whatever it otherwise is.
    """
    os.environ["KERAS_BACKEND"] = "tensorflow"
    if "tensorflow" in sys.modules or "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    with quiet.notices():
        import tensorflow as tf

        tf.config.list_physical_devices()  # looks for a GPU, and says so


def define_config(name: str, text: str) -> None:
    """Defines a flag that names a config file, with flags for its fields.

    Args:
        name: one of `config_files.CONFIG_FLAGS`.
        text: the flag's help.
    """
    from ml_collections import config_flags  # a device does without

    try:
        # With --flagfile, its flags in its place: fields are defined from the
        # command line, and a config in the file is looked up as elsewhere.
        sys.argv[1:] = flags.FLAGS.read_flags_from_files(sys.argv[1:])
    except flags.Error as error:
        _exit(InputError(_in_one_line(str(error))))
    config_flags.DEFINE_config_file(name, None, text)


def run(main, doc, arguments=0):
    """Runs `main(argv)` under absl, with this package's rules for errors.

    The message of a `UserError` is printed, and the process ends with its exit
    code. Any other exception is a defect and keeps its traceback.

    Args:
        main: called with the arguments that are not flags.
        doc: the text that `--help` prints above the flags, which the module of
            `main` has defined.
        arguments: number of arguments that may be given without a flag.
    """
    # absl shows the docstring and the flags of the module that was started;
    # of an installed console script that is an empty stub.
    sys.modules["__main__"].__doc__ = doc
    defined_by = flags.FLAGS.flags_by_module_dict()
    for defined in defined_by.get(main.__module__, []):
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], defined)

    def guarded(argv):
        others = argv[1 + arguments :]
        if others:
            _exit(InputError(f"Flags start with --. Received: {others[0]!r}"))
        _guarded(main, argv, set(flags.FLAGS))

    # Progress of this package is shown; messages of TFDS and others through
    # absl are limited to errors, unless --verbosity asks for more.
    absl_logging.set_verbosity(absl_logging.ERROR)
    logger = logging.getLogger("tfmetainit")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    if not logger.handlers:
        logger.addHandler(logging.StreamHandler())
    quiet.farewells()
    try:
        app.run(guarded, flags_parser=_parse_flags)
    except SystemExit as exit:
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0.0)
        if not exit.code or "tensorflow" not in sys.modules:
            raise
        # After an error in a pipeline, TensorFlow waits for its threads for
        # ever when the interpreter ends. All blocks have been left by now.
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit.code if isinstance(exit.code, int) else 1)


def _end(number, frame):
    """Ends the process by an exception, so that half-written files are removed.

    C code and finalizers swallow exceptions: it is raised again every second,
    unless it is on its way out.
    """
    del number, frame
    if isinstance(sys.exc_info()[1], SystemExit):
        return
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, 1.0)
    sys.exit(128 + signal.SIGTERM)


def _guarded(main, values, known):
    """Runs `main(values)`; the user's errors are a message and an exit code."""
    # The progress of a long run must not wait in the buffer of a file or pipe.
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
    signal.signal(signal.SIGTERM, _end)
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, _end)
    try:
        main(values)
    except UserError as error:
        _exit(error, known)
    except BrokenPipeError:  # by `| head`, which reads no more
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
        _exit(problem, known)
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        sys.exit(130)


def _from_pipeline(error):
    """The InputError that a reader raised within a tf.data pipeline, if any.

    TensorFlow raises an error of its own, with the reader's in its text.
    """
    _, found, text = str(error).partition(f"{InputError.__name__}: ")
    return InputError(text.splitlines()[0]) if found else None


def _exit(error, known=()):
    print(f"error: {as_flags(str(error), known)}", file=sys.stderr)
    sys.exit(error.exit_code)


def as_flags(message: str, known) -> str:
    """A message whose arguments are the flags of the command.

    `steps` becomes --steps where there is such a flag, and `signal.folder` or
    `folder` becomes --config.signal.folder where a config has that field.

    Args:
        message: of a `UserError`.
        known: names of the command's flags.
    """
    configs = {}
    for name in config_files.CONFIG_FLAGS:
        if name in known:
            value = flags.FLAGS[name].value
            if hasattr(value, "items"):
                configs[name] = value

    def flag(match):
        name = _FLAGS.get(match[1], match[1])
        if name in known:
            return f"--{name}"
        found = config_files.flag_of(name, configs)
        last = name.rpartition(".")[2]
        return found or (f"--{last}" if last in known else match[0])

    return _ARGUMENT.sub(flag, message)


def _parse_flags(argv):
    """Absl's parser; a wrong config field is an error naming the nearest."""
    try:
        argv = config_files.find_configs(argv)
        arguments = flags.FLAGS(argv)
        for name in config_files.CONFIG_FLAGS:
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
        problem = config_files.wrong_field(argv)
        if problem is None:
            raise
        _exit(problem)


def _in_one_line(message):
    """A message without line breaks; of a traceback, only its last line."""
    message = message.removeprefix("ERROR:: ")
    before, traceback, after = message.partition("Traceback (most recent")
    lines = [line.strip() for line in before.splitlines() if line.strip()]
    if traceback:
        lines.append(after.strip().splitlines()[-1])
    return " ".join(lines)
