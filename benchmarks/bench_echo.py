"""
CPU time that an echo server spends on a message: this library next to its peers.

A load generator in C keeps a number of messages in flight; server and load have a core each. The
peers take turns, several rounds of all of them, so that a noisy moment of the machine does not hit
one of them alone. The CPU time is what the kernel charges the server, user and system together,
over the messages echoed; of the rounds, the best one counts.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TICKS = os.sysconf("SC_CLK_TCK")
REFERENCE = "picows"


@dataclass(frozen=True)
class Candidate:
    name: str
    python: str
    kind: str
    loop: str
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    microseconds: float  # of CPU time, a message
    rate: float  # messages a second
    p50: float  # microseconds, round trip
    p99: float


def pin(core: int) -> None:
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[core % len(cores)]})


def cpu_seconds(pid: int) -> float:
    """Return the user and system time of a process."""
    # The name, in parentheses, may hold spaces; utime and stime are the 14th and 15th field.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def measure(candidate: Candidate, load: list[str]) -> Result:
    server = subprocess.Popen(
        [candidate.python, str(HERE / "echo_servers.py"), candidate.kind, candidate.loop],
        env={**os.environ, **candidate.environment},
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: pin(0),
    )
    try:
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        if not port:
            raise SystemExit(f"{candidate.name}: the server did not start")
        before = cpu_seconds(server.pid)
        output = subprocess.run(
            [str(HERE / "wsload"), "load", "127.0.0.1", port, *load],
            stdout=subprocess.PIPE,
            check=True,
            preexec_fn=lambda: pin(1),
        ).stdout
        spent = cpu_seconds(server.pid) - before
    finally:
        server.terminate()
        server.wait(10)
    report: dict[str, Any] = json.loads(output)
    return Result(
        spent / report["total_msgs"] * 1e6,
        report["msgs_per_s"],
        report["p50_us"],
        report["p99_us"],
    )


def candidates(peers: str, loop: str) -> list[Candidate]:
    return [
        *[
            Candidate(
                f"this library, {codec}",
                sys.executable,
                "websockets",
                loop,
                {"WEBSOCKETS_CODEC": codec},
            )
            for codec in ["compiled", "pure"]
        ],
        Candidate(REFERENCE, peers, "picows", loop),
        Candidate("picows.websockets", peers, "picows.websockets", loop),
        Candidate("aiohttp", peers, "aiohttp", loop),
        Candidate("websockets 17.4", peers, "websockets", loop),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", required=True, help="Python that has the peers")
    parser.add_argument("--loops", default="asyncio,uvloop")
    parser.add_argument("--only", default="", help="only candidates whose name has this in it")
    parser.add_argument("-c", "--connections", default="1")
    parser.add_argument("-w", "--window", default="64", help="messages in flight on each")
    parser.add_argument("-s", "--size", default="64", help="bytes in a message")
    parser.add_argument("-t", "--text", action="store_true", help="text instead of binary messages")
    parser.add_argument("-d", "--duration", default="2", help="seconds of each measurement")
    parser.add_argument("-r", "--rounds", type=int, default=3)
    options = parser.parse_args()

    load = ["-c", options.connections, "-w", options.window]
    load += ["-s", options.size, "-d", options.duration, *(["-t"] if options.text else [])]
    print(
        f"{options.connections} connections, {options.window} messages in flight on each, "
        f"{options.size} bytes {'text' if options.text else 'binary'}, best of {options.rounds}"
    )
    columns = ["CPU us/message", "of picows", "messages/s", "p50 us", "p99 us"]
    print(f"{'':<34}" + "".join(f"{column:>16}" for column in columns))
    for loop in options.loops.split(","):
        chosen = [c for c in candidates(options.peers, loop) if options.only in c.name]
        results: dict[str, list[Result]] = {}
        for _ in range(options.rounds):
            for candidate in chosen:
                results.setdefault(candidate.name, []).append(measure(candidate, load))
        best = {name: min(found, key=lambda r: r.microseconds) for name, found in results.items()}
        for name, result in best.items():
            reference = best.get(REFERENCE)
            ratio = f"{result.microseconds / reference.microseconds:.2f}" if reference else ""
            values = [
                f"{result.microseconds:.2f}",
                ratio,
                f"{result.rate:,.0f}",
                f"{result.p50:.0f}",
                f"{result.p99:.0f}",
            ]
            line = "".join(f"{value:>16}" for value in values)
            print(f"{f'{name} ({loop})':<34}{line}", flush=True)


if __name__ == "__main__":
    main()
