"""
One connection of this library in one process: no socket, no second process, no event loop turns.

Bytes are handed to the protocol as an event loop would, an echo handler answers, and what it sends
ends in a transport that drops it. So the steps of a message can be timed, and instructions counted
(``valgrind --tool=callgrind``), without a kernel in between. budget.py puts the figures together.

    inprocess.py times            nanoseconds of each step, as JSON
    inprocess.py echo COUNT BATCH    echoes COUNT messages, BATCH a read
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from typing import Any

from websockets import codec
from websockets.asyncio.connection import Connection
from websockets.protocol import Protocol, Side

PAYLOAD = b"x" * 64
FRAME = codec.encode_frame(2, PAYLOAD, True)
BATCHES = [1, 64]


class Transport(asyncio.Transport):
    """Never full, never closed, and nobody at the other end."""

    def write(self, data: Any) -> None: ...
    def writelines(self, data: Any) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...
    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False


class Echo:
    """An echo server's connection, waiting for a message."""

    async def start(self) -> None:
        self.connection = Connection(Protocol(Side.SERVER), ping_interval=None)
        self.connection.connection_made(Transport())
        self.task = asyncio.create_task(self.handler())
        await asyncio.sleep(0)

    async def handler(self) -> None:
        async for message in self.connection:
            await self.connection.send(message)

    def receive(self, data: bytes, times: int) -> None:
        # What the event loop does, from the same place: no task is current.
        size = len(data)
        get_buffer: Any = self.connection.get_buffer
        buffer_updated = self.connection.buffer_updated
        for _ in range(times):
            get_buffer(-1)[:size] = data
            buffer_updated(size)

    async def echo(self, count: int, batch: int) -> float:
        """Return the seconds that it took."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[float] = loop.create_future()

        def run() -> None:
            start = time.perf_counter()
            self.receive(FRAME * batch, count // batch)
            done.set_result(time.perf_counter() - start)

        loop.call_soon(run)
        return await done


def best(function: Callable[[], object], messages: int) -> float:
    """Return nanoseconds a message."""
    times = []
    for _ in range(7):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times) / messages * 1e9


async def times() -> dict[str, dict[str, float]]:
    count, found = 64_000, {}
    for batch in BATCHES:
        echo = Echo()
        await echo.start()
        reader, data = codec.FrameReader(True), FRAME * batch

        def parse(reader: Any = reader, data: bytes = data, batch: int = batch) -> None:
            for _ in range(count // batch):
                reader.feed(data)
                assert len(reader.read_messages(batch)) == batch

        def encode() -> None:
            for _ in range(count):
                codec.encode_frame(2, PAYLOAD, False)

        found[str(batch)] = {
            "parse": best(parse, count),
            "encode": best(encode, count),
            "whole": min([await echo.echo(count, batch) for _ in range(7)]) / count * 1e9,
        }
        echo.task.cancel()
    return found


async def echo(count: int, batch: int) -> None:
    connection = Echo()
    await connection.start()
    await connection.echo(count, batch)
    connection.task.cancel()


if __name__ == "__main__":
    if sys.argv[1] == "times":
        print(json.dumps(asyncio.run(times())))
    else:
        asyncio.run(echo(int(sys.argv[2]), int(sys.argv[3])))
