"""What applications do with connections that no rule of the protocol is about."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any
from unittest.mock import AsyncMock, patch

import pytest

from websockets.asyncio.client import connect
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidURI
from websockets.frames import Close

from ..helpers import (
    CLOSE,
    TEXT,
    client_frame,
    close_payload,
    connecting,
    frame,
    pair,
    port_of,
    request_bytes,
    server_connection,
    serving,
    turns,
    within,
)

# More than any application sends in one turn of the event loop, and less than a second of it.
MANY = 20_000


async def send(ws: Connection) -> None:
    await ws.send("text")


async def send_large(ws: Connection) -> None:
    await ws.send(b"0" * 100_000)


async def send_fragments(ws: Connection) -> None:
    await ws.send(["frag", "ment"])


async def ping(ws: Connection) -> None:
    await ws.ping()


async def pong(ws: Connection) -> None:
    await ws.pong()


@pytest.mark.parametrize("act", [send, send_large, send_fragments, ping, pong])
@pytest.mark.parametrize("end", ["abort", "close"])
async def test_a_loop_that_only_sends_ends_with_its_transport(end: str, act: Any) -> None:
    # It never waits for anything else, so that the event loop has a turn only if sending gives it.
    async with pair() as (ws, _):
        getattr(ws.transport, end)()
        with pytest.raises(ConnectionClosedError):
            for _ in range(MANY):
                await act(ws)


async def test_a_loop_that_only_sends_ends_with_its_peer() -> None:
    async with pair() as (client, ws):
        sock = client.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.transport.abort()
        await within(client.wait_closed())
        with pytest.raises(ConnectionClosedError):
            for _ in range(MANY):
                await ws.send("text")


@pytest.mark.parametrize("leaving", [SystemExit, KeyboardInterrupt])
def test_what_leaves_the_event_loop_closes_the_connection(leaving: type[BaseException]) -> None:
    async def handler(ws: ServerConnection) -> None:
        raise leaving(await ws.recv())

    async def start() -> Any:
        return await serving(handler)

    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(start())
    with socket.create_connection(("127.0.0.1", port_of(server)), timeout=5) as sock:
        sock.sendall(request_bytes(port_of(server)) + client_frame(TEXT, b"now"))
        with pytest.raises(leaving, match="now"):
            loop.run_until_complete(server.wait_closed())
        received = b""
        expected = frame(CLOSE, close_payload(1011))
        while expected not in received:
            data = sock.recv(4096)
            assert data, "the connection has ended without a close frame"
            received += data
    server.close()
    loop.run_until_complete(server.wait_closed())
    loop.close()


async def test_a_task_runs_the_event_loop(on_uvloop: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """As nest_asyncio lets it, which puts this mark on asyncio, and cannot do it to uvloop."""
    if on_uvloop:
        pytest.skip("not on uvloop")
    async with pair() as (ws, other):
        # Wake-ups have been seen to run their tasks before it is applied.
        for message in ("first", "second"):
            task = asyncio.create_task(ws.recv())
            await turns()
            await other.send(message)
            assert await within(task) == message
        monkeypatch.setattr(asyncio, "_nest_patched", True, raising=False)
        loop = asyncio.get_running_loop()

        def run(coroutine: Any) -> Any:
            task = loop.create_task(coroutine)
            running: Any = asyncio.current_task()
            asyncio.tasks._leave_task(loop, running)
            try:
                for _ in range(100):
                    if task.done():
                        break
                    loop._run_once()  # type: ignore[attr-defined]
            finally:
                asyncio.tasks._enter_task(loop, running)
            return task.result()

        async def ask() -> str | bytes:
            await other.send("question")
            return await ws.recv()

        async def receive() -> None:
            assert await ws.recv() == "third"
            assert run(ask()) == "question"

        receiving = asyncio.create_task(receive())
        await turns()
        await other.send("third")
        await within(receiving)


class Outcome(BaseException):
    """As pytest's, of fail() or skip() within a handler."""


async def test_an_exception_that_is_no_exception_closes_the_connection() -> None:
    async def handler(ws: ServerConnection) -> None:
        await ws.recv()
        raise Outcome

    async with serving(handler) as server, connecting(server) as ws:
        (task,) = server.handler_tasks
        await ws.send("now")
        with pytest.raises(ConnectionClosedError) as raised:
            await within(ws.recv())
        assert raised.value.rcvd == Close(1011, "")
        assert isinstance(task.exception(), Outcome)


async def test_a_handler_that_is_freed_leaves_the_connection_alone() -> None:
    async with server_connection() as (server, arrived), connecting(server) as ws:
        connection = await within(arrived)
        (task,) = server.handler_tasks
        coroutine = task.get_coro()
        assert coroutine is not None
        coroutine.close()
        await connection.send("still here")
        assert await within(ws.recv()) == "still here"
        task.cancel()
        with pytest.raises(RuntimeError, match="already awaited"):
            await task
        await connection.close()


@pytest.mark.parametrize("whose", ["connection", "class"])
async def test_a_test_replaces_recv(whose: str) -> None:
    messages = AsyncMock(side_effect=["first", b"second", ConnectionClosedOK(None, None)])
    async with serving() as server, connecting(server) as ws:
        with patch.object(ws if whose == "connection" else Connection, "recv", messages):
            assert [message async for message in ws] == ["first", b"second"]
        # And back again.
        await ws.send("third")
        async for message in ws:
            assert message == "third"
            break


@pytest.mark.parametrize("uri", [None, b"ws://localhost/"])
def test_uri_that_is_no_string(uri: Any) -> None:
    # As a variable that is missing in the environment: None.
    with pytest.raises(InvalidURI) as raised:
        connect(uri)
    assert str(raised.value) == f"{uri} isn't a valid URI: scheme isn't ws or wss"
