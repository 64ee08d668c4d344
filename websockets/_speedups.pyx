# cython: language_level=3, freethreading_compatible=True
"""The frame codec in Cython. ``_codec.py`` is the same in Python, in the same order.

Both know the framing of RFC 6455 section 5 and nothing else: no I/O, no states of a connection.
"""

import codecs
import os

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.memoryview cimport PyMemoryView_FromMemory
from cpython.object cimport PyObject
from cpython.ref cimport Py_XDECREF
from cpython.unicode cimport PyUnicode_AsUTF8String, PyUnicode_DecodeUTF8
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from .exceptions import PayloadTooBig, ProtocolError

cdef extern from *:
    """
    #if defined(_MSC_VER)
    #define WEBSOCKETS_THREAD_LOCAL __declspec(thread)
    #else
    #define WEBSOCKETS_THREAD_LOCAL __thread
    #endif
    #define WEBSOCKETS_KEY_BLOCK 4096
    static WEBSOCKETS_THREAD_LOCAL unsigned char key_block[WEBSOCKETS_KEY_BLOCK];
    static WEBSOCKETS_THREAD_LOCAL int keys_left = 0;
    """
    uint8_t key_block[4096]
    int keys_left

ctypedef size_t (*xor_function)(
    uint8_t* target, const uint8_t* source, size_t size, uint64_t key, uint64_t* all
) noexcept nogil

# The long part of masking: XOR with a key of eight bytes. It returns how many bytes it has done, a
# multiple of 64 or 128, and adds them to a union, eight side by side. Compilers find such vectors by
# themselves only where source and target cannot be the same. Those of 32 bytes take three quarters
# of the time that those of 16 bytes take; whether the processor has them is asked once.
cdef extern from *:
    """
    #define WEBSOCKETS_XOR(NAME, VECTOR) \\
    static size_t NAME( \\
        uint8_t *target, const uint8_t *source, size_t size, uint64_t key, uint64_t *all \\
    ) { \\
        VECTOR keys, a, b, c, d, all_a = {0}, all_b = {0}, all_c = {0}, all_d = {0}; \\
        const size_t width = sizeof(VECTOR); \\
        size_t i, j; \\
        for (j = 0; j < width / 8; j++) keys[j] = key; \\
        for (i = 0; i + 4 * width <= size; i += 4 * width) { \\
            memcpy(&a, source + i, width); \\
            memcpy(&b, source + i + width, width); \\
            memcpy(&c, source + i + 2 * width, width); \\
            memcpy(&d, source + i + 3 * width, width); \\
            a ^= keys, b ^= keys, c ^= keys, d ^= keys; \\
            memcpy(target + i, &a, width); \\
            memcpy(target + i + width, &b, width); \\
            memcpy(target + i + 2 * width, &c, width); \\
            memcpy(target + i + 3 * width, &d, width); \\
            all_a |= a, all_b |= b, all_c |= c, all_d |= d; \\
        } \\
        all_a |= all_b | all_c | all_d; \\
        for (j = 0; j < width / 8; j++) *all |= all_a[j]; \\
        return i; \\
    }

    #if defined(__GNUC__) && (defined(__SSE2__) || defined(__ARM_NEON))
    typedef uint64_t websockets_vector __attribute__((vector_size(16)));
    WEBSOCKETS_XOR(xor_narrow, websockets_vector)
    #else
    #define xor_narrow NULL
    #endif

    #if defined(__GNUC__) && defined(__x86_64__) && defined(__GLIBC__)
    typedef uint64_t websockets_wide_vector __attribute__((vector_size(32)));
    __attribute__((target("avx2")))
    WEBSOCKETS_XOR(xor_wide, websockets_wide_vector)
    #define WEBSOCKETS_WIDE __builtin_cpu_supports("avx2")
    #else
    #define xor_wide NULL
    #define WEBSOCKETS_WIDE 0
    #endif
    """
    xor_function xor_narrow
    xor_function xor_wide
    bint WEBSOCKETS_WIDE

cdef xor_function xor_blocks = xor_wide if WEBSOCKETS_WIDE else xor_narrow

cdef extern from "Python.h":
    int PyBUF_WRITE
    int _PyBytes_Resize(PyObject** bytes_, Py_ssize_t newsize) except -1
    PyObject* _new_bytes "PyBytes_FromStringAndSize"(const char* data, Py_ssize_t size) except NULL
    char* _bytes_data "PyBytes_AS_STRING"(PyObject* bytes_) noexcept
    unicode PyUnicode_New(Py_ssize_t size, Py_UCS4 maxchar)
    PyObject* _new_text "PyUnicode_New"(Py_ssize_t size, Py_UCS4 maxchar) except NULL
    uint8_t* _text_data "PyUnicode_DATA"(PyObject* text) noexcept
    int PyUnicode_Resize(PyObject** text, Py_ssize_t length) except -1
    void* PyUnicode_DATA(object text) noexcept
    bint PyUnicode_IS_COMPACT_ASCII(object text) noexcept
    bint PyUnicode_IS_COMPACT(object text) noexcept
    int PyUnicode_KIND(object text) noexcept
    Py_ssize_t PyUnicode_GET_LENGTH(object text) noexcept

__all__ = [
    "FrameReader",
    "Utf8Validator",
    "apply_mask",
    "encode_frame",
    "encode_header",
    "text_buffer",
]

IMPLEMENTATION = "compiled"

# Masking keys are drawn from the operating system's randomness (RFC 6455 section 10.3) this many
# bytes at a time: a system call for each key would cost more than the rest of the frame.
KEY_BLOCK_SIZE = 4096

# A payload is reserved in steps: at most twice what has arrived plus this many bytes, so that a
# header that announces an exbibyte costs its sender as much as it costs us.
PAYLOAD_RESERVE = 256 * 1024
cdef uint64_t _PAYLOAD_RESERVE = 256 * 1024

# A payload that lacks at least this many bytes is received straight into its final object.
DIRECT_RECEIVE = 64 * 1024
cdef uint64_t _DIRECT_RECEIVE = 64 * 1024

# One read never takes more: larger ones fall out of the cache before they are parsed.
READ_SIZE = 256 * 1024
cdef Py_ssize_t _READ_SIZE = 256 * 1024

# How much of a fragmented text message is kept for the error that shows where it went bad.
TEXT_CONTEXT = 1024 * 1024
cdef uint64_t _TEXT_CONTEXT = 1024 * 1024

# A compressed payload may be larger than the limit for what it holds, by this part of it and this
# many bytes: whatever a compressor is given, it needs less. What comes out is held to the limit.
EXPANSION_PART = 8
cdef uint64_t _EXPANSION_PART = 8
EXPANSION = 64
cdef uint64_t _EXPANSION = 64

cdef uint64_t HIGH_BITS = 0x8080808080808080


cdef inline uint64_t xor_copy(
    uint8_t* target, const uint8_t* source, size_t size, const uint8_t* key, size_t turn
) noexcept nogil:
    """Copy while masking, starting at byte ``turn`` of the key; source and target may be the same.

    Returns the union of all bytes, eight side by side: no high bit in it means all was ASCII.
    """
    cdef uint8_t turned[8]
    cdef uint64_t key8, word, union = 0
    cdef size_t i
    for i in range(8):
        turned[i] = key[(turn + i) & 3]
    memcpy(&key8, turned, 8)
    i = 0
    if size >= 256 and xor_blocks is not NULL:
        i = xor_blocks(target, source, size, key8, &union)
    while i + 8 <= size:
        memcpy(&word, source + i, 8)
        word ^= key8
        memcpy(target + i, &word, 8)
        union |= word
        i += 8
    while i < size:
        target[i] = source[i] ^ turned[i & 7]
        union |= target[i]
        i += 1
    return union


def apply_mask(data, mask):
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
    cdef bytes source = _contiguous(data), key = _contiguous(mask)
    if PyBytes_GET_SIZE(key) != 4:
        raise ValueError("mask must contain 4 bytes")
    cdef Py_ssize_t size = PyBytes_GET_SIZE(source)
    cdef bytes result = PyBytes_FromStringAndSize(NULL, size)
    if size:
        xor_copy(
            <uint8_t*>PyBytes_AS_STRING(result),
            <const uint8_t*>PyBytes_AS_STRING(source),
            size,
            <const uint8_t*>PyBytes_AS_STRING(key),
            0,
        )
    return result


cdef inline bytes _contiguous(data):
    return <bytes>data if type(data) is bytes else bytes(memoryview(data))


cdef void utf8_reset(Utf8State* state) noexcept nogil:
    state.need = 0
    state.have = 0


cdef inline size_t utf8_character(const uint8_t* data) noexcept nogil:
    """Return the size of a character of which four bytes may be looked at; 0 if it is not valid."""
    cdef uint8_t lead = data[0]
    cdef uint32_t code  # without the last six, or twelve, bits
    if lead < 0x80:
        return 1
    if lead < 0xE0:
        return 2 if lead >= 0xC2 and data[1] & 0xC0 == 0x80 else 0
    if data[1] & 0xC0 != 0x80 or data[2] & 0xC0 != 0x80:
        return 0
    code = (lead & 0x0F) << 6 | data[1] & 0x3F
    if lead < 0xF0:
        # No overlong forms and no surrogates.
        return 3 if code >= 0x20 and code & 0x3E0 != 0x360 else 0
    # No overlong forms and nothing above U+10FFFF.
    return 4 if 0x10 <= code < 0x110 and data[3] & 0xC0 == 0x80 else 0


cdef bint utf8_check(Utf8State* state, const uint8_t* data, size_t size) noexcept nogil:
    """Go on checking UTF-8 (RFC 3629 section 4); return False at a byte that cannot be valid."""
    cdef size_t i = 0, end, length
    cdef uint64_t a, b
    cdef uint8_t byte
    cdef int need = state.need, have = state.have
    cdef uint8_t low = state.low, high = state.high
    while i < size:
        if need == 0:
            while i + 16 <= size:
                memcpy(&a, data + i, 8)
                memcpy(&b, data + i + 8, 8)
                if (a | b) & HIGH_BITS:
                    # As long a stretch, character by character.
                    end = min(i + 16, size - 3)
                    while i < end:
                        length = utf8_character(data + i)
                        if length == 0:
                            return False
                        i += length
                else:
                    i += 16
            while i < size and data[i] < 0x80:
                i += 1
            if i == size:
                break
            byte = data[i]
            low, high = 0x80, 0xBF
            if 0xC2 <= byte <= 0xDF:
                need = 1
            elif 0xE0 <= byte <= 0xEF:
                need = 2
                if byte == 0xE0:
                    low = 0xA0  # no overlong forms
                elif byte == 0xED:
                    high = 0x9F  # no surrogates
            elif 0xF0 <= byte <= 0xF4:
                need = 3
                if byte == 0xF0:
                    low = 0x90  # no overlong forms
                elif byte == 0xF4:
                    high = 0x8F  # nothing above U+10FFFF
            else:
                return False
            state.seen[0] = byte
            have = 1
            i += 1
        else:
            byte = data[i]
            if byte < low or byte > high:
                return False
            low, high = 0x80, 0xBF
            need -= 1
            if need:
                state.seen[have] = byte
                have += 1
            else:
                have = 0
            i += 1
    state.need, state.have = need, have
    state.low, state.high = low, high
    return True


cdef object utf8_error(bytes context, bytes piece, uint64_t before):
    """Return the error in ``context + piece``, ``before`` bytes having gone before the piece."""
    try:
        codecs.utf_8_decode(piece, "strict", True)
    except UnicodeDecodeError as exc:
        return UnicodeDecodeError(
            "utf-8", context + piece, before + exc.start, before + exc.end, exc.reason
        )
    raise AssertionError("the validator refuses what the decoder takes")


@cython.final
cdef class Utf8Validator:
    """Incremental check that the pieces of a text are UTF-8 (RFC 6455 section 8.1, RFC 3629)."""

    cdef uint64_t _position  # bytes seen
    cdef Utf8State _state  # the unfinished character among them
    cdef bytearray _context  # all of them, up to TEXT_CONTEXT, for the error

    def __cinit__(self):
        self._position = 0
        utf8_reset(&self._state)
        self._context = bytearray()

    def feed(self, data, bint final=False):
        """Check the next piece.

        Args:
            data: the next bytes of the text.
            final: whether the text ends here. Then the next piece starts another text.

        Raises:
            UnicodeDecodeError: the error that CPython raises for the text so far, with positions
                from its start, as soon as a byte arrives that cannot be valid.
        """
        cdef bytes piece = _contiguous(data)
        cdef Utf8State before = self._state
        cdef bint valid = utf8_check(
            &self._state, <const uint8_t*>PyBytes_AS_STRING(piece), PyBytes_GET_SIZE(piece)
        )
        if not valid or (final and self._state.need):
            self._state = before
            piece = (<const char*>before.seen)[: before.have] + piece
            context = b""
            if self._position <= _TEXT_CONTEXT:
                context = bytes(self._context[: self._position - before.have])
            raise utf8_error(context, piece, self._position - before.have)
        if final:
            self._position = 0
            self._context.clear()
            return
        if self._position <= _TEXT_CONTEXT:
            self._context += piece
        self._position += PyBytes_GET_SIZE(piece)
        if self._position > _TEXT_CONTEXT:
            self._context.clear()


cdef int _draw_keys() except -1:
    global keys_left
    cdef bytes keys = os.urandom(KEY_BLOCK_SIZE)
    if PyBytes_GET_SIZE(keys) != sizeof(key_block):
        raise OSError("no randomness for masking keys")
    memcpy(key_block, PyBytes_AS_STRING(keys), sizeof(key_block))
    keys_left = sizeof(key_block)
    return 0


cdef inline int _draw_key(uint8_t* key) except -1:
    global keys_left
    if keys_left < 4:
        _draw_keys()
    keys_left -= 4
    memcpy(key, key_block + keys_left, 4)
    return 0


def _drop_keys():
    global keys_left
    keys_left = 0


# A child process must not use the keys that its parent is about to use.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_drop_keys)


cdef inline Py_ssize_t header_size(uint64_t length) noexcept nogil:
    return 2 if length < 126 else 4 if length < 65536 else 10


cdef inline void write_header(
    uint8_t* target, int opcode, uint64_t length, bint masked, bint fin, int rsv
) noexcept nogil:
    cdef int i
    cdef uint8_t mask_bit = 0x80 if masked else 0
    target[0] = <uint8_t>((0x80 if fin else 0) | rsv << 4 | opcode)
    if length < 126:
        target[1] = mask_bit | <uint8_t>length
    elif length < 65536:
        target[1] = mask_bit | 126
        target[2] = <uint8_t>(length >> 8)
        target[3] = <uint8_t>(length & 0xFF)
    else:
        target[1] = mask_bit | 127
        for i in range(8):
            target[2 + i] = <uint8_t>(length >> (56 - 8 * i) & 0xFF)


cdef inline int check_header(int opcode, int rsv) except -1:
    if not 0 <= opcode <= 15 or not 0 <= rsv <= 7:
        raise ValueError("opcode or reserved bits out of range")
    return 0


def encode_header(int opcode, length, bint masked, bint fin=True, int rsv=0):
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
    check_header(opcode, rsv)
    if not 0 <= length < 1 << 63:
        raise ValueError("length out of range")
    cdef uint64_t size = length
    cdef bytes header = PyBytes_FromStringAndSize(NULL, header_size(size))
    write_header(<uint8_t*>PyBytes_AS_STRING(header), opcode, size, masked, fin, rsv)
    return header


cpdef bytes encode_frame(int opcode, payload, bint masked, bint fin=True, int rsv=0):
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
    cdef bytes data
    cdef const uint8_t* source
    cdef Py_ssize_t size, start
    cdef uint8_t* target
    if isinstance(payload, str):
        if PyUnicode_IS_COMPACT_ASCII(payload):
            source = <const uint8_t*>PyUnicode_DATA(payload)
            size = PyUnicode_GET_LENGTH(payload)
        else:
            data = encode_text(payload)
            source = <const uint8_t*>PyBytes_AS_STRING(data)
            size = PyBytes_GET_SIZE(data)
    else:
        data = _contiguous(payload)
        source = <const uint8_t*>PyBytes_AS_STRING(data)
        size = PyBytes_GET_SIZE(data)
    check_header(opcode, rsv)
    start = header_size(size) + (4 if masked else 0)
    cdef bytes frame = PyBytes_FromStringAndSize(NULL, start + size)
    target = <uint8_t*>PyBytes_AS_STRING(frame)
    write_header(target, opcode, size, masked, fin, rsv)
    if masked:
        _draw_key(target + start - 4)
        xor_copy(target + start, source, size, target + start - 4, 0)
    else:
        memcpy(target + start, source, size)
    return frame


cdef bytes encode_text(text):
    """Encode a string to UTF-8.

    CPython's encoder looks at each character by itself. Where there are characters up to U+00FF,
    most are ASCII: eight at a time are copied.
    """
    if not PyUnicode_IS_COMPACT(text) or PyUnicode_KIND(text) != 1:
        return PyUnicode_AsUTF8String(text)
    cdef const uint8_t* source = <const uint8_t*>PyUnicode_DATA(text)
    cdef Py_ssize_t i, size = PyUnicode_GET_LENGTH(text), length = size
    for i in range(size):
        length += source[i] >> 7
    cdef bytes data = PyBytes_FromStringAndSize(NULL, length)
    cdef uint8_t* target = <uint8_t*>PyBytes_AS_STRING(data)
    cdef uint8_t high
    cdef uint64_t word
    i = 0
    while i < size:
        if i + 8 <= size:
            memcpy(&word, source + i, 8)
            if not word & HIGH_BITS:
                memcpy(target, &word, 8)
                target += 8
                i += 8
                continue
        # Without branches, which would be mispredicted. What is written behind an ASCII character is
        # overwritten by the next one.
        for i in range(i, min(i + 8, size)):
            high = source[i] >> 7
            target[0] = (0xC0 | source[i] >> 6) if high else source[i]
            if i + 1 < size or high:
                target[1] = 0x80 | source[i] & 0x3F
            target += 1 + high
        i += 1
    return data


@cython.final
cdef class _Characters:
    """The memory of an ASCII string, which is its UTF-8, for :func:`text_buffer`."""

    cdef str _text

    def __cinit__(self, str text):
        self._text = text

    def __getbuffer__(self, Py_buffer* view, int flags):
        PyBuffer_FillInfo(
            view, self, PyUnicode_DATA(self._text), PyUnicode_GET_LENGTH(self._text), True, flags
        )


def text_buffer(str text):
    """Return the UTF-8 of a string, not copied if it is ASCII and the codec is compiled.

    Args:
        text: a string, which the buffer keeps alive.

    Returns:
        A memoryview, or bytes.

    Raises:
        UnicodeEncodeError: if it holds surrogates, which UTF-8 cannot encode.
    """
    if PyUnicode_IS_COMPACT_ASCII(text):
        return memoryview(_Characters(text))
    return encode_text(text)


# RFC 6455 section 5.2: the largest length that a frame can have.
LARGEST = (1 << 63) - 1


cdef int _check_limits(max_message, max_fragment) except -1:
    if (max_message is not None and max_message < 0) or (
        max_fragment is not None and max_fragment < 0
    ):
        raise ValueError("max_size must be positive or equal to zero")
    return 0


@cython.final
cdef class FrameReader:
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

    def __cinit__(self, bint masked, max_message=None, max_fragment=None, bint extended=False):
        self._masked = masked
        self.limit(max_message, max_fragment)
        self.extended = extended
        utf8_reset(&self._utf8)

    def __dealloc__(self):
        if self._borrowed:
            PyBuffer_Release(&self._shared)
        Py_XDECREF(self._payload)

    @cython.critical_section
    def limit(self, max_message, max_fragment):
        """Set the limits, for frames whose header has not been read yet.

        Args:
            max_message: largest message in bytes; None for no limit.
            max_fragment: largest payload of a data frame in bytes; None for no limit.
        """
        _check_limits(max_message, max_fragment)
        # A limit beyond any length is none.
        self._limit_message = max_message is not None and max_message <= LARGEST
        self._max_message = max_message if self._limit_message else 0
        self._limit_fragment = max_fragment is not None and max_fragment <= LARGEST
        self._max_fragment = max_fragment if self._limit_fragment else 0

    # Feeding stores.

    @cython.critical_section
    def feed(self, data):
        """Store bytes from the peer.

        Args:
            data: the next bytes of the stream. Anything but ``bytes`` is copied.
        """
        self._close_window()
        self._store(_contiguous(data))

    @cython.critical_section
    cpdef get_buffer(self, shared):
        """Return where to receive the next bytes.

        Args:
            shared: a writable buffer that the connections of a thread have in common.

        Returns:
            The shared buffer, or room in a large payload that is under way.
        """
        self._keep()
        if (
            not self._in_payload
            or self._position < self._end
            or self._length - self._arrived < _DIRECT_RECEIVE
        ):
            return shared
        self._close_window()
        self._reserve(self._arrived + _READ_SIZE, self._arrived)
        self._window = PyMemoryView_FromMemory(
            <char*>self._data + self._arrived,
            min(<Py_ssize_t>(self._room - self._arrived), _READ_SIZE),
            PyBUF_WRITE,
        )
        return self._window

    @cython.critical_section
    cpdef buffer_updated(self, shared, Py_ssize_t nbytes):
        """Store bytes that were received into the buffer that :meth:`get_buffer` returned last.

        The next read parses them; when it returns, or :meth:`keep` does, the shared buffer is free
        again.

        Args:
            shared: the argument of :meth:`get_buffer`.
            nbytes: how many bytes were received.

        Raises:
            ValueError: if the buffer is not that large.
        """
        if self._window is not None:
            if not 0 <= nbytes <= len(self._window):
                raise ValueError("nbytes out of range")
            self._arrived += nbytes
            self._close_window()
            return
        self._keep()
        PyObject_GetBuffer(shared, &self._shared, PyBUF_SIMPLE)
        if not 0 <= nbytes <= self._shared.len:
            PyBuffer_Release(&self._shared)
            raise ValueError("nbytes out of range")
        if self._position < self._end:
            try:
                self._store(PyBytes_FromStringAndSize(<char*>self._shared.buf, nbytes))
            finally:
                PyBuffer_Release(&self._shared)
            return
        self._owner = None
        self._source = <const uint8_t*>self._shared.buf
        self._position, self._end = 0, nbytes
        self._borrowed = True

    @cython.critical_section
    cpdef keep(self):
        """Free the shared buffer, copying what was not parsed."""
        self._keep()

    # Reading parses.

    @cython.critical_section
    cpdef list read_messages(self, Py_ssize_t limit):
        """Read messages of one frame each, as most are.

        Stops at any other frame, at an error and where bytes are lacking: in the last case
        ``starved`` is true afterwards, in the others :meth:`read_frame` tells. With extensions in
        use it reads nothing.

        Args:
            limit: how many messages to read at most.

        Returns:
            Strings for text frames, bytes for binary ones.
        """
        cdef list messages = []
        cdef object payload
        cdef Py_ssize_t count = 0
        self.starved = False
        if self.extended or self._error is not None:
            self._keep()
            return messages
        try:
            while count < limit:
                if not self._in_payload and not self._read_header():
                    self.starved = True
                    break
                if not self._fin or self._opcode == 0 or self._opcode > 2:
                    break
                payload = self._read_payload(True)
                if payload is None:
                    self.starved = True
                    break
                messages.append(payload)
                count += 1
        except Exception as exc:
            self._error = exc
        finally:
            self._keep()
        return messages

    @cython.critical_section
    def read_frame(self):
        """Read the next frame.

        Returns:
            Opcode, unmasked payload, whether the frame ends its message, and reserved bits, 4 being
            RSV1; None where bytes are lacking.

        Raises:
            ProtocolError: if the frame breaks a rule of RFC 6455 section 5.
            PayloadTooBig: if it, or its message, is larger than allowed.
            UnicodeDecodeError: if a text message is not UTF-8.
        """
        cdef object payload
        if self._error is not None:
            raise self._error
        try:
            if not self._in_payload and not self._read_header():
                return None
            payload = self._read_payload(False)
        except Exception as exc:
            self._error = exc
            raise
        finally:
            self._keep()
        if payload is None:
            return None
        return self._opcode, payload, bool(self._fin), self._rsv

    @cython.critical_section
    def eof_error(self):
        """Return the error that says where the stream stands, had it ended here."""
        cdef uint64_t have, need
        cdef int extended
        if self._in_payload:
            have, need = self._arrived, self._length
        else:
            have, need = self._end - self._position, 2
            if have >= 2:
                extended = self._source[self._position + 1] & 0x7F
                extended = 2 if extended == 126 else 8 if extended == 127 else 0
                have -= 2
                if have >= <uint64_t>extended:
                    have, need = have - extended, 4
                else:
                    need = extended
            elif have == 0:
                return EOFError("unexpected end of stream")
        return EOFError(f"stream ends after {have} bytes, expected {need} bytes")

    @property
    def in_frame(self):
        """Whether a part of a frame has arrived and the rest has not."""
        return self._unfinished()

    cdef bint _unfinished(self) noexcept:
        return self._in_payload or self._position < self._end

    cdef int _store(self, bytes data) except -1:
        self._keep()
        if self._position < self._end:
            data = self._owner[self._position :] + data
        self._owner = data
        self._source = <const uint8_t*>PyBytes_AS_STRING(data)
        self._position, self._end = 0, PyBytes_GET_SIZE(data)
        return 0

    cdef int _keep(self) except -1:
        """Copy what is left of the bytes that were borrowed, and give them back."""
        if not self._borrowed:
            return 0
        try:
            self._owner = PyBytes_FromStringAndSize(
                <const char*>self._source + self._position, self._end - self._position
            )
        finally:
            self._borrowed = False
            PyBuffer_Release(&self._shared)
        self._source = <const uint8_t*>PyBytes_AS_STRING(self._owner)
        self._position, self._end = 0, PyBytes_GET_SIZE(self._owner)
        return 0

    cdef int _close_window(self) except -1:
        """End the life of the memoryview into the payload, which is about to move or be finished.

        An event loop in C may still hold it, until the callback that it is in returns.
        """
        if self._window is None:
            return 0
        window, self._window = self._window, None
        try:
            window.release()
        except BufferError:
            pass
        return 0

    cdef int _reserve(self, uint64_t needed, uint64_t arrived) except -1:
        """Make room for ``needed`` bytes of the payload, ``arrived`` ones being here."""
        cdef uint64_t size = self._length, allowed = 2 * arrived + _PAYLOAD_RESERVE
        if self._payload is not NULL and self._room >= min(size, needed):
            return 0
        # Growing may copy what is here: no more is reserved than is filled by the time, give or
        # take a read, that the next size is allowed.
        while size > allowed:
            size = (size - _PAYLOAD_RESERVE) // 2 + _READ_SIZE
        try:
            if self._payload is NULL:
                if self._ascii:
                    self._payload = _new_text(<Py_ssize_t>size, 127)
                else:
                    self._payload = _new_bytes(NULL, <Py_ssize_t>size)
            elif self._ascii:
                PyUnicode_Resize(&self._payload, <Py_ssize_t>size)
            else:
                _PyBytes_Resize(&self._payload, <Py_ssize_t>size)
        except MemoryError as exc:
            # What had arrived is lost, and the stream with it.
            self._error = exc
            raise
        self._room = size
        if self._ascii:
            self._data = _text_data(self._payload)
        else:
            self._data = <uint8_t*>_bytes_data(self._payload)
        return 0

    cdef int _read_header(self) except -1:
        """Read a frame's header and check it; return False where bytes are lacking."""
        cdef const uint8_t* source = self._source + self._position
        cdef Py_ssize_t available = self._end - self._position
        if available < 2:
            return False

        # All that the first two bytes can show to be wrong is refused before more is awaited.
        cdef int opcode = source[0] & 0x0F, rsv = source[0] >> 4 & 7
        cdef bint fin = source[0] >= 0x80, masked = source[1] >= 0x80
        cdef uint64_t length = source[1] & 0x7F
        if 2 < opcode < 8 or opcode > 10:
            raise ProtocolError("invalid opcode")
        if masked != self._masked:
            # RFC 6455 section 5.1: clients mask, servers do not.
            raise ProtocolError("incorrect masking")
        cdef bint compressed = False
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

        cdef Py_ssize_t position = 2, size
        cdef int i
        if length >= 126:
            size = 2 if length == 126 else 8
            if available < 2 + size:
                return False
            length = 0
            for i in range(size):
                length = length << 8 | source[2 + i]
            position += size
            self._check_size(length, compressed or self.extended)
            if length >> 63:
                # RFC 6455 section 5.2: the most significant bit must be 0.
                raise ProtocolError("invalid frame length")
        elif opcode < 8:
            self._check_size(length, compressed or self.extended)
        if masked:
            if available < position + 4:
                return False
            memcpy(self._key, source + position, 4)
            position += 4

        self._position += position
        self._opcode, self._fin, self._rsv, self._length = opcode, fin, rsv, length
        if opcode < 8:
            self._compressed = compressed
        self._arrived = self._checked = 0
        self._ascii = False
        self._in_payload = True
        return True

    cdef int _check_size(self, uint64_t length, bint compressed) except -1:
        cdef uint64_t limit
        cdef int64_t before
        if not self._get_limit(&limit, &before):
            return 0
        if length > limit + (limit // _EXPANSION_PART + _EXPANSION if compressed else 0):
            raise PayloadTooBig(length, limit, None if before < 0 else before)
        return 0

    cdef bint _get_limit(self, uint64_t* limit, int64_t* before) noexcept:
        """Return the largest payload that may come next, and what came before if that is why.

        The latter is -1 if nothing did.
        """
        cdef uint64_t room
        if self._limit_message:
            room = self._max_message - min(self.message_size, self._max_message)
            if not self._limit_fragment or self._max_fragment >= room:
                limit[0] = room
                before[0] = <int64_t>self.message_size if self._message_opcode else -1
                return True
        limit[0], before[0] = self._max_fragment, -1
        return self._limit_fragment

    cdef object _read_payload(self, bint decode):
        """Read and unmask what there is of the payload; return it when it is complete."""
        cdef uint64_t available = self._end - self._position
        cdef int first = self._opcode or self._message_opcode
        cdef bint compressed = self._compressed and self._opcode < 8
        cdef bint text = first == 1 and self._opcode < 8 and not self.extended and not compressed
        cdef object payload
        if self._payload is NULL and available >= self._length:
            payload = self._whole_payload(text, decode)
        else:
            if self._payload is NULL and text and decode:
                # Most text is ASCII: it is received into a string, which is ready if that holds.
                self._ascii = True
            self._take(min(available, self._length - self._arrived), text)
            if self._arrived < self._length:
                return None
            payload = self._joined_payload(text and decode)
        self._in_payload = False
        self.frames += 1
        if compressed:
            text = first == 1
            payload = self._inflate(payload, text, decode)
        if self._opcode < 8:
            if text:
                self._remember(payload)
            self._message_opcode = 0 if self._fin else first
            if not self.extended:
                self.message_size = 0 if self._fin else self.message_size + self._length
        return payload

    cdef object _inflate(self, bytes payload, bint text, bint decode):
        """Replace the payload of a frame by what was compressed."""
        cdef uint64_t limit
        cdef int64_t before
        cdef bint limited = self._get_limit(&limit, &before)
        cdef bytes data
        cdef const uint8_t* source
        cdef Py_ssize_t size
        try:
            data = self.inflater.inflate(payload, bool(self._fin), limit if limited else None)
        except PayloadTooBig as exc:
            if before >= 0:
                exc.set_current_size(before)
            raise
        source, size = <const uint8_t*>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data)
        self._rsv, self._length = 0, size
        if text:
            if decode:
                return PyUnicode_DecodeUTF8(<const char*>source, size, NULL)
            self._check_text(source, size, 0, self._fin)
        return data

    cdef object _whole_payload(self, bint text, bint decode):
        """Make the payload of a frame that has arrived in one piece."""
        cdef const uint8_t* source = self._source + self._position
        cdef Py_ssize_t size = <Py_ssize_t>self._length
        cdef uint64_t union = 0
        cdef bytes data
        cdef unicode ascii
        cdef uint8_t* target
        self._position += size
        if text and decode and size > 1:
            # Most text is ASCII: unmask into a string, which is ready if that holds.
            ascii = PyUnicode_New(size, 127)
            target = <uint8_t*>PyUnicode_DATA(ascii)
            if not xor_copy(target, source, size, self._key, 0) & HIGH_BITS:
                return ascii
            return PyUnicode_DecodeUTF8(<const char*>target, size, NULL)
        data = PyBytes_FromStringAndSize(NULL, size)
        target = <uint8_t*>PyBytes_AS_STRING(data)
        if size:
            union = xor_copy(target, source, size, self._key, 0)
        if text:
            if self._utf8.need or union & HIGH_BITS:
                self._check_text(target, size, 0, self._fin)
            if decode:
                return PyUnicode_DecodeUTF8(<const char*>target, size, NULL)
        return data

    cdef int _take(self, size_t size, bint text) except -1:
        """Add bytes from the source to the unfinished payload, behind what was received into it."""
        cdef const uint8_t* source = self._source + self._position
        cdef size_t unchecked = self._arrived - self._checked
        if size:
            self._reserve(self._arrived + size, self._arrived + size)
            if unchecked:
                memcpy(self._data + self._arrived, source, size)
            self._arrived += size
            self._position += size
        if unchecked:
            source = self._data + self._checked
        if unchecked + size:
            self._unmask(source, unchecked + size, text)
        return 0

    cdef int _unmask(self, const uint8_t* source, size_t size, bint text) except -1:
        """Unmask and check the next bytes of the unfinished payload, wherever they are."""
        cdef uint8_t* target = self._data + self._checked
        cdef uint64_t union = 0
        if self._masked or text or source != target:
            union = xor_copy(target, source, size, self._key, self._checked & 3)
        if text and (self._utf8.need or union & HIGH_BITS):
            self._check_text(
                target, size, self._checked, self._fin and self._arrived == self._length
            )
            if self._ascii:
                self._leave_ascii()
        self._checked += size
        return 0

    cdef int _leave_ascii(self) except -1:
        """Go on in a bytes object, as a text was not ASCII after all."""
        cdef PyObject* text = self._payload
        cdef const uint8_t* data = self._data
        self._payload = NULL
        self._ascii = False
        try:
            self._reserve(self._arrived, self._arrived)
            memcpy(self._data, data, self._arrived)
        finally:
            Py_XDECREF(text)
        return 0

    cdef int _check_text(
        self, const uint8_t* data, size_t size, uint64_t before, bint final
    ) except -1:
        """Check a piece of text, ``before`` bytes of its frame having gone before it."""
        cdef Utf8State state = self._utf8
        cdef uint64_t position
        if utf8_check(&self._utf8, data, size) and not (final and self._utf8.need):
            return 0
        cdef bytes piece = (<const char*>state.seen)[: state.have] + (<const char*>data)[:size]
        cdef bytes context = b""
        position = self.message_size + before
        if position <= _TEXT_CONTEXT:
            if self._context is not None:
                context = bytes(self._context)
            if before:
                context += (<const char*>self._data)[:before]
            context = context[: position - state.have]
        raise utf8_error(context, piece, position - state.have)

    cdef int _remember(self, payload) except -1:
        """Keep a fragment of a text for the error, as long as the text is not too long."""
        if self._fin:
            self._context = None
        elif self.message_size + self._length > _TEXT_CONTEXT:
            self._context = None
        elif self._context is None:
            self._context = bytearray(payload)
        else:
            self._context += payload
        return 0

    cdef object _joined_payload(self, bint decode):
        """Make the payload of a frame that has arrived in several pieces."""
        cdef object payload
        if self._ascii == decode:
            payload = <object>self._payload
        elif decode:
            payload = PyUnicode_DecodeUTF8(<const char*>self._data, <Py_ssize_t>self._length, NULL)
        else:
            payload = PyUnicode_AsUTF8String(<object>self._payload)
        Py_XDECREF(self._payload)
        self._payload = NULL
        return payload
