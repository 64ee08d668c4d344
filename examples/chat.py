"""
A chat room: every message goes to everyone connected.

Each connection's messages are sent by a task of its own, so that a slow reader delays nobody.
"""

import asyncio
from contextlib import suppress

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Data

BACKLOG = 100  # messages a slow reader may fall behind before it misses some

readers: set[asyncio.Queue[Data]] = set()


async def deliver(websocket: ServerConnection, queue: asyncio.Queue[Data]) -> None:
    with suppress(ConnectionClosed):
        while True:
            await websocket.send(await queue.get())


async def handler(websocket: ServerConnection) -> None:
    queue: asyncio.Queue[Data] = asyncio.Queue(BACKLOG)
    readers.add(queue)
    sender = asyncio.create_task(deliver(websocket, queue))
    try:
        async for message in websocket:
            for other in readers:
                with suppress(asyncio.QueueFull):
                    other.put_nowait(message)
    finally:
        readers.remove(queue)
        sender.cancel()


async def main() -> None:
    async with serve(handler, "localhost", 8765) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
