"""The original API, on the modern one. Deprecated; it stays for programs that use it."""

import warnings

warnings.warn(
    "websockets.legacy is deprecated; use websockets.asyncio instead, see docs/migration.md",
    DeprecationWarning,
    stacklevel=2,
)
