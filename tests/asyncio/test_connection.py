"""What a connection offers, on both sides: methods, attributes, exceptions and their words."""

from __future__ import annotations

import array
import asyncio
import contextlib
import inspect
import logging
import os
import pkgutil
import socket
import uuid
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from websockets.asyncio.channel import DIRECT
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import (
    ConcurrencyError,
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedOK,
    ProtocolError,
)
from websockets.frames import Close, CloseCode
from websockets.http11 import Request, Response
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
    drain_messages,
    frame,
    masking,
    pair,
    server_of_raw_client,
    stalled,
    turns,
    until,
    within,
)


async def each(items: list[Any]) -> AsyncIterator[Any]:
    for item in items:
        yield item


# Attributes


async def test_attributes() -> None:
    async with pair() as (client, server):
        assert isinstance(client, ClientConnection)
        assert isinstance(server, ServerConnection)
        for ws, name in ((client, "websockets.client"), (server, "websockets.server")):
            assert isinstance(ws, Connection)
            assert isinstance(ws.id, uuid.UUID)
            assert ws.id == ws.protocol.id
            assert ws.state is State.OPEN
            assert ws.state is ws.protocol.state
            assert ws.subprotocol is None
            assert ws.close_code is None
            assert ws.close_reason is None
            assert ws.latency == 0
            assert isinstance(ws.request, Request)
            assert isinstance(ws.response, Response)
            assert ws.response.status_code == 101
            assert isinstance(ws.logger, logging.LoggerAdapter)
            assert ws.logger.logger.name == name
            assert ws.logger.extra == {"websocket": ws}
            assert not ws.transport.is_closing()
            assert list(ws.protocol.extensions) == []
            with pytest.raises(AssertionError):
                _ = ws.close_exc
        assert client.id != server.id
        assert client.request == server.request
        assert client.response == server.response
        assert client.local_address == server.remote_address
        assert client.remote_address == server.local_address
        assert client.local_address == client.transport.get_extra_info("sockname")


async def test_addresses_outlive_the_connection() -> None:
    async with pair() as (client, server):
        addresses = client.local_address, client.remote_address
        await client.close()
        await within(server.wait_closed())
        assert (client.local_address, client.remote_address) == addresses
        assert (server.remote_address, server.local_address) == addresses


async def test_connections_can_be_kept_in_sets_and_marked() -> None:
    async with pair() as (client, server):
        for ws in (client, server):
            ws.user = "somebody"  # type: ignore[attr-defined]
            assert vars(ws)["user"] == "somebody"
            assert weakref.ref(ws)() is ws
            assert {ws: 1}[ws] == 1
            assert ws in weakref.WeakSet([ws])
            assert ws == ws
        assert client != server


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "name",
    [
        "asyncio.client.ClientConnection",
        "asyncio.server.ServerConnection",
        "legacy.auth.BasicAuthWebSocketServerProtocol",
        "legacy.client.WebSocketClientProtocol",
    ],
)
def test_names_that_users_have_for_themselves(name: str) -> None:
    """Their connections take any attribute, their subclasses any method."""
    kind = pkgutil.resolve_name(f"websockets.{name}")
    ours = {name for name in dir(kind) if name.startswith("_") and not name.endswith("__")}
    assert {name for name in ours if not name.startswith("_ws_")} == set()
    assert {"_ws_write", "_ws_session"} < ours


async def test_names_that_applications_use_are_free() -> None:
    """What is not in the API does not stand in the way of what they put into a connection."""
    async with pair() as (client, server):
        names = ["session", "_session", "_buffer", "_task", "handshaking"]
        for name in names:
            for ws in (client, server):
                assert not hasattr(ws, name)
                setattr(ws, name, {"user": "somebody"})
        await client.send("text")
        assert await within(server.recv()) == "text"
        await within(client.close())
        assert vars(server) == dict.fromkeys(names, {"user": "somebody"})


async def test_methods_return_real_coroutines() -> None:
    """`create_task` and `run_coroutine_threadsafe` accept nothing less."""
    async with pair() as (client, _):
        for coroutine in (
            client.recv(),
            client.send("x"),
            client.ping(),
            client.pong(),
            client.close(),
            client.wait_closed(),
        ):
            assert inspect.iscoroutine(coroutine)
            coroutine.close()
        assert client.state is State.OPEN
        stream = client.recv_streaming()
        assert inspect.isasyncgen(stream)
        await stream.aclose()
        iterator = aiter(client)
        assert hasattr(iterator, "__anext__")


async def test_times_that_may_be_set() -> None:
    async with server_of_raw_client(ping_interval=None, close_timeout=1000) as (server, peer):
        assert (server.ping_interval, server.ping_timeout, server.close_timeout) == (None, 20, 1000)
        server.ping_interval, server.ping_timeout, server.close_timeout = 30, 40, 0.01
        assert (server.ping_interval, server.ping_timeout, server.close_timeout) == (30, 40, 0.01)
        await within(server.close())
        assert str(server.close_exc.__cause__) == "timed out while closing connection"


async def test_attributes_that_may_be_set() -> None:
    async with pair() as (client, _):
        name, logger = uuid.uuid4(), logging.getLogger("tests.connection")
        client.id, client.logger = name, logger
        assert client.id is client.protocol.id is name
        assert client.logger is client.protocol.logger is logger


async def test_coroutines_from_another_thread() -> None:
    async with pair() as (client, server):
        loop = asyncio.get_running_loop()

        def elsewhere() -> object:
            asyncio.run_coroutine_threadsafe(client.send("from a thread"), loop).result(5)
            return asyncio.run_coroutine_threadsafe(server.recv(), loop).result(5)

        assert await asyncio.to_thread(elsewhere) == "from a thread"


# send and recv

MESSAGES = {
    "text": ("café", "café"),
    "empty text": ("", ""),
    "bytes": (b"\x00\xff", b"\x00\xff"),
    "empty bytes": (b"", b""),
    "bytearray": (bytearray(b"abc"), b"abc"),
    "memoryview": (memoryview(b"abc"), b"abc"),
    "memoryview with gaps": (memoryview(b"abcdef")[::2], b"ace"),
    "125 bytes": (b"x" * 125, b"x" * 125),
    "126 bytes": (b"x" * 126, b"x" * 126),
    "65535 bytes": ("x" * 65535, "x" * 65535),
    "65536 bytes": (b"x" * 65536, b"x" * 65536),
    "a million bytes": (b"abcdefghij" * 100_000, b"abcdefghij" * 100_000),
}


@pytest.mark.parametrize(("sent", "received"), MESSAGES.values(), ids=MESSAGES)
async def test_messages(sent: Any, received: str | bytes) -> None:
    async with pair() as (client, server):
        for source, target in ((client, server), (server, client)):
            sending = asyncio.create_task(source.send(sent))
            message = await within(target.recv())
            assert message == received
            assert type(message) is type(received)
            assert await within(sending) is None


async def test_memoryviews_of_wide_items() -> None:
    async with pair() as (client, server):
        numbers = array.array("I", [1, 2, 3])
        await client.send(memoryview(numbers))
        assert await within(server.recv()) == numbers.tobytes()
        matrix = memoryview(bytes(range(6))).cast("B", (2, 3))
        await client.send(matrix)
        assert await within(server.recv()) == bytes(range(6))


async def test_sent_buffers_can_be_reused_at_once() -> None:
    """What `send` was given belongs to the caller again as soon as it returns."""
    async with pair() as (client, server):
        buffer = bytearray(b"x" * 40_000)
        await client.send(buffer)
        buffer[:] = b"y" * 40_000
        await client.send(buffer)
        buffer.clear()
        assert await within(server.recv()) == b"x" * 40_000
        assert await within(server.recv()) == b"y" * 40_000


async def test_frames_on_the_wire() -> None:
    """RFC 6455 section 5.1: clients mask, servers do not; one message, one frame."""
    async with client_of_raw_server() as (client, peer):
        await client.send("text")
        await client.send(b"binary")
        text, binary = await peer.recv_frame(), await peer.recv_frame()
        assert (text.opcode, text.payload, text.fin, text.masked) == (TEXT, b"text", True, True)
        assert (binary.opcode, binary.payload, binary.masked) == (BINARY, b"binary", True)
    async with server_of_raw_client() as (server, peer):
        await server.send("text")
        await server.send(b"binary")
        text, binary = await peer.recv_frame(), await peer.recv_frame()
        assert (text.opcode, text.payload, text.fin, text.masked) == (TEXT, b"text", True, False)
        assert (binary.opcode, binary.payload, binary.masked) == (BINARY, b"binary", False)


async def test_masking_keys_differ() -> None:
    """RFC 6455 section 5.3: a fresh, unpredictable key a frame."""
    async with client_of_raw_server() as (client, peer):
        keys = set()
        for _ in range(50):
            await client.send(b"")
            head = await peer.read(6)
            assert head[:2] == b"\x82\x80"
            keys.add(head[2:])
        assert len(keys) == 50


async def test_text_argument() -> None:
    """`text=` sends bytes as text and text as bytes."""
    async with pair() as (client, server):
        await client.send(b"caf\xc3\xa9", text=True)
        await client.send("café", text=False)
        await client.send([b"caf\xc3", b"\xa9"], text=True)
        await client.send(["caf", "é"], text=False)
        await client.send(each([b"a", b"b"]), text=True)
        await client.send(each(["a", "b"]), text=False)
        received = [await within(server.recv()) for _ in range(6)]
        assert received == ["café", b"caf\xc3\xa9", "café", b"caf\xc3\xa9", "ab", b"ab"]


async def test_decode_argument() -> None:
    async with pair() as (client, server):
        for _ in range(3):
            await client.send("é")
            await client.send(b"b")
        assert [await server.recv(), await server.recv()] == ["é", b"b"]
        assert await server.recv(decode=False) == b"\xc3\xa9"
        assert await server.recv(decode=False) == b"b"
        assert await server.recv(decode=True) == "é"
        assert await server.recv(decode=True) == "b"


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("parts", [[b"\xff"], [b"a", b"\xff", b"b"], [b"a\xc3", b""]])
async def test_decoding_binary_that_is_not_text(parts: list[bytes], streaming: bool) -> None:
    """The application asked for text and the peer sent none: 1007, as the RFC has it."""
    async with server_of_raw_client(close_timeout=0.05) as (server, peer):
        for i, part in enumerate(parts):
            await peer.send_frame(BINARY if i == 0 else CONT, part, fin=part is parts[-1])
        await peer.send_frame(TEXT, b"next")

        async def receive() -> Any:
            if streaming:
                return [part async for part in server.recv_streaming(decode=True)]
            return await server.recv(decode=True)

        receiving = asyncio.create_task(receive())
        sent = await peer.recv_frame()
        assert sent.opcode == CLOSE
        assert sent.close[0] == 1007
        with pytest.raises(ConnectionClosedError) as raised:
            await within(receiving)
        assert raised.value.sent == Close(*sent.close)
        assert isinstance(raised.value.__cause__, UnicodeDecodeError)
        assert sent.close[1].startswith(raised.value.__cause__.reason)
        # Nobody is left receiving, and what had arrived can be received.
        rest, exc = await drain_messages(server)
        assert rest in ([], ["next"])
        assert str(exc) == str(raised.value)


async def test_decoding_binary_when_the_connection_is_closed() -> None:
    async with server_of_raw_client() as (server, peer):
        await peer.send(client_frame(BINARY, b"\xff") + client_frame(CLOSE, close_payload(1000)))
        await within(server.wait_closed())
        with pytest.raises(ConnectionClosedOK) as raised:
            await server.recv(decode=True)
        assert isinstance(raised.value.__cause__, UnicodeDecodeError)
        assert server.close_code == 1000


# Fragments

FRAGMENTED: dict[str, tuple[Any, int, list[bytes]]] = {
    "list of text": (["a", "é", "c"], TEXT, [b"a", b"\xc3\xa9", b"c"]),
    "list of bytes": ([b"a", bytearray(b"b"), memoryview(b"c")], BINARY, [b"a", b"b", b"c"]),
    "tuple": (("a", "b"), TEXT, [b"a", b"b"]),
    "single": (["a"], TEXT, [b"a"]),
    "empty fragments": (["", "a", ""], TEXT, [b"", b"a", b""]),
}


@pytest.mark.parametrize(("message", "opcode", "parts"), FRAGMENTED.values(), ids=FRAGMENTED)
@pytest.mark.parametrize("asynchronous", [False, True], ids=["iterable", "async iterable"])
async def test_fragmented_message(
    message: Any, opcode: int, parts: list[bytes], asynchronous: bool
) -> None:
    """RFC 6455 section 5.4: the first frame has the opcode, only the last has FIN."""
    async with server_of_raw_client() as (server, peer):
        await server.send(each(list(message)) if asynchronous else message)
        await server.send(b"next")
        frames = []
        while (received := await peer.recv_frame()).payload != b"next":
            frames.append(received)
        assert b"".join(f.payload for f in frames) == b"".join(parts)
        assert [f.payload for f in frames if f.payload] == [part for part in parts if part]
        assert [f.opcode for f in frames] == [opcode] + [CONT] * (len(frames) - 1)
        assert [f.fin for f in frames] == [False] * (len(frames) - 1) + [True]


async def test_fragments_from_a_generator() -> None:
    def words() -> Iterator[str]:
        yield "one "
        yield "two"

    async with pair() as (client, server):
        await client.send(words())
        assert await within(server.recv()) == "one two"


@pytest.mark.parametrize("empty", [[], (), each([])], ids=["list", "tuple", "async iterable"])
async def test_empty_iterables_send_nothing(empty: Any) -> None:
    async with pair() as (client, server):
        await client.send(empty)
        await client.send("next")
        assert await within(server.recv()) == "next"


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (None, "data must be str, bytes, iterable, or async iterable"),
        (5, "data must be str, bytes, iterable, or async iterable"),
        ({"a": "b"}, "data is a dict-like object"),
        ({}, "data is a dict-like object"),
    ],
    ids=["None", "int", "dict", "empty dict"],
)
async def test_send_refuses_other_types(message: Any, text: str) -> None:
    async with pair() as (client, server):
        with pytest.raises(TypeError) as raised:
            await client.send(message)
        assert str(raised.value) == text
        await client.send("unharmed")
        assert await within(server.recv()) == "unharmed"


async def test_first_fragment_of_another_type() -> None:
    """17.4 has the same words for an iterable; nothing was sent yet, so the connection lives."""
    async with pair() as (client, server):
        with pytest.raises((TypeError, ConnectionClosedError)):
            await client.send([5])  # type: ignore[list-item]
        if client.state is State.OPEN:
            await client.send("unharmed")
            assert await within(server.recv()) == "unharmed"


@pytest.mark.parametrize("asynchronous", [False, True], ids=["iterable", "async iterable"])
async def test_fragments_of_mixed_types(asynchronous: bool) -> None:
    """The message cannot be finished: its connection is failed with 1011."""
    async with pair() as (client, server):
        mixed: Any = ["text", b"bytes"]
        with pytest.raises((TypeError, ConnectionClosedError)) as raised:
            await client.send(each(mixed) if asynchronous else mixed)
        if isinstance(raised.value, TypeError):
            kind = "async iterable" if asynchronous else "iterable"
            assert str(raised.value) == f"{kind} must contain uniform types"
        messages, exc = await drain_messages(server)
        assert messages == []
        assert exc.rcvd == Close(1011, "error in fragmented message")


@pytest.mark.parametrize("asynchronous", [False, True], ids=["iterable", "async iterable"])
async def test_error_inside_the_iterable(asynchronous: bool) -> None:
    """The caller gets its own exception, the peer 1011."""

    def failing() -> Iterator[str]:
        yield "begun"
        raise LookupError("out of words")

    async def failing_slowly() -> AsyncIterator[str]:
        for word in failing():
            yield word

    async with pair() as (client, server):
        with pytest.raises(LookupError, match="^out of words$"):
            await client.send(failing_slowly() if asynchronous else failing())
        messages, exc = await drain_messages(server)
        assert messages == []
        assert exc.rcvd == Close(1011, "error in fragmented message")
        await within(client.wait_closed())
        assert client.state is State.CLOSED


async def test_error_before_the_first_fragment() -> None:
    """Nothing was sent: the connection goes on."""

    async def failing() -> AsyncIterator[str]:
        raise LookupError("no words")
        yield ""

    async with pair() as (client, server):
        with pytest.raises(LookupError, match="^no words$"):
            await client.send(failing())
        await client.send("unharmed")
        assert await within(server.recv()) == "unharmed"


async def test_sends_wait_for_a_fragmented_message() -> None:
    """RFC 6455 section 5.4: messages do not mix; control frames may go between."""
    async with pair() as (client, server):
        go_on = asyncio.Event()

        async def slowly() -> AsyncIterator[str]:
            yield "first, "
            await go_on.wait()
            yield "still first"

        sending = [asyncio.create_task(client.send(slowly()))]
        await turns()
        sending.append(asyncio.create_task(client.send("second")))
        await turns()
        sending.append(asyncio.create_task(client.send([b"thi", b"rd"])))
        await turns()
        await within(await client.ping())
        assert not any(task.done() for task in sending)
        go_on.set()
        await within(asyncio.gather(*sending))
        received = [await within(server.recv()) for _ in range(3)]
        assert received == ["first, still first", "second", b"third"]


async def test_close_during_a_fragmented_message() -> None:
    async with pair() as (client, server):
        go_on = asyncio.Event()

        async def slowly() -> AsyncIterator[str]:
            yield "begun"
            await go_on.wait()
            yield "never sent"

        sending = asyncio.create_task(client.send(slowly()))
        await turns()
        waiting = asyncio.create_task(client.send("second"))
        await turns()
        await within(client.close())
        go_on.set()
        for task in (sending, waiting):
            with pytest.raises(ConnectionClosed):
                await within(task)
        messages, exc = await drain_messages(server)
        assert messages == []
        assert exc.rcvd is not None
        assert exc.rcvd.code == 1011


# recv_streaming


async def test_recv_streaming() -> None:
    async with pair() as (client, server):
        await client.send(["a", "é", "c"])
        assert [part async for part in server.recv_streaming() if part] == ["a", "é", "c"]
        await client.send(["a", "é"])
        parts = [part async for part in server.recv_streaming(decode=False) if part]
        assert parts == [b"a", b"\xc3\xa9"]
        await client.send(b"whole")
        assert [part async for part in server.recv_streaming()] == [b"whole"]
        await client.send([b"caf\xc3", b"\xa9"])
        assert [part async for part in server.recv_streaming(decode=True) if part] == ["caf", "é"]
        await client.send("")
        assert [part async for part in server.recv_streaming()] == [""]


async def test_recv_streaming_splits_characters_correctly() -> None:
    """A character cut by a fragment's end comes with the fragment that completes it."""
    async with pair() as (client, server):
        encoded = "κόσμε 🎉".encode()
        await client.send([encoded[i : i + 1] for i in range(len(encoded))], text=True)
        parts = [part async for part in server.recv_streaming()]
        assert "".join(parts) == "κόσμε 🎉"
        assert all(isinstance(part, str) for part in parts)


async def test_recv_streaming_does_not_wait_for_the_end() -> None:
    async with server_of_raw_client() as (server, peer):
        stream = server.recv_streaming()
        await peer.send_frame(TEXT, b"first", fin=False)
        assert await within(anext(stream)) == "first"
        await peer.send_frame(CONT, b"second", fin=False)
        assert await within(anext(stream)) == "second"
        await peer.send_frame(CONT)
        assert [part async for part in stream if part] == []
        await peer.send_frame(TEXT, b"next")
        assert await within(server.recv()) == "next"


async def test_connection_lost_while_streaming() -> None:
    async with server_of_raw_client() as (server, peer):
        stream = server.recv_streaming()
        await peer.send_frame(TEXT, b"first", fin=False)
        assert await within(anext(stream)) == "first"
        peer.close()
        with pytest.raises(ConnectionClosedError, match="^no close frame received or sent$"):
            await within(anext(stream))


async def test_streaming_after_the_end() -> None:
    async with pair() as (client, server):
        await client.close()
        with pytest.raises(ConnectionClosedOK):
            await within(anext(server.recv_streaming()))


# Iteration


async def test_iteration_ends_with_a_normal_closure() -> None:
    async with pair() as (client, server):
        await client.send("one")
        await client.send(b"two")
        await client.close()
        assert [message async for message in server] == ["one", b"two"]
        assert [message async for message in server] == []
    async with pair() as (client, server):
        await client.close(1001)
        assert [message async for message in server] == []


async def test_iteration_raises_after_an_abnormal_closure() -> None:
    async with pair() as (client, server):
        await client.send("one")
        await client.close(1011, "trouble")
        received = []
        with pytest.raises(ConnectionClosedError) as raised:
            async for message in server:
                received.append(message)
        assert received == ["one"]
        assert str(raised.value) == (
            "received 1011 (internal error) trouble; then sent 1011 (internal error) trouble"
        )


# Concurrent calls

CANNOT = "cannot call {} while another coroutine is already running recv or recv_streaming"


async def test_only_one_may_receive() -> None:
    async with pair() as (client, server):
        receiving = asyncio.create_task(server.recv())
        await turns()
        with pytest.raises(ConcurrencyError) as raised:
            await server.recv()
        assert str(raised.value) == CANNOT.format("recv")
        with pytest.raises(ConcurrencyError) as raised:
            await anext(server.recv_streaming())
        assert str(raised.value) == CANNOT.format("recv_streaming")
        await client.send("for the first")
        assert await within(receiving) == "for the first"
        await client.send("again")
        assert await within(server.recv()) == "again"


async def test_nobody_may_receive_while_streaming() -> None:
    async with server_of_raw_client() as (server, peer):
        stream = server.recv_streaming()
        await peer.send_frame(TEXT, b"first", fin=False)
        assert await within(anext(stream)) == "first"
        with pytest.raises(ConcurrencyError) as raised:
            await server.recv()
        assert str(raised.value) == CANNOT.format("recv")
        with pytest.raises(ConcurrencyError):
            await anext(server.recv_streaming())
        await peer.send_frame(CONT, b"second")
        assert [part async for part in stream] == ["second"]


async def test_sending_and_receiving_at_once() -> None:
    async with pair() as (client, server):
        receiving = asyncio.create_task(server.recv())
        await turns()
        await within(server.send("down"))
        assert await within(client.recv()) == "down"
        await client.send("up")
        assert await within(receiving) == "up"


# Pings and pongs


async def test_ping_returns_an_awaitable_latency() -> None:
    async with pair() as (client, server):
        for ws in (client, server):
            for data in (None, b"bytes", "text", bytearray(b"array"), memoryview(b"view"), b""):
                pong = await ws.ping(data)
                latency = await within(pong)
                assert isinstance(latency, float)
                assert 0 <= latency < 10
                assert ws.latency == latency


async def test_ping_on_the_wire() -> None:
    """RFC 6455 section 5.5.2: application data is echoed; an automatic one is unique."""
    async with client_of_raw_server() as (client, peer):
        await client.ping("é")
        assert (await peer.recv_frame()).payload == b"\xc3\xa9"
        await client.ping()
        await client.ping()
        first, second = await peer.recv_frame(), await peer.recv_frame()
        assert first.opcode == second.opcode == PING
        assert first.payload != second.payload
        assert len(first.payload) == len(second.payload) == 4
        await client.pong(b"unasked")
        unasked = await peer.recv_frame()
        assert (unasked.opcode, unasked.payload, unasked.masked) == (PONG, b"unasked", True)
        await client.pong()
        assert (await peer.recv_frame()).payload == b""


async def test_pongs_answer_pings() -> None:
    """RFC 6455 section 5.5.3, also while the application receives nothing."""
    async with server_of_raw_client() as (_, peer):
        for payload in (b"", b"ping", b"x" * 125):
            await peer.send_frame(PING, payload)
            pong = await peer.recv_frame()
            assert (pong.opcode, pong.payload) == (PONG, payload)


async def test_pings_inside_a_fragmented_message() -> None:
    """RFC 6455 section 5.4: control frames may come between fragments."""
    async with server_of_raw_client() as (server, peer):
        await peer.send_frame(TEXT, b"a", fin=False)
        await peer.send_frame(PING, b"between")
        assert (await peer.recv_frame()).payload == b"between"
        await peer.send_frame(CONT, b"b")
        assert await within(server.recv()) == "ab"


async def test_a_pong_acknowledges_earlier_pings() -> None:
    """RFC 6455 section 5.5.3: a pong may answer only the most recent ping."""
    async with client_of_raw_server() as (client, peer):
        pongs = [await client.ping(str(i)) for i in range(4)]
        await peer.send_frame(PONG, b"2")
        await within(asyncio.gather(*pongs[:3]))
        assert not pongs[3].done()
        await peer.send_frame(PONG, b"3")
        assert await within(pongs[3]) >= 0


async def test_unsolicited_pongs_are_ignored() -> None:
    """RFC 6455 section 5.5.3: no response is expected to them."""
    async with client_of_raw_server() as (client, peer):
        pong = await client.ping(b"mine")
        await peer.send_frame(PONG, b"yours")
        await peer.send_frame(PONG)
        await peer.send_frame(TEXT, b"after")
        assert await within(client.recv()) == "after"
        assert not pong.done()
        await peer.send_frame(PONG, b"mine")
        await within(pong)


async def test_ping_with_the_data_of_a_pending_ping() -> None:
    async with client_of_raw_server() as (client, peer):
        pong = await client.ping("same")
        with pytest.raises(
            ConcurrencyError, match="^already waiting for a pong with the same data$"
        ):
            await client.ping(b"same")
        await peer.send_frame(PONG, b"same")
        await within(pong)
        await client.ping("same")


async def test_a_cancelled_pong_waiter_does_no_harm() -> None:
    async with client_of_raw_server() as (client, peer):
        first, second = await client.ping("1"), await client.ping("2")
        first.cancel()
        await peer.send_frame(PONG, b"1")
        await peer.send_frame(PONG, b"2")
        await within(second)
        assert client.state is State.OPEN


async def test_a_cancelled_pong_waiter_when_the_connection_is_lost() -> None:
    async with server_of_raw_client() as (server, _):
        one, two = await server.ping(), await server.ping()
        one.cancel()
        server.transport.abort()
        await within(server.wait_closed())
        assert one.cancelled()
        assert isinstance(two.exception(), ConnectionClosedError)


@pytest.mark.parametrize("method", ["ping", "pong"])
async def test_control_frames_refuse_bad_data(method: str) -> None:
    async with pair() as (client, _):
        for wrong in (["a"], 5):
            with pytest.raises(TypeError, match="^data must be str or bytes-like$"):
                await getattr(client, method)(wrong)
        with pytest.raises(ProtocolError, match="^control frame too long$"):
            await getattr(client, method)(b"x" * 126)
        assert client.state is State.OPEN


async def test_pending_pings_end_with_the_connection() -> None:
    async with client_of_raw_server() as (client, peer):
        pong = await client.ping()
        peer.close()
        with pytest.raises(ConnectionClosedError, match="^no close frame received or sent$"):
            await within(pong)


async def test_nobody_need_wait_for_a_ping() -> None:
    """A pending ping whose awaitable was dropped must not complain when the connection ends."""
    async with client_of_raw_server() as (client, peer):
        await client.ping()
        peer.close()
        await within(client.wait_closed())


# Closing


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (1000, "", ConnectionClosedOK),
        (1000, "bye", ConnectionClosedOK),
        (1001, "", ConnectionClosedOK),
        (1008, "policy", ConnectionClosedError),
        (1011, "", ConnectionClosedError),
        (3000, "registered", ConnectionClosedError),
        (4999, "é" * 61, ConnectionClosedError),
    ],
)
@pytest.mark.parametrize("side", ["client", "server"])
async def test_close_codes_and_reasons(
    code: int, reason: str, kind: type[ConnectionClosed], side: str
) -> None:
    async with pair() as (client, server):
        closer, other = (client, server) if side == "client" else (server, client)
        await within(closer.close(code, reason))
        assert closer.state is State.CLOSED
        await within(other.wait_closed())
        assert other.state is State.CLOSED
        for ws, sent_first in ((closer, True), (other, False)):
            assert ws.close_code == code
            assert ws.close_reason == reason
            with pytest.raises(ConnectionClosed) as raised:
                await within(ws.recv())
            exc = raised.value
            assert type(exc) is kind
            assert exc.rcvd == exc.sent == Close(code, reason)
            assert exc.rcvd_then_sent is not sent_first
            assert type(ws.close_exc) is kind
            assert str(ws.close_exc) == str(exc)
            words = str(Close(code, reason))
            assert str(exc) == (
                f"sent {words}; then received {words}"
                if sent_first
                else f"received {words}; then sent {words}"
            )


async def test_default_close() -> None:
    async with server_of_raw_client() as (server, peer):
        closing = asyncio.create_task(server.close())
        received = await peer.recv_frame()
        assert received.close == (CloseCode.NORMAL_CLOSURE, "")
        await peer.send_close()
        assert await within(closing) is None


async def test_close_is_idempotent() -> None:
    async with pair() as (client, server):
        await client.close(4000, "first")
        await client.close(4001, "second")
        await server.close()
        assert (client.close_code, client.close_reason) == (4000, "first")
        assert (server.close_code, server.close_reason) == (4000, "first")


async def test_close_from_both_sides_at_once() -> None:
    async with pair() as (client, server):
        await within(asyncio.gather(client.close(4001, "client"), server.close(4002, "server")))
        assert client.state is server.state is State.CLOSED
        assert client.close_code in (4001, 4002)
        assert server.close_code in (4001, 4002)


async def test_close_from_many_tasks() -> None:
    async with pair() as (client, server):
        await within(asyncio.gather(*(client.close(4000 + i) for i in range(5))))
        await within(server.wait_closed())
        assert client.close_code == 4000
        assert server.close_code == 4000


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 5000, 65535])
async def test_close_refuses_invalid_codes(code: int) -> None:
    """RFC 6455 section 7.4.1: some codes must not be sent."""
    async with pair() as (client, _):
        with pytest.raises(ProtocolError, match="^invalid status code$"):
            await client.close(code)
        assert client.state is State.OPEN


async def test_close_refuses_long_reasons() -> None:
    """RFC 6455 section 5.5: 125 bytes, two of them the code."""
    async with pair() as (client, _):
        with pytest.raises(ProtocolError, match="^control frame too long$"):
            await client.close(1000, "é" * 62)
        assert client.state is State.OPEN
        await client.close(1000, "x" * 123)
        assert client.close_reason == "x" * 123


async def test_empty_close_frame() -> None:
    """RFC 6455 section 7.1.5: no code is 1005 here, and nothing on the wire."""
    async with server_of_raw_client() as (server, peer):
        await peer.send_frame(CLOSE)
        assert (await peer.recv_frame()).close == (None, "")
        await peer.expect_eof()
        peer.close()
        await within(server.wait_closed())
        assert (server.close_code, server.close_reason) == (1005, "")
        with pytest.raises(ConnectionClosedOK) as raised:
            await server.recv()
        assert str(raised.value) == (
            "received 1005 (no status received [internal]); "
            "then sent 1005 (no status received [internal])"
        )


async def test_calls_after_the_end() -> None:
    async with pair() as (client, server):
        await client.close(4000, "over")
        await within(server.wait_closed())
        for ws in (client, server):
            for call in (ws.send("x"), ws.send(["x"]), ws.ping(), ws.pong(), ws.recv()):
                with pytest.raises(ConnectionClosedError) as raised:
                    await within(call)
                assert raised.value.rcvd == Close(4000, "over")
            await within(ws.close())
            await within(ws.wait_closed())


async def test_calls_while_closing() -> None:
    """Nothing may follow our close frame; the caller learns how the connection ended."""
    async with client_of_raw_server(close_timeout=5) as (client, peer):
        closing = asyncio.create_task(client.close(4000, "bye"))
        assert (await peer.recv_frame()).close == (4000, "bye")
        assert client.state is State.CLOSING
        assert client.close_code is None
        calls = [asyncio.create_task(call) for call in (client.send("x"), client.ping())]
        await turns()
        await peer.send_close(4000, "bye")
        peer.close()
        await within(closing)
        for call in calls:
            with pytest.raises(ConnectionClosedError) as raised:
                await within(call)
            assert str(raised.value) == (
                "sent 4000 (private use) bye; then received 4000 (private use) bye"
            )


async def test_wait_closed() -> None:
    async with pair() as (client, server):
        waiting = [asyncio.create_task(ws.wait_closed()) for ws in (client, server, server)]
        await turns()
        assert not any(task.done() for task in waiting)
        await client.close()
        assert await within(asyncio.gather(*waiting)) == [None, None, None]


async def test_pending_ping_is_answered_before_the_close() -> None:
    """RFC 6455 section 5.5.2: a ping is answered unless a close frame came first."""
    async with server_of_raw_client() as (_, peer):
        await peer.send(client_frame(PING, b"last") + client_frame(CLOSE, close_payload(1000)))
        frames = await peer.recv_frames_to_end()
        assert [f.opcode for f in frames] == [PONG, CLOSE]


# Context manager


async def test_context_manager_closes() -> None:
    async with pair() as (client, server):
        async with client as entered:
            assert entered is client
        assert client.close_code == 1000
        await within(server.wait_closed())
        async with server:
            pass


async def test_context_manager_with_an_exception() -> None:
    async with pair() as (client, server):
        with pytest.raises(LookupError):
            async with client:
                raise LookupError
        assert client.close_code == 1011
        await within(server.wait_closed())
        assert server.close_code == 1011


# Flow control and limits seen from the API


async def test_max_size_of_messages() -> None:
    async with server_of_raw_client(max_size=10) as (server, peer):
        await peer.send_frame(BINARY, b"x" * 10)
        assert await within(server.recv()) == b"x" * 10
        await peer.send(client_frame(BINARY, b"x" * 6, fin=False) + client_frame(CONT, b"x" * 5))
        assert (await peer.recv_frame()).close == (
            1009,
            "frame with 5 bytes after reading 6 bytes exceeds limit of 10 bytes",
        )


async def test_max_size_none() -> None:
    async with pair(server={"max_size": None}) as (client, server):
        big = b"0123456789" * 300_000
        sending = asyncio.create_task(client.send(big))
        assert await within(server.recv()) == big
        await within(sending)


async def test_max_size_of_fragments() -> None:
    """A pair limits messages and fragments apart."""
    async with server_of_raw_client(max_size=(None, 4)) as (server, peer):
        await peer.send(client_frame(BINARY, b"abcd", fin=False) + client_frame(CONT, b"efgh"))
        assert await within(server.recv()) == b"abcdefgh"
        await peer.send_frame(BINARY, b"abcde")
        assert (await peer.recv_frame()).close[0] == 1009


async def test_many_fragments() -> None:
    """RFC 6455 section 5.4 sets no limit: 65536 fragments are one message."""
    async with server_of_raw_client(max_size=None) as (server, peer):
        receiving = asyncio.create_task(server.recv())
        await peer.send(client_frame(BINARY, b"a", fin=False))
        chunk = b"".join(frame(CONT, b"a", fin=False, mask=b"\0\0\0\0") for _ in range(1024))
        for _ in range(63):
            await peer.send(chunk)
        await peer.send(chunk[:-7] + client_frame(CONT, b"z"))
        message = await within(receiving)
        assert message == b"a" * 65536 + b"z"


async def test_write_limits_reach_the_transport() -> None:
    async with pair(client={"write_limit": (4096, 1024)}, server={"write_limit": 8192}) as (
        client,
        server,
    ):
        assert client.transport.get_write_buffer_limits() == (1024, 4096)  # type: ignore[attr-defined]
        assert server.transport.get_write_buffer_limits()[1] == 8192  # type: ignore[attr-defined]


# Order


async def test_messages_keep_their_order() -> None:
    async with pair() as (client, server):

        async def receive() -> list[object]:
            return [await server.recv() for _ in range(500)]

        receiving = asyncio.create_task(receive())
        for i in range(500):
            await client.send(str(i))
        assert await within(receiving) == [str(i) for i in range(500)]


async def test_tasks_keep_their_order() -> None:
    """Senders that wait are served first come, first served."""
    async with pair() as (client, server):
        async with asyncio.TaskGroup() as group:
            for i in range(300):
                group.create_task(client.send(str(i).rjust(1000)))

            async def receive() -> list[int]:
                return [int(await server.recv()) for _ in range(300)]

            receiving = group.create_task(receive())
        assert receiving.result() == list(range(300))


@pytest.mark.parametrize(
    "kwargs", [{"message": bytearray(2**22)}, {"message": b"x" * 2**22, "text": True}], ids=str
)
async def test_send_waits_for_what_it_wrote_itself(kwargs: dict[str, Any]) -> None:
    """The write buffer is above its limit with this message: `send` returns when it is not."""
    async with server_of_raw_client(small_buffers=True) as (server, peer):
        sending = asyncio.create_task(server.send(**kwargs))
        assert await stalled(sending, server.transport.get_write_buffer_size)
        received = await within(peer.recv_frame())
        assert received.payload == bytes(kwargs["message"])
        await within(sending)


async def test_sender_blocked_by_a_slow_peer_goes_on() -> None:
    async with server_of_raw_client(small_buffers=True) as (server, peer):
        sent = []

        async def flood() -> None:
            for i in range(400):
                await server.send(i.to_bytes(2, "big") * 8192)
                sent.append(i)

        flooding = asyncio.create_task(flood())
        assert await stalled(flooding, lambda: len(sent))
        for i in range(400):
            received = await peer.recv_frame()
            assert received.payload == i.to_bytes(2, "big") * 8192
        await within(flooding)


# Debug logging


async def test_debug_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "websockets")
    async with pair() as (client, server):
        await client.send("hello")
        assert await within(server.recv()) == "hello"
    lines = {(r.name, r.getMessage()) for r in caplog.records if r.name.startswith("websockets.")}
    assert ("websockets.client", "= connection is CONNECTING") in lines
    assert ("websockets.client", "> GET / HTTP/1.1") in lines
    assert ("websockets.server", "< GET / HTTP/1.1") in lines
    assert ("websockets.server", "= connection is OPEN") in lines
    assert ("websockets.client", "> TEXT 'hello' [5 bytes]") in lines
    assert ("websockets.server", "< TEXT 'hello' [5 bytes]") in lines
    assert ("websockets.client", "> CLOSE 1000 (OK) [2 bytes]") in lines
    assert ("websockets.server", "< CLOSE 1000 (OK) [2 bytes]") in lines
    assert ("websockets.client", "= connection is CLOSED") in lines
    assert ("websockets.server", "= connection is CLOSED") in lines


async def test_own_logger(caplog: pytest.LogCaptureFixture) -> None:
    own = logging.getLogger("tests.own")
    caplog.set_level(logging.DEBUG, "tests.own")
    async with pair(client={"logger": own}, server={"logger": own}) as (client, server):
        assert client.logger.logger is own  # type: ignore[union-attr]
        assert server.logger.logger is own  # type: ignore[union-attr]
        await client.send("hello")
        await within(server.recv())
    tagged = [vars(r).get("websocket") for r in caplog.records if r.name == "tests.own"]
    assert client in tagged
    assert server in tagged


# Sockets


async def test_debug_log_of_the_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "websockets.server")
    async with server_of_raw_client() as (server, peer):
        caplog.clear()
        await peer.send_close(1000)
        await within(server.wait_closed())
        assert caplog.messages[:5] == [
            "< CLOSE 1000 (OK) [2 bytes]",
            "> CLOSE 1000 (OK) [2 bytes]",
            "= connection is CLOSING",
            "> EOF",
            "x half-closing TCP connection",
        ]
        assert "= connection is CLOSED" in caplog.messages
        assert caplog.messages.count("x half-closing TCP connection") == 1


@pytest.mark.parametrize("cut", [0, 1, 3])
async def test_debug_log_of_a_stream_that_ends(cut: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "websockets.server")
    async with server_of_raw_client() as (server, peer):
        caplog.clear()
        await peer.send(client_frame(TEXT, b"message")[:cut])
        peer.send_eof()
        await within(server.wait_closed())
        assert ("< EOF" in caplog.messages) is (cut == 0)
        assert "x half-closing TCP connection" in caplog.messages


async def test_nagle_is_off() -> None:
    async with pair() as (client, server):
        for ws in (client, server):
            sock = ws.transport.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_abort_from_outside() -> None:
    """Applications may abort `ws.transport`."""
    async with pair() as (client, server):
        client.transport.abort()
        with pytest.raises(ConnectionClosedError, match="^no close frame received or sent$"):
            await within(client.recv())
        with pytest.raises(ConnectionClosedError):
            await within(server.recv())
        await until(lambda: server.state is State.CLOSED)


# Endings


@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("then", ["close", "wait_closed", "send", "recv"])
async def test_failed_through_the_protocol(side: str, then: str) -> None:
    """The protocol is the application's, too; it does not write by itself."""
    connect = client_of_raw_server if side == "client" else server_of_raw_client
    async with connect(close_timeout=0.05) as (ws, peer):  # type: ignore[operator]
        ws.protocol.fail(4000, "enough")
        assert ws.state is State.CLOSING
        if then == "recv":
            # It takes some event to notice.
            await peer.send_frame(TEXT, b"unwanted")
        arguments = ["message"] if then == "send" else []
        calling = asyncio.create_task(getattr(ws, then)(*arguments))
        assert (await peer.recv_frame()).close == (4000, "enough")
        if then in ("send", "recv"):
            with pytest.raises(ConnectionClosedError) as raised:
                await within(calling)
            assert raised.value.sent == Close(4000, "enough")
        else:
            await within(calling)
        assert ws.state is State.CLOSED


async def test_failed_through_the_protocol_without_buffers() -> None:
    """Whatever a transport hands over is an event that notices."""
    async with server_of_raw_client(close_timeout=0.05) as (server, peer):
        server.protocol.fail(4000, "enough")
        server.data_received(client_frame(TEXT, b"unwanted"))
        assert (await peer.recv_frame()).close == (4000, "enough")
        server.data_received(client_frame(TEXT, b"unwanted"))
        await within(server.wait_closed())


@pytest.mark.parametrize("then", ["close", "wait_closed", "send", "ping", "timer"])
async def test_a_server_that_is_failed_without_a_close_frame(then: str) -> None:
    """Code 1006 sends none: the stream ends, and the client may stay."""
    async with server_of_raw_client(close_timeout=0.05, ping_interval=1000) as (server, peer):
        server.protocol.fail(1006)
        if then == "timer":
            assert server._ws_session.keepalive.deadline is not None
            server._ws_session.keepalive.deadline = 0
            server._ws_on_timer()
            assert server._ws_session.keepalive.deadline is None
        elif then in ("send", "ping"):
            with pytest.raises(ConnectionClosedError):
                await within(getattr(server, then)("message"))
        else:
            await within(getattr(server, then)())
        await peer.expect_eof()
        await within(server.wait_closed())
        assert str(server.close_exc) == "no close frame received or sent"
        assert str(server.close_exc.__cause__) == "timed out while closing connection"


@pytest.mark.parametrize("size", [10, 100_000])
async def test_the_application_has_ended_the_stream(size: int) -> None:
    async with server_of_raw_client() as (server, peer):
        server.transport.write_eof()  # type: ignore[attr-defined]
        await peer.expect_eof()
        with contextlib.suppress(ConnectionClosed):
            await within(server.send("x" * size))
        with pytest.raises(ConnectionClosedError) as raised:
            await within(server.recv())
        assert isinstance(raised.value.__cause__, RuntimeError)


async def test_write_replaced(on_uvloop: bool) -> None:
    """As a test does that wants a peer to hear nothing."""
    async with server_of_raw_client() as (server, peer):
        written: list[bytes] = []
        try:
            server.transport.write = written.append  # type: ignore[method-assign]
        except AttributeError:
            assert on_uvloop
            return
        await server.send("x")
        await server.ping(b"p")
        await server.send(b"y" * 70_000)
        await turns()
        assert b"".join(written)[:6] == frame(TEXT, b"x") + frame(PING, b"p")[:3]
        assert len(b"".join(written)) == 3 + 3 + 10 + 70_000
        assert await peer.is_open_for(0.01)


async def test_an_error_while_reading_on(loop_errors: list[dict[str, Any]]) -> None:
    """What goes wrong in the library itself ends the connection, and the event loop is told."""
    async with server_of_raw_client(max_queue=1) as (server, peer):
        await peer.send(b"".join(client_frame(TEXT, b"%d" % i) for i in range(4)))
        await peer.send_frame(PING, b"answered by a broken connection")
        await until(lambda: server._ws_session.stopped)
        failure = RuntimeError("broken")

        def act() -> None:
            del server._ws_act
            raise failure

        server._ws_act = act  # type: ignore[method-assign]
        with pytest.raises(ConnectionClosedError) as raised:
            while True:
                await within(server.recv())
                await turns(3)
        assert raised.value.__cause__ is failure
        assert [context["exception"] for context in loop_errors] == [failure]
        loop_errors.clear()


async def test_nothing_behind_bad_text_is_delivered() -> None:
    """RFC 6455 section 8.1; what follows may have been made to look like frames."""
    key = b"\x11\x22\x33\x44"
    async with server_of_raw_client() as (server, peer):
        await peer.send(
            client_frame(TEXT, b"good")
            + frame(TEXT, b"\xff" * 12, mask=key)
            + masking(b"not a frame!", key)
            + client_frame(TEXT, b"and on it goes")
        )
        messages, exc = await drain_messages(server)
        assert messages == ["good"]
        assert exc.sent is not None
        assert exc.sent.code == 1007
        assert (await peer.recv_frame()).close[0] == 1007


@pytest.mark.parametrize("ping_interval", [None, 0.02])
async def test_a_peer_that_ends_its_stream_and_does_not_read(ping_interval: float | None) -> None:
    """What it does not take must not hold the connection for longer than `close_timeout`."""
    async with server_of_raw_client(
        small_buffers=True, close_timeout=0.1, ping_interval=ping_interval, ping_timeout=None
    ) as (server, peer):
        sent = 0

        async def flood() -> None:
            nonlocal sent
            while True:
                await server.send(b"x" * 100_000)
                sent += 1

        flooding = asyncio.create_task(flood())
        receiving = asyncio.create_task(server.recv())
        assert await stalled(flooding, lambda: sent)
        peer.send_eof()
        with pytest.raises(ConnectionClosedError):
            await within(flooding, 3)
        with pytest.raises(ConnectionClosedError):
            await within(receiving, 3)
        await within(server.close(), 3)
        await within(server.wait_closed(), 3)


async def test_messages_after_close_have_no_hole() -> None:
    """Those that do not fit are dropped, and then all that follow, even where there is room."""
    async with server_of_raw_client(max_queue=2, close_timeout=5) as (server, peer):
        await peer.send(client_frame(TEXT, b"0") + client_frame(PING) + client_frame(TEXT, b"1"))
        assert (await peer.recv_frame()).opcode == PONG
        closing = asyncio.create_task(server.close())
        assert (await peer.recv_frame()).opcode == CLOSE
        await peer.send(client_frame(TEXT, b"2") + client_frame(TEXT, b"3"))
        await asyncio.sleep(0.05)
        assert await within(server.recv()) == "0"
        await peer.send(client_frame(TEXT, b"4"))
        await asyncio.sleep(0.05)
        await peer.send_close()
        peer.send_eof()
        messages, exc = await drain_messages(server)
        assert messages == ["1"]
        assert isinstance(exc, ConnectionClosedOK)
        await within(closing)


async def test_a_message_that_is_being_received_stays_whole_after_close() -> None:
    async with server_of_raw_client(max_queue=2, close_timeout=5) as (server, peer):
        stream = server.recv_streaming()
        await peer.send_frame(TEXT, b"a", fin=False)
        received = [await within(anext(stream))]
        closing = asyncio.create_task(server.close())
        assert (await peer.recv_frame()).opcode == CLOSE
        fragments = [client_frame(CONT, b"%d" % i, fin=False) for i in range(10)]
        await peer.send(b"".join(fragments) + client_frame(CONT, b"!"))
        await peer.send_close()
        peer.send_eof()
        async for fragment in stream:
            received.append(fragment)
        assert "".join(str(fragment) for fragment in received) == "a0123456789!"
        await within(closing)


async def test_send_behind_a_message_that_will_never_end() -> None:
    """It waits for another task's fragments: the end of the connection ends the waiting."""
    async with client_of_raw_server() as (client, peer):

        async def stuck() -> AsyncIterator[str]:
            yield "begun"
            await asyncio.Event().wait()

        fragmenting = asyncio.create_task(client.send(stuck()))
        assert (await peer.recv_frame()).payload == b"begun"
        waiting = asyncio.create_task(client.send("behind"))
        await turns()
        assert not waiting.done()
        peer.close()
        with pytest.raises(ConnectionClosedError):
            await within(waiting, 5)
        fragmenting.cancel()
        await asyncio.wait([fragmenting])


# Large messages


class Vectors:
    """What is written with `os.writev`, which may refuse or take less than all."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, most: int | None = None) -> None:
        self.sizes: list[list[int]] = []
        writev = os.writev

        def spy(fd: int, chunks: list[bytes]) -> int:
            self.sizes.append([len(chunk) for chunk in chunks])
            if most is None:
                return writev(fd, chunks)
            if most == 0:
                raise BlockingIOError
            return os.write(fd, b"".join(chunks)[:most])

        monkeypatch.setattr(os, "writev", spy)


@pytest.mark.parametrize("most", [None, 0, 5, 10, 15, 100_000])
async def test_a_header_leaves_with_its_payload(
    most: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One write, one packet, without a copy; the rest goes where the transport keeps it."""
    vectors = Vectors(monkeypatch, most)
    payload = os.urandom(300_000)
    async with server_of_raw_client() as (server, peer):
        sending = asyncio.create_task(server.send(payload))
        received = await peer.recv_frame()
        assert received.payload == payload
        await within(sending)
        await server.send("after")
        assert (await peer.recv_frame()).payload == b"after"
    assert vectors.sizes == ([[10, 300_000]] if DIRECT else [])
