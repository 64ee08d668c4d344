"""Opening handshakes that a server answers, from clients of every kind."""

from __future__ import annotations

import asyncio
import http
import re
from collections.abc import Callable, Sequence
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.exceptions import NegotiationError
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from ..ends import (
    CLOSE,
    TEXT,
    close_payload,
    connecting,
    echo,
    masked,
    raw_client,
    serving,
)
from ..scenario import Scenario, scenario


async def ask(s: Scenario, request: bytes, **kwargs: Any) -> None:
    """Write a request down to the last byte and read what comes."""

    async def handler(websocket: ServerConnection) -> None:
        s.track("server").note("handler", websocket.request)

    async with serving(s, handler, **kwargs) as server, raw_client(s, server) as raw:
        await raw.send(request)
        await raw_answer(s, raw)


async def raw_answer(s: Scenario, raw: Any) -> None:
    """Read the response to a request, and frames if it is a 101."""
    try:
        first = await raw.response()
    except asyncio.IncompleteReadError as exc:
        s.note("no response", exc.partial)
    except ConnectionError:
        s.note("no response, reset")
    else:
        if " 101 " in first:
            await raw.frame()
            await raw.send(masked(CLOSE, close_payload(1000)))
        await raw.end()


async def ask_with(
    s: Scenario, path: str = "/", *headers: str, without: str = "", **kwargs: Any
) -> None:
    """Write a good request but for one header, and read what comes."""

    async def handler(websocket: ServerConnection) -> None:
        track = s.track("server")
        track.note("request", websocket.request)
        track.note("response", websocket.response)
        track.note("subprotocol", websocket.subprotocol)

    async with serving(s, handler, **kwargs) as server, raw_client(s, server) as raw:
        await raw.request(path, *headers, without=without)
        await raw_answer(s, raw)


@scenario
async def accepted(s: Scenario) -> None:
    """A good request is accepted."""
    await ask_with(s)


@scenario
async def path_and_query(s: Scenario) -> None:
    """The handler sees the target as it came."""
    await ask_with(s, "/chat/%C3%A9?a=b&c")


@scenario
async def repeated_headers(s: Scenario) -> None:
    """Headers may be repeated, in any case."""
    await ask_with(s, "/", "X-One: 1", "x-one: 2", "Cookie: a=b", "X-Empty:")


@scenario
async def connection_list(s: Scenario) -> None:
    """``Connection`` is a list, and case does not matter."""
    await ask_with(s, "/", "Connection: keep-alive, upGRADE", without="Connection")


@scenario
async def no_connection_header(s: Scenario) -> None:
    """Without ``Connection``."""
    await ask_with(s, without="Connection")


@scenario
async def bad_connection_header(s: Scenario) -> None:
    """With ``Connection: keep-alive``."""
    await ask_with(s, "/", "Connection: keep-alive", without="Connection")


@scenario
async def malformed_connection_header(s: Scenario) -> None:
    """With a ``Connection`` that is no list of tokens."""
    await ask_with(s, "/", "Connection: (upgrade)", without="Connection")


@scenario
async def no_upgrade_header(s: Scenario) -> None:
    """Without ``Upgrade``: a browser opens the address."""
    await ask_with(s, without="Upgrade")


@scenario
async def bad_upgrade_header(s: Scenario) -> None:
    """With ``Upgrade: h2c``."""
    await ask_with(s, "/", "Upgrade: h2c", without="Upgrade")


@scenario
async def no_key(s: Scenario) -> None:
    """Without ``Sec-WebSocket-Key``."""
    await ask_with(s, without="Sec-WebSocket-Key")


@scenario
async def two_keys(s: Scenario) -> None:
    """With two ``Sec-WebSocket-Key``."""
    await ask_with(s, "/", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")


@scenario
async def key_that_is_no_base64(s: Scenario) -> None:
    """With a ``Sec-WebSocket-Key`` that is not base64."""
    await ask_with(s, "/", "Sec-WebSocket-Key: not base64!", without="Sec-WebSocket-Key")


@scenario
async def key_of_wrong_size(s: Scenario) -> None:
    """With a ``Sec-WebSocket-Key`` of too few bytes."""
    await ask_with(s, "/", "Sec-WebSocket-Key: AAAA", without="Sec-WebSocket-Key")


@scenario
async def no_version(s: Scenario) -> None:
    """Without ``Sec-WebSocket-Version``."""
    await ask_with(s, without="Sec-WebSocket-Version")


@scenario
async def two_versions(s: Scenario) -> None:
    """With two ``Sec-WebSocket-Version``."""
    await ask_with(s, "/", "Sec-WebSocket-Version: 8")


@scenario
async def wrong_version(s: Scenario) -> None:
    """With ``Sec-WebSocket-Version: 8``."""
    await ask_with(s, "/", "Sec-WebSocket-Version: 8", without="Sec-WebSocket-Version")


@scenario
async def no_host(s: Scenario) -> None:
    """Without ``Host``."""
    await ask_with(s, without="Host")


@scenario
async def post(s: Scenario) -> None:
    """A POST."""
    await ask(s, b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")


@scenario
async def head(s: Scenario) -> None:
    """A HEAD, as monitoring sends."""
    async with serving(s, echo) as server, raw_client(s, server) as raw:
        await raw.send(b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await raw.response(body=False)
        await raw.rest()


@scenario
async def get_with_body(s: Scenario) -> None:
    """A GET with a body."""
    await ask(s, b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nab")


@scenario
async def get_with_chunks(s: Scenario) -> None:
    """A GET with a chunked body."""
    await ask(
        s, b"GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    )


@scenario
async def http_1_0(s: Scenario) -> None:
    """A request in HTTP/1.0."""
    await ask(s, b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")


@scenario
async def no_http(s: Scenario) -> None:
    """Something that is not HTTP at all."""
    await ask(s, b"HELO relay.invalid\r\n\r\n")


@scenario
async def tls_to_plain_server(s: Scenario) -> None:
    """The first bytes of TLS."""
    await ask(s, b"\x16\x03\x01\x00\xee\x01\x00\x00\xea\x03\x03" + bytes(100) + b"\r\n\r\n")


@scenario
async def malformed_header_line(s: Scenario) -> None:
    """A header line without a colon."""
    await ask(s, b"GET / HTTP/1.1\r\nHost: localhost\r\nno colon\r\n\r\n")


@scenario
async def header_name_with_space(s: Scenario) -> None:
    """A header whose name has a space."""
    await ask(s, b"GET / HTTP/1.1\r\nHost: localhost\r\nX Y: z\r\n\r\n")


@scenario
async def long_header_line(s: Scenario) -> None:
    """A header line that is too long."""
    await ask(s, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 9000 + b"\r\n\r\n")


@scenario
async def long_request_line(s: Scenario) -> None:
    """A request line that is too long."""
    await ask(s, b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")


@scenario
async def too_many_headers(s: Scenario) -> None:
    """More header lines than a server takes."""
    lines = b"".join(b"X-%d: y\r\n" % number for number in range(200))
    await ask(s, b"GET / HTTP/1.1\r\nHost: localhost\r\n" + lines + b"\r\n")


@scenario
async def end_before_request(s: Scenario) -> None:
    """A client connects and goes away."""
    async with serving(s, echo) as server, raw_client(s, server) as raw:
        raw.eof()
        await raw.end()


@scenario
async def end_within_request(s: Scenario) -> None:
    """A client goes away in the middle of a request."""
    async with serving(s, echo) as server, raw_client(s, server) as raw:
        await raw.send(b"GET / HTTP/1.1\r\nHost: loc")
        raw.eof()
        await raw.end()


@scenario
async def reset_within_request(s: Scenario) -> None:
    """A client resets the connection in the middle of a request."""
    async with serving(s, echo) as server, raw_client(s, server) as raw:
        await raw.send(b"GET / HTTP/1.1\r\nHost: loc")
        await asyncio.sleep(0.02)
        raw.reset()
        await asyncio.sleep(0.05)


@scenario
async def request_too_late(s: Scenario) -> None:
    """A client that does not send its request within open_timeout."""
    async with serving(s, echo, open_timeout=0.05) as server, raw_client(s, server) as raw:
        await raw.end()


@scenario
async def request_in_pieces(s: Scenario) -> None:
    """A request that comes in small pieces."""
    async with serving(s, echo) as server, raw_client(s, server) as raw:
        request = (
            b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        await raw.send_slowly(request, 7)
        await raw.response()
        await raw.close_as_client()


@scenario
async def frames_behind_request(s: Scenario) -> None:
    """A client that does not wait for the response."""
    async with serving(s, echo) as server, raw_client(s, server) as raw:
        await raw.request(behind=masked(TEXT, "early"))
        await raw.response()
        await raw.frame()
        await raw.close_as_client()


@scenario
async def server_header(s: Scenario) -> None:
    """A ``Server`` header of the application's."""
    await ask_with(s, server_header="mine/1.0")


@scenario
async def no_server_header(s: Scenario) -> None:
    """No ``Server`` header."""
    await ask_with(s, server_header=None)


# Origins


@scenario
async def origin_allowed(s: Scenario) -> None:
    """An origin that is listed."""
    await ask_with(s, "/", "Origin: https://a.example", origins=["https://a.example"])


@scenario
async def origin_not_allowed(s: Scenario) -> None:
    """An origin that is not listed."""
    await ask_with(s, "/", "Origin: https://b.example", origins=["https://a.example"])


@scenario
async def origin_missing(s: Scenario) -> None:
    """No origin where one is needed."""
    await ask_with(s, origins=["https://a.example"])


@scenario
async def origin_missing_allowed(s: Scenario) -> None:
    """No origin where that is allowed."""
    await ask_with(s, origins=[None, "https://a.example"])


@scenario
async def origin_twice(s: Scenario) -> None:
    """Two origins."""
    origins = ["https://a.example"]
    await ask_with(
        s, "/", "Origin: https://a.example", "Origin: https://a.example", origins=origins
    )


@scenario
async def origin_pattern(s: Scenario) -> None:
    """An origin that matches a regular expression."""
    pattern = re.compile(r"https://\w+\.example")
    await ask_with(s, "/", "Origin: https://abc.example", origins=[pattern])


@scenario
async def origin_pattern_must_match_all(s: Scenario) -> None:
    """An origin that matches only the beginning of a regular expression."""
    pattern = re.compile(r"https://\w+\.example")
    await ask_with(s, "/", "Origin: https://abc.example.evil", origins=[pattern])


# Subprotocols


@scenario
async def subprotocol_chosen(s: Scenario) -> None:
    """The server's order of preference counts."""
    await ask_with(s, "/", "Sec-WebSocket-Protocol: a, b", subprotocols=["b", "a"])


@scenario
async def subprotocol_in_two_headers(s: Scenario) -> None:
    """Subprotocols in two headers."""
    headers = ["Sec-WebSocket-Protocol: x", "Sec-WebSocket-Protocol: a"]
    await ask_with(s, "/", *headers, subprotocols=["a"])


@scenario
async def subprotocol_none_in_common(s: Scenario) -> None:
    """No subprotocol in common."""
    await ask_with(s, "/", "Sec-WebSocket-Protocol: x", subprotocols=["a"])


@scenario
async def subprotocol_not_offered(s: Scenario) -> None:
    """A server with subprotocols, a client without."""
    await ask_with(s, subprotocols=["a"])


@scenario
async def subprotocol_not_supported(s: Scenario) -> None:
    """A client with subprotocols, a server without."""
    await ask_with(s, "/", "Sec-WebSocket-Protocol: x")


@scenario
async def subprotocol_malformed(s: Scenario) -> None:
    """A header of subprotocols that is malformed."""
    await ask_with(s, "/", "Sec-WebSocket-Protocol: a b", subprotocols=["a"])


@scenario
async def select_subprotocol(s: Scenario) -> None:
    """The application chooses."""

    def select(
        websocket: ServerConnection, subprotocols: Sequence[Subprotocol]
    ) -> Subprotocol | None:
        s.note("select", type(websocket).__name__, list(subprotocols))
        return subprotocols[-1]

    await ask_with(s, "/", "Sec-WebSocket-Protocol: a, b", select_subprotocol=select)


@scenario
async def select_subprotocol_refuses(s: Scenario) -> None:
    """The application refuses all of them."""

    def select(
        websocket: ServerConnection, subprotocols: Sequence[Subprotocol]
    ) -> Subprotocol | None:
        raise NegotiationError("none of these")

    await ask_with(s, "/", "Sec-WebSocket-Protocol: a, b", select_subprotocol=select)


@scenario
async def select_subprotocol_fails(s: Scenario) -> None:
    """The application's choice fails."""

    def select(
        websocket: ServerConnection, subprotocols: Sequence[Subprotocol]
    ) -> Subprotocol | None:
        raise RuntimeError("cannot choose")

    await ask_with(s, "/", "Sec-WebSocket-Protocol: a, b", select_subprotocol=select)


@scenario
async def subprotocols_of_wrong_type(s: Scenario) -> None:
    """Subprotocols that are a string, an error of the application."""
    for subprotocols in ("a", ["a b"], [1]):
        with s.failing(f"subprotocols={subprotocols!r}"):
            async with serving(s, echo, subprotocols=subprotocols):
                pass


# Extensions


@scenario
async def extension_negotiated(s: Scenario) -> None:
    """permessage-deflate is accepted."""
    offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
    await ask_with(s, "/", offer, compression="deflate")


@scenario
async def extension_with_parameters(s: Scenario) -> None:
    """permessage-deflate with parameters, the first offer being unacceptable."""
    offer = (
        "Sec-WebSocket-Extensions: permessage-deflate; unknown=1, "
        "permessage-deflate; server_no_context_takeover; client_max_window_bits=10"
    )
    await ask_with(s, "/", offer, compression="deflate")


@scenario
async def extension_unknown(s: Scenario) -> None:
    """An extension that nobody knows."""
    await ask_with(s, "/", "Sec-WebSocket-Extensions: x-unknown; a=b", compression="deflate")


@scenario
async def extension_malformed(s: Scenario) -> None:
    """A malformed header of extensions."""
    await ask_with(s, "/", "Sec-WebSocket-Extensions: ;", compression="deflate")


@scenario
async def compression_of_unknown_kind(s: Scenario) -> None:
    """A kind of compression that there is not."""
    with s.failing("compression='gzip'"):
        async with serving(s, echo, compression="gzip"):
            pass


# process_request and process_response


async def hooked(
    s: Scenario,
    process_request: Callable[[ServerConnection, Request], Any] | None = None,
    process_response: Callable[[ServerConnection, Request, Response], Any] | None = None,
) -> None:
    """Ask a server with hooks."""
    await ask_with(s, "/path", process_request=process_request, process_response=process_response)


@scenario
async def process_request_lets_pass(s: Scenario) -> None:
    """A hook that returns None, and what it sees."""

    def hook(websocket: ServerConnection, request: Request) -> None:
        s.note("hook", request, websocket.state, websocket.request is request)

    await hooked(s, hook)


@scenario
async def process_request_answers(s: Scenario) -> None:
    """A health check."""

    def hook(websocket: ServerConnection, request: Request) -> Response:
        return websocket.respond(http.HTTPStatus.OK, "OK\n")

    await hooked(s, hook)


@scenario
async def process_request_answers_unicode(s: Scenario) -> None:
    """respond() with a status that is a number, and text that is not ASCII."""

    def hook(websocket: ServerConnection, request: Request) -> Response:
        response = websocket.respond(418, "thé\n")
        s.note("response", response)
        return response

    await hooked(s, hook)


@scenario
async def process_request_answers_by_hand(s: Scenario) -> None:
    """A response that the application makes."""

    def hook(websocket: ServerConnection, request: Request) -> Response:
        return Response(301, "Moved", Headers(Location="/other", Content_Length="0"))

    await hooked(s, hook)


@scenario
async def process_request_coroutine(s: Scenario) -> None:
    """A coroutine that answers."""

    async def hook(websocket: ServerConnection, request: Request) -> Response:
        await asyncio.sleep(0.01)
        return websocket.respond(403, "no\n")

    await hooked(s, hook)


@scenario
async def process_request_fails(s: Scenario) -> None:
    """A hook that raises."""

    def hook(websocket: ServerConnection, request: Request) -> None:
        raise RuntimeError("hook failed")

    await hooked(s, hook)


@scenario
async def process_request_takes_too_long(s: Scenario) -> None:
    """A hook that takes longer than open_timeout."""

    async def hook(websocket: ServerConnection, request: Request) -> None:
        await asyncio.sleep(10)

    await ask_with(s, process_request=hook, open_timeout=0.1)


@scenario
async def process_request_sees_what_is_wrong(s: Scenario) -> None:
    """A hook is called for requests that will be refused."""

    def hook(websocket: ServerConnection, request: Request) -> Response:
        s.note("hook", request.path)
        return websocket.respond(200, "a page\n")

    await ask_with(s, process_request=hook, without="Upgrade")


@scenario
async def process_response_changes(s: Scenario) -> None:
    """A hook that changes the headers of the response."""

    def hook(websocket: ServerConnection, request: Request, response: Response) -> None:
        s.note("hook", response.status_code, response.headers)
        response.headers["X-Hook"] = "yes"

    await hooked(s, process_response=hook)


@scenario
async def process_response_replaces(s: Scenario) -> None:
    """A coroutine that replaces the response."""

    async def hook(websocket: ServerConnection, request: Request, response: Response) -> Response:
        return websocket.respond(503, "later\n")

    await hooked(s, process_response=hook)


@scenario
async def process_response_fails(s: Scenario) -> None:
    """A hook that raises."""

    def hook(websocket: ServerConnection, request: Request, response: Response) -> None:
        raise RuntimeError("hook failed")

    await hooked(s, process_response=hook)


@scenario
async def process_response_of_refusal(s: Scenario) -> None:
    """A hook for responses sees refusals, too."""

    def hook(websocket: ServerConnection, request: Request, response: Response) -> None:
        s.note("hook", response)
        response.headers["X-Hook"] = "yes"

    await ask_with(s, process_response=hook, without="Upgrade")


@scenario
async def both_ends(s: Scenario) -> None:
    """Both ends of one handshake, and what they say about it."""

    async def handler(websocket: ServerConnection) -> None:
        track = s.track("server")
        track.note("request", websocket.request)
        track.note("response", websocket.response)
        track.note("addresses", websocket.local_address[0], websocket.remote_address[0])
        track.note("state", websocket.state)
        await websocket.recv()

    async with serving(s, handler, subprotocols=["chat"], compression="deflate") as server:
        client = connecting(
            server, "/p", subprotocols=["chat"], origin="https://x.example", compression="deflate"
        )
        async with client as websocket:
            s.note("request", websocket.request)
            s.note("response", websocket.response)
            s.note("subprotocol", websocket.subprotocol)
            s.note("addresses", websocket.local_address[0], websocket.remote_address[0])
            s.note("state", websocket.state)
            await websocket.send("done")
            await websocket.wait_closed()
