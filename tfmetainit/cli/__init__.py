"""The command line: flags, config files, errors as messages.

May import: absl, `io`, `configs`. Runs without TensorFlow and Keras, and
without absl for `fit --artifact`.
"""

from tfmetainit.cli.flags import quiet_tensorflow, run, run_plain

__all__ = ["quiet_tensorflow", "run", "run_plain"]
