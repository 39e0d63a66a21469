"""The command line: flags, config files, errors as messages.

May import: absl, `io`, `configs`. Runs without TensorFlow and Keras.
"""

from tfmetainit.cli.flags import quiet_tensorflow, run
