"""Proxies for the tests, written without the code under test: HTTP CONNECT, SOCKS4 and SOCKS5."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

OPENED = b"HTTP/1.1 200 Connection established\r\n\r\n"

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Proxy:
    """What a proxy was asked, and how it answers."""

    scheme: str
    # What an HTTP proxy answers; None for nothing at all.
    answer: bytes | None = OPENED
    # What is sent in the same segment as the answer, as if it came from the server.
    early: bytes = b""
    # Whether it keeps the connection, and says nothing more, instead of opening the tunnel.
    hangs: bool = False
    # What a SOCKS proxy answers.
    reply: int = 0
    # User name and password that a SOCKS5 proxy wants.
    user_info: tuple[bytes, bytes] | None = None
    # Where tunnels lead; where they were asked to unless given.
    target: tuple[str, int] | None = None
    port: int = 0
    # Where tunnels were asked to lead.
    targets: list[tuple[str, int]] = field(default_factory=list)
    # What HTTP proxies were sent.
    requests: list[bytes] = field(default_factory=list)
    # Names that clients have asked for in TLS.
    server_names: list[str | None] = field(default_factory=list)
    # How many connections have come, and how many are left.
    accepted: int = 0
    left: int = 0

    @property
    def url(self) -> str:
        return self.url_with("")

    def url_with(self, user_info: str) -> str:
        return f"{self.scheme}://{user_info}127.0.0.1:{self.port}"


class Refused(Exception):
    """The tunnel is not opened."""


async def serve_http(proxy: Proxy, reader: asyncio.StreamReader, writer: Any) -> tuple[str, int]:
    request = await reader.readuntil(b"\r\n\r\n")
    proxy.requests.append(request)
    method, target, _ = request.split(b"\r\n")[0].decode().split(" ")
    assert method == "CONNECT"
    host, _, port = target.rpartition(":")
    if proxy.answer is None:
        await reader.read()
        raise Refused
    writer.write(proxy.answer + proxy.early)
    if not proxy.answer.startswith((b"HTTP/1.1 2", b"HTTP/1.0 2", b"HTTP/1.1 1")):
        raise Refused
    return host.strip("[]"), int(port)


async def serve_socks4(proxy: Proxy, reader: asyncio.StreamReader, writer: Any) -> tuple[str, int]:
    """SOCKS: A protocol for TCP proxy across firewalls; and SOCKS 4A."""
    version, command, port, address = struct.unpack("!BBH4s", await reader.readexactly(8))
    assert (version, command) == (4, 1)
    assert (await reader.readuntil(b"\0"))[-1:] == b"\0"
    host = socket.inet_ntoa(address)
    if address[:3] == b"\0\0\0":
        host = (await reader.readuntil(b"\0"))[:-1].decode()
    if proxy.hangs:
        await reader.read()
        raise Refused
    writer.write(struct.pack("!BBH4s", 0, 91 if proxy.reply else 90, 0, bytes(4)))
    if proxy.reply:
        raise Refused
    return host, port


async def serve_socks5(proxy: Proxy, reader: asyncio.StreamReader, writer: Any) -> tuple[str, int]:
    """RFC 1928 and RFC 1929."""
    version, count = await reader.readexactly(2)
    assert version == 5
    methods = await reader.readexactly(count)
    if proxy.hangs:
        await reader.read()
        raise Refused
    method = 0 if proxy.user_info is None else 2
    if method not in methods:
        writer.write(b"\x05\xff")
        raise Refused
    writer.write(bytes([5, method]))
    if proxy.user_info is not None:
        assert await reader.readexactly(1) == b"\x01"
        username = await reader.readexactly((await reader.readexactly(1))[0])
        password = await reader.readexactly((await reader.readexactly(1))[0])
        correct = (username, password) == proxy.user_info
        writer.write(bytes([1, not correct]))
        if not correct:
            raise Refused
    version, command, _, kind = await reader.readexactly(4)
    assert (version, command) == (5, 1)
    if kind == 1:
        host = socket.inet_ntoa(await reader.readexactly(4))
    elif kind == 3:
        host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
    else:
        assert kind == 4
        host = socket.inet_ntop(socket.AF_INET6, await reader.readexactly(16))
    (port,) = struct.unpack("!H", await reader.readexactly(2))
    writer.write(bytes([5, proxy.reply, 0, 1, 0, 0, 0, 0, 0, 0]))
    if proxy.reply:
        raise Refused
    return host, port


SERVE = {
    "http": serve_http,
    "https": serve_http,
    "socks4": serve_socks4,
    "socks4a": serve_socks4,
    "socks5": serve_socks5,
    "socks5h": serve_socks5,
}


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def relay(proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        target = await SERVE[proxy.scheme](proxy, reader, writer)
        proxy.targets.append(target)
        if proxy.hangs:
            await reader.read()
            return
        there_reader, there_writer = await asyncio.open_connection(*(proxy.target or target))
        await asyncio.gather(pump(reader, there_writer), pump(there_reader, writer))
    except (Refused, OSError, EOFError):
        pass
    finally:
        proxy.left -= 1
        writer.close()


@contextlib.asynccontextmanager
async def proxying(
    scheme: str = "http", *, tls: ssl.SSLContext | None = None, **kwargs: Any
) -> AsyncIterator[Proxy]:
    """Run a proxy on the loopback interface."""
    proxy = Proxy(scheme, **kwargs)
    tasks = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        proxy.accepted += 1
        proxy.left += 1
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        # A server would complain about a task that was cancelled.
        with contextlib.suppress(asyncio.CancelledError):
            await relay(proxy, reader, writer)

    if tls is not None:
        tls.sni_callback = lambda _, name, __: proxy.server_names.append(name)
    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if tls is not None:
            tls.sni_callback = None
