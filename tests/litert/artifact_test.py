"""`fit --artifact`, as users run it."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import skimage.data
from PIL import Image

from tfmetainit import fit, train
from tfmetainit.export import exporter
from tfmetainit.io import images
from tfmetainit.io.errors import InputError
from tfmetainit.litert import ArtifactFitter, artifact
from tfmetainit.runs import RunFitter


@pytest.fixture(scope="module")
def folder(tmp_path_factory, smoke_run):
    """A folder with a smoke run, its export, and a photograph."""
    folder = tmp_path_factory.mktemp("artifact")
    shutil.copytree(smoke_run / "run", folder / "run")
    exporter.export(folder / "run", folder / "exported", max_steps=5)
    photo = Image.fromarray(skimage.data.astronaut())
    photo.save(folder / "photo.png")
    photo.crop((0, 100, 512, 300)).save(folder / "wide.png")
    return folder


@pytest.mark.parametrize(("name", "height"), [("photo", 30), ("wide", 12)])
def test_both_forms_of_fit_agree(folder, tmp_path, name, height):
    results = []
    for index, source in enumerate(
        (
            {"workdir": folder / "run"},
            {"artifact": folder / "exported" / "model.tflite"},
        )
    ):
        options = {"workdir": None, **source}
        picture, weights = tmp_path / f"{index}.png", tmp_path / f"{index}.npz"
        psnr = fit.fit(
            options.pop("workdir"),
            folder / f"{name}.png",
            picture,
            steps=7,
            resolution=30,
            weights=weights,
            **options,
        ).psnr
        results.append((psnr, images.read_image(picture), np.load(weights)))
    (psnr, picture, weights), (psnr_2, picture_2, weights_2) = results
    np.testing.assert_allclose(psnr_2, psnr, atol=1e-4)
    assert picture.shape == (height, 30, 3)
    np.testing.assert_allclose(picture_2, picture, atol=1.01 / 255)
    assert weights.files == weights_2.files
    for name in weights.files:
        assert weights[name].shape == weights_2[name].shape
        np.testing.assert_allclose(weights_2[name], weights[name], atol=1e-5)


def test_a_part_of_a_picture_is_fitted_in_halves_alike(small_config, tmp_path):
    """Steps alone, and what their weights are worth."""
    config = small_config(
        **{
            "learner.output_layer": "stepped",
            "prior.num_signals": 0,
        }
    )
    train.train(config, tmp_path / "run")
    exporter.export(tmp_path / "run", tmp_path / "exported")
    rng = np.random.default_rng(0)
    known = rng.random((16, 16)) < 0.6  # 141 pixels, an odd number
    picture = rng.random((16, 16, 3), np.float32)
    results = []
    for fitter in (
        RunFitter(tmp_path / "run"),
        ArtifactFitter(tmp_path / "exported" / "model.tflite"),
    ):
        sample = fitter.modality.observe(picture, known)
        (fitted,) = fitter.fit([sample], 4, range(5))
        results.append(([*fitted.psnr.values()], fitted.theta))
        assert fitter.score(fitted.theta, sample) == pytest.approx(
            fitted.psnr[4], abs=1e-4
        )
    (psnr, theta), (psnr_2, theta_2) = results
    np.testing.assert_allclose(psnr_2, psnr, atol=1e-4)
    np.testing.assert_allclose(theta_2, theta, atol=1e-5)


# Runs a module where only some packages can be imported.
_ONLY = """
import runpy, sys
allowed = set({allowed!r}) | set(sys.stdlib_module_names)
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in allowed:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Finder())
sys.argv = ["fit"] + {arguments!r}
runpy.run_module("tfmetainit.fit", run_name="__main__")
"""


def _modules_of(*names):
    """Import names of some distributions and of all that they require."""
    waiting, distributions = list(names), set()
    while waiting:
        name = waiting.pop()
        if name in distributions:
            continue
        distributions.add(name)
        for requirement in importlib.metadata.requires(name) or []:
            if ";" not in requirement:  # extras, and other platforms
                waiting.append(re.match(r"[\w.-]+", requirement)[0].lower())
    # Not packages_distributions(), which in Python 3.10 lacks some.
    return {
        file.parts[0].partition(".")[0]
        for name in distributions
        for file in importlib.metadata.files(name)
    }


def test_fit_needs_numpy_pillow_absl_and_litert_only(
    folder, tmp_path, assert_one_sentence
):
    """The environment of a small device."""
    allowed = _modules_of("numpy", "pillow", "absl-py", "ai-edge-litert")
    assert not {"tensorflow", "keras", "ml_collections"} & allowed

    def run(*arguments):
        code = _ONLY.format(
            allowed=[*allowed, "tfmetainit"], arguments=list(arguments)
        )
        return subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            cwd=tmp_path,
        )

    artifact = f"--artifact={folder / 'exported' / 'model.tflite'}"
    result = run(
        *(artifact, f"--input={folder / 'photo.png'}"),
        *("--output=a.png", "--steps=3", "--weights=a.npz"),
    )
    assert result.returncode == 0, result.stderr
    assert not result.stderr
    assert "step    3  PSNR" in result.stdout
    assert sorted(os.listdir(tmp_path)) == ["a.npz", "a.png"]
    assert_one_sentence(
        run(artifact, "--input=none.png", "--output=b.png"),
        "none.png",
    )
    assert_one_sentence(run(artifact, "--stepz=3"), "stepz")
    assert_one_sentence(
        run("--workdir=run", "--input=a.png", "--output=b.png"),
        "--workdir",
        "keras",
    )
    assert "--artifact" in run("--help").stdout


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"inner_steps": float("inf")}, ["OverflowError"]),
        ({"params": [{"shape": [3]}]}, ["model.tflite", "ValueError"]),
        ({"params": [{"shape": [-1]}]}, ["model.tflite", "ValueError"]),
        ({"params": None}, ["TypeError"]),
        (
            {"signal": {"kind": "image", "resolution": 16.5}},
            ["resolution", "16.5"],
        ),
        ({"signal": {"kind": ["image"]}}, ["['image']"]),
        (
            {
                "signal": {
                    "kind": "ct",
                    "resolution": 16,
                    "interpolation": "nearst",
                    "projections": 4,
                }
            },
            ["`interpolation`", "nearst"],
        ),
        (
            {
                "signal": {
                    "kind": "landmark",
                    "resolution": 16,
                    "scale": "x",
                    "num_samples": 4,
                    "rays_per_step": 4,
                }
            },
            ["`scale`", "x"],
        ),
        (
            {
                "signal": {
                    "kind": "ct",
                    "resolution": 16,
                    "interpolation": "nearest",
                    "projections": 4,
                }
            },
            ["inputs", "(2,)"],
        ),
    ],
)
def test_metadata_of_another_file(
    folder, tmp_path, monkeypatch, change, parts, raises_with
):
    read = artifact.read_metadata
    monkeypatch.setattr(
        artifact, "read_metadata", lambda *of: {**read(*of), **change}
    )
    with raises_with(InputError, *parts):
        fit.fit(
            None,
            folder / "photo.png",
            tmp_path / "a.png",
            artifact=folder / "exported" / "model.tflite",
        )
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--artifact=photo.png"], ["photo.png", ".tflite"]),
        (["--artifact=none.tflite"], ["none.tflite"]),
        (["--artifact={model}", "--workdir=run"], ["--workdir", "--artifact"]),
        (["--artifact={model}", "--steps=-1"], ["--steps", "-1"]),
        (["--artifact={model}", "--output=b.mp3"], [".png", "b.mp3"]),
        (["--artifact={model}", "--input=model.txt"], ["model.txt"]),
    ],
)
def test_bad_artifacts_and_flags_are_one_sentence(
    folder, tmp_path, arguments, parts, run_command, assert_one_sentence
):
    (tmp_path / "photo.png").write_bytes((folder / "photo.png").read_bytes())
    model = folder / "exported" / "model.tflite"
    result = run_command(
        "fit",
        *("--input=photo.png", "--output=b.png"),
        *(argument.format(model=model) for argument in arguments),
        cwd=tmp_path,
    )
    assert_one_sentence(result, *parts)
    assert os.listdir(tmp_path) == ["photo.png"]


def test_an_artifact_of_other_signals_says_so(
    folder, tmp_path, monkeypatch, raises_with
):
    read = artifact.read_metadata

    def other(content, path):
        return {**read(content, path), "signal": {"kind": "sounds"}}

    monkeypatch.setattr(artifact, "read_metadata", other)
    with raises_with(InputError, "'sounds'"):
        fit.fit(
            None,
            folder / "photo.png",
            tmp_path / "a.png",
            artifact=folder / "exported" / "model.tflite",
        )


def test_an_artifact_may_take_fewer_points_than_there_are_pixels(
    folder, tmp_path
):
    exporter.export(
        folder / "run", tmp_path / "few", formats=["tflite"], num_points=100
    )
    psnr = fit.fit(
        None,
        folder / "photo.png",
        tmp_path / "a.png",
        artifact=tmp_path / "few" / "model.tflite",
        steps=4,
    ).psnr
    assert psnr[-1] > psnr[0]
