"""Clients on asyncio."""

from __future__ import annotations

import asyncio
import logging
import ssl as ssl_module
import traceback
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from types import TracebackType
from typing import Any, Literal, cast

from ..client import ClientProtocol, add_reason, backoff
from ..client import process_exception as process_exception
from ..datastructures import Headers, HeadersLike
from ..exceptions import InvalidURI, SecurityError, printable, without_password
from ..extensions.base import ClientExtensionFactory
from ..extensions.permessage_deflate import apply_compression, enable_client_permessage_deflate
from ..headers import validate_subprotocols
from ..http11 import USER_AGENT, Response
from ..protocol import CONNECTING, OPEN
from ..proxy import Proxy, parse_proxy
from ..proxy import get_proxy as get_proxy
from ..redirect import MAX_REDIRECTS, is_same_origin, redirect_target, without_credentials
from ..session import Timeout
from ..settings import check_settings
from ..typing import LoggerLike, Origin, PathLike, Subprotocol
from ..uri import WebSocketURI, is_domain_name, parse_uri
from .connection import Connection
from .tunnel import open_http_tunnel, open_socks_tunnel

__all__ = ["ClientConnection", "connect", "unix_connect"]

# Arguments of create_connection() that are for TLS, which begins within the tunnel of a proxy.
TLS_ARGUMENTS = ("ssl", "server_hostname", "ssl_handshake_timeout", "ssl_shutdown_timeout")


class ClientConnection(Connection):
    """A client's connection; :func:`connect` returns it.

    The arguments are those of :class:`~websockets.asyncio.connection.Connection`.
    """

    __slots__ = ("_ws_handshake_waiter",)

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
        self._ws_handshake_waiter: asyncio.Future[None] = self.loop.create_future()

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
            InvalidHandshake: if the server's response does not open the connection, or is cut.
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
        # TLS may have brought something before.
        if self.protocol.handshake_exc is None:
            self.protocol.send_request(request)
            self._ws_transmit()
        await self._ws_handshake_waiter
        if self.protocol.handshake_exc is not None:
            raise self.protocol.handshake_exc

    def _ws_take_response(self) -> None:
        for event in self.protocol.events:
            self.response = cast(Response, event)
        self.protocol.events.clear()

    def _ws_process_handshake(self) -> None:
        protocol = self.protocol
        self._ws_take_response()
        if protocol.state is CONNECTING and protocol.handshake_exc is None:
            return
        if not self._ws_handshake_waiter.done():
            self._ws_handshake_waiter.set_result(None)
        if protocol.state is OPEN:
            self._ws_handshake_done()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._ws_handshaking and not self._ws_handshake_waiter.done():
            # It may have a body that ends with the connection.
            self._ws_take_response()
            self._ws_handshake_waiter.set_result(None)
            if exc is not None:
                assert self.protocol.handshake_exc is not None
                add_reason(self.protocol.handshake_exc, exc)


class connect:
    """Connect to a WebSocket server.

    Await it to get a connection, or use it as an asynchronous context manager, which closes the
    connection at its end::

        websocket = await connect("wss://example.com/")

        async with connect("wss://example.com/") as websocket:
            ...

    Or iterate over it, to connect again whenever the connection has ended::

        async for websocket in connect("wss://example.com/"):
            try:
                ...
            except ConnectionClosed:
                continue

    Each turn of the loop closes the connection and opens another. When that fails, it is tried
    again after a pause; ``process_exception`` tells which errors end the loop instead.

    Redirects are followed. To another origin, ``Authorization``, ``Cookie`` and
    ``Proxy-Authorization`` of ``additional_headers`` do not go along, nor do credentials of the
    URI; nor does ``Host``. A subclass that overrides :meth:`process_redirect` can do otherwise.

    Args:
        uri: URI of the server, ``ws://`` or ``wss://`` (RFC 6455 section 3). With a user name and a
            password in it, they are sent by Basic authentication.
        origin: value of the ``Origin`` header, for servers that require one.
        extensions: extensions to negotiate, in order of preference; a
            :class:`~websockets.extensions.permessage_deflate.ClientPerMessageDeflateFactory` among
            them sets how messages are compressed.
        subprotocols: subprotocols to negotiate, in order of preference.
        compression: ``"deflate"`` to offer permessage-deflate (RFC 7692), with its default
            settings unless it is among the extensions; None to offer no more than those.
        additional_headers: headers to add to the handshake request.
        user_agent_header: value of the ``User-Agent`` header; None for none.
        proxy: URL of a proxy, ``http``, ``https``, ``socks4``, ``socks4a``, ``socks5`` or
            ``socks5h``, the latter four with the package python-socks; True for that of the
            environment or the system, if there is one; None for a direct connection. There is no
            proxy where ``sock`` or a Unix socket is given.
        process_exception: gets the exception of an attempt to connect and returns None to try again
            or an exception to raise, for iterations;
            :func:`~websockets.asyncio.client.process_exception` unless given.
        open_timeout: seconds that connecting may take, redirects and proxies included; None for
            any.
        ping_interval: seconds between keepalive pings; None for no keepalive.
        ping_timeout: seconds to wait for a sign of life after such a ping; None for ever.
        close_timeout: seconds that closing may take; None for any.
        reconnect_delays: returns an iterator of the seconds to wait before one more attempt, for
            iterations; it is called anew after each success. When it ends, the error is raised.
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
            elsewhere than the URI says, ``sock`` for a socket that is connected already, ... Those
            for the connection to a proxy have ``proxy_`` before their name: ``proxy_ssl``,
            ``proxy_server_hostname``, ...; they have no effect without a proxy.

    Raises:
        InvalidURI: if the URI is not valid.
        InvalidProxy: if the URL of the proxy is not valid.
        OSError: if the TCP connection fails.
        InvalidHandshake: if the opening handshake fails; :exc:`~websockets.exceptions.ProxyError`
            if that with a proxy does.
        TimeoutError: if it takes too long.
        TypeError: if ``subprotocols`` is no sequence of strings, or a limit no number.
        ValueError: if a subprotocol is no token, ``compression`` is something else than the above,
            a limit makes no sense, or arguments for TLS do not go with the URI.
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
        check_settings(
            max_size=max_size,
            max_queue=max_queue,
            write_limit=write_limit,
            open_timeout=open_timeout,
            ping_interval=ping_interval,
            ping_timeout=ping_timeout,
            close_timeout=close_timeout,
        )
        extensions = apply_compression(compression, extensions, enable_client_permessage_deflate)
        if not self.ws_uri.secure and kwargs.get("ssl") is not None:
            raise ValueError("ssl argument is incompatible with a ws:// URI")
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
        # Where a redirect has come from and where it has led.
        self._redirected: tuple[str, WebSocketURI, WebSocketURI] | None = None
        self._is_elsewhere = False  # whether it has led to another origin

    # Connecting

    async def open_tcp_connection(self) -> ClientConnection:
        """Open the TCP or Unix connection, with TLS if need be and through a proxy if there is one.

        Returns:
            The connection, before its opening handshake.
        """
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

        is_unix = kwargs.pop("unix", False)
        proxy = self.proxy
        if is_unix or kwargs.get("sock") is not None:
            proxy = None
        elif proxy is True:
            proxy = get_proxy(ws_uri)
        if proxy is not None:
            return await self._open_through_proxy(parse_proxy(proxy), factory, kwargs)
        for name in [name for name in kwargs if name.startswith("proxy_")]:
            del kwargs[name]
        if is_unix:
            _, connection = await loop.create_unix_connection(factory, **kwargs)
        else:
            if kwargs.get("sock") is None:
                kwargs.setdefault("host", ws_uri.host)
                kwargs.setdefault("port", ws_uri.port)
            _, connection = await loop.create_connection(factory, **kwargs)
        return connection

    async def _open_through_proxy(
        self, proxy: Proxy, factory: Callable[[], ClientConnection], kwargs: dict[str, Any]
    ) -> ClientConnection:
        loop = asyncio.get_running_loop()
        host = kwargs.pop("host", self.ws_uri.host)
        port = kwargs.pop("port", self.ws_uri.port)
        proxy_kwargs = {
            name.removeprefix("proxy_"): kwargs.pop(name)
            for name in list(kwargs)
            if name.startswith("proxy_")
        }
        tls_kwargs = {name: kwargs.pop(name) for name in TLS_ARGUMENTS if name in kwargs}
        if not self.ws_uri.secure:
            for name, value in tls_kwargs.items():
                if value is not None:
                    raise ValueError(f"{name} is only meaningful with ssl")
        if proxy.scheme.startswith("socks"):
            transport, tunnel = await open_socks_tunnel(proxy, host, port, **kwargs)
        else:
            if proxy.scheme == "https":
                ssl = proxy_kwargs.setdefault("ssl", True)
                if not ssl:
                    raise ValueError(f"proxy_ssl={ssl} is incompatible with an https:// proxy")
                if ssl is True:
                    proxy_kwargs["ssl"] = default_ssl_context()
            elif proxy_kwargs.get("ssl") is not None:
                raise ValueError("proxy_ssl argument is incompatible with an http:// proxy")
            transport, tunnel = await open_http_tunnel(
                proxy, host, port, self.user_agent_header, **(kwargs | proxy_kwargs)
            )
        try:
            if self.ws_uri.secure:
                context = tls_kwargs.pop("ssl")
                transport = cast(
                    asyncio.Transport,
                    await loop.start_tls(transport, tunnel, context, **tls_kwargs),
                )
            connection = factory()
            tunnel.hand_over(transport, connection)
        except BaseException:
            transport.abort()
            raise
        return connection

    def process_redirect(self, exc: Exception) -> Exception | str:
        """Decide whether to follow a redirect.

        Override it to follow other redirects, or none. Headers with credentials do not reach
        another origin, whatever it returns.

        Args:
            exc: exception of the opening handshake, any one.

        Returns:
            The URI to connect to, or the exception to raise.

        Raises:
            InvalidURI: if the URI of the redirect is not valid.
            InvalidHeader: if there are several.
        """
        uri = redirect_target(self.uri, exc)
        if uri is None:
            return exc
        ws_uri = parse_uri(uri)
        shown = printable(without_password(uri))
        # What was meant to be encrypted stays so.
        if self.ws_uri.secure and not ws_uri.secure:
            return SecurityError(f"cannot follow redirect to non-secure URI {shown}")
        kwargs = self.create_connection_kwargs
        if kwargs.get("sock") is not None:
            return ValueError(f"cannot follow redirect to {shown} with a preexisting socket")
        if not is_same_origin(self.ws_uri, ws_uri):
            if kwargs.get("unix"):
                return ValueError(
                    f"cannot follow cross-origin redirect to {shown} with a Unix socket"
                )
            if kwargs.get("host") is not None or kwargs.get("port") is not None:
                return ValueError(
                    f"cannot follow cross-origin redirect to {shown} with an explicit host or port"
                )
        return uri

    def _follow_redirect(self, uri: str) -> None:
        before = self.uri, self.ws_uri
        if self._redirected is not None:
            before = self._redirected[:2]
        ws_uri = parse_uri(uri)
        if not is_same_origin(self.ws_uri, ws_uri):
            self._is_elsewhere = True
        self.uri, self.ws_uri = uri, ws_uri
        self._redirected = (*before, ws_uri)

    def _forget_redirects(self) -> None:
        """Go back to where redirects started: most hold once only (RFC 9110 section 15.4)."""
        if self._redirected is not None:
            uri, ws_uri, last = self._redirected
            if self.ws_uri is last:
                self.uri, self.ws_uri = uri, ws_uri
        self._redirected = None
        self._is_elsewhere = False

    def _max_attempts(self) -> int:
        return MAX_REDIRECTS

    async def _attempt(self) -> ClientConnection | None:
        """Connect once; return the connection, or None to try again, a redirect being followed."""
        try:
            connection = await self.open_tcp_connection()
        except UnicodeError as exc:
            # The resolver and TLS say so of a name that cannot be in the DNS.
            if is_domain_name(self.ws_uri.host):
                raise
            raise InvalidURI(self.uri, f"hostname isn't valid: {exc}") from exc
        try:
            headers = self.additional_headers
            if headers is not None and self._is_elsewhere:
                headers = without_credentials(headers)
            await self._handshake(connection, headers)
        except BaseException as exc:
            # There is nothing to wait for: TLS would take half a minute to close.
            connection.transport.abort()
            if not isinstance(exc, Exception):
                raise
            outcome = self.process_redirect(exc)
            if outcome is exc:
                raise
            if isinstance(outcome, Exception):
                raise outcome from exc
            self._follow_redirect(outcome)
            return None
        return connection

    async def _handshake(self, connection: Any, headers: HeadersLike | None) -> None:
        await connection.handshake(headers, self.user_agent_header)

    async def connect(self) -> ClientConnection:
        """Open the connection, within ``open_timeout``.

        Returns:
            The connection.

        Raises:
            SecurityError: if there are too many redirects.
            TimeoutError: if it takes too long.
        """
        self._forget_redirects()
        try:
            async with asyncio.timeout(self.open_timeout) as deadline:
                limit = self._max_attempts()
                for _ in range(limit):
                    connection = await self._attempt()
                    if connection is not None:
                        return connection
                raise SecurityError(f"more than {limit} redirects")
        except TimeoutError as exc:
            # TCP has its own patience; its error says so.
            if not deadline.expired():
                raise
            raise TimeoutError(Timeout.OPEN.value) from exc

    # Ways of calling

    def __await__(self) -> Generator[Any, None, ClientConnection]:
        return self.connect().__await__()

    async def __aenter__(self) -> ClientConnection:
        if hasattr(self, "connection"):
            raise RuntimeError("connect() isn't reentrant")
        self.connection = await self
        return self.connection

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self.connection.__aexit__(exc_type, exc_value, traceback)
        finally:
            del self.connection

    async def __aiter__(self) -> AsyncIterator[ClientConnection]:
        """Connect again and again."""
        delays: Iterator[float] | None = None
        while True:
            try:
                connection = await self.__aenter__()
            except Exception as exc:
                try:
                    error = self.process_exception(exc)
                except Exception as raised:
                    error = raised
                if error is exc:
                    raise
                if error is not None:
                    raise error from exc
                # RFC 6455 section 7.2.3.
                if delays is None:
                    delays = iter(self.reconnect_delays())
                delay = next(delays, None)
                if delay is None:
                    raise
                self.logger.info(
                    "connect failed; reconnecting in %.1f seconds: %s",
                    delay,
                    traceback.format_exception_only(exc)[0].strip(),
                )
                await asyncio.sleep(delay)
                continue
            delays = None
            try:
                yield connection
            except BaseException as exc:
                await self.__aexit__(type(exc), exc, exc.__traceback__)
                raise
            await self.__aexit__(None, None, None)


def unix_connect(path: PathLike | None = None, uri: str | None = None, **kwargs: Any) -> connect:
    """Connect to a WebSocket server on a Unix socket.

    Args:
        path: path of the socket.
        uri: URI for the handshake request; ``ws://localhost/``, or ``wss://localhost/`` with
            ``ssl``, unless given.
        **kwargs: arguments of :func:`connect`.

    Returns:
        What :func:`connect` returns: await it, or use it as an asynchronous context manager.
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
