r"""What a field of a photograph is good for: upscaling, missing pixels, bytes.

    python benchmarks/gallery.py --input=photos --output_dir=gallery

Each photograph is fitted by `tfmetainit.fit` in the ways of docs/gallery.md,
beside what one would use otherwise. Writes a picture of each, upscaling.png,
missing.png and bytes.png, and gallery.md, the means over all photographs.
"""

import pathlib
import tempfile

import numpy as np
from absl import flags
from common import as_jpeg, pictures_in
from PIL import Image
from scipy.interpolate import griddata

from tfmetainit import cli

cli.quiet_tensorflow()

from tfmetainit import fit
from tfmetainit.evaluation.plots import save_labelled_grid
from tfmetainit.evaluation.tables import markdown_table
from tfmetainit.geometry import crop_and_resize, psnr_from_mse
from tfmetainit.io import files, images

_FLAGS = flags.FLAGS
flags.DEFINE_string("workdir", "photos_128", "The weights.")
flags.DEFINE_string("input", None, "Folder of photographs.")
flags.DEFINE_string("output_dir", "gallery", "Folder of the results.")
flags.DEFINE_integer("steps", 8, "Gradient steps.")
flags.DEFINE_integer("scale", 2, "By how much pictures are enlarged.")
flags.DEFINE_integer("bits", 6, "Bits of a weight.")
flags.DEFINE_integer("shown", 3, "Photographs in the pictures.")


def _psnr(image, reference):
    return float(psnr_from_mse(np.mean((image - reference) ** 2)))


def _fit(folder, side, **options):
    """The fit of the file input.png there, its rendering, and its bytes."""
    weights = folder / "fit.npz" if "bits" in options else None
    fitted = fit.fit(
        _FLAGS.workdir,
        folder / "input.png",
        folder / "fit.png",
        steps=_FLAGS.steps,
        resolution=side,
        weights=weights,
        **options,
    )
    size = weights and weights.stat().st_size
    return fitted, images.read_image(folder / "fit.png"), size


def _upscaled(photo, side, folder):
    """By the field, and by the filters of Pillow, from a small picture."""
    reference = crop_and_resize(photo, _FLAGS.scale * side)
    images.write_image(folder / "input.png", crop_and_resize(photo, side))
    with Image.open(folder / "input.png") as small:
        shape = (_FLAGS.scale * side,) * 2
        others = {
            name: np.asarray(small.resize(shape, kind), np.float32) / 255
            for name, kind in (
                ("nearest neighbour", Image.Resampling.NEAREST),
                ("bilinear", Image.Resampling.BILINEAR),
                ("bicubic", Image.Resampling.BICUBIC),
                ("Lanczos", Image.Resampling.LANCZOS),
            )
        }
    _, drawn, _ = _fit(folder, _FLAGS.scale * side)
    return reference, {"field": drawn, **others}


def _completed(photo, side, folder):
    """By the field, and by interpolation, from half of the pixels."""
    square = crop_and_resize(photo, side)
    known = np.random.default_rng(0).random((side, side)) < 0.5
    images.write_image(folder / "mask.png", np.float32(known)[..., None])
    images.write_image(folder / "input.png", square)
    _, drawn, _ = _fit(folder, side, mask=folder / "mask.png")
    places, asked = np.argwhere(known), np.argwhere(~known)
    pictures = {"observed": square * known[..., None], "field": drawn}
    for name in ("nearest", "linear"):
        filled = square.copy()
        values = griddata(places, square[known], asked, method=name)
        if name == "linear":  # outside of all triangles
            nearest = griddata(places, square[known], asked, method="nearest")
            values = np.where(np.isnan(values), nearest, values)
        filled[~known] = values
        pictures[f"{name} interpolation"] = filled
    return square, known, pictures


def _stored(photo, side, folder):
    """As a field of a few bits a weight, and as the first JPEG as good."""
    square = crop_and_resize(photo, side)
    images.write_image(folder / "input.png", square)
    _, drawn, size = _fit(folder, side, bits=_FLAGS.bits)
    reached = _psnr(drawn, square)
    for quality in range(1, 101):
        jpeg_size, decoded = as_jpeg(square, quality)
        if _psnr(decoded, square) >= reached:
            break
    return square, {"field": (size, drawn), "JPEG": (jpeg_size, decoded)}


def main(argv):
    """Runs the three recipes on all photographs."""
    del argv
    paths = pictures_in(_FLAGS.input)
    side = fit.open_fitter(_FLAGS.workdir, None).resolution
    output_dir = files.make_folder(pathlib.Path(_FLAGS.output_dir))
    grids = {"upscaling": [], "missing": [], "bytes": []}
    scores = {"upscaling": [], "missing": [], "bytes": []}
    for path in paths:
        photo = images.read_image(path)
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            large, upscaled = _upscaled(photo, side, folder)
            square, known, completed = _completed(photo, side, folder)
            _, stored = _stored(photo, side, folder)
        scores["upscaling"].append(
            {name: _psnr(image, large) for name, image in upscaled.items()}
        )
        scores["missing"].append(
            {
                name: _psnr(image[~known], square[~known])
                for name, image in completed.items()
                if name != "observed"
            }
        )
        scores["bytes"].append(
            {
                f"{name}{what}": value
                for name, (size, image) in stored.items()
                for what, value in (
                    (", bytes", size),
                    ("", _psnr(image, square)),
                )
            }
        )
        grids["upscaling"].append({"photograph": large, **upscaled})
        grids["missing"].append({"photograph": square, **completed})
        grids["bytes"].append(
            {
                "photograph": square,
                **{name: image for name, (_, image) in stored.items()},
            }
        )
        print(path.name, *(of_all[-1] for of_all in scores.values()))
    tables = []
    for name, rows in grids.items():
        save_labelled_grid(
            output_dir / f"{name}.png",
            [list(row.values()) for row in rows[: _FLAGS.shown]],
            list(rows[0]),
        )
        columns = list(scores[name][0])
        means = [
            np.mean([s[column] for s in scores[name]]) for column in columns
        ]
        table = markdown_table(columns, [[f"{mean:.2f}" for mean in means]])
        tables.append(f"## {name}\n\n{table}\n")
    (output_dir / "gallery.md").write_text("\n".join(tables))
    print(f"Written to {output_dir}")


if __name__ == "__main__":
    cli.run(main, __doc__)
