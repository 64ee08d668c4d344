"""
Run applications that nobody here wrote on this library, and on the released one (`make apps`).

Each gets an environment of its own under build/apps/, where all that requirements/ lists for it is
installed from the index, the released `websockets` among it. What it has to run is run there; then
this project's wheel is installed over the released package, and all is run again. What is run are
scripts in this directory, which use the application as its documentation does, and its own tests of
WebSocket, from its sdist.

A script passes when all of its checks do. Of an application's own tests, all must pass that pass
with the released package; with neither do those that need a network, for example. What the released
package did is kept, and not run again unless the versions, the script or this file have changed.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import venv
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
BUILD = ROOT / "build" / "apps"
PAGE = ROOT / "docs" / "applications.md"
BEGIN, END = "<!-- results -->\n", "<!-- end of results -->\n"
LIMIT = 420.0  # seconds, for one script or one application's tests

# Neither where this is run from nor the switches of this library are for the applications.
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("PYTHON", "VIRTUAL_ENV", "WEBSOCKETS_"))
} | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}

# Prints which `websockets` is installed, and its codec.
IDENTITY = """
import importlib.metadata
print(importlib.metadata.version("websockets"))
try:
    from websockets.codec import IMPLEMENTATION
    print(IMPLEMENTATION)
except ImportError:
    print("released")
"""

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
AGAIN = "passed only when run again"
WHOLE = "the run as a whole"  # which has failed, while no check did
Outcomes = dict[str, str]  # by the name of the check or test


@dataclass(frozen=True)
class Script:
    """A script in this directory; it prints ``NAME ok`` or ``NAME FAILED: why`` for each check."""

    what: str
    file: str
    arguments: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return "-".join([self.file.removesuffix(".py"), *self.arguments])

    @property
    def files(self) -> list[Path]:
        return [HERE / self.file, HERE / "checks.py"]


@dataclass(frozen=True)
class Suite:
    """An application's own tests: arguments for pytest, in the directory of its sdist."""

    what: str
    package: str
    arguments: tuple[str, ...]
    least: int  # how many must pass
    # A conftest.py of ours, without suffix: a file in this directory, put into one of the sdist's.
    conftest: str = ""
    place: str = ""

    @property
    def name(self) -> str:
        return f"{self.conftest or self.package}-tests"

    @property
    def files(self) -> list[Path]:
        return [HERE / f"{self.conftest}.py"] if self.conftest else []


@dataclass(frozen=True)
class Application:
    packages: tuple[str, ...]  # the first one gives it its name
    runs: tuple[Script | Suite, ...]
    pip_check: str = "No broken requirements found."  # how what `pip check` says begins

    @property
    def name(self) -> str:
        return self.packages[0]

    @property
    def requirements(self) -> Path:
        return HERE / "requirements" / f"{self.name}.txt"


APPLICATIONS = [
    Application(
        ("uvicorn", "fastapi", "starlette"),
        (
            Script("routes of FastAPI and Starlette", "uvicorn_fastapi.py", ("auto",)),
            Script("the same", "uvicorn_fastapi.py", ("websockets-sansio",)),
            Suite(
                "its own tests",
                "uvicorn",
                # Without its configuration's eight processes.
                ("-o", "addopts=", "-n", "4", "tests/protocols/test_websocket.py"),
                280,
            ),
            Script("the same, on the original API", "uvicorn_fastapi.py", ("websockets",)),
            Suite(
                "its own tests, on the original API",
                "uvicorn",
                # Its warnings of deprecation would be errors.
                ("-o", "addopts=", "-n", "4", "-W", "default", "tests/protocols/test_websocket.py"),
                110,
                "uvicorn_original",
                "tests/protocols",
            ),
        ),
    ),
    Application(
        ("gql",),
        (
            Script("queries and subscriptions", "gql_subscriptions.py"),
            Suite(
                "its own tests",
                "gql",
                (
                    "tests/test_websocket_exceptions.py",
                    "tests/test_websocket_query.py",
                    "tests/test_websocket_subscription.py",
                    "tests/test_websockets_adapter.py",
                    "tests/test_graphqlws_exceptions.py",
                    "tests/test_graphqlws_subscription.py",
                    "tests/test_phoenix_channel_exceptions.py",
                    "tests/test_phoenix_channel_query.py",
                    "tests/test_phoenix_channel_subscription.py",
                    "tests/test_appsync_websockets.py",
                ),
                135,
            ),
        ),
    ),
    Application(
        ("zendriver",),
        (Script("Chromium over its DevTools protocol", "cdp_browser.py", ("zendriver",)),),
    ),
    Application(
        ("nodriver",),
        (Script("Chromium over its DevTools protocol", "cdp_browser.py", ("nodriver",)),),
    ),
    Application(
        ("sanic",),
        (
            Script("routes", "sanic_routes.py"),
            Suite(
                "its own tests, with clients of the original API",
                "sanic",
                ("tests/test_ws_handlers.py",),
                8,
            ),
        ),
    ),
    Application(
        ("web3",),
        (
            Script("its provider, subscriptions and reconnection", "web3_provider.py"),
            Suite(
                "its own tests of the provider",
                "web3",
                # Its conftest.py is about Ethereum's virtual machine.
                (
                    *("-o", "addopts=", "--confcutdir=tests/core/providers"),
                    "tests/core/providers/test_websocket_provider.py",
                ),
                20,
            ),
        ),
    ),
    Application(
        ("websockets_proxy",),
        (Script("a subclass of the original API's client", "through_proxy.py"),),
    ),
    Application(
        ("pyppeteer",),
        (Script("Chromium, over the original API", "pyppeteer_browser.py"),),
        "pyppeteer 2.0.0 has requirement websockets<11.0,>=10.0, ",
    ),
    Application(
        ("ocpp",),
        (Script("a charging station and its central system", "ocpp_charging.py"),),
    ),
]


class CommandFailed(Exception):
    pass


def run(command: Sequence[str | Path], cwd: Path, log: Path, timeout: float = 900.0) -> int:
    """Run a command, add its output to a file, and return its exit status."""
    with log.open("a") as output:
        output.write(f"$ {' '.join(map(str, command))}\n")
        output.flush()
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            output.write(f"not done after {timeout:.0f} s\n")
            return -1
        finally:
            # What it started ends with it, a browser for example.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def must(command: Sequence[str | Path], cwd: Path, log: Path) -> None:
    if run(command, cwd, log):
        raise CommandFailed(f"{' '.join(map(str, command))} (output in {log.relative_to(ROOT)})")


def digest(*parts: str | Path) -> str:
    """Return a hash of texts, and of the contents of files."""
    summed = hashlib.sha256()
    for part in parts:
        summed.update(part.read_bytes() if isinstance(part, Path) else part.encode())
        summed.update(b"\0")
    return summed.hexdigest()[:16]


def pinned(path: Path) -> dict[str, str]:
    """Return the versions of a list of requirements, by package."""
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    return dict(line.split("==") for line in lines if line)


def build_wheel() -> Path:
    """Return a wheel of this project as it is now."""
    sources = [
        path
        for path in sorted(ROOT.glob("websockets/**/*.*"))
        if path.suffix in {".py", ".pyi", ".pyx", ".pxd"}
    ]
    key = digest(*sources, ROOT / "setup.py", ROOT / "pyproject.toml", ROOT / "MANIFEST.in")
    directory = BUILD / "wheel" / key
    if not directory.is_dir():
        shutil.rmtree(directory.parent, ignore_errors=True)
        work = directory.with_suffix(".work")
        work.mkdir(parents=True)
        # By way of an sdist: a wheel that is built in the tree takes in what older builds left.
        command: list[str | Path] = [sys.executable, "-m", "build", "-n", "-o", work, ROOT]
        must(command, ROOT, BUILD / "wheel.log")
        work.rename(directory)
    [wheel] = directory.glob("*.whl")
    return wheel


def read_checks(log: Path) -> Outcomes:
    found: Outcomes = {}
    for line in log.read_text(errors="replace").splitlines():
        match line.split(" ", 2):
            case [name, "ok"]:
                found[name] = PASSED
            case [name, "FAILED:", _]:
                found[name] = FAILED
    return found


def read_report(path: Path) -> Outcomes:
    """Read what pytest reports in the format of JUnit."""
    found: Outcomes = {}
    if path.exists():
        for case in ElementTree.parse(path).iter("testcase"):
            kinds = {child.tag for child in case}
            outcome = FAILED if kinds & {"failure", "error"} else PASSED
            found[f"{case.get('classname')}::{case.get('name')}"] = (
                SKIPPED if "skipped" in kinds else outcome
            )
    return found


class Workshop:
    """Where one application is installed and run."""

    def __init__(self, application: Application) -> None:
        self.application = application
        self.pins = pinned(application.requirements)
        self.directory = BUILD / application.name
        self.python = self.directory / "venv" / "bin" / "python"

    def pip(self, *arguments: str | Path) -> None:
        command: list[str | Path] = [self.python, "-m", "pip", *arguments]
        must(command, self.directory, self.directory / "install.log")

    def install(self) -> None:
        """Install the application, unless that has been done."""
        suites = {what.package for what in self.application.runs if isinstance(what, Suite)}
        key = digest(self.application.requirements, *sorted(suites))
        stamp = self.directory / "installed"
        if stamp.exists() and stamp.read_text() == key:
            return
        shutil.rmtree(self.directory, ignore_errors=True)
        venv.create(self.directory / "venv", with_pip=True)
        # The list is complete.
        self.pip("install", "--no-deps", "-r", self.application.requirements)
        for package in suites:
            self.unpack(package)
        stamp.write_text(key)

    def unpack(self, package: str) -> None:
        """Put the sdist of a package into a directory of its name."""
        downloads = self.directory / "sdists"
        what = f"{package}=={self.pins[package]}"
        self.pip("download", "--no-deps", f"--no-binary={package}", "-d", downloads, what)
        [path] = downloads.glob(f"{package}-*.tar.gz")
        with tarfile.open(path) as archive:
            archive.extractall(downloads, filter="data")
        path.with_name(path.name.removesuffix(".tar.gz")).rename(self.directory / package)
        # What the tests import is what is installed.
        shutil.rmtree(self.directory / package / package)

    def use(self, what: str | Path, version: str, codec: str) -> None:
        """Have a `websockets` installed over the one that is, and nothing else changed."""
        self.pip("install", "--force-reinstall", "--no-deps", what)
        found = self.output("-c", IDENTITY).split()
        if found != [version, codec]:
            raise CommandFailed(f"expected websockets {version} ({codec}), found {found}")
        self.check()

    def check(self) -> None:
        """Have pip say whether what is required is there."""
        said = self.output("-m", "pip", "check").strip()
        if not said.startswith(self.application.pip_check) or "\n" in said:
            raise CommandFailed(f"pip check says {said}")

    def output(self, *arguments: str) -> str:
        """Return what Python prints there."""
        return subprocess.run(
            [self.python, *arguments],
            cwd=self.directory,
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout

    def outcomes(self, what: Script | Suite, label: str, released: Outcomes) -> Outcomes:
        """Run a script or tests, and return what came of each; it is known what 17.4 did."""
        log = self.directory / f"{what.name}-{label}.log"
        log.unlink(missing_ok=True)
        if isinstance(what, Script):
            scratch = self.directory / "scratch"
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir()
            status = run([self.python, HERE / what.file, *what.arguments], scratch, log, LIMIT)
            found = read_checks(log)
        else:
            found, status = self.run_suite(what, log)
            failed = [name for name in found if found[name] == FAILED]
            # Tests of others may depend on how busy the machine is.
            if any(released.get(name, PASSED) == PASSED for name in failed):
                again, status = self.run_suite(what, log, "--last-failed")
                for name in failed:
                    found[name] = AGAIN if again.get(name) == PASSED else FAILED
        if status and FAILED not in found.values():
            found[WHOLE] = FAILED
        return found

    def run_suite(self, suite: Suite, log: Path, *options: str) -> tuple[Outcomes, int]:
        """Run tests, and return what came of each, and the exit status."""
        report = log.with_suffix(".xml")
        report.unlink(missing_ok=True)
        command: list[str | Path] = [self.python, "-m", "pytest", f"--junitxml={report}", "-q"]
        directory = self.directory / suite.package
        ours = directory / suite.place / "conftest.py"
        for file in suite.files:
            shutil.copy(file, ours)
        status = run([*command, *options, *suite.arguments], directory, log, LIMIT)
        if suite.files:
            ours.unlink()
        return read_report(report), status

    def with_released(self) -> dict[str, Outcomes]:
        """Return what the released package did, by the name of the run."""
        keys = {
            what.name: digest(
                (self.directory / "installed").read_text(),
                repr(what),
                HERE / "applications.py",
                *what.files,
            )
            for what in self.application.runs
        }
        path = self.directory / "released.json"
        kept = json.loads(path.read_text()) if path.exists() else {}
        # A browser that did not start, for example, may do so now.
        kept = {key: found for key, found in kept.items() if WHOLE not in found}
        missing = [what for what in self.application.runs if keys[what.name] not in kept]
        if missing:
            released = self.pins["websockets"]
            self.use(f"websockets=={released}", released, "released")
            for what in missing:
                kept[keys[what.name]] = self.outcomes(what, "released", {})
            path.write_text(json.dumps(kept, indent=1))
        return {name: kept[key] for name, key in keys.items()}

    def with_wheel(self, wheel: Path, released: dict[str, Outcomes]) -> dict[str, Outcomes]:
        self.use(wheel, importlib.metadata.version("websockets"), "compiled")
        return {
            what.name: self.outcomes(what, "wheel", released[what.name])
            for what in self.application.runs
        }


def count(outcomes: Outcomes) -> str:
    """Say how many checks or tests passed, and so on."""
    found = list(outcomes.values())
    return ", ".join(
        f"{found.count(outcome)} {outcome}"
        for outcome in [PASSED, AGAIN, FAILED, SKIPPED]
        if outcome == PASSED or outcome in found
    )


def problems(what: Script | Suite, found: Outcomes, released: Outcomes) -> list[str]:
    """Say what is wrong with a run on this library."""
    good = {PASSED, AGAIN}
    wrong = [
        name
        for name, outcome in released.items()
        if outcome == PASSED and found.get(name) not in good
    ]
    wrong += [name for name in found if found[name] == FAILED and name not in released]
    if isinstance(what, Script):
        # It is for the released package to show that a check can pass.
        wrong += [f"{name}, with 17.4" for name in released if released[name] not in good]
    least = what.least if isinstance(what, Suite) else 1
    passed = list(found.values()).count(PASSED)
    if passed < least:
        wrong.append(f"{passed} passed, expected {least} or more")
    return [f"{what.name}: {line}" for line in wrong]


def process(application: Application, wheel: Path) -> tuple[list[str], list[str]]:
    """Run one application; return lines of the table, and what is wrong."""
    workshop = Workshop(application)
    workshop.directory.mkdir(parents=True, exist_ok=True)
    try:
        workshop.install()
        released = workshop.with_released()
        found = workshop.with_wheel(wheel, released)
    except CommandFailed as exc:
        return [], [str(exc)]
    versions = ", ".join(f"{name} {workshop.pins[name]}" for name in application.packages)
    rows = []
    wrong = []
    for what in application.runs:
        script = f"`{' '.join([what.file, *what.arguments])}`" if isinstance(what, Script) else ""
        description = ", ".join(filter(None, [what.what, script]))
        cells = [versions, description, count(found[what.name]), count(released[what.name])]
        rows.append(f"| {' | '.join(cells)} |\n")
        wrong += problems(what, found[what.name], released[what.name])
    return rows, wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", help="names of applications")
    parser.add_argument("--write", action="store_true", help="write docs/applications.md")
    options = parser.parse_args()

    BUILD.mkdir(parents=True, exist_ok=True)
    # Where an sdist has no configuration of pytest, this project's must not be taken.
    (BUILD / "pytest.ini").touch()
    names = [application.name for application in APPLICATIONS]
    if options.only and not set(options.only) <= set(names):
        parser.error(f"there are {', '.join(names)}")
    ENVIRONMENT["CHROMIUM"] = subprocess.run(
        [ROOT / "tools" / "find_chromium"], stdout=subprocess.PIPE, text=True, check=True
    ).stdout.strip()
    wheel = build_wheel()
    table = [
        "| application | what is run | with this library | with websockets 17.4 |\n",
        "| --- | --- | --- | --- |\n",
    ]
    failed = []
    for application in APPLICATIONS:
        if options.only and application.name not in options.only:
            continue
        started = time.monotonic()
        rows, wrong = process(application, wheel)
        table += rows
        counts = "; ".join(row.split(" | ")[2] for row in rows)
        seconds = time.monotonic() - started
        state = "FAILED" if wrong else "ok    "
        print(f"{state} {application.name}: {counts} ({seconds:.0f} s)", flush=True)
        for line in wrong:
            print(f"       {line}", flush=True)
        if wrong:
            failed.append(application.name)
    if options.write:
        before, rest = PAGE.read_text().split(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}{''.join(table)}{END}{rest.split(END)[1]}")
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)} (output in {BUILD.relative_to(ROOT)})")


if __name__ == "__main__":
    try:
        main()
    except CommandFailed as exc:
        raise SystemExit(f"FAILED: {exc}") from None
