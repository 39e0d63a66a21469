"""`python -m tfmetainit.export` and `fit --artifact`, as users run them."""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import skimage.data
from PIL import Image

from tfmetainit import fit
from tfmetainit.export import exporter, held_out
from tfmetainit.io import images
from tfmetainit.io.errors import InputError, UserError
from tfmetainit.litert import artifact


@pytest.fixture(scope="module")
def folder(tmp_path_factory, smoke_run):
    """A folder with a smoke run, its export, and a photograph."""
    folder = tmp_path_factory.mktemp("artifact")
    shutil.copytree(smoke_run / "run", folder / "run")
    exporter.export(folder / "run", folder / "exported", max_steps=5)
    Image.fromarray(skimage.data.astronaut()).save(folder / "photo.png")
    return folder


def test_export_says_what_it_wrote(folder, tmp_path, run_command):
    result = run_command(
        "export",
        *(f"--workdir={folder / 'run'}", "--output_dir=out/text"),
        *("--precision=float16", "--license=CC0", "--num_points=300"),
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    assert not result.stderr.strip()
    out = tmp_path / "out" / "text"
    for path in out.rglob("*"):
        if path.is_file():
            assert path.relative_to(out).as_posix() in result.stdout
            assert f"{path.stat().st_size:,} bytes" in result.stdout
    for part in ("BATCH_MATMUL", "fit_predict(", "adapt(", "of Python's"):
        assert part in result.stdout
    metadata = json.loads((out / "metadata.json").read_text())
    artifact = artifact.LiteArtifact(out / "model.tflite")
    assert artifact.metadata == metadata
    assert artifact.num_points == metadata["num_points"] == 300
    assert metadata["license"] == "CC0"
    assert metadata["signal"]["resolution"] == 16
    assert metadata["expected_psnr"]["after_steps"] == 2
    assert "data_dir" not in metadata["config"]["signal"]
    assert str(folder.parent) not in json.dumps(metadata)
    assert sorted(os.listdir(tmp_path / "out")) == ["text"]


def test_an_earlier_export_is_replaced_and_nothing_else(folder, tmp_path):
    out = tmp_path / "out"
    exporter.export(folder / "run", out, formats=["saved_model", "tflite"])
    exporter.export(folder / "run", out, formats=["tflite"])
    assert sorted(os.listdir(out)) == ["metadata.json", "model.tflite"]
    assert sorted(os.listdir(tmp_path)) == ["out"]
    (out / "fit.png").write_text("mine")
    with pytest.raises(InputError, match=r"may hold nothing.*with fit\.png"):
        exporter.export(folder / "run", out)
    assert (out / "fit.png").read_text() == "mine"
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "metadata.json").write_text("{}")
    with pytest.raises(InputError, match="which holds other files"):
        exporter.export(folder / "run", mine)
    assert os.listdir(mine) == ["metadata.json"]


def test_an_export_that_differs_from_python_fails(
    folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(held_out, "TOLERANCE", 0.0)
    with pytest.raises(UserError, match="may differ from Python's by 0"):
        exporter.export(folder / "run", tmp_path / "out")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--formats=onnx"], ["--formats must be among", "Received: onnx"]),
        (["--precision=int8"], ["--precision must be one of", "int8"]),
        (["--max_steps=0"], ["--max_steps must lie in [1,"]),
        (["--num_points=0"], ["--num_points must lie in [1,"]),
        (["--num_points=x"], ["num_points"]),
        (["--input=none.png"], ["There is no file none.png"]),
        (["--workdir=none"], ["where there is no config.json"]),
        (["--output_dir=photo.png"], ["which holds other files"]),
    ],
)
def test_bad_flags_are_one_sentence(
    folder, tmp_path, arguments, parts, run_command, assert_one_sentence
):
    (tmp_path / "photo.png").write_bytes(b"")
    defaults = [f"--workdir={folder / 'run'}", "--output_dir=out"]
    result = run_command("export", *defaults, *arguments, cwd=tmp_path)
    assert_one_sentence(result, *parts)
    assert os.listdir(tmp_path) == ["photo.png"]


def test_both_forms_of_fit_agree(folder, tmp_path):
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
            folder / "photo.png",
            picture,
            steps=7,
            resolution=(20, 30),
            weights=weights,
            **options,
        ).psnr
        results.append((psnr, images.read_image(picture), np.load(weights)))
    (psnr, picture, weights), (psnr_2, picture_2, weights_2) = results
    np.testing.assert_allclose(psnr_2, psnr, atol=1e-4)
    assert picture.shape == (20, 30, 3)
    np.testing.assert_allclose(picture_2, picture, atol=1.01 / 255)
    assert weights.files == weights_2.files
    for name in weights.files:
        assert weights[name].shape == weights_2[name].shape
        np.testing.assert_allclose(weights_2[name], weights[name], atol=1e-5)


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


def test_fit_needs_numpy_pillow_and_litert_only(
    folder, tmp_path, assert_one_sentence
):
    """A phone-like environment: not even absl."""
    allowed = _modules_of("numpy", "pillow", "ai-edge-litert")
    assert not {"tensorflow", "keras", "absl"} & allowed

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
        "There is no file none.png.",
    )
    assert_one_sentence(run(artifact, "--stepz=3"), "--stepz")
    assert_one_sentence(
        run("--workdir=run", "--input=a.png", "--output=b.png"),
        "--workdir needs keras: pip install tfmetainit.",
    )
    assert "--artifact" in run("--help").stdout


@pytest.mark.parametrize("broken", ["_expected", "predicted"])
def test_a_number_that_is_none_is_a_difference(folder, tmp_path, broken):
    compare = held_out.Case.compare

    def broken_compare(case, name, predicted):
        if broken == "predicted":
            predicted = (predicted[0], np.full_like(predicted[1], np.nan))
        else:
            before, after = case._expected
            case._expected = (before, np.full_like(after, np.nan))
        return compare(case, name, predicted)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(held_out.Case, "compare", broken_compare)
        with pytest.raises(UserError, match="Received: a difference of nan"):
            exporter.export(folder / "run", tmp_path / "out")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inner_steps": float("inf")}, "are not valid: OverflowError"),
        ({"params": [{"shape": [3]}]}, "do not add up"),
        ({"params": [{"shape": [-1]}]}, "no positive number"),
        ({"params": None}, "are not valid: TypeError"),
        ({"signal": {"kind": "image", "resolution": 16.5}}, "whole number"),
        ({"signal": {"kind": ["image"]}}, "one of the kind"),
        (
            {
                "signal": {
                    "kind": "ct",
                    "resolution": 16,
                    "interpolation": "nearst",
                    "views": 4,
                }
            },
            "not valid: `interpolation` must be one of",
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
            "signals is not valid",
        ),
        (
            {
                "signal": {
                    "kind": "ct",
                    "resolution": 16,
                    "interpolation": "nearest",
                    "views": 4,
                }
            },
            "artifact's inputs must have the shape",
        ),
    ],
)
def test_metadata_of_another_file(
    folder, tmp_path, monkeypatch, change, message
):
    read = artifact.read_metadata
    monkeypatch.setattr(
        artifact, "read_metadata", lambda *of: {**read(*of), **change}
    )
    with pytest.raises(InputError, match=message):
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
        (["--artifact=photo.png"], ["photo.png is not a .tflite file"]),
        (["--artifact=none.tflite"], ["Cannot read none.tflite"]),
        (["--artifact={model}", "--workdir=run"], ["One of --workdir"]),
        (["--artifact={model}", "--steps=-1"], ["--steps must lie in"]),
        (["--artifact={model}", "--output=b.mp3"], ["must end in .png"]),
        (["--artifact={model}", "--input=model.txt"], ["There is no file"]),
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


def test_an_artifact_of_other_signals_says_so(folder, tmp_path, monkeypatch):
    read = artifact.read_metadata

    def other(content, path):
        return {**read(content, path), "signal": {"kind": "sounds"}}

    monkeypatch.setattr(artifact, "read_metadata", other)
    with pytest.raises(InputError, match="of the kind 'sounds'"):
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


def test_the_console_script_is_installed():
    path = os.path.join(os.path.dirname(sys.executable), "tfmetainit-export")
    result = subprocess.run([path, "--help"], capture_output=True, text=True)
    assert "python -m tfmetainit.export --" in result.stdout
    assert "--precision" in result.stdout
