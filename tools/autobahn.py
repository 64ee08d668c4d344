"""
Run the Autobahn|Testsuite against this library: as server and as client, on either codec.

Prints a line a group, and fails unless every case is OK but those that are always INFORMATIONAL.
A run of everything it knows how to run also writes the table into docs/conformance.md.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "conformance.md"
BEGIN, END = "<!-- results -->\n", "<!-- end of results -->\n"

GROUPS = {
    1: "framing",
    2: "pings and pongs",
    3: "reserved bits",
    4: "opcodes",
    5: "fragmentation",
    6: "UTF-8",
    7: "closing",
    9: "limits",
    10: "auto-fragmentation",
    12: "compression, same content",
    13: "compression, other parameters",
}
CORE = [1, 2, 3, 4, 5, 6, 7, 9, 10]
COMPRESSION = [12, 13]
COLUMNS = ["OK", "NON-STRICT", "INFORMATIONAL", "FAILED", "UNIMPLEMENTED"]
# The suite reports what it saw and judges nothing: 7.1.6 is a race between a close and the
# 256 KiB before it, 7.13.* are close codes that RFC 6455 section 7.4.2 leaves undefined.
ALWAYS_INFORMATIONAL = {"7.1.6", "7.13.1", "7.13.2"}

Results = dict[str, dict[str, Any]]


def peer(codec: str, *arguments: str) -> subprocess.Popen[str]:
    """Start this library's side and check that it is on the codec asked for."""
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "tools" / "autobahn_peer.py"), *arguments],
        env={**os.environ, "WEBSOCKETS_CODEC": codec},
        stdout=subprocess.PIPE,
        text=True,
    )
    found = read_line(process.stdout)
    if found != codec:
        stop(process)
        raise SystemExit(f"asked for the {codec} codec, found {found!r}")
    return process


def read_line(stream: IO[str] | None) -> str:
    assert stream is not None
    return stream.readline().strip()


def stop(process: subprocess.Popen[Any]) -> None:
    process.terminate()
    process.wait(10)


@contextlib.contextmanager
def logged(path: Path) -> Iterator[IO[bytes]]:
    """Give a file for a program's output; show how it ends when something goes wrong."""
    with path.open("wb") as log:
        try:
            yield log
        except BaseException:
            tail = path.read_text(errors="replace").splitlines()[-20:]
            print("\n".join(tail), file=sys.stderr)
            raise


def run_server(wstest: str, codec: str, cases: list[str], directory: Path, limit: float) -> None:
    """Let the fuzzer, as a client, test a server of this library."""
    server = peer(codec, "server")
    try:
        spec = {
            "outdir": str(directory),
            "servers": [{"agent": codec, "url": f"ws://127.0.0.1:{read_line(server.stdout)}"}],
            "cases": cases,
            "exclude-cases": [],
            "exclude-agent-cases": {},
        }
        spec_file = directory / "spec.json"
        spec_file.write_text(json.dumps(spec))
        with logged(directory / "fuzzer.log") as log:
            subprocess.run(
                [wstest, "-m", "fuzzingclient", "-s", str(spec_file)],
                stdout=log,
                stderr=subprocess.STDOUT,
                check=True,
                timeout=limit,
            )
        if server.poll() is not None:
            raise SystemExit(f"the server ended by itself, exit code {server.returncode}")
    finally:
        stop(server)


def run_client(wstest: str, codec: str, cases: list[str], directory: Path, limit: float) -> None:
    """Let the fuzzer, as a server, test a client of this library."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    url = f"ws://127.0.0.1:{port}"
    spec = {
        "outdir": str(directory),
        "url": url,
        "cases": cases,
        "exclude-cases": [],
        "exclude-agent-cases": {},
    }
    spec_file = directory / "spec.json"
    spec_file.write_text(json.dumps(spec))
    with logged(directory / "fuzzer.log") as log:
        fuzzer = subprocess.Popen(
            # No web page beside the WebSocket server: its port would be a fixed one.
            [wstest, "-m", "fuzzingserver", "-s", str(spec_file), "-w", "0"],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            wait_for_port(port, fuzzer)
            client = peer(codec, "client", url)
            try:
                if client.wait(limit):
                    raise SystemExit(f"the client failed, exit code {client.returncode}")
            finally:
                stop(client)
        finally:
            stop(fuzzer)


def wait_for_port(port: int, process: subprocess.Popen[Any]) -> None:
    for _ in range(300):
        if process.poll() is not None:
            raise SystemExit(f"the fuzzer ended by itself, exit code {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.1)
    raise SystemExit("the fuzzer does not listen")


def group_of(case: str) -> int:
    return int(case.split(".")[0])


def counts(results: Results) -> list[int]:
    """Return the number of cases, of each behavior, and of those that did not close cleanly."""
    behaviors = collections.Counter(result["behavior"] for result in results.values())
    unclean = sum(
        result["behaviorClose"] not in {"OK", "INFORMATIONAL"} for result in results.values()
    )
    return [len(results), *(behaviors.pop(column, 0) for column in COLUMNS), unclean]


def faults(results: Results) -> list[str]:
    """Describe every case that is not as it must be."""
    found = []
    for case, result in results.items():
        wanted = "INFORMATIONAL" if case in ALWAYS_INFORMATIONAL else "OK"
        if result["behavior"] != wanted:
            found.append(f"{case}: {result['behavior']}")
        if result["behaviorClose"] not in {"OK", "INFORMATIONAL"}:
            found.append(f"{case}: close is {result['behaviorClose']}")
    return found


def table(runs: dict[str, Results], groups: list[int]) -> list[str]:
    header = ["run", "group", "cases", *COLUMNS, "unclean close"]
    lines = [header, ["---", "---", *["--:" for _ in header[2:]]]]
    for name, results in runs.items():
        for group in groups:
            chosen = {case: r for case, r in results.items() if group_of(case) == group}
            lines.append([name, f"{group} {GROUPS[group]}", *map(str, counts(chosen))])
        lines.append([name, "all", *map(str, counts(results))])
    return [f"| {' | '.join(line)} |\n" for line in lines]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wstest", required=True, help="the suite's program")
    parser.add_argument("--all", action="store_true", help="also the compression groups (slow)")
    parser.add_argument("--codec", choices=["compiled", "pure"], help="only this codec")
    parser.add_argument("--side", choices=["server", "client"], help="only this side")
    parser.add_argument("--cases", help="only these, such as 6.4.*,7.1.5")
    parser.add_argument("--check-only", action="store_true", help="do not write the document")
    options = parser.parse_args()

    groups = CORE + COMPRESSION if options.all else CORE
    cases = options.cases.split(",") if options.cases else [f"{group}.*" for group in groups]
    limit = 1800.0 if options.all else 180.0  # seconds, for each run
    sides = {"server": run_server, "client": run_client}
    runs: dict[str, Results] = {}
    failed = False
    for side in [options.side] if options.side else sides:
        for codec in [options.codec] if options.codec else ["compiled", "pure"]:
            name = f"{side}, {codec}"
            with tempfile.TemporaryDirectory() as directory:
                try:
                    sides[side](options.wstest, codec, cases, Path(directory), limit)
                except subprocess.TimeoutExpired:
                    raise SystemExit(f"{name}: not done after {limit:.0f} s") from None
                [runs[name]] = json.loads((Path(directory) / "index.json").read_text()).values()
            ran = sorted({group_of(case) for case in runs[name]})
            if not options.cases and ran != groups:
                raise SystemExit(f"{name}: groups {groups} were asked for, {ran} ran")
            for group in ran:
                chosen = {case: r for case, r in runs[name].items() if group_of(case) == group}
                total, *numbers, unclean = counts(chosen)
                pairs = zip([*COLUMNS, "unclean close"], [*numbers, unclean], strict=True)
                text = ", ".join(f"{number} {column}" for column, number in pairs)
                print(f"{name:<17} group {group:>2}: {total:>3} cases: {text}", flush=True)
            for fault in faults(runs[name]):
                failed = True
                print(f"{name:<17} {fault}", flush=True)

    if not (options.check_only or options.codec or options.side or options.cases):
        before, _, rest = DOCUMENT.read_text().partition(BEGIN)
        _, _, after = rest.partition(END)
        DOCUMENT.write_text("".join([before, BEGIN, *table(runs, groups), END, after]))
    if failed:
        raise SystemExit("not conforming")
    print("conforming: every case OK, but those that are always INFORMATIONAL")


if __name__ == "__main__":
    main()
