"""
What compression costs: each zlib module at each level, for a message of JSON.

``compressors.py`` prints Markdown: CPU microseconds and bytes a message, with context takeover and
without; what a compressor costs to make and to keep; and what a library that shares compressors or
negotiates small windows has to know about a module. Nothing here imports a WebSocket library: the
modules are measured alone, with the window and the memory level that are the API's defaults.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import itertools
import os
import random
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import payloads

SIZES = [100, 200, 1024, 4096, 65536]
WINDOW, MEMORY = 12, 5
MODULES = {"zlib": "zlib", "zlib-ng": "zlib_ng.zlib_ng", "isal": "isal.isal_zlib"}
# Of which the memory is measured.
MANY = 1000

# Works on a message; made anew for each pass over the messages.
Function = Callable[[bytes], Any]
Prepare = Callable[[], Function]


def modules() -> dict[str, Any]:
    found = {}
    for name, path in MODULES.items():
        try:
            found[name] = importlib.import_module(path)
        except ImportError:
            print(f"{name} is not installed\n")
    return found


def levels(module: Any) -> range:
    return range(4 if module.__name__.startswith("isal") else 10)


def compressor(module: Any, level: int, window: int = WINDOW) -> Any:
    return module.compressobj(level, module.DEFLATED, -window, MEMORY)


def taking_over(module: Any, level: int) -> Function:
    deflate = compressor(module, level)
    return lambda message: deflate.compress(message) + deflate.flush(module.Z_SYNC_FLUSH)


def sharing(module: Any, level: int) -> Function:
    """One compressor for messages that each decode by themselves."""
    deflate = compressor(module, level)
    return lambda message: deflate.compress(message) + deflate.flush(module.Z_FULL_FLUSH)


def making(module: Any, level: int) -> Function:
    """A compressor for each message."""

    def compress(message: bytes) -> Any:
        deflate = compressor(module, level)
        return deflate.compress(message) + deflate.flush(module.Z_SYNC_FLUSH)

    return compress


def inflating(module: Any) -> Function:
    inflate: Function = module.decompressobj(-WINDOW).decompress
    return inflate


def inflating_each(module: Any) -> Function:
    return lambda data: module.decompressobj(-WINDOW).decompress(data)


def microseconds(prepare: Prepare, messages: list[bytes], seconds: float) -> float:
    """CPU time of a call: the least of several passes over all messages."""
    best = float("inf")
    end = time.perf_counter() + seconds
    for count in itertools.count(1):
        function = prepare()
        start = time.thread_time_ns()
        for message in messages:
            function(message)
        best = min(best, time.thread_time_ns() - start)
        if count >= 3 and time.perf_counter() > end:
            break
    return best / len(messages) / 1e3


# ----------------------------------------------------------------------------------- tables


def print_table(head: list[str], rows: Iterator[list[str]]) -> None:
    print(f"| {' | '.join(head)} |")
    print(f"| --- |{' --: |' * (len(head) - 1)}")
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)
    print()


def costs(found: dict[str, Any], size: int, seconds: float) -> Iterator[list[str]]:
    messages = payloads.messages(size)  # so many that no branch of a compressor is foreseen
    for name, module in found.items():
        for level in levels(module):
            row = [f"{name} {level}"]
            deflated = {}
            for way in (taking_over, sharing, making):
                deflated[way] = list(map(way(module, level), messages))
                sent = sum(map(len, deflated[way])) / len(messages) - 4
                prepare = functools.partial(way, module, level)
                row += [f"{microseconds(prepare, messages, seconds):.1f}", f"{sent:,.0f}"]
            for inverse, way in ((inflating, taking_over), (inflating_each, sharing)):
                assert list(map(inverse(module), deflated[way])) == messages
                prepare = functools.partial(inverse, module)
                row += [f"{microseconds(prepare, deflated[way], seconds):.1f}"]
            yield row


def made(found: dict[str, Any], seconds: float) -> Iterator[list[str]]:
    for name, module in found.items():
        for level in levels(module):
            create = functools.partial(compressor, module, level)
            yield [
                f"{name} {level}",
                f"{microseconds(lambda: lambda _: create(), [b''] * 200, seconds):.2f}",  # noqa: B023
                str(_kib(name, level, "deflate")),
                str(_kib(name, level, "inflate")),
            ]


def _kib(*arguments: object) -> float:
    command = [sys.executable, __file__, "--memory", *map(str, arguments)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def memory(name: str, level: int, what: str) -> float:
    """KiB of an object that has worked on one message of 1 KiB."""
    module = importlib.import_module(MODULES[name])
    text = payloads.messages(1024, 1)[0]
    data = taking_over(module, level)(text)

    def one() -> Any:
        if what == "deflate":
            deflate = compressor(module, level)
            deflate.compress(text)
            deflate.flush(module.Z_SYNC_FLUSH)
            return deflate
        inflate = module.decompressobj(-WINDOW)
        inflate.decompress(data)
        return inflate

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1])

    kept = [one()]
    before = resident()
    kept += [one() for _ in range(MANY)]
    return round((resident() - before) * os.sysconf("SC_PAGE_SIZE") / 1024 / MANY, 1)


# --------------------------------------------------- what a module can be relied on for, if at all


def independent(module: Any, level: int) -> bool:
    """Whether what comes after a full flush decodes without what came before."""
    compress = sharing(module, level)
    return all(_inflates(compress(text), text, zlib.decompressobj(-WINDOW)) for text in _texts())


def within(module: Any, level: int, window: int, inflater: int) -> bool | None:
    """
    Whether all that is compressed with a window decodes with another; None if there is none such.

    The inflater makes one byte a call, so that no distance reaches beyond its window unnoticed.
    """
    try:
        deflate = compressor(module, level, window)
    except ValueError:
        return None
    inflate = zlib.decompressobj(-inflater)
    return all(
        _inflates(deflate.compress(text) + deflate.flush(module.Z_SYNC_FLUSH), text, inflate)
        for text in _texts()
    )


def _inflates(data: bytes, text: bytes, inflate: Any) -> bool:
    found: list[bytes] = []
    try:
        while data or found[-1:] != [b""]:
            found.append(inflate.decompress(data, 1))
            data = inflate.unconsumed_tail
    except zlib.error:
        return False
    return b"".join(found) == text


def _texts() -> Iterator[bytes]:
    """JSON, and random bytes that come again at distances around those of small windows."""
    source = random.Random(payloads.SEED)
    for distance in [250, 255, 256, 257, 262, 500, 511, 512, 513, 1024, 4095, 4096, 4097]:
        yield source.randbytes(distance) * 2
    for size in (100, 200, 1024):
        yield from payloads.messages(size, 16)


def reliable(found: dict[str, Any]) -> Iterator[list[str]]:
    words = {True: "yes", False: "**no**", None: "refused"}
    for name, module in found.items():
        for level in levels(module):
            yield [
                f"{name} {level}",
                words[independent(module, level)],
                *(words[within(module, level, *bits)] for bits in [(8, 8), (9, 8), (9, 9)]),
                words[within(module, level, WINDOW, WINDOW)],
            ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=0.03, help="of each figure")
    parser.add_argument("--memory", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory:
        name, level, what = options.memory
        print(memory(name, int(level), what))
        return
    found = modules()
    print("# What compression costs\n")
    print(f"Made by `make bench-zlib`. Windows of {WINDOW} bits, memory level {MEMORY}; Python")
    print(
        f"{sys.version.split()[0]}, zlib {zlib.ZLIB_RUNTIME_VERSION}. CPU time in microseconds.\n"
    )
    for size in SIZES:
        print(f"## {size:,} bytes of JSON\n")
        head = ["module, level", "takeover", "bytes", "full flush", "bytes", "made anew", "bytes"]
        print_table([*head, "inflate", "made anew"], costs(found, size, options.seconds))
    print("## A compressor\n")
    head = ["module, level", "to make", "KiB, used once", "KiB of an inflater, used once"]
    print_table(head, made(found, options.seconds))
    print("## Full flushes, and windows\n")
    print("Whether a message after a full flush decodes by itself; whether what is compressed with")
    print("a window of so many bits decodes with one of so many, each distance being checked.\n")
    head = ["module, level", "full flush", "8 in 8", "9 in 8", "9 in 9", "12 in 12"]
    print_table(head, reliable(found))


if __name__ == "__main__":
    main()
