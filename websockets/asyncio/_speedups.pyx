# cython: language_level=3, auto_pickle=False, freethreading_compatible=True
"""The way of a message between the transport and the task. ``_channel.py`` has it in Python."""

import asyncio
import collections
import os
import sys
import types
import weakref

cimport cython
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_XDECREF
from libc.errno cimport EAGAIN, EINTR, errno

from .._speedups cimport FrameReader, encode_frame

from ..codec import READ_SIZE, encode_header, text_buffer
from ..exceptions import ConnectionClosedOK
from ..protocol import CONNECTING, LARGE_PAYLOAD, RSV1
from ..session import inflating_cost

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
    static Py_ssize_t receive_now(int fd, void *data, Py_ssize_t size) { return -1; }
    #else
    #include <errno.h>
    #include <sys/socket.h>
    #ifndef MSG_NOSIGNAL
    #define MSG_NOSIGNAL 0
    #endif
    static Py_ssize_t send_now(int fd, const char *data, Py_ssize_t size) {
        return send(fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    static Py_ssize_t receive_now(int fd, void *data, Py_ssize_t size) {
        return recv(fd, data, size, MSG_DONTWAIT);
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

    /* A subclass written in Python looks the method up at every call, unless it has the slot. */
    static int has_anext(PyObject *type, PyObject *subtype) {
        return ((PyTypeObject *)subtype)->tp_as_async->am_anext ==
               ((PyTypeObject *)type)->tp_as_async->am_anext;
    }

    static void inherit_anext(PyObject *type, PyObject *subtype) {
        ((PyTypeObject *)subtype)->tp_as_async->am_anext =
            ((PyTypeObject *)type)->tp_as_async->am_anext;
    }

    static void set_slots(PyObject *type, sendfunc function) {
        next_message_send = function;
        ((PyTypeObject *)type)->tp_as_async->am_send = function;
        ((PyTypeObject *)type)->tp_iternext = next_message_iternext;
    }
    """
    ctypedef PySendResult (*sendfunc)(PyObject*, PyObject*, PyObject**) except PYGEN_ERROR
    Py_ssize_t send_now(int fd, const char* data, Py_ssize_t size) noexcept nogil
    Py_ssize_t receive_now(int fd, void* data, Py_ssize_t size) noexcept nogil
    void set_slots(object type, sendfunc function)
    bint has_anext(object type, object subtype)
    void inherit_anext(object type, object subtype)

__all__ = ["Channel", "set_direct", "wake"]

# How many messages and frames are handled in one callback: other connections have their turn then.
BATCH_SIZE = 256
cdef Py_ssize_t _BATCH_SIZE = BATCH_SIZE

cdef Py_ssize_t _LARGE_PAYLOAD = LARGE_PAYLOAD
cdef int _RSV1 = RSV1
cdef Py_ssize_t _READ_SIZE = READ_SIZE

cdef object Task = asyncio.Task
cdef object type_of_types = type
cdef object current_task = asyncio.current_task
# From this dictionary it takes the task, in versions where it is a function in Python.
cdef dict current_tasks = None
if sys.version_info < (3, 12):
    current_tasks = asyncio.tasks._current_tasks

# Where nest_asyncio leaves its mark, when it is applied.
cdef dict marks = asyncio.__dict__

# From 3.14 on, a task that waits is known to the future, until that future wakes it.
cdef bint _reuse = sys.version_info < (3, 14)

cdef bint _direct = True
# Whether a wake-up has been seen to run its task.
cdef bint _proven = False

# What a task is woken with when it is to wait on the same future again and again.
cdef object _done_future = asyncio.Future(loop=types.SimpleNamespace(get_debug=lambda: False))
_done_future.set_result(None)

# What the connections of an event loop have in common: the buffer that they receive into, as what
# arrives is parsed, or copied, before another connection is served; and those of them that have
# written in this turn of the loop.
cdef object _shared = weakref.WeakKeyDictionary()


def shared(loop):
    common = _shared.get(loop)
    if common is None:
        for other, (_, writers) in list(_shared.items()):
            if other.is_closed():
                writers.clear()  # they would keep it alive
        common = _shared[loop] = memoryview(bytearray(READ_SIZE)), collections.deque()
    return common


def end_turn(writers):
    """Write what was held back since each of them wrote in this turn of the event loop."""
    cdef Channel channel
    try:
        while writers:
            channel = writers.popleft()
            channel._ws_in_turn = False
            if channel._ws_corked:
                Channel._ws_flush(channel)
    finally:
        if writers:  # one of them failed
            channel.loop.call_soon(end_turn, writers)


def set_direct(bint direct):
    """Turn on or off that tasks are resumed at once."""
    global _direct
    _direct = direct


cdef inline bint is_idle(loop) except -1:
    """Whether no task of an event loop is running: then another may be stepped.

    With nest_asyncio, common in notebooks, a task may run the event loop itself, which cannot run
    the callback again that this is in.
    """
    if "_nest_patched" in marks:
        return False
    if current_tasks is not None:
        return loop not in current_tasks
    return current_task(loop) is None


def wake(future):
    """End a wait: resume the task now if that is possible, else in the next turn of the event loop.

    Args:
        future: what the task waits on.
    """
    global _direct, _proven
    if future.done():
        return
    callbacks = getattr(future, "_callbacks", None)
    if _direct and callbacks is not None and len(callbacks) == 1:
        callback, context = callbacks[0]
        task = getattr(callback, "__self__", None)
        loop = future.get_loop()
        if isinstance(task, Task) and is_idle(loop):
            future.remove_done_callback(callback)
            future.set_result(None)
            if not _step(callback, context, future, loop):
                loop.call_soon(callback, future, context=context)
            elif not _proven:
                # If it did not run the task, this interpreter does it in another way.
                _proven = _direct = task._fut_waiter is not future
            return
    future.set_result(None)


cdef bint _step(callback, context, future, loop) except -1:
    """Run the wake-up of a task, unless its context is entered already, by whoever called us."""
    try:
        PyContext_Enter(context)
    except RuntimeError:
        return False
    try:
        callback(future)
    except (KeyboardInterrupt, SystemExit) as exc:
        # They leave the event loop, but some swallow them in a callback of a transport.
        loop.call_soon(_raise, exc)
    finally:
        PyContext_Exit(context)
    return True


def _raise(exc):
    raise exc


cdef enum:  # stages of what follows
    CREATED
    WAITING
    DELEGATED
    FINISHED


@cython.final
@cython.freelist(64)
@cython.no_gc_clear
cdef class NextMessage:
    """A coroutine that receives the next message.

    Where more is needed than to wait for a message and take it from the queue, it leaves that to
    the connection's own coroutine.
    """

    cdef Channel _channel
    cdef bint _iterating  # whether the end of the connection may end an iteration
    cdef int _stage
    cdef object _delegate

    def __cinit__(self, Channel channel not None, bint iterating):
        self._channel = channel
        self._iterating = iterating

    def __dealloc__(self):
        if self._stage == WAITING:
            self._stop_waiting()

    cdef object _advance(self, PyObject** message):
        """Return what to wait on, or the message through the pointer."""
        cdef Channel channel = self._channel
        if self._stage == CREATED:
            if channel._ws_waiter is None and channel._ws_session.receiving is None:
                if not channel._ws_messages:
                    if not channel._ws_lost and (channel._ws_in_batch or not channel._stopped):
                        self._stage = WAITING
                        return channel._wait_for_message()
                elif self._take(message):
                    return None
        elif self._stage == FINISHED:
            raise RuntimeError("cannot reuse already awaited coroutine")
        elif self._is_awaited():
            raise RuntimeError("coroutine is being awaited already")
        elif self._stage == WAITING:
            if not channel._woken and not channel._ws_waiter.done():
                # Whoever drives it is no task.
                channel._ws_waiter._asyncio_future_blocking = True
                return channel._ws_waiter
            if channel._handed is not None:
                message[0] = _new_reference(channel._handed)
                channel._handed = None
            self._stop_waiting()
            if message[0] is not NULL:
                self._stage = FINISHED
                return None
            if channel._ws_messages and self._take(message):
                return None
        if self._stage != DELEGATED:
            self._stage = DELEGATED
            self._delegate = channel._ws_receive_message()
        return self._send_on(message)

    cdef bint _take(self, PyObject** message) except -1:
        """Take the first message from the queue, if it is whole."""
        cdef Channel channel = self._channel
        first = channel._ws_messages[0]
        if type(first) is not str and type(first) is not bytes:
            return False
        channel._ws_messages.popleft()
        self._stage = FINISHED
        if channel._stopped and not channel._ws_in_batch:
            channel._ws_refill()
        message[0] = _new_reference(first)
        return True

    cdef int _stop_waiting(self) except -1:
        cdef Channel channel = self._channel
        if self._stage == WAITING and channel._ws_waiter is not None:
            if not channel._waits_plainly:
                channel._ws_session.receiving = None
            channel._put_back()
            if not channel._woken:
                channel._future = None  # it is done, or somebody may still wait on it
            channel._ws_waiter = None
            channel._waits_plainly = channel._woken = False
        return 0

    cdef bint _is_awaited(self) except -1:
        waiter = self._channel._ws_waiter
        if waiter is None or self._channel._woken:
            return False
        return bool(waiter._callbacks) and not waiter.done()

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
        if self._stage == FINISHED:
            raise RuntimeError("cannot reuse already awaited coroutine")
        if self._stage == DELEGATED:
            waiter = self._send_on(&message, exc)
            if message is NULL:
                return waiter
            raise StopIteration(_steal(message))
        self.close()
        raise exc if traceback is None else exc.with_traceback(traceback)

    def close(self):
        self._stop_waiting()
        stage, self._stage = self._stage, FINISHED
        if stage == DELEGATED:
            self._delegate.close()


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
    to the connection, its subclass. Names of what both have for themselves begin with ``_ws_``: all
    others are for those who put attributes into a connection, or derive from it.

    Args:
        protocol: state machine of this side.
        session: what the connection needs beyond the protocol.
        write_limit: bytes held back, or in the write buffer, at which they are too many.
    """

    cdef readonly object protocol
    cdef readonly object _ws_session
    cdef public object loop
    cdef public object _ws_transport
    cdef public bint _ws_lost

    # Receiving
    cdef public bint _ws_handshaking
    cdef readonly FrameReader _ws_reader
    cdef readonly object _ws_messages
    cdef Py_ssize_t _room  # in the empty queue
    cdef public object _ws_buffer
    cdef public object _ws_waiter  # the future that the task that receives waits on
    # Whether it waits for the first message of an empty queue, and nothing else: the session has
    # been told that there is somebody who receives.
    cdef bint _waits_plainly
    cdef object _future  # what it waits on then, again and again
    cdef object _handed  # the message that it is resumed for, past the queue
    cdef bint _woken  # whether the task was resumed, that future being pending still
    cdef int _read_fd  # descriptor to read from
    cdef bint _is_reader  # whether the event loop was told to come here without a detour
    cdef public bint _ws_reading_paused
    cdef public bint _ws_heard  # whether anything has arrived since the timer last looked
    cdef bint _stopped  # what session.stopped was set to last
    cdef readonly bint _ws_in_batch  # whether messages are being delivered
    cdef bint _ws_in_libuv  # whether the transport is uvloop's

    # Sending
    cdef bint _masks
    cdef readonly Py_ssize_t write_limit_high
    cdef public int _ws_fd  # descriptor to write to without the transport's help, if that is safe
    cdef object _get_write_buffer_size  # methods of the transport
    cdef object _is_closing
    cdef object _get_protocol
    cdef bint _ws_in_python  # whether the transport is asyncio's: its methods are in Python
    cdef public bint _ws_exposed  # whether the application has been given the transport
    cdef public list _ws_corked  # frames to leave in one write
    cdef public Py_ssize_t _ws_corked_size
    cdef object _ws_turn  # those that have written in this turn of the event loop
    cdef public bint _ws_in_turn  # whether something was written in this turn of the event loop
    cdef public bint _ws_write_paused

    def __init__(self, protocol, session, write_limit):
        self.protocol = protocol
        self._ws_session = session
        self.loop = asyncio.get_running_loop()
        self._ws_handshaking = protocol.state is CONNECTING
        self._ws_reader = protocol.reader
        self._ws_messages = session.messages
        self._room = _BATCH_SIZE if session.high is None else min(session.high, _BATCH_SIZE)
        self._ws_buffer, self._ws_turn = shared(self.loop)
        self._masks = protocol.masks
        self.write_limit_high = write_limit
        self._ws_fd = self._read_fd = -1
        self._ws_corked = []
        cls = type(self)
        if not has_anext(Channel, cls) and cls.__anext__ is Channel.__anext__:
            inherit_anext(Channel, cls)

    def _ws_attach(self, transport, bint plain):
        """Use a transport, and its socket if it hands bytes on as they are."""
        self._ws_transport = transport
        self._ws_in_libuv = type(transport).__module__ == "uvloop.loop"
        if plain:
            self._ws_fd = transport.get_extra_info("socket").fileno()
            self._get_write_buffer_size = transport.get_write_buffer_size
            self._is_closing = transport.is_closing
            self._get_protocol = transport.get_protocol
            self._ws_in_python = type(transport).__module__ == "asyncio.selector_events" and all(
                hasattr(transport, name) for name in ("_buffer", "_closing", "_protocol")
            )
            cls = type(self)
            if (
                self._ws_in_python
                and hasattr(transport, "_read_ready_cb")
                and transport._read_ready_cb == transport._read_ready__get_buffer
                and all(
                    getattr(cls, name) is getattr(Channel, name)
                    for name in ("get_buffer", "buffer_updated")
                )
            ):
                # What the transport calls when there is something to read, until it is closed or
                # given another protocol.
                self._read_fd = self._ws_fd
                transport._read_ready_cb = self._ws_read_ready

    def _ws_detach(self):
        """The transport has closed its socket: the descriptor may soon be another one's."""
        self._ws_fd = -1
        self._get_write_buffer_size = self._is_closing = self._get_protocol = None
        if self._read_fd >= 0:
            self._read_fd = -1
            self._ws_transport._read_ready_cb = None

    # Receiving

    def get_buffer(self, sizehint):
        return self._ws_reader.get_buffer(self._ws_buffer)

    cpdef buffer_updated(self, Py_ssize_t nbytes):
        if self._ws_handshaking:
            self._ws_receive_handshake(bytes(self._ws_buffer[:nbytes]))
        elif not self.protocol.ended:
            self._ws_reader.buffer_updated(self._ws_buffer, nbytes)
            self._ws_heard = True
            Channel._ws_receive(self)
            if self._ws_in_libuv and nbytes == _READ_SIZE:
                # It reads one socket up to 32 times before it looks at others.
                self._ws_yield()
        elif self.protocol.writes:  # the application has failed it through its protocol
            self._ws_act()

    def _ws_read_ready(self):
        """Do what asyncio's transport does when there is something to read."""
        cdef Py_buffer buffer
        cdef Py_ssize_t received
        cdef int error
        transport = self._ws_transport
        if transport._protocol is not self:
            # The application has given it to another protocol.
            type(transport)._read_ready(transport)
            return
        if not self._is_reader and not self._ws_handshaking:
            # From now on the event loop comes here without a detour, until reading is paused.
            self._is_reader = True
            transport._add_reader(self._read_fd, self._ws_read_ready)
        try:
            room = self._ws_reader.get_buffer(self._ws_buffer)
            PyObject_GetBuffer(room, &buffer, PyBUF_WRITABLE)
            received = receive_now(self._read_fd, buffer.buf, buffer.len)
            error = errno
            PyBuffer_Release(&buffer)
            if received > 0:
                Channel.buffer_updated(self, received)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as exc:
            transport._fatal_error(exc, "Fatal error: protocol.buffer_updated() call failed.")
            return
        if received == 0:
            # The socket tells the end again.
            transport._read_ready__get_buffer()
        elif received < 0 and error not in (EAGAIN, EINTR):
            transport._fatal_error(
                OSError(error, os.strerror(error)), "Fatal read error on socket transport"
            )

    cpdef _ws_receive(self):
        """Read what has arrived, answer control frames, and deliver messages."""
        session, protocol = self._ws_session, self.protocol
        cdef Py_ssize_t budget = _BATCH_SIZE
        cdef list messages
        cdef bint short, stopped = False
        self._ws_in_batch = True
        try:
            while True:
                waiter = self._ws_waiter
                short = self._waits_plainly and not self._ws_messages and protocol.plain
                if short:
                    # What session.read() does where messages come whole and the queue is empty.
                    messages = self._ws_reader.read_messages(min(budget, self._room))
                    stopped = not self._ws_reader.starved
                    if not messages and stopped:
                        short = False  # it is something else that comes next
                    else:
                        if stopped != self._stopped:
                            self._stopped = session.stopped = stopped
                        budget -= len(messages)
                        if self._ws_reader.inflater is not None:
                            budget -= inflating_cost(messages)
                        if not messages:
                            waiter = None
                        elif len(messages) == 1:
                            self._handed = messages[0]
                        else:
                            self._ws_messages.extend(messages)
                        messages = None  # nobody but the receiver is to hold on to them
                if not short:
                    if self._waits_plainly:
                        self._waits_plainly = False
                        session.receiving = "recv"
                    budget = session.read(budget)
                    stopped = self._stopped = session.stopped
                    if protocol.writes or session.pongs:
                        self._ws_act()
                    waiter = self._ws_waiter
                    if waiter is not None and session.receiving == "recv" and not session.ready():
                        waiter = None
                if waiter is not None:
                    # Waking comes last: the task may do anything.
                    if not self._wake(waiter) and stopped:
                        # The task has its turn later; what comes next must not be before it.
                        budget = 0
                if not stopped or budget <= 0 or session.full():
                    break
        finally:
            self._ws_in_batch = False
            try:
                # Whatever has happened: the next connection receives into the same buffer.
                self._ws_reader.keep()
            finally:
                if self._ws_corked:
                    Channel._ws_flush(self)
        if stopped or self._ws_reading_paused:
            self._ws_settle(budget <= 0)

    cdef object _wait_for_message(self):
        """Return what to wait on for the first message of an empty queue."""
        if self._future is None:
            self._future = self.loop.create_future()
        self._future._asyncio_future_blocking = True
        self._ws_waiter = self._future
        self._waits_plainly = True
        return self._future

    cdef bint _wake(self, waiter) except -1:
        """Do what ``wake()`` does, but leave the future pending where that is possible.

        Return whether the task was resumed.
        """
        if _reuse and _direct and _proven and waiter is self._future:
            callbacks = waiter._callbacks  # None if it is done
            if callbacks is not None and len(callbacks) == 1 and is_idle(self.loop):
                callback, context = callbacks[0]
                waiter.remove_done_callback(callback)
                self._woken = True
                stepped = _step(callback, context, _done_future, self.loop)
                if not self._woken:
                    return True
                # It has not come back here: whatever it was, it has its turn later.
                self._woken = False
                self._put_back()
                if not waiter.done():
                    waiter.set_result(None)
                if not stepped:
                    self.loop.call_soon(callback, waiter, context=context)
                return False
        self._put_back()
        wake(waiter)
        return waiter is not self._ws_waiter

    cdef int _put_back(self) except -1:
        """Put the message that was to be handed over into the queue."""
        if self._handed is not None:
            handed, self._handed = self._handed, None
            self._ws_messages.appendleft(handed)
        return 0

    def __anext__(self):
        return NextMessage(self, True)

    def _ws_next_message(self):
        """Return an awaitable for the next message."""
        return NextMessage(self, False)

    # Sending

    def _ws_send_message(self, message):
        """Send a message in one frame, if nothing stands in the way; return whether it was sent."""
        cdef bint is_text = type(message) is str
        cdef int opcode = 1 if is_text else 2, rsv = 0
        cdef bytes frame
        if not is_text and type(message) is not bytes or self._ws_write_paused:
            return False
        plain = self.protocol.plain
        if plain is False:
            return False
        if plain is not True:
            payload = plain.compress_message(text_buffer(message) if is_text else message, None)
            if payload is not None:
                message, rsv = payload, _RSV1
        if len(message) >= _LARGE_PAYLOAD and not self._masks:
            data = text_buffer(message) if type(message) is str else message
            self._ws_write_large([encode_header(opcode, len(data), False, True, rsv), data])
            return True
        frame = encode_frame(opcode, message, self._masks, True, rsv)
        if self._ws_in_batch and self._ws_corked_size < self.write_limit_high:
            self._ws_corked.append(frame)
            self._ws_corked_size += PyBytes_GET_SIZE(frame)
        else:
            Channel._ws_write(self, frame)
        return True

    cpdef _ws_write(self, bytes data):
        """Write a data frame, or a part of one.

        While messages are delivered, frames are held back to leave together when that is done. At
        other times the first one of a turn of the event loop leaves at once, and others at its end.
        """
        if self._ws_in_batch or self._ws_in_turn:
            self._ws_corked.append(data)
            self._ws_corked_size += PyBytes_GET_SIZE(data)
            if self._ws_corked_size >= self.write_limit_high:
                Channel._ws_flush(self)
        else:
            if not self._ws_turn:
                self.loop.call_soon(end_turn, self._ws_turn)
            self._ws_turn.append(self)
            self._ws_in_turn = True
            Channel._ws_write_now(self, data)

    cpdef _ws_flush(self):
        """Write the frames that were held back."""
        cdef list corked = self._ws_corked
        cdef Py_ssize_t size = self._ws_corked_size
        self._ws_corked, self._ws_corked_size = [], 0
        if self._ws_lost:
            return
        if len(corked) == 1:
            Channel._ws_write_now(self, corked[0])
        elif size < _LARGE_PAYLOAD:
            Channel._ws_write_now(self, b"".join(corked))
        else:
            self._ws_write_chunks(corked)

    cpdef _ws_write_now(self, bytes data):
        """Write to the socket, or to the transport if it has something to write before."""
        cdef Py_ssize_t written = 0
        rest = data
        if Channel._ws_is_direct(self):
            written = send_now(self._ws_fd, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
            if written == PyBytes_GET_SIZE(data):
                return
            if written > 0:
                rest = memoryview(data)[written:]
        # An error is left to the transport, which will meet it too.
        if self._ws_exposed or self._ws_transport.is_closing():
            self._ws_write_exposed(rest)
        else:
            self._ws_transport.write(rest)

    cpdef bint _ws_is_direct(self) except -1:
        """Whether the socket may be written to.

        The application has the transport too: it may have written to it, closed it, or given it to
        another protocol, and the descriptor may be another connection's by then. Tests replace its
        method ``write``.
        """
        transport = self._ws_transport
        if self._ws_fd < 0:
            return False
        if self._ws_in_python:
            if self._ws_exposed and "write" in transport.__dict__:
                return False
            # The same as below, in a tenth of the time.
            return (
                not transport._buffer and not transport._closing and transport._protocol is self
            )
        return (
            not self._get_write_buffer_size()
            and not self._is_closing()
            and self._get_protocol() is self
        )
