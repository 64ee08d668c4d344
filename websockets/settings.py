"""What users set in numbers: what the settings stand for, and which of them cannot be."""

from __future__ import annotations

from typing import Any

from .codec import FrameReader

__all__ = ["check_settings", "queue_limits", "size_limits", "write_limits"]

# What a number and a pair of numbers have in common.
Limits = int | None | tuple[int | None, int | None]

# As event loops have it.
DEFAULT_WRITE_LIMIT = 64 * 1024


def check_settings(
    *, max_size: Limits, max_queue: Limits, write_limit: Limits, **timeouts: float | None
) -> None:
    """Refuse settings that no connection could be made with.

    Who asks for them is told at once, rather than when the first client comes.

    Args:
        max_size: largest message, or that and the largest fragment.
        max_queue: marks of the queue of messages.
        write_limit: marks of the write buffer.
        **timeouts: numbers of seconds, None for no limit.

    Raises:
        TypeError: if one has a wrong type.
        ValueError: if one has a value that makes no sense; which, is in the text.
    """
    FrameReader(True, *size_limits(max_size))
    queue_limits(max_queue)
    write_limits(write_limit)
    for name, seconds in timeouts.items():
        if seconds is not None:
            _check_seconds(name, seconds)


def size_limits(max_size: Limits) -> tuple[int | None, int | None]:
    """Return the sizes of the largest message and the largest fragment."""
    return _split("max_size", max_size)


def queue_limits(max_queue: Limits) -> tuple[int | None, int]:
    """Return how many messages stop reading, and how many are left when it goes on."""
    high, low = _split("max_queue", max_queue)
    if high is None and low is None:
        return None, 0
    high, low = _complete("max_queue", high, low)
    # A queue without room would stop reading for ever.
    return max(high, 1), low


def write_limits(write_limit: Limits) -> tuple[int, int]:
    """Return how many bytes stop those who send, and how many are left when they go on."""
    high, low = _split("write_limit", write_limit)
    if high is None and low is None:
        high = DEFAULT_WRITE_LIMIT
    return _complete("write_limit", high, low)


def _split(name: str, limits: Limits) -> tuple[int | None, int | None]:
    if limits is None or isinstance(limits, int):
        return limits, None
    if isinstance(limits, (tuple, list)) and len(limits) == 2:
        return limits[0], limits[1]
    raise TypeError(f"{name} must be an integer or a pair of them, not {limits!r}")


def _complete(name: str, high: int | None, low: int | None) -> tuple[int, int]:
    """Add the mark that is missing, at most one of them, as event loops do."""
    if low is None:
        assert high is not None
        low = high // 4
    elif high is None:
        high = low * 4
    if low < 0:
        raise ValueError(f"{name}: low must be positive or equal to zero")
    if high < low:
        raise ValueError(f"{name}: high must be greater than or equal to low")
    return high, low


def _check_seconds(name: str, seconds: Any) -> None:
    try:
        deadline = 0.0 + seconds
    except TypeError:
        raise TypeError(f"{name} must be a number of seconds, not {seconds!r}") from None
    if deadline != deadline:  # it would never pass, nor let others pass
        raise ValueError(f"{name} must be a number of seconds, not {seconds!r}")
