"""Run scenarios on the ``websockets`` that this Python has: ``python -P play.py NAME...``.

Prints the version of that package, then for each scenario a line of JSON with its name and its
record, as soon as it is done. Without -P, the directory of this file would come before installed
packages.
"""

from __future__ import annotations

import asyncio
import gc
import importlib.metadata
import json
import logging
import os
import random
import re
import sys
import traceback
import warnings
from itertools import count
from pathlib import Path

#: Seconds for one scenario, many times what it takes on a busy machine.
LIMIT = 15.0

#: What the operating system's random bytes are made of: the masking key of RFC 6455 section 5.7.
KEY = bytes.fromhex("37fa213d")


class Randomness:
    """Stands in for the operating system's, so that keys and masks are the same each time."""

    def __init__(self) -> None:
        self.different = count(1)
        #: Whether 4 bytes have to be different each time, as identifiers of pings must.
        self.unique = True

    def __call__(self, size: int, /) -> bytes:
        if size == 4 and self.unique:
            return next(self.different).to_bytes(4)
        return (KEY * (size // 4 + 1))[:size]


RANDOMNESS = Randomness()

# Before anything imports them by name: masking keys are taken in blocks, the first of them early.
os.urandom = RANDOMNESS
random._urandom = RANDOMNESS  # type: ignore[attr-defined]

# Behind what is installed, as the directory also has this project's websockets.
sys.path.append(str(Path(__file__).resolve().parent.parent))

from oracle import scenarios  # noqa: E402, F401
from oracle.scenario import SCENARIOS, Function, Scenario  # noqa: E402


class Recorder(logging.Handler):
    """Writes log records into the record of a scenario, a track for each logger."""

    def __init__(self, scenario: Scenario) -> None:
        super().__init__()
        self.scenario = scenario

    def emit(self, record: logging.LogRecord) -> None:
        line = f"{record.levelname} {record.getMessage()}"
        if record.name == "asyncio":
            # What follows depends on the version of Python: arguments, paths, lines of code.
            line = re.split(r"[(\n]", line)[0]
        if hasattr(record, "websocket"):
            line = f"[{record.websocket.__class__.__name__}] {line}"
        track = self.scenario.track(f"log {record.name}")
        if record.exc_info and record.exc_info[1] is not None:
            track.note(line, record.exc_info[1])
        else:
            track.note(line)


def play(function: Function) -> dict[str, list[str]]:
    """Run a scenario and return its record."""
    scenario = Scenario()
    handler = Recorder(scenario)
    logging.getLogger().handlers[:] = [handler]
    RANDOMNESS.unique = asyncio.iscoroutinefunction(function)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            if asyncio.iscoroutinefunction(function):
                asyncio.run(asyncio.wait_for(function(scenario), LIMIT))
            else:
                function(scenario)
        except BaseException as exc:
            frames = traceback.extract_tb(exc.__traceback__)
            ours = [frame for frame in frames if Path(frame.filename).parent.name == "scenarios"]
            where = f"line {ours[-1].lineno}" if ours else "outside of it"
            scenario.track("crash").note(where, exc)
        # Exceptions that nobody asked for are logged when their task or future is freed.
        gc.collect()
    for warning in caught:
        if not issubclass(warning.category, ResourceWarning):
            scenario.track("warnings").note(warning.category.__name__, str(warning.message))
    return scenario.record()


def main() -> None:
    logging.getLogger().setLevel(logging.DEBUG)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    logging.getLogger("quiet").setLevel(logging.INFO)
    print(importlib.metadata.version("websockets"), flush=True)
    for name in sys.argv[1:]:
        print(json.dumps([name, play(SCENARIOS[name])]), flush=True)


if __name__ == "__main__":
    main()
