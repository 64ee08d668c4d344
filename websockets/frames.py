"""Frames, opcodes and close codes: the vocabulary of RFC 6455 sections 5 and 7.4."""

from __future__ import annotations

import codecs
import dataclasses
import enum
import re
from typing import ClassVar

from .environment import read_integer
from .exceptions import ProtocolError, printable

__all__ = [
    "CLOSE",
    "CLOSE_CODE_EXPLANATIONS",
    "CONT",
    "CTRL_OPCODES",
    "DATA_OPCODES",
    "EXTERNAL_CLOSE_CODES",
    "OK_CLOSE_CODES",
    "PING",
    "PONG",
    "TEXT",
    "BINARY",
    "Close",
    "CloseCode",
    "Frame",
    "Opcode",
]


class Opcode(enum.IntEnum):
    """Opcodes of RFC 6455 section 5.2."""

    CONT, TEXT, BINARY = 0x00, 0x01, 0x02
    CLOSE, PING, PONG = 0x08, 0x09, 0x0A


CONT = Opcode.CONT
TEXT = Opcode.TEXT
BINARY = Opcode.BINARY
CLOSE = Opcode.CLOSE
PING = Opcode.PING
PONG = Opcode.PONG

DATA_OPCODES = CONT, TEXT, BINARY
CTRL_OPCODES = CLOSE, PING, PONG


class CloseCode(enum.IntEnum):
    """Close codes of RFC 6455 section 7.4.1 and the IANA registry."""

    NORMAL_CLOSURE = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    NO_STATUS_RCVD = 1005
    ABNORMAL_CLOSURE = 1006
    INVALID_DATA = 1007
    POLICY_VIOLATION = 1008
    MESSAGE_TOO_BIG = 1009
    MANDATORY_EXTENSION = 1010
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    BAD_GATEWAY = 1014
    TLS_HANDSHAKE = 1015


CLOSE_CODE_EXPLANATIONS: dict[int, str] = {
    CloseCode.NORMAL_CLOSURE: "OK",
    CloseCode.GOING_AWAY: "going away",
    CloseCode.PROTOCOL_ERROR: "protocol error",
    CloseCode.UNSUPPORTED_DATA: "unsupported data",
    CloseCode.NO_STATUS_RCVD: "no status received [internal]",
    CloseCode.ABNORMAL_CLOSURE: "abnormal closure [internal]",
    CloseCode.INVALID_DATA: "invalid frame payload data",
    CloseCode.POLICY_VIOLATION: "policy violation",
    CloseCode.MESSAGE_TOO_BIG: "message too big",
    CloseCode.MANDATORY_EXTENSION: "mandatory extension",
    CloseCode.INTERNAL_ERROR: "internal error",
    CloseCode.SERVICE_RESTART: "service restart",
    CloseCode.TRY_AGAIN_LATER: "try again later",
    CloseCode.BAD_GATEWAY: "bad gateway",
    CloseCode.TLS_HANDSHAKE: "TLS handshake failure [internal]",
}

# RFC 6455 section 7.4.1: 1004 is reserved; 1005, 1006 and 1015 must not be sent.
EXTERNAL_CLOSE_CODES = frozenset(CloseCode) - {
    CloseCode.NO_STATUS_RCVD,
    CloseCode.ABNORMAL_CLOSURE,
    CloseCode.TLS_HANDSHAKE,
}

# A connection that ends with one of these ended as one of the sides wished.
OK_CLOSE_CODES = frozenset(
    {CloseCode.NORMAL_CLOSURE, CloseCode.GOING_AWAY, CloseCode.NO_STATUS_RCVD}
)


@dataclasses.dataclass
class Close:
    """The code and reason of a close frame (RFC 6455 section 5.5.1).

    Attributes:
        code: close code, an integer; 1005 stands for a close frame without one.
        reason: close reason, a string of at most 123 bytes in UTF-8.
    """

    code: int
    reason: str

    def __str__(self) -> str:
        code = int(self.code)
        # RFC 6455 section 7.4.2: 3000-3999 are registered with IANA, 4000-4999 are private.
        if 3000 <= code < 4000:
            explanation = "registered"
        elif 4000 <= code < 5000:
            explanation = "private use"
        else:
            explanation = CLOSE_CODE_EXPLANATIONS.get(code, "unknown")
        return f"{code} ({explanation})" + (f" {printable(self.reason)}" if self.reason else "")

    @classmethod
    def parse(cls, data: bytes) -> Close:
        """Parse the payload of a close frame (RFC 6455 section 5.5.1).

        Args:
            data: the payload, unmasked.

        Returns:
            What it says; code 1005 and no reason if it is empty (section 7.1.5).

        Raises:
            ProtocolError: if the payload is one byte long, or its code may not be on the wire.
            UnicodeDecodeError: if the reason is not valid UTF-8.
        """
        if not data:
            return cls(CloseCode.NO_STATUS_RCVD, "")
        if len(data) < 2:
            raise ProtocolError("close frame too short")
        close = cls(int.from_bytes(data[:2], "big"), str(data[2:], "utf-8"))
        close.check()
        return close

    def serialize(self) -> bytes:
        """Return the payload of a close frame.

        Raises:
            ProtocolError: if the code may not be sent.
        """
        self.check()
        return int(self.code).to_bytes(2, "big") + self.reason.encode()

    def check(self) -> None:
        """Check that the code may be on the wire (RFC 6455 sections 7.4.1 and 7.4.2).

        Raises:
            ProtocolError: if it may not.
        """
        if not (self.code in EXTERNAL_CLOSE_CODES or 3000 <= self.code < 5000):
            raise ProtocolError("invalid status code")


class _Open:
    """Lets instances of a class with slots have other attributes, too, and weak references."""

    __slots__ = ("__dict__", "__weakref__")


# With slots, creating a frame takes half the time.
@dataclasses.dataclass(slots=True)
class Frame(_Open):
    """A WebSocket frame (RFC 6455 section 5.2), unmasked.

    Attributes:
        opcode: what the frame is.
        data: its payload.
        fin: whether it is the last frame of its message.
        rsv1, rsv2, rsv3: the reserved bits; extensions give them a meaning.
        MAX_LOG_SIZE: how many characters of a payload :class:`str` shows, for the debug log; an
            attribute of the class. ``WEBSOCKETS_MAX_LOG_SIZE`` in the environment sets it.
        DEFAULT_IS_TEXT: whether the payload is text, by opcode: where it is what is said here,
            :class:`str` does not mention it; an attribute of the class.
    """

    opcode: Opcode
    data: bytes | bytearray | memoryview
    fin: bool = True
    rsv1: bool = False
    rsv2: bool = False
    rsv3: bool = False

    MAX_LOG_SIZE: ClassVar[int] = read_integer("WEBSOCKETS_MAX_LOG_SIZE", 75)
    DEFAULT_IS_TEXT: ClassVar[dict[Opcode, bool]] = {TEXT: True, BINARY: False, CLOSE: True}

    def __str__(self) -> str:
        size = len(self.data)
        notes = [f"{size} byte{'' if size == 1 else 's'}"]
        if not self.fin:
            notes.append("continued")
        shown = "''"
        if size:
            data = bytes(self.data)
            text = self._as_text(data)
            if self.DEFAULT_IS_TEXT.get(self.opcode) is not (text is not None):
                notes.insert(0, "binary" if text is None else "text")
            shown = self._shorten_binary(data) if text is None else self._shorten_text(text)
        return f"{self.opcode.name} {shown} [{', '.join(notes)}]"

    def _as_text(self, data: bytes) -> str | None:
        """Return the payload as text that reads well in a log, else None."""
        if self.opcode is Opcode.CLOSE:
            try:
                return str(Close.parse(data))
            except (ProtocolError, UnicodeDecodeError):
                return None
        if self.opcode in CTRL_OPCODES:
            return repr(data.decode()) if _is_ascii_text(data) else None
        # A fragment may start or end inside a character.
        lead = 0
        if self.opcode is Opcode.CONT:
            while lead < min(3, len(data)) and 0x80 <= data[lead] < 0xC0:
                lead += 1
        rest = data[lead:]
        try:
            valid, consumed = codecs.utf_8_decode(rest, "strict", self.fin)
        except UnicodeDecodeError:
            return None
        if _find_unprintable(valid):
            return None
        return repr("\ufffd" * lead + valid + ("\ufffd" if consumed < len(rest) else ""))

    def _shorten_text(self, text: str) -> str:
        if len(text) > self.MAX_LOG_SIZE:
            tail = max(self.MAX_LOG_SIZE // 3 - 1, 1)
            text = f"{text[: 2 * tail]}...{text[-tail:]}"
        return text

    def _shorten_binary(self, data: bytes) -> str:
        third = max(self.MAX_LOG_SIZE // 3, 1)
        if len(data) <= third:
            return data.hex(" ")
        tail = third // 3
        return f"{data[: 2 * tail].hex(' ')} ... {data[-tail:].hex(' ') if tail else ''}".strip()


# Control frames hold what machines say to each other; messages hold what people say.
_is_ascii_text = re.compile(rb"[\t-\r\x20-\x7e]*").fullmatch
# A class of what text has, rather than of what it has not, takes 3 ms to compile.
_find_unprintable = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\xa0\xad]").search
