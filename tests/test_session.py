"""Queue, assembly of messages, keepalive and deadlines, with a clock that the tests move."""

from __future__ import annotations

import os
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from websockets.exceptions import ConcurrencyError, PayloadTooBig
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import BINARY, CLOSE, CONT, PING, PONG, TEXT
from websockets.protocol import CLIENT, CLOSING, SERVER, Protocol
from websockets.session import (
    FINISH_SIZE,
    MAX_BLOCKED_TIMEOUTS,
    MAX_KEPT_FRAGMENTS,
    MAX_UNFINISHED_TIMEOUTS,
    SECOND_LOOK,
    FragmentDecoder,
    Incoming,
    Keepalive,
    PendingPings,
    Session,
    Timeout,
    convert,
)

from .helpers import frame

MANY = 10**6

# Characters of one to four bytes.
CHARACTERS = "a\xe9\u20ac\U0001f600"

# The machine may be busy.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

# decode=


@pytest.mark.parametrize(
    "message, decode, expected",
    [
        ("caf\xe9", None, "caf\xe9"),
        ("caf\xe9", True, "caf\xe9"),
        ("caf\xe9", False, b"caf\xc3\xa9"),
        (b"caf\xc3\xa9", None, b"caf\xc3\xa9"),
        (b"caf\xc3\xa9", True, "caf\xe9"),
        (b"\xff", False, b"\xff"),
    ],
)
def test_convert(message, decode, expected):
    assert convert(message, decode) == expected


def test_convert_what_is_no_text():
    with pytest.raises(UnicodeDecodeError):
        convert(b"\xff", True)


@pytest.mark.parametrize(
    "text, decode, strings",
    [(True, None, True), (True, True, True), (True, False, False),
     (False, None, False), (False, True, True), (False, False, False)],
)  # fmt: skip
def test_fragment_decoder(text, decode, strings):
    """Fragments cut characters; strings do not."""
    decoder = FragmentDecoder(text, decode)
    fragments = [(b"caf\xc3", False), (b"", False), (b"\xa9", False), (b"!", True)]
    converted = [decoder.convert(data, final) for data, final in fragments]
    assert converted == (["caf", "", "\xe9", "!"] if strings else [b"caf\xc3", b"", b"\xa9", b"!"])


def test_fragment_decoder_of_what_is_no_text():
    decoder = FragmentDecoder(False, True)
    assert decoder.convert(b"a\xc3", False) == "a"
    with pytest.raises(UnicodeDecodeError):
        decoder.convert(b"", True)


# Messages in fragments


def test_incoming_by_fragment():
    incoming = Incoming(text=False)
    assert (len(incoming), incoming.complete, incoming.taken) == (0, False, False)
    incoming.append(b"ab", False)
    incoming.append(bytearray(b""), False)
    assert (len(incoming), incoming.complete) == (2, False)
    assert incoming.take() == b"ab"
    incoming.append(memoryview(b"cd"), True)
    assert (len(incoming), incoming.complete) == (2, True)
    assert [incoming.take(), incoming.take()] == [b"", b"cd"]
    assert len(incoming) == 0


@pytest.mark.parametrize("text, expected", [(False, b"caf\xc3\xa9"), (True, "caf\xe9")])
def test_incoming_at_once(text, expected):
    incoming = Incoming(text)
    for data, fin in ((b"caf\xc3", False), (b"", False), (b"\xa9", True)):
        incoming.append(data, fin)
    message = incoming.take_all()
    assert (type(message), message) == (type(expected), expected)
    assert len(incoming) == 0


def test_incoming_hands_out_bytes():
    """Fragments that have been handed out do not change."""
    incoming = Incoming(text=False)
    incoming.append(b"a", False)
    incoming.append(b"b", False)
    first = incoming.take()
    second = incoming.take()
    incoming.append(b"c", True)
    assert (type(first), first, second, incoming.take()) == (bytes, b"a", b"b", b"c")


@patient
@given(st.lists(st.tuples(st.binary(max_size=5), st.booleans()), max_size=20))
def test_incoming_is_first_in_first_out(steps):
    incoming, waiting = Incoming(text=False), []
    for data, taking in steps:
        incoming.append(data, False)
        waiting.append(data)
        if taking:
            assert incoming.take() == waiting.pop(0)
        assert len(incoming) == len(waiting)
    assert incoming.take_all() == b"".join(waiting)


def test_incoming_joins_fragments_that_nobody_reads():
    incoming = Incoming(text=False)
    for i in range(MAX_KEPT_FRAGMENTS + 10):
        incoming.append(bytes([i % 256]), False)
    assert len(incoming) == MAX_KEPT_FRAGMENTS
    data = [incoming.take() for _ in range(MAX_KEPT_FRAGMENTS)]
    assert [len(piece) for piece in data] == [1] * (MAX_KEPT_FRAGMENTS - 1) + [11]
    assert b"".join(data) == bytes(i % 256 for i in range(MAX_KEPT_FRAGMENTS + 10))


def test_fragments_behind_joined_ones():
    incoming = Incoming(text=False)
    for _ in range(MAX_KEPT_FRAGMENTS):
        incoming.append(b"a", False)
    incoming.append(b"bcd", False)
    incoming.take()
    incoming.append(b"ef", True)
    data = [incoming.take() for _ in range(len(incoming))]
    assert data == [b"a"] * (MAX_KEPT_FRAGMENTS - 2) + [b"abcd", b"ef"]


def test_a_million_empty_fragments_cost_no_memory():
    incoming = Incoming(text=True)
    incoming.append(b"a", False)
    append = incoming.append
    for _ in range(MAX_KEPT_FRAGMENTS):
        append(b"", False)
    tracemalloc.start()
    for _ in range(MANY // 10):
        append(b"", False)
    size, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    for _ in range(MANY - MANY // 10):
        append(b"", False)
    assert peak < 10_000
    assert len(incoming) == MAX_KEPT_FRAGMENTS
    append(b"b", True)
    assert incoming.take_all() == "ab"


# The queue


def make(side=CLIENT, **kwargs):
    return Session(Protocol(side, max_size=None), **kwargs)


def arrive(session, *frames, limit=100):
    """Let frames, (opcode, payload) or (opcode, payload, fin), arrive; return what read() does."""
    mask = b"\x01\x02\x03\x04" if session.protocol.side is SERVER else None
    session.protocol.reader.feed(
        b"".join(
            frame(opcode, payload, fin=fin[0] if fin else True, mask=mask)
            for opcode, payload, *fin in frames
        )
    )
    return session.read(limit)


def go_on(session, limit=100):
    """Read on as long as there is something to read and room for it."""
    turns = 0
    while session.stopped and not session.full():
        session.read(limit)
        turns += 1
        assert turns < 10_000
    return turns


def test_nothing_to_read():
    session = make()
    assert session.read(10) == 10
    assert session.stopped is False
    assert session.ready() is False
    assert session.full() is False
    assert session.drained() is False


@pytest.mark.parametrize("side", [CLIENT, SERVER])
def test_whole_messages(side):
    session = make(side)
    left = arrive(session, (TEXT, "caf\xe9".encode()), (BINARY, b"\xff"), (TEXT, b""), limit=10)
    assert left == 7
    assert list(session.messages) == ["caf\xe9", b"\xff", ""]
    assert [type(message) for message in session.messages] == [str, bytes, str]
    assert session.ready() is True
    assert session.stopped is False


def test_half_a_message():
    session = make()
    data = frame(TEXT, b"one") + frame(TEXT, b"two")
    session.protocol.reader.feed(data[:-1])
    assert session.read(10) == 9
    assert list(session.messages) == ["one"]
    session.protocol.reader.feed(data[-1:])
    go_on(session)
    session.read(10)
    assert list(session.messages) == ["one", "two"]


def test_whole_messages_while_frames_are_logged():
    session = make()
    session.protocol.debug = True
    arrive(session, (TEXT, b"a"), (BINARY, b"b"))
    go_on(session)
    assert list(session.messages) == ["a", b"b"]


def test_nothing_is_borrowed_while_the_queue_is_full():
    """What waits in the receive buffer is copied: other connections have the same buffer."""
    session = make(max_queue=1)
    arrive(session, (BINARY, b"1", False))
    assert session.full()
    data = frame(CONT, b"2", fin=False) + frame(CONT, b"3") + frame(TEXT, b"next")
    shared = bytearray(100)
    shared[: len(data)] = data
    session.protocol.reader.buffer_updated(memoryview(shared), len(data))
    session.read(10)
    assert session.stopped
    shared[:] = b"\xee" * 100
    session.receiving = "recv"
    go_on(session)
    assert session.messages.popleft().take_all() == b"123"
    session.receiving = None
    go_on(session)
    assert list(session.messages) == ["next"]


def test_reading_goes_on_when_the_protocol_has_ended():
    """Nobody takes messages any more, but the end of the stream must be seen."""
    session = make(max_queue=2)
    arrive(session, *[(TEXT, b"a")] * 4)
    assert session.stopped
    assert session.full()
    assert not session.drained()
    session.protocol.fail(1011)
    assert session.protocol.ended
    assert session.drained()


def test_stops_behind_messages():
    """They are delivered before the frame behind them has its effect."""
    session = make()
    arrive(session, (TEXT, b"a"), (TEXT, b"b"), (CLOSE, b"\x03\xe8"))
    assert list(session.messages) == ["a", "b"]
    assert session.stopped is True
    assert session.protocol.close_rcvd is None
    session.read(10)
    assert session.stopped is False
    assert session.protocol.close_rcvd.code == 1000
    assert list(session.messages) == ["a", "b"], "a close frame is no message"
    assert session.read(10) == 10, "nothing is read after the end"


def test_stops_behind_a_fragmented_message():
    session = make()
    arrive(session, (TEXT, b"a", False), (CONT, b"b"), (PING, b"?"))
    assert session.ready() is True
    assert session.stopped is True
    assert session.protocol.writes == []
    session.read(10)
    assert session.stopped is False
    assert len(session.protocol.writes) == 1


@pytest.mark.parametrize("bad", [(3, b""), (TEXT, b"\xff"), (CONT, b"")])
def test_good_messages_before_a_bad_frame(bad):
    session = make()
    arrive(session, (TEXT, b"good"), bad)
    assert list(session.messages) == ["good"]
    assert session.stopped is True
    assert session.protocol.parser_exc is None
    session.read(10)
    assert session.protocol.parser_exc is not None
    assert session.protocol.state is CLOSING
    assert session.stopped is False


def test_control_frames_do_not_stop():
    session = make()
    left = arrive(session, (PING, b"1"), (PONG, b"2"), (PING, b"3"), (TEXT, b"a"), limit=10)
    assert left == 6
    assert list(session.messages) == ["a"]
    assert session.pongs == [b"2"]
    assert len(session.protocol.writes) == 2


def test_limit_of_messages():
    session = make(max_queue=None)
    assert arrive(session, *[(TEXT, b"%d" % i) for i in range(5)], limit=3) == 0
    assert list(session.messages) == ["0", "1", "2"]
    assert session.stopped is True
    assert session.full() is False
    assert session.read(3) == 1
    assert list(session.messages) == ["0", "1", "2", "3", "4"]
    assert session.stopped is False


def test_limit_of_frames():
    session = make(max_queue=None)
    assert arrive(session, *[(PING, b"")] * 5, limit=3) == 0
    assert len(session.protocol.writes) == 3
    assert session.stopped is True
    assert session.read(2) == 0
    assert len(session.protocol.writes) == 5
    assert session.stopped is False


def test_marks_of_the_queue():
    session = make(max_queue=(4, 1))
    arrive(session, *[(TEXT, b"%d" % i) for i in range(10)])
    assert list(session.messages) == ["0", "1", "2", "3"]
    assert session.full() is session.stopped is True
    for left in (3, 2, 1, 0):
        assert session.drained() is False
        session.messages.popleft()
        assert session.full() is False
        assert session.drained() is (left <= 1)
        if left == 1:
            break
    session.read(100)
    assert list(session.messages) == ["3", "4", "5", "6"]
    assert session.full() is session.stopped is True
    session.read(100)
    assert len(session.messages) == 4


def test_full_without_anything_more():
    session = make(max_queue=2)
    arrive(session, (TEXT, b"a"), (TEXT, b"b"))
    assert session.full() is True
    session.messages.clear()
    assert session.full() is False
    session.read(10)
    assert session.stopped is False


def test_no_limit():
    session = make(max_queue=None)
    arrive(session, *[(TEXT, b"a")] * 1000, limit=10**6)
    assert len(session.messages) == 1000
    assert session.full() is session.stopped is False


def test_control_frames_wait_when_the_queue_is_full():
    session = make(max_queue=1)
    arrive(session, (TEXT, b"a"), (PING, b""), (CLOSE, b""))
    session.read(10)
    assert session.protocol.writes == []
    assert session.stopped is True
    session.messages.popleft()
    assert session.drained() is True
    session.read(10)
    assert len(session.protocol.writes) == 2


def test_fragments_count():
    session = make(max_queue=(4, 1))
    arrive(session, (TEXT, b"a"), (BINARY, b"0", False), *[(CONT, b"", False)] * 9)
    go_on(session)
    first, incoming = session.messages
    assert first == "a"
    assert isinstance(incoming, Incoming)
    assert len(incoming) == 3
    assert session.full() is session.stopped is True
    assert session.ready() is True
    session.messages.popleft()
    assert session.ready() is False
    assert (session.full(), session.drained()) == (False, False)


def test_fragments_count_while_they_are_streamed():
    session = make(max_queue=(4, 1))
    session.receiving = "recv_streaming"
    arrive(session, (BINARY, b"0", False), *[(CONT, b"", False)] * 9)
    incoming = session.messages.popleft()
    incoming.taken = True
    assert len(incoming) == 4
    assert session.full() is True
    for _ in range(3):
        assert session.drained() is False
        incoming.take()
    assert session.drained() is True
    session.read(10)
    assert len(incoming) == 4
    while len(incoming):
        incoming.take()
    session.read(100)
    assert (len(incoming), incoming.complete) == (3, False)


def test_messages_behind_one_that_is_streamed():
    session = make(max_queue=3)
    session.receiving = "recv_streaming"
    arrive(session, (BINARY, b"0", False))
    incoming = session.messages.popleft()
    incoming.taken = True
    arrive(session, (CONT, b"1"), *[(TEXT, b"a")] * 5)
    go_on(session)
    assert incoming.complete is True
    assert session.incoming is None
    assert list(session.messages) == ["a", "a", "a"]
    assert [incoming.take(), incoming.take()] == [b"0", b"1"]


def test_fragments_do_not_count_while_the_whole_message_is_wanted():
    """Else a message of more fragments than the queue holds could never be received."""
    session = make(max_queue=4)
    session.receiving = "recv"
    arrive(session, (TEXT, b"0", False), *[(CONT, b"", False)] * 99, (CONT, b"1"), limit=10**6)
    assert session.ready() is True
    assert session.messages[0].take_all() == "01"


def test_fragments_of_a_later_message_count():
    session = make(max_queue=4)
    session.receiving = "recv"
    arrive(session, (TEXT, b"a"), (TEXT, b"0", False), *[(CONT, b"", False)] * 99, limit=10**6)
    go_on(session, limit=10**6)
    assert len(session.messages[1]) == 3
    assert session.full() is True
    session.messages.popleft()
    # Now it is the one that is wanted.
    assert session.full() is False
    session.read(10**6)
    assert len(session.messages[0]) == 100


def test_many_empty_fragments_in_memory():
    session = make(max_queue=4)
    session.receiving = "recv"
    chunk = frame(CONT, b"", fin=False) * 10_000
    session.protocol.reader.feed(frame(TEXT, b"a", fin=False))
    session.read(1)
    session.protocol.reader.feed(chunk)
    session.read(10**6)
    tracemalloc.start()
    for _ in range(4):
        session.protocol.reader.feed(chunk)
        session.read(10**6)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < 200_000, "40,000 frames, and not one object for each"
    arrive(session, (CONT, b"b"))
    assert session.messages[0].take_all() == "ab"


def test_fragments_between_control_frames():
    session = make()
    arrive(
        session,
        (TEXT, b"caf\xc3", False), (PING, b""), (CONT, b"", False), (PONG, b"x"), (CONT, b"\xa9"),
        (BINARY, b"\x00", False), (CONT, b"\x01"),
    )  # fmt: skip
    go_on(session)
    assert [message.take_all() for message in session.messages] == ["caf\xe9", b"\x00\x01"]
    assert session.pongs == [b"x"]


def test_dropping():
    """The application closes: what does not fit is read and dropped, up to the close frame."""
    session = make(max_queue=2)
    arrive(session, *[(TEXT, b"%d" % i) for i in range(5)], (PING, b""), (PONG, b"x"), (CLOSE, b""))
    assert session.full() is True
    session.dropping = True
    assert session.full() is False
    assert session.drained() is True
    go_on(session)
    assert list(session.messages) == ["0", "1"]
    assert session.pongs == [b"x"]
    assert session.protocol.close_rcvd is not None


def test_dropping_keeps_what_fits():
    session = make(max_queue=2)
    session.dropping = True
    arrive(session, (TEXT, b"a"), (TEXT, b"b"), (TEXT, b"c"))
    go_on(session)
    assert list(session.messages) == ["a", "b"]


def test_dropping_a_message_that_lacks_a_fragment():
    session = make(max_queue=3)
    arrive(session, (TEXT, b"a"), (BINARY, b"0", False), (CONT, b"1", False), (CONT, b"2", False))
    go_on(session)
    assert [type(message) for message in session.messages] == [str, Incoming]
    session.dropping = True
    go_on(session)
    assert list(session.messages) == ["a"]
    assert session.incoming is None
    # Its last fragment comes when there is room: nothing may become of it, nor of what follows,
    # as there would be a hole.
    arrive(session, (CONT, b"3"), (TEXT, b"b"))
    go_on(session)
    assert list(session.messages) == ["a"]


def test_dropping_while_a_message_is_streamed():
    session = make(max_queue=2)
    arrive(session, (BINARY, b"0", False))
    incoming = session.messages.popleft()
    incoming.taken = True
    arrive(session, (CONT, b"1", False), (CONT, b"2", False))
    assert len(incoming) == 2
    session.dropping = True
    arrive(session, (CONT, b"3"), (TEXT, b"b"))
    go_on(session)
    # A message that is being received stays whole; those behind it are dropped.
    assert incoming.complete
    assert b"".join(incoming.take() for _ in range(len(incoming))) == b"0123"
    assert session.incoming is None
    assert not session.messages


def test_dropping_fragments_from_the_first_on():
    session = make(max_queue=1)
    arrive(session, (TEXT, b"a"), (TEXT, b"b", False), (CONT, b"c", False), (CONT, b"d"))
    session.dropping = True
    go_on(session)
    assert list(session.messages) == ["a"]
    session.messages.clear()
    arrive(session, (TEXT, b"e"))
    assert list(session.messages) == []


def test_dropping_a_message_that_lacks_a_fragment_at_the_end():
    """The connection is lost behind a batch of control frames, before the message is dropped."""
    session = Session(Protocol(CLIENT), max_queue=3)
    session.protocol.extensions = [PerMessageDeflate(False, False, 15, 15)]
    arrive(session, (TEXT, b"a"), (BINARY, b"0", False), (CONT, b"1", False))
    pings, more = frame(PING) * 10, frame(CONT, b"2", fin=False) * 100
    session.protocol.reader.feed(pings + more)
    session.read(100)
    assert session.full()
    session.dropping = True
    session.read(10)
    assert session.dropped and len(session.messages) == 2
    session.finish()
    assert list(session.messages) == ["a"]
    assert session.incoming is None
    assert not session.protocol.reader.in_frame


@pytest.mark.parametrize("kind", ["kept", "dropped", "in late fragments"])
def test_bombs_at_the_end(kind, monkeypatch):
    """Whether they are kept or dropped, inflating them takes time."""
    session = Session(Protocol(SERVER), max_queue=4)
    session.protocol.extensions = [PerMessageDeflate(False, False, 15, 15)]
    bomb = PerMessageDeflate(False, True, 15, 15).compress_message(bytes(2**20))
    wire = frame(BINARY, bomb, rsv=4, mask=bytes(4))
    if kind == "in late fragments":
        wire = frame(BINARY, fin=False, rsv=4, mask=bytes(4))
        wire += frame(CONT, fin=False, mask=bytes(4)) * FINISH_SIZE
        wire += frame(CONT, bomb, mask=bytes(4))
    session.protocol.reader.feed(wire * 100)
    while not session.full():
        session.read(100)
    if kind == "dropped":
        session.dropping = True
        session.read(1)
        assert session.dropped
    sizes = []
    inflate = PerMessageDeflate.inflate

    def measured(*args):
        result = inflate(*args)
        sizes.append(len(result))
        return result

    monkeypatch.setattr(PerMessageDeflate, "inflate", measured)
    session.finish()
    assert type(session.protocol.parser_exc) is PayloadTooBig
    assert sum(sizes) <= (4 + FINISH_SIZE) * 2**20


@st.composite
def conversations(draw):
    """Frames, and the messages that they are."""
    frames, messages = [], []
    for _ in range(draw(st.integers(0, 8))):
        text = draw(st.booleans())
        data = (
            draw(st.text(CHARACTERS, max_size=6)).encode() if text else draw(st.binary(max_size=6))
        )
        cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=4)))
        pieces = [data[i:j] for i, j in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        for i, piece in enumerate(pieces):
            opcode = CONT if i else TEXT if text else BINARY
            frames.append((opcode, piece, i == len(pieces) - 1))
            if draw(st.integers(0, 5)) == 0:
                frames.append((PING, b"", True))
        messages.append(data.decode() if text else data)
    return frames, messages


@patient
@given(
    conversations(),
    st.one_of(st.none(), st.integers(1, 5)),
    st.lists(st.integers(0, 40)),
    st.integers(1, 8),
    st.booleans(),
)
def test_no_message_is_lost(conversation, max_queue, cuts, limit, debug):
    """However the bytes arrive, the queue is bounded and messages come out in their order."""
    frames, messages = conversation
    session = make(max_queue=max_queue)
    session.protocol.debug = debug
    session.receiving = "recv"
    data = b"".join(frame(opcode, payload, fin=fin) for opcode, payload, fin in frames)
    received = []

    def take():
        while True:
            while session.ready():
                message = session.messages.popleft()
                received.append(message.take_all() if isinstance(message, Incoming) else message)
            if not session.stopped:
                return
            session.read(limit)
            assert max_queue is None or len(session.messages) <= max_queue

    for cut in [*cuts, len(data)]:
        session.protocol.reader.feed(data[:cut])
        data = data[cut:]
        session.read(limit)
        assert max_queue is None or len(session.messages) <= max_queue
        take()
    assert received == messages
    assert not session.messages


# Pings


def test_choice_of_payloads(monkeypatch):
    pings = PendingPings()
    assert pings.choose(b"mine") == b"mine"
    assert len(pings.choose(None)) == 4
    pings.add(b"mine", None, 0)
    assert b"mine" in pings and b"other" not in pings
    with pytest.raises(
        ConcurrencyError, match=r"\Aalready waiting for a pong with the same data\Z"
    ):
        pings.choose(b"mine")
    drawn = iter([b"same", b"same", b"next"])
    monkeypatch.setattr(os, "urandom", lambda size: next(drawn)[:size])
    pings.add(pings.choose(None), None, 0)
    assert pings.choose(None) == b"next"


def test_pong_answers_its_ping_and_all_before_it():
    """RFC 6455 section 5.5.3"""
    pings = PendingPings()
    for second, data in enumerate([b"1", b"2", b"3", b"4"]):
        pings.add(data, None if data == b"2" else f"waiter of {data}", second)
    assert pings.latency == 0
    assert pings.acknowledge(b"3", 10.0) == [("waiter of b'1'", 10.0), ("waiter of b'3'", 8.0)]
    assert pings.latency == 8.0
    assert b"2" not in pings and b"4" in pings
    assert pings.acknowledge(b"3", 11.0) == [], "answered already"
    assert pings.acknowledge(b"unsolicited", 11.0) == []
    assert pings.latency == 8.0
    assert pings.abandon() == ["waiter of b'4'"]
    assert pings.abandon() == []
    assert b"4" not in pings


def test_payload_can_be_used_again():
    pings = PendingPings()
    pings.add(b"", "first", 0)
    pings.acknowledge(b"", 1)
    assert pings.choose(b"") == b""


def test_abandon_leaves_out_keepalive():
    pings = PendingPings()
    pings.add(b"keepalive", None, 0)
    pings.add(b"mine", "waiter", 1)
    assert pings.abandon() == ["waiter"]


def test_pongs_of_a_session():
    session = make()
    session.pings.add(b"1", "first", 1.0)
    session.pings.add(b"2", "second", 2.0)
    arrive(session, (PONG, b"unsolicited"), (PONG, b"1"), (PONG, b"2"))
    assert session.acknowledge(5.0) == [("first", 4.0), ("second", 3.0)]
    assert session.pongs == []
    assert session.pings.latency == 3.0
    assert session.acknowledge(6.0) == []


# Keepalive


class Clock:
    """Does for a session what a runtime does: looks at the deadline, and acts when it passes."""

    def __init__(self, **kwargs):
        self.now = 0.0
        self.session = make(**kwargs)
        self.unwritten = 0
        self.reading = True
        self.log = []
        self.unread = []
        self.session.keepalive.start(self.now)

    def run(self, until):
        """Let time pass up to a moment, that moment included."""
        session = self.session
        while (deadline := session.next_deadline()) is not None and deadline <= until:
            self.now = max(self.now, deadline)
            timeout = session.expire(self.now, self.unwritten, self.reading)
            if timeout is Timeout.PING:
                session.send_keepalive(self.now)
                self.log.append(("ping", self.now))
            elif timeout is Timeout.UNREAD:
                self.unread.append(self.now)
            elif timeout is not None:
                # The second look at a silence comes a little later.
                self.log.append((timeout, round(self.now, 1)))
                session.keepalive.stop()
            assert len(self.log) < 1000
        self.now = max(self.now, until)

    def pong(self, at, data=None):
        self.run(at)
        self.hear(at)
        self.session.pongs.append(self.session.keepalive.ping if data is None else data)
        return self.session.acknowledge(at)

    def hear(self, at):
        """Something arrives, a whole frame or several."""
        self.run(at)
        self.session.heard = True


def test_keepalive_answered():
    clock = Clock(ping_interval=20, ping_timeout=20)
    for at in (20.5, 40.5, 60.5):
        clock.pong(at)
        assert clock.session.keepalive.ping is None
    clock.run(79)
    assert clock.log == [("ping", 20), ("ping", 40), ("ping", 60)]
    assert clock.session.pings.latency == 0.5


def test_keepalive_answered_late():
    """The next ping is due an interval after the last, at once if that has passed."""
    clock = Clock(ping_interval=5, ping_timeout=20)
    clock.pong(17)
    clock.run(18)
    assert clock.log == [("ping", 5), ("ping", 17)]


def test_keepalive_with_a_short_timeout():
    clock = Clock(ping_interval=20, ping_timeout=3)
    clock.pong(21)
    clock.pong(41)
    clock.run(1000)
    assert clock.log == [("ping", 20), ("ping", 40), ("ping", 60), (Timeout.SILENCE, 63)]


def test_keepalive_silence():
    clock = Clock(ping_interval=20, ping_timeout=20)
    clock.run(1000)
    assert clock.log == [("ping", 20), (Timeout.SILENCE, 40)]
    assert Timeout.SILENCE.value == "keepalive ping timeout"


def test_bytes_before_the_ping_prove_nothing():
    clock = Clock(ping_interval=20, ping_timeout=20)
    clock.hear(19)
    clock.run(1000)
    assert clock.log == [("ping", 20), (Timeout.SILENCE, 40)]


def test_any_bytes_prove_the_peer_alive():
    """The pong may be queued behind data."""
    clock = Clock(ping_interval=20, ping_timeout=20)
    for at in (30, 50, 70):
        clock.hear(at)
    clock.run(1000)
    assert clock.log == [("ping", 20), (Timeout.SILENCE, 100)]


def test_pong_after_data():
    clock = Clock(ping_interval=20, ping_timeout=20)
    clock.hear(30)
    clock.pong(55)
    clock.run(56)
    assert clock.log == [("ping", 20), ("ping", 55)]


@pytest.mark.parametrize("timeout", [20, 7])
def test_an_unfinished_frame_proves_it_for_a_while(timeout):
    clock = Clock(ping_interval=20, ping_timeout=timeout)
    clock.session.protocol.reader.feed(b"\x82\x7f\x00\x00\x00\x00\x7f\xff\xff\xff")
    clock.session.read(10)
    assert clock.session.protocol.reader.in_frame
    for at in range(21, 400):
        clock.hear(at)
    assert clock.log == [("ping", 20), (Timeout.SILENCE, 20 + MAX_UNFINISHED_TIMEOUTS * timeout)]


def test_each_finished_frame_starts_again():
    clock = Clock(ping_interval=20, ping_timeout=20)
    reader = clock.session.protocol.reader
    for at in range(21, 400, 20):
        clock.hear(at)
        reader.feed(b"\x82\x01" if not reader.in_frame else b"a")
        clock.session.read(10)
        clock.session.messages.clear()
    assert clock.log == [("ping", 20)]


def test_frames_that_are_finished_between_looks():
    """Whoever sends large frames without a pause is in the middle of one at each look."""
    clock = Clock(ping_interval=20, ping_timeout=20)
    reader = clock.session.protocol.reader
    for at in range(30, 400, 20):
        clock.hear(at)
        reader.feed(b"\x82\x02" if not reader.in_frame else b"ab\x82\x02")
        clock.session.read(10)
        clock.session.messages.clear()
        assert reader.in_frame
    assert clock.log == [("ping", 20)]


@pytest.mark.parametrize("start", [b"\x82", b"\x82\x7f", b"\x82\x7f\x00\x00\x00"])
def test_a_header_that_trickles_in(start):
    clock = Clock(ping_interval=20, ping_timeout=20)
    clock.session.protocol.reader.feed(start)
    clock.session.read(10)
    for at in range(21, 400):
        clock.hear(at)
    assert clock.log == [("ping", 20), (Timeout.SILENCE, 20 + MAX_UNFINISHED_TIMEOUTS * 20)]


def test_who_does_not_read_blames_nobody():
    clock = Clock(ping_interval=20, ping_timeout=20, max_queue=1)
    arrive(clock.session, (TEXT, b"a"), (TEXT, b"b"))
    assert clock.session.stopped is True
    clock.run(1000)
    assert clock.log == [("ping", 20)]
    clock.session.messages.clear()
    clock.session.read(10)
    clock.session.messages.clear()
    clock.session.read(10)
    assert clock.session.stopped is False
    assert clock.unread == [*range(40, 1001, 20)]
    clock.run(2000)
    # From the look that sees that it reads again, the peer has a timeout.
    assert clock.log == [("ping", 20), (Timeout.SILENCE, 1040)]


def test_a_transport_that_is_not_read_blames_nobody():
    """The session does not know that the application has paused it."""
    clock = Clock(ping_interval=20, ping_timeout=20)
    clock.run(30)
    clock.reading = False
    clock.run(130)
    assert clock.unread == [40, 60, 80, 100, 120]
    clock.reading = True
    clock.run(1000)
    assert clock.log == [("ping", 20), (Timeout.SILENCE, 160)]


def test_reading_again_is_in_time_for_the_pong():
    clock = Clock(ping_interval=20, ping_timeout=20)
    clock.run(30)
    clock.reading = False
    clock.run(130)
    clock.reading = True
    clock.pong(159)
    clock.run(160)
    assert clock.log == [("ping", 20), ("ping", 159)]
    assert clock.session.pings.latency == 139


@pytest.mark.parametrize("late", [0.001, 7, 500])
def test_an_event_loop_that_was_held_up_has_not_read(late):
    """It may look at timers first: then the pong is still in the kernel's buffer."""
    clock = Clock(ping_interval=20, ping_timeout=20)
    clock.run(21)
    clock.now = 40 + late
    clock.run(clock.now)
    assert clock.session.next_deadline() == clock.now + max(late, SECOND_LOOK)
    clock.pong(clock.now + 0.001)
    clock.run(clock.now)
    assert [what for what, _ in clock.log] == ["ping", "ping"]


def test_an_event_loop_that_is_late_again_and_again():
    clock = Clock(ping_interval=20, ping_timeout=20)
    clock.run(21)
    clock.now = 45
    clock.run(45)
    clock.now = 55
    clock.run(55)
    assert clock.log == [("ping", 20), (Timeout.SILENCE, 55)]


@pytest.mark.parametrize("reading", [True, False])
def test_a_peer_that_does_not_read(reading):
    """It is given up, whatever it sends; who was not reading either is told."""
    clock = Clock(ping_interval=20, ping_timeout=20)
    clock.unwritten = 100_000
    clock.reading = reading
    for at in range(21, 400):
        clock.hear(at)
    timeout = Timeout.BLOCKED if reading else Timeout.STUCK
    assert clock.log == [("ping", 20), (timeout, 20 + MAX_BLOCKED_TIMEOUTS * 20)]
    assert timeout.value.startswith(Timeout.SILENCE.value)


def test_a_peer_that_reads_slowly():
    clock = Clock(ping_interval=20, ping_timeout=20)
    for at in range(21, 400):
        clock.unwritten = 100_000 - at
        clock.hear(at)
    assert clock.log == [("ping", 20)]


def test_keepalive_without_timeout():
    clock = Clock(ping_interval=20, ping_timeout=None)
    clock.run(85)
    assert clock.log == [("ping", 20), ("ping", 40), ("ping", 60), ("ping", 80)]
    # One of them at most is awaited.
    assert list(clock.session.pings._pings) == [clock.session.keepalive.ping]


def test_keepalive_without_timeout_of_a_peer_that_does_not_read():
    clock = Clock(ping_interval=20, ping_timeout=None)
    clock.run(21)
    clock.unwritten = 100_000
    clock.run(1000)
    assert clock.log == [("ping", 20)]
    clock.unwritten = 0
    clock.run(1021)
    assert clock.log == [("ping", 20), ("ping", 1020)]


def test_keepalive_without_timeout_answered():
    clock = Clock(ping_interval=20, ping_timeout=None)
    clock.run(50)
    clock.pong(51)
    clock.run(65)
    assert clock.log == [("ping", 20), ("ping", 40), ("ping", 60)]


def test_keepalive_is_turned_off():
    clock = Clock(ping_interval=20, ping_timeout=20)
    clock.pong(21)
    clock.session.keepalive.interval = None
    clock.run(1000)
    assert clock.log == [("ping", 20)]
    assert clock.session.next_deadline() is None


def test_keepalive_is_turned_off_and_on():
    clock = Clock(ping_interval=20, ping_timeout=20)
    clock.run(20)
    clock.session.keepalive.interval = None
    clock.pong(21)
    clock.session.keepalive.interval = 20
    clock.run(59)
    # The pong that came meanwhile is one.
    assert clock.log[:2] == [("ping", 20), ("ping", 40)]


def test_keepalive_is_changed():
    clock = Clock(ping_interval=20, ping_timeout=20)
    clock.session.keepalive.interval = 50
    clock.session.keepalive.timeout = 5
    clock.pong(21)
    clock.run(1000)
    assert clock.log == [("ping", 20), ("ping", 70), (Timeout.SILENCE, 75)]


def test_no_keepalive():
    clock = Clock(ping_interval=None, ping_timeout=20)
    assert clock.session.next_deadline() is None
    clock.run(1000)
    assert clock.log == []
    keepalive = Keepalive(None, 20)
    keepalive.answered(1.0)
    assert keepalive.deadline is None


def test_keepalive_is_answered_by_a_later_pong():
    """RFC 6455 section 5.5.3: a peer may answer only the latest ping."""
    clock = Clock(ping_interval=20, ping_timeout=20)
    clock.run(21)
    clock.session.pings.add(b"mine", "waiter", 21)
    assert clock.pong(25, b"mine") == [("waiter", 4)]
    assert clock.session.keepalive.ping is None
    clock.run(41)
    assert clock.log == [("ping", 20), ("ping", 40)]


def test_keepalive_is_not_answered_by_an_earlier_pong():
    clock = Clock(ping_interval=20, ping_timeout=20)
    clock.session.pings.add(b"mine", "waiter", 1)
    clock.run(21)
    assert clock.pong(25, b"mine") == [("waiter", 24)]
    assert clock.session.keepalive.ping is not None
    clock.run(1000)
    # It has said something since the ping.
    assert clock.log == [("ping", 20), (Timeout.SILENCE, 60)]


def test_pong_after_keepalive_has_stopped():
    clock = Clock(ping_interval=20, ping_timeout=20)
    clock.run(21)
    clock.session.start_closing(22)
    clock.pong(23)
    assert clock.session.keepalive.deadline is None


# Deadlines


def test_deadlines_in_their_order():
    session = make(ping_interval=30, close_timeout=10)
    assert session.next_deadline() is None
    assert session.expire(10**9) is None
    session.keepalive.start(0)
    session.open_deadline = 5.0
    session.close_deadline = 3.0
    assert session.next_deadline() == 3.0
    assert session.expire(2.9) is None
    assert session.expire(3.0) is Timeout.CLOSE
    assert session.close_deadline is None
    assert session.next_deadline() == 5.0
    assert session.expire(4.9) is None
    assert session.expire(5.0) is Timeout.OPEN
    assert session.open_deadline is None
    assert session.next_deadline() == 30.0
    assert session.expire(29.9) is None
    assert session.expire(30.0) is Timeout.PING


def test_deadlines_that_passed_together():
    session = make(ping_interval=1)
    session.keepalive.start(0)
    session.open_deadline = session.close_deadline = 1.0
    assert [session.expire(9.0) for _ in range(3)] == [Timeout.OPEN, Timeout.CLOSE, Timeout.PING]


def test_start_closing():
    session = make(ping_interval=20, close_timeout=10)
    session.keepalive.start(0)
    session.start_closing(5.0)
    assert session.close_deadline == session.next_deadline() == 15.0
    session.start_closing(9.0)
    assert session.close_deadline == 15.0, "the deadline runs already"
    assert session.expire(15.0) is Timeout.CLOSE
    assert Timeout.CLOSE.value == "timed out while closing connection"


def test_closing_may_take_for_ever():
    session = make(close_timeout=None)
    session.keepalive.start(0)
    session.start_closing(5.0)
    assert session.next_deadline() is None


def test_defaults():
    session = Session(Protocol(CLIENT))
    assert (session.keepalive.interval, session.keepalive.timeout) == (20, 20)
    assert session.close_timeout == 10
    assert (session.high, session.low) == (16, 4)
