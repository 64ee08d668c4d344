"""
A Chromium driven over its DevTools protocol: cdp_browser.py CLIENT, zendriver or nodriver.

Both have one websockets connection for each tab and one for the browser. The page comes from a
server in this process. The path of the browser is in CHROMIUM.
"""

from __future__ import annotations

import asyncio
import http.server
import importlib
import inspect
import os
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from checks import Checks

PAGE = b"""<!doctype html>
<title>A page</title>
<input id="name">
<button id="greet" onclick="greet()">Greet</button>
<p id="greeting"></p>
<script>
  function greet() {
    const name = document.getElementById("name").value;
    document.getElementById("greeting").textContent = `Hello, ${name}!`;
    console.log(`greeted ${name}`);
  }
</script>
"""

checks = Checks()
client: Any = importlib.import_module(sys.argv[1])


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, *arguments: object) -> None:
        pass


async def settle(result: Any) -> Any:
    """Wait for what is a coroutine with one of the clients only."""
    return await result if inspect.isawaitable(result) else result


async def show(browser: Any, url: str, **options: Any) -> Any:
    """Open a page, and wait until it is there, which not every client does."""
    tab = await browser.get(url, **options)
    state = "document.readyState + ' ' + location.href"
    while await tab.evaluate(state) != f"complete {url}":
        await asyncio.sleep(0.02)
    return tab


@checks.add
async def opens_a_page(browser: Any, url: str) -> None:
    tab = await show(browser, url)
    assert await tab.evaluate("document.title") == "A page"


@checks.add
async def evaluates_an_expression(browser: Any, url: str) -> None:
    tab = await show(browser, url)
    assert await tab.evaluate("6 * 7") == 42
    assert await tab.evaluate("'Gr\\u00fc\\u00dfe, ' + '🌍'") == "Grüße, 🌍"


@checks.add
async def waits_for_a_promise(browser: Any, url: str) -> None:
    tab = await show(browser, url)
    promise = "new Promise(resolve => setTimeout(() => resolve('later'), 50))"
    assert await tab.evaluate(promise, await_promise=True) == "later"


@checks.add
async def types_and_clicks(browser: Any, url: str) -> None:
    tab = await show(browser, url)
    await (await tab.select("#name")).send_keys("world")
    await (await tab.select("#greet")).click()
    await tab.wait(0.1)
    assert await tab.evaluate("document.getElementById('greeting').textContent") == "Hello, world!"


@checks.add
async def receives_a_large_message(browser: Any, url: str) -> None:
    tab = await show(browser, url)
    text = await tab.evaluate("'0123456789abcdef'.repeat(2 ** 19)")
    assert text == "0123456789abcdef" * 2**19


@checks.add
async def sends_a_large_message(browser: Any, url: str) -> None:
    tab = await show(browser, url)
    assert await tab.evaluate(f"'{'x' * 2**22}'.length") == 2**22


@checks.add
async def makes_many_calls_at_once(browser: Any, url: str) -> None:
    tab = await show(browser, url)
    results = await asyncio.gather(*(tab.evaluate(f"{n} * {n}") for n in range(300)))
    assert results == [n * n for n in range(300)]


@checks.add
async def receives_events(browser: Any, url: str) -> None:
    tab = await show(browser, url)
    cdp = client.cdp
    logged: asyncio.Queue[str] = asyncio.Queue()

    async def on_console(event: Any, *_: Any) -> None:
        logged.put_nowait(event.args[0].value)

    tab.add_handler(cdp.runtime.ConsoleAPICalled, on_console)
    await tab.send(cdp.runtime.enable())
    for n in range(100):
        await tab.evaluate(f"console.log('number {n}')")
    async with asyncio.timeout(10):
        assert [await logged.get() for _ in range(100)] == [f"number {n}" for n in range(100)]


@checks.add
async def takes_a_screenshot(browser: Any, url: str) -> None:
    tab = await show(browser, url)
    path = Path(await tab.save_screenshot("screenshot.png", format="png"))
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG") and len(data) > 1000, len(data)


@checks.add
async def has_two_tabs(browser: Any, url: str) -> None:
    one = await show(browser, url)
    two = await show(browser, "data:text/html,<title>Another</title>", new_tab=True)
    titles = await asyncio.gather(*(tab.evaluate("document.title") for tab in [one, two]))
    assert titles == ["A page", "Another"], titles
    await two.close()
    assert await one.evaluate("1 + 1") == 2


async def main() -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = await client.start(
            headless=True,
            sandbox=False,
            browser_executable_path=os.environ["CHROMIUM"],
            user_data_dir=profile,
            browser_args=[
                # Nothing is looked up or fetched outside this machine.
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-quic",
                "--disable-sync",
                "--disable-gpu",
                "--no-first-run",
            ],
        )
        await checks.run(browser, f"http://127.0.0.1:{server.server_port}/")

        async def stops(browser: Any) -> None:
            await settle(browser.stop())

        await checks.one("stops", stops(browser))
    server.shutdown()


asyncio.run(main())
checks.finish()
