"""The opening handshake of both sides, on any request, response and URI."""

from __future__ import annotations

import base64
import unittest.mock
from collections.abc import Callable
from typing import Any

from websockets import server
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake, InvalidURI
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    PerMessageDeflate,
    ServerPerMessageDeflateFactory,
)
from websockets.frames import Frame
from websockets.headers import parse_connection, parse_upgrade
from websockets.http11 import Request, Response, ResponseParser
from websockets.protocol import SEND_EOF, Protocol, State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol
from websockets.uri import WebSocketURI, parse_uri
from websockets.utils import accept_key

from . import http
from .common import Cursor, cut

__all__ = ["one_input", "seeds"]

URI = WebSocketURI(False, "example.com", 80, "/chat", "")
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
CHAT = [Subprotocol("chat"), Subprotocol("superchat")]


def one_input(data: bytes) -> None:
    """Check one input."""
    cursor = Cursor(data)
    # The date must not change between two runs that are compared.
    with unittest.mock.patch.object(server, "get_date", lambda: DATE):
        cursor.pick((check_server, check_client, check_both))(cursor)


def same_however_cut(cursor: Cursor, run: Callable[[list[bytes]], object]) -> None:
    sizes = cursor.take(cursor.byte() % 8)
    data = cursor.rest()
    whole = run([data])
    assert run(cut(data, sizes)) == whole
    assert run(cut(data, [1])) == whole


def finish(protocol: Protocol, written: list[bytes]) -> bytes:
    """End the stream from the peer; return what was written before ours ended."""
    protocol.receive_eof()
    written += protocol.data_to_send()
    assert protocol.state is State.CLOSED
    assert written.count(SEND_EOF) == 1
    assert written[-1] == SEND_EOF
    return b"".join(written)


# A request to a server


def check_server(cursor: Cursor) -> None:
    extensions = [ServerPerMessageDeflateFactory()] if cursor.flag() else None
    subprotocols = cursor.pick((None, CHAT))

    def run(pieces: list[bytes]) -> object:
        protocol = ServerProtocol(extensions=extensions, subprotocols=subprotocols, max_size=1000)
        return serve(protocol, pieces)

    same_however_cut(cursor, run)


def serve(protocol: ServerProtocol, pieces: list[bytes]) -> object:
    """Serve a client; return what it gets, the kind of failure, and the frames it has sent."""
    events: list[Any] = []
    written: list[bytes] = []
    for piece in pieces:
        protocol.receive_data(piece)
        new = protocol.events_received()
        if not events and new:
            request, *frames = new
            assert isinstance(request, Request)
            assert not frames, "there are no frames before the handshake is over"
            protocol.send_response(protocol.accept(request))
            new += protocol.events_received()
        events += new
        written += protocol.data_to_send()
    refused = protocol.handshake_exc
    assert refused is None or isinstance(refused, InvalidHandshake), refused
    output = finish(protocol, written)
    events += protocol.events_received()
    assert all(isinstance(event, Frame) for event in events[1:])
    if not output:
        # The stream ended within the request.
        assert not events
        return None

    parser = ResponseParser()
    parser.feed(output)
    response = parser.parse()
    assert isinstance(response, Response)
    rest = parser.take_rest()
    if response.status_code == 101:
        assert refused is None
        check_accepted(events[0], response)
    else:
        assert refused is not None
        assert response.status_code in (400, 403, 405, 414, 426, 431, 505)
        assert response.headers["Connection"] in ("close", "close, Upgrade")
        assert not events[1:]
        assert not rest
    # Why it is refused can depend on how much of it has arrived.
    return response.status_code == 101 and (response, rest, events)


def check_accepted(request: Request, response: Response) -> None:
    """Check what a server must check (RFC 6455 section 4.2.1), and answer (section 4.2.2)."""
    headers = request.headers
    assert request.method == "GET"
    assert "HTTP/1.1" <= request.protocol <= "HTTP/1.9"
    assert len(headers.get_all("Host")) == 1
    upgrade = [item for value in headers.get_all("Upgrade") for item in parse_upgrade(value)]
    assert "websocket" in [item.lower() for item in upgrade]
    options = [item for value in headers.get_all("Connection") for item in parse_connection(value)]
    assert "upgrade" in [item.lower() for item in options]
    key = headers["Sec-WebSocket-Key"]
    assert len(base64.b64decode(key, validate=True)) == 16
    assert headers["Sec-WebSocket-Version"] == "13"
    assert response.headers["Upgrade"] == "websocket"
    assert response.headers["Connection"] == "Upgrade"
    assert response.headers["Sec-WebSocket-Accept"] == accept_key(key)
    assert not response.body


# A response to a client


def check_client(cursor: Cursor) -> None:
    extensions = [ClientPerMessageDeflateFactory()] if cursor.flag() else None
    subprotocols = cursor.pick((None, CHAT))

    def run(pieces: list[bytes]) -> object:
        protocol = ClientProtocol(
            URI, extensions=extensions, subprotocols=subprotocols, max_size=1000
        )
        protocol.key = KEY
        return connect(protocol, pieces)

    same_however_cut(cursor, run)


def connect(protocol: ClientProtocol, pieces: list[bytes]) -> object:
    """Connect to a server; return what it has sent, and what a client has negotiated."""
    protocol.send_request(protocol.connect())
    assert len(protocol.data_to_send()) == 1
    events: list[Any] = []
    written: list[bytes] = []
    opened = False
    for piece in pieces:
        protocol.receive_data(piece)
        events += protocol.events_received()
        written += protocol.data_to_send()
        opened = opened or protocol.state is not State.CONNECTING
    finish(protocol, written)
    events += protocol.events_received()
    refused = protocol.handshake_exc
    if not opened:
        assert isinstance(refused, InvalidHandshake), refused
        assert len(events) < 2
        return None
    assert refused is None
    response, *frames = events
    assert isinstance(response, Response)
    assert response.status_code == 101
    assert response.headers["Sec-WebSocket-Accept"] == accept_key(KEY)
    assert all(isinstance(event, Frame) for event in frames)
    assert protocol.subprotocol is None or protocol.subprotocol in CHAT
    assert len(protocol.extensions) < 2
    return events, protocol.subprotocol, list(map(repr, protocol.extensions))


# A client of ours and a server of ours


def check_both(cursor: Cursor) -> None:
    """What a client of ours asks for, a server of ours grants; and they agree on what that is."""
    bits = (None, 9, 10, 11, 12, 13, 14, 15)
    offer = ClientPerMessageDeflateFactory(
        cursor.flag(), cursor.flag(), cursor.pick((8, *bits)), cursor.pick((True, *bits))
    )
    answer = ServerPerMessageDeflateFactory(
        cursor.flag(), cursor.flag(), cursor.pick(bits), cursor.pick((8, *bits))
    )
    compressed = cursor.flag()
    try:
        uri = parse_uri(cursor.rest().decode("utf-8", "surrogateescape"))
    except InvalidURI:
        return
    client = ClientProtocol(uri, extensions=[offer], subprotocols=CHAT)
    served = ServerProtocol(extensions=[answer] if compressed else None, subprotocols=CHAT[1:])
    try:
        request = client.connect()
    except UnicodeEncodeError:
        assert uri.username is not None  # which was not UTF-8
        return
    client.send_request(request)
    (data,) = client.data_to_send()
    served.receive_data(data)
    events = served.events_received()
    if not events:
        assert len(data) > 8192, served.handshake_exc
        return
    assert events == [request]
    response = served.accept(request)
    assert served.handshake_exc is None, served.handshake_exc
    served.send_response(response)
    (data,) = served.data_to_send()
    client.receive_data(data)
    assert client.handshake_exc is None, client.handshake_exc
    assert client.state is served.state is State.OPEN
    assert client.subprotocol == served.subprotocol == "superchat"
    # A window of eight bits is one that compressors do not have: then there is no compression.
    assert len(client.extensions) == len(served.extensions) <= compressed
    for ours, theirs in zip(client.extensions, served.extensions, strict=True):
        assert isinstance(ours, PerMessageDeflate)
        assert isinstance(theirs, PerMessageDeflate)
        assert ours.local_max_window_bits == theirs.remote_max_window_bits
        assert ours.remote_max_window_bits == theirs.local_max_window_bits
        assert ours.local_no_context_takeover == theirs.remote_no_context_takeover
        assert ours.remote_no_context_takeover == theirs.local_no_context_takeover


def seeds() -> dict[str, bytes]:
    """Return inputs that reach the main paths."""
    found: dict[str, bytes] = {}
    for name, data in http.seeds().items():
        kind, _, name = name.partition("-")
        if kind == "request" and not name.endswith("limited"):
            found[f"server-{name}"] = b"\x00\x00\x00\x01\x07" + data[3:]
        elif kind == "response" and not name.endswith("limited"):
            found[f"client-{name}"] = b"\x01\x00\x00\x01\x07" + data[3:]
        elif kind == "uri":
            found[f"both-{name}"] = b"\x02" + bytes(8) + b"\x01" + data[1:]
    extra = {
        "deflate": b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=12\r\n",
        "deflate-bad": b"Sec-WebSocket-Extensions: permessage-deflate; mux=1\r\n",
        "subprotocol": b"Sec-WebSocket-Protocol: chat\r\nOrigin: http://example.com\r\n",
    }
    for name, line in extra.items():
        request = http.REQUEST[:-2] + line + b"\r\n" + b"\x81\x80\0\0\0\0"
        found[f"server-{name}"] = b"\x00\x01\x01\x01\x07" + request
        head, _, rest = http.RESPONSE.partition(b"\r\n\r\n")
        response = head + b"\r\n" + line + b"\r\n" + rest
        found[f"client-{name}"] = b"\x01\x01\x01\x01\x07" + response
    # RFC 6455 section 4.4
    old = http.REQUEST.replace(b"Version: 13", b"Version: 8")
    found["server-old"] = bytes(4) + old
    found["server-no-upgrade"] = bytes(4) + http.REQUEST.replace(b"websocket", b"h2c")
    for bits in range(9):
        options = bytes([bits & 1, 1, bits, 8 - bits, 0, bits >> 1 & 1, bits % 8, bits, 1])
        found[f"both-bits-{bits}"] = b"\x02" + options + b"ws://localhost/"
    return found
