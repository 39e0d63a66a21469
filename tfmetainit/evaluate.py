r"""Compares a learned initialization with the paper's baselines.

    python -m tfmetainit.evaluate --workdir=runs/text

Writes results.json, results.md, curves.png and reconstructions.png into
runs/text/evaluation, and films of what can be seen from several sides. With
`--on=configs/sdf.py` the learned weights meet the test signals of another
class; `--against=runs/a,runs/b` compares those of other runs too. Every figure
is a mean over held-out test signals; the baselines' rates are tuned on
validation signals alone.
"""

import logging
import time

from absl import flags
from ml_collections import config_flags

from tfmetainit import cli

cli.quiet_tensorflow()

from tfmetainit import experiment, files, pictures
from tfmetainit.baselines import make_baselines
from tfmetainit.comparison import LEARNED, Comparison
from tfmetainit.errors import InputError
from tfmetainit.functional import get_params
from tfmetainit.runs import PRETRAINED, find_run
from tfmetainit.tables import to_markdown
from tfmetainit.tasks import first_tasks

_LOGGER = logging.getLogger("tfmetainit")

_NUM_PICTURES = 6
_NUM_FILMED = 3


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
        against: a list of workdirs of other runs of the same network, whose
            learned weights and step sizes get a row each.

    Returns:
        What is written to results.json: under "conditions", a dict for each
        of the class's conditions (one for most, a number of views for CT).

    Raises:
        InputError: if there is no trained run, or the classes do not fit.
    """
    started = time.monotonic()
    workdir = find_run(workdir)
    config = workdir.read_config()
    signal = experiment.build_signal(config)
    learner = experiment.load_learner(workdir, config, signal)
    class_name = trained_on = _class_name(config)
    if on is not None:
        signal = experiment.build_signal(on)
        class_name = _class_name(on)
        experiment.use_class(learner, signal, "--on")
    others = _others(against, learner, signal)
    settings = (config if on is None else on).evaluation
    settings = settings.copy_and_resolve_references()
    for name, value in (options or {}).items():
        if name not in settings:
            raise InputError(
                f"An option must be one of {sorted(settings)}. Received: "
                f"{name!r}"
            )
        settings[name] = value
    experiment.check_evaluation(settings)
    if output_dir is None:
        if workdir.root.is_relative_to(PRETRAINED):
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

    baselines = make_baselines(learner, signal, settings, config.seed)
    results = {
        "trained_on": trained_on,
        "outer_step": workdir.read_best()["step"],
        "evaluated_on": class_name,
        "conditions": [],
    }
    panels, shown, labels = [], [], []
    for label, condition in conditions.items():
        if label:
            _LOGGER.info("%s:", label)
        comparison = Comparison(learner, condition, settings, baselines, others)
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
    if shown:
        pictures.save_labelled_grid(
            output_dir / "reconstructions.png", shown, titles, labels
        )
    for name, frames in films.items():
        pictures.save_film(output_dir / f"{name}.gif", frames)
    return results


def _others(paths, learner, signal):
    """The learners of other runs, made for a signal class, by their rows."""
    if isinstance(paths, str):
        raise InputError(
            f"`against` must be a list of workdirs. Received: {paths!r}"
        )
    others = {}
    runs = [find_run(path) for path in paths]
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
                "A run given by --against must have a network of the same "
                f"shapes as that of --workdir. Received: {workdir.root} with "
                f"{shapes[1]}, for {shapes[0]}"
            )
        experiment.use_class(other, signal, "--on")
        unique = folders.count(folder) == 1
        others[f"{LEARNED}: {folder if unique else workdir.root}"] = other
    return others


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
