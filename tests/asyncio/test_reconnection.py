"""``async for websocket in connect(...)``: when it connects again, and what it tells."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from websockets.asyncio import client as client_module
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus
from websockets.http11 import Request, Response
from websockets.protocol import State

from ..helpers import connecting, idle, noise, port_of, raw_server, serving, until, uri_of, within


class Moody:
    """A server that answers attempts with the statuses given, and then agrees."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.connections: list[ServerConnection] = []
        self.attempts = 0

    def process_request(self, ws: ServerConnection, request: Request) -> Response | None:
        self.attempts += 1
        status = self.statuses.pop(0) if self.statuses else 101
        if status == 101:
            return None
        return Response(status, "No", Headers({"Content-Length": "0"}))

    async def handler(self, ws: ServerConnection) -> None:
        self.connections.append(ws)
        await ws.send(str(len(self.connections)))
        await ws.wait_closed()


@contextlib.asynccontextmanager
async def moody(*statuses: int) -> AsyncIterator[tuple[Moody, str]]:
    server = Moody(*statuses)
    async with serving(server.handler, process_request=server.process_request) as running:
        yield server, uri_of(running)


class Delays:
    """``reconnect_delays`` of the lengths given, which remembers how it was used."""

    def __init__(self, *lengths: float) -> None:
        self.lengths = lengths
        self.taken: list[list[float]] = []

    def __call__(self) -> Iterator[float]:
        taken: list[float] = []
        self.taken.append(taken)
        for length in self.lengths:
            taken.append(length)
            yield length


@contextlib.contextmanager
def unused_uri() -> Iterator[str]:
    """A URI that nobody answers at."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield f"ws://127.0.0.1:{sock.getsockname()[1]}/"


async def first_of(connecting: connect) -> ClientConnection:
    """The first connection, which the iteration is not done with."""
    async for client in connecting:
        return client
    raise AssertionError("an endless iteration has ended")


def reconnections(caplog: pytest.LogCaptureFixture) -> list[str]:
    assert noise(caplog) == []
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "websockets.client" and record.levelno == logging.INFO
    ]


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "websockets")


# When it connects again


async def test_one_after_the_other(caplog: pytest.LogCaptureFixture) -> None:
    """Each turn closes the connection and opens another, at once."""
    async with moody() as (server, uri):
        clients = []
        async for client in connect(uri, compression=None):
            assert all(other.state is State.CLOSED for other in clients)
            assert client.state is State.OPEN
            clients.append(client)
            assert await within(client.recv()) == str(len(clients))
            if len(clients) == 3:
                break
        assert [other.close_code for other in clients] == [1000, 1000, None]
        await client.close()
        assert [ws.close_code for ws in server.connections[:2]] == [1000, 1000]
    assert reconnections(caplog) == []


async def test_after_the_connection_has_ended() -> None:
    """The usual loop: whatever ends the connection, go on."""
    async with moody() as (server, uri):
        received = []
        async for client in connect(uri, compression=None):
            try:
                async for message in client:
                    received.append(message)
                    ws = server.connections[-1]
                    if len(received) == 1:
                        await ws.close(1011, "oops")
                    elif len(received) == 2:
                        ws.transport.abort()
                    else:
                        await ws.close()
            except ConnectionClosed:
                continue
            break
        assert received == ["1", "2", "3"]


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_after_statuses_that_pass(status: int, caplog: pytest.LogCaptureFixture) -> None:
    delays = Delays(0, 0.001, 5)
    async with moody(status, status) as (server, uri):
        client = await within(first_of(connect(uri, reconnect_delays=delays)))
        await client.close()
        assert server.attempts == 3
    assert delays.taken == [[0, 0.001]]
    assert (
        reconnections(caplog)
        == [
            "connect failed; reconnecting in 0.0 seconds: websockets.exceptions.InvalidStatus: "
            f"server rejected WebSocket connection: HTTP {status}"
        ]
        * 2
    )


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 408, 429, 501, 505])
async def test_not_after_other_statuses(status: int, caplog: pytest.LogCaptureFixture) -> None:
    async with moody(status) as (server, uri):
        with pytest.raises(InvalidStatus) as raised:
            await within(first_of(connect(uri, reconnect_delays=Delays())))
        assert raised.value.response.status_code == status
        assert server.attempts == 1
    assert reconnections(caplog) == []


async def test_after_errors_of_the_network(caplog: pytest.LogCaptureFixture) -> None:
    with unused_uri() as uri:
        with pytest.raises(ConnectionRefusedError):
            await within(first_of(connect(uri, reconnect_delays=Delays(0, 0))))
    texts = reconnections(caplog)
    assert len(texts) == 2
    assert texts[0].startswith(
        "connect failed; reconnecting in 0.0 seconds: ConnectionRefusedError: [Errno "
    )


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 101 Swit"], ids=["nothing", "cut"])
async def test_after_a_response_that_ends_early(
    answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with raw_server() as listener:
        opening = asyncio.create_task(
            first_of(connect(listener.uri, reconnect_delays=Delays(0), close_timeout=0.01))
        )
        peer = await listener.accept_request()
        await peer.send(answer)
        peer.close()
        await listener.accept_websocket()
        await (await within(opening)).close()
    assert reconnections(caplog) == [
        "connect failed; reconnecting in 0.0 seconds: "
        "websockets.exceptions.InvalidMessage: did not receive a valid HTTP response"
    ]


async def test_after_a_timeout(caplog: pytest.LogCaptureFixture) -> None:
    async with raw_server() as listener:
        opening = asyncio.create_task(
            first_of(
                connect(
                    listener.uri, reconnect_delays=Delays(0), open_timeout=0.05, close_timeout=0.01
                )
            )
        )
        await (await listener.accept()).read_to_end()

        async def answer() -> None:
            while True:
                # On a busy machine, this takes too long as well.
                with contextlib.suppress(EOFError, OSError):
                    await listener.accept_websocket()

        answering = asyncio.create_task(answer())
        client = await within(opening)
        answering.cancel()
        await client.close()
    assert set(reconnections(caplog)) == {
        "connect failed; reconnecting in 0.0 seconds: "
        "TimeoutError: timed out during opening handshake"
    }


async def test_not_after_nonsense() -> None:
    async with raw_server() as listener:
        opening = asyncio.create_task(first_of(connect(listener.uri, reconnect_delays=Delays())))
        await (await listener.accept_request()).send(b"nonsense\r\n\r\n")
        with pytest.raises(InvalidMessage) as raised:
            await within(opening)
        assert isinstance(raised.value.__cause__, ValueError)


async def test_not_after_mistakes() -> None:
    with pytest.raises(ValueError, match="^ssl=None is incompatible with a wss:// URI$"):
        await within(first_of(connect("wss://127.0.0.1:9/", ssl=None)))


# Pauses


async def test_delays_start_anew_after_success() -> None:
    delays = Delays(0, 0.001, 0.002, 9)
    async with moody(503, 101, 503, 503, 101, 101, 503) as (server, uri):
        clients = []
        async for client in connect(uri, reconnect_delays=delays):
            clients.append(client)
            if len(clients) == 4:
                break
        await clients[-1].close()
        assert server.attempts == 8
    assert delays.taken == [[0], [0, 0.001], [0]]


async def test_delay() -> None:
    start = time.perf_counter()
    async with moody(503) as (_, uri):
        client = await within(first_of(connect(uri, reconnect_delays=Delays(0.03))))
        assert time.perf_counter() - start >= 0.03
        await client.close()


async def test_delays_of_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    slept = []

    async def sleep(delay: float) -> None:
        if delay:
            slept.append(delay)

    async with moody(503, 503, 503) as (_, uri):
        with monkeypatch.context() as patch:
            patch.setattr(asyncio, "sleep", sleep)
            client = await within(first_of(connect(uri)))
        await client.close()
    assert 0 <= slept[0] < 5
    assert [round(delay, 2) for delay in slept[1:]] == [3.1, 5.02]


@pytest.mark.parametrize("lengths", [[], [0], [0, 0]])
async def test_delays_end(lengths: list[float]) -> None:
    """The error is raised then, as it is. 17.4 raises RuntimeError."""
    async with raw_server() as listener:
        opening = asyncio.create_task(
            first_of(connect(listener.uri, reconnect_delays=lambda: lengths))
        )
        for _ in range(len(lengths) + 1):
            (await listener.accept_request()).close()
        with pytest.raises(InvalidMessage) as raised:
            await within(opening)
        assert isinstance(raised.value.__cause__, EOFError)


async def test_cancelled_during_the_pause(caplog: pytest.LogCaptureFixture) -> None:
    with unused_uri() as uri:
        delays = Delays(3600)
        opening = asyncio.create_task(first_of(connect(uri, reconnect_delays=delays)))
        await until(lambda: reconnections(caplog))
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await within(opening)
    assert reconnections(caplog)[0].startswith("connect failed; reconnecting in 3600.0 seconds: ")


async def test_log_record(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("websockets.mine")
    with unused_uri() as uri, pytest.raises(OSError):
        await within(first_of(connect(uri, reconnect_delays=Delays(0.06 / 1000), logger=logger)))
    (record,) = [r for r in caplog.records if r.levelno == logging.INFO]
    assert (record.name, record.exc_info) == ("websockets.mine", None)
    assert record.msg == "connect failed; reconnecting in %.1f seconds: %s"
    assert [type(arg) for arg in record.args or ()] == [float, str]


# process_exception


async def answer_of(process: Callable[[Exception], Any]) -> list[Exception]:
    """What it was asked, by a client that was refused once."""
    asked: list[Exception] = []

    def process_exception(exc: Exception) -> Exception | None:
        asked.append(exc)
        return process(exc)  # type: ignore[no-any-return]

    async with moody(403) as (_, uri):
        client = await within(
            first_of(connect(uri, process_exception=process_exception, reconnect_delays=Delays(0)))
        )
        await client.close()
    return asked


async def test_process_exception_says_again() -> None:
    (asked,) = await answer_of(lambda exc: None)
    assert isinstance(asked, InvalidStatus)


async def test_process_exception_returns_it() -> None:
    with pytest.raises(InvalidStatus) as raised:
        await answer_of(lambda exc: exc)
    assert raised.value.__cause__ is None


async def test_process_exception_returns_another() -> None:
    with pytest.raises(LookupError, match="^mine$") as raised:
        await answer_of(lambda exc: LookupError("mine"))
    assert isinstance(raised.value.__cause__, InvalidStatus)


async def test_process_exception_raises() -> None:
    def process(exc: Exception) -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="^mine$") as raised:
        await answer_of(process)
    assert isinstance(raised.value.__cause__, InvalidStatus)


@pytest.mark.parametrize("wrong", [5, "", False])
async def test_process_exception_returns_something_else(wrong: object) -> None:
    with pytest.raises(TypeError):
        await answer_of(lambda exc: wrong)


async def test_process_exception_is_for_iterations_only() -> None:
    def process(exc: Exception) -> None:
        raise AssertionError

    for enter in (lambda c: c.connect(), lambda c: c.__aenter__()):
        async with moody(503) as (_, uri):
            with pytest.raises(InvalidStatus):
                await within(enter(connect(uri, process_exception=process)))


# How it ends


@pytest.mark.parametrize("way", ["break", "raise", "aclose", "athrow"])
async def test_the_connection_is_closed(way: str) -> None:
    """At the latest when the iterator is gone."""
    async with moody() as (server, uri):
        client: ClientConnection | None = None

        async def iterate() -> None:
            nonlocal client
            async for current in connect(uri):
                client = current
                if way == "raise":
                    raise LookupError
                break

        async def step() -> None:
            nonlocal client
            iterator = aiter(connect(uri))
            client = await anext(iterator)
            if way == "aclose":
                await iterator.aclose()  # type: ignore[attr-defined]
            else:
                await iterator.athrow(LookupError)  # type: ignore[attr-defined]

        ends_in = contextlib.nullcontext()
        if way in ("raise", "athrow"):
            ends_in = pytest.raises(LookupError)  # type: ignore[assignment]
        with ends_in:
            await within(iterate() if way in ("break", "raise") else step())
        await until(lambda: server.connections)
        (ws,) = server.connections
        await within(ws.wait_closed())
        assert ws.close_code == 1011
        assert client is not None
        await until(lambda: client.state is State.CLOSED)


async def test_cancelled_in_the_loop() -> None:
    async with moody() as (server, uri):

        async def iterate() -> None:
            async for client in connect(uri):
                await client.wait_closed()

        task = asyncio.create_task(iterate())
        await until(lambda: server.connections)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await within(task)
        await within(server.connections[0].wait_closed())


async def test_cancelled_at_any_moment() -> None:
    async with moody() as (server, uri):

        async def iterate() -> None:
            async for client in connect(uri, compression=None):
                with contextlib.suppress(ConnectionClosed):
                    await client.recv()

        for steps in itertools.count():
            task = asyncio.create_task(iterate())
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await within(task)
            if len(server.connections) > 5:
                break
        for ws in server.connections:
            await within(ws.wait_closed())


# Ways of calling


async def test_methods_that_are_called() -> None:
    """Subclasses override them."""
    called = []

    class Custom(connect):
        async def connect(self) -> ClientConnection:
            called.append("connect")
            return await super().connect()

        async def __aenter__(self) -> ClientConnection:
            called.append("aenter")
            return await super().__aenter__()

        def __await__(self) -> Any:
            called.append("await")
            return super().__await__()

    async with moody() as (_, uri):
        client = await within(first_of(Custom(uri)))
        await client.close()
        assert called == ["aenter", "await", "connect"]
        called.clear()
        await (await Custom(uri)).close()
        assert called == ["await", "connect"]


async def test_aiter_may_be_replaced() -> None:
    async def once(self: connect) -> AsyncIterator[str]:
        yield self.uri

    class Custom(connect):
        pass

    Custom.__aiter__ = once  # type: ignore[method-assign,assignment]
    assert [uri async for uri in Custom("ws://127.0.0.1:9/")] == ["ws://127.0.0.1:9/"]


async def test_again_and_again() -> None:
    """One object will do, one connection at a time; otherwise it says so."""
    async with serving(idle) as server:
        again = connecting(server)
        for _ in range(2):
            async with again as client:
                assert again.connection is client
                with pytest.raises(RuntimeError, match=r"^connect\(\) isn't reentrant$"):
                    async with again:
                        raise AssertionError
                with pytest.raises(RuntimeError, match=r"^connect\(\) isn't reentrant$"):
                    await first_of(again)
                async with await again as other:
                    assert other.state is client.state is State.OPEN
            assert not hasattr(again, "connection")
        iterator = aiter(again)
        assert (await anext(iterator)).remote_address[1] == port_of(server)
        await iterator.aclose()  # type: ignore[attr-defined]
        async with again:
            pass


async def test_process_exception_is_the_same_everywhere() -> None:
    from websockets import client

    assert client_module.process_exception is client.process_exception
