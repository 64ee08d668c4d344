"""Run the tests in every configuration that must pass, side by side: they wait more than they work.

Each codec has a run of its own, as the one in use is settled at import. One more run has delivery
on arrival switched off. All go to their end, even if one fails. The first is shown as it goes; the
others, when those before them have ended.

    python tools/run_tests.py [--codec CODEC]... [pytest's arguments]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from typing import IO, NamedTuple


class Configuration(NamedTuple):
    name: str
    environment: dict[str, str]
    default_arguments: list[str]


DELIVERY_OFF = Configuration(
    "direct delivery off", {"WEBSOCKETS_DIRECT_DELIVERY": "0"}, ["tests/asyncio"]
)


def start(
    configuration: Configuration, arguments: list[str], log: IO[bytes] | None
) -> subprocess.Popen[bytes]:
    """Begin a run: on the terminal, or with its output in a file."""
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", *(arguments or configuration.default_arguments)],
        env=os.environ | configuration.environment,
        stdin=subprocess.DEVNULL if log is not None else None,
        stdout=log,
        stderr=log,
    )


def follow(process: subprocess.Popen[bytes], log: IO[bytes]) -> None:
    """Show what a run has written, and what it writes until it ends."""
    position, running = 0, True
    while running:
        running = process.poll() is None
        # The position of the file itself is the one that the run writes at.
        while data := os.pread(log.fileno(), 65536, position):
            sys.stdout.buffer.write(data)
            position += len(data)
        sys.stdout.flush()
        if running:
            time.sleep(0.1)


def main() -> None:
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--codec", action="append", help="default: compiled and pure")
    options, arguments = parser.parse_known_args()
    configurations = [
        *(
            Configuration(codec, {"WEBSOCKETS_CODEC": codec}, [])
            for codec in options.codec or ["compiled", "pure"]
        ),
        DELIVERY_OFF,
    ]
    failed = []
    with contextlib.ExitStack() as stack:
        runs: list[tuple[Configuration, subprocess.Popen[bytes], IO[bytes] | None]] = []
        for configuration in configurations:
            log: IO[bytes] | None = None
            if runs:
                log = stack.enter_context(tempfile.TemporaryFile())
            process = stack.enter_context(start(configuration, arguments, log))
            stack.callback(process.terminate)
            runs.append((configuration, process, log))
        for configuration, process, log in runs:
            print("==", *map("=".join, configuration.environment.items()), flush=True)
            if log is not None:
                follow(process, log)
            if process.wait() != 0:
                failed.append(configuration.name)
    if failed:
        sys.exit(f"the tests failed on: {', '.join(failed)}")


if __name__ == "__main__":
    main()
