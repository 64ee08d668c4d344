"""
Build the wheel and the sdist, and check that what is in them installs and works.

Each is installed into a fresh environment in a temporary directory and runs the echo example
there. So are the ways to build without the extension: no compiler, and none wanted.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SWITCH = "WEBSOCKETS_BUILD_EXTENSION"
NOTHING: Mapping[str, str] = {}
# What builds inherit; how to build is said for each.
BASE = {name: value for name, value in os.environ.items() if name not in {SWITCH, "CC"}}


def run(*command: str | Path, cwd: Path = ROOT, environment: Mapping[str, str] = NOTHING) -> str:
    """Run a command and return its output."""
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**BASE, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    ).stdout


def check(condition: bool, text: str) -> None:
    if not condition:
        raise SystemExit(f"FAILED: {text}")
    print(f"ok: {text}", flush=True)


def build(
    what: str, source: Path, directory: Path, environment: Mapping[str, str] = NOTHING
) -> Path:
    """Build a distribution in isolation and return its file."""
    directory.mkdir()
    run(sys.executable, "-m", "build", what, "-o", directory, source, environment=environment)
    [path] = directory.iterdir()
    return path


def fresh(directory: Path) -> Path:
    """Make an environment and return its Python."""
    venv.create(directory, with_pip=True)
    return directory / ("Scripts" if os.name == "nt" else "bin") / "python"


def echo(distribution: Path, directory: Path, environment: Mapping[str, str] = NOTHING) -> str:
    """Install a distribution into a fresh environment and return what the example prints there."""
    directory.mkdir()
    python = fresh(directory / "environment")
    # From a path of its own, or pip would install what it built before, in another environment.
    local = shutil.copy(distribution, directory)
    run(python, "-m", "pip", "install", "-q", local, cwd=directory, environment=environment)
    script = run(python.with_name("websockets"), "--version", cwd=directory)
    if script != "websockets 17.4\n":
        raise SystemExit(f"FAILED: the websockets script prints {script!r}")
    shutil.copy(ROOT / "examples" / "echo.py", directory)
    return run(python, "echo.py", cwd=directory)


def check_contents(wheel: Path, sdist: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        inside = archive.namelist()
    check("websockets/py.typed" in inside, "the wheel is typed")
    for module in ("websockets/_speedups", "websockets/asyncio/_speedups"):
        files = [name for name in inside if name.startswith(f"{module}.")]
        check(
            sorted(name.rpartition(".")[2] for name in files) in (["pyi", "so"], ["pyd", "pyi"]),
            f"the wheel holds the extension {module} and its types, no source",
        )
    tops = {name.split("/")[0] for name in inside if ".dist-info/" not in name}
    check(tops == {"websockets"}, "the wheel installs websockets/ and nothing else")
    with tarfile.open(sdist) as archive:
        inside = [name.partition("/")[2] for name in archive.getnames()]
    check("websockets/_speedups.pyx" in inside, "the sdist holds the Cython source")
    check(
        [name for name in inside if name.endswith(".c")] == ["benchmarks/wsload.c"],
        "the sdist holds no generated C",
    )
    if (ROOT / ".git").exists():
        kept = {name.split("/")[0] for name in run("git", "ls-files").splitlines()}
        kept -= {".github", ".gitignore"}
        missing = kept - {name.split("/")[0] for name in inside}
        check(not missing, f"the sdist holds all there is to check {sorted(missing) or ''}".strip())


def main() -> None:
    output = ROOT / sys.argv[1]
    output.mkdir(exist_ok=True)
    for old in output.iterdir():
        old.unlink()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        sdist = build("--sdist", ROOT, work / "sdist")
        # The wheels are built from the sdist, which shows that it is complete.
        with tarfile.open(sdist) as archive:
            archive.extractall(work / "source", filter="data")
        [source] = (work / "source").iterdir()
        wheel = build("--wheel", source, work / "wheel", {SWITCH: "yes"})
        if sys.platform == "linux":
            tools = Path(sys.executable).parent
            path = f"{tools}{os.pathsep}{BASE.get('PATH', os.defpath)}"
            repaired = work / "repaired"
            run(
                tools / "auditwheel",
                "repair",
                "--strip",
                "-w",
                repaired,
                wheel,
                environment={"PATH": path},
            )
            [wheel] = repaired.iterdir()
            check("manylinux" in wheel.name, "the wheel is tagged manylinux")
        check_contents(wheel, sdist)
        check("codec: compiled" in echo(wheel, work / "a"), "the wheel installs and runs")
        check("codec: compiled" in echo(sdist, work / "b"), "the sdist installs and runs")

        printed = echo(sdist, work / "c", {"CC": "false"})
        check("codec: pure" in printed, "without a compiler the sdist installs, in pure Python")
        try:
            echo(sdist, work / "d", {"CC": "false", SWITCH: "yes"})
        except subprocess.CalledProcessError as exc:
            refused = "-m pip install" in " ".join(exc.cmd)
        else:
            refused = False
        check(refused, "and does not when the extension is required")
        pure = build("--wheel", source, work / "pure", {SWITCH: "no"})
        check(pure.name.endswith("-py3-none-any.whl"), "left out, the wheel is for any platform")
        check("codec: pure" in echo(pure, work / "e"), "and runs")

        for path_built in [sdist, wheel]:
            shutil.copy(path_built, output)
            print(f"{output.name}/{path_built.name}")


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as exc:
        raise SystemExit(f"{exc.output}\nFAILED: {' '.join(exc.cmd)}") from None
