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
            channel._in_turn = False
            if channel._corked:
                channel._flush()
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
    to the connection, its subclass.

    Args:
        protocol: state machine of this side.
        session: what the connection needs beyond the protocol.
        write_limit: bytes held back, or in the write buffer, at which they are too many.
    """

    # More fields than CPython's dictionaries of instances can share the keys of.
    __slots__ = (
        "_buffer",
        "_corked",
        "_corked_size",
        "_exposed",
        "_fd",
        "_heard",
        "_in_batch",
        "_in_libuv",
        "_in_python",
        "_in_turn",
        "_lost",
        "_messages",
        "_reader",
        "_reading_paused",
        "_transport",
        "_turn",
        "_waiter",
        "_write_paused",
        "handshaking",
        "loop",
        "protocol",
        "session",
        "write_limit_high",
    )

    if TYPE_CHECKING:  # what the connection adds

        def _receive_handshake(self, data: bytes) -> None: ...
        async def _receive_message(self) -> Data: ...
        def _act(self) -> None: ...
        def _refill(self) -> None: ...
        def _yield(self) -> None: ...
        def _settle(self, spent: bool) -> None: ...
        def _write_large(self, chunks: Sequence[BytesLike]) -> None: ...
        def _write_chunks(self, chunks: list[BytesLike]) -> None: ...
        def _write_exposed(self, data: BytesLike) -> None: ...

    def __init__(
        self, protocol: Protocol, session: Session[asyncio.Future[float]], write_limit: int
    ) -> None:
        self.protocol = protocol
        self.session = session
        self.loop = asyncio.get_running_loop()
        self._transport: Any = None
        self._lost = False

        # Receiving
        self.handshaking = protocol.state is CONNECTING
        self._reader = protocol.reader
        self._messages = session.messages
        self._buffer, self._turn = shared(self.loop)
        # The future that the task that receives waits on.
        self._waiter: asyncio.Future[None] | None = None
        self._reading_paused = False
        self._heard = False  # whether anything has arrived since the timer last looked
        self._in_batch = False  # whether messages are being delivered
        self._in_libuv = False  # whether the transport is uvloop's

        # Sending
        self.write_limit_high = write_limit
        self._fd = -1  # descriptor to write to without the transport's help, if that is safe
        self._in_python = False  # whether the transport is asyncio's, whose methods are in Python
        self._exposed = False  # whether the application has been given the transport
        self._corked: list[BytesLike] = []  # frames to leave in one write
        self._corked_size = 0
        self._in_turn = False  # whether something was written in this turn of the event loop
        self._write_paused = False

    def _attach(self, transport: Any, plain: bool) -> None:
        """Use a transport, and its socket if it hands bytes on as they are."""
        self._transport = transport
        self._in_libuv = type(transport).__module__ == "uvloop.loop"
        if plain:
            self._fd = transport.get_extra_info("socket").fileno()
            self._in_python = type(transport).__module__ == "asyncio.selector_events" and all(
                hasattr(transport, name) for name in ("_buffer", "_closing", "_protocol")
            )

    def _detach(self) -> None:
        """The transport has closed its socket: the descriptor may soon be another one's."""
        self._fd = -1

    # Receiving

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._reader.get_buffer(self._buffer)

    def buffer_updated(self, nbytes: int) -> None:
        if self.handshaking:
            self._receive_handshake(bytes(self._buffer[:nbytes]))
        elif not self.protocol.ended:
            self._reader.buffer_updated(self._buffer, nbytes)
            self._heard = True
            self._receive()
            if self._in_libuv and nbytes == READ_SIZE:
                # It reads one socket up to 32 times before it looks at others.
                self._yield()
        elif self.protocol.writes:  # the application has failed it through its protocol
            self._act()

    def _receive(self) -> None:
        """Read what has arrived, answer control frames, and deliver messages."""
        session = self.session
        budget = BATCH_SIZE
        self._in_batch = True
        try:
            while True:
                budget = session.read(budget)
                if self.protocol.writes or session.pongs:
                    self._act()
                waiter = self._waiter
                if waiter is not None and (session.ready() or session.receiving != "recv"):
                    # Waking comes last: the task may do anything.
                    wake(waiter)
                    if session.stopped and waiter is self._waiter:
                        # The task has its turn later; what comes next must not be before it.
                        budget = 0
                if not session.stopped or budget <= 0 or session.full():
                    break
        finally:
            self._in_batch = False
            try:
                # Whatever has happened: the next connection receives into the same buffer.
                self._reader.keep()
            finally:
                if self._corked:
                    self._flush()
        if session.stopped or self._reading_paused:
            self._settle(budget <= 0)

    async def __anext__(self) -> Data:
        session, messages = self.session, self._messages
        if session.receiving is None:
            if not messages and not session.stopped and not self._lost:
                session.receiving = "recv"
                self._waiter = waiter = self.loop.create_future()
                try:
                    await waiter
                finally:
                    self._waiter = session.receiving = None
            if messages and type(messages[0]) is not Incoming:
                message = messages.popleft()
                if session.stopped and not self._in_batch:
                    self._refill()
                return message  # type: ignore[return-value]
        try:
            return await self._receive_message()
        except ConnectionClosedOK:
            raise StopAsyncIteration from None

    def _next_message(self) -> Coroutine[None, None, Data]:
        """Return an awaitable for the next message."""
        return self._receive_message()

    # Sending

    def _send_message(self, message: Any) -> bool:
        """Send a message in one frame, if nothing stands in the way; return whether it was sent."""
        protocol = self.protocol
        is_text = type(message) is str
        plain = protocol.plain
        if (is_text or type(message) is bytes) and plain and not self._write_paused:
            opcode, rsv = 1 if is_text else 2, 0
            if plain is not True:
                if is_text:
                    message = message.encode()
                payload = plain.compress_message(message, None)
                if payload is not None:
                    message, rsv = payload, RSV1
            if len(message) >= LARGE_PAYLOAD and not protocol.masks:
                data = text_buffer(message) if type(message) is str else message
                self._write_large([encode_header(opcode, len(data), False, True, rsv), data])
                return True
            frame = encode_frame(opcode, message, protocol.masks, True, rsv)
            if self._in_batch and self._corked_size < self.write_limit_high:
                self._corked.append(frame)
                self._corked_size += len(frame)
            else:
                self._write(frame)
            return True
        return False

    def _write(self, data: bytes) -> None:
        """Write a data frame, or a part of one.

        While messages are delivered, frames are held back to leave together when that is done. At
        other times the first one of a turn of the event loop leaves at once, and others at its end.
        """
        if self._in_batch or self._in_turn:
            self._corked.append(data)
            self._corked_size = size = self._corked_size + len(data)
            if size >= self.write_limit_high:
                self._flush()
        else:
            if not self._turn:
                self.loop.call_soon(end_turn, self._turn)
            self._turn.append(self)
            self._in_turn = True
            self._write_now(data)

    def _flush(self) -> None:
        """Write the frames that were held back."""
        corked, size = self._corked, self._corked_size
        self._corked, self._corked_size = [], 0
        if self._lost:
            return
        if len(corked) == 1:
            self._write_now(corked[0])  # type: ignore[arg-type]
        elif size < LARGE_PAYLOAD:
            self._write_now(b"".join(corked))
        else:
            self._write_chunks(corked)

    def _write_now(self, data: bytes) -> None:
        """Write to the socket, or to the transport if it has something to write before."""
        rest: BytesLike = data
        if self._is_direct():
            with contextlib.suppress(OSError):
                written = os.write(self._fd, data)
                if written == len(data):
                    return
                rest = memoryview(data)[written:]
        # An error is left to the transport, which will meet it too.
        if self._exposed or self._transport.is_closing():
            self._write_exposed(rest)
        else:
            self._transport.write(rest)

    def _is_direct(self) -> bool:
        """Whether the socket may be written to.

        The application has the transport too: it may have written to it, closed it, or given it to
        another protocol, and the descriptor may be another connection's by then. Tests replace its
        method ``write``.
        """
        transport = self._transport
        if self._fd < 0:
            return False
        if self._in_python:
            if self._exposed and "write" in vars(transport):
                return False
            # The same as below, in a tenth of the time.
            return not transport._buffer and not transport._closing and transport._protocol is self
        return (
            not transport.get_write_buffer_size()
            and not transport.is_closing()
            and transport.get_protocol() is self
        )
