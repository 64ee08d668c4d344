"""
The grammar of the headers in the opening handshake.

Parsers take the value of a header and raise :exc:`.InvalidHeaderFormat`, which tells where the
value leaves the grammar. Builders return a value.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

from .datastructures import Headers
from .exceptions import InvalidHeader, InvalidHeaderFormat, InvalidHeaderValue, InvalidUpgrade
from .typing import (
    ConnectionOption,
    ExtensionHeader,
    ExtensionName,
    ExtensionParameter,
    Subprotocol,
    UpgradeProtocol,
)

__all__ = [
    "build_host",
    "parse_connection",
    "parse_upgrade",
    "parse_extension",
    "build_extension",
    "parse_subprotocol",
    "build_subprotocol",
    "validate_subprotocols",
    "build_www_authenticate_basic",
    "parse_authorization_basic",
    "build_authorization_basic",
]

T = TypeVar("T")

#: Most items in a list that is read, empty ones and parameters included.
MAX_LIST_ITEMS = 256

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"

# RFC 9110: token (5.6.2), OWS (5.6.3), quoted-string (5.6.4), protocol (7.8), token68 (11.2).
_token_re = re.compile(_TOKEN)
_ows_re = re.compile(r"[ \t]*")
_separator_re = re.compile(r"[ \t]*+((?:,[ \t]*+)*+)")
_quoted_string_re = re.compile(
    r'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'
)
_quoted_pair_re = re.compile(r"\\(.)")
_protocol_re = re.compile(rf"{_TOKEN}(?:/{_TOKEN})?")
_token68_re = re.compile(r"[A-Za-z0-9\-._~+/]+=*")

_is_quotable = re.compile(r"[\t \x21-\x7e\x80-\xff]*").fullmatch


class _Reader:
    """A position in the value of a header."""

    __slots__ = ("name", "pos", "value")

    def __init__(self, name: str, value: str) -> None:
        self.name = name
        self.value = value
        self.pos = 0

    def fail(self, error: str, pos: int | None = None) -> NoReturn:
        raise InvalidHeaderFormat(self.name, error, self.value, self.pos if pos is None else pos)

    def at(self, char: str) -> bool:
        return self.value.startswith(char, self.pos)

    def at_end(self) -> bool:
        return self.pos == len(self.value)

    def skip_ows(self) -> None:
        match = _ows_re.match(self.value, self.pos)
        assert match is not None  # it matches nothing, too
        self.pos = match.end()

    def skip(self, char: str) -> bool:
        """Go past a character and the whitespace after it, if the character is next."""
        if not self.at(char):
            return False
        self.pos += 1
        self.skip_ows()
        return True

    def skip_separator(self) -> bool:
        """Go past commas, of which there must be one, or the end; return whether items follow."""
        match = _separator_re.match(self.value, self.pos)
        assert match is not None  # it matches nothing, too
        self.pos = match.end()
        if self.pos == len(self.value):
            return False
        if not match[1]:
            self.fail("expected comma")
        return True

    def read(self, pattern: re.Pattern[str], what: str) -> str:
        match = pattern.match(self.value, self.pos)
        if match is None:
            self.fail(f"expected {what}")
        self.pos = match.end()
        return match.group()

    def read_token(self) -> str:
        return self.read(_token_re, "token")

    def read_quoted_string(self) -> str:
        return _quoted_pair_re.sub(r"\1", self.read(_quoted_string_re, "quoted string")[1:-1])


def _parse_list(name: str, value: str, read_item: Callable[[_Reader], T]) -> list[T]:
    """
    Parse ``1#item`` (RFC 9110 section 5.6.1).

    Empty items are ignored, as 5.6.1.2 requires of recipients; there must be one that is not empty.
    """
    reader = _Reader(name, value)
    if reader.at(","):
        reader.skip_separator()
    items = [read_item(reader)]
    while reader.skip_separator():
        items.append(read_item(reader))
    return items


def _parse_tokens(name: str, value: str) -> list[Any]:
    """Parse ``1#token``."""
    # Nearly always there is one.
    if _token_re.fullmatch(value):
        return [value]
    return _parse_list(name, value, _Reader.read_token)


def get_single(headers: Headers, name: str) -> str:
    """
    Return the value of a header that must appear, and only once.

    Args:
        headers: headers of the message.
        name: name of the header.

    Raises:
        InvalidHeader: if the header is missing or repeated.
    """
    values = headers.get_all(name)
    if len(values) != 1:
        raise InvalidHeader(name, "multiple values" if values else None)
    return values[0]


def _get_list(headers: Headers, name: str, parse: Callable[[str], list[T]]) -> list[T]:
    """Parse all headers of a name as one list (RFC 9110 section 5.3)."""
    values = headers.get_all(name)
    if len(values) == 1 and len(values[0]) <= MAX_LIST_ITEMS:
        return parse(values[0])
    # RFC 9110 section 5.6.1.2 warns of empty items; others take as long, and memory besides. Here
    # all that items and parameters can be made of is counted, at a thousandth of the cost.
    if sum(value.count(",") + value.count(";") + 1 for value in values) > MAX_LIST_ITEMS:
        raise InvalidHeader(name, f"more than {MAX_LIST_ITEMS} items")
    items: list[T] = []
    for value in values:
        items += parse(value)
    return items


def check_upgrade(headers: Headers, *, requested: bool = False) -> None:
    """
    Check that a request asks for WebSocket, or that a response agrees to it.

    RFC 6455 section 4.2.1, points 3 and 4, for requests; section 4.1, points 2 and 3 of what to
    check in responses. Case does not matter in either.

    Args:
        headers: headers of the message.
        requested: whether the message is a request, which may ask for other protocols, too.

    Raises:
        InvalidUpgrade: if ``Connection`` lacks the option ``Upgrade``, or ``Upgrade`` lacks
            ``websocket``, or has something else in a response.
        InvalidHeaderFormat: if one of them does not match its grammar.
        InvalidHeader: if one of them has too many items.
    """
    # Nearly always, either is one word, and there is nothing to parse.
    if headers.get_all("Connection") != ["Upgrade"]:
        connection = _get_list(headers, "Connection", parse_connection)
        if "upgrade" not in [option.lower() for option in connection]:
            raise InvalidUpgrade("Connection", ", ".join(connection) if connection else None)
    if headers.get_all("Upgrade") != ["websocket"]:
        upgrade = _get_list(headers, "Upgrade", parse_upgrade)
        names = [protocol.lower() for protocol in upgrade]
        if "websocket" not in names if requested else names != ["websocket"]:
            raise InvalidUpgrade("Upgrade", ", ".join(upgrade) if upgrade else None)


def get_extensions(headers: Headers) -> list[ExtensionHeader]:
    """Parse all ``Sec-WebSocket-Extensions`` headers as one list (RFC 6455 section 9.1)."""
    return _get_list(headers, "Sec-WebSocket-Extensions", parse_extension)


def get_subprotocols(headers: Headers) -> list[Subprotocol]:
    """Parse all ``Sec-WebSocket-Protocol`` headers as one list (RFC 6455 section 11.3.4)."""
    return _get_list(headers, "Sec-WebSocket-Protocol", parse_subprotocol)


def build_host(host: str, port: int, secure: bool, *, always_include_port: bool = False) -> str:
    """
    Return the value of a ``Host`` header (RFC 9110 section 7.2).

    Args:
        host: name or IP address.
        port: port; it is left out when it is the default of the scheme (RFC 6455 section 4.1).
        secure: whether the scheme is ``wss``.
        always_include_port: keep the default port, as CONNECT requires (RFC 9110 section 9.3.6).
    """
    # RFC 3986 section 3.2.2: only in an IP literal does a host have colons.
    if ":" in host and not host.startswith("["):
        # RFC 6874 section 4: a zone means nothing to others, and must not be sent.
        host = f"[{host.partition('%')[0]}]"
    if always_include_port or port != (443 if secure else 80):
        host = f"{host}:{port}"
    return host


def parse_connection(header: str) -> list[ConnectionOption]:
    """
    Parse a ``Connection`` header (RFC 9110 section 7.6.1).

    Args:
        header: value of the header.

    Returns:
        The options, case as received.

    Raises:
        InvalidHeaderFormat: if the value does not match the grammar.
    """
    return _parse_tokens("Connection", header)


def parse_upgrade(header: str) -> list[UpgradeProtocol]:
    """
    Parse an ``Upgrade`` header (RFC 9110 section 7.8).

    Args:
        header: value of the header.

    Returns:
        The protocols, with their versions if there are any, case as received.

    Raises:
        InvalidHeaderFormat: if the value does not match the grammar.
    """
    if _protocol_re.fullmatch(header):
        return [UpgradeProtocol(header)]
    return _parse_list("Upgrade", header, _read_protocol)


def _read_protocol(reader: _Reader) -> UpgradeProtocol:
    return UpgradeProtocol(reader.read(_protocol_re, "protocol"))


def _read_parameter(reader: _Reader) -> ExtensionParameter:
    name = reader.read_token()
    reader.skip_ows()
    if not reader.skip("="):
        return name, None
    if not reader.at('"'):
        value = reader.read_token()
    else:
        start = reader.pos
        value = reader.read_quoted_string()
        # RFC 6455 section 9.1: once unquoted, the value must be a token all the same.
        if not _token_re.fullmatch(value):
            reader.fail("invalid quoted header content", start)
    reader.skip_ows()
    return name, value


def _read_extension(reader: _Reader) -> ExtensionHeader:
    name = ExtensionName(reader.read_token())
    reader.skip_ows()
    parameters = []
    while reader.skip(";"):
        parameters.append(_read_parameter(reader))
    return name, parameters


def parse_extension(header: str) -> list[ExtensionHeader]:
    """
    Parse a ``Sec-WebSocket-Extensions`` header (RFC 6455 section 9.1).

    Args:
        header: value of the header.

    Returns:
        Names of extensions, each with the list of its parameters; a parameter is a pair of name and
        value, :obj:`None` where there is no value.

    Raises:
        InvalidHeaderFormat: if the value does not match the grammar.
    """
    return _parse_list("Sec-WebSocket-Extensions", header, _read_extension)


def build_extension(extensions: Sequence[ExtensionHeader]) -> str:
    """
    Return the value of a ``Sec-WebSocket-Extensions`` header (RFC 6455 section 9.1).

    Args:
        extensions: what :func:`parse_extension` returns.
    """
    return ", ".join(
        "; ".join(
            [name, *(key if value is None else f"{key}={value}" for key, value in parameters)]
        )
        for name, parameters in extensions
    )


def parse_subprotocol(header: str) -> list[Subprotocol]:
    """
    Parse a ``Sec-WebSocket-Protocol`` header (RFC 6455 section 11.3.4).

    Args:
        header: value of the header.

    Returns:
        The subprotocols, in order of preference.

    Raises:
        InvalidHeaderFormat: if the value does not match the grammar.
    """
    return _parse_tokens("Sec-WebSocket-Protocol", header)


def build_subprotocol(subprotocols: Sequence[Subprotocol]) -> str:
    """
    Return the value of a ``Sec-WebSocket-Protocol`` header (RFC 6455 section 11.3.4).

    Args:
        subprotocols: the subprotocols, in order of preference.
    """
    return ", ".join(subprotocols)


def validate_subprotocols(subprotocols: Sequence[Subprotocol]) -> None:
    """
    Check the subprotocols that an application configures (RFC 6455 section 4.1, point 10).

    Args:
        subprotocols: the subprotocols.

    Raises:
        TypeError: if they are not in a sequence, or are one :class:`str`.
        ValueError: if one of them is not a token.
    """
    if not isinstance(subprotocols, Sequence):
        raise TypeError("subprotocols must be a list")
    if isinstance(subprotocols, str):
        raise TypeError("subprotocols must be a list, not a str")
    for subprotocol in subprotocols:
        if not _token_re.fullmatch(subprotocol):
            raise ValueError(f"invalid subprotocol: {subprotocol}")


def build_www_authenticate_basic(realm: str) -> str:
    """
    Return the value of a ``WWW-Authenticate`` header for Basic authentication (RFC 7617 section 2).

    Args:
        realm: name of the protection space.

    Raises:
        ValueError: if the realm has characters that a header cannot have.
    """
    if not _is_quotable(realm):
        raise ValueError("invalid characters for quoted-string encoding")
    quoted = realm.replace("\\", "\\\\").replace('"', '\\"')
    return f'Basic realm="{quoted}", charset="UTF-8"'


def parse_authorization_basic(header: str) -> tuple[str, str]:
    """
    Parse an ``Authorization`` header for Basic authentication (RFC 7617 section 2).

    Args:
        header: value of the header.

    Returns:
        User name and password. Octets that are not UTF-8 come as lone surrogates
        (``surrogateescape``), which equal no proper string.

    Raises:
        InvalidHeaderFormat: if the value does not match the grammar.
        InvalidHeaderValue: if the scheme is not Basic or the credentials are malformed.
    """
    name = "Authorization"
    reader = _Reader(name, header)
    scheme = reader.read_token()
    if scheme.lower() != "basic":
        raise InvalidHeaderValue(name, f"unsupported scheme: {scheme}")
    if not reader.at(" "):
        reader.fail("expected space after scheme")
    reader.pos += 1
    token = reader.read(_token68_re, "token68")
    if not reader.at_end():
        reader.fail("trailing data")
    # Strict: credentials that two decoders read differently are nobody's (RFC 4648 section 3).
    try:
        user_pass = binascii.a2b_base64(token.encode(), strict_mode=True)
    except binascii.Error:
        raise InvalidHeaderValue(name, "expected base64-encoded credentials") from None
    username, colon, password = user_pass.decode(errors="surrogateescape").partition(":")
    if not colon:
        raise InvalidHeaderValue(name, "expected username:password credentials")
    return username, password


def build_authorization_basic(username: str, password: str) -> str:
    """
    Return the value of an ``Authorization`` header for Basic authentication (RFC 7617 section 2).

    Args:
        username: user name; it cannot have a colon, at which the recipient splits.
        password: password.

    Raises:
        ValueError: if there is a colon in the user name.
    """
    if ":" in username:
        raise ValueError("username contains a colon")
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()
