"""The client's side of a connection: the opening handshake of RFC 6455 section 4.1."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from .datastructures import Headers
from .environment import read_number
from .exceptions import (
    InvalidHandshake,
    InvalidHeader,
    InvalidHeaderValue,
    InvalidMessage,
    InvalidStatus,
    NegotiationError,
    StatusLineTooLong,
    forget_frames,
)
from .extensions.base import ClientExtensionFactory, Extension
from .former import former_names
from .headers import (
    build_authorization_basic,
    build_extension,
    build_host,
    build_subprotocol,
    check_upgrade,
    get_extensions,
    get_single,
    get_subprotocols,
)
from .http11 import PARSE_ERRORS, Request, Response, ResponseParser
from .protocol import CLIENT, CONNECTING, OPEN, Protocol, State
from .typing import LoggerLike, Origin, Subprotocol
from .uri import WebSocketURI
from .utils import accept_key, generate_key

__all__ = ["ClientProtocol"]


class ClientProtocol(Protocol):
    """
    The client's side of a connection, without I/O.

    Args:
        uri: what to connect to; see :func:`~websockets.uri.parse_uri`.
        origin: value of the ``Origin`` header. By default, there is none.
        extensions: extensions to negotiate, in order of preference. By default, none.
        subprotocols: subprotocols to negotiate, in order of preference. By default, none.
        state: state to start in; :attr:`.State.OPEN` if the opening handshake is over.
        max_size: largest message in bytes, None for no limit; or a tuple of the largest message and
            the largest fragment.
        logger: logger for this connection; ``websockets.client`` unless given.
    """

    __slots__ = ("available_extensions", "available_subprotocols", "key", "uri")

    def __init__(
        self,
        uri: WebSocketURI,
        *,
        origin: Origin | None = None,
        extensions: Sequence[ClientExtensionFactory] | None = None,
        subprotocols: Sequence[Subprotocol] | None = None,
        state: State = CONNECTING,
        max_size: int | None | tuple[int | None, int | None] = 2**20,
        logger: LoggerLike | None = None,
    ) -> None:
        super().__init__(CLIENT, state=state, max_size=max_size, logger=logger)
        self.uri = uri
        self.origin = origin
        self.available_extensions = extensions
        self.available_subprotocols = subprotocols
        self.key = generate_key()
        if state is CONNECTING:
            self.handshake_parser = ResponseParser()

    def connect(self) -> Request:
        """
        Create the handshake request (RFC 6455 section 4.1).

        The request may be changed before :meth:`send_request` is called with it.
        """
        uri = self.uri
        headers = Headers()
        # Point 4.
        headers["Host"] = build_host(uri.host, uri.port, uri.secure)
        if uri.user_info is not None:
            headers["Authorization"] = build_authorization_basic(*uri.user_info)
        # Point 8.
        if self.origin is not None:
            headers["Origin"] = self.origin
        # Points 5, 6, 7 and 9.
        headers["Upgrade"] = "websocket"
        headers["Connection"] = "Upgrade"
        headers["Sec-WebSocket-Key"] = self.key
        headers["Sec-WebSocket-Version"] = "13"
        # Points 11 and 10; neither list may be empty, and subprotocols must be unique.
        if self.available_extensions:
            headers["Sec-WebSocket-Extensions"] = build_extension(
                [
                    (factory.name, factory.get_request_params())
                    for factory in self.available_extensions
                ]
            )
        if self.available_subprotocols:
            headers["Sec-WebSocket-Protocol"] = build_subprotocol(
                list(dict.fromkeys(self.available_subprotocols))
            )
        return Request(uri.resource_name, headers)

    def send_request(self, request: Request) -> None:
        """
        Send the handshake request.

        Args:
            request: what :meth:`connect` returned.
        """
        data = request.serialize()
        if self.debug:
            self.logger.debug("> %s %s %s", request.method, request.path, request.protocol)
            for key, value in request.headers.raw_items():
                self.logger.debug("> %s: %s", key, value)
        self.writes.append(data)

    def process_response(self, response: Response) -> None:
        """
        Check the handshake response (RFC 6455 section 4.1, second list of points).

        Sets ``extensions`` and ``subprotocol``.

        Args:
            response: the handshake response.

        Raises:
            InvalidStatus: if the status is not 101.
            InvalidHandshake: if the response does not open a WebSocket connection.
        """
        headers = response.headers
        # Point 1.
        if response.status_code != 101:
            raise InvalidStatus(response)
        # Points 2 and 3.
        check_upgrade(headers)
        # Point 4.
        check_accept(headers, self.key)
        # Points 5 and 6.
        extensions = self.process_extensions(headers)
        subprotocol = self.process_subprotocol(headers)

        self.extensions = extensions
        self.subprotocol = subprotocol

    def process_extensions(self, headers: Headers) -> list[Extension]:
        """
        Check the extensions that the server accepted (RFC 6455 section 9.1).

        Args:
            headers: headers of the response.

        Returns:
            The extensions, in the server's order.

        Raises:
            InvalidHeaderFormat: if the header does not match its grammar.
            NegotiationError: if an extension was not offered, or its parameters are not acceptable.
        """
        accepted: list[Extension] = []
        if "Sec-WebSocket-Extensions" not in headers:
            return accepted
        if self.available_extensions is None:
            raise NegotiationError("no extensions supported")
        for name, params in get_extensions(headers):
            refusal: NegotiationError | None = None
            for factory in self.available_extensions:
                if factory.name != name:
                    continue
                try:
                    accepted.append(factory.process_response_params(params, accepted))
                except NegotiationError as exc:
                    refusal = exc
                    continue
                break
            else:
                raise NegotiationError(
                    f"Unsupported extension: name = {name}, params = {params}"
                ) from refusal
        return accepted

    def process_subprotocol(self, headers: Headers) -> Subprotocol | None:
        """
        Check the subprotocol that the server selected (RFC 6455 section 4.1, point 6).

        Args:
            headers: headers of the response.

        Returns:
            The subprotocol, :obj:`None` if the server selected none.

        Raises:
            InvalidHeader: if there are several.
            InvalidHeaderFormat: if the header does not match its grammar.
            NegotiationError: if the subprotocol was not offered.
        """
        if "Sec-WebSocket-Protocol" not in headers:
            return None
        if self.available_subprotocols is None:
            raise NegotiationError("no subprotocols supported")
        subprotocols = get_subprotocols(headers)
        if len(subprotocols) > 1:
            raise InvalidHeader(
                "Sec-WebSocket-Protocol", f"multiple values: {', '.join(subprotocols)}"
            )
        (subprotocol,) = subprotocols
        if subprotocol not in self.available_subprotocols:
            raise NegotiationError(f"unsupported subprotocol: {subprotocol}")
        return subprotocol

    def receive_handshake(self) -> None:
        parser = self.handshake_parser
        assert isinstance(parser, ResponseParser)
        try:
            response = parser.parse()
        except StatusLineTooLong as exc:
            self._fail_handshake(exc)
            return
        except PARSE_ERRORS as exc:
            invalid = InvalidMessage("did not receive a valid HTTP response")
            invalid.__cause__ = exc
            self._fail_handshake(invalid)
            return
        if response is None:
            return
        if self.debug:
            self.logger.debug("< HTTP/1.1 %d %s", response.status_code, response.reason_phrase)
            for key, value in response.headers.raw_items():
                self.logger.debug("< %s: %s", key, value)
            if response.body:
                self.logger.debug("< [body] (%d bytes)", len(response.body))
        self.events.append(response)
        try:
            self.process_response(response)
        except Exception as exc:  # also what an extension of the application raises
            response._exception = exc
            self._fail_handshake(exc)
            return
        self.state = OPEN
        self.handshake_parser_done()

    def _fail_handshake(self, exc: Exception) -> None:
        if isinstance(exc, InvalidHandshake):  # not an extension's own
            forget_frames(exc)
        self.handshake_exc = exc
        if not self.eof_sent:
            self.send_eof()
        self.handshake_parser = None
        self.ended = True


class ClientConnection(ClientProtocol):
    """Former name of :class:`ClientProtocol`. Deprecated."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        warnings.warn(
            "ClientConnection was renamed to ClientProtocol",
            DeprecationWarning,
            stacklevel=2,
        )
        super().__init__(*args, **kwargs)


def add_reason(exc: Exception, reason: Exception) -> None:
    """
    Note why a connection was lost, where an exception knows only that it was.

    Args:
        exc: the exception; the reason becomes the last of its causes.
        reason: what the operating system says.
    """
    last: BaseException = exc
    while last.__cause__ is not None:
        last = last.__cause__
    last.__cause__ = reason


def process_exception(exc: Exception) -> Exception | None:
    """
    Decide whether an error of an attempt to connect is worth another attempt.

    It is for errors of the network, among them timeouts and connections that end before the
    response is complete, and for statuses 500, 502, 503 and 504.

    Args:
        exc: error of the attempt.

    Returns:
        :obj:`None` to try again, or an exception to raise.
    """
    if isinstance(exc, (OSError, TimeoutError)):
        return None
    if isinstance(exc, InvalidMessage) and isinstance(exc.__cause__, EOFError):
        return None
    if isinstance(exc, InvalidStatus) and exc.response.status_code in (500, 502, 503, 504):
        return None
    return exc


def check_accept(headers: Headers, key: str) -> None:
    """
    Check that a response answers a request (RFC 6455 section 4.1, second list, point 4).

    Args:
        headers: headers of the response.
        key: ``Sec-WebSocket-Key`` of the request.

    Raises:
        InvalidHeader: if it does not.
    """
    accept = get_single(headers, "Sec-WebSocket-Accept")
    if accept != accept_key(key):
        raise InvalidHeaderValue("Sec-WebSocket-Accept", accept)


# Defaults of backoff(), in seconds but for the factor.
BACKOFF_INITIAL_DELAY = read_number("WEBSOCKETS_BACKOFF_INITIAL_DELAY", 5.0)
BACKOFF_MIN_DELAY = read_number("WEBSOCKETS_BACKOFF_MIN_DELAY", 3.1)
BACKOFF_MAX_DELAY = read_number("WEBSOCKETS_BACKOFF_MAX_DELAY", 90.0)
BACKOFF_FACTOR = read_number("WEBSOCKETS_BACKOFF_FACTOR", 1.618)


def backoff(
    initial_delay: float = BACKOFF_INITIAL_DELAY,
    min_delay: float = BACKOFF_MIN_DELAY,
    max_delay: float = BACKOFF_MAX_DELAY,
    factor: float = BACKOFF_FACTOR,
) -> Iterator[float]:
    """
    Generate the delays, in seconds, between attempts to reconnect (RFC 6455 section 7.2.3).

    The first is random, lest all clients of a server that restarts come back at once; the others
    grow exponentially.

    Args:
        initial_delay: upper bound of the first delay.
        min_delay: second delay.
        max_delay: upper bound of the others.
        factor: ratio of each of them to the one before.
    """
    # Only those who reconnect need it.
    import random

    yield random.random() * initial_delay
    delay = min_delay
    while delay < max_delay:
        yield delay
        delay *= factor
    while True:
        yield max_delay


# The original API's.
if not TYPE_CHECKING:
    __getattr__ = former_names(__name__)
