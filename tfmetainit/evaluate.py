r"""Compares a learned initialization with the paper's baselines.

    python -m tfmetainit.evaluate --workdir=runs/text

Writes results.json, results.md, curves.png and reconstructions.png into
runs/text/evaluation, and films of signals that can be seen from several sides.
`--on=configs/sdf.py` fits the test signals of another class.
`--against=runs/a,runs/b` compares with the learned weights of other runs, too.
`--num_steps=1000 --rows= --on.evaluation.adam_rates="(1e-3,)"` compares long
fits with random weights only, at one rate of Adam that need not be tuned.
Every number is a mean over held-out test signals. The learning rates of the
baselines are tuned on validation signals alone.
"""

import logging
import time

from absl import flags

from tfmetainit import cli

cli.quiet_tensorflow()

from tfmetainit.evaluation import plots
from tfmetainit.evaluation.baselines import make_baselines
from tfmetainit.evaluation.comparison import (
    LEARNED,
    OPTIONAL_ROWS,
    Comparison,
)
from tfmetainit.evaluation.tables import to_markdown
from tfmetainit.io import files, images
from tfmetainit.io.errors import InputError
from tfmetainit.meta.functional import get_params
from tfmetainit.runs import build, config_check
from tfmetainit.runs.workdir import PRETRAINED, find_run
from tfmetainit.signals.base import first_tasks

_LOGGER = logging.getLogger("tfmetainit")

_NUM_PICTURES = 6
_NUM_FILMED = 3


def evaluate(
    workdir,
    output_dir=None,
    on=None,
    options=None,
    against=(),
    rows=OPTIONAL_ROWS,
) -> dict:
    """Compares the learned init of a run with the baselines.

    Args:
        workdir: the folder of a training run.
        output_dir: folder of the results; by default `evaluation`, or
            `evaluation_on_<class>`, in the workdir.
        on: config of another class whose signals to use, or None.
        options: overrides of the `evaluation` settings of `on`, or else of the
            run's config; a mapping, or None.
        against: a list of workdirs of other runs of the same network; the
            learned weights and step sizes of each get a row.
        rows: which of `evaluation.OPTIONAL_ROWS` to have beside the learned
            weights and random ones; those that do not apply are left out.

    Returns:
        The content of results.json. Its "conditions" have a dict for each of
        the class's conditions (one for most classes, one for each number of
        projections for CT).

    Raises:
        InputError: if there is no trained run, an argument is not valid, or the
            dimensions of the classes or networks differ.
    """
    started = time.monotonic()
    _check_rows(rows)
    workdir = find_run(workdir)
    config = workdir.read_config()
    signal = build.build_signal(config)
    learner = build.load_learner(workdir, config, signal)
    class_name = trained_on = _class_name(config)
    if on is not None:
        signal = build.build_signal(on)
        class_name = _class_name(on)
        build.use_class(learner, signal)
    others = _load_others(against, learner, signal)
    settings = _settings(config if on is None else on, options)
    if output_dir is None:
        suffix = "" if on is None else f"_on_{class_name}"
        output_dir = _default_output(workdir, suffix)
    # Missing files of a class raise here, before a folder is made. The
    # conditions then share the data that was read.
    first_tasks(signal, "test", 1)
    conditions = signal.conditions()
    output_dir = files.make_folder(output_dir)
    _LOGGER.info("Evaluating %s; output goes to %s", workdir.root, output_dir)

    baselines = make_baselines(learner, signal, settings, config.seed, rows)
    results = {
        "trained_on": trained_on,
        "outer_step": workdir.read_best()["step"],
        "evaluated_on": class_name,
        "conditions": [],
    }
    count = max(1, _NUM_PICTURES // len(conditions))
    shown, labels, titles = [], [], []
    for label, condition in conditions.items():
        if label:
            _LOGGER.info("%s:", label)
        comparison = Comparison(
            learner, condition, settings, baselines, others, rows
        )
        of_condition, scores = comparison.run(max(count, _NUM_FILMED))
        results["conditions"].append({"label": label, **of_condition})
        pictured, titles = comparison.reconstructions(scores, count)
        shown += pictured
        labels += [label] * len(pictured)
    films = comparison.signal.films(
        learner.query_loss, scores[LEARNED].adapted[:_NUM_FILMED]
    )
    results["seconds"] = time.monotonic() - started
    _write(output_dir, results)
    if shown:
        plots.save_labelled_grid(
            output_dir / "reconstructions.png", shown, titles, labels
        )
    for name, frames in films.items():
        images.save_film(output_dir / f"{name}.gif", frames)
    return results


def _settings(config, options):
    """The evaluation settings of a config, with some overridden."""
    settings = config.evaluation.copy_and_resolve_references()
    for name, value in (options or {}).items():
        if name not in settings:
            raise InputError(
                f"An option must be one of {sorted(settings)}. Received: "
                f"{name!r}"
            )
        settings[name] = value
    config_check.check_evaluation(settings)
    return settings


def _check_rows(names):
    unknown = sorted(set(names) - set(OPTIONAL_ROWS))
    if isinstance(names, str) or unknown:
        raise InputError(
            f"`rows` must be a list of {', '.join(OPTIONAL_ROWS)}. "
            f"Received: {names if isinstance(names, str) else unknown}"
        )


def _default_output(workdir, suffix):
    if workdir.root.is_relative_to(PRETRAINED):
        raise InputError(
            "`output_dir` must be given for a run that comes with the package. "
            f"Received: {workdir.root.name} alone"
        )
    return workdir.root / f"evaluation{suffix}"


def _load_others(paths, learner, signal):
    """The learners of other runs for a signal class, by the names of rows."""
    if isinstance(paths, str):
        raise InputError(
            f"`against` must be a list of workdirs. Received: {paths!r}"
        )
    others = {}
    runs = [find_run(path) for path in paths]
    folders = [run.root.name for run in runs]
    for workdir, folder in zip(runs, folders):
        config = workdir.read_config()
        other = build.load_learner(workdir, config, build.build_signal(config))
        shapes = [
            [tuple(p.shape) for p in get_params(one.field)]
            for one in (learner, other)
        ]
        if shapes[0] != shapes[1]:
            raise InputError(
                "`against` must name runs whose network has the same shapes as "
                f"that of `workdir`. Received: {workdir.root} with "
                f"{shapes[1]}, for {shapes[0]}"
            )
        try:
            build.use_class(other, signal)
        except InputError as error:
            raise InputError(
                "`against` must name runs that can fit the signals of "
                f"`workdir`, or of `on`. {workdir.root}: {error}"
            ) from None
        unique = folders.count(folder) == 1
        others[f"{LEARNED}: {folder if unique else workdir.root}"] = other
    return others


def _write(output_dir, results):
    """Writes results.json, results.md and curves.png."""
    files.write_json(output_dir / "results.json", results)
    with files.atomic_path(output_dir / "results.md") as temporary:
        temporary.write_text(to_markdown(results))
    panels = []
    for condition in results["conditions"]:
        curves = {row["method"]: row["psnr"] for row in condition["rows"]}
        levels = {row["method"]: row["psnr"] for row in condition["classical"]}
        levels["Constant image"] = condition["constant_psnr"]
        levels["Mean image"] = condition["mean_psnr"]
        panels.append((condition["label"], curves, levels))
    plots.save_curves(
        output_dir / "curves.png",
        panels,
        title=f"trained on {results['trained_on']}, fitted to "
        f"{results['evaluated_on']}",
    )


def _class_name(config):
    name = config.signal.get("dataset", config.signal.name)
    return name.replace("/", "_")


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
        values.rows,
    )
    print(f"\n{to_markdown(results)}")
    print(f"{results['seconds'] / 60:.1f} minutes.")


def run():
    """The command `tfmetainit-evaluate`."""
    flags.DEFINE_string("workdir", None, "Folder of a training run.")
    flags.DEFINE_string(
        "output_dir", None, "Folder of the results; default: in the workdir."
    )
    cli.define_config("on", "Config of another signal class to be fitted.")
    flags.DEFINE_list(
        "against", [], "Other runs of the same network to compare with."
    )
    flags.DEFINE_list(
        "rows",
        list(OPTIONAL_ROWS),
        "Rows beside Learned and Standard.",
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
