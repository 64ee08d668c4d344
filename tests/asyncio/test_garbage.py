"""A connection that is closed leaves nothing to the cyclic garbage collector."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from typing import Any

import pytest

from websockets.asyncio.client import connect
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection, serve


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

        gc.disable()
        try:
            await asyncio.create_task(talk())
            # The transports have a turn of the event loop to let go of their protocols.
            for _ in range(10):
                await asyncio.sleep(0.01)
            caplog.clear()
            assert [reference() for reference in references] == [None, None]
        finally:
            gc.enable()
