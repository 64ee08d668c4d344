"""Closings: each side, codes and reasons, lost connections, and what is under way meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Awaitable, Callable

from websockets.asyncio.server import ServerConnection

from ..ends import (
    CLOSE,
    PING,
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


async def told(s: Scenario, payload: bytes) -> None:
    """A server sends a close frame with this payload."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        await raw.send(frame(CLOSE, payload))
        await raw.frame()
        raw.eof()
        await raw.end()

    async with raw_server(s, peer) as where:
        websocket = await connecting(where)
        with s.failing("recv"):
            await websocket.recv()
        with s.failing("recv again"):
            await websocket.recv()
        with s.failing("send"):
            await websocket.send("late")
        with s.failing("ping"):
            await websocket.ping()
        with s.failing("pong"):
            await websocket.pong()
        with s.failing("iteration"):
            async for _ in websocket:
                pass
        with s.failing("close"):
            await websocket.close()
        await websocket.wait_closed()
        ending(s, websocket)


@scenario
async def told_1000(s: Scenario) -> None:
    """The server closes with 1000."""
    await told(s, close_payload(1000))


@scenario
async def told_1001_with_reason(s: Scenario) -> None:
    """The server closes with 1001 and a reason."""
    await told(s, close_payload(1001, "going äway"))


@scenario
async def told_nothing(s: Scenario) -> None:
    """The server closes without a code."""
    await told(s, b"")


@scenario
async def told_1011(s: Scenario) -> None:
    """The server closes with 1011."""
    await told(s, close_payload(1011, "failed"))


@scenario
async def told_3000(s: Scenario) -> None:
    """The server closes with a registered code."""
    await told(s, close_payload(3000))


@scenario
async def told_4999(s: Scenario) -> None:
    """The server closes with a private code."""
    await told(s, close_payload(4999, "private"))


@scenario
async def told_1005(s: Scenario) -> None:
    """The server sends a code that must not be sent."""
    await told(s, close_payload(1005))


@scenario
async def told_999(s: Scenario) -> None:
    """The server sends a code that there is not."""
    await told(s, close_payload(999))


@scenario
async def told_2999(s: Scenario) -> None:
    """The server sends a code that is reserved."""
    await told(s, close_payload(2999))


@scenario
async def told_half_a_code(s: Scenario) -> None:
    """The server sends one byte of a code."""
    await told(s, b"\x03")


@scenario
async def told_bad_utf8(s: Scenario) -> None:
    """The server sends a reason that is not UTF-8."""
    await told(s, struct.pack("!H", 1000) + b"\xff")


async def telling(
    s: Scenario, *arguments: object, answer: Callable[[Raw], Awaitable[None]] | None = None
) -> None:
    """A client closes, with these arguments."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        await (answer(raw) if answer else raw.close_handshake())

    async with raw_server(s, peer) as where:
        websocket = await connecting(where, close_timeout=0.2)
        with s.failing("close"):
            await websocket.close(*arguments)  # type: ignore[arg-type]
        with s.failing("recv"):
            await websocket.recv()
        with s.failing("close again"):
            await websocket.close(1001, "again")
        ending(s, websocket)
        s.note("exception", websocket.protocol.close_exc)


@scenario
async def client_closes(s: Scenario) -> None:
    """The client closes."""
    await telling(s)


@scenario
async def client_closes_with_code(s: Scenario) -> None:
    """The client closes with a code and a reason."""
    await telling(s, 4000, "bye €")


async def telling_wrongly(s: Scenario, *calls: tuple[object, ...]) -> None:
    async with serving(s, echo) as server, connecting(server) as websocket:
        for arguments in calls:
            with s.failing(f"close{arguments}"):
                await websocket.close(*arguments)  # type: ignore[arg-type]
            s.note("state", websocket.state)


@scenario
async def client_closes_with_bad_codes(s: Scenario) -> None:
    """Codes that must not be sent, and reasons without a code or too long."""
    await telling_wrongly(s, (999,), (1005,), (1006,), (1015,), (5000,), (1000, "x" * 124))


@scenario
async def answer_with_another_code(s: Scenario) -> None:
    """The server answers the client's close frame with another code."""

    async def answer(raw: Raw) -> None:
        await raw.frame()
        await raw.send(frame(CLOSE, close_payload(4001, "no")))
        raw.eof()
        await raw.end()

    await telling(s, 4000, "bye", answer=answer)


@scenario
async def answer_without_code(s: Scenario) -> None:
    """The server answers the client's close frame without a code."""

    async def answer(raw: Raw) -> None:
        await raw.frame()
        await raw.send(frame(CLOSE))
        raw.eof()
        await raw.end()

    await telling(s, answer=answer)


@scenario
async def answer_never(s: Scenario) -> None:
    """The server does not answer the client's close frame."""

    async def answer(raw: Raw) -> None:
        await raw.end()

    await telling(s, answer=answer)


@scenario
async def answer_with_eof(s: Scenario) -> None:
    """The server ends the connection in place of a close frame."""

    async def answer(raw: Raw) -> None:
        await raw.frame()
        raw.eof()
        await raw.end()

    await telling(s, answer=answer)


@scenario
async def answer_with_reset(s: Scenario) -> None:
    """The server resets the connection in place of a close frame."""

    async def answer(raw: Raw) -> None:
        await raw.frame()
        raw.reset()

    await telling(s, answer=answer)


@scenario
async def answer_then_stay(s: Scenario) -> None:
    """The server answers, but does not close TCP."""

    async def answer(raw: Raw) -> None:
        _, payload = await raw.frame()
        await raw.send(frame(CLOSE, payload))
        await raw.end()

    await telling(s, answer=answer)


@scenario
async def answer_behind_messages(s: Scenario) -> None:
    """Messages that come before the answer to a close frame can be received."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        _, payload = await raw.frame()
        await raw.send(frame(TEXT, "1"), frame(PING, "p"), frame(TEXT, "2"), frame(CLOSE, payload))
        raw.eof()
        await raw.end()

    async with raw_server(s, peer) as where:
        websocket = await connecting(where)
        await websocket.close()
        for _ in range(3):
            with s.failing("recv"):
                s.note("received", await websocket.recv())


# Lost connections


async def losing(s: Scenario, lose: Callable[[Raw], Awaitable[None]]) -> None:
    """A server loses the connection in some way; the client is receiving."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        await lose(raw)

    async with raw_server(s, peer) as where:
        websocket = await connecting(where, close_timeout=0.2)
        for _ in range(2):
            with s.failing("recv"):
                s.note("received", await websocket.recv())
        with s.failing("send"):
            await websocket.send("late")
        await websocket.wait_closed()
        ending(s, websocket)


@scenario
async def server_ends_tcp(s: Scenario) -> None:
    """The server ends the connection without a close frame."""

    async def lose(raw: Raw) -> None:
        raw.eof()
        await raw.end()

    await losing(s, lose)


@scenario
async def server_ends_tcp_behind_message(s: Scenario) -> None:
    """The server sends a message and ends the connection."""

    async def lose(raw: Raw) -> None:
        await raw.send(frame(TEXT, "last"))
        raw.eof()
        await raw.end()

    await losing(s, lose)


@scenario
async def server_ends_tcp_within_frame(s: Scenario) -> None:
    """The server ends the connection in the middle of a frame."""

    async def lose(raw: Raw) -> None:
        await raw.send(frame(TEXT, "cut short")[:-3])
        raw.eof()
        await raw.end()

    await losing(s, lose)


@scenario
async def server_ends_tcp_within_message(s: Scenario) -> None:
    """The server ends the connection between fragments."""

    async def lose(raw: Raw) -> None:
        await raw.send(frame(TEXT, "part", fin=False))
        raw.eof()
        await raw.end()

    await losing(s, lose)


@scenario
async def server_resets(s: Scenario) -> None:
    """The server resets the connection."""

    async def lose(raw: Raw) -> None:
        await asyncio.sleep(0.02)
        raw.reset()

    await losing(s, lose)


@scenario
async def transport_aborted(s: Scenario) -> None:
    """The application aborts the transport."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        await raw.end()

    async with raw_server(s, peer) as where:
        websocket = await connecting(where)
        websocket.transport.abort()
        with s.failing("recv"):
            await websocket.recv()
        with s.failing("send"):
            await websocket.send("late")
        ending(s, websocket)


@scenario
async def transport_closed(s: Scenario) -> None:
    """The application closes the transport."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        await raw.end()

    async with raw_server(s, peer) as where:
        websocket = await connecting(where)
        websocket.transport.close()
        with s.failing("recv"):
            await websocket.recv()
        ending(s, websocket)


# Servers


@contextlib.asynccontextmanager
async def handled(
    s: Scenario, handler: Callable[[ServerConnection], Awaitable[None]]
) -> AsyncIterator[Raw]:
    """Open a connection to a server with this handler."""
    async with serving(s, handler, close_timeout=0.2) as server:
        async with raw_client(s, server) as raw:
            await raw.open()
            yield raw


@scenario
async def handler_returns(s: Scenario) -> None:
    """The handler returns."""

    async def handler(websocket: ServerConnection) -> None:
        pass

    async with handled(s, handler) as raw:
        await raw.frame()
        await raw.close_as_client()


@scenario
async def handler_raises(s: Scenario) -> None:
    """The handler raises."""

    async def handler(websocket: ServerConnection) -> None:
        raise KeyError("mine")

    async with handled(s, handler) as raw:
        await raw.frame()
        await raw.send(masked(CLOSE, close_payload(1011)))
        await raw.end()


@scenario
async def handler_raises_after_closing(s: Scenario) -> None:
    """The handler closes, and then raises."""

    async def handler(websocket: ServerConnection) -> None:
        await websocket.close(4000, "enough")
        raise KeyError("mine")

    async with handled(s, handler) as raw:
        await raw.frame()
        await raw.send(masked(CLOSE, close_payload(4000)))
        await raw.end()


@scenario
async def handler_lets_closed_ok_escape(s: Scenario) -> None:
    """A handler that does not catch ConnectionClosedOK."""

    async def handler(websocket: ServerConnection) -> None:
        await websocket.recv()

    async with handled(s, handler) as raw:
        await raw.close_as_client()


@scenario
async def handler_lets_closed_error_escape(s: Scenario) -> None:
    """A handler that does not catch ConnectionClosedError."""

    async def handler(websocket: ServerConnection) -> None:
        await websocket.recv()

    async with handled(s, handler) as raw:
        raw.eof()
        await raw.end()


@scenario
async def handler_closes(s: Scenario) -> None:
    """The handler closes, and sees how that ends."""

    async def handler(websocket: ServerConnection) -> None:
        await websocket.close(4000, "enough")
        ending(s.track("server"), websocket)
        with s.track("server").failing("recv"):
            await websocket.recv()

    async with handled(s, handler) as raw:
        await raw.frame()
        await raw.send(masked(CLOSE, close_payload(4000, "enough")))
        await raw.end()


@scenario
async def client_never_answers(s: Scenario) -> None:
    """A client that does not answer the close frame."""

    async def handler(websocket: ServerConnection) -> None:
        await websocket.close()
        ending(s.track("server"), websocket)
        with s.track("server").failing("recv"):
            await websocket.recv()

    async with handled(s, handler) as raw:
        await raw.end()


@scenario
async def client_closes_then_stays(s: Scenario) -> None:
    """A client that closes but leaves TCP to the server."""

    async def handler(websocket: ServerConnection) -> None:
        with s.track("server").failing("recv"):
            await websocket.recv()
        await websocket.wait_closed()
        ending(s.track("server"), websocket)

    async with handled(s, handler) as raw:
        await raw.send(masked(CLOSE, close_payload(1000, "done")))
        await raw.end()


@scenario
async def client_half_closes(s: Scenario) -> None:
    """A client that ends its stream without a close frame, and goes on reading."""

    async def handler(websocket: ServerConnection) -> None:
        track = s.track("server")
        with track.failing("iteration"):
            async for message in websocket:
                track.note("received", message)
        ending(track, websocket)

    async with handled(s, handler) as raw:
        await raw.send(masked(TEXT, "last"))
        raw.eof()
        await raw.end()


@scenario
async def client_resets(s: Scenario) -> None:
    """A client that resets the connection."""

    async def handler(websocket: ServerConnection) -> None:
        with s.track("server").failing("recv"):
            await websocket.recv()
        ending(s.track("server"), websocket)

    async with handled(s, handler) as raw:
        await asyncio.sleep(0.02)
        raw.reset()
        await asyncio.sleep(0.05)


@scenario
async def frames_behind_close(s: Scenario) -> None:
    """Frames behind a close frame are not looked at."""

    async def handler(websocket: ServerConnection) -> None:
        with s.track("server").failing("recv"):
            await websocket.recv()

    async with handled(s, handler) as raw:
        await raw.send(masked(CLOSE, close_payload(1000)) + masked(TEXT, "late") + b"\xff\xff")
        await raw.end()


# What is under way while a connection closes


@scenario
async def close_while_receiving(s: Scenario) -> None:
    """Another task closes while one receives."""

    async with serving(s, echo) as server:
        websocket = await connecting(server)

        async def receive() -> None:
            with s.track("receiver").failing("recv"):
                await websocket.recv()

        task = asyncio.create_task(receive())
        await asyncio.sleep(0.01)
        await websocket.close(4000, "enough")
        await task
        ending(s, websocket)


@scenario
async def close_twice_at_once(s: Scenario) -> None:
    """Two tasks close at the same time."""

    async with serving(s, echo) as server:
        websocket = await connecting(server)
        await asyncio.gather(websocket.close(4000, "one"), websocket.close(4001, "two"))
        ending(s, websocket)


@scenario
async def close_while_pinging(s: Scenario) -> None:
    """A ping waits for its pong when the connection is lost."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        await raw.frame()
        raw.eof()
        await raw.end()

    async with raw_server(s, peer) as where:
        websocket = await connecting(where)
        pong = await websocket.ping("x")
        with s.failing("pong"):
            await pong


@scenario
async def server_closes_all(s: Scenario) -> None:
    """Server.close() closes connections with 1001."""

    async with serving(s, echo) as server:
        websocket = await connecting(server)
        s.note("connections", len(server.connections))
        server.close()
        with s.failing("recv"):
            await websocket.recv()
        await server.wait_closed()
        s.note("connections", len(server.connections))
        s.note("serving", server.is_serving())


@scenario
async def server_closes_all_with_code(s: Scenario) -> None:
    """Server.close() with a code and a reason."""

    async with serving(s, echo) as server:
        websocket = await connecting(server)
        server.close(code=1012, reason="restart")
        with s.failing("recv"):
            await websocket.recv()
        await server.wait_closed()


@scenario
async def server_leaves_connections(s: Scenario) -> None:
    """Server.close(close_connections=False) waits for connections to end."""

    async with serving(s, echo) as server:
        websocket = await connecting(server)
        server.close(close_connections=False)
        await asyncio.sleep(0.01)
        await websocket.send("still open")
        s.note("received", await websocket.recv())
        await websocket.close()
        await server.wait_closed()
