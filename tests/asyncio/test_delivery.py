"""Delivery to a waiting task, in all the circumstances in which it could go wrong.

A message may be handed to the task that waits for it while it arrives, before the event loop goes
round. What the application can observe must not depend on that.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import importlib
import os
import pathlib
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from websockets.asyncio import channel
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, ConnectionClosedOK

from ..helpers import (
    CLOSE,
    CONT,
    PONG,
    TEXT,
    client_frame,
    close_payload,
    connecting,
    drain_messages,
    echo,
    frame,
    noise,
    pair,
    raw_client,
    server_of_raw_client,
    serving,
    stalled,
    turns,
    until,
    within,
)

# Ways of waiting: each takes a connection and returns the next message.


async def plainly(ws: Any) -> Any:
    return await ws.recv()


async def in_wait_for(ws: Any) -> Any:
    return await asyncio.wait_for(ws.recv(), 5)


async def in_timeout(ws: Any) -> Any:
    async with asyncio.timeout(5):
        return await ws.recv()


async def in_task(ws: Any) -> Any:
    return await asyncio.create_task(ws.recv())


async def in_task_group(ws: Any) -> Any:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(ws.recv())
    return task.result()


async def in_gather(ws: Any) -> Any:
    message, _ = await asyncio.gather(ws.recv(), asyncio.sleep(0))
    return message


async def in_shield(ws: Any) -> Any:
    return await asyncio.shield(ws.recv())


async def in_wait(ws: Any) -> Any:
    done, _ = await asyncio.wait([asyncio.create_task(ws.recv())])
    return done.pop().result()


async def by_anext(ws: Any) -> Any:
    return await anext(aiter(ws))


async def by_iteration(ws: Any) -> Any:
    async for message in ws:
        return message


async def by_streaming(ws: Any) -> Any:
    return "".join([part async for part in ws.recv_streaming()])


async def in_nested_timeouts(ws: Any) -> Any:
    async with asyncio.timeout(5), asyncio.timeout(4):
        return await asyncio.wait_for(asyncio.shield(ws.recv()), 3)


WAYS = [
    plainly,
    in_wait_for,
    in_timeout,
    in_task,
    in_task_group,
    in_gather,
    in_shield,
    in_wait,
    by_anext,
    by_iteration,
    by_streaming,
    in_nested_timeouts,
]

every_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)


@every_way
async def test_every_way_of_waiting(way: Callable[[Any], Any]) -> None:
    """With the message there already, and with the task there first; one by one and in bulk."""
    async with serving(echo) as server, connecting(server) as client:
        for i in range(20):
            await client.send(str(i))
            assert await within(way(client)) == str(i)
        for i in range(20):
            waiting = asyncio.create_task(way(client))
            await turns()
            await client.send(str(i))
            assert await within(waiting) == str(i)
        for i in range(20):
            await client.send(str(i))
        for i in range(20):
            assert await within(way(client)) == str(i)


@every_way
async def test_every_way_of_waiting_in_a_handler(way: Callable[[Any], Any]) -> None:
    async def handler(ws: ServerConnection) -> None:
        while True:
            await ws.send(await way(ws))

    async with serving(handler) as server, raw_client(server) as peer:
        await peer.send(b"".join(client_frame(TEXT, str(i).encode()) for i in range(200)))
        for i in range(200):
            assert (await peer.recv_frame()).payload == str(i).encode()
        for i in range(20):
            await peer.send_frame(TEXT, str(i).encode())
            assert (await peer.recv_frame()).payload == str(i).encode()
        # Handlers that end with ConnectionClosed are not the subject here.
        await peer.send_close()
        assert (await peer.recv_frame()).opcode == CLOSE


@every_way
async def test_every_way_of_waiting_in_debug_mode(way: Callable[[Any], Any]) -> None:
    asyncio.get_running_loop().set_debug(True)
    async with serving(echo) as server, connecting(server) as client:
        for i in range(5):
            waiting = asyncio.create_task(way(client))
            await turns()
            await client.send(str(i))
            assert await within(waiting) == str(i)


@every_way
async def test_every_way_of_waiting_sees_the_end(way: Callable[[Any], Any]) -> None:
    async with pair() as (client, server):
        waiting = asyncio.create_task(way(server))
        await turns()
        await client.close(1011, "trouble")
        with pytest.raises((ConnectionClosedError, ExceptionGroup)):
            await within(waiting)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in Python 3.12")
async def test_eager_tasks() -> None:
    """Tasks that start inside `create_task`, perhaps while another one is being delivered to."""

    async def handler(ws: ServerConnection) -> None:
        async for message in ws:
            await asyncio.create_task(ws.send(message))

    async with serving(handler) as server, connecting(server) as client:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
        try:
            nothing = asyncio.sleep(0)
            try:
                await asyncio.create_task(nothing)
            except TypeError:
                nothing.close()
                pytest.skip("this event loop cannot start tasks eagerly on this Python")
            for i in range(50):
                await client.send(str(i))
            for i in range(50):
                assert await within(asyncio.create_task(client.recv())) == str(i)
            waiting = asyncio.create_task(client.recv())
            await client.send("later")
            assert await within(waiting) == "later"
        finally:
            loop.set_task_factory(None)


async def test_deadlines_are_met() -> None:
    async with pair() as (_, server):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(server.recv(), 0.01)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await server.recv()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await server.recv()


# Context


CURRENT: contextvars.ContextVar[str] = contextvars.ContextVar("CURRENT", default="unset")


async def test_context_variables_of_the_handler() -> None:
    """What a handler sets is there after every await, and nowhere else."""
    wrong = []

    async def handler(ws: ServerConnection) -> None:
        assert ws.request is not None
        CURRENT.set(ws.request.path)
        async for message in ws:
            if CURRENT.get() != ws.request.path:
                wrong.append(CURRENT.get())
            await ws.send(message)
            if CURRENT.get() != ws.request.path:
                wrong.append(CURRENT.get())

    async with serving(handler) as server:

        async def visit(path: str) -> None:
            CURRENT.set("client of " + path)
            async with connecting(server, path) as client:
                for i in range(20):
                    await client.send(str(i))
                    assert await client.recv() == str(i)
                    assert CURRENT.get() == "client of " + path

        await within(asyncio.gather(*(visit(f"/{i}") for i in range(10))))
    assert wrong == []
    assert CURRENT.get() == "unset"


async def test_current_task() -> None:
    """After `recv`, code runs in its own task, not in some callback."""
    seen = []

    async def handler(ws: ServerConnection) -> None:
        task = asyncio.current_task()
        async for _ in ws:
            seen.append(asyncio.current_task() is task)
            assert asyncio.get_running_loop() is ws.loop
            # Needs a proper task around it.
            async with asyncio.timeout(1):
                await asyncio.sleep(0)
            await ws.send("seen")

    async with serving(handler) as server, connecting(server) as client:
        for _ in range(10):
            await client.send("x")
            assert await within(client.recv()) == "seen"
    assert seen == [True] * 10


async def test_current_task_is_none_between_tasks() -> None:
    """Delivery leaves the event loop as it found it."""
    async with pair() as (client, server):
        receiving = asyncio.create_task(server.recv())
        await turns()
        here = asyncio.current_task()
        await client.send("x")
        await within(receiving)
        assert asyncio.current_task() is here
        seen: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(lambda: seen.set_result(asyncio.current_task()))
        assert await seen is None


# Sending while being delivered to


async def test_nothing_stays_unsent_when_the_handler_suspends() -> None:
    """Whatever the handler waits for after `send`, the message is on its way."""
    go_on = asyncio.Event()

    async def handler(ws: ServerConnection) -> None:
        message = await ws.recv()
        await ws.send(message)
        await ws.send(message)
        await go_on.wait()

    async with serving(handler) as server, connecting(server) as client:
        await client.send("hello")
        assert await within(client.recv()) == "hello"
        assert await within(client.recv()) == "hello"
        go_on.set()


@pytest.mark.parametrize("ending", ["return", "raise", "close", "cancel"])
async def test_nothing_stays_unsent_when_the_handler_ends(ending: str) -> None:
    async def handler(ws: ServerConnection) -> None:
        message = await ws.recv()
        for i in range(10):
            await ws.send(f"{message} {i}")
        if ending == "raise":
            raise LookupError
        if ending == "close":
            await ws.close(4000)
        if ending == "cancel":
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(1)

    async with serving(handler, close_timeout=0.2) as server, connecting(server) as client:
        await client.send("hello")
        messages, exc = await drain_messages(client)
        assert messages == [f"hello {i}" for i in range(10)]
        if ending != "cancel":
            assert exc.rcvd is not None
            assert exc.rcvd.code == {"return": 1000, "raise": 1011, "close": 4000}[ending]


async def test_order_of_everything_sent_in_one_batch() -> None:
    """Messages, fragments, pings, pongs and the close keep the order of the calls."""

    async def handler(ws: ServerConnection) -> None:
        message = await ws.recv()
        await ws.send("one")
        await ws.ping(b"two")
        await ws.send(["three ", "and four"])
        await ws.pong(b"five")
        await ws.send(b"six")
        assert message == "go"
        await ws.close(4000, "seven")

    async with serving(handler, close_timeout=0.2) as server, raw_client(server) as peer:
        await peer.send_frame(TEXT, b"go")
        frames = await peer.recv_frames_to_end()
    payloads = [f.payload for f in frames if f.payload]
    assert payloads == [
        b"one",
        b"two",
        b"three ",
        b"and four",
        b"five",
        b"six",
        close_payload(4000, "seven"),
    ]


async def test_pongs_keep_their_place_among_messages() -> None:
    """Neither kind overtakes its own, whichever is answered first."""
    async with serving(echo) as server, raw_client(server) as peer:
        wire = b""
        for i in range(50):
            wire += client_frame(TEXT, str(i).encode()) + client_frame(0x9, str(i).encode())
        await peer.send(wire)
        echoes, pongs = [], []
        for _ in range(100):
            received = await peer.recv_frame()
            (pongs if received.opcode == PONG else echoes).append(int(received.payload))
        assert echoes == list(range(50))
        assert pongs == list(range(50))


async def test_large_and_small_messages_keep_their_order() -> None:
    async def handler(ws: ServerConnection) -> None:
        async for message in ws:
            size = int(message)
            await ws.send(b"a" * size)
            await ws.send(b"b")
            await ws.send(b"c" * size)

    async with serving(handler) as server, raw_client(server) as peer:
        sizes = [0, 100, 5_000, 70_000, 300_000, 10, 1_000_000, 1]
        await peer.send(b"".join(client_frame(TEXT, str(size).encode()) for size in sizes))
        for size in sizes:
            assert (await peer.recv_frame()).payload == b"a" * size
            assert (await peer.recv_frame()).payload == b"b"
            assert (await peer.recv_frame()).payload == b"c" * size


async def test_what_is_sent_in_one_turn_leaves_together() -> None:
    """The first message leaves at once, and others of the same turn together, at its end."""
    async with server_of_raw_client() as (server, peer):

        def available() -> bytes:
            try:
                return peer.sock.recv(1000)
            except BlockingIOError:
                return b""

        expected = [frame(TEXT, str(i).encode()) for i in range(4)]
        for i in range(4):
            await server.send(str(i))
        # An event loop may keep the first one until the end of the turn, too.
        at_once = available()
        assert at_once in (b"", expected[0])
        await turns()
        assert at_once + available() == b"".join(expected)
        await server.send("0")
        await turns()
        assert available() == expected[0]


async def test_a_batch_holds_back_no_more_than_the_write_limit() -> None:
    """A handler that answers one message with many has to wait for the peer, in a batch as well."""
    total, size = 1000, 10_000
    async with server_of_raw_client(small_buffers=True) as (server, peer):
        sent = 0

        async def answer() -> None:
            nonlocal sent
            async for _ in server:
                for _ in range(total):
                    await server.send(b"x" * size)
                    sent += 1

        answering = asyncio.create_task(answer())
        await turns()
        await peer.send_frame(TEXT, b"go")
        assert await stalled(answering, lambda: sent)
        assert 0 < sent < total / 2
        for _ in range(total):
            assert (await peer.recv_frame()).payload == b"x" * size
        await peer.send_close()
        await peer.recv_frame()
        await within(answering)


async def test_nothing_is_written_behind_the_end_of_the_transport() -> None:
    """The application has closed it: what is sent in the same turn goes nowhere, and is told."""
    async with server_of_raw_client() as (server, peer):
        server.transport.close()
        with pytest.raises(ConnectionClosedError):
            await server.send("too late")
        assert await peer.read_to_end() == b""


@pytest.mark.parametrize("waits_in_between", [False, True])
async def test_what_comes_behind_a_message_has_its_effect_later(waits_in_between: bool) -> None:
    """A message is answered before the close frame in the same read ends the connection.

    The message arrives inside a task, so that its receiver has its turn later.
    """
    async with server_of_raw_client() as (server, peer):
        answered = []

        async def answer() -> None:
            async for message in server:
                if waits_in_between:
                    await asyncio.create_task(asyncio.sleep(0))
                answered.append((message, server.state.name))
                if server.state.name == "OPEN":
                    await server.send(message)

        answering = asyncio.create_task(answer())
        await turns()
        server.data_received(client_frame(TEXT, b"x") + client_frame(CLOSE, close_payload(1000)))
        await within(answering)
        if not waits_in_between:
            assert answered == [("x", "OPEN")]
            assert (await peer.recv_frame()).payload == b"x"
        assert [message for message, _ in answered] == ["x"]
        assert (await peer.recv_frame()).close == (1000, "")


async def test_answers_do_not_wait_for_more_input() -> None:
    """A handler that thinks for a while after `send` does not hold back what it sent."""
    answered = asyncio.Event()

    async def handler(ws: ServerConnection) -> None:
        async for message in ws:
            await ws.send(message)
            await answered.wait()

    async with serving(handler) as server, raw_client(server) as peer:
        await peer.send(client_frame(TEXT, b"one") + client_frame(TEXT, b"two"))
        assert (await peer.recv_frame()).payload == b"one"
        answered.set()
        assert (await peer.recv_frame()).payload == b"two"
        await peer.send_close()
        await peer.recv_frame()


async def test_sending_on_other_connections() -> None:
    """A handler that passes messages on to all others: a chat."""
    members: set[ServerConnection] = set()

    async def handler(ws: ServerConnection) -> None:
        members.add(ws)
        try:
            async for message in ws:
                for member in members:
                    await member.send(message)
        finally:
            members.discard(ws)

    async with serving(handler) as server:
        clients = [await connecting(server) for _ in range(10)]
        await until(lambda: len(members) == 10)
        for i, client in enumerate(clients):
            await client.send(str(i))
        for client in clients:
            received = {await within(client.recv()) for _ in range(10)}
            assert received == {str(i) for i in range(10)}
        for client in clients:
            await client.close()


async def test_two_connections_in_one_process_talk_at_full_speed() -> None:
    """A handler that is itself a client: being delivered to inside a delivery."""
    async with serving(echo) as backend:

        async def relay(ws: ServerConnection) -> None:
            async with connecting(backend) as upstream:
                async for message in ws:
                    await upstream.send(message)
                    await ws.send(await upstream.recv())

        async with serving(relay) as server, connecting(server) as client:
            for i in range(100):
                await client.send(str(i))
                assert await within(client.recv()) == str(i)


# Handlers that act on the connection from within


async def test_handler_closes_while_messages_keep_coming() -> None:
    async def handler(ws: ServerConnection) -> None:
        async for _ in ws:
            await ws.close(4000, "enough")

    async with serving(handler, close_timeout=0.5) as server, raw_client(server) as peer:
        await peer.send(client_frame(TEXT, b"x") * 50)
        assert (await peer.recv_frame()).close == (4000, "enough")
        await peer.send_close(4000)
        assert await peer.recv_frames_to_end() == []


async def test_handler_fails_the_connection_through_the_transport() -> None:
    outcome = []

    async def handler(ws: ServerConnection) -> None:
        await ws.recv()
        ws.transport.abort()
        try:
            await ws.recv()
        except ConnectionClosed as exc:
            outcome.append(type(exc))

    async with serving(handler) as server, raw_client(server) as peer:
        await peer.send(client_frame(TEXT, b"x"))
        await peer.read_to_end()
        await until(lambda: outcome)
    assert outcome == [ConnectionClosedError]


async def test_closing_from_within_a_close() -> None:
    """A task woken by the end of the connection may call `close` itself."""
    async with pair() as (client, server):

        async def close_when_closed() -> None:
            try:
                await server.recv()
            except ConnectionClosed:
                await server.close(4001)
                await client.close(4002)

        tasks = [asyncio.create_task(close_when_closed())]
        tasks += [asyncio.create_task(server.wait_closed()) for _ in range(2)]
        await turns()
        await within(client.close(4000))
        await within(asyncio.gather(*tasks))
        assert client.close_code == server.close_code == 4000


async def test_closing_in_the_batch_that_brings_the_close_frame() -> None:
    """The handler answers a message by `close`; the peer's close frame is right behind it."""
    for ahead in range(4):
        closed = []

        async def handler(ws: ServerConnection, ahead: int = ahead, closed: Any = closed) -> None:
            for _ in range(ahead + 1):
                await ws.recv()
            await asyncio.gather(ws.close(4000, "mine"), ws.close(4001), ws.wait_closed())
            closed.append((ws.close_code, ws.close_reason))

        async with serving(handler, close_timeout=0.5) as server, raw_client(server) as peer:
            await peer.send(
                client_frame(TEXT, b"x") * (ahead + 1)
                + client_frame(CLOSE, close_payload(4002, "yours"))
            )
            peer.send_eof()
            (answer,) = await peer.recv_frames_to_end()
            # One close frame, whichever was first.
            assert answer.close in [(4000, "mine"), (4002, "yours")]
            await until(lambda closed=closed: closed)
        assert closed == [(4002, "yours")]


async def test_handlers_close_each_other() -> None:
    """A delivery on one connection closes another, whose handler closes the first."""
    members: dict[str, ServerConnection] = {}
    ended = []

    async def handler(ws: ServerConnection) -> None:
        assert ws.request is not None
        path = ws.request.path
        members[path] = ws
        other = "/two" if path == "/one" else "/one"
        try:
            async for _ in ws:
                await members[other].close(4000, path)
        finally:
            await members[other].close(4001)
            ended.append(path)

    async with (
        serving(handler, close_timeout=0.3) as server,
        connecting(server, "/one") as one,
        connecting(server, "/two") as two,
    ):
        await until(lambda: len(members) == 2)
        await asyncio.gather(one.send("x"), two.send("x"))
        for client in (one, two):
            _, exc = await drain_messages(client)
            assert exc.rcvd is not None
            assert exc.rcvd.code in (4000, 4001)
        await until(lambda: len(ended) == 2)


async def test_handler_cancels_itself_while_being_delivered_to() -> None:
    finished = []

    async def handler(ws: ServerConnection) -> None:
        await ws.recv()
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        try:
            # What is queued may still be handed out; the next real wait is interrupted.
            while True:
                await ws.recv()
        except asyncio.CancelledError:
            finished.append(task.cancelling())
            raise

    async with serving(handler, close_timeout=0.2) as server, raw_client(server) as peer:
        await peer.send(client_frame(TEXT, b"x") * 3)
        await peer.read_to_end()
        await until(lambda: not server.connections)
    assert finished == [1]


async def test_receiver_is_cancelled_by_another_receiver() -> None:
    """The task that gets a message cancels the one that waits next."""
    async with pair() as (client, server):
        second: asyncio.Task[Any]

        async def first() -> Any:
            message = await server.recv()
            second.cancel()
            return message

        async def next_one(go: asyncio.Task[Any]) -> Any:
            await asyncio.wait([go])
            return await server.recv()

        one = asyncio.create_task(first())
        second = asyncio.create_task(next_one(one))
        await turns()
        await client.send("first")
        await client.send("second")
        assert await within(one) == "first"
        await asyncio.wait([second])
        assert second.cancelled()
        assert await within(server.recv()) == "second"


async def test_exception_in_the_receiving_task() -> None:
    """It belongs to the task: neither the connection nor the event loop hears of it."""
    async with pair() as (client, server):

        async def failing() -> None:
            await server.recv()
            raise LookupError

        for _ in range(3):
            task = asyncio.create_task(failing())
            await turns()
            await client.send("x")
            await asyncio.wait([task])
            assert isinstance(task.exception(), LookupError)
        await client.send("still here")
        assert await within(server.recv()) == "still here"


async def test_garbage_collection_during_delivery() -> None:
    async def handler(ws: ServerConnection) -> None:
        async for message in ws:
            gc.collect()
            await ws.send(message)

    async with serving(handler) as server, raw_client(server) as peer:
        await peer.send(b"".join(client_frame(TEXT, str(i).encode()) for i in range(10)))
        for i in range(10):
            assert (await peer.recv_frame()).payload == str(i).encode()
        await peer.send_close()
        await peer.recv_frame()


async def test_nested_event_handling() -> None:
    """A receiver that starts tasks, which receive and send at once."""
    async with pair() as (client, server):

        async def one_by_one(left: int) -> list[Any]:
            message = await server.recv()
            if left == 1:
                return [message]
            return [message, *await asyncio.create_task(one_by_one(left - 1))]

        receiving = asyncio.create_task(one_by_one(50))
        await turns()
        for i in range(50):
            await client.send(str(i))
        assert await within(receiving) == [str(i) for i in range(50)]


async def test_a_handler_that_never_awaits_anything_new() -> None:
    """`async for` over messages that are all there lets other tasks run."""
    async with server_of_raw_client(max_queue=None) as (server, peer):
        await peer.send(client_frame(TEXT, b"x") * 5000 + client_frame(CLOSE, close_payload(1000)))
        peer.send_eof()
        await within(server.wait_closed())
        assert sum([1 async for _ in server]) == 5000


async def test_messages_received_before_anyone_waits() -> None:
    async with server_of_raw_client() as (server, peer):
        await peer.send(client_frame(TEXT, b"one") + client_frame(TEXT, b"t", fin=False))
        await asyncio.sleep(0.02)
        assert await within(server.recv()) == "one"
        receiving = asyncio.create_task(server.recv())
        await peer.send(client_frame(CONT, b"wo") + client_frame(TEXT, b"three"))
        assert await within(receiving) == "two"
        assert await within(server.recv()) == "three"


async def test_frames_cut_at_every_byte() -> None:
    """However TCP cuts the stream, the messages are the same."""
    wire = (
        client_frame(TEXT, b"short")
        + client_frame(0x9, b"ping")
        + client_frame(TEXT, b"frag", fin=False)
        + client_frame(CONT, b"mented")
        + client_frame(TEXT, b"x" * 200)
    )
    async with server_of_raw_client() as (server, peer):
        for cut in range(1, len(wire)):
            await peer.send(wire[:cut])
            await turns(3)
            await peer.send(wire[cut:])
            received = [await within(server.recv()) for _ in range(3)]
            assert received == ["short", "fragmented", "x" * 200]


async def test_one_byte_at_a_time() -> None:
    async with serving(echo) as server, raw_client(server) as peer:
        for message in (b"a", b"x" * 130):
            for byte in client_frame(TEXT, message):
                await peer.send(bytes([byte]))
                await turns(2)
            assert (await peer.recv_frame()).payload == message


# Interpreters to come


class DeferringTask(asyncio.tasks._PyTask):  # type: ignore[name-defined,misc]
    """A task that does not run when it is woken, but in the next turn of the event loop."""

    def _Task__wakeup(self, future: Any) -> None:
        late = super()._Task__wakeup
        self.get_loop().call_soon(late, future, context=self.get_context())

    if sys.version_info < (3, 12):

        def get_context(self) -> contextvars.Context:
            return self._context  # type: ignore[no-any-return]


async def test_tasks_that_do_not_run_when_they_are_woken() -> None:
    """Where the mechanism does not hold, it is left alone, and nothing is lost or reordered."""

    def factory(loop: asyncio.AbstractEventLoop, coro: Any, **kwargs: Any) -> DeferringTask:
        return DeferringTask(coro, loop=loop, **kwargs)

    loop = asyncio.get_running_loop()
    try:
        async with serving(echo) as server:
            loop.set_task_factory(factory)
            async with raw_client(server) as peer:
                for i in range(5):
                    await peer.send_frame(TEXT, str(i).encode())
                    assert (await peer.recv_frame()).payload == str(i).encode()
                await peer.send(b"".join(client_frame(TEXT, str(i).encode()) for i in range(50)))
                for i in range(50):
                    assert (await peer.recv_frame()).payload == str(i).encode()
                await peer.send_close()
                await peer.recv_frame()
            loop.set_task_factory(None)
    finally:
        loop.set_task_factory(None)
        channel.set_direct(channel.DIRECT)


async def test_such_tasks_after_others() -> None:
    """It has been seen to work, and then it does not: with room for one message, none is lost."""

    def factory(loop: asyncio.AbstractEventLoop, coro: Any, **kwargs: Any) -> DeferringTask:
        return DeferringTask(coro, loop=loop, **kwargs)

    loop = asyncio.get_running_loop()
    try:
        async with serving(echo, max_queue=1) as server:
            for make_task in (None, factory):
                loop.set_task_factory(make_task)
                async with raw_client(server) as peer:
                    for count in (1, 1, 2, 3, 50):
                        wire = [client_frame(TEXT, str(i).encode()) for i in range(count)]
                        await peer.send(b"".join(wire))
                        for i in range(count):
                            assert (await peer.recv_frame()).payload == str(i).encode()
                    await peer.send_close()
                    await peer.recv_frame()
    finally:
        loop.set_task_factory(None)
        channel.set_direct(channel.DIRECT)


# Noise


async def test_a_busy_connection_is_quiet(caplog: pytest.LogCaptureFixture) -> None:
    asyncio.get_running_loop().set_debug(True)
    async with serving(echo) as server, connecting(server) as client:
        for i in range(50):
            await client.send(str(i))
            await within(client.recv())
    assert [line for line in noise(caplog) if "took" not in line] == []


async def test_end_of_both_sides_in_one_turn(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(10):
        async with pair() as (client, server):
            client.transport.abort()
            server.transport.abort()
            with pytest.raises(ConnectionClosed):
                await within(client.recv())
    assert noise(caplog) == []


async def test_async_generator_handlers() -> None:
    """Messages through an async generator that is closed half-way."""

    async def words(ws: ServerConnection) -> AsyncIterator[Any]:
        async for message in ws:
            yield message

    async def handler(ws: ServerConnection) -> None:
        stream = words(ws)
        async for message in stream:
            await ws.send(message)
            if message == "last":
                break
        await stream.aclose()  # type: ignore[attr-defined]
        await ws.send("bye")

    async with serving(handler) as server, connecting(server) as client:
        for word in ("first", "last"):
            await client.send(word)
            assert await within(client.recv()) == word
        assert await within(client.recv()) == "bye"
        with pytest.raises(ConnectionClosedOK):
            await within(client.recv())


async def test_events_from_other_threads() -> None:
    """`call_soon_threadsafe` in the middle of a stream of deliveries."""
    async with serving(echo) as server, connecting(server) as client:
        loop = asyncio.get_running_loop()
        called = []

        def elsewhere() -> None:
            for i in range(50):
                loop.call_soon_threadsafe(called.append, i)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        for i in range(100):
            await client.send(str(i))
            assert await within(client.recv()) == str(i)
        await asyncio.to_thread(thread.join)
        await turns()
        assert called == list(range(50))


# KeyboardInterrupt and SystemExit

INTERRUPTED = """
    import asyncio, signal, sys
    from websockets.asyncio.client import connect
    from websockets.asyncio.server import serve

    # Where the tests run in the background, interrupts may be ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    async def handler(ws):
        try:
            async for message in ws:
                if message == "stop":
                    {stop}
                await ws.send(message)
        finally:
            print("handler ended", flush=True)

    async def main():
        async with serve(handler, "127.0.0.1", 0, close_timeout=0.2) as server:
            port = list(server.sockets)[0].getsockname()[1]
            async with connect(f"ws://127.0.0.1:{{port}}/", close_timeout=0.2) as client:
                await client.send("hello")
                print(await client.recv(), flush=True)
                await client.send("stop")
                await client.recv()

    if "uvloop" in sys.argv:
        import uvloop
        run = uvloop.run
    else:
        run = asyncio.run
    try:
        run(main())
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    except SystemExit as exc:
        print("exit", exc.code, flush=True)
"""

ENDINGS = {
    "signal": ("signal.raise_signal(signal.SIGINT)", "interrupted"),
    "raise KeyboardInterrupt": ("raise KeyboardInterrupt", "interrupted"),
    "sys.exit": ("sys.exit(3)", "exit 3"),
}


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize(("stop", "outcome"), ENDINGS.values(), ids=ENDINGS)
def test_interruption_inside_a_handler(
    stop: str, outcome: str, loop: str, tmp_path: pathlib.Path
) -> None:
    """Ctrl-C reaches the program, not the log, and the program ends."""
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(INTERRUPTED.format(stop=stop)))
    result = subprocess.run(
        [sys.executable, str(script), loop],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    lines = result.stdout.splitlines()
    assert lines[0] == "hello", result.stderr
    assert lines[-1] == outcome, result.stderr
    assert "handler ended" in lines, result.stderr
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("value", ["off", "2", " "])
def test_the_switch_is_0_or_1(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBSOCKETS_DIRECT_DELIVERY", value)
    with pytest.raises(ValueError, match="WEBSOCKETS_DIRECT_DELIVERY must be 0 or 1, not"):
        importlib.reload(channel)
