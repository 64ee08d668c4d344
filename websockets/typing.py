"""Types shared by the whole package."""

from __future__ import annotations

import http
import logging
import os
from collections.abc import Sequence
from typing import Any, NewType, Protocol

__all__ = [
    "Data",
    "LoggerLike",
    "StatusLike",
    "Origin",
    "Subprotocol",
    "ExtensionName",
    "ExtensionParameter",
]

#: A message: :class:`str` for text, :class:`bytes` for binary (RFC 6455 section 5.6).
Data = str | bytes

#: What may be sent as binary.
BytesLike = bytes | bytearray | memoryview

#: What may be sent.
DataLike = str | bytes | bytearray | memoryview

#: What may be logged to.
LoggerLike = logging.Logger | logging.LoggerAdapter[Any]

#: What may name a file.
PathLike = str | bytes | os.PathLike[str] | os.PathLike[bytes]

#: An HTTP status (RFC 9110 section 15).
StatusLike = http.HTTPStatus | int

#: Value of an ``Origin`` header (RFC 6454 section 7).
Origin = NewType("Origin", str)

#: A subprotocol in a ``Sec-WebSocket-Protocol`` header (RFC 6455 section 1.9).
Subprotocol = NewType("Subprotocol", str)

#: Name of an extension (RFC 6455 section 9.1).
ExtensionName = NewType("ExtensionName", str)

#: A parameter of an extension: name and value, :obj:`None` where there is no value.
ExtensionParameter = tuple[str, str | None]

#: An extension with its parameters in a ``Sec-WebSocket-Extensions`` header.
ExtensionHeader = tuple[ExtensionName, Sequence[ExtensionParameter]]

#: An option in a ``Connection`` header (RFC 9110 section 7.6.1).
ConnectionOption = NewType("ConnectionOption", str)

#: A protocol in an ``Upgrade`` header (RFC 9110 section 7.8).
UpgradeProtocol = NewType("UpgradeProtocol", str)


class Inflater(Protocol):
    """What undoes the compression of a message, payload by payload (RFC 7692 section 7.2.2)."""

    def inflate(self, data: bytes, fin: bool, max_size: int | None) -> bytes: ...
