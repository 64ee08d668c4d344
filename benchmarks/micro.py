"""
Microbenchmarks of the codec by pyperf: this library's two codecs, and what peers expose.

As a program it is a pyperf script (``--help``). It times whatever ``websockets`` it finds: this
library's codecs, or else the released one's functions, aiohttp's and CPython's own. run_all() runs
it once for either. picows exposes no such function.

- mask: XOR of a payload with a key of four bytes
- utf-8: validation of a text, in ASCII and with characters of one to four bytes
- parse: a masked binary frame, fed whole, to a message
- encode: a message to a frame, masked (as clients do) and not
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cases
import pyperf
from measure import Failed
from peers import HERE, Programs

SIZES = [16, 256, 4096, 65536, 2**20, 16 * 2**20]
KEY = b"\x12\x34\x56\x78"
MIXED = "Grüße, Ωmega, 日本語, 🎈 and some ASCII. "

# Prepares a benchmark: returns a function to call and its arguments. pyperf runs this script anew
# for every one of them, and each prepares only what is its own.
Prepare = Callable[[], tuple[Any, ...]]
Benchmark = tuple[str, str, Prepare]  # operation, implementation


def binary(size: int) -> bytes:
    return bytes(range(256)) * (size // 256) + bytes(range(size % 256))


def ascii_text(size: int) -> bytes:
    return (b"The quick brown fox jumps over the lazy dog. " * (size // 45 + 1))[:size]


def mixed_text(size: int) -> bytes:
    unit = MIXED.encode()
    text = (unit * (size // len(unit) + 1))[:size]
    return text.decode(errors="ignore").encode().ljust(size)


def masked_frame(size: int) -> bytes:
    if size < 126:
        head = bytes([0x82, 0x80 | size])
    elif size < 65536:
        head = b"\x82\xfe" + size.to_bytes(2, "big")
    else:
        head = b"\x82\xff" + size.to_bytes(8, "big")
    key = int.from_bytes(KEY * (size // 4), "big")
    return head + KEY + (int.from_bytes(binary(size), "big") ^ key).to_bytes(size, "big")


def ours(size: int) -> Iterator[Benchmark]:
    for module in ["websockets._speedups", "websockets._codec"]:
        yield from _ours(importlib.import_module(module), size)


def _ours(codec: Any, size: int) -> Iterator[Benchmark]:
    def parse() -> tuple[Any, ...]:
        reader, frame = codec.FrameReader(True), masked_frame(size)

        def run() -> None:
            reader.feed(frame)
            assert len(reader.read_messages(1)) == 1

        return (run,)

    def validate(text: bytes) -> None:
        codec.Utf8Validator().feed(text, True)

    name = cases.OURS if codec.IMPLEMENTATION == "compiled" else cases.PURE
    yield "mask", name, lambda: (codec.apply_mask, binary(size), KEY)
    yield "utf-8 ascii", name, lambda: (validate, ascii_text(size))
    yield "utf-8 mixed", name, lambda: (validate, mixed_text(size))
    yield "parse", name, parse
    yield "encode masked", name, lambda: (codec.encode_frame, 2, binary(size), True)
    yield "encode", name, lambda: (codec.encode_frame, 2, binary(size), False)


def theirs(size: int) -> Iterator[Benchmark]:
    from aiohttp.base_protocol import BaseProtocol

    frames: Any = importlib.import_module("websockets.frames")
    speedups: Any = importlib.import_module("websockets.speedups")
    streams: Any = importlib.import_module("websockets.streams")
    aiohttp_mask: Any = importlib.import_module("aiohttp._websocket.mask")
    aiohttp_reader: Any = importlib.import_module("aiohttp._websocket.reader")

    def parse() -> tuple[Any, ...]:
        reader, frame = streams.StreamReader(), masked_frame(size)

        def run() -> None:
            reader.feed_data(frame)
            try:
                next(frames.Frame.parse(reader.read_exact, mask=True))
            except StopIteration as exc:
                assert len(exc.value.data) == size
            else:
                raise AssertionError

        return (run,)

    def aiohttp_parse() -> tuple[Any, ...]:
        loop = asyncio.new_event_loop()
        queue = aiohttp_reader.WebSocketDataQueue(BaseProtocol(loop), 2 * SIZES[-1], loop=loop)
        reader = aiohttp_reader.WebSocketReader(queue, 2 * SIZES[-1], False, True)
        frame = masked_frame(size)

        def run() -> None:
            reader.feed_data(frame)
            try:
                queue.read().send(None)
            except StopIteration as exc:
                assert len(exc.value.data) == size
            else:
                raise AssertionError

        return (run,)

    def encode(masked: bool) -> tuple[Any, ...]:
        data, frame, binary_opcode = binary(size), frames.Frame, frames.Opcode.BINARY
        return (lambda: frame(binary_opcode, data).serialize(mask=masked),)

    yield "mask", cases.WEBSOCKETS, lambda: (speedups.apply_mask, binary(size), KEY)
    # In place, on a buffer of its own.
    mask = aiohttp_mask._websocket_mask_cython
    yield "mask", cases.AIOHTTP, lambda: (mask, KEY, bytearray(binary(size)))
    yield "utf-8 ascii", "CPython", lambda: (bytes.decode, ascii_text(size))
    yield "utf-8 mixed", "CPython", lambda: (bytes.decode, mixed_text(size))
    yield "parse", cases.WEBSOCKETS, parse
    yield "parse", cases.AIOHTTP, aiohttp_parse
    yield "encode masked", cases.WEBSOCKETS, lambda: encode(True)
    yield "encode", cases.WEBSOCKETS, lambda: encode(False)


def timed(loops: int, prepare: Prepare) -> float:
    function, *arguments = prepare()
    function(*arguments)
    repeat = range(loops)
    start = time.perf_counter()
    for _ in repeat:
        function(*arguments)
    return time.perf_counter() - start


def run_all(programs: Programs) -> list[dict[str, Any]]:
    """Run both halves; returns microseconds of each operation, implementation and size."""
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as directory:
        for peer in (cases.OURS, cases.WEBSOCKETS):
            output = Path(directory, f"{len(found)}.json")
            command = [sys.executable, str(HERE / "micro.py"), "-o", str(output), "--quiet"]
            command += ["--inherit-environ=PYTHONPATH", "--affinity=0"]
            try:
                subprocess.run(
                    command, env=programs.environment(peer), stdout=subprocess.DEVNULL, check=True
                )
            except subprocess.CalledProcessError as exc:
                raise Failed(f"microbenchmarks of {peer}") from exc
            for benchmark in pyperf.BenchmarkSuite.load(str(output)):
                operation, size, implementation = benchmark.get_name().split("/")
                values = benchmark.get_values()
                row = {"operation": operation, "size": int(size), "implementation": implementation}
                row["us"] = round(benchmark.median() * 1e6, 4)
                row["deviation_us"] = round(benchmark.stdev() * 1e6, 4)
                row["values"] = len(values)
                found.append(row)
    return found


def main() -> None:
    runner = pyperf.Runner(processes=2, values=3, warmups=1, min_time=0.02)
    mine = importlib.util.find_spec("websockets._codec") is not None
    for size in SIZES:
        for operation, name, prepare in (ours if mine else theirs)(size):
            runner.bench_time_func(f"{operation}/{size}/{name}", timed, prepare)


if __name__ == "__main__":
    main()
