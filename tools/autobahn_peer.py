"""
The side of the conformance suite that is under test (see autobahn.py).

``autobahn_peer.py API server`` echoes on a port of its own choice, ``autobahn_peer.py API client
URL`` runs the cases of a fuzzing server; API is asyncio or legacy. Each prints first which codec
of this library is in use, or which version of the released one.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import sys
import warnings
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.version import version

try:
    from websockets.codec import IMPLEMENTATION as LIBRARY
except ImportError:  # the released library has one for both
    LIBRARY = version

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # the original API's
    connect = importlib.import_module(f"websockets.{sys.argv[1]}.client").connect
    serve = importlib.import_module(f"websockets.{sys.argv[1]}.server").serve


async def echo(websocket: Any) -> None:
    # Most cases end in an error on purpose; the fuzzer is the judge of how.
    with contextlib.suppress(ConnectionClosed):
        async for message in websocket:
            await websocket.send(message)


async def run_server() -> None:
    # The largest messages of the suite are 16 MiB.
    async with serve(echo, "127.0.0.1", 0, max_size=None, ping_interval=None) as server:
        print(next(iter(server.sockets)).getsockname()[1], flush=True)
        await asyncio.Event().wait()


async def run_client(url: str) -> None:
    agent = f"agent={LIBRARY}"
    async with connect(f"{url}/getCaseCount") as websocket:
        count = int(await websocket.recv())
    for case in range(1, count + 1):
        async with connect(
            f"{url}/runCase?case={case}&{agent}", max_size=None, ping_interval=None
        ) as websocket:
            await echo(websocket)
    async with connect(f"{url}/updateReports?{agent}") as websocket:
        await websocket.wait_closed()


if __name__ == "__main__":
    print(LIBRARY, flush=True)
    if sys.argv[2:] == ["server"]:
        asyncio.run(run_server())
    else:
        asyncio.run(run_client(sys.argv[3]))
