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
from websockets.former import FORMER

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
def test_every_name_is_the_one_of_its_module(name, monkeypatch):
    """Also when somebody has replaced it there."""
    module = importlib.import_module(f"websockets.{websockets._SOURCES[name]}")
    assert getattr(websockets, name) is getattr(module, name)
    replacement = object()
    monkeypatch.setattr(module, name, replacement)
    assert getattr(websockets, name) is replacement


def test_names_are_those_of_17_4():
    """And in its order, which those see who import them all."""
    assert websockets.__all__ == NAMES.split()


# What each module of 17.4 adds to the package.
NAMES = """
    connect unix_connect ClientConnection
    route unix_route Router
    basic_auth broadcast serve unix_serve ServerConnection Server
    ClientProtocol
    Headers HeadersLike MultipleValuesError
    ConcurrencyError ConnectionClosed ConnectionClosedError ConnectionClosedOK DuplicateParameter
    HeaderLineTooLong InvalidHandshake InvalidHeader InvalidHeaderFormat InvalidHeaderValue
    InvalidMessage InvalidMethod InvalidOrigin InvalidParameterName InvalidParameterValue
    InvalidProtocol InvalidProxy InvalidProxyMessage InvalidProxyStatus InvalidState InvalidStatus
    InvalidUpgrade InvalidURI NegotiationError PayloadTooBig ProtocolError ProxyError
    RequestLineTooLong SecurityError StatusLineTooLong TooManyFragments TooManyHeaders
    WebSocketException
    Close CloseCode Frame Opcode
    Request Response
    Protocol Side State
    ServerProtocol
    Data ExtensionName ExtensionParameter LoggerLike StatusLike Origin Subprotocol
"""


def test_names_of_this_package_say_where_they_are_from():
    for name, source in websockets._SOURCES.items():
        value = getattr(websockets, name)
        if isinstance(value, type) and name not in ("Data", "LoggerLike", "StatusLike"):
            assert value.__name__ == name
            assert value.__module__.startswith("websockets."), source


def test_star_import():
    namespace = {}
    exec("from websockets import *", namespace)
    assert set(namespace) == {*websockets.__all__, "__builtins__"}


def test_dir():
    assert {*websockets.__all__, *FORMER["websockets"], "__version__"} <= set(dir(websockets))
    assert "__file__" in dir(websockets)
    assert dir(websockets) == sorted(dir(websockets))


def test_unknown_names():
    with pytest.raises(AttributeError, match="module 'websockets' has no attribute 'unknown'"):
        websockets.unknown  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'unknown'"):
        exec("from websockets import unknown")


def test_former_names_warn():
    """The warning is about the line that uses them."""
    with pytest.warns(DeprecationWarning) as caught:
        assert websockets.WebSocketProtocolError is websockets.ProtocolError
    (warning,) = caught
    assert str(warning.message) == "websockets.WebSocketProtocolError is deprecated"
    assert warning.filename == __file__


def test_former_module_warns():
    with pytest.warns(DeprecationWarning) as caught:
        connection = importlib.import_module("websockets.connection")
    (warning,) = caught
    assert str(warning.message) == (
        "websockets.connection was renamed to websockets.protocol "
        "and Connection was renamed to Protocol"
    )
    assert connection.Connection is websockets.Protocol
    assert (connection.Side, connection.State) == (websockets.Side, websockets.State)
    assert connection.SEND_EOF == b""


def test_former_module_warns_those_who_import_it():
    lines = run(
        "import warnings\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n"
        "    import websockets.connection\n"
        "print(*[warning.filename for warning in caught])\n"
    )
    assert lines == ["<string>"]


def test_stub_lists_the_same_names():
    """What type checkers see is what is there."""
    tree = ast.parse((PACKAGE / "__init__.pyi").read_text())
    imported = {
        alias.asname or alias.name: node.module
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
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


def test_modules_that_callers_use_are_at_hand():
    """Callers write ``websockets.exceptions`` after nothing but ``import websockets``."""
    names = sorted(websockets._SUBMODULES)
    lines = run(
        f"import websockets\nfor name in {names}: print(getattr(websockets, name).__name__)"
    )
    assert lines == [f"websockets.{name}" for name in names]
    assert {"exceptions", "protocol", "frames", "http11", "datastructures"} <= {*names}
    lines = run(
        "import websockets; print(*[hasattr(websockets, name) for name in ('x', 'legacy')])"
    )
    assert lines == ["False False"]


def test_package_is_typed():
    assert (PACKAGE / "py.typed").exists()
    assert (PACKAGE / "_speedups.pyi").exists()
