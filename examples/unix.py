"""A server on a Unix socket, for the same machine or a proxy in front of it, and a client."""

import asyncio
import tempfile
from pathlib import Path

from websockets.asyncio.client import unix_connect
from websockets.asyncio.server import ServerConnection, unix_serve


async def handler(websocket: ServerConnection) -> None:
    async for message in websocket:
        await websocket.send(message)


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:  # that nobody else may enter
        path = str(Path(directory) / "socket")
        async with unix_serve(handler, path):
            async with unix_connect(path) as websocket:
                await websocket.send("Hello!")
                print(await websocket.recv())


if __name__ == "__main__":
    asyncio.run(main())
