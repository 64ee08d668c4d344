"""What strangers may send.

Each of it gets the right close code or HTTP status, raises a clear exception on this side, makes no
noise in the log, and the server goes on.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable

import pytest

from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import (
    ConnectionClosedError,
    InvalidHandshake,
    InvalidHeader,
    InvalidMessage,
    InvalidStatus,
    InvalidUpgrade,
    NegotiationError,
    PayloadTooBig,
    ProtocolError,
    StatusLineTooLong,
)
from websockets.protocol import State

from ..helpers import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    TEXT,
    RawListener,
    RawResponse,
    causes,
    client_frame,
    client_of_raw_server,
    close_payload,
    connecting,
    drain_messages,
    echo,
    frame,
    noise,
    pair,
    raw_client,
    raw_server,
    raw_socket,
    request_bytes,
    server_of_raw_client,
    serving,
    turns,
    within,
)

Make = Callable[..., bytes]
Wrong = tuple[Callable[[Make], bytes], int, type[Exception], str]

# RFC 6455 section 7.4.1, with the names 17.4 gives the codes.
NAMES = {
    1002: "protocol error",
    1007: "invalid frame payload data",
    1009: "message too big",
}

RESERVED_BITS = "reserved bits must be 0"

PROTOCOL_ERRORS: dict[str, tuple[Callable[[Make], bytes], str]] = {
    # RFC 6455 section 5.2: opcodes 3 to 7 and 11 to 15 are reserved.
    **{
        f"opcode {opcode}": (lambda make, opcode=opcode: make(opcode), "invalid opcode")
        for opcode in (*range(0x3, 0x8), *range(0xB, 0x10))
    },
    # RFC 6455 section 5.2: RSV bits without an extension that defines them.
    **{
        f"rsv {rsv} on opcode {opcode}": (
            lambda make, rsv=rsv, opcode=opcode: make(opcode, rsv=rsv),
            RESERVED_BITS,
        )
        for rsv in range(1, 8)
        for opcode in (TEXT, PING)
    },
    # RFC 6455 section 5.5.
    "ping of 126 bytes": (lambda make: make(PING, b"x" * 126), "control frame too long"),
    "ping in fragments": (lambda make: make(PING, b"x", fin=False), "fragmented control frame"),
    "close in fragments": (lambda make: make(CLOSE, fin=False), "fragmented control frame"),
    # RFC 6455 section 5.4.
    "continuation of nothing": (lambda make: make(CONT, b"x"), "unexpected continuation frame"),
    "message inside a message": (
        lambda make: make(TEXT, b"x", fin=False) + make(TEXT, b"y"),
        "expected a continuation frame",
    ),
    # RFC 6455 section 5.5.1.
    "close with one byte": (lambda make: make(CLOSE, b"\x03"), "close frame too short"),
    # RFC 6455 section 7.4.
    **{
        f"close code {code}": (
            lambda make, code=code: make(CLOSE, close_payload(code)),
            "invalid status code",
        )
        for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)
    },
}

BAD_FRAMES: dict[str, Wrong] = {
    **{name: (wire, 1002, ProtocolError, text) for name, (wire, text) in PROTOCOL_ERRORS.items()},
    # RFC 6455 section 8.1.
    "text that is not UTF-8": (
        lambda make: make(TEXT, b"caf\xff\xa9"),
        1007,
        UnicodeDecodeError,
        "invalid start byte at position 3",
    ),
    "text that ends inside a character": (
        lambda make: make(TEXT, b"caf\xc3"),
        1007,
        UnicodeDecodeError,
        "unexpected end of data at position 3",
    ),
    "close reason that is not UTF-8": (
        lambda make: make(CLOSE, close_payload(1000) + b"ok\xff"),
        1007,
        UnicodeDecodeError,
        "invalid start byte at position 2",
    ),
    "one byte over max_size": (
        lambda make: make(BINARY, length=2**20 + 1),
        1009,
        PayloadTooBig,
        "frame with 1048577 bytes exceeds limit of 1048576 bytes",
    ),
    "2**63 - 1 bytes announced": (
        lambda make: make(BINARY, length=2**63 - 1),
        1009,
        PayloadTooBig,
        "frame with 9223372036854775807 bytes exceeds limit of 1048576 bytes",
    ),
    "fragments over max_size": (
        lambda make: make(BINARY, b"x" * 2**19, fin=False) + make(CONT, length=2**19 + 1),
        1009,
        PayloadTooBig,
        "frame with 524289 bytes after reading 524288 bytes exceeds limit of 1048576 bytes",
    ),
}

bad_frames = pytest.mark.parametrize("wrong", BAD_FRAMES.values(), ids=BAD_FRAMES)


def assert_failed(
    exc: ConnectionClosedError, code: int, cause: type[Exception], reason: str
) -> None:
    assert type(exc) is ConnectionClosedError
    assert exc.rcvd is None
    assert exc.sent is not None
    assert (exc.sent.code, exc.sent.reason) == (code, reason)
    assert str(exc) == f"sent {code} ({NAMES[code]}) {reason}; no close frame received"
    assert type(exc.__cause__) is cause


@bad_frames
async def test_server_fails_the_connection(wrong: Wrong, caplog: pytest.LogCaptureFixture) -> None:
    """What came before is delivered; the server says why, then closes TCP (section 7.1.7)."""
    wire, code, cause, reason = wrong
    async with server_of_raw_client() as (ws, peer):
        await peer.send(client_frame(TEXT, b"good") + wire(client_frame))
        closing = await peer.recv_frame()
        assert closing.close == (code, reason)
        assert not closing.masked
        await peer.expect_eof()
        peer.close()
        messages, exc = await drain_messages(ws)
        assert messages == ["good"]
        assert_failed(exc, code, cause, reason)
        assert ws.state is State.CLOSED
        assert (ws.close_code, ws.close_reason) == (1006, "")
    assert noise(caplog) == []


@bad_frames
async def test_client_fails_the_connection(wrong: Wrong, caplog: pytest.LogCaptureFixture) -> None:
    wire, code, cause, reason = wrong
    async with client_of_raw_server() as (ws, peer):
        await peer.send(frame(TEXT, b"good") + wire(frame))
        closing = await peer.recv_frame()
        assert closing.close == (code, reason)
        assert closing.masked
        peer.close()
        messages, exc = await drain_messages(ws)
        assert messages == ["good"]
        assert_failed(exc, code, cause, reason)
        assert ws.state is State.CLOSED
        assert (ws.close_code, ws.close_reason) == (1006, "")
    assert noise(caplog) == []


async def test_server_refuses_unmasked_frames() -> None:
    """RFC 6455 section 5.1."""
    async with server_of_raw_client() as (ws, peer):
        await peer.send(client_frame(TEXT, b"good") + frame(TEXT, b"bare"))
        assert (await peer.recv_frame()).close == (1002, "incorrect masking")
        await peer.expect_eof()
        peer.close()
        messages, exc = await drain_messages(ws)
        assert messages == ["good"]
        assert_failed(exc, 1002, ProtocolError, "incorrect masking")


async def test_client_refuses_masked_frames() -> None:
    """RFC 6455 section 5.1."""
    async with client_of_raw_server() as (ws, peer):
        await peer.send(frame(TEXT, b"good") + frame(TEXT, b"hidden", mask=b"\0\0\0\0"))
        assert (await peer.recv_frame()).close == (1002, "incorrect masking")
        peer.close()
        messages, exc = await drain_messages(ws)
        assert messages == ["good"]
        assert_failed(exc, 1002, ProtocolError, "incorrect masking")


@pytest.mark.parametrize("length", [2**31, 2**32 + 1, 2**62, 2**63 - 1])
async def test_an_announced_length_allocates_nothing(length: int) -> None:
    """With max_size=None a header of ten bytes must neither end the server nor fill its memory."""
    async with server_of_raw_client(max_size=None) as (ws, peer):
        receiving = asyncio.create_task(ws.recv())
        await peer.send(client_frame(BINARY, b"x" * 1000, length=length))
        await peer.send(b"x" * 1000)
        await turns()
        # Either the length is refused, or the rest of it is waited for.
        peer.send_eof()
        with pytest.raises(ConnectionClosedError):
            await within(receiving)
        # With what is left of the stream, the server has closed TCP in any case.
        await peer.read_to_end()


# UTF-8 (RFC 6455 section 8.1)

PLAIN = "κόσμε – a €uro, 🎉 and 日本"


async def test_text_is_reassembled_at_any_cut() -> None:
    encoded = PLAIN.encode()
    async with server_of_raw_client(max_queue=None) as (ws, peer):
        for cut in range(len(encoded) + 1):
            await peer.send(
                client_frame(TEXT, encoded[:cut], fin=False) + client_frame(CONT, encoded[cut:])
            )
        for _ in range(len(encoded) + 1):
            assert await within(ws.recv()) == PLAIN


async def test_text_in_fragments_of_one_byte() -> None:
    encoded = PLAIN.encode()
    async with server_of_raw_client() as (ws, peer):
        frames = [client_frame(TEXT, fin=False)]
        frames += [client_frame(CONT, encoded[i : i + 1], fin=False) for i in range(len(encoded))]
        frames += [client_frame(CONT)]
        await peer.send(b"".join(frames))
        assert await within(ws.recv()) == PLAIN


INVALID_UTF8 = {
    "overlong": b"caf\xc0\xaf",
    "surrogate": b"caf\xed\xa0\x80",
    "beyond unicode": b"caf\xf4\x90\x80\x80",
    "lonely continuation": b"caf\x80",
    "interrupted": b"caf\xe2\x82x",
}


def decode_error(data: bytes) -> UnicodeDecodeError:
    with pytest.raises(UnicodeDecodeError) as raised:
        data.decode()
    return raised.value


@pytest.mark.parametrize("data", INVALID_UTF8.values(), ids=INVALID_UTF8)
@pytest.mark.parametrize("decode", [None, False], ids=["decoded", "decode=False"])
async def test_invalid_text_in_a_message(data: bytes, decode: bool | None) -> None:
    """The cause is what Python says about the whole message, also to those who want bytes."""
    expected = decode_error(data)
    async with server_of_raw_client() as (ws, peer):
        await peer.send(client_frame(TEXT, data))
        receiving = asyncio.create_task(ws.recv(decode=decode))
        reason = f"{expected.reason} at position {expected.start}"
        assert (await peer.recv_frame()).close == (1007, reason)
        peer.close()
        with pytest.raises(ConnectionClosedError) as raised:
            await within(receiving)
        cause = raised.value.__cause__
        assert isinstance(cause, UnicodeDecodeError)
        assert (cause.start, cause.end, cause.reason) == (
            expected.start,
            expected.end,
            expected.reason,
        )


@pytest.mark.parametrize("data", INVALID_UTF8.values(), ids=INVALID_UTF8)
async def test_invalid_text_in_fragments_fails_fast(data: bytes) -> None:
    """The message never ends, yet its text is refused as soon as it cannot become valid."""
    for cut in range(3, len(data)):
        async with server_of_raw_client() as (_, peer):
            await peer.send(client_frame(TEXT, data[:cut], fin=False))
            await peer.send(client_frame(CONT, data[cut:], fin=False))
            code, reason = (await peer.recv_frame()).close
            assert code == 1007
            assert reason.endswith(" at position 3")
            await peer.expect_eof()


async def test_invalid_text_in_an_unfinished_frame_fails_fast() -> None:
    async with server_of_raw_client() as (ws, peer):
        await peer.send(client_frame(TEXT, b"caf\xed\xa0\x80", length=1000))
        code, reason = (await peer.recv_frame()).close
        assert (code, reason) == (1007, "invalid continuation byte at position 3")
        await peer.expect_eof()
        peer.close()
        with pytest.raises(ConnectionClosedError) as raised:
            await within(ws.recv())
        assert isinstance(raised.value.__cause__, UnicodeDecodeError)


# After a close frame


async def test_data_after_close_is_ignored_by_the_server(caplog: pytest.LogCaptureFixture) -> None:
    """RFC 6455 section 5.5.1: the application must not see what follows a close frame."""
    async with server_of_raw_client() as (ws, peer):
        late = client_frame(TEXT, b"late") + client_frame(PING, b"late") + b"\xff\xff\xff"
        await peer.send(
            client_frame(TEXT, b"good") + client_frame(CLOSE, close_payload(1000)) + late
        )
        assert (await peer.recv_frame()).close == (1000, "")
        peer.close()
        messages, exc = await drain_messages(ws)
        assert messages == ["good"]
        assert str(exc) == "received 1000 (OK); then sent 1000 (OK)"
    assert noise(caplog) == []


async def test_data_after_close_is_ignored_by_the_client(caplog: pytest.LogCaptureFixture) -> None:
    async with client_of_raw_server() as (ws, peer):
        late = frame(TEXT, b"late") + frame(PING, b"late") + b"\xff\xff\xff"
        await peer.send(frame(TEXT, b"good") + frame(CLOSE, close_payload(1000)) + late)
        assert (await peer.recv_frame()).close == (1000, "")
        peer.close()
        messages, exc = await drain_messages(ws)
        assert messages == ["good"]
        assert str(exc) == "received 1000 (OK); then sent 1000 (OK)"
    assert noise(caplog) == []


async def test_messages_between_our_close_and_theirs_are_delivered() -> None:
    """RFC 6455 section 1.4: after sending a close frame one still receives until the peer's."""
    async with client_of_raw_server(close_timeout=5) as (ws, peer):
        closing = asyncio.create_task(ws.close())
        assert (await peer.recv_frame()).close == (1000, "")
        await peer.send(frame(TEXT, b"last words") + frame(CLOSE, close_payload(1000)))
        peer.close()
        await within(closing)
        assert await within(ws.recv()) == "last words"
        with pytest.raises(Exception, match=r"^sent 1000 \(OK\); then received 1000 \(OK\)$"):
            await within(ws.recv())


# End of the stream at any point

ENDINGS = {
    "at rest": b"",
    "inside a header": b"\x81",
    "inside a length": b"\x81\xfe\x01",
    "inside a payload": client_frame(TEXT, b"abc", length=100),
    "inside a message": client_frame(TEXT, b"abc", fin=False),
}


@pytest.mark.parametrize("wire", ENDINGS.values(), ids=ENDINGS)
@pytest.mark.parametrize("how", ["close", "half-close", "reset"])
async def test_stream_ends_without_a_close_frame(
    wire: bytes, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """RFC 6455 section 7.1.5: 1006, with the reason why chained."""
    async with server_of_raw_client() as (ws, peer):
        await peer.send(client_frame(TEXT, b"good") + wire)
        # Data still on its way is lost to a reset: not the library's doing.
        assert await within(ws.recv()) == "good"
        if how == "close":
            peer.close()
        elif how == "half-close":
            peer.send_eof()
        else:
            peer.reset()
        with pytest.raises(ConnectionClosedError) as raised:
            await within(ws.recv())
        assert str(raised.value) == "no close frame received or sent"
        expected = ConnectionResetError if how == "reset" else EOFError
        assert isinstance(raised.value.__cause__, expected)
        await within(ws.wait_closed())
        assert (ws.close_code, ws.close_reason) == (1006, "")
        if how == "half-close":
            await peer.expect_eof()
    assert noise(caplog) == []


async def test_stream_ends_while_nobody_receives() -> None:
    async with server_of_raw_client() as (ws, peer):
        await peer.send(client_frame(TEXT, b"one") + client_frame(TEXT, b"two"))
        peer.close()
        await within(ws.wait_closed())
        assert ws.state is State.CLOSED
        messages, exc = await drain_messages(ws)
        assert messages == ["one", "two"]
        assert str(exc) == "no close frame received or sent"


# Opening handshakes, server side


def rejections(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.INFO and "server " not in record.getMessage()
    ]


NOT_HTTP = {
    "nothing": b"",
    "garbage line": b"garbage\r\n\r\n",
    "TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\r\n",
    "binary": bytes(range(256)) * 4 + b"\r\n\r\n",
    "half a request line": b"GET / HT",
    "half a header": b"GET / HTTP/1.1\r\nHost: exam",
    "half a handshake": b"GET / HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\n",
    "header without colon": b"GET / HTTP/1.1\r\nnonsense\r\n\r\n",
    "folded header": b"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
    "body announced": b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
}


@pytest.mark.parametrize("data", NOT_HTTP.values(), ids=NOT_HTTP)
@pytest.mark.parametrize("how", ["half-close", "reset"])
async def test_no_handshake(data: bytes, how: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with serving(echo) as server:
        async with raw_socket(server) as peer:
            await peer.send(data)
            if how == "reset":
                await turns()
                peer.reset()
            else:
                peer.send_eof()
                answer = await peer.read_to_end()
                if answer:
                    assert RawResponse.from_bytes(answer).status == 400
        async with connecting(server) as client:
            await client.send("still here")
            assert await within(client.recv()) == "still here"
    assert noise(caplog) == []


REJECTED = {
    "HTTP/1.0": (request_bytes(80, version="HTTP/1.0"), 505, "unsupported HTTP version: HTTP/1.0"),
    "POST": (request_bytes(80, method="POST"), 405, "unsupported HTTP method: POST"),
    "no Upgrade": (request_bytes(80, without=["Upgrade"]), 426, "missing Upgrade header"),
    "no Connection": (request_bytes(80, without=["Connection"]), 426, "missing Connection header"),
    "no key": (
        request_bytes(80, without=["Sec-WebSocket-Key"]),
        400,
        "missing Sec-WebSocket-Key header",
    ),
    "short key": (
        request_bytes(80, key="c2hvcnQ="),
        400,
        "invalid Sec-WebSocket-Key header: c2hvcnQ=",
    ),
    "two keys": (
        request_bytes(80, extra=[("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")]),
        400,
        "invalid Sec-WebSocket-Key header: multiple values",
    ),
    "no version": (
        request_bytes(80, without=["Sec-WebSocket-Version"]),
        400,
        "missing Sec-WebSocket-Version header",
    ),
}


@pytest.mark.parametrize(("request_", "status", "text"), REJECTED.values(), ids=REJECTED)
async def test_rejected_handshake(
    request_: bytes, status: int, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    """RFC 6455 section 4.2.1 and 4.4: an answer a person can read, and one line in the log."""
    caplog.set_level(logging.INFO)
    async with serving(echo) as server, raw_socket(server) as peer:
        await peer.send(request_)
        response = RawResponse.from_bytes(await peer.read_to_end())
        assert response.status == status
        assert f"Failed to open a WebSocket connection: {text}." in response.body.decode()
        # RFC 9110 section 7.8: those who send Upgrade list it.
        closing = "close, Upgrade" if status == 426 else "close"
        assert response.headers["connection"] == closing
        assert response.headers["content-length"] == str(len(response.body))
        assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert noise(caplog) == []
    rejected = [line for line in rejections(caplog) if "rejected" in line]
    assert rejected == [f"connection rejected ({status} {response.reason})"]


async def test_unsupported_version_is_answered_with_the_supported_one() -> None:
    """RFC 6455 section 4.4."""
    async with serving(echo) as server, raw_socket(server) as peer:
        await peer.send(
            request_bytes(
                80, without=["Sec-WebSocket-Version"], extra=[("Sec-WebSocket-Version", "12")]
            )
        )
        response = RawResponse.from_bytes(await peer.read_to_end())
        assert response.status in (400, 426)
        assert response.headers.get("sec-websocket-version", "13") == "13"
        assert b"invalid Sec-WebSocket-Version header: 12." in response.body


OVERSIZED = {
    "request line": (b"GET /" + b"a" * 65536 + b" HTTP/1.1\r\n\r\n", 414),
    "request line without end": (b"GET /" + b"a" * 65536, 414),
    "header line": (b"GET / HTTP/1.1\r\nCookie: " + b"a" * 65536 + b"\r\n\r\n", 431),
    "header line without end": (b"GET / HTTP/1.1\r\nCookie: " + b"a" * 65536, 431),
    "number of headers": (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 1000 + b"\r\n", 431),
    "headers without end": (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 1000, 431),
}


@pytest.mark.parametrize(("data", "status"), OVERSIZED.values(), ids=OVERSIZED)
async def test_oversized_request(
    data: bytes, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(echo) as server, raw_socket(server) as peer:
        await peer.send(data)
        head = await peer.read_until(b"\r\n\r\n")
        assert RawResponse.from_bytes(head).status == status
        await peer.read_to_end()
    assert noise(caplog) == []


async def test_data_sent_before_the_response_does_no_harm(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """RFC 6455 section 4.1: a client must wait for the answer. One that does not gets either."""
    async with serving(echo) as server:
        async with raw_socket(server) as peer:
            await peer.send(request_bytes(80) + client_frame(TEXT, b"early"))
            await peer.send(client_frame(CLOSE))
            await peer.read_to_end()
        async with raw_socket(server) as peer:
            rejected = request_bytes(80, without=["Sec-WebSocket-Key"])
            await peer.send(rejected + client_frame(TEXT, b"early"))
            await peer.read_to_end()
        async with connecting(server) as client:
            await client.send("still here")
            assert await within(client.recv()) == "still here"
    assert noise(caplog) == []


# Opening handshakes, client side


async def refused(
    answer: Callable[[RawListener], bytes], *, then: str = "close", **kwargs: object
) -> BaseException:
    """What `connect` raises when a server answers so."""
    async with raw_server() as listener:

        async def serve_one() -> None:
            peer = await listener.accept_request()
            await peer.send(answer(listener))
            if then == "close":
                peer.close()
            elif then == "reset":
                peer.reset()
            elif then == "half-close":
                peer.send_eof()

        answering = asyncio.create_task(serve_one())
        with pytest.raises(Exception) as raised:
            await within(connect(listener.uri, compression=None, **kwargs).__aenter__())
        await within(answering)
        if then == "stay":
            # The client let go of the connection.
            await listener.peers[0].read_to_end()
        return raised.value


NO_RESPONSE = {
    "nothing": (b"", "connection closed while reading HTTP status line"),
    "half a status line": (b"HTTP/1.1 101 Swi", "connection closed while reading HTTP status line"),
    "half a header": (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: webs",
        "connection closed while reading HTTP headers",
    ),
    "garbage": (b"garbage\r\n\r\n", "invalid HTTP status line: garbage"),
}


@pytest.mark.parametrize(("answer", "text"), NO_RESPONSE.values(), ids=NO_RESPONSE)
@pytest.mark.parametrize("then", ["close", "half-close"])
async def test_client_gets_no_response(answer: bytes, text: str, then: str) -> None:
    exc = await refused(lambda _: answer, then=then)
    assert type(exc) is InvalidMessage
    assert str(exc) == "did not receive a valid HTTP response"
    assert str(exc.__cause__) == text


async def test_client_gets_a_reset() -> None:
    """Why it was lost is at the end of the chain; 17.4 does not tell."""
    exc = await refused(lambda _: b"", then="reset")
    assert type(exc) is InvalidMessage
    assert [type(cause) for cause in causes(exc)] == [EOFError, EOFError, ConnectionResetError]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 101 Switching Protocols\r\nA: " + b"x" * 65536,
        b"HTTP/1.1 101 Switching Protocols\r\n" + b"A: b\r\n" * 1000,
        b"HTTP/1.1 200 OK\r\nContent-Length: 500000000\r\n\r\nhello",
        b"H" * 65536,
    ],
    ids=["header line", "number of headers", "body", "status line"],
)
async def test_client_refuses_oversized_responses(answer: bytes) -> None:
    exc = await refused(lambda _: answer, then="stay")
    if isinstance(exc, InvalidMessage):
        assert exc.__cause__ is not None
    else:
        # 17.4 does not wrap this one.
        assert type(exc) is StatusLineTooLong


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, b"hello"),
        (b"HTTP/1.1 404 Not Found\r\n\r\nhello", 404, b"hello"),
        (
            b"HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            503,
            b"hello",
        ),
        (b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", 401, b""),
    ],
    ids=["length", "until the end", "chunked", "empty"],
)
async def test_client_is_rejected(answer: bytes, status: int, body: bytes) -> None:
    exc = await refused(lambda _: answer)
    assert type(exc) is InvalidStatus
    assert str(exc) == f"server rejected WebSocket connection: HTTP {status}"
    assert exc.response.status_code == status
    assert exc.response.body == body


BAD_RESPONSES: dict[str, tuple[dict[str, object], type[InvalidHandshake], str]] = {
    "no Upgrade": ({"without": ["Upgrade"]}, InvalidUpgrade, "missing Upgrade header"),
    "no Connection": ({"without": ["Connection"]}, InvalidUpgrade, "missing Connection header"),
    "no accept": (
        {"without": ["Sec-WebSocket-Accept"]},
        InvalidHeader,
        "missing Sec-WebSocket-Accept header",
    ),
    "wrong accept": (
        {"accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="},
        InvalidHeader,
        "invalid Sec-WebSocket-Accept header: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
    ),
    "other upgrade": (
        {"without": ["Upgrade"], "extra": [("Upgrade", "h2c")]},
        InvalidUpgrade,
        "invalid Upgrade header: h2c",
    ),
    "subprotocol nobody asked for": (
        {"extra": [("Sec-WebSocket-Protocol", "chat")]},
        NegotiationError,
        "no subprotocols supported",
    ),
    "extension nobody asked for": (
        {"extra": [("Sec-WebSocket-Extensions", "x-private")]},
        NegotiationError,
        "no extensions supported",
    ),
}


@pytest.mark.parametrize(("fields", "kind", "text"), BAD_RESPONSES.values(), ids=BAD_RESPONSES)
async def test_client_refuses_the_response(
    fields: dict[str, object], kind: type[InvalidHandshake], text: str
) -> None:
    """RFC 6455 section 4.1, the client's six checks."""
    exc = await refused(lambda listener: listener.response(**fields), then="stay")
    assert isinstance(exc, kind)
    assert str(exc) == text


async def test_client_refuses_another_subprotocol() -> None:
    """RFC 6455 section 4.1, item 6."""
    exc = await refused(
        lambda listener: listener.response(extra=[("Sec-WebSocket-Protocol", "chat")]),
        then="stay",
        subprotocols=["a", "b"],
    )
    assert type(exc) is NegotiationError
    assert str(exc) == "unsupported subprotocol: chat"


async def test_client_waits_no_longer_than_open_timeout() -> None:
    exc = await refused(lambda _: b"", then="stay", open_timeout=0.1)
    assert type(exc) is TimeoutError
    assert str(exc) == "timed out during opening handshake"


async def test_slow_responses_end() -> None:
    """open_timeout is for the whole handshake, however the bytes trickle."""
    async with raw_server() as listener:

        async def trickle() -> None:
            peer = await listener.accept_request()
            for byte in listener.response() * 10:
                await peer.send(bytes([byte]))
                await asyncio.sleep(0.01)

        trickling = asyncio.create_task(trickle())
        with pytest.raises(TimeoutError, match="^timed out during opening handshake$"):
            await within(connect(listener.uri, open_timeout=0.2).__aenter__())
        trickling.cancel()
        await asyncio.wait([trickling])
        if not trickling.cancelled():
            trickling.exception()


# The server lives


async def test_a_server_outlives_all_of_this(caplog: pytest.LogCaptureFixture) -> None:
    """Everything above against one echo server; then it serves, and has said nothing alarming."""
    caplog.set_level(logging.INFO)
    async with serving(echo, open_timeout=1, close_timeout=0.2) as server:
        for wire, code, _, _ in BAD_FRAMES.values():
            async with raw_client(server) as peer:
                await peer.send(client_frame(TEXT, b"good") + wire(client_frame))
                frames = await peer.recv_frames_to_end()
                assert frames[-1].close[0] == code
        for data in NOT_HTTP.values():
            async with raw_socket(server) as peer:
                await peer.send(data)
                peer.send_eof()
                await peer.read_to_end()
        for data, _ in OVERSIZED.values():
            async with raw_socket(server) as peer:
                await peer.send(data)
                await peer.read_until(b"\r\n\r\n")
        async with connecting(server) as client:
            await client.send("still here")
            assert await within(client.recv()) == "still here"
    assert noise(caplog) == []


async def test_messages_are_answered_before_a_bad_frame_ends_it() -> None:
    """The echo of a good frame is not lost to the bad one behind it."""
    async with serving(echo) as server, raw_client(server) as peer:
        await peer.send(client_frame(TEXT, b"good"))
        answer = await peer.recv_frame()
        assert (answer.opcode, answer.payload) == (TEXT, b"good")
        await peer.send(client_frame(0x3))
        assert (await peer.recv_frame()).close == (1002, "invalid opcode")
        await peer.expect_eof()


# Handlers that fail


async def test_handler_exception(caplog: pytest.LogCaptureFixture) -> None:
    """The peer learns 1011, the operator where it happened (RFC 6455 section 7.4.1)."""

    async def handler(ws: ServerConnection) -> None:
        await ws.send("before")
        raise ValueError("a bug")

    async with serving(handler) as server:
        for _ in range(2):
            async with connecting(server) as client:
                messages, exc = await drain_messages(client)
                assert messages == ["before"]
                assert exc.rcvd is not None
                assert (exc.rcvd.code, exc.rcvd.reason) == (1011, "")
                assert str(exc) == (
                    "received 1011 (internal error); then sent 1011 (internal error)"
                )
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [record.getMessage() for record in errors] == ["connection handler failed"] * 2
    assert all(record.exc_info and isinstance(record.exc_info[1], ValueError) for record in errors)


async def test_handler_that_meets_the_end_of_the_connection_is_no_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A peer that vanishes must not be able to fill the log with tracebacks."""
    outcomes = []

    async def handler(ws: ServerConnection) -> None:
        try:
            while True:
                await ws.recv()
        except Exception as exc:
            outcomes.append(exc)
            raise

    async with serving(handler) as server:
        async with raw_client(server) as peer:
            peer.reset()
        async with raw_client(server) as peer:
            await peer.send(client_frame(0x3))
            await peer.read_to_end()
        async with connecting(server):
            pass
    assert len(outcomes) == 3
    assert noise(caplog) == []


@pytest.mark.parametrize("data", [b"\xff", "text"], ids=["bytes", "text"])
async def test_unserviceable_iterables_fail_the_connection(data: bytes | str) -> None:
    """A message that cannot be finished must not leave the peer waiting for the rest of it."""
    async with pair() as (client, server):
        wrong: list[object] = [data, 5]
        with pytest.raises((TypeError, ConnectionClosedError)):
            await client.send(wrong)  # type: ignore[arg-type]
        with pytest.raises(ConnectionClosedError) as raised:
            await within(server.recv())
        assert raised.value.rcvd is not None
        assert raised.value.rcvd.code == 1011


def test_tables_cover_what_they_promise() -> None:
    """RFC 6455 section 5.2: ten reserved opcodes; every non-zero combination of the RSV bits."""
    assert sum(bool(re.match("opcode", name)) for name in BAD_FRAMES) == 10
    assert sum(bool(re.match("rsv", name)) for name in BAD_FRAMES) == 14
