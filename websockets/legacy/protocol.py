"""The connection of the original API, the same for both sides, on the modern one.

One class frames, sends, receives and closes on both sides; ``is_client`` tells them apart. What it
does is done by :class:`~websockets.asyncio.connection.Connection`; here are the names, and the few
rules, that are the original API's own.
"""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections.abc import AsyncIterable, AsyncIterator, Collection, Iterable
from typing import Any, ClassVar

from ..asyncio.broadcast import broadcast as broadcast_to
from ..asyncio.connection import Connection
from ..datastructures import Headers
from ..exceptions import ConnectionClosed, InvalidState
from ..extensions.base import Extension
from ..frames import Close, CloseCode
from ..protocol import CLIENT, CLOSED, CONNECTING, OPEN, SERVER, Protocol, State
from ..session import Message
from ..typing import Data, DataLike, LoggerLike, Subprotocol

__all__ = ["WebSocketCommonProtocol"]


class WebSocketCommonProtocol(Connection):
    """A WebSocket connection, server's or client's, once the opening handshake is done.

    Args:
        logger: logger for this connection.
        ping_interval: seconds between keepalive pings; None for no keepalive.
        ping_timeout: seconds to wait for a sign of life after such a ping; None for ever.
        close_timeout: seconds that closing may take; 10 unless given.
        max_size: largest message to receive in bytes; None for no limit.
        max_queue: messages to hold until reading stops; None for no limit.
        read_limit: bytes that are read, and kept if the queue is full, at a time.
        write_limit: bytes in the write buffer at which :meth:`send` starts to wait.
        host: host that the connection was made to.
        port: port that the connection was made to.
        secure: whether it is over TLS.
        legacy_recv: have :meth:`recv` return None when the connection is closed. Deprecated.
        loop: ignored; the connection belongs to the running event loop. Deprecated.
        timeout: former name of ``close_timeout``. Deprecated.
    """

    #: Whether this is the client's side: it masks what it sends, and waits for the server to close
    #: the TCP connection (RFC 6455 sections 5.1 and 7.1.1).
    is_client: ClassVar[bool] = False
    side: ClassVar[str] = "undefined"

    def __init__(
        self,
        *,
        logger: LoggerLike | None = None,
        ping_interval: float | None = 20,
        ping_timeout: float | None = 20,
        close_timeout: float | None = None,
        max_size: int | None = 2**20,
        max_queue: int | None = 2**5,
        read_limit: int = 2**16,
        write_limit: int = 2**16,
        host: str | None = None,
        port: int | None = None,
        secure: bool | None = None,
        legacy_recv: bool = False,
        loop: asyncio.AbstractEventLoop | None = None,
        timeout: float | None = None,
    ) -> None:
        if legacy_recv:
            warnings.warn("legacy_recv is deprecated", DeprecationWarning, stacklevel=2)
        close_timeout = rename_timeout(close_timeout, timeout)
        warn_of_loop(loop)
        super().__init__(
            self._ws_create_protocol(max_size, logger),
            ping_interval=ping_interval,
            ping_timeout=ping_timeout,
            close_timeout=close_timeout,
            max_queue=max_queue,
            write_limit=write_limit,
        )
        # Limits
        self.max_queue = max_queue
        self.read_limit = read_limit
        self.write_limit = write_limit
        self._ws_buffer = self._ws_buffer[: max(read_limit, 1)]

        # Opening handshake
        self.path: str = ""
        self.request_headers: Headers
        self.response_headers: Headers
        self._host, self._port, self._secure = host, port, secure

        # Ending
        self.legacy_recv = legacy_recv
        # It lives from the opening handshake to the end of the connection.
        self.worker_task: asyncio.Task[None]

    def _ws_create_protocol(self, max_size: int | None, logger: LoggerLike | None) -> Protocol:
        return Protocol(
            CLIENT if self.is_client else SERVER,
            state=CONNECTING,
            max_size=max_size,
            logger=logger or logging.getLogger("websockets.protocol"),
        )

    # Attributes that the modern API has in another place, or not at all

    @property
    def transport(self) -> asyncio.Transport:
        """Transport of the connection."""
        return super().transport

    @transport.setter
    def transport(self, transport: asyncio.Transport) -> None:
        self._ws_transport = transport

    @property
    def state(self) -> State:
        """State of the connection."""
        return self.protocol.state

    @state.setter
    def state(self, state: State) -> None:
        self.protocol.state = state

    @property
    def open(self) -> bool:
        """Whether messages may be sent."""
        return self.protocol.state is OPEN

    @property
    def closed(self) -> bool:
        """Whether the connection is closed; neither this nor ``open`` is true on the way there."""
        return self.protocol.state is CLOSED

    @property
    def extensions(self) -> list[Extension]:
        """Extensions in use."""
        return self.protocol.extensions

    @extensions.setter
    def extensions(self, extensions: list[Extension]) -> None:
        self.protocol.extensions = extensions

    @property
    def subprotocol(self) -> Subprotocol | None:
        """Subprotocol that was negotiated, None if there is none."""
        return self.protocol.subprotocol

    @subprotocol.setter
    def subprotocol(self, subprotocol: Subprotocol | None) -> None:
        self.protocol.subprotocol = subprotocol

    @property
    def close_rcvd(self) -> Close | None:
        """Close code and reason of the peer, None if it has sent no close frame."""
        return self.protocol.close_rcvd

    @property
    def close_sent(self) -> Close | None:
        """Close code and reason of this side, None if no close frame was sent."""
        return self.protocol.close_sent

    @property
    def messages(self) -> Collection[Message]:
        """Messages that were received and not yet taken by :meth:`recv`."""
        return self._ws_session.messages

    @property
    def max_size(self) -> int | None:
        """Largest message to receive in bytes, None for no limit; may be set at any time."""
        return self.protocol.max_message_size

    @max_size.setter
    def max_size(self, max_size: int | None) -> None:
        self.protocol.max_message_size = max_size

    @property
    def local_address(self) -> Any:
        """Local address of the connection, None before there is one."""
        return None if self._ws_transport is None else super().local_address

    @property
    def remote_address(self) -> Any:
        """Remote address of the connection, None before there is one."""
        return None if self._ws_transport is None else super().remote_address

    @property
    def host(self) -> str | None:
        """Host that the connection was made to. Deprecated."""
        name = "remote_address" if self.is_client else "local_address"
        warnings.warn(f"use {name}[0] instead of host", DeprecationWarning, stacklevel=2)
        return self._host

    @property
    def port(self) -> int | None:
        """Port that the connection was made to. Deprecated."""
        name = "remote_address" if self.is_client else "local_address"
        warnings.warn(f"use {name}[1] instead of port", DeprecationWarning, stacklevel=2)
        return self._port

    @property
    def secure(self) -> bool | None:
        """Whether the connection is over TLS. Deprecated."""
        warnings.warn("don't use secure", DeprecationWarning, stacklevel=2)
        return self._secure

    # Public methods

    async def recv(self) -> Data:  # type: ignore[override]
        """Receive the next message.

        Cancelling it is safe: no message is lost.

        Returns:
            A string from a text message, bytes from a binary one.

        Raises:
            ConnectionClosed: if the connection is closed and all messages have been received.
            RuntimeError: if two coroutines receive at the same time.
        """
        if self.legacy_recv:
            try:
                return await self._ws_next_message()
            except ConnectionClosed:
                return None  # type: ignore[return-value]
        return await self._ws_next_message()

    _ws_recv = recv  # type: ignore[assignment]

    def __aiter__(self) -> AsyncIterator[Data]:
        """Iterate over the messages, until the connection is closed with code 1000, 1001 or 1005.

        Raises:
            ConnectionClosedError: if it is closed in another way.
        """
        return self._ws_iterate() if self.legacy_recv else super().__aiter__()

    async def _ws_iterate(self) -> AsyncIterator[Data]:
        messages: AsyncIterator[Data | None] = super()._ws_iterate()
        async for message in messages:
            if message is None:  # of legacy_recv: it is closed, and would be for ever
                return
            yield message

    async def send(  # type: ignore[override]
        self, message: DataLike | Iterable[DataLike] | AsyncIterable[DataLike]
    ) -> None:
        """Send a message, as :meth:`websockets.asyncio.connection.Connection.send` does.

        Args:
            message: a string; bytes, a bytearray or a memoryview; or an iterable or asynchronous
                iterable of them, sent as the fragments of one message.

        Raises:
            ConnectionClosed: if the connection is closed.
            TypeError: if the type of the message is not supported.
        """
        if self._ws_send_message(message):
            if self._ws_write_paused:  # by this write
                await self._ws_drain()
        else:
            await super().send(message)

    async def wait_for_connection_lost(self) -> bool:
        """Wait until the TCP connection is closed; return whether it is, which is always so."""
        await self._ws_wait_for_loss()
        return True

    async def ensure_open(self) -> None:
        """Check that the connection is open.

        Raises:
            ConnectionClosed: if it is closed, or closing: then when it is closed.
            InvalidState: if the opening handshake is not over.
        """
        self._ws_check_established()
        if self.protocol.state is not OPEN:
            await self._ws_wait_for_loss()
            raise self.close_exc

    def _ws_check_established(self) -> None:
        if self.protocol.state is CONNECTING:
            raise InvalidState("WebSocket connection isn't established yet")

    async def _ws_clear_to_send(self, control: bool = False, fragment: bool = False) -> None:
        self._ws_check_established()
        await super()._ws_clear_to_send(control, fragment)

    def connection_closed_exc(self) -> ConnectionClosed:
        """Return the exception that says how the connection, which must be closed, ended."""
        return self.close_exc

    # What those build on who do the opening handshake themselves

    def connection_open(self) -> None:
        """Go on with frames, the opening handshake being over."""
        if self.protocol.state is not OPEN:
            self.protocol.state = OPEN
        self._ws_handshake_done()

    def _ws_handshake_done(self) -> None:
        self.worker_task = self.loop.create_task(self.run())
        super()._ws_handshake_done()

    def _ws_write_eof(self) -> None:
        # The server closes the TCP connection at once, unless what the peer still sends might have
        # the kernel throw away what we have sent. The modern one waits for the peer's end, too.
        if self.protocol.close_rcvd is not None or self._ws_handshaking:
            self._ws_close_transport()
        else:
            super()._ws_write_eof()

    async def run(self) -> None:
        """Wait for the connection to terminate; it is what ``worker_task`` does."""
        await self._ws_wait_for_loss()

    def fail_connection(self, code: int = CloseCode.ABNORMAL_CLOSURE, reason: str = "") -> None:
        """Fail the connection (RFC 6455 section 7.1.7), without waiting.

        Args:
            code: close code; 1006 to send no close frame.
            reason: close reason, at most 123 bytes in UTF-8.
        """
        if self._ws_lost or self._ws_transport is None:
            return
        self.protocol.fail(code, reason)
        self._ws_transmit()
        if self.protocol.close_sent is None:
            # The peer has not been told: there is nothing to wait for.
            self._ws_close_transport()


def broadcast(
    websockets: Iterable[WebSocketCommonProtocol], message: DataLike, raise_exceptions: bool = False
) -> None:
    """Send a message to several connections, as :func:`websockets.asyncio.server.broadcast` does.

    Args:
        websockets, message: connections, and what to send.
        raise_exceptions: whether to raise what went wrong, as an exception group.
    """
    broadcast_to(websockets, message, raise_exceptions=raise_exceptions)


def rename_timeout(close_timeout: float | None, timeout: float | None) -> float:
    """Return the close timeout, which has had another name."""
    if timeout is not None:
        warnings.warn("rename timeout to close_timeout", DeprecationWarning, stacklevel=3)
    if close_timeout is None:
        close_timeout = 10 if timeout is None else timeout
    return close_timeout


def warn_of_loop(loop: asyncio.AbstractEventLoop | None) -> None:
    if loop is not None:
        warnings.warn("remove loop argument", DeprecationWarning, stacklevel=3)
