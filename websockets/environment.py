"""Settings that are read from the environment when the package is imported."""

from __future__ import annotations

import os

__all__ = ["read_integer", "read_number"]


def read_integer(name: str, default: int) -> int:
    """
    Return a setting that is a size or a count.

    Args:
        name: name of the environment variable.
        default: what it is when the variable is not set.

    Raises:
        ValueError: if it is not an integer, or negative.
    """
    text = os.environ.get(name)
    if text is None:
        return default
    try:
        value = int(text)
    except ValueError:
        value = -1
    if value < 0:
        raise ValueError(f"{name} must be an integer, 0 or more, not {text!r}")
    return value


def read_number(name: str, default: float) -> float:
    """
    Return a setting that is a time in seconds, or a factor.

    Args:
        name: name of the environment variable.
        default: what it is when the variable is not set.

    Raises:
        ValueError: if it is not a number, or negative.
    """
    text = os.environ.get(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not value >= 0:
        raise ValueError(f"{name} must be a number, 0 or more, not {text!r}")
    return value
