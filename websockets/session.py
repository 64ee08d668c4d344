"""What an open connection needs beyond the protocol, for every runtime and still without I/O.

Here are the queue of messages, their assembly from fragments, pending pings and latency, keepalive
and deadlines. Time is an argument, ``now``, in seconds on any clock that only goes forward; the
next deadline is a value. Nothing here waits: runtimes do.
"""

from __future__ import annotations

import codecs
import enum
import os
from collections import deque
from collections.abc import Iterable, Sized
from itertools import islice
from typing import Generic, TypeVar

from .environment import read_integer
from .exceptions import ConcurrencyError, PayloadTooBig, TooManyFragments
from .frames import CONT, PONG, TEXT, Frame
from .protocol import Protocol
from .settings import queue_limits

__all__ = ["Incoming", "Keepalive", "PendingPings", "Session", "Timeout"]

Waiter = TypeVar("Waiter")

# Bounds of fragments are kept so that recv_streaming() yields them as they were sent; of a reader
# that falls behind this far, fragments are joined: an empty one would cost more than its two bytes.
MAX_KEPT_FRAGMENTS = 1024

# Most fragments of a message; 0 for any number, as they cost nothing but their bytes.
MAX_FRAGMENTS = read_integer("WEBSOCKETS_MAX_FRAGMENTS", 0)

# How many messages are read at once when the connection has ended.
FINISH_SIZE = 16

# A frame that trickles in proves the peer alive for so many ping timeouts, and no longer.
MAX_UNFINISHED_TIMEOUTS = 5

# A peer to which nothing could be written for so many ping timeouts is not reading, and has not got
# the ping: what it sends does not keep the connection then.
MAX_BLOCKED_TIMEOUTS = 5

# An event loop that looks at timers before it looks at sockets has read nothing yet of what came
# while it was held up. In so many seconds it has.
SECOND_LOOK = 0.01

# In the time that one more message takes, so many bytes are inflated: a read of 256 KiB can inflate
# to 256 MiB, which no other connection is to wait for.
INFLATED_STEP = 4096


class Incoming:
    """A message that arrives in fragments: one buffer, and where its unread fragments end."""

    __slots__ = ("_data", "_sizes", "complete", "count", "taken", "text")

    def __init__(self, text: bool) -> None:
        self.text = text
        self.complete = False
        self.count = 0  # fragments, read and unread
        self.taken = False  # whether it has left the queue, to be received fragment by fragment
        self._data = bytearray()
        self._sizes: deque[int] = deque()

    def __len__(self) -> int:
        """Number of unread fragments."""
        return len(self._sizes)

    @property
    def size(self) -> int:
        """Bytes of the unread fragments."""
        return len(self._data)

    def append(self, data: bytes | bytearray | memoryview, fin: bool) -> None:
        """Add a fragment, which is the last if ``fin`` is true."""
        self._data += data
        self.count += 1
        if len(self._sizes) < MAX_KEPT_FRAGMENTS:
            self._sizes.append(len(data))
        else:
            self._sizes[-1] += len(data)
        self.complete = fin

    def take(self) -> bytes:
        """Take the first unread fragment."""
        size = self._sizes.popleft()
        if not self._sizes:
            data, self._data = bytes(self._data), bytearray()
        else:
            data = bytes(self._data[:size])
            del self._data[:size]
        return data

    def take_all(self) -> str | bytes:
        """Take the whole message. Its text was checked as it arrived."""
        data, self._data = self._data, bytearray()
        self._sizes.clear()
        return str(data, "utf-8") if self.text else bytes(data)


Message = str | bytes | Incoming


def convert(message: str | bytes, decode: bool | None) -> str | bytes:
    """Apply the ``decode`` argument of ``recv()`` to a message.

    Raises:
        UnicodeDecodeError: if a binary message to decode is not UTF-8.
    """
    if decode is None:
        return message
    if decode:
        return message if isinstance(message, str) else str(message, "utf-8")
    return message.encode() if isinstance(message, str) else message


class FragmentDecoder:
    """Applies the ``decode`` argument of ``recv_streaming()``: fragments cut characters."""

    def __init__(self, text: bool, decode: bool | None) -> None:
        self._decoder = None
        if decode or (decode is None and text):
            self._decoder = codecs.getincrementaldecoder("utf-8")()

    def convert(self, data: bytes, final: bool) -> str | bytes:
        return data if self._decoder is None else self._decoder.decode(data, final)


class PendingPings(Generic[Waiter]):
    """Pings that wait for their pong (RFC 6455 section 5.5.3)."""

    __slots__ = ("_pings", "latency")

    def __init__(self) -> None:
        self.latency = 0.0
        # In the order in which they were sent: a pong answers for its ping and all before it.
        self._pings: dict[bytes, tuple[Waiter | None, float]] = {}

    def __contains__(self, data: bytes) -> bool:
        return data in self._pings

    def choose(self, data: bytes | None) -> bytes:
        """Return the payload for a new ping.

        Raises:
            ConcurrencyError: if a ping with the payload that was asked for is pending.
        """
        if data is None:
            data = os.urandom(4)
            while data in self._pings:
                data = os.urandom(4)
        elif data in self._pings:
            raise ConcurrencyError("already waiting for a pong with the same data")
        return data

    def add(self, data: bytes, waiter: Waiter | None, now: float) -> None:
        """Note that a ping was sent."""
        self._pings[data] = waiter, now

    def forget(self, data: bytes) -> None:
        """Wait no longer for the pong to a ping."""
        del self._pings[data]

    def acknowledge(self, data: bytes, now: float) -> list[tuple[Waiter, float]]:
        """Return the waiters that a pong answers, if any, each with its latency."""
        if data not in self._pings:
            return []
        answered = []
        for ping in list(self._pings):  # pragma: no branch - the data is among them
            waiter, sent = self._pings.pop(ping)
            if waiter is not None:
                answered.append((waiter, now - sent))
            if ping == data:
                self.latency = now - sent
                break
        return answered

    def abandon(self) -> list[Waiter]:
        """Return the waiters of all pings: the connection is lost."""
        waiters = [waiter for waiter, _ in self._pings.values() if waiter is not None]
        self._pings.clear()
        return waiters


class Timeout(enum.Enum):
    """What a deadline was for, or what it has shown."""

    OPEN = "timed out during opening handshake"
    CLOSE = "timed out while closing connection"
    PING = "keepalive ping is due"
    UNREAD = "pong may be unread, as this side is not reading"
    SILENCE = "keepalive ping timeout"
    BLOCKED = "keepalive ping timeout; peer is not reading"
    STUCK = "keepalive ping timeout; neither side is reading"


class Keepalive:
    """Tells when to ping, and when the peer has been silent for too long.

    Whatever arrives proves the peer alive, not only the pong, which may be queued behind data.
    Silence counts only while this side is reading. A peer that does not read for long is given up,
    whatever it sends: what waits to be written would wait for ever. One ping is out at most.

    Args:
        interval: seconds between pings; None for no keepalive.
        timeout: seconds of silence after a ping until the connection fails; None for never.
    """

    __slots__ = (
        "_blocked",
        "_doubted",
        "_sent",
        "_unfinished",
        "_unread",
        "_unwritten",
        "deadline",
        "interval",
        "ping",
        "timeout",
    )

    def __init__(self, interval: float | None, timeout: float | None) -> None:
        self.interval = interval
        self.timeout = timeout
        self.deadline: float | None = None
        self.ping: bytes | None = None  # the one that is out
        self._sent = 0.0
        self._unfinished = 0  # looks in which nothing but a part of one frame had arrived
        self._unread = False  # whether this side was not reading at the last look
        self._unwritten = 0  # bytes that waited to be written at the last look
        self._blocked = 0  # looks since they became fewer
        self._doubted = False  # whether this is the second look at the same silence

    def start(self, now: float) -> None:
        """Begin to count, now that the connection is open."""
        if self.interval is not None:
            self.deadline = now + self.interval

    def stop(self) -> None:
        """Do nothing more, as the connection is closing."""
        self.deadline = None

    def sent(self, data: bytes, now: float) -> None:
        """Note that a keepalive ping was sent."""
        assert self.interval is not None
        self.ping, self._sent, self._unfinished = data, now, 0
        self._unwritten = self._blocked = 0
        self._unread = self._doubted = False
        self.deadline = now + (self.interval if self.timeout is None else self.timeout)

    def answered(self, now: float) -> None:
        """Note that the ping that is out was answered."""
        self.ping = None
        if self.interval is not None and self.deadline is not None:
            self.deadline = max(now, self._sent + self.interval)

    def expire(
        self, now: float, heard: bool, in_frame: bool, reading: bool, unwritten: int = 0
    ) -> Timeout | None:
        """Decide what the deadline means, having passed.

        Args:
            now: current time.
            heard: whether anything has arrived since the last call.
            in_frame: whether all of it belongs to a frame that is still unfinished.
            reading: whether this side is reading.
            unwritten: bytes that wait to be written, if they are too many for more to be sent.

        Returns:
            ``PING`` if one is to be sent; ``SILENCE``, ``BLOCKED`` or ``STUCK`` if the connection
            is to be failed; ``UNREAD`` if it would be, were this side reading; else None.
        """
        assert self.deadline is not None
        if self.interval is None:  # since this was started
            self.deadline = None
            return None
        if self.ping is None:
            return Timeout.PING
        if self.timeout is None:
            # Pings go on, as they keep proxies from closing the connection; but nobody waits for
            # this one any more, and they are not to fill the memory.
            if not unwritten:
                return Timeout.PING
            self.deadline = now + self.interval
            return None
        blocked = unwritten and unwritten >= self._unwritten
        self._unwritten, self._blocked = unwritten, self._blocked + 1 if blocked else 0
        if self._blocked >= MAX_BLOCKED_TIMEOUTS:
            return Timeout.BLOCKED if reading else Timeout.STUCK
        self._unfinished = self._unfinished + 1 if heard and in_frame else 0
        alive = heard and self._unfinished < MAX_UNFINISHED_TIMEOUTS
        resumed, self._unread = reading and self._unread, not reading
        if alive or resumed or not reading:
            self._doubted = False
            self.deadline = now + self.timeout
            return None if alive or reading else Timeout.UNREAD
        if not heard and not self._doubted:
            # Whoever was held up was not reading meanwhile.
            self._doubted = True
            self.deadline = now + max(now - self.deadline, SECOND_LOOK)
            return None
        return Timeout.SILENCE


class Session(Generic[Waiter]):
    """The open connection, as far as it is the same for every runtime.

    Args:
        protocol: state machine of the connection.
        ping_interval: seconds between keepalive pings; None for none.
        ping_timeout: seconds to wait for a sign of life after such a ping; None for ever.
        close_timeout: seconds that closing may take; None for any.
        max_queue: messages to hold until reading stops, and those to be left until it goes on, a
            quarter unless given; None for no limit.
    """

    __slots__ = (
        "close_deadline",
        "close_timeout",
        "dropped",
        "dropping",
        "frames",
        "heard",
        "high",
        "incoming",
        "keepalive",
        "low",
        "messages",
        "open_deadline",
        "pings",
        "pongs",
        "protocol",
        "receiving",
        "stopped",
    )

    def __init__(
        self,
        protocol: Protocol,
        *,
        ping_interval: float | None = 20,
        ping_timeout: float | None = 20,
        close_timeout: float | None = 10,
        max_queue: int | None | tuple[int | None, int | None] = 16,
    ) -> None:
        self.protocol = protocol

        # Receiving
        self.messages: deque[Message] = deque()
        self.incoming: Incoming | None = None  # the last of them, while it is incomplete
        self.high, self.low = queue_limits(max_queue)
        self.stopped = False  # whether there may be unread frames, or the queue is full
        # The method that is receiving, if any. While it is recv(), the first message may have any
        # number of fragments, and they do not fill the queue.
        self.receiving: str | None = None
        # Whether the first message that does not fit, and all behind it, are dropped, so that the
        # peer's close frame is reached.
        self.dropping = False
        self.dropped = False
        self.pongs: list[bytes] = []

        # Time
        self.pings: PendingPings[Waiter] = PendingPings()
        self.keepalive = Keepalive(ping_interval, ping_timeout)
        self.close_timeout = close_timeout
        self.open_deadline: float | None = None
        self.close_deadline: float | None = None
        self.heard = False  # whether anything has arrived since the keepalive timer last looked
        self.frames = 0  # how many had been read then

    # Receiving

    def read(self, limit: int) -> int:
        """Read messages from the protocol into the queue, and act on control frames.

        It stops where bytes are lacking. It also stops, and sets ``stopped``, behind messages, for
        them to be delivered before the next frame, which may end the connection, has its effect;
        when the queue is full; and at the limit.

        Args:
            limit: how many messages and frames to read at most.

        Returns:
            What is left of the limit.
        """
        protocol, reader = self.protocol, self.protocol.reader
        self.stopped = False
        while not protocol.ended:
            room = limit
            if self.high is not None and not self.dropped:
                held = len(self.messages) if self.incoming is None else self._held()
                if held + limit > self.high:
                    room = self.high - held
                if room <= 0:
                    if not self.dropping:
                        reader.keep()
                        self.stopped = True
                        break
                    self.dropped = True
            if self.dropped and reader.inflater is not None:
                room = 1  # what is dropped is not to fill the memory first
            # Whole messages take the short way, unless their frames are to be logged.
            if not protocol.debug:
                messages = reader.read_messages(room)
                if messages or reader.starved:
                    if not self.dropped:
                        self.messages.extend(messages)
                    limit -= len(messages)
                    if reader.inflater is not None:
                        limit -= inflating_cost(messages)
                    self.stopped = not reader.starved
                    break
            frame = protocol.read_frame()
            if frame is None:
                break
            limit -= 1
            if reader.inflater is not None:
                limit -= inflating_cost([frame.data])
            if self._receive_frame(frame) or limit <= 0:
                self.stopped = reader.in_frame or self.full()
                break
        return limit

    def finish(self) -> None:
        """Read to the end what has arrived, whatever the queue holds.

        That is one read from the network at most; but if it was compressed, it may be a thousand
        times as large. What is more than a queue of the largest messages ends the connection.
        """
        protocol, messages = self.protocol, self.messages
        high, self.high = self.high, None
        bound = None
        if high is not None and protocol.max_message_size is not None:
            bound = high * protocol.max_message_size
        inflated = 0
        while True:
            before, arriving = len(messages), self.incoming
            size = 0 if arriving is None else arriving.size
            left = self.read(1 if self.dropped else FINISH_SIZE)
            if not self.stopped:
                break
            if bound is not None and protocol.reader.inflater is not None:
                if self.dropped:
                    # Nothing of it is kept to be counted, and an unfinished message leaves.
                    inflated -= left * INFLATED_STEP
                else:
                    fresh = islice(reversed(messages), len(messages) - before)
                    inflated += sum(m.size if type(m) is Incoming else len(m) for m in fresh)
                    if arriving is not None:
                        inflated += arriving.size - size
                if inflated > bound:
                    protocol.fail_parsing(PayloadTooBig(None, bound))

    def _held(self) -> int:
        """Return what counts towards the limit: messages, and fragments of the last one."""
        held = len(self.messages)
        incoming = self.incoming
        if incoming is not None:
            if not incoming.taken:
                held -= 1
            if not (self.receiving == "recv" and held == 0):
                held += len(incoming)
        return held

    def _receive_frame(self, frame: Frame) -> bool:
        """Put a frame where it belongs; return whether it has completed a message."""
        opcode = frame.opcode
        if opcode >= 8:
            if opcode is PONG:
                self.pongs.append(bytes(frame.data))
            return False
        if self.dropped and (self.incoming is None or not self.incoming.taken):
            if self.incoming is not None:
                # A message that lacks a fragment is none.
                self.messages.remove(self.incoming)
                self.incoming = None
        elif opcode is CONT:
            assert self.incoming is not None  # the reader refuses a continuation of nothing
            if MAX_FRAGMENTS and self.incoming.count >= MAX_FRAGMENTS:
                self.protocol.fail_parsing(TooManyFragments(MAX_FRAGMENTS))
                return False
            self.incoming.append(frame.data, frame.fin)
            if frame.fin:
                self.incoming = None
        elif frame.fin:
            data = frame.data
            self.messages.append(str(data, "utf-8") if opcode is TEXT else bytes(data))
        else:
            self.incoming = Incoming(opcode is TEXT)
            self.incoming.append(frame.data, False)
            self.messages.append(self.incoming)
        return frame.fin

    def full(self) -> bool:
        """Whether the queue holds as much as it may."""
        return self.high is not None and self._held() >= self.high and not self.dropping

    def drained(self) -> bool:
        """Whether reading has stopped, and the queue is now empty enough to go on."""
        return self.stopped and (self._held() <= self.low or self.dropping or self.protocol.ended)

    def ready(self) -> bool:
        """Whether the first message in the queue is complete."""
        messages = self.messages
        if not messages:
            return False
        message = messages[0]
        return type(message) is not Incoming or message.complete

    def acknowledge(self, now: float) -> list[tuple[Waiter, float]]:
        """Match the pongs that were read with pings; return waiters, each with its latency."""
        answered = []
        for data in self.pongs:
            answered += self.pings.acknowledge(data, now)
            if self.keepalive.ping is not None and self.keepalive.ping not in self.pings:
                self.keepalive.answered(now)
        self.pongs.clear()
        return answered

    # Time

    def start_closing(self, now: float) -> None:
        """Start the close deadline, unless it runs; keepalive has done its work."""
        self.keepalive.stop()
        if self.close_deadline is None and self.close_timeout is not None:
            self.close_deadline = now + self.close_timeout

    def next_deadline(self) -> float | None:
        """Return when to call :meth:`expire` next, None for never."""
        deadlines = [self.open_deadline, self.close_deadline, self.keepalive.deadline]
        return min((d for d in deadlines if d is not None), default=None)

    def send_keepalive(self, now: float) -> bytes:
        """Note that a keepalive ping is sent now, in place of the one that is out, if any.

        Returns:
            Its payload.
        """
        data = self.pings.choose(None)
        if self.keepalive.ping is not None:
            self.pings.forget(self.keepalive.ping)
        self.pings.add(data, None, now)
        self.keepalive.sent(data, now)
        return data

    def expire(self, now: float, unwritten: int = 0, reading: bool = True) -> Timeout | None:
        """Return the deadline that has passed and needs an act, if any.

        Args:
            now: current time.
            unwritten: bytes that wait to be written, if they are too many for more to be sent.
            reading: whether the runtime reads from its transport, as far as it is asked to.
        """
        if self.open_deadline is not None and now >= self.open_deadline:
            self.open_deadline = None
            return Timeout.OPEN
        if self.close_deadline is not None and now >= self.close_deadline:
            self.close_deadline = None
            return Timeout.CLOSE
        if self.keepalive.deadline is not None and now >= self.keepalive.deadline:
            heard, self.heard = self.heard, False
            reader = self.protocol.reader
            frames, self.frames = self.frames, reader.frames
            in_frame = reader.in_frame and reader.frames == frames
            reading = reading and not self.stopped
            return self.keepalive.expire(now, heard, in_frame, reading, unwritten)
        return None


def inflating_cost(messages: Iterable[Sized]) -> int:
    """Return how many messages more could have been read in the time it took to inflate some."""
    return sum(map(len, messages)) // INFLATED_STEP
