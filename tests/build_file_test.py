"""BUILD states the dependency graph; here it meets the real imports."""

import ast
import pathlib
import sys

import pytest

_ROOT = pathlib.Path(__file__).resolve().parent.parent
_RULES = ("py_library", "py_binary", "py_test")
# Import names whose packages are called otherwise on the package index.
_PACKAGES = {"PIL": "pillow", "skimage": "scikit_image"}


def _target_of(module):
    """The target of a module of this package, or None."""
    parts = module.split(".")
    if parts[0] != "tfmetainit":
        return None
    if len(parts) == 1:
        return ":tfmetainit"
    return f":{parts[1]}"


def imports_of(path):
    """Labels of all that a file imports, at its top or inside functions."""
    labels = set()
    for node in ast.walk(ast.parse((_ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module]
            if node.module == "tfmetainit":
                modules = [f"tfmetainit.{a.name}" for a in node.names]
        else:
            continue
        for module in modules:
            top = module.split(".")[0]
            if top == "tfmetainit":
                labels.add(_target_of(module))
            elif top not in sys.stdlib_module_names:
                labels.add(f"@pypi//{_PACKAGES.get(top, top)}")
    return labels


def _targets():
    """The rules of BUILD, which is also valid Python."""
    targets = {}
    for node in ast.parse((_ROOT / "BUILD").read_text()).body:
        call = getattr(node, "value", None)
        if not isinstance(call, ast.Call) or call.func.id not in _RULES:
            continue
        rule = {k.arg: ast.literal_eval(k.value) for k in call.keywords}
        targets[rule["name"]] = rule
    return targets


@pytest.mark.parametrize("name", sorted(_targets()))
def test_deps_are_the_imports(name):
    rule = _targets()[name]
    expected = set().union(*map(imports_of, rule["srcs"])) - {f":{name}"}
    assert sorted(rule.get("deps", [])) == sorted(expected)


def test_every_file_has_a_target():
    sources = sorted(s for t in _targets().values() for s in t["srcs"])
    patterns = (
        "tfmetainit/**/*.py",
        "configs/*.py",
        "export/**/*.py",
        "tests/*_test.py",
        "tests/conftest.py",
    )
    files = [p for pattern in patterns for p in _ROOT.glob(pattern)]
    assert sources == sorted(p.relative_to(_ROOT).as_posix() for p in files)


def _reachable(name, targets):
    reached, waiting = set(), [name]
    while waiting:
        for label in targets[waiting.pop()].get("deps", []):
            if label.startswith(":") and label[1:] not in reached:
                reached.add(label[1:])
                waiting.append(label[1:])
    return reached


def test_imports_point_down():
    targets = _targets()
    for name in targets:
        assert name not in _reachable(name, targets), f"{name} is in a cycle"
    for name in ("adaptation", "learners", "fields", "functional", "export"):
        assert "signals" not in _reachable(name, targets)
    assert _reachable("fields", targets) == {"layers"}
    assert _reachable("signals", targets).isdisjoint(
        {"learners", "experiment", "train", "evaluate", "fit"}
    )


def test_no_signal_imports_another():
    for path in (_ROOT / "tfmetainit" / "signals").glob("*.py"):
        assert ":signals" not in imports_of(path.relative_to(_ROOT))


def test_files_and_artifacts_are_read_without_tensorflow():
    roots = {"files", "pictures", "pixels", "lite_artifact"}
    reached = set().union(*(_reachable(name, _targets()) for name in roots))
    for name in roots | reached:
        deps = _targets()[name].get("deps", [])
        assert not {"@pypi//tensorflow", "@pypi//keras"} & set(deps)
