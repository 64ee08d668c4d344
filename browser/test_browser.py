"""
What a browser and this library say to each other: `make browser`.

A headless Chromium loads pages from servers on this library; it is driven by a client on it, too.
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import trustme

from websockets.asyncio.server import ServerConnection, broadcast
from websockets.exceptions import ConnectionClosed, ConnectionClosedError
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.frames import Close
from websockets.http11 import Request, Response
from websockets.typing import Data, Origin, Subprotocol

from .cdp import TIMEOUT, Browser, Tab, launch
from .sites import PAGE, Site, site, wire

CHAT = Path(__file__).resolve().parents[1] / "examples" / "chat.py"

# They run on one event loop, that of the browser.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with launch() as browser:
        yield browser


async def within(awaitable: Any) -> Any:
    async with asyncio.timeout(TIMEOUT):
        return await awaitable


async def idle(websocket: ServerConnection) -> None:
    await websocket.wait_closed()


async def echo(websocket: ServerConnection) -> None:
    async for message in websocket:
        await websocket.send(message)


async def relay(websocket: ServerConnection) -> None:
    async for message in websocket:
        broadcast(websocket.server.connections - {websocket}, message)


async def dial(tab: Tab, site: Site, **options: Any) -> ServerConnection:
    """Open a WebSocket in a tab; return the server's side of it."""
    opened = await tab.evaluate("dial", options)
    assert "protocol" in opened, f"it was not opened: {opened}"
    connection: ServerConnection = await within(site.connections.get())
    return connection


# ---------------------------------------------------------------- the chat example


class Chat:
    """The chat example, as a process of its own."""

    port = 0

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            *[sys.executable, str(CHAT), "--host", "127.0.0.1", "--port", str(self.port)],
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert self.process.stdout is not None
        line = (await within(self.process.stdout.readline())).decode()
        _, self.url = line.split()
        self.port = int(self.url.rstrip("/").rpartition(":")[2])

    async def end(self, number: signal.Signals) -> tuple[int | None, str]:
        """End it with a signal; return its exit status and what it logged."""
        self.process.send_signal(number)
        _, log = await within(self.process.communicate())
        return self.process.returncode, log.decode()


@asynccontextmanager
async def chatting(browser: Browser, *names: str) -> AsyncIterator[tuple[Chat, list[Tab]]]:
    """Run the chat, with a tab for each name."""
    chat = Chat()
    await chat.start()
    try:
        async with AsyncExitStack() as stack:
            tabs = [await stack.enter_async_context(browser.tab(chat.url)) for _ in names]
            for tab, name in zip(tabs, names, strict=True):
                await write(tab, "#name", name)
                await tab.evaluate("document.activeElement.blur()")
            everyone = "Here: " + ", ".join(sorted(names))
            for tab in tabs:
                await tab.until("text => people.textContent === text", everyone)
            yield chat, tabs
    finally:
        if chat.process.returncode is None:
            await chat.end(signal.SIGKILL)


async def write(tab: Tab, selector: str, text: str) -> None:
    """Write into a field, as a user does."""
    await tab.evaluate("selector => document.querySelector(selector).focus()", selector)
    await tab.command("Input.insertText", text=text)


async def say(tab: Tab, text: str) -> None:
    """Write a message and press Enter."""
    await write(tab, "#text", text)
    for kind in ("keyDown", "keyUp"):
        await tab.command(
            "Input.dispatchKeyEvent",
            type=kind,
            key="Enter",
            code="Enter",
            text="\r" if kind == "keyDown" else "",
            windowsVirtualKeyCode=13,
        )


MESSAGES = "Array.from(document.querySelectorAll('#log li span'), span => span.textContent)"
SHOWN = f"(...texts) => JSON.stringify({MESSAGES}) === JSON.stringify(texts)"
STATE = "state => document.documentElement.dataset.state === state"
WAITING = "count => document.querySelectorAll('.waiting').length === count"


async def test_chat_between_two_tabs(browser: Browser) -> None:
    async with chatting(browser, "Ada", "Grace") as (chat, [ada, grace]):
        said = ["Hello!", "Grüße, 世界 👋🏽", "<b>not HTML</b> & \"quotes\" 'here'"]
        for speaker, text in zip([ada, grace, ada], said, strict=True):
            await say(speaker, text)
            # Not waiting for the other one would leave the order to chance.
            for tab in (ada, grace):
                await tab.until(f"() => {MESSAGES}.at(-1) === {json.dumps(text)}", "")
        for tab, own in ((ada, 2), (grace, 1)):
            assert await tab.evaluate(SHOWN, *said)
            await tab.until(WAITING, 0)
            assert await tab.evaluate("document.querySelectorAll('.mine').length") == own
            assert await tab.evaluate("document.querySelector('small').textContent")
        # Whoever comes later is told what was said.
        async with browser.tab(chat.url) as late:
            await late.until(SHOWN, *said)
            await ada.until("people.textContent === 'Here: Ada, Anonymous, Grace'")
        await ada.until("people.textContent === 'Here: Ada, Grace'")
        # A tab keeps its name, and a message its sender, when the page is loaded again.
        await ada.reload()
        await ada.until(SHOWN, *said)
        assert await ada.evaluate("document.querySelectorAll('.mine').length") == 2
        await ada.until("people.textContent === 'Here: Ada, Grace'")
        # It is not here while the browser only keeps it for the way back.
        await ada.go("about:blank")
        await grace.until("people.textContent === 'Here: Grace'")
        await say(grace, "Where is Ada?")
        await ada.back()
        await ada.until(SHOWN, *said, "Where is Ada?")
        await grace.until("people.textContent === 'Here: Ada, Grace'")
        # The page did not break its own policy of where content comes from.
        assert ada.problems == grace.problems == []
        assert await chat.end(signal.SIGTERM) == (0, "")


async def test_chat_loses_and_regains_the_connection(browser: Browser) -> None:
    async with chatting(browser, "Ada", "Grace") as (chat, [ada, grace]):
        await say(ada, "before")
        await grace.until(SHOWN, "before")
        assert await ada.evaluate("document.querySelector('#status').textContent") == "Connected"

        await chat.end(signal.SIGKILL)
        for tab in (ada, grace):
            await tab.until("document.documentElement.dataset.state !== 'connected'")
        await say(ada, "meanwhile")
        await say(ada, "again")
        assert await ada.evaluate(WAITING, 2)
        assert await ada.evaluate(SHOWN, "before", "meanwhile", "again")

        await chat.start()
        for tab in (ada, grace):
            await tab.until(STATE, "connected")
        # What was written meanwhile is sent, once and in order.
        await grace.until(SHOWN, "before", "meanwhile", "again")
        await ada.until(WAITING, 0)
        await say(grace, "welcome back")
        for tab in (ada, grace):
            await tab.until(SHOWN, "before", "meanwhile", "again", "welcome back")

        # A server that ends in good order says goodbye, and has nothing to log.
        assert await chat.end(signal.SIGTERM) == (0, "")
        for tab in (ada, grace):
            await tab.until("document.documentElement.dataset.state !== 'connected'")


# ---------------------------------------------------------------- messages

TEXTS = ["Hello!", "", "Grüße, 世界 👋🏽\u0000\u2028", "x" * 65536]
PAGE_WITH_TEXTS = PAGE.replace("<script>", f"<script>const TEXTS = {json.dumps(TEXTS)};", 1)


def pattern(size: int) -> bytes:
    return bytes((i * 31 + (i >> 8) * 17) & 255 for i in range(size))


def samples() -> list[Data]:
    data = pattern(1000)
    return [*TEXTS, "\u00e9" * 2**19, data, data, data[100:300], b"", pattern(2**20)]


async def test_messages_between_two_tabs(browser: Browser) -> None:
    async with site(relay, page=PAGE_WITH_TEXTS) as running:
        async with browser.tab(running.origin) as one, browser.tab(running.origin) as other:
            for tab in (one, other):
                await dial(tab, running)
            for sender, receiver in ((one, other), (other, one)):
                await sender.evaluate("samples().forEach(data => socket.send(data))")
                await receiver.until("count => socket.messages.length >= count", len(samples()))
                assert await receiver.evaluate("differences(samples())") == []
            assert one.problems == other.problems == []


@pytest.mark.parametrize("kind", ["arraybuffer", "blob"])
async def test_messages_to_the_server_and_back(browser: Browser, kind: str) -> None:
    async with site(idle, page=PAGE_WITH_TEXTS) as running:
        async with browser.tab(running.origin) as tab:
            websocket = await dial(tab, running)
            await tab.evaluate("kind => { socket.binaryType = kind; }", kind)
            await tab.evaluate("socket.onmessage = event => socket.send(event.data), null")
            for sample in samples():
                await within(websocket.send(sample))
                assert await within(websocket.recv()) == sample
            await tab.evaluate("samples().forEach(data => socket.send(data))")
            for sample in samples():
                assert await within(websocket.recv()) == sample
            # Fragments make one message in the page.
            await within(websocket.send(["frag", "men", "ts 👋", ""]))
            assert await within(websocket.recv()) == "fragments 👋"


async def test_too_large_a_message(browser: Browser) -> None:
    async with site(idle, max_size=1000) as running, browser.tab(running.origin) as tab:
        websocket = await dial(tab, running)
        await tab.evaluate("socket.send('x'.repeat(1001))")
        closed = await tab.evaluate("socket.closing")
        assert (closed["code"], closed["wasClean"]) == (1009, True)
        with pytest.raises(ConnectionClosedError) as caught:
            await within(websocket.recv())
        assert caught.value.sent is not None and caught.value.sent.code == 1009


async def test_ping(browser: Browser) -> None:
    async with site(idle) as running, browser.tab(running.origin) as tab:
        websocket = await dial(tab, running)
        latency = await within(await websocket.ping())
        assert 0 < latency < TIMEOUT
        assert websocket.latency == latency


# ---------------------------------------------------------------- closing


@pytest.mark.parametrize(
    ("code", "reason"), [(1000, ""), (1000, "that is all"), (3000, "Grüße 👋"), (4999, "x" * 123)]
)
async def test_the_page_closes(browser: Browser, code: int, reason: str) -> None:
    async with site(idle) as running, browser.tab(running.origin) as tab:
        websocket = await dial(tab, running)
        await tab.evaluate("(code, reason) => socket.close(code, reason)", code, reason)
        with pytest.raises(ConnectionClosed) as caught:
            await within(websocket.recv())
        assert caught.value.rcvd == caught.value.sent == Close(code, reason)
        assert caught.value.rcvd_then_sent is True
        await within(websocket.wait_closed())
        assert (websocket.close_code, websocket.close_reason) == (code, reason)
        assert await tab.evaluate("socket.closing") == {
            "code": code,
            "reason": reason,
            "wasClean": True,
        }


async def test_the_page_closes_without_a_code(browser: Browser) -> None:
    async with site(idle) as running, browser.tab(running.origin) as tab:
        websocket = await dial(tab, running)
        await tab.evaluate("socket.close()")
        await within(websocket.wait_closed())
        assert (websocket.close_code, websocket.close_reason) == (1005, "")
        closed = await tab.evaluate("socket.closing")
        assert closed == {"code": 1005, "reason": "", "wasClean": True}


async def test_the_page_is_left(browser: Browser) -> None:
    async with site(idle) as running:
        async with browser.tab(running.origin) as tab:
            websocket = await dial(tab, running)
            await tab.reload()
            await within(websocket.wait_closed())
            assert (websocket.close_code, websocket.close_reason) == (1001, "")
            websocket = await dial(tab, running)
        # The tab is closed.
        await within(websocket.wait_closed())
        assert (websocket.close_code, websocket.close_reason) == (1001, "")


@pytest.mark.parametrize(
    ("code", "reason"), [(1000, ""), (1000, "that is all"), (3000, "Grüße 👋"), (4999, "x" * 123)]
)
async def test_the_handler_closes(browser: Browser, code: int, reason: str) -> None:
    async with site(idle) as running, browser.tab(running.origin) as tab:
        websocket = await dial(tab, running)
        await within(websocket.close(code, reason))
        assert await tab.evaluate("socket.closing") == {
            "code": code,
            "reason": reason,
            "wasClean": True,
        }


@pytest.mark.parametrize(("code", "reason"), [(1001, ""), (1012, "back in a moment")])
async def test_the_server_closes(browser: Browser, code: int, reason: str) -> None:
    async with site(idle) as running, browser.tab(running.origin) as tab:
        websocket = await dial(tab, running)
        running.server.close(code=code, reason=reason)
        await within(running.server.wait_closed())
        assert websocket.close_code == code
        assert await tab.evaluate("socket.closing") == {
            "code": code,
            "reason": reason,
            "wasClean": True,
        }


async def test_the_handler_fails(browser: Browser, caplog: pytest.LogCaptureFixture) -> None:
    async def fail(websocket: ServerConnection) -> None:
        await websocket.recv()
        raise RuntimeError("of the test's making")

    async with site(fail) as running, browser.tab(running.origin) as tab:
        await dial(tab, running)
        await tab.evaluate("socket.send('go')")
        closed = await tab.evaluate("socket.closing")
        assert (closed["code"], closed["wasClean"]) == (1011, True)
    assert "connection handler failed" in caplog.text


async def test_the_connection_breaks(browser: Browser) -> None:
    async with site(idle) as running, browser.tab(running.origin) as tab:
        websocket = await dial(tab, running)
        websocket.transport.abort()
        closed = await tab.evaluate("socket.closing")
        assert closed == {"code": 1006, "reason": "", "wasClean": False}
        with pytest.raises(ConnectionClosedError):
            await within(websocket.recv())


# ---------------------------------------------------------------- negotiation

ANY_SETTINGS = {"client_max_window_bits": True}
DEFLATE = {
    "the default": {"compression": "deflate"},
    "no context": {
        "extensions": [
            ServerPerMessageDeflateFactory(
                server_no_context_takeover=True, client_no_context_takeover=True
            )
        ]
    },
    "small windows": {
        "extensions": [
            ServerPerMessageDeflateFactory(server_max_window_bits=9, client_max_window_bits=9)
        ]
    },
    "large windows": {
        "extensions": [
            ServerPerMessageDeflateFactory(server_max_window_bits=15, client_max_window_bits=15)
        ]
    },
}


@pytest.mark.parametrize("settings", DEFLATE.values(), ids=DEFLATE)
async def test_compression(browser: Browser, settings: Any) -> None:
    async with site(echo, **settings) as running, wire(running.port) as (between, origin):
        async with browser.tab(origin) as tab:
            websocket = await dial(tab, running)
            # Both sides name the same settings.
            extensions = await tab.evaluate("socket.extensions")
            assert extensions.startswith("permessage-deflate")
            assert websocket.response is not None
            assert extensions == websocket.response.headers["Sec-WebSocket-Extensions"]
            [extension] = websocket.protocol.extensions
            assert extension.name == "permessage-deflate"
            # Messages come through whole, and are smaller on their way.
            between.up = between.down = 0
            message = json.dumps([{"number": n, "square": n * n} for n in range(300)])
            await tab.evaluate(
                "(text, count) => { for (let i = 0; i < count; i++) socket.send(text); }",
                message,
                20,
            )
            await tab.until("count => socket.messages.length >= count", 20)
            assert await tab.evaluate("text => socket.messages.every(m => m === text)", message)
            assert 0 < between.up < 20 * len(message) / 2
            assert 0 < between.down < 20 * len(message) / 2


async def test_no_compression(browser: Browser) -> None:
    async with site(echo, compression=None) as running, wire(running.port) as (between, origin):
        async with browser.tab(origin) as tab:
            websocket = await dial(tab, running)
            assert await tab.evaluate("socket.extensions") == ""
            assert websocket.protocol.extensions == []
            between.up = between.down = 0
            await tab.evaluate("socket.send('x'.repeat(10000))")
            await tab.until("socket.messages.length")
            assert between.up == 10_000 + 8  # header and mask
            assert between.down == 10_000 + 4


async def test_subprotocol(browser: Browser) -> None:
    offered = ["v3.chat", "v2.chat", "v1.chat"]
    accepted = [Subprotocol("v1.chat"), Subprotocol("v2.chat")]
    async with site(idle, subprotocols=accepted) as running:
        async with browser.tab(running.origin) as tab:
            websocket = await dial(tab, running, protocols=offered)
            assert websocket.subprotocol == await tab.evaluate("socket.protocol")
            assert websocket.subprotocol in accepted
            assert websocket.request is not None
            assert websocket.request.headers["Sec-WebSocket-Protocol"] == ", ".join(offered)


async def test_origin(browser: Browser) -> None:
    accepted = [Origin("https://example.com"), re.compile(r"http://127\.0\.0\.1:\d+")]
    async with site(idle, origins=accepted) as running:
        async with browser.tab(running.origin) as tab:
            websocket = await dial(tab, running)
            assert websocket.protocol.origin == running.origin
        # The same server under another name is another origin.
        async with browser.tab(f"http://localhost:{running.port}") as tab:
            attempt = "dial({origin: " + json.dumps(running.origin) + "})"
            answered = await tab.event(
                "Network.webSocketFrameError",
                "Runtime.evaluate",
                expression=attempt,
            )
            assert "403" in answered["errorMessage"], answered
            closed = await tab.evaluate("socket.closing")
            assert closed == {"code": 1006, "reason": "", "wasClean": False}
        assert running.connections.empty()


async def test_cookies(browser: Browser) -> None:
    def process_response(_: ServerConnection, request: Request, response: Response) -> None:
        response.headers["Set-Cookie"] = "visit=1; HttpOnly; SameSite=Strict"

    async with site(idle, process_response=process_response) as running:
        async with browser.tab(running.origin) as tab:
            await tab.command("Network.clearBrowserCookies")
            for cookies in ([], ["visit=1"]):
                websocket = await dial(tab, running)
                assert websocket.request is not None
                assert websocket.request.headers.get_all("Cookie") == cookies
            assert await tab.evaluate("document.cookie") == ""


async def test_tls(browser: Browser) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    async with site(echo, page=PAGE_WITH_TEXTS, ssl=context) as running:
        async with browser.tab(running.origin) as tab:
            assert running.origin.startswith("https://")
            websocket = await dial(tab, running)
            assert await tab.evaluate("socket.url") == f"wss://127.0.0.1:{running.port}/socket"
            assert websocket.transport.get_extra_info("ssl_object").version() == "TLSv1.3"
            await tab.evaluate("samples().forEach(data => socket.send(data))")
            await tab.until("count => socket.messages.length >= count", len(samples()))
            assert await tab.evaluate("differences(samples())") == []
            await tab.evaluate("socket.close(1000, 'over TLS')")
            await within(websocket.wait_closed())
            assert (websocket.close_code, websocket.close_reason) == (1000, "over TLS")
            assert (await tab.evaluate("socket.closing"))["wasClean"]
