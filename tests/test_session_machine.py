"""
A session as a runtime drives it, with a peer that sends anything, and a clock that jumps.

``python -m tests.test_session_machine MINUTES`` looks for longer than ``make test`` does.
"""

from __future__ import annotations

import sys
import zlib
from collections import deque

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from websockets.exceptions import ConcurrencyError
from websockets.extensions.deflate import PerMessageDeflate
from websockets.protocol import CLIENT, CLOSED, OPEN, SEND_EOF, SERVER, Protocol
from websockets.session import MAX_UNFINISHED_TIMEOUTS, Incoming, Session, Timeout

from .helpers import BINARY, CLOSE, CONT, PING, PONG, TEXT, close_payload, frame
from .test_protocol import read_wire
from .test_state_machine import CHARACTERS, EVERYTHING, KEY, SETTINGS, TAIL, WRONG, Pipe, search

INTERVAL, TIMEOUT, CLOSE_TIMEOUT = 20, 15, 10
LONGEST_TICK = 25

# What may arrive in one read from the network
READ_SIZE = 512

END = "end"  # of a message

fragments = st.one_of(
    st.tuples(st.just(BINARY), st.lists(st.binary(max_size=20), min_size=1, max_size=6)),
    st.tuples(
        st.just(TEXT),
        st.lists(st.text(CHARACTERS, max_size=5).map(str.encode), min_size=1, max_size=6),
    ),
)


class Receiving(RuleBasedStateMachine):
    examples = 0

    @initialize(
        side=st.sampled_from([CLIENT, SERVER]),
        compressed=st.booleans(),
        buffered=st.booleans(),
        max_queue=st.sampled_from([1, 2, (4, 1), (3, 3), 16, None]),
        budget=st.sampled_from([1, 2, 5, 64]),
    )
    def connect(self, side, compressed, buffered, max_queue, budget):
        type(self).examples += 1
        self.protocol = Protocol(side)
        if compressed:
            self.protocol.extensions = [PerMessageDeflate(True, True, 15, 15)]
        self.now = 1000.0
        self.session = Session(
            self.protocol,
            ping_interval=INTERVAL,
            ping_timeout=TIMEOUT,
            close_timeout=CLOSE_TIMEOUT,
            max_queue=max_queue,
        )
        self.high = self.session.high
        self.session.keepalive.start(self.now)
        self.budget = budget
        self.mask = KEY if side is SERVER else None
        self.compressed = compressed
        self.shared = memoryview(bytearray(READ_SIZE)) if buffered else None

        # The peer
        self.pipe = Pipe()
        self.sent = []  # messages: opcode and fragments
        self.unsent = None  # fragments of a message that are still to come
        self.zip = None
        self.over = False  # whether what arrives is not heard any more

        # The runtime
        self.continuing = False  # whether it is to read on soon
        self.paused = False
        self.eof = False

        # The application
        self.received = 0  # messages
        self.waiting = None  # the method that waits
        self.stream = None  # the message that is received in fragments, and how many were
        self.helped = False  # whether recv() has waited for a message in fragments

        # What has arrived
        self.arrived = 0  # messages, completely
        self.pings = []  # payloads
        self.pongs = deque()
        self.heard_at = self.now
        self.whole_at = self.now  # when more than a part of a frame has come

        # What went out
        self.answers = []
        self.pending = {}  # payloads of pings, with their waiter and time
        self.pinged_at = None
        self.waiters = 0
        self.closing_since = None

    # The peer

    def put(self, opcode, payload, item, fin=True, rsv=0):
        self.pipe.put(frame(opcode, payload, fin=fin, rsv=rsv, mask=self.mask), item)

    @rule(message=fragments, at_once=st.integers(1, 6), compress=st.booleans())
    def peer_sends(self, message, at_once, compress):
        if self.unsent is None:
            self.sent.append(message)
            self.unsent = deque(message[1])
            self.zip = zlib.compressobj(wbits=-15) if self.compressed and compress else None
            self.peer_continues(at_once)

    @rule(count=st.integers(1, 6))
    def peer_continues(self, count):
        while self.unsent and count:
            opcode, pieces = self.sent[-1]
            first = len(self.unsent) == len(pieces)
            payload = self.unsent.popleft()
            fin = not self.unsent
            if self.zip is not None:
                payload = self.zip.compress(payload) + self.zip.flush(zlib.Z_SYNC_FLUSH)
                payload = payload[: -len(TAIL)] if fin else payload
            rsv = 4 if first and self.zip is not None else 0
            self.put(opcode if first else CONT, payload, END if fin else None, fin, rsv)
            count -= 1
        if not self.unsent:
            self.unsent = None

    @rule(size=st.integers(1, 40))
    def peer_sends_many(self, size):
        """Small ones, many of which arrive at once."""
        if self.unsent is None:
            for number in range(size):
                data = str(number).encode()
                self.sent.append((TEXT, [data]))
                self.put(TEXT, data, END)

    @rule(data=st.binary(max_size=3))
    def peer_pings(self, data):
        self.put(PING, data, (PING, data))

    @precondition(lambda self: self.pending)
    @rule(choice=st.integers(0, 5))
    def peer_answers(self, choice):
        """Some ping, and with it all that were before it (RFC 6455 section 5.5.3)."""
        data = list(self.pending)[choice % len(self.pending)]
        self.put(PONG, data, (PONG, data))

    @rule(data=st.binary(min_size=5, max_size=6))
    def peer_pongs_unasked(self, data):
        self.put(PONG, data, (PONG, data))

    @precondition(lambda self: len(self.sent) > 2)
    @rule(how=st.sampled_from(["close", "garbage", "end"]))
    def peer_ends(self, how):
        if how == "close":
            self.put(CLOSE, close_payload(1000), CLOSE)
        elif how == "garbage":
            self.pipe.put(frame(3, mask=self.mask), WRONG)
        else:
            self.pipe.eof = True

    # The network and the runtime

    @rule(size=st.integers(1, 100) | st.just(EVERYTHING))
    def arrive(self, size):
        if self.paused or self.continuing or self.eof:
            return
        data, items = self.pipe.take(min(size, READ_SIZE))
        if not data:
            if self.pipe.eof:
                self.end()
            return
        self.session.heard = True
        self.heard_at = self.now
        if any(item != CLOSE for item in items) or not self.protocol.reader.in_frame:
            self.whole_at = self.now
        for item in items:
            if self.over:
                break
            if item == END:
                self.arrived += 1
            elif item is WRONG or item == CLOSE:
                self.over = True
            elif item is not None:
                (self.pings if item[0] == PING else self.pongs).append(item[1])
        if self.protocol.ended:
            return
        reader = self.protocol.reader
        while data:
            if self.shared is None:
                reader.feed(data)
                break
            room = reader.get_buffer(self.shared)
            size = min(len(room), len(data))
            room[:size] = data[:size]
            reader.buffer_updated(self.shared, size)
            data = data[size:]
            if data:
                reader.keep()
        self.run()

    def run(self):
        """What a runtime does when something has arrived, or it goes on."""
        session, budget = self.session, self.budget
        self.continuing = False
        while True:
            budget = session.read(budget)
            self.act()
            if self.waiting is not None:
                self.wake()
            if not session.stopped or budget <= 0 or session.full():
                break
        self.protocol.reader.keep()
        if self.shared is not None:
            self.shared[:] = b"\xff" * READ_SIZE  # it belongs to another connection now
        if session.stopped and budget <= 0 and not session.full():
            self.continuing = True
        if self.paused and not session.stopped:
            session.heard = True
            self.heard_at = self.whole_at = self.now
        self.paused = session.stopped

    @precondition(lambda self: self.continuing)
    @rule()
    def go_on(self):
        self.run()

    def refill(self):
        if self.session.stopped and self.session.drained():
            self.continuing = True

    def act(self):
        """Send what is to be sent, and hand pongs to those who wait."""
        writes = self.protocol.data_to_send()
        for item in read_wire(b"".join(data for data in writes if data != SEND_EOF)):
            if item.opcode == PONG:
                self.answers.append(item.payload)
        expected = []
        for data in self.session.pongs:
            assert data == self.pongs.popleft()
            # It answers for its ping and for all before it, once.
            while data in self.pending:
                waiter, sent_at = self.pending.pop(next(iter(self.pending)))
                if waiter is not None:
                    expected.append((waiter, self.now - sent_at))
        assert self.session.acknowledge(self.now) == expected
        if self.protocol.close_expected() and self.closing_since is None:
            self.start_closing()

    def start_closing(self):
        self.closing_since = self.now
        self.session.start_closing(self.now)
        self.refill()

    def end(self):
        """The stream of the peer has ended: all that has arrived can be received."""
        self.eof = self.over = True
        self.continuing = self.paused = False
        self.session.finish()
        self.protocol.receive_eof()
        self.act()
        self.session.start_closing(self.now)
        if self.waiting is not None:
            self.wake()

    # The application

    @rule(method=st.sampled_from(["recv", "recv_streaming"]))
    def receive(self, method):
        if self.waiting is not None or self.stream is not None:
            return
        self.begin(method)

    def begin(self, method):
        session = self.session
        if session.ready() or method == "recv_streaming" and session.messages:
            self.take(method)
        elif not self.eof:
            self.waiting = session.receiving = method
            self.helped |= method == "recv"
            if session.stopped:
                self.refill()

    @precondition(lambda self: self.waiting is not None)
    @rule()
    def cancel(self):
        """It loses nothing."""
        self.session.receiving = None if self.stream is None else "recv_streaming"
        self.waiting = None

    def wake(self):
        method = self.waiting
        if self.stream is not None:
            self.waiting = None
            self.session.receiving = "recv_streaming"
            self.next_fragment()
        elif self.session.ready() or method == "recv_streaming" and self.session.messages:
            self.waiting = self.session.receiving = None
            self.take(method)

    def take(self, method):
        message = self.session.messages.popleft()
        if self.session.stopped:
            self.refill()
        opcode, pieces = self.sent[self.received]
        if method == "recv_streaming" and type(message) is Incoming:
            message.taken = True
            self.stream = message, 0
            self.session.receiving = "recv_streaming"
            assert message.text is (opcode is TEXT)
            self.next_fragment()
            return
        if type(message) is Incoming:
            message = message.take_all()
        data = b"".join(pieces)
        assert message == (data.decode() if opcode is TEXT else data)
        self.received += 1

    @precondition(lambda self: self.stream is not None and self.waiting is None)
    @rule()
    def next_fragment(self):
        message, taken = self.stream
        session = self.session
        if not message:
            if not self.eof:
                self.waiting = session.receiving = "recv_streaming"
                if session.stopped:
                    self.refill()
            return
        pieces = self.sent[self.received][1]
        assert message.take() == pieces[taken], "fragments are received as they were sent"
        final = message.complete and not message
        assert final is (taken + 1 == len(pieces))
        self.stream = None if final else (message, taken + 1)
        session.receiving = None if final else "recv_streaming"
        self.received += final
        if session.stopped:
            self.refill()

    @precondition(lambda self: self.protocol.state is OPEN)
    @rule(data=st.none() | st.binary(max_size=4))
    def ping(self, data):
        pings = self.session.pings
        if data in pings:
            with pytest.raises(ConcurrencyError):
                pings.choose(data)
            return
        data = pings.choose(data)
        self.waiters += 1
        pings.add(data, self.waiters, self.now)
        self.pending[data] = self.waiters, self.now
        self.protocol.send_ping(data)

    @precondition(lambda self: len(self.sent) > 4)
    @rule()
    def close(self):
        if self.protocol.state is OPEN:
            self.protocol.send_close(1000)
            self.act()
        self.session.dropping = True
        if self.session.stopped:
            self.refill()

    # Time

    @rule(seconds=st.sampled_from([1, 5, 10, LONGEST_TICK]))
    def tick(self, seconds):
        session = self.session
        self.now += seconds
        for _ in range(10):
            deadline = session.next_deadline()
            if deadline is None or deadline > self.now or self.protocol.state is CLOSED:
                break
            timeout = session.expire(self.now)
            if timeout is Timeout.PING:
                assert self.protocol.state is OPEN
                data = session.send_keepalive(self.now)
                self.pending[data] = None, self.now
                self.pinged_at = self.now
                self.protocol.send_ping(data)
            elif timeout is Timeout.SILENCE:
                assert not self.paused
                assert self.now - self.pinged_at >= TIMEOUT
                if self.now - self.heard_at < TIMEOUT:
                    assert self.protocol.reader.in_frame
                    assert self.now - self.whole_at >= TIMEOUT * (MAX_UNFINISHED_TIMEOUTS - 1)
                self.protocol.fail(1011, timeout.value)
                self.over = True
                self.act()
            elif timeout is Timeout.CLOSE:
                assert self.now - self.closing_since >= CLOSE_TIMEOUT
                self.end()
        else:
            raise AssertionError("deadlines do not end")
        # Silence does not last.
        if self.protocol.state is OPEN and not self.paused:
            assert self.now - self.heard_at <= INTERVAL + 2 * TIMEOUT + 3 * LONGEST_TICK

    # What always holds

    def held(self):
        """What counts towards the limit, without those fragments that recv() asks for."""
        whole = sum(
            type(message) is not Incoming or message.complete for message in self.session.messages
        )
        incoming = self.session.incoming
        return whole, 0 if incoming is None else len(incoming)

    @invariant()
    def reading_stops_for_a_reason(self):
        session = self.session
        whole, pieces = self.held()
        full = self.high is not None and whole + pieces >= self.high
        if self.eof:
            return
        if session.stopped:
            # It goes on soon, or when more was taken from the queue; nobody waits for that.
            low = self.session.low
            assert self.continuing or full or whole + pieces > low
            assert self.continuing or self.waiting is None
        elif not self.protocol.ended:
            self.check_all_is_read()
        if self.high is not None and not session.dropped:
            assert whole <= self.high
            assert whole + pieces <= self.high or self.helped

    def check_all_is_read(self):
        """All that has arrived has had its effect."""
        assert self.answers == self.pings
        assert not self.pongs
        assert set(self.pending) == set(self.session.pings._pings)
        if not self.session.dropped:
            assert self.received + self.held()[0] + self.streaming() == self.arrived

    def streaming(self):
        """Whether the message that is received in fragments has arrived."""
        return self.stream is not None and self.stream[0].complete

    @invariant()
    def answers_are_in_order(self):
        assert self.answers == self.pings[: len(self.answers)]

    @invariant()
    def nothing_is_due(self):
        deadline = self.session.next_deadline()
        if deadline is not None and deadline > self.now:
            assert self.session.expire(self.now) is None

    def can_go_on(self):
        """Whether there is something to receive, or to wait for."""
        return not self.eof or bool(self.stream[0] if self.stream else self.session.ready())

    def teardown(self):
        if not hasattr(self, "session"):
            return
        for _ in range(10_000):
            if self.continuing:
                self.run()
            elif self.stream is not None and self.waiting is None and self.can_go_on():
                self.next_fragment()
            elif self.stream is None and self.waiting is None and self.can_go_on():
                self.begin("recv")
            elif not self.paused and not self.eof and (self.pipe.data or self.pipe.eof):
                self.arrive(EVERYTHING)
            else:
                break
            self.reading_stops_for_a_reason()
        else:
            raise AssertionError("it does not end")
        if not self.session.dropped:
            assert self.received + self.streaming() == self.arrived, "no message is lost"
        if self.session.dropping or not self.over:
            # Whether or not somebody receives, the peer's close frame is reached.
            assert self.eof or not self.pipe.data


TestReceiving = Receiving.TestCase
TestReceiving.settings = SETTINGS


if __name__ == "__main__":
    search(Receiving, float(sys.argv[1]))
