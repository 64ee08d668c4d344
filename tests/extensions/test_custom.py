"""Extensions of applications: negotiated, and in use, on both sides, with and without I/O.

Negotiation, bytes, codes and errors are those of websockets 17.4, but where a comment says why they
are not. What extensions do to frames is in ``tests/test_protocol.py``, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import zlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import ServerConnection, broadcast
from websockets.client import ClientProtocol
from websockets.exceptions import (
    ConnectionClosedError,
    InvalidStatus,
    NegotiationError,
    PayloadTooBig,
    ProtocolError,
)
from websockets.extensions import ClientExtensionFactory, Extension, ServerExtensionFactory
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    PerMessageDeflate,
    ServerPerMessageDeflateFactory,
)
from websockets.frames import BINARY, CONT, TEXT, Frame
from websockets.http11 import Request
from websockets.protocol import Protocol, Side, State
from websockets.server import ServerProtocol
from websockets.typing import ExtensionName, ExtensionParameter
from websockets.uri import parse_uri

from ..helpers import (
    CLOSE,
    PING,
    RawPeer,
    connecting,
    drain_messages,
    echo,
    noise,
    raw_client,
    server_connection,
    serving,
    within,
)

HEADER = "Sec-WebSocket-Extensions"
DEFLATE = "permessage-deflate"

# RFC 7692 section 7.2.1
TAIL = b"\x00\x00\xff\xff"


class Flip(Extension):
    """Turns every bit of data frames over, and says so by RSV2 on each of them."""

    name = ExtensionName("x-flip")

    def __init__(self, error: Exception | None = None, where: str = "") -> None:
        self.error = error
        self.where = where

    @staticmethod
    def flip(data: Any) -> bytes:
        return bytes(byte ^ 0xFF for byte in bytes(data))

    def decode(self, frame: Frame, *, max_size: int | None = None) -> Frame:
        if self.where == "decode" and self.error is not None:
            raise self.error
        if not frame.rsv2:
            return frame
        return dataclasses.replace(frame, data=self.flip(frame.data), rsv2=False)

    def encode(self, frame: Frame) -> Frame:
        if frame.opcode not in (TEXT, BINARY, CONT):
            return frame
        if self.where == "encode" and self.error is not None:
            raise self.error
        return dataclasses.replace(frame, data=self.flip(frame.data), rsv2=True)


class ClientFlipFactory(ClientExtensionFactory):
    name = Flip.name

    def __init__(self, error: Exception | None = None, where: str = "") -> None:
        self.error = error
        self.where = where

    def get_request_params(self) -> Sequence[ExtensionParameter]:
        if self.where == "offer" and self.error is not None:
            raise self.error
        return [("by", "client")]

    def process_response_params(
        self, params: Sequence[ExtensionParameter], accepted_extensions: Sequence[Extension]
    ) -> Flip:
        if self.where == "negotiation" and self.error is not None:
            raise self.error
        assert params == [("by", "server"), ("seen", str(len(accepted_extensions)))]
        return Flip(self.error, self.where)


class ServerFlipFactory(ServerExtensionFactory):
    name = Flip.name

    def __init__(self, error: Exception | None = None, where: str = "") -> None:
        self.error = error
        self.where = where

    def process_request_params(
        self, params: Sequence[ExtensionParameter], accepted_extensions: Sequence[Extension]
    ) -> tuple[list[ExtensionParameter], Flip]:
        if self.where == "negotiation" and self.error is not None:
            raise self.error
        assert params == [("by", "client")]
        seen = str(len(accepted_extensions))
        return [("by", "server"), ("seen", seen)], Flip(self.error, self.where)


class Counting(PerMessageDeflate):
    """permessage-deflate with counters, as applications have it that want to know its use."""

    received = sent = 0

    def decode(self, frame: Frame, *, max_size: int | None = None) -> Frame:
        self.received += len(frame.data)
        return super().decode(frame, max_size=max_size)

    def encode(self, frame: Frame, compress: bool | None = None) -> Frame:
        frame = super().encode(frame, compress)
        self.sent += len(frame.data)
        return frame


def counting(extension: PerMessageDeflate) -> Counting:
    return Counting(
        extension.remote_no_context_takeover,
        extension.local_no_context_takeover,
        extension.remote_max_window_bits,
        extension.local_max_window_bits,
        extension.compress_settings,
    )


class ClientCountingFactory(ClientPerMessageDeflateFactory):
    def process_response_params(self, *args: Any) -> Counting:
        return counting(super().process_response_params(*args))


class ServerCountingFactory(ServerPerMessageDeflateFactory):
    def process_request_params(self, *args: Any) -> tuple[list[ExtensionParameter], Counting]:
        params, extension = super().process_request_params(*args)
        return params, counting(extension)


STACKS: dict[str, tuple[list[Any], list[Any], str | None, list[str]]] = {
    "alone": ([ClientFlipFactory()], [ServerFlipFactory()], None, ["x-flip"]),
    "before deflate": (
        [ClientFlipFactory()],
        [ServerFlipFactory()],
        "deflate",
        ["x-flip", DEFLATE],
    ),
    "behind deflate": (
        [ClientPerMessageDeflateFactory(), ClientFlipFactory()],
        [ServerFlipFactory(), ServerPerMessageDeflateFactory()],
        "deflate",
        [DEFLATE, "x-flip"],
    ),
    "subclass": ([ClientCountingFactory()], [ServerCountingFactory()], "deflate", [DEFLATE]),
    "subclass and another": (
        [ClientFlipFactory(), ClientCountingFactory()],
        [ServerCountingFactory(), ServerFlipFactory()],
        None,
        ["x-flip", DEFLATE],
    ),
}

stacks = pytest.mark.parametrize("stack", STACKS)

MESSAGES: list[Any] = [
    "Grüße, 世界 🌍 " * 20,
    b"\x00\xff" * 200,
    "",
    b"",
    "x",
    bytes(100_000),
    "é" * 100_000,
]


@contextlib.asynccontextmanager
async def connected(
    stack: str, handler: Any = echo, **kwargs: Any
) -> AsyncIterator[ClientConnection]:
    client, server, compression, names = STACKS[stack]
    async with (
        serving(handler, compression=compression, extensions=server, **kwargs) as running,
        connecting(running, compression=compression, extensions=client, **kwargs) as ws,
    ):
        assert [extension.name for extension in ws.protocol.extensions] == names
        yield ws


@stacks
async def test_messages(stack: str) -> None:
    async with connected(stack) as ws:
        for message in MESSAGES:
            await ws.send(message)
            assert await within(ws.recv()) == message
        await ws.send(["one ", "", "two"])
        assert await within(ws.recv()) == "one two"
        await within(await ws.ping())


@stacks
@pytest.mark.parametrize("compress", [True, False])
async def test_compress_argument(stack: str, compress: bool) -> None:
    async with connected(stack) as ws:
        for message in MESSAGES:
            await ws.send(message, compress=compress)
            assert await within(ws.recv()) == message


@stacks
async def test_streaming(stack: str) -> None:
    async def handler(ws: ServerConnection) -> None:
        async def chunks() -> AsyncIterator[str]:
            async for chunk in ws.recv_streaming():
                yield str(chunk)

        await ws.send(chunks())

    async with connected(stack, handler) as ws:
        await ws.send(["Grüße, ", "世界"])
        assert await within(ws.recv()) == "Grüße, 世界"


@stacks
async def test_broadcast(stack: str) -> None:
    arrived = asyncio.Event()

    async def handler(ws: ServerConnection) -> None:
        await arrived.wait()
        for message in MESSAGES[:4]:
            broadcast([ws], message)
        await ws.wait_closed()

    async with connected(stack, handler) as ws:
        arrived.set()
        for message in MESSAGES[:4]:
            assert await within(ws.recv()) == message


@stacks
async def test_limits(stack: str) -> None:
    async with connected(stack, max_size=1000) as ws:
        await ws.send(bytes(1000))
        assert await within(ws.recv()) == bytes(1000)
        await ws.send(bytes(1001))
        _, exc = await drain_messages(ws)
        assert exc.rcvd is not None
        assert exc.rcvd.code == 1009


@stacks
def test_without_io(stack: str) -> None:
    client_factories, server_factories, compression, names = STACKS[stack]
    if compression and not any(factory.name == DEFLATE for factory in client_factories):
        client_factories = [*client_factories, ClientPerMessageDeflateFactory()]
        server_factories = [*server_factories, ServerPerMessageDeflateFactory()]
    client = ClientProtocol(parse_uri("ws://example.com/"), extensions=client_factories)
    server = ServerProtocol(extensions=server_factories)
    client.send_request(client.connect())
    server.receive_data(b"".join(client.data_to_send()))
    (request,) = server.events_received()
    assert isinstance(request, Request)
    server.send_response(server.accept(request))
    client.receive_data(b"".join(server.data_to_send()))
    client.events_received()
    assert client.handshake_exc is None
    for protocol in (client, server):
        assert protocol.state is State.OPEN
        assert [extension.name for extension in protocol.extensions] == names
    for sender, receiver in [(client, server), (server, client)]:
        sender.send_text("Grüße, 世界 ".encode() * 20)
        sender.send_binary(b"one ", fin=False)
        sender.send_ping(b"ping")
        sender.send_continuation(b"two", fin=True)
        receiver.receive_data(b"".join(sender.data_to_send()))
        frames = receiver.events_received()
        assert frames == [
            Frame(TEXT, "Grüße, 世界 ".encode() * 20),
            Frame(BINARY, b"one ", fin=False),
            Frame(frames[2].opcode, b"ping"),  # type: ignore[union-attr]
            Frame(CONT, b"two"),
        ]
        sender.receive_data(b"".join(receiver.data_to_send()))
        sender.events_received()
        assert receiver.parser_exc is sender.parser_exc is None


# On the wire


@contextlib.asynccontextmanager
async def raw(
    offer: str, extensions: list[Any], compression: str | None = None
) -> AsyncIterator[tuple[ServerConnection, RawPeer]]:
    async with (
        server_connection(extensions=extensions, compression=compression, close_timeout=0.2) as (
            server,
            arrived,
        ),
        raw_client(server, extra=[(HEADER, offer)]) as peer,
    ):
        yield await within(arrived), peer


async def test_bits_of_one() -> None:
    async with raw("x-flip; by=client", [ServerFlipFactory()]) as (ws, peer):
        await ws.send("hello")
        frame = await peer.recv_frame()
        assert (frame.opcode, frame.rsv, frame.payload) == (TEXT, 2, Flip.flip(b"hello"))
        await peer.send_frame(TEXT, Flip.flip(b"hello"), rsv=2)
        assert await within(ws.recv()) == "hello"
        # The extension leaves it to the sender.
        await peer.send_frame(TEXT, b"plain")
        assert await within(ws.recv()) == "plain"
        await peer.send_frame(TEXT, b"bad", rsv=6)
        _, exc = await drain_messages(ws)
        assert str(exc.__cause__) == "reserved bits must be 0"


@pytest.mark.parametrize("order", [["x-flip; by=client", DEFLATE], [DEFLATE, "x-flip; by=client"]])
async def test_bits_of_two(order: list[str]) -> None:
    """RFC 6455 section 9.1: the first one in the response is applied first to what is sent."""
    flip_first = order[1] == DEFLATE
    message = b"the same again and again, " * 5
    async with raw(", ".join(order), [ServerFlipFactory()], "deflate") as (ws, peer):
        await ws.send(message)
        frame = await peer.recv_frame()
        assert (frame.opcode, frame.rsv) == (BINARY, 6)
        payload = frame.payload if flip_first else Flip.flip(frame.payload)
        data = zlib.decompressobj(wbits=-15).decompress(payload + TAIL)
        assert (Flip.flip(data) if flip_first else data) == message

        compressor = zlib.compressobj(wbits=-15)
        data = Flip.flip(message) if flip_first else message
        payload = (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
        payload = payload if flip_first else Flip.flip(payload)
        await peer.send_frame(BINARY, payload, rsv=6)
        assert await within(ws.recv()) == message


async def test_a_subclass_sees_all_frames() -> None:
    async with connected("subclass") as ws:
        message = b"the same again and again, " * 100
        await ws.send(message)
        assert await within(ws.recv()) == message
        (extension,) = ws.protocol.extensions
        assert isinstance(extension, Counting)
        assert 0 < extension.sent == extension.received < 100


# Negotiation


async def test_headers() -> None:
    async with connected("before deflate") as ws:
        assert ws.request is not None and ws.response is not None
        assert ws.request.headers[HEADER] == (
            "x-flip; by=client, permessage-deflate; client_max_window_bits"
        )
        assert ws.response.headers[HEADER] == (
            "x-flip; by=server; seen=0, "
            "permessage-deflate; server_max_window_bits=12; client_max_window_bits=12"
        )
    async with connected("behind deflate") as ws:
        assert ws.response is not None
        assert ws.response.headers[HEADER] == "permessage-deflate, x-flip; by=server; seen=1"


async def test_a_server_declines() -> None:
    extensions = [ServerFlipFactory(NegotiationError("no"), "negotiation")]
    async with (
        serving(echo, extensions=extensions) as server,
        connecting(server, extensions=[ClientFlipFactory()]) as ws,
    ):
        assert ws.protocol.extensions == []
        await ws.send("hello")
        assert await within(ws.recv()) == "hello"


async def test_a_client_refuses() -> None:
    extensions = [ClientFlipFactory(NegotiationError("no"), "negotiation")]
    async with serving(echo, extensions=[ServerFlipFactory()]) as server:
        with pytest.raises(NegotiationError) as raised:
            await connecting(server, extensions=extensions)
    assert str(raised.value) == (
        "Unsupported extension: name = x-flip, params = [('by', 'server'), ('seen', '0')]"
    )


# Extensions that raise


async def test_a_broken_factory_of_a_server(caplog: pytest.LogCaptureFixture) -> None:
    extensions = [ServerFlipFactory(ZeroDivisionError(), "negotiation")]
    async with serving(echo, extensions=extensions) as server:
        with pytest.raises(InvalidStatus) as raised:
            await connecting(server, extensions=[ClientFlipFactory()])
    assert raised.value.response.status_code == 500
    assert noise(caplog) == ["websockets.server ERROR opening handshake failed"]


@pytest.mark.parametrize("where", ["offer", "negotiation"])
async def test_a_broken_factory_of_a_client(where: str) -> None:
    # With 17.4, an error in the negotiation ends in a timeout.
    extensions = [ClientFlipFactory(ZeroDivisionError(), where)]
    async with serving(echo, extensions=[ServerFlipFactory()]) as server:
        with pytest.raises(ZeroDivisionError):
            await connecting(server, extensions=extensions)


@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize(
    ("error", "close"),
    [
        (ProtocolError("not flipped"), (1002, "not flipped")),
        (PayloadTooBig(None, 3), (1009, "frame exceeds limit of 3 bytes")),
        (ZeroDivisionError("oops"), (1011, "")),
    ],
    ids=["ProtocolError", "PayloadTooBig", "other"],
)
async def test_an_error_in_decoding(
    side: str, error: Exception, close: tuple[int, str], caplog: pytest.LogCaptureFixture
) -> None:
    ended: list[ConnectionClosedError] = []

    async def handler(ws: ServerConnection) -> None:
        if side == "client":
            await ws.send("hello")
        _, exc = await drain_messages(ws)
        assert isinstance(exc, ConnectionClosedError)
        ended.append(exc)

    own, other = (error, "decode"), (None, "")
    client = ClientFlipFactory(*(own if side == "client" else other))
    server = ServerFlipFactory(*(own if side == "server" else other))
    async with (
        serving(handler, extensions=[server]) as running,
        connecting(running, extensions=[client]) as ws,
    ):
        if side == "server":
            await ws.send("hello")
        _, exc = await drain_messages(ws)
        assert isinstance(exc, ConnectionClosedError)
        await within(asyncio.shield(asyncio.create_task(running_out(ended))))
    failed, told = (exc, ended[0]) if side == "client" else (ended[0], exc)
    assert failed.__cause__ is error
    assert failed.sent is not None
    assert (failed.sent.code, failed.sent.reason) == close
    assert told.rcvd is not None
    assert (told.rcvd.code, told.rcvd.reason) == close
    log = [f"websockets.{side} ERROR parser failed"] if close[0] == 1011 else []
    assert noise(caplog) == log


async def running_out(ended: list[Any]) -> None:
    while not ended:
        await asyncio.sleep(0.001)


async def test_an_error_in_encoding() -> None:
    """It comes out of send(), and nothing was sent.

    17.4 drops the connection without a close frame, and raises ConnectionClosedError because of it.
    """
    error = ZeroDivisionError()
    async with raw("x-flip; by=client", [ServerFlipFactory(error, "encode")]) as (ws, peer):
        for _ in range(2):
            with pytest.raises(ZeroDivisionError) as raised:
                await ws.send("hello")
            assert raised.value is error
        assert ws.state is State.OPEN
        await peer.send_frame(TEXT, b"still there")
        assert await within(ws.recv()) == "still there"
        closing = asyncio.create_task(ws.close())
        frame = await peer.recv_frame()
        assert (frame.opcode, frame.close) == (CLOSE, (1000, ""))
        await peer.send_close()
        peer.close()
        await within(closing)
        assert ws.close_code == 1000


def test_an_error_in_encoding_what_is_compressed() -> None:
    """What was not sent is not referred to. With 17.4, the peer gets another message."""
    sender, receiver = Protocol(Side.SERVER), Protocol(Side.CLIENT)
    flip = Flip()
    sender.extensions = [PerMessageDeflate(False, False, 15, 15), flip]
    receiver.extensions = [PerMessageDeflate(False, False, 15, 15), Flip()]
    for data in (b"spam, ham and eggs" * 3, b"what nobody was sent" * 3):
        flip.error, flip.where = ZeroDivisionError(), "encode"
        with pytest.raises(ZeroDivisionError):
            sender.send_text(data)
        flip.error = None
        sender.send_text(data)
        receiver.receive_data(b"".join(sender.data_to_send()))
        assert [frame.data for frame in receiver.events_received()] == [data]


async def test_an_error_in_encoding_a_fragment() -> None:
    """As with any other error, the message cannot be completed."""
    error = ZeroDivisionError()
    async with raw("x-flip; by=client", [ServerFlipFactory(error, "encode")]) as (ws, peer):
        with pytest.raises(ZeroDivisionError) as raised:
            await ws.send(["hello", "again"])
        assert raised.value is error
        frame = await peer.recv_frame()
        assert frame.close == (1011, "error in fragmented message")


class Useless(Extension):
    """An extension that encodes nothing, control frames included."""

    name = ExtensionName("x-useless")

    def decode(self, frame: Frame, *, max_size: int | None = None) -> Frame:
        return frame

    def encode(self, frame: Frame) -> Frame:
        raise ZeroDivisionError


@pytest.mark.parametrize("way", ["close", "echo", "ping", "bad frame"])
async def test_a_connection_ends_in_spite_of_its_extensions(
    way: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With 17.4, it ends without a close frame."""
    async with raw("x-flip; by=client", [ServerFlipFactory()]) as (ws, peer):
        ws.protocol.extensions = [Useless()]
        log = ["websockets.server ERROR extension failed on a close frame"]
        closing = None
        if way == "close":
            closing, code = asyncio.create_task(ws.close()), 1000
        elif way == "echo":
            await peer.send_close(1001)
            code = 1001
        elif way == "ping":
            # The pong cannot be sent.
            await peer.send_frame(PING)
            log.insert(0, "websockets.server ERROR parser failed")
            code = 1011
        else:
            await peer.send_frame(TEXT, b"", rsv=1)
            code = 1002
        assert (await peer.recv_frame()).close[0] == code
        if closing is not None:
            await peer.send_close()
        peer.close()
        await within(ws.wait_closed())
        if closing is not None:
            await closing
        assert noise(caplog) == log
