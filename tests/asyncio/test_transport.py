"""The application has the transport too: what it does with it holds for whatever goes around it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK
from websockets.extensions.base import Extension
from websockets.frames import Frame
from websockets.http11 import Request

from ..helpers import (
    TEXT,
    client_frame,
    frame,
    port_of,
    raw_socket,
    request_bytes,
    server_of_raw_client,
    serving,
    turns,
    until,
    within,
)


class Other(asyncio.Protocol):
    def __init__(self) -> None:
        self.received = b""

    def data_received(self, data: bytes) -> None:
        self.received += data


async def exchange(ws: Any, peer: Any, message: str) -> None:
    await peer.send_frame(TEXT, message.encode())
    assert await within(ws.recv()) == message
    await ws.send(message)
    assert (await within(peer.recv_frame())).payload == message.encode()


async def test_another_protocol_has_what_arrives() -> None:
    async with server_of_raw_client() as (ws, peer):
        for i in range(3):
            await exchange(ws, peer, str(i))
        other = Other()
        ws.transport.set_protocol(other)
        data = client_frame(TEXT, b"not for the connection")
        await peer.send(data)
        await until(lambda: other.received == data)
        assert not ws._ws_session.messages
        # And back again.
        ws.transport.set_protocol(ws)
        await exchange(ws, peer, "again")


async def test_another_protocol_while_a_task_receives() -> None:
    async with server_of_raw_client() as (ws, peer):
        await exchange(ws, peer, "first")
        receiving = asyncio.create_task(ws.recv())
        await turns(3)
        other = Other()
        ws.transport.set_protocol(other)
        await peer.send_frame(TEXT, b"not for the connection")
        await until(lambda: other.received)
        assert not receiving.done()
        ws.transport.set_protocol(ws)
        await peer.send_frame(TEXT, b"for the connection")
        assert await within(receiving) == "for the connection"


async def test_the_application_pauses_reading() -> None:
    async with server_of_raw_client() as (ws, peer):
        for i in range(3):
            await exchange(ws, peer, str(i))
            receiving = asyncio.create_task(ws.recv())
            await turns(3)
            ws.transport.pause_reading()
            await peer.send_frame(TEXT, b"later")
            await asyncio.sleep(0.02)
            assert not receiving.done()
            ws.transport.resume_reading()
            assert await within(receiving) == "later"


async def test_nothing_is_read_from_a_transport_that_is_closing() -> None:
    async with server_of_raw_client() as (ws, peer):
        await exchange(ws, peer, "first")
        receiving = asyncio.create_task(ws.recv())
        await turns(3)
        await peer.send_frame(TEXT, b"too late")
        ws.transport.abort()
        await asyncio.wait([receiving])
        assert receiving.exception() is not None
        assert not ws._ws_session.messages


async def test_the_application_writes_between_messages() -> None:
    """What it writes is behind what was sent before, and before what is sent later."""
    async with server_of_raw_client() as (ws, peer):

        async def answer() -> None:
            async for message in ws:
                await ws.send(message + " before")
                ws.transport.write(frame(TEXT, message.encode()))
                await ws.send(message + " behind")

        answering = asyncio.create_task(answer())
        await turns(3)
        await peer.send(client_frame(TEXT, b"one") + client_frame(TEXT, b"two"))
        for message in (b"one", b"two"):
            for expected in (message + b" before", message, message + b" behind"):
                assert (await within(peer.recv_frame())).payload == expected
        await peer.send_close()
        await within(answering)


class Unwritable:
    def is_closing(self) -> bool:
        raise RuntimeError("unwritable")


async def test_a_transport_that_raises_does_not_hold_up_others(
    loop_errors: list[dict[str, Any]],
) -> None:
    """What several connections send in one turn of the event loop leaves at its end."""
    async with server_of_raw_client() as (one, _), server_of_raw_client() as (other, peer):
        for ws in (one, other):
            await ws.send("first")
            await ws.send("second")
        transport, fd, one._ws_fd = one._ws_transport, one._ws_fd, -1
        one._ws_transport = Unwritable()
        for expected in (b"first", b"second"):
            assert (await within(peer.recv_frame())).payload == expected
        one._ws_transport, one._ws_fd = transport, fd
        assert [str(context["exception"]) for context in loop_errors] == ["unwritable"]
        loop_errors.clear()


class Unbuffered(ServerConnection):
    """It is given bytes, as by a transport that knows no buffers of protocols."""

    def get_buffer(self, sizehint: int) -> memoryview:
        self.own = bytearray(65536)
        return memoryview(self.own)

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(self.own[:nbytes]))


async def test_bytes_instead_of_buffers() -> None:
    async with server_of_raw_client(create_connection=Unbuffered) as (ws, peer):
        for i in range(3):
            await exchange(ws, peer, str(i))
        await peer.send_close()
        # RFC 6455 section 1.4: nothing that comes behind the close frame counts.
        await peer.send_frame(TEXT, b"behind the end")
        with pytest.raises(ConnectionClosedOK):
            await within(ws.recv())
        ws.data_received(client_frame(TEXT, b"later still"))
        with pytest.raises(ConnectionClosedOK):
            await within(ws.recv())


@pytest.mark.parametrize("create_connection", [None, Unbuffered])
async def test_frames_before_the_response(
    create_connection: type[ServerConnection] | None,
) -> None:
    """A client should wait for the response; what comes before it is kept nevertheless."""
    asked, decided = asyncio.Event(), asyncio.Event()
    connections = []

    async def process_request(ws: ServerConnection, _: Request) -> None:
        connections.append(ws)
        asked.set()
        await decided.wait()

    async with (
        serving(process_request=process_request, create_connection=create_connection) as server,
        raw_socket(server) as peer,
    ):
        await peer.send(request_bytes(port_of(server)))
        await within(asked.wait())
        await peer.send_frame(TEXT, b"early")
        await until(lambda: connections[0]._ws_reading_paused)
        await peer.send_frame(TEXT, b"later")
        decided.set()
        await peer.read_until(b"\r\n\r\n")
        for expected in (b"early", b"later"):
            assert (await within(peer.recv_frame())).payload == expected
        await peer.send_close()
        await peer.recv_frame()


class Faulty(ServerConnection):
    def _ws_process_handshake(self) -> None:
        raise LookupError("faulty")


async def test_an_error_of_a_subclass_ends_the_connection(
    loop_errors: list[dict[str, Any]],
) -> None:
    async with serving(create_connection=Faulty) as server, raw_socket(server) as peer:
        await peer.send(request_bytes(port_of(server)))
        assert await peer.read_to_end() == b""
        assert [str(context["exception"]) for context in loop_errors] == ["faulty"]
        loop_errors.clear()


class Interrupted(ServerConnection):
    def _ws_process_handshake(self) -> None:
        raise KeyboardInterrupt


def test_interruption_of_a_transport() -> None:
    """It leaves the event loop, as from any callback."""

    async def main() -> None:
        async with serving(create_connection=Interrupted) as server, raw_socket(server) as peer:
            await peer.send(request_bytes(port_of(server)))
            await within(peer.read_to_end())

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())


async def test_nothing_is_written_when_the_connection_is_lost() -> None:
    async with server_of_raw_client() as (ws, peer):
        ws.transport.abort()
        await within(ws.wait_closed())
        ws._ws_write(b"at once")
        ws._ws_write(b"at the end of the turn")
        assert ws._ws_corked
        await turns(3)
        assert not ws._ws_corked


async def test_event_loops_in_several_threads() -> None:
    """Each has its own buffer to receive into."""

    async def talk() -> str:
        async with server_of_raw_client() as (ws, peer):
            await exchange(ws, peer, "there")
            buffer: memoryview = ws._ws_buffer
        return str(id(buffer.obj))

    async with server_of_raw_client() as (ws, peer):
        assert await asyncio.to_thread(asyncio.run, talk()) != str(id(ws._ws_buffer.obj))
        await exchange(ws, peer, "here")


class Broken(Extension):
    name = "broken"

    def decode(self, frame: Frame, *, max_size: int | None = None) -> Frame:
        raise ValueError("broken")

    def encode(self, frame: Frame) -> Frame:
        return frame


@pytest.mark.parametrize("behind", [b"", client_frame(TEXT, b"more")], ids=["alone", "and more"])
async def test_an_error_of_an_extension_fails_the_connection(behind: bytes) -> None:
    async with server_of_raw_client() as (ws, peer):
        await exchange(ws, peer, "first")
        receiving = asyncio.create_task(ws.recv())
        await turns(3)
        ws.protocol.extensions = [Broken()]
        await peer.send(client_frame(TEXT, b"x") + behind)
        with pytest.raises(ConnectionClosedError) as caught:
            await within(receiving)
        assert isinstance(caught.value.__cause__, ValueError)
        assert caught.value.sent is not None
        assert caught.value.sent.code == 1011


async def test_an_error_of_ours_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop reports it, and nobody waits for ever."""
    errors: list[Any] = []
    async with server_of_raw_client() as (ws, peer):
        asyncio.get_running_loop().set_exception_handler(
            lambda loop, context: errors.append(context.get("exception"))
        )
        error = ZeroDivisionError()

        def fail(session: Any) -> None:
            raise error

        monkeypatch.setattr("websockets.session.Session.finish", fail)
        receiving = asyncio.create_task(ws.recv())
        await turns(2)
        ws.transport.abort()
        with pytest.raises(ConnectionClosedError):
            await within(receiving)
        await within(ws.wait_closed())
        await until(lambda: errors == [error])
        monkeypatch.undo()
