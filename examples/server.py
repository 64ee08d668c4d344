"""A server that answers every message."""

import asyncio

from websockets.asyncio.server import ServerConnection, serve


async def handler(websocket: ServerConnection) -> None:
    async for message in websocket:
        await websocket.send(message)


async def main() -> None:
    async with serve(handler, "localhost", 8765) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
