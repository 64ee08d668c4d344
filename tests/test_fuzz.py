"""The fuzz targets on their seeds, and on the corpora that searching has left."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from websockets.datastructures import Headers

fuzz = pytest.importorskip("fuzz", reason="the fuzz targets are not here")

CORPUS = Path(__file__).resolve().parents[1] / "fuzz" / "corpus"


def load(target: str) -> ModuleType:
    return importlib.import_module(f"fuzz.{target}")


def inputs() -> Iterator[tuple[str, str, bytes]]:
    """Yield target, name and content of every input."""
    for target in fuzz.TARGETS:
        for name, data in load(target).seeds().items():
            yield target, name, data
        for path in sorted((CORPUS / target).iterdir()):
            yield target, path.name, path.read_bytes()


INPUTS = list(inputs())


@pytest.mark.parametrize(
    "target, data",
    [(target, data) for target, _, data in INPUTS],
    ids=[f"{target}-{name}" for target, name, _ in INPUTS],
)
def test_input(target: str, data: bytes) -> None:
    load(target).one_input(data)


@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_corpus_is_small(target: str) -> None:
    sizes = [path.stat().st_size for path in (CORPUS / target).iterdir()]
    assert 0 < len(sizes) <= 100
    assert sum(sizes) <= 200_000


def smuggle(request: Any) -> bytes:
    return b"GET / HTTP/1.1\r\nA: b\r\n\r\n"


# What is wrong on purpose: for each, at least one seed must show it.
FAULTS: dict[str, tuple[str, str, Any]] = {
    "payload": ("codec", "websockets._codec.apply_mask", lambda data, key: bytes(data)),
    "length": ("codec", "websockets._codec.LARGEST", 200),
    "header": ("codec", "websockets._codec.encode_header", lambda *args: b"\x81\x00"),
    "text": ("codec", "websockets._codec.Utf8Validator.feed", lambda *args: None),
    "eof": ("codec", "websockets._codec.FrameReader.eof_error", lambda self: EOFError()),
    "request": ("http", "websockets.http11.Request.serialize", smuggle),
    "rest": ("http", "websockets.http11.RequestParser.take_rest", lambda self: b"!"),
    "headers": ("http", "websockets.datastructures.Headers.count_lines", lambda self: 1000),
    "uri": ("http", "fuzz.http.parse_uri", lambda uri: 1 / 0),
    "key": ("handshake", "websockets.server.accept_key", lambda key: "wrong"),
    "upgrade": ("handshake", "websockets.server.check_upgrade", lambda headers: None),
    "accept": ("handshake", "websockets.client.get_single", lambda headers, name: "wrong"),
    "inflate": ("deflate", "fuzz.deflate.PerMessageDeflate.inflate", lambda *args: b"!"),
    "module": ("deflate", "websockets.extensions.deflate.TAIL", b""),
    "close": ("pipe", "websockets.protocol.Protocol.send_eof", lambda self: None),
    "tunnel": ("proxy", "websockets.http11.is_interim", lambda status: False),
    "authority": ("proxy", "websockets.proxy.build_host", lambda *args, **kwargs: "example.com:80"),
    "credentials": ("redirect", "websockets.asyncio.client.without_credentials", Headers),
    "origin": ("redirect", "websockets.asyncio.client.is_same_origin", lambda one, other: True),
    "target": ("redirect", "websockets.asyncio.client.redirect_target", lambda uri, exc: 1 / 0),
    "password": ("redirect", "websockets.exceptions.without_password", lambda url: url),
    "cause": ("redirect", "websockets.uri.explain_url", lambda url, exc: (str(exc), exc)),
    "pong": ("pipe", "websockets.protocol.Protocol._check_state", lambda self, *states: None),
}


# They show only in the difference between the codecs.
NEED_BOTH = {"length", "eof"}


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name in NEED_BOTH and len(load("codec").CODECS) == 1:
        pytest.skip("there is one codec")
    target, path, fault = FAULTS[name]
    module = load(target)
    monkeypatch.setattr(path, fault)
    found = []
    for seed, data in module.seeds().items():
        try:
            module.one_input(data)
        except Exception:
            found.append(seed)
    assert found
