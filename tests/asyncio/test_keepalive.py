"""Keepalive: who is alive, who is not, and what either side is told."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from typing import Any

import pytest

from websockets.asyncio.connection import Connection
from websockets.exceptions import ConnectionClosedError
from websockets.frames import Close
from websockets.protocol import State
from websockets.session import MAX_BLOCKED_TIMEOUTS

from ..helpers import (
    CLOSE,
    PING,
    PONG,
    TEXT,
    client_frame,
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


async def test_pongs_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Those to pings of keepalive."""
    caplog.set_level(logging.DEBUG, "websockets")
    async with server_of_raw_client(ping_interval=1000) as (server, peer):
        look(server)
        ping = await peer.recv_frame()
        own = await server.ping(b"own")
        for data in (b"other", ping.payload, b"own"):
            await peer.send_frame(PONG, data)
        await within(own)
        assert [message for message in caplog.messages if message[0] == "%"] == [
            "% sent keepalive ping",
            "% received keepalive pong",
        ]


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
        assert server.latency >= 0.04


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


def look(ws: Connection) -> None:
    """Have the timer look now, as if the deadline had come."""
    assert ws._ws_session.keepalive.deadline is not None
    ws._ws_session.keepalive.deadline = asyncio.get_running_loop().time()
    ws._ws_on_timer()


def give_up(ws: Connection) -> None:
    """Have it look so that it must give up: the first time it is a little late."""
    look(ws)
    assert ws.state is State.OPEN
    look(ws)
    assert ws.state is State.CLOSING


async def fill(ws: Connection) -> None:
    """Write more than the peer, which does not read, takes."""
    while not ws._ws_write_paused:
        ws.protocol.send_binary(bytes(100_000))
        ws._ws_transmit()
        await asyncio.sleep(0)


async def test_an_application_that_pauses_its_transport(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "websockets")
    async with server_of_raw_client(ping_interval=1000, ping_timeout=1000) as (server, peer):
        look(server)
        assert (await peer.recv_frame()).opcode == PING
        server.transport.pause_reading()
        for _ in range(10):
            look(server)
        assert server.state is State.OPEN
        unread = "- pong may be unread, as this side is not reading"
        assert caplog.messages.count(unread) == 10
        server.transport.resume_reading()
        look(server)
        give_up(server)
        assert (await peer.recv_frame()).close == (1011, "keepalive ping timeout")
        assert caplog.messages.count("- timed out waiting for keepalive pong") == 1
        peer.close()
        with pytest.raises(ConnectionClosedError) as raised:
            await within(server.recv())
        assert str(raised.value.__cause__) == "keepalive ping timeout"
    assert caplog.messages.count(unread) == 10


class Silent:
    """A transport that does not tell whether it reads."""

    is_reading = asyncio.Transport.is_reading

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)


async def test_a_transport_that_does_not_tell_whether_it_reads() -> None:
    async with server_of_raw_client(ping_interval=1000, close_timeout=0.01) as (server, peer):
        server._ws_transport = Silent(server._ws_transport)  # type: ignore[assignment]
        look(server)
        assert (await peer.recv_frame()).opcode == PING
        give_up(server)
        await within(server.wait_closed())


@pytest.mark.parametrize("reading", [True, False])
async def test_a_peer_that_does_not_read(reading: bool) -> None:
    """What it sends does not help: the exception says who was not reading."""
    async with server_of_raw_client(
        ping_interval=1000, ping_timeout=1000, max_queue=1, small_buffers=True, close_timeout=0.01
    ) as (server, peer):
        await peer.send_frame(TEXT, b"one")
        await peer.send_frame(TEXT, b"two")
        await until(lambda: server._ws_session.full())
        if reading:
            assert await server.recv() == "one"
            assert await server.recv() == "two"
        look(server)  # sends a ping
        await fill(server)
        look(server)  # sees what waits to be written
        for _ in range(MAX_BLOCKED_TIMEOUTS - 1):
            assert server.state is State.OPEN
            server._ws_heard = True  # as pongs to earlier pings, for example
            look(server)
        assert server.state is State.CLOSING
        await within(server.wait_closed())
        assert str(server.close_exc) == (
            "sent 1011 (internal error) keepalive ping timeout; no close frame received"
        )
        which = "peer is not reading" if reading else "neither side is reading"
        assert repr(server.close_exc.__cause__) == (
            f"TimeoutError('keepalive ping timeout; {which}')"
        )


async def test_without_timeout_one_ping_is_out() -> None:
    async with server_of_raw_client(ping_interval=1000, ping_timeout=None) as (server, peer):
        for _ in range(3):
            look(server)
        pings = [await peer.recv_frame() for _ in range(3)]
        assert len(server._ws_session.pings._pings) == 1
        await peer.send_frame(PONG, pings[0].payload)
        await peer.send_frame(TEXT, b"behind it")
        assert await within(server.recv()) == "behind it"
        assert len(server._ws_session.pings._pings) == 1
        await peer.send_frame(PONG, pings[-1].payload)
        await until(lambda: len(server._ws_session.pings._pings) == 0)


async def test_an_event_loop_that_is_held_up() -> None:
    """The pong has arrived, and nobody has read it: the peer is alive."""
    loop = asyncio.get_running_loop()
    near, far = socket.socketpair()
    async with server_of_raw_client(ping_interval=0.01, ping_timeout=0.06) as (server, peer):
        ping = await peer.recv_frame()

        # uvloop looks at timers between this and the next look at its sockets.
        def hold_up() -> None:
            loop.remove_reader(near)
            peer.sock.send(client_frame(PONG, ping.payload))
            time.sleep(0.1)

        loop.add_reader(near, hold_up)
        far.send(b"now")
        await until(lambda: server.latency > 0)
        assert server.latency >= 0.04
        assert server.state is State.OPEN
    near.close()
    far.close()


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
