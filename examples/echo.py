"""
A server and a client talk over a real TCP socket, and then see how fast.

Run it with ``make echo``, or anywhere the library is installed: ``python echo.py``.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import platform
import subprocess
import sys
import time
from typing import Any

from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.codec import IMPLEMENTATION
from websockets.typing import Data
from websockets.version import version

SECONDS = 2.0  # of measurement, for each codec


async def echo(websocket: ServerConnection) -> None:
    """Send every message back."""
    async for message in websocket:
        await websocket.send(message)


def show(step: str, text: str) -> None:
    print(f"{step:<12}{text}", flush=True)


def expect(step: str, found: Any, wanted: Any) -> None:
    if found != wanted:
        raise SystemExit(f"{step}: expected {wanted!r}, found {found!r}")


async def exchanges() -> None:
    """Show one exchange of each kind."""
    seen_by_server: list[ServerConnection] = []

    async def handler(websocket: ServerConnection) -> None:
        seen_by_server.append(websocket)
        await echo(websocket)

    async with serve(handler, "127.0.0.1", 0) as server:
        host, port = next(iter(server.sockets)).getsockname()
        show("server", f"listening on {host}:{port}")

        async with connect(f"ws://{host}:{port}") as websocket:
            show("client", f"connected from {websocket.local_address[0]}")

            messages: dict[str, Data] = {"text": "Grüße, 世界", "binary": bytes(range(8))}
            for step, message in messages.items():
                await websocket.send(message)
                reply = await websocket.recv()
                expect(step, reply, message)
                show(step, f"sent {message!r}, received {reply!r}")

            fragments = ["one message ", "in three ", "frames"]
            await websocket.send(fragments)
            reply = await websocket.recv()
            expect("fragmented", reply, "".join(fragments))
            show("fragmented", f"sent {fragments!r}, received {reply!r}")

            latency = await (await websocket.ping())
            show("ping", f"pong after {latency * 1e6:.0f} microseconds")

            await websocket.close(1000, "that is all")

        expect("close", (websocket.close_code, websocket.close_reason), (1000, "that is all"))
        [peer] = seen_by_server
        await peer.wait_closed()
        expect("close", (peer.close_code, peer.close_reason), (1000, "that is all"))
        show("close", f"client closed with 1000 'that is all', server saw {peer.close_code}")


async def round_trips() -> float:
    """Return how many 64-byte messages a second go to a server and back, one at a time."""
    message = b"x" * 64
    async with serve(echo, "127.0.0.1", 0, compression=None) as server:
        host, port = next(iter(server.sockets)).getsockname()
        async with connect(f"ws://{host}:{port}", compression=None) as websocket:

            async def run(seconds: float) -> float:
                count, start = 0, time.perf_counter()
                while (elapsed := time.perf_counter() - start) < seconds:
                    for _ in range(100):
                        await websocket.send(message)
                        await websocket.recv()
                    count += 100
                return count / elapsed

            await run(SECONDS / 4)
            return await run(SECONDS)


def measure(codec: str) -> float:
    """Measure a codec in a process of its own, since the choice is made at import."""
    result = subprocess.run(
        [sys.executable, __file__, "--measure"],
        env={**os.environ, "WEBSOCKETS_CODEC": codec},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=30,
    )
    implementation, rate = result.stdout.split()
    expect("codec", implementation, codec)
    return float(rate)


def main() -> None:
    if sys.argv[1:] == ["--measure"]:
        print(IMPLEMENTATION, asyncio.run(round_trips()))
        return

    print(f"codec: {IMPLEMENTATION}")
    show("library", f"websockets {version}, Python {platform.python_version()}")
    asyncio.run(exchanges())

    print("round trips per second (64 bytes, plain, one at a time, both ends in one process)")
    built = importlib.util.find_spec("websockets._speedups") is not None
    for codec in ["compiled", "pure"] if built else ["pure"]:
        show(codec, f"{measure(codec):,.0f}")


if __name__ == "__main__":
    main()
