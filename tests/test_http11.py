"""HTTP/1.1 messages: what is accepted and what is refused, however the input is cut."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from websockets import http11
from websockets.datastructures import Headers
from websockets.exceptions import SecurityError, TooManyHeaders
from websockets.http11 import (
    PARSE_ERRORS,
    SERVER,
    USER_AGENT,
    Request,
    RequestParser,
    Response,
    ResponseParser,
    UnsupportedVersion,
)

from .helpers import escaped

Message = Request | Response
AnyParser = RequestParser | ResponseParser

GET = b"GET / HTTP/1.1\r\n"
OK = b"HTTP/1.1 200 OK\r\n"


def at_once(data: bytes) -> list[bytes]:
    return [data]


def byte_by_byte(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


@pytest.fixture(params=[at_once, byte_by_byte], ids=["at once", "byte by byte"])
def cut(request: pytest.FixtureRequest) -> Any:
    return request.param


Cut = Callable[[bytes], list[bytes]]


def run(parser: AnyParser, pieces: list[bytes], eof: bool = False) -> tuple[Message | None, bytes]:
    """Feed the pieces and parse after each; return the message, and what was not part of it."""
    for i, piece in enumerate(pieces):
        parser.feed(piece)
        message = parser.parse()
        if message is not None:
            return message, parser.take_rest() + b"".join(pieces[i + 1 :])
    if eof:
        parser.feed_eof()
        return parser.parse(), parser.take_rest()
    return None, b""


def request(
    path: str = "/", *pairs: tuple[str, str], method: str = "GET", protocol: str = "HTTP/1.1"
) -> Request:
    return Request(path, Headers(pairs), method, protocol)


class TestRequests:
    @pytest.mark.parametrize(
        ("data", "expected"),
        [
            (b"GET / HTTP/1.1\r\n\r\n", request()),
            (b"GET /chat?a=b HTTP/1.1\r\nHost: h\r\n\r\n", request("/chat?a=b", ("Host", "h"))),
            (b"GET http://h/x HTTP/1.1\r\n\r\n", request("http://h/x")),
            (b"OPTIONS * HTTP/1.1\r\n\r\n", request("*", method="OPTIONS")),
            (b"POST / HTTP/1.0\r\n\r\n", request("/", method="POST", protocol="HTTP/1.0")),
            (b"get / HTTP/1.1\r\n\r\n", request("/", method="get")),
        ],
        ids=lambda v: v.split(b"\r")[0].decode() if isinstance(v, bytes) else "",
    )
    def test_request_lines(self, data: bytes, expected: Request, cut: Cut) -> None:
        """RFC 9112 section 3."""
        assert run(RequestParser(), cut(data + b"rest")) == (expected, b"rest")

    @pytest.mark.parametrize(
        ("line", "text"),
        [
            (b"GET", "invalid HTTP request line: GET"),
            (b"GET /", "invalid HTTP request line: GET /"),
            (b"GET\t/\tHTTP/1.1", "invalid HTTP request line: GET\t/\tHTTP/1.1"),
            (b"\x16\x03\x01\x02", "invalid HTTP request line: \x16\x03\x01\x02"),
            (b"GET  HTTP/1.1", "invalid HTTP request line: GET  HTTP/1.1"),
            (b"GET /a\rb HTTP/1.1", "invalid HTTP request line: GET /a\rb HTTP/1.1"),
            (b"GET /\0 HTTP/1.1", "invalid HTTP request line: GET /\0 HTTP/1.1"),
            (b"GET /\xe9 HTTP/1.1", "invalid HTTP request line: GET /\\xe9 HTTP/1.1"),
            (b"G\xe9T / HTTP/1.1", "invalid HTTP request line: G\\xe9T / HTTP/1.1"),
            (b"G:T / HTTP/1.1", "invalid HTTP request line: G:T / HTTP/1.1"),
            (b" GET / HTTP/1.1", "unsupported protocol; expected HTTP/1.1 or HTTP/1.0:  GET /"),
            (b"GET  / HTTP/1.1", "unsupported protocol; expected HTTP/1.1 or HTTP/1.0: GET  /"),
            (b"GET / HTTP/1.1 ", "unsupported protocol; expected HTTP/1.1 or HTTP/1.0: GET / "),
            (b"GET / HTTP/1.1\r", "unsupported protocol; expected HTTP/1.1 or HTTP/1.0: GET / "),
            (b"GET / HTTP/2", "unsupported protocol; expected HTTP/1.1 or HTTP/1.0: GET / "),
            (b"GET / HTTP/1.10", "unsupported protocol; expected HTTP/1.1 or HTTP/1.0: GET / "),
            (b"GET / http/1.1", "unsupported protocol; expected HTTP/1.1 or HTTP/1.0: GET / "),
        ],
        ids=repr,
    )
    def test_bad_request_lines(self, line: bytes, text: str, cut: Cut) -> None:
        with pytest.raises(ValueError) as raised:
            run(RequestParser(), cut(line + b"\r\n\r\n"))
        assert type(raised.value) is ValueError
        assert str(raised.value).startswith(escaped(text))

    @pytest.mark.parametrize("line", ["GET / HTTP/2.0", "PRI * HTTP/2.0", "GET / HTTP/0.9"])
    def test_other_versions(self, line: str, cut: Cut) -> None:
        """RFC 9110 section 2.5: a minor version may be higher, a major version may not."""
        with pytest.raises(UnsupportedVersion) as raised:
            run(RequestParser(), cut(line.encode() + b"\r\n\r\n"))
        assert str(raised.value) == (f"unsupported protocol; expected HTTP/1.1 or HTTP/1.0: {line}")
        message, _ = run(RequestParser(), cut(b"GET / HTTP/1.2\r\n\r\n"))
        assert message == request("/", protocol="HTTP/1.2")

    def test_empty_line_before_the_request(self, cut: Cut) -> None:
        """RFC 9112 section 2.2: one is ignored."""
        assert run(RequestParser(), cut(b"\r\n" + GET + b"\r\nrest")) == (request(), b"rest")
        with pytest.raises(ValueError, match="^invalid HTTP request line: $"):
            run(RequestParser(), cut(b"\r\n\r\n" + GET + b"\r\n"))

    @pytest.mark.parametrize(
        ("header", "exc_type", "text"),
        [
            (b"Content-Length: 5", ValueError, "unsupported request body"),
            (b"Content-Length: x", ValueError, "unsupported request body"),
            (b"Content-Length: 0, 0", ValueError, "unsupported request body"),
            (b"Content-Length: 0\r\nContent-Length: 1", ValueError, "unsupported request body"),
            (
                b"Transfer-Encoding: chunked",
                NotImplementedError,
                "transfer codings aren't supported",
            ),
            (
                b"Transfer-Encoding: chunked\r\nContent-Length: 0",
                NotImplementedError,
                "transfer codings aren't supported",
            ),
        ],
        ids=repr,
    )
    def test_bodies_are_refused(
        self, header: bytes, exc_type: type[Exception], text: str, cut: Cut
    ) -> None:
        """RFC 9112 section 6: what follows the head would be read as frames."""
        with pytest.raises(exc_type) as raised:
            run(RequestParser(), cut(GET + header + b"\r\n\r\nhello"))
        assert type(raised.value) is exc_type
        assert str(raised.value) == text

    def test_empty_bodies_are_none(self) -> None:
        message, _ = run(RequestParser(), [GET + b"Content-Length: 0\r\n\r\n"])
        assert message == request("/", ("Content-Length", "0"))

    @pytest.mark.parametrize(
        ("data", "where", "cause"),
        [
            (b"", "HTTP request line", "stream ends after 0 bytes, before end of line"),
            (b"GET", "HTTP request line", "stream ends after 3 bytes, before end of line"),
            (GET, "HTTP headers", "stream ends after 0 bytes, before end of line"),
            (GET + b"A: b", "HTTP headers", "stream ends after 4 bytes, before end of line"),
            (GET + b"A: b\r\n", "HTTP headers", "stream ends after 0 bytes, before end of line"),
            (GET + b"A: b\r\n\r", "HTTP headers", "stream ends after 1 bytes, before end of line"),
        ],
    )
    def test_end_of_stream(self, data: bytes, where: str, cause: str, cut: Cut) -> None:
        with pytest.raises(EOFError) as raised:
            run(RequestParser(), cut(data), eof=True)
        assert str(raised.value) == f"connection closed while reading {where}"
        assert str(raised.value.__cause__) == cause

    def test_incomplete(self, cut: Cut) -> None:
        assert run(RequestParser(), cut(GET + b"A: b\r\n\r")) == (None, b"")

    def test_end_of_stream_after_request(self) -> None:
        parser = RequestParser()
        parser.feed(GET + b"\r\n")
        parser.feed_eof()
        assert parser.parse() == request()


@pytest.mark.parametrize(
    ("first_line", "parser"),
    [(GET, RequestParser), (OK, ResponseParser)],
    ids=["request", "response"],
)
class TestHeaders:
    """RFC 9112 section 5, the same for both kinds of messages."""

    @pytest.mark.parametrize(
        ("lines", "pairs"),
        [
            (b"", []),
            (b"A: b\r\n", [("A", "b")]),
            (b"A:b\r\n", [("A", "b")]),
            (b"A: \t b \t \r\n", [("A", "b")]),
            (b"A:\r\n", [("A", "")]),
            (b"A:   \r\n", [("A", "")]),
            (b"A: b: c\r\n", [("A", "b: c")]),
            (b"A: b\tc  d\r\n", [("A", "b\tc  d")]),
            (b"A: \xe9\x85\xff\r\n", [("A", "\xe9\x85\xff")]),
            (b"a: 1\r\nB: 2\r\nA: 3\r\n", [("a", "1"), ("B", "2"), ("A", "3")]),
            (b"!#$%&'*+-.^_`|~09AZaz: b\r\n", [("!#$%&'*+-.^_`|~09AZaz", "b")]),
        ],
        ids=repr,
    )
    def test_good(
        self,
        first_line: bytes,
        parser: type[AnyParser],
        lines: bytes,
        pairs: list[tuple[str, str]],
        cut: Cut,
    ) -> None:
        message, _ = run(parser(), cut(first_line + lines + b"\r\n"), eof=True)
        assert message is not None
        assert list(message.headers.raw_items()) == pairs
        assert message.headers == Headers(pairs)

    @pytest.mark.parametrize(
        ("lines", "text"),
        [
            (b"A\r\n", "invalid HTTP header line: A"),
            (b"A: b\r\n c\r\n", "invalid HTTP header line:  c"),
            (b"A: b\r\n\tc\r\n", "invalid HTTP header line: \tc"),
            (b"A: b\r\n c: d\r\n", "invalid HTTP header name:  c"),
            (b" A: b\r\n", "invalid HTTP header name:  A"),
            (b"A : b\r\n", "invalid HTTP header name: A "),
            (b"A\t: b\r\n", "invalid HTTP header name: A\t"),
            (b"A b: c\r\n", "invalid HTTP header name: A b"),
            (b": b\r\n", "invalid HTTP header name: "),
            (b"A(: b\r\n", "invalid HTTP header name: A("),
            (b"A\xe9: b\r\n", "invalid HTTP header name: A\\xe9"),
            (b"\0: b\r\n", "invalid HTTP header name: \0"),
            (b"A: b\0c\r\n", "invalid HTTP header value: b\0c"),
            (b"A: b\x1f\r\n", "invalid HTTP header value: b\x1f"),
            (b"A: b\x7f\r\n", "invalid HTTP header value: b\x7f"),
            (b"A: b\rc\r\n", "invalid HTTP header value: b\rc"),
            (b"A: b\r\r\n", "invalid HTTP header value: b\r"),
            (b"A: b\n", "line without CRLF"),
            (b"A: b\nC: d\r\n", "line without CRLF"),
            (b"A: b\r\n\n", "line without CRLF"),
            (b"Good: 1\r\nBad\r\nGood: 2\r\n", "invalid HTTP header line: Bad"),
        ],
        ids=repr,
    )
    def test_bad(
        self, first_line: bytes, parser: type[AnyParser], lines: bytes, text: str, cut: Cut
    ) -> None:
        with pytest.raises(ValueError) as raised:
            run(parser(), cut(first_line + lines + b"\r\n"), eof=True)
        assert type(raised.value) is ValueError
        assert str(raised.value) == escaped(text)


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\n\n", b"HTTP/1.1 200 OK\n\n"], ids=repr)
def test_first_line_without_crlf(data: bytes, cut: Cut) -> None:
    """RFC 9112 section 2.2 permits to accept it; that is a way to smuggle requests."""
    parser = RequestParser() if data.startswith(b"GET") else ResponseParser()
    with pytest.raises(ValueError, match="^line without CRLF$"):
        run(parser, cut(data))


def response(
    status: int = 200, reason: str = "OK", *pairs: tuple[str, str], body: bytes = b""
) -> Response:
    return Response(status, reason, Headers(pairs), body)


CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


class TestResponses:
    @pytest.mark.parametrize(
        ("line", "status", "reason"),
        [
            (b"HTTP/1.1 101 Switching Protocols", 101, "Switching Protocols"),
            (b"HTTP/1.1 204 ", 204, ""),
            (b"HTTP/1.1 304 a\tb", 304, "a\tb"),
            (b"HTTP/1.1 204 \xe9", 204, "\xe9"),
            # RFC 9110 section 2.5.
            (b"HTTP/1.2 101 x", 101, "x"),
        ],
        ids=repr,
    )
    def test_status_lines(self, line: bytes, status: int, reason: str, cut: Cut) -> None:
        """RFC 9112 section 4."""
        data = cut(line + b"\r\n\r\nrest")
        assert run(ResponseParser(), data) == (response(status, reason), b"rest")

    @pytest.mark.parametrize(
        ("line", "text"),
        [
            (b"", "invalid HTTP status line: "),
            (b"SSH-2.0-x", "invalid HTTP status line: SSH-2.0-x"),
            (b"HTTP/1.1 200", "invalid HTTP status line: HTTP/1.1 200"),
            (b"HTTP/1.1\t200 OK", "invalid HTTP status line: HTTP/1.1\t200 OK"),
            (b"HTTP/1.0 200 OK", "unsupported protocol; expected HTTP/1.1: HTTP/1.0 200 OK"),
            (b"HTTP/2 200 OK", "unsupported protocol; expected HTTP/1.1: HTTP/2 200 OK"),
            (b"http/1.1 200 OK", "unsupported protocol; expected HTTP/1.1: http/1.1 200 OK"),
            (b"HTTP/1.1  200 OK", "invalid status code; expected integer; got "),
            (b"HTTP/1.1 abc OK", "invalid status code; expected integer; got abc"),
            (b"HTTP/1.1 -10 OK", "invalid status code; expected integer; got -10"),
            (b"HTTP/1.1 \xb2 OK", "invalid status code; expected integer; got \\xb2"),
            (b"HTTP/1.1 20 OK", "invalid status code; expected 100\u2013599; got 20"),
            (b"HTTP/1.1 099 OK", "invalid status code; expected 100\u2013599; got 099"),
            (b"HTTP/1.1 600 OK", "invalid status code; expected 100\u2013599; got 600"),
            (b"HTTP/1.1 2000 OK", "invalid status code; expected 100\u2013599; got 2000"),
            (b"HTTP/1.1 200 a\0", "invalid HTTP reason phrase: a\0"),
        ],
        ids=repr,
    )
    def test_bad_status_lines(self, line: bytes, text: str, cut: Cut) -> None:
        with pytest.raises(ValueError) as raised:
            run(ResponseParser(), cut(line + b"\r\n\r\n"))
        assert type(raised.value) is ValueError
        assert str(raised.value) == escaped(text)

    @pytest.mark.parametrize("status", [101, 204, 304])
    def test_no_body(self, status: int, cut: Cut) -> None:
        """RFC 9112 section 6.3, point 1."""
        data = b"HTTP/1.1 %d x\r\nContent-Length: 4\r\n\r\nrest" % status
        expected = response(status, "x", ("Content-Length", "4"))
        assert run(ResponseParser(), cut(data)) == (expected, b"rest")

    @pytest.mark.parametrize(
        ("data", "body", "rest"),
        [
            (OK + b"Content-Length: 5\r\n\r\nhello", b"hello", b""),
            (OK + b"Content-Length: 4\r\n\r\nhello", b"hell", b"o"),
            (OK + b"Content-Length: 0\r\n\r\nhello", b"", b"hello"),
            (OK + b"Content-Length: 05\r\n\r\nhello", b"hello", b""),
            (CHUNKED + b"5\r\nhello\r\n0\r\n\r\nrest", b"hello", b"rest"),
            (CHUNKED + b"A;ext=1\r\nhellohello\r\n00\r\n\r\n", b"hellohello", b""),
            # RFC 9112 section 7.1.1 and RFC 9110 section 5.6.3: BWS.
            (CHUNKED + b"5 \t; ext = 1\r\nhello\r\n0\r\n\r\n", b"hello", b""),
            (CHUNKED + b"1\r\na\r\n2\r\n\r\n\r\n0\r\nTrailer: v\r\n\r\n", b"a\r\n", b""),
            (CHUNKED + b"0\r\n\r\n", b"", b""),
            # RFC 9112 section 7: names of codings ignore case.
            (OK + b"Transfer-Encoding: Chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", b"a", b""),
        ],
        ids=repr,
    )
    def test_bodies(self, data: bytes, body: bytes, rest: bytes, cut: Cut) -> None:
        message, left = run(ResponseParser(), cut(data))
        assert isinstance(message, Response)
        assert (message.body, left) == (body, rest)

    def test_body_until_end_of_stream(self, cut: Cut) -> None:
        """RFC 9112 section 6.3, point 8."""
        data = cut(OK + b"\r\nhello")
        assert run(ResponseParser(), data) == (None, b"")
        assert run(ResponseParser(), data, eof=True) == (response(body=b"hello"), b"")

    @pytest.mark.parametrize(
        ("data", "exc_type", "text"),
        [
            (b"Content-Length: x\r\n\r\n", SecurityError, "invalid content length: x"),
            (b"Content-Length: -1\r\n\r\n", SecurityError, "invalid content length: -1"),
            (b"Content-Length: 1_0\r\n\r\n", SecurityError, "invalid content length: 1_0"),
            (b"Content-Length: \xb2\r\n\r\n", SecurityError, "invalid content length: \xb2"),
            (b"Content-Length: 5, 5\r\n\r\n", SecurityError, "invalid content length: 5, 5"),
            (
                b"Content-Length: 5\r\nContent-Length: 4\r\n\r\n",
                LookupError,
                "'Content-Length'",
            ),
            (
                b"Content-Length: 6\r\n\r\nhello",
                EOFError,
                "stream ends after 5 bytes, expected 6 bytes",
            ),
            (
                b"Transfer-Encoding: gzip, chunked\r\n\r\n",
                NotImplementedError,
                "transfer coding gzip, chunked isn't supported",
            ),
            (
                b"Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n\r\n",
                LookupError,
                "'Transfer-Encoding'",
            ),
        ],
        ids=repr,
    )
    def test_bad_bodies(self, data: bytes, exc_type: type[Exception], text: str, cut: Cut) -> None:
        with pytest.raises(exc_type) as raised:
            run(ResponseParser(), cut(OK + data), eof=True)
        assert str(raised.value) == text

    @pytest.mark.parametrize(
        ("body", "exc_type", "text"),
        [
            (b"x\r\n", SecurityError, "invalid chunk size: x"),
            (b"\r\n", SecurityError, "invalid chunk size: "),
            (b"-5\r\n", SecurityError, "invalid chunk size: -5"),
            (b"+5\r\n", SecurityError, "invalid chunk size: +5"),
            (b"0x5\r\n", SecurityError, "invalid chunk size: 0x5"),
            (b"1_0\r\n", SecurityError, "invalid chunk size: 1_0"),
            (b"5 \r\n", SecurityError, "invalid chunk size: 5 "),
            (b"5;a\0b\r\n", SecurityError, "invalid chunk size: 5"),
            (b"F" * 20 + b"\r\n", SecurityError, "invalid chunk size: " + "F" * 20),
            (b"5\r\nhelloX\n0\r\n\r\n", ValueError, "chunk without CRLF"),
            (b"5\nhello\n0\n\n", ValueError, "line without CRLF"),
            (b"0\r\nbad\r\n\r\n", ValueError, "invalid HTTP header line: bad"),
            (b"5\r\nhello\r\n", EOFError, "stream ends after 0 bytes, before end of line"),
            (b"5\r\nhe", EOFError, "stream ends after 2 bytes, expected 5 bytes"),
            (b"5\r\nhello\r", EOFError, "stream ends after 1 bytes, expected 2 bytes"),
        ],
        ids=repr,
    )
    def test_bad_chunks(self, body: bytes, exc_type: type[Exception], text: str, cut: Cut) -> None:
        """RFC 9112 section 7.1."""
        with pytest.raises(exc_type) as raised:
            run(ResponseParser(), cut(CHUNKED + body), eof=True)
        assert type(raised.value) is exc_type
        assert str(raised.value) == text

    @pytest.mark.parametrize("status", [100, 102, 103, 199])
    def test_interim_responses(self, status: int, cut: Cut) -> None:
        """RFC 9110 section 15.2; RFC 9112 section 6.3, point 1: none has a body."""
        interim = b"HTTP/1.1 %d x\r\nLink: y\r\nContent-Length: 4\r\n\r\n" % status
        expected = response(200, "OK", ("Content-Length", "1"), body=b"a")
        for count in 0, 1, 2, http11.MAX_INTERIM_RESPONSES:
            data = cut(interim * count + OK + b"Content-Length: 1\r\n\r\narest")
            assert run(ResponseParser(), data) == (expected, b"rest")
        with pytest.raises(SecurityError, match="^expected no more than 32 interim responses$"):
            run(ResponseParser(), cut(interim * (count + 1)))

    def test_header_lines_of_interim_responses(self) -> None:
        """The limit is for each."""
        lines = b"A: b\r\n" * http11.MAX_NUM_HEADERS
        data = b"HTTP/1.1 103 x\r\n" + lines + b"\r\n" + OK + lines + b"\r\n"
        message, _ = run(ResponseParser(), [data], eof=True)
        assert isinstance(message, Response)
        assert message.headers.count_lines() == http11.MAX_NUM_HEADERS
        with pytest.raises(TooManyHeaders):
            run(ResponseParser(), [data.replace(lines, lines + b"A: b\r\n", 1)])


MESSAGES = [
    GET + b"Host: h\r\nA:  b \r\n\r\n\x81\x80\0\0\0\0",
    GET + b"Host: h\r\nA : b\r\n\r\n",
    GET + b"Host: h\nA: b\r\n\r\n",
    GET + b"\r\n\r\n",
    OK + b"Content-Length: 3\r\n\r\nabcdef",
    OK + b"\r\nbody",
    CHUNKED + b"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nT: v\r\n\r\nrest",
    CHUNKED + b"3\r\nabcd\r\n",
]


def outcome(data: bytes, cuts: list[int]) -> tuple[Any, ...]:
    parser = RequestParser() if data.startswith(b"GET") else ResponseParser()
    bounds = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    pieces = [data[a:b] for a, b in zip(bounds, bounds[1:], strict=False)]
    try:
        return run(parser, pieces, eof=True)
    except PARSE_ERRORS as exc:
        return type(exc), str(exc)


@given(st.sampled_from(MESSAGES), st.lists(st.integers(0, 200), max_size=6))
def test_cuts_make_no_difference(data: bytes, cuts: list[int]) -> None:
    assert outcome(data, cuts) == outcome(data, [])


@given(st.sampled_from(MESSAGES), st.data())
def test_cuts_make_no_difference_to_damage(message: bytes, data: st.DataObject) -> None:
    i = data.draw(st.integers(0, len(message)))
    damaged = message[:i] + data.draw(st.binary(max_size=2)) + message[i + 1 :]
    cuts = data.draw(st.lists(st.integers(0, 200), max_size=6))
    if damaged.startswith(b"GET") is message.startswith(b"GET"):
        assert outcome(damaged, cuts) == outcome(damaged, [])


@given(st.binary(max_size=100))
def test_garbage_raises_nothing_else(data: bytes) -> None:
    for parser in (RequestParser(), ResponseParser()):
        try:
            run(parser, [data], eof=True)
        except PARSE_ERRORS:
            continue


class TestSerialize:
    def test_request(self) -> None:
        assert (
            request("/chat", ("Host", "h"), ("A", "\xe9")).serialize()
            == b"GET /chat HTTP/1.1\r\nHost: h\r\nA: \xe9\r\n\r\n"
        )

    def test_response(self) -> None:
        assert (
            response(404, "Not \xe9", ("A", "b"), body=b"hi").serialize()
            == b"HTTP/1.1 404 Not \xe9\r\nA: b\r\n\r\nhi"
        )

    @pytest.mark.parametrize(
        "message",
        [
            request("/a\r\nX: y"),
            request("/a b"),
            request("/\xe9"),
            request(""),
            request("/", method="GET /x HTTP/1.1\r\nX:"),
            request("/", protocol="HTTP/1.1\r\nX: y"),
            response(200, "OK\r\nX: y"),
        ],
        ids=lambda m: ascii(m)[:60],
    )
    def test_nothing_ends_a_line(self, message: Message) -> None:
        """RFC 9112 section 11.1."""
        with pytest.raises(ValueError, match="^invalid HTTP "):
            message.serialize()

    @pytest.mark.parametrize("status", [0, 99, 600, 1010, -101])
    def test_status_codes(self, status: int) -> None:
        """RFC 9112 section 4, RFC 9110 section 15."""
        with pytest.raises(ValueError, match=f"^invalid HTTP status code: {status}$"):
            response(status).serialize()

    def test_products(self) -> None:
        assert SERVER == USER_AGENT
        assert SERVER.startswith("Python/3.")
        assert SERVER.endswith(" websockets/17.4")


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (request(), "Request.exception is deprecated; use ServerProtocol.handshake_exc instead"),
        (response(), "Response.exception is deprecated; use ClientProtocol.handshake_exc instead"),
    ],
    ids=["request", "response"],
)
def test_exception_is_deprecated(message: Message, text: str) -> None:
    exc = message._exception = Exception()
    with pytest.warns(DeprecationWarning) as records:
        assert message.exception is exc
    assert [str(record.message) for record in records] == [text]
    assert records[0].filename == __file__
