"""The scenarios. Each module registers its own when it is imported."""

from . import (
    client_handshake,
    closing,
    errors,
    messages,
    sansio,
    server_handshake,
    tasks,
)

__all__ = [
    "client_handshake",
    "closing",
    "errors",
    "messages",
    "sansio",
    "server_handshake",
    "tasks",
]
