"""One message to many connections."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ..codec import encode_frame
from ..exceptions import ConcurrencyError
from ..extensions.deflate import PerMessageDeflate, compress_for_all
from ..frames import BINARY, TEXT
from ..protocol import LARGE_PAYLOAD, OPEN, RSV1
from ..typing import DataLike

if TYPE_CHECKING:
    from .connection import Connection

__all__ = ["broadcast"]


def broadcast(
    connections: Iterable[Connection],
    message: DataLike,
    *,
    text: bool | None = None,
    raise_exceptions: bool = False,
    compress: bool | None = None,
) -> None:
    """Send a message to many connections, without waiting for any of them.

    It is no coroutine: when it returns, the message is on its way, or in the write buffers. A
    connection whose peer does not read is written to all the same: its buffer grows until keepalive
    or the application closes it. Connections that are not open are skipped in silence. Those in the
    middle of a fragmented message, and those that cannot be written to, are skipped with a warning
    in their log.

    Args:
        connections: connections to send to, clients' or servers'.
        message: a string, sent as a text message (RFC 6455 section 5.6); or bytes, a bytearray or a
            memoryview, sent as a binary message.
        text: True to send bytes-like objects as text, which must be UTF-8; False to send strings as
            binary messages, encoded to UTF-8.
        compress: True or False to compress the message or not, where permessage-deflate was
            negotiated; None to do so unless it is too small to be worth it. It is compressed once
            for all connections that can share the result: without context takeover, those which
            negotiated alike; with it, those which have been sent the same messages of late.
        raise_exceptions: whether to raise what kept connections from being sent to, when all others
            were, rather than log it.

    Raises:
        TypeError: if the type of the message is not supported.
        ExceptionGroup: of one exception for each connection that was skipped with a reason, if
            ``raise_exceptions`` is true.
    """
    data: bytes
    if isinstance(message, str):
        opcode, data = (BINARY if text is False else TEXT), message.encode()
    elif isinstance(message, (bytes, bytearray, memoryview)):
        # One copy for all of what may change meanwhile; of bytes it is none.
        opcode, data = (TEXT if text is True else BINARY), bytes(message)
    else:
        raise TypeError("data must be str or bytes")

    # All servers send the same bytes, the same object if they have the same payload. Clients mask
    # theirs, each frame with a key of its own (RFC 6455 section 5.3). A large payload is not joined
    # to its header, unless many connections share what was compressed.
    frames: dict[tuple[int, int], bytes] = {}
    skipped: list[Exception] = []
    for connection, payload, rsv in _prepare(connections, data, compress):
        protocol = connection.protocol
        try:
            if rsv or (protocol.plain and len(payload) < LARGE_PAYLOAD):
                if protocol.masks:
                    frame = encode_frame(opcode, payload, True, True, rsv)
                else:
                    key = id(payload), rsv
                    frame = frames.get(key) or encode_frame(opcode, payload, False, True, rsv)
                    frames[key] = frame
                connection._ws_write(frame)
            elif protocol.state is not OPEN:
                pass
            elif protocol.expect_continuation_frame:
                # RFC 6455 section 5.4: no other message between the fragments of one.
                reason = "sending a fragmented message"
                if raise_exceptions:
                    skipped.append(ConcurrencyError(reason))
                else:
                    connection.logger.warning("skipped broadcast: %s", reason)
            else:
                connection._ws_send_frame(opcode, data, True, compress)
        except Exception as exc:
            if rsv and protocol.deflate is not None:
                protocol.deflate.forget()  # the next message must not refer to this one
            reason = "failed to write message"
            if raise_exceptions:
                error = RuntimeError(reason)
                error.__cause__ = exc
                skipped.append(error)
            else:
                what = traceback.format_exception_only(exc)[0].strip()
                connection.logger.warning("skipped broadcast: %s: %s", reason, what)
    if skipped:
        raise ExceptionGroup("skipped broadcast", skipped)


def _prepare(
    connections: Iterable[Connection], data: bytes, compress: bool | None
) -> Iterator[tuple[Connection, bytes, int]]:
    """Yield each connection with its payload and reserved bits, those that share one at the end."""
    deflated: list[tuple[Connection, PerMessageDeflate]] = []
    failure: Exception | None = None
    try:
        for connection in connections:
            protocol = connection.protocol
            deflate = protocol.deflate
            if deflate is not None and protocol.plain and deflate.wants(len(data), compress):
                deflated.append((connection, deflate))
            else:
                yield connection, data, 0
    except Exception as exc:
        failure = exc  # those before it are sent to
    # Whoever iterates may have done something to those that were there before.
    ready = [(connection, deflate) for connection, deflate in deflated if connection.protocol.plain]
    payloads = compress_for_all([deflate for _, deflate in ready], data)
    for (connection, _), payload in zip(ready, payloads, strict=True):
        yield connection, payload, RSV1
    if failure is not None:
        raise failure
