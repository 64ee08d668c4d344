"""Exceptions of the original API."""

from __future__ import annotations

import http

from ..datastructures import Headers
from ..exceptions import InvalidHandshake
from ..typing import StatusLike

__all__ = ["AbortHandshake", "InvalidStatusCode", "RedirectHandshake"]


class InvalidStatusCode(InvalidHandshake):
    """The server's response to the handshake request has another status than 101.

    Args:
        status_code: status of the response.
        headers: its headers.
    """

    def __init__(self, status_code: int, headers: Headers) -> None:
        super().__init__(status_code, headers)
        self.status_code = status_code
        self.headers = headers

    def __str__(self) -> str:
        return f"server rejected WebSocket connection: HTTP {self.status_code}"


class AbortHandshake(InvalidHandshake):
    """Raise it while a server handles the handshake request, to send an HTTP response instead.

    Args:
        status: status of the response.
        headers: its headers.
        body: its body.
    """

    def __init__(self, status: StatusLike, headers: Headers, body: bytes = b"") -> None:
        super().__init__(status, headers, body)
        # What is no registered status has no reason phrase either.
        self.status = http.HTTPStatus(status)
        self.headers = headers
        self.body = body

    def __str__(self) -> str:
        return f"HTTP {self.status:d}, {len(self.headers)} headers, {len(self.body)} bytes"


class RedirectHandshake(InvalidHandshake):
    """The server redirects the client to another URI.

    Args:
        uri: where to.
    """

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self.uri = uri

    def __str__(self) -> str:
        return f"redirect to {self.uri}"
