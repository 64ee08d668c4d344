"""Settings that are read from the environment when the package is imported."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import TypeVar

__all__ = ["read_integer", "read_number"]

Number = TypeVar("Number", int, float)


def read_integer(name: str, default: int) -> int:
    """
    Return a setting that is a size or a count.

    Args:
        name: name of the environment variable.
        default: what it is when the variable is not set.

    Raises:
        ValueError: if it is not an integer, or negative.
    """
    return _read(name, default, int, "an integer")


def read_number(name: str, default: float) -> float:
    """
    Return a setting that is a time in seconds, or a factor.

    Args:
        name: name of the environment variable.
        default: what it is when the variable is not set.

    Raises:
        ValueError: if it is not a number, or negative.
    """
    return _read(name, default, float, "a number")


def _read(name: str, default: Number, convert: Callable[[str], Number], kind: str) -> Number:
    text = os.environ.get(name)
    if text is None:
        return default
    with contextlib.suppress(ValueError):
        value = convert(text)
        if value >= 0:
            return value
    raise ValueError(f"{name} must be {kind}, 0 or more, not {text!r}")
