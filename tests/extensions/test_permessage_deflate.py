"""What the two sides of permessage-deflate agree on (RFC 7692 section 7.1).

The tables, and the texts of the errors, are what websockets 17.4 was seen to do with every one of
these combinations, but where a comment says why they are not.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest

from websockets.exceptions import (
    DuplicateParameter,
    InvalidParameterName,
    InvalidParameterValue,
    NegotiationError,
)
from websockets.extensions import ClientExtensionFactory, Extension, ServerExtensionFactory
from websockets.extensions.deflate import DEFAULT_THRESHOLD
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    PerMessageDeflate,
    ServerPerMessageDeflateFactory,
    enable_client_permessage_deflate,
    enable_server_permessage_deflate,
)
from websockets.typing import ExtensionName, ExtensionParameter

SERVER_ALONE = "server_no_context_takeover"
CLIENT_ALONE = "client_no_context_takeover"
SERVER_BITS = "server_max_window_bits"
CLIENT_BITS = "client_max_window_bits"

BOTH_SIDES = [ClientPerMessageDeflateFactory, ServerPerMessageDeflateFactory]


class Other(Extension):
    name = ExtensionName("x-other")


def answer_of(factory: ServerPerMessageDeflateFactory, *offer: ExtensionParameter) -> Any:
    return factory.process_request_params(offer, [])


def outcome_of(extension: PerMessageDeflate) -> tuple[bool, bool, int, int]:
    return (
        extension.remote_no_context_takeover,
        extension.local_no_context_takeover,
        extension.remote_max_window_bits,
        extension.local_max_window_bits,
    )


def agree(factory: Any, *params: ExtensionParameter, accepted: Sequence[Extension] = ()) -> Any:
    """Have either side judge parameters of the other."""
    if isinstance(factory, ClientPerMessageDeflateFactory):
        return factory.process_response_params(params, accepted)
    return factory.process_request_params(params, accepted)


# Tables: settings of this side down, parameter of the peer across. A cell is the parameter that the
# server answers, or the window bits that the client goes on with, or the letter of an error.

Table = dict[tuple[Any, str], str]


def table(text: str) -> Table:
    head, *rows = [line.split() for line in text.splitlines() if line]
    return {
        (None if row[0] == "None" else row[0] == "True" or int(row[0]), column): cell
        for row in rows
        for column, cell in zip(head, row[1:], strict=True)
    }


# RFC 7692 section 7.1.2.1
# 17.4 does not deflate with a window of 2**8: it declines the offer, with the error "unsupported
# server_max_window_bits = 8, use 9", and a server cannot be set to 8.
SERVER_ANSWERS_SERVER_BITS = table("""
         absent   8   9  12  15
    None absent   8   9  12  15
       8      8   8   8   8   8
       9      9   8   9   9   9
      12     12   8   9  12  12
      15     15   8   9  12  15
""")
CLIENT_TAKES_SERVER_BITS = table("""
         absent   8   9  12  15
    None     15   8   9  12  15
       8      A   8   B   B   B
       9      A   8   9   B   B
      12      A   8   9  12   B
      15      A   8   9  12  15
""")

# Section 7.1.2.2
# 17.4 fails the connection where the server asks for a window of 2**8, "unsupported
# client_max_window_bits = 8, use 9", after it offered to use any, and a client cannot be set to 8.
SERVER_ANSWERS_CLIENT_BITS = table("""
         absent valueless   8   9  12  15
    None absent    absent   8   9  12  15
       8 absent         8   8   8   8   8
       9 absent         9   8   9   9   9
      12 absent        12   8   9  12  12
      15 absent        15   8   9  12  15
""")
CLIENT_TAKES_CLIENT_BITS = table("""
         absent   8   9  12  15
    None     15   C   C   C   C
    True     15   8   9  12  15
       8      8   8   D   D   D
       9      9   8   9   D   D
      12     12   8   9  12   D
      15     15   8   9  12  15
""")

ERRORS = {
    "A": "expected server_max_window_bits",
    "B": "unsupported server_max_window_bits",
    "C": "unexpected client_max_window_bits",
    "D": "unsupported client_max_window_bits",
    "E": "expected server_no_context_takeover",
    "F": "required client_max_window_bits",
}


def written(
    server_alone: bool, client_alone: bool, server_bits: str, client_bits: str
) -> list[ExtensionParameter]:
    params: list[ExtensionParameter] = []
    if server_alone:
        params.append((SERVER_ALONE, None))
    if client_alone:
        params.append((CLIENT_ALONE, None))
    if server_bits != "absent":
        params.append((SERVER_BITS, server_bits))
    if client_bits != "absent":
        params.append((CLIENT_BITS, None if client_bits == "valueless" else client_bits))
    return params


def errors_in(*cells: str) -> list[str]:
    return [ERRORS[cell] for cell in cells if cell in ERRORS]


def bits_of(cell: str) -> int:
    # Section 7.1.2: 15 unless something else is agreed on.
    return 15 if cell == "absent" else int(cell)


def fails(factory: Any, params: Sequence[ExtensionParameter], errors: list[str]) -> bool:
    """Check that the first of the errors is raised."""
    if errors:
        with pytest.raises(NegotiationError) as raised:
            agree(factory, *params)
        assert type(raised.value) is NegotiationError
        assert str(raised.value) == errors[0]
    return bool(errors)


BOOLS = (False, True)


def test_every_offer_to_every_server() -> None:
    good = bad = 0
    for (own_bits, bits), (own_client_bits, client_bits) in itertools.product(
        SERVER_ANSWERS_SERVER_BITS, SERVER_ANSWERS_CLIENT_BITS
    ):
        cell = SERVER_ANSWERS_SERVER_BITS[own_bits, bits]
        client_cell = SERVER_ANSWERS_CLIENT_BITS[own_client_bits, client_bits]
        for own_alone, own_client_alone, alone, client_alone, required in itertools.product(
            *[BOOLS] * 4, BOOLS if own_client_bits else BOOLS[:1]
        ):
            factory = ServerPerMessageDeflateFactory(
                own_alone, own_client_alone, own_bits, own_client_bits, None, required
            )
            offer = written(alone, client_alone, bits, client_bits)
            refused = required and client_bits == "absent"
            if fails(factory, offer, errors_in(cell, "F" if refused else client_cell)):
                bad += 1
                continue
            # Sections 7.1.1.1 and 7.1.1.2: what is asked for is done; more may be.
            local, remote = own_alone or alone, own_client_alone or client_alone
            answer, extension = agree(factory, *offer)
            assert answer == written(local, remote, cell, client_cell)
            assert outcome_of(extension) == (remote, local, bits_of(client_cell), bits_of(cell))
            good += 1
    # Of 25 and 54 combinations of bits, times 16 of no_context_takeover, these are accepted.
    assert (good, bad) == (25 * 50 * 16, 25 * 4 * 16)


def test_every_answer_to_every_client() -> None:
    good = bad = 0
    for (own_server_bits, server_bits), (own_bits, bits) in itertools.product(
        CLIENT_TAKES_SERVER_BITS, CLIENT_TAKES_CLIENT_BITS
    ):
        server_cell = CLIENT_TAKES_SERVER_BITS[own_server_bits, server_bits]
        cell = CLIENT_TAKES_CLIENT_BITS[own_bits, bits]
        for own_server_alone, own_alone, server_alone, alone in itertools.product(*[BOOLS] * 4):
            factory = ClientPerMessageDeflateFactory(
                own_server_alone, own_alone, own_server_bits, own_bits
            )
            answer = written(server_alone, alone, server_bits, bits)
            # Section 7.1.1.1: the server must do it if asked to.
            missing = own_server_alone and not server_alone
            if fails(factory, answer, errors_in("E" if missing else "", server_cell, cell)):
                bad += 1
                continue
            # Section 7.1.1.2: the client does it if asked to, and may do it anyway.
            expected = server_alone, own_alone or alone, int(server_cell), int(cell)
            assert outcome_of(agree(factory, *answer)) == expected
            good += 1
    # Of 25 and 30 combinations of bits, times 16 of no_context_takeover, these are accepted.
    assert (good, bad) == (15 * 20 * 12, 25 * 30 * 16 - 15 * 20 * 12)


@pytest.mark.parametrize("server_alone", BOOLS)
@pytest.mark.parametrize("client_alone", BOOLS)
@pytest.mark.parametrize("server_bits", [None, 8, 12, 15])
@pytest.mark.parametrize("client_bits", [None, True, 8, 12, 15])
def test_what_a_client_offers(
    server_alone: bool, client_alone: bool, server_bits: int | None, client_bits: int | None
) -> None:
    factory = ClientPerMessageDeflateFactory(server_alone, client_alone, server_bits, client_bits)
    assert factory.get_request_params() == written(
        server_alone,
        client_alone,
        "absent" if server_bits is None else str(server_bits),
        {None: "absent", True: "valueless"}.get(client_bits, str(client_bits)),
    )


def test_both_sides_always_agree() -> None:
    """Whatever a client of ours offers, a server of ours accepts, and both mean the same."""
    windows = [8, 9, 12, 15]
    for alone in itertools.product(*[BOOLS] * 4):
        for bits in itertools.product(
            [None, *windows], [None, True, *windows], [None, *windows], [None, *windows]
        ):
            client = ClientPerMessageDeflateFactory(*alone[:2], *bits[:2])
            server = ServerPerMessageDeflateFactory(*alone[2:], *bits[2:])
            params, on_server = agree(server, *client.get_request_params())
            remote_alone, local_alone, remote_bits, local_bits = outcome_of(agree(client, *params))
            assert outcome_of(on_server) == (local_alone, remote_alone, local_bits, remote_bits)


# Parameters that are not valid (sections 7.1.1, 7.1.2 and 7.1.3)

NO_BITS = ["", "7", "08", "16", "015", "+9", "-9", "1_0", "true", " 9", "9 ", "9.0", "0x9", "９"]


def invalid(cls: type[Exception], *args: Any) -> Any:
    return cls, cls(*args).args, str(cls(*args))


def error_of(factory: Any, *params: ExtensionParameter, **kwargs: Any) -> Any:
    with pytest.raises(NegotiationError) as raised:
        agree(factory, *params, **kwargs)
    return type(raised.value), raised.value.args, str(raised.value)


@pytest.mark.parametrize("cls", BOTH_SIDES)
class TestInvalidParameters:
    @pytest.mark.parametrize("name", [SERVER_ALONE, CLIENT_ALONE])
    @pytest.mark.parametrize("value", [*NO_BITS, "8", "12", "15"])
    def test_no_context_takeover_has_no_value(self, cls: Any, name: str, value: str) -> None:
        assert error_of(cls(), (name, value)) == invalid(InvalidParameterValue, name, value)

    @pytest.mark.parametrize("name", [SERVER_BITS, CLIENT_BITS])
    @pytest.mark.parametrize("value", NO_BITS)
    def test_window_bits_out_of_range(self, cls: Any, name: str, value: str) -> None:
        assert error_of(cls(), (name, value)) == invalid(InvalidParameterValue, name, value)

    def test_window_bits_without_value(self, cls: Any) -> None:
        expected = invalid(InvalidParameterValue, SERVER_BITS, None)
        assert error_of(cls(), (SERVER_BITS, None)) == expected

    @pytest.mark.parametrize("value", [None, "", "15"])
    @pytest.mark.parametrize(
        "name", ["x", "", SERVER_BITS.upper(), SERVER_BITS + "_", "no_context_takeover"]
    )
    def test_unknown(self, cls: Any, name: str, value: str | None) -> None:
        assert error_of(cls(), (name, value)) == invalid(InvalidParameterName, name)

    @pytest.mark.parametrize(
        ("name", "first", "second"),
        [
            (SERVER_ALONE, None, None),
            (CLIENT_ALONE, None, None),
            (SERVER_BITS, "10", "10"),
            (SERVER_BITS, "10", "9"),
            (CLIENT_BITS, "10", "10"),
            (CLIENT_BITS, "10", None),
            (SERVER_ALONE, None, "bad"),
        ],
    )
    def test_repeated(self, cls: Any, name: str, first: str | None, second: str | None) -> None:
        expected = invalid(DuplicateParameter, name)
        assert error_of(cls(), (name, first), (SERVER_ALONE + "x", None))[0] is InvalidParameterName
        assert error_of(cls(), (name, first), (name, second)) == expected


def test_only_an_offer_has_client_max_window_bits_without_value() -> None:
    """RFC 7692 section 7.1.2.2"""
    answer, _ = answer_of(ServerPerMessageDeflateFactory(), (CLIENT_BITS, None))
    assert answer == []
    assert error_of(ClientPerMessageDeflateFactory(), (CLIENT_BITS, None)) == invalid(
        InvalidParameterValue, CLIENT_BITS, None
    )


def test_a_repeated_valueless_parameter_of_an_offer() -> None:
    offer = [(CLIENT_BITS, None), (CLIENT_BITS, None)]
    expected = invalid(DuplicateParameter, CLIENT_BITS)
    assert error_of(ServerPerMessageDeflateFactory(), *offer) == expected


@pytest.mark.parametrize("cls", BOTH_SIDES)
@pytest.mark.parametrize("params", [[], [("x", None)]], ids=["valid", "invalid"])
def test_accepted_already(cls: Any, params: list[ExtensionParameter]) -> None:
    """It is told before anything else that the extension is in use."""
    word = "received" if cls is ClientPerMessageDeflateFactory else "skipped"
    accepted = [Other(), PerMessageDeflate(False, False, 15, 15)]
    expected = invalid(NegotiationError, f"{word} duplicate permessage-deflate")
    assert error_of(cls(), *params, accepted=accepted) == expected


@pytest.mark.parametrize("cls", BOTH_SIDES)
def test_other_extensions_do_not_matter(cls: Any) -> None:
    assert agree(cls(), accepted=[Other()])


# Settings


@pytest.mark.parametrize("cls", BOTH_SIDES)
def test_defaults(cls: Any) -> None:
    factory = cls()
    assert factory.name == "permessage-deflate"
    expected = {
        "server_no_context_takeover": False,
        "client_no_context_takeover": False,
        "server_max_window_bits": None,
        "client_max_window_bits": True if cls is ClientPerMessageDeflateFactory else None,
        "compress_settings": None,
        # 17.4 has none.
        "threshold": DEFAULT_THRESHOLD,
    }
    if cls is ServerPerMessageDeflateFactory:
        expected["require_client_max_window_bits"] = False
    assert vars(factory) == expected


def test_client_settings_by_position() -> None:
    factory = ClientPerMessageDeflateFactory(True, True, 11, 12, {"level": 9})
    assert list(vars(factory).values())[:5] == [True, True, 11, 12, {"level": 9}]


def test_server_settings_by_position() -> None:
    factory = ServerPerMessageDeflateFactory(True, True, 11, 12, {"level": 9}, True)
    assert list(vars(factory).values())[:6] == [True, True, 11, 12, {"level": 9}, True]


@pytest.mark.parametrize("bits", [False, 0, 1, 7, 16, -9])
@pytest.mark.parametrize("name", [SERVER_BITS, CLIENT_BITS])
@pytest.mark.parametrize("cls", BOTH_SIDES)
def test_window_bits_out_of_range(cls: Any, name: str, bits: int) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be between 8 and 15$"):
        cls(**{name: bits})


def test_only_a_client_leaves_its_window_to_the_peer() -> None:
    for name in (SERVER_BITS, CLIENT_BITS):
        with pytest.raises(ValueError, match=name):
            ServerPerMessageDeflateFactory(**{name: True})
    with pytest.raises(ValueError, match=SERVER_BITS):
        ClientPerMessageDeflateFactory(server_max_window_bits=True)


@pytest.mark.parametrize("bits", ["9", 9.0, 9.5])
@pytest.mark.parametrize("name", [SERVER_BITS, CLIENT_BITS])
@pytest.mark.parametrize("cls", BOTH_SIDES)
def test_window_bits_that_are_no_integer(cls: Any, name: str, bits: Any) -> None:
    # 17.4 writes 9.0 into the header, which the peer must refuse.
    with pytest.raises(TypeError):
        cls(**{name: bits})


def test_required_client_max_window_bits_must_be_set() -> None:
    with pytest.raises(ValueError) as raised:
        ServerPerMessageDeflateFactory(require_client_max_window_bits=True)
    assert str(raised.value) == (
        "require_client_max_window_bits is enabled, but client_max_window_bits isn't configured"
    )


@pytest.mark.parametrize(
    ("cls", "name"),
    [(ClientPerMessageDeflateFactory, CLIENT_BITS), (ServerPerMessageDeflateFactory, SERVER_BITS)],
)
def test_wbits_is_not_a_setting(cls: Any, name: str) -> None:
    text = f"^compress_settings must not include wbits, set {name} instead$"
    with pytest.raises(ValueError, match=text):
        cls(compress_settings={"wbits": 12})


@pytest.mark.parametrize("cls", BOTH_SIDES)
class TestCompressSettings:
    def settings(self, cls: Any, **kwargs: Any) -> tuple[dict[str, Any], int]:
        found = agree(cls(**kwargs))
        extension = found if isinstance(found, PerMessageDeflate) else found[1]
        return extension.compress_settings, extension.threshold

    def test_none(self, cls: Any) -> None:
        assert self.settings(cls) == ({}, DEFAULT_THRESHOLD)

    def test_settings(self, cls: Any) -> None:
        settings = {"level": 3, "memLevel": 4}
        assert self.settings(cls, compress_settings=settings)[0] == settings

    def test_level(self, cls: Any) -> None:
        assert self.settings(cls, level=1)[0] == {"level": 1}
        assert self.settings(cls, level=0)[0] == {"level": 0}

    def test_level_among_settings(self, cls: Any) -> None:
        settings = {"memLevel": 4}
        assert self.settings(cls, compress_settings=settings, level=1)[0] == {
            "memLevel": 4,
            "level": 1,
        }
        assert settings == {"memLevel": 4}
        assert self.settings(cls, compress_settings={"level": 3}, level=1)[0] == {"level": 3}

    @pytest.mark.parametrize(
        "settings",
        [{"level": 10}, {"level": "x"}, {"memLevel": 10}, {"memLevel": 0}, {"unknown": 1}],
        ids=str,
    )
    def test_invalid_settings(self, cls: Any, settings: dict[str, Any]) -> None:
        # In 17.4 the handshake of each connection fails.
        with pytest.raises(ValueError, match="^invalid compress_settings: ") as raised:
            cls(compress_settings=settings)
        assert raised.value.__cause__ is not None

    def test_invalid_level(self, cls: Any) -> None:
        with pytest.raises(ValueError, match="^invalid compress_settings: "):
            cls(level=10)

    @pytest.mark.parametrize("threshold", [0, 1, 2**40])
    def test_threshold(self, cls: Any, threshold: int) -> None:
        assert self.settings(cls, threshold=threshold)[1] == threshold

    def test_negative_threshold(self, cls: Any) -> None:
        with pytest.raises(ValueError, match="^threshold must not be negative$"):
            cls(threshold=-1)

    @pytest.mark.parametrize("argument", ["level", "threshold"])
    def test_keywords_only(self, cls: Any, argument: str) -> None:
        count = 5 if cls is ClientPerMessageDeflateFactory else 6
        cls(*[None] * count)
        with pytest.raises(TypeError):
            cls(*[None] * count, 1)
        cls(*[None] * count, **{argument: 1})


@pytest.mark.parametrize("truth", [1, "yes"])
def test_any_truth_will_do(truth: Any) -> None:
    client = ClientPerMessageDeflateFactory(truth, truth)
    offer = [(SERVER_ALONE, None), (CLIENT_ALONE, None), (CLIENT_BITS, None)]
    assert client.get_request_params() == offer
    server = ServerPerMessageDeflateFactory(truth, truth)
    assert answer_of(server)[0] == offer[:2]


# Defaults of connect() and serve()


class OtherClientFactory(ClientExtensionFactory):
    name = ExtensionName("x-other")


class OtherServerFactory(ServerExtensionFactory):
    name = ExtensionName("x-other")


SIDES = [
    (enable_client_permessage_deflate, ClientPerMessageDeflateFactory, OtherClientFactory),
    (enable_server_permessage_deflate, ServerPerMessageDeflateFactory, OtherServerFactory),
]


@pytest.mark.parametrize(("enable", "deflate", "other"), SIDES)
class TestEnable:
    def test_none(self, enable: Any, deflate: Any, other: Any) -> None:
        (factory,) = enable(None)
        assert type(factory) is deflate
        assert factory.compress_settings == {"memLevel": 5}
        if deflate is ServerPerMessageDeflateFactory:
            assert (factory.server_max_window_bits, factory.client_max_window_bits) == (12, 12)
            assert not factory.require_client_max_window_bits
        else:
            assert (factory.server_max_window_bits, factory.client_max_window_bits) == (None, True)
        assert not factory.server_no_context_takeover
        assert not factory.client_no_context_takeover
        assert factory.threshold == DEFAULT_THRESHOLD

    @pytest.mark.parametrize("container", [list, tuple])
    def test_it_goes_last(self, enable: Any, deflate: Any, other: Any, container: Any) -> None:
        extensions = container([other(), other()])
        found = enable(extensions)
        assert type(found) is list
        assert found[:2] == list(extensions)
        assert type(found[2]) is deflate
        assert len(found) == 3
        assert len(extensions) == 2

    def test_it_is_not_added_twice(self, enable: Any, deflate: Any, other: Any) -> None:
        extensions = (deflate(True), other())
        assert enable(extensions) is extensions

    def test_the_name_counts(self, enable: Any, deflate: Any, other: Any) -> None:
        mine = other()
        mine.name = "permessage-deflate"
        extensions = [mine]
        assert enable(extensions) is extensions

    def test_one_for_all(self, enable: Any, deflate: Any, other: Any) -> None:
        # Lists may be changed by whoever gets them. 17.4 makes a factory each time.
        assert enable(None)[0] is enable([other()])[1]
        assert enable(None) is not enable(None)


def test_the_defaults_agree() -> None:
    (client,) = enable_client_permessage_deflate(None)
    (server,) = enable_server_permessage_deflate(None)
    offer = client.get_request_params()
    assert offer == [(CLIENT_BITS, None)]
    answer, on_server = server.process_request_params(offer, [])
    assert answer == [(SERVER_BITS, "12"), (CLIENT_BITS, "12")]
    on_client = client.process_response_params(answer, [])
    expected = (
        "PerMessageDeflate(remote_no_context_takeover=False, local_no_context_takeover=False, "
        "remote_max_window_bits=12, local_max_window_bits=12)"
    )
    assert repr(on_server) == repr(on_client) == expected
