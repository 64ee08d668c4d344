"""
A client that stays connected: it prints what the server sends, such as that of ticker.py.

When the connection is lost, or cannot be made, it tries again, after a delay that grows. It gives
up on errors that another attempt would not mend, such as a path that is not there.
"""

import asyncio

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError


async def main() -> None:
    async for websocket in connect("ws://localhost:8765"):
        print("connected")
        try:
            async for message in websocket:
                print(message)
        except ConnectionClosedError:
            pass  # the reason is in the next line, as for those that end in good order
        print(f"closed with {websocket.close_code} {websocket.close_reason}")


if __name__ == "__main__":
    asyncio.run(main())
