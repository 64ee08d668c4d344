"""What applications do with the interface: subclasses, patches, loggers, extensions, variables."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import pty
import re
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from websockets.asyncio.client import ClientConnection, connect, unix_connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed, NegotiationError
from websockets.extensions import ClientExtensionFactory, Extension, ServerExtensionFactory
from websockets.frames import Frame
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import ExtensionName, ExtensionParameter

from ..ends import (
    CLOSE,
    QUIET,
    TEXT,
    Raw,
    close_payload,
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


async def fail() -> None:
    raise KeyError("mine")


async def accept(raw: Raw) -> None:
    await raw.accept()
    await raw.close_handshake()


# Subclasses and patches


@scenario
async def redirects_of_the_application(s: Scenario) -> None:
    """A subclass of connect that follows no redirects."""

    class Mine(connect):
        def process_redirect(self, exc: Exception) -> Any:
            s.note("process_redirect", exc)
            return exc

    async def peer(raw: Raw) -> None:
        await raw.head()
        await raw.respond("302 Found", "Location: /other", "Content-Length: 0")

    async with raw_server(s, peer) as where:
        with s.failing("connect"):
            await Mine(where, proxy=None, compression=None)


@scenario
async def messages_of_the_application(s: Scenario) -> None:
    """A subclass of the connection that changes what recv() and send() do."""

    class Mine(ClientConnection):
        async def recv(self, decode: bool | None = None) -> Any:
            return f"<{await super().recv(decode)!r}>"

        async def send(self, message: Any, text: bool | None = None) -> None:  # type: ignore[override]
            await super().send(f"[{message}]", text=text)

    async def peer(raw: Raw) -> None:
        await raw.accept()
        await raw.frame()
        await raw.send(frame(TEXT, "one"), frame(TEXT, "two"), frame(CLOSE, close_payload(1000)))
        await raw.frame()
        raw.eof()
        await raw.end()

    async with raw_server(s, peer) as where:
        websocket = await connecting(where, create_connection=Mine)
        await websocket.send("hello")
        s.note("received", await websocket.recv())
        async for message in websocket:
            s.note("iterated", message)


@scenario
async def arguments_of_create_connection(s: Scenario) -> None:
    """What the event loop's create_connection() is called with."""
    loop = asyncio.get_running_loop()
    real = loop.create_connection

    async def patched(factory: Any, *args: Any, **kwargs: Any) -> Any:
        s.note("create_connection", args, {name: kwargs[name] for name in sorted(kwargs)})
        result = await real(factory, *args, **kwargs)
        s.note("product", type(result[1]).__name__, type(result[1].protocol).__name__)
        return result

    loop.create_connection = patched  # type: ignore[assignment, method-assign]
    async with raw_server(s, accept) as where:
        async with connecting(where, local_addr=("127.0.0.1", 0), happy_eyeballs_delay=0.5):
            pass


@scenario
async def arguments_of_create_server(s: Scenario) -> None:
    """What the event loop's create_server() is called with."""
    loop = asyncio.get_running_loop()
    real = loop.create_server

    async def patched(factory: Any, *args: Any, **kwargs: Any) -> Any:
        s.note("create_server", args, {name: kwargs[name] for name in sorted(kwargs)})
        return await real(factory, *args, **kwargs)

    loop.create_server = patched  # type: ignore[assignment, method-assign]
    async with serving(s, echo, reuse_address=True, backlog=5) as server:
        async with connecting(server):
            pass


@scenario
async def unknown_arguments(s: Scenario) -> None:
    """Arguments that nobody knows."""
    with s.failing("connect"):
        await connect("ws://127.0.0.1:9", unknown=1, proxy=None)
    with s.failing("serve"):
        await serve(echo, "127.0.0.1", 0, unknown=1)
    with s.failing("unix_connect"):
        await unix_connect("/nonexistent/socket")
    for name in ("extra_headers", "legacy", "klass", "loop"):
        kwargs: dict[str, Any] = {name: None}
        with s.failing(name):
            await connect("ws://127.0.0.1:9", proxy=None, **kwargs)


@scenario
async def connect_twice(s: Scenario) -> None:
    """One connect object, awaited twice."""
    async with raw_server(s, accept, accept) as where:
        connecting_twice = connecting(where)
        for _ in range(2):
            websocket = await connecting_twice
            s.note("state", websocket.state)
            await websocket.close()


@scenario
async def objects_without_await(s: Scenario) -> None:
    """connect() and serve() do nothing until they are awaited."""
    client = connect("ws://127.0.0.1:9")
    s.note("attributes", client.uri, client.logger.name)
    serve(echo, "127.0.0.1", 9)


@scenario
async def application_of_old(s: Scenario) -> None:
    """Attributes that applications of other versions look for."""
    async with serving(s, echo) as server, connecting(server) as websocket:
        for name in (
            "open",
            "closed",
            "path",
            "request_headers",
            "response_headers",
            "host",
            "port",
            "secure",
            "recv_bufsize",
            "extensions",
            "username",
            "debug",
            "side",
            "max_queue",
        ):
            s.note(name, hasattr(websocket, name))


# Logging


@scenario
async def logger_adapter(s: Scenario) -> None:
    """A logger adapter of the application's."""

    class Adapter(logging.LoggerAdapter):  # type: ignore[type-arg]
        def process(self, msg: Any, kwargs: Any) -> Any:
            websocket = kwargs.get("extra", {}).get("websocket")
            return f"{getattr(websocket, '__class__', None)}: {msg}", kwargs

    adapter = Adapter(logging.getLogger("application"), {})
    async with raw_server(s, accept) as where:
        async with connecting(where, logger=adapter) as websocket:
            for logger in (websocket.logger, websocket.protocol.logger):
                s.note("logger", type(logger).__name__)


@scenario
async def logger_without_debug(s: Scenario) -> None:
    """What is logged where debugging is off."""
    logger = logging.getLogger("quiet.application")

    async def handler(websocket: ServerConnection) -> None:
        s.track("server").note("debug", websocket.protocol.debug)
        await websocket.recv()

    async with serving(s, handler, logger=logger) as server:
        s.note("logger", server.logger.name)
        async with raw_client(s, server) as raw:
            await raw.open()
            await raw.send(masked(TEXT, "x"))
            await raw.frame()
            await raw.send(masked(CLOSE))
            await raw.end()
        async with raw_client(s, server) as raw:
            await raw.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await raw.response()


@scenario
async def fields_of_log_records(s: Scenario) -> None:
    """Log records have the connection."""
    seen: list[Any] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            websocket = getattr(record, "websocket", None)
            seen.append(None if websocket is None else websocket.id)

    logger = logging.getLogger("records")
    logger.setLevel(logging.DEBUG)
    handler = Handler()
    logger.addHandler(handler)
    try:
        async with raw_server(s, accept) as where:
            async with connecting(where, logger=logger) as websocket:
                pass
    finally:
        logger.removeHandler(handler)
    s.note("records", [item == websocket.id for item in seen])


# Extensions


@dataclasses.dataclass
class Rot13(Extension):
    """Sets RSV2 and shifts letters."""

    name = ExtensionName("x-rot13")

    def encode(self, frame: Frame) -> Frame:
        if frame.opcode not in (1, 2):
            return frame
        return dataclasses.replace(frame, data=rot13(frame.data), rsv2=True)

    def decode(self, frame: Frame, *, max_size: int | None = None) -> Frame:
        if not frame.rsv2:
            return frame
        return dataclasses.replace(frame, data=rot13(frame.data), rsv2=False)


def rot13(data: Any) -> bytes:
    return bytes((c - 97 + 13) % 26 + 97 if 97 <= c <= 122 else c for c in bytes(data))


class ClientRot13(ClientExtensionFactory):
    name = ExtensionName("x-rot13")

    def get_request_params(self) -> Sequence[ExtensionParameter]:
        return [("strength", "13"), ("flag", None)]

    def process_response_params(
        self, params: Sequence[ExtensionParameter], accepted_extensions: Sequence[Extension]
    ) -> Extension:
        if params:
            raise NegotiationError(f"unexpected parameters: {params}")
        return Rot13()


class ServerRot13(ServerExtensionFactory):
    name = ExtensionName("x-rot13")

    def process_request_params(
        self, params: Sequence[ExtensionParameter], accepted_extensions: Sequence[Extension]
    ) -> tuple[list[ExtensionParameter], Extension]:
        if dict(params).get("strength") != "13":
            raise NegotiationError("too strong")
        return [], Rot13()


@scenario
async def extension_of_both_ends(s: Scenario) -> None:
    """An extension of the application's, on both ends."""
    async with serving(s, echo, extensions=[ServerRot13()]) as server:
        async with connecting(server, extensions=[ClientRot13()]) as websocket:
            s.note("extensions", *(item.name for item in websocket.protocol.extensions))
            await websocket.send("hello")
            s.note("received", await websocket.recv())


@scenario
async def extension_on_the_wire(s: Scenario) -> None:
    """An extension of the application's together with compression."""

    async def peer(raw: Raw) -> None:
        await raw.accept("Sec-WebSocket-Extensions: x-rot13")
        await raw.send(frame(TEXT, "uryyb", rsv=2), frame(TEXT, "plain"))
        await raw.close_handshake()

    async with raw_server(s, peer) as where:
        extensions = [ClientRot13()]
        async with connecting(where, extensions=extensions, compression="deflate") as websocket:
            for _ in range(2):
                s.note("received", await websocket.recv())
            await websocket.send("hello")


@scenario
async def extension_refused_by_both(s: Scenario) -> None:
    """A server's factory refuses, and a client's."""
    async with serving(s, echo, extensions=[ServerRot13()]) as server:
        async with raw_client(s, server) as raw:
            await raw.open("/", "Sec-WebSocket-Extensions: x-rot13; strength=26")
            await raw.send(masked(CLOSE))
            await raw.end()

    async def peer(raw: Raw) -> None:
        await raw.accept("Sec-WebSocket-Extensions: x-rot13; strength=26")
        await raw.end()

    async with raw_server(s, peer) as where:
        with s.failing("connect"):
            await connecting(where, extensions=[ClientRot13()])


@scenario
def extensions_without_io(s: Scenario) -> None:
    """What an extension does to frames of the protocol without I/O."""
    from websockets.uri import parse_uri

    client = ClientProtocol(
        parse_uri("ws://example.com/"), extensions=[ClientRot13()], state=State.CONNECTING
    )
    server = ServerProtocol(extensions=[ServerRot13()])
    client.send_request(client.connect())
    server.receive_data(b"".join(client.data_to_send()))
    server.send_response(server.accept(server.events_received()[0]))  # type: ignore[arg-type]
    client.receive_data(b"".join(server.data_to_send()))
    client.events_received()
    client.send_text(b"hello", fin=False)
    client.send_continuation(b"world", fin=True)
    client.send_ping(b"ping")
    data = client.data_to_send()
    s.note("bytes", *data)
    server.receive_data(b"".join(data))
    s.note("events", *server.events_received())
    s.note("exception", server.parser_exc)


# Ends of all kinds


@scenario
async def sender_that_is_cut_off(s: Scenario) -> None:
    """A sender waits for the peer to read when the connection is lost."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        await asyncio.sleep(0.2)
        raw.reset()

    async with raw_server(s, peer) as where:
        websocket = await connecting(where, logger=QUIET)
        with s.failing("send"):
            for _ in range(100):
                await websocket.send(b"x" * 2**20)
        await websocket.wait_closed()
        s.note("state", websocket.state)


@scenario
async def close_behind_data_nobody_reads(s: Scenario) -> None:
    """close() behind data that the peer does not read gives up after close_timeout."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        await asyncio.sleep(0.6)

    async with raw_server(s, peer) as where:
        websocket = await connecting(where, logger=QUIET, close_timeout=0.2)
        with s.failing("send"):
            async with asyncio.timeout(0.1):
                for _ in range(100):
                    await websocket.send(b"x" * 2**20)
        with s.failing("close"):
            async with asyncio.timeout(2):
                await websocket.close()
        s.note("state", websocket.state)


@scenario
async def client_gone_while_handler_is_busy(s: Scenario) -> None:
    """The client has gone when the handler sends."""

    async def handler(websocket: ServerConnection) -> None:
        track = s.track("server")
        await asyncio.sleep(0.1)
        with track.failing("send"):
            await websocket.send("late")
        with track.failing("recv"):
            track.note("received", await websocket.recv())
        with track.failing("recv"):
            track.note("received", await websocket.recv())
        with track.failing("close"):
            await websocket.close()

    async with serving(s, handler) as server, raw_client(s, server) as raw:
        await raw.open()
        await raw.send(masked(TEXT, "last"), masked(CLOSE, close_payload(1001)))
        await raw.end()
        raw.close()
        await asyncio.sleep(0.15)


@scenario
async def streaming_cut_short(s: Scenario) -> None:
    """The connection is closed, and lost, within recv_streaming()."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        await raw.send(frame(TEXT, "one", fin=False))
        await asyncio.sleep(0.03)
        raw.eof()
        await raw.end()

    async with raw_server(s, peer) as where:
        websocket = await connecting(where)
        with s.failing("iteration"):
            async for fragment in websocket.recv_streaming():
                s.note("fragment", fragment)
        ending(s, websocket)


@scenario
async def exception_within_server(s: Scenario) -> None:
    """An exception leaves the body of ``async with serve``."""

    async def handler(websocket: ServerConnection) -> None:
        with s.track("server").failing("recv"):
            await websocket.recv()

    opened: list[ClientConnection] = []
    with s.failing("serve"):
        async with serving(s, handler) as server:
            opened.append(await connecting(server))
            await fail()
    with s.failing("recv"):
        await opened[0].recv()


@scenario
async def server_closes_within_handler(s: Scenario) -> None:
    """A handler closes the server."""

    async def handler(websocket: ServerConnection) -> None:
        websocket.server.close()
        with s.track("server").failing("recv"):
            await websocket.recv()

    async with serving(s, handler) as server, raw_client(s, server) as raw:
        await raw.open()
        await raw.frame()
        await raw.send(masked(CLOSE, close_payload(1001)))
        await raw.end()


@scenario
async def closed_at_once(s: Scenario) -> None:
    """A server that closes right behind its response."""

    async def peer(raw: Raw) -> None:
        await raw.accept(behind=frame(CLOSE, close_payload(1013, "later")))
        await raw.frame()
        raw.eof()
        await raw.end()

    async with raw_server(s, peer) as where:
        websocket = await connecting(where)
        with s.failing("recv"):
            await websocket.recv()
        with s.failing("iteration"):
            async for _ in websocket:
                pass
        ending(s, websocket)


@scenario
async def iteration_and_close_codes(s: Scenario) -> None:
    """Which codes end an iteration without an exception."""
    for payload in (b"", *(close_payload(code) for code in (1000, 1001, 1002, 1011, 3000, 4000))):

        async def peer(raw: Raw, payload: bytes = payload) -> None:
            await raw.accept()
            await raw.send(frame(TEXT, "x"), frame(CLOSE, payload))
            await raw.frame()
            raw.eof()
            await raw.end()

        async with raw_server(s, peer) as where:
            websocket = await connecting(where, logger=QUIET)
            with s.failing(f"iteration {payload!r}"):
                async for message in websocket:
                    s.note("received", message)


@scenario
async def exceptions_are_shared_or_not(s: Scenario) -> None:
    """Each call raises an exception of its own."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        await raw.send(frame(CLOSE, close_payload(1000)))
        await raw.frame()
        raw.eof()

    async with raw_server(s, peer) as where:
        websocket = await connecting(where)
        raised = []
        for _ in range(2):
            try:
                await websocket.recv()
            except ConnectionClosed as exc:
                raised.append(exc)
        s.note("same", raised[0] is raised[1], raised[0] == raised[1])
        s.note("rcvd and sent", raised[0].rcvd, raised[0].sent, raised[0].rcvd_then_sent)


# The environment, and the command line


def run(s: Scenario, what: str, *arguments: str, **variables: str) -> None:
    """Run this Python with variables, and write down what it says."""
    result = subprocess.run(
        [sys.executable, "-P", *arguments],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=10,
        check=False,
    )
    s.note(what, result.returncode)
    s.lines += result.stdout.splitlines()
    s.note("errors", result.stderr.strip().rpartition("\n")[2])


@scenario
def variables(s: Scenario) -> None:
    """Variables that set limits, names and delays."""
    code = """
from websockets.client import backoff, ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import SERVER, USER_AGENT
from websockets.uri import parse_uri
import random
random.random = lambda: 0.5
delays = backoff()
print([round(next(delays), 3) for _ in range(4)])
print(str(Frame(Opcode.TEXT, b"x" * 200)))
print(USER_AGENT, SERVER)
def response(data):
    protocol = ClientProtocol(parse_uri("ws://localhost"))
    protocol.send_request(protocol.connect())
    protocol.receive_data(b"HTTP/1.1 200 OK\\r\\n" + data)
    protocol.receive_eof()
    print(type(protocol.handshake_exc).__name__, repr(protocol.handshake_exc.__cause__))
response(b"X: " + b"x" * 100 + b"\\r\\n\\r\\n")
response(b"".join(b"X: x\\r\\n" for _ in range(20)) + b"\\r\\n")
response(b"Content-Length: 100\\r\\n\\r\\n" + b"x" * 100)
"""
    run(s, "defaults", "-c", code)
    run(
        s,
        "variables",
        "-c",
        code,
        WEBSOCKETS_BACKOFF_INITIAL_DELAY="1",
        WEBSOCKETS_BACKOFF_MIN_DELAY="2.5",
        WEBSOCKETS_BACKOFF_MAX_DELAY="10",
        WEBSOCKETS_BACKOFF_FACTOR="3",
        WEBSOCKETS_MAX_LOG_SIZE="40",
        WEBSOCKETS_MAX_LINE_LENGTH="80",
        WEBSOCKETS_MAX_NUM_HEADERS="10",
        WEBSOCKETS_MAX_BODY_SIZE="50",
        WEBSOCKETS_USER_AGENT="mine",
        WEBSOCKETS_SERVER="ours",
    )


@scenario
def command_line(s: Scenario) -> None:
    """The command line, without a connection."""
    run(s, "version", "-m", "websockets", "--version")
    run(s, "nothing", "-m", "websockets")
    run(s, "unknown", "-m", "websockets", "--unknown")


@scenario
async def command_line_in_terminal(s: Scenario) -> None:
    """The interactive client, in a terminal."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        await raw.send(frame(TEXT, "hello"))
        await raw.frame()
        await raw.send(frame(CLOSE, close_payload(1000, "bye")))
        await raw.frame()
        raw.eof()

    async with raw_server(s, peer) as where:
        main, secondary = pty.openpty()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "websockets", where),
            stdin=secondary,
            stdout=secondary,
            stderr=secondary,
            env={**os.environ, "TERM": "xterm"},
        )
        os.close(secondary)
        output = b""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while data := await loop.run_in_executor(None, os.read, main, 1000):
                output += data
                if b"hello" in data:
                    os.write(main, b"typed\n")
        os.close(main)
        s.note("status", await process.wait())
        # Where prompts and what is typed are on the screen depends on who is faster.
        said = re.findall(rb"Connected to [^\r]*|< hello|Connection closed: [^\r]*", output)
        s.note("said", *said)
    wire = s.track("wire")
    wire.lines[:] = [line for line in wire.lines if not line.startswith("Sec-WebSocket-Key")]
