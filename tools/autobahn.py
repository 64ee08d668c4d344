"""
Run the Autobahn|Testsuite against this library: as server and as client, on either codec; the
original API, too, on the compiled one.

Prints a line a group, and fails unless every case is OK but those that are always INFORMATIONAL.
With every group, and with the released library beside this one, it also writes the results into
docs/conformance.md.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "conformance.md"
KEPT = ROOT / "build" / "autobahn"
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
# What is run at a time, and kept: all but compression takes seconds, each of the rest minutes.
CORE = {"core": [f"{group}.*" for group in GROUPS if group < 12]}
COMPRESSION = {
    part: [f"{part}.*"]
    for part in [*(f"12.{number}" for number in range(1, 6)), *(f"13.{n}" for n in range(1, 8))]
}
CORE_CASES, ALL_CASES = 301, 517
TIME_LIMIT = 1800.0  # seconds, for each part; the suite has its own for each case
COLUMNS = ["OK", "NON-STRICT", "INFORMATIONAL", "FAILED", "UNIMPLEMENTED"]
# The suite reports what it saw and judges nothing: 7.1.6 is a race between a close and the
# 256 KiB before it, 7.13.* are close codes that RFC 6455 section 7.4.2 leaves undefined.
ALWAYS_INFORMATIONAL = {"7.1.6", "7.13.1", "7.13.2"}

RELEASED = "17.4"

# The suite's own program, which would listen on every interface.
FUZZING_SERVER = """
from twisted.internet import tcp
from autobahntestsuite import wstest
AnyPort = tcp.Port
class Port(AnyPort):
    def __init__(self, port, factory, backlog=50, interface="", reactor=None):
        AnyPort.__init__(self, port, factory, backlog, "127.0.0.1", reactor)
tcp.Port = Port
wstest.run()
"""

Results = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Run:
    """A run of the suite against one side of a library, this one or the released one."""

    side: str
    library: str  # a codec of this one, or the version of the released one
    python: str = sys.executable
    api: str = "asyncio"

    def __str__(self) -> str:
        name = f"{self.side}, {self.library if self.ours else f'websockets {self.library}'}"
        return name if self.api == "asyncio" else f"{name}, original API"

    @property
    def ours(self) -> bool:
        return self.library != RELEASED

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the side under test and check that it is the library asked for."""
        process = subprocess.Popen(
            [
                self.python,
                str(ROOT / "tools" / "autobahn_peer.py"),
                self.api,
                self.side,
                *arguments,
            ],
            env={**os.environ, "WEBSOCKETS_CODEC": self.library},
            stdout=subprocess.PIPE,
            text=True,
        )
        found = read_line(process.stdout)
        if found != self.library:
            stop(process)
            raise SystemExit(f"asked for {self.library}, found {found!r}")
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


def run_server(run: Run, wstest: str, cases: list[str], directory: Path, limit: float) -> None:
    """Let the fuzzer, as a client, test a server."""
    server = run.start()
    try:
        spec = {
            "outdir": str(directory),
            "servers": [
                {"agent": run.library, "url": f"ws://127.0.0.1:{read_line(server.stdout)}"}
            ],
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


def run_client(run: Run, wstest: str, cases: list[str], directory: Path, limit: float) -> None:
    """Let the fuzzer, as a server, test a client."""
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
            [
                *[str(Path(wstest).with_name("python")), "-c", FUZZING_SERVER],
                # No web page beside the WebSocket server: its port would be a fixed one.
                *["-m", "fuzzingserver", "-s", str(spec_file), "--webport", "0"],
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            wait_for_port(port, fuzzer)
            client = run.start(url)
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


def faults(results: Results) -> list[tuple[str, str]]:
    """Return every case that is not as it must be, and what it is instead."""
    found = []
    for case, result in results.items():
        wanted = "INFORMATIONAL" if case in ALWAYS_INFORMATIONAL else "OK"
        if result["behavior"] != wanted:
            found.append((case, result["behavior"]))
        if result["behaviorClose"] not in {"OK", "INFORMATIONAL"}:
            found.append((case, f"unclean close ({result['behaviorClose']})"))
    return found


def summary(results: Results) -> str:
    """Say how many cases are what."""
    _, *numbers, unclean = counts(results)
    found = [f"{n} {column}" for n, column in zip(numbers, COLUMNS, strict=True) if n]
    return ", ".join([*found, f"{unclean} unclean"] if unclean else found)


def of_group(results: Results, group: int) -> Results:
    return {case: result for case, result in results.items() if group_of(case) == group}


def cell(results: Results, total: int) -> str:
    if len(results) < total:
        return f"{len(results)} run: {summary(results)}" if results else "not run"
    return summary(results)


def table(runs: dict[Run, Results]) -> list[str]:
    names = [str(run) for run in runs]
    lines = [["group", "cases", *names], ["---", "--:", *["---" for _ in names]]]
    first = next(iter(runs.values()))
    for group, name in GROUPS.items():
        total = len(of_group(first, group))
        cells = [cell(of_group(results, group), total) for results in runs.values()]
        lines.append([f"{group} {name}", str(total), *cells])
    lines.append(["all", str(len(first)), *(cell(found, len(first)) for found in runs.values())])
    return [f"| {' | '.join(line)} |\n" for line in lines]


def shortened(cases: list[str]) -> str:
    """List cases, those that follow one another as a range: 9.3.1 to 9.3.3."""
    numbers = sorted([int(part) for part in case.split(".")] for case in cases)
    ranges: list[list[list[int]]] = []
    for number in numbers:
        if ranges and number == [*ranges[-1][-1][:-1], ranges[-1][-1][-1] + 1]:
            ranges[-1].append(number)
        else:
            ranges.append([number])
    ends = [[".".join(map(str, end)) for end in (found[0], found[-1])] for found in ranges]
    return ", ".join(first if first == last else f"{first} to {last}" for first, last in ends)


def exceptions(run: Run, results: Results) -> str:
    """Name the cases of a run that are not as they must be, by what they are."""
    kinds = collections.defaultdict(list)
    for case, fault in faults(results):
        kinds[fault].append(case)
    found = "; ".join(f"{fault} {shortened(cases)}" for fault, cases in kinds.items())
    return f"- {run}: {found or 'none'}.\n"


def perform(run: Run, wstest: str, cases: list[str], kept: Path | None, reuse: bool) -> Results:
    """Run some cases, or recall what came out of them."""
    results: Results
    if reuse and kept is not None and kept.exists():
        results = json.loads(kept.read_text())
        return results
    run_side = {"server": run_server, "client": run_client}[run.side]
    with tempfile.TemporaryDirectory() as directory:
        try:
            run_side(run, wstest, cases, Path(directory), TIME_LIMIT)
        except subprocess.TimeoutExpired:
            raise SystemExit(f"{run}: {cases} not done after {TIME_LIMIT:.0f} s") from None
        [results] = json.loads((Path(directory) / "index.json").read_text()).values()
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(results))
    return results


def report(run: Run, results: Results) -> None:
    for group in sorted({group_of(case) for case in results}):
        chosen = of_group(results, group)
        print(f"{run!s:<30} group {group:>2}: {len(chosen):>3} cases: {summary(chosen)}")
    for case, fault in faults(results):
        print(f"{run!s:<30} {case}: {fault}")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wstest", required=True, help="the suite's program")
    parser.add_argument("--all", action="store_true", help="also the compression groups (slow)")
    parser.add_argument("--codec", choices=["compiled", "pure"], help="only this codec")
    parser.add_argument("--side", choices=["server", "client"], help="only this side")
    parser.add_argument("--cases", help="only these, such as 6.4.*,7.1.5")
    parser.add_argument(
        "--released", metavar="PYTHON", help=f"also websockets {RELEASED}, which this Python has"
    )
    parser.add_argument("--only-released", action="store_true", help="nothing but that")
    parser.add_argument(
        "--reuse",
        action="store_true",
        help="take what earlier runs have kept, and run what they lack of this library",
    )
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time (default: 1)")
    parser.add_argument("--check-only", action="store_true", help="do not write the document")
    options = parser.parse_args()

    sides = [options.side] if options.side else ["server", "client"]
    codecs = [options.codec] if options.codec else ["compiled", "pure"]
    runs = [Run(side, codec) for side in sides for codec in codecs]
    if "compiled" in codecs:
        runs += [Run(side, "compiled", api="legacy") for side in sides]
    if options.only_released:
        runs = []
    if options.released:
        runs += [Run(side, RELEASED, options.released) for side in sides]
    parts = {**CORE, **COMPRESSION} if options.all else CORE
    if options.cases:
        parts = {"": options.cases.split(",")}

    results: dict[Run, Results] = {run: {} for run in runs}
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        futures = {}
        for run in runs:
            for part, cases in parts.items():
                name = "-".join(
                    [run.side, run.library, *([run.api] if run.api != "asyncio" else []), part]
                )
                kept = KEPT / f"{name}.json" if part else None
                # What the released library does cannot change.
                reuse = options.reuse or not run.ours
                if options.reuse and not run.ours and kept is not None and not kept.exists():
                    continue
                futures[pool.submit(perform, run, options.wstest, cases, kept, reuse)] = run
        try:
            for future in concurrent.futures.as_completed(futures):
                report(futures[future], future.result())
                results[futures[future]].update(future.result())
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    wanted = ALL_CASES if options.all else CORE_CASES
    if not options.cases and any(len(results[run]) != wanted for run in runs if run.ours):
        raise SystemExit(f"{wanted} cases were asked for, others ran")
    if any(faults(found) for run, found in results.items() if run.ours):
        raise SystemExit("not conforming")

    part = options.codec or options.side or options.cases or options.only_released
    if options.all and options.released and not part and not options.check_only:
        before, _, rest = DOCUMENT.read_text().partition(BEGIN)
        _, _, after = rest.partition(END)
        theirs = [exceptions(run, found) for run, found in results.items() if not run.ours]
        lines = [*table(results), "\nNot OK there:\n\n", *theirs]
        DOCUMENT.write_text("".join([before, BEGIN, *lines, END, after]))
    if not options.only_released:
        print("conforming: every case OK, but those that are always INFORMATIONAL")


if __name__ == "__main__":
    main()
