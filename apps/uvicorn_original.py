"""
A conftest.py for uvicorn's tests: they run on its implementation on the original API.

It is deprecated and no longer tested there, and cannot do all that the others can.
"""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture(params=["websockets"])
def ws_protocol_cls() -> Any:
    from uvicorn.protocols.websockets.websockets_impl import WebSocketProtocol

    return WebSocketProtocol
