r"""The whole of tfmetainit in minutes, on two CPU cores.

    make demo
    make demo QUICK=1       # ends after the first picture

First a photograph: the learned weights `photos_128`, exported, fit it step by
step in LiteRT, without TensorFlow, beside random weights (first.png). Then the
demo meta-trains a SIREN on rendered text at 64 x 64, compares the learned
weights with random and other initial weights on held-out text, and exports
them (overview.png). All files are written to --output_dir.
"""

import pathlib
import time

from absl import flags

from tfmetainit import cli

cli.quiet_tensorflow()

import numpy as np
import skimage.data
from matplotlib.figure import Figure
from PIL import Image

from tfmetainit import evaluate, train
from tfmetainit.configs import text
from tfmetainit.evaluation import baselines, plots, tables
from tfmetainit.export import exporter
from tfmetainit.geometry.metrics import psnr_from_mse
from tfmetainit.io import files, quiet
from tfmetainit.litert import ArtifactFitter
from tfmetainit.meta import functional
from tfmetainit.runs import build
from tfmetainit.signals.base import first_tasks, to_task

_WEIGHTS = "photos_128"
_STEPS_SHOWN = (0, 1, 2, 4, 8, 16)
_ADAM_RATES = (3e-5, 1e-4, 3e-4)
_EVALUATION = {
    "num_signals": 10,
    "num_tuning_signals": 2,
    "num_match_signals": 3,
    "num_steps": 10,
    "num_fit_steps": 100,
    "max_match_steps": 40,
    "adam_rates": [3e-5, 1e-4, 3e-4],
    "sgd_rates": [1e-2, 3e-2, 1e-1],
}


def demo_config(data_dir):
    """configs/text.py with fewer signals and iterations."""
    config = text.get_config()
    config.num_steps = 250
    config.signal.num_train = 3000
    config.signal.num_eval = 100
    config.signal.data_dir = str(data_dir)
    config.validation.every = 125
    config.validation.num_signals = 8
    config.learner.eval_steps = 4
    return config


def _fit(learner, params, fit, task):
    """Reconstructions and PSNRs after 0, 1, ... steps."""
    values = learner.reconstructions(task, params, fit, max(_STEPS_SHOWN))
    errors = [np.mean((v - task.query.values) ** 2) for v in values]
    return values, [float(psnr_from_mse(mse)) for mse in errors]


def _fit_on_device(path, sample):
    """As `_fit` with the exported file in LiteRT, and the seconds it took."""
    fitter = ArtifactFitter(path)
    values, psnr = {}, {}
    for steps in _STEPS_SHOWN:
        started = time.perf_counter()
        (fitted,) = fitter.fit([sample], steps, {steps})
        seconds = time.perf_counter() - started
        values[steps] = fitter.predict(fitted.theta, sample.coords)
        psnr |= fitted.psnr
    return values, psnr, seconds


def _fit_random(learner, task):
    """As `_fit`, of random weights with Adam at the best of several rates."""
    random = baselines.standard(learner.field, seed=1)
    adam = baselines.AdamFit(learner.support_loss, _ADAM_RATES[0])
    fits = [
        _fit(learner, random, adam.with_rate(rate), task)
        for rate in _ADAM_RATES
    ]
    return max(fits, key=lambda one: np.nan_to_num(one[1][-1], nan=-np.inf))


def fit_photograph(output):
    """Fits a photograph with the exported weights, beside random ones.

    Returns:
        A path, that of the exported file, and rows for `_draw_fits`.
    """
    photo = output / "photo.png"
    Image.fromarray(skimage.data.astronaut()).save(photo)
    exported = output / "photograph"
    exporter.export(_WEIGHTS, exported, formats=["tflite"], input_path=photo)
    learner, signal = build.load(_WEIGHTS), build.load_signal(_WEIGHTS)
    sample = signal.read_sample(photo)
    task = to_task(sample)
    path = exported / exporter.TFLITE
    *on_device, seconds = _fit_on_device(path, sample)
    picture = signal.picture
    rows = [
        ("learned, in LiteRT", picture, task, *on_device),
        ("random, Adam", picture, task, *_fit_random(learner, task)),
    ]
    for title, _, _, _, psnr in rows:
        shown = ", ".join(f"{s}: {psnr[s]:.1f}" for s in _STEPS_SHOWN)
        print(f"   {title}: PSNR in dB after gradient steps {shown}")
    steps = f"{max(_STEPS_SHOWN)} steps{tables.in_words(learner.step_on)}"
    print(f"   LiteRT took {seconds:.1f} s for {steps}.")
    return path, rows


def _draw_fits(figure, rows):
    """A row of pictures for each fit.

    Args:
        figure: of matplotlib, or a part of one.
        rows: (title, picture, task, values, psnr) of each fit; `picture` draws
            values.
    """
    axes = figure.subplots(len(rows), len(_STEPS_SHOWN) + 1, squeeze=False)
    for i, (title, picture, task, values, psnr) in enumerate(rows):
        shown = [task.query.values] + [values[s] for s in _STEPS_SHOWN]
        captions = ["target"] + [
            f"step {s}: {psnr[s]:.1f} dB" for s in _STEPS_SHOWN
        ]
        for axis, value, caption in zip(axes[i], shown, captions):
            axis.imshow(np.clip(picture(value), 0, 1))
            axis.set(xticks=[], yticks=[])
            axis.set_title(caption, fontsize=8)
        axes[i, 0].set_ylabel(title, fontsize=8)


def _figure(rows, below=0.0):
    return Figure(
        figsize=(1.7 * (len(_STEPS_SHOWN) + 1), 2.0 * len(rows) + below),
        layout="constrained",
    )


def _save(figure, path):
    with files.atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


def draw_overview(path, results, rows):
    """One picture: fits after several steps, and curves over unseen signals.

    Args:
        path: the file to write.
        results: as returned by `evaluate.evaluate`.
        rows: of `_draw_fits`.
    """
    figure = _figure(rows, below=4.2)
    grid, curves = figure.subfigures(2, 1, height_ratios=[2.0 * len(rows), 4.2])
    _draw_fits(grid, rows)
    (condition,) = results["conditions"]
    axis = curves.subplots()
    plots.draw_curves(
        axis,
        {
            f"{row['method']} ({row['optimizer']})": row["psnr"]
            for row in condition["rows"]
        },
        {"Constant image": condition["constant_psnr"]},
    )
    axis.set(
        ylabel="PSNR (dB)",
        title=f"mean over {condition['num_signals']} unseen text images",
    )
    axis.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    _save(figure, path)


def main(argv):
    """Runs the demo."""
    del argv
    quiet.farewells()
    started = time.monotonic()
    output = pathlib.Path(flags.FLAGS.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    print(f"1. Fitting a photograph with the weights {_WEIGHTS}")
    path, of_photo = fit_photograph(output)
    first = _figure(of_photo)
    _draw_fits(first, of_photo)
    _save(first, output / "first.png")
    print(
        f"   {output / 'first.png'} shows it, "
        f"{time.monotonic() - started:.0f} s after the start."
    )
    if not flags.FLAGS.quick:
        results, of_text = learn_text(output)
        draw_overview(output / "overview.png", results, of_text + of_photo)
    print(
        f"\nDone in {(time.monotonic() - started) / 60:.1f} minutes. "
        f"All files are in {output}\n"
        "Fit a picture of your own, with TensorFlow or with LiteRT:\n"
        "  python -m tfmetainit.fit photo.jpg\n"
        f"  python -m tfmetainit.fit --artifact={path} photo.jpg"
    )


def learn_text(output):
    """Trains on text, compares and exports.

    Returns:
        What `evaluate.evaluate` returns, and rows for `_draw_fits`.
    """
    config = demo_config(output / "data")
    print("\n2. Meta-training on rendered text (resumes if it was stopped)")
    train.train(config, output / "run")
    print("\n3. Comparing with other initial weights on unseen text")
    results = evaluate.evaluate(output / "run", options=_EVALUATION)
    print("\n" + tables.to_markdown(results))
    print("4. Exporting for TF Serving and LiteRT")
    exported = output / "exported"
    summary = exporter.export(output / "run", exported)
    for path, size in summary.sizes.items():
        print(f"   {size:>10,} bytes  {exported / path}")
    signal = build.build_signal(config)
    learner = build.load(output / "run")
    params, sgd = functional.get_params(learner.field), learner.sgd_fit()
    return results, [
        (
            "learned, text",
            signal.picture,
            task,
            *_fit(learner, params, sgd, task),
        )
        for task in first_tasks(signal, "test", 2)
    ]


if __name__ == "__main__":
    flags.DEFINE_string("output_dir", "runs/demo", "Folder of all files.")
    flags.DEFINE_bool("quick", False, "End after the first picture.")
    cli.run(main, __doc__)
