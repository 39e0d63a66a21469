"""Pictures larger than a field holds, in tiles."""

import numpy as np
import pytest

from tfmetainit import fit
from tfmetainit.geometry import tiles
from tfmetainit.io import images
from tfmetainit.io.errors import InputError
from tfmetainit.modalities import overlap_of


@pytest.fixture
def write(tmp_path):
    def make(height, width):
        rows, columns = np.mgrid[:height, :width] / 40
        image = np.stack([np.sin(rows), np.cos(columns), rows / 9], -1) / 2
        images.write_image(tmp_path / "a.png", np.clip(image + 0.5, 0, 1))
        return tmp_path / "a.png"

    return make


def _overlap(height, width, side):
    return tiles.cover(height, width, side, overlap_of(side))


def test_one_tile_is_a_fit(smoke_run, write, tmp_path):
    path, run = write(16, 12), smoke_run / "run"
    whole = fit.fit(
        run, path, tmp_path / "whole.png", steps=3, resolution=(16, 12)
    )
    tiled = fit.fit_in_tiles(run, path, tmp_path / "one.png", "auto", steps=3)
    assert tiled.num_tiles == 1
    np.testing.assert_allclose(tiled.psnr, whole.psnr, atol=1e-4)
    np.testing.assert_allclose(
        *(images.read_image(tmp_path / f"{n}.png") for n in ("whole", "one")),
        atol=1.1 / 255,
    )


def test_a_picture_keeps_its_size_and_is_better_than_one_field(
    smoke_run, write, tmp_path
):
    path, run, output = write(40, 29), smoke_run / "run", tmp_path / "b.png"
    fitted = fit.fit_in_tiles(run, path, output, "auto", steps=8)
    assert fitted.num_tiles == len(_overlap(40, 29, 16)) == 6
    assert len(fitted.psnr) == 9
    picture, drawn = images.read_image(path), images.read_image(output)
    assert drawn.shape == (40, 29, 3)
    mse = np.mean((fitted.image - picture) ** 2)
    assert fitted.blended_psnr == pytest.approx(-10 * np.log10(mse), abs=1e-3)
    fit.fit(run, path, output, steps=8, resolution=(40, 29))
    assert mse < np.mean((images.read_image(output) - picture) ** 2)


@pytest.mark.parametrize("resolution", [120, (120, 87)])
def test_tiles_are_rendered_at_a_whole_multiple(
    resolution, smoke_run, write, tmp_path
):
    fitted = fit.fit_in_tiles(
        smoke_run / "run",
        write(40, 29),
        tmp_path / "b.png",
        "auto",
        resolution=resolution,
    )
    assert fitted.image.shape == (120, 87, 3)
    assert fitted.blended_psnr is None


def test_a_number_of_tiles_and_a_crop(smoke_run, write, tmp_path):
    fitted = fit.fit_in_tiles(
        smoke_run / "run", write(90, 60), tmp_path / "b.png", 3, crop=True
    )
    side = tiles.length_of(3, 16, overlap_of(16))
    assert fitted.image.shape == (side, side, 3)
    assert fitted.num_tiles == 9


@pytest.mark.parametrize(
    ("count", "options", "parts"),
    [
        (0, {}, ["`tiles`", "0"]),
        (1024, {}, ["`tiles`", "1024", "14338x10395"]),
        ("auto", {"resolution": 50}, ["`resolution`", "40", "50"]),
        ("auto", {"resolution": (80, 60)}, ["`resolution`", "(80, 60)"]),
        ("auto", {"resolution": 16_000}, ["pixels", "16000x11600"]),
        ("auto", {"steps": -1}, ["`steps`", "-1"]),
    ],
)
def test_what_is_wrong_is_named(
    count, options, parts, smoke_run, write, tmp_path, raises_with
):
    run, output = smoke_run / "run", tmp_path / "b.png"
    with raises_with(InputError, *parts):
        fit.fit_in_tiles(run, write(40, 29), output, count, **options)
    assert not output.exists()


def test_a_fit_that_diverges_writes_nothing(
    smoke_run, write, tmp_path, monkeypatch, raises_with
):
    class Diverging:
        def __init__(self, workdir):
            self._fitter = RunFitter(workdir)

        def __getattr__(self, name):
            return getattr(self._fitter, name)

        def fit(self, samples, steps, scored):
            fits = self._fitter.fit(samples, steps, scored)
            return [f._replace(psnr=f.psnr | {1: np.nan}) for f in fits]

    from tfmetainit.runs import RunFitter

    monkeypatch.setattr("tfmetainit.runs.RunFitter", Diverging)
    with raises_with(Exception, "step 1"):
        fit.fit_in_tiles(
            smoke_run / "run", write(40, 29), tmp_path / "b.png", "auto"
        )
    assert not (tmp_path / "b.png").exists()
