# cython: language_level=3, freethreading_compatible=True
"""The compiled parts of the asyncio runtime. ``waiter.py`` has the same in Python."""

import asyncio
import sys

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

cdef extern from "Python.h":
    int PyContext_Enter(object context) except -1
    int PyContext_Exit(object context) except -1

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
    """
    Py_ssize_t send_now(int fd, const char* data, Py_ssize_t size) noexcept nogil

__all__ = ["Waiter", "set_direct", "write_now"]

cdef object CancelledError = asyncio.CancelledError
cdef object current_task
if sys.version_info >= (3, 12):
    current_task = asyncio.current_task
else:
    # The same, without a function in Python around it.
    current_task = asyncio.tasks._current_tasks.get

cdef bint _direct = True


def set_direct(bint direct):
    """Turn on or off that tasks are resumed at once."""
    global _direct
    _direct = direct


@cython.final
cdef class Waiter:
    """An awaitable for one task at a time.

    It carries no result: awaiting it ends when :meth:`wake` is called, or with a cancellation.
    """

    cdef public bint _asyncio_future_blocking
    cdef object _loop
    cdef object _callback
    cdef object _context
    cdef bint _done
    cdef bint _cancelled
    cdef object _message
    cdef bint _entered

    def __cinit__(self, loop):
        self._loop = loop

    def wake(self):
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
            self.result()
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
        if self._cancelled:
            raise CancelledError() if self._message is None else CancelledError(self._message)
        if not self._done:
            raise asyncio.InvalidStateError("Result is not set.")

    def exception(self):
        self.result()


def _raise(exc):
    raise exc


def write_now(int fd, bytes data):
    """Write to a socket without waiting.

    Returns:
        How many bytes were written; -1 if there was an error, which the transport will meet too.
    """
    return send_now(fd, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
