"""What chance makes, the same each time, through the protocol without I/O."""

from __future__ import annotations

import random
from typing import Any

from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    ServerPerMessageDeflateFactory,
)
from websockets.frames import Frame
from websockets.headers import (
    parse_connection,
    parse_extension,
    parse_subprotocol,
    parse_upgrade,
)
from websockets.http11 import Request
from websockets.protocol import CLIENT, SERVER, Protocol, Side
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from ..ends import (
    BINARY,
    CLOSE,
    CONT,
    KEY,
    PING,
    PONG,
    QUIET,
    TEXT,
    accept_key,
    close_payload,
    frame,
)
from ..scenario import Scenario, describe, scenario

CODES = [999, 1000, 1001, 1003, 1004, 1005, 1006, 1011, 1012, 1014, 1015, 2999, 3000, 4999, 5000]
SIZES = [0, 1, 2, 5, 124, 125, 126, 127, 300, 65535, 65536]


class Stream:
    """A peer that mostly keeps to the protocol, drawn by chance."""

    def __init__(self, seed: int, mask: bool) -> None:
        self.chance = random.Random(seed)
        self.mask = mask
        self.within = False  # whether a message is not complete
        self.mistaken = False  # whether there was a mistake

    def payload(self, largest: int) -> bytes:
        size = self.chance.choice([size for size in SIZES if size <= largest])
        # Text that is not UTF-8 is refused by one of the packages only.
        return bytes(self.chance.choices(range(128), k=min(size, 300))) + b"x" * max(size - 300, 0)

    def control(self) -> bytes:
        opcode = self.chance.choice([PING, PONG])
        return frame(opcode, self.payload(125), mask=self.mask)

    def data(self) -> bytes:
        opcode = CONT if self.within else self.chance.choice([TEXT, BINARY])
        fin = self.chance.random() < 0.6
        self.within = not fin
        return frame(opcode, self.payload(65536), fin=fin, mask=self.mask)

    def mistake(self) -> bytes:
        self.mistaken = True
        payload = self.payload(125)
        return self.chance.choice(
            [
                frame(BINARY, payload, rsv=self.chance.randrange(1, 8), mask=self.mask),
                frame(PING, payload, fin=False, mask=self.mask),
                frame(self.chance.choice([3, 7, 11, 15]), payload, mask=self.mask),
                frame(PING, payload, mask=not self.mask),
                frame(TEXT if self.within else CONT, payload, mask=self.mask),
                frame(CONT if self.within else BINARY, b"x" * (2**20 + 1), mask=self.mask),
            ]
        )

    def close(self) -> bytes:
        reason = self.chance.choice(["", "reason", "é" * 20])
        payload = close_payload(self.chance.choice(CODES), reason)
        return frame(CLOSE, self.chance.choice([b"", payload, payload, b"\x03"]), mask=self.mask)

    def whole(self) -> bytes:
        frames = []
        for _ in range(self.chance.randrange(1, 12)):
            draw = self.chance.random()
            frames.append(self.mistake() if draw < 0.05 else self.data())
            if draw > 0.7:
                frames.append(self.control())
        while self.within:
            # A close frame within a message is refused by one of the packages only.
            frames.append(self.data())
        if self.chance.random() < 0.7:
            frames.append(self.close())
            frames.append(self.data())
        return b"".join(frames)

    def pieces(self) -> list[bytes]:
        data = self.whole()
        # One of the packages refuses a frame before all of it has come.
        if not self.mistaken and self.chance.random() < 0.3:
            data = data[: self.chance.randrange(len(data) + 1)]
        cuts = sorted(self.chance.randrange(len(data) + 1) for _ in range(self.chance.randrange(9)))
        ends = [*cuts, len(data)]
        return [data[start:end] for start, end in zip([0, *cuts], ends, strict=True)]


def shown(event: Any) -> str:
    assert isinstance(event, Frame)
    return f"{event.opcode.name}{'' if event.fin else '+'}{describe(bytes(event.data[:20]))}"


def feed(s: Scenario, side: Side, seeds: range, **kwargs: Any) -> None:
    """Feed streams to a protocol, and write down what it makes of them."""
    for seed in seeds:
        protocol = Protocol(side, logger=QUIET, **kwargs)
        for piece in Stream(seed, mask=side is SERVER).pieces():
            protocol.receive_data(piece)
        events = protocol.events_received()
        s.note(f"{seed}", protocol.state, len(events), " ".join(map(shown, events)))
        s.note(f"{seed}: bytes", b"".join(protocol.data_to_send()))
        protocol.receive_eof()
        s.note(f"{seed}: end", protocol.state, protocol.close_code, protocol.close_reason)
        exc = protocol.parser_exc
        # The cause of an unknown opcode is another difference.
        s.note(f"{seed}: exception", type(exc).__name__, str(exc), *protocol.data_to_send())


@scenario
def streams_to_client(s: Scenario) -> None:
    """A hundred streams to a client."""
    feed(s, CLIENT, range(100))


@scenario
def streams_to_server(s: Scenario) -> None:
    """A hundred streams to a server."""
    feed(s, SERVER, range(100, 200))


@scenario
def streams_over_limits(s: Scenario) -> None:
    """A hundred streams to a server with a small limit."""
    feed(s, SERVER, range(200, 300), max_size=400)


@scenario
def streams_without_limit(s: Scenario) -> None:
    """A hundred streams to a client without a limit."""
    feed(s, CLIENT, range(300, 400), max_size=None)


# Handshakes

#: Values of parameters of permessage-deflate (RFC 7692 section 7.1), bad ones among them. A window
#: of 8 bits is taken by one of the packages only.
BITS = [None, "9", "10", "12", "15", "7", "16", "010", "x", '"11"', ""]


def deflate_by_chance(chance: random.Random) -> str:
    """Return permessage-deflate with parameters, as an offer or a response has it."""
    parameters = ["permessage-deflate"]
    for name in ("server_no_context_takeover", "client_no_context_takeover"):
        if chance.random() < 0.3:
            parameters.append(name + chance.choice(["", "", "", "=1"]))
    for name in ("server_max_window_bits", "client_max_window_bits"):
        if chance.random() < 0.4:
            value = chance.choice(BITS)
            parameters.append(name if value is None else f"{name}={value}")
    if chance.random() < 0.05:
        parameters.append(chance.choice(["unknown", "server_no_context_takeover", "x=y"]))
    return "; ".join(parameters)


def settings_by_chance(chance: random.Random, client: bool) -> dict[str, Any]:
    """Return arguments of a factory."""
    bits = [None, 9, 11, 13, 15]
    settings: dict[str, Any] = {
        "server_no_context_takeover": chance.random() < 0.3,
        "client_no_context_takeover": chance.random() < 0.3,
        "server_max_window_bits": chance.choice(bits),
        "client_max_window_bits": chance.choice([*bits, True] if client else bits),
    }
    return settings


@scenario
def offers_by_chance(s: Scenario) -> None:
    """Two hundred offers of permessage-deflate to as many servers."""
    for seed in range(200):
        chance = random.Random(seed)
        settings = settings_by_chance(chance, client=False)
        offers = ", ".join(deflate_by_chance(chance) for _ in range(chance.choice([1, 1, 2])))
        protocol = ServerProtocol(
            extensions=[ServerPerMessageDeflateFactory(**settings)], logger=QUIET
        )
        protocol.receive_data(
            b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: " + KEY.encode() + b"\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Extensions: " + offers.encode() + b"\r\n\r\n"
        )
        (request,) = protocol.events_received()
        assert isinstance(request, Request)
        response = protocol.accept(request)
        s.note(f"{seed} {settings} {offers}", response.status_code, response.body)
        s.note("agreed", response.headers.get("Sec-WebSocket-Extensions"))


@scenario
def agreements_by_chance(s: Scenario) -> None:
    """Two hundred responses of servers to clients that offer permessage-deflate."""
    for seed in range(200):
        chance = random.Random(seed)
        settings = settings_by_chance(chance, client=True)
        agreement = deflate_by_chance(chance)
        protocol = ClientProtocol(
            parse_uri("ws://localhost/"),
            extensions=[ClientPerMessageDeflateFactory(**settings)],
            logger=QUIET,
        )
        request = protocol.connect()
        protocol.send_request(request)
        accept = accept_key(request.headers["Sec-WebSocket-Key"])
        protocol.receive_data(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept.encode() + b"\r\n"
            b"Sec-WebSocket-Extensions: " + agreement.encode() + b"\r\n\r\n"
        )
        s.note(f"{seed} {request.headers['Sec-WebSocket-Extensions']}", agreement)
        exc = protocol.handshake_exc
        s.note("state", protocol.state, type(exc).__name__, str(exc))


def spaced(chance: random.Random, value: str) -> str:
    return f"{chance.choice(['', ' ', '  ', chr(9)])}{value}{chance.choice(['', ' ', chr(9)])}"


@scenario
def requests_by_chance(s: Scenario) -> None:
    """Two hundred good requests, in pieces, and what is made of them."""
    for seed in range(200):
        chance = random.Random(seed)
        names = ["Accept", "Cookie", "X-One", "User-Agent", "Origin"]
        values = ["", "a", "a b; c=d", "ü"]
        items = [(chance.choice(names), chance.choice(values)) for _ in range(4)]
        items += [
            ("Host", "example.com"),
            ("Upgrade", chance.choice(["websocket", "WebSocket"])),
            ("Connection", chance.choice(["Upgrade", "keep-alive, Upgrade", ", upgrade ,"])),
            ("Sec-WebSocket-Key", KEY),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Protocol", chance.choice(["a", "a, b", "c , a", ",b"])),
        ]
        chance.shuffle(items)
        lines = [f"GET {chance.choice(['/', '/a?b', '/%C3%A9'])} HTTP/1.1"]
        for name, value in items:
            name = chance.choice([name, name.lower(), name.upper()])
            lines.append(f"{name}:{spaced(chance, value)}")
        data = "\r\n".join([*lines, "", ""]).encode()
        cut = chance.randrange(len(data))
        protocol = ServerProtocol(subprotocols=["b", "a"], logger=QUIET)  # type: ignore[list-item]
        protocol.receive_data(data[:cut])
        protocol.receive_data(data[cut:])
        s.note(f"{seed}", protocol.handshake_exc)
        for request in protocol.events_received():
            assert isinstance(request, Request)
            s.note("request", request)
            s.note("response", protocol.accept(request))


@scenario
def responses_by_chance(s: Scenario) -> None:
    """Two hundred good responses that refuse, with bodies of each kind, in pieces."""
    for seed in range(200):
        chance = random.Random(seed)
        body = bytes(chance.choices(range(256), k=chance.choice([0, 1, 10, 200])))
        status = chance.choice([200, 204, 301, 400, 404, 426, 503, 599])
        head = f"HTTP/1.1 {status} {chance.choice(['', 'OK', 'Not at all', 'Nein'])}\r\n"
        head += f"X-One:{spaced(chance, 'value')}\r\n"
        kind = chance.choice(["length", "chunks", "end"])
        if status == 204:
            kind, body = "end", b""
        if kind == "length":
            head += f"Content-Length: {len(body)}\r\n"
        elif kind == "chunks":
            head += "Transfer-Encoding: chunked\r\n"
            chunks = b""
            while body:
                size = chance.randrange(1, len(body) + 1)
                chunks += b"%x\r\n%b\r\n" % (size, body[:size])
                body = body[size:]
            body = chunks + b"0\r\n\r\n"
        data = f"{head}\r\n".encode() + body
        cut = chance.randrange(len(data))
        protocol = ClientProtocol(parse_uri("ws://localhost/"), logger=QUIET)
        protocol.send_request(protocol.connect())
        protocol.receive_data(data[:cut])
        protocol.receive_data(data[cut:])
        protocol.receive_eof()
        s.note(f"{seed}", protocol.state, *protocol.events_received())
        s.note("exception", protocol.handshake_exc)


@scenario
def header_values_by_chance(s: Scenario) -> None:
    """A thousand values of headers, most of them malformed, for each function that parses one."""
    for parse in (parse_connection, parse_upgrade, parse_extension, parse_subprotocol):
        chance = random.Random(parse.__name__)
        for _ in range(1000):
            text = "".join(chance.choices('ab12,,;;==  \t""/\\()', k=chance.randrange(12)))
            try:
                s.note(f"{parse.__name__} {text!r}", parse(text))
            except Exception as exc:
                s.note(f"{parse.__name__} {text!r}", exc)


@scenario
def uris_by_chance(s: Scenario) -> None:
    """A thousand good URIs."""
    chance = random.Random("uris")
    # What is encoded already in an IRI is encoded again by one of the packages.
    uri_tails = ["", "/", "/a/b", "/a%20b", "/;p=1", "//", "/a:b@c", "?", "/?a=b&c", "/?%C3%A9/?b"]
    iri_tails = ["/é/ü", "/a?é", "/é?a=b&c"]
    for _ in range(1000):
        text = chance.choice(["ws", "wss", "WS", "Wss"]) + "://"
        text += chance.choice(["", "", "user:pass@", "u%20:p%3A:@", "user:@"])
        text += chance.choice(["localhost", "Example.COM", "127.0.0.1", "[::1]", "a-b.c"])
        text += chance.choice(["", "", ":80", ":443", ":8080", ":65535"])
        text += chance.choice(uri_tails if "%" in text else uri_tails + iri_tails)
        try:
            uri = parse_uri(text)
        except Exception as exc:
            s.note(text, exc)
        else:
            s.note(text, uri, uri.resource_name, uri.user_info)
