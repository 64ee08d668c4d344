"""WebSockets (RFC 6455) for Python: the API of ``websockets`` 17.4 on a compiled codec.

Names are imported from their modules when they are used, so that ``import websockets`` is cheap.
They are looked up there each time: what replaces them there, in a test, is replaced here.
"""

from __future__ import annotations

import importlib
from typing import Any

from .version import version as __version__  # noqa: F401

_MODULES = {
    "asyncio.client": "connect unix_connect ClientConnection",
    "asyncio.router": "route unix_route Router",
    "asyncio.server": "basic_auth broadcast serve unix_serve ServerConnection Server",
    "client": "ClientProtocol",
    "datastructures": "Headers HeadersLike MultipleValuesError",
    "exceptions": (
        "ConcurrencyError ConnectionClosed ConnectionClosedError ConnectionClosedOK "
        "DuplicateParameter HeaderLineTooLong InvalidHandshake InvalidHeader InvalidHeaderFormat "
        "InvalidHeaderValue InvalidMessage InvalidMethod InvalidOrigin InvalidParameterName "
        "InvalidParameterValue InvalidProtocol InvalidProxy InvalidProxyMessage "
        "InvalidProxyStatus InvalidState InvalidStatus InvalidUpgrade InvalidURI "
        "NegotiationError PayloadTooBig ProtocolError ProxyError RequestLineTooLong "
        "SecurityError StatusLineTooLong TooManyFragments TooManyHeaders WebSocketException"
    ),
    "frames": "Close CloseCode Frame Opcode",
    "http11": "Request Response",
    "protocol": "Protocol Side State",
    "server": "ServerProtocol",
    "typing": "Data ExtensionName ExtensionParameter LoggerLike StatusLike Origin Subprotocol",
}

_SOURCES = {name: module for module, names in _MODULES.items() for name in names.split()}

# With 17.4, to use any of the names above brings most of these, and callers rely on it.
_SUBMODULES = frozenset(
    "asyncio client datastructures exceptions extensions frames headers http11 protocol server "
    "typing uri utils".split()
)

__all__ = list(_SOURCES)


def __getattr__(name: str) -> Any:
    source = _SOURCES.get(name)
    if source is not None:
        return getattr(importlib.import_module(f".{source}", __name__), name)
    if name in _SUBMODULES:
        return importlib.import_module(f".{name}", __name__)
    from .former import find_former

    return find_former(__name__, name)


def __dir__() -> list[str]:
    from .former import FORMER

    return sorted({*globals(), *_SOURCES, *FORMER[__name__]})
