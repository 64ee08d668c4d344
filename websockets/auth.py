"""Former name of :mod:`websockets.legacy.auth`. Deprecated."""

from __future__ import annotations

import warnings

warnings.warn(
    "websockets.auth, an alias for websockets.legacy.auth, is deprecated; "
    "use websockets.asyncio.server.basic_auth",
    DeprecationWarning,
    stacklevel=2,
)

from .legacy.auth import (  # noqa: E402
    BasicAuthWebSocketServerProtocol as BasicAuthWebSocketServerProtocol,
)
from .legacy.auth import (  # noqa: E402
    basic_auth_protocol_factory as basic_auth_protocol_factory,
)
