"""Opcodes, close codes and what frames look like in a log (RFC 6455 sections 5 and 7.4)."""

from __future__ import annotations

import copy
import dataclasses
import os
import pickle
import subprocess
import sys
import weakref

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from websockets import frames
from websockets.exceptions import ProtocolError
from websockets.frames import BINARY, CLOSE, CONT, PING, PONG, TEXT, Close, CloseCode, Frame, Opcode

# The machine may be busy.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

# Names and values


def test_opcodes():
    """RFC 6455 section 5.2"""
    assert {opcode.name: opcode.value for opcode in Opcode} == {
        "CONT": 0x0,
        "TEXT": 0x1,
        "BINARY": 0x2,
        "CLOSE": 0x8,
        "PING": 0x9,
        "PONG": 0xA,
    }
    assert frames.DATA_OPCODES == (CONT, TEXT, BINARY)
    assert frames.CTRL_OPCODES == (CLOSE, PING, PONG)
    for opcode in Opcode:
        assert getattr(frames, opcode.name) is opcode


CLOSE_CODES = {
    1000: ("NORMAL_CLOSURE", "OK"),
    1001: ("GOING_AWAY", "going away"),
    1002: ("PROTOCOL_ERROR", "protocol error"),
    1003: ("UNSUPPORTED_DATA", "unsupported data"),
    1005: ("NO_STATUS_RCVD", "no status received [internal]"),
    1006: ("ABNORMAL_CLOSURE", "abnormal closure [internal]"),
    1007: ("INVALID_DATA", "invalid frame payload data"),
    1008: ("POLICY_VIOLATION", "policy violation"),
    1009: ("MESSAGE_TOO_BIG", "message too big"),
    1010: ("MANDATORY_EXTENSION", "mandatory extension"),
    1011: ("INTERNAL_ERROR", "internal error"),
    1012: ("SERVICE_RESTART", "service restart"),
    1013: ("TRY_AGAIN_LATER", "try again later"),
    1014: ("BAD_GATEWAY", "bad gateway"),
    1015: ("TLS_HANDSHAKE", "TLS handshake failure [internal]"),
}


def test_close_codes():
    assert {code.value: code.name for code in CloseCode} == {
        code: name for code, (name, _) in CLOSE_CODES.items()
    }
    assert frames.CLOSE_CODE_EXPLANATIONS == {
        code: explanation for code, (_, explanation) in CLOSE_CODES.items()
    }


def test_sets_of_close_codes():
    """RFC 6455 section 7.4.1"""
    assert frames.EXTERNAL_CLOSE_CODES == set(CLOSE_CODES) - {1005, 1006, 1015}
    assert frames.OK_CLOSE_CODES == {1000, 1001, 1005}


# Close


@pytest.mark.parametrize("code", CLOSE_CODES)
def test_close_str_explains_the_code(code):
    explanation = CLOSE_CODES[code][1]
    assert str(Close(code, "")) == f"{code} ({explanation})"
    assert str(Close(CloseCode(code), "why")) == f"{code} ({explanation}) why"


@pytest.mark.parametrize(
    "code, expected",
    [
        (0, "0 (unknown) why"),
        (999, "999 (unknown) why"),
        (1004, "1004 (unknown) why"),
        (1016, "1016 (unknown) why"),
        (2999, "2999 (unknown) why"),
        (3000, "3000 (registered) why"),
        (3999, "3999 (registered) why"),
        (4000, "4000 (private use) why"),
        (4999, "4999 (private use) why"),
        (5000, "5000 (unknown) why"),
    ],
)
def test_close_str_of_ranges(code, expected):
    assert str(Close(code, "why")) == expected


def may_be_sent(code):
    """RFC 6455 section 7.4 and the IANA registry."""
    return code in {1000, 1001, 1002, 1003, *range(1007, 1015)} or 3000 <= code <= 4999


def test_every_code_is_judged_alike_on_the_way_in_and_out():
    for code in range(65536):
        close, data = Close(code, "why"), code.to_bytes(2, "big") + b"why"
        if may_be_sent(code):
            close.check()
            assert close.serialize() == data
            assert Close.parse(data) == close
        else:
            for refused in (close.check, close.serialize, lambda data=data: Close.parse(data)):
                with pytest.raises(ProtocolError, match=r"\Ainvalid status code\Z"):
                    refused()


def test_close_str_does_not_command_the_terminal():
    close = Close(4000, "a\n\x1b[31m\x85\x7fb")
    assert str(close) == r"4000 (private use) a\n\x1b[31m\x85\x7fb"
    assert close.reason == "a\n\x1b[31m\x85\x7fb"


def test_close_parse_without_code():
    """RFC 6455 section 7.1.5"""
    close = Close.parse(b"")
    assert close == Close(1005, "")
    assert close.code is CloseCode.NO_STATUS_RCVD


def test_close_parse_half_a_code():
    with pytest.raises(ProtocolError, match=r"\Aclose frame too short\Z"):
        Close.parse(b"\x03")


def test_close_parse_bad_utf8():
    with pytest.raises(UnicodeDecodeError) as raised:
        Close.parse(b"\x03\xe8ab\xffc")
    assert raised.value.args == ("utf-8", b"ab\xffc", 2, 3, "invalid start byte")


def test_close_serialize_refuses_surrogates():
    with pytest.raises(UnicodeEncodeError):
        Close(1000, "\ud800").serialize()


@patient
@given(st.integers(3000, 4999), st.text("a\xe9\u20ac\U0001f600", max_size=30))
def test_close_round_trip(code, reason):
    assert Close.parse(Close(code, reason).serialize()) == Close(code, reason)


def test_close_is_a_mutable_value():
    close = Close(1000, "OK")
    close.reason = "bye"
    assert close == Close(1000, "bye") != Close(1001, "bye")
    assert repr(close) == "Close(code=1000, reason='bye')"
    assert pickle.loads(pickle.dumps(close)) == copy.copy(close) == close
    with pytest.raises(TypeError):
        hash(close)


# Frame


def test_frame_defaults():
    frame = Frame(TEXT, b"data")
    assert dataclasses.asdict(frame) == {
        "opcode": TEXT,
        "data": b"data",
        "fin": True,
        "rsv1": False,
        "rsv2": False,
        "rsv3": False,
    }
    assert repr(frame) == (
        "Frame(opcode=<Opcode.TEXT: 1>, data=b'data', fin=True, rsv1=False, rsv2=False, rsv3=False)"
    )


def test_frame_is_a_mutable_value():
    frame = Frame(TEXT, b"data")
    frame.rsv1 = True
    assert frame == Frame(TEXT, b"data", rsv1=True) != Frame(TEXT, b"data")
    assert dataclasses.replace(frame, data=b"", rsv1=False) == Frame(TEXT, b"")
    assert pickle.loads(pickle.dumps(frame)) == copy.copy(frame) == frame
    frame.note = "own"
    assert copy.copy(frame).note == pickle.loads(pickle.dumps(frame)).note == "own"
    assert weakref.ref(frame)() is frame
    with pytest.raises(TypeError):
        hash(frame)


# What the released library shows too.
STRINGS = [
    (Frame(TEXT, b""), "TEXT '' [0 bytes]"),
    (Frame(TEXT, b"a"), "TEXT 'a' [1 byte]"),
    (Frame(TEXT, b"hello"), "TEXT 'hello' [5 bytes]"),
    (Frame(TEXT, b"hello", fin=False), "TEXT 'hello' [5 bytes, continued]"),
    (Frame(TEXT, b"a", True, True, True, True), "TEXT 'a' [1 byte]"),
    (Frame(TEXT, "caf\xe9 \u20ac".encode()), "TEXT 'caf\xe9 \u20ac' [9 bytes]"),
    (Frame(TEXT, b"'quoted'"), "TEXT \"'quoted'\" [8 bytes]"),
    (Frame(TEXT, b"\"dq'\""), "TEXT '\"dq\\'\"' [5 bytes]"),
    (Frame(TEXT, b"a\nb"), r"TEXT 'a\nb' [3 bytes]"),
    (Frame(TEXT, b"\t"), r"TEXT '\t' [1 byte]"),
    (Frame(TEXT, "\u2028".encode()), r"TEXT '\u2028' [3 bytes]"),
    (Frame(TEXT, b"\xff"), "TEXT ff [binary, 1 byte]"),
    (Frame(TEXT, b"\xed\xa0\x80"), "TEXT ed a0 80 [binary, 3 bytes]"),
    (Frame(TEXT, b"\xa9abc"), "TEXT a9 61 62 63 [binary, 4 bytes]"),
    (Frame(TEXT, b"\x1b[0m"), "TEXT 1b 5b 30 6d [binary, 4 bytes]"),
    (Frame(TEXT, b"a\x00"), "TEXT 61 00 [binary, 2 bytes]"),
    (Frame(TEXT, b"\x7f"), "TEXT 7f [binary, 1 byte]"),
    (Frame(TEXT, "\x85".encode()), "TEXT c2 85 [binary, 2 bytes]"),
    (Frame(TEXT, b"\x0b"), "TEXT 0b [binary, 1 byte]"),
    (Frame(TEXT, b"abc\xc3"), "TEXT 61 62 63 c3 [binary, 4 bytes]"),
    (Frame(TEXT, b"abc\xc3", fin=False), "TEXT 'abc\ufffd' [4 bytes, continued]"),
    (Frame(TEXT, b"a" * 73), f"TEXT '{'a' * 73}' [73 bytes]"),
    (Frame(TEXT, b"a" * 74), f"TEXT '{'a' * 47}...{'a' * 23}' [74 bytes]"),
    (Frame(BINARY, b""), "BINARY '' [0 bytes]"),
    (Frame(BINARY, b"hello"), "BINARY 'hello' [text, 5 bytes]"),
    (Frame(BINARY, b"\x00\x01"), "BINARY 00 01 [2 bytes]"),
    (Frame(BINARY, b"\xff", fin=False), "BINARY ff [1 byte, continued]"),
    (Frame(BINARY, b"abc\xc3", fin=False), "BINARY 'abc\ufffd' [text, 4 bytes, continued]"),
    (Frame(BINARY, b"abc\xc3"), "BINARY 61 62 63 c3 [4 bytes]"),
    (Frame(BINARY, b"\xff" * 25), f"BINARY {'ff ' * 25}[25 bytes]"),
    (
        Frame(BINARY, bytes(range(26))),
        "BINARY 00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f ... 12 13 14 15 16 17 18 19 "
        "[26 bytes]",
    ),
    (Frame(CONT, b""), "CONT '' [0 bytes]"),
    (Frame(CONT, b"hello"), "CONT 'hello' [text, 5 bytes]"),
    (Frame(CONT, b"hello", fin=False), "CONT 'hello' [text, 5 bytes, continued]"),
    (Frame(CONT, b"\xff"), "CONT ff [binary, 1 byte]"),
    (Frame(CONT, b"\xa9"), "CONT '\ufffd' [text, 1 byte]"),
    (Frame(CONT, b"\xa9abc"), "CONT '\ufffdabc' [text, 4 bytes]"),
    (Frame(CONT, b"\x80\x80\x80a"), "CONT '\ufffd\ufffd\ufffda' [text, 4 bytes]"),
    (Frame(CONT, b"\x80\x80\x80\x80a"), "CONT 80 80 80 80 61 [binary, 5 bytes]"),
    (Frame(CONT, b"abc\xc3"), "CONT 61 62 63 c3 [binary, 4 bytes]"),
    (Frame(CONT, b"\x82a\xf0", fin=False), "CONT '\ufffda\ufffd' [text, 3 bytes, continued]"),
    (Frame(CLOSE, b""), "CLOSE '' [0 bytes]"),
    (Frame(CLOSE, b"\x03\xe8"), "CLOSE 1000 (OK) [2 bytes]"),
    (Frame(CLOSE, b"\x03\xe8OK"), "CLOSE 1000 (OK) OK [4 bytes]"),
    (Frame(CLOSE, b"\x0b\xb8reg"), "CLOSE 3000 (registered) reg [5 bytes]"),
    (Frame(CLOSE, b"\x0f\xa0priv"), "CLOSE 4000 (private use) priv [6 bytes]"),
    (Frame(CLOSE, b"\x03"), "CLOSE 03 [binary, 1 byte]"),
    (Frame(CLOSE, b"a"), "CLOSE 61 [binary, 1 byte]"),
    (Frame(CLOSE, b"\x03\xed"), "CLOSE 03 ed [binary, 2 bytes]"),
    (Frame(CLOSE, b"\x03\xe8a\nb\x1b"), r"CLOSE 1000 (OK) a\nb\x1b [6 bytes]"),
    (Frame(CLOSE, b"\x03\xe8\xff"), "CLOSE 03 e8 ff [binary, 3 bytes]"),
    (Frame(PING, b""), "PING '' [0 bytes]"),
    (Frame(PING, b"hello"), "PING 'hello' [text, 5 bytes]"),
    (Frame(PING, b"\x00\x01"), "PING 00 01 [binary, 2 bytes]"),
    (Frame(PING, b"\t\n\x0b\x0c\r"), r"PING '\t\n\x0b\x0c\r' [text, 5 bytes]"),
    (Frame(PING, b"caf\xc3\xa9"), "PING 63 61 66 c3 a9 [binary, 5 bytes]"),
    (Frame(PONG, b"\xa9"), "PONG a9 [binary, 1 byte]"),
    (Frame(PONG, b"hello"), "PONG 'hello' [text, 5 bytes]"),
]  # fmt: skip


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("frame, expected", STRINGS, ids=[text[:40] for _, text in STRINGS])
def test_frame_str(frame, expected, kind):
    assert str(dataclasses.replace(frame, data=kind(frame.data))) == expected


@pytest.mark.parametrize("opcode", Opcode)
@patient
@given(st.data())
def test_frame_str_of_any_payload_is_one_short_line(opcode, data):
    payload = data.draw(
        # The reason of a close is shown as it is.
        st.binary(max_size=300)
        if opcode is not CLOSE
        else st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=200).map(
            lambda reason: b"\x03\xe8" + reason.encode()
        )
    )
    shown = str(Frame(opcode, payload, fin=data.draw(st.booleans())))
    assert shown.isprintable()
    assert len(shown) < 130
    assert f"{len(payload)} byte" in shown


def test_what_frame_str_shows_can_be_set(monkeypatch):
    monkeypatch.setattr(Frame, "MAX_LOG_SIZE", 20)
    assert str(Frame(TEXT, b"a" * 100)) == "TEXT 'aaaaaaaaa...aaaa' [100 bytes]"
    monkeypatch.setitem(Frame.DEFAULT_IS_TEXT, BINARY, True)
    monkeypatch.setitem(Frame.DEFAULT_IS_TEXT, TEXT, False)
    assert str(Frame(BINARY, b"abc")) == "BINARY 'abc' [3 bytes]"
    assert str(Frame(BINARY, b"\xff")) == "BINARY ff [binary, 1 byte]"
    assert str(Frame(TEXT, b"abc")) == "TEXT 'abc' [text, 3 bytes]"


@pytest.mark.parametrize("size", ["1", "3", "10", "30"])
def test_max_log_size_comes_from_the_environment(size):
    shown = subprocess.run(
        [
            sys.executable,
            "-c",
            "from websockets.frames import *\n"
            "print(Frame(TEXT, b'abcdefghijklmnopqrstuvwxyz' * 3))\n"
            "print(Frame(BINARY, bytes(range(130, 200))))",
        ],
        env={
            **os.environ,
            "WEBSOCKETS_MAX_LOG_SIZE": size,
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert (
        shown
        == {
            "1": ["TEXT 'a...' [78 bytes]", "BINARY ... [70 bytes]"],
            "3": ["TEXT 'a...' [78 bytes]", "BINARY ... [70 bytes]"],
            "10": ["TEXT 'abc...z' [78 bytes]", "BINARY 82 83 ... c7 [70 bytes]"],
            "30": [
                "TEXT 'abcdefghijklmnopq...stuvwxyz' [78 bytes]",
                "BINARY 82 83 84 85 86 87 ... c5 c6 c7 [70 bytes]",
            ],
        }[size]
    )
