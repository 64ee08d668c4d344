"""One connection that always has something to read leaves turns to the others.

What is bounded is counted in turns of the event loop and in messages handled, not in seconds: it is
the same on any machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from websockets.asyncio.server import Server, ServerConnection

from ..helpers import (
    BINARY,
    CONT,
    PING,
    TEXT,
    TLS,
    client_frame,
    echo,
    frame,
    port_of,
    raw_client,
    request_bytes,
    server_of_raw_client,
    serving,
    turns,
    until,
    within,
)

# Messages and frames that one connection handles before others have their turn.
BATCH = 256

# What it may handle in one turn: what was left of one batch, and the next one.
TURN = 2 * BATCH

# What a transport reads at once.
READ_SIZE = 256 * 1024

OTHERS = 100


async def iterate(ws: ServerConnection) -> AsyncIterator[Any]:
    async for message in ws:
        yield message


async def receive(ws: ServerConnection) -> AsyncIterator[Any]:
    while True:
        yield await ws.recv()


async def receive_in_tasks(ws: ServerConnection) -> AsyncIterator[Any]:
    while True:
        yield await asyncio.create_task(ws.recv())


async def receive_with_deadlines(ws: ServerConnection) -> AsyncIterator[Any]:
    while True:
        yield await asyncio.wait_for(ws.recv(), 5)


async def stream(ws: ServerConnection) -> AsyncIterator[Any]:
    while True:
        async for part in ws.recv_streaming():
            yield part


# Small, so that one read holds far more of them than a batch.
ONE = client_frame(TEXT)
FLOODS = {"messages": ONE, "messages and pings": ONE + client_frame(PING)}


class Taking:
    """A handler that takes so many messages, and returns."""

    def __init__(self, total: int, receiving: Callable[[Any], Any] = aiter) -> None:
        self.total = total
        self.receiving = receiving
        self.taken = 0

    async def __call__(self, ws: ServerConnection) -> None:
        async for _ in self.receiving(ws):
            self.taken += 1
            if self.taken == self.total:
                return

    async def most(self) -> int:
        """Wait for all; return how many it took in one turn of the event loop at most."""
        most = 0
        while self.taken < self.total:
            before = self.taken
            await asyncio.sleep(0)
            most = max(most, self.taken - before)
        return most


@pytest.mark.parametrize("receiving", [iterate, receive, receive_in_tasks, stream])
@pytest.mark.parametrize("max_queue", [16, None], ids=["bounded queue", "unbounded queue"])
@pytest.mark.parametrize("flood", FLOODS.values(), ids=list(FLOODS))
async def test_messages_of_one_turn(
    receiving: Callable[[ServerConnection], AsyncIterator[Any]],
    max_queue: int | None,
    flood: bytes,
) -> None:
    """However much has arrived, the event loop goes round after a batch."""
    total = 5_000
    handler = Taking(total, receiving)

    async with (
        serving(handler, max_queue=max_queue, close_timeout=0.1) as server,
        raw_client(server) as peer,
    ):
        sending = asyncio.create_task(peer.send(flood * total))
        swallowing = asyncio.create_task(peer.read_to_end())
        most = await handler.most()
        assert most <= TURN
        await within(sending)
        swallowing.cancel()
        await asyncio.wait([swallowing])


@pytest.mark.parametrize(
    "wire",
    [
        client_frame(PING) * 49 + ONE,
        client_frame(TEXT, fin=False) + client_frame(CONT, fin=False) * 48 + client_frame(CONT),
    ],
    ids=["pings", "empty fragments"],
)
async def test_frames_that_are_no_messages(wire: bytes) -> None:
    """Control frames and fragments are counted like messages."""
    total = 200
    handler = Taking(total)

    async with (
        serving(handler, max_queue=None, close_timeout=0.1) as server,
        raw_client(server) as peer,
    ):
        sending = asyncio.create_task(peer.send(wire * total))
        swallowing = asyncio.create_task(peer.read_to_end())
        most = await handler.most()
        # The first of them may be the end of a message that began earlier.
        assert (most - 1) * 50 <= TURN
        await within(sending)
        swallowing.cancel()
        await asyncio.wait([swallowing])


async def test_messages_of_one_turn_over_tls(tls: TLS) -> None:
    """TLS hands on what it has decrypted piece by piece: the pieces make no more of it."""
    total = 20_000
    handler = Taking(total)

    async with serving(handler, ssl=tls.server, close_timeout=0.1) as server:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port_of(server), ssl=tls.client, server_hostname="localhost"
        )
        writer.write(request_bytes(port_of(server)))
        await within(reader.readuntil(b"\r\n\r\n"))
        writer.write(ONE * total)
        most = await handler.most()
        assert most <= TURN
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


# A flood beside a hundred others


class Flood:
    """Threads that see to it that a connection always has something to read."""

    def __init__(self, server: Server, data: bytes) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port_of(server)))
        self.data = data
        self.swallowed = 0
        self.threads = [threading.Thread(target=self.send), threading.Thread(target=self.swallow)]

    def send(self) -> None:
        with contextlib.suppress(OSError):
            self.sock.sendall(request_bytes(self.sock.getpeername()[1]))
            while True:
                self.sock.sendall(self.data)

    def swallow(self) -> None:
        with contextlib.suppress(OSError):
            while data := self.sock.recv(1 << 20):
                self.swallowed += len(data)

    def __enter__(self) -> None:
        for thread in self.threads:
            thread.start()

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()

    async def ended(self) -> None:
        for thread in self.threads:
            await asyncio.to_thread(thread.join)


@pytest.mark.parametrize(
    ("data", "max_queue"),
    [
        pytest.param(ONE * 20_000, 16, id="messages"),
        pytest.param(ONE * 20_000, 256, id="messages, a long queue"),
        pytest.param(client_frame(PING) * 20_000, 16, id="pings"),
        pytest.param(client_frame(BINARY, bytes(2000)) * 500, 256, id="messages of 2 kB"),
        pytest.param(client_frame(BINARY, bytes(1_000_000)), 16, id="large messages"),
    ],
)
async def test_latency_of_others(data: bytes, max_queue: int) -> None:
    """While one connection floods, each of a hundred has its answer after a few turns.

    Meanwhile the flooding one is handed a batch a turn at most.
    """
    flooded = 0

    async def handler(ws: ServerConnection) -> None:
        nonlocal flooded
        assert ws.request is not None
        async for message in ws:
            if ws.request.path == "/":
                flooded += 1
            await ws.send(message)

    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(
            serving(handler, max_queue=max_queue, close_timeout=0.1)
        )
        peers = [
            await stack.enter_async_context(raw_client(server, path="/quiet"))
            for _ in range(OTHERS)
        ]
        flood = Flood(server, data)
        with flood:
            await until(lambda: flood.swallowed > 1000, "the flood is answered")
            swallowed = flood.swallowed
            longest = 0
            for peer in peers:
                before = flooded
                peer.sock.send(client_frame(TEXT, b"anybody there?"))
                waited, answer = 0, b""
                while not answer:
                    await asyncio.sleep(0)
                    waited += 1
                    with contextlib.suppress(BlockingIOError):
                        answer = peer.sock.recv(100)
                assert answer == frame(TEXT, b"anybody there?")
                # What it had queued while it could not send comes on top.
                assert flooded - before <= BATCH * (waited + 1) + max_queue
                longest = max(longest, waited)
            # It went on all the time; the thread that notices may come late.
            await until(lambda: flood.swallowed > swallowed)
        await within(flood.ended())
        # In one turn the bytes are noticed, in the next one they are read and answered.
        assert longest <= 4


async def test_floods_share_the_event_loop() -> None:
    """Connections with the same backlog are through with it at about the same time."""
    total, count = 10_000, 5
    taken = [0] * count
    go_on = asyncio.Event()

    async def handler(ws: ServerConnection) -> None:
        assert ws.request is not None
        i = int(ws.request.path[1:])
        await go_on.wait()
        async for _ in ws:
            taken[i] += 1
            if taken[i] == total:
                return

    async with (
        serving(handler, close_timeout=0.1) as server,
        contextlib.AsyncExitStack() as stack,
    ):
        for i in range(count):
            peer = await stack.enter_async_context(raw_client(server, path=f"/{i}"))
            # A half more than is taken: nobody is slowed down by the end of its backlog.
            await peer.send(ONE * (total + total // 2))
        await asyncio.sleep(0.01)
        go_on.set()
        while max(taken) < total:
            await asyncio.sleep(0)
        assert min(taken) >= total - 4 * BATCH


class Watching(ServerConnection):
    """Notes how much it is offered to read, and how much is read."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.offered: list[int] = []
        self.read: list[int] = []

    def get_buffer(self, sizehint: int) -> memoryview:
        buffer = super().get_buffer(sizehint)
        self.offered.append(len(buffer))
        return buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.read.append(nbytes)
        super().buffer_updated(nbytes)


@pytest.mark.parametrize(
    "wire",
    [
        pytest.param(client_frame(BINARY, bytes(8_000_000)), id="one large message"),
        pytest.param(
            client_frame(BINARY, bytes(4_000_000), fin=False)
            + client_frame(CONT, bytes(4_000_000)),
            id="two large fragments",
        ),
        pytest.param(client_frame(BINARY, bytes(70_000)) * 100, id="messages that span reads"),
        pytest.param(client_frame(TEXT, b"x" * 1000) * 5000, id="many messages"),
    ],
)
async def test_a_read_is_capped(wire: bytes) -> None:
    """Also into a large message: more would leave the cache, and keep others waiting."""
    size = 0

    async def handler(ws: ServerConnection) -> None:
        nonlocal size
        async for message in ws:
            size += len(message)

    async with (
        serving(handler, create_connection=Watching, max_size=None, close_timeout=0.1) as server,
        raw_client(server) as peer,
    ):
        (connection,) = server.connections
        assert isinstance(connection, Watching)
        await peer.send(wire)
        await until(lambda: size >= len(wire) * 0.98)
        await until(lambda: sum(connection.read) >= len(wire))
        assert max(connection.offered) <= READ_SIZE
        assert min(connection.offered) > 0
        # Nothing is gained by reads that are much smaller.
        assert max(connection.offered) == READ_SIZE


@pytest.mark.parametrize("secure", [False, True], ids=["tcp", "tls"])
async def test_reading_stops_inside_a_batch(secure: bool, tls: TLS) -> None:
    """The queue is full in the middle of what was read: the rest waits, whole and in order."""
    total = 3000
    received = []
    most = 0

    async def handler(ws: ServerConnection) -> None:
        nonlocal most
        async for message in ws:
            received.append(int(message))
            # Others arrive meanwhile, more than the queue may hold.
            await turns(len(received) % 3)
            most = max(most, len(ws._ws_session.messages))

    messages = b"".join(client_frame(TEXT, str(i).encode()) for i in range(total))
    async with serving(
        handler, max_queue=4, ssl=tls.server if secure else None, close_timeout=0.1
    ) as server:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1",
            port_of(server),
            ssl=tls.client if secure else None,
            server_hostname="localhost" if secure else None,
        )
        # The first ones come with the handshake.
        writer.write(request_bytes(port_of(server)) + messages)
        await within(reader.readuntil(b"\r\n\r\n"))
        await until(lambda: len(received) == total)
        assert received == list(range(total))
        assert 0 < most <= 4
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


@pytest.mark.parametrize("max_queue", [16, None], ids=["bounded queue", "unbounded queue"])
async def test_batches_of_many_connections_do_not_mix(max_queue: int | None) -> None:
    """What one batch leaves unread is safe from the bytes of the next connection."""
    total, count = 1500, 5

    async with (
        serving(echo, max_queue=max_queue, close_timeout=0.1) as server,
        contextlib.AsyncExitStack() as stack,
    ):
        peers = [await stack.enter_async_context(raw_client(server)) for _ in range(count)]
        ends = [client_frame(TEXT, f"{i}:end".encode()) for i in range(count)]
        for i, peer in enumerate(peers):
            wire = b"".join(client_frame(TEXT, f"{i}:{j}".encode()) for j in range(total))
            # All at once, and cut inside a frame.
            await peer.send(wire + ends[i][:8])
        for i, peer in enumerate(peers):
            for j in range(total):
                assert (await peer.recv_frame()).payload == f"{i}:{j}".encode()
        for i, peer in enumerate(peers):
            await peer.send(ends[i][8:])
            assert (await peer.recv_frame()).payload == f"{i}:end".encode()


@pytest.mark.parametrize("receive", [anext, ServerConnection.recv])
async def test_reading_goes_on_before_the_queue_is_empty(
    receive: Callable[[ServerConnection], Any],
) -> None:
    """It does so at the lower one of the queue's limits, whichever way messages are taken."""
    async with server_of_raw_client(max_queue=(8, 4)) as (server, peer):
        await peer.send(b"".join(client_frame(TEXT, str(i).encode()) for i in range(20)))
        await until(lambda: not server.transport.is_reading())
        for i in range(3):
            assert await receive(server) == str(i)
            await turns()
            assert len(server._ws_session.messages) == 8 - i - 1
        assert await receive(server) == "3"
        await turns()
        assert len(server._ws_session.messages) == 8
        for i in range(4, 20):
            assert await within(receive(server)) == str(i)


async def test_an_application_stops_reading_inside_a_batch() -> None:
    """The transport is the application's, too: what it paused stays so until it resumes it."""
    received = []

    async def handler(ws: ServerConnection) -> None:
        async for message in ws:
            received.append(message)
            if message == "pause":
                ws.transport.pause_reading()

    async with serving(handler, close_timeout=0.1) as server, raw_client(server) as peer:
        (connection,) = server.connections
        await peer.send(client_frame(TEXT, b"pause") + client_frame(TEXT, b"in the same read"))
        await until(lambda: len(received) == 2)
        await peer.send(client_frame(TEXT, b"later"))
        await asyncio.sleep(0.02)
        assert received == ["pause", "in the same read"]
        connection.transport.resume_reading()
        await until(lambda: len(received) == 3)
