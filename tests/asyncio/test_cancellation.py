"""Cancelling any await loses no message, leaks no task, and leaves the connection usable."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Any

import pytest

from websockets.asyncio import channel
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConcurrencyError, ConnectionClosed
from websockets.protocol import State

from ..helpers import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    PONG,
    TEXT,
    client_of_raw_server,
    connecting,
    drain_messages,
    echo,
    idle,
    pair,
    raw_server,
    server_of_raw_client,
    serving,
    stalled,
    turns,
    until,
    within,
)


async def cancelled(task: asyncio.Task[Any]) -> None:
    """Cancel a task, which must obey."""
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await within(task)


# recv


async def test_recv() -> None:
    async with pair() as (client, server):
        for i in range(20):
            receiving = asyncio.create_task(server.recv())
            await turns(i % 4)
            await cancelled(receiving)
        await client.send("kept")
        assert await within(server.recv()) == "kept"


@pytest.mark.parametrize("direct", [True, False])
async def test_recv_keeps_the_message_of_the_cancellation(direct: bool) -> None:
    """Cancel scopes know their cancellation by it."""
    channel.set_direct(direct)
    try:
        async with pair() as (client, server):
            for args in (("the message",), (("a", 1),), ()):
                receiving = asyncio.create_task(server.recv())
                await turns()
                receiving.cancel(*args)
                with pytest.raises(asyncio.CancelledError) as raised:
                    await within(receiving)
                assert raised.value.args == args
            receiving = asyncio.create_task(anext(server.recv_streaming()))
            await turns()
            receiving.cancel("streaming")
            with pytest.raises(asyncio.CancelledError, match="^streaming$"):
                await within(receiving)
            await client.send("kept")
            assert await within(server.recv()) == "kept"
    finally:
        channel.set_direct(channel.DIRECT)


@pytest.mark.parametrize("delay", range(6))
async def test_recv_as_the_message_arrives(delay: int) -> None:
    """At whatever moment it hits, the message is either received or still there."""
    async with pair() as (client, server):
        for i in range(30):
            receiving = asyncio.create_task(server.recv())
            await turns(2)
            await client.send(str(i))
            await turns(delay)
            receiving.cancel()
            await asyncio.wait([receiving])
            if receiving.cancelled():
                assert await within(server.recv()) == str(i)
            else:
                assert receiving.result() == str(i)


async def test_recv_with_short_deadlines() -> None:
    """`wait_for` around `recv`, over and over: the classic way to lose messages."""
    async with pair() as (client, server):
        total = 300

        async def send() -> None:
            for i in range(total):
                await client.send(str(i))
                if i % 7 == 0:
                    await asyncio.sleep(0.001)

        sending = asyncio.create_task(send())
        received = []
        while len(received) < total:
            try:
                received.append(await asyncio.wait_for(server.recv(), 0.0005))
            except TimeoutError:
                pass
        assert received == [str(i) for i in range(total)]
        await sending


async def test_recv_between_fragments() -> None:
    async with server_of_raw_client() as (server, peer):
        await peer.send_frame(TEXT, b"one ", fin=False)
        receiving = asyncio.create_task(server.recv())
        await turns()
        await cancelled(receiving)
        await peer.send_frame(CONT, b"message")
        assert await within(server.recv()) == "one message"


async def test_recv_streaming_before_the_message() -> None:
    async with server_of_raw_client() as (server, peer):
        receiving = asyncio.create_task(anext(server.recv_streaming()))
        await turns()
        await cancelled(receiving)
        await peer.send_frame(TEXT, b"kept")
        assert await within(server.recv()) == "kept"


async def test_recv_streaming_inside_a_message() -> None:
    """The rest of a message that was given up must not look like another message."""
    async with server_of_raw_client() as (server, peer):
        stream = server.recv_streaming()
        await peer.send_frame(TEXT, b"one ", fin=False)
        assert await within(anext(stream)) == "one "
        receiving = asyncio.create_task(anext(stream))
        await turns()
        await cancelled(receiving)
        await stream.aclose()
        await peer.send_frame(CONT, b"message")
        await peer.send_frame(TEXT, b"another")
        try:
            message = await within(server.recv())
        except ConcurrencyError:
            pass
        else:
            assert message == "another"
        assert server.state is State.OPEN


async def test_iteration() -> None:
    async with pair() as (client, server):
        received = []

        async def iterate() -> None:
            async for message in server:
                received.append(message)

        iterating = asyncio.create_task(iterate())
        await client.send("one")
        await until(lambda: received)
        await cancelled(iterating)
        await client.send("two")
        assert await within(server.recv()) == "two"
        assert received == ["one"]


# send


@pytest.mark.parametrize("fragmented", [False, True])
async def test_send_blocked_by_flow_control(fragmented: bool) -> None:
    """A message is sent as a whole or not at all, or else the connection fails."""
    async with server_of_raw_client(small_buffers=True, close_timeout=1) as (server, peer):
        block = b"x" * 100_000
        whole = 0

        async def fill() -> None:
            nonlocal whole
            while True:
                await server.send([block, block] if fragmented else block)
                whole += 1

        filling = asyncio.create_task(fill())
        assert await stalled(filling, lambda: whole)
        await cancelled(filling)
        sending = asyncio.create_task(server.send("after"))
        data = []
        while (received := await peer.recv_frame()).opcode not in (TEXT, CLOSE):
            assert received.payload in (block, b"")
            data.append(received)
        if received.opcode == CLOSE:
            # A message torn in two cannot be mended: its connection is failed.
            assert not data[-1].fin
            assert received.close[0] == 1011
            with pytest.raises(ConnectionClosed):
                await within(sending)
        else:
            assert data[-1].fin
            assert received.payload == b"after"
            await within(sending)
            assert whole <= sum(f.fin for f in data) <= whole + 1


async def test_send_waiting_for_another_send() -> None:
    """What had not begun is not sent."""
    async with pair() as (client, server):
        go_on = asyncio.Event()

        async def slowly() -> Any:
            yield "first, "
            await go_on.wait()
            yield "still first"

        sending = asyncio.create_task(client.send(slowly()))
        await turns()
        waiting = [asyncio.create_task(client.send(str(i))) for i in range(3)]
        await turns()
        await cancelled(waiting[1])
        go_on.set()
        await within(asyncio.gather(sending, waiting[0], waiting[2]))
        received = [await within(server.recv()) for _ in range(3)]
        assert received == ["first, still first", "0", "2"]


async def test_send_inside_an_iterable() -> None:
    """A message begun and not finished: the peer learns 1011."""
    async with pair() as (client, server):

        async def stuck() -> Any:
            yield "begun"
            await asyncio.Event().wait()

        sending = asyncio.create_task(client.send(stuck()))
        await turns()
        await cancelled(sending)
        messages, exc = await drain_messages(server)
        assert messages == []
        assert exc.rcvd is not None
        assert exc.rcvd.code == 1011


async def test_send_before_the_first_fragment() -> None:
    async with pair() as (client, server):

        async def stuck() -> Any:
            await asyncio.Event().wait()
            yield "never"

        sending = asyncio.create_task(client.send(stuck()))
        await turns()
        await cancelled(sending)
        await client.send("unharmed")
        assert await within(server.recv()) == "unharmed"


async def test_send_whose_last_fragment_has_left() -> None:
    """The message is whole: cancelling the wait for room does no harm to the connection."""
    async with client_of_raw_server(small_buffers=True, write_limit=(10, 0)) as (client, peer):
        await fill_socket(client)

        async def one() -> Any:
            # This frame of 7 bytes is below the limit; the last one, of 6, goes beyond.
            yield "a"
            await asyncio.sleep(0.02)
            ended.append(True)

        ended: list[bool] = []
        sending = asyncio.create_task(client.send(one()))
        assert await stalled(sending, lambda: len(ended))
        assert ended
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await within(sending)
        assert client.state is State.OPEN
        client.transport.abort()


async def fill_socket(ws: Any) -> None:
    """Leave no room in the socket of a connection, behind its back."""
    fd = ws.transport.get_extra_info("socket").fileno()
    quiet = 0
    # The kernel makes room once more as it moves bytes to the peer's socket, which takes its time.
    while quiet < 10:
        quiet += 1
        for size in (65536, 1):
            with contextlib.suppress(BlockingIOError):
                while os.write(fd, b"x" * size):
                    quiet = 0
        await asyncio.sleep(0.01)


async def test_all_senders_of_a_blocked_connection() -> None:
    async with server_of_raw_client(small_buffers=True) as (server, _):
        tasks = [asyncio.create_task(server.send(b"x" * 100_000)) for _ in range(50)]
        await asyncio.sleep(0.1)
        waiting = [task for task in tasks if not task.done()]
        assert waiting
        for task in waiting:
            task.cancel()
        await within(asyncio.wait(waiting))
        assert all(task.cancelled() for task in waiting)
        assert server.state is State.OPEN


# ping


async def test_waiting_for_a_pong() -> None:
    async with client_of_raw_server() as (client, peer):

        async def ping() -> None:
            await (await client.ping(b"mine"))

        pinging = asyncio.create_task(ping())
        assert (await peer.recv_frame()).opcode == PING
        await cancelled(pinging)
        await peer.send_frame(PONG, b"mine")
        await peer.send_frame(TEXT, b"after")
        assert await within(client.recv()) == "after"
        again = await client.ping(b"mine")
        await peer.recv_frame()
        await peer.send_frame(PONG, b"mine")
        await within(again)


async def test_ping_blocked_by_flow_control() -> None:
    async with server_of_raw_client(small_buffers=True) as (server, _):
        filling = asyncio.create_task(fill(server))
        await stalled(filling, lambda: None)
        pinging = asyncio.create_task(server.ping())
        await turns()
        pinging.cancel()
        await within(asyncio.wait([pinging]))
        await cancelled(filling)
        assert server.state is State.OPEN


async def test_control_frames_that_were_not_sent() -> None:
    """Once there is room again, there is nothing of them, and a ping may have the same payload."""
    async with server_of_raw_client(small_buffers=True) as (server, peer):
        filling = asyncio.create_task(fill(server))
        assert await stalled(filling, lambda: None)
        await cancelled(filling)
        waiting = [
            asyncio.create_task(server.ping(b"never")),
            asyncio.create_task(server.pong(b"never")),
        ]
        await turns()
        assert not any(task.done() for task in waiting)
        for task in waiting:
            await cancelled(task)
        sending = asyncio.create_task(server.send("last"))
        while (received := await peer.recv_frame()).opcode != TEXT:
            assert received.opcode == BINARY
        assert received.payload == b"last"
        await within(sending)
        await server.ping(b"never")
        assert (await peer.recv_frame()).opcode == PING


async def fill(ws: Any) -> None:
    while True:
        await ws.send(b"x" * 100_000)


# close and wait_closed


async def test_close() -> None:
    """The handshake goes on; only the waiting ends."""
    async with client_of_raw_server(close_timeout=5) as (client, peer):
        closing = asyncio.create_task(client.close(4000, "bye"))
        assert (await peer.recv_frame()).close == (4000, "bye")
        await cancelled(closing)
        assert client.state is State.CLOSING
        await peer.send_close(4000, "bye")
        peer.close()
        await within(client.wait_closed())
        assert client.close_code == 4000


async def test_close_then_close_again() -> None:
    async with client_of_raw_server(close_timeout=0.1) as (client, peer):
        closing = asyncio.create_task(client.close(4000))
        assert (await peer.recv_frame()).close == (4000, "")
        await cancelled(closing)
        await within(client.close(4001))
        assert client.state is State.CLOSED


async def test_wait_closed() -> None:
    async with pair() as (client, server):
        waiting = [asyncio.create_task(server.wait_closed()) for _ in range(3)]
        await turns()
        await cancelled(waiting[0])
        assert server.state is State.OPEN
        await client.close()
        await within(asyncio.gather(*waiting[1:]))


async def test_leaving_the_context() -> None:
    """Cancelled inside `async with`, the connection is closed all the same."""
    async with serving(echo) as server:
        inside: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        async def use() -> None:
            async with connecting(server) as client:
                inside.set_result(client)
                await asyncio.Event().wait()

        using = asyncio.create_task(use())
        client = await within(inside)
        await cancelled(using)
        assert client.state is State.CLOSED
        await until(lambda: not server.connections)


# connect


async def test_connect_before_the_response() -> None:
    async with raw_server() as listener:
        connecting_ = asyncio.create_task(connect(listener.uri).__aenter__())
        peer = await listener.accept_request()
        await cancelled(connecting_)
        await peer.expect_eof()


async def test_connect_at_any_moment() -> None:
    """Whenever it hits: no connection is left behind."""
    async with serving(idle, open_timeout=1) as server:
        for delay in range(25):

            async def visit() -> None:
                async with connecting(server):
                    await asyncio.Event().wait()

            visiting = asyncio.create_task(visit())
            await turns(delay)
            await cancelled(visiting)
        await until(lambda: not server.connections)


async def test_connect_with_a_deadline() -> None:
    async with raw_server() as listener:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await connect(listener.uri, open_timeout=None)
        peer = await listener.accept()
        await peer.read_to_end()


# The handler, the server


async def test_handler() -> None:
    """A cancelled handler ends its connection, properly."""
    tasks = []

    async def handler(ws: ServerConnection) -> None:
        tasks.append(asyncio.current_task())
        await ws.recv()

    async with serving(handler, close_timeout=0.2) as server, connecting(server) as client:
        await until(lambda: tasks)
        tasks[0].cancel()
        with pytest.raises(ConnectionClosed):
            await within(client.recv())
        await until(lambda: not server.connections)
        async with connecting(server) as another:
            await another.send("served")


async def test_child_tasks_of_the_handler() -> None:
    """A reader and a writer in a task group: the first to end takes the other along."""
    ended = []

    async def handler(ws: ServerConnection) -> None:
        async def read() -> None:
            async for message in ws:
                if message == "stop":
                    raise LookupError

        async def write() -> None:
            try:
                while True:
                    await ws.send("tick")
                    await asyncio.sleep(0.005)
            finally:
                ended.append("writer")

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(read())
                group.create_task(write())
        except* LookupError:
            ended.append("group")

    async with serving(handler) as server, connecting(server, max_queue=None) as client:
        await client.send("go on")
        assert await within(client.recv()) == "tick"
        await client.send("stop")
        messages, exc = await drain_messages(client)
        assert set(messages) <= {"tick"}
        assert exc.rcvd is not None
        assert exc.rcvd.code == 1000
    assert ended == ["writer", "group"]


async def test_server_wait_closed() -> None:
    async with serving(idle) as server, connecting(server) as client:
        waiting = asyncio.create_task(server.wait_closed())
        await turns()
        await cancelled(waiting)
        assert server.is_serving()
        await within(await client.ping())


async def test_leaving_the_server() -> None:
    """Cancelling the task that serves closes every connection."""
    ready: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def run() -> None:
        async with serving(idle) as server:
            ready.set_result(server)
            await asyncio.Event().wait()

    running = asyncio.create_task(run())
    server = await within(ready)
    clients = [await connecting(server) for _ in range(5)]
    await cancelled(running)
    for client in clients:
        _, exc = await drain_messages(client)
        assert exc.rcvd is not None
        assert exc.rcvd.code == 1001


async def test_everything_at_once() -> None:
    """Tasks in every kind of wait on one connection, all cancelled together."""
    async with server_of_raw_client(small_buffers=True, close_timeout=0.1) as (server, peer):
        await peer.send_frame(BINARY, b"kept")
        tasks = [
            asyncio.create_task(fill(server)),
            asyncio.create_task(server.wait_closed()),
            asyncio.create_task(server.send(["a", "b"])),
            asyncio.create_task(server.ping()),
        ]
        assert await within(server.recv()) == b"kept"
        tasks.append(asyncio.create_task(server.recv()))
        await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        await within(asyncio.wait(tasks))
        for task in tasks:
            if not task.cancelled():
                task.exception()
        await within(server.close())
        assert server.state is State.CLOSED


async def test_waiting_for_a_server_that_closes() -> None:
    """It closes by itself; only the waiting ends."""
    async with serving(idle) as server, connecting(server) as client:
        server.close()
        waiting = asyncio.create_task(server.wait_closed())
        await turns(1)
        await cancelled(waiting)
        _, exc = await drain_messages(client)
        assert exc.rcvd is not None
        assert exc.rcvd.code == 1001
        await within(server.wait_closed())
        assert not server.is_serving()
