r"""Exports a training run as artifacts that fit signals on their own.

    python -m tfmetainit.export --workdir=runs/text --output_dir=exported/text

Writes the learned initial weights together with the gradient steps: as
model.tflite for LiteRT (phones, browsers, C), and as saved_model/ for TF
Serving. --precision=float16 halves the weights. Both artifacts are checked
against Python on a held-out signal; if their numbers differ, nothing is
written.
"""

import shlex

from absl import flags

from tfmetainit import cli

cli.quiet_tensorflow()

import tensorflow as tf

from tfmetainit import modalities
from tfmetainit.export import exporter


def main(argv):
    """Runs `exporter.export` with the command's flags."""
    del argv
    values = flags.FLAGS
    # What the files are checked against is computed as on a phone: on the CPU.
    tf.config.set_visible_devices([], "GPU")
    summary = exporter.export(
        values.workdir,
        values.output_dir,
        formats=values.formats,
        num_points=values.num_points,
        max_steps=values.max_steps,
        precision=values.precision,
        input_path=values.input,
        license_name=values.license,
        **{
            name: values[name].value
            for name in modalities.DETAILS
            if values[name].value is not None
        },
    )
    print(f"Exported to {values.output_dir} in {summary.seconds:.1f} s:")
    for path, size in summary.sizes.items():
        print(f"  {size:>10,} bytes  {path}")
    for format_name, signatures in summary.signatures.items():
        print(f"Signatures ({format_name}):")
        for name, inputs in signatures.items():
            print(f"  {name}({', '.join(inputs)})")
    if summary.operations:
        counts = (f"{n} {count}" for n, count in summary.operations.items())
        print("Operations of the .tflite file, all builtin:")
        print(f"  {', '.join(counts)}")
    for name, reasons in summary.refused.items():
        if reasons:
            print(f"GPU delegates do not take {name}: {', '.join(reasons)}")
    if summary.refused and not any(summary.refused.values()):
        print(f"GPU delegates take {', '.join(summary.refused)} as a whole.")
    print("PSNR on a held-out signal, before and after the training's steps:")
    for name, (before, after) in summary.psnr.items():
        print(f"  {name:<12} {before:6.2f} -> {after:6.2f} dB", end="")
        if name in summary.differences:
            print(
                f", values within {summary.differences[name]:.1e} of Python's "
                f"(allowed {summary.tolerance:g})",
                end="",
            )
        print()
    if "tflite" in summary.signatures and summary.example:
        model = f"{values.output_dir}/{exporter.TFLITE}"
        print(
            "Fit a signal with it, without TensorFlow:\n"
            f"  python -m tfmetainit.fit --artifact={shlex.quote(model)} "
            f"{summary.example} --output=fit.png"
        )


def run():
    """The command `tfmetainit-export`."""
    flags.DEFINE_string("workdir", None, "Folder of a training run.")
    flags.DEFINE_string("output_dir", None, "The folder to write.")
    flags.DEFINE_list("formats", list(exporter.FORMATS), "Formats to write.")
    flags.DEFINE_integer(
        "num_points",
        None,
        "Largest number of observations of one call of the .tflite file; "
        "default: as many as one signal of the class has.",
    )
    flags.DEFINE_integer(
        "max_steps", 64, "Largest number of steps of one call."
    )
    flags.DEFINE_string(
        "precision", "float32", "Stored weights are float32 or float16."
    )
    flags.DEFINE_string(
        "input",
        None,
        "The file to check the artifacts on; default: a signal of the test "
        "split.",
    )
    for name, text in modalities.DETAILS.items():
        flags.DEFINE_string(name, None, f"With --input. {text}")
    flags.DEFINE_string("license", "not stated", "License of the weights.")
    flags.mark_flags_as_required(["workdir", "output_dir"])
    cli.run(main, __doc__)


if __name__ == "__main__":
    run()
