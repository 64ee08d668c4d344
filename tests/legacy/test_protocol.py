"""`WebSocketCommonProtocol`: what the original design promises, one class for both sides."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any
from unittest.mock import AsyncMock, patch

import pytest

from websockets.exceptions import (
    ConnectionClosedError,
    ConnectionClosedOK,
    InvalidState,
    PayloadTooBig,
    ProtocolError,
)
from websockets.legacy.protocol import WebSocketCommonProtocol
from websockets.protocol import State

from ..helpers import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    PONG,
    TEXT,
    RawPeer,
    client_frame,
    shrink_buffers,
    stalled,
    turns,
    until,
    within,
)


class Client(WebSocketCommonProtocol):
    is_client = True
    side = "client"


class Server(WebSocketCommonProtocol):
    is_client = False


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        left = socket.create_connection(listener.getsockname())
        right, _ = listener.accept()
    return left, right


async def attach(protocol: WebSocketCommonProtocol, sock: socket.socket) -> None:
    """Have a connection use a socket, as if its opening handshake were over."""
    loop = asyncio.get_running_loop()
    await loop.connect_accepted_socket(lambda: protocol, sock)
    protocol.connection_open()


@contextlib.asynccontextmanager
async def common_pair(**kwargs: Any) -> AsyncIterator[tuple[Client, Server]]:
    """Both sides of a connection, without any handshake."""
    client, server = Client(**kwargs), Server(**kwargs)
    left, right = tcp_pair()
    await attach(client, left)
    await attach(server, right)
    try:
        yield client, server
    finally:
        await within(asyncio.gather(client.close(), server.close()))


@contextlib.asynccontextmanager
async def with_raw_peer(
    kind: type[WebSocketCommonProtocol], small_buffers: bool = False, **kwargs: Any
) -> AsyncIterator[tuple[Any, RawPeer]]:
    """One side of a connection, and a peer that does what the test says."""
    protocol = kind(**kwargs)
    left, right = tcp_pair()
    if small_buffers:
        shrink_buffers(left)
        shrink_buffers(right)
    right.setblocking(False)
    peer = RawPeer(right, is_client=not protocol.is_client)
    await attach(protocol, left)
    try:
        yield protocol, peer
    finally:
        peer.close()
        protocol.fail_connection()
        await within(protocol.wait_closed())


# One class for both sides


async def test_one_class_frames_sends_receives_and_closes_on_both_sides() -> None:
    async with common_pair() as (client, server):
        await client.send("text")
        await client.send(b"binary")
        assert [await server.recv(), await server.recv()] == ["text", b"binary"]
        await server.send(["frag", "ments"])
        assert await client.recv() == "fragments"
        assert (client.open, client.closed) == (True, False)
        await client.close(1000, "bye")
        assert (client.close_code, client.close_reason) == (1000, "bye")
        assert (server.close_code, server.close_reason) == (1000, "bye")
        assert (client.open, client.closed) == (False, True)


@pytest.mark.parametrize("kind", [Client, Server])
async def test_is_client_says_who_masks(kind: type[WebSocketCommonProtocol]) -> None:
    async with with_raw_peer(kind) as (protocol, peer):
        await protocol.send("hello")
        frame = await peer.recv_frame()
        assert (frame.payload, frame.masked) == (b"hello", protocol.is_client)


async def test_the_server_closes_tcp_at_once() -> None:
    async with with_raw_peer(Server) as (protocol, peer):
        await peer.send_close(1001, "away")
        frames = await within(peer.recv_frames_to_end())
        assert [frame.close for frame in frames] == [(1001, "away")]
        # It does not wait for the peer's end of TCP.
        await within(protocol.wait_closed())


async def test_the_client_waits_for_the_server_to_close_tcp() -> None:
    async with with_raw_peer(Client) as (protocol, peer):
        closing = asyncio.ensure_future(protocol.close())
        await peer.recv_frame()
        await peer.send_close(1000)
        await turns(50)
        assert not closing.done()
        peer.send_eof()
        await within(closing)
        assert protocol.close_code == 1000


async def test_the_client_gives_up_on_a_server_that_does_not_close_tcp() -> None:
    async with with_raw_peer(Client, close_timeout=0.01) as (protocol, peer):
        await peer.send_close(1000)
        await within(protocol.wait_closed())
        assert protocol.close_code == 1000


# The worker


async def test_the_worker_lives_as_long_as_the_connection() -> None:
    async with common_pair() as (client, server):
        workers = [client.worker_task, server.worker_task]
        await client.send("x")
        await server.recv()
        assert not any(worker.done() for worker in workers)
        await client.close()
        await within(asyncio.gather(*workers))


async def test_run_is_what_the_worker_does() -> None:
    class Counting(Server):
        async def run(self) -> None:
            await super().run()
            self.ended = self.protocol.state

    async with with_raw_peer(Counting) as (protocol, peer):
        peer.close()
        await within(protocol.worker_task)
        assert protocol.ended is State.CLOSED


# Control frames


@pytest.mark.parametrize("kind", [Client, Server])
async def test_control_frames_are_handled_though_nobody_reads(
    kind: type[WebSocketCommonProtocol],
) -> None:
    async with with_raw_peer(kind) as (protocol, peer):
        await peer.send_frame(TEXT, b"unread")
        await peer.send_frame(PING, b"are you there?")
        assert (await within(peer.recv_frame())).payload == b"are you there?"
        waiter = await protocol.ping(b"and you?")
        assert (await peer.recv_frame()).opcode == PING
        await peer.send_frame(PONG, b"and you?")
        assert await within(waiter) >= 0
        await peer.send_close(1000)
        assert (await within(peer.recv_frame())).opcode == CLOSE
        peer.close()
        await within(protocol.wait_closed())
        # What came before the close frame can still be received.
        assert await protocol.recv() == "unread"
        with pytest.raises(ConnectionClosedOK):
            await protocol.recv()


async def test_a_pong_acknowledges_its_ping_and_earlier_ones() -> None:
    async with with_raw_peer(Server) as (protocol, peer):
        first, second, third = [await protocol.ping(data) for data in (b"1", b"2", b"3")]
        await peer.send_frame(PONG, b"nobody asked")
        await peer.send_frame(PONG, b"2")
        await within(asyncio.gather(first, second))
        assert not third.done()
        assert protocol.open
        assert protocol.latency >= 0
        third.cancel()


async def test_the_same_ping_twice() -> None:
    async with with_raw_peer(Server) as (protocol, _):
        waiter = await protocol.ping(b"x")
        with pytest.raises(RuntimeError, match="already waiting for a pong with the same data"):
            await protocol.ping(b"x")
        waiter.cancel()


async def test_pings_end_with_the_connection() -> None:
    async with with_raw_peer(Server) as (protocol, peer):
        waiter = await protocol.ping()
        peer.close()
        with pytest.raises(ConnectionClosedError):
            await within(waiter)


# Receiving


async def test_two_cannot_receive_at_once() -> None:
    async with common_pair() as (client, server):
        receiving = asyncio.ensure_future(server.recv())
        await turns()
        with pytest.raises(RuntimeError, match="cannot call recv while another coroutine"):
            await server.recv()
        await client.send("one")
        assert await within(receiving) == "one"


async def test_cancelling_recv_loses_nothing() -> None:
    async with common_pair() as (client, server):
        receiving = asyncio.ensure_future(server.recv())
        await turns()
        receiving.cancel()
        await turns()
        await client.send("one")
        assert await within(server.recv()) == "one"
        assert receiving.cancelled()


async def test_iteration_ends_with_the_connection() -> None:
    async with common_pair() as (client, server):
        await client.send("one")
        await client.send("two")
        await client.close()
        assert [message async for message in server] == ["one", "two"]


async def test_iteration_raises_errors() -> None:
    async with with_raw_peer(Server) as (protocol, peer):
        await peer.send_close(1011)
        with pytest.raises(ConnectionClosedError):
            async for _ in protocol:
                pass


async def test_iteration_calls_what_a_subclass_has_for_recv() -> None:
    class Shouting(Server):
        async def recv(self) -> Any:
            return str(await super().recv()).upper()

    async with with_raw_peer(Shouting) as (protocol, peer):
        await peer.send_frame(TEXT, b"one")
        await peer.send_close(1000)
        assert [message async for message in protocol] == ["ONE"]


async def test_iteration_calls_what_a_test_has_for_recv() -> None:
    recv = AsyncMock(side_effect=["one", ConnectionClosedOK(None, None)])
    async with with_raw_peer(Server) as (protocol, _):
        with patch.object(protocol, "recv", recv):
            assert [message async for message in protocol] == ["one"]


async def test_legacy_recv_returns_none_at_the_end() -> None:
    with pytest.warns(DeprecationWarning, match="legacy_recv is deprecated"):
        protocol = Server(legacy_recv=True)
    left, right = tcp_pair()
    await attach(protocol, left)
    right.close()
    assert await within(protocol.recv()) is None
    with pytest.raises(ConnectionClosedError):
        await protocol.send("too late")


async def test_iteration_with_legacy_recv_ends() -> None:
    with pytest.warns(DeprecationWarning, match="legacy_recv is deprecated"):
        protocol = Server(legacy_recv=True)
    left, right = tcp_pair()
    await attach(protocol, left)
    right.sendall(client_frame(TEXT, b"one") + client_frame(TEXT, b"two"))
    right.close()
    assert [message async for message in protocol] == ["one", "two"]


# Sending


async def test_wrong_types_are_refused() -> None:
    async with common_pair() as (client, server):
        for wrong in (None, 1, {"a": 1}, [1]):
            with pytest.raises(TypeError):
                await client.send(wrong)  # type: ignore[arg-type]
        await client.send("still open")
        assert await server.recv() == "still open"


async def test_fragments_of_one_message() -> None:
    async def fragments() -> AsyncIterator[str]:
        yield "a"
        yield "b"

    async with with_raw_peer(Server) as (protocol, peer):
        await protocol.send(fragments())
        frames = [await peer.recv_frame() for _ in range(3)]
        assert [(f.opcode, f.fin, f.payload) for f in frames] == [
            (TEXT, False, b"a"),
            (CONT, False, b"b"),
            (CONT, True, b""),
        ]


async def test_pong_and_close_arguments() -> None:
    async with with_raw_peer(Server) as (protocol, peer):
        await protocol.pong("unsolicited")
        assert (await peer.recv_frame()).payload == b"unsolicited"
        for code, reason in ((1006, ""), (999, ""), (1000, "x" * 124)):
            with pytest.raises(ProtocolError):
                await protocol.close(code, reason)
        assert protocol.open


# States


async def test_before_it_is_connected() -> None:
    protocol = Client(host="example.com", port=443, secure=True)
    assert (protocol.open, protocol.closed, protocol.state) == (False, False, State.CONNECTING)
    assert (protocol.close_code, protocol.close_reason) == (None, None)
    assert (protocol.local_address, protocol.remote_address) == (None, None)
    assert (protocol.subprotocol, protocol.extensions, protocol.path) == (None, [], "")
    assert not protocol.messages
    with pytest.raises(InvalidState, match="isn't established yet"):
        await protocol.ensure_open()
    for sending in (protocol.send("x"), protocol.send(["x"]), protocol.ping(), protocol.pong()):
        with pytest.raises(InvalidState, match="isn't established yet"):
            await within(sending)
    with pytest.warns(DeprecationWarning, match=r"use remote_address\[0\] instead of host"):
        assert protocol.host == "example.com"
    with pytest.warns(DeprecationWarning, match=r"use remote_address\[1\] instead of port"):
        assert protocol.port == 443
    with pytest.warns(DeprecationWarning, match="don't use secure"):
        assert protocol.secure
    protocol.fail_connection()  # there is nothing to fail


async def test_ensure_open() -> None:
    async with common_pair() as (client, server):
        await client.ensure_open()
        closing = asyncio.ensure_future(server.close(1001))
        await turns(1)
        with pytest.raises(ConnectionClosedOK):
            await within(server.ensure_open())
        await within(closing)
        with pytest.raises(ConnectionClosedOK) as caught:
            await client.ensure_open()
        assert str(client.connection_closed_exc()) == str(caught.value)
        assert client.close_rcvd is not None and client.close_sent is not None
        assert await client.wait_for_connection_lost()


async def test_settings_may_be_changed() -> None:
    protocol = Client()
    assert (protocol.ping_interval, protocol.ping_timeout, protocol.close_timeout) == (20, 20, 10)
    protocol.ping_interval, protocol.ping_timeout, protocol.close_timeout = 1, 2, 3
    assert (protocol.ping_interval, protocol.ping_timeout, protocol.close_timeout) == (1, 2, 3)


async def test_max_size_may_be_changed() -> None:
    """Subclasses do so in their constructor."""
    async with with_raw_peer(Client, max_size=10) as (protocol, peer):
        assert protocol.max_size == 10
        protocol.max_size = None
        await peer.send_frame(TEXT, b"x" * 100)
        assert await within(protocol.recv()) == "x" * 100
        protocol.max_size = 20
        await peer.send_frame(TEXT, b"x" * 100)
        peer.close()
        with pytest.raises(ConnectionClosedError, match="1009"):
            await within(protocol.recv())


@pytest.mark.parametrize(
    ("arguments", "warning"),
    [
        ({"loop": True}, "remove loop argument"),
        ({"timeout": 2}, "rename timeout to close_timeout"),
    ],
    ids=["loop", "timeout"],
)
async def test_former_arguments(arguments: dict[str, Any], warning: str) -> None:
    with pytest.warns(DeprecationWarning, match=warning):
        protocol = Client(**arguments)
    assert protocol.close_timeout == (2 if "timeout" in arguments else 10)
    assert protocol.loop is asyncio.get_running_loop()


# Failing


async def test_fail_connection_says_why() -> None:
    async with with_raw_peer(Server) as (protocol, peer):
        protocol.fail_connection(1002, "no")
        frames = await within(peer.recv_frames_to_end())
        assert [frame.close for frame in frames] == [(1002, "no")]
        peer.close()
        await within(protocol.wait_closed())
        assert protocol.close_code == 1006
        protocol.fail_connection(1002, "again")  # has no effect


@pytest.mark.parametrize("kind", [Client, Server])
async def test_fail_connection_without_a_code(kind: type[WebSocketCommonProtocol]) -> None:
    async with with_raw_peer(kind) as (protocol, peer):
        protocol.fail_connection()
        await within(peer.expect_eof())
        await within(protocol.wait_closed())
        assert protocol.close_code == 1006
        with pytest.raises(ConnectionClosedError, match="no close frame received or sent"):
            await protocol.recv()


async def test_a_failed_connection_waits_for_what_was_said_to_arrive() -> None:
    """A socket that is closed with unread bytes resets the connection, and the close frame."""
    async with with_raw_peer(Server) as (protocol, peer):
        await peer.send(b"\xff\x80" + bytes(1000))
        frames = await within(peer.recv_frames_to_end())
        assert frames[0].close[0] == 1002
        peer.close()
        await within(protocol.wait_closed())


# Limits, on a real socket


async def test_max_size() -> None:
    async with with_raw_peer(Server, max_size=100) as (protocol, peer):
        await peer.send_frame(BINARY, bytes(101))
        assert (await within(peer.recv_frame())).close[0] == 1009
        peer.close()
        with pytest.raises(ConnectionClosedError) as caught:
            await within(protocol.recv())
        assert isinstance(caught.value.__cause__, PayloadTooBig)


@pytest.mark.parametrize("read_limit", [2**12, 2**16])
async def test_a_flood_stops_at_queue_and_read_limit_and_kernel(read_limit: int) -> None:
    size, queue = 1000, 4
    async with with_raw_peer(
        Server, small_buffers=True, max_queue=queue, read_limit=read_limit
    ) as (protocol, peer):
        sent = 0

        async def flood() -> None:
            nonlocal sent
            while True:
                await peer.send_frame(BINARY, bytes(size))
                sent += 1

        flooding = asyncio.ensure_future(flood())
        try:
            assert await stalled(flooding, lambda: sent)
            assert len(protocol.messages) == queue
            kernel = sum(
                sock.getsockopt(socket.SOL_SOCKET, option)
                for sock in (peer.sock, protocol.transport.get_extra_info("socket"))
                for option in (socket.SO_SNDBUF, socket.SO_RCVBUF)
            )
            assert sent * size <= queue * size + read_limit + kernel
            # Once the application reads, it goes on.
            before = sent
            for _ in range(before):
                await within(protocol.recv())
            await until(lambda: sent > before)
        finally:
            flooding.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError):
                await flooding


async def test_max_queue_none_is_no_limit() -> None:
    async with with_raw_peer(Server, max_queue=None) as (protocol, peer):
        for _ in range(100):
            await peer.send_frame(TEXT, b"x")
        await until(lambda: len(protocol.messages) == 100)


async def test_write_limit() -> None:
    async with with_raw_peer(Server, small_buffers=True, write_limit=2**12) as (protocol, peer):
        sent = 0

        async def flood() -> None:
            nonlocal sent
            while True:
                await protocol.send(bytes(1000))
                sent += 1

        flooding = asyncio.ensure_future(flood())
        assert await stalled(flooding, lambda: sent)
        assert protocol.transport.get_write_buffer_size() <= 2 * 2**12
        flooding.cancel()
        protocol.fail_connection()


# Servers that own the socket


async def test_data_received_and_set_protocol() -> None:
    """As uvicorn does: its own protocol has read the first bytes, then hands the transport over."""
    protocol = Server()
    left, right = tcp_pair()
    right.setblocking(False)
    peer = RawPeer(right, is_client=True)

    class First(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            protocol.connection_made(self.transport)
            protocol.connection_open()
            protocol.data_received(data)
            self.transport.set_protocol(protocol)

    loop = asyncio.get_running_loop()
    await loop.connect_accepted_socket(First, left)
    await peer.send_frame(TEXT, b"first")
    await until(lambda: protocol.messages)
    await peer.send_frame(TEXT, b"second")
    assert [await within(protocol.recv()), await within(protocol.recv())] == ["first", "second"]
    await protocol.send("answer")
    assert (await peer.recv_frame()).payload == b"answer"
    peer.close()
    await within(protocol.wait_closed())


async def test_subclasses_may_set_what_is_theirs_before_they_begin() -> None:
    class Late(Server):
        def __init__(self) -> None:
            self.loop = asyncio.get_running_loop()
            self.transport = None  # type: ignore[assignment]
            super().__init__()

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport  # type: ignore[assignment]
            super().connection_made(transport)

    async with with_raw_peer(Late) as (protocol, peer):  # type: ignore[arg-type]
        await protocol.send("x")
        assert (await peer.recv_frame()).payload == b"x"
        protocol.state = State.OPEN
        protocol.subprotocol = "chat"
        protocol.extensions = []
        assert protocol.subprotocol == "chat"
