"""The rules of the opening handshake: what breaks one is refused, what breaks none is accepted.

``SERVER_RULES`` and ``CLIENT_RULES`` list, section by section, what RFC 6455, 9110, 9112 and 6585
have a server check in a request and a client check in a response, each with messages on the wire.
``ELSEWHERE`` lists the rules whose tests are in other modules.

Messages are bytes, written down here and not made by the code under test. Each arrives whole and
byte by byte, and with a second message behind it, of which nothing may ever be seen.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection
from websockets.client import ClientProtocol
from websockets.datastructures import Headers
from websockets.exceptions import (
    InvalidHandshake,
    InvalidHeader,
    InvalidHeaderFormat,
    InvalidHeaderValue,
    InvalidMessage,
    InvalidMethod,
    InvalidOrigin,
    InvalidProtocol,
    InvalidStatus,
    InvalidUpgrade,
    InvalidURI,
    NegotiationError,
    StatusLineTooLong,
)
from websockets.extensions import Extension, ServerExtensionFactory
from websockets.frames import Frame, Opcode
from websockets.headers import build_www_authenticate_basic, validate_subprotocols
from websockets.http11 import Request, Response
from websockets.protocol import SEND_EOF, State
from websockets.server import ServerProtocol
from websockets.typing import ExtensionName, Origin, Subprotocol
from websockets.uri import parse_uri

from .helpers import (
    PATIENCE,
    TEXT,
    RawResponse,
    accept_value,
    causes,
    client_frame,
    connecting,
    echo,
    escaped,
    frame,
    noise,
    raw_server,
    raw_socket,
    rss,
    serving,
    turns,
    within,
)

# ------------------------------------------------------------------------------ messages

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="  # of RFC 6455 section 1.3
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

Fields = list[tuple[bytes, bytes]]

REQUEST: Fields = [
    (b"Host", b"example.com"),
    (b"Upgrade", b"websocket"),
    (b"Connection", b"Upgrade"),
    (b"Sec-WebSocket-Key", KEY),
    (b"Sec-WebSocket-Version", b"13"),
]

RESPONSE: Fields = [
    (b"Upgrade", b"websocket"),
    (b"Connection", b"Upgrade"),
    (b"Sec-WebSocket-Accept", ACCEPT),
]


def message(
    first_line: bytes, fields: Fields, lines: Iterable[bytes], changes: dict[str, Any]
) -> bytes:
    """A message with some of its fields replaced, or left out, and with more lines."""
    changed = {name.replace("_", "-").lower().encode(): value for name, value in changes.items()}
    out = [first_line]
    for name, value in fields:
        value = changed.pop(name.lower(), value)
        if value is not None:
            out.append(name + b": " + value)
    assert not changed, changed
    return b"\r\n".join([*out, *lines, b"", b""])


def request(*lines: bytes, line: bytes = b"GET /chat HTTP/1.1", **changes: bytes | None) -> bytes:
    return message(line, REQUEST, lines, changes)


def response(
    *lines: bytes, line: bytes = b"HTTP/1.1 101 Switching Protocols", **changes: bytes | None
) -> bytes:
    return message(line, RESPONSE, lines, changes)


def at_once(data: bytes) -> list[bytes]:
    return [data]


def byte_by_byte(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


Cut = Callable[[bytes], list[bytes]]

cuts = pytest.mark.parametrize("cut", [at_once, byte_by_byte], ids=["whole", "byte by byte"])


def chain(exc: BaseException | None) -> list[BaseException]:
    return [] if exc is None else [exc, *causes(exc)]


# ------------------------------------------------------------------------------ requests


class Refused(NamedTuple):
    """What is answered to a request that breaks a rule."""

    data: bytes
    status: int
    exc_type: type[InvalidHandshake]
    text: str


class ServerRule(NamedTuple):
    section: str
    what: str
    good: dict[str, bytes]
    bad: dict[str, Refused]


def malformed(data: bytes, text: str, status: int = 400) -> Refused:
    """Not a message; the reason is the cause's."""
    return Refused(data, status, InvalidMessage, escaped(text))


def misses(name: str) -> str:
    return f"missing {name} header"


def several(name: str) -> str:
    return f"invalid {name} header: multiple values"


def line_refused(line: bytes, text: str = "invalid HTTP request line: ") -> Refused:
    return malformed(request(line=line), text)


def other_version(version: bytes, status: int) -> Refused:
    text = "unsupported protocol; expected HTTP/1.1 or HTTP/1.0: "
    return malformed(request(line=b"GET /chat " + version), text, status)


def method_refused(method: bytes, target: bytes = b"/chat") -> Refused:
    text = f"unsupported HTTP method: {method.decode()}"
    return Refused(request(line=method + b" " + target + b" HTTP/1.1"), 405, InvalidMethod, text)


def target_refused(target: bytes) -> Refused:
    text = f"invalid request target: {target.decode()}."
    return Refused(request(line=b"GET " + target + b" HTTP/1.1"), 400, InvalidHandshake, text)


def host_refused(host: bytes) -> Refused:
    text = f"invalid Host header: {host.decode('iso-8859-1')}"
    return Refused(request(host=host), 400, InvalidHeaderValue, text)


def name_refused(line: bytes, name: str) -> Refused:
    return malformed(request(line), f"invalid HTTP header name: {name}")


def value_refused(line: bytes, value: str) -> Refused:
    return malformed(request(line), f"invalid HTTP header value: {value}")


def body_refused(*lines: bytes) -> Refused:
    return malformed(request(*lines) + b"hello", "unsupported request body")


def coding_refused(*lines: bytes) -> Refused:
    return malformed(
        request(*lines) + b"5\r\nhello\r\n0\r\n\r\n", "transfer codings aren't supported"
    )


def key_refused(key: bytes) -> Refused:
    text = f"invalid Sec-WebSocket-Key header: {key.decode('iso-8859-1')}"
    return Refused(request(sec_websocket_key=key), 400, InvalidHeaderValue, text)


def version_refused(version: bytes) -> Refused:
    text = f"invalid Sec-WebSocket-Version header: {version.decode('iso-8859-1')}."
    return Refused(request(sec_websocket_version=version), 426, InvalidHeaderValue, text)


BARE_LF = "line without CRLF"
TOO_LONG = " bytes, expected no more than 8192 bytes"

SERVER_RULES = [
    # The request line
    ServerRule(
        "RFC 6455 4.2.1 (1)",
        "the method is GET",
        {"GET": request()},
        {
            "POST": method_refused(b"POST"),
            "PUT": method_refused(b"PUT"),
            "TRACE": method_refused(b"TRACE"),
            # RFC 9110 section 9.1: case matters.
            "lowercase": method_refused(b"get"),
            "unknown": method_refused(b"GETT"),
            "any token": method_refused(b"!#$%&'*+-.^_`|~"),
        },
    ),
    ServerRule(
        "RFC 9112 3.1",
        "the method is a token",
        {},
        {
            "parenthesis": line_refused(b"G(T /chat HTTP/1.1"),
            "NUL": line_refused(b"\0GET /chat HTTP/1.1"),
            "not ASCII": line_refused(b"G\xc9T /chat HTTP/1.1"),
            "colon": line_refused(b"GET: /chat HTTP/1.1"),
        },
    ),
    ServerRule(
        "RFC 9112 3",
        "one space between three parts",
        {},
        {
            "two parts": line_refused(b"GET /chat"),
            "one part": line_refused(b"GET"),
            "four parts": line_refused(b"GET /chat x HTTP/1.1", "unsupported protocol"),
            "tabs": line_refused(b"GET\t/chat\tHTTP/1.1"),
            "two spaces": line_refused(b"GET  /chat HTTP/1.1", "unsupported protocol"),
            "space before": line_refused(b" GET /chat HTTP/1.1", "unsupported protocol"),
            "space behind": line_refused(b"GET /chat HTTP/1.1 ", "unsupported protocol"),
            "vertical tab": line_refused(b"GET\x0b/chat\x0bHTTP/1.1"),
            "space that is not ASCII": line_refused(b"GET\xa0/chat\xa0HTTP/1.1"),
            # HTTP/0.9 had no more than this.
            "HTTP/0.9": malformed(b"GET /chat\r\n", "invalid HTTP request line: GET /chat"),
            "TLS": malformed(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n", "invalid HTTP"),
            "SSH": malformed(b"SSH-2.0-OpenSSH_9.2\r\n", "invalid HTTP request line: SSH-2.0"),
            "response": malformed(response(), "unsupported protocol"),
        },
    ),
    ServerRule(
        "RFC 9112 2.3",
        "the version's grammar",
        {},
        {
            version.decode(): other_version(version, 400)
            for version in (
                b"HTTP/1 HTTP/1. HTTP/.1 HTTP/1.10 HTTP/11.1 HTTP/01.1 HTTP/+1.1 HTTP/1,1 HTTP/2 "
                b"HTTP/1.1.1 http/1.1 HTTPS/1.1 websocket/13"
            ).split()
        }
        | {
            "space inside": other_version(b"HTTP /1.1", 400),
            "tab behind": other_version(b"HTTP/1.1\t", 400),
        },
    ),
    ServerRule(
        "RFC 9110 2.5",
        "a higher minor version is understood",
        {v: request(line=f"GET /chat HTTP/{v}".encode()) for v in ["1.1", "1.2", "1.9"]},
        {},
    ),
    ServerRule(
        "RFC 9110 15.6.6",
        "another major version is not",
        {},
        {
            "HTTP/2.0": other_version(b"HTTP/2.0", 505),
            "HTTP/3.0": other_version(b"HTTP/3.0", 505),
            "HTTP/0.9": other_version(b"HTTP/0.9", 505),
            # RFC 9113 section 3.4
            "preface": malformed(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "unsupported protocol", 505),
            # RFC 6455 section 4.2.1, point 1: 1.1 or higher.
            "HTTP/1.0": Refused(
                request(line=b"GET /chat HTTP/1.0"),
                505,
                InvalidProtocol,
                "unsupported HTTP version: HTTP/1.0",
            ),
            "HTTP/1.0 without Host": Refused(
                request(line=b"GET /chat HTTP/1.0", host=None),
                505,
                InvalidProtocol,
                "unsupported HTTP version: HTTP/1.0",
            ),
        },
    ),
    ServerRule(
        "RFC 9112 3.2.1",
        "origin-form",
        {
            "root": request(line=b"GET / HTTP/1.1"),
            "query": request(line=b"GET /chat?room=1&x=/?: HTTP/1.1"),
            "two slashes": request(line=b"GET //example.org/chat HTTP/1.1"),
            "encoded": request(line=b"GET /%0d%0a%23 HTTP/1.1"),
            # Not in the grammar of RFC 3986, and harmless.
            "odd characters": request(line=b'GET /"<>[]\\^`{|} HTTP/1.1'),
        },
        {
            "no slash": target_refused(b"chat"),
            "query alone": target_refused(b"?room=1"),
            "dots": target_refused(b"../chat"),
            # RFC 3986 section 3.5, RFC 6455 section 3.
            "fragment": target_refused(b"/chat#room"),
            "empty fragment": target_refused(b"/chat#"),
            "fragment in query": target_refused(b"/chat?a#b"),
        },
    ),
    ServerRule(
        "RFC 9112 3.2.2",
        "absolute-form",
        {
            "http": request(line=b"GET http://example.com/chat HTTP/1.1"),
            "https": request(line=b"GET HTTPS://example.com:443/chat HTTP/1.1"),
            "ws": request(line=b"GET ws://example.com/chat HTTP/1.1"),
            "IPv6": request(line=b"GET http://[::1]:80/chat HTTP/1.1"),
            "no path": request(line=b"GET http://example.com HTTP/1.1"),
            "query": request(line=b"GET http://example.com?room=1 HTTP/1.1"),
            # The host of the target counts.
            "other Host": request(line=b"GET http://example.com/ HTTP/1.1", host=b"example.org"),
        },
        {
            # RFC 9110 section 4.2.1
            "no host": target_refused(b"http:///chat"),
            "port alone": target_refused(b"http://:80/chat"),
            "nothing": target_refused(b"http://"),
            # RFC 9110 section 4.2.4
            "user information": target_refused(b"http://user:pass@example.com/"),
            "no authority": target_refused(b"http:/chat"),
            "bad port": target_refused(b"http://example.com:x/"),
            "bad scheme": target_refused(b"1http://example.com/"),
            "backslash": target_refused(b"http:\\\\example.com\\chat"),
            "fragment": target_refused(b"http://example.com/#a"),
        },
    ),
    ServerRule(
        "RFC 9112 3.2.3",
        "authority-form is for CONNECT",
        {},
        {
            "GET": target_refused(b"example.com:80"),
            "CONNECT": method_refused(b"CONNECT", b"example.com:80"),
        },
    ),
    ServerRule(
        "RFC 9112 3.2.4",
        "asterisk-form is for OPTIONS",
        {},
        {"GET": target_refused(b"*"), "OPTIONS": method_refused(b"OPTIONS", b"*")},
    ),
    ServerRule(
        "RFC 9112 3.2",
        "the target is visible ASCII",
        {},
        {
            "bytes of UTF-8": line_refused(b"GET /\xc3\xa9 HTTP/1.1"),
            "C1": line_refused(b"GET /\x85 HTTP/1.1"),
            "NUL": line_refused(b"GET /\0 HTTP/1.1"),
            "DEL": line_refused(b"GET /\x7f HTTP/1.1"),
            "escape": line_refused(b"GET /\x1b[2J HTTP/1.1"),
            "CR": line_refused(b"GET /\rHost:a HTTP/1.1"),
        },
    ),
    ServerRule(
        "RFC 9112 2.2",
        "lines end with CRLF, and where CR and LF may be",
        # One empty line before a request is ignored.
        {"empty line before": b"\r\n" + request()},
        {
            "two empty lines before": malformed(b"\r\n\r\n" + request(), "invalid HTTP request"),
            "LF before": malformed(b"\n" + request(), BARE_LF),
            "LF everywhere": malformed(request().replace(b"\r\n", b"\n"), BARE_LF),
            "LF behind the request line": malformed(request().replace(b"\r", b"", 1), BARE_LF),
            "LF behind a field": malformed(request(b"A: b\nB: c"), BARE_LF),
            "LF for the empty line": malformed(request()[:-2] + b"\n\r\n", BARE_LF),
            "CR behind the request line": line_refused(
                b"GET /chat HTTP/1.1\r", "unsupported protocol"
            ),
            "CR in a value": value_refused(b"A: b\rc", "b\rc"),
            "CR behind a value": value_refused(b"A: b\r", "b\r"),
            "CR before a name": name_refused(b"\rA: b", "\rA"),
            "CR for the empty line": malformed(
                request()[:-2] + b"\r\r\n\r\n", "invalid HTTP header line: \r"
            ),
            # Whitespace between the request line and the first field.
            "space before the first field": malformed(
                request().replace(b"Host", b" Host"), "invalid HTTP header name:  Host"
            ),
            "line of spaces first": malformed(
                request().replace(b"Host", b"  \r\nHost"), "invalid HTTP header line:   "
            ),
        },
    ),
    ServerRule(
        "RFC 9110 15.5.15",
        "the request line is limited: 414",
        {"longest": request(line=b"GET /" + b"a" * (8192 - 16) + b" HTTP/1.1")},
        {
            "long": malformed(request(line=b"GET /" + b"a" * 8192 + b" HTTP/1.1"), TOO_LONG, 414),
            "without end": malformed(b"GET /" + b"a" * 10000, TOO_LONG, 414),
            "long method": malformed(b"G" * 10000, TOO_LONG, 414),
        },
    ),
    # Fields
    ServerRule(
        "RFC 6585 5",
        "the fields are limited: 431",
        {
            "longest": request(b"A: " + b"a" * (8192 - 5)),
            "most": request(*[b"A: b"] * (128 - len(REQUEST))),
        },
        {
            "long": malformed(request(b"A: " + b"a" * 8192), TOO_LONG, 431),
            "long name": malformed(request(b"A" * 8192 + b": a"), TOO_LONG, 431),
            "long cookie": malformed(request(b"Cookie: " + b"a=b; " * 2000), TOO_LONG, 431),
            "many": malformed(request(*[b"A: b"] * 128), "expected no more than 128 headers", 431),
            "without end": malformed(request()[:-2] + b"A: " + b"a" * 10000, TOO_LONG, 431),
            "many without end": malformed(
                request(*[b"A: b"] * 128)[:-2], "expected no more than 128 headers", 431
            ),
        },
    ),
    ServerRule(
        "RFC 9112 5.1",
        "no space before the colon",
        {
            "no space behind it": request(b"A:b"),
            "many spaces behind it": request(b"A: \t  b\t "),
            "nothing behind it": request(b"A:"),
            "spaces alone behind it": request(b"A:  \t "),
        },
        {
            "space": name_refused(b"A : b", "A "),
            "tab": name_refused(b"A\t: b", "A\t"),
            "space in Host": malformed(
                request(host=None).replace(b"\r\nUpgrade", b"\r\nHost : h\r\nUpgrade"),
                "invalid HTTP header name: Host ",
            ),
            "no name": name_refused(b": b", ""),
            "no colon": malformed(request(b"A"), "invalid HTTP header line: A"),
        },
    ),
    ServerRule(
        "RFC 9112 5.2",
        "obsolete folding is refused",
        {},
        {
            "space": malformed(request(b"A: b\r\n c"), "invalid HTTP header line:  c"),
            "tab": malformed(request(b"A: b\r\n\tc"), "invalid HTTP header line: \tc"),
            "with colon": name_refused(b"A: b\r\n C: d", " C"),
            "space alone": malformed(request(b"A: b\r\n "), "invalid HTTP header line:  "),
            "behind nothing": malformed(request(b"A:\r\n b"), "invalid HTTP header line:  b"),
            "hides a coding": name_refused(
                b"A: b\r\n Transfer-Encoding: chunked", " Transfer-Encoding"
            ),
            "in the key": malformed(
                request(sec_websocket_key=KEY[:10] + b"\r\n " + KEY[10:]),
                "invalid HTTP header line:  ",
            ),
        },
    ),
    ServerRule(
        "RFC 9110 5.1",
        "names are tokens",
        {"odd characters": request(b"!#$%&'*+-.^_`|~09AZaz: b")},
        {
            "space": name_refused(b"A b: c", "A b"),
            "NUL": name_refused(b"A\0: b", "A\0"),
            "not ASCII": name_refused(b"\xe9: b", "\\xe9"),
            "parenthesis": name_refused(b"A(: b", "A("),
            "quotes": name_refused(b'"A": b', '"A"'),
            "semicolon": name_refused(b"A;: b", "A;"),
            "escape": name_refused(b"\x1b[2J: b", "\x1b[2J"),
        },
    ),
    ServerRule(
        "RFC 9110 5.5",
        "values have no control characters, and any bytes above 127",
        {
            "ISO-8859-1": request(b"A: \xe9"),
            "UTF-8": request(b"A: \xc3\xa9 \xf0\x9f\x8e\x89"),
            "not UTF-8": request(b"A: \xff\x80"),
            # Spaces and line ends to str, characters here.
            "C1": request(b"A: \x85\xa0x\x85\xa0"),
            "tab": request(b"A: b\tc"),
        },
        {
            f"0x{code:02x}": value_refused(b"A: b%cc" % code, f"b{chr(code)}c")
            for code in [*range(9), 0x0B, 0x0C, *range(0x0E, 0x20), 0x7F]
        },
    ),
    # The body
    ServerRule(
        "RFC 9112 6.2",
        "no body: Content-Length",
        {"zero": request(b"Content-Length: 0"), "twice zero": request(*[b"Content-Length: 0"] * 2)},
        {
            "five": body_refused(b"Content-Length: 5"),
            "100 MB": body_refused(b"Content-Length: 100000000"),
            "case of the name": body_refused(b"CONTENT-length: 5"),
            "negative": body_refused(b"Content-Length: -5"),
            "minus zero": body_refused(b"Content-Length: -0"),
            "plus zero": body_refused(b"Content-Length: +0"),
            "underscore": body_refused(b"Content-Length: 0_0"),
            "hexadecimal": body_refused(b"Content-Length: 0x0"),
            "fraction": body_refused(b"Content-Length: 0.0"),
            "empty": body_refused(b"Content-Length:"),
            "list": body_refused(b"Content-Length: 0, 0"),
            "conflict": body_refused(b"Content-Length: 0", b"Content-Length: 5"),
            "conflict the other way": body_refused(b"Content-Length: 5", b"Content-Length: 0"),
            "huge": body_refused(b"Content-Length: " + b"9" * 8000),
            "other digits": body_refused(b"Content-Length: \xb2"),
            "parameter": body_refused(b"Content-Length: 0;a=b"),
            "not a number": body_refused(b"Content-Length: zero"),
        },
    ),
    ServerRule(
        "RFC 9112 6.1",
        "no body: Transfer-Encoding",
        {"what could be accepted": request(b"TE: trailers, chunked")},
        {
            "chunked": coding_refused(b"Transfer-Encoding: chunked"),
            "unknown": coding_refused(b"Transfer-Encoding: gzip"),
            "two": coding_refused(b"Transfer-Encoding: gzip, chunked"),
            # RFC 9112 section 6.3: without chunked as the last, the length is not known.
            "chunked first": coding_refused(b"Transfer-Encoding: chunked, identity"),
            "empty": coding_refused(b"Transfer-Encoding:"),
            "identity": coding_refused(b"Transfer-Encoding: identity"),
            "case of the name": coding_refused(b"transfer-ENCODING: chunked"),
        },
    ),
    ServerRule(
        "RFC 9112 11.2",
        "no way to smuggle a request",
        {},
        {
            "CL.TE": coding_refused(b"Content-Length: 5", b"Transfer-Encoding: chunked"),
            "TE.CL": coding_refused(b"Transfer-Encoding: chunked", b"Content-Length: 0"),
            "TE.TE": coding_refused(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"),
            "xchunked": coding_refused(b"Transfer-Encoding: xchunked"),
            "quoted": coding_refused(b'Transfer-Encoding: "chunked"'),
            "space before the colon": name_refused(
                b"Transfer-Encoding : chunked", "Transfer-Encoding "
            ),
            "folded": malformed(
                request(b"Transfer-Encoding:\r\n chunked"), "invalid HTTP header line:  chunked"
            ),
            "vertical tab": value_refused(b"Transfer-Encoding: \x0bchunked", "\x0bchunked"),
            "NUL in the name": name_refused(b"Transfer-Encoding\0: chunked", "Transfer-Enc"),
            "behind LF": malformed(request(b"A: b\nTransfer-Encoding: chunked"), BARE_LF),
            "behind CR": value_refused(b"A: b\rTransfer-Encoding: chunked", "b\rTransfer-Enc"),
            "space before the name": name_refused(
                b" Transfer-Encoding: chunked", " Transfer-Encoding"
            ),
            # Section 9.8 of RFC 9110 lets an upgrade follow a body; here there is none.
            "POST": malformed(
                request(b"Content-Length: 5", line=b"POST /chat HTTP/1.1") + b"hello",
                "unsupported request body",
            ),
            "plain GET": malformed(
                b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
                "unsupported request body",
            ),
        },
    ),
    # Host
    ServerRule(
        "RFC 9112 3.2 (Host)",
        "one Host, with a valid value, whatever else is asked for",
        {
            "name": request(host=b"example.com"),
            "port": request(host=b"example.com:8080"),
            "empty port": request(host=b"example.com:"),
            "IPv4": request(host=b"127.0.0.1:80"),
            "IPv6": request(host=b"[2001:db8::1]:80"),
            "IPv4 in IPv6": request(host=b"[::ffff:127.0.0.1]"),
            "later IP": request(host=b"[v1.fe80::a+en1]"),
            # RFC 6874 section 4 has clients remove it, and not all do.
            "zone": request(host=b"[fe80::1%eth0]"),
            "other characters": request(host=b"a_b-c.~!$&'()*+,;=%41"),
            # RFC 9110 section 7.2: of a URI without an authority.
            "empty": request(host=b""),
        },
        {
            "none": Refused(request(host=None), 400, InvalidHeader, misses("Host")),
            "none, nor Upgrade": Refused(
                b"GET / HTTP/1.1\r\n\r\n", 400, InvalidHeader, misses("Host")
            ),
            "none, and POST": Refused(
                b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 400, InvalidHeader, misses("Host")
            ),
            "none, and absolute-form": Refused(
                request(line=b"GET http://h/ HTTP/1.1", host=None),
                400,
                InvalidHeader,
                misses("Host"),
            ),
            "same twice": Refused(
                request(b"Host: example.com"), 400, InvalidHeader, several("Host")
            ),
            "two": Refused(request(b"Host: example.org"), 400, InvalidHeader, several("Host")),
            "case": Refused(request(b"HOST: example.org"), 400, InvalidHeader, several("Host")),
            "two, and HTTP/1.0": Refused(
                request(b"Host: example.org", line=b"GET / HTTP/1.0"),
                400,
                InvalidHeader,
                several("Host"),
            ),
            **{
                repr(host)[1:]: host_refused(host)
                for host in [
                    b"a b",
                    b"a, b",
                    *b"u@h h:80:80 h:x h:-1 h:+80 ::1 [::1 ::1] [] [::1]x [g::1] [::1%]".split(),
                    *b'a/b a\\b a"b h#f h?q <h> % %4 %zz \xe9.com http://h'.split(),
                ]
            },
        },
    ),
    # Upgrade
    ServerRule(
        "RFC 6455 4.2.1 (3)",
        "Upgrade includes websocket",
        {
            "case": request(upgrade=b"WebSocket"),
            # RFC 6455 section 4.1, point 5; RFC 9110 section 7.8.
            "list": request(upgrade=b"h2c, websocket"),
            "list the other way": request(upgrade=b"websocket,TLS/1.0"),
            "two lines": request(b"Upgrade: h2c"),
            "twice": request(b"Upgrade: websocket"),
            "empty items": request(upgrade=b",websocket, ,"),
        },
        {
            "none": Refused(request(upgrade=None), 426, InvalidUpgrade, misses("Upgrade")),
            "other": Refused(
                request(upgrade=b"h2c"), 426, InvalidUpgrade, "invalid Upgrade header: h2c"
            ),
            "others": Refused(
                request(b"Upgrade: TLS/1.0", upgrade=b"h2c"),
                426,
                InvalidUpgrade,
                "invalid Upgrade header: h2c, TLS/1.0",
            ),
            "version": Refused(
                request(upgrade=b"websocket/13"),
                426,
                InvalidUpgrade,
                "invalid Upgrade header: websocket/13",
            ),
            "plural": Refused(
                request(upgrade=b"websockets"),
                426,
                InvalidUpgrade,
                "invalid Upgrade header: websockets",
            ),
        },
    ),
    ServerRule(
        "RFC 9110 7.8",
        "grammar of Upgrade",
        {},
        {
            repr(value)[1:]: Refused(
                request(upgrade=value),
                400,
                InvalidHeaderFormat,
                f"invalid Upgrade header: expected {text} in {value.decode('iso-8859-1')}",
            )
            for value, text in [
                (b"", "protocol at 0"),
                (b",", "protocol at 1"),
                (b"web socket", "comma at 4"),
                (b"websocket/", "comma at 9"),
                (b"websocket; q=1", "comma at 9"),
                (b'"websocket"', "protocol at 0"),
                (b"websocket, \xe9", "protocol at 11"),
            ]
        },
    ),
    ServerRule(
        "RFC 6455 4.2.1 (4)",
        "Connection includes Upgrade",
        {
            "case": request(connection=b"uPGRADE"),
            "list": request(connection=b"keep-alive, Upgrade"),
            "list the other way": request(connection=b"Upgrade,keep-alive"),
            "two lines": request(b"Connection: keep-alive"),
            "empty items": request(connection=b", Upgrade,,"),
        },
        {
            "none": Refused(request(connection=None), 426, InvalidUpgrade, misses("Connection")),
            "other": Refused(
                request(connection=b"keep-alive"),
                426,
                InvalidUpgrade,
                "invalid Connection header: keep-alive",
            ),
            "prefix": Refused(
                request(b"Connection: Upgrades", connection=b"xUpgrade"),
                426,
                InvalidUpgrade,
                "invalid Connection header: xUpgrade, Upgrades",
            ),
        },
    ),
    ServerRule(
        "RFC 9110 7.6.1",
        "grammar of Connection",
        {},
        {
            repr(value)[1:]: Refused(
                request(connection=value),
                400,
                InvalidHeaderFormat,
                f"invalid Connection header: expected {text} in {value.decode('iso-8859-1')}",
            )
            for value, text in [
                (b"", "token at 0"),
                (b", ,", "token at 3"),
                (b"keep-alive Upgrade", "comma at 11"),
                (b"Upgrade; a=b", "comma at 7"),
                (b'"Upgrade"', "token at 0"),
                (b"Upgrade\xa0", "comma at 7"),
            ]
        },
    ),
    # Sec-WebSocket-Key
    ServerRule(
        "RFC 6455 4.2.1 (5)",
        "the key is base64 of 16 bytes",
        {
            "all characters": request(sec_websocket_key=b"+/+/+/+/+/+/+/+/+/+/+w=="),
            # RFC 4648 section 3.5 lets decoders refuse these bits; RFC 6455 asks what it decodes
            # to, and the answer is made of the text.
            "bits of the last character": request(sec_websocket_key=b"A" * 21 + b"B=="),
        },
        {
            "none": Refused(
                request(sec_websocket_key=None), 400, InvalidHeader, misses("Sec-WebSocket-Key")
            ),
            "empty": Refused(
                request(sec_websocket_key=b""),
                400,
                InvalidHeaderValue,
                "empty Sec-WebSocket-Key header",
            ),
            "15 bytes": key_refused(b"A" * 20),
            "17 bytes": key_refused(b"A" * 23 + b"="),
            "18 bytes": key_refused(b"A" * 24),
            "no padding": key_refused(KEY[:-2]),
            "half the padding": key_refused(KEY[:-1]),
            "too much padding": key_refused(KEY + b"="),
            "padding first": key_refused(b"=" + KEY),
            "padding inside": key_refused(b"A===" + b"A" * 18 + b"=="),
            "URL-safe": key_refused(b"-_" + KEY[2:]),
            "space": key_refused(b"AA AA" + b"A" * 18 + b"=="),
            "quoted": key_refused(b'"' + KEY + b'"'),
            "not ASCII": key_refused(b"\xe9" + KEY[1:]),
            "list": key_refused(KEY + b", " + KEY),
            "long": key_refused(b"A" * 8000),
        },
    ),
    ServerRule(
        "RFC 6455 11.3.1",
        "one key",
        {},
        {
            "same twice": Refused(
                request(b"Sec-WebSocket-Key: " + KEY),
                400,
                InvalidHeader,
                several("Sec-WebSocket-Key"),
            ),
            "case": Refused(
                request(b"sec-websocket-key: " + b"A" * 22 + b"=="),
                400,
                InvalidHeader,
                several("Sec-WebSocket-Key"),
            ),
        },
    ),
    # Sec-WebSocket-Version
    ServerRule(
        "RFC 6455 4.2.2 (4)",
        "another version is answered with 426 and ours",
        {},
        {
            repr(value)[2:-1]: version_refused(value)
            for value in [
                *b"0 7 8 12 14 255 256 013 +13 -13 1_3 13.0 0xd 13,13 \xb9\xb3 x".split(),
                b"13, 8",
                b"8, 13",
                b'"13"',
            ]
        },
    ),
    ServerRule(
        "RFC 6455 4.2.1 (6)",
        "there is a version, once",
        {"spaces around it": request(sec_websocket_version=b" \t13\t ")},
        {
            "none": Refused(
                request(sec_websocket_version=None),
                400,
                InvalidHeader,
                misses("Sec-WebSocket-Version"),
            ),
            # Section 11.3.5
            "same twice": Refused(
                request(b"Sec-WebSocket-Version: 13"),
                400,
                InvalidHeader,
                several("Sec-WebSocket-Version"),
            ),
            "two": Refused(
                request(b"Sec-WebSocket-Version: 8"),
                400,
                InvalidHeader,
                several("Sec-WebSocket-Version"),
            ),
        },
    ),
    # Sec-WebSocket-Protocol and Sec-WebSocket-Extensions
    ServerRule(
        "RFC 6455 11.3.4",
        "grammar of Sec-WebSocket-Protocol",
        {
            "list": request(b"Sec-WebSocket-Protocol: a, b"),
            "two lines": request(b"Sec-WebSocket-Protocol: a", b"Sec-WebSocket-Protocol: b"),
        },
        {
            repr(value)[1:]: Refused(
                request(b"Sec-WebSocket-Protocol: " + value),
                400,
                InvalidHeaderFormat,
                f"expected {text} in {value.decode('iso-8859-1')}",
            )
            for value, text in [
                (b"", "token at 0"),
                (b"a b", "comma at 2"),
                (b"a/b", "comma at 1"),
                (b'"a"', "token at 0"),
                (b"a, \xe9", "token at 3"),
            ]
        },
    ),
    ServerRule(
        "RFC 6455 9.1",
        "grammar of Sec-WebSocket-Extensions",
        {
            "parameters": request(b'Sec-WebSocket-Extensions: a; b; c=d; e="f", g'),
            # Section 11.3.2
            "two lines": request(b"Sec-WebSocket-Extensions: a", b"Sec-WebSocket-Extensions: b"),
        },
        {
            repr(value)[1:]: Refused(
                request(b"Sec-WebSocket-Extensions: " + value),
                400,
                InvalidHeaderFormat,
                f"{text} in {value.decode('iso-8859-1')}",
            )
            for value, text in [
                (b"", "expected token at 0"),
                (b"a b", "expected comma at 2"),
                (b"a;", "expected token at 2"),
                (b"a; b=", "expected token at 5"),
                (b'a; b="c', "expected quoted string at 5"),
                (b'a; b="c d"', "invalid quoted header content at 5"),
                (b"a; b=\xe9", "expected token at 5"),
            ]
        },
    ),
    # Origin
    ServerRule(
        "RFC 6454 7.3",
        "one Origin",
        {"opaque": request(b"Origin: null")},
        {
            "two": Refused(
                request(b"Origin: http://a.com", b"Origin: http://b.com"),
                400,
                InvalidHeader,
                several("Origin"),
            ),
        },
    ),
    ServerRule(
        "RFC 6455 4.2.1 (10)",
        "other fields are ignored",
        {
            "cookies": request(b"Cookie: a=b", b"Authorization: Basic !"),
            "of responses": request(b"Sec-WebSocket-Accept: x", b"Location: /"),
            "unknown": request(b"Sec-WebSocket-Key1: 1", b"Proxy: x", b"X-HTTP-Method: POST"),
            # RFC 9110 section 10.1.1: there is no content to wait for.
            "Expect": request(b"Expect: 100-continue"),
            "Trailer": request(b"Trailer: Host"),
        },
        {},
    ),
]

# Nothing of it may be seen, neither as a request nor as frames.
BEHIND = b"GET /admin HTTP/1.1\r\nHost: a\r\n\r\n" + request() + client_frame(TEXT, b"behind")


def cases_of(rules: Sequence[ServerRule | ClientRule], kind: str) -> list[Any]:
    return [
        pytest.param(case, id=f"{rule.section}, {rule.what}: {name}")
        for rule in rules
        for name, case in getattr(rule, kind).items()
    ]


def feed(
    protocol: ServerProtocol, pieces: Iterable[bytes], wanted: int = 1
) -> tuple[list[Any], list[bytes]]:
    """Let the server receive, and answer the request as soon as there is one."""
    events: list[Any] = []
    writes: list[bytes] = []
    for piece in pieces:
        protocol.receive_data(piece)
        for event in protocol.events_received():
            events.append(event)
            if isinstance(event, Request):
                protocol.send_response(protocol.accept(event))
        events += protocol.events_received()
        writes += protocol.data_to_send()
    return events, writes


class TestServer:
    @cuts
    @pytest.mark.parametrize("data", cases_of(SERVER_RULES, "good"))
    def test_accepted(self, data: bytes, cut: Cut, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        protocol = ServerProtocol()
        events, writes = feed(protocol, cut(data + client_frame(TEXT, b"hi")))
        assert [type(event) for event in events] == [Request, Frame]
        assert events[1] == Frame(Opcode.TEXT, b"hi")
        answer = RawResponse.from_bytes(b"".join(writes))
        key = events[0].headers["Sec-WebSocket-Key"]
        # RFC 6455 section 4.2.2, point 5.
        assert (answer.status, answer.reason) == (101, "Switching Protocols")
        assert answer.headers.pop("date")
        assert answer.headers == {
            "upgrade": "websocket",
            "connection": "Upgrade",
            "sec-websocket-accept": accept_value(key),
        }
        assert answer.body == b""
        assert protocol.state is State.OPEN
        assert [record.getMessage() for record in caplog.records] == ["connection open"]

    @cuts
    @pytest.mark.parametrize("case", cases_of(SERVER_RULES, "bad"))
    def test_refused(self, case: Refused, cut: Cut, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        protocol = ServerProtocol()
        events, writes = feed(protocol, cut(case.data + BEHIND))
        # One answer, and the end of our stream.
        *data, eof = writes
        assert eof == SEND_EOF
        answer = RawResponse.from_bytes(b"".join(data))
        assert answer.status == case.status
        assert answer.body.decode().startswith("Failed to open a WebSocket connection: ")
        assert case.text in answer.body.decode()
        # RFC 9110 sections 6.6.1 and 8.6, RFC 9112 section 9.6.
        assert answer.headers["date"]
        assert answer.headers["content-length"] == str(len(answer.body))
        assert "close" in answer.headers["connection"].split(", ")
        if case.status == 405:
            # RFC 9110 section 15.5.6
            assert answer.headers["allow"] == "GET"
        if case.status == 426:
            # RFC 9110 sections 15.5.22 and 7.8
            assert answer.headers["upgrade"] == "websocket"
            assert answer.headers["connection"] == "close, Upgrade"
        # RFC 6455 section 4.4
        about_version = "Sec-WebSocket-Version header" in case.text
        assert answer.headers.get("sec-websocket-version") == ("13" if about_version else None)
        # What is behind the request is neither a request nor a frame.
        assert [type(event) for event in events] in ([], [Request])
        assert protocol.state is State.CONNECTING
        assert protocol.close_expected()
        exc, *reasons = chain(protocol.handshake_exc)
        assert isinstance(exc, InvalidHandshake)
        if case.exc_type is InvalidMessage and reasons:
            assert str(exc) == "did not receive a valid HTTP request"
        elif case.exc_type is not InvalidMessage:
            assert type(exc) is case.exc_type
        assert case.text.rstrip(".") in "; ".join(map(str, [exc, *reasons]))
        # A scanner leaves one line, which is no warning.
        (record,) = caplog.records
        assert record.levelno == logging.INFO
        assert record.getMessage() in (
            f"connection rejected ({answer.status} {answer.reason})",
            f"HTTP response sent ({answer.status} {answer.reason})",
        )
        assert record.exc_info is None

    @pytest.mark.parametrize("case", cases_of(SERVER_RULES, "bad"))
    def test_refused_however_it_is_cut(self, case: Refused) -> None:
        """In two, at each line end and next to it; the numbers in limits are not the same."""
        data = case.data + BEHIND

        def answer(pieces: list[bytes]) -> tuple[int, str]:
            _, writes = feed(ServerProtocol(), pieces)
            raw = RawResponse.from_bytes(b"".join(writes))
            return raw.status, raw.body.decode().partition("read ")[0]

        expected = answer([data])
        ends = [i for i in range(len(case.data)) if data[i : i + 1] in b"\r\n"]
        for end in ends[:12]:
            for i in (end, end + 1):
                assert answer([data[:i], data[i:]]) == expected

    def test_end_of_the_stream(self) -> None:
        """RFC 9112 section 8: incomplete, at any point; nobody waits for an answer."""
        data = request(b"A: b")
        for i in range(len(data)):
            protocol = ServerProtocol()
            protocol.receive_data(data[:i])
            protocol.receive_eof()
            assert protocol.events_received() == []
            assert protocol.data_to_send() == [SEND_EOF]
            exc, reason, cause = chain(protocol.handshake_exc)
            assert type(exc) is InvalidMessage
            assert type(reason) is EOFError
            part = "request line" if b"\n" not in data[:i] else "headers"
            assert str(reason) == f"connection closed while reading HTTP {part}"
            assert type(cause) is EOFError
            assert protocol.state is State.CLOSED

    @pytest.mark.parametrize(
        ("origin", "accepted"),
        [
            ("https://example.com", True),
            ("https://example.com:443", False),
            ("HTTPS://EXAMPLE.COM", False),
            ("http://example.com", False),
            ("https://example.com.evil.example", False),
            ("https://evil.example https://example.com", False),
            ("https://example.com, https://example.com", False),
            ("null", False),
            (None, False),
        ],
    )
    def test_origin(self, origin: str | None, accepted: bool) -> None:
        """RFC 6455 sections 4.2.2 (4) and 10.2: an origin that is not acceptable is forbidden."""
        lines = [] if origin is None else [b"Origin: " + origin.encode()]
        protocol = ServerProtocol(origins=[Origin("https://example.com")])
        _, writes = feed(protocol, [request(*lines)])
        status = RawResponse.from_bytes(b"".join(writes)).status
        assert status == (101 if accepted else 403)
        if not accepted:
            assert type(protocol.handshake_exc) is InvalidOrigin

    def test_order(self) -> None:
        """What is wrong with the message comes before what is wrong with the handshake."""
        lines = [b"Origin: a", b"Sec-WebSocket-Protocol: a b"]
        wrong: dict[str, bytes | None] = {
            "sec_websocket_version": b"8",
            "sec_websocket_key": b"A",
            "upgrade": None,
        }
        statuses = []
        for change in [
            {"line": b"GET chat HTTP/2.0", "host": None},
            {"line": b"POST chat HTTP/1.0", "host": b"a b"},
            {"line": b"POST chat HTTP/1.0"},
            {"line": b"GET chat HTTP/1.0"},
            {"line": b"GET chat HTTP/1.1"},
            {},
        ]:
            data = request(*lines, **{**wrong, **change})  # type: ignore[arg-type]
            _, writes = feed(ServerProtocol(origins=[]), [data])
            statuses.append(RawResponse.from_bytes(b"".join(writes)).status)
        assert statuses == [505, 400, 405, 505, 400, 426]

    @pytest.mark.parametrize("text", ["", "not found\n"])
    @pytest.mark.parametrize("status", [200, 405, 503])
    def test_head(self, status: int, text: str) -> None:
        """RFC 9110 section 9.3.2: the length of what GET would get, and nothing of it."""
        protocol = ServerProtocol()
        protocol.receive_data(request(line=b"HEAD / HTTP/1.1"))
        protocol.send_response(protocol.reject(status, text))
        *data, eof = protocol.data_to_send()
        answer = RawResponse.from_bytes(b"".join(data))
        assert (answer.status, answer.body) == (status, b"")
        assert answer.headers["content-length"] == str(len(text))
        assert eof == SEND_EOF

    def test_head_is_not_allowed(self) -> None:
        protocol = ServerProtocol()
        _, (data, _) = feed(protocol, [request(line=b"HEAD / HTTP/1.1")])
        answer = RawResponse.from_bytes(data)
        assert (answer.status, answer.headers["allow"], answer.body) == (405, "GET", b"")
        assert type(protocol.handshake_exc) is InvalidMethod

    @pytest.mark.parametrize("status", [204, 304, 100, 103])
    def test_statuses_without_body(self, status: int) -> None:
        """RFC 9110 section 8.6, RFC 9112 section 6.3: a body would be the next response."""
        protocol = ServerProtocol()
        protocol.receive_data(request())
        response = protocol.reject(status, "body")
        assert "Content-Length" not in response.headers
        protocol.send_response(response)
        *data, eof = protocol.data_to_send()
        assert RawResponse.from_bytes(b"".join(data)).body == b""
        assert eof == SEND_EOF

    def test_body_of_the_opening_response(self) -> None:
        """The client would take it for frames."""
        protocol = ServerProtocol()
        protocol.receive_data(request())
        (event,) = protocol.events_received()
        response = protocol.accept(event)
        response.body = b"\x81\x02hi"
        protocol.send_response(response)
        (data,) = protocol.data_to_send()
        assert data.endswith(b"\r\n\r\n")
        assert protocol.state is State.OPEN


# ------------------------------------------------------------------------------ responses


class Failed(NamedTuple):
    """What a response that breaks a rule is for the client."""

    data: bytes
    exc_type: type[InvalidHandshake]
    text: str


class ClientRule(NamedTuple):
    section: str
    what: str
    good: dict[str, bytes]
    bad: dict[str, Failed]


def invalid(data: bytes, text: str) -> Failed:
    return Failed(data, InvalidMessage, escaped(text))


def status_line_refused(line: bytes, text: str = "invalid HTTP status line: ") -> Failed:
    return invalid(response(line=line), text)


def rejection(*lines: bytes, body: bytes = b"") -> bytes:
    """A response that does not open a WebSocket."""
    return b"\r\n".join([b"HTTP/1.1 404 Not Found", *lines, b"", body])


def not_found(data: bytes) -> Failed:
    return Failed(data, InvalidStatus, "server rejected WebSocket connection: HTTP 404")


def length_refused(length: bytes, text: str | None = None) -> Failed:
    text = text or f"invalid content length: {length.decode('iso-8859-1')}"
    return invalid(rejection(b"Content-Length: " + length, body=b"hello"), text)


def chunked(body: bytes) -> bytes:
    return rejection(b"Transfer-Encoding: chunked", body=body)


def chunk_refused(size: bytes, shown: str) -> Failed:
    return invalid(chunked(size + b"\r\nhello\r\n0\r\n\r\n"), f"invalid chunk size: {shown}")


def coding_unknown(*codings: bytes) -> Failed:
    (coding,) = codings
    return invalid(
        rejection(b"Transfer-Encoding: " + coding, body=b"5\r\nhello\r\n0\r\n\r\n"),
        f"transfer coding {coding.decode()} isn't supported",
    )


CLIENT_RULES = [
    ClientRule(
        "RFC 9112 4",
        "the status line's grammar",
        {
            "no reason": response(line=b"HTTP/1.1 101 "),
            "odd reason": response(line=b"HTTP/1.1 101 \t~\xe9 "),
            # RFC 9110 section 2.5
            "higher minor version": response(line=b"HTTP/1.2 101 x"),
        },
        {
            "nothing": status_line_refused(b""),
            "no space behind the status": status_line_refused(b"HTTP/1.1 101"),
            "no status": status_line_refused(b"HTTP/1.1"),
            "tabs": status_line_refused(b"HTTP/1.1\t101\tx"),
            "two spaces": status_line_refused(b"HTTP/1.1  101 x", "invalid status code"),
            "space before": status_line_refused(b" HTTP/1.1 101 x", "unsupported protocol"),
            "HTTP/1.0": status_line_refused(b"HTTP/1.0 101 x", "unsupported protocol"),
            "HTTP/2.0": status_line_refused(b"HTTP/2.0 101 x", "unsupported protocol"),
            "HTTP/1.10": status_line_refused(b"HTTP/1.10 101 x", "unsupported protocol"),
            "lowercase": status_line_refused(b"http/1.1 101 x", "unsupported protocol"),
            "SSH": invalid(b"SSH-2.0-x\r\n\r\n", "invalid HTTP status line: SSH-2.0-x"),
            "request": invalid(request(), "unsupported protocol"),
            **{
                repr(status)[1:]: status_line_refused(
                    b"HTTP/1.1 " + status + b" x", "invalid status code; expected "
                )
                for status in (
                    b"0101 1_1 +10 1.0 10 1010 099 600 999 \xb9\xb0\xb9 abc 0x65".split()
                )
            },
            "NUL in the reason": status_line_refused(b"HTTP/1.1 101 \0", "invalid HTTP reason"),
            "CR in the reason": status_line_refused(b"HTTP/1.1 101 a\rb", "invalid HTTP reason"),
            "too long": Failed(
                response(line=b"HTTP/1.1 101 " + b"a" * 8192), StatusLineTooLong, TOO_LONG
            ),
            "without end": Failed(b"HTTP/1.1 101 " + b"a" * 8192, StatusLineTooLong, TOO_LONG),
        },
    ),
    ClientRule(
        "RFC 9112 2.2",
        "lines end with CRLF",
        {},
        {
            "empty line before": invalid(b"\r\n" + response(), "invalid HTTP status line: "),
            "LF everywhere": invalid(response().replace(b"\r\n", b"\n"), BARE_LF),
            "LF behind a field": invalid(response(b"A: b\nB: c"), BARE_LF),
            "CR in a value": invalid(response(b"A: b\rc"), "invalid HTTP header value: b\rc"),
            "space before the first field": invalid(
                response().replace(b"Upgrade", b" Upgrade", 1), "invalid HTTP header name:  Upgr"
            ),
        },
    ),
    ClientRule(
        "RFC 9112 5",
        "fields, as in requests",
        {"obs-text": response(b"A: \xe9"), "empty": response(b"A:")},
        {
            "space before the colon": invalid(response(b"A : b"), "invalid HTTP header name: A "),
            "no colon": invalid(response(b"A"), "invalid HTTP header line: A"),
            "no name": invalid(response(b": b"), "invalid HTTP header name: "),
            # Section 5.2 has a user agent unfold it. No server folds the fields of a handshake.
            "folded": invalid(response(b"A: b\r\n c"), "invalid HTTP header line:  c"),
            "NUL": invalid(response(b"A: b\0"), "invalid HTTP header value: b\0"),
            "not ASCII": invalid(response(b"\xe9: b"), "invalid HTTP header name: \\xe9"),
            "too long": invalid(response(b"A: " + b"a" * 8192), TOO_LONG),
            "too many": invalid(response(*[b"A: b"] * 128), "expected no more than 128 headers"),
        },
    ),
    ClientRule(
        "RFC 6455 4.1 (1)",
        "the status is 101",
        {},
        {
            f"{status}": Failed(
                response(b"Content-Length: 0", line=f"HTTP/1.1 {status} x".encode()),
                InvalidStatus,
                f"server rejected WebSocket connection: HTTP {status}",
            )
            for status in [200, 201, 204, 301, 302, 304, 400, 401, 404, 426, 500, 503, 599]
        },
    ),
    ClientRule(
        "RFC 9110 15.2",
        "interim responses come before",
        {
            "one": b"HTTP/1.1 100 Continue\r\n\r\n" + response(),
            "several": b"HTTP/1.1 103 x\r\nLink: y\r\n\r\n" * 3 + response(),
            # RFC 9112 section 6.3: they have no body, whatever they say.
            "with a length": b"HTTP/1.1 102 x\r\nContent-Length: 5\r\n\r\n" + response(),
        },
        {
            "malformed": invalid(b"HTTP/1.1 100 x\r\nA\r\n\r\n" + response(), "invalid HTTP"),
            "garbage behind it": invalid(
                b"HTTP/1.1 100 x\r\n\r\nhello\r\n", "invalid HTTP status line: hello"
            ),
        },
    ),
    ClientRule(
        "RFC 6455 4.1 (2)",
        "Upgrade is websocket",
        {"case": response(upgrade=b"WebSocket")},
        {
            "none": Failed(response(upgrade=None), InvalidUpgrade, misses("Upgrade")),
            "other": Failed(
                response(upgrade=b"h2c"), InvalidUpgrade, "invalid Upgrade header: h2c"
            ),
            # Here, unlike in a request, it must be the value.
            "list": Failed(
                response(upgrade=b"websocket, h2c"),
                InvalidUpgrade,
                "invalid Upgrade header: websocket, h2c",
            ),
            "two": Failed(
                response(b"Upgrade: websocket"),
                InvalidUpgrade,
                "invalid Upgrade header: websocket, websocket",
            ),
            "version": Failed(
                response(upgrade=b"websocket/13"),
                InvalidUpgrade,
                "invalid Upgrade header: websocket/13",
            ),
            "empty": Failed(response(upgrade=b""), InvalidHeaderFormat, "expected protocol at 0"),
            "malformed": Failed(
                response(upgrade=b"web socket"), InvalidHeaderFormat, "expected comma at 4"
            ),
        },
    ),
    ClientRule(
        "RFC 6455 4.1 (3)",
        "Connection includes Upgrade",
        {
            "case": response(connection=b"upgrade"),
            "list": response(connection=b"keep-alive, Upgrade"),
            "two lines": response(b"Connection: keep-alive"),
        },
        {
            "none": Failed(response(connection=None), InvalidUpgrade, misses("Connection")),
            "other": Failed(
                response(connection=b"close"), InvalidUpgrade, "invalid Connection header: close"
            ),
            "malformed": Failed(
                response(connection=b"a b"), InvalidHeaderFormat, "expected comma at 2"
            ),
        },
    ),
    ClientRule(
        "RFC 6455 4.1 (4)",
        "the key is accepted",
        {"spaces around it": response(sec_websocket_accept=b"\t " + ACCEPT + b" \t")},
        {
            "none": Failed(
                response(sec_websocket_accept=None),
                InvalidHeader,
                misses("Sec-WebSocket-Accept"),
            ),
            # Section 11.3.3
            "same twice": Failed(
                response(b"Sec-WebSocket-Accept: " + ACCEPT),
                InvalidHeader,
                several("Sec-WebSocket-Accept"),
            ),
            **{
                name: Failed(
                    response(sec_websocket_accept=value),
                    InvalidHeaderValue,
                    f"invalid Sec-WebSocket-Accept header: {value.decode('iso-8859-1')}",
                )
                for name, value in [
                    ("of another key", b"K7DJLdLooIwIG/MOpvWFB3y3FE8="),
                    ("the key", KEY),
                    ("case", ACCEPT.swapcase()),
                    ("cut", ACCEPT[:-1]),
                    ("longer", ACCEPT + b"="),
                    ("list", ACCEPT + b", " + ACCEPT),
                    ("quoted", b'"' + ACCEPT + b'"'),
                    ("not ASCII", b"\xe9"),
                ]
            },
            "empty": Failed(
                response(sec_websocket_accept=b""),
                InvalidHeaderValue,
                "empty Sec-WebSocket-Accept header",
            ),
        },
    ),
    ClientRule(
        "RFC 6455 4.1 (5)",
        "no extension that was not asked for",
        {},
        {
            "any": Failed(
                response(b"Sec-WebSocket-Extensions: x"),
                NegotiationError,
                "no extensions supported",
            ),
            "compression": Failed(
                response(b"Sec-WebSocket-Extensions: permessage-deflate"),
                NegotiationError,
                "no extensions supported",
            ),
        },
    ),
    ClientRule(
        "RFC 6455 4.1 (6)",
        "no subprotocol that was not asked for",
        {},
        {
            "any": Failed(
                response(b"Sec-WebSocket-Protocol: x"),
                NegotiationError,
                "no subprotocols supported",
            ),
        },
    ),
    ClientRule(
        "RFC 9112 6.3",
        "there is no body in a 101 response, whatever it says",
        {
            "Content-Length": response(b"Content-Length: 5"),
            "nonsense": response(b"Content-Length: -1", b"Content-Length: x"),
            "Transfer-Encoding": response(b"Transfer-Encoding: chunked"),
        },
        {},
    ),
    ClientRule(
        "RFC 9112 6.2",
        "Content-Length of other responses",
        {},
        {
            "body": not_found(rejection(b"Content-Length: 5", body=b"hello")),
            "zeros": not_found(rejection(b"Content-Length: 0005", body=b"hello")),
            "negative": length_refused(b"-5"),
            "plus": length_refused(b"+5"),
            "underscore": length_refused(b"0_5"),
            "hexadecimal": length_refused(b"0x5"),
            "empty": length_refused(b""),
            "other digits": length_refused(b"\xb2"),
            # Section 6.3, point 5: identical values may be refused, others must.
            "list": length_refused(b"5, 5"),
            "same twice": length_refused(b"5\r\nContent-Length: 5", "'Content-Length'"),
            "conflict": length_refused(b"5\r\nContent-Length: 6", "'Content-Length'"),
            "large": length_refused(b"1048577", "body too large: 1048577 bytes"),
            "2**64": length_refused(b"18446744073709551616"),
            "huge": length_refused(b"9" * 5000),
        },
    ),
    ClientRule(
        "RFC 9112 6.1",
        "Transfer-Encoding of other responses",
        {},
        {
            "chunked": not_found(chunked(b"5\r\nhello\r\n0\r\n\r\n")),
            # Section 6.3, point 3: it overrides the length.
            "and a length": not_found(
                rejection(
                    b"Content-Length: 3",
                    b"Transfer-Encoding: Chunked",
                    body=b"5\r\nhello\r\n0\r\n\r\n",
                )
            ),
            "unknown": coding_unknown(b"gzip"),
            "two": coding_unknown(b"gzip, chunked"),
            "chunked twice": coding_unknown(b"chunked, chunked"),
            "identity": coding_unknown(b"identity"),
            "empty": coding_unknown(b""),
            "parameter": coding_unknown(b"chunked;a=b"),
            "two lines": invalid(
                rejection(*[b"Transfer-Encoding: chunked"] * 2), "'Transfer-Encoding'"
            ),
        },
    ),
    ClientRule(
        "RFC 9112 7.1",
        "chunks",
        {},
        {
            "several": not_found(chunked(b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n")),
            "zeros": not_found(chunked(b"0005\r\nhello\r\n000\r\n\r\n")),
            "lowercase": not_found(chunked(b"a\r\nhellohello\r\n0\r\n\r\n")),
            # Section 7.1.1: extensions are ignored.
            "extension": not_found(chunked(b'5;a;b=c;d="e;f"\r\nhello\r\n0;x\r\n\r\n')),
            "spaces before an extension": not_found(chunked(b"5 \t;a\r\nhello\r\n0\r\n\r\n")),
            # Section 7.1.2: trailers may be discarded, and are never merged.
            "trailers": not_found(chunked(b"5\r\nhello\r\n0\r\nContent-Length: 9\r\nA: b\r\n\r\n")),
            **{
                repr(size)[1:]: chunk_refused(size, size.decode())
                for size in [b"", b"5 ", b" 5", *b"g -5 +5 0x5 5_0 5.0".split(), b"F" * 16]
            },
            "CR in an extension": chunk_refused(b"5;a\rb", "5"),
            "NUL in an extension": chunk_refused(b"5;\0", "5"),
            "too large": invalid(
                chunked(b"100001\r\n"), "chunk too large: 1048577 bytes after 0 bytes"
            ),
            "too large together": invalid(
                chunked(b"5\r\nhello\r\n100000\r\n"), "chunk too large: 1048576 bytes after 5"
            ),
            "long extension": invalid(chunked(b"5;" + b"a" * 8192), TOO_LONG),
            "longer than announced": invalid(chunked(b"4\r\nhello\r\n"), "chunk without CRLF"),
            "LF behind the size": invalid(chunked(b"5\nhello\r\n"), BARE_LF),
            "LF behind the data": invalid(chunked(b"5\r\nhello\n0\r\n"), "chunk without CRLF"),
            "malformed trailer": invalid(
                chunked(b"0\r\nA : b\r\n\r\n"), "invalid HTTP header name: A "
            ),
            "too many trailers": invalid(
                chunked(b"0\r\n" + b"A: b\r\n" * 129), "expected no more than 128 headers"
            ),
        },
    ),
]


def awaiting_response(**kwargs: Any) -> ClientProtocol:
    protocol = ClientProtocol(parse_uri("ws://example.com/chat"), **kwargs)
    protocol.key = KEY.decode()
    protocol.send_request(protocol.connect())
    protocol.data_to_send()
    return protocol


class TestClient:
    @cuts
    @pytest.mark.parametrize("data", cases_of(CLIENT_RULES, "good"))
    def test_accepted(self, data: bytes, cut: Cut) -> None:
        protocol = awaiting_response()
        for piece in cut(data + frame(TEXT, b"hi")):
            protocol.receive_data(piece)
        answer, message = protocol.events_received()
        assert isinstance(answer, Response)
        assert (answer.status_code, answer.body) == (101, b"")
        assert message == Frame(Opcode.TEXT, b"hi")
        assert protocol.state is State.OPEN
        assert protocol.handshake_exc is None
        assert protocol.data_to_send() == []

    @cuts
    @pytest.mark.parametrize("case", cases_of(CLIENT_RULES, "bad"))
    def test_refused(self, case: Failed, cut: Cut) -> None:
        """The client hangs up (section 4.1: fails the connection), and reads no more."""
        protocol = awaiting_response()
        for piece in cut(case.data + response() + frame(TEXT, b"behind")):
            protocol.receive_data(piece)
        events = protocol.events_received()
        assert [type(event) for event in events] in ([], [Response])
        assert type(protocol.handshake_exc) is case.exc_type
        texts = [str(exc) for exc in chain(protocol.handshake_exc)]
        if case.exc_type is InvalidMessage:
            assert texts[0] == "did not receive a valid HTTP response"
            assert events == []
        assert case.text in texts[-1]
        assert protocol.state is State.CONNECTING
        assert protocol.data_to_send() == [SEND_EOF]
        assert protocol.close_expected()

    @pytest.mark.parametrize(
        "data",
        [
            response(b"A: b"),
            rejection(b"Content-Length: 5", body=b"hello"),
            chunked(b'5;a="b"\r\nhello\r\n0\r\nA: b\r\n\r\n'),
            b"HTTP/1.1 100 Continue\r\n\r\n" + response(),
        ],
        ids=["101", "Content-Length", "chunked", "interim"],
    )
    def test_end_of_the_stream(self, data: bytes) -> None:
        """RFC 9112 section 8: incomplete, at any point."""
        for i in range(len(data)):
            protocol = awaiting_response()
            protocol.receive_data(data[:i])
            assert protocol.handshake_exc is None
            protocol.receive_eof()
            exc, reason, *_ = chain(protocol.handshake_exc)
            assert type(exc) is InvalidMessage
            assert type(reason) is EOFError
            assert protocol.events_received() == []
            assert protocol.state is State.CLOSED

    def test_body_that_ends_with_the_stream(self) -> None:
        """RFC 9112 section 6.3, point 8: complete wherever it ends."""
        head = rejection(b"A: b")
        for body in [b"", b"h", b"hello"]:
            protocol = awaiting_response()
            protocol.receive_data(head + body)
            protocol.receive_eof()
            (answer,) = protocol.events_received()
            assert isinstance(answer, Response)
            assert answer.body == body
            assert type(protocol.handshake_exc) is InvalidStatus

    def test_subprotocols_are_unique(self) -> None:
        """RFC 6455 section 4.1, point 10 of the request."""
        subprotocols = [Subprotocol(name) for name in "abacb"]
        headers = awaiting_response(subprotocols=subprotocols).connect().headers
        assert headers["Sec-WebSocket-Protocol"] == "a, b, c"

    @pytest.mark.parametrize(
        ("uri", "host"),
        [
            ("ws://[fe80::1%eth0]:8080/", "[fe80::1]:8080"),
            ("ws://[fe80::1%25eth0]/", "[fe80::1]"),
        ],
    )
    def test_host(self, uri: str, host: str) -> None:
        """RFC 6874 section 4: the zone stays here, and the address to connect to has it."""
        parsed = parse_uri(uri)
        assert ClientProtocol(parsed).connect().headers["Host"] == host
        assert parsed.host.partition("%")[2] in uri.lower()

    @pytest.mark.parametrize(
        "host", ["a<b", 'a"b', "a\\b", "a^b", "a`b", "{a}", "a|b", "%", "%4", "%zz", "\xe9%zz"]
    )
    def test_bad_host(self, host: str) -> None:
        """RFC 3986 section 3.2.2"""
        with pytest.raises(InvalidURI, match="hostname isn't valid"):
            parse_uri(f"ws://{host}/")

    def test_backslash(self) -> None:
        """To a browser, this is ws://good.example/:x@evil.example/."""
        with pytest.raises(InvalidURI, match="hostname isn't valid"):
            parse_uri("ws://good.example\\:x@evil.example/")

    @given(
        st.sampled_from(["h", "1.2.3.4", "[::1]", "[fe80::1%eth0]", "u:p@h", "\xe9.com", "a_b"])
        | st.text(st.characters(), max_size=8),
        st.sampled_from(["", ":80", ":8080"]),
        st.text(st.characters(), max_size=12),
    )
    def test_what_the_client_asks_for_breaks_no_rule(self, host: str, port: str, rest: str) -> None:
        """Any URI is refused, or makes a request that the rules above accept."""
        try:
            uri = parse_uri(f"ws://{host}{port}/{rest}")
        except InvalidURI:
            return
        client = ClientProtocol(uri)
        client.send_request(client.connect())
        server = ServerProtocol()
        _, writes = feed(server, client.data_to_send())
        client.receive_data(b"".join(writes))
        assert (client.state, server.state) == (State.OPEN, State.OPEN)


# ------------------------------------------------------------------------------ splitting

# RFC 9112 section 11.1: what the application is given by strangers, and gives to this package,
# must not end the line that it is meant for.
SPLITS = [
    "a\r\nB: c",
    "a\nB: c",
    "a\rB: c",
    "a\r\n\r\n",
    "\r\n",
    "a\0",
    "a\x0bb",
    "a\x7f",
    "\u010a",
]

splits = pytest.mark.parametrize("text", SPLITS, ids=ascii)


class Splitting(ServerExtensionFactory):
    name = ExtensionName("x")

    def __init__(self, text: str) -> None:
        self.text = text

    def process_request_params(self, params: Any, accepted_extensions: Any) -> Any:
        return [("a", self.text)], Extension()


class TestSplitting:
    @splits
    def test_headers(self, text: str) -> None:
        """Of both sides: additional headers, Server, User-Agent, Location, cookies, origin."""
        for headers in (
            lambda: Headers(Location=text),
            lambda: Headers({text: "a"}),
            lambda: Headers([("A", "b"), ("A", text)]),
            lambda: Headers().update({"A": text}),
            lambda: Headers().setdefault("A", text),
        ):
            with pytest.raises(InvalidHeader):
                headers()  # type: ignore[no-untyped-call]

    @splits
    def test_request_line(self, text: str) -> None:
        headers = Headers(Host="h")
        for bad in (
            Request(f"/{text}", headers),
            Request(text, headers),
            Request("/", headers, method=text),
            Request("/", headers, protocol=text),
        ):
            with pytest.raises(ValueError, match="^invalid HTTP request line: "):
                awaiting_response().send_request(bad)

    @splits
    def test_status_line(self, text: str) -> None:
        protocol = ServerProtocol()
        protocol.receive_data(request())
        with pytest.raises(ValueError, match="invalid HTTP reason phrase|can't encode"):
            protocol.send_response(Response(200, text, Headers()))
        assert protocol.data_to_send() == []

    @splits
    def test_client(self, text: str) -> None:
        for options in ({"origin": text}, {"subprotocols": [text]}):
            with pytest.raises(InvalidHeaderValue):
                ClientProtocol(parse_uri("ws://h/"), **options).connect()  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="^invalid subprotocol: "):
            validate_subprotocols([Subprotocol(text)])

    @pytest.mark.parametrize(
        "uri",
        ["ws://h/a b", "ws://h\r\n X: y/", "ws://h/\0", "ws://h/\x7f", "ws://h/\x0b", "ws://h /"],
        ids=ascii,
    )
    def test_uri(self, uri: str) -> None:
        with pytest.raises(InvalidURI):
            parse_uri(uri)

    @pytest.mark.parametrize(
        ("uri", "path"), [("ws://h/a\r\nX:y", "/aX:y"), ("ws://h/\u010d\u010a", "/%C4%8D%C4%8A")]
    )
    def test_uri_that_is_made_harmless(self, uri: str, path: str) -> None:
        """Line ends are dropped; others are encoded, none becomes its last byte."""
        assert parse_uri(uri).resource_name == path

    @splits
    def test_server(self, text: str, caplog: pytest.LogCaptureFixture) -> None:
        """The client gets a 500, and the log tells why."""
        for options in (
            {"select_subprotocol": lambda protocol, subprotocols: text},
            {"extensions": [Splitting(text)]},
        ):
            caplog.clear()
            protocol = ServerProtocol(**options)
            _, writes = feed(protocol, [request(b"Sec-WebSocket-Extensions: x")])
            answer = RawResponse.from_bytes(b"".join(writes))
            assert answer.status == 500
            assert type(protocol.handshake_exc) is InvalidHeaderValue
            assert [record.getMessage() for record in caplog.records] == [
                "opening handshake failed"
            ]

    @pytest.mark.parametrize("subprotocol", ["a, b", "a b", "", '"a"', 5])
    def test_subprotocol_that_is_none(self, subprotocol: Any) -> None:
        """RFC 6455 section 4.2.2: one token, not what a client would take for two."""
        protocol = ServerProtocol(select_subprotocol=lambda protocol, offers: subprotocol)
        _, writes = feed(protocol, [request()])
        assert RawResponse.from_bytes(b"".join(writes)).status == 500

    @splits
    def test_realm(self, text: str) -> None:
        with pytest.raises(ValueError, match="^invalid characters"):
            build_www_authenticate_basic(text)

    @given(st.text(max_size=8), st.text(max_size=8), st.text(max_size=8), st.text(max_size=8))
    def test_what_is_sent_is_what_was_meant(
        self, path: str, method: str, name: str, value: str
    ) -> None:
        """Whatever the texts are: an exception, or one request line and one field."""
        try:
            data = Request(path, Headers([(name, value)]), method).serialize()
        except (InvalidHeader, ValueError):
            return
        lines = [f"{method} {path} HTTP/1.1", f"{name}: {value}", "", ""]
        assert data == "\r\n".join(lines).encode("iso-8859-1")
        assert data.count(b"\n") == data.count(b"\r") == 3

    @given(st.integers(0, 1000), st.text(max_size=8), st.text(max_size=8), st.text(max_size=8))
    def test_what_is_answered_is_what_was_meant(
        self, status: int, reason: str, name: str, value: str
    ) -> None:
        try:
            data = Response(status, reason, Headers([(name, value)])).serialize()
        except (InvalidHeader, ValueError):
            return
        lines = [f"HTTP/1.1 {status} {reason}", f"{name}: {value}", "", ""]
        assert data == "\r\n".join(lines).encode("iso-8859-1")
        assert data.count(b"\n") == data.count(b"\r") == 3


# ------------------------------------------------------------------------------ over TCP


def first_of(cases: dict[str, Any]) -> list[Any]:
    return list(cases.values())[:2]


class TestAsyncio:
    """A sample of each rule, end to end."""

    async def test_server(self, caplog: pytest.LogCaptureFixture) -> None:
        """Strangers are answered, reach no code of the application, and leave no warning."""
        caplog.set_level(logging.INFO)
        handled: list[str] = []

        async def handler(ws: ServerConnection) -> None:
            assert ws.request is not None
            handled.append(ws.request.path)
            await echo(ws)

        async with serving(handler) as server:
            for rule in SERVER_RULES:
                for case in first_of(rule.bad):
                    async with raw_socket(server) as peer:
                        await peer.send(case.data + BEHIND)
                        answer = RawResponse.from_bytes(await peer.read_to_end())
                        assert answer.status == case.status, rule
                        assert case.text in answer.body.decode()
                        assert len(answer.body) == int(answer.headers["content-length"])
            assert handled == []
            for rule in SERVER_RULES:
                for data in first_of(rule.good):
                    async with raw_socket(server) as peer:
                        await peer.send(data + client_frame(TEXT, b"hi"))
                        head = await peer.read_until(b"\r\n\r\n")
                        assert head.startswith(b"HTTP/1.1 101 "), rule
                        assert (await peer.recv_frame()).payload == b"hi"
            async with connecting(server) as client:
                await client.send("still here")
                assert await within(client.recv()) == "still here"
        assert noise(caplog) == []

    async def test_what_is_malformed_reaches_no_hook(self) -> None:
        paths: list[str] = []

        def process_request(ws: ServerConnection, request: Request) -> None:
            paths.append(request.path)

        async with serving(process_request=process_request) as server:
            for rule in SERVER_RULES:
                for case in first_of(rule.bad):
                    if case.exc_type is InvalidMessage:
                        async with raw_socket(server) as peer:
                            await peer.send(case.data + BEHIND)
                            await peer.read_to_end()
        assert paths == []

    async def test_head(self) -> None:
        """RFC 9110 section 9.3.2, also for what the application answers."""

        def process_request(ws: ServerConnection, request: Request) -> Response:
            return ws.respond(200, "OK\n")

        async with serving(process_request=process_request) as server, raw_socket(server) as peer:
            await peer.send(b"HEAD /health HTTP/1.1\r\nHost: a\r\n\r\n")
            answer = RawResponse.from_bytes(await peer.read_to_end())
            assert (answer.status, answer.headers["content-length"]) == (200, "3")
            assert answer.body == b""

    async def test_endless_body(self) -> None:
        """It is refused on its header; what comes is not kept, and not read for ever."""
        async with serving(close_timeout=0.2) as server, raw_socket(server) as peer:
            await peer.send(request(b"Content-Length: 100000000"))
            answer = await peer.read_until(b"\r\n\r\n")
            assert RawResponse.from_bytes(answer).status == 400
            before = rss()
            with pytest.raises(ConnectionError):
                async with asyncio.timeout(PATIENCE):
                    while True:
                        await peer.send(b"a" * 65536)
            assert rss() - before < 2**24

    async def test_splitting_by_the_application(self, caplog: pytest.LogCaptureFixture) -> None:
        """Nothing of a response that would be two leaves the server."""

        def process_request(ws: ServerConnection, request: Request) -> Response:
            return Response(302, "Found\r\nSet-Cookie: a=b", Headers(Location="/"))

        async with serving(process_request=process_request) as server, raw_socket(server) as peer:
            await peer.send(request())
            assert b"Set-Cookie" not in await peer.read_to_end()
        assert [record.getMessage() for record in caplog.records if record.exc_info] == [
            "opening handshake failed"
        ]

    async def test_location_from_the_request(self, caplog: pytest.LogCaptureFixture) -> None:
        """A redirect that copies a decoded path into its Location."""

        def process_request(ws: ServerConnection, request: Request) -> Response:
            path = request.path.replace("%0d%0a", "\r\n")
            return Response(302, "Found", Headers(Location=path, Content_Length="0"))

        async with serving(process_request=process_request) as server, raw_socket(server) as peer:
            await peer.send(request(line=b"GET /%0d%0aSet-Cookie:a HTTP/1.1"))
            answer = RawResponse.from_bytes(await peer.read_to_end())
            assert answer.status == 500
            assert "set-cookie" not in answer.headers
        assert [record.getMessage() for record in caplog.records] == ["process_request failed"]

    async def test_client(self) -> None:
        for rule in CLIENT_RULES:
            for case in first_of(rule.bad):
                async with raw_server() as listener:
                    opening = asyncio.create_task(
                        within(connect(listener.uri, compression=None).__aenter__())
                    )
                    peer = await listener.accept_request()
                    accept = listener.response().partition(b"Accept: ")[2].partition(b"\r\n")[0]
                    await peer.send(case.data.replace(ACCEPT, accept) + response())
                    with pytest.raises(case.exc_type) as raised:
                        await opening
                    texts = [str(raised.value), *map(str, causes(raised.value))]
                    assert case.text.replace(ACCEPT.decode(), accept.decode()) in texts[-1], rule
                    await peer.expect_eof()

    @splits
    async def test_client_options(self, text: str) -> None:
        """They are refused before a byte is sent."""
        wrong: list[dict[str, Any]] = [
            {"additional_headers": {"A": text}},
            {"additional_headers": {text: "a"}},
            {"user_agent_header": text},
            {"origin": text},
            {"subprotocols": [text]},
        ]
        async with raw_server() as listener:
            for options in wrong:
                with pytest.raises((InvalidHeader, ValueError)):
                    await within(connect(listener.uri, compression=None, **options).__aenter__())
                if "subprotocols" not in options:
                    await (await listener.accept()).expect_eof()
            await turns()


# ------------------------------------------------------------------------------ other modules

ELSEWHERE = {
    "RFC 6455 3: URIs": "test_uri:test_invalid",
    "RFC 6455 4.1: the client's request": "test_client:TestRequest",
    "RFC 6455 4.1 (5): extensions accepted": "test_client:TestExtensions",
    "RFC 6455 4.1 (6): subprotocol selected": "test_client:TestSubprotocols",
    "RFC 6455 4.2.2 (5): the server's response": "test_server:TestAccept",
    "RFC 6455 4.2.2 (5): subprotocols": "test_server:TestSubprotocols",
    "RFC 6455 9.1: extensions": "test_server:TestExtensions",
    "RFC 6455 9.1: grammar of extensions": "test_headers:test_parse_bad_extension",
    "RFC 6455 10.2: origins": "test_server:TestOrigins",
    "RFC 9110 5.1, 5.5: fields of the application": "test_datastructures:Headers",
    "RFC 9110 5.6.1: lists": "test_headers:test_lists",
    "RFC 9110 5.6.7: dates": "test_server:test_date",
    "RFC 9112 2.2 to 7.1: however the input is cut": "test_http11:test_cuts_make_no_difference",
    "RFC 9112 5: fields": "test_http11:TestHeaders",
    "limits at their boundaries": "test_handshake_limits:TestLines",
    "limits of bodies": "test_handshake_limits:TestBodies",
    "cost of hostile input": "test_handshake_limits:TestCost",
    "time, of requests": "test_security:TestHandshakeFloods",
    "time, of responses": "asyncio.test_bad_input:test_slow_responses_end",
}


@pytest.mark.parametrize("rule", ELSEWHERE)
def test_elsewhere(rule: str) -> None:
    module, _, name = ELSEWHERE[rule].partition(":")
    assert hasattr(importlib.import_module(f".{module}", __package__), name)


def test_sections() -> None:
    """The list has every section that sets rules for one of the sides."""
    sections = {rule.section for rule in SERVER_RULES}
    assert len(sections) == len(SERVER_RULES)
    assert {f"RFC 6455 4.2.1 ({point})" for point in (1, 3, 4, 5, 6, 10)} <= sections
    assert {f"RFC 9112 {section}" for section in ("2.2", "2.3", "3", "3.1", "3.2.1")} <= sections
    assert {f"RFC 9112 {section}" for section in ("5.1", "5.2", "6.1", "6.2", "11.2")} <= sections
    assert {f"RFC 6455 4.1 ({point})" for point in range(1, 7)} <= {
        rule.section for rule in CLIENT_RULES
    }
