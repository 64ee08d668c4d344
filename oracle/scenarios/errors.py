"""Frames that break the protocol, and limits: what each side says and does."""

from __future__ import annotations

import asyncio
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import ServerConnection

from ..ends import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    PONG,
    TEXT,
    Raw,
    close_payload,
    connecting,
    ending,
    frame,
    masked,
    raw_client,
    raw_server,
    serving,
)
from ..scenario import Scenario, Track, scenario


async def receive_all(track: Track, websocket: ClientConnection | ServerConnection) -> None:
    """Receive until that fails, and write down how it ends."""
    try:
        while True:
            track.note("received", await websocket.recv())
    except Exception as exc:
        track.note("recv", exc)
    await websocket.wait_closed()
    ending(track, websocket)


async def client_gets(s: Scenario, *frames: bytes, **kwargs: Any) -> None:
    """A client receives these bytes, each in a packet of its own, and closes."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        for data in frames:
            await raw.send(data)
            await asyncio.sleep(0.01)
        while (await raw.frame())[0] != CLOSE:
            pass
        raw.eof()
        await raw.end()

    async with raw_server(s, peer) as where:
        websocket = await connecting(where, close_timeout=0.2, **kwargs)
        await receive_all(s, websocket)


async def server_gets(s: Scenario, *frames: bytes, **kwargs: Any) -> None:
    """A server receives these bytes, each in a packet of its own."""

    async def handler(websocket: ServerConnection) -> None:
        await receive_all(s.track("server"), websocket)

    async with serving(s, handler, close_timeout=0.2, **kwargs) as server:
        async with raw_client(s, server) as raw:
            await raw.open()
            for data in frames:
                await raw.send(data)
                await asyncio.sleep(0.01)
            await raw.end()


@scenario
async def masked_frame_from_server(s: Scenario) -> None:
    """A server that masks."""
    await client_gets(s, masked(TEXT, "x"))


@scenario
async def unmasked_frame_from_client(s: Scenario) -> None:
    """A client that does not mask."""
    await server_gets(s, frame(TEXT, "x"))


@scenario
async def rsv1(s: Scenario) -> None:
    """RSV1 without an extension."""
    await server_gets(s, masked(TEXT, "x", rsv=4))


@scenario
async def rsv2(s: Scenario) -> None:
    """RSV2."""
    await client_gets(s, frame(TEXT, "x", rsv=2))


@scenario
async def rsv3_in_ping(s: Scenario) -> None:
    """RSV3 in a control frame."""
    await server_gets(s, masked(PING, "x", rsv=1))


@scenario
async def unknown_data_opcode(s: Scenario) -> None:
    """Opcode 3."""
    await client_gets(s, frame(3, "x"))


@scenario
async def unknown_control_opcode(s: Scenario) -> None:
    """Opcode 11."""
    await server_gets(s, masked(11, "x"))


@scenario
async def fragmented_ping(s: Scenario) -> None:
    """A control frame that is not final."""
    await server_gets(s, masked(PING, "x", fin=False))


@scenario
async def long_ping(s: Scenario) -> None:
    """A control frame of 126 bytes."""
    await client_gets(s, frame(PING, "x" * 126))


@scenario
async def longest_ping(s: Scenario) -> None:
    """A control frame of 125 bytes is fine, and so are empty ones and unsolicited pongs."""

    async def handler(websocket: ServerConnection) -> None:
        async for message in websocket:
            s.track("server").note("received", message)

    async with serving(s, handler) as server, raw_client(s, server) as raw:
        await raw.open()
        for data in (masked(PING, "x" * 125), masked(PONG), masked(PONG, "unsolicited")):
            await raw.send(data)
        await raw.frame()
        await raw.send(masked(PING))
        await raw.frame()
        await raw.send(masked(CLOSE))
        await raw.end()


@scenario
async def continuation_without_start(s: Scenario) -> None:
    """A continuation frame that continues nothing."""
    await client_gets(s, frame(CONT, "x"))


@scenario
async def message_within_message(s: Scenario) -> None:
    """A new message before the last one has ended."""
    await server_gets(s, masked(TEXT, "x", fin=False), masked(TEXT, "y"))


@scenario
async def binary_within_text(s: Scenario) -> None:
    """A binary message before a text message has ended."""
    await client_gets(s, frame(TEXT, "x", fin=False), frame(BINARY, b"y"))


@scenario
async def long_close_frame(s: Scenario) -> None:
    """A close frame of 126 bytes."""
    await client_gets(s, frame(CLOSE, close_payload(1000, "x" * 124)))


@scenario
async def text_that_is_not_utf8(s: Scenario) -> None:
    """A text message that is not UTF-8."""
    await client_gets(s, frame(TEXT, b"\xff\xfe"))


@scenario
async def text_that_ends_early(s: Scenario) -> None:
    """A text message that ends within a character."""
    await server_gets(s, masked(TEXT, b"caf\xc3"))


@scenario
async def text_with_surrogates(s: Scenario) -> None:
    """A text message with an encoded surrogate."""
    await client_gets(s, frame(TEXT, b"ab\xed\xa0\x80"))


@scenario
async def second_fragment_that_is_not_utf8(s: Scenario) -> None:
    """A text message whose second fragment is not UTF-8."""
    await server_gets(s, masked(TEXT, "good", fin=False), masked(CONT, b"\xff"))


@scenario
async def good_message_before_bad_frame(s: Scenario) -> None:
    """A good message, and then a bad frame in another packet."""
    await server_gets(s, masked(TEXT, "good"), masked(TEXT, "bad", rsv=2))


@scenario
async def frames_behind_bad_frame(s: Scenario) -> None:
    """What comes behind a bad frame is not looked at."""
    await server_gets(s, masked(TEXT, "bad", rsv=2) + masked(TEXT, "late") + masked(CLOSE))


@scenario
async def close_frame_behind_bad_frame(s: Scenario) -> None:
    """A bad frame, and the answer to the close frame that it caused."""

    async def handler(websocket: ServerConnection) -> None:
        await receive_all(s.track("server"), websocket)

    async with serving(s, handler) as server, raw_client(s, server) as raw:
        await raw.open()
        await raw.send(masked(TEXT, "bad", rsv=2))
        _, payload = await raw.frame()
        await raw.send(masked(CLOSE, payload))
        await raw.end()


@scenario
async def message_over_limit_to_server(s: Scenario) -> None:
    """A message over max_size."""
    await server_gets(s, masked(BINARY, b"x" * 1001), max_size=1000)


@scenario
async def message_at_limit(s: Scenario) -> None:
    """A message of exactly max_size, whole and in fragments."""
    await client_gets(
        s,
        frame(BINARY, b"x" * 1000),
        frame(BINARY, b"x" * 400, fin=False),
        frame(CONT, b"x" * 600),
        frame(CLOSE),
        max_size=1000,
    )


@scenario
async def fragments_over_limit(s: Scenario) -> None:
    """Fragments that are over max_size together."""
    await server_gets(
        s, masked(BINARY, b"x" * 600, fin=False), masked(CONT, b"x" * 401), max_size=1000
    )


@scenario
async def fragment_over_its_limit(s: Scenario) -> None:
    """A fragment over its own limit."""
    await server_gets(s, masked(BINARY, b"x" * 101, fin=False), max_size=(1000, 100))


@scenario
async def header_over_limit(s: Scenario) -> None:
    """A header that announces too much is enough."""
    await client_gets(s, frame(BINARY, b"x", length=2**40), max_size=1000)


@scenario
async def no_limit(s: Scenario) -> None:
    """max_size=None."""
    await client_gets(s, frame(BINARY, b"x" * 1100000), frame(CLOSE), max_size=None)


@scenario
async def default_limit(s: Scenario) -> None:
    """The limit is 1 MiB."""
    await client_gets(s, frame(BINARY, b"x" * 2**20), frame(BINARY, b"", length=2**20 + 1))


@scenario
async def compressed_frame_without_extension(s: Scenario) -> None:
    """A compressed message, though compression was not negotiated."""
    await client_gets(s, frame(TEXT, b"\xaa\x00", rsv=4))


@scenario
async def not_websocket_after_handshake(s: Scenario) -> None:
    """A server that sends HTML behind its 101."""
    await client_gets(s, b"<html>hello</html>")


@scenario
async def error_while_sending(s: Scenario) -> None:
    """A server that breaks the protocol while the client sends, and stays."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        await raw.frame()
        await raw.send(frame(TEXT, rsv=2))
        await raw.end()

    async with raw_server(s, peer) as where:
        websocket = await connecting(where, close_timeout=0.2)
        await websocket.send("first")
        await asyncio.sleep(0.05)
        with s.failing("send"):
            await websocket.send("second")
        with s.failing("ping"):
            await websocket.ping()
        await websocket.wait_closed()
        ending(s, websocket)


@scenario
async def error_ends_pings(s: Scenario) -> None:
    """A ping waits for its pong when the peer breaks the protocol."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        await raw.frame()
        await raw.send(frame(TEXT, rsv=2))
        await raw.frame()
        raw.eof()
        await raw.end()

    async with raw_server(s, peer) as where:
        websocket = await connecting(where, close_timeout=0.2)
        pong = await websocket.ping(b"x")
        with s.failing("pong"):
            await pong
        await websocket.wait_closed()


@scenario
async def error_in_streaming(s: Scenario) -> None:
    """A message that breaks off within recv_streaming()."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        await raw.send(frame(TEXT, "good", fin=False))
        await asyncio.sleep(0.02)
        await raw.send(frame(TEXT, "bad"))
        await raw.frame()
        raw.eof()
        await raw.end()

    async with raw_server(s, peer) as where:
        websocket = await connecting(where, close_timeout=0.2)
        with s.failing("iteration"):
            async for fragment in websocket.recv_streaming():
                s.note("fragment", fragment)
        await receive_all(s, websocket)


@scenario
async def server_that_stays_after_error(s: Scenario) -> None:
    """A client does not wait for ever for a server that it has refused to close TCP."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        await raw.send(frame(TEXT, rsv=2))
        await raw.frame()
        await raw.silence(0.5)

    async with raw_server(s, peer) as where:
        websocket = await connecting(where, close_timeout=0.1)
        with s.failing("recv"):
            await websocket.recv()
        ending(s, websocket)
