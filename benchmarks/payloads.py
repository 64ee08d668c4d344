"""
JSON messages to compress: what services send, not one record repeated.

The same size and seed give the same messages under any Python. Each message differs from the others
in its values and shares their keys, as messages of one connection do, so that context takeover
gains what it gains in practice.
"""

from __future__ import annotations

import json
import random
from typing import Any

SEED = 7692

_SYMBOLS = ["ACME", "BRNT", "CYBR", "DLTA", "EURX", "FLOW", "GRID", "HELX", "IONQ", "JUNO"]
_VENUES = ["XNYS", "XNAS", "XLON", "XETR", "XPAR", "XTKS"]
_NAMES = ["Ada", "Björn", "Chloé", "Dmitri", "Esra", "Farid", "Grace", "Hana", "Ivo", "Jürgen"]
_TAGS = ["new", "vip", "trial", "late", "eu", "us", "apac", "paid", "refund", "gift"]
_WORDS = (
    "the order was held at the gate until a driver signed for it and customs had asked for "
    "an invoice which the shop sent by mail on the next working day to the wrong office"
).split()


def _trade(source: random.Random) -> dict[str, Any]:
    return {
        "type": "trade",
        "id": source.randrange(10**9),
        "symbol": source.choice(_SYMBOLS),
        "price": round(source.uniform(1, 900), 2),
        "size": source.randrange(1, 5000),
    }


def _order(source: random.Random) -> dict[str, Any]:
    hour, minute, second = source.randrange(24), source.randrange(60), source.randrange(60)
    return {
        "id": f"{source.getrandbits(64):016x}",
        "time": f"2026-11-22T{hour:02}:{minute:02}:{second:02}.{source.randrange(1000):03}Z",
        "customer": {"name": source.choice(_NAMES), "number": source.randrange(10**6)},
        "venue": source.choice(_VENUES),
        "paid": source.random() < 0.8,
        "discount": source.choice([None, None, 5, 10]),
        "tags": source.sample(_TAGS, source.randrange(4)),
        "lines": [_trade(source) for _ in range(source.randrange(1, 4))],
        "note": " ".join(source.choices(_WORDS, k=source.randrange(9))),
    }


def _encode(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _message(source: random.Random, size: int) -> bytes:
    record: dict[str, Any] = _trade(source)
    if size >= 512:
        record = {"type": "orders", "page": source.randrange(100), "orders": []}
        room = size - len(_encode(record)) - 120
        while (order := _order(source)) and room >= (length := len(_encode(order)) + 1):
            record["orders"].append(order)
            room -= length
    # A remark fills what is left: all messages are of exactly that size.
    room = size - len(_encode({**record, "remark": ""}))
    if room < 0:
        raise ValueError(f"no message has {size} bytes")
    words = " ".join(source.choices(_WORDS, k=room // 3 + 2))
    return _encode({**record, "remark": words[:room]})


def messages(size: int, count: int | None = None, seed: int = SEED) -> list[bytes]:
    """
    Return ``count`` messages of ``size`` bytes each.

    By default there are enough of them that none is still in a window of 32 KiB (RFC 7692 section
    7.1.2) when its turn comes again.
    """
    source = random.Random(seed * 1_000_003 + size)
    return [_message(source, size) for _ in range(count or max(16, min(1024, 2**20 // size)))]
