"""A server that tells everyone connected the time, once a second: see it with client.py."""

import asyncio
from datetime import UTC, datetime

from websockets.asyncio.server import Server, ServerConnection, broadcast, serve

INTERVAL = 1.0  # seconds


async def handler(websocket: ServerConnection) -> None:
    async for _ in websocket:
        pass  # it is not a good listener


async def tell_the_time(server: Server) -> None:
    while True:
        broadcast(server.connections, datetime.now(UTC).isoformat(timespec="seconds"))
        await asyncio.sleep(INTERVAL)


async def main() -> None:
    async with serve(handler, "localhost", 8765) as server:
        await tell_the_time(server)


if __name__ == "__main__":
    asyncio.run(main())
