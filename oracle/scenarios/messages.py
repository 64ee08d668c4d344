"""Messages: types, fragments, iterables, streaming, limits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

from websockets.asyncio.server import ServerConnection

from ..ends import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    TEXT,
    Raw,
    connecting,
    echo,
    ending,
    frame,
    raw_client,
    raw_server,
    serving,
)
from ..scenario import Scenario, scenario


@scenario
async def echo_of_each_type(s: Scenario) -> None:
    """Text and binary messages, empty ones and those at the borders of the length encodings."""
    messages: list[str | bytes] = ["", "é€😀", b"", b"\x00\xff"]
    messages += [b"x" * size for size in (125, 126, 65535, 65536)]
    async with serving(s, echo) as server, connecting(server) as websocket:
        for message in messages:
            await websocket.send(message)
            s.note("received", await websocket.recv())


@scenario
async def client_wire(s: Scenario) -> None:
    """What a client writes for each type of message."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        await raw.close_handshake()

    async with raw_server(s, peer) as where, connecting(where) as websocket:
        await websocket.send("text é")
        await websocket.send(b"bytes")
        await websocket.send(bytearray(b"bytearray"))
        await websocket.send(memoryview(b"memoryview"))
        await websocket.send(b"\xc3\xa9", text=True)
        await websocket.send("é", text=False)
        await websocket.send("")
        await websocket.send(b"x" * 126)
        await websocket.send(b"x" * 70000)
        await websocket.ping(b"payload")
        await websocket.ping("é")
        await websocket.pong()
        await websocket.pong("pong")


@scenario
async def server_wire(s: Scenario) -> None:
    """What a server writes for each type of message."""

    async def handler(websocket: ServerConnection) -> None:
        await websocket.send("text é")
        await websocket.send(b"bytes")
        await websocket.send(bytearray(b"bytearray"))
        await websocket.send(memoryview(b"memoryview"))
        await websocket.send(b"\xc3\xa9", text=True)
        await websocket.send("é", text=False)
        await websocket.send("")
        await websocket.send(b"x" * 126)
        await websocket.send(b"x" * 70000)
        await websocket.ping(b"payload")
        await websocket.pong(b"pong")

    async with serving(s, handler) as server, raw_client(s, server) as raw:
        await raw.open()
        while (await raw.frame())[0] != CLOSE:
            pass
        await raw.close_as_client()


@scenario
async def send_iterables(s: Scenario) -> None:
    """Iterables and asynchronous iterables are sent as fragments."""

    async def several() -> AsyncIterator[str]:
        yield "a"
        yield "b"

    async def one() -> AsyncIterator[bytes]:
        yield b"x"

    async def none() -> AsyncIterator[bytes]:
        for item in list[bytes]():
            yield item

    def generator() -> Iterator[bytes]:
        yield b"1"
        yield b"2"

    async def peer(raw: Raw) -> None:
        await raw.accept()
        await raw.close_handshake()

    async with raw_server(s, peer) as where, connecting(where) as websocket:
        await websocket.send(["a", "b", "c"])
        await websocket.send(["one"])
        await websocket.send([])
        await websocket.send((b"x", bytearray(b"y"), memoryview(b"z")))
        await websocket.send(generator())
        await websocket.send(several())
        await websocket.send(one())
        await websocket.send(none())
        await websocket.send([b"\xc3\xa9", b"x"], text=True)
        await websocket.send(["é", "x"], text=False)


@scenario
async def send_wrong_types(s: Scenario) -> None:
    """What is no message is a TypeError."""

    async with serving(s, echo) as server, connecting(server) as websocket:
        for message in (1, None, 1.5, object, {"a": 1}):
            with s.failing(f"send {message}"):
                await websocket.send(message)  # type: ignore[arg-type]
        await websocket.send("still open")
        s.note("received", await websocket.recv())


@scenario
async def ping_wrong_types(s: Scenario) -> None:
    """What is no payload of a ping or pong is an error, and so is a long one."""

    async with serving(s, echo) as server, connecting(server) as websocket:
        for data in (1, ["a"], b"x" * 126, "y" * 126):
            with s.failing("ping"):
                await websocket.ping(data)  # type: ignore[arg-type]
            with s.failing("pong"):
                await websocket.pong(data)  # type: ignore[arg-type]
        await websocket.send("still open")
        s.note("received", await websocket.recv())


@scenario
async def recv_decode(s: Scenario) -> None:
    """recv(decode=...) converts messages, or fails to."""

    async def handler(websocket: ServerConnection) -> None:
        for message in ("é", "é", b"\xc3\xa9", b"\xc3\xa9", b"\xff"):
            await websocket.send(message)
        await websocket.wait_closed()

    async with serving(s, handler) as server, connecting(server) as websocket:
        s.note("True", await websocket.recv(decode=True))
        s.note("False", await websocket.recv(decode=False))
        s.note("True", await websocket.recv(decode=True))
        s.note("False", await websocket.recv(decode=False))
        with s.failing("not UTF-8"):
            await websocket.recv(decode=True)
        ending(s, websocket)


@scenario
async def recv_fragments(s: Scenario) -> None:
    """Fragments are put together, with control frames between them."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        await raw.send(
            frame(TEXT, "a", fin=False),
            frame(PING, "between"),
            frame(CONT, "b", fin=False),
            frame(CONT, "", fin=False),
            frame(CONT, "c"),
        )
        await raw.send(frame(BINARY, b"\xc3", fin=False), frame(CONT, b"\xa9"))
        await raw.send(frame(TEXT, b"\xc3", fin=False), frame(CONT, b"\xa9"))
        await raw.close_handshake()

    async with raw_server(s, peer) as where, connecting(where) as websocket:
        for _ in range(3):
            s.note("received", await websocket.recv())
        await asyncio.sleep(0.02)
    ending(s, websocket)


@scenario
async def recv_streaming(s: Scenario) -> None:
    """recv_streaming() yields fragments as they arrive."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        for piece in (
            frame(TEXT, "a", fin=False),
            frame(CONT, b"\xc3", fin=False),
            frame(CONT, b"\xa9b", fin=False),
            frame(CONT, "", fin=False),
            frame(CONT, "c"),
            frame(BINARY, b"x", fin=False),
            frame(CONT, b"y"),
            frame(TEXT, "whole"),
            frame(TEXT, ""),
        ):
            await raw.send(piece)
            await asyncio.sleep(0.01)
        await raw.close_handshake()

    async with raw_server(s, peer) as where, connecting(where) as websocket:
        for number in range(4):
            async for fragment in websocket.recv_streaming():
                s.note(f"message {number}", fragment)


@scenario
async def recv_streaming_decode(s: Scenario) -> None:
    """recv_streaming(decode=...) converts fragments."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        for piece in (
            frame(TEXT, "é", fin=False),
            frame(CONT, "b"),
            frame(BINARY, b"\xc3", fin=False),
            frame(CONT, b"\xa9"),
        ):
            await raw.send(piece)
            await asyncio.sleep(0.01)
        await raw.close_handshake()

    async with raw_server(s, peer) as where, connecting(where) as websocket:
        s.note("False", [item async for item in websocket.recv_streaming(decode=False)])
        s.note("True", [item async for item in websocket.recv_streaming(decode=True)])


@scenario
async def message_too_big(s: Scenario) -> None:
    """A message over max_size closes the connection with 1009."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        await raw.send(frame(BINARY, b"x" * 64), frame(BINARY, b"x" * 65))
        await raw.frame()
        raw.eof()
        await raw.end()

    async with raw_server(s, peer) as where:
        websocket = await connecting(where, max_size=64, close_timeout=0.2)
        s.note("received", await websocket.recv())
        with s.failing("recv"):
            await websocket.recv()
        await websocket.wait_closed()
        ending(s, websocket)
