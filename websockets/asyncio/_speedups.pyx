# cython: language_level=3, auto_pickle=False, freethreading_compatible=True
"""The way of a message between the transport and the task. ``_channel.py`` has it in Python."""

import asyncio
import sys
import weakref

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_XDECREF

from .._speedups cimport FrameReader

from ..codec import READ_SIZE, encode_frame
from ..exceptions import ConnectionClosedOK
from ..protocol import CONNECTING, LARGE_PAYLOAD

cdef extern from "Python.h":
    ctypedef enum PySendResult:
        PYGEN_RETURN
        PYGEN_ERROR
        PYGEN_NEXT
    int PyContext_Enter(object context) except -1
    int PyContext_Exit(object context) except -1
    PyObject* _new_reference "Py_NewRef"(object value) noexcept

cdef extern from *:
    """
    #ifdef _WIN32
    static Py_ssize_t send_now(int fd, const char *data, Py_ssize_t size) { return -1; }
    #else
    #include <sys/socket.h>
    #ifndef MSG_NOSIGNAL
    #define MSG_NOSIGNAL 0
    #endif
    static Py_ssize_t send_now(int fd, const char *data, Py_ssize_t size) {
        return send(fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    #endif

    /* What is awaited may return its value instead of raising StopIteration with it, through a slot
       that Cython has no word for. CPython 3.12 does not use it in await, but has tp_iternext. */
    static sendfunc next_message_send;

    static PyObject *next_message_iternext(PyObject *self) {
        PyObject *result = NULL;
        if (next_message_send(self, Py_None, &result) != PYGEN_RETURN) return result;
        PyErr_SetObject(PyExc_StopIteration, result);
        Py_DECREF(result);
        return NULL;
    }

    static void set_slots(PyObject *type, sendfunc function) {
        next_message_send = function;
    #if !defined(PYPY_VERSION)
        ((PyTypeObject *)type)->tp_as_async->am_send = function;
        ((PyTypeObject *)type)->tp_iternext = next_message_iternext;
    #endif
    }
    """
    ctypedef PySendResult (*sendfunc)(PyObject*, PyObject*, PyObject**) except PYGEN_ERROR
    Py_ssize_t send_now(int fd, const char* data, Py_ssize_t size) noexcept nogil
    void set_slots(object type, sendfunc function)

__all__ = ["Channel", "Waiter", "set_direct"]

# How many messages and frames are handled in one callback: other connections have their turn then.
BATCH_SIZE = 256
cdef Py_ssize_t _BATCH_SIZE = 256

cdef Py_ssize_t _LARGE_PAYLOAD = LARGE_PAYLOAD

cdef object CancelledError = asyncio.CancelledError
cdef object current_task
if sys.version_info >= (3, 12):
    current_task = asyncio.current_task
else:
    # The same, without a function in Python around it.
    current_task = asyncio.tasks._current_tasks.get

cdef bint _direct = True

# The buffers that the connections of an event loop receive into, one for each loop: what arrives is
# parsed, or copied, before another connection is served.
cdef object _shared_buffers = weakref.WeakKeyDictionary()


def shared_buffer(loop):
    buffer = _shared_buffers.get(loop)
    if buffer is None:
        buffer = _shared_buffers[loop] = memoryview(bytearray(READ_SIZE))
    return buffer


def set_direct(bint direct):
    """Turn on or off that tasks are resumed at once."""
    global _direct
    _direct = direct


@cython.final
@cython.freelist(64)
cdef class Waiter:
    """An awaitable for one task at a time.

    It is not a future, but follows the same protocol, so that a task can await it. It carries no
    result: awaiting it ends when :meth:`wake` is called, or with a cancellation.
    """

    cdef public bint _asyncio_future_blocking
    cdef object _loop
    cdef object _callback
    cdef object _context
    cdef bint _done
    cdef bint _cancelled
    cdef object _message
    cdef bint _entered
    cdef bint _for_message  # whether it waits for the first message of an empty queue

    def __cinit__(self, loop):
        self._loop = loop

    cpdef wake(self):
        """Resume the task: now if that is possible, else in the next turn of the event loop."""
        global _direct
        if self._done:
            return
        self._done = True
        callback, context = self._callback, self._context
        if callback is None:
            return
        # While a task is running, stepping another is an error.
        if _direct and context is not None and current_task(self._loop) is None:
            try:
                PyContext_Enter(context)
            except RuntimeError:
                pass  # it is entered already, by whoever called us
            else:
                try:
                    callback(self)
                except (KeyboardInterrupt, SystemExit) as exc:
                    # They leave the event loop, but some swallow them in a transport's callback.
                    self._loop.call_soon(_raise, exc)
                finally:
                    PyContext_Exit(context)
                if not self._entered:
                    # The wake-up did not run the task: this interpreter does it in another way.
                    _direct = False
                return
        self._loop.call_soon(callback, self, context=context)

    # What a task needs of a future

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        if self._done:
            self._check()
            raise StopIteration
        self._asyncio_future_blocking = True
        return self

    def get_loop(self):
        return self._loop

    def add_done_callback(self, callback, *, context=None):
        if self._done:
            self._loop.call_soon(callback, self, context=context)
        else:
            self._callback, self._context = callback, context

    def remove_done_callback(self, callback):
        if self._callback != callback:
            return 0
        self._callback = None
        return 1

    def cancel(self, msg=None):
        """Cancel, as a task does with what it awaits."""
        if self._done:
            return False
        self._done = self._cancelled = True
        self._message = msg
        if self._callback is not None:
            self._loop.call_soon(self._callback, self, context=self._context)
        return True

    def done(self):
        return self._done

    def cancelled(self):
        return self._cancelled

    def result(self):
        self._entered = True
        self._check()

    def exception(self):
        self._check()

    cdef int _check(self) except -1:
        if self._cancelled:
            raise CancelledError() if self._message is None else CancelledError(self._message)
        if not self._done:
            raise asyncio.InvalidStateError("Result is not set.")
        return 0


def _raise(exc):
    raise exc


cdef enum:  # stages of what follows
    CREATED
    WAITING
    DELEGATED
    FINISHED


@cython.final
@cython.freelist(64)
cdef class NextMessage:
    """A coroutine that receives the next message.

    Where more is needed than to wait for a message and take it from the queue, it leaves that to
    the connection's own coroutine.
    """

    cdef Channel _channel
    cdef bint _iterating  # whether the end of the connection may end an iteration
    cdef int _stage
    cdef object _delegate

    def __dealloc__(self):
        if self._stage == WAITING and self._channel is not None:
            self._stop_waiting()

    cdef object _advance(self, PyObject** message):
        """Return what to wait on, or the message through the pointer."""
        cdef Channel channel = self._channel
        cdef Waiter waiter = channel._waiter
        if self._stage == CREATED:
            if channel.session.receiving is None:
                if not channel._messages:
                    if not channel._lost and not channel.session.stopped:
                        self._stage = WAITING
                        channel.session.receiving = "recv"
                        return channel._wait_for_message()
                elif self._take(message):
                    return None
        elif self._stage == FINISHED:
            raise RuntimeError("cannot reuse already awaited coroutine")
        elif waiter is not None and waiter._callback is not None and not waiter._done:
            raise RuntimeError("coroutine is being awaited already")
        elif self._stage == WAITING:
            if not waiter._done:
                # Whoever drives it is no task.
                return next(waiter)
            self._stop_waiting()
            waiter._check()
            if channel._messages and self._take(message):
                return None
        if self._stage != DELEGATED:
            self._stage = DELEGATED
            self._delegate = channel._receive_message()
        return self._send_on(message)

    cdef bint _take(self, PyObject** message) except -1:
        """Take the first message from the queue, if it is whole."""
        cdef Channel channel = self._channel
        first = channel._messages[0]
        if type(first) is not str and type(first) is not bytes:
            return False
        channel._messages.popleft()
        self._stage = FINISHED
        if not channel._in_batch and channel.session.stopped:
            channel._refill()
        message[0] = _new_reference(first)
        return True

    cdef int _stop_waiting(self) except -1:
        if self._stage == WAITING:
            self._channel._waiter = self._channel.session.receiving = None
        return 0

    cdef object _send_on(self, PyObject** message, exc=None):
        """Let the connection's coroutine go on."""
        try:
            return self._delegate.send(None) if exc is None else self._delegate.throw(exc)
        except StopIteration as stop:
            self._stage = FINISHED
            message[0] = _new_reference(stop.value)
        except ConnectionClosedOK:
            self._stage = FINISHED
            if not self._iterating:
                raise
            raise StopAsyncIteration from None
        except BaseException:
            self._stage = FINISHED
            raise

    # What a task needs of a coroutine

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        return self.send(None)

    def send(self, value):
        cdef PyObject* message = NULL
        waiter = self._advance(&message)
        if message is NULL:
            return waiter
        raise StopIteration(_steal(message))

    def throw(self, type, value=None, traceback=None):
        cdef PyObject* message = NULL
        exc = type if value is None else value
        if isinstance(exc, type_of_types):
            exc = exc()
        if self._stage == DELEGATED:
            waiter = self._send_on(&message, exc)
            if message is NULL:
                return waiter
            raise StopIteration(_steal(message))
        self.close()
        raise exc if traceback is None else exc.with_traceback(traceback)

    def close(self):
        self._stop_waiting()
        if self._stage == DELEGATED:
            self._delegate.close()
        self._stage = FINISHED


cdef object type_of_types = type


cdef object _steal(PyObject* reference):
    value = <object>reference
    Py_XDECREF(reference)
    return value


cdef PySendResult send_to_next_message(
    PyObject* self, PyObject* value, PyObject** result
) except PYGEN_ERROR:
    cdef PyObject* message = NULL
    result[0] = NULL
    waiter = (<NextMessage>self)._advance(&message)
    if message is NULL:
        result[0] = _new_reference(waiter)
        return PYGEN_NEXT
    result[0] = message
    return PYGEN_RETURN


set_slots(NextMessage, send_to_next_message)


cdef class Channel:
    """Receives into buffers, hands messages to the task that waits for them, and writes frames.

    It is the part of a connection that runs for every message; what is out of the ordinary is left
    to the connection, its subclass.

    Args:
        protocol: state machine of this side.
        session: what the connection needs beyond the protocol.
        write_limit: bytes held back, or in the write buffer, at which they are too many.
    """

    cdef readonly object protocol
    cdef readonly object session
    cdef readonly object loop
    cdef public object _transport
    cdef public bint _lost

    # Receiving
    cdef public bint handshaking
    cdef readonly FrameReader _reader
    cdef readonly object _messages
    cdef readonly object _buffer
    cdef public Waiter _waiter  # what the task that receives waits on
    cdef public bint _reading_paused
    cdef readonly bint _in_batch  # whether messages are being delivered

    # Sending
    cdef readonly Py_ssize_t write_limit_high
    cdef public int _fd  # descriptor to write to without the transport's help, if that is safe
    cdef public list _corked  # frames to leave in one write
    cdef public Py_ssize_t _corked_size
    cdef public bint _in_turn  # whether something was written in this turn of the event loop
    cdef public bint _write_paused

    def __init__(self, protocol, session, write_limit):
        self.protocol = protocol
        self.session = session
        self.loop = asyncio.get_running_loop()
        self.handshaking = protocol.state is CONNECTING
        self._reader = protocol.reader
        self._messages = session.messages
        self._buffer = shared_buffer(self.loop)
        self.write_limit_high = write_limit
        self._fd = -1
        self._corked = []

    # Receiving

    def get_buffer(self, sizehint):
        return self._reader.get_buffer(self._buffer)

    def buffer_updated(self, Py_ssize_t nbytes):
        if self.handshaking:
            self._receive_handshake(bytes(self._buffer[:nbytes]))
        elif not self.protocol.ended:
            self._reader.buffer_updated(self._buffer, nbytes)
            self.session.heard = True
            self._receive()

    cpdef _receive(self):
        """Read what has arrived, answer control frames, and deliver messages."""
        session, protocol = self.session, self.protocol
        cdef Py_ssize_t budget = _BATCH_SIZE
        cdef Waiter waiter
        self._in_batch = True
        try:
            while True:
                waiter = self._waiter
                if not (waiter is not None and waiter._for_message and protocol.plain) or not (
                    self._read_whole(session, &budget)
                ):
                    budget = session.read(budget)
                    if protocol.writes or session.pongs:
                        self._act()
                    waiter = self._waiter
                    if waiter is not None and not (
                        session.ready() or session.receiving != "recv"
                    ):
                        waiter = None
                if waiter is not None:
                    # Waking comes last: the task may do anything.
                    waiter.wake()
                    if session.stopped and waiter is self._waiter:
                        # The task has its turn later; what comes next must not be before it.
                        budget = 0
                if not session.stopped or budget <= 0 or session.full():
                    break
        finally:
            self._in_batch = False
            # Whatever has happened: the next connection receives into the same buffer.
            self._reader.keep()
            if self._corked:
                self._flush()
        if session.stopped or self._reading_paused:
            self._settle(budget <= 0)

    cdef bint _read_whole(self, session, Py_ssize_t* budget) except -1:
        """Do what ``session.read()`` does where whole messages come and the queue is empty.

        Return whether there were any.
        """
        cdef Py_ssize_t room = budget[0]
        if session.high is not None:
            room = min(room, <Py_ssize_t>session.high)
        cdef list messages = self._reader.read_messages(room)
        if not messages:
            return False
        budget[0] -= len(messages)
        self._messages.extend(messages)
        session.stopped = len(messages) == room or self._reader._unfinished()
        return True

    cdef Waiter _wait_for_message(self):
        """Return what to wait on for the first message of an empty queue."""
        cdef Waiter waiter = Waiter.__new__(Waiter, self.loop)
        waiter._for_message = waiter._asyncio_future_blocking = True
        self._waiter = waiter
        return waiter

    def __anext__(self):
        return next_message(self, True)

    def _next_message(self):
        """Return an awaitable for the next message."""
        return next_message(self, False)

    # Sending

    def _send_message(self, message):
        """Send a message in one frame, if nothing stands in the way; return whether it was sent."""
        protocol = self.protocol
        cdef bint is_text = type(message) is str
        if not is_text and type(message) is not bytes or self._write_paused:
            return False
        if len(message) >= _LARGE_PAYLOAD or not protocol.plain:
            return False
        cdef bytes frame = encode_frame(1 if is_text else 2, message, protocol.masks)
        if self._in_batch and self._corked_size < self.write_limit_high:
            self._corked.append(frame)
            self._corked_size += PyBytes_GET_SIZE(frame)
        else:
            self._write(frame)
        return True

    cpdef _write(self, bytes data):
        """Write a data frame, or a part of one.

        While messages are delivered, frames are held back to leave together when that is done. At
        other times the first one of a turn of the event loop leaves at once, and others at its end.
        """
        if self._in_batch or self._in_turn:
            self._corked.append(data)
            self._corked_size += PyBytes_GET_SIZE(data)
            if self._corked_size >= self.write_limit_high:
                self._flush()
        else:
            self._in_turn = True
            self.loop.call_soon(self._end_turn)
            self._write_now(data)

    cpdef _flush(self):
        """Write the frames that were held back."""
        cdef list corked = self._corked
        cdef Py_ssize_t size = self._corked_size
        self._corked, self._corked_size = [], 0
        if self._lost:
            return
        if len(corked) == 1:
            self._write_now(corked[0])
        elif size < _LARGE_PAYLOAD:
            self._write_now(b"".join(corked))
        else:
            self._write_large(corked)

    cpdef _write_now(self, bytes data):
        """Write to the socket, or to the transport if it has something to write before."""
        cdef Py_ssize_t written = 0
        rest = data
        if self._is_direct():
            written = send_now(self._fd, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
            if written == PyBytes_GET_SIZE(data):
                return
            if written > 0:
                rest = memoryview(data)[written:]
        # An error is left to the transport, which will meet it too.
        if not self._transport.is_closing():
            self._transport.write(rest)

    cpdef bint _is_direct(self) except -1:
        """Whether the socket may be written to.

        The application has the transport too: it may have written to it, closed it, or given it to
        another protocol, and the descriptor may be another connection's by then.
        """
        transport = self._transport
        return (
            self._fd >= 0
            and not transport.get_write_buffer_size()
            and not transport.is_closing()
            and transport.get_protocol() is self
        )


cdef NextMessage next_message(Channel channel, bint iterating):
    cdef NextMessage awaitable = NextMessage.__new__(NextMessage)
    awaitable._channel = channel
    awaitable._iterating = iterating
    return awaitable
