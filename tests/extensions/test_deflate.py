"""Compressing and inflating, apart from frames and connections (RFC 7692 section 7.2)."""

from __future__ import annotations

import importlib.util
import sys
import types
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from websockets.exceptions import PayloadTooBig, ProtocolError
from websockets.extensions import deflate
from websockets.extensions.deflate import (
    PerMessageDeflate,
    compress_for_all,
    set_zlib_module,
)

TAIL = b"\x00\x00\xff\xff"

INSTALLED = [
    name
    for name, (module, _) in deflate.ZLIB_MODULES.items()
    if importlib.util.find_spec(module.partition(".")[0]) is not None
]


@pytest.fixture(autouse=True)
def stock_zlib() -> Iterator[None]:
    set_zlib_module("zlib")
    yield
    set_zlib_module(None)


def make(
    *, local_no_context_takeover: bool = False, bits: int = 12, **kwargs: Any
) -> PerMessageDeflate:
    return PerMessageDeflate(False, local_no_context_takeover, bits, bits, **kwargs)


class Peer:
    """What stock zlib makes of what an extension has compressed."""

    def __init__(self, extension: PerMessageDeflate) -> None:
        self.takeover = not extension.local_no_context_takeover
        self.bits = extension.local_max_window_bits
        self.decompressor = zlib.decompressobj(wbits=-self.bits)

    def inflate(self, payload: bytes) -> bytes:
        if not self.takeover:
            self.decompressor = zlib.decompressobj(wbits=-self.bits)
        return self.decompressor.decompress(payload + TAIL)


# What does the work


def test_names_of_modules() -> None:
    for name in INSTALLED:
        set_zlib_module(name)
        assert deflate._get_zlib().__name__ == deflate.ZLIB_MODULES[name][0]


def test_a_module_of_the_application() -> None:
    """It is used with its own default level, as nothing is known about it."""
    levels = []

    def compressobj(level: int, **kwargs: Any) -> Any:
        levels.append(level)
        return zlib.compressobj(level, **kwargs)

    module = types.SimpleNamespace(
        __name__="theirs", compressobj=compressobj, decompressobj=zlib.decompressobj
    )
    set_zlib_module(module)  # type: ignore[arg-type]
    extension = make()
    payload = extension.compress_message(b"spam" * 10)
    assert payload is not None
    assert Peer(extension).inflate(payload) == b"spam" * 10
    assert levels == [-1]


def test_an_unknown_name() -> None:
    with pytest.raises(
        ValueError, match="unknown zlib module: 'lz4'; expected isal, zlib_ng, zlib"
    ):
        set_zlib_module("lz4")


def test_a_module_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "isal.isal_zlib", None)
    with pytest.raises(ImportError):
        set_zlib_module("isal")
    assert deflate._get_zlib() is zlib


@pytest.mark.parametrize("name", INSTALLED)
def test_the_environment_chooses(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBSOCKETS_ZLIB", name)
    monkeypatch.setattr(deflate, "_zlib", None)
    assert deflate._get_zlib().__name__ == deflate.ZLIB_MODULES[name][0]


def test_the_first_that_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEBSOCKETS_ZLIB", raising=False)
    left = list(deflate.ZLIB_MODULES)
    while left:
        expected = next((name for name in left if name in INSTALLED), None)
        if expected is None:
            break
        set_zlib_module(None)
        assert deflate._get_zlib().__name__ == deflate.ZLIB_MODULES[expected][0]
        # Without it, the next one has its turn.
        monkeypatch.setitem(sys.modules, deflate.ZLIB_MODULES[expected][0], None)
        left = left[left.index(expected) + 1 :]
    with pytest.raises(ImportError, match="needs Python's zlib module, zlib-ng or isal"):
        set_zlib_module(None)


@pytest.mark.skipif("isal" not in INSTALLED, reason="isal is not installed")
@pytest.mark.parametrize(("level", "expected"), [(-1, 1), (0, 0), (1, 1), (3, 3), (9, 3)])
def test_levels_of_isal(level: int, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has fewer than zlib, and no default of its own."""
    set_zlib_module("isal")
    levels = []
    make_object = deflate._get_zlib().compressobj

    def compressobj(**kwargs: Any) -> Any:
        levels.append(kwargs["level"])
        return make_object(**kwargs)

    monkeypatch.setattr(deflate._get_zlib(), "compressobj", compressobj)
    assert make(compress_settings={"level": level}).compress_message(b"x" * 100)
    assert levels == [expected]


# Parameters


@pytest.mark.parametrize("bits", [7, 16])
def test_windows_out_of_range(bits: int) -> None:
    with pytest.raises(ValueError, match=f"window bits must be between 8 and 15, not {bits}"):
        PerMessageDeflate(False, False, bits, 15)
    with pytest.raises(ValueError, match=f"window bits must be between 8 and 15, not {bits}"):
        PerMessageDeflate(False, False, 15, bits)


def test_nothing_is_allocated_before_the_first_message() -> None:
    extension = make()
    assert (extension._compressor, extension._decompressor) == (None, None)
    assert extension.compress_message(b"x" * 100) is not None
    assert extension._compressor is not None
    assert extension._decompressor is None


def test_threshold() -> None:
    extension = make(threshold=10)
    assert extension.compress_message(b"x" * 9) is None
    assert extension.compress_message(b"x" * 10) is not None
    assert extension.compress_message(b"x" * 9, True) is not None
    assert extension.compress_message(b"x" * 10, False) is None
    assert extension.compress_message(b"", True) == b"\x00"  # RFC 7692 section 7.2.3.6


# Sending


def test_a_compressor_that_fails_is_not_used_again() -> None:
    """It may hold a part of a message that the peer never gets."""
    extension = make()
    peer = Peer(extension)
    payload = extension.compress_message(b"spam, ham and eggs" * 3)
    assert payload is not None
    assert peer.inflate(payload) == b"spam, ham and eggs" * 3

    class Failing:
        def compress(self, data: bytes) -> bytes:
            raise MemoryError

    extension._compressor = Failing()
    with pytest.raises(MemoryError):
        extension.compress_message(b"ham, eggs and spam" * 3)
    payload = extension.compress_message(b"eggs, spam and ham" * 3)
    assert payload is not None
    assert peer.inflate(payload) == b"eggs, spam and ham" * 3


@pytest.mark.parametrize("name", INSTALLED)
def test_without_context_takeover_compressors_are_shared(name: str) -> None:
    """RFC 7692 section 7.1.1: a message refers to none before it, of whatever connection."""
    set_zlib_module(name)
    one, other = (make(local_no_context_takeover=True) for _ in range(2))
    data = b"spam, ham and eggs; " * 20
    first = one.compress_message(data)
    assert one._compressor is None
    ((compressor,),) = deflate._pool.values()
    second = other.compress_message(data)
    assert deflate._pool == {one._get_kind(): [compressor]}
    for payload in (first, second):
        assert payload is not None
        assert Peer(one).inflate(payload) == data


def test_compressors_of_different_kinds_are_not_shared() -> None:
    make(local_no_context_takeover=True).compress_message(b"x" * 100)
    make(local_no_context_takeover=True, bits=9).compress_message(b"x" * 100)
    make(local_no_context_takeover=True, compress_settings={"level": 9}).compress_message(
        b"x" * 100
    )
    assert [len(pooled) for pooled in deflate._pool.values()] == [1, 1, 1]


def test_the_pool_is_bounded() -> None:
    extensions = [make(local_no_context_takeover=True) for _ in range(deflate.MAX_POOLED + 2)]
    for extension in extensions:
        assert extension._compress(b"x" * 50, False)  # a message that goes on
    for extension in extensions:
        assert extension._compress(b"x" * 50, True)
    assert [len(pooled) for pooled in deflate._pool.values()] == [deflate.MAX_POOLED]


# Sending to many


def test_one_result_for_all() -> None:
    extensions = [make() for _ in range(5)]
    peers = [Peer(extension) for extension in extensions]
    sizes = []
    for number in range(3):
        data = b"%d spam, ham and eggs" % number
        payloads = compress_for_all(extensions, data)
        assert all(payload is payloads[0] for payload in payloads)
        assert [p.inflate(payload) for p, payload in zip(peers, payloads, strict=True)] == (
            [data] * 5
        )
        sizes.append(len(payloads[0]))
    # They share the history, too.
    assert sizes[1] < sizes[0] and sizes[2] < sizes[0]


def test_those_who_negotiated_otherwise() -> None:
    extensions = [make(), make(bits=9), make(local_no_context_takeover=True), make(), make(bits=9)]
    peers = [Peer(extension) for extension in extensions]
    for number in range(3):
        data = b"%d spam, ham and eggs" % number
        payloads = compress_for_all(extensions, data)
        assert payloads[0] is payloads[3]
        assert payloads[1] is payloads[4]
        for peer, payload in zip(peers, payloads, strict=True):
            assert peer.inflate(payload) == data


def test_a_message_without_content_to_all() -> None:
    assert compress_for_all([make(), make(local_no_context_takeover=True)], b"") == [b"\x00"] * 2


def test_one_alone_keeps_its_history() -> None:
    extension = make()
    peer = Peer(extension)
    data = b"spam, ham and eggs" * 3
    first = extension.compress_message(data)
    assert first is not None and peer.inflate(first) == data
    (second,) = compress_for_all([extension], data)
    assert peer.inflate(second) == data
    assert len(second) < len(first)


def test_one_that_was_sent_something_else_leaves_the_others_their_history() -> None:
    extensions = [make() for _ in range(4)]
    peers = [Peer(extension) for extension in extensions]
    data = b"spam, ham and eggs" * 3
    first = compress_for_all(extensions, data)
    for peer, payload in zip(peers, first, strict=True):
        peer.inflate(payload)
    private = extensions[0].compress_message(data)
    assert private is not None and peers[0].inflate(private) == data
    payloads = compress_for_all(extensions, data)
    assert payloads[1] is payloads[2] is payloads[3]
    assert payloads[0] is not payloads[1]
    assert len(payloads[1]) < len(first[1])
    for peer, payload in zip(peers, payloads, strict=True):
        assert peer.inflate(payload) == data


def test_too_many_groups_start_anew_together() -> None:
    extensions = [make() for _ in range(2 * deflate.MAX_SHARED + 2)]
    peers = [Peer(extension) for extension in extensions]
    data = b"spam, ham and eggs" * 3
    for start in range(0, len(extensions), 2):
        pair = slice(start, start + 2)
        for peer, payload in zip(
            peers[pair], compress_for_all(extensions[pair], data), strict=True
        ):
            assert peer.inflate(payload) == data
    payloads = compress_for_all(extensions, data)
    assert all(payload is payloads[0] for payload in payloads)
    for peer, payload in zip(peers, payloads, strict=True):
        assert peer.inflate(payload) == data


@given(st.data())
def test_any_order_of_messages(data: st.DataObject) -> None:
    """To some, to all, to one, and twice to the same: each peer inflates what it was sent."""
    modes = data.draw(st.lists(st.sampled_from([(False, 12), (False, 9), (True, 12)]), min_size=5))
    extensions = [make(local_no_context_takeover=alone, bits=bits) for alone, bits in modes]
    peers = [Peer(extension) for extension in extensions]
    messages = st.lists(st.sampled_from([b"spam ", b"ham ", b"eggs"]), max_size=30).map(b"".join)
    members = st.lists(st.integers(0, len(extensions) - 1), max_size=12)
    for _ in range(data.draw(st.integers(1, 12))):
        chosen, message = data.draw(members), data.draw(messages)
        payloads = compress_for_all([extensions[index] for index in chosen], message)
        for index, payload in zip(chosen, payloads, strict=True):
            assert peers[index].inflate(payload) == message
        one, message = data.draw(st.integers(0, len(extensions) - 1)), data.draw(messages)
        private = extensions[one].compress_message(message, True)
        assert private is not None
        assert peers[one].inflate(private) == message


def test_a_shared_compressor_that_fails_is_left() -> None:
    extensions = [make() for _ in range(2)]
    peers = [Peer(extension) for extension in extensions]
    data = b"spam, ham and eggs" * 3
    for peer, payload in zip(peers, compress_for_all(extensions, data), strict=True):
        peer.inflate(payload)

    class Failing:
        def compress(self, data: bytes) -> bytes:
            raise MemoryError

    shared = extensions[0]._shared
    assert shared is not None
    working, shared._compressor = shared._compressor, Failing()
    with pytest.raises(MemoryError):
        compress_for_all(extensions, data)
    shared._compressor = working
    working.compress(b"what nobody was sent")
    for peer, payload in zip(peers, compress_for_all(extensions, data), strict=True):
        assert peer.inflate(payload) == data


def test_one_that_fails_leaves_the_others_in_step() -> None:
    """Nobody is sent what was compressed before it."""
    good = [make(), make(bits=11), make(bits=11)]
    peers = [Peer(extension) for extension in good]
    first, lost = b"spam, ham and eggs" * 3, b"what nobody was sent" * 3
    for peer, payload in zip(peers, compress_for_all(good, first), strict=True):
        assert peer.inflate(payload) == first
    with pytest.raises(ValueError):
        compress_for_all([*good, make(compress_settings={"level": 99})], lost)
    for peer, payload in zip(peers, compress_for_all(good, lost), strict=True):
        assert peer.inflate(payload) == lost


# Receiving


def stream(data: bytes, flush: int) -> bytes:
    compressor = zlib.compressobj(wbits=-12)
    return compressor.compress(data) + compressor.flush(flush)


@pytest.mark.parametrize("name", INSTALLED)
def test_final_blocks(name: str) -> None:
    """RFC 7692 section 7.2.3.4, whose example pads with a zero."""
    set_zlib_module(name)
    extension = make()
    final = stream(b"Hello", zlib.Z_FINISH)
    assert final.hex() == "f348cdc9c90700"
    assert extension.inflate(final + b"\x00", True, 100) == b"Hello"
    assert extension.inflate(final, True, 100) == b"Hello"  # it was forgotten
    assert extension.inflate(final + final + stream(b" again", 2)[:-4], True, 16) == (
        b"HelloHello again"
    )
    assert extension.inflate(final, False, 100) == b"Hello"
    assert extension.inflate(final + b"\x00", True, 100) == b"Hello"


@pytest.mark.parametrize("name", INSTALLED)
@pytest.mark.parametrize("limit", [0, 4, 5, 9])
def test_final_blocks_within_limits(name: str, limit: int) -> None:
    set_zlib_module(name)
    final = stream(b"Hello", zlib.Z_FINISH)
    with pytest.raises(PayloadTooBig):
        make().inflate(final + final + b"\x00", True, limit)
    assert make().inflate(final + final + b"\x00", True, 10) == b"HelloHello"


def test_too_many_final_blocks() -> None:
    final = stream(b"", zlib.Z_FINISH)
    extension = make()
    assert extension.inflate(final * (deflate.MAX_STREAMS - 1) + b"\x00", True, None) == b""
    with pytest.raises(ProtocolError, match="too many final blocks in a compressed message"):
        make().inflate(final * (deflate.MAX_STREAMS + 1) + b"\x00", True, None)


@pytest.mark.parametrize("name", INSTALLED)
@pytest.mark.parametrize("limit", [sys.maxsize - 1, sys.maxsize, 2**70])
def test_limits_beyond_any_message(name: str, limit: int) -> None:
    """With 17.4, the last one is an OverflowError."""
    set_zlib_module(name)
    sender, receiver = make(), make()
    payload = sender.compress_message(b"spam, ham and eggs" * 3)
    assert payload is not None
    assert receiver.inflate(payload, True, limit) == b"spam, ham and eggs" * 3


def test_no_memory_to_inflate() -> None:
    """It is not the peer's fault."""

    class Failing:
        def decompress(self, data: bytes, limit: int) -> bytes:
            raise MemoryError

    extension = make()
    extension._decompressor = Failing()
    with pytest.raises(MemoryError):
        extension.inflate(b"\x00", True, None)
