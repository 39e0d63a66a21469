"""The command line: flags, config files, errors as messages.

May import: absl, `io`, `configs`, and ml_collections where a command takes a
config. Runs without TensorFlow and Keras.
"""

from tfmetainit.cli.flags import define_config, quiet_tensorflow, run
