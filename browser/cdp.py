"""
A headless Chromium, driven over the Chrome DevTools Protocol.

The protocol is JSON over a WebSocket: commands have an id, which the answer repeats; what has none
is an event. One connection serves all tabs, each with a session of its own.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

FIND_CHROMIUM = Path(__file__).resolve().parents[1] / "tools" / "find_chromium"

ARGUMENTS = [
    "--headless=new",
    "--remote-debugging-port=0",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-proxy-server",
    "--disable-gpu",
    "--disable-dev-shm-usage",  # containers have little of it
    # No tab is slowed down for not being the one in front.
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    # Nothing is sent to anybody but the tests.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # The tests' certificates are signed by nobody it knows.
    "--ignore-certificate-errors",
]
START_TIMEOUT = 30.0  # seconds, on a machine that has never run it
TIMEOUT = 10.0  # seconds, for everything else


class BrowserError(Exception):
    """A command failed, or JavaScript threw."""


class Browser:
    """A running Chromium; see :func:`launch`."""

    def __init__(self, websocket: ClientConnection) -> None:
        self.websocket = websocket
        self.ids = itertools.count(1)
        self.answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.tabs: dict[str, Tab] = {}

    async def listen(self) -> None:
        """Pass on answers and events until the browser ends."""
        async for data in self.websocket:
            message = json.loads(data)
            if "id" in message:
                answer = self.answers.pop(message["id"])
                if not answer.done():
                    answer.set_result(message)
            elif tab := self.tabs.get(message.get("sessionId", "")):
                for listener in tab.listeners:
                    listener(message["method"], message["params"])

    async def command(self, method: str, session: str | None = None, **params: Any) -> Any:
        """Send a command and return its result.

        Raises:
            BrowserError: if the command fails.
            TimeoutError: if it takes too long.
        """
        message: dict[str, Any] = {"id": next(self.ids), "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        self.answers[message["id"]] = asyncio.get_running_loop().create_future()
        async with asyncio.timeout(TIMEOUT):
            await self.websocket.send(json.dumps(message))
            answer = await self.answers[message["id"]]
        if "error" in answer:
            raise BrowserError(f"{method}: {answer['error']}")
        return answer["result"]

    @asynccontextmanager
    async def tab(self, url: str = "about:blank") -> AsyncIterator[Tab]:
        """Open a tab, and close it at the end."""
        target = (await self.command("Target.createTarget", url="about:blank"))["targetId"]
        session = (await self.command("Target.attachToTarget", targetId=target, flatten=True))[
            "sessionId"
        ]
        tab = self.tabs[session] = Tab(self, session)
        try:
            for domain in ("Page", "Network", "Runtime", "Log"):
                await tab.command(f"{domain}.enable")
            await tab.go(url)
            yield tab
        finally:
            del self.tabs[session]
            await self.command("Target.closeTarget", targetId=target)


class Tab:
    """A tab of a browser."""

    def __init__(self, browser: Browser, session: str) -> None:
        self.browser = browser
        self.session = session
        self.listeners: list[Callable[[str, Any], None]] = [self.take_notes]
        self.problems: list[str] = []  # what the page's console would show in red

    def take_notes(self, event: str, params: Any) -> None:
        if event == "Runtime.exceptionThrown":
            self.problems.append(params["exceptionDetails"]["exception"]["description"])
        elif event == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.problems.append(params["entry"]["text"])

    async def command(self, method: str, **params: Any) -> Any:
        """Send a command; see :meth:`Browser.command`."""
        return await self.browser.command(method, self.session, **params)

    async def event(self, event: str, trigger: str, **params: Any) -> Any:
        """Send a command and return the first event of a name that comes after it."""
        came: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def listener(name: str, found: Any) -> None:
            if name == event and not came.done():
                came.set_result(found)

        self.listeners.append(listener)
        try:
            await self.command(trigger, **params)
            async with asyncio.timeout(TIMEOUT):
                return await came
        finally:
            self.listeners.remove(listener)

    async def go(self, url: str) -> None:
        """Load a page."""
        await self.event("Page.loadEventFired", "Page.navigate", url=url)

    async def reload(self) -> None:
        """Load the page again."""
        await self.event("Page.loadEventFired", "Page.reload")

    async def back(self) -> None:
        """Go back to the page before."""
        history = await self.command("Page.getNavigationHistory")
        entry = history["entries"][history["currentIndex"] - 1]["id"]
        await self.event("Page.frameNavigated", "Page.navigateToHistoryEntry", entryId=entry)

    async def evaluate(self, expression: str, *args: Any) -> Any:
        """Return the value of a JavaScript expression, awaited if it is a promise.

        Args:
            expression: an expression; with arguments, one of a function that takes them.
            *args: what JSON can say.

        Raises:
            BrowserError: if it throws.
        """
        if args:
            expression = f"({expression})({', '.join(json.dumps(arg) for arg in args)})"
        answer = await self.command(
            "Runtime.evaluate",
            expression=expression,
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
        )
        if details := answer.get("exceptionDetails"):
            raise BrowserError(details.get("exception", details).get("description", details))
        return answer["result"].get("value")

    async def until(self, expression: str, *args: Any) -> Any:
        """Wait for an expression to be true; return its value."""
        try:
            async with asyncio.timeout(TIMEOUT):
                while not (value := await self.evaluate(expression, *args)):
                    await asyncio.sleep(0.01)
        except TimeoutError:
            text = await self.evaluate("document.body.innerText")
            raise TimeoutError(f"never true: {expression} {args}, on a page of: {text}") from None
        return value


def find_chromium() -> str:
    """Return the path of a Chromium.

    Raises:
        RuntimeError: if there is none; it says what to install.
    """
    found = subprocess.run([FIND_CHROMIUM], capture_output=True, text=True)
    if found.returncode != 0:
        raise RuntimeError(found.stderr.strip())
    return found.stdout.strip()


@asynccontextmanager
async def launch(*arguments: str) -> AsyncIterator[Browser]:
    """Start a Chromium with a profile of its own, and end it at the end.

    Args:
        *arguments: command-line arguments beyond those that it needs.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            find_chromium(),
            *ARGUMENTS,
            *(["--no-sandbox"] if os.geteuid() == 0 else []),  # it has none for root
            f"--user-data-dir={profile}",
            *arguments,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stderr is not None
        draining: asyncio.Task[bytes] | None = None
        try:
            async with asyncio.timeout(START_TIMEOUT):
                address = await read_address(process.stderr)
            draining = asyncio.create_task(process.stderr.read())
            # Screenshots are large; nothing is gained by compressing what stays on the machine.
            async with connect(address, max_size=None, compression=None, proxy=None) as websocket:
                browser = Browser(websocket)
                listening = asyncio.create_task(browser.listen())
                try:
                    yield browser
                    await browser.command("Browser.close")
                finally:
                    listening.cancel()
            async with asyncio.timeout(TIMEOUT):
                await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            if draining is not None:
                await draining


async def read_address(stderr: asyncio.StreamReader) -> str:
    """Return the URI at which the browser takes commands."""
    seen = b""
    async for line in stderr:
        before, listening, address = line.partition(b"DevTools listening on ")
        if listening:
            return address.decode().strip()
        seen += line
    raise BrowserError(f"the browser did not start:\n{seen.decode(errors='replace')}")
