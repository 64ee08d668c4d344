"""Keepalive, with intervals of milliseconds."""

from __future__ import annotations

import asyncio

from websockets.asyncio.server import ServerConnection

from ..ends import (
    CLOSE,
    PING,
    PONG,
    TEXT,
    Raw,
    close_payload,
    connecting,
    ending,
    frame,
    masked,
    raw_client,
    raw_server,
    serving,
)
from ..scenario import Scenario, scenario


async def answer_pings(raw: Raw, number: int) -> None:
    """Answer pings, without writing down their payloads, which are random."""
    track, raw.track = raw.track, type(raw.track)()
    for _ in range(number):
        opcode, payload = await raw.frame()
        track.note("ping" if opcode == PING else "no ping", len(payload))
        await raw.send(frame(PONG, payload))
    raw.track = track


@scenario
async def pings_answered(s: Scenario) -> None:
    """A client pings while its peer answers."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        await answer_pings(raw, 3)
        await asyncio.sleep(0.03)
        await raw.send(frame(CLOSE, close_payload(1000)))
        raw.eof()
        raw.track = type(raw.track)()
        await raw.end()

    async with raw_server(s, peer) as where:
        websocket = await connecting(where, ping_interval=0.1, ping_timeout=5)
        with s.failing("recv"):
            await websocket.recv()
        s.note("latency", websocket.latency > 0)
        ending(s, websocket)
    # The payloads of pings are random.
    drop_pings(s, "log websockets.client")


def drop_pings(s: Scenario, name: str) -> None:
    """Leave pings and pongs out of a log, and how often keepalive's lines come."""
    log = s.track(name)
    kept = [line for line in log.lines if " PING " not in line and " PONG " not in line]
    again = {line for line in kept if "keepalive p" in line and "DEBUG % " in line}
    log.lines.clear()
    for line in kept:
        if line not in again or line not in log.lines:
            log.lines.append(line)


@scenario
async def pings_not_answered(s: Scenario) -> None:
    """A peer that does not answer pings is given up with 1011."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        opcode, payload = await raw.frame()
        while opcode == PING:
            opcode, payload = await raw.frame()
        raw.track.lines[:] = [line for line in raw.track.lines if not line.startswith("ping")]
        raw.eof()
        await raw.end()

    async with raw_server(s, peer) as where:
        websocket = await connecting(
            where, ping_interval=0.05, ping_timeout=0.05, close_timeout=0.1
        )
        with s.failing("recv"):
            await websocket.recv()
        with s.failing("send"):
            await websocket.send("late")
        ending(s, websocket)
    drop_pings(s, "log websockets.client")


@scenario
async def server_pings_not_answered(s: Scenario) -> None:
    """A client that does not answer a server's pings, nor its close frame."""

    async def handler(websocket: ServerConnection) -> None:
        track = s.track("server")
        with track.failing("recv"):
            await websocket.recv()
        ending(track, websocket)

    async with serving(
        s, handler, ping_interval=0.05, ping_timeout=0.05, close_timeout=0.1
    ) as server:
        async with raw_client(s, server) as raw:
            await raw.open()
            await raw.end()
    wire = s.track("wire")
    wire.lines[:] = [line for line in wire.lines if not line.startswith("ping")]
    drop_pings(s, "log websockets.server")


@scenario
async def no_pings(s: Scenario) -> None:
    """ping_interval=None: no pings."""

    async def handler(websocket: ServerConnection) -> None:
        await websocket.wait_closed()

    async with serving(s, handler, ping_interval=None, ping_timeout=0.05) as server:
        async with raw_client(s, server) as raw:
            await raw.open()
            await raw.silence(0.2)
            await raw.send(masked(CLOSE))
            await raw.end()


@scenario
async def no_timeout(s: Scenario) -> None:
    """ping_timeout=None: pings, but nobody waits for pongs."""

    async def handler(websocket: ServerConnection) -> None:
        with s.track("server").failing("recv"):
            s.track("server").note("received", await websocket.recv())

    async with serving(s, handler, ping_interval=0.03, ping_timeout=None) as server:
        async with raw_client(s, server) as raw:
            await raw.open()
            await asyncio.sleep(0.2)
            await raw.send(masked(TEXT, "alive"))
            while (await raw.frame())[0] == PING:
                pass
            await raw.close_as_client()
    wire = s.track("wire")
    pings = [line for line in wire.lines if line.startswith("ping")]
    s.note("several pings", len(pings) > 1)
    wire.lines[:] = [line for line in wire.lines if line not in pings]
    drop_pings(s, "log websockets.server")


@scenario
async def keepalive_ends_with_connection(s: Scenario) -> None:
    """No pings after closing."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        await raw.frame()
        await raw.silence(0.15)
        await raw.send(frame(CLOSE, close_payload(1000)))
        raw.eof()

    async with raw_server(s, peer) as where:
        websocket = await connecting(where, ping_interval=0.06, ping_timeout=5)
        await websocket.close()
        ending(s, websocket)


@scenario
async def pings_behind_own_ping(s: Scenario) -> None:
    """A pong for a later ping of the application answers for keepalive's, too."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        track, raw.track = raw.track, type(raw.track)()
        while (got := await raw.frame())[1] != b"mine":
            pass
        await raw.send(frame(PONG, got[1]))
        await asyncio.sleep(0.02)
        raw.track = track
        await raw.send(frame(TEXT, "still here"), frame(CLOSE, close_payload(1000)))
        raw.eof()
        raw.track = type(raw.track)()
        await raw.end()

    async with raw_server(s, peer) as where:
        websocket = await connecting(where, ping_interval=0.05, ping_timeout=1)
        await asyncio.sleep(0.1)
        await (await websocket.ping("mine"))
        s.note("received", await websocket.recv())
        with s.failing("recv"):
            await websocket.recv()
    drop_pings(s, "log websockets.client")
