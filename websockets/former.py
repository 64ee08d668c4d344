"""Former names, most of them of the original API: where they are now, and what to use instead."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from typing import Any

__all__ = ["FORMER", "find_former", "former_names"]

_EXCEPTIONS = {
    "AbortHandshake": ("legacy.exceptions.AbortHandshake", "a Response of process_request"),
    "InvalidStatusCode": ("legacy.exceptions.InvalidStatusCode", "InvalidStatus"),
    "RedirectHandshake": ("legacy.exceptions.RedirectHandshake", "InvalidStatus"),
    "WebSocketProtocolError": ("exceptions.ProtocolError", ""),
}
_COMMON = {
    "WebSocketCommonProtocol": (
        "legacy.protocol.WebSocketCommonProtocol",
        "websockets.asyncio.connection.Connection",
    ),
}
_CLIENT = {
    "WebSocketClientProtocol": (
        "legacy.client.WebSocketClientProtocol",
        "websockets.asyncio.client.ClientConnection",
    ),
}
_SERVER = {
    "WebSocketServerProtocol": (
        "legacy.server.WebSocketServerProtocol",
        "websockets.asyncio.server.ServerConnection",
    ),
}
_SERVERS = {
    "WebSocketServer": ("legacy.server.WebSocketServer", "websockets.asyncio.server.Server"),
}

#: For each module, what it had: where that is now, and its successor if that is not the same.
FORMER: dict[str, dict[str, tuple[str, str]]] = {
    "websockets": {
        **_EXCEPTIONS,
        **_COMMON,
        **_CLIENT,
        **_SERVER,
        **_SERVERS,
        "BasicAuthWebSocketServerProtocol": (
            "legacy.auth.BasicAuthWebSocketServerProtocol",
            "websockets.asyncio.server.basic_auth",
        ),
        "basic_auth_protocol_factory": (
            "legacy.auth.basic_auth_protocol_factory",
            "websockets.asyncio.server.basic_auth",
        ),
    },
    "websockets.client": {
        **_CLIENT,
        "connect": ("legacy.client.connect", "websockets.asyncio.client.connect"),
        "unix_connect": ("legacy.client.unix_connect", "websockets.asyncio.client.unix_connect"),
    },
    "websockets.exceptions": _EXCEPTIONS,
    "websockets.protocol": {**_COMMON, **_CLIENT, **_SERVER},
    "websockets.server": {
        **_SERVER,
        **_SERVERS,
        "broadcast": ("legacy.server.broadcast", "websockets.asyncio.server.broadcast"),
        "serve": ("legacy.server.serve", "websockets.asyncio.server.serve"),
        "unix_serve": ("legacy.server.unix_serve", "websockets.asyncio.server.unix_serve"),
    },
}


def find_former(module: str, name: str) -> Any:
    """
    Return what a module had under a name, with a warning that tells what to use.

    It is for the module's ``__getattr__`` to call; the warning is about who calls that.

    Args:
        module: full name of the module.
        name: name of the attribute.

    Raises:
        AttributeError: if it never had such a name.
    """
    if name not in FORMER[module]:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    place, successor = FORMER[module][name]
    source, _, name_there = place.rpartition(".")
    advice = f"; use {successor}" if successor else ""
    warnings.warn(f"{module}.{name} is deprecated{advice}", DeprecationWarning, stacklevel=3)
    return getattr(importlib.import_module(f"websockets.{source}"), name_there)


def former_names(module: str) -> Callable[[str], Any]:
    """
    Return the ``__getattr__`` of a module.

    Args:
        module: full name of the module.
    """

    def __getattr__(name: str) -> Any:
        return find_former(module, name)

    return __getattr__
