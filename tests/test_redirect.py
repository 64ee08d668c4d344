"""Where redirects lead, and what does not go along."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from websockets.datastructures import Headers
from websockets.exceptions import InvalidHeader, InvalidMessage, InvalidStatus, InvalidURI
from websockets.http11 import Response
from websockets.redirect import is_same_origin, redirect_target, without_credentials
from websockets.uri import parse_uri


def refusal(*locations: str, status: int = 302) -> InvalidStatus:
    headers = Headers([("Location", location) for location in locations])
    return InvalidStatus(Response(status, "Found", headers))


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
def test_target(status: int) -> None:
    assert redirect_target("ws://a/b/c?d", refusal("e", status=status)) == "ws://a/b/e"


@pytest.mark.parametrize("status", [101, 200, 201, 304, 305, 306, 309, 400, 401, 426, 503])
def test_no_redirect(status: int) -> None:
    assert redirect_target("ws://a/", refusal("/b", status=status)) is None


def test_no_target() -> None:
    assert redirect_target("ws://a/", refusal()) is None
    assert redirect_target("ws://a/", InvalidMessage("bad")) is None
    assert redirect_target("ws://a/", OSError()) is None


def test_several_targets() -> None:
    with pytest.raises(InvalidHeader, match="^invalid Location header: multiple values$"):
        redirect_target("ws://a/", refusal("/b", "/c"))


@pytest.mark.parametrize("location", ["//[::1", "ws://[::1"])
def test_target_that_cannot_be_resolved(location: str) -> None:
    with pytest.raises(InvalidURI, match="Invalid IPv6 URL"):
        redirect_target("ws://a/", refusal(location))


@settings(max_examples=50)
@given(st.text(st.characters(max_codepoint=255)) | st.from_regex(r"(wss?:)?//.*", fullmatch=True))
def test_any_location(location: str) -> None:
    """It is a URI that can be connected to, or a clear error."""
    try:
        target = redirect_target("wss://user:pass@example.com/path", refusal(location))
        assert target is not None
        parse_uri(target)
    except (InvalidURI, InvalidHeader):
        pass


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/c", "ws://u:p@a:1/c"),
        ("//b/c", "ws://b/c"),
        ("wss://a:1/c", "wss://a:1/c"),
        ("ws://v:q@a:1/", "ws://v:q@a:1/"),
        ("http://a/", "http://a/"),
    ],
)
def test_credentials_in_uris(location: str, target: str) -> None:
    """RFC 3986 section 5.2: user information is a part of the authority."""
    assert redirect_target("ws://u:p@a:1/b", refusal(location)) == target


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("ws://a/", "ws://a/b?c", True),
        ("ws://a/", "ws://A:80/", True),
        ("wss://a/", "wss://a:443/", True),
        ("ws://a/", "ws://u:p@a/", True),
        ("ws://a/", "ws://a:81/", False),
        ("ws://a/", "ws://b/", False),
        ("ws://a/", "ws://a.b/", False),
        ("ws://a/", "wss://a/", False),
        # The port is the same, and a stranger may listen in.
        ("wss://a:8080/", "ws://a:8080/", False),
        ("ws://127.0.0.1/", "ws://localhost/", False),
    ],
)
def test_origin(one: str, other: str, same: bool) -> None:
    """RFC 6454 section 5."""
    assert is_same_origin(parse_uri(one), parse_uri(other)) is same
    assert is_same_origin(parse_uri(other), parse_uri(one)) is same


def test_without_credentials() -> None:
    headers = Headers(
        [
            ("authorization", "a"),
            ("COOKIE", "b"),
            ("X-A", "1"),
            ("Cookie", "c"),
            ("Proxy-Authorization", "d"),
            ("Host", "e"),
            ("X-A", "2"),
        ]
    )
    assert list(without_credentials(headers).raw_items()) == [("X-A", "1"), ("X-A", "2")]
    assert len(headers.get_all("Cookie")) == 2, "they are copied"
    assert list(without_credentials({"X-A": "1"}).raw_items()) == [("X-A", "1")]
