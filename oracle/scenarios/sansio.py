"""The protocol without I/O: bytes in, events and bytes out, compared to the last bit."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from websockets.client import ClientProtocol
from websockets.datastructures import Headers
from websockets.exceptions import NegotiationError
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    ServerPerMessageDeflateFactory,
)
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import CLIENT, SERVER, Protocol, State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from ..ends import (
    BINARY,
    CLOSE,
    CONT,
    GUID,
    KEY,
    PING,
    PONG,
    TEXT,
    accept_key,
    close_payload,
    frame,
    masked,
)
from ..scenario import Scenario, scenario

REQUEST = (
    b"GET /path?query HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Key: " + KEY.encode() + b"\r\n"
    b"Sec-WebSocket-Version: 13\r\n\r\n"
)


def step(s: Scenario, protocol: Protocol, what: str) -> list[Any]:
    """Write down all that a protocol shows after a step; return its events."""
    events = protocol.events_received()
    s.note(f"{what}: events", *events)
    s.note(f"{what}: bytes", *(bytes(data) for data in protocol.data_to_send()))
    s.note(f"{what}: state", protocol.state, protocol.close_expected())
    if protocol.handshake_exc is not None:
        s.note(f"{what}: handshake_exc", protocol.handshake_exc)
    if protocol.parser_exc is not None:
        s.note(f"{what}: parser_exc", protocol.parser_exc)
    return events


def feed(s: Scenario, protocol: Protocol, what: str, *pieces: bytes) -> list[Any]:
    """Give bytes to a protocol and write down what comes of it."""
    with s.failing(f"{what}: receive_data"):
        for piece in pieces:
            protocol.receive_data(piece)
    return step(s, protocol, what)


def end(s: Scenario, protocol: Protocol) -> None:
    """Tell a protocol that the stream has ended, and write down how it ended."""
    with s.failing("receive_eof"):
        protocol.receive_eof()
    step(s, protocol, "end")
    s.note("close code and reason", protocol.close_code, protocol.close_reason)
    with s.failing("close_exc"):
        raise protocol.close_exc


def client_protocol(uri: str = "ws://example.com/path?query", **kwargs: Any) -> ClientProtocol:
    return ClientProtocol(parse_uri(uri), **kwargs)


def response(key: str, *headers: str, status: str = "101 Switching Protocols") -> bytes:
    lines = [
        f"HTTP/1.1 {status}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {accept_key(key)}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


# Clients


def client_meets(s: Scenario, *headers: str, behind: bytes = b"", **kwargs: Any) -> ClientProtocol:
    """Open a connection as a client."""
    protocol = client_protocol(**kwargs)
    request = protocol.connect()
    s.note("request", request)
    protocol.send_request(request)
    step(s, protocol, "request")
    key = request.headers["Sec-WebSocket-Key"]
    feed(s, protocol, "response", response(key, *headers) + behind)
    s.note("subprotocol", protocol.subprotocol)
    s.note("extensions", *(extension.name for extension in protocol.extensions))
    return protocol


@scenario
def client_opens_and_closes(s: Scenario) -> None:
    """A client's life."""
    protocol = client_meets(s)
    protocol.send_text("héllo".encode())
    protocol.send_binary(b"\x00\x01")
    protocol.send_text(b"a", fin=False)
    protocol.send_continuation(b"b", fin=False)
    protocol.send_ping(b"ping")
    protocol.send_continuation(b"c", fin=True)
    protocol.send_pong(b"pong")
    step(s, protocol, "sent")
    feed(s, protocol, "frames", frame(TEXT, "one"), frame(BINARY, b"two") + frame(PING, "p"))
    protocol.send_close(4000, "bye")
    step(s, protocol, "close")
    feed(s, protocol, "answer", frame(TEXT, "late"), frame(CLOSE, close_payload(4000, "bye")))
    end(s, protocol)


@scenario
def client_lengths(s: Scenario) -> None:
    """Frames at the borders of the length encodings, as a client writes them."""
    protocol = ClientProtocol(parse_uri("ws://example.com/"), state=State.OPEN)
    for size in (0, 1, 125, 126, 127, 65535, 65536):
        protocol.send_binary(b"x" * size)
        step(s, protocol, f"{size} bytes")


@scenario
def client_subprotocols(s: Scenario) -> None:
    """Subprotocols, origin and extensions in a client's request."""
    client_meets(
        s,
        "Sec-WebSocket-Protocol: chat",
        "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover",
        subprotocols=["chat", "superchat"],
        origin="https://example.com",
        extensions=[ClientPerMessageDeflateFactory(client_max_window_bits=True)],
    )


@scenario
def client_uris(s: Scenario) -> None:
    """What a client's request makes of the URI."""
    for uri in (
        "ws://example.com",
        "ws://example.com:80/",
        "ws://example.com:8080/",
        "wss://example.com:443/p",
        "wss://example.com:80/p",
        "ws://[::1]:8080/",
        "ws://user:secret@example.com/",
        "ws://münchen.example/ü?ä",
        "ws://EXAMPLE.com/A",
    ):
        protocol = client_protocol(uri)
        protocol.send_request(protocol.connect())
        step(s, protocol, uri)


@scenario
def client_response_and_frames(s: Scenario) -> None:
    """Frames behind the response, and a bad one among them."""
    protocol = client_meets(s, behind=frame(TEXT, "early"))
    end(s, protocol)


@scenario
def client_response_byte_by_byte(s: Scenario) -> None:
    """A response that comes byte by byte."""
    protocol = client_protocol()
    request = protocol.connect()
    protocol.send_request(request)
    step(s, protocol, "request")
    data = response(request.headers["Sec-WebSocket-Key"]) + frame(TEXT, "hello")
    feed(s, protocol, "response", *(data[i : i + 1] for i in range(len(data))))


@scenario
def client_refused(s: Scenario) -> None:
    """A response that refuses, with a body."""
    protocol = client_protocol()
    protocol.send_request(protocol.connect())
    step(s, protocol, "request")
    feed(s, protocol, "response", b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
    end(s, protocol)


@scenario
def client_eof_before_response(s: Scenario) -> None:
    """The stream ends before the response."""
    protocol = client_protocol()
    protocol.send_request(protocol.connect())
    step(s, protocol, "request")
    end(s, protocol)


@scenario
def client_eof_within_response(s: Scenario) -> None:
    """The stream ends within the response."""
    protocol = client_protocol()
    protocol.send_request(protocol.connect())
    feed(s, protocol, "response", b"HTTP/1.1 101 Switch")
    end(s, protocol)


@scenario
def client_bad_responses(s: Scenario) -> None:
    """Responses that are wrong in one header."""
    for name, replacement in (
        (b"Upgrade: websocket\r\n", b""),
        (b"Upgrade: websocket\r\n", b"Upgrade: h2c\r\n"),
        (b"Connection: Upgrade\r\n", b""),
        (b"Connection: Upgrade\r\n", b"Connection: close\r\n"),
        (b"Sec-WebSocket-Accept", b"X-Accept"),
        (b"\r\n\r\n", b"\r\nSec-WebSocket-Protocol: x\r\n\r\n"),
        (b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: x\r\n\r\n"),
        (b"\r\n\r\n", b"\r\nUpgrade: websocket\r\n\r\n"),
    ):
        protocol = client_protocol()
        request = protocol.connect()
        protocol.send_request(request)
        protocol.data_to_send()
        data = response(request.headers["Sec-WebSocket-Key"]).replace(name, replacement, 1)
        feed(s, protocol, f"{name!r} {replacement!r}", data)


# Servers


def server_meets(
    s: Scenario, data: bytes = REQUEST, behind: bytes = b"", **kwargs: Any
) -> ServerProtocol:
    """Open a connection as a server."""
    protocol = ServerProtocol(**kwargs)
    events = feed(s, protocol, "request", data + behind)
    if events:
        answer = protocol.accept(events[0])
        s.note("accept", answer)
        protocol.send_response(answer)
        step(s, protocol, "response")
    return protocol


@scenario
def server_opens_and_closes(s: Scenario) -> None:
    """A server's life."""
    protocol = server_meets(s)
    feed(s, protocol, "frames", masked(TEXT, "one"), masked(BINARY, b"two") + masked(PING, "p"))
    protocol.send_text(b"answer")
    protocol.send_ping(b"")
    step(s, protocol, "sent")
    feed(s, protocol, "pong", masked(PONG))
    feed(s, protocol, "close", masked(CLOSE, close_payload(1001, "bye")))
    feed(s, protocol, "late", masked(TEXT, "late"))
    end(s, protocol)


@scenario
def server_closes(s: Scenario) -> None:
    """A server that closes first."""
    protocol = server_meets(s)
    protocol.send_close(1012, "restart")
    step(s, protocol, "close")
    feed(s, protocol, "answer", masked(CLOSE, close_payload(1012, "restart")))
    end(s, protocol)


@scenario
def server_rejects(s: Scenario) -> None:
    """reject() makes a response."""
    protocol = ServerProtocol()
    feed(s, protocol, "request", REQUEST)
    answer = protocol.reject(404, "nothing here\n")
    s.note("reject", answer)
    protocol.send_response(answer)
    step(s, protocol, "response")
    feed(s, protocol, "late", masked(TEXT, "late"))
    end(s, protocol)


@scenario
def server_negotiates(s: Scenario) -> None:
    """Subprotocols, origins and extensions."""
    headers = (
        b"Origin: https://example.com\r\nSec-WebSocket-Protocol: a, b\r\n"
        b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
    )
    protocol = server_meets(
        s,
        REQUEST[:-2] + headers,
        origins=["https://example.com"],
        subprotocols=["b"],
        extensions=[ServerPerMessageDeflateFactory()],
    )
    s.note("origin", protocol.origin)
    s.note("subprotocol", protocol.subprotocol)
    s.note("extensions", *(extension.name for extension in protocol.extensions))


@scenario
def server_select_subprotocol(s: Scenario) -> None:
    """The application's choice of a subprotocol."""

    def select(protocol: ServerProtocol, subprotocols: Sequence[Subprotocol]) -> Subprotocol | None:
        s.note("select", list(subprotocols))
        if "bad" in subprotocols:
            raise NegotiationError("bad one")
        return subprotocols[0]

    for header in (b"a", b"bad"):
        data = REQUEST[:-2] + b"Sec-WebSocket-Protocol: " + header + b"\r\n\r\n"
        server_meets(s, data, select_subprotocol=select)


@scenario
def server_bad_requests(s: Scenario) -> None:
    """Requests that are wrong in one header."""
    for name, replacement in (
        (b"Upgrade: websocket\r\n", b""),
        (b"Connection: Upgrade\r\n", b""),
        (b"Sec-WebSocket-Key", b"X-Key"),
        (b"Sec-WebSocket-Key: ", b"Sec-WebSocket-Key: x"),
        (b"\r\n\r\n", b"\r\nSec-WebSocket-Key: " + KEY.encode() + b"\r\n\r\n"),
        (b"\r\n\r\n", b"\r\nSec-WebSocket-Protocol: ,\r\n\r\n"),
    ):
        s.note("request", name, replacement)
        server_meets(s, REQUEST.replace(name, replacement, 1), subprotocols=["a"])


@scenario
def server_eof_within_request(s: Scenario) -> None:
    """The stream ends within the request."""
    protocol = ServerProtocol()
    feed(s, protocol, "request", REQUEST[:30])
    end(s, protocol)


@scenario
def server_request_byte_by_byte(s: Scenario) -> None:
    """A request that comes byte by byte, and frames that do."""
    protocol = ServerProtocol()
    events = feed(s, protocol, "request", *(REQUEST[i : i + 1] for i in range(len(REQUEST))))
    protocol.send_response(protocol.accept(events[0]))
    step(s, protocol, "response")
    data = masked(TEXT, "hello") + masked(CLOSE)
    feed(s, protocol, "frames", *(data[i : i + 1] for i in range(len(data))))


@scenario
def server_accept_by_hand(s: Scenario) -> None:
    """accept() of a request that the application has made."""
    headers = Headers(Host="example.com", Upgrade="websocket", Connection="Upgrade")
    headers["Sec-WebSocket-Version"] = "13"
    headers["Sec-WebSocket-Key"] = KEY
    protocol = ServerProtocol()
    answer = protocol.accept(Request("/", headers))
    answer.headers["X-Mine"] = "yes"
    protocol.send_response(answer)
    step(s, protocol, "response")


@scenario
def response_of_the_application(s: Scenario) -> None:
    """send_response() with a response that the application has made."""
    protocol = ServerProtocol()
    feed(s, protocol, "request", REQUEST)
    protocol.send_response(Response(200, "OK", Headers(X_Mine="yes"), b"body"))
    step(s, protocol, "response")


# Both sides


@scenario
def events_are_frames(s: Scenario) -> None:
    """Events are frames, fragments and control frames among them."""
    protocol = Protocol(SERVER)
    events = feed(
        s,
        protocol,
        "frames",
        masked(TEXT, "a", fin=False) + masked(PING, "p") + masked(CONT, "b") + masked(PONG, "q"),
    )
    for event in events:
        s.note("event", type(event).__name__, event == Frame(event.opcode, event.data, event.fin))
        s.note("text", str(event), event.opcode is Opcode(event.opcode))


@scenario
def bad_frames_to_server(s: Scenario) -> None:
    """Frames that a server has to refuse."""
    for data in (
        frame(TEXT, "not masked"),
        masked(TEXT, "x", rsv=4),
        masked(PING, "x", fin=False),
        masked(CONT, "x"),
        masked(TEXT, "x", fin=False) + masked(TEXT, "y"),
        masked(CLOSE, b"\x03"),
        masked(CLOSE, close_payload(1004)),
        masked(CLOSE, b"\x03\xe8\xff"),
    ):
        protocol = Protocol(SERVER)
        feed(s, protocol, repr(data), data)
        end(s, protocol)


@scenario
def bad_frames_to_client(s: Scenario) -> None:
    """Frames that a client has to refuse."""
    for data in (
        masked(TEXT, "masked"),
        frame(BINARY, b"x", rsv=1),
        frame(PONG, "x" * 126),
        frame(CONT, "x"),
        frame(CLOSE, close_payload(1006)),
    ):
        protocol = Protocol(CLIENT)
        feed(s, protocol, repr(data)[:60], data)
        end(s, protocol)


@scenario
def limits(s: Scenario) -> None:
    """max_size, for messages and for fragments."""
    for max_size, data in (
        (10, frame(BINARY, b"x" * 11)),
        (10, frame(BINARY, b"x" * 10)),
        (10, frame(BINARY, b"x" * 6, fin=False) + frame(CONT, b"x" * 5)),
        ((10, None), frame(BINARY, b"x" * 11)),
        ((None, 5), frame(BINARY, b"x" * 6)),
    ):
        protocol = Protocol(CLIENT, max_size=max_size)
        feed(s, protocol, f"max_size={max_size}", data)


@scenario
def sending_out_of_order(s: Scenario) -> None:
    """Frames that may not be sent now."""
    protocol = Protocol(SERVER)
    with s.failing("continuation of nothing"):
        protocol.send_continuation(b"x", fin=True)
    protocol.send_text(b"x", fin=False)
    with s.failing("text within text"):
        protocol.send_text(b"y")
    with s.failing("binary within text"):
        protocol.send_binary(b"y")
    with s.failing("close without code, with reason"):
        protocol.send_close(reason="why")
    with s.failing("close with a bad code"):
        protocol.send_close(1006)
    with s.failing("long ping"):
        protocol.send_ping(b"x" * 126)
    step(s, protocol, "sent")
    protocol.send_close()
    step(s, protocol, "close")
    for name in ("send_text", "send_binary", "send_ping", "send_pong"):
        with s.failing(f"{name} after close"):
            getattr(protocol, name)(b"x")
    with s.failing("send_close after close"):
        protocol.send_close(1000)
    step(s, protocol, "after close")


@scenario
def sending_before_opening(s: Scenario) -> None:
    """Nothing can be sent while connecting."""
    protocol = client_protocol()
    for name in ("send_text", "send_binary", "send_ping", "send_pong"):
        with s.failing(name):
            getattr(protocol, name)(b"x")
    with s.failing("send_close"):
        protocol.send_close(1000)
    step(s, protocol, "sent")
    with s.failing("close_exc"):
        raise protocol.close_exc


@scenario
def failing(s: Scenario) -> None:
    """fail() on both sides."""
    for side in (CLIENT, SERVER):
        protocol = Protocol(side)
        protocol.fail(1011, "keepalive ping timeout")
        step(s, protocol, f"{side.name} fail")
        protocol.fail(1002, "again")
        step(s, protocol, f"{side.name} again")
        mask = side is SERVER
        feed(s, protocol, "late", frame(TEXT, "late", mask=mask))
        feed(s, protocol, "answer", frame(CLOSE, close_payload(1011), mask=mask))
        end(s, protocol)


@scenario
def failing_with_1006(s: Scenario) -> None:
    """fail() with 1006 sends no close frame."""
    protocol = Protocol(SERVER)
    protocol.fail(1006)
    step(s, protocol, "fail")
    end(s, protocol)


@scenario
def eof_in_each_state(s: Scenario) -> None:
    """The stream ends without a close frame, within a frame, within a message, and twice."""
    for data in (b"", frame(TEXT, "cut")[:-1], frame(TEXT, "part", fin=False)):
        protocol = Protocol(CLIENT)
        feed(s, protocol, repr(data), data)
        end(s, protocol)
    protocol = Protocol(CLIENT)
    protocol.receive_eof()
    with s.failing("receive_eof again"):
        protocol.receive_eof()
    with s.failing("receive_data behind the end"):
        protocol.receive_data(b"x")


@scenario
def close_codes_received(s: Scenario) -> None:
    """Which close codes a peer may send."""
    codes = [0, 999, 1016, 1100, 2000, 2999, 3000, 3999, 4000, 4999, 5000, 65535]
    for code in [*range(1000, 1016), *codes]:
        protocol = Protocol(CLIENT)
        protocol.receive_data(frame(CLOSE, close_payload(code)))
        protocol.receive_eof()
        s.note(str(code), protocol.parser_exc, protocol.close_code)
        s.note(f"{code}: bytes", *protocol.data_to_send())


@scenario
def close_codes_sent(s: Scenario) -> None:
    """Which close codes may be sent."""
    codes = [0, 999, 1016, 2999, 3000, 3999, 4000, 4999, 5000]
    for code in [*range(1000, 1016), *codes]:
        protocol = Protocol(SERVER)
        with s.failing(str(code)):
            protocol.send_close(code)
        s.note(f"{code}: bytes", *protocol.data_to_send())


@scenario
def close_reasons(s: Scenario) -> None:
    """Reasons at their limit, and beyond."""
    for reason in ("x" * 123, "x" * 124, "é" * 61, "é" * 62):
        protocol = Protocol(SERVER)
        with s.failing(f"{len(reason.encode())} bytes"):
            protocol.send_close(1000, reason)
        step(s, protocol, "sent")


@scenario
def compressed_both_ways(s: Scenario) -> None:
    """Compressed messages; what is received is bytes that zlib made, the same for both."""
    protocol = client_meets(
        s,
        "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover",
        extensions=[ClientPerMessageDeflateFactory(server_no_context_takeover=True)],
    )
    data = bytes.fromhex("f248cdc9c90700")  # RFC 7692 section 7.2.3.1
    feed(s, protocol, "compressed", frame(TEXT, data, rsv=4))
    feed(s, protocol, "fragments", frame(TEXT, data[:3], rsv=4, fin=False), frame(CONT, data[3:]))
    feed(s, protocol, "not compressed", frame(TEXT, "plain"))
    feed(s, protocol, "bad data", frame(TEXT, b"\xff\xff\xff", rsv=4))
    end(s, protocol)


@scenario
def inflated_size(s: Scenario) -> None:
    """max_size holds for what a message is inflated to."""
    protocol = client_meets(
        s,
        "Sec-WebSocket-Extensions: permessage-deflate",
        extensions=[ClientPerMessageDeflateFactory()],
        max_size=100,
    )
    zeros = bytes.fromhex("62601805a360140c770000")  # a thousand of them
    feed(s, protocol, "too big", frame(BINARY, zeros, rsv=4))


@scenario
def logger_of_the_application(s: Scenario) -> None:
    """A logger of the application's, and the protocol's own."""
    protocol = ServerProtocol(logger=logging.getLogger("mine"))
    s.note("logger", getattr(protocol.logger, "name", None))
    feed(s, protocol, "request", REQUEST)
    s.note("default", getattr(ServerProtocol().logger, "name", None))
    s.note("default", getattr(client_protocol().logger, "name", None))
    s.note("default", getattr(Protocol(CLIENT).logger, "name", None))
    s.note("debug", protocol.debug)


@scenario
def key_and_accept(s: Scenario) -> None:
    """The example of RFC 6455 section 1.3."""
    protocol = ServerProtocol()
    events = feed(s, protocol, "request", REQUEST)
    s.note("accept", protocol.accept(events[0]).headers["Sec-WebSocket-Accept"], GUID)


@scenario
def state_set_by_the_application(s: Scenario) -> None:
    """state= and the attribute can be set, as frameworks do."""
    protocol = ServerProtocol(state=State.OPEN)
    feed(s, protocol, "frames", masked(TEXT, "hello"))
    protocol.state = State.CONNECTING
    s.note("state", protocol.state)
    protocol.state = State.OPEN
    protocol.send_text(b"x")
    step(s, protocol, "sent")
