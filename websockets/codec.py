"""The codec in use: the compiled one, or the same in Python where it was not built.

``WEBSOCKETS_CODEC=compiled`` or ``WEBSOCKETS_CODEC=pure`` in the environment forces either.
"""

from __future__ import annotations

import os

__all__ = [
    "IMPLEMENTATION",
    "READ_SIZE",
    "FrameReader",
    "Utf8Validator",
    "apply_mask",
    "encode_frame",
    "encode_header",
    "text_buffer",
]

_choice = os.environ.get("WEBSOCKETS_CODEC", "")

if _choice not in ("", "compiled", "pure"):
    raise ImportError(f"WEBSOCKETS_CODEC must be 'compiled' or 'pure', not {_choice!r}")

if _choice != "pure":
    try:
        from ._speedups import (
            IMPLEMENTATION,
            READ_SIZE,
            FrameReader,
            Utf8Validator,
            apply_mask,
            encode_frame,
            encode_header,
            text_buffer,
        )
    except ImportError as exc:
        if _choice == "compiled":
            raise ImportError(
                "WEBSOCKETS_CODEC=compiled, but the compiled codec is not available; "
                "build it with a C compiler at hand: "
                "WEBSOCKETS_BUILD_EXTENSION=yes pip install --no-binary websockets ..."
            ) from exc
        _choice = "pure"

if _choice == "pure":
    from ._codec import (  # type: ignore[assignment]
        IMPLEMENTATION,
        READ_SIZE,
        FrameReader,
        Utf8Validator,
        apply_mask,
        encode_frame,
        encode_header,
        text_buffer,
    )
