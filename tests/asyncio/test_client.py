"""`connect` and `unix_connect`: how they are called, what they send, how they fail."""

from __future__ import annotations

import asyncio
import base64
import errno
import pathlib
import re
import socket
import ssl
from typing import Any

import pytest

from websockets.asyncio.client import (
    ClientConnection,
    connect,
    process_exception,
    unix_connect,
)
from websockets.asyncio.server import ServerConnection, unix_serve
from websockets.datastructures import Headers
from websockets.exceptions import InvalidMessage, InvalidStatus, InvalidURI
from websockets.http11 import Response
from websockets.protocol import State

from ..helpers import (
    accept_value,
    client_of_raw_server,
    connecting,
    echo,
    idle,
    port_of,
    raw_server,
    serving,
    uri_of,
    within,
)

# Ways of calling


async def test_async_with() -> None:
    async with serving(echo) as server:
        async with connecting(server) as client:
            assert isinstance(client, ClientConnection)
            await client.send("hello")
            assert await within(client.recv()) == "hello"
        assert client.state is State.CLOSED
        assert client.close_code == 1000


async def test_await() -> None:
    async with serving(echo) as server:
        client = await connecting(server)
        assert client.state is State.OPEN
        await client.send("hello")
        assert await within(client.recv()) == "hello"
        await client.close()


async def test_async_with_after_await() -> None:
    async with serving(echo) as server, await connecting(server) as client:
        await client.send("hello")
        assert await within(client.recv()) == "hello"


async def test_connect_as_a_task() -> None:
    async with serving(echo) as server:

        async def go() -> ClientConnection:
            return await connecting(server)

        async with await within(asyncio.create_task(go())) as client:
            assert client.state is State.OPEN


async def test_exception_in_the_context() -> None:
    async with serving(idle) as server:
        with pytest.raises(LookupError):
            async with connecting(server) as client:
                raise LookupError
        assert client.close_code == 1011


async def test_subclass_of_connect() -> None:
    class Custom(connect):
        pass

    async with serving(echo) as server:
        custom = Custom(uri_of(server), compression=None)
        assert custom.uri == uri_of(server)
        async with custom as client:
            await client.send("hello")
            assert await within(client.recv()) == "hello"


async def test_create_connection() -> None:
    class Custom(ClientConnection):
        pass

    async with serving(echo) as server, connecting(server, create_connection=Custom) as client:
        assert type(client) is Custom


# The request (RFC 6455 section 4.1)


async def test_request_on_the_wire() -> None:
    async with raw_server() as listener:
        accepting = asyncio.create_task(listener.accept_websocket())
        uri = f"ws://127.0.0.1:{listener.port}/chat?room=1"
        async with connect(uri, compression=None, close_timeout=0.1):
            await accepting
        request_line, *lines = listener.request.decode().split("\r\n")[:-2]
        assert request_line == "GET /chat?room=1 HTTP/1.1"
        headers = dict(line.split(": ", 1) for line in lines)
        assert len(headers) == len(lines)
        assert headers["Host"] == f"127.0.0.1:{listener.port}"
        assert headers["Upgrade"] == "websocket"
        assert headers["Connection"] == "Upgrade"
        assert headers["Sec-WebSocket-Version"] == "13"
        assert len(base64.b64decode(headers["Sec-WebSocket-Key"], validate=True)) == 16
        assert re.fullmatch(r"Python/3\.\d+ websockets/17\.4", headers["User-Agent"])
        assert "Sec-WebSocket-Protocol" not in headers
        assert "Sec-WebSocket-Extensions" not in headers
        assert "Origin" not in headers


async def test_keys_differ() -> None:
    """RFC 6455 section 4.1: the key is chosen at random for each connection."""
    keys = set()
    async with serving(idle) as server:
        for _ in range(5):
            async with connecting(server) as client:
                assert client.request is not None
                keys.add(client.request.headers["Sec-WebSocket-Key"])
    assert len(keys) == 5


async def test_request_headers() -> None:
    async with serving(idle) as server:
        async with connecting(
            server,
            origin="https://example.com",
            additional_headers={"X-Token": "secret"},
            user_agent_header="Tester/1",
            subprotocols=["one", "two"],
        ) as client:
            headers = client.request.headers
            assert headers["Origin"] == "https://example.com"
            assert headers["X-Token"] == "secret"
            assert headers["User-Agent"] == "Tester/1"
            assert headers["Sec-WebSocket-Protocol"] == "one, two"
            assert client.subprotocol is None
        async with connecting(
            server, additional_headers=[("X-A", "1"), ("X-A", "2")], user_agent_header=None
        ) as client:
            assert client.request.headers.get_all("X-A") == ["1", "2"]
            assert "User-Agent" not in client.request.headers
        async with connecting(server, additional_headers={"User-Agent": "Mine"}) as client:
            assert client.request.headers.get_all("User-Agent") == ["Mine"]


async def test_host_of_the_application() -> None:
    """RFC 9112 section 3.2: a request has one Host header, no more."""
    async with (
        serving(echo) as server,
        connecting(server, additional_headers={"host": "example.com"}) as client,
    ):
        assert client.request is not None
        assert client.request.headers.get_all("Host") == ["example.com"]


async def test_credentials_in_the_uri() -> None:
    async with serving(idle) as server:
        uri = f"ws://user:p%40ss@127.0.0.1:{port_of(server)}/"
        async with connect(uri, compression=None) as client:
            expected = "Basic " + base64.b64encode(b"user:p@ss").decode()
            assert client.request.headers["Authorization"] == expected


async def test_subprotocol() -> None:
    async with serving(idle, subprotocols=["two"]) as server:
        async with connecting(server, subprotocols=["one", "two"]) as client:
            assert client.subprotocol == "two"


async def test_response() -> None:
    async with serving(idle) as server, connecting(server) as client:
        response = client.response
        assert (response.status_code, response.reason_phrase) == (101, "Switching Protocols")
        key = client.request.headers["Sec-WebSocket-Key"]
        assert response.headers["Sec-WebSocket-Accept"] == accept_value(key)


async def test_messages_in_the_segment_of_the_response() -> None:
    """A server may speak at once: what follows the response is not lost."""
    async with raw_server() as listener:
        frames = b"\x81\x05first\x82\x06second\x88\x02\x03\xe8"
        accepting = asyncio.create_task(listener.accept_websocket(then=frames))
        async with connect(listener.uri, compression=None, close_timeout=0.1) as client:
            peer = await accepting
            assert (await peer.recv_frame()).close == (1000, "")
            peer.close()
            assert [message async for message in client] == ["first", b"second"]


# Where to


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("http://127.0.0.1/", "scheme isn't ws or wss"),
        ("127.0.0.1", "scheme isn't ws or wss"),
        ("ws://", "hostname isn't provided"),
        ("ws://127.0.0.1/#part", "fragment identifier is meaningless"),
    ],
)
def test_invalid_uri(uri: str, reason: str) -> None:
    with pytest.raises(InvalidURI) as raised:
        connect(uri)
    assert str(raised.value) == f"{uri} isn't a valid URI: {reason}"


async def test_refused() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        with pytest.raises(OSError):
            await connect(f"ws://127.0.0.1:{sock.getsockname()[1]}/")


async def test_existing_socket() -> None:
    async with serving(echo) as server:
        sock = socket.create_connection(("127.0.0.1", port_of(server)))
        async with connect("ws://example.com/path", sock=sock, compression=None) as client:
            assert client.request.headers["Host"] == "example.com"
            await client.send("hello")
            assert await within(client.recv()) == "hello"


async def test_other_host_and_port() -> None:
    """The request names the URI's host; the connection goes where `host` and `port` say."""
    async with serving(echo) as server:
        async with connect(
            "ws://example.com/", host="127.0.0.1", port=port_of(server), compression=None
        ) as client:
            assert client.request.headers["Host"] == "example.com"
            assert client.remote_address == ("127.0.0.1", port_of(server))


async def test_unix_socket(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "socket")
    async with unix_serve(echo, path, compression=None) as server:
        assert [sock.getsockname() for sock in server.sockets] == [path]
        async with unix_connect(path, compression=None) as client:
            assert client.request.headers["Host"] == "localhost"
            assert client.request.path == "/"
            assert client.remote_address == path
            await client.send("hello")
            assert await within(client.recv()) == "hello"
        async with unix_connect(path, uri="ws://example.com/deep", compression=None) as client:
            assert client.request.headers["Host"] == "example.com"
            assert client.request.path == "/deep"


async def test_many_messages_over_a_unix_socket(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "socket")
    async with unix_serve(echo, path, compression=None):
        async with unix_connect(path, compression=None) as client:
            for size in (0, 1, 65_536, 1_000_000):
                await client.send(b"x" * size)
                assert await within(client.recv()) == b"x" * size


async def test_loop_create_connection_is_called() -> None:
    """Callers patch the event loop to look at or to wrap the protocol."""
    loop = asyncio.get_running_loop()
    made = []

    class Factory:
        def __init__(self, factory: object) -> None:
            self.factory = factory

        def __call__(self) -> object:
            made.append(self.factory())  # type: ignore[operator]
            return made[-1]

    async with serving(idle) as server:
        client = connecting(server)
        original = loop.create_connection

        async def patched(factory: object, *args: object, **kwargs: object) -> object:
            return await original(Factory(factory), *args, **kwargs)  # type: ignore[arg-type]

        try:
            loop.create_connection = patched  # type: ignore[method-assign,assignment]
        except AttributeError:
            pytest.skip("this event loop cannot be patched")
        try:
            async with client as connection:
                assert made == [connection]
                assert made[0].protocol.uri.port == port_of(server)
        finally:
            del loop.create_connection  # type: ignore[method-assign]


# What goes wrong


async def test_rejected() -> None:
    def process_request(ws: ServerConnection, request: object) -> object:
        return ws.respond(401, "who are you?\n")

    async with serving(idle, process_request=process_request) as server:
        with pytest.raises(InvalidStatus) as raised:
            await connecting(server)
        assert str(raised.value) == "server rejected WebSocket connection: HTTP 401"
        assert raised.value.response.body == b"who are you?\n"
        assert raised.value.response.headers["Content-Type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    ("kwargs", "text"),
    [
        ({"ssl": True}, "ssl argument is incompatible with a ws:// URI"),
    ],
)
async def test_contradictions(kwargs: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError) as raised:
        await connect("ws://127.0.0.1:9/", **kwargs)
    assert str(raised.value) == text


@pytest.mark.parametrize("subprotocols", ["chat", [1], {"chat": 1}])
async def test_subprotocols_must_be_a_list_of_names(subprotocols: object) -> None:
    if subprotocols == "chat":
        with pytest.raises(TypeError, match="^subprotocols must be a list, not a str$"):
            await connect("ws://127.0.0.1:9/", subprotocols=subprotocols)
    else:
        with pytest.raises((TypeError, OSError)):
            await connect("ws://127.0.0.1:9/", subprotocols=subprotocols)


def test_unknown_compression() -> None:
    with pytest.raises(ValueError, match="^unsupported compression: zip$"):
        connect("ws://127.0.0.1:9/", compression="zip")


async def test_name_that_does_not_resolve() -> None:
    with pytest.raises(OSError):
        await within(connect("ws://nothing.invalid/").__aenter__())


class Slow(connect):
    """Whatever connects takes its time."""

    failure: Exception | None = None

    async def open_tcp_connection(self) -> ClientConnection:
        if self.failure is not None:
            raise self.failure
        await asyncio.sleep(3600)
        raise AssertionError("it was not cancelled")


async def test_timeout_while_connecting() -> None:
    with pytest.raises(TimeoutError, match="^timed out during opening handshake$"):
        await within(Slow("ws://127.0.0.1:9/", open_timeout=0.01).__aenter__())


async def test_timeout_of_tcp() -> None:
    """The operating system has its own patience; its error says so."""
    slow = Slow("ws://127.0.0.1:9/")
    slow.failure = TimeoutError(errno.ETIMEDOUT, "Connection timed out")
    with pytest.raises(TimeoutError) as raised:
        await within(slow.__aenter__())
    assert raised.value is slow.failure


async def test_transport_aborted_during_the_handshake() -> None:
    class Custom(ClientConnection):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.loop.call_later(0.02, self.transport.abort)

    async with raw_server() as listener:
        connecting = asyncio.ensure_future(
            connect(listener.uri, create_connection=Custom).__aenter__()
        )
        await listener.accept_request()
        with pytest.raises(InvalidMessage) as raised:
            await within(connecting)
        assert isinstance(raised.value.__cause__, EOFError)


def with_cause(exc: Exception, cause: Exception | None) -> Exception:
    exc.__cause__ = cause
    return exc


@pytest.mark.parametrize(
    "exc, again",
    [
        (ConnectionRefusedError(), True),
        (TimeoutError(), True),
        (ssl.SSLCertVerificationError(1, "expired"), True),
        (with_cause(InvalidMessage("cut"), EOFError()), True),
        (with_cause(InvalidMessage("bad"), ValueError()), False),
        (InvalidURI("ws:", "no host"), False),
        (EOFError(), False),
        *(
            (InvalidStatus(Response(status, "", Headers())), again)
            for status, again in [
                *((status, True) for status in (500, 502, 503, 504)),
                *((status, False) for status in (301, 400, 403, 404, 429, 501, 505)),
            ]
        ),
    ],
    ids=lambda value: str(value) or type(value).__name__,
)
def test_errors_that_are_worth_another_attempt(exc: Exception, again: bool) -> None:
    assert process_exception(exc) is (None if again else exc)


async def test_closing_waits_for_the_server_then_gives_up() -> None:
    """RFC 6455 section 7.1.1: the server closes TCP first; but a client need not wait for ever."""
    async with client_of_raw_server(close_timeout=0.1) as (client, peer):
        closing = asyncio.create_task(client.close())
        assert (await peer.recv_frame()).close == (1000, "")
        await peer.send_close()
        # The server keeps TCP open.
        await within(closing)
        assert client.state is State.CLOSED
        assert client.close_code == 1000
        await peer.read_to_end()


async def test_closing_gives_up_on_a_silent_server() -> None:
    async with client_of_raw_server(close_timeout=0.1) as (client, _):
        await within(client.close())
        assert client.state is State.CLOSED
        assert (client.close_code, client.close_reason) == (1006, "")
        assert str(client.close_exc) == "sent 1000 (OK); no close frame received"


async def test_settings_may_be_none() -> None:
    nothing = dict.fromkeys(
        ["open_timeout", "ping_interval", "ping_timeout", "close_timeout", "max_queue", "max_size"]
    )
    async with serving(echo, **nothing) as server, connecting(server, **nothing) as client:
        big = b"x" * 2_000_000
        sending = asyncio.create_task(client.send(big))
        assert await within(client.recv()) == big
        await within(sending)


async def test_the_response_that_ends_with_the_connection_is_there() -> None:
    """RFC 9112 section 6.3: without a length, the body goes on to the end of the connection."""
    seen: list[ClientConnection] = []

    class Noting(ClientConnection):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            seen.append(self)

    async with raw_server() as listener:
        connecting = asyncio.ensure_future(
            _connect(f"ws://127.0.0.1:{listener.port}/", create_connection=Noting)
        )
        peer = await listener.accept_request()
        await peer.send(b"HTTP/1.1 404 Not Found\r\n\r\nno such thing")
        peer.close()
        with pytest.raises(InvalidStatus):
            await within(connecting)
    assert seen[0].response is not None
    assert seen[0].response.body == b"no such thing"


async def _connect(uri: str, **kwargs: Any) -> ClientConnection:
    return await connect(uri, **kwargs)
