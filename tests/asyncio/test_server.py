"""`serve`, `unix_serve` and `Server`: starting, deciding about handshakes, closing."""

from __future__ import annotations

import asyncio
import http
import inspect
import logging
import pathlib
import re
import socket
from collections.abc import Callable
from typing import Any

import pytest

from websockets.asyncio.client import unix_connect
from websockets.asyncio.server import Server, ServerConnection, serve, unix_serve
from websockets.exceptions import (
    ConnectionClosed,
    InvalidStatus,
    NegotiationError,
    ProtocolError,
)
from websockets.frames import Close
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.typing import Origin, Subprotocol

from ..helpers import (
    CLOSE,
    PING,
    PONG,
    TEXT,
    RawPeer,
    RawResponse,
    accept_value,
    causes,
    client_frame,
    connecting,
    drain_messages,
    echo,
    idle,
    no_garbage_collection,
    noise,
    pair,
    port_of,
    raw_client,
    raw_socket,
    request_bytes,
    server_connection,
    serving,
    turns,
    until,
    uri_of,
    within,
)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the server logs for an operator."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "websockets.server" and record.levelno >= logging.INFO
    ]


# Starting


def test_signature() -> None:
    """Callers filter their keyword arguments with the real names."""
    parameters = inspect.signature(serve).parameters
    assert list(parameters)[:3] == ["handler", "host", "port"]
    expected = {
        "host": None,
        "port": None,
        "origins": None,
        "extensions": None,
        "subprotocols": None,
        "select_subprotocol": None,
        "compression": "deflate",
        "process_request": None,
        "process_response": None,
        "open_timeout": 10,
        "ping_interval": 20,
        "ping_timeout": 20,
        "close_timeout": 10,
        "max_size": 2**20,
        "max_queue": 16,
        "write_limit": 2**15,
        "logger": None,
        "create_connection": None,
    }
    assert {name: parameters[name].default for name in expected} == expected


async def test_await_and_close() -> None:
    server = await serving(echo)
    assert isinstance(server, Server)
    assert server.is_serving()
    assert server.get_loop() is asyncio.get_running_loop()
    async with connecting(server) as client:
        await client.send("hello")
        assert await within(client.recv()) == "hello"
    server.close()
    await within(server.wait_closed())
    assert not server.is_serving()
    assert tuple(server.sockets) == ()


async def test_awaited_twice() -> None:
    """It is started once."""
    server = await serving(echo)
    port = port_of(server)
    async with server:
        assert port_of(server) == port
        async with connecting(server) as client:
            await client.send("hello")
            assert await within(client.recv()) == "hello"


async def test_sockets() -> None:
    async with serving(echo) as server:
        assert [sock.getsockname()[0] for sock in server.sockets] == ["127.0.0.1"]


async def test_list_of_hosts() -> None:
    async with serve(echo, ["127.0.0.1", "127.0.0.2"], 0, compression=None) as server:
        assert {sock.getsockname()[0] for sock in server.sockets} == {"127.0.0.1", "127.0.0.2"}


async def test_existing_socket() -> None:
    sock = socket.create_server(("127.0.0.1", 0))
    async with serve(echo, sock=sock, compression=None) as server:
        assert port_of(server) == sock.getsockname()[1]
        async with connecting(server) as client:
            await client.send("hello")
            assert await within(client.recv()) == "hello"


async def test_port_in_use() -> None:
    async with serving(echo) as server:
        with pytest.raises(OSError):
            await serve(echo, "127.0.0.1", port_of(server))


async def test_unix_serve(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "socket")
    async with unix_serve(echo, path, compression=None) as server:
        assert [sock.family for sock in server.sockets] == [socket.AF_UNIX]


async def test_start_serving() -> None:
    server = await serving(echo, start_serving=False)
    assert not server.is_serving()
    await server.start_serving()
    assert server.is_serving()
    async with connecting(server) as client:
        await client.send("hello")
        assert await within(client.recv()) == "hello"
    server.close()
    await within(server.wait_closed())


async def test_serve_forever_until_cancelled() -> None:
    async with serving(idle) as server:
        serving_forever = asyncio.create_task(server.serve_forever())
        async with connecting(server) as client:
            serving_forever.cancel()
            with pytest.raises(asyncio.CancelledError):
                await within(serving_forever)
            _, exc = await drain_messages(client)
            assert exc.rcvd == Close(1001, "")
        assert not server.is_serving()


async def test_create_connection() -> None:
    class Custom(ServerConnection):
        pass

    kinds = []

    async def handler(ws: ServerConnection) -> None:
        kinds.append(type(ws))

    async with serving(handler, create_connection=Custom) as server, connecting(server) as client:
        await within(client.wait_closed())
    assert kinds == [Custom]


@pytest.mark.parametrize("value", ["chat", b"chat"])
def test_subprotocols_must_be_a_list(value: Any) -> None:
    with pytest.raises(TypeError):
        serve(echo, "127.0.0.1", 0, subprotocols=value)


def test_unknown_compression() -> None:
    with pytest.raises(ValueError, match="^unsupported compression: zip$"):
        serve(echo, "127.0.0.1", 0, compression="zip")


# Connections


async def test_connections() -> None:
    async with serving(idle) as server:
        assert server.connections == set()
        async with connecting(server) as first, connecting(server) as second:
            await until(lambda: len(server.connections) == 2)
            assert {ws.remote_address for ws in server.connections} == {
                first.local_address,
                second.local_address,
            }
            assert all(isinstance(ws, ServerConnection) for ws in server.connections)
            assert all(ws.server is server for ws in server.connections)
        await until(lambda: not server.connections)


async def test_connections_excludes_handshakes() -> None:
    async with serving(idle) as server, raw_socket(server) as peer:
        await peer.send(b"GET / HTTP/1.1\r\n")
        await turns()
        assert server.connections == set()


async def test_handler_ends_normally() -> None:
    """RFC 6455 section 7.4.1: 1000 when the purpose is fulfilled."""

    async def handler(ws: ServerConnection) -> None:
        await ws.send("that is all")

    async with serving(handler) as server, connecting(server) as client:
        messages, exc = await drain_messages(client)
        assert messages == ["that is all"]
        assert exc.rcvd == Close(1000, "")
        assert str(exc) == "received 1000 (OK); then sent 1000 (OK)"


async def test_handler_closes_by_itself() -> None:
    async def handler(ws: ServerConnection) -> None:
        await ws.close(4000, "enough")

    async with serving(handler) as server, connecting(server) as client:
        _, exc = await drain_messages(client)
        assert exc.rcvd == Close(4000, "enough")


async def test_handler_cancels_itself(caplog: pytest.LogCaptureFixture) -> None:
    """However the handler ends, the connection does too."""

    async def handler(ws: ServerConnection) -> None:
        raise asyncio.CancelledError

    async with serving(handler, close_timeout=0.2) as server, connecting(server) as client:
        _, exc = await drain_messages(client)
        assert exc.rcvd is None or exc.rcvd.code in (1000, 1001, 1011)
        await until(lambda: not server.connections)


async def test_handler_cancelled_when_its_connection_is_closed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    closed = asyncio.Event()

    async def handler(ws: ServerConnection) -> None:
        await ws.wait_closed()
        closed.set()
        raise asyncio.CancelledError

    async with serving(handler) as server:
        async with connecting(server) as client:
            pass
        assert client.close_code == 1000
        await within(closed.wait())
    assert not noise(caplog)


async def test_log_of_a_connection(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with serving(echo) as server:
        port = port_of(server)
        async with connecting(server):
            pass
    assert lines(caplog) == [
        f"server listening on 127.0.0.1:{port}",
        "connection open",
        "connection closed",
        "server closing",
        "server closed",
    ]
    tagged = ["websocket" in vars(record) for record in caplog.records]
    assert tagged == [False, True, True, False, False]


async def test_clients_log_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with serving(echo) as server, connecting(server) as client:
        await client.send("hello")
    assert not [record for record in caplog.records if record.name == "websockets.client"]


async def test_own_logger(caplog: pytest.LogCaptureFixture) -> None:
    own = logging.getLogger("tests.server")
    caplog.set_level(logging.INFO)
    async with serving(echo, logger=own) as server, connecting(server):
        pass
    assert {record.name for record in caplog.records} == {"tests.server"}
    assert len(caplog.records) == 5


# Deciding about the handshake (RFC 6455 section 4.2.2)


async def handshake(server: Server, **kwargs: Any) -> RawResponse:
    async with raw_socket(server) as peer:
        await peer.send(request_bytes(port_of(server), **kwargs))
        head = await peer.read_until(b"\r\n\r\n")
        response = RawResponse.from_bytes(head)
        if response.status == 101:
            return response
        return RawResponse.from_bytes(head + await peer.read_to_end())


async def test_response_on_the_wire() -> None:
    async with serving(echo) as server:
        response = await handshake(server, key="x3JJHMbDL1EzLkh9GBhXDw==")
    assert (response.status, response.reason) == (101, "Switching Protocols")
    assert response.headers["sec-websocket-accept"] == accept_value("x3JJHMbDL1EzLkh9GBhXDw==")
    assert response.headers["upgrade"] == "websocket"
    assert response.headers["connection"] == "Upgrade"
    assert re.fullmatch(r"Python/3\.\d+ websockets/17\.4", response.headers["server"])
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", response.headers["date"])
    assert "sec-websocket-protocol" not in response.headers
    assert "sec-websocket-extensions" not in response.headers


async def test_handshake_in_small_pieces() -> None:
    async with serving(echo) as server, raw_socket(server) as peer:
        for byte in request_bytes(port_of(server)):
            await peer.send(bytes([byte]))
        head = await peer.read_until(b"\r\n\r\n")
        assert RawResponse.from_bytes(head).status == 101
        await peer.send_frame(TEXT, b"hello")
        assert (await peer.recv_frame()).payload == b"hello"


@pytest.mark.parametrize(
    ("header", "expected"), [("Tester/2", "Tester/2"), (None, None)], ids=["own", "none"]
)
async def test_server_header(header: str | None, expected: str | None) -> None:
    async with serving(echo, server_header=header) as server:
        response = await handshake(server)
        assert response.headers.get("server") == expected
        response = await handshake(server, without=["Upgrade"])
        assert response.headers.get("server") == expected


@pytest.mark.parametrize("asynchronous", [False, True], ids=["function", "coroutine"])
async def test_process_request_answers(
    asynchronous: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    def process_request(ws: ServerConnection, request: Request) -> Response | None:
        if request.path == "/health":
            return ws.respond(http.HTTPStatus.OK, "fine\n")
        return None

    async def process_request_later(ws: ServerConnection, request: Request) -> Response | None:
        await asyncio.sleep(0)
        return process_request(ws, request)

    chosen: Any = process_request_later if asynchronous else process_request
    async with serving(echo, process_request=chosen) as server:
        response = await handshake(server, path="/health")
        assert (response.status, response.reason, response.body) == (200, "OK", b"fine\n")
        assert response.headers["content-type"] == "text/plain; charset=utf-8"
        assert response.headers["content-length"] == "5"
        assert response.headers["connection"] == "close"
        async with connecting(server, "/other") as client:
            await client.send("hello")
            assert await within(client.recv()) == "hello"
    assert "HTTP response sent (200 OK)" in lines(caplog)
    assert noise(caplog) == []


async def test_process_request_sees_the_connection() -> None:
    """What it attaches to the connection, the handler finds there."""

    def process_request(ws: ServerConnection, request: Request) -> None:
        assert ws.request is request
        assert ws.state is State.CONNECTING
        ws.username = request.headers["X-User"]  # type: ignore[attr-defined]

    async def handler(ws: ServerConnection) -> None:
        await ws.send(ws.username)  # type: ignore[attr-defined]

    async with serving(handler, process_request=process_request) as server:
        async with connecting(server, additional_headers={"X-User": "joe"}) as client:
            assert await within(client.recv()) == "joe"


@pytest.mark.parametrize("hook", ["process_request", "process_response"])
async def test_failing_hook(hook: str, caplog: pytest.LogCaptureFixture) -> None:
    """500, and the operator gets the traceback."""

    def failing(*args: object) -> None:
        raise LookupError("a bug")

    async with serving(echo, **{hook: failing}) as server:
        response = await handshake(server)
        assert (response.status, response.reason) == (500, "Internal Server Error")
        assert response.body == (
            b"Failed to open a WebSocket connection.\nSee server log for more information.\n"
        )
    [error] = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert error.getMessage() == f"{hook} failed"
    assert error.exc_info is not None
    assert isinstance(error.exc_info[1], LookupError)


async def test_hook_that_returns_something_else(caplog: pytest.LogCaptureFixture) -> None:
    """Neither None nor a response: an error of the application."""
    async with serving(process_request=lambda ws, request: 403) as server:  # type: ignore[arg-type,return-value]
        with pytest.raises(InvalidStatus) as raised:
            await connecting(server)
    assert raised.value.response.status_code == 500
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.getMessage() == "process_request failed"
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "expected a Response or None, got int"


async def test_hook_that_goes_on_when_the_client_has_left(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It swallows its cancellation; there is nobody to respond to."""
    asked, ended = asyncio.Event(), asyncio.Event()

    async def process_request(ws: ServerConnection, _: Request) -> None:
        asked.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            ended.set()

    async with serving(process_request=process_request) as server:
        async with raw_socket(server) as peer:
            await peer.send(request_bytes(port_of(server)))
            await within(asked.wait())
        await within(ended.wait())
        await until(lambda: not server.handler_tasks)
    assert not noise(caplog)


async def test_client_that_goes_on_when_it_was_refused(caplog: pytest.LogCaptureFixture) -> None:
    """What it sends then is ignored."""

    def process_request(ws: ServerConnection, _: Request) -> Response:
        return ws.respond(http.HTTPStatus.FORBIDDEN, "No.\n")

    async with serving(process_request=process_request) as server, raw_socket(server) as peer:
        await peer.send(request_bytes(port_of(server)))
        assert (await peer.read_until(b"No.\n")).startswith(b"HTTP/1.1 403 ")
        (connection,) = server.all_connections
        connection.data_received(client_frame(TEXT, b"ignored"))
        await peer.send(client_frame(TEXT, b"ignored"))
        peer.send_eof()
        await until(lambda: not server.all_connections)
    assert not noise(caplog)


class FailingHandshake(ServerConnection):
    async def handshake(self, *args: Any, **kwargs: Any) -> None:
        raise LookupError("no handshake")


async def test_handshake_of_a_subclass_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(create_connection=FailingHandshake) as server:
        async with raw_socket(server) as peer:
            await peer.send(request_bytes(port_of(server)))
            assert await peer.read_to_end() == b""
        await until(lambda: not server.handler_tasks)
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.getMessage() == "opening handshake failed"


async def test_task_cancelled_during_the_handshake(caplog: pytest.LogCaptureFixture) -> None:
    """By somebody who cancels all tasks, say."""
    asked = asyncio.Event()

    async def process_request(ws: ServerConnection, _: Request) -> None:
        asked.set()
        await asyncio.Event().wait()

    async with serving(process_request=process_request) as server, raw_socket(server) as peer:
        await peer.send(request_bytes(port_of(server)))
        await within(asked.wait())
        (task,) = server.handler_tasks
        task.cancel()
        assert await peer.read_to_end() == b""
        assert task.cancelled()
    assert not noise(caplog)


async def test_hook_that_takes_too_long() -> None:
    """open_timeout covers the hooks."""

    async def process_request(ws: ServerConnection, request: Request) -> None:
        await asyncio.sleep(60)

    async with serving(echo, process_request=process_request, open_timeout=0.05) as server:
        async with raw_socket(server) as peer:
            await peer.send(request_bytes(port_of(server)))
            assert await peer.read_to_end() == b""


async def test_client_that_leaves_during_process_request(
    caplog: pytest.LogCaptureFixture,
) -> None:
    started = asyncio.Event()
    go_on = asyncio.Event()

    async def process_request(ws: ServerConnection, request: Request) -> None:
        started.set()
        await go_on.wait()

    async with serving(echo, process_request=process_request, close_timeout=0.2) as server:
        async with raw_socket(server) as peer:
            await peer.send(request_bytes(port_of(server)))
            await within(started.wait())
            peer.reset()
        await turns()
        go_on.set()
        await until(lambda: not server.connections)
    assert noise(caplog) == []


@pytest.mark.parametrize("asynchronous", [False, True], ids=["function", "coroutine"])
async def test_process_response_changes_the_response(asynchronous: bool) -> None:
    def process_response(ws: ServerConnection, request: Request, response: Response) -> None:
        response.headers["X-Mark"] = request.path

    async def process_response_later(*args: Any) -> None:
        process_response(*args)

    chosen: Any = process_response_later if asynchronous else process_response
    async with serving(echo, process_response=chosen) as server:
        assert (await handshake(server, path="/a")).headers["x-mark"] == "/a"


async def test_process_response_replaces_the_response() -> None:
    def process_response(
        ws: ServerConnection, request: Request, response: Response
    ) -> Response | None:
        return ws.respond(403, "not you\n")

    async with serving(echo, process_response=process_response) as server:
        response = await handshake(server)
        assert (response.status, response.body) == (403, b"not you\n")
        with pytest.raises(InvalidStatus, match="^server rejected WebSocket connection: HTTP 403$"):
            await connecting(server)


ORIGINS: list[Any] = [Origin("https://one.example"), re.compile(r"https://[a-z]+\.two\.example")]


@pytest.mark.parametrize(
    ("origins", "origin", "text"),
    [
        (ORIGINS, "https://one.example", None),
        (ORIGINS, "https://sub.two.example", None),
        (ORIGINS, "https://three.example", "invalid Origin header: https://three.example"),
        (
            ORIGINS,
            "https://a.two.example.evil",
            "invalid Origin header: https://a.two.example.evil",
        ),
        (ORIGINS, None, "missing Origin header"),
        ([*ORIGINS, None], None, None),
        ([None], "https://one.example", "invalid Origin header: https://one.example"),
        (None, "https://anybody.example", None),
    ],
)
async def test_origins(origins: Any, origin: str | None, text: str | None) -> None:
    """RFC 6455 section 10.2."""
    async with serving(echo, origins=origins) as server:
        response = await handshake(server, extra=[("Origin", origin)] if origin else [])
        assert response.status == (101 if text is None else 403)
        if text is not None:
            assert response.body == f"Failed to open a WebSocket connection: {text}.\n".encode()


@pytest.mark.parametrize(
    ("supported", "offered", "chosen"),
    [
        (["b", "a"], ["a", "b"], "b"),
        (["a"], ["b", "a"], "a"),
        (None, ["a"], None),
    ],
)
async def test_subprotocols(
    supported: list[Subprotocol] | None, offered: list[str], chosen: str | None
) -> None:
    """RFC 6455 section 4.2.2: the server chooses one of those offered, or none."""
    async with server_connection(subprotocols=supported) as (server, arrived):
        async with connecting(server, subprotocols=offered) as client:
            assert client.subprotocol == chosen
            assert (await within(arrived)).subprotocol == chosen


async def test_missing_subprotocol() -> None:
    async with serving(echo, subprotocols=["a"]) as server:
        response = await handshake(server)
        assert response.status == 400
        assert b"missing subprotocol" in response.body


def select_last(ws: ServerConnection, offered: list[Subprotocol]) -> Subprotocol | None:
    return offered[-1]


def select_nothing(ws: ServerConnection, offered: list[Subprotocol]) -> Subprotocol | None:
    return None


def select_failing(ws: ServerConnection, offered: list[Subprotocol]) -> Subprotocol | None:
    raise NegotiationError("none of these")


@pytest.mark.parametrize(
    ("select", "status", "chosen"),
    [(select_last, 101, "b"), (select_nothing, 101, None), (select_failing, 400, None)],
)
async def test_select_subprotocol(
    select: Callable[..., Subprotocol | None], status: int, chosen: str | None
) -> None:
    async with serving(
        echo, subprotocols=[Subprotocol("a"), Subprotocol("b")], select_subprotocol=select
    ) as server:
        response = await handshake(server, extra=[("Sec-WebSocket-Protocol", "a, b")])
        assert response.status == status
        assert response.headers.get("sec-websocket-protocol") == chosen
        if status == 400:
            assert b"none of these" in response.body


async def test_select_subprotocol_fails(caplog: pytest.LogCaptureFixture) -> None:
    def select(ws: ServerConnection, offered: object) -> None:
        raise LookupError("a bug")

    async with serving(echo, subprotocols=["a"], select_subprotocol=select) as server:
        response = await handshake(server, extra=[("Sec-WebSocket-Protocol", "a")])
        assert response.status == 500
    [error] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert error.getMessage() == "opening handshake failed"
    assert error.exc_info is not None
    failure = error.exc_info[1]
    assert failure is not None
    assert any(isinstance(exc, LookupError) for exc in [failure, *causes(failure)])


async def test_respond() -> None:
    async with server_connection() as (server, arrived), connecting(server):
        ws = await within(arrived)
        response = ws.respond(http.HTTPStatus.NOT_FOUND, "café\n")
        assert isinstance(response, Response)
        assert (response.status_code, response.reason_phrase) == (404, "Not Found")
        assert response.body == "café\n".encode()
        assert response.headers["Content-Length"] == "6"
        assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert response.headers["Connection"] == "close"


# Closing


async def test_close_sends_1001_to_every_client(caplog: pytest.LogCaptureFixture) -> None:
    """RFC 6455 section 7.4.1: "going away"."""
    async with serving(echo) as server:
        clients = [await connecting(server) for _ in range(20)]
        server.close()
        await within(server.wait_closed())
        for client in clients:
            _, exc = await drain_messages(client)
            assert exc.rcvd == Close(1001, "")
        assert server.connections == set()
    assert noise(caplog) == []


async def test_close_with_a_code_and_a_reason() -> None:
    async with serving(idle) as server, connecting(server) as client:
        server.close(code=1012, reason="back soon")
        _, exc = await drain_messages(client)
        assert exc.rcvd == Close(1012, "back soon")


async def test_close_refuses_new_connections() -> None:
    async with serving(idle) as server:
        uri = uri_of(server)
        server.close()
        await within(server.wait_closed())
        with pytest.raises(OSError):
            await connecting_to(uri)


async def connecting_to(uri: str) -> None:
    from websockets.asyncio.client import connect

    async with connect(uri, compression=None):
        pass


async def test_close_without_closing_connections() -> None:
    async with serving(echo) as server, connecting(server) as client:
        server.close(close_connections=False)
        waiting = asyncio.create_task(server.wait_closed())
        await client.send("still served")
        assert await within(client.recv()) == "still served"
        assert not waiting.done()
        await client.close()
        await within(waiting)


async def test_close_during_a_handshake(caplog: pytest.LogCaptureFixture) -> None:
    """A client whose request is being answered hears 503; the close does not wait for slow ones."""
    started = asyncio.Event()
    go_on = asyncio.Event()

    async def process_request(ws: ServerConnection, request: Request) -> None:
        started.set()
        await go_on.wait()

    async with serving(echo, process_request=process_request, open_timeout=2) as server:
        async with raw_socket(server) as peer:
            await peer.send(request_bytes(port_of(server)))
            await within(started.wait())
            server.close()
            go_on.set()
            answer = await peer.read_to_end()
            if answer:
                response = RawResponse.from_bytes(answer)
                assert response.status == 503
                assert response.body == b"Server is shutting down.\n"
        await within(server.wait_closed())
    assert noise(caplog) == []


@pytest.mark.parametrize("ahead", range(6))
async def test_close_when_a_connection_was_just_accepted(ahead: int) -> None:
    """However far its making has come, its client hears of the close, not the garbage collector."""
    with no_garbage_collection():
        async with serving(echo) as server:
            # No turn of the event loop goes by while this connects.
            with socket.create_connection(("127.0.0.1", port_of(server))) as sock:
                peer = RawPeer(sock, is_client=True)
                await turns(ahead)
                server.close()
                assert not server.is_serving()
                await peer.read_to_end()
                await within(server.wait_closed())


async def test_close_waits_for_handlers() -> None:
    """A handler may put its affairs in order."""
    done = []

    async def handler(ws: ServerConnection) -> None:
        try:
            async for _ in ws:
                pass
        finally:
            await asyncio.sleep(0.02)
            done.append(True)

    async with serving(handler) as server, connecting(server):
        await until(lambda: server.connections)
        server.close()
        await within(server.wait_closed())
        assert done == [True]


async def test_close_is_bounded_by_close_timeout() -> None:
    """A client that never answers the close frame does not hold the server."""
    async with serving(idle, close_timeout=0.1) as server, raw_client(server) as peer:
        await until(lambda: server.connections)
        server.close()
        await within(server.wait_closed())
        assert [f.opcode for f in await peer.recv_frames_to_end()] == [CLOSE]


async def test_close_is_idempotent() -> None:
    async with serving(echo) as server, connecting(server) as client:
        server.close()
        server.close(code=1012)
        _, exc = await drain_messages(client)
        assert exc.rcvd == Close(1001, "")
        await within(server.wait_closed())
        server.close()
        await within(server.wait_closed())


async def test_wait_closed_by_many() -> None:
    async with serving(echo) as server:
        waiting = [asyncio.create_task(server.wait_closed()) for _ in range(3)]
        await turns()
        assert not any(task.done() for task in waiting)
        waiting[0].cancel()
        await turns()
        server.close()
        await within(asyncio.gather(*waiting[1:]))


async def test_leaving_the_context_closes() -> None:
    async with serving(idle) as server:
        client = await connecting(server)
    _, exc = await drain_messages(client)
    assert exc.rcvd == Close(1001, "")


async def test_close_from_a_handler() -> None:
    async def handler(ws: ServerConnection) -> None:
        ws.server.close()
        await ws.wait_closed()

    async with serving(handler) as server, connecting(server) as client:
        _, exc = await drain_messages(client)
        assert exc.rcvd == Close(1001, "")
        await within(server.wait_closed())


async def test_handlers_see_the_close() -> None:
    seen = []

    async def handler(ws: ServerConnection) -> None:
        try:
            await ws.recv()
        except ConnectionClosed as exc:
            seen.append(str(exc))

    async with serving(handler) as server, connecting(server):
        await until(lambda: server.connections)
        server.close()
        await within(server.wait_closed())
    assert seen == ["sent 1001 (going away); then received 1001 (going away)"]


# Nobody can hold a connection for ever


@pytest.mark.parametrize("open_timeout", [10, None])
async def test_a_refused_client_that_stays_is_dropped(open_timeout: float | None) -> None:
    """The response was sent and our side of the stream has ended; the client's does not."""
    async with (
        serving(open_timeout=open_timeout, close_timeout=0.1) as server,
        raw_socket(server) as peer,
    ):
        await peer.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await until(lambda: server.all_connections)
        server.close()
        await within(server.wait_closed(), 5)
        assert not server.all_connections


async def test_wait_closed_waits_for_connections_whose_handler_was_cancelled() -> None:
    async with serving(idle, close_timeout=0.1) as server, raw_client(server):
        await until(lambda: server.handler_tasks)
        for task in list(server.handler_tasks):
            task.cancel()
        await until(lambda: not server.handler_tasks)
        server.close()
        await within(server.wait_closed(), 5)
        assert not server.all_connections


async def test_waiting_in_vain_leaves_nothing_behind() -> None:
    async with pair() as (client, _):
        for _ in range(10):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.wait_closed(), 0)
        waiting = [asyncio.create_task(client.wait_closed()) for _ in range(10)]
        await turns()
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        assert not client._ws_lost_waiters


@pytest.mark.parametrize("early", [False, True], ids=["bad request", "refused by the application"])
async def test_a_refused_client_that_stays_does_not_delay_closing(early: bool) -> None:
    """It has had its answer; no deadline need pass."""
    key = {"process_request": lambda ws, request: ws.respond(404, "no\n")} if early else {}
    async with (
        serving(open_timeout=60, close_timeout=60, **key) as server,
        raw_socket(server) as peer,
    ):
        request = request_bytes(port_of(server), without=[] if early else ["Upgrade"])
        await peer.send(request + client_frame(TEXT, b"early"))
        assert (await peer.read_until(b"\r\n")).split()[1] == (b"404" if early else b"426")
        server.close()
        await within(server.wait_closed(), 5)
        assert not server.all_connections


@pytest.mark.parametrize("callback", ["process_request", "process_response"])
async def test_closing_while_the_application_decides(callback: str) -> None:
    """Whatever it decides, no connection is opened by a server that has begun to close."""
    decide = asyncio.Event()
    asked = []
    handled = []

    async def ask(*args: Any) -> None:
        asked.append(args)
        await decide.wait()

    async def handler(ws: ServerConnection) -> None:
        handled.append(ws)
        await ws.wait_closed()

    async with serving(handler, close_timeout=60, **{callback: ask}) as server:
        visiting = asyncio.create_task(connecting(server).__aenter__())
        await until(lambda: asked)
        server.close()
        await turns()
        decide.set()
        with pytest.raises(InvalidStatus) as raised:
            await within(visiting)
        assert raised.value.response.status_code == 503
        await within(server.wait_closed(), 5)
    assert not handled


@pytest.mark.parametrize(
    "code, reason",
    [(1006, ""), (1005, ""), (999, ""), (1001, "x" * 124), (1001, "\u20ac" * 42)],
    ids=["1006", "1005", "999", "124 bytes", "126 bytes"],
)
async def test_close_with_what_no_close_frame_may_hold(code: int, reason: str) -> None:
    """RFC 6455 sections 5.5 and 7.4.1: told at once, and the server goes on."""
    async with serving(echo) as server, connecting(server) as client:
        with pytest.raises(ProtocolError):
            server.close(code=code, reason=reason)
        assert server.is_serving()
        await client.send("served")
        assert await within(client.recv()) == "served"
        async with connecting(server) as another:
            await another.send("served too")
            assert await within(another.recv()) == "served too"
        server.close(code=1012, reason="x" * 123)
        await within(server.wait_closed(), 5)
        assert (client.close_code, client.close_reason) == (1012, "x" * 123)


async def test_a_cancelled_handler_with_a_full_queue() -> None:
    """Reading had stopped; the peer's close frame and end of stream must be seen all the same."""
    running = []

    async def handler(ws: ServerConnection) -> None:
        running.append(asyncio.current_task())
        await asyncio.Event().wait()

    async with (
        serving(handler, close_timeout=60, max_queue=2) as server,
        raw_client(server) as peer,
    ):
        # The answer to the ping shows that they arrived; reading stops when two were read.
        await peer.send(client_frame(PING) + client_frame(TEXT, b"x" * 1000) * 40)
        assert (await peer.recv_frame()).opcode == PONG
        await until(lambda: running)
        await asyncio.sleep(0.05)
        running[0].cancel()
        assert (await peer.recv_frame()).opcode == CLOSE
        await peer.send_close(1001)
        peer.send_eof()
        await peer.expect_eof()
        await until(lambda: not server.all_connections)


async def test_a_start_that_failed_leaves_nothing_to_wait_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = serve(echo, "127.0.0.1", taken.getsockname()[1])
        with pytest.raises(OSError, match="in use"):
            await server
        with pytest.raises(RuntimeError):
            await within(server.wait_closed(), 1)
        assert not server.is_serving()


async def test_a_unix_server_that_failed_to_start_can_be_started_again(
    tmp_path: pathlib.Path,
) -> None:
    path = tmp_path / "later" / "socket"
    server = unix_serve(echo, str(path), compression=None)
    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            await server
    path.parent.mkdir()
    async with server:
        async with unix_connect(str(path), compression=None) as client:
            await client.send("served")
            assert await within(client.recv()) == "served"
