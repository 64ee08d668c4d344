"""WebSockets (RFC 6455) for Python: the API of ``websockets`` 17.4 on a compiled codec.

Names are imported from their modules at first use, so that ``import websockets`` is cheap.
"""

from __future__ import annotations

import importlib
from typing import Any

from .version import version as __version__

_MODULES = {
    "asyncio.client": "ClientConnection connect unix_connect",
    "asyncio.server": "Server ServerConnection broadcast serve unix_serve",
    "client": "ClientProtocol",
    "datastructures": "Headers HeadersLike MultipleValuesError",
    "exceptions": (
        "ConcurrencyError ConnectionClosed ConnectionClosedError ConnectionClosedOK "
        "DuplicateParameter HeaderLineTooLong InvalidHandshake InvalidHeader InvalidHeaderFormat "
        "InvalidHeaderValue InvalidMessage InvalidMethod InvalidOrigin InvalidParameterName "
        "InvalidParameterValue InvalidProtocol InvalidProxy InvalidProxyMessage "
        "InvalidProxyStatus InvalidState InvalidStatus InvalidURI InvalidUpgrade "
        "NegotiationError PayloadTooBig ProtocolError ProxyError RequestLineTooLong "
        "SecurityError StatusLineTooLong TooManyFragments TooManyHeaders WebSocketException"
    ),
    "frames": "Close CloseCode Frame Opcode",
    "http11": "Request Response",
    "protocol": "Protocol Side State",
    "server": "ServerProtocol",
    "typing": ("Data ExtensionName ExtensionParameter LoggerLike Origin StatusLike Subprotocol"),
}

_SOURCES = {name: module for module, names in _MODULES.items() for name in names.split()}

__all__ = ["__version__", *_SOURCES]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    source = _SOURCES.get(name)
    if source is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{source}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_SOURCES})
