"""Both codecs against each other, and against CPython, on any bytes, limits and cuts."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import unittest.mock
from collections.abc import Callable, Iterator
from typing import Any

from websockets import _codec
from websockets import protocol as module
from websockets.exceptions import PayloadTooBig, ProtocolError

from .common import Cursor, Outcome, frame, outcome, xor

__all__ = ["CODECS", "Twins", "described", "one_input", "read_twice", "seeds", "use"]

#: The pure codec, whose coverage guides the search, and the compiled one where it was built.
CODECS: list[Any] = [_codec]
if os.environ.get("WEBSOCKETS_BUILD_EXTENSION") != "no":
    CODECS.append(importlib.import_module("websockets._speedups"))

KEY = b"\x12\x34\x56\x78"

LIMITS = (None, 0, 1, 5, 125, 126, 1000, 65536, 1 << 20, 1 << 70)

# Bytes that arrive at once. A payload that lacks 64 KiB is received in place.
SIZES = (1, 2, 3, 4, 5, 7, 10, 14, 17, 64, 126, 1000, 4096, 65536, 100_000, 400_000)

# Sizes of payloads that the input does not spell out: what the codecs have thresholds at.
FILLS = (125, 126, 127, 1000, 65535, 65536, 70_000, 270_000)
FILLERS = (b"a", b"\xff", "é".encode(), "€".encode(), "\U0001f600".encode(), b"ab\xff")

# An input of single bytes takes no longer than this many steps; what is left then comes at once.
MAX_STEPS = 200

ERRORS = (ProtocolError, PayloadTooBig, UnicodeDecodeError)

# As the buffer that connections have in common: each reader has its own, which is overwritten as
# soon as it may be.
SHARED = [memoryview(bytearray(100_000)) for _ in CODECS]


@contextlib.contextmanager
def use(codec: Any) -> Iterator[None]:
    """Run the protocol on a codec, with masking keys that are always the same."""
    names = [name for name in codec.__all__ if hasattr(module, name)]
    assert "FrameReader" in names
    codec._drop_keys()
    with (
        unittest.mock.patch.multiple(module, **{name: getattr(codec, name) for name in names}),
        unittest.mock.patch("os.urandom", lambda size: KEY * (size // 4)),
    ):
        yield
    codec._drop_keys()


def one_input(data: bytes) -> None:
    """Check one input."""
    cursor = Cursor(data)
    cursor.pick((check_reader, check_reader, check_text, check_encoding))(cursor)


# Reading frames


def make_stream(cursor: Cursor, masked: bool) -> bytes:
    """Build a stream: bytes as they are in the input, and frames, which may be large."""
    parts = []
    while cursor:
        kind = cursor.byte()
        if kind < 128:
            parts.append(cursor.take(kind))
            continue
        head = cursor.byte()
        if kind < 240:
            payload = cursor.take(kind - 128)
        else:
            filler = cursor.pick(FILLERS)
            size = cursor.pick(FILLS)
            payload = (filler * (size // len(filler) + 1))[:size]
        parts.append(frame(head, payload, KEY if masked else None, cursor.pick((0, 0, 2, 8))))
        if sum(map(len, parts)) > 600_000:
            break
    return b"".join(parts)


def check_reader(cursor: Cursor) -> None:
    masked, extended = cursor.flag(), cursor.flag()
    message, fragment = cursor.pick(LIMITS), cursor.pick(LIMITS)
    plan = cursor.take(cursor.byte() % 16) or b"\x6f"
    stream = make_stream(cursor, masked)
    read_twice(lambda: Twins(masked, message, fragment, extended=extended), stream, plan)


def read_twice(make_twins: Callable[[], Twins], stream: bytes, plan: bytes) -> Twins:
    """Read a stream in pieces and whole: what comes out is the same; return what has read it."""
    whole = make_twins()
    whole.feed(stream)
    whole.drain()
    twins = make_twins()
    twins.run(stream, plan)
    assert twins.frames == whole.frames
    assert described(twins.error, exact=False) == described(whole.error, exact=False)
    return twins


def described(exc: Exception | None, exact: bool = True) -> object:
    """Return all there is to an exception.

    Args:
        exc: the exception.
        exact: include the text in which a character is bad, which depends on how much has arrived.
    """
    if exc is None:
        return None
    if isinstance(exc, UnicodeDecodeError) and not exact:
        return exc.start, exc.end, exc.reason
    return type(exc), str(exc), exc.args


class Twins:
    """Readers of both codecs, which are told the same and must say the same.

    Args:
        args: arguments of the readers.
        extended: whether extensions are in use.
        make_inflater: makes what inflates messages, one for each reader.
    """

    def __init__(
        self,
        *args: Any,
        extended: bool = False,
        make_inflater: Callable[[], object] | None = None,
    ) -> None:
        self.readers = [codec.FrameReader(*args, extended=extended) for codec in CODECS]
        if make_inflater is not None:
            for reader in self.readers:
                reader.inflater = make_inflater()
        self.extended = extended
        self.limit: int | None = args[1]
        self.frames: list[tuple[int, bytes, bool, int]] = []
        self.error: Exception | None = None

    def agree(self, call: Any, *allowed: type[Exception]) -> Outcome:
        """Call something on each, and return what they have in common: all of it."""
        first, *others = [
            outcome(functools.partial(call, reader), *allowed) for reader in self.readers
        ]
        for other in others:
            assert first[0] == other[0], (first, other)
            assert type(first[0]) is type(other[0])
            assert described(first[1]) == described(other[1]), (first[1], other[1])
        return first

    def compare(self) -> None:
        if self.error is None:
            self.agree(
                lambda reader: (reader.in_frame, reader.message_size, reader.starved, reader.frames)
            )

    def run(self, stream: bytes, plan: bytes) -> None:
        """Feed a stream in pieces and read as the plan says, a byte for each piece."""
        position = steps = 0
        late = 3  # what arrives behind an error changes nothing, and need not be long
        while position < len(stream) and late:
            code = plan[steps % len(plan)]
            steps += 1
            size = SIZES[code & 15] if steps < MAX_STEPS else len(stream)
            piece = stream[position : position + size]
            if code & 0x90 == 0x90:
                # An event loop asks for a buffer, and nothing arrives.
                for reader, shared in zip(self.readers, SHARED, strict=True):
                    reader.get_buffer(shared)
            if code & 16:
                piece = self.receive(piece)
            else:
                self.feed(piece)
            position += len(piece)
            if code & 0x60 == 0:
                for reader in self.readers:
                    reader.keep()
            elif code & 0x60 == 0x20:
                self.read_frame()
            elif code & 0x60 == 0x40:
                self.read_messages(1)
            else:
                self.drain()
            for shared in SHARED:
                shared[: min(len(piece), len(shared))] = bytes(min(len(piece), len(shared)))
            self.compare()
            late -= self.error is not None
        self.drain()
        self.compare()

    def feed(self, data: bytes) -> None:
        for reader in self.readers:
            reader.feed(data)

    def receive(self, data: bytes) -> bytes:
        """Receive what fits into the buffers; return that."""
        rooms = [
            reader.get_buffer(shared) for reader, shared in zip(self.readers, SHARED, strict=True)
        ]
        assert all(map(len, rooms))
        data = data[: min(map(len, rooms))]
        for reader, shared, room in zip(self.readers, SHARED, rooms, strict=True):
            room[: len(data)] = data
            reader.buffer_updated(shared, len(data))
        return data

    def read_frame(self) -> bool:
        """Read a frame; return whether there was one."""
        item, exc = self.agree(lambda reader: reader.read_frame(), *ERRORS)
        if exc is not None:
            assert self.error is None or described(self.error) == described(exc)
            self.error = exc
        if item is None:
            return False
        assert isinstance(item, tuple)
        self.frames.append(item)
        opcode, payload, fin, rsv = item
        assert [type(x) for x in item] == [int, bytes, bool, int]
        if self.extended:
            if opcode < 8:
                # Whoever decodes keeps count, and the limit.
                for reader in self.readers:
                    size = 0 if fin else reader.message_size + len(payload)
                    reader.message_size = size if self.limit is None else min(size, self.limit)
        else:
            assert rsv == 0
        return True

    def read_messages(self, limit: int) -> bool:
        """Read messages; return whether there were any."""
        messages, _ = self.agree(lambda reader: reader.read_messages(limit))
        assert isinstance(messages, list)
        assert len(messages) <= limit
        assert not (messages and self.error)
        for message in messages:
            if isinstance(message, str):
                self.frames.append((1, message.encode(), True, 0))
            else:
                self.frames.append((2, message, True, 0))
        return bool(messages)

    def drain(self) -> None:
        while self.read_messages(3) or self.read_frame():
            pass
        if self.error is None:
            # Only now have they looked at all bytes.
            self.agree(lambda reader: str(reader.eof_error()))


# Text


def check_text(cursor: Cursor) -> None:
    # An error shows the text, up to a size.
    kind = cursor.byte()
    text = b"a" * (_codec.TEXT_CONTEXT - 2 + kind % 4 if kind >= 252 else 0)
    sizes = cursor.take(cursor.byte() % 8) or b"\xff"
    validators = [codec.Utf8Validator() for codec in CODECS]
    for validator in validators:
        validator.feed(text)
    pieces = 0
    while True:
        piece = cursor.take(sizes[pieces % len(sizes)] % 64 + 1)
        pieces += 1
        text += piece
        final = not cursor
        errors = [
            outcome(functools.partial(validator.feed, piece, final), UnicodeDecodeError)[1]
            for validator in validators
        ]
        assert all(described(error) == described(errors[0]) for error in errors), errors
        expected = text_error(text, final)
        exact = len(text) <= _codec.TEXT_CONTEXT
        assert described(errors[0], exact) == described(expected, exact)
        if final or expected:
            break


def text_error(text: bytes, final: bool) -> UnicodeDecodeError | None:
    """What CPython says of the text so far; that it ends is an error only at the end."""
    try:
        text.decode()
    except UnicodeDecodeError as exc:
        if final or exc.reason != "unexpected end of data":
            return exc
    return None


# Encoding


def check_encoding(cursor: Cursor) -> None:
    opcode, rsv = cursor.byte() - 4, cursor.byte() % 10 - 1
    masked, fin, as_text = cursor.flag(), cursor.flag(), cursor.flag()
    size = int.from_bytes(cursor.take(cursor.byte() % 10), "big", signed=True)
    repeat = cursor.pick((1, 1, 1, 100, 20_000))
    data = cursor.take(200) * repeat

    headers = [
        outcome(
            functools.partial(codec.encode_header, opcode, size, masked, fin, rsv),
            ValueError,
            OverflowError,
        )
        for codec in CODECS
    ]
    in_range = 0 <= opcode < 16 and 0 <= rsv < 8
    for header, exc in headers:
        assert header == headers[0][0]
        assert (exc is None) == (in_range and 0 <= size < 1 << 63)

    payload: str | bytes = (
        data.decode("utf-8", "surrogatepass") if as_text and valid(data) else data
    )
    encoded = []
    # The same key from both.
    with unittest.mock.patch("os.urandom", lambda size: KEY * (size // 4)):
        for codec in CODECS:
            codec._drop_keys()
            call = functools.partial(codec.encode_frame, opcode, payload, masked, fin, rsv)
            encoded.append(outcome(call, ValueError))
    for codec in CODECS:
        codec._drop_keys()
    for result, exc in encoded:
        assert result == encoded[0][0]
        # Of two faults, either may be told.
        assert type(exc) is type(encoded[0][1]) or not in_range
    if encoded[0][1] is None:
        head = (0x80 if fin else 0) | rsv << 4 | opcode
        assert encoded[0][0] == frame(head, data, KEY if masked else None)
    else:
        assert not in_range or isinstance(encoded[0][1], UnicodeEncodeError)

    key = data[:4].ljust(4, b"k")
    for codec in CODECS:
        assert codec.apply_mask(data, key) == xor(data, key)
        if isinstance(payload, str):
            text, error = outcome(functools.partial(codec.text_buffer, payload), UnicodeEncodeError)
            if error is None:
                assert bytes(text) == data  # type: ignore[call-overload]
            else:
                assert any("\ud800" <= char <= "\udfff" for char in payload)


def valid(data: bytes) -> bool:
    """Whether bytes are UTF-8, or would be if surrogates were characters."""
    try:
        data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


def seeds() -> dict[str, bytes]:
    """Return inputs that reach the main paths."""
    found: dict[str, bytes] = {}
    # Plans: as it comes, byte by byte, into the shared buffer, into a large payload, one a read.
    plans = {"whole": b"\x6f", "bytes": b"\x60", "receive": b"\x79\x30", "large": b"\x7d\x3e\x11"}
    streams = {
        "messages": b"\x85\x81hello\x00\x83\x82\x00\xff\xfe\x00\xf0\x81\x01\x01\x00",
        "fragments": b"\x83\x01a\xe2\x82\x00\x81\x89p\x00\x81\x80\xac\x00\x83\x81\xffab\x00",
        "large": b"\xf0\x82\x00\x07\x00\xf0\x81\x02\x06\x00\xf0\x01\x03\x05\x02\xf0\x80\x05\x05",
        "raw": b"\x0a\x82\x7f" + bytes(7) + b"\x05\x05fuzzy\x04\x88\x02\x03\xe8",
        "bad": b"\x84\x81good\x00\x04\xc1\x02ab\x02\x8b\x00",
        "text": b"\xfa\x01\x02\x05\x00\xfa\x00\x03\x04\x00\x81\x00\xed\x00\x81\x80\xa0\x00",
    }
    for stream_name, stream in streams.items():
        for plan_name, plan in plans.items():
            for masked in (0, 1):
                options = bytes([0, masked, 0, 8, 0, len(plan)])
                name = f"{stream_name}-{plan_name}-{'masked' if masked else 'unmasked'}"
                found[name] = options + plan + stream
    found["extended"] = bytes([0, 1, 1, 6, 4, 1]) + b"\x60" + b"\x83\x41abc\x00\x83\x80def\x00"
    found["limits"] = bytes([0, 0, 0, 3, 2, 0]) + b"\x81\x01a\x00\x81\x00b\x00\x82\x80cd\x00"
    for name, text in {"ok": "aé€\U0001f600z".encode(), "surrogate": b"a\xed\xa0\x80"}.items():
        found[f"text-{name}"] = b"\x02\x00\x01\x00" + text
        found[f"text-long-{name}"] = b"\x02\xfd\x02\x00\x02" + text
    found["encode-text"] = b"\x03\x05\x01\x01\x01\x01\x01\x7e\x00" + "aé€".encode()
    found["encode-large"] = b"\x03\x06\x01\x01\x01\x00\x02\x7f\xff\x04" + b"data"
    found["encode-surrogate"] = b"\x03\x05\x01\x00\x01\x01\x00\x00\xed\xa0\x80"
    return found
