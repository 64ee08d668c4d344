"""
A chat room with its page: run it and open http://localhost:8765/ in several tabs.

Page and server exchange JSON:

    {"type": "hello", "name": ...}              page: first message; asks for a name
    {"type": "welcome", "name": ..., "history": [...]}      the name given, the last messages
    {"type": "people", "names": [...]}                      who is here, at each change
    {"type": "message", "id": ..., "text": ...}             page: the id is for it to choose
    {"type": "message", "id": ..., "text": ..., "name": ..., "time": ...}       to everyone

A page takes its message's id, coming back, for the receipt, and sends what has none again when it
is connected again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.http11 import Request, Response

PAGE = Path(__file__).with_name("chat.html").read_text(encoding="utf-8")
# All that the page needs is in it, and it has nobody to talk to but this server.
PAGE_HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        "default-src 'none'; connect-src 'self'; img-src data:; "
        "script-src 'unsafe-inline'; style-src 'unsafe-inline'"
    ),
}

HISTORY = 100  # messages
NAME_LENGTH = 30  # characters
TEXT_LENGTH = 4000  # characters
BACKLOG = 2**23  # bytes that wait for a page which does not read; the history takes up to 5 MB


class Room:
    """Who is connected, and what was said last."""

    def __init__(self) -> None:
        self.people: dict[ServerConnection, str] = {}
        self.history: deque[dict[str, Any]] = deque(maxlen=HISTORY)

    async def handler(self, websocket: ServerConnection) -> None:
        """Let a page in, and pass on what it says until it leaves."""
        try:
            name = self.free_name(expect(await websocket.recv(), "hello", name=NAME_LENGTH)["name"])
            # Before anything is awaited: nobody else gets the name, and no message is missed.
            self.people[websocket] = name
            welcome = {"type": "welcome", "name": name, "history": list(self.history)}
            await websocket.send(json.dumps(welcome))
            self.tell_people()
            async for data in websocket:
                message = expect(data, "message", id=NAME_LENGTH * 2, text=TEXT_LENGTH)
                self.say(name, message["text"], message["id"])
        except ConnectionClosed:
            pass  # before it was let in
        except ValueError as exc:
            await websocket.close(CloseCode.POLICY_VIOLATION, str(exc))
        finally:
            if self.people.pop(websocket, None) is not None:
                self.tell_people()

    def free_name(self, name: str) -> str:
        """Return a name that nobody else has here."""
        name = name.strip() or "Anonymous"
        taken = set(self.people.values())
        candidates = [name, *(f"{name} {number}" for number in range(2, len(taken) + 2))]
        return next(candidate for candidate in candidates if candidate not in taken)

    def say(self, name: str, text: str, key: str) -> None:
        """Tell everyone, unless it was told before."""
        # What is known was sent again by a page that lost its connection before the receipt.
        message = next((known for known in self.history if known["id"] == key), None)
        if message is None:
            message = {
                "type": "message",
                "id": key,
                "name": name,
                "text": text,
                "time": time.time(),
            }
            self.history.append(message)
        self.tell(message)

    def tell_people(self) -> None:
        self.tell({"type": "people", "names": sorted(self.people.values(), key=str.casefold)})

    def tell(self, message: dict[str, Any]) -> None:
        # It waits for nobody: a page that no longer reads is found and closed by keepalive, unless
        # the others have so much to say that it takes too much memory until then.
        for websocket in self.people:
            if websocket.transport.get_write_buffer_size() > BACKLOG:
                websocket.transport.abort()
        broadcast(self.people, json.dumps(message))


def expect(data: str | bytes, kind: str, **lengths: int) -> dict[str, str]:
    """Return what a page sent, if it is of a type and has strings of at most these lengths."""
    try:
        message = json.loads(data)
    except (ValueError, RecursionError):
        # Their texts can be longer than the reason of a close.
        raise ValueError("expected JSON") from None
    if not isinstance(message, dict) or message.get("type") != kind:
        raise ValueError(f"expected a message of type {kind}")
    for key, length in lengths.items():
        if not isinstance(message.get(key), str) or len(message[key]) > length:
            raise ValueError(f"expected {key} to be a string of up to {length} characters")
    return message


def answer_http(websocket: ServerConnection, request: Request) -> Response | None:
    """Answer plain HTTP; None lets a page open its WebSocket."""
    path, _, _ = request.path.partition("?")
    if path == "/":
        response = websocket.respond(200, PAGE)
        del response.headers["Content-Type"]  # or there would be two
        response.headers.update(PAGE_HEADERS)
        return response
    if path == "/chat":
        return None
    if path == "/healthz":
        return websocket.respond(200, "OK\n")
    return websocket.respond(404, "Not found\n")


def chat_server(host: str = "localhost", port: int = 8765, **kwargs: Any) -> Server:
    """Create the server; for the other arguments see :func:`serve`."""
    logger = logging.getLogger("chat")
    logger.setLevel(logging.WARNING)  # no line for each visitor
    return serve(
        Room().handler,
        host,
        port,
        process_request=answer_http,
        max_size=2**15,
        logger=logger,
        **kwargs,
    )


async def main(host: str, port: int) -> None:
    async with chat_server(host, port) as server:
        with suppress(NotImplementedError):  # on Windows
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.close)
        host, port = server.sockets[0].getsockname()[:2]
        print(f"open http://{host}:{port}/", flush=True)
        await server.wait_closed()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A chat room with its page.")
    parser.add_argument("--host", default="localhost", help="interface to listen on")
    parser.add_argument("--port", default=8765, type=int, help="port to listen on, 0 for any")
    options = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    with suppress(KeyboardInterrupt):
        asyncio.run(main(options.host, options.port))
