"""`serve`, `WebSocketServer` and `WebSocketServerProtocol`: the opening handshake, step by step."""

from __future__ import annotations

import asyncio
import http
import logging
import pathlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosedError
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.legacy.auth import (
    BasicAuthWebSocketServerProtocol,
    basic_auth_protocol_factory,
)
from websockets.legacy.client import connect, unix_connect
from websockets.legacy.exceptions import AbortHandshake
from websockets.legacy.server import (
    WebSocketServer,
    WebSocketServerProtocol,
    accept_path,
    broadcast,
    serve,
    unix_serve,
)

from ..helpers import (
    CLOSE,
    TEXT,
    TLS,
    RawResponse,
    noise,
    port_of,
    raw_client,
    raw_socket,
    request_bytes,
    turns,
    until,
    within,
)


async def echo(ws: WebSocketServerProtocol) -> None:
    async for message in ws:
        await ws.send(message)


async def idle(ws: WebSocketServerProtocol) -> None:
    await ws.wait_closed()


def serving(handler: Callable[..., Awaitable[Any]] = echo, **kwargs: Any) -> serve:
    return serve(handler, "127.0.0.1", 0, **kwargs)


async def answer(
    server: WebSocketServer, data: bytes | None = None, headers: Mapping[str, str] | None = None
) -> RawResponse:
    """What a server answers to a request."""
    if data is None:
        data = request_bytes(port_of(server), extra=(headers or {}).items())
    async with raw_socket(server) as peer:
        await peer.send(data)
        return RawResponse.from_bytes(await within(peer.read_until(b"\r\n\r\n")))


async def body(
    server: WebSocketServer, headers: Mapping[str, str] | None = None
) -> tuple[RawResponse, bytes]:
    async with raw_socket(server) as peer:
        await peer.send(request_bytes(port_of(server), extra=(headers or {}).items()))
        response = RawResponse.from_bytes(await within(peer.read_to_end()))
        return response, response.body


async def test_echo() -> None:
    seen: list[WebSocketServerProtocol] = []

    async def handler(ws: WebSocketServerProtocol) -> None:
        seen.append(ws)
        await echo(ws)

    async with (
        serving(handler) as server,
        connect(f"ws://127.0.0.1:{port_of(server)}/chat?a=b") as ws,
    ):
        await ws.send("hello")
        assert await ws.recv() == "hello"
        (connection,) = seen
        assert connection.path == ws.path == "/chat?a=b"
        assert connection.request_headers["Host"] == ws.request_headers["Host"]
        assert connection.response_headers == ws.response_headers
        assert "Sec-WebSocket-Accept" in ws.response_headers
        assert [e.name for e in connection.extensions] == ["permessage-deflate"]
        assert server.websockets == {connection}
        assert connection.ws_server is server
    assert not server.websockets
    assert ws.close_code == 1000


# The request


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda data: b"nonsense\r\n\r\n", 400),
        (lambda data: data.replace(b"GET", b"POST"), 405),
        (lambda data: data.replace(b"HTTP/1.1", b"HTTP/1.0"), 505),
        (lambda data: data.replace(b"Upgrade: websocket", b"X: y"), 426),
        (lambda data: data.replace(b"Version: 13", b"Version: 12"), 426),
        (lambda data: data.replace(b"Key: ", b"Key: x"), 400),
        (lambda data: data.replace(b"Host: ", b"X: "), 400),
    ],
    ids=["nonsense", "method", "version of HTTP", "upgrade", "version", "key", "host"],
)
async def test_requests_that_are_refused(
    change: Callable[[bytes], bytes], status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "websockets.server")
    async with serving() as server:
        data = change(request_bytes(port_of(server)))
        response = await answer(server, data)
        assert response.status == status
        await until(lambda: not server.websockets)
    assert not noise(caplog)


async def test_nobody_speaks() -> None:
    async with serving(open_timeout=0.01) as server, raw_socket(server) as peer:
        await within(peer.read_to_end())


async def test_somebody_looks_whether_the_port_is_open(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with serving() as server:
        async with raw_socket(server):
            await until(lambda: server.websockets)
        await until(lambda: not server.websockets)
    assert not noise(caplog)


# Steps of the handshake


@pytest.mark.parametrize(
    ("origins", "origin", "status"),
    [
        (["http://a"], "http://a", 101),
        (["http://a"], "http://b", 403),
        (["http://a"], None, 403),
        ([None], None, 101),
        (None, "http://b", 101),
    ],
)
async def test_origins(origins: Any, origin: str | None, status: int) -> None:
    headers = {} if origin is None else {"Origin": origin}
    async with serving(idle, origins=origins) as server:
        assert (await answer(server, headers=headers)).status == status


async def test_an_empty_origin_has_meant_none() -> None:
    with pytest.warns(DeprecationWarning, match="use None instead of '' in origins"):
        async with serving(idle, origins=[""]) as server:
            assert (await answer(server)).status == 101


@pytest.mark.parametrize(
    ("server_side", "offered", "selected"),
    [
        (["b", "a"], "a, b", {"a", "b"}),
        (["c", "a"], "a, b", {"a"}),
        (["c"], "a, b", {None}),
        (None, "a", {None}),
        (["a"], None, {None}),
    ],
)
async def test_subprotocols(server_side: Any, offered: str | None, selected: set[str]) -> None:
    headers = {} if offered is None else {"Sec-WebSocket-Protocol": offered}
    async with serving(idle, subprotocols=server_side) as server:
        response = await answer(server, headers=headers)
        assert response.status == 101
        assert response.headers.get("sec-websocket-protocol") in selected


async def test_select_subprotocol() -> None:
    def select(client: Any, server: Any) -> Any:
        assert (client, server) == (["a", "b"], ["b", "a"])
        return "a"

    async with serving(idle, subprotocols=["b", "a"], select_subprotocol=select) as server:
        response = await answer(server, headers={"Sec-WebSocket-Protocol": "a, b"})
        assert response.headers["sec-websocket-protocol"] == "a"


async def test_steps_that_subclasses_replace() -> None:
    class Custom(WebSocketServerProtocol):
        async def process_request(self, path: str, request_headers: Headers) -> None:
            assert (self.path, self.request_headers) == (path, request_headers)

        def process_subprotocol(self, headers: Headers, available_subprotocols: Any) -> Any:
            return "mine"

    async with serving(idle, create_protocol=Custom) as server:
        response = await answer(server)
        assert response.headers["sec-websocket-protocol"] == "mine"


@pytest.mark.parametrize(
    "extra",
    [[("X", "y")], {"X": "y"}, Headers(X="y"), lambda path, headers: {"X": "y"}],
    ids=["list", "dict", "Headers", "function"],
)
async def test_extra_headers(extra: Any) -> None:
    async with serving(idle, extra_headers=extra, server_header=None) as server:
        response = await answer(server)
        assert response.headers["x"] == "y"
        assert "server" not in response.headers


async def test_extra_headers_replace_ours() -> None:
    async with serving(idle, extra_headers={"Server": "mine", "Date": "today"}) as server:
        response = await answer(server)
        assert (response.headers["server"], response.headers["date"]) == ("mine", "today")


async def test_process_request_lets_requests_pass() -> None:
    async def process_request(path: str, headers: Headers) -> None:
        assert path == "/" and "Sec-WebSocket-Key" in headers

    async with serving(idle, process_request=process_request) as server:
        assert (await answer(server)).status == 101


async def test_process_request_answers() -> None:
    async def process_request(path: str, headers: Headers) -> Any:
        return http.HTTPStatus.OK, [("X", "y")], b"healthy\n"

    async with serving(process_request=process_request) as server:
        response, content = await body(server)
        assert (response.status, content) == (200, b"healthy\n")
        assert response.headers["x"] == "y"
        assert response.headers["content-length"] == "8"
        assert response.headers["content-type"] == "text/plain"


async def test_process_request_that_is_no_coroutine_function() -> None:
    def process_request(path: str, headers: Headers) -> Any:
        return 200, {}, b""

    with pytest.warns(DeprecationWarning, match="declare process_request as a coroutine"):
        async with serving(process_request=process_request) as server:
            assert (await answer(server)).status == 200

    class Callable:
        async def __call__(self, path: str, headers: Headers) -> Any:
            return 202, {}, b""

    # There is nothing to warn of.
    for good in (Callable(), lambda path, headers: Callable()(path, headers)):
        async with serving(process_request=good) as server:
            assert (await answer(server)).status == 202

    class Custom(WebSocketServerProtocol):
        def process_request(self, path: str, request_headers: Headers) -> Any:  # type: ignore[override]
            return 204, {}, b""

    with pytest.warns(DeprecationWarning, match="declare process_request as a coroutine"):
        async with serving(create_protocol=Custom) as server:
            assert (await answer(server)).status == 204


async def test_process_request_answers_without_a_body() -> None:
    async def process_request(path: str, headers: Headers) -> Any:
        return 404, {"X-Reason": "none"}

    async with serving(process_request=process_request) as server:
        response, content = await body(server)
        assert (response.status, content) == (404, b"")


@pytest.mark.parametrize(
    "result",
    [
        ValueError("oops"),
        # 17.4 takes these for errors of the connection, and closes it without a word.
        ConnectionRefusedError("oops, the database"),
        TimeoutError("oops, the database"),
        (200, {}, "text"),
        (200,),
        "nonsense",
    ],
)
async def test_process_request_fails(result: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def process_request(path: str, headers: Headers) -> Any:
        if isinstance(result, Exception):
            raise result
        return result

    async with serving(process_request=process_request) as server:
        response, content = await body(server)
        assert response.status == 500
        assert b"oops" not in content
    assert "opening handshake failed" in caplog.text


@pytest.mark.parametrize("fails", [False, True])
async def test_the_client_goes_during_process_request(
    fails: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def process_request(path: str, headers: Headers) -> None:
        await gone
        if fails:
            raise ValueError("oops")

    async with serving(process_request=process_request) as server:
        gone = asyncio.get_running_loop().create_future()
        async with raw_socket(server) as peer:
            await peer.send(request_bytes(port_of(server)))
            await until(lambda: any(ws.path for ws in server.websockets))
        (ws,) = server.websockets
        await within(ws.wait_closed())
        gone.set_result(None)
        await until(lambda: not server.websockets)
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.message for record in errors] == ["opening handshake failed"] * fails


@pytest.mark.parametrize("another", [False, True])
async def test_log_of_handlers(another: bool, caplog: pytest.LogCaptureFixture) -> None:
    """A client that leaves is no bug; who lets another connection's end escape has one."""

    async def handler(ws: WebSocketServerProtocol) -> None:
        await ws.wait_closed()
        if another:
            raise ConnectionClosedError(None, None)
        await ws.recv()

    caplog.set_level(logging.INFO, "websockets.server")
    async with serving(handler) as server, raw_client(server) as peer:
        await peer.send_close()
        await peer.read_to_end()
        await until(lambda: not server.websockets)
    (line,) = (r for r in caplog.records if r.getMessage().startswith("connection handler"))
    assert line.levelname == ("ERROR" if another else "INFO")


async def test_a_subclass_fails_before_it_has_read_the_request(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Custom(WebSocketServerProtocol):
        async def read_http_request(self) -> tuple[str, Headers]:
            raise LookupError

    async with serving(create_protocol=Custom) as server:
        response, _ = await body(server)
        assert response.status == 500
    assert "opening handshake failed" in caplog.text


async def test_all_is_logged_by_the_logger_that_was_given(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    async with (
        serving(logger=logging.getLogger("mine")) as server,
        connect(f"ws://127.0.0.1:{port_of(server)}/", logger=logging.getLogger("mine")) as ws,
    ):
        await ws.send("x")
        await ws.recv()
    assert {record.name for record in caplog.records} - {"asyncio"} == {"mine"}


async def test_abort_handshake() -> None:
    async def process_request(path: str, headers: Headers) -> Any:
        raise AbortHandshake(402, Headers(), b"pay")

    async with serving(process_request=process_request) as server:
        response, content = await body(server)
        assert (response.status, content) == (402, b"pay")


async def test_extensions() -> None:
    factory = ServerPerMessageDeflateFactory(server_max_window_bits=10)
    headers = {"Sec-WebSocket-Extensions": "permessage-deflate; server_max_window_bits=10"}
    async with serving(idle, extensions=[factory], compression=None) as server:
        response = await answer(server, headers=headers)
        assert response.headers["sec-websocket-extensions"] == headers["Sec-WebSocket-Extensions"]
    async with serving(idle, compression=None) as server:
        assert "sec-websocket-extensions" not in (await answer(server, headers=headers)).headers


@pytest.mark.parametrize(
    ("arguments", "exception"),
    [
        ({"compression": "x"}, ValueError),
        ({"subprotocols": "x"}, TypeError),
        ({"unknown": 1}, TypeError),
    ],
)
async def test_wrong_arguments(arguments: dict[str, Any], exception: type[Exception]) -> None:
    with pytest.raises(exception):
        await serving(**arguments)


@pytest.mark.parametrize(
    ("arguments", "warning"),
    [
        ({"klass": WebSocketServerProtocol}, "rename klass to create_protocol"),
        ({"timeout": 1}, "rename timeout to close_timeout"),
        ({"loop": True}, "remove loop argument"),
    ],
    ids=["klass", "timeout", "loop"],
)
async def test_former_arguments(arguments: dict[str, Any], warning: str) -> None:
    with pytest.warns(DeprecationWarning, match=warning) as caught:
        serve(echo, "127.0.0.1", 0, **arguments)
    assert [(str(w.message), w.filename) for w in caught] == [(warning, __file__)]


# Handlers


async def test_handlers_have_taken_the_path() -> None:
    async def handler(ws: WebSocketServerProtocol, path: str) -> None:
        await ws.send(path)

    with pytest.warns(DeprecationWarning, match="remove second argument of ws_handler") as caught:
        creating = serve(handler, "127.0.0.1", 0)
    assert [warning.filename for warning in caught] == [__file__]
    async with creating as server, connect(f"ws://127.0.0.1:{port_of(server)}/x") as ws:
        assert await ws.recv() == "/x"


@pytest.mark.parametrize(
    ("handler", "code"),
    [
        (lambda ws: asyncio.sleep(0), 1000),
        (lambda ws: fail(ValueError("oops")), 1011),
        (lambda ws: fail(asyncio.CancelledError()), 1001),
    ],
    ids=["returns", "raises", "is cancelled"],
)
async def test_how_handlers_end(handler: Any, code: int, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(lambda ws: handler(ws)) as server, raw_client(server) as peer:
        frame = await within(peer.recv_frame())
        assert (frame.opcode, frame.close[0]) == (CLOSE, code)
        await peer.send_close(code)
        await until(lambda: not server.websockets)
    assert ("connection handler failed" in caplog.text) == (code == 1011)


async def fail(exc: BaseException) -> None:
    raise exc


class Short(WebSocketServerProtocol):
    """It has no more of close() than it uses itself."""

    async def close(self) -> None:  # type: ignore[override]
        await super().close()


async def test_a_handler_fails_whose_connection_has_a_close_of_its_own(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail(ws: WebSocketServerProtocol) -> None:
        raise ValueError

    async with (
        serving(fail, create_protocol=Short) as server,
        connect(f"ws://127.0.0.1:{port_of(server)}") as ws,
    ):
        await within(ws.wait_closed())
        assert ws.close_code == 1011
    assert "connection handler failed" in caplog.messages


async def test_the_server_closes_connections_that_have_a_close_of_their_own() -> None:
    class Coded(WebSocketServerProtocol):
        async def close(self, code: int = 1000) -> None:  # type: ignore[override]
            await super().close(code)

    async with (
        serving(create_protocol=Coded) as server,
        connect(f"ws://127.0.0.1:{port_of(server)}") as ws,
    ):
        server.close()
        await within(ws.wait_closed())
        assert ws.close_code == 1001


async def test_handlers_may_mark_their_connection() -> None:
    """With any name that is not in the API."""

    async def mark(ws: WebSocketServerProtocol) -> None:
        for name in ("request_id", "_request", "_host", "_id", "_user", "_task", "_loop"):
            setattr(ws, name, None)
        await echo(ws)

    async with serving(mark) as server, connect(f"ws://127.0.0.1:{port_of(server)}") as ws:
        await ws.send("text")
        assert await within(ws.recv()) == "text"


async def test_handlers_need_not_catch_the_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def handler(ws: WebSocketServerProtocol) -> None:
        while True:
            await ws.recv()

    async with serving(handler) as server, raw_client(server):
        await until(lambda: server.websockets)
    assert not noise(caplog)


async def test_the_handler_that_cannot_be_called(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(a: int, b: int, c: int) -> None: ...

    async with serving(handler) as server, raw_client(server) as peer:
        assert (await peer.recv_frame()).close[0] == 1011
    assert "connection handler failed" in caplog.text


# The server


async def test_closing_the_server() -> None:
    async with serving(idle) as server, raw_client(server) as peer, raw_socket(server) as silent:
        await until(lambda: len(server.websockets) == 2)
        assert server.is_serving() and server.sockets
        server.close()
        assert (await peer.recv_frame()).close[0] == 1001
        await peer.send_close(1001)
        response = RawResponse.from_bytes(await within(silent.read_to_end()))
        assert response.status == 503
        await within(server.wait_closed())
        assert not server.is_serving() and not server.sockets


async def test_closing_the_server_leaves_connections_alone() -> None:
    async with serving(echo) as server, raw_client(server) as peer:
        server.close(close_connections=False)
        await turns(50)
        await peer.send_frame(TEXT, b"still here")
        assert (await peer.recv_frame()).payload == b"still here"
        peer.close()
        await within(server.wait_closed())


async def test_no_new_connections_while_closing() -> None:
    requested = asyncio.Event()
    go_on = asyncio.Event()

    async def process_request(path: str, headers: Headers) -> None:
        requested.set()
        await go_on.wait()

    async with serving(process_request=process_request) as server, raw_socket(server) as peer:
        await peer.send(request_bytes(port_of(server)))
        await requested.wait()
        server.close()
        go_on.set()
        assert RawResponse.from_bytes(await within(peer.read_to_end())).status == 503


async def test_unix_sockets(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "socket")
    async with unix_serve(echo, path), unix_connect(path) as ws:
        await ws.send("hello")
        assert await ws.recv() == "hello"


async def test_broadcast() -> None:
    async with serving(idle) as server, raw_client(server) as one, raw_client(server) as two:
        await until(
            lambda: all(ws.open for ws in server.websockets) and len(server.websockets) == 2
        )
        broadcast(server.websockets, "news")
        for peer in (one, two):
            assert (await peer.recv_frame()).payload == b"news"
        with pytest.raises(TypeError):
            broadcast(server.websockets, 1)


async def test_what_a_server_needs_of_others() -> None:
    """uvicorn brings a server of its own, with three methods."""

    class Registry:
        def __init__(self) -> None:
            self.calls: list[str] = []

        def register(self, ws: Any) -> None:
            self.calls.append("register")

        def unregister(self, ws: Any) -> None:
            self.calls.append("unregister")

        def is_serving(self) -> bool:
            return True

    registry = Registry()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: WebSocketServerProtocol(echo, registry), "127.0.0.1", 0
    )
    async with connect(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/") as ws:
        await ws.send("x")
        assert await ws.recv() == "x"
    server.close()
    await until(lambda: registry.calls == ["register", "unregister"])


# Basic authentication


@pytest.mark.parametrize(
    ("authorization", "status", "content"),
    [
        ("Basic dTpw", 101, b""),
        (None, 401, b"Missing credentials\n"),
        ("Basic dTpx", 401, b"Invalid credentials\n"),
        ("Basic eDpw", 401, b"Invalid credentials\n"),
        ("Basic x", 401, b"Unsupported credentials\n"),
        ("Bearer x", 401, b"Unsupported credentials\n"),
    ],
    ids=["right", "none", "password", "user", "malformed", "scheme"],
)
@pytest.mark.parametrize("several", [False, True])
async def test_basic_auth(
    several: bool, authorization: str | None, status: int, content: bytes
) -> None:
    names = []

    async def handler(ws: BasicAuthWebSocketServerProtocol) -> None:
        names.append(ws.username)

    credentials: Any = [("u", "p"), ("v", "q")] if several else ("u", "p")
    factory = basic_auth_protocol_factory("realm", credentials)
    headers = {} if authorization is None else {"Authorization": authorization}
    async with serving(handler, create_protocol=factory) as server:
        if status == 101:
            assert (await answer(server, headers=headers)).status == 101
            await until(lambda: names == ["u"])
            return
        response, received = await body(server, headers=headers)
        assert (response.status, received) == (status, content)
        assert response.headers["www-authenticate"] == 'Basic realm="realm", charset="UTF-8"'


async def test_check_credentials() -> None:
    async def check(username: str, password: str) -> bool:
        return (username, password) == ("Ä", "ö")

    class Custom(BasicAuthWebSocketServerProtocol):
        realm = "from the class"

    factory = basic_auth_protocol_factory(check_credentials=check, create_protocol=Custom)
    async with serving(idle, create_protocol=factory) as server:
        assert (await answer(server, headers={"Authorization": "Basic w4Q6w7Y="})).status == 101
        refused = await answer(server, headers={"Authorization": "Basic dTpw"})
        assert 'realm="from the class"' in refused.headers["www-authenticate"]
    async with serving(idle, create_protocol=Custom) as server:
        assert (await answer(server, headers={"Authorization": "Basic dTpw"})).status == 401


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"credentials": ("a", "b"), "check_credentials": lambda u, p: True},
        {"credentials": "ab"},
        {"credentials": ("a", 1)},
        {"credentials": [1]},
        {"credentials": 1},
    ],
)
def test_wrong_credentials_arguments(arguments: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="credentials"):
        basic_auth_protocol_factory("realm", **arguments)


async def test_connections_that_are_lost_in_the_handshake() -> None:
    async def process_request(path: str, headers: Headers) -> None:
        await asyncio.sleep(0.01)

    async with serving(process_request=process_request) as server:
        async with raw_socket(server) as peer:
            await peer.send(request_bytes(port_of(server)))
            await until(lambda: server.websockets)
        await until(lambda: not server.websockets)


async def test_connection_closed_error_of_another_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def handler(ws: WebSocketServerProtocol) -> None:
        raise ConnectionClosedError(None, None)

    async with serving(handler) as server, raw_client(server) as peer:
        assert (await peer.recv_frame()).close[0] == 1011
    assert "connection handler failed" in caplog.text


async def test_tls(tls: TLS) -> None:
    async with serving(ssl=tls.server) as server:
        uri = f"wss://localhost:{port_of(server)}/"
        async with connect(uri, ssl=tls.client, host="127.0.0.1") as ws:
            await ws.send("x")
            assert await ws.recv() == "x"
            with pytest.warns(DeprecationWarning, match="don't use secure"):
                assert ws.secure


async def test_origin() -> None:
    origins = []

    async def handler(ws: WebSocketServerProtocol) -> None:
        origins.append(ws.origin)

    async with serving(handler) as server:
        await answer(server, headers={"Origin": "http://a"})
        await until(lambda: origins == ["http://a"])


async def test_cancelling_the_handshake() -> None:
    async with serving() as server, raw_socket(server) as peer:
        await until(lambda: server.websockets)
        (ws,) = server.websockets
        await turns()  # it begins
        ws.handler_task.cancel()
        await within(peer.expect_eof())
        await until(lambda: not server.websockets)


def test_handlers_without_a_signature() -> None:
    assert accept_path(min) is min


async def test_requests_in_pieces() -> None:
    async with serving(idle) as server, raw_socket(server) as peer:
        data = request_bytes(port_of(server))
        await peer.send(data[:20])
        await turns()
        await peer.send(data[20:])
        head = await within(peer.read_until(b"\r\n\r\n"))
        assert RawResponse.from_bytes(head).status == 101
