"""Basic authentication (RFC 7617) of those who connect to a server, for every runtime."""

from __future__ import annotations

import hmac
import http
import os
import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol

from .datastructures import Headers
from .exceptions import InvalidHeader
from .headers import build_www_authenticate_basic, get_single, parse_authorization_basic
from .http11 import Response
from .typing import StatusLike

__all__ = ["BasicAuth", "CredentialsRefused"]

Credentials = tuple[str, str] | Iterable[tuple[str, str]]
CheckCredentials = Callable[[str, str], Awaitable[bool] | bool]

_has_surrogates = re.compile("[\ud800-\udfff]").search


class CredentialsRefused(Exception):
    """Nobody is let in with what the request has; the text says why, to the client."""


class _Connection(Protocol):
    def respond(self, status: StatusLike, text: str) -> Response: ...


class BasicAuth:
    """What a server lets in, and how it tells others.

    Args:
        realm: name of the protection space.
        credentials: a user name and a password, or several such pairs.
        check_credentials: called with a user name and a password, tells whether they are good; it
            may be a coroutine function.

    Raises:
        TypeError: if the credentials are neither of both.
        ValueError: if there are credentials and a function, or neither; or the realm has characters
            that a header cannot have.
    """

    def __init__(
        self,
        realm: str = "",
        credentials: Credentials | None = None,
        check_credentials: CheckCredentials | None = None,
    ) -> None:
        self.challenge = build_www_authenticate_basic(realm)
        #: Called with user name and password.
        self.check: CheckCredentials
        if credentials is not None and check_credentials is None:
            self.check = _Known(_list_pairs(credentials)).check
        elif check_credentials is not None and credentials is None:
            self.check = check_credentials
        else:
            raise ValueError("provide either credentials or check_credentials")

    def read(self, headers: Headers) -> tuple[str, str]:
        """Return user name and password of a request, yet to be checked.

        Raises:
            CredentialsRefused: if there are none, or not of the Basic scheme, or not UTF-8.
        """
        if "Authorization" not in headers:
            raise CredentialsRefused("Missing credentials\n")
        try:
            pair = parse_authorization_basic(get_single(headers, "Authorization"))
        except InvalidHeader:
            raise CredentialsRefused("Unsupported credentials\n") from None
        # RFC 7617 section 2.1: the challenge asks for UTF-8. Other octets come as lone surrogates,
        # at which every hash function that the application calls would fail.
        for text in pair:
            self.require(not _has_surrogates(text))
        return pair

    def require(self, valid: object) -> None:
        """Judge the result of the check.

        Raises:
            CredentialsRefused: if it is false.
        """
        if not valid:
            raise CredentialsRefused("Invalid credentials\n")

    def refuse(self, connection: _Connection, exc: CredentialsRefused) -> Response:
        """Return the response that asks for credentials (RFC 9110 section 11.6.1)."""
        response = connection.respond(http.HTTPStatus.UNAUTHORIZED, str(exc))
        response.headers["WWW-Authenticate"] = self.challenge
        return response


class _Known:
    """Pairs of user name and password, compared in a time that tells nothing about them.

    Each is known by a digest, under a key that is made here and goes nowhere. What a comparison
    finds out about a digest says nothing about its pair; a name that nobody has and a password that
    is wrong take the same way.
    """

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._key = os.urandom(32)
        # Of a name that comes twice, the last password counts.
        self._digests = frozenset(self._digest(*pair) for pair in dict(pairs).items())

    def _digest(self, username: str, password: str) -> bytes:
        # The length keeps apart two pairs that would be the same when joined.
        pair = f"{len(username)}:{username}{password}"
        return hmac.digest(self._key, pair.encode(), "sha256")

    def check(self, username: str, password: str) -> bool:
        return self._digest(username, password) in self._digests


def _list_pairs(credentials: Any) -> list[tuple[str, str]]:
    """Return what is a pair, or several, as a list of them."""
    if _is_pair(credentials):
        return [credentials]
    if isinstance(credentials, Iterable) and not isinstance(credentials, (str, bytes)):
        pairs = list(credentials)
        if all(map(_is_pair, pairs)):
            return pairs
    raise TypeError(f"invalid credentials argument: {credentials}")


def _is_pair(value: object) -> bool:
    return (
        isinstance(value, (tuple, list))
        and len(value) == 2
        and all(isinstance(item, str) for item in value)
    )
