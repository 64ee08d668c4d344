"""Each row of the table in ``docs/limits.md`` against the code, and what the limits add up to."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import inspect
import itertools
import json
import logging
import os
import re
import subprocess
import sys
import tracemalloc
import types
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from websockets import http11
from websockets.asyncio import _channel
from websockets.asyncio import server as asyncio_server
from websockets.asyncio.channel import Channel
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.client import ClientProtocol, backoff
from websockets.exceptions import (
    ConnectionClosedError,
    HeaderLineTooLong,
    InvalidHeader,
    InvalidMessage,
    InvalidProxyMessage,
    InvalidProxyStatus,
    InvalidStatus,
    PayloadTooBig,
    ProtocolError,
    RequestLineTooLong,
    SecurityError,
    StatusLineTooLong,
    TooManyHeaders,
)
from websockets.extensions import deflate
from websockets.extensions.deflate import PerMessageDeflate, set_zlib_module
from websockets.frames import Frame, Opcode
from websockets.headers import get_extensions
from websockets.http11 import Request
from websockets.protocol import Protocol, Side, State
from websockets.proxy import Tunnel, parse_proxy
from websockets.server import ServerProtocol
from websockets.session import Incoming, Keepalive, Session, Timeout, inflating_cost
from websockets.uri import parse_uri

from .helpers import (
    BINARY,
    CONT,
    PING,
    PONG,
    TEXT,
    client_frame,
    frame,
    port_of,
    raw_server,
    raw_socket,
    request_bytes,
    server_of_raw_client,
    serving,
    stalled,
    until,
    within,
)
from .test_security import (
    FINAL_BLOCK,
    Growth,
    bomb,
    close_of,
    deflating,
    deflating_server,
    flooding,
    needs_proc,
)

KIB, MIB = 2**10, 2**20

PAGE = Path(__file__).resolve().parents[1] / "docs" / "limits.md"

if not PAGE.exists():
    pytest.skip("the documentation is not here", allow_module_level=True)


@dataclass(frozen=True)
class Row:
    """A row of the table."""

    limit: str
    default: str
    change: str
    beyond: str

    @property
    def number(self) -> int:
        """The default, in bytes, seconds, or as it is."""
        match = re.match(r"(\d+)(?: (KiB|MiB|s)\b)?", self.default)
        assert match, self.default
        return int(match[1]) * {"KiB": KIB, "MiB": MIB}.get(match[2], 1)

    @property
    def is_none(self) -> bool:
        return self.default == "none"


def read_table() -> dict[str, Row]:
    rows = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("| ") and not line.startswith(("| limit |", "| --- |")):
            row = Row(*(cell.strip() for cell in line.strip("|").split(" | ")))
            assert row.limit not in rows
            rows[row.limit] = row
    return rows


ROWS = read_table()

CHECKED: list[str] = []


def checks(limit: str) -> pytest.MarkDecorator:
    """Mark the test of a row, which it gets as its argument."""
    CHECKED.append(limit)
    return pytest.mark.parametrize("row", [ROWS[limit]], ids=[limit.replace(" ", "-")])


def test_every_row_is_checked() -> None:
    assert sorted(CHECKED) == sorted(ROWS)


def argument(name: str) -> Any:
    """Default of an argument, which `connect` and `serve` agree about."""
    values = [inspect.signature(f).parameters[name].default for f in (connect, serve)]
    assert values[0] == values[1]
    return values[0]


def from_client(opcode: int, payload: bytes = b"", **kwargs: Any) -> bytes:
    return frame(opcode, payload, mask=b"\0\0\0\0", **kwargs)


@pytest.fixture
def stop_tracing() -> Iterator[None]:
    yield
    tracemalloc.stop()


def held_by(session: Session[Any]) -> int:
    """Bytes of the messages in the queue."""
    return sum(
        sys.getsizeof(m) if isinstance(m, str | bytes) else len(m._data) for m in session.messages
    )


# Messages


@checks("size of a message")
def test_message(row: Row) -> None:
    assert argument("max_size") == row.number
    assert inspect.signature(Protocol).parameters["max_size"].default == row.number
    protocol = Protocol(Side.SERVER)
    protocol.receive_data(from_client(BINARY, bytes(row.number)))
    assert protocol.close_sent is None
    header = from_client(BINARY, length=row.number + 1)
    protocol.receive_data(header[:9])
    assert protocol.close_sent is None
    protocol.receive_data(header[9:])
    assert close_of(protocol)[0] == 1009
    assert type(protocol.parser_exc) is PayloadTooBig
    protocol = Protocol(Side.SERVER, max_size=None)
    protocol.receive_data(from_client(BINARY, length=2**40))
    assert protocol.close_sent is None


@checks("size of a fragment")
def test_fragment(row: Row) -> None:
    assert row.is_none
    protocol = Protocol(Side.SERVER, max_size=(100, 10))
    for opcode in (BINARY, CONT):
        protocol.receive_data(from_client(opcode, bytes(10), fin=False))
    assert protocol.close_sent is None
    protocol.receive_data(from_client(CONT, length=11))
    assert close_of(protocol) == (1009, "frame with 11 bytes exceeds limit of 10 bytes")
    assert type(protocol.parser_exc) is PayloadTooBig


@checks("size of a message or fragment that is compressed")
def test_compressed_message(row: Row) -> None:
    """Asked of the module that inflates: never more than one byte too many."""
    asked = []

    class Decompressor:
        eof = False

        def __init__(self, **kwargs: Any) -> None:
            self.real = zlib.decompressobj(**kwargs)

        def decompress(self, data: bytes, max_length: int = 0) -> bytes:
            asked.append(max_length)
            return self.real.decompress(data, max_length)

    module: Any = types.ModuleType("recorder")
    module.decompressobj = Decompressor
    set_zlib_module(module)
    try:
        protocol = deflating(Side.SERVER, "short way")
        limit = ROWS["size of a message"].number
        protocol.receive_data(from_client(BINARY, bomb(limit), rsv=4))
        assert protocol.close_sent is None
        protocol.receive_data(from_client(BINARY, bomb(limit + 1), rsv=4))
        assert close_of(protocol)[0] == 1009
        assert asked == [limit + 1, limit + 1]
    finally:
        set_zlib_module(None)


@checks("size of a compressed frame as it is sent")
def test_compressed_frame(row: Row, codec: ModuleType) -> None:
    assert row.default == "that, an eighth more, and 64"
    for limit in (0, 1, 1000, 1001, MIB):
        largest = limit + limit // 8 + 64
        for length, outcome in ((largest, None), (largest + 1, PayloadTooBig)):
            for first in (b"", frame(BINARY, fin=False, rsv=4)):
                reader = codec.FrameReader(False, limit)
                reader.inflater = PerMessageDeflate(False, False, 15, 15)
                reader.feed(
                    first + frame(CONT if first else BINARY, rsv=0 if first else 4, length=length)
                )
                if first:
                    assert reader.read_frame() is not None
                with contextlib.ExitStack() as stack:
                    if outcome is not None:
                        stack.enter_context(pytest.raises(outcome))
                    assert reader.read_frame() is None


@checks("DEFLATE streams in a compressed frame")
def test_streams(row: Row) -> None:
    protocol = deflating(Side.SERVER, "short way")
    protocol.receive_data(from_client(BINARY, FINAL_BLOCK * row.number, rsv=4))
    assert protocol.close_sent is None
    protocol.receive_data(from_client(BINARY, FINAL_BLOCK * (row.number + 1), rsv=4))
    assert close_of(protocol) == (1002, re.findall('"(.*)"', row.beyond)[0])


@checks("number of fragments")
def test_fragments(row: Row) -> None:
    assert row.is_none
    protocol = Protocol(Side.SERVER)
    protocol.receive_data(from_client(BINARY, fin=False))
    for _ in range(7):
        protocol.receive_data(from_client(CONT, b"x", fin=False) * 10_000)
        protocol.events_received()
    protocol.receive_data(from_client(CONT, b"x"))
    assert protocol.close_sent is None
    assert len(protocol.events_received()) == 1


def test_fragments_can_be_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("websockets.session"), "MAX_FRAGMENTS", 3)
    session: Session[Any] = Session(Protocol(Side.SERVER))
    protocol = session.protocol
    wire = from_client(TEXT, fin=False) + from_client(CONT, fin=False)
    protocol.reader.feed((wire + from_client(CONT)) * 2 + wire + from_client(CONT, fin=False))
    while session.read(1000) and session.stopped:
        pass
    assert protocol.close_sent is None
    assert len(session.messages) == 3
    assert not session.incoming.complete  # type: ignore[union-attr]
    protocol.reader.feed(from_client(CONT))
    session.read(1000)
    assert str(protocol.close_sent) == "1009 (message too big) too many fragments"
    assert repr(protocol.parser_exc) == "TooManyFragments(3)"
    assert not session.incoming.complete  # type: ignore[union-attr]


@checks("fragment bounds kept for `recv_streaming()`")
def test_kept_fragments(row: Row) -> None:
    incoming = Incoming(text=False)
    for _ in range(row.number + 100):
        incoming.append(b"x", False)
    assert len(incoming) == row.number
    parts = [incoming.take() for _ in range(row.number)]
    assert parts == [b"x"] * (row.number - 1) + [b"x" * 101]


# The queue


@checks("messages in the queue; unread fragments count too")
def test_queue(row: Row) -> None:
    assert argument("max_queue") == row.number

    def filled(wire: bytes, **kwargs: Any) -> Session[Any]:
        session: Session[Any] = Session(Protocol(Side.SERVER), **kwargs)
        session.protocol.reader.feed(wire)
        while not session.full():
            session.read(1000)
            if not session.stopped:
                break
        return session

    messages = from_client(TEXT, b"x") * 100
    session = filled(messages)
    assert (len(session.messages), session.stopped) == (row.number, True)
    for left in range(row.number - 1, -1, -1):
        session.messages.popleft()
        assert session.drained() is (left <= row.number // 4)
    assert len(filled(messages, max_queue=(5, 3)).messages) == 5
    assert len(filled(messages, max_queue=None).messages) == 100
    fragments = from_client(TEXT, fin=False) + from_client(CONT, b"x", fin=False) * 100
    session = filled(fragments)
    (message,) = session.messages
    assert len(message) == row.number
    session.receiving = "recv"
    while not session.full() and session.stopped:
        session.read(1000)
    assert len(session.messages) == 1, "the one that is awaited may have any number"
    assert not session.protocol.reader.in_frame
    # After close().
    session = filled(messages)
    session.dropping = True
    while session.stopped:
        session.read(1000)
    assert len(session.messages) == row.number


@checks("bytes inflated from what is left when a connection ends")
@pytest.mark.parametrize("fragmented", [False, True], ids=["one frame", "fragments"])
def test_the_end(row: Row, fragmented: bool) -> None:
    assert row.default == "`max_queue` messages of `max_size`"
    protocol = deflating(Side.SERVER, "short way", max_size=10_000)
    session: Session[Any] = Session(protocol, max_queue=4)
    payload = bomb(10_000)
    if fragmented:
        wire = from_client(BINARY, payload[:10], fin=False, rsv=4) + from_client(CONT, payload[10:])
    else:
        wire = from_client(BINARY, payload, rsv=4)
    protocol.reader.feed(wire * 200)
    session.read(1000)
    session.finish()
    assert type(protocol.parser_exc) is PayloadTooBig
    # Besides, what was in the queue, and what was inflated in one step.
    assert 4 * 10_000 < held_by(session) < (4 + 4 + 16) * 10_100


# Writing


@checks("bytes that wait to be written")
async def test_write_limit(row: Row) -> None:
    assert argument("write_limit") == row.number
    async with server_of_raw_client(small_buffers=True) as (ws, peer):
        assert ws.transport.get_write_buffer_limits() == (row.number // 4, row.number)  # type: ignore[attr-defined]
        sending = [asyncio.create_task(ws.send(b"x" * MIB))]
        await stalled(sending[0], lambda: None)
        sending += [asyncio.create_task(task) for task in (ws.ping(), ws.pong(), ws.send("x"))]
        await stalled(sending[-1], lambda: None)
        assert not any(task.done() for task in sending)
        await peer.read(MIB - row.number)
        await within(asyncio.gather(*sending))


@checks("frames held back to leave together")
async def test_cork(row: Row) -> None:
    """A handler that sends while a batch is delivered: what exceeds the limit leaves at once."""
    left: list[int] = []

    async def handler(ws: ServerConnection) -> None:
        async for _ in ws:
            for _ in range(100):
                await ws.send(b"x" * 1000)
            with contextlib.suppress(BlockingIOError):
                left.append(len(raw.sock.recv(MIB)))

    limit = argument("write_limit")
    async with serving(handler) as server, raw_socket(server) as raw:
        await raw.send(request_bytes(port_of(server)))
        await raw.read_until(b"\r\n\r\n")
        await raw.send_frame(TEXT, b"go")
        await until(lambda: left)
        total = 100 * (1000 + 4)
        assert total - limit - 1004 <= left[0] <= total
        rest = total - left[0]
        assert len(await raw.read(rest)) == rest


@checks("pongs that wait to be written while the peer does not read")
def test_pongs(row: Row) -> None:
    protocol = Protocol(Side.CLIENT)
    protocol.hold_pongs(True)
    for i in range(10):
        protocol.receive_data(frame(PING, b"%d" % i))
    assert protocol.data_to_send() == []
    protocol.hold_pongs(False)
    assert len(protocol.data_to_send()) == row.number
    protocol = Protocol(Side.SERVER)
    protocol.hold_pongs(True)
    protocol.receive_data(from_client(PING, b"1") + from_client(PING, b"2"))
    protocol.hold_pongs(False)
    assert protocol.data_to_send() == [frame(PONG, b"2")]


@checks("payload of a control frame")
def test_control_frame(row: Row) -> None:
    protocol = Protocol(Side.SERVER)
    protocol.receive_data(from_client(PING, bytes(row.number)))
    protocol.send_ping(bytes(row.number))
    assert len(protocol.data_to_send()) == 2
    with pytest.raises(ProtocolError, match="^control frame too long$"):
        protocol.send_ping(bytes(row.number + 1))
    protocol.receive_data(from_client(PING, bytes(row.number + 1)))
    assert close_of(protocol) == (1002, "control frame too long")


@checks("pending pings")
def test_pending_pings(row: Row) -> None:
    assert row.is_none
    session: Session[object] = Session(Protocol(Side.CLIENT))
    for i in range(10_000):
        session.pings.add(session.pings.choose(b"%d" % i), object(), 0)
    assert len(session.pings.acknowledge(b"9999", 1)) == 10_000


# Buffers


@checks("bytes in one read")
async def test_read(row: Row, codec: ModuleType) -> None:
    assert codec.READ_SIZE == row.number
    shared = memoryview(bytearray(codec.READ_SIZE))
    reader = codec.FrameReader(False, None)
    assert len(reader.get_buffer(shared)) == row.number
    reader.feed(frame(BINARY, length=2**40))
    for _ in range(100):
        assert reader.read_messages(1) == []
        buffer = reader.get_buffer(shared)
        assert len(buffer) <= row.number
        reader.buffer_updated(shared, len(buffer))
    async with server_of_raw_client() as (ws, _):
        assert len(ws.get_buffer(-1)) == row.number


@checks("memory reserved for an announced payload")
def test_reserved(row: Row, codec: ModuleType, stop_tracing: None) -> None:
    factor, extra = 2, 256 * KIB
    assert row.default == "twice what has arrived + 256 KiB"
    reader = codec.FrameReader(False, None)
    piece = bytes(100_000)
    gc.collect()
    tracemalloc.start()
    reader.feed(frame(BINARY, length=2**40))
    for arrived in range(0, 3_000_000, len(piece)):
        assert reader.read_frame() is None
        held = tracemalloc.get_traced_memory()[0]
        assert held <= factor * arrived + extra + 4096
        reader.feed(piece)


@checks("text kept to report where a fragmented message stops being UTF-8")
def test_text_context(row: Row, codec: ModuleType) -> None:
    for size, kept in ((row.number, row.number + 1), (row.number + 1, 1)):
        validator = codec.Utf8Validator()
        validator.feed(b"a" * size)
        with pytest.raises(UnicodeDecodeError) as raised:
            validator.feed(b"\xff")
        assert (len(raised.value.object), raised.value.start) == (kept, size)


@checks("messages and frames handled in one callback")
async def test_batch(row: Row) -> None:
    assert _channel.BATCH_SIZE == row.number
    module = importlib.import_module(Channel.__module__)
    assert module.BATCH_SIZE == row.number
    taken = 0

    async def swallow(ws: ServerConnection) -> None:
        nonlocal taken
        async for _ in ws:
            taken += 1

    async with serving(swallow) as server, raw_socket(server) as peer:
        await peer.send(request_bytes(port_of(server)))
        await peer.read_until(b"\r\n\r\n")
        await peer.send(client_frame(TEXT, b"x") * 5000)
        most = before = 0
        while taken < 5000:
            await asyncio.sleep(0)
            most, before = max(most, taken - before), taken
        # A turn of the event loop may have two callbacks.
        assert most <= 2 * row.number


@checks("bytes inflated in one callback")
def test_inflated_in_a_batch(row: Row) -> None:
    match = re.fullmatch(r"as many messages of (\d+) KiB", row.default)
    assert match
    assert inflating_cost([bytes(MIB), "x" * MIB]) == 2 * MIB // (int(match[1]) * KIB)
    session: Session[Any] = Session(deflating(Side.SERVER, "short way"), max_queue=4)
    session.protocol.reader.feed(from_client(BINARY, bomb(MIB), rsv=4) * 3)
    assert session.read(256) < 0
    assert not session.full()


@checks("compressors kept for the next message, without context takeover")
def test_pool(row: Row) -> None:
    set_zlib_module(None)
    extensions = [PerMessageDeflate(True, True, 15, 12) for _ in range(row.number + 5)]
    for fin in (False, True):
        for extension in extensions:
            opcode = Opcode.CONT if fin else Opcode.TEXT
            extension.encode(Frame(opcode, b"x" * 100, fin), compress=True)
    assert [len(pooled) for pooled in deflate._pool.values()] == [row.number]
    assert all(extension._compressor is None for extension in extensions)


@checks("frames and answers kept by `Protocol`")
def test_events(row: Row) -> None:
    assert row.is_none
    protocol = Protocol(Side.SERVER)
    protocol.receive_data(from_client(PING) * 10_000)
    assert len(protocol.events_received()) == len(protocol.data_to_send()) == 10_000
    assert protocol.events_received() == protocol.data_to_send() == []


@checks("connections")
async def test_connections(row: Row) -> None:
    """The recipe."""
    assert row.is_none
    free = 2

    async def process_request(ws: ServerConnection, request: Request) -> Any:
        return None if free > len(ws.server.connections) else ws.respond(503, "Full.\n")

    async with serving(process_request=process_request) as server:
        uri = f"ws://127.0.0.1:{port_of(server)}/"
        async with connect(uri), connect(uri):
            with pytest.raises(InvalidStatus, match="HTTP 503$"):
                await within(connect(uri).__aenter__())


# Time


@checks("TLS handshake")
async def test_tls_handshake(row: Row, tls: Any) -> None:
    assert row.default.startswith(f"server: {argument('open_timeout')} s; client: `open_timeout`")
    assert f"{asyncio.constants.SSL_HANDSHAKE_TIMEOUT:.0f} s if both are None" in row.change
    for short in ({"open_timeout": 0.05}, {"ssl_handshake_timeout": 0.05}):
        async with serving(ssl=tls.server, **short) as server, raw_socket(server) as peer:
            assert await peer.read_to_end() == b""
    async with raw_server() as listener:
        with pytest.raises(TimeoutError):
            uri = listener.uri.replace("ws:", "wss:")
            await within(connect(uri, ssl=tls.client, open_timeout=0.05).__aenter__())


@checks("TLS of a client that a closing server has refused")
def test_refused_over_tls(row: Row) -> None:
    # tests/asyncio/test_operation.py has what it does.
    assert row.number == asyncio_server.REFUSAL_TIMEOUT


@checks("opening handshake")
async def test_open_timeout(row: Row) -> None:
    assert argument("open_timeout") == row.number
    async with serving(open_timeout=0.05) as server, raw_socket(server) as peer:
        assert await peer.read_to_end() == b""
    async with raw_server() as listener:
        with pytest.raises(TimeoutError) as raised:
            await within(connect(listener.uri, open_timeout=0.05).__aenter__())
    assert str(raised.value) == re.findall('"(.*)"', row.beyond)[0]


@checks("time between keepalive pings")
async def test_ping_interval(row: Row) -> None:
    assert argument("ping_interval") == row.number
    keepalive = Keepalive(row.number, None)
    keepalive.start(100)
    assert keepalive.deadline == 100 + row.number
    async with server_of_raw_client(ping_interval=0.02) as (_, peer):
        assert (await peer.recv_frame()).opcode == PING


@checks("silence after a keepalive ping, while this side is reading")
async def test_ping_timeout(row: Row) -> None:
    assert argument("ping_timeout") == row.number
    reason = re.findall('"(.*)"', row.beyond)[0]
    async with server_of_raw_client(ping_interval=0.02, ping_timeout=0.02) as (ws, peer):
        with pytest.raises(ConnectionClosedError) as raised:
            await within(ws.recv())
        assert isinstance(raised.value.__cause__, TimeoutError)
        assert (await peer.recv_frame()).opcode == PING
        assert (await peer.recv_frame()).close == (1011, reason)


def looks(**kwargs: Any) -> int:
    """How often a keepalive timer looks until it gives a peer up that sends all the time."""
    keepalive = Keepalive(20, 20)
    keepalive.start(0)
    keepalive.sent(b"ping", 20)
    for count in range(1, 100):
        state = {"heard": True, "in_frame": False, "reading": True} | kwargs
        if keepalive.expire(20 + 20 * count, **state) not in (None, Timeout.UNREAD):
            return count
    return 100


@checks("timeouts for which an unfinished frame counts as a sign of life")
def test_unfinished_frame(row: Row) -> None:
    assert looks(in_frame=True) == row.number
    assert looks() == 100


@checks("timeouts in which the peer reads nothing of what waits to be written")
def test_blocked(row: Row) -> None:
    assert looks(unwritten=100_000) == row.number
    assert looks(unwritten=100_000, reading=False) == row.number


@checks("closing")
async def test_close_timeout(row: Row) -> None:
    assert argument("close_timeout") == row.number
    async with server_of_raw_client(close_timeout=0.05) as (ws, _):
        await within(ws.close())
        with pytest.raises(ConnectionClosedError) as raised:
            await ws.recv()
        cause = raised.value.__cause__
        assert type(cause) is TimeoutError
        assert str(cause) == re.findall('"(.*)"', row.beyond)[0]


# The opening handshake

GET, OK = b"GET / HTTP/1.1\r\n", b"HTTP/1.1 200 OK\r\n"

Answer = tuple[int | None, Exception | None]


def ask(data: bytes) -> Answer:
    """Status that a server answers to some bytes, and why."""
    protocol = ServerProtocol()
    protocol.receive_data(data)
    written = b"".join(protocol.data_to_send())
    return int(written[9:12]) if written else None, protocol.handshake_exc


def answer(data: bytes) -> Exception | None:
    """What a client says about a response."""
    protocol = ClientProtocol(parse_uri("ws://example.com/"))
    protocol.send_request(protocol.connect())
    protocol.receive_data(data)
    return protocol.handshake_exc


def setting(row: Row, module: ModuleType = http11) -> None:
    """Check that a variable of the environment changes a limit."""
    (variable,) = re.findall("`(WEBSOCKETS_[A-Z_]+)`", row.change)
    name = variable.removeprefix("WEBSOCKETS_")
    assert getattr(module, name) == row.number
    code = f"import json, {module.__name__} as module; print(json.dumps(module.{name}))"
    output = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        env=os.environ | {variable: "77"},
    ).stdout
    assert json.loads(output) == 77


@checks("request line")
def test_request_line(row: Row) -> None:
    setting(row)
    line = b"GET /%s HTTP/1.1\r\n"
    room = row.number - len(line) + 2
    assert ask(line % (b"a" * room)) == (None, None)
    status, exc = ask(line % (b"a" * (room + 1)))
    assert (status, type(exc)) == (414, RequestLineTooLong)


@checks("status line")
def test_status_line(row: Row) -> None:
    assert http11.MAX_LINE_LENGTH == row.number
    line = b"HTTP/1.1 404 %s\r\n"
    room = row.number - len(line) + 2
    assert answer(line % (b"a" * room)) is None
    assert type(answer(line % (b"a" * (room + 1)))) is StatusLineTooLong


@checks("header line")
def test_header_line(row: Row) -> None:
    assert http11.MAX_LINE_LENGTH == row.number
    fits, long = (b"A: " + b"a" * (row.number - 5 + more) + b"\r\n" for more in (0, 1))
    assert ask(GET + fits) == (None, None)
    status, exc = ask(GET + long)
    assert (status, type(exc)) == (431, HeaderLineTooLong)
    assert answer(OK + fits) is None
    exc = answer(OK + long)
    assert type(exc) is InvalidMessage
    assert type(exc.__cause__) is HeaderLineTooLong


@checks("header lines")
def test_header_lines(row: Row) -> None:
    setting(row)
    fits, many = (b"A: b\r\n" * (row.number + more) for more in (0, 1))
    assert ask(GET + fits) == (None, None)
    status, exc = ask(GET + many)
    assert (status, type(exc)) == (431, TooManyHeaders)
    assert answer(OK + fits) is None
    exc = answer(OK + many)
    assert type(exc) is InvalidMessage
    assert type(exc.__cause__) is TooManyHeaders


@checks("items and parameters of a header that is a list")
@pytest.mark.parametrize("separator", [",", ";"])
def test_list(row: Row, separator: str) -> None:
    for more in (0, 1):
        counts = [row.number // 2, row.number // 2 + more]
        extra = [("Sec-WebSocket-Extensions", separator.join(["a"] * count)) for count in counts]
        protocol = ServerProtocol()
        protocol.receive_data(request_bytes(80, extra=extra))
        (request,) = protocol.events_received()
        assert isinstance(request, Request)
        assert protocol.accept(request).status_code == (400 if more else 101)
    assert type(protocol.handshake_exc) is InvalidHeader
    with pytest.raises(InvalidHeader):
        get_extensions(request.headers)


@checks("body of a request")
def test_request_body(row: Row) -> None:
    head = request_bytes(80, extra=[("Content-Length", str(row.number))])
    assert ask(head) == (None, None)
    status, exc = ask(request_bytes(80, extra=[("Content-Length", str(row.number + 1))]))
    assert (status, type(exc)) == (400, InvalidMessage)
    assert exc is not None
    assert type(exc.__cause__) is ValueError


@checks("body of a response")
def test_response_body(row: Row) -> None:
    setting(row)
    body = b"Content-Length: %d\r\n\r\n"
    exc = answer(OK + body % row.number + bytes(row.number))
    assert isinstance(exc, InvalidStatus)
    assert len(exc.response.body) == row.number
    exc = answer(OK + body % (row.number + 1))
    assert type(exc) is InvalidMessage
    assert type(exc.__cause__) is SecurityError


@checks("chunks in it")
def test_chunks(row: Row) -> None:
    assert row.number == http11.MAX_CHUNKS
    chunked = OK + b"Transfer-Encoding: chunked\r\n\r\n"
    exc = answer(chunked + b"1\r\nx\r\n" * row.number + b"0\r\n\r\n")
    assert isinstance(exc, InvalidStatus)
    assert exc.response.body == b"x" * row.number
    exc = answer(chunked + b"1\r\nx\r\n" * (row.number + 1))
    assert type(exc) is InvalidMessage
    assert type(exc.__cause__) is SecurityError


@checks("interim responses")
def test_interim_responses(row: Row) -> None:
    assert row.number == http11.MAX_INTERIM_RESPONSES
    interim = b"HTTP/1.1 103 Early Hints\r\n\r\n" * row.number
    assert isinstance(answer(interim + OK + b"Content-Length: 0\r\n\r\n"), InvalidStatus)
    exc = answer(interim + interim)
    assert type(exc) is InvalidMessage
    assert type(exc.__cause__) is SecurityError
    assert Tunnel(parse_proxy("http://p:1"), "example.com", 443).receive_data(
        interim + OK + b"\r\n"
    )
    with pytest.raises(InvalidProxyMessage) as raised:
        Tunnel(parse_proxy("http://p:1"), "example.com", 443).receive_data(interim + interim)
    assert type(raised.value.__cause__) is SecurityError


@checks("bytes behind a request that is not answered yet")
async def test_early_data(row: Row) -> None:
    waiting: asyncio.Future[ServerConnection] = asyncio.get_running_loop().create_future()
    decided = asyncio.Event()

    async def process_request(ws: ServerConnection, request: Request) -> None:
        waiting.set_result(ws)
        await decided.wait()

    async with serving(process_request=process_request) as server, raw_socket(server) as peer:
        await peer.send(request_bytes(80) + client_frame(TEXT, b"one"))
        ws = await within(waiting)
        assert ws.transport.is_reading()
        await peer.send_frame(TEXT, b"two")
        await until(lambda: not ws.transport.is_reading())
        decided.set()
        await peer.read_until(b"\r\n\r\n")
        assert [(await peer.recv_frame()).payload for _ in range(2)] == [b"one", b"two"]


@checks("the same, without a runtime, in `ServerProtocol`")
def test_early_data_without_runtime(row: Row) -> None:
    for more in (0, 1):
        protocol = ServerProtocol()
        protocol.receive_data(request_bytes(80))
        (request,) = protocol.events_received()
        assert isinstance(request, Request)
        wire = from_client(BINARY, bytes(row.number - 8 - 6)) + from_client(PING)
        assert len(wire) == row.number
        for data in (wire[:100], wire[100:], b"\x89"[:more]):
            protocol.receive_data(data)
        protocol.send_response(protocol.accept(request))
        if more:
            assert close_of(protocol) == (1008, re.findall('"(.*)"', row.beyond)[0])
        else:
            assert protocol.state is State.OPEN
            assert len(protocol.events_received()) == 2


@checks("attempts that redirects lead to")
async def test_redirects(row: Row) -> None:
    setting(row, importlib.import_module("websockets.redirect"))
    async with raw_server() as listener:

        async def redirect() -> int:
            for count in itertools.count():
                peer = await listener.accept_request()
                await peer.send(
                    b"HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n"
                )
                if count == row.number:
                    break
            raise AssertionError("too many")

        redirecting = asyncio.create_task(redirect())
        with pytest.raises(SecurityError) as raised:
            await within(connect(listener.uri).__aenter__())
        assert f'`SecurityError`, "{raised.value}"' == row.beyond
        assert len(listener.peers) == row.number
        redirecting.cancel()
        await asyncio.wait([redirecting])


@checks("answer of an HTTP proxy")
def test_proxy_answer(row: Row) -> None:
    def answer(data: bytes) -> bool:
        proxy = parse_proxy("http://127.0.0.1:3128")
        return Tunnel(proxy, "127.0.0.1", 80).receive_data(data)

    line = b"HTTP/1.1 200 " + b"O" * (http11.MAX_LINE_LENGTH - 15) + b"\r\n"
    field = b"A: " + b"b" * (http11.MAX_LINE_LENGTH - 5) + b"\r\n"
    fields = field * http11.MAX_NUM_HEADERS
    assert answer(line + fields + b"\r\n")
    for data, cause in [
        (line[:-2] + b"OOO", StatusLineTooLong),
        (line + b"A" + field, HeaderLineTooLong),
        (line + fields + b"A: b\r\n", TooManyHeaders),
    ]:
        with pytest.raises(InvalidProxyMessage) as raised:
            answer(data)
        assert type(raised.value.__cause__) is cause
    # The body of a refusal is not read.
    with pytest.raises(InvalidProxyStatus) as refused:
        answer(b"HTTP/1.1 407 No\r\nContent-Length: 99999999\r\n\r\n")
    assert refused.value.response.body == b""


@checks("payload shown in the debug log")
def test_log(row: Row, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "websockets")
    protocol = Protocol(Side.SERVER)
    protocol.receive_data(from_client(TEXT, b"x" * 1000) + from_client(BINARY, bytes(1000)))
    shown = [record.getMessage().partition(" ")[2] for record in caplog.records][-2:]
    for text in shown:
        assert "..." in text
        assert len(text) <= row.number + len("BINARY '' [1000 bytes]")


@checks("pauses between attempts to connect")
def test_backoff(row: Row) -> None:
    module = importlib.import_module("websockets.client")
    assert inspect.signature(connect).parameters["reconnect_delays"].default is backoff
    names = re.findall("`(?:WEBSOCKETS_BACKOFF)?(_[A-Z_]+)`", row.change)
    assert len(names) == 4
    parameters = inspect.signature(backoff).parameters
    assert [p.default for p in parameters.values()] == [
        getattr(module, f"BACKOFF{name}") for name in names
    ]


# What they add up to


WIDE = ("x" * (MIB - 4) + "\U0001f600").encode()

FLOODS: dict[str, tuple[bytes, int]] = {
    # Name: what is sent again and again, and how many MiB may be held at most.
    "messages of 64 KiB": (client_frame(BINARY, bytes(64 * KIB)), 4),
    "messages of max_size": (client_frame(BINARY, bytes(MIB)), 19),
    "text of max_size": (client_frame(TEXT, b"x" * MIB), 19),
    "text of max_size, each character four bytes": (client_frame(TEXT, WIDE), 70),
    "empty messages": (client_frame(BINARY) * 10_000, 2),
    "messages of one byte": (client_frame(BINARY, b"x") * 10_000, 2),
    "fragments of max_size in all": (
        client_frame(BINARY, fin=False)
        + client_frame(CONT, bytes(64 * KIB), fin=False) * 15
        + client_frame(CONT, bytes(64 * KIB)),
        4,
    ),
    "pings": (client_frame(PING, bytes(125)) * 1000, 2),
    "pongs": (client_frame(PONG, bytes(125)) * 1000, 2),
}

FRAGMENTS = {"empty fragments": b"", "fragments of one byte": b"x"}


@needs_proc
class TestAnApplicationThatDoesNotReceive:
    """It holds a queue of messages, a read, and a message that is arriving, whatever the flood."""

    TOTAL = 40 * MIB

    async def flood(self, connected: Any, start: bytes, batch: bytes, limit: int) -> None:
        async with connected as (ws, peer):
            await peer.send(start)
            await asyncio.sleep(0)
            growth = Growth()
            async with flooding(peer, batch, self.TOTAL):
                # Some of the growth comes with the first use of whatever does the work.
                assert growth.most < limit * MIB
                assert held_by(ws._ws_session) < limit * MIB
                await within(ws.close())
                assert growth.most < limit * MIB
            assert ws.state is State.CLOSED

    @pytest.mark.parametrize("name", FLOODS)
    async def test_plain(self, name: str) -> None:
        batch, limit = FLOODS[name]
        await self.flood(server_of_raw_client(close_timeout=0.1), b"", batch, limit + 4)

    @pytest.mark.parametrize("name", FRAGMENTS)
    async def test_fragments(self, name: str) -> None:
        start = client_frame(BINARY, fin=False)
        batch = client_frame(CONT, FRAGMENTS[name], fin=False) * 10_000
        await self.flood(server_of_raw_client(close_timeout=0.1), start, batch, 6)

    @pytest.mark.parametrize("opcode", [BINARY, TEXT], ids=["binary", "text"])
    async def test_compressed(self, opcode: int) -> None:
        """Bombs of exactly `max_size`: what is offered would inflate to forty gigabytes."""
        batch = client_frame(opcode, bomb(MIB), rsv=4) * 10
        await self.flood(deflating_server(close_timeout=0.1), b"", batch, 24)
