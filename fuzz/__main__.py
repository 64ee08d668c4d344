"""Search for inputs that show a fault: ``python -m fuzz [--seconds N] [TARGET ...]``.

Corpora grow under ``build/fuzz``, and inputs that crash are left there, too. ``--minimise`` writes
those inputs of a corpus to ``fuzz/corpus`` which add to its coverage.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from . import TARGETS

ROOT = Path(__file__).resolve().parents[1]
CHECKED_IN = ROOT / "fuzz" / "corpus"
BUILD = ROOT / "build" / "fuzz"

# For a checked in corpus to be small.
MAX_FILES = 90

# First argument of a process that is libFuzzer.
CHILD = "--child"

# A run in which one input takes this many seconds, or the process this many megabytes, has found
# something.
LIMITS = ["-timeout=20", "-rss_limit_mb=1024", "-max_len=4096"]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default: 60)")
    parser.add_argument("--minimise", action="store_true", help="update the checked in corpora")
    arguments = parser.parse_args()
    if unknown := set(arguments.targets) - set(TARGETS):
        parser.error(f"no such target: {', '.join(unknown)}")
    run = minimise if arguments.minimise else search
    found = [run(target, arguments.seconds) for target in arguments.targets or TARGETS]
    return 1 if any(found) else 0


def search(target: str, seconds: int) -> bool:
    """Run a target; print how it went, and return whether it found something."""
    scratch = BUILD / target
    corpus, artifacts, log = scratch / "corpus", scratch / "artifacts", scratch / "log"
    write_seeds(target, corpus)
    artifacts.mkdir(exist_ok=True)
    known = set(artifacts.iterdir())
    code = fuzz(
        target,
        log,
        [
            str(corpus),
            *([str(CHECKED_IN / target)] if (CHECKED_IN / target).is_dir() else []),
            f"-max_total_time={seconds}",
            f"-artifact_prefix={artifacts}/",
            "-print_final_stats=1",
            *LIMITS,
        ],
    )
    output = log.read_text(errors="replace")
    executed = last(r"stat::number_of_executed_units: *(\d+)", output)
    speed = last(r"stat::average_exec_per_sec: *(\d+)", output)
    edges = last(r"cov: (\d+)", output)
    findings = sorted(set(artifacts.iterdir()) - known)
    print(
        f"{target}: {executed} executions, {speed} a second, {edges} edges, "
        f"{len(findings)} findings",
        flush=True,
    )
    for finding in findings:
        print(f"  {finding}")
    if findings or code:
        print(f"  exit code {code}; see {log}")
    return bool(findings or code)


def minimise(target: str, seconds: int) -> bool:
    """Rewrite a checked in corpus, except for the inputs that once found something."""
    scratch, directory = BUILD / target, CHECKED_IN / target
    corpus, merged, log = scratch / "corpus", scratch / "merged", scratch / "merge.log"
    directory.mkdir(parents=True, exist_ok=True)
    chosen: dict[str, bytes] = {}
    # First what takes other edges, then, small ones first, what takes them more or less often.
    for options in ["-use_counters=0"], ["-use_counters=1"]:
        shutil.rmtree(merged, ignore_errors=True)
        # What the seeds reach needs no other input.
        seeds = write_seeds(target, merged)
        arguments = [str(merged), str(corpus), str(directory), "-set_cover_merge=1", *options]
        if code := fuzz(target, log, [*arguments, *LIMITS]):
            print(f"{target}: exit code {code}; see {log}")
            return True
        added = {path.name: path.read_bytes() for path in set(merged.iterdir()) - seeds}
        for name in sorted(added, key=lambda name: len(added[name])):
            if len(chosen) < MAX_FILES:
                chosen[name] = added[name]
    for old in directory.iterdir():
        if re.fullmatch("[0-9a-f]{40}", old.name):
            old.unlink()
    for name, data in chosen.items():
        (directory / name).write_bytes(data)
    files = list(directory.iterdir())
    print(f"{target}: {len(files)} files, {sum(file.stat().st_size for file in files)} bytes")
    return False


def write_seeds(target: str, directory: Path) -> set[Path]:
    """Write the seeds of a target as files; return these."""
    directory.mkdir(parents=True, exist_ok=True)
    written = set()
    for name, data in importlib.import_module(f"fuzz.{target}").seeds().items():
        path = directory / f"seed-{name}"
        path.write_bytes(data)
        written.add(path)
    return written


def fuzz(target: str, log: Path, arguments: list[str]) -> int:
    """Run libFuzzer in a process of its own, which it ends."""
    # The coverage of Python is what guides the search.
    environment = {**os.environ, "WEBSOCKETS_CODEC": "pure"}
    with log.open("wb") as output:
        return subprocess.run(
            [sys.executable, "-m", "fuzz", CHILD, target, *arguments],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        ).returncode


def child(target: str, arguments: list[str]) -> None:
    import atheris

    with atheris.instrument_imports(include=["websockets"], enable_loader_override=False):
        module = importlib.import_module(f"fuzz.{target}")
    # With the first of these, libFuzzer starts itself anew.
    atheris.Setup([f"{sys.executable} -m fuzz {CHILD} {target}", *arguments], module.one_input)
    atheris.Fuzz()


def last(pattern: str, text: str) -> str:
    found = re.findall(pattern, text)
    return found[-1] if found else "?"


if __name__ == "__main__":
    if sys.argv[1:2] == [CHILD]:
        child(sys.argv[2], sys.argv[3:])
    sys.exit(main())
