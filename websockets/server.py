"""The server's side of a connection: the opening handshake of RFC 6455 section 4.2."""

from __future__ import annotations

import binascii
import http
import re
import time
import types
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .datastructures import Headers
from .exceptions import (
    HeaderLineTooLong,
    InvalidHandshake,
    InvalidHeader,
    InvalidHeaderValue,
    InvalidMessage,
    InvalidMethod,
    InvalidOrigin,
    InvalidProtocol,
    InvalidState,
    InvalidUpgrade,
    NegotiationError,
    RequestLineTooLong,
    TooManyHeaders,
    forget_frames,
)
from .extensions.base import Extension, ServerExtensionFactory
from .former import former_names
from .headers import (
    build_extension,
    check_upgrade,
    get_extensions,
    get_single,
    get_subprotocols,
    validate_subprotocols,
)
from .http11 import (
    PARSE_ERRORS,
    Request,
    RequestParser,
    Response,
    UnsupportedVersion,
    is_bodiless,
)
from .protocol import CONNECTING, OPEN, SERVER, Protocol, State
from .typing import ExtensionHeader, LoggerLike, Origin, StatusLike, Subprotocol
from .uri import HOST
from .utils import accept_key

__all__ = ["ServerProtocol"]

# RFC 9110 section 7.2: a host, and a port after a colon.
_is_host = re.compile(rf"{HOST}(?::[0-9]*)?").fullmatch
# RFC 9112 section 3.2.2; the host must not be empty (RFC 9110 section 4.2.1).
_match_absolute_uri = re.compile(
    rf"[A-Za-z][0-9A-Za-z+.\-]*://(?![:/?]|$)({HOST}(?::[0-9]*)?)((?:[/?].*)?)"
).fullmatch

_is_later_version = re.compile(r"HTTP/1\.[2-9]").fullmatch

# Members of enumerations take time to look up.
SWITCHING_PROTOCOLS = int(http.HTTPStatus.SWITCHING_PROTOCOLS)

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

# Handshakes come in bursts, and the date has seconds: the last one is kept.
_date = (-1, "")


def get_date() -> str:
    """Return the value of a ``Date`` header (RFC 9110 section 5.6.7)."""
    global _date
    now = int(time.time())
    second, text = _date
    if second != now:
        year, month, day, hour, minute, sec, weekday, _, _ = time.gmtime(now)
        text = (
            f"{_DAYS[weekday]}, {day:02d} {_MONTHS[month - 1]} {year} "
            f"{hour:02d}:{minute:02d}:{sec:02d} GMT"
        )
        _date = (now, text)
    return text


def get_host(headers: Headers) -> str:
    """
    Return the host of a request, and its port if there is one (RFC 9112 section 3.2).

    Args:
        headers: headers of the request.

    Raises:
        InvalidHeader: if there is no such header, are several, or it is malformed.
    """
    host = get_single(headers, "Host")
    if not _is_host(host):
        raise InvalidHeaderValue("Host", host)
    return host


def split_target(target: str) -> tuple[str, str, str]:
    """
    Split the target of a request.

    RFC 9112 sections 3.2.1 and 3.2.2: it is a path and a query, or an absolute URI; the other forms
    are not for GET. Fragments are never sent (RFC 3986 section 3.5): those who meet one cannot
    agree on where the path ends.

    Args:
        target: target of a request.

    Returns:
        The host and port of an absolute URI, else nothing; the path; the query.

    Raises:
        InvalidHandshake: if it has neither form.
    """
    host, rest = "", target
    if not target.startswith("/"):
        if (match := _match_absolute_uri(target)) is None:
            raise InvalidHandshake(f"invalid request target: {target}")
        host, rest = match.groups()
    if "#" in target:
        raise InvalidHandshake(f"invalid request target: {target}")
    path, _, query = rest.partition("?")
    return host, path or "/", query


class ServerProtocol(Protocol):
    """
    The server's side of a connection, without I/O.

    Args:
        origins: acceptable values of the ``Origin`` header: strings, which must be equal, or
            compiled patterns, which must match in full; :obj:`None` among them stands for requests
            without the header. This defends against cross-site hijacking (RFC 6455 section 10.2).
            By default, any origin is accepted.
        extensions: extensions to negotiate, in order of preference. By default, none.
        subprotocols: subprotocols to negotiate, in order of preference. By default, none.
        select_subprotocol: replaces :meth:`select_subprotocol`; called with the protocol and the
            list of the client's subprotocols.
        state: state to start in; :attr:`.State.OPEN` if the opening handshake is over.
        max_size: largest message in bytes, None for no limit; or a tuple of the largest message and
            the largest fragment.
        logger: logger for this connection; ``websockets.server`` unless given.
    """

    __slots__ = (
        "_headers_only",
        "accept_called",
        "available_extensions",
        "available_subprotocols",
        "origins",
    )

    def __init__(
        self,
        *,
        origins: Sequence[Origin | re.Pattern[str] | None] | None = None,
        extensions: Sequence[ServerExtensionFactory] | None = None,
        subprotocols: Sequence[Subprotocol] | None = None,
        select_subprotocol: (
            Callable[[ServerProtocol, Sequence[Subprotocol]], Subprotocol | None] | None
        ) = None,
        state: State = CONNECTING,
        max_size: int | None | tuple[int | None, int | None] = 2**20,
        logger: LoggerLike | None = None,
    ) -> None:
        super().__init__(SERVER, state=state, max_size=max_size, logger=logger)
        self.origins = origins
        self.available_extensions = extensions
        self.available_subprotocols = subprotocols
        if select_subprotocol is not None:
            self.select_subprotocol = types.MethodType(  # type: ignore[method-assign]
                select_subprotocol, self
            )
        self.accept_called = False
        # Whether the request was HEAD.
        self._headers_only = False
        if state is CONNECTING:
            self.handshake_parser = RequestParser()

    def accept(self, request: Request) -> Response:
        """
        Create the response that opens the connection.

        If the request is not an acceptable handshake request, or negotiation fails, the response
        says so instead, and ``handshake_exc`` says why.

        The response may be changed before :meth:`send_response` is called with it.

        Args:
            request: the handshake request.

        Returns:
            The handshake response: status 101, or an error (400, 403, 405, 426, 500 or 505).
        """
        self.accept_called = True
        try:
            accept_header, extensions_header, protocol_header = self.process_request(request)
        except Exception as exc:
            return self.refuse(request, exc)

        headers = Headers()
        # RFC 6455 section 4.2.2, point 5.
        headers.extend_insecure(
            [
                ("Date", get_date()),
                ("Upgrade", "websocket"),
                ("Connection", "Upgrade"),
                ("Sec-WebSocket-Accept", accept_header),
            ]
        )
        try:
            if extensions_header is not None:
                headers["Sec-WebSocket-Extensions"] = extensions_header
            if protocol_header is not None:
                headers["Sec-WebSocket-Protocol"] = protocol_header
                validate_subprotocols([protocol_header])
        except Exception as exc:
            return self._apologize(request, exc)
        return Response(101, "Switching Protocols", headers)

    def refuse(self, request: Request, exc: Exception) -> Response:
        """
        Create the response for a request that is not accepted.

        Args:
            request: the handshake request.
            exc: why; unless it is an :exc:`~websockets.exceptions.InvalidHandshake`, it is this
                side's fault: then it is logged, and the response does not tell.
        """
        if not isinstance(exc, InvalidHandshake):
            return self._apologize(request, exc)
        if isinstance(exc, InvalidOrigin):
            return self._refuse(request, exc, "invalid origin", http.HTTPStatus.FORBIDDEN)
        if isinstance(exc, InvalidUpgrade):
            response = self._refuse(
                request,
                exc,
                "invalid upgrade",
                http.HTTPStatus.UPGRADE_REQUIRED,
                "\nYou cannot access a WebSocket server directly with a browser. "
                "You need a WebSocket client.\n",
            )
            return _require_upgrade(response)
        if isinstance(exc, InvalidMethod):
            status = http.HTTPStatus.METHOD_NOT_ALLOWED
            response = self._refuse(request, exc, "invalid method", status)
            # RFC 9110 section 15.5.6
            response.headers["Allow"] = "GET"
            return response
        if isinstance(exc, InvalidProtocol):
            status = http.HTTPStatus.HTTP_VERSION_NOT_SUPPORTED
            return self._refuse(request, exc, "invalid protocol", status)
        version = isinstance(exc, InvalidHeader) and exc.name == "Sec-WebSocket-Version"
        status = http.HTTPStatus.BAD_REQUEST
        # RFC 6455 section 4.2.2, point 4: there is a version, and it is not ours.
        if version and type(exc) is InvalidHeaderValue:
            status = http.HTTPStatus.UPGRADE_REQUIRED
        response = self._refuse(request, exc, "invalid handshake", status)
        if status is http.HTTPStatus.UPGRADE_REQUIRED:
            _require_upgrade(response)
        if version:
            # Section 4.4: tell which versions would be understood.
            response.headers["Sec-WebSocket-Version"] = "13"
        return response

    def process_request(self, request: Request) -> tuple[str, str | None, Subprotocol | None]:
        """
        Check a handshake request and negotiate extensions and subprotocol.

        Sets ``origin``, ``extensions`` and ``subprotocol``.

        Args:
            request: the handshake request.

        Returns:
            Values of the response's ``Sec-WebSocket-Accept``, ``Sec-WebSocket-Extensions`` and
            ``Sec-WebSocket-Protocol``; :obj:`None` for a header that is left out.

        Raises:
            InvalidHandshake: if the request is not acceptable; see :meth:`accept` for the kinds.
        """
        headers = request.headers
        # RFC 6455 section 4.2.1, points 1 to 6.
        key = check_request(request)
        # Points 7 to 9.
        self.origin = self.process_origin(headers)
        extensions_header, extensions = self.process_extensions(headers)
        subprotocol = self.process_subprotocol(headers)

        self.extensions = extensions
        self.subprotocol = subprotocol
        return accept_key(key), extensions_header, subprotocol

    def process_origin(self, headers: Headers) -> Origin | None:
        """
        Check the request's origin (RFC 6455 sections 4.2.2, point 4, and 10.2).

        Args:
            headers: headers of the request.

        Returns:
            The origin, :obj:`None` if there is no such header.

        Raises:
            InvalidHeader: if the header is repeated.
            InvalidOrigin: if the origin is not acceptable.
        """
        values = headers.get_all("Origin")
        if len(values) > 1:
            # RFC 6454 section 7.3
            raise InvalidHeader("Origin", "multiple values")
        origin = Origin(values[0]) if values else None
        if self.origins is not None and not any(
            allowed.fullmatch(origin) is not None
            if isinstance(allowed, re.Pattern) and origin is not None
            else allowed == origin
            for allowed in self.origins
        ):
            raise InvalidOrigin(origin)
        return origin

    def process_extensions(self, headers: Headers) -> tuple[str | None, list[Extension]]:
        """
        Negotiate extensions (RFC 6455 section 9.1).

        For each extension that the client offers, in its order, the first factory of that name that
        accepts the parameters wins. Offers that nobody accepts are declined.

        Args:
            headers: headers of the request.

        Returns:
            Value of the response's ``Sec-WebSocket-Extensions``, :obj:`None` to leave it out, and
            the extensions.

        Raises:
            InvalidHeaderFormat: if the header does not match its grammar.
        """
        accepted_headers: list[ExtensionHeader] = []
        accepted: list[Extension] = []
        # Section 9.1 has the handshake fail on a malformed header, whether it is of use or not.
        for name, offered_params in get_extensions(headers):
            for factory in self.available_extensions or ():
                if factory.name != name:
                    continue
                try:
                    params, extension = factory.process_request_params(offered_params, accepted)
                except NegotiationError:
                    continue
                accepted_headers.append((name, params))
                accepted.append(extension)
                break
        return (build_extension(accepted_headers) if accepted else None), accepted

    def process_subprotocol(self, headers: Headers) -> Subprotocol | None:
        """
        Negotiate the subprotocol (RFC 6455 section 4.2.2, point 5).

        Args:
            headers: headers of the request.

        Returns:
            The subprotocol, :obj:`None` for none.

        Raises:
            InvalidHeaderFormat: if the header does not match its grammar.
            NegotiationError: if there is no subprotocol to agree on.
        """
        return self.select_subprotocol(get_subprotocols(headers))

    def select_subprotocol(self, subprotocols: Sequence[Subprotocol]) -> Subprotocol | None:
        """
        Pick a subprotocol among those that the client offers.

        If the server has no subprotocols, none is picked. Else the client must offer one of them,
        and the first in the server's order that the client offers is picked. Override it to have
        other rules.

        Args:
            subprotocols: the client's subprotocols, in its order.

        Returns:
            The subprotocol, :obj:`None` for none.

        Raises:
            NegotiationError: to refuse the connection with status 400.
        """
        if not self.available_subprotocols:
            return None
        if not subprotocols:
            raise NegotiationError("missing subprotocol")
        for subprotocol in self.available_subprotocols:
            if subprotocol in subprotocols:
                return subprotocol
        raise NegotiationError(
            f"invalid subprotocol; expected one of {', '.join(self.available_subprotocols)}"
        )

    def reject(self, status: StatusLike, text: str) -> Response:
        """
        Create a response that refuses the connection.

        The response may be changed before :meth:`send_response` is called with it.

        Args:
            status: HTTP status.
            text: body, sent as plain text in UTF-8.

        Raises:
            ValueError: if the status is not a registered one.
        """
        status = http.HTTPStatus(status)
        body = text.encode()
        headers = Headers()
        headers["Date"] = get_date()
        headers["Connection"] = "close"
        # RFC 9110 section 8.6
        if not is_bodiless(status):
            headers["Content-Length"] = str(len(body))
            headers["Content-Type"] = "text/plain; charset=utf-8"
        return Response(status.value, status.phrase, headers, body)

    def send_response(self, response: Response) -> None:
        """
        Send the handshake response: open the connection, or refuse it.

        The body is left out where there can be none: the request was HEAD, or the status says so.

        Args:
            response: what :meth:`accept` or :meth:`reject` returned, or another response.

        Raises:
            InvalidState: if the status is 101 and the handshake is over.
            ValueError: if status or reason phrase would break the status line.
        """
        if response.body and (self._headers_only or is_bodiless(response.status_code)):
            # RFC 9112 section 6.3: it would be taken for what comes behind the response.
            response = Response(response.status_code, response.reason_phrase, response.headers)
        opens = response.status_code == SWITCHING_PROTOCOLS
        if opens and self._state is not CONNECTING:
            raise InvalidState(f"connection is {self._state.name.lower()}")
        data = response.serialize()
        if self.debug:
            self.logger.debug("> HTTP/1.1 %d %s", response.status_code, response.reason_phrase)
            for key, value in response.headers.raw_items():
                self.logger.debug("> %s: %s", key, value)
            if response.body:
                self.logger.debug("> [body] (%d bytes)", len(response.body))
        if opens:
            self.writes.append(data)
            self.state = OPEN
            self.log_info("connection open")
            self.fail_early()
            return
        self.log_info(
            "connection rejected (%d %s)" if self.accept_called else "HTTP response sent (%d %s)",
            response.status_code,
            response.reason_phrase,
        )
        if not self.eof_sent:
            self.writes.append(data)
            self.send_eof()
        self._ignore_input()

    def receive_handshake(self) -> None:
        parser = self.handshake_parser
        assert isinstance(parser, RequestParser)
        try:
            request = parser.parse()
        except RequestLineTooLong as exc:
            status = http.HTTPStatus.REQUEST_URI_TOO_LONG
            self._refuse_message(exc, "request line too long", status)
        except (HeaderLineTooLong, TooManyHeaders) as exc:
            status = http.HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            self._refuse_message(exc, "header fields too large", status)
        except PARSE_ERRORS as exc:
            invalid = InvalidMessage("did not receive a valid HTTP request")
            invalid.__cause__ = exc
            answer: http.HTTPStatus | None
            if isinstance(exc, EOFError):
                answer = None  # nobody is there any more
            elif isinstance(exc, UnsupportedVersion):
                # RFC 9110 section 15.6.6
                answer = http.HTTPStatus.HTTP_VERSION_NOT_SUPPORTED
            else:
                # RFC 9112 sections 2.2, 5.1, 5.2 and 6.3
                answer = http.HTTPStatus.BAD_REQUEST
            self._refuse_message(invalid, "no valid HTTP request", answer)
        else:
            if request is None:
                return
            if self.debug:
                self.logger.debug("< %s %s %s", request.method, request.path, request.protocol)
                for key, value in request.headers.raw_items():
                    self.logger.debug("< %s: %s", key, value)
            self._headers_only = request.method == "HEAD"
            self.events.append(request)
            self.handshake_parser_done()

    def _refuse(
        self,
        request: Request,
        exc: Exception,
        what: str,
        status: http.HTTPStatus,
        hint: str = "",
    ) -> Response:
        """Create the response to a request that is the client's fault."""
        self.handshake_exc = request._exception = exc
        if self.debug:
            self.logger.debug("! %s", what, exc_info=True)
        forget_frames(exc)
        return self.reject(status, explain(exc) + hint)

    def _apologize(self, request: Request, exc: Exception) -> Response:
        """Create the response for when something that the application plugged in has failed."""
        self.handshake_exc = request._exception = exc
        self.logger.error("opening handshake failed", exc_info=True)
        return self.reject_failure()

    def reject_failure(self) -> Response:
        """Create the response that blames the server, and leaves the reason to its log."""
        return self.reject(
            http.HTTPStatus.INTERNAL_SERVER_ERROR,
            "Failed to open a WebSocket connection.\nSee server log for more information.\n",
        )

    def _refuse_message(self, exc: Exception, what: str, status: http.HTTPStatus | None) -> None:
        """Answer, with a status or not at all, what is no request, and hear no more."""
        self.handshake_exc = exc
        if self.debug:
            self.logger.debug("! %s", what, exc_info=True)
        forget_frames(exc)
        if status is not None:
            self.send_response(self.reject(status, explain(exc)))
            return
        if not self.eof_sent:
            self.send_eof()
        self._ignore_input()

    def _ignore_input(self) -> None:
        self.handshake_parser = None
        self.ended = True


def check_request(request: Request) -> str:
    """
    Check a handshake request (RFC 6455 section 4.2.1, points 1 to 6).

    Args:
        request: the handshake request.

    Returns:
        The key.

    Raises:
        InvalidHandshake: if it does not ask for a WebSocket connection.
    """
    headers = request.headers
    # RFC 9112 section 3.2: whatever the request is about, it is refused without a host, with
    # several, or with a malformed one. HTTP/1.0 did not have the header.
    if request.protocol != "HTTP/1.0" or "Host" in headers:
        get_host(headers)
    # RFC 6455 section 4.2.1, point 1: GET, and HTTP/1.1 or higher.
    if request.method != "GET":
        raise InvalidMethod(request.method)
    if request.protocol != "HTTP/1.1" and not _is_later_version(request.protocol):
        raise InvalidProtocol(request.protocol)
    split_target(request.path)
    # Points 3 and 4.
    check_upgrade(headers, requested=True)
    # Points 5 and 6.
    return check_key(headers)


def check_key(headers: Headers) -> str:
    """
    Check key and version in the headers of a request (RFC 6455 section 4.2.1, points 5 and 6).

    Args:
        headers: headers of the request.

    Returns:
        The key.

    Raises:
        InvalidHeader: if one of them is missing, repeated or malformed.
    """
    key = get_single(headers, "Sec-WebSocket-Key")
    # Base64 that decodes to 16 bytes.
    try:
        raw_key = binascii.a2b_base64(key.encode(), strict_mode=True)
    except binascii.Error as exc:
        raise InvalidHeaderValue("Sec-WebSocket-Key", key) from exc
    if len(raw_key) != 16:
        raise InvalidHeaderValue("Sec-WebSocket-Key", key)
    if (sec_version := get_single(headers, "Sec-WebSocket-Version")) != "13":
        raise InvalidHeaderValue("Sec-WebSocket-Version", sec_version)
    return key


def _require_upgrade(response: Response) -> Response:
    """Complete a 426 response (RFC 9110 section 15.5.22)."""
    response.headers["Upgrade"] = "websocket"
    # RFC 9110 section 7.8: whoever sends Upgrade lists it here, for nobody to pass it on.
    del response.headers["Connection"]
    response.headers["Connection"] = "close, Upgrade"
    return response


def explain(exc: BaseException) -> str:
    reasons = []
    cause: BaseException | None = exc
    while cause is not None:
        reasons.append(str(cause))
        cause = cause.__cause__
    return f"Failed to open a WebSocket connection: {'; '.join(reasons)}.\n"


class ServerConnection(ServerProtocol):
    """Former name of :class:`ServerProtocol`. Deprecated."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        warnings.warn(
            "ServerConnection was renamed to ServerProtocol",
            DeprecationWarning,
            stacklevel=2,
        )
        super().__init__(*args, **kwargs)


# The original API's.
if not TYPE_CHECKING:
    __getattr__ = former_names(__name__)
