"""The application has the transport too: what it does with it holds for whatever goes around it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from websockets.exceptions import ConnectionClosedError
from websockets.extensions.base import Extension
from websockets.frames import Frame

from ..helpers import TEXT, client_frame, server_of_raw_client, turns, until, within


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
        assert not ws.session.messages
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
        assert not ws.session.messages


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
