"""WebSocket URIs (RFC 6455 section 3)."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from .exceptions import InvalidURI, WebSocketException, explain_url

if TYPE_CHECKING:
    import urllib.parse

__all__ = ["parse_uri", "WebSocketURI"]


@dataclasses.dataclass
class WebSocketURI:
    """
    A WebSocket URI, taken apart.

    Attributes:
        secure: whether the scheme is ``wss``.
        host: name or IP address, in ASCII; an IPv6 address has no brackets.
        port: port, the default of the scheme (80, 443) if the URI has none.
        path: path; it may be empty.
        query: query without its question mark; empty if there is none.
        username: user name if the URI has user information, else :obj:`None`.
        password: password if the URI has user information, else :obj:`None`.
    """

    secure: bool
    host: str
    port: int
    path: str
    query: str
    username: str | None = None
    password: str | None = None

    @property
    def resource_name(self) -> str:
        """What the request line asks for: path, never empty, and query (RFC 6455 section 3)."""
        path = self.path or "/"
        return f"{path}?{self.query}" if self.query else path

    @property
    def user_info(self) -> tuple[str, str] | None:
        """User name and password; :obj:`None` if the URI has none."""
        if self.username is None or self.password is None:
            return None
        return self.username, self.password


#: Pattern of a host (RFC 3986 section 3.2.2), which may be empty. Colons are in brackets only, and
#: so is a zone: it has a meaning for its sender alone, yet some send it (RFC 6874 section 4).
HOST = (
    r"(?:\[[0-9A-Fa-f:.]++(?:%[0-9A-Za-z.\-_~%]++)?\]"
    r"|\[[vV][0-9A-Fa-f]++\.[0-9A-Za-z.\-_~!$&'()*+,;=:]++\]"
    r"|(?:[0-9A-Za-z.\-_~!$&'()*+,;=]++|%[0-9A-Fa-f]{2})*+)"
)

_is_host = re.compile(HOST).fullmatch

# RFC 3986 section 2: neither can be in a URI; they would split the request line or the Host header.
_is_forbidden = re.compile(r"[\x00-\x20\x7f]").search

# RFC 3987 section 2.2: not in an IRI either, as UTF-8 cannot encode them.
_has_surrogates = re.compile("[\ud800-\udfff]").search


def is_domain_name(host: str) -> bool:
    """Tell whether the labels of a host have lengths for the DNS (RFC 1035 section 2.3.4)."""
    return all(0 < len(label) < 64 for label in host.removesuffix(".").split("."))


def _encode(text: str) -> str:
    """Map a component of an IRI to a URI: encode only what is not ASCII (RFC 3987 section 3.1)."""
    if text.isascii():
        return text
    import urllib.parse

    return urllib.parse.quote(text, safe="".join(map(chr, range(128))))


def split_url(
    url: str, invalid: Callable[[str, str], WebSocketException]
) -> tuple[urllib.parse.SplitResult, int | None]:
    """
    Split a URL (RFC 3986 section 3), of whatever scheme.

    Args:
        url: the URL.
        invalid: makes an exception of it and of what is wrong with it.

    Returns:
        Its parts, and its port; None if it has none.
    """
    # Servers never split one, and it takes long to import.
    import urllib.parse

    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port
    except ValueError as exc:
        msg, cause = explain_url(url, exc)
        raise invalid(url, msg) from cause
    return parts, port


def read_authority(
    parts: urllib.parse.SplitResult,
    port: int | None,
    invalid: Callable[[str], WebSocketException],
) -> tuple[str, str | None, str | None]:
    """
    Check the authority of a URL (RFC 3986 section 3.2).

    Args:
        parts: the URL, split; it has a host.
        port: its port.
        invalid: makes an exception of what is wrong with it.

    Returns:
        Host, mapped to ASCII; user name and password, None if there are none.
    """
    import urllib.parse

    if port == 0:
        raise invalid("port 0 can't be connected to")
    username, password = parts.username, parts.password
    if username is not None:
        # RFC 7617 has no credentials without a password.
        if password is None:
            raise invalid("username provided without password")
        username = urllib.parse.unquote(username)
        password = urllib.parse.unquote(password)
    host = parts.hostname
    assert host
    if not host.isascii():
        try:
            host = host.encode("idna").decode()
        except UnicodeError as exc:
            raise invalid(f"hostname isn't valid: {exc}") from exc
    # A backslash is a slash to browsers: they would connect to what is before it.
    if not _is_host(f"[{host}]" if ":" in host else host) or "\\" in parts.netloc:
        raise invalid(f"hostname isn't valid: {host}")
    return host, username, password


def parse_uri(uri: str) -> WebSocketURI:
    """
    Parse a WebSocket URI.

    An internationalized identifier (RFC 3987) is mapped to a URI. Tabs and line ends in it are
    ignored, as :func:`urllib.parse.urlsplit` does.

    Args:
        uri: a ``ws`` or ``wss`` URI.

    Raises:
        InvalidURI: if it is not a valid one (RFC 6455 section 3).
    """
    parts, port = split_url(uri, InvalidURI)
    if parts.scheme not in ("ws", "wss"):
        raise InvalidURI(uri, "scheme isn't ws or wss")
    if not parts.hostname:
        raise InvalidURI(uri, "hostname isn't provided")
    # RFC 6455 section 3: fragment identifiers must not be used, and "#" must be escaped elsewhere.
    if "#" in uri:
        raise InvalidURI(uri, "fragment identifier is meaningless")
    if _has_surrogates(uri):
        raise InvalidURI(uri, "surrogates can't be encoded")
    if _is_forbidden(parts.hostname + parts.path + parts.query):
        raise InvalidURI(uri, "space and control characters must be percent-encoded")
    host, username, password = read_authority(parts, port, lambda msg: InvalidURI(uri, msg))
    # RFC 7617 section 2: the recipient splits at the first colon.
    if username is not None and ":" in username:
        raise InvalidURI(uri, "username contains a colon")
    secure = parts.scheme == "wss"
    return WebSocketURI(
        secure,
        host,
        port or (443 if secure else 80),
        _encode(parts.path),
        _encode(parts.query),
        username,
        password,
    )
