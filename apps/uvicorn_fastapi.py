"""
WebSocket routes of FastAPI and Starlette on uvicorn: uvicorn_fastapi.py IMPLEMENTATION.

The implementation is what uvicorn's ``--ws`` takes: ``auto`` and ``websockets-sansio`` are the
same, ``websockets`` runs on the original API. The clients are this package's, and where a client
must misbehave, a plain socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import sys
import urllib.request
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import uvicorn
from checks import Checks, expect
from fastapi import (
    Cookie,
    Depends,
    FastAPI,
    Header,
    Query,
    WebSocket,
    WebSocketDisconnect,
    WebSocketException,
)
from fastapi.responses import JSONResponse
from starlette.applications import Starlette
from starlette.endpoints import WebSocketEndpoint
from starlette.routing import Mount, WebSocketRoute

from websockets.asyncio.client import ClientConnection, connect
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

IMPLEMENTATION = sys.argv[1]

DEFAULTS: Mapping[str, Any] = {}
# The implementation on the original API, and the one on the sans-I/O API.
ORIGINAL = IMPLEMENTATION == "websockets"
# What uvicorn tells the application when the client sent no close frame.
NO_CLOSE_FRAME = (1006 if ORIGINAL else 1005, "")

checks = Checks()
app = FastAPI()
disconnections: asyncio.Queue[tuple[int, str]] = asyncio.Queue()

# ------------------------------------------------------------------ the application


@app.get("/")
async def index() -> dict[str, str]:
    return {"over": "http"}


@app.websocket("/text")
async def text(websocket: WebSocket) -> None:
    await websocket.accept()
    with contextlib.suppress(WebSocketDisconnect):
        while True:
            await websocket.send_text(await websocket.receive_text())


@app.websocket("/bytes")
async def binary(websocket: WebSocket) -> None:
    await websocket.accept()
    async for message in websocket.iter_bytes():
        await websocket.send_bytes(message)


@app.websocket("/json")
async def as_json(websocket: WebSocket) -> None:
    await websocket.accept()
    value = await websocket.receive_json()
    await websocket.send_json(value)
    await websocket.send_json(value, mode="binary")


async def token(
    token: Annotated[str | None, Query()] = None,
    session: Annotated[str | None, Cookie()] = None,
    x_token: Annotated[str | None, Header()] = None,
) -> str:
    found = token or session or x_token
    if found is None:
        raise WebSocketException(code=1008, reason="no token")
    return found


@app.websocket("/items/{item}/{path:path}")
async def items(
    websocket: WebSocket, item: int, path: str, token: Annotated[str, Depends(token)], q: str = ""
) -> None:
    await websocket.accept()
    await websocket.send_json([item, path, token, q])
    raise WebSocketException(code=3001, reason="that is all")


@app.websocket("/close/{code}")
async def close(websocket: WebSocket, code: int) -> None:
    await websocket.accept()
    await websocket.close(code, reason="as you wish")


@app.websocket("/returns")
async def returns(websocket: WebSocket) -> None:
    await websocket.accept()


@app.websocket("/raises")
async def raises(websocket: WebSocket) -> None:
    await websocket.accept()
    raise RuntimeError("on purpose")


@app.websocket("/subprotocol")
async def subprotocol(websocket: WebSocket) -> None:
    offered = websocket.scope["subprotocols"]
    await websocket.accept(
        subprotocol="two" if "two" in offered else None,
        headers=[(b"x-offered", b"%d" % len(offered))],
    )
    await websocket.close()


@app.websocket("/refuse")
async def refuse(websocket: WebSocket) -> None:
    await websocket.close()


@app.websocket("/deny")
async def deny(websocket: WebSocket) -> None:
    response = JSONResponse({"reason": "teapot"}, status_code=418, headers={"X-Kind": "earl grey"})
    await websocket.send_denial_response(response)


@app.websocket("/scope")
async def scope(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_json(
        {
            "scheme": websocket.scope["scheme"],
            "path": websocket.scope["path"],
            "raw_path": websocket.scope["raw_path"].decode(),
            "query": websocket.scope["query_string"].decode(),
            "agent": websocket.headers.get("user-agent"),
            "many": websocket.headers.getlist("x-many"),
            "denial": "websocket.http.response" in websocket.scope["extensions"],
        }
    )
    await websocket.close()


@app.websocket("/watch")
async def watch(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        while True:
            await websocket.receive_text()
    except WebSocketDisconnect as exc:
        disconnections.put_nowait((exc.code, exc.reason))


@app.websocket("/flood/{count}")
async def flood(websocket: WebSocket, count: int) -> None:
    await websocket.accept()
    for n in range(count):
        await websocket.send_bytes(n.to_bytes(4, "big") * 16384)
    await websocket.close()


@dataclass
class Room:
    """The connection manager of FastAPI's documentation."""

    members: list[WebSocket] = field(default_factory=list)

    async def broadcast(self, message: str) -> None:
        for member in self.members:
            await member.send_text(message)


room = Room()


@app.websocket("/room/{name}")
async def enter(websocket: WebSocket, name: str) -> None:
    await websocket.accept()
    room.members.append(websocket)
    try:
        while True:
            await room.broadcast(f"{name}: {await websocket.receive_text()}")
    except WebSocketDisconnect:
        room.members.remove(websocket)
        await room.broadcast(f"{name} left")


class Upper(WebSocketEndpoint):
    encoding = "text"

    async def on_receive(self, websocket: Any, data: Any) -> None:
        await websocket.send_text(data.upper())

    async def on_disconnect(self, websocket: Any, close_code: int) -> None:
        disconnections.put_nowait((close_code, "an endpoint"))


async def greet(websocket: Any) -> None:
    await websocket.accept()
    await websocket.send_text(f"Hello, {websocket.path_params['name']}!")
    await websocket.close()


routes = [WebSocketRoute("/upper", Upper), WebSocketRoute("/greet/{name}", greet)]
app.mount("/starlette", Starlette(routes=[Mount("/mounted", routes=routes), *routes]))

# ------------------------------------------------------------------ the server


@contextlib.asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[tuple[uvicorn.Server, int]]:
    """Run the application with options of uvicorn, and yield its server and port."""
    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, ws=IMPLEMENTATION, log_level="critical", **options
    )
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    while not disconnections.empty():
        disconnections.get_nowait()
    try:
        yield server, server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await running


@contextlib.asynccontextmanager
async def client(
    path: str, server: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[ClientConnection]:
    """Connect to a server of its own."""
    async with serving(**(server or {})) as (_, port):
        async with connect(f"ws://127.0.0.1:{port}{path}", max_size=None, **options) as websocket:
            yield websocket


async def closing(websocket: ClientConnection) -> tuple[int | None, str | None]:
    """Wait for the end of the connection, and return the code and the reason."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            await websocket.recv()
    return websocket.close_code, websocket.close_reason


async def refusal(path: str, **options: Any) -> tuple[int, str, Headers]:
    try:
        async with client(path, **options):
            raise AssertionError("the handshake was accepted")
    except InvalidStatus as exc:
        response = exc.response
        return response.status_code, bytes(response.body).decode(), response.headers


# ------------------------------------------------------------------ messages


@checks.add
async def is_the_implementation_asked_for() -> None:
    config = uvicorn.Config(app, ws=IMPLEMENTATION)
    config.load()
    name = "WebSocketProtocol" if ORIGINAL else "WebSocketsSansIOProtocol"
    expect(config.ws_protocol_class.__name__, name)


@checks.add
async def text_messages() -> None:
    async with client("/text") as websocket:
        for message in ["", "Grüße, 世界 🌍", "x" * 125, "x" * 126, "ä" * 2**15]:
            await websocket.send(message)
            expect(await websocket.recv(), message)


@checks.add
async def binary_messages() -> None:
    async with client("/bytes") as websocket:
        for message in [b"", bytes(range(256)), b"x" * 65535, b"x" * 65536]:
            await websocket.send(message)
            expect(await websocket.recv(), message)


@checks.add
async def json_messages() -> None:
    async with client("/json") as websocket:
        value = {"text": "Grüße", "list": [1, 2.5, None, True]}
        await websocket.send(json.dumps(value))
        as_text, as_bytes = [await websocket.recv() for _ in range(2)]
        assert isinstance(as_text, str) and isinstance(as_bytes, bytes)
        expect([json.loads(as_text), json.loads(as_bytes)], [value, value])


@checks.add
async def fragmented_messages() -> None:
    async with client("/text") as websocket:
        await websocket.send(["Gr", "", "üße, ", "世界"])
        expect(await websocket.recv(), "Grüße, 世界")


@checks.add
async def large_messages() -> None:
    async with client("/bytes", {"ws_max_size": 2**25}) as websocket:
        message = bytes(range(256)) * 2**16
        await websocket.send(message)
        expect(await websocket.recv() == message, True)


@checks.add
async def many_messages() -> None:
    messages = [f"{n}" * (n % 50 + 1) for n in range(2000)]
    async with client("/text") as websocket:

        async def send() -> None:
            for message in messages:
                await websocket.send(message)

        sending = asyncio.create_task(send())
        for message in messages:
            expect(await websocket.recv(), message)
        await sending


@checks.add
async def many_connections() -> None:
    async with serving() as (_, port):

        async def talk(n: int) -> None:
            async with connect(f"ws://127.0.0.1:{port}/text") as websocket:
                for message in [f"{n}", f"{n}" * 100]:
                    await websocket.send(message)
                    expect(await websocket.recv(), message)

        await asyncio.gather(*(talk(n) for n in range(100)))


@checks.add
async def flow_control() -> None:
    async with client("/flood/500", max_queue=4) as websocket:
        await asyncio.sleep(0.3)
        count = 0
        async for message in websocket:
            expect(message == count.to_bytes(4, "big") * 16384, True)
            count += 1
        expect(count, 500)


@checks.add
async def pings_of_the_client() -> None:
    async with client("/watch") as websocket:
        for _ in range(3):
            assert await (await websocket.ping()) >= 0


@checks.add
async def compression() -> None:
    async with client("/text") as websocket:
        assert websocket.response is not None
        header = websocket.response.headers["Sec-WebSocket-Extensions"]
        assert header.startswith("permessage-deflate"), header
        for message in ["x" * 100_000, "x" * 100_000, "short"]:
            await websocket.send(message)
            expect(await websocket.recv(), message)


@checks.add
async def no_compression() -> None:
    for server, compressed in [({"ws_per_message_deflate": False}, "deflate"), ({}, None)]:
        async with client("/text", server, compression=compressed) as websocket:
            assert websocket.response is not None
            expect("Sec-WebSocket-Extensions" in websocket.response.headers, False)
            await websocket.send("x" * 100_000)
            expect(await websocket.recv(), "x" * 100_000)


# ------------------------------------------------------------------ routes


@checks.add
async def path_query_and_dependency() -> None:
    async with client("/items/7/a/b%20c?q=1&token=secret") as websocket:
        expect(json.loads(await websocket.recv()), [7, "a/b c", "secret", "1"])
        expect(await closing(websocket), (3001, "that is all"))


@checks.add
async def cookie_and_header() -> None:
    for headers in [{"Cookie": "a=b; session=secret"}, {"X-Token": "secret"}]:
        async with client("/items/7/x", additional_headers=headers) as websocket:
            expect(json.loads(await websocket.recv()), [7, "x", "secret", ""])


@checks.add
async def failing_dependency() -> None:
    expect((await refusal("/items/7/x"))[0], 403)


@checks.add
async def invalid_path_parameter() -> None:
    expect((await refusal("/items/seven/x?token=secret"))[0], 403)


@checks.add
async def no_such_route() -> None:
    expect((await refusal("/nowhere"))[0], 403)


@checks.add
async def scope_of_the_connection() -> None:
    headers = [("X-Many", "one"), ("X-Many", "two")]
    async with client(
        "/scope?a=%20b", additional_headers=headers, user_agent_header="an agent"
    ) as websocket:
        expect(
            json.loads(await websocket.recv()),
            {
                "scheme": "ws",
                "path": "/scope",
                "raw_path": "/scope",
                "query": "a=%20b",
                "agent": "an agent",
                "many": ["one", "two"],
                "denial": True,
            },
        )


@checks.add
async def subprotocols() -> None:
    offered = [Subprotocol(name) for name in ["one", "two", "three"]]
    async with client("/subprotocol", subprotocols=offered) as websocket:
        assert websocket.response is not None
        expect((websocket.subprotocol, websocket.response.headers["X-Offered"]), ("two", "3"))
    async with client("/subprotocol") as websocket:
        expect(websocket.subprotocol, None)


@checks.add
async def http_on_the_same_port() -> None:
    async with serving() as (_, port):
        opened = await asyncio.to_thread(urllib.request.urlopen, f"http://127.0.0.1:{port}/")
        with opened as response:
            expect(json.load(response), {"over": "http"})


@checks.add
async def starlette_route() -> None:
    async with client("/starlette/mounted/greet/world") as websocket:
        expect(await websocket.recv(), "Hello, world!")
        expect(await closing(websocket), (1000, ""))


@checks.add
async def starlette_endpoint() -> None:
    async with client("/starlette/upper") as websocket:
        await websocket.send("hello")
        expect(await websocket.recv(), "HELLO")
        await websocket.close(4000)
        expect(await disconnections.get(), (4000, "an endpoint"))


@checks.add
async def starlette_endpoint_gets_another_type() -> None:
    async with client("/starlette/upper") as websocket:
        await websocket.send(b"bytes")
        expect((await closing(websocket))[0], 1003)
        expect((await disconnections.get())[1], "an endpoint")


@checks.add
async def broadcasting() -> None:
    async with serving() as (_, port):
        url = f"ws://127.0.0.1:{port}/room/"
        async with connect(url + "Alice") as alice:
            async with connect(url + "Bob") as bob:
                await alice.send("hello")
                expect([await bob.recv(), await alice.recv()], ["Alice: hello"] * 2)
            expect(await alice.recv(), "Bob left")


# ------------------------------------------------------------------ refusals and endings


@checks.add
async def refused_handshake() -> None:
    expect((await refusal("/refuse"))[0], 403)


@checks.add
async def denial_response() -> None:
    status, body, headers = await refusal("/deny")
    expect((status, json.loads(body), headers["X-Kind"]), (418, {"reason": "teapot"}, "earl grey"))


@checks.add
async def closed_by_the_application() -> None:
    for code in [1000, 1001, 1008, 1011, 3000, 4999]:
        async with client(f"/close/{code}") as websocket:
            expect(await closing(websocket), (code, "as you wish"))


@checks.add
async def application_returns() -> None:
    # uvicorn ends the TCP connection.
    async with client("/returns") as websocket:
        expect((await closing(websocket))[0], 1006)


@checks.add
async def application_raises() -> None:
    async with client("/raises") as websocket:
        expect((await closing(websocket))[0], 1006)


@checks.add
async def closed_by_the_client() -> None:
    for code, reason in [(1000, ""), (1001, "leaving"), (3000, "Grüße"), (4999, "x" * 123)]:
        async with client("/watch") as websocket:
            await websocket.close(code, reason)
            expect(await disconnections.get(), (code, reason))
            expect((websocket.close_code, websocket.close_reason), (code, reason))


@checks.add
async def client_is_gone() -> None:
    async with client("/watch") as websocket:
        websocket.transport.abort()
        expect(await disconnections.get(), NO_CLOSE_FRAME)


@checks.add
async def message_too_big() -> None:
    for compressed in ["deflate", None]:
        async with client("/watch", {"ws_max_size": 1000}, compression=compressed) as websocket:
            await websocket.send("x" * 1000)
            await (await websocket.ping())
            await websocket.send("x" * 1001)
            expect((await closing(websocket))[0], 1009)
            # The original API tells what was received.
            expect((await disconnections.get())[0], 1006 if ORIGINAL else 1009)


@checks.add
async def server_stops() -> None:
    async with serving() as (server, port):
        async with connect(f"ws://127.0.0.1:{port}/watch") as websocket:
            # That the handler runs is known when it has answered.
            await (await websocket.ping())
            server.should_exit = True
            expect((await closing(websocket))[0], 1012)
            expect((await disconnections.get())[0], 1012)


# ------------------------------------------------------------------ on a plain socket

REQUEST = (
    "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: {version}\r\n\r\n"
)
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@contextlib.asynccontextmanager
async def plain(path: str, version: int = 13, **options: Any) -> AsyncIterator[Streams]:
    """Send a request over a plain socket."""
    async with serving(**options) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST.format(path=path, version=version).encode())
        try:
            yield reader, writer
        finally:
            writer.transport.abort()


async def opened(reader: asyncio.StreamReader) -> None:
    response = (await reader.readuntil(b"\r\n\r\n")).decode()
    expect(response.startswith("HTTP/1.1 101 "), True)
    # The answer to the key of RFC 6455 section 1.3.
    expect("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in response, True)


async def read_frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Read a short frame, and return its first byte and its payload."""
    first, length = await reader.readexactly(2)
    return first, await reader.readexactly(length)


def close_code(payload: bytes) -> int:
    (code,) = struct.unpack("!H", payload[:2])
    return int(code)


def masked(first: int, payload: bytes) -> bytes:
    """Return a frame of a client, masked with zeros."""
    return bytes([first, 0x80 | len(payload), 0, 0, 0, 0]) + payload


@checks.add
async def pings_are_not_answered() -> None:
    async with plain("/watch", ws_ping_interval=0.1, ws_ping_timeout=0.1) as (reader, _):
        await opened(reader)
        expect((await read_frame(reader))[0], 0x89)
        first, payload = await read_frame(reader)
        expect((first, close_code(payload)), (0x88, 1011))
        expect(await disconnections.get(), NO_CLOSE_FRAME)


@checks.add
async def bad_frames() -> None:
    for frame, code in [
        (b"\x81\x01x", 1002),  # not masked
        (masked(0x83, b"x"), 1002),  # an unknown opcode
        (masked(0xC1, b"x"), 1002),  # a reserved bit
        (masked(0x81, b"\xff"), 1007),  # not UTF-8
        (masked(0x80, b"x"), 1002),  # the continuation of nothing
    ]:
        async with plain("/watch", ws_per_message_deflate=False) as (reader, writer):
            await opened(reader)
            writer.write(frame)
            first, payload = await read_frame(reader)
            expect((first, close_code(payload)), (0x88, code))
            writer.write_eof()
            await disconnections.get()


@checks.add
async def messages_before_a_close_are_received() -> None:
    async with plain("/text", ws_per_message_deflate=False) as (reader, writer):
        await opened(reader)
        writer.write(masked(0x81, b"one") + masked(0x89, b"ping"))
        expect(
            {await read_frame(reader), await read_frame(reader)}, {(0x81, b"one"), (0x8A, b"ping")}
        )
        writer.write(masked(0x88, b"\x03\xe8"))
        expect(await read_frame(reader), (0x88, b"\x03\xe8"))
        expect(await reader.read(), b"")


@checks.add
async def wrong_version() -> None:
    async with plain("/text", version=12) as (reader, _):
        status = (await reader.readline()).split()[1]
        assert status in {b"400", b"426"}, status


@checks.add
async def end_of_stream_in_a_message() -> None:
    async with plain("/watch") as (reader, writer):
        await opened(reader)
        writer.write(masked(0x01, b"half a message"))
        writer.get_extra_info("socket").shutdown(socket.SHUT_WR)
        expect(await disconnections.get(), NO_CLOSE_FRAME)


asyncio.run(checks.run())
checks.finish()
