"""Sphinx's settings; `make docs` builds the pages into build/docs.

The pages are Markdown. The API reference is written from the docstrings, one
page a room, into docs/api/, which is not kept in the repository.
"""

import importlib
import inspect
import pathlib
import pkgutil
import re
import shutil
import warnings

from docutils import nodes
from sphinx import addnodes
from sphinx.util import inspect as signatures
from sphinx.util.docutils import SphinxRole

with warnings.catch_warnings():
    # TensorFlow, TFDS and their dependencies warn when they are imported.
    warnings.simplefilter("ignore")
    import tensorflow_datasets  # noqa: F401

    import tfmetainit

project = "tfmetainit"
author = "The tfmetainit authors"
copyright = "2026, the tfmetainit authors"  # noqa: A001
version = release = tfmetainit.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
html_theme = "furo"
html_title = f"tfmetainit {version}"
pygments_style = "friendly"
pygments_dark_style = "monokai"
# Docstrings and pages hold flags such as --workdir.
smartquotes = False

# Links such as results.md#speed, to headings down to the third level.
myst_heading_anchors = 3
myst_fence_as_directive = []

autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_numpy_docstring = False
# An attribute in a docstring and in the class would be described twice.
napoleon_use_ivar = True
default_role = "name"

nitpicky = True
_OTHERS = "absl|collections|keras|ml_collections|np|numpy|PIL|tensorflow|tf"
nitpick_ignore_regex = [
    # Types of other packages: linking them needs the network.
    ("py:.*", rf"({_OTHERS})\..*"),
]
linkcheck_ignore = [r"http://localhost.*"]

_API = pathlib.Path(__file__).parent / "api"
_COMMANDS = ("train", "evaluate", "fit", "fit_dataset", "publish")


# ---- The pages of the API reference ------------------------------------------


def _rooms():
    """Dotted names of the packages in `tfmetainit`, with their modules."""
    found = pkgutil.walk_packages(tfmetainit.__path__, "tfmetainit.")
    rooms = {}
    for module in found:
        if module.ispkg:
            rooms[module.name] = []
        elif module.name.rpartition(".")[0] in rooms:
            rooms[module.name.rpartition(".")[0]].append(module.name)
    return rooms


def write_api_pages(app):
    """Writes a page for each room, and their table of contents."""
    del app
    print(_rooms())


def setup(app):
    """Registers what this file adds to Sphinx."""
    app.connect("builder-inited", write_api_pages)
