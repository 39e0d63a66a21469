r"""Compares a learned initialization with the paper's baselines.

    python -m tfmetainit.evaluate --workdir=runs/text

Writes results.json, results.md, curves.png and reconstructions.png into
runs/text/evaluation, and films of what can be seen from several sides. With
`--on=configs/sdf.py` the learned weights meet the test signals of another
class; `--against=runs/a,runs/b` compares those of other runs too. Every figure
is a mean over held-out test signals; the baselines' rates are tuned on
validation signals alone.
"""

import dataclasses
import logging
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
from tfmetainit.functional import Params, get_params
from tfmetainit.initial_weights import AdamFit
from tfmetainit.learners import MetaLearner
from tfmetainit.tasks import (
    FieldLoss,
    Observations,
    constant_floor,
    first_tasks,
    psnr_from_mse,
)

_LOGGER = logging.getLogger("tfmetainit")

LEARNED = "Learned"

_NUM_PICTURES = 6
_SHOWN_STEPS = (0, 1, 2, 3)
_SSIM_WINDOW = 11  # pixels (Wang et al. 2004)
# Where every signal is scored at inputs of its own: how many signals' inputs
# Matched is fitted at.
_MATCHING_TASKS = 250
_NUM_FILMED = 3
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


@dataclasses.dataclass(frozen=True)
class Scores:
    """How a method does on some signals.

    Attributes:
        psnr: in dB after 0, 1, ... steps, `[signals, steps + 1]`.
        ssim: structural similarity of the pictures after the last step,
            `[signals]` (Wang et al. 2004, as `tf.image.ssim` has it).
    """

    psnr: np.ndarray
    ssim: np.ndarray


class Comparison:
    """A learned initialization, its baselines, and the signals they meet.

    Args:
        learner: with trained weights.
        signal: the class of the validation and test signals.
        starts: baselines' initial weights by their name, as `baselines` makes
            them.
        options: `config.evaluation` of configs/default.py.
        others: learners of the same network, by their rows' names.
    """

    def __init__(
        self, learner: MetaLearner, signal, starts, options, others=None
    ):
        self.learner = learner
        self.signal = signal
        self.starts = starts
        self.options = options
        self.others = others or {}
        self.tuning = first_tasks(
            signal, "validation", options.num_tuning_signals
        )
        self.test = first_tasks(signal, "test", options.num_signals)
        self._score = tf.function(
            lambda params, query: psnr_from_mse(
                learner.query_loss(params, query)
            )
        )

    def score(self, method: Method, tasks, num_steps: int) -> Scores:
        """Fits every task, `num_steps` steps each."""
        psnr, ssim = [], []
        for task in tqdm(tasks, desc=method.label, leave=False, disable=None):
            curve = []
            for params in method.fit.trajectory(
                method.params, task.support, num_steps
            ):
                curve.append(self._score(params, task.query).numpy())
            psnr.append(curve)
            values = self.learner.query_loss.predict(params, task.query.inputs)
            ssim.append(self.ssim(task, values))
        return Scores(np.array(psnr), np.array(ssim))

    def adapted(self, method: Method, task, num_steps: int) -> Params:
        """The weights after `num_steps` steps."""
        *_, last = method.fit.trajectory(method.params, task.support, num_steps)
        return last

    def ssim(self, task, values) -> float:
        """Structural similarity of some query values to a task's own."""
        pictures = [
            np.float32(np.clip(self.signal.picture(np.asarray(v)), 0.0, 1.0))
            for v in (values, task.query.values)
        ]
        window = min(_SSIM_WINDOW, *pictures[0].shape[:2])
        return float(tf.image.ssim(*pictures, 1.0, filter_size=window))

    def learned(self, label=LEARNED) -> Method:
        """The learned weights with the learned step sizes; or others' own."""
        learner = self.others.get(label, self.learner)
        sizes = learner.step_sizes
        kind = "learned" if sizes.learned else f"{sizes.initial:g}"
        return Method(
            label,
            get_params(learner.field),
            learner.sgd_fit(),
            f"SGD, {kind} step sizes",
        )

    def with_sgd(self, label, params, rate) -> Method:
        """Weights adapted by plain gradient descent."""
        sizes = [tf.constant(rate, p.dtype) for p in params]
        fit = SgdFit(self.learner.support_loss, sizes)
        return Method(label, params, fit, f"SGD {rate:g}", rate)

    def with_adam(self, label, params, rate) -> Method:
        """Weights adapted by Adam."""
        fit = AdamFit(self.learner.support_loss, rate)
        return Method(label, params, fit, f"Adam {rate:g}", rate)

    def tune(self, make, label, params, rates) -> Method:
        """The method whose rate gives the best validation PSNR at the end."""
        candidates = [make(label, params, rate) for rate in rates]
        steps, scores = self.options.num_steps, []
        for candidate in candidates:
            psnr = [
                self._score(self.adapted(candidate, task, steps), task.query)
                for task in self.tuning
            ]
            scores.append(np.mean(psnr))
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
        params = self.starts["Standard"]
        limit = self.options.max_match_steps
        best_rate, best = None, (np.inf, np.inf)
        for rate in self.options.adam_rates:
            method = self.with_adam("Matching", params, rate)
            curve = self.score(method, self.tuning, limit).psnr.mean(axis=0)
            first = _first_reaching(curve, target)
            # Where none gets there, the one that gets nearest.
            key = (np.inf if first is None else first, -np.nanmax(curve))
            if key < best:
                best_rate, best = rate, key
        method = self.with_adam("Matching", params, best_rate)
        tasks = self.test[: self.options.num_match_signals]
        curve = self.score(method, tasks, limit).psnr.mean(axis=0)
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
        options, learned = self.options, self.learned()
        sgd = ("Standard (SGD)", self.starts["Standard"], options.sgd_rates)
        adam = {**self.starts, f"{LEARNED} (Adam)": learned.params}
        return [
            learned,
            *map(self.learned, self.others),
            self.tune(self.with_sgd, *sgd),
            *(
                self.tune(self.with_adam, label, params, options.adam_rates)
                for label, params in adam.items()
            ),
        ]

    def classical(self) -> list[dict]:
        """Mean scores of the methods without learning, if there are any."""
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

    def run(self) -> tuple[dict, list[Method]]:
        """Scores every method; a JSON-serializable dict, and the methods."""
        options = self.options
        inner_steps = min(self.learner.inner_steps, options.num_steps)
        methods, rows = self.methods(), []
        for method in methods:
            scores = self.score(method, self.test, options.num_steps)
            if method.label == LEARNED:
                shared = scores.psnr[: options.num_match_signals]
                target = float(shared[:, inner_steps].mean())
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
            _LOGGER.info(
                "%-15s %s", method.label, _in_numbers(rows[-1]["psnr"])
            )
        results = {
            "num_signals": len(self.test),
            "num_tuning_signals": len(self.tuning),
            "inner_steps": inner_steps,
            "constant_psnr": constant_floor(self.test),
            "mean_psnr": mean_floor(self.signal, self.test),
            "classical": self.classical(),
            "rows": rows,
            "standard_to_match": self.steps_to_match(target),
        }
        return results, methods

    def reconstructions(self, methods, count):
        """Pictures: rows for test signals, and the columns' titles.

        A row has what was observed, where that is another picture than the
        target; the target, the classical methods, the random weights with
        their tuned optimizer, and the learned ones step by step.
        """
        last = self.options.num_steps
        steps = [s for s in _SHOWN_STEPS if s < last] + [last]
        standard, learned = (
            next(m for m in methods if m.label == label)
            for label in ("Standard", LEARNED)
        )

        def fit(method, task):
            return self.learner.reconstructions(
                task, method.params, method.fit, last
            )

        observed = self.signal.observed_pictures(count)
        rows, names = [], []
        for index, task in enumerate(self.test[:count]):
            classical = self.signal.classical(task)
            names = [label.replace(" ", "\n", 1) for label in classical]
            own = fit(learned, task)
            shown = [
                task.query.values,
                *classical.values(),
                fit(standard, task)[-1],
                *(own[step] for step in steps),
            ]
            rows.append(
                observed[index : index + 1]
                + [self.signal.picture(np.asarray(v)) for v in shown]
            )
        titles = ["observed"] if observed else []
        titles += ["target", *names, f"Standard\nstep {last}"]
        return rows, titles + [f"Learned\nstep {step}" for step in steps]


def baselines(learner: MetaLearner, signal, options, seed) -> dict[str, Params]:
    """The initial weights that the learned ones are compared with, by name.

    Args:
        learner: with trained weights.
        signal: the class of the signals.
        options: `config.evaluation` of configs/default.py.
        seed: integer seed of the random ones.
    """
    field, query_loss = learner.field, learner.query_loss
    random = initial_weights.standard(field, seed + 1)
    learned = get_params(field)
    if signal.shares_inputs:
        inputs = first_tasks(signal, "test", 1)[0].query.inputs[None]
    else:
        tasks = first_tasks(signal, "train", _MATCHING_TASKS)
        inputs = tf.stack([task.query.inputs for task in tasks])

    def fit_to(values):
        return initial_weights.fitted(
            query_loss,
            random,
            Observations(inputs, values),
            num_steps=options.num_fit_steps,
        )

    starts = {"Standard": random}
    if signal.shares_inputs:
        starts["Mean"] = fit_to(_mean_values(signal)[None])
    outputs = [query_loss.predict(learned, batch) for batch in inputs]
    starts["Matched"] = fit_to(tf.stack(outputs))
    starts["Shuffled"] = initial_weights.shuffled(learned, seed)
    return starts


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


def mean_floor(signal, tasks) -> float:
    """Mean PSNR in dB of the class's mean signal (over validation signals)."""
    mean = _mean_values(signal)
    return float(
        np.mean(
            [
                psnr_from_mse(np.mean((mean - task.query.values) ** 2))
                for task in tasks
            ]
        )
    )


def _others(paths, learner, signal):
    """The learners of other runs, made for a signal class, by their rows."""
    others = {}
    runs = [experiment.find_run(path) for path in paths]
    folders = [run.root.name for run in runs]
    for workdir, folder in zip(runs, folders):
        config = workdir.read_config()
        other = experiment.load_learner(
            workdir, config, experiment.build_signal(config)
        )
        shapes = [
            [tuple(p.shape) for p in get_params(one.field)]
            for one in (learner, other)
        ]
        if shapes[0] != shapes[1]:
            raise InputError(
                "A run given by --against must have the same network as that "
                f"of --workdir. Received: {workdir.root} with parameters of "
                f"the shapes {shapes[1]}, for {shapes[0]}"
            )
        other.support_loss = FieldLoss(other.field, signal.support_model)
        unique = folders.count(folder) == 1
        others[f"{LEARNED}: {folder if unique else workdir.root}"] = other
    return others


def evaluate(
    workdir, output_dir=None, on=None, options=None, against=()
) -> dict:
    """Compares the learned init of a run with the baselines.

    Args:
        workdir: the folder of a training run.
        output_dir: where the files go; by default `evaluation`, or
            `evaluation_on_<class>`, in the workdir.
        on: config of another class whose signals to use, or None.
        options: overrides of the `evaluation` settings of `on`, or else of the
            run's config; a mapping, or None.
        against: workdirs of other runs of the same network, whose learned
            weights and step sizes get a row each.

    Returns:
        What is written to results.json: under "conditions", a dict for each
        of the class's conditions (one for most, a number of views for CT).

    Raises:
        InputError: if there is no trained run, or the classes do not fit.
    """
    started = time.monotonic()
    workdir = experiment.find_run(workdir)
    config = workdir.read_config()
    signal = experiment.build_signal(config)
    learner = experiment.load_learner(workdir, config, signal)
    class_name = trained_on = _class_name(config)
    if on is not None:
        signal = experiment.build_signal(on)
        class_name = _class_name(on)
        _check_compatible(learner, signal)
        learner.support_loss = FieldLoss(learner.field, signal.support_model)
        learner.query_loss = FieldLoss(learner.field, signal.query_model)
    others = _others(against, learner, signal)
    settings = (config if on is None else on).evaluation
    settings.update(options or {})
    _check(settings)
    if output_dir is None:
        if workdir.root.is_relative_to(experiment.PRETRAINED):
            raise InputError(
                "--output_dir must be given for a run that comes with the "
                f"package. Received: --workdir={workdir.root.name} alone"
            )
        suffix = "" if on is None else f"_on_{class_name}"
        output_dir = workdir.root / f"evaluation{suffix}"
    # Before a folder is made: this is where a class's files may be missing. And
    # before the conditions are: they then share what was read.
    first_tasks(signal, "test", 1)
    conditions = signal.conditions()
    output_dir = files.make_folder(output_dir)
    _LOGGER.info("Evaluating %s; output goes to %s", workdir.root, output_dir)

    starts = baselines(learner, signal, settings, config.seed)
    results = {
        "trained_on": trained_on,
        "evaluated_on": class_name,
        "conditions": [],
    }
    panels, shown, labels = [], [], []
    for label, condition in conditions.items():
        if label:
            _LOGGER.info("%s:", label)
        comparison = Comparison(learner, condition, starts, settings, others)
        of_condition, methods = comparison.run()
        results["conditions"].append({"label": label, **of_condition})
        curves = {row["method"]: row["psnr"] for row in of_condition["rows"]}
        levels = {
            row["method"]: row["psnr"] for row in of_condition["classical"]
        }
        levels["Constant image"] = of_condition["constant_psnr"]
        levels["Mean image"] = of_condition["mean_psnr"]
        panels.append((label, curves, levels))
        count = max(1, _NUM_PICTURES // len(conditions))
        pictured, titles = comparison.reconstructions(methods, count)
        shown += pictured
        labels += [label] * len(pictured)
    learned = comparison.learned()
    films = comparison.signal.films(
        learner.query_loss,
        [
            comparison.adapted(learned, task, settings.num_steps)
            for task in comparison.test[:_NUM_FILMED]
        ],
    )
    results["seconds"] = time.monotonic() - started
    files.write_json(output_dir / "results.json", results)
    with files.atomic_path(output_dir / "results.md") as temporary:
        temporary.write_text(to_markdown(results))
    pictures.save_curves(
        output_dir / "curves.png",
        panels,
        title=f"trained on {trained_on}, fitted to {class_name}",
    )
    pictures.save_labelled_grid(
        output_dir / "reconstructions.png", shown, titles, labels
    )
    for name, frames in films.items():
        pictures.save_film(output_dir / f"{name}.gif", frames)
    return results


def _check(settings):
    """Raises InputError for numbers that cannot make an evaluation."""
    for name, limit in (
        ("num_signals", _MAX_SIGNALS),
        ("num_tuning_signals", _MAX_SIGNALS),
        ("num_match_signals", _MAX_SIGNALS),
        ("num_steps", _MAX_STEPS),
        ("max_match_steps", _MAX_STEPS),
        ("num_fit_steps", _MAX_STEPS),
    ):
        check_range(f"config.evaluation.{name}", settings[name], 1, limit)


def _in_numbers(curve):
    """A curve of PSNRs at a dozen steps, in one line."""
    steps = _shown_steps(len(curve) - 1)
    return " ".join(f"{curve[step]:.2f}" for step in steps)


def _shown_steps(last):
    """The columns of a table of `last` steps."""
    steps = (0, 1, 2, 3, 4, 6, 8, 10, 16, 25, 50, 100, 200, 500, 1000)
    return [s for s in steps if s < last] + [last]


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
    """The results as Markdown tables with a line on how they came about."""
    first = results["conditions"][0]
    last = len(first["rows"][0]["psnr"]) - 1
    lines = [
        f"PSNR in dB after gradient steps, and SSIM after the last; trained on "
        f"{results['trained_on']}, mean over {first['num_signals']} held-out "
        f"{results['evaluated_on']} signals. The baselines' rates are those of "
        f"the best PSNR after {last} steps on {first['num_tuning_signals']} "
        "validation signals.",
        "",
    ]
    for condition in results["conditions"]:
        lines += _table(condition, last)
    if len(results["conditions"]) > 1:
        lines += _summary(results["conditions"], last)
    return "\n".join(lines)


def _table(condition, last):
    """One condition's table: methods by steps."""
    steps = _shown_steps(last)
    lines = [f"### {condition['label']}", ""] if condition["label"] else []
    lines += [
        "| initial weights | optimizer | "
        + " | ".join(str(step) for step in steps)
        + " | SSIM |",
        "|---|---|" + "---:|" * (len(steps) + 1),
    ]
    for row in condition["rows"]:
        values = " | ".join(f"{row['psnr'][step]:.2f}" for step in steps)
        lines.append(
            f"| {row['method']} | {row['optimizer']} | {values} | "
            f"{row['ssim']:.3f} |"
        )
    for row in condition["classical"]:
        lines.append(
            f"| {row['method']} | |"
            + " |" * (len(steps) - 1)
            + f" {row['psnr']:.2f} | {row['ssim']:.3f} |"
        )
    match = condition["standard_to_match"]
    needed = (
        f"{match['steps']} Adam steps (rate {match['rate']:g})"
        if match["steps"] is not None
        else f"more than {match['max_steps']} Adam steps: its best was "
        f"{match['best_psnr']:.2f} dB"
    )
    return [
        *lines,
        "",
        f"The best constant image scores {condition['constant_psnr']:.2f} dB, "
        f"the class's mean image {condition['mean_psnr']:.2f} dB. For the "
        f"{match['target']:.2f} dB that the learned weights reach in "
        f"{condition['inner_steps']} steps on {match['num_signals']} of the "
        f"signals, random weights need {needed}.",
        "",
    ]


def _summary(conditions, last):
    """Methods by conditions, after the last step."""
    lines = [
        f"### After {last} steps",
        "",
        "| | " + " | ".join(c["label"] for c in conditions) + " |",
        "|---|" + "---:|" * len(conditions),
    ]
    rows = [
        [(row["method"], row["psnr"][-1]) for row in condition["rows"]]
        + [(row["method"], row["psnr"]) for row in condition["classical"]]
        for condition in conditions
    ]
    for of_method in zip(*rows):
        values = " | ".join(f"{psnr:.2f}" for _, psnr in of_method)
        lines.append(f"| {of_method[0][0]} | {values} |")
    best = " | ".join(
        f"{c['standard_to_match']['best_psnr']:.2f}" for c in conditions
    )
    limit = conditions[0]["standard_to_match"]["max_steps"]
    return [
        *lines,
        f"| Standard, at its best of {limit} Adam steps | {best} |",
        "",
    ]


def main(argv):
    """Runs `evaluate` with the command's flags."""
    del argv
    values = flags.FLAGS
    options = {
        name: values[name].value
        for name in ("num_signals", "num_steps")
        if values[name].value is not None
    }
    results = evaluate(
        values.workdir,
        values.output_dir,
        values.on,
        options,
        values.against,
    )
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
    flags.DEFINE_list(
        "against", [], "Other runs of the same network, compared as well."
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
