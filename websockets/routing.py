"""Which handler a request is for, by werkzeug's rules, for every runtime."""

from __future__ import annotations

import http
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from .exceptions import InvalidHandshake
from .http11 import Request, Response
from .server import get_host, split_target
from .typing import StatusLike

if TYPE_CHECKING:
    from werkzeug.routing import Map

__all__ = ["BaseRouter", "create_router"]


class _Connection(Protocol):
    handler: Callable[..., Any]
    handler_kwargs: Mapping[str, Any]

    def respond(self, status: StatusLike, text: str) -> Response: ...


ConnectionT = TypeVar("ConnectionT", bound=_Connection)


class BaseRouter(Generic[ConnectionT]):
    """Chooses handlers.

    Args:
        url_map: rules whose endpoints are handlers. They become rules for WebSockets.
        server_name: host, and port if it is not the default one, for redirects; that of the request
            if None.
        url_scheme: scheme for redirects.
    """

    def __init__(
        self, url_map: Map, server_name: str | None = None, url_scheme: str = "ws"
    ) -> None:
        self.url_map = url_map
        self.server_name = server_name
        self.url_scheme = url_scheme
        for rule in url_map.iter_rules():
            rule.websocket = True

    def get_server_name(self, connection: ConnectionT, request: Request) -> str:
        """Return the host, and port if it is not the default one, that a request is for.

        Raises:
            InvalidHandshake: if the request does not tell.
        """
        if self.server_name is not None:
            return self.server_name
        # RFC 9112 section 3.2.2: a host in the request target counts more than the header.
        return split_target(request.path)[0] or get_host(request.headers)

    def redirect(self, connection: ConnectionT, url: str) -> Response:
        """Return the response for a request that a rule sends elsewhere."""
        response = connection.respond(http.HTTPStatus.FOUND, f"Found at {url}")
        response.headers["Location"] = url
        return response

    def not_found(self, connection: ConnectionT) -> Response:
        """Return the response for a request that no rule matches."""
        return connection.respond(http.HTTPStatus.NOT_FOUND, "Not Found")

    def route_request(self, connection: ConnectionT, request: Request) -> Response | None:
        """Choose the handler for a request.

        Sets ``handler`` and ``handler_kwargs`` of its connection.

        Returns:
            None to go on, or a response that refuses or redirects the request.
        """
        from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound
        from werkzeug.routing import RequestRedirect

        try:
            _, path, query = split_target(request.path)
            server_name = self.get_server_name(connection, request)
        except InvalidHandshake:
            return None  # the opening handshake refuses it, too, and says why
        if path.startswith("//"):
            # werkzeug takes it for the path with one slash; who guards paths before it does not.
            return self.not_found(connection)
        try:
            adapter = self.url_map.bind(server_name, url_scheme=self.url_scheme)
        except HTTPException:
            # It has a label that is empty or too long.
            return connection.respond(http.HTTPStatus.BAD_REQUEST, "Bad Request")
        try:
            handler, kwargs = adapter.match(path, query_args=query)
        except RequestRedirect as redirect:
            return self.redirect(connection, redirect.new_url)
        except NotFound:
            return self.not_found(connection)
        except MethodNotAllowed as exc:
            # RFC 9110 section 15.5.6
            status = http.HTTPStatus.METHOD_NOT_ALLOWED
            response = connection.respond(status, "Method Not Allowed")
            response.headers["Allow"] = ", ".join(sorted(exc.valid_methods or ()))
            return response
        connection.handler = handler
        connection.handler_kwargs = kwargs
        return None


RouterT = TypeVar("RouterT", bound=BaseRouter[Any])


def create_router(
    factory: Callable[[Map, str | None, str], RouterT],
    url_map: Map,
    server_name: str | None,
    secure: bool,
) -> RouterT:
    """Create the router for ``route()``.

    Raises:
        ImportError: if werkzeug is not installed.
    """
    try:
        import werkzeug.routing  # noqa: F401
    except ImportError as exc:
        raise ImportError(
            "route() requires werkzeug: pip install websockets[routing]", name="werkzeug"
        ) from exc
    return factory(url_map, server_name, "wss" if secure else "ws")
