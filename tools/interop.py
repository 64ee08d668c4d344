"""
Check this library against peers that nobody here wrote, both ways and on both codecs.

The peers are the released `websockets`, in an environment of its own, and Node's ws. Prints a line
for each combination of client and server, and fails when a check does (interop_peer.py lists them).
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

TOOLS = Path(__file__).resolve().parent
CHECKS = 36  # that a client must report at least, so that none can go missing
LIMIT = 300.0  # seconds, for a client's run


@dataclass(frozen=True)
class Peer:
    name: str
    identity: str  # what the program says it is
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*self.command, *arguments],
            env={**os.environ, **self.environment},
            stdout=subprocess.PIPE,
            text=True,
        )
        found = read_line(process.stdout)
        if found != self.identity:
            process.terminate()
            raise SystemExit(f"{self.name}: expected {self.identity!r}, found {found!r}")
        return process


def read_line(stream: IO[str] | None) -> str:
    assert stream is not None
    return stream.readline().strip()


def run(client: Peer, server: Peer) -> bool:
    """Run a client's checks against a server; print how it went."""
    serving = server.start("server")
    try:
        url = f"ws://127.0.0.1:{read_line(serving.stdout)}"
        checking = client.start("client", url)
        try:
            output, _ = checking.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            checking.kill()
            output, _ = checking.communicate()
            output += f"the client FAILED: not done after {LIMIT:.0f} s\n"
        survived = serving.poll() is None
    finally:
        serving.terminate()
        serving.wait(10)
    passed = [line for line in output.splitlines() if line.endswith(" ok")]
    failed = [line for line in output.splitlines() if not line.endswith(" ok")]
    if not survived:
        failed.append(f"the server FAILED: ended by itself, exit code {serving.returncode}")
    good = not failed and checking.returncode == 0 and len(passed) >= CHECKS
    summary = f"{len(passed)} ok, {len(failed)} failed"
    print(f"{'ok    ' if good else 'FAILED'} {client.name} to {server.name}: {summary}", flush=True)
    for line in failed:
        print(f"       {line}", flush=True)
    return good


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--released", required=True, help="Python that has the released one")
    parser.add_argument("--node-modules", required=True, help="directory that has ws")
    options = parser.parse_args()

    modules = Path(options.node_modules).resolve()
    python_peer = str(TOOLS / "interop_peer.py")
    ours = [
        Peer(
            f"this library ({codec})",
            f"websockets {importlib.metadata.version('websockets')}",
            [sys.executable, python_peer],
            {"WEBSOCKETS_CODEC": codec},
        )
        for codec in ["compiled", "pure"]
    ]
    others = [
        Peer("released websockets 17.4", "websockets 17.4", [options.released, python_peer]),
        Peer(
            "ws on Node.js",
            f"ws {json.loads((modules / 'ws' / 'package.json').read_text())['version']}",
            ["node", str(TOOLS / "interop_peer.cjs")],
            {"NODE_PATH": str(modules)},
        ),
    ]
    results = [
        run(client, server)
        for other in others
        for one in ours
        for client, server in [(one, other), (other, one)]
    ]
    if not all(results):
        raise SystemExit(f"{results.count(False)} of {len(results)} combinations failed")
    print(f"all {len(results)} combinations passed")


if __name__ == "__main__":
    main()
