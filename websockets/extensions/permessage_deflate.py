"""
Compression of messages: the negotiation of permessage-deflate (RFC 7692 section 7.1).

What is negotiated is a :class:`PerMessageDeflate` for each connection; it does the work.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

from ..exceptions import (
    DuplicateParameter,
    InvalidParameterName,
    InvalidParameterValue,
    NegotiationError,
)
from ..typing import ExtensionParameter
from .base import ClientExtensionFactory, Extension, ServerExtensionFactory
from .deflate import (
    DEFAULT_THRESHOLD,
    PerMessageDeflate,
    _make_compressor,
    set_zlib_module,
)

__all__ = [
    "PerMessageDeflate",
    "ClientPerMessageDeflateFactory",
    "enable_client_permessage_deflate",
    "ServerPerMessageDeflateFactory",
    "enable_server_permessage_deflate",
    "set_zlib_module",
]

F = TypeVar("F", ClientExtensionFactory, ServerExtensionFactory)

# RFC 7692 section 7.1.2: a window has 2**8 to 2**15 bytes, the latter unless negotiated otherwise.
MIN_WINDOW_BITS = 8
MAX_WINDOW_BITS = 15

# Sections 7.1.2.1 and 7.1.2.2: decimal, without leading zeroes.
_window_bits = {str(bits): bits for bits in range(MIN_WINDOW_BITS, MAX_WINDOW_BITS + 1)}


class _Parameters(NamedTuple):
    """Parameters of an offer or of a response; the defaults stand for those that are not there."""

    server_no_context_takeover: bool = False
    client_no_context_takeover: bool = False
    server_max_window_bits: int | None = None
    # Only in an offer it may have no value, which is True here.
    client_max_window_bits: int | Literal[True] | None = None

    @classmethod
    def parse(cls, params: Sequence[ExtensionParameter], *, offer: bool) -> _Parameters:
        """
        Parse what the peer sent.

        RFC 7692 section 7 has an offer declined, and section 7.1 a connection failed, for a
        parameter that is not defined there, occurs twice, or has a value that is not valid.
        """
        found: dict[str, Any] = {}
        for name, value in params:
            if name not in cls._fields:
                raise InvalidParameterName(name)
            if name in found:
                raise DuplicateParameter(name)
            parsed: int | None
            if name.endswith("_no_context_takeover"):
                # Section 7.1.1: no value.
                parsed = True if value is None else None
            elif value is None:
                parsed = True if offer and name == "client_max_window_bits" else None
            else:
                parsed = _window_bits.get(value)
            if parsed is None:
                raise InvalidParameterValue(name, value)
            found[name] = parsed
        return cls(**found)

    def build(self) -> list[ExtensionParameter]:
        """Write the parameters down."""
        params: list[ExtensionParameter] = []
        if self.server_no_context_takeover:
            params.append(("server_no_context_takeover", None))
        if self.client_no_context_takeover:
            params.append(("client_no_context_takeover", None))
        if self.server_max_window_bits is not None:
            params.append(("server_max_window_bits", str(self.server_max_window_bits)))
        if self.client_max_window_bits is True:
            params.append(("client_max_window_bits", None))
        elif self.client_max_window_bits is not None:
            params.append(("client_max_window_bits", str(self.client_max_window_bits)))
        return params


def _check_window_bits(name: str, bits: int | None) -> None:
    """Check a size of a window that the application configures."""
    if bits is not None and not MIN_WINDOW_BITS <= operator.index(bits) <= MAX_WINDOW_BITS:
        raise ValueError(f"{name} must be between {MIN_WINDOW_BITS} and {MAX_WINDOW_BITS}")


def _merge_settings(
    compress_settings: dict[str, Any] | None, level: int | None, window_bits: str
) -> dict[str, Any] | None:
    """Return the settings of the compressor with the level among them, having checked them."""
    if compress_settings is not None and "wbits" in compress_settings:
        raise ValueError(f"compress_settings must not include wbits, set {window_bits} instead")
    if level is not None:
        compress_settings = {"level": level, **(compress_settings or {})}
    try:
        # Better now than with the first message of a connection.
        _make_compressor(MAX_WINDOW_BITS, compress_settings or {})
    except (TypeError, ValueError) as exc:
        raise ValueError(f"invalid compress_settings: {exc}") from exc
    return compress_settings


def _check_threshold(threshold: int) -> None:
    if threshold < 0:
        raise ValueError("threshold must not be negative")


class ClientPerMessageDeflateFactory(ClientExtensionFactory):
    """
    Negotiates permessage-deflate for clients (RFC 7692 section 7.1).

    The first four arguments are what the client offers.

    Args:
        server_no_context_takeover: have the server compress each message by itself. That saves the
            client memory, and compresses less well.
        client_no_context_takeover: compress each message by itself.
        server_max_window_bits: largest window that the server may use, 8 to 15, as the logarithm of
            its size in bytes to base 2; None leaves it to the server.
        client_max_window_bits: largest window to use, 8 to 15; True leaves it to the server; None
            has it stay at 15, as the server is not told that it has a choice.
        compress_settings: arguments of :func:`zlib.compressobj`, ``wbits`` excepted.
        level: level of compression, as in ``compress_settings``, where it takes precedence.
        threshold: size in bytes below which a message is sent uncompressed.

    Raises:
        ValueError: if an argument is out of its range.
        TypeError: if a size of a window is no integer.
    """

    name = PerMessageDeflate.name

    def __init__(
        self,
        server_no_context_takeover: bool = False,
        client_no_context_takeover: bool = False,
        server_max_window_bits: int | None = None,
        client_max_window_bits: int | Literal[True] | None = True,
        compress_settings: dict[str, Any] | None = None,
        *,
        level: int | None = None,
        threshold: int = DEFAULT_THRESHOLD,
    ) -> None:
        _check_window_bits("server_max_window_bits", server_max_window_bits)
        if client_max_window_bits is not True:
            _check_window_bits("client_max_window_bits", client_max_window_bits)
        _check_threshold(threshold)
        self.server_no_context_takeover = server_no_context_takeover
        self.client_no_context_takeover = client_no_context_takeover
        self.server_max_window_bits = server_max_window_bits
        self.client_max_window_bits = client_max_window_bits
        self.compress_settings = _merge_settings(compress_settings, level, "client_max_window_bits")
        self.threshold = threshold

    def get_request_params(self) -> Sequence[ExtensionParameter]:
        """Return the parameters to offer."""
        return _Parameters(
            self.server_no_context_takeover,
            self.client_no_context_takeover,
            self.server_max_window_bits,
            self.client_max_window_bits,
        ).build()

    def process_response_params(
        self,
        params: Sequence[ExtensionParameter],
        accepted_extensions: Sequence[Extension],
    ) -> PerMessageDeflate:
        """
        Judge the server's answer.

        Args:
            params: parameters of the extension in the response.
            accepted_extensions: the extensions that stand before this one in the response.

        Returns:
            The extension, configured.

        Raises:
            NegotiationError: if the parameters are not valid, or not an answer to the offer.
        """
        if any(other.name == self.name for other in accepted_extensions):
            raise NegotiationError(f"received duplicate {self.name}")
        answer = _Parameters.parse(params, offer=False)

        # RFC 7692 section 7.1.1.1: the server is asked to, or does so of its own accord.
        if self.server_no_context_takeover and not answer.server_no_context_takeover:
            raise NegotiationError("expected server_no_context_takeover")
        # Section 7.1.1.2: the client was ready to, or the server asks it to.
        client_no_context_takeover = (
            self.client_no_context_takeover or answer.client_no_context_takeover
        )

        # Section 7.1.2.1: no larger than asked for, if it was.
        server_bits = answer.server_max_window_bits
        if self.server_max_window_bits is not None:
            if server_bits is None:
                raise NegotiationError("expected server_max_window_bits")
            if server_bits > self.server_max_window_bits:
                raise NegotiationError("unsupported server_max_window_bits")

        # Section 7.1.2.2: only if offered, and no larger.
        client_bits = answer.client_max_window_bits
        limit = self.client_max_window_bits
        if client_bits is None:
            client_bits = None if limit is True else limit
        elif limit is None:
            raise NegotiationError("unexpected client_max_window_bits")
        elif limit is not True and client_bits > limit:
            raise NegotiationError("unsupported client_max_window_bits")

        return PerMessageDeflate(
            answer.server_no_context_takeover,
            client_no_context_takeover,
            server_bits or MAX_WINDOW_BITS,
            client_bits or MAX_WINDOW_BITS,
            self.compress_settings,
            threshold=self.threshold,
        )


class ServerPerMessageDeflateFactory(ServerExtensionFactory):
    """
    Negotiates permessage-deflate for servers (RFC 7692 section 7.1).

    The first four arguments are what the server adds to what the client asks for.

    Args:
        server_no_context_takeover: compress each message by itself. That saves memory, and
            compresses less well.
        client_no_context_takeover: have the client compress each message by itself.
        server_max_window_bits: largest window to use, 8 to 15, as the logarithm of its size in
            bytes to base 2; None leaves it to the client, 15 unless it says otherwise.
        client_max_window_bits: largest window that the client may use, 8 to 15, if it lets the
            server choose; None leaves it to the client.
        compress_settings: arguments of :func:`zlib.compressobj`, ``wbits`` excepted.
        require_client_max_window_bits: decline offers of clients that do not let the server choose
            ``client_max_window_bits``.
        level: level of compression, as in ``compress_settings``, where it takes precedence.
        threshold: size in bytes below which a message is sent uncompressed.

    Raises:
        ValueError: if an argument is out of its range, or if ``require_client_max_window_bits``
            comes without ``client_max_window_bits``.
        TypeError: if a size of a window is no integer.
    """

    name = PerMessageDeflate.name

    def __init__(
        self,
        server_no_context_takeover: bool = False,
        client_no_context_takeover: bool = False,
        server_max_window_bits: int | None = None,
        client_max_window_bits: int | None = None,
        compress_settings: dict[str, Any] | None = None,
        require_client_max_window_bits: bool = False,
        *,
        level: int | None = None,
        threshold: int = DEFAULT_THRESHOLD,
    ) -> None:
        _check_window_bits("server_max_window_bits", server_max_window_bits)
        _check_window_bits("client_max_window_bits", client_max_window_bits)
        if client_max_window_bits is None and require_client_max_window_bits:
            raise ValueError(
                "require_client_max_window_bits is enabled, "
                "but client_max_window_bits isn't configured"
            )
        _check_threshold(threshold)
        self.server_no_context_takeover = server_no_context_takeover
        self.client_no_context_takeover = client_no_context_takeover
        self.server_max_window_bits = server_max_window_bits
        self.client_max_window_bits = client_max_window_bits
        self.compress_settings = _merge_settings(compress_settings, level, "server_max_window_bits")
        self.require_client_max_window_bits = require_client_max_window_bits
        self.threshold = threshold

    def process_request_params(
        self,
        params: Sequence[ExtensionParameter],
        accepted_extensions: Sequence[Extension],
    ) -> tuple[list[ExtensionParameter], PerMessageDeflate]:
        """
        Judge the client's offer.

        Args:
            params: parameters of the extension in the request.
            accepted_extensions: the extensions accepted so far.

        Returns:
            The parameters for the response, and the extension, configured.

        Raises:
            NegotiationError: if the offer is declined.
        """
        if any(other.name == self.name for other in accepted_extensions):
            raise NegotiationError(f"skipped duplicate {self.name}")
        offer = _Parameters.parse(params, offer=True)

        # RFC 7692 section 7.1.2.1: no larger than asked for.
        server_bits = self.server_max_window_bits
        if offer.server_max_window_bits is not None:
            server_bits = min(offer.server_max_window_bits, server_bits or MAX_WINDOW_BITS)

        # Section 7.1.2.2: only if offered, and no larger.
        client_bits = self.client_max_window_bits
        if offer.client_max_window_bits is None:
            if self.require_client_max_window_bits:
                raise NegotiationError("required client_max_window_bits")
            client_bits = None
        elif offer.client_max_window_bits is not True:
            client_bits = min(offer.client_max_window_bits, client_bits or MAX_WINDOW_BITS)

        answer = _Parameters(
            # Section 7.1.1.1: the client may ask for it, and the server do it anyway.
            self.server_no_context_takeover or offer.server_no_context_takeover,
            # Section 7.1.1.2: the server may ask for it, and confirm that the client does it.
            self.client_no_context_takeover or offer.client_no_context_takeover,
            server_bits,
            client_bits,
        )
        return answer.build(), PerMessageDeflate(
            answer.client_no_context_takeover,
            answer.server_no_context_takeover,
            client_bits or MAX_WINDOW_BITS,
            server_bits or MAX_WINDOW_BITS,
            self.compress_settings,
            threshold=self.threshold,
        )


# A window of 4 KiB and a memory level of 5 take a quarter of the memory, and compress nearly as
# well. One factory does for all connections: it is never changed.


@functools.cache
def _default_client_factory() -> ClientPerMessageDeflateFactory:
    return ClientPerMessageDeflateFactory(compress_settings={"memLevel": 5})


@functools.cache
def _default_server_factory() -> ServerPerMessageDeflateFactory:
    return ServerPerMessageDeflateFactory(
        server_max_window_bits=12,
        client_max_window_bits=12,
        compress_settings={"memLevel": 5},
    )


def enable_client_permessage_deflate(
    extensions: Sequence[ClientExtensionFactory] | None,
) -> Sequence[ClientExtensionFactory]:
    """
    Add permessage-deflate with its default settings to a client's extensions.

    Args:
        extensions: extensions to negotiate; None for none.

    Returns:
        The extensions as they are if permessage-deflate is among them, else a list with it at the
        end.
    """
    return _enable(extensions or [], _default_client_factory)


def enable_server_permessage_deflate(
    extensions: Sequence[ServerExtensionFactory] | None,
) -> Sequence[ServerExtensionFactory]:
    """
    Add permessage-deflate with its default settings to a server's extensions.

    Args:
        extensions: extensions to negotiate; None for none.

    Returns:
        The extensions as they are if permessage-deflate is among them, else a list with it at the
        end.
    """
    return _enable(extensions or [], _default_server_factory)


def _enable(extensions: Sequence[F], make_default: Callable[[], F]) -> Sequence[F]:
    if any(factory.name == PerMessageDeflate.name for factory in extensions):
        return extensions
    return list(extensions) + [make_default()]


def apply_compression(
    compression: str | None,
    extensions: Sequence[F] | None,
    enable: Callable[[Sequence[F] | None], Sequence[F]],
) -> Sequence[F] | None:
    """
    Do what the argument ``compression`` of whatever opens connections says.

    Args:
        compression: "deflate" for permessage-deflate; None for no more than is among the
            extensions.
        extensions: extensions to negotiate; None for none.
        enable: what adds permessage-deflate to them on this side.

    Returns:
        The extensions to negotiate.

    Raises:
        ValueError: if ``compression`` is something else.
    """
    if compression is None:
        return extensions
    if compression != "deflate":
        raise ValueError(f"unsupported compression: {compression}")
    return enable(extensions)
