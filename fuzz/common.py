"""What the targets share: reading decisions from an input, and frames built by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

__all__ = ["Cursor", "Outcome", "cut", "frame", "outcome", "split_frame", "xor"]

T = TypeVar("T")


class Cursor:
    """Reads decisions from the front of an input; once that is used up, they are zeros."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def __bool__(self) -> bool:
        """Whether bytes are left."""
        return self._position < len(self._data)

    def take(self, size: int) -> bytes:
        """Return the next bytes, less than ``size`` at the end."""
        start = self._position
        self._position = min(start + size, len(self._data))
        return self._data[start : self._position]

    def rest(self) -> bytes:
        """Return all bytes that are left."""
        return self.take(len(self._data))

    def byte(self) -> int:
        """Return a number below 256."""
        return self.take(1)[0] if self else 0

    def flag(self) -> bool:
        """Return a truth value."""
        return self.byte() & 1 == 1

    def pick(self, options: Sequence[T]) -> T:
        """Return one of up to 256 options."""
        return options[self.byte() % len(options)]


#: What a call returned, and the exception that it raised: one of them is not :obj:`None`.
Outcome = tuple[object, Exception | None]


def outcome(call: Callable[[], object], *allowed: type[Exception]) -> Outcome:
    """Return what a call returns or raises.

    Args:
        call: the call.
        allowed: what it may raise; another exception is a finding, and escapes.
    """
    try:
        return call(), None
    except allowed as exc:
        return None, exc


def xor(data: bytes, key: bytes) -> bytes:
    """Mask or unmask (RFC 6455 section 5.3)."""
    size = len(data)
    pad = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "big") ^ int.from_bytes(pad, "big")).to_bytes(size, "big")


def frame(head: int, payload: bytes = b"", key: bytes | None = None, form: int = 0) -> bytes:
    """Build a frame (RFC 6455 section 5.2), however wrong.

    Args:
        head: first byte: FIN, reserved bits and opcode.
        payload: payload, not masked yet.
        key: masking key of four bytes, :obj:`None` for no masking.
        form: bytes of the extended length, 0, 2 or 8; more if it takes more.
    """
    size = len(payload)
    shortest = 0 if size < 126 else 2 if size < 65536 else 8
    form = max(form, shortest)
    length = {0: size, 2: 126, 8: 127}[form]
    start = bytes([head, (0 if key is None else 0x80) | length]) + (
        size.to_bytes(form, "big") if form else b""
    )
    return start + payload if key is None else start + key + xor(payload, key)


def split_frame(data: bytes) -> tuple[int, bool, bytes, bytes] | None:
    """Take the first frame off a stream.

    Returns:
        First byte, whether it was masked, payload, and what follows; None if it is not complete.
    """
    if len(data) < 2:
        return None
    masked, size, start = data[1] >= 0x80, data[1] & 127, 2
    if size >= 126:
        start = 4 if size == 126 else 10
        size = int.from_bytes(data[2:start], "big")
        assert size >= (126 if start == 4 else 65536), "section 5.2: the shortest form"
    end = start + (4 if masked else 0) + size
    if len(data) < end:
        return None
    payload = data[end - size : end]
    if masked:
        payload = xor(payload, data[start : start + 4])
    return data[0], masked, payload, data[end:]


def cut(data: bytes, sizes: Sequence[int]) -> list[bytes]:
    """Cut data into pieces.

    Args:
        data: the data.
        sizes: sizes of the pieces, over and over; the last piece is what is left.
    """
    pieces: list[bytes] = []
    position = 0
    while position < len(data):
        size = max(1, sizes[len(pieces) % len(sizes)]) if sizes else len(data)
        pieces.append(data[position : position + size])
        position += size
    return pieces
