"""Opening handshakes of a client, with servers of every kind."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.datastructures import Headers
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.uri import parse_uri

from ..ends import TEXT, Raw, connecting, frame, raw_server
from ..scenario import Scenario, scenario


async def meet(
    s: Scenario, *headers: str, status: str = "", path: str = "/", **kwargs: Any
) -> None:
    """Connect to a server that accepts, with more headers in its response."""

    async def peer(raw: Raw) -> None:
        await raw.accept(*headers, status=status)
        await raw.close_handshake()

    async with raw_server(s, peer) as where:
        with s.failing("connect"):
            async with connecting(where, path, **kwargs) as websocket:
                s.note("request", websocket.request)
                s.note("response", websocket.response)
                s.note("subprotocol", websocket.subprotocol)
                s.note("extensions", [item.name for item in websocket.protocol.extensions])


async def meet_answer(s: Scenario, answer: bytes, **kwargs: Any) -> None:
    """Connect to a server that answers with these bytes."""

    async def peer(raw: Raw) -> None:
        await raw.head()
        await raw.send(answer)
        raw.eof()
        await raw.end()

    async with raw_server(s, peer) as where:
        with s.failing("connect"):
            await connecting(where, **kwargs)


@scenario
async def accepted(s: Scenario) -> None:
    """A server accepts."""
    await meet(s)


@scenario
async def options(s: Scenario) -> None:
    """All that a request can have."""
    await meet(
        s,
        "Sec-WebSocket-Protocol: b",
        path="/p?q=1",
        origin="https://a.example",
        subprotocols=["a", "b"],
        compression="deflate",
        additional_headers=[("X-One", "1"), ("X-One", "2"), ("Authorization", "Bearer abc")],
        user_agent_header="mine/1.0",
    )


@scenario
async def no_user_agent(s: Scenario) -> None:
    """A request without ``User-Agent``."""
    await meet(s, user_agent_header=None)


@scenario
async def user_agent_in_additional_headers(s: Scenario) -> None:
    """``User-Agent`` among the additional headers."""
    await meet(s, additional_headers={"User-Agent": "other"})


@scenario
async def additional_headers_of_type_headers(s: Scenario) -> None:
    """Additional headers as ``Headers``."""
    await meet(s, additional_headers=Headers(X_One="1"))


@scenario
async def host_in_additional_headers(s: Scenario) -> None:
    """``Host`` among the additional headers."""
    await meet(s, additional_headers={"Host": "other.example"})


@scenario
async def iri(s: Scenario) -> None:
    """Characters that are not ASCII in path and query."""
    await meet(s, path="/é?ü=1")


@scenario
async def credentials_in_uri(s: Scenario) -> None:
    """A user name and password in the URI."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        await raw.close_handshake()

    async with raw_server(s, peer) as where:
        async with connecting(where.replace("ws://", "ws://us%C3%A9r:p%20w@")):
            pass


@scenario
async def response_headers(s: Scenario) -> None:
    """Headers of the response."""
    await meet(s, "Server: raw", "X-One: 1", "x-one: 2", "Set-Cookie: a=b")


@scenario
async def frames_behind_response(s: Scenario) -> None:
    """A message in the same packet as the response."""

    async def peer(raw: Raw) -> None:
        await raw.accept(behind=frame(TEXT, "early"))
        await raw.close_handshake()

    async with raw_server(s, peer) as where, connecting(where) as websocket:
        s.note("received", await websocket.recv())


@scenario
async def response_in_pieces(s: Scenario) -> None:
    """A response that comes in small pieces."""

    async def peer(raw: Raw) -> None:
        await raw.head()
        await raw.send_slowly(b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nnope\n", 5)
        await raw.end()

    async with raw_server(s, peer) as where:
        with s.failing("connect"):
            await connecting(where)


@scenario
async def status_404(s: Scenario) -> None:
    """A server that answers 404, with a body."""
    answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\nX-One: 1\r\n\r\nnope\n"

    async def peer(raw: Raw) -> None:
        await raw.head()
        await raw.send(answer)
        await raw.end()

    async with raw_server(s, peer) as where:
        try:
            await connecting(where)
        except Exception as exc:
            s.note("connect", exc, exc.response)  # type: ignore[attr-defined]


@scenario
async def status_200_without_length(s: Scenario) -> None:
    """A server that answers 200, its body ending with the connection."""
    await meet_answer(s, b"HTTP/1.1 200 OK\r\n\r\nwhole page")


@scenario
async def status_200_chunked(s: Scenario) -> None:
    """A server that answers 200 with a chunked body."""
    body = b"5\r\nhello\r\n0\r\n\r\n"
    await meet_answer(s, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body)


@scenario
async def status_204(s: Scenario) -> None:
    """A server that answers 204."""
    await meet_answer(s, b"HTTP/1.1 204 No Content\r\n\r\n")


@scenario
async def status_401(s: Scenario) -> None:
    """A server that wants credentials."""
    await meet_answer(s, b'HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm="x"\r\n\r\n')


@scenario
async def body_cut_short(s: Scenario) -> None:
    """A body that is shorter than announced."""
    await meet_answer(s, b"HTTP/1.1 404 Not Found\r\nContent-Length: 50\r\n\r\nnope")


@scenario
async def no_answer(s: Scenario) -> None:
    """A server that ends the connection without an answer."""
    await meet_answer(s, b"")


@scenario
async def part_of_an_answer(s: Scenario) -> None:
    """A server that ends the connection within its answer."""
    await meet_answer(s, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: webs")


@scenario
async def reset_before_answer(s: Scenario) -> None:
    """A server that resets the connection."""

    async def peer(raw: Raw) -> None:
        await raw.head()
        raw.reset()

    async with raw_server(s, peer) as where:
        with s.failing("connect"):
            await connecting(where)


@scenario
async def no_http(s: Scenario) -> None:
    """A server that does not speak HTTP."""
    await meet_answer(s, b"220 mail.example ESMTP\r\n")


@scenario
async def http_1_0(s: Scenario) -> None:
    """A server that answers in HTTP/1.0."""
    await meet_answer(s, b"HTTP/1.0 200 OK\r\n\r\n")


@scenario
async def bad_status(s: Scenario) -> None:
    """A status that is no number."""
    await meet_answer(s, b"HTTP/1.1 OK 200\r\n\r\n")


@scenario
async def malformed_header(s: Scenario) -> None:
    """A header line without a colon."""
    await meet_answer(s, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade websocket\r\n\r\n")


@scenario
async def long_header(s: Scenario) -> None:
    """A header line that is too long."""
    await meet_answer(s, b"HTTP/1.1 200 OK\r\nX: " + b"x" * 9000 + b"\r\n\r\n")


@scenario
async def too_many_headers(s: Scenario) -> None:
    """More header lines than a client takes."""
    lines = b"".join(b"X-%d: y\r\n" % number for number in range(200))
    await meet_answer(s, b"HTTP/1.1 200 OK\r\n" + lines + b"\r\n")


@scenario
async def wrong_accept(s: Scenario) -> None:
    """A server that does not know the key."""
    await meet_answer(
        s,
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n",
    )


@scenario
async def no_accept(s: Scenario) -> None:
    """A response without ``Sec-WebSocket-Accept``."""
    await meet_answer(
        s,
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    )


@scenario
async def no_upgrade(s: Scenario) -> None:
    """A response without ``Upgrade``."""
    await meet_answer(s, b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\n")


@scenario
async def no_connection(s: Scenario) -> None:
    """A response without ``Connection``."""
    await meet_answer(s, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n")


@scenario
async def other_upgrade(s: Scenario) -> None:
    """A response that upgrades to something else."""
    await meet_answer(
        s, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"
    )


@scenario
async def two_accepts(s: Scenario) -> None:
    """A response with two ``Sec-WebSocket-Accept``."""
    await meet(s, "Sec-WebSocket-Accept: AAAA")


# Subprotocols and extensions


@scenario
async def subprotocol(s: Scenario) -> None:
    """A subprotocol is chosen."""
    await meet(s, "Sec-WebSocket-Protocol: b", subprotocols=["a", "b"])


@scenario
async def subprotocol_not_chosen(s: Scenario) -> None:
    """No subprotocol is chosen."""
    await meet(s, subprotocols=["a", "b"])


@scenario
async def subprotocol_not_offered(s: Scenario) -> None:
    """A subprotocol that was not offered."""
    await meet(s, "Sec-WebSocket-Protocol: c", subprotocols=["a", "b"])


@scenario
async def subprotocol_without_offer(s: Scenario) -> None:
    """A subprotocol where none was offered."""
    await meet(s, "Sec-WebSocket-Protocol: c")


@scenario
async def two_subprotocols(s: Scenario) -> None:
    """Two subprotocols."""
    await meet(s, "Sec-WebSocket-Protocol: a, b", subprotocols=["a", "b"])


@scenario
async def subprotocols_of_wrong_type(s: Scenario) -> None:
    """Subprotocols that are a string, an error of the application."""
    for subprotocols in ("a", ["a b"], [1]):
        with s.failing(f"subprotocols={subprotocols!r}"):
            connect("ws://localhost", subprotocols=subprotocols)  # type: ignore[arg-type]


@scenario
async def extension(s: Scenario) -> None:
    """permessage-deflate is accepted."""
    await meet(s, "Sec-WebSocket-Extensions: permessage-deflate", compression="deflate")


@scenario
async def extension_with_parameters(s: Scenario) -> None:
    """permessage-deflate is accepted with parameters."""
    header = (
        "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; "
        "client_no_context_takeover; server_max_window_bits=10; client_max_window_bits=9"
    )
    await meet(s, header, compression="deflate")


@scenario
async def extension_not_offered(s: Scenario) -> None:
    """An extension that was not offered."""
    await meet(s, "Sec-WebSocket-Extensions: permessage-deflate")


@scenario
async def extension_unknown(s: Scenario) -> None:
    """An extension that nobody knows."""
    await meet(s, "Sec-WebSocket-Extensions: x-unknown", compression="deflate")


@scenario
async def extension_unknown_parameter(s: Scenario) -> None:
    """permessage-deflate with a parameter that nobody knows."""
    await meet(s, "Sec-WebSocket-Extensions: permessage-deflate; x=1", compression="deflate")


@scenario
async def extension_bad_parameter(s: Scenario) -> None:
    """permessage-deflate with a value that makes no sense."""
    header = "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=16"
    await meet(s, header, compression="deflate")


@scenario
async def extension_repeated_parameter(s: Scenario) -> None:
    """permessage-deflate with the same parameter twice."""
    header = (
        "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; "
        "server_no_context_takeover"
    )
    await meet(s, header, compression="deflate")


@scenario
async def extension_malformed(s: Scenario) -> None:
    """A malformed header of extensions."""
    await meet(s, "Sec-WebSocket-Extensions: ;", compression="deflate")


@scenario
async def extension_of_the_application(s: Scenario) -> None:
    """A factory with parameters."""
    factory = ClientPerMessageDeflateFactory(
        server_no_context_takeover=True,
        client_no_context_takeover=True,
        server_max_window_bits=11,
        client_max_window_bits=12,
    )
    header = (
        "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; "
        "client_no_context_takeover; server_max_window_bits=11; client_max_window_bits=12"
    )
    await meet(s, header, extensions=[factory])


@scenario
async def extension_refused_by_the_application(s: Scenario) -> None:
    """A server that does not do what the factory insists on."""
    factory = ClientPerMessageDeflateFactory(server_no_context_takeover=True)
    await meet(s, "Sec-WebSocket-Extensions: permessage-deflate", extensions=[factory])


@scenario
async def compression_of_unknown_kind(s: Scenario) -> None:
    """A kind of compression that there is not."""
    with s.failing("compression='gzip'"):
        connect("ws://localhost", compression="gzip")


# Connecting


@scenario
async def refused(s: Scenario) -> None:
    """Nobody listens there."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        s.ports.append(port)
        with s.failing("connect"):
            await connecting(f"ws://127.0.0.1:{port}")


@scenario
async def answer_too_late(s: Scenario) -> None:
    """A server that does not answer within open_timeout."""

    async def peer(raw: Raw) -> None:
        await raw.head()
        await raw.end()

    async with raw_server(s, peer) as where:
        with s.failing("connect"):
            await connecting(where, open_timeout=0.1)


@scenario
async def answer_cancelled(s: Scenario) -> None:
    """Connecting is cancelled."""

    async def peer(raw: Raw) -> None:
        await raw.head()
        await raw.end()

    async with raw_server(s, peer) as where:
        with s.failing("wait_for"):
            await asyncio.wait_for(connecting(where).connect(), 0.1)


@scenario
async def malformed_uris(s: Scenario) -> None:
    """URIs that are not WebSocket URIs."""
    uris = ["http://localhost", "localhost", "ws://", "", "ws://localhost/#fragment", "ws:///path"]
    for text in uris:
        with s.failing(text):
            connect(text)


@scenario
async def tls_and_schemes(s: Scenario) -> None:
    """Arguments that do not fit the scheme."""
    with s.failing("ssl=True with ws://"):
        await connect("ws://127.0.0.1:1", ssl=True, proxy=None)
    with s.failing("ssl=None with wss://"):
        await connect("wss://127.0.0.1:1", ssl=None, proxy=None)


@scenario
async def host_and_port_elsewhere(s: Scenario) -> None:
    """host= and port= say where to connect to; the URI is what is asked for."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        await raw.close_handshake()

    async with raw_server(s, peer) as where:
        parsed = parse_uri(where)
        async with connecting("ws://example.com:8000", host="127.0.0.1", port=parsed.port):
            pass


@scenario
async def existing_socket(s: Scenario) -> None:
    """sock= is a connection that is there already."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        await raw.close_handshake()

    async with raw_server(s, peer) as where:
        sock = socket.create_connection(("127.0.0.1", parse_uri(where).port))
        sock.setblocking(False)
        async with connecting("ws://example.com", sock=sock):
            pass


@scenario
async def class_of_connection(s: Scenario) -> None:
    """create_connection= is the class of the connection."""

    class Mine(ClientConnection):
        async def hello(self) -> str:
            return "hello"

    async def peer(raw: Raw) -> None:
        await raw.accept()
        await raw.close_handshake()

    async with raw_server(s, peer) as where:
        async with connecting(where, create_connection=Mine) as websocket:
            assert isinstance(websocket, Mine)
            s.note("class", type(websocket).__name__, await websocket.hello())


@scenario
async def exception_in_context(s: Scenario) -> None:
    """An exception leaves the body of ``async with``."""

    async def peer(raw: Raw) -> None:
        await raw.accept()
        await raw.close_handshake()

    async with raw_server(s, peer) as where:
        with s.failing("async with"):
            async with connecting(where):
                raise KeyError("mine")
