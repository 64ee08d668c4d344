"""
Where the time of a message goes: ``budget.py --output DIRECTORY``.

Writes DIRECTORY/budget.md: what each step of a 64-byte echo costs, one message a read and 64 a
read, and, where valgrind is installed, the instructions in this process and the functions that
they are in. ``--update`` puts the tables into benchmarks/profile.md.

Instruction counts are the difference of two runs of different length, so that starting Python is
not in them; they hardly change from run to run, whatever else the machine does.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cases
from measure import MEASURED, Settings, turn
from peers import HERE, Programs
from report import table

PROFILE = HERE / "profile.md"
MARKS = "<!-- made by make profile -->\n", "<!-- end -->\n"
# Messages of the two runs whose difference counts, by messages a read.
LENGTHS = {1: (640, 2560), 64: (6400, 25600)}
CASES = {1: "many64", 64: "pipe64"}
TOP = 25


def server_us(settings: Settings, peer: str, loop: str, case: cases.Case) -> float:
    """Return the CPU time a message of a whole server, best of three turns."""
    return min(float(turn(settings, peer, loop, case)["cpu_us"]) for _ in range(3))


def steps(settings: Settings) -> str:
    """Table of what each step costs, in microseconds."""
    programs = settings.programs
    inside = json.loads(
        subprocess.run(
            [sys.executable, str(HERE / "inprocess.py"), "times"],
            env=programs.environment(cases.OURS),
            stdout=subprocess.PIPE,
            preexec_fn=MEASURED,
            check=True,
        ).stdout
    )
    columns = [(batch, loop) for batch in CASES for loop in cases.LOOPS]
    rows: dict[str, list[str]] = {}
    for batch, loop in columns:
        [case] = [case for case in cases.CASES if case.name == CASES[batch]]
        nanoseconds = inside[str(batch)]
        whole, parse, encode = (nanoseconds[k] / 1e3 for k in ("whole", "parse", "encode"))
        floor = server_us(settings, cases.TCP, loop, case)
        server = server_us(settings, cases.OURS, loop, case)
        for step, value in [
            ("event loop and kernel: a TCP server that echoes bytes", floor),
            ("parse the frame", parse),
            ("wake the handler, `recv()`, `send()`, cork", whole - parse - encode),
            ("encode the frame", encode),
            (
                "the rest: caches that hold less, and what is not measured alone",
                server - floor - whole,
            ),
            ("**the server**", server),
        ]:
            rows.setdefault(step, []).append(f"{value:.2f}")
    head = [f"{batch} a read, {loop}" for batch, loop in columns]
    return table(["microseconds of CPU time a message", *head], ([k, *v] for k, v in rows.items()))


def instructions(programs: Programs, directory: Path) -> str:
    """Tables of instructions a message, in all and by function."""
    parts = []
    for batch, lengths in LENGTHS.items():
        counts = [_callgrind(programs, directory, length, batch) for length in lengths]
        messages = lengths[1] - lengths[0]
        spent = {
            name: (count - counts[0].get(name, 0)) / messages for name, count in counts[1].items()
        }
        total = sum(spent.values())
        rows = [
            [f"`{name}`", f"{count:,.0f}", f"{count / total:.0%}"]
            for name, count in sorted(spent.items(), key=lambda item: -item[1])[:TOP]
        ]
        parts.append(f"{total:,.0f} instructions a message in process, {batch} a read:\n")
        parts.append(table(["function", "instructions", "of all"], rows))
    return "\n".join(parts)


def _callgrind(programs: Programs, directory: Path, count: int, batch: int) -> dict[str, int]:
    """Return the instructions of each function, itself only."""
    output = directory / f"callgrind.{batch}.{count}"
    program = [sys.executable, str(HERE / "inprocess.py"), "echo", str(count), str(batch)]
    subprocess.run(
        ["valgrind", "--tool=callgrind", f"--callgrind-out-file={output}", *program],
        env={**programs.environment(cases.OURS), "PYTHONHASHSEED": "0"},
        capture_output=True,
        check=True,
    )
    listing = subprocess.run(
        ["callgrind_annotate", "--threshold=100", "--auto=no", "--show-percs=no", str(output)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    found: dict[str, int] = {}
    for number, name in re.findall(r"^ *([\d,]+) +\S*?:(\S+)", listing, re.MULTILINE):
        name = name.split("'")[0]  # levels of recursion
        found[name] = found.get(name, 0) + int(number.replace(",", ""))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, metavar="DIRECTORY")
    parser.add_argument("--tree", type=Path, default=HERE.parent, help="this library's directory")
    parser.add_argument("--update", action="store_true", help="update profile.md, too")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    programs = Programs(options.tree.resolve(), None)
    programs.versions()  # which makes sure of what is measured
    settings = Settings(programs, options.output, seconds=0.7, warmup=0.25)

    text = steps(settings)
    if shutil.which("valgrind"):
        text += "\n" + instructions(programs, options.output)
    else:
        print("valgrind is not installed: no instruction counts", file=sys.stderr)
    (options.output / "budget.md").write_text(text)
    print(text)
    if options.update:
        page = PROFILE.read_text()
        before, after = page.split(MARKS[0])[0], page.split(MARKS[1])[1]
        PROFILE.write_text(before + MARKS[0] + "\n" + text + "\n" + MARKS[1] + after)


if __name__ == "__main__":
    main()
