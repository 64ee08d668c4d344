"""Conversations made by chance, the same each time, between a connection and a raw peer.

Both ends know what is to be said, and each step waits for the one before it.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from ..ends import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    PONG,
    TEXT,
    Raw,
    close_payload,
    connecting,
    ending,
    frame,
    raw_client,
    raw_server,
    serving,
)
from ..scenario import Scenario, Track, scenario

SIZES = [0, 1, 20, 125, 126, 1000, 65535, 65536, 70000]
CODES = [1000, 1000, 1001, 1003, 1011, 1012, 3000, 4000, 4999]
ENDS = ["we close", "we close", "they close", "they close", "they end", "they reset", "mistake"]


class Conversation:
    """What the two ends say to each other."""

    def __init__(self, seed: str, masked: bool) -> None:
        chance = random.Random(seed)
        self.masked = masked
        self.steps = [self.step(chance) for _ in range(chance.randrange(6))]
        self.end = chance.choice(ENDS)
        self.payload = chance.choice(
            [b"", close_payload(chance.choice(CODES), chance.choice(["", "why", "é€"]))]
        )
        self.close = (chance.choice(CODES), chance.choice(["", "bye", "ü" * 30]))

    def step(self, chance: random.Random) -> tuple[str, Any]:
        kind = chance.choice(["send", "send", "receive", "receive", "stream", "ping", "pinged"])
        if kind == "send":
            return kind, self.message(chance)
        if kind in ("receive", "stream"):
            return kind, self.fragments(chance)
        return kind, bytes(chance.choices(range(128), k=chance.choice([1, 4, 125])))

    def message(self, chance: random.Random) -> Any:
        size = chance.choice(SIZES)
        data = bytes(chance.choices(range(128), k=min(size, 100))) + b"x" * max(size - 100, 0)
        return chance.choice(
            [data, data.decode(), bytearray(data), [data[:10], data[10:]], [data.decode(), "é"]]
        )

    def fragments(self, chance: random.Random) -> list[bytes]:
        text = chance.random() < 0.5
        whole = chance.choice(["", "a", "é" * 50, "x" * 200, "€" * 30000]).encode()
        cuts = sorted(chance.randrange(len(whole) + 1) for _ in range(chance.randrange(4)))
        ends = [*cuts, len(whole)]
        pieces = [whole[start:stop] for start, stop in zip([0, *cuts], ends, strict=True)]
        frames = []
        for number, piece in enumerate(pieces):
            opcode = CONT if number else TEXT if text else BINARY
            fin = number == len(pieces) - 1
            frames.append(frame(opcode, piece, fin=fin, mask=self.masked))
        return frames

    # Our end

    async def talk(self, track: Track, websocket: ClientConnection | ServerConnection) -> None:
        """Do this end's part, on a connection."""
        for kind, what in self.steps:
            if kind == "send":
                await websocket.send(what)
                track.note("answer", await websocket.recv())
            elif kind == "receive":
                track.note("received", await websocket.recv())
                await websocket.send("received")
            elif kind == "stream":
                # How many fragments there are depends on what comes in one read.
                fragments: list[Any] = [item async for item in websocket.recv_streaming()]
                track.note("streamed", type(fragments[0])().join(fragments))
                await websocket.send("streamed")
            elif kind == "ping":
                await (await websocket.ping(what))
            else:
                track.note("received", await websocket.recv())
        if self.end == "we close":
            await websocket.close(*self.close)
        for _ in range(2):
            try:
                await websocket.recv()
            except ConnectionClosed as exc:
                track.note("recv", exc)
        for call in (websocket.send("late"), websocket.ping()):
            try:
                await call
            except ConnectionClosed as exc:
                track.note("late", exc)
        await websocket.wait_closed()
        ending(track, websocket)

    # Their end

    async def answer(self, raw: Raw) -> None:
        """Do the peer's part, on a raw connection."""
        for kind, what in self.steps:
            if kind == "send":
                await self.read(raw)
                await self.say(raw, TEXT, "answer")
            elif kind in ("receive", "stream"):
                for data in what:
                    await raw.send(data)
                    if len(what) > 1:
                        await asyncio.sleep(0.002)
                await self.read(raw)
            elif kind == "ping":
                _, payload = await raw.frame()
                await self.say(raw, PONG, payload)
            else:
                await self.say(raw, PING, what)
                await raw.frame()
                await self.say(raw, BINARY, b"after")
        if self.end == "we close":
            _, payload = await raw.frame()
            await self.say(raw, CLOSE, payload)
            raw.eof()
        elif self.end == "they close":
            await self.say(raw, CLOSE, self.payload)
            await raw.frame()
            raw.eof()
        elif self.end == "they end":
            raw.eof()
        elif self.end == "they reset":
            await asyncio.sleep(0.02)
            raw.reset()
            return
        else:
            await raw.send(frame(TEXT, "x", rsv=1, mask=self.masked))
            await raw.frame()
            raw.eof()
        await raw.end()

    async def say(self, raw: Raw, opcode: int, payload: bytes | str) -> None:
        await raw.send(frame(opcode, payload, mask=self.masked))

    async def read(self, raw: Raw) -> None:
        """Read a message."""
        lines = raw.track.lines
        await raw.frame()
        while "not final" in lines[-1]:
            await raw.frame()


async def clients(s: Scenario, group: str) -> None:
    """Ten conversations of a client."""
    for number in range(10):
        s.note(f"conversation {number}")
        conversation = Conversation(f"client {group} {number}", masked=False)

        async def peer(raw: Raw, conversation: Conversation = conversation) -> None:
            await raw.accept()
            await conversation.answer(raw)

        async with raw_server(s, peer) as where:
            await conversation.talk(s, await connecting(where))


async def servers(s: Scenario, group: str) -> None:
    """Ten conversations of a server."""
    for number in range(10):
        s.track("server").note(f"conversation {number}")
        conversation = Conversation(f"server {group} {number}", masked=True)

        async def handler(
            websocket: ServerConnection, conversation: Conversation = conversation
        ) -> None:
            await conversation.talk(s.track("server"), websocket)

        async with serving(s, handler) as server, raw_client(s, server) as raw:
            await raw.open()
            await conversation.answer(raw)
            await asyncio.sleep(0.01)


@scenario
async def clients_1(s: Scenario) -> None:
    """Ten conversations of a client."""
    await clients(s, "one")


@scenario
async def clients_2(s: Scenario) -> None:
    """Ten more conversations of a client."""
    await clients(s, "two")


@scenario
async def clients_3(s: Scenario) -> None:
    """And another ten."""
    await clients(s, "three")


@scenario
async def servers_1(s: Scenario) -> None:
    """Ten conversations of a server."""
    await servers(s, "one")


@scenario
async def servers_2(s: Scenario) -> None:
    """Ten more conversations of a server."""
    await servers(s, "two")


@scenario
async def servers_3(s: Scenario) -> None:
    """And another ten."""
    await servers(s, "three")
