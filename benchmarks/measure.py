"""
One turn: starts a peer, puts load on it, and returns figures.

The process measured has one core to itself and the load another. Its CPU time is read from the
kernel's clock of that process, which counts user and system time of all its threads in
nanoseconds; it is read when the warm-up is over and again at the end, by who puts on the load.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import deflate
import payloads
from cases import NODE, C, Case
from peers import HERE, Programs, wsload

# More than any turn takes: after that, something hangs.
TIMEOUT = 60
# Until an idle server's memory no longer changes.
SETTLE = 0.7
STEP = 1000
# That each active connection has exchanged.
MESSAGES = 10

Figures = dict[str, Any]


class Failed(Exception):
    """This peer did not do what was asked of it."""


@dataclass(frozen=True)
class Settings:
    programs: Programs
    certificate: Path
    seconds: float
    warmup: float


def cpu_seconds(pid: int) -> float:
    """Return the CPU time, user and system, of another process: clock_getcpuclockid(3)."""
    return time.clock_gettime(~pid << 3 | 2)


def _pin(core: int) -> Callable[[], None]:
    cores = sorted(os.sched_getaffinity(0))
    return lambda: os.sched_setaffinity(0, {cores[core % len(cores)]})


MEASURED, LOAD = _pin(0), _pin(1)


def _start(
    command: list[str], environment: dict[str, str], pin: Callable[[], None], errors: IO[str]
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        preexec_fn=pin,
    )


@contextlib.contextmanager
def _running(
    command: list[str], environment: dict[str, str], pin: Callable[[], None]
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a program until the block ends; also yields the first line that it prints."""
    with tempfile.TemporaryFile("w+") as errors:
        process = _start(command, environment, pin, errors)
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                process.wait(TIMEOUT)
                errors.seek(0)
                raise Failed((errors.read().strip().splitlines() or ["no output"])[-1])
            yield process, line.strip()
        finally:
            process.terminate()
            with contextlib.suppress(ValueError):  # it has been closed to let the process end
                process.communicate(timeout=TIMEOUT)


def _json(command: list[str], environment: dict[str, str], pin: Callable[[], None]) -> Figures:
    """Run a program to its end and return the JSON that it prints."""
    with tempfile.TemporaryFile("w+") as errors:
        process = _start(command, environment, pin, errors)
        try:
            output, _ = process.communicate(timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise Failed("no result in time") from None
        if process.returncode:
            errors.seek(0)
            raise Failed((errors.read().strip().splitlines() or ["no output"])[-1])
    figures: Figures = json.loads(output)
    return figures


@contextlib.contextmanager
def _server(
    settings: Settings, peer: str, loop: str, duty: str, case: Case, tls: bool = False
) -> Iterator[tuple[str, str]]:
    """Start the server that is measured; yields its port and its process id."""
    options = ["--tls", str(settings.certificate)] if tls else []
    options += ["--batch", str(case.batch)]
    options += ["--unbounded-queue"] if case.unbounded_queue else []
    options += ["--deflate"] if case.deflate else []
    programs = settings.programs
    command = programs.server(peer, loop, duty, *options)
    with _running(command, programs.environment(peer), MEASURED) as (process, port):
        yield port, str(process.pid)


def _wsload(
    settings: Settings, case: Case, mode: str, port: str, pid: str, *options: str
) -> Figures:
    command = [wsload(), mode, "127.0.0.1", port, "-p", pid, "-c", str(case.connections)]
    command += ["-w", str(case.window), "-s", str(case.size), *(["-t"] if case.text else [])]
    command += ["-d", str(settings.seconds), "-u", str(settings.warmup), *options]
    return _json(command, dict(os.environ), LOAD)


def _tlsload(settings: Settings, case: Case, mode: str, port: str, pid: str) -> Figures:
    command = [sys.executable, str(HERE / "tlsload.py"), mode, port, pid]
    command += ["--connections", str(case.connections), "--window", str(case.window)]
    command += ["--size", str(case.size)]
    command += ["--seconds", str(settings.seconds), "--warmup", str(settings.warmup)]
    return _json(command, dict(os.environ), LOAD)


# -------------------------------------------------------------- one function for each kind


def _loaded_server(duty: str, mode: str, tls: bool = False) -> Callable[..., Figures]:
    def measure(settings: Settings, peer: str, loop: str, case: Case) -> Figures:
        with _server(settings, peer, loop, duty, case, tls) as (port, pid):
            return (_tlsload if tls else _wsload)(settings, case, mode, port, pid)

    return measure


def _deflating_server(duty: str, mode: str, others: int = 0) -> Callable[..., Figures]:
    def measure(settings: Settings, peer: str, loop: str, case: Case) -> Figures:
        messages = payloads.messages(case.size)
        with _server(settings, peer, loop, duty, case) as (port, pid), _frames() as file:
            figures = deflate.verify(int(port), messages, case.window, others)
            negotiated = deflate.Negotiated(**figures["negotiated"])
            figures["client_bytes"] = deflate.write_frames(file, messages, negotiated)
            options = ["-f", str(file), "-x", deflate.OFFER]
            return {**figures, **_wsload(settings, case, mode, port, pid, *options)}

    return measure


@contextlib.contextmanager
def _frames() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory, "frames")


def _client(duty: str, server: str) -> Callable[..., Figures]:
    def measure(settings: Settings, peer: str, loop: str, case: Case) -> Figures:
        programs = settings.programs
        command = [*programs.server(C, "", server), "-s", str(case.size)]
        with _running(command, dict(os.environ), LOAD) as (_, port):
            options = ["--connections", str(case.connections), "--window", str(case.window)]
            options += ["--size", str(case.size), *(["--text"] if case.text else [])]
            options += ["--seconds", str(settings.seconds), "--warmup", str(settings.warmup)]
            options += ["--batch", str(case.batch)]
            options += ["--unbounded-queue"] if case.unbounded_queue else []
            client = programs.client(peer, loop, duty, port, *options)
            return _json(client, programs.environment(peer), MEASURED)

    return measure


def _memory(settings: Settings, peer: str, loop: str, case: Case) -> Figures:
    """Resident memory of a server with more and more idle connections."""
    figures: Figures = {"rss_kib": {}}
    with contextlib.ExitStack() as stack:
        port, pid = stack.enter_context(_server(settings, peer, loop, "sink", case))
        client = [wsload(), "open", "127.0.0.1", port, "-w", "16", "-c"]
        # What the first connection makes the server load for good is no connection's cost.
        _json([*client, "1"], dict(os.environ), LOAD)
        time.sleep(SETTLE)
        before = figures["rss_kib"][0] = _rss_kib(pid)
        for count in range(STEP, case.connections + 1, STEP):
            stack.enter_context(_running([*client, str(STEP)], dict(os.environ), LOAD))
            time.sleep(SETTLE)
            figures["rss_kib"][count] = _rss_kib(pid)
            figures[f"kib_{count}"] = round((_rss_kib(pid) - before) / count, 3)
    return figures


def _memory_deflate(settings: Settings, peer: str, loop: str, case: Case) -> Figures:
    """
    Resident memory of a server that compresses: its clients do not offer it; they do, and are
    idle; they do, and have each exchanged some messages.
    """
    figures: Figures = {}
    messages = payloads.messages(case.size)
    for name in ("plain", "idle", "active"):
        with contextlib.ExitStack() as stack:
            port, pid = stack.enter_context(_server(settings, peer, loop, "echo", case))
            file = stack.enter_context(_frames())
            client = [wsload(), "open", "127.0.0.1", port, "-w", "16"]
            deflate.write_frames(file, messages, deflate.negotiate(int(port)))
            offer = ["-x", deflate.OFFER, "-f", str(file)]
            # What the first messages make the server load for good is no connection's cost.
            _json([*client, "-c", "1", *offer, "-n", str(MESSAGES)], dict(os.environ), LOAD)
            time.sleep(SETTLE)
            before = _rss_kib(pid)
            client += ["-c", str(case.connections), *(offer if name != "plain" else [])]
            client += ["-n", str(MESSAGES)] if name == "active" else []
            stack.enter_context(_running(client, dict(os.environ), LOAD))
            time.sleep(SETTLE)
            figures[f"kib_{name}"] = round((_rss_kib(pid) - before) / case.connections, 3)
    figures["kib_more"] = round(figures["kib_idle"] - figures["kib_plain"], 3)
    return figures


def _rss_kib(pid: str) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


def _imports(settings: Settings, peer: str, loop: str, case: Case) -> Figures:
    programs = settings.programs
    command = programs.script(peer, "imports.py")
    runs = [_json(command, programs.environment(peer), MEASURED) for _ in range(5)]
    return min(runs, key=lambda figures: figures["import_ms"])


def _sans_io(settings: Settings, peer: str, loop: str, case: Case) -> Figures:
    programs = settings.programs
    command = programs.script(peer, "sansio.py", str(settings.seconds))
    return _json(command, programs.environment(peer), MEASURED)


KINDS: dict[str, Callable[[Settings, str, str, Case], Figures]] = {
    "echo": _loaded_server("echo", "load"),
    "echo tls": _loaded_server("echo", "load", tls=True),
    "server receive": _loaded_server("sink", "flood"),
    "server send": _loaded_server("feed", "drain"),
    "broadcast": _loaded_server("broadcast", "crowd"),
    "handshake": _loaded_server("sink", "open"),
    "handshake tls": _loaded_server("sink", "open", tls=True),
    "client echo": _client("echo", "echo"),
    "client receive": _client("receive", "feed"),
    "client json": _client("json", "feed"),
    "client send": _client("send", "sink"),
    "echo deflate": _deflating_server("echo", "load"),
    "broadcast deflate": _deflating_server("broadcast", "crowd", others=2),
    "memory": _memory,
    "memory deflate": _memory_deflate,
    "import": _imports,
    "sans-io": _sans_io,
}


def turn(settings: Settings, peer: str, loop: str, case: Case) -> Figures:
    """Measure a peer once. Raises Failed when it does not do what is asked of it."""
    if peer == NODE:
        # Its compiler works behind the scenes until then, and would be measured.
        settings = replace(settings, warmup=max(settings.warmup, 1.0))
    settings = replace(settings, seconds=max(settings.seconds, case.seconds or 0))
    try:
        return KINDS[case.kind](settings, peer, loop, case)
    except (OSError, deflate.Wrong) as exc:
        raise Failed(f"{type(exc).__name__}: {exc}") from exc
