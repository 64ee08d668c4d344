"""The documentation: its code runs, its links lead somewhere, and its reference is complete."""

from __future__ import annotations

import ast
import asyncio
import importlib
import inspect
import logging
import pkgutil
import re
import socket
import sys
import textwrap
import tomllib
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import websockets
from websockets.asyncio.client import connect
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import Server, ServerConnection, serve

from .conftest import SLOWNESS
from .helpers import TLS

ROOT = Path(__file__).parent.parent
if not (ROOT / "docs").is_dir():
    pytest.skip("the tests of an installed wheel: no pages", allow_module_level=True)
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]

# Nothing in a page takes longer than this, unless it hangs.
PATIENCE = 20 * SLOWNESS

# Code


@dataclass
class Block:
    """A block of Python in a page; why it is not run, if it is not, is in a comment above it."""

    page: Path
    line: int
    source: str
    not_run: str | None


# A comment that begins with "test" is code that is run, and that readers do not see.
BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<reason>[^\n]+) -->\n+)?"
    r"(?:```python|<!-- test)\n(?P<source>.*?)^(?:```|-->)$",
    re.MULTILINE | re.DOTALL,
)


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, text.count("\n", 0, match.start("source")), match["source"], match["reason"])
        for match in BLOCK.finditer(text)
    ]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


class Page:
    """Runs the code of a page from top to bottom, in one namespace, in an event loop.

    Before it, there are an echo server at ``uri`` and a connection to it, ``websocket``. A program
    that serves for ever goes on until the next one or the end of the page, so that the clients
    below it can talk to it. The port 8765 is a free one.
    """

    def __init__(self, blocks: list[Block]) -> None:
        self.blocks = blocks
        self.port = free_port()
        self.programs: list[Any] = []
        self.started = asyncio.Event()
        self.serving: asyncio.Task[None] | None = None
        self.namespace: dict[str, Any] = {
            "__name__": "__main__",
            "asyncio": asyncio,
            "connect": connect,
            "serve": serve,
        }

    async def run(self) -> None:
        async with asyncio.timeout(PATIENCE), serve(echo, "localhost", 0) as server:
            uri = f"ws://localhost:{server.sockets[0].getsockname()[1]}"
            async with connect(uri) as websocket:
                self.namespace |= {"uri": uri, "websocket": websocket}
                for block in self.blocks:
                    await self.run_block(block)
                await self.stop_serving()

    async def run_block(self, block: Block) -> None:
        # At its line, for tracebacks to show it.
        source = "\n" * block.line + block.source.replace("8765", str(self.port))
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        code = compile(source, str(block.page), "exec", flags=flags, dont_inherit=True)
        if block.not_run:
            return
        waiting = eval(code, self.namespace)
        if inspect.isawaitable(waiting):
            await waiting
        while self.programs:
            program = self.programs.pop()
            if {"serve_forever", "wait_closed"} & {*program.cr_code.co_names}:
                await self.stop_serving()
                await self.start_serving(program)
            else:
                await program

    async def start_serving(self, program: Any) -> None:
        self.started.clear()
        self.serving = asyncio.create_task(program)
        started = asyncio.create_task(self.started.wait())
        await asyncio.wait({self.serving, started}, return_when=asyncio.FIRST_COMPLETED)
        started.cancel()
        assert not self.serving.done(), self.serving

    async def stop_serving(self) -> None:
        if self.serving is not None:
            self.serving.cancel()
            await asyncio.wait({self.serving})
            self.serving = None


async def echo(websocket: ServerConnection) -> None:
    async for message in websocket:
        await websocket.send(message)


def free_port() -> int:
    with socket.create_server(("localhost", 0)) as sock:
        port: int = sock.getsockname()[1]
    return port


@pytest.fixture
def logging_as_before() -> Iterator[None]:
    """Undo what the code on a page does to loggers, which outlives it."""
    names = ("", "websockets", "websockets.client", "websockets.server")
    loggers = [logging.getLogger(name) for name in names]
    before = [(x.level, x.handlers[:], x.filters[:], x.propagate) for x in loggers]
    yield
    for logger, (level, handlers, filters, propagate) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.handlers[:], logger.filters[:] = handlers, filters
        logger.propagate = propagate


@pytest.mark.usefixtures("logging_as_before")
@pytest.mark.parametrize("page", [page for page in PAGES if blocks_of(page)], ids=name_of)
def test_code_runs_and_prints_what_it_says(
    page: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tls: TLS,
) -> None:
    monkeypatch.chdir(tmp_path)
    certificate = tls.authority.issue_cert("localhost")
    certificate.cert_chain_pems[0].write_to_path("certificate.pem")
    certificate.private_key_pem.write_to_path("key.pem")
    tls.authority.cert_pem.write_to_path("authority.pem")
    run = asyncio.run

    async def main() -> None:
        reader = Page(blocks_of(page))
        start = Server.start

        async def start_and_tell(server: Server) -> Server:
            await start(server)
            reader.started.set()
            return server

        with monkeypatch.context() as patches:
            patches.setattr(Server, "start", start_and_tell)
            # What a program runs, runs in the event loop that is there.
            patches.setattr(asyncio, "run", reader.programs.append)
            patches.setitem(
                sys.modules, "uvloop", types.SimpleNamespace(run=reader.programs.append)
            )
            await reader.run()

    run(main())
    printed = capsys.readouterr().out.splitlines()
    for block in blocks_of(page):
        for told in re.findall(r"^ *print\(.*\)  # (.+)$", block.source, re.MULTILINE):
            assert told in printed


def test_most_code_is_run() -> None:
    blocks = [block for page in PAGES for block in blocks_of(page)]
    not_run = [block for block in blocks if block.not_run]
    assert len(not_run) * 10 < len(blocks), [(name_of(block.page), block.line) for block in not_run]


# Links


LINK = re.compile(r"\]\((?P<target>[^)\s#]*)(?:#(?P<anchor>[^)\s]+))?\)")


def anchors_of(page: Path) -> set[str]:
    """Anchors of the headings of a page, as code hosts and MyST make them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for match in LINK.finditer(text):
        if match["target"].startswith(("http:", "https:")):
            continue
        target = (page.parent / match["target"]).resolve() if match["target"] else page
        assert target.exists(), match[0]
        if match["anchor"]:
            assert match["anchor"] in anchors_of(target), match[0]


# Commands


def test_targets_of_make_are_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        told = re.findall(r"(?:`|^    )make\s+([a-z-]+(?: [a-z-]+)*)", text, re.MULTILINE)
        assert {name for names in told for name in names.split()} <= targets, page


# Versions


def test_pages_show_this_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\S+)", text, re.MULTILINE)[0] == project["version"]
    for page in set(PAGES) - {ROOT / "CHANGELOG.md"}:
        shown = re.findall(r"\d+\.\d+\+cython\.\d+", page.read_text(encoding="utf-8"))
        assert set(shown) <= {project["version"]}, page


# Environment variables


def test_environment_variables_are_described() -> None:
    """Each that the package reads, and no other, is in the page about them."""
    pattern = re.compile(r"\bWEBSOCKETS_[A-Z_]+\b")
    page = (ROOT / "docs" / "howto" / "environment.md").read_text(encoding="utf-8")
    package = Path(websockets.__file__).parent
    sources = [*package.rglob("*.py"), ROOT / "setup.py"]
    read = {name for path in sources for name in pattern.findall(path.read_text(encoding="utf-8"))}
    assert set(pattern.findall(page)) == read


# Reference

# Not for applications: what the modules for them are made of, and old names.
INTERNAL = {
    "websockets.__main__",
    "websockets._codec",
    "websockets._speedups",
    "websockets.asyncio._channel",
    "websockets.asyncio._speedups",
    "websockets.asyncio.channel",
    "websockets.asyncio.tunnel",
    "websockets.cli",
    "websockets.connection",
    "websockets.credentials",
    "websockets.environment",
    "websockets.extensions.deflate",
    "websockets.former",
    "websockets.redirect",
    "websockets.routing",
    "websockets.session",
    "websockets.settings",
}

DIRECTIVE = re.compile(
    r"^\.\. (?:py:)?(?P<kind>auto\w+|data|function|class)::(?P<names>(?:\s+websockets[\w.]*)+)"
    r"(?P<options>(?:\n   +\S.*)*)",
    re.MULTILINE,
)
MEMBERS = re.compile(r":members:((?:[\s,]+\w+\b(?!:))+)")


def public_modules() -> Iterable[types.ModuleType]:
    yield websockets
    for info in pkgutil.walk_packages(websockets.__path__, "websockets."):
        if info.name not in INTERNAL:
            yield importlib.import_module(info.name)


def lookup(path: str) -> Any:
    """Return what a dotted path names."""
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError:
        parent, _, name = path.rpartition(".")
        return getattr(lookup(parent), name)


def documented() -> set[str]:
    """Dotted paths of what has an entry in the reference."""
    paths = set()
    for page in (ROOT / "docs" / "reference").glob("*.md"):
        for match in DIRECTIVE.finditer(page.read_text(encoding="utf-8")):
            names, options = match["names"].split(), match["options"]
            paths.update(names)
            members = MEMBERS.search(options)
            if members:
                listed = re.findall(r"\w+", members[1])
            elif match["kind"] == "automodule" and ":no-members:" not in options:
                listed = importlib.import_module(names[0]).__all__
            else:
                continue
            paths.update(f"{name}.{member}" for name in names for member in listed)
    return paths


@pytest.mark.filterwarnings("ignore:.*deprecated.*:DeprecationWarning")
def test_reference_is_complete() -> None:
    paths = documented()
    values = {path: lookup(path) for path in paths}
    # One entry does for a name that several modules have.
    known = {id(value) for value in values.values() if not isinstance(value, (int, str))}
    missing = [
        f"{module.__name__}.{name}"
        for module in public_modules()
        for name in getattr(module, "__all__", ())
        if f"{module.__name__}.{name}" not in values and id(getattr(module, name)) not in known
    ]
    assert missing == []


# What event loops call, and a number for the transport.
NOT_FOR_USERS = {*dir(asyncio.BufferedProtocol), "data_received", "write_limit_low"}


def test_reference_has_the_whole_connection() -> None:
    public = {name for name in vars(Connection) if not name.startswith("_")}
    entries = {path.rpartition(".")[2] for path in documented() if ".Connection." in path}
    assert entries == public - NOT_FOR_USERS | {"__aiter__"}


@pytest.mark.filterwarnings("ignore:.*deprecated.*:DeprecationWarning")
@pytest.mark.parametrize(
    "name",
    [
        "client.WebSocketClientProtocol",
        "protocol.WebSocketCommonProtocol",
        "server.WebSocketServerProtocol",
    ],
)
def test_reference_has_the_whole_original_api(name: str) -> None:
    """What a class adds to the modern connection, or replaces."""
    kind = lookup(f"websockets.legacy.{name}")
    public = {name for name in vars(kind) if not name.startswith("_")} - {"side"}
    page = (ROOT / "docs" / "reference" / "legacy.md").read_text(encoding="utf-8")
    entries = {path.rpartition(".")[2] for path in documented() if ".legacy." in path}
    entries |= set(re.findall(r"^   .*attribute:: (\w+)$", page, re.MULTILINE))
    assert public - NOT_FOR_USERS - entries == set()


@pytest.mark.filterwarnings("ignore:.*deprecated.*:DeprecationWarning")
def test_code_in_docstrings_compiles() -> None:
    found = 0
    for path in documented():
        doc = inspect.getdoc(lookup(path)) or ""
        for block in re.findall(r"::\n\n((?:    .*\n|\n)+)", f"{doc}\n"):
            flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
            compile(textwrap.dedent(block), path, "exec", flags=flags, dont_inherit=True)
            found += 1
    assert found > 5


def described_parameters(value: Any) -> set[str]:
    section = re.search(
        r"^(?:Args|Attributes):\n((?:    .*\n|\n)+)", f"{inspect.getdoc(value)}\n", re.M
    )
    found = re.findall(r"^    ([*\w, ]+):", section[1], re.MULTILINE) if section else []
    return {name.strip("* ") for names in found for name in names.split(",")}


@pytest.mark.filterwarnings("ignore:.*deprecated.*:DeprecationWarning")
def test_everything_in_the_reference_is_described() -> None:
    """Each entry has a docstring, and each parameter of a function or method a line in it."""
    lacking = []
    for path in sorted(documented()):
        value = lookup(path)
        doc = inspect.getdoc(value) or ""
        if isinstance(value, (types.FunctionType, types.MethodType)) or (
            # Of a subclass, the rest may be left to its base. A typing.Protocol has no parameters.
            isinstance(value, type)
            and "__init__" in vars(value)
            and "are those of" not in doc
            and not getattr(value, "_is_protocol", False)
        ):
            parameters = {*inspect.signature(value).parameters} - {"self"}
            lacking += [
                (path, name)
                for name in parameters - described_parameters(value)
                if not name.startswith("_")
            ]
        if isinstance(value, (type, types.FunctionType, types.MethodType, property)):
            if not doc:
                lacking.append((path, "docstring"))
    assert lacking == []
