"""Keras callbacks: divergence, checkpoints, pictures of reconstructions."""

import math

import keras
import tensorflow as tf

from tfmetainit.io import files, images
from tfmetainit.io.errors import TrainingDivergedError
from tfmetainit.meta import functional

# Training has diverged if an epoch's mean loss is this many times the best one
# so far, or if the inner loop raises the mean loss by this factor.
_OUTER_DIVERGENCE = 4.0
_INNER_DIVERGENCE = 2.0
# Healthy outer gradients are above 1e-4; a density of exp(-20) leaves 1e-9.
_DEAD = 1e-7
_COLLAPSE = 0.5  # dB by which the best score must have been above the floor
# A mean over fewer batches is too noisy to detect divergence.
_NUM_TRUSTED_BATCHES = 50
_VARIABLE_BYTES = 4096  # upper bound of what HDF5 adds to each variable


class StopOnDivergence(keras.callbacks.Callback):
    """Ends `fit` with a `TrainingDivergedError` when training diverges.

    Checked after every batch: a loss or gradient that is not finite; an inner
    loop that raises the loss; a dead field. (A NeRF whose densities are all
    zero has a zero gradient and never recovers.) Checked after every epoch: a
    validation score that is not finite; a mean loss far above the best one, if
    an epoch has enough batches; a collapsed field, whose validation PSNR has
    fallen to that of a constant colour. Existing checkpoints are kept.

    Args:
        options: `config.optimizer`; the message names its learning rate.
        checkpoints: the `Checkpoints` of the run, with the best score and loss.
        floor: mean PSNR in dB of each validation signal's best constant.
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
            f"{value:g}) and train into a new `workdir`. Earlier checkpoints "
            "are kept."
        )

    def _stop_inner(self, problem):
        initial = self.model.step_sizes.initial
        self._stop(problem, "`learner.inner_lr`", initial)

    def _stop_outer(self, problem):
        rate = self._options.learning_rate
        self._stop(problem, "`optimizer.learning_rate`", rate)

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
                "try `field.density`=softplus)"
            )

    def on_epoch_end(self, epoch, logs=None):
        self._check_inner(logs)
        self._check_alive(logs)
        for name, value in logs.items():
            if name.startswith("val_") and not math.isfinite(value):
                # Before any inner step, the step sizes are not the cause.
                initial = name == "val_psnr_0"
                stop = self._stop_outer if initial else self._stop_inner
                stop(f"the validation's {name[4:]} was not finite")
        psnr, best = logs[self._checkpoints.monitor], self._checkpoints.best
        if psnr <= self._floor and best >= self._floor + _COLLAPSE:
            self._stop_outer(
                f"the field had collapsed: its validation PSNR, once "
                f"{best:.2f} dB, was {psnr:.2f} dB, that of a constant colour"
            )
        if self.params["steps"] < _NUM_TRUSTED_BATCHES:
            return
        loss, best = logs["loss"], self._checkpoints.best_loss
        if loss > _OUTER_DIVERGENCE * best:
            self._stop_outer(
                f"the mean loss had risen from {best:.3g} to {loss:.3g}"
            )
        self._checkpoints.best_loss = min(best, loss)


class Checkpoints(keras.callbacks.Callback):
    """Writes the last and the best checkpoint after every epoch.

    The best checkpoint has the highest validation PSNR after the number of
    inner steps used in training. The last checkpoint is written after all other
    files: a run that is killed earlier repeats the epoch and writes the same
    files again.

    Args:
        workdir: `runs.Workdir` of the run, whose records are read.
        output: `runs.Workdir` that checkpoints are written to. With several
            workers, all but one write to a folder of their own.
        monitor: name of the score, a key of the logs.

    Attributes:
        best: the best score so far.
        best_step: the outer step of the best score.
        best_loss: the best mean loss of an epoch so far. It is stored, so that
            a resumed run stops at the same step as an uninterrupted one.
    """

    def __init__(self, workdir, output, monitor: str):
        super().__init__()
        self._output = output
        self.monitor = monitor
        self.best, self.best_step = -math.inf, None
        self.best_loss = math.inf
        # Without a last checkpoint the run starts afresh: no record is read.
        if workdir.last.is_file():
            record = workdir.read_best()
            self.best, self.best_step = record["psnr"], record["step"]
            loss = files.read_json(workdir.last_record)["best_loss"]
            self.best_loss = math.inf if loss is None else loss

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
        files.write_json(
            self._output.last_record, {"best_loss": self.best_loss}
        )
        self._save(self._output.last)


class Reconstructions(keras.callbacks.Callback):
    """Writes reconstructions of validation signals to TensorBoard.

    Args:
        workdir: `runs.Workdir` of the run.
        signal: the signal class.
        tasks: tasks of validation signals, without a batch axis.
        num_steps: number of inner steps.
    """

    def __init__(self, workdir, signal, tasks, num_steps: int):
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
                "target, then steps 0, 1, ...", images.grid(rows)[None]
            )
        self._writer.flush()

    def on_train_end(self, logs=None):
        if self._writer is not None:
            self._writer.close()
