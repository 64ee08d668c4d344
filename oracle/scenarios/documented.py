"""Differences that docs/differences.md tells of and that no other scenario shows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, broadcast
from websockets.datastructures import Headers
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Frame
from websockets.headers import build_authorization_basic, parse_authorization_basic
from websockets.http11 import Request, Response
from websockets.protocol import CLIENT, SERVER, Protocol
from websockets.uri import parse_uri

from ..ends import (
    BINARY,
    CLOSE,
    CONT,
    KEY,
    PING,
    QUIET,
    TEXT,
    Raw,
    close_payload,
    connecting,
    echo,
    ending,
    frame,
    masked,
    raw_client,
    raw_server,
    serving,
)
from ..scenario import Scenario, scenario
from .errors import receive_all


async def receiving(s: Scenario, *frames: bytes, **kwargs: Any) -> None:
    """A server receives these frames in one packet."""

    async def handler(websocket: ServerConnection) -> None:
        await receive_all(s.track("server"), websocket)

    async with serving(s, handler, close_timeout=0.2, logger=QUIET, **kwargs) as server:
        async with raw_client(s, server) as raw:
            await raw.open()
            await raw.send(*frames)
            await raw.end()


# Receiving


@scenario
async def good_frames_before_a_bad_one(s: Scenario) -> None:
    """Messages in the same packet as a bad frame behind them: an echo server answers them."""

    async def handler(websocket: ServerConnection) -> None:
        track = s.track("server")
        with track.failing("iteration"):
            async for message in websocket:
                track.note("received", message)
                await websocket.send(message)

    protocol = Protocol(CLIENT, logger=QUIET)
    protocol.receive_data(frame(TEXT, "one") + frame(TEXT, "two") + frame(TEXT, "bad", rsv=2))
    s.note("events", *protocol.events_received())
    async with serving(s, handler, logger=QUIET) as server, raw_client(s, server) as raw:
        await raw.open()
        await raw.send(masked(TEXT, "one"), masked(TEXT, "two"), masked(TEXT, "bad", rsv=2))
        await raw.end()


@scenario
async def bad_text_taken_as_bytes(s: Scenario) -> None:
    """recv(decode=False) of a text message that is not UTF-8."""

    async def handler(websocket: ServerConnection) -> None:
        with s.track("server").failing("recv"):
            s.track("server").note("received", await websocket.recv(decode=False))

    async with serving(s, handler, logger=QUIET) as server, raw_client(s, server) as raw:
        await raw.open()
        await raw.send(masked(TEXT, b"\xff"))
        await raw.frame()
        await raw.send(masked(CLOSE))
        await raw.end()


@scenario
async def position_in_later_fragment(s: Scenario) -> None:
    """The position of what is not UTF-8 in a fragment that is not the first."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        await raw.send(frame(TEXT, "good", fin=False))
        await asyncio.sleep(0.02)
        await raw.send(frame(CONT, b"x\xff"))
        await raw.frame()
        raw.eof()
        await raw.end()

    async with raw_server(s, peer) as where:
        websocket = await connecting(where, logger=QUIET)
        with s.failing("recv_streaming"):
            async for fragment in websocket.recv_streaming():
                s.note("fragment", fragment)


@scenario
async def close_behind_message(s: Scenario) -> None:
    """A message and a close frame in one packet: an echo server answers the message."""
    async with serving(s, echo, logger=QUIET) as server, raw_client(s, server) as raw:
        await raw.open()
        await raw.send(masked(TEXT, "hello"), masked(CLOSE, close_payload(1000)))
        await raw.end()


@scenario
async def close_within_message(s: Scenario) -> None:
    """A close frame between fragments."""
    await receiving(s, masked(TEXT, "one", fin=False), masked(CLOSE, close_payload(4000)))


@scenario
async def many_fragments(s: Scenario) -> None:
    """Five thousand fragments."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        await raw.send(frame(TEXT, "x", fin=False) + frame(CONT, "x", fin=False) * 5000)
        await raw.send(frame(CONT, "x"))
        await raw.frame()
        raw.reset()

    async with raw_server(s, peer) as where:
        with s.failing("recv"):
            async with connecting(where, logger=QUIET, close_timeout=0.2) as websocket:
                s.note("received", await websocket.recv())


@scenario
async def length_with_highest_bit(s: Scenario) -> None:
    """A length whose highest bit is set."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        await raw.send(b"\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff")
        await raw.silence(0.1)

    async with raw_server(s, peer) as where:
        websocket = await connecting(where, logger=QUIET, max_size=None, close_timeout=0.2)
        with s.failing("recv"):
            await websocket.recv()
        await websocket.wait_closed()


@scenario
def later_fragment_over_its_limit(s: Scenario) -> None:
    """A fragment that is not the first, over the limit for fragments."""
    protocol = Protocol(CLIENT, logger=QUIET, max_size=(1000, 10))
    protocol.receive_data(frame(BINARY, b"x" * 5, fin=False) + frame(CONT, b"x" * 11))
    s.note("exception", protocol.parser_exc)


@scenario
def control_frame_over_limit(s: Scenario) -> None:
    """A control frame of more than max_size."""
    protocol = Protocol(CLIENT, logger=QUIET, max_size=10)
    protocol.receive_data(frame(PING, b"x" * 11))
    s.note("events", *protocol.events_received())
    s.note("exception", protocol.parser_exc)


@scenario
def type_of_payloads(s: Scenario) -> None:
    """The types of payloads and bodies."""
    protocol = Protocol(CLIENT, logger=QUIET)
    protocol.receive_data(frame(BINARY, b"x"))
    (event,) = protocol.events_received()
    assert isinstance(event, Frame)
    s.note("type", type(event.data).__name__)


@scenario
async def queue_that_is_full(s: Scenario) -> None:
    """A ping behind more messages than the queue holds, in one packet."""

    async def handler(websocket: ServerConnection) -> None:
        await asyncio.sleep(0.1)
        await receive_all(s.track("server"), websocket)

    async with (
        serving(s, handler, max_queue=2, logger=QUIET) as server,
        raw_client(s, server) as raw,
    ):
        await raw.open()
        await raw.send(*(masked(TEXT, str(number)) for number in range(4)), masked(PING, "p"))
        await raw.silence(0.05)
        await raw.send(masked(CLOSE))
        await raw.end()


# Sending


@scenario
async def fragments_cancelled(s: Scenario) -> None:
    """A fragmented send() is cancelled."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        await raw.close_handshake()

    async def fragments() -> AsyncIterator[str]:
        yield "one"
        await asyncio.sleep(10)

    async with raw_server(s, peer) as where:
        websocket = await connecting(where, logger=QUIET)
        with s.failing("send"):
            async with asyncio.timeout(0.05):
                await websocket.send(fragments())
        s.note("state", websocket.state)
        await websocket.close()
        ending(s, websocket)


@scenario
async def lone_surrogate(s: Scenario) -> None:
    """A string with a lone surrogate."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        await raw.end()

    async with raw_server(s, peer) as where:
        websocket = await connecting(where, logger=QUIET, close_timeout=0.1)
        with s.failing("send"):
            await websocket.send("\ud800")
        with s.failing("send"):
            await websocket.send("open")
        websocket.transport.abort()


@scenario
async def broadcast_of_strided_view(s: Scenario) -> None:
    """broadcast() of a memoryview that is not contiguous."""

    async def handler(websocket: ServerConnection) -> None:
        broadcast([websocket], memoryview(b"a-b-c-")[::2])

    async with serving(s, handler, logger=QUIET) as server, raw_client(s, server) as raw:
        await raw.open()
        while (await raw.frame())[0] != CLOSE:
            pass
        await raw.send(masked(CLOSE))
        await raw.end()


@scenario
def frames_behind_end(s: Scenario) -> None:
    """fail() and sending behind the end of the stream."""
    protocol = Protocol(SERVER, logger=QUIET)
    protocol.receive_data(masked(CLOSE))
    s.note("bytes", *protocol.data_to_send())
    protocol.fail(1002)
    s.note("bytes", *protocol.data_to_send())
    with s.failing("send_ping"):
        protocol.send_ping(b"x")
    s.note("bytes", *protocol.data_to_send())


# Closing


@scenario
async def handler_cancelled(s: Scenario) -> None:
    """A handler that is cancelled."""
    tasks: list[Any] = []

    async def handler(websocket: ServerConnection) -> None:
        tasks.append(asyncio.current_task())
        await asyncio.sleep(10)

    async with serving(s, handler, logger=QUIET) as server, raw_client(s, server) as raw:
        await raw.open()
        await asyncio.sleep(0.02)
        tasks[0].cancel()
        await raw.frame()
        await raw.send(masked(CLOSE))
        await raw.end()


@scenario
async def server_closes_before_request(s: Scenario) -> None:
    """Server.close() while a client has connected and not asked."""
    async with (
        serving(s, echo, open_timeout=0.3, logger=QUIET) as server,
        raw_client(s, server) as raw,
    ):
        await asyncio.sleep(0.02)
        server.close()
        await raw.rest()


@scenario
async def server_closes_with_bad_code(s: Scenario) -> None:
    """Server.close() with a code that must not be sent."""
    async with serving(s, echo, logger=QUIET) as server:
        with s.failing("close"):
            server.close(code=1006)


@scenario
async def close_with_full_queue(s: Scenario) -> None:
    """close() while more messages have come than the queue holds."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        await raw.send(*(frame(TEXT, str(number)) for number in range(50)))
        await raw.close_handshake()

    async with raw_server(s, peer) as where:
        websocket = await connecting(where, logger=QUIET, max_queue=2, close_timeout=0.2)
        await asyncio.sleep(0.05)
        await websocket.close()
        ending(s, websocket)


# Opening handshake, server


async def asking(s: Scenario, data: bytes, **kwargs: Any) -> None:
    """Write a request and read what comes."""

    async def handler(websocket: ServerConnection) -> None:
        pass

    async with serving(s, handler, logger=QUIET, **kwargs) as server, raw_client(s, server) as raw:
        await raw.send(data)
        try:
            if " 101 " in await raw.response():
                await raw.send(masked(CLOSE, close_payload(1000)))
        except asyncio.IncompleteReadError:
            raw.track.note("no response")
        await raw.end()


REST = (
    b"Connection: Upgrade\r\nSec-WebSocket-Key: " + KEY.encode() + b"\r\n"
    b"Sec-WebSocket-Version: 13\r\n"
)
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n" + REST


@scenario
async def empty_line_before_request(s: Scenario) -> None:
    """An empty line before the request."""
    await asking(s, b"\r\n" + REQUEST + b"\r\n")


@scenario
async def http_2_preface(s: Scenario) -> None:
    """The preface of HTTP/2."""
    await asking(s, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")


@scenario
async def request_targets(s: Scenario) -> None:
    """Request targets that are no paths."""
    for target in (b"chat", b"*", b"http:///", b"/a#b"):
        s.note("target", target)
        await asking(s, REQUEST.replace(b" / ", b" " + target + b" ") + b"\r\n")


@scenario
async def upgrade_to_several(s: Scenario) -> None:
    """``Upgrade`` with another protocol besides."""
    await asking(s, REQUEST.replace(b"websocket", b"websocket, h2c", 1) + b"\r\n")


@scenario
async def long_lists(s: Scenario) -> None:
    """A list of more than 256 items."""
    header = b"Sec-WebSocket-Protocol: " + b"a, " * 300 + b"b\r\n"
    await asking(s, REQUEST + header + b"\r\n", subprotocols=["b"])


@scenario
async def malformed_extensions_without_any(s: Scenario) -> None:
    """A malformed header of extensions, at a server without extensions."""
    await asking(s, REQUEST + b"Sec-WebSocket-Extensions: ;\r\n\r\n")


@scenario
async def hook_of_wrong_type(s: Scenario) -> None:
    """process_request that returns something else than a response."""

    def hook(websocket: ServerConnection, request: Request) -> Any:
        return "hello"

    await asking(s, REQUEST + b"\r\n", process_request=hook)


@scenario
async def lines_with_lf_alone(s: Scenario) -> None:
    """Lines that end with LF alone."""
    await asking(s, b"GET / HTTP/1.1\nHost: localhost\n\n")


@scenario
async def method_that_is_no_token(s: Scenario) -> None:
    """A method that is no token."""
    await asking(s, b"G@T / HTTP/1.1\r\nHost: localhost\r\n\r\n")


# Opening handshake, client


async def answered(s: Scenario, answer: bytes, **kwargs: Any) -> None:
    """A client's attempt to connect is answered with these bytes."""

    async def peer(raw: Raw) -> None:
        await raw.head()
        await raw.send(answer)
        raw.eof()
        await raw.end()

    async with raw_server(s, peer) as where:
        with s.failing("connect"):
            await connecting(where, logger=QUIET, **kwargs)


@scenario
async def interim_response(s: Scenario) -> None:
    """A response 103 before the final one."""
    await answered(s, b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 404 Not Found\r\n\r\n")


@scenario
async def empty_lists(s: Scenario) -> None:
    """Empty lists of extensions and subprotocols."""
    await answered(s, b"", extensions=[], subprotocols=[])


@scenario
async def http_1_2(s: Scenario) -> None:
    """A response in HTTP/1.2."""
    await answered(s, b"HTTP/1.2 404 Not Found\r\nContent-Length: 0\r\n\r\n")


@scenario
async def status_of_four_digits(s: Scenario) -> None:
    """A status of four digits."""
    await answered(s, b"HTTP/1.1 0404 Not Found\r\nContent-Length: 0\r\n\r\n")


@scenario
async def transfer_encoding_in_capitals(s: Scenario) -> None:
    """``Transfer-Encoding`` in capitals."""
    await answered(
        s, b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: CHUNKED\r\n\r\n2\r\nno\r\n0\r\n\r\n"
    )


# HTTP, URIs and credentials


@scenario
def header_names(s: Scenario) -> None:
    """Names of headers that are no tokens, and changes while iterating."""
    with s.failing("name"):
        Headers()["a b"] = "x"
    with s.failing("iteration"):
        headers = Headers(a="1")
        for _ in headers:
            if len(headers) < 3:
                headers[f"b{len(headers)}"] = "2"


@scenario
def serializing_nonsense(s: Scenario) -> None:
    """Requests and responses that would break their lines."""
    with s.failing("request"):
        s.note("bytes", Request("/\r\nX: y", Headers()).serialize())
    with s.failing("response"):
        s.note("bytes", Response(1000, "OK", Headers()).serialize())


@scenario
def uris(s: Scenario) -> None:
    """URIs that 17.4 takes or fails on in other ways."""
    for text in (
        "ws://example.com:x/",
        "ws://example.com:0/",
        "ws://[::1/",
        "ws://example.com/#",
        "ws://exa mple.com/",
        "ws://example.com/a b",
        "ws://us:er:pass@example.com/",
        "ws://us%3Aer:pass@example.com/",
        "ws://example.com/é%20",
    ):
        with s.failing(text):
            s.note("uri", parse_uri(text))


@scenario
def credentials(s: Scenario) -> None:
    """A colon in the user name, and what is not base64."""
    with s.failing("colon"):
        build_authorization_basic("a:b", "c")
    with s.failing("not base64"):
        s.note("parsed", parse_authorization_basic("Basic dX!Nlc@jpw"))


# Compression


@scenario
def windows_of_8_bits(s: Scenario) -> None:
    """A window of 8 bits, and settings that no compressor takes."""
    for kwargs in (
        {"client_max_window_bits": 8},
        {"compress_settings": {"level": 99}},
        {"client_max_window_bits": 9.0},
    ):
        with s.failing(str(kwargs)):
            s.note("offer", ClientPerMessageDeflateFactory(**kwargs).get_request_params())


@scenario
async def last_block_of_a_stream(s: Scenario) -> None:
    """A message that ends its DEFLATE stream, and one behind it."""

    async def peer(raw: Raw) -> None:
        await raw.accept("Sec-WebSocket-Extensions: permessage-deflate")
        await raw.send(
            frame(TEXT, bytes.fromhex("f348cdc9c9070000"), rsv=4),  # section 7.2.3.4
            frame(TEXT, bytes.fromhex("f248cdc9c90700"), rsv=4),
        )
        await raw.close_handshake()

    async with raw_server(s, peer) as where:
        async with connecting(where, logger=QUIET, compression="deflate") as websocket:
            for _ in range(2):
                with s.failing("recv"):
                    s.note("received", await websocket.recv())


# Small print


@scenario
async def iterator_of_messages(s: Scenario) -> None:
    """aiter() of a connection; the logger of its protocol."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        await raw.close_handshake()

    async with raw_server(s, peer) as where, connecting(where, logger=QUIET) as websocket:
        s.note("aiter", aiter(websocket) is websocket)


@scenario
async def host_and_proxy(s: Scenario) -> None:
    """host= and port= together with a proxy."""

    async def peer(raw: Raw) -> None:
        await raw.head()
        await raw.send(b"HTTP/1.1 403 Forbidden\r\n\r\n")

    async with raw_server(s, peer) as where:
        with s.failing("connect"):
            await connect(
                "ws://example.com",
                proxy=where.replace("ws://", "http://"),
                host="elsewhere.example",
                logger=QUIET,
            )
