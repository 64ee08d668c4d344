"""
What an extension is made of (RFC 6455 section 9).

A factory belongs to an endpoint and negotiates; for each connection on which it succeeds, it makes
an extension, through which the frames of that connection pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..typing import ExtensionName, ExtensionParameter

if TYPE_CHECKING:
    from ..frames import Frame

__all__ = ["Extension", "ClientExtensionFactory", "ServerExtensionFactory"]


class Extension:
    """An extension on one connection."""

    __slots__ = ()

    #: Name of the extension, as registered (RFC 6455 section 11.4).
    name: ExtensionName

    def decode(self, frame: Frame, *, max_size: int | None = None) -> Frame:
        """
        Undo the extension on a frame received.

        Args:
            frame: the frame.
            max_size: largest size in bytes that its payload may have afterwards.

        Returns:
            The frame without the extension.

        Raises:
            PayloadTooBig: if the payload would be larger than ``max_size``.
            ProtocolError: if the frame is not valid under the extension.
        """
        raise NotImplementedError

    def encode(self, frame: Frame) -> Frame:
        """
        Apply the extension to a frame to be sent.

        Args:
            frame: the frame.

        Returns:
            The frame with the extension.
        """
        raise NotImplementedError


class ClientExtensionFactory:
    """Negotiates an extension for clients."""

    #: Name of the extension, as registered (RFC 6455 section 11.4).
    name: ExtensionName

    def get_request_params(self) -> Sequence[ExtensionParameter]:
        """Return the parameters to offer in the request's ``Sec-WebSocket-Extensions``."""
        raise NotImplementedError

    def process_response_params(
        self,
        params: Sequence[ExtensionParameter],
        accepted_extensions: Sequence[Extension],
    ) -> Extension:
        """
        Judge the server's answer.

        Args:
            params: parameters in the response's ``Sec-WebSocket-Extensions``.
            accepted_extensions: the extensions that stand before this one in the response.

        Returns:
            The extension, configured.

        Raises:
            NegotiationError: if the parameters cannot be accepted.
        """
        raise NotImplementedError


class ServerExtensionFactory:
    """Negotiates an extension for servers."""

    #: Name of the extension, as registered (RFC 6455 section 11.4).
    name: ExtensionName

    def process_request_params(
        self,
        params: Sequence[ExtensionParameter],
        accepted_extensions: Sequence[Extension],
    ) -> tuple[list[ExtensionParameter], Extension]:
        """
        Judge the client's offer.

        Args:
            params: parameters in the request's ``Sec-WebSocket-Extensions``.
            accepted_extensions: the extensions accepted so far.

        Returns:
            The parameters for the response, and the extension, configured.

        Raises:
            NegotiationError: if the offer is declined.
        """
        raise NotImplementedError
