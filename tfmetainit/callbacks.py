"""What happens between the steps and epochs of training: Keras callbacks."""

import math

import keras
import tensorflow as tf

from tfmetainit import files, functional, pictures
from tfmetainit.errors import TrainingDivergedError
from tfmetainit.runs import Workdir

# An epoch's mean loss this many times above the best one so far, or above the
# loss before the inner loop, is no fluctuation.
_OUTER_DIVERGENCE = 4.0
# Healthy gradients are above 1e-4; a density of exp(-20) leaves 1e-9.
_DEAD = 1e-7
_COLLAPSE = 0.5  # dB above the floor once, and at the floor now
_INNER_DIVERGENCE = 2.0
# Of the mean over an epoch's batches, the first few are noise.
_NUM_TRUSTED_BATCHES = 50
_VARIABLE_BYTES = 4096  # what HDF5 stores beside each variable, at most


class StopOnDivergence(keras.callbacks.Callback):
    """Ends `fit` with a `TrainingDivergedError` when its numbers are unhealthy.

    Checked after every batch: a loss or gradient that is not finite, an inner
    loop that makes the loss larger instead of smaller, and a field that is
    dead: a NeRF whose densities are all zero has a gradient of zero, and would
    stay white for ever. After every epoch: a validation score that is not
    finite, an outer loss far above its best (where an epoch has batches enough
    to tell), and a field that has collapsed: adapted, it is no better than one
    constant colour, and was before. Checkpoints are left as they are.

    Args:
        options: `config.optimizer`, whose rate is named in the message.
        checkpoints: of the run; they know the best score.
        floor: the PSNR in dB of the validation signals' best constants.
    """

    def __init__(self, options, checkpoints: "Checkpoints", floor: float):
        super().__init__()
        self._options = options
        self._checkpoints = checkpoints
        self._floor = floor

    def _stop(self, problem, setting, value):
        step = int(self.model.optimizer.iterations.numpy())
        raise TrainingDivergedError(
            f"At outer step {step}, {problem}; lower {setting} (now "
            f"{value:g}) and train into a new --workdir. What checkpoints were "
            "written before are kept."
        )

    def _stop_inner(self, problem):
        initial = self.model.step_sizes.initial
        self._stop(problem, "config.learner.inner_lr", initial)

    def _stop_outer(self, problem):
        rate = self._options.learning_rate
        self._stop(problem, "config.optimizer.learning_rate", rate)

    def _check_inner(self, logs):
        loss, before = logs["loss"], logs["loss_before"]
        if loss > _INNER_DIVERGENCE * before:
            self._stop_inner(
                f"the inner loop raised the mean loss from {before:.3g} to "
                f"{loss:.3g}"
            )

    def on_train_batch_end(self, batch, logs=None):
        if not math.isfinite(logs["loss_before"]):
            self._stop_outer("the loss before the inner loop was not finite")
        if not math.isfinite(logs["loss"]):
            self._stop_inner(
                "the loss after the inner loop, or its gradient, was not finite"
            )
        if batch >= _NUM_TRUSTED_BATCHES:
            self._check_inner(logs)
            self._check_alive(logs)

    def _check_alive(self, logs):
        if logs["gradient_norm"] <= _DEAD:
            self._stop_outer(
                "the field was dead: its outer gradient was zero (for a NeRF, "
                "try config.field.density=softplus)"
            )

    def on_epoch_end(self, epoch, logs=None):
        self._check_inner(logs)
        self._check_alive(logs)
        for name, value in logs.items():
            if name.startswith("val_") and not math.isfinite(value):
                # Before any inner step, it is not those that are to blame.
                initial = name == "val_psnr_0"
                stop = self._stop_outer if initial else self._stop_inner
                stop(f"the validation's {name[4:]} was not finite")
        psnr, best = logs[self._checkpoints.monitor], self._checkpoints.best
        if psnr <= self._floor and best >= self._floor + _COLLAPSE:
            self._stop_outer(
                f"the field had collapsed: its validation PSNR, {best:.2f} dB "
                f"before, was {psnr:.2f} dB, no more than one constant colour's"
            )
        if self.params["steps"] < _NUM_TRUSTED_BATCHES:
            return  # A mean over so few tasks is noise.
        loss, best = logs["loss"], float(self.model.best_loss.numpy())
        if loss > _OUTER_DIVERGENCE * best:
            self._stop_outer(
                f"the mean loss had risen from {best:.3g} to {loss:.3g}"
            )
        self.model.best_loss.assign(min(best, loss))


class Checkpoints(keras.callbacks.Callback):
    """Writes the last and the best checkpoint after every epoch.

    The best is by the validation PSNR after the trained number of inner
    steps. It is written before the last: a run that is killed between the two
    repeats the epoch and writes the same best again.

    Args:
        workdir: of the run, whose best score so far is read.
        output: where checkpoints are written; of all but one worker of
            several, another.
        monitor: name of the score.
    """

    def __init__(self, workdir: Workdir, output: Workdir, monitor: str):
        super().__init__()
        self._output = output
        self.monitor = monitor
        self.best, self.best_step = -math.inf, None
        # Without a last checkpoint the run starts afresh, and so does its best.
        if workdir.last.is_file() and workdir.best_record.is_file():
            record = workdir.read_best()
            self.best, self.best_step = record["psnr"], record["step"]

    def _save(self, path):
        variables = [*self.model.variables, *self.model.optimizer.variables]
        files.check_space(
            path.parent,
            sum(4 * math.prod(v.shape) + _VARIABLE_BYTES for v in variables),
        )
        with files.atomic_path(path) as temporary:
            self.model.save_weights(temporary, overwrite=True)

    def on_epoch_end(self, epoch, logs=None):
        psnr = float(logs[self.monitor])
        if psnr >= self.best:
            step = int(self.model.optimizer.iterations.numpy())
            self.best, self.best_step = psnr, step
            self._save(self._output.best)
            files.write_json(
                self._output.best_record,
                {"step": step, "metric": self.monitor, "psnr": psnr},
            )
        self._save(self._output.last)


class Reconstructions(keras.callbacks.Callback):
    """Writes pictures of validation signals, step by step, to TensorBoard."""

    def __init__(self, workdir: Workdir, signal, tasks, num_steps: int):
        super().__init__()
        self._folder = str(workdir.tensorboard / "reconstructions")
        self._signal = signal
        self._tasks = tasks
        self._num_steps = num_steps
        self._writer = None

    def on_epoch_end(self, epoch, logs=None):
        if self._writer is None:
            self._writer = tf.summary.create_file_writer(self._folder)
        rows = []
        start = functional.get_params(self.model.field)
        fit = self.model.sgd_fit()
        for task in self._tasks:
            values = self.model.reconstructions(
                task, start, fit, self._num_steps
            )
            rows.append(
                [self._signal.picture(v) for v in [task.query.values, *values]]
            )
        with self._writer.as_default(step=epoch):
            tf.summary.image(
                "target, then steps 0, 1, ...", pictures.grid(rows)[None]
            )
        self._writer.flush()

    def on_train_end(self, logs=None):
        if self._writer is not None:
            self._writer.close()
