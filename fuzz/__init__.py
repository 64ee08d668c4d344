"""Fuzz targets: what bytes from a hostile peer must never do.

Each module but ``common`` is a target: ``one_input(data)`` raises if an input shows a fault, and
``seeds()`` returns inputs to start from. ``python -m fuzz`` searches with atheris, guided by the
coverage of the Python in ``websockets``; ``tests/test_fuzz.py`` replays seeds and corpora without.
"""

from __future__ import annotations

__all__ = ["TARGETS"]

#: Names of the targets: modules here, and directories in ``corpus``.
TARGETS = ("codec", "http", "handshake", "deflate", "pipe", "proxy", "redirect")
