"""Peers, servers and frames for the tests, written without the code under test.

What travels on the wire is built and taken apart here, byte by byte, so that a mistake in the
library's own framing cannot hide behind itself.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gc
import hashlib
import logging
import os
import re
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
import trustme

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

T = TypeVar("T")

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

# RFC 6455 section 1.3: what the server appends to the key before it is hashed.
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

# What "small buffers" of a socket are: a few messages of the tests fill them.
SMALL_BUFFER = 65536

# Long enough for a noisy machine; nothing waits this long unless it is broken.
PATIENCE = 10


# Frames


@dataclass(frozen=True)
class WireFrame:
    """A frame as it was on the wire, payload unmasked."""

    opcode: int
    payload: bytes = b""
    fin: bool = True
    rsv: int = 0
    masked: bool = False

    @property
    def close(self) -> tuple[int | None, str]:
        """Code and reason of a close frame; the code is `None` when the payload is empty."""
        assert self.opcode == CLOSE, self
        if not self.payload:
            return None, ""
        return int.from_bytes(self.payload[:2], "big"), self.payload[2:].decode()


def masking(payload: bytes, key: bytes) -> bytes:
    """Apply `key` to `payload` (RFC 6455 section 5.3)."""
    size = len(payload)
    pad = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")).to_bytes(size, "big")


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bytes | None = None,
    length: int | None = None,
    form: int | None = None,
) -> bytes:
    """Bytes of a frame, however wrong.

    `length` is the length announced (default: the true one), `form` the width of the extended
    length field in bytes: 0, 2 or 8 (default: the shortest).
    """
    announced = len(payload) if length is None else length
    if form is None:
        form = 0 if announced < 126 else 2 if announced < 65536 else 8
    flag = 0 if mask is None else 0x80
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    if form == 0:
        head += bytes([flag | announced])
    elif form == 2:
        head += bytes([flag | 126]) + struct.pack("!H", announced)
    else:
        head += bytes([flag | 127]) + struct.pack("!Q", announced)
    if mask is None:
        return head + payload
    return head + mask + masking(payload, mask)


def client_frame(opcode: int, payload: bytes = b"", **kwargs: Any) -> bytes:
    """A frame as a client sends it: masked."""
    return frame(opcode, payload, mask=os.urandom(4), **kwargs)


def close_payload(code: int, reason: str = "") -> bytes:
    """Payload of a close frame (RFC 6455 section 5.5.1)."""
    return struct.pack("!H", code) + reason.encode()


def accept_value(key: str) -> str:
    """`Sec-WebSocket-Accept` for a key (RFC 6455 section 4.2.2, item 5.4)."""
    return base64.b64encode(hashlib.sha1(key.encode() + GUID).digest()).decode()


# Raw peers


def shrink_buffers(sock: socket.socket) -> None:
    """Leave the kernel little room, so that what is not read is soon felt by the sender."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)


class RawPeer:
    """A socket that speaks WebSocket only as far as the test tells it to.

    It reads nothing on its own: what is not asked for stays in the kernel's buffers.
    """

    def __init__(self, sock: socket.socket, *, is_client: bool) -> None:
        sock.setblocking(False)
        # Small writes go out as the test makes them.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self.is_client = is_client
        self.buffer = b""
        self.loop = asyncio.get_running_loop()

    async def send(self, data: bytes) -> None:
        await within(self.loop.sock_sendall(self.sock, data))

    async def send_frame(self, opcode: int, payload: bytes = b"", **kwargs: Any) -> None:
        build = client_frame if self.is_client else frame
        await self.send(build(opcode, payload, **kwargs))

    async def send_close(self, code: int = 1000, reason: str = "") -> None:
        await self.send_frame(CLOSE, close_payload(code, reason))

    async def read_some(self) -> bytes:
        """What the socket holds next, at least one byte; `b""` at the end of the stream."""
        try:
            return await within(self.loop.sock_recv(self.sock, 65536))
        except ConnectionResetError:
            return b""

    async def read(self, size: int) -> bytes:
        while len(self.buffer) < size:
            data = await self.read_some()
            if not data:
                raise EOFError(f"connection ended; left over: {self.buffer!r}")
            self.buffer += data
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    async def read_until(self, separator: bytes) -> bytes:
        while separator not in self.buffer:
            data = await self.read_some()
            if not data:
                raise EOFError(f"connection ended; left over: {self.buffer!r}")
            self.buffer += data
        head, _, self.buffer = self.buffer.partition(separator)
        return head + separator

    async def read_to_end(self) -> bytes:
        """Everything up to the end of the stream."""
        while data := await self.read_some():
            self.buffer += data
        data, self.buffer = self.buffer, b""
        return data

    async def recv_frame(self) -> WireFrame:
        first, second = await self.read(2)
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack("!H", await self.read(2))
            assert size >= 126, "RFC 6455 section 5.2: the shortest form is mandatory"
        elif size == 127:
            (size,) = struct.unpack("!Q", await self.read(8))
            assert 65536 <= size < 2**63, "RFC 6455 section 5.2: the shortest form is mandatory"
        masked = bool(second & 0x80)
        key = await self.read(4) if masked else b""
        payload = await self.read(size)
        return WireFrame(
            opcode=first & 0x0F,
            payload=masking(payload, key) if masked else payload,
            fin=bool(first & 0x80),
            rsv=first >> 4 & 0x7,
            masked=masked,
        )

    async def recv_frames_to_end(self) -> list[WireFrame]:
        """Every frame up to the end of the stream, which must fall between two frames."""
        frames = []
        while True:
            try:
                frames.append(await self.recv_frame())
            except EOFError:
                assert not self.buffer, f"the stream ends inside a frame: {self.buffer!r}"
                return frames

    async def expect_eof(self) -> None:
        assert await self.read_to_end() == b""

    async def is_open_for(self, seconds: float) -> bool:
        """Whether the other side keeps TCP open, saying nothing, for `seconds`."""
        try:
            data = await asyncio.wait_for(self.loop.sock_recv(self.sock, 1), seconds)
        except TimeoutError:
            return True
        except ConnectionResetError:
            return False
        assert data == b"", f"unexpected data: {data!r}"
        return False

    def send_eof(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Abort: the other side sees ECONNRESET, not the end of the stream."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        self.sock.close()


def request_bytes(
    port: int,
    path: str = "/",
    *,
    key: str = "dGhlIHNhbXBsZSBub25jZQ==",
    without: Iterable[str] = (),
    extra: Iterable[tuple[str, str]] = (),
    method: str = "GET",
    version: str = "HTTP/1.1",
) -> bytes:
    """An opening handshake (RFC 6455 section 4.1), with fields left out or added."""
    fields = [
        ("Host", f"127.0.0.1:{port}"),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", key),
        ("Sec-WebSocket-Version", "13"),
    ]
    dropped = {name.lower() for name in without}
    fields = [(name, value) for name, value in fields if name.lower() not in dropped]
    fields += list(extra)
    lines = [f"{method} {path} {version}"] + [f"{name}: {value}" for name, value in fields]
    return "\r\n".join([*lines, "", ""]).encode("iso-8859-1")


@dataclass(frozen=True)
class RawResponse:
    status: int
    reason: str
    headers: dict[str, str]
    body: bytes

    @classmethod
    def from_bytes(cls, data: bytes) -> RawResponse:
        head, separator, body = data.partition(b"\r\n\r\n")
        assert separator, f"no complete response: {data!r}"
        status_line, *lines = head.decode("iso-8859-1").split("\r\n")
        match = re.fullmatch(r"HTTP/1\.1 (\d{3}) (.*)", status_line)
        assert match, status_line
        headers: dict[str, str] = {}
        for line in lines:
            name, value = line.split(": ", 1)
            assert name.lower() not in headers, f"repeated header: {data!r}"
            headers[name.lower()] = value
        return cls(int(match[1]), match[2], headers, body)


@contextlib.asynccontextmanager
async def raw_socket(server: Server) -> AsyncIterator[RawPeer]:
    """A TCP connection to `server`, nothing said yet."""
    sock = socket.socket()
    sock.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port_of(server)))
        yield RawPeer(sock, is_client=True)
    finally:
        sock.close()


@contextlib.asynccontextmanager
async def raw_client(
    server: Server, *, small_buffers: bool = False, **kwargs: Any
) -> AsyncIterator[RawPeer]:
    """A raw client, connected to `server`, after its opening handshake."""
    sock = socket.socket()
    if small_buffers:
        shrink_buffers(sock)
    sock.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port_of(server)))
        peer = RawPeer(sock, is_client=True)
        await peer.send(request_bytes(port_of(server), **kwargs))
        head = await peer.read_until(b"\r\n\r\n")
        assert RawResponse.from_bytes(head).status == 101, head
        yield peer
    finally:
        sock.close()


class RawListener:
    """A listening socket whose connections the test answers by hand."""

    def __init__(self, *, small_buffers: bool = False) -> None:
        self.sock = socket.socket()
        if small_buffers:
            shrink_buffers(self.sock)
        self.sock.bind(("127.0.0.1", 0))
        self.sock.listen(8)
        self.sock.setblocking(False)
        self.port: int = self.sock.getsockname()[1]
        self.uri = f"ws://127.0.0.1:{self.port}/"
        self.request = b""
        self.peers: list[RawPeer] = []

    async def accept(self) -> RawPeer:
        sock, _ = await within(asyncio.get_running_loop().sock_accept(self.sock))
        peer = RawPeer(sock, is_client=False)
        self.peers.append(peer)
        return peer

    async def accept_request(self) -> RawPeer:
        """Accept a connection and read the request, leaving the answer to the test."""
        peer = await self.accept()
        self.request = await peer.read_until(b"\r\n\r\n")
        return peer

    def response(
        self,
        *,
        status_line: str = "HTTP/1.1 101 Switching Protocols",
        without: Iterable[str] = (),
        extra: Iterable[tuple[str, str]] = (),
        accept: str | None = None,
    ) -> bytes:
        """Answer to the request read last (RFC 6455 section 4.2.2), however wrong."""
        match = re.search(rb"(?im)^sec-websocket-key: (.*)\r$", self.request)
        assert match, self.request
        fields = [
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Accept", accept or accept_value(match[1].decode())),
        ]
        dropped = {name.lower() for name in without}
        fields = [(name, value) for name, value in fields if name.lower() not in dropped]
        fields += list(extra)
        lines = [status_line] + [f"{name}: {value}" for name, value in fields]
        return "\r\n".join([*lines, "", ""]).encode("iso-8859-1")

    async def accept_websocket(self, then: bytes = b"") -> RawPeer:
        """Accept a connection and complete its handshake; `then` follows in the same write."""
        peer = await self.accept_request()
        await peer.send(self.response() + then)
        return peer

    def close(self) -> None:
        for peer in self.peers:
            peer.close()
        self.sock.close()


@contextlib.asynccontextmanager
async def raw_server(**kwargs: Any) -> AsyncIterator[RawListener]:
    listener = RawListener(**kwargs)
    try:
        yield listener
    finally:
        listener.close()


@contextlib.asynccontextmanager
async def client_of_raw_server(
    *, small_buffers: bool = False, **kwargs: Any
) -> AsyncIterator[tuple[ClientConnection, RawPeer]]:
    """A client of this library, connected to a raw server."""
    async with raw_server(small_buffers=small_buffers) as listener:
        accepting = asyncio.create_task(listener.accept_websocket())
        kwargs.setdefault("compression", None)
        kwargs.setdefault("close_timeout", 0.2)
        async with connect(listener.uri, **kwargs) as client:
            if small_buffers:
                shrink_buffers(client.transport.get_extra_info("socket"))
            yield client, await accepting


# Servers and connections of the library


def port_of(server: Server) -> int:
    port: int = next(iter(server.sockets)).getsockname()[1]
    return port


def uri_of(server: Server, path: str = "/", scheme: str = "ws") -> str:
    return f"{scheme}://127.0.0.1:{port_of(server)}{path}"


async def echo(ws: ServerConnection) -> None:
    async for message in ws:
        await ws.send(message)


@contextlib.contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Only what nothing refers to is freed."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def idle(ws: ServerConnection) -> None:
    """A handler that neither reads nor writes, until the connection is gone."""
    await ws.wait_closed()


def serving(handler: Callable[[ServerConnection], Awaitable[None]] = echo, **kwargs: Any) -> serve:
    """`serve` on a free port of the loopback interface."""
    kwargs.setdefault("compression", None)
    return serve(handler, "127.0.0.1", 0, **kwargs)


def connecting(server: Server, path: str = "/", **kwargs: Any) -> connect:
    """`connect` to a server started by `serving`."""
    kwargs.setdefault("compression", None)
    return connect(uri_of(server, path), **kwargs)


@contextlib.asynccontextmanager
async def server_connection(
    **kwargs: Any,
) -> AsyncIterator[tuple[Server, asyncio.Future[ServerConnection]]]:
    """A server whose first connection the test drives itself.

    Its handler ends with the context, or with the connection.
    """
    arrived: asyncio.Future[ServerConnection] = asyncio.get_running_loop().create_future()
    release = asyncio.Event()

    async def handler(ws: ServerConnection) -> None:
        if not arrived.done():
            arrived.set_result(ws)
        await release.wait()

    async with serving(handler, **kwargs) as server:
        try:
            yield server, arrived
        finally:
            release.set()


@contextlib.asynccontextmanager
async def pair(
    client: dict[str, Any] | None = None, server: dict[str, Any] | None = None
) -> AsyncIterator[tuple[ClientConnection, ServerConnection]]:
    """Both ends of one connection. The arguments go to `connect` and to `serve`."""
    async with (
        server_connection(**(server or {})) as (running, arrived),
        connecting(running, **(client or {})) as client_side,
    ):
        yield client_side, await within(arrived)


@contextlib.asynccontextmanager
async def server_of_raw_client(
    *, small_buffers: bool = False, **kwargs: Any
) -> AsyncIterator[tuple[ServerConnection, RawPeer]]:
    """A server connection driven by the test, and its raw client."""
    kwargs.setdefault("close_timeout", 0.2)
    async with (
        server_connection(**kwargs) as (server, arrived),
        raw_client(server, small_buffers=small_buffers) as peer,
    ):
        ws = await within(arrived)
        if small_buffers:
            shrink_buffers(ws.transport.get_extra_info("socket"))
        yield ws, peer


# Waiting


async def within(awaitable: Awaitable[T], seconds: float = PATIENCE) -> T:
    """Await with a deadline that only a broken library reaches."""
    async with asyncio.timeout(seconds):
        return await awaitable


async def until(condition: Callable[[], Any], what: str = "") -> None:
    """Wait for a condition nothing signals."""
    for _ in range(int(PATIENCE / 0.005)):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError(f"never happened: {what or condition}")


async def turns(count: int = 10) -> None:
    """Let the event loop go round."""
    for _ in range(count):
        await asyncio.sleep(0)


async def stalled(task: asyncio.Future[Any], progress: Callable[[], Any]) -> bool:
    """Whether `task` waits: unfinished while `progress()` stays the same for a while."""
    seen = object()
    quiet = 0
    while quiet < 10:
        await asyncio.sleep(0.01)
        if task.done():
            return False
        now = progress()
        quiet = quiet + 1 if now == seen else 0
        seen = now
    return True


def rss() -> int:
    """Resident memory of this process in bytes (Linux)."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# TLS


@dataclass(frozen=True)
class TLS:
    """A throw-away authority, a server certificate and both contexts."""

    authority: trustme.CA
    server: ssl.SSLContext
    client: ssl.SSLContext


def make_tls() -> TLS:
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost", "test.example").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return TLS(authority, server, client)


async def drain_messages(ws: Any) -> tuple[list[str | bytes], ConnectionClosed]:
    """Receive until the connection ends: the messages, and how it ended."""
    messages = []
    while True:
        try:
            messages.append(await within(ws.recv()))
        except ConnectionClosed as exc:
            return messages, exc


def causes(exc: BaseException | None) -> list[BaseException]:
    """The chain of causes below an exception."""
    chain = []
    while exc is not None and exc.__cause__ is not None:
        exc = exc.__cause__
        chain.append(exc)
    return chain


def escaped(text: str) -> str:
    """What is shown of what a stranger has sent: nothing that controls a terminal."""
    return re.sub(r"[\x00-\x1f\x7f]", lambda match: f"\\x{ord(match[0]):02x}", text)


def noise(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Log records that would disturb an operator: warnings, errors and tracebacks."""
    return [
        f"{record.name} {record.levelname} {record.getMessage()}"
        for record in caplog.records
        if record.levelno >= logging.WARNING or (record.exc_info and record.levelno > logging.DEBUG)
    ]
