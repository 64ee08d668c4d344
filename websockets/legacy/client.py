"""Clients of the original API."""

from __future__ import annotations

import urllib.parse
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

from ..asyncio.client import ClientConnection
from ..asyncio.client import connect as modern_connect
from ..asyncio.server import SILENT
from ..client import (
    BACKOFF_FACTOR,
    BACKOFF_INITIAL_DELAY,
    BACKOFF_MAX_DELAY,
    BACKOFF_MIN_DELAY,
    ClientProtocol,
    backoff,
)
from ..datastructures import Headers, HeadersLike
from ..exceptions import InvalidStatus
from ..extensions.base import ClientExtensionFactory
from ..extensions.permessage_deflate import apply_compression, enable_client_permessage_deflate
from ..headers import get_single
from ..http11 import USER_AGENT
from ..redirect import MAX_REDIRECTS
from ..typing import LoggerLike, Origin, Subprotocol
from ..uri import WebSocketURI, parse_uri
from .exceptions import InvalidStatusCode, RedirectHandshake
from .protocol import WebSocketCommonProtocol, rename_timeout, warn_of_loop
from .server import rename_klass

__all__ = ["WebSocketClientProtocol", "connect", "unix_connect"]

# What connections are created with before it is known where they go.
NOWHERE = WebSocketURI(False, "localhost", 80, "/", "")


class WebSocketClientProtocol(WebSocketCommonProtocol, ClientConnection):
    """A client's connection; :func:`connect` returns it.

    The other arguments are those of
    :class:`~websockets.legacy.protocol.WebSocketCommonProtocol`.

    Args:
        logger: logger for this connection; ``websockets.client`` unless given.
        origin: value of the ``Origin`` header.
        extensions: extensions to negotiate, in order of preference.
        subprotocols: subprotocols to negotiate, in order of preference.
        extra_headers: headers to add to the request.
        user_agent_header: value of the ``User-Agent`` header; None for none.
    """

    is_client: ClassVar[bool] = True
    side: ClassVar[str] = "client"

    def __init__(
        self,
        *,
        logger: LoggerLike | None = None,
        origin: Origin | None = None,
        extensions: Sequence[ClientExtensionFactory] | None = None,
        subprotocols: Sequence[Subprotocol] | None = None,
        extra_headers: HeadersLike | None = None,
        user_agent_header: str | None = USER_AGENT,
        **kwargs: Any,
    ) -> None:
        super().__init__(logger=logger, **kwargs)
        self.origin = origin
        self.available_extensions = extensions
        self.available_subprotocols = subprotocols
        self.extra_headers = extra_headers
        self.user_agent_header = user_agent_header

    def _ws_create_protocol(
        self, max_size: int | None, logger: LoggerLike | None
    ) -> ClientProtocol:
        return ClientProtocol(NOWHERE, max_size=max_size, logger=logger)

    async def handshake(  # type: ignore[override]
        self,
        wsuri: WebSocketURI,
        origin: Origin | None = None,
        available_extensions: Sequence[ClientExtensionFactory] | None = None,
        available_subprotocols: Sequence[Subprotocol] | None = None,
        extra_headers: HeadersLike | None = None,
    ) -> None:
        """Do the opening handshake (RFC 6455 section 4.1).

        Args:
            wsuri: URI of the server.
            origin, extra_headers: headers to send.
            available_extensions, available_subprotocols: what to negotiate.

        Raises:
            InvalidHandshake: if the server's response does not open the connection;
                :exc:`~websockets.legacy.exceptions.InvalidStatusCode` for another status than 101,
                :exc:`~websockets.legacy.exceptions.RedirectHandshake` for a redirect.
        """
        protocol = self.protocol
        protocol.uri, protocol.origin = wsuri, origin
        protocol.available_extensions = available_extensions
        protocol.available_subprotocols = available_subprotocols
        self.path = wsuri.resource_name
        try:
            await super().handshake(extra_headers, self.user_agent_header)
        except InvalidStatus as exc:
            status, headers = exc.response.status_code, exc.response.headers
            if status not in (301, 302, 303, 307, 308):
                raise InvalidStatusCode(status, headers) from exc
            raise RedirectHandshake(get_single(headers, "Location")) from exc
        finally:
            if self.request is not None:
                self.request_headers = self.request.headers
            if self.response is not None:
                self.response_headers = self.response.headers

    @staticmethod
    def process_extensions(
        headers: Headers, available_extensions: Sequence[ClientExtensionFactory] | None
    ) -> list[Any]:
        """Return the extensions in use: those of the response that were offered (RFC 6455 9.1).

        Args:
            headers, available_extensions: headers of the response, and what was offered.

        Raises:
            NegotiationError: if one was not offered, or its parameters are not acceptable.
        """
        protocol = ClientProtocol(NOWHERE, extensions=available_extensions, logger=SILENT)
        return protocol.process_extensions(headers)

    @staticmethod
    def process_subprotocol(
        headers: Headers, available_subprotocols: Sequence[Subprotocol] | None
    ) -> Subprotocol | None:
        """Return the subprotocol that the server selected, None if there is none (RFC 6455 1.9).

        Args:
            headers, available_subprotocols: headers of the response, and what was offered.

        Raises:
            NegotiationError: if it was not offered.
        """
        protocol = ClientProtocol(NOWHERE, subprotocols=available_subprotocols, logger=SILENT)
        return protocol.process_subprotocol(headers)


class Connect(modern_connect):
    """Connect to a WebSocket server.

    Await it to get a :class:`WebSocketClientProtocol`; use it as an asynchronous context manager,
    which closes the connection at its end; or iterate over it asynchronously, to have another
    connection when one is lost::

        async for websocket in connect("wss://example.com/"):
            try:
                ...
            except websockets.ConnectionClosed:
                continue

    The other arguments are those of :class:`WebSocketClientProtocol`.

    Args:
        uri: URI of the server.
        create_protocol: makes a connection; :class:`WebSocketClientProtocol` unless given.
        compression: ``"deflate"`` to offer permessage-deflate (RFC 7692); None not to.
        open_timeout: seconds that connecting may take; None for any.
        **kwargs: arguments of the event loop's ``create_connection()``; ``host`` and ``port`` to
            connect elsewhere than the URI says.

    Raises:
        InvalidURI: if the URI is not valid.
        OSError: if the TCP connection fails.
        InvalidHandshake: if the opening handshake fails.
        TimeoutError: if it takes too long.
    """

    # Attempts to connect, redirects being followed; and seconds between those of an iteration.
    MAX_REDIRECTS_ALLOWED = MAX_REDIRECTS
    BACKOFF_INITIAL = BACKOFF_INITIAL_DELAY
    BACKOFF_MIN = BACKOFF_MIN_DELAY
    BACKOFF_MAX = BACKOFF_MAX_DELAY
    BACKOFF_FACTOR = BACKOFF_FACTOR

    def __init__(
        self,
        uri: str,
        *,
        create_protocol: Callable[..., WebSocketClientProtocol] | None = None,
        logger: LoggerLike | None = None,
        compression: str | None = "deflate",
        origin: Origin | None = None,
        extensions: Sequence[ClientExtensionFactory] | None = None,
        subprotocols: Sequence[Subprotocol] | None = None,
        extra_headers: HeadersLike | None = None,
        user_agent_header: str | None = USER_AGENT,
        open_timeout: float | None = 10,
        ping_interval: float | None = 20,
        ping_timeout: float | None = 20,
        close_timeout: float | None = None,
        max_size: int | None = 2**20,
        max_queue: int | None = 2**5,
        read_limit: int = 2**16,
        write_limit: int = 2**16,
        **kwargs: Any,
    ) -> None:
        close_timeout = rename_timeout(close_timeout, kwargs.pop("timeout", None))
        create_protocol = rename_klass(create_protocol, kwargs.pop("klass", None))
        warn_of_loop(kwargs.pop("loop", None))
        legacy_recv = kwargs.pop("legacy_recv", False)
        extensions = apply_compression(compression, extensions, enable_client_permessage_deflate)
        kind = type(self)  # not the instance: it would refer to itself, and keep its connection
        super().__init__(
            uri,
            subprotocols=subprotocols,
            compression=None,
            additional_headers=extra_headers,
            proxy=None,
            # Whatever goes wrong, iteration tries again.
            process_exception=lambda exc: None,
            open_timeout=open_timeout,
            reconnect_delays=lambda: backoff(
                kind.BACKOFF_INITIAL, kind.BACKOFF_MIN, kind.BACKOFF_MAX, kind.BACKOFF_FACTOR
            ),
            logger=logger,
            **kwargs,
        )
        create_protocol = create_protocol or WebSocketClientProtocol
        logger = self.logger

        def factory(ws_uri: WebSocketURI) -> Any:
            return create_protocol(
                logger=logger,
                origin=origin,
                extensions=extensions,
                subprotocols=subprotocols,
                extra_headers=extra_headers,
                user_agent_header=user_agent_header,
                ping_interval=ping_interval,
                ping_timeout=ping_timeout,
                close_timeout=close_timeout,
                max_size=max_size,
                max_queue=max_queue,
                read_limit=read_limit,
                write_limit=write_limit,
                host=ws_uri.host,
                port=ws_uri.port,
                secure=ws_uri.secure,
                legacy_recv=legacy_recv,
            )

        self.factory = factory
        #: Connection of the context manager, or of the iteration; the last one.
        self.protocol: WebSocketClientProtocol

    async def __await_impl__(self) -> WebSocketClientProtocol:
        # For subclasses that define __await__, such as websockets_proxy's.
        return cast(WebSocketClientProtocol, await self.connect())

    def _max_attempts(self) -> int:
        return self.MAX_REDIRECTS_ALLOWED

    async def _handshake(
        self, connection: WebSocketClientProtocol, headers: HeadersLike | None
    ) -> None:
        await connection.handshake(
            self.ws_uri,
            origin=connection.origin,
            available_extensions=connection.available_extensions,
            available_subprotocols=connection.available_subprotocols,
            extra_headers=headers,
        )

    async def __aenter__(self) -> WebSocketClientProtocol:
        self.protocol = await self
        return self.protocol

    async def __aexit__(self, exc_type: Any, exc_value: Any, traceback: Any) -> None:
        # With code 1000, whether something was raised or not.
        await self.protocol.close()

    def process_redirect(self, exc: Exception) -> Exception | str:
        if not isinstance(exc, RedirectHandshake):
            return exc
        assert isinstance(exc.__cause__, InvalidStatus)
        return super().process_redirect(exc.__cause__)

    def handle_redirect(self, uri: str) -> None:
        """Have the next attempt go to another URI.

        Args:
            uri: where to; it may be relative to the URI before.
        """
        self.uri = urllib.parse.urljoin(self.uri, uri)
        self.ws_uri = parse_uri(self.uri)

    if TYPE_CHECKING:

        def __await__(self) -> Generator[Any, None, WebSocketClientProtocol]: ...
        def __aiter__(self) -> AsyncIterator[WebSocketClientProtocol]: ...


connect = Connect


def unix_connect(path: str | None = None, uri: str = "ws://localhost/", **kwargs: Any) -> connect:
    """Return a :class:`Connect` to a WebSocket server on a Unix socket.

    Args:
        path: path of the socket.
        uri: URI for the handshake request.
        **kwargs: arguments of :class:`Connect`.
    """
    return connect(uri=uri, path=path, unix=True, **kwargs)
