"""What applications use besides connections: exceptions, headers, URIs, frames, names."""

from __future__ import annotations

import base64
import copy
import dataclasses
import importlib
import pickle
import socket
from collections.abc import Callable
from typing import Any

import websockets
from websockets import exceptions, frames, headers, http11, protocol
from websockets.datastructures import Headers, MultipleValuesError
from websockets.exceptions import (
    ConcurrencyError,
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedOK,
)
from websockets.frames import Close, CloseCode, Frame, Opcode
from websockets.http11 import Request, Response
from websockets.uri import parse_uri

from ..scenario import Scenario, describe, scenario


def call(s: Scenario, function: Callable[..., Any], *arguments: Any, **kwargs: Any) -> None:
    """Write down what a function returns or raises."""
    name = f"{function.__name__}({', '.join(map(describe, arguments))})"
    try:
        s.note(name, function(*arguments, **kwargs))
    except Exception as exc:
        s.note(f"{name} failed", exc)


@scenario
def closed_exceptions(s: Scenario) -> None:
    """The texts and attributes of ConnectionClosed."""
    closes = [
        None,
        Close(1000, ""),
        Close(1001, "bye"),
        Close(1006, ""),
        Close(3000, "x"),
        Close(4000, ""),
    ]
    for exc_type in (ConnectionClosed, ConnectionClosedOK, ConnectionClosedError):
        for rcvd in closes:
            for sent in (None, Close(1000, ""), Close(4999, "why")):
                both = rcvd is not None and sent is not None
                for order in (True, False) if both else (None,):
                    exc = exc_type(rcvd, sent, order)
                    s.note(exc_type.__name__, exc)
                    s.note("equal", exc == exc_type(rcvd, sent, order), exc == exc_type(None, None))


@scenario
def closed_exceptions_of_old(s: Scenario) -> None:
    """code and reason of ConnectionClosed are deprecated."""
    exc = ConnectionClosedError(Close(1011, "failed"), None, None)
    s.note("code", exc.code)
    s.note("reason", exc.reason)
    exc = ConnectionClosedError(None, Close(1011, "failed"), None)
    s.note("code", exc.code)
    s.note("reason", exc.reason)


@scenario
def other_exceptions(s: Scenario) -> None:
    """The texts of the other exceptions."""
    response = Response(404, "Not Found", Headers())
    for exc in (
        ConcurrencyError("text"),
        exceptions.DuplicateParameter("name"),
        exceptions.InvalidHandshake("text"),
        exceptions.InvalidHeader("Name"),
        exceptions.InvalidHeader("Name", None),
        exceptions.InvalidHeader("Name", ""),
        exceptions.InvalidHeader("Name", "value"),
        exceptions.InvalidHeaderFormat("Name", "error", "header", 3),
        exceptions.InvalidHeaderValue("Name", "value"),
        exceptions.InvalidMessage("text"),
        exceptions.InvalidMethod("POST"),
        exceptions.InvalidOrigin("https://x"),
        exceptions.InvalidOrigin(None),
        exceptions.InvalidParameterName("name"),
        exceptions.InvalidParameterValue("name", "value"),
        exceptions.InvalidParameterValue("name", None),
        exceptions.InvalidParameterValue("name", ""),
        exceptions.InvalidProtocol("HTTP/1.0"),
        exceptions.InvalidProxy("proxy", "text"),
        exceptions.InvalidProxyMessage("text"),
        exceptions.InvalidProxyStatus(response),
        exceptions.InvalidState("text"),
        exceptions.InvalidStatus(response),
        exceptions.InvalidUpgrade("Upgrade"),
        exceptions.InvalidUpgrade("Upgrade", "h2c"),
        exceptions.InvalidURI("uri", "text"),
        exceptions.NegotiationError("text"),
        exceptions.PayloadTooBig("text"),
        exceptions.PayloadTooBig(100, 10),
        exceptions.PayloadTooBig(None, 10),
        exceptions.PayloadTooBig(100, 10, 5),
        exceptions.PayloadTooBig(None, 10, 5),
        exceptions.ProtocolError("text"),
        exceptions.SecurityError("text"),
        exceptions.TooManyFragments(5),
        exceptions.TooManyHeaders("text"),
        exceptions.WebSocketException("text"),
    ):
        s.note("exception", exc)
        s.note("bases", [base.__name__ for base in type(exc).__mro__])


@scenario
def pickles_and_copies(s: Scenario) -> None:
    """What can be pickled and copied."""
    items: list[Any] = [
        ConnectionClosedError(Close(1011, "failed"), None, None),
        exceptions.InvalidHandshake("text"),
        Close(1000, "x"),
        Frame(Opcode.TEXT, b"x"),
        Headers([("A", "1"), ("a", "2")]),
        Request("/", Headers(A="1")),
        parse_uri("ws://user:secret@example.com/p?q"),
    ]
    for item in items:
        with s.failing(f"pickle {type(item).__name__}"):
            s.note("pickled", pickle.loads(pickle.dumps(item)))
        s.note("copied", copy.copy(item), copy.deepcopy(item))


@scenario
def headers_structure(s: Scenario) -> None:
    """Headers is a mapping of many values."""
    h = Headers([("Set-Cookie", "a"), ("set-cookie", "b")], Host="x")
    s.note("headers", h, len(h), list(h), str(h), repr(h), bool(Headers()))
    s.note("get_all", h.get_all("SET-COOKIE"), h.get_all("None"), h.get("HOST"), h.get("None", "d"))
    s.note("in", "host" in h, "HOST" in h, "other" in h, 1 in h)  # type: ignore[comparison-overlap]
    for name in ("Set-Cookie", "None"):
        with s.failing(f"[{name}]"):
            s.note("item", h[name])
    with s.failing("get of several"):
        h.get("Set-Cookie")
    s.note("mro", [base.__name__ for base in MultipleValuesError.__mro__])
    h["Host"] = "y"
    s.note("set adds", h)
    with s.failing("items"):
        s.note("items", list(h.items()))
    with s.failing("values"):
        s.note("values", list(h.values()))
    s.note("keys", list(h.keys()))
    del h["host"]
    s.note("deleted", h)
    with s.failing("delete again"):
        del h["host"]
    h.setdefault("New", "1")
    h.update({"More": "2"})
    h.update(Headers(More="3"), Even_More="4")
    s.note("updated", h, h.serialize())
    s.note(
        "equal",
        h == h.copy(),
        h == dict(h.raw_items()),
        h == Headers(),
        Headers(A="1") == Headers(a="1"),
    )
    s.note("merged", Headers(Headers(A="1"), B="2"), Headers({"A": "1"}), Headers())
    h.clear()
    s.note("cleared", h)
    for wrong in (1, [1], [("a",)], {"a": 1}):
        with s.failing(f"Headers({wrong})"):
            s.note("made", Headers(wrong))  # type: ignore[arg-type]


@scenario
def header_values(s: Scenario) -> None:
    """Values and names that would break the lines of a header."""
    for name, value in (("A", "x\r\ny"), ("A", "x\ny"), ("A", "é"), ("A", "x\x00"), ("A", " x ")):
        with s.failing(f"{name!r}: {value!r}"):
            h = Headers()
            h[name] = value
            s.note("serialized", h.serialize())


@scenario
def parsing_headers(s: Scenario) -> None:
    """Functions that parse headers."""
    for text in ("upgrade", "Upgrade, keep-alive", ",a,,b,", "", ",", "a b", "a;b", '"a"', "é"):
        call(s, headers.parse_connection, text)
    for text in ("websocket", "h2c, websocket/1", "a/", "/a", "", "a/b/c"):
        call(s, headers.parse_upgrade, text)
    for text in (
        "a",
        "a; b",
        'a; b="c"; d=e, f',
        'a; b="c d"',
        "a; b=",
        "a;",
        "; a",
        "a, , b",
        "a; b=c=d",
    ):
        call(s, headers.parse_extension, text)
    for text in ("a", "a, b", "a b", "", "a,,b", "é"):
        call(s, headers.parse_subprotocol, text)
    encoded = base64.b64encode(b"user:pass:word").decode()
    for text in (
        f"Basic {encoded}",
        f"basic {encoded}",
        f"Basic  {encoded}",
        "Basic",
        "Basic x",
        "Bearer y",
        "Basic dXNlcg==",
    ):
        call(s, headers.parse_authorization_basic, text)


@scenario
def building_headers(s: Scenario) -> None:
    """Functions that build headers."""
    call(s, headers.build_extension, [("a", [("b", None), ("c", "1")]), ("d", [])])
    call(s, headers.build_subprotocol, ["a", "b"])
    call(s, headers.validate_subprotocols, ["a", "b"])
    for subprotocols in ("a", ["a b"], [""], [1], ["é"], None):
        call(s, headers.validate_subprotocols, subprotocols)
    for realm in ("realm", "a b", 'say "x"', "back\\slash", "é", ""):
        call(s, headers.build_www_authenticate_basic, realm)
    call(s, headers.build_authorization_basic, "user", "pass:word")
    call(s, headers.build_authorization_basic, "é", "€")
    for host, port, secure in (
        ("example.com", 80, False),
        ("example.com", 443, True),
        ("example.com", 443, False),
        ("::1", 8080, False),
        ("127.0.0.1", 80, True),
    ):
        call(s, headers.build_host, host, port, secure)
        call(s, headers.build_host, host, port, secure, always_include_port=True)


@scenario
def parsing_uris(s: Scenario) -> None:
    """URIs, and what is in them."""
    for text in (
        "ws://example.com",
        "ws://example.com/",
        "wss://example.com:8443/path?query",
        "ws://example.com?query",
        "WS://Example.COM/Path",
        "ws://user:pass@example.com/",
        "ws://user@example.com/",
        "ws://us%20er:p%3Ass@example.com/",
        "ws://[::1]/",
        "ws://[::1]:80/",
        "ws://example.com:443/",
        "ws://münchen.example/stra%C3%9Fe?ö",
        "ws://example.com/%2F?a=b&c=%20",
        "http://example.com/",
        "ws:example.com",
        "ws://",
        "ws:///path",
        "//example.com",
        "example.com",
        "ws://example.com/#fragment",
        "ws://user:@example.com/",
        "ws://:pass@example.com/",
    ):
        try:
            uri = parse_uri(text)
        except Exception as exc:
            s.note(text, exc)
        else:
            s.note(text, uri, uri.resource_name, uri.user_info)


@scenario
def requests_and_responses(s: Scenario) -> None:
    """Requests and responses are dataclasses that serialize."""
    request = Request("/path?query", Headers(Host="x", A="é"))
    s.note("request", request, request == Request("/path?query", Headers(Host="x", A="é")))
    with s.failing("serialize"):
        s.note("bytes", Request("/", Headers(Host="x")).serialize())
    response = Response(200, "OK", Headers(A="1"), b"body")
    s.note("response", response, response.serialize())
    s.note("fields", [item.name for item in dataclasses.fields(Response)])
    s.note("default body", Response(200, "OK", Headers()).body)
    s.note("replaced", dataclasses.replace(response, status_code=201))
    s.note("agents", http11.USER_AGENT, http11.SERVER)


@scenario
def frames_and_codes(s: Scenario) -> None:
    """Opcodes, close codes and frames."""
    s.note("opcodes", *((item.name, int(item)) for item in Opcode))
    s.note("codes", *((item.name, int(item)) for item in CloseCode))
    s.note("groups", frames.DATA_OPCODES, frames.CTRL_OPCODES)
    s.note(
        "explanations", {int(key): value for key, value in frames.CLOSE_CODE_EXPLANATIONS.items()}
    )
    for code in (1000, 1004, 1006, 1016, 2999, 3000, 4000, 5000):
        s.note("close", str(Close(code, "why")), str(Close(code, "")))
    for data in (b"", b"\x03\xe8", b"\x03\xe8why", b"\x03", b"\x03\xed", b"\x03\xe8\xff"):
        call(s, Close.parse, data)
    for close in (Close(1000, ""), Close(4000, "€"), Close(1006, ""), Close(5000, "")):
        with s.failing(f"serialize {close}"):
            s.note("bytes", close.serialize())
    frame = Frame(Opcode.TEXT, b"x")
    s.note("frame", frame, frame == Frame(Opcode.TEXT, b"x"), frame == Frame(Opcode.TEXT, b"y"))
    s.note("replaced", dataclasses.replace(frame, fin=False))
    s.note("states", *((item.name, int(item)) for item in protocol.State))
    s.note("sides", *((item.name, int(item)) for item in protocol.Side), protocol.SEND_EOF)


@scenario
def frames_as_text(s: Scenario) -> None:
    """What frames look like in the log."""
    payloads = [
        b"",
        b"abc",
        "é".encode(),
        b"\xff\x00",
        b"a" * 100,
        "é".encode() * 60,
        b"a\xff" * 40,
        close(1000, "ok"),
        close(1000, "é" * 60),
        close(1005),
        close(1006, "x"),
        close(3999),
        close(4999, "private"),
        b"\x03\xe8\xff",
        b"\x03",
        b"quo'te\"s\n",
    ]
    for opcode in Opcode:
        for payload in payloads:
            s.note("frame", str(Frame(opcode, payload)), str(Frame(opcode, payload, fin=False)))
    s.note("bits", str(Frame(Opcode.TEXT, b"x", True, True, True, True)))


def close(code: int, reason: str = "") -> bytes:
    return code.to_bytes(2) + reason.encode()


@scenario
def utilities(s: Scenario) -> None:
    """accept_key, apply_mask, get_socket_name."""
    from websockets.utils import accept_key, apply_mask, get_socket_name

    call(s, accept_key, "dGhlIHNhbXBsZSBub25jZQ==")
    for size in (0, 1, 4, 7, 70):
        call(s, apply_mask, b"x" * size, b"\x01\x02\x03\x04")
    call(s, apply_mask, bytearray(b"xyz"), b"\x01\x02\x03\x04")
    call(s, apply_mask, memoryview(b"xyz"), b"\x01\x02\x03\x04")
    call(s, apply_mask, b"xyz", b"\x01\x02\x03")
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        s.ports.append(sock.getsockname()[1])
        s.note("name", get_socket_name(sock))


@scenario
def names_of_the_package(s: Scenario) -> None:
    """What the package exports, as far as all of it is there."""
    for name in (
        "ClientConnection", "ClientProtocol", "Close", "CloseCode", "ConcurrencyError",
        "ConnectionClosed", "ConnectionClosedError", "ConnectionClosedOK", "Data", "Frame",
        "Headers", "HeadersLike", "InvalidHandshake", "InvalidStatus", "InvalidURI",
        "MultipleValuesError", "Opcode", "Origin", "PayloadTooBig", "Request", "Response",
        "Router", "Server", "ServerConnection", "ServerProtocol", "State", "Subprotocol",
        "WebSocketException", "basic_auth", "broadcast", "connect", "route", "serve",
        "unix_connect", "unix_route", "unix_serve",
    ):  # fmt: skip
        s.note(name, getattr(getattr(websockets, name), "__name__", None))
        s.note(f"{name} in __all__", name in websockets.__all__)
    s.note("version", websockets.__version__, websockets.version.version)
    with s.failing("a name that there is not"):
        getattr(websockets, "".join(["no", "thing"]))
    for name in (
        "websockets.asyncio.client",
        "websockets.asyncio.server",
        "websockets.asyncio.router",
        "websockets.client",
        "websockets.server",
        "websockets.uri",
        "websockets.headers",
    ):
        module = importlib.import_module(name)
        s.note(name, sorted(getattr(module, "__all__", [])))
