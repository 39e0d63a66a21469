"""Fits of many signals: with the weights of a run, or with an exported file.

Both have the same methods: `prepare(signal)`, then `fit(tasks, steps)`.
"""

import hashlib
import math
import os
import pathlib

import numpy as np
import tensorflow as tf

from tfmetainit import adaptation, experiment, functional, pixels
from tfmetainit.errors import InputError
from tfmetainit.lite_artifact import LiteArtifact
from tfmetainit.runs import find_run
from tfmetainit.tasks import (
    Observations,
    SignalClass,
    Task,
    mean_squared_error,
    psnr_from_mse,
)

# Adapted weights `[P]`, and PSNR in dB before and after.
Fitted = tuple[np.ndarray, float, float]


class RunFitter:
    """Fits with the weights of a training run, in TensorFlow."""

    def __init__(self, workdir):
        self._workdir = find_run(workdir)
        self.config = self._workdir.read_config()
        self.default_steps = self.config.learner.inner_steps
        self.digest = _digest(self._workdir.best)

    def prepare(self, signal: SignalClass):
        own = experiment.build_signal(self.config)
        learner = experiment.load_learner(self._workdir, self.config, own)
        experiment.use_class(learner, signal, "--signal")
        self._params = functional.get_params(learner.field)
        self.shapes = [tuple(p.shape) for p in self._params]
        loss, sizes = learner.query_loss, learner.step_sizes.as_params()

        def take_first_step(supports):
            return adaptation.first_steps(
                learner.support_loss, self._params, supports, sizes
            )[0]

        def score_first(queries):
            predictions = loss.predict(self._params, queries[0].inputs)
            return [
                psnr_from_mse(mean_squared_error(predictions, query.values)[0])
                for query in queries
            ]

        def take_step(batch, supports):
            return [
                adaptation.adapt(
                    learner.support_loss,
                    params,
                    support,
                    num_steps=1,
                    step_sizes=sizes,
                )[0]
                for params, support in zip(batch, supports)
            ]

        def score(batch, queries):
            return [
                loss.psnr(params, query)
                for params, query in zip(batch, queries)
            ]

        # One graph for all signals of a batch: its operations run side by side.
        self._take_step, self._score = map(tf.function, (take_step, score))
        # What all have in common before they part is then done once.
        self._take_first_step, self._score_first = map(
            tf.function, (take_first_step, score_first)
        )

    def fit(self, tasks: list[Task], steps: int) -> list[Fitted]:
        queries = [task.query for task in tasks]
        batch = [self._params] * len(tasks)
        if _alike(queries):
            before = self._score_first(queries)
        else:
            before = self._score(batch, queries)
        for step in range(steps):
            observed = [
                adaptation.at_step(task.support, step) for task in tasks
            ]
            supports = tf.nest.map_structure(lambda leaf: leaf[None], observed)
            if step == 0 and _alike(observed):
                batch = self._take_first_step(supports)
            else:
                batch = self._take_step(batch, supports)
        after = self._score(batch, queries)
        return [
            (np.float32(functional.flatten(params)), float(first), float(last))
            for params, first, last in zip(batch, before, after)
        ]


def _alike(observed: list[Observations]) -> bool:
    """Whether all were observed at the same inputs."""
    first = observed[0].inputs
    return all(
        one.inputs.shape == first.shape
        and bool(tf.reduce_all(one.inputs == first))
        for one in observed[1:]
    )


class ArtifactFitter:
    """Fits with an exported .tflite file, in LiteRT."""

    config = None

    def __init__(self, path):
        self._path = path
        self._artifact = LiteArtifact(path, num_threads=os.cpu_count())
        self.default_steps, self.shapes, description = self._artifact.recorded()
        self._description = description
        self.digest = _digest(path)

    def prepare(self, signal: SignalClass):
        described = signal.describe()
        for name in ("kind", *(signal.kind.fixed if signal.kind else ())):
            wanted, received = self._description.get(name), described[name]
            if received != wanted:
                raise InputError(
                    f"{self._path} fits signals of the {name} {wanted!r}. "
                    f"Received: --signal of the {name} {received!r}"
                )
        self._kind = signal.kind

    def fit(self, tasks: list[Task], steps: int) -> list[Fitted]:
        return [self._fit(task, steps) for task in tasks]

    def _fit(self, task, steps):
        theta = self._artifact.init()
        before = self._score(theta, task)
        inputs, values = (leaf.numpy() for leaf in task.support)
        if self._kind:
            inputs, values = self._kind.thinned(
                inputs, values, self._artifact.num_points
            )
        # One call where every step sees the same, else one for each step.
        calls = [steps] if len(inputs) == 1 else [1] * steps
        for index, count in enumerate(calls):
            batch = index % len(inputs)
            theta, losses = self._artifact.adapt(
                theta, inputs[batch], values[batch], count
            )
            if len(losses) < count:
                return theta, before, math.nan
        return theta, before, self._score(theta, task)

    def _score(self, theta, task):
        values = self._artifact.predict(theta, task.query.inputs.numpy())
        error = np.mean((values - task.query.values.numpy()) ** 2)
        return pixels.psnr_from_mse(float(error))


def _digest(path):
    """What tells the weights of one file from those of another."""
    path = pathlib.Path(path)
    if not path.is_file():
        raise InputError(f"There is no checkpoint {path}; train first.")
    return hashlib.sha256(path.read_bytes()).hexdigest()
