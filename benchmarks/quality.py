r"""PSNR of training recipes for the same CPU time.

    python benchmarks/quality.py --output_dir=runs/quality \
        --classes=text,sdf --cpu_minutes=20 --seeds=0,1,2

A cell is one recipe on one signal class with one seed. Its outer step is timed
before training, and it trains for as many steps as fit into the budget of CPU
minutes. Validation and evaluation are not part of the budget and are the same
for all cells. Every cell is scored on the same held-out signals after 1, 2, 4,
8 and 16 passes over the pixels: as many gradient steps on all of them, or twice
as many on half of them. For images, 20 signals are also scored between their
pixels (off-grid PSNR) after 2 and 8 passes.

References are not trained: random weights with tuned Adam (`standard_adam`),
and with an output layer that is solved after it (`solved_adam`), the best
constant images (`constant`), the weights of the file `--warm_start` with the
paper's step size of 1e-2 (`released`), and the run `--warm_start`
(`pretrained`), also with steps on all pixels where its own see half of them
(`pretrained_on_all`). The recipe `warm_start` trains from these weights with
the former recipe (`stepped`) at a fifth of its rate. `warm_start_curvature`
also learns matrices on both sides of the inner gradients.

    python benchmarks/quality.py --output_dir=runs/photos --resolution=178 \
        --classes=image_folder --folder=photos --warm_start=celeba.npz \
        --recipes=warm_start,released,constant

`--classes=ct_maml --num_signals=50` makes the cells of CT. They are scored on
slices, after steps on sinograms of 1, 2, 4 and 8 projections.

`--recipes=paper_maml,default` selects rows. Several processes, each with its
own rows or seeds, may share one output folder. Finished cells are skipped and
stopped cells resume, so an interrupted command can be repeated. The command
ends by writing quality.md and quality.png of all finished cells.
"""

import importlib
import json
import pathlib
import time

from absl import flags

from tfmetainit import cli

cli.quiet_tensorflow()

import matplotlib.pyplot as plt
import ml_collections
import numpy as np
import tensorflow as tf

from tfmetainit import train
from tfmetainit.configs import ct, default
from tfmetainit.evaluation.baselines import constant_floor
from tfmetainit.evaluation.comparison import Comparison
from tfmetainit.evaluation.tables import markdown_table
from tfmetainit.geometry.metrics import psnr_from_mse
from tfmetainit.io import files
from tfmetainit.io.errors import InputError, TrainingDivergedError
from tfmetainit.meta.functional import get_params
from tfmetainit.runs import build
from tfmetainit.runs.warm_start import warm_start
from tfmetainit.runs.workdir import Workdir, find_run
from tfmetainit.signals.base.image_signal import ImageSignal
from tfmetainit.training.optimizer import build_optimizer

_FLAGS = flags.FLAGS
flags.DEFINE_string("output_dir", "runs/quality", "Folder of the cells.")
flags.DEFINE_list("classes", ["text", "sdf"], "Configs, by their names.")
flags.DEFINE_list(
    "recipes", [], "Rows to make; by default all that suit every class."
)
flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds.")
flags.DEFINE_float("cpu_minutes", 20.0, "Training budget of each cell.")
flags.DEFINE_integer(
    "outer_steps", None, "Outer steps of each cell, instead of --cpu_minutes."
)
flags.DEFINE_integer("num_signals", 100, "Held-out signals to score.")
flags.DEFINE_integer("resolution", 64, "Side of the images in pixels.")
flags.DEFINE_string("folder", None, "config.signal.folder of configs with one.")
flags.DEFINE_string("warm_start", None, "A run or a file of weights.")

PASSES = (1, 2, 4, 8, 16)  # over the pixels
_PASSES_BETWEEN = (2, 8)
_NUM_BETWEEN = 20  # held-out signals
_NUM_TIMED = 20
_NUM_VALIDATED = 4  # validations in a run
_NUM_TUNING = 4  # validation signals
_RELEASED_LR = 1e-2  # paper


def _use_paper(config):
    """The paper's settings of a class, except for the resolution."""
    if config.signal.name == "ct":
        ct.use_paper_ct(config)
    else:
        default.use_paper_images(config)
        config.learner.inner_lr = 1e-2
    config.signal.resolution = _FLAGS.resolution


def _paper_maml(config):
    _use_paper(config)
    config.learner.name = "maml"
    config.learner.inner_steps = 3 if config.signal.name == "ct" else 2


def _paper_reptile(config):
    _use_paper(config)
    config.learner.name = "reptile"
    config.learner.inner_steps = 12
    config.learner.eval_steps = 12
    config.optimizer.learning_rate = 5e-5


def _on_all(config):
    """Steps on all pixels: half as many take the same time."""
    if config.learner.step_on == "halves":
        config.learner.step_on = "all"
        config.learner.inner_steps //= 2


def _stepped(config):
    """The recipe before the output layer was solved."""
    _on_all(config)
    config.learner.output_layer = "stepped"
    config.optimizer.learning_rate = 4e-5
    config.optimizer.output_gain = 10.0


def _random_pixels(config):
    """New random quarters of the pixels for each inner step and the query."""
    _on_all(config)
    config.batch_size = 3
    config.signal.points_per_step = _FLAGS.resolution**2 // 4


def _only_pixels(config):
    if "query_between" in config.signal:  # of images
        config.signal.query_between = 0.0


def _warm_start(config):
    """A fifth of the rate; the step sizes change as fast as before.

    The recipe is the former one, as in what was measured.
    """
    _stepped(config)
    config.warm_start = _FLAGS.warm_start
    config.optimizer.learning_rate /= 5.0
    config.optimizer.warmup_steps = 20
    config.learner.step_size_gain *= 5.0


def _warm_start_curvature(config):
    """The matrices start as the identity and have two fifths of their rate."""
    _warm_start(config)
    config.learner.step_sizes = "curvature"
    config.optimizer.curvature_gain *= 2.0


# Changes to a class's config, which is the default recipe: a function, or the
# values of some fields.
RECIPES = {
    "default": {},
    "paper_maml": _paper_maml,
    "paper_reptile": _paper_reptile,
    "random_pixels": _random_pixels,
    "only_pixels": _only_pixels,
    "three_tasks": {"batch_size": 3},
    "fixed_step_sizes": {"learner.learn_step_sizes": False},
    "step_size_a_weight": {"learner.step_sizes": "weight"},
    "curvature": {"learner.step_sizes": "curvature"},
    "one_outer_rate": {"optimizer.output_gain": 1.0},
    "slow_step_sizes": {"learner.step_size_gain": 128.0},
    "last_loss": {"learner.early_loss_weight": 0.0},
    "on_all": _on_all,
    "stepped": _stepped,
    "first_order": {"learner.first_order": True},
    "warm_start": _warm_start,
    "warm_start_curvature": _warm_start_curvature,
}


def make_config(name: str, recipe: str, seed: int) -> ml_collections.ConfigDict:
    """The config of a cell, except for its number of steps."""
    module = importlib.import_module(f"tfmetainit.configs.{name}")
    config = module.get_config()
    config.seed = seed
    config.signal.resolution = _FLAGS.resolution
    if "folder" in config.signal:
        config.signal.folder = _FLAGS.folder or ""
    if _FLAGS.resolution > 64:
        config.validation.num_signals = 8  # more would take minutes
    changes = RECIPES[recipe]
    if callable(changes):
        changes(config)
    else:
        config.update_from_flattened_dict(changes)
    config.signal.inner_steps = config.learner.inner_steps
    return config


def _cpu_seconds_a_step(config):
    """CPU seconds of one outer step, after tracing."""
    signal = build.build_signal(config)
    learner = build.build_learner(config, signal)
    learner.compile(build_optimizer(config, learner))
    batches = signal.make_dataset("train", config.batch_size, config.seed)
    step = tf.function(learner.train_step)
    iterator = iter(batches)
    for _ in range(3):
        step(next(iterator))
    started = time.process_time()
    for _ in range(_NUM_TIMED):
        step(next(iterator))
    return (time.process_time() - started) / _NUM_TIMED


def _comparison(learner, signal):
    """The `Comparison` that scores methods on the held-out signals."""
    options = default.get_config().evaluation
    options.num_signals = _FLAGS.num_signals
    options.num_tuning_signals = _NUM_TUNING
    return Comparison(learner, signal, options)


def _curve(comparison, method, tasks):
    """Mean PSNR in dB after 0, 1, ... passes over the pixels."""
    each = _steps_a_pass(comparison.learner)
    steps = [each * number for number in PASSES]
    scores = comparison.score(method, tasks, max(steps), steps)
    return scores.psnr.mean(axis=0)[::each]


def _steps_a_pass(learner):
    # The learner of the references steps on all pixels, as they do.
    return 2 if learner.step_on == "halves" else 1


def _scores(comparison, method) -> dict:
    """The scores of a cell: PSNR in dB after PASSES and, for images, off-grid.

    A field that memorises the pixels of an image scores badly between them.
    """
    curve = _curve(comparison, method, comparison.test)
    scores = {"psnr": [float(curve[number]) for number in PASSES]}
    signal, learner = comparison.signal, comparison.learner
    if isinstance(signal, ImageSignal):
        curves, each = [], _steps_a_pass(learner)
        for task in map(signal.between, comparison.test[:_NUM_BETWEEN]):
            values = learner.reconstructions(
                task, method.params, method.fit, each * max(_PASSES_BETWEEN)
            )
            errors = [np.mean((v - task.query.values) ** 2) for v in values]
            curves.append(psnr_from_mse(np.array(errors))[::each])
        curve = np.mean(curves, axis=0)
        scores["between"] = [float(curve[number]) for number in _PASSES_BETWEEN]
    return scores


def make_cell(folder: pathlib.Path, name: str, recipe: str, seed: int) -> dict:
    """Trains and scores one cell, or resumes it."""
    workdir = Workdir(folder / "run")
    config = make_config(name, recipe, seed)
    if workdir.config.is_file():
        config.num_steps = workdir.read_config().num_steps
    else:
        total = _FLAGS.outer_steps
        if total is None:
            seconds = _cpu_seconds_a_step(config)
            total = 60.0 * _FLAGS.cpu_minutes / seconds
        each = max(int(total / _NUM_VALIDATED), 1)
        config.num_steps = each * _NUM_VALIDATED
    options = config.optimizer
    options.warmup_steps = min(options.warmup_steps, config.num_steps - 1)
    config.validation.every = config.num_steps // _NUM_VALIDATED
    try:
        train.train(config, workdir.root)
        diverged = None
    except TrainingDivergedError as error:
        diverged = str(error)  # the best checkpoint so far is scored
        if not workdir.best.is_file():
            return {"outer_steps": config.num_steps, "diverged": diverged}
    signal = build.build_signal(config)
    learner = build.load_learner(workdir, config, signal)
    comparison = _comparison(learner, signal)
    return {
        **_scores(comparison, comparison.learned()),
        # If training diverged, the steps of the best checkpoint.
        "outer_steps": (
            workdir.read_best()["step"] if diverged else config.num_steps
        ),
        "diverged": diverged,
    }


def _standard_adam(comparison, learner, config, solves=False):
    """Random weights with the Adam rate that is best for each number of passes.

    The rates are tuned on validation signals.
    """
    params = get_params(learner.field)
    tuning, curves = {}, {}
    for rate in config.evaluation.adam_rates:
        method = comparison.with_adam("Adam", params, rate, solves=solves)
        curve = _curve(comparison, method, comparison.tuning)
        tuning[rate] = method, np.nan_to_num(curve)
    standard = []
    for number in PASSES:
        best = max(
            tuning, key=lambda rate, number=number: tuning[rate][1][number]
        )
        if best not in curves:
            method = tuning[best][0]
            curves[best] = _curve(comparison, method, comparison.test)
        standard.append(float(curves[best][number]))
    return {"psnr": standard}


def _solved_adam(comparison, learner, config):
    """Random weights, tuned Adam, then a solved output layer."""
    if learner.ridge is None:
        raise InputError(
            "The row solved_adam needs a class whose output layer is solved. "
            f"Received: {config.signal.name}"
        )
    return _standard_adam(comparison, learner, config, solves=True)


def _constant(comparison, learner, config):
    """The best constant for each signal."""
    del learner, config
    return {"psnr": [constant_floor(comparison.test)] * len(PASSES)}


def _released(comparison, learner, config):
    """The weights of --warm_start, with the paper's step size."""
    del config
    warm_start(learner, _FLAGS.warm_start)
    params = get_params(learner.field)
    method = comparison.with_sgd("released", params, _RELEASED_LR)
    return _scores(comparison, method)


def _pretrained(comparison, learner, config):
    """The run of --warm_start, which may be one of the package's own."""
    del config
    build.load_weights(learner, find_run(_FLAGS.warm_start).best)
    return _scores(comparison, comparison.learned())


# Rows that are not trained.
REFERENCES = {
    "standard_adam": _standard_adam,
    "solved_adam": _solved_adam,
    "constant": _constant,
    "released": _released,
    "pretrained": _pretrained,
    "pretrained_on_all": _pretrained,
}
ROWS = (*RECIPES, *REFERENCES)
_PRETRAINED = ("pretrained", "pretrained_on_all")
_FROM_WEIGHTS = ("warm_start", "warm_start_curvature", "released", *_PRETRAINED)
# Rows that suit some classes and some weights only.
_ASKED_FOR = ("on_all", "stepped", "solved_adam", "released", *_PRETRAINED)


def make_reference(name: str, row: str) -> dict:
    """One of REFERENCES, as a cell."""
    config = make_config(name, "on_all", 0)
    if row == "pretrained":
        run = find_run(_FLAGS.warm_start).read_config()
        config.learner.step_on = run.learner.step_on
    signal = build.build_signal(config)
    learner = build.build_learner(config, signal)
    comparison = _comparison(learner, signal)
    return REFERENCES[row](comparison, learner, config)


def _rows(folder, name):
    """`{row: [(outer steps, scores) of a seed]}` of all finished cells.

    The scores are those after PASSES, then those between pixels, NaN if none.
    The outer steps of references are None.
    """
    rows = {}
    for path in sorted((folder / name).glob("*/*/cell.json")):
        cell = files.read_json(path)
        if "psnr" not in cell:  # it diverged before its first validation
            continue
        between = cell.get("between") or [np.nan] * len(_PASSES_BETWEEN)
        # null: a fit of some signal diverged at that step
        scores = [np.nan if v is None else v for v in [*cell["psnr"], *between]]
        rows.setdefault(path.parent.parent.name, []).append(
            (cell.get("outer_steps"), scores)
        )
    return {row: rows[row] for row in ROWS if row in rows}


def to_markdown(folder, classes) -> str:
    """A table for each class: mean and standard deviation over seeds.

    It is the sample standard deviation (N - 1).
    """
    lines = []
    titles = ["recipe", "seeds", "outer steps", *map(str, PASSES)]
    titles += [f"{number}, between" for number in _PASSES_BETWEEN]
    for name in classes:
        rows = []
        for row, seeds in _rows(folder, name).items():
            counts = sorted({count for count, _ in seeds if count is not None})
            cells = ["-".join(map(str, counts[:1] + counts[1:][-1:]))]
            for values in zip(*(scores for _, scores in seeds)):
                spread = ""
                if len(values) > 1:
                    spread = f" ± {np.std(values, ddof=1):.2f}"
                cells.append(f"{np.mean(values):.2f}{spread}")
            cells = ["" if cell.startswith("nan") else cell for cell in cells]
            rows.append([row, str(len(seeds)), *cells])
        lines += [f"### {name}", "", markdown_table(titles, rows), ""]
    return "\n".join(lines)


def save_plot(path, folder, classes) -> None:
    """Plots PSNR over passes, one panel per class."""
    colors = plt.colormaps["turbo"].resampled(len(ROWS))
    figure, axes = plt.subplots(
        1,
        len(classes),
        figsize=(5.5 * len(classes), 4.5),
        squeeze=False,
        layout="constrained",
    )
    for panel, name in zip(axes[0], classes):
        for row, seeds in _rows(folder, name).items():
            scores = [scores[: len(PASSES)] for _, scores in seeds]
            panel.plot(
                PASSES,
                np.mean(scores, axis=0),
                "--" if row in REFERENCES else "o-",
                color=colors(ROWS.index(row)),  # equal in all panels
                label=row,
            )
        panel.set_xscale("log", base=2)
        panel.set_xticks(PASSES, map(str, PASSES))
        panel.set(
            title=name, xlabel="passes over the pixels", ylabel="PSNR in dB"
        )
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8)
    with files.atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
    plt.close(figure)


def _make_once(folder, name, row, seed):
    """Makes a cell unless it is finished or another process makes it."""
    cell = folder / name / row / f"seed_{seed}"
    result = cell / "cell.json"
    if result.is_file():
        return
    files.make_folder(cell)
    with files.lock(cell / "lock"):
        if result.is_file():
            return  # another process has made it meanwhile
        title = f"{name}, {row}, seed {seed}"
        print(f"\n{title}", flush=True)
        if row in RECIPES:
            made = make_cell(cell, name, row, seed)
        else:
            made = make_reference(name, row)
        files.write_json(result, made)
    print(f"{title}: {made}", flush=True)


def main(argv):
    """Makes the missing cells, then the table and the plot."""
    del argv
    folder = files.make_folder(_FLAGS.output_dir)
    known = ROWS
    if not _FLAGS.warm_start:
        known = [row for row in known if row not in _FROM_WEIGHTS]
    rows = _FLAGS.recipes or [row for row in known if row not in _ASKED_FOR]
    unknown = sorted(set(rows) - set(known))
    if unknown:
        raise InputError(
            f"--recipes must be among {', '.join(known)}"
            + (
                ""
                if _FLAGS.warm_start
                else f"; {', '.join(_FROM_WEIGHTS)} need --warm_start, too"
            )
            + f". Received: {', '.join(unknown)}"
        )
    if "image_folder" in _FLAGS.classes and not _FLAGS.folder:
        raise InputError(
            "--classes=image_folder needs --folder, a folder of images. "
            "Received: none"
        )
    settings = folder / "settings.json"
    wanted = {
        "cpu_minutes": None if _FLAGS.outer_steps else _FLAGS.cpu_minutes,
        "outer_steps": _FLAGS.outer_steps,
        "num_signals": _FLAGS.num_signals,
        "resolution": _FLAGS.resolution,
        "folder": _FLAGS.folder,
        "warm_start": _FLAGS.warm_start,
    }
    if settings.is_file() and files.read_json(settings) != wanted:
        raise InputError(
            f"--output_dir holds cells of other settings. {folder} has "
            f"{json.dumps(files.read_json(settings))}. Received: "
            f"{json.dumps(wanted)}"
        )
    files.write_json(settings, wanted)
    print(f"Cells go to {folder}", flush=True)
    # All rows with the first seed, then with the next one.
    for seed in map(int, _FLAGS.seeds):
        for name in _FLAGS.classes:
            for row in rows:
                seed_of_row = seed if row in RECIPES else 0
                _make_once(folder, name, row, seed_of_row)
    table = to_markdown(folder, _FLAGS.classes)
    with files.atomic_path(folder / "quality.md") as temporary:
        temporary.write_text(table)
    save_plot(folder / "quality.png", folder, _FLAGS.classes)
    print(f"\n{table}\nTable and plot: {folder}")


if __name__ == "__main__":
    cli.run(main, __doc__)
