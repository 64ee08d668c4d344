"""The channel in use: the compiled one with the compiled codec, or the same in Python.

``WEBSOCKETS_DIRECT_DELIVERY=0`` in the environment turns direct delivery off: tasks are then
resumed in the next turn of the event loop, and everything is written by the transport.
"""

from __future__ import annotations

import os

from ..codec import IMPLEMENTATION

__all__ = ["DIRECT", "Channel", "wake"]

try:
    if IMPLEMENTATION != "compiled":
        raise ImportError
    from ._speedups import Channel, set_direct, wake
except ImportError:  # each extension is optional
    from ._channel import (  # type: ignore[assignment]
        Channel,
        set_direct,
        wake,
    )

_choice = os.environ.get("WEBSOCKETS_DIRECT_DELIVERY", "")

if _choice not in ("", "0", "1"):
    raise ValueError(f"WEBSOCKETS_DIRECT_DELIVERY must be 0 or 1, not {_choice!r}")

DIRECT = _choice != "0"

set_direct(DIRECT)
