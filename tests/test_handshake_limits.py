"""Limits of the opening handshake: they hold however slowly it comes, at a linear cost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any

import pytest

from websockets import http11
from websockets.exceptions import (
    HeaderLineTooLong,
    InvalidHeader,
    RequestLineTooLong,
    SecurityError,
    StatusLineTooLong,
    TooManyHeaders,
)
from websockets.http11 import (
    MAX_BODY_SIZE,
    MAX_LINE_LENGTH,
    MAX_NUM_HEADERS,
    Request,
    RequestParser,
    ResponseParser,
)
from websockets.server import ServerProtocol

GET = b"GET / HTTP/1.1\r\n"
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"

AnyParser = RequestParser | ResponseParser


def test_defaults() -> None:
    assert (MAX_LINE_LENGTH, MAX_NUM_HEADERS, MAX_BODY_SIZE) == (8192, 128, 1048576)


def test_environment() -> None:
    code = (
        "import json; from websockets import http11 as h; print(json.dumps("
        "[h.MAX_LINE_LENGTH, h.MAX_NUM_HEADERS, h.MAX_BODY_SIZE, h.SERVER, h.USER_AGENT]))"
    )
    environment = {
        "WEBSOCKETS_MAX_LINE_LENGTH": "10",
        "WEBSOCKETS_MAX_NUM_HEADERS": "20",
        "WEBSOCKETS_MAX_BODY_SIZE": "30",
        "WEBSOCKETS_SERVER": "s",
        "WEBSOCKETS_USER_AGENT": "u",
    }
    output = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        env=os.environ | environment,
    ).stdout
    assert json.loads(output) == [10, 20, 30, "s", "u"]


def line(start: bytes, end: bytes, size: int) -> bytes:
    """A line of a size that counts its CRLF."""
    return start + b"a" * (size - len(start + end) - 2) + end + b"\r\n"


LINES: dict[str, tuple[type[AnyParser], bytes, bytes, bytes, type[Exception]]] = {
    "request line": (RequestParser, b"", b"GET /", b" HTTP/1.1", RequestLineTooLong),
    "status line": (ResponseParser, b"", b"HTTP/1.1 101 ", b"", StatusLineTooLong),
    "header of request": (RequestParser, GET, b"A: ", b"", HeaderLineTooLong),
    "header of response": (ResponseParser, OK, b"A: ", b"", HeaderLineTooLong),
    "second header": (RequestParser, GET + b"B: \x85\r\n", b"A: \x85", b"\x0b", HeaderLineTooLong),
    "chunk size": (ResponseParser, CHUNKED, b"1;", b"", SecurityError),
}


@pytest.mark.parametrize("name", LINES)
class TestLines:
    def test_at_limit(self, name: str) -> None:
        parser_type, before, start, end, _ = LINES[name]
        if name == "second header":
            end = b""
        parser = parser_type()
        parser.feed(before + line(start, end, MAX_LINE_LENGTH))
        assert parser.parse() is None
        parser.feed(b"a\r\n0\r\n\r\n" if name == "chunk size" else b"\r\n")
        parser.feed_eof()
        assert parser.parse() is not None

    def test_above_limit(self, name: str) -> None:
        parser_type, before, start, end, exc_type = LINES[name]
        parser = parser_type()
        parser.feed(before + line(start, end, MAX_LINE_LENGTH + 1))
        with pytest.raises(SecurityError) as raised:
            parser.parse()
        assert type(raised.value) is exc_type
        assert str(raised.value) == "read 8193 bytes, expected no more than 8192 bytes"

    @pytest.mark.parametrize("step", [1, 100, 10000])
    def test_without_end(self, name: str, step: int) -> None:
        """No more than the limit, and what came with the byte that exceeds it, is kept."""
        parser_type, before, start, _, exc_type = LINES[name]
        parser = parser_type()
        parser.feed(before + start)
        assert parser.parse() is None
        fed = len(start)
        with pytest.raises(SecurityError) as raised:
            while fed < 100_000:
                parser.feed(b"a" * step)
                fed += step
                assert parser.parse() is None
        assert type(raised.value) is exc_type
        assert MAX_LINE_LENGTH < fed <= MAX_LINE_LENGTH + step


@pytest.mark.parametrize(
    ("parser_type", "start"),
    [(RequestParser, GET), (ResponseParser, OK), (ResponseParser, CHUNKED + b"0\r\n")],
    ids=["request", "response", "trailers"],
)
class TestNumberOfHeaders:
    def test_at_limit(self, parser_type: type[AnyParser], start: bytes) -> None:
        parser = parser_type()
        parser.feed(start + b"A: b\r\n" * MAX_NUM_HEADERS + b"\r\n")
        parser.feed_eof()
        assert parser.parse() is not None

    @pytest.mark.parametrize("end", [b"", b"\r\n"], ids=["incomplete", "complete"])
    def test_above_limit(self, parser_type: type[AnyParser], start: bytes, end: bytes) -> None:
        parser = parser_type()
        parser.feed(start + b"A: b\r\n" * (MAX_NUM_HEADERS + 1) + end)
        with pytest.raises(TooManyHeaders, match="^expected no more than 128 headers$"):
            parser.parse()

    def test_trickling(self, parser_type: type[AnyParser], start: bytes) -> None:
        parser = parser_type()
        parser.feed(start)
        for _ in range(MAX_NUM_HEADERS):
            parser.feed(b"A: b\r\n")
            assert parser.parse() is None
        parser.feed(b"A: b\r\n")
        with pytest.raises(TooManyHeaders, match="^expected no more than 128 headers$"):
            parser.parse()


def chunk(size: int) -> bytes:
    return b"%x\r\n" % size + b"a" * size + b"\r\n"


class TestBodies:
    @pytest.mark.parametrize(
        "data",
        [
            OK + b"Content-Length: 1048576\r\n\r\n" + b"a" * MAX_BODY_SIZE,
            OK + b"\r\n" + b"a" * MAX_BODY_SIZE,
            CHUNKED + chunk(MAX_BODY_SIZE) + b"0\r\n\r\n",
            CHUNKED + chunk(MAX_BODY_SIZE - 1) + chunk(1) + b"0\r\n\r\n",
        ],
        ids=["Content-Length", "end of stream", "chunk", "chunks"],
    )
    def test_at_limit(self, data: bytes) -> None:
        parser = ResponseParser()
        parser.feed(data)
        parser.feed_eof()
        message = parser.parse()
        assert message is not None
        assert len(message.body) == MAX_BODY_SIZE

    @pytest.mark.parametrize(
        ("data", "text"),
        [
            (OK + b"Content-Length: 1048577\r\n\r\n", "body too large: 1048577 bytes"),
            (OK + b"Content-Length: 9999999999\r\n\r\n", "body too large: 9999999999 bytes"),
            (
                OK + b"Content-Length: " + b"9" * 25 + b"\r\n\r\n",
                "invalid content length: " + "9" * 25,
            ),
            (
                OK + b"\r\n" + b"a" * (MAX_BODY_SIZE + 1),
                "read 1048577 bytes, expected no more than 1048576 bytes",
            ),
            (CHUNKED + b"100001\r\n", "chunk too large: 1048577 bytes after 0 bytes"),
            (
                CHUNKED + chunk(524288) + b"80001\r\n",
                "chunk too large: 524289 bytes after 524288 bytes",
            ),
        ],
        ids=["Content-Length", "huge", "overflow", "end of stream", "chunk", "second chunk"],
    )
    def test_above_limit(self, data: bytes, text: str) -> None:
        """A length that is announced is refused before the body comes."""
        parser = ResponseParser()
        parser.feed(data)
        with pytest.raises(SecurityError) as raised:
            parser.parse()
        assert type(raised.value) is SecurityError
        assert str(raised.value) == text


def best_of_three(work: Any) -> float:
    durations = []
    for _ in range(3):
        start = time.process_time()
        work()
        durations.append(time.process_time() - start)
    return min(durations)


class TestCost:
    """Quadratic work would take seconds, so the bounds need not be tight."""

    HEAD = GET + b"".join(b"A: " + b"a" * 8000 + b"\r\n" for _ in range(100))

    def test_byte_by_byte(self) -> None:
        """800 kB of headers in pieces of 16 bytes."""
        pieces = [self.HEAD[i : i + 16] for i in range(0, len(self.HEAD), 16)]

        def parse() -> None:
            parser = RequestParser()
            for piece in pieces:
                parser.feed(piece)
                assert parser.parse() is None

        assert best_of_three(parse) < 1

    def test_one_long_line_byte_by_byte(self) -> None:
        def parse() -> None:
            for _ in range(10):
                parser = RequestParser()
                for _ in range(MAX_LINE_LENGTH):
                    parser.feed(b"a")
                    assert parser.parse() is None

        assert best_of_three(parse) < 1

    @pytest.mark.parametrize(
        "header",
        [
            b":" * 8000,
            b"a" * 8000,
            b"a: " + b" " * 8000 + b"\0",
            b"a: b" + b" " * 8000 + b"\0",
            b"a: " + b"b " * 4000 + b"\0",
            b"a: " + b"\t \t" * 2500 + b"\r",
            b"a:" * 4000 + b"\0",
        ],
        ids=lambda h: repr(h[:6] + h[-1:]),
    )
    def test_hostile_line(self, header: bytes) -> None:
        def parse() -> None:
            for _ in range(10):
                parser = RequestParser()
                parser.feed(GET + header + b"\r\n\r\n")
                with pytest.raises(ValueError, match="^invalid HTTP header "):
                    parser.parse()

        assert best_of_three(parse) < 0.5

    @pytest.mark.parametrize(
        "name", ["Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol", "Connection", "Upgrade"]
    )
    @pytest.mark.parametrize("items", ["a,", "a;b,", ",", 'a;b="c";'])
    def test_long_lists(self, name: str, items: str) -> None:
        """A megabyte of a list is refused before it becomes half a million objects."""
        field = f"{name}: {items * (8000 // len(items))}a\r\n".encode()
        data = (
            b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        ) + field * 120

        def refuse() -> None:
            protocol = ServerProtocol()
            protocol.receive_data(data + b"\r\n")
            (request,) = protocol.events_received()
            assert isinstance(request, Request)
            assert protocol.accept(request).status_code == 400
            assert type(protocol.handshake_exc) is InvalidHeader
            assert str(protocol.handshake_exc) == f"invalid {name} header: more than 256 items"

        assert best_of_three(refuse) < 0.2

    def test_body_byte_by_byte(self) -> None:
        def parse() -> None:
            parser = ResponseParser()
            parser.feed(OK + b"Content-Length: 200000\r\n\r\n")
            for _ in range(99_999):
                parser.feed(b"aa")
                assert parser.parse() is None

        assert best_of_three(parse) < 2


def test_limits_are_read_when_a_message_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http11, "MAX_LINE_LENGTH", 20)
    parser = RequestParser()
    parser.feed(GET + b"A: " + b"a" * 20 + b"\r\n\r\n")
    with pytest.raises(HeaderLineTooLong, match="^read 25 bytes, expected no more than 20 bytes$"):
        parser.parse()
