"""Servers of the original API."""

from __future__ import annotations

import asyncio
import functools
import http
import inspect
import warnings
from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import Any, ClassVar, cast

from ..asyncio.server import SILENT, Server, is_own_end
from ..datastructures import Headers, HeadersLike
from ..exceptions import InvalidHandshake
from ..extensions.base import Extension, ServerExtensionFactory
from ..extensions.permessage_deflate import apply_compression, enable_server_permessage_deflate
from ..frames import CloseCode
from ..headers import get_subprotocols, validate_subprotocols
from ..http11 import SERVER as SERVER_HEADER
from ..http11 import Request, Response
from ..protocol import CONNECTING
from ..server import ServerProtocol, check_request, get_date
from ..typing import LoggerLike, Origin, StatusLike, Subprotocol
from .exceptions import AbortHandshake
from .handshake import build_response
from .protocol import WebSocketCommonProtocol, broadcast, rename_timeout, warn_of_loop

__all__ = [
    "HTTPResponse",
    "WebSocketServer",
    "WebSocketServerProtocol",
    "broadcast",
    "serve",
    "unix_serve",
]

HeadersLikeOrCallable = HeadersLike | Callable[[str, Headers], HeadersLike]

#: What ``process_request`` may return: status, headers and body, which may be left out.
HTTPResponse = tuple[StatusLike, HeadersLike, bytes]

ProcessRequest = Callable[[str, Headers], Awaitable[HTTPResponse | None]]
SelectSubprotocol = Callable[[Sequence[Subprotocol], Sequence[Subprotocol]], Subprotocol]
Handler = Callable[..., Awaitable[Any]]


class WebSocketServerProtocol(WebSocketCommonProtocol):
    """The server's side of a connection; handlers are given it.

    The other arguments are those of
    :class:`~websockets.legacy.protocol.WebSocketCommonProtocol`.

    Args:
        ws_handler: coroutine function that handles the connection.
        ws_server: server that the connection belongs to: its methods ``register()``,
            ``unregister()`` and ``is_serving()`` are called.
        logger: logger for this connection; ``websockets.server`` unless given.
        origins: acceptable values of the ``Origin`` header.
        extensions: extensions to negotiate, in order of preference.
        subprotocols: subprotocols to negotiate, in order of preference.
        extra_headers: headers to add to the response, or a function of path and request headers
            that returns them.
        server_header: value of the ``Server`` header; None for none.
        process_request: replaces :meth:`process_request`.
        select_subprotocol: replaces :meth:`select_subprotocol`.
        open_timeout: seconds that the opening handshake may take; None for any.
    """

    is_client: ClassVar[bool] = False
    side: ClassVar[str] = "server"
    protocol: ServerProtocol

    def __init__(
        self,
        ws_handler: Handler,
        ws_server: WebSocketServer,
        *,
        logger: LoggerLike | None = None,
        origins: Sequence[Origin | None] | None = None,
        extensions: Sequence[ServerExtensionFactory] | None = None,
        subprotocols: Sequence[Subprotocol] | None = None,
        extra_headers: HeadersLikeOrCallable | None = None,
        server_header: str | None = SERVER_HEADER,
        process_request: ProcessRequest | None = None,
        select_subprotocol: SelectSubprotocol | None = None,
        open_timeout: float | None = 10,
        **kwargs: Any,
    ) -> None:
        if origins is not None and "" in origins:
            warnings.warn("use None instead of '' in origins", DeprecationWarning, stacklevel=2)
            origins = [origin or None for origin in origins]
        super().__init__(logger=logger, **kwargs)
        self.ws_handler = accept_path(ws_handler)
        self.ws_server = ws_server
        self.handler_task: asyncio.Task[None]

        # Opening handshake
        self.origins = origins
        self.available_extensions = extensions
        self.available_subprotocols = subprotocols
        self.extra_headers = extra_headers
        self.server_header = server_header
        self.open_timeout = open_timeout
        self._process_request = process_request
        self._select_subprotocol = select_subprotocol
        self._ws_request: asyncio.Future[Request | None] = self.loop.create_future()

    def _ws_create_protocol(
        self, max_size: int | None, logger: LoggerLike | None
    ) -> ServerProtocol:
        return ServerProtocol(max_size=max_size, logger=logger)

    @property
    def origin(self) -> Origin | None:
        """Value of the ``Origin`` header, None if there was none."""
        return self.protocol.origin

    @origin.setter
    def origin(self, origin: Origin | None) -> None:
        self.protocol.origin = origin

    # How a connection goes

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.handler_task = self.loop.create_task(self.handler())
        self.ws_server.register(self)

    async def handler(self) -> None:
        """Do the opening handshake, run the handler, and close the connection."""
        try:
            deadline = asyncio.timeout(self.open_timeout)
            try:
                async with deadline:
                    await self.handshake(
                        origins=self.origins,
                        available_extensions=self.available_extensions,
                        available_subprotocols=self.available_subprotocols,
                        extra_headers=self.extra_headers,
                    )
            except asyncio.CancelledError:
                self._ws_transport.abort()
                raise
            except Exception as exc:
                if deadline.expired():
                    self._ws_transport.abort()
                else:
                    await self._ws_reject(exc)
                return
            try:
                await self.ws_handler(self)
            except asyncio.CancelledError:
                self.fail_connection(CloseCode.GOING_AWAY)
                raise
            except Exception as exc:
                if is_own_end(self.protocol, exc):
                    self.logger.info("connection handler ended: %s", exc)
                else:
                    self.logger.error("connection handler failed", exc_info=True)
                # Not close(), which a subclass may have without arguments.
                self.fail_connection(CloseCode.INTERNAL_ERROR)
                await self.wait_closed()
            else:
                await self.close()
        finally:
            self.ws_server.unregister(self)

    def _ws_process_handshake(self) -> None:
        if self.protocol.events and not self._ws_request.done():
            self._ws_request.set_result(cast(Request, self.protocol.events.pop()))
        elif self.protocol.ended and not self._ws_request.done():
            self._ws_request.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if not self._ws_request.done():
            self._ws_request.set_result(None)

    # The opening handshake (RFC 6455 section 4.2), whose steps subclasses replace

    async def read_http_request(self) -> tuple[str, Headers]:
        """Wait for the handshake request, and return its path and headers.

        Returns:
            The path with its query, and the headers.

        Raises:
            InvalidMessage: if what comes is no request; it has been answered already.
            ConnectionError: if the connection is lost before.
        """
        request = await self._ws_request
        if request is None:
            raise self.protocol.handshake_exc or ConnectionError("connection closed")
        self.path, self.request_headers = request.path, request.headers
        self.request = request
        return request.path, request.headers

    async def process_request(self, path: str, request_headers: Headers) -> HTTPResponse | None:
        """Intercept the handshake request. Override it to answer with an HTTP response.

        Args:
            path: path and query of the request.
            request_headers: its headers.

        Returns:
            None to go on, or status, headers and body of a response.
        """
        if self._process_request is not None:
            response = self._process_request(path, request_headers)
            return await result_of(response)
        return None

    @staticmethod
    def process_origin(
        headers: Headers, origins: Sequence[Origin | None] | None = None
    ) -> Origin | None:
        """Return the origin of the request, None if it has none (RFC 6455 section 10.2).

        Args:
            headers, origins: headers of the request, and acceptable values; None for any.

        Raises:
            InvalidOrigin: if it is not acceptable.
        """
        return ServerProtocol(origins=origins, logger=SILENT).process_origin(headers)

    @staticmethod
    def process_extensions(
        headers: Headers, available_extensions: Sequence[ServerExtensionFactory] | None
    ) -> tuple[str | None, list[Extension]]:
        """Negotiate extensions (RFC 6455 section 9.1).

        Args:
            headers, available_extensions: headers of the request, and what this side has.

        Returns:
            Value of the response's ``Sec-WebSocket-Extensions``, None for no such header; and the
            extensions in use.
        """
        protocol = ServerProtocol(extensions=available_extensions, logger=SILENT)
        return protocol.process_extensions(headers)

    def process_subprotocol(
        self, headers: Headers, available_subprotocols: Sequence[Subprotocol] | None
    ) -> Subprotocol | None:
        """Return what :meth:`select_subprotocol` picks; None, to go on without, if a side has none.

        Args:
            headers, available_subprotocols: headers of the request, and what this side has.
        """
        offered = get_subprotocols(headers)
        if offered and available_subprotocols:
            return self.select_subprotocol(offered, available_subprotocols)
        return None

    def select_subprotocol(
        self,
        client_subprotocols: Sequence[Subprotocol],
        server_subprotocols: Sequence[Subprotocol],
    ) -> Subprotocol | None:
        """Pick a subprotocol that both sides have: of the client's and the server's preference,
        the one that is first on the whole. Override it to have another rule.

        Args:
            client_subprotocols, server_subprotocols: what they have, the best first.

        Returns:
            The subprotocol; None for none.
        """
        if self._select_subprotocol is not None:
            return self._select_subprotocol(client_subprotocols, server_subprotocols)
        common = [name for name in server_subprotocols if name in client_subprotocols]
        return min(
            common,
            key=lambda name: client_subprotocols.index(name) + server_subprotocols.index(name),
            default=None,
        )

    async def handshake(
        self,
        origins: Sequence[Origin | None] | None = None,
        available_extensions: Sequence[ServerExtensionFactory] | None = None,
        available_subprotocols: Sequence[Subprotocol] | None = None,
        extra_headers: HeadersLikeOrCallable | None = None,
    ) -> str:
        """Answer the handshake request.

        Args:
            origins: acceptable values of the ``Origin`` header.
            available_extensions, available_subprotocols: what to negotiate.
            extra_headers: headers to add to the response.

        Returns:
            Path of the request.

        Raises:
            InvalidHandshake: if it is not acceptable;
                :exc:`~websockets.legacy.exceptions.AbortHandshake` if :meth:`process_request`
                answers it, or the server closes.
        """
        path, headers = await self.read_http_request()
        early: Any = await result_of(self.process_request(path, headers))
        if not self.ws_server.is_serving():
            early = http.HTTPStatus.SERVICE_UNAVAILABLE, [], b"Server is shutting down.\n"
        if early is not None:
            status, early_headers, body = early if len(early) > 2 else (*early, b"")
            if not isinstance(body, bytes):
                raise TypeError(f"expected a body of bytes, got {type(body).__name__}")
            raise AbortHandshake(status, Headers(early_headers), body)

        assert self.request is not None
        key = check_request(self.request)
        self.origin = self.process_origin(headers, origins)
        extensions_header, self.extensions = self.process_extensions(headers, available_extensions)
        self.subprotocol = self.process_subprotocol(headers, available_subprotocols)

        response_headers = Headers()
        build_response(response_headers, key)
        if extensions_header is not None:
            response_headers["Sec-WebSocket-Extensions"] = extensions_header
        if self.subprotocol is not None:
            response_headers["Sec-WebSocket-Protocol"] = self.subprotocol
        if callable(extra_headers):
            extra_headers = extra_headers(path, headers)
        if extra_headers is not None:
            response_headers.update(extra_headers)
        self._ws_respond(Response(101, "Switching Protocols", response_headers))
        self.connection_open()
        return path

    def _ws_respond(self, response: Response) -> None:
        """Send the response to the handshake request, and open the connection if it is 101."""
        if self.closed:
            raise ConnectionError("connection closed")
        self._ws_sign(response.headers)
        self.response, self.response_headers = response, response.headers
        self.protocol.send_response(response)
        self._ws_transmit()

    def _ws_sign(self, headers: Headers) -> None:
        headers.setdefault("Date", get_date())
        if self.server_header is not None:
            headers.setdefault("Server", self.server_header)

    async def _ws_reject(self, exc: Exception) -> None:
        """Send the response to a request that is not accepted, then close the connection."""
        if not self.protocol.ended:  # else it has been answered by the parser
            self.protocol.accept_called = True  # for the log: it is a rejection
            if isinstance(exc, AbortHandshake):
                headers, body = exc.headers, exc.body
                self._ws_sign(headers)
                headers.setdefault("Content-Length", str(len(body)))
                headers.setdefault("Content-Type", "text/plain")
                headers.setdefault("Connection", "close")
                self.protocol.handshake_exc = exc
                response = Response(exc.status.value, exc.status.phrase, headers, body)
            elif self.request is not None:
                response = self.protocol.refuse(self.request, exc)
            else:  # a subclass has not waited for it
                self.logger.error("opening handshake failed", exc_info=True)
                response = self.protocol.reject_failure()
            self._ws_respond(response)
        elif not isinstance(exc, (InvalidHandshake, ConnectionError)):
            # Nobody is there to be answered.
            self.logger.error("opening handshake failed", exc_info=True)
        await self.wait_closed()

    # What servers call

    def _ws_refuse(self) -> None:
        """Refuse the connection if no request has come yet."""
        if self.protocol.state is CONNECTING and not self._ws_request.done():
            self._ws_request.set_exception(
                AbortHandshake(
                    http.HTTPStatus.SERVICE_UNAVAILABLE, Headers(), b"Server is shutting down.\n"
                )
            )


class WebSocketServer(Server):
    """A WebSocket server; :func:`serve` returns it.

    Args:
        logger: logger for this server; ``websockets.server`` unless given.
    """

    def __init__(self, logger: LoggerLike | None = None) -> None:
        super().__init__(create_server=None, handler=None, logger=logger)  # type: ignore[arg-type]

    @property
    def websockets(self) -> set[WebSocketServerProtocol]:
        """Connections of this server, those in their opening handshake among them."""
        return cast("set[WebSocketServerProtocol]", self.all_connections)

    def wrap(self, server: asyncio.Server) -> None:
        """Take over the event loop's server, which accepts the connections."""
        self.started(server)

    def register(self, protocol: WebSocketServerProtocol) -> None:
        """Note that there is a connection, to close it when the server is closed."""
        self.websockets.add(protocol)
        self.handler_tasks.add(protocol.handler_task)
        protocol.handler_task.add_done_callback(self._forget_task)

    def unregister(self, protocol: WebSocketServerProtocol) -> None:
        """Note that a connection is closed."""
        self.websockets.discard(protocol)

    def close(self, close_connections: bool = True) -> None:  # type: ignore[override]
        """Close the server: accept no more connections, and close those that there are.

        Args:
            close_connections: False to leave connections alone, for their handlers to close.
        """
        super().close(close_connections)


class Serve:
    """Create a WebSocket server.

    Await it to get a :class:`WebSocketServer`, or use it as an asynchronous context manager, which
    closes the server at its end::

        async with serve(handler, "localhost", 8765):
            await asyncio.get_running_loop().create_future()

    The other arguments are those of :class:`WebSocketServerProtocol`.

    Args:
        ws_handler: coroutine function that handles a connection; it is called with a
            :class:`WebSocketServerProtocol`.
        host: interface to listen on, or several; all of them if None.
        port: TCP port to listen on; any free one if 0.
        create_protocol: makes a connection; :class:`WebSocketServerProtocol` unless given.
        compression: ``"deflate"`` to accept permessage-deflate (RFC 7692); None not to.
        **kwargs: arguments of the event loop's ``create_server()``.
    """

    def __init__(
        self,
        ws_handler: Handler,
        host: str | Sequence[str] | None = None,
        port: int | None = None,
        *,
        create_protocol: Callable[..., WebSocketServerProtocol] | None = None,
        logger: LoggerLike | None = None,
        compression: str | None = "deflate",
        origins: Sequence[Origin | None] | None = None,
        extensions: Sequence[ServerExtensionFactory] | None = None,
        subprotocols: Sequence[Subprotocol] | None = None,
        extra_headers: HeadersLikeOrCallable | None = None,
        server_header: str | None = SERVER_HEADER,
        process_request: ProcessRequest | None = None,
        select_subprotocol: SelectSubprotocol | None = None,
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
        if subprotocols is not None:
            validate_subprotocols(subprotocols)
        extensions = apply_compression(compression, extensions, enable_server_permessage_deflate)
        secure = kwargs.get("ssl") is not None
        if secure:
            kwargs.setdefault("ssl_handshake_timeout", open_timeout)
        self.ws_server = WebSocketServer(logger)
        factory = functools.partial(
            create_protocol or WebSocketServerProtocol,
            accept_path(ws_handler),
            self.ws_server,
            logger=self.ws_server.logger,
            origins=origins,
            extensions=extensions,
            subprotocols=subprotocols,
            extra_headers=extra_headers,
            server_header=server_header,
            process_request=process_request,
            select_subprotocol=select_subprotocol,
            open_timeout=open_timeout,
            ping_interval=ping_interval,
            ping_timeout=ping_timeout,
            close_timeout=close_timeout,
            max_size=max_size,
            max_queue=max_queue,
            read_limit=read_limit,
            write_limit=write_limit,
            host=host,
            port=port,
            secure=secure,
            legacy_recv=legacy_recv,
        )
        unix = kwargs.pop("unix", False)

        def create_server() -> Awaitable[asyncio.Server]:
            loop = asyncio.get_running_loop()
            if unix:
                return loop.create_unix_server(factory, **kwargs)
            return loop.create_server(factory, host, port, **kwargs)

        self._create_server = create_server

    async def _start(self) -> WebSocketServer:
        self.ws_server.wrap(await self._create_server())
        return self.ws_server

    def __await__(self) -> Generator[Any, None, WebSocketServer]:
        return self._start().__await__()

    async def __aenter__(self) -> WebSocketServer:
        return await self

    async def __aexit__(self, exc_type: Any, exc_value: Any, traceback: Any) -> None:
        self.ws_server.close()
        await self.ws_server.wait_closed()


serve = Serve


def unix_serve(ws_handler: Handler, path: str | None = None, **kwargs: Any) -> serve:
    """Create a WebSocket server that listens on a Unix socket.

    Args:
        ws_handler: coroutine function that handles a connection.
        path: path of the socket.
        **kwargs: arguments of :class:`Serve`.
    """
    return serve(ws_handler, path=path, unix=True, **kwargs)


async def result_of(response: Any) -> HTTPResponse | None:
    """Return what ``process_request`` does, which need not be a coroutine function. Deprecated."""
    if inspect.isawaitable(response):
        return cast("HTTPResponse | None", await response)
    warnings.warn("declare process_request as a coroutine", DeprecationWarning, stacklevel=2)
    return cast("HTTPResponse | None", response)


def accept_path(ws_handler: Handler) -> Handler:
    """Return a handler of one argument for one that takes the path too. Deprecated."""
    try:
        inspect.signature(ws_handler).bind(None)
    except TypeError:
        try:
            inspect.signature(ws_handler).bind(None, "")
        except TypeError:
            return ws_handler  # it fails when it is called, and says how
        warnings.warn("remove second argument of ws_handler", DeprecationWarning, stacklevel=3)
        return lambda websocket: ws_handler(websocket, websocket.path)
    except ValueError:  # it has no signature
        pass
    return ws_handler


def rename_klass(
    create_protocol: Callable[..., Any] | None, klass: Callable[..., Any] | None
) -> Any:
    """Return the factory of connections, which has had another name."""
    if klass is not None:
        warnings.warn("rename klass to create_protocol", DeprecationWarning, stacklevel=3)
    return klass if create_protocol is None else create_protocol
