r"""Makes a small copy of a training run, to keep or to give away.

    python -m tfmetainit.publish --workdir=runs/text \
        --output_dir=text_64 --license=Apache-2.0

The copy is a run as any other: every command takes it for --workdir, and
`tfmetainit.load` reads it. It holds the best weights and step sizes in half
precision and no optimizer, the config without the paths of files, and
README.md, a model card with the results of `python -m tfmetainit.evaluate`
where there are some. The runs that come with the package were made by it.
"""

import json
import pathlib

from absl import flags

from tfmetainit import cli

cli.quiet_tensorflow()

import h5py
import numpy as np

import tfmetainit
from tfmetainit import evaluate, experiment, files
from tfmetainit.errors import InputError
from tfmetainit.experiment import Workdir

_OPTIMIZER = "optimizer"  # the group that Keras keeps it in
_CARD = """# {name}

Initial weights, and the step sizes of their gradient steps, that
[tfmetainit](https://arxiv.org/abs/2012.02189) meta-learned on signals of the
class {signal!r}: a field of the kind {field} with {count:,} weights, for
{inner_steps} steps and more.

    import tfmetainit
    learner = tfmetainit.load("{name}")
    adapted, losses = learner.adapt(support)

- Validation PSNR after {inner_steps} steps: {psnr:.2f} dB (outer step {step}).
- Weights: float16, {size:,} bytes; computation is in float32.
- License: {license}
- Trained with tfmetainit {version}. The settings, all of them: `config.json`.

## Results

{results}
"""


def publish(workdir, output_dir, license_name: str) -> pathlib.Path:
    """Writes the small copy of a run.

    Args:
        workdir: the folder of a training run.
        output_dir: path of the copy; its last part is its name.
        license_name: of the weights, for the model card.

    Returns:
        The path of the weights.

    Raises:
        InputError: if there is no trained run, or the folder is not empty.
    """
    source, copy = experiment.find_run(workdir), Workdir(output_dir)
    config = source.read_config()
    learner = experiment.load_learner(
        source, config, experiment.build_signal(config)
    )
    if copy.root.exists() and any(copy.root.iterdir()):
        raise InputError(
            "--output_dir must name an empty folder, or one that does not "
            f"exist yet. Received: {output_dir}"
        )
    best = files.read_json(source.best_record)
    public = json.loads(config.to_json())
    kept = experiment.public_settings(config.signal)
    public["signal"] = {key: kept.get(key) for key in public["signal"]}
    public["warm_start"] = None
    files.make_folder(copy.best.parent)
    with files.atomic_path(copy.best) as temporary:
        _copy_halved(source.best, temporary)
    files.write_json(copy.config, public)
    files.write_json(copy.best_record, best)
    results = source.root / "evaluation" / "results.json"
    card = _CARD.format(
        name=copy.root.name,
        signal=config.signal.name,
        field=config.field.name,
        count=learner.field.count_params(),
        inner_steps=learner.inner_steps,
        psnr=best["psnr"],
        step=best["step"],
        size=copy.best.stat().st_size,
        license=license_name,
        version=tfmetainit.__version__,
        results=evaluate.to_markdown(files.read_json(results))
        if results.is_file()
        else "It was not evaluated.",
    )
    with files.atomic_path(copy.root / "README.md") as temporary:
        temporary.write_text(card)
    experiment.load(copy.root)  # it can be read
    return copy.best


def _copy_halved(source, target):
    """Copies a weights file, floats as float16, without the optimizer."""

    def visit(name, item):
        if name.split("/")[0] == _OPTIMIZER:
            return
        if isinstance(item, h5py.Group):
            written = output.require_group(name)
        else:
            value = item[()]
            if value.dtype == np.float32:
                value = np.float16(value)
            options = {"compression": "gzip"} if value.ndim else {}
            written = output.create_dataset(name, data=value, **options)
        for key, attribute in item.attrs.items():
            written.attrs[key] = attribute

    with h5py.File(source) as file, h5py.File(target, "w") as output:
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
    flags.DEFINE_string("license", None, "Of the weights.")
    flags.mark_flags_as_required(["workdir", "output_dir", "license"])
    cli.run(main, __doc__)


if __name__ == "__main__":
    run()
