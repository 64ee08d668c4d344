"""The scenarios. Each module registers its own when it is imported."""

from . import (
    applications,
    client_handshake,
    closing,
    compression,
    documented,
    errors,
    keepalive,
    library,
    messages,
    reconnecting,
    routing,
    sansio,
    server_handshake,
    servers,
    tasks,
    transports,
)

__all__ = [
    "applications",
    "client_handshake",
    "closing",
    "compression",
    "documented",
    "errors",
    "keepalive",
    "library",
    "messages",
    "reconnecting",
    "routing",
    "sansio",
    "server_handshake",
    "servers",
    "tasks",
    "transports",
]
