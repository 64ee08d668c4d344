"""How Sphinx builds the documentation: ``make docs``.

The root of the repository is the source, so that the links between these pages, the README and the
benchmarks' results are the same here and on a code host.
"""

import ast
import importlib
import os
import pkgutil
import sys
import tomllib
import warnings
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.ext.napoleon import Config, GoogleDocstring

ROOT = Path(__file__).parent.parent

# The API is documented from this tree, and on the codec that needs no compiler.
sys.path.insert(0, str(ROOT))
os.environ["WEBSOCKETS_CODEC"] = "pure"
# Defaults in signatures are those of nobody's environment in particular.
os.environ["WEBSOCKETS_SERVER"] = os.environ["WEBSOCKETS_USER_AGENT"] = "Python/3.N websockets/17.4"

project = "websockets, on a compiled codec"
version = release = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
root_doc = "docs/index"
include_patterns = [
    "*.md",
    "docs/**.md",
    "benchmarks/profile.md",
    "benchmarks/results/*.md",
    "examples/*.md",
]
exclude_patterns = [".*", "build", "dist", "fuzz", "tests", "tools"]

extensions = ["myst_parser", "sphinx.ext.autodoc"]
source_suffix = {".md": "markdown"}
myst_heading_anchors = 3
# Tables and definitions are Markdown's; nothing else is needed that a code host would not show.
myst_enable_extensions = ["deflist"]

autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
maximum_signature_line_length = 80

# Nothing is fetched while this is built, so what is elsewhere cannot be referred to.
nitpick_ignore_regex = [
    # Python's library, and werkzeug.
    ("py:.*", r"(asyncio|collections|enum|http|logging|os|re|socket|ssl|types|typing)\..*"),
    ("py:.*", r"(urllib|uuid|werkzeug)\..*|logging|typing|zlib|zlib\..*|Map"),
    # Private, and of use to nobody.
    ("py:class", r"websockets\.utils\._Socket"),
]

html_theme = "furo"
html_title = f"websockets {version}"
html_show_copyright = False
html_copy_source = False
pygments_style = "friendly"
pygments_dark_style = "monokai"


def import_for_types(package_name: str) -> None:
    """Import what modules import for type checkers only: annotations are resolved with it."""
    package = importlib.import_module(package_name)
    modules = []
    for info in pkgutil.walk_packages(package.__path__, f"{package_name}."):
        if not info.name.rpartition(".")[2].startswith("_"):
            with warnings.catch_warnings(action="ignore"):  # old names
                modules.append(importlib.import_module(info.name))
    for module in modules:
        for node in ast.parse(Path(str(module.__file__)).read_text()).body:
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                code = compile(ast.Module(node.body, []), str(module.__file__), "exec")
                exec(code, vars(module))


import_for_types("websockets")

GOOGLE_STYLE = Config(napoleon_use_rtype=False)


def process_docstring(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Translate Google's style to reStructuredText.

    As the extension napoleon does, but for attributes: there, it takes what is before a colon for
    their type, while it is a part of the sentence.
    """
    kind = "method" if what in ("attribute", "data", "property") else what
    lines[:] = GoogleDocstring(lines, GOOGLE_STYLE, app, kind, name, obj, options).lines()


def write_entrance(app: Sphinx, exception: Exception | None) -> None:
    """Lead whoever opens the directory to the first page."""
    first = f"{root_doc}.html"
    (Path(app.outdir) / "index.html").write_text(
        f'<!doctype html><meta charset="utf-8"><title>{html_title}</title>\n'
        f'<meta http-equiv="refresh" content="0; url={first}"><a href="{first}">{html_title}</a>\n'
    )


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-docstring", process_docstring)
    app.connect("build-finished", write_entrance)
