"""
The servers that are measured: each library, used as its own documentation recommends.

``servers.py LIBRARY LOOP DUTY`` listens on a port of the loopback interface, prints it, and serves
until it is terminated. DUTY says what is done with messages:

- ``echo``: every message is sent back
- ``sink``: messages are received, nothing else
- ``feed``: text messages of 200 bytes are sent as fast as the client takes them, some each turn of
  the event loop
- ``broadcast``: every message is sent to all clients

Nothing here imports from the rest of the suite: it runs under any Python that has the library. No
server sends keepalive pings or closes a connection on its own account; with ``--deflate`` it
compresses as its library does by default, otherwise not at all.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import importlib
import logging
import resource
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

HOST = "127.0.0.1"
MAX_SIZE = 64 * 2**20
FEED_MESSAGE = "x" * 200

OPTIONS: argparse.Namespace


# ------------------------------------- the API of websockets, whoever implements it


async def websockets() -> Any:
    from websockets.asyncio.server import serve

    def broadcast(connections: Any, message: Any) -> None:
        # Imported late: an implementation without it can be measured in everything else.
        importlib.import_module("websockets.asyncio.server").broadcast(connections, message)

    return await _coroutines(serve, broadcast)


async def websockets_legacy() -> Any:
    from websockets.legacy.server import broadcast, serve

    return await _coroutines(serve, broadcast)


async def picows_websockets() -> Any:
    from picows.websockets.asyncio.server import broadcast, serve

    return await _coroutines(serve, broadcast)


async def _coroutines(serve: Any, broadcast: Callable[[Any, Any], None]) -> Any:
    connections: set[Any] = set()

    async def echo(ws: Any) -> None:
        async for message in ws:
            await ws.send(message)

    async def sink(ws: Any) -> None:
        async for _ in ws:
            pass

    async def feed(ws: Any) -> None:
        while True:
            for _ in range(OPTIONS.batch):
                await ws.send(FEED_MESSAGE)
            await asyncio.sleep(0)

    async def to_all(ws: Any) -> None:
        connections.add(ws)
        try:
            async for message in ws:
                broadcast(connections, message)
        finally:
            connections.discard(ws)

    duties = {"echo": echo, "sink": sink, "feed": feed, "broadcast": to_all}
    options: dict[str, Any] = {"ping_interval": None, "max_size": MAX_SIZE}
    if not OPTIONS.deflate:
        options["compression"] = None
    if OPTIONS.unbounded_queue:
        options["max_queue"] = None
    return await serve(duties[OPTIONS.duty], HOST, 0, ssl=tls(), **options)


# ------------------------------------------------------------ picows, its callbacks


async def picows() -> Any:
    from picows import WSListener, WSMsgType, ws_create_server

    transports: set[Any] = set()

    class Listener(WSListener):  # type: ignore[misc]
        def on_ws_frame(self, transport: Any, frame: Any) -> None:
            if frame.msg_type == WSMsgType.CLOSE:
                transport.send_close(frame.get_close_code(), frame.get_close_message())
                transport.disconnect()
            else:
                self.on_message(transport, frame)

        def on_message(self, transport: Any, frame: Any) -> None:
            raise NotImplementedError

    class Echo(Listener):
        def on_message(self, transport: Any, frame: Any) -> None:
            transport.send(frame.msg_type, frame.get_payload_as_memoryview())

    class Sink(Listener):
        def on_message(self, transport: Any, frame: Any) -> None:
            # What the coroutine APIs hand out, too: an object of its own.
            if frame.msg_type == WSMsgType.TEXT:
                frame.get_payload_as_utf8_text()
            else:
                frame.get_payload_as_bytes()

    class Feed(Listener):
        def on_ws_connected(self, transport: Any) -> None:
            self.writable = asyncio.Event()
            self.writable.set()
            self.task = asyncio.create_task(self.feed(transport))

        def pause_writing(self) -> None:
            self.writable.clear()

        def resume_writing(self) -> None:
            self.writable.set()

        def on_ws_disconnected(self, transport: Any) -> None:
            self.task.cancel()

        async def feed(self, transport: Any) -> None:
            message = FEED_MESSAGE.encode()
            while True:
                for _ in range(OPTIONS.batch):
                    transport.send(WSMsgType.TEXT, message)
                    if not self.writable.is_set():
                        await self.writable.wait()
                await asyncio.sleep(0)

    class Broadcast(Listener):
        def on_ws_connected(self, transport: Any) -> None:
            transports.add(transport)

        def on_ws_disconnected(self, transport: Any) -> None:
            transports.discard(transport)

        def on_message(self, transport: Any, frame: Any) -> None:
            message = frame.get_payload_as_bytes()
            for recipient in transports:
                recipient.send(frame.msg_type, message)

    duties = {"echo": Echo, "sink": Sink, "feed": Feed, "broadcast": Broadcast}
    listener = duties[OPTIONS.duty]
    return await ws_create_server(
        lambda request: listener(), HOST, 0, ssl=tls(), max_frame_size=MAX_SIZE
    )


# -------------------------------------------------------------------------- aiohttp


async def aiohttp() -> Any:
    from aiohttp import WSMsgType, web

    connections: set[Any] = set()

    async def send(ws: Any, message: Any) -> None:
        if message.type == WSMsgType.TEXT:
            await ws.send_str(message.data)
        else:
            await ws.send_bytes(message.data)

    async def echo(ws: Any) -> None:
        async for message in ws:
            await send(ws, message)

    async def sink(ws: Any) -> None:
        async for _ in ws:
            pass

    async def feed(ws: Any) -> None:
        while True:
            for _ in range(OPTIONS.batch):
                await ws.send_str(FEED_MESSAGE)
            await asyncio.sleep(0)

    async def to_all(ws: Any) -> None:
        connections.add(ws)
        try:
            async for message in ws:
                for recipient in set(connections):
                    await send(recipient, message)
        finally:
            connections.discard(ws)

    duty = {"echo": echo, "sink": sink, "feed": feed, "broadcast": to_all}[OPTIONS.duty]

    async def handler(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(compress=OPTIONS.deflate, max_msg_size=MAX_SIZE)
        await ws.prepare(request)
        await duty(ws)
        return ws

    application = web.Application()
    application.router.add_get("/", handler)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    assert runner.server is not None
    return await asyncio.get_running_loop().create_server(runner.server, HOST, 0, ssl=tls())


# ---------------------------------------------------- what the event loop costs alone


class Bytes(asyncio.BufferedProtocol):
    """Answers the upgrade, then sends back whatever bytes arrive: nothing is parsed."""

    buffer = memoryview(bytearray(256 * 1024))
    upgraded = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self.upgraded:
            self.transport.write(bytes(self.buffer[:nbytes]))
            return
        request = bytes(self.buffer[:nbytes])
        key = request.split(b"Sec-WebSocket-Key: ")[1].split(b"\r\n")[0]
        digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        self.transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"
        )
        self.upgraded = True


async def tcp() -> Any:
    return await asyncio.get_running_loop().create_server(Bytes, HOST, 0, ssl=tls())


# ----------------------------------------------------------------------------- main

LIBRARIES: dict[str, Callable[[], Awaitable[Any]]] = {
    "websockets": websockets,
    "websockets.legacy": websockets_legacy,
    "picows": picows,
    "picows.websockets": picows_websockets,
    "aiohttp": aiohttp,
    "tcp": tcp,
}


def tls() -> ssl.SSLContext | None:
    if not OPTIONS.tls:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(OPTIONS.tls)
    return context


async def main() -> None:
    server = await LIBRARIES[OPTIONS.library]()
    print(next(iter(server.sockets)).getsockname()[1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("library", choices=LIBRARIES)
    parser.add_argument("loop", choices=["asyncio", "uvloop"])
    parser.add_argument("duty", choices=["echo", "sink", "feed", "broadcast"])
    parser.add_argument("--tls", help="file with a private key and its certificate")
    parser.add_argument(
        "--batch", type=int, default=100, help="messages sent each turn of the loop"
    )
    parser.add_argument("--deflate", action="store_true", help="compress, as is its default")
    parser.add_argument("--unbounded-queue", action="store_true", help="max_queue=None")
    OPTIONS = parser.parse_args()

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # The load ends without a closing handshake; what each library logs about that is not measured.
    logging.disable(logging.CRITICAL)
    if OPTIONS.loop == "uvloop":
        import uvloop

        uvloop.run(main())
    else:
        asyncio.run(main())
