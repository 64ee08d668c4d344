"""Servers on asyncio that choose a handler by the path of the request."""

from __future__ import annotations

import inspect
import ssl as ssl_module
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from ..http11 import Request, Response
from ..routing import BaseRouter
from ..routing import create_router as create_router_for
from ..typing import PathLike
from .server import Server, ServerConnection, serve

if TYPE_CHECKING:
    from werkzeug.routing import Map

__all__ = ["Router", "route", "unix_route"]


class Router(BaseRouter[ServerConnection]):
    """Chooses the handler of each connection; :func:`route` creates it.

    Override its methods to change what it does.

    Args:
        url_map: a :class:`werkzeug.routing.Map` of rules whose endpoints are handlers.
        server_name: host, and port if it is not the default one, for redirects; that of the request
            if None.
        url_scheme: scheme for redirects, ``"ws"`` or ``"wss"``.
    """

    async def handler(self, connection: ServerConnection) -> None:
        """Handle a connection: call the handler that was chosen for it.

        Args:
            connection: the connection, its ``handler`` and ``handler_kwargs`` set.
        """
        await connection.handler(connection, **connection.handler_kwargs)


def route(
    url_map: Map,
    *args: Any,
    server_name: str | None = None,
    ssl: ssl_module.SSLContext | Literal[True] | None = None,
    create_router: type[Router] | None = None,
    **kwargs: Any,
) -> Server:
    """Create a WebSocket server that chooses a handler by the path of the request.

    It takes werkzeug (``pip install websockets[routing]``)::

        from werkzeug.routing import Map, Rule

        async def channel_handler(websocket, channel_id):
            ...

        url_map = Map([
            Rule("/channel/<uuid:channel_id>", endpoint=channel_handler),
        ])

        async with route(url_map, "localhost", 8765) as server:
            await server.serve_forever()

    The endpoint of the rule that matches handles the connection. It is called with the connection
    and what the rule's variables stand for in the path, as keyword arguments, which are not
    percent-decoded. Other requests are answered with 404, and with a redirect (302) where rules say
    so, such as to the path with a slash at its end. ``process_request``, if there is one, is called
    first, for every request.

    Args:
        url_map: a :class:`werkzeug.routing.Map` of rules whose endpoints are handlers.
        *args: host and port, as in :func:`~websockets.asyncio.server.serve`.
        server_name: host, and port if it is not the default one, for redirects; that of the request
            if None.
        ssl: context for TLS; True if a proxy in front of this server does TLS, so that redirects
            are to ``wss``.
        create_router: class of the router, :class:`Router` unless given.
        **kwargs: arguments of :func:`~websockets.asyncio.server.serve`.

    Returns:
        A server, to await or to use as an asynchronous context manager.

    Raises:
        ImportError: if werkzeug is not installed.
    """
    router = create_router_for(create_router or Router, url_map, server_name, ssl is not None)
    if ssl is not True:
        kwargs["ssl"] = ssl
    before: Callable[[ServerConnection, Request], Any] | None = kwargs.pop("process_request", None)

    async def process_request(connection: ServerConnection, request: Request) -> Response | None:
        for hook in (before, router.route_request):
            if hook is not None:
                response: Any = hook(connection, request)
                if inspect.isawaitable(response):
                    response = await response
                if response is not None:
                    return response  # type: ignore[no-any-return]
        return None

    return serve(router.handler, *args, process_request=process_request, **kwargs)


def unix_route(url_map: Map, path: PathLike | None = None, **kwargs: Any) -> Server:
    """Create a WebSocket server that listens on a Unix socket and chooses a handler by the path.

    Args:
        url_map: a :class:`werkzeug.routing.Map` of rules whose endpoints are handlers.
        path: path of the socket.
        **kwargs: arguments of :func:`route`.

    Returns:
        A server, to await or to use as an asynchronous context manager.
    """
    return route(url_map, unix=True, path=path, **kwargs)
