"""What the browser is given to talk to: servers with a page, and a wire to them that is watched."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response

# Opens WebSockets for the tests, and keeps what comes of them.
PAGE = """<!doctype html>
<title>A page to test with</title>
<link rel="icon" href="data:,">
<script>
"use strict";

let socket = null;

// Opens a WebSocket to where the page came from, or elsewhere; says what became of it.
function dial({origin = location.origin, protocols = []} = {}) {
  socket = new WebSocket(origin.replace("http", "ws") + "/socket", protocols);
  socket.binaryType = "arraybuffer";
  socket.messages = [];
  socket.onmessage = event => socket.messages.push(event.data);
  socket.closing = new Promise(resolve => {
    socket.onclose = ({code, reason, wasClean}) => resolve({code, reason, wasClean});
  });
  const opening = new Promise(resolve => {
    socket.onopen = () => resolve({protocol: socket.protocol, extensions: socket.extensions});
  });
  return Promise.race([opening, socket.closing]);
}

// One kind of message after the other; pattern() and TEXTS of the tests in Python are the same.
const pattern = size => Uint8Array.from({length: size}, (_, i) => i * 31 + (i >> 8) * 17);

function samples() {
  const bytes = pattern(1000);
  return [
    ...TEXTS,
    "\\u00e9".repeat(2 ** 19),
    new Blob([bytes.slice(0, 400), bytes.slice(400)]),
    bytes.buffer,
    new Uint8Array(bytes.buffer, 100, 200),
    new ArrayBuffer(0),
    pattern(2 ** 20).buffer,
  ];
}

// Says where the messages that came differ from those; nowhere, if all is well.
async function differences(expected) {
  const raw = async data => typeof data === "string"
    ? data : Array.from(new Uint8Array(await new Response(data).arrayBuffer())).join();
  const found = [];
  for (let i = 0; i < Math.max(expected.length, socket.messages.length); i++) {
    const [came, wanted] = [socket.messages[i], expected[i]];
    if (typeof came !== typeof (typeof wanted === "string" ? "" : new ArrayBuffer(0))
        || await raw(came) !== await raw(wanted)) found.push(i);
  }
  return found;
}
</script>
"""


class Site:
    """A server whose page can open WebSockets to it."""

    def __init__(self, server: Server, scheme: str) -> None:
        self.server = server
        self.port: int = server.sockets[0].getsockname()[1]
        self.origin = f"{scheme}://127.0.0.1:{self.port}"
        self.connections: asyncio.Queue[ServerConnection] = asyncio.Queue()


@asynccontextmanager
async def site(
    handler: Callable[[ServerConnection], Awaitable[None]],
    *,
    page: str = PAGE,
    ssl: ssl.SSLContext | None = None,
    **kwargs: Any,
) -> AsyncIterator[Site]:
    """Run a server; its connections are queued for the test to look at."""

    def answer_http(websocket: ServerConnection, request: Request) -> Response | None:
        if "Upgrade" in request.headers:
            return None
        response = websocket.respond(200, page)
        del response.headers["Content-Type"]
        response.headers["Content-Type"] = "text/html; charset=utf-8"
        return response

    async def handle(websocket: ServerConnection) -> None:
        running.connections.put_nowait(websocket)
        await handler(websocket)

    async with serve(
        handle, "127.0.0.1", 0, process_request=answer_http, ssl=ssl, **kwargs
    ) as server:
        running = Site(server, "http" if ssl is None else "https")
        yield running


class Wire:
    """Passes bytes on to a server and back, and counts them."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.up = 0  # bytes from the browser
        self.down = 0  # bytes to the browser

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        other_reader, other_writer = await asyncio.open_connection("127.0.0.1", self.port)
        await asyncio.gather(
            self.pass_on(reader, other_writer, up=True),
            self.pass_on(other_reader, writer, up=False),
        )

    async def pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, up: bool
    ) -> None:
        try:
            while data := await reader.read(2**16):
                if up:
                    self.up += len(data)
                else:
                    self.down += len(data)
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def wire(port: int) -> AsyncIterator[tuple[Wire, str]]:
    """Put a wire before a server; gives it, and the origin to load pages from."""
    between = Wire(port)
    async with await asyncio.start_server(between.connected, "127.0.0.1", 0) as server:
        yield between, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
