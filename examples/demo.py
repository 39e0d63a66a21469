r"""The whole of tfmetainit in ten minutes on two CPU cores.

    make demo

The demo meta-trains a SIREN on rendered text at 64 x 64. It compares the
learned weights with random and other initial weights on held-out text, and
exports them. Then LiteRT, without TensorFlow, fits a photograph with the
exported file, from weights that have only seen text. All files are written to
--output_dir; overview.png shows the results.
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

_STEPS_SHOWN = (0, 1, 2, 4, 8, 16)
_EVALUATION = {
    "num_signals": 20,
    "num_tuning_signals": 3,
    "num_match_signals": 5,
    "num_steps": 10,
    "num_fit_steps": 200,
    "max_match_steps": 60,
    "adam_rates": [1e-4, 3e-4, 1e-3],
    "sgd_rates": [3e-3, 1e-2, 3e-2],
}


def demo_config(data_dir):
    """configs/text.py with fewer signals and iterations."""
    config = text.get_config()
    config.num_steps = 500
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
    """As `_fit` with the exported file in LiteRT, and ms per gradient step."""
    fitter = ArtifactFitter(path)
    values, psnr = {}, {}
    for steps in _STEPS_SHOWN:
        started = time.perf_counter()
        (fitted,) = fitter.fit([sample], steps, {steps})
        seconds = time.perf_counter() - started
        values[steps] = fitter.predict(fitted.theta, sample.coords)
        psnr |= fitted.psnr
    return values, psnr, 1e3 * seconds / max(_STEPS_SHOWN)


def draw_overview(path, results, signal, rows):
    """One picture: fits after several steps, and curves over unseen signals.

    Args:
        path: the file to write.
        results: as returned by `evaluate.evaluate`.
        signal: the signal class, which draws values as pictures.
        rows: (title, task, values, psnr) of each fit.
    """
    columns = len(_STEPS_SHOWN) + 1
    figure = Figure(
        figsize=(1.7 * columns, 2.0 * len(rows) + 4.2), layout="constrained"
    )
    grid, curves = figure.subfigures(2, 1, height_ratios=[2.0 * len(rows), 4.2])
    axes = grid.subplots(len(rows), columns, squeeze=False)
    for i, (title, task, values, psnr) in enumerate(rows):
        shown = [task.query.values] + [values[s] for s in _STEPS_SHOWN]
        captions = ["target"] + [
            f"step {s}: {psnr[s]:.1f} dB" for s in _STEPS_SHOWN
        ]
        for axis, value, caption in zip(axes[i], shown, captions):
            axis.imshow(np.clip(signal.picture(value), 0, 1))
            axis.set(xticks=[], yticks=[])
            axis.set_title(caption, fontsize=8)
        axes[i, 0].set_ylabel(title, fontsize=8)
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
    axis.legend(fontsize=8)
    with files.atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


def main(argv):
    """Runs the demo."""
    del argv
    quiet.farewells()
    started = time.monotonic()
    output = pathlib.Path(flags.FLAGS.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    config = demo_config(output / "data")
    print("1. Meta-training on rendered text (resumes if it was stopped)")
    train.train(config, output / "run")
    print("\n2. Comparing with other initial weights on unseen text")
    results = evaluate.evaluate(output / "run", options=_EVALUATION)
    print("\n" + tables.to_markdown(results))

    print("3. Exporting for TF Serving and LiteRT")
    exported = output / "exported"
    summary = exporter.export(output / "run", exported)
    for path, size in summary.sizes.items():
        print(f"   {size:>10,} bytes  {exported / path}")

    print("\n4. Fitting a photograph from weights that have only seen text")
    photo = output / "photo.png"
    Image.fromarray(skimage.data.astronaut()).save(photo)
    signal = build.build_signal(config)
    learner = build.load(output / "run")
    params = functional.get_params(learner.field)
    random = baselines.standard(learner.field, seed=1)
    unseen = first_tasks(signal, "test", 2)
    sample = signal.read_sample(photo)
    task = to_task(sample)
    sgd = learner.sgd_fit()
    # Random weights get the better optimizer of the two, at its tuned rate.
    rows = results["conditions"][0]["rows"]
    (plain,) = (r for r in rows if r["method"] == "Standard")
    adam = baselines.AdamFit(learner.support_loss, plain["rate"])
    *on_device, milliseconds = _fit_on_device(
        exported / exporter.TFLITE, sample
    )
    rows = [
        ("learned, text", unseen[0], *_fit(learner, params, sgd, unseen[0])),
        ("learned, text", unseen[1], *_fit(learner, params, sgd, unseen[1])),
        ("LiteRT, photo", task, *on_device),
        ("random, photo", task, *_fit(learner, random, adam, task)),
    ]
    draw_overview(output / "overview.png", results, signal, rows)
    for title, _, _, psnr in rows[2:]:
        shown = ", ".join(f"{s}: {psnr[s]:.1f}" for s in _STEPS_SHOWN)
        print(f"   {title}: PSNR in dB after gradient steps {shown}")
    print(f"   LiteRT took {milliseconds:.0f} ms for a gradient step.")
    print(
        f"\nDone in {(time.monotonic() - started) / 60:.1f} minutes. "
        f"One picture of it all: {output / 'overview.png'}\n"
        f"Fit a picture of your own:\n"
        f"  python -m tfmetainit.fit --artifact={exported / exporter.TFLITE} "
        f"--input=photo.png --steps=4 --output=fit.png"
    )


if __name__ == "__main__":
    flags.DEFINE_string("output_dir", "runs/demo", "Folder of all files.")
    cli.run(main, __doc__)
