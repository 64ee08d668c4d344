"""The server's own interface: connections, broadcast, authentication, sockets."""

from __future__ import annotations

import asyncio
import base64
import http
import os
import socket
import tempfile
from collections.abc import AsyncIterator

from websockets.asyncio.client import unix_connect
from websockets.asyncio.server import (
    ServerConnection,
    basic_auth,
    broadcast,
    serve,
    unix_serve,
)
from websockets.http11 import Request, Response

from ..ends import (
    CLOSE,
    QUIET,
    close_payload,
    connecting,
    echo,
    ending,
    masked,
    raw_client,
    serving,
    uri,
)
from ..scenario import Scenario, scenario


@scenario
async def broadcast_messages(s: Scenario) -> None:
    """broadcast() sends text and binary messages to all."""

    async def handler(websocket: ServerConnection) -> None:
        await websocket.wait_closed()

    async with serving(s, handler, logger=QUIET) as server:
        clients = [await connecting(server, logger=QUIET) for _ in range(3)]
        for message in ("text", b"bytes", bytearray(b"array"), memoryview(b"view")):
            broadcast(server.connections, message)
        broadcast(server.connections, b"\xc3\xa9", text=True)
        broadcast(server.connections, "é", text=False)
        for number, client in enumerate(clients):
            s.note(f"client {number}", *[await client.recv() for _ in range(6)])
            await client.close()


@scenario
async def broadcast_wrong_types(s: Scenario) -> None:
    """What is no message is a TypeError."""

    async def handler(websocket: ServerConnection) -> None:
        await websocket.wait_closed()

    async with serving(s, handler) as server, connecting(server):
        for message in (1, None, ["a"]):
            with s.failing(f"broadcast {message!r}"):
                broadcast(server.connections, message)  # type: ignore[arg-type]
            with s.failing(f"broadcast {message!r} to nobody"):
                broadcast([], message)  # type: ignore[arg-type]


@scenario
async def broadcast_to_closed(s: Scenario) -> None:
    """broadcast() leaves out connections that are closed."""
    connections: list[ServerConnection] = []

    async def handler(websocket: ServerConnection) -> None:
        connections.append(websocket)
        await websocket.wait_closed()

    async with serving(s, handler) as server:
        websocket = await connecting(server)
        await websocket.close()
        await asyncio.sleep(0.02)
        with s.failing("broadcast"):
            broadcast(connections, "late", raise_exceptions=True)
        with s.failing("broadcast"):
            broadcast(connections, "late")


@scenario
async def broadcast_within_fragments(s: Scenario) -> None:
    """broadcast() leaves out connections that are in the middle of a message, or says so."""
    ready = asyncio.Event()
    go_on = asyncio.Event()

    async def fragments() -> AsyncIterator[str]:
        yield "one"
        ready.set()
        await go_on.wait()
        yield "two"

    async def handler(websocket: ServerConnection) -> None:
        await websocket.send(fragments())

    async with serving(s, handler) as server, connecting(server) as websocket:
        await ready.wait()
        broadcast(server.connections, "between")
        with s.failing("broadcast"):
            broadcast(server.connections, "between", raise_exceptions=True)
        go_on.set()
        s.note("received", await websocket.recv())
        await websocket.wait_closed()


@scenario
async def server_attributes(s: Scenario) -> None:
    """What a server says about itself."""

    async with serving(s, echo) as server:
        s.note("serving", server.is_serving(), len(server.sockets), server.sockets[0].family)
        s.note("loop", server.get_loop() is asyncio.get_running_loop())
        async with connecting(server):
            s.note("connections", [type(item).__name__ for item in server.connections])
        await asyncio.sleep(0.02)
        s.note("connections", len(server.connections))
    s.note("closed", server.is_serving(), list(server.sockets))
    server.close()
    await server.wait_closed()
    with s.failing("serve_forever"):
        await server.serve_forever()


@scenario
async def start_later(s: Scenario) -> None:
    """start_serving=False."""

    async with serving(s, echo, start_serving=False) as server:
        s.note("serving", server.is_serving())
        await server.start_serving()
        s.note("serving", server.is_serving())
        async with connecting(server) as websocket:
            await websocket.send("hello")
            s.note("received", await websocket.recv())


@scenario
async def awaited(s: Scenario) -> None:
    """await serve(...)."""
    server = await serve(echo, "127.0.0.1", 0, compression=None)
    s.ports.append(server.sockets[0].getsockname()[1])
    async with connecting(server) as websocket:
        await websocket.send("hello")
        s.note("received", await websocket.recv())
    server.close()
    await server.wait_closed()


@scenario
async def existing_socket(s: Scenario) -> None:
    """sock= is a socket that is bound already, as systemd hands over."""
    sock = socket.create_server(("127.0.0.1", 0))
    s.ports.append(sock.getsockname()[1])
    async with serve(echo, sock=sock, compression=None) as server, connecting(server) as websocket:
        await websocket.send("hello")
        s.note("received", await websocket.recv())


@scenario
async def address_in_use(s: Scenario) -> None:
    """A port that is taken."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        s.ports.append(port)
        with s.failing("serve"):
            async with serve(echo, "127.0.0.1", port):
                pass


@scenario
async def unix_sockets(s: Scenario) -> None:
    """Unix sockets."""
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "socket")
        async with (
            unix_serve(echo, path, compression=None),
            unix_connect(path, compression=None) as websocket,
        ):
            s.note("request", websocket.request)
            await websocket.send("hello")
            s.note("received", await websocket.recv())
        async with (
            unix_serve(echo, path, compression=None),
            unix_connect(path, "ws://example.com/path", compression=None) as websocket,
        ):
            s.note("request", websocket.request)


@scenario
async def connection_class(s: Scenario) -> None:
    """create_connection= is the class of connections."""

    class Mine(ServerConnection):
        def hello(self) -> str:
            return "hello"

    async def handler(websocket: ServerConnection) -> None:
        assert isinstance(websocket, Mine)
        await websocket.send(websocket.hello())

    async with serving(s, handler, create_connection=Mine) as server:
        websocket = await connecting(server)
        s.note("received", await websocket.recv())
        await websocket.wait_closed()


@scenario
async def attributes_of_connections(s: Scenario) -> None:
    """Connections take attributes, can be hashed and compared."""
    seen: set[ServerConnection] = set()

    async def handler(websocket: ServerConnection) -> None:
        seen.add(websocket)
        websocket.user = "me"  # type: ignore[attr-defined]
        track = s.track("server")
        track.note("user", websocket.user)  # type: ignore[attr-defined]
        track.note("id", type(websocket.id).__name__, websocket.id == websocket.protocol.id)
        track.note("in set", websocket in seen, websocket in websocket.server.connections)
        track.note("repr", type(websocket).__name__ in repr(websocket))
        track.note("latency", websocket.latency)

    async with serving(s, handler) as server, connecting(server) as websocket:
        with s.failing("recv"):
            await websocket.recv()


@scenario
async def handler_with_wrong_signature(s: Scenario) -> None:
    """A handler that takes no connection."""

    async def handler() -> None:
        pass

    async with serving(s, handler) as server, connecting(server) as websocket:  # type: ignore[arg-type]
        with s.failing("recv"):
            await websocket.recv()
        ending(s, websocket)


@scenario
async def respond(s: Scenario) -> None:
    """respond() makes a response."""

    def hook(websocket: ServerConnection, request: Request) -> Response:
        for status, text in ((http.HTTPStatus.OK, "OK\n"), (404, "é"), (599, "")):
            with s.failing(f"respond {status}"):
                s.note("response", websocket.respond(status, text))
        return websocket.respond(http.HTTPStatus.IM_A_TEAPOT, "tea\n")

    async with serving(s, echo, process_request=hook) as server:
        with s.failing("connect"):
            await connecting(server)


# Basic authentication


def authorization(user: str, password: str) -> str:
    return f"Authorization: Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


async def asking(s: Scenario, hook: object, *headers: str) -> None:
    """Ask a server that wants credentials."""

    async def handler(websocket: ServerConnection) -> None:
        s.track("server").note("username", websocket.username)

    async with serving(s, handler, process_request=hook) as server:
        async with raw_client(s, server) as raw:
            await raw.request("/", *headers)
            first = await raw.response()
            if " 101 " in first:
                await raw.frame()
                await raw.send(masked(CLOSE, close_payload(1000)))
            await raw.end()


@scenario
async def auth_right(s: Scenario) -> None:
    """The right credentials."""
    hook = basic_auth("realm", credentials=("user", "pass:word"))
    await asking(s, hook, authorization("user", "pass:word"))


@scenario
async def auth_wrong(s: Scenario) -> None:
    """A wrong password."""
    hook = basic_auth("realm", credentials=("user", "password"))
    await asking(s, hook, authorization("user", "guess"))


@scenario
async def auth_several(s: Scenario) -> None:
    """Several users."""
    hook = basic_auth(credentials=[("one", "1"), ("twö", "2")])
    await asking(s, hook, authorization("twö", "2"))


@scenario
async def auth_missing(s: Scenario) -> None:
    """No credentials."""
    await asking(s, basic_auth('a "realm"', credentials=("user", "password")))


@scenario
async def auth_of_another_scheme(s: Scenario) -> None:
    """Another scheme."""
    hook = basic_auth("realm", credentials=("user", "password"))
    await asking(s, hook, "Authorization: Bearer token")


@scenario
async def auth_malformed(s: Scenario) -> None:
    """Credentials that are malformed."""
    hook = basic_auth("realm", credentials=("user", "password"))
    await asking(s, hook, "Authorization: Basic !!!")


@scenario
async def auth_without_colon(s: Scenario) -> None:
    """Credentials without a password."""
    hook = basic_auth("realm", credentials=("user", "password"))
    await asking(s, hook, f"Authorization: Basic {base64.b64encode(b'user').decode()}")


@scenario
async def auth_by_function(s: Scenario) -> None:
    """A function that checks credentials."""

    def check(username: str, password: str) -> bool:
        s.note("check", username, password)
        return password == "right"

    hook = basic_auth(check_credentials=check)
    await asking(s, hook, authorization("me", "right"))


@scenario
async def auth_by_coroutine(s: Scenario) -> None:
    """A coroutine that checks credentials."""

    async def check(username: str, password: str) -> bool:
        s.note("check", username, password)
        return password == "right"

    hook = basic_auth(check_credentials=check)
    await asking(s, hook, authorization("me", "wrong"))


@scenario
def auth_arguments(s: Scenario) -> None:
    """Arguments that make no sense."""
    with s.failing("nothing"):
        basic_auth()
    with s.failing("both"):
        basic_auth(credentials=("a", "b"), check_credentials=lambda username, password: True)
    for credentials in ("ab", ("a", 1), [("a", "b"), "c"], 1):
        with s.failing(f"credentials={credentials!r}"):
            basic_auth(credentials=credentials)  # type: ignore[arg-type]


@scenario
async def auth_of_client(s: Scenario) -> None:
    """A client that has its credentials in the URI."""

    async def handler(websocket: ServerConnection) -> None:
        await websocket.send(f"hello {websocket.username}")

    hook = basic_auth("realm", credentials=("user", "p%"))
    async with serving(s, handler, process_request=hook) as server:
        where = uri(server).replace("ws://", "ws://user:p%25@")
        websocket = await connecting(where)
        s.note("received", await websocket.recv())
        await websocket.wait_closed()
        with s.failing("wrong"):
            await connecting(where.replace("p%25", "wrong"))
