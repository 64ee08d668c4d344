"""The functions on headers, against the RFC's own example (RFC 6455 section 1.3)."""

from __future__ import annotations

import base64

import pytest

from websockets.datastructures import Headers
from websockets.exceptions import InvalidHeader, InvalidHeaderValue, InvalidUpgrade
from websockets.legacy.handshake import build_request, build_response, check_request, check_response

KEY, ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
REQUEST = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}
RESPONSE = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Accept": ACCEPT}


def test_what_is_built_is_accepted() -> None:
    request, response = Headers(), Headers()
    key = build_request(request)
    assert len(base64.b64decode(key)) == 16
    assert check_request(request) == key
    build_response(response, key)
    check_response(response, key)


def test_example() -> None:
    headers = Headers()
    build_response(headers, KEY)
    assert dict(headers.raw_items()) == RESPONSE
    assert check_request(Headers(REQUEST)) == KEY


@pytest.mark.parametrize(
    ("name", "value", "exception"),
    [
        ("Connection", None, InvalidUpgrade),
        ("Connection", "close", InvalidUpgrade),
        ("Upgrade", None, InvalidUpgrade),
        ("Upgrade", "h2c", InvalidUpgrade),
        ("Sec-WebSocket-Key", None, InvalidHeader),
        ("Sec-WebSocket-Key", "x", InvalidHeaderValue),
        ("Sec-WebSocket-Key", "c2hvcnQ=", InvalidHeaderValue),
        ("Sec-WebSocket-Version", None, InvalidHeader),
        ("Sec-WebSocket-Version", "12", InvalidHeaderValue),
    ],
)
def test_requests_that_are_refused(
    name: str, value: str | None, exception: type[Exception]
) -> None:
    headers = Headers(REQUEST)
    del headers[name]
    if value is not None:
        headers[name] = value
    with pytest.raises(exception):
        check_request(headers)


@pytest.mark.parametrize(
    ("name", "value", "exception"),
    [
        ("Connection", None, InvalidUpgrade),
        ("Upgrade", "h2c", InvalidUpgrade),
        ("Sec-WebSocket-Accept", None, InvalidHeader),
        ("Sec-WebSocket-Accept", KEY, InvalidHeaderValue),
    ],
)
def test_responses_that_are_refused(
    name: str, value: str | None, exception: type[Exception]
) -> None:
    headers = Headers(RESPONSE)
    del headers[name]
    if value is not None:
        headers[name] = value
    with pytest.raises(exception):
        check_response(headers, KEY)
