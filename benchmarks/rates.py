r"""Bytes and PSNR of fitted fields beside JPEG, for the same pictures.

    python benchmarks/rates.py --workdir=photos_128 --input=photos \
        --output_dir=rates

Each picture is fitted as `fit --crop` does, and its change of the learned
weights is stored with a few bits a weight (`fit --bits`). JPEG stores the same
pixels. A field's file needs the learned weights to be drawn, as a JPEG needs a
decoder; they are counted in neither. Writes rates.md and rates.png.
"""

import pathlib
import tempfile

import numpy as np
from absl import flags
from common import as_jpeg, pictures_in

from tfmetainit import cli

cli.quiet_tensorflow()

from matplotlib.figure import Figure

from tfmetainit.evaluation.tables import markdown_table
from tfmetainit.fit import open_fitter
from tfmetainit.geometry.metrics import psnr_from_mse
from tfmetainit.io import codes, files

_FLAGS = flags.FLAGS
flags.DEFINE_string("workdir", "photos_128", "The weights.")
flags.DEFINE_string("input", None, "Folder of pictures.")
flags.DEFINE_string("output_dir", "rates", "Folder of the results.")
flags.DEFINE_multi_integer("steps", [1, 2, 4, 8, 16], "Gradient steps.")
flags.DEFINE_multi_integer("bits", [8, 6, 5, 4], "Bits a weight.")
_QUALITIES = (1, 5, 10, 20, 30, 50, 70, 80, 90, 95, 98, 100)


def _field_points(fitter, samples):
    """(steps, bits, mean bytes, mean PSNR) of the fields, row by row."""
    for steps in _FLAGS.steps:
        fits = [fitter.fit([sample], steps, ())[0] for sample in samples]
        for bits in _FLAGS.bits:
            rates = []
            for sample, fitted in zip(samples, fits):
                code = codes.encode(
                    fitted.theta, fitter.learned, fitter.shapes, bits
                )
                theta = codes.decode(code, fitter.learned, fitter.shapes)
                rates.append((_size(code, fitter), fitter.score(theta, sample)))
            yield steps, bits, *np.mean(rates, axis=0)


def _size(code, fitter):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "code.npz")
        size = (fitter.resolution,) * 2
        codes.write_code(path, code, fitter.learned, size)
        return path.stat().st_size


def _jpeg_points(samples):
    """(quality, mean bytes, mean PSNR) of JPEG."""
    for quality in _QUALITIES:
        rates = []
        for sample in samples:
            pixels = sample.target.reshape(*sample.camera, 3)
            size, decoded = as_jpeg(pixels, quality)
            error = float(np.mean((decoded - pixels) ** 2))
            rates.append((size, psnr_from_mse(error)))
        yield quality, *np.mean(rates, axis=0)


def _draw(path, fields, jpegs, title):
    figure = Figure(figsize=(7.0, 4.6), layout="constrained")
    axis = figure.subplots()
    axis.plot(*zip(*(point[1:] for point in jpegs)), "k.-", label="JPEG")
    for bits in _FLAGS.bits:
        points = [p[2:] for p in fields if p[1] == bits]
        axis.plot(*zip(*points), "o-", label=f"field, {bits} bits a weight")
    axis.set(
        xscale="log",
        xlabel="bytes of a picture",
        ylabel="PSNR (dB)",
        title=title,
    )
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    with files.atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=130)


def main(argv):
    """Fits the pictures, stores them in all ways, and compares."""
    del argv
    paths = pictures_in(_FLAGS.input)
    fitter = open_fitter(_FLAGS.workdir, None)
    samples = [fitter.read(path) for path in paths]
    output_dir = files.make_folder(pathlib.Path(_FLAGS.output_dir))
    jpegs = list(_jpeg_points(samples))
    fields = []
    for point in _field_points(fitter, samples):
        fields.append(point)
        print("{} steps, {} bits: {:.0f} bytes, {:.2f} dB".format(*point))
    rows = [
        (f"field, {steps} steps, {bits} bits", f"{size:,.0f}", f"{psnr:.2f}")
        for steps, bits, size, psnr in fields
    ] + [
        (f"JPEG, quality {quality}", f"{size:,.0f}", f"{psnr:.2f}")
        for quality, size, psnr in jpegs
    ]
    table = markdown_table(["", "bytes", "PSNR (dB)"], rows)
    (output_dir / "rates.md").write_text(table)
    side = fitter.resolution
    _draw(
        output_dir / "rates.png",
        fields,
        jpegs,
        f"{len(paths)} pictures of {side} x {side} pixels",
    )
    print(f"Written to {output_dir}")


if __name__ == "__main__":
    cli.run(main, __doc__)
