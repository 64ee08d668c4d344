"""`basic_auth` (RFC 7617). What is expected was recorded from the released websockets."""

from __future__ import annotations

import asyncio
import base64
import inspect
import logging
from typing import Any

import pytest

from websockets.asyncio.server import Server, ServerConnection, basic_auth
from websockets.exceptions import InvalidStatus
from websockets.http11 import Request

from ..helpers import RawResponse, connecting, noise, port_of, raw_socket, request_bytes, serving

JOE = ("joe", "secret")


def basic(pair: str | bytes) -> str:
    data = pair if isinstance(pair, bytes) else pair.encode()
    return "Basic " + base64.b64encode(data).decode()


async def greet(ws: ServerConnection) -> None:
    await ws.send(ws.username)


def guarded(*args: Any, **kwargs: Any) -> Any:
    return serving(greet, process_request=basic_auth(*args, **kwargs))


async def ask(server: Server, *values: str, **kwargs: Any) -> RawResponse:
    async with raw_socket(server) as peer:
        extra = [("Authorization", value) for value in values]
        await peer.send(request_bytes(port_of(server), extra=extra, **kwargs))
        head = await peer.read_until(b"\r\n\r\n")
        if head.startswith(b"HTTP/1.1 101 "):
            return RawResponse.from_bytes(head)
        return RawResponse.from_bytes(head + await peer.read_to_end())


# Arguments


def test_signature() -> None:
    assert [
        (parameter.name, parameter.kind.name, parameter.default)
        for parameter in inspect.signature(basic_auth).parameters.values()
    ] == [
        ("realm", "POSITIONAL_OR_KEYWORD", ""),
        ("credentials", "POSITIONAL_OR_KEYWORD", None),
        ("check_credentials", "POSITIONAL_OR_KEYWORD", None),
    ]


@pytest.mark.parametrize(
    "arguments",
    [{}, {"credentials": JOE, "check_credentials": lambda username, password: True}],
    ids=["none", "both"],
)
def test_one_of_both(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="^provide either credentials or check_credentials$"):
        basic_auth("realm", **arguments)


@pytest.mark.parametrize(
    "credentials",
    [
        ("joe",),
        ("joe", "secret", "more"),
        [("joe", "secret", "more")],
        [("joe", 1)],
        [JOE, 1],
        [1],
        1,
        (b"joe", b"secret"),
        {"joe": "secret"},
        "up",
        "joe:secret",
        b"up",
        "",
    ],
    ids=repr,
)
def test_credentials_of_a_wrong_type(credentials: Any) -> None:
    with pytest.raises(TypeError) as raised:
        basic_auth("realm", credentials)
    assert str(raised.value) == f"invalid credentials argument: {credentials}"


@pytest.mark.parametrize(
    "credentials",
    [
        JOE,
        ["joe", "secret"],
        [JOE],
        [["joe", "secret"]],
        (JOE, ("ann", "other")),
        {JOE, ("ann", "other")},
        {"joe": "secret"}.items(),
    ],
    ids=["pair", "list", "one", "lists", "tuple", "set", "items"],
)
async def test_credentials(credentials: Any) -> None:
    await check_credentials(credentials)


async def test_credentials_from_an_iterator() -> None:
    """It is read once."""
    await check_credentials(iter([JOE, ("ann", "other")]))


async def check_credentials(credentials: Any) -> None:
    async with guarded("realm", credentials) as server:
        for _ in range(2):
            assert (await ask(server, basic("joe:secret"))).status == 101
            assert (await ask(server, basic("joe:other"))).status == 401
            assert (await ask(server, basic("ann:secret"))).status == 401


async def test_nobody() -> None:
    async with guarded("realm", []) as server:
        assert (await ask(server, basic(":"))).status == 401


async def test_of_a_name_that_comes_twice_the_last_password_counts() -> None:
    async with guarded("realm", [("joe", "first"), ("joe", "last")]) as server:
        assert (await ask(server, basic("joe:first"))).status == 401
        assert (await ask(server, basic("joe:last"))).status == 101


async def test_a_colon_in_a_name() -> None:
    """No request has it; it is not to be taken for another pair."""
    async with guarded("realm", ("joe:x", "secret")) as server:
        assert (await ask(server, basic("joe:x:secret"))).status == 401


@pytest.mark.parametrize("realm", ["a\nb", "a\x00b", "\u20ac"])
def test_realms_that_no_header_has(realm: str) -> None:
    with pytest.raises(ValueError, match="^invalid characters for quoted-string encoding$"):
        basic_auth(realm, JOE)


# Requests


@pytest.mark.parametrize(
    ("realm", "challenge"),
    [
        ("", 'Basic realm="", charset="UTF-8"'),
        ("chat", 'Basic realm="chat", charset="UTF-8"'),
        ('a"b\\c', 'Basic realm="a\\"b\\\\c", charset="UTF-8"'),
    ],
)
async def test_challenge(realm: str, challenge: str, caplog: pytest.LogCaptureFixture) -> None:
    """RFC 9110 section 11.6.1."""
    caplog.set_level(logging.INFO)
    async with guarded(realm, JOE) as server:
        response = await ask(server)
        assert (response.status, response.reason) == (401, "Unauthorized")
        assert response.headers["www-authenticate"] == challenge
        assert response.headers["connection"] == "close"
        assert response.body == b"Missing credentials\n"
    assert "HTTP response sent (401 Unauthorized)" in caplog.messages
    assert noise(caplog) == []


@pytest.mark.parametrize(
    "value",
    [
        basic("joe:secret"),
        basic("joe:secret").replace("Basic", "basic"),
        basic("joe:secret").replace("Basic", "BASIC"),
        basic("joe:secret") + " ",
    ],
)
async def test_accepted(value: str) -> None:
    async with guarded("realm", JOE) as server:
        assert (await ask(server, value)).status == 101


@pytest.mark.parametrize(
    "value",
    ["joe:", ":secret", ":", "joe:secret:more", "Joe:secret", "joe:Secret", "joe:secret\x00"],
)
async def test_invalid(value: str) -> None:
    async with guarded("realm", JOE) as server:
        response = await ask(server, basic(value))
        assert (response.status, response.body) == (401, b"Invalid credentials\n")
        assert response.headers["www-authenticate"] == 'Basic realm="realm", charset="UTF-8"'


@pytest.mark.parametrize(
    "values",
    [
        ["Basic"],
        ["Basic "],
        ["Basic  am9lOnNlY3JldA=="],
        ["Basic\tam9lOnNlY3JldA=="],
        ["Basic am9lOnNlY3JldA== x"],
        ["Basic am9lOnNlY3JldA==, realm=x"],
        ["Basic !!!!"],
        ["Basic ="],
        [basic("no colon")],
        ["Bearer token"],
        ['Digest username="joe"'],
        [""],
        [","],
        ["\xe9:x"],
        [basic("joe:secret") + "\x80"],
        [basic("joe:secret"), basic("joe:secret")],
    ],
    ids=repr,
)
async def test_unsupported(values: list[str], caplog: pytest.LogCaptureFixture) -> None:
    """Whatever it is, it lets nobody in, and disturbs nobody."""
    async with guarded("realm", JOE) as server:
        response = await ask(server, *values)
        assert (response.status, response.body) == (401, b"Unsupported credentials\n")
    assert noise(caplog) == []


async def test_it_comes_before_the_handshake() -> None:
    async with guarded("realm", JOE) as server:
        assert (await ask(server, without=["Upgrade"])).status == 401
        assert (await ask(server, basic("joe:secret"), without=["Upgrade"])).status == 426
        response = await ask(server, method="HEAD")
        assert (response.status, response.body) == (401, b"")


async def test_clients_send_what_the_uri_says() -> None:
    async with guarded("realm", JOE) as server:
        uri = f"ws://joe:secret@127.0.0.1:{port_of(server)}/"
        from websockets.asyncio.client import connect

        async with connect(uri, compression=None) as client:
            assert await client.recv() == "joe"
        with pytest.raises(InvalidStatus, match="HTTP 401"):
            await connecting(server)


# Functions that check


@pytest.mark.parametrize("kind", ["function", "coroutine", "future"])
async def test_check(kind: str) -> None:
    asked = []

    def check(username: str, password: str) -> Any:
        asked.append((username, password))
        return password == "secret"

    async def check_later(username: str, password: str) -> Any:
        await asyncio.sleep(0)
        return check(username, password)

    def check_in_task(username: str, password: str) -> Any:
        return asyncio.ensure_future(check_later(username, password))

    functions = {"function": check, "coroutine": check_later, "future": check_in_task}
    async with guarded("realm", check_credentials=functions[kind]) as server:
        async with connecting(
            server, additional_headers={"Authorization": basic("joe:secret")}
        ) as client:
            assert await client.recv() == "joe"
        response = await ask(server, basic("ann:other"))
        assert (response.status, response.body) == (401, b"Invalid credentials\n")
        assert (await ask(server)).body == b"Missing credentials\n"
    assert asked == [("joe", "secret"), ("ann", "other")]


@pytest.mark.parametrize(
    ("result", "status"), [(None, 401), (0, 401), ("", 401), (1, 101), ("yes", 101)]
)
async def test_what_a_check_returns(result: Any, status: int) -> None:
    async with guarded("realm", check_credentials=lambda *pair: result) as server:
        assert (await ask(server, basic("joe:secret"))).status == status


@pytest.mark.parametrize("pair", [b"joe:\xff", b"\xe9:secret", b"joe:\xed\xa0\x80"])
async def test_checks_are_not_asked_about_what_is_not_utf_8(
    pair: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """RFC 7617 section 2.1. A check that encodes the password again would fail."""

    def check(username: str, password: str) -> bool:
        return bool(f"{username}:{password}".encode())

    async with guarded("realm", check_credentials=check) as server:
        response = await ask(server, basic(pair))
        assert (response.status, response.body) == (401, b"Invalid credentials\n")
        assert (await ask(server, basic("jo\xe9:\u20ac"))).status == 101
    assert noise(caplog) == []


def test_credentials_that_are_not_unicode() -> None:
    with pytest.raises(UnicodeEncodeError):
        basic_auth("realm", ("joe", "\ud800"))


async def test_check_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    def check(username: str, password: str) -> bool:
        raise LookupError("a bug")

    async with guarded("realm", check_credentials=check) as server:
        assert (await ask(server, basic("joe:secret"))).status == 500
        assert (await ask(server)).status == 401
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.getMessage() == "process_request failed"


async def test_username() -> None:
    """Connections that nobody asked have none."""
    names = []

    async def handler(ws: ServerConnection) -> None:
        names.append(getattr(ws, "username", None))

    def process_request(ws: ServerConnection, request: Request) -> Any:
        return basic_auth("realm", JOE)(ws, request) if request.path == "/private" else None

    async with serving(handler, process_request=process_request) as server:
        assert (await ask(server, basic("joe:secret"))).status == 101
        assert (await ask(server, basic("joe:secret"), path="/private")).status == 101
        assert (await ask(server, path="/private")).status == 401
    assert names == [None, "joe"]
