"""URIs: what websockets 17.4 makes of them, and InvalidURI for all that cannot be requested."""

from __future__ import annotations

import pytest

from websockets.exceptions import InvalidURI
from websockets.uri import WebSocketURI, parse_uri


@pytest.mark.parametrize(
    ("uri", "parsed"),
    [
        ("ws://localhost", WebSocketURI(False, "localhost", 80, "", "")),
        ("ws://localhost/", WebSocketURI(False, "localhost", 80, "/", "")),
        ("wss://localhost/", WebSocketURI(True, "localhost", 443, "/", "")),
        ("WSS://LOCALHOST/Path", WebSocketURI(True, "localhost", 443, "/Path", "")),
        (
            "ws://localhost:8765/path?query",
            WebSocketURI(False, "localhost", 8765, "/path", "query"),
        ),
        ("ws://h?x=1", WebSocketURI(False, "h", 80, "", "x=1")),
        ("ws://h/?", WebSocketURI(False, "h", 80, "/", "")),
        ("ws://h:/", WebSocketURI(False, "h", 80, "/", "")),
        ("wss://h:80", WebSocketURI(True, "h", 80, "", "")),
        ("ws://h/a;p?q", WebSocketURI(False, "h", 80, "/a;p", "q")),
        ("ws://h//a//b", WebSocketURI(False, "h", 80, "//a//b", "")),
        ("ws://h/%zz", WebSocketURI(False, "h", 80, "/%zz", "")),
        ("ws://h/?a=[b]|{c}", WebSocketURI(False, "h", 80, "/", "a=[b]|{c}")),
        ("ws://[::1]:80/x", WebSocketURI(False, "::1", 80, "/x", "")),
        ("ws://1.2.3.4:9/", WebSocketURI(False, "1.2.3.4", 9, "/", "")),
        ("ws://u:p@h/", WebSocketURI(False, "h", 80, "/", "", "u", "p")),
        ("ws://u:@h/", WebSocketURI(False, "h", 80, "/", "", "u", "")),
        ("ws://:p@h/", WebSocketURI(False, "h", 80, "/", "", "", "p")),
        ("ws://u:p:q@h/", WebSocketURI(False, "h", 80, "/", "", "u", "p:q")),
        ("ws://u%C3%A9:p%20@h/", WebSocketURI(False, "h", 80, "/", "", "u\xe9", "p ")),
        # RFC 3987 section 3.1: an IRI is mapped, what is encoded in it stays as it is.
        (
            "ws://\xe9.com/\xe9?\xe9=1",
            WebSocketURI(False, "xn--9ca.com", 80, "/%C3%A9", "%C3%A9=1"),
        ),
        (
            "ws://u:\xe9@\xe9.com/\xe9/%C3%A9",
            WebSocketURI(False, "xn--9ca.com", 80, "/%C3%A9/%C3%A9", "", "u", "\xe9"),
        ),
        # As urlsplit() does.
        ("ws://h/a\r\nb\n", WebSocketURI(False, "h", 80, "/ab", "")),
    ],
)
def test_valid(uri: str, parsed: WebSocketURI) -> None:
    assert parse_uri(uri) == parsed


@pytest.mark.parametrize(
    ("uri", "msg"),
    [
        ("", "scheme isn't ws or wss"),
        ("http://h/", "scheme isn't ws or wss"),
        ("http://h/#f", "scheme isn't ws or wss"),
        ("ws+unix://h", "scheme isn't ws or wss"),
        ("ws://", "hostname isn't provided"),
        ("ws:///", "hostname isn't provided"),
        ("ws:h", "hostname isn't provided"),
        ("ws://u@:80/", "hostname isn't provided"),
        # RFC 6455 section 3.
        ("ws://h/#f", "fragment identifier is meaningless"),
        ("ws://h/#", "fragment identifier is meaningless"),
        ("ws://u@h/#f", "fragment identifier is meaningless"),
        ("ws://u@h/", "username provided without password"),
        ("ws://@h/", "username provided without password"),
        ("ws://a%3Ab:c@h/", "username contains a colon"),
        ("ws://h:0/", "port 0 can't be connected to"),
        ("ws://h:65536/", "Port out of range 0-65535"),
        ("ws://h:abc/", "Port could not be cast to integer value as 'abc'"),
        ("ws://[::1", "Invalid IPv6 URL"),
        # These would split the request line or the Host header.
        ("ws://h/a b", "space and control characters must be percent-encoded"),
        ("ws://h/?a b", "space and control characters must be percent-encoded"),
        ("ws://h/\x7f", "space and control characters must be percent-encoded"),
        ("ws://h/\0", "space and control characters must be percent-encoded"),
        ("ws://\ud800/", "surrogates can't be encoded"),
        ("ws://h/\udcc3", "surrogates can't be encoded"),
        ("ws://u:\udcc3@h/", "surrogates can't be encoded"),
        # RFC 3986 section 3.2.2.
        ("ws://a<b/", "hostname isn't valid: a<b"),
        ('ws://a"b/', "hostname isn't valid: a\"b"),
        ("ws://a\\b/", "hostname isn't valid: a\\b"),
        ("ws://%zz/", "hostname isn't valid: %zz"),
        ("ws://a\uff1e/", "hostname isn't valid: a>"),
        # To browsers, this is ws://h/:p@evil/.
        ("ws://h\\:p@evil/", "hostname isn't valid: evil"),
        ("ws://a b/", "space and control characters must be percent-encoded"),
    ],
)
def test_invalid(uri: str, msg: str) -> None:
    with pytest.raises(InvalidURI) as raised:
        parse_uri(uri)
    assert raised.value.uri == uri
    assert raised.value.msg == msg


def test_invalid_internationalized_name() -> None:
    with pytest.raises(InvalidURI) as raised:
        parse_uri("ws://\xe9..com/")
    assert raised.value.msg.startswith("hostname isn't valid: ")


@pytest.mark.parametrize(
    ("uri", "resource_name"),
    [
        ("ws://h", "/"),
        ("ws://h/", "/"),
        ("ws://h/path", "/path"),
        ("ws://h/path?query", "/path?query"),
        ("ws://h?query", "/?query"),
        ("ws://h/?", "/"),
    ],
)
def test_resource_name(uri: str, resource_name: str) -> None:
    """RFC 6455 section 3: an empty path is "/"."""
    assert parse_uri(uri).resource_name == resource_name


@pytest.mark.parametrize(
    ("uri", "user_info"),
    [("ws://h", None), ("ws://u:p@h", ("u", "p")), ("ws://:@h", ("", ""))],
)
def test_user_info(uri: str, user_info: tuple[str, str] | None) -> None:
    assert parse_uri(uri).user_info == user_info
