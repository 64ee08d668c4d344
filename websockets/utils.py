"""Small functions of the opening handshake, a name for a socket, and masking by its public name."""

from __future__ import annotations

import binascii
import hashlib
import os
from typing import Any, Protocol

from .codec import apply_mask

__all__ = ["accept_key", "apply_mask", "get_socket_name"]

#: RFC 6455 section 1.3.
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def generate_key() -> str:
    """
    Return a new value for ``Sec-WebSocket-Key``.

    RFC 6455 section 4.1, point 7: 16 random bytes, for each connection anew, in base64.
    """
    return binascii.b2a_base64(os.urandom(16), newline=False).decode()


def accept_key(key: str) -> str:
    """
    Return the value of ``Sec-WebSocket-Accept`` for a key (RFC 6455 section 4.2.2, point 5.4).

    Args:
        key: value of ``Sec-WebSocket-Key``.
    """
    # Not a use of SHA-1 for secrecy: without saying so it is refused on FIPS systems.
    digest = hashlib.sha1((key + GUID).encode(), usedforsecurity=False).digest()
    return binascii.b2a_base64(digest, newline=False).decode()


class _Socket(Protocol):
    def getsockname(self) -> Any: ...


def get_socket_name(sock: _Socket) -> str:
    r"""
    Return the local address of a socket for people to read.

    Args:
        sock: an IPv4, IPv6 or Unix socket.

    Returns:
        ``host:port``, ``[host]:port``, the path, or ``b'\x00name'`` for an abstract Unix socket.
    """
    name = sock.getsockname()
    if isinstance(name, tuple):
        host, port = name[:2]
        return f"[{host}]:{port}" if len(name) == 4 else f"{host}:{port}"
    return name if isinstance(name, str) else repr(name)
