"""The same over TLS."""

from __future__ import annotations

import asyncio
import logging
import pathlib
import socket
import ssl

import pytest

from websockets.asyncio.client import connect, unix_connect
from websockets.asyncio.server import ServerConnection, unix_serve
from websockets.exceptions import ConnectionClosedError
from websockets.protocol import State

from ..helpers import (
    TLS,
    drain_messages,
    echo,
    idle,
    noise,
    port_of,
    raw_socket,
    serving,
    stalled,
    until,
    uri_of,
    within,
)


async def test_echo(tls: TLS) -> None:
    async with serving(echo, ssl=tls.server) as server:
        async with connect(
            uri_of(server, scheme="wss"), ssl=tls.client, compression=None
        ) as client:
            ssl_object = client.transport.get_extra_info("ssl_object")
            assert ssl_object.version().startswith("TLSv1.")
            for message in ("text", b"binary", "", b"x" * 1_000_000, ["frag", "ments"]):
                await client.send(message)
                expected = "fragments" if isinstance(message, list) else message
                assert await within(client.recv()) == expected
            await within(await client.ping())
        assert client.close_code == 1000


async def test_many_small_messages(tls: TLS) -> None:
    """Several messages share a record and a read: none is lost, none is mixed up."""
    async with serving(echo, ssl=tls.server) as server:
        async with connect(
            uri_of(server, scheme="wss"), ssl=tls.client, compression=None
        ) as client:

            async def send() -> None:
                for i in range(2000):
                    await client.send(f"message {i}")

            sending = asyncio.create_task(send())
            for i in range(2000):
                assert await within(client.recv()) == f"message {i}"
            await sending


async def test_debug_log_of_the_end(tls: TLS, caplog: pytest.LogCaptureFixture) -> None:
    """TLS cannot be closed one way."""
    caplog.set_level(logging.DEBUG, "websockets")
    async with serving(echo, ssl=tls.server) as server:
        async with connect(uri_of(server, scheme="wss"), ssl=tls.client):
            pass
    assert "x closing TCP connection" in caplog.messages
    assert "x half-closing TCP connection" not in caplog.messages


async def test_large_messages_both_ways(tls: TLS) -> None:
    async with serving(echo, ssl=tls.server, max_size=None) as server:
        async with connect(
            uri_of(server, scheme="wss"), ssl=tls.client, compression=None, max_size=None
        ) as client:
            big = bytes(range(256)) * 16384
            sending = asyncio.create_task(client.send(big))
            assert await within(client.recv()) == big
            await within(sending)


async def test_close_codes(tls: TLS) -> None:
    async with serving(idle, ssl=tls.server) as server:
        async with connect(
            uri_of(server, scheme="wss"), ssl=tls.client, compression=None
        ) as client:
            server.close(code=1012, reason="back soon")
            _, exc = await drain_messages(client)
            words = "1012 (service restart) back soon"
            assert str(exc) == f"received {words}; then sent {words}"


async def test_server_hostname(tls: TLS) -> None:
    """`server_hostname` is what the certificate is checked against; `Host` follows the URI."""
    async with serving(echo, ssl=tls.server) as server:
        async with connect(
            uri_of(server, scheme="wss"),
            ssl=tls.client,
            server_hostname="test.example",
            compression=None,
        ) as client:
            assert client.request.headers["Host"] == f"127.0.0.1:{port_of(server)}"
        async with connect(
            "wss://test.example/",
            sock=socket.create_connection(("127.0.0.1", port_of(server))),
            ssl=tls.client,
            compression=None,
        ) as client:
            assert client.request.headers["Host"] == "test.example"


async def test_over_a_unix_socket(tls: TLS, tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "socket")
    async with (
        unix_serve(echo, path, ssl=tls.server),
        unix_connect(path, ssl=tls.client, server_hostname="127.0.0.1") as client,
    ):
        assert client.transport.get_extra_info("ssl_object") is not None
        await client.send("hello")
        assert await within(client.recv()) == "hello"


async def test_untrusted_certificate(tls: TLS, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(echo, ssl=tls.server) as server:
        with pytest.raises(ssl.SSLCertVerificationError):
            await connect(uri_of(server, scheme="wss"), compression=None)
        with pytest.raises(ssl.SSLCertVerificationError):
            await connect(
                uri_of(server, scheme="wss"), ssl=tls.client, server_hostname="other.example"
            )
    assert noise(caplog) == []


async def test_plain_client_at_a_tls_server(tls: TLS, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(echo, ssl=tls.server) as server:
        async with raw_socket(server) as peer:
            await peer.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await peer.read_to_end()
        async with connect(
            uri_of(server, scheme="wss"), ssl=tls.client, compression=None
        ) as client:
            await client.send("still here")
            assert await within(client.recv()) == "still here"
    assert [line for line in noise(caplog) if line.startswith("websockets")] == []


async def test_tls_client_at_a_plain_server(tls: TLS, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(echo, open_timeout=1) as server:
        with pytest.raises(OSError):
            await connect(uri_of(server, scheme="wss"), ssl=tls.client, compression=None)
    assert noise(caplog) == []


def test_ssl_must_not_be_none_for_wss() -> None:
    """`ssl=None` would mean no TLS at all: not what wss:// asks for."""
    with pytest.raises(ValueError, match="^ssl=None is incompatible with a wss:// URI$"):
        asyncio.run(connect("wss://127.0.0.1:9/", ssl=None).__aenter__())


async def test_backpressure(tls: TLS) -> None:
    """A handler that does not read blocks the client's `send`, over TLS too."""
    async with serving(idle, ssl=tls.server, close_timeout=0.1) as server:
        async with connect(
            uri_of(server, scheme="wss"), ssl=tls.client, compression=None, close_timeout=0.1
        ) as client:
            sent = 0

            async def flood() -> None:
                nonlocal sent
                while True:
                    await client.send(b"x" * 65536)
                    sent += 65536

            flooding = asyncio.create_task(flood())
            assert await stalled(flooding, lambda: sent)
            assert sent < 50_000_000
            flooding.cancel()
            await asyncio.wait([flooding])


async def test_connection_lost(tls: TLS) -> None:
    async with serving(idle, ssl=tls.server) as server:
        async with connect(
            uri_of(server, scheme="wss"), ssl=tls.client, compression=None
        ) as client:
            for connection in server.connections:
                connection.transport.abort()
            with pytest.raises(ConnectionClosedError, match="^no close frame received or sent$"):
                await within(client.recv())
            assert client.state is State.CLOSED


@pytest.mark.parametrize("scheme", ["ws", "wss"])
async def test_write_limit_of_zero(tls: TLS, scheme: str) -> None:
    """`send` waits until everything has left, which TLS never calls "less than nothing"."""

    async def read(ws: ServerConnection) -> None:
        async for message in ws:
            received.append(len(message))

    received: list[int] = []
    secure = scheme == "wss"
    sizes = [300_000 if i % 10 == 0 else 100 for i in range(30)]
    async with serving(read, ssl=tls.server if secure else None) as server:
        async with connect(
            uri_of(server, scheme=scheme),
            ssl=tls.client if secure else None,
            compression=None,
            write_limit=0,
            close_timeout=0.1,
        ) as client:
            for size in sizes:
                await within(client.send(b"x" * size), 5)
            await until(lambda: received == sizes)


async def test_close_timeout_of_zero(tls: TLS) -> None:
    """It is no time for the TLS shutdown either, which event loops refuse to be told."""
    async with serving(echo, ssl=tls.server, close_timeout=0) as server:
        async with connect(uri_of(server, scheme="wss"), ssl=tls.client) as client:
            await client.send("hello")
            assert await within(client.recv()) == "hello"
            (connection,) = server.connections
            client.transport.pause_reading()  # it does not answer
            await within(connection.close(), 1)
            client.transport.abort()
