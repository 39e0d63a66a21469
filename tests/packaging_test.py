"""The wheel and the editable install put `tfmetainit` on the path, alone."""

import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

from tfmetainit.runs import workdir

_ROOT = pathlib.Path(__file__).resolve().parent.parent
_OTHERS = ("configs", "export", "tests", "benchmarks", "examples")


def _python(code, cwd, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


def _ignored(folder, names):
    """What is not copied: results, and where others may be writing."""
    patterns = (".*", "*.egg-info", "__pycache__", "node_modules")
    ignored = shutil.ignore_patterns(*patterns)(folder, names)
    if pathlib.Path(folder) == _ROOT:
        ignored |= {"runs", "build"}
    return ignored


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy so that the checkout stays clean."""
    root = tmp_path_factory.mktemp("wheel")
    source = root / "source"
    shutil.copytree(_ROOT, source, ignore=_ignored)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    subprocess.run(
        [*pip, "--no-build-isolation", "--wheel-dir", root, source],
        check=True,
        stderr=subprocess.DEVNULL,
    )
    (path,) = root.glob("*.whl")
    return path


def test_wheel_holds_nothing_but_the_package(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {
        "tfmetainit"
    }
    assert "tfmetainit/configs/text.py" in names
    assert "tfmetainit/signals/sdf.py" in names
    for name in workdir.pretrained_names():
        folder = f"tfmetainit/pretrained/{name}"
        assert f"{folder}/config.json" in names
        assert f"{folder}/checkpoints/best.weights.h5" in names
    packaged = {n for n in names if n.endswith(".py")}
    sources = {
        f"tfmetainit/{p.relative_to(_ROOT / 'tfmetainit').as_posix()}"
        for p in (_ROOT / "tfmetainit").rglob("*.py")
    }
    for folder in ("configs", "export"):
        for path in (_ROOT / folder).rglob("*.py"):
            sources.add(f"tfmetainit/{path.relative_to(_ROOT).as_posix()}")
    assert packaged == sources


def test_wheel_works_by_itself(wheel, tmp_path):
    target = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(target)
    code = (
        "import tfmetainit, tfmetainit.train, tfmetainit.configs.text as c;"
        f"assert tfmetainit.__file__.startswith({str(target)!r});"
        f"assert c.__file__.startswith({str(target)!r});"
        "config = c.get_config('smoke');"
        "config.signal.data_dir = 'data';"
        "print(tfmetainit.train.train(config, 'run')['step'])"
    )
    result = _python(code, tmp_path, PYTHONPATH=str(target))
    assert result.returncode == 0, result.stderr
    assert result.stdout.split()[-1] == "4"
    assert (tmp_path / "run" / "checkpoints" / "best.weights.h5").is_file()


def test_editable_install_adds_nothing_else(tmp_path):
    for name in _OTHERS:
        result = _python(f"import {name}", tmp_path)
        assert "ModuleNotFoundError" in result.stderr, name
