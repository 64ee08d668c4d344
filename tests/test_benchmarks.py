"""The benchmark suite's own logic: its plan, its clock, its load generator, and its tables."""

from __future__ import annotations

import json
import os
import shutil
import socketserver
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"

pytestmark = [
    pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="benchmarks are not here"),
    pytest.mark.skipif(sys.platform != "linux", reason="the suite runs on Linux"),
]


@pytest.fixture(scope="module")
def suite() -> Iterator[dict[str, ModuleType]]:
    """Its modules, which are scripts and no package."""
    names = ["cases", "payloads", "deflate", "measure", "peers", "report"]
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield {name: __import__(name) for name in names}
    finally:
        sys.path.remove(str(BENCHMARKS))
        for name in names:
            sys.modules.pop(name, None)


@pytest.fixture
def results(suite: dict[str, ModuleType]) -> Any:
    def turn(peer: str, cpu_us: float, **more: Any) -> dict[str, Any]:
        return {"case": "pipe64", "loop": "asyncio", "peer": peer, "cpu_us": cpu_us, **more}

    case = {"name": "pipe64", "kind": "echo", "figure": "cpu_us"}
    return suite["report"].Results(
        {
            "made": "2026-11-22",
            "machine": {"processor": "P", "cores": 2, "memory_gib": 4, "system": "Linux"},
            "versions": {"Python": "3.11.7"},
            "settings": {"rounds": 2, "seconds": 1},
            "cases": [case],
            "skipped": ["memory: only 1024 open files are allowed"],
            "codec": [{"operation": "mask", "size": 16, "implementation": "aiohttp", "us": 0.05}],
            "turns": [
                turn("this library", 1.5, msgs_per_s=600_000, p50_us=90.0, p99_us=180.0),
                turn("this library", 1.25, msgs_per_s=700_000, p50_us=80.0, p99_us=170.0),
                turn("picows", 5.0),
                turn("websockets 17.4", 10.0),
                {"case": "pipe64", "loop": "asyncio", "peer": "aiohttp", "error": "refused"},
            ],
        }
    )


def test_plan_is_consistent(suite: dict[str, ModuleType]) -> None:
    cases = suite["cases"]
    named = {case.name: case for case in cases.CASES}
    assert len(named) == len(cases.CASES)
    assert {case.kind for case in cases.CASES} == set(suite["measure"].KINDS)
    for goal in cases.GOALS:
        case = named[goal.case]
        assert {goal.peer, goal.over or goal.peer} <= set(case.peers)
        assert set(goal.loops) <= set(case.loops)


def test_quick_plan_is_a_part_of_the_whole(suite: dict[str, ModuleType]) -> None:
    cases = suite["cases"]
    named = {case.name: case for case in cases.CASES}
    quick = list(cases.plan(quick=True))
    assert 0 < len(quick) < len(list(cases.plan(quick=False)))
    for case in quick:
        assert set(case.peers) <= set(named[case.name].peers)
        assert set(case.loops) <= set(named[case.name].loops)


def test_lowest_turn_counts(results: Any) -> None:
    assert results.best("pipe64", "asyncio", "this library")["msgs_per_s"] == 700_000
    assert results.best("pipe64", "uvloop", "this library") is None
    assert results.best("pipe64", "asyncio", "aiohttp") is None


def test_goals_are_ratios_and_those_missed_stand_out(
    suite: dict[str, ModuleType], results: Any
) -> None:
    text = suite["report"].goals_table(results)
    assert "| pipe64 | asyncio | 0.25 ≤ 0.35 |  | **0.12 > 0.1** |  |" in text
    assert "1 of 2 goals hold" in text


def test_page_tells_what_is_missing(suite: dict[str, ModuleType], results: Any) -> None:
    page = suite["report"].page(results)
    assert "Failed: pipe64, asyncio, aiohttp" in page
    assert "only 1024 open files" in page
    assert "| pipe64 | 1.25 | 5.00 | 10.0 |" in page
    assert "| pipe64 | 80 / 170 |  |  |" in page
    assert "| 16 | 0.050 |" in page


def test_readme_has_a_chart_and_a_table(suite: dict[str, ModuleType], results: Any) -> None:
    text = suite["report"].readme(results)
    assert "benchmarks/results/cpu.svg" in text
    assert "in flight | 1.25 / ? | 5.00 / ? | 10.0 / ? |" in text


@pytest.mark.parametrize(
    ("value", "text"), [(1234.5, "1,234"), (12.34, "12.3"), (1.234, "1.23"), (0.0123, "0.012")]
)
def test_numbers_have_three_digits(suite: dict[str, ModuleType], value: float, text: str) -> None:
    assert suite["report"].number(value) == text


def test_clock_of_a_process(suite: dict[str, ModuleType]) -> None:
    before = time.process_time()
    measured = suite["measure"].cpu_seconds(os.getpid())
    assert before <= measured <= time.process_time()


def test_peers_get_what_is_theirs(
    suite: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("PYTHONASYNCIODEBUG", "1")
    monkeypatch.setenv("WEBSOCKETS_CODEC", "pure")
    cases, programs = suite["cases"], suite["peers"].Programs(BENCHMARKS.parent, None)
    ours = programs.environment(cases.OURS)
    assert ours["PYTHONPATH"] == str(BENCHMARKS.parent)
    assert ours["WEBSOCKETS_CODEC"] == "compiled"
    assert ours["WEBSOCKETS_ZLIB"] == "zlib"
    assert programs.environment(cases.OURS_ZLIB_NG)["WEBSOCKETS_ZLIB"] == "zlib_ng"
    theirs = programs.environment(cases.WEBSOCKETS)
    assert not {"PYTHONPATH", "PYTHONASYNCIODEBUG", "WEBSOCKETS_CODEC", "WEBSOCKETS_ZLIB"} & set(
        theirs
    )


@pytest.mark.parametrize("size", [100, 200, 1000, 1024, 4096, 65536])
def test_messages_are_json_and_differ(suite: dict[str, ModuleType], size: int) -> None:
    messages = suite["payloads"].messages(size)
    assert {len(message) for message in messages} == {size}
    assert all(isinstance(json.loads(message), dict) for message in messages)
    assert len(set(messages)) == len(messages)
    assert sum(map(len, messages)) > 2**15
    assert messages == suite["payloads"].messages(size)


@pytest.mark.parametrize(
    ("header", "no_takeover", "bits"),
    [
        ("permessage-deflate", False, 15),
        ('permessage-deflate; client_max_window_bits="12"; server_max_window_bits=9', False, 12),
        ("permessage-deflate; client_no_context_takeover", True, 15),
    ],
)
def test_frames_can_be_repeated(
    suite: dict[str, ModuleType], header: str, no_takeover: bool, bits: int
) -> None:
    deflate = suite["deflate"]
    negotiated = deflate.Negotiated.parse(f"x\r\nSec-WebSocket-Extensions: {header}\r\n".encode())
    assert negotiated.client_no_context_takeover is no_takeover
    assert negotiated.client_max_window_bits == bits
    messages = suite["payloads"].messages(200, 256)
    frames, once = deflate.frames(messages, negotiated)
    inflater = zlib.decompressobj(-bits)
    sent = list(enumerate(frames)) + 2 * list(enumerate(frames))[once:]
    for index, frame in sent:
        assert frame[0] == deflate.COMPRESSED
        length = deflate.payload_length(frame)
        key, masked = frame[-length - 4 : -length], frame[-length:]
        payload = bytes(byte ^ key[i % 4] for i, byte in enumerate(masked))
        if no_takeover:
            inflater = zlib.decompressobj(-bits)
        assert inflater.decompress(payload + deflate.TAIL) == messages[index % once]


class Echo(socketserver.StreamRequestHandler):
    """Sends the payloads of frames back as they came, the fifth one for the sixth."""

    replaced = False

    def handle(self) -> None:
        for _ in iter(self.rfile.readline, b"\r\n"):
            pass
        self.wfile.write(
            b"HTTP/1.1 101 Switching Protocols\r\n"
            b"Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover; "
            b"server_no_context_takeover\r\n\r\n"
        )
        previous = b""
        count = 0
        while head := self.rfile.read(2):
            assert head[1] & 0x7F <= 126
            more = self.rfile.read(2) if head[1] & 0x7F == 126 else b""
            length = int.from_bytes(more, "big") if more else head[1] & 0x7F
            key = self.rfile.read(4)
            data = bytes(byte ^ key[i % 4] for i, byte in enumerate(self.rfile.read(length)))
            frame = bytes([head[0], head[1] & 0x7F]) + more + data
            count += 1
            self.wfile.write(previous if self.replaced and count == 6 else frame)
            previous = frame


@pytest.mark.parametrize("replaced", [False, True])
def test_verification_compares_what_comes_back(
    suite: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch, replaced: bool
) -> None:
    monkeypatch.setattr(Echo, "replaced", replaced)
    messages = suite["payloads"].messages(1024, 40)
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            port = server.server_address[1]
            if replaced:
                with pytest.raises(suite["deflate"].Wrong, match="message 5 came back"):
                    suite["deflate"].verify(port, messages, 8)
            else:
                found = suite["deflate"].verify(port, messages, 8)
                assert found["compressed"] == 1.0
                assert found["negotiated"]["server_no_context_takeover"] is True
        finally:
            server.shutdown()


def test_other_extensions_are_no_compression(suite: dict[str, ModuleType]) -> None:
    deflate = suite["deflate"]
    for header in ["", "Sec-WebSocket-Extensions: other\r\n"]:
        with pytest.raises(deflate.Wrong):
            deflate.Negotiated.parse(f"x\r\n{header}".encode())


def test_results_of_a_part_take_their_place(
    suite: dict[str, ModuleType], results: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "trustme", ModuleType("trustme"))
    monkeypatch.setitem(sys.modules, "micro", ModuleType("micro"))
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.delitem(sys.modules, "run", raising=False)
    merge = __import__("run").merge
    monkeypatch.delitem(sys.modules, "run")
    old = results.data
    turn = {"loop": "asyncio", "peer": "this library", "cpu_us": 3.0}
    rtt = {"name": "rtt64", "kind": "echo", "figure": "cpu_us"}
    ours = {"versions": {"this library": "17.4 at 1234"}, "codec": []}
    first = merge(old, {**old, **ours, "cases": [rtt], "turns": [{"case": "rtt64", **turn}]})
    assert [case["name"] for case in first["cases"]] == ["rtt64", "pipe64"]
    assert len(first["turns"]) == len(old["turns"]) + 1
    assert first["codec"] == old["codec"]
    # Ratios are those of one run: what the peers did in another one is gone.
    again = [{"case": "pipe64", **turn}]
    second = merge(first, {**old, **ours, "turns": again})
    assert [t for t in second["turns"] if t["case"] == "pipe64"] == again
    pairs = [part["measured"] for part in second["parts"]]
    assert pairs == [[("rtt64", "asyncio")], [("pipe64", "asyncio")]]
    third = merge(second, {**old, **ours, "turns": again})
    assert [part["measured"] for part in third["parts"]] == pairs
    assert "with this library 17.4 at 1234: rtt64, pipe64\n" in suite["report"].page(
        suite["report"].Results(second)
    )


def _repeated(program: str, port: str, directory: Path) -> float:
    """Bytes of a reply where messages of 1,000, 3 and 4 bytes are sent, the first of them once."""
    frames = [bytes([0x82, 0xFE, 3, 232]) + bytes(1004), bytes([0x82, 0x83]) + bytes(7)]
    frames += [bytes([0x82, 0x84]) + bytes(8)]
    numbers = [len(frames), 1, *map(len, frames)]
    head, once, *lengths = (number.to_bytes(4, "little") for number in numbers)
    pairs = zip(lengths, frames, strict=True)
    file = directory / "frames"
    file.write_bytes(head + once + b"".join(map(b"".join, pairs)))
    command = [program, "load", "127.0.0.1", port, "-f", str(file), "-u", "0.02", "-d", "0.05"]
    output = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    figures: dict[str, float] = json.loads(output)
    return figures["reply_bytes"]


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_load_generator(tmp_path: Path) -> None:
    """It counts what its own server echoes, however the reads cut the frames."""
    program = str(tmp_path / "wsload")
    subprocess.run(["cc", "-O2", "-o", program, str(BENCHMARKS / "wsload.c")], check=True)
    command = [program, "echo", "127.0.0.1", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            port = server.stdout.readline().strip()
            for options in ["-c 3 -w 4 -s 0", "-w 64 -s 200 -t", "-w 2 -s 300000"]:
                output = subprocess.run(
                    [program, "load", "127.0.0.1", port, "-p", str(server.pid)]
                    + ["-u", "0.02", "-d", "0.05", *options.split()],
                    stdout=subprocess.PIPE,
                    check=True,
                ).stdout
                figures = json.loads(output)
                assert figures["messages"] > 0
                assert figures["cpu_us"] > 0
                assert 0 < figures["p50_us"] <= figures["p99_us"]
            opened = subprocess.run(
                [program, "open", "127.0.0.1", port, "-c", "20", "-w", "8"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                check=True,
            ).stdout
            assert json.loads(opened)["messages"] == 20
            assert _repeated(program, port, tmp_path) == pytest.approx(3.5, abs=0.1)
        finally:
            server.terminate()
