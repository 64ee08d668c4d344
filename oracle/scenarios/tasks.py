"""Timeouts, cancellations, and several tasks on one connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from websockets.asyncio.server import ServerConnection

from ..ends import (
    CLOSE,
    CONT,
    PONG,
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


@scenario
async def recv_times_out(s: Scenario) -> None:
    """recv() with a timeout loses no message."""

    async with serving(s, echo) as server, connecting(server) as websocket:
        for _ in range(2):
            with s.failing("timeout"):
                async with asyncio.timeout(0.02):
                    await websocket.recv()
        await websocket.send("kept")
        s.note("received", await websocket.recv())


@scenario
async def recv_cancelled(s: Scenario) -> None:
    """recv() is cancelled as its message arrives; the next one gets it or it has been returned."""

    async with serving(s, echo) as server, connecting(server) as websocket:
        task = asyncio.create_task(websocket.recv())
        await asyncio.sleep(0)
        task.cancel()
        s.note("cancelled", await asyncio.gather(task, return_exceptions=True))
        await websocket.send("kept")
        s.note("received", await websocket.recv())


@scenario
async def recv_within_wait_for(s: Scenario) -> None:
    """wait_for() around recv()."""

    async with serving(s, echo) as server, connecting(server) as websocket:
        await websocket.send("one")
        s.note("received", await asyncio.wait_for(websocket.recv(), 5))
        with s.failing("nothing"):
            await asyncio.wait_for(websocket.recv(), 0.02)


@scenario
async def recv_streaming_cancelled(s: Scenario) -> None:
    """recv_streaming() is cancelled before its first fragment, which changes nothing."""

    async with serving(s, echo) as server, connecting(server) as websocket:
        with s.failing("timeout"):
            async with asyncio.timeout(0.02):
                async for _ in websocket.recv_streaming():
                    pass
        await websocket.send("kept")
        s.note("received", [item async for item in websocket.recv_streaming()])


@scenario
async def recv_streaming_cancelled_midway(s: Scenario) -> None:
    """recv_streaming() is cancelled between fragments: nothing can be received any more."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        await raw.send(frame(TEXT, "one", fin=False))
        await raw.frame()
        await raw.send(frame(CONT, "two"), frame(TEXT, "next"))
        await raw.close_handshake()

    async with raw_server(s, peer) as where, connecting(where) as websocket:
        with s.failing("timeout"):
            async with asyncio.timeout(0.1):
                async for fragment in websocket.recv_streaming():
                    s.note("fragment", fragment)
        await websocket.send("go on")
        await asyncio.sleep(0.02)
        with s.failing("recv"):
            await websocket.recv()
        with s.failing("recv_streaming"):
            async for fragment in websocket.recv_streaming():
                s.note("fragment", fragment)


@scenario
async def recv_streaming_left(s: Scenario) -> None:
    """The iteration over recv_streaming() is left before the message has ended."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        await raw.send(frame(TEXT, "one", fin=False))
        await raw.frame()
        await raw.send(frame(CONT, "two"), frame(TEXT, "next"))
        await raw.close_handshake()

    async with raw_server(s, peer) as where, connecting(where) as websocket:
        fragments = websocket.recv_streaming()
        s.note("fragment", await anext(fragments))
        await fragments.aclose()  # type: ignore[attr-defined]
        await websocket.send("go on")
        await asyncio.sleep(0.02)
        with s.failing("recv"):
            await websocket.recv()


@scenario
async def two_receivers(s: Scenario) -> None:
    """Only one coroutine may receive."""

    async with serving(s, echo) as server, connecting(server) as websocket:
        task = asyncio.create_task(websocket.recv())
        await asyncio.sleep(0.01)
        with s.failing("recv"):
            await websocket.recv()
        with s.failing("recv_streaming"):
            async for _ in websocket.recv_streaming():
                pass
        with s.failing("iteration"):
            async for _ in websocket:
                pass
        await websocket.send("for the first")
        s.note("received", await task)


@scenario
async def recv_while_streaming(s: Scenario) -> None:
    """recv() within an iteration over recv_streaming()."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        await raw.send(frame(TEXT, "one", fin=False))
        await raw.frame()
        await raw.send(frame(CONT, "two"), frame(TEXT, "next"))
        await raw.close_handshake()

    async with raw_server(s, peer) as where, connecting(where) as websocket:
        async for fragment in websocket.recv_streaming():
            s.note("fragment", fragment)
            if fragment == "one":
                with s.failing("recv"):
                    await websocket.recv()
                with s.failing("recv_streaming"):
                    await anext(websocket.recv_streaming())
                await websocket.send("go on")
        s.note("received", await websocket.recv())


@scenario
async def send_while_sending_fragments(s: Scenario) -> None:
    """Messages wait for the end of a fragmented one; control frames do not."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        for _ in range(5):
            await raw.frame()
        await raw.close_handshake()

    go_on = asyncio.Event()

    async def fragments() -> AsyncIterator[str]:
        yield "one"
        await go_on.wait()
        yield "two"

    async with raw_server(s, peer) as where, connecting(where) as websocket:
        first = asyncio.create_task(websocket.send(fragments()))
        await asyncio.sleep(0.01)
        second = asyncio.create_task(websocket.send("whole"))
        await asyncio.sleep(0.01)
        await websocket.ping(b"between")
        await asyncio.sleep(0.01)
        s.note("done", first.done(), second.done())
        go_on.set()
        await asyncio.gather(first, second)


@scenario
async def close_while_sending_fragments(s: Scenario) -> None:
    """close() does not wait for the end of a fragmented message."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        await raw.close_handshake()

    never = asyncio.Event()

    async def fragments() -> AsyncIterator[str]:
        yield "one"
        await never.wait()

    async with raw_server(s, peer) as where:
        websocket = await connecting(where)
        task = asyncio.create_task(websocket.send(fragments()))
        await asyncio.sleep(0.01)
        with s.failing("close"):
            async with asyncio.timeout(2):
                await websocket.close()
        task.cancel()
        s.note("send", await asyncio.gather(task, return_exceptions=True))
        ending(s, websocket)


@scenario
async def iterable_that_fails(s: Scenario) -> None:
    """An iterable that fails after its first item."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        await raw.close_handshake()

    async def fragments() -> AsyncIterator[str]:
        yield "one"
        raise KeyError("mine")

    async with raw_server(s, peer) as where:
        websocket = await connecting(where)
        with s.failing("send"):
            await websocket.send(fragments())
        await websocket.wait_closed()
        ending(s, websocket)


@scenario
async def iterable_of_mixed_types(s: Scenario) -> None:
    """An iterable of text and bytes."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        await raw.close_handshake()

    async with raw_server(s, peer) as where:
        websocket = await connecting(where)
        with s.failing("send"):
            await websocket.send(["text", b"bytes"])
        await websocket.wait_closed()
        ending(s, websocket)


@scenario
async def iterable_of_wrong_type(s: Scenario) -> None:
    """An iterable of what is no message."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        await raw.close_handshake()

    async with raw_server(s, peer) as where:
        websocket = await connecting(where)
        with s.failing("send"):
            await websocket.send([1, 2])  # type: ignore[list-item]
        with s.failing("send again"):
            await websocket.send("hello")
        await websocket.close()
        ending(s, websocket)


@scenario
async def many_senders(s: Scenario) -> None:
    """Messages of tasks that send at the same time all arrive."""

    async with (
        serving(s, echo, logger=QUIET) as server,
        connecting(server, max_queue=None, logger=QUIET) as websocket,
    ):
        await asyncio.gather(*(websocket.send(f"message {number}") for number in range(20)))
        received = [await websocket.recv() for _ in range(20)]
        s.note("in order", received == [f"message {number}" for number in range(20)])


@scenario
async def close_cancelled(s: Scenario) -> None:
    """close() is cancelled while it waits; the connection ends all the same."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        _, payload = await raw.frame()
        await asyncio.sleep(0.1)
        await raw.send(frame(CLOSE, payload))
        raw.eof()
        await raw.end()

    async with raw_server(s, peer) as where:
        websocket = await connecting(where)
        with s.failing("close"):
            async with asyncio.timeout(0.02):
                await websocket.close()
        s.note("state", websocket.state)
        await websocket.wait_closed()
        ending(s, websocket)


@scenario
async def wait_closed_cancelled(s: Scenario) -> None:
    """wait_closed() is cancelled, which changes nothing."""

    async with serving(s, echo) as server, connecting(server) as websocket:
        with s.failing("wait_closed"):
            async with asyncio.timeout(0.02):
                await websocket.wait_closed()
        await websocket.send("still open")
        s.note("received", await websocket.recv())


@scenario
async def ping_and_pong(s: Scenario) -> None:
    """Pings are answered in order, and a pong answers for those before its own."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        for _ in range(3):
            await raw.frame()
        await raw.send(frame(PONG, "b"))
        await raw.frame()
        await raw.send(frame(PONG, "unknown"), frame(PONG, "c"))
        await raw.close_handshake()

    async with raw_server(s, peer) as where, connecting(where) as websocket:
        pongs = [await websocket.ping(data) for data in ("a", b"b", "c")]
        await asyncio.gather(*pongs[:2])
        s.note("answered", [pong.done() for pong in pongs])  # type: ignore[attr-defined]
        s.note("latency", type(await pongs[0]).__name__, websocket.latency > 0)
        await websocket.send("go on")
        await pongs[2]


@scenario
async def ping_twice(s: Scenario) -> None:
    """Two pings with the same payload."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        await raw.close_handshake()

    async with raw_server(s, peer) as where:
        async with connecting(where) as websocket:
            await websocket.ping("same")
            with s.failing("ping"):
                await websocket.ping(b"same")


@scenario
async def ping_never_answered(s: Scenario) -> None:
    """A pong is waited for when the connection is closed."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        await raw.close_handshake()

    async with raw_server(s, peer) as where:
        websocket = await connecting(where)
        pong = await websocket.ping("x")
        forgotten = await websocket.ping("y")
        await websocket.close()
        with s.failing("pong"):
            await pong
        del forgotten


@scenario
async def ping_cancelled(s: Scenario) -> None:
    """Waiting for a pong is cancelled, and then the pong comes."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        await raw.frame()
        await raw.frame()
        await raw.send(frame(PONG, "x"), frame(TEXT, "after"))
        await raw.close_handshake()

    async with raw_server(s, peer) as where, connecting(where) as websocket:
        pong = await websocket.ping("x")
        with s.failing("timeout"):
            async with asyncio.timeout(0.02):
                await pong
        await websocket.send("go on")
        s.note("received", await websocket.recv())


@scenario
async def handler_cancelled_task(s: Scenario) -> None:
    """A handler cancels a task of its own that receives."""

    async def handler(websocket: ServerConnection) -> None:
        task = asyncio.create_task(websocket.recv())
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
        await websocket.send("cancelled")
        s.track("server").note("received", await websocket.recv())

    async with serving(s, handler) as server, raw_client(s, server) as raw:
        await raw.open()
        await raw.frame()
        await raw.send(masked(TEXT, "for recv"))
        await raw.frame()
        await raw.close_as_client()


@scenario
async def task_group(s: Scenario) -> None:
    """A task group whose tasks receive and send, and end with the connection."""

    async def handler(websocket: ServerConnection) -> None:
        track = s.track("server")
        queue: asyncio.Queue[str | bytes | None] = asyncio.Queue()

        async def receive() -> None:
            async for message in websocket:
                queue.put_nowait(message)
            queue.put_nowait(None)

        async def reply() -> None:
            while (message := await queue.get()) is not None:
                await websocket.send(message)

        async with asyncio.TaskGroup() as group:
            group.create_task(receive())
            group.create_task(reply())
        ending(track, websocket)

    async with serving(s, handler) as server, connecting(server) as websocket:
        for message in ("a", "b"):
            await websocket.send(message)
            s.note("received", await websocket.recv())


@scenario
async def task_group_fails(s: Scenario) -> None:
    """A task group in which receiving ends with an exception."""

    async def handler(websocket: ServerConnection) -> None:
        async def wait() -> None:
            await asyncio.sleep(60)

        async def receive() -> None:
            while True:
                await websocket.recv()

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(receive())
                group.create_task(wait())
        except* Exception as group_exc:
            s.track("server").note("failed", *group_exc.exceptions)

    async with serving(s, handler) as server, raw_client(s, server) as raw:
        await raw.open()
        await raw.send(masked(CLOSE, close_payload(1001)))
        await raw.end()


@scenario
async def run_coroutine_threadsafe(s: Scenario) -> None:
    """send() and recv() called from another thread."""

    async with serving(s, echo) as server, connecting(server) as websocket:
        loop = asyncio.get_running_loop()

        def in_thread() -> object:
            asyncio.run_coroutine_threadsafe(websocket.send("from thread"), loop).result(5)
            return asyncio.run_coroutine_threadsafe(websocket.recv(), loop).result(5)

        s.note("received", await asyncio.to_thread(in_thread))


@scenario
async def server_task_cancelled(s: Scenario) -> None:
    """serve_forever() is cancelled."""

    async with serving(s, echo) as server:
        websocket = await connecting(server)
        task = asyncio.create_task(server.serve_forever())
        await asyncio.sleep(0.02)
        task.cancel()
        s.note("serve_forever", await asyncio.gather(task, return_exceptions=True))
        with s.failing("recv"):
            await websocket.recv()
        await websocket.wait_closed()
        ending(s, websocket)
