"""Extensions in the opening handshake: the header's grammar, and what becomes of its items.

RFC 6455 section 9.1 has the grammar, RFC 9110 sections 5.3 and 5.6 what lists, tokens and quoted
strings are. The outcomes are those of websockets 17.4, but where a comment says why they are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHeaderFormat, NegotiationError
from websockets.extensions import ClientExtensionFactory, Extension, ServerExtensionFactory
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    PerMessageDeflate,
    ServerPerMessageDeflateFactory,
)
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import ExtensionName, ExtensionParameter
from websockets.uri import parse_uri
from websockets.utils import accept_key

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
NAME = "permessage-deflate"
HEADER = "Sec-WebSocket-Extensions"


def lines(first: str, fields: Sequence[tuple[str, str]], extensions: Sequence[str]) -> bytes:
    fields = [*fields, *((HEADER, value) for value in extensions)]
    head = [first, *(f"{name}: {value}" for name, value in fields)]
    return "\r\n".join([*head, "", ""]).encode("iso-8859-1")


def offered(
    *extensions: str, factories: Sequence[ServerExtensionFactory] | None = None
) -> tuple[ServerProtocol, Response]:
    """Have a server read these headers of a request, and answer."""
    if factories is None:
        factories = [ServerPerMessageDeflateFactory()]
    protocol = ServerProtocol(extensions=factories)
    fields = [
        ("Host", "example.com"),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", KEY),
        ("Sec-WebSocket-Version", "13"),
    ]
    protocol.receive_data(lines("GET / HTTP/1.1", fields, extensions))
    (request,) = protocol.events_received()
    assert isinstance(request, Request)
    return protocol, protocol.accept(request)


def answered(
    *extensions: str, factories: Sequence[ClientExtensionFactory] | None = None
) -> ClientProtocol:
    """Have a client read these headers of a response."""
    if factories is None:
        factories = [ClientPerMessageDeflateFactory()]
    protocol = ClientProtocol(parse_uri("ws://example.com/"), extensions=factories)
    protocol.send_request(protocol.connect())
    fields = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", accept_key(protocol.key)),
    ]
    protocol.receive_data(lines("HTTP/1.1 101 Switching Protocols", fields, extensions))
    return protocol


def window_of(extension: Extension, side: str) -> int:
    assert isinstance(extension, PerMessageDeflate)
    bits: int = getattr(extension, f"{side}_max_window_bits")
    return bits


# One item, written in the ways that the grammar has for it.
SPELLINGS = [
    f"{NAME}; server_max_window_bits=10",
    f"  {NAME};server_max_window_bits=10 \t",
    f"{NAME} ; server_max_window_bits = 10",
    f"{NAME}\t;\tserver_max_window_bits\t=\t10",
    # Section 9.1: a quoted value is a token once it is unquoted (RFC 9110 section 5.6.4).
    f'{NAME}; server_max_window_bits="10"',
    f'{NAME}; server_max_window_bits="1\\0"',
    f'{NAME}; server_max_window_bits = "10" ',
    # RFC 9110 section 5.6.1.2: empty items of a list do not count.
    f",, {NAME}; server_max_window_bits=10 ,\t,",
]


@pytest.mark.parametrize("value", SPELLINGS)
def test_spellings(value: str) -> None:
    server, response = offered(value)
    assert response.status_code == 101
    assert response.headers.get_all(HEADER) == [SPELLINGS[0]]
    assert window_of(*server.extensions, "local") == 10
    client = answered(value)
    assert client.state is State.OPEN
    assert window_of(*client.extensions, "remote") == 10


MALFORMED = [
    ("", "expected token at 0"),
    (",", "expected token at 1"),
    ("(x)", "expected token at 0"),
    ("; x", "expected token at 0"),
    (f'"{NAME}"', "expected token at 0"),
    ("x/y", "expected comma at 1"),
    (f"{NAME} x", "expected comma at 19"),
    (f"{NAME}é", "expected comma at 18"),
    (f"{NAME};", "expected token at 19"),
    (f"{NAME};;", "expected token at 19"),
    (f"{NAME}; =10", "expected token at 20"),
    (f"{NAME}; a b", "expected comma at 22"),
    (f"{NAME}; a=", "expected token at 22"),
    (f"{NAME}; a=b=c", "expected comma at 23"),
    (f"{NAME}; a, b; c=", "expected token at 28"),
    # Section 9.1: quoted or not, a value must be a token.
    (f'{NAME}; server_max_window_bits=""', "invalid quoted header content at 43"),
    (f'{NAME}; server_max_window_bits=" 10"', "invalid quoted header content at 43"),
    (f'{NAME}; server_max_window_bits="10', "expected quoted string at 43"),
    (f'{NAME}; server_max_window_bits=10"', "expected comma at 45"),
    # RFC 9110 section 5.6.4 has é in quoted strings. In 17.4 the error is "expected quoted string".
    (f'{NAME}; a="é"', "invalid quoted header content at 22"),
]


@pytest.mark.parametrize(("value", "error"), MALFORMED)
@pytest.mark.parametrize("before", [[], [NAME], [f"{NAME}; x", "y"]], ids=len)
def test_malformed(value: str, error: str, before: list[str]) -> None:
    """Section 9.1: the connection fails, whatever else is in the headers."""
    text = f"invalid {HEADER} header: {error} in {value}"
    server, response = offered(*before, value)
    assert response.status_code == 400
    assert HEADER not in response.headers
    assert type(server.handshake_exc) is InvalidHeaderFormat
    assert str(server.handshake_exc) == text
    client = answered(*before, value)
    assert client.state is State.CONNECTING
    assert type(client.handshake_exc) is InvalidHeaderFormat
    assert str(client.handshake_exc) == text


# What a server answers to items that are well formed. RFC 6455 section 9.1: what it does not know,
# or does not want, it leaves out; RFC 7692 section 5: an extension that is offered several times,
# in the order of preference, is accepted at most once.
OFFERS: list[tuple[list[str], list[str]]] = [
    ([], []),
    ([NAME], [NAME]),
    ([f"{NAME}, {NAME}"], [NAME]),
    ([NAME, NAME], [NAME]),
    (["x"], []),
    (["x", "y; z=1; z", NAME], [NAME]),
    ([f"x, {NAME}", "z"], [NAME]),
    ([f"{NAME}; unknown"], []),
    ([f"{NAME}; unknown, {NAME}"], [NAME]),
    ([f"{NAME}; server_max_window_bits=7", NAME], [NAME]),
    (
        [f"{NAME}; server_max_window_bits=08, {NAME}; server_max_window_bits=8, {NAME}"],
        [f"{NAME}; server_max_window_bits=8"],
    ),
    ([f"{NAME}; server_no_context_takeover=true"], []),
    ([f"{NAME}; server_no_context_takeover; server_no_context_takeover"], []),
    # RFC 9110 section 5.6.2: tokens are compared as they are, unless it is said otherwise.
    ([NAME.upper()], []),
    ([f"{NAME}; SERVER_MAX_WINDOW_BITS=10"], []),
]


@pytest.mark.parametrize(("offers", "answer"), OFFERS)
def test_offers(offers: list[str], answer: list[str]) -> None:
    server, response = offered(*offers)
    assert response.status_code == 101
    assert response.headers.get_all(HEADER) == answer
    assert len(server.extensions) == len(answer)


def test_offers_to_a_server_without_extensions() -> None:
    _, response = offered(NAME, "x; y", factories=[])
    assert (response.status_code, response.headers.get_all(HEADER)) == (101, [])


# RFC 6455 section 4.1: a client fails the connection for what it did not offer; RFC 7692 section
# 7.1: and for an answer that is none to the offer.
UNWANTED = [
    (["x"], "name = x, params = []"),
    ([NAME, "x; y"], "name = x, params = [('y', None)]"),
    ([f"x, {NAME}"], "name = x, params = []"),
    ([f"{NAME}, {NAME}"], f"name = {NAME}, params = []"),
    ([NAME, f"{NAME}; server_no_context_takeover"],)
    + (f"name = {NAME}, params = [('server_no_context_takeover', None)]",),
    ([f"{NAME}; unknown"], f"name = {NAME}, params = [('unknown', None)]"),
    (
        [f"{NAME}; server_max_window_bits=16"],
        f"name = {NAME}, params = [('server_max_window_bits', '16')]",
    ),
    (
        [f"{NAME}; client_max_window_bits"],
        f"name = {NAME}, params = [('client_max_window_bits', None)]",
    ),
    ([NAME.upper()], f"name = {NAME.upper()}, params = []"),
]


@pytest.mark.parametrize(("answer", "text"), UNWANTED)
def test_unwanted_answers(answer: list[str], text: str) -> None:
    client = answered(*answer)
    assert client.state is State.CONNECTING
    assert type(client.handshake_exc) is NegotiationError
    assert str(client.handshake_exc) == f"Unsupported extension: {text}"
    assert client.extensions == []


def test_the_cause_of_a_refusal() -> None:
    """17.4 does not tell."""
    client = answered(f"{NAME}; server_max_window_bits=16")
    assert client.handshake_exc is not None
    assert str(client.handshake_exc.__cause__) == (
        "invalid value for parameter server_max_window_bits: 16"
    )
    client = answered("x")
    assert client.handshake_exc is not None
    assert client.handshake_exc.__cause__ is None


def test_an_answer_to_a_client_without_extensions() -> None:
    client = ClientProtocol(parse_uri("ws://example.com/"))
    client.send_request(client.connect())
    fields = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", accept_key(client.key)),
    ]
    client.receive_data(lines("HTTP/1.1 101 Switching Protocols", fields, [NAME]))
    assert str(client.handshake_exc) == "no extensions supported"


def test_a_server_that_declines() -> None:
    client = answered()
    assert (client.state, client.extensions) == (State.OPEN, [])


# Fallbacks: several factories of one extension


def test_a_client_with_fallbacks() -> None:
    factories = [
        ClientPerMessageDeflateFactory(server_max_window_bits=9, server_no_context_takeover=True),
        ClientPerMessageDeflateFactory(server_max_window_bits=12, client_max_window_bits=None),
        ClientPerMessageDeflateFactory(client_max_window_bits=None),
    ]
    request = ClientProtocol(parse_uri("ws://example.com/"), extensions=factories).connect()
    assert request.headers.get_all(HEADER) == [
        f"{NAME}; server_no_context_takeover; server_max_window_bits=9; client_max_window_bits, "
        f"{NAME}; server_max_window_bits=12, {NAME}"
    ]
    # Whichever of them the server takes is recognized.
    for answer, bits in [
        (f"{NAME}; server_no_context_takeover; server_max_window_bits=9", 9),
        (f"{NAME}; server_max_window_bits=12", 12),
        (f"{NAME}; server_max_window_bits=14", 14),
        (NAME, 15),
    ]:
        client = answered(answer, factories=factories)
        assert client.handshake_exc is None
        assert window_of(*client.extensions, "remote") == bits
    # A client's window was offered in the first one only.
    assert answered(f"{NAME}; client_max_window_bits=10", factories=factories).handshake_exc


def test_a_server_with_fallbacks() -> None:
    factories = [
        ServerPerMessageDeflateFactory(
            client_max_window_bits=9, require_client_max_window_bits=True
        ),
        ServerPerMessageDeflateFactory(client_no_context_takeover=True),
    ]
    for offer, answer in [
        (f"{NAME}; client_max_window_bits", f"{NAME}; client_max_window_bits=9"),
        (NAME, f"{NAME}; client_no_context_takeover"),
    ]:
        _, response = offered(offer, factories=factories)
        assert response.headers.get_all(HEADER) == [answer]


# Several extensions


class Plain(Extension):
    def __init__(self, name: str) -> None:
        self.name = ExtensionName(name)


class PlainFactory(ClientExtensionFactory, ServerExtensionFactory):
    """An extension without parameters that does nothing."""

    def __init__(self, name: str) -> None:
        self.name = ExtensionName(name)

    def get_request_params(self) -> Sequence[ExtensionParameter]:
        return []

    def process_response_params(
        self, params: Sequence[ExtensionParameter], accepted_extensions: Sequence[Extension]
    ) -> Extension:
        return Plain(self.name)

    def process_request_params(
        self, params: Sequence[ExtensionParameter], accepted_extensions: Sequence[Extension]
    ) -> tuple[list[ExtensionParameter], Extension]:
        return [], Plain(self.name)


@pytest.mark.parametrize(
    "values",
    [[f"x, {NAME}, y"], ["x", NAME, "y"], ["x", f"{NAME}, y"], [f"x,{NAME}", ",y,"]],
    ids=str,
)
def test_several_headers_are_one_list(values: list[str]) -> None:
    """RFC 9110 section 5.3, and RFC 6455 section 9.1 for the order."""
    own: list[Any] = [PlainFactory("y"), PlainFactory("x")]
    server, response = offered(*values, factories=[*own, ServerPerMessageDeflateFactory()])
    assert response.headers.get_all(HEADER) == [f"x, {NAME}, y"]
    assert [extension.name for extension in server.extensions] == ["x", NAME, "y"]
    client = answered(*values, factories=[*own, ClientPerMessageDeflateFactory()])
    assert client.handshake_exc is None
    assert [extension.name for extension in client.extensions] == ["x", NAME, "y"]


def test_both_sides_agree() -> None:
    """What one side writes, the other reads."""
    own: list[Any] = [PlainFactory("x"), PlainFactory("y")]
    client = ClientProtocol(
        parse_uri("ws://example.com/"),
        extensions=[own[0], ClientPerMessageDeflateFactory(True, True, 10, 11), own[1]],
    )
    server = ServerProtocol(extensions=[ServerPerMessageDeflateFactory(), own[1]])
    client.send_request(client.connect())
    server.receive_data(b"".join(client.data_to_send()))
    (request,) = server.events_received()
    assert isinstance(request, Request)
    server.send_response(server.accept(request))
    client.receive_data(b"".join(server.data_to_send()))
    assert (client.state, server.state) == (State.OPEN, State.OPEN)
    assert [extension.name for extension in client.extensions] == [NAME, "y"]
    assert [extension.name for extension in server.extensions] == [NAME, "y"]
    assert repr(client.extensions[0]) == (
        "PerMessageDeflate(remote_no_context_takeover=True, local_no_context_takeover=True, "
        "remote_max_window_bits=10, local_max_window_bits=11)"
    )
    assert repr(server.extensions[0]) == (
        "PerMessageDeflate(remote_no_context_takeover=True, local_no_context_takeover=True, "
        "remote_max_window_bits=11, local_max_window_bits=10)"
    )
