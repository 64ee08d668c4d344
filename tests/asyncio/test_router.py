"""`route`, `unix_route`, `Router`. What is expected was recorded from the released websockets."""

from __future__ import annotations

import inspect
import logging
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from werkzeug.routing import Map, RequestRedirect, Rule

import websockets
from websockets.asyncio.client import unix_connect
from websockets.asyncio.router import Router, route, unix_route
from websockets.asyncio.server import Server, ServerConnection, basic_auth
from websockets.http11 import Request, Response

from ..helpers import (
    TLS,
    RawResponse,
    connecting,
    noise,
    port_of,
    raw_socket,
    request_bytes,
    uri_of,
    within,
)


async def plain(ws: ServerConnection) -> None:
    await ws.send(f"plain {ws.handler_kwargs}")


async def room(ws: ServerConnection, name: str) -> None:
    await ws.send(f"room {name}")


async def anything(ws: ServerConnection, **kwargs: Any) -> None:
    await ws.send(f"anything {kwargs}")


def rules() -> Map:
    return Map(
        [
            Rule("/", endpoint=plain),
            Rule("/chat/<name>", endpoint=room),
            Rule("/number/<int:number>", endpoint=anything),
            Rule("/slash/", endpoint=plain),
            Rule("/path/<path:rest>", endpoint=anything),
            Rule("/page/", endpoint=anything, defaults={"number": 1}),
            Rule("/page/<int:number>", endpoint=anything),
            Rule("/declared", endpoint=plain, websocket=True),
            Rule("/undeclared", endpoint=plain, websocket=False),
            Rule("/old/<int:number>", redirect_to="number/<number>"),
            Rule("/elsewhere", redirect_to="http://example.com/x"),
            Rule("/raised", redirect_to=raise_redirect),
            Rule("/post", endpoint=plain, methods=["POST"]),
            Rule("/several", endpoint=plain, methods=["PUT", "DELETE"]),
            Rule("/built", endpoint=plain, build_only=True),
            Rule("/name", endpoint="no function"),
            Rule("/unexpected/<value>", endpoint=plain),
        ]
    )


def raise_redirect(adapter: object) -> str:
    raise RequestRedirect("http://example.com/raised")


def routing(url_map: Map | None = None, **kwargs: Any) -> Server:
    kwargs.setdefault("compression", None)
    return route(url_map or rules(), "127.0.0.1", 0, **kwargs)


async def ask(server: Server, path: str, host: str | None = None, **kwargs: Any) -> RawResponse:
    """The response to a handshake."""
    if host is not None:
        kwargs.update(without=["Host"], extra=[("Host", host)])
    async with raw_socket(server) as peer:
        await peer.send(request_bytes(port_of(server), path, **kwargs))
        head = await peer.read_until(b"\r\n\r\n")
        if head.startswith(b"HTTP/1.1 101 "):
            return RawResponse.from_bytes(head)
        return RawResponse.from_bytes(head + await peer.read_to_end())


async def answer(server: Server, path: str, **kwargs: Any) -> str | bytes:
    """What the handler says."""
    async with connecting(server, path, **kwargs) as client:
        return await within(client.recv())


def test_signatures() -> None:
    def of(function: Callable[..., Any]) -> list[tuple[str, str, Any]]:
        return [
            (parameter.name, parameter.kind.name, parameter.default)
            for parameter in inspect.signature(function).parameters.values()
        ]

    empty = inspect.Parameter.empty
    assert of(route) == [
        ("url_map", "POSITIONAL_OR_KEYWORD", empty),
        ("args", "VAR_POSITIONAL", empty),
        ("server_name", "KEYWORD_ONLY", None),
        ("ssl", "KEYWORD_ONLY", None),
        ("create_router", "KEYWORD_ONLY", None),
        ("kwargs", "VAR_KEYWORD", empty),
    ]
    assert of(unix_route) == [
        ("url_map", "POSITIONAL_OR_KEYWORD", empty),
        ("path", "POSITIONAL_OR_KEYWORD", None),
        ("kwargs", "VAR_KEYWORD", empty),
    ]
    assert of(Router) == [
        ("url_map", "POSITIONAL_OR_KEYWORD", empty),
        ("server_name", "POSITIONAL_OR_KEYWORD", None),
        ("url_scheme", "POSITIONAL_OR_KEYWORD", "ws"),
    ]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/", "plain {}"),
        ("/?query", "plain {}"),
        ("/chat/one", "room one"),
        ("/chat/one?x=/y", "room one"),
        ("/chat/a%20b%2Fc", "room a%20b%2Fc"),
        ("/number/17", "anything {'number': 17}"),
        ("/path/a/b", "anything {'rest': 'a/b'}"),
        ("/page/", "anything {'number': 1}"),
        ("/page/2", "anything {'number': 2}"),
        ("/declared", "plain {}"),
        ("/undeclared", "plain {}"),
    ],
)
async def test_handlers(path: str, said: str) -> None:
    async with routing() as server:
        assert await answer(server, path) == said


async def test_absolute_targets() -> None:
    """RFC 9112 section 3.2.2: the host in it counts, whatever the header says."""
    async with routing() as server:
        assert (await ask(server, "http://example.com/chat/one")).status == 101
        assert (await ask(server, "http://example.com")).status == 101
        response = await ask(server, "http://example.com:81/slash", host="other")
        assert response.headers["location"] == "ws://example.com:81/slash/"


@pytest.mark.parametrize(
    "path", ["/number/x", "/nowhere", "/slash/x", "/built", "//chat/one", "//"]
)
async def test_not_found(path: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with routing() as server:
        response = await ask(server, path)
        assert (response.status, response.reason) == (404, "Not Found")
        assert response.body == b"Not Found"
        assert response.headers["content-type"] == "text/plain; charset=utf-8"
        assert response.headers["connection"] == "close"
    assert "HTTP response sent (404 Not Found)" in caplog.messages
    assert noise(caplog) == []


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/slash", "ws://{host}/slash/"),
        ("/slash?a=1&b=%20", "ws://{host}/slash/?a=1&b=%20"),
        ("/old/3", "ws://{host}/number/3"),
        ("/page/1", "ws://{host}/page/"),
        ("/path//a//b", "ws://{host}/path/a/b"),
        ("/elsewhere", "http://example.com/x"),
        ("/raised", "http://example.com/raised"),
    ],
)
async def test_redirects(path: str, location: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with routing() as server:
        response = await ask(server, path)
        location = location.format(host=f"127.0.0.1:{port_of(server)}")
    assert (response.status, response.reason) == (302, "Found")
    assert response.headers["location"] == location
    assert response.body == f"Found at {location}".encode()
    assert "HTTP response sent (302 Found)" in caplog.messages
    assert noise(caplog) == []


@pytest.mark.parametrize(
    ("kwargs", "host", "location"),
    [
        ({}, "example.com", "ws://example.com/slash/"),
        ({}, "EXAMPLE.com:80", "ws://example.com:80/slash/"),
        ({}, "[::1]:80", "ws://[::1]:80/slash/"),
        ({"server_name": "name.example"}, "other", "ws://name.example/slash/"),
        ({"server_name": "name.example:81"}, "other", "ws://name.example:81/slash/"),
        ({"ssl": True}, "example.com", "wss://example.com/slash/"),
        ({"ssl": None}, "example.com", "ws://example.com/slash/"),
    ],
)
async def test_where_redirects_lead(kwargs: dict[str, Any], host: str, location: str) -> None:
    async with routing(**kwargs) as server:
        assert (await ask(server, "/slash", host=host)).headers["location"] == location


async def test_over_tls(tls: TLS) -> None:
    async with routing(ssl=tls.server) as server:
        uri = uri_of(server, "/chat/one", "wss")
        async with connecting_to(uri, ssl=tls.client) as client:
            assert await within(client.recv()) == "room one"


def connecting_to(uri: str, **kwargs: Any) -> Any:
    from websockets.asyncio.client import connect

    return connect(uri, compression=None, **kwargs)


@pytest.mark.parametrize(
    ("path", "allow"), [("/post", "POST"), ("/several", "DELETE, PUT")], ids=["one", "several"]
)
async def test_methods(path: str, allow: str, caplog: pytest.LogCaptureFixture) -> None:
    """WebSocket is GET; RFC 9110 section 15.5.6."""
    async with routing() as server:
        response = await ask(server, path)
        assert (response.status, response.reason) == (405, "Method Not Allowed")
        assert response.headers["allow"] == allow
        assert response.body == b"Method Not Allowed"
    assert noise(caplog) == []


@pytest.mark.parametrize("method", ["HEAD", "POST", "OPTIONS"])
async def test_other_methods(method: str) -> None:
    """They are routed, too; what is found is for GET only."""
    async with routing() as server:
        response = await ask(server, "/", method=method)
        assert (response.status, response.headers["allow"]) == (405, "GET")
        assert (await ask(server, "/nowhere", method=method)).status == 404
        assert (await ask(server, "/slash", method=method)).status == 302


@pytest.mark.parametrize(
    ("kwargs", "text"),
    [
        ({"path": "*"}, "invalid request target: *"),
        ({"path": "chat/one"}, "invalid request target: chat/one"),
        ({"path": "/slash#x"}, "invalid request target: /slash#x"),
        ({"path": "/slash", "without": ["Host"]}, "missing Host header"),
        ({"path": "/slash", "extra": [("Host", "b")]}, "invalid Host header: multiple values"),
        ({"path": "/slash", "host": "a/b?"}, "invalid Host header: a/b?"),
        ({"path": "/slash", "host": "user@a"}, "invalid Host header: user@a"),
    ],
)
async def test_requests_that_tell_no_path_or_host(
    kwargs: dict[str, Any], text: str, caplog: pytest.LogCaptureFixture
) -> None:
    """RFC 9112 section 3.2. Nobody is redirected to what a client made up."""
    async with routing() as server:
        response = await ask(server, **kwargs)
        assert response.status == 400
        assert response.body == f"Failed to open a WebSocket connection: {text}.\n".encode()
    assert noise(caplog) == []


@pytest.mark.parametrize("host", ["a..b", "a" * 64, "x." + "b" * 64 + ".example"])
async def test_hosts_that_cannot_be(host: str, caplog: pytest.LogCaptureFixture) -> None:
    async with routing() as server:
        response = await ask(server, "/slash", host=host)
        assert (response.status, response.body) == (400, b"Bad Request")
    assert noise(caplog) == []


async def test_http_1_0() -> None:
    """It does not have the header."""
    async with routing() as server:
        response = await ask(server, "/slash", version="HTTP/1.0", without=["Host"])
        assert response.status == 505


async def test_no_upgrade() -> None:
    async with routing() as server:
        response = await ask(server, "/", without=["Upgrade"])
        assert response.status == 426


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/name", "'str' object is not callable"),
        ("/unexpected/x", "plain() got an unexpected keyword argument 'value'"),
    ],
)
async def test_endpoints_that_cannot_be_called(
    path: str, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with routing() as server, connecting(server, path) as client:
        await within(client.wait_closed())
        assert client.close_code == 1011
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.getMessage() == "connection handler failed"
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == text


async def test_rules_become_rules_for_websockets() -> None:
    url_map = rules()
    assert not all(rule.websocket for rule in url_map.iter_rules())
    Router(url_map)
    assert all(rule.websocket for rule in url_map.iter_rules())


async def test_rules_that_come_later() -> None:
    url_map = rules()
    async with routing(url_map) as server:
        url_map.add(Rule("/later/<int:number>", endpoint=anything, websocket=True))
        assert await answer(server, "/later/1") == "anything {'number': 1}"


async def test_hosts_in_rules() -> None:
    url_map = Map(
        [
            Rule("/", host="one.example", endpoint=plain),
            Rule("/", host="<name>.two.example", endpoint=room),
        ],
        host_matching=True,
    )
    async with routing(url_map) as server:
        assert (await ask(server, "/", host="one.example")).status == 101
        assert (await ask(server, "/", host="a.two.example")).status == 101
        assert (await ask(server, "/", host="two.example")).status == 404


# Hooks


@pytest.mark.parametrize("asynchronous", [False, True], ids=["function", "coroutine"])
async def test_process_request_comes_first(asynchronous: bool) -> None:
    asked = []

    def process_request(ws: ServerConnection, request: Request) -> Response | None:
        assert not hasattr(ws, "handler")
        asked.append(request.path)
        return ws.respond(403, "No.\n") if request.path == "/chat/no" else None

    async def process_request_later(ws: ServerConnection, request: Request) -> Response | None:
        return process_request(ws, request)

    chosen: Any = process_request_later if asynchronous else process_request
    async with routing(process_request=chosen) as server:
        assert (await ask(server, "/chat/no")).body == b"No.\n"
        assert await answer(server, "/chat/yes") == "room yes"
        assert (await ask(server, "/nowhere")).status == 404
        assert (await ask(server, "/slash")).status == 302
    assert asked == ["/chat/no", "/chat/yes", "/nowhere", "/slash"]


async def test_basic_auth_comes_first() -> None:
    async with routing(process_request=basic_auth("realm", ("joe", "secret"))) as server:
        assert (await ask(server, "/nowhere")).status == 401
        header = ("Authorization", "Basic am9lOnNlY3JldA==")
        assert (await ask(server, "/nowhere", extra=[header])).status == 404
        assert (await ask(server, "/", extra=[header])).status == 101


async def test_process_request_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    def process_request(ws: ServerConnection, request: Request) -> None:
        raise LookupError("a bug")

    async with routing(process_request=process_request) as server:
        assert (await ask(server, "/")).status == 500
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.getMessage() == "process_request failed"


async def test_process_response_sees_every_response() -> None:
    def process_response(ws: ServerConnection, request: Request, response: Response) -> None:
        response.headers["X-Mark"] = request.path

    async with routing(process_response=process_response) as server:
        for path in ("/", "/nowhere", "/slash"):
            assert (await ask(server, path)).headers["x-mark"] == path


class Custom(Router):
    """Each part of it may be replaced."""

    def get_server_name(self, connection: ServerConnection, request: Request) -> str:
        return f"custom.{super().get_server_name(connection, request)}"

    def not_found(self, connection: ServerConnection) -> Response:
        return connection.respond(404, "custom\n")

    def redirect(self, connection: ServerConnection, url: str) -> Response:
        response = super().redirect(connection, url)
        response.headers["X-Custom"] = "yes"
        return response

    async def handler(self, connection: ServerConnection) -> None:
        await connection.send("custom")
        await super().handler(connection)


async def test_custom_router() -> None:
    async with routing(create_router=Custom) as server:
        response = await ask(server, "/slash", host="example.com")
        assert response.headers["location"] == "ws://custom.example.com/slash/"
        assert response.headers["x-custom"] == "yes"
        assert (await ask(server, "/nowhere")).body == b"custom\n"
        async with connecting(server, "/chat/one") as client:
            assert [await within(client.recv()) for _ in range(2)] == ["custom", "room one"]


class Asking(Router):
    async def route_request(  # type: ignore[override]
        self, connection: ServerConnection, request: Request
    ) -> Response | None:
        return super().route_request(connection, request)


async def test_router_that_decides_in_a_coroutine() -> None:
    async with routing(create_router=Asking) as server:
        assert await answer(server, "/chat/one") == "room one"
        assert (await ask(server, "/nowhere")).status == 404


async def test_what_a_router_is_created_with() -> None:
    created = []

    def create(*args: Any) -> Router:
        created.append(args)
        return Router(*args)

    url_map = rules()
    route(url_map, create_router=create)  # type: ignore[arg-type]
    route(url_map, create_router=create, server_name="a", ssl=True)  # type: ignore[arg-type]
    assert created == [(url_map, None, "ws"), (url_map, "a", "wss")]
    router = Router(url_map, "a", "wss")
    assert (router.url_map, router.server_name, router.url_scheme) == (url_map, "a", "wss")


async def test_unix_route(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "socket")
    async with unix_route(rules(), path, compression=None):
        async with unix_connect(path, "ws://localhost/chat/one", compression=None) as client:
            assert await within(client.recv()) == "room one"


def test_bad_arguments() -> None:
    with pytest.raises(AttributeError):
        route([], "127.0.0.1", 0)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        route(rules(), plain, "127.0.0.1", 0)


def test_without_werkzeug() -> None:
    """It is imported when it is used, and the error says what to install."""
    code = (
        "import sys; sys.modules['werkzeug'] = None\n"
        "from websockets.asyncio.router import Router, route, unix_route\n"
        "for function in route, unix_route:\n"
        "    try: function(None)\n"
        "    except ImportError as exc: print(exc, exc.name)\n"
    )
    package = pathlib.Path(websockets.__file__).parent
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(package.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    line = "route() requires werkzeug: pip install websockets[routing] werkzeug"
    assert result.stdout.splitlines() == [line, line]
