"""Servers on asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import http
import inspect
import logging
import re
import socket
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, cast

from ..credentials import BasicAuth, CheckCredentials, Credentials, CredentialsRefused
from ..exceptions import ConnectionClosed
from ..extensions.base import ServerExtensionFactory
from ..extensions.permessage_deflate import apply_compression, enable_server_permessage_deflate
from ..frames import CloseCode
from ..headers import validate_subprotocols
from ..http11 import SERVER, Request, Response
from ..protocol import CLOSED, CONNECTING, OPEN, Protocol
from ..server import SWITCHING_PROTOCOLS, ServerProtocol
from ..settings import check_settings
from ..typing import LoggerLike, Origin, PathLike, StatusLike, Subprotocol
from ..utils import get_socket_name
from .broadcast import broadcast
from .connection import Connection

__all__ = ["Server", "ServerConnection", "basic_auth", "broadcast", "serve", "unix_serve"]

Handler = Callable[["ServerConnection"], Awaitable[None]]
ProcessRequest = Callable[
    ["ServerConnection", Request], Awaitable[Response | None] | Response | None
]
ProcessResponse = Callable[
    ["ServerConnection", Request, Response], Awaitable[Response | None] | Response | None
]

# A server that closes waits so many seconds for those it refuses to take note.
REFUSAL_TIMEOUT = 1.0

# Of what is tried out, nobody need know.
SILENT = logging.Logger("websockets.silent", logging.CRITICAL)


class ServerConnection(Connection):
    """A server's connection; handlers are given it.

    The other arguments are those of :class:`~websockets.asyncio.connection.Connection`.

    Args:
        protocol: state machine of this side.
        server: server that the connection belongs to.
    """

    __slots__ = ("_ws_task", "handler", "handler_kwargs", "server", "username")

    #: User name, if the connection was let in by :func:`basic_auth`.
    username: str
    #: Handler that was chosen by :func:`~websockets.asyncio.router.route`.
    handler: Callable[..., Awaitable[None]]
    #: Keyword arguments for it, from the path.
    handler_kwargs: Mapping[str, Any]

    def __init__(
        self,
        protocol: ServerProtocol,
        server: Server,
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
        self.protocol: ServerProtocol
        self.server = server
        self._ws_task: asyncio.Task[None] | None = None  # it runs the handler

    def respond(self, status: StatusLike, text: str) -> Response:
        """Create a plain text HTTP response, for ``process_request`` to return.

        Args:
            status: status code.
            text: body.

        Returns:
            The response; its headers and body can be changed.
        """
        return self.protocol.reject(status, text)

    async def handshake(
        self,
        process_request: ProcessRequest | None = None,
        process_response: ProcessResponse | None = None,
        server_header: str | None = SERVER,
    ) -> None:
        """Answer the handshake request (RFC 6455 section 4.2).

        Args:
            process_request: intercepts the request; see :func:`serve`.
            process_response: intercepts the response; see :func:`serve`.
            server_header: value of the ``Server`` header; None for none.
        """
        protocol, request = self.protocol, self.request
        assert request is not None
        response: Response | None = None
        if process_request is not None and not self.server.closing:
            response = await self._ws_intercept(process_request, request)
        if self.server.closing:
            response = self._ws_reject_closing()
        elif response is None:
            response = protocol.accept(request)
        self.response = response
        if server_header is not None and "Server" not in response.headers:
            response.headers["Server"] = server_header
        if process_response is not None:
            other = await self._ws_intercept(process_response, request, response)
            if other is not None:
                response = self.response = other
            if self.server.closing and response.status_code == SWITCHING_PROTOCOLS:
                # It has begun to close while the application was deciding.
                response = self.response = self._ws_reject_closing()
        if protocol.state is not CONNECTING:
            return
        protocol.send_response(response)
        self._ws_transmit()
        if protocol.state is OPEN:
            self._ws_handshake_done()

    async def _ws_intercept(self, callback: Callable[..., Any], *args: Any) -> Response | None:
        """Call what the application plugged into the handshake."""
        try:
            response = callback(self, *args)
            if inspect.isawaitable(response):
                response = await response
            if response is not None and not isinstance(response, Response):
                raise TypeError(f"expected a Response or None, got {type(response).__name__}")
        except Exception as exc:
            self.protocol.handshake_exc = exc
            name = "process_request" if len(args) == 1 else "process_response"
            self.logger.error("%s failed", name, exc_info=True)
            return self.protocol.reject_failure()
        return response

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.server.open_timeout is not None:
            self._ws_session.open_deadline = self.loop.time() + self.server.open_timeout
            self._ws_arm_timer()
        self.server.add(self)
        if self.server.closing:
            # It was accepted before, and the TLS handshake has taken until now.
            self._ws_refuse()

    def _ws_process_handshake(self) -> None:
        if self.protocol.events:
            (event,) = self.protocol.events
            self.protocol.events.clear()
            self.request = cast(Request, event)
            self._ws_task = self.server.start_handler(self)

    def _ws_refuse(self) -> None:
        """Refuse the connection if no request has come yet; if it was refused, wait no longer."""
        if self.protocol.state is not CONNECTING:
            return
        if self.request is None and not self.protocol.ended:
            self.protocol.send_response(self._ws_reject_closing())
            self._ws_transmit()
        if self.protocol.ended:
            self._ws_close_transport()
            # Over TLS, that waits for the other side to close, too: for ever, if it is a browser
            # that has connected in advance. There is no need to wait (RFC 8446 section 6.1).
            deadline = self.loop.time() + REFUSAL_TIMEOUT
            if (
                self._ws_session.close_deadline is None
                or self._ws_session.close_deadline > deadline
            ):
                self._ws_session.close_deadline = deadline
                self._ws_arm_timer()

    def _ws_reject_closing(self) -> Response:
        # For the log: it was not the application that answered.
        self.protocol.accept_called = True
        return self.protocol.reject(
            http.HTTPStatus.SERVICE_UNAVAILABLE, "Server is shutting down.\n"
        )

    def _ws_abandon(self, code: int) -> None:
        """Start to close the connection, without waiting: its handler may not go on."""
        if self.protocol.state is OPEN:
            self.protocol.fail(code)
            self._ws_transmit()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.server.remove(self)
        if self._ws_handshaking and self._ws_task is not None:
            # Nobody waits for the response any more.
            self._ws_task.cancel()


class Server:
    """A WebSocket server; :func:`serve` creates it.

    Await it to start it, or use it as an asynchronous context manager, which closes it at its end.

    Args:
        create_server: called with this server, returns an awaitable of an :class:`asyncio.Server`.
        handler: coroutine function that handles a connection.
        logger: logger for this server; ``websockets.server`` unless given.
    """

    def __init__(
        self,
        create_server: Callable[[Server], Awaitable[asyncio.Server]],
        handler: Handler,
        logger: LoggerLike | None = None,
    ) -> None:
        self.create_server = create_server
        self.handler = handler
        self.logger: LoggerLike = logger or logging.getLogger("websockets.server")

        # How connections are opened
        self.open_timeout: float | None = 10
        self.process_request: ProcessRequest | None = None
        self.process_response: ProcessResponse | None = None
        self.server_header: str | None = SERVER

        # What there is to close
        self.server: asyncio.Server | None = None
        self.all_connections: set[ServerConnection] = set()
        self.handler_tasks: set[asyncio.Task[None]] = set()
        self._forget_task = self.handler_tasks.discard  # made once, for all tasks to share
        self.close_task: asyncio.Task[None] | None = None
        self._closed: asyncio.Future[None] | None = None

    # What the server is doing

    @property
    def closing(self) -> bool:
        """Whether connections are refused, as the server closes."""
        return self.close_task is not None

    @property
    def connections(self) -> set[ServerConnection]:
        """Open connections: those whose opening handshake is over, and which are not closing."""
        return {c for c in self.all_connections if c.protocol.state is OPEN}

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """Sockets that the server listens on; none before it is started and after it is closed."""
        return () if self.server is None else self.server.sockets

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the event loop that the server runs on."""
        return self._started().get_loop()

    def is_serving(self) -> bool:
        """Return whether the server accepts connections."""
        return self.server is not None and self.server.is_serving() and not self.closing

    def _started(self) -> asyncio.Server:
        if self.server is None:
            raise RuntimeError("server isn't started: await it, or use it as a context manager")
        return self.server

    # Starting

    async def start(self) -> Self:
        """Create the sockets and, unless told otherwise, listen on them."""
        if self.server is None:
            self.started(await self.create_server(self))
        return self

    def started(self, server: asyncio.Server) -> None:
        """Take over the server that accepts the connections."""
        self.server = server
        self._closed = server.get_loop().create_future()
        if server.is_serving():
            for sock in server.sockets:
                self.logger.info("server listening on %s", get_socket_name(sock))

    def __await__(self) -> Generator[Any, None, Self]:
        return self.start().__await__()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
        await self.wait_closed()

    async def start_serving(self) -> None:
        """Start to accept connections, having been created with ``start_serving=False``."""
        await self._started().start_serving()

    async def serve_forever(self) -> None:
        """Accept connections until the coroutine is cancelled, which closes the server."""
        await self._started().start_serving()
        try:
            await self.wait_closed()
        finally:
            self.close()
            await self.wait_closed()

    # Connections

    def add(self, connection: ServerConnection) -> None:
        """Keep a connection, from its first moment."""
        self.all_connections.add(connection)

    def remove(self, connection: ServerConnection) -> None:
        """Forget a connection, which is lost."""
        self.all_connections.discard(connection)

    def start_handler(self, connection: ServerConnection) -> asyncio.Task[None]:
        """Start the task of a connection, its request having arrived."""
        task = connection.loop.create_task(self._handle(connection))
        self.handler_tasks.add(task)
        task.add_done_callback(self._forget_task)
        return task

    async def _handle(self, connection: ServerConnection) -> None:
        """Do the opening handshake, run the handler, and close the connection."""
        protocol = connection.protocol
        try:
            await connection.handshake(
                self.process_request, self.process_response, self.server_header
            )
        except asyncio.CancelledError:
            if protocol.state is CLOSED:
                return  # the client has gone, or time was up
            connection.transport.abort()
            raise
        except Exception:
            connection.logger.error("opening handshake failed", exc_info=True)
            connection.transport.abort()
            return
        if connection._ws_handshaking:
            return  # refused, or the client has gone
        try:
            await self.handler(connection)
        except asyncio.CancelledError:
            # It was not for the connection to be left open.
            connection._ws_abandon(CloseCode.GOING_AWAY)
            raise
        except Exception as exc:
            if is_own_end(protocol, exc):
                connection.logger.info("connection handler ended: %s", exc)
            else:
                connection.logger.error("connection handler failed", exc_info=True)
            await connection.close(CloseCode.INTERNAL_ERROR)
        except GeneratorExit:
            raise  # the coroutine is being freed, its event loop being closed perhaps
        except BaseException:
            # It may leave the event loop, which need not run again.
            connection._ws_abandon(CloseCode.INTERNAL_ERROR)
            raise
        else:
            await connection.close()

    # Closing

    def close(
        self,
        close_connections: bool = True,
        code: int = CloseCode.GOING_AWAY,
        reason: str = "",
    ) -> None:
        """Close the server: accept no more connections, and close those that there are.

        Clients whose opening handshake is not over are refused with status 503; connections are
        closed with ``code`` and ``reason``. Then the handlers have as long as they need to end.

        With ``close_connections=False``, those that there are go on, so that others can take over:
        :meth:`wait_closed` waits for them, and :attr:`connections` are there to be closed one after
        the other.

        It returns at once; call :meth:`wait_closed` to wait. Closing again has no effect.

        Args:
            close_connections: False to leave connections alone, for their handlers to close.
            code: close code.
            reason: close reason, at most 123 bytes in UTF-8.

        Raises:
            ProtocolError: if the code may not be sent or the reason is too long.
        """
        # A protocol of its own tells now, rather than each connection's in its task.
        ServerProtocol(state=OPEN, logger=SILENT).send_close(code, reason)
        if self.close_task is None and self.server is not None:
            self.close_task = self.server.get_loop().create_task(
                self._close(close_connections, code, reason)
            )

    async def _close(self, close_connections: bool, code: int, reason: str) -> None:
        server = self._started()
        self.logger.info("server closing")
        # What asyncio has accepted when its server closes, but has no transport for yet, it drops
        # with its socket open, until garbage is collected. So no more is accepted first (where that
        # is how the event loop accepts), and what was has its transport in the next turn.
        for sock in server.sockets:
            with contextlib.suppress(NotImplementedError):
                server.get_loop().remove_reader(sock.fileno())
        await asyncio.sleep(0)
        server.close()
        # The connection is made in the turn after that.
        await asyncio.sleep(0)
        for connection in list(self.all_connections):
            connection._ws_refuse()
        if close_connections:
            # Subclasses may have a close() without a reason.
            arguments = (code, reason) if reason else (code,)
            closing = [
                asyncio.create_task(connection.close(*arguments)) for connection in self.connections
            ]
            if closing:
                await asyncio.wait(closing)
        while self.handler_tasks:
            await asyncio.wait(self.handler_tasks)
        for connection in list(self.all_connections):
            await connection.wait_closed()
        await server.wait_closed()
        assert self._closed is not None
        self._closed.set_result(None)
        self.logger.info("server closed")

    async def wait_closed(self) -> None:
        """Wait until the server is closed: no connections are left, and no handlers."""
        if self._closed is None:
            self._started()
        assert self._closed is not None
        await asyncio.shield(self._closed)


def is_own_end(protocol: Protocol, exc: Exception) -> bool:
    """Whether an exception says that a connection is closed, which is no fault of its handler."""
    return (
        isinstance(exc, ConnectionClosed)
        and protocol.state is CLOSED
        and exc.rcvd == protocol.close_rcvd
        and exc.sent == protocol.close_sent
    )


def serve(
    handler: Handler,
    host: str | Sequence[str] | None = None,
    port: int | None = None,
    *,
    origins: Sequence[Origin | re.Pattern[str] | None] | None = None,
    extensions: Sequence[ServerExtensionFactory] | None = None,
    subprotocols: Sequence[Subprotocol] | None = None,
    select_subprotocol: (
        Callable[[ServerConnection, Sequence[Subprotocol]], Subprotocol | None] | None
    ) = None,
    compression: str | None = "deflate",
    process_request: ProcessRequest | None = None,
    process_response: ProcessResponse | None = None,
    server_header: str | None = SERVER,
    open_timeout: float | None = 10,
    ping_interval: float | None = 20,
    ping_timeout: float | None = 20,
    close_timeout: float | None = 10,
    max_size: int | None | tuple[int | None, int | None] = 2**20,
    max_queue: int | None | tuple[int | None, int | None] = 16,
    write_limit: int | tuple[int, int | None] = 2**15,
    logger: LoggerLike | None = None,
    create_connection: type[ServerConnection] | None = None,
    **kwargs: Any,
) -> Server:
    """Create a WebSocket server.

    The handler is called with each connection whose opening handshake succeeds; when it returns,
    the connection is closed with code 1000, or 1011 if it raises an exception::

        async def handler(websocket):
            async for message in websocket:
                await websocket.send(message)

        async with serve(handler, "localhost", 8765) as server:
            await server.serve_forever()

    Args:
        handler: coroutine function that handles a connection.
        host: interface to listen on, or several; all of them if None.
        port: TCP port to listen on; any free one if 0.
        origins: acceptable values of the ``Origin`` header, strings or compiled regular
            expressions; None in the list accepts requests without one.
        extensions: extensions to negotiate, in order of preference; a
            :class:`~websockets.extensions.permessage_deflate.ServerPerMessageDeflateFactory` among
            them sets how messages are compressed.
        subprotocols: subprotocols to negotiate, in order of preference.
        select_subprotocol: called with the connection and the subprotocols that the client offers,
            it returns one of them, or None for none, or raises
            :exc:`~websockets.exceptions.NegotiationError` to refuse the connection.
        compression: ``"deflate"`` to accept permessage-deflate (RFC 7692), with its default
            settings unless it is among the extensions; None to accept no more than those.
        process_request: called with the connection and the request, it returns None to go on, or a
            response to send instead; see :meth:`ServerConnection.respond`. It may be a coroutine
            function.
        process_response: called with the connection, the request and the response, it returns None
            to go on, or another response. It may be a coroutine function.
        server_header: value of the ``Server`` header; None for none.
        open_timeout: seconds that the opening handshake may take; None for any.
        ping_interval: seconds between keepalive pings; None for no keepalive.
        ping_timeout: seconds to wait for a sign of life after such a ping; None for ever.
        close_timeout: seconds that closing may take; None for any.
        max_size: largest message to receive in bytes, None for no limit; or a tuple of the largest
            message and the largest fragment.
        max_queue: messages to hold until reading stops, or a tuple of that and of the number at
            which it goes on; None for no limit.
        write_limit: bytes in the write buffer at which ``send()`` starts to wait, or a tuple of
            that and of the number at which it goes on.
        logger: logger for this server; ``websockets.server`` unless given.
        create_connection: class of the connections, :class:`ServerConnection` unless given.
        **kwargs: arguments of the event loop's ``create_server()``: ``ssl`` for an
            :class:`~ssl.SSLContext`, ``sock``, ``reuse_port``, ...

    Returns:
        A server, to await or to use as an asynchronous context manager.

    Raises:
        TypeError: if ``subprotocols`` is no sequence of strings, or a limit no number.
        ValueError: if a subprotocol is no token, ``compression`` is something else than the above,
            or a limit makes no sense.
        OSError: if it cannot listen, when the server is started.
    """
    if subprotocols is not None:
        validate_subprotocols(subprotocols)
    check_settings(
        max_size=max_size,
        max_queue=max_queue,
        write_limit=write_limit,
        open_timeout=open_timeout,
        ping_interval=ping_interval,
        ping_timeout=ping_timeout,
        close_timeout=close_timeout,
    )
    extensions = apply_compression(compression, extensions, enable_server_permessage_deflate)
    connection_class = create_connection or ServerConnection

    def create_protocol_connection(server: Server) -> ServerConnection:
        protocol_select = None
        if select_subprotocol is not None:

            def protocol_select(
                protocol: ServerProtocol, offered: Sequence[Subprotocol]
            ) -> Subprotocol | None:
                return select_subprotocol(connection, offered)

        protocol = ServerProtocol(
            origins=origins,
            extensions=extensions,
            subprotocols=subprotocols,
            select_subprotocol=protocol_select,
            state=CONNECTING,
            max_size=max_size,
            logger=server.logger,
        )
        connection = connection_class(
            protocol,
            server,
            ping_interval=ping_interval,
            ping_timeout=ping_timeout,
            close_timeout=close_timeout,
            max_queue=max_queue,
            write_limit=write_limit,
        )
        return connection

    unix = kwargs.pop("unix", False)

    async def create_server(server: Server) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        factory = functools.partial(create_protocol_connection, server)
        if unix:
            return await loop.create_unix_server(factory, **kwargs)
        return await loop.create_server(factory, host, port, **kwargs)

    if kwargs.get("ssl") is not None:
        kwargs.setdefault("ssl_handshake_timeout", open_timeout)
        # Event loops take nothing that is zero, which leaves it to the connection to be in time.
        if not unix and (close_timeout is None or close_timeout > 0):
            kwargs.setdefault("ssl_shutdown_timeout", close_timeout)

    server = Server(create_server, handler, logger)
    server.open_timeout = open_timeout
    server.process_request = process_request
    server.process_response = process_response
    server.server_header = server_header
    return server


def unix_serve(handler: Handler, path: PathLike | None = None, **kwargs: Any) -> Server:
    """Create a WebSocket server that listens on a Unix socket.

    Args:
        handler: coroutine function that handles a connection.
        path: path of the socket.
        **kwargs: arguments of :func:`serve`.

    Returns:
        A server, to await or to use as an asynchronous context manager.
    """
    return serve(handler, unix=True, path=path, **kwargs)


def basic_auth(
    realm: str = "",
    credentials: Credentials | None = None,
    check_credentials: CheckCredentials | None = None,
) -> Callable[[ServerConnection, Request], Awaitable[Response | None]]:
    """Create a ``process_request`` that asks for a user name and a password (RFC 7617).

    Who has none, or wrong ones, is refused with status 401; of others, ``username`` of the
    connection is set::

        async with serve(
            handler,
            "localhost",
            8765,
            process_request=basic_auth("chat", credentials=("joe", "secret")),
        ):
            ...

    Passwords are sent in clear unless the connection is over TLS.

    Args:
        realm: name of what the password is for, which browsers show. It should be ASCII.
        credentials: a pair of user name and password, or an iterable of such pairs. They are
            compared in a time that does not depend on how much of them is right.
        check_credentials: called with a user name and a password, it returns whether to let them
            in. It may be a coroutine function.

    Returns:
        A coroutine function. One of your own can await what it returns, None or a response.

    Raises:
        TypeError: if the credentials are neither a pair of strings nor several of them.
        ValueError: if there are both or none of ``credentials`` and ``check_credentials``, a header
            cannot have the realm's characters, or the credentials cannot be encoded to UTF-8.
    """
    auth = BasicAuth(realm, credentials, check_credentials)

    async def process_request(connection: ServerConnection, request: Request) -> Response | None:
        try:
            username, password = auth.read(request.headers)
            valid = auth.check(username, password)
            auth.require(await valid if inspect.isawaitable(valid) else valid)
        except CredentialsRefused as exc:
            return auth.refuse(connection, exc)
        connection.username = username
        return None

    return process_request
