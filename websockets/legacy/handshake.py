"""The opening handshake's headers, for programs that handle the handshake themselves."""

from __future__ import annotations

from ..client import check_accept
from ..datastructures import Headers
from ..headers import check_upgrade
from ..server import check_key
from ..utils import accept_key, generate_key

__all__ = ["build_request", "build_response", "check_request", "check_response"]


def build_request(headers: Headers) -> str:
    """Add the headers that ask for a WebSocket connection (RFC 6455 section 4.1).

    Args:
        headers: headers of the request, which are changed.

    Returns:
        The key, for :func:`check_response`.
    """
    key = generate_key()
    headers["Upgrade"] = "websocket"
    headers["Connection"] = "Upgrade"
    headers["Sec-WebSocket-Key"] = key
    headers["Sec-WebSocket-Version"] = "13"
    return key


def check_request(headers: Headers) -> str:
    """Check the headers of a handshake request (RFC 6455 section 4.2.1).

    Args:
        headers: headers of the request.

    Returns:
        The key, for :func:`build_response`.

    Raises:
        InvalidHandshake: if they do not ask for a WebSocket connection; the server must answer
            with status 400, or 426 if it is :exc:`~websockets.exceptions.InvalidUpgrade`.
    """
    check_upgrade(headers, requested=True)
    return check_key(headers)


def build_response(headers: Headers, key: str) -> None:
    """Add the headers that open a WebSocket connection (RFC 6455 section 4.2.2).

    Args:
        headers: headers of the response, which are changed.
        key: what :func:`check_request` returned.
    """
    headers["Upgrade"] = "websocket"
    headers["Connection"] = "Upgrade"
    headers["Sec-WebSocket-Accept"] = accept_key(key)


def check_response(headers: Headers, key: str) -> None:
    """Check the headers of a handshake response (RFC 6455 section 4.1).

    Args:
        headers: headers of the response.
        key: what :func:`build_request` returned.

    Raises:
        InvalidHandshake: if they do not open a WebSocket connection.
    """
    check_upgrade(headers)
    check_accept(headers, key)
