"""The opening of a tunnel through an HTTP proxy, on any answer and any URL."""

from __future__ import annotations

from websockets.datastructures import Headers
from websockets.exceptions import InvalidProxy, InvalidProxyMessage, InvalidProxyStatus
from websockets.headers import parse_authorization_basic
from websockets.http11 import MAX_LINE_LENGTH, Request, RequestParser, Response
from websockets.proxy import Proxy, Tunnel, parse_proxy

from . import http
from .common import Cursor, cut

__all__ = ["one_input", "seeds"]

PROXY = Proxy("http", "proxy.example", 3128)


def one_input(data: bytes) -> None:
    """Check one input."""
    cursor = Cursor(data)
    cursor.pick((check_answer, check_url))(cursor)


# An answer


def check_answer(cursor: Cursor) -> None:
    sizes = cursor.take(cursor.byte() % 8)
    data = cursor.rest()
    whole = open_tunnel([data])
    # Which of several faults is told depends on what has arrived; whether, does not.
    for pieces in (cut(data, sizes), cut(data, [1])):
        assert open_tunnel(pieces) == whole
    if whole is None:
        return
    head = http.head_of_message(data)
    status = int(head.split(b" ", 2)[1])
    if isinstance(whole, Response):
        assert whole.status_code == status
        assert not whole.body
        line = head.partition(b"\r\n")[0].decode("iso-8859-1")
        http.check_head(head, line, whole.headers)
    assert (whole is True) == (200 <= status < 300)


def open_tunnel(pieces: list[bytes]) -> Response | bool | None:
    """Whether an answer opens the tunnel, or the answer if it refuses; None if it is malformed."""
    tunnel = Tunnel(PROXY, "example.com", 443)
    try:
        for piece in pieces:
            if tunnel.receive_data(piece):
                return True
        assert not tunnel.receive_data(b"")
    except InvalidProxyStatus as exc:
        return exc.response
    except InvalidProxyMessage as exc:
        # Without a cause, it is about data that follows: that depends on how much has arrived.
        return None if exc.__cause__ is not None else True
    raise AssertionError("the end of the stream ends it")


# A URL


def check_url(cursor: Cursor) -> None:
    text = cursor.rest().decode("utf-8", "surrogateescape")
    try:
        proxy = parse_proxy(text)
    except InvalidProxy as exc:
        assert exc.proxy == text
        return
    assert proxy.scheme in ("http", "https", "socks4", "socks4a", "socks5", "socks5h")
    assert http.is_visible(proxy.host)
    assert 0 < proxy.port < 65536
    assert (proxy.username is None) == (proxy.password is None) == (proxy.user_info is None)
    if not proxy.scheme.startswith("http"):
        return
    try:
        request = Tunnel(proxy, "::1", 443, "Fuzzer").request
    except UnicodeEncodeError:
        assert proxy.username is not None  # which was not UTF-8
        return
    # RFC 9110 section 9.3.6: all that it has of the URL are the credentials.
    expected = {"Host": "[::1]:443", "User-Agent": "Fuzzer"}
    credentials = request.headers.pop("Proxy-Authorization", None)
    assert request == Request("[::1]:443", Headers(expected), "CONNECT")
    if credentials is None:
        assert proxy.user_info is None
        return
    assert parse_authorization_basic(credentials) == proxy.user_info
    request.headers["Proxy-Authorization"] = credentials
    if len(credentials) < MAX_LINE_LENGTH - 30:
        assert http.read(RequestParser, [request.serialize()]) == (request, b"")


ANSWERS = {
    "open": b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n",
    "open-1.0": b"HTTP/1.0 200 OK\r\n\r\n",
    "open-length": b"HTTP/1.1 299 OK\r\nContent-Length: 5\r\nTransfer-Encoding: x\r\n\r\n",
    "data": b"HTTP/1.1 200 OK\r\n\r\n\x16\x03\x01",
    "interim": b"HTTP/1.1 103 x\r\nLink: y\r\n\r\nHTTP/1.1 100 \r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    "interim-only": b"HTTP/1.1 100 Continue\r\n\r\n",
    "interims": b"HTTP/1.1 100 \r\n\r\n" * 33,
    "switching": b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    "refusal": b"HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic\r\nContent-Length: 3\r\n\r\nwho",
    "refusal-chunked": b"HTTP/1.1 502 x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe",
    "redirect": b"HTTP/1.1 302 Found\r\nLocation: http://evil.example/\r\n\r\n",
    "cut": b"HTTP/1.1 200 OK\r\nVia",
    "tls": b"\x15\x03\x01\x00\x02\x02\x46",
    "bare-lf": b"HTTP/1.1 200 OK\n\n",
    "version": b"HTTP/2 200 OK\r\n\r\n",
}


URLS = {
    "plain": b"http://proxy.example",
    "full": b"https://us%65r:p%3Aw@proxy.example:8443/",
    "latin": "http://\xfc:\xdf@m\xfcller.example:1".encode(),
    "binary": b"http://%ff:\xff@proxy.example",
    "ipv6": b"socks5h://[::1]:1080",
    "socks": b"socks4a://a%3ab:c@proxy.example",
    "path": b"http://proxy.example/path;x?y#z",
    "port": b"http://proxy.example:0",
    "no-host": b"http://user:pass@:1",
}


def seeds() -> dict[str, bytes]:
    """Return inputs that reach the main paths."""
    return {
        **{f"answer-{name}": b"\x00\x02\x05\x07" + data for name, data in ANSWERS.items()},
        **{f"url-{name}": b"\x01" + data for name, data in URLS.items()},
    }
