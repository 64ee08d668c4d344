"""The client for the command line: ``websockets URI``, or ``python -m websockets URI``.

At a terminal it is interactive; otherwise it sends the lines of its standard input and writes the
messages that it receives to its standard output.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import os
import ssl
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from .asyncio.client import ClientConnection, connect
from .datastructures import Headers
from .exceptions import (
    ConnectionClosed,
    ConnectionClosedOK,
    InvalidHeader,
    WebSocketException,
    printable,
)
from .frames import Close
from .headers import validate_subprotocols
from .typing import Data, Subprotocol
from .uri import parse_uri
from .version import version

__all__ = ["main"]

DESCRIPTION = "Talk to a WebSocket server."

EPILOG = """\
At a terminal, each line that is typed is sent as a text message, and messages
are shown as they come. Ctrl-C and Ctrl-D close the connection.

When the standard input or output is not a terminal, each line of the input is
sent as a text message, and each message that comes is written to the output,
followed by a newline; all else goes to the standard error:

    echo hi | websockets wss://example.com/ | head -1

At the end of the input, the client waits for answers: until nothing has come
for as long as --wait says since the server has received everything. It ends
earlier if the server closes the connection.

The exit status is 0, 1 if the connection could not be opened or, where not
both of input and output are terminals, did not end well, 2 for wrong
arguments, and 130 when interrupted there, or while connecting.
"""

#: Lines that may have been read ahead of what is sent.
READ_AHEAD = 16

CHUNK_SIZE = 65536


class InputError(Exception):
    """The standard input cannot be read or sent."""


# What is shown


class Terminal:
    """Someone at a terminal: messages appear above the line that is being typed."""

    interactive = True

    def __init__(self) -> None:
        if sys.platform == "win32":  # pragma: no cover
            # Its console knows escape sequences once a command has run in it.
            os.system("")
        if isinstance(sys.stdout, io.TextIOWrapper):
            # Not every terminal can show every character.
            sys.stdout.reconfigure(errors="backslashreplace")

    def report(self, text: str) -> None:
        """Tell what happens to the connection."""
        print(printable(text), flush=True)

    def prompt(self) -> None:
        """Ask for the next line."""
        print("> ", end="", flush=True)

    def show(self, message: Data) -> None:
        """Show a message that was received."""
        shown = printable(message) if isinstance(message, str) else f"(binary) {message.hex()}"
        # Remember where the cursor is (ESC 7); make sure that there is a line below, and go back
        # up (CSI A); push the line that is being typed down (CSI L) and write in its place; go
        # back to where the cursor was (ESC 8), which is one line lower now (CSI B).
        print(f"\x1b7\n\x1b[A\x1b[L< {shown}\n\x1b8\x1b[B", end="", flush=True)

    def conclude(self, text: str) -> None:
        """Replace the prompt by a last line (CSI K erases it)."""
        print("\r\x1b[K", end="")
        self.report(text)


class Pipe:
    """Other programs: messages and nothing else go to the standard output."""

    interactive = False

    def report(self, text: str) -> None:
        """Tell what happens to the connection."""
        print(printable(text), file=sys.stderr, flush=True)

    conclude = report

    def prompt(self) -> None:
        """Programs know what to send."""

    def show(self, message: Data) -> None:
        """Write a message that was received."""
        output = sys.stdout.buffer
        output.write((message.encode() if isinstance(message, str) else message) + b"\n")
        output.flush()


# What is read


def split_lines(stream: io.RawIOBase) -> Iterator[bytes]:
    """Yield the lines of a stream as they arrive; the last one may lack its newline."""
    pieces: list[bytes] = []
    while chunk := stream.read(CHUNK_SIZE):
        head, *lines = chunk.split(b"\n")
        pieces.append(head)
        for line in lines:
            yield b"".join(pieces).removesuffix(b"\r")
            pieces = [line]
    if rest := b"".join(pieces):
        yield rest


async def read_lines() -> AsyncIterator[str]:
    """Yield the lines of the standard input.

    A thread reads them, as files and consoles cannot be waited for otherwise. It is left behind
    when nobody wants its lines any more, and holds no lock that the interpreter needs to exit.

    Raises:
        InputError: if it cannot be read, or is not UTF-8.
    """
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[bytes | OSError | None] = asyncio.Queue()
    room = threading.Semaphore(READ_AHEAD)

    def put(item: bytes | OSError | None) -> None:
        room.acquire()
        loop.call_soon_threadsafe(queue.put_nowait, item)

    def read() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            try:
                # Without a buffer: its lock would be held while this waits.
                with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as stream:
                    for line in split_lines(stream):
                        put(line)
            except OSError as exc:
                put(exc)
            put(None)

    # There is none in a program without a console, or when the shell has closed it.
    if sys.stdin is None:
        return
    threading.Thread(target=read, daemon=True).start()
    number = 0
    while (item := await queue.get()) is not None:
        room.release()
        if isinstance(item, OSError):
            raise InputError(f"cannot read the input: {item}")
        number += 1
        try:
            yield item.decode()
        except UnicodeDecodeError as exc:
            raise InputError(f"line {number} of the input is not UTF-8: {exc}") from None


# The conversation


async def converse(websocket: ClientConnection, screen: Terminal | Pipe, wait: float) -> None:
    """Send what is read and show what comes, until one of the sides has had enough."""
    clock = asyncio.get_running_loop().time
    heard = 0.0

    async def receive() -> None:
        nonlocal heard
        async for message in websocket:
            screen.show(message)
            heard = clock()

    async def send() -> None:
        nonlocal heard
        screen.prompt()
        async for line in read_lines():
            await websocket.send(line)
            screen.prompt()
        if screen.interactive:
            return
        # RFC 6455 section 5.5.3: the pong says that all has been received, not that it has been
        # answered.
        await (await websocket.ping())
        heard = clock()
        while (left := heard + wait - clock()) > 0:
            await asyncio.sleep(left)

    tasks = [asyncio.create_task(receive()), asyncio.create_task(send())]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            with contextlib.suppress(ConnectionClosed):
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def talk(screen: Terminal | Pipe, uri: str, wait: float, **options: Any) -> int:
    """Connect, converse, and return the exit status."""
    try:
        websocket = await connect(uri, **options)
    except (OSError, WebSocketException, ValueError, ImportError) as exc:
        screen.report(f"Failed to connect to {uri}: {str(exc) or repr(exc)}.")
        return 1
    screen.report(f"Connected to {uri}.")
    if websocket.subprotocol is not None:
        screen.report(f"Subprotocol: {websocket.subprotocol}.")
    status = 0
    try:
        await converse(websocket, screen, wait)
    except asyncio.CancelledError:  # Ctrl-C
        status = 130
    except BrokenPipeError:
        # Whoever reads the output has had enough, as head does. At exit, Python would try again to
        # write what is left in the buffer.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (InputError, OSError) as exc:
        screen.report(f"Error: {exc}.")
        status = 1
    await websocket.close()
    assert websocket.close_code is not None and websocket.close_reason is not None
    screen.conclude(f"Connection closed: {Close(websocket.close_code, websocket.close_reason)}.")
    if screen.interactive:
        return 0
    if not isinstance(websocket.protocol.close_exc, ConnectionClosedOK):
        status = status or 1
    return status


# The command line


def header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    value = value.strip()
    if not colon:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME:VALUE")
    try:
        Headers([(name, value)])
    except InvalidHeader as exc:
        raise argparse.ArgumentTypeError(str(exc)) from None
    return name, value


def subprotocol(text: str) -> Subprotocol:
    subprotocol = Subprotocol(text)
    try:
        validate_subprotocols([subprotocol])
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from None
    return subprotocol


def seconds(text: str) -> float:
    value = float(text)
    if not value >= 0:
        raise ValueError
    return value


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="websockets",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument(
        "uri", nargs="?", metavar="<uri>", help="the server: ws://host[:port]/path or wss://..."
    )
    parser.add_argument("--help", action="help", help="show this text and exit")
    parser.add_argument("--version", action="store_true", help="show the version and exit")
    parser.add_argument(
        "--header",
        action="append",
        default=[],
        type=header,
        metavar="NAME:VALUE",
        help="a header of the handshake request; may be repeated",
    )
    parser.add_argument(
        "--subprotocol",
        action="append",
        default=[],
        type=subprotocol,
        metavar="NAME",
        help="a subprotocol to offer; may be repeated, in order of preference",
    )
    parser.add_argument(
        "--insecure",
        action="store_true",
        help="do not verify the certificate of a wss:// server",
    )
    parser.add_argument(
        "--wait",
        type=seconds,
        default=1.0,
        metavar="SECONDS",
        help="how long to wait for answers at the end of the input (default: 1); "
        "inf: until the server closes the connection",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the client for the command line.

    Args:
        argv: arguments without the program's name; those of the process unless given.

    Returns:
        The exit status.

    Raises:
        SystemExit: for ``--help``, with status 0, and for wrong arguments, with status 2.
    """
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.version:
        print(f"websockets {version}")
        return 0
    if args.uri is None:
        parser.error("the following arguments are required: <uri>")
    options: dict[str, Any] = {}
    if args.header:
        options["additional_headers"] = args.header
    if args.subprotocol:
        options["subprotocols"] = args.subprotocol
    if args.insecure:
        with contextlib.suppress(WebSocketException):  # connect() tells what is wrong with the URI
            if parse_uri(args.uri).secure:
                context = ssl.create_default_context()
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
                options["ssl"] = context
    terminals = all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))
    screen = Terminal() if terminals else Pipe()
    try:
        return asyncio.run(talk(screen, args.uri, args.wait, **options))
    except KeyboardInterrupt:
        if screen.interactive:
            print()  # behind ^C
        return 130
