"""Redirects of the opening handshake. What must not go along is in ``test_security.py``."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from websockets.asyncio import client as client_module
from websockets.asyncio.client import ClientConnection, connect, unix_connect
from websockets.asyncio.server import ServerConnection, unix_serve
from websockets.datastructures import Headers
from websockets.exceptions import (
    InvalidHandshake,
    InvalidHeader,
    InvalidMessage,
    InvalidStatus,
    InvalidURI,
    SecurityError,
)
from websockets.http11 import Request, Response

from ..helpers import TLS, port_of, raw_server, serving, turns, until, uri_of, within
from ..proxies import proxying


class Site:
    """A server that redirects some of its paths, and remembers who came."""

    def __init__(self, redirects: dict[str, str] | None = None, status: int = 302) -> None:
        self.redirects = redirects or {}
        self.status = status
        self.requests: list[Request] = []
        self.uri = ""
        self.port = 0
        self.left = 0

    @property
    def paths(self) -> list[str]:
        return [request.path for request in self.requests]

    def process_request(self, ws: ServerConnection, request: Request) -> Response | None:
        self.requests.append(request)
        location = self.redirects.get(request.path)
        if location is None:
            return None
        fields = {"Location": location, "Content-Length": "0"}
        return Response(self.status, "Go", Headers(fields))

    async def handler(self, ws: ServerConnection) -> None:
        await ws.send(ws.request.path)
        await ws.wait_closed()


@contextlib.asynccontextmanager
async def site(
    redirects: dict[str, str] | None = None, status: int = 302, **kwargs: Any
) -> AsyncIterator[Site]:
    site = Site(redirects, status)
    async with serving(site.handler, process_request=site.process_request, **kwargs) as server:
        site.uri = uri_of(server, "", "wss" if "ssl" in kwargs else "ws")
        site.port = port_of(server)
        yield site


async def path_of(connecting: connect) -> str:
    """The path that a connection ends at."""
    async with connecting as client:
        path = await within(client.recv())
        assert client.request.path == path
        return str(path)


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
async def test_followed(status: int) -> None:
    async with site({"/from?a=1": "/to?b=2"}, status) as one:
        connecting = connect(one.uri + "/from?a=1", origin="https://example.com")
        assert await path_of(connecting) == "/to?b=2"
        assert one.paths == ["/from?a=1", "/to?b=2"]
        first, second = (request.headers for request in one.requests)
        assert first["Sec-WebSocket-Key"] != second["Sec-WebSocket-Key"]
        for name in ("Host", "Origin", "User-Agent", "Sec-WebSocket-Extensions"):
            assert first[name] == second[name]
        assert connecting.uri == one.uri + "/to?b=2"


@pytest.mark.parametrize("status", [304, 305, 306, 309, 400])
async def test_not_followed(status: int) -> None:
    async with site({"/from": "/to"}, status) as one:
        with pytest.raises(InvalidStatus) as raised:
            await within(connect(one.uri + "/from").__aenter__())
        assert raised.value.response.status_code == status
        assert one.paths == ["/from"]


async def test_without_location() -> None:
    def process_request(ws: ServerConnection, request: Request) -> Response:
        return Response(302, "Found", Headers({"Content-Length": "0"}))

    async with site() as one, serving(one.handler, process_request=process_request) as server:
        with pytest.raises(InvalidStatus):
            await within(connect(uri_of(server)).__aenter__())


@pytest.mark.parametrize(
    ("location", "path"),
    [
        ("to", "/dir/to"),
        ("/to", "/to"),
        ("../to", "/to"),
        ("./", "/dir/"),
        ("?b", "/dir/from?b"),
        ("", "/dir/from?a"),
        ("/to;p=1", "/to;p=1"),
        ("//{host}/to", "/to"),
        ("ws://{host}", "/"),
        # An IRI, in ISO-8859-1 as headers are.
        ("/\xe9", "/%C3%A9"),
    ],
)
async def test_relative(location: str, path: str) -> None:
    """RFC 9110 section 10.2.2: relative to the target, by the rules of RFC 3986 section 5."""
    async with site() as one:
        location = location.format(host=one.uri.removeprefix("ws://"))
        one.redirects["/dir/from?a"] = location
        if path == "/dir/from?a":
            with pytest.raises(SecurityError):
                await path_of(connect(one.uri + "/dir/from?a"))
        else:
            assert await path_of(connect(one.uri + "/dir/from?a")) == path


async def test_other_server() -> None:
    async with site() as two, site({"/from": two.uri + "/to"}) as one:
        headers = {"X-Mine": "1", "Host": "example.com"}
        connecting = connect(one.uri + "/from", additional_headers=headers)
        assert await path_of(connecting) == "/to"
        assert one.requests[0].headers["Host"] == "example.com"
        # 17.4 sends the other one.
        assert two.requests[0].headers["Host"] == f"127.0.0.1:{two.port}"
        assert two.requests[0].headers["X-Mine"] == "1"
        assert connecting.additional_headers is headers


async def test_there_and_back() -> None:
    """What was dropped on the way is not picked up again."""
    async with site() as one, site() as two:
        one.redirects["/from"] = two.uri + "/there"
        two.redirects["/there"] = one.uri + "/back"
        headers = [("Cookie", "a"), ("X-Mine", "1"), ("cookie", "b")]
        assert await path_of(connect(one.uri + "/from", additional_headers=headers)) == "/back"
        assert one.requests[0].headers.get_all("Cookie") == ["a", "b"]
        for request in (two.requests[0], one.requests[1]):
            assert "Cookie" not in request.headers
            assert request.headers["X-Mine"] == "1"


async def test_again() -> None:
    """Each attempt starts at the beginning, with everything. 17.4 starts where the last one led."""
    async with site() as two, site({"/from": two.uri + "/to"}) as one:
        connecting = connect(one.uri + "/from", additional_headers={"Cookie": "a"})
        for count in (1, 2):
            assert await path_of(connecting) == "/to"
            assert connecting.uri == two.uri + "/to"
            assert len(one.requests) == len(two.requests) == count
            assert one.requests[-1].headers["Cookie"] == "a"
        # The application may change its mind.
        connecting.uri, connecting.ws_uri = two.uri, client_module.parse_uri(two.uri)
        assert await path_of(connecting) == "/"
        assert two.requests[-1].headers["Cookie"] == "a"


async def test_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "MAX_REDIRECTS", 3)
    async with site({"/1": "/2", "/2": "/3", "/3": "/4"}) as one:
        assert await path_of(connect(one.uri + "/2")) == "/4"
        one.requests.clear()
        with pytest.raises(SecurityError) as raised:
            await within(connect(one.uri + "/1").__aenter__())
        assert str(raised.value) == "more than 3 redirects"
        assert one.paths == ["/1", "/2", "/3"]


async def test_open_timeout_is_for_all() -> None:
    """Not for each attempt: there would be as many as may be."""
    async with raw_server() as listener:

        async def redirect() -> None:
            while True:
                with contextlib.suppress(OSError, EOFError):  # the client has given up
                    peer = await listener.accept_request()
                    await asyncio.sleep(0.02)
                    await peer.send(b"HTTP/1.1 302 Go\r\nLocation: /\r\nContent-Length: 0\r\n\r\n")

        redirecting = asyncio.create_task(redirect())
        with pytest.raises(TimeoutError, match="^timed out during opening handshake$"):
            await within(connect(listener.uri, open_timeout=0.05).__aenter__())
        assert len(listener.peers) < 5
        # asyncio complains if a connection comes in the turn in which accepting it is cancelled.
        await turns()
        redirecting.cancel()
        await asyncio.wait([redirecting])


async def test_connections_are_closed() -> None:
    """Those that were redirected, too, whatever the server does with them."""
    async with raw_server() as listener, site() as one:
        opening = asyncio.ensure_future(connect(listener.uri).__aenter__())
        peer = await listener.accept_request()
        location = f"{one.uri}/to".encode()
        await peer.send(b"HTTP/1.1 302 Go\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % location)
        client = await within(opening)
        await peer.read_to_end()
        await client.close()


# TLS


async def test_within_tls(tls: TLS) -> None:
    async with site({"/from": "/to"}, ssl=tls.server) as one:
        assert await path_of(connect(one.uri + "/from", ssl=tls.client)) == "/to"
        assert one.paths == ["/from", "/to"]


async def test_to_another_server_with_tls(tls: TLS) -> None:
    async with site(ssl=tls.server) as two:
        async with site({"/from": two.uri + "/to"}, ssl=tls.server) as one:
            assert await path_of(connect(one.uri + "/from", ssl=tls.client)) == "/to"


async def test_from_tls_to_none(tls: TLS) -> None:
    async with site() as two, site({"/from": two.uri + "/to"}, ssl=tls.server) as one:
        with pytest.raises(SecurityError) as raised:
            await within(connect(one.uri + "/from", ssl=tls.client).__aenter__())
        assert str(raised.value) == (f"cannot follow redirect to non-secure URI {two.uri}/to")
        assert isinstance(raised.value.__cause__, InvalidStatus)
        assert two.requests == []


async def test_from_none_to_tls(tls: TLS, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_ssl_context", tls.client)
    async with site(ssl=tls.server) as two, site({"/from": two.uri + "/to"}) as one:
        headers = {"Cookie": "a"}
        assert await path_of(connect(one.uri + "/from", additional_headers=headers)) == "/to"
        assert "Cookie" not in two.requests[0].headers


async def test_subclass_goes_from_tls_to_none(tls: TLS) -> None:
    """It may, but not with an argument that promises TLS."""

    class Follow(connect):
        def process_redirect(self, exc: Exception) -> Exception | str:
            return two.uri

    async with site() as two, site({"/from": "/to"}, ssl=tls.server) as one:
        with pytest.raises(ValueError, match="^ssl argument is incompatible with a ws:// URI$"):
            await within(Follow(one.uri + "/from", ssl=tls.client).__aenter__())
        assert two.requests == []


# Where the application has said where to connect to


async def test_with_a_socket() -> None:
    async with site({"/from": "/to"}) as one:
        sock = socket.create_connection(("127.0.0.1", one.port))
        with pytest.raises(ValueError) as raised:
            await within(connect(one.uri + "/from", sock=sock).__aenter__())
        assert str(raised.value) == (
            f"cannot follow redirect to {one.uri}/to with a preexisting socket"
        )
        assert isinstance(raised.value.__cause__, InvalidStatus)
        assert await path_of(connect(one.uri + "/from", sock=None)) == "/to"


async def test_no_password_is_shown() -> None:
    """A relative Location keeps the user information, and errors are logged."""
    async with site({"/from": "/to", "/bad": "/to#there"}) as one:
        uri = one.uri.replace("//", "//me:secret@")
        sock = socket.create_connection(("127.0.0.1", one.port))
        for path, kwargs, error in (
            ("/from", {"sock": sock}, ValueError),
            ("/bad", {}, InvalidURI),
        ):
            with pytest.raises(error, match=r"//me:\*\*\*@"):
                await within(connect(uri + path, **kwargs).__aenter__())


@pytest.mark.parametrize("names", [["host"], ["port"], ["host", "port"]])
async def test_with_host_or_port(names: list[str]) -> None:
    async with site() as two, site({"/from": "/to", "/else": two.uri + "/to"}) as one:
        kwargs = {name: {"host": "127.0.0.1", "port": one.port}[name] for name in names}
        uri = one.uri if "port" not in names else "ws://127.0.0.1"
        assert await path_of(connect(uri + "/from", **kwargs)) == "/to"
        with pytest.raises(ValueError) as raised:
            await within(connect(uri + "/else", **kwargs).__aenter__())
        assert str(raised.value) == (
            f"cannot follow cross-origin redirect to {two.uri}/to with an explicit host or port"
        )
        assert two.requests == []


async def test_with_a_unix_socket(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "socket")
    one = Site({"/from": "/to", "/else": "ws://127.0.0.1:9/"})
    async with unix_serve(one.handler, path, process_request=one.process_request):
        assert await path_of(unix_connect(path, uri="ws://localhost/from")) == "/to"
        with pytest.raises(ValueError) as raised:
            await within(unix_connect(path, uri="ws://localhost/else").__aenter__())
        assert str(raised.value) == (
            "cannot follow cross-origin redirect to ws://127.0.0.1:9/ with a Unix socket"
        )


async def test_through_a_proxy() -> None:
    """Each attempt opens a tunnel of its own."""
    async with proxying() as proxy, site() as two:
        async with site({"/from": two.uri + "/to"}) as one:
            assert await path_of(connect(one.uri + "/from", proxy=proxy.url)) == "/to"
            assert proxy.targets == [("127.0.0.1", one.port), ("127.0.0.1", two.port)]
        await until(lambda: proxy.left == 0)


# Subclasses


class Recording(connect):
    """Asks `decide` instead, if there is one."""

    decide: Callable[[Exception], Any] | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.asked: list[Exception] = []

    def process_redirect(self, exc: Exception) -> Exception | str:
        self.asked.append(exc)
        if self.decide is None:
            return super().process_redirect(exc)
        return self.decide(exc)  # type: ignore[no-any-return]


async def test_subclass_is_asked() -> None:
    async with site({"/from": "/to"}) as one:
        recording = Recording(one.uri + "/from")
        assert await path_of(recording) == "/to"
        assert [type(exc) for exc in recording.asked] == [InvalidStatus]


async def test_subclass_is_asked_about_other_failures() -> None:
    """But not about those of TCP."""
    async with site({"/": "/"}, 401) as one, raw_server() as listener:
        recording = Recording(one.uri)
        with pytest.raises(InvalidStatus):
            await within(recording.__aenter__())
        assert [type(exc) for exc in recording.asked] == [InvalidStatus]

        recording = Recording(listener.uri)
        opening = asyncio.ensure_future(recording.__aenter__())
        await (await listener.accept_request()).send(b"junk\r\n\r\n")
        with pytest.raises(InvalidMessage):
            await within(opening)
        assert [type(exc) for exc in recording.asked] == [InvalidMessage]

        recording = Recording(listener.uri, open_timeout=0.01)
        with pytest.raises(TimeoutError):
            await within(recording.__aenter__())
        assert recording.asked == []
    recording = Recording("ws://127.0.0.1:1/")
    with pytest.raises(OSError):
        await within(recording.__aenter__())
    assert recording.asked == []


async def test_subclass_decides() -> None:
    async with site({"/": "/"}, 401) as one, site() as two:
        recording = Recording(one.uri)
        recording.decide = lambda exc: two.uri + "/to"
        assert await path_of(recording) == "/to"

        recording.decide = lambda exc: exc
        with pytest.raises(InvalidStatus) as raised:
            await within(recording.__aenter__())
        assert raised.value.__cause__ is None

        recording.decide = lambda exc: LookupError("mine")
        with pytest.raises(LookupError) as other:
            await within(recording.__aenter__())
        assert isinstance(other.value.__cause__, InvalidStatus)


@pytest.mark.parametrize("wrong", ["/to", "http://127.0.0.1/", None, "ws://user@127.0.0.1/"])
async def test_subclass_returns_what_is_no_uri(wrong: str | None) -> None:
    async with site({"/": "/"}) as one:
        recording = Recording(one.uri)
        recording.decide = lambda exc: wrong
        with pytest.raises(InvalidURI):
            await within(recording.__aenter__())
        assert len(one.requests) == 1


async def test_subclass_raises() -> None:
    def fail(exc: Exception) -> str:
        raise LookupError

    async with site({"/": "/"}) as one:
        recording = Recording(one.uri)
        recording.decide = fail
        with pytest.raises(LookupError):
            await within(recording.__aenter__())


async def test_several_locations() -> None:
    def process_request(ws: ServerConnection, request: Request) -> Response:
        fields = [("Location", "/a"), ("Location", "/b"), ("Content-Length", "0")]
        return Response(302, "Found", Headers(fields))

    async with site() as one, serving(one.handler, process_request=process_request) as server:
        with pytest.raises(InvalidHeader) as raised:
            await within(connect(uri_of(server)).__aenter__())
        assert isinstance(raised.value, InvalidHandshake)


async def test_class_of_the_connection() -> None:
    class Custom(ClientConnection):
        pass

    async with site({"/from": "/to"}) as one:
        async with connect(one.uri + "/from", create_connection=Custom) as client:
            assert type(client) is Custom
            assert client.protocol.uri.path == "/to"
