"""The examples run: each of them in this process, on a port of its own."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from itertools import repeat
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Server, serve
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from .helpers import TLS, port_of, until, uri_of, within

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"

pytestmark = pytest.mark.skipif(not EXAMPLES.is_dir(), reason="examples are not here")


class Stage:
    """Where an example runs: whatever address it names, the first server has a free port.

    Later ones have the same, to take its place.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.servers: list[Server] = []
        self.first_port = 0

    def load(self, name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        for name, replacement in (("serve", self.serve), ("connect", self.connect)):
            if hasattr(module, name):
                self.monkeypatch.setattr(module, name, replacement)
        return module

    def serve(self, handler: Any, host: Any = None, port: Any = None, **kwargs: Any) -> Server:
        if "sock" not in kwargs:
            host, port = "localhost", self.first_port
            # One socket has one port; two could have two.
            kwargs["family"] = socket.AF_INET
        server = serve(handler, host, port, **kwargs)
        self.servers.append(server)
        return server

    def connect(self, uri: str, **kwargs: Any) -> connect:
        uri = uri.replace(":8765", f":{self.port}")
        return connect(uri, proxy=None, reconnect_delays=lambda: repeat(0.001), **kwargs)

    @property
    def port(self) -> int:
        self.first_port = self.first_port or port_of(self.servers[0])
        return self.first_port

    @asynccontextmanager
    async def running(self, main: Coroutine[Any, Any, None]) -> AsyncIterator[asyncio.Task[None]]:
        """Run an example until its server listens, and beyond."""
        count = len(self.servers)
        task = asyncio.create_task(main)
        try:
            await until(
                lambda: task.done() or self.servers[count:] and self.servers[-1].is_serving()
            )
            yield task
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(monkeypatch)


async def get(port: int, path: str) -> tuple[int, dict[str, str], str]:
    """Make a plain HTTP request; return the status, headers and body of the response."""
    reader, writer = await asyncio.open_connection("localhost", port, family=socket.AF_INET)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    head, _, body = (await within(reader.read())).partition(b"\r\n\r\n")
    writer.close()
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert int(headers["Content-Length"]) == len(body)
    return int(status.split()[1]), headers, body.decode()


# Small ones


async def test_server_and_client(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    async with stage.running(stage.load("server").main()):
        await within(stage.load("client").main())
    assert capsys.readouterr().out == "Hello!\n"


async def test_echo(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    await within(stage.load("echo").exchanges())
    steps = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert steps == ["server", "client", "text", "binary", "fragmented", "ping", "close"]


async def test_ticker(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    ticker = stage.load("ticker")
    ticker.INTERVAL = 0.005
    async with stage.running(ticker.main()):
        await within(stage.load("client").main())
        async with stage.connect("ws://localhost:8765") as websocket:
            assert (await within(websocket.recv())).startswith("20")
            assert (await within(websocket.recv())).startswith("20")
    assert capsys.readouterr().out.startswith("20")


async def test_reconnecting(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    ticker, reconnecting = stage.load("ticker"), stage.load("reconnecting")
    ticker.INTERVAL = 0.005
    printed = ""

    async def until_printed(*lines: str) -> None:
        def complete() -> bool:
            nonlocal printed
            printed += capsys.readouterr().out
            place = 0
            for line in lines:
                place = printed.find(line, place) + len(line)
                if place < len(line):
                    return False
            return True

        await until(complete)

    async with stage.running(ticker.main()):
        port = stage.port
        client = asyncio.create_task(reconnecting.main())
        await until_printed("connected\n", "20")
        [connection] = stage.servers[0].connections
        connection.transport.abort()
        await until_printed("closed with 1006 \n", "connected\n", "20")
    # The server is not there for a while, and then another one is.
    await until_printed("closed with 1006 \n", "closed with 1001 \n")
    async with stage.running(ticker.main()):
        assert stage.port == port
        await until_printed("closed with 1001 \n", "connected\n", "20")
        client.cancel()
        with pytest.raises(asyncio.CancelledError):
            await client


async def test_authentication(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    await within(stage.load("authentication").main())
    assert capsys.readouterr().out == "Hello ada!\nrefused with 401\n"


async def test_tls(
    stage: Stage, tls: TLS, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    issued = tls.authority.issue_cert("localhost")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    issued.private_key_pem.write_to_path(key)
    for blob in [*issued.cert_chain_pems, tls.authority.cert_pem]:
        blob.write_to_path(certificate, append=True)
    await within(stage.load("tls").main(str(certificate), str(key)))
    assert capsys.readouterr().out == "Hello!\n"


@pytest.mark.skipif(sys.platform == "win32", reason="there are no Unix sockets")
async def test_unix(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    await within(stage.load("unix").main())
    assert capsys.readouterr().out == "Hello!\n"


# A service


class Naps:
    """Stands for asyncio in an example: it sleeps until the test wakes it."""

    def __init__(self) -> None:
        self.taken: list[float] = []
        self.over = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    async def sleep(self, seconds: float) -> None:
        self.taken.append(seconds)
        await self.over.wait()


@pytest.fixture
def service(stage: Stage) -> ModuleType:
    if sys.platform == "win32":
        pytest.skip("it is stopped by a signal")
    service = stage.load("service")
    service.asyncio = Naps()
    return service


async def test_service(stage: Stage, service: ModuleType) -> None:
    async with stage.running(service.main()) as task:
        assert (await get(stage.port, "/healthz"))[::2] == (200, "OK\n")
        assert (await get(stage.port, "/elsewhere"))[0] == 404
        async with (
            stage.connect("ws://localhost:8765") as one,
            stage.connect("ws://localhost:8765") as other,
        ):
            for websocket in (one, other, one):
                await websocket.send("Hello!")
                assert await within(websocket.recv()) == "Hello!"
            await other.close()
            await until(lambda: len(stage.servers[0].connections) == 1)
            status, headers, body = await get(stage.port, "/metrics")
            assert status == 200
            assert headers["Content-Type"].startswith("text/plain")
            assert [line for line in body.splitlines() if not line.startswith("#")] == [
                "websocket_connections 1",
                "websocket_connections_total 2",
                "websocket_messages_total 3",
            ]

            os.kill(os.getpid(), signal.SIGTERM)
            await until(lambda: service.asyncio.taken == [service.NOTICE])
            # It goes on at first, and says that it will not for long.
            await one.send("Hello?")
            assert await within(one.recv()) == "Hello?"
            assert (await get(stage.port, "/healthz"))[::2] == (503, "stopping\n")
            service.asyncio.over.set()
            with pytest.raises(ConnectionClosedError):
                await within(one.recv())
            assert (one.close_code, one.close_reason) == (1012, "restarting")
        await within(task)
        assert service.asyncio.taken == [service.NOTICE, service.DRAIN]


async def test_service_with_a_socket_of_systemd(
    stage: Stage, service: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    service.FIRST_DESCRIPTOR = listening.detach()
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    async with stage.running(service.main()) as task:
        assert (await get(stage.port, "/healthz"))[0] == 200
        service.asyncio.over.set()
        os.kill(os.getpid(), signal.SIGTERM)
        await within(task)


# Chat


class Visitor:
    """What the page does."""

    def __init__(self, websocket: ClientConnection) -> None:
        self.websocket = websocket

    async def say(self, **message: Any) -> None:
        await self.websocket.send(json.dumps(message))

    async def hear(self, kind: str) -> Any:
        """Wait for the next message of a type."""
        while True:
            message = json.loads(await within(self.websocket.recv()))
            if message["type"] == kind:
                return message


@asynccontextmanager
async def visiting(server: Server, name: str) -> AsyncIterator[tuple[Visitor, Any]]:
    async with connect(uri_of(server, "/chat"), proxy=None) as websocket:
        visitor = Visitor(websocket)
        await visitor.say(type="hello", name=name)
        yield visitor, await visitor.hear("welcome")


@pytest.fixture
def chat() -> ModuleType:
    return Stage(pytest.MonkeyPatch()).load("chat")


async def test_chat(chat: ModuleType) -> None:
    async with chat.chat_server("127.0.0.1", 0) as server:
        async with visiting(server, "Ada") as (ada, welcome):
            assert welcome == {"type": "welcome", "name": "Ada", "history": []}
            async with visiting(server, " Ada ") as (other, welcome):
                assert welcome["name"] == "Ada 2"
                assert (await other.hear("people"))["names"] == ["Ada", "Ada 2"]
                await ada.say(type="message", id="1", text="Grüße")
                for visitor in (ada, other):
                    heard = await visitor.hear("message")
                    assert heard.pop("time") > 1e9
                    assert heard == {"type": "message", "id": "1", "name": "Ada", "text": "Grüße"}
                # It was sent before: everyone is told, and knows.
                await ada.say(type="message", id="1", text="Grüße")
                assert (await other.hear("message"))["id"] == "1"
            while (await ada.hear("people"))["names"] != ["Ada"]:
                pass
        async with visiting(server, "") as (_, welcome):
            assert welcome["name"] == "Anonymous"
            assert [message["text"] for message in welcome["history"]] == ["Grüße"]


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        (["{"], "expected JSON"),
        (["[" * 30000], "expected JSON"),
        (["9" * 5000], "expected JSON"),
        ([b"\xff"], "expected JSON"),
        (["[]"], "expected a message of type hello"),
        (['{"type": "message"}'], "expected a message of type hello"),
        (['{"type": "hello"}'], "expected name to be a string of up to 30 characters"),
        (['{"type": "hello", "name": 1}'], "expected name"),
        ([json.dumps({"type": "hello", "name": "x" * 31})], "expected name"),
        (['{"type": "hello", "name": "x"}'] * 2, "expected a message of type message"),
        (['{"type": "hello", "name": "x"}', '{"type": "message", "id": "1"}'], "expected text"),
    ],
)
async def test_chat_with_somebody_else(
    chat: ModuleType, messages: list[str | bytes], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with chat.chat_server("127.0.0.1", 0) as server:
        async with connect(uri_of(server, "/chat"), proxy=None) as websocket:
            for message in messages:
                await websocket.send(message)
            with pytest.raises(ConnectionClosedError):
                while True:
                    await within(websocket.recv())
            assert websocket.close_code == 1008
            assert websocket.close_reason is not None
            assert websocket.close_reason.startswith(reason)
    assert [record for record in caplog.records if record.name == "chat"] == []


async def test_chat_with_somebody_who_does_not_read(
    chat: ModuleType, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the others say to it takes memory."""
    monkeypatch.setattr(chat, "BACKLOG", 100_000)
    async with chat.chat_server("127.0.0.1", 0) as server:
        async with (
            visiting(server, "Ada") as (ada, _),
            connect(uri_of(server, "/chat"), proxy=None, compression=None) as bob,
        ):
            await Visitor(bob).say(type="hello", name="Bob")
            for number in range(1000):
                # In JSON, each character takes twelve bytes.
                await ada.say(type="message", id=str(number), text="\U0001f600" * 2500)
                await ada.hear("message")
                if len(server.connections) == 1:
                    break
            assert len(server.connections) == 1
    assert [record for record in caplog.records if record.name == "chat"] == []


async def test_chat_is_left_at_once(chat: ModuleType, caplog: pytest.LogCaptureFixture) -> None:
    async with chat.chat_server("127.0.0.1", 0) as server:
        for leave in (ClientConnection.close, lambda websocket: websocket.transport.abort()):
            websocket = await connect(uri_of(server, "/chat"), proxy=None)
            left = leave(websocket)
            if left is not None:
                await left
        await until(lambda: not server.handler_tasks)
    assert [record for record in caplog.records if record.name == "chat"] == []


async def test_chat_over_http(chat: ModuleType) -> None:
    async with chat.chat_server("127.0.0.1", 0) as server:
        port = port_of(server)
        for path in ("/", "/?from=somewhere"):
            status, headers, body = await get(port, path)
            assert status == 200
            assert headers["Content-Type"] == "text/html; charset=utf-8"
            assert "default-src 'none'" in headers["Content-Security-Policy"]
            assert body.startswith("<!doctype html>") and body.endswith("</html>\n")
        assert (await get(port, "/healthz"))[::2] == (200, "OK\n")
        assert (await get(port, "/elsewhere"))[::2] == (404, "Not found\n")
        assert (await get(port, "/chat"))[0] == 426
        with pytest.raises(InvalidStatus) as caught:
            await connect(uri_of(server, "/elsewhere"), proxy=None)
        assert caught.value.response.status_code == 404


async def test_chat_as_a_program(
    chat: ModuleType, stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    if sys.platform == "win32":
        pytest.skip("it is stopped by a signal")
    stage.monkeypatch.setattr(chat, "serve", stage.serve)
    async with stage.running(chat.main("localhost", 8765)) as task:
        assert capsys.readouterr().out == f"open http://127.0.0.1:{stage.port}/\n"
        async with visiting(stage.servers[0], "Ada") as (ada, _):
            os.kill(os.getpid(), signal.SIGTERM)
            await within(task)
            assert ada.websocket.close_code == 1001
