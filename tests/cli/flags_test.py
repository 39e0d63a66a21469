"""What all commands share: their flags, and their errors."""

import importlib.metadata
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

_ROOT = pathlib.Path(__file__).parent.parent.parent


@pytest.mark.parametrize("command", ["train", "evaluate", "fit"])
def test_help_is_worth_reading(command, run_command):
    result = run_command(command, "--help")
    assert result.returncode == 1  # absl's code for --help
    assert f"python -m tfmetainit.{command} --" in result.stdout
    assert "--workdir" in result.stdout
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (
            ["--config.learner.inner_step=3"],
            ["config.learner.inner_step;", "config.learner.inner_steps."],
        ),
        (
            ["--config.lerner.inner_steps=3"],
            ["config.lerner.inner_steps;", "config.learner.inner_steps."],
        ),
        (["--config.learner.inner_steps=many"], ["inner_steps=many"]),
        (["--confg=x"], ["confg", "config"]),
        (["--config=configs/nothing.py"], ["configs/nothing.py"]),
        (["--config=my/own/text.py"], ["my/own/text.py"]),
        (["--config=configs/text.py:tiny"], ["'smoke'", "'tiny'"]),
        (["--config={root}/README.md"], ["README.md"]),
        (["--workdir="], ["--workdir", "''"]),
        (["stray"], ["'stray'"]),
    ],
)
def test_wrong_flags(
    tmp_path, arguments, parts, run_command, assert_one_sentence
):
    result = run_command(
        "train",
        "--config=configs/text.py:smoke",
        f"--workdir={tmp_path / 'run'}",
        *(argument.format(root=_ROOT) for argument in arguments),
    )
    assert_one_sentence(result, *parts)
    assert not (tmp_path / "run").exists()


def test_a_file_of_flags(tmp_path, run_command, assert_one_sentence):
    """It may name an installed config; its mistakes are those of the flags."""
    path = tmp_path / "flags"
    for text, parts in (
        (
            "--config=configs/text.py:smoke\n--config.seeds=1\n",
            ["config.seed."],
        ),
        ("--config=configs/text.py:smoke\n--work=x\n", ["'work'"]),
    ):
        path.write_text(text)
        result = run_command("train", f"--flagfile={path}", cwd=tmp_path)
        assert_one_sentence(result, *parts)
    result = run_command("train", f"--flagfile={tmp_path / 'missing'}")
    assert_one_sentence(result, str(tmp_path / "missing"))


def test_missing_flags(run_command, assert_one_sentence):
    assert_one_sentence(run_command("train"), "--config")
    assert_one_sentence(run_command("fit", "--workdir=x"), "--input")


def test_console_scripts_are_installed():
    folder = os.path.dirname(sys.executable)
    result = subprocess.run(
        [os.path.join(folder, "tfmetainit-fit"), "--help"],
        capture_output=True,
        text=True,
    )
    assert "python -m tfmetainit.fit --" in result.stdout
    assert "--workdir" in result.stdout
    scripts = importlib.metadata.entry_points(group="console_scripts")
    for command in ("train", "evaluate", "fit-dataset", "export", "publish"):
        (script,) = scripts.select(name=f"tfmetainit-{command}")
        assert callable(script.load())
        assert os.access(os.path.join(folder, script.name), os.X_OK)


_DEAF = """
import time
from tfmetainit import cli

def main(argv):
    print("started")
    for _ in range(2):  # as finalizers and C code do
        try:
            time.sleep(60)
        except SystemExit:
            pass
    try:
        time.sleep(60)
    finally:
        time.sleep(1.5)  # longer than a repetition takes
        print("cleared")

cli.run(main, "")
"""


def test_sigterm_is_heard_in_the_end():
    with subprocess.Popen(
        [sys.executable, "-c", _DEAF], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "started\n"
        time.sleep(0.5)  # it falls asleep
        process.terminate()
        assert process.stdout.readline() == "cleared\n"
        assert process.wait(timeout=30) == 128 + signal.SIGTERM


def test_another_backend_of_keras_is_named():
    code = (
        "import keras, tfmetainit;"
        "keras.config.backend = lambda: 'jax';"
        "tfmetainit.SIREN"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: ")
    assert "KERAS_BACKEND" in last
    assert "jax" in last


def test_importing_the_package_imports_no_tensorflow():
    code = (
        "import sys, tfmetainit, tfmetainit.io.files, tfmetainit.io.images;"
        "assert not {'tensorflow', 'keras'} & set(sys.modules);"
        "assert tfmetainit.SIREN.__name__ == 'SIREN';"
        "assert 'MAML' in dir(tfmetainit)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
