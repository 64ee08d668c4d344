"""The promises of the design, measured on real sockets.

Backpressure from end to end, bounded memory, who closes TCP, control frames that are seen to
whether or not the application reads.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
import weakref
from typing import Any

import pytest

from websockets.exceptions import ConnectionClosed, ConnectionClosedError
from websockets.protocol import State

from ..helpers import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    PONG,
    TEXT,
    client_frame,
    client_of_raw_server,
    close_payload,
    connecting,
    drain_messages,
    echo,
    frame,
    idle,
    pair,
    raw_client,
    rss,
    server_of_raw_client,
    serving,
    stalled,
    turns,
    until,
    within,
)

MIB = 2**20

needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")


class Growth:
    """How much resident memory was added, at most, whenever somebody looked."""

    def __init__(self) -> None:
        gc.collect()
        self.start = rss()
        self.most = 0

    def look(self) -> int:
        self.most = max(self.most, rss() - self.start)
        return self.most


def write_buffer(ws: Any) -> int:
    size: int = ws.transport.get_write_buffer_size()
    return size


# Backpressure


@needs_proc
@pytest.mark.parametrize("direction", ["to the server", "to the client"])
async def test_an_application_that_does_not_read_stops_the_sender(direction: str) -> None:
    """100 MB are offered; `send` waits, and neither side keeps them."""
    async with pair(client={"close_timeout": 0.1}, server={"close_timeout": 0.1}) as both:
        sender, receiver = both if direction == "to the server" else both[::-1]
        message = b"x" * 65536
        offered = 100 * 10**6
        sent = 0
        growth = Growth()

        async def flood() -> None:
            nonlocal sent
            while sent < offered:
                await sender.send(message)
                sent += len(message)
                growth.look()

        flooding = asyncio.create_task(flood())
        assert await stalled(flooding, lambda: sent)
        assert sent < offered / 4
        assert growth.look() < 25 * MIB
        assert write_buffer(sender) < MIB
        # Reading sets it free, and nothing was lost.
        for _ in range(offered // len(message) + 1):
            assert await within(receiver.recv()) == message
            growth.look()
        await within(flooding)
        assert growth.most < 25 * MIB


@pytest.mark.parametrize("kind", ["text", "fragments"])
async def test_every_kind_of_message_waits(kind: str) -> None:
    async with server_of_raw_client(small_buffers=True) as (server, _):
        sent = 0
        part = "x" * 65536

        async def flood() -> None:
            nonlocal sent
            while True:
                if kind == "text":
                    await server.send(part)
                else:
                    await server.send([part, part])
                sent += 1

        flooding = asyncio.create_task(flood())
        assert await stalled(flooding, lambda: sent)
        assert write_buffer(server) < MIB
        flooding.cancel()
        await asyncio.wait([flooding])


async def test_one_message_with_endless_fragments_waits() -> None:
    async with server_of_raw_client(small_buffers=True) as (server, _):
        taken = 0

        async def fragments() -> Any:
            nonlocal taken
            while True:
                taken += 1
                yield b"x" * 65536

        sending = asyncio.create_task(server.send(fragments()))
        assert await stalled(sending, lambda: taken)
        assert write_buffer(server) < MIB
        sending.cancel()
        await asyncio.wait([sending])


async def test_write_limit() -> None:
    """`send` returns at once below the limit, and waits above it."""
    async with server_of_raw_client(small_buffers=True, write_limit=200_000) as (server, peer):
        sending = asyncio.create_task(server.send(b"x" * 1_000_000))
        assert await stalled(sending, lambda: write_buffer(server))
        assert write_buffer(server) > 200_000
        await peer.read(1_000_000 + 10)
        await within(sending)
        await until(lambda: write_buffer(server) == 0)
        await within(server.send(b"x" * 100_000))


async def test_pings_wait_too() -> None:
    """An application cannot fill the buffer with pings either."""
    async with server_of_raw_client(small_buffers=True) as (server, _):
        sent = 0

        async def flood() -> None:
            nonlocal sent
            while True:
                await server.ping(str(sent).rjust(125))
                sent += 1
                if sent % 100 == 0:
                    await asyncio.sleep(0)

        flooding = asyncio.create_task(flood())
        assert await stalled(flooding, lambda: sent)
        assert write_buffer(server) < MIB
        flooding.cancel()
        await asyncio.wait([flooding])


# Reading stops


@pytest.mark.parametrize("max_queue", [1, 4, (4, 2)])
@pytest.mark.parametrize("size", [1000, 20_000])
async def test_the_queue_is_bounded(max_queue: Any, size: int) -> None:
    """What is not read stays with the sender: reading stops when the queue is full."""
    async with server_of_raw_client(max_queue=max_queue, small_buffers=True) as (server, peer):
        sent = 0
        message = client_frame(BINARY, b"x" * size)

        async def flood() -> None:
            nonlocal sent
            while True:
                await peer.send(message)
                sent += 1

        flooding = asyncio.create_task(flood())
        assert await stalled(flooding, lambda: sent)
        assert not server.transport.is_reading()
        assert sent * size < 2 * MIB
        flooding.cancel()
        await asyncio.wait([flooding])
        # Nothing that came was lost, and reading goes on.
        for _ in range(sent):
            assert len(await within(server.recv())) == size
        await until(server.transport.is_reading)


async def test_an_unbounded_queue() -> None:
    async with server_of_raw_client(max_queue=None) as (server, peer):
        for _ in range(100):
            await peer.send(client_frame(BINARY, b"x" * 100) * 100)
        await peer.send_frame(PING, b"read")
        assert (await peer.recv_frame()).payload == b"read"
        for _ in range(10_000):
            assert await within(server.recv()) == b"x" * 100


# A peer that floods and does not read


async def test_pings_are_answered_once_the_peer_reads() -> None:
    """RFC 6455 section 5.5.3: at least the most recent ping gets its pong, and none gets two."""
    async with server_of_raw_client(small_buffers=True) as (server, peer):
        total = 5000

        async def flood() -> None:
            for start in range(0, total, 100):
                numbers = range(start, start + 100)
                await peer.send(b"".join(client_frame(PING, b"%0125d" % i) for i in numbers))

        flooding = asyncio.create_task(flood())
        await stalled(flooding, lambda: None)
        answered = [-1]
        while answered[-1] < total - 1:
            pong = await peer.recv_frame()
            assert pong.opcode == PONG
            assert len(pong.payload) == 125
            answered.append(int(pong.payload))
        await within(flooding)
        assert answered == sorted(set(answered))
        assert server.state is State.OPEN


# Control frames while nobody calls recv()


async def test_pings_are_answered_while_messages_wait() -> None:
    async with server_of_raw_client() as (server, peer):
        for i in range(5):
            await peer.send(client_frame(TEXT, b"waiting") + client_frame(PING, str(i).encode()))
            pong = await peer.recv_frame()
            assert (pong.opcode, pong.payload) == (PONG, str(i).encode())
        assert [await within(server.recv()) for _ in range(5)] == ["waiting"] * 5


async def test_pongs_arrive_while_messages_wait() -> None:
    async with server_of_raw_client() as (server, peer):
        pong = await server.ping(b"mine")
        await peer.recv_frame()
        await peer.send(client_frame(TEXT, b"waiting") + client_frame(PONG, b"mine"))
        await within(pong)
        assert await within(server.recv()) == "waiting"


async def test_a_close_is_answered_while_messages_wait() -> None:
    async with server_of_raw_client() as (server, peer):
        await peer.send(
            client_frame(TEXT, b"waiting") * 3 + client_frame(CLOSE, close_payload(4000, "bye"))
        )
        assert (await peer.recv_frame()).close == (4000, "bye")
        await peer.expect_eof()
        peer.close()
        await within(server.wait_closed())
        assert server.close_code == 4000
        messages, exc = await drain_messages(server)
        assert messages == ["waiting"] * 3
        assert str(exc) == "received 4000 (private use) bye; then sent 4000 (private use) bye"


async def test_a_close_behind_a_full_queue_waits_for_the_reader() -> None:
    """Nothing is lost: messages first, then the end."""
    async with server_of_raw_client(max_queue=2) as (server, peer):
        for _ in range(50):
            await peer.send(client_frame(TEXT, b"x" * 5000))
        await peer.send_close(1000)
        peer.send_eof()
        messages, exc = await drain_messages(server)
        assert messages == ["x" * 5000] * 50
        assert str(exc) == "received 1000 (OK); then sent 1000 (OK)"


async def test_closing_with_a_full_queue() -> None:
    """`close()` returns in time although the application never read what came."""
    async with server_of_raw_client(max_queue=1, close_timeout=0.2, small_buffers=True) as (
        server,
        peer,
    ):
        sent = 0

        async def flood() -> None:
            nonlocal sent
            while True:
                await peer.send(client_frame(BINARY, b"x" * 50_000))
                sent += 1

        flooding = asyncio.create_task(flood())
        assert await stalled(flooding, lambda: sent)
        await within(server.close())
        assert server.state is State.CLOSED
        flooding.cancel()
        await asyncio.wait([flooding])
        if not flooding.cancelled():
            flooding.exception()


async def test_closing_with_a_full_queue_reaches_a_peer_that_answers() -> None:
    """The peer's close frame is behind data nobody wants any more: `close` gets to it."""
    async with pair(server={"max_queue": 1, "close_timeout": 5}) as (client, server):
        for _ in range(30):
            await client.send(b"x" * 1000)
        await until(lambda: not server.transport.is_reading())
        await within(server.close(4000, "enough"))
        assert server.close_code == 4000
        await within(client.wait_closed())
        assert client.close_code == 4000


# Who closes TCP (RFC 6455 section 7.1.1)


async def test_server_closes_tcp_after_answering_a_close() -> None:
    async with serving(idle) as server, raw_client(server) as peer:
        await peer.send_close(1000, "bye")
        assert (await peer.recv_frame()).close == (1000, "bye")
        await peer.expect_eof()


async def test_server_closes_tcp_once_its_close_is_answered() -> None:
    async with server_of_raw_client(close_timeout=5) as (server, peer):
        closing = asyncio.create_task(server.close(1001))
        assert (await peer.recv_frame()).close == (1001, "")
        assert await peer.is_open_for(0.05)
        await peer.send_close(1001)
        await peer.expect_eof()
        peer.close()
        await within(closing)
        assert server.close_code == 1001


async def test_client_leaves_closing_tcp_to_the_server() -> None:
    async with client_of_raw_server(close_timeout=5) as (client, peer):
        closing = asyncio.create_task(client.close())
        assert (await peer.recv_frame()).close == (1000, "")
        await peer.send_close()
        assert await peer.is_open_for(0.1)
        assert not closing.done()
        peer.close()
        await within(closing)
        assert client.state is State.CLOSED


async def test_client_leaves_closing_tcp_to_the_server_that_began() -> None:
    async with client_of_raw_server(close_timeout=5) as (client, peer):
        await peer.send_close(1001)
        assert (await peer.recv_frame()).close == (1001, "")
        assert await peer.is_open_for(0.1)
        peer.close()
        await within(client.wait_closed())
        assert client.close_code == 1001


@pytest.mark.parametrize("who", ["peer", "this side"])
async def test_client_gives_up_after_the_timeout(who: str) -> None:
    """A server that answers the close and keeps TCP open holds nobody for ever."""
    async with client_of_raw_server(close_timeout=0.1) as (client, peer):
        if who == "this side":
            closing = asyncio.create_task(client.close())
            await peer.recv_frame()
            await peer.send_close()
        else:
            await peer.send_close()
            await peer.recv_frame()
            closing = asyncio.create_task(client.close())
        await within(closing)
        assert client.state is State.CLOSED
        assert client.close_code == 1000
        await peer.read_to_end()


@pytest.mark.parametrize("wire", [frame(CLOSE, close_payload(1000)), frame(0x3)])
async def test_client_gives_up_without_being_told_to(wire: bytes) -> None:
    """The deadline runs although the application only waits in `recv`."""
    async with client_of_raw_server(close_timeout=0.1) as (client, peer):
        await peer.send(wire)
        with pytest.raises(ConnectionClosed):
            await within(client.recv())
        assert client.state is State.CLOSED


async def test_server_gives_up_without_being_told_to() -> None:
    """A client that is failed and does not go away is dropped by the deadline."""
    async with server_of_raw_client(close_timeout=0.1) as (server, peer):
        await peer.send(client_frame(0x3))
        with pytest.raises(ConnectionClosedError):
            await within(server.recv())
        assert server.state is State.CLOSED


async def test_server_gives_up_on_a_client_that_never_answers() -> None:
    async with server_of_raw_client(close_timeout=0.1) as (server, peer):
        await within(server.close(1001, "too slow"))
        assert (server.close_code, server.close_reason) == (1006, "")
        assert str(server.close_exc) == ("sent 1001 (going away) too slow; no close frame received")
        assert [f.close for f in await peer.recv_frames_to_end()] == [(1001, "too slow")]


async def test_server_gives_up_on_a_client_that_does_not_read() -> None:
    """The close frame itself is stuck behind data."""
    async with server_of_raw_client(close_timeout=0.1, small_buffers=True) as (server, _):
        sending = asyncio.create_task(server.send(b"x" * 1_000_000))
        assert await stalled(sending, lambda: write_buffer(server))
        await within(server.close())
        assert server.state is State.CLOSED
        with pytest.raises(ConnectionClosedError):
            await within(sending)


# Everything sent arrives


async def test_what_was_sent_arrives_before_the_close() -> None:
    """`send` and `close` right after each other lose nothing, whatever the size."""
    async with pair(client={"max_queue": None, "max_size": None}) as (client, server):
        sizes = [0, 1, 125, 126, 65_535, 65_536, 1_000_000, 3]

        async def send() -> None:
            for size in sizes:
                await server.send(b"x" * size)
            await server.close(4000, "done")

        sending = asyncio.create_task(send())
        messages, exc = await drain_messages(client)
        await sending
        assert [len(message) for message in messages] == sizes
        assert exc.rcvd is not None
        assert (exc.rcvd.code, exc.rcvd.reason) == (4000, "done")


async def test_a_handler_that_ends_leaves_nothing_unsent() -> None:
    async def handler(ws: Any) -> None:
        for i in range(50):
            await ws.send(str(i).rjust(20_000))

    async with serving(handler) as server, connecting(server, max_queue=None) as client:
        messages, exc = await drain_messages(client)
        assert [int(message) for message in messages] == list(range(50))
        assert exc.rcvd is not None
        assert exc.rcvd.code == 1000


# Descriptors


async def test_nothing_is_written_to_a_stranger_with_the_same_descriptor() -> None:
    """After `abort` the number of the socket may belong to somebody else's."""
    async with pair() as (client, server):
        number = client.transport.get_extra_info("socket").fileno()
        await client.send("before")
        assert await within(server.recv()) == "before"
        client.transport.abort()
        with pytest.raises(ConnectionClosedError):
            # The transport may need a turn of the loop to let the descriptor go.
            while True:
                await within(client.send("nobody should read this"))
                await asyncio.sleep(0)
        ours, theirs = socket.socketpair()
        copies = []
        try:
            while ours.fileno() < number and theirs.fileno() < number:
                copies.append((ours, theirs))
                ours, theirs = socket.socketpair()
            copies.append((ours, theirs))
            for _ in range(3):
                with pytest.raises(ConnectionClosedError):
                    await client.send("nobody should read this")
                await asyncio.sleep(0)
            for one, other in copies:
                for sock in (one, other):
                    sock.setblocking(False)
                    with pytest.raises(BlockingIOError):
                        sock.recv(1)
        finally:
            for one, other in copies:
                one.close()
                other.close()


async def test_sending_in_the_turn_of_an_abort() -> None:
    """`abort` and `send` without a turn of the loop between: nothing reaches the next owner."""
    for _ in range(5):
        async with pair() as (client, _):
            await client.send("before")
            client.transport.abort()
            try:
                await client.send("lost")
            except ConnectionClosedError:
                pass
            with pytest.raises(ConnectionClosedError):
                await within(client.recv())


async def test_applications_may_write_to_the_transport() -> None:
    """Order is kept when somebody else fills the buffer of the transport."""
    async with server_of_raw_client() as (server, peer):
        await server.send("one")
        await turns()
        server.transport.write(frame(TEXT, b"two"))
        await server.send("three")
        await turns()
        server.transport.write(frame(BINARY, b"x" * 3_000_000))
        sending = asyncio.create_task(server.send("four"))
        payloads = [(await peer.recv_frame()).payload for _ in range(5)]
        await within(sending)
        assert [p if len(p) < 10 else len(p) for p in payloads] == [
            b"one",
            b"two",
            b"three",
            3_000_000,
            b"four",
        ]


# Others go on


async def test_a_flood_does_not_starve_others() -> None:
    """One connection that always has something to read leaves turns to a hundred others."""
    async with serving(echo) as server, raw_client(server) as flooder:
        others = [await connecting(server) for _ in range(100)]
        stop = False
        batch = b"".join(client_frame(TEXT, b"x" * 20) for _ in range(5000))

        async def flood() -> None:
            while not stop:
                await flooder.send(batch)

        async def swallow() -> None:
            while not stop:
                await flooder.read_some()

        flooding = [asyncio.create_task(flood()), asyncio.create_task(swallow())]
        await asyncio.sleep(0.05)

        async def exchange(client: Any, i: int) -> None:
            for _ in range(3):
                await client.send(str(i))
                assert await client.recv() == str(i)

        await within(asyncio.gather(*(exchange(client, i) for i, client in enumerate(others))), 25)
        stop = True
        for task in flooding:
            task.cancel()
        await asyncio.wait(flooding)
        await asyncio.gather(*(client.close() for client in others))


async def test_the_loop_stays_responsive_during_a_flood() -> None:
    """The messages handled in one callback are bounded: others get their turns in between."""
    total = 200_000
    taken = 0

    async def busy(ws: Any) -> None:
        nonlocal taken
        async for _ in ws:
            taken += 1

    async with serving(busy) as server, raw_client(server) as peer:
        sending = asyncio.create_task(peer.send(client_frame(TEXT) * total))
        longest = 0
        while taken < total:
            before = taken
            await asyncio.sleep(0)
            longest = max(longest, taken - before)
        await within(sending)
        assert longest <= 10_000


async def test_many_connections_at_once() -> None:
    async with serving(echo) as server:

        async def visit(i: int) -> None:
            async with connecting(server) as client:
                await client.send(f"hello {i}")
                assert await client.recv() == f"hello {i}"

        await within(asyncio.gather(*(visit(i) for i in range(100))), 25)
        await until(lambda: not server.connections)


async def test_connections_are_forgotten_when_closed() -> None:
    """Nothing keeps a finished connection alive, on either side."""
    references: list[weakref.ref[object]] = []

    async def handler(ws: Any) -> None:
        references.append(weakref.ref(ws))
        await ws.recv()

    async with serving(handler) as server:
        async with connecting(server) as client:
            references.append(weakref.ref(client))
            await client.send("hello")
        await until(lambda: not server.connections)
        del client
        await turns()
        gc.collect()
        assert [reference() for reference in references] == [None, None]


async def test_no_bytes_reach_another_connection() -> None:
    """Connections share the buffer they receive into: none leaves in it what it has not read."""
    arrived: list[Any] = []

    async def handler(ws: Any) -> None:
        arrived.append(ws)
        await ws.wait_closed()

    async with (
        serving(handler, close_timeout=0.1) as server,
        raw_client(server) as one,
        raw_client(server) as other,
    ):
        await until(lambda: len(arrived) == 2)
        first, second = arrived
        # More fragments than the queue holds: recv(), which was waiting for them, gives up.
        receiving = asyncio.create_task(first.recv())
        await turns()
        begun = client_frame(TEXT, b"a", fin=False) + client_frame(CONT, b"a", fin=False) * 30
        await one.send(begun + client_frame(PING))
        assert (await one.recv_frame()).opcode == PONG
        receiving.cancel()
        await asyncio.wait([receiving])
        assert receiving.cancelled()
        await other.send(client_frame(TEXT, b"the other's ", fin=False) + client_frame(PING))
        assert (await other.recv_frame()).opcode == PONG
        # There is no room for these.
        rest = client_frame(CONT, b"a" * 20, fin=False) + client_frame(CONT, b"!", fin=False)
        await one.send(rest)
        await asyncio.sleep(0.05)
        # These come to lie where those were.
        await other.send(client_frame(CONT, b"secret"))
        assert await within(second.recv()) == "the other's secret"
        await one.send(client_frame(CONT, b"end"))
        assert await within(first.recv()) == "a" * 51 + "!end"
