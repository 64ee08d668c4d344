"""permessage-deflate on a connection (RFC 7692 section 7.2): compressing and inflating.

How it is negotiated is in ``permessage_deflate.py``. Any module with the interface of :mod:`zlib`
does the work; nothing is allocated for a direction before its first compressed message.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from ..exceptions import PayloadTooBig, ProtocolError
from ..frames import CONT, Frame
from ..typing import BytesLike, ExtensionName
from .base import Extension

__all__ = ["PerMessageDeflate", "compress_for_all", "set_zlib_module"]

#: Messages of fewer bytes are sent as they are, unless the application wishes otherwise.
DEFAULT_THRESHOLD = 32

# More than any threshold, and no less than any message.
MAX_SIZE = sys.maxsize

# RFC 7692 section 7.2.1: what flushing leaves at the end of a message, and what is not sent.
TAIL = b"\x00\x00\xff\xff"

# RFC 7692 section 7.2.3.6: a message without content, and a fragment that ends one.
EMPTY = b"\x00"

# RFC 7692 section 7.2.3.4 allows blocks that end the DEFLATE stream. Behind each of them another
# stream starts, which costs much more than the two bytes of such a block.
MAX_STREAMS = 64

# Compressors that wait for their next message, of each kind: as many as threads compress at once.
MAX_POOLED = 4

# A message to many connections is compressed at most so many times for those that share history.
MAX_SHARED = 4

# Modules to choose from, the first that is installed, and the compression level that is the best
# bargain between time and size in each: see docs/performance.md.
ZLIB_MODULES = {
    "isal": ("isal.isal_zlib", 1),
    "zlib_ng": ("zlib_ng.zlib_ng", 1),
    "zlib": ("zlib", 1),
}

# The same in all of them.
Z_SYNC_FLUSH = 2
Z_FULL_FLUSH = 3

_zlib: ModuleType | None = None

# Compressors without history, by their parameters.
_pool: dict[object, list[Any]] = {}


def set_zlib_module(module: ModuleType | str | None) -> None:
    """Choose what compresses and inflates, from now on.

    Unless this is called, the environment variable ``WEBSOCKETS_ZLIB`` names it; without that, it
    is the first of ``isal``, ``zlib_ng`` and ``zlib`` that is installed, when it is first needed.

    Args:
        module: a module with the interface of :mod:`zlib`, or the name of one: ``isal``,
            ``zlib_ng`` or ``zlib``; None to choose again. Connections that have compressed messages
            already go on with what they have.

    Raises:
        ValueError: if there is no such name.
        ImportError: if it is not installed.
    """
    global _zlib
    if module is None:
        module = _choose()
    elif isinstance(module, str):
        module = _load(module)
    _zlib = module
    _pool.clear()


def _load(name: str) -> ModuleType:
    if name not in ZLIB_MODULES:
        raise ValueError(f"unknown zlib module: {name!r}; expected {', '.join(ZLIB_MODULES)}")
    return importlib.import_module(ZLIB_MODULES[name][0])


def _get_wanted() -> str:
    name = os.environ.get("WEBSOCKETS_ZLIB", "")
    if name and name not in ZLIB_MODULES:
        raise ValueError(f"WEBSOCKETS_ZLIB must be isal, zlib_ng or zlib, not {name!r}")
    return name


# A mistake in it is to be seen at once, not when the first message is compressed.
_get_wanted()


def _choose() -> ModuleType:
    if wanted := _get_wanted():
        return _load(wanted)
    for name in ZLIB_MODULES:
        try:
            return _load(name)
        except ImportError:
            pass
    raise ImportError("permessage-deflate needs Python's zlib module, zlib-ng or isal")


def _get_zlib() -> ModuleType:
    if _zlib is None:
        set_zlib_module(None)
        assert _zlib is not None
    return _zlib


def _make_compressor(window_bits: int, settings: dict[str, Any]) -> Any:
    module = _get_zlib()
    name = getattr(module, "__name__", "").partition(".")[0]
    if window_bits == 8:
        # zlib takes 9 and up. Of a window of 512 bytes it uses 250, which fit into one of 256.
        module, name, window_bits = importlib.import_module("zlib"), "zlib", 9
    settings = {"level": ZLIB_MODULES.get(name, ("", -1))[1], **settings}
    level = settings["level"]
    if name == "isal" and -1 <= level <= 9:
        # It has levels 0 to 3, and no default.
        settings["level"] = 1 if level < 0 else min(level, 3)
    return module.compressobj(wbits=-window_bits, **settings)


class SharedCompressor:
    """The compressor of connections that have been sent the same messages for some time."""

    __slots__ = ("_compressor", "sent")

    def __init__(self, compressor: Any) -> None:
        self._compressor = compressor
        self.sent = 0  # messages it has compressed

    def compress(self, data: bytes) -> bytes:
        # Should it fail halfway, nobody has been sent what it holds.
        self.sent += 1
        payload: bytes = self._compressor.compress(data)
        payload += self._compressor.flush(Z_SYNC_FLUSH)
        return payload[:-4]


class PerMessageDeflate(Extension):
    """permessage-deflate on one connection (RFC 7692).

    Args:
        remote_no_context_takeover: whether the peer compresses each message by itself.
        local_no_context_takeover: whether this side does.
        remote_max_window_bits: logarithm of the size of the peer's window, 8 to 15.
        local_max_window_bits: logarithm of the size of this side's window, 8 to 15.
        compress_settings: further arguments of :func:`zlib.compressobj`: ``level``, ``memLevel``,
            ``strategy``.
        threshold: messages of fewer bytes than this are sent uncompressed.

    Raises:
        ValueError: if a size of a window is out of range.
    """

    name = ExtensionName("permessage-deflate")

    __slots__ = (
        "_compressor",
        "_decompressor",
        "_inflating",
        "_kind",
        "_sending",
        "_shared",
        "_shared_sent",
        "compress_settings",
        "local_max_window_bits",
        "local_no_context_takeover",
        "remote_max_window_bits",
        "remote_no_context_takeover",
        "threshold",
    )

    def __init__(
        self,
        remote_no_context_takeover: bool,
        local_no_context_takeover: bool,
        remote_max_window_bits: int,
        local_max_window_bits: int,
        compress_settings: dict[str, Any] | None = None,
        *,
        threshold: int = DEFAULT_THRESHOLD,
    ) -> None:
        for bits in (remote_max_window_bits, local_max_window_bits):
            if not 8 <= bits <= 15:
                raise ValueError(f"window bits must be between 8 and 15, not {bits}")
        self.remote_no_context_takeover = remote_no_context_takeover
        self.local_no_context_takeover = local_no_context_takeover
        self.remote_max_window_bits = remote_max_window_bits
        self.local_max_window_bits = local_max_window_bits
        self.compress_settings = {} if compress_settings is None else compress_settings
        self.threshold = threshold

        # Sending
        self._sending = False  # in a fragmented message: whether it is compressed
        self._compressor: Any = None
        self._kind: object = None
        # A compressor that has been sent what this connection has, as long as it has compressed no
        # message that this connection was not sent.
        self._shared: SharedCompressor | None = None
        self._shared_sent = 0

        # Receiving
        self._inflating = False  # in a fragmented message: whether it is compressed
        self._decompressor: Any = None

    def __repr__(self) -> str:
        return (
            f"PerMessageDeflate(remote_no_context_takeover={self.remote_no_context_takeover}, "
            f"local_no_context_takeover={self.local_no_context_takeover}, "
            f"remote_max_window_bits={self.remote_max_window_bits}, "
            f"local_max_window_bits={self.local_max_window_bits})"
        )

    # The interface of extensions

    def decode(self, frame: Frame, *, max_size: int | None = None) -> Frame:
        """Inflate the payload of a frame, if its message is compressed.

        Args:
            frame: the frame.
            max_size: largest size in bytes that its payload may have afterwards.

        Returns:
            The frame as it was before compression.

        Raises:
            PayloadTooBig: if the payload would be larger than ``max_size``.
            ProtocolError: if the payload is not valid compressed data.
        """
        if frame.opcode >= 8:
            return frame
        # RFC 7692 section 6: RSV1 is set on the first frame of a compressed message only.
        if frame.opcode is not CONT:
            self._inflating = frame.rsv1
        elif frame.rsv1:
            raise ProtocolError("reserved bits must be 0")
        if not self._inflating:
            return frame
        data = self.inflate(bytes(frame.data), frame.fin, max_size)
        return dataclasses.replace(frame, data=data, rsv1=False)

    def encode(self, frame: Frame, compress: bool | None = None) -> Frame:
        """Compress the payload of a frame, if its message is to be compressed.

        Args:
            frame: the frame.
            compress: True or False to compress its message or not; None to do so from the
                threshold on, and with every fragmented message.

        Returns:
            The frame with a compressed payload.
        """
        if frame.opcode >= 8:
            return frame
        first = frame.opcode is not CONT
        if first:
            # Of a fragmented message, nobody knows the size.
            self._sending = self.wants(len(frame.data) if frame.fin else MAX_SIZE, compress)
        if not self._sending:
            return frame
        data = self._compress(frame.data, frame.fin)
        return dataclasses.replace(frame, data=data, rsv1=first)

    # Receiving

    def inflate(self, data: bytes, fin: bool, max_size: int | None) -> bytes:
        """Inflate the payload of a frame of a compressed message (RFC 7692 section 7.2.2).

        Args:
            data: the payload.
            fin: whether the frame ends its message.
            max_size: largest size in bytes of what comes out; None for no limit.

        Returns:
            What was compressed, as far as it can be told from the frames so far.

        Raises:
            PayloadTooBig: if it would be larger than ``max_size``.
            ProtocolError: if the payload is not valid compressed data.
        """
        decompressor = self._decompressor
        if decompressor is None:
            module = _get_zlib()
            decompressor = module.decompressobj(wbits=-self.remote_max_window_bits)
            self._decompressor = decompressor
        # To zlib, 0 means that there is no limit: it is asked for one byte more than may come. That
        # must be a Py_ssize_t, which nothing in memory is larger than.
        limit = 0 if max_size is None or max_size >= MAX_SIZE else max_size + 1
        try:
            result: bytes = decompressor.decompress(data + TAIL if fin else data, limit)
            if decompressor.eof:
                result = self._inflate_rest(result, fin, limit)
        except (PayloadTooBig, ProtocolError, MemoryError):
            raise
        except Exception as exc:  # each module has an error of its own
            raise ProtocolError("decompression failed") from exc
        if max_size is not None and len(result) > max_size:
            raise PayloadTooBig(None, max_size)
        if fin and self.remote_no_context_takeover:
            self._decompressor = None
        return result

    def _inflate_rest(self, result: bytes, fin: bool, limit: int) -> bytes:
        """Go on behind a block that ended the DEFLATE stream (RFC 7692 section 7.2.3.4).

        What comes next may refer to this payload, and not to what was before it: that is more than
        any compressor does, as zlib forgets its history when it ends a stream.
        """
        window = 1 << self.remote_max_window_bits
        for _ in range(MAX_STREAMS):
            rest = self._decompressor.unused_data
            self._decompressor = _get_zlib().decompressobj(
                wbits=-self.remote_max_window_bits, zdict=result[-window:]
            )
            if limit and len(result) >= limit:
                return result
            if rest and not (fin and rest == TAIL):
                result += self._decompressor.decompress(rest, limit and limit - len(result))
            if not self._decompressor.eof:
                return result
        raise ProtocolError("too many final blocks in a compressed message")

    # Sending

    def compress_message(self, data: BytesLike, compress: bool | None = None) -> bytes | None:
        """Compress a whole message, if it is to be compressed.

        Args:
            data: the message.
            compress: True or False to compress it or not; None to do so from the threshold on.

        Returns:
            The payload of a frame with RSV1 set; None if the message is to be sent as it is.
        """
        return self._compress(data, True) if self.wants(len(data), compress) else None

    def wants(self, size: int, compress: bool | None) -> bool:
        """Tell whether a whole message of that many bytes is to be compressed."""
        return size >= self.threshold if compress is None else compress

    def _compress(self, data: BytesLike, fin: bool) -> bytes:
        """Compress the payload of a frame (RFC 7692 section 7.2.1)."""
        if fin and not data:
            if self.local_no_context_takeover:
                self._compressor = None
            return EMPTY
        compressor = self._compressor
        if compressor is None:
            if self.local_no_context_takeover:
                compressor = self._take_pooled()
            else:
                compressor = self._make_compressor()
                self._shared = None
            self._compressor = compressor
        if isinstance(data, memoryview) and not data.c_contiguous:
            data = bytes(data)
        try:
            payload: bytes = compressor.compress(data)
            if fin and self.local_no_context_takeover:
                # What comes behind a full flush refers to nothing before it.
                payload += compressor.flush(Z_FULL_FLUSH)
                self._release()
            else:
                payload += compressor.flush(Z_SYNC_FLUSH)
        except BaseException:
            self.forget()  # it may hold a part of what the peer will not get
            raise
        return payload[:-4] if fin else payload

    def forget(self) -> None:
        """Start anew: the peer was not sent what was compressed last."""
        self._compressor = self._shared = None

    def _make_compressor(self) -> Any:
        return _make_compressor(self.local_max_window_bits, self.compress_settings)

    def _get_kind(self) -> object:
        """Return what compressors for this connection have in common with each other."""
        if self._kind is None:
            settings = tuple(sorted(self.compress_settings.items()))
            self._kind = self.local_max_window_bits, self.local_no_context_takeover, settings
        return self._kind

    def _take_pooled(self) -> Any:
        try:
            return _pool[self._get_kind()].pop()
        except (KeyError, IndexError):
            return self._make_compressor()

    def _release(self) -> None:
        compressor, self._compressor = self._compressor, None
        pooled = _pool.setdefault(self._get_kind(), [])
        if len(pooled) < MAX_POOLED:
            pooled.append(compressor)


def compress_for_all(extensions: Sequence[PerMessageDeflate], data: bytes) -> list[bytes]:
    """Compress a message to many connections, once for all of those that can share the result.

    Without context takeover, that is all which negotiated alike. With it, a compressor's history
    must be what its peer was sent: connections that are sent the same messages share a compressor,
    and its history, from the first of them on. One that is sent another message in between has a
    compressor of its own for it, and starts anew with the next message to all. Where that has torn
    them into too many groups, all start anew.

    Args:
        extensions: one for each connection, which must be between messages.
        data: the message.

    Returns:
        A payload for each of them; the same object where it is shared.
    """
    payloads = [EMPTY] * len(extensions)
    if not data:
        return payloads
    try:
        _compress_for_all(extensions, data, payloads)
    except BaseException:
        # Nobody is sent what was compressed so far.
        for extension in extensions:
            extension.forget()
        raise
    return payloads


def _compress_for_all(
    extensions: Sequence[PerMessageDeflate], data: bytes, payloads: list[bytes]
) -> None:
    """Fill in the payloads."""
    kinds: dict[object, dict[SharedCompressor | None, list[int]]] = {}
    seen: set[int] = set()
    again: list[int] = []
    for index, extension in enumerate(extensions):
        if id(extension) in seen:
            again.append(index)
            continue
        seen.add(id(extension))
        shared = extension._shared
        if shared is not None and extension._shared_sent != shared.sent:
            shared = None  # it has missed a message
        groups = kinds.setdefault(extension._get_kind(), {})
        groups.setdefault(shared, []).append(index)
    for groups in kinds.values():
        if len(groups) > MAX_SHARED:
            groups = {None: [index for group in groups.values() for index in group]}
        for shared, group in groups.items():
            first = extensions[group[0]]
            if first.local_no_context_takeover or (shared is None and len(group) == 1):
                payload = first._compress(data, True)
            else:
                if shared is None:
                    shared = SharedCompressor(first._make_compressor())
                payload = shared.compress(data)
                for index in group:
                    extension = extensions[index]
                    extension._compressor = None
                    extension._shared, extension._shared_sent = shared, shared.sent
            for index in group:
                payloads[index] = payload
    # Who is sent a message twice must decompress it twice.
    for index in again:
        payloads[index] = extensions[index]._compress(data, True)
