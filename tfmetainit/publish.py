r"""Makes a small copy of a training run, to keep or to share.

    python -m tfmetainit.publish --workdir=runs/text \
        --output_dir=text_64 --license=Apache-2.0

The copy is a run like any other: every command accepts it as --workdir, and
`tfmetainit.load` reads it. It holds the best weights and step sizes, of which
large tensors are rounded to half precision, the config without the paths of
files, and a model card, README.md. The optimizer is left out. The card shows
the results of `python -m tfmetainit.evaluate`, if there are any. This command
made the runs that come with the package.
"""

import json
import os
import pathlib
import tempfile

from absl import flags

from tfmetainit import cli

cli.quiet_tensorflow()

import h5py
import numpy as np

import tfmetainit
from tfmetainit.evaluation import comparison, tables
from tfmetainit.io import files
from tfmetainit.io.errors import InputError
from tfmetainit.runs import build, sources
from tfmetainit.runs.prior import copy_prior, read_prior
from tfmetainit.runs.workdir import Workdir, find_run

_NOT_PUBLISHED = "(not published)"
# Smaller tensors keep float32. A SIREN's first kernel is one: rounding it
# shifts the phases of its sines (0.02 dB of photos_128, for 3 kB).
_LARGE = 4096
_CARD = """# {name}

Initial weights, and the step sizes of their gradient steps, that tfmetainit
meta-learned on signals of the class {signal!r} (Tancik et al. 2021, arXiv
2012.02189): a field {field!r} with {count:,} weights, for
{inner_steps} steps{seen} and more.

    import tfmetainit
    learner = tfmetainit.load("{name}")
    adapted, losses = learner.adapt(support)

- Validation PSNR after {inner_steps} steps: {psnr:.2f} dB (outer step {step}).
- Weights: tensors of {large:,} numbers and more in float16, the others in
  float32, {size:,} bytes; computation is in float32. All PSNRs were measured
  before rounding.{prior}
- License: {license}
- Trained with tfmetainit {version}. All settings: `config.json`.

## Results

{results}
"""


def publish(workdir, output_dir, license_name: str) -> pathlib.Path:
    """Writes the small copy of a run.

    Args:
        workdir: the folder of a training run.
        output_dir: path of the copy; its last part is its name.
        license_name: license of the weights, for the model card.

    Returns:
        The path of the weights.

    Raises:
        InputError: if there is no trained run, or the folder is not empty.
    """
    source, target = find_run(workdir), os.path.realpath(output_dir)
    target = pathlib.Path(target)
    config = source.read_config()
    learner = build.load_learner(source, config, build.build_signal(config))
    if target.exists() and not (target.is_dir() and not os.listdir(target)):
        raise InputError(
            "`output_dir` must name an empty folder, or one that does not "
            f"exist yet. Received: {output_dir}"
        )
    with files.atomic_folder(target) as staging:
        copy = Workdir(staging)
        copy.best.parent.mkdir()
        _save_halved(learner, copy.best)
        best = source.read_best()
        files.write_json(copy.best_record, best)
        files.write_json(copy.config, _public(config))
        prior = ""
        if read_prior(source, learner.field) is not None:
            copy_prior(source, copy)
            size = copy.prior.stat().st_size
            prior = f"\n- Prior of unseen pixels: float16, {size:,} bytes."
        build.load(staging)  # checks that the copy can be read
        card = _CARD.format(
            name=target.name,
            signal=config.signal.name,
            field=config.field.name,
            count=learner.field.count_params(),
            inner_steps=learner.inner_steps,
            seen=tables.in_words(learner.step_on),
            psnr=best["psnr"],
            step=best["step"],
            large=_LARGE,
            size=copy.best.stat().st_size,
            prior=prior,
            license=license_name,
            version=tfmetainit.__version__,
            results=_results(source, best["step"]),
        )
        copy.card.write_text(card)
    return Workdir(target).best


def _public(config):
    """The config without paths.

    A note replaces the signals' folder or file. With None in its place, a class
    would use its embedded signals.
    """
    public = json.loads(config.to_json())
    kept = sources.public_settings(config.signal)
    public["signal"] = {
        key: kept.get(key)
        if key not in sources.SOURCE_FIELDS or not value
        else _NOT_PUBLISHED
        for key, value in public["signal"].items()
    }
    public["warm_start"] = None
    return public


def _results(workdir, step):
    """The result tables of the weights of this outer step.

    Rows of other runs are left out.
    """
    path = workdir.root / "evaluation" / "results.json"
    results = files.read_json(path) if path.is_file() else {}
    try:
        if results.get("outer_step") != step:
            return "It was not evaluated."
        for condition in results["conditions"]:
            condition["rows"] = [
                row
                for row in condition["rows"]
                if not row["method"].startswith(f"{comparison.LEARNED}:")
            ]
        return tables.to_markdown(results)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise InputError(
            "A run's results must be those of python -m tfmetainit.evaluate. "
            f"Evaluate it again. Received: {path}, which is damaged ({error!r})"
        ) from error


def _save_halved(learner, path):
    """Writes a learner's weights, the large ones in float16."""

    def visit(name, item):
        if isinstance(item, h5py.Group):
            written = output.require_group(name)
        else:
            value = item[()]
            if value.size >= _LARGE:
                value = np.float16(value)
            options = {"compression": "gzip"} if value.ndim else {}
            written = output.create_dataset(name, data=value, **options)
        for key, attribute in item.attrs.items():
            written.attrs[key] = attribute

    with tempfile.TemporaryDirectory() as folder:
        whole = pathlib.Path(folder) / "whole.weights.h5"
        # Saved anew, as the run's own file may hold an optimizer's state, too.
        learner.save_weights(whole)
        with h5py.File(whole) as file, h5py.File(path, "w") as output:
            for key, attribute in file.attrs.items():
                output.attrs[key] = attribute
            file.visititems(visit)


def main(argv):
    """Runs `publish` with the command's flags."""
    del argv
    values = flags.FLAGS
    path = publish(values.workdir, values.output_dir, values.license)
    print(f"{path.stat().st_size:,} bytes of weights: {values.output_dir}")


def run():
    """The command `tfmetainit-publish`."""
    flags.DEFINE_string("workdir", None, "Folder of a training run.")
    flags.DEFINE_string("output_dir", None, "Folder of the copy.")
    flags.DEFINE_string("license", None, "License of the weights.")
    flags.mark_flags_as_required(["workdir", "output_dir", "license"])
    cli.run(main, __doc__)


if __name__ == "__main__":
    run()
