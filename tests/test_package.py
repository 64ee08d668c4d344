"""What ``import websockets`` gives, and what it costs."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import websockets

PACKAGE = Path(websockets.__file__).parent


def run(code):
    """Run code in a fresh interpreter; return the lines it prints."""
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()


def test_versions():
    """Callers compare the first with "17.0" as a string, and split the second at its dots."""
    assert websockets.__version__ >= "17.0"
    assert [
        int(part) for part in importlib.import_module("websockets.version").version.split(".")
    ] == [
        17,
        4,
    ]
    assert websockets.__version__ == "17.4"


@pytest.mark.parametrize("name", websockets.__all__)
def test_every_name_is_the_one_of_its_module(name):
    value = getattr(websockets, name)
    if name == "__version__":
        return
    module = importlib.import_module(f"websockets.{websockets._SOURCES[name]}")
    assert value is getattr(module, name)
    assert websockets.__dict__[name] is value, "found at once the next time"


def test_names_of_this_package_say_where_they_are_from():
    for name, source in websockets._SOURCES.items():
        value = getattr(websockets, name)
        if isinstance(value, type) and name not in ("Data", "LoggerLike", "StatusLike"):
            assert value.__name__ == name
            assert value.__module__.startswith("websockets."), source


def test_star_import():
    namespace = {}
    exec("from websockets import *", namespace)
    assert set(websockets.__all__) <= set(namespace)


def test_dir():
    assert set(websockets.__all__) <= set(dir(websockets))
    assert "__file__" in dir(websockets)
    assert dir(websockets) == sorted(dir(websockets))


def test_unknown_names():
    with pytest.raises(AttributeError, match="module 'websockets' has no attribute 'unknown'"):
        websockets.unknown  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'unknown'"):
        exec("from websockets import unknown")


def test_stub_lists_the_same_names():
    """What type checkers see is what is there."""
    tree = ast.parse((PACKAGE / "__init__.pyi").read_text())
    imported = {
        alias.asname or alias.name: node.module
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert imported.pop("__version__") == "version"
    assert imported == websockets._SOURCES
    (listed,) = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "__all__"
    ]
    assert sorted(listed) == sorted(websockets.__all__)
    assert len(set(websockets.__all__)) == len(websockets.__all__)


def test_import_is_light():
    """Nothing is imported but the package, its version, and what any program has at hand."""
    (imported,) = run(
        "import __future__, importlib, sys, typing\n"
        "before = set(sys.modules)\n"
        "import websockets\n"
        "print(' '.join(sorted(set(sys.modules) - before)))\n"
    )
    assert imported.split() == ["websockets", "websockets.version"]


@pytest.mark.parametrize(
    "name, heavy",
    [
        ("Frame", {"asyncio", "ssl", "http", "socket", "logging", "websockets.asyncio"}),
        ("ConnectionClosed", {"asyncio", "ssl", "http", "socket", "logging"}),
        ("Headers", {"asyncio", "ssl", "socket", "websockets.asyncio"}),
        ("ServerProtocol", {"asyncio", "ssl", "socket", "websockets.asyncio"}),
    ],
)
def test_names_bring_no_more_than_they_need(name, heavy):
    (loaded,) = run(f"import sys, websockets; websockets.{name}; print(' '.join(sys.modules))")
    assert not heavy & set(loaded.split())


@pytest.mark.parametrize("name", ["connect", "serve"])
def test_connect_and_serve_leave_what_few_need_for_later(name):
    """To import them takes as long as to import the package does."""
    (imported,) = run(
        "import asyncio, ssl, sys\n"
        "before = set(sys.modules)\n"
        f"import websockets; websockets.{name}\n"
        "print(' '.join(set(sys.modules) - before))\n"
    )
    assert f"websockets.asyncio.{'client' if name == 'connect' else 'server'}" in imported.split()
    heavy = "csv email http.client importlib.metadata random secrets urllib.parse uuid zlib"
    assert not set(heavy.split()) & set(imported.split())


@pytest.mark.parametrize("name", ["connect", "serve"])
def test_connect_and_serve_bring_the_modules_that_callers_use(name):
    """Callers write ``websockets.exceptions`` after nothing but ``import websockets``."""
    lines = run(
        f"import websockets; websockets.{name}\n"
        "for m in 'exceptions protocol frames http11 datastructures'.split():\n"
        "    print(getattr(websockets, m).__name__)\n"
    )
    assert lines == [
        f"websockets.{m}" for m in ("exceptions", "protocol", "frames", "http11", "datastructures")
    ]


def test_package_is_typed():
    assert (PACKAGE / "py.typed").exists()
    assert (PACKAGE / "_speedups.pyi").exists()
