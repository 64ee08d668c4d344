"""
Everything this package raises.

The hierarchy, below :exc:`WebSocketException`:

* :exc:`ConnectionClosed`: :exc:`ConnectionClosedOK`, :exc:`ConnectionClosedError`
* :exc:`InvalidURI`
* :exc:`InvalidProxy`
* :exc:`InvalidHandshake`

  * :exc:`SecurityError`: :exc:`RequestLineTooLong`, :exc:`StatusLineTooLong`,
    :exc:`HeaderLineTooLong`, :exc:`TooManyHeaders`
  * :exc:`ProxyError`: :exc:`InvalidProxyMessage`, :exc:`InvalidProxyStatus`
  * :exc:`InvalidMessage`, :exc:`InvalidMethod`, :exc:`InvalidProtocol`, :exc:`InvalidStatus`
  * :exc:`InvalidHeader`: :exc:`InvalidHeaderFormat`, :exc:`InvalidHeaderValue`,
    :exc:`InvalidOrigin`, :exc:`InvalidUpgrade`
  * :exc:`NegotiationError`: :exc:`DuplicateParameter`, :exc:`InvalidParameterName`,
    :exc:`InvalidParameterValue`

* :exc:`ProtocolError`, :exc:`PayloadTooBig`, :exc:`TooManyFragments`: these fail a connection;
  the application gets :exc:`ConnectionClosedError` with one of them as ``__cause__``
* :exc:`InvalidState` (an :exc:`AssertionError`) and :exc:`ConcurrencyError`
  (a :exc:`RuntimeError`): the caller's mistakes

Every exception can be pickled, and is formatted when it is printed, not when it is raised.
"""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING

from .former import former_names

if TYPE_CHECKING:
    from .frames import Close
    from .http11 import Response

__all__ = [
    "WebSocketException",
    "ConnectionClosed",
    "ConnectionClosedOK",
    "ConnectionClosedError",
    "InvalidURI",
    "InvalidProxy",
    "InvalidHandshake",
    "SecurityError",
    "RequestLineTooLong",
    "StatusLineTooLong",
    "HeaderLineTooLong",
    "TooManyHeaders",
    "TooManyFragments",
    "ProxyError",
    "InvalidProxyMessage",
    "InvalidProxyStatus",
    "InvalidMessage",
    "InvalidMethod",
    "InvalidProtocol",
    "InvalidStatus",
    "InvalidHeader",
    "InvalidHeaderFormat",
    "InvalidHeaderValue",
    "InvalidOrigin",
    "InvalidUpgrade",
    "NegotiationError",
    "DuplicateParameter",
    "InvalidParameterName",
    "InvalidParameterValue",
    "ProtocolError",
    "PayloadTooBig",
    "InvalidState",
    "ConcurrencyError",
]


_ESCAPES = {code: repr(chr(code))[1:-1] for code in (*range(0x20), *range(0x7F, 0xA0))}


def printable(text: str) -> str:
    """
    Return a text that came from the peer as it may be shown: with control characters escaped.

    They would begin lines of their own in a log, and command a terminal.

    Args:
        text: the text.
    """
    return text.translate(_ESCAPES)


# The user information of a URL, from the colon on (RFC 3986 section 3.2.1). If what must be encoded
# in it is not, it ends early, and seems to be a port that is no number.
_hide_password = re.compile(r"(//[^/?#:]*):(?:[^/?#]*@|(?![0-9]*+(?:[/?#]|\Z)).*@)", re.DOTALL).sub

# What an exception of urllib quotes of a URL, which has a user name.
_hide_quoted = re.compile(r"(['\"]).*\1", re.DOTALL).sub


def forget_frames(exc: BaseException | None) -> None:
    """
    Forget where an exception was raised that is kept for others to look at.

    The frames in its traceback refer to the connection that keeps it, which would leave both to the
    cyclic garbage collector; and those who connect and send no WebSocket are many.

    Args:
        exc: the exception; its causes are included.
    """
    while exc is not None:
        exc.__traceback__ = None
        if exc.__suppress_context__:
            exc.__context__ = None  # it is not shown
        exc = exc.__cause__


def without_password(url: str) -> str:
    """
    Return a URL as it may be shown: logs are read by more people than know its password.

    Args:
        url: the URL, valid or not.
    """
    return _hide_password(r"\1:***@", str(url))  # what is no string is told to be no URI, too


def explain_url(url: str, exc: ValueError) -> tuple[str, ValueError | None]:
    """
    Tell why a URL cannot be split, without its password.

    Args:
        url: the URL.
        exc: exception of :mod:`urllib.parse`, whose text may quote any part of it.

    Returns:
        What is wrong, and the cause for the exception that says so.
    """
    if "@" in url:
        return _hide_quoted("***", str(exc)), None
    return str(exc), exc


class WebSocketException(Exception):
    """Base class of all exceptions of this package."""


class ConnectionClosed(WebSocketException):
    """
    The connection is closed; raised when trying to use it.

    Args:
        rcvd: the Close frame received, :obj:`None` if there was none.
        sent: the Close frame sent, :obj:`None` if there was none.
        rcvd_then_sent: when there were both, whether the peer's came first.
    """

    def __init__(
        self,
        rcvd: Close | None,
        sent: Close | None,
        rcvd_then_sent: bool | None = None,
    ) -> None:
        self.rcvd = rcvd
        self.sent = sent
        self.rcvd_then_sent = rcvd_then_sent
        assert (rcvd_then_sent is None) == (rcvd is None or sent is None)

    def __str__(self) -> str:
        if self.rcvd is None:
            if self.sent is None:
                return "no close frame received or sent"
            return f"sent {self.sent}; no close frame received"
        if self.sent is None:
            return f"received {self.rcvd}; no close frame sent"
        if self.rcvd_then_sent:
            return f"received {self.rcvd}; then sent {self.sent}"
        return f"sent {self.sent}; then received {self.rcvd}"

    @property
    def code(self) -> int:
        """Code of the Close frame received, 1006 without one. Deprecated."""
        warnings.warn(
            "ConnectionClosed.code is deprecated; "
            "use Protocol.close_code or ConnectionClosed.rcvd.code",
            DeprecationWarning,
            stacklevel=2,
        )
        from .frames import CloseCode  # which imports this module

        return CloseCode.ABNORMAL_CLOSURE if self.rcvd is None else self.rcvd.code

    @property
    def reason(self) -> str:
        """Reason of the Close frame received, empty without one. Deprecated."""
        warnings.warn(
            "ConnectionClosed.reason is deprecated; "
            "use Protocol.close_reason or ConnectionClosed.rcvd.reason",
            DeprecationWarning,
            stacklevel=2,
        )
        return "" if self.rcvd is None else self.rcvd.reason


class ConnectionClosedOK(ConnectionClosed):
    """The connection ended well: both Close frames said 1000, 1001 or nothing."""


class ConnectionClosedError(ConnectionClosed):
    """
    The connection ended with an error.

    A Close frame with another code was sent or received, or the closing handshake did not complete.
    """


class InvalidURI(WebSocketException):
    """
    The URI cannot be connected to (RFC 6455 section 3).

    Its text does not show the password; ``uri`` is as it was given.

    Args:
        uri: the URI.
        msg: what is wrong with it.
    """

    def __init__(self, uri: str, msg: str) -> None:
        self.uri = uri
        self.msg = msg
        super().__init__(uri, msg)

    def __str__(self) -> str:
        return printable(f"{without_password(self.uri)} isn't a valid URI: {self.msg}")


class InvalidProxy(WebSocketException):
    """
    The address of the proxy cannot be used.

    Its text does not show the password; ``proxy`` is as it was given.

    Args:
        proxy: the proxy's URI.
        msg: what is wrong with it.
    """

    def __init__(self, proxy: str, msg: str) -> None:
        self.proxy = proxy
        self.msg = msg
        super().__init__(proxy, msg)

    def __str__(self) -> str:
        return printable(f"{without_password(self.proxy)} isn't a valid proxy: {self.msg}")


class InvalidHandshake(WebSocketException):
    """Base class of the failures of the opening handshake (RFC 6455 section 4)."""


class SecurityError(InvalidHandshake):
    """A request or response breaks a rule that protects this side."""


class RequestLineTooLong(SecurityError):
    """The request line exceeds the limit."""


class StatusLineTooLong(SecurityError):
    """The status line exceeds the limit."""


class HeaderLineTooLong(SecurityError):
    """A header line exceeds the limit."""


class TooManyHeaders(SecurityError):
    """There are more header lines than the limit allows."""


class ProxyError(InvalidHandshake):
    """The connection through a proxy failed."""


class InvalidProxyMessage(ProxyError):
    """The proxy's response is malformed."""


class InvalidProxyStatus(ProxyError):
    """
    The proxy refused the connection.

    Args:
        response: the proxy's response.
    """

    def __init__(self, response: Response) -> None:
        self.response = response
        super().__init__(response)

    def __str__(self) -> str:
        return f"proxy rejected connection: HTTP {self.response.status_code:d}"


class InvalidMessage(InvalidHandshake):
    """The handshake request or response is malformed; the cause says how."""


class InvalidMethod(InvalidHandshake):
    """
    The method of the handshake request is not GET (RFC 6455 section 4.1).

    Args:
        method: the method.
    """

    def __init__(self, method: str) -> None:
        self.method = method
        super().__init__(method)

    def __str__(self) -> str:
        return f"unsupported HTTP method: {self.method}"


class InvalidProtocol(InvalidHandshake):
    """
    The handshake is not in HTTP/1.1 (RFC 6455 section 4.1).

    Args:
        protocol: the version found.
    """

    def __init__(self, protocol: str) -> None:
        self.protocol = protocol
        super().__init__(protocol)

    def __str__(self) -> str:
        return f"unsupported HTTP version: {self.protocol}"


class InvalidStatus(InvalidHandshake):
    """
    The server refused the connection: the status of its response is not 101.

    Args:
        response: the server's response.
    """

    def __init__(self, response: Response) -> None:
        self.response = response
        super().__init__(response)

    def __str__(self) -> str:
        return f"server rejected WebSocket connection: HTTP {self.response.status_code:d}"


class InvalidHeader(InvalidHandshake):
    """
    A header is missing, empty or wrong.

    Args:
        name: the header's name.
        value: its value, :obj:`None` if it is missing.
    """

    def __init__(self, name: str, value: str | None = None) -> None:
        self.name = name
        self.value = value
        super().__init__(*((name,) if value is None else (name, value)))

    def __str__(self) -> str:
        if self.value is None:
            return f"missing {self.name} header"
        if self.value == "":
            return f"empty {self.name} header"
        # A tab is as good as a space (RFC 9110 section 5.6.3).
        value = "\t".join(map(printable, self.value.split("\t")))
        return f"invalid {self.name} header: {value}"


class InvalidHeaderFormat(InvalidHeader):
    """
    A header does not match its grammar.

    Args:
        name: the header's name.
        error: what was expected.
        header: its value.
        pos: index in the value at which it was expected.
    """

    def __init__(self, name: str, error: str, header: str, pos: int) -> None:
        super().__init__(name, f"{error} at {pos} in {header}")
        self.args = (name, error, header, pos)


class InvalidHeaderValue(InvalidHeader):
    """A header matches its grammar, and its value is not acceptable."""


class InvalidOrigin(InvalidHeader):
    """
    The request's origin is not allowed (RFC 6455 section 10.2).

    Args:
        origin: value of the ``Origin`` header, :obj:`None` if it is missing.
    """

    def __init__(self, origin: str | None) -> None:
        super().__init__("Origin", origin)
        self.args = (origin,)


class InvalidUpgrade(InvalidHeader):
    """The ``Upgrade`` or ``Connection`` header does not ask for WebSocket."""


class NegotiationError(InvalidHandshake):
    """No agreement about a subprotocol or an extension."""


class DuplicateParameter(NegotiationError):
    """
    An extension has the same parameter twice.

    Args:
        name: the parameter.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(name)

    def __str__(self) -> str:
        return f"duplicate parameter: {self.name}"


class InvalidParameterName(NegotiationError):
    """
    An extension has a parameter that it does not define.

    Args:
        name: the parameter.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(name)

    def __str__(self) -> str:
        return f"invalid parameter name: {self.name}"


class InvalidParameterValue(NegotiationError):
    """
    A parameter of an extension has a value that is not defined.

    Args:
        name: the parameter.
        value: its value, :obj:`None` if there is none.
    """

    def __init__(self, name: str, value: str | None) -> None:
        self.name = name
        self.value = value
        super().__init__(name, value)

    def __str__(self) -> str:
        if self.value is None:
            return f"missing value for parameter {self.name}"
        if self.value == "":
            return f"empty value for parameter {self.name}"
        return f"invalid value for parameter {self.name}: {self.value}"


class ProtocolError(WebSocketException):
    """The peer broke RFC 6455; the connection fails with code 1002 (7.4.1)."""


class PayloadTooBig(WebSocketException):
    """
    A frame or message exceeds the limit; the connection fails with code 1009 (7.4.1).

    Args:
        size_or_message: size of the frame in bytes, :obj:`None` when it is not known, as in
            compressed frames. A message instead of a size is deprecated.
        max_size: bytes that were still allowed.
        current_size: bytes of the message's earlier frames. It is added to ``max_size``, so that
            the attribute ``max_size`` is the limit of the message.
    """

    def __init__(
        self,
        size_or_message: int | None | str,
        max_size: int | None = None,
        current_size: int | None = None,
    ) -> None:
        self.message: str | None = None
        self.size: int | None = None
        self.max_size: int | None = None
        self.current_size: int | None = None
        if isinstance(size_or_message, str):
            assert max_size is None and current_size is None
            warnings.warn(
                "PayloadTooBig(message) is deprecated; change to PayloadTooBig(size, max_size)",
                DeprecationWarning,
                stacklevel=2,
            )
            self.message = size_or_message
            super().__init__(size_or_message)
            return
        assert max_size is not None
        self.size = size_or_message
        self.max_size = max_size
        if current_size is None:
            super().__init__(size_or_message, max_size)
        else:
            super().__init__(size_or_message, max_size, current_size)
            self.set_current_size(current_size)

    def __str__(self) -> str:
        if self.message is not None:
            return self.message
        parts = ["frame"]
        if self.size is not None:
            parts.append(f"with {self.size} bytes")
        if self.current_size is not None:
            parts.append(f"after reading {self.current_size} bytes")
        parts.append(f"exceeds limit of {self.max_size} bytes")
        return " ".join(parts)

    def set_current_size(self, current_size: int) -> None:
        """
        Tell how much of the message came before the frame, where the raiser did not know it.

        Args:
            current_size: bytes of the message's earlier frames.
        """
        assert self.current_size is None and self.max_size is not None
        self.max_size += current_size
        self.current_size = current_size


class TooManyFragments(WebSocketException):
    """
    A message is in more frames than the limit allows.

    Args:
        max_fragments: the limit.
    """

    def __init__(self, max_fragments: int) -> None:
        self.max_fragments = max_fragments
        super().__init__(max_fragments)

    def __str__(self) -> str:
        return f"fragmented message exceeds limit of {self.max_fragments} frames"


class InvalidState(WebSocketException, AssertionError):
    """The connection's state does not allow the call."""


class ConcurrencyError(WebSocketException, RuntimeError):
    """Two calls at once where only one is possible."""


if not TYPE_CHECKING:
    __getattr__ = former_names(__name__)
