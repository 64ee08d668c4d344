# cython: language_level=3
"""What other extensions see of the frame codec: the reader and the encoder, without the way through Python."""

cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint64_t


cdef struct Utf8State:
    int need  # bytes that the character still lacks
    int have  # bytes of it that were seen
    uint8_t low  # bounds of the next byte
    uint8_t high
    uint8_t seen[3]


cpdef bytes encode_frame(int opcode, payload, bint masked, bint fin=*, int rsv=*)


@cython.final
cdef class FrameReader:
    cdef bint _masked
    cdef public bint extended
    cdef public object inflater
    cdef bint _limit_message
    cdef bint _limit_fragment
    cdef uint64_t _max_message
    cdef uint64_t _max_fragment

    # Bytes fed and not parsed yet: _source[_position:_end]. They belong to _owner, or are borrowed
    # from the shared buffer until the next read returns.
    cdef const uint8_t* _source
    cdef Py_ssize_t _position
    cdef Py_ssize_t _end
    cdef bytes _owner
    cdef Py_buffer _shared
    cdef bint _borrowed

    cdef readonly bint starved  # whether read_messages() stopped where bytes are lacking

    cdef readonly uint64_t frames

    # The frame being read; these mean something while _in_payload.
    cdef bint _in_payload
    cdef int _opcode
    cdef bint _fin
    cdef int _rsv
    cdef uint64_t _length
    cdef uint8_t _key[4]
    # Its payload, where it did not arrive in one piece: an unfinished object with _arrived bytes in
    # it, the first _checked of which are unmasked and checked. It is a string as long as they are
    # the ASCII text of a whole message, else bytes.
    cdef PyObject* _payload
    cdef bint _ascii
    cdef uint8_t* _data
    cdef uint64_t _room
    cdef uint64_t _arrived
    cdef uint64_t _checked
    cdef object _window  # a memoryview of its free end, handed out to receive into

    # The message being read: 0 between messages, else the opcode of its first frame.
    cdef int _message_opcode
    cdef bint _compressed
    cdef public uint64_t message_size
    cdef Utf8State _utf8
    cdef bytearray _context  # the fragments of a text before this frame, for the error

    cdef object _error

    cpdef get_buffer(self, shared)
    cpdef buffer_updated(self, shared, Py_ssize_t nbytes)
    cpdef keep(self)
    cpdef list read_messages(self, Py_ssize_t limit)
    cdef bint _unfinished(self) noexcept
    cdef int _store(self, bytes data) except -1
    cdef int _keep(self) except -1
    cdef int _close_window(self) except -1
    cdef int _reserve(self, uint64_t needed, uint64_t arrived) except -1
    cdef int _read_header(self) except -1
    cdef int _check_size(self, uint64_t length, bint compressed) except -1
    cdef bint _get_limit(self, uint64_t* limit, int64_t* before) noexcept
    cdef object _read_payload(self, bint decode)
    cdef object _inflate(self, bytes payload, bint text, bint decode)
    cdef object _whole_payload(self, bint text, bint decode)
    cdef int _take(self, size_t size, bint text) except -1
    cdef int _unmask(self, const uint8_t* source, size_t size, bint text) except -1
    cdef int _leave_ascii(self) except -1
    cdef int _check_text(
        self, const uint8_t* data, size_t size, uint64_t before, bint final
    ) except -1
    cdef int _remember(self, payload) except -1
    cdef object _joined_payload(self, bint decode)
