r"""Compares a learned initialization with the paper's baselines.

    python -m tfmetainit.evaluate --workdir=runs/text

Writes results.json, results.md, curves.png and reconstructions.png into
runs/text/evaluation. With `--on=configs/sdf.py` the learned weights meet the
test signals of another class. Every figure is a mean over held-out test
signals; the baselines' rates are tuned on validation signals alone.
"""

import dataclasses
import logging
import pathlib
import time

from absl import flags
from ml_collections import config_flags

from tfmetainit import cli

cli.quiet_tensorflow()

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from tfmetainit import experiment, files, initial_weights, pictures
from tfmetainit.adaptation import SgdFit
from tfmetainit.errors import InputError, check_range
from tfmetainit.experiment import Workdir
from tfmetainit.functional import Params, get_params
from tfmetainit.initial_weights import AdamFit
from tfmetainit.learners import MetaLearner
from tfmetainit.tasks import Observations, Task, psnr_from_mse

_LOGGER = logging.getLogger("tfmetainit")

_NUM_PICTURES = 6
_NUM_PICTURE_STEPS = 4
_MAX_SIGNALS = 10_000
_MAX_STEPS = 100_000


@dataclasses.dataclass(frozen=True)
class Method:
    """Initial weights and a way to go on from them.

    Attributes:
        label: the row's name.
        params: the initial weights.
        fit: an `SgdFit` or an `AdamFit`.
        optimizer: what `fit` does, in words.
        rate: the learning rate; None where the step sizes are the learner's.
    """

    label: str
    params: Params
    fit: SgdFit | AdamFit
    optimizer: str
    rate: float | None = None


class Comparison:
    """A learned initialization, its baselines, and the signals they meet.

    Args:
        learner: with trained weights.
        signal: the class of the validation and test signals.
        options: `config.evaluation` of configs/default.py.
        seed: integer seed of the random baselines.
    """

    def __init__(self, learner: MetaLearner, signal, options, seed=0):
        for name, limit in (
            ("num_signals", _MAX_SIGNALS),
            ("num_tuning_signals", _MAX_SIGNALS),
            ("num_match_signals", _MAX_SIGNALS),
            ("num_steps", _MAX_STEPS),
            ("max_match_steps", _MAX_STEPS),
            ("num_fit_steps", _MAX_STEPS),
        ):
            check_range(f"config.evaluation.{name}", options[name], 1, limit)
        self.learner = learner
        self.signal = signal
        self.options = options
        self.seed = seed
        self.tuning = first_tasks(
            signal, "validation", options.num_tuning_signals
        )
        self.test = first_tasks(signal, "test", options.num_signals)
        self._score = tf.function(
            lambda params, query: psnr_from_mse(
                learner.query_loss(params, query)
            )
        )

    def psnr(self, method: Method, tasks, num_steps: int) -> np.ndarray:
        """PSNR in dB after 0..num_steps steps, `[signals, num_steps + 1]`."""
        return np.array(
            [
                [
                    self._score(params, task.query).numpy()
                    for params in method.fit.trajectory(
                        method.params, task.support, num_steps
                    )
                ]
                for task in tqdm(
                    tasks, desc=method.label, leave=False, disable=None
                )
            ]
        )

    def learned(self) -> Method:
        """The learned weights with the learned step sizes."""
        sizes = self.learner.step_sizes
        kind = "learned" if sizes.learned else f"{sizes.initial:g}"
        return Method(
            "Learned",
            get_params(self.learner.field),
            self.learner.sgd_fit(),
            f"SGD, {kind} step sizes",
        )

    def with_sgd(self, label, params, rate) -> Method:
        """A baseline fitted by plain gradient descent."""
        sizes = [tf.constant(rate, p.dtype) for p in params]
        fit = SgdFit(self.learner.support_loss, sizes)
        return Method(label, params, fit, f"SGD {rate:g}", rate)

    def with_adam(self, label, params, rate) -> Method:
        """A baseline fitted by Adam."""
        fit = AdamFit(self.learner.support_loss, rate)
        return Method(label, params, fit, f"Adam {rate:g}", rate)

    def tune(self, make, label, params, rates, num_steps) -> Method:
        """The method whose rate gives the best validation PSNR at the end."""
        candidates = [make(label, params, rate) for rate in rates]
        scores = [
            self.psnr(candidate, self.tuning, num_steps)[:, -1].mean()
            for candidate in candidates
        ]
        return candidates[int(np.nanargmax(scores))]

    def steps_to_match(self, target: float) -> dict:
        """How many Adam steps a random init needs for a PSNR of `target` dB.

        Every rate is tried on the validation signals; the one that gets there
        first is then run on the first `options.num_match_signals` test signals.

        Args:
            target: mean PSNR in dB over those signals.

        Returns:
            `{"target", "num_signals", "rate", "steps", "max_steps",
            "best_psnr"}`; steps is None if `options.max_match_steps` did not
            suffice.
        """
        params = initial_weights.standard(self.learner.field, self.seed + 1)
        limit = self.options.max_match_steps
        best_rate, best = None, (np.inf, np.inf)
        for rate in self.options.adam_rates:
            method = self.with_adam("Matching", params, rate)
            curve = self.psnr(method, self.tuning, limit).mean(axis=0)
            first = _first_reaching(curve, target)
            # Where none gets there, the one that gets nearest.
            key = (np.inf if first is None else first, -np.nanmax(curve))
            if key < best:
                best_rate, best = rate, key
        method = self.with_adam("Matching", params, best_rate)
        tasks = self.test[: self.options.num_match_signals]
        curve = self.psnr(method, tasks, limit).mean(axis=0)
        return {
            "target": target,
            "num_signals": len(tasks),
            "rate": best_rate,
            "steps": _first_reaching(curve, target),
            "max_steps": limit,
            "best_psnr": float(np.nanmax(curve)),
        }

    def methods(self) -> list[Method]:
        """The learned init and the paper's baselines, their rates tuned."""
        options, field = self.options, self.learner.field
        learned = self.learned()
        random = initial_weights.standard(field, self.seed + 1)
        query_loss = self.learner.query_loss
        inputs = self.test[0].query.inputs

        def fit_to(values):
            return initial_weights.fitted(
                query_loss,
                random,
                Observations(inputs[None], values[None]),
                num_steps=options.num_fit_steps,
            )

        starts = {
            "Mean": fit_to(_mean_values(self.signal)),
            "Matched": fit_to(query_loss.predict(learned.params, inputs)),
            "Shuffled": initial_weights.shuffled(learned.params, self.seed),
        }
        steps = options.num_steps
        rows = [
            learned,
            self.tune(
                self.with_sgd,
                "Standard (SGD)",
                random,
                options.sgd_rates,
                steps,
            ),
            self.tune(
                self.with_adam, "Standard", random, options.adam_rates, steps
            ),
        ]
        for label, params in starts.items():
            rows.append(
                self.tune(
                    self.with_adam, label, params, options.adam_rates, steps
                )
            )
        return rows


def first_tasks(signal, split, count) -> list[Task]:
    """Up to `count` tasks of a split, without a batch axis."""
    dataset = signal.make_dataset(split, 1).take(count)
    tasks = [
        tf.nest.map_structure(lambda leaf: leaf[0], batch) for batch in dataset
    ]
    if not tasks:
        raise InputError(f"The {split} split of the class holds no signal.")
    if len(tasks) < count:
        _LOGGER.info(
            "The %s split holds %d of the %d signals asked for",
            *(split, len(tasks), count),
        )
    return tasks


def _mean_values(signal):
    """The mean signal of the class, over its validation split."""
    total, count = 0.0, 0
    for batch in signal.make_dataset("validation", 1):
        total += batch.query.values[0]
        count += 1
    return total / count


def _first_reaching(curve, target):
    reached = np.flatnonzero(np.asarray(curve) >= target)
    return int(reached[0]) if len(reached) else None


def constant_floor(tasks) -> float:
    """Mean PSNR in dB of each signal's own mean value, the best constant."""
    return float(
        np.mean(
            [
                psnr_from_mse(np.mean(np.var(task.query.values, axis=0)))
                for task in tasks
            ]
        )
    )


def evaluate(workdir, output_dir=None, on=None, options=None) -> dict:
    """Compares the learned init of a run with the baselines.

    Args:
        workdir: the folder of a training run.
        output_dir: where the four files go; by default `evaluation`, or
            `evaluation_on_<class>`, in the workdir.
        on: config of another class whose signals to use, or None.
        options: overrides of the `evaluation` settings of `on`, or else of the
            run's config; a mapping, or None.

    Returns:
        What is written to results.json.

    Raises:
        InputError: if there is no trained run, or the classes do not fit.
    """
    started = time.monotonic()
    workdir = Workdir(workdir)
    config = workdir.read_config()
    signal = experiment.build_signal(config)
    learner = experiment.load_learner(workdir, config, signal)
    class_name = trained_on = _class_name(config)
    if on is not None:
        signal = experiment.build_signal(on)
        class_name = _class_name(on)
        _check_compatible(learner, signal)
    settings = (config if on is None else on).evaluation
    settings.update(options or {})
    if output_dir is None:
        suffix = "" if on is None else f"_on_{class_name}"
        output_dir = workdir.root / f"evaluation{suffix}"
    comparison = Comparison(learner, signal, settings, config.seed)
    output_dir = pathlib.Path(output_dir)
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"Cannot make the folder {output_dir}: {error.strerror}."
        ) from error
    _LOGGER.info("Evaluating %s; output goes to %s", workdir.root, output_dir)

    inner_steps = min(config.learner.inner_steps, settings.num_steps)
    rows, curves = [], {}
    for method in comparison.methods():
        psnr = comparison.psnr(method, comparison.test, settings.num_steps)
        if method.label == "Learned":
            shared = psnr[: settings.num_match_signals]
            target = float(shared[:, inner_steps].mean())
        curves[method.label] = psnr.mean(axis=0).tolist()
        rows.append(
            {
                "method": method.label,
                "optimizer": method.optimizer,
                "rate": method.rate,
                "psnr": curves[method.label],
                "psnr_std": psnr.std(axis=0).tolist(),
            }
        )
        _LOGGER.info(
            "%-15s %s",
            method.label,
            " ".join(f"{value:.2f}" for value in curves[method.label]),
        )
    floor = constant_floor(comparison.test)
    results = {
        "trained_on": trained_on,
        "evaluated_on": class_name,
        "num_signals": len(comparison.test),
        "num_tuning_signals": len(comparison.tuning),
        "inner_steps": inner_steps,
        "constant_image_psnr": floor,
        "rows": rows,
        "standard_to_match": comparison.steps_to_match(target),
        "seconds": time.monotonic() - started,
    }
    files.write_json(output_dir / "results.json", results)
    with files.atomic_path(output_dir / "results.md") as temporary:
        temporary.write_text(to_markdown(results))
    pictures.save_curves(
        output_dir / "curves.png",
        curves,
        floor=floor,
        title=f"trained on {trained_on}, fitted to {class_name}",
    )
    _save_reconstructions(output_dir / "reconstructions.png", comparison)
    return results


def _class_name(config):
    name = config.signal.get("dataset", config.signal.name)
    return name.replace("/", "_")


def _check_compatible(learner, signal):
    field = learner.field
    if (field.coord_dims, field.value_dims) != (
        signal.coord_dims,
        signal.value_dims,
    ):
        raise InputError(
            "The class given by --on must have the dimensions of the trained "
            f"field, {field.coord_dims} coordinates and {field.value_dims} "
            f"values. Received: {signal.coord_dims} and {signal.value_dims}"
        )


def to_markdown(results: dict) -> str:
    """The results as a Markdown table with a line on how they came about."""
    last = len(results["rows"][0]["psnr"]) - 1
    steps = [s for s in (0, 1, 2, 3, 4, 6, 8, 10, 16, 32) if s < last] + [last]
    lines = [
        f"PSNR in dB after gradient steps; trained on {results['trained_on']}, "
        f"mean over {results['num_signals']} held-out "
        f"{results['evaluated_on']} signals.",
        "",
        "| initial weights | optimizer | "
        + " | ".join(str(step) for step in steps)
        + " |",
        "|---|---|" + "---:|" * len(steps),
    ]
    for row in results["rows"]:
        values = " | ".join(f"{row['psnr'][step]:.2f}" for step in steps)
        lines.append(f"| {row['method']} | {row['optimizer']} | {values} |")
    match = results["standard_to_match"]
    needed = (
        f"{match['steps']} Adam steps (rate {match['rate']:g})"
        if match["steps"] is not None
        else f"more than {match['max_steps']} Adam steps: its best was "
        f"{match['best_psnr']:.2f} dB"
    )
    lines += [
        "",
        f"The baselines' rates are those of the best PSNR after {last} steps "
        f"on {results['num_tuning_signals']} validation signals. The best "
        f"constant image scores {results['constant_image_psnr']:.2f} dB.",
        f"For the {match['target']:.2f} dB that the learned weights reach in "
        f"{results['inner_steps']} steps on {match['num_signals']} of the "
        f"signals, random weights need {needed}.",
        "",
    ]
    return "\n".join(lines)


def _save_reconstructions(path, comparison):
    """Rows: test signals. Columns: the target, then the fit step by step."""
    method = comparison.learned()
    steps = min(_NUM_PICTURE_STEPS, comparison.options.num_steps)
    rows = []
    for task in comparison.test[:_NUM_PICTURES]:
        values = comparison.learner.reconstructions(
            task, method.params, method.fit, steps
        )
        rows.append(
            [comparison.signal.picture(v) for v in [task.query.values, *values]]
        )
    titles = ["target"] + [f"step {step}" for step in range(steps + 1)]
    pictures.save_labelled_grid(path, rows, titles)


def main(argv):
    """Runs `evaluate` with the command's flags."""
    del argv
    values = flags.FLAGS
    options = {
        name: values[name].value
        for name in ("num_signals", "num_steps")
        if values[name].value is not None
    }
    results = evaluate(values.workdir, values.output_dir, values.on, options)
    print(f"\n{to_markdown(results)}")
    print(f"{results['seconds'] / 60:.1f} minutes.")


def run():
    """The command `tfmetainit-evaluate`."""
    flags.DEFINE_string("workdir", None, "Folder of a training run.")
    flags.DEFINE_string(
        "output_dir", None, "Folder of the results; default: in the workdir."
    )
    config_flags.DEFINE_config_file(
        "on", None, "Config of another signal class to be fitted."
    )
    flags.DEFINE_integer(
        "num_signals", None, "Overrides config.evaluation.num_signals."
    )
    flags.DEFINE_integer(
        "num_steps", None, "Overrides config.evaluation.num_steps."
    )
    flags.mark_flag_as_required("workdir")
    cli.run(main, __doc__)


if __name__ == "__main__":
    run()
