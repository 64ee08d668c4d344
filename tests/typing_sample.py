"""Programs as users write them, for ``mypy --strict``: what they see must be typed, and be right.

Nothing here is run. ``assert_type`` says what the checker is to find out by itself.
"""

from __future__ import annotations

import asyncio
import http
import logging
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from pathlib import Path
from typing import Any, assert_type

import websockets
import websockets.exceptions
from websockets import (
    ClientProtocol,
    Close,
    CloseCode,
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedOK,
    Data,
    ExtensionName,
    ExtensionParameter,
    Frame,
    Headers,
    HeadersLike,
    InvalidHandshake,
    InvalidStatus,
    LoggerLike,
    Opcode,
    Origin,
    Request,
    Response,
    Router,
    Server,
    ServerConnection,
    ServerProtocol,
    Side,
    State,
    StatusLike,
    Subprotocol,
    basic_auth,
    broadcast,
    route,
)
from websockets.asyncio.client import ClientConnection, connect, unix_connect
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import serve, unix_serve
from websockets.client import backoff
from websockets.extensions import ClientExtensionFactory, Extension
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    ServerPerMessageDeflateFactory,
)
from websockets.protocol import Event
from websockets.uri import WebSocketURI, parse_uri

# Clients


async def client() -> None:
    async with connect("ws://localhost") as websocket:
        assert_type(websocket, ClientConnection)
        await websocket.send("text")
        await websocket.send(b"binary")
        await websocket.send(bytearray(b"binary"), text=True)
        await websocket.send(["frag", "ments"])
        await websocket.send(chunks())
        assert_type(await websocket.recv(), str | bytes)
        assert_type(await websocket.recv(decode=True), str)
        assert_type(await websocket.recv(decode=False), bytes)
        async for message in websocket:
            assert_type(message, str | bytes)
        async for fragment in websocket.recv_streaming():
            assert_type(fragment, str | bytes)
        async for text in websocket.recv_streaming(decode=True):
            assert_type(text, str)
        pong = await websocket.ping()
        assert_type(await pong, float)
        await websocket.pong(b"data")
        await websocket.close(CloseCode.GOING_AWAY, "bye")
        await websocket.wait_closed()
        assert_type(websocket.state, State)
        assert_type(websocket.latency, float)
        assert_type(websocket.close_code, int | None)
        assert_type(websocket.close_reason, str | None)
        assert_type(websocket.subprotocol, Subprotocol | None)
        assert_type(websocket.request, Request | None)
        assert_type(websocket.response, Response | None)
        if websocket.response is not None:
            assert_type(websocket.response.headers, Headers)
        assert_type(websocket.protocol, ClientProtocol)
        assert_type(websocket.protocol.close_exc, ConnectionClosed)

    connection = await websockets.connect("ws://localhost", open_timeout=None, max_size=None)
    assert_type(connection, ClientConnection)
    assert_type(await unix_connect("/run/socket"), ClientConnection)
    async with connection as same, await unix_connect(Path("/run/socket")) as other:
        assert_type(same, ClientConnection)
        assert_type(other, ClientConnection)


async def chunks() -> AsyncIterator[str]:
    yield "frag"
    yield "ments"


async def all_arguments(logger: logging.LoggerAdapter[logging.Logger]) -> None:
    await connect(
        "wss://localhost",
        origin=Origin("https://example.com"),
        extensions=[ClientPerMessageDeflateFactory(client_max_window_bits=11)],
        subprotocols=[Subprotocol("chat")],
        compression=None,
        additional_headers={"Authorization": "Bearer s3cret"},
        user_agent_header=None,
        proxy=None,
        process_exception=lambda exc: None if isinstance(exc, OSError) else exc,
        ping_interval=None,
        ping_timeout=5,
        close_timeout=1.5,
        reconnect_delays=lambda: backoff(initial_delay=1),
        max_size=(2**20, 2**16),
        max_queue=(16, 4),
        write_limit=(2**16, None),
        logger=logger,
        create_connection=Talkative,
        ssl=ssl.create_default_context(),
        server_hostname="example.com",
    )


async def reconnecting() -> None:
    async for websocket in connect("ws://localhost"):
        assert_type(websocket, ClientConnection)
        try:
            await websocket.send("hello")
        except ConnectionClosed:
            continue


async def failures() -> None:
    try:
        await connect("ws://localhost")
    except InvalidStatus as exc:
        assert_type(exc.response, Response)
        assert_type(exc.response.status_code, int)
        assert_type(exc.response.body, bytes | bytearray)
    except (InvalidHandshake, websockets.exceptions.InvalidURI, OSError, TimeoutError) as exc:
        print(exc)
    except ConnectionClosedError as exc:
        assert_type(exc.rcvd, Close | None)
        if exc.rcvd is not None:
            assert_type((exc.rcvd.code, exc.rcvd.reason), tuple[int, str])
    except websockets.ConnectionClosedOK as exc:
        assert_type(exc, ConnectionClosedOK)


class Following(connect):
    """Subclasses have their say about redirects."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        answer = super().process_redirect(exc)
        return answer if isinstance(answer, Exception) else answer + "?again"


class Talkative(ClientConnection):
    """Connections of one's own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.count = 0

    async def send_counted(self, message: Data) -> None:
        self.count += 1
        await self.send(message)


# Servers


async def handler(websocket: ServerConnection) -> None:
    assert_type(websocket.remote_address, Any)
    assert_type(websocket.protocol, ServerProtocol)
    async for message in websocket:
        await websocket.send(message)


async def server() -> None:
    async with serve(handler, "localhost", 8765) as server:
        assert_type(server, Server)
        await server.serve_forever()

    running = await websockets.serve(handler, None, 0)
    assert_type(running, Server)
    for connection in running.connections:
        assert_type(connection, ServerConnection)
    running.close(close_connections=False, code=1012, reason="restart")
    await running.wait_closed()
    await unix_serve(handler, "/run/socket")


def health(connection: ServerConnection, request: Request) -> Response | None:
    if request.path == "/healthz":
        return connection.respond(http.HTTPStatus.OK, "fine\n")
    return None


async def check(connection: ServerConnection, request: Request) -> Response | None:
    return connection.respond(403, "no\n") if "Cookie" not in request.headers else None


def mark(connection: ServerConnection, request: Request, response: Response) -> Response | None:
    response.headers["X-Marked"] = "yes"
    return response


def select(connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    return offered[0] if offered else None


async def check_credentials(username: str, password: str) -> bool:
    return False


def all_of_server(context: ssl.SSLContext, logger: logging.Logger) -> Awaitable[Server]:
    serve(handler, process_request=check)
    serve(handler, process_request=basic_auth("realm", credentials=("name", "secret")))
    serve(handler, process_request=basic_auth(credentials=[("name", "secret")]))
    serve(handler, process_request=basic_auth(check_credentials=check_credentials))
    return serve(
        handler,
        ["localhost", "::1"],
        8765,
        origins=[Origin("https://example.com"), re.compile(r"https://.*\.example\.com"), None],
        extensions=[ServerPerMessageDeflateFactory(server_max_window_bits=11)],
        subprotocols=[Subprotocol("chat")],
        select_subprotocol=select,
        process_request=health,
        process_response=mark,
        server_header=None,
        logger=logger,
        create_connection=ServerConnection,
        ssl=context,
        reuse_port=True,
    )


def send_to_all(connections: set[ServerConnection]) -> None:
    broadcast(connections, "news")
    broadcast((connection for connection in connections), b"news", text=True, raise_exceptions=True)


# Without I/O


def sansio_client() -> None:
    protocol = ClientProtocol(parse_uri("ws://localhost"), max_size=None)
    protocol.send_request(protocol.connect())
    protocol.receive_data(b"HTTP/1.1 101 ...")
    protocol.receive_eof()
    for data in protocol.data_to_send():
        assert_type(data, bytes)
    for event in protocol.events_received():
        assert_type(event, Event)
        if isinstance(event, Response):
            assert_type(event.status_code, int)
        elif isinstance(event, Frame):
            assert_type((event.opcode, event.fin), tuple[Opcode, bool])
    if protocol.state is State.OPEN:
        protocol.send_text(b"text")
        protocol.send_binary(bytearray(b"binary"), fin=False)
        protocol.send_continuation(memoryview(b"more"), fin=True)
        protocol.send_close(1000, "done")
    assert_type(protocol.close_expected(), bool)
    assert_type(protocol.side, Side)
    assert_type(protocol.handshake_exc, Exception | None)


def sansio_server(request: Request) -> None:
    protocol = ServerProtocol(origins=None, subprotocols=[Subprotocol("chat")])
    response = protocol.accept(request)
    assert_type(response, Response)
    protocol.send_response(response)
    protocol.send_response(protocol.reject(http.HTTPStatus.NOT_FOUND, "nothing here\n"))
    protocol.fail(CloseCode.POLICY_VIOLATION, "no")


# What programs build on


def uri(uri: WebSocketURI) -> None:
    assert_type((uri.secure, uri.host, uri.port), tuple[bool, str, int])
    assert_type((uri.username, uri.password), tuple[str | None, str | None])


def headers(more: HeadersLike) -> Iterator[tuple[str, str]]:
    headers = Headers([("a", "b")], c="d")
    headers.update(more)
    headers["Set-Cookie"] = "e=f"
    assert_type(headers["a"], str)
    assert_type(headers.get("a"), str | None)
    assert_type(headers.get_all("a"), list[str])
    return headers.raw_items()


def status(status: StatusLike, logger: LoggerLike) -> int:
    logger.info("status %d", status)
    return int(status)


class Nothing(Extension):
    """Extensions of one's own."""

    name = ExtensionName("nothing")

    def encode(self, frame: Frame) -> Frame:
        return frame

    def decode(self, frame: Frame, *, max_size: int | None = None) -> Frame:
        return frame


class NothingFactory(ClientExtensionFactory):
    name = ExtensionName("nothing")

    def get_request_params(self) -> Sequence[ExtensionParameter]:
        return [("parameter", None)]

    def process_response_params(
        self, params: Sequence[ExtensionParameter], accepted_extensions: Sequence[Extension]
    ) -> Extension:
        return Nothing()


def both(connection: Connection) -> LoggerLike:
    """What works on either side."""
    return connection.logger


class Hosts(Router):
    """Rules of one's own."""

    def get_server_name(self, connection: ServerConnection, request: Request) -> str:
        return super().get_server_name(connection, request).lower()


async def routing(url_map: Any) -> None:
    async with route(url_map, "localhost", 8765, create_router=Hosts, ssl=True) as server:
        assert_type(server, Server)


if __name__ == "__main__":
    asyncio.run(client())
