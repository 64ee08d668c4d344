"""
What one flooding connection does to the others: ``fairness.py [--output DIRECTORY]``.

An echo server of each library has a hundred connections on which little happens: one message of 64
bytes at a time, on one connection after the other. Prints how long its answer takes, the median and
the 99th percentile in milliseconds, while that is all there is, and while one more connection
floods: it sends messages as fast as the server takes them, and reads the answers as fast as they
come. Also prints how many of those messages the server answers in a second, as it would be no art
to be fair by being idle.

The server has one core to itself, the load another; every library has the settings that the rest of
the suite has. Times are those of a clock on the wall: run it on a quiet machine, and compare only
within a run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cases
from measure import LOAD, MEASURED
from peers import HERE, Programs
from report import table

HOST = "127.0.0.1"
PEERS = (cases.OURS, cases.PICOWS, cases.PICOWS_WEBSOCKETS, cases.AIOHTTP, cases.WEBSOCKETS)
CONNECTIONS = 100
QUIET_SIZE = 64
# Sizes of the messages that flood: the many small ones of a read, and few of them.
FLOOD_SIZES = (16, 64, 2048, 65536)
FLOOD_BUFFER = 2**20


# ------------------------------------------------------------------------- the load


def connect(port: int) -> socket.socket:
    sock = socket.create_connection((HOST, port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(
        f"GET / HTTP/1.1\r\nHost: {HOST}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += sock.recv(1)
    assert head.startswith(b"HTTP/1.1 101"), head
    return sock


def header(size: int) -> bytes:
    """Header of a binary frame that is not masked (RFC 6455 section 5.2)."""
    if size < 126:
        return bytes([0x82, size])
    if size < 65536:
        return bytes([0x82, 126]) + size.to_bytes(2, "big")
    return bytes([0x82, 127]) + size.to_bytes(8, "big")


def masked(size: int) -> bytes:
    """A frame from a client. Its payload on the wire is random, whatever it means."""
    head = bytearray(header(size))
    head[1] |= 0x80
    return bytes(head) + os.urandom(4 + size)


def flood(port: int, size: int) -> None:
    """Send without end; print the number of answers so far for every line of the input."""
    sock = connect(port)
    received = 0

    def swallow() -> None:
        nonlocal received
        buffer = bytearray(FLOOD_BUFFER)
        while count := sock.recv_into(buffer):
            received += count

    def send() -> None:
        one = masked(size)
        data = one * (FLOOD_BUFFER // len(one) or 1)
        while True:
            sock.sendall(data)

    threading.Thread(target=swallow, daemon=True).start()
    threading.Thread(target=send, daemon=True).start()
    for _ in sys.stdin:
        print(received // (len(header(size)) + size), flush=True)


@contextlib.contextmanager
def running(
    command: list[str], environment: dict[str, str], pin: Any
) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=pin,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def ask(process: subprocess.Popen[str]) -> int:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return int(process.stdout.readline())


def latencies(socks: list[socket.socket], seconds: float) -> list[float]:
    """Return how long each answer took, in milliseconds."""
    message = masked(QUIET_SIZE)
    size = len(header(QUIET_SIZE)) + QUIET_SIZE
    found: list[float] = []
    end = time.perf_counter() + seconds
    while (begin := time.perf_counter()) < end:
        sock = socks[len(found) % len(socks)]
        sock.sendall(message)
        answer = sock.recv(size, socket.MSG_WAITALL)
        found.append((time.perf_counter() - begin) * 1e3)
        assert len(answer) == size
        # At no fixed moment of the server's rounds.
        time.sleep(random.random() / 1000)
    return found


def figures(found: list[float]) -> dict[str, float]:
    found.sort()
    # Where one answer takes longer than the measurement, it is all there is.
    p50, p99 = (round(found[int(len(found) * part)], 3) for part in (0.5, 0.99))
    return {"p50_ms": p50, "p99_ms": p99, "samples": len(found)}


def measure(programs: Programs, peer: str, loop: str, size: int | None, seconds: float) -> Any:
    """Return the latencies of the quiet connections, and the rate of the flood of that size."""
    command = programs.server(peer, loop, "echo")
    with running(command, programs.environment(peer), MEASURED) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        with contextlib.ExitStack() as stack:
            socks = [stack.enter_context(connect(port)) for _ in range(CONNECTIONS)]
            if size is None:
                latencies(socks, seconds / 4)
                return figures(latencies(socks, seconds))
            command = [sys.executable, __file__, "--flood", str(port), str(size)]
            flooder = stack.enter_context(running(command, dict(os.environ), LOAD))
            while ask(flooder) * size < FLOOD_BUFFER:
                time.sleep(0.01)
            before, begin = ask(flooder), time.perf_counter()
            result = figures(latencies(socks, seconds))
            result["flood_per_s"] = round((ask(flooder) - before) / (time.perf_counter() - begin))
            return result


# ----------------------------------------------------------------------- the report


def report(results: dict[str, dict[str, Any]]) -> str:
    """Make a table for each event loop."""
    text = []
    for loop in cases.LOOPS:
        rows = []
        for name, result in results.items():
            peer, at, flooding = name.split("/")
            if at == loop:
                rate = f"{result['flood_per_s']:,}" if "flood_per_s" in result else ""
                rows.append(
                    [flooding, peer, f"{result['p50_ms']:.2f}", f"{result['p99_ms']:.2f}", rate]
                )
        rows.sort(key=lambda row: [row[0] != "nothing", len(row[0]), row[0]])
        head = ["what floods", "server", "p50 ms", "p99 ms", "flood, messages/s"]
        if rows:
            text.append(f"{loop}\n\n{table(head, rows)}")
    return "\n".join(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--output", type=Path, help="directory for fairness.md and fairness.json")
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--rounds", type=int, default=3, help="the median of these counts")
    parser.add_argument("--loops", nargs="+", choices=cases.LOOPS, default=cases.LOOPS)
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=PEERS)
    parser.add_argument("--sizes", nargs="+", type=int, default=FLOOD_SIZES)
    parser.add_argument("--flood", nargs=2, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.flood:
        flood(*options.flood)
        return
    LOAD()
    programs = Programs(HERE.parent, None)
    programs.versions()  # makes sure that each library is the one it is taken for
    turns: dict[str, list[Any]] = {}
    for _ in range(options.rounds):
        for loop in options.loops:
            for size in (None, *options.sizes):
                for peer in options.peers:
                    flooding = "nothing" if size is None else f"{size} bytes"
                    found = measure(programs, peer, loop, size, options.seconds)
                    turns.setdefault(f"{peer}/{loop}/{flooding}", []).append(found)
    results = {
        name: sorted(found, key=lambda result: float(result["p99_ms"]))[len(found) // 2]
        for name, found in turns.items()
    }
    text = report(results)
    print(text, end="")
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "fairness.md").write_text(text)
        (options.output / "fairness.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
