"""tools/run_tests.py tells how every run ended; tests/conftest.py, where one hung."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no signals")

ROOT = Path(__file__).parent.parent
CI = ROOT / ".ci" / "run"

# Each run gets a test of its own by the variables that tell the configurations apart.
TEST = """
import os, pathlib, signal, time

def test() -> None:
    pathlib.Path(f"{os.getpid()}.pid").touch()
    match os.environ.get("WEBSOCKETS_CODEC"), os.environ.get("HANGS"):
        case _, "yes":
            time.sleep(60)
        case "compiled", _:
            assert not "a reason"
        case "pure", _:
            os.kill(os.getpid(), signal.SIGKILL)
"""


def environment(**variables: str) -> dict[str, str]:
    """None of this run's own configuration, and as little to import as possible."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("WEBSOCKETS_")}
    return inherited | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"} | variables


def run_tests(directory: Path, **variables: str) -> subprocess.Popen[str]:
    (directory / "test_it.py").write_text(TEST)
    # Where interrupts are ignored, as in the background of a shell, so they are by what is started.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(
            [sys.executable, ROOT / "tools/run_tests.py", "-p", "no:cacheprovider", "test_it.py"],
            cwd=directory,
            env=environment(**variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
    finally:
        signal.signal(signal.SIGINT, handler)


@pytest.mark.skipif(not CI.exists(), reason="what CI runs is not here")
def test_how_runs_ended(tmp_path: Path) -> None:
    with run_tests(tmp_path) as process:
        output, _ = process.communicate()
    assert process.returncode == 1
    *shown, last = output.splitlines()
    assert last == "the tests failed on: compiled, pure (died of SIGKILL)"
    assert [line for line in shown if line.startswith("== ")] == [
        "== WEBSOCKETS_CODEC=compiled",
        "== WEBSOCKETS_CODEC=pure",
        "== WEBSOCKETS_DIRECT_DELIVERY=0",
    ]
    (pattern,) = re.findall(r"grep -aE '(.*)' \"\$log\"", CI.read_text())
    closing = [line for line in shown if re.search(pattern, line)]
    assert [line.strip("= ").partition(" in ")[0] for line in closing] == ["1 failed", "1 passed"]
    assert "a reason" in output


@pytest.mark.parametrize("key", [True, False], ids=["Ctrl-C", "SIGTERM"])
def test_no_run_is_left_behind(key: bool, tmp_path: Path) -> None:
    with run_tests(tmp_path, HANGS="yes") as process:
        try:
            while len(pids := list(tmp_path.glob("*.pid"))) < 3:
                assert process.poll() is None
                time.sleep(0.02)
            if key:
                os.killpg(process.pid, signal.SIGINT)
            else:
                process.terminate()
            output, _ = process.communicate(timeout=60)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    assert process.returncode == 1
    assert output.splitlines()[-1] == ("interrupted" if key else "terminated")
    # What the run that was shown has seen is told.
    assert "!! KeyboardInterrupt !!" in output
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid.stem), 0)


def test_a_test_that_hangs(tmp_path: Path) -> None:
    """The process is stopped, and shows where it was, although its output was captured."""
    (tmp_path / "conftest.py").write_text(
        "import tests.conftest\n"
        "from tests.conftest import pytest_configure, pytest_unconfigure, watchdog\n"
        "tests.conftest.PROCESS_TIMEOUT = 0.1\n"
    )
    (tmp_path / "test_it.py").write_text("import time\ndef test_hangs():\n    time.sleep(60)\n")
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "pytest_asyncio"],
        cwd=tmp_path,
        env=environment(PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert "line 3 in test_hangs" in result.stderr
