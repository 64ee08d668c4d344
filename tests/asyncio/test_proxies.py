"""Connections through proxies: HTTP, HTTPS, SOCKS, and those of the environment."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import pathlib
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from websockets.asyncio import client as client_module
from websockets.asyncio.client import ClientConnection, connect, unix_connect
from websockets.asyncio.server import Server, unix_serve
from websockets.asyncio.tunnel import TunnelProtocol
from websockets.exceptions import (
    InvalidMessage,
    InvalidProxy,
    InvalidProxyMessage,
    InvalidProxyStatus,
    InvalidStatus,
    ProxyError,
)
from websockets.protocol import State
from websockets.proxy import Tunnel, parse_proxy

from ..helpers import (
    TLS,
    causes,
    connecting,
    echo,
    idle,
    make_tls,
    port_of,
    raw_server,
    serving,
    until,
    uri_of,
    within,
)
from ..proxies import OPENED, Proxy, proxying

SOCKS = ["socks4", "socks4a", "socks5", "socks5h"]


@pytest.fixture(scope="module")
def proxy_tls() -> TLS:
    """Another authority than that of servers."""
    return make_tls()


@pytest.fixture(scope="module")
def old_tls() -> TLS:
    """Version 1.2, in whose handshake the server has the last word."""
    tls = make_tls()
    tls.server.maximum_version = ssl.TLSVersion.TLSv1_2
    return tls


@contextlib.asynccontextmanager
async def echoing_through(proxy: Proxy, server: Server, **kwargs: Any) -> AsyncIterator[Any]:
    """A connection that has been used."""
    async with connecting(server, proxy=proxy.url, **kwargs) as client:
        for message in ("text", b"x" * 300_000, ["in", "fragments"]):
            await client.send(message)
            expected = "infragments" if isinstance(message, list) else message
            assert await within(client.recv()) == expected
        await within(await client.ping())
        yield client
    assert client.close_code == 1000
    await until(lambda: proxy.left == 0)


# HTTP


async def test_http() -> None:
    async with proxying() as proxy, serving(echo) as server:
        async with echoing_through(proxy, server, user_agent_header="Tester/1") as client:
            assert client.remote_address == ("127.0.0.1", proxy.port)
        target = f"127.0.0.1:{port_of(server)}".encode()
        assert proxy.requests == [
            b"CONNECT %b HTTP/1.1\r\nHost: %b\r\nUser-Agent: Tester/1\r\n\r\n" % (target, target)
        ]


async def test_tls_within_http(tls: TLS) -> None:
    async with proxying() as proxy, serving(echo, ssl=tls.server) as server:
        uri = uri_of(server, scheme="wss")
        async with connect(uri, ssl=tls.client, proxy=proxy.url, compression=None) as client:
            assert client.transport.get_extra_info("ssl_object").version().startswith("TLSv1.")
            for message in ("text", b"x" * 300_000):
                await client.send(message)
                assert await within(client.recv()) == message
        assert client.close_code == 1000


async def test_http_within_tls(proxy_tls: TLS) -> None:
    async with proxying("https", tls=proxy_tls.server) as proxy, serving(echo) as server:
        async with echoing_through(proxy, server, proxy_ssl=proxy_tls.client):
            pass
        assert proxy.server_names == [None]  # there are none for IP addresses
        async with echoing_through(
            proxy, server, proxy_ssl=proxy_tls.client, proxy_server_hostname="test.example"
        ):
            pass
        assert proxy.server_names == [None, "test.example"]


async def test_tls_within_http_within_tls(tls: TLS, proxy_tls: TLS) -> None:
    async with (
        proxying("https", tls=proxy_tls.server) as proxy,
        serving(echo, ssl=tls.server) as server,
    ):
        async with connect(
            uri_of(server, scheme="wss"),
            ssl=tls.client,
            server_hostname="localhost",
            ssl_handshake_timeout=5,
            proxy=proxy.url,
            proxy_ssl=proxy_tls.client,
            compression=None,
        ) as client:
            for message in ("text", b"x" * 300_000):
                await client.send(message)
                assert await within(client.recv()) == message
        assert client.close_code == 1000


@contextlib.asynccontextmanager
async def hasty_server(tls: TLS, answer: bytes, then: str) -> AsyncIterator[str]:
    """A server with TLS that answers in the segment in which its handshake ends.

    So that comes before whoever waits for the end of the handshake can do anything.
    """

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        session = tls.server.wrap_bio(incoming, outgoing, server_side=True)
        while True:
            try:
                session.do_handshake()
            except ssl.SSLWantReadError:
                writer.write(outgoing.read())
                # On a slow machine, a client that waits for little time is gone before.
                data = b""
                with contextlib.suppress(OSError):
                    data = await reader.read(65536)
                if not data:
                    writer.close()
                    return
                incoming.write(data)
            else:
                break
        if answer:
            session.write(answer)
        if then == "end":
            with contextlib.suppress(ssl.SSLWantReadError):
                session.unwrap()
        writer.write(outgoing.read())
        if then == "stay":
            with contextlib.suppress(OSError):
                await reader.read()
        writer.close()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    try:
        yield f"wss://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        server.close()
        await within(server.wait_closed())


REFUSAL = b"HTTP/1.1 403 No\r\nContent-Length: 3\r\n\r\nno!"


@pytest.mark.parametrize("then", ["stay", "end"])
@pytest.mark.parametrize("through", ["proxy", "no proxy"])
@pytest.mark.parametrize("answer", [REFUSAL, b"junk\r\n", b"HTTP/1.1", b""], ids=repr)
async def test_server_answers_before_it_is_asked(
    answer: bytes, through: str, then: str, old_tls: TLS
) -> None:
    async with proxying() as proxy, hasty_server(old_tls, answer, then) as uri:
        url = proxy.url if through == "proxy" else None
        with pytest.raises((InvalidStatus, InvalidMessage, TimeoutError)) as raised:
            patience = 0.05 if then == "stay" and answer in (b"", b"HTTP/1.1") else None
            await within(
                connect(uri, ssl=old_tls.client, proxy=url, open_timeout=patience).__aenter__()
            )
        expected = "did not receive a valid HTTP response"
        if patience is not None:
            expected = "timed out during opening handshake"
        elif answer == REFUSAL:
            expected = "server rejected WebSocket connection: HTTP 403"
        assert str(raised.value) == expected
        await until(lambda: proxy.left == 0)


async def test_lost_before_somebody_takes_over() -> None:
    """Whoever does is told all that has happened, in order."""
    told: list[object] = []

    class Transport(asyncio.Transport):
        def write(self, data: object) -> None:
            told.append("request")

        def pause_reading(self) -> None:
            told.append("pause")

        def set_protocol(self, protocol: object) -> None:
            assert protocol is connection

    class Connection(asyncio.Protocol):
        def connection_made(self, transport: object) -> None:
            told.append("made")

        def data_received(self, data: bytes) -> None:
            told.append(data)

        def eof_received(self) -> None:
            told.append("eof")

        def connection_lost(self, exc: Exception | None) -> None:
            told.append(exc)

    transport, connection = Transport(), Connection()
    protocol = TunnelProtocol(Tunnel(parse_proxy("http://127.0.0.1"), "127.0.0.1", 80))
    protocol.connection_made(transport)
    protocol.data_received(OPENED)
    await within(protocol.wait_opened())
    exc = ConnectionResetError()
    protocol.data_received(b"some")
    protocol.data_received(b"thing")
    protocol.eof_received()
    protocol.connection_lost(exc)
    protocol.hand_over(transport, connection)  # type: ignore[arg-type]
    assert told == ["request", "pause", "made", b"something", "eof", exc]


async def test_credentials_of_the_proxy() -> None:
    """They are for the proxy, and those of the URI for the server."""
    async with proxying() as proxy, serving(idle) as server:
        uri = f"ws://me:mine@127.0.0.1:{port_of(server)}/"
        async with connect(uri, proxy=proxy.url_with("us%40er:p%C3%A9@")) as client:
            value = base64.b64encode("us@er:p\xe9".encode())
            assert b"\r\nProxy-Authorization: Basic %b\r\n" % value in proxy.requests[0]
            assert b"\r\nAuthorization" not in proxy.requests[0]
            mine = base64.b64encode(b"me:mine").decode()
            assert client.request.headers["Authorization"] == f"Basic {mine}"
            assert "Proxy-Authorization" not in client.request.headers


async def test_headers_are_not_for_the_proxy() -> None:
    async with proxying() as proxy, serving(idle) as server:
        async with connecting(
            server,
            proxy=proxy.url,
            user_agent_header=None,
            additional_headers={"X-Secret": "1", "Host": "example.com"},
        ) as client:
            assert client.request.headers["X-Secret"] == "1"
            target = f"127.0.0.1:{port_of(server)}".encode()
            assert proxy.requests == [b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (target, target)]


async def test_names_are_resolved_by_the_proxy() -> None:
    async with serving(echo) as server, proxying(target=("127.0.0.1", port_of(server))) as proxy:
        async with connect("ws://server.invalid/", proxy=proxy.url) as client:
            assert client.request.headers["Host"] == "server.invalid"
        assert proxy.targets == [("server.invalid", 80)]


async def test_other_host_and_port() -> None:
    """They say where the tunnel leads. 17.4 raises TypeError."""
    async with proxying() as proxy, serving(echo) as server:
        async with connect(
            "ws://example.com/", host="127.0.0.1", port=port_of(server), proxy=proxy.url
        ) as client:
            assert client.request.headers["Host"] == "example.com"
        assert proxy.targets == [("127.0.0.1", port_of(server))]


async def test_arguments_of_the_connection_to_the_proxy() -> None:
    async with proxying() as proxy, serving(echo) as server:
        async with connecting(
            server,
            proxy=proxy.url,
            family=socket.AF_INET6,
            proxy_family=socket.AF_INET,
            proxy_local_addr=("127.0.0.1", 0),
        ):
            assert proxy.accepted == 1
        with pytest.raises(OSError):
            await connecting(server, proxy=proxy.url, family=socket.AF_INET6)


async def test_early_data() -> None:
    """What comes with the answer is not the server's. It would be taken for it otherwise."""
    async with proxying(early=b"HTTP/1.1 101 Switching Protocols\r\n\r\n") as proxy:
        async with serving(idle) as server:
            with pytest.raises(InvalidProxyMessage):
                await within(connecting(server, proxy=proxy.url).__aenter__())
            await until(lambda: proxy.left == 0)


async def test_refused_by_the_proxy() -> None:
    answer = b"HTTP/1.1 407 Who?\r\nProxy-Authenticate: Basic\r\nContent-Length: 4\r\n\r\nwho?"
    async with proxying(answer=answer) as proxy:
        with pytest.raises(InvalidProxyStatus) as raised:
            await within(connect("ws://server.invalid/", proxy=proxy.url).__aenter__())
        assert str(raised.value) == "proxy rejected connection: HTTP 407"
        assert raised.value.response.headers["Proxy-Authenticate"] == "Basic"
        await until(lambda: proxy.left == 0)


@pytest.mark.parametrize("answer", [b"junk\r\n\r\n", b"", b"HTTP/1.1 200"], ids=repr)
async def test_malformed_answer(answer: bytes) -> None:
    async with proxying(answer=answer) as proxy:
        with pytest.raises(InvalidProxyMessage) as raised:
            await within(connect("ws://server.invalid/", proxy=proxy.url).__aenter__())
        assert str(raised.value) == "did not receive a valid HTTP response from proxy"
        await until(lambda: proxy.left == 0)


async def test_proxy_resets_the_connection() -> None:
    async with raw_server() as listener:
        url = f"http://127.0.0.1:{listener.port}"
        connecting = asyncio.ensure_future(connect("ws://server.invalid/", proxy=url).__aenter__())
        (await listener.accept_request()).reset()
        with pytest.raises(InvalidProxyMessage) as raised:
            await within(connecting)
        assert [type(exc) for exc in causes(raised.value)] == [
            EOFError,
            EOFError,
            ConnectionResetError,
        ]


async def test_server_is_not_there() -> None:
    """Some proxies know that when it is too late to say so."""
    async with proxying(target=("127.0.0.1", 1)) as proxy:
        with pytest.raises(InvalidMessage) as raised:
            await within(connect("ws://server.invalid/", proxy=proxy.url).__aenter__())
        assert isinstance(raised.value.__cause__, EOFError)


async def test_proxy_is_not_there() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        with pytest.raises(ConnectionRefusedError):
            await connect("ws://server.invalid/", proxy=url)


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_certificate_of_the_proxy_or_of_the_server(
    scheme: str, tls: TLS, proxy_tls: TLS, on_uvloop: bool
) -> None:
    """Each has an authority of its own, which does not speak for the other."""
    if scheme == "https" and not on_uvloop and sys.version_info < (3, 13):
        pytest.skip("this asyncio cannot tell that TLS within TLS has failed")
    async with (
        proxying(scheme, tls=proxy_tls.server if scheme == "https" else None) as proxy,
        serving(idle, ssl=tls.server) as server,
    ):
        kwargs: dict[str, Any] = {"ssl": proxy_tls.client}
        if scheme == "https":
            kwargs["proxy_ssl"] = proxy_tls.client
        uri = uri_of(server, scheme="wss")
        with pytest.raises(ssl.SSLCertVerificationError):
            await within(connect(uri, proxy=proxy.url, **kwargs).__aenter__())
        assert len(proxy.requests) == 1
        if scheme == "https":
            for wrong in ({"proxy_ssl": tls.client}, {}, {"proxy_ssl": True}):
                with pytest.raises(ssl.SSLCertVerificationError):
                    await within(
                        connect(uri, ssl=tls.client, proxy=proxy.url, **wrong).__aenter__()
                    )
            assert len(proxy.requests) == 1, "nothing is said to a stranger"
        await until(lambda: proxy.left == 0)


# Time


@pytest.mark.parametrize("stage", ["proxy", "server", "tls"])
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_open_timeout(scheme: str, stage: str, proxy_tls: TLS) -> None:
    """It is for all that happens until the connection is open, and then nothing is left."""
    answer = None if stage == "proxy" else OPENED
    secure = proxy_tls.server if scheme == "https" else None
    async with proxying(scheme, tls=secure, answer=answer, hangs=True) as proxy:
        kwargs = {"proxy_ssl": proxy_tls.client} if secure else {}
        uri = "wss://server.invalid/" if stage == "tls" else "ws://server.invalid/"
        open_timeout = 0.05
        while not proxy.requests:  # on a busy machine, TLS with the proxy takes longer
            with pytest.raises(TimeoutError, match="^timed out during opening handshake$"):
                connecting = connect(uri, proxy=proxy.url, open_timeout=open_timeout, **kwargs)
                await within(connecting.__aenter__())
            await until(lambda: proxy.left == 0)
            open_timeout *= 5
        assert len(proxy.requests) == 1


@pytest.mark.parametrize("scheme", ["http", "https", "socks5h"])
async def test_cancelled_at_any_moment(scheme: str, tls: TLS, proxy_tls: TLS) -> None:
    """Nothing is left behind: no task, no socket, no warning."""
    secure = proxy_tls.server if scheme == "https" else None
    async with (
        proxying(scheme, tls=secure) as proxy,
        serving(idle, ssl=tls.server) as server,
    ):
        kwargs: dict[str, Any] = {"proxy_ssl": proxy_tls.client} if secure else {}
        opened = False
        for steps in itertools.count():
            opening = asyncio.ensure_future(
                connect(
                    uri_of(server, scheme="wss"), ssl=tls.client, proxy=proxy.url, **kwargs
                ).__aenter__()
            )
            for _ in range(steps):
                await asyncio.sleep(0)
                # What goes through the other tasks takes time.
                if steps % 2:
                    await asyncio.sleep(0.001)
            opening.cancel()
            try:
                client = await within(opening)
            except asyncio.CancelledError:
                continue
            await client.close()
            opened = True
            break
        assert opened
        await until(lambda: proxy.left == 0)


# SOCKS


@pytest.mark.parametrize("scheme", SOCKS)
async def test_socks(scheme: str) -> None:
    async with proxying(scheme) as proxy, serving(echo) as server:
        async with echoing_through(proxy, server) as client:
            assert client.remote_address == ("127.0.0.1", proxy.port)
        assert proxy.targets == [("127.0.0.1", port_of(server))]


@pytest.mark.parametrize("scheme", SOCKS)
async def test_who_resolves_names(scheme: str) -> None:
    remotely = scheme in ("socks4a", "socks5h")
    async with serving(echo) as server:
        async with proxying(scheme, target=("127.0.0.1", port_of(server))) as proxy:
            if remotely:
                async with connect("ws://server.invalid:81/", proxy=proxy.url):
                    assert proxy.targets == [("server.invalid", 81)]
            else:
                with pytest.raises(socket.gaierror):
                    await within(connect("ws://server.invalid/", proxy=proxy.url).__aenter__())
                assert proxy.targets == []
                async with connect(
                    "ws://server.invalid/", host="127.0.0.1", port=82, proxy=proxy.url
                ):
                    assert proxy.targets == [("127.0.0.1", 82)]


async def test_tls_within_socks(tls: TLS) -> None:
    async with proxying("socks5h") as proxy, serving(echo, ssl=tls.server) as server:
        uri = uri_of(server, scheme="wss")
        # Neither is TLS spoken with the proxy.
        async with connect(uri, ssl=tls.client, proxy=proxy.url, proxy_ssl=tls.client) as client:
            await client.send("hello")
            assert await within(client.recv()) == "hello"


async def test_certificate_behind_socks(tls: TLS, proxy_tls: TLS) -> None:
    async with proxying("socks5h") as proxy, serving(idle, ssl=tls.server) as server:
        uri = uri_of(server, scheme="wss")
        with pytest.raises(ssl.SSLCertVerificationError):
            await within(connect(uri, ssl=proxy_tls.client, proxy=proxy.url).__aenter__())
        await until(lambda: proxy.left == 0)


async def test_credentials_of_a_socks_proxy() -> None:
    async with proxying("socks5", user_info=(b"us@er", b"pass")) as proxy, serving(idle) as server:
        async with connecting(server, proxy=proxy.url_with("us%40er:pass@")):
            pass
        for user_info in ("", "us%40er:wrong@"):
            with pytest.raises(ProxyError) as raised:
                await within(connecting(server, proxy=proxy.url_with(user_info)).__aenter__())
            assert str(raised.value) == "failed to connect to SOCKS proxy"
            assert raised.value.__cause__ is not None
        await until(lambda: proxy.left == 0)


@pytest.mark.parametrize("scheme", SOCKS)
async def test_refused_by_a_socks_proxy(scheme: str) -> None:
    async with proxying(scheme, reply=1) as proxy:
        with pytest.raises(ProxyError) as raised:
            await within(connect("ws://127.0.0.1:9/", proxy=proxy.url).__aenter__())
        assert str(raised.value) == "failed to connect to SOCKS proxy"
        await until(lambda: proxy.left == 0)


async def test_socks_proxy_is_not_there() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        url = f"socks5h://127.0.0.1:{sock.getsockname()[1]}"
        with pytest.raises(OSError):
            await connect("ws://server.invalid/", proxy=url)


async def test_open_timeout_of_socks() -> None:
    async with proxying("socks5h", hangs=True) as proxy:
        with pytest.raises(TimeoutError, match="^timed out during opening handshake$"):
            await within(
                connect("ws://server.invalid/", proxy=proxy.url, open_timeout=0.05).__aenter__()
            )
        await until(lambda: proxy.left == 0)


async def test_cancelled_within_socks(tls: TLS) -> None:
    """The next socket is not taken for one that the event loop has yet to forget."""
    async with proxying("socks5h") as proxy, serving(idle, ssl=tls.server) as server:
        for steps in range(40):
            opening = asyncio.ensure_future(
                connect(uri_of(server, scheme="wss"), ssl=tls.client, proxy=proxy.url).__aenter__()
            )
            for _ in range(steps):
                await asyncio.sleep(0)
            opening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                client = await within(opening)
                await client.close()
        await until(lambda: proxy.left == 0)


async def test_wrong_arguments_with_socks() -> None:
    async with proxying("socks5h") as proxy, serving(idle) as server:
        with pytest.raises(TypeError, match="nonsense"):
            await connect(uri_of(server), proxy=proxy.url, nonsense=True)
        await until(lambda: proxy.left == 0)


async def test_without_python_socks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "python_socks", None)
    with pytest.raises(ImportError) as raised:
        await connect("ws://server.invalid/", proxy="socks5h://127.0.0.1:9")
    assert str(raised.value) == (
        "connecting through a SOCKS proxy requires python-socks: pip install python-socks[asyncio]"
    )


# Choice


async def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    async with proxying() as proxy, serving(echo) as server:
        monkeypatch.setenv("http_proxy", proxy.url)
        async with connecting(server):
            pass
        assert proxy.accepted == 1
        async with connecting(server, proxy=None):
            pass
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        async with connecting(server):
            pass
        assert proxy.accepted == 1


async def test_not_for_sockets(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    path = str(tmp_path / "socket")
    async with serving(echo) as server, unix_serve(echo, path):
        sock = socket.create_connection(("127.0.0.1", port_of(server)))
        async with connect(uri_of(server), sock=sock):
            pass
        async with unix_connect(path):
            pass
        async with unix_connect(path, proxy="http://127.0.0.1:1"):
            pass


async def test_get_proxy_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Callers replace it in the module. It is asked for each attempt."""
    asked = []
    async with proxying() as proxy, serving(echo) as server:

        def get_proxy(uri: Any) -> str:
            asked.append(uri.port)
            return proxy.url

        monkeypatch.setattr(client_module, "get_proxy", get_proxy)
        async with connecting(server):
            pass
        async with connecting(server, proxy=None):
            pass
        assert asked == [port_of(server)]
        assert proxy.accepted == 1


@pytest.mark.parametrize(
    ("proxy", "uri", "kwargs", "text"),
    [
        (
            "http",
            "ws",
            {"proxy_ssl": True},
            "proxy_ssl argument is incompatible with an http:// proxy",
        ),
        (
            "https",
            "ws",
            {"proxy_ssl": None},
            "proxy_ssl=None is incompatible with an https:// proxy",
        ),
        # 17.4 sends credentials without TLS then.
        (
            "https",
            "ws",
            {"proxy_ssl": False},
            "proxy_ssl=False is incompatible with an https:// proxy",
        ),
        ("http", "ws", {"ssl": True}, "ssl argument is incompatible with a ws:// URI"),
        ("http", "wss", {"ssl": None}, "ssl=None is incompatible with a wss:// URI"),
        ("http", "ws", {"server_hostname": "a"}, "server_hostname is only meaningful with ssl"),
        (
            "http",
            "ws",
            {"ssl_handshake_timeout": 1},
            "ssl_handshake_timeout is only meaningful with ssl",
        ),
        ("socks5h", "ws", {"server_hostname": "a"}, "server_hostname is only meaningful with ssl"),
    ],
)
async def test_contradictions(proxy: str, uri: str, kwargs: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError) as raised:
        await connect(f"{uri}://127.0.0.1:9/", proxy=f"{proxy}://127.0.0.1:9", **kwargs)
    assert str(raised.value) == text


async def test_none_contradicts_nothing() -> None:
    async with proxying() as proxy, serving(idle) as server:
        nothing = {"ssl": None, "server_hostname": None, "proxy_ssl": None}
        async with connecting(server, proxy=proxy.url, **nothing) as client:
            assert client.state is State.OPEN


async def test_invalid_proxy() -> None:
    client = connect("ws://127.0.0.1:9/", proxy="ftp://127.0.0.1:9")
    with pytest.raises(InvalidProxy) as raised:
        await client
    assert str(raised.value) == (
        "ftp://127.0.0.1:9 isn't a valid proxy: scheme ftp isn't supported"
    )


async def test_arguments_for_a_proxy_that_is_not_there() -> None:
    """A program need not know whether the environment has one. 17.4 raises TypeError."""
    async with serving(idle) as server:
        async with connecting(server, proxy_ssl=ssl.create_default_context()) as client:
            assert client.state is State.OPEN


async def test_class_of_the_connection_that_fails() -> None:
    """Whatever fails once the tunnel is open, nothing is left."""

    class Custom(ClientConnection):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            raise LookupError

    for scheme in ("http", "socks5h"):
        async with proxying(scheme) as proxy, serving(idle) as server:
            with pytest.raises(LookupError):
                await within(
                    connecting(server, proxy=proxy.url, create_connection=Custom).__aenter__()
                )
            await until(lambda proxy=proxy: proxy.left == 0)
