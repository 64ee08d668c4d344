"""Arguments of `connect`: what becomes of each, and what is said about those that cannot be.

Results are those of websockets 17.4, but where a comment says why they are not.
"""

from __future__ import annotations

import asyncio
import base64
import inspect
import socket
import ssl
from collections.abc import Callable
from typing import Any

import pytest

from websockets.asyncio.client import ClientConnection, connect, unix_connect
from websockets.client import backoff, process_exception
from websockets.datastructures import Headers
from websockets.exceptions import InvalidHeader, InvalidHeaderValue, InvalidURI
from websockets.http11 import USER_AGENT

from ..helpers import connecting, idle, port_of, serving, within


def test_signature() -> None:
    parameters = inspect.signature(connect).parameters
    assert {name: p.default for name, p in parameters.items() if name not in ("uri", "kwargs")} == {
        "origin": None,
        "extensions": None,
        "subprotocols": None,
        "compression": "deflate",
        "additional_headers": None,
        "user_agent_header": USER_AGENT,
        "proxy": True,
        "process_exception": process_exception,
        "open_timeout": 10,
        "ping_interval": 20,
        "ping_timeout": 20,
        "close_timeout": 10,
        "reconnect_delays": backoff,
        "max_size": 2**20,
        "max_queue": 16,
        "write_limit": 2**15,
        "logger": None,
        "create_connection": None,
    }


def test_attributes() -> None:
    """Subclasses read them."""
    headers = {"X": "1"}
    client = connect(
        "ws://h:1/p", additional_headers=headers, proxy=None, open_timeout=3, local_addr=("::1", 0)
    )
    assert client.uri == "ws://h:1/p"
    assert client.ws_uri.port == 1
    assert client.additional_headers is headers
    assert client.user_agent_header == USER_AGENT
    assert client.proxy is None
    assert client.open_timeout == 3
    assert client.process_exception is process_exception
    assert client.reconnect_delays is backoff
    assert client.logger.name == "websockets.client"
    assert client.create_connection_kwargs == {"local_addr": ("::1", 0)}


# Arguments of the event loop


class Stop(Exception):
    """Far enough."""


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Call `connect`, and return what that passes to the event loop's method, and its factory."""

    async def call(uri: str, method: str = "create_connection", **kwargs: Any) -> Any:
        passed = []

        async def create(factory: Callable[[], ClientConnection], **kwargs: Any) -> None:
            passed.append((factory(), kwargs))
            raise Stop

        loop = asyncio.get_running_loop()
        try:
            monkeypatch.setattr(loop, method, create)
        except AttributeError:
            pytest.skip("this event loop cannot be patched")
        with pytest.raises(Stop):
            await connect(uri, **kwargs)
        (result,) = passed
        return result

    return call


async def test_plain(call: Callable[..., Any]) -> None:
    connection, kwargs = await call("ws://example.com:8080/")
    assert kwargs == {"host": "example.com", "port": 8080}
    assert connection.protocol.uri.host == "example.com"


async def test_tls(call: Callable[..., Any]) -> None:
    """One default context for all: it takes a megabyte."""
    _, kwargs = await call("wss://example.com/")
    context = kwargs.pop("ssl")
    assert kwargs == {"server_hostname": "example.com", "host": "example.com", "port": 443}
    assert isinstance(context, ssl.SSLContext)
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    for uri, ssl_argument in [("wss://example.com/", True), ("wss://other.com/", True)]:
        _, kwargs = await call(uri, ssl=ssl_argument)
        assert kwargs["ssl"] is context
    mine = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _, kwargs = await call("wss://example.com/", ssl=mine, server_hostname="other.com")
    assert kwargs["ssl"] is mine
    assert kwargs["server_hostname"] == "other.com"


@pytest.mark.parametrize(
    "kwargs",
    [
        {"happy_eyeballs_delay": 0.25, "interleave": 1, "all_errors": True},
        {"family": socket.AF_INET, "local_addr": ("127.0.0.1", 0), "flags": 0},
        {"ssl_handshake_timeout": 1, "ssl_shutdown_timeout": 1},
        {"unknown": 1},
    ],
    ids=lambda kwargs: next(iter(kwargs)),
)
async def test_others(call: Callable[..., Any], kwargs: dict[str, Any]) -> None:
    _, passed = await call("ws://example.com/", **kwargs)
    assert passed == {"host": "example.com", "port": 80, **kwargs}


async def test_elsewhere(call: Callable[..., Any]) -> None:
    connection, passed = await call("wss://example.com/", host="10.0.0.1", port=4430)
    assert (passed["host"], passed["port"]) == ("10.0.0.1", 4430)
    assert passed["server_hostname"] == "example.com"
    assert connection.protocol.uri.host == "example.com"


async def test_socket(call: Callable[..., Any]) -> None:
    with socket.socket() as sock:
        _, passed = await call("ws://example.com/", sock=sock)
        assert passed == {"sock": sock}
        _, passed = await call("ws://example.com/", sock=sock, host="10.0.0.1")
        assert passed == {"sock": sock, "host": "10.0.0.1"}  # the event loop refuses that
    _, passed = await call("ws://example.com/", sock=None)
    assert passed == {"sock": None, "host": "example.com", "port": 80}


async def test_unix(call: Callable[..., Any]) -> None:
    _, passed = await call("ws://localhost/", "create_unix_connection", unix=True, path="/a")
    assert passed == {"path": "/a"}
    _, passed = await call("wss://localhost/", "create_unix_connection", unix=True, path="/a")
    assert passed.pop("ssl").check_hostname
    assert passed == {"path": "/a", "server_hostname": "localhost"}


@pytest.mark.parametrize(
    ("kwargs", "uri"),
    [
        ({}, "ws://localhost/"),
        ({"ssl": None}, "ws://localhost/"),
        ({"ssl": True}, "wss://localhost/"),
        ({"uri": "ws://example.com/"}, "ws://example.com/"),
    ],
)
def test_uri_of_a_unix_socket(kwargs: dict[str, Any], uri: str) -> None:
    assert unix_connect("/a", **kwargs).uri == uri


# URIs and headers


@pytest.mark.parametrize(
    ("user_info", "credentials"),
    [
        ("user:pass@", "user:pass"),
        (":@", ":"),
        ("user:@", "user:"),
        ("a:b:c@", "a:b:c"),
        ("%C3%A9:%E2%82%AC@", "\xe9:\u20ac"),
        ("\xe9:\u20ac@", "\xe9:\u20ac"),
        ("", None),
    ],
)
async def test_credentials(user_info: str, credentials: str | None) -> None:
    """RFC 7617, in UTF-8."""
    async with serving(idle) as server:
        uri = f"ws://{user_info}127.0.0.1:{port_of(server)}/"
        async with connect(uri) as client:
            assert client.request is not None
            expected = []
            if credentials is not None:
                expected = ["Basic " + base64.b64encode(credentials.encode()).decode()]
            assert client.request.headers.get_all("Authorization") == expected
            assert client.request.headers["Host"] == f"127.0.0.1:{port_of(server)}"


async def test_internationalized() -> None:
    async with serving(idle) as server:
        port = port_of(server)
        async with connect(
            f"ws://\xe9.example:{port}/\xe9?\u20ac=%20", host="127.0.0.1", port=port
        ) as client:
            assert client.request is not None
            assert client.request.path == "/%C3%A9?%E2%82%AC=%20"
            assert client.request.headers["Host"] == f"xn--9ca.example:{port}"


@pytest.mark.parametrize(
    "headers",
    [
        [("X-A", "1"), ("x-a", "2"), ("X-B", "\xe9")],
        Headers([("X-A", "1"), ("x-a", "2"), ("X-B", "\xe9")]),
        (("X-A", "1"), ("x-a", "2"), ("X-B", "\xe9")),
    ],
    ids=["list", "Headers", "tuple"],
)
async def test_additional_headers(headers: Any) -> None:
    async with serving(idle) as server, connecting(server, additional_headers=headers) as client:
        assert client.request is not None
        assert client.request.headers.get_all("X-A") == ["1", "2"]
        assert client.request.headers["X-B"] == "\xe9"


@pytest.mark.parametrize("name", ["Authorization", "Sec-WebSocket-Protocol"])
async def test_additional_headers_do_not_replace(name: str) -> None:
    """But for Host and User-Agent, they are added to ours."""
    async with serving(idle) as server:
        uri = f"ws://user:pass@127.0.0.1:{port_of(server)}/"
        async with connect(uri, additional_headers={name: "mine"}, subprotocols=["b"]) as client:
            assert client.request is not None
            values = client.request.headers.get_all(name)
            assert (len(values), values[1]) == (2, "mine")


@pytest.mark.parametrize(
    ("kwargs", "exc_type"),
    [
        ({"additional_headers": {"X": "a\r\nX-Injected: b"}}, InvalidHeaderValue),
        ({"additional_headers": {"a b": "c"}}, InvalidHeader),  # 17.4 sends it
        ({"user_agent_header": "a\nb"}, InvalidHeaderValue),
        ({"origin": "a\nb"}, InvalidHeaderValue),
        ({"additional_headers": 1}, TypeError),
        ({"additional_headers": [("a",)]}, ValueError),
    ],
)
async def test_headers_that_cannot_be(kwargs: dict[str, Any], exc_type: type[Exception]) -> None:
    requests = []

    def process_request(ws: object, request: object) -> None:
        requests.append(request)

    async with serving(idle, process_request=process_request) as server:
        with pytest.raises(exc_type):
            await within(connecting(server, **kwargs).__aenter__())
    assert requests == []


# What cannot be


@pytest.mark.parametrize(
    ("uri", "kwargs", "exc_type", "text"),
    [
        ("ws://h/", {"compression": "zip"}, ValueError, "unsupported compression: zip"),
        ("ws://h/", {"subprotocols": "a"}, TypeError, "subprotocols must be a list, not a str"),
        ("ws://h/", {"subprotocols": {"a"}}, TypeError, "subprotocols must be a list"),
        ("ws://h/", {"subprotocols": ["a b"]}, ValueError, "invalid subprotocol: a b"),
        *(
            ("ws://h/", {"ssl": value}, ValueError, "ssl argument is incompatible with a ws:// URI")
            for value in (True, False)
        ),
        ("ws://u@h/", {}, InvalidURI, "username provided without password"),
    ],
)
def test_seen_at_once(
    uri: str, kwargs: dict[str, Any], exc_type: type[Exception], text: str
) -> None:
    with pytest.raises(exc_type) as raised:
        connect(uri, **kwargs)
    assert str(raised.value).endswith(text)


@pytest.mark.parametrize(
    ("uri", "kwargs", "text"),
    [
        ("wss://h/", {"ssl": None}, "ssl=None is incompatible with a wss:// URI"),
        ("wss://127.0.0.1:9/", {"ssl": False}, "server_hostname is only meaningful with ssl"),
        ("ws://127.0.0.1:9/", {"server_hostname": "a"}, "server_hostname is only meaningful"),
    ],
)
async def test_seen_when_connecting(
    uri: str, kwargs: dict[str, Any], text: str, on_uvloop: bool
) -> None:
    client = connect(uri, **kwargs)
    with pytest.raises((ValueError, OSError) if on_uvloop else ValueError) as raised:
        await within(client.__aenter__())
    if not on_uvloop:
        assert str(raised.value).startswith(text)


async def test_unknown_argument() -> None:
    """The event loop says so."""
    with pytest.raises(TypeError, match="unexpected keyword argument 'unknown'"):
        await connect("ws://127.0.0.1:9/", unknown=1)
