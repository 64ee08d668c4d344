"""Connections through proxies on asyncio."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from ..client import add_reason
from ..exceptions import ProxyError
from ..proxy import Proxy, Tunnel

if TYPE_CHECKING:
    from .connection import Connection

__all__ = ["TunnelProtocol", "open_http_tunnel", "open_socks_tunnel"]

# python-socks gives up after a minute of its own; here open_timeout decides.
SOCKS_TIMEOUT = 24 * 3600


class TunnelProtocol(asyncio.Protocol):
    """Opens a tunnel through an HTTP proxy, and keeps its place until somebody takes it over.

    Args:
        tunnel: the opening of the tunnel; None if it is open.
    """

    def __init__(self, tunnel: Tunnel | None) -> None:
        self._tunnel = tunnel
        self._transport: asyncio.Transport
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # What has come since, when TLS has begun meanwhile.
        self._data = b""
        self._eof = False
        self._lost: tuple[Exception | None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._tunnel is None:
            self._set_opened()
        else:
            self._transport.write(self._tunnel.request.serialize())

    async def wait_opened(self) -> None:
        """Wait until the tunnel is open. Reading has stopped then.

        Raises:
            ProxyError: if the proxy refuses, does not speak HTTP, or is lost.
        """
        await self._opened

    def hand_over(self, transport: asyncio.Transport, connection: Connection) -> None:
        """Give a transport to a connection, and with it all that has come.

        Args:
            transport: transport of this protocol, or of TLS on top of it.
            connection: protocol that takes over.
        """
        transport.set_protocol(connection)
        connection.connection_made(transport)
        if self._data:
            connection.data_received(self._data)
        if self._eof:
            connection.eof_received()
        if self._lost is None:
            transport.resume_reading()
        else:
            connection.connection_lost(*self._lost)

    def data_received(self, data: bytes) -> None:
        if self._opened.done():
            self._data += data
        else:
            self._receive(data)

    def eof_received(self) -> None:
        if self._opened.done():
            self._eof = True
        else:
            self._receive(b"")

    def connection_lost(self, exc: Exception | None) -> None:
        if self._opened.done():
            self._lost = (exc,)
        else:
            self._receive(b"", exc)

    def _set_opened(self) -> None:
        # What comes now is for whoever takes over.
        self._transport.pause_reading()
        self._opened.set_result(None)

    def _receive(self, data: bytes, reason: Exception | None = None) -> None:
        assert self._tunnel is not None
        try:
            if self._tunnel.receive_data(data):
                self._set_opened()
        except ProxyError as exc:
            if reason is not None:
                add_reason(exc, reason)
            self._opened.set_exception(exc)
            # Nobody awaits it if connecting has been cancelled.
            self._opened.exception()


async def open_http_tunnel(
    proxy: Proxy, host: str, port: int, user_agent_header: str | None, **kwargs: Any
) -> tuple[asyncio.Transport, TunnelProtocol]:
    """Open a tunnel through an HTTP proxy.

    Args:
        proxy: the proxy, ``http`` or ``https``.
        host: where the tunnel leads.
        port: its port.
        user_agent_header: value of the ``User-Agent`` header; None for none.
        **kwargs: arguments of the event loop's ``create_connection()`` for the connection to the
            proxy, ``ssl`` among them if it is ``https``.

    Returns:
        The transport, and its present protocol.

    Raises:
        ProxyError: if the proxy refuses, or does not speak HTTP.
        OSError: if the connection to the proxy fails.
    """
    tunnel = Tunnel(proxy, host, port, user_agent_header)
    transport, protocol = await asyncio.get_running_loop().create_connection(
        lambda: TunnelProtocol(tunnel), proxy.host, proxy.port, **kwargs
    )
    try:
        await protocol.wait_opened()
    except BaseException:
        transport.abort()
        raise
    return transport, protocol


async def open_socks_tunnel(
    proxy: Proxy, host: str, port: int, **kwargs: Any
) -> tuple[asyncio.Transport, TunnelProtocol]:
    """Open a tunnel through a SOCKS proxy.

    Args:
        proxy: the proxy, ``socks4``, ``socks4a``, ``socks5`` or ``socks5h``.
        host: where the tunnel leads.
        port: its port.
        **kwargs: arguments of the event loop's ``create_connection()``.

    Returns:
        The transport, and its present protocol.

    Raises:
        ImportError: if python-socks is not installed.
        ProxyError: if the proxy refuses, or does not speak SOCKS.
        OSError: if the connection to the proxy fails, or a name does not resolve.
    """
    try:
        import python_socks
        from python_socks.async_.asyncio import Proxy as SocksProxy
    except ImportError as exc:
        raise ImportError(
            "connecting through a SOCKS proxy requires python-socks: "
            "pip install python-socks[asyncio]"
        ) from exc

    socks_type = python_socks.ProxyType.SOCKS5
    if proxy.scheme.startswith("socks4"):
        socks_type = python_socks.ProxyType.SOCKS4
    socks_proxy = SocksProxy(
        socks_type,
        proxy.host,
        proxy.port,
        proxy.username,
        proxy.password,
        rdns=proxy.scheme in ("socks4a", "socks5h"),
    )
    try:
        sock = await socks_proxy.connect(host, port, timeout=SOCKS_TIMEOUT)
    except OSError:
        raise
    except Exception as exc:
        raise ProxyError("failed to connect to SOCKS proxy") from exc
    try:
        return await asyncio.get_running_loop().create_connection(
            lambda: TunnelProtocol(None), sock=sock, **kwargs
        )
    except (TypeError, ValueError):
        # For wrong arguments. A transport, once there is one, closes its socket itself, a little
        # later: until then its descriptor must not become another socket's.
        sock.close()
        raise
