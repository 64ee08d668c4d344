"""What a scenario writes into its record, and how values are put into words."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import hashlib
import inspect
import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame
from websockets.http11 import Request, Response

#: Longest text or bytes that are shown whole; of longer ones, the length and a digest.
SHOWN = 300

DATE = re.compile(r"\b\w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT")

Function = Callable[["Scenario"], Awaitable[None] | None]

#: All scenarios, by name: the module's, a slash, and the function's.
SCENARIOS: dict[str, Function] = {}


def scenario(function: Function) -> Function:
    """Register a function, of asyncio or not, as a scenario."""
    name = f"{function.__module__.rpartition('.')[2]}/{getattr(function, '__name__', '')}"
    if name in SCENARIOS:
        raise ValueError(f"there are two scenarios called {name}")
    if not inspect.getdoc(function):
        raise ValueError(f"{name} does not say what it is about")
    SCENARIOS[name] = function
    return function


class Track:
    """What happened in one place, in order.

    What happens in two places at the same time goes to two tracks, as its order is not fixed.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, what: str, *values: object) -> None:
        """Write down what happened, and values."""
        self.lines.append(": ".join([what, ", ".join(map(describe, values))]) if values else what)

    @contextlib.contextmanager
    def failing(self, what: str) -> Iterator[None]:
        """Write down the exception that comes out of the block, or that there is none."""
        try:
            yield
        except Exception as exc:
            self.note(what, exc)
        else:
            self.note(f"{what}: no exception")


class Scenario(Track):
    """The record of one run of a scenario; itself the track of its function."""

    def __init__(self) -> None:
        super().__init__()
        self.tracks: dict[str, Track] = {"main": self}
        self.ports: list[int] = []

    def track(self, name: str) -> Track:
        """Return the track of that name."""
        return self.tracks.setdefault(name, Track())

    def record(self) -> dict[str, list[str]]:
        """Return the lines of each track, without what differs from run to run."""
        return {
            name: [self.normalise(line) for line in track.lines]
            for name, track in sorted(self.tracks.items())
            if track.lines
        }

    def normalise(self, line: str) -> str:
        for port in self.ports:
            line = re.sub(rf"\b{port}\b", "PORT", line)
        line = re.sub(r"0x[0-9a-f]{6,}", "0xADDRESS", line)
        line = re.sub(r"/tmp/[\w./-]+", "/tmp/PATH", line)
        line = re.sub(r"Python/3\.\d+", "Python/3.N", line)
        line = re.sub(r"_ssl\.c:\d+", "_ssl.c:LINE", line)
        return DATE.sub("DATE", line)


def describe(value: object) -> str:
    """Put a value into words, the same ones wherever it is the same."""
    if isinstance(value, BaseException):
        return describe_exception(value)
    if isinstance(value, enum.Enum):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, (str, bytes, bytearray, memoryview)):
        return describe_data(value)
    if isinstance(value, Headers):
        return f"Headers({list(value.raw_items())})"
    if isinstance(value, Request):
        return f"Request({value.path!r}, {describe(value.headers)})"
    if isinstance(value, Response):
        head = f"{value.status_code} {value.reason_phrase}"
        return f"Response({head}, {describe(value.headers)}, {describe(bytes(value.body))})"
    if isinstance(value, dict):
        pairs = (f"{describe(key)}: {describe(item)}" for key, item in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__}({', '.join(map(describe, value))})"
    if isinstance(value, Frame):
        bits = "".join(str(int(bit)) for bit in (value.fin, value.rsv1, value.rsv2, value.rsv3))
        return f"Frame({describe(value.opcode)}, {describe(bytes(value.data))}, {bits})"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = (describe(getattr(value, item.name)) for item in dataclasses.fields(value))
        return f"{type(value).__name__}({', '.join(fields)})"
    return repr(value)


def describe_data(value: str | bytes | bytearray | memoryview) -> str:
    if len(value) <= SHOWN:
        return repr(bytes(value)) if isinstance(value, memoryview) else repr(value)
    data = value.encode() if isinstance(value, str) else bytes(value)
    data = DATE.sub("DATE", data.decode("latin-1")).encode("latin-1")
    digest = hashlib.sha256(data).hexdigest()[:16]
    return f"{type(value).__name__} of {len(value)}, {digest}"


def describe_exception(exc: BaseException) -> str:
    """Put an exception into words, with the chain of its causes."""
    text = f"{type(exc).__module__}.{type(exc).__qualname__}({str(exc)!r})"
    if isinstance(exc, ConnectionClosed):
        details: list[Any] = [exc.rcvd, exc.sent, exc.rcvd_then_sent]
        text += f" [{', '.join(map(describe, details))}]"
    if exc.__cause__ is not None:
        text += f" from {describe_exception(exc.__cause__)}"
    return text
