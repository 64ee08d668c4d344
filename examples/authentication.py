"""
HTTP Basic Authentication: who has no name and password is refused before a connection is made.

Over the network, use it with TLS only: passwords travel as they are.
"""

import asyncio
import hashlib
import hmac
import os

from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, basic_auth, serve
from websockets.exceptions import InvalidStatus


def digest(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=1)


SALT = os.urandom(16)
USERS = {"ada": digest("engine", SALT)}  # in earnest from a database, with a salt for each


async def check_credentials(username: str, password: str) -> bool:
    # It takes its time by design, and others should not wait: in a thread.
    found = await asyncio.to_thread(digest, password, SALT)
    # A name that is not there takes as long as one that is.
    return hmac.compare_digest(found, USERS.get(username, b""))


async def handler(websocket: ServerConnection) -> None:
    await websocket.send(f"Hello {websocket.username}!")


async def main() -> None:
    auth = basic_auth(realm="example", check_credentials=check_credentials)
    async with serve(handler, "localhost", 8765, process_request=auth):
        async with connect("ws://ada:engine@localhost:8765") as websocket:
            print(await websocket.recv())
        try:
            await connect("ws://ada:guess@localhost:8765")
        except InvalidStatus as exc:
            print(f"refused with {exc.response.status_code}")


if __name__ == "__main__":
    asyncio.run(main())
