"""The parsers of the handshake, on any bytes and cuts: messages, header fields, URIs."""

from __future__ import annotations

import functools
import re
import unittest.mock
from collections.abc import Callable
from typing import Any

from websockets import http11
from websockets.datastructures import Headers
from websockets.exceptions import InvalidHeaderFormat, InvalidHeaderValue, InvalidURI
from websockets.headers import (
    build_authorization_basic,
    build_extension,
    build_host,
    build_subprotocol,
    build_www_authenticate_basic,
    parse_authorization_basic,
    parse_connection,
    parse_extension,
    parse_subprotocol,
    parse_upgrade,
)
from websockets.http11 import Request, RequestParser, Response, ResponseParser
from websockets.uri import parse_uri

from .common import Cursor, cut, outcome

__all__ = ["one_input", "seeds"]

# The defaults, and limits small enough for the search to find what is beyond them.
LIMITS: tuple[dict[str, Any], ...] = (
    {
        "MAX_LINE_LENGTH": 8192,
        "MAX_NUM_HEADERS": 128,
        "MAX_BODY_SIZE": 1 << 20,
        "MAX_INTERIM_RESPONSES": 32,
    },
    {
        "MAX_LINE_LENGTH": 64,
        "MAX_NUM_HEADERS": 4,
        "MAX_BODY_SIZE": 48,
        "MAX_INTERIM_RESPONSES": 2,
    },
)

# Parsers of header fields, and what builds a field of what they return.
FIELDS: tuple[tuple[Callable[[str], Any], Callable[[Any], str]], ...] = (
    (parse_extension, build_extension),
    (parse_subprotocol, build_subprotocol),
    (parse_connection, ", ".join),
    (parse_upgrade, ", ".join),
    (parse_authorization_basic, lambda pair: build_authorization_basic(*pair)),
)

is_token = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
is_value = re.compile(r"[\t\x20-\x7e\x80-\xff]*").fullmatch
is_later = re.compile(r"\bHTTP/1\.[2-9]\b")
# RFC 9110 section 15.2; 101 is followed by another protocol.
is_interim = re.compile(rb"HTTP/1\.\d 1(?!01)\d\d ").match
is_visible = re.compile(r"[\x21-\x7e]+").fullmatch


def one_input(data: bytes) -> None:
    """Check one input."""
    cursor = Cursor(data)
    checks = (check_request, check_response, check_field, check_uri, check_challenge)
    cursor.pick(checks)(cursor)


# Messages


def check_request(cursor: Cursor) -> None:
    message, head = check_message(cursor, RequestParser)
    if message is None:
        return
    assert isinstance(message, Request)
    assert is_token(message.method)
    assert is_visible(message.path)
    assert "HTTP/1.0" <= message.protocol <= "HTTP/1.9"
    # RFC 9112 section 6: what announces a body would make the rest of the stream mean two things.
    assert "Transfer-Encoding" not in message.headers
    assert all(length == "0" for length in message.headers.get_all("Content-Length"))
    line = f"{message.method} {message.path} {message.protocol}"
    check_head(head, line, message.headers)
    assert read(RequestParser, [message.serialize()]) == (message, b"")


def check_response(cursor: Cursor) -> None:
    message, head = check_message(cursor, ResponseParser)
    if message is None:
        return
    assert isinstance(message, Response)
    check_head(head, f"HTTP/1.1 {message.status_code} {message.reason_phrase}", message.headers)
    assert message.status_code == 101 or 200 <= message.status_code <= 599
    assert is_value(message.reason_phrase)
    assert len(message.body) <= http11.MAX_BODY_SIZE
    assert not message.body or message.status_code not in (101, 204, 304)
    if "Transfer-Encoding" not in message.headers:
        assert read(ResponseParser, [message.serialize()]) == (message, b"")


def check_head(head: bytes, first_line: str, headers: Headers) -> None:
    """Check that the lines of a message say what was read, as another parser would read them."""
    # RFC 9112 section 2.2: an empty line may precede a request.
    lines = head.decode("iso-8859-1").removeprefix("\r\n").split("\r\n")
    assert lines[-2:] == ["", ""]
    # RFC 9110 section 2.5: a later minor version is read as the latest that is known.
    assert is_later.sub("HTTP/1.1", lines[0]) == is_later.sub("HTTP/1.1", first_line)
    for line, (name, value) in zip(lines[1:-2], headers.raw_items(), strict=True):
        assert line.startswith(f"{name}:")
        assert line[len(name) + 1 :].strip(" \t") == value


def check_message(
    cursor: Cursor, parser_type: type[Any]
) -> tuple[Request | Response | None, bytes]:
    """Parse the input in several ways; return the message in it, and its head as it was."""
    limits = cursor.pick(LIMITS)
    sizes = cursor.take(cursor.byte() % 8)
    data = cursor.rest()
    with unittest.mock.patch.multiple(http11, **limits):
        whole = read(parser_type, [data])
        for pieces in (cut(data, sizes), cut(data, [1])):
            # Which of several faults is told depends on what has arrived; whether, does not.
            assert read(parser_type, pieces) == whole, (read(parser_type, pieces), whole)
        if whole is None:
            return None, b""
        message, rest = whole
        assert data.endswith(rest)
        headers = message.headers
        assert headers.count_lines() <= http11.MAX_NUM_HEADERS
        for name, value in headers.raw_items():
            assert is_token(name)
            assert is_value(value)
            assert value == value.strip(" \t")
            assert len(name) + 1 + len(value) + 2 <= http11.MAX_LINE_LENGTH
        return message, head_of_message(data)


def head_of_message(data: bytes) -> bytes:
    """Return the lines up to the first empty one, but for interim responses."""
    count = 0
    while is_interim(data):
        _, _, data = data.partition(b"\r\n\r\n")
        count += 1
    assert count <= http11.MAX_INTERIM_RESPONSES
    return data[: data.index(b"\r\n\r\n") + 4]


def read(
    parser_type: type[RequestParser] | type[ResponseParser], pieces: list[bytes]
) -> tuple[Request | Response, bytes] | None:
    """Return a message that arrives in pieces, and what follows it; None if it is refused."""
    parser = parser_type()
    message: Any = None
    for index, piece in enumerate(pieces):
        parser.feed(piece)
        if message is not None:
            continue
        message, exc = outcome(parser.parse, *http11.PARSE_ERRORS)
        if exc is not None:
            assert not isinstance(exc, EOFError), index
            return None
    if message is None:
        parser.feed_eof()
        message, exc = outcome(parser.parse, *http11.PARSE_ERRORS)
        if exc is not None:
            return None
        assert message is not None, "the end of the stream ends a message"
    return message, parser.take_rest()


# Header fields


def check_field(cursor: Cursor) -> None:
    parse, build = cursor.pick(FIELDS)
    value = cursor.rest().decode("iso-8859-1")
    parsed, exc = outcome(functools.partial(parse, value), InvalidHeaderFormat, InvalidHeaderValue)
    if exc is not None:
        assert not isinstance(exc, InvalidHeaderFormat) or 0 <= exc.args[3] <= len(value)
        return
    assert parsed
    assert is_value(value), "what is in the grammar is a header's value"
    # Credentials that are not UTF-8 cannot be encoded again.
    built, exc = outcome(functools.partial(build, parsed), UnicodeEncodeError)
    if exc is None:
        assert isinstance(built, str)
        assert is_value(built)
        assert parse(built) == parsed


def check_challenge(cursor: Cursor) -> None:
    realm = cursor.rest().decode("iso-8859-1")
    header, exc = outcome(functools.partial(build_www_authenticate_basic, realm), ValueError)
    assert (exc is None) == (is_value(realm) is not None)
    assert exc is not None or is_value(str(header))


# URIs


def check_uri(cursor: Cursor) -> None:
    text = cursor.rest().decode("utf-8", "surrogateescape")
    try:
        uri = parse_uri(text)
    except InvalidURI:
        return
    assert 0 < uri.port < 65536
    assert uri.host
    assert (uri.username is None) == (uri.password is None) == (uri.user_info is None)
    request = Request(uri.resource_name, Headers(Host=build_host(uri.host, uri.port, uri.secure)))
    if uri.user_info is not None:
        header, exc = outcome(
            functools.partial(build_authorization_basic, *uri.user_info), UnicodeEncodeError
        )
        if exc is None:
            assert parse_authorization_basic(str(header)) == uri.user_info
    data = request.serialize()
    if len(data) <= http11.MAX_LINE_LENGTH:
        assert read(RequestParser, [data]) == (request, b"")


REQUEST = (
    b"GET /chat?room=1 HTTP/1.1\r\nHost: example.com:8080\r\nUpgrade: websocket\r\n"
    b"Connection: keep-alive, Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Version: 13\r\n\r\n"
)
RESPONSE = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n\x81\x00"
)


def seeds() -> dict[str, bytes]:
    """Return inputs that reach the main paths."""
    whole, limited = b"\x00\x00", b"\x01\x02\x05\x07"
    requests = {
        "handshake": REQUEST,
        "short": b"GET / HTTP/1.1\r\nA: b\r\n\r\nrest",
        "post": b"POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello",
        "no-body": b"GET / HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
        "chunked": b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "bare-lf": b"GET / HTTP/1.1\nA: b\n\n",
        "bare-lf-first": b"GET / HTTP/1.1?\nA: b\r\n\r\n",
        "bare-cr": b"GET / HTTP/1.1\r\nA: b\rc: d\r\n\r\n",
        "folded": b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
        "colon": b"GET / HTTP/1.1\r\nA : b\r\n\r\n",
        "latin": b"GET /\xe9 HTTP/1.1\r\nA: \xe9\t\r\nB:\r\n\r\n",
        "version": b"GET / HTTP/2.0\r\n\r\n",
        "later": b"GET / HTTP/1.2\r\n\r\n",
        "empty-line": b"\r\nGET / HTTP/1.1\r\nA: b\r\n\r\n",
        "empty-lines": b"\r\n\r\nGET / HTTP/1.1\r\nA: b\r\n\r\n",
        "long-line": b"GET /" + b"a" * 100 + b" HTTP/1.1\r\n\r\n",
        "long-header": b"GET / HTTP/1.1\r\nA:" + b" " * 90 + b"\r\n\r\n",
        "many-headers": b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 5 + b"\r\n",
    }
    responses = {
        "handshake": RESPONSE,
        "interim": b"HTTP/1.1 100 Continue\r\n\r\n" + RESPONSE,
        "interims": b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 3 + RESPONSE,
        "length": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello rest",
        "lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        "until-eof": b"HTTP/1.1 404 \r\n\r\nnot found",
        "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5;a=b\r\nhello\r\n0B\r\n12345678901\r\n0\r\nTrailer: x\r\n\r\nrest",
        "gzip": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "large": b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n",
        "large-chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFF\r\n",
        "later": b"HTTP/1.2 204 \r\n\r\n",
        "empty": b"HTTP/1.1 204 \r\n\r\nrest",
        "status": b"HTTP/1.1 600 Odd\r\n\r\n",
    }
    fields = {
        "extension": b'\x00permessage-deflate; client_max_window_bits, x; a=1; b="c", ,',
        "quoted": b'\x00x; a="\\b\\c"',
        "subprotocol": b"\x01chat, superchat,",
        "connection": b"\x02keep-alive ,\tUpgrade",
        "upgrade": b"\x03websocket, HTTP/2.0",
        "basic": b"\x04Basic aGVsbG86aWxvdmV5b3U=",
        "basic-binary": b"\x04Basic /zr/",
    }
    uris = {
        "plain": b"ws://localhost/",
        "full": b"wss://user:p%3Aw@example.com:8443/path/to?query=1",
        "ipv6": b"ws://[::1]:80/?a",
        "iri": "ws://müller.example/pfad/ü?ß=€".encode(),
        "fragment": b"ws://localhost/#a",
        "port": b"ws://localhost:99999/",
        "zone": b"ws://[fe80::1%25eth0]/",
    }
    return {
        **{f"request-{name}": b"\x00" + whole + data for name, data in requests.items()},
        **{f"request-{name}-limited": b"\x00" + limited + data for name, data in requests.items()},
        **{f"response-{name}": b"\x01" + whole + data for name, data in responses.items()},
        **{f"response-{name}-limited": b"\x01" + limited + d for name, d in responses.items()},
        **{f"field-{name}": b"\x02" + data for name, data in fields.items()},
        **{f"uri-{name}": b"\x03" + data for name, data in uris.items()},
        "challenge": b'\x04a "quoted" \\ realm',
    }
