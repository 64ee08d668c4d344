"""HTTP Basic authentication (RFC 7617) for servers of the original API."""

from __future__ import annotations

import functools
import http
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from ..credentials import BasicAuth, CredentialsRefused
from ..datastructures import Headers
from .server import HTTPResponse, WebSocketServerProtocol

__all__ = ["BasicAuthWebSocketServerProtocol", "basic_auth_protocol_factory"]

Credentials = tuple[str, str]


class BasicAuthWebSocketServerProtocol(WebSocketServerProtocol):
    """The server's side of a connection, which clients authenticate for.

    The other arguments are those of
    :class:`~websockets.legacy.server.WebSocketServerProtocol`.

    Args:
        realm: scope of the credentials; in ASCII.
        check_credentials: coroutine function of user name and password that tells whether they are
            right; it replaces :meth:`check_credentials`.
    """

    realm: str = ""
    #: Name of the user, once authenticated.
    username: str | None = None

    def __init__(
        self,
        *args: Any,
        realm: str | None = None,
        check_credentials: Callable[[str, str], Awaitable[bool]] | None = None,
        **kwargs: Any,
    ) -> None:
        if realm is not None:
            self.realm = realm
        self._check_credentials = check_credentials
        super().__init__(*args, **kwargs)

    async def check_credentials(self, username: str, password: str) -> bool:
        """Return whether credentials are right; override it, or give one to the constructor.

        Args:
            username, password: what the client sent.
        """
        if self._check_credentials is None:
            return False
        return await self._check_credentials(username, password)

    async def process_request(self, path: str, request_headers: Headers) -> HTTPResponse | None:
        """Check the credentials, and refuse the connection with status 401 if they are not right.

        Args:
            path, request_headers: the request; subclasses call it for those that need credentials.
        """
        auth = BasicAuth(self.realm, check_credentials=self.check_credentials)
        try:
            username, password = auth.read(request_headers)
            auth.require(await self.check_credentials(username, password))
        except CredentialsRefused as exc:
            challenge = [("WWW-Authenticate", auth.challenge)]
            return http.HTTPStatus.UNAUTHORIZED, challenge, str(exc).encode()
        self.username = username
        return await super().process_request(path, request_headers)


def basic_auth_protocol_factory(
    realm: str | None = None,
    credentials: Credentials | Iterable[Credentials] | None = None,
    check_credentials: Callable[[str, str], Awaitable[bool]] | None = None,
    create_protocol: Callable[..., BasicAuthWebSocketServerProtocol] | None = None,
) -> Callable[..., BasicAuthWebSocketServerProtocol]:
    """Return what makes connections that authenticate, for the ``create_protocol`` of servers.

    Args:
        realm: scope of the credentials; in ASCII.
        credentials: a tuple of user name and password, or several of them.
        check_credentials: coroutine function of user name and password that tells whether they are
            right.
        create_protocol: makes a connection; :class:`BasicAuthWebSocketServerProtocol` unless given.

    Returns:
        A function for ``create_protocol``.

    Raises:
        TypeError: if not one of ``credentials`` and ``check_credentials`` is given, or
            ``credentials`` are something else.
    """
    if (credentials is None) == (check_credentials is None):
        raise TypeError("provide either credentials or check_credentials")
    if credentials is not None:
        check = BasicAuth(credentials=credentials).check

        async def check_credentials(username: str, password: str) -> bool:
            return bool(check(username, password))

    return functools.partial(
        create_protocol or BasicAuthWebSocketServerProtocol,
        realm=realm,
        check_credentials=check_credentials,
    )
