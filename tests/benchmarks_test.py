"""The benchmark of recipes, as far as nothing is trained."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

_FOLDER = pathlib.Path(__file__).resolve().parent.parent / "benchmarks"
# In a process of its own: the script's flags are those of the process.
_BUILD_ALL = """
import quality
from tfmetainit.runs import build
from tfmetainit.training import build_optimizer

quality._FLAGS(["quality", "--warm_start=text_64"])
for recipe in quality.RECIPES:
    # What is not an image class takes the recipes too.
    for name in ("text", "ct_maml"):
        config = quality.make_config(name, recipe, 1)
        signal = build.build_signal(config)
        learner = build.build_learner(config, signal)
        build_optimizer(config, learner)
        options = config.learner
        print(
            *(name, recipe, config.seed, options.name, options.inner_steps),
            *(options.inner_lr, options.early_loss_weight),
        )
quality.make_config("ct", "default", 1)  # by Reptile
"""


def _python(*arguments):
    environment = dict(os.environ)
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)  # as a user
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=_FOLDER,
        env=environment,
    )


def test_every_recipe_is_a_valid_config():
    result = _python("-c", _BUILD_ALL)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert "text default 1 maml 4 0.01 0.2" in lines
    assert "text last_loss 1 maml 4 0.01 0.0" in lines
    assert "text paper_maml 1 maml 2 0.01 0.0" in lines
    assert "text paper_reptile 1 reptile 12 0.01 0.0" in lines
    assert "text warm_start 1 maml 2 0.01 0.2" in lines
    assert "ct_maml default 1 maml 3 2.0 0.0" in lines
    assert "ct_maml paper_maml 1 maml 3 10.0 0.0" in lines
    assert "ct_maml paper_reptile 1 reptile 12 10.0 0.0" in lines


def test_unknown_rows_are_named(tmp_path, assert_one_sentence):
    result = _python(
        "quality.py",
        "--recipes=default,best,released",
        f"--output_dir={tmp_path}",
    )
    assert_one_sentence(result, "--recipes", "--warm_start", "best, released")
    assert not list(tmp_path.iterdir())


def test_photographs_are_cut_out_and_divided(tmp_path, assert_one_sentence):
    rng = np.random.default_rng(0)
    colors = []
    for activity in (
        "erase",
        "explore_farm_animals",
        "explore_monuments",
        "explore_world_animals",
        "explore_world_music",
    ):
        data = b"qres"
        for _ in range(6):
            # A colour tells a photograph; noise makes its file a large one.
            color = rng.integers(40, 216, 3)
            noise = rng.integers(-40, 40, (380, 400, 1))
            pixels = np.uint8(color + noise)
            path = tmp_path / "image.webp"
            Image.fromarray(pixels).save(path, quality=90)
            data += b"RIFF" + path.read_bytes()  # the first is no file
            colors.append(color)
        Image.fromarray(np.zeros_like(pixels)).save(path)  # small: no photo
        (tmp_path / f"{activity}.rcc").write_bytes(data + path.read_bytes())
    output = tmp_path / "photos"
    command = ("photographs.py", f"--output_dir={output}")
    result = _python(*command, f"--input={tmp_path}", "--num_crops=3")
    assert result.returncode == 0, result.stderr
    assert "30 photographs" in result.stdout
    held_out = set()
    for split, count in (("test", 20), ("validation", 8), ("train", 6)):
        paths = sorted((output / split).iterdir())
        assert len(paths) == count
        for path in paths:
            pixels = np.asarray(Image.open(path), np.float64)
            assert pixels.shape == (178, 178, 3)
            means = pixels.mean((0, 1)) - np.array(colors)
            photograph = int(np.argmin(np.abs(means).sum(1)))
            if split == "train":
                assert photograph not in held_out
            else:
                held_out.add(photograph)
    assert len(held_out) == 28
    (tmp_path / "erase.rcc").unlink()
    result = _python(*command, f"--input={tmp_path}")
    assert_one_sentence(result, "--input", "erase.rcc", str(tmp_path))


@pytest.mark.slow
def test_a_field_is_shown_beside_what_one_would_use_otherwise(tmp_path):
    (tmp_path / "photos").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    image = Image.fromarray(pixels).resize((90, 70), Image.Resampling.BICUBIC)
    image.save(tmp_path / "photos" / "a.png")
    output = tmp_path / "gallery"
    result = _python(
        "gallery.py",
        "--workdir=text_64",
        "--steps=1",
        f"--input={tmp_path / 'photos'}",
        f"--output_dir={output}",
    )
    assert result.returncode == 0, result.stderr
    assert {path.name for path in output.iterdir()} == {
        "gallery.md",
        "upscaling.png",
        "missing.png",
        "bytes.png",
    }
    table = (output / "gallery.md").read_text()
    assert "| field | nearest neighbour |" in table


def test_compiled_steps_run_without_tensorflow(tmp_path):
    """By JAX's client, with the results of TensorFlow."""
    pytest.importorskip("jax")
    common = ("gpu.py", f"--folder={tmp_path}")
    written = _python(common[0], "write", common[1], "--small")
    assert written.returncode == 0, written.stderr
    ran = _python(common[0], "run", common[1])
    assert ran.returncode == 0, ran.stderr
    figures = json.loads((tmp_path / "gpu.json").read_text())
    assert len(figures) == 8
    assert max(figure["difference"] for figure in figures) < 1e-4
    assert "JAX vmap" in figures[0]["seconds"]


_FOUR_STEPS = """
import sys
import numpy as np
import gpu_train
from tfmetainit.runs import build
from tfmetainit.runs.workdir import Workdir

pictures, workdir = sys.argv[1:]
config = Workdir(workdir).read_config()
learner, signal = gpu_train._build(config)
step = gpu_train._outer_step(learner, signal)
start = [v.numpy() for v in learner.trainable_variables]
squares = gpu_train.Squares(pictures, [2, 16, 16, 3])
for number in range(4):
    step(*squares.batch(number))
trained = build.load(workdir)
for before, here, there in zip(
    start, learner.trainable_variables, trained.trainable_variables
):
    moved = np.abs(here.numpy() - before).max()
    assert np.abs(here.numpy() - there.numpy()).max() <= 1e-3 * moved
"""


@pytest.mark.parametrize(
    "flags", [(), ("--config.learner.learn_step_sizes=0",)]
)
def test_a_run_is_trained_without_tensorflow(tmp_path, flags):
    """Its weights are those of the package's own steps; `train` ends it."""
    pytest.importorskip("jax")
    rng = np.random.default_rng(0)
    for split, count in (("train", 5), ("validation", 4), ("test", 1)):
        folder = tmp_path / "photos" / split
        folder.mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(256, size=(40, 30, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.png")
    script, common = "gpu_train.py", f"--folder={tmp_path / 'step'}"
    pictures, run = tmp_path / "photos" / "train", tmp_path / "run"
    config = (
        "--config=../configs/image_folder.py:smoke",
        f"--config.signal.folder={tmp_path / 'photos'}",
        "--config.batch_size=2",
        *flags,
    )
    for arguments in (
        (script, "write", common, *config),
        (script, "run", common, f"--pictures={pictures}"),
        (script, "read", common, f"--workdir={run}", *config),
        ("-c", _FOUR_STEPS, pictures, run),
        ("-m", "tfmetainit.train", f"--workdir={run}", *config),
    ):
        result = _python(*arguments)
        assert result.returncode == 0, result.stderr
    assert "Done: outer step 4" in result.stdout
