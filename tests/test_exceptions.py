"""Exceptions: bases, attributes, text and pickling are those of websockets 17.4."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import pytest

from websockets import exceptions
from websockets.datastructures import Headers
from websockets.exceptions import (
    ConcurrencyError,
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedOK,
    DuplicateParameter,
    HeaderLineTooLong,
    InvalidHandshake,
    InvalidHeader,
    InvalidHeaderFormat,
    InvalidHeaderValue,
    InvalidMessage,
    InvalidMethod,
    InvalidOrigin,
    InvalidParameterName,
    InvalidParameterValue,
    InvalidProtocol,
    InvalidProxy,
    InvalidProxyMessage,
    InvalidProxyStatus,
    InvalidState,
    InvalidStatus,
    InvalidUpgrade,
    InvalidURI,
    NegotiationError,
    PayloadTooBig,
    ProtocolError,
    ProxyError,
    RequestLineTooLong,
    SecurityError,
    StatusLineTooLong,
    TooManyFragments,
    TooManyHeaders,
    WebSocketException,
)
from websockets.frames import Close, CloseCode
from websockets.http11 import Response

RESPONSE = Response(404, "Not Found", Headers(a="b"), b"")

BASES: dict[type[BaseException], tuple[type[BaseException], ...]] = {
    WebSocketException: (Exception,),
    ConnectionClosed: (WebSocketException,),
    ConnectionClosedOK: (ConnectionClosed,),
    ConnectionClosedError: (ConnectionClosed,),
    InvalidURI: (WebSocketException,),
    InvalidProxy: (WebSocketException,),
    InvalidHandshake: (WebSocketException,),
    SecurityError: (InvalidHandshake,),
    RequestLineTooLong: (SecurityError,),
    StatusLineTooLong: (SecurityError,),
    HeaderLineTooLong: (SecurityError,),
    TooManyHeaders: (SecurityError,),
    ProxyError: (InvalidHandshake,),
    InvalidProxyMessage: (ProxyError,),
    InvalidProxyStatus: (ProxyError,),
    InvalidMessage: (InvalidHandshake,),
    InvalidMethod: (InvalidHandshake,),
    InvalidProtocol: (InvalidHandshake,),
    InvalidStatus: (InvalidHandshake,),
    InvalidHeader: (InvalidHandshake,),
    InvalidHeaderFormat: (InvalidHeader,),
    InvalidHeaderValue: (InvalidHeader,),
    InvalidOrigin: (InvalidHeader,),
    InvalidUpgrade: (InvalidHeader,),
    NegotiationError: (InvalidHandshake,),
    DuplicateParameter: (NegotiationError,),
    InvalidParameterName: (NegotiationError,),
    InvalidParameterValue: (NegotiationError,),
    ProtocolError: (WebSocketException,),
    PayloadTooBig: (WebSocketException,),
    TooManyFragments: (WebSocketException,),
    InvalidState: (WebSocketException, AssertionError),
    ConcurrencyError: (WebSocketException, RuntimeError),
}

GOING_AWAY = Close(1001, "bye")
OK = Close(1000, "")

TEXTS: list[tuple[Exception, str]] = [
    (WebSocketException("text"), "text"),
    (ConnectionClosed(None, None), "no close frame received or sent"),
    (ConnectionClosed(OK, None), "received 1000 (OK); no close frame sent"),
    (
        ConnectionClosedError(None, Close(1002, "x")),
        "sent 1002 (protocol error) x; no close frame received",
    ),
    (
        ConnectionClosedOK(GOING_AWAY, GOING_AWAY, True),
        "received 1001 (going away) bye; then sent 1001 (going away) bye",
    ),
    (
        ConnectionClosedOK(GOING_AWAY, OK, False),
        "sent 1000 (OK); then received 1001 (going away) bye",
    ),
    (InvalidURI("|", "not at all!"), "| isn't a valid URI: not at all!"),
    (InvalidProxy("|", "not at all!"), "| isn't a valid proxy: not at all!"),
    (InvalidURI("ws://me:p:@w@h/@b:c@", "no"), "ws://me:***@h/@b:c@ isn't a valid URI: no"),
    (InvalidURI("ws://h:80/?a:b@c#@", "no"), "ws://h:80/?a:b@c#@ isn't a valid URI: no"),
    (InvalidProxy("http://:pw@[::1", "no"), "http://:***@[::1 isn't a valid proxy: no"),
    (SecurityError("too much"), "too much"),
    (InvalidProxyMessage("text"), "text"),
    (InvalidProxyStatus(RESPONSE), "proxy rejected connection: HTTP 404"),
    (InvalidMessage("text"), "text"),
    (InvalidMethod("POST"), "unsupported HTTP method: POST"),
    (InvalidProtocol("HTTP/1.0"), "unsupported HTTP version: HTTP/1.0"),
    (InvalidStatus(RESPONSE), "server rejected WebSocket connection: HTTP 404"),
    (InvalidHeader("Name"), "missing Name header"),
    (InvalidHeader("Name", None), "missing Name header"),
    (InvalidHeader("Name", ""), "empty Name header"),
    (InvalidHeader("Name", "value"), "invalid Name header: value"),
    (
        InvalidHeaderFormat("Name", "expected comma", "a b", 2),
        "invalid Name header: expected comma at 2 in a b",
    ),
    (InvalidHeaderValue("Name", "value"), "invalid Name header: value"),
    (InvalidOrigin(None), "missing Origin header"),
    (InvalidOrigin(""), "empty Origin header"),
    (InvalidOrigin("http://a"), "invalid Origin header: http://a"),
    (InvalidUpgrade("Upgrade"), "missing Upgrade header"),
    (InvalidUpgrade("Connection", "close"), "invalid Connection header: close"),
    (NegotiationError("text"), "text"),
    (DuplicateParameter("a"), "duplicate parameter: a"),
    (InvalidParameterName("|"), "invalid parameter name: |"),
    (InvalidParameterValue("a", None), "missing value for parameter a"),
    (InvalidParameterValue("a", ""), "empty value for parameter a"),
    (InvalidParameterValue("a", "|"), "invalid value for parameter a: |"),
    (ProtocolError("text"), "text"),
    (PayloadTooBig(10, 5), "frame with 10 bytes exceeds limit of 5 bytes"),
    (
        PayloadTooBig(10, 5, 3),
        "frame with 10 bytes after reading 3 bytes exceeds limit of 8 bytes",
    ),
    (
        PayloadTooBig(10, 5, 0),
        "frame with 10 bytes after reading 0 bytes exceeds limit of 5 bytes",
    ),
    (PayloadTooBig(None, 5), "frame exceeds limit of 5 bytes"),
    (PayloadTooBig(None, 5, 3), "frame after reading 3 bytes exceeds limit of 8 bytes"),
    (TooManyFragments(7), "fragmented message exceeds limit of 7 frames"),
    (InvalidState("text"), "text"),
    (ConcurrencyError("text"), "text"),
]


def test_all_names_are_exported() -> None:
    assert set(exceptions.__all__) == {exc_type.__name__ for exc_type in BASES}


@pytest.mark.parametrize(
    ("exc_type", "bases"), BASES.items(), ids=lambda v: getattr(v, "__name__", "")
)
def test_bases(exc_type: type[BaseException], bases: tuple[type[BaseException], ...]) -> None:
    assert exc_type.__bases__ == bases


@pytest.mark.parametrize(("exc", "text"), TEXTS, ids=[text for _, text in TEXTS])
def test_text(exc: Exception, text: str) -> None:
    assert str(exc) == text


@pytest.mark.parametrize("exc", [exc for exc, _ in TEXTS], ids=[text for _, text in TEXTS])
def test_pickle(exc: Exception) -> None:
    copy = pickle.loads(pickle.dumps(exc))
    assert type(copy) is type(exc)
    assert str(copy) == str(exc)
    assert copy.__dict__ == exc.__dict__


@pytest.mark.parametrize(
    ("exc", "attributes"),
    [
        (
            ConnectionClosed(OK, GOING_AWAY, False),
            {"rcvd": OK, "sent": GOING_AWAY, "rcvd_then_sent": False},
        ),
        (InvalidURI("u", "m"), {"uri": "u", "msg": "m"}),
        (InvalidProxy("p", "m"), {"proxy": "p", "msg": "m"}),
        (InvalidStatus(RESPONSE), {"response": RESPONSE}),
        (InvalidProxyStatus(RESPONSE), {"response": RESPONSE}),
        (InvalidHeader("n", "v"), {"name": "n", "value": "v"}),
        (InvalidHeaderFormat("n", "e", "h", 1), {"name": "n", "value": "e at 1 in h"}),
        (InvalidOrigin("o"), {"name": "Origin", "value": "o"}),
        (InvalidMethod("m"), {"method": "m"}),
        (InvalidProtocol("p"), {"protocol": "p"}),
        (InvalidParameterValue("n", "v"), {"name": "n", "value": "v"}),
        (PayloadTooBig(10, 5), {"message": None, "size": 10, "max_size": 5, "current_size": None}),
        (PayloadTooBig(10, 5, 3), {"message": None, "size": 10, "max_size": 8, "current_size": 3}),
        (TooManyFragments(7), {"max_fragments": 7}),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, Exception) else "",
)
def test_attributes(exc: Exception, attributes: dict[str, Any]) -> None:
    assert vars(exc) == attributes


@pytest.mark.parametrize(
    "args",
    [(OK, OK), (OK, None, True), (None, OK, False), (None, None, True)],
    ids=["both, no order", "no sent, order", "no rcvd, order", "none, order"],
)
def test_order_is_told_when_there_were_two_close_frames(args: Any) -> None:
    with pytest.raises(AssertionError):
        ConnectionClosed(*args)


@pytest.mark.parametrize(
    ("rcvd", "code", "reason"),
    [(None, CloseCode.ABNORMAL_CLOSURE, ""), (GOING_AWAY, 1001, "bye")],
    ids=["no close frame", "close frame"],
)
def test_code_and_reason_are_deprecated(rcvd: Close | None, code: int, reason: str) -> None:
    exc = ConnectionClosed(rcvd, None)
    with pytest.warns(DeprecationWarning) as records:
        assert repr(exc.code) == repr(code)
        assert exc.reason == reason
    assert [str(record.message) for record in records] == [
        "ConnectionClosed.code is deprecated; "
        "use Protocol.close_code or ConnectionClosed.rcvd.code",
        "ConnectionClosed.reason is deprecated; "
        "use Protocol.close_reason or ConnectionClosed.rcvd.reason",
    ]
    assert {record.filename for record in records} == {__file__}


class TestPayloadTooBig:
    def test_current_size_can_be_told_later(self) -> None:
        exc = PayloadTooBig(10, 5)
        exc.set_current_size(3)
        assert str(exc) == "frame with 10 bytes after reading 3 bytes exceeds limit of 8 bytes"
        assert (exc.max_size, exc.current_size) == (8, 3)

    def test_current_size_is_told_once(self) -> None:
        with pytest.raises(AssertionError):
            PayloadTooBig(10, 5, 3).set_current_size(3)

    def test_size_needs_a_limit(self) -> None:
        with pytest.raises(AssertionError):
            PayloadTooBig(10)

    def test_message_is_deprecated(self) -> None:
        with pytest.warns(DeprecationWarning) as records:
            exc = PayloadTooBig("message")
        assert [str(record.message) for record in records] == [
            "PayloadTooBig(message) is deprecated; change to PayloadTooBig(size, max_size)"
        ]
        assert str(exc) == exc.message == "message"


def test_former_name_of_protocol_error() -> None:
    with pytest.warns(DeprecationWarning) as records:
        assert exceptions.WebSocketProtocolError is ProtocolError
    assert [str(record.message) for record in records] == [
        "websockets.exceptions.WebSocketProtocolError is deprecated"
    ]


def test_unknown_names() -> None:
    with warnings.catch_warnings(), pytest.raises(AttributeError) as raised:
        warnings.simplefilter("error")
        exceptions.Unknown  # noqa: B018
    assert str(raised.value) == "module 'websockets.exceptions' has no attribute 'Unknown'"
