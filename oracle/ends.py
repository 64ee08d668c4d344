"""Servers and clients for scenarios, and peers that speak TCP and nothing else."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import logging
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Server, ServerConnection, serve

from .scenario import Scenario, Track, describe

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
NAMES = {0: "cont", 1: "text", 2: "binary", 8: "close", 9: "ping", 10: "pong"}
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
MASK = bytes.fromhex("37fa213d")

#: For connections whose frames are not in an order that is fixed.
QUIET = logging.getLogger("quiet")

#: Seconds that a raw peer waits for something that has to come.
PATIENCE = 5.0


def frame(
    opcode: int,
    payload: bytes | str = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bool = False,
    length: int | None = None,
) -> bytes:
    """Return a frame (RFC 6455 section 5.2), be it valid or not.

    ``rsv`` has the three bits, RSV1 being 4. A ``length`` is announced in place of the payload's.
    """
    data = payload.encode() if isinstance(payload, str) else payload
    size = len(data) if length is None else length
    first = fin << 7 | rsv << 4 | opcode
    second = mask << 7
    if size < 126:
        head = struct.pack("!BB", first, second | size)
    elif size < 65536:
        head = struct.pack("!BBH", first, second | 126, size)
    else:
        head = struct.pack("!BBQ", first, second | 127, size)
    if not mask:
        return head + data
    return head + MASK + masking(data, MASK)


def masking(data: bytes, mask: bytes) -> bytes:
    """Mask or unmask data (section 5.3)."""
    repeated = (mask * (len(data) // 4 + 1))[: len(data)]
    return (int.from_bytes(data) ^ int.from_bytes(repeated)).to_bytes(len(data))


def masked(opcode: int, payload: bytes | str = b"", **kwargs: Any) -> bytes:
    """Return a frame as clients send it."""
    return frame(opcode, payload, mask=True, **kwargs)


def close_payload(code: int, reason: str = "") -> bytes:
    """Return the payload of a close frame (section 5.5.1)."""
    return struct.pack("!H", code) + reason.encode()


def accept_key(key: str) -> str:
    """Return the ``Sec-WebSocket-Accept`` for a key (section 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key.encode() + GUID).digest()).decode()


class Raw:
    """One end of a TCP connection. What the other end sends is written down."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, track: Track
    ) -> None:
        self.reader = reader
        self.writer = writer
        self.track = track

    # Sending

    async def send(self, *data: bytes) -> None:
        """Write bytes."""
        self.writer.write(b"".join(data))
        with contextlib.suppress(ConnectionError):
            await self.writer.drain()

    async def send_slowly(self, data: bytes, size: int = 1) -> None:
        """Write bytes in pieces, which the other end mostly reads one by one."""
        for start in range(0, len(data), size):
            await self.send(data[start : start + size])
            await asyncio.sleep(0.001)

    def eof(self) -> None:
        """End the stream in this direction."""
        self.writer.write_eof()

    def reset(self) -> None:
        """Drop the connection, with RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def close(self) -> None:
        """End the connection."""
        self.writer.close()

    # Opening handshake

    async def head(self) -> tuple[str, dict[str, str]]:
        """Read a request or response; return its first line and headers."""
        async with asyncio.timeout(PATIENCE):
            data = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = data.decode("latin-1").split("\r\n")[:-2]
        self.track.note(first)
        for line in lines:
            self.track.note(line)
        pairs = (line.split(": ", 1) for line in lines if ": " in line)
        return first, {name.lower(): value for name, value in pairs}

    async def accept(self, *headers: str, behind: bytes = b"", status: str = "") -> None:
        """Read a request; accept it, with more headers, and frames behind them."""
        _, request = await self.head()
        key = request.get("sec-websocket-key", "")
        await self.respond(
            status or "101 Switching Protocols",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Accept: {accept_key(key)}",
            *headers,
            body=behind,
        )

    async def respond(self, status: str, *headers: str, body: bytes = b"") -> None:
        """Write a response."""
        head = "\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""])
        await self.send(head.encode("latin-1") + body)

    async def request(
        self,
        path: str = "/",
        *headers: str,
        without: str = "",
        host: str = "localhost",
        method: str = "GET",
        behind: bytes = b"",
    ) -> None:
        """Write a request: a good one, but for the header it comes without."""
        lines = [
            f"Host: {host}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {KEY}",
            "Sec-WebSocket-Version: 13",
        ]
        kept = [line for line in lines if not without or not line.startswith(f"{without}:")]
        head = "\r\n".join([f"{method} {path} HTTP/1.1", *kept, *headers, "", ""])
        await self.send(head.encode("latin-1") + behind)

    async def response(self, *, body: bool = True) -> str:
        """Read a response, with its body if it has to have one; return its first line."""
        first, headers = await self.head()
        size = int(headers.get("content-length", 0))
        if body and size and "101" not in first:
            async with asyncio.timeout(PATIENCE):
                self.track.note("body", await self.reader.readexactly(size))
        return first

    async def open(self, path: str = "/", *headers: str, behind: bytes = b"") -> None:
        """Open the connection as a client does."""
        await self.request(path, *headers, behind=behind)
        await self.response()

    # Frames

    async def frame(self) -> tuple[int, bytes]:
        """Read a frame; return its opcode and payload."""
        async with asyncio.timeout(PATIENCE):
            return await self._frame()

    async def _frame(self) -> tuple[int, bytes]:
        first, second = await self.reader.readexactly(2)
        size, smallest = second & 127, 0
        if size == 126:
            (size,), smallest = struct.unpack("!H", await self.reader.readexactly(2)), 126
        elif size == 127:
            (size,), smallest = struct.unpack("!Q", await self.reader.readexactly(8)), 65536
        mask = await self.reader.readexactly(4) if second & 128 else bytes(4)
        data = await self.reader.readexactly(size)
        payload = masking(data, mask)
        opcode = first & 15
        words = [NAMES.get(opcode, f"opcode {opcode}")]
        if not first & 128:
            words.append("not final")
        words += [f"rsv{number}" for number in (1, 2, 3) if first & 128 >> number]
        if second & 128:
            words.append("masked")
        if size < smallest:
            words.append("with a length that could be shorter")
        words.append(describe(payload))
        self.track.note(" ".join(words))
        return opcode, payload

    async def end(self) -> None:
        """Read frames until the other end closes the connection."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not self.reader.at_eof():
                    await self._frame()
        except asyncio.IncompleteReadError as exc:
            if exc.partial:
                self.track.note("part of a frame", exc.partial)
            self.track.note("end of stream")
        except ConnectionError:
            self.track.note("reset")
        except TimeoutError:
            self.track.note("nothing more, and not closed")
        else:
            self.track.note("end of stream")

    async def rest(self) -> None:
        """Read what comes until the other end closes the connection."""
        try:
            async with asyncio.timeout(PATIENCE):
                self.track.note("rest", await self.reader.read())
        except ConnectionError:
            self.track.note("reset")

    async def silence(self, seconds: float = 0.05) -> None:
        """Write down whether nothing comes for a time."""
        try:
            async with asyncio.timeout(seconds):
                data = await self.reader.read(1000)
        except TimeoutError:
            self.track.note("nothing came")
        except ConnectionError:
            self.track.note("reset")
        else:
            self.track.note("came", data)

    async def close_as_client(self) -> None:
        """Send a client's close frame, and read to the end of the stream."""
        await self.send(masked(CLOSE, close_payload(1000)))
        await self.end()

    async def close_handshake(self) -> None:
        """Read frames to the close frame, answer it, and read to the end of the stream."""
        while True:
            opcode, payload = await self.frame()
            if opcode == CLOSE:
                break
        await self.send(frame(CLOSE, payload))
        self.eof()
        await self.end()


@contextlib.asynccontextmanager
async def raw_server(s: Scenario, *peers: Callable[[Raw], Awaitable[None]]) -> AsyncIterator[str]:
    """Run a server without a protocol; yield its URI.

    The first of the peers takes the first connection, and so on; the last takes all others.
    """
    tasks: list[asyncio.Task[Any]] = []
    number = 0

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal number
        peer = peers[min(number, len(peers) - 1)]
        number += 1
        track = s.track("wire" if number == 1 else f"wire {number}")
        tasks.append(asyncio.current_task())  # type: ignore[arg-type]
        try:
            await peer(Raw(reader, writer, track))
        except asyncio.IncompleteReadError as exc:
            track.note("ended early", exc.partial)
        except ConnectionError as exc:
            track.note("ended early", exc)
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    s.ports.append(port)
    try:
        yield f"ws://127.0.0.1:{port}"
        if tasks:
            done, late = await asyncio.wait(tasks, timeout=2 * PATIENCE)
            for task in done:
                task.result()
            if late:
                s.note("the raw peer never came to its end")
    finally:
        server.close()
        for task in tasks:
            task.cancel()


@contextlib.asynccontextmanager
async def raw_client(s: Scenario, server: Server, track: str = "wire") -> AsyncIterator[Raw]:
    """Connect to a server without a protocol."""
    host, port = server.sockets[0].getsockname()[:2]
    reader, writer = await asyncio.open_connection(host, port)
    s.ports.append(writer.get_extra_info("sockname")[1])
    try:
        yield Raw(reader, writer, s.track(track))
    finally:
        writer.close()


@contextlib.asynccontextmanager
async def serving(
    s: Scenario,
    handler: Callable[[ServerConnection], Awaitable[None]],
    **kwargs: Any,
) -> AsyncIterator[Server]:
    """Run a server on a free port, without compression unless asked for."""
    kwargs.setdefault("compression", None)
    async with serve(handler, "127.0.0.1", 0, **kwargs) as server:
        s.ports.append(server.sockets[0].getsockname()[1])
        yield server


def uri(server: Server, path: str = "/") -> str:
    """Return the URI of a server that :func:`serving` runs."""
    return f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}{path}"


def connecting(where: Server | str, path: str = "/", **kwargs: Any) -> connect:
    """Return what connects to a server, without compression or a proxy unless asked for."""
    kwargs.setdefault("compression", None)
    kwargs.setdefault("proxy", None)
    return connect(uri(where, path) if isinstance(where, Server) else where + path, **kwargs)


async def echo(websocket: ServerConnection) -> None:
    """Send each message back."""
    async for message in websocket:
        await websocket.send(message)


def ending(track: Track, websocket: ClientConnection | ServerConnection) -> None:
    """Write down how a connection has ended."""
    track.note("state", websocket.state)
    track.note("close code and reason", websocket.close_code, websocket.close_reason)
