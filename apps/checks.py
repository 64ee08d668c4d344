"""The checks of a script: each is a coroutine function; applications.py reads what they print."""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

TIMEOUT = 20.0  # seconds, for each check

Check = Callable[..., Awaitable[None]]


def expect(found: object, wanted: object) -> None:
    if found != wanted:
        raise AssertionError(f"expected {str(wanted)[:200]!r}, found {str(found)[:200]!r}")


class Checks:
    def __init__(self) -> None:
        self.functions: list[Check] = []
        self.failed = 0

    def add(self, function: Check) -> Check:
        """Make a function a check; its name says what is checked."""
        self.functions.append(function)
        return function

    async def run(self, *arguments: Any, prefix: str = "") -> None:
        """Run all checks with the arguments given."""
        for function in self.functions:
            await self.one(prefix + function.__name__, function(*arguments))

    async def one(self, name: str, check: Awaitable[None]) -> None:
        try:
            async with asyncio.timeout(TIMEOUT):
                await check
        except Exception as exc:
            traceback.print_exc(file=sys.stdout)
            print(f"{name} FAILED: {type(exc).__name__}: {exc}", flush=True)
            self.failed += 1
        else:
            print(f"{name} ok", flush=True)

    def finish(self) -> None:
        sys.exit(self.failed > 0)
