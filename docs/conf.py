"""Sphinx's settings: `make docs` builds the site into build/docs.

The pages are Markdown. The API reference is written from the docstrings, one
page a room, to docs/api/, which is not kept in the repository.
"""

import functools
import importlib
import inspect
import pathlib
import pkgutil
import re

from docutils import nodes
from sphinx import addnodes
from sphinx.util.docutils import SphinxRole
from sphinx.util.inspect import stringify_signature

import tfmetainit.configs
import tfmetainit.export
from tfmetainit import cli

cli.quiet_tensorflow()

project = "tfmetainit"
author = "The tfmetainit authors"
copyright = f"2026, {author}"
version = release = tfmetainit.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
html_theme = "furo"
html_title = f"{project} {version}"
highlight_language = "none"  # of blocks that name none: commands, outputs
smartquotes = False  # they would make a dash of the -- in front of a flag
myst_heading_anchors = 3  # links such as results.md#where-the-limit-is

autodoc_default_options = {"show-inheritance": True}
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
napoleon_numpy_docstring = False
# Otherwise attributes are described twice: in the docstring, and as members.
napoleon_use_ivar = True
# Signatures have the types.
napoleon_attr_annotations = False
napoleon_use_rtype = False
default_role = "name"  # of docstrings: `_Name`

nitpicky = True
nitpick_ignore_regex = [
    # To link to the pages of other packages would need the network.
    ("py:.*", r"(absl|keras|ml_collections|np|numpy|tensorflow\w*|tf)\..*"),
    # So would links to those of Python.
    ("py:.*", r"(abc|collections|contextlib|pathlib)\..*"),
]
# Addresses in examples.
linkcheck_ignore = [r"http://localhost.*"]

_API = pathlib.Path(__file__).parent / "api"


# ---- The pages of the API reference ------------------------------------------


@functools.cache
def _rooms():
    """The packages below `tfmetainit`, and the modules in each: full names."""
    rooms = {}
    # An editable install has the latter two in folders of their own.
    for package in (tfmetainit, tfmetainit.configs, tfmetainit.export):
        prefix = f"{package.__name__}."
        if package is not tfmetainit:
            rooms[package.__name__] = []
        for module in pkgutil.walk_packages(package.__path__, prefix):
            room, _, name = module.name.rpartition(".")
            if module.ispkg:
                rooms[module.name] = []
            elif room in rooms and name != "__main__":
                rooms[room].append(module.name)
    return rooms


def _exported(room):
    """A room's public functions and classes, by name."""
    return {
        name: thing
        for name, thing in vars(importlib.import_module(room)).items()
        if getattr(thing, "__module__", None) in [room, *_rooms()[room]]
        and not name.startswith("_")
    }


@functools.cache
def _aliases():
    """Full names of what rooms export, by the names of their definitions."""
    return {
        f"{thing.__module__}.{name}": f"{room}.{name}"
        for room in _rooms()
        for name, thing in _exported(room).items()
    }


def _heading(text, line):
    return [text, line * len(text), ""]


def _described(module, *options):
    """The lines that put a module's docstrings on a page."""
    return [f".. automodule:: {module}", *(f"   {o}" for o in options), ""]


def _room_page(room):
    """First the names that a room exports, then its modules with all others."""
    exported = _exported(room)
    names = ", ".join(exported)
    lines = _heading(room, "=")
    lines += _described(room, f":members: {names}", ":imported-members:")
    for module in _rooms()[room]:
        options = [":members:", f":exclude-members: {names}"]
        if module.rpartition(".")[-1] in exported:
            options.append(":no-index:")  # a function has the same full name
        lines += _heading(module, "-") + _described(module, *options)
    return lines


def _top_page():
    lines = _heading("tfmetainit", "=") + _described("tfmetainit")
    lines += ["These names are at its top:", ""]
    for name in tfmetainit.__all__:
        module = getattr(getattr(tfmetainit, name), "__module__", None)
        if module is not None:
            full_name = _aliases()[f"{module}.{name}"]
            lines.append(f"- :py:obj:`{name} <{full_name}>`")
    return lines


def _commands_page():
    lines = _heading("The commands as functions", "=")
    for name in ("train", "evaluate", "fit", "fit_dataset", "publish"):
        module = f"tfmetainit.{name}"
        options = [":members:", ":exclude-members: main, run"]
        lines += _heading(module, "-") + _described(module, *options)
    return lines


def _write_api_pages(app):
    del app
    pages = {"tfmetainit": _top_page(), "commands": _commands_page()}
    pages |= {room: _room_page(room) for room in _rooms()}
    _API.mkdir(exist_ok=True)
    for path in _API.glob("*.rst"):
        if path.stem not in pages:
            path.unlink()
    for name, lines in pages.items():
        path, text = _API / f"{name}.rst", "\n".join([*lines, ""])
        # Sphinx reads a page again if the file is newer.
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


# ---- Docstrings --------------------------------------------------------------


def _mark_literal_blocks(app, what, name, thing, options, lines):
    """Makes commands, formulas and examples literal: what follows is indented.

    Sphinx takes it for a quotation, and `>>>` for text.
    """
    marked, outside = [], True
    for before, line in zip(["", *lines], lines):
        indented = line.startswith(" ")
        if indented and outside and not before:
            marked += ["::", ""]
        if line.startswith(">>>") and before.endswith(":"):
            marked.append("")
        if line:
            outside = not indented
        marked.append(line)
    lines[:] = marked


def _skip_fields(app, what, name, thing, skip, options):
    """Leaves out fields that look like methods, or have no docstring."""
    is_default = what == "class" and inspect.isfunction(thing)
    if is_default and "." not in thing.__qualname__:
        return True
    text = getattr(thing, "__doc__", None) or ""
    return True if text.startswith("Alias for field number") else None


def _public_bases(app, name, thing, options, bases):
    """Names the public bases of a private base in its place."""
    public = []
    for base in bases:
        private = getattr(base, "__name__", "").startswith("_")
        public += base.__bases__ if private else [base]
    bases[:] = public


class _Reference:
    """A default value that is a function, by its name."""

    def __init__(self, function):
        self._name = function.__name__

    def __repr__(self):
        return self._name


def _signature(app, what, name, thing, options, signature, returned):
    """The arguments of `__init__`: Keras's `__new__` takes any."""
    if what != "class" or "__init__" not in vars(thing):
        return None
    arguments = inspect.signature(thing.__init__)
    _self, *others = [
        p.replace(default=_Reference(p.default))
        if inspect.isfunction(p.default)
        else p
        for p in arguments.parameters.values()
    ]
    arguments = inspect.Signature(others)
    return stringify_signature(arguments, unqualified_typehints=True), None


# ---- Links -------------------------------------------------------------------


class _Name(SphinxRole):
    """What stands in single backticks: code, and a link if it can be one."""

    def run(self):
        code = nodes.literal(self.text, self.text)
        if not re.fullmatch(r"[A-Za-z]\w*(\.\w+)*", self.text):
            return [code], []
        link = addnodes.pending_xref(
            "",
            code,
            refdomain="py",
            reftype="obj",
            reftarget=self.text,
            refexplicit=False,
            refwarn=False,
            refdoc=self.env.docname,
        )
        for key in ("py:module", "py:class"):
            link[key] = self.env.ref_context.get(key)
        return [link], []


def _find(app, env, node, code):
    """Links a name of this package that is not given in full."""
    if node.get("refdomain") != "py":
        return None
    domain, target = env.domains.python_domain, node["reftarget"]
    full = {name: name for name, o in domain.objects.items() if not o.aliased}
    found = {
        name
        for alias, name in (full | _aliases()).items()
        if f".{alias}".endswith(f".{target}")
    }
    may_be_an_argument = target.islower() and "." not in target
    if len(found) == 1 and not may_be_an_argument:
        link = domain.resolve_xref(
            *(env, node["refdoc"], app.builder, "obj", found.pop(), node, code)
        )
        if link is not None:
            return link
    # Not every name in backticks is one of this package.
    return code if node["reftype"] == "obj" else None


def setup(app):
    """Adds the functions above to Sphinx."""
    app.add_role("name", _Name())
    app.connect("builder-inited", _write_api_pages)
    app.connect("autodoc-process-bases", _public_bases)
    # Before napoleon, which indents.
    app.connect("autodoc-process-docstring", _mark_literal_blocks, 100)
    app.connect("autodoc-process-signature", _signature)
    app.connect("autodoc-skip-member", _skip_fields)
    app.connect("missing-reference", _find)
