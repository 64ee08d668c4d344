"""
Two sides of a connection, and anything that they and the network between them may do.

Each machine runs beside a model, written from RFC 6455, that says exactly which frames are on the
wire, which events come out, and how the connection stands. Frames are taken apart, and messages
inflated, without the library.

``python -m tests.test_state_machine MINUTES`` looks for so long for what ``make test``, in its few
seconds, has not found.
"""

from __future__ import annotations

import sys
import time
import zlib
from collections import deque
from dataclasses import dataclass, replace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from websockets.client import ClientProtocol
from websockets.exceptions import (
    ConnectionClosedError,
    ConnectionClosedOK,
    InvalidMessage,
    InvalidState,
    InvalidStatus,
    PayloadTooBig,
    ProtocolError,
)
from websockets.extensions.base import Extension
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    PerMessageDeflate,
    ServerPerMessageDeflateFactory,
)
from websockets.frames import Close, Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import (
    CLIENT,
    CLOSED,
    CLOSING,
    CONNECTING,
    OPEN,
    SEND_EOF,
    SERVER,
    Protocol,
)
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from .helpers import BINARY, CLOSE, CONT, PING, PONG, TEXT, WireFrame, close_payload, frame
from .test_protocol import read_wire

BLOCK = bytes(range(256))
KEY = b"\x12\x34\x56\x78"
EVERYTHING = 10**9

# Characters of one to four bytes.
CHARACTERS = "a\xe9\u20ac\U0001f600"

# RFC 6455 section 7.4.1
OK_CODES = {1000, 1001, 1005}
CODES = [1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4999]

COMPRESS = [None, True, False]

# RFC 7692 section 7.2.2
TAIL = b"\x00\x00\xff\xff"

SETTINGS = settings(
    max_examples=120,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

# Where the form of the length changes, and where the library ceases to copy.
sizes = st.sampled_from([125, 126, 1000, 65535, 65536, 70_000])
texts = st.text(CHARACTERS, max_size=40) | sizes.map(lambda size: "\u20ac" * (size // 3))
binaries = st.binary(max_size=200) | sizes.map(lambda size: (BLOCK * size)[:size])
messages = st.tuples(st.just(TEXT), texts.map(str.encode)) | st.tuples(st.just(BINARY), binaries)
sides = st.sampled_from([CLIENT, SERVER])
controls = st.binary(max_size=10) | st.just(bytes(125))
reasons = st.text(CHARACTERS, max_size=30) | st.just("\u20ac" * 41)


class Reversed(Extension):
    """An extension that reverses data frames and says so in RSV2."""

    name = "x-reversed"

    def encode(self, frame):
        if frame.opcode >= 8:
            return frame
        return replace(frame, data=bytes(frame.data)[::-1], rsv2=True)

    def decode(self, frame, *, max_size=None):
        if frame.opcode >= 8:
            return frame
        if not frame.rsv2:
            raise ProtocolError("not reversed")
        return replace(frame, data=bytes(frame.data)[::-1], rsv2=False)


@dataclass(frozen=True)
class Compression:
    """What permessage-deflate was negotiated to be, by side: client's and server's."""

    no_context_takeover: tuple[bool, bool]
    window_bits: tuple[int, int]
    threshold: int

    def of(self, side):
        """Return what a side compresses and inflates with."""
        return PerMessageDeflate(
            self.no_context_takeover[side is CLIENT],
            self.no_context_takeover[side is SERVER],
            self.window_bits[side is CLIENT],
            self.window_bits[side is SERVER],
            threshold=self.threshold,
        )

    def client_factory(self):
        return ClientPerMessageDeflateFactory(
            server_no_context_takeover=self.no_context_takeover[1],
            client_no_context_takeover=self.no_context_takeover[0],
            server_max_window_bits=self.window_bits[1],
            client_max_window_bits=self.window_bits[0],
        )

    def server_factory(self):
        return ServerPerMessageDeflateFactory(
            server_no_context_takeover=self.no_context_takeover[1],
            client_no_context_takeover=self.no_context_takeover[0],
            server_max_window_bits=self.window_bits[1],
            client_max_window_bits=self.window_bits[0],
        )


compressions = st.builds(
    Compression,
    st.tuples(st.booleans(), st.booleans()),
    st.tuples(st.integers(8, 15), st.integers(8, 15)),
    st.sampled_from([0, 32, 1000]),
)


# What is on the wire

EOF = "EOF"


@dataclass(frozen=True)
class Http:
    """A request, or a response with its status."""

    status: int | None = None


@dataclass(frozen=True)
class Garbage:
    """Bytes that no peer may send: what they are to the receiver, and the code of its answer."""

    error: type[Exception]
    code: int


WRONG = Garbage(ProtocolError, 1002)
NO_TEXT = Garbage(UnicodeDecodeError, 1007)
TOO_BIG = Garbage(PayloadTooBig, 1009)


class Pipe:
    """One direction of a TCP connection."""

    def __init__(self):
        self.data = b""  # on the way
        self.taken = 0  # how many bytes have arrived
        self.items = deque()  # what is on the way, with the places where it starts and ends
        self.eof = False  # whether the end of the stream comes behind the data
        self.closed = False  # whether that has arrived

    def put(self, data, item):
        if not self.eof:
            start = self.taken + len(self.data)
            self.data += data
            self.items.append((start, start + len(data), item))

    def take(self, size):
        """Return the next bytes, and what has arrived completely with them."""
        stop = self.taken + min(size, len(self.data))
        for start, end, item in self.items:
            # Some garbage shows in its first byte, other in its last: it comes at once.
            if type(item) is Garbage and start < stop < end:
                stop = end
        size = stop - self.taken
        data, self.data, self.taken = self.data[:size], self.data[size:], stop
        arrived = []
        while self.items and self.items[0][1] <= stop:
            arrived.append(self.items.popleft()[2])
        return data, arrived

    def cut(self, keep):
        """End the stream behind so many of the bytes that are on the way."""
        self.data = self.data[:keep]
        stop = self.taken + len(self.data)
        # Half of something wrong may be wrong already.
        whole = [item for item in self.items if item[1] <= stop or type(item[2]) is not Garbage]
        if len(whole) < len(self.items):
            stop = min(stop, self.items[len(whole)][0])
            self.data = self.data[: stop - self.taken]
        self.items = deque(item for item in self.items if item[1] <= stop)
        self.eof = True


# A side


class End:
    """A side: the protocol under test, and the model of what it must do."""

    def __init__(self, protocol, limits, compression, reversing):
        self.protocol = protocol
        self.side = protocol.side
        self.message_limit, self.fragment_limit = limits
        self.compression = compression
        self.reversing = reversing

        # How the connection stands
        self.state = protocol.state
        self.close_rcvd = self.close_sent = self.close_rcvd_then_sent = None
        self.ended = False  # whether nothing is heard any more
        self.eof_rcvd = self.eof_sent = False
        self.error = self.handshake_error = None  # types of what parser_exc and handshake_exc are
        self.http_rcvd = protocol.state is OPEN

        # Sending
        self.out = Pipe()
        self.unwritten = []  # what data_to_send() has to return
        self.pieces = None  # of a fragmented message, those that are not sent yet
        self.compressing = False
        self.holding_pongs = False
        self.held_pong = None
        self.said = []
        self.written = []  # opcodes
        # Of what was written: the opcode of the unfinished message, and whether it is compressed
        self.message = 0
        self.inflating = False
        self.inflater = None

        # Receiving
        self.request = None  # what a server has not answered yet
        self.events = []  # what events_received() has to return
        self.heard = []

    # The model: what the side does

    @property
    def may_send(self):
        return self.state is OPEN and not self.eof_sent

    @property
    def may_control(self):
        return self.state in (OPEN, CLOSING) and not self.eof_sent

    def change_state(self, state):
        assert state >= self.state, "states only go forward"
        self.state = state

    def send_data(self, opcode, data, fin, compress):
        if opcode is not CONT and self.compression is not None:
            self.compressing = compress
            if compress is None:
                self.compressing = not fin or len(data) >= self.compression.threshold
        rsv = 4 if self.compressing and opcode is not CONT else 0
        self.write(opcode, data, fin, rsv | 2 if self.reversing else rsv)
        self.said.append((opcode, data, fin))

    def send_close(self, close):
        self.write(CLOSE, b"" if close.code == 1005 else close_payload(close.code, close.reason))
        self.close_sent = close
        self.change_state(CLOSING)

    def write(self, opcode, payload, fin=True, rsv=0):
        self.unwritten.append(WireFrame(opcode, payload, fin, rsv, self.side is CLIENT))

    def write_eof(self):
        if not self.eof_sent:
            self.eof_sent = True
            self.unwritten.append(EOF)

    def fail(self, code, reason=""):
        """RFC 6455 section 7.1.7"""
        if self.may_send and code != 1006:
            self.send_close(Close(code, reason))
        if self.side is SERVER:
            self.write_eof()
        self.ended = True

    def hold_pongs(self, hold):
        self.holding_pongs = hold
        if not hold:
            if self.held_pong is not None and self.may_control:
                self.write(PONG, self.held_pong)
            self.held_pong = None

    # The model: what has arrived

    def receive(self, item):
        if self.ended:
            return
        if type(item) is Http:
            self.receive_http(item)
        elif type(item) is Garbage:
            self.error = item.error
            exc = self.protocol.parser_exc
            assert type(exc) is item.error
            is_text = isinstance(exc, UnicodeDecodeError)
            self.fail(item.code, f"{exc.reason} at position {exc.start}" if is_text else str(exc))
        else:
            self.receive_frame(item)

    def receive_http(self, http):
        self.events.append(http)
        self.http_rcvd = True
        if http.status == 101:
            self.change_state(OPEN)
        elif http.status is not None:
            self.handshake_error = InvalidStatus
            self.ended = True
            self.write_eof()

    def receive_frame(self, item):
        self.events.append((item.opcode, item.payload, item.fin))
        if item.opcode == PING:
            # RFC 6455 section 5.5.2
            if self.holding_pongs:
                self.held_pong = item.payload
            else:
                self.write(PONG, item.payload)
        elif item.opcode == CLOSE:
            code, reason = item.close
            self.close_rcvd = Close(1005 if code is None else code, reason)
            self.close_rcvd_then_sent = self.close_sent is None
            # RFC 6455 section 5.5.1
            if self.close_sent is None:
                self.send_close(self.close_rcvd)
            # RFC 6455 section 7.1.1
            if self.side is SERVER:
                self.write_eof()
            self.ended = True

    def receive_eof(self):
        self.eof_rcvd = True
        if self.ended:
            pass
        elif self.http_rcvd:
            self.error = EOFError
        else:
            self.handshake_error = InvalidMessage
        self.ended = True
        self.write_eof()
        self.change_state(CLOSED)

    # The protocol beside the model

    def flush(self):
        """Send what the protocol wants to send, which must be what the model does."""
        writes = self.protocol.data_to_send()
        assert type(writes) is list
        assert all(type(data) is bytes for data in writes)
        found = []
        if self.unwritten and type(self.unwritten[0]) is Http:
            found.append(self.unwritten[0])
            self.out.put(writes.pop(0), found[0])
        eof = bool(writes) and writes[-1] == SEND_EOF
        assert SEND_EOF not in writes[:-1], "nothing is written behind the end of the stream"
        data = b"".join(writes)
        for item in read_wire(data):
            size = wire_size(item)
            found.append(self.undo_extensions(item))
            self.out.put(data[:size], found[-1])
            data = data[size:]
            self.written.append(item.opcode)
        if eof:
            found.append(EOF)
            self.out.eof = True
        assert found == self.unwritten
        self.unwritten = []

    def undo_extensions(self, item):
        payload = item.payload
        if item.opcode >= 8:
            return item
        if self.reversing:
            payload = payload[::-1]
        if item.opcode != CONT:
            # RFC 7692 section 6
            self.inflating = item.rsv & 4 == 4
            self.message = item.opcode
        if self.inflating:
            side = self.side is SERVER
            if self.inflater is None:
                self.inflater = zlib.decompressobj(-self.compression.window_bits[side])
            payload = self.inflater.decompress(payload + TAIL * item.fin)
            assert not self.inflater.unconsumed_tail
            if item.fin and self.compression.no_context_takeover[side]:
                self.inflater = None
        if item.fin:
            self.message = 0
        return replace(item, payload=payload)

    def listen(self):
        """Take the events, which must be those of the model."""
        events = self.protocol.events_received()
        assert type(events) is list
        found = []
        for event in events:
            if type(event) is Request:
                found.append(Http())
                self.request = event
            elif type(event) is Response:
                found.append(Http(event.status_code))
            else:
                assert type(event) is Frame
                assert type(event.opcode) is Opcode
                assert not (event.rsv1 or event.rsv2 or event.rsv3)
                found.append((event.opcode, event.data, event.fin))
                if event.opcode < 8:
                    self.heard.append(found[-1])
        assert found == self.events
        self.events = []

    def check(self):
        """Compare how the connection stands."""
        protocol = self.protocol
        assert protocol.state is self.state
        assert protocol.close_rcvd == self.close_rcvd
        assert protocol.close_sent == self.close_sent
        assert protocol.close_rcvd_then_sent is self.close_rcvd_then_sent
        assert type(protocol.parser_exc) is (self.error or type(None))
        assert type(protocol.handshake_exc) is (self.handshake_error or type(None))
        assert protocol.close_expected() is (
            self.ended if self.state is CONNECTING else self.state is CLOSING
        )
        if self.state is not CLOSED:
            assert protocol.close_code is protocol.close_reason is None
            return
        # RFC 6455 sections 7.1.5 and 7.1.6
        received = self.close_rcvd or Close(1006, "")
        assert (protocol.close_code, protocol.close_reason) == (received.code, received.reason)
        exc = protocol.close_exc
        fine = received.code in OK_CODES and self.close_sent.code in OK_CODES
        assert type(exc) is (ConnectionClosedOK if fine else ConnectionClosedError)
        assert (exc.rcvd, exc.sent) == (self.close_rcvd, self.close_sent)
        assert exc.rcvd_then_sent is self.close_rcvd_then_sent

    def fit(self, opcode, data, limits):
        """Shorten a message to what limits allow."""
        sizes = [limit for limit in limits if limit is not None]
        if not sizes:
            return data
        # What cannot be compressed grows, and behind another extension that counts.
        size = min(sizes) - 20 * (self.reversing and self.compression is not None)
        if len(data) <= size:
            return data
        data = data[:size]
        return data.decode(errors="ignore").encode() if opcode == TEXT else data

    def garbage(self, kind, receiver):
        """Return bytes that are wrong behind all that was written, and what they are."""
        mask = KEY if self.side is CLIENT else None
        free = self.message == 0
        binary = BINARY if free else CONT

        def bad(item, opcode, payload=b"", rsv=0, mask=mask, **kwargs):
            if self.reversing and opcode < 8:
                payload, rsv = payload[::-1], rsv | 2
            return frame(opcode, payload, rsv=rsv, mask=mask, **kwargs), item

        limit = receiver.message_limit
        if kind == "masking":
            return bad(WRONG, binary, mask=None if mask else KEY)
        if kind == "rsv":
            return bad(WRONG, binary, rsv=1)
        if kind == "rsv of a ping":
            return bad(WRONG, PING, rsv=4)
        if kind == "long ping":
            return bad(WRONG, PING, bytes(126))
        if kind == "fragmented ping":
            return bad(WRONG, PING, fin=False)
        if kind == "sequence":
            return bad(WRONG, CONT if free else BINARY)
        if kind == "close code":
            return bad(WRONG, CLOSE, close_payload(1005))
        if kind == "short close":
            return bad(WRONG, CLOSE, b"\x03")
        if kind == "close reason":
            return bad(NO_TEXT, CLOSE, close_payload(1000) + b"\xe2\x82")
        if kind == "length":
            return bad(WRONG if limit is None else TOO_BIG, binary, length=2**63, form=8)
        if kind == "size" and limit is not None:
            # More than any payload that could be compressed.
            return bad(TOO_BIG, binary, length=2 * limit + 2**20)
        if kind == "text" and (free or self.message == TEXT and not self.inflating):
            return bad(NO_TEXT, TEXT if free else CONT, b"a\xff")
        if kind == "compression":
            if self.compression is None or not free:
                return bad(WRONG, binary, rsv=4)
            return bad(WRONG, BINARY, b"\xff\xff", rsv=4)
        if kind == "bomb" and self.compression is not None and free and limit is not None:
            zip = zlib.compressobj(wbits=-9)
            data = zip.compress(bytes(limit + 1)) + zip.flush(zlib.Z_SYNC_FLUSH)
            return bad(TOO_BIG, BINARY, data, rsv=4, fin=False)
        return bad(WRONG, 3)


KINDS = [
    "opcode",
    "masking",
    "rsv",
    "rsv of a ping",
    "long ping",
    "fragmented ping",
    "sequence",
    "close code",
    "short close",
    "close reason",
    "length",
    "size",
    "text",
    "compression",
    "bomb",
]


def wire_size(item):
    size = len(item.payload)
    return 2 + (0 if size < 126 else 2 if size < 65536 else 8) + 4 * item.masked + size


# Both sides


class Connection(RuleBasedStateMachine):
    """Two protocols and the network between them."""

    examples = 0

    @initialize(
        calm=st.booleans(),
        handshake=st.booleans(),
        compression=st.none() | compressions,
        reversing=st.booleans(),
        limits=st.sampled_from([(2**20, None), (None, None), (300, None), (1000, 100)]),
    )
    def connect(self, calm, handshake, compression, reversing, limits):
        type(self).examples += 1
        # Whether nobody fails, and the network does not either
        self.calm = calm
        if handshake:
            reversing = False
            if compression is not None:
                # The factories refuse what zlib could not do.
                bits = tuple(max(9, bits) for bits in compression.window_bits)
                compression = replace(compression, window_bits=bits)
                factories = compression.client_factory(), compression.server_factory()
            client = ClientProtocol(
                parse_uri("ws://example.com/"),
                extensions=None if compression is None else [factories[0]],
                max_size=limits,
            )
            server = ServerProtocol(
                extensions=None if compression is None else [factories[1]],
                max_size=limits,
            )
        else:
            client, server = Protocol(CLIENT, max_size=limits), Protocol(SERVER, max_size=limits)
            for protocol in (client, server):
                extensions = [] if compression is None else [compression.of(protocol.side)]
                protocol.extensions = extensions + [Reversed()] * reversing
        self.ends = {
            protocol.side: End(protocol, limits, compression, reversing)
            for protocol in (client, server)
        }
        if handshake:
            client.send_request(client.connect())
            self.ends[CLIENT].unwritten.append(Http())

    # The application

    @rule(accept=st.booleans())
    def answer(self, accept):
        """The server has decided on a request."""
        end = self.ends[SERVER]
        if end.request is None:
            return
        protocol, request, end.request = end.protocol, end.request, None
        if accept or self.calm:
            response = protocol.accept(request)
            assert response.status_code == 101
            if end.state is not CONNECTING:
                with pytest.raises(InvalidState):
                    protocol.send_response(response)
                return
            protocol.send_response(response)
            end.unwritten.append(Http(101))
            end.change_state(OPEN)
            if end.compression is not None:
                # The factories have a threshold of their own.
                threshold = protocol.extensions[0].threshold
                for one in self.ends.values():
                    one.compression = replace(one.compression, threshold=threshold)
        else:
            protocol.send_response(protocol.reject(403, "no"))
            if not end.eof_sent:
                end.unwritten.append(Http(403))
            end.write_eof()
            end.ended = True

    @rule(
        side=sides,
        message=messages,
        compress=st.sampled_from(COMPRESS),
        type=st.sampled_from([bytes, bytearray, memoryview]),
    )
    def send_message(self, side, message, compress, type):
        end = self.ends[side]
        if end.pieces is None:
            opcode, data = message
            limits = end.message_limit, end.fragment_limit
            data = end.fit(opcode, data, limits)
            self.send(end, opcode, data, True, compress, type)

    @rule(
        side=sides,
        message=messages,
        cuts=st.lists(st.integers(0, 200), max_size=6),
        compress=st.sampled_from(COMPRESS),
    )
    def start_message(self, side, message, cuts, compress):
        """Send the first fragment; any number of others follow."""
        end = self.ends[side]
        if end.pieces is not None:
            return
        opcode, data = message
        data = end.fit(opcode, data, [end.message_limit])
        if end.fragment_limit is not None:
            cuts = [*cuts, *range(0, len(data), end.fragment_limit // 2)]
        places = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})
        pieces = [data[i:j] for i, j in zip(places, places[1:], strict=False)]
        # Fragments may be empty, the last of them, for one.
        pieces += [b""] * max(2 - len(pieces), len(cuts) % 3)
        if self.send(end, opcode, pieces[0], False, compress, bytes):
            end.pieces = deque(pieces[1:])

    @rule(side=sides, count=st.integers(1, 4))
    def continue_message(self, side, count):
        end = self.ends[side]
        for _ in range(count):
            if end.pieces is None:
                return
            fin = len(end.pieces) == 1
            if not self.send(end, CONT, end.pieces[0], fin, None, bytes):
                return
            end.pieces.popleft()
            if fin:
                end.pieces = None

    def send(self, end, opcode, data, fin, compress, type):
        protocol = end.protocol
        kwargs = {} if opcode is CONT or compress is None else {"compress": compress}
        send = {
            CONT: protocol.send_continuation,
            TEXT: protocol.send_text,
            BINARY: protocol.send_binary,
        }[opcode]
        if not end.may_send:
            with pytest.raises(InvalidState):
                send(type(data), fin, **kwargs)
            return False
        send(type(data), fin, **kwargs)
        end.send_data(opcode, data, fin, compress)
        return True

    @rule(side=sides, opcode=st.sampled_from([PING, PONG]), data=controls)
    def control(self, side, opcode, data):
        end = self.ends[side]
        send = end.protocol.send_ping if opcode is PING else end.protocol.send_pong
        if end.may_control:
            send(data)
            end.write(opcode, data)
        else:
            with pytest.raises(InvalidState):
                send(data)

    @rule(side=sides, hold=st.booleans())
    def hold_pongs(self, side, hold):
        end = self.ends[side]
        end.protocol.hold_pongs(hold)
        end.hold_pongs(hold)

    @rule(side=sides, code=st.none() | st.sampled_from(CODES), reason=reasons)
    def close(self, side, code, reason):
        end = self.ends[side]
        reason = "" if code is None else reason
        if end.may_send:
            end.protocol.send_close(code, reason)
            end.send_close(Close(1005 if code is None else code, reason))
        else:
            with pytest.raises(InvalidState):
                end.protocol.send_close(code, reason)

    @precondition(lambda self: not self.calm)
    @rule(side=sides, code=st.sampled_from([1002, 1006, 1011]), reason=reasons)
    def fail(self, side, code, reason):
        end = self.ends[side]
        if end.state is not CONNECTING:
            end.protocol.fail(code, reason)
            end.fail(code, reason)

    @rule(
        side=sides,
        close=st.sampled_from(
            [(1004,), (1005,), (1006,), (1015,), (999,), (5000,), (1000, "a" * 124), (None, "a")]
        ),
    )
    def misuse(self, side, close):
        """What must not be sent is not, and changes nothing."""
        end = self.ends[side]
        protocol = end.protocol
        with pytest.raises((ProtocolError, InvalidState)):
            protocol.send_close(*close)
        with pytest.raises((ProtocolError, InvalidState)):
            protocol.send_ping(bytes(126))
        with pytest.raises((ProtocolError, InvalidState)):
            protocol.send_pong(bytes(126))
        wrong = [protocol.send_text, protocol.send_binary]
        if end.pieces is None or not end.may_send:
            wrong = [lambda data: protocol.send_continuation(data, True)]
        for send in wrong:
            with pytest.raises((ProtocolError, InvalidState)):
                send(b"a")
            if end.pieces is None and end.may_send:
                with pytest.raises(TypeError):
                    protocol.send_text("a")

    # The network

    @rule(side=sides)
    def flush(self, side):
        self.ends[side].flush()

    @rule(side=sides)
    def listen(self, side):
        self.ends[side].listen()

    @rule(side=sides, size=st.integers(1, 300) | st.just(EVERYTHING), parts=st.integers(1, 3))
    def deliver(self, side, size, parts):
        """Some of what a side has written arrives at the other."""
        for _ in range(parts):
            self.transfer(self.ends[side], self.ends[1 - side], size)

    def transfer(self, sender, receiver, size):
        pipe = sender.out
        data, arrived = pipe.take(size)
        if data:
            receiver.protocol.receive_data(data)
            for item in arrived:
                receiver.receive(item)
        elif pipe.closed:
            receiver.protocol.receive_eof()  # which has no effect
            with pytest.raises(EOFError):
                receiver.protocol.receive_data(b"a")
        elif pipe.eof:
            pipe.closed = True
            receiver.protocol.receive_eof()
            receiver.receive_eof()

    @precondition(lambda self: not self.calm)
    @rule(side=sides, kind=st.sampled_from(KINDS))
    def spoil(self, side, kind):
        """A proxy goes mad."""
        end = self.ends[side]
        if end.state is not CONNECTING and self.ends[1 - side].http_rcvd:
            end.out.put(*end.garbage(kind, self.ends[1 - side]))

    @precondition(lambda self: not self.calm)
    @rule(side=sides, keep=st.integers(0, 100) | st.just(EVERYTHING))
    def cut(self, side, keep):
        """Nothing that a side writes arrives any more, nor the last of what it has written."""
        self.ends[side].out.cut(keep)

    @rule()
    def settle(self):
        """Everything arrives."""
        moved = True
        while moved:
            moved = False
            for side, end in self.ends.items():
                end.listen()
                self.answer(self.calm or end.out.taken % 4 > 0)
                end.flush()
                if end.out.data or end.out.eof and not end.out.closed:
                    self.transfer(end, self.ends[1 - side], EVERYTHING)
                    moved = True

    # What always holds

    @invariant()
    def check(self):
        for side, end in self.ends.items():
            end.check()
            # Messages are neither changed nor reordered.
            assert end.heard == self.ends[1 - side].said[: len(end.heard)]
            # RFC 6455 section 5.5.1: there is one close frame, and no data behind it.
            if CLOSE in end.written:
                behind = end.written[end.written.index(CLOSE) + 1 :]
                assert not {TEXT, BINARY, CONT, CLOSE} & set(behind)

    def teardown(self):
        if not hasattr(self, "ends"):
            return
        self.settle()
        ends = client, server = self.ends[CLIENT], self.ends[SERVER]
        if client.may_send:
            self.close(CLIENT, 1000, "")
            self.settle()
        if self.calm:
            for end, other in [(client, server), (server, client)]:
                assert end.state is CLOSED
                assert end.heard == other.said, "nothing is lost before the close"
                assert end.written.count(CLOSE) == 1
                assert end.protocol.close_rcvd == other.protocol.close_sent
                assert end.error is end.handshake_error is None
            assert not (client.close_rcvd_then_sent and server.close_rcvd_then_sent)
        for end in ends:  # what a deadline does
            end.out.cut(EVERYTHING)
        self.settle()
        for end in ends:
            assert end.state is CLOSED
            end.check()
            assert end.protocol.data_to_send() == []


TestConnection = Connection.TestCase
TestConnection.settings = SETTINGS


# Looking for longer


def search(machine, minutes):
    """Run a machine for so many minutes, or until it fails; print how many examples that were."""
    start = time.monotonic()
    while (passed := time.monotonic() - start) < 60 * minutes:
        run_state_machine_as_test(machine, settings=settings(SETTINGS, max_examples=500))
        print(f"{machine.__name__}: {machine.examples} examples, {passed / 60:.0f} minutes")
        sys.stdout.flush()


if __name__ == "__main__":
    search(Connection, float(sys.argv[1]))
