"""
WebSocket routes of Sanic, which runs on the sans-I/O ServerProtocol.

The clients are this package's.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import urllib.request
from collections.abc import AsyncIterator
from typing import Any

from checks import Checks, expect
from sanic import Request, Sanic, Websocket
from sanic.response import HTTPResponse, text

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

Sanic.test_mode = True
checks = Checks()
app = Sanic("application")
app.config.update(WEBSOCKET_MAX_SIZE=2**21, WEBSOCKET_PING_INTERVAL=0.2, WEBSOCKET_PING_TIMEOUT=0.2)
ended: asyncio.Queue[str] = asyncio.Queue()  # what ended the handler that watches
port = 0


@app.get("/")
async def index(request: Request) -> HTTPResponse:
    return text("over http")


@app.websocket("/echo")
async def echo(request: Request, websocket: Websocket) -> None:
    async for message in websocket:
        await websocket.send(message)


@app.websocket("/items/<item:int>", subprotocols=["two", "three"])
async def items(request: Request, websocket: Websocket, item: int) -> None:
    found = [item, request.args.get("q"), request.headers.get("x-extra"), websocket.subprotocol]
    await websocket.send(json.dumps(found))
    await websocket.recv()


@app.websocket("/close/<code:int>")
async def close(request: Request, websocket: Websocket, code: int) -> None:
    await websocket.close(code, "as you wish")


@app.websocket("/raises")
async def raises(request: Request, websocket: Websocket) -> None:
    raise RuntimeError("on purpose")


@app.websocket("/parts")
async def parts(request: Request, websocket: Websocket) -> None:
    async for part in websocket.recv_streaming():
        await websocket.send(part)
    await websocket.send("done")


@app.websocket("/pings")
async def ping(request: Request, websocket: Websocket) -> None:
    await (await websocket.ping())
    await websocket.send("pong received")
    await websocket.recv()


@app.websocket("/watch")
async def watch(request: Request, websocket: Websocket) -> None:
    try:
        while True:
            await websocket.recv()
    except BaseException as exc:
        ended.put_nowait(type(exc).__name__)
        raise


@contextlib.asynccontextmanager
async def client(path: str, **options: Any) -> AsyncIterator[ClientConnection]:
    async with connect(f"ws://127.0.0.1:{port}{path}", max_size=None, **options) as websocket:
        yield websocket


@checks.add
async def text_and_bytes() -> None:
    async with client("/echo") as websocket:
        messages: list[str | bytes] = [
            "",
            "Grüße, 世界 🌍",
            "x" * 126,
            b"",
            bytes(range(256)) * 4096,
        ]
        for message in messages:
            await websocket.send(message)
            expect(await websocket.recv(), message)


@checks.add
async def many_messages() -> None:
    async with client("/echo") as websocket:
        for n in range(1000):
            await websocket.send(str(n))
        expect([await websocket.recv() for n in range(1000)], [str(n) for n in range(1000)])


@checks.add
async def fragmented_message() -> None:
    async with client("/echo") as websocket:
        await websocket.send(["one ", "", "mess", "age"])
        expect(await websocket.recv(), "one message")


@checks.add
async def streamed_message() -> None:
    async with client("/parts") as websocket:
        await websocket.send(["in ", "several ", "parts"])
        found = []
        while "done" not in found:
            found.append(await websocket.recv())
        expect("".join(map(str, found)), "in several partsdone")


@checks.add
async def path_query_and_subprotocol() -> None:
    async with client(
        "/items/7?q=1",
        additional_headers={"X-Extra": "2"},
        subprotocols=[Subprotocol("one"), Subprotocol("two")],
    ) as websocket:
        expect(json.loads(await websocket.recv()), [7, "1", "2", "two"])
        expect(websocket.subprotocol, "two")


@checks.add
async def no_such_route() -> None:
    try:
        async with client("/items/seven"):
            raise AssertionError("the handshake was accepted")
    except InvalidStatus as exc:
        expect(exc.response.status_code, 404)


@checks.add
async def http_on_the_same_port() -> None:
    opened = await asyncio.to_thread(urllib.request.urlopen, f"http://127.0.0.1:{port}/")
    with opened as response:
        expect(response.read(), b"over http")


@checks.add
async def pings() -> None:
    async with client("/pings") as websocket:
        await (await websocket.ping())
        expect(await websocket.recv(), "pong received")


@checks.add
async def keepalive() -> None:
    async with client("/echo") as websocket:
        await asyncio.sleep(0.7)
        await websocket.send("still here")
        expect(await websocket.recv(), "still here")


@checks.add
async def closed_by_the_application() -> None:
    for code in [1000, 1001, 3000, 4999]:
        async with client(f"/close/{code}") as websocket:
            with contextlib.suppress(ConnectionClosed):
                await websocket.recv()
            expect((websocket.close_code, websocket.close_reason), (code, "as you wish"))


@checks.add
async def application_raises() -> None:
    async with client("/raises") as websocket:
        with contextlib.suppress(ConnectionClosed):
            await websocket.recv()
        expect(websocket.close_code, 1000)


@checks.add
async def closed_by_the_client() -> None:
    async with client("/watch") as websocket:
        await websocket.close(4000, "bye")
        expect(await ended.get(), "CancelledError")
        expect(websocket.close_code, 4000)


@checks.add
async def client_is_gone() -> None:
    async with client("/watch") as websocket:
        websocket.transport.abort()
        expect(await ended.get(), "CancelledError")


@checks.add
async def message_too_big() -> None:
    async with client("/watch") as websocket:
        await websocket.send("x" * (2**21 + 1))
        with contextlib.suppress(ConnectionClosed):
            await websocket.recv()
        expect(websocket.close_code, 1009)


async def main() -> None:
    global port
    server = await app.create_server("127.0.0.1", 0, return_asyncio_server=True)
    assert server is not None
    await server.startup()
    port = server.server.sockets[0].getsockname()[1]
    await checks.run()
    await server.close()


asyncio.run(main())
checks.finish()
