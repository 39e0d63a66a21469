r"""Adapts a learned initialization to one file of yours, and renders it.

    python -m tfmetainit.fit photo.jpg
    python -m tfmetainit.fit --workdir=runs/text --input=photo.png \
        --steps=4 --output=fit.png
    python -m tfmetainit.fit --artifact=exported/text/model.tflite \
        --input=photo.png --steps=4 --output=fit.png

The first form takes the package's own weights for photographs, photos_128, and
writes photo_fit.png beside the photograph.

The picture is resized to R x R pixels, the resolution of the training, whatever
its proportion. It is fitted by gradient steps from the learned weights, and
drawn in its own proportion, with R pixels on the shorter side. (--crop takes
its central square.) A field is continuous: --resolution=512 renders it with 512
pixels on the longer side.

--tiles=auto fits a picture at its full size, by a field for each of the
overlapping tiles that it needs; --tiles=4 by four tiles along the longer side:

    python -m tfmetainit.fit --tiles=auto photo.jpg

--weights=fit.npz keeps the adapted weights; with --bits=6, as a small file of
their quantised change. Either is an input that is drawn without a fit:

    python -m tfmetainit.fit --artifact=exported/text/model.tflite \
        --input=fit.npz --resolution=512 --output=again.png

For a run on tomography, the input is a sinogram, with --angles, or a slice that
is projected first:

    python -m tfmetainit.fit --workdir=runs/ct --input=sinogram.npy \
        --angles=0,45,90,135 --steps=12 --output=slice.png

--workdir takes the weights of a training run, in TensorFlow. --artifact takes
those in a file of `python -m tfmetainit.export`, which LiteRT runs: TensorFlow
is neither needed nor imported.
"""

import contextlib
import pathlib
import re
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from absl import flags

from tfmetainit import cli, modalities
from tfmetainit.geometry import pixels
from tfmetainit.geometry.tiles import length_of
from tfmetainit.io import codes, files, images
from tfmetainit.io.errors import InputError, check_one_source, check_range
from tfmetainit.io.weights import (
    join,
    load_npz,
    read_arrays,
    split,
    write_npz,
)
from tfmetainit.modalities import (
    Fitter,
    ImageModality,
    TiledFit,
    check_finite,
    fit_tiles,
    overlap_of,
)

MAX_STEPS = 10_000
MAX_SIDE = 16_384
MAX_PIXELS = 2**26
MAX_TILES = 1024
_DEFAULT_WEIGHTS = "photos_128"


class Fit(NamedTuple):
    """One file after its gradient steps.

    Attributes:
        psnr: in dB, after 0, 1, ... steps; empty for a fit that was read back.
            Of a picture, at the R x R pixels to which it was resized.
        of_observations: whether the PSNR is that of the observations, because
            the signal itself is not known.
        params: the adapted weights, arrays; with `bits`, the quantised ones.
        render: maps a height and a width to a picture.
        coded_psnr: with `bits`, the PSNR of the quantised weights; else None.
    """

    psnr: list[float]
    of_observations: bool
    params: list[np.ndarray]
    render: Callable[[int, int], np.ndarray]
    coded_psnr: float | None = None


def open_fitter(workdir, artifact) -> Fitter:
    """The fitter of a run or of an exported file, one of which is None.

    Raises:
        InputError: if there is none.
    """
    check_one_source(workdir, artifact)
    if workdir is None:
        from tfmetainit.litert import ArtifactFitter

        return ArtifactFitter(artifact)
    try:
        cli.quiet_tensorflow()
        from tfmetainit.runs import RunFitter
    except ModuleNotFoundError as error:
        raise InputError(
            f"`workdir` needs {error.name}: pip install tfmetainit. An "
            "exported file (`artifact`) does not."
        ) from error
    return RunFitter(workdir)


def fit(
    workdir,
    input_path,
    output_path,
    *,
    artifact=None,
    steps=None,
    resolution=None,
    weights=None,
    bits=None,
    crop=False,
    **details,
) -> Fit:
    """Fits one signal and writes its rendering.

    Args:
        workdir: the folder of a training run; None with `artifact`.
        input_path: the file to fit, or an `.npz` file that an earlier call
            wrote as `weights`, which is drawn without a fit.
        output_path: the picture to write.
        artifact: path of an exported .tflite file, or None.
        steps: number of gradient steps in [0, 10000]; by default as many as
            in training.
        resolution: size of the rendering: the longer side in pixels, or
            `(height, width)`; by default the shorter side has the
            resolution of the training. A picture keeps its proportion.
        weights: path of an `.npz` file for the adapted weights, or None.
        bits: in [2, 16]: `weights` becomes a code (`io.codes`) of so many bits
            a weight, and the rendering that of the code. By default all
            weights are kept.
        crop: whether to fit the central square of a picture, not all of it.
        **details: further arguments for signals of the run's modality:
            the arguments of its `Modality.read`, strings.

    Raises:
        InputError: if a file or a number is not valid; nothing is written.
        UserError: if the fit diverges; nothing is written.
    """
    _check_outputs(
        output_path,
        weights,
        input_path=input_path,
        artifact=artifact,
        mask=details.get("mask"),
    )
    fitter = open_fitter(workdir, artifact)
    stored = _stored_weights(input_path)
    if stored is not None:
        asked = {"steps": steps, "weights": weights, "bits": bits, **details}
        asked["crop"] = crop or None
        return _draw(fitter, input_path, stored, output_path, resolution, asked)
    if bits is not None:
        codes.integers(bits)
        if weights is None:
            raise InputError(
                "`bits` needs `weights`, the file of the quantised weights. "
                "Received: none"
            )
    steps = fitter.default_steps if steps is None else steps
    check_range("steps", steps, 0, MAX_STEPS)
    details = {k: v for k, v in details.items() if v is not None}
    modalities.check_details(fitter.modality, details)
    if _may_crop(fitter):
        details["crop"] = crop
    elif crop:
        raise InputError(
            "`crop` is for weights of pictures. Received: weights of "
            f"{_class_of(fitter)}"
        )
    sample = fitter.read(input_path, **details)
    observed = fitter.modality and fitter.modality.size_of(sample)
    size = _rendered_size(fitter, observed, resolution)
    # The outputs are opened first: one that cannot be written is known before
    # the fit, and both appear together at its end.
    with contextlib.ExitStack() as outputs:
        picture_file = outputs.enter_context(files.atomic_path(output_path))
        if weights is not None:
            weights_file = outputs.enter_context(files.atomic_path(weights))
        fitted, theta = _fit(fitter, sample, steps)
        if bits is not None:
            code = codes.encode(theta, fitter.learned, fitter.shapes, bits)
            theta = codes.decode(code, fitter.learned, fitter.shapes)
            fitted = fitted._replace(
                params=split(theta, fitter.shapes),
                render=_renderer(fitter, theta, sample.camera),
                coded_psnr=fitter.score(theta, sample),
            )
            codes.write_code(
                weights_file, code, fitter.learned, observed or size
            )
        elif weights is not None:
            write_npz(weights_file, fitted.params, observed or size)
        images.write_image(picture_file, fitted.render(*size))
    return fitted


def fit_in_tiles(
    workdir,
    input_path,
    output_path,
    tiles,
    *,
    artifact=None,
    steps=None,
    resolution=None,
    crop=False,
) -> TiledFit:
    """Fits a picture of any size by overlapping tiles, and writes the blend.

    Args:
        workdir: as in `fit`, as are the other arguments.
        input_path: a picture.
        output_path: the picture to write.
        tiles: "auto" for as many as the picture has room for at its own size;
            or the number along its longer side, in [1, 1024], for which it is
            resized.
        artifact: path of an exported .tflite file, or None.
        steps: number of gradient steps of each tile.
        resolution: the longer side of the rendering in pixels, or `(height,
            width)`: a whole multiple of what was fitted, which is the default.
        crop: whether to fit the central square.

    Raises:
        InputError: if a file or a number is not valid, or the weights are not
            those of pictures; nothing is written.
        UserError: if the fit diverges; nothing is written.
    """
    _check_outputs(output_path, None, input_path=input_path, artifact=artifact)
    if tiles != "auto":
        check_range("tiles", tiles, 1, MAX_TILES)
    fitter = open_fitter(workdir, artifact)
    if not isinstance(fitter.modality, ImageModality):
        raise InputError(
            "`tiles` is for weights of pictures. Received: weights of "
            f"{_class_of(fitter)}"
        )
    steps = fitter.default_steps if steps is None else steps
    check_range("steps", steps, 0, MAX_STEPS)
    image = images.read_image(input_path)
    if crop:
        image = pixels.crop(image)
    side = fitter.modality.resolution
    # A picture smaller than a tile is enlarged to one.
    count = 1 if tiles == "auto" else tiles
    longer = length_of(count, side, overlap_of(side))
    if tiles != "auto" or max(image.shape[:2]) < longer:
        size = pixels.scaled_to(image.shape[:2], longer)
        _check_pixels("tiles", tiles, *size)
        image = pixels.resize(image, *size)
    scale = _whole_scale(image.shape[:2], resolution)
    with files.atomic_path(output_path) as picture_file:
        fitted = fit_tiles(fitter, image, steps, scale)
        images.write_image(picture_file, fitted.image)
    return fitted


def _whole_scale(size, resolution):
    """By how much a picture in tiles is enlarged: a whole number."""
    if resolution is None:
        resolution = size
    both = isinstance(resolution, tuple)
    scale = (max(resolution) if both else resolution) // max(size)
    enlarged = tuple(scale * side for side in size)
    whole = resolution == (enlarged if both else max(enlarged))
    if not whole or scale < 1:
        raise InputError(
            "`resolution` must be a whole multiple of the picture in tiles, "
            f"{max(size)} pixels on the longer side. Received: {resolution}"
        )
    _check_pixels("resolution", resolution, *enlarged)
    return scale


def _check_pixels(name, value, height, width):
    """Raises InputError if an argument asks for too large a picture."""
    if height * width > MAX_PIXELS:
        raise InputError(
            f"A picture may have at most {MAX_PIXELS} pixels. Received: "
            f"`{name}` of {value}, that is {height}x{width}"
        )


def _stored_weights(path):
    """The arrays of a file that `fit` wrote as `weights`; else None."""
    if pathlib.Path(path).suffix != ".npz":
        return None
    arrays = read_arrays(path)
    if {"scales", "layer0/kernel"}.isdisjoint(arrays):
        return None
    return arrays


def _draw(fitter, input_path, arrays, output_path, resolution, asked) -> Fit:
    """Draws the weights of a file that `fit` wrote."""
    for name, value in asked.items():
        if value is not None:
            raise InputError(
                f"`{name}` is for a fit; an .npz file is drawn as it is. "
                f"Received: {name}={value} with `input_path` {input_path}"
            )
    modality = fitter.modality
    if modality is not None and modality.needs_camera:
        raise InputError(
            "Weights of this class cannot be drawn from a file: drawing needs "
            f"the camera of the photograph. Received: `input_path` {input_path}"
        )
    size = _stored_size(input_path, arrays, modality)
    if "scales" in arrays:
        theta = codes.read_code(input_path, fitter.learned, fitter.shapes)
    else:
        theta = join(load_npz(input_path, fitter.shapes))
    render = _renderer(fitter, theta, camera=None)
    height, width = _rendered_size(fitter, size, resolution)
    images.write_image(output_path, render(height, width))
    return Fit([], False, split(theta, fitter.shapes), render)


def _stored_size(path, arrays, modality):
    """Height and width at which the weights in a file are drawn."""
    side = getattr(modality, "resolution", None)
    if "size" not in arrays:  # by another program
        return side and (side, side)
    stored = arrays["size"]
    if stored.shape != (2,) or stored.dtype.kind != "i":
        raise InputError(f"{path} is damaged: its size is {stored}.")
    size = tuple(map(int, stored))
    if min(size) < 1 or min(size) != (side or min(size)):
        raise InputError(
            f"{path} was fitted with other weights, or by an earlier version: "
            f"it is of {size[1]} x {size[0]} pixels, where these weights draw "
            f"{side} on the shorter side. Fit it again."
        )
    longest = modalities.MAX_PROPORTION * min(size)
    if modality is not None and max(size) > longest:
        raise InputError(f"{path} is damaged: its size is {stored}.")
    return size


def _renderer(fitter, theta, camera):
    return lambda height, width: fitter.render(theta, height, width, camera)


def _class_of(fitter):
    return fitter.modality.name if fitter.modality else "another class"


def _may_crop(fitter):
    """Whether the signals are pictures of any proportion."""
    return fitter.modality is not None and fitter.modality.may_crop


def _rendered_size(fitter, fitted, resolution):
    """Height and width of the rendering of a signal of some size, or None."""
    if fitted is None and fitter.resolution is not None:
        fitted = (fitter.resolution, fitter.resolution)
    if isinstance(resolution, tuple):
        _check_proportion(fitter, fitted, resolution)
    elif fitted is None:
        raise InputError(
            "`resolution` must be given, as <height>x<width>, for a class "
            f"without a resolution of its own. Received: {resolution}"
        )
    elif resolution is None:
        resolution = fitted
    else:
        check_range("resolution", resolution, 1, MAX_SIDE)
        resolution = pixels.scaled_to(fitted, resolution)
    height, width = resolution
    _check_pixels("resolution", f"{height}x{width}", height, width)
    return resolution


def _check_proportion(fitter, fitted, resolution):
    """Raises InputError for a rendering that would distort a picture."""
    height, width = resolution
    for side in resolution:
        check_range("resolution", side, 1, MAX_SIDE)
    if fitter.modality is None or fitter.modality.needs_camera:
        return
    # Half a pixel of each is rounding.
    difference = abs(height * fitted[1] - width * fitted[0])
    if 2 * difference > max(fitted) + max(resolution):
        size = pixels.scaled_to(fitted, max(resolution))
        nearest = "x".join(map(str, size))
        hint = "; `crop` fits its central square" if _may_crop(fitter) else ""
        raise InputError(
            "`resolution` must have the proportion of the picture, "
            f"{fitted[0]} x {fitted[1]}, such as {nearest}{hint}. Received: "
            f"{height}x{width}"
        )


def _fit(fitter, sample, steps):
    """The fit of one sample, with its PSNR after every step, and theta."""
    (fitted,) = fitter.fit([sample], steps, range(steps + 1))
    check_finite(fitted.psnr, steps)
    result = Fit(
        [fitted.psnr[step] for step in range(steps + 1)],
        sample.target is None,
        split(fitted.theta, fitter.shapes),
        _renderer(fitter, fitted.theta, sample.camera),
    )
    return result, fitted.theta


def _check_outputs(output_path, weights, **inputs):
    """Raises InputError for an output of another format, or an input."""
    images.check_image_suffix(output_path)
    if weights is not None and pathlib.Path(weights).suffix != ".npz":
        raise InputError(f"`weights` must end in .npz. Received: {weights}")
    for output in filter(None, (output_path, weights)):
        files.check_apart(output, **inputs)


def parse_resolution(text: str) -> int | tuple[int, int]:
    """The longer side of "512", or `(height, width)` of "512x384".

    Raises:
        InputError: unless there are one or two numbers in [1, 16384].
    """
    match = re.fullmatch(r"([0-9]{1,5})(?:x([0-9]{1,5}))?", text)
    sizes = [int(size) for size in match.groups() if size] if match else []
    if not sizes or not all(1 <= size <= MAX_SIDE for size in sizes):
        raise InputError(
            "`resolution` must be the longer side, such as 512, or "
            f"<height>x<width>, each in [1, {MAX_SIDE}]. Received: {text!r}"
        )
    return tuple(sizes) if len(sizes) > 1 else sizes[0]


def _parse_tiles(text):
    """The number of tiles along the longer side, or "auto"."""
    if text == "auto" or text.isdecimal():
        return text if text == "auto" else int(text)
    raise InputError(
        "`tiles` must be auto, or a number of tiles along the longer side. "
        f"Received: {text!r}"
    )


def _defaults(values, arguments):
    """The workdir, the input and the output that the command stands for."""
    given = [name for name in (values.input, *arguments) if name is not None]
    if len(given) != 1:
        raise InputError(
            "`input_path` must name the one file to fit, for example "
            f"tfmetainit-fit photo.jpg. Received: {' and '.join(given) or None}"
        )
    workdir, output = values.workdir, values.output
    if workdir is None and values.artifact is None:
        workdir = _DEFAULT_WEIGHTS
    if output is None:
        path = pathlib.Path(given[0])
        if not path.name:
            raise InputError(
                f"`output_path` must be given for an `input_path` without a "
                f"name. Received: {given[0]!r}"
            )
        output = path.with_name(f"{path.stem}_fit.png")
    return workdir, given[0], output


def main(argv):
    """Runs `fit` or `fit_in_tiles` with the command's flags."""
    started, values = time.monotonic(), flags.FLAGS
    workdir, input_path, output = _defaults(values, argv[1:])
    options = {
        "artifact": values.artifact,
        "steps": values.steps,
        "resolution": values.resolution and parse_resolution(values.resolution),
        "crop": values.crop,
    }
    others = {name: values[name].value for name in modalities.DETAILS}
    others |= {"weights": values.weights, "bits": values.bits}
    if values.tiles is not None:
        _check_alone("tiles", others)
        tiles = _parse_tiles(values.tiles)
        _report_tiles(
            fit_in_tiles(workdir, input_path, output, tiles, **options)
        )
    else:
        fitted = fit(workdir, input_path, output, **options, **others)
        _report(fitted, values)
    print(f"Rendered to {output} ({time.monotonic() - started:.1f} s).")


def _check_alone(name, others):
    """Raises InputError if a flag is given that another excludes."""
    for other, value in others.items():
        if value is not None:
            raise InputError(
                f"`{name}` and `{other}` exclude each other. Received: "
                f"{other}={value}"
            )


def _report_tiles(fitted):
    """Prints what became of a picture in tiles."""
    for step, value in enumerate(fitted.psnr):
        print(f"step {step:4d}  PSNR {value:6.2f} dB")
    height, width = fitted.image.shape[:2]
    blended = fitted.blended_psnr
    of_blend = "" if blended is None else f", PSNR {blended:.2f} dB blended"
    print(f"{fitted.num_tiles} tiles: {width} x {height} pixels{of_blend}.")


def _report(fitted, values):
    """Prints what became of one signal."""
    psnr = fitted.psnr
    of_what = " of the observations" if fitted.of_observations else ""
    for step, value in enumerate(psnr):
        print(f"step {step:4d}  PSNR{of_what} {value:6.2f} dB")
    best = max(range(len(psnr)), key=psnr.__getitem__, default=0)
    if best < len(psnr) - 1 and not of_what:
        print(f"The best was step {best}: try --steps={best}.")
    if values.weights:
        size = pathlib.Path(values.weights).stat().st_size / 1000
        of_code = (
            f", {values.bits} bits a weight, PSNR{of_what} "
            f"{fitted.coded_psnr:.2f} dB"
            if values.bits
            else ""
        )
        print(f"Weights in {values.weights}: {size:.1f} kB{of_code}.")


def run():
    """The command `tfmetainit-fit`."""
    for name, text in (
        ("workdir", "Folder of a training run; default: photos_128."),
        ("artifact", "Instead of --workdir: an exported .tflite file."),
        ("input", "The file to fit, such as an image, or an old --weights."),
        (
            "output",
            "The picture to write; default: photo_fit.png by photo.jpg.",
        ),
        ("resolution", "Longer side of the rendering, 512, or 512x384."),
        ("weights", "Also write the weights, as .npz."),
        ("tiles", "Fit a large picture in tiles: auto, or 4 along a side."),
        *modalities.DETAILS.items(),
    ):
        flags.DEFINE_string(name, None, text)
    flags.DEFINE_integer(
        "steps", None, "Gradient steps; default: as many as in training."
    )
    flags.DEFINE_integer(
        "bits", None, "Write --weights as changes of so many bits: 8, 6, 5."
    )
    flags.DEFINE_bool("crop", False, "Fit the central square of a picture.")
    cli.run(main, __doc__, arguments=1)


if __name__ == "__main__":
    run()
