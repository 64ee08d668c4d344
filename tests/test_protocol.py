"""The state machine of RFC 6455, for both sides, without I/O."""

from __future__ import annotations

import dataclasses
import logging
import os
import pickle
import uuid
import weakref

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from websockets.client import ClientProtocol
from websockets.exceptions import (
    ConnectionClosedError,
    ConnectionClosedOK,
    InvalidState,
    PayloadTooBig,
    ProtocolError,
)
from websockets.extensions.base import Extension
from websockets.frames import BINARY, CLOSE, CONT, PING, PONG, TEXT, Close, CloseCode, Frame, Opcode
from websockets.protocol import (
    CLIENT,
    CLOSED,
    CLOSING,
    CONNECTING,
    LARGE_PAYLOAD,
    OPEN,
    SEND_EOF,
    SERVER,
    Protocol,
    Side,
    State,
)
from websockets.server import ServerProtocol

from .helpers import WireFrame, close_payload, frame, masking

KEY = b"\x12\x34\x56\x78"
EOF = "EOF"

# Characters of one to four bytes.
CHARACTERS = "a\xe9\u20ac\U0001f600"

# The machine may be busy.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(params=[CLIENT, SERVER], ids=["client", "server"])
def side(request):
    return request.param


def from_peer(side, opcode, payload=b"", **kwargs):
    """Return the bytes of a frame as the peer of this side sends it."""
    return frame(opcode, payload, mask=KEY if side is SERVER else None, **kwargs)


def read_wire(data):
    """Take frames apart, independently of the library; the data must end between two frames."""
    frames = []
    while data:
        first, second, data = data[0], data[1], data[2:]
        size = second & 0x7F
        if size >= 126:
            width = 2 if size == 126 else 8
            size, data = int.from_bytes(data[:width], "big"), data[width:]
            assert size >= (126 if width == 2 else 65536), "RFC 6455 section 5.2: shortest form"
        masked = bool(second & 0x80)
        key = data[:4] if masked else b""
        data = data[len(key) :]
        payload, data = data[:size], data[size:]
        assert len(payload) == size
        if masked:
            payload = masking(payload, key)
        frames.append(
            WireFrame(first & 0x0F, payload, bool(first & 0x80), first >> 4 & 0x7, masked)
        )
    return frames


def sent(protocol):
    """Return what the protocol sends, unmasked: frames, and ``EOF`` at the end."""
    writes = protocol.data_to_send()
    assert type(writes) is list
    assert all(type(data) is bytes for data in writes)
    assert SEND_EOF not in writes[:-1], "nothing is written behind the end of the stream"
    frames = read_wire(b"".join(writes))
    for item in frames:
        assert item.masked == (protocol.side is CLIENT), "RFC 6455 section 5.1"
    out = [dataclasses.replace(item, masked=False) for item in frames]
    return [*out, EOF] if writes and writes[-1] == SEND_EOF else out


def eof_of(side):
    """Return what a side sends besides its close frame: the server closes TCP first."""
    return [EOF] if side is SERVER else []


def feed(protocol, *data):
    """Give the protocol bytes; return the events."""
    for piece in data:
        protocol.receive_data(piece)
    return protocol.events_received()


def closed(protocol):
    """Return all there is to say about how a connection ended."""
    return protocol.close_code, protocol.close_reason, protocol.close_exc


# Construction


def test_sides_and_states():
    assert {side.name: side.value for side in Side} == {"SERVER": 0, "CLIENT": 1}
    assert {state.name: state.value for state in State} == {
        "CONNECTING": 0,
        "OPEN": 1,
        "CLOSING": 2,
        "CLOSED": 3,
    }
    assert SEND_EOF == b""


def test_attributes_of_a_new_connection(side):
    protocol = Protocol(side)
    assert protocol.side is side
    assert protocol.state is OPEN
    assert isinstance(protocol.id, uuid.UUID)
    assert protocol.id != Protocol(side).id
    assert protocol.logger.name == f"websockets.{side.name.lower()}"
    assert protocol.debug is False
    assert protocol.extensions == []
    assert protocol.events_received() == []
    assert protocol.data_to_send() == []
    for name in "origin subprotocol handshake_exc parser_exc close_rcvd close_sent".split():
        assert getattr(protocol, name) is None
    assert protocol.close_rcvd_then_sent is None
    assert protocol.close_code is protocol.close_reason is None


def test_id_stays_and_can_be_set(side):
    protocol = Protocol(side)
    assert protocol.id == protocol.id
    protocol.id = uuid.UUID(int=1)
    assert protocol.id == uuid.UUID(int=1)


class Websocket:
    pass


def test_tagged_logs_carry_their_connection_and_do_not_keep_it(caplog):
    caplog.set_level(logging.INFO, "websockets")
    websocket = Websocket()
    protocol = Protocol(SERVER)
    protocol.tag_logs(weakref.proxy(websocket))
    protocol.receive_eof()
    (record,) = caplog.records
    assert record.message == "connection closed"
    assert record.websocket.__class__ is Websocket
    assert protocol.logger is protocol.logger
    assert isinstance(protocol.logger, logging.LoggerAdapter)
    assert protocol.logger.logger.name == "websockets.server"
    gone = weakref.ref(websocket)
    del websocket
    assert gone() is None


def test_logger_can_be_replaced_before_and_after_its_first_use(side):
    own, other = logging.getLogger("own"), logging.getLogger("other")
    protocol = Protocol(side)
    protocol.tag_logs(object())
    protocol.logger = own
    assert protocol.logger is own
    protocol.tag_logs(object())
    assert protocol.logger.logger is own
    protocol.logger = other
    assert protocol.logger is other


def test_level_info_is_asked_for_when_there_is_something_to_log(caplog):
    protocol = Protocol(SERVER)
    caplog.set_level(logging.INFO, "websockets")
    protocol.receive_eof()
    assert [record.message for record in caplog.records] == ["connection closed"]


@pytest.mark.parametrize(
    "max_size, expected",
    [(10, (10, None)), (None, (None, None)), ((10, 5), (10, 5)), ((None, 5), (None, 5)),
     ((10, None), (10, None)), (0, (0, None))],
)  # fmt: skip
def test_forms_of_max_size(side, max_size, expected):
    protocol = Protocol(side, max_size=max_size)
    assert (protocol.max_message_size, protocol.max_fragment_size) == expected


def test_default_max_size(side):
    protocol = Protocol(side)
    assert (protocol.max_message_size, protocol.max_fragment_size) == (2**20, None)


@pytest.mark.parametrize("name", ["max_message_size", "max_fragment_size"])
def test_max_size_can_be_changed(side, name):
    """At any time, such as when the peer has said who it is."""
    protocol = Protocol(side)
    protocol.receive_data(from_peer(side, TEXT, b"x" * 20))
    setattr(protocol, name, 10)
    assert getattr(protocol, name) == 10
    protocol.receive_data(from_peer(side, TEXT, b"x" * 10))
    setattr(protocol, name, None)
    protocol.receive_data(from_peer(side, TEXT, b"", length=2**20, form=8))
    assert protocol.parser_exc is None
    with pytest.raises(ValueError, match="max_size must be positive"):
        setattr(protocol, name, -1)
    assert getattr(protocol, name) is None

    protocol = Protocol(side)
    setattr(protocol, name, 10)
    protocol.receive_data(from_peer(side, TEXT, b"x" * 11))
    assert str(protocol.parser_exc) == "frame with 11 bytes exceeds limit of 10 bytes"


@pytest.mark.parametrize("extended", [False, True])
def test_max_size_is_lowered_in_the_middle_of_a_message(side, extended):
    protocol = Protocol(side)
    protocol.extensions = [RunLength()] if extended else []
    protocol.receive_data(from_peer(side, TEXT, b"x" * 20, fin=False))
    protocol.max_message_size = 10
    protocol.receive_data(from_peer(side, CONT, b"", fin=False))
    assert protocol.parser_exc is None
    protocol.receive_data(from_peer(side, CONT, b"x"))
    assert str(protocol.parser_exc) == (
        "frame with 1 bytes after reading 20 bytes exceeds limit of 20 bytes"
    )


def test_state_can_be_set(side):
    """Some servers do so."""
    protocol = Protocol(side)
    for state in (CLOSING, CLOSED, OPEN):
        protocol.state = state
        assert protocol.state is state


def test_takes_attributes_and_weak_references(side):
    protocol = Protocol(side)
    protocol.mine = 1
    assert weakref.ref(protocol)() is protocol
    assert {protocol: 1}[protocol] == 1


# Sending


@pytest.mark.parametrize(
    "send, expected",
    [
        (lambda p: p.send_text(b"caf\xc3\xa9"), [WireFrame(1, b"caf\xc3\xa9")]),
        (lambda p: p.send_text(b""), [WireFrame(1)]),
        (lambda p: p.send_binary(b"\x00\xff"), [WireFrame(2, b"\x00\xff")]),
        (lambda p: p.send_binary(bytearray(b"data")), [WireFrame(2, b"data")]),
        (lambda p: p.send_binary(memoryview(b"d.a.t.a.")[::2]), [WireFrame(2, b"data")]),
        (lambda p: p.send_binary(b"x" * 125), [WireFrame(2, b"x" * 125)]),
        (lambda p: p.send_binary(b"x" * 126), [WireFrame(2, b"x" * 126)]),
        (lambda p: p.send_binary(b"x" * 65536), [WireFrame(2, b"x" * 65536)]),
        (lambda p: p.send_text(b"a", fin=False), [WireFrame(1, b"a", fin=False)]),
        (lambda p: p.send_binary(b"a", False), [WireFrame(2, b"a", fin=False)]),
        (lambda p: p.send_ping(b"ping"), [WireFrame(9, b"ping")]),
        (lambda p: p.send_ping(b"x" * 125), [WireFrame(9, b"x" * 125)]),
        (lambda p: p.send_pong(b""), [WireFrame(10)]),
        (lambda p: p.send_pong(bytearray(b"pong")), [WireFrame(10, b"pong")]),
    ],
)
def test_send(side, send, expected):
    protocol = Protocol(side)
    assert send(protocol) is None
    assert sent(protocol) == expected
    assert sent(protocol) == []
    assert protocol.state is OPEN


def test_send_fragments_around_control_frames(side):
    """RFC 6455 section 5.4"""
    protocol = Protocol(side)
    protocol.send_text(b"\xc3", fin=False)
    protocol.send_ping(b"")
    protocol.send_continuation(b"\xa9", fin=False)
    protocol.send_pong(b"")
    protocol.send_continuation(b"", fin=True)
    protocol.send_binary(b"next")
    assert sent(protocol) == [
        WireFrame(1, b"\xc3", fin=False),
        WireFrame(9),
        WireFrame(0, b"\xa9", fin=False),
        WireFrame(10),
        WireFrame(0),
        WireFrame(2, b"next"),
    ]


def test_send_close_inside_a_message(side):
    protocol = Protocol(side)
    protocol.send_text(b"a", fin=False)
    protocol.send_close(1001)
    assert sent(protocol)[1:] == [WireFrame(8, b"\x03\xe9")]
    with pytest.raises(InvalidState, match=r"\Aconnection is closing\Z"):
        protocol.send_continuation(b"b", fin=True)


def test_send_order_of_fragments(side):
    protocol = Protocol(side)
    with pytest.raises(ProtocolError, match=r"\Aunexpected continuation frame\Z"):
        protocol.send_continuation(b"", fin=True)
    protocol.send_text(b"a", fin=False)
    for send in (protocol.send_text, protocol.send_binary):
        for fin in (False, True):
            with pytest.raises(ProtocolError, match=r"\Aexpected a continuation frame\Z"):
                send(b"", fin=fin)
    protocol.send_continuation(b"b", fin=True)
    with pytest.raises(ProtocolError, match=r"\Aunexpected continuation frame\Z"):
        protocol.send_continuation(b"", fin=True)
    assert sent(protocol) == [WireFrame(1, b"a", fin=False), WireFrame(0, b"b")]


@pytest.mark.parametrize("state", [CONNECTING, CLOSING, CLOSED])
@pytest.mark.parametrize("name", ["text", "binary", "close", "ping", "pong"])
def test_send_in_the_wrong_state(side, state, name):
    protocol = Protocol(side, state=state)
    args = () if name == "close" else (b"",)
    if state is CLOSING and name in ("ping", "pong"):
        getattr(protocol, f"send_{name}")(*args)
        assert sent(protocol) == [WireFrame({"ping": 9, "pong": 10}[name])]
        return
    with pytest.raises(InvalidState) as raised:
        getattr(protocol, f"send_{name}")(*args)
    assert str(raised.value) == f"connection is {state.name.lower()}"
    assert sent(protocol) == []
    assert protocol.state is state


@pytest.mark.parametrize("name", ["ping", "pong"])
def test_send_too_long_a_control_frame(side, name):
    """RFC 6455 section 5.5"""
    protocol = Protocol(side)
    with pytest.raises(ProtocolError, match=r"\Acontrol frame too long\Z"):
        getattr(protocol, f"send_{name}")(bytes(126))
    assert sent(protocol) == []


@pytest.mark.parametrize("name", ["text", "binary", "ping", "pong"])
def test_send_takes_no_strings(side, name):
    protocol = Protocol(side)
    with pytest.raises(TypeError):
        getattr(protocol, f"send_{name}")("text")
    assert sent(protocol) == []


def test_a_failed_send_starts_no_message(side):
    protocol = Protocol(side)
    with pytest.raises(TypeError):
        protocol.send_text("text", fin=False)
    protocol.send_text(b"text")
    assert sent(protocol) == [WireFrame(1, b"text")]


@pytest.mark.parametrize(
    "args, payload, close",
    [
        ((), b"", Close(1005, "")),
        ((None,), b"", Close(1005, "")),
        ((1000,), b"\x03\xe8", Close(1000, "")),
        ((CloseCode.GOING_AWAY, "bye"), b"\x03\xe9bye", Close(1001, "bye")),
        ((3000,), b"\x0b\xb8", Close(3000, "")),
        ((4999, "caf\xe9"), b"\x13\x87caf\xc3\xa9", Close(4999, "caf\xe9")),
        ((1000, "x" * 123), b"\x03\xe8" + b"x" * 123, Close(1000, "x" * 123)),
    ],
)
def test_send_close(side, args, payload, close):
    protocol = Protocol(side)
    protocol.send_close(*args)
    assert sent(protocol) == [WireFrame(8, payload)]
    assert protocol.close_sent == close
    assert protocol.close_rcvd is None
    assert protocol.close_rcvd_then_sent is None
    assert protocol.state is CLOSING
    assert protocol.close_expected() is True


@pytest.mark.parametrize(
    "args, message",
    [
        ((1005,), "invalid status code"),
        ((1006,), "invalid status code"),
        ((1015,), "invalid status code"),
        ((1004,), "invalid status code"),
        ((999,), "invalid status code"),
        ((2999,), "invalid status code"),
        ((5000,), "invalid status code"),
        ((70000,), "invalid status code"),
        ((None, "why"), "cannot send a reason without a code"),
        ((1000, "x" * 124), "control frame too long"),
        ((1000, "\xe9" * 62), "control frame too long"),
    ],
)
def test_send_bad_close(side, args, message):
    protocol = Protocol(side)
    with pytest.raises(ProtocolError) as raised:
        protocol.send_close(*args)
    assert str(raised.value) == message
    assert sent(protocol) == []
    assert protocol.state is OPEN
    assert protocol.close_sent is None


def test_masking_keys_change():
    """RFC 6455 section 5.3"""
    protocol = Protocol(CLIENT)
    for _ in range(100):
        protocol.send_binary(b"")
    assert len({data[2:6] for data in protocol.data_to_send()}) > 95


def test_server_does_not_copy_large_payloads():
    protocol = Protocol(SERVER)
    payload = os.urandom(LARGE_PAYLOAD)
    protocol.send_binary(payload)
    header, data = protocol.data_to_send()
    assert data is payload
    assert header == b"\x82\x7f" + LARGE_PAYLOAD.to_bytes(8, "big")


def test_server_copies_what_may_change():
    protocol = Protocol(SERVER)
    payload = bytearray(LARGE_PAYLOAD)
    protocol.send_binary(payload)
    payload[:] = b"\xff" * LARGE_PAYLOAD
    assert sent(protocol) == [WireFrame(2, bytes(LARGE_PAYLOAD))]


def test_small_frames_are_one_write(side):
    protocol = Protocol(side)
    protocol.send_binary(bytes(LARGE_PAYLOAD - 1))
    assert len(protocol.data_to_send()) == 1


# Receiving


def test_types_of_events(side):
    """``dataclasses.replace()`` is used on them, and their fields are assigned."""
    protocol = Protocol(side)
    data = from_peer(side, TEXT, b"text") + from_peer(side, PING, b"ping")
    text, ping = feed(protocol, bytearray(data))
    for event, opcode, payload in ((text, TEXT, b"text"), (ping, PING, b"ping")):
        assert type(event) is Frame
        assert event.opcode is opcode
        assert type(event.data) is bytes
        assert event == Frame(opcode, payload)
        assert [type(x) for x in (event.fin, event.rsv1, event.rsv2, event.rsv3)] == [bool] * 4
        event.data = b"other"
        assert dataclasses.replace(event, fin=False) == Frame(opcode, b"other", fin=False)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_receive_what_is_like_bytes(side, kind):
    protocol = Protocol(side)
    assert feed(protocol, kind(from_peer(side, BINARY, b"data"))) == [Frame(BINARY, b"data")]


FRAMES = [
    Frame(TEXT, "caf\xe9".encode()),
    Frame(BINARY, b"\x00\xff" * 100),
    Frame(TEXT, b"\xe2\x82", fin=False),
    Frame(PING, b"between"),
    Frame(CONT, b"", fin=False),
    Frame(PONG, b""),
    Frame(CONT, b"\xac", fin=True),
    Frame(BINARY, b"", fin=False),
    Frame(CONT, b"\xff", fin=True),
    Frame(CLOSE, b"\x03\xe8bye"),
]


@pytest.mark.parametrize("cut", [1, 2, 3, 7, 10**6])
def test_receive_frames(side, cut):
    protocol = Protocol(side)
    data = b"".join(from_peer(side, f.opcode, f.data, fin=f.fin) for f in FRAMES)
    pieces = [data[i : i + cut] for i in range(0, len(data), cut)]
    assert feed(protocol, *pieces) == FRAMES
    assert protocol.events_received() == []
    assert sent(protocol) == [
        WireFrame(10, b"between"),
        WireFrame(8, b"\x03\xe8bye"),
        *eof_of(side),
    ]


def test_all_is_parsed_before_receive_data_returns(side):
    """Callers look at these before they ask for the events."""
    protocol = Protocol(side)
    protocol.receive_data(from_peer(side, PING) + from_peer(side, TEXT, b"\xff"))
    assert protocol.state is CLOSING
    assert isinstance(protocol.parser_exc, UnicodeDecodeError)
    assert [item.opcode for item in sent(protocol) if item != EOF] == [10, 8]
    assert protocol.events_received() == [Frame(PING, b"")]


def test_nothing_received(side):
    protocol = Protocol(side)
    assert feed(protocol, b"") == []
    assert sent(protocol) == []
    assert protocol.state is OPEN


@pytest.mark.parametrize("payload", [b"", b"ping", bytes(range(125))])
def test_ping_is_answered(side, payload):
    """RFC 6455 section 5.5.3"""
    protocol = Protocol(side)
    assert feed(protocol, from_peer(side, PING, payload)) == [Frame(PING, payload)]
    assert sent(protocol) == [WireFrame(10, payload)]


def test_pong_is_not_answered(side):
    protocol = Protocol(side)
    assert feed(protocol, from_peer(side, PONG, b"unsolicited")) == [Frame(PONG, b"unsolicited")]
    assert sent(protocol) == []


def test_ping_is_answered_while_closing(side):
    """RFC 6455 section 5.5.2: until a close frame is received."""
    protocol = Protocol(side)
    protocol.send_close(1000)
    assert sent(protocol) == [WireFrame(8, b"\x03\xe8")]
    data = from_peer(side, PING, b"1") + from_peer(side, CLOSE, b"\x03\xe8")
    assert len(feed(protocol, data + from_peer(side, PING, b"2"))) == 2
    assert sent(protocol) == [WireFrame(10, b"1"), *eof_of(side)]


def test_data_is_received_while_closing(side):
    protocol = Protocol(side)
    protocol.send_close(1000)
    assert feed(protocol, from_peer(side, TEXT, b"late")) == [Frame(TEXT, b"late")]


def test_close_inside_a_message(side):
    """RFC 6455 section 5.4: control frames may come between fragments. A close is one."""
    protocol = Protocol(side)
    feed(protocol, from_peer(side, TEXT, b"a", fin=False))
    assert feed(protocol, from_peer(side, CLOSE, b"")) == [Frame(CLOSE, b"")]
    assert sent(protocol) == [WireFrame(8), *eof_of(side)]
    assert protocol.parser_exc is None


# Bad input

BAD_FRAMES = {
    "reserved opcode 3": ([(3, b"", {})], ProtocolError, "invalid opcode"),
    "reserved opcode 7": ([(7, b"", {})], ProtocolError, "invalid opcode"),
    "reserved opcode 11": ([(11, b"", {})], ProtocolError, "invalid opcode"),
    "reserved opcode 15": ([(15, b"", {})], ProtocolError, "invalid opcode"),
    "RSV1": ([(1, b"", {"rsv": 4})], ProtocolError, "reserved bits must be 0"),
    "RSV2": ([(2, b"", {"rsv": 2})], ProtocolError, "reserved bits must be 0"),
    "RSV3": ([(9, b"", {"rsv": 1})], ProtocolError, "reserved bits must be 0"),
    "long ping": ([(9, bytes(126), {})], ProtocolError, "control frame too long"),
    "long close": ([(8, bytes(126), {})], ProtocolError, "control frame too long"),
    "fragmented pong": ([(10, b"", {"fin": False})], ProtocolError, "fragmented control frame"),
    "nothing to continue": ([(0, b"", {})], ProtocolError, "unexpected continuation frame"),
    "nothing more to continue": (
        [(1, b"", {"fin": False}), (0, b"", {}), (0, b"", {})],
        ProtocolError,
        "unexpected continuation frame",
    ),
    "message in a message": (
        [(2, b"", {"fin": False}), (9, b"", {}), (2, b"", {})],
        ProtocolError,
        "expected a continuation frame",
    ),
    "length of 64 bits": (
        [(2, b"", {"length": 2**63, "form": 8})],
        PayloadTooBig,
        "frame with 9223372036854775808 bytes exceeds limit of 1048576 bytes",
    ),
    "close with half a code": ([(8, b"\x03", {})], ProtocolError, "close frame too short"),
    "close with code 0": ([(8, b"\x00\x00", {})], ProtocolError, "invalid status code"),
    "close with code 1005": ([(8, b"\x03\xed", {})], ProtocolError, "invalid status code"),
    "close with code 1006": ([(8, b"\x03\xee", {})], ProtocolError, "invalid status code"),
    "close with code 5000": ([(8, b"\x13\x88", {})], ProtocolError, "invalid status code"),
    "too big a message": (
        [(2, b"", {"length": 2**20 + 1})],
        PayloadTooBig,
        "frame with 1048577 bytes exceeds limit of 1048576 bytes",
    ),
    "too big in all": (
        [(2, b"1234", {"fin": False}), (0, b"", {"length": 2**20 - 3})],
        PayloadTooBig,
        "frame with 1048573 bytes after reading 4 bytes exceeds limit of 1048576 bytes",
    ),
}
CODES = {ProtocolError: 1002, PayloadTooBig: 1009, UnicodeDecodeError: 1007}


@pytest.mark.parametrize("frames, exc_type, message", BAD_FRAMES.values(), ids=BAD_FRAMES)
@pytest.mark.parametrize("before", [[], [(1, b"good", {})]], ids=["first", "second"])
def test_bad_frames(side, before, frames, exc_type, message):
    """RFC 6455 section 7.1.7: the connection fails, after what was good has been delivered."""
    protocol = Protocol(side)
    *good, bad = [*before, *frames]
    data = b"".join(from_peer(side, opcode, data, **how) for opcode, data, how in [*good, bad])
    events = feed(protocol, data)
    assert [(f.opcode, f.data, f.fin) for f in events] == [
        (opcode, data, how.get("fin", True)) for opcode, data, how in good
    ]
    assert type(protocol.parser_exc) is exc_type
    assert str(protocol.parser_exc) == message
    code = CODES[exc_type]
    pongs = [WireFrame(10) for opcode, _, _ in good if opcode == 9]
    close = WireFrame(8, close_payload(code, message))
    assert sent(protocol) == [*pongs, close, *eof_of(side)]
    assert protocol.state is CLOSING
    assert protocol.close_sent == Close(code, message)
    assert protocol.close_rcvd is None
    assert protocol.close_expected() is True

    # Nothing that comes later counts, RFC 6455 section 7.1.7 again.
    assert feed(protocol, from_peer(side, TEXT, b"late"), from_peer(side, CLOSE)) == []
    assert protocol.close_rcvd is None
    protocol.receive_eof()
    assert sent(protocol) == ([] if side is SERVER else [EOF])
    assert str(protocol.parser_exc) == message
    assert closed(protocol)[:2] == (1006, "")
    exc = protocol.close_exc
    assert type(exc) is ConnectionClosedError
    assert (exc.rcvd, exc.sent, exc.rcvd_then_sent) == (None, Close(code, message), None)


@pytest.mark.parametrize("masked", [False, True])
def test_bad_masking(masked):
    """RFC 6455 section 5.1"""
    side = CLIENT if masked else SERVER
    protocol = Protocol(side)
    assert feed(protocol, frame(TEXT, b"a", mask=KEY if masked else None)) == []
    assert repr(protocol.parser_exc) == "ProtocolError('incorrect masking')"
    assert sent(protocol)[0].close == (1002, "incorrect masking")


def test_overflowing_length_without_limits(side):
    """RFC 6455 section 5.2: the most significant bit must be 0."""
    protocol = Protocol(side, max_size=None)
    feed(protocol, from_peer(side, BINARY, length=2**63, form=8))
    assert repr(protocol.parser_exc) == "ProtocolError('invalid frame length')"
    protocol = Protocol(side, max_size=None)
    feed(protocol, from_peer(side, BINARY, length=2**63 - 1, form=8))
    assert protocol.parser_exc is None


def test_errors_of_the_wire_come_before_limits(side):
    """What is wrong with a frame is known before how long it is."""
    protocol = Protocol(side, max_size=1)
    feed(protocol, from_peer(side, BINARY, b"12345", rsv=4))
    assert sent(protocol)[0].close == (1002, "reserved bits must be 0")


def test_limits_are_not_for_control_frames(side):
    protocol = Protocol(side, max_size=(1, 1))
    data = from_peer(side, PING, b"12345") + from_peer(side, CLOSE, b"\x03\xe8bye")
    assert len(feed(protocol, data)) == 2
    assert protocol.parser_exc is None


LIMITS = {
    "fits": (5, [5], None),
    "fits in fragments": (5, [2, 0, 3], None),
    "new message, new limit": (5, [5, None, 5], None),
    "message": (5, [6], "frame with 6 bytes exceeds limit of 5 bytes"),
    "second fragment": (
        5, [4, 2], "frame with 2 bytes after reading 4 bytes exceeds limit of 5 bytes",
    ),
    "behind an empty fragment": (
        5, [0, 6], "frame with 6 bytes after reading 0 bytes exceeds limit of 5 bytes",
    ),
    "nothing": (0, [1], "frame with 1 bytes exceeds limit of 0 bytes"),
    "nothing allowed, nothing sent": (0, [0], None),
    "no limit": (None, [70000], None),
    "tuple of one": ((5, None), [6], "frame with 6 bytes exceeds limit of 5 bytes"),
    "fragment": ((None, 3), [3, 4], "frame with 4 bytes exceeds limit of 3 bytes"),
    "fragments": ((None, 3), [3, 3, 3, 3], None),
    "both, fragment": ((10, 3), [4], "frame with 4 bytes exceeds limit of 3 bytes"),
    "both, message": (
        (10, 9), [9, 2], "frame with 2 bytes after reading 9 bytes exceeds limit of 10 bytes",
    ),
    "none of both": ((None, None), [70000, 70000], None),
}  # fmt: skip


@pytest.mark.parametrize("max_size, sizes, message", LIMITS.values(), ids=LIMITS)
def test_max_size(side, max_size, sizes, message):
    protocol = Protocol(side, max_size=max_size)
    data, opcode = b"", BINARY
    for index, size in enumerate(sizes):
        if size is None:
            continue
        fin = index == len(sizes) - 1 or sizes[index + 1] is None
        data += from_peer(side, opcode, bytes(size), fin=fin)
        opcode = BINARY if fin else CONT
    feed(protocol, data)
    if message is None:
        assert protocol.parser_exc is None
        assert sent(protocol) == []
    else:
        assert type(protocol.parser_exc) is PayloadTooBig
        assert str(protocol.parser_exc) == message
        assert sent(protocol) == [WireFrame(8, close_payload(1009, message)), *eof_of(side)]


# Payloads of the frames of a text message, where the error is, and CPython's reason for it.
BAD_TEXTS = [
    ([b"\xff"], 0, 1, "invalid start byte"),
    ([b"ab\x80c"], 2, 3, "invalid start byte"),
    ([b"a\xc3"], 1, 2, "unexpected end of data"),
    ([b"a\xc3\x28"], 1, 2, "invalid continuation byte"),
    ([b"abc", b"d\xff"], 4, 5, "invalid start byte"),
    ([b"abc\xe2", b"\x82", b"("], 3, 5, "invalid continuation byte"),
    ([b"abc\xe2", b"\x82", b""], 3, 5, "unexpected end of data"),
    ([b"\xed", b"\xa0"], 0, 1, "invalid continuation byte"),
    ([b"\xf0", b"\x9f", b"\x98"], 0, 3, "unexpected end of data"),
    (["\u20ac".encode(), b"\xf4", b"\x90"], 3, 4, "invalid continuation byte"),
]  # fmt: skip


@pytest.mark.parametrize("payloads, start, end, reason", BAD_TEXTS)
def test_bad_text(side, payloads, start, end, reason):
    """RFC 6455 section 8.1; the cause is the error of the whole message so far."""
    protocol = Protocol(side)
    for index, payload in enumerate(payloads):
        last = index == len(payloads) - 1
        opcode = CONT if index else TEXT
        assert protocol.parser_exc is None
        events = feed(protocol, from_peer(side, opcode, payload, fin=last))
        assert len(events) == (not last)
    exc = protocol.parser_exc
    assert type(exc) is UnicodeDecodeError
    assert (exc.encoding, exc.object, exc.start, exc.end, exc.reason) == (
        "utf-8",
        b"".join(payloads),
        start,
        end,
        reason,
    )
    close = WireFrame(8, close_payload(1007, f"{reason} at position {start}"))
    assert sent(protocol) == [close, *eof_of(side)]


def test_bad_text_fails_before_its_frame_is_complete(side):
    """RFC 6455 section 8.1: as soon as a byte arrives that cannot be valid."""
    protocol = Protocol(side)
    data = from_peer(side, TEXT, b"good\xff and much more")
    bad = data[: len(data) - len(" and much more")]
    feed(protocol, bad[:-1])
    assert protocol.parser_exc is None
    feed(protocol, bad[-1:])
    assert isinstance(protocol.parser_exc, UnicodeDecodeError)
    assert sent(protocol)[0].close == (1007, "invalid start byte at position 4")


def test_bad_reason_of_close(side):
    protocol = Protocol(side)
    assert feed(protocol, from_peer(side, CLOSE, b"\x03\xe8a\xff")) == []
    assert protocol.parser_exc.args == ("utf-8", b"a\xff", 1, 2, "invalid start byte")
    assert sent(protocol)[0].close == (1007, "invalid start byte at position 1")


def test_bad_input_while_closing(side):
    """The close frame that was sent is the only one."""
    protocol = Protocol(side)
    protocol.send_close(1000)
    sent(protocol)
    feed(protocol, from_peer(side, 3))
    assert str(protocol.parser_exc) == "invalid opcode"
    assert protocol.close_sent == Close(1000, "")
    assert sent(protocol) == eof_of(side)


# Closing


@pytest.mark.parametrize(
    "payload, code, reason, exc_type",
    [
        (b"", 1005, "", ConnectionClosedOK),
        (b"\x03\xe8", 1000, "", ConnectionClosedOK),
        (b"\x03\xe9bye", 1001, "bye", ConnectionClosedOK),
        (b"\x03\xf3caf\xc3\xa9", 1011, "caf\xe9", ConnectionClosedError),
        (b"\x0b\xb8", 3000, "", ConnectionClosedError),
        (b"\x13\x87" + b"x" * 123, 4999, "x" * 123, ConnectionClosedError),
    ],
)
def test_peer_closes(side, payload, code, reason, exc_type):
    """RFC 6455 section 5.5.1: the answer has the same code."""
    protocol = Protocol(side)
    assert feed(protocol, from_peer(side, CLOSE, payload)) == [Frame(CLOSE, payload)]
    assert sent(protocol) == [WireFrame(8, payload), *eof_of(side)]
    close = Close(code, reason)
    assert protocol.close_rcvd == protocol.close_sent == close
    assert protocol.close_rcvd_then_sent is True
    assert protocol.state is CLOSING
    assert protocol.close_expected() is True
    assert protocol.close_code is protocol.close_reason is None

    protocol.receive_eof()
    assert sent(protocol) == ([] if side is SERVER else [EOF])
    assert protocol.state is CLOSED
    assert protocol.close_expected() is False
    assert protocol.parser_exc is None
    assert closed(protocol)[:2] == (code, reason)
    exc = protocol.close_exc
    assert type(exc) is exc_type
    assert (exc.rcvd, exc.sent, exc.rcvd_then_sent) == (close, close, True)


@pytest.mark.parametrize(
    "code, answer, exc_type",
    [
        (1000, 1000, ConnectionClosedOK),
        (1000, 1001, ConnectionClosedOK),
        (1001, None, ConnectionClosedOK),
        (None, None, ConnectionClosedOK),
        (1000, 1011, ConnectionClosedError),
        (1011, 1000, ConnectionClosedError),
        (3000, 3000, ConnectionClosedError),
    ],
)
def test_this_side_closes(side, code, answer, exc_type):
    protocol = Protocol(side)
    protocol.send_close(code)
    sent(protocol)
    payload = b"" if answer is None else close_payload(answer, "ok")
    assert feed(protocol, from_peer(side, CLOSE, payload)) == [Frame(CLOSE, payload)]
    assert sent(protocol) == eof_of(side)
    assert protocol.close_rcvd_then_sent is False
    assert protocol.state is CLOSING
    protocol.receive_eof()
    assert closed(protocol)[:2] == (answer or 1005, "ok" if answer else "")
    exc = protocol.close_exc
    assert type(exc) is exc_type
    assert exc.sent == Close(code or 1005, "")
    assert exc.rcvd_then_sent is False


def test_both_sides_close_at_once():
    client, server = Protocol(CLIENT), Protocol(SERVER)
    client.send_close(1000, "client")
    server.send_close(1001, "server")
    to_server, to_client = client.data_to_send(), server.data_to_send()
    feed(client, *to_client), feed(server, *to_server)
    assert sent(client) == []
    assert sent(server) == [EOF]
    client.receive_eof()
    assert sent(client) == [EOF]
    server.receive_eof()
    assert closed(client)[:2] == (1001, "server")
    assert closed(server)[:2] == (1000, "client")
    for protocol in (client, server):
        assert type(protocol.close_exc) is ConnectionClosedOK
        assert protocol.close_rcvd_then_sent is False


def test_codes_received(side):
    """RFC 6455 section 7.4"""
    for code in [*range(995, 1020), *range(2995, 3005), *range(4995, 5005), 0, 1, 65535]:
        protocol = Protocol(side)
        feed(protocol, from_peer(side, CLOSE, code.to_bytes(2, "big")))
        valid = code in {1000, 1001, 1002, 1003, *range(1007, 1015)} or 3000 <= code <= 4999
        assert (protocol.parser_exc is None) == valid
        answered = sent(protocol)[0].close
        assert answered == ((code, "") if valid else (1002, "invalid status code"))


def test_data_behind_a_close_frame(side):
    """RFC 6455 section 1.4: it is discarded, and there is only one answer."""
    protocol = Protocol(side)
    data = from_peer(side, CLOSE, b"\x03\xe8") + from_peer(side, TEXT, b"late")
    assert feed(protocol, data) == [Frame(CLOSE, b"\x03\xe8")]
    assert feed(protocol, from_peer(side, CLOSE, b"\x03\xe9"), b"garbage") == []
    assert sent(protocol) == [WireFrame(8, b"\x03\xe8"), *eof_of(side)]
    assert protocol.close_rcvd == Close(1000, "")
    assert protocol.parser_exc is None


def test_nothing_can_be_sent_after_a_close_frame_was_received(side):
    protocol = Protocol(side)
    feed(protocol, from_peer(side, CLOSE))
    for send in (protocol.send_text, protocol.send_binary):
        with pytest.raises(InvalidState, match=r"\Aconnection is closing\Z"):
            send(b"")
    with pytest.raises(InvalidState, match=r"\Aconnection is closing\Z"):
        protocol.send_close()


# Failing


def test_fail(side):
    """RFC 6455 section 7.1.7"""
    protocol = Protocol(side)
    assert protocol.fail(1011, "why") is None
    assert sent(protocol) == [WireFrame(8, b"\x03\xf3why"), *eof_of(side)]
    assert protocol.state is CLOSING
    assert protocol.close_sent == Close(1011, "why")
    assert protocol.parser_exc is None
    assert protocol.close_expected() is True
    # What the peer still says is not heard.
    assert feed(protocol, from_peer(side, TEXT, b"a"), from_peer(side, CLOSE, b"\x03\xe8")) == []
    assert protocol.close_rcvd is None
    protocol.receive_eof()
    assert sent(protocol) == ([] if side is SERVER else [EOF])
    assert protocol.parser_exc is None
    assert repr(protocol.close_exc.sent) == "Close(code=1011, reason='why')"


def test_fail_without_a_close_frame(side):
    protocol = Protocol(side)
    protocol.fail(CloseCode.ABNORMAL_CLOSURE)
    assert sent(protocol) == eof_of(side)
    assert protocol.state is OPEN
    if side is SERVER:
        # Nothing follows the end of our stream.
        with pytest.raises(InvalidState, match=r"\Aconnection is closing\Z"):
            protocol.send_binary(b"a")
        assert sent(protocol) == []
    assert protocol.close_sent is None
    assert feed(protocol, from_peer(side, TEXT, b"a")) == []
    protocol.receive_eof()
    assert protocol.state is CLOSED


@pytest.mark.parametrize("code, reason", [(1005, ""), (999, ""), (1000, "x" * 124)])
def test_fail_with_what_cannot_be_sent(side, code, reason):
    protocol = Protocol(side)
    with pytest.raises(ProtocolError):
        protocol.fail(code, reason)
    assert sent(protocol) == []
    assert protocol.state is OPEN


def test_fail_while_closing(side):
    protocol = Protocol(side)
    protocol.send_close(1000)
    protocol.fail(1011)
    assert sent(protocol) == [WireFrame(8, b"\x03\xe8"), *eof_of(side)]
    assert protocol.close_sent == Close(1000, "")
    assert feed(protocol, from_peer(side, TEXT, b"a")) == []


def test_fail_twice(side):
    protocol = Protocol(side)
    protocol.fail(1011)
    protocol.fail(1002)
    assert sent(protocol) == [WireFrame(8, b"\x03\xf3"), *eof_of(side)]


def test_fail_after_the_end(side):
    protocol = Protocol(side)
    protocol.receive_eof()
    assert sent(protocol) == [EOF]
    protocol.fail(1011)
    assert sent(protocol) == []
    assert protocol.state is CLOSED


# The end of the stream

PLACES = [
    (b"", "unexpected end of stream"),
    (b"\x81", "stream ends after 1 bytes, expected 2 bytes"),
]
PLACES_CLIENT = [
    (b"\x81\x05", "stream ends after 0 bytes, expected 5 bytes"),
    (b"\x81\x05abc", "stream ends after 3 bytes, expected 5 bytes"),
    (b"\x82\x7e", "stream ends after 0 bytes, expected 2 bytes"),
    (b"\x82\x7e\x01", "stream ends after 1 bytes, expected 2 bytes"),
    (b"\x82\x7f\x00\x00\x00", "stream ends after 3 bytes, expected 8 bytes"),
    (b"\x82\x7e\x01\x00a", "stream ends after 1 bytes, expected 256 bytes"),
    (b"\x81\x01a", "unexpected end of stream"),
    (b"\x01\x01a", "unexpected end of stream"),
]
PLACES_SERVER = [
    (b"\x81\x85", "stream ends after 0 bytes, expected 4 bytes"),
    (b"\x81\x85\x00\x00", "stream ends after 2 bytes, expected 4 bytes"),
    (b"\x81\x85\x00\x00\x00\x00", "stream ends after 0 bytes, expected 5 bytes"),
    (b"\x81\x85\x00\x00\x00\x00abc", "stream ends after 3 bytes, expected 5 bytes"),
    (b"\x82\xfe\x01", "stream ends after 1 bytes, expected 2 bytes"),
    (b"\x82\xfe\x01\x00\x00", "stream ends after 1 bytes, expected 4 bytes"),
]


@pytest.mark.parametrize(
    "side, data, message",
    [(side, *place) for side in (CLIENT, SERVER) for place in PLACES]
    + [(CLIENT, *place) for place in PLACES_CLIENT]
    + [(SERVER, *place) for place in PLACES_SERVER],
)
def test_eof_anywhere(side, data, message):
    protocol = Protocol(side)
    feed(protocol, data)
    assert sent(protocol) == []
    assert protocol.receive_eof() is None
    assert type(protocol.parser_exc) is EOFError
    assert str(protocol.parser_exc) == message
    assert sent(protocol) == [EOF]
    assert protocol.state is CLOSED
    assert closed(protocol)[:2] == (1006, "")
    exc = protocol.close_exc
    assert type(exc) is ConnectionClosedError
    assert (exc.rcvd, exc.sent, exc.rcvd_then_sent) == (None, None, None)
    assert str(exc) == "no close frame received or sent"


def test_eof_instead_of_an_answer(side):
    protocol = Protocol(side)
    protocol.send_close(1000, "bye")
    protocol.receive_eof()
    assert sent(protocol) == [WireFrame(8, b"\x03\xe8bye"), EOF]
    assert str(protocol.parser_exc) == "unexpected end of stream"
    assert str(protocol.close_exc) == "sent 1000 (OK) bye; no close frame received"


def test_after_eof(side):
    protocol = Protocol(side)
    protocol.receive_eof()
    sent(protocol)
    with pytest.raises(EOFError, match=r"\Astream ended\Z"):
        protocol.receive_data(b"data")
    protocol.receive_eof()
    assert sent(protocol) == []
    for send in (protocol.send_text, protocol.send_ping, protocol.send_pong):
        with pytest.raises(InvalidState, match=r"\Aconnection is closed\Z"):
            send(b"")
    assert protocol.events_received() == []


def test_eof_where_the_application_has_set_the_state(side, log):
    logger, lines = log
    protocol = Protocol(side, logger=logger)
    protocol.state = CLOSED
    protocol.receive_eof()
    assert sent(protocol) == [EOF]
    assert lines.count("DEBUG = connection is CLOSED") == 1


def test_good_frames_before_eof_are_kept(side):
    protocol = Protocol(side)
    protocol.receive_data(from_peer(side, TEXT, b"a"))
    protocol.receive_eof()
    assert protocol.events_received() == [Frame(TEXT, b"a")]


@pytest.mark.parametrize("state", [CONNECTING, OPEN, CLOSING])
def test_how_it_closed_is_not_known_before(side, state):
    protocol = Protocol(side, state=state)
    assert protocol.close_code is None
    assert protocol.close_reason is None
    with pytest.raises(AssertionError, match=r"\Aconnection isn't closed yet\Z"):
        protocol.close_exc  # noqa: B018


@pytest.mark.parametrize("state", State)
def test_close_expected(side, state):
    assert Protocol(side, state=state).close_expected() is (state is CLOSING)


def test_close_expected_after_a_failed_handshake(side):
    protocol = Protocol(side, state=CONNECTING)
    protocol.fail(1006)
    assert protocol.close_expected() is True


def test_close_exc_is_new_each_time(side):
    """Else tracebacks would pile up on one."""
    protocol = Protocol(side)
    protocol.receive_eof()
    assert protocol.close_exc is not protocol.close_exc
    assert str(pickle.loads(pickle.dumps(protocol.close_exc))) == str(protocol.close_exc)


def test_close_exc_tells_the_cause(side):
    protocol = Protocol(side)
    protocol.receive_eof()
    assert repr(protocol.close_exc.__cause__) == "EOFError('unexpected end of stream')"
    protocol = Protocol(side)
    protocol.receive_data(from_peer(side, 3))
    protocol.receive_eof()
    assert protocol.close_exc.__cause__ is protocol.parser_exc
    assert isinstance(protocol.parser_exc, ProtocolError)
    protocol = Protocol(side)
    protocol.receive_data(from_peer(side, CLOSE))
    protocol.receive_eof()
    assert protocol.close_exc.__cause__ is None


@pytest.mark.parametrize(("cut", "logged"), [(0, True), (1, False), (3, False)])
def test_the_end_of_the_stream_is_logged(side, cut, logged, caplog):
    """Between two frames, as 17.4 does it."""
    caplog.set_level(logging.DEBUG, "websockets")
    protocol = Protocol(side)
    protocol.receive_data(from_peer(side, TEXT, b"message")[:cut])
    caplog.clear()
    protocol.receive_eof()
    assert ("< EOF" in caplog.messages) is logged
    assert "> EOF" in caplog.messages


def test_base_class_has_no_handshake(side):
    with pytest.raises(NotImplementedError):
        Protocol(side, state=CONNECTING).receive_handshake()


# Frames behind the handshake


def test_frames_wait_for_the_end_of_the_handshake(side):
    """Also where an application sets the state."""
    protocol = Protocol(side, state=CONNECTING)
    assert feed(protocol, from_peer(side, TEXT, b"early")) == []
    protocol.state = OPEN
    assert protocol.events_received() == [Frame(TEXT, b"early")]


@pytest.mark.parametrize("cls, side", [(ClientProtocol, CLIENT), (ServerProtocol, SERVER)])
def test_client_and_server_start_where_they_are_told(cls, side):
    args = ("ws://localhost/",) if side is CLIENT else ()
    protocol = cls(*args, state=OPEN)
    assert protocol.side is side
    assert feed(protocol, from_peer(side, TEXT, b"a")) == [Frame(TEXT, b"a")]


# Extensions


class RunLength(Extension):
    """Pairs of a count and a byte, where RSV1 says so."""

    name = "run-length"

    def __init__(self, *, bits="rsv1", heeds_limits=True, keeps_bits=False):
        self.bits, self.heeds_limits, self.keeps_bits = bits, heeds_limits, keeps_bits
        self.active = False
        self.limits = []

    def encode(self, frame):
        if frame.opcode >= 8:
            return frame
        data = b"".join(bytes([1, byte]) for byte in bytes(frame.data))
        return dataclasses.replace(
            frame, data=data, **({self.bits: True} if frame.opcode is not CONT else {})
        )

    def decode(self, frame, *, max_size=None):
        self.limits.append(max_size)
        if frame.opcode >= 8:
            return frame
        if frame.opcode is not CONT:
            self.active = getattr(frame, self.bits)
        if not self.active:
            return frame
        if len(frame.data) % 2:
            raise ProtocolError("half a pair")
        pairs = zip(frame.data[::2], frame.data[1::2], strict=True)
        data = b"".join(count * bytes([byte]) for count, byte in pairs)
        if self.heeds_limits and max_size is not None and len(data) > max_size:
            raise PayloadTooBig(None, max_size)
        return dataclasses.replace(
            frame, data=data, **({} if self.keeps_bits else {self.bits: False})
        )


def with_extension(side, *extensions, **kwargs):
    protocol = Protocol(side, **kwargs)
    protocol.extensions = list(extensions)
    return protocol


def test_extension_encodes(side):
    protocol = with_extension(side, RunLength())
    protocol.send_text(b"ab")
    protocol.send_binary(b"c", fin=False)
    protocol.send_ping(b"ping")
    protocol.send_continuation(b"d", fin=True)
    assert sent(protocol) == [
        WireFrame(1, b"\x01a\x01b", rsv=4),
        WireFrame(2, b"\x01c", fin=False, rsv=4),
        WireFrame(9, b"ping"),
        WireFrame(0, b"\x01d"),
    ]


def test_extension_encodes_large_payloads():
    protocol = with_extension(SERVER, RunLength())
    protocol.send_binary(bytes(LARGE_PAYLOAD))
    assert sent(protocol) == [WireFrame(2, b"\x01\x00" * LARGE_PAYLOAD, rsv=4)]


def test_extension_decodes(side):
    protocol = with_extension(side, RunLength())
    data = [
        from_peer(side, TEXT, b"\x03a\x02b", rsv=4),
        from_peer(side, TEXT, b"plain"),
        from_peer(side, BINARY, b"\x02\xff", rsv=4, fin=False),
        from_peer(side, PING, b"ping"),
        from_peer(side, CONT, b"\x01\x00"),
    ]
    assert feed(protocol, b"".join(data)) == [
        Frame(TEXT, b"aaabb"),
        Frame(TEXT, b"plain"),
        Frame(BINARY, b"\xff\xff", fin=False),
        Frame(PING, b"ping"),
        Frame(CONT, b"\x00"),
    ]
    assert sent(protocol) == [WireFrame(10, b"ping")]


def test_extensions_nest(side):
    """RFC 6455 section 9.1: the first one is applied first to what is sent."""
    sender = with_extension(side, RunLength(), RunLength(bits="rsv2"))
    receiver = with_extension(Side(1 - side), RunLength(), RunLength(bits="rsv2"))
    sender.send_text(b"a")
    (data,) = sender.data_to_send()
    assert read_wire(data)[0].payload == b"\x01\x01\x01a"
    assert read_wire(data)[0].rsv == 6
    assert feed(receiver, data) == [Frame(TEXT, b"a")]


@pytest.mark.parametrize("opcode", [TEXT, PING])
@pytest.mark.parametrize("rsv", [1, 2, 3, 6])
def test_extension_leaves_bits(side, opcode, rsv):
    """RFC 6455 section 5.2: bits that no extension gave a meaning to."""
    protocol = with_extension(side, RunLength())
    assert feed(protocol, from_peer(side, opcode, b"\x01a", rsv=rsv)) == []
    assert sent(protocol)[0].close == (1002, "reserved bits must be 0")


def test_extension_that_does_not_clear_its_bit(side):
    protocol = with_extension(side, RunLength(keeps_bits=True))
    feed(protocol, from_peer(side, TEXT, b"\x01a", rsv=4))
    assert sent(protocol)[0].close == (1002, "reserved bits must be 0")


def test_extension_refuses_a_frame(side):
    protocol = with_extension(side, RunLength())
    good = from_peer(side, TEXT, b"\x01a", rsv=4)
    assert feed(protocol, good + from_peer(side, TEXT, b"\x01", rsv=4)) == [Frame(TEXT, b"a")]
    assert sent(protocol)[0].close == (1002, "half a pair")


def test_extension_is_told_the_limit(side):
    extension = RunLength()
    protocol = with_extension(side, extension, max_size=(10, 6))
    feed(protocol, from_peer(side, BINARY, b"\x05a", rsv=4, fin=False))
    feed(protocol, from_peer(side, PING, b"ping"))
    feed(protocol, from_peer(side, CONT, b"\x05a"))
    feed(protocol, from_peer(side, BINARY, b"\x06a", rsv=4))
    assert protocol.parser_exc is None
    assert extension.limits == [6, None, 5, 6]


def test_extension_without_limit(side):
    extension = RunLength()
    protocol = with_extension(side, extension, max_size=None)
    feed(protocol, from_peer(side, BINARY, b"\x05a", rsv=4))
    assert extension.limits == [None]


@pytest.mark.parametrize("heeds_limits", [True, False])
@pytest.mark.parametrize(
    "max_size, payloads, size, message",
    [
        (4, [b"\x05a"], 5, "exceeds limit of 4 bytes"),
        (9, [b"\x05a", b"\x05a"], 5, "after reading 5 bytes exceeds limit of 9 bytes"),
        (6, [b"\x04a", b"\x03a"], 3, "after reading 4 bytes exceeds limit of 6 bytes"),
        (2, [b"\x00a", b"\x03a"], 3, "after reading 0 bytes exceeds limit of 2 bytes"),
        ((None, 4), [b"\x04a", b"\x05a"], 5, None),
        ((20, 4), [b"\x04a", b"\x05a"], 5, None),
    ],
)
def test_limits_hold_after_decoding(side, max_size, payloads, size, message, heeds_limits):
    protocol = with_extension(side, RunLength(heeds_limits=heeds_limits), max_size=max_size)
    for index, payload in enumerate(payloads):
        assert protocol.parser_exc is None
        last = index == len(payloads) - 1
        how = {"rsv": 0, "fin": last} if index else {"rsv": 4, "fin": last}
        feed(protocol, from_peer(side, CONT if index else BINARY, payload, **how))
    exc = protocol.parser_exc
    assert type(exc) is PayloadTooBig
    if message is None:
        assert "exceeds limit of" in str(exc)
    elif heeds_limits:
        assert str(exc) == f"frame {message}"
    else:
        assert str(exc) == f"frame with {size} bytes {message}"
    assert sent(protocol)[0].close == (1009, str(exc))


def test_limits_start_again_with_each_message(side):
    protocol = with_extension(side, RunLength(), max_size=5)
    for _ in range(3):
        feed(protocol, from_peer(side, BINARY, b"\x03a", rsv=4, fin=False))
        feed(protocol, from_peer(side, CONT, b"\x02a"))
    assert protocol.parser_exc is None


@pytest.mark.parametrize(
    "payloads, reason",
    [
        ([b"\x01\xff"], "invalid start byte at position 0"),
        ([b"\x02a\x01\xe2", b"\x01\x82", b"\x01a"], "invalid continuation byte at position 2"),
        ([b"\x02a\x01\xe2", b"\x01\x82"], "unexpected end of data at position 2"),
    ],
)
def test_text_is_checked_after_decoding(side, payloads, reason):
    protocol = with_extension(side, RunLength())
    for index, payload in enumerate(payloads):
        assert protocol.parser_exc is None
        last = index == len(payloads) - 1
        feed(protocol, from_peer(side, 0 if index else 1, payload, rsv=0 if index else 4, fin=last))
    assert sent(protocol)[0].close == (1007, reason)


def test_text_is_not_checked_before_decoding(side):
    protocol = with_extension(side, RunLength())
    payloads = b"\x01\xc3", b"\x01\xa9\xff\x61"
    data = from_peer(side, TEXT, payloads[0], rsv=4, fin=False) + from_peer(side, CONT, payloads[1])
    assert feed(protocol, data) == [
        Frame(TEXT, b"\xc3", fin=False),
        Frame(CONT, b"\xa9" + b"a" * 255),
    ]
    # A binary message after it is not text.
    assert len(feed(protocol, from_peer(side, BINARY, b"\x01\xff", rsv=4))) == 1


def test_extensions_can_be_taken_away_again(side):
    protocol = with_extension(side, RunLength())
    protocol.extensions = []
    feed(protocol, from_peer(side, TEXT, b"\x01a", rsv=4))
    assert sent(protocol)[0].close == (1002, "reserved bits must be 0")


# Pongs held back


def test_hold_pongs(side):
    """RFC 6455 section 5.5.3: the pong to the latest ping answers for those before it."""
    protocol = Protocol(side)
    protocol.hold_pongs(True)
    for payload in (b"1", b"2", b"3"):
        feed(protocol, from_peer(side, PING, payload))
    assert sent(protocol) == []
    protocol.hold_pongs(False)
    assert sent(protocol) == [WireFrame(10, b"3")]
    protocol.hold_pongs(False)
    assert sent(protocol) == []
    feed(protocol, from_peer(side, PING, b"4"))
    assert sent(protocol) == [WireFrame(10, b"4")]


def test_hold_pongs_while_closing(side):
    protocol = Protocol(side)
    protocol.hold_pongs(True)
    protocol.send_close(1000)
    feed(protocol, from_peer(side, PING, b"1"))
    protocol.hold_pongs(False)
    assert sent(protocol) == [WireFrame(8, b"\x03\xe8"), WireFrame(10, b"1")]


@pytest.mark.parametrize("end", ["eof", "fail", "close"])
def test_held_pong_is_not_sent_behind_the_end(end):
    protocol = Protocol(SERVER)
    protocol.hold_pongs(True)
    feed(protocol, from_peer(SERVER, PING, b"1"))
    if end == "eof":
        protocol.receive_eof()
    elif end == "fail":
        protocol.fail(1011)
    else:
        feed(protocol, from_peer(SERVER, CLOSE))
    assert sent(protocol)[-1] == EOF
    protocol.hold_pongs(False)
    assert sent(protocol) == []


# The debug log


@pytest.fixture
def log():
    """A logger for one connection, and the lines it got."""
    logger = logging.getLogger("websockets.tests.protocol")
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(f"{record.levelname} {record.getMessage()}")
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(logging.DEBUG)
    yield logger, lines
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


def test_debug_log_of_a_conversation(side, log):
    logger, lines = log
    protocol = Protocol(side, logger=logger)
    assert protocol.debug is True
    protocol.send_text(b"hello")
    protocol.send_binary(b"\x00\x01", fin=False)
    feed(protocol, from_peer(side, PING, b"?") + from_peer(side, TEXT, b"a", fin=False))
    protocol.send_close(1000, "bye")
    feed(protocol, from_peer(side, CLOSE, b"\x03\xe8"))
    protocol.receive_eof()
    expected = [
        "= connection is OPEN",
        "> TEXT 'hello' [5 bytes]",
        "> BINARY 00 01 [2 bytes, continued]",
        "< PING '?' [text, 1 byte]",
        "> PONG '?' [text, 1 byte]",
        "< TEXT 'a' [1 byte, continued]",
        "> CLOSE 1000 (OK) bye [5 bytes]",
        "= connection is CLOSING",
        "< CLOSE 1000 (OK) [2 bytes]",
        "> EOF",
        "= connection is CLOSED",
    ]
    assert [line for line in lines if line.startswith("DEBUG")] == [f"DEBUG {x}" for x in expected]
    assert [line for line in lines if not line.startswith("DEBUG")] == (
        ["INFO connection closed"] if side is SERVER else []
    )
    assert sent(protocol)[0] == WireFrame(1, b"hello")


def test_debug_log_of_a_lost_connection(side, log):
    logger, lines = log
    protocol = Protocol(side, logger=logger)
    protocol.receive_eof()
    assert lines[:4] == [
        "DEBUG = connection is OPEN",
        "DEBUG < EOF",
        "DEBUG > EOF",
        "DEBUG = connection is CLOSED",
    ]


def test_log_of_a_server_without_debug(log):
    logger, lines = log
    logger.setLevel(logging.INFO)
    protocol = Protocol(SERVER, logger=logger)
    feed(protocol, from_peer(SERVER, PING) + from_peer(SERVER, 3))
    protocol.receive_eof()
    assert lines == ["INFO connection closed"]


def test_debug_log_of_a_failure(side, log):
    logger, lines = log
    protocol = Protocol(side, logger=logger)
    feed(protocol, from_peer(side, TEXT, b"good") + from_peer(side, 3))
    assert lines[1:4] == [
        "DEBUG < TEXT 'good' [4 bytes]",
        "DEBUG > CLOSE 1002 (protocol error) invalid opcode [16 bytes]",
        "DEBUG = connection is CLOSING",
    ]


# The short way


@pytest.mark.parametrize("state", State)
def test_plain_is_true_only_while_open(side, state):
    assert Protocol(side, state=state).plain is (state is OPEN)
    protocol = Protocol(side)
    protocol.state = state
    assert protocol.plain is (state is OPEN)


def test_plain_is_false_inside_a_message(side):
    protocol = Protocol(side)
    protocol.send_ping(b"")
    assert protocol.plain is True
    protocol.send_text(b"", fin=False)
    assert protocol.plain is False
    protocol.send_continuation(b"", fin=False)
    assert protocol.plain is False
    protocol.send_continuation(b"", fin=True)
    assert protocol.plain is True


def test_plain_is_false_with_extensions(side):
    protocol = with_extension(side, RunLength())
    assert protocol.plain is False
    protocol.extensions = []
    assert protocol.plain is True


def test_plain_is_false_while_frames_are_logged(side, log):
    assert Protocol(side, logger=log[0]).plain is False


@pytest.mark.parametrize("end", ["close", "closed by the peer", "fail", "bad input", "eof"])
def test_plain_is_false_after_the_end(side, end):
    protocol = Protocol(side)
    if end == "close":
        protocol.send_close()
    elif end == "closed by the peer":
        feed(protocol, from_peer(side, CLOSE))
    elif end == "fail":
        protocol.fail(1011)
    elif end == "bad input":
        feed(protocol, from_peer(side, 3))
    else:
        protocol.receive_eof()
    assert protocol.plain is False


def test_read_frame(side):
    protocol = Protocol(side)
    assert protocol.read_frame() is None
    protocol.reader.feed(from_peer(side, TEXT, b"a") + from_peer(side, PING) + b"\x83\x80")
    assert protocol.read_frame() == Frame(TEXT, b"a")
    assert sent(protocol) == []
    assert protocol.read_frame() == Frame(PING, b"")
    assert sent(protocol) == [WireFrame(10)], "each frame takes effect when it is read"
    assert protocol.state is OPEN
    assert protocol.read_frame() is None
    assert protocol.state is CLOSING
    assert protocol.read_frame() is None
    assert protocol.events_received() == []


def test_read_frame_reads_nothing_after_the_end(side):
    protocol = Protocol(side)
    protocol.reader.feed(from_peer(side, TEXT, b"a"))
    protocol.fail(1011)
    assert protocol.read_frame() is None


class Outcome:
    """What came out of a connection: messages, fragments and control frames in their order."""

    def __init__(self, protocol):
        self.protocol = protocol
        self.received = []

    def message(self, data):
        self.received.append(data)

    def frame(self, frame):
        whole = frame.fin and frame.opcode in (TEXT, BINARY)
        if not whole:
            self.received.append(frame)
        else:
            self.received.append(frame.data.decode() if frame.opcode is TEXT else frame.data)

    def state(self):
        p = self.protocol
        return (
            self.received,
            sent(p),
            p.state,
            p.close_rcvd,
            p.close_sent,
            p.close_rcvd_then_sent,
            p.close_code,
            p.close_expected(),
            p.ended,
            type(p.parser_exc),
            str(p.parser_exc),
        )


@st.composite
def streams(draw):
    """Bytes that are mostly frames, cut anywhere."""
    side = draw(st.sampled_from([CLIENT, SERVER]))
    texts = st.text(CHARACTERS, max_size=8).map(str.encode)
    data = b""
    for _ in range(draw(st.integers(1, 8))):
        opcode = draw(st.sampled_from([1, 1, 1, 2, 2, 0, 0, 8, 9, 10, 3]))
        payload = draw(
            st.sampled_from([b"", b"\x03\xe8bye", b"\x03\xed", b"\x03"])
            if opcode == 8
            else st.one_of(texts, texts, st.binary(max_size=8))
        )
        data += from_peer(
            side,
            opcode,
            payload,
            fin=opcode > 7 or draw(st.integers(0, 2)) > 0,
            rsv=draw(st.sampled_from([0] * 20 + [1, 2, 4])),
        )
    data = data[: draw(st.integers(len(data) // 2, len(data)))] if draw(st.booleans()) else data
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=4)))
    pieces = [data[i:j] for i, j in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    return side, pieces, draw(st.sampled_from([2**20, None, 6, (10, 4)])), draw(st.booleans())


@settings(patient, max_examples=300)
@given(streams(), st.integers(1, 4), st.booleans())
def test_the_short_way_leads_to_the_same(stream, limit, extended):
    side, pieces, max_size, closing = stream
    long, short = (Outcome(Protocol(side, max_size=max_size)) for _ in range(2))
    for outcome in (long, short):
        if extended:
            outcome.protocol.extensions = [RunLength(bits="rsv2")]
        if closing:
            outcome.protocol.send_close(1001)

    for piece in pieces:
        long.protocol.receive_data(piece)
        for event in long.protocol.events_received():
            long.frame(event)

        if not short.protocol.ended:
            short.protocol.reader.feed(piece)
        while True:
            messages = [] if short.protocol.ended else short.protocol.reader.read_messages(limit)
            assert len(messages) <= limit
            for message in messages:
                short.message(message)
            if not messages:
                frame = short.protocol.read_frame()
                if frame is None:
                    break
                short.frame(frame)
        assert short.state() == long.state()

    for outcome in (long, short):
        outcome.protocol.receive_eof()
    assert short.state() == long.state()
    assert short.protocol.state is CLOSED


@patient
@given(streams())
def test_cuts_do_not_matter(stream):
    side, pieces, max_size, _ = stream
    cut, whole = (Outcome(Protocol(side, max_size=max_size)) for _ in range(2))
    cut.protocol.receive_data(b"".join(pieces))
    for piece in pieces:
        whole.protocol.receive_data(piece)
    for outcome in (cut, whole):
        for event in outcome.protocol.events_received():
            outcome.frame(event)
    # UTF-8 is checked as it arrives: only how much of the text the error knows may differ.
    assert cut.state()[:-1] == whole.state()[:-1]


def test_opcodes_of_events_are_members():
    """Not equal integers: callers compare with ``is``."""
    for opcode in Opcode:
        protocol = Protocol(CLIENT)
        if opcode is CONT:
            feed(protocol, frame(BINARY, fin=False))
        assert feed(protocol, frame(opcode))[0].opcode is opcode
