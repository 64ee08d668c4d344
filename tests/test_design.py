"""What ``docs/design`` says, against the code: tables are run, drawings are recomputed."""

from __future__ import annotations

import ast
import asyncio
import builtins
import collections
import colorsys
import contextlib
import copy
import fnmatch
import functools
import gc
import inspect
import itertools
import logging
import os
import re
import socket
import sys
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

pytest.importorskip("tools.drawings", reason="what draws is not here")

from tools import drawings
from websockets import _codec, codec
from websockets.asyncio import _channel
from websockets.asyncio.client import connect
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import Server, ServerConnection, broadcast
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed, ConnectionClosedOK, InvalidState
from websockets.extensions.base import Extension
from websockets.extensions.deflate import PerMessageDeflate, set_zlib_module
from websockets.frames import OK_CLOSE_CODES, Frame
from websockets.http11 import Request
from websockets.protocol import Protocol, Side, State
from websockets.server import ServerProtocol
from websockets.session import Keepalive, Session, Timeout
from websockets.uri import parse_uri

from .conftest import pytest_asyncio_loop_factories
from .helpers import (
    BINARY,
    CLOSE,
    PATIENCE,
    PING,
    PONG,
    TEXT,
    RawListener,
    RawPeer,
    RawResponse,
    WireFrame,
    accept_value,
    client_frame,
    client_of_raw_server,
    close_payload,
    frame,
    port_of,
    raw_client,
    raw_server,
    raw_socket,
    request_bytes,
    server_of_raw_client,
    serving,
    stalled,
    turns,
    until,
    within,
)
from .test_security import deflating_client, deflating_server

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "docs" / "design"

if not PAGES.is_dir():
    pytest.skip("the tests of an installed wheel: no pages", allow_module_level=True)

SILENT = logging.getLogger("silent")
SILENT.addHandler(logging.NullHandler())
SILENT.propagate = False

KIB = 1024
OFFER = [("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")]

# Tables


def read_table(page: str, first: str) -> dict[str, dict[str, str]]:
    """Return the rows of the table whose first column has that name, by their first cells."""
    rows: dict[str, dict[str, str]] = {}
    names: list[str] = []
    for line in (PAGES / page).read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if not line.startswith("|"):
            names = []
        elif cells[0] == first:
            names = cells
        elif names and cells[0] != "---":
            assert len(cells) == len(names), line
            assert cells[0] not in rows, line
            rows[cells[0]] = dict(zip(names, cells, strict=True))
    assert rows
    return rows


# Promises

NAMED_TEST = re.compile(r"`(?P<file>[\w/]+\.py)?::(?P<name>\w+(?:::\w+)?)`")


@functools.cache
def names_in(path: Path) -> set[str]:
    """Names of the tests in a file, those of a class behind its own; and of fixtures."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            functions = [
                n for n in node.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)
            ]
            names |= {f"{node.name}::{f.name}" for f in functions} | {node.name}
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
    return names


def read_promises(page: Path) -> dict[str, str]:
    """Return the promises at the end of a page, each with the tests that it names."""
    text = re.split(r"^##+ Promises.*\n", page.read_text(encoding="utf-8"), flags=re.MULTILINE)[1]
    promises = {}
    for item in re.findall(r"^- (.*\n(?:  .*\n)*)", text, re.MULTILINE):
        promise, tests = re.split(r": (?=`tests/)", " ".join(item.split()), maxsplit=1)
        promises[promise] = tests
    assert len(promises) == len(re.findall("^- ", text, re.MULTILINE)) > 5
    return promises


DESIGN_PAGES = pytest.mark.parametrize(
    "page", [PAGES.with_suffix(".md"), *sorted(PAGES.glob("*.md"))], ids=lambda page: page.stem
)


@DESIGN_PAGES
def test_promises_have_tests(page: Path) -> None:
    for promise, tests in read_promises(page).items():
        file = None
        found = list(NAMED_TEST.finditer(tests))
        assert len(found) == tests.count("`") / 2, promise
        for match in found:
            file = match["file"] or file
            assert file is not None, promise
            assert match["name"] in names_in(ROOT / file), f"{promise}: {match[0]}"


# Names

# Of the kernel's settings, and of asyncio.
ELSEWHERE = {"net", "ipv4", "tcp_rmem", "tcp_wmem", "wait_for"}


@functools.cache
def words_of_the_source() -> set[str]:
    words = set(dir(builtins))
    for path in [*ROOT.glob("websockets/**/*.py"), *ROOT.glob("websockets/**/*.pyx")]:
        words |= {path.name, path.stem, *re.findall(r"\w+", path.read_text(encoding="utf-8"))}
    return words


@DESIGN_PAGES
def test_names_are_in_the_source(page: Path) -> None:
    """What is written as code is; an asterisk stands for the rest of a name."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    names = set()
    for span in re.findall(r"`([^`]+)`", re.split(r"^##+ Promises", text, flags=re.M)[0]):
        if not (ROOT / span).exists():
            names |= set(re.findall(r"[A-Za-z_*][\w*]+", span))
    words = words_of_the_source()
    missing = {name for name in names if not fnmatch.filter(words, name)}
    assert missing - ELSEWHERE == set()


# Endings

ENDINGS = read_table("termination.md", "what happens")

# How long a peer waits for the end of the other side's stream, to know that it does not come.
MOMENT = 0.02

SOON = 0.04

Ending = Callable[["Scene"], Awaitable[Any]]


@dataclass
class Scene:
    """An open connection, its peer, and what the peer has read."""

    ws: Any
    peer: RawPeer
    frames: list[WireFrame]

    async def send(self, opcode: int, payload: bytes = b"", **kwargs: Any) -> None:
        await self.peer.send_frame(opcode, payload, **kwargs)

    def start(self, coroutine: Any) -> asyncio.Task[Any]:
        return asyncio.create_task(coroutine)

    async def read(self, opcode: int = CLOSE) -> WireFrame:
        while True:
            self.frames.append(await self.peer.recv_frame())
            if self.frames[-1].opcode == opcode:
                return self.frames[-1]

    async def answer(self, payload: bytes | None = None) -> None:
        """Answer the close frame that comes."""
        sent = (await self.read()).payload
        await self.send(CLOSE, sent if payload is None else payload)

    async def read_to_end(self) -> None:
        with contextlib.suppress(EOFError):
            while True:
                self.frames.append(await self.peer.recv_frame())


@dataclass
class Scenario:
    """How a row of the table comes about."""

    play: Ending
    handler: Callable[[ServerConnection], Awaitable[None]] | None
    settings: dict[str, Any]
    compressed: bool


SCENARIOS: dict[str, Scenario] = {}


def ending(
    what: str,
    handler: Callable[[ServerConnection], Awaitable[None]] | None = None,
    compressed: bool = False,
    **settings: Any,
) -> Callable[[Ending], Ending]:
    """Mark the function that makes what a row says happen."""

    def mark(play: Ending) -> Ending:
        SCENARIOS[what] = Scenario(play, handler, settings, compressed)
        return play

    return mark


@ending("peer closes with 1000 or 1001")
async def _(scene: Scene) -> None:
    await scene.peer.send_close(1001, "bye")


@ending("peer closes with another code")
async def _(scene: Scene) -> None:
    await scene.peer.send_close(4000, "bye")


@ending("peer closes without a code")
async def _(scene: Scene) -> None:
    await scene.send(CLOSE)


@ending("`close()`, answered with the same")
async def _(scene: Scene) -> Any:
    closing = scene.start(scene.ws.close())
    await scene.answer()
    return closing


@ending("`close(4000)`, answered with the same")
async def _(scene: Scene) -> Any:
    closing = scene.start(scene.ws.close(4000))
    await scene.answer()
    return closing


@ending("`close()`, answered with another code")
async def _(scene: Scene) -> Any:
    closing = scene.start(scene.ws.close())
    await scene.answer(close_payload(4000))
    return closing


@ending("both close at once")
async def _(scene: Scene) -> Any:
    closing = scene.start(scene.ws.close())
    await turns(1)
    await scene.peer.send_close(1001)  # before it has read the other
    return closing


@ending("`close()` again, while it closes")
async def _(scene: Scene) -> Any:
    closing = [scene.start(scene.ws.close(code)) for code in (1000, 4000, 4001)]
    await scene.answer()
    return asyncio.gather(*closing)


@ending("`close()`, peer ends its stream instead of an answer")
async def _(scene: Scene) -> Any:
    closing = scene.start(scene.ws.close())
    await scene.read()
    scene.peer.send_eof()
    return closing


@ending("`close()`, no answer", close_timeout=SOON)
async def _(scene: Scene) -> Any:
    return scene.start(scene.ws.close())


@ending("`close()`, answered, but the peer does not end its stream", close_timeout=SOON)
async def _(scene: Scene) -> Any:
    closing = scene.start(scene.ws.close())
    await scene.answer()
    return closing


@ending("peer closes, but does not end its stream", close_timeout=SOON)
async def _(scene: Scene) -> None:
    await scene.peer.send_close(1000, "bye")


@ending("peer ends its stream between frames")
async def _(scene: Scene) -> None:
    await scene.send(TEXT, b"whole")
    scene.peer.send_eof()


@ending("peer ends its stream inside a frame")
async def _(scene: Scene) -> None:
    build = client_frame if scene.peer.is_client else frame
    await scene.peer.send(build(TEXT, b"hello")[:-1])
    scene.peer.send_eof()


@ending("peer resets the connection")
async def _(scene: Scene) -> None:
    scene.peer.reset()


@ending("peer breaks the protocol")
async def _(scene: Scene) -> None:
    await scene.send(3)


@ending("peer sends a close frame with a code that is none")
async def _(scene: Scene) -> None:
    await scene.peer.send_close(1006)


@ending("peer sends what cannot be inflated", compressed=True)
async def _(scene: Scene) -> None:
    await scene.send(TEXT, b"\xff\xff\xff\xff", rsv=4)


@ending("peer sends text that is not UTF-8")
async def _(scene: Scene) -> None:
    await scene.send(TEXT, b"\xff")


@ending("`recv(decode=True)` meets bytes that are not UTF-8")
async def _(scene: Scene) -> Any:
    await scene.send(BINARY, b"\xff")
    return scene.start(scene.ws.recv(decode=True))


@ending("peer sends more than `max_size`", max_size=3)
async def _(scene: Scene) -> None:
    await scene.send(TEXT, b"four")


@ending("peer breaks the protocol instead of an answer to `close()`")
async def _(scene: Scene) -> Any:
    closing = scene.start(scene.ws.close())
    await scene.read()
    await scene.send(3)
    return closing


@ending("peer is silent after a keepalive ping", ping_interval=0.01, ping_timeout=0.01)
async def _(scene: Scene) -> None:
    await scene.read()


@ending(
    "peer reads nothing, whatever it sends",
    ping_interval=0.01,
    ping_timeout=0.01,
    close_timeout=SOON,
    small_buffers=True,
)
async def _(scene: Scene) -> Any:
    sending = scene.start(scene.ws.send(bytes(2**23)))
    with contextlib.suppress(ConnectionError):
        while not scene.ws.protocol.close_sent:
            await scene.send(TEXT, b"alive")
            await within(scene.ws.recv())
            await asyncio.sleep(0.004)
    return sending


@ending("`async with` is left")
async def _(scene: Scene) -> Any:
    async def use() -> None:
        async with scene.ws:
            pass

    using = scene.start(use())
    await scene.answer()
    return using


@ending("`async with` is left by an exception")
async def _(scene: Scene) -> Any:
    async def use() -> None:
        async with scene.ws:
            raise LookupError

    using = scene.start(use())
    await scene.answer()
    return using


async def return_at_once(ws: ServerConnection) -> None:
    pass


async def raise_at_once(ws: ServerConnection) -> None:
    ws.logger = SILENT
    raise LookupError


async def be_cancelled(ws: ServerConnection) -> None:
    raise asyncio.CancelledError


async def wait(ws: ServerConnection) -> None:
    await ws.wait_closed()


@ending("handler returns (server)", return_at_once)
@ending("handler raises (server)", raise_at_once)
async def _(scene: Scene) -> None:
    await scene.answer()


@ending("handler is cancelled (server)", be_cancelled)
async def _(scene: Scene) -> None:
    pass


@ending("`Server.close()` (server)", wait)
async def _(scene: Scene) -> None:
    scene.ws.server.close()
    await scene.answer()


async def begun(scene: Scene, end: Awaitable[Any]) -> asyncio.Task[None]:
    """Send the first fragment of a message; what comes then is up to the awaitable."""

    async def fragments() -> AsyncIterator[str]:
        yield "begun"
        await end

    sending = scene.start(scene.ws.send(fragments()))
    await scene.read(TEXT)
    return sending


@ending("a fragmented `send()` fails")
async def _(scene: Scene) -> Any:
    async def fail() -> None:
        raise LookupError

    return await begun(scene, fail())


@ending("a fragmented `send()` is cancelled")
async def _(scene: Scene) -> Any:
    sending = await begun(scene, asyncio.Event().wait())
    sending.cancel()
    return sending


@ending("`close()` during a fragmented `send()`")
async def _(scene: Scene) -> Any:
    sending = await begun(scene, asyncio.sleep(MOMENT / 2))
    return asyncio.gather(sending, scene.start(scene.ws.close()), return_exceptions=True)


class Raising(Extension):
    """An extension with a bug."""

    name = "x-raising"

    def encode(self, frame: Any) -> Any:
        return frame

    def decode(self, frame: Any, *, max_size: int | None = None) -> Any:
        raise LookupError


@ending("an extension of the application raises")
async def _(scene: Scene) -> None:
    scene.ws.logger = SILENT
    scene.ws.protocol.extensions = [Raising()]
    await scene.send(TEXT, b"x")


@ending("application calls `protocol.fail(4000)`")
async def _(scene: Scene) -> Any:
    scene.ws.protocol.fail(4000)
    return scene.start(scene.ws.wait_closed())


@ending("application calls `protocol.fail(1006)` (server)", wait)
async def _(scene: Scene) -> Any:
    scene.ws.protocol.fail(1006)
    return scene.start(scene.ws.wait_closed())


@ending("application aborts or closes the transport")
async def _(scene: Scene) -> None:
    if scene.peer.is_client:
        scene.ws.transport.abort()
    else:
        scene.ws.transport.close()


def test_every_row_is_run() -> None:
    assert sorted(SCENARIOS) == sorted(ENDINGS)


@contextlib.asynccontextmanager
async def handled(
    handler: Callable[[ServerConnection], Awaitable[None]],
) -> AsyncIterator[tuple[ServerConnection, RawPeer]]:
    """A server with that handler, and its raw client."""
    arrived: asyncio.Future[ServerConnection] = asyncio.get_running_loop().create_future()

    async def arrive(ws: ServerConnection) -> None:
        arrived.set_result(ws)
        await handler(ws)

    async with serving(arrive) as server, raw_client(server) as peer:
        yield await within(arrived), peer


def check_close(cell: str, exc: ConnectionClosed, closes: list[WireFrame]) -> None:
    """Compare the close frame of this side with the cell about it, and with the wire."""
    assert len(closes) <= 1
    if cell == "–":
        assert exc.sent is None and not closes
        return
    assert exc.sent is not None
    if closes or "may not leave" not in cell:
        code, reason = closes[0].close
        assert (code or 1005, reason) == (exc.sent.code, exc.sent.reason)
    if match := re.match(r"(\d+)(, once)?(?P<more>.*)", cell):
        assert exc.sent.code == int(match[1])
        if told := re.search('"(.*)"', match["more"]):
            assert exc.sent.reason == told[1]
        else:
            assert bool(exc.sent.reason) is bool(
                re.search("what it is|reason and position|the sizes", match["more"])
            )
    elif cell == "the same code and reason":
        assert exc.sent == exc.rcvd
    else:
        assert cell == "a close frame without one"
        assert exc.sent.code == 1005


def check_exception(row: dict[str, str], exc: ConnectionClosed, close_code: int | None) -> None:
    """Compare how the connection ended with the cells about it."""
    if row["`close_code`"] in ("its code", "the answer's"):
        assert exc.rcvd is not None
        assert close_code == exc.rcvd.code
    else:
        assert close_code == int(row["`close_code`"])
    name = row["exception"]
    if name == "by both codes":
        assert exc.rcvd is not None and exc.sent is not None
        both = {exc.rcvd.code, exc.sent.code}
        assert isinstance(exc, ConnectionClosedOK) is (both <= OK_CLOSE_CODES)
    else:
        assert isinstance(exc, ConnectionClosedOK) is {"OK": True, "error": False}[name]
    cause = row["`__cause__`"]
    if cause == "–":
        assert exc.__cause__ is None
    elif cause == "what it raised":
        assert type(exc.__cause__) is LookupError
    else:
        match = re.fullmatch(r'`(\w+)`(?: "(.*)")?', cause)
        assert match, cause
        assert type(exc.__cause__).__name__ == match[1]
        assert match[2] is None or str(exc.__cause__) == match[2]


async def run(what: str, side: Side) -> None:
    row, scenario = ENDINGS[what], SCENARIOS[what]
    kwargs = {"close_timeout": PATIENCE} | scenario.settings
    connected: Any
    if scenario.handler is not None:
        connected = handled(scenario.handler)
    elif scenario.compressed:
        connected = (deflating_server if side is Side.SERVER else deflating_client)(**kwargs)
    else:
        connected = (server_of_raw_client if side is Side.SERVER else client_of_raw_server)(
            **kwargs
        )
    async with connected as (ws, peer):
        scene = Scene(ws, peer, [])
        waiting = await scenario.play(scene)
        reads = peer.sock.fileno() >= 0 and "reads nothing" not in what
        reading = scene.start(scene.read_to_end() if reads else asyncio.sleep(0))
        if row["TCP"] == "timeout":
            # Nobody does anything more.
            await within(ws.wait_closed())
        else:
            assert row["TCP"] in ("server", "peer", "this side")
            stays = row["TCP"] == "server" and side is Side.CLIENT
            ended, _ = await asyncio.wait([reading], timeout=MOMENT if stays else PATIENCE)
            assert bool(ended) is not stays
            with contextlib.suppress(OSError):
                peer.send_eof()
            await within(ws.wait_closed())
        if waiting is not None:
            await asyncio.wait([asyncio.ensure_future(waiting)])
        await within(reading)
        closes = [f for f in scene.frames if f.opcode == CLOSE]
        check_close(row["sent"], ws.close_exc, closes)
        check_exception(row, ws.close_exc, ws.close_code)
        await turns()
        # Whoever comes later is told the same.
        with pytest.raises(ConnectionClosed) as raised:
            await ws.send("too late")
        assert (raised.value.rcvd, raised.value.sent) == (ws.close_exc.rcvd, ws.close_exc.sent)
        assert raised.value.__cause__ is ws.close_exc.__cause__


@pytest.mark.parametrize(
    ("what", "side"),
    [
        (what, side)
        for what in ENDINGS
        for side in (Side.SERVER, Side.CLIENT)
        if side is Side.SERVER or not what.endswith("(server)")
    ],
    ids=lambda value: value.name.lower() if isinstance(value, Side) else value.replace(" ", "-"),
)
@pytest.mark.parametrize("loop", pytest_asyncio_loop_factories())
def test_endings(what: str, side: Side, loop: str) -> None:
    errors: list[Any] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, about: errors.append(about))
        await run(what, side)

    with asyncio.Runner(loop_factory=pytest_asyncio_loop_factories()[loop]) as runner:
        runner.run(main())
    assert not errors


# Opening handshakes

REQUESTS = read_table("opening.md", "what comes to a server")
RESPONSES = read_table("opening.md", "what comes to a client")


@dataclass
class Served:
    """What is done to a server: bytes, and the arguments of ``serve``."""

    data: bytes
    settings: dict[str, Any]
    then: str


def asking(data: bytes | None = None, then: str = "wait", /, **settings: Any) -> Served:
    return Served(request_bytes(80) if data is None else data, settings, then)


def without(name: str) -> bytes:
    return request_bytes(80, without=[name])


def adding(name: str, value: str) -> bytes:
    return request_bytes(80, extra=[(name, value)])


async def decide_for_ever(ws: Any, request: Any) -> None:
    await asyncio.Event().wait()


def refuse_politely(ws: Any, request: Any) -> Any:
    return ws.respond(402, "not today")


def fail_to_decide(ws: Any, request: Any) -> None:
    raise LookupError


LONG = b"x" * 9000

SERVED: dict[str, list[Served]] = {
    "a handshake request": [asking()],
    "an extension that the server does not have": [
        asking(adding("Sec-WebSocket-Extensions", "x-none"))
    ],
    "what is no HTTP": [asking(b"hello\r\n\r\n"), asking(bytes(9) + b"\r\n\r\n")],
    "a request with a body": [
        asking(request_bytes(80, extra=[("Content-Length", "1")]) + b"x"),
    ],
    "a request line that is too long": [asking(b"GET /" + LONG)],
    "a header line that is too long": [asking(b"GET / HTTP/1.1\r\nA: " + LONG)],
    "too many header lines": [asking(b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 129)],
    "no `Host`": [asking(without("Host"))],
    "a method other than GET": [asking(request_bytes(80, method="POST"))],
    "HTTP/1.0": [asking(request_bytes(80, version="HTTP/1.0"))],
    "no `Upgrade`, or no `Connection`": [asking(without("Upgrade")), asking(without("Connection"))],
    "no key, or a malformed one": [
        asking(without("Sec-WebSocket-Key")),
        asking(request_bytes(80, key="c2hvcnQ=")),
    ],
    "no version": [asking(without("Sec-WebSocket-Version"))],
    "a version other than 13": [
        asking(
            request_bytes(
                80, without=["Sec-WebSocket-Version"], extra=[("Sec-WebSocket-Version", "8")]
            )
        )
    ],
    "an origin that is not allowed": [
        asking(adding("Origin", "https://a.example"), origins=["https://b.example"])
    ],
    "a header that does not match its grammar": [
        asking(adding("Sec-WebSocket-Extensions", "a; =")),
        asking(adding("Sec-WebSocket-Protocol", "a b")),
    ],
    "no subprotocol that the server has": [
        asking(adding("Sec-WebSocket-Protocol", "a"), subprotocols=["b"]),
        asking(subprotocols=["b"]),
    ],
    "a request that `process_request` answers": [asking(process_request=refuse_politely)],
    "a request with which `process_request` fails": [asking(process_request=fail_to_decide)],
    "a connection while the server closes": [asking(b"", "close the server")],
    "half a request and the end of the stream": [asking(b"GET / HT", "end")],
    "the end of the stream while `process_request` decides": [
        asking(None, "end", process_request=decide_for_ever)
    ],
    "nothing, for `open_timeout`": [asking(b"", open_timeout=SOON)],
}


def check_name(cell: str, exc: BaseException | None) -> None:
    """Compare an exception with the cell about it."""
    if cell == "–":
        assert exc is None
    elif cell == "what it raised":
        assert type(exc) is LookupError
    else:
        names = [cls.__name__ for cls in type(exc).__mro__]
        assert cell.strip("`") == names[0] or cell == "`InvalidHeader`" and "InvalidHeader" in names


@pytest.mark.parametrize("what", REQUESTS)
def test_requests(what: str) -> None:
    row = REQUESTS[what]

    async def main() -> None:
        for case in SERVED[what]:
            answer, exc = await ask(case, row["answer"] == "101")
            check_name(row["`handshake_exc`"], exc)
            if row["answer"] == "–":
                assert answer == b""
            else:
                status = RawResponse.from_bytes(answer).status
                assert status == (402 if row["answer"] == "its status" else int(row["answer"]))

    asyncio.run(main())


async def ask(case: Served, opens: bool) -> tuple[bytes, BaseException | None]:
    """Return the answer of a server, and what it knows to be wrong."""
    connections: list[ServerConnection] = []

    class Noted(ServerConnection):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            connections.append(self)

    async with (
        serving(wait, create_connection=Noted, logger=SILENT, **case.settings) as server,
        raw_socket(server) as peer,
    ):
        await peer.send(case.data)
        await until(lambda: connections)
        if case.then == "end":
            await turns()
            peer.send_eof()
        elif case.then == "close the server":
            server.close()
        answer = await (peer.read_until(b"\r\n\r\n") if opens else peer.read_to_end())
    (connection,) = connections
    return answer, connection.protocol.handshake_exc


@dataclass
class Answered:
    """What a client is answered: a function of what makes good responses, and what comes then."""

    answer: Callable[[RawListener], bytes]
    then: str = "wait"


ANSWERED: dict[str, list[Answered]] = {
    "the response, after interim ones": [
        Answered(lambda good: b"HTTP/1.1 103 Early Hints\r\n\r\n" + good.response())
    ],
    "no TCP connection": [],
    "nothing, for `open_timeout`": [Answered(lambda good: b"")],
    "what is no HTTP": [Answered(lambda good: b"hello\r\n\r\n")],
    "a header line that is too long": [Answered(lambda good: b"HTTP/1.1 101 x\r\nA: " + LONG)],
    "a body that is too long": [
        Answered(lambda good: b"HTTP/1.1 404 x\r\nContent-Length: 9999999\r\n\r\n")
    ],
    "more than 32 interim responses": [
        Answered(lambda good: b"HTTP/1.1 103 Early Hints\r\n\r\n" * 33)
    ],
    "the end of the stream": [
        Answered(lambda good: b"", "end"),
        Answered(lambda good: good.response()[:-2], "end"),
    ],
    "a reset": [Answered(lambda good: b"", "reset")],
    "another status than 101": [
        Answered(lambda good: b"HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n")
    ],
    "101 without `Upgrade`": [Answered(lambda good: good.response(without=["Upgrade"]))],
    "101 for another key": [Answered(lambda good: good.response(accept=accept_value("other")))],
    "an extension that was not offered": [
        Answered(lambda good: good.response(extra=[("Sec-WebSocket-Extensions", "x-none")]))
    ],
    "a subprotocol that was not offered": [
        Answered(lambda good: good.response(extra=[("Sec-WebSocket-Protocol", "chat")]))
    ],
}


def test_every_handshake_is_run() -> None:
    assert sorted(SERVED) == sorted(REQUESTS)
    assert sorted(ANSWERED) == sorted(RESPONSES)
    assert [what for what, cases in SERVED.items() if not cases] == []
    assert [what for what, cases in ANSWERED.items() if not cases] == ["no TCP connection"]


async def raised_by_connect(uri: str, timeout: float) -> BaseException | None:
    try:
        async with connect(uri, open_timeout=timeout, proxy=None, logger=SILENT) as ws:
            ws.transport.abort()
    except Exception as exc:
        return exc
    return None


@pytest.mark.parametrize("what", RESPONSES)
def test_responses(what: str) -> None:
    row = RESPONSES[what]

    def check(exc: BaseException | None) -> None:
        check_name(row["exception"], exc)
        cause = None if exc is None else exc.__cause__
        if row["`__cause__`"] == "`ValueError`":
            assert isinstance(cause, ValueError)
        else:
            check_name(row["`__cause__`"], cause)

    async def main() -> None:
        for case in ANSWERED[what]:
            async with raw_server() as listener:

                async def serve_one(listener: RawListener, case: Answered) -> None:
                    peer = await listener.accept_request()
                    await peer.send(case.answer(listener))
                    if case.then == "end":
                        peer.send_eof()
                    elif case.then == "reset":
                        peer.reset()
                    else:
                        await peer.read_to_end()

                serving_one = asyncio.create_task(serve_one(listener, case))
                timeout = SOON if "open_timeout" in what else PATIENCE
                check(await raised_by_connect(listener.uri, timeout))
                await within(serving_one)
        if not ANSWERED[what]:
            async with raw_server() as listener:
                uri = listener.uri
            check(await raised_by_connect(uri, PATIENCE))

    asyncio.run(main())


# Drawings

Steps = dict[tuple[str, str, tuple[str, ...]], set[str]]


def drawn_steps(machine: drawings.Machine, side: str) -> Steps:
    """Steps of a drawing, for a side: from where, to where, what is written, by what inputs."""
    steps: Steps = collections.defaultdict(set)
    for step in machine.steps:
        if step.side in ("both", side):
            steps[step.start, step.end, tuple(step.written_by(side))] |= {*step.inputs}
    return steps


def explore(
    make: Callable[[], Any],
    inputs: dict[str, Callable[[Any], None]],
    name: Callable[[Any], str],
    written: Callable[[Any], list[str]],
) -> tuple[Steps, dict[tuple[str, str], set[str]]]:
    """Give each input in each state that can be reached.

    Returns:
        The steps that change the state, and for each state and each input that does not, what it
        does: what is written, or that it is refused.
    """
    steps: Steps = collections.defaultdict(set)
    others: dict[tuple[str, str], set[str]] = collections.defaultdict(set)
    seen: set[str] = set()
    paths: list[tuple[str, ...]] = [()]

    def at(path: tuple[str, ...]) -> Any:
        subject = make()
        for step in path:
            inputs[step](subject)
        written(subject)
        return subject

    while paths:
        path = paths.pop(0)
        start = name(at(path))
        if start in seen:
            continue
        seen.add(start)
        for what, give in inputs.items():
            subject = at(path)
            try:
                give(subject)
            except (EOFError, InvalidState):
                others[start, what].add("refused")
                continue
            output = written(subject)
            if name(subject) == start:
                others[start, what].add(", ".join(output) or "–")
            else:
                steps[start, name(subject), tuple(output)].add(what)
                paths.append((*path, what))
    return steps, others


SIDES = pytest.mark.parametrize("side", [Side.CLIENT, Side.SERVER], ids=["client", "server"])


def written_frames(protocol: Protocol) -> list[str]:
    names = {TEXT: "text", CLOSE: "close", PING: "ping", PONG: "pong"}
    written = [names[data[0] & 15] if data else "FIN" for data in protocol.data_to_send()]
    events = cast("list[Frame]", protocol.events_received())
    return written + ["delivered" for event in events if event.opcode == TEXT]


def closing_state(protocol: Protocol) -> str:
    sent, rcvd = protocol.close_sent is not None, protocol.close_rcvd is not None
    if protocol.state is State.CLOSED:
        return {(True, True): "closed well", (True, False): "closed, sent"}.get(
            (sent, rcvd), "closed, silent"
        )
    if protocol.state is State.OPEN:
        return "given up" if protocol.ended else "open"
    if not protocol.ended:
        return "asked"
    return "shaken" if rcvd else "failed"


def inputs_when_open(side: Side) -> dict[str, Callable[[Any], None]]:
    build = client_frame if side is Side.SERVER else frame
    return {
        "message": lambda p: p.receive_data(build(TEXT, b"x")),
        "ping": lambda p: p.receive_data(build(PING, b"x")),
        "pong": lambda p: p.receive_data(build(PONG, b"x")),
        "close frame": lambda p: p.receive_data(build(CLOSE, close_payload(1000))),
        "bad frame": lambda p: p.receive_data(build(3)),
        "end of stream": lambda p: p.receive_eof(),
        "send_text()": lambda p: p.send_text(b"x"),
        "send_ping()": lambda p: p.send_ping(b"x"),
        "send_close()": lambda p: p.send_close(1000),
        "fail(1011)": lambda p: p.fail(1011),
        "fail(1006)": lambda p: p.fail(1006),
    }


@SIDES
def test_states_are_those_of_the_drawing(side: Side) -> None:
    steps, others = explore(
        lambda: Protocol(side), inputs_when_open(side), closing_state, written_frames
    )
    assert steps == drawn_steps(drawings.CLOSING, side.name.lower())
    assert {start for start, _ in others} == {*drawings.CLOSING.states}
    # What each input does is in a table, too.
    table = read_table("termination.md", "input")
    done = {(start, what): {"step"} for start, _, _ in steps for what in steps_from(steps, start)}
    for (start, what), found in {**others, **done}.items():
        row = table[f"`{what}`" if "(" in what else what]
        cell = row["closed" if start.startswith("closed") else start].replace("`", "")
        if match := re.fullmatch("(.*) by client, else (.*)", cell):
            cell = match[1 if side is Side.CLIENT else 2]
        assert found == {cell}, (start, what)
    assert {*inputs_when_open(side)} == {what.strip("`") for what in table}
    assert len({**others, **done}) == len(drawings.CLOSING.states) * len(table)


def steps_from(steps: Steps, state: str) -> set[str]:
    return {what for (start, _, _), inputs in steps.items() if start == state for what in inputs}


def opening_state(protocol: Any) -> str:
    side = protocol.side.name.lower()
    if protocol.state is not State.CONNECTING:
        return f"{side} {protocol.state.name.lower()}"
    if protocol.ended:
        return f"{side} refused"
    return f"{side} {'waiting' if protocol.handshake_parser is not None else 'deciding'}"


def new_client() -> ClientProtocol:
    client = ClientProtocol(parse_uri("ws://localhost/"))
    client.send_request(client.connect())
    return client


def response_to(client: ClientProtocol) -> bytes:
    lines = ["HTTP/1.1 101 x", "Upgrade: websocket", "Connection: Upgrade"]
    lines += [f"Sec-WebSocket-Accept: {accept_value(client.key)}", "", ""]
    return "\r\n".join(lines).encode()


def accept(server: ServerProtocol) -> None:
    if server.handshake_parser is None and not server.ended:
        (request,) = [event for event in server.events if isinstance(event, Request)]
        server.send_response(server.accept(request))


OPENING_INPUTS: dict[Side, dict[str, Callable[[Any], None]]] = {
    Side.CLIENT: {
        "response 101": lambda p: p.receive_data(response_to(p)),
        "another response": lambda p: p.receive_data(
            b"HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n"
        ),
        "no HTTP": lambda p: p.receive_data(b"hello\r\n\r\n"),
        "end of stream": lambda p: p.receive_eof(),
    },
    Side.SERVER: {
        "request": lambda p: p.receive_data(request_bytes(80)),
        "no HTTP": lambda p: p.receive_data(b"hello\r\n\r\n"),
        "end of stream": lambda p: p.receive_eof(),
        "accept": accept,
        "reject": lambda p: p.send_response(p.reject(403, "")),
    },
}


def written_http(protocol: Protocol) -> list[str]:
    """What was written: of a client, without its request."""
    found = []
    for data in protocol.data_to_send():
        if data.startswith(b"HTTP/1.1 101"):
            found.append("response 101")
        elif data.startswith(b"HTTP/1.1"):
            found.append("response")
        elif not data:
            found.append("FIN")
    return found


@SIDES
def test_opening_is_as_drawn(side: Side) -> None:
    steps, _ = explore(
        new_client if side is Side.CLIENT else ServerProtocol,
        OPENING_INPUTS[side],
        opening_state,
        written_http,
    )
    name = side.name.lower()
    drawn = {
        step: inputs
        for step, inputs in drawn_steps(drawings.OPENING, name).items()
        if step[0].startswith(name)
    }
    # What comes when it is open is in another drawing.
    later = (f"{name} open", f"{name} closing")
    assert {step: inputs for step, inputs in steps.items() if step[0] not in later} == drawn


LOOKS: dict[str, tuple[bool, bool, bool, int]] = {
    "heard": (True, False, True, 0),
    "heard, not reading": (True, False, False, 0),
    "part of a frame": (True, True, True, 0),
    "silence": (False, False, True, 0),
    "not reading": (False, False, False, 0),
    "peer not reading": (True, False, True, 1),
    "neither reading": (True, False, False, 1),
}


def keepalive_state(keepalive: Keepalive) -> str:
    if keepalive.deadline is None:
        return "off"
    if keepalive.ping is None:
        return "waiting"
    return "doubted" if keepalive._doubted else "ping out"


def test_keepalive_is_as_drawn() -> None:
    """All that can be reached, counters included; the drawing has the counters in words."""
    steps: Steps = collections.defaultdict(set)
    seen: set[Any] = set()
    waiting = [Keepalive(20, 20)]
    while waiting:
        keepalive = waiting.pop()
        start, now = keepalive_state(keepalive), keepalive.deadline or 0.0
        concrete = (
            start,
            keepalive._unfinished,
            keepalive._unread,
            keepalive._unwritten,
            keepalive._blocked,
        )
        if concrete in seen:
            continue
        seen.add(concrete)
        inputs: dict[str, Callable[[Keepalive], Timeout | None]] = {}
        if start == "off":
            inputs["start"] = lambda k: k.start(0)
        else:
            inputs["stop"] = lambda k: k.stop()
            for look, args in LOOKS.items():
                inputs[look] = lambda k, now=now, args=args: k.expire(now, *args)  # type: ignore[misc]
        if start in ("ping out", "doubted"):
            inputs["pong"] = lambda k, now=now: k.answered(now)  # type: ignore[misc]
        for what, give in inputs.items():
            after = copy.copy(keepalive)
            outcome = give(after)
            if outcome is Timeout.PING:
                after.sent(b"", now)
            output = () if outcome is None else (outcome.name,)
            if outcome in (Timeout.SILENCE, Timeout.BLOCKED, Timeout.STUCK):
                steps[start, "given up", output].add(what)
            else:
                steps[start, keepalive_state(after), output].add(what)
                waiting.append(after)
    assert steps == drawn_steps(drawings.KEEPALIVE, "")


def test_drawings_are_up_to_date() -> None:
    for name, text in drawings.draw_all():
        assert (PAGES / name).read_text(encoding="utf-8") == text, "run: python tools/drawings.py"


def test_what_is_drawn_to_hold_and_move_data_is_there() -> None:
    classes: dict[str, Any] = {
        "Channel": _channel.Channel,
        "Connection": Connection,
        "FrameReader": _codec.FrameReader,
        "Protocol": Protocol,
        "Session": Session,
    }
    made = {"Session": Session(Protocol(Side.CLIENT)), "Protocol": Protocol(Side.CLIENT)}
    public = {
        name
        for name, value in vars(Connection).items()
        if inspect.isfunction(value) and not name.startswith("_")
    }
    names = [(box.kind, name) for box in drawings.FLOW_BOXES for name in box.code]
    assert len(names) > 30
    for kind, name in names:
        owner, _, member = name.partition(".")
        if owner == "broadcast":
            assert kind == "public" and callable(broadcast)
        elif owner == "wake":
            assert kind == "private" and callable(_channel.wake)
        else:
            assert not member or hasattr(made.get(owner, classes[owner]), member), name
            is_public = owner == "Connection" and (member in public or member == "__aiter__")
            assert (kind == "public") is is_public, name


def test_colours_are_those_of_the_page() -> None:
    hues = {"public": 100 / 360, "private": 50 / 360, "buffer": 28 / 360}  # green, yellow, orange
    text = drawings.draw_flow()
    for kind, hue in hues.items():
        for colour in drawings.KINDS[kind]:
            red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
            assert colorsys.rgb_to_hls(red, green, blue)[0] == pytest.approx(hue, abs=0.03)
            assert colour in text


# Of a letter, with room to spare: fonts differ.
LETTER = 6.5


def test_drawings_do_not_leave_their_edges() -> None:
    """Nothing is drawn over another box, or outside."""
    for machine in (drawings.OPENING, drawings.CLOSING, drawings.KEEPALIVE):
        labels = [step.text for step in machine.steps] + [*machine.labels]
        check_layout([*machine.states.values()], labels, machine.width, machine.height)
    labels = [
        drawings.Label(*arrow.at, arrow.lines, arrow.anchor) for arrow in drawings.FLOW_ARROWS
    ]
    check_layout([*drawings.FLOW_BOXES], labels, drawings.FLOW_WIDTH, drawings.FLOW_HEIGHT)


def check_layout(
    boxes: list[drawings.Box], labels: list[drawings.Label], width: float, height: float
) -> None:
    for label in labels:
        size = LETTER * max(map(len, label.lines), default=0)
        before = {"start": 0, "middle": size / 2, "end": size}[label.anchor]
        left, right = label.x - before, label.x - before + size
        assert left >= 0 and right <= width, label
        top, bottom = label.y - 11, label.y + 15 * (len(label.lines) - 1)
        for box in boxes:
            assert (
                right < box.x
                or left > box.x + box.width
                or bottom < box.y
                or top > box.y + box.height
            ), (label, box)
    for box in boxes:
        assert box.x >= 0 and box.x + box.width <= width
        assert box.y >= 0 and box.y + box.height <= height
        lines = len(box.code) + len(box.notes) + bool(box.title)
        assert 16 * lines <= box.height, box
    for one, other in itertools.combinations(boxes, 2):
        assert (
            one.x + one.width < other.x
            or other.x + other.width < one.x
            or one.y + one.height < other.y
            or other.y + other.height < one.y
        ), (one, other)


# What does not happen


async def test_no_task_before_a_request() -> None:
    async with serving() as server:
        before = asyncio.all_tasks()
        async with raw_socket(server) as peer:
            await until(lambda: server.all_connections)
            (ws,) = server.all_connections
            assert asyncio.all_tasks() == before and not server.connections
            assert ws._ws_timer is not None  # open_timeout runs
            await peer.send(request_bytes(port_of(server)))
            await peer.read_until(b"\r\n\r\n")
            assert len(asyncio.all_tasks() - before) == 1
            assert server.connections == {ws}


async def exchange(ws: ServerConnection, peer: RawPeer, count: int) -> None:
    for _ in range(count):
        await peer.send_frame(TEXT, b"x")
        await within(ws.send(await within(ws.recv())))
        await peer.recv_frame()


async def test_messages_read_no_clock_and_set_no_timer(
    monkeypatch: pytest.MonkeyPatch, on_uvloop: bool
) -> None:
    async with server_of_raw_client() as (ws, peer):
        timer = ws._ws_timer
        assert timer is not None  # keepalive
        readers = []
        time = ws.loop.time

        def read_clock() -> float:
            readers.append(sys._getframe(1).f_globals["__name__"].partition(".")[0])
            return time()

        monkeypatch.setattr(ws.loop, "time", read_clock)
        await exchange(ws, peer, 20)
        assert "websockets" not in readers and ws._ws_timer is timer and not timer.cancelled()
        assert on_uvloop or "asyncio" in readers
        ws._ws_on_timer()
        assert "websockets" in readers


class Watching(ServerConnection):
    """Keeps what it writes large."""

    def _ws_write_large(self, chunks: Any) -> None:
        self.payload = chunks[1]
        super()._ws_write_large(chunks)


async def test_what_is_sent_large_is_not_copied() -> None:
    async with server_of_raw_client(create_connection=Watching) as (ws, peer):
        data, text = os.urandom(64 * KIB), "x" * (64 * KIB)
        await ws.send(data)
        assert (await peer.recv_frame()).payload == data
        assert cast(Watching, ws).payload is data
        await ws.send(text)
        assert (await peer.recv_frame()).payload == text.encode()
        payload = cast(Watching, ws).payload
        assert payload == text.encode()
        # The memory of the string, which keeps the string alive.
        assert isinstance(payload, memoryview) is (codec.IMPLEMENTATION == "compiled")


async def test_nothing_is_allocated_before_it_is_needed() -> None:
    tasks = asyncio.all_tasks()
    async with deflating_server() as (ws, peer):
        await exchange(ws, peer, 2)
        protocol, deflate = ws.protocol, cast(PerMessageDeflate, ws.protocol.deflate)
        assert protocol._id is None and type(protocol._logger) is logging.Logger
        assert deflate is not None and deflate._compressor is deflate._decompressor is None
        # The handler's, and none for keepalive.
        assert len(asyncio.all_tasks() - tasks) == 1
        for obj in (ws, protocol, ws._ws_session, protocol.reader, deflate):
            assert not getattr(obj, "__dict__", None), type(obj)
        assert ws.id == protocol._id


# Memory


def read_formulas() -> dict[str, Callable[..., int]]:
    """Return the functions that the page about memory consists of."""
    text = (PAGES / "memory.md").read_text(encoding="utf-8")
    source = re.search(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert source
    namespace: dict[str, Any] = {}
    exec(source[1], namespace)
    return namespace


FORMULAS = read_formulas()


@pytest.fixture
def traced() -> Iterator[Callable[[], int]]:
    """Return what tells how much memory was allocated since."""
    set_zlib_module("zlib")

    def read() -> int:
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before

    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    yield read
    tracemalloc.stop()
    set_zlib_module(None)


async def echo(ws: ServerConnection) -> None:
    message = None
    async for message in ws:
        await ws.send(message)
        del message  # what the application holds is not the connection's


async def open_connections(server: Server, count: int, **kwargs: Any) -> list[RawPeer]:
    peers = []
    for _ in range(count):
        sock = socket.socket()
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port_of(server)))
        peers.append(RawPeer(sock, is_client=True))
        await peers[-1].send(request_bytes(port_of(server), **kwargs))
    for peer in peers:
        await peer.read_until(b"\r\n\r\n")
        peer.buffer = b""
    await until(lambda: len(server.connections) == count)
    return peers


COUNT = 40


async def measure(traced: Callable[[], int], compressed: bool) -> tuple[float, float]:
    """Return bytes of a connection that is open, and of one that has echoed messages."""
    message = os.urandom(500) + bytes(500)
    frames = client_frame(BINARY, message)
    if compressed:
        compressor = zlib.compressobj(wbits=-9)
        data = compressor.compress(message) + compressor.flush(zlib.Z_SYNC_FLUSH)
        frames = client_frame(BINARY, data[: -len(b"\0\0\xff\xff")], rsv=4)
    kwargs: dict[str, Any] = {"extra": OFFER} if compressed else {}
    async with serving(echo, compression="deflate", logger=SILENT) as server:
        # What is made once, and for all.
        (first,) = await open_connections(server, 1, **kwargs)
        await first.send(frames)
        await first.recv_frame()
        first.sock.close()
        await until(lambda: not server.all_connections)
        before = traced()
        peers = await open_connections(server, COUNT, **kwargs)
        opened = (traced() - before) / COUNT
        for peer in peers * 3:
            await peer.send(frames)
            await peer.recv_frame()
            peer.buffer = b""
        active = (traced() - before) / COUNT
        for peer in peers:
            peer.sock.close()
        await until(lambda: not server.all_connections and traced() - before < COUNT * KIB)
    return opened, active


def test_memory_of_an_idle_connection(traced: Callable[[], int]) -> None:
    opened, active = asyncio.run(measure(traced, compressed=False))
    assert opened == pytest.approx(FORMULAS["idle"](), rel=0.15)
    assert active == pytest.approx(FORMULAS["idle"](), rel=0.15)


def test_memory_of_compression(traced: Callable[[], int]) -> None:
    opened, active = asyncio.run(measure(traced, compressed=True))
    assert opened == pytest.approx(FORMULAS["idle"](), rel=0.15)
    parts = [FORMULAS[name]() for name in ("idle", "compressor", "decompressor")]
    assert active == pytest.approx(sum(parts), rel=0.1)


@pytest.mark.parametrize("bits", range(9, 16))
def test_memory_of_windows(bits: int, traced: Callable[[], int]) -> None:
    before = traced()
    deflates = [
        PerMessageDeflate(False, False, bits, bits, {"memLevel": level}) for level in (1, 5, 9)
    ]
    compressed = [deflate.compress_message(bytes(1000), True) for deflate in deflates]
    expected = sum(FORMULAS["compressor"](bits, level) for level in (1, 5, 9))
    between = traced()
    assert between - before == pytest.approx(expected, rel=0.1)
    for deflate, data in zip(deflates, compressed, strict=True):
        assert data is not None
        assert deflate.inflate(data, True, None) == bytes(1000)
    assert traced() - between == pytest.approx(3 * FORMULAS["decompressor"](bits), rel=0.1)


@pytest.mark.parametrize("width", [1, 4])
def test_memory_of_a_flood(width: int, traced: Callable[[], int]) -> None:
    """An application that does not receive, and a client that sends all the time."""
    size, length = 128 * KIB, 4
    payload = ("x" * (size - 4) + "\U0001f600").encode() if width == 4 else b"x" * size
    flood = client_frame(TEXT, payload) * 10

    async def main() -> None:
        async with server_of_raw_client(small_buffers=True, max_size=size, max_queue=length) as (
            ws,
            peer,
        ):
            before = traced()
            sending = asyncio.create_task(peer.loop.sock_sendall(peer.sock, flood * 2))
            assert await stalled(sending, lambda: len(ws._ws_session.messages))
            assert len(ws._ws_session.messages) == length
            held = traced() - before - 2 * len(flood)
            bound = FORMULAS["queue"](length, size, width) + FORMULAS["unread"]()
            assert bound / 2 < held <= bound
            sending.cancel()

    asyncio.run(main())


def test_memory_of_what_is_not_read(traced: Callable[[], int]) -> None:
    """A peer that does not read, and an application that sends all the time."""
    size, limit = 128 * KIB, 64 * KIB

    async def main() -> None:
        async with server_of_raw_client(small_buffers=True, write_limit=limit) as (ws, _):
            before = traced()

            async def fill() -> None:
                while True:
                    await ws.send(bytes(size))

            sending = [asyncio.create_task(fill()) for _ in range(20)]
            assert await stalled(sending[0], ws.transport.get_write_buffer_size)
            held = traced() - before
            bound = FORMULAS["sending"](limit, size)
            # What the senders have in hand is theirs.
            assert limit < held - 19 * size <= bound
            for task in sending:
                task.cancel()
            await asyncio.wait(sending)
            ws.transport.abort()

    asyncio.run(main())


def test_rows_about_cancellation_have_tests() -> None:
    page = PAGES / "cancellation.md"
    text = page.read_text(encoding="utf-8")
    rows = [line.split(" | ")[0] for line in text.splitlines() if line.startswith("| ")]
    cancelled = [
        row.removeprefix("| ") for row in rows if row not in ("| what is cancelled", "| ---")
    ]
    assert len(cancelled) > 20
    assert [what for what in cancelled if what not in read_promises(page)] == []
