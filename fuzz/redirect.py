"""Redirects of a client, wherever servers send it, and what each of them gets to know."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Iterator
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidProxy, InvalidURI
from websockets.headers import build_authorization_basic, build_host
from websockets.http11 import MAX_LINE_LENGTH, Request, RequestParser
from websockets.proxy import parse_proxy
from websockets.redirect import MAX_REDIRECTS
from websockets.uri import WebSocketURI, parse_uri

from . import http
from .common import Cursor

__all__ = ["one_input", "seeds"]

# What must not reach another origin than this one.
SECRET = "s3cr3t"
ORIGINS = (
    f"ws://user:{SECRET}@example.com/chat?a",
    f"wss://user:{SECRET}@example.com/chat",
    f"wss://:{SECRET}@[::1]:8080",
    "ws://example.com:8080/",
)
ADDITIONAL = {
    "Authorization": f"Bearer {SECRET}",
    "Cookie": f"session={SECRET}",
    "Proxy-Authorization": f"Bearer {SECRET}",
    "Host": f"{SECRET}.example.com",
    "X-Other": "other",
}

# What a client sends of its own accord.
OURS = {
    "Host", "Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version",
    "Sec-WebSocket-Extensions", "User-Agent",
}  # fmt: skip

STATUSES = (302, 300, 301, 303, 307, 308)


def one_input(data: bytes) -> None:
    """Check one input."""
    cursor = Cursor(data)
    cursor.pick((check_redirects, check_password))(cursor)


# Redirects


def check_redirects(cursor: Cursor) -> None:
    uri = cursor.pick(ORIGINS)
    additional = ADDITIONAL if cursor.flag() else None
    status = cursor.pick(STATUSES)
    locations = cursor.rest().split(b"\xff")
    servers = Servers(uri, additional, status, iter(locations))
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        try:
            loop.run_until_complete(servers.connect())
            raise AssertionError("there is no server that accepts")
        except (InvalidHandshake, InvalidURI) as exc:
            assert SECRET not in str(exc) or any(SECRET.encode() in text for text in locations)
    assert 1 <= servers.requests <= MAX_REDIRECTS


class Servers(connect):
    """A client that reaches servers which answer with one redirect after another.

    Args:
        uri: where it begins.
        additional: headers for that origin.
        status: status of the redirects.
        locations: where they lead; when they end, the client is refused.
    """

    def __init__(
        self,
        uri: str,
        additional: dict[str, str] | None,
        status: int,
        locations: Iterator[bytes],
    ) -> None:
        super().__init__(uri, additional_headers=additional, proxy=None, open_timeout=None)
        self.origin = self.ws_uri
        self.additional = additional or {}
        self.status = status
        self.locations = locations
        self.requests = 0
        self.is_away = False  # whether it has been led to another origin
        self.transport: Transport

    async def open_tcp_connection(self) -> ClientConnection:
        uri = self.ws_uri
        # RFC 6455 section 3, and nobody takes away the encryption.
        assert uri == parse_uri(self.uri)
        assert uri.secure or not self.origin.secure
        same = (uri.secure, uri.host, uri.port)
        self.is_away |= same != (self.origin.secure, self.origin.host, self.origin.port)
        connection = self.factory(uri)
        self.transport = Transport(self, uri, connection)
        connection.connection_made(self.transport)
        return connection

    def answer(self, data: bytes, uri: WebSocketURI) -> bytes:
        """Check a request; return the answer."""
        self.requests += 1
        parsed = http.read(RequestParser, [data]) if len(data) < MAX_LINE_LENGTH else None
        if parsed is not None:
            request, rest = parsed
            assert isinstance(request, Request)
            assert not rest, "it is one request"
            assert request.path == uri.resource_name
            names = {name for name, _ in request.headers.raw_items()}
            additional = dict(self.additional)
            if self.is_away:
                additional = {name: additional[name] for name in additional if name == "X-Other"}
            assert names - {"Authorization"} <= OURS | set(additional)
            expected = [] if uri.user_info is None else [build_authorization_basic(*uri.user_info)]
            expected += [additional["Authorization"]] if "Authorization" in additional else []
            assert request.headers.get_all("Authorization") == expected
            for name in OURS:
                assert request.headers.get_all(name) == [
                    additional.get(name, request.headers[name])
                ]
            if "Host" not in additional:
                assert request.headers["Host"] == build_host(uri.host, uri.port, uri.secure)
        location = next(self.locations, None)
        if location is None:
            return b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
        head = b"HTTP/1.1 %d Go\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n"
        return head % (self.status, location)


class Transport(asyncio.Transport):
    """What a request is written to, and where its answer comes from."""

    def __init__(self, servers: Servers, uri: WebSocketURI, connection: ClientConnection) -> None:
        super().__init__()
        self.servers = servers
        self.uri = uri
        self.connection = connection
        self.closing = False

    def write(self, data: Any) -> None:
        self.connection.data_received(self.servers.answer(bytes(data), self.uri))
        self.connection.eof_received()
        self.close()

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            self.connection.connection_lost(None)

    abort = close

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def is_reading(self) -> bool:
        return True


# What is told about a URL


has_delimiter = re.compile("[/?#:@]").search


def check_password(cursor: Cursor) -> None:
    """What is wrong with a URL is told without its password."""
    parts = cursor.rest().decode("utf-8", "surrogateescape").split("\0", 3)
    user, before, after, rest = parts + [""] * (4 - len(parts))
    if has_delimiter(user) or has_delimiter(before) or SECRET in rest:
        return
    url = f"{user}:{before}{SECRET}{after}@{rest}"
    for parse, scheme in ((parse_uri, "ws"), (parse_proxy, "http")):
        try:
            parse(f"{scheme}://{url}")
        except (InvalidURI, InvalidProxy) as exc:
            cause: BaseException | None = exc
            while cause is not None:
                assert SECRET not in str(cause)
                hidden = cause.__suppress_context__
                cause = cause.__cause__ or (None if hidden else cause.__context__)


def seeds() -> dict[str, bytes]:
    """Return inputs that reach the main paths."""
    locations = {
        "path": b"/to",
        "relative": b"../to?x",
        "same": b"ws://example.com/to",
        "again": b"\xff".join([b"/to"] * 11),
        "other": b"ws://other.example/to",
        "other-secure": b"wss://other.example/to",
        "other-port": b"//example.com:8081/",
        "back": b"wss://other.example/\xffwss://example.com/\xffws://example.com/",
        "credentials": b"wss://new:one@other.example/\xff/to",
        "credentials-latin": b"wss://%fcser:\xfc%ff@other.example/",
        "insecure": b"ws://example.com/",
        "http": b"http://example.com/",
        "file": b"file:///etc/passwd",
        "unix": b"unix:/run/docker.sock",
        "ipv6": b"wss://[fe80::1%25eth0]:1/",
        "idn": b"wss://m\xfcller.example/\xfc?\xdf",
        "long-label": b"wss://" + b"a" * 64 + b".example/",
        "long-idn": b"wss://" + b"\xe9" * 400 + b"/",
        "fragment": b"/to#a",
        "space": b"/a b",
        "tab": b"w\tss://exa\tmple.com/\t",
        "backslash": b"wss://example.com\\@evil.example/",
        "bad-ipv6": b"//[::1",
        "bad-port": b"//example.com:x/",
        "line-end": b"/\r\nLocation: /x",
        "injected": b"/\r\nContent-Length: 0\r\n\r\nHTTP/1.1 101 x",
        "nul": b"/\x00",
        "encoded": b"/%0d%0aX-Injected:%00",
        "empty": b"",
    }
    passwords = {
        "slash": b"user\x00\x00/x\x00host",
        "port": b"user\x00\x00\x00host:port",
        "bracket": b"user\x00\x00\x00[::1",
        "nfkc": "user\0\u2100\0\0host".encode(),
        "quote": b"us'er\x00'\"\x00?\"'#\x00host:p'",
        "none": b"user\x00\x00\x00host",
    }
    return {
        **{
            f"{name}-{number}": bytes([0, number, 1, 0]) + data
            for name, data in locations.items()
            for number in range(len(ORIGINS))
        },
        "plain": b"\x00\x00\x00\x03/to",
        **{f"password-{name}": b"\x01" + data for name, data in passwords.items()},
    }
