"""The original API, `websockets.legacy`: what most programs that use it do."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib
import warnings
from collections.abc import AsyncIterator
from typing import Any

from websockets.exceptions import ConnectionClosed

from ..ends import (
    CLOSE,
    KEY,
    PING,
    PONG,
    QUIET,
    TEXT,
    Raw,
    close_payload,
    frame,
    masked,
    raw_server,
)
from ..scenario import Scenario, scenario

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from websockets.legacy.auth import basic_auth_protocol_factory
    from websockets.legacy.client import WebSocketClientProtocol, connect
    from websockets.legacy.server import WebSocketServerProtocol, serve


@contextlib.asynccontextmanager
async def served(s: Scenario, handler: Any, **kwargs: Any) -> AsyncIterator[str]:
    """Run a server of the original API; yield its URI."""
    kwargs.setdefault("compression", None)
    async with serve(handler, "127.0.0.1", 0, logger=QUIET, **kwargs) as server:
        port = server.sockets[0].getsockname()[1]
        s.ports.append(port)
        yield f"ws://127.0.0.1:{port}"
        # Connections come to their end before the server does, in the log, too.
        await asyncio.sleep(0.02)


def connecting(where: str, **kwargs: Any) -> Any:
    kwargs.setdefault("compression", None)
    return connect(where, logger=QUIET, **kwargs)


@contextlib.asynccontextmanager
async def raw_client(s: Scenario, where: str) -> AsyncIterator[Raw]:
    port = int(where.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Raw(reader, writer, s.track("wire"))
    finally:
        writer.close()


async def echo(websocket: Any) -> None:
    async for message in websocket:
        await websocket.send(message)


@scenario
async def messages(s: Scenario) -> None:
    """Messages of each type between both ends."""
    async with served(s, echo) as where, connecting(where) as websocket:
        s.note("path", websocket.path, websocket.open, websocket.closed, websocket.secure)
        for message in ("é", b"bytes", bytearray(b"array"), memoryview(b"view"), ["a", "b"], ""):
            await websocket.send(message)
            s.note("received", await websocket.recv())
        await (await websocket.ping("x"))
        await websocket.pong()
        for wrong in (1, None, {"a": 1}):
            with s.failing(f"send {wrong!r}"):
                await websocket.send(wrong)
    s.note("closed", websocket.open, websocket.closed, websocket.close_code, websocket.close_reason)


@scenario
async def handler_with_path(s: Scenario) -> None:
    """A handler that takes the path, too."""

    async def handler(websocket: Any, path: str) -> None:
        s.track("server").note("path", path, websocket.path)

    async with served(s, handler) as where, raw_client(s, where) as raw:
        await raw.open("/p?q")
        await raw.frame()
        await raw.close_as_client()


@scenario
async def headers_of_both(s: Scenario) -> None:
    """extra_headers, subprotocols and origin."""

    async def handler(websocket: Any) -> None:
        track = s.track("server")
        track.note("request", list(websocket.request_headers.raw_items()))
        track.note("subprotocol", websocket.subprotocol, websocket.origin)

    async with served(
        s, handler, extra_headers={"X-Server": "1"}, subprotocols=["b"], origins=["https://a"]
    ) as where:
        async with connecting(
            where + "/path",
            extra_headers=[("X-Client", "2")],
            subprotocols=["a", "b"],
            origin="https://a",
            user_agent_header="mine",
        ) as websocket:
            s.note("response", list(websocket.response_headers.raw_items()))
            s.note("subprotocol", websocket.subprotocol, websocket.extensions)


@scenario
async def refused(s: Scenario) -> None:
    """A client that is refused, and another that is not answered."""

    async def not_found(raw: Raw) -> None:
        await raw.head()
        await raw.respond("404 Not Found", "Content-Length: 0")

    async def nothing(raw: Raw) -> None:
        await raw.head()

    async with raw_server(s, not_found, nothing) as where:
        for _ in range(2):
            try:
                await connecting(where)
            except Exception as exc:
                s.note("connect", exc, getattr(exc, "status_code", None))


@scenario
async def process_request(s: Scenario) -> None:
    """A health check."""

    async def hook(path: str, headers: Any) -> Any:
        s.note("hook", path, headers["Host"].partition(":")[0])
        return (200, [("X-Hook", "1")], b"OK\n") if path == "/healthz" else None

    async with served(s, echo, process_request=hook) as where:
        async with raw_client(s, where) as raw:
            await raw.request("/healthz")
            await raw.response()
            # In which order headers come does not matter.
            raw.track.lines[1:-1] = sorted(raw.track.lines[1:-1])
            await raw.end()
        async with raw_client(s, where) as raw:
            await raw.open("/")
            await raw.send(masked(CLOSE))
            await raw.end()


@scenario
async def basic_auth(s: Scenario) -> None:
    """Basic authentication."""
    factory = basic_auth_protocol_factory(realm="realm", credentials=("user", "pass"))
    async with served(s, echo, create_protocol=factory) as where:
        for credentials in ("user:pass@", "user:wrong@", ""):
            with s.failing(f"connect {credentials}"):
                async with connecting(where.replace("ws://", f"ws://{credentials}")) as websocket:
                    await websocket.send("hello")
                    s.note("received", await websocket.recv())


@scenario
async def closings(s: Scenario) -> None:
    """Codes and reasons of the peer."""
    for payload in (b"", close_payload(1000), close_payload(1001, "bye"), close_payload(4000)):

        async def peer(raw: Raw, payload: bytes = payload) -> None:
            await raw.accept()
            await raw.send(frame(TEXT, "last"), frame(CLOSE, payload))
            await raw.frame()
            raw.eof()
            await raw.end()

        async with raw_server(s, peer) as where:
            websocket = await connecting(where)
            for _ in range(2):
                with s.failing("recv"):
                    s.note("received", await websocket.recv())
            with s.failing("send"):
                await websocket.send("late")
            with s.failing("ping"):
                await websocket.ping()
            s.note("closed", websocket.close_code, websocket.close_reason)


@scenario
async def lost(s: Scenario) -> None:
    """The connection is lost, and the peer breaks the protocol."""

    async def gone(raw: Raw) -> None:
        await raw.accept()
        raw.eof()
        await raw.end()

    async def bad(raw: Raw) -> None:
        await raw.accept()
        await raw.send(frame(TEXT, "x", rsv=2))
        await raw.frame()
        raw.eof()
        await raw.end()

    for peer in (gone, bad):
        async with raw_server(s, peer) as where:
            websocket = await connecting(where)
            with s.failing("recv"):
                await websocket.recv()
            s.note("closed", websocket.close_code, websocket.close_reason)


@scenario
async def pings(s: Scenario) -> None:
    """Pings and their pongs."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        for _ in range(2):
            await raw.frame()
        await raw.send(frame(PONG, "b"), frame(PING, "c"))
        await raw.frame()
        await raw.close_handshake()

    async with raw_server(s, peer) as where:
        async with connecting(where) as websocket:
            first, second = await websocket.ping("a"), await websocket.ping(b"b")
            await asyncio.wait_for(asyncio.gather(first, second), 5)
            await asyncio.sleep(0.02)


@scenario
async def protocol_of_the_application(s: Scenario) -> None:
    """A subclass of the server's protocol."""

    class Mine(WebSocketServerProtocol):
        async def process_request(self, path: str, headers: Any) -> Any:
            s.note("process_request", path)
            return await super().process_request(path, headers)

        def hello(self) -> str:
            return "hello"

    async def handler(websocket: Any) -> None:
        await websocket.send(websocket.hello())
        await websocket.recv()

    async with served(s, handler, create_protocol=Mine) as where:
        async with raw_client(s, where) as raw:
            await raw.open("/path")
            await raw.frame()
            await raw.close_as_client()


@scenario
async def server_closes(s: Scenario) -> None:
    """The server closes, with connections open."""

    async def handler(websocket: Any) -> None:
        try:
            await websocket.recv()
        except ConnectionClosed as exc:
            s.track("server").note("recv", type(exc).__name__, str(exc))

    async with served(s, handler) as where:
        websocket = await connecting(where)
    with s.failing("recv"):
        await websocket.recv()
    s.note("closed", websocket.close_code, websocket.close_reason)


@scenario
async def reconnecting(s: Scenario) -> None:
    """async for connects again."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        await raw.send(frame(TEXT, "hello"), frame(CLOSE, close_payload(1001)))
        await raw.frame()
        raw.eof()

    async with raw_server(s, peer) as where:
        number = 0
        async for websocket in connecting(where):
            number += 1
            try:
                while True:
                    s.note("received", await websocket.recv())
            except ConnectionClosed as exc:
                s.note(f"connection {number}", exc)
            if number == 2:
                break


@scenario
def modules_and_warnings(s: Scenario) -> None:
    """What the modules export, and that names elsewhere warn."""
    for name in ("auth", "client", "protocol", "server"):
        module = importlib.import_module(f"websockets.legacy.{name}")
        names = sorted(set(module.__all__) - {"HTTPResponse"})
        s.note(name, names, all(hasattr(module, name) for name in names))
    for module_name, name in (
        ("websockets", "WebSocketClientProtocol"),
        ("websockets", "WebSocketServerProtocol"),
        ("websockets.client", "connect"),
        ("websockets.server", "serve"),
        ("websockets.exceptions", "InvalidStatusCode"),
        ("websockets", "InvalidStatusCode"),
        ("websockets", "AbortHandshake"),
    ):
        with s.failing(f"{module_name}.{name}"):
            module = importlib.import_module(module_name)
            s.note("name", getattr(getattr(module, name), "__qualname__", None))


@scenario
async def redirected(s: Scenario) -> None:
    """A client follows redirects, up to a limit."""

    async def moved(raw: Raw) -> None:
        await raw.head()
        await raw.respond("302 Found", "Location: /there", "Content-Length: 0")

    async def accept(raw: Raw) -> None:
        await raw.accept()
        await raw.close_handshake()

    async with raw_server(s, moved, accept) as where:
        async with connecting(where + "/here") as websocket:
            s.note("path", websocket.path)


@scenario
async def limits(s: Scenario) -> None:
    """max_size, in both directions."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        await raw.send(frame(TEXT, "x" * 100), frame(TEXT, "x" * 101))
        await raw.frame()
        raw.eof()
        await raw.end()

    async with raw_server(s, peer) as where:
        websocket = await connecting(where, max_size=100)
        for _ in range(2):
            with s.failing("recv"):
                s.note("received", await websocket.recv())
        s.note("closed", websocket.close_code, websocket.close_reason)


@scenario
async def bad_text(s: Scenario) -> None:
    """A text message that is not UTF-8."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        await raw.send(frame(TEXT, b"\xff"))
        await raw.frame()
        raw.eof()
        await raw.end()

    async with raw_server(s, peer) as where:
        websocket = await connecting(where)
        try:
            await websocket.recv()
        except Exception as exc:
            s.note("recv", type(exc).__name__, getattr(exc, "sent", None))


@scenario
async def two_receivers(s: Scenario) -> None:
    """Only one coroutine may receive."""
    async with served(s, echo) as where, connecting(where) as websocket:
        task = asyncio.create_task(websocket.recv())
        await asyncio.sleep(0.01)
        try:
            await websocket.recv()
        except RuntimeError as exc:
            s.note("RuntimeError", str(exc))
        await websocket.send("for the first")
        s.note("received", await task)


@scenario
async def cancelled(s: Scenario) -> None:
    """recv() with a timeout loses no message."""
    async with served(s, echo) as where, connecting(where) as websocket:
        with s.failing("timeout"):
            await asyncio.wait_for(websocket.recv(), 0.02)
        await websocket.send("kept")
        s.note("received", await websocket.recv())


@scenario
async def handler_fails(s: Scenario) -> None:
    """A handler that raises, and one that closes."""

    async def handler(websocket: Any) -> None:
        if websocket.path == "/fail":
            raise KeyError("mine")
        await websocket.close(4000, "enough")

    async with served(s, handler) as where:
        for path in ("/fail", "/close"):
            websocket = await connecting(where + path)
            with s.failing(f"recv {path}"):
                await websocket.recv()
            s.note("closed", websocket.close_code, websocket.close_reason)


@scenario
async def client_closes(s: Scenario) -> None:
    """A client closes with codes and reasons."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        await raw.close_handshake()

    for arguments in ((), (1001,), (4000, "bye")):
        async with raw_server(s, peer) as where:
            websocket = await connecting(where)
            with s.failing(f"close{arguments}"):
                await websocket.close(*arguments)
            s.note("closed", websocket.close_code, websocket.close_reason)


@scenario
async def close_never_answered(s: Scenario) -> None:
    """A server that does not answer the close frame."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        await raw.end()

    async with raw_server(s, peer) as where:
        websocket = await connecting(where, close_timeout=0.1)
        with s.failing("close"):
            await websocket.close()
        with s.failing("recv"):
            await websocket.recv()
        s.note("closed", websocket.close_code, websocket.close_reason)


@scenario
async def keepalive(s: Scenario) -> None:
    """A server that does not answer pings."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        track, raw.track = raw.track, type(raw.track)()
        while (await raw.frame())[0] == PING:
            pass
        track.note("frames", raw.track.lines[-1])
        raw.eof()

    async with raw_server(s, peer) as where:
        websocket = await connecting(where, ping_interval=0.05, ping_timeout=0.05)
        try:
            await websocket.recv()
        except Exception as exc:
            s.note("recv", type(exc).__name__, str(exc))


@scenario
async def subprotocols(s: Scenario) -> None:
    """The application chooses a subprotocol."""

    def select(client: Any, server: Any) -> Any:
        s.note("select", list(client), list(server))
        return client[-1]

    async with (
        served(s, echo, subprotocols=["a", "b"], select_subprotocol=select) as where,
        connecting(where, subprotocols=["b", "a"]) as websocket,
    ):
        s.note("subprotocol", websocket.subprotocol)


@scenario
async def origins(s: Scenario) -> None:
    """An origin that is not allowed."""
    async with served(s, echo, origins=["https://a"]) as where:
        for origin in ("https://a", "https://b", None):
            try:
                async with connecting(where, origin=origin):
                    s.note("connected", origin)
            except Exception as exc:
                s.note("refused", origin, str(exc))


@scenario
async def broadcasting(s: Scenario) -> None:
    """broadcast() to all connections."""
    from websockets.legacy.protocol import broadcast

    connections: set[Any] = set()

    async def handler(websocket: Any) -> None:
        connections.add(websocket)
        await websocket.wait_closed()

    async with served(s, handler) as where:
        clients = [await connecting(where) for _ in range(2)]
        await asyncio.sleep(0.02)
        broadcast(connections, "text")
        broadcast(connections, b"bytes")
        with s.failing("wrong type"):
            broadcast(connections, 1)  # type: ignore[arg-type]
        for client in clients:
            s.note("received", await client.recv(), await client.recv())
            await client.close()


@scenario
async def compression(s: Scenario) -> None:
    """Messages between both ends, compressed."""
    async with (
        served(s, echo, compression="deflate") as where,
        connecting(where, compression="deflate") as websocket,
    ):
        s.note("extensions", *(extension.name for extension in websocket.extensions))
        for message in ("a" * 1000, b"b" * 70000, "short"):
            await websocket.send(message)
            s.note("received", await websocket.recv())


@scenario
async def arguments_of_old(s: Scenario) -> None:
    """Arguments with names of old."""
    with s.failing("timeout"):
        async with served(s, echo, timeout=5) as where, connecting(where, timeout=5) as websocket:
            s.note("close_timeout", websocket.close_timeout)
    with s.failing("klass"):
        async with served(s, echo, klass=WebSocketServerProtocol) as where:
            async with connecting(where):
                pass


@scenario
async def iterables(s: Scenario) -> None:
    """Fragments, and iterables of wrong types."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        await raw.close_handshake()

    async def fragments() -> AsyncIterator[str]:
        yield "a"
        yield "b"

    async with raw_server(s, peer) as where, connecting(where) as websocket:
        await websocket.send(["one", "two"])
        await websocket.send(fragments())
        await websocket.send([b"bytes"])
        await websocket.send([])
        await websocket.send("x" * 126)


@scenario
async def max_size_changed(s: Scenario) -> None:
    """A limit that the application changes, in a constructor and while it is connected."""

    class Unlimited(WebSocketClientProtocol):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.max_size = None

    async def forgiving(websocket: Any) -> None:
        with contextlib.suppress(ConnectionClosed):
            await echo(websocket)

    async with served(s, forgiving, max_size=None) as where:
        async with connecting(where, create_protocol=Unlimited, max_size=10) as websocket:
            await websocket.send("x" * 100)
            s.note("received", len(await websocket.recv()), websocket.max_size)
        async with connecting(where) as websocket:
            websocket.max_size = 10
            await websocket.send("x" * 100)
            with contextlib.suppress(ConnectionClosed):
                await websocket.recv()
            s.note("failed", websocket.max_size, websocket.close_sent.code)


@scenario
async def process_request_of_any_kind(s: Scenario) -> None:
    """Functions, coroutine functions, objects that can be called, and methods."""

    class Called:
        async def __call__(self, path: str, headers: Any) -> None:
            s.note("object")

    def function(path: str, headers: Any) -> None:
        s.note("function")

    class Custom(WebSocketServerProtocol):
        def process_request(self, path: str, headers: Any) -> Any:
            s.note("method")
            return None

    hooks: list[dict[str, Any]] = [{"process_request": Called()}, {"process_request": function}]
    hooks += [{"process_request": lambda path, headers: Called()(path, headers)}]
    hooks += [{"create_protocol": Custom}]
    for hook in hooks:
        async with served(s, echo, **hook) as where, raw_client(s, where) as raw:
            await raw.open()
            await raw.close_as_client()


@scenario
async def handlers_of_any_kind(s: Scenario) -> None:
    """Methods, objects that can be called, partial functions, and optional arguments."""

    class Called:
        async def __call__(self, websocket: Any) -> None:
            await websocket.send("object")

        async def method(self, websocket: Any, path: str) -> None:
            await websocket.send(f"method {path}")

    async def star(*args: Any) -> None:
        await args[0].send(f"{len(args)} arguments")

    async def optional(websocket: Any, path: str | None = None) -> None:
        await websocket.send(f"path {path}")

    async def three(word: str, websocket: Any, path: str) -> None:
        await websocket.send(f"{word} {path}")

    async def none() -> None: ...

    handlers = [Called(), Called().method, star, optional, functools.partial(three, "x"), none]
    for handler in handlers:
        async with served(s, handler) as where, connecting(f"{where}/p") as websocket:
            with s.failing("recv"):
                s.note("received", await websocket.recv())


@scenario
async def by_hand(s: Scenario) -> None:
    """A protocol that a server makes and feeds itself, with a transport of its own."""

    class Transport(asyncio.Transport):
        def write(self, data: Any) -> None:
            s.note("written", bytes(data))

        def set_write_buffer_limits(self, high: Any = None, low: Any = None) -> None: ...
        def write_eof(self) -> None: ...
        def can_write_eof(self) -> bool:
            return True

        def close(self) -> None: ...
        def abort(self) -> None: ...
        def is_closing(self) -> bool:
            return False

    class Serving:
        def register(self, protocol: Any) -> None: ...
        def unregister(self, protocol: Any) -> None: ...
        def is_serving(self) -> bool:
            return True

    track = s.track("handler")

    async def handler(websocket: Any) -> None:
        try:
            while True:
                message = await websocket.recv()
                track.note("received", message)
                await websocket.send(message)
        except ConnectionClosed:
            track.note("closed", websocket.close_code, websocket.close_reason)

    transport = Transport({"peername": ("192.0.2.1", 5), "sockname": ("192.0.2.2", 80)})
    protocol = WebSocketServerProtocol(handler, Serving(), ping_interval=None, logger=QUIET)  # type: ignore[arg-type]
    protocol.connection_made(transport)
    s.note("addresses", protocol.local_address, protocol.remote_address)
    request = (
        "GET /path HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    for data in (
        request[:70].encode(),
        request[70:].encode(),
        masked(TEXT, "one") + masked(TEXT, "two"),
        *(bytes([byte]) for byte in masked(TEXT, "slow")),
        masked(PING, b"ping"),
        masked(CLOSE, close_payload(1001, "bye")),
    ):
        protocol.data_received(data)
        await asyncio.sleep(0.005)
    protocol.eof_received()
    protocol.connection_lost(None)
    await asyncio.sleep(0.01)
    s.note("closed", protocol.closed, protocol.close_code, protocol.close_reason)


@scenario
async def subclass_with_a_close_of_its_own(s: Scenario) -> None:
    """Handlers that fail, and a server that closes, where close() has fewer arguments."""

    class Short(WebSocketServerProtocol):
        async def close(self) -> None:  # type: ignore[override]
            await super().close()

    class Coded(WebSocketServerProtocol):
        async def close(self, code: int = 1000) -> None:  # type: ignore[override]
            await super().close(code)

    async def fail(websocket: Any) -> None:
        raise ValueError

    async with served(s, fail, create_protocol=Short) as where, raw_client(s, where) as raw:
        await raw.open()
        await raw.end()
    async with serve(echo, "127.0.0.1", 0, create_protocol=Coded, logger=QUIET) as server:
        port = server.sockets[0].getsockname()[1]
        s.ports.append(port)
        async with connecting(f"ws://127.0.0.1:{port}") as websocket:
            server.close()
            await websocket.wait_closed()
            s.note("closed", websocket.close_code, websocket.close_reason)
