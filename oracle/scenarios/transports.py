"""TLS, flow control, and loops other than asyncio's own."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator

import trustme

from websockets.asyncio.client import connect
from websockets.asyncio.server import Server, ServerConnection, serve

from ..ends import (
    BINARY,
    PING,
    QUIET,
    TEXT,
    Raw,
    connecting,
    echo,
    ending,
    frame,
    masked,
    raw_client,
    raw_server,
    serving,
)
from ..scenario import Scenario, scenario


@contextlib.asynccontextmanager
async def tls_server(s: Scenario) -> AsyncIterator[tuple[Server, ssl.SSLContext]]:
    """Run a server with TLS; yield it, and a context that trusts it."""
    authority = trustme.CA()
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server_context)
    client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(client_context)
    async with serve(echo, "127.0.0.1", 0, ssl=server_context, compression=None) as server:
        s.ports.append(server.sockets[0].getsockname()[1])
        yield server, client_context


@scenario
async def tls(s: Scenario) -> None:
    """Messages over TLS."""
    async with tls_server(s) as (server, context):
        port = server.sockets[0].getsockname()[1]
        async with connect(
            f"wss://localhost:{port}/", ssl=context, host="127.0.0.1", compression=None, proxy=None
        ) as websocket:
            s.note("request", websocket.request)
            for message in ("hello", b"x" * 100000):
                await websocket.send(message)
                s.note("received", await websocket.recv())
        ending(s, websocket)


@scenario
async def tls_not_trusted(s: Scenario) -> None:
    """A certificate that the client does not trust, and one for another name."""
    async with tls_server(s) as (server, context):
        port = server.sockets[0].getsockname()[1]
        with s.failing("not trusted"):
            await connect(f"wss://localhost:{port}/", host="127.0.0.1", proxy=None)
        with s.failing("another name"):
            await connect(
                f"wss://localhost:{port}/",
                ssl=context,
                host="127.0.0.1",
                server_hostname="other.example",
                proxy=None,
            )


@scenario
async def plain_client_to_tls_server(s: Scenario) -> None:
    """A client without TLS at a server with TLS."""
    async with tls_server(s) as (server, _):
        with s.failing("connect"):
            await connecting(server)


@scenario
async def tls_client_to_plain_server(s: Scenario) -> None:
    """A client with TLS at a server without."""
    async with serving(s, echo) as server:
        port = server.sockets[0].getsockname()[1]
        with s.failing("connect"):
            await connect(f"wss://127.0.0.1:{port}/", proxy=None)


@scenario
async def reader_that_waits(s: Scenario) -> None:
    """A sender waits for a reader that does not read, and goes on when it does."""
    ready = asyncio.Event()

    async def handler(websocket: ServerConnection) -> None:
        await ready.wait()
        size = 0
        async for message in websocket:
            size += len(message)
        s.track("server").note("received", size)

    async with serving(s, handler, logger=QUIET, max_queue=2) as server:
        async with connecting(server, logger=QUIET) as websocket:

            async def send() -> None:
                for _ in range(40):
                    await websocket.send(b"x" * 500000)

            task = asyncio.create_task(send())
            await asyncio.sleep(0.2)
            s.note("waiting", not task.done())
            ready.set()
            await task


@scenario
async def messages_wait_in_queue(s: Scenario) -> None:
    """Messages that came before the connection ended can be received after it."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        await raw.send(*(frame(TEXT, str(number)) for number in range(5)))
        raw.eof()
        await raw.end()

    async with raw_server(s, peer) as where:
        websocket = await connecting(where)
        await asyncio.sleep(0.05)
        for _ in range(6):
            with s.failing("recv"):
                s.note("received", await websocket.recv())
        ending(s, websocket)


@scenario
async def more_messages_than_the_queue_holds(s: Scenario) -> None:
    """Messages arrive one by one, more than the queue holds; none is lost."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        for number in range(50):
            await raw.send(frame(TEXT, str(number)))
            if number % 10 == 0:
                await asyncio.sleep(0.002)
        await raw.close_handshake()

    async with raw_server(s, peer) as where:
        async with connecting(where, max_queue=4, logger=QUIET) as websocket:
            await asyncio.sleep(0.02)
            received = [await websocket.recv() for _ in range(50)]
            s.note("in order", received == [str(number) for number in range(50)])


@scenario
async def pings_answered_without_recv(s: Scenario) -> None:
    """Pings are answered though nobody receives."""

    async def handler(websocket: ServerConnection) -> None:
        await websocket.wait_closed()

    async with serving(s, handler) as server, raw_client(s, server) as raw:
        await raw.open()
        for number in range(3):
            await raw.send(masked(PING, str(number)))
            await raw.frame()
        await raw.send(masked(8))
        await raw.end()


@scenario
async def large_messages(s: Scenario) -> None:
    """Messages of megabytes, both ways."""
    async with (
        serving(s, echo, max_size=2**25, logger=QUIET) as server,
        connecting(server, max_size=2**25, logger=QUIET) as websocket,
    ):
        for size in (2**16, 2**20 + 1, 2**23):
            await websocket.send(b"x" * size)
            s.note("received", await websocket.recv())


@scenario
async def frames_cut_anywhere(s: Scenario) -> None:
    """Frames that arrive in pieces."""

    async def handler(websocket: ServerConnection) -> None:
        async for message in websocket:
            s.track("server").note("received", message)

    data = masked(TEXT, "héllo") + masked(PING, "p") + masked(BINARY, b"x" * 130) + masked(8)
    async with serving(s, handler) as server, raw_client(s, server) as raw:
        await raw.open()
        await raw.send_slowly(data, 3)
        await raw.end()
