"""
Compare this library with the released one: ``python -m oracle --released PYTHON``.

Each package plays all scenarios, in a process of its own. Where the records differ, the difference
has to be in differences.toml, and what is listed there has to occur. Prints a line for each
difference that is not listed, and for each that is but did not occur; fails if there are any.
"""

from __future__ import annotations

import argparse
import difflib
import fnmatch
import json
import os
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
LIMIT = 300.0  # seconds, for one package to play everything

with (HERE.parent / "pyproject.toml").open("rb") as project:
    OURS: str = tomllib.load(project)["project"]["version"]

Record = dict[str, list[str]]


@dataclass
class Difference:
    """Lines of a track that only one of the packages has."""

    scenario: str
    track: str
    released: list[str]
    ours: list[str]

    def __str__(self) -> str:
        return f"{self.scenario}: {self.track}: {self.released} became {self.ours}"

    def toml(self) -> str:
        """Return it as it would be listed."""
        lines = ["[[reason.difference]]", f"scenarios = {json.dumps([self.scenario])}"]
        lines.append(f"track = {json.dumps(self.track)}")
        for name, values in (("released", self.released), ("ours", self.ours)):
            items = [f"    {json.dumps(value, ensure_ascii=False)}," for value in values]
            lines.append("\n".join([f"{name} = [", *items, "]"]) if items else f"{name} = []")
        return "\n".join(lines)


@dataclass
class Listed:
    """A difference that is meant to be."""

    reason: str
    scenarios: list[str]
    track: str
    released: list[str]
    ours: list[str]
    seen: set[str] = field(default_factory=set)


def read_differences() -> list[Listed]:
    """Return what differences.toml lists."""
    with (HERE / "differences.toml").open("rb") as file:
        reasons = tomllib.load(file).get("reason", [])
    return [
        Listed(reason["text"], **difference)
        for reason in reasons
        for difference in reason["difference"]
    ]


def compare(name: str, released: Record, ours: Record) -> Iterator[Difference]:
    """Yield the tracks of a scenario that differ."""
    for track in sorted(released.keys() | ours.keys()):
        before, after = released.get(track, []), ours.get(track, [])
        matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
        changes = [opcode for opcode in matcher.get_opcodes() if opcode[0] != "equal"]
        if changes:
            yield Difference(
                name,
                track,
                [line for _, start, stop, _, _ in changes for line in before[start:stop]],
                [line for _, _, _, start, stop in changes for line in after[start:stop]],
            )


def explain(difference: Difference, listed: list[Listed]) -> Difference | None:
    """Return what is left of a difference without what is listed for it."""
    released, ours = Counter(difference.released), Counter(difference.ours)
    for item in listed:
        if difference.scenario in item.scenarios and difference.track == item.track:
            if Counter(item.released) <= released and Counter(item.ours) <= ours:
                released -= Counter(item.released)
                ours -= Counter(item.ours)
                item.seen.add(difference.scenario)
    if not released and not ours:
        return None
    return Difference(
        difference.scenario,
        difference.track,
        [line for line in difference.released if line in released],
        [line for line in difference.ours if line in ours],
    )


class Player:
    """A process that plays scenarios on one of the packages."""

    def __init__(self, package: str, python: str, scenarios: list[str]) -> None:
        self.name = package
        self.output = tempfile.TemporaryFile("w+", encoding="utf-8")
        self.errors = tempfile.TemporaryFile("w+", encoding="utf-8")
        environment = {name: value for name, value in os.environ.items() if is_neutral(name)}
        self.process = subprocess.Popen(
            [os.path.abspath(python), "-P", "-X", "utf8", str(HERE / "play.py"), *scenarios],
            stdout=self.output,
            stderr=self.errors,
            # Compression by the same module in both.
            env={**environment, "PYTHONHASHSEED": "0", "WEBSOCKETS_ZLIB": "zlib"},
            cwd=HERE,
        )

    def records(self) -> dict[str, Record]:
        """Wait for the process; return the records, of all scenarios but those that failed."""
        try:
            self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.output.seek(0)
        self.errors.seek(0)
        if errors := self.errors.read():
            print(f"{self.name} wrote to stderr:\n{errors}")
        package = self.output.readline().strip()
        if (package == OURS) != (self.name == "ours"):
            raise SystemExit(f"{self.name} was played on websockets {package or 'nothing'}")
        return dict(json.loads(line) for line in self.output)


def is_neutral(name: str) -> bool:
    """Return whether a variable is without influence on which package is used, or on proxies."""
    return name != "PYTHONPATH" and not name.lower().endswith("_proxy")


def find_scenarios(pattern: str) -> list[str]:
    """Return the names of scenarios that contain a pattern."""
    from . import scenarios  # noqa: F401
    from .scenario import SCENARIOS

    return [name for name in SCENARIOS if fnmatch.fnmatch(name, f"*{pattern}*")]


Run = dict[str, dict[str, Record]]  # by package, then by scenario


def judge(
    names: list[str], runs: list[Run], listed: list[Listed], *, toml: bool = False
) -> list[str]:
    """Return what is wrong with the records of one or more runs, a line for each."""
    failures = []
    for name in names:
        first = {package: records.get(name, {}) for package, records in runs[0].items()}
        for package, record in first.items():
            if not record:
                failures.append(f"{name}: {package}: no record")
            if "crash" in record:
                failures.append(f"{name}: {package} crashed: {record['crash'][0]}")
            for run in runs[1:]:
                for change in compare(name, record, run[package].get(name, {})):
                    failures.append(f"{name}: {package} is not the same each time: {change}")
        for difference in compare(name, first["released"], first["ours"]):
            if left := explain(difference, listed):
                failures.append(left.toml() if toml else str(left))
    for item in listed:
        for name in item.scenarios:
            if name in names and name not in item.seen:
                failures.append(
                    f"{name}: {item.track}: listed, but it does not occur: {item.reason}"
                )
    return failures


def show(names: list[str], run: Run) -> None:
    """Print records."""
    for name in names:
        for package, records in run.items():
            print(f"--- {name}, {package}")
            for track, lines in records.get(name, {}).items():
                print(f"  {track}", *(f"    {line}" for line in lines), sep="\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--released", required=True, help="Python with the released package")
    parser.add_argument("--ours", default=sys.executable, help="Python with this package")
    parser.add_argument("-k", dest="pattern", default="", help="only scenarios with that in names")
    parser.add_argument("--times", type=int, default=1, help="play so often, with equal records")
    parser.add_argument("--load", action="store_true", help="keep the processors busy meanwhile")
    parser.add_argument("--show", action="store_true", help="print the records as well")
    parser.add_argument("--toml", action="store_true", help="print what is not listed as TOML")
    arguments = parser.parse_args()

    begin = time.monotonic()
    names = find_scenarios(arguments.pattern)
    listed = [item for item in read_differences() if set(item.scenarios) & set(names)]
    burners: list[subprocess.Popen[bytes]] = []
    if arguments.load:
        burners = [
            subprocess.Popen([sys.executable, "-c", "while True: pass"])
            for _ in range(os.cpu_count() or 1)
        ]
    try:
        runs: list[Run] = []
        for _ in range(arguments.times):
            players = [
                Player("released", arguments.released, names),
                Player("ours", arguments.ours, names),
            ]
            runs.append({player.name: player.records() for player in players})
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()

    if arguments.show:
        show(names, runs[0])
    failures = judge(names, runs, listed, toml=arguments.toml)
    print(*failures, sep="\n", end="\n" if failures else "")
    intended = sum(len(item.seen) for item in listed)
    print(
        f"{len(names)} scenarios, {intended} intended differences, {len(failures)} failures, "
        f"{time.monotonic() - begin:.0f} s"
    )
    raise SystemExit(bool(failures))


if __name__ == "__main__":
    main()
