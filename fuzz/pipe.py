"""Two sides of a connection that talk through a pipe which mangles what they say."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from websockets.exceptions import (
    ConnectionClosed,
    ConnectionClosedOK,
    InvalidState,
    PayloadTooBig,
    ProtocolError,
)
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import SEND_EOF, Protocol, Side, State

from .codec import CODECS, described, use
from .common import Cursor, outcome, split_frame
from .deflate import Generic

__all__ = ["one_input", "seeds"]

CODES = (1000, 1001, 1002, 1003, 1007, 1011, 3000, 4999, 1005, 1006, 0, 999, 65535, None)

# Steps of one input; each moves all bytes at most twice.
MAX_STEPS = 300

Message = tuple[int, bytes]


def one_input(data: bytes) -> None:
    """Check one input: on both codecs, which must not make a difference."""
    logs = []
    for codec in CODECS:
        with use(codec):
            logs.append(Pipe(Cursor(data)).run())
    assert all(log == logs[0] for log in logs)


class Peer:
    """One side, what it has said, and what there is of that on the wire."""

    def __init__(self, side: Side, max_size: int | None, extension: Any) -> None:
        self.protocol = Protocol(side, max_size=max_size)
        self.protocol.extensions = [] if extension is None else [extension]
        self.max_size = max_size
        self.wire = bytearray()
        self.ended = False  # whether the end of the stream is behind the wire
        self.mangled = False
        self.broken = False  # whether nothing reaches the wire any more
        self.failed = False
        self.output = Output(side is Side.CLIENT, extension is not None)
        self.said: list[Message] = []
        self.saying: Message | None = None  # a message that is not complete
        self.heard: list[Message] = []
        self.hearing: Message | None = None
        self.pings: list[bytes] = []
        self.held = False  # whether pongs have been held back
        self.state = self.protocol.state

    def settle(self) -> list[Any]:
        """Take over what a call to the protocol has led to; return it."""
        events = self.protocol.events_received()
        for event in events:
            self.hear(event)
        for data in self.protocol.data_to_send():
            assert not self.ended, "nothing is sent behind the end"
            self.output.check(data)
            self.ended = data == SEND_EOF
            if not self.broken:
                self.wire += data
        state = self.protocol.state
        assert state >= self.state, "states go forward"
        self.state = state
        exc = self.protocol.parser_exc
        assert exc is None or isinstance(
            exc, (ProtocolError, PayloadTooBig, UnicodeDecodeError, EOFError)
        ), exc
        self.failed = self.failed or exc is not None
        return [events, described(exc), state]

    def hear(self, frame: Any) -> None:
        assert isinstance(frame, Frame)
        assert not (frame.rsv1 or frame.rsv2 or frame.rsv3)
        data = bytes(frame.data)
        if frame.opcode >= 8:
            assert frame.fin
            assert len(data) <= 125
            if frame.opcode is Opcode.PING:
                self.pings.append(data)
            return
        if self.hearing is None:
            assert frame.opcode is not Opcode.CONT
            self.hearing = int(frame.opcode), data
        else:
            assert frame.opcode is Opcode.CONT
            self.hearing = self.hearing[0], self.hearing[1] + data
        # However it is fragmented or compressed.
        assert self.max_size is None or len(self.hearing[1]) <= self.max_size
        if frame.fin:
            if self.hearing[0] == 1:
                self.hearing[1].decode()
            self.heard.append(self.hearing)
            self.hearing = None

    def say(self, opcode: int, data: bytes, fin: bool, compress: bool | None) -> Exception | None:
        """Send a frame of a message."""
        send: Callable[[], object]
        if opcode == 0:
            send = functools.partial(self.protocol.send_continuation, data, fin)
        elif opcode == 1:
            send = functools.partial(self.protocol.send_text, data, fin, compress=compress)
        else:
            send = functools.partial(self.protocol.send_binary, data, fin, compress=compress)
        _, exc = outcome(send, InvalidState, ProtocolError)
        if exc is None:
            if opcode:
                assert self.saying is None
                self.saying = opcode, b""
            assert self.saying is not None
            self.saying = self.saying[0], self.saying[1] + data
            if fin:
                self.said.append(self.saying)
                self.saying = None
        else:
            # Out of order, or too late.
            assert (self.saying is None) == (opcode == 0) or isinstance(exc, InvalidState)
        return exc


class Output:
    """What a side sends is in order, whatever it is told and has received (RFC 6455)."""

    def __init__(self, masked: bool, compressed: bool) -> None:
        self.masked = masked
        self.compressed = compressed
        self.pending = b""
        self.in_message = False
        self.closed = False
        self.pongs: list[bytes] = []

    def check(self, data: bytes) -> None:
        if data == SEND_EOF:
            assert not self.pending, "the stream ends between frames"
            return
        # A large payload comes behind its header.
        self.pending += data
        while found := split_frame(self.pending):
            head, masked, payload, self.pending = found
            assert masked == self.masked
            opcode, fin = head & 15, head >= 0x80
            assert opcode in (0, 1, 2, 8, 9, 10)
            assert head & 0x30 == 0
            if opcode < 8:
                # Section 5.5.1: no data behind a close frame.
                assert not self.closed
                # Section 5.4: one message at a time.
                assert (opcode == 0) == self.in_message
                self.in_message = not fin
                # RFC 7692 section 6: the first frame says whether its message is compressed.
                assert not head & 0x40 or self.compressed and opcode != 0
                continue
            assert fin
            assert not head & 0x40
            assert len(payload) <= 125
            if opcode == 10:
                self.pongs.append(payload)
            elif opcode == 8:
                assert not self.closed, "there is one close frame"
                self.closed = True
                Close.parse(payload)


class Pipe:
    """Runs an input, which is a list of steps."""

    def __init__(self, cursor: Cursor) -> None:
        self.cursor = cursor
        max_size = cursor.pick((None, 1 << 20, 0, 10, 125, 1000))
        extensions: list[Any] = [None, None]
        kind = cursor.pick((None, PerMessageDeflate, Generic))
        if kind is not None:
            client, server = cursor.flag(), cursor.flag()
            client_bits, server_bits = 9 + cursor.byte() % 7, 9 + cursor.byte() % 7
            threshold = cursor.pick((0, 10, 1000))
            extensions = [
                kind(client, server, client_bits, server_bits, threshold=threshold),
                kind(server, client, server_bits, client_bits, threshold=threshold),
            ]
        self.peers = [
            Peer(Side.SERVER, max_size, extensions[0]),
            Peer(Side.CLIENT, max_size, extensions[1]),
        ]
        self.log: list[object] = []

    def run(self) -> list[object]:
        """Run the steps, bring the connection to its end, and return what has happened."""
        for _ in range(MAX_STEPS):
            if not self.cursor:
                break
            code = self.cursor.byte()
            peer, other = self.peers if code & 128 else reversed(self.peers)
            self.log.append(self.step(code & 127, peer, other))
            self.log.append(peer.settle())
            self.log.append(other.settle())
        self.finish()
        self.log += [bytes(peer.wire) for peer in self.peers]
        return self.log

    def step(self, code: int, peer: Peer, other: Peer) -> object:
        """Do one thing; return what is wrong with it."""
        cursor, protocol = self.cursor, peer.protocol
        exc: Exception | None = None
        if code < 40:
            opcode, fin = code % 3, code % 2 == 0
            data = cursor.take(code // 2) * cursor.pick((1, 1, 1, 1, 1, 40, 2000))
            if opcode == 1 or peer.saying is not None and peer.saying[0] == 1:
                # Neither side checks the text that it sends: that is the application's.
                data = data.decode("iso-8859-1").encode()
            exc = peer.say(opcode, data, fin, (None, None, True, False)[code // 10])
        elif code < 48:
            send = protocol.send_ping if code & 1 else protocol.send_pong
            data = cursor.take(cursor.byte() % 130)
            _, exc = outcome(lambda: send(data), InvalidState, ProtocolError)
        elif code < 52:
            close_code, reason = cursor.pick(CODES), "é" * (cursor.byte() % 70)
            _, exc = outcome(
                lambda: protocol.send_close(close_code, reason), InvalidState, ProtocolError
            )
        elif code < 54:
            close_code = cursor.pick(CODES) or 1011
            _, exc = outcome(lambda: protocol.fail(close_code, "reason"), ProtocolError)
            peer.failed = True
        elif code < 56:
            protocol.hold_pongs(code == 54)
            peer.held = True
        elif code < 96:
            self.deliver(peer, other, (1, 2, 3, 5, 8, 13, 100, 1 << 20)[code % 8])
        elif code < 120:
            self.mangle(peer, code % 6)
        else:
            # The connection breaks: what is on the wire is lost.
            peer.mangled = peer.broken = True
            peer.wire.clear()
            self.deliver(peer, other, 0)
        return described(exc)

    def deliver(self, peer: Peer, other: Peer, size: int) -> None:
        """Bring bytes of one side to the other."""
        if other.protocol.eof_rcvd:
            _, exc = outcome(lambda: other.protocol.receive_data(b"late"), EOFError)
            assert exc is not None
            return
        if peer.wire:
            data = bytes(peer.wire[:size])
            del peer.wire[:size]
            other.protocol.receive_data(data)
        elif peer.ended or peer.broken:
            other.protocol.receive_eof()

    def mangle(self, peer: Peer, how: int) -> None:
        """Change what is on the wire."""
        peer.mangled = True
        wire, at = peer.wire, self.cursor.byte()
        start = min(at, len(wire))
        end = start + 1 + self.cursor.byte() % 16
        if how == 0:
            del wire[start:end]
        elif how == 1:
            wire[end:end] = wire[start:end]
        elif how == 2:
            wire[start : start + 1] = bytes(byte ^ 1 << at % 8 for byte in wire[start : start + 1])
        elif how == 3:
            wire[start:start] = self.cursor.take(end - start)
        elif how == 4:
            wire[start:end] = reversed(wire[start:end])
        else:
            # What does not depend on masks: a frame, at the end.
            wire += self.cursor.take(2 * (end - start))

    def finish(self) -> None:
        """Deliver all; then close the connection, however it has fared."""
        self.flush()
        for peer, other in (self.peers, self.peers[::-1]):
            self.check_heard(peer, other)
        server, client = self.peers
        whole = not (server.mangled or client.mangled)
        clean = whole and not (server.failed or client.failed)
        if client.state is State.OPEN:
            client.protocol.send_close(1000)
            self.flush()
        if whole:
            assert server.state is client.state is State.CLOSED
        if clean:
            # One that has failed has not heard what came then.
            for peer, other in (self.peers, self.peers[::-1]):
                assert peer.protocol.close_rcvd == other.protocol.close_sent
        for peer in self.peers:
            if not peer.protocol.eof_rcvd:
                # One side waits for the other in vain.
                peer.protocol.receive_eof()
                self.log.append(peer.settle())
            protocol = peer.protocol
            assert protocol.state is State.CLOSED
            assert peer.ended
            assert not peer.output.pending
            # RFC 6455 section 5.5.2: each ping has its pong, in order.
            pongs = iter(peer.output.pongs)
            assert peer.held or all(data in pongs for data in peer.pings)
            assert protocol.data_to_send() == []
            assert isinstance(protocol.close_exc, ConnectionClosed)
            assert (protocol.close_code == 1006) == (protocol.close_rcvd is None)
            if protocol.close_rcvd == protocol.close_sent == Close(1000, ""):
                assert isinstance(protocol.close_exc, ConnectionClosedOK)
            self.log.append(str(protocol.close_exc))

    def flush(self) -> None:
        for _ in range(4):
            for peer, other in (self.peers, self.peers[::-1]):
                self.deliver(peer, other, 1 << 30)
                self.log.append(peer.settle())
                self.log.append(other.settle())

    def check_heard(self, peer: Peer, other: Peer) -> None:
        """What is not mangled is heard as it was said; all of it, while the peer listens."""
        if peer.mangled:
            return
        count = len(other.heard)
        assert other.heard == peer.said[:count]
        if not other.protocol.ended:
            assert other.heard == peer.said
            assert other.hearing == peer.saying
            assert other.protocol.parser_exc is None


def seeds() -> dict[str, bytes]:
    """Return inputs that reach the main paths."""
    plain, deflate = b"\x01\x00", b"\x01\x01\x00\x00\x03\x06\x00"
    server, deliver = 128, b"\x57\xd7"
    steps = {
        "messages": b"\x0atext!\x00\x0aother\x00" + b"\x0ehello!!\x00" + deliver,
        "fragments": b"\x01\x00\x07ab\xe9\x00\x0cabcdef\x00" + deliver,
        "large": b"\x08abcd\x04\x86abc\x03" + deliver,
        "control": b"\x29\x04ping\xa9\x00\x28\x02po" + deliver + b"\x29\x83" + bytes(131),
        "held": bytes([server | 54]) + b"\x29\x01a\x29\x01b\x57" + bytes([server | 55]) + deliver,
        "close": b"\x30\x00\x05\x0aafter\x00" + deliver + deliver,
        "close-both": b"\x30\x01\x00\xb0\x06\x00" + deliver,
        "close-bad": b"\x30\x0a\x00\x30\x00\x45\x30\x0d\x00",
        "fail": b"\xb4\x02" + deliver,
        "break": b"\x0atext!\x00\x7a",
        "drop": b"\x0atext!\x00\x60\x00\x01" + deliver,
        "double": b"\x0atext!\x00\x61\x00\x0b" + deliver,
        "flip": b"\x0atext!\x00\x62\x00\x00" + deliver,
        "inject": b"\x63\x00\x0f\x81\x8a\x12\x34\x56\x78" + bytes(10) + deliver,
        "swap": b"\x0atext!\x00\x64\x02\x04" + deliver,
        "append": b"\x95abcdef\x00\xe5\x01\x04\x88\x02\x03\xe8\x89\x00\x00" + deliver,
        "byte-by-byte": b"\x0atext!\x00" + b"\x50" * 12,
    }
    found = {f"plain-{name}": plain + data for name, data in steps.items()}
    found |= {f"deflate-{name}": deflate + data for name, data in steps.items()}
    found |= {f"general-{name}": b"\x01\x02" + deflate[2:] + data for name, data in steps.items()}
    for limit in range(6):
        found[f"limit-{limit}"] = bytes([limit]) + deflate[1:] + steps["messages"] + steps["large"]
    return found
