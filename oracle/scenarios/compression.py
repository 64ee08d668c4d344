"""permessage-deflate (RFC 7692) on connections."""

from __future__ import annotations

import zlib
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    ServerPerMessageDeflateFactory,
)

from ..ends import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    TEXT,
    Raw,
    connecting,
    echo,
    frame,
    masked,
    raw_client,
    raw_server,
    serving,
)
from ..scenario import Scenario, scenario

OFFER = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"


def deflated(data: bytes) -> bytes:
    """Return what a message is compressed to (section 7.2.1)."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


class Inflating:
    """Shows messages of a peer inflated, as compressors may differ."""

    def __init__(self, raw: Raw) -> None:
        self.raw = raw
        self.decompressor = zlib.decompressobj(-15)
        self.compressed = False

    async def frame(self) -> int:
        track, self.raw.track = self.raw.track, type(self.raw.track)()
        opcode, payload = await self.raw.frame()
        shown = self.raw.track.lines[0]
        self.raw.track = track
        if opcode in (TEXT, BINARY):
            self.compressed = "rsv1" in shown
        if opcode in (TEXT, BINARY, CONT) and self.compressed:
            tail = b"" if "not final" in shown else b"\x00\x00\xff\xff"
            data = self.decompressor.decompress(payload + tail)
            track.note(f"{shown.partition(' b')[0]}, inflated to", data)
        else:
            track.note(shown)
        return opcode


@scenario
async def both_ends(s: Scenario) -> None:
    """Messages between two ends that compress."""

    async with (
        serving(s, echo, compression="deflate") as server,
        connecting(server, compression="deflate") as websocket,
    ):
        s.note("extensions", [type(item).__name__ for item in websocket.protocol.extensions])
        for message in ("short", "long " * 1000, b"", b"\x00" * 10000, "again", "again"):
            await websocket.send(message)
            s.note("received", await websocket.recv())


@scenario
async def client_compresses(s: Scenario) -> None:
    """A client's messages, inflated."""

    async def peer(raw: Raw) -> None:
        await raw.accept("Sec-WebSocket-Extensions: permessage-deflate")
        inflating = Inflating(raw)
        while await inflating.frame() != CLOSE:
            pass
        await raw.send(frame(CLOSE))
        raw.eof()
        await raw.end()

    async with raw_server(s, peer) as where:
        async with connecting(where, compression="deflate") as websocket:
            await websocket.send("text " * 100)
            await websocket.send(b"bytes" * 100)
            await websocket.send(["fragments of text " * 10, "and more of them " * 10])
            await websocket.ping("not compressed")


@scenario
async def short_messages(s: Scenario) -> None:
    """Short messages."""

    async def peer(raw: Raw) -> None:
        await raw.accept("Sec-WebSocket-Extensions: permessage-deflate")
        await raw.close_handshake()

    async with raw_server(s, peer) as where:
        async with connecting(where, compression="deflate") as websocket:
            await websocket.send("short")
            await websocket.send(b"")


async def served(s: Scenario, *frames: bytes, offer: str = OFFER, **kwargs: Any) -> None:
    """A server receives these frames."""

    async def handler(websocket: ServerConnection) -> None:
        track = s.track("server")
        try:
            while True:
                track.note("received", await websocket.recv())
        except Exception as exc:
            track.note("recv", exc)

    kwargs.setdefault("compression", "deflate")
    async with serving(s, handler, **kwargs) as server, raw_client(s, server) as raw:
        await raw.open("/", offer)
        await raw.send(*frames)
        await raw.close_as_client()


@scenario
async def messages_in_many_forms(s: Scenario) -> None:
    """Compressed messages whole, in fragments, with a ping between, and plain ones."""
    data = deflated(b"hello hello hello")
    await served(
        s,
        masked(TEXT, data, rsv=4),
        masked(TEXT, data[:4], rsv=4, fin=False),
        masked(PING, "between"),
        masked(CONT, data[4:]),
        masked(TEXT, "plain"),
        masked(TEXT, b"\x00", rsv=4),
    )


@scenario
async def rsv1_in_continuation(s: Scenario) -> None:
    """RSV1 in a continuation frame of a compressed message."""
    data = deflated(b"hello")
    await served(s, masked(TEXT, data[:4], rsv=4, fin=False), masked(CONT, data[4:], rsv=4))


@scenario
async def rsv1_in_ping(s: Scenario) -> None:
    """RSV1 in a control frame."""
    await served(s, masked(PING, "x", rsv=4))


@scenario
async def bad_text_within(s: Scenario) -> None:
    """A compressed text message that is not UTF-8."""
    await served(s, masked(TEXT, deflated(b"good \xff"), rsv=4))


@scenario
async def bad_data(s: Scenario) -> None:
    """A message that cannot be inflated."""
    await served(s, masked(TEXT, b"\xff\xff\xff\xff", rsv=4))


@scenario
async def bomb(s: Scenario) -> None:
    """A message that is inflated to more than max_size."""
    await served(s, masked(TEXT, deflated(b"x" * 100000), rsv=4), max_size=1000)


@scenario
async def bomb_in_fragments(s: Scenario) -> None:
    """Fragments that are inflated to more than max_size together."""
    data = deflated(b"x" * 2000)
    await served(
        s,
        masked(TEXT, data[:5], rsv=4, fin=False),
        masked(CONT, data[5:]),
        max_size=1000,
    )


@scenario
async def message_at_limit(s: Scenario) -> None:
    """A message that is inflated to exactly max_size."""
    await served(s, masked(TEXT, deflated(b"x" * 1000), rsv=4), max_size=1000)


@scenario
async def no_context_takeover(s: Scenario) -> None:
    """A server that is asked for no context takeover."""

    async def handler(websocket: ServerConnection) -> None:
        for _ in range(2):
            await websocket.send("the same each time, " * 10)

    async with serving(s, handler, compression="deflate") as server, raw_client(s, server) as raw:
        await raw.open(
            "/", "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover"
        )
        for _ in range(2):
            await Inflating(raw).frame()
        await raw.frame()
        await raw.close_as_client()


async def negotiating(s: Scenario, factory: Any, *offers: str) -> None:
    """What a server's factory makes of offers."""
    for offer in offers:
        async with serving(s, echo, extensions=[factory]) as server:
            async with raw_client(s, server) as raw:
                await raw.open("/", f"Sec-WebSocket-Extensions: {offer}")
                await raw.send(masked(CLOSE))
                await raw.end()


@scenario
async def negotiation_default(s: Scenario) -> None:
    """Offers to a factory without arguments."""
    await negotiating(
        s,
        ServerPerMessageDeflateFactory(),
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; client_max_window_bits=9",
        "permessage-deflate; server_max_window_bits=9",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; client_max_window_bits=7",
        "permessage-deflate; client_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; client_no_context_takeover=1",
        "permessage-deflate; unknown, permessage-deflate",
        'permessage-deflate; client_max_window_bits="10"',
    )


@scenario
async def negotiation_with_arguments(s: Scenario) -> None:
    """Offers to a factory with arguments."""
    await negotiating(
        s,
        ServerPerMessageDeflateFactory(
            server_no_context_takeover=True,
            client_no_context_takeover=True,
            server_max_window_bits=11,
            client_max_window_bits=12,
        ),
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; client_max_window_bits=10; server_max_window_bits=10",
        "permessage-deflate; client_max_window_bits=15; server_max_window_bits=15",
    )


@scenario
async def negotiation_required(s: Scenario) -> None:
    """Offers to a factory that insists on the client's window."""
    await negotiating(
        s,
        ServerPerMessageDeflateFactory(
            client_max_window_bits=12, require_client_max_window_bits=True
        ),
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits",
    )


@scenario
def factory_arguments(s: Scenario) -> None:
    """Arguments of factories, and what they offer."""
    for kwargs in (
        {"server_max_window_bits": 7},
        {"client_max_window_bits": 16},
        {"server_max_window_bits": 10, "client_max_window_bits": True},
        {"server_no_context_takeover": True, "client_no_context_takeover": True},
        {"compress_settings": {"memLevel": 4}},
        {"compress_settings": {"wbits": 15}},
    ):
        with s.failing(str(kwargs)):
            s.note("offer", ClientPerMessageDeflateFactory(**kwargs).get_request_params())
    with s.failing("required but absent"):
        ServerPerMessageDeflateFactory(require_client_max_window_bits=True)
