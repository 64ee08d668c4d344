"""The state machine of a WebSocket connection (RFC 6455), for either side and without I/O.

Bytes from the peer go in through :meth:`Protocol.receive_data`; events come out of
:meth:`Protocol.events_received`, and bytes for the peer out of :meth:`Protocol.data_to_send`.
"""

from __future__ import annotations

import enum
import logging
from typing import TYPE_CHECKING, cast

from .codec import FrameReader, Utf8Validator, encode_frame, encode_header
from .exceptions import (
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedOK,
    InvalidState,
    PayloadTooBig,
    ProtocolError,
    TooManyFragments,
    forget_frames,
)
from .extensions.deflate import PerMessageDeflate
from .former import former_names
from .frames import (
    BINARY,
    CLOSE,
    CONT,
    OK_CLOSE_CODES,
    PING,
    PONG,
    TEXT,
    Close,
    CloseCode,
    Frame,
    Opcode,
)
from .settings import size_limits

if TYPE_CHECKING:
    import uuid

    from .extensions.base import Extension
    from .http11 import Request, RequestParser, Response, ResponseParser
    from .typing import BytesLike, LoggerLike, Origin, Subprotocol

__all__ = ["SEND_EOF", "Event", "Protocol", "Side", "State"]

if TYPE_CHECKING:
    Event = Request | Response | Frame
else:
    Event = object


class Side(enum.IntEnum):
    """The role of a side: clients mask what they send, servers do not (RFC 6455 section 5.1)."""

    SERVER, CLIENT = range(2)


class State(enum.IntEnum):
    """States of a connection (RFC 6455 sections 4.1 and 7.1)."""

    CONNECTING, OPEN, CLOSING, CLOSED = range(4)


SERVER, CLIENT = Side.SERVER, Side.CLIENT
CONNECTING, OPEN, CLOSING, CLOSED = State.CONNECTING, State.OPEN, State.CLOSING, State.CLOSED

#: In the list of :meth:`Protocol.data_to_send`: half-close the connection (send a TCP FIN).
SEND_EOF = b""

# An unmasked payload of this size is handed on as it is, behind its header, and never copied.
LARGE_PAYLOAD = 64 * 1024

# In the reserved bits as the codec has them.
RSV1 = 4

# A server keeps what comes before its response once no more than this has come: clients must wait
# for the response (RFC 6455 section 4.1), and nobody has been authenticated yet.
MAX_EARLY_DATA = 64 * 1024

OPCODES = {int(opcode): opcode for opcode in Opcode}

# To look one up by its name takes a lock.
LOGGERS = {
    SERVER: logging.getLogger("websockets.server"),
    CLIENT: logging.getLogger("websockets.client"),
}


class Protocol:
    """One side of a WebSocket connection, without I/O.

    Args:
        side: :attr:`Side.SERVER` or :attr:`Side.CLIENT`.
        state: state to start in.
        max_size: largest message in bytes, None for no limit; or a tuple of the largest message and
            the largest fragment.
        logger: logger for this connection; ``websockets.server`` or ``websockets.client`` unless
            given. Frames are logged at level DEBUG.
    """

    # More fields than CPython's dictionaries of instances can share the keys of.
    __slots__ = (
        "__dict__",
        "__weakref__",
        "_extensions",
        "_early_size",
        "_held_pong",
        "_hold_pongs",
        "_id",
        "_logger",
        "_max_fragment_size",
        "_max_message_size",
        "_state",
        "_text",
        "_websocket",
        "close_rcvd",
        "close_rcvd_then_sent",
        "close_sent",
        "debug",
        "deflate",
        "ended",
        "eof_rcvd",
        "eof_sent",
        "events",
        "expect_continuation_frame",
        "handshake_exc",
        "handshake_parser",
        "masks",
        "origin",
        "parser_exc",
        "plain",
        "reader",
        "side",
        "subprotocol",
        "writes",
    )

    def __init__(
        self,
        side: Side,
        *,
        state: State = OPEN,
        max_size: int | None | tuple[int | None, int | None] = 2**20,
        logger: LoggerLike | None = None,
    ) -> None:
        # Identity
        self._id: uuid.UUID | None = None
        self.side = side
        self._logger: LoggerLike = logger or LOGGERS[side]
        self._websocket: object = None
        self.debug = self._logger.isEnabledFor(logging.DEBUG)

        # Where the connection stands
        self._state = state
        self.handshake_exc: Exception | None = None
        self.parser_exc: Exception | None = None
        self.close_rcvd: Close | None = None
        self.close_sent: Close | None = None
        self.close_rcvd_then_sent: bool | None = None
        self.ended = False  # whether whatever the peer still sends is ignored
        self.eof_rcvd = False
        self.eof_sent = False

        # What was negotiated
        self.origin: Origin | None = None
        self.subprotocol: Subprotocol | None = None

        # Receiving
        sizes = size_limits(max_size)
        self._max_message_size, self._max_fragment_size = sizes
        self.handshake_parser: RequestParser | ResponseParser | None = None
        self.reader = FrameReader(side is SERVER, *sizes)
        self.events: list[Event] = []
        self._early_size = 0  # bytes that have come before the response
        # Text that extensions have decoded is checked here, as only here it is text.
        self._text: Utf8Validator | None = None

        # Sending
        self.masks = side is CLIENT
        self.expect_continuation_frame = False
        # Whether a message may be sent by encoding it as one frame, and no more. If it is to be
        # compressed before, this is what does so.
        self.plain: bool | PerMessageDeflate = False
        self.deflate: PerMessageDeflate | None = None
        self.writes: list[bytes] = []
        self._hold_pongs = False
        self._held_pong: BytesLike | None = None

        self.extensions = []
        if self.debug:
            self.logger.debug("= connection is %s", state.name)

    # Public attributes

    @property
    def id(self) -> uuid.UUID:
        """Unique identifier of the connection, useful in logs; drawn when it is first read."""
        if self._id is None:
            import uuid

            self._id = uuid.uuid4()
        return self._id

    @id.setter
    def id(self, id: uuid.UUID) -> None:
        self._id = id

    @property
    def logger(self) -> LoggerLike:
        """Logger of the connection."""
        if self._websocket is not None:
            extra = {"websocket": self._websocket}
            self.logger = logging.LoggerAdapter(self._logger, extra)
        return self._logger

    @logger.setter
    def logger(self, logger: LoggerLike) -> None:
        self._logger = logger
        self._websocket = None

    @property
    def state(self) -> State:
        """State of the connection (RFC 6455 sections 4.1 and 7.1)."""
        return self._state

    @state.setter
    def state(self, state: State) -> None:
        self._state = state
        self._update_plain()
        if self.debug:
            self.logger.debug("= connection is %s", state.name)

    @property
    def max_message_size(self) -> int | None:
        """Largest message in bytes, None for no limit; it may be changed at any time."""
        return self._max_message_size

    @max_message_size.setter
    def max_message_size(self, size: int | None) -> None:
        self.reader.limit(size, self._max_fragment_size)
        self._max_message_size = size

    @property
    def max_fragment_size(self) -> int | None:
        """Largest fragment in bytes, None for no limit; it may be changed at any time."""
        return self._max_fragment_size

    @max_fragment_size.setter
    def max_fragment_size(self, size: int | None) -> None:
        self.reader.limit(self._max_message_size, size)
        self._max_fragment_size = size

    @property
    def extensions(self) -> list[Extension]:
        """Extensions in use, in the order in which they were negotiated."""
        return self._extensions

    @extensions.setter
    def extensions(self, extensions: list[Extension]) -> None:
        self._extensions = extensions
        self.deflate = None
        if len(extensions) == 1 and type(extensions[0]) is PerMessageDeflate:
            self.deflate = extensions[0]
        self.reader.inflater = self.deflate
        self.reader.extended = bool(extensions) and self.deflate is None
        self._update_plain()

    @property
    def close_code(self) -> int | None:
        """Close code of the peer, None while the connection is not closed.

        1005 if its close frame had no code, 1006 if none was received (RFC 6455 section 7.1.5).
        """
        if self._state is not CLOSED:
            return None
        return CloseCode.ABNORMAL_CLOSURE if self.close_rcvd is None else self.close_rcvd.code

    @property
    def close_reason(self) -> str | None:
        """Close reason of the peer, None while the connection is not closed (section 7.1.6)."""
        if self._state is not CLOSED:
            return None
        return "" if self.close_rcvd is None else self.close_rcvd.reason

    @property
    def close_exc(self) -> ConnectionClosed:
        """Exception to raise to whoever uses the closed connection.

        Its cause is :attr:`parser_exc`, what was wrong with the peer's stream, if anything was.

        Raises:
            AssertionError: if the connection is not closed.
        """
        assert self._state is CLOSED, "connection isn't closed yet"
        exc_type: type[ConnectionClosed]
        if (
            self.close_rcvd is not None
            and self.close_sent is not None
            and self.close_rcvd.code in OK_CLOSE_CODES
            and self.close_sent.code in OK_CLOSE_CODES
        ):
            exc_type = ConnectionClosedOK
        else:
            exc_type = ConnectionClosedError
        exc = exc_type(self.close_rcvd, self.close_sent, self.close_rcvd_then_sent)
        exc.__cause__ = self.parser_exc
        return exc

    # Public methods for receiving

    def receive_data(self, data: BytesLike) -> None:
        """Take bytes from the peer and parse all of them.

        Call :meth:`events_received` and :meth:`data_to_send` afterwards.

        Args:
            data: the next bytes of the peer's stream, cut anywhere.

        Raises:
            EOFError: if :meth:`receive_eof` was called before.
        """
        if self.eof_rcvd:
            raise EOFError("stream ended")
        if self.handshake_parser is not None:
            self.handshake_parser.feed(bytes(data))
            self.receive_handshake()
        elif self._state is CONNECTING:
            self._receive_early(data)
        elif not self.ended:
            self.reader.feed(data)
        if self._state is not CONNECTING:
            self._read_frames(self.events)

    def receive_eof(self) -> None:
        """Take the end of the peer's stream.

        Call :meth:`events_received` and :meth:`data_to_send` afterwards.
        """
        if self.eof_rcvd:
            return
        self.eof_rcvd = True
        if not self.ended:
            if self.handshake_parser is not None:
                self.handshake_parser.feed_eof()
                self.receive_handshake()
            else:
                if self.debug and not self.reader.in_frame:
                    self.logger.debug("< EOF")
                self.parser_exc = self.reader.eof_error()
            self.ended = True
        # RFC 6455 section 7.1.1: the server closes the TCP connection first; now it is our turn.
        if not self.eof_sent:
            self.send_eof()
        if self._state is not CLOSED:
            self.state = CLOSED
        if self.side is SERVER:
            self.log_info("connection closed")

    # Public methods for sending

    def send_continuation(self, data: BytesLike, fin: bool) -> None:
        """Send a continuation frame.

        Args:
            data: payload; in a text message it may end anywhere in a character.
            fin: whether it is the last frame of its message.

        Raises:
            ProtocolError: if no fragmented message is being sent.
            InvalidState: if the connection is not open.
        """
        if not self.expect_continuation_frame:
            raise ProtocolError("unexpected continuation frame")
        self._send_data(CONT, data, fin)

    def send_text(self, data: BytesLike, fin: bool = True, *, compress: bool | None = None) -> None:
        """Send a text frame.

        Args:
            data: payload, text encoded to UTF-8.
            fin: whether it is the whole message.
            compress: whether to compress the message, if permessage-deflate is in use; None to do
                so if it is not too small (RFC 7692).

        Raises:
            ProtocolError: if a fragmented message is being sent.
            InvalidState: if the connection is not open.
        """
        if self.plain is True and fin and type(data) is bytes and len(data) < LARGE_PAYLOAD:
            self.writes.append(encode_frame(1, data, self.masks))
            return
        if self.expect_continuation_frame:
            raise ProtocolError("expected a continuation frame")
        self._send_data(TEXT, data, fin, compress)

    def send_binary(
        self, data: BytesLike, fin: bool = True, *, compress: bool | None = None
    ) -> None:
        """Send a binary frame.

        Args:
            data: payload.
            fin: whether it is the whole message.
            compress: whether to compress the message, if permessage-deflate is in use; None to do
                so if it is not too small (RFC 7692).

        Raises:
            ProtocolError: if a fragmented message is being sent.
            InvalidState: if the connection is not open.
        """
        if self.plain is True and fin and type(data) is bytes and len(data) < LARGE_PAYLOAD:
            self.writes.append(encode_frame(2, data, self.masks))
            return
        if self.expect_continuation_frame:
            raise ProtocolError("expected a continuation frame")
        self._send_data(BINARY, data, fin, compress)

    def send_close(self, code: int | None = None, reason: str = "") -> None:
        """Send a close frame and start the closing handshake (RFC 6455 section 7.1.2).

        Args:
            code: close code; None for a close frame without one.
            reason: close reason, at most 123 bytes in UTF-8.

        Raises:
            ProtocolError: if the code may not be sent, the reason is too long, or it has no code.
            InvalidState: if the connection is not open.
        """
        self._check_state(OPEN)
        if code is None:
            if reason:
                raise ProtocolError("cannot send a reason without a code")
            close, data = Close(CloseCode.NO_STATUS_RCVD, ""), b""
        else:
            close = Close(code, reason)
            data = close.serialize()
        self.send_frame(Frame(CLOSE, data))
        self.close_sent = close
        self.state = CLOSING

    def send_ping(self, data: BytesLike) -> None:
        """Send a ping (RFC 6455 section 5.5.2).

        Args:
            data: payload of at most 125 bytes.

        Raises:
            ProtocolError: if the payload is too long.
            InvalidState: if the connection is neither open nor closing.
        """
        self._check_state(OPEN, CLOSING)
        self.send_frame(Frame(PING, data))

    def send_pong(self, data: BytesLike) -> None:
        """Send a pong (RFC 6455 section 5.5.3).

        Args:
            data: payload of at most 125 bytes.

        Raises:
            ProtocolError: if the payload is too long.
            InvalidState: if the connection is neither open nor closing.
        """
        self._check_state(OPEN, CLOSING)
        self.send_frame(Frame(PONG, data))

    def fail(self, code: int, reason: str = "") -> None:
        """Fail the connection (RFC 6455 section 7.1.7): say why, if that is possible, hear no more.

        Args:
            code: close code; 1006 to send no close frame.
            reason: close reason, at most 123 bytes in UTF-8.

        Raises:
            ProtocolError: if the code may not be sent or the reason is too long.
        """
        if self._state is OPEN and not self.eof_sent and code != CloseCode.ABNORMAL_CLOSURE:
            close = Close(code, reason)
            self.send_frame(Frame(CLOSE, close.serialize()))
            self.close_sent = close
            self.state = CLOSING
        # A server closes the TCP connection at once; a client waits for its server to do so.
        if self.side is SERVER and not self.eof_sent:
            self.send_eof()
        self.ended = True

    # Public methods for what goes in and out

    def events_received(self) -> list[Event]:
        """Return the events since the last call: a request or response, then frames.

        Control frames are among them; they need no answer.
        """
        if self.reader.in_frame and self._state is not CONNECTING:
            # Frames may have come before a server sent its response.
            self._read_frames(self.events)
        events, self.events = self.events, []
        return events

    def data_to_send(self) -> list[bytes]:
        """Return the bytes to write to the peer, in order, since the last call.

        Empty bytes, :data:`SEND_EOF`, mean that the writing side of the connection is to be closed.
        """
        writes, self.writes = self.writes, []
        return writes

    def close_expected(self) -> bool:
        """Tell whether the TCP connection is about to be closed.

        Then the caller gives that a deadline and closes the connection itself when it has passed.
        """
        if self._state is CONNECTING:
            return self.ended
        return self._state is CLOSING

    # The short way of a runtime, which takes whole messages from the reader, and frames one by one

    def read_frame(self) -> Frame | None:
        """Read the next frame and act on it; None where bytes are lacking or input has ended."""
        frames: list[Event] = []
        self._read_frames(frames, once=True)
        return cast(Frame, frames[0]) if frames else None

    def hold_pongs(self, hold: bool) -> None:
        """Hold pongs back, or let go of them.

        A peer that sends pings and does not read must not fill our memory with pongs. Held back,
        only the pong to its latest ping remains, and it answers for the earlier ones (RFC 6455
        section 5.5.3).
        """
        self._hold_pongs = hold
        if not hold and self._held_pong is not None:
            data, self._held_pong = self._held_pong, None
            if self._state is OPEN or self._state is CLOSING and not self.eof_sent:
                self.send_frame(Frame(PONG, data))

    def tag_logs(self, websocket: object) -> None:
        """Have log records carry their connection, as their attribute ``websocket``.

        Args:
            websocket: the connection, or a weak proxy for it.
        """
        # Most connections never log a record: the adapter is made for the first that does.
        self._websocket = websocket

    # What client and server build on

    def log_info(self, message: str, *args: object) -> None:
        """Log at level INFO, without making an adapter for nothing."""
        if self._logger.isEnabledFor(logging.INFO):
            self.logger.info(message, *args)

    def receive_handshake(self) -> None:
        """Go on with the opening handshake: ``handshake_parser`` has more bytes, or the end."""
        raise NotImplementedError

    def handshake_parser_done(self) -> None:
        """Go on with frames, with the bytes that came behind the handshake."""
        assert self.handshake_parser is not None
        rest, self.handshake_parser = self.handshake_parser.take_rest(), None
        if rest and not self.ended:
            self.reader.feed(rest)

    def fail_early(self) -> None:
        """Fail the connection, which has just opened, if not all was kept that came before."""
        if self._early_size > MAX_EARLY_DATA:
            self.fail(CloseCode.POLICY_VIOLATION, "too much data before the handshake response")

    def fail_parsing(self, exc: Exception) -> None:
        """Fail the connection, as nothing behind what was received can be understood."""
        code, reason = CloseCode.INTERNAL_ERROR, ""
        if isinstance(exc, ProtocolError):
            code, reason = CloseCode.PROTOCOL_ERROR, str(exc)
        elif isinstance(exc, UnicodeDecodeError):
            code, reason = CloseCode.INVALID_DATA, f"{exc.reason} at position {exc.start}"
        elif isinstance(exc, PayloadTooBig):
            code, reason = CloseCode.MESSAGE_TOO_BIG, str(exc)
        elif isinstance(exc, TooManyFragments):
            code, reason = CloseCode.MESSAGE_TOO_BIG, "too many fragments"
        else:  # an extension's own
            self.logger.error("parser failed", exc_info=exc)
        if code != CloseCode.INTERNAL_ERROR:
            forget_frames(exc)
        self.parser_exc = exc
        # RFC 6455 section 5.5: two of the 125 bytes of a control frame are the code.
        self.fail(code, reason.encode()[:123].decode(errors="ignore"))

    def recv_frame(self, frame: Frame) -> None:
        """Act on a frame from the peer.

        Raises:
            ProtocolError, UnicodeDecodeError: if it is a close frame with a bad payload.
        """
        if self.debug:
            self.logger.debug("< %s", frame)
        if frame.opcode is PING:
            # RFC 6455 section 5.5.2: answer unless a close frame was received.
            if self._hold_pongs:
                self._held_pong = frame.data
            else:
                self.send_frame(Frame(PONG, frame.data))
        elif frame.opcode is CLOSE:
            # RFC 6455 section 7.1.5: the first close frame is the one that counts.
            self.close_rcvd = Close.parse(bytes(frame.data))
            self.ended = True
            if self._state is CLOSING:
                self.close_rcvd_then_sent = False
            else:
                # RFC 6455 section 5.5.1: answer with the code that was received.
                self.send_frame(Frame(CLOSE, frame.data))
                self.close_sent = self.close_rcvd
                self.close_rcvd_then_sent = True
                self.state = CLOSING
            if self.side is SERVER:
                # RFC 6455 section 7.1.1: the server closes the TCP connection first.
                self.send_eof()

    def send_frame(self, frame: Frame, compress: bool | None = None) -> None:
        """Encode a frame and queue it.

        Args:
            frame: the frame.
            compress: as in :meth:`send_text`.

        Raises:
            ProtocolError: if it is a control frame with too long a payload.
            TypeError: if its payload is not bytes-like.
        """
        if self.debug:
            self.logger.debug("> %s", frame)
        payload: object = frame.data
        if isinstance(payload, str):  # encode_frame() would encode it
            raise TypeError("expected a bytes-like object, str found")
        if frame.opcode >= 8 and len(frame.data) > 125:
            # RFC 6455 section 5.5
            raise ProtocolError("control frame too long")
        plain = frame
        try:
            for extension in self._extensions:
                if compress is not None and isinstance(extension, PerMessageDeflate):
                    frame = extension.encode(frame, compress)
                else:
                    frame = extension.encode(frame)
        except Exception:
            if plain.opcode is not CLOSE:
                for extension in self._extensions:
                    if isinstance(extension, PerMessageDeflate):
                        extension.forget()
                raise
            # How a connection ends must not depend on an extension of the application.
            self.logger.error("extension failed on a close frame", exc_info=True)
            frame = plain
        data, opcode, fin = frame.data, frame.opcode, frame.fin
        rsv = frame.rsv1 << 2 | frame.rsv2 << 1 | frame.rsv3
        if not self.masks and len(data) >= LARGE_PAYLOAD:
            data = bytes(data)
            self.writes.append(encode_header(opcode, len(data), False, fin, rsv))
            self.writes.append(data)
        else:
            self.writes.append(encode_frame(opcode, data, self.masks, fin, rsv))

    def send_eof(self) -> None:
        """Queue the end of our stream."""
        assert not self.eof_sent
        self.eof_sent = True
        self.plain = False
        if self.debug:
            self.logger.debug("> EOF")
        self.writes.append(SEND_EOF)

    def _receive_early(self, data: BytesLike) -> None:
        """Keep bytes that come before the response, as long as they are few."""
        if self._early_size <= MAX_EARLY_DATA and not self.ended:
            self._early_size += len(data)
            if self._early_size <= MAX_EARLY_DATA:
                self.reader.feed(data)

    def _read_frames(self, frames: list[Event], once: bool = False) -> None:
        """Read frames, or one of them, act on them, and append them to a list."""
        reader = self.reader
        try:
            while not self.ended:
                item = reader.read_frame()
                if item is None:
                    return
                opcode, data, fin, rsv = item
                frame = Frame(OPCODES[opcode], data, fin)
                if reader.extended:
                    frame.rsv1, frame.rsv2, frame.rsv3 = map(bool, (rsv & 4, rsv & 2, rsv & 1))
                    frame = self._decode(frame)
                if opcode >= 8 or self.debug:
                    self.recv_frame(frame)
                frames.append(frame)
                if once or not reader.in_frame:
                    return
        except Exception as exc:
            self.fail_parsing(exc)

    def _send_data(
        self, opcode: Opcode, data: BytesLike, fin: bool, compress: bool | None = None
    ) -> None:
        self._check_state(OPEN)
        self.send_frame(Frame(opcode, data, fin), compress)
        self.expect_continuation_frame = not fin
        self._update_plain()

    def _update_plain(self) -> None:
        self.plain = False
        if (
            self._state is OPEN
            and not self.eof_sent
            and not self.expect_continuation_frame
            and not self.reader.extended
            and not self.debug
        ):
            self.plain = True if self.deflate is None else self.deflate

    def _check_state(self, *allowed: State) -> None:
        if self._state not in allowed:
            raise InvalidState(f"connection is {self._state.name.lower()}")
        if self.eof_sent:
            raise InvalidState("connection is closing")

    def _decode(self, frame: Frame) -> Frame:
        """Undo the extensions, and do the checks that the frame reader had to leave."""
        size, limit = 0, None
        before: int | None = None
        if frame.opcode < 8:
            size, limit = self.reader.message_size, self.max_fragment_size
            if self.max_message_size is not None:
                room = max(self.max_message_size - size, 0)
                if limit is None or room <= limit:
                    limit, before = room, size if frame.opcode is CONT else None
        try:
            for extension in reversed(self._extensions):
                frame = extension.decode(frame, max_size=limit)
        except PayloadTooBig as exc:
            if before is not None:
                exc.set_current_size(before)
            raise
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            # RFC 6455 section 5.2
            raise ProtocolError("reserved bits must be 0")
        if frame.opcode >= 8:
            return frame
        if limit is not None and len(frame.data) > limit:
            raise PayloadTooBig(len(frame.data), limit, before)
        self.reader.message_size = 0 if frame.fin else size + len(frame.data)
        if frame.opcode is TEXT:
            self._text = Utf8Validator()
        if self._text is not None:
            self._text.feed(frame.data, frame.fin)
            if frame.fin:
                self._text = None
        return frame


# The original API's.
if not TYPE_CHECKING:
    __getattr__ = former_names(__name__)
