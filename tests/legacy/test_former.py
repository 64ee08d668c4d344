"""Founding and former names lead to the original API, and warn."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from websockets.datastructures import Headers
from websockets.former import FORMER
from websockets.legacy.auth import (
    BasicAuthWebSocketServerProtocol,
    basic_auth_protocol_factory,
)
from websockets.legacy.exceptions import AbortHandshake, InvalidStatusCode, RedirectHandshake

NAMES = [(module, name) for module, names in FORMER.items() for name in names]


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_former_names(module: str, name: str) -> None:
    place, successor = FORMER[module][name]
    source, _, there = place.rpartition(".")
    with pytest.warns(DeprecationWarning) as caught:
        value = getattr(importlib.import_module(module), name)
    (warning,) = caught
    assert value is getattr(importlib.import_module(f"websockets.{source}"), there)
    assert str(warning.message).startswith(f"{module}.{name} is deprecated")
    assert str(warning.message).endswith(successor)
    assert warning.filename == __file__


def test_founding_names() -> None:
    for module, name in [
        ("websockets.protocol", "WebSocketCommonProtocol"),
        ("websockets.protocol", "WebSocketServerProtocol"),
        ("websockets.protocol", "WebSocketClientProtocol"),
        ("websockets.server", "WebSocketServerProtocol"),
        ("websockets.client", "WebSocketClientProtocol"),
        ("websockets.client", "connect"),
        ("websockets.server", "serve"),
    ]:
        with pytest.warns(DeprecationWarning, match=r"is deprecated; use websockets\.asyncio\."):
            getattr(importlib.import_module(module), name)


@pytest.mark.parametrize("module", FORMER)
def test_unknown_names(module: str) -> None:
    with pytest.raises(AttributeError, match=f"module '{module}' has no attribute 'unknown'"):
        importlib.import_module(module).unknown  # noqa: B018


def test_the_package_warns() -> None:
    """Once, about the line that imports it; and what is modern does not import it."""
    program = (
        "import sys, warnings\n"
        "import websockets.client, websockets.server, websockets.protocol\n"
        "import websockets.asyncio.server\n"
        "assert 'websockets.legacy' not in sys.modules\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n"
        "    import websockets.legacy\n"
        "(warning,) = caught\n"
        "print(warning.category.__name__, warning.message)\n"
    )
    output = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    assert output.startswith("DeprecationWarning websockets.legacy is deprecated; ")


def test_exceptions() -> None:
    headers = Headers(a="b")
    aborted = AbortHandshake(404, headers, b"xx")
    assert (str(aborted), aborted.status, aborted.body) == (
        "HTTP 404, 1 headers, 2 bytes",
        404,
        b"xx",
    )
    invalid = InvalidStatusCode(404, headers)
    assert str(invalid) == "server rejected WebSocket connection: HTTP 404"
    assert (invalid.status_code, invalid.headers) == (404, headers)
    redirect = RedirectHandshake("ws://example.com/")
    assert (str(redirect), redirect.uri) == ("redirect to ws://example.com/", "ws://example.com/")


def test_former_module() -> None:
    sys.modules.pop("websockets.auth", None)
    with pytest.warns(DeprecationWarning, match=r"websockets\.auth, an alias .*, is deprecated"):
        auth = importlib.import_module("websockets.auth")
    assert auth.basic_auth_protocol_factory is basic_auth_protocol_factory
    assert auth.BasicAuthWebSocketServerProtocol is BasicAuthWebSocketServerProtocol
