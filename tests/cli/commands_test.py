"""The commands as a user runs them: output, exit codes, no tracebacks."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import skimage.data
from PIL import Image

from tfmetainit import evaluate, fit, runs, train
from tfmetainit.configs import text
from tfmetainit.geometry import pixels
from tfmetainit.io import images
from tfmetainit.io.errors import InputError, UserError
from tfmetainit.meta.step_sizes import StepSizes


@pytest.fixture(scope="module")
def folder(tmp_path_factory, run_command):
    """A folder with a trained smoke run and a photograph."""
    folder = tmp_path_factory.mktemp("commands")
    result = run_command(
        "train",
        "--config=configs/text.py:smoke",
        f"--workdir={folder / 'run'}",
        f"--config.signal.data_dir={folder / 'data'}",
        "--config.seed=3",
        cwd=folder,  # no checkout here: the installed config is found
    )
    assert result.returncode == 0, result.stderr
    assert "val_psnr_2" in result.stdout
    assert "Best validation PSNR after 2 steps" in result.stdout
    assert f"--workdir={folder / 'run'}" in result.stdout
    assert "cuda" not in result.stderr.lower()
    Image.fromarray(skimage.data.astronaut()).save(folder / "photo.png")
    return folder


def test_evaluate(folder, run_command):
    result = run_command("evaluate", f"--workdir={folder / 'run'}")
    assert result.returncode == 0, result.stderr
    output = folder / "run" / "evaluation"
    results = json.loads((output / "results.json").read_text())
    (results,) = results["conditions"]
    labels = [row["method"] for row in results["rows"]]
    assert labels == [
        "Learned",
        "Learned (stepped)",
        "Standard (solved)",
        "Standard (SGD)",
        "Standard",
        "Mean",
        "Matched",
        "Shuffled",
        "Learned (Adam)",
    ]
    assert results["num_signals"] == 4
    for row in results["rows"]:
        assert len(row["psnr"]) == 5
        assert np.isfinite(row["psnr"]).all()
        assert -1.0 <= row["ssim"] <= 1.0
    assert results["standard_to_match"]["max_steps"] == 8
    table = (output / "results.md").read_text()
    assert table.strip() in result.stdout
    seen = "SGD, learned step sizes, half of the pixels"
    assert f"| Learned | {seen}, solved | " in table
    assert f"| Learned (stepped) | {seen} | " in table
    for name in ("curves.png", "reconstructions.png"):
        with Image.open(output / name) as image:
            assert image.size[0] > 300
    assert sorted(os.listdir(output)) == [
        "curves.png",
        "reconstructions.png",
        "results.json",
        "results.md",
    ]


@pytest.mark.slow
def test_evaluate_leaves_the_learned_weights(folder, raises_with):
    """Learned scores the same alone as after all the baselines, and as
    another run's.
    """
    options = {"num_steps": 2, "num_signals": 2, "num_tuning_signals": 1}

    def scored(name, against=()):
        return evaluate.evaluate(
            folder / "run", folder / name, None, options, against
        )["conditions"][0]

    first = scored("a")
    again = scored("b", [folder / "run"])
    assert first["rows"][0] == again["rows"][0]
    other = again["rows"][1]
    assert other["method"] == "Learned: run"
    assert other["psnr"] == first["rows"][0]["psnr"]
    assert len(again["rows"]) == len(first["rows"]) + 1
    # Of two folders of one name, each has a row of its own.
    shutil.copytree(folder / "run", folder / "other" / "run")
    paths = [folder / "run", folder / "other" / "run"]
    rows = scored("c", paths)["rows"]
    assert [row["method"] for row in rows[1:3]] == [
        f"Learned: {path}" for path in paths
    ]
    config = text.get_config("smoke")
    config.signal.data_dir = str(folder / "data")
    config.field.hidden_units = 8
    train.train(config, folder / "narrow")
    with raises_with(InputError, "`against`", "narrow"):
        evaluate.evaluate(folder / "run", against=[folder / "narrow"])


def test_evaluate_names_the_run_that_cannot_fit(folder, raises_with):
    """Its steps see halves of pictures, and the signals are random pixels."""
    shutil.copytree(folder / "run", folder / "points")
    path = folder / "points" / "config.json"
    config = json.loads(path.read_text())
    config["signal"]["points_per_step"] = 64
    config["learner"]["step_on"] = "all"
    path.write_text(json.dumps(config))
    with raises_with(InputError, "`against`", folder / "run", "halves", "64"):
        evaluate.evaluate(folder / "points", against=[folder / "run"])


def test_evaluate_with_some_rows(folder, raises_with):
    options = {"num_steps": 2, "num_signals": 2, "num_tuning_signals": 1}

    def rows(name, chosen):
        results = evaluate.evaluate(
            folder / "run", folder / name, None, options, (), chosen
        )
        return [row["method"] for row in results["conditions"][0]["rows"]]

    assert rows("none", ()) == ["Learned", "Standard"]
    assert rows("two", ("Learned (Adam)", "Matched")) == [
        *("Learned", "Standard", "Matched", "Learned (Adam)")
    ]
    with raises_with(InputError, "`rows`", "Shuffled", "standard"):
        rows("wrong", ("Matched", "standard"))
    with raises_with(InputError, "`rows`", "Matched"):
        rows("wrong", "Matched")
    assert not (folder / "wrong").exists()


def test_evaluate_long_fits(folder):
    """They are scored at some of their steps."""
    options = {"num_steps": 40, "num_signals": 2, "num_tuning_signals": 1}
    shutil.copytree(folder / "run", folder / "longer")
    path = folder / "longer" / "config.json"
    config = json.loads(path.read_text())
    config["learner"]["inner_steps"] = 35
    config["learner"]["eval_steps"] = 35
    path.write_text(json.dumps(config))
    evaluate.evaluate(folder / "longer", folder / "long", None, options, (), ())
    results = json.loads((folder / "long" / "results.json").read_text())
    for row in results["conditions"][0]["rows"]:
        missing = [k for k, psnr in enumerate(row["psnr"]) if psnr is None]
        assert missing == [33, 37, 39]
    assert "nan" not in (folder / "long" / "results.md").read_text()


def test_evaluate_takes_the_signals_there_are(folder):
    """The smoke class holds 8 test signals."""
    options = {"num_signals": 99, "num_steps": 2}
    results = evaluate.evaluate(folder / "run", folder / "c", options=options)
    assert results["conditions"][0]["num_signals"] == 8


def test_evaluate_on_another_class(folder, run_command):
    result = run_command(
        "evaluate",
        f"--workdir={folder / 'run'}",
        "--on=configs/sdf.py:smoke",
        f"--on.signal.data_dir={folder / 'data'}",
        "--num_steps=2",
        "--num_signals=2",
    )
    assert result.returncode == 0, result.stderr
    path = folder / "run" / "evaluation_on_sdf" / "results.json"
    results = json.loads(path.read_text())
    assert (results["trained_on"], results["evaluated_on"]) == ("text", "sdf")
    assert results["conditions"][0]["num_signals"] == 2
    assert len(results["conditions"][0]["rows"][0]["psnr"]) == 3


def test_evaluate_options_from_python(folder, raises_with):
    config = text.get_config("smoke")
    before = config.to_json()
    with raises_with(InputError, "'num_signal'"):
        evaluate.evaluate(folder / "run", on=config, options={"num_signal": 2})
    with raises_with(InputError, "num_steps`"):
        evaluate.evaluate(folder / "run", on=config, options={"num_steps": 0})
    assert config.to_json() == before
    with raises_with(InputError, "`against`", "chairs_64"):
        evaluate.evaluate(folder / "run", against="chairs_64")


def test_evaluate_errors(folder, tmp_path, run_command, assert_one_sentence):
    assert_one_sentence(
        run_command("evaluate", f"--workdir={tmp_path}"),
        "--workdir",
        str(tmp_path),
    )
    assert_one_sentence(
        run_command(
            "evaluate", f"--workdir={folder / 'run'}", "--num_steps=-1"
        ),
        "num_steps",
        "-1",
    )
    assert_one_sentence(
        run_command(
            "evaluate",
            f"--workdir={folder / 'run'}",
            "--on=configs/text.py:smoke",
            "--on.evaluation.sgd_rates=()",
        ),
        "--on.evaluation.sgd_rates",
        "()",
    )


def test_fit_a_photograph(folder, tmp_path, run_command):
    result = run_command(
        "fit",
        f"--workdir={folder / 'run'}",
        f"--input={folder / 'photo.png'}",
        f"--output={tmp_path / 'fit.png'}",
        f"--weights={tmp_path / 'fit.npz'}",
        "--steps=3",
        "--resolution=40x40",
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count(" dB") == 4
    with Image.open(tmp_path / "fit.png") as image:
        assert image.size == (40, 40)
    assert np.load(tmp_path / "fit.npz")["layer0/kernel"].shape == (2, 16)


def test_fit_without_any_flag(tmp_path, run_command, assert_one_sentence):
    """The package's weights, its own steps, a picture beside the input."""
    Image.fromarray(skimage.data.astronaut()).save(tmp_path / "photo.jpg")
    result = run_command("fit", "photo.jpg", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("step ") == 5
    assert "photo_fit.png" in result.stdout
    with Image.open(tmp_path / "photo_fit.png") as picture:
        assert picture.size == (128, 128)
    for wrong in ([], ["a.png", "--input=b.png"]):
        result = run_command("fit", *wrong, cwd=tmp_path)
        assert_one_sentence(result, "photo.jpg", "--input")
    result = run_command("fit", "a.png", "b.png", cwd=tmp_path)
    assert_one_sentence(result, "b.png")
    assert_one_sentence(run_command("fit", ".", cwd=tmp_path), "--output")
    mask = ["--mask=m.png", "--output=m.png"]
    result = run_command("fit", "photo.jpg", *mask, cwd=tmp_path)
    assert_one_sentence(result, "--mask", "m.png")


def test_a_fit_is_read_back(folder, tmp_path, run_command, raises_with):
    """From all weights, and from codes of a few bits."""
    common = [f"--workdir={folder / 'run'}", "--resolution=40"]
    for bits in (None, 12, 4):
        fitted = run_command(
            "fit",
            *common,
            f"--input={folder / 'photo.png'}",
            f"--output={tmp_path / 'a.png'}",
            f"--weights={tmp_path / 'fit.npz'}",
            *([f"--bits={bits}"] if bits else []),
        )
        assert fitted.returncode == 0, fitted.stderr
        assert " kB" in fitted.stdout
        assert (f"{bits} bits" in fitted.stdout) == (bits is not None)
        drawn = run_command(
            "fit",
            *common,
            f"--input={tmp_path / 'fit.npz'}",
            f"--output={tmp_path / 'b.png'}",
        )
        assert drawn.returncode == 0, drawn.stderr
        assert " dB" not in drawn.stdout
        picture, again = (
            images.read_image(tmp_path / name) for name in ("a.png", "b.png")
        )
        np.testing.assert_allclose(again, picture, atol=1.01 / 255)
    with raises_with(InputError, "`steps`", "fit.npz", 3):
        fit.fit(
            folder / "run",
            tmp_path / "fit.npz",
            tmp_path / "c.png",
            steps=3,
        )
    with raises_with(InputError, "`bits`", "`weights`"):
        fit.fit(
            folder / "run", folder / "photo.png", tmp_path / "c.png", bits=8
        )
    assert not (tmp_path / "c.png").exists()


def test_the_psnr_of_a_code_is_that_of_its_drawing(
    folder, tmp_path, raises_with
):
    wide = np.random.default_rng(0).random((5, 16, 3))
    images.write_image(tmp_path / "wide.png", wide)
    read = images.read_image(tmp_path / "wide.png")
    fitted = fit.fit(
        folder / "run",
        tmp_path / "wide.png",
        tmp_path / "a.png",
        weights=tmp_path / "fit.npz",
        bits=3,
    )
    square = pixels.resize(read, 16, 16)
    error = np.mean((fitted.render(16, 16) - square) ** 2)
    np.testing.assert_allclose(
        fitted.coded_psnr, -10 * np.log10(error), atol=0.05
    )
    assert fitted.coded_psnr != fitted.psnr[-1]
    back = fit.fit(folder / "run", tmp_path / "fit.npz", tmp_path / "b.png")
    np.testing.assert_array_equal(back.render(5, 16), fitted.render(5, 16))
    assert images.read_image(tmp_path / "b.png").shape == (16, 51, 3)
    # All weights keep the proportion, too; another resolution is noticed.
    fit.fit(
        folder / "run",
        tmp_path / "wide.png",
        tmp_path / "a.png",
        weights=tmp_path / "all.npz",
    )
    fit.fit(folder / "run", tmp_path / "all.npz", tmp_path / "b.png")
    assert images.read_image(tmp_path / "b.png").shape == (16, 51, 3)
    arrays = dict(np.load(tmp_path / "all.npz"))
    for size, part in (([20, 64], "64 x 20"), ([16, 2**31 - 1], "2147483647")):
        np.savez(tmp_path / "all.npz", **{**arrays, "size": np.int32(size)})
        with raises_with(InputError, part, "16"):
            fit.fit(folder / "run", tmp_path / "all.npz", tmp_path / "c.png")
    assert not (tmp_path / "c.png").exists()


@pytest.mark.parametrize("resolution", [0, 16_385, (0, 16), (-5, -5)])
def test_resolutions_out_of_range(resolution, folder, tmp_path, raises_with):
    with raises_with(InputError, "`resolution`"):
        fit.fit(
            folder / "run",
            folder / "photo.png",
            tmp_path / "a.png",
            resolution=resolution,
        )
    assert not (tmp_path / "a.png").exists()


def test_only_pictures_are_cropped(folder, tmp_path, raises_with):
    with raises_with(InputError, "`crop`", "ct"):
        fit.fit("ct_64", folder / "photo.png", tmp_path / "a.png", crop=True)


def test_fit_reports_the_psnr_of_what_it_draws(folder, tmp_path):
    psnr = fit.fit(
        folder / "run", folder / "photo.png", tmp_path / "fit.png", steps=5
    ).psnr
    assert len(psnr) == 6
    assert psnr[-1] > psnr[0]
    drawn = images.read_image(tmp_path / "fit.png")
    photo = skimage.data.astronaut() / 255.0
    small = pixels.crop_and_resize(photo, 16)
    mse = np.mean((drawn - small) ** 2)
    # The file is clipped and has 8 bits.
    np.testing.assert_allclose(-10 * np.log10(mse), psnr[-1], atol=0.1)


def test_fit_keeps_the_proportion_of_a_picture(folder, tmp_path):
    """The same, whatever its size; --crop takes the central square."""
    rows, columns = np.mgrid[:40, :120] / 120.0
    wide = np.stack([rows, columns, 0.5 + 0 * rows], axis=-1)
    images.write_image(tmp_path / "wide.png", wide)

    def run(name="wide.png", **options):
        fitted = fit.fit(
            folder / "run", tmp_path / name, tmp_path / "a.png", **options
        )
        return fitted, images.read_image(tmp_path / "a.png")

    whole, drawn = run(steps=30)
    assert drawn.shape == (16, 48, 3)
    square = pixels.resize(images.read_image(tmp_path / "wide.png"), 16, 16)
    images.write_image(tmp_path / "square.png", square)
    squashed, _ = run("square.png", steps=30)
    np.testing.assert_allclose(whole.psnr, squashed.psnr, atol=0.02)
    np.testing.assert_allclose(
        drawn, squashed.render(16, 48).clip(0, 1), atol=0.01
    )
    for resolution in (60, (20, 60)):
        assert run(resolution=resolution)[1].shape == (20, 60, 3)
    fitted, drawn = run(crop=True, steps=30)
    assert drawn.shape == (16, 16, 3)
    square = wide[:, 40:80]
    images.write_image(tmp_path / "square.png", square)
    np.testing.assert_allclose(
        run("square.png", steps=30)[0].psnr, fitted.psnr, atol=1e-3
    )
    images.write_image(tmp_path / "odd.png", np.full((100, 129, 3), 0.5))
    for resolution in range(1, 60, 3):
        drawn = run("odd.png", steps=0, resolution=resolution)[1]
        assert max(drawn.shape) == max(resolution, 3)
    # Standing: the same picture with rows and columns exchanged.
    images.write_image(tmp_path / "tall.png", wide.transpose(1, 0, 2))
    assert run("tall.png")[1].shape == (48, 16, 3)


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["--input=missing.png"], ["missing.png"]),
        (["--input=empty.png"], ["empty.png"]),
        (["--input=text.png"], ["text.png"]),
        (["--input=."], ["folder"]),
        (["--steps=-1"], ["--steps", "[0, 10000]", "-1"]),
        (["--resolution=big"], ["--resolution", "'big'"]),
        (["--resolution=0x9"], ["--resolution", "'0x9'"]),
        (["--resolution=20x40"], ["16 x 16", "40x40", "--crop"]),
        (["--resolution=16384x16384"], ["--resolution", "67108864"]),
        (["--output=out.xyz"], [".png", "out.xyz"]),
        (["--output=no/such/out.png"], ["no/such"]),
        (["--output={photo}"], ["--input", "photo.png"]),
        (["--weights=w.pkl"], ["--weights", ".npz", "w.pkl"]),
        (["--weights=no/such/w.npz"], ["no/such"]),
        (["--workdir=nothing"], ["--workdir", "nothing"]),
    ],
)
def test_fit_errors(
    folder, tmp_path, flags, parts, run_command, assert_one_sentence
):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("hello")
    before = sorted(os.listdir(tmp_path))
    result = run_command(
        "fit",
        f"--workdir={folder / 'run'}",
        f"--input={folder / 'photo.png'}",
        "--output=out.png",
        *(flag.format(photo=folder / "photo.png") for flag in flags),
        cwd=tmp_path,
    )
    assert_one_sentence(result, *parts)
    assert sorted(os.listdir(tmp_path)) == before


def test_a_diverging_fit_writes_nothing(
    folder, tmp_path, monkeypatch, raises_with
):
    real = StepSizes.as_params
    monkeypatch.setattr(
        StepSizes, "as_params", lambda self: [1e30 for _ in real(self)]
    )
    with raises_with(UserError, "`steps`", "9"):
        fit.fit(
            folder / "run", folder / "photo.png", tmp_path / "a.png", steps=9
        )
    assert not os.listdir(tmp_path)


def test_a_size_that_is_needed_is_asked_for_before_the_fit(
    tmp_path, monkeypatch, raises_with
):
    class NoSize:
        default_steps, modality, resolution = 2, None, None

        def __init__(self, workdir):
            del workdir

        def read(self, path):
            del path

    monkeypatch.setattr(runs, "RunFitter", NoSize)
    with raises_with(InputError, "`resolution`"):
        fit.fit("run", "photo.png", tmp_path / "a.png")
    assert not os.listdir(tmp_path)


def test_a_reader_that_leaves_and_an_end_that_is_asked_for(folder, tmp_path):
    """`fit | head -1`, and SIGTERM: nothing half-written, no traceback."""
    command = [
        *(sys.executable, "-m", "tfmetainit.fit", f"--workdir={folder}/run"),
        *("--input=photo.png", "--output=fit.png", "--steps=200"),
    ]
    Image.new("RGB", (20, 20)).save(tmp_path / "photo.png")
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.close()
    assert process.wait() == 1
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()
    (tmp_path / "fit.png").unlink()
    with subprocess.Popen(
        [*command[:-1], "--steps=10000"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while len(os.listdir(tmp_path)) == 1:  # until it opens its output
            assert process.poll() is None
            time.sleep(0.05)
        process.terminate()
        assert process.wait() == 128 + signal.SIGTERM
        assert "Traceback" not in process.stderr.read()
    assert os.listdir(tmp_path) == ["photo.png"]


def test_parse_resolution():
    assert fit.parse_resolution("12x34") == (12, 34)
    assert fit.parse_resolution("512") == 512
    for wrong in ("12x34x5", "", "0", "16385", "12x", "x12"):
        with pytest.raises(InputError):
            fit.parse_resolution(wrong)


def test_commands_choose_keras_s_backend(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "numpy")
    subprocess.run(
        [
            *(sys.executable, "-m", "tfmetainit.fit", "--steps=0"),
            f"--workdir={folder / 'run'}",
            f"--input={folder / 'photo.png'}",
            f"--output={tmp_path / 'a.png'}",
        ],
        check=True,
    )
