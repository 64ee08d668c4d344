"""The oracle judges records as it says, and lets pass only what the documentation tells.

The scenarios themselves are played by `make oracle`, which needs the released library.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("oracle", reason="the oracle is not here")

from oracle.__main__ import Listed, find_scenarios, judge, read_differences
from oracle.scenario import Scenario, describe
from websockets.exceptions import ConnectionClosedError
from websockets.frames import Close

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the oracle runs on Linux")

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "differences.md"


def run(released: dict[str, list[str]], ours: dict[str, list[str]]) -> Any:
    return {"released": {"a/b": released}, "ours": {"a/b": ours}}


def listed(*, released: list[str], ours: list[str], track: str = "main") -> list[Listed]:
    return [Listed("because", ["a/b"], track, released, ours)]


def test_there_are_scenarios():
    assert len(find_scenarios("")) >= 120
    assert {name.partition("/")[0] for name in find_scenarios("")} >= {
        "client_handshake",
        "closing",
        "errors",
        "keepalive",
        "messages",
        "sansio",
        "server_handshake",
        "tasks",
    }
    assert find_scenarios("keepalive/no_pings") == ["keepalive/no_pings"]


def test_differences_belong_to_scenarios():
    names = set(find_scenarios(""))
    seen = set()
    for item in read_differences():
        assert item.released or item.ours
        for name in item.scenarios:
            assert name in names
            key = (name, item.track, tuple(item.released), tuple(item.ours))
            assert key not in seen
            seen.add(key)


@pytest.mark.skipif(not DOCUMENT.exists(), reason="the documentation is not here")
def test_reasons_are_documented():
    document = " ".join(DOCUMENT.read_text(encoding="utf-8").split())
    for item in read_differences():
        assert len(item.reason) >= 40
        assert item.reason in document


def test_equal_records_pass():
    assert judge(["a/b"], [run({"main": ["x"]}, {"main": ["x"]})], []) == []


@pytest.mark.parametrize(
    ("released", "ours"),
    [
        ({"main": ["x"]}, {"main": ["y"]}),
        ({"main": ["x"]}, {"main": ["x", "y"]}),
        ({"main": ["x", "y"]}, {"main": ["y", "x"]}),
        ({"main": ["x"]}, {"main": ["x"], "log": ["y"]}),
        ({"main": ["x"]}, {}),
        ({}, {}),
    ],
)
def test_different_records_fail(released, ours):
    assert judge(["a/b"], [run(released, ours)], [])


def test_crashes_fail():
    record = {"main": ["x"], "crash": ["line 1"]}
    assert judge(["a/b"], [run(record, record)], []) == [
        "a/b: released crashed: line 1",
        "a/b: ours crashed: line 1",
    ]


def test_records_that_change_fail():
    one, other = {"main": ["x"]}, {"main": ["y"]}
    assert judge(["a/b"], [run(one, one), run(other, other)], []) == [
        "a/b: released is not the same each time: a/b: main: ['x'] became ['y']",
        "a/b: ours is not the same each time: a/b: main: ['x'] became ['y']",
    ]


def test_listed_differences_pass():
    records = run({"main": ["x", "y"]}, {"main": ["x", "z"]})
    item = listed(released=["y"], ours=["z"])
    assert judge(["a/b"], [records], item) == []
    assert item[0].seen == {"a/b"}


def test_what_is_not_listed_is_left():
    records = run({"main": ["x", "y"]}, {"main": ["z"]})
    failures = judge(["a/b"], [records], listed(released=["y"], ours=[]))
    assert failures == ["a/b: main: ['x'] became ['z']"]
    failures = judge(["a/b"], [records], listed(released=["y"], ours=[]), toml=True)
    assert failures == [
        '[[reason.difference]]\nscenarios = ["a/b"]\ntrack = "main"\n'
        'released = [\n    "x",\n]\nours = [\n    "z",\n]'
    ]


@pytest.mark.parametrize(
    "item",
    [
        listed(released=["y"], ours=["z"], track="log"),
        listed(released=["y", "y"], ours=["z"]),
        listed(released=[], ours=["other"]),
    ],
)
def test_what_is_listed_has_to_occur(item):
    records = run({"main": ["y"]}, {"main": ["z"]})
    assert "a/b: main: ['y'] became ['z']" in judge(["a/b"], [records], item)
    assert any("does not occur" in line for line in judge(["a/b"], [records], item))


def test_records_leave_out_what_changes():
    scenario = Scenario()
    scenario.ports.append(12345)
    scenario.note("port", "12345 112345")
    scenario.note("<object at 0x7f0123456789> of Python/3.11")
    scenario.track("log").note("Date: Mon, 01 Jan 2024 00:00:00 GMT")
    scenario.track("empty")
    assert scenario.record() == {
        "log": ["Date: DATE"],
        "main": ["port: 'PORT 112345'", "<object at 0xADDRESS> of Python/3.N"],
    }


def test_exceptions_are_described_with_their_causes():
    exc = ConnectionClosedError(Close(1011, "x"), None, None)
    exc.__cause__ = EOFError("end")
    assert describe(exc) == (
        "websockets.exceptions.ConnectionClosedError('received 1011 (internal error) x; no close "
        "frame sent') [Close(1011, 'x'), None, None] from builtins.EOFError('end')"
    )


def test_long_data_is_described_by_its_digest():
    assert describe(b"x" * 300) == repr(b"x" * 300)
    assert describe(b"x" * 301) != describe(b"y" * 301)
    assert len(describe(b"x" * 301)) < 50
