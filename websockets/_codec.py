"""The frame codec in Python. ``_speedups.pyx`` is the same in Cython, in the same order.

Both know the framing of RFC 6455 section 5 and nothing else: no I/O, no states of a connection.
"""

from __future__ import annotations

import codecs
import os
from typing import TYPE_CHECKING

from .exceptions import PayloadTooBig, ProtocolError

if TYPE_CHECKING:
    from .typing import BytesLike, DataLike, Inflater

__all__ = [
    "FrameReader",
    "Utf8Validator",
    "apply_mask",
    "encode_frame",
    "encode_header",
    "text_buffer",
]

IMPLEMENTATION = "pure"

# Masking keys are drawn from the operating system's randomness (RFC 6455 section 10.3) this many
# bytes at a time: a system call for each key would cost more than the rest of the frame.
KEY_BLOCK_SIZE = 4096

# A payload is reserved in steps: at most twice what has arrived plus this many bytes, so that a
# header that announces an exbibyte costs its sender as much as it costs us.
PAYLOAD_RESERVE = 256 * 1024

# A payload that lacks at least this many bytes is received straight into its final object.
DIRECT_RECEIVE = 64 * 1024

# One read never takes more: larger ones fall out of the cache before they are parsed.
READ_SIZE = 256 * 1024

# How much of a fragmented text message is kept for the error that shows where it went bad.
TEXT_CONTEXT = 1024 * 1024

# A compressed payload may be larger than the limit for what it holds, by this part of it and this
# many bytes: whatever a compressor is given, it needs less. What comes out is held to the limit.
EXPANSION_PART = 8
EXPANSION = 64


def apply_mask(data: BytesLike, mask: BytesLike) -> bytes:
    """XOR data with a four-byte masking key (RFC 6455 section 5.3).

    Args:
        data: bytes to mask or unmask.
        mask: masking key of four bytes.

    Returns:
        As many bytes as ``data`` has.

    Raises:
        ValueError: if the key is not four bytes long.
        TypeError: if an argument is not bytes-like.
    """
    data, mask = bytes(memoryview(data)), bytes(memoryview(mask))
    if len(mask) != 4:
        raise ValueError("mask must contain 4 bytes")
    size = len(data)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "little") ^ int.from_bytes(key, "little")).to_bytes(size, "little")


class Utf8Validator:
    """Incremental check that the pieces of a text are UTF-8 (RFC 6455 section 8.1, RFC 3629)."""

    __slots__ = ("_context", "_pending", "_position")

    def __init__(self) -> None:
        self._position = 0  # bytes seen
        self._pending = b""  # the unfinished character among them, at most three bytes
        self._context = bytearray()  # all of them, up to TEXT_CONTEXT, for the error

    def feed(self, data: BytesLike, final: bool = False) -> None:
        """Check the next piece.

        Args:
            data: the next bytes of the text.
            final: whether the text ends here. Then the next piece starts another text.

        Raises:
            UnicodeDecodeError: the error that CPython raises for the text so far, with positions
                from its start, as soon as a byte arrives that cannot be valid.
        """
        piece = self._pending + bytes(data)
        try:
            _, consumed = codecs.utf_8_decode(piece, "strict", final)
            if (
                piece[consumed : consumed + 1] == b"\xed"
                and piece[consumed + 1 : consumed + 2] > b"\x9f"
            ):
                # CPython awaits the third byte of a surrogate before it refuses the second.
                codecs.utf_8_decode(piece, "strict", True)
        except UnicodeDecodeError as exc:
            raise self._error(exc, piece) from None
        if final:
            self._position = 0
            self._pending = b""
            self._context.clear()
            return
        if self._position <= TEXT_CONTEXT:
            self._context += data
        self._position += len(piece) - len(self._pending)
        if self._position > TEXT_CONTEXT:
            self._context.clear()
        self._pending = piece[consumed:]

    def _error(self, exc: UnicodeDecodeError, piece: bytes) -> UnicodeDecodeError:
        """Move an error in the last piece to where it is in the text."""
        before = self._position - len(self._pending)
        if self._position <= TEXT_CONTEXT:
            piece = bytes(self._context[:before]) + piece
        return UnicodeDecodeError("utf-8", piece, before + exc.start, before + exc.end, exc.reason)


# A list, as taking its last item is atomic between threads.
_keys: list[bytes] = []


def _draw_key() -> bytes:
    while not _keys:
        block = os.urandom(KEY_BLOCK_SIZE)
        _keys.extend(block[i : i + 4] for i in range(0, KEY_BLOCK_SIZE, 4))
    try:
        return _keys.pop()
    except IndexError:  # another thread took it
        return _draw_key()


def _drop_keys() -> None:
    _keys.clear()


# A child process must not use the keys that its parent is about to use.
if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows has no fork
    os.register_at_fork(after_in_child=_drop_keys)


def encode_header(opcode: int, length: int, masked: bool, fin: bool = True, rsv: int = 0) -> bytes:
    """Encode a frame's header without its masking key (RFC 6455 section 5.2).

    Args:
        opcode: opcode, 0 to 15.
        length: length of the payload in bytes.
        masked: whether the mask bit is set.
        fin: whether the frame ends its message.
        rsv: reserved bits, 0 to 7; 4 is RSV1.

    Returns:
        2, 4 or 10 bytes.

    Raises:
        ValueError: if a value is out of range.
    """
    if not 0 <= opcode <= 15 or not 0 <= rsv <= 7:
        raise ValueError("opcode or reserved bits out of range")
    if not 0 <= length < 1 << 63:
        raise ValueError("length out of range")
    head = (0x80 if fin else 0) | rsv << 4 | opcode
    mask_bit = 0x80 if masked else 0
    if length < 126:
        return bytes((head, mask_bit | length))
    if length < 65536:
        return bytes((head, mask_bit | 126)) + length.to_bytes(2, "big")
    return bytes((head, mask_bit | 127)) + length.to_bytes(8, "big")


def encode_frame(
    opcode: int, payload: DataLike, masked: bool, fin: bool = True, rsv: int = 0
) -> bytes:
    """Encode a whole frame, with a fresh masking key where one is due.

    Args:
        opcode: opcode, 0 to 15.
        payload: bytes-like object, or a string to encode to UTF-8.
        masked: whether to mask, as clients must (RFC 6455 section 5.3).
        fin: whether the frame ends its message.
        rsv: reserved bits, 0 to 7; 4 is RSV1.

    Returns:
        Header and payload.

    Raises:
        TypeError: if the payload is neither a string nor bytes-like.
        UnicodeEncodeError: if a string holds surrogates, which UTF-8 cannot encode.
        ValueError: if a value is out of range.
    """
    data = payload.encode() if isinstance(payload, str) else bytes(memoryview(payload))
    header = encode_header(opcode, len(data), masked, fin, rsv)
    if not masked:
        return header + data
    key = _draw_key()
    return header + key + apply_mask(data, key)


def text_buffer(text: str) -> bytes | memoryview:
    """Return the UTF-8 of a string, not copied if it is ASCII and the codec is compiled.

    Args:
        text: a string, which the buffer keeps alive.

    Returns:
        A memoryview, or bytes.

    Raises:
        UnicodeEncodeError: if it holds surrogates, which UTF-8 cannot encode.
    """
    return text.encode()


# RFC 6455 section 5.2: the largest length that a frame can have.
LARGEST = (1 << 63) - 1


def _check_limits(max_message: int | None, max_fragment: int | None) -> None:
    if (max_message is not None and max_message < 0) or (
        max_fragment is not None and max_fragment < 0
    ):
        raise ValueError("max_size must be positive or equal to zero")


class FrameReader:
    """Incremental reader of frames: feeding stores, reading parses.

    It checks all that RFC 6455 section 5 asks of frames in their order: reserved bits and opcodes,
    masking, lengths, control frames, the sequence of fragments and, as bytes arrive, UTF-8.
    An error is raised once every good frame before it has been read, and again by every later read.

    Args:
        masked: whether frames must be masked, as a server expects, or must not be.
        max_message: largest message in bytes; None for no limit.
        max_fragment: largest payload of a data frame in bytes; None for no limit.
        extended: whether extensions are in use; may be set until the first read. Then reserved bits
            are handed on, text is not checked, as it is not text yet, and whoever decodes keeps
            ``message_size``.

    Attributes:
        inflater: what inflates messages whose first frame has RSV1 set (RFC 7692 section 6), if
            permessage-deflate is the only extension; may be set until the first read.
        frames: how many frames were read.
    """

    __slots__ = (
        "_compressed",
        "_error",
        "_fin",
        "_in_payload",
        "_key",
        "_length",
        "_masked",
        "_max_fragment",
        "_max_message",
        "_message_opcode",
        "_opcode",
        "_payload",
        "_position",
        "_rsv",
        "_source",
        "_validator",
        "extended",
        "frames",
        "inflater",
        "message_size",
        "starved",
    )

    def __init__(
        self,
        masked: bool,
        max_message: int | None = None,
        max_fragment: int | None = None,
        extended: bool = False,
    ) -> None:
        self._masked = masked
        self.limit(max_message, max_fragment)
        self.extended = extended
        self.inflater: Inflater | None = None

        # Bytes fed and not parsed yet: _source[_position:].
        self._source = b""
        self._position = 0

        # Whether read_messages() stopped where bytes are lacking.
        self.starved = False

        # How many frames were read.
        self.frames = 0

        # The frame being read; these mean something while _in_payload.
        self._in_payload = False
        self._opcode = 0
        self._fin = False
        self._rsv = 0
        self._length = 0
        self._key = b""
        self._payload = bytearray()

        # The message being read: 0 between messages, else the opcode of its first frame.
        self._message_opcode = 0
        self._compressed = False
        self.message_size = 0
        self._validator: Utf8Validator | None = None

        self._error: Exception | None = None

    def limit(self, max_message: int | None, max_fragment: int | None) -> None:
        """Set the limits, for frames whose header has not been read yet.

        Args:
            max_message: largest message in bytes; None for no limit.
            max_fragment: largest payload of a data frame in bytes; None for no limit.
        """
        _check_limits(max_message, max_fragment)
        # A limit beyond any length is none.
        self._max_message = None if (max_message or 0) > LARGEST else max_message
        self._max_fragment = None if (max_fragment or 0) > LARGEST else max_fragment

    # Feeding stores.

    def feed(self, data: BytesLike) -> None:
        """Store bytes from the peer.

        Args:
            data: the next bytes of the stream. Anything but ``bytes`` is copied.
        """
        if self._position < len(self._source):
            self._source = self._source[self._position :] + bytes(data)
        else:
            self._source = bytes(data)
        self._position = 0

    def get_buffer(self, shared: memoryview) -> memoryview:
        """Return where to receive the next bytes.

        Args:
            shared: a writable buffer that the connections of a thread have in common.

        Returns:
            The shared buffer, or room in a large payload that is under way.
        """
        return shared

    def buffer_updated(self, shared: memoryview, nbytes: int) -> None:
        """Store bytes that were received into the buffer that :meth:`get_buffer` returned last.

        The next read parses them; when it returns, or :meth:`keep` does, the shared buffer is free
        again.

        Args:
            shared: the argument of :meth:`get_buffer`.
            nbytes: how many bytes were received.

        Raises:
            ValueError: if the buffer is not that large.
        """
        if not 0 <= nbytes <= len(shared):
            raise ValueError("nbytes out of range")
        self.feed(shared[:nbytes])

    def keep(self) -> None:
        """Free the shared buffer, copying what was not parsed."""

    # Reading parses.

    def read_messages(self, limit: int) -> list[str | bytes]:
        """Read messages of one frame each, as most are.

        Stops at any other frame, at an error and where bytes are lacking: in the last case
        ``starved`` is true afterwards, in the others :meth:`read_frame` tells. With extensions in
        use it reads nothing.

        Args:
            limit: how many messages to read at most.

        Returns:
            Strings for text frames, bytes for binary ones.
        """
        messages: list[str | bytes] = []
        self.starved = False
        if self.extended or self._error is not None:
            return messages
        try:
            while len(messages) < limit:
                if not self._in_payload and not self._read_header():
                    self.starved = True
                    break
                opcode = self._opcode
                if not self._fin or opcode == 0 or opcode > 2:
                    break
                payload = self._read_payload()
                if payload is None:
                    self.starved = True
                    break
                messages.append(str(payload, "utf-8") if opcode == 1 else payload)
        except Exception as exc:
            self._error = exc
        return messages

    def read_frame(self) -> tuple[int, bytes, bool, int] | None:
        """Read the next frame.

        Returns:
            Opcode, unmasked payload, whether the frame ends its message, and reserved bits, 4 being
            RSV1; None where bytes are lacking.

        Raises:
            ProtocolError: if the frame breaks a rule of RFC 6455 section 5.
            PayloadTooBig: if it, or its message, is larger than allowed.
            UnicodeDecodeError: if a text message is not UTF-8.
        """
        if self._error is not None:
            raise self._error
        try:
            if not self._in_payload and not self._read_header():
                return None
            payload = self._read_payload()
        except Exception as exc:
            self._error = exc
            raise
        if payload is None:
            return None
        return self._opcode, payload, self._fin, self._rsv

    def eof_error(self) -> EOFError:
        """Return the error that says where the stream stands, had it ended here."""
        if self._in_payload:
            have, need = len(self._payload), self._length
        else:
            have, need = len(self._source) - self._position, 2
            if have >= 2:
                length = self._source[self._position + 1] & 0x7F
                extended = 2 if length == 126 else 8 if length == 127 else 0
                have -= 2
                if have >= extended:
                    have, need = have - extended, 4
                else:
                    need = extended
            elif have == 0:
                return EOFError("unexpected end of stream")
        return EOFError(f"stream ends after {have} bytes, expected {need} bytes")

    @property
    def in_frame(self) -> bool:
        """Whether a part of a frame has arrived and the rest has not."""
        return self._in_payload or self._position < len(self._source)

    def _read_header(self) -> bool:
        """Read a frame's header and check it; return False where bytes are lacking."""
        source, position = self._source, self._position
        available = len(source) - position
        if available < 2:
            return False

        # All that the first two bytes can show to be wrong is refused before more is awaited.
        head, second = source[position], source[position + 1]
        opcode, fin, rsv = head & 0x0F, head >= 0x80, head >> 4 & 7
        masked, length = second >= 0x80, second & 0x7F
        if 2 < opcode < 8 or opcode > 10:
            raise ProtocolError("invalid opcode")
        if masked != self._masked:
            # RFC 6455 section 5.1: clients mask, servers do not.
            raise ProtocolError("incorrect masking")
        compressed = False
        if rsv and not self.extended:
            # RFC 7692 section 6: RSV1 is set on the first frame of a message only.
            compressed = rsv == 4 and self.inflater is not None and 0 < opcode < 8
            if not compressed:
                raise ProtocolError("reserved bits must be 0")
        if opcode >= 8:
            # RFC 6455 section 5.5
            if length > 125:
                raise ProtocolError("control frame too long")
            if not fin:
                raise ProtocolError("fragmented control frame")
        # RFC 6455 section 5.4
        elif opcode == 0:
            if self._message_opcode == 0:
                raise ProtocolError("unexpected continuation frame")
            compressed = self._compressed
        elif self._message_opcode != 0:
            raise ProtocolError("expected a continuation frame")

        position += 2
        if length >= 126:
            size = 2 if length == 126 else 8
            if available < 2 + size:
                return False
            length = int.from_bytes(source[position : position + size], "big")
            position += size
            self._check_size(length, compressed or self.extended)
            if length > LARGEST:
                # RFC 6455 section 5.2: the most significant bit must be 0.
                raise ProtocolError("invalid frame length")
        elif opcode < 8:
            self._check_size(length, compressed or self.extended)
        if masked:
            if len(source) < position + 4:
                return False
            self._key = bytes(source[position : position + 4])
            position += 4

        self._position = position
        self._opcode, self._fin, self._rsv, self._length = opcode, fin, rsv, length
        if opcode < 8:
            self._compressed = compressed
        self._in_payload = True
        return True

    def _check_size(self, length: int, compressed: bool) -> None:
        limit, before = self._get_limit()
        if limit is None:
            return
        if length > limit + (limit // EXPANSION_PART + EXPANSION if compressed else 0):
            raise PayloadTooBig(length, limit, before)

    def _get_limit(self) -> tuple[int | None, int | None]:
        """Return the largest payload that may come next, and what came before if that is why."""
        fragment, message, size = self._max_fragment, self._max_message, self.message_size
        if message is not None:
            room = max(message - size, 0)
            if fragment is None or fragment >= room:
                return room, size if self._message_opcode else None
        return fragment, None

    def _read_payload(self) -> bytes | None:
        """Read and unmask what there is of the payload; return it when it is complete."""
        source, position = self._source, self._position
        filled = len(self._payload)
        end = min(len(source), position + self._length - filled)
        chunk = bytes(source[position:end])
        self._position = end
        if self._masked and chunk:
            turn = filled % 4
            chunk = apply_mask(chunk, self._key[turn:] + self._key[:turn])
        complete = filled + len(chunk) == self._length

        opcode = self._opcode
        first = opcode or self._message_opcode
        compressed = self._compressed and opcode < 8
        text = first == 1 and opcode < 8 and not self.extended
        if text and not compressed:
            self._check_text(chunk, complete, opcode == 1 and filled == 0)
        if not complete:
            self._payload += chunk
            return None

        if filled:
            self._payload += chunk
            chunk = bytes(self._payload)
            self._payload = bytearray()
        self._in_payload = False
        self.frames += 1
        if compressed:
            chunk = self._inflate(chunk)
            if text:
                self._check_text(chunk, True, opcode == 1)
        if opcode < 8:
            self._message_opcode = 0 if self._fin else first
            if not self.extended:
                self.message_size = 0 if self._fin else self.message_size + self._length
        return chunk

    def _inflate(self, payload: bytes) -> bytes:
        """Replace the payload of a frame by what was compressed."""
        assert self.inflater is not None
        limit, before = self._get_limit()
        try:
            payload = self.inflater.inflate(payload, self._fin, limit)
        except PayloadTooBig as exc:
            if before is not None:
                exc.set_current_size(before)
            raise
        self._rsv, self._length = 0, len(payload)
        return payload

    def _check_text(self, piece: bytes, complete: bool, first: bool) -> None:
        """Check a piece of text, which may complete its frame or be the first of its message."""
        if complete and first and self._fin:
            piece.decode()
        elif piece or complete:
            if self._validator is None:
                self._validator = Utf8Validator()
            self._validator.feed(piece, complete and self._fin)
