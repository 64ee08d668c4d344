"""Run the tests in every configuration that must pass, side by side: they wait more than they work.

Each codec has a run of its own, as the one in use is settled at import. One more run has delivery
on arrival switched off. All go to their end, even if one fails. The first is shown as it goes; the
others, when those before them have ended.

    python tools/run_tests.py [--codec CODEC]... [pytest's arguments]
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from typing import IO, NamedTuple, NoReturn

# How long runs have to tell what they saw and to clean up, once they are interrupted, in seconds.
GRACE = 5


class Configuration(NamedTuple):
    name: str
    environment: dict[str, str]
    default_arguments: list[str]


DELIVERY_OFF = Configuration(
    "direct delivery off", {"WEBSOCKETS_DIRECT_DELIVERY": "0"}, ["tests/asyncio"]
)


class Run:
    """A run of pytest that has begun: on the terminal, or with its output in a file."""

    def __init__(
        self, configuration: Configuration, arguments: list[str], log: IO[bytes] | None
    ) -> None:
        self.configuration = configuration
        self.log = log
        self.shown = 0
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pytest", *(arguments or configuration.default_arguments)],
            env=os.environ | configuration.environment,
            stdin=subprocess.DEVNULL if log is not None else None,
            stdout=log,
            stderr=log,
        )

    def follow(self, seconds: float = float("inf")) -> None:
        """Show what the run has written, and what it writes until it ends."""
        deadline = time.monotonic() + seconds
        running = True
        while running:
            running = self.process.poll() is None and time.monotonic() < deadline
            if self.log is not None:
                # The position of the file itself is the one that the run writes at.
                while data := os.pread(self.log.fileno(), 65536, self.shown):
                    sys.stdout.buffer.write(data)
                    self.shown += len(data)
                sys.stdout.flush()
            if running:
                time.sleep(0.1)

    def stop(self) -> None:
        try:
            self.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def failure(self) -> str | None:
        """What to say of a run that has failed; pytest has told which tests did."""
        status = self.process.returncode
        if status == 0:
            return None
        if status < 0:
            return f"{self.configuration.name} (died of {signal.Signals(-status).name})"
        return self.configuration.name


def terminated(*_: object) -> NoReturn:
    sys.exit("terminated")


def main() -> None:
    # Unlike Ctrl-C in a terminal, this does not reach the runs by itself.
    signal.signal(signal.SIGTERM, terminated)
    parser = argparse.ArgumentParser(usage=__doc__, allow_abbrev=False)
    parser.add_argument("--codec", action="append", help="default: compiled and pure")
    options, arguments = parser.parse_known_args()
    configurations = [
        *(
            Configuration(codec, {"WEBSOCKETS_CODEC": codec}, [])
            for codec in options.codec or ["compiled", "pure"]
        ),
        DELIVERY_OFF,
    ]
    runs: list[Run] = []
    try:
        for configuration in configurations:
            log = tempfile.TemporaryFile() if runs else None
            runs.append(Run(configuration, arguments, log))
        for run in runs:
            # A run that died has left its line unfinished.
            print("\n==", *map("=".join, run.configuration.environment.items()), flush=True)
            try:
                run.follow()
            except KeyboardInterrupt:
                # The terminal has interrupted the runs, too.
                run.follow(GRACE)
                sys.exit("interrupted")
    finally:
        # Nothing but an interrupt makes pytest and its tests end the processes that they started.
        for run in runs:
            run.process.send_signal(signal.SIGINT)
        for run in runs:
            run.stop()
    if failed := [failure for run in runs if (failure := run.failure())]:
        sys.exit(f"the tests failed on: {', '.join(failed)}")


if __name__ == "__main__":
    main()
