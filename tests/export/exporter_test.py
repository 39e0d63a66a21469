"""`python -m tfmetainit.export`, as users run it."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import skimage.data
from PIL import Image

from tfmetainit.export import exporter, held_out
from tfmetainit.io.errors import InputError, UserError
from tfmetainit.litert.artifact import LiteArtifact


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
    artifact = LiteArtifact(out / "model.tflite")
    assert artifact.metadata == metadata
    assert artifact.num_points == metadata["num_points"] == 300
    assert metadata["license"] == "CC0"
    assert metadata["gpu"]
    assert (
        "GPU delegates take predict, adapt_step, adapt_half, solve_output"
        in (result.stdout)
    )
    assert metadata["signal"]["resolution"] == 16
    assert metadata["expected_psnr"]["after_steps"] == 2
    assert "data_dir" not in metadata["config"]["signal"]
    assert str(folder.parent) not in json.dumps(metadata)
    assert sorted(os.listdir(tmp_path / "out")) == ["text"]


def test_an_earlier_export_is_replaced_and_nothing_else(
    folder, tmp_path, raises_with
):
    out = tmp_path / "out"
    exporter.export(folder / "run", out, formats=["saved_model", "tflite"])
    exporter.export(folder / "run", out, formats=["tflite"])
    assert sorted(os.listdir(out)) == ["metadata.json", "model.tflite"]
    assert sorted(os.listdir(tmp_path)) == ["out"]
    (out / "fit.png").write_text("mine")
    with raises_with(InputError, "`output_dir`", out, "fit.png"):
        exporter.export(folder / "run", out)
    assert (out / "fit.png").read_text() == "mine"
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "metadata.json").write_text("{}")
    with raises_with(InputError, "`output_dir`", mine):
        exporter.export(folder / "run", mine)
    assert os.listdir(mine) == ["metadata.json"]


def test_an_export_that_differs_from_python_fails(
    folder, tmp_path, monkeypatch, raises_with
):
    monkeypatch.setattr(held_out, "TOLERANCE", 1e-30)
    monkeypatch.setattr(held_out, "SOLVED_TOLERANCE", 1e-30)
    with raises_with(UserError, 1e-30):
        exporter.export(folder / "run", tmp_path / "out")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--formats=onnx"], ["--formats", "onnx"]),
        (["--precision=int8"], ["--precision", "int8"]),
        (["--max_steps=0"], ["--max_steps", "[1,"]),
        (["--num_points=0"], ["--num_points", "[1,"]),
        (["--num_points=x"], ["num_points"]),
        (["--input=none.png"], ["none.png"]),
        (["--workdir=none"], ["--workdir", "none", "config.json"]),
        (["--output_dir=photo.png"], ["--output_dir", "photo.png"]),
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


@pytest.mark.parametrize("broken", ["_expected", "predicted"])
def test_a_number_that_is_none_is_a_difference(
    folder, tmp_path, broken, raises_with
):
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
        with raises_with(UserError, "nan"):
            exporter.export(folder / "run", tmp_path / "out")
    assert not os.listdir(tmp_path)


def test_the_console_script_is_installed():
    path = os.path.join(os.path.dirname(sys.executable), "tfmetainit-export")
    result = subprocess.run([path, "--help"], capture_output=True, text=True)
    assert "python -m tfmetainit.export --" in result.stdout
    assert "--precision" in result.stdout
