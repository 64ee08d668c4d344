"""A connection that is closed leaves nothing to the cyclic garbage collector."""

from __future__ import annotations

import asyncio
import logging
import weakref
from typing import Any

import pytest

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection, serve

from ..helpers import (
    TEXT,
    client_frame,
    idle,
    no_garbage_collection,
    raw_server,
    raw_socket,
    request_bytes,
    serving,
    turns,
    until,
)


@pytest.mark.parametrize("level", [logging.WARNING, logging.INFO], ids=["quiet", "logging"])
async def test_closed_connections_are_freed_at_once(level: int, caplog: Any) -> None:
    caplog.set_level(level, "websockets")
    references: list[weakref.ref[Connection]] = []

    async def echo(ws: ServerConnection) -> None:
        references.append(weakref.ref(ws))
        async for message in ws:
            await ws.send(message)

    async with serve(echo, "127.0.0.1", 0, compression=None) as server:
        port = server.sockets[0].getsockname()[1]

        async def talk() -> None:
            async with connect(f"ws://127.0.0.1:{port}", compression=None) as client:
                references.append(weakref.ref(client))
                await client.send("x")
                assert await client.recv() == "x"
                assert client.logger.extra["websocket"].id == client.id  # type: ignore[union-attr, index]

        with no_garbage_collection():
            await asyncio.create_task(talk())
            # The transports have a turn of the event loop to let go of their protocols.
            for _ in range(10):
                await asyncio.sleep(0.01)
            caplog.clear()
            assert [reference() for reference in references] == [None, None]


def remembered(base: Any) -> tuple[Any, list[weakref.ref[Connection]]]:
    """A subclass of a kind of connection, and what refers to those that are made of it."""
    references: list[weakref.ref[Connection]] = []

    class Remembered(base):  # type: ignore[misc]
        __slots__ = ()

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            references.append(weakref.ref(self))

    return Remembered, references


REQUEST = request_bytes(80)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        REQUEST[:40],
        b"\xff\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        REQUEST.replace(b"Version: 13", b"Version: 12"),
        REQUEST.replace(b"Key: ", b"Key: *"),
        REQUEST + b"\xff\xff",
        REQUEST + client_frame(TEXT, b"\xff"),
    ],
)
async def test_strangers_are_freed_at_once(sent: bytes) -> None:
    """They are many: who looks whether the port is open, crawlers, health checks, scanners."""
    kind, references = remembered(ServerConnection)
    async with serving(idle, compression="deflate", create_connection=kind) as server:
        with no_garbage_collection():
            async with raw_socket(server) as peer:
                await peer.send(sent)
                await until(lambda: references)
                await turns()
            await until(lambda: references[0]() is None)


async def test_attempts_that_took_too_long_are_freed_at_once() -> None:
    """A client whose server is overloaded makes many."""
    kind, references = remembered(ClientConnection)

    async def attempt(uri: str) -> None:
        with pytest.raises(TimeoutError):
            await connect(uri, open_timeout=0.01, create_connection=kind)

    async with raw_server() as server:
        with no_garbage_collection():
            await asyncio.create_task(attempt(server.uri))
            await until(lambda: references[0]() is None)
