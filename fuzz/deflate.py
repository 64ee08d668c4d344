"""permessage-deflate: any bytes as compressed payloads, and round trips of any messages."""

from __future__ import annotations

import importlib
import zlib
from typing import Any

from websockets.exceptions import PayloadTooBig, ProtocolError
from websockets.extensions import deflate
from websockets.extensions.permessage_deflate import PerMessageDeflate, set_zlib_module
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side

from .codec import KEY, Twins, described, read_twice
from .common import Cursor, cut, frame, split_frame

__all__ = ["one_input", "seeds"]

LIMITS = (None, 0, 1, 10, 125, 1000, 65536, (1000, 10), (None, 125))

# RFC 7692 section 7.2.1
TAIL = b"\x00\x00\xff\xff"

FLUSHES = (zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH, zlib.Z_FINISH, zlib.Z_BLOCK)


def installed() -> list[str]:
    names = []
    for name, (module, _) in deflate.ZLIB_MODULES.items():
        try:
            importlib.import_module(module)
        except ImportError:
            continue
        names.append(name)
    return names


MODULES = installed()


class Generic(PerMessageDeflate):
    """Not what the frame reader knows: it goes the way of any other extension."""


def one_input(data: bytes) -> None:
    """Check one input, with one of the modules that are installed."""
    cursor = Cursor(data)
    check = cursor.pick((check_stream, check_stream, check_messages, check_foreign))
    set_zlib_module(cursor.pick(MODULES))
    try:
        check(cursor)
    finally:
        set_zlib_module(None)


# Any bytes


def check_stream(cursor: Cursor) -> None:
    side = cursor.pick((Side.SERVER, Side.CLIENT))
    max_size = cursor.pick(LIMITS)
    message, fragment = max_size if isinstance(max_size, tuple) else (max_size, None)
    parameters = cursor.flag(), False, 8 + cursor.byte() % 8, 15
    plan = cursor.take(cursor.byte() % 8) or b"\x6f"
    stream = make_stream(cursor, KEY if side is Side.SERVER else None)

    twins = read_twice(
        lambda: Twins(
            side is Side.SERVER,
            message,
            fragment,
            make_inflater=lambda: PerMessageDeflate(*parameters),
        ),
        stream,
        plan,
    )
    size = 0
    for opcode, payload, fin, _ in twins.frames:
        if opcode < 8:
            # However well it was compressed.
            assert fragment is None or len(payload) <= fragment
            size += len(payload)
            assert message is None or size <= message
            size = 0 if fin else size

    # A connection hears nothing behind a close frame, nor if that is wrong.
    short, exc = receive(side, max_size, PerMessageDeflate(*parameters), stream)
    count = len(short)
    assert short == twins.frames[:count]
    if exc is not None and len(twins.frames) == count:
        assert described(exc, exact=False) == described(twins.error, exact=False)

    # The way of other extensions needs a whole frame to see what is wrong with it; its limit holds
    # for what is compressed, too; and of two faults, either may be told.
    general, other = receive(side, max_size, Generic(*parameters), stream)
    count = len(general)
    assert general == short[:count]
    if other is None or not isinstance(other, PayloadTooBig):
        assert len(short) == count
    if other is not None and getattr(other, "size", None) is None:
        assert exc is not None, other


def make_stream(cursor: Cursor, key: bytes | None) -> bytes:
    """Build a stream of frames, many of them with something compressed in them."""
    parts = []
    size = 0
    compressor = zlib.compressobj(wbits=-15)
    while cursor and size < 100_000:
        kind, head = cursor.byte(), cursor.byte()
        if kind < 16:
            parts.append(cursor.take(kind))
            continue
        if kind < 96:
            payload = cursor.take(kind - 16)
        else:
            content = cursor.take(kind % 32) * cursor.pick((1, 1, 1, 10, 100, 3000))
            size += len(content)
            how = cursor.byte()
            payload = compressor.compress(content) + compressor.flush(FLUSHES[how % 4])
            if how % 4 == 2 or how & 4:
                compressor = zlib.compressobj(how // 16 % 10, wbits=-(9 + how // 8 % 7))
            if how & 8 and payload.endswith(TAIL):
                payload = payload[:-4]
            if kind >= 224:
                # Several frames that are not told apart: what is in them goes on.
                half = len(payload) // 2
                parts.append(frame(head & 0x7F, payload[:half], key))
                head, payload = head & 0x80, payload[half:]
        parts.append(frame(head, payload, key))
    return b"".join(parts)


def receive(
    side: Side, max_size: Any, extension: Any, stream: bytes
) -> tuple[list[tuple[int, bytes, bool, int]], Exception | None]:
    """Return the frames that a side receives, and the error that ended that."""
    protocol = Protocol(side, max_size=max_size)
    protocol.extensions = [extension]
    protocol.receive_data(stream)
    frames = []
    for event in protocol.events_received():
        assert isinstance(event, Frame)
        rsv = event.rsv1 << 2 | event.rsv2 << 1 | event.rsv3
        frames.append((int(event.opcode), bytes(event.data), event.fin, rsv))
    exc = protocol.parser_exc
    assert exc is None or isinstance(exc, (ProtocolError, PayloadTooBig, UnicodeDecodeError)), exc
    return frames, exc


# Any messages


def check_messages(cursor: Cursor) -> None:
    from_client = cursor.flag()
    no_context, bits = cursor.flag(), 8 + cursor.byte() % 8
    settings = cursor.pick(({}, {"level": 1}, {"level": 9}, {"memLevel": 5}))
    threshold = cursor.pick((0, 32, 1000))
    sender = Protocol(Side.CLIENT if from_client else Side.SERVER)
    receiver = Protocol(Side.SERVER if from_client else Side.CLIENT)
    ours = PerMessageDeflate(False, no_context, 15, bits, settings, threshold=threshold)
    theirs = PerMessageDeflate(no_context, False, bits, 15, settings)
    sender.extensions, receiver.extensions = [ours], [theirs]
    independent = Independent(no_context, bits)
    while cursor:
        kind = cursor.byte()
        data = cursor.take(kind % 32) * cursor.pick((1, 1, 1, 10, 100, 3000))
        compress = cursor.pick((None, None, True, False))
        sizes = [max(size, len(data) // 40) for size in cursor.take(cursor.byte() % 4)]
        fragments = cut(data, sizes) or [b""]
        opcode = Opcode.TEXT if kind & 32 else Opcode.BINARY
        if opcode is Opcode.TEXT:
            fragments = [piece.decode("iso-8859-1").encode() for piece in fragments]
        if kind & 64:
            fragments.append(b"")
        last = len(fragments) - 1
        for index, piece in enumerate(fragments):
            if index:
                sender.send_continuation(piece, index == last)
            elif opcode is Opcode.TEXT:
                sender.send_text(piece, not last, compress=compress)
            else:
                sender.send_binary(piece, not last, compress=compress)
            if kind & 128:
                sender.send_ping(b"between fragments")
        wire = b"".join(sender.data_to_send())
        data = b"".join(fragments)
        assert independent.read(wire) == data
        receiver.receive_data(wire)
        assert receiver.parser_exc is None, receiver.parser_exc
        frames = receiver.events_received()
        heard = [event for event in frames if isinstance(event, Frame) and event.opcode < 8]
        assert len(heard) == len(fragments)
        assert len(frames) - len(heard) == (len(fragments) if kind & 128 else 0)
        assert heard[0].opcode is opcode
        assert b"".join(bytes(event.data) for event in heard) == data
        head = wire[0]
        if compress is not None or not last:
            wanted = compress if compress is not None else len(data) >= threshold
            assert wanted == bool(head & 0x40)


class Independent:
    """Reads messages with nothing but zlib, and only from what was negotiated."""

    def __init__(self, no_context: bool, bits: int) -> None:
        self.no_context = no_context
        self.bits = bits
        self.inflater: Any = None

    def read(self, wire: bytes) -> bytes:
        content = b""
        compressed = False
        while wire:
            found = split_frame(wire)
            assert found is not None
            head, _, payload, wire = found
            if head & 15 >= 8:
                continue
            if head & 15:
                compressed = head & 0x40 != 0
            content += payload
        if not compressed:
            return content
        if self.inflater is None or self.no_context:
            self.inflater = zlib.decompressobj(wbits=-self.bits)
        data: bytes = self.inflater.decompress(content + TAIL)
        assert not self.inflater.eof
        return data


# What another implementation may send


def check_foreign(cursor: Cursor) -> None:
    """Messages in all the forms of RFC 7692 section 7.2.3 arrive, with no byte to spare."""
    no_context, bits = cursor.flag(), 9 + cursor.byte() % 7
    level = cursor.byte() % 10
    sizes = cursor.take(cursor.byte() % 4)
    parts: list[bytes] = []
    contents: list[bytes] = []
    compressor = zlib.compressobj(level, wbits=-bits)
    while cursor:
        kind = cursor.byte()
        contents.append(b"")
        payload = b""
        for last in (False,) * (kind >> 5 & 3) + (True,):
            content = cursor.take(kind % 32) * cursor.pick((1, 1, 1, 10, 100, 3000))
            contents[-1] += content
            payload += compressor.compress(content)
            how = cursor.byte() % 5
            if how == 4:
                # Section 7.2.3.4; with the octet that makes the tail a block, or without.
                payload += compressor.flush(zlib.Z_FINISH) + (b"" if kind & 128 else b"\x00")
                # One that goes on can refer to what it has put into this payload.
                known = b"" if sizes or level % 2 else contents[-1]
                compressor = zlib.compressobj(level, wbits=-bits, zdict=known)
                if not last and kind & 128 == 0:
                    payload += TAIL
            else:
                flush = (zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH)[how % 2]
                payload += compressor.flush(flush)
                if last:
                    payload = payload[:-4]
        if no_context:
            compressor = zlib.compressobj(level, wbits=-bits)
        pieces = cut(payload, [max(size, len(payload) // 40) for size in sizes]) or [b""]
        for index, piece in enumerate(pieces):
            head = 0xC2 if index == 0 else 0x80
            parts.append(frame(head if index == len(pieces) - 1 else head & 0x7F, piece))
        if sum(map(len, contents)) > 300_000:
            break
    limit = max(map(len, contents), default=0)
    heard, exc = hear(b"".join(parts), limit, no_context, bits)
    assert exc is None, exc
    assert heard == contents
    if limit:
        heard, exc = hear(b"".join(parts), limit - 1, no_context, bits)
        assert isinstance(exc, PayloadTooBig), exc
        largest = list(map(len, contents)).index(limit)
        assert heard[:largest] == contents[:largest]


def hear(
    stream: bytes, limit: int, no_context: bool, bits: int
) -> tuple[list[bytes], Exception | None]:
    """Read a stream; return its messages, of which the last may lack its end, and the error."""
    twins = Twins(
        False,
        limit,
        make_inflater=lambda: PerMessageDeflate(no_context, False, bits, 15),
    )
    twins.feed(stream)
    twins.drain()
    heard: list[bytes] = []
    for opcode, payload, _, _ in twins.frames:
        if opcode:
            heard.append(payload)
        else:
            heard[-1] += payload
    return heard, twins.error


def seeds() -> dict[str, bytes]:
    """Return inputs that reach the main paths."""
    hello = b"\xf2\x48\xcd\xc9\xc9\x07\x00"  # RFC 7692 section 7.2.3.1
    streams = {
        "hello": b"\x17\xc1" + hello,
        "hello-fragments": b"\x13\x41" + hello[:3] + b"\x14\x80" + hello[3:],
        # RFC 7692 sections 7.2.3.2 to 7.2.3.5
        "context": (b"\x17\xc1" + hello) + b"\x15\xc1\xf2\x00\x11\x00\x00",
        "stored": b"\x1b\xc1\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00",
        "final": b"\x18\xc1\xf3\x48\xcd\xc9\xc9\x07\x00\x00" + b"\x17\xc1" + hello,
        "two-blocks": b"\x1d\xc1\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00",
        "empty": b"\x11\xc1\x00\x10\xc2\x11\x41\x00\x10\x80",
        "plain": b"\x15\x81hello" + b"\x15\x01hello\x10\x80",
        "bad": b"\x14\xc1\xff\xff\xff\xff",
        "bits": b"\x10\xe1" + b"\x10\xd1",
        "bits-ping": b"\x10\xc9",
        "bits-continuation": b"\x13\x41" + hello[:3] + b"\x14\xc0" + hello[3:],
        "bad-text": b"\x64\xc1\xffabc\x00\x08",
        "bomb": b"\x62\xc2\0\0\x05\x08" + b"\x62\xc2\0\0\x05\x08",
        "finish": b"\x63\xc2abc\x03\x02" * 3,
        "split": b"\xe8\xc2abcdefgh\x03\x08\xe8\xc2abcdefgh\x04\x08",
        "raw": b"\x09\x00\xc2\x7f\0\0\0\0\xff\xff\xff",
    }
    found = {}
    for name, stream in streams.items():
        for limit in (0, 1, 3, 5, 7):
            options = bytes([0, limit, 1, limit, 0, 7, 2, 0x61, 0x73])
            found[f"{name}-limit-{limit}"] = options + stream
    found["masked"] = bytes([0, 0, 0, 0, 1, 0, 0]) + streams["hello"] * 2
    for bits in range(7):
        for kind in (b"\x05hello", b"\x23abc", b"\x85hello"):
            options = bytes([3, bits, bits & 1, bits, bits, bits % 3, 1, 2][: 6 + bits % 3])
            for how in (0, 1, 4):
                name = f"foreign-{bits + 9}-{kind[0]}-{how}"
                found[name] = options + (kind + bytes([bits % 6, how])) * 4
    messages = (
        b"\x05hello\x00\x00\x00"
        + b"\x25hello\x04\x02\x02\x02\x03"
        + b"\x00\x02"
        + b"\xe8abcdefgh\x05"
    )
    for bits in range(8):
        for no_context in (0, 1):
            options = bytes([2, bits, bits & 1, no_context, bits, bits % 4, bits % 3])
            found[f"messages-{bits + 8}-{no_context}"] = options + messages * 2
    return found
