"""What every test runs under: the codec fixture, both event loops, and checks for leaks."""

from __future__ import annotations

import asyncio
import collections
import faulthandler
import functools
import gc
import importlib
import inspect
import os
from collections.abc import AsyncIterator, Callable, Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from hypothesis import settings

if TYPE_CHECKING:
    from .helpers import TLS

try:
    import uvloop
except ImportError:
    uvloop = None

# No test waits this long unless something hangs: first the coroutine is cancelled, then, when even
# that does not end it, the process is stopped and shows where it was.
# Where everything is slower, this many times as long.
SLOWNESS = int(os.environ.get("WEBSOCKETS_TEST_SLOWNESS", "1"))
TEST_TIMEOUT = 40 * SLOWNESS
PROCESS_TIMEOUT = 120 * SLOWNESS

# How long one example takes is the machine's affair.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

CODECS = {"compiled": "websockets._speedups", "pure": "websockets._codec"}

# A machine's proxy settings must not decide where these tests connect to.
for variable in ("http_proxy", "https_proxy", "all_proxy", "ws_proxy", "wss_proxy", "socks_proxy"):
    os.environ.pop(variable, None)
    os.environ.pop(variable.upper(), None)


def codec_in_use() -> str:
    """Codec on which everything runs that does not choose one itself."""
    name: str = importlib.import_module("websockets.codec").IMPLEMENTATION
    return name


def expected_codecs() -> list[str]:
    """Codecs that must be there: both, unless the build was told to leave the compiled one out."""
    if os.environ.get("WEBSOCKETS_BUILD_EXTENSION") == "no":
        return ["pure"]
    return list(CODECS)


# What has no frames, or has both codecs by the fixture below, is not run again on the second codec,
# unless it is asked for by name.
if codec_in_use() == "pure" and len(expected_codecs()) > 1:
    collect_ignore = [
        "asyncio/test_basic_auth.py",
        "asyncio/test_client_arguments.py",
        "asyncio/test_reconnection.py",
        "asyncio/test_redirects.py",
        "asyncio/test_router.py",
        "extensions/test_base.py",
        "extensions/test_permessage_deflate.py",
        "test_benchmarks.py",
        "test_cli.py",
        "test_codec.py",
        "test_datastructures.py",
        "test_design.py",
        "test_docs.py",
        "test_exceptions.py",
        "test_frames.py",
        "test_handshake_rules.py",
        "test_headers.py",
        "test_http11.py",
        "test_proxy.py",
        "test_redirect.py",
        "test_run_tests.py",
        "test_run_tests.py",
        "test_uri.py",
        "test_utils.py",
    ]
elif os.environ.get("WEBSOCKETS_DIRECT_DELIVERY") == "0":
    # Who is let in, and how one gets there, does not depend on how messages are delivered.
    collect_ignore = [
        "asyncio/test_basic_auth.py",
        "asyncio/test_client_arguments.py",
        "asyncio/test_reconnection.py",
        "asyncio/test_redirects.py",
        "asyncio/test_router.py",
    ]


@pytest.fixture(params=expected_codecs())
def codec(request: pytest.FixtureRequest) -> ModuleType:
    """Each codec module in turn; a missing compiled one is a failure, not a skip."""
    return importlib.import_module(CODECS[request.param])


# Event loops


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Every test with a coroutine runs once on each of these."""
    factories: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
        "asyncio": asyncio.new_event_loop
    }
    if uvloop is not None:
        factories["uvloop"] = uvloop.new_event_loop
    return factories


@pytest_asyncio.fixture
async def on_uvloop() -> bool:
    return uvloop is not None and isinstance(asyncio.get_running_loop(), uvloop.Loop)


class LoopErrors(list[dict[str, Any]]):
    """What reached the event loop's exception handler."""


@pytest_asyncio.fixture
async def loop_errors() -> AsyncIterator[LoopErrors]:
    """Fail the test on leaked tasks and on anything the event loop complains about.

    A test that provokes such a complaint takes this fixture and clears the list.
    """
    loop = asyncio.get_running_loop()
    errors = LoopErrors()
    loop.set_exception_handler(lambda _, context: errors.append(context))
    before = asyncio.all_tasks()
    yield errors
    for _ in range(40):
        leaked = {task for task in asyncio.all_tasks() - before if not is_harness(task)}
        if not leaked:
            break
        await asyncio.sleep(0.005)
    # Exceptions nobody retrieved are reported when their task or future is collected. What is left
    # after that need not be looked at again.
    gc.collect()
    gc.freeze()
    assert not leaked, f"leaked tasks: {leaked}"
    assert not errors, f"the event loop complained: {errors}"


def is_harness(task: asyncio.Task[Any]) -> bool:
    code = getattr(task.get_coro(), "cr_code", None)
    return (
        task is asyncio.current_task()
        or code is None
        or "_pytest" in code.co_filename
        or ("pytest_asyncio" in code.co_filename)
    )


@pytest.fixture(scope="session")
def tls() -> TLS:
    from .helpers import make_tls

    return make_tls()


# Hooks


def bounded(function: Callable[..., Any]) -> Callable[..., Any]:
    """End a test that hangs."""

    @functools.wraps(function)
    async def run(*args: Any, **kwargs: Any) -> None:
        async with asyncio.timeout(TEST_TIMEOUT):
            await function(*args, **kwargs)

    return run


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
            item.obj = bounded(item.obj)
            if "loop_errors" not in item.fixturenames:
                # First in the list: set up before, and checked after, the test's own fixtures.
                item.fixturenames.insert(0, "loop_errors")


def pytest_collection_finish() -> None:
    # What exists now stays: the collections after each test need not visit it again.
    gc.collect()
    gc.freeze()


STDERR = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    # While a test runs, what is written to the standard streams is captured, and lost when the
    # process is stopped. This is the stream itself.
    config.stash[STDERR] = os.dup(2)


def pytest_unconfigure(config: pytest.Config) -> None:
    os.close(config.stash[STDERR])


@pytest.fixture(autouse=True)
def watchdog(pytestconfig: pytest.Config) -> Iterator[None]:
    faulthandler.dump_traceback_later(PROCESS_TIMEOUT, exit=True, file=pytestconfig.stash[STDERR])
    yield
    faulthandler.cancel_dump_traceback_later()


CODEC_OF_TEST = pytest.StashKey[str]()


def pytest_runtest_setup(item: pytest.Item) -> None:
    callspec = getattr(item, "callspec", None)
    chosen = callspec.params.get("codec") if callspec is not None else None
    item.stash[CODEC_OF_TEST] = chosen or codec_in_use()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    report.codec = item.stash.get(CODEC_OF_TEST, None)
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    counts = collections.Counter(
        report.codec
        for outcome in ("passed", "failed", "xfailed", "xpassed")
        for report in terminalreporter.stats.get(outcome, [])
        if getattr(report, "when", None) == "call" and getattr(report, "codec", None)
    )
    shown = ", ".join(f"{counts[name]} on {name}" for name in CODECS)
    terminalreporter.write_sep("-", f"codec: {codec_in_use()}; tests run: {shown}")
