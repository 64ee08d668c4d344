"""
The API level this package implements.

Callers parse and compare these strings, so they hold the level alone; what distinguishes this
distribution from others at the same level is in the distribution's own version.
"""

from __future__ import annotations

__all__ = ["tag", "version", "commit"]

released = True

tag = version = commit = "17.4"
