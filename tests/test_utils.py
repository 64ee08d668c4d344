"""Small functions, and the names that other packages look for."""

from __future__ import annotations

import base64
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from websockets import utils, version
from websockets.utils import accept_key, generate_key, get_socket_name


def test_version() -> None:
    """Callers split it at the dots into two integers, and compare it as a string."""
    assert version.version == version.tag == version.commit == "17.4"


@pytest.mark.parametrize(
    ("key", "accept"),
    [
        # RFC 6455 section 1.3
        ("dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        ("\xe9", "Q3nA4bowCsT/eKmBZYzoeYI576k="),
    ],
)
def test_accept_key(key: str, accept: str) -> None:
    assert accept_key(key) == accept


def test_generate_key() -> None:
    """RFC 6455 section 4.1, point 7."""
    keys = {generate_key() for _ in range(100)}
    assert len(keys) == 100
    assert {len(base64.b64decode(key, validate=True)) for key in keys} == {16}


def test_apply_mask() -> None:
    assert utils.apply_mask(b"abcde", b"1234") == b"PPPPT"
    with pytest.raises(ValueError, match="^mask must contain 4 bytes$"):
        utils.apply_mask(b"a", b"123")


def test_unknown_names() -> None:
    with pytest.raises(AttributeError, match="^module 'websockets.utils' has no attribute 'x'$"):
        utils.x  # noqa: B018


class TestSocketName:
    def test_ipv4(self) -> None:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            assert get_socket_name(sock) == f"127.0.0.1:{sock.getsockname()[1]}"

    @pytest.mark.skipif(not socket.has_ipv6, reason="there is no IPv6")
    def test_ipv6(self) -> None:
        with socket.socket(socket.AF_INET6) as sock:
            try:
                sock.bind(("::1", 0))
            except OSError:
                pytest.skip("there is no IPv6 address")
            assert get_socket_name(sock) == f"[::1]:{sock.getsockname()[1]}"

    @pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="there are no Unix sockets")
    def test_unix(self, tmp_path: Path) -> None:
        path = str(tmp_path / "s")
        with socket.socket(socket.AF_UNIX) as sock:
            assert get_socket_name(sock) == ""
            sock.bind(path)
            assert get_socket_name(sock) == path

    @pytest.mark.skipif(sys.platform != "linux", reason="there are no abstract sockets")
    def test_abstract_unix(self) -> None:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind("")
            name = sock.getsockname()
            assert name[0] == 0
            assert get_socket_name(sock) == repr(name)


@pytest.mark.parametrize("module", ["server", "client"])
def test_handshakes_need_no_io(module: str) -> None:
    """The sans-I/O layer loads no networking, and stays light to import."""
    code = f"import sys, websockets.{module}; print(*sys.modules)"
    output = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout
    loaded = set(output.split())
    assert f"websockets.{module}" in loaded
    assert loaded.isdisjoint({"asyncio", "socket", "ssl", "trio", "email", "websockets.legacy"})
