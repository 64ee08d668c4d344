"""The way of a message between the transport and the task, where speed is decided.

Bytes arrive in the transport's callback, and the task that waits for a message is resumed inside
that callback: a future would wake it through another turn of the event loop. What it sends
meanwhile leaves in one write when the callback returns. ``_speedups.pyx`` has the same in Cython,
and shorter ways through it for what is most usual.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import weakref
from collections import deque
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from ..codec import READ_SIZE, encode_frame, encode_header, text_buffer
from ..exceptions import ConnectionClosedOK
from ..protocol import CONNECTING, LARGE_PAYLOAD, RSV1, Protocol
from ..session import Incoming, Session

if TYPE_CHECKING:
    from ..typing import BytesLike, Data

__all__ = ["Channel", "set_direct", "wake"]

# How many messages and frames are handled in one callback: other connections have their turn then.
BATCH_SIZE = 256

if sys.version_info >= (3, 12):
    current_task = asyncio.current_task
else:
    # The same, without a function in Python around it.
    from asyncio.tasks import _current_tasks  # type: ignore[attr-defined]

    current_task = _current_tasks.get

_direct = True
# Whether a wake-up has been seen to run its task.
_proven = False

# What the connections of an event loop have in common: the buffer that they receive into, as what
# arrives is parsed, or copied, before another connection is served; and those of them that have
# written in this turn of the loop.
Shared = tuple[memoryview, deque["Channel"]]
_shared: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Shared] = weakref.WeakKeyDictionary()


def shared(loop: asyncio.AbstractEventLoop) -> Shared:
    common = _shared.get(loop)
    if common is None:
        for other, (_, writers) in list(_shared.items()):
            if other.is_closed():
                writers.clear()  # they would keep it alive
        common = _shared[loop] = memoryview(bytearray(READ_SIZE)), deque()
    return common


def end_turn(writers: deque[Channel]) -> None:
    """Write what was held back since each of them wrote in this turn of the event loop."""
    try:
        while writers:
            channel = writers.popleft()
            channel._ws_in_turn = False
            if channel._ws_corked:
                channel._ws_flush()
    finally:
        if writers:  # one of them failed
            channel.loop.call_soon(end_turn, writers)


def set_direct(direct: bool) -> None:
    """Turn on or off that tasks are resumed at once."""
    global _direct
    _direct = direct


def wake(future: asyncio.Future[None]) -> None:
    """End a wait: resume the task now if that is possible, else in the next turn of the event loop.

    Args:
        future: what the task waits on.
    """
    global _direct, _proven
    if future.done():
        return
    callbacks = getattr(future, "_callbacks", None)
    if _direct and callbacks is not None and len(callbacks) == 1:
        callback, context = callbacks[0]
        task = getattr(callback, "__self__", None)
        loop = future.get_loop()
        # While a task is running, stepping another is an error. With nest_asyncio, common in
        # notebooks, it may run the event loop itself, which cannot run this callback again.
        if (
            isinstance(task, asyncio.Task)
            and current_task(loop) is None
            and not hasattr(asyncio, "_nest_patched")
        ):
            future.remove_done_callback(callback)
            future.set_result(None)
            try:
                context.run(callback, future)
            except RuntimeError:
                # The context is entered already, by whoever called us.
                loop.call_soon(callback, future, context=context)
            except (KeyboardInterrupt, SystemExit) as exc:
                # They leave the event loop, but some swallow them in a callback of a transport.
                loop.call_soon(_raise, exc)
            else:
                if not _proven:
                    # If it did not run the task, this interpreter does it in another way.
                    _proven = _direct = task._fut_waiter is not future  # type: ignore[attr-defined]
            return
    future.set_result(None)


def _raise(exc: BaseException) -> None:
    raise exc


class Channel:
    """Receives into buffers, hands messages to the task that waits for them, and writes frames.

    It is the part of a connection that runs for every message; what is out of the ordinary is left
    to the connection, its subclass. Names of what both have for themselves begin with ``_ws_``: all
    others are for those who put attributes into a connection, or derive from it.

    Args:
        protocol: state machine of this side.
        session: what the connection needs beyond the protocol.
        write_limit: bytes held back, or in the write buffer, at which they are too many.
    """

    # More fields than CPython's dictionaries of instances can share the keys of.
    __slots__ = (
        "_ws_buffer",
        "_ws_corked",
        "_ws_corked_size",
        "_ws_exposed",
        "_ws_fd",
        "_ws_handshaking",
        "_ws_heard",
        "_ws_in_batch",
        "_ws_in_libuv",
        "_ws_in_python",
        "_ws_in_turn",
        "_ws_lost",
        "_ws_messages",
        "_ws_reader",
        "_ws_reading_paused",
        "_ws_session",
        "_ws_transport",
        "_ws_turn",
        "_ws_waiter",
        "_ws_write_paused",
        "loop",
        "protocol",
        "write_limit_high",
    )

    if TYPE_CHECKING:  # what the connection adds

        def _ws_receive_handshake(self, data: bytes) -> None: ...
        async def _ws_receive_message(self) -> Data: ...
        def _ws_act(self) -> None: ...
        def _ws_refill(self) -> None: ...
        def _ws_yield(self) -> None: ...
        def _ws_settle(self, spent: bool) -> None: ...
        def _ws_write_large(self, chunks: Sequence[BytesLike]) -> None: ...
        def _ws_write_chunks(self, chunks: list[BytesLike]) -> None: ...
        def _ws_write_exposed(self, data: BytesLike) -> None: ...

    def __init__(
        self, protocol: Protocol, session: Session[asyncio.Future[float]], write_limit: int
    ) -> None:
        self.protocol = protocol
        self._ws_session = session
        self.loop = asyncio.get_running_loop()
        self._ws_transport: Any = None
        self._ws_lost = False

        # Receiving
        self._ws_handshaking = protocol.state is CONNECTING
        self._ws_reader = protocol.reader
        self._ws_messages = session.messages
        self._ws_buffer, self._ws_turn = shared(self.loop)
        # The future that the task that receives waits on.
        self._ws_waiter: asyncio.Future[None] | None = None
        self._ws_reading_paused = False
        self._ws_heard = False  # whether anything has arrived since the timer last looked
        self._ws_in_batch = False  # whether messages are being delivered
        self._ws_in_libuv = False  # whether the transport is uvloop's

        # Sending
        self.write_limit_high = write_limit
        self._ws_fd = -1  # descriptor to write to without the transport's help, if that is safe
        self._ws_in_python = False  # whether the transport is asyncio's: its methods are in Python
        self._ws_exposed = False  # whether the application has been given the transport
        self._ws_corked: list[BytesLike] = []  # frames to leave in one write
        self._ws_corked_size = 0
        self._ws_in_turn = False  # whether something was written in this turn of the event loop
        self._ws_write_paused = False

    def _ws_attach(self, transport: Any, plain: bool) -> None:
        """Use a transport, and its socket if it hands bytes on as they are."""
        self._ws_transport = transport
        self._ws_in_libuv = type(transport).__module__ == "uvloop.loop"
        if plain:
            self._ws_fd = transport.get_extra_info("socket").fileno()
            self._ws_in_python = type(transport).__module__ == "asyncio.selector_events" and all(
                hasattr(transport, name) for name in ("_buffer", "_closing", "_protocol")
            )

    def _ws_detach(self) -> None:
        """The transport has closed its socket: the descriptor may soon be another one's."""
        self._ws_fd = -1

    # Receiving

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._ws_reader.get_buffer(self._ws_buffer)

    def buffer_updated(self, nbytes: int) -> None:
        if self._ws_handshaking:
            self._ws_receive_handshake(bytes(self._ws_buffer[:nbytes]))
        elif not self.protocol.ended:
            self._ws_reader.buffer_updated(self._ws_buffer, nbytes)
            self._ws_heard = True
            self._ws_receive()
            if self._ws_in_libuv and nbytes == READ_SIZE:
                # It reads one socket up to 32 times before it looks at others.
                self._ws_yield()
        elif self.protocol.writes:  # the application has failed it through its protocol
            self._ws_act()

    def _ws_receive(self) -> None:
        """Read what has arrived, answer control frames, and deliver messages."""
        session = self._ws_session
        budget = BATCH_SIZE
        self._ws_in_batch = True
        try:
            while True:
                budget = session.read(budget)
                if self.protocol.writes or session.pongs:
                    self._ws_act()
                waiter = self._ws_waiter
                if waiter is not None and (session.ready() or session.receiving != "recv"):
                    # Waking comes last: the task may do anything.
                    wake(waiter)
                    if session.stopped and waiter is self._ws_waiter:
                        # The task has its turn later; what comes next must not be before it.
                        budget = 0
                if not session.stopped or budget <= 0 or session.full():
                    break
        finally:
            self._ws_in_batch = False
            try:
                # Whatever has happened: the next connection receives into the same buffer.
                self._ws_reader.keep()
            finally:
                if self._ws_corked:
                    self._ws_flush()
        if session.stopped or self._ws_reading_paused:
            self._ws_settle(budget <= 0)

    async def __anext__(self) -> Data:
        session, messages = self._ws_session, self._ws_messages
        if session.receiving is None:
            if not messages and not session.stopped and not self._ws_lost:
                session.receiving = "recv"
                self._ws_waiter = waiter = self.loop.create_future()
                try:
                    await waiter
                finally:
                    self._ws_waiter = session.receiving = None
            if messages and type(messages[0]) is not Incoming:
                message = messages.popleft()
                if session.stopped and not self._ws_in_batch:
                    self._ws_refill()
                return message  # type: ignore[return-value]
        try:
            return await self._ws_receive_message()
        except ConnectionClosedOK:
            raise StopAsyncIteration from None

    def _ws_next_message(self) -> Coroutine[None, None, Data]:
        """Return an awaitable for the next message."""
        return self._ws_receive_message()

    # Sending

    def _ws_send_message(self, message: Any) -> bool:
        """Send a message in one frame, if nothing stands in the way; return whether it was sent."""
        protocol = self.protocol
        is_text = type(message) is str
        plain = protocol.plain
        if (is_text or type(message) is bytes) and plain and not self._ws_write_paused:
            opcode, rsv = 1 if is_text else 2, 0
            if plain is not True:
                if is_text:
                    message = message.encode()
                payload = plain.compress_message(message, None)
                if payload is not None:
                    message, rsv = payload, RSV1
            if len(message) >= LARGE_PAYLOAD and not protocol.masks:
                data = text_buffer(message) if type(message) is str else message
                self._ws_write_large([encode_header(opcode, len(data), False, True, rsv), data])
                return True
            frame = encode_frame(opcode, message, protocol.masks, True, rsv)
            if self._ws_in_batch and self._ws_corked_size < self.write_limit_high:
                self._ws_corked.append(frame)
                self._ws_corked_size += len(frame)
            else:
                self._ws_write(frame)
            return True
        return False

    def _ws_write(self, data: bytes) -> None:
        """Write a data frame, or a part of one.

        While messages are delivered, frames are held back to leave together when that is done. At
        other times the first one of a turn of the event loop leaves at once, and others at its end.
        """
        if self._ws_in_batch or self._ws_in_turn:
            self._ws_corked.append(data)
            self._ws_corked_size = size = self._ws_corked_size + len(data)
            if size >= self.write_limit_high:
                self._ws_flush()
        else:
            if not self._ws_turn:
                self.loop.call_soon(end_turn, self._ws_turn)
            self._ws_turn.append(self)
            self._ws_in_turn = True
            self._ws_write_now(data)

    def _ws_flush(self) -> None:
        """Write the frames that were held back."""
        corked, size = self._ws_corked, self._ws_corked_size
        self._ws_corked, self._ws_corked_size = [], 0
        if self._ws_lost:
            return
        if len(corked) == 1:
            self._ws_write_now(corked[0])  # type: ignore[arg-type]
        elif size < LARGE_PAYLOAD:
            self._ws_write_now(b"".join(corked))
        else:
            self._ws_write_chunks(corked)

    def _ws_write_now(self, data: bytes) -> None:
        """Write to the socket, or to the transport if it has something to write before."""
        rest: BytesLike = data
        if self._ws_is_direct():
            with contextlib.suppress(OSError):
                written = os.write(self._ws_fd, data)
                if written == len(data):
                    return
                rest = memoryview(data)[written:]
        # An error is left to the transport, which will meet it too.
        if self._ws_exposed or self._ws_transport.is_closing():
            self._ws_write_exposed(rest)
        else:
            self._ws_transport.write(rest)

    def _ws_is_direct(self) -> bool:
        """Whether the socket may be written to.

        The application has the transport too: it may have written to it, closed it, or given it to
        another protocol, and the descriptor may be another connection's by then. Tests replace its
        method ``write``.
        """
        transport = self._ws_transport
        if self._ws_fd < 0:
            return False
        if self._ws_in_python:
            if self._ws_exposed and "write" in vars(transport):
                return False
            # The same as below, in a tenth of the time.
            return not transport._buffer and not transport._closing and transport._protocol is self
        return (
            not transport.get_write_buffer_size()
            and not transport.is_closing()
            and transport.get_protocol() is self
        )
