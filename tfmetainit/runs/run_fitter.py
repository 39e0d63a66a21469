"""Fits with the weights of a training run (`modalities.Fitter`)."""

import hashlib
import pathlib
from collections.abc import Collection, Sequence

import numpy as np
import tensorflow as tf

from tfmetainit.io.errors import InputError
from tfmetainit.meta import completion, functional, inner_loop
from tfmetainit.meta.tasks import (
    Observations,
    WeightedLoss,
    mean_squared_error,
    psnr_from_mse,
)
from tfmetainit.modalities import Fitted, Sample
from tfmetainit.runs import build
from tfmetainit.runs.prior import read_prior
from tfmetainit.runs.workdir import find_run
from tfmetainit.signals.base import SignalClass, to_task

# A graph of so many signals is traced in seconds. With 64, tracing takes four
# times as long, and a fit 0.9 of the time.
_SIGNALS_AT_ONCE = 8


class RunFitter:
    """Fits with the weights of a run, in TensorFlow; see `modalities.Fitter`.

    Args:
        workdir: the folder of a training run.

    Raises:
        InputError: if there is no run.
    """

    def __init__(self, workdir):
        self._workdir = find_run(workdir)
        self.config = self._workdir.read_config()
        self.default_steps = self.config.learner.inner_steps
        self._signal = build.build_signal(self.config)
        self._params = None

    @property
    def digest(self) -> str:
        path = pathlib.Path(self._workdir.best)
        if not path.is_file():
            raise InputError(f"There is no checkpoint {path}; train first.")
        return hashlib.sha256(path.read_bytes()).hexdigest()

    @property
    def modality(self):
        return self._signal.modality

    @property
    def resolution(self):
        own = getattr(self._signal, "resolution", None)
        return own or getattr(self.modality, "resolution", None)

    @property
    def shapes(self):
        self._load()
        return [tuple(p.shape) for p in self._params]

    @property
    def learned(self) -> np.ndarray:
        self._load()
        return np.float32(functional.flatten(self._params))

    def score(self, theta, sample: Sample) -> float:
        self._load()
        task = to_task(sample)
        params = functional.unflatten(tf.constant(theta), self.shapes)
        observed = inner_loop.at_step(task.support, 0)
        (psnr,) = self._score([params], [task.query], [observed])
        return float(psnr)

    def prepare(self, signal: SignalClass) -> None:
        self._load()
        build.use_class(self._learner, signal)
        self._signal = signal
        self._trace()

    def read(self, path, **details) -> Sample:
        return self._signal.read_sample(path, **details)

    def render(self, theta, height, width, camera=None) -> np.ndarray:
        params = functional.unflatten(tf.constant(theta), self.shapes)
        return self._signal.render(
            lambda inputs: self._learner.query_loss.predict(params, inputs),
            height,
            width,
            camera,
        )

    def _load(self):
        """Loads the learner, when it is first needed."""
        if self._params is not None:
            return
        self._learner = build.load_learner(
            self._workdir, self.config, self._signal
        )
        self._params = functional.get_params(self._learner.field)
        self._prior = read_prior(self._workdir, self._learner.field)
        self._trace()

    def _trace(self):
        """Makes the graphs, each of up to `_SIGNALS_AT_ONCE` signals."""
        support_loss = self._learner.support_loss
        query_loss = self._learner.query_loss
        sizes = self._learner.step_sizes.as_params()

        def take_step(losses, batch, supports):
            return [
                inner_loop.adapt(
                    loss, params, support, num_steps=1, step_sizes=sizes
                )[0]
                for loss, params, support in zip(losses, batch, supports)
            ]

        @tf.function
        def step(batch, supports):
            losses = [support_loss] * len(batch)
            return take_step(losses, batch, supports)

        @tf.function
        def first_step(supports):
            losses = inner_loop.share_predictions(
                support_loss, self._params, supports
            )
            return take_step(losses, [self._params] * len(supports), supports)

        @tf.function
        def score(batch, queries, observed):
            return [
                support_loss.psnr(params, first)
                if query.values is None
                else query_loss.psnr(params, query)
                for params, query, first in zip(batch, queries, observed)
            ]

        @tf.function
        def score_first(queries):
            predictions = query_loss.predict(self._params, queries[0].inputs)
            return [
                psnr_from_mse(mean_squared_error(predictions, query.values)[0])
                for query in queries
            ]

        self._step, self._first_step = step, first_step
        self._finish = inner_loop.finisher(support_loss, self._learner.ridge)
        self._score, self._score_first = score, score_first
        self._partial = self._prior and _PartialFit(self._learner, self._prior)

    def fit(
        self, samples: Sequence[Sample], steps: int, scored: Collection[int]
    ) -> list[Fitted]:
        self._load()
        if any(self._is_partial(sample) for sample in samples):
            return [
                self._fit_partial(sample, steps, scored)
                if self._is_partial(sample)
                else self._fit_at_once([sample], steps, scored)[0]
                for sample in samples
            ]
        return [
            fitted
            for first in range(0, len(samples), _SIGNALS_AT_ONCE)
            for fitted in self._fit_at_once(
                samples[first : first + _SIGNALS_AT_ONCE], steps, scored
            )
        ]

    def _is_partial(self, sample):
        return sample.missing is not None and self._prior is not None

    def _fit_partial(self, sample, steps, scored):
        """Fits the observed part of a signal, and what is likely elsewhere."""
        task = to_task(sample)
        observed = inner_loop.at_step(task.support, 0)
        partial, params = self._partial, self._params
        whole = partial.complete(observed, tf.constant(sample.missing))
        psnr = {}
        for step in range(steps + 1):
            if step in scored or step == steps:
                finished = partial.finish(params, *whole)
            if step in scored:
                (value,) = self._score([finished], [task.query], [observed])
                psnr[step] = float(value)
            if step < steps:
                params = partial.step(params, *whole)
        return Fitted(np.float32(functional.flatten(finished)), psnr)

    def _fit_at_once(self, samples, steps, scored):
        tasks = [to_task(sample) for sample in samples]
        queries = [task.query for task in tasks]
        solves = self._learner.ridge is not None
        batch = [self._params] * len(tasks)
        psnr = [{} for _ in tasks]
        observed = [inner_loop.at_step(task.support, 0) for task in tasks]
        batches = [
            # Halves of a part are no checkerboard: steps see all of it.
            self._learner.batches(task.support)
            if sample.missing is None
            else task.support
            for sample, task in zip(samples, tasks)
        ]
        for step in range(steps + 1):
            # The observations of this step as a support, [1, n, ...].
            supports = [
                _one_batch(inner_loop.at_step(of_one, step))
                for of_one in batches
            ]
            if step in scored or step == steps:
                finished = [
                    self._finish(params, task.support)
                    for params, task in zip(batch, tasks)
                ]
            if step in scored:
                if step == 0 and _same_inputs(queries) and not solves:
                    values = self._score_first(queries)
                else:
                    values = self._score(finished, queries, observed)
                for of_signal, value in zip(psnr, values):
                    of_signal[step] = float(value)
            if step == steps:
                break
            if step == 0 and _same_inputs(supports):
                batch = self._first_step(supports)
            else:
                batch = self._step(batch, supports)
        return [
            Fitted(np.float32(functional.flatten(params)), of_signal)
            for params, of_signal in zip(finished, psnr)
        ]


class _PartialFit:
    """The graphs that fit signals of which a part was observed.

    Args:
        learner: the trained learner.
        prior: the `completion.Prior` of the class.
    """

    def __init__(self, learner, prior):
        self._learner, self._loss = learner, learner.support_loss
        self._params = functional.get_params(learner.field)
        self._dtype = learner.field.compute_dtype
        leaves = (tf.cast(leaf, self._dtype) for leaf in prior[:3])
        self._prior = completion.Prior(*leaves, prior.unseen_weight)

    def complete(self, observed, missing):
        """Observed rows, then those predicted at `missing`; their weights."""
        observed, missing = tf.nest.map_structure(
            lambda leaf: tf.cast(leaf, self._dtype), (observed, missing)
        )
        guess = Observations(missing, self._predict(observed, missing))
        whole = tf.nest.map_structure(
            lambda *parts: tf.concat(parts, axis=0), observed, guess
        )
        weights = np.ones([whole.inputs.shape[0], 1])
        weights[observed.inputs.shape[0] :] = self._prior.unseen_weight
        return whole, tf.constant(weights, self._dtype)

    @tf.function(reduce_retracing=True)
    def _predict(self, observed, missing):
        count = tf.cast(tf.shape(observed.inputs)[:1, None], self._dtype)
        equations = self._loss.normal_equations(self._params, observed)
        params = completion.complete(
            self._params, self._prior, equations, count
        )
        return self._loss.predict(params, missing)

    @tf.function
    def step(self, params, whole, weights):
        """The parameters after one more gradient step."""
        return inner_loop.adapt(
            self._weighted(weights),
            params,
            _one_batch(whole),
            num_steps=1,
            step_sizes=self._learner.step_sizes.as_params(),
        )[0]

    @tf.function
    def finish(self, params, whole, weights):
        """The parameters to predict with."""
        finish = inner_loop.finisher(
            self._weighted(weights), self._learner.ridge
        )
        return finish(params, _one_batch(whole))

    def _weighted(self, weights):
        total = tf.reduce_sum(weights, axis=0, keepdims=True)
        return WeightedLoss(
            self._learner.field, self._loss.forward_model, weights, total
        )


def _one_batch(observed):
    return tf.nest.map_structure(lambda leaf: leaf[None], observed)


def _same_inputs(observed) -> bool:
    """Whether there are several signals, all observed at the same inputs.

    Their predictions are then computed once.
    """
    first = observed[0].inputs
    return (
        len(observed) > 1
        and all(one.values is not None for one in observed)
        and all(
            one.inputs.shape == first.shape
            and bool(tf.reduce_all(one.inputs == first))
            for one in observed[1:]
        )
    )
