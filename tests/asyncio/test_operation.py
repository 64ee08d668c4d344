"""What operators see of a server: its log, health checks, deploys, sockets from elsewhere.

The log's texts and levels were recorded from the released websockets.
"""

from __future__ import annotations

import asyncio
import contextlib
import http
import logging
import os
import pathlib
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from websockets.asyncio.client import unix_connect
from websockets.asyncio.server import ServerConnection, serve, unix_serve
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.frames import Close
from websockets.http11 import Request, Response

from ..helpers import (
    CLOSE,
    TLS,
    RawPeer,
    RawResponse,
    connecting,
    drain_messages,
    echo,
    idle,
    port_of,
    raw_client,
    raw_socket,
    request_bytes,
    serving,
    turns,
    until,
    uri_of,
    within,
)


def log_of(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Levels and texts, but those of the server's start and end."""
    return [
        (record.levelname, record.getMessage())
        for record in caplog.records
        if record.name.startswith("websockets.") and not record.getMessage().startswith("server ")
    ]


# Strangers

CLOSED = ("INFO", "connection closed")
OPENED = ("INFO", "connection open")

# The beginning of a TLS handshake (RFC 8446 section 5.1): a ClientHello of 512 bytes.
CLIENT_HELLO = bytes.fromhex("16030102000100 01fc0303") + bytes(32)


@pytest.mark.parametrize(
    ("said", "logged"),
    [
        (b"", [CLOSED]),
        (b"GET / HTTP/1.1\r\nHos", [CLOSED]),
        (CLIENT_HELLO, [CLOSED]),
        (
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            [("INFO", "connection rejected (426 Upgrade Required)"), CLOSED],
        ),
        (
            b"\x00\x01garbage\r\n\r\n",
            [("INFO", "HTTP response sent (400 Bad Request)"), CLOSED],
        ),
        (
            CLIENT_HELLO + b"\r\n",
            [("INFO", "HTTP response sent (400 Bad Request)"), CLOSED],
        ),
    ],
    ids=["port scan", "half a request", "TLS", "plain HTTP", "garbage", "TLS with a line"],
)
async def test_log_of_strangers(
    said: bytes, logged: list[tuple[str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    """They are nobody's mistake: one line at INFO, and another for an answer."""
    caplog.set_level(logging.INFO)
    async with serving() as server, raw_socket(server) as peer:
        await peer.send(said)
        peer.send_eof()
        await peer.read_to_end()
        await until(lambda: CLOSED in log_of(caplog))
    assert log_of(caplog) == logged


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\n", CLIENT_HELLO])
async def test_log_of_those_who_take_too_long(
    said: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with serving(open_timeout=0.02) as server, raw_socket(server) as peer:
        await peer.send(said)
        assert await peer.read_to_end() == b""
        await until(lambda: log_of(caplog))
    assert log_of(caplog) == [CLOSED]


# Handlers


async def fail(ws: ServerConnection) -> None:
    raise LookupError("a bug")


async def receive(ws: ServerConnection) -> None:
    await ws.recv()


async def send_late(ws: ServerConnection) -> None:
    await ws.wait_closed()
    await ws.send("too late")


async def fail_late(ws: ServerConnection) -> None:
    await ws.wait_closed()
    raise LookupError("a bug")


async def lose_another(ws: ServerConnection) -> None:
    await ws.wait_closed()
    raise ConnectionClosedError(None, None)


async def give_up(ws: ServerConnection) -> None:
    raise asyncio.CancelledError


FAILED = ("ERROR", "connection handler failed")


def ended(text: str) -> tuple[str, str]:
    return ("INFO", f"connection handler ended: {text}")


@pytest.mark.parametrize(
    ("handler", "code", "logged"),
    [
        (echo, 1000, []),
        (echo, 1001, []),
        (echo, 4000, [ended("received 4000 (private use); then sent 4000 (private use)")]),
        (fail, 1000, [FAILED]),
        (fail_late, 1000, [FAILED]),
        (lose_another, 1000, [FAILED]),
        (receive, 1000, [ended("received 1000 (OK); then sent 1000 (OK)")]),
        (send_late, 1000, [ended("received 1000 (OK); then sent 1000 (OK)")]),
        (give_up, 1000, []),
    ],
)
async def test_log_of_handlers(
    handler: Callable[[ServerConnection], Awaitable[None]],
    code: int,
    logged: list[tuple[str, str]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A bug has its traceback in the log; a client that leaves is no bug."""
    caplog.set_level(logging.INFO)
    async with serving(handler) as server:
        async with raw_client(server) as peer:
            await until(lambda: OPENED in log_of(caplog))
            await peer.send_close(code)
            await peer.read_to_end()
        await until(lambda: CLOSED in log_of(caplog) and not server.handler_tasks)
    lines = log_of(caplog)
    assert sorted(lines) == sorted([OPENED, CLOSED, *logged])
    for record in caplog.records:
        assert (record.exc_info is not None) == (record.levelname == "ERROR")


# Health checks


def check_health(ws: ServerConnection, request: Request) -> Response | None:
    if request.path == "/healthz":
        return ws.respond(http.HTTPStatus.OK, "OK\n")
    return None


@pytest.mark.parametrize(
    ("request_line", "body"),
    [
        ("GET /healthz HTTP/1.1", b"OK\n"),
        ("GET /healthz HTTP/1.0", b"OK\n"),
        ("HEAD /healthz HTTP/1.1", b""),
        ("POST /healthz HTTP/1.1", b"OK\n"),
    ],
)
@pytest.mark.parametrize("connection", ["close", "keep-alive"])
async def test_health_checks(
    request_line: str, body: bytes, connection: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with serving(process_request=check_health) as server, raw_socket(server) as peer:
        fields = f"Host: localhost\r\nConnection: {connection}\r\n\r\n"
        await peer.send(f"{request_line}\r\n{fields}".encode())
        response = RawResponse.from_bytes(await peer.read_to_end())
    assert (response.status, response.reason, response.body) == (200, "OK", body)
    assert response.headers["content-length"] == "3"
    assert response.headers["connection"] == "close"
    assert log_of(caplog) == [("INFO", "HTTP response sent (200 OK)"), CLOSED]


# Deploys


@pytest.mark.parametrize("close_connections", [True, False])
async def test_newcomers_hear_that_it_closes(
    close_connections: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Who is connected and has not asked yet, and who waits for an answer."""
    caplog.set_level(logging.INFO)
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def process_request(ws: ServerConnection, request: Request) -> None:
        asked.set()
        await go_on.wait()

    async with serving(process_request=process_request) as server:
        async with raw_socket(server) as silent, raw_socket(server) as waiting:
            await until(lambda: len(server.all_connections) == 2)
            await waiting.send(request_bytes(port_of(server)))
            await within(asked.wait())
            server.close(close_connections=close_connections)
            go_on.set()
            for peer in silent, waiting:
                response = RawResponse.from_bytes(await peer.read_to_end())
                assert (response.status, response.body) == (503, b"Server is shutting down.\n")
                assert response.headers["connection"] == "close"
            await within(server.wait_closed())
    assert log_of(caplog) == [
        ("INFO", "connection rejected (503 Service Unavailable)"),
        ("INFO", "connection rejected (503 Service Unavailable)"),
        CLOSED,
        CLOSED,
    ]


class TLSClient:
    """The client's side of TLS over a raw socket, which can stop anywhere."""

    def __init__(self, peer: RawPeer, tls: TLS) -> None:
        self.peer = peer
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.session = tls.client.wrap_bio(
            self.incoming, self.outgoing, server_hostname="localhost"
        )

    async def say_hello(self) -> None:
        with contextlib.suppress(ssl.SSLWantReadError):
            self.session.do_handshake()
        await self.peer.send(self.outgoing.read())
        self.incoming.write(await self.peer.read_some())

    async def finish_handshake(self) -> None:
        self.session.do_handshake()
        await self.peer.send(self.outgoing.read())

    async def read_to_end(self) -> bytes:
        self.incoming.write(await self.peer.read_to_end())
        return self.session.read()


@pytest.mark.parametrize("close_timeout", [10, None])
@pytest.mark.parametrize("when", ["after", "within"])
async def test_who_is_refused_over_tls_does_not_delay_closing(
    when: str, close_timeout: float | None, tls: TLS, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Browsers connect in advance, say nothing, and do not close either."""
    monkeypatch.setattr("websockets.asyncio.server.REFUSAL_TIMEOUT", 0.02)
    async with serving(ssl=tls.server, close_timeout=close_timeout) as server:
        async with raw_socket(server) as peer:
            client = TLSClient(peer, tls)
            await client.say_hello()
            if when == "within":
                server.close()
                await turns()
            await client.finish_handshake()
            await until(lambda: server.all_connections)
            server.close()
            assert (await within(client.read_to_end(), 5)).startswith(b"HTTP/1.1 503 ")
            await until(lambda: not server.all_connections)
            await within(server.wait_closed(), 5)


async def test_connections_may_be_closed_one_after_the_other() -> None:
    """For their clients not to come back all at once."""
    async with serving(idle) as server:
        clients = [await connecting(server) for _ in range(5)]
        await until(lambda: len(server.connections) == 5)
        server.close(close_connections=False)
        await turns()
        assert len(server.connections) == 5
        for left in reversed(range(5)):
            await next(iter(server.connections)).close(1012, "deploy")
            assert len(server.connections) == left
        await within(server.wait_closed())
        for client in clients:
            _, exc = await drain_messages(client)
            assert exc.rcvd == Close(1012, "deploy")


async def test_a_server_that_drains_before_it_closes() -> None:
    """Still listening, it refuses newcomers."""
    draining = False

    def process_request(ws: ServerConnection, request: Request) -> Response | None:
        return ws.respond(503, "draining\n") if draining else None

    async with serving(process_request=process_request) as server, connecting(server) as client:
        draining = True
        with pytest.raises(InvalidStatus, match="HTTP 503"):
            await connecting(server)
        await client.send("served")
        assert await within(client.recv()) == "served"


async def test_close_without_a_code() -> None:
    async with serving(idle) as server, raw_client(server) as peer:
        await until(lambda: server.connections)
        server.close(code=None)  # type: ignore[arg-type]
        assert (await peer.recv_frame()).close == (None, "")
        await peer.send_frame(CLOSE)
        peer.send_eof()
        await within(server.wait_closed())


async def test_checking_what_to_close_with_is_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving(echo) as server:
        server.close()
        server.close(code=1012, reason="again")
    assert log_of(caplog) == []


async def test_serve_forever_by_many() -> None:
    """To cancel one of them closes the server, and ends the others."""
    async with serving(idle) as server:
        tasks = [asyncio.create_task(server.serve_forever()) for _ in range(3)]
        await turns()
        tasks[1].cancel()
        await within(asyncio.wait(tasks))
        assert [task.cancelled() for task in tasks] == [False, True, False]
        assert [task.exception() for task in tasks if not task.cancelled()] == [None, None]


async def test_serve_forever_ends_when_the_server_is_closed() -> None:
    async with serving(idle) as server:
        task = asyncio.create_task(server.serve_forever())
        await turns()
        server.close()
        await within(task)


async def test_cancelled_within_its_context() -> None:
    server = serving(idle)
    entered = asyncio.Event()

    async def run() -> None:
        async with server:
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(run())
    await within(entered.wait())
    async with connecting(server) as client:
        task.cancel()
        _, exc = await drain_messages(client)
        assert exc.rcvd == Close(1001, "")
    with pytest.raises(asyncio.CancelledError):
        await within(task)
    assert not server.is_serving()


@pytest.mark.parametrize("how", ["start_serving", "serve_forever"])
async def test_listening_is_logged_when_it_begins_with_the_start(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    server = await serving(idle, start_serving=False)
    assert len(server.sockets) == 1
    task = asyncio.create_task(getattr(server, how)())
    await until(server.is_serving)
    async with connecting(server):
        pass
    server.close()
    await within(server.wait_closed())
    await within(task)
    assert [text for text in caplog.messages if text.startswith("server ")] == [
        "server closing",
        "server closed",
    ]


# Sockets


async def check(server: Any) -> None:
    async with connecting(server) as client:
        await client.send("hello")
        assert await within(client.recv()) == "hello"


async def test_socket_activation() -> None:
    """The socket is another process's, and listens already: what comes is a number."""
    with socket.create_server(("127.0.0.1", 0)) as theirs:
        number = os.dup(theirs.fileno())
        async with serve(echo, sock=socket.socket(fileno=number), compression=None) as server:
            assert port_of(server) == theirs.getsockname()[1]
            await check(server)


@pytest.mark.skipif(not hasattr(socket, "SO_REUSEPORT"), reason="needs SO_REUSEPORT")
async def test_reuse_port() -> None:
    async with serving(reuse_port=True) as first:
        async with serve(echo, "127.0.0.1", port_of(first), reuse_port=True, compression=None):
            for _ in range(10):
                await check(first)


async def test_both_protocols_of_the_internet() -> None:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("there is no IPv6")
    async with serve(echo, ["127.0.0.1", "::1"], 0, compression=None) as server:
        families = {sock.family for sock in server.sockets}
        assert families == {socket.AF_INET, socket.AF_INET6}


async def test_a_unix_socket_is_used_again(tmp_path: pathlib.Path) -> None:
    """Before Python 3.13 it is left behind; the next server replaces it."""
    path = tmp_path / "socket"
    for _ in range(2):
        async with unix_serve(echo, path, compression=None):
            async with unix_connect(str(path), compression=None) as client:
                await client.send("hello")
                assert await within(client.recv()) == "hello"


async def test_a_unix_socket_from_elsewhere(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as theirs:
        theirs.bind(path)
        async with unix_serve(echo, sock=theirs, compression=None):
            async with unix_connect(path, compression=None) as client:
                await client.send("hello")
                assert await within(client.recv()) == "hello"


async def test_neither_path_nor_socket() -> None:
    with pytest.raises(ValueError, match="path was not specified, and no sock specified"):
        await unix_serve(echo)


async def test_where_it_listens_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with serving() as server:
        port = port_of(server)
        assert uri_of(server).endswith(f":{port}/")
    assert caplog.messages[0] == f"server listening on 127.0.0.1:{port}"
