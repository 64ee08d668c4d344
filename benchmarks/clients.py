"""
The clients that are measured: each library, used as its own documentation recommends.

``clients.py LIBRARY LOOP DUTY PORT`` connects to a server in C and measures itself: it prints one
line of JSON with the messages of the time measured and the CPU time, user and system, that this
process spent on each. DUTY says what is done:

- ``echo``: a number of messages is sent, then every message received is sent back
- ``receive``: messages are received and counted
- ``json``: messages are received, counted and decoded
- ``send``: messages are sent as fast as the server takes them, some each turn of the event loop

Nothing here imports from the rest of the suite: it runs under any Python that has the library. No
client compresses or sends keepalive pings.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

MAX_SIZE = 64 * 2**20
OPTIONS: argparse.Namespace


class Meter:
    """Counts messages. The event loop's timers say when to begin and when to end."""

    def __init__(self) -> None:
        self.count = 0
        self.finished: asyncio.Future[dict[str, float]] = asyncio.get_running_loop().create_future()

    def start(self) -> None:
        asyncio.get_running_loop().call_later(OPTIONS.warmup, self.begin)

    def begin(self) -> None:
        self.count = 0
        self.since = time.perf_counter(), time.process_time()
        asyncio.get_running_loop().call_later(OPTIONS.seconds, self.end)

    def end(self) -> None:
        seconds = time.perf_counter() - self.since[0]
        spent = time.process_time() - self.since[1]
        if not self.count:
            self.finished.set_exception(RuntimeError("no message was received"))
        elif not self.finished.done():
            self.finished.set_result(
                {
                    "messages": self.count,
                    "seconds": round(seconds, 3),
                    "msgs_per_s": round(self.count / seconds),
                    "MB_per_s": round(self.count * OPTIONS.size / seconds / 1e6, 1),
                    "cpu_us": round(spent / self.count * 1e6, 4),
                }
            )


def message() -> Any:
    data = b"abcdefghijklmnopqrstuvwxyz" * (OPTIONS.size // 26 + 1)
    data = data[: OPTIONS.size]
    return data.decode() if OPTIONS.text else data


# ------------------------------------- the API of websockets, whoever implements it


async def websockets(url: str, meter: Meter) -> None:
    from websockets.asyncio.client import connect

    await _coroutines(connect, url, meter)


async def picows_websockets(url: str, meter: Meter) -> None:
    from picows.websockets.asyncio.client import connect

    await _coroutines(connect, url, meter)


async def _coroutines(connect: Any, url: str, meter: Meter) -> None:
    data = message()

    async def echo(ws: Any) -> None:
        for _ in range(OPTIONS.window):
            await ws.send(data)
        async for received in ws:
            meter.count += 1
            await ws.send(received)

    async def receive(ws: Any) -> None:
        async for _ in ws:
            meter.count += 1

    async def decode(ws: Any) -> None:
        async for received in ws:
            meter.count += 1
            json.loads(received)

    async def send(ws: Any) -> None:
        while True:
            for _ in range(OPTIONS.batch):
                await ws.send(data)
            meter.count += OPTIONS.batch
            await asyncio.sleep(0)

    duty = {"echo": echo, "receive": receive, "json": decode, "send": send}[OPTIONS.duty]
    options: dict[str, Any] = {"compression": None, "ping_interval": None, "max_size": MAX_SIZE}
    if OPTIONS.unbounded_queue:
        options["max_queue"] = None
    async with connect(url, proxy=None, **options) as ws:
        await duty(ws)


# ------------------------------------------------------------ picows, its callbacks


async def picows(url: str, meter: Meter) -> None:
    from picows import WSListener, WSMsgType, ws_connect

    data = message()
    if OPTIONS.text:
        data = data.encode()
    opcode = WSMsgType.TEXT if OPTIONS.text else WSMsgType.BINARY

    class Echo(WSListener):  # type: ignore[misc]
        def on_ws_connected(self, transport: Any) -> None:
            for _ in range(OPTIONS.window):
                transport.send(opcode, data)

        def on_ws_frame(self, transport: Any, frame: Any) -> None:
            meter.count += 1
            transport.send(frame.msg_type, frame.get_payload_as_memoryview())

    class Receive(WSListener):  # type: ignore[misc]
        def on_ws_frame(self, transport: Any, frame: Any) -> None:
            meter.count += 1
            frame.get_payload_as_utf8_text()

    class Decode(WSListener):  # type: ignore[misc]
        def on_ws_frame(self, transport: Any, frame: Any) -> None:
            meter.count += 1
            json.loads(frame.get_payload_as_utf8_text())

    class Send(WSListener):  # type: ignore[misc]
        def on_ws_connected(self, transport: Any) -> None:
            self.writable = asyncio.Event()
            self.writable.set()
            self.task = asyncio.create_task(self.send(transport))

        def pause_writing(self) -> None:
            self.writable.clear()

        def resume_writing(self) -> None:
            self.writable.set()

        async def send(self, transport: Any) -> None:
            while True:
                for _ in range(OPTIONS.batch):
                    transport.send(opcode, data)
                    if not self.writable.is_set():
                        await self.writable.wait()
                meter.count += OPTIONS.batch
                await asyncio.sleep(0)

    duty = {"echo": Echo, "receive": Receive, "json": Decode, "send": Send}[OPTIONS.duty]
    transport, _ = await ws_connect(duty, url, max_frame_size=MAX_SIZE)
    await transport.wait_disconnected()


# -------------------------------------------------------------------------- aiohttp


async def aiohttp(url: str, meter: Meter) -> None:
    import aiohttp

    data = message()

    async def echo(ws: Any) -> None:
        send = ws.send_str if OPTIONS.text else ws.send_bytes
        for _ in range(OPTIONS.window):
            await send(data)
        async for received in ws:
            meter.count += 1
            await send(received.data)

    async def receive(ws: Any) -> None:
        async for _ in ws:
            meter.count += 1

    async def decode(ws: Any) -> None:
        async for received in ws:
            meter.count += 1
            received.json()

    async def send(ws: Any) -> None:
        while True:
            for _ in range(OPTIONS.batch):
                await ws.send_str(data)
            meter.count += OPTIONS.batch
            await asyncio.sleep(0)

    duty = {"echo": echo, "receive": receive, "json": decode, "send": send}[OPTIONS.duty]
    async with aiohttp.ClientSession() as session:
        async with session.ws_connect(url, compress=0, max_msg_size=MAX_SIZE) as ws:
            await duty(ws)


# ----------------------------------------------------------------------------- main

LIBRARIES: dict[str, Callable[[str, Meter], Awaitable[None]]] = {
    "websockets": websockets,
    "picows": picows,
    "picows.websockets": picows_websockets,
    "aiohttp": aiohttp,
}


async def main() -> None:
    meter = Meter()
    meter.start()
    url = f"ws://127.0.0.1:{OPTIONS.port}/"
    clients: list[asyncio.Future[Any]] = [
        asyncio.ensure_future(LIBRARIES[OPTIONS.library](url, meter))
        for _ in range(OPTIONS.connections)
    ]
    # A client that ends has failed: only the meter ends the measurement.
    await asyncio.wait([meter.finished, *clients], return_when=asyncio.FIRST_COMPLETED)
    for client in clients:
        if client.done():
            client.result()
            raise SystemExit("the connection ended")
    print(json.dumps(meter.finished.result()), flush=True)
    for client in clients:
        client.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("library", choices=LIBRARIES)
    parser.add_argument("loop", choices=["asyncio", "uvloop"])
    parser.add_argument("duty", choices=["echo", "receive", "json", "send"])
    parser.add_argument("port", type=int)
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--window", type=int, default=1, help="messages in flight")
    parser.add_argument("--size", type=int, default=64, help="bytes in a message")
    parser.add_argument("--text", action="store_true", help="text instead of binary messages")
    parser.add_argument(
        "--batch", type=int, default=100, help="messages sent each turn of the loop"
    )
    parser.add_argument("--unbounded-queue", action="store_true", help="max_queue=None")
    parser.add_argument("--warmup", type=float, default=0.3, help="seconds before measuring")
    parser.add_argument("--seconds", type=float, default=1.0, help="seconds measured")
    OPTIONS = parser.parse_args()

    logging.disable(logging.CRITICAL)
    if OPTIONS.loop == "uvloop":
        import uvloop

        uvloop.run(main())
    else:
        asyncio.run(main())
