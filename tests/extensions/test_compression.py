"""permessage-deflate from end to end: asyncio connections, and a peer that is zlib and no more.

What happens was recorded from websockets 17.4, but where a comment says why it is not so here.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib
import importlib.util
import itertools
import logging
import random
import zlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from websockets.asyncio.client import connect, unix_connect
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import broadcast, serve, unix_serve
from websockets.exceptions import ConnectionClosedError, PayloadTooBig, ProtocolError
from websockets.extensions.deflate import DEFAULT_THRESHOLD, set_zlib_module
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    PerMessageDeflate,
    ServerPerMessageDeflateFactory,
)

from ..helpers import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    PONG,
    TEXT,
    RawPeer,
    WireFrame,
    connecting,
    drain_messages,
    echo,
    idle,
    pair,
    raw_client,
    raw_server,
    server_connection,
    serving,
    until,
    within,
)

HEADER = "Sec-WebSocket-Extensions"
NAME = "permessage-deflate"

RSV1 = 4

# RFC 7692 section 7.2.1: what a sender leaves out at the end of a message.
TAIL = b"\x00\x00\xff\xff"

SIDES = ["server", "client"]
both_sides = pytest.mark.parametrize("side", SIDES)


class Zlib:
    """permessage-deflate by zlib alone (RFC 7692 section 7.2)."""

    def __init__(self, bits: int = 15, alone: bool = False) -> None:
        self.bits = bits
        self.alone = alone
        self.decompressor: Any = None
        self.compressor: Any = None

    def deflate(self, data: bytes) -> bytes:
        if self.compressor is None or self.alone:
            # zlib does not deflate with 8; with 9, it does not look back more than 250 bytes.
            self.compressor = zlib.compressobj(wbits=-max(self.bits, 9))
        payload: bytes = self.compressor.compress(data) + self.compressor.flush(zlib.Z_SYNC_FLUSH)
        assert payload.endswith(TAIL)
        return payload[:-4]

    def inflate(self, payload: bytes, step: int = 0) -> bytes:
        if self.decompressor is None or self.alone:
            self.decompressor = zlib.decompressobj(wbits=-self.bits)
        if not step:
            data: bytes = self.decompressor.decompress(payload + TAIL)
            assert not self.decompressor.unused_data
            return data
        # zlib finds bytes in its output, too: only with little room for that, the window counts.
        rest, chunks = payload + TAIL, []
        while rest or chunks[-1]:
            chunks.append(self.decompressor.decompress(rest, step))
            rest = self.decompressor.unconsumed_tail
        return b"".join(chunks)


class ZlibPeer(Zlib):
    """The other end of a connection with permessage-deflate."""

    def __init__(self, peer: RawPeer, bits: int = 15, alone: bool = False) -> None:
        super().__init__(bits, alone)
        self.peer = peer

    async def send(self, message: str | bytes) -> None:
        if isinstance(message, str):
            await self.peer.send_frame(TEXT, self.deflate(message.encode()), rsv=RSV1)
        else:
            await self.peer.send_frame(BINARY, self.deflate(message), rsv=RSV1)

    async def recv(self, step: int = 0) -> str | bytes:
        frame = await self.peer.recv_frame()
        assert (frame.fin, frame.rsv) == (True, RSV1)
        data = self.inflate(frame.payload, step)
        return data.decode() if frame.opcode == TEXT else data


@contextlib.asynccontextmanager
async def connected(
    side: str, params: str = "", **kwargs: Any
) -> AsyncIterator[tuple[Connection, RawPeer]]:
    """A connection of the library on one side, and a raw peer that speaks permessage-deflate.

    Args:
        side: side of the library.
        params: parameters of the extension in the peer's request or response.
    """
    value = f"{NAME}{params}"
    # The peer answers no close frame: every connection ends by this timeout.
    kwargs = {"compression": "deflate", "close_timeout": 0.02, **kwargs}
    if side == "server":
        async with (
            server_connection(**kwargs) as (server, arrived),
            raw_client(server, extra=[(HEADER, value)]) as peer,
        ):
            ws: Connection = await within(arrived)
            assert [extension.name for extension in ws.protocol.extensions] == [NAME]
            yield ws, peer
        return
    async with raw_server() as listener:

        async def accept() -> RawPeer:
            peer = await listener.accept_request()
            assert f"{HEADER}: {NAME}".encode() in listener.request
            await peer.send(listener.response(extra=[(HEADER, value)]))
            return peer

        accepting = asyncio.create_task(accept())
        async with connect(listener.uri, **kwargs) as ws:
            peer = await accepting
            assert [extension.name for extension in ws.protocol.extensions] == [NAME]
            yield ws, peer


def factories(*args: Any, **kwargs: Any) -> dict[str, Any]:
    """Settings of the extension for either side, by its name."""
    return {
        "server": [ServerPerMessageDeflateFactory(*args, **kwargs)],
        "client": [ClientPerMessageDeflateFactory(*args, **kwargs)],
    }


def words(size: int, seed: int = 0) -> bytes:
    """Data that compresses as text does, with matches at every distance."""
    rng = random.Random(seed)
    vocabulary = [rng.randbytes(rng.randrange(3, 12)) for _ in range(300)]
    out = bytearray()
    while len(out) < size:
        out += rng.choice(vocabulary)
    return bytes(out[:size])


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


MESSAGES: dict[str, str | bytes] = {
    "text": "Grüße, 世界 🌍 " * 20,
    "ascii": "the same again and again, " * 20,
    "binary": words(3000),
    "zeros": bytes(5000),
    "incompressible": noise(5000),
    "one byte": b"x",
    "one character": "é",
    "empty text": "",
    "empty binary": b"",
    "64 KiB": words(65536),
    "1 MiB text": "0123456789abcde\n" * 65536,
    "1 MiB binary": words(2**20),
    "1 MiB incompressible": noise(2**20),
}


def to_bytes(message: str | bytes) -> bytes:
    return message.encode() if isinstance(message, str) else message


# Messages


@both_sides
@pytest.mark.parametrize("kind", MESSAGES)
async def test_messages(side: str, kind: str) -> None:
    message = MESSAGES[kind]
    async with connected(side) as (ws, raw):
        peer = ZlibPeer(raw)
        for _ in range(2):
            sending = asyncio.create_task(ws.send(message, compress=True))
            assert await peer.recv() == message
            await within(sending)
            await peer.send(message)
            assert await within(ws.recv()) == message
        # The connection is still in step.
        await ws.send("the last one", compress=True)
        assert await peer.recv() == "the last one"


@both_sides
async def test_all_messages_on_one_connection(side: str) -> None:
    async with connected(side) as (ws, raw):
        peer = ZlibPeer(raw)
        for message in [*MESSAGES.values(), *reversed(MESSAGES.values())]:
            sending = asyncio.create_task(ws.send(message, compress=True))
            assert await peer.recv() == message
            await within(sending)
            await peer.send(message)
            assert await within(ws.recv()) == message


@both_sides
@pytest.mark.parametrize(
    "message", [bytearray(b"abc" * 30), memoryview(b"abc" * 30), memoryview(b"abcx" * 30)[::2]]
)
async def test_bytes_like_messages(side: str, message: Any) -> None:
    async with connected(side) as (ws, raw):
        await ws.send(message)
        assert await ZlibPeer(raw).recv() == bytes(message)


@both_sides
async def test_text_argument(side: str) -> None:
    async with connected(side) as (ws, raw):
        peer = ZlibPeer(raw)
        await ws.send(b"text " * 20, text=True)
        await ws.send("bytes " * 20, text=False)
        await ws.send("bytes", text=False, compress=True)
        assert await peer.recv() == "text " * 20
        assert await peer.recv() == b"bytes " * 20
        assert await peer.recv() == b"bytes"
        await peer.send("Grüße " * 20)
        assert await within(ws.recv(decode=False)) == ("Grüße " * 20).encode()
        await peer.send(b"text " * 20)
        assert await within(ws.recv(decode=True)) == "text " * 20


@both_sides
async def test_uncompressed_messages_of_the_peer(side: str) -> None:
    """RFC 7692 section 6: the bit tells of each message whether it is compressed."""
    async with connected(side) as (ws, raw):
        peer = ZlibPeer(raw)
        for n in range(3):
            await raw.send_frame(TEXT, f"plain {n}".encode())
            assert await within(ws.recv()) == f"plain {n}"
            await peer.send(f"compressed {n}")
            assert await within(ws.recv()) == f"compressed {n}"


async def test_many_at_once() -> None:
    """More than the queue holds, in one read and in both ways."""
    messages = [words(n % 400, n) for n in range(500)]
    async with serving(echo, compression="deflate") as server:
        async with connecting(server, compression="deflate") as client:

            async def send() -> None:
                for message in messages:
                    await client.send(message)

            sending = asyncio.create_task(send())
            for message in messages:
                assert await within(client.recv()) == message
            await sending


# What is compressed


async def frames_of(ws: Connection, raw: RawPeer, message: Any, **kwargs: Any) -> list[WireFrame]:
    """Send a message; return its frames."""
    sending = asyncio.create_task(ws.send(message, **kwargs))
    frames = [await raw.recv_frame()]
    while not frames[-1].fin:
        frames.append(await raw.recv_frame())
    await within(sending)
    return frames


@both_sides
async def test_threshold(side: str) -> None:
    """17.4 has none: it compresses every message."""
    async with connected(side) as (ws, raw):
        for message, rsv in [
            ("", 0),
            ("x" * (DEFAULT_THRESHOLD - 1), 0),
            ("x" * DEFAULT_THRESHOLD, RSV1),
            # Bytes count, not characters.
            ("é" * (DEFAULT_THRESHOLD // 2 - 1), 0),
            ("é" * (DEFAULT_THRESHOLD // 2), RSV1),
            (b"x" * (DEFAULT_THRESHOLD - 1), 0),
            (bytearray(DEFAULT_THRESHOLD - 1), 0),
            (bytearray(DEFAULT_THRESHOLD), RSV1),
        ]:
            (frame,) = await frames_of(ws, raw, message)
            assert (frame.rsv, message) == (rsv, message)


@both_sides
@pytest.mark.parametrize("threshold", [0, 1, 100, 2**40])
async def test_own_threshold(side: str, threshold: int) -> None:
    extensions = factories(threshold=threshold)[side]
    async with connected(side, extensions=extensions) as (ws, raw):
        for size in (0, 1, 99, 100, 101):
            (frame,) = await frames_of(ws, raw, bytes(size))
            assert frame.rsv == (RSV1 if size >= threshold else 0)


@both_sides
@pytest.mark.parametrize("message", ["", "x", b"", b"x", "x" * 1000, bytearray(100), b"x" * 70000])
async def test_compress_argument(side: str, message: Any) -> None:
    """17.4 has none (its users ask for it)."""
    expected = message.encode() if isinstance(message, str) else bytes(message)
    async with connected(side) as (ws, raw):
        peer = ZlibPeer(raw)
        (frame,) = await frames_of(ws, raw, message, compress=False)
        assert (frame.rsv, frame.payload) == (0, expected)
        (frame,) = await frames_of(ws, raw, message, compress=True)
        assert (frame.rsv, peer.inflate(frame.payload)) == (RSV1, expected)
        (frame,) = await frames_of(ws, raw, message, compress=False)
        assert (frame.rsv, frame.payload) == (0, expected)


@both_sides
async def test_compress_argument_without_compression(side: str) -> None:
    client, server = pair(), "server"
    async with client as ends:
        ws = ends[side == server]
        other = ends[side != server]
        await ws.send("x" * 100, compress=True)
        assert await within(other.recv()) == "x" * 100


@both_sides
async def test_an_empty_message_is_one_byte(side: str) -> None:
    """RFC 7692 section 7.2.3.6"""
    async with connected(side) as (ws, raw):
        (frame,) = await frames_of(ws, raw, "", compress=True)
        assert (frame.opcode, frame.rsv, frame.payload) == (TEXT, RSV1, b"\x00")
        (frame,) = await frames_of(ws, raw, b"", compress=True)
        assert (frame.opcode, frame.rsv, frame.payload) == (BINARY, RSV1, b"\x00")


@both_sides
async def test_control_frames_are_not_compressed(side: str) -> None:
    """RFC 7692 section 5"""
    async with connected(side, extensions=factories(threshold=0)[side]) as (ws, raw):
        await ws.ping(b"x" * 100)
        frame = await raw.recv_frame()
        assert (frame.opcode, frame.rsv, frame.payload) == (PING, 0, b"x" * 100)
        await raw.send_frame(PING, b"y" * 100)
        frame = await raw.recv_frame()
        assert (frame.opcode, frame.rsv, frame.payload) == (PONG, 0, b"y" * 100)
        closing = asyncio.create_task(ws.close(1000, "z" * 100))
        frame = await raw.recv_frame()
        assert (frame.opcode, frame.rsv, frame.close) == (CLOSE, 0, (1000, "z" * 100))
        await raw.send_close()
        raw.close()
        await within(closing)


# Context takeover and windows (RFC 7692 sections 7.1.1 and 7.1.2)

ALONE = {"server": "server_no_context_takeover", "client": "client_no_context_takeover"}


@both_sides
async def test_context_takeover_when_sending(side: str) -> None:
    message = words(2000)
    async with connected(side) as (ws, raw):
        peer = ZlibPeer(raw)
        (first,) = await frames_of(ws, raw, message)
        (second,) = await frames_of(ws, raw, message)
        assert peer.inflate(first.payload) == peer.inflate(second.payload) == message
        assert len(second.payload) < len(first.payload) / 10


@both_sides
async def test_no_context_takeover_when_sending(side: str) -> None:
    message = words(2000)
    async with connected(side, f"; {ALONE[side]}") as (ws, raw):
        peer = ZlibPeer(raw, alone=True)
        for text in ("a" * 100, "", "b" * 100):
            (first,) = await frames_of(ws, raw, message)
            (other,) = await frames_of(ws, raw, text, compress=True)
            assert peer.inflate(first.payload) == message
            assert peer.inflate(other.payload) == text.encode()


@both_sides
@pytest.mark.parametrize("alone", [False, True], ids=["takeover", "alone"])
async def test_fragments_leave_nothing_behind(side: str, alone: bool) -> None:
    """Messages of one frame and of several, compressed and not, in turns."""
    params = f"; {ALONE[side]}" if alone else ""
    async with connected(side, params) as (ws, raw):
        peer = ZlibPeer(raw, alone=alone)
        rng = random.Random(1)
        for n in range(60):
            data = words(rng.randrange(600), n % 5)
            cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randrange(4)))
            chunks = [data[i:j] for i, j in zip([0, *cuts], [*cuts, len(data)], strict=True)]
            compress = rng.choice([None, True, False])
            message: Any = chunks if len(chunks) > 1 else data
            frames = await frames_of(ws, raw, message, compress=compress)
            payload = b"".join(frame.payload for frame in frames)
            assert [frame.rsv for frame in frames[1:]] == [0] * (len(frames) - 1)
            if frames[0].rsv:
                payload = peer.inflate(payload)
            assert payload == data


@both_sides
async def test_context_takeover_when_receiving(side: str) -> None:
    async with connected(side) as (ws, raw):
        peer = ZlibPeer(raw)
        for n in range(20):
            message = words(2000, n % 3)
            await peer.send(message)
            assert await within(ws.recv()) == message


@both_sides
async def test_no_context_takeover_when_receiving(side: str) -> None:
    other = "client" if side == "server" else "server"
    async with connected(side, f"; {ALONE[other]}") as (ws, raw):
        peer = ZlibPeer(raw, alone=True)
        for n in range(20):
            message = words(2000, n % 3)
            await peer.send(message)
            assert await within(ws.recv()) == message


@both_sides
async def test_a_peer_that_takes_over_context_it_must_not(side: str) -> None:
    """RFC 7692 section 7.1.1: what was agreed on is relied on, as the memory is gone."""
    other = "client" if side == "server" else "server"
    async with connected(side, f"; {ALONE[other]}") as (ws, raw):
        peer = ZlibPeer(raw)
        message = words(2000)
        await peer.send(message)
        await peer.send(message)
        messages, exc = await drain_messages(ws)
        assert messages == [message]
        assert str(exc.__cause__) == "decompression failed"


@both_sides
@pytest.mark.parametrize("bits", range(8, 16))
async def test_window_when_sending(side: str, bits: int) -> None:
    """No match is further away than the window reaches, within messages and across them."""
    params = f"; {side}_max_window_bits={bits}"
    window = 1 << bits
    async with connected(side, params, compression=None, extensions=factories()[side]) as (ws, raw):
        extension = ws.protocol.extensions[0]
        assert isinstance(extension, PerMessageDeflate)
        assert extension.local_max_window_bits == bits
        peer = ZlibPeer(raw, bits)
        block = noise(window // 2)
        for message in [
            words(3000),
            words(3000),
            # Repeated at distances around the size of the window.
            *(noise(window + n) * 2 for n in (-262, -250, -6, -1, 0, 1, 6, 262) if window + n > 0),
            block,
            noise(window - len(block) + 5),
            block,
            bytes(window * 2),
        ]:
            sending = asyncio.create_task(ws.send(message, compress=True))
            # What zlib puts out at once counts as its window, too.
            assert await peer.recv(step=window >> 8) == message
            await within(sending)


@both_sides
@pytest.mark.parametrize("bits", range(8, 16))
async def test_window_when_receiving(side: str, bits: int) -> None:
    other = "client" if side == "server" else "server"
    params = f"; {other}_max_window_bits={bits}"
    window = 1 << bits
    async with connected(side, params, compression=None, extensions=factories()[side]) as (ws, raw):
        extension = ws.protocol.extensions[0]
        assert isinstance(extension, PerMessageDeflate)
        assert extension.remote_max_window_bits == bits
        peer = ZlibPeer(raw, bits)
        for message in [words(3000), noise(window - 6) * 2, words(3000), noise(window) * 2]:
            await peer.send(message)
            assert await within(ws.recv()) == message


async def test_every_agreement_between_both_sides() -> None:
    """Both sides from here, context takeover and windows in all combinations."""
    messages = [words(600), words(600), "", "é" * 200, words(5000, 1), noise(300), words(600)]
    count = 0
    for alone in itertools.product([False, True], repeat=2):
        for server_bits, client_bits in itertools.product([8, 9, 12, 15], repeat=2):
            server = ServerPerMessageDeflateFactory(*alone, server_bits, client_bits, threshold=0)
            client = ClientPerMessageDeflateFactory(threshold=0)
            async with (
                serving(echo, compression=None, extensions=[server]) as running,
                connecting(running, compression=None, extensions=[client]) as ws,
            ):
                assert repr(ws.protocol.extensions) == (
                    f"[PerMessageDeflate(remote_no_context_takeover={alone[0]}, "
                    f"local_no_context_takeover={alone[1]}, "
                    f"remote_max_window_bits={server_bits}, local_max_window_bits={client_bits})]"
                )
                for message in messages:
                    await ws.send(message)
                for message in messages:
                    assert await within(ws.recv()) == message
                count += 1
    assert count == 64


# Fragmented messages (RFC 7692 section 6)


@both_sides
@pytest.mark.parametrize("compress", [None, True, False])
async def test_sending_fragments(side: str, compress: bool | None) -> None:
    async with connected(side) as (ws, raw):
        peer = ZlibPeer(raw)
        for chunks in (["one ", "", "two ", "three" * 50], ["", ""], ["short", "er"]):
            frames = await frames_of(ws, raw, chunks, compress=compress)
            # It is compressed from the first frame on, whatever its size will be.
            rsv = 0 if compress is False else RSV1
            assert [frame.rsv for frame in frames] == [rsv] + [0] * (len(frames) - 1)
            assert [frame.opcode for frame in frames] == [TEXT] + [CONT] * (len(frames) - 1)
            payload = b"".join(frame.payload for frame in frames)
            assert (peer.inflate(payload) if rsv else payload) == "".join(chunks).encode()


@both_sides
async def test_each_fragment_can_be_read_when_it_is_sent(side: str) -> None:
    """A fragment is flushed, so that the peer need not wait for the next."""
    async with connected(side) as (ws, raw):
        release = asyncio.Event()

        async def chunks() -> AsyncIterator[str]:
            yield "the first one"
            await release.wait()
            yield "the last one"

        sending = asyncio.create_task(ws.send(chunks()))
        frame = await raw.recv_frame()
        decompressor = zlib.decompressobj(wbits=-15)
        assert decompressor.decompress(frame.payload) == b"the first one"
        release.set()
        await within(sending)
        frames = [await raw.recv_frame()]
        while not frames[-1].fin:
            frames.append(await raw.recv_frame())
        payload = b"".join(frame.payload for frame in frames)
        assert decompressor.decompress(payload + TAIL) == b"the last one"


@both_sides
async def test_receiving_fragments_cut_anywhere(side: str) -> None:
    text = "Grüße, 世界 🌍! Grüße, 世界!"
    async with connected(side) as (ws, raw):
        peer = ZlibPeer(raw)
        for position in range(30):
            payload = peer.deflate(text.encode())
            await raw.send_frame(TEXT, payload[:position], fin=False, rsv=RSV1)
            await raw.send_frame(PING, b"between")
            await raw.send_frame(CONT, payload[position:])
            assert await within(ws.recv()) == text
            assert (await raw.recv_frame()).opcode == PONG


@both_sides
@pytest.mark.parametrize("kind", ["text", "binary"])
async def test_receiving_many_fragments(side: str, kind: str) -> None:
    message = MESSAGES[kind]
    async with connected(side) as (ws, raw):
        peer = ZlibPeer(raw)
        for _ in range(2):
            payload = peer.deflate(to_bytes(message))
            opcode = TEXT if kind == "text" else BINARY
            await raw.send_frame(opcode, b"", fin=False, rsv=RSV1)
            for i in range(len(payload)):
                await raw.send_frame(CONT, payload[i : i + 1], fin=False)
            await raw.send_frame(CONT, b"")
            assert await within(ws.recv()) == message


@both_sides
@pytest.mark.parametrize("decode", [None, False])
async def test_streaming(side: str, decode: bool | None) -> None:
    """What a fragment holds is handed out when it arrives."""
    async with connected(side) as (ws, raw):
        compressor = zlib.compressobj(wbits=-15)

        def flushed(data: bytes) -> bytes:
            return compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH)

        await raw.send_frame(TEXT, flushed("Grüße, ".encode()), fin=False, rsv=RSV1)
        stream = ws.recv_streaming(decode)
        first = await within(anext(stream))
        assert first == ("Grüße, " if decode is None else "Grüße, ".encode())
        await raw.send_frame(CONT, flushed("世界".encode()), fin=False)
        second = await within(anext(stream))
        assert second == ("世界" if decode is None else "世界".encode())
        await raw.send_frame(CONT, flushed(b"!")[:-4])
        rest = [chunk async for chunk in stream]
        assert "".join(map(str, rest)) == "!" if decode is None else b"".join(rest) == b"!"


# What the peer must not send


@functools.cache
def make_bomb() -> bytes:
    """A payload of 20 KB that holds 20 MB."""
    payload = deflated(bytes(20_000_000))
    assert len(payload) < 21_000
    return payload


def deflated(data: bytes) -> bytes:
    """Payload of a first message."""
    return Zlib().deflate(data)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("path", ["quiet", "logged"])
class TestBadInput:
    """Codes, reasons and causes; messages before it are received."""

    async def outcome(
        self, side: str, path: str, *frames: tuple[Any, ...], **kwargs: Any
    ) -> tuple[list[Any], tuple[int | None, str], BaseException | None]:
        """Send frames: opcode, payload, whether it is the last one, and reserved bits."""
        if path == "logged":
            # Frames that are logged take another way through the protocol.
            kwargs["logger"] = logger = logging.getLogger("websockets.test")
            logger.setLevel(logging.DEBUG)
            logger.propagate = False
        async with connected(side, **kwargs) as (ws, raw):
            for opcode, payload, fin, rsv in frames:
                await raw.send_frame(opcode, payload, fin=fin, rsv=rsv)
            messages, exc = await drain_messages(ws)
            assert isinstance(exc, ConnectionClosedError)
            frame = await raw.recv_frame()
            return messages, frame.close, exc.__cause__

    async def check(
        self,
        side: str,
        path: str,
        frames: list[tuple[Any, ...]],
        messages: list[Any],
        close: tuple[int, str],
        cause: type[BaseException],
        **kwargs: Any,
    ) -> BaseException:
        found, found_close, found_cause = await self.outcome(side, path, *frames, **kwargs)
        assert found == messages
        assert found_close == close
        assert type(found_cause) is cause
        return found_cause

    async def test_broken_data(self, side: str, path: str) -> None:
        frames = [(TEXT, b"\xff" * 10, True, RSV1)]
        close = 1002, "decompression failed"
        exc = await self.check(side, path, frames, [], close, ProtocolError)
        assert type(exc.__cause__).__name__ in ("error", "IsalError")

    async def test_broken_data_behind_good_messages(self, side: str, path: str) -> None:
        peer = Zlib()
        good = [
            (TEXT, peer.deflate(b"one"), True, RSV1),
            (BINARY, peer.deflate(b"two"), True, RSV1),
            (TEXT, b"3", True, 0),
        ]
        frames = [*good, (TEXT, b"\x07", True, RSV1)]
        close = 1002, "decompression failed"
        messages = ["one", b"two", "3"]
        await self.check(side, path, frames, messages, close, ProtocolError)

    async def test_broken_data_in_a_later_fragment(self, side: str, path: str) -> None:
        good = deflated(b"x" * 50) + TAIL
        frames = [(TEXT, good, False, RSV1), (CONT, b"\xff" * 10, True, 0)]
        close = 1002, "decompression failed"
        await self.check(side, path, frames, [], close, ProtocolError)

    async def test_text_that_is_not_utf8(self, side: str, path: str) -> None:
        frames = [(TEXT, deflated(b"ab\xff"), True, RSV1)]
        close = 1007, "invalid start byte at position 2"
        await self.check(side, path, frames, [], close, UnicodeDecodeError)

    async def test_text_that_is_not_utf8_fails_fast(self, side: str, path: str) -> None:
        payload = deflated(b"ab\xff") + TAIL
        close = 1007, "invalid start byte at position 2"
        # 17.4 waits for the end of the message.
        await self.check(side, path, [(TEXT, payload, False, RSV1)], [], close, UnicodeDecodeError)

    async def test_text_that_ends_in_a_character(self, side: str, path: str) -> None:
        frames = [(TEXT, deflated("é".encode()[:1]), True, RSV1)]
        close = 1007, "unexpected end of data at position 0"
        await self.check(side, path, frames, [], close, UnicodeDecodeError)

    @pytest.mark.parametrize("opcode", [PING, PONG, CLOSE])
    async def test_compressed_control_frame(self, side: str, path: str, opcode: int) -> None:
        """RFC 7692 section 6.1: RSV1 is for data frames."""
        close = 1002, "reserved bits must be 0"
        await self.check(side, path, [(opcode, b"", True, RSV1)], [], close, ProtocolError)

    @pytest.mark.parametrize("first", [RSV1, 0], ids=["compressed", "plain"])
    async def test_bit_on_a_continuation(self, side: str, path: str, first: int) -> None:
        """RFC 7692 section 6.1: only the first frame has the bit.

        17.4 calls it "RSV1 bit set in continuation frame" where the first frame had it.
        """
        frames = [(TEXT, b"", False, first), (CONT, b"\x00", True, RSV1)]
        close = 1002, "reserved bits must be 0"
        await self.check(side, path, frames, [], close, ProtocolError)

    @pytest.mark.parametrize("rsv", [1, 2, 3, 5, 6, 7])
    @pytest.mark.parametrize("opcode", [TEXT, BINARY, PING])
    async def test_other_bits(self, side: str, path: str, rsv: int, opcode: int) -> None:
        """RFC 6455 section 5.2: no extension in use has a meaning for them."""
        close = 1002, "reserved bits must be 0"
        await self.check(side, path, [(opcode, b"", True, rsv)], [], close, ProtocolError)

    # Limits hold while inflating.

    async def test_message_too_big(self, side: str, path: str) -> None:
        frames = [(TEXT, deflated(b"a" * 1001), True, RSV1)]
        close = 1009, "frame exceeds limit of 1000 bytes"
        await self.check(side, path, frames, [], close, PayloadTooBig, max_size=1000)

    async def test_bomb(self, side: str, path: str) -> None:
        frames = [(TEXT, make_bomb(), True, RSV1)]
        close = 1009, "frame exceeds limit of 1048576 bytes"
        await self.check(side, path, frames, [], close, PayloadTooBig)

    async def test_second_fragment_too_big(self, side: str, path: str) -> None:
        peer = Zlib()
        first, second = peer.deflate(b"a" * 600) + TAIL, peer.deflate(b"b" * 401)
        frames = [(TEXT, first, False, RSV1), (CONT, second, True, 0)]
        close = 1009, "frame after reading 600 bytes exceeds limit of 1000 bytes"
        await self.check(side, path, frames, [], close, PayloadTooBig, max_size=1000)

    async def test_bomb_when_no_room_is_left(self, side: str, path: str) -> None:
        """To zlib, a limit of 0 is none."""
        peer = Zlib()
        first, second = peer.deflate(b"a" * 1000) + TAIL, peer.deflate(bytes(20_000))
        assert len(second) < 50
        frames = [(TEXT, first, False, RSV1), (CONT, second, True, 0)]
        close = 1009, "frame after reading 1000 bytes exceeds limit of 1000 bytes"
        await self.check(side, path, frames, [], close, PayloadTooBig, max_size=1000)

    async def test_fragment_too_big(self, side: str, path: str) -> None:
        peer = Zlib()
        first, second = peer.deflate(b"a" * 100) + TAIL, peer.deflate(b"b" * 101)
        frames = [(TEXT, first, False, RSV1), (CONT, second, True, 0)]
        # 17.4 adds the size of the first to the limit that it tells.
        close = 1009, "frame exceeds limit of 100 bytes"
        await self.check(side, path, frames, [], close, PayloadTooBig, max_size=(1000, 100))

    async def test_too_big_on_the_wire(self, side: str, path: str) -> None:
        """A payload that no compressor would make so large is refused before it is read."""
        frames = [(BINARY, b"\x00" * 3000, True, RSV1)]
        close = 1009, "frame with 3000 bytes exceeds limit of 1000 bytes"
        await self.check(side, path, frames, [], close, PayloadTooBig, max_size=1000)


@both_sides
async def test_limits_are_reached(side: str) -> None:
    """As many bytes as allowed, in one frame and in several, and compressed to more than that."""
    async with connected(side, max_size=1000) as (ws, raw):
        peer = ZlibPeer(raw)
        for message in (b"a" * 1000, words(1000), noise(1000), b""):
            payload = peer.deflate(message)
            await raw.send_frame(BINARY, payload, rsv=RSV1)
            assert await within(ws.recv()) == message
            # In 17.4, the last two are too big when the first has 1000 bytes.
            frames = [peer.deflate(message) + TAIL, b"", b"\x00"]
            await raw.send_frame(BINARY, frames[0], fin=False, rsv=RSV1)
            await raw.send_frame(CONT, frames[1], fin=False)
            await raw.send_frame(CONT, frames[2])
            assert await within(ws.recv()) == message


@both_sides
async def test_bit_without_negotiation(side: str) -> None:
    """RFC 6455 section 5.2, also when it was offered, but not accepted."""
    kwargs: dict[str, Any] = {"close_timeout": 0.02}
    if side == "server":
        async with (
            server_connection(compression=None, **kwargs) as (server, arrived),
            raw_client(server, extra=[(HEADER, NAME)]) as raw,
        ):
            ws: Connection = await within(arrived)
            await check_refused(ws, raw)
        return
    async with raw_server() as listener:
        accepting = asyncio.create_task(listener.accept_websocket())
        async with connect(listener.uri, **kwargs) as ws:
            assert f"{HEADER}: {NAME}".encode() in listener.request
            await check_refused(ws, await accepting)


async def check_refused(ws: Connection, raw: RawPeer) -> None:
    assert ws.protocol.extensions == []
    await raw.send_frame(TEXT, ZlibPeer(raw).deflate(b"hello"), rsv=RSV1)
    messages, exc = await drain_messages(ws)
    assert messages == []
    assert type(exc.__cause__) is ProtocolError
    assert str(exc.__cause__) == "reserved bits must be 0"
    assert (await raw.recv_frame()).close == (1002, "reserved bits must be 0")


@both_sides
async def test_final_blocks(side: str) -> None:
    """RFC 7692 section 7.2.3.4: a message may end in a block that ends the DEFLATE stream.

    17.4 inflates nothing more on that connection: messages are lost without an error.
    """
    async with connected(side) as (ws, raw):
        for n in range(5):
            compressor = zlib.compressobj(wbits=-15)
            payload = compressor.compress(f"message {n}".encode()) + compressor.flush()
            # With the byte that the section asks for, and without.
            await raw.send_frame(TEXT, payload + b"\x00" * (n % 2), rsv=RSV1)
            assert await within(ws.recv()) == f"message {n}"


@both_sides
@pytest.mark.parametrize("blocks", ["stored", "fixed", "huffman", "best"])
async def test_kinds_of_blocks(side: str, blocks: str) -> None:
    """RFC 7692 section 7.2.3: whatever DEFLATE has."""
    level, strategy = {
        "stored": (0, zlib.Z_DEFAULT_STRATEGY),
        "fixed": (6, zlib.Z_FIXED),
        "huffman": (6, zlib.Z_HUFFMAN_ONLY),
        "best": (9, zlib.Z_DEFAULT_STRATEGY),
    }[blocks]
    async with connected(side) as (ws, raw):
        peer = ZlibPeer(raw)
        peer.compressor = zlib.compressobj(level, wbits=-15, strategy=strategy)
        for message in (words(3000), "", "é" * 200, noise(3000)):
            await peer.send(message)
            assert await within(ws.recv()) == message


@pytest.fixture
def stock_zlib() -> Iterator[None]:
    """Levels and strategies mean something else to isal."""
    set_zlib_module("zlib")
    yield
    set_zlib_module(None)


@pytest.mark.usefixtures("stock_zlib")
@both_sides
@pytest.mark.parametrize(
    "settings",
    [{"level": 0}, {"level": 9}, {"memLevel": 1}, {"strategy": zlib.Z_HUFFMAN_ONLY}, {"level": 1}],
    ids=str,
)
async def test_settings(side: str, settings: dict[str, Any]) -> None:
    extensions = factories(compress_settings=settings)[side]
    async with connected(side, extensions=extensions) as (ws, raw):
        peer = ZlibPeer(raw)
        for message in (words(3000), "", "é" * 200, noise(3000)):
            await ws.send(message, compress=True)
            assert await peer.recv() == message


@pytest.mark.usefixtures("stock_zlib")
@both_sides
async def test_level(side: str) -> None:
    sizes = []
    for level in (0, 1, 9):
        async with connected(side, extensions=factories(level=level)[side]) as (ws, raw):
            (frame,) = await frames_of(ws, raw, words(5000))
            assert ZlibPeer(raw).inflate(frame.payload) == words(5000)
            sizes.append(len(frame.payload))
    assert sizes[0] > 5000 > sizes[1] > sizes[2]


# zlib modules


@pytest.fixture(params=["zlib", "zlib_ng", "isal"])
def module(request: pytest.FixtureRequest) -> Iterator[str]:
    name: str = request.param
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    set_zlib_module(name)
    yield name
    set_zlib_module(None)


@both_sides
@pytest.mark.parametrize("alone", [False, True], ids=["takeover", "alone"])
async def test_modules(side: str, alone: bool, module: str) -> None:
    params = f"; {ALONE['server']}; {ALONE['client']}" if alone else ""
    async with connected(side, params, max_size=70000) as (ws, raw):
        peer = ZlibPeer(raw, alone=alone)
        for message in (words(3000), "", "é" * 200, noise(3000), words(3000), bytes(70000)):
            await ws.send(message, compress=True)
            assert await peer.recv() == message
            await peer.send(message)
            assert await within(ws.recv()) == message
        await raw.send_frame(BINARY, peer.deflate(bytes(70001)), rsv=RSV1)
        _, exc = await drain_messages(ws)
        assert str(exc.__cause__) == "frame exceeds limit of 70000 bytes"


# Broadcast


@pytest.mark.parametrize("compress", [None, True, False])
async def test_broadcast_to_a_mix(compress: bool | None) -> None:
    """To clients with and without compression, each with a window and a context of its own."""
    kinds = [
        None,
        "",
        "",
        "; server_no_context_takeover",
        "; server_no_context_takeover",
        "; server_max_window_bits=9",
        "; server_max_window_bits=9; server_no_context_takeover",
        None,
    ]
    connections: list[Connection] = []

    async def handler(ws: Any) -> None:
        connections.append(ws)
        await idle(ws)

    async with (
        serving(handler, compression="deflate", close_timeout=0.2) as server,
        contextlib.AsyncExitStack() as stack,
    ):
        peers = []
        for number, kind in enumerate(kinds):
            extra = [] if kind is None else [(HEADER, NAME + kind)]
            raw = await stack.enter_async_context(raw_client(server, extra=extra))
            await until(lambda number=number: len(connections) == number + 1)
            bits = 9 if kind and "=9" in kind else 12
            peers.append(ZlibPeer(raw, bits, bool(kind and "no_context" in kind)))
        rng = random.Random(3)
        for n in range(40):
            message: str | bytes = rng.choice(
                [words(500, n % 4), "é" * 100, "", "short", b"", noise(100), words(70000)]
            )
            # Now and then, some of them are sent something else in between.
            for connection, peer in zip(connections, peers, strict=True):
                if rng.random() < 0.2:
                    own = rng.choice([f"own {n}", words(300, n)])
                    await connection.send(own, compress=True)
                    frame = await peer.peer.recv_frame()
                    payload = peer.inflate(frame.payload) if frame.rsv else frame.payload
                    assert payload == to_bytes(own)
            chosen = [i for i in range(len(kinds)) if rng.random() < 0.9]
            broadcast([connections[i] for i in chosen], message, compress=compress)
            for i in chosen:
                frame = await peers[i].peer.recv_frame()
                assert frame.opcode == (TEXT if isinstance(message, str) else BINARY)
                wanted = (
                    len(to_bytes(message)) >= DEFAULT_THRESHOLD if compress is None else compress
                )
                assert frame.rsv == (RSV1 if wanted and kinds[i] is not None else 0)
                payload = frame.payload
                if frame.rsv:
                    payload = peers[i].inflate(payload)
                assert payload == to_bytes(message)


async def test_broadcast_to_one_that_is_closed_meanwhile() -> None:
    """Nothing is sent behind a close frame (RFC 6455 section 5.5.1)."""
    connections: list[Connection] = []

    async def handler(ws: Any) -> None:
        connections.append(ws)
        await idle(ws)

    def closing() -> Iterator[Connection]:
        yield connections[0]
        connections[0].protocol.fail(1011)

    async with (
        serving(handler, compression="deflate", close_timeout=0.2) as server,
        raw_client(server, extra=[(HEADER, NAME)]) as peer,
    ):
        await until(lambda: len(connections) == 1)
        broadcast(closing(), words(300))
        connections[0]._ws_transmit()
        assert (await peer.recv_frame()).opcode == CLOSE
        assert await peer.read_to_end() == b""


async def test_broadcast_to_an_iterable_that_raises() -> None:
    """Its exception comes out; those before it were sent to, as without compression."""
    connections: list[Connection] = []

    async def handler(ws: Any) -> None:
        connections.append(ws)
        await idle(ws)

    def raising() -> Iterator[Connection]:
        yield connections[0]
        raise LookupError

    async with (
        serving(handler, compression="deflate", close_timeout=0.2) as server,
        raw_client(server, extra=[(HEADER, NAME)]) as raw,
    ):
        await until(lambda: len(connections) == 1)
        with pytest.raises(LookupError):
            broadcast(raising(), words(300))
        frame = await raw.recv_frame()
        assert ZlibPeer(raw, 12).inflate(frame.payload) == words(300)


async def test_broadcast_that_fails_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not sent what the next message to all could refer to."""
    module = importlib.import_module("websockets.asyncio.broadcast")
    encode, failures = module.encode_frame, [MemoryError()]

    def failing(*args: Any) -> bytes:
        if failures:
            raise failures.pop()
        encoded: bytes = encode(*args)
        return encoded

    connections: list[Connection] = []

    async def handler(ws: Any) -> None:
        connections.append(ws)
        await idle(ws)

    async with (
        serving(handler, compression="deflate", close_timeout=0.2) as server,
        raw_client(server, extra=[(HEADER, NAME)]) as first,
        raw_client(server, extra=[(HEADER, NAME)]) as second,
    ):
        await until(lambda: len(connections) == 2)
        if connections[0].remote_address != first.sock.getsockname():
            connections.reverse()
        peers = [ZlibPeer(first, 12), ZlibPeer(second, 12)]
        monkeypatch.setattr(module, "encode_frame", failing)
        broadcast(connections, words(300, 1))
        assert not failures
        broadcast(connections, words(300, 1) + b"again")
        frame = await peers[0].peer.recv_frame()
        assert peers[0].inflate(frame.payload) == words(300, 1) + b"again"
        for message in (words(300, 1), words(300, 1) + b"again"):
            frame = await peers[1].peer.recv_frame()
            assert peers[1].inflate(frame.payload) == message


# Settings of connect() and serve()


@pytest.mark.parametrize(
    ("client", "server", "names"),
    [
        ({}, {}, [NAME]),
        ({"compression": "deflate"}, {"compression": "deflate"}, [NAME]),
        ({"compression": None}, {}, []),
        ({}, {"compression": None}, []),
    ],
    ids=["default", "deflate", "not the client", "not the server"],
)
async def test_compression_argument(
    client: dict[str, Any], server: dict[str, Any], names: list[str]
) -> None:
    async with serve(echo, "127.0.0.1", 0, **server) as running:
        port = next(iter(running.sockets)).getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}/", **client) as ws:
            assert [extension.name for extension in ws.protocol.extensions] == names
            await ws.send("é" * 100)
            assert await within(ws.recv()) == "é" * 100


async def test_unix_sockets(tmp_path: Any) -> None:
    path = str(tmp_path / "socket")
    async with unix_serve(echo, path), unix_connect(path) as ws:
        assert [extension.name for extension in ws.protocol.extensions] == [NAME]
        await ws.send("é" * 100)
        assert await within(ws.recv()) == "é" * 100


async def test_headers_of_the_defaults() -> None:
    async with serving(echo, compression="deflate") as server:
        async with connecting(server, compression="deflate") as ws:
            assert ws.request is not None and ws.response is not None
            assert ws.request.headers[HEADER] == f"{NAME}; client_max_window_bits"
            assert ws.response.headers[HEADER] == (
                f"{NAME}; server_max_window_bits=12; client_max_window_bits=12"
            )


async def test_own_settings_win() -> None:
    """Extensions that are given are kept; permessage-deflate is not added a second time."""
    client = ClientPerMessageDeflateFactory(True, True, 11, 10)
    server = ServerPerMessageDeflateFactory(server_max_window_bits=9)
    async with serving(echo, compression="deflate", extensions=[server]) as running:
        async with connecting(running, compression="deflate", extensions=[client]) as ws:
            assert ws.request is not None and ws.response is not None
            params = f"{NAME}; server_no_context_takeover; client_no_context_takeover"
            assert ws.request.headers[HEADER] == (
                f"{params}; server_max_window_bits=11; client_max_window_bits=10"
            )
            assert ws.response.headers[HEADER] == (
                f"{params}; server_max_window_bits=9; client_max_window_bits=10"
            )


async def test_connections_share_the_default_factory() -> None:
    connections: list[Any] = []

    async def handler(ws: Any) -> None:
        connections.append(ws)
        await idle(ws)

    async with serving(handler, compression="deflate") as server:
        async with (
            connecting(server, compression="deflate") as one,
            connecting(server, compression="deflate") as two,
        ):
            await until(lambda: len(connections) == 2)
            (first,) = one.protocol.available_extensions or ()
            (second,) = two.protocol.available_extensions or ()
            assert first is second
            first, second = (ws.protocol.available_extensions for ws in connections)
            assert first is second
