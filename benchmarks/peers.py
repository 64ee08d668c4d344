"""How each peer is run: which Python, in which environment, and which program."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cases

HERE = Path(__file__).resolve().parent

# Name in servers.py and clients.py.
LIBRARY = {
    cases.OURS: "websockets",
    cases.OURS_ZLIB_NG: "websockets",
    cases.OURS_ISAL: "websockets",
    cases.PURE: "websockets",
    cases.OURS_LEGACY: "websockets.legacy",
    cases.PICOWS: "picows",
    cases.PICOWS_WEBSOCKETS: "picows.websockets",
    cases.AIOHTTP: "aiohttp",
    cases.WEBSOCKETS: "websockets",
    cases.WEBSOCKETS_LEGACY: "websockets.legacy",
    cases.TCP: "tcp",
}
CODEC = {
    cases.OURS: "compiled",
    cases.OURS_ZLIB_NG: "compiled",
    cases.OURS_ISAL: "compiled",
    cases.PURE: "pure",
    cases.OURS_LEGACY: "compiled",
}
# What compresses, where it is not Python's own zlib.
ZLIB = {cases.OURS_ZLIB_NG: "zlib_ng", cases.OURS_ISAL: "isal"}


@dataclass(frozen=True)
class Programs:
    """
    Makes command lines. All Python peers run under the Python that runs this, with what is
    installed there; this library comes before it, from the directory ``tree``.
    """

    tree: Path
    node_modules: Path | None

    def environment(self, peer: str) -> dict[str, str]:
        # Nobody's settings of Python (debug mode, no bytecode files) are measured.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        for name in ("WEBSOCKETS_CODEC", "WEBSOCKETS_ZLIB"):
            environment.pop(name, None)
        if peer in CODEC:
            environment["PYTHONPATH"] = str(self.tree)
            environment["WEBSOCKETS_CODEC"] = CODEC[peer]
            environment["WEBSOCKETS_ZLIB"] = ZLIB.get(peer, "zlib")
        if peer == cases.NODE:
            environment["NODE_PATH"] = str(self.node_modules)
        return environment

    def server(self, peer: str, loop: str, duty: str, *options: str) -> list[str]:
        if peer == cases.NODE:
            return ["node", str(HERE / "node_echo.cjs")]
        if peer == cases.C:
            return [wsload(), duty, "127.0.0.1", "0"]
        return [sys.executable, str(HERE / "servers.py"), LIBRARY[peer], loop, duty, *options]

    def client(self, peer: str, loop: str, duty: str, *options: str) -> list[str]:
        return [sys.executable, str(HERE / "clients.py"), LIBRARY[peer], loop, duty, *options]

    def script(self, peer: str, name: str, *options: str) -> list[str]:
        return [sys.executable, str(HERE / name), LIBRARY[peer], *options]

    def available(self, peer: str, loop: str) -> bool:
        # Those that run on no loop of Python's take their turns next to those on asyncio's.
        if peer in (cases.NODE, cases.C) and loop == cases.UVLOOP:
            return False
        if peer in ZLIB and importlib.util.find_spec(ZLIB[peer]) is None:
            return False
        return peer != cases.NODE or self.node_modules is not None

    def versions(self) -> dict[str, str]:
        """Return versions, having made sure that each ``websockets`` is the one it is taken for."""
        found = {"Python": sys.version.split()[0]}
        for peer in (cases.OURS, cases.PURE, cases.WEBSOCKETS):
            has = self._ask(
                peer,
                "import importlib.util, json, websockets, websockets.speedups as s\n"
                if peer == cases.WEBSOCKETS
                else "import json, websockets.codec as s\n",
                "import websockets; print(json.dumps([websockets.__file__, s.__file__, "
                "getattr(s, 'IMPLEMENTATION', 'C extension')]))",
            )
            ours = Path(has[0]).is_relative_to(self.tree) and "site-packages" not in has[0]
            if ours != (peer in CODEC):
                raise SystemExit(f"{peer}: {has[0]} is not it")
            if peer in CODEC and has[2] != CODEC[peer]:
                raise SystemExit(f"{peer}: runs on the {has[2]} codec")
            if peer == cases.WEBSOCKETS and not has[1].endswith((".so", ".pyd")):
                raise SystemExit(f"{peer}: has no C extension")
        found[cases.OURS] = self._revision()
        installed = self._ask(
            cases.WEBSOCKETS,
            "import json, importlib.metadata as m\n",
            "print(json.dumps({d.name: d.version for d in m.distributions()}))",
        )
        for name in ("websockets", "picows", "aiofastnet", "aiohttp", "uvloop", "zlib-ng", "isal"):
            found[name] = installed.get(name, "not installed")
        if self.node_modules is not None:
            found["ws"] = json.loads((self.node_modules / "ws" / "package.json").read_text())[
                "version"
            ]
            found["Node.js"] = _output("node", "--version")
        found["zlib"] = zlib.ZLIB_RUNTIME_VERSION
        found["OpenSSL"] = __import__("ssl").OPENSSL_VERSION
        return found

    def _ask(self, peer: str, *code: str) -> Any:
        # -P: the directory that this is run from may hold a websockets of its own.
        return json.loads(
            subprocess.run(
                [sys.executable, "-P", "-c", "".join(code)],
                env=self.environment(peer),
                stdout=subprocess.PIPE,
                check=True,
            ).stdout
        )

    def _revision(self) -> str:
        project = (self.tree / "pyproject.toml").read_text().split('version = "')[1]
        git = ["git", "-C", str(self.tree)]
        revision = _output(*git, "rev-parse", "--short", "HEAD")
        changed = revision and _output(*git, "status", "--porcelain", "websockets")
        words = [project.split('"')[0], revision and f"at {revision}", changed and "with changes"]
        return " ".join(filter(None, words))


def wsload() -> str:
    return str(HERE / "wsload")


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
