"""Headers behave as those of websockets 17.4, and let nothing through that is not a header."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from websockets.datastructures import Headers, MultipleValuesError
from websockets.exceptions import InvalidHeader, InvalidHeaderValue

PAIRS = [("Connection", "Upgrade"), ("X-A", "1"), ("Server", "here"), ("x-a", "2")]


@pytest.fixture
def headers() -> Headers:
    return Headers(PAIRS)


class Mapping:
    """What dict() takes besides mappings and pairs."""

    def keys(self) -> list[str]:
        return ["X"]

    def __getitem__(self, key: str) -> str:
        return key + "!"


@pytest.mark.parametrize(
    ("args", "kwargs", "pairs"),
    [
        ((), {}, []),
        (({"A": "1"},), {}, [("A", "1")]),
        (([("A", "1"), ("A", "2")],), {}, [("A", "1"), ("A", "2")]),
        ((), {"Location": "/"}, [("Location", "/")]),
        (({"A": "1"},), {"B": "2"}, [("A", "1"), ("B", "2")]),
        ((Headers([("A", "1"), ("a", "2")]),), {}, [("A", "1"), ("a", "2")]),
        ((Mapping(),), {}, [("X", "X!")]),
    ],
    ids=["nothing", "mapping", "pairs", "keywords", "both", "headers", "keys and getitem"],
)
def test_create(args: Any, kwargs: Any, pairs: list[tuple[str, str]]) -> None:
    assert list(Headers(*args, **kwargs).raw_items()) == pairs


def test_create_of_two_mappings() -> None:
    with pytest.raises(TypeError):
        Headers({}, {})


def test_text(headers: Headers) -> None:
    text = "Connection: Upgrade\r\nX-A: 1\r\nServer: here\r\nx-a: 2\r\n\r\n"
    assert str(headers) == text
    assert headers.serialize() == text.encode()
    assert repr(headers) == f"Headers({PAIRS!r})"


def test_octets_above_127_are_kept() -> None:
    """RFC 9110 section 5.5: obs-text is opaque."""
    assert Headers(A="caf\xe9").serialize() == b"A: caf\xe9\r\n\r\n"


class TestMapping:
    def test_length_and_iteration_are_of_names(self, headers: Headers) -> None:
        assert len(headers) == 3
        assert list(headers) == list(headers.keys()) == ["connection", "x-a", "server"]

    @pytest.mark.parametrize("key", ["Connection", "connection", "CONNECTION"])
    def test_case_is_ignored(self, headers: Headers, key: str) -> None:
        assert key in headers
        assert headers[key] == headers.get(key) == "Upgrade"

    @pytest.mark.parametrize("key", ["Unknown", 5, None])
    def test_contains_no_other(self, headers: Headers, key: object) -> None:
        assert key not in headers

    def test_missing(self, headers: Headers) -> None:
        with pytest.raises(KeyError) as raised:
            headers["Unknown"]
        assert raised.value.args == ("unknown",)
        assert headers.get("Unknown") is None

    @pytest.mark.parametrize("key", ["X-A", "x-a"])
    def test_several_values_are_not_one(self, headers: Headers, key: str) -> None:
        with pytest.raises(MultipleValuesError) as raised:
            headers[key]
        assert str(raised.value) == repr(key)
        with pytest.raises(MultipleValuesError):
            headers.get(key)
        with pytest.raises(MultipleValuesError):
            list(headers.items())

    def test_setting_adds(self, headers: Headers) -> None:
        headers["Server"] = "there"
        assert headers.get_all("server") == ["here", "there"]

    def test_setting_after_deleting_replaces(self, headers: Headers) -> None:
        del headers["SERVER"]
        headers["Server"] = "there"
        assert headers["server"] == "there"
        assert list(headers.raw_items())[-1] == ("Server", "there")

    def test_deleting_leaves_the_others_in_order(self) -> None:
        headers = Headers([("A", "1"), ("X", "2"), ("a", "3"), ("x", "4"), ("B", "5")])
        del headers["X"]
        assert list(headers.raw_items()) == [("A", "1"), ("a", "3"), ("B", "5")]
        assert headers.get_all("A") == ["1", "3"]
        assert list(headers) == ["a", "b"]

    def test_deleting_takes_all_values(self, headers: Headers) -> None:
        del headers["X-a"]
        assert headers == Headers(Connection="Upgrade", Server="here")
        assert list(headers.raw_items()) == [("Connection", "Upgrade"), ("Server", "here")]

    def test_deleting_what_is_missing(self, headers: Headers) -> None:
        with pytest.raises(KeyError):
            del headers["Unknown"]

    def test_get_all(self, headers: Headers) -> None:
        assert headers.get_all("x-A") == ["1", "2"]
        assert headers.get_all("Unknown") == []

    def test_get_all_is_a_copy(self, headers: Headers) -> None:
        headers.get_all("X-A").append("3")
        assert headers.get_all("X-A") == ["1", "2"]

    def test_pop_and_setdefault(self, headers: Headers) -> None:
        assert headers.pop("server") == "here"
        assert headers.setdefault("Server", "there") == "there"

    def test_clear(self, headers: Headers) -> None:
        headers.clear()
        assert headers == Headers()
        assert list(headers.raw_items()) == []

    def test_update(self, headers: Headers) -> None:
        headers.clear()
        headers.update([("q", "1"), ("q", "2")])
        headers.update({"q": "3"})
        headers.update(Headers([("Z", "1"), ("Z", "2")]), k="v")
        assert list(headers.raw_items()) == [
            ("q", "1"),
            ("q", "2"),
            ("q", "3"),
            ("Z", "1"),
            ("Z", "2"),
            ("k", "v"),
        ]

    def test_update_with_itself(self, headers: Headers) -> None:
        headers.update(headers)
        assert list(headers.raw_items()) == PAIRS + PAIRS

    def test_unhashable(self, headers: Headers) -> None:
        with pytest.raises(TypeError):
            hash(headers)


def test_handshakes_have_their_strings_in_common() -> None:
    """Servers keep the headers of every connection; most of it is the same for all."""
    pairs = [("Upgrade", "websocket"), ("sec-websocket-version", "13"), ("X-Own", "own")]
    one, two = Headers(), Headers()
    for headers in one, two:
        # A parser makes new strings.
        headers.extend_insecure([("".join([*name]), "".join([*value])) for name, value in pairs])
        assert list(headers.raw_items()) == pairs
    shared = [
        (name is other_name, value is other_value)
        for (name, value), (other_name, other_value) in zip(
            one.raw_items(), two.raw_items(), strict=True
        )
    ]
    assert shared == [(True, True), (True, True), (False, False)]


class TestEquality:
    @pytest.mark.parametrize(
        "other",
        [
            Headers([("x-a", "1"), ("X-A", "2"), ("server", "here"), ("CONNECTION", "Upgrade")]),
            Headers(PAIRS),
        ],
        ids=["other order of names, other case", "same"],
    )
    def test_equal(self, headers: Headers, other: Headers) -> None:
        assert headers == other

    @pytest.mark.parametrize(
        "other",
        [Headers(), Headers(PAIRS[::-1]), dict(PAIRS), PAIRS, None],
        ids=["empty", "other order of values", "dict", "list", "None"],
    )
    def test_not_equal(self, headers: Headers, other: object) -> None:
        assert headers != other


@pytest.mark.parametrize(
    "duplicate",
    [Headers.copy, copy.copy, copy.deepcopy, lambda h: pickle.loads(pickle.dumps(h))],
    ids=["copy", "copy.copy", "copy.deepcopy", "pickle"],
)
def test_duplicates(headers: Headers, duplicate: Any) -> None:
    other = duplicate(headers)
    assert other == headers
    assert list(other.raw_items()) == PAIRS


@pytest.mark.parametrize("duplicate", [Headers.copy, copy.deepcopy])
def test_duplicates_are_independent(headers: Headers, duplicate: Any) -> None:
    other = duplicate(headers)
    other["X-A"] = "3"
    del other["Server"]
    assert list(headers.raw_items()) == PAIRS
    assert headers.get_all("X-A") == ["1", "2"]


class TestInjection:
    """RFC 9110 sections 5.1 and 5.5, and section 11.1 of RFC 9112: nothing may end a line."""

    @pytest.mark.parametrize(
        "value", ["a\r\nb", "a\nb", "a\rb", "a\0b", "a\x1fb", "a\x7fb", "\u1234"], ids=ascii
    )
    def test_values(self, value: str) -> None:
        headers = Headers()
        with pytest.raises(InvalidHeaderValue) as raised:
            headers["Name"] = value
        assert raised.value.value == value
        shown = value if value == "\u1234" else ascii(value)[1:-1]
        assert str(raised.value) == f"invalid Name header: {shown}"
        with pytest.raises(InvalidHeaderValue):
            Headers(Name=value)
        assert headers.serialize() == b"\r\n"

    @pytest.mark.parametrize("value", ["", " ", "a\tb", "caf\xe9", "~!\x80\xff"], ids=ascii)
    def test_other_values_are_fine(self, value: str) -> None:
        assert Headers(Name=value)["Name"] == value

    @pytest.mark.parametrize("value", [5, None])
    def test_what_is_no_string_is_checked_as_it_is_sent(self, value: Any) -> None:
        assert Headers(Name=value).serialize() == f"Name: {value}\r\n\r\n".encode()

        class Hostile:
            def __str__(self) -> str:
                return "a\r\nb"

        with pytest.raises(InvalidHeaderValue):
            Headers(Name=Hostile())  # type: ignore[arg-type]

    @pytest.mark.parametrize("name", ["", "a b", "a:b", "a\r\n", "caf\xe9", "(a)"], ids=ascii)
    def test_names(self, name: str) -> None:
        headers = Headers()
        with pytest.raises(InvalidHeader):
            headers[name] = "value"
        assert headers.serialize() == b"\r\n"

    def test_set_insecure_does_not_check(self) -> None:
        headers = Headers()
        headers.set_insecure("A", "b\nc")
        assert headers.serialize() == b"A: b\nc\r\n\r\n"

    @given(st.text(), st.text())
    def test_serialized_headers_are_one_line_each(self, name: str, value: str) -> None:
        headers = Headers()
        try:
            headers[name] = value
        except InvalidHeader:
            assert headers.serialize() == b"\r\n"
        else:
            assert headers.serialize().splitlines() == [f"{name}: {value}".encode("latin-1"), b""]


@pytest.mark.parametrize(
    ("args", "text"), [((), ""), (("k",), "'k'"), (("a", "b"), "('a', 'b')")], ids=str
)
def test_multiple_values_error(args: tuple[str, ...], text: str) -> None:
    exc = MultipleValuesError(*args)
    assert isinstance(exc, LookupError)
    assert str(exc) == text
