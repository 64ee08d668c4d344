"""Clients on asyncio."""

from __future__ import annotations

import asyncio
import logging
import ssl as ssl_module
from collections.abc import Callable, Generator, Iterator, Sequence
from types import TracebackType
from typing import Any, Literal, cast

from ..client import ClientProtocol, backoff
from ..datastructures import Headers, HeadersLike
from ..exceptions import InvalidMessage, InvalidStatus
from ..extensions.base import ClientExtensionFactory
from ..extensions.permessage_deflate import apply_compression, enable_client_permessage_deflate
from ..headers import validate_subprotocols
from ..http11 import USER_AGENT, Response
from ..protocol import CONNECTING, OPEN
from ..session import Timeout
from ..typing import LoggerLike, Origin, Subprotocol
from ..uri import WebSocketURI, parse_uri
from .connection import Connection

__all__ = ["ClientConnection", "connect", "unix_connect"]


class ClientConnection(Connection):
    """A client's connection; :func:`connect` returns it.

    The arguments are those of :class:`~websockets.asyncio.connection.Connection`.
    """

    __slots__ = ("_handshake_waiter",)

    def __init__(
        self,
        protocol: ClientProtocol,
        *,
        ping_interval: float | None = 20,
        ping_timeout: float | None = 20,
        close_timeout: float | None = 10,
        max_queue: int | None | tuple[int | None, int | None] = 16,
        write_limit: int | tuple[int, int | None] = 2**15,
    ) -> None:
        super().__init__(
            protocol,
            ping_interval=ping_interval,
            ping_timeout=ping_timeout,
            close_timeout=close_timeout,
            max_queue=max_queue,
            write_limit=write_limit,
        )
        self.protocol: ClientProtocol
        self._handshake_waiter: asyncio.Future[None] = self.loop.create_future()

    async def handshake(
        self,
        additional_headers: HeadersLike | None = None,
        user_agent_header: str | None = USER_AGENT,
    ) -> None:
        """Do the opening handshake (RFC 6455 section 4.1).

        Args:
            additional_headers: headers to add to the request; a ``Host`` header replaces ours.
            user_agent_header: value of the ``User-Agent`` header; None for none.

        Raises:
            InvalidHandshake: if the server's response does not open the connection.
            OSError: if the TCP connection is lost.
        """
        request = self.request = self.protocol.connect()
        if additional_headers is not None:
            additional = Headers(additional_headers)
            if "Host" in additional:
                # RFC 9112 section 3.2: one, and no more.
                del request.headers["Host"]
            request.headers.update(additional)
        if user_agent_header is not None and "User-Agent" not in request.headers:
            request.headers["User-Agent"] = user_agent_header
        self.protocol.send_request(request)
        self._transmit()
        await self._handshake_waiter
        if self.protocol.handshake_exc is not None:
            raise self.protocol.handshake_exc

    def process_handshake(self) -> None:
        protocol = self.protocol
        for event in protocol.events:
            self.response = cast(Response, event)
        protocol.events.clear()
        if protocol.state is CONNECTING and protocol.handshake_exc is None:
            return
        if not self._handshake_waiter.done():
            self._handshake_waiter.set_result(None)
        if protocol.state is OPEN:
            self._handshake_done()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.handshaking and not self._handshake_waiter.done():
            if exc is not None:
                self.protocol.handshake_exc = exc
            self._handshake_waiter.set_result(None)


def process_exception(exc: Exception) -> Exception | None:
    """Decide whether an error of an attempt to connect is worth another attempt.

    Args:
        exc: error of the attempt.

    Returns:
        None to try again, or an exception to raise.
    """
    if isinstance(exc, (OSError, TimeoutError)):
        return None
    if isinstance(exc, InvalidMessage) and isinstance(exc.__cause__, EOFError):
        return None
    if isinstance(exc, InvalidStatus) and exc.response.status_code in (500, 502, 503, 504):
        return None
    return exc


class connect:
    """Connect to a WebSocket server.

    Await it to get a connection, or use it as an asynchronous context manager, which closes the
    connection at its end::

        websocket = await connect("wss://example.com/")

        async with connect("wss://example.com/") as websocket:
            ...

    Args:
        uri: URI of the server, ``ws://`` or ``wss://`` (RFC 6455 section 3).
        origin: value of the ``Origin`` header, for servers that require one.
        extensions: extensions to negotiate, in order of preference; a
            :class:`~websockets.extensions.permessage_deflate.ClientPerMessageDeflateFactory` among
            them sets how messages are compressed.
        subprotocols: subprotocols to negotiate, in order of preference.
        compression: ``"deflate"`` to offer permessage-deflate (RFC 7692), with its default
            settings unless it is among the extensions; None to offer no more than those.
        additional_headers: headers to add to the handshake request.
        user_agent_header: value of the ``User-Agent`` header; None for none.
        proxy: None or True for a direct connection; proxies are not available yet.
        process_exception: tells which errors are worth another attempt, for reconnection, which is
            not available yet.
        open_timeout: seconds that connecting may take; None for any.
        ping_interval: seconds between keepalive pings; None for no keepalive.
        ping_timeout: seconds to wait for a sign of life after such a ping; None for ever.
        close_timeout: seconds that closing may take; None for any.
        reconnect_delays: delays between attempts, for reconnection, which is not available yet.
        max_size: largest message to receive in bytes, None for no limit; or a tuple of the largest
            message and the largest fragment.
        max_queue: messages to hold until reading stops, or a tuple of that and of the number at
            which it goes on; None for no limit.
        write_limit: bytes in the write buffer at which ``send()`` starts to wait, or a tuple of
            that and of the number at which it goes on.
        logger: logger for this connection; ``websockets.client`` unless given.
        create_connection: class of the connection, :class:`ClientConnection` unless given.
        **kwargs: arguments of the event loop's ``create_connection()``: ``ssl`` for an
            :class:`~ssl.SSLContext`, ``server_hostname``, ``host`` and ``port`` to connect
            elsewhere than the URI says, ``sock`` for a socket that is connected already, ...

    Raises:
        InvalidURI: if the URI is not valid.
        OSError: if the TCP connection fails.
        InvalidHandshake: if the opening handshake fails.
        TimeoutError: if it takes too long.
    """

    def __init__(
        self,
        uri: str,
        *,
        origin: Origin | None = None,
        extensions: Sequence[ClientExtensionFactory] | None = None,
        subprotocols: Sequence[Subprotocol] | None = None,
        compression: str | None = "deflate",
        additional_headers: HeadersLike | None = None,
        user_agent_header: str | None = USER_AGENT,
        proxy: str | Literal[True] | None = True,
        process_exception: Callable[[Exception], Exception | None] = process_exception,
        open_timeout: float | None = 10,
        ping_interval: float | None = 20,
        ping_timeout: float | None = 20,
        close_timeout: float | None = 10,
        reconnect_delays: Callable[[], Iterator[float]] = backoff,
        max_size: int | None | tuple[int | None, int | None] = 2**20,
        max_queue: int | None | tuple[int | None, int | None] = 16,
        write_limit: int | tuple[int, int | None] = 2**15,
        logger: LoggerLike | None = None,
        create_connection: type[ClientConnection] | None = None,
        **kwargs: Any,
    ) -> None:
        self.uri = uri
        self.ws_uri = parse_uri(uri)
        if subprotocols is not None:
            validate_subprotocols(subprotocols)
        extensions = apply_compression(compression, extensions, enable_client_permessage_deflate)
        if proxy is not None and proxy is not True:
            raise ValueError("proxies are not available yet: pass proxy=None")
        if logger is None:
            logger = logging.getLogger("websockets.client")
        if create_connection is None:
            create_connection = ClientConnection

        def factory(ws_uri: WebSocketURI) -> ClientConnection:
            protocol = ClientProtocol(
                ws_uri,
                origin=origin,
                extensions=extensions,
                subprotocols=subprotocols,
                state=CONNECTING,
                max_size=max_size,
                logger=logger,
            )
            return create_connection(
                protocol,
                ping_interval=ping_interval,
                ping_timeout=ping_timeout,
                close_timeout=close_timeout,
                max_queue=max_queue,
                write_limit=write_limit,
            )

        self.factory = factory
        self.additional_headers = additional_headers
        self.user_agent_header = user_agent_header
        self.proxy = proxy
        self.process_exception = process_exception
        self.open_timeout = open_timeout
        self.reconnect_delays = reconnect_delays
        self.logger = logger
        self.create_connection_kwargs = kwargs
        self.connection: ClientConnection

    async def open_tcp_connection(self) -> ClientConnection:
        """Open the TCP or Unix connection, with TLS if need be."""
        loop = asyncio.get_running_loop()
        ws_uri = self.ws_uri
        kwargs = dict(self.create_connection_kwargs)
        if ws_uri.secure:
            kwargs.setdefault("ssl", True)
            if kwargs["ssl"] is None:
                raise ValueError("ssl=None is incompatible with a wss:// URI")
            if kwargs["ssl"] is True:
                kwargs["ssl"] = default_ssl_context()
            kwargs.setdefault("server_hostname", ws_uri.host)
        elif kwargs.get("ssl") is not None:
            raise ValueError("ssl argument is incompatible with a ws:// URI")

        def factory() -> ClientConnection:
            return self.factory(ws_uri)

        if kwargs.pop("unix", False):
            _, connection = await loop.create_unix_connection(factory, **kwargs)
        else:
            if kwargs.get("sock") is None:
                kwargs.setdefault("host", ws_uri.host)
                kwargs.setdefault("port", ws_uri.port)
            _, connection = await loop.create_connection(factory, **kwargs)
        return connection

    async def connect(self) -> ClientConnection:
        """Open the connection, within ``open_timeout``."""
        connection: ClientConnection | None = None
        try:
            async with asyncio.timeout(self.open_timeout):
                connection = await self.open_tcp_connection()
                await connection.handshake(self.additional_headers, self.user_agent_header)
        except TimeoutError as exc:
            if connection is not None:
                connection.transport.abort()
            if isinstance(exc, OSError) and exc.errno is not None:
                raise  # a timeout of TCP
            raise TimeoutError(Timeout.OPEN.value) from exc
        except BaseException:
            if connection is not None:
                connection.transport.close()
            raise
        return connection

    def __await__(self) -> Generator[Any, None, ClientConnection]:
        return self.connect().__await__()

    async def __aenter__(self) -> ClientConnection:
        self.connection = await self.connect()
        return self.connection

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.connection.__aexit__(exc_type, exc_value, traceback)


def unix_connect(path: str | None = None, uri: str | None = None, **kwargs: Any) -> connect:
    """Connect to a WebSocket server on a Unix socket.

    Args:
        path: path of the socket.
        uri: URI for the handshake request; ``ws://localhost/``, or ``wss://localhost/`` with
            ``ssl``, unless given.
        **kwargs: arguments of :func:`connect`.
    """
    if uri is None:
        uri = "ws://localhost/" if kwargs.get("ssl") is None else "wss://localhost/"
    return connect(uri=uri, unix=True, path=path, **kwargs)


_ssl_context: ssl_module.SSLContext | None = None


def default_ssl_context() -> ssl_module.SSLContext:
    """Return the TLS context for clients that bring none, made once: it takes a megabyte."""
    global _ssl_context
    if _ssl_context is None:
        _ssl_context = ssl_module.create_default_context()
    return _ssl_context
