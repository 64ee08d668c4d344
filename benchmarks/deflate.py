"""
What the load generator sends to servers that compress, made and checked here.

verify() talks to a server before its turn: it offers permessage-deflate as a browser does, says
what was negotiated, and inflates the echo of messages to see that they come back as they were sent.
write_frames() compresses messages accordingly, for ``wsload -f``.

Nothing here uses a WebSocket library: the standard library's zlib compresses and inflates.
"""

from __future__ import annotations

import itertools
import random
import socket
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

# What Chrome and Safari send.
OFFER = "permessage-deflate; client_max_window_bits"
# RFC 7692 section 7.2.1: what is cut off each compressed message.
TAIL = b"\x00\x00\xff\xff"
TEXT, COMPRESSED = 0x81, 0xC1  # a whole message, with RSV1 if it is compressed
HOST = "127.0.0.1"
TIMEOUT = 20


class Wrong(Exception):
    """The server does not do what is asked of it."""


@dataclass(frozen=True)
class Negotiated:
    """The parameters of RFC 7692 section 7.1, with the defaults of those not in the response."""

    server_no_context_takeover: bool = False
    client_no_context_takeover: bool = False
    server_max_window_bits: int = 15
    client_max_window_bits: int = 15

    @classmethod
    def parse(cls, response: bytes) -> Negotiated:
        values = [
            line.split(":", 1)[1]
            for line in response.decode("latin-1").split("\r\n")
            if line.lower().startswith("sec-websocket-extensions:")
        ]
        if len(values) != 1 or "," in values[0]:
            raise Wrong(f"negotiated {values}")
        name, *parameters = (part.strip() for part in values[0].split(";"))
        if name != "permessage-deflate":
            raise Wrong(f"negotiated {values}")
        found: dict[str, Any] = {}
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            found[key.strip()] = int(value.strip().strip('"')) if value else True
        return cls(**found)


class Deflater:
    """A client's compressor, of a browser's settings."""

    def __init__(self, negotiated: Negotiated) -> None:
        self.negotiated = negotiated
        self.object = self.new()

    def new(self) -> Any:
        return zlib.compressobj(6, zlib.DEFLATED, -self.negotiated.client_max_window_bits, 8)

    def __call__(self, message: bytes) -> bytes:
        if self.negotiated.client_no_context_takeover:
            self.object = self.new()
        data: bytes = self.object.compress(message) + self.object.flush(zlib.Z_SYNC_FLUSH)
        return data.removesuffix(TAIL)


def header(first: int, length: int, masked: bool) -> bytes:
    """Header of a frame: RFC 6455 section 5.2."""
    mask = masked << 7
    if length < 126:
        return bytes([first, mask | length])
    if length < 65536:
        return bytes([first, mask | 126]) + length.to_bytes(2, "big")
    return bytes([first, mask | 127]) + length.to_bytes(8, "big")


def frames(messages: list[bytes], negotiated: Negotiated) -> tuple[list[bytes], int]:
    """
    Return frames to send, and how many of them are sent only once.

    Behind the first pass over the messages, every further one is the same: what precedes a message,
    as far back as a window reaches, is the same each time.
    """
    deflate = Deflater(negotiated)
    masks = random.Random(len(messages))
    found = []
    for message in messages + messages:
        data = deflate(message)
        key = masks.randbytes(4)
        stream = key * (len(data) // 4) + key[: len(data) % 4]
        xor = int.from_bytes(data, "big") ^ int.from_bytes(stream, "big")
        payload = xor.to_bytes(len(data), "big")
        found.append(header(COMPRESSED, len(data), True) + key + payload)
    return found, len(messages)


def write_frames(path: Path, messages: list[bytes], negotiated: Negotiated) -> float:
    """Make a file for ``wsload -f``. Returns the mean length of the payloads that are repeated."""
    made, once = frames(messages, negotiated)
    with path.open("wb") as file:
        file.write(len(made).to_bytes(4, "little") + once.to_bytes(4, "little"))
        for frame in made:
            file.write(len(frame).to_bytes(4, "little") + frame)
    return round(sum(map(payload_length, made[once:])) / (len(made) - once), 1)


def payload_length(frame: bytes) -> int:
    """Length of the payload of a masked frame."""
    return len(frame) - {126: 8, 127: 14}.get(frame[1] & 0x7F, 6)


class Connection:
    """A client on a blocking socket."""

    def __init__(self, port: int, offer: str = OFFER) -> None:
        self.sock = socket.create_connection((HOST, port), TIMEOUT)
        self.sock.sendall(
            f"GET / HTTP/1.1\r\nHost: {HOST}:{port}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Extensions: {offer}\r\n\r\n".encode()
        )
        self.file = self.sock.makefile("rb")
        response = b"".join(iter(self.file.readline, b"\r\n"))
        if not response.startswith(b"HTTP/1.1 101"):
            raise Wrong(f"handshake refused: {response[:60]!r}")
        self.negotiated = Negotiated.parse(response)
        self.inflater = self.new_inflater()

    def new_inflater(self) -> Any:
        return zlib.decompressobj(-self.negotiated.server_max_window_bits)

    def close(self) -> None:
        self.file.close()
        self.sock.close()

    def _frames(self) -> Iterator[tuple[int, bytes]]:
        while True:
            first, length = self.file.read(2)
            if length >= 126:
                length = int.from_bytes(self.file.read(2 if length == 126 else 8), "big")
            yield first, self.file.read(length)

    def receive(self) -> tuple[bytes, bool]:
        """Return a message, and whether it was compressed."""
        payload, compressed = b"", False
        for first, data in self._frames():
            if first & 15 in (9, 10):
                continue
            if first & 15 == 8:
                raise Wrong("the server closed the connection")
            payload += data
            compressed |= bool(first & 0x40)
            if first & 0x80:
                break
        if not compressed:
            return payload, False
        if self.negotiated.server_no_context_takeover:
            self.inflater = self.new_inflater()
        message: bytes = self.inflater.decompress(payload + TAIL)
        return message, True


def negotiate(port: int) -> Negotiated:
    connection = Connection(port)
    connection.close()
    return connection.negotiated


def verify(port: int, messages: list[bytes], window: int, others: int = 0) -> dict[str, Any]:
    """
    Send all messages, and some of them again, ``window`` at a time; each must come back.

    ``others`` more connections send nothing and must receive the same. Returns what was negotiated
    and what share of the answers was compressed.
    """
    connections: list[Connection] = []
    try:
        for _ in range(others + 1):
            connections.append(Connection(port))
        connection = connections[-1]
        made, once = frames(messages, connection.negotiated)
        # The end of what is sent once, and where what is repeated begins for the second time.
        sent = [*range(len(made)), *range(once, once + min(32, once))]
        count = compressed = 0
        for batch in _batches(sent, window):
            connection.sock.sendall(b"".join(made[index] for index in batch))
            for recipient, index in itertools.product(connections, batch):
                message, was_compressed = recipient.receive()
                if message != messages[index % once]:
                    raise Wrong(f"message {count} came back as {message[:60]!r}")
                count, compressed = count + 1, compressed + was_compressed
        return {
            "negotiated": asdict(connection.negotiated),
            "compressed": round(compressed / count, 3),
        }
    finally:
        for connection in connections:
            connection.close()


def _batches(items: list[int], length: int) -> Iterator[list[int]]:
    for start in range(0, len(items), length):
        yield items[start : start + length]
