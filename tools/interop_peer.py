"""
One end of the interoperability checks (see interop.py), on whichever `websockets` is installed.

``interop_peer.py server`` prints the port that it listens on; ``interop_peer.py client URL`` prints
a line for each check. Both first print which distribution they run on. interop_peer.cjs is the
same on Node's ws.

What the server does with a text message:

- ``/fragments``: sends the message "one message in frames" in several frames;
- ``/ping``: sends a ping, and "pong received" once it is answered;
- ``/close CODE REASON``: closes;
- ``/seen CODE REASON``: sends "yes" if a connection has closed so, else "no";
- otherwise, and with a binary message: sends it back.

The server compresses messages if the client asks for it. The client does all checks twice, once
plain and once compressed.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.typing import Subprotocol

MAX_SIZE = 16 * 2**20
TIMEOUT = 30.0  # seconds, for each check

closes: set[tuple[int | None, str | None]] = set()


async def handler(websocket: ServerConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        await answer(websocket)
    closes.add((websocket.close_code, websocket.close_reason))


async def answer(websocket: ServerConnection) -> None:
    async for message in websocket:
        match message.split(" ") if isinstance(message, str) else []:
            case ["/fragments"]:
                await websocket.send(["one message ", "", "in frames"])
            case ["/ping"]:
                await (await websocket.ping(b"from the server"))
                await websocket.send("pong received")
            case ["/close", code, reason]:
                await websocket.close(int(code), reason)
            case ["/seen", code, reason]:
                await websocket.send("yes" if (int(code), reason) in closes else "no")
            case _:
                await websocket.send(message)


async def run_server() -> None:
    def select(websocket: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
        # Unlike a list of subprotocols, this lets in a client that offers none.
        return next((name for name in offered if name == "chat"), None)

    async with serve(
        handler, "127.0.0.1", 0, max_size=MAX_SIZE, select_subprotocol=select
    ) as server:
        print(next(iter(server.sockets)).getsockname()[1], flush=True)
        await server.serve_forever()


def expect(found: object, wanted: object) -> None:
    if found != wanted:
        raise AssertionError(f"expected {str(wanted)[:80]!r}, found {str(found)[:80]!r}")


class Checks:
    """Each method is a check; its name says what is checked."""

    def __init__(self, url: str, factory: ClientPerMessageDeflateFactory | None) -> None:
        self.url = url
        self.factory = factory

    @contextlib.asynccontextmanager
    async def connect(self, *subprotocols: str) -> AsyncIterator[ClientConnection]:
        async with connect(
            self.url,
            max_size=MAX_SIZE,
            subprotocols=[Subprotocol(name) for name in subprotocols] or None,
            extensions=None if self.factory is None else [self.factory],
            compression=None,
        ) as websocket:
            assert websocket.response is not None
            accepted = websocket.response.headers.get_all("Sec-WebSocket-Extensions")
            expect(bool(accepted), self.factory is not None)
            expect(len(websocket.protocol.extensions), len(accepted))
            yield websocket

    async def echo(self, message: str | bytes) -> None:
        async with self.connect() as websocket:
            await websocket.send(message)
            expect(await websocket.recv(), message)

    async def text(self) -> None:
        await self.echo("Grüße, 世界 🌍")

    async def binary(self) -> None:
        await self.echo(bytes(range(256)))

    async def empty(self) -> None:
        await self.echo("")
        await self.echo(b"")

    async def boundary_sizes(self) -> None:
        # Where the encoding of the length changes (RFC 6455 section 5.2).
        for size in [125, 126, 127, 65535, 65536]:
            await self.echo(b"x" * size)

    async def large_text(self) -> None:
        await self.echo("Grüße, 世界 🌍 " * 150_000)

    async def large_binary(self) -> None:
        await self.echo(bytes(range(256)) * (5 * 2**12))

    async def send_fragments(self) -> None:
        async def fragments(websocket: ClientConnection) -> AsyncIterator[str]:
            yield "one "
            # Control frames may come in the middle of a message (RFC 6455 section 5.4).
            await (await websocket.ping())
            yield ""
            yield "message"

        async with self.connect() as websocket:
            await websocket.send(fragments(websocket))
            expect(await websocket.recv(), "one message")

    async def receive_fragments(self) -> None:
        async with self.connect() as websocket:
            await websocket.send("/fragments")
            expect(await websocket.recv(), "one message in frames")

    async def many_messages(self) -> None:
        messages: list[str | bytes] = [f"{n}" * (n % 200) for n in range(2_000)]
        async with self.connect() as websocket:

            async def send() -> None:
                for message in messages:
                    await websocket.send(message)

            sending = asyncio.create_task(send())
            for message in messages:
                expect(await websocket.recv(), message)
            await sending

    async def client_pings(self) -> None:
        async with self.connect() as websocket:
            await (await websocket.ping(b"from the client"))

    async def server_pings(self) -> None:
        async with self.connect() as websocket:
            await websocket.send("/ping")
            expect(await websocket.recv(), "pong received")

    async def client_closes(self) -> None:
        async with self.connect() as websocket:
            await websocket.close(4321, "möglich")
        expect((websocket.close_code, websocket.close_reason), (4321, "möglich"))
        # The server takes note when TCP ends, perhaps after the client.
        for _ in range(100):
            async with self.connect() as websocket:
                await websocket.send("/seen 4321 möglich")
                if await websocket.recv() == "yes":
                    return
            await asyncio.sleep(0.02)
        raise AssertionError("the server did not see the code and the reason")

    async def server_closes(self) -> None:
        for code in [1000, 1001, 1011, 3000, 4999]:
            async with self.connect() as websocket:
                await websocket.send(f"/close {code} möglich")
                try:
                    await websocket.recv()
                except ConnectionClosed as exc:
                    assert exc.rcvd is not None
                    expect((exc.rcvd.code, exc.rcvd.reason), (code, "möglich"))
                else:
                    raise AssertionError("the server did not close")

    async def subprotocol(self) -> None:
        async with self.connect("unknown", "chat") as websocket:
            expect(websocket.subprotocol, "chat")

    async def no_subprotocol(self) -> None:
        async with self.connect() as websocket:
            expect(websocket.subprotocol, None)

    async def one_connection(self) -> None:
        # What was sent before is, or is not, in the window when it comes again.
        text = "".join(f"{n} in the window, " for n in range(1000))
        messages: list[str | bytes] = [text, text, "", b"", text[::-1], text.encode(), text]
        async with self.connect() as websocket:
            for message in messages:
                await websocket.send(message)
                expect(await websocket.recv(), message)
            await websocket.send([text, "", text])
            expect(await websocket.recv(), text + text)
            await websocket.send("/fragments")
            expect(await websocket.recv(), "one message in frames")


CHECKS = [
    "text",
    "binary",
    "empty",
    "boundary_sizes",
    "large_text",
    "large_binary",
    "send_fragments",
    "receive_fragments",
    "many_messages",
    "client_pings",
    "server_pings",
    "client_closes",
    "server_closes",
    "subprotocol",
    "no_subprotocol",
    "one_connection",
]


async def run_client(url: str) -> bool:
    deflate = ClientPerMessageDeflateFactory
    alone = deflate(server_no_context_takeover=True, client_no_context_takeover=True)
    runs: list[tuple[str, ClientPerMessageDeflateFactory | None, list[str]]] = [
        ("plain", None, CHECKS),
        ("compressed", deflate(), CHECKS),
        ("alone", alone, ["one_connection", "many_messages"]),
        ("small", deflate(False, False, 9, 9), ["one_connection", "large_text"]),
    ]
    good = True
    for kind, factory, names in runs:
        for name in names:
            check: Callable[[], Awaitable[None]] = getattr(Checks(url, factory), name)
            try:
                await asyncio.wait_for(check(), TIMEOUT)
            except Exception as exc:
                good = False
                print(f"{kind} {name} FAILED: {type(exc).__name__}: {exc}", flush=True)
            else:
                print(f"{kind} {name} ok", flush=True)
    return good


if __name__ == "__main__":
    print("websockets", importlib.metadata.version("websockets"), flush=True)
    if sys.argv[1:] == ["server"]:
        asyncio.run(run_server())
    else:
        sys.exit(not asyncio.run(run_client(sys.argv[2])))
