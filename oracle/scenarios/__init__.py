"""The scenarios. Each module registers its own when it is imported."""

from . import (
    client_handshake,
    closing,
    compression,
    errors,
    keepalive,
    messages,
    reconnecting,
    routing,
    sansio,
    server_handshake,
    servers,
    tasks,
)

__all__ = [
    "client_handshake",
    "closing",
    "compression",
    "errors",
    "keepalive",
    "messages",
    "reconnecting",
    "routing",
    "sansio",
    "server_handshake",
    "servers",
    "tasks",
]
