"""The former name of :mod:`websockets.protocol`. Deprecated."""

from __future__ import annotations

import warnings

from .protocol import SEND_EOF, Protocol, Side, State

__all__ = ["SEND_EOF", "Connection", "Side", "State"]

Connection = Protocol

warnings.warn(
    "websockets.connection was renamed to websockets.protocol "
    "and Connection was renamed to Protocol",
    DeprecationWarning,
    stacklevel=2,
)
