"""Resuming a task at once, inside the callback that has something for it, and writing at once.

A future wakes its task through another turn of the event loop. A :class:`Waiter` is not a future;
it follows the same protocol, so that a task can await it, and runs the task's wake-up when it is
told to. ``_speedups.pyx`` has the same in Cython.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import sys
from collections.abc import Callable, Generator
from typing import Any

__all__ = ["Waiter", "set_direct", "write_now"]


if sys.version_info >= (3, 12):
    current_task = asyncio.current_task
else:
    # The same, without a function in Python around it.
    from asyncio.tasks import _current_tasks  # type: ignore[attr-defined]

    current_task = _current_tasks.get

_direct = True


def set_direct(direct: bool) -> None:
    """Turn on or off that tasks are resumed at once."""
    global _direct
    _direct = direct


class Waiter:
    """An awaitable for one task at a time.

    It carries no result: awaiting it ends when :meth:`wake` is called, or with a cancellation.
    """

    __slots__ = (
        "_asyncio_future_blocking",
        "_callback",
        "_cancelled",
        "_context",
        "_done",
        "_entered",
        "_loop",
        "_message",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._asyncio_future_blocking = False
        self._loop = loop
        self._callback: Callable[[Waiter], object] | None = None
        self._context: contextvars.Context | None = None
        self._done = False
        self._cancelled = False
        self._message: object = None
        self._entered = False

    def wake(self) -> None:
        """Resume the task: now if that is possible, else in the next turn of the event loop."""
        global _direct
        if self._done:
            return
        self._done = True
        callback, context = self._callback, self._context
        if callback is None:
            return
        # While a task is running, stepping another is an error.
        if _direct and context is not None and current_task(self._loop) is None:
            try:
                context.run(callback, self)
            except RuntimeError:
                # The context is entered already, by whoever called us.
                if self._entered:
                    raise
            except (KeyboardInterrupt, SystemExit) as exc:
                # They leave the event loop, but some swallow them in a callback of a transport.
                self._loop.call_soon(_raise, exc)
                return
            else:
                if not self._entered:
                    # The wake-up did not run the task: this interpreter does it in another way.
                    _direct = False
                return
        self._loop.call_soon(callback, self, context=context)

    # What a task needs of a future

    def __await__(self) -> Generator[Waiter, None, None]:
        if not self._done:
            self._asyncio_future_blocking = True
            yield self
        self.result()

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def add_done_callback(
        self,
        callback: Callable[[Waiter], object],
        *,
        context: contextvars.Context | None = None,
    ) -> None:
        if self._done:
            self._loop.call_soon(callback, self, context=context)
        else:
            self._callback, self._context = callback, context

    def remove_done_callback(self, callback: Callable[[Waiter], object]) -> int:
        if self._callback != callback:
            return 0
        self._callback = None
        return 1

    def cancel(self, msg: Any = None) -> bool:
        """Cancel, as a task does with what it awaits."""
        if self._done:
            return False
        self._done = self._cancelled = True
        self._message = msg
        if self._callback is not None:
            self._loop.call_soon(self._callback, self, context=self._context)
        return True

    def done(self) -> bool:
        return self._done

    def cancelled(self) -> bool:
        return self._cancelled

    def result(self) -> None:
        self._entered = True
        if self._cancelled:
            if self._message is None:
                raise asyncio.CancelledError
            raise asyncio.CancelledError(self._message)
        if not self._done:
            raise asyncio.InvalidStateError("Result is not set.")

    def exception(self) -> None:
        self.result()


def _raise(exc: BaseException) -> None:
    raise exc


def write_now(fd: int, data: bytes) -> int:
    """Write to a socket without waiting.

    Returns:
        How many bytes were written; -1 if there was an error, which the transport will meet too.
    """
    try:
        return os.write(fd, data)
    except OSError:
        return -1
