"""The client's side of the opening handshake (RFC 6455 section 4.1).

Bytes, exceptions and log lines are those of websockets 17.4, but where a comment says why they are
not.
"""

from __future__ import annotations

import base64
import inspect
import itertools
import logging
from collections.abc import Sequence
from typing import Any

import pytest

from websockets import client
from websockets.client import ClientProtocol, backoff
from websockets.datastructures import Headers
from websockets.exceptions import (
    InvalidHeader,
    InvalidHeaderFormat,
    InvalidHeaderValue,
    InvalidMessage,
    InvalidStatus,
    InvalidUpgrade,
    NegotiationError,
    StatusLineTooLong,
)
from websockets.extensions import ClientExtensionFactory, Extension
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import SEND_EOF, State
from websockets.typing import ExtensionName, ExtensionParameter, Origin, Subprotocol
from websockets.uri import parse_uri

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

URI = parse_uri("ws://example.com/chat")

FIELDS = [
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Accept", ACCEPT),
]


def response(
    *more: tuple[str, str],
    without: Sequence[str] = (),
    status: int = 101,
    reason: str = "Switching Protocols",
    body: bytes = b"",
) -> Response:
    fields = [field for field in FIELDS if field[0] not in without]
    return Response(status, reason, Headers([*fields, *more]), body)


def replaced(name: str, value: str) -> Response:
    return response((name, value), without=[name])


def connecting(**kwargs: Any) -> ClientProtocol:
    """A client that has sent its request."""
    protocol = ClientProtocol(URI, **kwargs)
    protocol.key = KEY
    protocol.send_request(protocol.connect())
    assert protocol.data_to_send() != []
    return protocol


def chain(exc: BaseException | None) -> list[str]:
    texts = []
    while exc is not None:
        texts.append(f"{type(exc).__name__}: {exc}")
        exc = exc.__cause__
    return texts


def log_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


class Marked(Extension):
    name = ExtensionName("mark")

    def __init__(self, params: Sequence[ExtensionParameter]) -> None:
        self.params = params


class Factory(ClientExtensionFactory):
    def __init__(
        self,
        name: str,
        params: Sequence[ExtensionParameter] = (),
        exc: Exception | None = None,
    ) -> None:
        self.name = ExtensionName(name)
        self.params = params
        self.exc = exc
        self.seen: list[int] = []

    def get_request_params(self) -> Sequence[ExtensionParameter]:
        return self.params

    def process_response_params(
        self,
        params: Sequence[ExtensionParameter],
        accepted_extensions: Sequence[Extension],
    ) -> Extension:
        self.seen.append(len(accepted_extensions))
        if self.exc is not None:
            raise self.exc
        return Marked(params)


class TestRequest:
    """RFC 6455 section 4.1, first list of points."""

    def test_bytes(self) -> None:
        protocol = ClientProtocol(URI)
        protocol.key = KEY
        protocol.send_request(protocol.connect())
        assert protocol.data_to_send() == [
            b"GET /chat HTTP/1.1\r\n"
            b"Host: example.com\r\n"
            b"Upgrade: websocket\r\n"
            b"Connection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            b"Sec-WebSocket-Version: 13\r\n"
            b"\r\n"
        ]
        assert protocol.state is State.CONNECTING
        assert not protocol.close_expected()

    def test_all_headers_in_order(self) -> None:
        protocol = ClientProtocol(
            parse_uri("ws://user:pass@example.com/"),
            origin=Origin("http://example.com"),
            extensions=[Factory("foo", [("a", None), ("b", "1")]), Factory("bar")],
            subprotocols=[Subprotocol("chat"), Subprotocol("superchat")],
        )
        protocol.key = KEY
        assert list(protocol.connect().headers.raw_items()) == [
            ("Host", "example.com"),
            ("Authorization", "Basic dXNlcjpwYXNz"),
            ("Origin", "http://example.com"),
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Key", KEY),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Extensions", "foo; a; b=1, bar"),
            ("Sec-WebSocket-Protocol", "chat, superchat"),
        ]

    def test_empty_lists_are_not_offered(self) -> None:
        """Points 10 and 11: 17.4 sends empty headers, which servers must refuse."""
        headers = ClientProtocol(URI, extensions=[], subprotocols=[]).connect().headers
        assert "Sec-WebSocket-Extensions" not in headers
        assert "Sec-WebSocket-Protocol" not in headers

    @pytest.mark.parametrize(
        ("uri", "path", "host"),
        [
            ("ws://example.com", "/", "example.com"),
            ("wss://example.com/", "/", "example.com"),
            ("wss://example.com:80/", "/", "example.com:80"),
            ("ws://example.com:443/", "/", "example.com:443"),
            ("ws://example.com:8080/chat?a=b", "/chat?a=b", "example.com:8080"),
            ("ws://[::1]:9/", "/", "[::1]:9"),
            ("ws://\xe9.com/\xe9", "/%C3%A9", "xn--9ca.com"),
        ],
    )
    def test_path_and_host(self, uri: str, path: str, host: str) -> None:
        request = ClientProtocol(parse_uri(uri)).connect()
        assert (request.path, request.headers["Host"]) == (path, host)

    def test_keys(self) -> None:
        """Point 7: each connection has its own, 16 random bytes in base64."""
        keys = {ClientProtocol(URI).key for _ in range(10)}
        assert len(keys) == 10
        assert {len(base64.b64decode(key)) for key in keys} == {16}

    @pytest.mark.parametrize(
        "options", [{"origin": "a\r\nb"}, {"subprotocols": ["a\r\nb"]}], ids=str
    )
    def test_nothing_ends_a_line(self, options: dict[str, Any]) -> None:
        with pytest.raises(InvalidHeaderValue):
            ClientProtocol(URI, **options).connect()

    def test_request_can_be_changed(self) -> None:
        protocol = ClientProtocol(URI)
        request = protocol.connect()
        request.headers["User-Agent"] = "me"
        protocol.send_request(request)
        (data,) = protocol.data_to_send()
        assert data.endswith(b"\r\nUser-Agent: me\r\n\r\n")

    def test_log(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG, "websockets.client")
        connecting()
        assert {record.name for record in caplog.records} == {"websockets.client"}
        assert log_lines(caplog) == [
            "= connection is CONNECTING",
            "> GET /chat HTTP/1.1",
            "> Host: example.com",
            "> Upgrade: websocket",
            "> Connection: Upgrade",
            f"> Sec-WebSocket-Key: {KEY}",
            "> Sec-WebSocket-Version: 13",
        ]

    def test_hand_made_request(self) -> None:
        protocol = ClientProtocol(URI)
        protocol.send_request(Request("/", Headers(A="b")))
        assert protocol.data_to_send() == [b"GET / HTTP/1.1\r\nA: b\r\n\r\n"]


class TestAccepted:
    """RFC 6455 section 4.1, second list of points."""

    @pytest.mark.parametrize(
        "good",
        [
            response(),
            replaced("Upgrade", "WebSocket"),
            replaced("Connection", "keep-alive, upgrade"),
            response(("Connection", "Upgrade")),
            response(("Content-Length", "5")),
            response(reason=""),
        ],
        ids=[
            "usual",
            "case of Upgrade",
            "several options",
            "two Connections",
            "Content-Length",
            "no reason",
        ],
    )
    def test_opens(self, good: Response) -> None:
        protocol = connecting()
        protocol.receive_data(good.serialize() + b"\x81\x02hi")
        assert protocol.events_received() == [good, Frame(Opcode.TEXT, b"hi")]
        assert protocol.state is State.OPEN
        assert protocol.handshake_exc is None
        assert protocol.data_to_send() == []

    def test_byte_by_byte(self) -> None:
        protocol = connecting()
        data = response().serialize() + b"\x81\x02hi"
        for i in range(len(data)):
            protocol.receive_data(data[i : i + 1])
        assert protocol.events_received() == [response(), Frame(Opcode.TEXT, b"hi")]

    @pytest.mark.parametrize("status", [100, 102, 103])
    def test_interim_responses(self, status: int) -> None:
        """RFC 9110 section 15.2: they come before; 17.4 takes them for refusals."""
        protocol = connecting()
        interim = b"HTTP/1.1 %d Wait\r\nLink: x\r\n\r\n" % status
        protocol.receive_data(interim)
        assert protocol.events_received() == []
        assert not protocol.close_expected()
        protocol.receive_data(interim + response().serialize())
        assert protocol.events_received() == [response()]
        assert protocol.state is State.OPEN

    def test_log(self, caplog: pytest.LogCaptureFixture) -> None:
        protocol = connecting()
        caplog.set_level(logging.DEBUG, "websockets.client")
        protocol.debug = True
        protocol.receive_data(response().serialize())
        assert log_lines(caplog) == [
            "< HTTP/1.1 101 Switching Protocols",
            "< Upgrade: websocket",
            "< Connection: Upgrade",
            f"< Sec-WebSocket-Accept: {ACCEPT}",
            "= connection is OPEN",
        ]

    def test_no_log_at_info(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "websockets.client")
        protocol = connecting()
        protocol.receive_data(response().serialize())
        protocol.receive_eof()
        assert log_lines(caplog) == []

    def test_no_handshake_when_open(self) -> None:
        protocol = ClientProtocol(URI, state=State.OPEN)
        protocol.receive_data(b"\x81\x02hi")
        assert protocol.events_received() == [Frame(Opcode.TEXT, b"hi")]

    def test_process_response(self) -> None:
        protocol = ClientProtocol(URI)
        protocol.key = KEY
        protocol.process_response(response())
        assert protocol.state is State.CONNECTING
        with pytest.raises(InvalidStatus):
            protocol.process_response(response(status=403))


REFUSED: dict[str, tuple[Response, type[Exception], str]] = {
    # Points 2 and 3.
    "no Upgrade": (response(without=["Upgrade"]), InvalidUpgrade, "missing Upgrade header"),
    "other Upgrade": (replaced("Upgrade", "h2c"), InvalidUpgrade, "invalid Upgrade header: h2c"),
    "two Upgrades": (
        response(("Upgrade", "websocket")),
        InvalidUpgrade,
        "invalid Upgrade header: websocket, websocket",
    ),
    "empty Upgrade": (
        replaced("Upgrade", ""),
        InvalidHeaderFormat,
        "invalid Upgrade header: expected protocol at 0 in ",
    ),
    "no Connection": (
        response(without=["Connection"]),
        InvalidUpgrade,
        "missing Connection header",
    ),
    "other Connection": (
        replaced("Connection", "close"),
        InvalidUpgrade,
        "invalid Connection header: close",
    ),
    "bad Connection": (
        replaced("Connection", "a b"),
        InvalidHeaderFormat,
        "invalid Connection header: expected comma at 2 in a b",
    ),
    # Point 4.
    "no Accept": (
        response(without=["Sec-WebSocket-Accept"]),
        InvalidHeader,
        "missing Sec-WebSocket-Accept header",
    ),
    "two Accepts": (
        response(("Sec-WebSocket-Accept", ACCEPT)),
        InvalidHeader,
        "invalid Sec-WebSocket-Accept header: multiple values",
    ),
    "empty Accept": (
        replaced("Sec-WebSocket-Accept", ""),
        InvalidHeaderValue,
        "empty Sec-WebSocket-Accept header",
    ),
    "other Accept": (
        replaced("Sec-WebSocket-Accept", ACCEPT.swapcase()),
        InvalidHeaderValue,
        f"invalid Sec-WebSocket-Accept header: {ACCEPT.swapcase()}",
    ),
    "Accept that is not ASCII": (
        replaced("Sec-WebSocket-Accept", "\xe9"),
        InvalidHeaderValue,
        "invalid Sec-WebSocket-Accept header: \xe9",
    ),
    # Point 5.
    "extension": (
        response(("Sec-WebSocket-Extensions", "foo")),
        NegotiationError,
        "no extensions supported",
    ),
    # Point 6.
    "subprotocol": (
        response(("Sec-WebSocket-Protocol", "chat")),
        NegotiationError,
        "no subprotocols supported",
    ),
    # Point 1.
    "status 200": (
        response(("Content-Length", "2"), status=200, reason="OK", body=b"hi"),
        InvalidStatus,
        "server rejected WebSocket connection: HTTP 200",
    ),
    "status 302": (
        response(("Location", "/"), ("Content-Length", "0"), status=302, reason="Found"),
        InvalidStatus,
        "server rejected WebSocket connection: HTTP 302",
    ),
    "status 204": (
        response(status=204, reason="No Content"),
        InvalidStatus,
        "server rejected WebSocket connection: HTTP 204",
    ),
}


class TestRefused:
    @pytest.mark.parametrize("name", REFUSED)
    def test_exception(self, name: str) -> None:
        bad, exc_type, text = REFUSED[name]
        protocol = connecting()
        protocol.receive_data(bad.serialize())
        (event,) = protocol.events_received()
        assert isinstance(event, Response)
        assert event._exception is protocol.handshake_exc
        event._exception = None
        assert event == bad
        assert type(protocol.handshake_exc) is exc_type
        assert str(protocol.handshake_exc) == text
        assert protocol.data_to_send() == [SEND_EOF]
        assert protocol.state is State.CONNECTING
        assert protocol.close_expected()
        assert (protocol.extensions, protocol.subprotocol) == ([], None)

    @pytest.mark.parametrize("name", REFUSED)
    def test_no_frame_is_read(self, name: str) -> None:
        protocol = connecting()
        protocol.receive_data(REFUSED[name][0].serialize() + b"\x81\x02hi")
        protocol.receive_data(b"\x81\x02hi")
        assert len(protocol.events_received()) == 1
        protocol.receive_eof()
        assert protocol.state is State.CLOSED
        assert protocol.data_to_send() == [SEND_EOF]

    def test_body_until_end_of_stream(self) -> None:
        protocol = connecting()
        protocol.receive_data(b"HTTP/1.1 404 Not Found\r\n\r\nsor")
        protocol.receive_data(b"ry")
        assert protocol.events_received() == []
        protocol.receive_eof()
        (event,) = protocol.events_received()
        assert isinstance(event, Response)
        assert event.body == b"sorry"
        exc = protocol.handshake_exc
        assert isinstance(exc, InvalidStatus)
        assert exc.response is event
        assert protocol.data_to_send() == [SEND_EOF]
        assert protocol.state is State.CLOSED

    @pytest.mark.parametrize("data", [b"HTTP/1.1 404 Not Found\r\n\r\n", b"garbage\r\n", b""])
    def test_behind_the_end_of_our_stream(self, data: bytes) -> None:
        """It ends once. (17.4 fails an assertion.)"""
        protocol = connecting()
        protocol.send_eof()
        assert protocol.data_to_send() == [SEND_EOF]
        protocol.receive_data(data)
        protocol.receive_eof()
        assert protocol.data_to_send() == []
        assert isinstance(protocol.handshake_exc, (InvalidStatus, InvalidMessage))
        assert protocol.state is State.CLOSED

    def test_chunked_body(self) -> None:
        protocol = connecting()
        protocol.receive_data(
            b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nsorry\r\n0\r\n\r\n"
        )
        (event,) = protocol.events_received()
        assert isinstance(event, Response)
        assert event.body == b"sorry"

    def test_log(self, caplog: pytest.LogCaptureFixture) -> None:
        protocol = connecting()
        caplog.set_level(logging.DEBUG, "websockets.client")
        protocol.debug = True
        protocol.receive_data(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nhi")
        assert log_lines(caplog) == [
            "< HTTP/1.1 404 Not Found",
            "< Content-Length: 2",
            "< [body] (2 bytes)",
            "> EOF",
        ]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"SSH-2.0-x\r\n", "ValueError: invalid HTTP status line: SSH-2.0-x"),
        (
            b"HTTP/1.0 404 Not Found\r\n\r\n",
            "ValueError: unsupported protocol; expected HTTP/1.1: HTTP/1.0 404 Not Found",
        ),
        (b"HTTP/1.1 101 x\r\nA\r\n\r\n", "ValueError: invalid HTTP header line: A"),
        (
            b"HTTP/1.1 101 x\r\nA: " + b"a" * 9000,
            "HeaderLineTooLong: read 9003 bytes, expected no more than 8192 bytes",
        ),
        (
            b"HTTP/1.1 101 x\r\n" + b"A: b\r\n" * 129,
            "TooManyHeaders: expected no more than 128 headers",
        ),
        (
            b"HTTP/1.1 500 x\r\nContent-Length: 2000000\r\n\r\n",
            "SecurityError: body too large: 2000000 bytes",
        ),
        (
            b"HTTP/1.1 500 x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
            "MultipleValuesError: 'Content-Length'",
        ),
        (
            b"HTTP/1.1 500 x\r\nTransfer-Encoding: gzip\r\n\r\n",
            "NotImplementedError: transfer coding gzip isn't supported",
        ),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_malformed(data: bytes, reason: str) -> None:
    protocol = connecting()
    protocol.receive_data(data)
    assert protocol.events_received() == []
    assert type(protocol.handshake_exc) is InvalidMessage
    assert chain(protocol.handshake_exc) == [
        "InvalidMessage: did not receive a valid HTTP response",
        reason,
    ]
    assert protocol.data_to_send() == [SEND_EOF]
    assert protocol.close_expected()
    protocol.receive_data(response().serialize())
    assert protocol.events_received() == []


def test_status_line_too_long() -> None:
    protocol = connecting()
    protocol.receive_data(b"HTTP/1.1 101 " + b"a" * 9000)
    assert type(protocol.handshake_exc) is StatusLineTooLong
    assert str(protocol.handshake_exc) == "read 9013 bytes, expected no more than 8192 bytes"
    assert protocol.data_to_send() == [SEND_EOF]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "connection closed while reading HTTP status line"),
        (b"HTTP/1.1 101", "connection closed while reading HTTP status line"),
        (b"HTTP/1.1 101 x\r\nA: b\r\n", "connection closed while reading HTTP headers"),
        (
            b"HTTP/1.1 500 x\r\nContent-Length: 20\r\n\r\nabc",
            "stream ends after 3 bytes, expected 20 bytes",
        ),
    ],
)
def test_end_of_stream(data: bytes, reason: str) -> None:
    protocol = connecting()
    protocol.receive_data(data)
    protocol.receive_eof()
    assert chain(protocol.handshake_exc)[:2] == [
        "InvalidMessage: did not receive a valid HTTP response",
        f"EOFError: {reason}",
    ]
    assert protocol.events_received() == []
    assert protocol.data_to_send() == [SEND_EOF]
    assert protocol.state is State.CLOSED


class TestSubprotocols:
    """RFC 6455 section 4.1, point 6."""

    @pytest.mark.parametrize(("value", "expected"), [(None, None), ("b", "b"), ("a", "a")])
    def test_accepted(self, value: str | None, expected: str | None) -> None:
        more = [] if value is None else [("Sec-WebSocket-Protocol", value)]
        protocol = connecting(subprotocols=["a", "b"])
        protocol.receive_data(response(*more).serialize())
        assert protocol.state is State.OPEN
        assert protocol.subprotocol == expected

    @pytest.mark.parametrize(
        ("values", "exc_type", "text"),
        [
            (["c"], NegotiationError, "unsupported subprotocol: c"),
            (["A"], NegotiationError, "unsupported subprotocol: A"),
            (
                ["a, b"],
                InvalidHeader,
                "invalid Sec-WebSocket-Protocol header: multiple values: a, b",
            ),
            (
                ["a", "a"],
                InvalidHeader,
                "invalid Sec-WebSocket-Protocol header: multiple values: a, a",
            ),
            (
                ["a b"],
                InvalidHeaderFormat,
                "invalid Sec-WebSocket-Protocol header: expected comma at 2 in a b",
            ),
            (
                [""],
                InvalidHeaderFormat,
                "invalid Sec-WebSocket-Protocol header: expected token at 0 in ",
            ),
        ],
    )
    def test_refused(self, values: list[str], exc_type: type[Exception], text: str) -> None:
        protocol = connecting(subprotocols=["a", "b"])
        more = [("Sec-WebSocket-Protocol", value) for value in values]
        protocol.receive_data(response(*more).serialize())
        assert type(protocol.handshake_exc) is exc_type
        assert str(protocol.handshake_exc) == text


class TestExtensions:
    """RFC 6455 section 9.1."""

    @pytest.mark.parametrize(
        ("values", "factories", "params"),
        [
            ([], [Factory("foo")], []),
            (["foo; x=1"], [Factory("foo")], [[("x", "1")]]),
            (["bar", "foo; y"], [Factory("foo"), Factory("bar")], [[], [("y", None)]]),
            (
                ["foo"],
                [Factory("foo", exc=NegotiationError("no")), Factory("foo")],
                [[]],
            ),
        ],
        ids=["declined", "accepted", "order of the server", "second factory"],
    )
    def test_accepted(self, values: list[str], factories: list[Factory], params: Any) -> None:
        more = [("Sec-WebSocket-Extensions", value) for value in values]
        protocol = connecting(extensions=factories)
        protocol.receive_data(response(*more).serialize())
        assert protocol.state is State.OPEN
        assert [
            extension.params for extension in protocol.extensions if isinstance(extension, Marked)
        ] == params

    def test_factories_see_what_was_accepted(self) -> None:
        foo, bar = Factory("foo"), Factory("bar")
        protocol = connecting(extensions=[foo, bar])
        protocol.receive_data(response(("Sec-WebSocket-Extensions", "bar, foo")).serialize())
        assert (foo.seen, bar.seen) == ([1], [0])

    @pytest.mark.parametrize(
        ("value", "factory", "text"),
        [
            ("bar", Factory("foo"), "Unsupported extension: name = bar, params = []"),
            (
                "foo; a=1",
                Factory("foo", exc=NegotiationError("no")),
                "Unsupported extension: name = foo, params = [('a', '1')]",
            ),
        ],
        ids=["not offered", "parameters not accepted"],
    )
    def test_refused(self, value: str, factory: Factory, text: str) -> None:
        protocol = connecting(extensions=[factory])
        protocol.receive_data(response(("Sec-WebSocket-Extensions", value)).serialize())
        assert type(protocol.handshake_exc) is NegotiationError
        assert str(protocol.handshake_exc) == text

    def test_malformed(self) -> None:
        protocol = connecting(extensions=[Factory("foo")])
        protocol.receive_data(response(("Sec-WebSocket-Extensions", "foo bar")).serialize())
        assert type(protocol.handshake_exc) is InvalidHeaderFormat
        assert str(protocol.handshake_exc) == (
            "invalid Sec-WebSocket-Extensions header: expected comma at 4 in foo bar"
        )

    def test_broken_factory(self) -> None:
        """17.4 raises out of receive_data()."""
        protocol = connecting(extensions=[Factory("foo", exc=ZeroDivisionError())])
        protocol.receive_data(response(("Sec-WebSocket-Extensions", "foo")).serialize())
        assert type(protocol.handshake_exc) is ZeroDivisionError
        assert protocol.data_to_send() == [SEND_EOF]


class TestBackoff:
    """RFC 6455 section 7.2.3."""

    def test_defaults(self) -> None:
        first, *others = itertools.islice(backoff(), 12)
        assert 0 <= first < 5
        assert [round(delay, 2) for delay in others] == [
            3.1,
            5.02,
            8.12,
            13.13,
            21.25,
            34.38,
            55.62,
            89.99,
            90.0,
            90.0,
            90.0,
        ]

    def test_first_is_random(self) -> None:
        assert len({next(backoff()) for _ in range(10)}) > 1

    @pytest.mark.parametrize(
        ("args", "delays"),
        [((1, 2, 10, 3), [2, 6, 10, 10]), ((5, 1, 2, 3), [1, 2, 2, 2]), ((0, 0, 0, 0), [0] * 4)],
    )
    def test_arguments(self, args: tuple[float, ...], delays: list[float]) -> None:
        first, *others = itertools.islice(backoff(*args), 5)
        assert 0 <= first <= args[0]
        assert others == delays

    def test_names_of_parameters(self) -> None:
        assert list(inspect.signature(backoff).parameters) == [
            "initial_delay",
            "min_delay",
            "max_delay",
            "factor",
        ]


def test_former_name() -> None:
    with pytest.warns(DeprecationWarning) as records:
        protocol = client.ClientConnection(URI)
    assert [str(record.message) for record in records] == [
        "ClientConnection was renamed to ClientProtocol"
    ]
    assert records[0].filename == __file__
    assert isinstance(protocol, ClientProtocol)
