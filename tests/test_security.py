"""What went wrong in WebSocket libraries before: each class of bug has its test, which names it.

Rules are tested one by one elsewhere: those of frames in ``test_codec.py`` and
``asyncio/test_bad_input.py``, those of the handshake in ``test_handshake_rules.py``. Here is what
attackers made of broken ones, often on real sockets, and with the memory that it takes.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gc
import logging
import os
import re
import sys
import time
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, basic_auth, broadcast
from websockets.client import ClientProtocol
from websockets.credentials import BasicAuth
from websockets.datastructures import Headers
from websockets.exceptions import (
    ConnectionClosedError,
    InvalidHandshake,
    InvalidHeader,
    InvalidMessage,
    InvalidProxy,
    InvalidProxyMessage,
    InvalidStatus,
    InvalidURI,
    PayloadTooBig,
    ProtocolError,
    SecurityError,
)
from websockets.extensions.base import Extension
from websockets.extensions.deflate import PerMessageDeflate, set_zlib_module
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, RequestParser, Response, ResponseParser
from websockets.protocol import Protocol, Side, State
from websockets.proxy import parse_proxy
from websockets.redirect import redirect_target
from websockets.server import ServerProtocol
from websockets.typing import ExtensionName
from websockets.uri import parse_uri

from .helpers import (
    BINARY,
    CLOSE,
    CONT,
    PATIENCE,
    PING,
    PONG,
    TEXT,
    RawListener,
    RawPeer,
    RawResponse,
    client_frame,
    client_of_raw_server,
    close_payload,
    echo,
    frame,
    idle,
    noise,
    port_of,
    raw_client,
    raw_server,
    raw_socket,
    request_bytes,
    rss,
    server_connection,
    server_of_raw_client,
    serving,
    stalled,
    turns,
    until,
    within,
)

KIB, MIB = 2**10, 2**20

needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")

on_both_sides = pytest.mark.parametrize("side", Side, ids=lambda side: side.name.lower())

either_side = pytest.mark.parametrize(
    "connected", [server_of_raw_client, client_of_raw_server], ids=["server", "client"]
)


class Traced:
    """Memory that Python allocated since it was made, at most."""

    def __init__(self) -> None:
        gc.collect()
        tracemalloc.start()
        self.start = tracemalloc.get_traced_memory()[0]

    @property
    def peak(self) -> int:
        return tracemalloc.get_traced_memory()[1] - self.start


@pytest.fixture
def traced() -> Iterator[Callable[[], Traced]]:
    """Start to trace memory when it is called."""
    yield Traced
    tracemalloc.stop()


class Growth:
    """How much resident memory was added since then at most, if only for a moment (Linux)."""

    def __init__(self) -> None:
        gc.collect()
        # proc(5): this sets the peak to what there is now.
        with open("/proc/self/clear_refs", "w") as clear_refs:
            clear_refs.write("5")
        self.start = rss()

    @property
    def most(self) -> int:
        with open("/proc/self/status") as status:
            (peak,) = re.findall(r"VmHWM:\s*(\d+) kB", status.read())
        return max(int(peak) * 1024 - self.start, 0)


@contextlib.asynccontextmanager
async def flooding(
    peer: RawPeer, batch: bytes, total: int, look: Callable[[], Any] = lambda: None
) -> AsyncIterator[Callable[[], int]]:
    """Send a batch again and again, as long as that goes; yields how many bytes have left."""
    sent = 0

    async def flood() -> None:
        nonlocal sent
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while sent < total:
                await peer.loop.sock_sendall(peer.sock, batch)
                sent += len(batch)
                look()

    task = asyncio.create_task(flood())
    # Until all has gone, or no more goes.
    await stalled(task, lambda: sent)
    try:
        yield lambda: sent
    finally:
        task.cancel()
        await asyncio.wait([task])


def opened(side: Side, **kwargs: Any) -> Protocol:
    return Protocol(side, **kwargs)


def from_peer(side: Side, opcode: int, payload: bytes = b"", **kwargs: Any) -> bytes:
    """A frame as the peer of that side sends it."""
    build = client_frame if side is Side.SERVER else frame
    return build(opcode, payload, **kwargs)


def close_of(protocol: Protocol) -> tuple[int, str]:
    assert protocol.close_sent is not None, protocol.state
    return protocol.close_sent.code, protocol.close_sent.reason


def deflate(data: bytes) -> bytes:
    """Compress the payload of a message (RFC 7692 section 7.2.1)."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


def bomb(size: int) -> bytes:
    """Zeros, compressed to a thousandth."""
    if size not in BOMBS:
        BOMBS[size] = deflate(bytes(size))
    return BOMBS[size]


BOMBS: dict[int, bytes] = {}


def random_text(size: int) -> bytes:
    """Text that compresses to about half of its size."""
    return os.urandom(size // 2).hex().encode()


# RFC 7692 section 7.2.3.3: a block without content. Section 7.2.3.4: one that ends the stream.
EMPTY_BLOCK = b"\0\0\0\xff\xff"
FINAL_BLOCK = b"\3\0"

DEFLATE = [("Sec-WebSocket-Extensions", "permessage-deflate")]


class Nothing(Extension):
    """An extension that does nothing, for extensions to be asked frame by frame."""

    name = ExtensionName("nothing")

    def encode(self, frame: Frame, compress: bool | None = None) -> Frame:
        return frame

    def decode(self, frame: Frame, *, max_size: int | None = None) -> Frame:
        return frame


def deflating(side: Side, way: str, **kwargs: Any) -> Protocol:
    """A connection that has negotiated compression."""
    protocol = Protocol(side, **kwargs)
    extension = PerMessageDeflate("no context" in way, False, 15, 15)
    protocol.extensions = [Nothing(), extension] if "extensions" in way else [extension]
    return protocol


@contextlib.asynccontextmanager
async def deflating_server(**kwargs: Any) -> AsyncIterator[tuple[Any, RawPeer]]:
    """What `server_of_raw_client` yields, with compression."""
    kwargs = {"compression": "deflate", "close_timeout": 0.2} | kwargs
    small_buffers = kwargs.pop("small_buffers", False)
    async with (
        server_connection(**kwargs) as (server, arrived),
        raw_client(server, extra=DEFLATE, small_buffers=small_buffers) as peer,
    ):
        ws = await within(arrived)
        assert ws.protocol.extensions
        yield ws, peer


@contextlib.asynccontextmanager
async def deflating_client(**kwargs: Any) -> AsyncIterator[tuple[Any, RawPeer]]:
    """What `client_of_raw_server` yields, with compression."""
    kwargs = {"compression": "deflate", "close_timeout": 0.2} | kwargs
    async with raw_server() as listener:

        async def accept() -> RawPeer:
            peer = await listener.accept_request()
            await peer.send(listener.response(extra=DEFLATE))
            return peer

        accepting = asyncio.create_task(accept())
        async with connect(listener.uri, **kwargs) as ws:
            assert ws.protocol.extensions
            yield ws, await accepting


either_side_deflating = pytest.mark.parametrize(
    "connected", [deflating_server, deflating_client], ids=["server", "client"]
)


@pytest.mark.parametrize(
    ("side", "way"),
    [
        (Side.SERVER, "short way"),
        (Side.CLIENT, "short way, no context takeover"),
        (Side.CLIENT, "by extensions"),
        (Side.SERVER, "by extensions, no context takeover"),
    ],
    ids=str,
)
class TestDecompressionBombs:
    """A little on the wire, a lot in memory: websockets CVE-2018-1000518, Tornado, Autobahn 2026.

    `max_size` holds while inflating. 64 MiB of zeros are 65 KB on the wire.
    """

    BOMB = 64 * MIB

    @pytest.fixture(params=["zlib", "zlib_ng", "isal"], autouse=True)
    def zlib_module(self, request: pytest.FixtureRequest) -> Iterator[str]:
        """Each module that may do it: they differ in what they hold back."""
        if request.param != "zlib":
            pytest.importorskip(request.param)
        set_zlib_module(request.param)
        yield request.param
        set_zlib_module(None)

    @pytest.mark.parametrize("max_size", [0, 1, 1000, MIB], ids=str)
    @pytest.mark.parametrize("opcode", [TEXT, BINARY], ids=["text", "binary"])
    def test_in_one_frame(
        self, side: Side, way: str, opcode: int, max_size: int, traced: Callable[[], Traced]
    ) -> None:
        protocol = deflating(side, way, max_size=max_size)
        # Small enough on the wire to be looked at.
        size = min(self.BOMB, max(max_size, 40) * 900)
        wire = from_peer(side, opcode, bomb(size), rsv=4)
        memory = traced()
        protocol.receive_data(wire)
        assert close_of(protocol)[0] == 1009
        assert type(protocol.parser_exc) is PayloadTooBig
        assert protocol.events_received() == []
        assert memory.peak < 2 * max_size + 2 * len(wire) + 300 * KIB

    def test_a_compressed_frame_is_refused_before_it_comes(self, side: Side, way: str) -> None:
        """What is larger than its content could need is refused on its header."""
        protocol = deflating(side, way, max_size=1000)
        protocol.receive_data(from_peer(side, BINARY, length=1000 + 1000 // 8 + 65, rsv=4))
        assert close_of(protocol)[0] == 1009

    def test_in_small_fragments(self, side: Side, way: str, traced: Callable[[], Traced]) -> None:
        """None of them is too large; together they are."""
        protocol = deflating(side, way, max_size=MIB)
        payload = bomb(self.BOMB)
        pieces = [payload[i : i + 100] for i in range(0, len(payload), 100)]
        memory = traced()
        received = 0
        for i, piece in enumerate(pieces):
            opcode, rsv = (CONT, 0) if i else (BINARY, 4)
            protocol.receive_data(from_peer(side, opcode, piece, fin=False, rsv=rsv))
            received += sum(len(event.data) for event in protocol.events_received())  # type: ignore[union-attr]
            if protocol.close_sent is not None:
                break
        assert close_of(protocol)[0] == 1009
        assert MIB - 200_000 < received <= MIB
        assert memory.peak < 3 * MIB

    @pytest.mark.parametrize(
        "limits", [(5000, None), (None, 5000), (5000, 5000), (5000, 0)], ids=str
    )
    def test_without_any_room_left(
        self,
        side: Side,
        way: str,
        limits: tuple[int | None, int | None],
        traced: Callable[[], Traced],
    ) -> None:
        """zlib takes a limit of zero for none: when exactly full, another library inflated all."""
        protocol = deflating(side, way, max_size=limits)
        compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
        first = compressor.compress(random_text(5000)) + compressor.flush(zlib.Z_SYNC_FLUSH)
        rest = compressor.compress(bytes(4 * MIB)) + compressor.flush(zlib.Z_SYNC_FLUSH)
        memory = traced()
        protocol.receive_data(from_peer(side, BINARY, first, fin=False, rsv=4))
        received = protocol.events_received()
        protocol.receive_data(from_peer(side, CONT, rest[:-4]))
        assert close_of(protocol)[0] == 1009
        assert [len(event.data) for event in received] == ([] if limits[1] == 0 else [5000])  # type: ignore[union-attr]
        assert protocol.events_received() == []
        assert memory.peak < 300 * KIB

    @pytest.mark.parametrize("size", [60, 1000, MIB], ids=str)
    def test_what_fits_exactly_is_received(self, side: Side, way: str, size: int) -> None:
        """To the byte, whatever is behind it: an empty fragment, or another message."""
        protocol = deflating(side, way, max_size=size)
        data = random_text(size)
        whole = deflate(data)
        halves = zlib.compressobj(9, zlib.DEFLATED, -15)
        first = halves.compress(data) + halves.flush(zlib.Z_SYNC_FLUSH)
        for wire in (
            from_peer(side, BINARY, whole, rsv=4),
            from_peer(side, BINARY, first, fin=False, rsv=4) + from_peer(side, CONT, b"\0"),
            from_peer(side, BINARY, first, fin=False, rsv=4) + from_peer(side, CONT, b""),
        ):
            # The last one sends what flushing leaves, too, which is nothing more.
            protocol.receive_data(wire)
            events = protocol.events_received()
            assert b"".join(event.data for event in events) == data  # type: ignore[union-attr]
        assert protocol.close_sent is None

    def test_streams_without_end(self, side: Side, way: str, traced: Callable[[], Traced]) -> None:
        """Behind a final block (RFC 7692 section 7.2.3.4) starts another stream, for two bytes."""
        protocol = deflating(side, way, max_size=MIB)
        memory = traced()
        start = time.process_time()
        protocol.receive_data(from_peer(side, BINARY, FINAL_BLOCK * 100_000, rsv=4))
        assert close_of(protocol) == (1002, "too many final blocks in a compressed message")
        assert time.process_time() - start < 1
        assert memory.peak < 2 * MIB

    @pytest.mark.parametrize("more", [-1, 0, 1, 2])
    def test_a_bomb_behind_a_final_block(
        self, side: Side, way: str, more: int, traced: Callable[[], Traced]
    ) -> None:
        """Whether the stream before it leaves room, or none, or was too large already."""
        protocol = deflating(side, way, max_size=100_000)
        compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
        first = compressor.compress(bytes(100_000 + more)) + compressor.flush(zlib.Z_FINISH)
        wire = from_peer(side, BINARY, first + bomb(self.BOMB // 4), rsv=4)
        memory = traced()
        protocol.receive_data(wire)
        assert close_of(protocol)[0] == 1009
        assert memory.peak < 600 * KIB

    def test_fragments_of_nothing(self, side: Side, way: str, traced: Callable[[], Traced]) -> None:
        """Frames that inflate to nothing, for ever."""
        protocol = deflating(side, way, max_size=1000)
        protocol.receive_data(from_peer(side, BINARY, EMPTY_BLOCK, fin=False, rsv=4))
        batch = from_peer(side, CONT, EMPTY_BLOCK, fin=False) * 100
        protocol.receive_data(batch)
        protocol.events_received()
        memory = traced()
        for _ in range(50):
            protocol.receive_data(batch)
            assert len(protocol.events_received()) >= 100
        assert memory.peak < 300 * KIB
        protocol.receive_data(from_peer(side, CONT, deflate(b"end")))
        assert protocol.events_received()[-1].data == b"end"  # type: ignore[union-attr]


class TestDecompressionBombsOnConnections:
    """The same, against connections: CVE-2018-1000518 and its like."""

    @needs_proc
    @either_side_deflating
    @pytest.mark.parametrize("how", ["recv", "recv_streaming", "nobody"])
    @pytest.mark.parametrize("fragmented", [False, True], ids=["one frame", "fragments"])
    async def test_bombs(self, connected: Callable[..., Any], how: str, fragmented: bool) -> None:
        async with connected() as (ws, peer):

            async def receive() -> None:
                if how == "recv":
                    await ws.recv()
                elif how == "recv_streaming":
                    async for _ in ws.recv_streaming():
                        pass
                else:
                    await ws.wait_closed()
                    await ws.recv()

            payload = bomb(64 * MIB)
            growth = Growth()
            receiving = asyncio.create_task(receive())
            if fragmented:
                await peer.send_frame(BINARY, payload[:500], fin=False, rsv=4)
                await peer.send_frame(CONT, payload[500:])
            else:
                await peer.send_frame(BINARY, payload, rsv=4)
            code, _ = (await peer.recv_frame()).close
            assert code == 1009
            peer.close()
            with pytest.raises(ConnectionClosedError) as raised:
                await within(receiving)
            assert type(raised.value.__cause__) is PayloadTooBig
            assert growth.most < 16 * MIB

    @needs_proc
    @pytest.mark.parametrize("end", ["the peer resets", "close()", "abort"])
    @pytest.mark.parametrize("fragmented", [False, True], ids=["one frame", "fragments"])
    async def test_the_end_inflates_no_more_than_the_queue_would_hold(
        self, end: str, fragmented: bool
    ) -> None:
        """Behind a full queue wait 250 messages of a mebibyte, in 256 KiB that have been read."""
        payload = bomb(MIB)
        wire = (
            client_frame(BINARY, payload[:900], fin=False, rsv=4)
            + client_frame(CONT, payload[900:])
            if fragmented
            else client_frame(BINARY, payload, rsv=4)
        )
        async with deflating_server() as (ws, peer):
            growth = Growth()
            async with flooding(peer, wire, 400 * len(wire)):
                await until(ws._ws_session.full)
                if end == "close()":
                    await within(ws.close())
                elif end == "abort":
                    ws.transport.abort()
                else:
                    peer.reset()
                    with contextlib.suppress(ConnectionClosedError):
                        while True:
                            await within(ws.send(b"x" * 10_000))
                            await asyncio.sleep(0)
                await within(ws.wait_closed())
            # The queue, as much again, and the messages that are being inflated.
            assert growth.most < 60 * MIB

    async def test_bombs_let_others_go_on(self) -> None:
        """What is inflated takes time: a read of 256 KiB can be a second's work."""
        taken = 0

        async def swallow(ws: ServerConnection) -> None:
            nonlocal taken
            async for _ in ws:
                taken += 1

        wire = client_frame(BINARY, bomb(MIB), rsv=4)
        async with (
            serving(swallow, compression="deflate") as server,
            raw_client(server, extra=DEFLATE) as peer,
        ):
            task = asyncio.create_task(peer.send(wire * 200))
            most = before = 0
            while taken < 200:
                await asyncio.sleep(0)
                most, before = max(most, taken - before), taken
            await within(task)
            # What the queue holds, or twice that; of other messages it would be 256.
            assert most <= 40


class TestCompressionSideChannels:
    """The size of what is compressed with a secret tells about it (CRIME, BREACH).

    That is for applications to weigh, within a connection; between connections there is no way.
    """

    SECRET = random_text(4000)

    @pytest.fixture(params=["zlib", "zlib_ng", "isal"], autouse=True)
    def zlib_module(self, request: pytest.FixtureRequest) -> Iterator[str]:
        if request.param != "zlib":
            pytest.importorskip(request.param)
        set_zlib_module(request.param)
        yield request.param
        set_zlib_module(None)

    @pytest.mark.parametrize("bits", [8, 9, 12, 15])
    @pytest.mark.parametrize("fragmented", [False, True], ids=["one frame", "fragments"])
    def test_shared_compressors_remember_nothing(self, fragmented: bool, bits: int) -> None:
        """Without context takeover, one connection's compressor serves another one next."""

        def compress(data: bytes) -> bytes:
            extension = PerMessageDeflate(True, True, 15, bits)
            frames = [Frame(Opcode.BINARY, data)]
            if fragmented:
                frames = [Frame(Opcode.BINARY, data[:999], False), Frame(Opcode.CONT, data[999:])]
            return b"".join(extension.encode(frame, compress=True).data for frame in frames)

        alone = compress(self.SECRET)
        for _ in range(5):
            assert compress(self.SECRET) == alone
            assert zlib.decompressobj(-15).decompress(alone + b"\0\0\xff\xff") == self.SECRET

    def test_messages_may_be_left_out(self) -> None:
        """`compress=False` keeps a secret out of the window."""
        protocol = deflating(Side.SERVER, "short way")
        guess = b"guess: " + self.SECRET[:1000]
        protocol.send_binary(guess, compress=True)
        alone = len(b"".join(protocol.data_to_send()))
        protocol = deflating(Side.SERVER, "short way")
        protocol.send_binary(self.SECRET, compress=False)
        assert protocol.data_to_send() == [frame(BINARY, self.SECRET)]
        protocol.send_binary(guess, compress=True)
        assert len(b"".join(protocol.data_to_send())) == alone


class TestUnnegotiatedCompression:
    """Frames inflated although RSV1 was never negotiated, or where it has no meaning."""

    PAYLOAD = deflate(b"inflated")

    @on_both_sides
    @pytest.mark.parametrize("opcode", [TEXT, BINARY], ids=["text", "binary"])
    @pytest.mark.parametrize("others", [[], [Nothing()]], ids=["none", "another extension"])
    def test_rsv1_that_nobody_negotiated(
        self, side: Side, opcode: int, others: list[Extension]
    ) -> None:
        protocol = opened(side)
        protocol.extensions = others
        protocol.receive_data(from_peer(side, opcode, self.PAYLOAD, rsv=4))
        assert close_of(protocol) == (1002, "reserved bits must be 0")
        assert protocol.events_received() == []

    @on_both_sides
    @pytest.mark.parametrize("way", ["short way", "by extensions"])
    @pytest.mark.parametrize("opcode", [CONT, TEXT, BINARY, CLOSE, PING, PONG])
    @pytest.mark.parametrize("rsv", range(1, 8))
    def test_reserved_bits_with_compression(
        self, side: Side, way: str, opcode: int, rsv: int
    ) -> None:
        """RFC 7692 section 6: RSV1, on the first frame of a message, and nothing else."""
        if rsv == 4 and opcode in (TEXT, BINARY):
            return
        for before in (
            from_peer(side, BINARY, self.PAYLOAD, fin=False, rsv=4),
            from_peer(side, BINARY, b"plain", fin=False),
        ):
            protocol = deflating(side, way)
            protocol.receive_data(
                (before if opcode == CONT else b"") + from_peer(side, opcode, self.PAYLOAD, rsv=rsv)
            )
            code, reason = close_of(protocol)
            assert code == 1002
            if way == "short way":
                assert reason == "reserved bits must be 0"

    @on_both_sides
    @pytest.mark.parametrize("way", ["short way", "by extensions"])
    def test_messages_without_rsv1_are_not_inflated(self, side: Side, way: str) -> None:
        protocol = deflating(side, way)
        protocol.receive_data(from_peer(side, BINARY, self.PAYLOAD, fin=False))
        protocol.receive_data(from_peer(side, CONT, self.PAYLOAD))
        protocol.receive_data(from_peer(side, BINARY, self.PAYLOAD, rsv=4))
        data = [event.data for event in protocol.events_received()]  # type: ignore[union-attr]
        assert data == [self.PAYLOAD, self.PAYLOAD, b"inflated"]

    async def test_server_that_declines(self) -> None:
        """The client offered; without an answer to that, nothing is negotiated."""
        async with serving(echo, compression=None) as server:
            async with raw_client(server, extra=DEFLATE) as peer:
                await peer.send_frame(BINARY, self.PAYLOAD, rsv=4)
                assert (await peer.recv_frame()).close == (1002, "reserved bits must be 0")


class TestTooManyFragments:
    """Bytes are limited, objects are not: aiohttp CVE-2026-123817 and -54274, ws CVE-2026-48779.

    A fragment of one byte, or of none, must not cost an object of a hundred.
    """

    COUNT = 20_000

    # What one read brings, a few times; an object for each of them would be more.
    LIMIT = 600 * KIB

    @pytest.mark.parametrize("payload", [b"", b"x"], ids=["empty", "one byte"])
    @pytest.mark.parametrize("how", ["recv", "recv_streaming", "nobody"])
    async def test_fragments_cost_no_objects(
        self, how: str, payload: bytes, traced: Callable[[], Traced]
    ) -> None:
        batch = frame(CONT, payload, fin=False, mask=b"\1\2\3\4") * (self.COUNT // 10)
        async with server_of_raw_client() as (ws, peer):
            got = bytearray()

            async def receive() -> None:
                if how == "recv":
                    got.extend(await ws.recv(decode=False))
                elif how == "recv_streaming":
                    async for part in ws.recv_streaming(decode=False):
                        got.extend(part)

            await peer.send_frame(BINARY, fin=False)
            receiving = asyncio.create_task(receive())
            memory = traced()
            async with flooding(peer, batch, len(batch) * 10) as sent:
                assert memory.peak < self.LIMIT
                if how == "nobody":
                    assert ws._ws_session.full()
                    return
                assert sent() == len(batch) * 10
            await peer.send_frame(CONT, b"!")
            # Most of it may be in the kernel yet, and to trace memory takes time.
            await within(receiving, 3 * PATIENCE)
            assert got == payload * self.COUNT + b"!"
            assert memory.peak < self.LIMIT

    async def test_a_stream_that_is_read_slowly(self, traced: Callable[[], Traced]) -> None:
        """Fragments kept for `recv_streaming` are bounded even where the queue is not."""
        async with server_of_raw_client(max_queue=None) as (ws, peer):
            await peer.send_frame(BINARY, b"first", fin=False)
            stream = ws.recv_streaming(decode=False)
            got = [await within(anext(stream))]
            batch = frame(CONT, b"x", fin=False, mask=b"\1\2\3\4") * (self.COUNT // 10)
            memory = traced()
            async with flooding(peer, batch, len(batch) * 10) as sent:
                assert sent() == len(batch) * 10
            await peer.send(client_frame(CONT, b"last") + client_frame(PING))
            assert (await peer.recv_frame()).opcode == PONG
            assert memory.peak < self.LIMIT
            got += [part async for part in stream]
            assert b"".join(got) == b"first" + b"x" * self.COUNT + b"last"
            assert len(got) <= 1025

    async def test_their_bytes_are_limited_all_the_same(self) -> None:
        async with server_of_raw_client(max_size=1000) as (ws, peer):
            receiving = asyncio.create_task(ws.recv())
            await peer.send_frame(BINARY, fin=False)
            await peer.send(frame(CONT, b"x", fin=False, mask=b"\0\0\0\0") * 1001)
            reason = "frame with 1 bytes after reading 1000 bytes exceeds limit of 1000 bytes"
            assert (await peer.recv_frame()).close == (1009, reason)
            peer.close()
            with pytest.raises(ConnectionClosedError):
                await within(receiving)

    @needs_proc
    @pytest.mark.parametrize("payload", [b"", b"x"], ids=["empty", "one byte"])
    async def test_tiny_messages_in_the_queue(self, payload: bytes) -> None:
        """What is not taken stays with the peer: reading stops at sixteen messages, not bytes."""
        async with server_of_raw_client() as (ws, peer):
            growth = Growth()
            batch = client_frame(BINARY, payload) * 10_000
            async with flooding(peer, batch, 20 * MIB) as sent:
                assert sent() < 20 * MIB
                assert len(ws._ws_session.messages) == 16
                assert growth.most < 16 * MIB

    @on_both_sides
    def test_tiny_reads(self, side: Side, traced: Callable[[], Traced]) -> None:
        """Bytes that come one by one cost neither an object nor a copy of all before them each."""
        protocol = opened(side)
        wire = from_peer(side, BINARY, b"x" * 100_000) + from_peer(side, PING)
        memory = traced()
        for i in range(20_000):
            protocol.receive_data(wire[i : i + 1])
        assert memory.peak < 300 * KIB, "as much as is reserved, and no more"
        tracemalloc.stop()
        start = time.process_time()
        for i in range(20_000, len(wire)):
            protocol.receive_data(wire[i : i + 1])
        # To copy what came before would be four gigabytes.
        assert time.process_time() - start < 2
        assert [len(event.data) for event in protocol.events_received()] == [100_000, 0]  # type: ignore[union-attr]


class TestLengthOverflow:
    """A length of 64 bits read as a signed number: aiohttp PYSEC-2026-4395, libre's heap overflow.

    The compiled reader had it and its twin in Python had not, so both are asked the same.
    """

    LENGTHS = sorted(
        {
            base + offset
            for base in (2**31, 2**32, 2**62, 2**63, 2**64)
            for offset in (-(2**20) - 15, -(2**20), -15, -14, -11, -10, -1, 0, 1, 10, 2**20)
            if base + offset < 2**64
        }
    )

    @pytest.mark.parametrize("limit", [None, 0, 2**20, 2**63 - 1, 2**63, 2**64])
    @pytest.mark.parametrize("before", [0, 10], ids=["alone", "after a fragment"])
    @pytest.mark.parametrize("masked", [False, True], ids=["unmasked", "masked"])
    def test_lengths(self, codec: ModuleType, masked: bool, before: int, limit: int | None) -> None:
        if limit == 0:
            before = 0
        key = b"\0\0\0\0" if masked else None
        for length in self.LENGTHS:
            reader = codec.FrameReader(masked, limit)
            if before:
                reader.feed(frame(BINARY, b"x" * before, fin=False, mask=key))
                assert reader.read_frame() is not None
            reader.feed(
                frame(CONT if before else BINARY, b"x" * 100, length=length, form=8, mask=key)
            )
            try:
                read = reader.read_frame()
            except (PayloadTooBig, ProtocolError) as exc:
                outcome: Any = type(exc)
            else:
                # Not one byte too many is taken for this frame, nor does another begin inside it.
                assert read is None
                outcome = str(reader.eof_error())
            if limit is not None and limit < 2**63 and length > limit - before:
                assert outcome is PayloadTooBig
            elif length >= 2**63:
                # RFC 6455 section 5.2: the most significant bit must be 0.
                assert outcome is ProtocolError
            else:
                assert outcome == f"stream ends after 100 bytes, expected {length} bytes"

    @pytest.mark.parametrize("length", [2**31, 2**32 + 1, 2**62, 2**63 - 1])
    def test_an_announced_length_reserves_nothing(
        self, codec: ModuleType, length: int, traced: Callable[[], Traced]
    ) -> None:
        """Without a limit, ten bytes must not allocate four exbibytes."""
        reader = codec.FrameReader(False)
        shared = memoryview(bytearray(MIB))
        memory = traced()
        reader.feed(frame(BINARY, length=length, form=8))
        for _ in range(10):
            assert reader.read_messages(1) == []
            buffer = reader.get_buffer(shared)
            buffer[:1000] = bytes(1000)
            reader.buffer_updated(shared, 1000)
        assert reader.read_frame() is None
        assert str(reader.eof_error()) == f"stream ends after 10000 bytes, expected {length} bytes"
        assert memory.peak < 300 * KIB

    @pytest.mark.parametrize("max_size", [2**20, None], ids=["limited", "unlimited"])
    @pytest.mark.parametrize("length", [2**63, 2**63 + 1, 2**64 - 1])
    @either_side
    async def test_connections(
        self, connected: Callable[..., Any], length: int, max_size: int | None
    ) -> None:
        async with connected(max_size=max_size) as (ws, peer):
            await peer.send_frame(BINARY, length=length)
            expected = (
                (1002, "invalid frame length")
                if max_size is None
                else (1009, f"frame with {length} bytes exceeds limit of 1048576 bytes")
            )
            assert (await peer.recv_frame()).close == expected
            peer.close()
            with pytest.raises(ConnectionClosedError) as raised:
                await within(ws.recv())
            cause = raised.value.__cause__
            assert type(cause) is (ProtocolError if max_size is None else PayloadTooBig)


class TestReservedBitsAndCodes:
    """What is reserved is refused, by those who could do something with it, too."""

    @on_both_sides
    @pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
    @pytest.mark.parametrize("fin", [True, False])
    def test_reserved_opcodes(self, side: Side, opcode: int, fin: bool) -> None:
        """RFC 6455 section 5.2; in the middle of a message as well."""
        for before in (b"", from_peer(side, TEXT, b"x", fin=False)):
            protocol = opened(side)
            protocol.receive_data(before + from_peer(side, opcode, b"x", fin=fin))
            assert close_of(protocol) == (1002, "invalid opcode")

    @on_both_sides
    def test_reserved_close_codes(self, side: Side) -> None:
        """RFC 6455 section 7.4: neither received nor sent."""
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535):
            protocol = opened(side)
            protocol.receive_data(from_peer(side, CLOSE, close_payload(code)))
            assert close_of(protocol) == (1002, "invalid status code")
            protocol = opened(side)
            with pytest.raises(ProtocolError):
                protocol.send_close(code)
            assert protocol.data_to_send() == []


INJECTIONS = {
    "CR LF": "a\r\nX-Injected: 1",
    "LF": "a\nX-Injected: 1",
    "CR": "a\rX-Injected: 1",
    "NUL": "a\0b",
    "two lines": "a\r\n\r\nGET /other HTTP/1.1",
    "beyond a byte": "a\u010d\u010aX-Injected: 1",
}

injections = pytest.mark.parametrize("text", INJECTIONS.values(), ids=INJECTIONS)


class TestHeaderInjection:
    """A value with a line break in it must not become a header, or a message, of its own."""

    @pytest.mark.parametrize(
        "argument",
        ["subprotocols", "origin", "user_agent_header", "additional_headers", "header name"],
    )
    @injections
    async def test_client(self, argument: str, text: str) -> None:
        """Nothing at all is sent."""
        arguments: dict[str, Any] = {
            "subprotocols": {"subprotocols": ["good", text]},
            "origin": {"origin": text},
            "user_agent_header": {"user_agent_header": text},
            "additional_headers": {"additional_headers": {"X-Good": text}},
            "header name": {"additional_headers": {text: "good"}},
        }
        async with raw_server() as listener:
            accepting = asyncio.create_task(listener.accept())
            with pytest.raises((InvalidHandshake, ValueError)):
                await within(connect(listener.uri, **arguments[argument]).__aenter__())
            peer = await within(accepting) if await turned(accepting) else None
            if peer is not None:
                assert await peer.read_to_end() == b""
            accepting.cancel()

    @pytest.mark.parametrize("part", ["path", "query", "userinfo", "host"])
    @injections
    def test_uri(self, part: str, text: str) -> None:
        uri = {
            "path": f"ws://example.com/{text}",
            "query": f"ws://example.com/?{text}",
            "userinfo": f"ws://{text}:b@example.com/",
            "host": f"ws://{text}.example.com/",
        }[part]
        try:
            protocol = ClientProtocol(parse_uri(uri))
            request = protocol.connect()
        except InvalidURI:
            return
        # What is encoded, or left out, is harmless.
        protocol.send_request(request)
        (data,) = protocol.data_to_send()
        lines = data.decode("ascii").split("\r\n")
        names = [name for name, _ in request.headers.raw_items()]
        assert [line.partition(": ")[0] for line in lines[1:]] == [*names, "", ""]
        assert not any("\r" in line or "\n" in line or "\0" in line for line in lines)

    @pytest.mark.parametrize("where", ["subprotocol", "response header", "Server", "reason"])
    @injections
    async def test_server(self, where: str, text: str, caplog: pytest.LogCaptureFixture) -> None:
        """The client gets an error, or nothing; the operator gets to know."""

        def process_request(ws: ServerConnection, request: Request) -> Response | None:
            if where == "response header":
                response = ws.respond(200, "OK\n")
                response.headers["X-Good"] = text
                return response
            if where == "reason":
                return Response(200, text, Headers())
            return None

        arguments: dict[str, Any] = {}
        if where == "subprotocol":
            arguments["select_subprotocol"] = lambda ws, offered: text
        if where == "Server":
            arguments["server_header"] = text
        async with (
            serving(idle, process_request=process_request, **arguments) as server,
            raw_socket(server) as peer,
        ):
            await peer.send(request_bytes(80, extra=[("Sec-WebSocket-Protocol", "a")]))
            answer = await peer.read_to_end()
        assert b"X-Injected" not in answer
        assert b"GET /other" not in answer
        if answer:
            assert RawResponse.from_bytes(answer).status == 500
        assert noise(caplog)

    @injections
    def test_whatever_fills_headers(self, text: str) -> None:
        headers = Headers(Good="1")
        for change in (
            lambda: headers.update({"Bad": text}),
            lambda: headers.update({text: "1"}),
            lambda: headers.setdefault("Bad", text),
            lambda: headers.setdefault(text, "1"),
            lambda: headers.__setitem__("Bad", text),
            lambda: Headers([("Bad", text)]),
            lambda: Headers({text: "1"}),
        ):
            with pytest.raises((InvalidHandshake, ValueError)):
                change()
        assert headers.serialize() == b"Good: 1\r\n\r\n"


async def turned(task: asyncio.Task[Any]) -> bool:
    """Whether a task is done after a few turns of the event loop."""
    await turns()
    return task.done()


class TestSmuggling:
    """Requests inside requests: what one parser takes for a body is a request to another."""

    BODIES = {
        "length": [("Content-Length", "40")],
        "length twice": [("Content-Length", "0"), ("Content-Length", "40")],
        "lengths in a list": [("Content-Length", "0, 40")],
        "signed length": [("Content-Length", "+40")],
        "chunked": [("Transfer-Encoding", "chunked")],
        "chunked, and a length": [("Transfer-Encoding", "chunked"), ("Content-Length", "0")],
        "a coding nobody knows": [("Transfer-Encoding", "xchunked")],
        "identity": [("Transfer-Encoding", "identity")],
    }

    # What comes behind, were the request taken for one without a body.
    BEHIND = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"

    REFUSED: dict[str, tuple[dict[str, Any], int]] = {
        **{name: ({"extra": fields}, 400) for name, fields in BODIES.items()},
        "method": ({"method": "POST"}, 405),
        "HTTP/1.0": ({"version": "HTTP/1.0"}, 505),
        "no upgrade": ({"without": ["Upgrade"]}, 426),
        "h2c": ({"without": ["Upgrade"], "extra": [("Upgrade", "h2c")]}, 426),
        "no connection": ({"without": ["Connection"]}, 426),
        "no key": ({"without": ["Sec-WebSocket-Key"]}, 400),
    }

    @pytest.mark.parametrize(("arguments", "status"), REFUSED.values(), ids=REFUSED)
    async def test_nothing_is_answered_behind_a_refused_upgrade(
        self, arguments: dict[str, Any], status: int
    ) -> None:
        """A proxy that takes any answer for an upgrade would pass on a second request, and did."""
        seen = []

        def process_request(ws: ServerConnection, request: Request) -> None:
            seen.append(request.path)

        async with (
            serving(echo, process_request=process_request) as server,
            raw_socket(server) as peer,
        ):
            await peer.send(request_bytes(80, **arguments) + self.BEHIND)
            head, _, rest = (await peer.read_to_end()).partition(b"\r\n\r\n")
            response = RawResponse.from_bytes(head + b"\r\n\r\n")
            assert response.status == status
            assert "close" in response.headers["connection"].split(", ")
            assert len(rest) == int(response.headers["content-length"]), "one answer, and no more"
        assert "/smuggled" not in seen

    async def test_a_request_behind_an_accepted_upgrade_is_no_request(self) -> None:
        """It is a frame, and a bad one."""
        async with serving(echo) as server, raw_socket(server) as peer:
            await peer.send(request_bytes(80) + self.BEHIND)
            assert RawResponse.from_bytes(await peer.read_until(b"\r\n\r\n")).status == 101
            assert (await peer.recv_frame()).close[0] == 1002
            assert await peer.read_to_end() == b""

    async def test_a_client_takes_no_body_for_frames(self) -> None:
        """Frames in the body of a refusal are the body."""
        async with raw_server() as listener:

            async def refuse() -> None:
                peer = await listener.accept_request()
                body = frame(TEXT, b"smuggled")
                await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                peer.close()

            refusing = asyncio.create_task(refuse())
            with pytest.raises(InvalidStatus) as raised:
                await within(connect(listener.uri).__aenter__())
            await refusing
            assert raised.value.response.body == frame(TEXT, b"smuggled")

    @pytest.mark.parametrize("parser_type", [RequestParser, ResponseParser])
    def test_lines_end_where_others_end_them(self, parser_type: type[Any]) -> None:
        """Header splitting by different parsers (Daphne, Granian 2026).

        Python's `splitlines` ends a line at eight characters that HTTP does not.
        """
        start = b"GET / HTTP/1.1\r\n" if parser_type is RequestParser else b"HTTP/1.1 101 \r\n"
        for byte in range(256):
            parser = parser_type()
            value = b"a" + bytes([byte]) + b"X-Injected: 1"
            parser.feed(start + b"Value: " + value + b"\r\nNext: 2\r\n\r\n")
            if byte < 32 and byte != 9 or byte == 127:
                with pytest.raises(ValueError):
                    parser.parse()
                continue
            headers = parser.parse().headers
            assert list(headers.raw_items()) == [
                ("Value", value.decode("iso-8859-1")),
                ("Next", "2"),
            ]


class TestHandshakeFloods:
    """Before anybody is authenticated, little may be held, done, or waited for."""

    async def test_slow_headers(self, caplog: pytest.LogCaptureFixture) -> None:
        """Slowloris: `open_timeout` is for the whole handshake, however it trickles."""
        caplog.set_level(logging.INFO)
        async with serving(echo, open_timeout=0.2) as server, raw_socket(server) as peer:

            async def trickle() -> None:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    for byte in request_bytes(80) * 100:
                        await peer.send(bytes([byte]))
                        await asyncio.sleep(0.01)

            trickling = asyncio.create_task(trickle())
            start = time.monotonic()
            assert await peer.read_to_end() == b""
            assert time.monotonic() - start < 5
            trickling.cancel()
            await asyncio.wait([trickling])
        assert noise(caplog) == []

    @pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nHost: a\r\n"], ids=["no", "half"])
    async def test_clients_that_stop_in_the_middle(self, said: bytes) -> None:
        async with serving(echo, open_timeout=0.05) as server, raw_socket(server) as peer:
            await peer.send(said)
            assert await peer.read_to_end() == b""
            await until(lambda: not server.connections)

    @pytest.mark.parametrize(
        "line", [b"A: b\r\n", b"A: " + b"b" * 8000 + b"\r\n", b"b", b"\r", b"\n", b"A:\r\n"]
    )
    def test_endless_headers(self, line: bytes, traced: Callable[[], Traced]) -> None:
        """128 lines of 8 KiB, and a few times what one read brings, are all that is held."""
        protocol = ServerProtocol()
        protocol.receive_data(b"GET / HTTP/1.1\r\n")
        batch = line * (256 * KIB // len(line))
        memory = traced()
        for _ in range(400):  # 100 MB
            protocol.receive_data(batch)
        assert protocol.handshake_exc is not None
        assert memory.peak < 6 * MIB

    @pytest.mark.parametrize("name", ["Extensions", "Protocol", "Connection", "Upgrade"])
    @pytest.mark.parametrize("item", [b"a,", b"a;b,", b"a;b;"])
    def test_endless_lists(self, name: str, item: bytes, traced: Callable[[], Traced]) -> None:
        """A megabyte of headers that are lists: an item of two bytes must not cost a hundred."""
        name = name if name in ("Connection", "Upgrade") else f"Sec-WebSocket-{name}"
        value = (item * 3000)[:8000].rstrip(b",;").decode()
        request = request_bytes(80, extra=[(name, value)] * 120)
        protocol = ServerProtocol()
        protocol.receive_data(request)
        (event,) = protocol.events_received()
        memory = traced()
        response = protocol.accept(event)  # type: ignore[arg-type]
        assert response.status_code == 400
        assert memory.peak < 2 * MIB

    @needs_proc
    @pytest.mark.parametrize("method", ["GET", "POST"])
    async def test_a_body_of_100_megabytes(self, method: str) -> None:
        """It is refused, and never kept; who goes on sending is dropped in time."""
        size = 100 * 10**6
        async with (
            serving(echo, close_timeout=0.2) as server,
            raw_socket(server) as peer,
        ):
            length = [("Content-Length", str(size))]
            await peer.send(request_bytes(80, method=method, extra=length))
            growth = Growth()
            async with flooding(peer, b"x" * 256 * KIB, size):
                await until(lambda: not server.all_connections)
            assert growth.most < 16 * MIB

    def test_chunked_bodies_without_end(self, traced: Callable[[], Traced]) -> None:
        """Of the client: what a hostile server answers is held to a mebibyte."""
        for start, batch in {
            b"": b"x" * 64 * KIB,
            b"Transfer-Encoding: chunked\r\n": b"10000\r\n" + b"x" * 64 * KIB + b"\r\n",
            b"Transfer-Encoding:  chunked\r\n": b"1;" + b"e" * 8000 + b"\r\nx\r\n",
        }.items():
            protocol = ClientProtocol(parse_uri("ws://example.com/"))
            protocol.send_request(protocol.connect())
            protocol.receive_data(b"HTTP/1.1 200 OK\r\n" + start + b"\r\n")
            memory = traced()
            for _ in range(400):
                protocol.receive_data(batch)
            assert memory.peak < 3 * MIB
            tracemalloc.stop()
            assert (protocol.handshake_exc is None) == (b"e" * 8000 in batch)
            if protocol.handshake_exc is not None:
                assert type(protocol.handshake_exc) is InvalidMessage

    @pytest.mark.parametrize("proxied", [False, True], ids=["server", "proxy"])
    async def test_interim_responses_without_end(self, proxied: bool) -> None:
        """RFC 9110 section 15.2 has no bound; they took the loop until the deadline."""
        async with raw_server() as listener:

            async def answer() -> None:
                peer = await listener.accept()
                await peer.read_until(b"\r\n\r\n")
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    while True:
                        await peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 100)
                        await asyncio.sleep(0)

            answering = asyncio.create_task(answer())
            proxy = f"http://127.0.0.1:{listener.port}" if proxied else None
            with pytest.raises(InvalidProxyMessage if proxied else InvalidMessage) as raised:
                await within(connect(listener.uri, proxy=proxy, open_timeout=None).__aenter__())
            assert type(raised.value.__cause__) is SecurityError
            answering.cancel()
            await asyncio.wait([answering])

    @needs_proc
    async def test_data_that_does_not_wait_for_the_response(self) -> None:
        """RFC 6455 section 4.1: clients must wait. Meanwhile reading stops."""
        decided = asyncio.Event()

        async def process_request(ws: ServerConnection, request: Request) -> None:
            await decided.wait()

        async with (
            serving(echo, process_request=process_request) as server,
            raw_socket(server) as peer,
        ):
            await peer.send(request_bytes(80))
            await turns()
            growth = Growth()
            batch = client_frame(BINARY, b"x" * 100_000)
            async with flooding(peer, batch, 100 * 10**6) as sent:
                assert sent() < 30 * 10**6
                assert growth.most < 16 * MIB
                decided.set()
                assert (await peer.read_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
                assert (await peer.recv_frame()).payload == b"x" * 100_000

    @pytest.mark.parametrize("size", [1, 64 * KIB])
    def test_data_before_the_response_without_a_runtime(
        self, size: int, traced: Callable[[], Traced]
    ) -> None:
        """Who drives `ServerProtocol` may take any time to accept; it must not take more memory."""
        protocol = ServerProtocol()
        protocol.receive_data(request_bytes(80))
        (request,) = protocol.events_received()
        piece = frame(BINARY, b"x" * 64 * KIB, mask=b"\0\0\0\0")[:size]
        memory = traced()
        start = time.process_time()
        for _ in range(min(200_000, 100 * MIB // size)):
            protocol.receive_data(piece)
        assert time.process_time() - start < 5
        assert memory.peak < MIB
        protocol.send_response(protocol.accept(request))  # type: ignore[arg-type]
        assert close_of(protocol) == (1008, "too much data before the handshake response")
        assert protocol.close_expected()
        assert protocol.events_received() == []


class TestCredentials:
    """Checks of passwords whose time tells about them (CVE-2021-33880), and comparisons that break.

    ``hmac.compare_digest()`` raises an exception for strings that are not ASCII: a client that
    sends one is to get 401 like others, not 500, and nothing is to be logged.
    """

    USERS = [("joe", "secret"), ("\xe9mile", "\u5bc6\U0001f511"), ("long", "x" * 1000)]

    WRONG = [
        ("joe", "s"),
        ("joe", "secreu"),
        ("joe", "secret "),
        ("jof", "secret"),
        ("nobody", "secret"),
        ("\xe9mile", "\u5bc6"),
        ("\xe9mile", "secret"),
        ("joe", "\u5bc6\U0001f511"),
        ("joe", "\x00"),
        ("long", "x" * 999),
        ("long", ""),
        ("", ""),
    ]

    def calls(self, auth: BasicAuth, username: str, password: str) -> list[Any]:
        """Return what is called, in Python and in C, when a pair is checked."""
        seen: list[Any] = []

        def note(frame: Any, event: str, argument: Any) -> None:
            seen.append((event, frame.f_code.co_name, getattr(argument, "__name__", None)))

        old = sys.getprofile()
        sys.setprofile(note)
        try:
            auth.check(username, password)
        finally:
            sys.setprofile(old)
        return seen

    def test_all_pairs_take_the_same_way(self) -> None:
        """A name that nobody has, a password that begins right: nothing is skipped."""
        auth = BasicAuth("realm", self.USERS)
        right = self.calls(auth, *self.USERS[0])
        assert len(right) > 2
        for pair in [*self.USERS, *self.WRONG]:
            assert self.calls(auth, *pair) == right, pair

    def test_no_names_or_passwords_are_compared(self) -> None:
        """There are none: what there is comes from a key that nobody else has."""
        auth, twin = (BasicAuth("realm", self.USERS) for _ in range(2))
        known, other = (vars(each.check.__self__) for each in (auth, twin))  # type: ignore[attr-defined]
        assert sorted(known) == ["_digests", "_key"]
        assert {type(value) for value in known["_digests"]} == {bytes}
        assert {len(value) for value in known["_digests"]} == {32}
        assert len(known["_digests"]) == len(self.USERS)
        assert not known["_digests"] & other["_digests"]

    def test_who_is_let_in(self) -> None:
        auth = BasicAuth("realm", self.USERS)
        assert all(auth.check(*pair) for pair in self.USERS)
        assert not any(auth.check(*pair) for pair in self.WRONG)

    async def test_answers_do_not_tell_who_is_known(self, caplog: pytest.LogCaptureFixture) -> None:
        answers = set()
        guard = basic_auth("realm", self.USERS)
        async with serving(echo, process_request=guard) as server:
            wrong = [f"{username}:{password}".encode() for username, password in self.WRONG]
            for pair in [*wrong, b"joe:\xff\x80", b"\xff:secret", b"\xed\xa0\x80:secret"]:
                header = "Basic " + base64.b64encode(pair).decode()
                async with raw_socket(server) as peer:
                    port = port_of(server)
                    await peer.send(request_bytes(port, extra=[("Authorization", header)]))
                    answer = await peer.read_to_end()
                assert answer.startswith(b"HTTP/1.1 401 ")
                answers.add(re.sub(rb"Date: [^\r]*", b"", answer))
        assert len(answers) == 1
        assert noise(caplog) == []

    def test_no_password_is_another_with_its_name(self) -> None:
        """Joined, these would be the same."""
        auth = BasicAuth("realm", ("joe", "secret"))
        for pair in [("joes", "ecret"), ("jo", "esecret"), ("", "joesecret"), ("joe:", "secret")]:
            assert not auth.check(*pair)


SECRETS = {
    "Authorization": "Bearer secret",
    "Cookie": "session=secret",
    "Proxy-Authorization": "Basic secret",
}


class TestRedirects:
    """Credentials that follow a redirect to another origin; what a redirect can inject."""

    async def follow(
        self, location: str, status: int = 302, cls: type[connect] = connect, **kwargs: Any
    ) -> tuple[bytes, bytes]:
        """The requests that reach two servers, the first of which redirects to the location."""
        async with raw_server() as first, raw_server() as second:
            here, there = f"127.0.0.1:{first.port}", f"127.0.0.1:{second.port}"
            location = location.format(here=here, there=there, port=first.port)

            async def serve(listener: RawListener) -> None:
                while True:
                    peer = await listener.accept()
                    listener.request = request = await peer.read_until(b"\r\n\r\n")
                    requests.append(request)
                    if b"GET /from " in request:
                        await peer.send(
                            f"HTTP/1.1 {status} Go\r\nLocation: {location}\r\n"
                            "Content-Length: 0\r\n\r\n".encode("iso-8859-1")
                        )
                    else:
                        await peer.send(listener.response())

            requests: list[bytes] = []
            servers = [asyncio.create_task(serve(listener)) for listener in (first, second)]
            try:
                uri = f"ws://user:pass@{here}/from"
                async with cls(
                    uri, additional_headers=SECRETS, close_timeout=0.01, **kwargs
                ) as client:
                    assert client.state is State.OPEN
            finally:
                for server in servers:
                    server.cancel()
                await asyncio.wait(servers)
                # Nobody has come who has not spoken.
                self.connections = len(first.peers) + len(second.peers)
                assert self.connections == len(requests)
        assert len(requests) == 2
        return requests[0], requests[1]

    @staticmethod
    def credentials(request: bytes) -> list[str]:
        found = re.findall(rb"(?i)^(authorization|cookie|proxy-authorization): ", request, re.M)
        return sorted(name.decode() for name in found)

    @pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
    async def test_same_origin(self, status: int) -> None:
        everything = ["Authorization", "Authorization", "Cookie", "Proxy-Authorization"]
        for request in await self.follow("/to", status):
            assert self.credentials(request) == everything

    @pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
    async def test_other_origin(self, status: int) -> None:
        first, second = await self.follow("ws://{there}/to", status)
        assert len(self.credentials(first)) == 4
        assert self.credentials(second) == []
        assert b"secret" not in second

    async def test_other_name_of_the_same_server(self) -> None:
        """The origin is what the URI says, not the address it resolves to."""
        _, second = await self.follow("ws://localhost:{port}/to")
        assert self.credentials(second) == []

    async def test_credentials_of_the_redirect(self) -> None:
        _, second = await self.follow("ws://new:one@{there}/to")
        assert self.credentials(second) == ["Authorization"]
        assert b"Authorization: Basic bmV3Om9uZQ==\r\n" in second

    async def test_subclass_cannot_send_them_along(self) -> None:
        """17.4 drops them where it decides, which a subclass may do instead."""

        class Follow(connect):
            def process_redirect(self, exc: Exception) -> Exception | str:
                assert isinstance(exc, InvalidStatus)
                return exc.response.headers["Location"]

        _, second = await self.follow("ws://{there}/to", 401, Follow)
        assert self.credentials(second) == []

    @pytest.mark.parametrize(
        "location",
        [
            "/a b",
            "/to HTTP/1.1",
            "ws://{there}:x/",
            "http://{there}/to",
            "https://{there}/to",
            "file:///etc/passwd",
            "/to#fragment",
            "ws://user@{there}/",
            "ws://{there}\\@evil/",
            # What can be in a URI, but not in the DNS.
            "ws://a..example/",
            "ws://" + "a" * 64 + ".example/",
        ],
    )
    async def test_invalid(self, location: str) -> None:
        with pytest.raises(InvalidURI):
            await self.follow(location)
        assert self.connections == 1, "nobody was connected to"

    async def test_other_names_that_cannot_be(self) -> None:
        """The URI is not to blame for them."""
        with pytest.raises(UnicodeError):
            await connect("ws://example.com/", host="a..example", port=1, proxy=None)

    @pytest.mark.parametrize("location", ["/to\x00", "/to\rX-Injected: 1", "/to\nX-Injected: 1"])
    async def test_control_characters(self, location: str) -> None:
        with pytest.raises(InvalidMessage):
            await self.follow(location)
        assert self.connections == 1

    async def test_terminals_are_not_commanded(self) -> None:
        """Nor by the control characters of ISO-8859-1, in the text of any exception."""
        for refusal in (
            b"302 Go\r\nLocation: http://\x9b31m/",
            b"302 Go\r\nLocation: wss://a:\x9b31m/",
            b"302 Go\r\nLocation: ws://a/\x9b31m",
            b"404 No\r\nContent-Length: \x9b31m",
            b"404 No\r\nTransfer-Encoding: \x9b31m",
            b"404 No\r\nTransfer-Encoding\x9b31m: chunked",
            b"404 \x9b31m\r\nContent-Length: 0",
            b"101 Yes\r\nUpgrade: \x9b31m",
            b"101 Yes\r\nUpgrade: websocket\r\nConnection: \x9b31m",
            b"101 Yes\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: \x9b31m",
        ):
            client = connect("wss://example.com/", proxy=None)
            protocol = ClientProtocol(client.ws_uri)
            protocol.receive_data(b"HTTP/1.1 %b\r\nA: b\r\n\r\n" % refusal)
            protocol.receive_eof()
            assert protocol.handshake_exc is not None
            outcome: Any
            try:
                outcome = client.process_redirect(protocol.handshake_exc)
            except InvalidURI as exc:
                outcome = exc
            assert isinstance(outcome, Exception)
            while outcome is not None:
                assert str(outcome).isprintable()
                outcome = outcome.__cause__

    async def test_encoded_line_ends_stay_encoded(self) -> None:
        _, second = await self.follow("/to%0d%0aX-Injected:1")
        assert second.startswith(b"GET /to%0d%0aX-Injected:1 HTTP/1.1\r\n")
        assert b"\r\nX-Injected" not in second

    async def test_several(self) -> None:
        with pytest.raises(InvalidHeader, match="^invalid Location header: multiple values$"):
            await self.follow("/to\r\nLocation: /from")


class TestPasswordsInTexts:
    """Passwords in what is logged when a URL is not valid: 17.4 has them in the texts."""

    @pytest.mark.parametrize(
        "text",
        [
            "//user:secret@[::1",
            "//user:secret@host:port/",
            "//user:secret@h\u2100st/",
            "//user:secr\u2100et@host/",
            # What must be encoded is not, so that the host seems to end before.
            "//user:secret/@host/",
            "//user:secret?@host/",
            "//user:secret#@host/",
            "//user:sec/ret@host:80/path",
            "//user:sec'ret/@host/",
            "//user:sec\"'ret/@host/",
            "//user:1secret/@host/",
        ],
    )
    def test_texts(self, text: str) -> None:
        def follow() -> None:
            refusal = InvalidStatus(Response(302, "Found", Headers(Location=text)))
            parse_uri(str(redirect_target("ws://example.com/", refusal)))

        calls = [lambda: parse_uri(f"ws:{text}"), lambda: parse_proxy(f"http:{text}"), follow]
        # In HTTP, characters are those of ISO-8859-1.
        for call in calls if text.isascii() else calls[:2]:
            with pytest.raises((InvalidURI, InvalidProxy)) as raised:
                call()
            assert "//user:***@" in str(raised.value)
            exc: BaseException | None = raised.value
            while exc is not None:
                assert "sec" not in str(exc)
                assert "ret" not in str(exc)
                exc = exc.__cause__ or (None if exc.__suppress_context__ else exc.__context__)

    def test_what_has_no_password_is_shown(self) -> None:
        for text in ("ws://host:port/", "ws://host:80/a@b c", "ws://host:80?a@b c", "ws://h:1#@"):
            with pytest.raises(InvalidURI) as raised:
                parse_uri(text)
            assert str(raised.value).startswith(f"{text} isn't a valid URI: ")


class TestFloodsWithoutReading:
    """Answers written without backpressure: a peer that asks and never reads grows the buffer."""

    @needs_proc
    @either_side
    @pytest.mark.parametrize("payload", [b"", b"x" * 125], ids=["empty", "full"])
    async def test_pings(self, connected: Callable[..., Any], payload: bytes) -> None:
        async with connected(small_buffers=True) as (ws, peer):
            build = client_frame if peer.is_client else frame
            batch = b"".join(build(PING, payload) for _ in range(500))
            growth = Growth()
            largest = 0

            def look() -> None:
                nonlocal largest
                largest = max(largest, ws.transport.get_write_buffer_size())

            async with flooding(peer, batch, 6 * MIB, look):
                assert largest < MIB
                assert growth.most < 16 * MIB
                # The connection ends in time all the same.
                await within(ws.close())
                assert ws.state is State.CLOSED

    @needs_proc
    @either_side
    async def test_messages_for_an_echo(self, connected: Callable[..., Any]) -> None:
        """`send` waits, then `recv` is not called, then the peer waits."""
        async with connected(small_buffers=True) as (ws, peer):

            async def repeat() -> None:
                async for message in ws:
                    await ws.send(message)

            repeating = asyncio.create_task(repeat())
            build = client_frame if peer.is_client else frame
            growth = Growth()
            async with flooding(peer, build(BINARY, b"x" * 10_000), 100 * MIB) as sent:
                assert sent() < 10 * MIB
                assert growth.most < 16 * MIB
                assert ws.transport.get_write_buffer_size() < MIB
            repeating.cancel()
            await asyncio.wait([repeating])

    @pytest.mark.parametrize("says", [b"", b"alive"], ids=["silent", "talking"])
    @pytest.mark.parametrize("reading", [True, False], ids=["read", "not read"])
    async def test_who_never_reads_is_given_up(self, reading: bool, says: bytes) -> None:
        """Broadcasts would fill the buffer, and `send` wait, for as long as it says something."""
        async with server_of_raw_client(
            small_buffers=True, ping_interval=0.05, ping_timeout=0.05, max_queue=2
        ) as (ws, peer):

            async def swallow() -> None:
                while True:
                    await ws.recv()

            async def talk() -> None:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    while True:
                        await peer.loop.sock_sendall(peer.sock, client_frame(BINARY, says))
                        await asyncio.sleep(0.01)

            tasks = [asyncio.create_task(swallow())] if reading else []
            tasks += [asyncio.create_task(talk())] if says else []
            sending = asyncio.create_task(ws.send(b"x" * 5 * MIB))
            broadcasts = 0
            while ws.state is State.OPEN:
                broadcast([ws], b"x" * 1000)
                broadcasts += 1
                assert broadcasts < 1000
                await asyncio.sleep(0.01)
            with pytest.raises(ConnectionClosedError) as raised:
                await within(sending)
            assert raised.value.sent is not None
            assert raised.value.sent.reason == "keepalive ping timeout"
            assert isinstance(raised.value.__cause__, TimeoutError)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def test_who_reads_slowly_is_not_given_up(self) -> None:
        """A large message over a thin line takes many ping timeouts, and gets there."""
        async with server_of_raw_client(
            small_buffers=True, ping_interval=0.05, ping_timeout=0.05
        ) as (ws, peer):
            size = 3 * MIB
            sending = asyncio.create_task(ws.send(b"x" * size))
            got = 0
            while got < size:
                got += len(await peer.read_some())
                await peer.send_frame(PONG, b"alive")
                await asyncio.sleep(0.01)
            await within(sending)
            assert ws.state is State.OPEN


class TestMaskingKeys:
    """Keys that can be predicted let attackers write what they like on the wire (section 10.3)."""

    @pytest.fixture
    def fresh(self, codec: ModuleType) -> Iterator[ModuleType]:
        codec._drop_keys()
        yield codec
        codec._drop_keys()

    def test_they_are_the_operating_systems_randomness(
        self, fresh: ModuleType, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        blocks = []

        def urandom(size: int) -> bytes:
            blocks.append(bytes(range(256)) * (size // 256))
            return blocks[-1]

        monkeypatch.setattr(os, "urandom", urandom)
        keys = {fresh.encode_frame(1, b"", True)[2:6] for _ in range(64)}
        assert len(blocks) == 1, "keys are drawn in blocks"
        assert keys == {blocks[0][i : i + 4] for i in range(0, 256, 4)}

    def test_each_is_used_once(self, fresh: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each four bytes that were drawn mask one frame, across blocks, too."""
        drawn = bytearray()
        urandom = os.urandom

        def draw(size: int) -> bytes:
            block = urandom(size)
            drawn.extend(block)
            return block

        monkeypatch.setattr(os, "urandom", draw)
        count = 3 * fresh.KEY_BLOCK_SIZE // 4 if hasattr(fresh, "KEY_BLOCK_SIZE") else 3072
        keys = [fresh.encode_frame(2, b"x", True)[2:6] for _ in range(count)]
        available = [bytes(drawn[i : i + 4]) for i in range(0, len(drawn), 4)]
        assert sorted(keys) == sorted(available[:count] if len(available) > count else available)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    @pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
    def test_a_child_has_keys_of_its_own(self, fresh: ModuleType) -> None:
        fresh.encode_frame(1, b"", True)
        ours, theirs = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.write(theirs, b"".join(fresh.encode_frame(1, b"", True)[2:6] for _ in range(8)))
            os._exit(0)
        child = os.read(ours, 1024)
        os.waitpid(pid, 0)
        os.close(ours)
        os.close(theirs)
        parent = b"".join(fresh.encode_frame(1, b"", True)[2:6] for _ in range(8))
        assert len(child) == 32
        assert child != parent

    async def test_every_frame_of_a_client_has_its_own(self) -> None:
        """Messages, fragments, control frames and broadcasts alike."""
        async with client_of_raw_server() as (ws, peer):
            for _ in range(20):
                await ws.send("text")
                await ws.send(b"x" * 100_000)
                await ws.send(["frag", "ments"])
                await ws.pong()
                broadcast([ws], "to all")
            await ws.ping()
            keys = []
            for _ in range(20 * 7 + 1):
                first, second = await peer.read(2)
                assert second & 0x80
                size = second & 0x7F
                if size >= 126:
                    size = int.from_bytes(await peer.read(2 if size == 126 else 8), "big")
                keys.append(await peer.read(4))
                await peer.read(size)
            # Two among these are the same once in 400,000 runs.
            assert len(set(keys)) == len(keys)
