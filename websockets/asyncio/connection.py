"""The connection on asyncio, the same for both sides: waiting, waking, reading and writing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import weakref
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, overload

from ..exceptions import ConcurrencyError, ConnectionClosed, ConnectionClosedOK
from ..frames import BINARY, CONT, TEXT, CloseCode, Opcode
from ..protocol import OPEN, Protocol, State
from ..session import FragmentDecoder, Incoming, Session, Timeout, convert
from ..settings import write_limits
from ..typing import BytesLike, Data, DataLike, LoggerLike, Subprotocol
from .broadcast import broadcast
from .channel import DIRECT, Channel, wake

if TYPE_CHECKING:
    import uuid

    from ..http11 import Request, Response

__all__ = ["Connection", "broadcast"]

# How many buffers the kernel takes in one call, on any system.
MAX_VECTOR = 16

# Transports that hand bytes to a socket as they are: their socket may be written to directly.
PLAIN_TRANSPORTS = frozenset(
    {
        "asyncio.selector_events._SelectorSocketTransport",
        "uvloop.loop.TCPTransport",
        "uvloop.loop.UnixTransport",
    }
)


class Connection(Channel, asyncio.BufferedProtocol):
    """A WebSocket connection: what clients and servers have in common.

    Iterate over it to receive messages::

        async for message in websocket:
            ...

    Args:
        protocol: state machine of this side.
        ping_interval: seconds between keepalive pings; None for no keepalive.
        ping_timeout: seconds to wait for a sign of life after such a ping; None for ever.
        close_timeout: seconds that closing may take; None for any.
        max_queue: messages to hold until reading stops, or a tuple of that and of the number at
            which it goes on; None for no limit.
        write_limit: bytes in the write buffer at which :meth:`send` starts to wait, or a tuple of
            that and of the number at which it goes on.
    """

    # More fields than CPython's dictionaries of instances can share the keys of; users' own
    # attributes have a dictionary all the same.
    __slots__ = (
        "__dict__",
        "__weakref__",
        "_ws_continuing",
        "_ws_fragmenting",
        "_ws_lost_exc",
        "_ws_lost_waiters",
        "_ws_timer",
        "_ws_timer_deadline",
        "_ws_write_waiters",
        "request",
        "response",
        "write_limit_low",
    )

    def __init__(
        self,
        protocol: Protocol,
        *,
        ping_interval: float | None = 20,
        ping_timeout: float | None = 20,
        close_timeout: float | None = 10,
        max_queue: int | None | tuple[int | None, int | None] = 16,
        write_limit: int | tuple[int, int | None] = 2**15,
    ) -> None:
        session: Session[asyncio.Future[float]] = Session(
            protocol,
            ping_interval=ping_interval,
            ping_timeout=ping_timeout,
            close_timeout=close_timeout,
            max_queue=max_queue,
        )
        high, self.write_limit_low = write_limits(write_limit)
        super().__init__(protocol, session, high)

        # Identity
        # A proxy, for a closed connection to be freed at once rather than by the cyclic collector.
        protocol.tag_logs(weakref.proxy(self))
        #: Opening handshake request, None before it.
        self.request: Request | None = None
        #: Opening handshake response, None before it.
        self.response: Response | None = None

        # Receiving
        self._ws_continuing = False  # whether the next batch is scheduled

        # Sending
        self._ws_write_waiters: list[asyncio.Future[None]] = []
        self._ws_fragmenting: asyncio.Future[None] | None = None  # done when the message has ended

        # Ending
        self._ws_timer: asyncio.TimerHandle | None = None
        self._ws_timer_deadline = 0.0
        self._ws_lost_waiters: list[asyncio.Future[None]] = []
        self._ws_lost_exc: BaseException | None = None  # why the connection was lost

    # Public attributes

    @property
    def id(self) -> uuid.UUID:
        """Unique identifier of the connection, useful in logs."""
        return self.protocol.id

    @id.setter
    def id(self, id: uuid.UUID) -> None:
        self.protocol.id = id

    @property
    def logger(self) -> LoggerLike:
        """Logger of the connection; its records have the connection in ``websocket``."""
        return self.protocol.logger

    @logger.setter
    def logger(self, logger: LoggerLike) -> None:
        self.protocol.logger = logger

    @property
    def debug(self) -> bool:
        """Whether frames are logged."""
        return self.protocol.debug

    @property
    def transport(self) -> asyncio.Transport:
        """Transport of the connection."""
        # Whoever writes to it writes behind what was sent before.
        if self._ws_corked:
            self._ws_flush()
        self._ws_exposed = True
        return self._ws_transport

    @property
    def latency(self) -> float:
        """Seconds from the last ping that was answered to its pong; 0 before the first."""
        return self._ws_session.pings.latency

    @property
    def ping_interval(self) -> float | None:
        """Seconds between keepalive pings; None turns them off."""
        return self._ws_session.keepalive.interval

    @ping_interval.setter
    def ping_interval(self, ping_interval: float | None) -> None:
        self._ws_session.keepalive.interval = ping_interval

    @property
    def ping_timeout(self) -> float | None:
        """Seconds to wait for a sign of life after a keepalive ping; None for ever."""
        return self._ws_session.keepalive.timeout

    @ping_timeout.setter
    def ping_timeout(self, ping_timeout: float | None) -> None:
        self._ws_session.keepalive.timeout = ping_timeout

    @property
    def close_timeout(self) -> float | None:
        """Seconds that closing may take; None for any."""
        return self._ws_session.close_timeout

    @close_timeout.setter
    def close_timeout(self, close_timeout: float | None) -> None:
        self._ws_session.close_timeout = close_timeout

    @property
    def local_address(self) -> Any:
        """Local address of the connection: for IPv4, a tuple of host and port."""
        return self._ws_transport.get_extra_info("sockname")

    @property
    def remote_address(self) -> Any:
        """Remote address of the connection: for IPv4, a tuple of host and port."""
        return self._ws_transport.get_extra_info("peername")

    @property
    def state(self) -> State:
        """State of the connection (RFC 6455 sections 4.1 and 7.1).

        There is seldom a reason to look: call :meth:`recv` or :meth:`send` and be ready for
        :exc:`~websockets.exceptions.ConnectionClosed`.
        """
        return self.protocol.state

    @property
    def subprotocol(self) -> Subprotocol | None:
        """Subprotocol that was negotiated, None if there is none (RFC 6455 section 1.9)."""
        return self.protocol.subprotocol

    @property
    def close_code(self) -> int | None:
        """Close code of the peer, None while the connection is not closed (section 7.1.5)."""
        return self.protocol.close_code

    @property
    def close_reason(self) -> str | None:
        """Close reason of the peer, None while the connection is not closed (section 7.1.6)."""
        return self.protocol.close_reason

    @property
    def close_exc(self) -> ConnectionClosed:
        """Exception that says how the connection ended, its cause being why.

        Raises:
            AssertionError: if the connection is not closed.
        """
        exc = self.protocol.close_exc
        exc.__cause__ = self._ws_lost_exc
        return exc

    # Public methods

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc_type is None:
            await self.close()
        else:
            await self.close(CloseCode.INTERNAL_ERROR)

    def __aiter__(self) -> AsyncIterator[Data]:
        """Iterate over the messages.

        The iteration ends when the connection is closed with code 1000, 1001 or 1005.

        Raises:
            ConnectionClosedError: if it is closed in another way.
        """
        # vars(self) would make a dictionary, and every attribute slower.
        if getattr(self.recv, "__func__", None) is not type(self)._ws_recv:
            return self._ws_iterate()
        return self

    async def _ws_iterate(self) -> AsyncIterator[Data]:
        """Iterate over what a subclass, or a test that replaced it, makes of :meth:`recv`."""
        with contextlib.suppress(ConnectionClosedOK):
            while True:
                yield await self.recv()

    @overload
    async def recv(self, decode: Literal[True]) -> str: ...

    @overload
    async def recv(self, decode: Literal[False]) -> bytes: ...

    @overload
    async def recv(self, decode: bool | None = None) -> Data: ...

    async def recv(self, decode: bool | None = None) -> Data:
        """Receive the next message.

        Cancelling it is safe: no message is lost.

        Args:
            decode: None for strings from text messages and bytes from binary ones, True for strings
                in any case, False for bytes.

        Returns:
            A string or bytes.

        Raises:
            ConnectionClosed: if the connection is closed and all messages have been received.
                The connection is failed with code 1007 if ``decode`` is True and a binary message
                is not UTF-8; the cause is the :exc:`UnicodeDecodeError`.
            ConcurrencyError: if two coroutines receive at the same time.
        """
        message = await self._ws_next_message()
        if decode is None:
            return message
        try:
            return convert(message, decode)
        except UnicodeDecodeError as exc:
            await self._ws_fail_decoding(exc)
            raise self.close_exc from exc

    _ws_recv = recv  # the same, unless a subclass has its own, or a test replaces it

    @overload
    def recv_streaming(self, decode: Literal[True]) -> AsyncIterator[str]: ...

    @overload
    def recv_streaming(self, decode: Literal[False]) -> AsyncIterator[bytes]: ...

    @overload
    def recv_streaming(self, decode: bool | None = None) -> AsyncIterator[Data]: ...

    async def recv_streaming(self, decode: bool | None = None) -> AsyncIterator[Data]:
        """Receive the next message, fragment by fragment as they arrive.

        After the iteration has begun, it must go on to the end of the message, or nothing can be
        received any more.

        Args:
            decode: as in :meth:`recv`; characters that fragments cut are put together.

        Yields:
            Strings or bytes.

        Raises:
            ConnectionClosed: if the connection is closed before the message is complete, or failed
                as in :meth:`recv`.
            ConcurrencyError: if two coroutines receive at the same time, or an earlier message was
                left unfinished.
        """
        session, messages = self._ws_session, self._ws_messages
        if self._ws_is_receiving():
            raise self._ws_concurrency_error("recv_streaming")
        while not messages:
            if self._ws_lost:
                raise self.close_exc
            await self._ws_wait("recv_streaming")
        message = messages.popleft()
        if session.stopped:
            self._ws_refill()
        if type(message) is not Incoming:
            try:
                whole = convert(message, decode)  # type: ignore[arg-type]
            except UnicodeDecodeError as exc:
                await self._ws_fail_decoding(exc)
                raise self.close_exc from exc
            yield whole
            return
        message.taken = True
        decoder = FragmentDecoder(message.text, decode)
        final = False
        while not final:
            while not message:
                if self._ws_lost:
                    session.receiving = None
                    raise self.close_exc
                await self._ws_wait("recv_streaming")
            data = message.take()
            final = message.complete and not message
            # The message has left the queue: only this iteration can finish it.
            session.receiving = None if final else "recv_streaming"
            if session.stopped:
                self._ws_refill()
            try:
                fragment = decoder.convert(data, final)
            except UnicodeDecodeError as exc:
                await self._ws_fail_decoding(exc)
                raise self.close_exc from exc
            yield fragment

    async def send(
        self,
        message: DataLike | Iterable[DataLike] | AsyncIterable[DataLike],
        *,
        text: bool | None = None,
        compress: bool | None = None,
    ) -> None:
        """Send a message.

        It waits while the write buffer is above its limit. When it is cancelled, the message was
        sent whole or not at all, unless it is an iterable: then the connection is failed with code
        1011, as a message that was begun cannot be taken back.

        Args:
            message: a string, sent as a text message (RFC 6455 section 5.6); bytes, a bytearray or
                a memoryview, sent as a binary message; or an iterable or asynchronous iterable of
                strings, or of bytes-like objects, sent as the fragments of one message.
            text: True to send bytes-like objects as text, which must be UTF-8; False to send
                strings as binary messages, encoded to UTF-8.
            compress: True or False to compress the message or not, if permessage-deflate was
                negotiated; None to do so unless the message is too small to be worth it.

        Raises:
            ConnectionClosed: if the connection is closed.
            TypeError: if the type of the message is not supported.
        """
        if text is None and compress is None and self._ws_send_message(message):
            if self._ws_write_paused:  # by this write
                await self._ws_drain()
            return
        if isinstance(message, (str, bytes, bytearray, memoryview)):
            opcode, data = to_payload(message, text)
            await self._ws_clear_to_send()
            self._ws_send_frame(opcode, data, True, compress)
            if self._ws_write_paused:
                await self._ws_drain()
        elif isinstance(message, Mapping):
            # Only its keys would be sent, which is hardly what is meant.
            raise TypeError("data is a dict-like object")
        elif isinstance(message, AsyncIterable):
            await self._ws_send_fragments(aiter(message), text, compress, "async iterable")
        else:
            await self._ws_send_fragments(async_iterator(message), text, compress, "iterable")

    async def ping(self, data: DataLike | None = None) -> Awaitable[float]:
        """Send a ping (RFC 6455 section 5.5.2).

        Args:
            data: payload of at most 125 bytes; a string is encoded to UTF-8. Random bytes if None.

        Returns:
            A future, done when the pong to this or a later ping arrives; its result is the latency
            in seconds. There is no need to await it::

                pong = await websocket.ping()
                latency = await pong

        Raises:
            ConnectionClosed: if the connection is closed.
            ConcurrencyError: if a ping with the same payload waits for its pong.
            ProtocolError: if the payload is too long.
            TypeError: if it is neither a string nor bytes-like.
        """
        payload = None if data is None else to_bytes(data)
        await self._ws_clear_to_send(control=True)
        payload = self._ws_session.pings.choose(payload)
        self.protocol.send_ping(payload)
        waiter: asyncio.Future[float] = self.loop.create_future()
        self._ws_session.pings.add(payload, waiter, self.loop.time())
        self._ws_transmit()
        return waiter

    async def pong(self, data: DataLike = b"") -> None:
        """Send a pong that answers no ping, a one-way sign of life (RFC 6455 section 5.5.3).

        Args:
            data: payload of at most 125 bytes; a string is encoded to UTF-8.

        Raises:
            ConnectionClosed: if the connection is closed.
            ProtocolError: if the payload is too long.
            TypeError: if it is neither a string nor bytes-like.
        """
        payload = to_bytes(data)
        await self._ws_clear_to_send(control=True)
        self.protocol.send_pong(payload)
        self._ws_transmit()

    async def close(self, code: int = CloseCode.NORMAL_CLOSURE, reason: str = "") -> None:
        """Close the connection, with a closing handshake (RFC 6455 section 7.1.2), and wait for it.

        It takes ``close_timeout`` at most. Closing again has no effect. Messages in the queue can
        still be received afterwards. When it is cancelled, the connection is closed all the same.

        Args:
            code: close code.
            reason: close reason, at most 123 bytes in UTF-8.

        Raises:
            ProtocolError: if the code may not be sent or the reason is too long.
        """
        if self.protocol.state is OPEN:
            if self._ws_fragmenting is not None:
                self.protocol.fail(CloseCode.INTERNAL_ERROR, "close during fragmented message")
            elif not self.protocol.eof_sent:
                self.protocol.send_close(code, reason)
            self._ws_transmit()
        # The peer's close frame may be behind messages for which there is no room.
        self._ws_session.dropping = True
        if self._ws_session.stopped:
            self._ws_refill()
        await self._ws_wait_for_loss()

    async def wait_closed(self) -> None:
        """Wait until the connection is closed. It does not close it."""
        await self._ws_wait_for_loss()

    # Waiting to receive

    async def _ws_receive_message(self) -> Data:
        """Receive the next message, whatever it takes."""
        session = self._ws_session
        if self._ws_is_receiving():
            raise self._ws_concurrency_error("recv")
        while not session.ready():
            if self._ws_lost:
                raise self.close_exc
            await self._ws_wait("recv")
        message = self._ws_messages.popleft()
        if session.stopped:
            self._ws_refill()
        return message.take_all() if type(message) is Incoming else message  # type: ignore[return-value]

    async def _ws_fail_decoding(self, exc: UnicodeDecodeError) -> None:
        """Fail the connection, as the peer did not send the text that is asked for."""
        self._ws_set_lost_exc(exc)
        self._ws_session.receiving = None
        if self.protocol.state is OPEN:
            self.protocol.fail_parsing(exc)
        await self._ws_wait_for_loss()

    def _ws_is_receiving(self) -> bool:
        """Whether a coroutine is receiving, or has left a message unfinished."""
        return self._ws_waiter is not None or self._ws_session.receiving is not None

    def _ws_concurrency_error(self, method: str) -> ConcurrencyError:
        return ConcurrencyError(
            f"cannot call {method} while another coroutine is already running "
            "recv or recv_streaming"
        )

    async def _ws_wait(self, method: str) -> None:
        """Wait until something has arrived, or the connection is lost."""
        session = self._ws_session
        before, session.receiving = session.receiving, method
        if session.stopped:
            # It may have stopped for fragments of the very message that is awaited.
            self._ws_refill()
        self._ws_waiter = waiter = self.loop.create_future()
        try:
            await waiter
        finally:
            self._ws_waiter = None
            session.receiving = before

    # Receiving

    def data_received(self, data: BytesLike) -> None:
        """Take bytes from a transport that does not receive into buffers."""
        if self._ws_handshaking:
            self._ws_receive_handshake(bytes(data))
        elif not self.protocol.ended:
            self._ws_reader.feed(data)
            self._ws_heard = True
            self._ws_receive()
        elif self.protocol.writes:  # the application has failed it through its protocol
            self._ws_act()

    def _ws_receive_handshake(self, data: bytes) -> None:
        protocol = self.protocol
        if protocol.handshake_parser is not None:
            protocol.handshake_parser.feed(data)
            protocol.receive_handshake()
            self._ws_transmit()
            self._ws_process_handshake()
        elif not protocol.ended:
            # Frames that come before our response wait for it, and so does what is behind them.
            self._ws_reader.feed(data)
            self._ws_reading_paused = True
            self._ws_transport.pause_reading()

    def _ws_process_handshake(self) -> None:
        """Go on with the opening handshake, of which something has come. Each side has its own."""
        raise NotImplementedError

    def _ws_handshake_done(self) -> None:
        """Go on with frames, some of which may have come with the handshake."""
        self._ws_handshaking = False
        self._ws_session.open_deadline = None
        self._ws_session.keepalive.start(self.loop.time())
        self._ws_arm_timer()
        if self._ws_reader.in_frame or self._ws_reading_paused:
            # In the next turn of the event loop, the application may be waiting for them.
            self._ws_continuing = True
            self.loop.call_soon(self._ws_continue)

    def _ws_refill(self) -> None:
        """Go on reading frames, which had stopped, when the messages taken had their effect."""
        if not self._ws_in_batch and not self._ws_continuing and self._ws_session.drained():
            self._ws_continuing = True
            self.loop.call_soon(self._ws_continue)

    def _ws_yield(self) -> None:
        """Let other connections have their turn, where the event loop would read on."""
        if not self._ws_reading_paused and not self._ws_continuing and not self._ws_lost:
            # The application may have paused reading itself.
            if not self._ws_transport.is_closing() and self._ws_transport.is_reading():
                self._ws_reading_paused = self._ws_continuing = True
                self._ws_transport.pause_reading()
                self.loop.call_soon(self._ws_continue)

    def _ws_settle(self, spent: bool) -> None:
        """Stop or resume reading from the transport, now that frames have been read.

        Args:
            spent: whether as many were read as may be in one callback.
        """
        if self._ws_lost or self._ws_transport.is_closing():
            return
        session = self._ws_session
        if session.stopped and spent and not session.full() and not self._ws_continuing:
            self._ws_continuing = True
            self.loop.call_soon(self._ws_continue)
        if session.stopped != self._ws_reading_paused:
            self._ws_reading_paused = session.stopped
            if session.stopped:
                self._ws_transport.pause_reading()
            else:
                # The peer's silence counts from now on.
                session.heard = True
                self._ws_transport.resume_reading()

    def _ws_continue(self) -> None:
        """Go on with what has arrived, other connections having had their turn."""
        self._ws_continuing = False
        try:
            self._ws_receive()
        except Exception as exc:
            # As transports do with what their callbacks raise.
            self._ws_set_lost_exc(exc)
            self._ws_transport.abort()
            raise

    def _ws_act(self) -> None:
        """Write the protocol's answers, and hand pongs to those who wait for them."""
        if self.protocol.writes:
            self._ws_transmit()
        if self._ws_session.pongs:
            keepalive = self._ws_session.keepalive
            awaited = keepalive.ping
            for waiter, latency in self._ws_session.acknowledge(self.loop.time()):
                if not waiter.done():
                    waiter.set_result(latency)
            if self.debug and keepalive.ping is not awaited:
                self.logger.debug("% received keepalive pong")
            # The next keepalive ping may be due before the deadline of the one that was answered.
            self._ws_arm_timer()

    # Waiting to send

    async def _ws_clear_to_send(self, control: bool = False, fragment: bool = False) -> None:
        """Wait until a frame may be sent.

        Args:
            control: whether it is a control frame, which may come between fragments.
            fragment: whether it continues the message that is being sent.

        Raises:
            ConnectionClosed: if the connection is closed, or closes meanwhile.
        """
        while True:
            if self.protocol.state is not OPEN or self.protocol.eof_sent:
                await self._ws_wait_for_loss()
                raise self.close_exc
            if self._ws_fragmenting is not None and not control and not fragment:
                await asyncio.shield(self._ws_fragmenting)
            elif self._ws_write_paused:
                await self._ws_drain()
            else:
                return

    async def _ws_drain(self) -> None:
        """Wait until the write buffer is below its limit.

        Raises:
            ConnectionClosed: if the connection is lost meanwhile.
        """
        waiter = self.loop.create_future()
        self._ws_write_waiters.append(waiter)
        try:
            await waiter
        finally:
            if waiter in self._ws_write_waiters:
                self._ws_write_waiters.remove(waiter)
        if self._ws_lost:
            raise self.close_exc

    async def _ws_send_fragments(
        self,
        chunks: AsyncIterator[DataLike],
        text: bool | None,
        compress: bool | None,
        kind: str,
    ) -> None:
        """Send the items of an iterator, of that kind, as the fragments of one message."""
        try:
            chunk = await anext(chunks)
        except StopAsyncIteration:
            return
        expected = str if isinstance(chunk, str) else (bytes, bytearray, memoryview)
        if not isinstance(chunk, expected):
            raise TypeError(f"{kind} must contain bytes or str")
        opcode, data = to_payload(chunk, text)
        await self._ws_clear_to_send()
        done = self._ws_fragmenting = self.loop.create_future()
        try:
            self._ws_send_frame(opcode, data, False, compress)
            async for chunk in chunks:
                if not isinstance(chunk, expected):
                    raise TypeError(f"{kind} must contain uniform types")
                await self._ws_clear_to_send(fragment=True)
                self._ws_send_frame(CONT, to_payload(chunk, text)[1], False)
            await self._ws_clear_to_send(fragment=True)
            self._ws_send_frame(CONT, b"", True)
        except ConnectionClosed:
            raise
        except BaseException:
            # The peer has a part of the message and will not have the rest.
            if self.protocol.state is OPEN:
                self.protocol.fail(CloseCode.INTERNAL_ERROR, "error in fragmented message")
                self._ws_transmit()
            raise
        finally:
            self._ws_fragmenting = None
            release(done)
        if self._ws_write_paused:
            await self._ws_drain()

    # Sending

    def _ws_send_frame(
        self, opcode: Opcode, data: BytesLike, fin: bool, compress: bool | None = None
    ) -> None:
        if opcode is CONT:
            self.protocol.send_continuation(data, fin)
        elif opcode is TEXT:
            self.protocol.send_text(data, fin, compress=compress)
        else:
            self.protocol.send_binary(data, fin, compress=compress)
        chunks = self.protocol.data_to_send()
        if len(chunks) == 1:
            self._ws_write(chunks[0])
        else:
            self._ws_write_large(chunks)

    def _ws_write_large(self, chunks: Sequence[BytesLike]) -> None:
        """Write a header and a large payload.

        While messages are delivered, one may be held back: it is not copied, and leaves together
        with what comes next.
        """
        hold = self._ws_in_batch and self._ws_corked_size < self.write_limit_high
        self._ws_corked += chunks
        self._ws_corked_size += sum(map(len, chunks))
        if not hold:
            self._ws_flush()

    def _ws_write_chunks(self, chunks: list[BytesLike]) -> None:
        """Do what ``_ws_write_now()`` does, without joining what is large."""
        written = 0
        if self._ws_is_direct():
            with contextlib.suppress(OSError):
                written = os.writev(self._ws_fd, chunks[:MAX_VECTOR])
        for chunk in chunks:
            if written < len(chunk):
                self._ws_write_exposed(memoryview(chunk)[written:] if written else chunk)
            written = max(written - len(chunk), 0)

    def _ws_write_exposed(self, data: BytesLike) -> None:
        """Have a transport write that the application has, too, or that may have ended."""
        if self._ws_transport.is_closing():
            # Senders wait for the end: in a loop that does nothing else, they would never let the
            # event loop come to it.
            self._ws_write_paused = True
        else:
            try:
                self._ws_transport.write(data)
            except RuntimeError as exc:
                self._ws_set_lost_exc(exc)
                self._ws_transport.abort()

    def _ws_transmit(self) -> None:
        """Write what the protocol has queued, control frames among it, at once and in order."""
        eof = False
        for data in self.protocol.data_to_send():
            if data:
                self._ws_corked.append(data)
                self._ws_corked_size += len(data)
            else:
                eof = True
        if self._ws_corked:
            self._ws_flush()
        if eof and not self._ws_lost:
            self._ws_fd = -1
            self._ws_write_eof()
        if eof or self.protocol.close_expected():
            self._ws_start_closing()

    def _ws_start_closing(self) -> None:
        """Give the end of the connection a deadline, and go on reading if that had stopped."""
        if self._ws_session.close_deadline is None:
            self._ws_session.start_closing(self.loop.time())
            self._ws_arm_timer()
            if self._ws_session.stopped:
                self._ws_refill()

    def _ws_write_eof(self) -> None:
        if self._ws_transport.is_closing():
            return
        if self._ws_transport.can_write_eof():
            if self.debug:
                self.logger.debug("x half-closing TCP connection")
            try:
                self._ws_transport.write_eof()
            except OSError:
                # The peer has reset the connection, and the event loop does not know yet.
                self._ws_transport.abort()
        else:
            # TLS closes both ways.
            if self.debug:
                self.logger.debug("x closing TCP connection")
            self._ws_close_transport()

    def _ws_close_transport(self) -> None:
        # Over TLS, closing twice would take away the means to abort.
        if not self._ws_transport.is_closing():
            self._ws_transport.close()

    def pause_writing(self) -> None:
        self._ws_write_paused = True
        self.protocol.hold_pongs(True)

    def resume_writing(self) -> None:
        self._ws_write_paused = False
        self.protocol.hold_pongs(False)
        if self.protocol.writes:
            self._ws_transmit()
        self._ws_wake_writers()

    def _ws_wake_writers(self) -> None:
        for waiter in self._ws_write_waiters:
            release(waiter)
        self._ws_write_waiters.clear()

    # Time

    def _ws_arm_timer(self) -> None:
        """Make sure that the one timer runs at the next deadline, or earlier."""
        deadline = self._ws_session.next_deadline()
        if deadline is None or self._ws_lost:
            return
        if self._ws_timer is not None:
            if self._ws_timer_deadline <= deadline:
                return
            self._ws_timer.cancel()
        self._ws_timer_deadline = deadline
        self._ws_timer = self.loop.call_at(deadline, self._ws_on_timer)

    def _ws_on_timer(self) -> None:
        self._ws_timer = None
        now = self.loop.time()
        if self._ws_heard:
            self._ws_session.heard, self._ws_heard = True, False
        if self.protocol.writes:
            # The application has failed the connection through its protocol.
            self._ws_transmit()
        unwritten = self._ws_transport.get_write_buffer_size() if self._ws_write_paused else 0
        try:
            reading = self._ws_transport.is_reading()
        except NotImplementedError:  # in transports by others
            reading = True
        timeout = self._ws_session.expire(now, unwritten, reading)
        if timeout is Timeout.PING:
            self._ws_send_keepalive(now)
        elif timeout is Timeout.UNREAD:
            if self.debug:
                self.logger.debug("- %s", timeout.value)
        elif timeout in (Timeout.SILENCE, Timeout.BLOCKED, Timeout.STUCK):
            if self.debug:
                self.logger.debug("- timed out waiting for keepalive pong")
            self._ws_set_lost_exc(TimeoutError(timeout.value))
            self.protocol.fail(CloseCode.INTERNAL_ERROR, Timeout.SILENCE.value)
            self._ws_transmit()
        elif timeout is not None:
            self._ws_set_lost_exc(self.protocol.parser_exc)
            self._ws_set_lost_exc(TimeoutError(timeout.value))
            self._ws_transport.abort()
        self._ws_arm_timer()

    def _ws_send_keepalive(self, now: float) -> None:
        self.protocol.send_ping(self._ws_session.send_keepalive(now))
        self._ws_transmit()
        if self.debug:
            self.logger.debug("% sent keepalive ping")

    # Ending

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        kind = f"{type(transport).__module__}.{type(transport).__name__}"
        self._ws_attach(transport, DIRECT and kind in PLAIN_TRANSPORTS and sys.platform != "win32")
        # A limit of zero would have TLS wait for ever.
        high = max(self.write_limit_high, 1)
        self._ws_transport.set_write_buffer_limits(high, self.write_limit_low)

    def eof_received(self) -> None:
        """Take the end of the peer's stream; the transport then closes itself."""
        self._ws_finish()

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            self._ws_set_lost_exc(exc)
        self._ws_detach()
        try:
            self._ws_finish()
        finally:
            # Whatever has happened: nobody is to wait for ever.
            self._ws_end()

    def _ws_end(self) -> None:
        """Wake whoever waits for something that will not come."""
        self._ws_lost = True
        if self._ws_timer is not None:
            self._ws_timer.cancel()
            self._ws_timer = None
        self._ws_corked.clear()
        for ping in self._ws_session.pings.abandon():
            if not ping.done():
                ping.set_exception(self.close_exc)
                # Nobody need await a ping.
                ping.exception()
        self._ws_wake_writers()
        if self._ws_fragmenting is not None:
            release(self._ws_fragmenting)
        for waiter in self._ws_lost_waiters:
            release(waiter)
        self._ws_lost_waiters.clear()
        if self._ws_waiter is not None:
            wake(self._ws_waiter)

    def _ws_finish(self) -> None:
        """Read to the end what has arrived, then end the protocol."""
        session, protocol = self._ws_session, self.protocol
        try:
            if not self._ws_handshaking:
                session.finish()
        finally:
            protocol.receive_eof()
        self._ws_set_lost_exc(protocol.parser_exc)
        self._ws_act()
        # What is left to write may never leave.
        self._ws_start_closing()

    def _ws_set_lost_exc(self, exc: BaseException | None) -> None:
        """Note why the connection ends, unless that is known already."""
        if self._ws_lost_exc is None:
            self._ws_lost_exc = exc

    async def _ws_wait_for_loss(self) -> None:
        if self.protocol.writes:
            # The application has failed the connection through its protocol.
            self._ws_transmit()
        if not self._ws_lost:
            waiter = self.loop.create_future()
            self._ws_lost_waiters.append(waiter)
            try:
                await waiter
            finally:
                if not self._ws_lost:
                    self._ws_lost_waiters.remove(waiter)


def release(waiter: asyncio.Future[None]) -> None:
    """End a wait, unless it was cancelled or has ended."""
    if not waiter.done():
        waiter.set_result(None)


def to_bytes(data: DataLike) -> bytes:
    """Return the payload of a ping or pong."""
    if isinstance(data, str):
        return data.encode()
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data)
    raise TypeError("data must be str or bytes-like")


def to_payload(data: DataLike, text: bool | None) -> tuple[Opcode, BytesLike]:
    """Return the opcode and payload for data to send, text being the argument of ``send()``."""
    if isinstance(data, str):
        return (BINARY if text is False else TEXT), data.encode()
    return (TEXT if text else BINARY), data


def async_iterator(items: Iterable[DataLike]) -> AsyncIterator[DataLike]:
    try:
        iterator = iter(items)
    except TypeError:
        raise TypeError("data must be str, bytes, iterable, or async iterable") from None

    async def iterate() -> AsyncIterator[DataLike]:
        for item in iterator:
            yield item

    return iterate()
