"""Redirects of the opening handshake: where they lead, and what does not go along."""

from __future__ import annotations

from .datastructures import Headers, HeadersLike
from .environment import read_integer
from .exceptions import InvalidStatus, InvalidURI, explain_url
from .headers import get_single
from .uri import WebSocketURI

__all__ = ["MAX_REDIRECTS", "is_same_origin", "redirect_target", "without_credentials"]

#: Most attempts at one handshake, the first included.
MAX_REDIRECTS = read_integer("WEBSOCKETS_MAX_REDIRECTS", 10)

# RFC 9110 section 15.4. Neither 304 nor 305 is one.
_STATUSES = frozenset({300, 301, 302, 303, 307, 308})

# They are meant for the origin that they were given for, and Host names that.
_FOR_ORIGIN = ("Authorization", "Cookie", "Proxy-Authorization", "Host")


def redirect_target(uri: str, exc: Exception) -> str | None:
    """
    Tell where the failure of a handshake leads (RFC 9110 section 10.2.2).

    Args:
        uri: URI that was connected to.
        exc: why that failed.

    Returns:
        The URI to connect to instead, which is not checked; :obj:`None` if it is no redirect.

    Raises:
        InvalidHeader: if there are several.
        InvalidURI: if it cannot be resolved.
    """
    if not isinstance(exc, InvalidStatus) or exc.response.status_code not in _STATUSES:
        return None
    headers = exc.response.headers
    if "Location" not in headers:
        return None
    import urllib.parse

    location = get_single(headers, "Location")
    try:
        return urllib.parse.urljoin(uri, location)
    except ValueError as error:
        msg, cause = explain_url(location, error)
        raise InvalidURI(location, msg) from cause


def is_same_origin(one: WebSocketURI, other: WebSocketURI) -> bool:
    """Tell whether two URIs have the same origin (RFC 6454 section 5)."""
    return (one.secure, one.host, one.port) == (other.secure, other.host, other.port)


def without_credentials(headers: HeadersLike) -> Headers:
    """Return headers without those that must not reach another origin."""
    headers = Headers(headers)
    for name in _FOR_ORIGIN:
        if name in headers:
            del headers[name]
    return headers
