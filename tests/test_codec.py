"""The frame codec: every test here runs on both implementations."""

from __future__ import annotations

import importlib
import os
import tracemalloc

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from websockets import _codec
from websockets.exceptions import PayloadTooBig, ProtocolError

# The codecs are modules: the fixture that hands them out may be shared by all examples.
settings.register_profile(
    "codec", suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
settings.load_profile("codec")

KEY = b"\x12\x34\x56\x78"


@pytest.fixture
def compiled_codec():
    return importlib.import_module("websockets._speedups")


def mask(data, key=KEY):
    return bytes(byte ^ key[i % 4] for i, byte in enumerate(data))


def frame(opcode, payload=b"", fin=True, rsv=0, masked=False, size=None):
    """Build a frame by hand; size forces the form of the length, in bytes."""
    if size is None:
        size = 0 if len(payload) < 126 else 2 if len(payload) < 65536 else 8
    length = len(payload) if size == 0 else {2: 126, 8: 127}[size]
    head = bytes([fin << 7 | rsv << 4 | opcode, masked << 7 | length])
    head += len(payload).to_bytes(size, "big") if size else b""
    return head + (KEY + mask(payload) if masked else payload)


def read_all(reader):
    """Read frames until bytes are lacking; return them and the error that came last, if any."""
    frames = []
    while True:
        try:
            item = reader.read_frame()
        except Exception as exc:
            return frames, exc
        if item is None:
            return frames, None
        frames.append(item)


def read(codec, data, *args, **kwargs):
    reader = codec.FrameReader(*args, **kwargs)
    reader.feed(data)
    return read_all(reader)


# Masking


@pytest.mark.parametrize(
    "size", [0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 255, 256, 257, 511, 1000, 65537]
)
def test_apply_mask(codec, size):
    data = os.urandom(size)
    assert codec.apply_mask(data, KEY) == mask(data)
    assert codec.apply_mask(bytearray(data), memoryview(KEY)) == mask(data)


@pytest.mark.parametrize("key", [b"", b"abc", b"abcde"])
def test_apply_mask_needs_four_bytes(codec, key):
    with pytest.raises(ValueError, match="mask must contain 4 bytes"):
        codec.apply_mask(b"data", key)


@pytest.mark.parametrize("args", [("data", KEY), (b"data", "keys"), (1, KEY)])
def test_apply_mask_needs_bytes(codec, args):
    with pytest.raises(TypeError):
        codec.apply_mask(*args)


# Encoding


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("fin", [False, True])
@pytest.mark.parametrize("rsv", [0, 1, 4, 7])
@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 100_000])
def test_encode_frame(codec, size, rsv, fin, masked):
    payload = os.urandom(size)
    encoded = codec.encode_frame(2, payload, masked, fin, rsv)
    if masked:
        start = len(encoded) - size
        assert mask(encoded[start:], encoded[start - 4 : start]) == payload
        encoded = encoded[: start - 4]
        assert encoded == frame(2, payload, fin, rsv, masked=True)[: len(encoded)]
    else:
        assert encoded == frame(2, payload, fin, rsv)
        encoded = encoded[: len(encoded) - size]
    assert codec.encode_header(2, size, masked, fin, rsv) == encoded


@pytest.mark.parametrize(
    "text", ["", "ascii", "caf\xe9", "\u20ac" * 100, "\U0001f600", "x" * 70000]
)
def test_encode_frame_text(codec, text):
    assert codec.encode_frame(1, text, False) == frame(1, text.encode())


def test_a_masking_key_that_another_thread_takes(monkeypatch):
    """Between the look whether there is one and the taking of it: then another one is taken."""

    class Contended(list):
        taken = False

        def pop(self):
            if not self.taken:
                self.taken = True
                self.clear()
            return super().pop()

    keys = Contended([KEY])
    monkeypatch.setattr(_codec, "_keys", keys)
    encoded = _codec.encode_frame(2, b"abc", True)
    assert keys.taken
    assert encoded == b"\x82\x83" + encoded[2:6] + mask(b"abc", encoded[2:6])
    assert encoded[2:6] != KEY
    assert len(keys) == _codec.KEY_BLOCK_SIZE // 4 - 1


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_encode_frame_takes_bytes_like(codec, kind):
    assert codec.encode_frame(2, kind(b"data"), False) == frame(2, b"data")
    assert codec.encode_frame(2, memoryview(b"d.a.t.a.")[::2], False) == frame(2, b"data")


@pytest.mark.parametrize("payload", [None, 1, ["a"], object()])
def test_encode_frame_refuses_other_types(codec, payload):
    with pytest.raises(TypeError):
        codec.encode_frame(2, payload, False)


@pytest.mark.parametrize("text", ["", "a", "ascii" * 1000, "caf\xe9", "\u20ac\U0001f600"])
def test_text_buffer(codec, text):
    buffer = codec.text_buffer(text)
    assert bytes(buffer) == text.encode()
    assert len(buffer) == len(text.encode())
    assert memoryview(buffer).readonly


@given(st.lists(st.sampled_from(["a" * 8, *"a\x7f\x80\xbf\xc0\xff\u0100"])).map("".join))
@example("a" * 7 + "\xff" + "a" * 8)
@example("\xff" * 8)
def test_text_of_any_mixture(codec, text):
    """Strings up to U+00FF are encoded eight characters at a time, the others as they come."""
    assert bytes(codec.text_buffer(text)) == text.encode()
    assert codec.encode_frame(1, text, False).endswith(text.encode())


def test_text_buffer_keeps_its_text_alive(codec):
    buffer = codec.text_buffer("".join(["kept", "alive"] * 1000))
    assert bytes(buffer) == b"keptalive" * 1000


def test_text_buffer_refuses(codec):
    with pytest.raises(UnicodeEncodeError):
        codec.text_buffer("\ud800")
    with pytest.raises((TypeError, AttributeError)):
        codec.text_buffer(1)


def test_encode_frame_refuses_surrogates(codec):
    with pytest.raises(UnicodeEncodeError):
        codec.encode_frame(1, "\ud800", False)


@pytest.mark.parametrize("opcode, rsv", [(-1, 0), (16, 0), (1, -1), (1, 8)])
def test_encode_refuses_out_of_range(codec, opcode, rsv):
    with pytest.raises(ValueError):
        codec.encode_frame(opcode, b"", False, True, rsv)
    with pytest.raises(ValueError):
        codec.encode_header(opcode, 0, False, True, rsv)


@pytest.mark.parametrize("payload, error", [(None, TypeError), ("\ud800", UnicodeEncodeError)])
def test_encode_frame_with_two_faults_names_the_payload(codec, payload, error):
    with pytest.raises(Exception) as raised:
        codec.encode_frame(16, payload, False)
    assert raised.type is error


@pytest.mark.parametrize("length", [-1, 1 << 63, 1 << 64])
def test_encode_header_refuses_length(codec, length):
    with pytest.raises(ValueError):
        codec.encode_header(2, length, False)


def test_encode_header_takes_the_largest_length(codec):
    header = codec.encode_header(2, (1 << 63) - 1, False)
    assert header == b"\x82\x7f\x7f" + b"\xff" * 7


# UTF-8

TEXTS = [
    b"",
    b"ascii",
    "caf\xe9".encode(),
    "\u0800\ud7ff\ue000\uffff".encode(),
    "\U00010000\U0010ffff".encode(),
    b"a" * 40 + "\u20ac".encode() + b"b" * 40,
    b"\x80",
    b"\xbf",
    b"\xc0\x80",
    b"\xc1\xbf",
    b"\xe0\x80\x80",
    b"\xe0\x9f\xbf",
    b"\xed\xa0\x80",
    b"\xed\xbf\xbf",
    b"\xf0\x80\x80\x80",
    b"\xf0\x8f\xbf\xbf",
    b"\xf4\x90\x80\x80",
    b"\xf5\x80\x80\x80",
    b"\xff",
    b"\xc3",
    b"\xe2\x82",
    b"\xf0\x9f\x98",
    b"abc\xe2\x28\xa1",
    b"abc\xe2\x82\x28",
    b"abc\xf0\x9f\x28\x80",
    b"a" * 17 + b"\xff" + b"b" * 17,
]


def decode_error(data, final):
    """What CPython says of the text so far; the end is no error before the text has ended."""
    try:
        data.decode()
    except UnicodeDecodeError as exc:
        if final or exc.reason != "unexpected end of data":
            return exc.args
    return None


@pytest.mark.parametrize("text", TEXTS)
def test_utf8_validator_agrees_with_cpython(codec, text):
    for first in range(len(text) + 1):
        for second in range(first, len(text) + 1):
            validator = codec.Utf8Validator()
            fed = b""
            pieces = text[:first], text[first:second], text[second:]
            for piece, final in zip(pieces, (False, False, True), strict=True):
                fed += piece
                expected = decode_error(fed, final)
                try:
                    validator.feed(piece, final)
                except UnicodeDecodeError as exc:
                    assert exc.args == expected
                    break
                assert expected is None


@pytest.mark.parametrize("before, after", [(0, 30), (9, 9), (30, 0)])
def test_utf8_validator_agrees_with_cpython_on_all_characters(codec, before, after):
    """All that may follow each first byte, wherever in a long text it is."""
    validator = codec.Utf8Validator()
    firsts = [bytes([lead, second]) for lead in range(0x7F, 0x100) for second in range(0x100)]
    for tail in [b"", b"\x80", b"\xbf\x80", b"\x80z", b"\xc0\xbf"]:
        for first in firsts:
            text = b"\xc3\xa9" * before + first + tail + b"\xc3\xa9" * after
            try:
                text.decode()
                valid = True
            except UnicodeDecodeError:
                valid = False
            try:
                validator.feed(text, True)
                assert valid, text
            except UnicodeDecodeError:
                assert not valid, text


@given(st.lists(st.binary(max_size=6), max_size=6))
def test_utf8_validator_any_bytes(codec, pieces):
    validator, fed = codec.Utf8Validator(), b""
    for index, piece in enumerate(pieces):
        final = index == len(pieces) - 1
        fed += piece
        expected = decode_error(fed, final)
        try:
            validator.feed(piece, final)
        except UnicodeDecodeError as exc:
            assert exc.args == expected
            return
        assert expected is None


def test_utf8_validator_starts_again_after_the_end(codec):
    validator = codec.Utf8Validator()
    validator.feed(b"abc", True)
    with pytest.raises(UnicodeDecodeError, match="in position 1"):
        validator.feed(b"a\xff", True)


def test_utf8_validator_forgets_a_long_text(codec):
    """The positions stay true when the text is not kept any more."""
    validator = codec.Utf8Validator()
    size = _codec.TEXT_CONTEXT + 1
    validator.feed(b"a" * size)
    validator.feed(b"\xe2")
    with pytest.raises(UnicodeDecodeError) as raised:
        validator.feed(b"\x28")
    assert raised.value.args == ("utf-8", b"\xe2\x28", size, size + 1, "invalid continuation byte")


# Reading

MESSAGES = [
    (1, b""),
    (1, b"a"),
    (1, b"ascii text"),
    (1, "caf\xe9 \u20ac \U0001f600".encode()),
    (2, b""),
    (2, b"\xff"),
    (2, bytes(range(125))),
    (2, bytes(126)),
    (1, b"x" * 65535),
    (2, b"y" * 65536),
]


@pytest.mark.parametrize("masked", [False, True])
def test_read_frames(codec, masked):
    data = b"".join(frame(op, payload, masked=masked) for op, payload in MESSAGES)
    assert read(codec, data, masked) == ([(op, p, True, 0) for op, p in MESSAGES], None)


def test_frames_are_counted(codec):
    """When they are complete, whatever they are, and however they are cut and read."""
    frames = [(1, b"a", False), (9, b"p", True), (0, b"", True), (2, b"x" * 70_000, True)]
    data = b"".join(frame(op, payload, fin) for op, payload, fin in frames)
    for step in (1000, len(data)):
        reader = codec.FrameReader(False)
        for start in range(0, len(data), step):
            reader.feed(data[start : start + step])
            while reader.read_messages(1) or reader.read_frame() is not None:
                pass
        assert reader.frames == len(frames)
    reader.feed(frame(2, b"unfinished")[:-1])
    assert reader.read_frame() is None
    assert reader.frames == len(frames)


@pytest.mark.parametrize("masked", [False, True])
def test_read_messages(codec, masked):
    data = b"".join(frame(op, payload, masked=masked) for op, payload in MESSAGES)
    reader = codec.FrameReader(masked)
    reader.feed(data)
    expected = [p.decode() if op == 1 else p for op, p in MESSAGES]
    assert reader.read_messages(3) == expected[:3]
    assert reader.in_frame
    assert reader.read_messages(100) == expected[3:]
    assert not reader.in_frame
    assert reader.read_messages(100) == []
    assert reader.read_frame() is None


def test_read_messages_stops_at_other_frames(codec):
    reader = codec.FrameReader(False)
    reader.feed(
        frame(1, b"one") + frame(9, b"ping") + frame(2, b"two") + frame(1, b"a", fin=False)
        + frame(0, b"b") + frame(1, b"three")
    )  # fmt: skip
    assert reader.read_messages(9) == ["one"]
    assert reader.read_messages(9) == []
    assert reader.read_frame() == (9, b"ping", True, 0)
    assert reader.read_messages(9) == [b"two"]
    assert reader.read_frame() == (1, b"a", False, 0)
    assert reader.read_messages(9) == []
    assert reader.read_frame() == (0, b"b", True, 0)
    assert reader.read_messages(9) == ["three"]


def test_read_messages_gives_what_is_good_before_an_error(codec):
    reader = codec.FrameReader(False)
    reader.feed(frame(1, b"one") + frame(1, b"\xff"))
    assert reader.read_messages(9) == ["one"]
    assert reader.read_messages(9) == []
    for _ in range(2):
        with pytest.raises(UnicodeDecodeError):
            reader.read_frame()


@pytest.mark.parametrize("masked", [False, True])
def test_nothing_is_read_behind_bad_text(codec, masked):
    """The rest of a bad payload is no frame, however much it looks like one."""
    for tail in (b"", frame(1, b"!", masked=masked) * 2, frame(9, b"", masked=masked)):
        reader = codec.FrameReader(masked)
        data = frame(1, b"\xff\xff" + tail, masked=masked)
        # A part of the payload at first: enough to know.
        for part in (data[: len(data) - len(tail)], data[len(data) - len(tail) :]):
            reader.feed(part)
            assert reader.read_messages(9) == []
            assert reader.read_messages(9) == []
        for _ in range(2):
            with pytest.raises(UnicodeDecodeError, match="byte 0xff in position 0"):
                reader.read_frame()
        reader.feed(frame(1, b"late", masked=masked))
        assert reader.read_messages(9) == []


def test_types_are_exact(codec):
    reader = codec.FrameReader(False)
    reader.feed(bytearray(frame(2, b"data") + frame(1, b"text")))
    opcode, payload, fin, rsv = reader.read_frame()
    assert [type(x) for x in (opcode, payload, fin, rsv)] == [int, bytes, bool, int]
    assert [type(x) for x in reader.read_messages(1)] == [str]


def test_fed_bytes_are_copied_where_they_can_change(codec):
    reader = codec.FrameReader(False)
    data = bytearray(frame(2, b"data"))
    reader.feed(data)
    data[:] = bytes(len(data))
    assert reader.read_frame() == (2, b"data", True, 0)


PE = ProtocolError
BAD = {
    "RFC 6455 5.2 reserved opcode 3": (b"\x83\x00", "invalid opcode"),
    "RFC 6455 5.2 reserved opcode 7": (b"\x87\x00", "invalid opcode"),
    "RFC 6455 5.2 reserved opcode 11": (b"\x8b\x00", "invalid opcode"),
    "RFC 6455 5.2 reserved opcode 15": (b"\x8f\x00", "invalid opcode"),
    "RFC 6455 5.2 RSV1": (b"\xc1\x00", "reserved bits must be 0"),
    "RFC 6455 5.2 RSV2": (b"\xa1\x00", "reserved bits must be 0"),
    "RFC 6455 5.2 RSV3": (b"\x91\x00", "reserved bits must be 0"),
    "RFC 6455 5.2 RSV1 on ping": (b"\xc9\x00", "reserved bits must be 0"),
    "RFC 6455 5.1 masked by a server": (b"\x81\x80", "incorrect masking"),
    "RFC 6455 5.5 long ping": (b"\x89\x7e", "control frame too long"),
    "RFC 6455 5.5 longer close": (b"\x88\x7f", "control frame too long"),
    "RFC 6455 5.5 fragmented ping": (b"\x09\x00", "fragmented control frame"),
    "RFC 6455 5.4 nothing to continue": (b"\x80\x00", "unexpected continuation frame"),
    "RFC 6455 5.4 unfinished message": (b"\x01\x00\x81\x00", "expected a continuation frame"),
    "RFC 6455 5.2 length of 64 bits": (b"\x81\x7f\x80" + bytes(7), "invalid frame length"),
    "RFC 6455 5.2 largest length": (b"\x82\x7f" + b"\xff" * 8, "invalid frame length"),
}


@pytest.mark.parametrize("data, message", BAD.values(), ids=BAD)
@pytest.mark.parametrize("before", [b"", frame(1, b"good")], ids=["first", "second"])
def test_bad_frames(codec, before, data, message):
    """The error comes with the last byte shown here, after the good frame."""
    good = [(1, b"good", True, 0)] if before else []
    frames, error = read(codec, before + data[:-1], False)
    assert error is None
    frames, error = read(codec, before + data, False)
    assert frames[: len(good)] == good
    assert type(error) is ProtocolError
    assert str(error) == message


def test_unmasked_frame_from_a_client(codec):
    """RFC 6455 section 5.1"""
    frames, error = read(codec, frame(1, b"a", masked=True) + frame(1, b"b"), True)
    assert frames == [(1, b"a", True, 0)]
    assert (type(error), str(error)) == (ProtocolError, "incorrect masking")


def test_error_is_raised_again(codec):
    reader = codec.FrameReader(False)
    reader.feed(b"\x83\x00" + frame(1, b"late"))
    for _ in range(2):
        with pytest.raises(ProtocolError):
            reader.read_frame()
    assert reader.read_messages(1) == []
    reader.feed(frame(1, b"later"))
    with pytest.raises(ProtocolError):
        reader.read_frame()


SIZES = {
    "fits": ((5, None), [5], None),
    "message": ((5, None), [6], (6, 5, None)),
    "second fragment": ((5, None), [3, 3], (3, 2, 3)),
    "empty fragments": ((5, None), [0, 5, 0, 0], None),
    "one more byte": ((5, None), [5, 0, 1], (1, 0, 5)),
    "nothing allowed": ((0, None), [1], (1, 0, None)),
    "nothing sent": ((0, None), [0], None),
    "fragment": ((None, 2), [3], (3, 2, None)),
    "fragment of a message": ((100, 2), [1, 3], (3, 2, None)),
    "both, fragment first": ((2, 1), [3], (3, 1, None)),
    "both, message first": ((1, 2), [3], (3, 1, None)),
    "no limit": ((None, None), [300, 70000], None),
}


@pytest.mark.parametrize("limits, sizes, refused", SIZES.values(), ids=SIZES)
def test_sizes(codec, limits, sizes, refused):
    data = b"".join(
        frame(2 if i == 0 else 0, bytes(size), fin=i == len(sizes) - 1)
        for i, size in enumerate(sizes)
    )
    frames, error = read(codec, data + frame(9, b"x" * 125), False, *limits)
    if refused is None:
        assert error is None
        assert len(frames) == len(sizes) + 1
    else:
        assert type(error) is PayloadTooBig
        assert str(error) == str(PayloadTooBig(*refused))


@pytest.mark.parametrize("limits", [(2**70, None), (None, 2**70), (2**70, 2**70), (2**63, 2**64)])
def test_limits_beyond_any_length(codec, limits):
    """RFC 6455 section 5.2: no frame is that long, so that they limit nothing."""
    frames, error = read(codec, frame(1, b"a", fin=False) + frame(0, b"b"), False, *limits)
    assert frames == [(1, b"a", False, 0), (0, b"b", True, 0)]
    assert error is None
    length = (1 << 63) - 1
    assert read(codec, b"\x82\x7f" + length.to_bytes(8, "big"), False, *limits) == ([], None)


@pytest.mark.parametrize("limits", [(-1, None), (None, -1), (1, -1), (-(2**70), 1)])
def test_limits_below_zero(codec, limits):
    with pytest.raises(ValueError, match="^max_size must be positive or equal to zero$"):
        codec.FrameReader(False, *limits)


@pytest.mark.parametrize("opcode", [1, 2])
@pytest.mark.parametrize("length", [1_000_000, 1 << 24, 1 << 62])
@pytest.mark.parametrize("room", [1000, 100_000, 1 << 20])
def test_payload_is_reserved_as_it_arrives(compiled_codec, opcode, length, room):
    """Never more than twice what has arrived plus 256 KiB."""
    reader = compiled_codec.FrameReader(False)
    shared = memoryview(bytearray(1 << 20))
    data = bytes(1 << 20)
    arrived = 0
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        reader.feed(bytes([0x80 | opcode, 127]) + length.to_bytes(8, "big"))
        while arrived < min(length, 3_000_000):
            assert reader.read_messages(1) == []
            buffer = reader.get_buffer(shared)
            reserved = tracemalloc.get_traced_memory()[0] - before
            assert reserved <= 2 * arrived + 256 * 1024 + 4096
            size = min(len(buffer), room, length - arrived)
            buffer[:size] = data[:size]
            reader.buffer_updated(shared, size)
            arrived += size
    finally:
        tracemalloc.stop()
    messages = reader.read_messages(1)
    assert [len(message) for message in messages] == ([length] if arrived == length else [])


def test_message_size_starts_again(codec):
    data = frame(2, b"1234", fin=False) + frame(0, b"5") + frame(2, b"12345") + frame(1, b"12345")
    frames, error = read(codec, data, False, 5)
    assert len(frames) == 4
    assert error is None


def test_many_fragments(codec):
    """A message of 65,536 fragments is legal."""
    data = frame(1, b"a", fin=False) + frame(0, b"b", fin=False) * 65534 + frame(0, b"c")
    frames, error = read(codec, data, False)
    assert len(frames) == 65536
    assert error is None


TEXT = "a\xe9\u20ac\U0001f600z".encode()


def test_text_is_checked_across_fragments(codec):
    for cut in range(len(TEXT) + 1):
        data = frame(1, TEXT[:cut], fin=False) + frame(9, b"\xff") + frame(0, TEXT[cut:])
        frames, error = read(codec, data, False)
        assert error is None
        assert len(frames) == 3


def test_bad_byte_behind_long_fragments(codec):
    """The position stays true when the text is not kept any more."""
    half = b"a" * (_codec.TEXT_CONTEXT // 2 + 1)
    data = frame(1, half, fin=False) + frame(0, half, fin=False)
    frames, error = read(codec, data + frame(0, b"b\xe2", fin=False) + frame(0, b"\x28"), False)
    assert len(frames) == 3
    start = 2 * len(half) + 1
    assert error.args == ("utf-8", b"\xe2\x28", start, start + 1, "invalid continuation byte")


@pytest.mark.parametrize("bad", [b"\xff", b"\xe2\x28", b"\xed\xa0", b"\xf4\x90", b"\xc0"])
def test_bad_text_fails_fast(codec, bad):
    """RFC 6455 section 8.1: by the byte that shows it, wherever frames and reads end."""
    text = b"good \xe2\x82\xac " + bad
    rest = b"never sent"
    for cut in range(len(text)):
        data = frame(1, text[:cut], fin=False) + frame(0, text[cut:] + rest)
        data = data[: -len(rest)]
        frames, error = read(codec, data[:-1], False)
        assert error is None, cut
        frames, error = read(codec, data, False)
        assert len(frames) == 1
        assert isinstance(error, UnicodeDecodeError)
        assert error.args == decode_error(text, False)


def test_text_must_not_end_inside_a_character(codec):
    frames, error = read(codec, frame(1, b"abc\xe2", fin=False) + frame(0, b"\x82"), False)
    assert len(frames) == 1
    assert error.args == decode_error(b"abc\xe2\x82", True)
    frames, error = read(codec, frame(1, b"abc\xe2\x82"), False)
    assert error.args == decode_error(b"abc\xe2\x82", True)
    frames, error = read(codec, frame(1, b"abc\xe2\x82", fin=False) + frame(0, b""), False)
    assert error.args == decode_error(b"abc\xe2\x82", True)


def test_binary_is_not_checked(codec):
    data = frame(2, b"\xff", fin=False) + frame(0, b"\xff") + frame(1, b"ok")
    assert read(codec, data, False)[1] is None


def test_extended_hands_on_reserved_bits_and_text(codec):
    reader = codec.FrameReader(False, 10, None, True)
    # As large as it may be, for what an extension may make of nothing, and larger.
    rest = frame(0, bytes(64), fin=False) + frame(0, bytes(65))
    reader.feed(frame(1, b"\xff\xfe", rsv=4, fin=False) + frame(9, b"", rsv=2) + rest)
    assert reader.read_messages(9) == []
    assert reader.read_frame() == (1, b"\xff\xfe", False, 4)
    assert reader.message_size == 0
    reader.message_size = 10
    assert reader.read_frame() == (9, b"", True, 2)
    assert reader.read_frame() == (0, bytes(64), False, 0)
    with pytest.raises(PayloadTooBig):
        reader.read_frame()


# Where a stream ends

ENDS = {
    "at a frame": (b"", "unexpected end of stream"),
    "in the first two bytes": (b"\x81", "stream ends after 1 bytes, expected 2 bytes"),
    "in a length of two bytes": (b"\x82\x7e\x00", "stream ends after 1 bytes, expected 2 bytes"),
    "in a length of eight bytes": (b"\x82\x7f12345", "stream ends after 5 bytes, expected 8 bytes"),
    "in a payload": (b"\x81\x05abc", "stream ends after 3 bytes, expected 5 bytes"),
    "before a payload": (b"\x81\x05", "stream ends after 0 bytes, expected 5 bytes"),
}  # fmt: skip


@pytest.mark.parametrize("data, message", ENDS.values(), ids=ENDS)
def test_eof_error(codec, data, message):
    reader = codec.FrameReader(False)
    reader.feed(frame(1, b"whole") + data)
    reader.read_messages(9)
    error = reader.eof_error()
    assert (type(error), str(error)) == (EOFError, message)
    assert reader.in_frame == bool(data)


@pytest.mark.parametrize("have", range(4))
def test_eof_error_in_a_masking_key(codec, have):
    reader = codec.FrameReader(True)
    reader.feed(b"\x81\x85" + KEY[:have])
    assert reader.read_frame() is None
    assert str(reader.eof_error()) == f"stream ends after {have} bytes, expected 4 bytes"


# Receiving into a buffer


def receive(reader, shared, data, messages):
    """Receive as an event loop does, and read like the asyncio runtime."""
    while data:
        buffer = reader.get_buffer(shared)
        size = min(len(buffer), len(data))
        buffer[:size] = data[:size]
        data = data[size:]
        reader.buffer_updated(shared, size)
        messages += reader.read_messages(1000)
        shared[:] = bytes(len(shared))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("room", [10, 1000, 100_000, 1 << 20])
def test_receive(codec, room, masked):
    large = [
        (2, os.urandom(3_000_000)),
        (1, b"z" * 1_000_001),
        (1, "\u20ac".encode() * 300_000),
        (1, b"z" * 700_000 + "\u20ac".encode() * 99_999),
        (1, b"z" * 999_999 + "\u20ac".encode()),
    ]
    expected = MESSAGES + large + MESSAGES
    if room == 10:
        expected = MESSAGES[:-2] * 2
    data = b"".join(frame(op, payload, masked=masked) for op, payload in expected)
    reader, messages = codec.FrameReader(masked), []
    receive(reader, memoryview(bytearray(room)), data, messages)
    assert messages == [p.decode() if op == 1 else p for op, p in expected]
    assert not reader.in_frame


@pytest.mark.parametrize("sizes", [(10, 100_000), (100_000,), (300_000, 7, 500_000, 90_000)])
@pytest.mark.parametrize("text", [b"z" * 1_000_000, b"z" * 400_001 + "\u20ac".encode() * 200_000])
@pytest.mark.parametrize("masked", [False, True])
def test_large_text_is_read_as_bytes(codec, masked, text, sizes):
    """Who began to read messages may go on to read frames."""
    reader = codec.FrameReader(masked)
    data = frame(1, text, masked=masked)
    for size in sizes:
        reader.feed(data[:size])
        data = data[size:]
        assert reader.read_messages(1) == []
        assert reader.read_frame() is None
    reader.feed(data)
    opcode, payload, fin, rsv = reader.read_frame()
    assert (opcode, fin, rsv) == (1, True, 0)
    assert type(payload) is bytes
    assert payload == text


@pytest.mark.parametrize("bad", [b"\xff", b"\xe2\x82\x28", b"\xc3", b"\xf4\x90\x80\x80"])
@pytest.mark.parametrize("at", [10, 99_999, 150_000, 399_000])
@pytest.mark.parametrize("good", [b"z", "\xe9".encode()])
def test_bad_byte_in_large_text(codec, good, at, bad):
    text = good * (at // len(good)) + bad
    text += b"z" * (400_000 - len(text))
    reader, said = codec.FrameReader(True), None
    data = frame(1, text, masked=True)
    arrived = -14
    while said is None:
        reader.feed(data[:100_000])
        arrived += len(data[:100_000])
        data = data[100_000:]
        assert reader.read_messages(1) == []
        try:
            assert reader.read_frame() is None
        except UnicodeDecodeError as exc:
            said = exc
    assert said.args == decode_error(text[:arrived], arrived == len(text))


def test_starved_tells_where_bytes_are_lacking(codec):
    reader = codec.FrameReader(False)
    assert not reader.starved
    for data, limit, expected, starved in [
        (b"", 1, [], True),
        (frame(1, b"abc")[:1], 1, [], True),
        (frame(1, b"abc")[1:4], 1, [], True),
        (frame(1, b"abc")[4:], 1, ["abc"], False),
        (b"", 1, [], True),
        (frame(1, b"a") + frame(2, b"b") + frame(1, b"c"), 2, ["a", b"b"], False),
        (b"", 2, ["c"], True),
        (frame(1, b"a") + frame(9), 2, ["a"], False),
    ]:
        reader.feed(data)
        assert reader.read_messages(limit) == expected
        assert reader.starved is starved
    assert reader.read_frame() == (9, b"", True, 0)
    reader.feed(frame(1, b"a") + b"\xff")
    assert reader.read_messages(9) == ["a"]
    assert reader.starved
    reader.feed(b"\xff")
    assert reader.read_messages(9) == []
    assert not reader.starved
    assert reader.read_messages(9) == []
    assert not reader.starved


def test_shared_buffer_is_free_after_a_read(codec):
    shared = bytearray(1000)
    reader = codec.FrameReader(False)
    data = frame(1, b"one") + frame(1, b"two") + frame(1, b"three")[:4]
    shared[: len(data)] = data
    reader.buffer_updated(memoryview(shared), len(data))
    assert reader.read_messages(1) == ["one"]
    shared[:] = b"\xff" * 1000
    assert reader.read_messages(9) == ["two"]
    reader.feed(b"ree")
    assert reader.read_messages(9) == ["three"]


def test_received_twice_before_a_read(codec):
    shared = memoryview(bytearray(1000))
    reader = codec.FrameReader(False)
    for data in (frame(1, b"one")[:4], frame(1, b"one")[4:] + frame(1, b"two")):
        reader.get_buffer(shared)[: len(data)] = data
        reader.buffer_updated(shared, len(data))
    assert reader.read_messages(9) == ["one", "two"]


@pytest.mark.parametrize("masked", [False, True])
def test_shared_buffer_is_free_after_keep(codec, masked):
    """What was not parsed is copied: another connection receives into the buffer next."""
    shared = bytearray(1000)
    reader = codec.FrameReader(masked)
    data = b"".join(frame(op, p, masked=masked) for op, p in MESSAGES[:4])
    for cut in range(len(data)):
        for part in (data[:cut], data[cut:]):
            shared[: len(part)] = part
            reader.buffer_updated(memoryview(shared), len(part))
            reader.keep()
            reader.keep()
            shared[:] = b"\xff" * len(shared)
        assert reader.read_messages(9) == [p.decode() for _, p in MESSAGES[:4]], cut
        assert not reader.in_frame


@pytest.mark.parametrize("nbytes", [-1, 11])
def test_buffer_updated_checks_the_size(codec, nbytes):
    reader = codec.FrameReader(False)
    with pytest.raises(ValueError):
        reader.buffer_updated(memoryview(bytearray(10)), nbytes)
    reader.feed(b"\x82\x7f" + (1 << 30).to_bytes(8, "big"))
    assert reader.read_frame() is None
    shared = memoryview(bytearray(10))
    buffer = reader.get_buffer(shared)
    with pytest.raises(ValueError):
        reader.buffer_updated(shared, -1 if nbytes < 0 else len(buffer) + 1)


def test_feed_instead_of_the_buffer(codec):
    """A transport may call data_received() after it asked for a buffer."""
    reader = codec.FrameReader(False)
    payload = os.urandom(200_000)
    data = frame(2, payload)
    reader.feed(data[:100])
    assert reader.read_frame() is None
    reader.get_buffer(memoryview(bytearray(1 << 20)))
    reader.feed(data[100:])
    assert reader.read_frame() == (2, payload, True, 0)


@pytest.mark.parametrize("masked", [False, True])
def test_feed_behind_the_buffer(codec, masked):
    """What was received into the payload is before what is fed then."""
    reader = codec.FrameReader(masked)
    payload = os.urandom(200_000)
    data = frame(2, payload, masked=masked)
    reader.feed(data[:100])
    assert reader.read_frame() is None
    shared = memoryview(bytearray(1 << 20))
    reader.get_buffer(shared)[:1000] = data[100:1100]
    reader.buffer_updated(shared, 1000)
    reader.feed(data[1100:])
    assert reader.read_frame() == (2, payload, True, 0)


def test_shared_buffer_is_free_after_the_reader(codec):
    shared = bytearray(100)
    reader = codec.FrameReader(False)
    reader.buffer_updated(shared, 10)
    del reader
    shared.clear()  # nobody has an export of it


def test_large_payload_is_received_in_place(compiled_codec):
    reader = compiled_codec.FrameReader(False)
    shared = memoryview(bytearray(1000))
    reader.feed(b"\x82\x7f" + (1 << 20).to_bytes(8, "big"))
    assert reader.get_buffer(shared) is shared
    assert reader.read_messages(1) == []
    buffer = reader.get_buffer(shared)
    assert buffer is not shared
    assert len(buffer) <= _codec.READ_SIZE
    reader.buffer_updated(shared, 1)
    with pytest.raises(ValueError, match="released"):
        buffer[0]


# Both implementations say the same

OPCODES = st.sampled_from([0, 1, 2, 8, 9, 10, 3])
PAYLOADS = st.one_of(
    st.binary(max_size=8),
    st.text(max_size=6).map(str.encode),
    st.sampled_from([b"x" * 125, b"x" * 126, b"\xe2", b"\x82\xac", "\u20ac".encode() * 50]),
)


@st.composite
def streams(draw):
    masked = draw(st.booleans())
    pieces = []
    message = False
    for _ in range(draw(st.integers(1, 6))):
        if draw(st.integers(0, 19)) == 0:
            pieces.append(draw(st.binary(max_size=16)))
            continue
        opcode = draw(st.sampled_from([0] if message else [1, 2]))
        if draw(st.integers(0, 3)) == 0:
            opcode = draw(OPCODES)
        fin = draw(st.booleans()) or opcode > 7 and draw(st.integers(0, 9)) > 0
        if opcode < 3:
            message = not fin
        payload = draw(PAYLOADS)
        rsv = draw(st.sampled_from([0] * 15 + [4]))
        size = draw(st.sampled_from([None, None, None, 2, 8]))
        pieces.append(frame(opcode, payload, fin, rsv, masked, size))
    data = b"".join(pieces)
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=6)))
    limit = draw(st.sampled_from([None, None, 5, 130]))
    fragment = draw(st.sampled_from([None, None, 3]))
    extended = draw(st.sampled_from([False, False, False, True]))
    return masked, [data[a:b] for a, b in zip([0, *cuts], [*cuts, None], strict=True)], (
        limit, fragment, extended
    )  # fmt: skip


def trace(codec, masked, chunks, limits, plain, received):
    """All that a reader says of a stream, in order."""
    reader = codec.FrameReader(masked, *limits)
    shared = memoryview(bytearray(64))
    said = []
    for chunk in chunks:
        while chunk:
            if received:
                buffer = reader.get_buffer(shared)
                size = min(len(buffer), len(chunk))
                buffer[:size] = chunk[:size]
                reader.buffer_updated(shared, size)
            else:
                size = len(chunk)
                reader.feed(chunk)
            chunk = chunk[size:]
            if plain:
                # Behind an error, the second reads nothing.
                said += [reader.read_messages(2), reader.starved]
                said += [reader.read_messages(2), reader.starved]
            shared[:] = b"\xee" * 64 if received and plain else shared
            frames, error = read_all(reader)
            shared[:] = b"\xee" * 64
            said += frames
            said.append((reader.in_frame, reader.message_size))
            if error is not None:
                said.append((type(error), error.args, str(error)))
                return said
    said.append(str(reader.eof_error()))
    return said


@given(streams(), st.booleans(), st.booleans())
@settings(max_examples=400)
@example((False, [b"\x81\x03a", b"\xe2\x82"], (None, None, False)), False, False)
def test_both_implementations_say_the_same(compiled_codec, stream, plain, received):
    masked, chunks, limits = stream
    pure = trace(_codec, masked, chunks, limits, plain, received)
    compiled = trace(compiled_codec, masked, chunks, limits, plain, received)
    assert compiled == pure


@given(streams(), st.booleans())
def test_cuts_do_not_matter(codec, stream, received):
    """The frames, and the kind of error, are those of the stream fed at once."""
    masked, chunks, limits = stream
    whole, error = read(codec, b"".join(chunks), masked, *limits)
    said = trace(codec, masked, chunks, limits, False, received)
    frames = [item for item in said if type(item) is tuple and len(item) == 4]
    assert frames == whole
    last = said[-1]
    assert (type(error) if error else None) == (last[0] if type(last) is tuple else None)


@given(st.binary(max_size=40), st.booleans())
@settings(max_examples=400)
def test_both_implementations_say_the_same_of_any_bytes(compiled_codec, data, masked):
    for limits in [(None, None, False), (10, None, False), (None, None, True)]:
        assert trace(compiled_codec, masked, [data], limits, True, False) == trace(
            _codec, masked, [data], limits, True, False
        )
