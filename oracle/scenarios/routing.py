"""Routing by werkzeug's rules."""

from __future__ import annotations

from typing import Any

from werkzeug.routing import Map, Rule

from websockets.asyncio.router import route
from websockets.asyncio.server import ServerConnection

from ..ends import CLOSE, close_payload, connecting, masked, raw_client, uri
from ..scenario import Scenario, scenario


async def greet(websocket: ServerConnection, **kwargs: Any) -> None:
    await websocket.send(f"hello {sorted(kwargs.items())}")


async def farewell(websocket: ServerConnection) -> None:
    await websocket.send("bye")


def url_map(**kwargs: Any) -> Map:
    return Map(
        [
            Rule("/", endpoint=farewell),
            Rule("/user/<name>", endpoint=greet),
            Rule("/number/<int:number>/", endpoint=greet),
            Rule("/default", defaults={"a": 1}, endpoint=greet),
            Rule("/old", redirect_to="/default"),
        ],
        **kwargs,
    )


async def asking(s: Scenario, *paths: str, **kwargs: Any) -> None:
    """Ask a server that routes for several paths."""
    async with route(url_map(), "127.0.0.1", 0, compression=None, **kwargs) as server:
        s.ports.append(server.sockets[0].getsockname()[1])
        for path in paths:
            async with raw_client(s, server) as raw:
                await raw.request(path, host="example.com:8080")
                if " 101 " in await raw.response():
                    await raw.frame()
                    await raw.frame()
                    await raw.send(masked(CLOSE, close_payload(1000)))
                await raw.end()


@scenario
async def rules(s: Scenario) -> None:
    """Rules that match."""
    await asking(s, "/", "/user/me", "/user/%C3%A9?query=1", "/number/5/", "/default")


@scenario
async def not_found(s: Scenario) -> None:
    """No rule matches."""
    await asking(s, "/nothing", "/number/x/")


@scenario
async def redirects(s: Scenario) -> None:
    """Rules that redirect."""
    await asking(s, "/number/5", "/old", "//user/me")


@scenario
async def redirects_with_server_name(s: Scenario) -> None:
    """Redirects to a server whose name is given."""
    await asking(s, "/number/5", server_name="public.example")


@scenario
async def redirects_behind_tls(s: Scenario) -> None:
    """Redirects where a proxy does TLS."""
    await asking(s, "/number/5", ssl=True)


@scenario
async def redirect_followed(s: Scenario) -> None:
    """A client that follows the redirect."""
    async with route(url_map(), "127.0.0.1", 0, compression=None) as server:
        s.ports.append(server.sockets[0].getsockname()[1])
        websocket = await connecting(uri(server, "/number/5"))
        s.note("received", await websocket.recv())
        await websocket.wait_closed()


@scenario
async def with_process_request(s: Scenario) -> None:
    """process_request comes before routing."""

    def hook(websocket: ServerConnection, request: Any) -> Any:
        s.note("hook", request.path)
        return websocket.respond(403, "no\n") if request.path == "/user/me" else None

    await asking(s, "/user/me", "/user/you", process_request=hook)
