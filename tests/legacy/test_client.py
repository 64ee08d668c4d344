"""`connect` and `WebSocketClientProtocol`."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from websockets.datastructures import Headers
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHeader,
    InvalidMessage,
    InvalidUpgrade,
    InvalidURI,
    NegotiationError,
    SecurityError,
)
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.legacy.client import Connect, WebSocketClientProtocol, connect
from websockets.legacy.exceptions import InvalidStatusCode, RedirectHandshake
from websockets.legacy.server import WebSocketServer, WebSocketServerProtocol, serve
from websockets.uri import parse_uri

from ..helpers import no_garbage_collection, port_of, raw_server, turns, until, within


async def echo(ws: WebSocketServerProtocol) -> None:
    async for message in ws:
        await ws.send(message)


@asynccontextmanager
async def serving(handler: Any = echo, **kwargs: Any) -> AsyncIterator[tuple[WebSocketServer, str]]:
    async with serve(handler, "127.0.0.1", 0, **kwargs) as server:
        yield server, f"ws://127.0.0.1:{port_of(server)}/"


@asynccontextmanager
async def answering(*answers: bytes) -> AsyncIterator[tuple[str, list[str]]]:
    """A server that answers each request in turn with bytes; yields its URI and the requests."""
    requests: list[str] = []
    left = list(answers)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(left.pop(0) if len(left) > 1 else left[0])
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/", requests


def redirect(location: str, status: int = 302) -> bytes:
    return f"HTTP/1.1 {status} Moved\r\nLocation: {location}\r\n\r\n".encode()


# Ways of calling


async def test_awaiting() -> None:
    async with serving() as (_, uri):
        ws = await connect(uri)
        assert isinstance(ws, WebSocketClientProtocol)
        await ws.send("x")
        assert await ws.recv() == "x"
        await ws.close()


async def test_leaving_the_context_closes_with_1000_whatever_was_raised() -> None:
    codes = []

    async def handler(ws: WebSocketServerProtocol) -> None:
        await ws.wait_closed()
        codes.append(ws.close_code)

    async with serving(handler) as (_, uri):
        with pytest.raises(ZeroDivisionError):
            async with connect(uri) as ws:
                raise ZeroDivisionError
        assert ws.closed
    assert codes == [1000]


async def test_the_context_may_be_entered_again() -> None:
    async with serving() as (_, uri):
        connecting = connect(uri)
        async with connecting as first:
            assert connecting.protocol is first
        assert connecting.protocol is first
        async with connecting as second:
            assert connecting.protocol is second is not first


async def test_a_connection_that_is_over_is_freed_at_once() -> None:
    async with serving() as (_, uri):
        with no_garbage_collection():
            async with connect(uri) as ws:
                alive = weakref.ref(ws)
            del ws
            await until(lambda: alive() is None)


async def test_iteration_connects_again() -> None:
    async with serving() as (_, uri):
        count = 0
        connections = connect(uri)
        async for ws in connections:
            assert connections.protocol is ws
            await ws.send("x")
            assert await ws.recv() == "x"
            count += 1
            if count == 3:
                break
            await ws.close()
        await ws.close()


async def test_iteration_tries_again_whatever_went_wrong(caplog: pytest.LogCaptureFixture) -> None:
    class Quick(Connect):
        BACKOFF_INITIAL = BACKOFF_MIN = BACKOFF_MAX = 0.001

    bad = b"HTTP/1.1 404 Not Found\r\n\r\n"
    async with serving() as (server, _):
        target = f"ws://127.0.0.1:{port_of(server)}/"
        async with answering(bad, b"nonsense\r\n\r\n", redirect(target)) as (uri, requests):
            async for ws in Quick(uri):
                await ws.send("x")
                assert await ws.recv() == "x"
                await ws.close()
                break
            assert len(requests) == 3
    assert caplog.text.count("connect failed; reconnecting") <= 2


# The request


async def test_what_is_sent() -> None:
    async with answering(b"HTTP/1.1 404 Not Found\r\n\r\n") as (uri, requests):
        with pytest.raises(InvalidStatusCode) as caught:
            await connect(
                uri.replace("//", "//user:pass@") + "path?query",
                origin="http://example.com",
                extra_headers=[("X", "y")],
                subprotocols=["chat"],
                user_agent_header="test",
            )
        assert caught.value.status_code == 404
    lines = requests[0].split("\r\n")
    assert lines[0] == "GET /path?query HTTP/1.1"
    for line in (
        "Authorization: Basic dXNlcjpwYXNz",
        "Origin: http://example.com",
        "X: y",
        "Sec-WebSocket-Protocol: chat",
        "User-Agent: test",
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
    ):
        assert line in lines


@pytest.mark.parametrize(
    ("answer", "exception"),
    [
        (b"HTTP/1.1 503 No\r\nX: y\r\n\r\n", InvalidStatusCode),
        (b"nonsense\r\n\r\n", InvalidMessage),
        (b"", InvalidMessage),
        (b"HTTP/1.1 101 x\r\n\r\n", InvalidUpgrade),
        (b"HTTP/1.1 302 Moved\r\n\r\n", InvalidHeader),
        (b"HTTP/1.1 302 Moved\r\nLocation: /a\r\nLocation: /b\r\n\r\n", InvalidHeader),
        (redirect("http://example.com/"), InvalidURI),
        (redirect("/again"), SecurityError),
        (redirect("ws://example.com/", 300), InvalidStatusCode),
    ],
)
async def test_answers_that_are_refused(answer: bytes, exception: type[Exception]) -> None:
    async with answering(answer) as (uri, requests):
        with pytest.raises(exception):
            await connect(uri)
        assert len(requests) == (Connect.MAX_REDIRECTS_ALLOWED if exception is SecurityError else 1)


@pytest.mark.parametrize(
    ("uri", "arguments", "exception"),
    [
        ("http://localhost/", {}, InvalidURI),
        ("ws://localhost/", {"ssl": True}, ValueError),
        ("ws://localhost/", {"compression": "x"}, ValueError),
        ("ws://localhost/", {"subprotocols": "x"}, TypeError),
        ("ws://localhost/", {"proxy": "x"}, TypeError),
    ],
)
async def test_wrong_arguments(
    uri: str, arguments: dict[str, Any], exception: type[Exception]
) -> None:
    with pytest.raises(exception):
        await connect(uri, **arguments)


@pytest.mark.parametrize(
    ("arguments", "warning"),
    [
        ({"klass": WebSocketClientProtocol}, "rename klass to create_protocol"),
        ({"timeout": 1}, "rename timeout to close_timeout"),
        ({"loop": True}, "remove loop argument"),
    ],
    ids=["klass", "timeout", "loop"],
)
async def test_former_arguments(arguments: dict[str, Any], warning: str) -> None:
    async with serving() as (_, uri):
        with pytest.warns(DeprecationWarning, match=warning) as caught:
            ws = await connect(uri, **arguments)
        assert [str(w.message) for w in caught] == [warning]
        assert ws.close_timeout == (1 if "timeout" in arguments else 10)
        await ws.close()


async def test_open_timeout() -> None:
    async with raw_server() as listener:
        with pytest.raises(TimeoutError):
            await connect(f"ws://127.0.0.1:{listener.port}/", open_timeout=0.01)


# What was negotiated


async def test_negotiation() -> None:
    async with serving(subprotocols=["chat"]) as (_, uri):
        factory = ClientPerMessageDeflateFactory(client_max_window_bits=10)
        async with connect(uri, subprotocols=["chat"], extensions=[factory]) as ws:
            assert ws.subprotocol == "chat"
            assert [extension.name for extension in ws.extensions] == ["permessage-deflate"]
            assert ws.local_address[0] == ws.remote_address[0] == "127.0.0.1"
        async with connect(uri, compression=None) as ws:
            assert (ws.subprotocol, ws.extensions) == (None, [])


def test_checks_of_the_response() -> None:
    headers = Headers({"Sec-WebSocket-Protocol": "chat", "Sec-WebSocket-Extensions": "x-unknown"})
    assert WebSocketClientProtocol.process_subprotocol(headers, ["chat"]) == "chat"
    with pytest.raises(NegotiationError):
        WebSocketClientProtocol.process_subprotocol(headers, ["other"])
    with pytest.raises(NegotiationError):
        WebSocketClientProtocol.process_extensions(headers, [])


# Redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects(status: int) -> None:
    async with serving() as (_, target), answering(redirect(target + "x", status)) as (uri, _):
        async with connect(uri) as ws:
            assert ws.path == "/x"


async def test_subclasses_allow_fewer_redirects() -> None:
    class Impatient(connect):
        MAX_REDIRECTS_ALLOWED = 2

    async with answering(redirect("/again")) as (uri, requests):
        with pytest.raises(SecurityError, match="more than 2 redirects"):
            await Impatient(uri)
        assert len(requests) == 2


async def test_credentials_stay_with_their_origin() -> None:
    refused = b"HTTP/1.1 404 Not Found\r\n\r\n"
    async with (
        answering(refused) as (target, there),
        answering(redirect("/here"), redirect(target)) as (uri, here),
    ):
        with pytest.raises(InvalidStatusCode):
            await connect(uri, extra_headers={"Authorization": "Basic x", "Cookie": "y", "X": "z"})
    assert all("Authorization: Basic x" in request for request in here) and len(here) == 2
    assert "Authorization" not in there[0] and "Cookie" not in there[0]
    assert "X: z" in there[0]


async def test_the_handshake_by_itself_tells_of_redirects() -> None:
    async with answering(redirect("ws://example.com/")) as (uri, _):
        ws_uri = parse_uri(uri)
        loop = asyncio.get_running_loop()
        _, ws = await loop.create_connection(WebSocketClientProtocol, ws_uri.host, ws_uri.port)
        with pytest.raises(RedirectHandshake, match="redirect to ws://example.com/"):
            await ws.handshake(ws_uri)
        assert ws.response_headers["Location"] == "ws://example.com/"
        ws.fail_connection()
        await within(ws.wait_closed())


async def test_handle_redirect() -> None:
    async with serving() as (_, uri):
        connecting = connect("ws://example.com/")
        connecting.handle_redirect(uri)
        assert connecting.uri == uri
        async with connecting as ws:
            assert ws.open


async def test_the_handshake_of_a_connection_that_is_made_by_hand() -> None:
    async with serving() as (_, uri):
        ws_uri = parse_uri(uri)
        loop = asyncio.get_running_loop()
        _, ws = await loop.create_connection(WebSocketClientProtocol, ws_uri.host, ws_uri.port)
        await ws.handshake(ws_uri)
        await ws.send("x")
        assert await ws.recv() == "x"
        await ws.close()
        with pytest.raises(ConnectionClosed):
            await ws.send("y")


async def test_cancelling_connect_leaves_nothing_behind() -> None:
    async with raw_server() as listener:
        connecting = asyncio.ensure_future(_connect(f"ws://127.0.0.1:{listener.port}/"))
        peer = await within(listener.accept())
        connecting.cancel()
        await turns()
        assert connecting.cancelled()
        await within(peer.read_to_end())


async def _connect(uri: str) -> WebSocketClientProtocol:
    return await connect(uri)


async def test_subclasses_that_have_an_await_of_their_own() -> None:
    """As websockets_proxy does, which connects a socket first."""

    class Late(Connect):
        def __init__(self, uri: str) -> None:
            self.late = uri

        def __await__(self) -> Any:
            return self.begin().__await__()

        async def begin(self) -> WebSocketClientProtocol:
            super().__init__(self.late)
            return await self.__await_impl__()

    async with serving() as (_, uri), Late(uri) as ws:
        await ws.send("x")
        assert await ws.recv() == "x"
