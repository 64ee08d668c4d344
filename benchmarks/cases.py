"""What is measured, and the goals: the whole plan of a run, as data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

ASYNCIO, UVLOOP = LOOPS = ("asyncio", "uvloop")
# Of a case in which no Python event loop runs.
NO_LOOP = ""

OURS, PURE = "this library", "this library, pure"
PICOWS, PICOWS_WEBSOCKETS = "picows", "picows.websockets"
AIOHTTP, WEBSOCKETS = "aiohttp", "websockets 17.4"
# Where messages are compressed, OURS and PURE do it with Python's own zlib.
OURS_ZLIB_NG, OURS_ISAL = ZLIBS = ("this library, zlib-ng", "this library, isal")
LIBRARIES = (OURS, PURE, PICOWS, PICOWS_WEBSOCKETS, AIOHTTP, WEBSOCKETS)
# Bounds, not competitors: what an event loop costs that echoes bytes, another language's most used
# library, and a server in C.
TCP, NODE, C = "TCP, no WebSocket", "Node.js ws", "C"
BOUNDS = (TCP, NODE, C)
COMPILED = tuple(peer for peer in LIBRARIES if peer != PURE)
# What the goals name; the quick run measures no others.
CORE = (OURS, OURS_ZLIB_NG, PICOWS, PICOWS_WEBSOCKETS, WEBSOCKETS)
ONE_API = (OURS, PURE, PICOWS_WEBSOCKETS, WEBSOCKETS)
# picows itself does not compress.
COMPRESSING = (OURS, *ZLIBS, PURE, PICOWS_WEBSOCKETS, AIOHTTP, WEBSOCKETS)
# The original API, which 17.4 has in code of its own.
LEGACY = OURS_LEGACY, WEBSOCKETS_LEGACY = (
    "this library, original API",
    "websockets 17.4, original API",
)
# Those whose broadcast() may compress once for many.
BROADCASTING = (OURS, *ZLIBS, PICOWS_WEBSOCKETS, WEBSOCKETS)


@dataclass(frozen=True)
class Case:
    """
    One thing to measure, for several peers. measure.py has a function for each ``kind``.

    ``figure`` names the figure that counts; of all turns, the lowest is taken.
    """

    name: str
    kind: str
    connections: int = 1
    window: int = 1  # messages in flight on each connection
    size: int = 64  # bytes in a message
    text: bool = False
    batch: int = 100  # of what is only sent: messages each turn of the event loop
    unbounded_queue: bool = False  # max_queue=None instead of each library's default
    peers: tuple[str, ...] = LIBRARIES
    loops: tuple[str, ...] = LOOPS
    quick: tuple[str, ...] = ()  # loops on which the quick run measures it
    rounds: int | None = None  # where fewer than the run's do
    seconds: float | None = None  # of a turn, where it takes more than the run's
    figure: str = "cpu_us"

    @property
    def deflate(self) -> bool:
        return "deflate" in self.kind


def _cases() -> Iterator[Case]:
    # Echo servers under the load generator in C.
    every = LIBRARIES + BOUNDS
    yield Case("rtt64", "echo", peers=every, quick=LOOPS)
    yield Case("many64", "echo", 100, peers=every, quick=LOOPS)
    yield Case("pipe64", "echo", 1, 64, peers=every, quick=LOOPS)
    yield Case("text256", "echo", 10, 8, 256, text=True, peers=every, quick=(ASYNCIO,))
    yield Case("rtt8k", "echo", 1, 1, 8192, peers=every)
    yield Case("pipe8k", "echo", 1, 16, 8192, peers=every, quick=(ASYNCIO,))
    yield Case("64k", "echo", 4, 2, 65536, peers=every, quick=(ASYNCIO,))
    yield Case("1m", "echo", 1, 2, 2**20, peers=every, quick=(ASYNCIO,))
    yield Case("1mtext", "echo", 1, 2, 2**20, text=True, peers=every)
    yield Case("pipe64, max_queue=None", "echo", 1, 64, unbounded_queue=True, peers=ONE_API)

    # Echo clients of a server in C.
    yield Case("client rtt64", "client echo", quick=(ASYNCIO,))
    yield Case("client many64", "client echo", 100)
    yield Case("client pipe64", "client echo", 1, 64, quick=(ASYNCIO,))
    yield Case("client text256", "client echo", 10, 8, 256, text=True)
    yield Case("client rtt8k", "client echo", 1, 1, 8192, peers=COMPILED)
    yield Case("client pipe8k", "client echo", 1, 16, 8192, peers=COMPILED)
    yield Case("client 64k", "client echo", 4, 2, 65536, peers=COMPILED)
    yield Case("client 1m", "client echo", 1, 2, 2**20, peers=COMPILED)
    yield Case("client 1mtext", "client echo", 1, 2, 2**20, text=True, peers=COMPILED)

    # One way: a market data feed of text messages, and the other way round.
    yield Case("receive", "client receive", size=200, text=True, quick=(ASYNCIO,))
    yield Case("receive json", "client json", size=200, text=True, peers=COMPILED)
    yield Case(
        "receive, max_queue=None",
        "client receive",
        size=200,
        text=True,
        unbounded_queue=True,
        peers=ONE_API,
    )
    yield Case("send", "client send", size=200, text=True, peers=COMPILED)
    yield Case("send one a turn", "client send", size=200, text=True, batch=1, peers=COMPILED)
    yield Case("server receives", "server receive", size=200, text=True, peers=COMPILED)
    yield Case("server sends", "server send", size=200, text=True, peers=COMPILED)
    yield Case(
        "server sends one a turn", "server send", size=200, text=True, batch=1, peers=COMPILED
    )

    # One message to all clients.
    yield Case(
        "broadcast 100 B to 1,000", "broadcast", 1000, size=100, quick=(ASYNCIO,), peers=COMPILED
    )
    yield Case("broadcast 10 kB to 1,000", "broadcast", 1000, size=10_000, peers=COMPILED)
    yield Case("broadcast 100 B to 5,000", "broadcast", 5000, size=100, peers=COMPILED)
    yield Case("broadcast 10 kB to 5,000", "broadcast", 5000, size=10_000, peers=COMPILED)

    yield Case("handshake", "handshake", 1000, 16, quick=(ASYNCIO,))
    yield Case("handshake TLS", "handshake tls", 200, peers=COMPILED)
    yield Case("TLS rtt64", "echo tls", peers=COMPILED)
    yield Case("TLS pipe64", "echo tls", 1, 64, peers=COMPILED)
    yield Case("TLS 64k", "echo tls", 1, 4, 65536, peers=COMPILED)

    yield Case("memory", "memory", 5000, rounds=1, figure="kib_1000", quick=(ASYNCIO,))
    yield Case(
        "import",
        "import",
        loops=(NO_LOOP,),
        quick=(NO_LOOP,),
        figure="import_ms",
        peers=(OURS, PICOWS, PICOWS_WEBSOCKETS, AIOHTTP, WEBSOCKETS),
    )
    yield Case(
        "ServerProtocol",
        "sans-io",
        loops=(NO_LOOP,),
        quick=(NO_LOOP,),
        peers=(OURS, PURE, WEBSOCKETS),
    )

    # The original API next to the modern one.
    for name, connections, window in [("rtt64", 1, 1), ("many64", 100, 1), ("pipe64", 1, 64)]:
        yield Case(
            f"original API {name}", "echo", connections, window, peers=(OURS, *LEGACY, WEBSOCKETS)
        )

    # JSON, compressed as each library does it by default.
    yield Case("deflate 100", "echo deflate", 10, 8, 100, text=True, peers=COMPRESSING)
    yield Case(
        "deflate 4k",
        "echo deflate",
        10,
        8,
        4096,
        text=True,
        peers=COMPRESSING,
        quick=(ASYNCIO,),
    )
    yield Case("deflate 64k", "echo deflate", 4, 2, 65536, text=True, seconds=1, peers=COMPRESSING)
    for name, size in [("1 kB", 1000), ("10 kB", 10_000)]:
        yield Case(
            f"deflate broadcast {name} to 1,000",
            "broadcast deflate",
            1000,
            size=size,
            text=True,
            seconds=2,
            peers=BROADCASTING,
        )
    yield Case(
        "deflate memory",
        "memory deflate",
        1000,
        size=1024,
        text=True,
        figure="kib_idle",
        rounds=1,
        peers=COMPRESSING,
    )

    # What the chart of throughput shows, with what is measured above for 64 bytes and 8 KiB.
    for size, window in [
        (16, 64),
        (256, 64),
        (1024, 64),
        (4096, 16),
        (32768, 8),
        (131072, 4),
        (524288, 2),
        (4 * 2**20, 2),
    ]:
        yield Case(
            f"sweep {size}", "echo", 1, window, size, peers=every, loops=(ASYNCIO,), rounds=1
        )


CASES = tuple(_cases())


def plan(quick: bool) -> Iterator[Case]:
    """Yield the cases of a run. The quick one has fewer of them, on fewer loops and peers."""
    for case in CASES:
        if not quick:
            yield case
        elif case.quick:
            peers = tuple(peer for peer in case.peers if peer in CORE)
            connections = min(case.connections, 1000)
            yield replace(case, loops=case.quick, peers=peers, connections=connections)


@dataclass(frozen=True)
class Goal:
    """A bound on a figure, or on its ratio over the same figure of a peer in the same run."""

    case: str
    over: str | None
    limit: float
    loops: tuple[str, ...] = LOOPS
    peer: str = OURS
    figure: str = "cpu_us"


def _goals() -> Iterator[Goal]:
    for case, picows, picows_uvloop, picows_websockets, websockets in [
        ("pipe64", 0.35, 0.35, 0.30, 0.10),
        ("text256", 0.35, 0.35, 0.30, 0.10),
        ("many64", 1.0, 1.1, 0.9, 0.35),
        ("rtt64", 1.0, 1.1, 0.9, 0.6),
        ("pipe8k", 0.75, 0.75, 0.7, 0.35),
        ("rtt8k", 1.0, 1.0, 0.7, 0.7),
        ("64k", 0.9, 0.9, 0.6, 0.4),
        ("1m", 0.75, 0.75, 0.7, 0.4),
        ("1mtext", 0.9, 0.9, 0.7, 0.4),
        ("receive", None, None, 1.0, 0.18),
        ("client pipe64", None, None, 0.4, 0.18),
        ("client rtt64", None, None, 0.9, 0.5),
    ]:
        if picows is not None and picows_uvloop is not None:
            yield Goal(case, PICOWS, picows, (ASYNCIO,))
            yield Goal(case, PICOWS, picows_uvloop, (UVLOOP,))
        yield Goal(case, PICOWS_WEBSOCKETS, picows_websockets)
        yield Goal(case, WEBSOCKETS, websockets)
    for case in ["rtt64", "many64", "pipe64", "text256"]:
        yield Goal(case, WEBSOCKETS, 0.7, peer=PURE)
    for each in CASES:
        if each.kind == "broadcast":
            yield Goal(each.name, WEBSOCKETS, 0.75)
    yield Goal("handshake", WEBSOCKETS, 0.75)
    yield Goal("memory", None, 8.0, figure="kib_1000")
    yield Goal("memory", None, 8.0, figure="kib_5000")
    for each in CASES:
        if each.name.startswith("original API"):
            yield Goal(each.name, OURS, 1.2, peer=OURS_LEGACY)
    yield Goal("deflate 4k", WEBSOCKETS, 0.6)
    yield Goal("deflate 4k", WEBSOCKETS, 0.3, peer=OURS_ZLIB_NG)
    yield Goal("deflate memory", WEBSOCKETS, 0.25, figure="kib_idle")
    yield Goal("deflate memory", None, 1.0, figure="kib_more")
    yield Goal("import", WEBSOCKETS, 0.5, (NO_LOOP,), figure="import_ms")
    yield Goal("ServerProtocol", WEBSOCKETS, 0.25, (NO_LOOP,))


GOALS = tuple(_goals())
