"""The scenarios. Each module registers its own when it is imported."""

from . import client_handshake, closing, messages, server_handshake

__all__ = ["client_handshake", "closing", "messages", "server_handshake"]
