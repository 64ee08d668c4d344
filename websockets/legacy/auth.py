"""HTTP Basic authentication (RFC 7617) for servers of the original API."""

from __future__ import annotations

import functools
import hmac
import http
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, cast

from ..datastructures import Headers
from ..exceptions import InvalidHeader
from ..headers import build_www_authenticate_basic, parse_authorization_basic
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
        """Tell whether credentials are right; override it, or give one to the constructor.

        Args:
            username: name of the user.
            password: password.
        """
        if self._check_credentials is None:
            return False
        return await self._check_credentials(username, password)

    async def process_request(self, path: str, request_headers: Headers) -> HTTPResponse | None:
        """Check the credentials, and refuse the connection with status 401 if they are not right.

        Args:
            path: path and query of the request.
            request_headers: its headers.
        """
        try:
            authorization = request_headers["Authorization"]
        except KeyError:
            return self._demand("Missing credentials")
        try:
            username, password = parse_authorization_basic(authorization)
        except InvalidHeader:
            return self._demand("Unsupported credentials")
        if not await self.check_credentials(username, password):
            return self._demand("Invalid credentials")
        self.username = username
        return await super().process_request(path, request_headers)

    def _demand(self, reason: str) -> HTTPResponse:
        return (
            http.HTTPStatus.UNAUTHORIZED,
            [("WWW-Authenticate", build_www_authenticate_basic(self.realm))],
            f"{reason}\n".encode(),
        )


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

    Raises:
        TypeError: if not one of ``credentials`` and ``check_credentials`` is given, or
            ``credentials`` are something else.
    """
    if (credentials is None) == (check_credentials is None):
        raise TypeError("provide either credentials or check_credentials")
    if credentials is not None:
        users = to_users(credentials)

        async def check_credentials(username: str, password: str) -> bool:
            # As long for a user that does not exist, and for a password that is nearly right.
            expected = users.get(username, "")
            same = hmac.compare_digest(expected.encode(), password.encode())
            return same and username in users

    return functools.partial(
        create_protocol or BasicAuthWebSocketServerProtocol,
        realm=realm,
        check_credentials=check_credentials,
    )


def to_users(credentials: Credentials | Iterable[Credentials]) -> dict[str, str]:
    if is_credentials(credentials):
        return dict([cast(Credentials, credentials)])
    if isinstance(credentials, Iterable):
        several = list(credentials)
        if all(map(is_credentials, several)):
            return dict(cast("list[Credentials]", several))
    raise TypeError(f"invalid credentials argument: {credentials}")


def is_credentials(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(isinstance(v, str) for v in value)
