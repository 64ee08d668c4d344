"""
A Chromium driven by pyppeteer, a client on the original API.

It asks for websockets 10, whose API is still there. The path of the browser is in CHROMIUM.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from checks import Checks, expect
from pyppeteer import launch
from pyppeteer.errors import NetworkError

PAGE = """data:text/html,<!doctype html><title>A page</title>
<input id="name">
<button onclick="document.title = 'Hello, ' + document.getElementById('name').value">Greet</button>
"""

checks = Checks()


@checks.add
async def evaluates_an_expression(page: Any) -> None:
    expect([await page.title(), await page.evaluate("() => 6 * 7")], ["A page", 42])


@checks.add
async def types_and_clicks(page: Any) -> None:
    await page.type("#name", "Grüße")
    await page.click("button")
    expect(await page.title(), "Hello, Grüße")


@checks.add
async def large_messages(page: Any) -> None:
    expect(await page.evaluate("() => 'x'.repeat(2 ** 23)") == "x" * 2**23, True)
    expect(await page.evaluate("text => text.length", "x" * 2**22), 2**22)


@checks.add
async def many_calls_at_once(page: Any) -> None:
    found = await asyncio.gather(*(page.evaluate(f"() => {n} * {n}") for n in range(300)))
    expect(found, [n * n for n in range(300)])


@checks.add
async def receives_events(page: Any) -> None:
    logged: asyncio.Queue[str] = asyncio.Queue()
    page.on("console", lambda message: logged.put_nowait(message.text))
    await page.evaluate("() => { for (let n = 0; n < 100; n++) console.log(`number ${n}`) }")
    expect([await logged.get() for _ in range(100)], [f"number {n}" for n in range(100)])


@checks.add
async def takes_a_screenshot(page: Any) -> None:
    data = await page.screenshot()
    assert data.startswith(b"\x89PNG") and len(data) > 1000, len(data)


@checks.add
async def notices_that_the_browser_is_gone(page: Any) -> None:
    page.browser.process.kill()
    try:
        while True:
            await page.evaluate("() => 1")
    except NetworkError:
        pass


async def main() -> None:
    browser = await launch(
        headless=True,
        executablePath=os.environ["CHROMIUM"],
        # It cannot go through what handles them.
        handleSIGINT=False,
        handleSIGTERM=False,
        handleSIGHUP=False,
        args=[
            "--no-sandbox",
            # Nothing is looked up or fetched outside this machine.
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-quic",
            "--disable-sync",
            "--disable-gpu",
            "--no-first-run",
        ],
    )
    page = await browser.newPage()
    await page.goto(PAGE)
    await checks.run(page)
    await browser.close()


asyncio.run(main())
checks.finish()
