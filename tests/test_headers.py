"""The grammar of the handshake's headers: results and errors are those of websockets 17.4."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from websockets.datastructures import Headers
from websockets.exceptions import (
    InvalidHeader,
    InvalidHeaderFormat,
    InvalidHeaderValue,
    InvalidUpgrade,
)
from websockets.headers import (
    build_authorization_basic,
    build_extension,
    build_host,
    build_subprotocol,
    build_www_authenticate_basic,
    check_upgrade,
    get_extensions,
    get_single,
    get_subprotocols,
    parse_authorization_basic,
    parse_connection,
    parse_extension,
    parse_subprotocol,
    parse_upgrade,
    validate_subprotocols,
)

# What a list of tokens is, whichever header it is in: value, and items or error.
TOKEN_LISTS: list[tuple[str, list[str] | tuple[str, int]]] = [
    ("one", ["one"]),
    ("one, two", ["one", "two"]),
    ("a,b,c", ["a", "b", "c"]),
    ("a \t,\tb", ["a", "b"]),
    # RFC 9110 section 5.6.1.2: empty items are ignored.
    (", ,one,, two,", ["one", "two"]),
    ("one,\t", ["one"]),
    ("same,same", ["same", "same"]),
    ("!#$%&'*+-.^_`|~09AZaz", ["!#$%&'*+-.^_`|~09AZaz"]),
    ("", ("item", 0)),
    (",", ("item", 1)),
    ("  one  ", ("item", 0)),
    (" , a", ("item", 0)),
    ("\xe9", ("item", 0)),
    ('"x"', ("item", 0)),
    ("one two", ("comma", 4)),
    ("one, two three", ("comma", 9)),
    ("one,\x00", ("item", 4)),
    ("a\x00", ("comma", 1)),
    ("a\n", ("comma", 1)),
    ("a@b", ("comma", 1)),
]


@pytest.mark.parametrize(
    ("parse", "name", "item"),
    [
        (parse_connection, "Connection", "token"),
        (parse_upgrade, "Upgrade", "protocol"),
        (parse_subprotocol, "Sec-WebSocket-Protocol", "token"),
        (parse_extension, "Sec-WebSocket-Extensions", "token"),
    ],
    ids=["Connection", "Upgrade", "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions"],
)
@pytest.mark.parametrize(("value", "expected"), TOKEN_LISTS, ids=[repr(v) for v, _ in TOKEN_LISTS])
def test_lists(
    parse: Any, name: str, item: str, value: str, expected: list[str] | tuple[str, int]
) -> None:
    """RFC 9110 section 5.6.1."""
    if isinstance(expected, list):
        if parse is parse_extension:
            assert parse(value) == [(extension, []) for extension in expected]
        else:
            assert parse(value) == expected
        return
    what, pos = expected
    error = f"expected {item if what == 'item' else what}"
    with pytest.raises(InvalidHeaderFormat) as raised:
        parse(value)
    assert raised.value.args == (name, error, value, pos)
    shown = value if value.isprintable() else repr(value)[1:-1]
    assert str(raised.value) == f"invalid {name} header: {error} at {pos} in {shown}"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("websocket", ["websocket"]),
        ("WebSocket, HTTP/2.0", ["WebSocket", "HTTP/2.0"]),
        ("h/", ("expected comma", 1)),
        ("h/1/2", ("expected comma", 3)),
        ("/1", ("expected protocol", 0)),
    ],
)
def test_parse_upgrade(value: str, expected: list[str] | tuple[str, int]) -> None:
    """RFC 9110 section 7.8: protocols may have versions."""
    if isinstance(expected, list):
        assert parse_upgrade(value) == expected
        return
    with pytest.raises(InvalidHeaderFormat) as raised:
        parse_upgrade(value)
    assert raised.value.args == ("Upgrade", expected[0], value, expected[1])


@pytest.mark.parametrize(
    ("value", "extensions"),
    [
        ("foo", [("foo", [])]),
        ("foo; a", [("foo", [("a", None)])]),
        ("foo; a=1", [("foo", [("a", "1")])]),
        ('foo;a="1"', [("foo", [("a", "1")])]),
        ('foo;a="a\\b"', [("foo", [("a", "ab")])]),
        ("foo; a; b=2, bar; c", [("foo", [("a", None), ("b", "2")]), ("bar", [("c", None)])]),
        ("foo ; a = 1", [("foo", [("a", "1")])]),
        ("foo, foo", [("foo", []), ("foo", [])]),
        ("foo;a;a", [("foo", [("a", None), ("a", None)])]),
        (
            "permessage-deflate; client_max_window_bits",
            [("permessage-deflate", [("client_max_window_bits", None)])],
        ),
    ],
)
def test_parse_extension(value: str, extensions: Any) -> None:
    """RFC 6455 section 9.1."""
    assert parse_extension(value) == extensions


@pytest.mark.parametrize(
    ("value", "error", "pos"),
    [
        ("foo;", "expected token", 4),
        ("foo; a=", "expected token", 7),
        ("foo;;a", "expected token", 4),
        ("foo;=1", "expected token", 4),
        (";a", "expected token", 0),
        ("foo;a=b=c", "expected comma", 7),
        ('foo;a="x', "expected quoted string", 6),
        ('foo;a="x\\', "expected quoted string", 6),
        ('foo;a="\x00"', "expected quoted string", 6),
        # RFC 6455 section 9.1: quoted or not, values are tokens.
        ('foo;a="a b"', "invalid quoted header content", 6),
        ('foo;a="a,b"', "invalid quoted header content", 6),
        ('foo;a="a\\"b"', "invalid quoted header content", 6),
        ('foo;a=""', "invalid quoted header content", 6),
    ],
)
def test_parse_bad_extension(value: str, error: str, pos: int) -> None:
    with pytest.raises(InvalidHeaderFormat) as raised:
        parse_extension(value)
    assert raised.value.args == ("Sec-WebSocket-Extensions", error, value, pos)


@pytest.mark.parametrize(
    ("extensions", "value"),
    [
        ([("foo", [])], "foo"),
        ([("foo", [("a", None)])], "foo; a"),
        ([("foo", [("a", "1"), ("b", None)]), ("bar", [])], "foo; a=1; b, bar"),
        ([], ""),
    ],
)
def test_build_extension(extensions: Any, value: str) -> None:
    assert build_extension(extensions) == value


TOKENS = st.text("!#$%&'*+-.^_`|~09AZaz", min_size=1, max_size=5)


@given(
    st.lists(
        st.tuples(TOKENS, st.lists(st.tuples(TOKENS, st.none() | TOKENS), max_size=3)),
        min_size=1,
        max_size=3,
    )
)
def test_extensions_survive_a_round_trip(extensions: Any) -> None:
    assert parse_extension(build_extension(extensions)) == extensions


@given(st.text(max_size=30))
def test_parsers_raise_nothing_but_invalid_header_format(value: str) -> None:
    for parse in (parse_connection, parse_upgrade, parse_subprotocol, parse_extension):
        try:
            items = parse(value)
        except InvalidHeaderFormat:
            continue
        assert items


def test_build_subprotocol() -> None:
    assert build_subprotocol([]) == ""
    assert build_subprotocol(["a"]) == "a"  # type: ignore[list-item]
    assert build_subprotocol(["a", "b"]) == "a, b"  # type: ignore[list-item]


@pytest.mark.parametrize("subprotocols", [[], ["a"], ["a", "b"], ("a",)])
def test_valid_subprotocols(subprotocols: Any) -> None:
    validate_subprotocols(subprotocols)


@pytest.mark.parametrize(
    ("subprotocols", "exc_type", "text"),
    [
        ("chat", TypeError, "subprotocols must be a list, not a str"),
        (None, TypeError, "subprotocols must be a list"),
        ({"a"}, TypeError, "subprotocols must be a list"),
        (["a b"], ValueError, "invalid subprotocol: a b"),
        (["a\r\nb"], ValueError, "invalid subprotocol: a\r\nb"),
        (["a\n"], ValueError, "invalid subprotocol: a\n"),
        ([""], ValueError, "invalid subprotocol: "),
        (["\xe9"], ValueError, "invalid subprotocol: \xe9"),
    ],
    ids=repr,
)
def test_invalid_subprotocols(subprotocols: Any, exc_type: type[Exception], text: str) -> None:
    with pytest.raises(exc_type) as raised:
        validate_subprotocols(subprotocols)
    assert str(raised.value) == text


@pytest.mark.parametrize(
    ("host", "port", "secure", "short", "full"),
    [
        ("localhost", 80, False, "localhost", "localhost:80"),
        ("localhost", 443, True, "localhost", "localhost:443"),
        ("localhost", 80, True, "localhost:80", "localhost:80"),
        ("localhost", 443, False, "localhost:443", "localhost:443"),
        ("localhost", 8765, False, "localhost:8765", "localhost:8765"),
        ("127.0.0.1", 8080, False, "127.0.0.1:8080", "127.0.0.1:8080"),
        ("::1", 80, False, "[::1]", "[::1]:80"),
        ("::1", 8080, False, "[::1]:8080", "[::1]:8080"),
        ("[::1]", 80, False, "[::1]", "[::1]:80"),
    ],
)
def test_build_host(host: str, port: int, secure: bool, short: str, full: str) -> None:
    """RFC 9110 section 7.2, RFC 3986 section 3.2.2."""
    assert build_host(host, port, secure) == short
    assert build_host(host, port, secure, always_include_port=True) == full


class TestBasicAuthentication:
    """RFC 7617."""

    @pytest.mark.parametrize(
        ("realm", "value"),
        [
            ("", 'Basic realm="", charset="UTF-8"'),
            ("realm", 'Basic realm="realm", charset="UTF-8"'),
            ('re"al\\m', 'Basic realm="re\\"al\\\\m", charset="UTF-8"'),
        ],
    )
    def test_challenge(self, realm: str, value: str) -> None:
        assert build_www_authenticate_basic(realm) == value

    def test_challenge_with_line_break(self) -> None:
        with pytest.raises(ValueError, match="^invalid characters for quoted-string encoding$"):
            build_www_authenticate_basic("a\r\nb")

    @pytest.mark.parametrize(
        ("username", "password", "value"),
        [
            ("u", "p", "Basic dTpw"),
            ("", "", "Basic Og=="),
            ("\xe9", "p", "Basic w6k6cA=="),
            ("u", "p:q", "Basic dTpwOnE="),
        ],
    )
    def test_credentials(self, username: str, password: str, value: str) -> None:
        assert build_authorization_basic(username, password) == value
        assert parse_authorization_basic(value) == (username, password)

    def test_username_with_colon(self) -> None:
        with pytest.raises(ValueError, match="^username contains a colon$"):
            build_authorization_basic("a:b", "c")

    @pytest.mark.parametrize("scheme", ["basic", "BASIC"])
    def test_case_of_scheme_is_ignored(self, scheme: str) -> None:
        assert parse_authorization_basic(f"{scheme} dTpw") == ("u", "p")

    def test_octets_that_are_not_utf8_equal_no_string(self) -> None:
        value = "Basic " + base64.b64encode(b"\xe9:b").decode()
        assert parse_authorization_basic(value) == ("\udce9", "b")

    @pytest.mark.parametrize(
        ("value", "error", "pos"),
        [
            ("", "expected token", 0),
            (" Basic dTpw", "expected token", 0),
            ("Basic", "expected space after scheme", 5),
            ("Basic\tdTpw", "expected space after scheme", 5),
            ("Basic ", "expected token68", 6),
            ("Basic  dTpw", "expected token68", 6),
            ("Basic ***", "expected token68", 6),
            ("Basic dTpw ", "trailing data", 10),
            ("Basic dT=pw", "trailing data", 9),
        ],
    )
    def test_bad_format(self, value: str, error: str, pos: int) -> None:
        with pytest.raises(InvalidHeaderFormat) as raised:
            parse_authorization_basic(value)
        assert raised.value.args == ("Authorization", error, value, pos)

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            ("Digest dTpw", "unsupported scheme: Digest"),
            ("Basic YWxh", "expected username:password credentials"),
            ("Basic dTp", "expected base64-encoded credentials"),
            ("Basic -_-_", "expected base64-encoded credentials"),
        ],
    )
    def test_bad_credentials(self, value: str, text: str) -> None:
        with pytest.raises(InvalidHeaderValue) as raised:
            parse_authorization_basic(value)
        assert str(raised.value) == f"invalid Authorization header: {text}"


class TestMessages:
    """What is asked of all the headers of a message."""

    def test_get_single(self) -> None:
        assert get_single(Headers(A="1"), "a") == "1"

    @pytest.mark.parametrize(
        ("headers", "text"),
        [
            (Headers(), "missing Host header"),
            (Headers([("Host", "a"), ("host", "a")]), "invalid Host header: multiple values"),
        ],
    )
    def test_get_single_fails(self, headers: Headers, text: str) -> None:
        with pytest.raises(InvalidHeader) as raised:
            get_single(headers, "Host")
        assert type(raised.value) is InvalidHeader
        assert str(raised.value) == text

    def test_lists_in_several_lines_are_one(self) -> None:
        """RFC 9110 section 5.3."""
        headers = Headers(
            [
                ("Sec-WebSocket-Protocol", "a, b"),
                ("Sec-WebSocket-Extensions", "x"),
                ("Sec-WebSocket-Protocol", "c"),
                ("Sec-WebSocket-Extensions", "y; z"),
            ]
        )
        assert get_subprotocols(headers) == ["a", "b", "c"]
        assert get_extensions(headers) == [("x", []), ("y", [("z", None)])]

    @pytest.mark.parametrize(
        "values",
        [["a," * 256], ["a;" * 256], ["," * 257 + "a"], ["a"] * 257, ["a,b;c"] * 128],
        ids=["items", "parameters", "empty items", "lines", "all"],
    )
    def test_limit_of_lists(self, values: list[str]) -> None:
        """RFC 9110 section 5.6.1.2: lists must not be a way to deny service."""
        headers = Headers([("Sec-WebSocket-Extensions", value) for value in values])
        with pytest.raises(InvalidHeader) as raised:
            get_extensions(headers)
        assert str(raised.value) == ("invalid Sec-WebSocket-Extensions header: more than 256 items")

    def test_lists_at_their_limit(self) -> None:
        headers = Headers([("Sec-WebSocket-Protocol", "abc, " * 127 + "abc")] * 2)
        assert get_subprotocols(headers) == ["abc"] * 256

    @pytest.mark.parametrize(
        ("connection", "upgrade"),
        [
            (["Upgrade"], ["websocket"]),
            (["upgrade"], ["WebSocket"]),
            (["keep-alive, Upgrade"], ["WEBSOCKET"]),
            (["keep-alive", "Upgrade"], ["websocket"]),
        ],
    )
    def test_upgrade(self, connection: list[str], upgrade: list[str]) -> None:
        headers = Headers()
        for value in connection:
            headers["Connection"] = value
        for value in upgrade:
            headers["Upgrade"] = value
        check_upgrade(headers)

    @pytest.mark.parametrize(
        ("headers", "text"),
        [
            (Headers(), "missing Connection header"),
            (Headers(Upgrade="websocket"), "missing Connection header"),
            (
                Headers(Connection="keep-alive, close", Upgrade="websocket"),
                "invalid Connection header: keep-alive, close",
            ),
            (Headers(Connection="Upgrade"), "missing Upgrade header"),
            (Headers(Connection="Upgrade", Upgrade="h2c"), "invalid Upgrade header: h2c"),
            (
                Headers(Connection="Upgrade", Upgrade="websocket/13"),
                "invalid Upgrade header: websocket/13",
            ),
            (
                Headers([("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Upgrade", "h2c")]),
                "invalid Upgrade header: websocket, h2c",
            ),
        ],
    )
    def test_no_upgrade(self, headers: Headers, text: str) -> None:
        with pytest.raises(InvalidUpgrade) as raised:
            check_upgrade(headers)
        assert str(raised.value) == text
