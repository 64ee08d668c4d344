"""Reconnection, redirects and proxies."""

from __future__ import annotations

import contextlib
import os
import random
import socket
from collections.abc import Awaitable, Callable, Iterator

from websockets.asyncio.client import connect, get_proxy, process_exception
from websockets.client import backoff
from websockets.datastructures import Headers
from websockets.exceptions import InvalidHandshake, InvalidMessage, InvalidStatus, InvalidURI
from websockets.http11 import Response
from websockets.uri import parse_uri

from ..ends import (
    CLOSE,
    TEXT,
    Raw,
    close_payload,
    connecting,
    frame,
    raw_server,
)
from ..scenario import Scenario, describe, scenario


def at_once() -> Iterator[float]:
    """Delays between attempts."""
    while True:
        yield 0


async def accept_and_close(raw: Raw) -> None:
    await raw.accept()
    await raw.send(frame(TEXT, "hello"), frame(CLOSE, close_payload(1001)))
    await raw.frame()
    raw.eof()
    await raw.end()


async def accept(raw: Raw) -> None:
    await raw.accept()
    await raw.close_handshake()


def answering(status: str, *headers: str) -> Callable[[Raw], Awaitable[None]]:
    """Return a peer that answers with a status."""

    async def peer(raw: Raw) -> None:
        await raw.head()
        await raw.respond(status, "Content-Length: 0", *headers)
        await raw.end()

    return peer


# Reconnection


@scenario
async def again_and_again(s: Scenario) -> None:
    """A new connection each time the last one has ended."""
    async with raw_server(s, accept_and_close, accept_and_close, accept) as where:
        number = 0
        async for websocket in connecting(where, reconnect_delays=at_once):
            number += 1
            if number == 3:
                await websocket.close()
                break
            with s.failing(f"connection {number}"):
                while True:
                    s.note("received", await websocket.recv())


@scenario
async def through_failures(s: Scenario) -> None:
    """Attempts that fail are made again."""

    async def nothing(raw: Raw) -> None:
        await raw.head()

    async with raw_server(
        s, answering("503 Service Unavailable"), nothing, answering("500 Oops"), accept
    ) as where:
        async for websocket in connecting(where, reconnect_delays=at_once):
            s.note("connected")
            await websocket.close()
            break


@scenario
async def given_up(s: Scenario) -> None:
    """A failure that is not worth another attempt."""
    async with raw_server(s, answering("503 Service Unavailable"), answering("404 Not Found")) as w:
        with s.failing("iteration"):
            async for _ in connecting(w, reconnect_delays=at_once):
                s.note("connected")


@scenario
async def process_exception_of_the_application(s: Scenario) -> None:
    """The application decides what is worth another attempt."""

    def decide(exc: Exception) -> Exception | None:
        s.note("decide", exc)
        if isinstance(exc, InvalidStatus) and exc.response.status_code == 404:
            return None
        return KeyError("mine")

    async with raw_server(s, answering("404 Not Found"), answering("403 Forbidden")) as where:
        with s.failing("iteration"):
            async for _ in connecting(where, reconnect_delays=at_once, process_exception=decide):
                s.note("connected")


@scenario
async def delays_that_end(s: Scenario) -> None:
    """The application's delays come to an end."""

    def delays() -> Iterator[float]:
        yield 0
        yield 0.001

    async with raw_server(s, answering("503 Service Unavailable")) as where:
        with s.failing("iteration"):
            async for _ in connecting(where, reconnect_delays=delays):
                s.note("connected")


@scenario
async def delays_that_start_again(s: Scenario) -> None:
    """After a success, delays start again."""

    def delays() -> Iterator[float]:
        s.note("delays")
        yield 0
        yield 0.001
        yield 0.002

    async with raw_server(
        s,
        answering("503 Service Unavailable"),
        answering("503 Service Unavailable"),
        accept_and_close,
        answering("503 Service Unavailable"),
        accept,
    ) as where:
        number = 0
        async for websocket in connecting(where, reconnect_delays=delays):
            number += 1
            s.note("connected", number)
            if number == 2:
                await websocket.close()
                break
            with contextlib.suppress(Exception):
                while True:
                    await websocket.recv()


@scenario
async def exception_in_iteration(s: Scenario) -> None:
    """An exception of the application ends the iteration and closes the connection."""
    async with raw_server(s, accept) as where:
        with s.failing("iteration"):
            async for websocket in connecting(where, reconnect_delays=at_once):
                s.note("state", websocket.state)
                raise KeyError("mine")


@scenario
async def continue_in_iteration(s: Scenario) -> None:
    """``continue`` on an open connection."""
    async with raw_server(s, accept, accept) as where:
        number = 0
        async for websocket in connecting(where, reconnect_delays=at_once):
            number += 1
            if number == 1:
                continue
            await websocket.close()
            break


@scenario
async def refused(s: Scenario) -> None:
    """Nobody listens there, for a while."""

    def delays() -> Iterator[float]:
        yield 0
        yield 0

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        s.ports.append(port)
        with s.failing("iteration"):
            async for _ in connecting(f"ws://127.0.0.1:{port}", reconnect_delays=delays):
                s.note("connected")


@scenario
def default_backoff(s: Scenario) -> None:
    """The default delays, without chance."""
    real = random.random
    random.random = lambda: 0.5
    try:
        delays = backoff()
        s.note("delays", *(round(next(delays), 3) for _ in range(8)))
        delays = backoff(1.0, 2.0, 10.0, 3.0)
        s.note("delays", *(round(next(delays), 3) for _ in range(8)))
    finally:
        random.random = real


@scenario
def default_process_exception(s: Scenario) -> None:
    """Which failures are worth another attempt."""

    def response(status: int) -> Response:
        return Response(status, "", Headers())

    def caused(exc: Exception, cause: Exception) -> Exception:
        exc.__cause__ = cause
        return exc

    for exc in (
        OSError("os"),
        ConnectionRefusedError(),
        TimeoutError("timed out"),
        EOFError("eof"),
        InvalidMessage("message"),
        caused(InvalidMessage("message"), EOFError("eof")),
        caused(InvalidMessage("message"), ValueError("value")),
        InvalidHandshake("handshake"),
        InvalidURI("uri", "message"),
        *(InvalidStatus(response(code)) for code in (200, 404, 408, 429, 500, 501, 502, 503, 504)),
        ValueError("value"),
    ):
        s.note(describe(exc), process_exception(exc))


# Redirects


@scenario
async def redirected(s: Scenario) -> None:
    """A redirect to another path, relative and absolute, and with each status."""
    for status in (300, 301, 302, 303, 307, 308):
        peer = answering(f"{status} Redirect", "Location: /other?query")
        async with raw_server(s, peer, accept) as where:
            with s.failing(f"connect {status}"):
                async with connecting(where, "/path"):
                    pass


@scenario
async def not_redirected(s: Scenario) -> None:
    """Answers that are no redirects."""
    for answer in (
        answering("304 Not Modified", "Location: /other"),
        answering("200 OK", "Location: /other"),
        answering("301 Moved"),
    ):
        async with raw_server(s, answer, accept) as where:
            with s.failing("connect"):
                async with connecting(where, "/path"):
                    pass


@scenario
async def redirected_for_ever(s: Scenario) -> None:
    """Redirects without an end."""
    async with raw_server(s, answering("302 Found", "Location: /again")) as where:
        with s.failing("connect"):
            await connecting(where)


@scenario
async def redirected_elsewhere(s: Scenario) -> None:
    """A redirect to another origin: credentials stay behind."""
    async with raw_server(s, accept) as target:
        peer = answering("302 Found", f"Location: {target}/there")
        elsewhere = Scenario()
        async with raw_server(elsewhere, peer) as where:
            s.ports.extend(elsewhere.ports)
            async with connecting(
                where.replace("ws://", "ws://user:secret@"),
                additional_headers={"Cookie": "a=b", "X-Other": "c", "Authorization": "Bearer x"},
            ) as websocket:
                s.note("request", websocket.request)
        s.track("wire of the first").lines.extend(elsewhere.track("wire").lines)


@scenario
async def redirected_within_origin(s: Scenario) -> None:
    """A redirect within the origin: credentials go along."""
    async with raw_server(s, answering("302 Found", "Location: /there"), accept) as where:
        async with connecting(
            where.replace("ws://", "ws://user:secret@"),
            additional_headers={"Cookie": "a=b"},
        ):
            pass


@scenario
async def redirected_to_nonsense(s: Scenario) -> None:
    """Redirects to what is no WebSocket URI."""
    for location in ("http://127.0.0.1/", "mailto:me", "ws://", "/path#fragment"):
        peer = answering("302 Found", f"Location: {location}")
        async with raw_server(s, peer, accept) as where:
            with s.failing(location):
                async with connecting(where):
                    pass


@scenario
async def redirected_with_socket(s: Scenario) -> None:
    """A redirect where the socket was given, or host and port were."""
    async with raw_server(s, answering("302 Found", "Location: /other"), accept) as where:
        sock = socket.create_connection(("127.0.0.1", parse_uri(where).port))
        sock.setblocking(False)
        with s.failing("sock"):
            async with connecting("ws://example.com", sock=sock):
                pass


@scenario
async def redirected_across_hosts_with_socket(s: Scenario) -> None:
    """A redirect to another host where the socket was given, or host and port were."""
    peer = answering("302 Found", "Location: ws://other.example/")
    async with raw_server(s, peer) as where:
        port = parse_uri(where).port
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setblocking(False)
        with s.failing("sock"):
            await connecting("ws://example.com", sock=sock)
        with s.failing("host"):
            await connecting("ws://example.com", host="127.0.0.1", port=port)


# Proxies


async def tunnel(raw: Raw) -> None:
    """An HTTP proxy, and the server behind it."""
    await raw.head()
    await raw.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
    await accept(raw)


@scenario
async def http_proxy(s: Scenario) -> None:
    """A tunnel through an HTTP proxy."""
    async with raw_server(s, tunnel) as where:
        proxy = where.replace("ws://", "http://")
        async with connecting("ws://example.com/path", proxy=proxy) as websocket:
            s.note("addresses", websocket.remote_address[0])


@scenario
async def http_proxy_with_credentials(s: Scenario) -> None:
    """A proxy that wants credentials."""
    async with raw_server(s, tunnel) as where:
        proxy = where.replace("ws://", "http://user:p%40ss@")
        async with connecting("ws://example.com:8080/path", proxy=proxy):
            pass


@scenario
async def http_proxy_without_user_agent(s: Scenario) -> None:
    """The ``User-Agent`` for a proxy is that of the handshake."""
    async with raw_server(s, tunnel, tunnel) as where:
        proxy = where.replace("ws://", "http://")
        async with connecting("ws://example.com", proxy=proxy, user_agent_header=None):
            pass
        async with connecting("ws://example.com", proxy=proxy, user_agent_header="mine"):
            pass


@scenario
async def http_proxy_to_ipv6(s: Scenario) -> None:
    """A tunnel to an IPv6 address."""
    async with raw_server(s, tunnel) as where:
        proxy = where.replace("ws://", "http://")
        async with connecting("ws://[::1]:8080/", proxy=proxy):
            pass


async def proxied(s: Scenario, answer: bytes) -> None:
    """A proxy that answers with these bytes."""

    async def peer(raw: Raw) -> None:
        await raw.head()
        await raw.send(answer)
        raw.eof()
        await raw.end()

    async with raw_server(s, peer) as where:
        try:
            await connecting("ws://example.com", proxy=where.replace("ws://", "http://"))
        except Exception as exc:
            s.note("connect", exc, getattr(exc, "response", None))


@scenario
async def http_proxy_refuses(s: Scenario) -> None:
    """A proxy that wants credentials and does not get them."""
    await proxied(
        s, b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 4\r\n\r\nno!\n"
    )


@scenario
async def http_proxy_fails(s: Scenario) -> None:
    """A proxy that cannot reach the server."""
    await proxied(s, b"HTTP/1.1 502 Bad Gateway\r\n\r\n")


@scenario
async def http_proxy_without_answer(s: Scenario) -> None:
    """A proxy that ends the connection."""
    await proxied(s, b"")


@scenario
async def http_proxy_without_http(s: Scenario) -> None:
    """A proxy that does not speak HTTP."""
    await proxied(s, b"\x05\x01\x00\r\n\r\n")


@scenario
async def http_proxy_with_204(s: Scenario) -> None:
    """Any status from 200 to 299 opens a tunnel."""

    async def peer(raw: Raw) -> None:
        await raw.head()
        await raw.send(b"HTTP/1.1 204 No Content\r\nX-Proxy: yes\r\n\r\n")
        await accept(raw)

    async with raw_server(s, peer) as where:
        with s.failing("connect"):
            async with connecting("ws://example.com", proxy=where.replace("ws://", "http://")):
                pass


@scenario
async def http_proxy_too_late(s: Scenario) -> None:
    """A proxy that does not answer within open_timeout."""

    async def peer(raw: Raw) -> None:
        await raw.head()
        await raw.rest()

    async with raw_server(s, peer) as where:
        proxy = where.replace("ws://", "http://")
        with s.failing("connect"):
            await connecting("ws://example.com", proxy=proxy, open_timeout=0.1)


@scenario
async def bad_proxies(s: Scenario) -> None:
    """URLs that are no proxies."""
    for proxy in ("ftp://localhost", "localhost", "http://", "", "http://localhost:x"):
        with s.failing(proxy):
            await connect("ws://example.com", proxy=proxy)


async def socks_server(raw: Raw) -> None:
    """A SOCKS5 proxy without credentials (RFC 1928), and the server behind it."""
    version, methods = await raw.reader.readexactly(2)
    raw.track.note("methods", version, await raw.reader.readexactly(methods))
    await raw.send(b"\x05\x00")
    head = await raw.reader.readexactly(5)
    raw.track.note("request", head, await raw.reader.readexactly(head[4] + 2))
    await raw.send(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50")
    await accept(raw)


@scenario
async def socks_proxy(s: Scenario) -> None:
    """A tunnel through a SOCKS proxy that looks up the name."""
    async with raw_server(s, socks_server) as where:
        proxy = where.replace("ws://", "socks5h://")
        async with connecting("ws://example.com/path", proxy=proxy):
            pass


@scenario
async def socks_proxy_refuses(s: Scenario) -> None:
    """A SOCKS proxy that refuses."""

    async def peer(raw: Raw) -> None:
        await raw.reader.readexactly(3)
        await raw.send(b"\x05\xff")

    async with raw_server(s, peer) as where:
        with s.failing("connect"):
            await connecting("ws://example.com", proxy=where.replace("ws://", "socks5h://"))


@contextlib.contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Set variables, and unset them."""
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]


@scenario
async def proxy_of_environment(s: Scenario) -> None:
    """proxy=True takes the proxy from the environment."""
    async with raw_server(s, tunnel) as where:
        with environment(http_proxy=where.replace("ws://", "http://")):
            async with connecting("ws://example.com/path", proxy=True):
                pass


@scenario
async def no_proxy_of_environment(s: Scenario) -> None:
    """no_proxy keeps connections direct."""
    async with raw_server(s, accept) as where:
        with environment(http_proxy="http://127.0.0.1:9", no_proxy="127.0.0.1"):
            async with connecting(where, proxy=True):
                pass


@scenario
def get_proxy_of_environment(s: Scenario) -> None:
    """get_proxy() for URIs and variables of many kinds."""
    for variables in (
        {},
        {"http_proxy": "http://h:1"},
        {"https_proxy": "http://s:2"},
        {"http_proxy": "http://h:1", "https_proxy": "http://s:2"},
        {"socks_proxy": "http://k:3", "https_proxy": "http://s:2"},
        {"socks_proxy": "socks5://k:3"},
        {"ws_proxy": "http://w:4", "wss_proxy": "http://v:5"},
        {"all_proxy": "http://a:6"},
        {"HTTP_PROXY": "http://upper:7"},
        {"http_proxy": "http://h:1", "no_proxy": "example.com"},
        {"https_proxy": "http://s:2", "no_proxy": ".com,other"},
        {"http_proxy": "http://h:1", "no_proxy": "*"},
        {"http_proxy": "http://h:1", "no_proxy": "example.com:8080"},
        {"http_proxy": ""},
    ):
        with environment(**variables):
            for uri in ("ws://example.com/", "wss://example.com/", "ws://sub.example.com:8080/"):
                s.note(f"{variables} {uri}", get_proxy(parse_uri(uri)))
