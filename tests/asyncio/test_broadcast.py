"""One message to many connections. What is expected was recorded from the released websockets."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from websockets.asyncio import broadcast as module
from websockets.asyncio.broadcast import broadcast
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConcurrencyError
from websockets.protocol import State

from ..helpers import (
    BINARY,
    CLOSE,
    CONT,
    TEXT,
    RawPeer,
    client_frame,
    client_of_raw_server,
    close_payload,
    connecting,
    idle,
    noise,
    pair,
    raw_client,
    server_of_raw_client,
    serving,
    stalled,
    turns,
    until,
    within,
)


@contextlib.asynccontextmanager
async def crowd(
    size: int, **kwargs: Any
) -> AsyncIterator[tuple[list[ServerConnection], list[RawPeer]]]:
    """Server connections, and their raw clients in the same order."""
    connections: list[ServerConnection] = []

    async def handler(ws: ServerConnection) -> None:
        connections.append(ws)
        await idle(ws)

    kwargs.setdefault("close_timeout", 0.2)
    async with serving(handler, **kwargs) as server, contextlib.AsyncExitStack() as stack:
        peers = []
        for i in range(size):
            peers.append(await stack.enter_async_context(raw_client(server)))
            await until(lambda i=i: len(connections) == i + 1)
        yield connections, peers


class Broken:
    """An extension that cannot encode: what is written through it fails."""

    def __init__(self, exc: BaseException) -> None:
        self.exc = exc

    def encode(self, frame: Any) -> Any:
        raise self.exc


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, Any]]:
    return [
        (record.name, record.getMessage(), record.websocket)  # type: ignore[attr-defined]
        for record in caplog.records
        if record.levelno == logging.WARNING and record.exc_info is None
    ]


# Arguments


def test_signature() -> None:
    assert not inspect.iscoroutinefunction(broadcast)
    assert [
        (parameter.name, parameter.kind.name, parameter.default)
        for parameter in inspect.signature(broadcast).parameters.values()
    ] == [
        ("connections", "POSITIONAL_OR_KEYWORD", inspect.Parameter.empty),
        ("message", "POSITIONAL_OR_KEYWORD", inspect.Parameter.empty),
        ("text", "KEYWORD_ONLY", None),
        ("raise_exceptions", "KEYWORD_ONLY", False),
        ("compress", "KEYWORD_ONLY", None),
    ]


@pytest.mark.parametrize("message", [None, 1, ["a"], ("a",), {"a": 1}, {"a"}, iter("a")])
@pytest.mark.parametrize("raise_exceptions", [False, True])
async def test_unsupported_messages(message: Any, raise_exceptions: bool) -> None:
    """Also without anybody to send to."""
    async with crowd(1) as (connections, peers):
        for recipients in ([], connections):
            with pytest.raises(TypeError, match="^data must be str or bytes$"):
                broadcast(recipients, message, raise_exceptions=raise_exceptions)
        broadcast(connections, "sound")
        assert (await peers[0].recv_frame()).payload == b"sound"


async def test_text_that_is_no_unicode() -> None:
    async with crowd(1) as (connections, peers):
        for recipients in ([], connections):
            with pytest.raises(UnicodeEncodeError, match="surrogates not allowed"):
                broadcast(recipients, "\ud800")
        broadcast(connections, "sound")
        assert (await peers[0].recv_frame()).payload == b"sound"


async def test_connections_must_be_iterable() -> None:
    async with crowd(1) as (connections, _):
        connection: Any = connections[0]
        with pytest.raises(TypeError, match="'ServerConnection' object is not iterable"):
            broadcast(connection, "x")
        not_connections: Any = [object()]
        with pytest.raises(AttributeError):
            broadcast(not_connections, "x")


class Text(str):
    pass


class Bytes(bytes):
    pass


MESSAGES: list[tuple[Any, bool | None, int, bytes]] = [
    ("text", None, TEXT, b"text"),
    ("text", True, TEXT, b"text"),
    ("text", False, BINARY, b"text"),
    (b"binary", None, BINARY, b"binary"),
    (b"binary", True, TEXT, b"binary"),
    (b"binary", False, BINARY, b"binary"),
    ("h\xe9t\xe9", None, TEXT, b"h\xc3\xa9t\xc3\xa9"),
    ("h\xe9t\xe9", False, BINARY, b"h\xc3\xa9t\xc3\xa9"),
    (b"\xff", None, BINARY, b"\xff"),
    (bytearray(b"array"), None, BINARY, b"array"),
    (bytearray(b"array"), True, TEXT, b"array"),
    (memoryview(b"view"), None, BINARY, b"view"),
    (memoryview(b"view"), True, TEXT, b"view"),
    (memoryview(bytearray(8)).cast("I"), None, BINARY, bytes(8)),
    (memoryview(b"v_i_e_w_")[::2], None, BINARY, b"view"),
    (Text("text"), None, TEXT, b"text"),
    (Bytes(b"binary"), None, BINARY, b"binary"),
    ("", None, TEXT, b""),
    (b"", None, BINARY, b""),
    ("x" * 125, None, TEXT, b"x" * 125),
    ("x" * 126, None, TEXT, b"x" * 126),
    (b"x" * 65535, None, BINARY, b"x" * 65535),
    (b"x" * 65536, None, BINARY, b"x" * 65536),
    ("x" * 70_000, False, BINARY, b"x" * 70_000),
    (bytearray(70_000), True, TEXT, bytes(70_000)),
]


async def test_messages_on_the_wire() -> None:
    async with crowd(2) as (connections, peers):
        for message, text, opcode, payload in MESSAGES:
            broadcast(connections, message, text=text)
            for peer in peers:
                received = await peer.recv_frame()
                assert (received.opcode, received.payload) == (opcode, payload)
                assert received.fin
                assert not received.masked


async def test_messages_to_the_library_itself() -> None:
    async with pair() as (client, server):
        for message, text, opcode, payload in MESSAGES:
            broadcast([server], message, text=text)
            expected = payload.decode() if opcode == TEXT else payload
            assert await within(client.recv()) == expected


@pytest.mark.parametrize("kind", [list, tuple, set, frozenset, iter, dict.fromkeys])
async def test_kinds_of_iterables(kind: Any) -> None:
    async with crowd(3) as (connections, peers):
        broadcast(kind(connections), "x")
        broadcast((connection for connection in connections), "y")
        for peer in peers:
            assert (await peer.recv_frame()).payload == b"x"
            assert (await peer.recv_frame()).payload == b"y"


@pytest.mark.parametrize("raise_exceptions", [False, True])
def test_nobody_to_send_to(raise_exceptions: bool) -> None:
    """Nor an event loop."""
    for nobody in ([], set(), iter(())):
        broadcast(nobody, "x", raise_exceptions=raise_exceptions)


async def test_twice_to_the_same() -> None:
    async with crowd(1) as (connections, peers):
        broadcast(connections * 2, "x")
        assert [(await peers[0].recv_frame()).payload for _ in range(2)] == [b"x", b"x"]


async def test_an_iterable_that_raises() -> None:
    """Its exception comes out; those before it were sent to."""
    async with crowd(2) as (connections, peers):

        def recipients() -> Iterator[ServerConnection]:
            yield connections[0]
            raise LookupError

        with pytest.raises(LookupError):
            broadcast(recipients(), "x", raise_exceptions=True)
        broadcast(connections, "y")
        assert (await peers[0].recv_frame()).payload == b"x"
        assert (await peers[0].recv_frame()).payload == b"y"
        assert (await peers[1].recv_frame()).payload == b"y"


# Clients


async def test_clients_mask() -> None:
    """RFC 6455 section 5.3: every frame with a key of its own, also those of one broadcast."""
    async with client_of_raw_server() as (one, peer), client_of_raw_server() as (other, rival):
        wires = []
        for _ in range(2):
            broadcast([one, other], b"\0" * 16)
            wires += [await peer.read(6 + 16), await rival.read(6 + 16)]
        assert {wire[:2] for wire in wires} == {b"\x82\x90"}
        # What is masked is zeros: the payload on the wire is the key, four times.
        for wire in wires:
            assert wire[6:] == wire[2:6] * 4
        assert len({wire[2:6] for wire in wires}) == 4
        broadcast([one, other], "x" * 70_000)
        for receiver in (peer, rival):
            received = await receiver.recv_frame()
            assert (received.opcode, received.payload) == (TEXT, b"x" * 70_000)
            assert received.masked


async def test_clients_and_servers_together() -> None:
    async with pair() as (client, server):
        broadcast([client, server, client], "x")
        assert await within(client.recv()) == "x"
        assert await within(server.recv()) == "x"
        assert await within(server.recv()) == "x"


async def test_servers_share_one_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = []
    encode_frame = module.encode_frame

    def counting(*args: Any) -> bytes:
        encoded.append(args)
        return encode_frame(*args)

    async with crowd(5) as (connections, peers):
        monkeypatch.setattr(module, "encode_frame", counting)
        broadcast(connections, "x")
        assert len(encoded) == 1
        for peer in peers:
            assert (await peer.recv_frame()).payload == b"x"


# Who is skipped


@pytest.mark.parametrize("raise_exceptions", [False, True])
async def test_connections_that_are_not_open(
    raise_exceptions: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Closing, closed or aborted: it is no error, and not worth a line in the log."""
    async with crowd(4, close_timeout=0.05) as (connections, peers):
        closing = asyncio.create_task(connections[0].close())
        await turns(2)
        assert connections[0].state is State.CLOSING
        await peers[1].send_close()
        peers[1].send_eof()
        await within(connections[1].wait_closed())
        assert connections[1].state is State.CLOSED
        connections[2].transport.abort()
        assert connections[2].state is State.OPEN
        broadcast(connections, "x", raise_exceptions=raise_exceptions)
        broadcast(connections, "x" * 70_000, raise_exceptions=raise_exceptions)
        assert (await peers[3].recv_frame()).payload == b"x"
        assert (await peers[3].recv_frame()).payload == b"x" * 70_000
        assert (await peers[0].recv_frame()).close == (1000, "")
        assert (await peers[1].recv_frame()).close == (1000, "")
        for peer in peers[:3]:
            assert await peer.read_to_end() == b""
        await within(closing)
        broadcast(connections[:3], "x", raise_exceptions=raise_exceptions)
    assert noise(caplog) == []


async def fragments(go_on: asyncio.Event) -> AsyncIterator[str]:
    yield "a"
    await go_on.wait()
    yield "b"


async def test_connections_in_the_middle_of_a_message(caplog: pytest.LogCaptureFixture) -> None:
    """RFC 6455 section 5.4: fragments of one message must not be interleaved with another."""
    async with crowd(2) as (connections, peers):
        go_on = asyncio.Event()
        sending = asyncio.create_task(connections[0].send(fragments(go_on)))
        assert (await peers[0].recv_frame()).payload == b"a"
        broadcast(connections, "one")
        broadcast(connections, "x" * 70_000)
        assert (
            warnings_of(caplog)
            == [
                (
                    "websockets.server",
                    "skipped broadcast: sending a fragmented message",
                    connections[0],
                )
            ]
            * 2
        )
        caplog.clear()
        with pytest.raises(ExceptionGroup) as group:
            broadcast(connections, "two", raise_exceptions=True)
        assert str(group.value) == "skipped broadcast (1 sub-exception)"
        (exc,) = group.value.exceptions
        assert type(exc) is ConcurrencyError
        assert str(exc) == "sending a fragmented message"
        assert exc.__cause__ is None
        assert warnings_of(caplog) == []
        go_on.set()
        await within(sending)
        broadcast(connections, "three")
        received = [await peers[0].recv_frame() for _ in range(3)]
        assert [(f.opcode, f.payload, f.fin) for f in received] == [
            (CONT, b"b", False),
            (CONT, b"", True),
            (TEXT, b"three", True),
        ]
        payloads = [(await peers[1].recv_frame()).payload for _ in range(4)]
        assert payloads == [b"one", b"x" * 70_000, b"two", b"three"]


@pytest.mark.parametrize(
    ("cause", "text"),
    [
        (RuntimeError("trouble"), "RuntimeError: trouble"),
        (ValueError(), "ValueError"),
        (OSError(28, "No space"), "OSError: [Errno 28] No space"),
    ],
)
async def test_connections_that_cannot_be_written_to(
    cause: Exception, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The others have their message all the same."""
    async with crowd(3) as (connections, peers):
        broken: Any = Broken(cause)
        connections[1].protocol.extensions = [broken]
        broadcast(connections, "one")
        assert warnings_of(caplog) == [
            (
                "websockets.server",
                f"skipped broadcast: failed to write message: {text}",
                connections[1],
            )
        ]
        caplog.clear()
        with pytest.raises(ExceptionGroup) as group:
            broadcast(connections, "two", raise_exceptions=True)
        assert str(group.value) == "skipped broadcast (1 sub-exception)"
        (exc,) = group.value.exceptions
        assert type(exc) is RuntimeError
        assert str(exc) == "failed to write message"
        assert exc.__cause__ is cause
        assert warnings_of(caplog) == []
        connections[1].protocol.extensions = []
        broadcast(connections, "three")
        assert (await peers[1].recv_frame()).payload == b"three"
        for peer in (peers[0], peers[2]):
            received = [(await peer.recv_frame()).payload for _ in range(3)]
            assert received == [b"one", b"two", b"three"]


async def test_all_reasons_in_one_group() -> None:
    """In the order of the connections."""
    async with crowd(3) as (connections, peers):
        go_on = asyncio.Event()
        broken: Any = Broken(LookupError())
        connections[0].protocol.extensions = [broken]
        sending = asyncio.create_task(connections[2].send(fragments(go_on)))
        assert (await peers[2].recv_frame()).payload == b"a"
        with pytest.raises(ExceptionGroup) as group:
            broadcast(connections, "x", raise_exceptions=True)
        assert str(group.value) == "skipped broadcast (2 sub-exceptions)"
        reasons = [str(exc) for exc in group.value.exceptions]
        assert reasons == ["failed to write message", "sending a fragmented message"]
        assert (await peers[1].recv_frame()).payload == b"x"
        connections[0].protocol.extensions = []
        go_on.set()
        await within(sending)


async def test_what_is_no_exception_of_the_connection() -> None:
    async with crowd(1) as (connections, _):
        broken: Any = Broken(KeyboardInterrupt())
        connections[0].protocol.extensions = [broken]
        with pytest.raises(KeyboardInterrupt):
            broadcast(connections, "x")
        connections[0].protocol.extensions = []


async def test_debug_log(caplog: pytest.LogCaptureFixture) -> None:
    """One line for each connection, as of its other frames."""
    logger = logging.getLogger("tests.broadcast")
    caplog.set_level(logging.DEBUG, "tests.broadcast")
    async with crowd(2, logger=logger) as (connections, peers):
        caplog.clear()
        broadcast(connections, "hello")
        broadcast(connections, b"\x00\xff")
        assert [(r.getMessage(), r.websocket) for r in caplog.records] == [  # type: ignore[attr-defined]
            ("> TEXT 'hello' [5 bytes]", connections[0]),
            ("> TEXT 'hello' [5 bytes]", connections[1]),
            ("> BINARY 00 ff [2 bytes]", connections[0]),
            ("> BINARY 00 ff [2 bytes]", connections[1]),
        ]
        for peer in peers:
            assert (await peer.recv_frame()).payload == b"hello"
            assert (await peer.recv_frame()).payload == b"\x00\xff"


# Order


async def test_order_outside_of_a_delivery() -> None:
    """The first frame of a turn leaves at once, the others are held back: none overtakes."""
    async with crowd(3) as (connections, peers):
        for i in range(3):
            ws = connections[i]
            await ws.send("first")
            broadcast(connections, "second")
            await ws.ping(b"third")
            broadcast(connections, b"x" * 100_000)
            await ws.send(["fifth ", "and sixth"])
            broadcast(connections, "seventh")
            broadcast(connections, "y" * 30_000)
            broadcast(connections, "z" * 30_000)
            await ws.send(b"tenth")
            expected = [b"second", b"x" * 100_000, b"seventh", b"y" * 30_000, b"z" * 30_000]
            for j in range(3):
                if i == j:
                    expected_here = [
                        b"first",
                        b"second",
                        b"third",
                        b"x" * 100_000,
                        b"fifth ",
                        b"and sixth",
                        b"",
                        *expected[2:],
                        b"tenth",
                    ]
                else:
                    expected_here = expected
                received = [(await peers[j].recv_frame()).payload for _ in expected_here]
                assert received == expected_here


async def test_order_within_a_delivery() -> None:
    """What the handler's own connection holds back leaves in order, broadcasts among it."""
    members: list[ServerConnection] = []

    async def handler(ws: ServerConnection) -> None:
        members.append(ws)
        async for message in ws:
            await ws.send(f"{message} a")
            broadcast(members, f"{message} b")
            await ws.send(f"{message} c")
            broadcast(members, f"{message} d".encode() + bytes(70_000))
            await ws.ping(f"{message} e".encode())
            broadcast(members, f"{message} f")

    async with (
        serving(handler) as server,
        raw_client(server) as peer,
        raw_client(server) as bystander,
    ):
        await until(lambda: len(members) == 2)
        await peer.send(b"".join(client_frame(TEXT, str(i).encode()) for i in range(20)))
        for i in range(20):
            received = [(await peer.recv_frame()).payload.rstrip(b"\0") for _ in range(6)]
            assert received == [f"{i} {letter}".encode() for letter in "abcdef"]
            received = [(await bystander.recv_frame()).payload.rstrip(b"\0") for _ in range(3)]
            assert received == [f"{i} {letter}".encode() for letter in "bdf"]
        for leaving in (peer, bystander):
            await leaving.send_close()
            assert (await leaving.recv_frame()).opcode == CLOSE


async def test_a_chat() -> None:
    """Handlers that broadcast to each other's connections, all at the same time."""
    members: set[ServerConnection] = set()

    async def handler(ws: ServerConnection) -> None:
        members.add(ws)
        try:
            async for message in ws:
                broadcast(members, message)
        finally:
            members.discard(ws)

    async with serving(handler) as server:
        clients = [await connecting(server, max_queue=None) for _ in range(10)]
        await until(lambda: len(members) == 10)
        for i in range(20):
            await asyncio.gather(*(ws.send(f"{n} {i}") for n, ws in enumerate(clients)))
        for client in clients:
            seen: dict[str, list[int]] = {}
            for _ in range(200):
                message = await within(client.recv())
                assert isinstance(message, str)
                who, i = message.split()
                seen.setdefault(who, []).append(int(i))
            # In the order of each speaker.
            assert seen == {str(n): list(range(20)) for n in range(10)}
        await asyncio.gather(*(client.close() for client in clients))


async def test_broadcast_then_close() -> None:
    """What was broadcast leaves before the close frame."""
    async with crowd(2) as (connections, peers):
        for i in range(10):
            broadcast(connections, str(i))
        closing = [asyncio.create_task(connection.close(4000)) for connection in connections]
        for peer in peers:
            received = [await peer.recv_frame() for _ in range(11)]
            assert [f.payload for f in received[:10]] == [str(i).encode() for i in range(10)]
            assert received[10].close == (4000, "")
            await peer.send_close(4000)
            peer.send_eof()
        await within(asyncio.gather(*closing))


async def test_what_is_held_back_does_not_change() -> None:
    async with crowd(1) as (connections, peers):
        message = bytearray(b"before")
        large = bytearray(b"before" * 20_000)
        broadcast(connections, "opens the turn")
        for data in (message, large):
            broadcast(connections, data)
            broadcast(connections, memoryview(data))
            data[:6] = b"after!"
        await peers[0].recv_frame()
        for payload in (b"before", b"before" * 20_000):
            for _ in range(2):
                assert (await peers[0].recv_frame()).payload == payload


# Peers that do not read, or leave


async def test_slow_peers_are_not_waited_for() -> None:
    """Their buffer grows; what they read in the end is whole and in order; `send()` waits."""
    async with (
        server_of_raw_client(small_buffers=True) as (slow, peer),
        crowd(1) as (others, readers),
    ):
        count = 100
        for i in range(count):
            broadcast([slow, *others], i.to_bytes(4, "big") * 5_000)
            assert (await readers[0].recv_frame()).payload == i.to_bytes(4, "big") * 5_000
        await turns()
        assert slow.transport.get_write_buffer_size() > 1_000_000
        assert others[0].transport.get_write_buffer_size() == 0
        sending = asyncio.create_task(slow.send("last"))
        assert await stalled(sending, slow.transport.get_write_buffer_size)
        for i in range(count):
            assert (await peer.recv_frame()).payload == i.to_bytes(4, "big") * 5_000
        assert (await peer.recv_frame()).payload == b"last"
        await within(sending)


async def test_slow_peers_and_large_messages() -> None:
    async with server_of_raw_client(small_buffers=True) as (slow, peer):
        sizes = [100, 70_000, 1_000_000, 1, 65_536, 65_535]
        for size in sizes:
            broadcast([slow], b"x" * size)
        for size in sizes:
            assert (await peer.recv_frame()).payload == b"x" * size


async def test_peers_that_leave_in_the_middle(caplog: pytest.LogCaptureFixture) -> None:
    """Whenever they leave, and however: no exception, no noise, and the others lack nothing."""
    members: set[ServerConnection] = set()

    async def handler(ws: ServerConnection) -> None:
        members.add(ws)
        try:
            await ws.wait_closed()
        finally:
            members.remove(ws)

    async with serving(handler, close_timeout=0.1) as server, raw_client(server) as witness:
        for i in range(30):
            async with raw_client(server) as leaving:
                await until(lambda: len(members) >= 2)
                if i % 3 == 0:
                    leaving.reset()
                elif i % 3 == 1:
                    await leaving.send(client_frame(CLOSE, close_payload(1000)))
                else:
                    leaving.close()
                for j in range(5):
                    broadcast(members, f"{i} {j}", raise_exceptions=True)
                    await turns(j % 3)
        for i in range(30):
            for j in range(5):
                assert (await witness.recv_frame()).payload == f"{i} {j}".encode()
        await witness.send_close()
        await witness.recv_frame()
    assert noise(caplog) == []


async def test_connections_that_are_closed_while_it_goes_round() -> None:
    """The iterable itself may close some."""
    async with crowd(3) as (connections, peers):

        def recipients() -> Iterator[ServerConnection]:
            for connection in connections:
                connections[1].transport.abort()
                yield connection

        for _ in range(3):
            broadcast(recipients(), "x", raise_exceptions=True)
            await turns(1)
        for peer in (peers[0], peers[2]):
            for _ in range(3):
                assert (await peer.recv_frame()).payload == b"x"
        assert await peers[1].read_to_end() in (b"", b"\x81\x01x")


# Cost


@pytest.mark.parametrize("kind", [bytes, str])
async def test_large_messages_are_not_copied(kind: type) -> None:
    """Neither once for each recipient nor, when they are bytes, at all."""
    size = 200_000
    async with crowd(10) as (connections, peers):
        message: Any = bytes(size) if kind is bytes else "x" * size
        broadcast(connections, "warm-up")
        for peer in peers:
            assert (await peer.recv_frame()).payload == b"warm-up"
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            broadcast(connections, message)
            after, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        copies = 0 if kind is bytes else 1
        assert (peak - before) / size < copies + 0.5
        if all(ws.transport.get_write_buffer_size() == 0 for ws in connections):
            assert after - before < size / 2
        for peer in peers:
            assert len((await peer.recv_frame()).payload) == size


async def test_returns_before_anybody_has_read() -> None:
    """It is a plain function: the event loop does not go round, and nobody else runs."""
    ran = []
    async with crowd(50) as (connections, peers):
        asyncio.get_running_loop().call_soon(ran.append, "turn")
        assert broadcast(connections, "x") is None  # type: ignore[func-returns-value]
        assert ran == []
        for peer in peers:
            assert (await peer.recv_frame()).payload == b"x"
