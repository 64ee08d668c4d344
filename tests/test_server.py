"""The server's side of the opening handshake (RFC 6455 section 4.2).

Statuses, bodies, headers, exceptions and log lines are those of websockets 17.4, but where a
comment says why they are not.
"""

from __future__ import annotations

import http
import logging
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from websockets import server
from websockets.datastructures import Headers
from websockets.exceptions import (
    HeaderLineTooLong,
    InvalidHandshake,
    InvalidHeader,
    InvalidHeaderFormat,
    InvalidHeaderValue,
    InvalidMessage,
    InvalidMethod,
    InvalidOrigin,
    InvalidProtocol,
    InvalidState,
    InvalidUpgrade,
    NegotiationError,
    RequestLineTooLong,
    TooManyHeaders,
)
from websockets.extensions import Extension, ServerExtensionFactory
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import SEND_EOF, State
from websockets.server import ServerProtocol
from websockets.typing import ExtensionName, ExtensionParameter, Subprotocol

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
DATE = "Sun, 22 Nov 2026 08:09:10 GMT"

CLOSE = "Connection: close"

FIELDS = [
    ("Host", "example.com"),
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Key", KEY),
    ("Sec-WebSocket-Version", "13"),
]


@pytest.fixture(autouse=True)
def date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "get_date", lambda: DATE)


def request(
    *more: tuple[str, str],
    without: Sequence[str] = (),
    method: str = "GET",
    protocol: str = "HTTP/1.1",
) -> Request:
    fields = [field for field in FIELDS if field[0] not in without]
    return Request("/chat", Headers([*fields, *more]), method, protocol)


def replaced(name: str, value: str) -> Request:
    return request((name, value), without=[name])


def rejection(text: str, status: str = "400 Bad Request", *more: str) -> list[bytes]:
    """What is written to refuse a handshake."""
    body = text.encode()
    connection = [] if any(line.startswith("Connection: ") for line in more) else [CLOSE]
    lines = [
        f"HTTP/1.1 {status}",
        f"Date: {DATE}",
        *connection,
        f"Content-Length: {len(body)}",
        "Content-Type: text/plain; charset=utf-8",
        *more,
    ]
    return ["\r\n".join([*lines, "", ""]).encode() + body, SEND_EOF]


def failure(reason: str, status: str = "400 Bad Request", *more: str) -> list[bytes]:
    return rejection(f"Failed to open a WebSocket connection: {reason}.\n", status, *more)


def handshake(request: Request, **kwargs: Any) -> tuple[ServerProtocol, list[bytes]]:
    """Let a request travel as bytes, answer it, and return what is written."""
    protocol = ServerProtocol(**kwargs)
    protocol.receive_data(request.serialize())
    (event,) = protocol.events_received()
    assert event == request
    assert protocol.data_to_send() == []
    protocol.send_response(protocol.accept(event))
    return protocol, protocol.data_to_send()


def opened(*more: str) -> list[bytes]:
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        f"Date: {DATE}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {ACCEPT}",
        *more,
    ]
    return ["\r\n".join([*lines, "", ""]).encode()]


def chain(exc: BaseException | None) -> list[str]:
    texts = []
    while exc is not None:
        texts.append(f"{type(exc).__name__}: {exc}")
        exc = exc.__cause__
    return texts


def log_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage() + (" (traceback)" if record.exc_info else "")
        for record in caplog.records
    ]


class TestAccept:
    """RFC 6455 section 4.2.2."""

    def test_bytes_and_state(self) -> None:
        protocol, writes = handshake(request())
        assert writes == opened()
        assert protocol.state is State.OPEN
        assert protocol.handshake_exc is None
        assert protocol.accept_called
        assert not protocol.close_expected()
        assert (protocol.origin, protocol.extensions, protocol.subprotocol) == (None, [], None)

    @pytest.mark.parametrize(
        "good",
        [
            replaced("Connection", "upgrade"),
            replaced("Connection", "keep-alive, Upgrade"),
            request(("Connection", "keep-alive")),
            replaced("Upgrade", "WebSocket"),
            replaced("Host", ""),
            replaced("Host", "[::1]:8080"),
            replaced("Host", "a_b.example:80"),
            request(("Origin", "null")),
            request(("Sec-WebSocket-Protocol", "chat")),
            request(("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")),
        ],
        ids=lambda request: str(list(request.headers.raw_items())[-1]),
    )
    def test_variants(self, good: Request) -> None:
        protocol, writes = handshake(good)
        assert writes == opened()
        assert protocol.state is State.OPEN

    def test_log(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG, "websockets.server")
        handshake(request())
        assert {record.name for record in caplog.records} == {"websockets.server"}
        assert log_lines(caplog) == [
            "= connection is CONNECTING",
            "< GET /chat HTTP/1.1",
            "< Host: example.com",
            "< Upgrade: websocket",
            "< Connection: Upgrade",
            f"< Sec-WebSocket-Key: {KEY}",
            "< Sec-WebSocket-Version: 13",
            "> HTTP/1.1 101 Switching Protocols",
            f"> Date: {DATE}",
            "> Upgrade: websocket",
            "> Connection: Upgrade",
            f"> Sec-WebSocket-Accept: {ACCEPT}",
            "= connection is OPEN",
            "connection open",
        ]

    def test_log_at_info(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "websockets.server")
        protocol, _ = handshake(request())
        protocol.receive_eof()
        assert log_lines(caplog) == ["connection open", "connection closed"]

    def test_logger(self) -> None:
        logger = logging.getLogger("test")
        assert ServerProtocol(logger=logger).logger is logger

    def test_response_can_be_changed(self) -> None:
        protocol = ServerProtocol()
        response = protocol.accept(request())
        response.headers["Server"] = "me"
        protocol.send_response(response)
        assert protocol.data_to_send() == opened("Server: me")

    def test_state_changes_when_the_response_is_sent(self) -> None:
        protocol = ServerProtocol(subprotocols=[Subprotocol("a")])
        protocol.accept(request(("Sec-WebSocket-Protocol", "a")))
        assert protocol.state is State.CONNECTING
        assert protocol.subprotocol == "a"
        assert protocol.data_to_send() == []

    def test_opens_once(self) -> None:
        protocol, _ = handshake(request())
        with pytest.raises(InvalidState, match="^connection is open$"):
            protocol.send_response(protocol.accept(request()))
        assert protocol.data_to_send() == []

    def test_does_not_open_after_the_end(self) -> None:
        protocol = ServerProtocol()
        protocol.receive_data(request().serialize())
        protocol.receive_eof()
        with pytest.raises(InvalidState, match="^connection is closed$"):
            protocol.send_response(protocol.accept(request()))

    def test_process_request(self) -> None:
        protocol = ServerProtocol()
        assert protocol.process_request(request()) == (ACCEPT, None, None)


class TestBytes:
    """Requests as they arrive."""

    def test_frames_behind_the_request(self) -> None:
        """They wait for the response; 17.4 hands them out before it."""
        protocol = ServerProtocol()
        protocol.receive_data(request().serialize() + b"\x81\x82\0\0\0\0hi")
        assert protocol.events_received() == [request()]
        protocol.send_response(protocol.accept(request()))
        assert protocol.events_received() == [Frame(Opcode.TEXT, b"hi")]

    def test_byte_by_byte(self) -> None:
        protocol = ServerProtocol()
        data = request().serialize()
        for i in range(len(data)):
            assert protocol.events_received() == []
            protocol.receive_data(data[i : i + 1])
        assert protocol.events_received() == [request()]
        protocol.send_response(protocol.accept(request()))
        protocol.receive_data(b"\x81\x82\0\0\0\0hi")
        assert protocol.events_received() == [Frame(Opcode.TEXT, b"hi")]

    def test_second_request(self) -> None:
        """What follows a request is frames, and pipelined requests are none."""
        protocol = ServerProtocol()
        protocol.receive_data(request().serialize() * 2)
        assert protocol.events_received() == [request()]
        protocol.send_response(protocol.accept(request()))
        assert protocol.events_received() == []
        assert chain(protocol.parser_exc) == ["ProtocolError: invalid opcode"]

    def test_no_handshake_when_open(self) -> None:
        protocol = ServerProtocol(state=State.OPEN)
        protocol.receive_data(b"\x81\x82\0\0\0\0hi")
        assert protocol.events_received() == [Frame(Opcode.TEXT, b"hi")]

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"\x16\x03\x01\r\n", "ValueError: invalid HTTP request line: \\x16\\x03\\x01"),
            (
                b"GET / HTTP/2\r\n\r\n",
                "ValueError: unsupported protocol; expected HTTP/1.1 or HTTP/1.0: GET / HTTP/2",
            ),
            (b"GET / HTTP/1.1\r\nA\r\n\r\n", "ValueError: invalid HTTP header line: A"),
            (b"GET / HTTP/1.1\r\nA : b\r\n\r\n", "ValueError: invalid HTTP header name: A "),
            (b"GET / HTTP/1.1\nA: b\n\n", "ValueError: line without CRLF"),
            (request(("Content-Length", "3")).serialize(), "ValueError: unsupported request body"),
            (
                request(("Transfer-Encoding", "chunked")).serialize(),
                "NotImplementedError: transfer codings aren't supported",
            ),
        ],
        ids=lambda v: ascii(v)[:30] if isinstance(v, bytes) else "",
    )
    def test_malformed(self, data: bytes, reason: str, caplog: pytest.LogCaptureFixture) -> None:
        """17.4 closes the connection without a word; RFC 9112 sections 2.2 and 5.1 want a 400."""
        caplog.set_level(logging.DEBUG, "websockets.server")
        protocol = ServerProtocol()
        protocol.receive_data(data + b"rest")
        assert protocol.events_received() == []
        assert chain(protocol.handshake_exc) == [
            "InvalidMessage: did not receive a valid HTTP request",
            reason,
        ]
        text = f"did not receive a valid HTTP request; {reason.partition(': ')[2]}"
        assert protocol.data_to_send() == failure(text)
        assert protocol.state is State.CONNECTING
        assert protocol.close_expected()
        lines = [line for line in log_lines(caplog) if not line.startswith(">")]
        assert lines == [
            "= connection is CONNECTING",
            "! no valid HTTP request (traceback)",
            "HTTP response sent (400 Bad Request)",
        ]
        protocol.receive_data(request().serialize())
        assert protocol.events_received() == []
        assert protocol.data_to_send() == []

    @pytest.mark.parametrize(
        ("data", "where"),
        [
            (b"", "request line"),
            (b"GET", "request line"),
            (b"GET / HTTP/1.1\r\n", "headers"),
            (b"GET / HTTP/1.1\r\nA: b\r\n", "headers"),
        ],
        ids=repr,
    )
    def test_end_of_stream(self, data: bytes, where: str, caplog: pytest.LogCaptureFixture) -> None:
        """There is nobody to answer."""
        caplog.set_level(logging.INFO, "websockets.server")
        protocol = ServerProtocol()
        protocol.receive_data(data)
        protocol.receive_eof()
        assert protocol.data_to_send() == [SEND_EOF]
        assert chain(protocol.handshake_exc)[:2] == [
            "InvalidMessage: did not receive a valid HTTP request",
            f"EOFError: connection closed while reading HTTP {where}",
        ]
        assert type(protocol.handshake_exc) is InvalidMessage
        assert protocol.state is State.CLOSED
        assert log_lines(caplog) == ["connection closed"]

    @pytest.mark.parametrize(
        ("data", "exc_type", "text", "status", "what"),
        [
            (
                b"GET /" + b"a" * 9000,
                RequestLineTooLong,
                "read 9005 bytes, expected no more than 8192 bytes",
                http.HTTPStatus.REQUEST_URI_TOO_LONG,
                "! request line too long (traceback)",
            ),
            (
                b"GET / HTTP/1.1\r\nA: " + b"a" * 9000,
                HeaderLineTooLong,
                "read 9003 bytes, expected no more than 8192 bytes",
                http.HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                "! header fields too large (traceback)",
            ),
            (
                b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 129,
                TooManyHeaders,
                "expected no more than 128 headers",
                http.HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                "! header fields too large (traceback)",
            ),
        ],
        ids=["request line", "header line", "number of headers"],
    )
    def test_limits(
        self,
        data: bytes,
        exc_type: type[Exception],
        text: str,
        status: http.HTTPStatus,
        what: str,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(logging.DEBUG, "websockets.server")
        protocol = ServerProtocol()
        protocol.receive_data(data)
        assert type(protocol.handshake_exc) is exc_type
        assert str(protocol.handshake_exc) == text
        status_line = f"{status.value} {status.phrase}"
        assert protocol.data_to_send() == failure(text, status_line)
        lines = log_lines(caplog)
        assert lines[1] == what
        assert lines[-2:] == [f"HTTP response sent ({status_line})", "> EOF"]
        assert protocol.close_expected()

    @pytest.mark.parametrize(
        "data", [b"garbage\r\n", b"a" * 9000, b""], ids=["garbage", "long", "nothing"]
    )
    def test_after_failure_of_this_side(self, data: bytes) -> None:
        """Nothing is written behind the end of our stream."""
        protocol = ServerProtocol()
        protocol.receive_data(b"GET")
        protocol.fail(1006)
        assert protocol.data_to_send() == [SEND_EOF]
        protocol.receive_data(data)
        protocol.receive_eof()
        assert protocol.data_to_send() == []
        assert protocol.state is State.CLOSED

    def test_behind_the_end_of_our_stream(self) -> None:
        """It ends once. (17.4 fails an assertion.)"""
        protocol = ServerProtocol()
        protocol.send_eof()
        assert protocol.data_to_send() == [SEND_EOF]
        protocol.receive_data(b"GET")
        protocol.receive_eof()
        assert protocol.data_to_send() == []
        assert isinstance(protocol.handshake_exc, InvalidMessage)
        assert protocol.state is State.CLOSED


BROWSER_HINT = (
    "\nYou cannot access a WebSocket server directly with a browser. You need a WebSocket client.\n"
)
UPGRADE = ("426 Upgrade Required", "Upgrade: websocket", "Connection: close, Upgrade")
NO_VERSION = ("400 Bad Request", "Sec-WebSocket-Version: 13")
OTHER_VERSION = (*UPGRADE, "Sec-WebSocket-Version: 13")

# Request, options, exception, reason, status and more headers.
Rejected = tuple[Request, dict[str, Any], type[InvalidHandshake], str, tuple[str, ...]]

REJECTED: dict[str, Rejected] = {
    # RFC 6455 section 4.2.1, point 1.
    "POST": (
        request(method="POST"),
        {},
        InvalidMethod,
        "unsupported HTTP method: POST",
        ("405 Method Not Allowed", "Allow: GET"),
    ),
    "lowercase": (
        request(method="get"),
        {},
        InvalidMethod,
        "unsupported HTTP method: get",
        ("405 Method Not Allowed", "Allow: GET"),
    ),
    "HTTP/1.0": (
        request(protocol="HTTP/1.0"),
        {},
        InvalidProtocol,
        "unsupported HTTP version: HTTP/1.0",
        ("505 HTTP Version Not Supported",),
    ),
    # Point 2, and RFC 9112 section 3.2; 17.4 does not look at Host.
    "no Host": (request(without=["Host"]), {}, InvalidHeader, "missing Host header", ()),
    "no Host and no Upgrade": (
        request(without=["Host", "Upgrade"], method="POST"),
        {},
        InvalidHeader,
        "missing Host header",
        (),
    ),
    "two Hosts": (
        request(("Host", "example.com")),
        {},
        InvalidHeader,
        "invalid Host header: multiple values",
        (),
    ),
    "bad Host": (
        replaced("Host", "a/b"),
        {},
        InvalidHeaderValue,
        "invalid Host header: a/b",
        (),
    ),
    "Host with space": (
        replaced("Host", "a b"),
        {},
        InvalidHeaderValue,
        "invalid Host header: a b",
        (),
    ),
    # Points 3 and 4.
    "no Connection": (
        request(without=["Connection"]),
        {},
        InvalidUpgrade,
        "missing Connection header",
        UPGRADE,
    ),
    "other Connection": (
        replaced("Connection", "keep-alive"),
        {},
        InvalidUpgrade,
        "invalid Connection header: keep-alive",
        UPGRADE,
    ),
    "empty Connection": (
        replaced("Connection", ""),
        {},
        InvalidHeaderFormat,
        "invalid Connection header: expected token at 0 in ",
        (),
    ),
    "no Upgrade": (
        request(without=["Upgrade"]),
        {},
        InvalidUpgrade,
        "missing Upgrade header",
        UPGRADE,
    ),
    "other Upgrade": (
        replaced("Upgrade", "h2c"),
        {},
        InvalidUpgrade,
        "invalid Upgrade header: h2c",
        UPGRADE,
    ),
    "two other Upgrades": (
        request(("Upgrade", "h2c"), ("Upgrade", "websocket/13"), without=["Upgrade"]),
        {},
        InvalidUpgrade,
        "invalid Upgrade header: h2c, websocket/13",
        UPGRADE,
    ),
    "bad Upgrade": (
        replaced("Upgrade", "\xe9"),
        {},
        InvalidHeaderFormat,
        "invalid Upgrade header: expected protocol at 0 in \xe9",
        (),
    ),
    # Point 5.
    "no key": (
        request(without=["Sec-WebSocket-Key"]),
        {},
        InvalidHeader,
        "missing Sec-WebSocket-Key header",
        (),
    ),
    "two keys": (
        request(("Sec-WebSocket-Key", KEY)),
        {},
        InvalidHeader,
        "invalid Sec-WebSocket-Key header: multiple values",
        (),
    ),
    "empty key": (
        replaced("Sec-WebSocket-Key", ""),
        {},
        InvalidHeaderValue,
        "empty Sec-WebSocket-Key header",
        (),
    ),
    "short key": (
        replaced("Sec-WebSocket-Key", KEY[:20]),
        {},
        InvalidHeaderValue,
        f"invalid Sec-WebSocket-Key header: {KEY[:20]}",
        (),
    ),
    # Point 6, and sections 4.2.2 and 4.4; 17.4 answers 400 and does not tell its version.
    "no version": (
        request(without=["Sec-WebSocket-Version"]),
        {},
        InvalidHeader,
        "missing Sec-WebSocket-Version header",
        NO_VERSION,
    ),
    "two versions": (
        request(("Sec-WebSocket-Version", "13")),
        {},
        InvalidHeader,
        "invalid Sec-WebSocket-Version header: multiple values",
        NO_VERSION,
    ),
    "version 8": (
        replaced("Sec-WebSocket-Version", "8"),
        {},
        InvalidHeaderValue,
        "invalid Sec-WebSocket-Version header: 8",
        OTHER_VERSION,
    ),
    "versions 13 and 8": (
        replaced("Sec-WebSocket-Version", "13, 8"),
        {},
        InvalidHeaderValue,
        "invalid Sec-WebSocket-Version header: 13, 8",
        OTHER_VERSION,
    ),
    # Point 7 and section 10.2.
    "no origin": (
        request(),
        {"origins": ["http://a.com"]},
        InvalidOrigin,
        "missing Origin header",
        ("403 Forbidden",),
    ),
    "other origin": (
        request(("Origin", "http://b.com")),
        {"origins": ["http://a.com", None]},
        InvalidOrigin,
        "invalid Origin header: http://b.com",
        ("403 Forbidden",),
    ),
    "empty origin": (
        request(("Origin", "")),
        {"origins": ["http://a.com"]},
        InvalidOrigin,
        "empty Origin header",
        ("403 Forbidden",),
    ),
    "two origins": (
        request(("Origin", "http://a.com"), ("Origin", "http://a.com")),
        {"origins": ["http://a.com"]},
        InvalidHeader,
        "invalid Origin header: multiple values",
        (),
    ),
    # Points 8 and 9, sections 9.1 and 11.3.
    "no subprotocol": (
        request(),
        {"subprotocols": ["chat"]},
        NegotiationError,
        "missing subprotocol",
        (),
    ),
    "other subprotocol": (
        request(("Sec-WebSocket-Protocol", "otherchat")),
        {"subprotocols": ["superchat", "chat"]},
        NegotiationError,
        "invalid subprotocol; expected one of superchat, chat",
        (),
    ),
    "bad subprotocol": (
        request(("Sec-WebSocket-Protocol", "ch at")),
        {},
        InvalidHeaderFormat,
        "invalid Sec-WebSocket-Protocol header: expected comma at 3 in ch at",
        (),
    ),
    "empty subprotocol": (
        request(("Sec-WebSocket-Protocol", "")),
        {"subprotocols": ["chat"]},
        InvalidHeaderFormat,
        "invalid Sec-WebSocket-Protocol header: expected token at 0 in ",
        (),
    ),
    # 17.4 does not look at it where it has no extensions.
    "bad extension": (
        request(("Sec-WebSocket-Extensions", "foo bar")),
        {},
        InvalidHeaderFormat,
        "invalid Sec-WebSocket-Extensions header: expected comma at 4 in foo bar",
        (),
    ),
}


class TestRejected:
    @pytest.mark.parametrize("name", REJECTED)
    def test_bytes_and_exception(self, name: str) -> None:
        bad, options, exc_type, text, status = REJECTED[name]
        protocol, writes = handshake(bad, **options)
        reason = failure(text, *status)
        if exc_type is InvalidUpgrade:
            body = f"Failed to open a WebSocket connection: {text}.\n{BROWSER_HINT}"
            reason = rejection(body, *status)
        assert writes == reason
        assert type(protocol.handshake_exc) is exc_type
        assert str(protocol.handshake_exc) == text
        assert protocol.state is State.CONNECTING
        assert protocol.close_expected()
        assert (protocol.extensions, protocol.subprotocol) == ([], None)

    @pytest.mark.parametrize("name", REJECTED)
    def test_no_frame_is_read(self, name: str) -> None:
        bad, options, *_ = REJECTED[name]
        protocol, _ = handshake(bad, **options)
        protocol.receive_data(b"\x81\x82\0\0\0\0hi")
        assert protocol.events_received() == []
        assert protocol.data_to_send() == []
        protocol.receive_eof()
        assert protocol.state is State.CLOSED

    @pytest.mark.parametrize(
        ("name", "what"),
        [
            ("POST", "invalid method"),
            ("HTTP/1.0", "invalid protocol"),
            ("no Upgrade", "invalid upgrade"),
            ("other origin", "invalid origin"),
            ("no key", "invalid handshake"),
            ("no subprotocol", "invalid handshake"),
        ],
    )
    def test_log(self, name: str, what: str, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG, "websockets.server")
        bad, options, _, _, status = REJECTED[name]
        handshake(bad, **options)
        lines = log_lines(caplog)
        assert f"! {what} (traceback)" in lines
        assert lines[-2:] == [
            f"connection rejected ({status[0] if status else '400 Bad Request'})",
            "> EOF",
        ]

    def test_one_line_at_info(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "websockets.server")
        handshake(request(without=["Upgrade"]))
        assert log_lines(caplog) == ["connection rejected (426 Upgrade Required)"]

    def test_request_keeps_the_exception(self) -> None:
        protocol = ServerProtocol()
        bad = request(method="POST")
        protocol.accept(bad)
        assert bad._exception is protocol.handshake_exc

    @pytest.mark.parametrize(
        ("key", "cause"),
        [
            ("abc", "Incorrect padding"),
            (KEY[:-1], "Incorrect padding"),
            (KEY + "a", "Excess data after padding"),
            ("\xe9", "Only base64 data is allowed"),
            ("dGhlIHNhb XBsZSBub25jZQ==", "Only base64 data is allowed"),
        ],
    )
    def test_key_that_is_not_base64(self, key: str, cause: str) -> None:
        """The body tells the cause, too."""
        protocol, writes = handshake(replaced("Sec-WebSocket-Key", key))
        assert writes == failure(f"invalid Sec-WebSocket-Key header: {key}; {cause}")
        assert chain(protocol.handshake_exc) == [
            f"InvalidHeaderValue: invalid Sec-WebSocket-Key header: {key}",
            f"Error: {cause}",
        ]

    def test_order_of_checks(self) -> None:
        """A browser that visits the server is told to upgrade, whatever else is missing."""
        protocol = ServerProtocol()
        assert protocol.accept(Request("/", Headers(Host="h"))).status_code == 426
        bad = request(("Origin", "x"), ("Sec-WebSocket-Extensions", "a b"))
        assert ServerProtocol(origins=[]).accept(bad).status_code == 403


class TestOrigins:
    """RFC 6455 section 10.2."""

    @pytest.mark.parametrize(
        ("origin", "origins"),
        [
            ("http://a.com", None),
            ("http://a.com", ["http://b.com", "http://a.com"]),
            ("http://x.a.com", [re.compile(r"http://.*\.a\.com")]),
            (None, ["http://a.com", None]),
            (None, [re.compile(r"http://.*"), None]),
        ],
    )
    def test_accepted(self, origin: str | None, origins: Any) -> None:
        more = [] if origin is None else [("Origin", origin)]
        protocol, writes = handshake(request(*more), origins=origins)
        assert writes == opened()
        assert protocol.origin == origin

    @pytest.mark.parametrize(
        ("origin", "origins"),
        [
            ("http://a.com", []),
            ("http://A.com", ["http://a.com"]),
            ("http://a.com/", ["http://a.com"]),
            ("http://a.com http://b.com", ["http://a.com"]),
            ("http://a.com", [None]),
            ("http://x.a.com.evil", [re.compile(r"http://.*\.a\.com")]),
            ("zhttp://x.a.com", [re.compile(r"http://.*\.a\.com")]),
            ("null", ["http://a.com"]),
        ],
    )
    def test_refused(self, origin: str, origins: Any) -> None:
        with pytest.raises(InvalidOrigin):
            ServerProtocol(origins=origins).process_origin(Headers(Origin=origin))


class TestSubprotocols:
    """RFC 6455 section 4.2.2, point 5."""

    @pytest.mark.parametrize(
        ("offers", "available", "selected"),
        [
            (["chat"], ["superchat", "chat"], "chat"),
            (["chat, superchat"], ["superchat", "chat"], "superchat"),
            (["chat", "superchat"], ["superchat", "chat"], "superchat"),
            (["chat,chat"], ["chat"], "chat"),
        ],
    )
    def test_selected(self, offers: list[str], available: Any, selected: str) -> None:
        more = [("Sec-WebSocket-Protocol", offer) for offer in offers]
        protocol, writes = handshake(request(*more), subprotocols=available)
        assert writes == opened(f"Sec-WebSocket-Protocol: {selected}")
        assert protocol.subprotocol == selected

    @pytest.mark.parametrize("available", [None, []])
    def test_none_available(self, available: Any) -> None:
        protocol, writes = handshake(
            request(("Sec-WebSocket-Protocol", "chat")), subprotocols=available
        )
        assert writes == opened()
        assert protocol.subprotocol is None

    def test_own_rule(self) -> None:
        calls = []

        def select(protocol: ServerProtocol, offers: Sequence[Subprotocol]) -> Subprotocol | None:
            calls.append((protocol, offers))
            return offers[-1] if offers else None

        protocol, writes = handshake(
            request(("Sec-WebSocket-Protocol", "a, b")),
            subprotocols=[Subprotocol("a")],
            select_subprotocol=select,
        )
        assert writes == opened("Sec-WebSocket-Protocol: b")
        assert calls == [(protocol, ["a", "b"])]
        protocol, writes = handshake(request(), select_subprotocol=select)
        assert writes == opened()
        assert calls[1:] == [(protocol, [])]

    def test_own_rule_refuses(self) -> None:
        def select(protocol: ServerProtocol, offers: Sequence[Subprotocol]) -> Subprotocol | None:
            raise NegotiationError("nope")

        _, writes = handshake(request(), select_subprotocol=select)
        assert writes == failure("nope")


class Marked(Extension):
    name = ExtensionName("mark")

    def __init__(self, params: Sequence[ExtensionParameter]) -> None:
        self.params = params


class Factory(ServerExtensionFactory):
    def __init__(
        self,
        name: str,
        params: list[ExtensionParameter] | None = None,
        exc: Exception | None = None,
    ) -> None:
        self.name = ExtensionName(name)
        self.params = params or []
        self.exc = exc
        self.seen: list[int] = []

    def process_request_params(
        self,
        params: Sequence[ExtensionParameter],
        accepted_extensions: Sequence[Extension],
    ) -> tuple[list[ExtensionParameter], Extension]:
        self.seen.append(len(accepted_extensions))
        if self.exc is not None:
            raise self.exc
        return self.params, Marked(params)


def negotiate(offers: list[str], factories: list[Factory]) -> tuple[str | None, list[Any]]:
    headers = Headers([("Sec-WebSocket-Extensions", offer) for offer in offers])
    value, extensions = ServerProtocol(extensions=factories).process_extensions(headers)
    return value, [extension.params for extension in extensions if isinstance(extension, Marked)]


class TestExtensions:
    """RFC 6455 section 9.1."""

    @pytest.mark.parametrize(
        ("offers", "factories", "expected"),
        [
            ([], [Factory("foo")], (None, [])),
            (["foo"], [], (None, [])),
            (["FOO"], [Factory("foo")], (None, [])),
            (["foo, bar"], [Factory("bar")], ("bar", [[]])),
            (
                ["foo; a=1, bar"],
                [Factory("foo", [("x", None), ("y", "2")]), Factory("bar")],
                ("foo; x; y=2, bar", [[("a", "1")], []]),
            ),
            (
                ["bar", "foo; b"],
                [Factory("foo"), Factory("bar")],
                ("bar, foo", [[], [("b", None)]]),
            ),
            (["foo"], [Factory("foo", exc=NegotiationError("no"))], (None, [])),
            (
                ["foo"],
                [Factory("foo", exc=NegotiationError("no")), Factory("foo", [("q", "1")])],
                ("foo; q=1", [[]]),
            ),
        ],
        ids=[
            "none offered",
            "none available",
            "case matters",
            "other one declined",
            "both",
            "order of the client",
            "declined",
            "second factory",
        ],
    )
    def test_negotiation(self, offers: list[str], factories: list[Factory], expected: Any) -> None:
        assert negotiate(offers, factories) == expected

    def test_factories_see_what_was_accepted(self) -> None:
        foo, bar = Factory("foo"), Factory("bar")
        negotiate(["bar, foo"], [foo, bar])
        assert (foo.seen, bar.seen) == ([1], [0])

    def test_handshake(self) -> None:
        protocol, writes = handshake(
            request(("Sec-WebSocket-Extensions", "foo; a=1")), extensions=[Factory("foo")]
        )
        assert writes == opened("Sec-WebSocket-Extensions: foo")
        (extension,) = protocol.extensions
        assert isinstance(extension, Marked)
        assert extension.params == [("a", "1")]


def broken_select(protocol: ServerProtocol, offers: Sequence[Subprotocol]) -> Subprotocol | None:
    raise ZeroDivisionError


def hostile_select(protocol: ServerProtocol, offers: Sequence[Subprotocol]) -> Subprotocol | None:
    return Subprotocol("a\r\nX: y")


@pytest.mark.parametrize(
    ("options", "exc_type"),
    [
        ({"select_subprotocol": broken_select}, ZeroDivisionError),
        ({"extensions": [Factory("foo", exc=ZeroDivisionError())]}, ZeroDivisionError),
        # 17.4 raises out of accept(), and the client is not answered.
        ({"select_subprotocol": hostile_select}, InvalidHeaderValue),
        ({"extensions": [Factory("foo", [("a", "\r\nX: y")])]}, InvalidHeaderValue),
    ],
    ids=["subprotocol", "extension", "hostile subprotocol", "hostile extension"],
)
def test_mistakes_of_the_application(
    options: dict[str, Any], exc_type: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "websockets.server")
    protocol, writes = handshake(request(("Sec-WebSocket-Extensions", "foo")), **options)
    assert writes == rejection(
        "Failed to open a WebSocket connection.\nSee server log for more information.\n",
        "500 Internal Server Error",
    )
    assert type(protocol.handshake_exc) is exc_type
    assert log_lines(caplog) == [
        "opening handshake failed (traceback)",
        "connection rejected (500 Internal Server Error)",
    ]
    assert caplog.records[0].levelno == logging.ERROR


class TestReject:
    @pytest.mark.parametrize(
        ("status", "text", "line"),
        [
            (404, "Not found\n", "404 Not Found"),
            (http.HTTPStatus.OK, "OK\n", "200 OK"),
            (503, "caf\xe9\n", "503 Service Unavailable"),
            (401, "", "401 Unauthorized"),
        ],
    )
    def test_reject(
        self, status: Any, text: str, line: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "websockets.server")
        protocol = ServerProtocol()
        protocol.receive_data(request().serialize())
        protocol.send_response(protocol.reject(status, text))
        assert protocol.data_to_send() == rejection(text, line)
        assert log_lines(caplog) == [f"HTTP response sent ({line})"]
        assert protocol.state is State.CONNECTING
        assert protocol.handshake_exc is None

    @pytest.mark.parametrize("status", [99, 999, "404"])
    def test_unknown_status(self, status: Any) -> None:
        with pytest.raises(ValueError, match="is not a valid HTTPStatus$"):
            ServerProtocol().reject(status, "")

    def test_body_in_log(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG, "websockets.server")
        protocol = ServerProtocol()
        protocol.send_response(protocol.reject(404, "caf\xe9"))
        assert log_lines(caplog)[-3:] == [
            "> [body] (5 bytes)",
            "HTTP response sent (404 Not Found)",
            "> EOF",
        ]

    @pytest.mark.parametrize(
        "response",
        [
            Response(200, "OK", Headers({"Content-Type": "text/html"}), b"hi"),
            Response(302, "Found", Headers(Location="/")),
        ],
        ids=["page", "redirect"],
    )
    def test_other_responses(self, response: Response) -> None:
        protocol = ServerProtocol()
        protocol.receive_data(request().serialize())
        protocol.send_response(response)
        assert protocol.data_to_send() == [response.serialize(), SEND_EOF]
        protocol.receive_data(b"\x81\x82\0\0\0\0hi")
        assert protocol.events_received() == [request()]

    def test_nothing_is_sent_after_the_end(self) -> None:
        protocol = ServerProtocol()
        protocol.receive_data(request().serialize())
        protocol.receive_eof()
        assert protocol.data_to_send() == [SEND_EOF]
        protocol.send_response(protocol.reject(404, ""))
        assert protocol.data_to_send() == []


@pytest.mark.parametrize(
    ("now", "date"),
    [
        # RFC 9110 section 5.6.7
        (784111777.9, "Sun, 06 Nov 1994 08:49:37 GMT"),
        (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
        (951782400, "Tue, 29 Feb 2000 00:00:00 GMT"),
    ],
)
def test_date(now: float, date: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the fixture of this module
    monkeypatch.setattr(time, "time", lambda: now)
    get_date: Callable[[], str] = server.get_date
    assert get_date() == date
    assert get_date() == date


def test_former_name() -> None:
    with pytest.warns(DeprecationWarning) as records:
        protocol = server.ServerConnection()
    assert [str(record.message) for record in records] == [
        "ServerConnection was renamed to ServerProtocol"
    ]
    assert records[0].filename == __file__
    assert isinstance(protocol, ServerProtocol)


def test_an_application_that_opens_by_itself() -> None:
    """Some servers answer the request in their own way, and set the state."""
    protocol = ServerProtocol(subprotocols=[Subprotocol("b")], state=State.OPEN)
    headers = Headers(
        [
            ("Host", "localhost"),
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Key", KEY),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Protocol", "a, b"),
        ]
    )
    response = protocol.accept(Request(path="/", headers=headers))
    assert response.status_code == 101
    assert response.headers["Sec-WebSocket-Accept"] == ACCEPT
    assert response.headers["Sec-WebSocket-Protocol"] == protocol.subprotocol == "b"
    protocol.state = State.OPEN
    assert type(protocol.data_to_send()) is list
    protocol.receive_data(b"\x81\x82\x00\x00\x00\x00hi")
    assert protocol.events_received() == [Frame(Opcode.TEXT, b"hi")]
    protocol.send_text(b"hi")
    assert protocol.data_to_send() == [b"\x81\x02hi"]
    protocol.state = State.CLOSING
    protocol.state = State.CLOSED
    with pytest.raises(InvalidState):
        protocol.send_text(b"late")
