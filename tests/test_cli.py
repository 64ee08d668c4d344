"""The client for the command line, at a terminal and between pipes."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import io
import os
import ssl
import sys
from pathlib import Path

import pytest

import websockets
from websockets import cli
from websockets.cli import Pipe, Terminal, main, printable, split_lines, talk

from .helpers import echo, serving, uri_of, within

needs_terminals = pytest.mark.skipif(sys.platform == "win32", reason="there are no terminals")

# What makes room for a message above the line that is being typed, and what goes back to it.
ABOVE, BACK = "\x1b7\n\x1b[A\x1b[L", "\n\x1b8\x1b[B"


class Input:
    """A standard input that is a pipe."""

    def __init__(self):
        self.read_end, self.write_end = os.pipe()

    def fileno(self):
        return self.read_end

    def isatty(self):
        return False

    def write(self, data):
        os.write(self.write_end, data)

    def end(self):
        os.close(self.write_end)
        self.write_end = None


@pytest.fixture
def stdin(monkeypatch):
    stdin = Input()
    monkeypatch.setattr(sys, "stdin", stdin)
    yield stdin
    if stdin.write_end is not None:
        stdin.end()
    # What still reads it sees the end now; to close it under its feet would not do.
    os.dup2(os.open(os.devnull, os.O_RDONLY), stdin.read_end)


async def ends(server, screen, *, wait=0.01, path="/", **options):
    """Run the client; return its exit status."""
    return await within(talk(screen, uri_of(server, path), wait, **options))


# Between pipes


async def test_lines_go_in_and_messages_come_out(stdin, capsysbinary):
    stdin.write("one\ntwo \r\n\nd\u00e9j\u00e0 vu".encode())
    stdin.end()
    async with serving() as server:
        assert await ends(server, Pipe()) == 0
        uri = uri_of(server)
    out, err = capsysbinary.readouterr()
    assert out == b"one\ntwo \n\n" + "d\u00e9j\u00e0 vu\n".encode()
    assert err.decode() == f"Connected to {uri}.\nConnection closed: 1000 (OK).\n"


async def test_binary_messages_are_written_as_they_are(stdin, capsysbinary):
    async def handler(ws):
        await ws.send(b"\x00\xff\n")
        await ws.send("\x1b[31m")

    async with serving(handler) as server:
        assert await ends(server, Pipe()) == 0
    assert capsysbinary.readouterr().out == b"\x00\xff\n\n\x1b[31m\n"


async def test_answers_are_waited_for(stdin, capsysbinary):
    """Until nothing comes for some time; the time starts anew with each message."""
    stdin.write(b"hi\n")
    stdin.end()
    closing = []

    async def handler(ws):
        message = await ws.recv()
        for _ in range(15):
            await asyncio.sleep(0.02)
            await ws.send(message)
        await ws.wait_closed()
        closing.append(ws.close_code)

    async with serving(handler) as server:
        assert await ends(server, Pipe(), wait=0.25) == 0
    assert capsysbinary.readouterr().out == b"hi\n" * 15
    assert closing == [1000]


async def test_answers_are_waited_for_until_the_server_closes(stdin, capsysbinary):
    stdin.write(b"hi\n")
    stdin.end()

    async def handler(ws):
        await ws.send(await ws.recv())
        await ws.close(1001, "bye\x1b[31m")

    async with serving(handler) as server:
        assert await ends(server, Pipe(), wait=float("inf")) == 0
    out, err = capsysbinary.readouterr()
    assert out == b"hi\n"
    assert err.endswith(b"\nConnection closed: 1001 (going away) bye\\x1b[31m.\n")


async def test_the_server_closes_before_the_input_ends(stdin, capsysbinary):
    async def handler(ws):
        await ws.close(4000, "enough")

    async with serving(handler) as server:
        assert await ends(server, Pipe()) == 1
    assert capsysbinary.readouterr().err.endswith(
        b"\nConnection closed: 4000 (private use) enough.\n"
    )


async def test_the_server_closes_while_much_is_sent(stdin, capsysbinary):
    """What cannot be sent any more is no error of its own."""

    async def handler(ws):
        await ws.recv()
        await ws.close(1008)

    async with serving(handler) as server:
        stdin.write(b"line\n" * 100)
        assert await ends(server, Pipe()) == 1
    assert capsysbinary.readouterr().err.endswith(
        b"\nConnection closed: 1008 (policy violation).\n"
    )


async def test_the_connection_is_lost(stdin, capsysbinary):
    async def handler(ws):
        ws.transport.abort()

    async with serving(handler) as server:
        assert await ends(server, Pipe()) == 1
    assert capsysbinary.readouterr().err.endswith(
        b"\nConnection closed: 1006 (abnormal closure [internal]).\n"
    )


async def test_more_lines_than_are_read_ahead(stdin, capsysbinary):
    lines = b"".join(b"%d\n" % number for number in range(20 * cli.READ_AHEAD))
    stdin.write(lines)
    stdin.end()
    async with serving() as server:
        assert await ends(server, Pipe()) == 0
    assert capsysbinary.readouterr().out == lines


async def test_input_that_is_not_text(stdin, capsysbinary):
    stdin.write(b"good\nb\xffd\nnever sent\n")
    async with serving() as server:
        assert await ends(server, Pipe()) == 1
    out, err = capsysbinary.readouterr()
    assert b"never" not in out
    assert (
        b"\nError: line 2 of the input is not UTF-8: 'utf-8' codec can't decode byte 0xff in "
        b"position 1: invalid start byte.\nConnection closed: 1000 (OK).\n"
    ) in err


async def test_input_that_cannot_be_read(stdin, capsysbinary):
    # A descriptor that is for writing only.
    stdin.read_end, kept = stdin.write_end, stdin.read_end
    try:
        async with serving() as server:
            assert await ends(server, Pipe()) == 1
    finally:
        stdin.read_end = kept
    assert b"\nError: cannot read the input: [Errno 9] " in capsysbinary.readouterr().err


async def test_no_input(monkeypatch, capsysbinary):
    """As in a program without a console."""
    monkeypatch.setattr(sys, "stdin", None)

    async def handler(ws):
        await ws.send("news")
        await ws.wait_closed()

    async with serving(handler) as server:
        assert await ends(server, Pipe()) == 0
    assert capsysbinary.readouterr().out == b"news\n"


async def test_interruption_between_pipes(stdin, capsysbinary):
    arrived = asyncio.Event()
    codes = []

    async def handler(ws):
        arrived.set()
        await ws.wait_closed()
        codes.append(ws.close_code)

    async with serving(handler) as server:
        task = asyncio.create_task(talk(Pipe(), uri_of(server), 1))
        await within(arrived.wait())
        while b"Connected" not in capsysbinary.readouterr().err:
            await asyncio.sleep(0)
        task.cancel()
        assert await within(task) == 130
    assert codes == [1000]
    assert capsysbinary.readouterr().err == b"Connection closed: 1000 (OK).\n"


async def test_nobody_reads_the_output(stdin, monkeypatch, capfd):
    """As when `head` has ended. That is no error, and is not reported again at exit."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    with contextlib.closing(open(write_end, "w")) as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        stdin.write(b"hi\n")
        async with serving() as server:
            assert await ends(server, Pipe()) == 0
        stdout.flush()
    assert "Error" not in capfd.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
async def test_no_room_for_the_output(stdin, monkeypatch, capsys):
    stdout = io.TextIOWrapper(open("/dev/full", "wb"))
    monkeypatch.setattr(sys, "stdout", stdout)
    stdin.write(b"hi\n")
    async with serving() as server:
        assert await ends(server, Pipe()) == 1
    with contextlib.suppress(OSError):
        stdout.close()
    assert "\nError: [Errno 28] " in capsys.readouterr().err


# At a terminal


async def test_conversation_at_a_terminal(stdin, capsys):
    """What 17.4 writes, byte by byte."""
    seen = []

    async def handler(ws):
        async for message in ws:
            seen.append(message)
            await ws.send(b"\x00\xff" if message == "binary" else message)
            if message == "end":
                await ws.close(1000, "done")

    async with serving(handler) as server:
        task = asyncio.create_task(talk(Terminal(), uri_of(server), 1))
        for line in ("hello", "binary", "", "end"):
            stdin.write(f"{line}\n".encode())
            while len(seen) == 0 or seen[-1] != line:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.01)
        assert await within(task) == 0
        assert capsys.readouterr().out == (
            f"Connected to {uri_of(server)}.\n"
            f"> > {ABOVE}< hello{BACK}"
            f"> {ABOVE}< (binary) 00ff{BACK}"
            f"> {ABOVE}< {BACK}"
            f"> {ABOVE}< end{BACK}"
            "\r\x1b[KConnection closed: 1000 (OK) done.\n"
        )


@pytest.mark.parametrize("how", ["end", "interrupt"])
async def test_the_end_at_a_terminal(stdin, capsys, how):
    """Ctrl-D and Ctrl-C. Answers are not waited for, and the exit status is 0."""
    arrived = asyncio.Event()

    async def handler(ws):
        arrived.set()
        await ws.wait_closed()

    async with serving(handler) as server:
        task = asyncio.create_task(talk(Terminal(), uri_of(server), float("inf")))
        await within(arrived.wait())
        shown = ""
        while "> " not in shown:
            await asyncio.sleep(0)
            shown += capsys.readouterr().out
        if how == "end":
            stdin.end()
        else:
            task.cancel()
        assert await within(task) == 0
    assert capsys.readouterr().out == "\r\x1b[KConnection closed: 1000 (OK).\n"


async def test_lost_at_a_terminal(stdin, capsys):
    async def handler(ws):
        ws.transport.abort()

    async with serving(handler) as server:
        assert await ends(server, Terminal()) == 0
    assert capsys.readouterr().out.endswith(
        "\r\x1b[KConnection closed: 1006 (abnormal closure [internal]).\n"
    )


def test_messages_do_not_command_the_terminal():
    assert printable("\x1b[31m \x00\t\n\r\x7f\x85\x9b") == (r"\x1b[31m \x00\t\n\r\x7f\x85\x9b")
    plain = "back\\slash 'quotes' \"double\" \xa0 \u00e9 \U0001f600"
    assert printable(plain) == plain


def test_characters_that_the_terminal_does_not_have(monkeypatch):
    stdout = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", stdout)
    Terminal().report("d\u00e9j\u00e0")
    assert stdout.buffer.getvalue() == rb"d\xe9j\xe0" + b"\n"
    # Programs that show Python's output themselves may have something else there.
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    Terminal().report("d\u00e9j\u00e0")
    assert sys.stdout.getvalue() == "d\u00e9j\u00e0\n"


# Lines


@pytest.mark.parametrize("size", [1, 2, 3, 100])
@pytest.mark.parametrize(
    "data, lines",
    [
        (b"", []),
        (b"a", [b"a"]),
        (b"a\n", [b"a"]),
        (b"\n\na\r\nb\rc\n", [b"", b"", b"a", b"b\rc"]),
        (b"abcdef\nghi", [b"abcdef", b"ghi"]),
    ],
)
def test_lines(data, lines, size, monkeypatch):
    monkeypatch.setattr(cli, "CHUNK_SIZE", size)
    assert list(split_lines(io.BytesIO(data))) == lines


# Arguments


def run(*argv):
    """Run main() in a thread of its own loop, and return its status."""
    return asyncio.to_thread(main, [*argv])


async def test_headers_and_subprotocols(stdin, capsysbinary):
    stdin.end()
    requests = []

    async def handler(ws):
        requests.append(ws.request)

    async with serving(handler, subprotocols=["chat", "other"]) as server:
        status = await run(
            *("--header", "X-One: a b", "--header=X-Two:", "--header", "x-one:c"),
            *("--header", "User-Agent: test"),
            *("--subprotocol", "unknown", "--subprotocol", "chat", uri_of(server, "/path")),
            *("--wait", "0"),
        )
    assert status == 0
    (request,) = requests
    assert request.path == "/path"
    assert request.headers.get_all("X-One") == ["a b", "c"]
    assert request.headers["X-Two"] == ""
    assert request.headers.get_all("User-Agent") == ["test"]
    assert request.headers["Sec-WebSocket-Protocol"] == "unknown, chat"
    assert b"\nSubprotocol: chat.\n" in capsysbinary.readouterr().err


async def test_insecure(stdin, capsysbinary, tls):
    """The certificate of the tests is signed by nobody whom the system trusts."""
    stdin.write(b"hi\n")
    stdin.end()
    async with serving(ssl=tls.server) as server:
        uri = uri_of(server, scheme="wss")
        assert await run(uri) == 1
        out, err = capsysbinary.readouterr()
        assert not out
        assert err.startswith(
            f"Failed to connect to {uri}: [SSL: CERTIFICATE_VERIFY_FAILED]".encode()
        )
        assert await run("--insecure", "--wait", "0.01", uri) == 0
        assert capsysbinary.readouterr().out == b"hi\n"


async def test_insecure_makes_no_difference_to_others(stdin, capsysbinary):
    stdin.end()
    async with serving() as server:
        assert await run("--insecure", "--wait", "0", uri_of(server)) == 0


@pytest.mark.parametrize("arguments", [["http://localhost/"], ["--insecure", "http://localhost/"]])
def test_uri_that_is_none(arguments, capsys, stdin):
    assert main(arguments) == 1
    assert capsys.readouterr().err == (
        "Failed to connect to http://localhost/: "
        "http://localhost/ isn't a valid URI: scheme isn't ws or wss.\n"
    )


async def test_refused(capsysbinary, stdin):
    async with serving(process_request=lambda ws, request: ws.respond(403, "no")) as server:
        uri = uri_of(server)
        assert await run(uri) == 1
    assert capsysbinary.readouterr().err.decode() == (
        f"Failed to connect to {uri}: server rejected WebSocket connection: HTTP 403.\n"
    )
    assert await run(uri) == 1
    assert f"Failed to connect to {uri}: [Errno ".encode() in capsysbinary.readouterr().err


def test_failure_without_a_text(monkeypatch, capsys, stdin):
    def connect(uri):
        raise OSError

    monkeypatch.setattr(cli, "connect", connect)
    assert main(["ws://localhost/"]) == 1
    assert capsys.readouterr().err == "Failed to connect to ws://localhost/: OSError().\n"


@pytest.mark.parametrize("terminal, shown", [(True, "\n"), (False, "")])
def test_interrupted_while_connecting(monkeypatch, stdin, capsys, terminal, shown):
    def connect(uri):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "connect", connect)
    for stream in (sys.stdin, sys.stdout):
        monkeypatch.setattr(stream, "isatty", lambda: terminal, raising=False)
    assert main(["ws://localhost/"]) == 130
    assert capsys.readouterr().out == shown


def test_version(capsys):
    assert main(["--version"]) == 0
    assert main(["--version", "ws://localhost/"]) == 0
    assert capsys.readouterr().out == f"websockets {websockets.__version__}\n" * 2


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        ([], "the following arguments are required: <uri>"),
        (["a", "b"], "unrecognized arguments: b"),
        (["--vers"], "unrecognized arguments: --vers"),
        (["--header", "X", "a"], "argument --header: 'X' is not NAME:VALUE"),
        (["--header", "a b: c", "a"], "argument --header: invalid a b header: c"),
        (["--header", "a: \x00", "a"], "argument --header: invalid a header: \\x00"),
        (["--subprotocol", "a b", "a"], "argument --subprotocol: invalid subprotocol: a b"),
        (["--wait", "-1", "a"], "argument --wait: invalid seconds value: '-1'"),
        (["--wait", "nan", "a"], "argument --wait: invalid seconds value: 'nan'"),
    ],
)
def test_wrong_arguments(arguments, complaint, capsys):
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert raised.value.code == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("usage: websockets [--help] [--version]")
    assert err.endswith(f"websockets: error: {complaint}\n")


def test_help(capsys):
    with pytest.raises(SystemExit) as raised:
        main(["--help"])
    assert raised.value.code == 0
    shown = capsys.readouterr().out
    for option in ("--help", "--version", "--header", "--subprotocol", "--insecure", "--wait"):
        assert f"\n  {option}" in shown
    assert max(map(len, shown.splitlines())) <= 80


# The process


def start(*arguments, **streams):
    return asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "websockets",
        *arguments,
        env={**os.environ, "PYTHONPATH": str(Path(websockets.__file__).parents[1])},
        **streams,
    )


def test_to_import_the_program_does_not_run_it():
    importlib.import_module("websockets.__main__")


async def test_process_between_pipes():
    """It ends when the server closes, though its input does not end."""

    async def handler(ws):
        await ws.send(await ws.recv())

    async with serving(handler) as server:
        process = await start(
            uri_of(server),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        process.stdin.write(b"hi\n")
        assert await within(process.stdout.read()) == b"hi\n"
        assert b"Traceback" not in await within(process.stderr.read())
        assert await within(process.wait()) == 0
        process.stdin.close()


@needs_terminals
@pytest.mark.parametrize("how", ["Ctrl-C", "Ctrl-D"])
async def test_process_at_a_terminal(how):
    import signal

    loop = asyncio.get_running_loop()
    ours, its = os.openpty()
    async with serving(echo) as server:
        # Where these tests run in the background, a shell has had them ignore it.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            process = await start(uri_of(server), stdin=its, stdout=its, stderr=its)
        finally:
            signal.signal(signal.SIGINT, before)
        os.close(its)
        shown = ""

        async def shows(text):
            nonlocal shown
            while text not in shown:
                shown += (await within(loop.run_in_executor(None, os.read, ours, 65536))).decode()

        await shows("> ")
        os.write(ours, b"hello\n")
        await shows("< hello")
        if how == "Ctrl-C":
            process.send_signal(signal.SIGINT)
        else:
            os.write(ours, b"\x04")
        await shows("\r\x1b[KConnection closed: 1000 (OK).\r\n")
        assert await within(process.wait()) == 0
    os.close(ours)
    assert "Traceback" not in shown


def test_insecure_context_is_not_made_for_nothing(monkeypatch, stdin, capsys):
    """The certificates of the system take long to load."""
    stdin.end()
    monkeypatch.delattr(ssl, "create_default_context")
    assert main(["--insecure", "ws://127.0.0.1:1/"]) == 1
