"""Compares a learned initialization with baselines on the same signals.

The baselines are those of `evaluation.baselines`. Their learning rates are
tuned on validation signals alone.
"""

import dataclasses
import functools
import logging
from collections.abc import Collection

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from tfmetainit.evaluation.baselines import (
    OPTIONAL_STARTS,
    AdamFit,
    Baselines,
    constant_floor,
)
from tfmetainit.evaluation.tables import in_numbers, scored_steps
from tfmetainit.geometry.metrics import psnr_from_mse
from tfmetainit.meta import inner_loop
from tfmetainit.meta.functional import Params, get_params
from tfmetainit.meta.inner_loop import SgdFit
from tfmetainit.meta.learner import MetaLearner
from tfmetainit.meta.tasks import FieldLoss
from tfmetainit.signals.base.signal_class import first_tasks

_LOGGER = logging.getLogger("tfmetainit")

LEARNED = "Learned"
# The rows that can be left out of a comparison: long fits need few of them.
OPTIONAL_ROWS = (
    f"{LEARNED} (stepped)",
    "Standard (solved)",
    "Standard (SGD)",
    *OPTIONAL_STARTS,
    f"{LEARNED} (Adam)",
)

_PICTURED = (0, 1, 2, 3)
_SSIM_WINDOW = 11  # pixels (Wang et al. 2004)


@dataclasses.dataclass(frozen=True)
class Method:
    """Initial weights and an optimizer that adapts them.

    Attributes:
        label: name of the row.
        params: the initial weights.
        fit: an `SgdFit` or an `AdamFit`.
        query_loss: scores the weights, with their own field: two fields of the
            same shapes may differ in their frozen weights.
        optimizer: description of the optimizer.
        rate: the learning rate; None for the learner's own step sizes.
    """

    label: str
    params: Params
    fit: SgdFit | AdamFit
    query_loss: FieldLoss
    optimizer: str
    rate: float | None = None


@dataclasses.dataclass(frozen=True)
class Scores:
    """The scores of a method on some signals.

    Attributes:
        psnr: in dB after 0, 1, ... steps, `[signals, steps + 1]`; NaN after
            steps that were not scored, or when the fit has diverged.
        ssim: structural similarity of the pictures after the last step,
            `[signals]` (Wang et al. 2004, as `tf.image.ssim` has it).
        shown: of the first signals, the query values `[m, c]` after the steps
            that have a picture.
        adapted: of the first signals, the weights after the last step.
    """

    psnr: np.ndarray
    ssim: np.ndarray
    shown: list[dict[int, np.ndarray]]
    adapted: list[Params]


class Comparison:
    """Compares a learned initialization with baselines on the same signals.

    Args:
        learner: with trained weights.
        signal: the signal class, of validation and test signals.
        options: `config.evaluation` of configs/default.py.
        baselines: the baselines of the learned init; None if only `score` and
            single methods are used.
        others: more learners of the same network, by label of their rows.
        rows: which of `OPTIONAL_ROWS` to have beside Learned and Standard;
            those that do not apply to the class are left out.
    """

    def __init__(
        self,
        learner: MetaLearner,
        signal,
        options,
        baselines: Baselines | None = None,
        others: dict[str, MetaLearner] | None = None,
        rows: Collection[str] = OPTIONAL_ROWS,
    ):
        self.learner = learner
        self.signal = signal
        self.options = options
        self.baselines = baselines
        self.others = others or {}
        self.rows = rows
        self.tuning = first_tasks(
            signal, "validation", options.num_tuning_signals
        )
        self.test = first_tasks(signal, "test", options.num_signals)
        self._fits = {}
        # Traced once for each loss, which is a Python object.
        self._psnr = tf.function(
            lambda loss, params, query: loss.psnr(params, query)
        )

    def score(
        self,
        method: Method,
        tasks,
        num_steps: int,
        scored: Collection[int],
        kept: int = 0,
    ) -> Scores:
        """Scores a method: fits every task with `num_steps` steps.

        Args:
            method: what to score.
            tasks: the signals.
            num_steps: number of gradient steps.
            scored: numbers of steps after which to score.
            kept: number of signals whose fits are kept, from the first.
        """
        psnr, ssim, shown, adapted = [], [], [], []
        bar = tqdm(tasks, desc=method.label, leave=False, disable=None)
        for index, task in enumerate(bar):
            curve = np.full(num_steps + 1, np.nan, np.float32)
            trajectory = method.fit.trajectory(
                method.params, task.support, num_steps
            )
            of_task = {}
            for step, params in enumerate(trajectory):
                if step in scored:
                    curve[step] = self._psnr(
                        method.query_loss, params, task.query
                    )
                if step == num_steps or (
                    index < kept and step in _shown_steps(num_steps)
                ):
                    of_task[step] = method.query_loss.predict(
                        params, task.query.inputs
                    ).numpy()
            psnr.append(curve)
            ssim.append(self.ssim(task, of_task[num_steps]))
            if index < kept:
                shown.append(of_task)
                adapted.append(params)
        return Scores(np.array(psnr), np.array(ssim), shown, adapted)

    def adapted(self, method: Method, task, num_steps: int) -> Params:
        """The weights after `num_steps` steps."""
        return inner_loop.last(
            method.fit.trajectory(method.params, task.support, num_steps)
        )

    def ssim(self, task, values) -> float:
        """Structural similarity of query values to those of a task.

        It is NaN for a class without pictures.
        """
        if not self.signal.has_pictures:
            return float("nan")
        pictures = [
            np.float32(np.clip(self.signal.picture(np.asarray(v)), 0.0, 1.0))
            for v in (values, task.query.values)
        ]
        window = min(_SSIM_WINDOW, *pictures[0].shape[:2])
        return float(tf.image.ssim(*pictures, 1.0, filter_size=window))

    def learned(self, label=LEARNED, solves: bool = True) -> Method:
        """The learned weights and step sizes, or those of one of `others`.

        Args:
            label: name of the row.
            solves: as in `MetaLearner.sgd_fit`.
        """
        learner = self.others.get(label, self.learner)
        sizes = learner.step_sizes
        kind = "learned" if sizes.learned else f"{sizes.initial:g}"
        seen = ", half of the pixels" if learner.step_on == "halves" else ""
        solved = ", solved" if solves and learner.ridge is not None else ""
        return Method(
            label,
            get_params(learner.field),
            learner.sgd_fit(solves),
            learner.query_loss,
            f"SGD, {kind} step sizes{seen}{solved}",
        )

    def with_sgd(self, label, params, rate) -> Method:
        """Weights adapted by plain gradient descent."""
        sizes = [tf.constant(rate, p.dtype) for p in params]
        if "sgd" not in self._fits:
            self._fits["sgd"] = SgdFit(self.learner.support_loss, sizes)
        fit = self._fits["sgd"].with_step_sizes(sizes)
        loss = self.learner.query_loss
        return Method(label, params, fit, loss, f"SGD {rate:g}", rate)

    def with_adam(self, label, params, rate, solves: bool = False) -> Method:
        """Weights adapted by Adam, then solved with the learned ridge if asked.

        Methods share their state: only one may be fitting at a time.
        """
        kind = "Adam, solved" if solves else "Adam"
        if kind not in self._fits:
            ridge = self.learner.ridge if solves else None
            self._fits[kind] = AdamFit(self.learner.support_loss, rate, ridge)
        return Method(
            label,
            params,
            self._fits[kind].with_rate(rate),
            self.learner.query_loss,
            kind.replace("Adam", f"Adam {rate:g}"),
            rate,
        )

    def tune(self, make, label, params, rates) -> Method:
        """The method whose rate has the best validation PSNR at the end."""
        candidates = [make(label, params, rate) for rate in rates]
        if len(candidates) == 1:
            return candidates[0]
        steps, scores = self.options.num_steps, []
        for candidate in candidates:
            psnr = [
                self._psnr(
                    candidate.query_loss,
                    self.adapted(candidate, task, steps),
                    task.query,
                )
                for task in self.tuning
            ]
            scores.append(np.mean(psnr))
        best = int(np.argmax(np.nan_to_num(scores, nan=-np.inf)))
        if len(rates) > 2 and best in (0, len(rates) - 1):
            _LOGGER.info(
                "%s: the best rate, %g, is at an end of the range tried: %s",
                *(label, rates[best], ", ".join(f"{r:g}" for r in rates)),
            )
        return candidates[best]

    def steps_to_match(self, target: float) -> dict:
        """How many Adam steps a random init needs for a PSNR of `target` dB.

        The rate that reaches the target first on the validation signals is run
        on the first `options.num_match_signals` test signals.

        Args:
            target: mean PSNR in dB over those signals.

        Returns:
            `{"target", "num_signals", "rate", "steps", "max_steps",
            "best_psnr"}`; steps is None if `options.max_match_steps` did not
            suffice.
        """
        params = self.baselines.starts["Standard"]
        limit = self.options.max_match_steps
        every = range(limit + 1)
        best_rate, best = None, (np.inf, np.inf)
        for rate in self.options.adam_rates:
            method = self.with_adam("Matching", params, rate)
            curve = self.score(method, self.tuning, limit, every).psnr.mean(
                axis=0
            )
            first = _first_reaching(curve, target)
            # If no rate reaches the target, the one that comes closest.
            key = (np.inf if first is None else first, -_best(curve))
            if best_rate is None or key < best:
                best_rate, best = rate, key
        method = self.with_adam("Matching", params, best_rate)
        tasks = self.test[: self.options.num_match_signals]
        curve = self.score(method, tasks, limit, every).psnr.mean(axis=0)
        return {
            "target": target,
            "num_signals": len(tasks),
            "rate": best_rate,
            "steps": _first_reaching(curve, target),
            "max_steps": limit,
            "best_psnr": _best(curve),
        }

    def methods(self) -> list[Method]:
        """The learned init and the paper's baselines, with tuned rates.

        If the output layer is solved, there are two more: the learned init
        without the solution, and random weights with it.
        """
        options, learned = self.options, self.learned()
        starts = self.baselines.starts
        standard, rates = starts["Standard"], options.adam_rates
        methods = [learned, *map(self.learned, self.others)]
        tuned = [
            ("Standard (SGD)", self.with_sgd, standard, options.sgd_rates),
            *((label, self.with_adam, p, rates) for label, p in starts.items()),
            (f"{LEARNED} (Adam)", self.with_adam, learned.params, rates),
        ]
        if self.learner.ridge is not None:
            stepped = f"{LEARNED} (stepped)"
            if stepped in self.rows:
                methods.append(self.learned(stepped, solves=False))
            solve = functools.partial(self.with_adam, solves=True)
            tuned.insert(0, ("Standard (solved)", solve, standard, rates))
        return methods + [
            self.tune(make, label, params, candidates)
            for label, make, params, candidates in tuned
            if label in ("Standard", *self.rows)
        ]

    def classical(self) -> list[dict]:
        """Mean scores of the classical methods, if the class has any."""
        scores = {}
        for task in self.test:
            for label, values in self.signal.classical(task).items():
                error = np.mean((values - task.query.values) ** 2)
                scores.setdefault(label, []).append(
                    (psnr_from_mse(error), self.ssim(task, values))
                )
        rows = []
        for label, of_label in scores.items():
            psnr, ssim = np.mean(of_label, axis=0).tolist()
            rows.append({"method": label, "psnr": psnr, "ssim": ssim})
        return rows

    def run(self, kept: int = 0) -> tuple[dict, dict[str, Scores]]:
        """Scores every method.

        Args:
            kept: as in `score`.

        Returns:
            A JSON-serializable dict of results, and the scores of each method
            by its label.
        """
        options = self.options
        inner_steps = min(self.learner.inner_steps, options.num_steps)
        scored = scored_steps(options.num_steps) | {inner_steps}
        rows, of_methods = [], {}
        for method in self.methods():
            scores = of_methods[method.label] = self.score(
                method, self.test, options.num_steps, scored, kept
            )
            if method.label == LEARNED:
                shared = scores.psnr[: options.num_match_signals]
                target = float(shared[:, inner_steps].mean())
                learned_psnr = float(shared[:, -1].mean())
            rows.append(
                {
                    "method": method.label,
                    "optimizer": method.optimizer,
                    "rate": method.rate,
                    "psnr": scores.psnr.mean(axis=0).tolist(),
                    "psnr_std": scores.psnr.std(axis=0).tolist(),
                    "ssim": float(scores.ssim.mean()),
                }
            )
            _LOGGER.info("%-15s %s", method.label, in_numbers(rows[-1]["psnr"]))
        results = {
            "num_signals": len(self.test),
            "num_tuning_signals": len(self.tuning),
            "inner_steps": inner_steps,
            "step_on": self.learner.step_on,
            "constant_psnr": constant_floor(self.test),
            "mean_psnr": self.baselines.mean_floor(self.test),
            "classical": self.classical(),
            "rows": rows,
            "standard_to_match": {
                **self.steps_to_match(target),
                "learned_psnr": learned_psnr,
            },
        }
        return results, of_methods

    def reconstructions(self, scores: dict[str, Scores], count: int):
        """Pictures: rows for test signals, and the titles of the columns.

        A row has the observations, if the class draws them; the target; the
        classical methods; the random weights with their tuned optimizer; and
        the learned weights after several steps.

        Args:
            scores: as returned by `run`, which has kept at least `count`.
            count: number of test signals.
        """
        last = self.options.num_steps
        if not self.signal.has_pictures:
            return [], []
        observed = self.signal.observed_pictures(count)
        rows, names = [], []
        for index, task in enumerate(self.test[:count]):
            classical = self.signal.classical(task)
            names = [label.replace(" ", "\n", 1) for label in classical]
            learned = scores[LEARNED].shown[index]
            shown = [
                task.query.values,
                *classical.values(),
                scores["Standard"].shown[index][last],
                *learned.values(),
            ]
            rows.append(
                observed[index : index + 1]
                + [self.signal.picture(np.asarray(v)) for v in shown]
            )
        titles = ["observed"] if observed else []
        titles += ["target", *names, f"Standard\nstep {last}"]
        steps = _shown_steps(last)
        return rows, titles + [f"Learned\nstep {step}" for step in steps]


def _shown_steps(last):
    """The steps of the learned weights that have a picture."""
    return [s for s in _PICTURED if s < last] + [last]


def _best(curve):
    """The largest PSNR of a curve; -inf if all are NaN."""
    return float(np.max(np.nan_to_num(curve, nan=-np.inf)))


def _first_reaching(curve, target):
    reached = np.flatnonzero(np.asarray(curve) >= target)
    return int(reached[0]) if len(reached) else None
