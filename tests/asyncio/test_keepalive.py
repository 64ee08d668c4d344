"""Keepalive: who is alive, who is not, and what either side is told."""

from __future__ import annotations

import asyncio
import logging

import pytest

from websockets.exceptions import ConnectionClosedError
from websockets.frames import Close
from websockets.protocol import State

from ..helpers import (
    CLOSE,
    PING,
    PONG,
    TEXT,
    client_of_raw_server,
    idle,
    noise,
    pair,
    raw_client,
    server_of_raw_client,
    serving,
    stalled,
    until,
    within,
)


def frames(caplog: pytest.LogCaptureFixture, start: str, name: str = "") -> int:
    """How many frames the debug log shows."""
    return sum(
        record.getMessage().startswith(start) and record.name.startswith(name)
        for record in caplog.records
    )


async def test_pings_are_sent() -> None:
    async with server_of_raw_client(ping_interval=0.02, ping_timeout=60) as (server, peer):
        for _ in range(3):
            ping = await peer.recv_frame()
            assert ping.opcode == PING
            assert len(ping.payload) == 4
            await asyncio.sleep(0.01)
            await peer.send_frame(PONG, ping.payload)
        await until(lambda: server.latency >= 0.005)
        assert server.state is State.OPEN


async def test_both_sides_ping(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "websockets")
    keepalive = {"ping_interval": 0.02, "ping_timeout": 60}
    async with pair(client=keepalive, server=keepalive) as (client, server):
        for name in ("websockets.client", "websockets.server"):
            await until(lambda name=name: frames(caplog, "< PONG", name) >= 2)  # type: ignore[misc]
        assert client.state is server.state is State.OPEN


@pytest.mark.parametrize("interval", [None, 20], ids=["off", "later"])
async def test_no_pings(interval: float | None) -> None:
    async with server_of_raw_client(ping_interval=interval) as (_, peer):
        assert await peer.is_open_for(0.1)


@pytest.mark.parametrize("side", ["client", "server"])
async def test_a_silent_peer_is_given_up(side: str, caplog: pytest.LogCaptureFixture) -> None:
    """1011, and the exception says that it was the keepalive."""
    keepalive = {"ping_interval": 0.03, "ping_timeout": 0.05, "close_timeout": 0.05}
    connect = client_of_raw_server if side == "client" else server_of_raw_client
    async with connect(**keepalive) as (ws, peer):  # type: ignore[operator]
        assert (await peer.recv_frame()).opcode == PING
        receiving = asyncio.create_task(ws.recv())
        while (received := await peer.recv_frame()).opcode == PING:
            pass
        assert received.close == (1011, "keepalive ping timeout")
        # Nor does it answer the close frame.
        with pytest.raises(ConnectionClosedError) as raised:
            await within(receiving)
        assert str(raised.value) == (
            "sent 1011 (internal error) keepalive ping timeout; no close frame received"
        )
        assert raised.value.sent == Close(1011, "keepalive ping timeout")
        assert ws.state is State.CLOSED
        assert ws.close_code == 1006
    assert noise(caplog) == []


async def test_a_late_pong_is_soon_enough() -> None:
    async with server_of_raw_client(ping_interval=0.02, ping_timeout=5) as (server, peer):
        pings = [await peer.recv_frame()]
        await asyncio.sleep(0.1)
        await peer.send_frame(PONG, pings[0].payload)
        await until(lambda: server.latency > 0)
        assert server.latency >= 0.05


async def test_no_timeout() -> None:
    """ping_timeout=None measures, and never gives up."""
    async with server_of_raw_client(ping_interval=0.02, ping_timeout=None) as (server, peer):
        assert (await peer.recv_frame()).opcode == PING
        await asyncio.sleep(0.1)
        assert server.state is State.OPEN
        await peer.send_frame(TEXT, b"still here")
        assert await within(server.recv()) == "still here"


async def test_any_bytes_prove_the_peer_alive() -> None:
    """A pong may queue behind a long upload; what arrives meanwhile tells enough."""
    async with server_of_raw_client(
        ping_interval=0.03, ping_timeout=0.1, max_size=None, max_queue=None
    ) as (server, peer):
        receiving = asyncio.create_task(server.recv())
        await peer.send_frame(TEXT, b"begun ", fin=False)
        for _ in range(20):
            await asyncio.sleep(0.02)
            await peer.send_frame(0x0, b"x", fin=False)
        await peer.send_frame(0x0, b".")
        assert await within(receiving) == "begun " + "x" * 20 + "."


async def test_an_application_that_does_not_read_is_not_a_dead_peer() -> None:
    """With the queue full nothing is read, so no pong can be seen: the peer is not to blame."""
    async with server_of_raw_client(
        ping_interval=0.03, ping_timeout=0.06, max_queue=1, small_buffers=True
    ) as (server, peer):
        sent = 0

        async def flood() -> None:
            nonlocal sent
            for i in range(100):
                await peer.send_frame(TEXT, str(i).encode().rjust(60_000))
                sent += 1

        flooding = asyncio.create_task(flood())
        assert await stalled(flooding, lambda: sent)
        await asyncio.sleep(0.2)
        assert server.state is State.OPEN

        async def answer() -> None:
            while (received := await peer.recv_frame()).opcode != CLOSE:
                if received.opcode == PING:
                    await flooding
                    await peer.send_frame(PONG, received.payload)

        answering = asyncio.create_task(answer())
        for i in range(100):
            assert int(await within(server.recv())) == i
        await flooding
        answering.cancel()
        await asyncio.wait([answering])


async def test_keepalive_ends_with_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "websockets")
    keepalive = {"ping_interval": 0.02}
    async with pair(client=keepalive, server=keepalive) as (client, server):
        await until(lambda: frames(caplog, "> PING"))
        await client.close()
        await within(server.wait_closed())
        caplog.clear()
        await asyncio.sleep(0.1)
        assert not frames(caplog, "> PING")


async def test_hundred_silent_peers_do_not_stop_a_server() -> None:
    async with serving(idle, ping_interval=0.05, ping_timeout=0.1, close_timeout=0.1) as server:
        peers = [raw_client(server) for _ in range(50)]
        for peer in peers:
            await peer.__aenter__()
        await until(lambda: len(server.connections) == 0)
        for peer in peers:
            await peer.__aexit__(None, None, None)


async def test_intervals_shorter_than_the_clock_of_the_event_loop() -> None:
    """uvloop counts milliseconds: a shorter delay is no delay there."""
    async with pair(client={"ping_interval": 0.0002, "ping_timeout": None}) as (client, server):
        for i in range(30):
            await client.send(str(i))
            assert await within(server.recv()) == str(i)
            await asyncio.sleep(0.001)
        assert client.state is State.OPEN
