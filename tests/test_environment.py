"""Environment variables: every one has its effect, and a bad value says which one it is."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import websockets
from websockets.environment import read_integer, read_number

PACKAGE = Path(websockets.__file__).parent

# Each variable: a value, and what shows its effect.
EFFECTS = {
    "WEBSOCKETS_BACKOFF_FACTOR": ("3", "list(islice(backoff(), 3))[2] / BACKOFF_MIN_DELAY", 3),
    "WEBSOCKETS_BACKOFF_INITIAL_DELAY": ("0", "next(backoff())", 0),
    "WEBSOCKETS_BACKOFF_MAX_DELAY": ("7.5", "list(islice(backoff(), 9))[8]", 7.5),
    "WEBSOCKETS_BACKOFF_MIN_DELAY": ("0.5", "list(islice(backoff(), 2))[1]", 0.5),
    "WEBSOCKETS_CODEC": ("pure", "codec.IMPLEMENTATION", "pure"),
    "WEBSOCKETS_DIRECT_DELIVERY": ("0", "channel.DIRECT", False),
    "WEBSOCKETS_MAX_BODY_SIZE": ("11", "http11.MAX_BODY_SIZE", 11),
    "WEBSOCKETS_MAX_FRAGMENTS": ("5", "session.MAX_FRAGMENTS", 5),
    "WEBSOCKETS_MAX_LINE_LENGTH": ("1234", "http11.MAX_LINE_LENGTH", 1234),
    "WEBSOCKETS_MAX_LOG_SIZE": ("9", "str(Frame(TEXT, b'a' * 99))", "TEXT 'aaa...a' [99 bytes]"),
    "WEBSOCKETS_MAX_NUM_HEADERS": ("9", "http11.MAX_NUM_HEADERS", 9),
    "WEBSOCKETS_MAX_REDIRECTS": ("3", "redirect.MAX_REDIRECTS", 3),
    "WEBSOCKETS_SERVER": ("ours", "signature(serve).parameters['server_header'].default", "ours"),
    "WEBSOCKETS_USER_AGENT": (
        "mine", "signature(connect).parameters['user_agent_header'].default", "mine"
    ),
    "WEBSOCKETS_ZLIB": ("zlib", "deflate._get_zlib().__name__", "zlib"),
}  # fmt: skip

NUMBERS = {
    name
    for name, (value, _, _) in EFFECTS.items()
    if re.fullmatch(r"[\d.]+", value) and name != "WEBSOCKETS_DIRECT_DELIVERY"
}


def run(code: str, **environment: str) -> object:
    """Run code in a fresh interpreter; return what it prints, as JSON."""
    output = subprocess.run(
        [sys.executable, "-c", code],
        env={
            **{name: value for name, value in os.environ.items() if name not in EFFECTS},
            "PYTHONPATH": str(PACKAGE.parent),
            **environment,
        },
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return json.loads(output)


SHOW = f"""
import json
from inspect import signature
from itertools import islice
from websockets import codec, connect, http11, redirect, serve, session
from websockets.asyncio import channel
from websockets.client import BACKOFF_MIN_DELAY, backoff
from websockets.extensions import deflate
from websockets.frames import TEXT, Frame
print(json.dumps({{{", ".join(f"{name!r}: {shown}" for name, (_, shown, _) in EFFECTS.items())}}}))
"""


def test_every_variable_has_its_effect() -> None:
    values = {name: value for name, (value, _, _) in EFFECTS.items()}
    assert run(SHOW, **values) == {name: effect for name, (_, _, effect) in EFFECTS.items()}


def test_without_them_all_is_as_documented() -> None:
    shown = run(SHOW)
    assert isinstance(shown, dict)
    for name, (_, _, effect) in EFFECTS.items():
        if name not in ("WEBSOCKETS_CODEC", "WEBSOCKETS_ZLIB"):  # what is installed decides
            assert shown[name] != effect, name


def test_every_variable_is_known() -> None:
    """All that the package reads is in the table above."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found |= set(re.findall(r"\AWEBSOCKETS_[A-Z_]+\Z", node.value))
    assert found == {*EFFECTS}


def test_every_variable_is_documented() -> None:
    page = PACKAGE.parent / "docs" / "howto" / "environment.md"
    if not page.exists():
        pytest.skip("the documentation is not here")
    documented = set(re.findall(r"^\| `(WEBSOCKETS_\w+)` \|", page.read_text(), re.MULTILINE))
    assert documented - {"WEBSOCKETS_BUILD_EXTENSION"} == {*EFFECTS}


def test_bad_values_say_which_variable_is_wrong() -> None:
    errors = run(
        "import json, os, sys\n"
        "errors = {}\n"
        f"for name in {sorted({*NUMBERS, 'WEBSOCKETS_ZLIB'})}:\n"
        "    os.environ[name] = '1x'\n"
        "    try:\n"
        "        import websockets.asyncio.client\n"
        "    except ValueError as exc:\n"
        "        errors[name] = str(exc)\n"
        "    del os.environ[name]\n"
        "    for module in [m for m in sys.modules if m.startswith('websockets')]:\n"
        "        del sys.modules[module]\n"
        "print(json.dumps(errors))"
    )
    assert isinstance(errors, dict)
    assert errors.pop("WEBSOCKETS_ZLIB") == (
        "WEBSOCKETS_ZLIB must be isal, zlib_ng or zlib, not '1x'"
    )
    assert errors.keys() == NUMBERS
    for name, error in errors.items():
        assert re.fullmatch(f"{name} must be an? (integer|number), 0 or more, not '1x'", error)


@pytest.mark.parametrize("value", ["", "1.5", "x", "-1", "1e3"])
def test_integers(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.delenv("X", raising=False)
    assert read_integer("X", 7) == 7
    monkeypatch.setenv("X", "1_000")
    assert read_integer("X", 7) == 1000
    monkeypatch.setenv("X", value)
    with pytest.raises(ValueError) as raised:
        read_integer("X", 7)
    assert str(raised.value) == f"X must be an integer, 0 or more, not {value!r}"


@pytest.mark.parametrize("value", ["", "x", "-0.1", "nan"])
def test_numbers(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.delenv("X", raising=False)
    assert read_number("X", 7.5) == 7.5
    monkeypatch.setenv("X", "1.5")
    assert read_number("X", 7.5) == 1.5
    monkeypatch.setenv("X", value)
    with pytest.raises(ValueError) as raised:
        read_number("X", 7.5)
    assert str(raised.value) == f"X must be a number, 0 or more, not {value!r}"
