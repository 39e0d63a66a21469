"""The rooms of the package: what they import, and what BUILD says of it."""

import ast
import pathlib
import re
import subprocess
import sys

import pytest

_ROOT = pathlib.Path(__file__).resolve().parent.parent
# Import names whose packages have another name on the package index.
_PACKAGES = {"PIL": "pillow", "skimage": "scikit_image"}
_PLAIN = ("io", "geometry", "modalities", "litert")


def _room_of(module):
    """The target of a module of this package."""
    parts = module.split(".")
    for depth in (3, 2):
        name = "_".join(parts[1:depth])
        if len(parts) >= depth and name in _TARGETS:
            return name
    return "tfmetainit"


def _imports_of(path):
    """Labels of all that a file imports, at its top or inside functions."""
    labels = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module]
            if len(node.module.split(".")) <= 2:
                modules = [f"{node.module}.{a.name}" for a in node.names]
        else:
            continue
        for module in modules:
            top = module.split(".")[0]
            if top == "tfmetainit":
                labels.add(f":{_room_of(module)}")
            elif top not in sys.stdlib_module_names:
                labels.add(f"@pypi//{_PACKAGES.get(top, top)}")
    return labels


def _tables():
    """The dicts of BUILD, which is also valid Python, by their names."""
    return {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in ast.parse((_ROOT / "BUILD").read_text()).body
        if isinstance(node, ast.Assign)
    }


_TABLES = _tables()
_TARGETS = {**_TABLES["_ROOMS"], **_TABLES["_COMMANDS"]}


def _sources(name):
    """The files of a room or of a command."""
    folder = _TABLES["_FOLDERS"].get(name)
    if folder is None and name in _TABLES["_COMMANDS"]:
        return [_ROOT / "tfmetainit" / f"{name}.py"]
    return sorted((_ROOT / (folder or f"tfmetainit/{name}")).glob("*.py"))


def _reachable(name):
    """All rooms that a room imports, through others too."""
    reached, waiting = set(), [name]
    while waiting:
        for label in _TARGETS.get(waiting.pop(), []):
            if label.startswith(":") and label[1:] not in reached:
                reached.add(label[1:])
                waiting.append(label[1:])
    return reached


@pytest.mark.parametrize("name", sorted(_TARGETS))
def test_deps_are_the_imports(name):
    expected = set().union(*map(_imports_of, _sources(name))) - {f":{name}"}
    assert sorted(_TARGETS[name]) == sorted(expected)


def test_every_file_has_a_target():
    sources = [path for name in _TARGETS for path in _sources(name)]
    patterns = ("tfmetainit/**/*.py", "configs/*.py", "export/**/*.py")
    files = {path for pattern in patterns for path in _ROOT.glob(pattern)}
    assert set(sources) == files - {_ROOT / "tfmetainit" / "__init__.py"}
    assert len(sources) == len(set(sources))


def test_imports_point_down():
    rooms = list(_TABLES["_ROOMS"])
    for index, name in enumerate(rooms):
        assert _reachable(name) <= set(rooms[:index]), name


def test_the_house_is_small():
    package = _ROOT / "tfmetainit"
    rooms = {
        path.parent.relative_to(package).parts[0]
        for path in package.glob("*/*.py")
    }
    modules = [p for p in package.glob("*.py") if p.name != "__init__.py"]
    assert len(rooms) <= 14
    assert len(modules) <= 8
    assert len((_ROOT / "BUILD").read_text().splitlines()) <= 250


def test_meta_learning_knows_nothing_of_files_and_signals():
    assert _reachable("meta") == {"forward_models", "geometry"}


def test_no_signal_class_imports_another():
    for path in (_ROOT / "tfmetainit" / "signals").glob("*.py"):
        assert ":signals" not in _imports_of(path), path


@pytest.mark.parametrize("room", [*_PLAIN, "cli", "fit"])
def test_rooms_of_a_device_need_neither_tensorflow_nor_keras(room):
    code = (
        "import sys\n"
        "for name in ('tensorflow', 'keras', 'matplotlib'):\n"
        "    sys.modules[name] = None\n"
        f"import tfmetainit.{room}\n"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", sorted(set(_TABLES["_ROOMS"]) - {"configs"}))
def test_a_room_says_what_it_may_import(name):
    """The rooms that a docstring names are those of BUILD, or more."""
    folder = _TABLES["_FOLDERS"].get(name, f"tfmetainit/{name}")
    text = (_ROOT / folder / "__init__.py").read_text()
    named = re.findall(r"`([\w.]+)`", ast.get_docstring(ast.parse(text)))
    deps = {dep[1:] for dep in _TARGETS[name] if dep.startswith(":")}
    if name not in ("runs", "signals"):  # they may import all that is below
        assert deps <= {room.replace(".", "_") for room in named}
