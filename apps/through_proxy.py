"""
websockets_proxy, a subclass of the original API's connect(), through a proxy in this process.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from checks import Checks, expect
from websockets_proxy import Proxy, proxy_connect

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

checks = Checks()
asked: list[str] = []  # the request lines that the proxy has seen


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(2**16):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Do what a CONNECT request asks for (RFC 9110 section 9.3.6)."""
    request = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()[0]
    asked.append(request)
    host, port = request.split()[1].split(":")
    try:
        upstream, to_upstream = await asyncio.open_connection(host, int(port))
    except OSError:
        writer.write(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
    else:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        with contextlib.suppress(OSError):
            await asyncio.gather(copy(reader, to_upstream), copy(upstream, writer))
        to_upstream.close()
    writer.close()


async def handler(websocket: ServerConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        async for message in websocket:
            if message == "close":
                await websocket.close(4000, "as you wish")
            else:
                await websocket.send(message)


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[tuple[str, Proxy]]:
    """Start a server and a proxy; yield the server's URL, and what leads through the proxy."""
    between = await asyncio.start_server(proxy, "127.0.0.1", 0)
    async with between, serve(handler, "127.0.0.1", 0) as server:
        asked.clear()
        host, port = between.sockets[0].getsockname()
        url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
        yield url, Proxy.from_url(f"http://{host}:{port}")


@checks.add
async def messages() -> None:
    async with serving() as (url, through):
        async with proxy_connect(url, proxy=through) as websocket:
            for message in ["Grüße 🌍", b"bytes", "x" * 500_000]:
                await websocket.send(message)
                expect(await websocket.recv(), message)
        expect(asked, [f"CONNECT {url.removeprefix('ws://')} HTTP/1.1"])


@checks.add
async def options_of_connect() -> None:
    async with serving() as (url, through):
        async with proxy_connect(
            url, proxy=through, compression=None, extra_headers={"X-Extra": "1"}, ping_interval=0.05
        ) as websocket:
            expect((websocket.extensions, websocket.request_headers["X-Extra"]), ([], "1"))
            await asyncio.sleep(0.2)
            assert websocket.latency > 0


@checks.add
async def closing() -> None:
    async with serving() as (url, through):
        async with proxy_connect(url, proxy=through) as websocket:
            await websocket.send("close")
            try:
                await websocket.recv()
            except ConnectionClosed as exc:
                expect((exc.code, exc.reason), (4000, "as you wish"))
            else:
                raise AssertionError("there was a message")


@checks.add
async def nobody_listens() -> None:
    async with serving() as (_, through):
        try:
            async with proxy_connect("ws://127.0.0.1:1/", proxy=through):
                raise AssertionError("there was a connection")
        except Exception as exc:
            expect(type(exc).__name__, "ProxyError")


asyncio.run(checks.run())
checks.finish()
