"""Programs around connections: loops that only send, tests with mocks, handlers that leave."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any
from unittest.mock import AsyncMock, patch

from websockets.asyncio.client import connect
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK

from ..ends import QUIET, connecting, echo, serving
from ..scenario import Scenario, scenario

# More than fit into one turn of the event loop that is shared with others.
MANY = 20_000

# Whether a server or its connections close first is not fixed.
SILENT = logging.Logger("silent", logging.WARNING)


@scenario
async def loops_that_only_send(s: Scenario) -> None:
    """The transport is closed under a task that does nothing but send."""
    acts: dict[str, Callable[[Any], Awaitable[object]]] = {
        "send": lambda ws: ws.send("text"),
        "ping": lambda ws: ws.ping(),
        "pong": lambda ws: ws.pong(),
    }
    async with serving(s, Connection.wait_closed, logger=SILENT) as where:
        for end in ("abort", "close"):
            for name, act in acts.items():
                async with connecting(where, logger=QUIET) as ws:
                    getattr(ws.transport, end)()
                    with s.failing(f"{name} behind {end}"):
                        for _ in range(MANY):
                            await act(ws)


@scenario
async def recv_is_replaced(s: Scenario) -> None:
    """Tests replace recv(), of a connection or of its class, and iterate."""
    async with serving(s, echo) as where:
        async with connecting(where) as ws:
            for target in (ws, Connection):
                ends: tuple[Exception, ...] = (
                    ConnectionClosedOK(None, None),
                    ConnectionClosedError(None, None),
                )
                for end in ends:
                    recv = AsyncMock(side_effect=["first", b"second", end])
                    with patch.object(target, "recv", recv), s.failing("iterating"):
                        async for message in ws:
                            s.note("message", message)


class Outcome(BaseException):
    """What is no Exception, as pytest's outcomes are."""


@scenario
async def handlers_that_raise_no_exception(s: Scenario) -> None:
    """A handler raises what is a BaseException only."""

    async def handler(ws: ServerConnection) -> None:
        await ws.recv()
        raise Outcome

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        s.track("loop").note("exception", context["exception"])

    asyncio.get_running_loop().set_exception_handler(handle)
    async with serving(s, handler, logger=QUIET) as where, connecting(where) as ws:
        await ws.send("now")
        with s.failing("recv"):
            await ws.recv()


@scenario
def uris_that_are_no_strings(s: Scenario) -> None:
    """A variable that is not in the environment, and bytes."""
    for uri in (None, b"ws://localhost/"):
        where: Any = uri
        with s.failing("connect"):
            connect(where)
