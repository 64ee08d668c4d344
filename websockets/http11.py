"""
HTTP/1.1 as far as the opening handshake needs it (RFC 9110, RFC 9112).

A parser is fed bytes as they arrive and asked for the message. What it holds is bounded by the
limits below, and each byte is looked at a fixed number of times however the input is cut.
"""

from __future__ import annotations

import dataclasses
import os
import re
import sys
import warnings
from collections.abc import Callable

from .datastructures import Headers, MultipleValuesError, share
from .environment import read_integer
from .exceptions import (
    HeaderLineTooLong,
    RequestLineTooLong,
    SecurityError,
    StatusLineTooLong,
    TooManyHeaders,
    printable,
)
from .version import version

__all__ = ["SERVER", "USER_AGENT", "Request", "Response"]

_PRODUCTS = f"Python/{sys.version_info.major}.{sys.version_info.minor} websockets/{version}"

#: Default of the ``Server`` header.
SERVER = os.environ.get("WEBSOCKETS_SERVER", _PRODUCTS)

#: Default of the ``User-Agent`` header.
USER_AGENT = os.environ.get("WEBSOCKETS_USER_AGENT", _PRODUCTS)

#: Most header lines in a message.
MAX_NUM_HEADERS = read_integer("WEBSOCKETS_MAX_NUM_HEADERS", 128)

#: Longest request, status or header line in bytes, with its CRLF.
MAX_LINE_LENGTH = read_integer("WEBSOCKETS_MAX_LINE_LENGTH", 8192)

#: Largest body of a response in bytes.
MAX_BODY_SIZE = read_integer("WEBSOCKETS_MAX_BODY_SIZE", 2**20)

#: Most chunks in a body: bytes are limited, and each chunk takes time, however small.
MAX_CHUNKS = 4096

#: Most interim responses before the final one.
MAX_INTERIM_RESPONSES = 32

#: What the parsers raise for input that is not a valid message.
PARSE_ERRORS = (EOFError, SecurityError, ValueError, MultipleValuesError, NotImplementedError)

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_TEXT = rb"[\t \x21-\x7e\x80-\xff]*"

# RFC 9110 sections 5.1 and 5.5: name and value; RFC 9112 section 5: no space before the colon, and
# no line folding. Possessive, for a hostile line to be refused in linear time.
_find_fields = re.compile(
    r"^([!#$%&'*+\-.^_`|~0-9A-Za-z]++):[ \t]*+([\t \x21-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff]|)"
    r"[ \t]*+\r\n",
    re.MULTILINE,
).findall
_is_token = re.compile(_TOKEN).fullmatch
# RFC 9112 section 3: one space between the parts, without the leniency it allows. Section 3.2:
# whatever its form, a request target is made of visible ASCII characters. RFC 9110 section 2.5: a
# higher minor version is understood like ours, a higher major version is not.
_METHOD_AND_TARGET = r"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([\x21-\x7e]+) "
_REQUEST_LINE = _METHOD_AND_TARGET + r"(HTTP/1\.[0-9])"
_match_request_line = re.compile(_REQUEST_LINE).fullmatch
_match_first_line = re.compile(_REQUEST_LINE + r"\r\n").match
_is_other_version = re.compile(_METHOD_AND_TARGET + r"HTTP/[0-9]\.[0-9]").fullmatch
_is_later_version = re.compile(rb"HTTP/1\.[2-9]").fullmatch
# RFC 9112 section 4: reason-phrase.
_is_text = re.compile(_TEXT).fullmatch
# RFC 9110 section 8.6, RFC 9112 section 7.1; the number of digits is limited for int() to be cheap.
# Section 7.1.1: spaces before a chunk extension have no business there, and must be understood.
_is_length = re.compile(r"[0-9]{1,19}").fullmatch
_match_chunk = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*+;%s)?" % _TEXT).fullmatch

_BARE_LF = "line without CRLF"


class UnsupportedVersion(ValueError):
    """The request is in a version of HTTP that this package does not speak."""


# What a stranger has sent is seen in logs and tracebacks: it must not control a terminal.
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(0x20), 0x7F)}


def _show(data: bytes) -> str:
    return data.decode("ascii", "backslashreplace").translate(_ESCAPES)


@dataclasses.dataclass
class Request:
    """
    A handshake request.

    Attributes:
        path: request target (RFC 9112 section 3.2): path and query.
        headers: header fields.
        method: method; only GET opens a WebSocket.
        protocol: version of HTTP.
    """

    path: str
    headers: Headers
    method: str = "GET"
    protocol: str = "HTTP/1.1"
    _exception: Exception | None = None

    @property
    def exception(self) -> Exception | None:
        """Why the handshake failed. Deprecated."""
        warnings.warn(
            "Request.exception is deprecated; use ServerProtocol.handshake_exc instead",
            DeprecationWarning,
            stacklevel=2,
        )
        return self._exception

    def serialize(self) -> bytes:
        """
        Return the request as it is sent.

        Raises:
            ValueError: if method, path or protocol have characters that would break the line.
        """
        line = f"{self.method} {self.path} {self.protocol}"
        if not _match_request_line(line):
            raise ValueError(f"invalid HTTP request line: {line}")
        return line.encode("ascii") + b"\r\n" + self.headers.serialize()


@dataclasses.dataclass
class Response:
    """
    A handshake response.

    Attributes:
        status_code: status (RFC 9110 section 15); 101 opens the WebSocket.
        reason_phrase: reason phrase (RFC 9112 section 4).
        headers: header fields.
        body: body; there is none in a 101 response.
    """

    status_code: int
    reason_phrase: str
    headers: Headers
    body: bytes | bytearray = b""
    _exception: Exception | None = None

    @property
    def exception(self) -> Exception | None:
        """Why the handshake failed. Deprecated."""
        warnings.warn(
            "Response.exception is deprecated; use ClientProtocol.handshake_exc instead",
            DeprecationWarning,
            stacklevel=2,
        )
        return self._exception

    def serialize(self) -> bytes:
        """
        Return the response as it is sent.

        Raises:
            ValueError: if the status code or the reason phrase would break the line.
        """
        if not 100 <= self.status_code <= 599:
            raise ValueError(f"invalid HTTP status code: {self.status_code}")
        reason = self.reason_phrase.encode("iso-8859-1")
        if not _is_text(reason):
            raise ValueError(f"invalid HTTP reason phrase: {_show(reason)}")
        head = b"HTTP/1.1 %d %b\r\n" % (self.status_code, reason)
        return head + self.headers.serialize() + self.body


def is_bodiless(status_code: int) -> bool:
    """Tell whether responses with a status end with their headers (RFC 9112 section 6.3)."""
    return status_code < 200 or status_code in (204, 304)


def is_interim(status_code: int) -> bool:
    """Tell whether the final response is still to come (RFC 9110 section 15.2).

    101 is final here: what follows is no HTTP any more (section 15.2.2).
    """
    return status_code < 200 and status_code != 101


class _Parser:
    """Lines and header fields of a message that arrives in pieces."""

    __slots__ = ("_buffer", "_eof", "_headers", "_seen")

    def __init__(self) -> None:
        self._buffer = bytearray()
        # How much of the buffer is known to hold no end of line.
        self._seen = 0
        self._eof = False
        self._headers = Headers()

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """
        Store bytes that have arrived.

        Args:
            data: the bytes; they are copied.
        """
        self._buffer += data

    def feed_eof(self) -> None:
        """Note that nothing more will arrive."""
        self._eof = True

    def take_rest(self) -> bytes:
        """Return the bytes that follow the message, and forget them."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        self._seen = 0
        return rest

    def _read_line(self, too_long: type[SecurityError]) -> bytes | None:
        """Return the next line without its CRLF, :obj:`None` if it is not complete."""
        end = self._buffer.find(b"\n", self._seen) + 1
        size = end or len(self._buffer)
        if size > MAX_LINE_LENGTH:
            raise _too_long(too_long, size)
        if not end:
            if self._eof:
                raise EOFError(f"stream ends after {size} bytes, before end of line")
            self._seen = size
            return None
        line = bytes(self._buffer[:end])
        # This moves the start of the buffer; it does not copy what follows.
        del self._buffer[:end]
        self._seen = 0
        # RFC 9112 section 2.2: a recipient may take a bare LF for the end of a line. Two
        # recipients that do not agree about it are a way to smuggle requests; this one does not.
        if not line.endswith(b"\r\n"):
            raise ValueError(_BARE_LF)
        return line[:-2]

    def _read_start_line(self, too_long: type[SecurityError], name: str) -> bytes | None:
        """Return the first line of the message, :obj:`None` if it is not complete."""
        try:
            return self._read_line(too_long)
        except EOFError as exc:
            raise EOFError(f"connection closed while reading HTTP {name}") from exc

    def _read_headers(self) -> bool:
        """Read the message's header lines; return whether they are complete."""
        try:
            return self._read_fields(self._headers)
        except EOFError as exc:
            raise EOFError("connection closed while reading HTTP headers") from exc

    def _read_fields(self, headers: Headers) -> bool:
        """Read header lines; return whether the empty line after them has been read."""
        buffer = self._buffer
        if buffer.startswith(b"\r\n"):
            del buffer[:2]
            self._seen = 0
            return True
        # All lines that have arrived are read at once: up to the empty line, else to the last one.
        end = buffer.find(b"\r\n\r\n", max(0, self._seen - 1)) + 2
        complete = end >= 2
        if not complete:
            end = buffer.rfind(b"\n", self._seen) + 1
            size = len(buffer) - end
            if size > MAX_LINE_LENGTH:
                raise _too_long(HeaderLineTooLong, size)
            self._seen = size
        if end:
            _parse_fields(bytes(buffer[:end]), headers)
            del buffer[: end + 2 if complete else end]
        if complete:
            self._seen = 0
        elif self._eof:
            raise EOFError(f"stream ends after {len(buffer)} bytes, before end of line")
        return complete


def _too_long(exc_type: type[SecurityError], size: int) -> SecurityError:
    return exc_type(f"read {size} bytes, expected no more than {MAX_LINE_LENGTH} bytes")


def _parse_fields(data: bytes, headers: Headers) -> None:
    """Parse complete header lines."""
    # RFC 9110 section 5.5: octets above 127 are opaque; ISO-8859-1 carries each as it is.
    text = data.decode("iso-8859-1")
    count = text.count("\n")
    if len(text) > MAX_LINE_LENGTH:
        size = max(map(len, text.split("\n"))) + 1
        if size > MAX_LINE_LENGTH:
            raise _too_long(HeaderLineTooLong, size)
    if headers.count_lines() + count > MAX_NUM_HEADERS:
        raise TooManyHeaders(f"expected no more than {MAX_NUM_HEADERS} headers")
    fields = _find_fields(text)
    # Each match is one line, so a line that does not match is missing.
    if len(fields) != count:
        raise ValueError(_explain_fields(data))
    headers.extend_insecure(fields)


def _explain_fields(data: bytes) -> str:
    """Tell what is wrong with the first bad header line."""
    for line in data.split(b"\n")[:-1]:
        if not line.endswith(b"\r"):
            return _BARE_LF
        line = line[:-1]
        name, colon, value = line.partition(b":")
        if not colon:
            return f"invalid HTTP header line: {_show(line)}"
        if not _is_token(name):
            return f"invalid HTTP header name: {_show(name)}"
        value = value.strip(b" \t")
        if not _is_text(value):
            return f"invalid HTTP header value: {_show(value)}"
    return "invalid HTTP headers"  # pragma: no cover - the pattern takes all that comes here


class RequestParser(_Parser):
    """Parses one request on the server's side."""

    __slots__ = ("_line", "_started")

    def __init__(self) -> None:
        super().__init__()
        self._line: tuple[str, str, str] | None = None
        # Whether an empty line was ignored.
        self._started = False

    def parse(self) -> Request | None:
        """
        Parse what has been fed.

        Returns:
            The request, :obj:`None` as long as it is not complete.

        Raises:
            EOFError: if the input ended within the request.
            SecurityError: if a limit is exceeded; see the subclasses.
            UnsupportedVersion: if it is in another major version of HTTP.
            ValueError: if the request is not a valid one, or has a body.
            NotImplementedError: if the request has a transfer coding.
        """
        if self._line is None and not self._seen:
            self._line = self._read_all()
            if self._line is not None:
                return self._make_request(self._line)
        while self._line is None:
            line = self._read_start_line(RequestLineTooLong, "request line")
            if line is None:
                return None
            if not line and not self._started:
                # RFC 9112 section 2.2: ignore an empty line before the request.
                self._started = True
                continue
            self._line = _parse_request_line(line)
        if not self._read_headers():
            return None
        return self._make_request(self._line)

    def _read_all(self) -> tuple[str, str, str] | None:
        """Read a request that has come whole, as most do, and has no fault; else read nothing."""
        end = self._buffer.find(b"\r\n\r\n") + 2
        if not 2 <= end <= MAX_LINE_LENGTH:
            return None
        text = self._buffer[:end].decode("iso-8859-1")
        match = _match_first_line(text)
        if match is None:
            return None
        fields = _find_fields(text, match.end())
        if len(fields) != text.count("\n") - 1 or len(fields) > MAX_NUM_HEADERS:
            return None
        del self._buffer[: end + 2]
        self._headers.extend_insecure(fields)
        return _split_request_line(match)

    def _make_request(self, line: tuple[str, str, str]) -> Request:
        # RFC 9112 section 6: either header announces a body. A handshake has none, and to take
        # one for WebSocket frames would be to read what another server would have skipped.
        if "Transfer-Encoding" in self._headers:
            raise NotImplementedError("transfer codings aren't supported")
        for length in self._headers.get_all("Content-Length"):
            if length != "0":
                raise ValueError("unsupported request body")
        method, path, protocol = line
        return Request(path, self._headers, method, protocol)


def _parse_request_line(line: bytes) -> tuple[str, str, str]:
    match = _match_request_line(line.decode("iso-8859-1"))
    if match is None:
        error = f"unsupported protocol; expected HTTP/1.1 or HTTP/1.0: {_show(line)}"
        if _is_other_version(line.decode("iso-8859-1")):
            raise UnsupportedVersion(error)
        if line.count(b" ") >= 2 and line.split(b" ", 2)[2] not in (b"HTTP/1.1", b"HTTP/1.0"):
            raise ValueError(error)
        raise ValueError(f"invalid HTTP request line: {_show(line)}")
    return _split_request_line(match)


def _split_request_line(match: re.Match[str]) -> tuple[str, str, str]:
    method, target, protocol = match.groups()
    return share(method, method), target, share(protocol, protocol)


class ResponseParser(_Parser):
    """
    Parses one response on the client's side, with its body.

    Interim responses come before it, and are skipped.

    Args:
        from_proxy: whether it is a proxy that responds, to CONNECT. It may speak HTTP/1.0, too.
            What follows the headers is left to the caller: when the proxy agrees, it comes through
            the tunnel (RFC 9112 section 6.3), and what it adds when it refuses is not needed.
    """

    __slots__ = (
        "_body",
        "_chunks",
        "_from_proxy",
        "_interim",
        "_left",
        "_line",
        "_read_body",
        "_trailers",
    )

    def __init__(self, *, from_proxy: bool = False) -> None:
        super().__init__()
        self._from_proxy = from_proxy
        self._interim = 0
        self._chunks = 0
        self._line: tuple[int, str] | None = None
        # Once the head is complete: what reads the body, and tells whether it is complete.
        self._read_body: Callable[[], bool] | None = None
        self._body = bytearray()
        # Bytes of the body, or of the chunk, that are missing; None between chunks.
        self._left: int | None = None
        self._trailers: Headers | None = None

    def parse(self) -> Response | None:
        """
        Parse what has been fed.

        Returns:
            The response, :obj:`None` as long as it is not complete.

        Raises:
            EOFError: if the input ended within the response.
            SecurityError: if a limit is exceeded; see the subclasses.
            ValueError: if the response is not a valid one.
            MultipleValuesError: if the header that tells the body's length is repeated.
            NotImplementedError: if it has a transfer coding other than chunked.
        """
        while self._read_body is None:
            if self._line is None:
                line = self._read_start_line(StatusLineTooLong, "status line")
                if line is None:
                    return None
                self._line = _parse_status_line(line, self._from_proxy)
            if not self._read_headers():
                return None
            if is_interim(self._line[0]):
                self._skip_interim()
            else:
                self._read_body = self._choose_body(self._line[0])
        if not self._read_body():
            return None
        assert self._line is not None
        return Response(*self._line, self._headers, bytes(self._body))

    def _skip_interim(self) -> None:
        self._interim += 1
        if self._interim > MAX_INTERIM_RESPONSES:
            raise SecurityError(f"expected no more than {MAX_INTERIM_RESPONSES} interim responses")
        self._line = None
        self._headers = Headers()

    def _choose_body(self, status_code: int) -> Callable[[], bool]:
        """Tell how the body is delimited (RFC 9112 section 6.3)."""
        if self._from_proxy or is_bodiless(status_code):
            return self._read_nothing
        if "Transfer-Encoding" in self._headers:
            coding = self._headers["Transfer-Encoding"]
            if coding.lower() != "chunked":
                raise NotImplementedError(f"transfer coding {printable(coding)} isn't supported")
            return self._read_chunks
        if "Content-Length" in self._headers:
            length = self._headers["Content-Length"]
            if not _is_length(length):
                raise SecurityError(f"invalid content length: {printable(length)}")
            self._left = int(length)
            if self._left > MAX_BODY_SIZE:
                raise SecurityError(f"body too large: {self._left} bytes")
            return self._read_length
        return self._read_until_eof

    def _read_nothing(self) -> bool:
        return True

    def _read_length(self) -> bool:
        assert self._left is not None
        size = len(self._body) + self._left
        data = self._buffer[: self._left]
        del self._buffer[: self._left]
        self._body += data
        self._left -= len(data)
        if self._left and self._eof:
            raise EOFError(f"stream ends after {len(self._body)} bytes, expected {size} bytes")
        return not self._left

    def _read_until_eof(self) -> bool:
        self._body += self._buffer
        self._buffer.clear()
        if len(self._body) > MAX_BODY_SIZE:
            raise SecurityError(
                f"read {len(self._body)} bytes, expected no more than {MAX_BODY_SIZE} bytes"
            )
        return self._eof

    def _read_chunks(self) -> bool:
        """Read a chunked body (RFC 9112 section 7.1)."""
        while self._trailers is None:
            if self._left is None:
                line = self._read_line(SecurityError)
                if line is None:
                    return False
                match = _match_chunk(line)
                if match is None:
                    raise SecurityError(f"invalid chunk size: {_show(line.partition(b';')[0])}")
                size = int(match[1], 16)
                if len(self._body) + size > MAX_BODY_SIZE:
                    raise SecurityError(
                        f"chunk too large: {size} bytes after {len(self._body)} bytes"
                    )
                if size == 0:
                    self._trailers = Headers()
                    break
                self._chunks += 1
                if self._chunks > MAX_CHUNKS:
                    raise SecurityError(f"expected no more than {MAX_CHUNKS} chunks")
                self._left = size
            if self._left and not self._read_length():
                return False
            if len(self._buffer) < 2:
                if self._eof:
                    raise EOFError(f"stream ends after {len(self._buffer)} bytes, expected 2 bytes")
                return False
            if not self._buffer.startswith(b"\r\n"):
                raise ValueError("chunk without CRLF")
            del self._buffer[:2]
            self._left = None
        # RFC 9112 section 7.1.2: trailer fields may be discarded.
        return self._read_fields(self._trailers)


def _parse_status_line(line: bytes, from_proxy: bool) -> tuple[int, str]:
    # RFC 9112 section 4: the space before the reason phrase is there even if the phrase is not.
    protocol, _, rest = line.partition(b" ")
    status, space, reason = rest.partition(b" ")
    if not space:
        raise ValueError(f"invalid HTTP status line: {_show(line)}")
    if protocol != b"HTTP/1.1" and not _is_later_version(protocol):
        if not from_proxy:
            raise ValueError(f"unsupported protocol; expected HTTP/1.1: {_show(line)}")
        if protocol != b"HTTP/1.0":
            raise ValueError(f"unsupported protocol; expected HTTP/1.1 or HTTP/1.0: {_show(line)}")
    # Of bytes, only ASCII digits are digits.
    if not status.isdigit():
        raise ValueError(f"invalid status code; expected integer; got {_show(status)}")
    if len(status) != 3 or not b"100" <= status <= b"599":
        raise ValueError(f"invalid status code; expected 100–599; got {_show(status)}")
    if not _is_text(reason):
        raise ValueError(f"invalid HTTP reason phrase: {_show(reason)}")
    return int(status), reason.decode("iso-8859-1")
