"""Tests of the numbers that users set."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import serve
from websockets.client import ClientProtocol
from websockets.protocol import CLIENT, Protocol
from websockets.session import Session
from websockets.settings import check_settings, queue_limits, size_limits, write_limits
from websockets.uri import parse_uri

from .helpers import pair

GOOD: dict[str, Any] = {"max_size": 2**20, "max_queue": 16, "write_limit": 2**15}
TIMEOUTS = ("open_timeout", "ping_interval", "ping_timeout", "close_timeout")

BAD = [
    ({"max_size": -1}, ValueError, "max_size must be positive or equal to zero"),
    ({"max_size": (None, -1)}, ValueError, "max_size must be positive or equal to zero"),
    ({"max_size": 1.5}, TypeError, "max_size must be an integer or a pair of them, not 1.5"),
    ({"max_size": (1, 2, 3)}, TypeError, "max_size must be an integer or a pair of them"),
    ({"max_queue": -1}, ValueError, "max_queue: low must be positive or equal to zero"),
    ({"max_queue": (4, -1)}, ValueError, "max_queue: low must be positive or equal to zero"),
    ({"max_queue": (4, 5)}, ValueError, "max_queue: high must be greater than or equal to low"),
    ({"max_queue": "16"}, TypeError, "max_queue must be an integer or a pair of them"),
    ({"max_queue": (16,)}, TypeError, "max_queue must be an integer or a pair of them"),
    ({"write_limit": -1}, ValueError, "write_limit: low must be positive or equal to zero"),
    ({"write_limit": (1, 2)}, ValueError, "write_limit: high must be greater than or equal"),
    ({"write_limit": 2.5}, TypeError, "write_limit must be an integer or a pair of them"),
    *[
        ({name: value}, error, f"{name} must be a number of seconds, not {value!r}")
        for name in TIMEOUTS
        for value, error in [("10", TypeError), ((1,), TypeError), (float("nan"), ValueError)]
    ],
]


@pytest.mark.parametrize(
    "max_queue, marks",
    [
        (16, (16, 4)),
        (3, (3, 0)),
        (1, (1, 0)),
        ((16, None), (16, 4)),
        ((16, 2), (16, 2)),
        ([16, 2], (16, 2)),
        ((5, 5), (5, 5)),
        ((5, 0), (5, 0)),
        (None, (None, 0)),
        ((None, None), (None, 0)),
        ((None, 3), (12, 3)),
        # A queue without room would stop for ever.
        (0, (1, 0)),
        ((0, 0), (1, 0)),
    ],
)
def test_queue_limits(max_queue: Any, marks: tuple[int | None, int]) -> None:
    assert queue_limits(max_queue) == marks
    session: Session[None] = Session(Protocol(CLIENT), max_queue=max_queue)
    assert (session.high, session.low) == marks


@pytest.mark.parametrize(
    "write_limit, marks",
    [
        (2**15, (2**15, 2**13)),
        ((100, None), (100, 25)),
        ((100, 10), (100, 10)),
        ([100, 100], (100, 100)),
        (0, (0, 0)),
        # The same as asyncio's transports make of them.
        ((None, 10), (40, 10)),
        ((None, None), (2**16, 2**14)),
        (None, (2**16, 2**14)),
    ],
)
async def test_write_limits(write_limit: Any, marks: tuple[int, int]) -> None:
    assert write_limits(write_limit) == marks
    async with pair(client={"write_limit": write_limit}) as (client, _):
        low, high = client.transport.get_write_buffer_limits()
        assert (high, low) == (max(marks[0], 1), marks[1])


@pytest.mark.parametrize(
    "max_size, sizes",
    [
        (100, (100, None)),
        (None, (None, None)),
        ((100, 10), (100, 10)),
        ([100, None], (100, None)),
        ((None, 10), (None, 10)),
    ],
)
def test_size_limits(max_size: Any, sizes: tuple[int | None, int | None]) -> None:
    assert size_limits(max_size) == sizes
    protocol = Protocol(CLIENT, max_size=max_size)
    assert (protocol.max_message_size, protocol.max_fragment_size) == sizes


@pytest.mark.parametrize("bad, error, text", BAD)
def test_bad_settings_are_refused_at_once(
    bad: dict[str, Any], error: type[Exception], text: str
) -> None:
    async def handler(_: object) -> None:
        raise AssertionError

    for call in (
        lambda: check_settings(**{**GOOD, **bad}),
        lambda: serve(handler, "localhost", 0, **bad),
        lambda: connect("ws://localhost/", **bad),
    ):
        with pytest.raises(error) as raised:
            call()
        assert str(raised.value).startswith(text)


@pytest.mark.parametrize("seconds", [None, 0, 1, 0.5, True, float("inf"), -1])
@pytest.mark.parametrize("name", TIMEOUTS)
def test_timeouts(name: str, seconds: float | None) -> None:
    check_settings(**GOOD, **{name: seconds})


async def test_a_connection_that_is_made_without_them_checks_its_limits() -> None:
    protocol = ClientProtocol(parse_uri("ws://localhost/"))
    for name in ("max_queue", "write_limit"):
        with pytest.raises(ValueError, match=f"^{name}: low must be positive"):
            ClientConnection(protocol, **{name: -1})
    assert asyncio.all_tasks() == {asyncio.current_task()}
